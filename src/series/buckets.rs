//! The state of a histogram that sidewatch counts itself: sparse exponential buckets, exact classic counts, exact sum.

use super::bits::{get_float, get_varint, put_float, put_varint, unzigzag, zigzag};
use super::chunk::Codec;
use super::{FloatHistogram, ResetHint, STALE_NAN_BITS, Span};

/// Schema of the native histograms that sidewatch makes: 8 buckets for each power of two, at most 9 % wide.
pub const NATIVE_SCHEMA: i32 = 3;

/// Values up to this fall into the zero bucket (`DefNativeHistogramZeroThreshold` of client_golang, 2^-128).
pub const ZERO_THRESHOLD: f64 = 2.938_735_877_055_719e-39;

/// Lower ends of the eight buckets within a power of two, as fractions in [0.5, 1) (`nativeHistogramBounds[3]` of client_golang).
const FRACTIONS: [f64; 8] = [
    0.5,
    0.545_253_866_332_628_8,
    0.594_603_557_501_360_5,
    0.648_419_777_325_504_8,
    0.707_106_781_186_547_5,
    0.771_105_412_703_970_4,
    0.840_896_415_253_714_4,
    0.917_004_043_204_671_1,
];

/// For the seven leading bits of a fraction: how many bucket ends lie below its first value. One comparison makes it exact.
const LEADING: [u8; 128] = {
    let mut table = [0; 128];
    let mut at = 0;
    while at < 128 {
        let first = 0.5 + at as f64 / 256.0;
        let mut below = 0;
        while below < 8 && FRACTIONS[below] < first {
            below += 1;
        }
        table[at] = below as u8;
        at += 1;
    }
    table
};

/// The exponential bucket of a finite value above the zero threshold: bucket `i` holds (2^((i-1)/8), 2^(i/8)].
pub(super) fn native_bucket(value: f64) -> i32 {
    let bits = value.to_bits();
    let exponent = (bits >> 52) as i32 & 0x7ff;
    let fraction = f64::from_bits(bits & 0x000f_ffff_ffff_ffff | 0x3fe0_0000_0000_0000);
    let mut below = LEADING[(bits >> 45) as usize & 0x7f] as usize;
    // Within one slot of the table lies at most one bucket's end.
    if below < 8 && FRACTIONS[below] < fraction {
        below += 1;
    }
    below as i32 + (exponent - 1023) * 8
}

/// The counts at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct HistogramState {
    /// Values in the zero bucket.
    pub zero_count: u64,
    /// All values: the zero bucket and the others.
    pub count: u64,
    /// Sum of the values.
    pub sum: f64,
    /// (index, count) in order of the index, no count 0.
    pub native: Vec<(i32, u64)>,
    /// Count of each classic bucket on its own, the last is for what is above all bounds.
    pub classic: Vec<u64>,
    /// The marker of staleness, without counts.
    pub stale: bool,
}

impl HistogramState {
    /// A state with no values, for so many bounds.
    pub fn empty(bounds: usize) -> Self {
        Self { classic: vec![0; bounds + 1], ..Self::default() }
    }

    /// The marker that ends a series.
    pub fn stale() -> Self {
        Self { stale: true, sum: f64::from_bits(STALE_NAN_BITS), ..Self::default() }
    }

    /// Counts a value `weight` times, without its sum; returns the classic bucket.
    pub fn count(&mut self, value: f64, weight: u64, bounds: &[f64]) -> usize {
        self.count += weight;
        if value <= ZERO_THRESHOLD {
            self.zero_count += weight;
        } else {
            let index = native_bucket(value);
            match self.native.binary_search_by_key(&index, |(index, _)| *index) {
                Ok(at) => self.native[at].1 += weight,
                Err(at) => self.native.insert(at, (index, weight)),
            }
        }
        let classic = bounds.partition_point(|bound| *bound < value);
        if let Some(count) = self.classic.get_mut(classic) {
            *count += weight;
        }
        classic
    }

    /// As PromQL sees it.
    pub fn to_native(&self) -> FloatHistogram {
        let mut histogram = FloatHistogram {
            reset_hint: ResetHint::Unknown,
            schema: NATIVE_SCHEMA,
            zero_threshold: ZERO_THRESHOLD,
            zero_count: self.zero_count as f64,
            count: self.count as f64,
            sum: self.sum,
            ..FloatHistogram::default()
        };
        let mut next = 0;
        for (index, count) in &self.native {
            match histogram.positive_spans.last_mut() {
                Some(span) if *index == next => span.length += 1,
                _ => histogram.positive_spans.push(Span { offset: index - next, length: 1 }),
            }
            next = index + 1;
            histogram.positive_buckets.push(*count as f64);
        }
        histogram
    }

    /// Values up to and including the classic bound at `bound`; the last is +Inf, all values.
    pub fn cumulative(&self, bound: usize) -> u64 {
        self.classic.iter().take(bound + 1).sum()
    }
}

