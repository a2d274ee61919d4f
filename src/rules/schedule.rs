//! When rules run, and what their results change.

mod group;

use super::alert_state::{
    AlertPhase, AlertStates, Present, RecordedSample, Scope, Timing, Transition, advance, write_series,
};
use super::eval::{EvalJob, EvalKind, EvalResult, Ticket};
use super::events::{EventChanges, EventRules};
use super::rule::RuleSet;
use super::slo::Objectives;
use crate::model::{Alert, EventBatch, Labels, Timestamp};
use crate::series::Storage;
use ahash::RandomState;
pub(super) use group::{GroupState, RuleState, publish};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

/// Reactive evaluations of one rule are at least this far apart, in milliseconds.
pub const MIN_INTERVAL_MS: i64 = 50;
/// Reactive evaluation may take this many microseconds of each second: 1 % of a core.
const BUDGET_US_PER_S: i64 = 10_000;
/// What a quiet time saves up, at most.
const BUDGET_BURST_US: i64 = 100_000;
/// Alerts that no group evaluates write their `ALERTS` series this often, in milliseconds.
pub(super) const SERIES_EVERY_MS: i64 = 15_000;
/// A group that is later than this, and than three of its intervals, is not evaluated in time, in milliseconds.
const OVERDUE_MS: i64 = 10_000;
/// The name of the alert about a source that cannot be heard.
pub const DEAF_ALERT: &str = "SidewatchDeaf";

/// Whether a source is heard.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum SourceHealth {
    /// It is.
    Live,
    /// It is connected again and delivers what was missed.
    CatchingUp,
    /// It is not, and why.
    Lost {
        /// A sentence for the alert.
        reason: String,
    },
}

/// A change of an alert with the rule it belongs to.
#[derive(Clone, Debug, PartialEq)]
pub struct RuleTransition {
    /// The rule's file.
    pub file: Arc<str>,
    /// The rule's group.
    pub group: Arc<str>,
    /// The change.
    pub change: Transition,
}

/// What a call changed outside of the rules: write the samples, log and keep the transitions.
#[derive(Debug, Default)]
pub struct Effects {
    /// Recording rules, `ALERTS`, `ALERTS_FOR_STATE`, staleness markers.
    pub samples: Vec<RecordedSample>,
    /// Alerts that changed their phase.
    pub transitions: Vec<RuleTransition>,
    /// Rules whose evaluation began to fail or recovered (`None`), once for each change.
    pub failures: Vec<(Arc<str>, Arc<str>, Option<String>)>,
}

/// How a group keeps its time.
#[derive(Clone, Debug)]
pub struct GroupTiming {
    /// Its file.
    pub file: Arc<str>,
    /// Its name.
    pub group: Arc<str>,
    /// Its interval in milliseconds.
    pub interval_ms: i64,
    /// How long after its slot the last evaluation was begun, in milliseconds.
    pub lag_ms: i64,
    /// What the last evaluation cost.
    pub took: Duration,
    /// Slots without an evaluation.
    pub missed: u64,
    /// When it was evaluated last; `None` before the first time.
    pub evaluated_at: Option<Timestamp>,
}

/// What the rules count about themselves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Evaluations of rules at their interval.
    pub evaluations: u64,
    /// Evaluations because an input changed or `for` was over.
    pub reactive: u64,
    /// Reactive evaluations that the budget did not allow; the interval serves.
    pub reactive_over_budget: u64,
    /// Slots of groups that came too late.
    pub missed: u64,
    /// Failed evaluations by group (`file;group`).
    pub failures: BTreeMap<String, u64>,
    /// Results that came after a reload and were dropped.
    pub outdated: u64,
}

/// The rules as the engine drives them. `now` never goes backwards.
pub struct Rules {
    pub(super) set: RuleSet,
    pub(super) groups: Vec<GroupState>,
    pub(super) events: EventRules,
    pub(super) slos: Objectives,
    pub(super) sources: BTreeMap<Arc<str>, SourceHealth>,
    pub(super) deaf: AlertStates,
    deaf_series_ms: i64,
    generation: u64,
    by_metric: HashMap<Box<str>, Vec<(u32, u32)>, RandomState>,
    budget_us: i64,
    budget_at: Timestamp,
    published: Arc<Vec<Arc<Alert>>>,
    version: u64,
    dirty: bool,
    counters: Counters,
}

