//! Adding and subtracting histograms, with Kahan's compensation in every number, so that a sum of many loses nothing.

use super::buckets::{coarser, custom_bound, exponential_bound, indexed, to_spans};
use super::{FloatHistogram, ResetHint, Span};

/// What a combination of two histograms had to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Combined {
    /// One operand claims a counter reset, the other claims that there was none.
    pub reset_collision: bool,
    /// The operands have different custom bounds; only the bounds they share are left.
    pub bounds_reconciled: bool,
}

/// Exponential and custom buckets do not mix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot operate on custom buckets and exponential histograms")]
pub struct IncompatibleSchema;

/// A number with the part that its rounding lost.
#[derive(Clone, Copy, Debug, Default)]
struct Compensated {
    value: f64,
    lost: f64,
}

impl Compensated {
    fn new(value: f64) -> Self {
        Self { value, lost: 0.0 }
    }

    /// Neumaier's variant of Kahan's summation.
    fn add(&mut self, increment: f64) {
        let total = self.value + increment;
        if total.is_infinite() {
            self.lost = 0.0;
        } else if self.value.abs() >= increment.abs() {
            self.lost += (self.value - total) + increment;
        } else {
            self.lost += (increment - total) + self.value;
        }
        self.value = total;
    }

    fn merge(&mut self, other: Self) {
        self.add(other.value);
        self.lost += other.lost;
    }

    fn scale(&mut self, factor: f64) {
        self.value *= factor;
        self.lost *= factor;
    }

    fn total(self) -> f64 {
        if self.value.is_infinite() { self.value } else { self.value + self.lost }
    }
}

type Side = Vec<(i32, Compensated)>;

/// A histogram that others are added to.
#[derive(Clone, Debug)]
pub struct Accumulator {
    reset_hint: ResetHint,
    schema: i32,
    zero_threshold: f64,
    zero_count: Compensated,
    count: Compensated,
    sum: Compensated,
    positive: Side,
    negative: Side,
    custom_values: Vec<f64>,
    custom: bool,
}

impl Accumulator {
    /// Begins with a histogram.
    pub fn new(histogram: &FloatHistogram) -> Self {
        let side = |spans: &[Span], counts: &[f64]| {
            indexed(spans, counts).map(|(index, count)| (index, Compensated::new(count))).collect()
        };
        Self {
            reset_hint: histogram.reset_hint,
            schema: histogram.schema,
            zero_threshold: histogram.zero_threshold,
            zero_count: Compensated::new(histogram.zero_count),
            count: Compensated::new(histogram.count),
            sum: Compensated::new(histogram.sum),
            positive: side(&histogram.positive_spans, &histogram.positive_buckets),
            negative: side(&histogram.negative_spans, &histogram.negative_buckets),
            custom_values: histogram.custom_values.clone(),
            custom: histogram.uses_custom_buckets(),
        }
    }

    /// Adds a histogram; the coarser schema and the wider zero bucket win.
    ///
    /// # Errors
    /// When one has exponential and the other custom buckets; nothing has changed then.
    pub fn add(&mut self, other: &FloatHistogram) -> Result<Combined, IncompatibleSchema> {
        self.combine(other, 1.0)
    }

    /// Subtracts a histogram.
    ///
    /// # Errors
    /// As [`Accumulator::add`].
    pub fn subtract(&mut self, other: &FloatHistogram) -> Result<Combined, IncompatibleSchema> {
        self.combine(other, -1.0)
    }

    /// Multiplies everything.
    pub fn scale(&mut self, factor: f64) {
        for number in [&mut self.zero_count, &mut self.count, &mut self.sum] {
            number.scale(factor);
        }
        for (_, number) in self.positive.iter_mut().chain(&mut self.negative) {
            number.scale(factor);
        }
    }

    /// Whether some number has become infinite.
    pub fn has_overflow(&self) -> bool {
        [self.zero_count, self.count, self.sum].iter().any(|number| number.value.is_infinite())
            || self.positive.iter().chain(&self.negative).any(|(_, number)| number.value.is_infinite())
    }

