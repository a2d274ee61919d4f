//! What an event condition knows, for people: its keys with their counts, and the steps that are missing.

use super::keys::{Progress, Verdict};
use super::running::RuleState;
use super::state::EventRules;
use super::{Condition, EventCounters};
use crate::mapping::select::Select;
use crate::model::{Labels, Timestamp, format_duration_ms};
use serde::Serialize;
use std::sync::Arc;

/// Keys that are shown: those for which the condition holds first.
const KEYS_SHOWN: usize = 20;

/// An event condition as it stands.
#[derive(Clone, Debug, Serialize)]
pub struct EventWhy {
    /// `within`, in milliseconds.
    pub within_ms: i64,
    /// Keys that are known.
    pub keys_total: usize,
    /// Some of them.
    pub keys: Vec<KeyWhy>,
    /// Nothing is concluded from silence, because a source cannot be heard.
    pub paused: bool,
    /// Events that could not be used.
    pub counters: EventCounters,
}

/// One key.
#[derive(Clone, Debug, Serialize)]
pub struct KeyWhy {
    /// The labels that `by` makes.
    pub labels: Labels,
    /// Whether the condition holds for it.
    pub holds: bool,
    /// Where it stands, in words.
    pub text: String,
}

impl EventRules {
    /// The condition of the rule at an index, as it stands.
    pub(in crate::rules) fn inspect(&self, index: usize, now: Timestamp) -> Option<EventWhy> {
        self.rule_states().get(index).map(|state| state.inspect(now))
    }
}

impl RuleState {
    fn inspect(&self, now: Timestamp) -> EventWhy {
        let (clock, paused) = self.clock_reads(now);
        let names: Vec<Arc<str>> = self.rule.by.iter().map(|(name, _)| name.clone()).collect();
        let mut keys: Vec<KeyWhy> = Vec::new();
        let mut total = 0;
        for key in self.known_keys() {
            total += 1;
            // Judging sets the next deadline: of a copy.
            let mut copy = key.clone();
            let verdict = copy.judge(&self.rule, clock);
            let holds = matches!(verdict, Verdict::Holds(_));
            if keys.len() >= KEYS_SHOWN && !holds {
                continue;
            }
            let labels =
                Labels::from_pairs(names.iter().map(|name| &**name).zip(key.values.iter().map(|value| &**value)));
            let text = in_words(&copy.progress, &self.rule.condition, verdict, clock, self.rule.within_us);
            keys.push(KeyWhy { labels, holds, text });
        }
        keys.sort_by(|a, b| (!a.holds, &a.labels).cmp(&(!b.holds, &b.labels)));
        keys.truncate(KEYS_SHOWN);
        EventWhy { within_ms: self.rule.within_us / 1_000, keys_total: total, keys, paused, counters: self.counters }
    }
}

fn ago(clock: i64, at: i64) -> String {
    format_duration_ms(clock.saturating_sub(at).max(0) / 1_000_000 * 1_000)
}

fn in_words(progress: &Progress, condition: &Condition, verdict: Verdict, clock: i64, within_us: i64) -> String {
    let within = format_duration_ms(within_us / 1_000);
    match (progress, condition) {
        (Progress::Count { times, .. }, Condition::Count { comparison, count, .. }) => {
            format!("{} in the last {within}, fires at {} {count}", times.len(), super::symbol(*comparison))
        }
        (Progress::Absent { last, .. }, _) => {
            format!("last heard {} ago, fires after {within}", ago(clock, *last))
        }
        (Progress::Sequence(seen), Condition::Sequence { steps, missing_last }) => {
            let name = |at: usize| steps.get(at).map_or("?", Select::text);
            let newest = seen.newest().map_or_else(|| "never".to_owned(), |at| format!("{} ago", ago(clock, at)));
            match seen.missing() {
                None => format!("every step came, the latest {newest}"),
                Some(0) => format!("{} is missing, another step came {newest}", name(0)),
                Some(at) => {
                    let fires = *missing_last && at + 1 == steps.len();
                    let fires = if fires { format!(", fires {within} after that") } else { String::new() };
                    format!("{} came, the latest step {newest}, {} is missing{fires}", name(at - 1), name(at))
                }
            }
        }
        (Progress::Gap(numbers), _) => match numbers.range() {
            Some((first, last)) if first == last => format!("number {first} is missing"),
            Some((first, last)) => format!("numbers between {first} and {last} are missing"),
            None => "no number is missing".into(),
        },
        (Progress::Rate(windows), _) => match windows.found() {
            Some(change) => format!(
                "{} in a window of {within} where {} are usual ({:.1} robust deviations)",
                change.count, change.expected, change.deviations
            ),
            None => "as usual".into(),
        },
        (Progress::FirstSeen { at }, _) => format!("first seen {} ago", ago(clock, *at)),
        _ => match verdict {
            Verdict::Holds(value) => format!("holds with {value}"),
            Verdict::Not | Verdict::Forget => "does not hold".into(),
        },
    }
}
