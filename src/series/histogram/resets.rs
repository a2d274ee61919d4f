//! Counter resets between two histograms of a series (`FloatHistogram.DetectReset`).

use super::accumulator::{same_bounds, shared_bounds, shared_index};
use super::buckets::{custom_bound, exponential_bound, indexed};
use super::{FloatHistogram, ResetHint, Span};
use std::collections::BTreeMap;

impl FloatHistogram {
    /// Whether the counter was reset between `previous` and this histogram: some count went down, or the layout changed in a
    /// way that only a restart makes. The hint decides where it claims to know.
    pub fn is_reset_after(&self, previous: &Self) -> bool {
        match self.reset_hint {
            ResetHint::Reset => return true,
            ResetHint::NotReset => return false,
            ResetHint::Unknown | ResetHint::Gauge => {}
        }
        if self.count < previous.count || self.uses_custom_buckets() != previous.uses_custom_buckets() {
            return true;
        }
        if self.uses_custom_buckets() {
            return self.custom_reset_after(previous);
        }
        if self.schema > previous.schema || self.zero_threshold < previous.zero_threshold {
            return true;
        }
        let (zero_count, threshold) = previous.zero_count_for_threshold(self.zero_threshold);
        // A threshold that cuts a populated bucket cannot come from widening the zero bucket.
        if threshold != self.zero_threshold || self.zero_count < zero_count {
            return true;
        }
        let shrank = |own: (&[Span], &[f64]), before: (&[Span], &[f64])| {
            let own: BTreeMap<i32, f64> = indexed(own.0, own.1).collect();
            let mut merged: BTreeMap<i32, f64> = BTreeMap::new();
            for (index, count) in indexed(before.0, before.1) {
                *merged.entry(previous.index_at_schema(index, self.schema)).or_default() += count;
            }
            merged.iter().any(|(index, count)| {
                exponential_bound(*index, self.schema) > self.zero_threshold
                    && own.get(index).copied().unwrap_or(0.0) < *count
            })
        };
        shrank((&self.positive_spans, &self.positive_buckets), (&previous.positive_spans, &previous.positive_buckets))
            || shrank(
                (&self.negative_spans, &self.negative_buckets),
                (&previous.negative_spans, &previous.negative_buckets),
            )
    }

    fn custom_reset_after(&self, previous: &Self) -> bool {
        let shared = if same_bounds(&self.custom_values, &previous.custom_values) {
            self.custom_values.clone()
        } else {
            shared_bounds(&self.custom_values, &previous.custom_values)
        };
        let counts = |histogram: &Self| {
            let mut counts = vec![0.0; shared.len() + 1];
            for (index, count) in indexed(&histogram.positive_spans, &histogram.positive_buckets) {
                counts[shared_index(custom_bound(index, &histogram.custom_values), &shared)] += count;
            }
            counts
        };
        counts(self).iter().zip(counts(previous)).any(|(own, before)| *own < before)
    }
}
