//! `first_seen`: values that were never seen within the memory.
//!
//! A value is remembered as a hash of 64 bits, so that long values cost no more than short ones; of a million values two
//! share a hash with a probability of one in 37 million. Beyond the limit the value that was not seen for longest is
//! forgotten, and counted: it will be new again.

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// What an event's value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sight {
    /// Seen before.
    Known,
    /// New, but the time of learning is not over.
    Learnt,
    /// New.
    New,
}

/// The values of one condition; times are microseconds on its clock.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Memory {
    /// When each was seen last.
    seen: BTreeMap<u64, i64>,
    /// The time of the first event.
    since: Option<i64>,
    /// The same by time, for forgetting.
    #[serde(skip)]
    order: BTreeSet<(i64, u64)>,
}

impl Memory {
    /// After reading: the order is not stored.
    pub fn rebuild(&mut self) {
        self.order = self.seen.iter().map(|(hash, at)| (*at, *hash)).collect();
    }

    /// Takes a value at its own time; how many values were forgotten for room.
    pub fn take(&mut self, hash: u64, at: i64, memory_us: i64, learn_us: i64, limit: usize) -> (Sight, u64) {
        let since = *self.since.get_or_insert(at);
        let known = self.seen.get(&hash).copied();
        let sight = match known {
            // An event from before the last sighting is no news either.
            Some(last) if at.saturating_sub(last) <= memory_us => Sight::Known,
            _ if at < since.saturating_add(learn_us) => Sight::Learnt,
            _ => Sight::New,
        };
        let last = known.map_or(at, |last| last.max(at));
        if known != Some(last) {
            if let Some(before) = known {
                self.order.remove(&(before, hash));
            }
            self.seen.insert(hash, last);
            self.order.insert((last, hash));
        }
        let mut evicted = 0;
        while let Some((oldest, value)) = self.order.first().copied() {
            let expired = at.saturating_sub(oldest) > memory_us;
            if !expired && self.seen.len() <= limit.max(1) {
                break;
            }
            evicted += u64::from(!expired);
            self.order.pop_first();
            self.seen.remove(&value);
        }
        (sight, evicted)
    }

    /// Moves everything in time.
    pub fn shift(&mut self, by: i64) {
        self.seen.values_mut().for_each(|at| *at += by);
        self.since = self.since.map(|since| since + by);
        self.rebuild();
    }
}

/// FNV-1a with a last mix (the finaliser of SplitMix64): it stands in checkpoints, so it must be the same on every
/// machine and in every version.
pub(super) fn hash(text: &str) -> u64 {
    let mut z = text
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
