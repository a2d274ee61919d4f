//! Requests: `prometheus.WriteRequest`, packed with snappy's block format.

use super::collect::Found;
use crate::model::Labels;
use crate::series::{FloatHistogram, ResetHint, Span};
use crate::source::wire::Writer;
use serde::{Deserialize, Serialize};

/// Series of one request.
const SERIES: usize = 2_000;

/// One request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Batch {
    /// The body.
    pub packed: Vec<u8>,
    /// Samples in it.
    pub samples: u64,
    /// The time of the newest.
    pub highest_ms: i64,
}

/// Requests of at most so many series each; `finish` gives the labels to send, or drops the series.
pub(super) fn batches(found: &Found, finish: impl Fn(&Labels) -> Option<Labels>) -> Vec<Batch> {
    let mut batches = Vec::new();
    let (mut writer, mut samples, mut highest_ms) = (Writer::default(), 0, i64::MIN);
    let mut seal = |writer: &mut Writer, samples: &mut u64, highest_ms: &mut i64| {
        let body = std::mem::take(&mut writer.out);
        if body.is_empty() {
            return;
        }
        // Packing fails only for more than 4 GiB.
        if let Ok(packed) = snap::raw::Encoder::new().compress_vec(&body) {
            batches.push(Batch { packed, samples: *samples, highest_ms: *highest_ms });
        }
        (*samples, *highest_ms) = (0, i64::MIN);
    };
    for series in &found.series {
        let Some(labels) = finish(&series.labels) else { continue };
        writer.message(1, |message| {
            for label in labels.iter() {
                message.message(1, |pair| {
                    pair.text(1, &label.name);
                    pair.text(2, &label.value);
                });
            }
            for point in &series.floats {
                samples += 1;
                highest_ms = highest_ms.max(point.t_ms);
                message.message(2, |sample| {
                    sample.double(1, point.value);
                    sample.uint(2, point.t_ms.cast_unsigned());
                });
            }
            for point in &series.histograms {
                samples += 1;
                highest_ms = highest_ms.max(point.t_ms);
                message.message(4, |message| histogram(message, &point.histogram, point.t_ms));
            }
        });
        if samples >= SERIES as u64 {
            seal(&mut writer, &mut samples, &mut highest_ms);
        }
    }
    for metric in &found.metadata {
        let kind = match metric.kind.as_str() {
            "counter" => 1,
            "gauge" => 2,
            "histogram" => 3,
            "gaugehistogram" => 4,
            "summary" => 5,
            "info" => 6,
            "stateset" => 7,
            _ => 0,
        };
        writer.message(3, |message| {
            message.uint(1, kind);
            message.text(2, &metric.name);
            message.text(4, &metric.help);
            message.text(5, &metric.unit);
        });
    }
    seal(&mut writer, &mut samples, &mut highest_ms);
    batches
}

/// A native histogram with float counts, as which they are held.
fn histogram(message: &mut Writer, histogram: &FloatHistogram, t_ms: i64) {
    message.double(2, histogram.count);
    message.double(3, histogram.sum);
    message.sint(4, i64::from(histogram.schema));
    message.double(5, histogram.zero_threshold);
    message.double(7, histogram.zero_count);
    let spans = |message: &mut Writer, field: u32, spans: &[Span]| {
        for span in spans {
            message.message(field, |message| {
                message.sint(1, i64::from(span.offset));
                message.uint(2, u64::from(span.length));
            });
        }
    };
    spans(message, 8, &histogram.negative_spans);
    histogram.negative_buckets.iter().for_each(|count| message.double(10, *count));
    spans(message, 11, &histogram.positive_spans);
    histogram.positive_buckets.iter().for_each(|count| message.double(13, *count));
    if histogram.reset_hint == ResetHint::Gauge {
        message.uint(14, 3);
    }
    message.uint(15, t_ms.cast_unsigned());
    histogram.custom_values.iter().for_each(|bound| message.double(16, *bound));
}
