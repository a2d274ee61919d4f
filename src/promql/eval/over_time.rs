//! Functions over the samples of a range, other than rates.

use super::extended::anchored_start;
use super::quantiles::quantile;
use super::rate::is_start_reset;
use super::select::Window;
use super::{Evaluated, fail};
use crate::promql::SampleValue;
use crate::promql::notes::{HistogramOperation, Notes};
use crate::series::histogram::Accumulator;
use crate::series::{FloatHistogram, FloatPoint, HistogramPoint, ResetHint};
use std::sync::Arc;

/// One step of Kahan's summation in Neumaier's variant.
#[inline]
pub(super) fn kahan(increment: f64, sum: &mut f64, lost: &mut f64) {
    let total = *sum + increment;
    if total.is_infinite() {
        *lost = 0.0;
    } else if sum.abs() >= increment.abs() {
        *lost += (*sum - total) + increment;
    } else {
        *lost += (increment - total) + *sum;
    }
    *sum = total;
}

fn ignored_histograms(window: &Window<'_>, notes: &mut Notes) {
    if !window.histograms.is_empty() {
        notes.histogram_ignored_in_mixed_range(window.metric(), window.span);
    }
}

/// Sums and averages take floats or histograms, not both.
fn is_mixed(window: &Window<'_>, notes: &mut Notes) -> bool {
    let mixed = !window.floats.is_empty() && !window.histograms.is_empty();
    if mixed {
        notes.mixed_floats_histograms(window.metric(), window.span);
    }
    mixed
}

pub(super) fn sum(window: &Window<'_>, notes: &mut Notes) -> Option<SampleValue> {
    if is_mixed(window, notes) {
        return None;
    }
    if window.floats.is_empty() {
        return histogram_total(window, false, notes);
    }
    let (mut sum, mut lost) = (0.0, 0.0);
    for point in window.floats {
        kahan(point.value, &mut sum, &mut lost);
    }
    Some(SampleValue::Float(if sum.is_infinite() { sum } else { sum + lost }))
}

pub(super) fn average(window: &Window<'_>, notes: &mut Notes) -> Option<SampleValue> {
    if is_mixed(window, notes) {
        return None;
    }
    let Some((first, rest)) = window.floats.split_first() else {
        return histogram_total(window, true, notes);
    };
    let mut mean = Mean::new(first.value);
    for point in rest {
        mean.add(point.value);
    }
    Some(SampleValue::Float(mean.result()))
}

/// A mean that is computed from the sum as long as the sum does not overflow, and incrementally after that.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mean {
    pub value: f64,
    pub lost: f64,
    pub count: u32,
    pub incremental: bool,
}

impl Mean {
    pub fn new(value: f64) -> Self {
        Self { value, lost: 0.0, count: 1, incremental: false }
    }

    #[inline]
    pub fn add(&mut self, value: f64) {
        self.count = self.count.saturating_add(1);
        let count = f64::from(self.count);
        if !self.incremental {
            let (mut sum, mut lost) = (self.value, self.lost);
            kahan(value, &mut sum, &mut lost);
            if !sum.is_infinite() {
                (self.value, self.lost) = (sum, lost);
                return;
            }
            self.incremental = true;
            self.value /= count - 1.0;
            self.lost /= count - 1.0;
        }
        let part = (count - 1.0) / count;
        self.value *= part;
        self.lost *= part;
        kahan(value / count, &mut self.value, &mut self.lost);
    }

    pub fn result(self) -> f64 {
        let count = f64::from(self.count);
        if self.incremental { self.value + self.lost } else { self.value / count + self.lost / count }
    }
}

fn histogram_total(window: &Window<'_>, mean: bool, notes: &mut Notes) -> Option<SampleValue> {
    let (first, rest) = window.histograms.split_first()?;
    let mut total = HistogramMean::new(&first.histogram);
    for point in rest {
        if total.add(&point.histogram, mean).is_err() {
            notes.mixed_exponential_custom(window.metric(), window.span);
            return None;
        }
    }
    if total.reset_seen && total.no_reset_seen {
        notes.reset_collision(HistogramOperation::Aggregation, window.span);
    }
    if total.reconciled {
        notes.bounds_reconciled(HistogramOperation::Aggregation, window.span);
    }
    Some(SampleValue::Histogram(Arc::new(total.result(mean))))
}

