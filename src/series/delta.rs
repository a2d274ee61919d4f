//! Received samples as they come: totals are appended, changes are added to what stands there.

use super::append::SampleValue;
use super::catalog::MetricType;
use super::exemplars::Exemplar;
use super::scraped::native;
use super::stats::Refusal;
use super::store::{Body, Store};
use super::{FloatHistogram, STALE_NAN_BITS};
use crate::model::Labels;
use crate::source::received::{ReceivedBatch, ReceivedValue};
use std::sync::Arc;

impl Store {
    /// Stores received samples; `base` are labels that they get where they lack them. Every refused sample is counted by
    /// its reason.
    pub fn apply_received(&mut self, batch: &ReceivedBatch, base: &Labels) {
        for told in &batch.metadata {
            self.describe(&told.name, MetricType::parse(told.kind).unwrap_or_default(), &told.help, &told.unit);
        }
        self.received_exemplars(batch, base);
        for sample in &batch.samples {
            let labels = base.merged(&sample.labels);
            // Refusals are counted by the store.
            let _ = match &sample.value {
                ReceivedValue::Float(value) => {
                    self.append(&labels, sample.t_ms, SampleValue::Float(*value), sample.start_ms)
                }
                ReceivedValue::Histogram(histogram) => {
                    let value = SampleValue::Histogram(Arc::new(native(histogram)));
                    self.append(&labels, sample.t_ms, value, sample.start_ms)
                }
                ReceivedValue::HistogramDelta(histogram) => {
                    self.append_delta(&labels, sample.t_ms, &native(histogram), sample.start_ms)
                }
                ReceivedValue::End => {
                    let end = SampleValue::Float(f64::from_bits(STALE_NAN_BITS));
                    self.append(&labels, sample.t_ms, end, 0)
                }
            };
        }
    }

    fn received_exemplars(&mut self, batch: &ReceivedBatch, base: &Labels) {
        for (series, own, value, t_ms) in &batch.exemplars {
            let held = Exemplar { labels: own.clone(), value: *value, t_ms: *t_ms };
            // Points of several scopes may bring them out of order; the series has a newer one then.
            let _ = self.exemplars.push(&base.merged(series), held);
        }
    }

    /// Appends the sum of a received histogram's last sample and this change. A change that is not later than that sample
    /// counts right behind it: none is lost because two senders' clocks differ. The first one follows an empty histogram
    /// at `start_ms`, so that it is seen as a rise.
    ///
    /// # Errors
    /// Why it was refused; it has been counted by that reason.
    pub fn append_delta(
        &mut self,
        labels: &Labels,
        t_ms: i64,
        change: &FloatHistogram,
        start_ms: i64,
    ) -> Result<(), Refusal> {
        let last = self.last_histogram(labels);
        let Some((last_ms, total)) = last else {
            if start_ms > 0 && start_ms < t_ms {
                let empty = FloatHistogram { schema: change.schema, ..FloatHistogram::default() };
                // Too old a beginning is no reason to refuse the change.
                let _ = self.append(labels, start_ms, SampleValue::Histogram(Arc::new(empty)), 0);
            }
            return self.append(labels, t_ms, SampleValue::Histogram(Arc::new(change.clone())), 0);
        };
        // Custom and exponential buckets do not add up: such a change begins afresh, as a reset.
        let sum = total.plus(change).map_or_else(|_| change.clone(), |(sum, _)| sum);
        self.append(labels, t_ms.max(last_ms + 1), SampleValue::Histogram(Arc::new(sum)), 0)
    }

    fn last_histogram(&self, labels: &Labels) -> Option<(i64, Arc<FloatHistogram>)> {
        let slot = self.find_labels(self.hash_labels(labels), labels)?;
        let Body::Received(rings) = &self.entry(slot)?.body else { return None };
        let ring = &rings.histograms;
        if ring.ended || ring.last_ms < rings.floats.last_ms {
            return None;
        }
        let open = ring.open.as_ref().map(|open| &open.chunk);
        open.or_else(|| ring.fine.last().map(|chunk| &**chunk))
            .or_else(|| ring.coarse.last().map(|chunk| &**chunk))?
            .last()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::series::{Span, StoreOptions};

    fn histogram(offset: i32, counts: &[f64]) -> FloatHistogram {
        FloatHistogram {
            schema: 2,
            count: counts.iter().sum(),
            sum: counts.iter().sum::<f64>() * 2.0,
            positive_spans: vec![Span { offset, length: counts.len() as u32 }],
            positive_buckets: counts.to_vec(),
            ..FloatHistogram::default()
        }
    }

    #[test]
    fn changes_add_up_exactly_across_checkpoints() {
        let mut store = Store::new(StoreOptions::default());
        let labels = Labels::from_pairs([("__name__", "h"), ("a", "b")]);
        store.append_delta(&labels, 2_000, &histogram(0, &[1.0, 2.0]), 1_000).unwrap();
        store.append_delta(&labels, 3_000, &histogram(1, &[4.0]), 2_000).unwrap();
        // From another sender, whose clock is behind.
        store.append_delta(&labels, 2_500, &histogram(0, &[1.0]), 1_500).unwrap();
        let blob = store.delta(true);
        let mut again = Store::new(StoreOptions::default());
        again.restore(&blob).unwrap();
        again.append_delta(&labels, 4_000, &histogram(0, &[0.0, 1.0]), 3_000).unwrap();
        let (at_ms, total) = again.last_histogram(&labels).unwrap();
        assert_eq!((at_ms, total.count, total.sum), (4_000, 9.0, 18.0));
        assert_eq!(total.positive_buckets, [2.0, 7.0]);
        let mut store = Store::new(StoreOptions::default());
        store.append_delta(&labels, 2_000, &histogram(0, &[1.0, 2.0]), 1_000).unwrap();
        assert_eq!(store.last_histogram(&labels).unwrap().0, 2_000);
    }
}
