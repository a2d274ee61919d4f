//! Counter resets between two histograms of a series (`FloatHistogram.DetectReset`).

use super::accumulator::{same_bounds, shared_bounds, shared_index};
use super::buckets::{coarser, custom_bound, exponential_bound, indexed};
use super::{FloatHistogram, ResetHint, Span};

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
            let by = previous.schema.saturating_sub(self.schema);
            let before = coarser(indexed(before.0, before.1), by, |into: &mut f64, count| *into += count);
            let mut own = indexed(own.0, own.1).peekable();
            before.into_iter().any(|(index, count)| {
                while own.next_if(|(own, _)| *own < index).is_some() {}
                let now = own.next_if(|(own, _)| *own == index).map_or(0.0, |(_, count)| count);
                now < count && exponential_bound(index, self.schema) > self.zero_threshold
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
