//! One event condition at run time: its clock, its keys, its alerts.

mod told;

use super::clock::{Clock, Place};
use super::first_seen::{self, Memory, Sight};
use super::gap;
use super::keys::{KeyState, Seen, Verdict};
use super::state::{Around, EventChanges};
use super::{Captured, Condition, EventCounters, EventRule, event_value};
use crate::config::schema::Comparison;
use crate::mapping::select::FieldSource;
use crate::model::{Event, EventBatch, Labels, Timestamp};
use crate::rules::alert_state::{
    AlertPhase, AlertState, AlertStates, Present, RESOLVED_RETENTION_MS, Scope, advance, write_series,
};
use crate::rules::rule::{alert_data, expand};
use crate::template::{Dialect, Functions};
use ahash::RandomState;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// While an alert fires, its texts follow the events at most this often.
const REFRESH_US: i64 = 1_000_000;
/// Keys that are looked at to find one that can make room.
const EVICT_AMONG: usize = 64;
/// Sources that a rule remembers having heard from.
const MAX_SOURCES: usize = 64;

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
    /// The values of a `first_seen`.
    memory: Memory,
    /// Since this moment of the clock nobody listened, and no event has come after that yet.
    unheard_since: Option<i64>,
    pub counters: EventCounters,
    /// When `for` or `keep_firing_for` of some alert is over.
    timer: Option<Timestamp>,
}

