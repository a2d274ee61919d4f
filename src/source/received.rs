//! Samples that somebody else has counted, with times of their own: OTLP metrics.

use super::scrape::{FamilyMetadata, NativeHistogram};
use crate::model::Labels;
use std::sync::Arc;

/// The value of a received sample.
#[derive(Clone, Debug, PartialEq)]
pub enum ReceivedValue {
    /// A number.
    Float(f64),
    /// A histogram as it stands.
    Histogram(Box<NativeHistogram>),
    /// What was added to a histogram since the sample before.
    HistogramDelta(Box<NativeHistogram>),
    /// The series has ended.
    End,
}

/// A received sample.
#[derive(Clone, Debug, PartialEq)]
pub struct ReceivedSample {
    /// All labels, the metric's name among them; `job` and `instance` are added where they are missing.
    pub labels: Labels,
    /// Milliseconds since the epoch.
    pub t_ms: i64,
    /// When counting began, in milliseconds; 0 when unknown.
    pub start_ms: i64,
    /// The value.
    pub value: ReceivedValue,
}

/// Samples that arrived together.
#[derive(Clone, Debug, Default)]
pub struct ReceivedBatch {
    /// The source's name.
    pub source: Arc<str>,
    /// The samples in order.
    pub samples: Vec<ReceivedSample>,
    /// Traces that show a value of a series: its labels, their own labels, the value, milliseconds since the epoch.
    pub exemplars: Vec<(Labels, Labels, f64, i64)>,
    /// What the metrics are.
    pub metadata: Vec<FamilyMetadata>,
}

impl ReceivedBatch {
    /// Bytes that it holds, roughly.
    pub fn size(&self) -> usize {
        let sample = |sample: &ReceivedSample| {
            let histogram = match &sample.value {
                ReceivedValue::Histogram(held) | ReceivedValue::HistogramDelta(held) => {
                    200 + (held.positive.len() + held.negative.len()) * 8
                }
                ReceivedValue::Float(_) | ReceivedValue::End => 0,
            };
            64 + sample.labels.len() * 96 + histogram
        };
        self.samples.iter().map(sample).sum::<usize>() + self.metadata.len() * 200 + self.exemplars.len() * 500
    }
}
