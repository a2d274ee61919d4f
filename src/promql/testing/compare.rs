//! When a result counts as the expected one.

use crate::series::FloatHistogram;
use crate::series::data::is_stale;

/// How far two floats may be apart, as a part of their sum.
const TOLERANCE: f64 = 1e-6;

/// `almost.Equal` of Prometheus with a tolerance of 1e-6.
pub(crate) fn same_float(a: f64, b: f64) -> bool {
    if is_stale(a) || is_stale(b) {
        return is_stale(a) && is_stale(b);
    }
    if (a.is_nan() && b.is_nan()) || a == b {
        return true;
    }
    let (sum, difference) = (a.abs() + b.abs(), (a - b).abs());
    if a == 0.0 || b == 0.0 || sum < f64::MIN_POSITIVE {
        return difference < TOLERANCE * f64::MIN_POSITIVE;
    }
    difference / sum.min(f64::MAX) < TOLERANCE
}

fn same_floats(a: &[f64], b: &[f64]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same_float(*a, *b))
}

/// Whether two histograms are the same up to rounding, empty buckets left out; the reset hint matters on request.
pub fn same_histogram(expected: &FloatHistogram, found: &FloatHistogram, with_hint: bool) -> bool {
    let (a, b) = (expected.clone().compacted(), found.clone().compacted());
    (!with_hint || a.reset_hint == b.reset_hint)
        && a.schema == b.schema
        && same_float(a.count, b.count)
        && same_float(a.sum, b.sum)
        && a.zero_threshold == b.zero_threshold
        && same_float(a.zero_count, b.zero_count)
        && a.positive_spans == b.positive_spans
        && a.negative_spans == b.negative_spans
        && same_floats(&a.positive_buckets, &b.positive_buckets)
        && same_floats(&a.negative_buckets, &b.negative_buckets)
        && same_floats(&a.custom_values, &b.custom_values)
}