impl RuleState {
    pub fn new(rule: Arc<EventRule>, now: Timestamp) -> Self {
        let mut state = Self {
            rule: rule.clone(),
            clock: Clock::new(now),
            slots: HashMap::with_hasher(RandomState::with_seeds(5, 6, 7, 8)),
            keys: Vec::new(),
            free: Vec::new(),
            deadlines: BTreeSet::new(),
            active: BTreeMap::new(),
            alerts: AlertStates::new(),
            heard: BTreeSet::new(),
            memory: Memory::default(),
            unheard_since: None,
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
        let clock = self.clock.base();
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
        let paused = deaf.iter().any(|source| self.depends_on(source));
        if self.clock.pause(now, paused) && paused {
            self.nobody_listens();
        }
    }

    /// Whether the loss of a source makes silence mean nothing. A rule that has heard nothing yet may be waiting for any.
    fn depends_on(&self, source: &Arc<str>) -> bool {
        match (self.rule.sources.is_empty(), self.heard.is_empty()) {
            (false, _) => self.rule.sources.contains(source),
            (true, true) => true,
            (true, false) => self.heard.contains(source),
        }
    }

    /// Whether events of a source count.
    pub fn listens_to(&self, source: &Arc<str>) -> bool {
        self.rule.sources.is_empty() || self.rule.sources.contains(source)
    }

    /// A source hears again, and what it missed does not come.
    pub fn missed(&mut self, source: &Arc<str>) {
        if self.depends_on(source) {
            self.keys.iter_mut().flatten().for_each(KeyState::missed);
        }
    }

    /// From this moment of the clock until the next event, nothing that was not heard was silent.
    fn nobody_listens(&mut self) {
        let from = *self.unheard_since.get_or_insert(self.clock.base());
        self.mark_unheard(from, from);
    }

    fn mark_unheard(&mut self, from: i64, to: i64) {
        if matches!(self.rule.condition, Condition::RateChange { .. }) {
            let rule = self.rule.clone();
            self.keys.iter_mut().flatten().for_each(|key| key.unheard(&rule, from, to));
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
        around: &Around<'_>,
        scratch: &mut String,
        out: &mut EventChanges,
    ) {
        let event = &batch.events[row];
        let arrived = batch.arrived.min(now);
        let time = event.time.map_or(arrived, |time| time.min(arrived));
        if !self.heard.contains(&batch.source) && self.heard.len() < MAX_SOURCES {
            self.heard.insert(batch.source.clone());
        }
        // What is missing may come however late (the machine slept, the transport was slow): it still came.
        let closes = match &self.rule.condition {
            Condition::Sequence { steps, missing_last } => *missing_last && step + 1 == steps.len(),
            _ => false,
        };
        let reach_us = self.rule.condition.reach_us(self.rule.within_us);
        let on_clock = match self.clock.follow(now, time, arrived, reach_us) {
            Place::On(at) => Some(at),
            Place::Moved(at, by) => {
                self.shift_keys(by);
                Some(at)
            }
            Place::Late => None,
        };
        if !self.clock.paused
            && let Some(from) = self.unheard_since.take()
        {
            self.mark_unheard(from, self.clock.base().max(from));
        }
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
        let number = match &self.rule.condition {
            Condition::Gap { number, .. } => {
                let read = whole_number(*number, batch, row, event);
                if read.is_none() {
                    self.counters.without_number += 1;
                    return;
                }
                read
            }
            Condition::FirstSeen { memory_us, learn_us, .. } => {
                // Without the value that is looked for there is nothing to see; it is the last one of the key.
                if scratch.is_empty() || scratch.ends_with('\u{1f}') {
                    self.counters.without_key += 1;
                    return;
                }
                let (hash, limit) = (first_seen::hash(scratch), around.settings.pattern_keys);
                let (sight, evicted) = self.memory.take(hash, at, *memory_us, *learn_us, limit);
                self.counters.keys_evicted += evicted;
                if sight != Sight::New && !self.slots.contains_key(scratch.as_str()) {
                    return;
                }
                None
            }
            _ => None,
        };
        let slot = match self.slots.get(scratch.as_str()) {
            Some(slot) => *slot,
            None if on_clock.is_none() => {
                self.counters.late += 1;
                return;
            }
            None => {
                // Any step may be the first to arrive.
                if !self.make_room(now, index, around, out) {
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
            match key.event(&rule, Seen { step, at, number }) {
                Some(gap::Step::Duplicate) => self.counters.duplicates += 1,
                Some(gap::Step::Reset) => self.counters.resets += 1,
                Some(gap::Step::Next | gap::Step::Hole | gap::Step::Filled) | None => {}
            }
            let known = key.captured.len() == rule.captured.len();
            if !known {
                key.captured = vec![Captured::Missing; rule.captured.len()];
            }
            for (capture, place) in rule.captured.iter().zip(&mut key.captured) {
                if !(known && capture.first) {
                    *place = Captured::of(capture.from, batch, row, event);
                }
            }
        }
        self.look(slot, now, index, around, out);
    }

    fn shift_keys(&mut self, by: i64) {
        if by == 0 {
            return;
        }
        self.memory.shift(by);
        self.unheard_since = self.unheard_since.map(|at| at + by);
        self.deadlines.clear();
        let rule = self.rule.clone();
        for (slot, key) in self.keys.iter_mut().enumerate() {
            if let Some(key) = key {
                key.shift(&rule, by);
                self.deadlines.insert((key.deadline, slot as u32));
            }
        }
    }

    /// Room for one more key: `count` forgets the key whose window ends first, the others refuse the new one.
    fn make_room(&mut self, now: Timestamp, index: usize, around: &Around<'_>, out: &mut EventChanges) -> bool {
        if self.slots.len() < around.settings.pattern_keys.max(1) {
            return true;
        }
        let oldest = match &self.rule.condition {
            // A key that was dropped would only be new again.
            Condition::Gap { .. } | Condition::RateChange { .. } => {
                let mut first = self.deadlines.iter().take(EVICT_AMONG).map(|(_, slot)| *slot);
                first.find(|slot| self.keys[*slot as usize].as_ref().is_some_and(KeyState::can_go))
            }
            condition if condition.needs_silence() => None,
            _ => self.deadlines.first().map(|(_, slot)| *slot),
        };
        let Some(slot) = oldest else {
            self.counters.keys_refused += 1;
            return false;
        };
        self.counters.keys_evicted += 1;
        self.end(slot, now, index, out);
        self.remove(slot);
        true
    }

    /// Judges a key now and lets its alert follow.
    fn look(&mut self, slot: u32, now: Timestamp, index: usize, around: &Around<'_>, out: &mut EventChanges) {
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
                let case = present(&rule, key, value, now, around);
                self.raise(slot, case, now, index, around, out);
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
        around: &Around<'_>,
        out: &mut EventChanges,
    ) {
        let labels = case.labels.clone();
        if self.active.get(&slot).is_some_and(|known| *known != labels) {
            self.end(slot, now, index, out);
        }
        if !self.alerts.contains_key(&labels) && self.alerts.len() >= around.settings.alerts_per_rule.max(1) {
            self.counters.keys_refused += 1;
            return;
        }
        self.active.insert(slot, labels.clone());
        self.step(&labels, Some(case), now, index, out);
        self.note_event(slot, &labels);
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
        // At the latest when this one is due; going through all of them at each step of a storm would be quadratic.
        let due = self.alerts.get(labels).and_then(|state| self.due(state));
        self.timer = self.timer.into_iter().chain(due).min();
    }

    /// When `for` or `keep_firing_for` of an alert is over, or when it is forgotten.
    fn due(&self, state: &AlertState) -> Option<Timestamp> {
        let timing = self.rule.timing;
        match state.phase {
            AlertPhase::Pending => Some(state.active_at.plus_millis(timing.for_ms)),
            AlertPhase::Firing => state.keep_firing_since.map(|since| since.plus_millis(timing.keep_firing_for_ms)),
            AlertPhase::Inactive => state.resolved_at.map(|at| at.plus_millis(RESOLVED_RETENTION_MS + 1)),
        }
    }

    fn set_timer(&mut self) {
        self.timer = self.alerts.values().filter_map(|state| self.due(state)).min();
    }

    pub fn tick(&mut self, now: Timestamp, index: usize, around: &Around<'_>, out: &mut EventChanges) {
        let clock = self.clock.read(now);
        while let Some((deadline, slot)) = self.deadlines.first().copied()
            && deadline <= clock
            && !self.clock.paused
        {
            self.look(slot, now, index, around, out);
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
            self.timers(now, index, around, out);
        }
    }

    /// `for` and `keep_firing_for` that are over, resolved alerts that were kept long enough.
    fn timers(&mut self, now: Timestamp, index: usize, around: &Around<'_>, out: &mut EventChanges) {
        let clock = self.clock.read(now);
        let held: BTreeMap<Labels, u32> = self.active.iter().map(|(slot, labels)| (labels.clone(), *slot)).collect();
        let all: Vec<Labels> = self.alerts.keys().cloned().collect();
        for labels in all {
            let case = held.get(&labels).and_then(|slot| {
                let rule = self.rule.clone();
                let key = self.keys[*slot as usize].as_mut()?;
                match key.judge(&rule, clock) {
                    Verdict::Holds(value) => Some(present(&rule, key, value, now, around)),
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
            identity: self.rule.identity.clone(),
            clock: self.clock,
            unheard_since: self.unheard_since,
            memory: self.memory.clone(),
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
        self.clock = Clock::resumed(saved.clock, now.plus_micros(-lost_us), now, self.clock.paused);
        self.memory = saved.memory;
        self.memory.rebuild();
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
        self.unheard_since = saved.unheard_since;
        if lost_us > 0 {
            self.nobody_listens();
        }
        self.counters = saved.counters;
        self.set_timer();
    }
}

/// A whole number of a field, also one written as a text or as `12.0`.
fn whole_number(source: FieldSource, batch: &EventBatch, row: usize, event: &Event) -> Option<i64> {
    let text = source.text(batch, row, event)?.trim();
    text.parse().ok().or_else(|| {
        let number: f64 = text.parse().ok()?;
        // Beyond 2^53 a float is not exact any more.
        (number.fract() == 0.0 && number.abs() < 9.007_199_254_740_992e15).then_some(number as i64)
    })
}

/// The case of a key for which the condition holds, its texts expanded.
fn present(rule: &EventRule, key: &KeyState, value: f64, now: Timestamp, around: &Around<'_>) -> Present {
    let by = Labels::from_pairs(rule.by.iter().map(|(name, _)| &**name).zip(key.values.iter().map(|value| &**value)));
    let empty: Vec<Captured> = Vec::new();
    let captured = if key.captured.len() == rule.captured.len() { &key.captured } else { &empty };
    let data = alert_data(around.settings, &by, value, event_value(rule, captured, &key.facts()));
    let query = |text: &str| around.query(text, now);
    let functions =
        Functions { query: Some(&query), ..Functions::new(Dialect::Prometheus, now, &around.settings.external_url) };
    let (labels, annotations) = expand(&rule.name, &by, &data, &rule.labels, &rule.annotations, &functions);
    Present { labels, annotations, value }
}

/// What one condition remembers, for the checkpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct RuleSnapshot {
    pub name: Arc<str>,
    pub file: Arc<str>,
    pub identity: String,
    clock: Clock,
    unheard_since: Option<i64>,
    memory: Memory,
    keys: Vec<(Box<str>, KeyState)>,
    active: Vec<(Box<str>, Labels)>,
    alerts: Vec<(Labels, AlertState)>,
    heard: BTreeSet<Arc<str>>,
    counters: EventCounters,
}
