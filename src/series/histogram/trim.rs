//! The operators `</` and `>/`: a histogram without the observations above or below a value.
//!
//! The bucket that the value cuts is interpolated as in quantiles; the sum is estimated anew from the middles of the buckets.

use super::{Bucket, FloatHistogram};

/// Which observations stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keep {
    Below,
    Above,
}

/// How a bucket is interpolated.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scale {
    Linear,
    /// Exponential, above zero.
    Positive,
    /// Exponential, below zero.
    Negative,
}

impl FloatHistogram {
    /// Only the observations below `limit`.
    #[must_use]
    pub fn trimmed_above(&self, limit: f64) -> Self {
        self.trimmed(limit, Keep::Below)
    }

    /// Only the observations above `limit`.
    #[must_use]
    pub fn trimmed_below(&self, limit: f64) -> Self {
        self.trimmed(limit, Keep::Above)
    }

    fn trimmed(&self, limit: f64, keep: Keep) -> Self {
        let mut out = self.clone();
        let (mut count, mut sum, mut changed) = (0.0, 0.0, false);
        let positive_scale = if self.uses_custom_buckets() { Scale::Linear } else { Scale::Positive };
        for (buckets, counts, scale) in [
            (self.positive().collect::<Vec<_>>(), &mut out.positive_buckets, positive_scale),
            (self.negative().collect(), &mut out.negative_buckets, Scale::Negative),
        ] {
            for (bucket, left) in buckets.iter().zip(counts) {
                if bucket.count == 0.0 {
                    continue;
                }
                let (kept, middle) = part_of_bucket(bucket, limit, keep, scale);
                count += kept;
                sum += middle * kept;
                if *left != kept {
                    *left = kept;
                    changed = true;
                }
            }
        }
        if self.zero_count > 0.0 {
            let populated = |counts: &[f64]| counts.iter().any(|count| *count != 0.0);
            let (kept, middle) = part_of_zero_bucket(
                &self.zero_bucket(),
                limit,
                keep,
                populated(&self.negative_buckets),
                populated(&self.positive_buckets),
            );
            if out.zero_count != kept {
                out.zero_count = kept;
                changed = true;
            }
            count += kept;
            sum += middle * kept;
        }
        if !changed {
            return out;
        }
        out.count = count;
        out.sum = sum;
        out.compacted()
    }
}

/// The count that stays and the middle of the interval that stays.
fn part_of_bucket(bucket: &Bucket, limit: f64, keep: Keep, scale: Scale) -> (f64, f64) {
    let (all, none) = match keep {
        Keep::Below => (bucket.upper <= limit, bucket.lower >= limit || limit.is_nan()),
        Keep::Above => (bucket.lower >= limit, bucket.upper <= limit || limit.is_nan()),
    };
    if all {
        return (bucket.count, middle(bucket.lower, bucket.upper, scale));
    }
    if none {
        return (0.0, 0.0);
    }
    if bucket.lower == f64::NEG_INFINITY || bucket.upper == f64::INFINITY {
        return part_of_endless_bucket(bucket, limit, keep);
    }
    let below = bucket.count * fraction_below(bucket, limit, scale);
    match keep {
        Keep::Below => (below, middle(bucket.lower, limit, scale)),
        Keep::Above => (bucket.count - below, middle(limit, bucket.upper, scale)),
    }
}

/// Where nothing is known about the distribution, the whole bucket goes, unless zero is a natural end of it.
fn part_of_endless_bucket(bucket: &Bucket, limit: f64, keep: Keep) -> (f64, f64) {
    let finite = |bound: f64| if bound.is_infinite() { 0.0 } else { bound };
    if bucket.lower == f64::NEG_INFINITY {
        return match keep {
            Keep::Below if limit > 0.0 && bucket.upper > 0.0 && bucket.upper.is_finite() => {
                (bucket.count * limit / bucket.upper, limit / 2.0)
            }
            Keep::Below if bucket.upper <= 0.0 => (bucket.count, limit),
            Keep::Above if limit >= 0.0 && bucket.upper > limit && bucket.upper.is_finite() => {
                (bucket.count * (1.0 - limit / bucket.upper), (limit + bucket.upper) / 2.0)
            }
            Keep::Below | Keep::Above => (0.0, finite(bucket.upper)),
        };
    }
    match keep {
        Keep::Above if limit >= bucket.lower => (bucket.count, limit),
        Keep::Below | Keep::Above => (0.0, finite(bucket.lower)),
    }
}

fn part_of_zero_bucket(zero: &Bucket, limit: f64, keep: Keep, has_negative: bool, has_positive: bool) -> (f64, f64) {
    // A histogram with observations on one side only is taken to have none on the other.
    let upper = if has_negative && !has_positive { 0.0 } else { zero.upper };
    let lower = if has_positive && !has_negative { 0.0 } else { zero.lower };
    let whole = (zero.count, (lower + upper) / 2.0);
    match keep {
        Keep::Below if limit <= lower => (0.0, 0.0),
        Keep::Below if limit >= upper => whole,
        Keep::Below => (zero.count * (limit - lower) / (upper - lower), (lower + limit) / 2.0),
        Keep::Above if limit <= lower => whole,
        Keep::Above if limit >= upper => (0.0, 0.0),
        Keep::Above => (zero.count * (upper - limit) / (upper - lower), (limit + upper) / 2.0),
    }
}

fn fraction_below(bucket: &Bucket, limit: f64, scale: Scale) -> f64 {
    if limit <= bucket.lower {
        return 0.0;
    }
    if limit >= bucket.upper {
        return 1.0;
    }
    if scale == Scale::Linear {
        return (limit - bucket.lower) / (bucket.upper - bucket.lower);
    }
    let (low, high, at) = (bucket.lower.abs().log2(), bucket.upper.abs().log2(), limit.abs().log2());
    match scale {
        Scale::Negative => 1.0 - (at - high) / (low - high),
        Scale::Linear | Scale::Positive => (at - low) / (high - low),
    }
}

fn middle(lower: f64, upper: f64, scale: Scale) -> f64 {
    match (lower.is_infinite(), upper.is_infinite()) {
        (true, true) => return 0.0,
        (true, false) => return if upper > 0.0 { upper / 2.0 } else { upper },
        (false, true) => return lower,
        (false, false) => {}
    }
    let geometric = (lower * upper).abs().sqrt();
    match scale {
        Scale::Linear => (lower + upper) / 2.0,
        Scale::Positive => geometric,
        Scale::Negative => -geometric,
    }
}