impl Rules {
    /// The rules of a set, nothing evaluated yet.
    pub fn new(set: RuleSet, now: Timestamp) -> Self {
        let mut rules = Self {
            events: EventRules::new(&set.events, set.settings.clone(), now),
            slos: Objectives::new(&set.slos, set.settings.pattern_keys, now),
            groups: Vec::new(),
            sources: BTreeMap::new(),
            deaf: AlertStates::new(),
            deaf_series_ms: now.millis(),
            generation: 0,
            by_metric: HashMap::with_hasher(RandomState::with_seeds(9, 10, 11, 12)),
            budget_us: BUDGET_BURST_US,
            budget_at: now,
            published: Arc::default(),
            version: 0,
            dirty: false,
            counters: Counters::default(),
            set,
        };
        rules.build_groups(now);
        rules
    }

    fn build_groups(&mut self, now: Timestamp) {
        let timers = self.set.settings.reactive;
        self.groups = self.set.groups.iter().map(|group| GroupState::new(group.clone(), timers, now)).collect();
        self.by_metric.clear();
        for (at, group) in self.set.groups.iter().enumerate() {
            for (index, rule) in group.rules.iter().enumerate() {
                if rule.alerting.is_none() {
                    continue;
                }
                for name in rule.expression.metric_names() {
                    let readers = self.by_metric.entry(name.into()).or_default();
                    if !readers.contains(&(at as u32, index as u32)) {
                        readers.push((at as u32, index as u32));
                    }
                }
            }
        }
    }

    /// The configured set.
    pub fn set(&self) -> &RuleSet {
        &self.set
    }

    /// Takes a batch of events: event conditions become true at once. `storage` is what `query` in their texts reads.
    pub fn observe(&mut self, now: Timestamp, batch: &EventBatch, storage: &dyn Storage, out: &mut Effects) {
        self.slos.observe(now, batch);
        if self.events.is_empty() {
            return;
        }
        let mut changes = EventChanges::default();
        self.events.observe(now, batch, storage, &mut changes);
        self.take_event_changes(changes, out);
    }

    /// Lets time pass for event conditions and resolved alerts. Call it when [`Self::next_due`] is reached.
    pub fn tick(&mut self, now: Timestamp, storage: &dyn Storage, out: &mut Effects) {
        let mut changes = EventChanges::default();
        self.events.tick(now, storage, &mut changes);
        self.take_event_changes(changes, out);
        self.slos.tick(now, &mut out.samples);
        if now.millis() >= self.deaf_series_ms {
            self.deaf_series_ms = now.millis() + SERIES_EVERY_MS;
            for (labels, alert) in &self.deaf {
                write_series(labels, Some(alert), Some(alert), Scope::Whole, now.millis(), &mut out.samples);
            }
        }
        let deaf = self.deaf.len();
        self.deaf.retain(|_, state| {
            state.phase != AlertPhase::Inactive
                || state.resolved_at.is_some_and(|at| now.millis_since(at) <= super::alert_state::RESOLVED_RETENTION_MS)
        });
        self.dirty |= deaf != self.deaf.len();
    }

    fn take_event_changes(&mut self, changes: EventChanges, out: &mut Effects) {
        self.dirty |= changes.published;
        out.samples.extend(changes.samples);
        for (rule, change) in changes.transitions {
            let rule = &self.set.events[rule];
            let (file, group) = (rule.file.clone(), EVENT_GROUP.into());
            out.transitions.push(RuleTransition { file, group, change });
        }
    }

    /// Says whether a source is heard. While one is not, conditions that conclude from silence pause and
    /// `SidewatchDeaf` fires for it.
    pub fn source_state(&mut self, now: Timestamp, source: &Arc<str>, health: SourceHealth, out: &mut Effects) {
        self.events.source_state(now, source, &health);
        self.deaf(now, source, health, out);
    }

