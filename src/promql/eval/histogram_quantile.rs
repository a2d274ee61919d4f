//! Quantiles, fractions and variance of histograms, native and classic.

use super::{Collector, Evaluated, Evaluator, SampleRef, Series, Steps};
use crate::model::Labels;
use crate::promql::SampleValue;
use crate::promql::ast::{Call, Span};
use crate::promql::notes::{Monotonicity, Notes};
use crate::promql::number::{format_open_metrics, parse_float};
use crate::promql::plan::Frame;
use crate::series::{FloatHistogram, histogram::Bucket};
use std::collections::BTreeMap;

const BUCKET_LABEL: &str = "le";
/// Counts that differ by less than this part are the same, but for the rounding of floats.
const SMALL_DELTA: f64 = 1e-12;

/// A classic bucket: everything up to `upper`.
#[derive(Clone, Copy, Debug)]
struct Cumulative {
    upper: f64,
    count: f64,
}

/// What is asked of the histograms.
enum Question {
    Quantile,
    Quantiles(String),
    Fraction,
}

impl Evaluator<'_> {
    pub(super) fn histogram_call(&mut self, frame: Frame, call: &Call) -> Evaluated<Vec<Series>> {
        let (question, vector, scalars) = match call.function.name {
            "histogram_quantile" => (Question::Quantile, 1, 0..1),
            "histogram_fraction" => (Question::Fraction, 2, 0..2),
            _ => (Question::Quantiles(Self::text_argument(call, 1)?.value.clone()), 0, 2..call.args.len()),
        };
        let mut values: Vec<(Vec<f64>, Span)> = Vec::new();
        for at in scalars {
            let arg = Self::argument(call, at)?;
            values.push((self.scalar(frame, arg)?, arg.unwrapped().span()));
        }
        let arg = Self::argument(call, vector)?;
        let span_of_vector = arg.unwrapped().span();
        let matrix = self.matrix(frame, arg)?;
        let groups = Groups::new(&matrix, &mut self.notes, span_of_vector);
        let mut steps = Steps::new(&matrix);
        let mut collector = Collector::default();
        for (step, t_ms) in frame.times().enumerate() {
            let vector = steps.vector(t_ms);
            self.work(vector.len())?;
            self.account(values.len().saturating_mul(vector.len().min(groups.labels.len())))?;
            let histograms = groups.histograms(&vector, &mut self.notes, span_of_vector);
            let at = |scalar: usize| {
                values.get(scalar).and_then(|(values, _)| values.get(step)).copied().unwrap_or(f64::NAN)
            };
            if matches!(question, Question::Fraction) {
                for (labels, histogram) in &histograms {
                    let value = match histogram {
                        Input::Native(histogram) => {
                            native_fraction(at(0), at(1), histogram, labels, &mut self.notes, span_of_vector)
                        }
                        Input::Classic(buckets) => classic_fraction(at(0), at(1), buckets.clone()),
                    };
                    let place = collector.place(labels, true);
                    collector.push(place, t_ms, SampleValue::Float(value))?;
                }
                continue;
            }
            for (scalar, (_, span)) in values.iter().enumerate() {
                let wanted = at(scalar);
                if wanted.is_nan() || !(0.0..=1.0).contains(&wanted) {
                    self.notes.invalid_quantile(wanted, *span);
                }
                for (labels, histogram) in &histograms {
                    let value = match histogram {
                        Input::Native(histogram) => {
                            native_quantile(wanted, histogram, labels, &mut self.notes, span_of_vector)
                        }
                        Input::Classic(buckets) => {
                            let (value, forced) = classic_quantile(wanted, buckets.clone());
                            if let Some(forced) = forced {
                                let forced = Monotonicity { first_ms: t_ms, last_ms: t_ms, ..forced };
                                self.notes.forced_monotonicity(labels.metric_name(), forced, span_of_vector);
                            }
                            value
                        }
                    };
                    let place = match &question {
                        Question::Quantiles(label) => {
                            collector.place(&labels.with(label, &format_open_metrics(wanted)), true)
                        }
                        _ => collector.place(labels, true),
                    };
                    collector.push(place, t_ms, SampleValue::Float(value))?;
                }
            }
        }
        Ok(collector.finish())
    }
}

enum Input<'h> {
    Native(&'h FloatHistogram),
    Classic(Vec<Cumulative>),
}

/// Which series belong to one histogram.
struct Groups {
    /// Of each series: its group, and the bound when it is a classic bucket.
    members: Vec<(usize, Option<f64>)>,
    /// Of each group: its labels.
    labels: Vec<Labels>,
}

