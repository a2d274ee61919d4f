//! Updating self-counted series through their handles: the hot path, without allocation.

use super::registry::Handle;
use super::stats::Refusal;
use super::store::{Body, Store, flag};
use crate::model::Timestamp;

/// What became of an observed value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Observed {
    /// Counted.
    Accepted,
    /// The series has ended: resolve again.
    Stale,
    /// Not counted in the histogram, but counted by its reason.
    Refused(Refusal),
}

/// A trace that shows one value of a bucket.
#[derive(Clone, Copy, Debug, PartialEq)]
#[expect(missing_docs, reason = "named as in trace contexts")]
pub struct ExemplarRef<'a> {
    pub trace_id: &'a str,
    pub span_id: &'a str,
    /// The value that the trace is about.
    pub value: f64,
}

/// Bytes of an id that are kept; longer ones are not trace ids. OpenMetrics allows 128 characters for all labels of an exemplar.
const ID_BYTES: usize = 48;

/// Whether a text can be the id of a trace or span: nothing in it needs escaping.
fn is_id(text: &str) -> bool {
    (1..=ID_BYTES).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

/// A kept exemplar.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Exemplar {
    pub trace_id: String,
    pub span_id: String,
    pub value: f64,
    pub at: Timestamp,
}

impl Exemplar {
    fn set(&mut self, from: &ExemplarRef<'_>, at: Timestamp) {
        for (held, new) in [(&mut self.trace_id, from.trace_id), (&mut self.span_id, from.span_id)] {
            held.clear();
            if is_id(new) {
                held.push_str(new);
            }
        }
        (self.value, self.at) = (from.value, at);
    }
}

impl Store {
    /// Adds to a counter. False when the handle is stale (the series expired): resolve again.
    /// A negative, infinite or NaN increment is refused, counted, and answered with true.
    pub fn add(&mut self, handle: Handle, increment: f64, now: Timestamp) -> bool {
        self.change(handle, flag::COUNTER, now, |value| {
            if increment >= 0.0 && increment.is_finite() {
                *value += increment;
                None
            } else if increment < 0.0 {
                Some(Refusal::NegativeIncrement)
            } else {
                Some(Refusal::NotANumber)
            }
        })
    }

    /// Sets a gauge; any value is taken. False when the handle is stale.
    pub fn set(&mut self, handle: Handle, value: f64, now: Timestamp) -> bool {
        self.change(handle, flag::GAUGE, now, |held| {
            // The one NaN that means an end must not come from outside.
            *held = if value.is_nan() { f64::NAN } else { value };
            None
        })
    }

    /// Adds to a gauge, which begins at 0; the amount may be negative. False when the handle is stale.
    pub fn gauge_add(&mut self, handle: Handle, amount: f64, now: Timestamp) -> bool {
        self.change(handle, flag::GAUGE, now, |held| {
            if amount.is_nan() {
                return Some(Refusal::NotANumber);
            }
            *held += amount;
            None
        })
    }

    fn change(
        &mut self,
        handle: Handle,
        kind: u8,
        now: Timestamp,
        change: impl FnOnce(&mut f64) -> Option<Refusal>,
    ) -> bool {
        let Some(hot) = self.hot.get_mut(handle.slot as usize) else { return false };
        if hot.generation != handle.generation || hot.flags & (flag::LIVE | kind) != flag::LIVE | kind {
            return false;
        }
        if let Some(refusal) = change(&mut hot.value) {
            self.counts.refuse(refusal);
            return true;
        }
        hot.updated_us = now.micros();
        hot.flags |= flag::VALUED;
        if hot.epoch != self.epoch || hot.flags & (flag::TICK | flag::SAVE) != flag::TICK | flag::SAVE {
            self.mark(handle.slot);
        }
        true
    }

    /// Counts a value in a histogram, `weight` times. Negative, infinite and NaN values are refused and counted. An exemplar
    /// whose trace id is not one (letters, digits, `-`, `_`, at most 48) is left out.
    pub fn observe(
        &mut self,
        handle: Handle,
        value: f64,
        weight: u64,
        now: Timestamp,
        exemplar: Option<ExemplarRef<'_>>,
    ) -> Observed {
        let wanted = flag::LIVE | flag::HISTOGRAM;
        let Some(hot) = self.hot.get_mut(handle.slot as usize) else { return Observed::Stale };
        if hot.generation != handle.generation || hot.flags & wanted != wanted {
            return Observed::Stale;
        }
        let refusal = if value.is_nan() {
            Some(Refusal::NotANumber)
        } else if value < 0.0 {
            Some(Refusal::NegativeValue)
        } else if value.is_infinite() {
            Some(Refusal::InfiniteValue)
        } else {
            None
        };
        if let Some(refusal) = refusal {
            self.counts.refuse(refusal);
            return Observed::Refused(refusal);
        }
        hot.updated_us = now.micros();
        let marked = hot.epoch == self.epoch && hot.flags & (flag::TICK | flag::SAVE) == flag::TICK | flag::SAVE;
        let Some(Body::Histogram(histogram)) = self.entries[handle.slot as usize].as_mut().map(|entry| &mut entry.body)
        else {
            return Observed::Stale;
        };
        let bucket = histogram.state.count(value, weight, &histogram.bounds);
        histogram.sum.add(value * weight as f64);
        histogram.state.sum = histogram.sum.value();
        histogram.window.record(value, weight, now.millis());
        if let Some(exemplar) = exemplar.filter(|exemplar| is_id(exemplar.trace_id)) {
            if histogram.exemplars.is_empty() {
                histogram.exemplars.resize(histogram.bounds.len() + 1, None);
            }
            let empty = || Exemplar { trace_id: String::new(), span_id: String::new(), value: 0.0, at: now };
            histogram.exemplars[bucket].get_or_insert_with(empty).set(&exemplar, now);
        }
        if !marked {
            self.mark(handle.slot);
        }
        Observed::Accepted
    }

    /// The value of a counter or gauge now; `None` when the handle is stale or a gauge was never set.
    pub fn value(&self, handle: Handle) -> Option<f64> {
        let hot = self.hot.get(handle.slot as usize).filter(|hot| hot.generation == handle.generation)?;
        let valued = flag::LIVE | flag::VALUED;
        (hot.flags & valued == valued && hot.flags & flag::HISTOGRAM == 0).then_some(hot.value)
    }
}
