//! `anchored` and `smoothed`: ranges that reach beyond their ends for a sample to begin or to interpolate with.

use super::rate::{RateKind, add, subtract};
use super::select::Window;
use crate::promql::ast::{Extension, Span};
use crate::promql::notes::{HistogramOperation, Notes};
use crate::series::histogram::IncompatibleSchema;
use crate::series::{FloatHistogram, FloatPoint, HistogramPoint, ResetHint};

/// The value at `t` on the line between two samples; a counter that was reset between them began at zero.
pub(super) fn interpolate(left: &FloatPoint, right: &FloatPoint, t: i64, counter: bool) -> f64 {
    let from = if counter && right.value < left.value { 0.0 } else { left.value };
    from + (right.value - from) * fraction(left.t_ms, right.t_ms, t)
}

fn fraction(left: i64, right: i64, t: i64) -> f64 {
    t.saturating_sub(left) as f64 / right.saturating_sub(left) as f64
}

/// The histogram at `t` between two samples.
///
/// # Errors
/// When one has exponential and the other custom buckets.
pub(super) fn interpolate_histograms(
    left: &HistogramPoint,
    right: &HistogramPoint,
    t: i64,
    counter: bool,
    notes: &mut Notes,
    span: Span,
) -> Result<FloatHistogram, IncompatibleSchema> {
    if t == left.t_ms {
        return Ok((*left.histogram).clone());
    }
    if t == right.t_ms {
        return Ok((*right.histogram).clone());
    }
    let part = fraction(left.t_ms, right.t_ms, t);
    if counter && right.histogram.is_reset_after(&left.histogram) {
        return Ok((*right.histogram).clone().scaled(part));
    }
    let (difference, subtracted) = right.histogram.minus(&left.histogram)?;
    if subtracted.bounds_reconciled {
        notes.bounds_reconciled(HistogramOperation::Subtraction, span);
    }
    let (result, added) = difference.scaled(part).plus(&left.histogram)?;
    if added.bounds_reconciled {
        notes.bounds_reconciled(HistogramOperation::Addition, span);
    }
    Ok(result)
}

/// The first and the last sample that matter; nothing when no sample is in the range.
fn ends(window: &Window<'_>, length: usize, time: impl Fn(usize) -> i64) -> Option<(usize, usize)> {
    let smoothed = window.extension == Extension::Smoothed;
    let mut last = length.checked_sub(1)?;
    let after = |limit: i64| (0..last).find(|at| time(*at) > limit).unwrap_or(last);
    let first = after(window.range_start).saturating_sub(1);
    if smoothed {
        last = after(window.range_end.saturating_sub(1));
    }
    if time(last) <= window.range_start || (smoothed && time(first) > window.range_end) {
        return None;
    }
    Some((first, last))
}

/// `rate`, `increase` and `delta` of floats over an extended range: nothing is extrapolated.
pub(super) fn extended_rate(window: &Window<'_>, kind: RateKind) -> Option<f64> {
    let floats = window.floats;
    let (mut first, last) = ends(window, floats.len(), |at| floats[at].t_ms)?;
    let smoothed = window.extension == Extension::Smoothed;
    let left = if smoothed && floats[first].t_ms < window.range_start {
        interpolate(&floats[first], floats.get(first + 1)?, window.range_start, kind.counter)
    } else {
        floats[first].value
    };
    let right = if smoothed && last > 0 && floats[last].t_ms > window.range_end {
        interpolate(&floats[last - 1], &floats[last], window.range_end, kind.counter)
    } else {
        floats[last].value
    };
    let mut result = right - left;
    if kind.counter {
        // Resets at the ends are in the interpolated values already.
        if floats[first].t_ms <= window.range_start {
            first += 1;
        }
        let end = if floats[last].t_ms >= window.range_end { last } else { last + 1 };
        let mut previous = left;
        for point in floats.get(first..end).unwrap_or_default() {
            if point.value < previous {
                result += previous;
            }
            previous = point.value;
        }
        if right < previous {
            result += previous;
        }
    }
    Some(if kind.per_second { result / window.range_seconds() } else { result })
}

