//! Compressed runs of samples: what the rings are made of.

use super::bits::{get_bits, put_bits, unzigzag, zigzag};
use super::is_stale;
use std::fmt::Debug;
use std::marker::PhantomData;

/// How one kind of sample is written. The state is what the next sample is written against.
pub(super) trait Codec: Clone + Default + Debug {
    /// What a sample holds.
    type Value: Clone + Debug;

    /// Appends one sample.
    fn encode(&mut self, out: &mut Vec<u8>, t_ms: i64, value: &Self::Value);

    /// Visits `count` samples in order and returns the state to append with; `None` when the bytes end too early.
    fn decode(input: &[u8], count: u32, visit: &mut dyn FnMut(i64, &Self::Value)) -> Option<Self>;

    /// Whether a value is the marker of staleness.
    fn is_stale(value: &Self::Value) -> bool;
}

/// A run of samples; it no longer changes once it is shared.
#[derive(Clone, Debug)]
pub(super) struct Chunk<C> {
    /// Time of the first sample.
    pub first_ms: i64,
    /// Time of the last sample.
    pub last_ms: i64,
    /// Start timestamp of all its samples, 0 when unknown.
    pub start_ms: i64,
    /// How many samples.
    pub count: u32,
    /// The samples as the codec writes them.
    pub bytes: Vec<u8>,
    codec: PhantomData<fn() -> C>,
}

impl<C: Codec> Chunk<C> {
    /// A chunk read back from a checkpoint.
    pub fn from_parts(first_ms: i64, last_ms: i64, start_ms: i64, count: u32, bytes: Vec<u8>) -> Self {
        Self { first_ms, last_ms, start_ms, count, bytes, codec: PhantomData }
    }

    /// Visits the samples in order.
    pub fn visit(&self, mut visit: impl FnMut(i64, &C::Value)) {
        // A chunk that was made here or checked at its restoring decodes to its end.
        let _ = C::decode(&self.bytes, self.count, &mut visit);
    }

    /// The last sample, if there is one.
    pub fn last(&self) -> Option<(i64, C::Value)> {
        let mut last = None;
        let mut seen = 0;
        self.visit(|t_ms, value| {
            seen += 1;
            if seen == self.count {
                last = Some((t_ms, value.clone()));
            }
        });
        last
    }

    /// Bytes that it takes in memory.
    pub fn size(&self) -> usize {
        self.bytes.capacity() + size_of::<Self>() + 16
    }
}

/// The chunk that is being written.
#[derive(Clone, Debug)]
pub(super) struct OpenChunk<C> {
    /// What is written so far.
    pub chunk: Chunk<C>,
    /// The state to append with.
    pub codec: C,
}

impl<C: Codec> OpenChunk<C> {
    /// A chunk with its first sample.
    pub fn new(t_ms: i64, value: &C::Value, start_ms: i64) -> Self {
        let mut open = Self { chunk: Chunk::from_parts(t_ms, t_ms, start_ms, 0, Vec::new()), codec: C::default() };
        open.push(t_ms, value);
        open
    }

    /// Goes on writing a chunk that was read back; `None` when its bytes are damaged.
    pub fn resume(chunk: Chunk<C>) -> Option<Self> {
        let codec = C::decode(&chunk.bytes, chunk.count, &mut |_, _| {})?;
        Some(Self { chunk, codec })
    }

    /// Appends a sample; times strictly increase.
    pub fn push(&mut self, t_ms: i64, value: &C::Value) {
        self.codec.encode(&mut self.chunk.bytes, t_ms, value);
        self.chunk.last_ms = t_ms;
        self.chunk.count += 1;
    }

    /// The finished chunk.
    pub fn seal(mut self) -> Chunk<C> {
        self.chunk.bytes.shrink_to_fit();
        self.chunk
    }
}

/// Floats: times as the change of their distance, values XORed with the one before (Pelkonen et al., Gorilla, VLDB 2015).
#[derive(Clone, Debug, Default)]
pub(super) struct FloatCodec {
    bits: usize,
    t_ms: i64,
    delta_ms: i64,
    value: u64,
    leading: u32,
    /// Significant bits of the window; 0 before the first window.
    width: u32,
}

/// Widths of the classes in which a change of distance is written, in bits; each but the last ends its prefix of ones with a zero.
const TIME_CLASSES: [u32; 4] = [14, 20, 32, 64];

impl FloatCodec {
    fn encode_time(&mut self, out: &mut Vec<u8>, t_ms: i64) {
        let delta = t_ms.wrapping_sub(self.t_ms);
        let change = zigzag(delta.wrapping_sub(self.delta_ms));
        if change == 0 {
            put_bits(out, &mut self.bits, 0, 1);
        } else {
            for (class, width) in TIME_CLASSES.into_iter().enumerate() {
                if width < 64 && change >> width != 0 {
                    continue;
                }
                match class {
                    3 => put_bits(out, &mut self.bits, 0b1111, 4),
                    _ => put_bits(out, &mut self.bits, (1 << (class + 2)) - 2, class as u32 + 2),
                }
                put_bits(out, &mut self.bits, change, width);
                break;
            }
        }
        (self.t_ms, self.delta_ms) = (t_ms, delta);
    }

