//! Remote write: samples that may come late, exemplars, and an answer for each series.

use super::append::SampleValue;
use super::exemplars::{Exemplar, ExemplarRefusal, SeriesExemplars};
use super::scraped::native;
use super::stats::Refusal;
use super::store::{Body, Entry, Saved, Store, flag};
use super::{Matcher, MetricType};
use crate::model::Labels;
use crate::source::remote_write::WriteRequest;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Samples further ahead of the clock than this are refused: one wrong clock would make a series deaf for as long.
const AHEAD_MS: i64 = 600_000;
/// Refused series that the answer names.
const NAMED: usize = 10;

/// What became of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Float samples taken.
    pub floats: usize,
    /// Native histograms taken.
    pub histograms: usize,
    /// Exemplars taken.
    pub exemplars: usize,
    /// Samples refused, by reason.
    pub refused: BTreeMap<&'static str, usize>,
    /// Some of them, for people.
    pub named: Vec<String>,
}

impl Store {
    /// Takes what a request of remote write brought; samples may be late by `window_ms`. The same sample again is taken
    /// for what it is, a repetition: senders repeat whole requests.
    pub fn receive(&mut self, request: &WriteRequest, now_ms: i64, window_ms: i64) -> Written {
        let mut written = Written::default();
        for told in &request.metadata {
            let kind = MetricType::parse(told.kind).unwrap_or_default();
            self.describe(&told.name, kind, &told.help, &told.unit);
        }
        for series in &request.series {
            let mut slot = None;
            let floats = series.floats.iter().map(|(t_ms, value, start)| (*t_ms, SampleValue::Float(*value), *start));
            let histograms = series
                .histograms
                .iter()
                .map(|(t_ms, held, start)| (*t_ms, SampleValue::Histogram(Arc::new(native(held))), *start));
            for (t_ms, value, start_ms) in floats.chain(histograms) {
                let taken = self.receive_one(&series.labels, &mut slot, (t_ms, &value, start_ms), now_ms, window_ms);
                match (taken, value) {
                    (Ok(()), SampleValue::Float(_)) => written.floats += 1,
                    (Ok(()), SampleValue::Histogram(_)) => written.histograms += 1,
                    (Err(refusal), _) => {
                        self.counts.refuse(refusal);
                        written.refuse(refusal.as_str(), &series.labels, t_ms);
                    }
                }
            }
            for exemplar in &series.exemplars {
                let held = Exemplar { labels: exemplar.labels.clone(), value: exemplar.value, t_ms: exemplar.t_ms };
                match self.exemplars.push(&series.labels, held) {
                    Ok(()) => written.exemplars += 1,
                    Err(ExemplarRefusal::OutOfOrder) => {
                        written.refuse("exemplar_out_of_order", &series.labels, exemplar.t_ms);
                    }
                }
            }
        }
        written
    }

    fn receive_one(
        &mut self,
        labels: &Labels,
        known: &mut Option<u32>,
        (t_ms, value, start_ms): (i64, &SampleValue, i64),
        now_ms: i64,
        window_ms: i64,
    ) -> Result<(), Refusal> {
        if t_ms > now_ms.saturating_add(AHEAD_MS) {
            return Err(Refusal::TooFarAhead);
        }
        if t_ms < self.oldest_ms() {
            return Err(Refusal::TooOld);
        }
        let slot = match known {
            Some(slot) => *slot,
            None => *known.insert(self.received_slot(labels)?),
        };
        match self.append_slot(slot, t_ms, value, start_ms) {
            Err(Refusal::Duplicate | Refusal::OutOfOrder) => self.insert_slot(slot, t_ms, value, start_ms, window_ms),
            outcome => outcome,
        }
    }

    /// A sample that is not newer than the last one.
    fn insert_slot(
        &mut self,
        slot: u32,
        t_ms: i64,
        value: &SampleValue,
        start_ms: i64,
        window_ms: i64,
    ) -> Result<(), Refusal> {
        let Some(entry) = self.entries[slot as usize].as_deref_mut() else { return Err(Refusal::SelfCounted) };
        let Entry { body: Body::Received(rings), metric, saved, .. } = entry else {
            return Err(Refusal::SelfCounted);
        };
        let metric = *metric;
        let (float, histogram) = (rings.floats.at(t_ms), rings.histograms.at(t_ms));
        match (value, &float, &histogram) {
            (SampleValue::Float(value), Some(known), _) if value.to_bits() == known.to_bits() => return Ok(()),
            (SampleValue::Histogram(value), _, Some(known)) if value == known => return Ok(()),
            (_, None, None) => {}
            _ => return Err(Refusal::Duplicate),
        }
        let last_ms = rings.floats.last_ms.max(rings.histograms.last_ms);
        if t_ms < last_ms.saturating_sub(window_ms) {
            return Err(Refusal::OutOfOrder);
        }
        let window = self.options.rings;
        match value {
            SampleValue::Float(value) => {
                let value = if value.is_nan() && !super::is_stale(*value) { f64::NAN } else { *value };
                match t_ms > rings.floats.last_ms {
                    true => rings.floats.push(t_ms, &value, start_ms, &window),
                    false => rings.floats.insert(t_ms, &value, start_ms),
                }
            }
            SampleValue::Histogram(value) => match t_ms > rings.histograms.last_ms {
                true => rings.histograms.push(t_ms, value, start_ms, &window),
                false => rings.histograms.insert(t_ms, value, start_ms),
            },
        }
        // What earlier checkpoints hold of this ring is no longer a beginning of it.
        *saved = [Saved::default(); 2];
        if self.hot[slot as usize].epoch != self.epoch {
            self.hot[slot as usize].epoch = self.epoch;
            self.note_changed(metric);
        }
        if self.hot[slot as usize].flags & flag::SAVE == 0 {
            self.mark_unsaved(slot);
        }
        Ok(())
    }

    /// Exemplars of series that match one of the sets, between two times in milliseconds.
    pub fn exemplars(&self, sets: &[Vec<Matcher>], from_ms: i64, to_ms: i64) -> Vec<SeriesExemplars> {
        self.exemplars.select(sets, from_ms, to_ms)
    }
}

impl Written {
    fn refuse(&mut self, reason: &'static str, labels: &Labels, t_ms: i64) {
        *self.refused.entry(reason).or_default() += 1;
        if self.named.len() < NAMED {
            self.named.push(format!("{labels} at {t_ms} ms: {reason}"));
        }
    }
}
