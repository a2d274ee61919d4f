//! Event conditions at run time: keys, clocks, alerts.

use super::keys::{KeyState, Verdict};
use super::{Captured, Condition, EventRule, event_value};
use crate::config::schema::Comparison;
use crate::model::{EventBatch, Labels, Timestamp};
use crate::rules::SourceHealth;
use crate::rules::alert_state::{
    AlertPhase, AlertStates, Present, RecordedSample, Scope, Transition, advance, write_series,
};
use crate::rules::rule::{Settings, alert_data, expand};
use crate::template::{Dialect, Functions};
use ahash::RandomState;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// Event times further from arrival than this make a stream historical: it is judged by its own time.
const HISTORICAL_US: i64 = 600_000_000;
/// While an alert fires, its texts follow the events at most this often.
const REFRESH_US: i64 = 1_000_000;
/// Active alerts write their `ALERTS` series this often.
const SERIES_EVERY_MS: i64 = 15_000;
/// Event types whose rules are remembered.
const MAX_TYPES: usize = 4_096;
/// Sources that a rule remembers having heard from.
const MAX_SOURCES: usize = 64;

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
}

/// The clock of a rule: event time that runs on between events.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Clock {
    /// A moment of event time, in microseconds.
    base: i64,
    /// When that was.
    at: Timestamp,
    /// An event has set it.
    set: bool,
    /// It stands still: a source is deaf.
    paused: bool,
}

impl Clock {
    fn read(&self, now: Timestamp) -> i64 {
        if self.paused { self.base } else { self.base.saturating_add(now.micros_since(self.at).max(0)) }
    }

    /// When the clock will read `moment`.
    fn when(&self, moment: i64) -> Option<Timestamp> {
        (!self.paused && moment != i64::MAX).then(|| self.at.plus_micros(moment.saturating_sub(self.base).max(0)))
    }
}

struct RuleState {
    rule: Arc<EventRule>,
    clock: Clock,
    slots: HashMap<Box<str>, u32, RandomState>,
    keys: Vec<Option<KeyState>>,
    free: Vec<u32>,
    deadlines: BTreeSet<(i64, u32)>,
    active: BTreeMap<u32, Labels>,
    alerts: AlertStates,
    heard: BTreeSet<Arc<str>>,
    counters: EventCounters,
    /// When `for` or `keep_firing_for` of some alert is over.
    timer: Option<Timestamp>,
}

/// All event conditions.
pub struct EventRules {
    rules: Vec<RuleState>,
    settings: Arc<Settings>,
    by_type: HashMap<Box<str>, Arc<[(u32, u32)]>, RandomState>,
    deaf: BTreeSet<Arc<str>>,
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

    pub(in crate::rules) fn alerts_mut(&mut self) -> impl Iterator<Item = (&Arc<EventRule>, &mut AlertStates)> {
        self.rules.iter_mut().map(|state| (&state.rule, &mut state.alerts))
    }

    /// Takes a batch of events.
    pub(in crate::rules) fn observe(&mut self, now: Timestamp, batch: &EventBatch, out: &mut EventChanges) {
        if self.rules.is_empty() {
            return;
        }
        for (row, event) in batch.events.iter().enumerate() {
            let event_type = batch.text(event.event_type);
            let hits = match self.by_type.get(event_type) {
                Some(hits) => hits.clone(),
                None => self.dispatch(event_type),
            };
            for (rule, step) in hits.iter() {
                let state = &mut self.rules[*rule as usize];
                let select = &state.rule.condition.selects()[*step as usize];
                if !select.matches_fields(batch, row, event) {
                    continue;
                }
                state.event(now, batch, row, *step as usize, *rule as usize, &self.settings, &mut self.scratch, out);
            }
        }
    }

    /// The rules and steps for a type; later steps first, so that one event advances a sequence by one step.
    fn dispatch(&mut self, event_type: &str) -> Arc<[(u32, u32)]> {
        let mut hits = Vec::new();
        for (at, state) in self.rules.iter().enumerate() {
            for (step, select) in state.rule.condition.selects().iter().enumerate().rev() {
                if select.matches_type(event_type) {
                    hits.push((at as u32, step as u32));
                }
            }
        }
        let hits: Arc<[(u32, u32)]> = hits.into();
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
        if !changed {
            return;
        }
        for state in &mut self.rules {
            state.set_paused(now, &self.deaf);
        }
    }

