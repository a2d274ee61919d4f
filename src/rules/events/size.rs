//! How much memory a condition's keys may take.

use super::gap::MAX_HOLES;
use super::keys::KeyState;
use super::sequence::MAX_TIMES;
use super::{Condition, EventRule, count};

impl EventRule {
    /// The bytes that one key takes at most, without the texts of its values and of captured fields: what is kept of
    /// its events, each with room to grow to twice that.
    pub fn key_bytes(&self) -> usize {
        let held = match &self.condition {
            Condition::Count { .. } => count::EXACT * size_of::<(i64, u32)>(),
            Condition::Sequence { steps, .. } => steps.len() * MAX_TIMES * size_of::<i64>(),
            Condition::RateChange { rate, .. } => rate.windows * size_of::<(u32, bool)>(),
            Condition::Gap { .. } => MAX_HOLES * size_of::<[i64; 3]>(),
            Condition::Absent { .. } | Condition::FirstSeen { .. } => 0,
        };
        size_of::<KeyState>() + self.by.len() * size_of::<Box<str>>() + 2 * held
    }
}