impl Groups {
    fn new(matrix: &[Series], notes: &mut Notes, span: Span) -> Self {
        let mut known: BTreeMap<Labels, usize> = BTreeMap::new();
        let mut groups = Self { members: Vec::with_capacity(matrix.len()), labels: Vec::new() };
        for series in matrix {
            let bucket = series.labels.get(BUCKET_LABEL);
            let bound = bucket.and_then(parse_float);
            if bound.is_none() && !series.floats.is_empty() {
                notes.bad_bucket_label(series.labels.metric_name(), bucket.unwrap_or(""), span);
            }
            // A native histogram with a label `le` is not the same histogram as the one without it.
            let without_bound = if series.floats.is_empty() {
                series.labels.clone()
            } else {
                series.labels.filtered(|name| name != BUCKET_LABEL)
            };
            let group = *known.entry(without_bound.clone()).or_insert_with(|| {
                groups.labels.push(without_bound);
                groups.labels.len() - 1
            });
            groups.members.push((group, bound));
        }
        groups
    }

    /// The histograms of a step; where a group has both kinds, neither can be trusted.
    fn histograms<'h>(
        &self,
        vector: &[(usize, SampleRef<'h>)],
        notes: &mut Notes,
        span: Span,
    ) -> Vec<(Labels, Input<'h>)> {
        let mut classic: BTreeMap<usize, Vec<Cumulative>> = BTreeMap::new();
        let mut native: Vec<(usize, &FloatHistogram)> = Vec::new();
        for (at, sample) in vector {
            let (group, bound) = self.members[*at];
            match (sample, bound) {
                (SampleRef::Histogram(histogram), _) => native.push((group, histogram)),
                (SampleRef::Float(count), Some(upper)) => {
                    classic.entry(group).or_default().push(Cumulative { upper, count: *count });
                }
                (SampleRef::Float(_), None) => {}
            }
        }
        let mut out = Vec::new();
        for (group, histogram) in native {
            let labels = &self.labels[group];
            if classic.remove(&group).is_some() {
                notes.mixed_classic_native(labels.metric_name(), span);
            } else {
                out.push((labels.clone(), Input::Native(histogram)));
            }
        }
        out.extend(classic.into_iter().map(|(group, buckets)| (self.labels[group].clone(), Input::Classic(buckets))));
        out
    }
}

/// Sorted buckets with one for each bound, ending at +Inf; nothing when the last bound is another.
fn tidy(mut buckets: Vec<Cumulative>) -> Option<Vec<Cumulative>> {
    buckets.sort_by(|a, b| a.upper.total_cmp(&b.upper));
    if buckets.last()?.upper != f64::INFINITY {
        return None;
    }
    let mut out: Vec<Cumulative> = Vec::with_capacity(buckets.len());
    for bucket in buckets {
        match out.last_mut() {
            Some(last) if last.upper == bucket.upper => last.count += bucket.count,
            _ => out.push(bucket),
        }
    }
    Some(out)
}

/// Whether two counts are the same but for rounding.
fn almost_equal(a: f64, b: f64, tolerance: f64) -> bool {
    if a == b {
        return true;
    }
    let (sum, difference) = (a.abs() + b.abs(), (a - b).abs());
    if a == 0.0 || b == 0.0 || sum < f64::MIN_POSITIVE {
        return difference < tolerance * f64::MIN_POSITIVE;
    }
    difference / sum.min(f64::MAX) < tolerance
}

/// Makes counts rise where they fall; says where that was more than rounding.
fn make_monotonic(buckets: &mut [Cumulative]) -> Option<Monotonicity> {
    let mut forced: Option<Monotonicity> = None;
    let mut before = buckets.first()?.count;
    for bucket in &mut buckets[1..] {
        if bucket.count == before {
            continue;
        }
        if almost_equal(before, bucket.count, SMALL_DELTA) {
            bucket.count = before;
        } else if bucket.count < before {
            let here = forced.get_or_insert(Monotonicity {
                min_bucket: bucket.upper,
                max_bucket: bucket.upper,
                max_difference: 0.0,
                first_ms: 0,
                last_ms: 0,
                samples: 1,
            });
            here.min_bucket = here.min_bucket.min(bucket.upper);
            here.max_bucket = here.max_bucket.max(bucket.upper);
            here.max_difference = here.max_difference.max(before - bucket.count);
            bucket.count = before;
        } else {
            before = bucket.count;
        }
    }
    forced
}

/// The quantile of a classic histogram, and whether its counts had to be corrected.
fn classic_quantile(wanted: f64, buckets: Vec<Cumulative>) -> (f64, Option<Monotonicity>) {
    if wanted.is_nan() {
        return (f64::NAN, None);
    }
    if wanted < 0.0 {
        return (f64::NEG_INFINITY, None);
    }
    if wanted > 1.0 {
        return (f64::INFINITY, None);
    }
    let Some(mut buckets) = tidy(buckets) else {
        return (f64::NAN, None);
    };
    let forced = make_monotonic(&mut buckets);
    let last = buckets.len() - 1;
    let observations = buckets[last].count;
    if last == 0 || observations == 0.0 || observations.is_nan() {
        return (f64::NAN, forced);
    }
    let mut rank = wanted * observations;
    let at = buckets[..last].partition_point(|bucket| bucket.count < rank);
    if at == last {
        return (buckets[last - 1].upper, forced);
    }
    let Cumulative { upper, mut count } = buckets[at];
    if at == 0 && upper <= 0.0 {
        return (upper, forced);
    }
    let mut start = 0.0;
    if let Some(before) = at.checked_sub(1).map(|before| buckets[before]) {
        start = before.upper;
        count -= before.count;
        rank -= before.count;
    }
    (start + (upper - start) * (rank / count), forced)
}

/// Where a value stands in a bucket that has no natural end.
fn rank_at_end(lower: f64, upper: f64, before: f64, count: f64) -> Option<f64> {
    if lower == f64::NEG_INFINITY {
        return Some(before + count);
    }
    (upper == f64::INFINITY).then_some(before)
}

fn classic_fraction(lower: f64, upper: f64, buckets: Vec<Cumulative>) -> f64 {
    let Some(buckets) = tidy(buckets) else {
        return f64::NAN;
    };
    let total = buckets.last().map_or(f64::NAN, |bucket| bucket.count);
    let mut start = f64::NEG_INFINITY;
    let mut before = 0.0;
    let intervals = buckets.iter().enumerate().map(|(at, bucket)| {
        // Observations are taken to be positive where the first bound is.
        let from = if at == 0 && bucket.upper > 0.0 { 0.0 } else { start };
        let interval = Interval { lower: from, upper: bucket.upper, count: bucket.count - before, linear: true };
        start = bucket.upper;
        before = bucket.count;
        interval
    });
    fraction(lower, upper, intervals.collect(), total, total)
}

/// A bucket as fractions see it.
struct Interval {
    lower: f64,
    upper: f64,
    count: f64,
    linear: bool,
}

impl Interval {
    /// The rank of a value inside.
    fn rank(&self, value: f64, before: f64) -> f64 {
        if let Some(rank) = rank_at_end(self.lower, self.upper, before, self.count) {
            return rank;
        }
        let part = if self.linear {
            (value - self.lower) / (self.upper - self.lower)
        } else {
            let (low, high, at) = (self.lower.abs().log2(), self.upper.abs().log2(), value.abs().log2());
            if value > 0.0 { (at - low) / (high - low) } else { 1.0 - (at - high) / (low - high) }
        };
        before + self.count * part
    }
}

/// The part of `total` between two values; ranks end at `observations`.
fn fraction(lower: f64, upper: f64, intervals: Vec<Interval>, observations: f64, total: f64) -> f64 {
    if total == 0.0 || lower.is_nan() || upper.is_nan() {
        return f64::NAN;
    }
    if lower >= upper {
        return 0.0;
    }
    let rank_of = |value: f64| {
        let mut before = 0.0;
        for interval in &intervals {
            if interval.lower >= value {
                return before;
            }
            if interval.upper > value {
                return f64::min(interval.rank(value, before), observations);
            }
            before += interval.count;
        }
        observations
    };
    (rank_of(upper) - rank_of(lower)) / total
}

/// The zero bucket of a histogram with observations on one side only ends at zero.
fn zero_ends(bucket: &mut Bucket, histogram: &FloatHistogram) {
    match (histogram.negative_buckets.is_empty(), histogram.positive_buckets.is_empty()) {
        (true, false) => bucket.lower = 0.0,
        (false, true) => bucket.upper = 0.0,
        _ => {}
    }
}

fn native_fraction(
    lower: f64,
    upper: f64,
    histogram: &FloatHistogram,
    labels: &Labels,
    notes: &mut Notes,
    span: Span,
) -> f64 {
    if histogram.count == 0.0 || lower.is_nan() || upper.is_nan() {
        return f64::NAN;
    }
    if lower >= upper {
        return 0.0;
    }
    let custom = histogram.uses_custom_buckets();
    let mut observations = 0.0;
    let intervals: Vec<Interval> = histogram
        .all_buckets()
        .into_iter()
        .map(|mut bucket| {
            let around_zero = bucket.lower <= 0.0 && bucket.upper >= 0.0;
            if !custom && around_zero {
                zero_ends(&mut bucket, histogram);
            } else if custom && bucket.lower == f64::NEG_INFINITY && bucket.upper > 0.0 {
                bucket.lower = 0.0;
            }
            observations += bucket.count;
            let Bucket { lower, upper, count, .. } = bucket;
            Interval { lower, upper, count, linear: custom || around_zero }
        })
        .collect();
    if histogram.sum.is_nan() {
        notes.fraction_nan(labels.metric_name(), span);
    } else {
        observations = histogram.count;
    }
    fraction(lower, upper, intervals, observations, histogram.count)
}

fn native_quantile(wanted: f64, histogram: &FloatHistogram, labels: &Labels, notes: &mut Notes, span: Span) -> f64 {
    if wanted < 0.0 {
        return f64::NEG_INFINITY;
    }
    if wanted > 1.0 {
        return f64::INFINITY;
    }
    if histogram.count == 0.0 || wanted.is_nan() {
        return f64::NAN;
    }
    let custom = histogram.uses_custom_buckets();
    // NaN observations are in no bucket, and count as higher than all: only the way up meets the right bucket then.
    let upwards = histogram.sum.is_nan() || wanted < 0.5;
    let mut rank = if upwards { wanted * histogram.count } else { (1.0 - wanted) * histogram.count };
    let mut buckets = histogram.all_buckets();
    if !upwards {
        buckets.reverse();
    }
    let mut count = 0.0;
    let mut bucket =
        Bucket { lower: 0.0, upper: 0.0, lower_inclusive: true, upper_inclusive: true, count: 0.0, index: 0 };
    for next in buckets.into_iter().filter(|bucket| bucket.count != 0.0) {
        bucket = next;
        count += bucket.count;
        if count >= rank {
            break;
        }
    }
    if !custom && bucket.lower < 0.0 && bucket.upper > 0.0 {
        zero_ends(&mut bucket, histogram);
    } else if custom && bucket.lower == f64::NEG_INFINITY {
        if bucket.upper <= 0.0 {
            return bucket.upper;
        }
        bucket.lower = 0.0;
    } else if custom && bucket.upper == f64::INFINITY {
        return bucket.lower;
    }
    count = count.min(histogram.count);
    if count < rank {
        if histogram.sum.is_nan() {
            notes.quantile_nan_result(labels.metric_name(), span);
            return f64::NAN;
        }
        return if upwards { bucket.upper } else { bucket.lower };
    }
    if histogram.sum.is_nan() {
        notes.quantile_nan_skew(labels.metric_name(), span);
    }
    rank = if upwards { rank - (count - bucket.count) } else { count - rank };
    let part = rank / bucket.count;
    if custom || (bucket.lower <= 0.0 && bucket.upper >= 0.0) {
        return bucket.lower + (bucket.upper - bucket.lower) * part;
    }
    let (low, high) = (bucket.lower.abs().log2(), bucket.upper.abs().log2());
    if bucket.lower > 0.0 {
        return (low + (high - low) * part).exp2();
    }
    -(high + (low - high) * (1.0 - part)).exp2()
}

/// The variance, every observation taken to stand in the middle of its bucket.
pub(super) fn variance(histogram: &FloatHistogram) -> f64 {
    let mean = histogram.sum / histogram.count;
    let (mut sum, mut lost) = (0.0, 0.0);
    for bucket in histogram.all_buckets().into_iter().filter(|bucket| bucket.count != 0.0) {
        let value = if histogram.uses_custom_buckets() {
            (bucket.upper + bucket.lower) / 2.0
        } else if bucket.lower <= 0.0 && bucket.upper >= 0.0 {
            0.0
        } else {
            let middle = (bucket.upper * bucket.lower).sqrt();
            if bucket.upper < 0.0 { -middle } else { middle }
        };
        let delta = value - mean;
        super::over_time::kahan(bucket.count * delta * delta, &mut sum, &mut lost);
    }
    (sum + lost) / histogram.count
}