    /// Lets time pass: conditions that become true or false by themselves, `for` that is over.
    pub(in crate::rules) fn tick(&mut self, now: Timestamp, out: &mut EventChanges) {
        for (at, state) in self.rules.iter_mut().enumerate() {
            state.tick(now, at, &self.settings, out);
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
        let rules = self.rules.iter().map(|state| RuleSnapshot {
            name: state.rule.name.clone(),
            file: state.rule.file.clone(),
            text: state.rule.text.clone(),
            clock: state.clock,
            keys: state
                .slots
                .iter()
                .filter_map(|(key, slot)| Some((key.clone(), state.keys[*slot as usize].clone()?)))
                .collect(),
            active: state
                .slots
                .iter()
                .filter_map(|(key, slot)| Some((key.clone(), state.active.get(slot)?.clone())))
                .collect(),
            alerts: state.alerts.iter().map(|(labels, alert)| (labels.clone(), alert.clone())).collect(),
            heard: state.heard.clone(),
            counters: state.counters,
        });
        let mut rules: Vec<RuleSnapshot> = rules.collect();
        for rule in &mut rules {
            rule.keys.sort_by(|a, b| a.0.cmp(&b.0));
            rule.active.sort_by(|a, b| a.0.cmp(&b.0));
        }
        EventRulesSnapshot { rules }
    }

    /// Takes over what is remembered of rules whose condition is unchanged. `lost` is the time that nobody listened: it
    /// counts neither towards `absent` nor towards `for`.
    pub(in crate::rules) fn restore(&mut self, snapshot: EventRulesSnapshot, now: Timestamp, lost_us: i64) {
        let mut old = snapshot.rules;
        for state in &mut self.rules {
            let same = |saved: &RuleSnapshot| {
                saved.name == state.rule.name && saved.file == state.rule.file && saved.text == state.rule.text
            };
            let Some(at) = old.iter().position(same) else { continue };
            state.restore(old.remove(at), now, lost_us);
        }
        self.pause_all(now);
    }

    /// Carries sources and their health over to the rules of a new configuration.
    pub(in crate::rules) fn set_deaf(&mut self, deaf: BTreeSet<Arc<str>>, now: Timestamp) {
        self.deaf = deaf;
        self.pause_all(now);
    }

    pub(in crate::rules) fn deaf(&self) -> &BTreeSet<Arc<str>> {
        &self.deaf
    }

    fn pause_all(&mut self, now: Timestamp) {
        for state in &mut self.rules {
            state.set_paused(now, &self.deaf);
        }
    }
}

impl RuleState {
    fn new(rule: Arc<EventRule>, now: Timestamp) -> Self {
        let clock = Clock { base: now.micros(), at: now, set: false, paused: false };
        let mut state = Self {
            rule: rule.clone(),
            clock,
            slots: HashMap::with_hasher(RandomState::with_seeds(5, 6, 7, 8)),
            keys: Vec::new(),
            free: Vec::new(),
            deadlines: BTreeSet::new(),
            active: BTreeMap::new(),
            alerts: AlertStates::new(),
            heard: BTreeSet::new(),
            counters: EventCounters::default(),
            timer: None,
        };
        // What must be heard from is known before anything was heard.
        match &rule.condition {
            Condition::Absent { keys, .. } if rule.by.is_empty() || !keys.is_empty() => {
                let names: Vec<Vec<Box<str>>> = if rule.by.is_empty() {
                    vec![Vec::new()]
                } else {
                    keys.iter().map(|key| vec![key.as_str().into()]).collect()
                };
                for values in names {
                    state.insert(KeyState::new(&rule, values, now.micros(), true));
                }
            }
            Condition::Count { comparison, .. }
                if rule.by.is_empty() && !matches!(comparison, Comparison::AtLeast | Comparison::MoreThan) =>
            {
                state.insert(KeyState::new(&rule, Vec::new(), now.micros(), true));
            }
            _ => {}
        }
        state
    }

    fn insert(&mut self, mut key: KeyState) -> u32 {
        let clock = self.clock.base;
        key.judge(&self.rule, clock);
        let deadline = key.deadline;
        let name: Box<str> = key.values.join("\u{1f}").into();
        let slot = match self.free.pop() {
            Some(slot) => {
                self.keys[slot as usize] = Some(key);
                slot
            }
            None => {
                self.keys.push(Some(key));
                (self.keys.len() - 1) as u32
            }
        };
        self.slots.insert(name, slot);
        self.deadlines.insert((deadline, slot));
        slot
    }