/// The sum or the mean of histograms, with the same care as [`Mean`].
#[derive(Clone, Debug)]
pub(super) struct HistogramMean {
    total: Accumulator,
    count: f64,
    incremental: bool,
    pub reset_seen: bool,
    pub no_reset_seen: bool,
    pub reconciled: bool,
}

impl HistogramMean {
    pub fn new(histogram: &FloatHistogram) -> Self {
        let mut new = Self {
            total: Accumulator::new(histogram),
            count: 1.0,
            incremental: false,
            reset_seen: false,
            no_reset_seen: false,
            reconciled: false,
        };
        new.see(histogram);
        new
    }

    fn see(&mut self, histogram: &FloatHistogram) {
        self.reset_seen |= histogram.reset_hint == ResetHint::Reset;
        self.no_reset_seen |= histogram.reset_hint == ResetHint::NotReset;
    }

    pub fn add(
        &mut self,
        histogram: &FloatHistogram,
        mean: bool,
    ) -> Result<(), crate::series::histogram::IncompatibleSchema> {
        self.see(histogram);
        self.count += 1.0;
        if !mean {
            self.reconciled |= self.total.add(histogram)?.bounds_reconciled;
            return Ok(());
        }
        if !self.incremental && (self.total.largest() + histogram.largest()).is_finite() {
            self.reconciled |= self.total.add(histogram)?.bounds_reconciled;
            return Ok(());
        }
        if !self.incremental {
            let mut next = self.total.clone();
            let combined = next.add(histogram)?;
            if !next.has_overflow() {
                self.reconciled |= combined.bounds_reconciled;
                self.total = next;
                return Ok(());
            }
            self.incremental = true;
            self.total.scale(1.0 / (self.count - 1.0));
        }
        self.total.scale((self.count - 1.0) / self.count);
        self.reconciled |= self.total.add(&histogram.clone().divided(self.count))?.bounds_reconciled;
        Ok(())
    }

    pub fn result(&self, mean: bool) -> FloatHistogram {
        let result = self.total.finish();
        if mean && !self.incremental { result.divided(self.count) } else { result }
    }
}

/// `max_over_time` and the like: the value that `better` prefers, or when it was.
pub(super) fn best(
    window: &Window<'_>,
    notes: &mut Notes,
    as_time: bool,
    better: fn(f64, f64) -> bool,
) -> Option<SampleValue> {
    let mut best = *window.floats.first()?;
    ignored_histograms(window, notes);
    for point in window.floats {
        if better(point.value, best.value) || best.value.is_nan() {
            best = *point;
        }
    }
    Some(SampleValue::Float(if as_time { best.t_ms as f64 / 1000.0 } else { best.value }))
}

/// `first_over_time` and `last_over_time`.
pub(super) fn end_sample(window: &Window<'_>, last: bool) -> Option<SampleValue> {
    let (float, histogram) = if last {
        (window.floats.last(), window.histograms.last())
    } else {
        (window.floats.first(), window.histograms.first())
    };
    let float_wins = match (float, histogram) {
        (Some(float), Some(histogram)) => (float.t_ms > histogram.t_ms) == last && float.t_ms != histogram.t_ms,
        (float, _) => float.is_some(),
    };
    if float_wins {
        float.map(|point| SampleValue::Float(point.value))
    } else {
        histogram.map(|point| SampleValue::Histogram(Arc::clone(&point.histogram)))
    }
}

