//! `count`: how many events lie within the window.

use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// Times kept one by one; beyond that, neighbours share one, so that a window of any number of events stays small.
pub(super) const EXACT: usize = 1_024;
/// The shared times are this part of the window apart.
const PARTS: i64 = 512;

/// Times of events, in order.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Times {
    /// When, and how many.
    entries: VecDeque<(i64, u32)>,
    total: u64,
}

impl Times {
    pub fn add(&mut self, at: i64, within_us: i64) {
        let position = self.entries.partition_point(|(time, _)| *time <= at);
        match position.checked_sub(1).and_then(|before| self.entries.get_mut(before)) {
            Some((time, count)) if *time == at => *count = count.saturating_add(1),
            _ => self.entries.insert(position, (at, 1)),
        }
        self.total += 1;
        if self.entries.len() > EXACT {
            self.compact(within_us);
        }
    }

    /// Neighbours share the latest of their times: they leave the window late by at most a 512th of it, never early.
    fn compact(&mut self, within_us: i64) {
        let part = (within_us / PARTS).max(1);
        let mut merged: VecDeque<(i64, u32)> = VecDeque::with_capacity(EXACT);
        for (time, count) in self.entries.drain(..) {
            match merged.back_mut() {
                Some((last, sum)) if last.div_euclid(part) == time.div_euclid(part) => {
                    (*last, *sum) = (time, sum.saturating_add(count));
                }
                _ => merged.push_back((time, count)),
            }
        }
        self.entries = merged;
    }

    /// Forgets what lies at or before a moment.
    pub fn forget(&mut self, until: i64) {
        while let Some((_, count)) = self.entries.pop_front_if(|(time, _)| *time <= until) {
            self.total -= u64::from(count);
        }
    }

    pub fn len(&self) -> u64 {
        self.total
    }

    pub fn oldest(&self) -> Option<i64> {
        self.entries.front().map(|(time, _)| *time)
    }

    pub fn newest(&self) -> Option<i64> {
        self.entries.back().map(|(time, _)| *time)
    }

    /// The time of the n-th newest event.
    pub fn nth_newest(&self, n: u64) -> Option<i64> {
        let mut seen = 0;
        self.entries
            .iter()
            .rev()
            .find(|(_, count)| {
                seen += u64::from(*count);
                seen >= n
            })
            .map(|(time, _)| *time)
    }

    pub fn shift(&mut self, by: i64) {
        self.entries.iter_mut().for_each(|(time, _)| *time += by);
    }
}
