//! Refused input, kept for a while to be looked at: so many items, so many bytes, the oldest make room.

use crate::model::{EventBatch, Fault, Quarantined, Timestamp};
use crate::source::decode::reason;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::sync::Arc;

/// One kept item.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuarantineEntry {
    /// Counts up from 1, also through restarts with a state folder.
    pub number: u64,
    /// When it arrived.
    pub at: Timestamp,
    /// The configured source that it came from.
    pub source: Arc<str>,
    /// What it is and what is wrong with it.
    pub what: Quarantined,
}

/// The kept items.
#[derive(Debug, Default)]
pub struct Quarantine {
    entries: VecDeque<QuarantineEntry>,
    bytes: usize,
    number: u64,
    limit_events: usize,
    limit_bytes: usize,
    /// The last number that a snapshot holds.
    stored: u64,
}

/// What a checkpoint holds of it: everything, or what came since the last one.
#[derive(Debug, Serialize, Deserialize)]
struct Snapshot {
    number: u64,
    entries: Vec<QuarantineEntry>,
}

/// Refused for a reason that says nothing about the event itself.
const NOT_KEPT: [&str; 1] = [reason::EXPIRED];

impl Quarantine {
    /// Sets the bounds; what is too much goes, oldest first.
    pub fn set_limits(&mut self, events: usize, bytes: usize) {
        (self.limit_events, self.limit_bytes) = (events, bytes);
        self.shrink();
    }

    /// Takes in what a batch brings.
    pub fn observe(&mut self, batch: &mut EventBatch) {
        if batch.refused.is_empty() {
            return;
        }
        let mut kept = std::mem::take(&mut batch.quarantined).into_iter().peekable();
        let refused = batch.refused.iter().filter(|refusal| !NOT_KEPT.contains(&refusal.reason));
        // Of one batch no more than there is room for: the first ones, they say as much as the others.
        for refusal in refused.take(self.limit_events) {
            while kept.next_if(|entry| entry.item < refusal.item).is_some() {}
            let what = kept.next_if(|entry| entry.item == refusal.item).unwrap_or_else(|| Quarantined {
                // Refused before it could be looked at: too large, or no message at all.
                item: refusal.item,
                reason: refusal.reason.to_owned(),
                faults: vec![Fault { pointer: String::new(), message: refusal.message.clone() }],
                ..Quarantined::default()
            });
            self.number += 1;
            let entry = QuarantineEntry { number: self.number, at: batch.arrived, source: batch.source.clone(), what };
            self.push(entry);
        }
        self.shrink();
    }

    fn push(&mut self, entry: QuarantineEntry) {
        self.bytes += entry.what.bytes();
        self.entries.push_back(entry);
    }

    fn shrink(&mut self) {
        while self.entries.len() > self.limit_events || (self.bytes > self.limit_bytes && !self.entries.is_empty()) {
            if let Some(gone) = self.entries.pop_front() {
                self.bytes -= gone.what.bytes();
            }
        }
    }

    /// The latest first: at most `limit` of those before a number that `keep` takes.
    pub fn latest(
        &self,
        before: u64,
        limit: usize,
        mut keep: impl FnMut(&QuarantineEntry) -> bool,
    ) -> Vec<QuarantineEntry> {
        let entries = self.entries.iter().rev().filter(|entry| entry.number < before && keep(entry));
        entries.take(limit).cloned().collect()
    }

    /// Items and bytes that are kept.
    pub fn size(&self) -> (usize, usize) {
        (self.entries.len(), self.bytes)
    }

    /// Items since the beginning; those that are not kept any more included.
    pub fn total(&self) -> u64 {
        self.number
    }

    /// The bounds: items and bytes.
    pub fn limits(&self) -> (usize, usize) {
        (self.limit_events, self.limit_bytes)
    }

    /// Forgets everything.
    pub fn clear(&mut self) -> usize {
        let count = self.entries.len();
        self.entries.clear();
        self.bytes = 0;
        count
    }

    /// What came since the last snapshot, or everything.
    pub(super) fn snapshot(&mut self, full: bool) -> Vec<u8> {
        let after = if full { 0 } else { self.stored };
        let entries = self.entries.iter().filter(|entry| entry.number > after).cloned().collect();
        self.stored = self.number;
        postcard::to_stdvec(&Snapshot { number: self.number, entries }).unwrap_or_default()
    }

    /// Adds what a snapshot holds; they come in their order.
    ///
    /// # Errors
    /// The bytes are not a snapshot.
    pub(super) fn restore(&mut self, bytes: &[u8]) -> Result<(), String> {
        let snapshot: Snapshot = postcard::from_bytes(bytes).map_err(|error| error.to_string())?;
        for entry in snapshot.entries {
            if self.entries.back().is_none_or(|last| last.number < entry.number) {
                self.push(entry);
            }
        }
        (self.number, self.stored) = (snapshot.number, snapshot.number);
        self.shrink();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{FieldPlan, Refusal};

    fn batch(items: &[(&str, &str)]) -> EventBatch {
        let mut batch = EventBatch::new("s".into(), Arc::new(FieldPlan::default()), Timestamp::EPOCH, String::new());
        for (item, (reason, payload)) in items.iter().enumerate() {
            let reason = reason::ALL.into_iter().find(|known| known == reason).unwrap();
            batch.refused.push(Refusal { item: item as u32, reason, message: "why".into() });
            if !payload.is_empty() {
                let what = Quarantined {
                    item: item as u32,
                    reason: reason.into(),
                    payload: (*payload).into(),
                    ..Quarantined::default()
                };
                batch.quarantined.push(what);
            }
        }
        batch
    }

    fn shown(quarantine: &Quarantine) -> String {
        let all = quarantine.latest(u64::MAX, 100, |_| true);
        all.iter().map(|entry| format!("{}:{}", entry.number, entry.what.payload)).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn the_latest_are_kept_within_both_bounds_and_through_checkpoints() {
        let mut quarantine = Quarantine::default();
        quarantine.set_limits(3, 10_000);
        quarantine.observe(&mut batch(&[("invalid_json", "a"), ("too_large", ""), ("expired", ""), ("no_type", "b")]));
        assert_eq!((shown(&quarantine).as_str(), quarantine.total()), ("3:b 2: 1:a", 3));
        let first = quarantine.snapshot(true);
        quarantine.observe(&mut batch(&[("invalid_json", "c")]));
        let second = quarantine.snapshot(false);
        assert!(second.len() < first.len());
        assert_eq!(shown(&quarantine), "4:c 3:b 2:");
        let mut restored = Quarantine::default();
        restored.set_limits(3, 10_000);
        restored.restore(&first).unwrap();
        restored.restore(&second).unwrap();
        assert_eq!((shown(&restored), restored.size()), (shown(&quarantine), quarantine.size()));
        restored.set_limits(3, 1);
        assert_eq!((restored.size(), restored.total()), ((0, 0), 4));
        assert!(restored.restore(&[1]).is_err());
    }
}