    /// The greatest absolute value among the numbers; NaN or infinite when some number is.
    pub fn largest(&self) -> f64 {
        let buckets = self.positive.iter().chain(&self.negative).map(|(_, number)| number.value);
        buckets.fold(largest_of(self.zero_count.value, self.count.value, self.sum.value), larger)
    }

    /// The result, compensation applied.
    pub fn finish(&self) -> FloatHistogram {
        let side = |side: &Side| {
            let totals: Vec<(i32, f64)> = side.iter().map(|(index, number)| (*index, number.total())).collect();
            to_spans(&totals)
        };
        let (positive_spans, positive_buckets) = side(&self.positive);
        let (negative_spans, negative_buckets) = side(&self.negative);
        FloatHistogram {
            reset_hint: self.reset_hint,
            schema: self.schema,
            zero_threshold: self.zero_threshold,
            zero_count: self.zero_count.total(),
            count: self.count.total(),
            sum: self.sum.total(),
            positive_spans,
            negative_spans,
            positive_buckets,
            negative_buckets,
            custom_values: self.custom_values.clone(),
        }
    }

    fn combine(&mut self, other: &FloatHistogram, sign: f64) -> Result<Combined, IncompatibleSchema> {
        if self.custom != other.uses_custom_buckets() {
            return Err(IncompatibleSchema);
        }
        let mut combined =
            Combined { reset_collision: self.adjust_reset_hint(other.reset_hint), ..Combined::default() };
        if !self.custom {
            let zero_count = self.reconcile_zero_buckets(other);
            self.zero_count.add(sign * zero_count);
        }
        self.count.add(sign * other.count);
        self.sum.add(sign * other.sum);
        if self.custom {
            if same_bounds(&self.custom_values, &other.custom_values) {
                merge_side(&mut self.positive, indexed(&other.positive_spans, &other.positive_buckets), sign);
            } else {
                combined.bounds_reconciled = true;
                self.reconcile_bounds(other, sign);
            }
            return Ok(combined);
        }
        let schema = self.schema.min(other.schema);
        if schema < self.schema {
            let by = self.schema - schema;
            for side in [&mut self.positive, &mut self.negative] {
                *side = coarser(std::mem::take(side).into_iter(), by, Compensated::merge);
            }
            self.schema = schema;
        }
        let (by, threshold) = (other.schema - schema, self.zero_threshold);
        for (side, spans, counts) in [
            (&mut self.positive, &other.positive_spans, &other.positive_buckets),
            (&mut self.negative, &other.negative_spans, &other.negative_buckets),
        ] {
            let reduced = coarser(indexed(spans, counts), by, |into: &mut f64, count| *into += count);
            let above = reduced.into_iter().skip_while(|(index, _)| exponential_bound(*index, schema) <= threshold);
            merge_side(side, above, sign);
        }
        Ok(combined)
    }

    /// `adjustCounterReset`: whether the hints contradict each other.
    fn adjust_reset_hint(&mut self, other: ResetHint) -> bool {
        match (self.reset_hint, other) {
            (a, b) if a == b => {}
            (ResetHint::Gauge, _) | (ResetHint::Unknown, ResetHint::Reset | ResetHint::NotReset) => {}
            (_, ResetHint::Gauge) => self.reset_hint = ResetHint::Gauge,
            (_, ResetHint::Unknown) => self.reset_hint = ResetHint::Unknown,
            _ => {
                self.reset_hint = ResetHint::Unknown;
                return true;
            }
        }
        false
    }

    /// Widens the zero bucket until both have the same one; returns the other's count in it.
    fn reconcile_zero_buckets(&mut self, other: &FloatHistogram) -> f64 {
        let (mut count, mut threshold) = (other.zero_count, other.zero_threshold);
        // Each round widens one of the two to a bucket bound of the other, which ends after a few rounds; NaN ends at once.
        while threshold != self.zero_threshold && threshold.is_finite() && self.zero_threshold.is_finite() {
            if self.zero_threshold > threshold {
                (count, threshold) = other.zero_count_for_threshold(self.zero_threshold);
            }
            if threshold > self.zero_threshold {
                let (_, widened) = self.finish().zero_count_for_threshold(threshold);
                self.widen_zero_bucket(widened);
            }
        }
        count
    }