/// `ts_of_first_over_time` and `ts_of_last_over_time`.
pub(super) fn end_time(window: &Window<'_>, last: bool) -> Option<SampleValue> {
    let times = if last {
        [window.floats.last().map(|point| point.t_ms), window.histograms.last().map(|point| point.t_ms)]
    } else {
        [window.floats.first().map(|point| point.t_ms), window.histograms.first().map(|point| point.t_ms)]
    };
    let times = times.into_iter().flatten();
    let time = if last { times.max() } else { times.min() };
    time.map(|t_ms| SampleValue::Float(t_ms as f64 / 1000.0))
}

pub(super) fn median_deviation(window: &Window<'_>, notes: &mut Notes) -> Option<SampleValue> {
    if window.floats.is_empty() {
        return None;
    }
    ignored_histograms(window, notes);
    let mut values: Vec<f64> = window.floats.iter().map(|point| point.value).collect();
    if values.iter().any(|value| value.is_nan()) {
        return Some(SampleValue::Float(f64::NAN));
    }
    let median = quantile(0.5, &mut values);
    values.iter_mut().for_each(|value| *value = (*value - median).abs());
    Some(SampleValue::Float(quantile(0.5, &mut values)))
}

pub(super) fn quantile_over_time(
    window: &Window<'_>,
    wanted: f64,
    notes: &mut Notes,
    place: crate::promql::ast::Span,
) -> Option<SampleValue> {
    if window.floats.is_empty() {
        return None;
    }
    if wanted.is_nan() || !(0.0..=1.0).contains(&wanted) {
        notes.invalid_quantile(wanted, place);
    }
    if !window.histograms.is_empty() {
        notes.histogram_ignored_in_mixed_range(window.metric(), place);
    }
    let mut values: Vec<f64> = window.floats.iter().map(|point| point.value).collect();
    Some(SampleValue::Float(quantile(wanted, &mut values)))
}

pub(super) fn variance(window: &Window<'_>, notes: &mut Notes, root: bool) -> Option<SampleValue> {
    if window.floats.is_empty() {
        return None;
    }
    ignored_histograms(window, notes);
    let (mut count, mut mean, mut mean_lost, mut sum, mut sum_lost) = (0.0, 0.0, 0.0, 0.0, 0.0);
    for point in window.floats {
        count += 1.0;
        let delta = point.value - (mean + mean_lost);
        kahan(delta / count, &mut mean, &mut mean_lost);
        kahan(delta * (point.value - (mean + mean_lost)), &mut sum, &mut sum_lost);
    }
    let variance = (sum + sum_lost) / count;
    Some(SampleValue::Float(if root { variance.sqrt() } else { variance }))
}

/// The samples of both kinds in order of time, from the places on that [`anchored_start`] names.
enum Mixed<'p> {
    Float(&'p FloatPoint),
    Histogram(&'p HistogramPoint),
}

fn in_order<'p>(window: &Window<'p>) -> Option<Vec<Mixed<'p>>> {
    if window.is_empty() {
        return None;
    }
    let (float, histogram) = anchored_start(window)?;
    let mut all: Vec<Mixed<'p>> = window.floats[float..].iter().map(Mixed::Float).collect();
    if histogram < window.histograms.len() {
        all.extend(window.histograms[histogram..].iter().map(Mixed::Histogram));
        all.sort_by_key(|sample| match sample {
            Mixed::Float(point) => point.t_ms,
            Mixed::Histogram(point) => point.t_ms,
        });
    }
    Some(all)
}