    /// The same for a source that brings no events but samples: no condition on events waits for it, objectives do.
    pub fn deaf(&mut self, now: Timestamp, source: &Arc<str>, health: SourceHealth, out: &mut Effects) {
        self.slos.source_state(now, source, &health);
        let labels = Labels::from_pairs([("alertname", DEAF_ALERT), ("source", source), ("severity", "warning")]);
        let case = match &health {
            SourceHealth::Live => None,
            SourceHealth::CatchingUp => {
                Some(format!("Source {source} delivers what was missed; conditions on silence are paused"))
            }
            SourceHealth::Lost { reason } => Some(format!("Source {source} cannot be heard: {reason}")),
        };
        let present = case.map(|summary| Present {
            labels: labels.clone(),
            annotations: Labels::from_pairs([
                ("summary", summary.as_str()),
                ("description", "What this source says is not counted, and nothing is concluded from its silence."),
            ]),
            value: 1.0,
        });
        let old = self.deaf.get(&labels);
        let (next, change) = advance(old, &labels, present, Timing::default(), now);
        write_series(&labels, old, next.as_ref(), Scope::Raise, now.millis(), &mut out.samples);
        match next {
            Some(next) => self.deaf.insert(labels, next),
            None => self.deaf.remove(&labels),
        };
        self.dirty = true;
        out.transitions.extend(change.map(|change| RuleTransition {
            file: super::bundled::BUILT_IN.into(),
            group: EVENT_GROUP.into(),
            change,
        }));
        self.sources.insert(source.clone(), health);
    }

    /// The sources that `SidewatchDeaf` fires for.
    pub fn deaf_sources(&self) -> impl Iterator<Item = &str> {
        let firing = self.deaf.iter().filter(|(_, alert)| alert.phase != AlertPhase::Inactive);
        firing.filter_map(|(labels, _)| labels.get("source"))
    }

    /// Says which metrics changed, so that the alert rules that read them run within [`MIN_INTERVAL_MS`].
    pub fn metrics_changed(&mut self, now: Timestamp, names: &mut dyn Iterator<Item = &str>) {
        self.mark(now, names, None);
    }

    fn mark(&mut self, now: Timestamp, names: &mut dyn Iterator<Item = &str>, except: Option<usize>) {
        if !self.set.settings.reactive {
            return;
        }
        for name in names {
            let Some(readers) = self.by_metric.get(name) else { continue };
            for (group, rule) in readers {
                if except == Some(*group as usize) {
                    continue;
                }
                let group = &mut self.groups[*group as usize];
                let state = &mut group.rules[*rule as usize];
                if state.react_at_ms.is_none() {
                    // The leading edge at once, the trailing edge when the minimal interval is over.
                    let at_ms = now.millis().max(state.ran_at_ms.saturating_add(MIN_INTERVAL_MS));
                    state.react_at_ms = Some(at_ms);
                    group.wake_ms = group.wake_ms.min(at_ms);
                }
            }
        }
    }

    /// The groups and rules whose time has come. Each job's result must come back through [`Self::apply`] (or
    /// [`Self::lost`]) before the group is due again.
    pub fn due(&mut self, now: Timestamp) -> Vec<EvalJob> {
        let now_ms = now.millis();
        self.refill_budget(now);
        let (settings, generation) = (self.set.settings.clone(), self.generation);
        let mut jobs = Vec::new();
        for (at, group) in self.groups.iter_mut().enumerate() {
            if group.in_flight {
                continue;
            }
            let ticket = Ticket { group: at, generation };
            if group.next_slot_ms <= now_ms {
                jobs.push(group.interval_job(ticket, now_ms, settings.clone(), &mut self.counters));
            } else if group.wake_ms <= now_ms {
                let allowed = self.budget_us > 0;
                jobs.extend(group.reactive_job(ticket, now_ms, settings.clone(), allowed, &mut self.counters));
            }
        }
        jobs
    }

    /// Every group at one moment, whatever its interval, as promtool's tests want it. Groups follow each other, so that the
    /// jobs must be run and applied in order; each reads the storage when it runs.
    pub(super) fn jobs_at(&mut self, now: Timestamp) -> Vec<EvalJob> {
        let (settings, generation) = (self.set.settings.clone(), self.generation);
        let each = self.groups.iter_mut().enumerate();
        each.map(|(group, state)| {
            let ticket = Ticket { group, generation };
            EvalJob {
                at_ms: now.millis(),
                ..state.interval_job(ticket, now.millis(), settings.clone(), &mut self.counters)
            }
        })
        .collect()
    }

    /// The alerts of every alerting rule with the rule's name.
    pub(super) fn alerts_by_rule(&self) -> impl Iterator<Item = (&str, &AlertStates)> {
        let metric = self.groups.iter().flat_map(|group| group.group.rules.iter().zip(&group.rules));
        let metric =
            metric.filter(|(rule, _)| rule.alerting.is_some()).map(|(rule, state)| (&*rule.name, &*state.states));
        metric.chain(self.events.iter().map(|(rule, alerts, _)| (&*rule.name, alerts)))
    }