/// A sum that keeps what plain addition loses (Neumaier's variant of Kahan): deterministic, and exact to the last digit shown.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct ExactSum {
    /// The plain sum.
    pub sum: f64,
    /// What it lost.
    pub lost: f64,
}

impl ExactSum {
    /// Adds one number.
    pub fn add(&mut self, value: f64) {
        let sum = self.sum + value;
        self.lost += if self.sum.abs() >= value.abs() { (self.sum - sum) + value } else { (value - sum) + self.sum };
        self.sum = sum;
    }

    /// The sum.
    pub fn value(self) -> f64 {
        if self.lost.is_finite() { self.sum + self.lost } else { self.sum }
    }
}

/// Writes what changed since the sample before: times as in the float chunks, only the buckets whose counts grew.
#[derive(Clone, Debug, Default)]
pub(super) struct HistogramCodec {
    t_ms: i64,
    delta_ms: i64,
    state: HistogramState,
}

const STALE: u8 = 1;
/// Written against nothing: the first sample, or one after a reset.
const WHOLE: u8 = 2;

/// (bucket, by how much)
type Growth = Vec<(i32, u64)>;

fn put_counts(out: &mut Vec<u8>, changes: &[(i32, u64)]) {
    put_varint(out, changes.len() as u64);
    let mut before = 0;
    for (index, delta) in changes {
        put_varint(out, zigzag(i64::from(*index) - before));
        put_varint(out, *delta);
        before = i64::from(*index);
    }
}

fn get_counts(input: &[u8], at: &mut usize, mut each: impl FnMut(i32, u64) -> Option<()>) -> Option<()> {
    let mut index = 0_i64;
    for _ in 0..get_varint(input, at)? {
        index = index.checked_add(unzigzag(get_varint(input, at)?))?;
        each(i32::try_from(index).ok()?, get_varint(input, at)?)?;
    }
    Some(())
}

/// The buckets of `now` that grew since `before`; `None` when one shrank or is gone.
fn native_growth(before: &[(i32, u64)], now: &[(i32, u64)]) -> Option<Growth> {
    let (mut changes, mut old) = (Vec::new(), before.iter().peekable());
    for (index, count) in now {
        let known = match old.peek() {
            Some((known, _)) if known < index => return None,
            Some((known, count)) if known == index => {
                old.next();
                *count
            }
            _ => 0,
        };
        match count.checked_sub(known)? {
            0 => {}
            delta => changes.push((*index, delta)),
        }
    }
    old.next().is_none().then_some(changes)
}

impl HistogramCodec {
    /// What grew in the exponential and in the classic buckets and in the zero bucket; `None` when something shrank.
    fn changes(&self, value: &HistogramState) -> Option<(Growth, Growth, u64)> {
        if self.state.stale || self.state.classic.len() != value.classic.len() {
            return None;
        }
        let native = native_growth(&self.state.native, &value.native)?;
        let mut classic = Vec::new();
        for (at, (before, now)) in self.state.classic.iter().zip(&value.classic).enumerate() {
            match now.checked_sub(*before)? {
                0 => {}
                delta => classic.push((at as i32, delta)),
            }
        }
        Some((native, classic, value.zero_count.checked_sub(self.state.zero_count)?))
    }

    fn apply(&mut self, input: &[u8], at: &mut usize) -> Option<()> {
        let flags = *input.get(*at)?;
        *at += 1;
        self.delta_ms = self.delta_ms.wrapping_add(unzigzag(get_varint(input, at)?));
        self.t_ms = self.t_ms.wrapping_add(self.delta_ms);
        if flags & STALE != 0 {
            self.state = HistogramState::stale();
            return Some(());
        }
        if flags & WHOLE != 0 {
            let bounds = usize::try_from(get_varint(input, at)?).ok().filter(|bounds| *bounds <= 1 << 16)?;
            self.state = HistogramState { classic: vec![0; bounds], ..HistogramState::default() };
        }
        let state = &mut self.state;
        state.sum = get_float(input, at, state.sum)?;
        let mut added = get_varint(input, at)?;
        state.zero_count = state.zero_count.checked_add(added)?;
        get_counts(input, at, |index, delta| {
            added = added.checked_add(delta)?;
            match state.native.binary_search_by_key(&index, |(index, _)| *index) {
                Ok(at) => state.native[at].1 = state.native[at].1.checked_add(delta)?,
                Err(at) => state.native.insert(at, (index, delta)),
            }
            Some(())
        })?;
        get_counts(input, at, |index, delta| {
            let count = state.classic.get_mut(usize::try_from(index).ok()?)?;
            *count = count.checked_add(delta)?;
            Some(())
        })?;
        state.count = state.count.checked_add(added)?;
        Some(())
    }
}

impl Codec for HistogramCodec {
    type Value = HistogramState;

