//! Buckets with their bounds, and the ways between spans and indexes.

use super::{FloatHistogram, Span};

/// One bucket with its bounds.
#[derive(Clone, Copy, Debug, PartialEq)]
#[expect(missing_docs, reason = "the names of Prometheus")]
pub struct Bucket {
    pub lower: f64,
    pub upper: f64,
    pub lower_inclusive: bool,
    pub upper_inclusive: bool,
    pub count: f64,
    /// The index in the schema; 0 for the zero bucket.
    pub index: i32,
}

/// The indexes that spans name, in order.
pub(super) fn span_indexes(spans: &[Span]) -> impl Iterator<Item = i32> + '_ {
    let mut next = 0_i32;
    spans.iter().flat_map(move |span| {
        let first = next.saturating_add(span.offset);
        next = first.saturating_add_unsigned(span.length);
        first..next
    })
}

/// Buckets with their indexes, in order of the index. Spans that promise more buckets than there are end early.
pub(super) fn indexed<'a>(spans: &'a [Span], counts: &'a [f64]) -> impl Iterator<Item = (i32, f64)> + 'a {
    span_indexes(spans).zip(counts.iter().copied())
}

/// Spans and counts of indexed buckets (in order, each index once).
pub(super) fn to_spans(buckets: &[(i32, f64)]) -> (Vec<Span>, Vec<f64>) {
    let mut spans: Vec<Span> = Vec::new();
    let mut next = 0_i32;
    for (index, _) in buckets {
        match spans.last_mut() {
            Some(span) if next == *index => span.length += 1,
            _ => spans.push(Span { offset: index.saturating_sub(next), length: 1 }),
        }
        next = index.saturating_add(1);
    }
    (spans, buckets.iter().map(|(_, count)| *count).collect())
}

/// The index that a bucket has when the resolution is reduced by `by` schemas.
pub(super) fn coarser_index(index: i32, by: i32) -> i32 {
    (index.saturating_sub(1) >> by.clamp(0, 31)).saturating_add(1)
}

/// Buckets at a resolution reduced by `by` schemas; `merge` puts a second bucket of an index into the first.
pub(super) fn coarser<C>(
    buckets: impl Iterator<Item = (i32, C)>,
    by: i32,
    mut merge: impl FnMut(&mut C, C),
) -> Vec<(i32, C)> {
    let mut out: Vec<(i32, C)> = Vec::new();
    for (index, count) in buckets {
        let index = coarser_index(index, by);
        match out.last_mut() {
            Some((last, into)) if *last == index => merge(into, count),
            _ => out.push((index, count)),
        }
    }
    out
}

/// The upper bound of an exponential bucket on the positive side.
pub(super) fn exponential_bound(index: i32, schema: i32) -> f64 {
    if schema < 0 {
        let by = schema.unsigned_abs().min(31);
        let exponent = i64::from(index) << by;
        // The last bucket ends at the greatest float, so that an infinite value has a bucket of its own.
        return if exponent == 1024 { f64::MAX } else { power_of_two(exponent) };
    }
    let schema = schema.min(30);
    let parts = 1_i32 << schema;
    let (whole, part) = (index >> schema, index & (parts - 1));
    if part == 0 {
        return if whole == 1024 { f64::MAX } else { power_of_two(i64::from(whole)) };
    }
    (f64::from(part) / f64::from(parts)).exp2() * power_of_two(i64::from(whole))
}

fn power_of_two(exponent: i64) -> f64 {
    f64::from(exponent.clamp(-2_000, 2_000) as i32).exp2()
}

/// The upper bound of a bucket with listed bounds.
pub(super) fn custom_bound(index: i32, bounds: &[f64]) -> f64 {
    match usize::try_from(index) {
        Err(_) => f64::NEG_INFINITY,
        Ok(index) => bounds.get(index).copied().unwrap_or(f64::INFINITY),
    }
}

impl FloatHistogram {
    /// The upper bound of the bucket `index` on the positive side.
    pub(super) fn bound(&self, index: i32) -> f64 {
        if self.uses_custom_buckets() {
            custom_bound(index, &self.custom_values)
        } else {
            exponential_bound(index, self.schema)
        }
    }

    /// The buckets above zero, upwards (all buckets of a histogram with custom bounds), empty ones included.
    pub fn positive(&self) -> impl Iterator<Item = Bucket> + '_ {
        indexed(&self.positive_spans, &self.positive_buckets).map(|(index, count)| {
            let (lower, upper) = (self.bound(index.saturating_sub(1)), self.bound(index));
            let custom = self.uses_custom_buckets();
            Bucket {
                lower,
                upper,
                lower_inclusive: if custom { index == 0 } else { lower < 0.0 },
                upper_inclusive: custom || upper > 0.0,
                count,
                index,
            }
        })
    }

    /// The buckets below zero, downwards, empty ones included.
    pub fn negative(&self) -> impl Iterator<Item = Bucket> + '_ {
        indexed(&self.negative_spans, &self.negative_buckets).map(|(index, count)| {
            let (lower, upper) = (-self.bound(index), -self.bound(index.saturating_sub(1)));
            Bucket { lower, upper, lower_inclusive: lower < 0.0, upper_inclusive: upper > 0.0, count, index }
        })
    }

    /// The zero bucket.
    pub fn zero_bucket(&self) -> Bucket {
        Bucket {
            lower: -self.zero_threshold,
            upper: self.zero_threshold,
            lower_inclusive: true,
            upper_inclusive: true,
            count: self.zero_count,
            index: 0,
        }
    }

    /// All buckets upwards, the zero bucket (unless it is empty) between the two sides.
    pub fn all_buckets(&self) -> Vec<Bucket> {
        let mut all: Vec<Bucket> = self.negative().collect();
        all.reverse();
        if self.zero_count != 0.0 {
            all.push(self.zero_bucket());
        }
        all.extend(self.positive());
        all
    }

    /// The buckets as the HTTP API prints them: boundaries (0 open left, 1 open right, 2 both open, 3 both closed),
    /// lower bound, upper bound, count; empty ones left out.
    pub fn api_buckets(&self) -> Vec<(u8, f64, f64, f64)> {
        self.all_buckets()
            .into_iter()
            .filter(|bucket| bucket.count != 0.0)
            .map(|bucket| {
                let boundaries = match (bucket.lower_inclusive, bucket.upper_inclusive) {
                    (false, true) => 0,
                    (true, false) => 1,
                    (false, false) => 2,
                    (true, true) => 3,
                };
                (boundaries, bucket.lower, bucket.upper, bucket.count)
            })
            .collect()
    }
}
