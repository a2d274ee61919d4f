//! Received samples: they keep their own times. Recording rules and the ALERTS series are written this way too.

use super::FloatHistogram;
use super::registry::MetricId;
use super::sampling::{stale_float, stale_histogram};
use super::stats::Refusal;
use super::store::{Body, Entry, Hot, ReceivedRings, Saved, Store};
use super::{is_stale, store::flag};
use crate::model::{Label, Labels};
use std::sync::Arc;

/// The value of a received sample.
#[derive(Clone, Debug, PartialEq)]
pub enum SampleValue {
    /// A number; the stale NaN ends the series.
    Float(f64),
    /// A native histogram.
    Histogram(Arc<FloatHistogram>),
}

impl Store {
    /// Appends a received sample; `start_ms` is its start timestamp, 0 when unknown.
    ///
    /// # Errors
    /// Why it was refused; it has been counted by that reason.
    pub fn append(&mut self, labels: &Labels, t_ms: i64, value: SampleValue, start_ms: i64) -> Result<(), Refusal> {
        let taken = self.try_append(labels, t_ms, &value, start_ms);
        if let Err(refusal) = taken {
            self.counts.refuse(refusal);
        }
        taken
    }

    /// Ends a received series at `t_ms`; does nothing when it is unknown or has ended.
    ///
    /// # Errors
    /// Why it was refused; it has been counted by that reason.
    pub fn mark_stale(&mut self, labels: &Labels, t_ms: i64) -> Result<(), Refusal> {
        let Some(slot) = self.find_labels(self.hash_labels(labels), labels) else { return Ok(()) };
        let Some(Entry { body: Body::Received(rings), .. }) = self.entry(slot) else { return Ok(()) };
        let histogram = rings.histograms.last_ms > rings.floats.last_ms;
        if if histogram { rings.histograms.ended } else { rings.floats.ended } {
            return Ok(());
        }
        let value =
            if histogram { SampleValue::Histogram(stale_histogram()) } else { SampleValue::Float(stale_float()) };
        self.append(labels, t_ms, value, 0)
    }

    fn try_append(&mut self, labels: &Labels, t_ms: i64, value: &SampleValue, start_ms: i64) -> Result<(), Refusal> {
        // Before a series is made for it.
        if t_ms < self.oldest_ms() {
            return Err(Refusal::TooOld);
        }
        let slot = self.received_slot(labels)?;
        self.append_slot(slot, t_ms, value, start_ms)
    }

    /// The slot of a received series, made when it is new.
    pub(super) fn received_slot(&mut self, labels: &Labels) -> Result<u32, Refusal> {
        let hash = self.hash_labels(labels);
        match self.find_labels(hash, labels) {
            Some(slot) => Ok(slot),
            None => self.new_received(labels, hash),
        }
    }

    /// Appends to a received series whose slot is known.
    pub(super) fn append_slot(
        &mut self,
        slot: u32,
        t_ms: i64,
        value: &SampleValue,
        start_ms: i64,
    ) -> Result<(), Refusal> {
        let window = self.options.rings;
        if t_ms < self.oldest_ms() {
            return Err(Refusal::TooOld);
        }
        let Some(Entry { body: Body::Received(rings), metric, .. }) = self.entries[slot as usize].as_deref_mut() else {
            return Err(Refusal::SelfCounted);
        };
        let last_ms = rings.floats.last_ms.max(rings.histograms.last_ms);
        if t_ms == last_ms {
            return Err(Refusal::Duplicate);
        }
        if t_ms < last_ms {
            return Err(Refusal::OutOfOrder);
        }
        match value {
            SampleValue::Float(value) => {
                let value = if value.is_nan() && !is_stale(*value) { f64::NAN } else { *value };
                rings.floats.push(t_ms, &value, start_ms, &window);
            }
            SampleValue::Histogram(histogram) => rings.histograms.push(t_ms, histogram, start_ms, &window),
        }
        let metric = *metric;
        if self.hot[slot as usize].epoch != self.epoch {
            self.hot[slot as usize].epoch = self.epoch;
            self.note_changed(metric);
        }
        if self.hot[slot as usize].flags & flag::SAVE == 0 {
            self.mark_unsaved(slot);
        }
        Ok(())
    }

    /// Samples before this are not taken.
    pub(super) fn oldest_ms(&self) -> i64 {
        self.ticks.last().map_or(i64::MIN, |last| last - self.options.rings.coarse_span_ms)
    }

    fn new_received(&mut self, labels: &Labels, hash: u64) -> Result<u32, Refusal> {
        let limits = &self.options.limits;
        if labels.len() > limits.labels_per_series + 1 {
            return Err(Refusal::TooManyLabels);
        }
        if labels.iter().any(|label| label.value.len() > limits.label_value_bytes) {
            return Err(Refusal::LabelTooLong);
        }
        if self.entries.len() - self.free.len() >= limits.series.saturating_mul(2) || self.received() >= limits.series {
            return Err(Refusal::SeriesLimit);
        }
        let metric = self.metric_id(labels.metric_name());
        let labels = self.intern_labels(labels);
        Ok(self.insert_entry(received_entry(metric, labels, hash), Hot::default()))
    }

    /// How many series are not self-counted ones that live: received ones, and those that have ended.
    pub(super) fn received(&self) -> usize {
        self.entries.len() - self.free.len() - self.live
    }

    pub(super) fn intern_labels(&mut self, labels: &Labels) -> Labels {
        Labels::new(
            labels
                .iter()
                .map(|label| Label { name: self.intern(&label.name), value: self.intern(&label.value) })
                .collect(),
        )
    }
}

pub(super) fn received_entry(metric: MetricId, labels: Labels, labels_hash: u64) -> Entry {
    let mut entry = Entry {
        metric,
        own: Labels::default(),
        own_hash: 0,
        labels,
        labels_hash,
        prefix: "".into(),
        created_ms: 0,
        counted: false,
        body: Body::Received(Box::<ReceivedRings>::default()),
        bytes: 0,
        saved: [Saved::default(); 2],
        identity_saved: false,
    };
    entry.bytes = entry.size();
    entry
}
