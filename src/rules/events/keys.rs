//! What one condition remembers of one key: pure steps on the events' own time.

use super::count::Times;
use super::gap::{self, Numbers};
use super::rate_change::Windows;
use super::sequence::Steps;
use super::{Captured, Condition, EventRule};
use crate::config::schema::Comparison;
use serde::{Deserialize, Serialize};

/// A key that fell silent is forgotten after this long, and the alert about it ends.
pub(super) const FORGET_US: i64 = 24 * 3_600_000_000;
/// An alert about a missing event ends after this long.
pub(super) const MISSING_ENDS_US: i64 = 3_600_000_000;

/// The state of one key; times are microseconds on the rule's clock.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct KeyState {
    /// The values of `by`.
    pub values: Vec<Box<str>>,
    pub progress: Progress,
    /// Fields of the events, where templates ask for them.
    pub captured: Vec<Captured>,
    /// When to look again.
    pub deadline: i64,
    /// Whether the condition held when last looked at.
    pub holds: bool,
    /// The rule's clock when the alert's texts were last made.
    pub refreshed: i64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Progress {
    /// The newest times of events, in order; since when the key is known.
    Count { times: Times, since: i64 },
    /// The newest event; expected keys are never forgotten.
    Absent { last: i64, expected: bool },
    /// The times of the steps.
    Sequence(Steps),
    /// The events of each window.
    Rate(Windows),
    /// When the value was first seen.
    FirstSeen { at: i64 },
    /// The numbers that are missing.
    Gap(Numbers),
}

/// An event as a key sees it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    /// Which step of the condition it is.
    pub step: usize,
    /// Its moment on the rule's clock.
    pub at: i64,
    /// The number of a `gap`.
    pub number: Option<i64>,
}

/// What a look at a key says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Verdict {
    /// The condition holds with this value.
    Holds(f64),
    /// It does not; the key stays.
    Not,
    /// It does not, and the key can be forgotten.
    Forget,
}

impl KeyState {
    pub fn new(rule: &EventRule, values: Vec<Box<str>>, at: i64, expected: bool) -> Self {
        let progress = match &rule.condition {
            Condition::Count { .. } => Progress::Count { times: Times::default(), since: at },
            Condition::Absent { .. } => Progress::Absent { last: at, expected },
            Condition::Sequence { steps, .. } => Progress::Sequence(Steps::new(steps.len())),
            Condition::RateChange { rate, .. } => Progress::Rate(Windows::new(at, rate)),
            Condition::FirstSeen { .. } => Progress::FirstSeen { at },
            Condition::Gap { .. } => Progress::Gap(Numbers::new(at)),
        };
        Self { values, progress, captured: Vec::new(), deadline: i64::MAX, holds: false, refreshed: i64::MIN }
    }

    /// Takes an event of a step; what its number is, for a `gap`.
    pub fn event(&mut self, rule: &EventRule, seen: Seen) -> Option<gap::Step> {
        let Seen { step, at, number } = seen;
        match (&mut self.progress, &rule.condition) {
            (Progress::Count { times, .. }, _) => times.add(at, rule.within_us),
            (Progress::Rate(windows), Condition::RateChange { rate, .. }) => windows.event(at, rate),
            (Progress::Gap(numbers), _) => return number.map(|number| numbers.take(number, at)),
            (Progress::Absent { last, .. }, _) => *last = (*last).max(at),
            (Progress::Sequence(steps), Condition::Sequence { missing_last, .. }) => {
                steps.event(step, at, rule.within_us, *missing_last);
            }
            _ => {}
        }
        None
    }

