//! `sequence`: events of one key in order.
//!
//! The times of each step are kept, so that the order of arrival does not matter: what counts is whether there are times
//! t0 <= t1 <= ... within the window. Among several beginnings the latest one that fits is taken.

use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// Times kept of each step.
pub(super) const MAX_TIMES: usize = 32;

/// What is remembered of one key; times are microseconds on the rule's clock.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Steps {
    /// The times of each step, in order.
    times: Vec<VecDeque<i64>>,
    /// The steps that were found in order (with `missing: last` all but the last): when the first and the latest came.
    found: Option<(i64, i64)>,
    /// With `missing: last`: the last step came.
    complete: bool,
}

impl Steps {
    pub fn new(steps: usize) -> Self {
        Self { times: vec![VecDeque::new(); steps], found: None, complete: false }
    }

    /// Takes an event of a step.
    pub fn event(&mut self, step: usize, at: i64, within_us: i64, missing_last: bool) {
        let Some(times) = self.times.get_mut(step) else { return };
        let position = times.partition_point(|time| *time <= at);
        times.insert(position, at);
        if times.len() > MAX_TIMES {
            times.pop_front();
        }
        let last = self.times.len() - 1;
        if !missing_last {
            // A later repetition makes it hold for longer; an event that comes late takes nothing back.
            let later =
                chain(&self.times, within_us).filter(|(_, latest)| self.found.is_none_or(|(_, known)| *latest > known));
            self.found = later.or(self.found);
            return;
        }
        if self.found.is_none() {
            self.found = chain(&self.times[..last], within_us);
        }
        // The last step may have overtaken the ones before it.
        self.complete = self.found.is_some() && !self.times[last].is_empty();
    }

    pub fn is_complete(&self) -> bool {
        self.complete
    }

    pub fn found(&self) -> Option<(i64, i64)> {
        self.found
    }

    /// The first step of which no event is known.
    pub fn missing(&self) -> Option<usize> {
        self.times.iter().position(VecDeque::is_empty)
    }

    /// The newest time of any step.
    pub fn newest(&self) -> Option<i64> {
        self.times.iter().filter_map(|times| times.back().copied()).max()
    }

    pub fn shift(&mut self, by: i64) {
        self.times.iter_mut().flatten().for_each(|time| *time += by);
        self.found = self.found.map(|(first, latest)| (first + by, latest + by));
    }
}

/// The first and the latest time of steps in order within the window, beginning as late as possible.
fn chain(times: &[VecDeque<i64>], within_us: i64) -> Option<(i64, i64)> {
    let (beginnings, rest) = times.split_first()?;
    beginnings.iter().rev().find_map(|first| {
        let latest = rest.iter().try_fold(*first, |before, times| {
            let next = times.partition_point(|time| *time < before);
            times.get(next).copied()
        })?;
        (latest - first <= within_us).then_some((*first, latest))
    })
}