/// The same for native histograms.
pub(super) fn extended_histogram_rate(
    window: &Window<'_>,
    kind: RateKind,
    notes: &mut Notes,
) -> Option<FloatHistogram> {
    let points = window.histograms;
    let (metric, span) = (window.metric(), window.span);
    let (first, last) = ends(window, points.len(), |at| points[at].t_ms)?;
    let custom = points[first].histogram.uses_custom_buckets();
    for point in &points[first..=last] {
        if point.histogram.uses_custom_buckets() != custom {
            notes.mixed_exponential_custom(metric, span);
            return None;
        }
        if kind.counter && point.histogram.reset_hint == ResetHint::Gauge {
            notes.not_a_counter(metric, span);
        }
    }
    let smoothed = window.extension == Extension::Smoothed;
    let between = |from: usize, to: usize, t: i64, notes: &mut Notes| match (points.get(from), points.get(to)) {
        (Some(from), Some(to)) => interpolate_histograms(from, to, t, kind.counter, notes, span).ok(),
        _ => None,
    };
    let left = if smoothed && points[first].t_ms < window.range_start {
        between(first, first + 1, window.range_start, notes)?
    } else {
        (*points[first].histogram).clone()
    };
    let right = if smoothed && last > 0 && points[last].t_ms > window.range_end {
        between(last - 1, last, window.range_end, notes)?
    } else {
        (*points[last].histogram).clone()
    };
    if !kind.counter && (left.reset_hint != ResetHint::Gauge || right.reset_hint != ResetHint::Gauge) {
        notes.not_a_gauge(metric, span);
    }
    let mut result = subtract(&right, &left, window, notes)?;
    if kind.counter {
        for lost in lost_in_resets(window, first, last, &left, &right) {
            result = add(&result, lost, window, notes)?;
        }
    }
    if kind.per_second {
        result = result.divided(window.range_seconds());
    }
    result.reset_hint = ResetHint::Gauge;
    Some(result.compacted())
}

/// What stood before each reset between the two ends.
fn lost_in_resets<'p>(
    window: &Window<'p>,
    first: usize,
    last: usize,
    left: &'p FloatHistogram,
    right: &FloatHistogram,
) -> Vec<&'p FloatHistogram> {
    let points = window.histograms;
    let (mut next, mut previous) = (first + 1, left);
    if window.extension == Extension::Smoothed
        && points[first].t_ms < window.range_start
        && let Some(second) = points.get(first + 1)
        && second.histogram.is_reset_after(&points[first].histogram)
    {
        // The interpolation on the left went through this reset.
        previous = &second.histogram;
        next += 1;
    }
    let mut lost = Vec::new();
    // The last sample is represented by the right end, which has inherited its hint.
    if next > last {
        return lost;
    }
    for point in &points[next..last] {
        if point.histogram.is_reset_after(previous) {
            lost.push(previous);
        }
        previous = &point.histogram;
    }
    if right.is_reset_after(previous) {
        lost.push(previous);
    }
    lost
}

/// Where `changes` and `resets` begin in an anchored range: the newest sample at or before its start stays, older ones go.
/// Nothing when no sample is in the range itself.
pub(super) fn anchored_start(window: &Window<'_>) -> Option<(usize, usize)> {
    if window.extension != Extension::Anchored {
        return Some((0, 0));
    }
    let start = window.range_start;
    let float = window.floats.partition_point(|point| point.t_ms <= start);
    let histogram = window.histograms.partition_point(|point| point.t_ms <= start);
    if float >= window.floats.len() && histogram >= window.histograms.len() {
        return None;
    }
    let float_t = float.checked_sub(1).map(|at| window.floats[at].t_ms);
    let histogram_t = histogram.checked_sub(1).map(|at| window.histograms[at].t_ms);
    Some(match (float_t, histogram_t) {
        (None, None) => (0, 0),
        (Some(_), None) => (float - 1, histogram),
        (Some(float_t), Some(histogram_t)) if float_t >= histogram_t => (float - 1, histogram),
        _ => (float, histogram - 1),
    })
}