    /// Why rules are not evaluated in time: a group whose slot passed long ago. `None` while all is well. What counts is
    /// three of its intervals, or ten seconds where that is longer.
    pub fn overdue(&self, now: Timestamp) -> Option<String> {
        self.groups.iter().find_map(|group| {
            let late_ms = now.millis() - group.next_slot_ms;
            let allowed_ms = group.group.interval_ms.saturating_mul(3).max(OVERDUE_MS);
            (late_ms > allowed_ms).then(|| {
                let late = crate::model::format_duration_ms(late_ms / 1_000 * 1_000);
                format!("the group {} of {} is {late} late", group.group.name, group.group.file)
            })
        })
    }

    /// When [`Self::due`] or [`Self::tick`] has something to do; `None` when nothing is configured.
    pub fn next_due(&self) -> Option<Timestamp> {
        let groups = self.groups.iter().filter(|group| !group.in_flight);
        let groups = groups.map(|group| Timestamp::from_millis(group.next_slot_ms.min(group.wake_ms)));
        let deaf = (!self.deaf.is_empty()).then(|| Timestamp::from_millis(self.deaf_series_ms));
        groups.chain(self.events.next_due()).chain(self.slos.next_due()).chain(deaf).min()
    }

    fn refill_budget(&mut self, now: Timestamp) {
        let gained = now.micros_since(self.budget_at).saturating_mul(BUDGET_US_PER_S) / 1_000_000;
        if gained > 0 {
            self.budget_us = self.budget_us.saturating_add(gained).min(BUDGET_BURST_US);
            self.budget_at = now;
        }
    }

    /// Takes a job's result; `took` is what the shell measured (nothing in a simulation).
    pub fn apply(&mut self, now: Timestamp, result: EvalResult, took: Duration, out: &mut Effects) {
        if result.ticket.generation != self.generation {
            self.counters.outdated += 1;
            return;
        }
        let Some(group) = self.groups.get_mut(result.ticket.group) else { return };
        group.in_flight = false;
        let count = result.rules.len() as u64;
        match result.kind {
            EvalKind::Interval => {
                self.counters.evaluations += count;
                group.evaluated_at = Some(Timestamp::from_millis(result.at_ms));
                group.took = took;
            }
            EvalKind::Reactive => {
                self.counters.reactive += count;
                self.budget_us = self.budget_us.saturating_sub(took.as_micros() as i64);
            }
        }
        let share = took.checked_div(count.max(1) as u32).unwrap_or_default();
        let mut recorded: BTreeSet<Arc<str>> = BTreeSet::new();
        let settings = self.set.settings.clone();
        for one in result.rules {
            let rule = group.group.rules[one.index].clone();
            let state = &mut group.rules[one.index];
            state.ran_at_ms = state.ran_at_ms.max(result.at_ms);
            state.evaluated_at = Some(Timestamp::from_millis(result.at_ms));
            state.took = share;
            let error = match one.outcome {
                Ok(mut outcome) => {
                    if let Some(feed) = rule.feeds {
                        let at = Timestamp::from_millis(result.at_ms);
                        self.slos.feed(feed.slo, feed.total, at, std::mem::take(&mut outcome.fed));
                    } else if rule.alerting.is_none() {
                        recorded.insert(rule.name.clone());
                    }
                    let (changed, error) = state.take(outcome, &rule, &group.group, &settings, out);
                    self.dirty |= changed;
                    error
                }
                Err(message) => Some(message),
            };
            if error.is_some() {
                let key = format!("{};{}", group.group.file, group.group.name);
                *self.counters.failures.entry(key).or_default() += 1;
            }
            if error != state.last_error {
                out.failures.push((group.group.name.clone(), rule.name.clone(), error.clone()));
            }
            state.last_error = error;
        }
        group.set_wake();
        // The rules of this group have seen what it recorded, or see it in their next pass, as in Prometheus.
        self.mark(now, &mut recorded.iter().map(|name| &**name), Some(result.ticket.group));
    }

