//! What the page shows of the stream itself: the latest events and totals by second.

use crate::model::{Attribute, EventBatch, Timestamp};
use crate::source::redact::Redactor;
use std::collections::VecDeque;
use std::sync::Arc;

/// Events kept.
const RECENT_EVENTS: usize = 500;
/// Events taken from one batch: a flood must not cost a copy of each event.
const EVENTS_OF_A_BATCH: usize = 20;
/// Bytes of an event's document kept.
const DOCUMENT_BYTES: usize = 4_096;
/// Seconds of totals kept.
const SECONDS: usize = 300;

/// A recent event, copied out of its batch.
#[derive(Clone, Debug)]
pub struct RecentEvent {
    /// Counts up from 1: a reader asks for what came after a number it has seen.
    pub number: u64,
    /// When it arrived.
    pub arrived: Timestamp,
    /// The configured source it came from.
    pub source: Arc<str>,
    /// Its type.
    pub event_type: String,
    /// Its id; empty when it has none.
    pub id: String,
    /// Its subject; empty when it has none.
    pub subject: String,
    /// Its correlation id; empty when it has none.
    pub correlation: String,
    /// Whether it counts as failed.
    pub failed: bool,
    /// Seconds that it says something took; not a number when it does not say.
    pub duration_seconds: f64,
    /// The document, cut to 4 KiB at a character boundary.
    pub document: String,
}

/// What came in during one second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SecondTotals {
    /// The second since the epoch.
    pub second: i64,
    /// Events.
    pub events: u64,
    /// Failed events.
    pub failed: u64,
}

/// Totals since the start, and by second.
#[derive(Debug, Default)]
pub struct Totals {
    /// Events since the start of the process.
    pub events: u64,
    /// Failed ones.
    pub failed: u64,
    seconds: VecDeque<SecondTotals>,
}

impl Totals {
    fn add(&mut self, now: Timestamp, events: u64, failed: u64) {
        self.events += events;
        self.failed += failed;
        let second = now.millis().div_euclid(1_000);
        match self.seconds.back_mut() {
            Some(last) if last.second >= second => {
                last.events += events;
                last.failed += failed;
            }
            _ => self.seconds.push_back(SecondTotals { second, events, failed }),
        }
        while self.seconds.len() > SECONDS {
            self.seconds.pop_front();
        }
    }

    /// Whole seconds, oldest first, without the one that is not over; silent seconds are there with zeros.
    pub fn history(&self, now: Timestamp) -> Vec<SecondTotals> {
        let end = now.millis().div_euclid(1_000);
        let start = self.seconds.front().map_or(end, |first| first.second.max(end - SECONDS as i64));
        let mut known = self.seconds.iter().skip_while(|one| one.second < start).peekable();
        (start..end)
            .map(|second| {
                known
                    .next_if(|one| one.second == second)
                    .copied()
                    .unwrap_or(SecondTotals { second, ..SecondTotals::default() })
            })
            .collect()
    }
}

/// The latest events.
#[derive(Debug, Default)]
pub(super) struct Recent {
    events: VecDeque<RecentEvent>,
    count: u64,
    pub totals: Totals,
    /// What is not shown of them.
    pub redactor: Arc<Redactor>,
}

impl Recent {
    pub fn new(redactor: Arc<Redactor>) -> Self {
        Self { redactor, ..Self::default() }
    }

    /// Counts a batch and keeps its last events.
    /// `totals` are of what came in, not of what sidewatch says itself.
    pub fn observe(&mut self, now: Timestamp, batch: &EventBatch, totals: bool) {
        if totals {
            let failed = batch.events.iter().filter(|event| event.failed).count() as u64;
            self.totals.add(now, batch.events.len() as u64, failed);
        }
        let skipped = batch.events.len().saturating_sub(EVENTS_OF_A_BATCH);
        self.count += skipped as u64;
        for event in &batch.events[skipped..] {
            self.count += 1;
            let veil = self.redactor.veil();
            let shown = |attribute, text| veil.attribute(attribute, batch.text(text)).into_owned();
            self.events.push_back(RecentEvent {
                number: self.count,
                arrived: batch.arrived,
                source: batch.source.clone(),
                event_type: shown(Attribute::Type, event.event_type),
                id: shown(Attribute::Id, event.id),
                subject: shown(Attribute::Subject, event.subject),
                correlation: shown(Attribute::Correlation, event.correlation),
                failed: event.failed,
                duration_seconds: event.duration_seconds,
                document: self.redactor.document(&batch.source, event.shape, batch.text(event.raw), DOCUMENT_BYTES),
            });
        }
        while self.events.len() > RECENT_EVENTS {
            self.events.pop_front();
        }
    }

    /// Those after a number, newest first, at most `limit`.
    pub fn after(&self, number: u64, limit: usize, mut keep: impl FnMut(&RecentEvent) -> bool) -> Vec<RecentEvent> {
        self.events
            .iter()
            .rev()
            .take_while(|one| one.number > number)
            .filter(|one| keep(one))
            .take(limit)
            .cloned()
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silent_seconds_are_in_the_history() {
        let mut totals = Totals::default();
        for (second, events) in [(10, 3), (10, 1), (13, 2)] {
            totals.add(Timestamp::from_millis(second * 1_000 + 5), events, 0);
        }
        let history = totals.history(Timestamp::from_millis(15_000));
        let counts: Vec<(i64, u64)> = history.iter().map(|one| (one.second, one.events)).collect();
        assert_eq!(counts, [(10, 4), (11, 0), (12, 0), (13, 2), (14, 0)]);
        assert_eq!(totals.events, 6);
    }
}
