//! How many different values came within the last minute: exact while they are few, HyperLogLog beyond.
//!
//! The window has six parts of ten seconds, as that of the quantiles has. A part holds the hashes of its values until
//! there are 1,024 of them, then 4,096 registers (Flajolet and others, "HyperLogLog", 2007; the estimate of small numbers
//! by linear counting). The standard error then is 1.04 / sqrt(4096), 1.6 %. A part takes at most 8 KB.

/// Parts of the window.
const PARTS: usize = 6;
/// Length of one part in milliseconds.
const PART_MS: i64 = 10_000;
/// Values of one part that are kept as they are.
const EXACT: usize = 1_024;
/// Bits of a hash that choose the register.
const BITS: u32 = 12;
const REGISTERS: usize = 1 << BITS;

#[derive(Clone, Debug)]
enum Part {
    /// Sorted hashes.
    Exact(Vec<u64>),
    Registers(Box<[u8]>),
}

impl Default for Part {
    fn default() -> Self {
        Self::Exact(Vec::new())
    }
}

fn register(registers: &mut [u8], hash: u64) {
    let at = (hash >> (64 - BITS)) as usize;
    let rank = ((hash << BITS).leading_zeros() + 1).min(64 - BITS + 1) as u8;
    registers[at] = registers[at].max(rank);
}

impl Part {
    fn insert(&mut self, hash: u64) {
        match self {
            Self::Exact(hashes) => {
                if let Err(at) = hashes.binary_search(&hash) {
                    hashes.insert(at, hash);
                    if hashes.len() > EXACT {
                        let mut registers = vec![0; REGISTERS].into_boxed_slice();
                        hashes.iter().for_each(|hash| register(&mut registers, *hash));
                        *self = Self::Registers(registers);
                    }
                }
            }
            Self::Registers(registers) => register(registers, hash),
        }
    }

    fn is_empty(&self) -> bool {
        matches!(self, Self::Exact(hashes) if hashes.is_empty())
    }
}

/// A minute's different values, by their 64-bit hashes.
#[derive(Clone, Debug, Default)]
pub struct Distinct {
    /// The part of now, counted from the epoch.
    current: i64,
    parts: [Part; PARTS],
}

impl Distinct {
    fn rotate(&mut self, now_ms: i64) {
        let part = now_ms.div_euclid(PART_MS);
        for old in 0..(part - self.current).clamp(0, PARTS as i64) {
            self.parts[(part - old).rem_euclid(PARTS as i64) as usize] = Part::default();
        }
        self.current = self.current.max(part);
    }

    /// Takes a value by its hash, whose bits must be evenly spread.
    pub fn insert(&mut self, hash: u64, now_ms: i64) {
        if now_ms.div_euclid(PART_MS) > self.current {
            self.rotate(now_ms);
        }
        self.parts[self.current.rem_euclid(PARTS as i64) as usize].insert(hash);
    }

    /// Whether the window holds nothing at all.
    pub fn is_empty(&self) -> bool {
        self.parts.iter().all(Part::is_empty)
    }

    /// How many different values the last minute has seen.
    pub fn count(&mut self, now_ms: i64) -> f64 {
        self.rotate(now_ms);
        if self.parts.iter().all(|part| matches!(part, Part::Exact(_))) {
            let mut all: Vec<u64> = Vec::new();
            for part in &self.parts {
                if let Part::Exact(hashes) = part {
                    all.extend(hashes);
                }
            }
            all.sort_unstable();
            all.dedup();
            return all.len() as f64;
        }
        let mut registers = [0_u8; REGISTERS];
        for part in &self.parts {
            match part {
                Part::Exact(hashes) => hashes.iter().for_each(|hash| register(&mut registers, *hash)),
                Part::Registers(held) => {
                    registers.iter_mut().zip(held).for_each(|(into, from)| *into = (*into).max(*from));
                }
            }
        }
        estimate(&registers)
    }
}

fn estimate(registers: &[u8]) -> f64 {
    let count = registers.len() as f64;
    let sum: f64 = registers.iter().map(|rank| (-f64::from(*rank)).exp2()).sum();
    let raw = 0.7213 / (1.0 + 1.079 / count) * count * count / sum;
    let empty = registers.iter().filter(|rank| **rank == 0).count();
    let linear = if empty > 0 && raw <= 2.5 * count { count * (count / empty as f64).ln() } else { raw };
    linear.round()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A hash whose bits are spread (splitmix64).
    fn hash(value: u64) -> u64 {
        let mut z = value.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    #[test]
    fn few_are_exact_many_are_near_and_a_minute_forgets() {
        for many in [0_u64, 1, 1_000, 6_000, 50_000, 1_000_000] {
            let mut set = Distinct::default();
            for value in 0..many {
                // Each comes twice, in different parts of the minute.
                set.insert(hash(value), 1_000_000);
            }
            (0..many).for_each(|value| set.insert(hash(value), 1_030_000));
            let found = set.count(1_030_000);
            let off = (found - many as f64).abs() / (many as f64).max(1.0);
            assert!(if many <= 1_024 { off == 0.0 } else { off < 0.05 }, "{many}: {found}");
            assert_eq!(set.count(1_100_000), 0.0, "a minute later");
            assert!(set.is_empty());
        }
    }

    #[test]
    fn parts_leave_one_by_one() {
        let mut set = Distinct::default();
        (0..10).for_each(|second| set.insert(hash(second), second.cast_signed() * 10_000));
        assert_eq!(set.count(95_000), 6.0);
        assert_eq!(set.count(105_000), 5.0);
    }
}