fn count_pairs(samples: &[Mixed<'_>], differs: impl Fn(&Mixed<'_>, &Mixed<'_>) -> bool) -> SampleValue {
    SampleValue::Float(samples.windows(2).filter(|pair| differs(&pair[0], &pair[1])).count() as f64)
}

pub(super) fn resets(window: &Window<'_>) -> Option<SampleValue> {
    Some(count_pairs(&in_order(window)?, |before, now| match (before, now) {
        (Mixed::Float(before), Mixed::Float(now)) => {
            now.value < before.value || is_start_reset(before.start_ms, before.t_ms, now.start_ms, now.t_ms)
        }
        (Mixed::Histogram(before), Mixed::Histogram(now)) => {
            is_start_reset(before.start_ms, before.t_ms, now.start_ms, now.t_ms)
                || now.histogram.is_reset_after(&before.histogram)
        }
        _ => true,
    }))
}

pub(super) fn changes(window: &Window<'_>) -> Option<SampleValue> {
    Some(count_pairs(&in_order(window)?, |before, now| match (before, now) {
        (Mixed::Float(before), Mixed::Float(now)) => {
            now.value != before.value && !(now.value.is_nan() && before.value.is_nan())
        }
        (Mixed::Histogram(before), Mixed::Histogram(now)) => !now.histogram.equals(&before.histogram),
        _ => true,
    }))
}

/// Slope and intercept of the line through the samples; times count from `origin`.
fn regression(floats: &[FloatPoint], origin: i64) -> (f64, f64) {
    let first = floats.first().map_or(f64::NAN, |point| point.value);
    if floats.iter().all(|point| point.value == first) {
        return if first.is_infinite() { (f64::NAN, f64::NAN) } else { (0.0, first) };
    }
    let n = floats.len() as f64;
    let (mut x_sum, mut y_sum, mut xy_sum, mut xx_sum) = ((0.0, 0.0), (0.0, 0.0), (0.0, 0.0), (0.0, 0.0));
    for point in floats {
        let x = point.t_ms.saturating_sub(origin) as f64 / 1e3;
        kahan(x, &mut x_sum.0, &mut x_sum.1);
        kahan(point.value, &mut y_sum.0, &mut y_sum.1);
        kahan(x * point.value, &mut xy_sum.0, &mut xy_sum.1);
        kahan(x * x, &mut xx_sum.0, &mut xx_sum.1);
    }
    let [x, y, xy, xx] = [x_sum, y_sum, xy_sum, xx_sum].map(|(sum, lost)| sum + lost);
    let slope = (xy - x * y / n) / (xx - x * x / n);
    (slope, y / n - slope * x / n)
}

/// Whether there are the two floats that a line needs; says so when histograms are left out.
fn has_line(window: &Window<'_>, notes: &mut Notes) -> bool {
    if !window.floats.is_empty() {
        ignored_histograms(window, notes);
    }
    window.floats.len() >= 2
}

pub(super) fn derivative(window: &Window<'_>, notes: &mut Notes) -> Option<SampleValue> {
    if !has_line(window, notes) {
        return None;
    }
    // An origin near the samples keeps the precision.
    Some(SampleValue::Float(regression(window.floats, window.floats[0].t_ms).0))
}

pub(super) fn predict_linear(window: &Window<'_>, seconds: f64, notes: &mut Notes) -> Option<SampleValue> {
    if !has_line(window, notes) {
        return None;
    }
    let (slope, intercept) = regression(window.floats, window.now);
    Some(SampleValue::Float(slope * seconds + intercept))
}

pub(super) fn double_exponential_smoothing(
    window: &Window<'_>,
    smoothing: f64,
    trend: f64,
    notes: &mut Notes,
) -> Evaluated<Option<SampleValue>> {
    if smoothing <= 0.0 || smoothing >= 1.0 {
        return fail(format!("invalid smoothing factor. Expected: 0 < sf < 1, got: {smoothing:.6}"));
    }
    if trend <= 0.0 || trend >= 1.0 {
        return fail(format!("invalid trend factor. Expected: 0 < tf < 1, got: {trend:.6}"));
    }
    if !has_line(window, notes) {
        return Ok(None);
    }
    let floats = window.floats;
    let (mut before, mut now) = (0.0, floats[0].value);
    let mut slope = floats[1].value - floats[0].value;
    for (at, point) in floats.iter().enumerate().skip(1) {
        if at > 1 {
            slope = trend * (now - before) + (1.0 - trend) * slope;
        }
        let value = smoothing * point.value + (1.0 - smoothing) * (now + slope);
        (before, now) = (now, value);
    }
    Ok(Some(SampleValue::Float(now)))
}