    fn encode(&mut self, out: &mut Vec<u8>, t_ms: i64, value: &HistogramState) {
        let delta = t_ms.wrapping_sub(self.t_ms);
        let change = zigzag(delta.wrapping_sub(self.delta_ms));
        (self.t_ms, self.delta_ms) = (t_ms, delta);
        if value.stale {
            out.push(STALE);
            put_varint(out, change);
            self.state = value.clone();
            return;
        }
        let known = self.changes(value);
        out.push(if known.is_some() { 0 } else { WHOLE });
        put_varint(out, change);
        if known.is_none() {
            put_varint(out, value.classic.len() as u64);
            self.state = HistogramState { classic: vec![0; value.classic.len()], ..HistogramState::default() };
        }
        put_float(out, self.state.sum, value.sum);
        // Against an empty state nothing can shrink, so the second attempt always succeeds.
        let (native, classic, zero) = known.or_else(|| self.changes(value)).unwrap_or_default();
        put_varint(out, zero);
        put_counts(out, &native);
        put_counts(out, &classic);
        self.state.clone_from(value);
    }

    fn decode(input: &[u8], count: u32, visit: &mut dyn FnMut(i64, &HistogramState)) -> Option<Self> {
        let (mut codec, mut at) = (Self::default(), 0);
        for _ in 0..count {
            codec.apply(input, &mut at)?;
            visit(codec.t_ms, &codec.state);
        }
        Some(codec)
    }

    fn is_stale(value: &HistogramState) -> bool {
        value.stale
    }
}

#[cfg(test)]
mod tests {
    use super::super::chunk::OpenChunk;
    use super::*;
    use proptest::prelude::*;

    fn upper_bound(index: i32) -> f64 {
        FRACTIONS[index.rem_euclid(8) as usize] * 2_f64.powi(index.div_euclid(8) + 1)
    }

    #[test]
    fn buckets_are_exact_at_their_ends() {
        for index in -1_000..1_000 {
            let end = upper_bound(index);
            assert_eq!(native_bucket(end), index, "{end}");
            assert_eq!(native_bucket(end.next_up()), index + 1, "{end}");
        }
        assert_eq!((native_bucket(1.0), native_bucket(2.0), native_bucket(0.5)), (0, 8, -8));
    }

    #[test]
    fn spans_follow_the_gaps() {
        let mut state = HistogramState::empty(2);
        for value in [0.0, 1.0, 1.05, 4.0] {
            state.count(value, 2, &[1.0, 2.0]);
        }
        let native = state.to_native();
        assert_eq!((native.zero_count, native.count), (2.0, 8.0));
        assert_eq!(native.positive_spans, [Span { offset: 0, length: 2 }, Span { offset: 14, length: 1 }]);
        assert_eq!(native.positive_buckets, [2.0, 2.0, 2.0]);
        assert_eq!((state.cumulative(0), state.cumulative(1), state.cumulative(2)), (4, 6, 8));
    }

    #[test]
    fn the_sum_keeps_small_parts() {
        let mut sum = ExactSum::default();
        sum.add(1e16);
        for _ in 0..1_000 {
            sum.add(0.1);
        }
        assert_eq!(sum.value(), 1e16 + 100.0);
    }

    proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig { failure_persistence: None, ..Default::default() })]
        #[test]
        fn chunks_of_histograms_come_back(steps in prop::collection::vec((prop::collection::vec((0.0..1e4_f64, 1_u64..9), 0..6), 0_u8..12), 1..60)) {
            let bounds = [0.005, 1.0, 100.0];
            let (mut state, mut samples) = (HistogramState::empty(3), Vec::new());
            for (at, (values, event)) in steps.iter().enumerate() {
                match event {
                    0 => state = HistogramState::empty(3),
                    1 => state = HistogramState::stale(),
                    _ if state.stale => state = HistogramState::empty(3),
                    _ => {}
                }
                if !state.stale {
                    for (value, weight) in values {
                        state.count(*value, *weight, &bounds);
                        state.sum += value * *weight as f64;
                    }
                }
                samples.push((at as i64 * 1_000 + 1_700_000_000_000, state.clone()));
            }
            let mut open = OpenChunk::<HistogramCodec>::new(samples[0].0, &samples[0].1, 0);
            for (t_ms, state) in &samples[1..] {
                open = OpenChunk::resume(open.chunk).unwrap();
                open.push(*t_ms, state);
            }
            let mut read = Vec::new();
            open.seal().visit(|t_ms, state| read.push((t_ms, state.clone())));
            prop_assert_eq!(read.len(), samples.len());
            for ((t, a), (u, b)) in read.iter().zip(&samples) {
                prop_assert_eq!(t, u);
                prop_assert_eq!(a.sum.to_bits(), b.sum.to_bits());
                prop_assert_eq!((a.count, a.zero_count, &a.native, &a.classic, a.stale), (b.count, b.zero_count, &b.native, &b.classic, b.stale));
            }
        }

        #[test]
        fn damage_is_no_panic(bytes in prop::collection::vec(any::<u8>(), 0..64), count in 0_u32..50) {
            let _ = HistogramCodec::decode(&bytes, count, &mut |_, _| {});
        }
    }
}
