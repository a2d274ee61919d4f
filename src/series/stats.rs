//! What the store tells about itself: series, limits, refusals, bytes.

use super::registry::{Limit, Metric};
use super::store::{Body, Store, flag};
use std::collections::{BTreeMap, BTreeSet};

/// Why a value or sample was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
#[error("{}", self.as_str())]
#[expect(missing_docs, reason = "each is its own sentence below")]
pub enum Refusal {
    NegativeIncrement,
    NegativeValue,
    NotANumber,
    InfiniteValue,
    OutOfOrder,
    Duplicate,
    TooOld,
    TooFarAhead,
    SelfCounted,
    TooManyLabels,
    LabelTooLong,
    SeriesLimit,
    RestoreConflict,
}

impl Refusal {
    /// Every reason.
    pub const ALL: [Self; 13] = [
        Self::NegativeIncrement,
        Self::NegativeValue,
        Self::NotANumber,
        Self::InfiniteValue,
        Self::OutOfOrder,
        Self::Duplicate,
        Self::TooOld,
        Self::TooFarAhead,
        Self::SelfCounted,
        Self::TooManyLabels,
        Self::LabelTooLong,
        Self::SeriesLimit,
        Self::RestoreConflict,
    ];

    /// The value of a `reason` label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NegativeIncrement => "negative_increment",
            Self::NegativeValue => "negative_value",
            Self::NotANumber => "not_a_number",
            Self::InfiniteValue => "infinite_value",
            Self::OutOfOrder => "out_of_order",
            Self::Duplicate => "duplicate",
            Self::TooOld => "too_old",
            Self::TooFarAhead => "too_far_ahead",
            Self::SelfCounted => "self_counted",
            Self::TooManyLabels => "too_many_labels",
            Self::LabelTooLong => "label_too_long",
            Self::SeriesLimit => "series_limit",
            Self::RestoreConflict => "restore_conflict",
        }
    }
}

/// The running counts.
#[derive(Clone, Debug, Default)]
pub(super) struct Counts {
    pub refused: [u64; Refusal::ALL.len()],
    pub truncated_values: u64,
    pub expired: u64,
    pub dropped_chunks: u64,
}

impl Counts {
    #[cold]
    pub fn refuse(&mut self, refusal: Refusal) {
        self.refused[refusal as usize] += 1;
    }
}

/// One metric in the statistics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetricStats {
    /// The metric.
    pub name: String,
    /// Its series that can be read: live, ended and received.
    pub series: usize,
    /// Updates that a limit kept from a series of their own, by limit; counters went to the overflow series.
    pub limited: BTreeMap<&'static str, u64>,
    /// Of a limited metric: the label with the most distinct values, and how many.
    pub widest_label: Option<(String, usize)>,
}

/// What [`Store::stats`] tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreStats {
    /// Live self-counted series.
    pub live_series: usize,
    /// Live self-counted histograms among them.
    pub histogram_series: usize,
    /// Received series.
    pub received_series: usize,
    /// Self-counted series that have ended and whose samples can still be read.
    pub ended_series: usize,
    /// Bytes of all series with their rings, as of the last sweep.
    pub bytes: usize,
    /// Chunks of all rings.
    pub chunks: usize,
    /// Chunks given up early because of `limits.series_bytes`.
    pub dropped_chunks: u64,
    /// Series ended because nothing updated them for `limits.idle_series_ms`.
    pub expired_series: u64,
    /// Label values cut to `limits.label_value_bytes`.
    pub truncated_values: u64,
    /// Refused values and samples by reason; only reasons that occurred.
    pub refused: BTreeMap<&'static str, u64>,
    /// The metrics in order of their names.
    pub metrics: Vec<MetricStats>,
}

impl Store {
    /// Refused values and samples by reason, those that never occurred as 0.
    pub fn refusals(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        Refusal::ALL.into_iter().map(|refusal| (refusal.as_str(), self.counts.refused[refusal as usize]))
    }

    /// Live self-counted series.
    pub fn live_series(&self) -> usize {
        self.live
    }

    /// Counts everything. Goes through all series: for an API request, not for each event.
    pub fn stats(&self) -> StoreStats {
        let counts = &self.counts;
        let mut stats = StoreStats {
            live_series: self.live,
            histogram_series: self.live_histograms,
            bytes: self.bytes,
            dropped_chunks: counts.dropped_chunks,
            expired_series: counts.expired,
            truncated_values: counts.truncated_values,
            ..StoreStats::default()
        };
        for refusal in Refusal::ALL {
            if counts.refused[refusal as usize] > 0 {
                stats.refused.insert(refusal.as_str(), counts.refused[refusal as usize]);
            }
        }
        let mut series = vec![0; self.metrics.len()];
        for (slot, entry) in self.each_entry() {
            series[entry.metric.0 as usize] += 1;
            let live = self.hot[slot as usize].flags & flag::LIVE != 0;
            stats.received_series += usize::from(!entry.counted);
            stats.ended_series += usize::from(entry.counted && !live);
            stats.chunks += match &entry.body {
                Body::Float(ring) => ring.chunks(),
                Body::Histogram(histogram) => histogram.ring.chunks(),
                Body::Received(rings) => rings.floats.chunks() + rings.histograms.chunks(),
            };
        }
        for (metric, series) in self.metrics.iter().zip(series) {
            let limited: BTreeMap<_, _> = Limit::ALL
                .into_iter()
                .filter(|limit| metric.hits[*limit as usize] > 0)
                .map(|limit| (limit.as_str(), metric.hits[limit as usize]))
                .collect();
            if series == 0 && limited.is_empty() {
                continue;
            }
            let widest_label = if limited.is_empty() { None } else { self.widest_label(metric) };
            stats.metrics.push(MetricStats { name: metric.name.to_string(), series, limited, widest_label });
        }
        stats.metrics.sort_by(|a, b| a.name.cmp(&b.name));
        stats
    }

    /// How often limits were hit so far, over all metrics: cheap, to see whether [`Self::stats`] has news.
    pub fn limit_hits(&self) -> u64 {
        self.metrics.iter().flat_map(|metric| metric.hits).sum()
    }

    fn widest_label(&self, metric: &Metric) -> Option<(String, usize)> {
        let mut values: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for slot in &metric.sorted {
            for label in self.entry(*slot)?.own.iter() {
                values.entry(&label.name).or_default().insert(&label.value);
            }
        }
        let widest = values.iter().max_by_key(|(name, values)| (values.len(), std::cmp::Reverse(**name)))?;
        Some(((*widest.0).to_owned(), widest.1.len()))
    }
}