    fn widen_zero_bucket(&mut self, threshold: f64) {
        for side in [&mut self.positive, &mut self.negative] {
            let inside = side
                .iter()
                .take_while(|(index, _)| exponential_bound(index.saturating_sub(1), self.schema) < threshold)
                .count();
            for (_, number) in side.drain(..inside) {
                self.zero_count.merge(number);
            }
        }
        self.zero_threshold = threshold;
    }

    /// Keeps only the bounds that both have, and moves every bucket to the shared bound at or above its own.
    fn reconcile_bounds(&mut self, other: &FloatHistogram, sign: f64) {
        let shared = shared_bounds(&self.custom_values, &other.custom_values);
        let own_bounds = std::mem::replace(&mut self.custom_values, shared);
        let mut side: Vec<Compensated> = vec![Compensated::default(); self.custom_values.len() + 1];
        for (index, number) in std::mem::take(&mut self.positive) {
            side[shared_index(custom_bound(index, &own_bounds), &self.custom_values)].merge(number);
        }
        for (index, count) in indexed(&other.positive_spans, &other.positive_buckets) {
            side[shared_index(custom_bound(index, &other.custom_values), &self.custom_values)].add(sign * count);
        }
        self.positive = (0_i32..).zip(side).filter(|(_, number)| number.total() != 0.0).collect();
    }
}

fn larger(largest: f64, value: f64) -> f64 {
    if value.abs() > largest || value.is_nan() { value.abs() } else { largest }
}

fn largest_of(zero_count: f64, count: f64, sum: f64) -> f64 {
    [zero_count, count, sum].into_iter().fold(0.0, larger)
}

/// Whether two lists of custom bounds are the same.
pub(super) fn same_bounds(a: &[f64], b: &[f64]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a == b)
}

/// The bounds that are in both lists (each sorted).
pub(super) fn shared_bounds(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().copied().filter(|bound| b.contains(bound)).collect()
}

/// The bucket of `shared` into which a bucket with this upper bound goes.
pub(super) fn shared_index(upper: f64, shared: &[f64]) -> usize {
    shared.partition_point(|bound| *bound < upper)
}

fn merge_side(side: &mut Side, other: impl Iterator<Item = (i32, f64)>, sign: f64) {
    let mut at = 0;
    for (index, count) in other {
        while side.get(at).is_some_and(|(own, _)| *own < index) {
            at += 1;
        }
        match side.get_mut(at) {
            Some((own, number)) if *own == index => number.add(sign * count),
            _ => side.insert(at, (index, Compensated::new(sign * count))),
        }
    }
}

impl FloatHistogram {
    /// The greatest absolute value among the numbers; NaN or infinite when some number is.
    pub fn largest(&self) -> f64 {
        let buckets = self.positive_buckets.iter().chain(&self.negative_buckets).copied();
        buckets.fold(largest_of(self.zero_count, self.count, self.sum), larger)
    }

    /// The count of a zero bucket widened to `threshold`, and the threshold itself, moved up to the end of a populated
    /// bucket that it would cut.
    pub(super) fn zero_count_for_threshold(&self, threshold: f64) -> (f64, f64) {
        let mut threshold = threshold;
        'again: loop {
            let mut count = self.zero_count;
            for bucket in self.positive() {
                if bucket.lower >= threshold {
                    break;
                }
                count += bucket.count;
                if bucket.upper > threshold {
                    if bucket.count != 0.0 {
                        threshold = bucket.upper;
                    }
                    break;
                }
            }
            for bucket in self.negative() {
                if bucket.upper <= -threshold {
                    break;
                }
                count += bucket.count;
                if bucket.lower < -threshold {
                    if bucket.count != 0.0 {
                        threshold = -bucket.lower;
                        continue 'again;
                    }
                    break;
                }
            }
            return (count, threshold);
        }
    }
}
