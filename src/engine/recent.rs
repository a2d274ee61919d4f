//! What the page shows of the stream itself: the latest events and totals by second.

use crate::model::{Attribute, Event, EventBatch, Timestamp};
use crate::source::redact::Redactor;
use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Events kept.
const RECENT_EVENTS: usize = 500;
/// Events taken from one batch: a flood must not cost a copy of each event.
const EVENTS_OF_A_BATCH: usize = 20;
/// Nor must one of small batches: as many a second are taken as a live reader, who looks four times a second, can see.
const EVENTS_PER_SECOND: i64 = 2_000;
/// Bytes of a batch that is kept whole; of a larger one events are copied at any rate.
const LAST_BYTES: usize = 256 << 10;
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

/// How many more may be copied: [`RECENT_EVENTS`] at once, [`EVENTS_PER_SECOND`] in the long run.
#[derive(Debug)]
struct Budget {
    /// When everything that was taken is made up for, in microseconds.
    settled_us: i64,
}

impl Budget {
    const FULL: Self = Self { settled_us: i64::MIN };

    /// Of `wanted` events so many may be copied.
    fn take(&mut self, now: Timestamp, wanted: usize) -> usize {
        const EVENT_US: i64 = 1_000_000 / EVENTS_PER_SECOND;
        let full_us = now.micros() - EVENT_US * RECENT_EVENTS as i64;
        let begin_us = self.settled_us.max(full_us);
        let taken = wanted.min(usize::try_from((now.micros() - begin_us) / EVENT_US).unwrap_or(0));
        self.settled_us = begin_us + EVENT_US * taken as i64;
        taken
    }
}

/// The latest events.
#[derive(Debug)]
pub(super) struct Recent {
    events: VecDeque<RecentEvent>,
    /// The last batch, when there was no budget for it: whatever came last can be seen.
    last: Option<EventBatch>,
    count: u64,
    /// By source: the flood of one hides none of another.
    budgets: BTreeMap<Arc<str>, Budget>,
    pub totals: Totals,
    /// What is not shown of them.
    redactor: Arc<Redactor>,
}

impl Recent {
    pub fn new(redactor: Arc<Redactor>) -> Self {
        let (events, budgets, totals) = (VecDeque::new(), BTreeMap::new(), Totals::default());
        Self { events, last: None, count: 0, budgets, totals, redactor }
    }

    /// From now on other things are not shown. What is kept whole came while the ones before held for it.
    pub fn set_redactor(&mut self, redactor: Arc<Redactor>) {
        if let Some(batch) = self.last.take() {
            self.keep(&batch, batch.events.len().min(EVENTS_OF_A_BATCH));
        }
        // Sources that are gone need none any more.
        self.budgets.clear();
        self.redactor = redactor;
    }

    /// Counts a batch and keeps its last events.
    /// `totals` are of what came in, not of what sidewatch says itself.
    pub fn observe(&mut self, now: Timestamp, batch: EventBatch, totals: bool) {
        if totals {
            let failed = batch.events.iter().filter(|event| event.failed).count() as u64;
            self.totals.add(now, batch.events.len() as u64, failed);
        }
        if batch.events.is_empty() {
            return;
        }
        self.count += batch.events.len() as u64;
        let budget = match self.budgets.get_mut(&batch.source) {
            Some(budget) => budget,
            None => self.budgets.entry(batch.source.clone()).or_insert(Budget::FULL),
        };
        match budget.take(now, batch.events.len().min(EVENTS_OF_A_BATCH)) {
            0 if batch.buffer.len() <= LAST_BYTES => self.last = Some(batch),
            taken => {
                self.last = None;
                self.keep(&batch, taken.max(1));
            }
        }
    }

