//! Native histograms with float counts (`model/histogram.FloatHistogram` of Prometheus).

mod accumulator;
mod buckets;
mod print;
mod resets;
mod trim;

pub use accumulator::{Accumulator, Combined, IncompatibleSchema};
pub use buckets::Bucket;
pub use print::ShortFloat;

use serde::{Deserialize, Serialize};

/// The schema of histograms whose bucket bounds are listed in `custom_values`.
pub const CUSTOM_BUCKETS_SCHEMA: i32 = -53;

/// A run of buckets: `offset` from the end of the previous run (for the first, from bucket 0), `length` buckets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "said above")]
pub struct Span {
    pub offset: i32,
    pub length: u32,
}

/// What is known about a counter reset before this sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names of Prometheus")]
pub enum ResetHint {
    #[default]
    Unknown,
    Reset,
    NotReset,
    Gauge,
}

/// A native histogram. Schema -4..=8 is exponential (base 2^(2^-schema)), -53 has custom bounds.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names of Prometheus")]
pub struct FloatHistogram {
    pub reset_hint: ResetHint,
    pub schema: i32,
    pub zero_threshold: f64,
    pub zero_count: f64,
    pub count: f64,
    pub sum: f64,
    pub positive_spans: Vec<Span>,
    pub negative_spans: Vec<Span>,
    pub positive_buckets: Vec<f64>,
    pub negative_buckets: Vec<f64>,
    pub custom_values: Vec<f64>,
}

impl FloatHistogram {
    /// Whether the bounds of the buckets are listed instead of computed.
    pub fn uses_custom_buckets(&self) -> bool {
        self.schema == CUSTOM_BUCKETS_SCHEMA
    }

    /// Multiplies every count and the sum; a negative factor makes a gauge of it.
    #[must_use]
    pub fn scaled(mut self, factor: f64) -> Self {
        self.zero_count *= factor;
        self.count *= factor;
        self.sum *= factor;
        for count in self.positive_buckets.iter_mut().chain(&mut self.negative_buckets) {
            *count *= factor;
        }
        if factor < 0.0 {
            self.reset_hint = ResetHint::Gauge;
        }
        self
    }

    /// Divides every count and the sum; a division by zero leaves no bucket.
    #[must_use]
    pub fn divided(mut self, divisor: f64) -> Self {
        self.zero_count /= divisor;
        self.count /= divisor;
        self.sum /= divisor;
        if divisor == 0.0 {
            self.positive_buckets.clear();
            self.negative_buckets.clear();
            self.positive_spans.clear();
            self.negative_spans.clear();
            return self;
        }
        for count in self.positive_buckets.iter_mut().chain(&mut self.negative_buckets) {
            *count /= divisor;
        }
        if divisor < 0.0 {
            self.reset_hint = ResetHint::Gauge;
        }
        self
    }

    /// Without empty buckets (`Compact(0)`).
    #[must_use]
    pub fn compacted(mut self) -> Self {
        compact_side(&mut self.positive_spans, &mut self.positive_buckets);
        compact_side(&mut self.negative_spans, &mut self.negative_buckets);
        self
    }

    /// The same histogram in a coarser (or the same) exponential schema. Custom buckets stay as they are.
    #[must_use]
    pub fn at_schema(&self, schema: i32) -> Self {
        if schema >= self.schema || self.uses_custom_buckets() {
            return self.clone();
        }
        let reduce = |spans: &[Span], counts: &[f64]| {
            let by = self.schema.saturating_sub(schema);
            let coarse = buckets::coarser(buckets::indexed(spans, counts), by, |into, count| *into += count);
            buckets::to_spans(&coarse)
        };
        let (positive_spans, positive_buckets) = reduce(&self.positive_spans, &self.positive_buckets);
        let (negative_spans, negative_buckets) = reduce(&self.negative_spans, &self.negative_buckets);
        Self { schema, positive_spans, positive_buckets, negative_spans, negative_buckets, ..self.clone() }
    }

    /// Whether some count or the sum has become infinite.
    pub fn has_overflow(&self) -> bool {
        self.zero_count.is_infinite()
            || self.count.is_infinite()
            || self.sum.is_infinite()
            || self.positive_buckets.iter().chain(&self.negative_buckets).any(|count| count.is_infinite())
    }

    /// `FloatHistogram.Equals` of Prometheus: everything but the reset hint, NaN equal to the same NaN,
    /// the bounds of custom buckets included.
    pub fn equals(&self, other: &Self) -> bool {
        fn same(a: f64, b: f64) -> bool {
            a.to_bits() == b.to_bits() || a == b
        }
        fn same_all(a: &[f64], b: &[f64]) -> bool {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(*a, *b))
        }
        fn same_side(a: (&[Span], &[f64]), b: (&[Span], &[f64])) -> bool {
            let indexes = |(spans, counts): (&[Span], &[f64])| -> Vec<i32> {
                buckets::indexed(spans, counts).map(|(index, _)| index).collect()
            };
            indexes(a) == indexes(b) && same_all(a.1, b.1)
        }
        self.schema == other.schema
            && same(self.count, other.count)
            && same(self.sum, other.sum)
            && (!self.uses_custom_buckets() || same_all(&self.custom_values, &other.custom_values))
            && same(self.zero_threshold, other.zero_threshold)
            && same(self.zero_count, other.zero_count)
            && same_side(
                (&self.negative_spans, &self.negative_buckets),
                (&other.negative_spans, &other.negative_buckets),
            )
            && same_side(
                (&self.positive_spans, &self.positive_buckets),
                (&other.positive_spans, &other.positive_buckets),
            )
    }

    /// How many float samples one of these weighs in the limit on samples (16 bytes a sample).
    pub fn weight_samples(&self) -> usize {
        let numbers = self.positive_buckets.len()
            + self.negative_buckets.len()
            + self.custom_values.len()
            + (self.positive_spans.len() + self.negative_spans.len());
        (numbers * 8 + 64) / 16 + 1
    }

    /// `self + other` (`FloatHistogram.Add`).
    ///
    /// # Errors
    /// When one has exponential and the other custom buckets.
    pub fn plus(&self, other: &Self) -> Result<(Self, Combined), IncompatibleSchema> {
        let mut accumulator = Accumulator::new(self);
        let combined = accumulator.add(other)?;
        Ok((accumulator.finish(), combined))
    }

    /// `self - other` (`FloatHistogram.Sub`).
    ///
    /// # Errors
    /// When one has exponential and the other custom buckets.
    pub fn minus(&self, other: &Self) -> Result<(Self, Combined), IncompatibleSchema> {
        let mut accumulator = Accumulator::new(self);
        let combined = accumulator.subtract(other)?;
        Ok((accumulator.finish(), combined))
    }
}

fn compact_side(spans: &mut Vec<Span>, counts: &mut Vec<f64>) {
    if !counts.contains(&0.0) && spans.iter().skip(1).all(|span| span.offset > 0) {
        spans.retain(|span| span.length > 0);
        if spans.len() <= 1 || spans.iter().skip(1).all(|span| span.offset > 0) {
            return;
        }
    }
    let kept: Vec<(i32, f64)> = buckets::indexed(spans, counts).filter(|(_, count)| *count != 0.0).collect();
    (*spans, *counts) = buckets::to_spans(&kept);
}
