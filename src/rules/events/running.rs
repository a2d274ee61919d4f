//! One event condition at run time: its clock, its keys, its alerts.

use super::keys::{KeyState, Verdict};
use super::state::EventChanges;
use super::{Captured, Condition, EventCounters, EventRule, event_value};
use crate::config::schema::Comparison;
use crate::model::{EventBatch, Labels, Timestamp};
use crate::rules::alert_state::{
    AlertPhase, AlertState, AlertStates, Present, RESOLVED_RETENTION_MS, Scope, advance, write_series,
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
/// Sources that a rule remembers having heard from.
const MAX_SOURCES: usize = 64;

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

pub(super) struct RuleState {
    pub rule: Arc<EventRule>,
    clock: Clock,
    slots: HashMap<Box<str>, u32, RandomState>,
    keys: Vec<Option<KeyState>>,
    free: Vec<u32>,
    deadlines: BTreeSet<(i64, u32)>,
    pub active: BTreeMap<u32, Labels>,
    pub alerts: AlertStates,
    heard: BTreeSet<Arc<str>>,
    pub counters: EventCounters,
    /// When `for` or `keep_firing_for` of some alert is over.
    timer: Option<Timestamp>,
}

impl RuleState {
    pub fn new(rule: Arc<EventRule>, now: Timestamp) -> Self {
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

    /// How many sources it has heard from.
    pub fn sources_heard(&self) -> usize {
        self.heard.len()
    }

    pub fn set_paused(&mut self, now: Timestamp, deaf: &BTreeSet<Arc<str>>) {
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
    pub fn event(
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
        // What is missing may come however late (the machine slept, the transport was slow): it still came.
        let closes = match &self.rule.condition {
            Condition::Sequence { steps, missing_last } => *missing_last && step + 1 == steps.len(),
            _ => false,
        };
        let on_clock = self.set_clock(now, time.micros(), historical);
        if on_clock.is_none() && !closes {
            self.counters.late += 1;
            return;
        }
        let at = on_clock.unwrap_or(time.micros());
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
            None if on_clock.is_none() => {
                self.counters.late += 1;
                return;
            }
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
                key.captured =
                    rule.captured.iter().map(|(_, source)| Captured::of(*source, batch, row, event)).collect();
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
        let due = |state: &AlertState| match state.phase {
            AlertPhase::Pending => Some(state.active_at.plus_millis(timing.for_ms)),
            AlertPhase::Firing => state.keep_firing_since.map(|since| since.plus_millis(timing.keep_firing_for_ms)),
            AlertPhase::Inactive => state.resolved_at.map(|at| at.plus_millis(RESOLVED_RETENTION_MS + 1)),
        };
        self.timer = self.alerts.values().filter_map(due).min();
    }

    pub fn tick(&mut self, now: Timestamp, index: usize, settings: &Settings, out: &mut EventChanges) {
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

    /// Its keys, in no order.
    pub fn known_keys(&self) -> impl Iterator<Item = &KeyState> {
        self.keys.iter().flatten()
    }

    /// What its clock reads, and whether that stands still.
    pub fn clock_reads(&self, now: Timestamp) -> (i64, bool) {
        (self.clock.read(now), self.clock.paused)
    }

    pub fn next_due(&self) -> Option<Timestamp> {
        let deadline = self.deadlines.first().and_then(|(deadline, _)| self.clock.when(*deadline));
        deadline.into_iter().chain(self.timer).min()
    }

    pub fn snapshot(&self) -> RuleSnapshot {
        let mut slots: Vec<(&Box<str>, u32)> = self.slots.iter().map(|(key, slot)| (key, *slot)).collect();
        slots.sort();
        let keys = slots.iter().filter_map(|(key, slot)| Some(((*key).clone(), self.keys[*slot as usize].clone()?)));
        let active = slots.iter().filter_map(|(key, slot)| Some(((*key).clone(), self.active.get(slot)?.clone())));
        RuleSnapshot {
            name: self.rule.name.clone(),
            file: self.rule.file.clone(),
            text: self.rule.text.clone(),
            clock: self.clock,
            keys: keys.collect(),
            active: active.collect(),
            alerts: self.alerts.iter().map(|(labels, alert)| (labels.clone(), alert.clone())).collect(),
            heard: self.heard.clone(),
            counters: self.counters,
        }
    }

    pub fn restore(&mut self, saved: RuleSnapshot, now: Timestamp, lost_us: i64) {
        // It goes on from where it stood when the snapshot was taken: neither the time since then nor a pause before
        // that has passed on it.
        let base = saved.clock.read(now.plus_micros(-lost_us));
        self.clock = Clock { base, at: now, set: saved.clock.set, paused: self.clock.paused };
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

/// What one condition remembers, for the checkpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct RuleSnapshot {
    pub name: Arc<str>,
    pub file: Arc<str>,
    pub text: String,
    clock: Clock,
    keys: Vec<(Box<str>, KeyState)>,
    active: Vec<(Box<str>, Labels)>,
    alerts: Vec<(Labels, AlertState)>,
    heard: BTreeSet<Arc<str>>,
    counters: EventCounters,
}