    /// Reports that a job was lost (its worker ended); the group is due again at its next slot.
    pub fn lost(&mut self, ticket: Ticket) {
        if ticket.generation == self.generation
            && let Some(group) = self.groups.get_mut(ticket.group)
        {
            group.in_flight = false;
            group.missed += 1;
            self.counters.missed += 1;
        }
    }

    /// How each group keeps its time.
    pub fn timing(&self) -> impl Iterator<Item = GroupTiming> {
        self.groups.iter().map(|state| GroupTiming {
            file: state.group.file.clone(),
            group: state.group.name.clone(),
            interval_ms: state.group.interval_ms,
            lag_ms: state.lag_ms,
            took: state.took,
            missed: state.missed,
            evaluated_at: state.evaluated_at,
        })
    }

    /// Whether every group has evaluated at least once: before that, an alert that is absent from the published set may
    /// simply not have been looked at.
    pub fn all_evaluated_once(&self) -> bool {
        self.groups.iter().all(|group| group.evaluated_at.is_some())
    }

    /// The firing and the recently resolved alerts with external labels, and a version that changes with the set. The
    /// set is level-triggered: it is whole each time.
    pub fn published(&mut self) -> (u64, Arc<Vec<Arc<Alert>>>) {
        if self.dirty {
            self.dirty = false;
            let settings = self.set.settings.clone();
            let mut all = Vec::with_capacity(self.published.len());
            for group in &self.groups {
                for state in &group.rules {
                    all.extend(state.states.values().filter_map(|alert| alert.published.clone()));
                }
            }
            for states in self.events.alerts_mut() {
                all.extend(states.iter_mut().filter_map(|(labels, alert)| publish(labels, alert, "", &settings)));
            }
            all.extend(self.deaf.iter_mut().filter_map(|(labels, alert)| publish(labels, alert, "", &settings)));
            let same = all.len() == self.published.len()
                && all.iter().zip(self.published.iter()).all(|(a, b)| Arc::ptr_eq(a, b));
            if !same {
                self.published = Arc::new(all);
                self.version += 1;
            }
        }
        (self.version, self.published.clone())
    }

    pub(super) fn mark_dirty(&mut self) {
        self.dirty = true;
    }

    /// What the rules count about themselves.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// What event conditions count, by the alert's name.
    pub fn event_counters(&self) -> Vec<(Arc<str>, super::events::EventCounters)> {
        self.events.iter().map(|(rule, _, counters)| (rule.name.clone(), counters)).collect()
    }

    /// What objectives count of what they could not use.
    pub fn slo_counters(&self) -> Vec<(Arc<str>, super::slo::SloCounters)> {
        self.slos.counters().map(|(name, counters)| (name.clone(), counters)).collect()
    }

    /// The health of each source, as it was last said.
    pub fn sources(&self) -> &BTreeMap<Arc<str>, SourceHealth> {
        &self.sources
    }

    /// Swaps in the rules of a new configuration. The alerts of a rule carry over by file, group, name and order; what
    /// event conditions remember where the condition is unchanged. Series and alerts of rules that are gone end.
    pub fn reconfigure(&mut self, set: RuleSet, now: Timestamp, out: &mut Effects) {
        let old_groups = std::mem::take(&mut self.groups);
        let events = EventRules::new(&set.events, set.settings.clone(), now);
        let old_events = std::mem::replace(&mut self.events, events);
        let slos = Objectives::new(&set.slos, set.settings.pattern_keys, now);
        let old_slos = std::mem::replace(&mut self.slos, slos);
        self.slos.take_sources(&old_slos, now);
        old_slos.end(&self.slos, now, &mut out.samples);
        self.slos.restore(old_slos.snapshot(), now, 0);
        self.generation += 1;
        self.dirty = true;
        self.set = set;
        self.build_groups(now);
        group::carry_over(old_groups, &mut self.groups, now, out);
        self.events.take_sources(&old_events, now);
        for (rule, alerts, _) in old_events.iter() {
            let kept = |other: &Arc<super::events::EventRule>| {
                rule.name == other.name && rule.file == other.file && rule.identity == other.identity
            };
            if !self.set.events.iter().any(kept) {
                group::end_alerts(alerts, &rule.file, EVENT_GROUP, now, out);
            }
        }
        self.events.restore(old_events.snapshot(), now, 0);
    }
}

/// The group that event conditions and `SidewatchDeaf` are shown in.
pub const EVENT_GROUP: &str = "events";

#[cfg(test)]
mod tests;