    /// Judges the key at a moment of the rule's clock and sets the next deadline.
    pub fn judge(&mut self, rule: &EventRule, clock: i64) -> Verdict {
        let within = rule.within_us;
        match (&mut self.progress, &rule.condition) {
            (Progress::Count { times, since }, Condition::Count { comparison, count, .. }) => {
                times.forget(clock - within);
                let seen = times.len();
                if !matches!(comparison, Comparison::AtLeast | Comparison::MoreThan) {
                    // Few events mean something only after a whole window of listening.
                    let heard_enough = clock - *since >= within;
                    let newest = times.newest().unwrap_or(*since);
                    let idle_end = newest.saturating_add(FORGET_US);
                    self.deadline = times.oldest().map_or(idle_end, |time| time + within);
                    if !heard_enough {
                        self.deadline = self.deadline.min(*since + within);
                    }
                    if seen == 0 && clock >= idle_end && !self.values.is_empty() {
                        return Verdict::Forget;
                    }
                    let holds = heard_enough && compare(*comparison, seen, *count);
                    return if holds { Verdict::Holds(seen as f64) } else { Verdict::Not };
                }
                let Some(newest) = times.newest() else { return Verdict::Forget };
                if compare(*comparison, seen, *count) {
                    let needed = count.saturating_add(u64::from(*comparison == Comparison::MoreThan)).max(1);
                    self.deadline = times.nth_newest(needed).unwrap_or(newest) + within;
                    return Verdict::Holds(seen as f64);
                }
                self.deadline = newest + within;
                Verdict::Not
            }
            (Progress::Absent { last, expected }, _) => {
                let silent = clock - *last;
                if silent < within {
                    self.deadline = *last + within;
                    return Verdict::Not;
                }
                if silent >= FORGET_US.max(within.saturating_mul(2)) && !*expected {
                    return Verdict::Forget;
                }
                self.deadline = if *expected { i64::MAX } else { *last + FORGET_US.max(within.saturating_mul(2)) };
                Verdict::Holds(silent as f64 / 1e6)
            }
            (Progress::Sequence(steps), Condition::Sequence { missing_last, .. }) => {
                let newest = steps.newest().unwrap_or(clock);
                let Some((first, latest)) = steps.found() else {
                    // Still on its way, or only the last step was seen.
                    self.deadline = newest + within;
                    return if clock >= self.deadline { Verdict::Forget } else { Verdict::Not };
                };
                let due = latest + within;
                if !*missing_last {
                    self.deadline = due;
                    return if clock >= due { Verdict::Forget } else { Verdict::Holds((latest - first) as f64 / 1e6) };
                }
                if steps.is_complete() || clock >= due + MISSING_ENDS_US {
                    return Verdict::Forget;
                }
                if clock < due {
                    self.deadline = due;
                    return Verdict::Not;
                }
                self.deadline = due + MISSING_ENDS_US;
                Verdict::Holds((clock - latest) as f64 / 1e6)
            }
            (Progress::Rate(windows), Condition::RateChange { rate, .. }) => {
                let (found, next) = windows.judge(clock, rate);
                self.deadline = next;
                match found {
                    Some(change) => Verdict::Holds(change.deviations),
                    None if windows.is_empty() => Verdict::Forget,
                    None => Verdict::Not,
                }
            }
            (Progress::FirstSeen { at }, _) => {
                self.deadline = *at + within;
                if clock < self.deadline { Verdict::Holds(1.0) } else { Verdict::Forget }
            }
            (Progress::Gap(numbers), _) => {
                let (missing, next) = numbers.judge(clock, within);
                self.deadline = next;
                match missing {
                    0 if numbers.is_idle(clock) => Verdict::Forget,
                    0 => Verdict::Not,
                    missing => Verdict::Holds(missing as f64),
                }
            }
            _ => Verdict::Forget,
        }
    }

    /// What templates find in `$event.condition`.
    pub fn facts(&self) -> Vec<(&'static str, f64)> {
        match &self.progress {
            Progress::Rate(windows) => windows.found().map_or_else(Vec::new, |change| {
                vec![("count", change.count), ("expected", change.expected), ("deviations", change.deviations)]
            }),
            Progress::Gap(numbers) => numbers
                .range()
                .map_or_else(Vec::new, |(first, last)| vec![("first", first as f64), ("last", last as f64)]),
            Progress::Sequence(steps) => {
                steps.found().map_or_else(Vec::new, |(first, latest)| vec![("seconds", (latest - first) as f64 / 1e6)])
            }
            Progress::Count { times, .. } => vec![("count", times.len() as f64)],
            Progress::Absent { .. } | Progress::FirstSeen { .. } => Vec::new(),
        }
    }

    /// Whether it can make room for another key without losing an alert.
    pub fn can_go(&self) -> bool {
        match &self.progress {
            Progress::Gap(numbers) => numbers.is_whole(),
            Progress::Rate(windows) => windows.found().is_none(),
            _ => true,
        }
    }

    /// Says that nobody listened between two moments.
    pub fn unheard(&mut self, rule: &EventRule, from: i64, to: i64) {
        if let (Progress::Rate(windows), Condition::RateChange { rate, .. }) = (&mut self.progress, &rule.condition) {
            windows.unheard(from, to, rate);
        }
    }

    /// Says that events were lost on their way to us.
    pub fn missed(&mut self) {
        if let Progress::Gap(numbers) = &mut self.progress {
            numbers.allow_jump();
        }
    }

    /// Moves everything in time, when the rule's clock is set anew.
    pub fn shift(&mut self, rule: &EventRule, by: i64) {
        match &mut self.progress {
            Progress::Count { times, since } => {
                times.shift(by);
                *since += by;
            }
            Progress::Rate(windows) => {
                if let Condition::RateChange { rate, .. } = &rule.condition {
                    windows.shift(by, rate);
                }
            }
            Progress::FirstSeen { at } => *at += by,
            Progress::Gap(numbers) => numbers.shift(by),
            Progress::Absent { last, .. } => *last += by,
            Progress::Sequence(steps) => steps.shift(by),
        }
        self.deadline = self.deadline.saturating_add(by);
    }
}

fn compare(comparison: Comparison, seen: u64, count: u64) -> bool {
    match comparison {
        Comparison::AtLeast => seen >= count,
        Comparison::MoreThan => seen > count,
        Comparison::AtMost => seen <= count,
        Comparison::LessThan => seen < count,
        Comparison::Equal => seen == count,
        Comparison::NotEqual => seen != count,
    }
}