    fn remove(&mut self, slot: u32) {
        if let Some(key) = self.keys[slot as usize].take() {
            self.deadlines.remove(&(key.deadline, slot));
            self.slots.remove(key.values.join("\u{1f}").as_str());
            self.free.push(slot);
        }
    }

    fn set_paused(&mut self, now: Timestamp, deaf: &BTreeSet<Arc<str>>) {
        if !self.rule.condition.needs_silence() {
            return;
        }
        // A rule that has heard nothing yet may be waiting for any source.
        let paused = if self.heard.is_empty() {
            !deaf.is_empty()
        } else {
            self.heard.iter().any(|source| deaf.contains(source))
        };
        if paused != self.clock.paused {
            self.clock.base = self.clock.read(now);
            self.clock.at = now;
            self.clock.paused = paused;
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the row of a batch and where the changes go; one caller")]
    fn event(
        &mut self,
        now: Timestamp,
        batch: &EventBatch,
        row: usize,
        step: usize,
        index: usize,
        settings: &Settings,
        scratch: &mut String,
        out: &mut EventChanges,
    ) {
        let event = &batch.events[row];
        let arrived = batch.arrived.min(now);
        let time = event.time.map_or(arrived, |time| time.min(arrived));
        if !self.heard.contains(&batch.source) && self.heard.len() < MAX_SOURCES {
            self.heard.insert(batch.source.clone());
        }
        let historical = arrived.micros_since(time) > HISTORICAL_US;
        let Some(at) = self.set_clock(now, time.micros(), historical) else {
            self.counters.late += 1;
            return;
        };
        scratch.clear();
        let mut present = self.rule.by.is_empty();
        for (position, (_, source)) in self.rule.by.iter().enumerate() {
            if position > 0 {
                scratch.push('\u{1f}');
            }
            if let Some(text) = source.text(batch, row, event) {
                present |= !text.is_empty();
                scratch.push_str(text);
            }
        }
        if !present {
            self.counters.without_key += 1;
            return;
        }
        let slot = match self.slots.get(scratch.as_str()) {
            Some(slot) => *slot,
            None => {
                let starts = match &self.rule.condition {
                    Condition::Sequence { steps, missing_last } => {
                        step == 0 || (*missing_last && step + 1 == steps.len())
                    }
                    _ => true,
                };
                if !starts || !self.make_room(now, index, settings, out) {
                    return;
                }
                let values = if self.rule.by.is_empty() {
                    Vec::new()
                } else {
                    scratch.split('\u{1f}').map(Into::into).collect()
                };
                self.insert(KeyState::new(&self.rule, values, at, false))
            }
        };
        let rule = self.rule.clone();
        if let Some(key) = &mut self.keys[slot as usize] {
            key.event(&rule, step, at);
            if !rule.captured.is_empty() {
                key.captured = rule.captured.iter().map(|(_, source)| source.captured(batch, row, event)).collect();
            }
        }
        self.look(slot, now, index, settings, out);
    }

    /// Follows the newest event; the event's moment on the clock, `None` when it is too late to matter.
    fn set_clock(&mut self, now: Timestamp, at: i64, historical: bool) -> Option<i64> {
        let clock = self.clock.read(now);
        if !self.clock.set {
            // The first event says what time it is in this stream; what was expected until now moves along.
            self.shift_keys(at - clock);
            self.clock = Clock { base: at, at: now, set: true, paused: self.clock.paused };
            return Some(at);
        }
        if at > clock {
            self.clock.base = at;
            self.clock.at = now;
            return Some(at);
        }
        if at > clock - self.rule.within_us {
            return Some(at);
        }
        let clock_is_historical = now.micros() - clock > HISTORICAL_US;
        if historical && clock_is_historical {
            // Old events begin again, for example the same file once more.
            self.clock.base = at;
            self.clock.at = now;
            self.shift_keys(at - clock);
            return Some(at);
        }
        None
    }

    fn shift_keys(&mut self, by: i64) {
        if by == 0 {
            return;
        }
        self.deadlines.clear();
        for (slot, key) in self.keys.iter_mut().enumerate() {
            if let Some(key) = key {
                key.shift(by);
                self.deadlines.insert((key.deadline, slot as u32));
            }
        }
    }

    /// Room for one more key: `count` forgets the key whose window ends first, the others refuse the new one.
    fn make_room(&mut self, now: Timestamp, index: usize, settings: &Settings, out: &mut EventChanges) -> bool {
        if self.slots.len() < settings.pattern_keys.max(1) {
            return true;
        }
        if self.rule.condition.needs_silence() {
            self.counters.keys_refused += 1;
            return false;
        }
        let Some((_, slot)) = self.deadlines.first().copied() else { return false };
        self.counters.keys_evicted += 1;
        self.end(slot, now, index, out);
        self.remove(slot);
        true
    }

    /// Judges a key now and lets its alert follow.
    fn look(&mut self, slot: u32, now: Timestamp, index: usize, settings: &Settings, out: &mut EventChanges) {
        let clock = self.clock.read(now);
        let rule = self.rule.clone();
        let Some(key) = &mut self.keys[slot as usize] else { return };
        self.deadlines.remove(&(key.deadline, slot));
        let verdict = key.judge(&rule, clock);
        self.deadlines.insert((key.deadline, slot));
        let held = std::mem::replace(&mut key.holds, matches!(verdict, Verdict::Holds(_)));
        match verdict {
            Verdict::Holds(value) => {
                if held && clock - key.refreshed < REFRESH_US {
                    return;
                }
                key.refreshed = clock;
                let case = present(&rule, key, value, now, settings);
                self.raise(slot, case, now, index, settings, out);
            }
            Verdict::Not if held => self.end(slot, now, index, out),
            Verdict::Not => {}
            Verdict::Forget => {
                self.end(slot, now, index, out);
                self.remove(slot);
            }
        }
    }

    fn raise(
        &mut self,
        slot: u32,
        case: Present,
        now: Timestamp,
        index: usize,
        settings: &Settings,
        out: &mut EventChanges,
    ) {
        let labels = case.labels.clone();
        if self.active.get(&slot).is_some_and(|known| *known != labels) {
            self.end(slot, now, index, out);
        }
        if !self.alerts.contains_key(&labels) && self.alerts.len() >= settings.alerts_per_rule.max(1) {
            self.counters.keys_refused += 1;
            return;
        }
        self.active.insert(slot, labels.clone());
        self.step(&labels, Some(case), now, index, out);
    }

    fn end(&mut self, slot: u32, now: Timestamp, index: usize, out: &mut EventChanges) {
        if let Some(labels) = self.active.remove(&slot) {
            self.step(&labels, None, now, index, out);
        }
    }

    fn step(&mut self, labels: &Labels, case: Option<Present>, now: Timestamp, index: usize, out: &mut EventChanges) {
        let old = self.alerts.get(labels);
        let (next, change) = advance(old, labels, case, self.rule.timing, now);
        write_series(labels, old, next.as_ref(), Scope::Raise, now.millis(), &mut out.samples);
        out.published |= old.and_then(|old| old.published.as_ref()).is_some()
            || next.as_ref().is_some_and(|next| next.phase != AlertPhase::Pending);
        out.transitions.extend(change.map(|change| (index, change)));
        match next {
            Some(next) => self.alerts.insert(labels.clone(), next),
            None => self.alerts.remove(labels),
        };
        self.set_timer();
    }

    fn set_timer(&mut self) {
        let timing = self.rule.timing;
        let due = |state: &crate::rules::alert_state::AlertState| match state.phase {
            AlertPhase::Pending => Some(state.active_at.plus_millis(timing.for_ms)),
            AlertPhase::Firing => state.keep_firing_since.map(|since| since.plus_millis(timing.keep_firing_for_ms)),
            AlertPhase::Inactive => {
                state.resolved_at.map(|at| at.plus_millis(crate::rules::alert_state::RESOLVED_RETENTION_MS + 1))
            }
        };
        self.timer = self.alerts.values().filter_map(due).min();
    }

    fn tick(&mut self, now: Timestamp, index: usize, settings: &Settings, out: &mut EventChanges) {
        let clock = self.clock.read(now);
        while let Some((deadline, slot)) = self.deadlines.first().copied()
            && deadline <= clock
            && !self.clock.paused
        {
            self.look(slot, now, index, settings, out);
            if self.deadlines.first() == Some(&(deadline, slot)) {
                // The verdict did not move the deadline; look again in a second at the earliest.
                self.deadlines.remove(&(deadline, slot));
                if let Some(key) = &mut self.keys[slot as usize] {
                    key.deadline = clock + 1_000_000;
                    self.deadlines.insert((key.deadline, slot));
                }
            }
        }
        if self.timer.is_some_and(|timer| timer <= now) {
            self.timers(now, index, settings, out);
        }
    }

    /// `for` and `keep_firing_for` that are over, resolved alerts that were kept long enough.
    fn timers(&mut self, now: Timestamp, index: usize, settings: &Settings, out: &mut EventChanges) {
        let clock = self.clock.read(now);
        let held: BTreeMap<Labels, u32> = self.active.iter().map(|(slot, labels)| (labels.clone(), *slot)).collect();
        let all: Vec<Labels> = self.alerts.keys().cloned().collect();
        for labels in all {
            let case = held.get(&labels).and_then(|slot| {
                let rule = self.rule.clone();
                let key = self.keys[*slot as usize].as_mut()?;
                match key.judge(&rule, clock) {
                    Verdict::Holds(value) => Some(present(&rule, key, value, now, settings)),
                    Verdict::Not | Verdict::Forget => None,
                }
            });
            if case.as_ref().is_none_or(|case| case.labels == labels) {
                self.step(&labels, case, now, index, out);
            }
        }
        self.deadlines = self
            .keys
            .iter()
            .enumerate()
            .filter_map(|(slot, key)| Some((key.as_ref()?.deadline, slot as u32)))
            .collect();
        self.set_timer();
        // A timer that a step did not move would be due at once, for ever.
        if self.timer.is_some_and(|timer| timer <= now) {
            self.timer = Some(now.plus_millis(1_000));
        }
    }

    fn next_due(&self) -> Option<Timestamp> {
        let deadline = self.deadlines.first().and_then(|(deadline, _)| self.clock.when(*deadline));
        deadline.into_iter().chain(self.timer).min()
    }

    fn restore(&mut self, saved: RuleSnapshot, now: Timestamp, lost_us: i64) {
        let paused = self.clock.paused;
        self.clock = Clock { at: saved.clock.at.plus_micros(lost_us).min(now), paused, ..saved.clock };
        for (_, key) in saved.keys {
            let name = key.values.join("\u{1f}");
            if let Some(slot) = self.slots.get(name.as_str()).copied() {
                self.remove(slot);
            }
            let deadline = key.deadline;
            let slot = self.insert(key);
            if let Some(key) = &mut self.keys[slot as usize] {
                self.deadlines.remove(&(key.deadline, slot));
                key.deadline = deadline;
                self.deadlines.insert((deadline, slot));
            }
        }
        for (key, labels) in saved.active {
            if let Some(slot) = self.slots.get(&*key) {
                self.active.insert(*slot, labels);
            }
        }
        self.alerts = saved
            .alerts
            .into_iter()
            .map(|(labels, mut alert)| {
                if alert.phase == AlertPhase::Pending {
                    alert.active_at = alert.active_at.plus_micros(lost_us);
                }
                alert.keep_firing_since = alert.keep_firing_since.map(|since| since.plus_micros(lost_us));
                (labels, alert)
            })
            .collect();
        self.heard = saved.heard;
        self.counters = saved.counters;
        self.set_timer();
    }
}

/// The case of a key for which the condition holds, its texts expanded.
fn present(rule: &EventRule, key: &KeyState, value: f64, now: Timestamp, settings: &Settings) -> Present {
    let by = Labels::from_pairs(rule.by.iter().map(|(name, _)| &**name).zip(key.values.iter().map(|value| &**value)));
    let empty: Vec<Captured> = Vec::new();
    let captured = if key.captured.len() == rule.captured.len() { &key.captured } else { &empty };
    let data = alert_data(settings, &by, value, event_value(rule, captured));
    let functions = Functions::new(Dialect::Prometheus, now, &settings.external_url);
    let (labels, annotations) = expand(&rule.name, &by, &data, &rule.labels, &rule.annotations, &functions);
    Present { labels, annotations, value }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct RuleSnapshot {
    name: Arc<str>,
    file: Arc<str>,
    text: String,
    clock: Clock,
    keys: Vec<(Box<str>, KeyState)>,
    active: Vec<(Box<str>, Labels)>,
    alerts: Vec<(Labels, crate::rules::alert_state::AlertState)>,
    heard: BTreeSet<Arc<str>>,
    counters: EventCounters,
}

/// What event conditions remember, for the checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EventRulesSnapshot {
    rules: Vec<RuleSnapshot>,
}
