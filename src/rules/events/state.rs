//! Event conditions at run time: keys, clocks, alerts.

use super::EventRule;
use super::running::{RuleSnapshot, RuleState};
use crate::model::{EventBatch, Timestamp};
use crate::promql::Options;
use crate::rules::SourceHealth;
use crate::rules::alert_state::{AlertStates, RecordedSample, Scope, Transition, write_series};
use crate::rules::eval::query;
use crate::rules::rule::Settings;
use crate::rules::schedule::SERIES_EVERY_MS;
use crate::series::Storage;
use crate::template::Value;
use ahash::RandomState;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// Samples that a query of a template may touch.
const QUERY_SAMPLES: usize = 1_000_000;
/// Event types whose rules are remembered.
const MAX_TYPES: usize = 4_096;

/// What happened to events that rules could not use as they came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventCounters {
    /// Older than the rule's window.
    pub late: u64,
    /// Without a value for any path of `by`.
    pub without_key: u64,
    /// Keys that were dropped because `limits.pattern_keys` was reached.
    pub keys_evicted: u64,
    /// New keys that were refused for the same reason.
    pub keys_refused: u64,
    /// Without a whole number where a `gap` looks for one.
    pub without_number: u64,
    /// Numbers of a `gap` that were there already.
    pub duplicates: u64,
    /// Numbers of a `gap` that began anew.
    pub resets: u64,
}

impl EventCounters {
    /// Each count with its reason, as the metric names it.
    pub fn by_reason(&self) -> [(&'static str, u64); 7] {
        [
            ("late", self.late),
            ("without_key", self.without_key),
            ("key_evicted", self.keys_evicted),
            ("key_refused", self.keys_refused),
            ("without_number", self.without_number),
            ("duplicate_number", self.duplicates),
            ("number_reset", self.resets),
        ]
    }
}

/// What the texts of alerts read.
pub(in crate::rules) struct Around<'a> {
    pub settings: &'a Settings,
    pub storage: &'a dyn Storage,
}

impl Around<'_> {
    /// `query` of templates: it runs where events are counted, so that it is held short.
    pub fn query(&self, text: &str, now: Timestamp) -> Result<Vec<Value>, String> {
        let options = Options { max_samples: QUERY_SAMPLES, ..Options::default() };
        query(text, now.millis(), self.storage, &options)
    }
}

/// Rules and steps that look at a type.
type Hits = Arc<[(u32, u32)]>;

/// All event conditions.
pub struct EventRules {
    rules: Vec<RuleState>,
    settings: Arc<Settings>,
    by_type: HashMap<Box<str>, Hits, RandomState>,
    deaf: BTreeSet<Arc<str>>,
    catching_up: BTreeSet<Arc<str>>,
    next_series_ms: i64,
    scratch: String,
}

/// What changed: for the log, the series, the published set.
#[derive(Debug, Default)]
pub(in crate::rules) struct EventChanges {
    pub transitions: Vec<(usize, Transition)>,
    pub samples: Vec<RecordedSample>,
    /// Some published alert is no longer as it was.
    pub published: bool,
}

impl EventRules {
    /// All rules with nothing remembered.
    pub(in crate::rules) fn new(rules: &[Arc<EventRule>], settings: Arc<Settings>, now: Timestamp) -> Self {
        Self {
            rules: rules.iter().map(|rule| RuleState::new(rule.clone(), now)).collect(),
            settings,
            by_type: HashMap::with_hasher(RandomState::with_seeds(1, 2, 3, 4)),
            deaf: BTreeSet::new(),
            catching_up: BTreeSet::new(),
            next_series_ms: now.millis() + SERIES_EVERY_MS,
            scratch: String::new(),
        }
    }

    /// Whether there is no condition at all.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// The rules with their alerts.
    pub(in crate::rules) fn iter(&self) -> impl Iterator<Item = (&Arc<EventRule>, &AlertStates, EventCounters)> {
        self.rules.iter().map(|state| (&state.rule, &state.alerts, state.counters))
    }

    /// The conditions in order.
    pub(super) fn rule_states(&self) -> &[RuleState] {
        &self.rules
    }

    pub(in crate::rules) fn alerts_mut(&mut self) -> impl Iterator<Item = &mut AlertStates> {
        self.rules.iter_mut().map(|state| &mut state.alerts)
    }

