//! Times from one event to another with the same key, in bounded memory.

use crate::model::Timestamp;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Beginnings that one timer remembers; the oldest gives way.
const PENDING: usize = 100_000;

/// Why a time is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lost {
    /// It ended without a beginning (that is remembered).
    NoBeginning,
    /// It began so long before that the beginning no longer counts (`within`).
    TooLate,
    /// It ended before it began.
    Negative,
    /// It began again before it ended: the first beginning is forgotten.
    BeganAgain,
    /// Too many have begun: the oldest is forgotten.
    Evicted,
}

impl Lost {
    /// The `reason` label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoBeginning => "no_beginning",
            Self::TooLate => "too_late",
            Self::Negative => "negative_time",
            Self::BeganAgain => "began_again",
            Self::Evicted => "evicted",
        }
    }
}

/// What has begun and not ended.
#[derive(Clone, Debug)]
pub(super) struct Timer {
    within_us: i64,
    pending: HashMap<Arc<str>, Begun, ahash::RandomState>,
    /// In the order of beginning, for giving way and for snapshots that are the same each time.
    order: BTreeMap<u64, Arc<str>>,
    count: u64,
}

#[derive(Clone, Copy, Debug)]
struct Begun {
    /// By the event's own time.
    at: Timestamp,
    /// When we heard of it.
    heard: Timestamp,
    number: u64,
}

impl Timer {
    pub fn new(within_ms: i64) -> Self {
        let hasher = ahash::RandomState::with_seeds(21, 22, 23, 24);
        let within_us = within_ms.saturating_mul(1_000);
        Self { within_us, pending: HashMap::with_hasher(hasher), order: BTreeMap::new(), count: 0 }
    }

    /// Forgets what began too long before to count, from the oldest on; how many. Both by the time of events and by ours:
    /// a backlog comes in another order than it happened, and an interruption makes live events late.
    pub fn expire(&mut self, at: Timestamp, now: Timestamp) -> u64 {
        let mut expired = 0;
        while let Some(oldest) = self.order.first_entry()
            && let Some(begun) = self.pending.get(oldest.get())
            && at.micros_since(begun.at.min(begun.heard)) > self.within_us
            && now.micros_since(begun.heard) > self.within_us
        {
            self.pending.remove(&oldest.remove());
            expired += 1;
        }
        expired
    }

    /// Begins; says what was forgotten for it.
    pub fn begin(&mut self, key: &str, at: Timestamp, now: Timestamp) -> Option<Lost> {
        let mut lost = None;
        if let Some(Begun { number, .. }) = self.pending.remove(key) {
            self.order.remove(&number);
            lost = Some(Lost::BeganAgain);
        } else if self.pending.len() >= PENDING
            && let Some((_, oldest)) = self.order.pop_first()
        {
            self.pending.remove(&oldest);
            lost = Some(Lost::Evicted);
        }
        self.count += 1;
        let key: Arc<str> = key.into();
        self.order.insert(self.count, key.clone());
        self.pending.insert(key, Begun { at, heard: now, number: self.count });
        lost
    }

    /// Ends; the seconds since it began.
    pub fn end(&mut self, key: &str, at: Timestamp) -> Result<f64, Lost> {
        let Begun { at: began, number, .. } = self.pending.remove(key).ok_or(Lost::NoBeginning)?;
        self.order.remove(&number);
        let micros = at.micros_since(began);
        if micros < 0 {
            Err(Lost::Negative)
        } else if micros > self.within_us {
            Err(Lost::TooLate)
        } else {
            Ok(micros as f64 / 1e6)
        }
    }

    /// What has begun, in order.
    pub fn pending(&self) -> Vec<(&str, Timestamp)> {
        let begun = self.order.values();
        begun.filter_map(|key| self.pending.get(key).map(|begun| (&**key, begun.at))).collect()
    }

    /// Remembers what had begun.
    pub fn restore(&mut self, pending: Vec<(String, Timestamp)>) {
        for (key, at) in pending {
            self.begin(&key, at, at);
        }
    }

    /// Remembers what another one does.
    pub fn take_over(&mut self, other: &Self) {
        for key in other.order.values() {
            if let Some(begun) = other.pending.get(key) {
                self.begin(key, begun.at, begun.heard);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_between_events_with_one_key() {
        let at = Timestamp::from_millis;
        let mut timer = Timer::new(1_000);
        let begin = |timer: &mut Timer, key: &str, ms: i64| timer.begin(key, at(ms), at(ms));
        assert_eq!(begin(&mut timer, "a", 0), None);
        assert_eq!(begin(&mut timer, "a", 100), Some(Lost::BeganAgain));
        assert_eq!(timer.end("a", at(350)), Ok(0.25));
        assert_eq!(timer.end("a", at(350)), Err(Lost::NoBeginning));
        begin(&mut timer, "b", 0);
        assert_eq!(timer.end("b", at(1_001)), Err(Lost::TooLate));
        begin(&mut timer, "c", 5);
        assert_eq!(timer.end("c", at(4)), Err(Lost::Negative));
        for at_ms in 0..=PENDING as i64 {
            let lost = begin(&mut timer, &at_ms.to_string(), at_ms);
            assert_eq!(lost, (at_ms == PENDING as i64).then_some(Lost::Evicted));
        }
        assert_eq!(timer.end("0", at(1)), Err(Lost::NoBeginning));
        assert_eq!(timer.pending().len(), PENDING);
    }

    #[test]
    fn a_beginning_is_remembered_no_longer_than_it_counts() {
        let at = Timestamp::from_millis;
        let mut timer = Timer::new(1_000);
        for ms in [0, 500, 1_400] {
            timer.begin(&ms.to_string(), at(ms), at(ms));
        }
        assert_eq!(timer.expire(at(1_000), at(1_000)), 0, "it still counts");
        assert_eq!(timer.expire(at(1_600), at(1_600)), 2);
        assert_eq!(timer.pending(), [("1400", at(1_400))]);
        // A backlog in another order than it happened: partitions that are read one after the other.
        assert_eq!(timer.expire(at(1_000_000), at(1_700)), 0);
        // Live again after an interruption.
        assert_eq!(timer.expire(at(1_500), at(1_000_000)), 0);
        assert_eq!(timer.end("1400", at(1_500)), Ok(0.1));
    }
}