    /// Copies the last so many events of the batch that was counted last.
    fn keep(&mut self, batch: &EventBatch, events: usize) {
        let first = self.count + 1 - events as u64;
        let shown = &batch.events[batch.events.len() - events..];
        for (number, event) in (first..).zip(shown) {
            let event = self.copy(batch, event, number);
            self.events.push_back(event);
        }
        while self.events.len() > RECENT_EVENTS {
            self.events.pop_front();
        }
    }

    fn copy(&self, batch: &EventBatch, event: &Event, number: u64) -> RecentEvent {
        let veil = self.redactor.veil();
        let shown = |attribute, text| veil.attribute(attribute, batch.text(text)).into_owned();
        RecentEvent {
            number,
            arrived: batch.arrived,
            source: batch.source.clone(),
            event_type: shown(Attribute::Type, event.event_type),
            id: shown(Attribute::Id, event.id),
            subject: shown(Attribute::Subject, event.subject),
            correlation: shown(Attribute::Correlation, event.correlation),
            failed: event.failed,
            duration_seconds: event.duration_seconds,
            document: self.redactor.document(&batch.source, event.shape, batch.text(event.raw), DOCUMENT_BYTES),
        }
    }

    /// Those after a number, newest first, at most `limit`.
    pub fn after(&self, number: u64, limit: usize, mut keep: impl FnMut(&RecentEvent) -> bool) -> Vec<RecentEvent> {
        let last = self.last.iter().flat_map(|batch| {
            let newest_first = batch.events.iter().rev().take(EVENTS_OF_A_BATCH);
            newest_first.zip(0..).map(|(event, back)| Cow::Owned(self.copy(batch, event, self.count - back)))
        });
        last.chain(self.events.iter().rev().map(Cow::Borrowed))
            .take_while(|one| one.number > number)
            .filter(|one| keep(one))
            .take(limit)
            .map(Cow::into_owned)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::decode::{Decoder, Framing};

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

    #[test]
    fn a_flood_of_small_batches_costs_no_copy_each() {
        let mut budget = Budget::FULL;
        let mut now = Timestamp::from_millis(1_795_165_201_000);
        let mut takes = |now, events| budget.take(now, events);
        assert_eq!((0..600).map(|_| takes(now, 1)).sum::<usize>(), RECENT_EVENTS);
        let mut taken = 0;
        for _ in 0..100_000 {
            now = now.plus_micros(10);
            taken += takes(now, 1);
        }
        assert_eq!(taken, 2_000);
        assert_eq!([takes(now.plus_millis(5), 20), takes(now.plus_millis(5), 20)], [10, 0]);
    }

    #[test]
    fn the_last_event_is_seen_though_a_flood_came_before_it() {
        let mut recent = Recent::new(Arc::default());
        let now = Timestamp::from_millis(1_795_165_201_000);
        for at in 1..=2_000 {
            recent.observe(now, batch("flood", at), true);
        }
        let newest: Vec<u64> = recent.after(0, 3, |_| true).iter().map(|one| one.number).collect();
        assert_eq!(newest, [2_000, 500, 499]);
        assert_eq!(recent.after(1_999, 9, |_| true)[0].event_type, "order.2000");
        assert!(recent.after(2_000, 9, |_| true).is_empty());
        // Another source is seen all the same, and what was kept whole is shown as it was to be shown when it came.
        recent.observe(now, batch("other", 2_001), true);
        recent.observe(now, batch("flood", 2_002), true);
        recent.set_redactor(Arc::default());
        let newest: Vec<u64> = recent.after(0, 3, |_| true).iter().map(|one| one.number).collect();
        assert_eq!((newest, recent.last.is_none()), (vec![2_002, 2_001, 500], true));
    }

    fn batch(source: &str, at: usize) -> EventBatch {
        let decoder = Decoder::compile(&Default::default(), Default::default(), &mut Default::default()).unwrap();
        let text = format!(r#"{{"type":"order.{at}"}}"#).into_bytes();
        decoder.decode(text, Framing::Auto, &Default::default(), &source.into(), Timestamp::from_millis(0))
    }
}