    /// Takes a batch of events.
    pub(in crate::rules) fn observe(
        &mut self,
        now: Timestamp,
        batch: &EventBatch,
        storage: &dyn Storage,
        out: &mut EventChanges,
    ) {
        if self.rules.is_empty() {
            return;
        }
        let settings = self.settings.clone();
        let around = Around { settings: &settings, storage };
        for (row, event) in batch.events.iter().enumerate() {
            let event_type = batch.text(event.event_type);
            let hits = match self.by_type.get(event_type) {
                Some(hits) => hits.clone(),
                None => self.dispatch(event_type),
            };
            for (rule, step) in hits.iter() {
                let state = &mut self.rules[*rule as usize];
                if !state.listens_to(&batch.source) {
                    continue;
                }
                let select = &state.rule.condition.selects()[*step as usize];
                if !select.matches_fields(batch, row, event) {
                    continue;
                }
                let heard = state.sources_heard();
                let before = out.transitions.len();
                state.event(now, batch, row, *step as usize, *rule as usize, &around, &mut self.scratch, out);
                let happened = event.time.map_or(batch.arrived, |time| time.min(batch.arrived));
                for (_, change) in &mut out.transitions[before..] {
                    change.since = change.since.min(happened);
                }
                if heard != state.sources_heard() && !self.deaf.is_empty() {
                    // Now it is known which source this rule depends on.
                    state.set_paused(now, &self.deaf);
                }
            }
        }
    }

    /// The rules and steps for a type; later steps first, so that one event advances a sequence by one step.
    fn dispatch(&mut self, event_type: &str) -> Hits {
        let mut hits = Vec::new();
        for (at, state) in self.rules.iter().enumerate() {
            for (step, select) in state.rule.condition.selects().iter().enumerate().rev() {
                if select.matches_type(event_type) {
                    hits.push((at as u32, step as u32));
                }
            }
        }
        let hits: Hits = hits.into();
        if self.by_type.len() >= MAX_TYPES {
            self.by_type.clear();
        }
        self.by_type.insert(event_type.into(), hits.clone());
        hits
    }

    /// A source fell deaf or hears again.
    pub(in crate::rules) fn source_state(&mut self, now: Timestamp, source: &Arc<str>, health: &SourceHealth) {
        let changed = if matches!(health, SourceHealth::Live) {
            self.deaf.remove(source)
        } else {
            self.deaf.insert(source.clone())
        };
        // A source that caught up has delivered what was missed; one that is simply back has not.
        let caught_up = match health {
            SourceHealth::CatchingUp => !self.catching_up.insert(source.clone()),
            _ => self.catching_up.remove(source),
        };
        if !changed {
            return;
        }
        for state in &mut self.rules {
            if matches!(health, SourceHealth::Live) && !caught_up {
                state.missed(source);
            }
            state.set_paused(now, &self.deaf);
        }
    }

    /// Lets time pass: conditions that become true or false by themselves, `for` that is over.
    pub(in crate::rules) fn tick(&mut self, now: Timestamp, storage: &dyn Storage, out: &mut EventChanges) {
        let settings = self.settings.clone();
        let around = Around { settings: &settings, storage };
        for (at, state) in self.rules.iter_mut().enumerate() {
            state.tick(now, at, &around, out);
        }
        if now.millis() >= self.next_series_ms {
            self.next_series_ms = now.millis() + SERIES_EVERY_MS;
            for state in &self.rules {
                for (labels, alert) in &state.alerts {
                    write_series(labels, Some(alert), Some(alert), Scope::Whole, now.millis(), &mut out.samples);
                }
            }
        }
    }

    /// When `tick` has something to do.
    pub fn next_due(&self) -> Option<Timestamp> {
        let active = self.rules.iter().any(|state| !state.active.is_empty());
        let series = active.then(|| Timestamp::from_millis(self.next_series_ms));
        self.rules.iter().flat_map(RuleState::next_due).chain(series).min()
    }

    /// Everything remembered.
    pub(in crate::rules) fn snapshot(&self) -> EventRulesSnapshot {
        let rules = self.rules.iter().map(RuleState::snapshot).collect();
        EventRulesSnapshot { rules }
    }

    /// Takes over what is remembered of rules whose condition is unchanged. `lost` is the time that nobody listened: it
    /// counts neither towards `absent` nor towards `for`.
    pub(in crate::rules) fn restore(&mut self, snapshot: EventRulesSnapshot, now: Timestamp, lost_us: i64) {
        let mut old = snapshot.rules;
        for state in &mut self.rules {
            let same = |saved: &RuleSnapshot| {
                saved.name == state.rule.name && saved.file == state.rule.file && saved.identity == state.rule.identity
            };
            let Some(at) = old.iter().position(same) else { continue };
            state.restore(old.remove(at), now, lost_us);
        }
        self.pause_all(now);
    }

    /// Carries sources and their health over from the rules of the configuration before.
    pub(in crate::rules) fn take_sources(&mut self, before: &Self, now: Timestamp) {
        (self.deaf, self.catching_up) = (before.deaf.clone(), before.catching_up.clone());
        self.pause_all(now);
    }

    fn pause_all(&mut self, now: Timestamp) {
        for state in &mut self.rules {
            state.set_paused(now, &self.deaf);
        }
    }
}

/// What event conditions remember, for the checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EventRulesSnapshot {
    rules: Vec<RuleSnapshot>,
}
