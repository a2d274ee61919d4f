//! What was counted by time: sums of ten seconds, five minutes and hours.
//!
//! Rings hold samples of an hour; an error budget is for weeks. So each count goes into one bucket of each tier, and a
//! window reads the finest tier that reaches back far enough. A window begins at the edge of a bucket: the one that it
//! begins in counts in full.

use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// Width of a tier's buckets and how far it reaches, in microseconds; the last one reaches as far as the window.
const TIERS: [(i64, i64); 2] = [(10_000_000, 3_600_000_000), (300_000_000, 6 * 3_600_000_000)];
const HOUR_US: i64 = 3_600_000_000;

/// A count of good (or bad) ones and of all.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Pair {
    /// What `good` or `error` counts.
    pub part: f64,
    /// What `total` counts.
    pub total: f64,
}

#[derive(Clone, Debug, PartialEq)]
struct Tier {
    width_us: i64,
    keep: i64,
    /// By number since the epoch, oldest first; empty ones are left out.
    buckets: VecDeque<(i64, Pair)>,
}

/// The sums of one objective.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Sums {
    tiers: Vec<Tier>,
}

impl Sums {
    pub fn new(window_us: i64) -> Self {
        let reach = [TIERS[0], TIERS[1], (HOUR_US, window_us.max(HOUR_US))];
        let tier = |(width_us, reach_us): (i64, i64)| Tier {
            width_us,
            keep: reach_us.div_euclid(width_us) + 1,
            buckets: VecDeque::new(),
        };
        Self { tiers: reach.map(tier).into() }
    }

    /// Adds what was counted at a moment of the clock.
    pub fn add(&mut self, at: i64, pair: Pair) {
        for tier in &mut self.tiers {
            tier.add(at.div_euclid(tier.width_us), pair);
        }
    }

    /// What lies within a window that ends at a moment.
    pub fn within(&self, clock: i64, window_us: i64) -> Pair {
        let fine = self.tiers.iter().find(|tier| window_us <= (tier.keep - 1) * tier.width_us);
        let Some(tier) = fine.or(self.tiers.last()) else { return Pair::default() };
        let (first, last) =
            (clock.saturating_sub(window_us).div_euclid(tier.width_us), clock.div_euclid(tier.width_us));
        let mut sum = Pair::default();
        for (number, pair) in tier.buckets.iter().rev() {
            // A bucket that ends where the window begins is not in it.
            if *number < first || (*number + 1) * tier.width_us <= clock - window_us {
                break;
            }
            if *number <= last {
                sum.part += pair.part;
                sum.total += pair.total;
            }
        }
        sum
    }

    pub fn saved(&self) -> SavedSums {
        SavedSums(self.tiers.iter().map(Tier::saved).collect())
    }

    /// Takes over sums; a window that became shorter forgets what it no longer needs.
    pub fn restore(&mut self, saved: SavedSums) {
        for (tier, buckets) in self.tiers.iter_mut().zip(saved.0) {
            let mut number = 0_i64;
            for (step, part, total) in buckets {
                number += step;
                tier.add(number, Pair { part: part.value(), total: total.value() });
            }
        }
    }
}

impl Tier {
    fn add(&mut self, number: i64, pair: Pair) {
        let newest = self.buckets.back().map_or(number, |(newest, _)| *newest).max(number);
        if number <= newest - self.keep {
            return;
        }
        let at = self.buckets.partition_point(|(known, _)| *known < number);
        match self.buckets.get_mut(at) {
            Some((known, sum)) if *known == number => {
                sum.part += pair.part;
                sum.total += pair.total;
            }
            _ => self.buckets.insert(at, (number, pair)),
        }
        while self.buckets.pop_front_if(|(oldest, _)| *oldest <= newest - self.keep).is_some() {}
    }

    fn saved(&self) -> Vec<(i64, Count, Count)> {
        let mut before = 0;
        let each = self.buckets.iter().map(|(number, pair)| {
            let step = number - before;
            before = *number;
            (step, Count::of(pair.part), Count::of(pair.total))
        });
        each.collect()
    }
}

/// The buckets of each tier, each by its distance from the one before: three bytes a count as a rule instead of eight.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct SavedSums(Vec<Vec<(i64, Count, Count)>>);

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
enum Count {
    Whole(u64),
    Float(f64),
}

impl Count {
    fn of(value: f64) -> Self {
        // Up to 2^53 every whole number is a float.
        if value.fract() == 0.0 && (0.0..9.007_199_254_740_992e15).contains(&value) {
            Self::Whole(value as u64)
        } else {
            Self::Float(value)
        }
    }

    fn value(self) -> f64 {
        match self {
            Self::Whole(value) => value as f64,
            Self::Float(value) => value,
        }
    }
}