    fn decode_time(&mut self, input: &[u8]) -> Option<()> {
        let mut ones = 0;
        while ones < 4 && get_bits(input, &mut self.bits, 1)? == 1 {
            ones += 1;
        }
        let change = match ones {
            0 => 0,
            _ => unzigzag(get_bits(input, &mut self.bits, TIME_CLASSES[ones - 1])?),
        };
        self.delta_ms = self.delta_ms.wrapping_add(change);
        self.t_ms = self.t_ms.wrapping_add(self.delta_ms);
        Some(())
    }

    fn encode_value(&mut self, out: &mut Vec<u8>, value: u64) {
        let xor = value ^ self.value;
        self.value = value;
        if xor == 0 {
            put_bits(out, &mut self.bits, 0, 1);
            return;
        }
        let (leading, trailing) = (xor.leading_zeros().min(31), xor.trailing_zeros());
        let window_trailing = 64_u32.saturating_sub(self.leading + self.width);
        if self.width > 0 && leading >= self.leading && trailing >= window_trailing {
            put_bits(out, &mut self.bits, 0b10, 2);
            put_bits(out, &mut self.bits, xor >> window_trailing, self.width);
        } else {
            (self.leading, self.width) = (leading, 64 - leading - trailing);
            put_bits(out, &mut self.bits, 0b11, 2);
            put_bits(out, &mut self.bits, u64::from(leading), 5);
            put_bits(out, &mut self.bits, u64::from(self.width - 1), 6);
            put_bits(out, &mut self.bits, xor >> trailing, self.width);
        }
    }

    fn decode_value(&mut self, input: &[u8]) -> Option<()> {
        if get_bits(input, &mut self.bits, 1)? == 0 {
            return Some(());
        }
        if get_bits(input, &mut self.bits, 1)? == 1 {
            self.leading = get_bits(input, &mut self.bits, 5)? as u32;
            self.width = get_bits(input, &mut self.bits, 6)? as u32 + 1;
        }
        if self.width == 0 {
            return None;
        }
        let trailing = 64_u32.checked_sub(self.leading + self.width)?;
        self.value ^= get_bits(input, &mut self.bits, self.width)? << trailing;
        Some(())
    }
}

impl Codec for FloatCodec {
    type Value = f64;

    fn encode(&mut self, out: &mut Vec<u8>, t_ms: i64, value: &f64) {
        self.encode_time(out, t_ms);
        self.encode_value(out, value.to_bits());
    }

    fn decode(input: &[u8], count: u32, visit: &mut dyn FnMut(i64, &f64)) -> Option<Self> {
        let mut state = Self::default();
        for _ in 0..count {
            state.decode_time(input)?;
            state.decode_value(input)?;
            visit(state.t_ms, &f64::from_bits(state.value));
        }
        Some(state)
    }

    fn is_stale(value: &f64) -> bool {
        is_stale(*value)
    }
}

#[cfg(test)]
mod tests {
    use super::super::STALE_NAN_BITS;
    use super::*;
    use proptest::prelude::*;

    fn check(samples: &[(i64, f64)]) -> usize {
        let mut open: Option<OpenChunk<FloatCodec>> = None;
        for (t_ms, value) in samples {
            match &mut open {
                None => open = Some(OpenChunk::new(*t_ms, value, 0)),
                // What a restart does in the middle must not show.
                Some(chunk) if chunk.chunk.count % 7 == 3 => {
                    let mut resumed = OpenChunk::resume(chunk.chunk.clone()).unwrap();
                    resumed.push(*t_ms, value);
                    *chunk = resumed;
                }
                Some(chunk) => chunk.push(*t_ms, value),
            }
        }
        let chunk = open.unwrap().seal();
        let mut read = Vec::new();
        chunk.visit(|t_ms, value| read.push((t_ms, value.to_bits())));
        assert_eq!(read, samples.iter().map(|(t, v)| (*t, v.to_bits())).collect::<Vec<_>>());
        assert_eq!(chunk.last().map(|(t, v)| (t, v.to_bits())), read.last().copied());
        chunk.bytes.len()
    }

    #[test]
    fn regular_samples_are_small() {
        let flat: Vec<_> = (0..120).map(|at| (1_700_000_000_000 + at * 1_000, 42.0)).collect();
        assert!(check(&flat) < 60);
        let counter: Vec<_> = (0..120).map(|at| (1_700_000_000_000 + at * 1_000, at as f64)).collect();
        assert!(check(&counter) < 250);
        check(&[(0, f64::from_bits(STALE_NAN_BITS)), (1, f64::NAN), (2, f64::INFINITY), (3, -0.0), (i64::MAX, 0.0)]);
    }

    proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig { failure_persistence: None, ..Default::default() })]
        #[test]
        fn any_samples_come_back(first in -1_000_000_000_000_i64..2_000_000_000_000, steps in prop::collection::vec((1_i64..10_000_000_000, any::<u64>()), 0..150)) {
            let mut t_ms = first;
            let mut samples = vec![(t_ms, 0.0)];
            for (step, bits) in steps {
                t_ms += step;
                samples.push((t_ms, f64::from_bits(bits)));
            }
            check(&samples);
        }

        #[test]
        fn damage_is_no_panic(bytes in prop::collection::vec(any::<u8>(), 0..64), count in 0_u32..200) {
            let _ = FloatCodec::decode(&bytes, count, &mut |_, _| {});
        }
    }
}
