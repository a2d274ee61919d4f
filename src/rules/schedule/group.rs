//! The state of one group and of its rules.

use super::{Counters, Effects, MIN_INTERVAL_MS, RuleTransition};
use crate::model::{Alert, Labels, Timestamp};
use crate::rules::alert_state::{
    AlertPhase, AlertState, AlertStates, Reason, RecordedSample, Scope, Transition, end_series,
};
use crate::rules::eval::{EvalJob, EvalKind, JobRule, Outcome, Ticket};
use crate::rules::rule::{Group, Rule, Settings};
use crate::template::graph_link;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

pub(in crate::rules) struct RuleState {
    pub states: Arc<AlertStates>,
    /// The series that a recording rule wrote last.
    pub written: Arc<BTreeSet<Labels>>,
    pub last_error: Option<String>,
    pub evaluated_at: Option<Timestamp>,
    pub took: Duration,
    /// When the rule last ran, at its interval or not.
    pub ran_at_ms: i64,
    /// When it runs because an input changed.
    pub react_at_ms: Option<i64>,
}

impl RuleState {
    pub fn new() -> Self {
        Self {
            states: Arc::default(),
            written: Arc::default(),
            last_error: None,
            evaluated_at: None,
            took: Duration::ZERO,
            ran_at_ms: i64::MIN,
            react_at_ms: None,
        }
    }

    /// When `for` of the earliest pending alert is over.
    fn timer_ms(&self, rule: &Rule) -> Option<i64> {
        let timing = rule.alerting.as_ref()?.timing;
        let pending = self.states.values().filter(|state| state.phase == AlertPhase::Pending);
        // Rounded up, so that the timer never comes a fraction of a millisecond early.
        let at = pending.map(|state| state.active_at.plus_micros(999).plus_millis(timing.for_ms).millis()).min()?;
        // An alert that is still pending then is left to the interval.
        (at > self.ran_at_ms).then_some(at)
    }

    /// Takes an outcome; whether the published set may have changed, and the error if there is one.
    pub fn take(
        &mut self,
        outcome: Outcome,
        rule: &Rule,
        group: &Group,
        settings: &Settings,
        out: &mut Effects,
    ) -> (bool, Option<String>) {
        let Outcome { states, written, transitions, samples, error, .. } = outcome;
        let mut changed = false;
        if let Some(mut states) = states {
            for (labels, state) in &mut states {
                let was = self.states.get(labels).and_then(|old| old.published.clone());
                let is = publish(labels, state, rule.expression.text(), settings);
                changed |= match (&was, &is) {
                    (Some(was), Some(is)) => !Arc::ptr_eq(was, is),
                    (None, None) => false,
                    _ => true,
                };
            }
            changed |= self.states.keys().any(|labels| !states.contains_key(labels));
            self.states = Arc::new(states);
        }
        if let Some(written) = written {
            self.written = Arc::new(written);
        }
        out.samples.extend(samples);
        out.transitions.extend(transitions.into_iter().map(|change| RuleTransition {
            file: group.file.clone(),
            group: group.name.clone(),
            change,
        }));
        (changed, error)
    }
}

pub(in crate::rules) struct GroupState {
    pub group: Arc<Group>,
    pub rules: Vec<RuleState>,
    pub evaluated_at: Option<Timestamp>,
    pub took: Duration,
    pub next_slot_ms: i64,
    pub in_flight: bool,
    /// Whether rules evaluate between their slots: when an input changes, and when a `for` is over.
    pub between_slots: bool,
    /// The earliest reactive evaluation or timer of its rules.
    pub wake_ms: i64,
    /// Slots that it did not evaluate, or whose evaluation was lost.
    pub missed: u64,
    /// How long after its slot the last evaluation at the interval was begun, in milliseconds.
    pub lag_ms: i64,
    /// Its alerts come from a checkpoint: the first evaluation, before sources have delivered anything, ends none.
    pub restored: bool,
}

impl GroupState {
    pub fn new(group: Arc<Group>, between_slots: bool, now: Timestamp) -> Self {
        let rules = group.rules.iter().map(|_| RuleState::new()).collect();
        // The first evaluation is at once, so that nobody waits a whole interval for the first answer.
        Self {
            group,
            rules,
            evaluated_at: None,
            took: Duration::ZERO,
            next_slot_ms: now.millis(),
            in_flight: false,
            missed: 0,
            lag_ms: 0,
            between_slots,
            wake_ms: i64::MAX,
            restored: false,
        }
    }

    fn job_rule(&self, index: usize) -> JobRule {
        let state = &self.rules[index];
        JobRule { index, states: state.states.clone(), written: state.written.clone() }
    }

    pub fn interval_job(
        &mut self,
        ticket: Ticket,
        now_ms: i64,
        settings: Arc<Settings>,
        counters: &mut Counters,
    ) -> EvalJob {
        let at_ms = if self.evaluated_at.is_none() {
            now_ms
        } else {
            let slot = self.group.slot_at_or_before_ms(now_ms).max(self.next_slot_ms);
            let missed = (slot - self.next_slot_ms) / self.group.interval_ms.max(1);
            counters.missed += missed.unsigned_abs();
            self.missed += missed.unsigned_abs();
            self.lag_ms = now_ms - slot;
            // After a gap (the machine slept) no sample may lie near the slot: what is missing there has not ended.
            if missed > 0 { now_ms } else { slot }
        };
        self.next_slot_ms = self.group.slot_at_or_before_ms(at_ms) + self.group.interval_ms;
        self.in_flight = true;
        for state in &mut self.rules {
            state.react_at_ms = None;
        }
        let scope = if std::mem::take(&mut self.restored) { Scope::Raise } else { Scope::Whole };
        let rules = (0..self.rules.len()).map(|index| self.job_rule(index)).collect();
        EvalJob { ticket, at_ms, kind: EvalKind::Interval, scope, group: self.group.clone(), settings, rules }
    }

    /// The rules whose input changed (within the budget) or whose `for` is over (always).
    pub fn reactive_job(
        &mut self,
        ticket: Ticket,
        now_ms: i64,
        settings: Arc<Settings>,
        allowed: bool,
        counters: &mut Counters,
    ) -> Option<EvalJob> {
        let mut rules = Vec::new();
        for index in 0..self.rules.len() {
            let timer = self.rules[index].timer_ms(&self.group.rules[index]).is_some_and(|at| at <= now_ms);
            let state = &mut self.rules[index];
            let reacts = state.react_at_ms.is_some_and(|at| at <= now_ms);
            if reacts {
                state.react_at_ms = None;
            }
            if reacts && !allowed {
                counters.reactive_over_budget += 1;
            }
            if timer || (reacts && allowed) {
                state.ran_at_ms = state.ran_at_ms.max(now_ms);
                rules.push(self.job_rule(index));
            }
        }
        self.set_wake();
        if rules.is_empty() {
            return None;
        }
        self.in_flight = true;
        let group = self.group.clone();
        Some(EvalJob { ticket, at_ms: now_ms, kind: EvalKind::Reactive, scope: Scope::Raise, group, settings, rules })
    }

    pub fn set_wake(&mut self) {
        if !self.between_slots {
            return;
        }
        let each = self.rules.iter().zip(&self.group.rules);
        let due = each.flat_map(|(state, rule)| state.react_at_ms.into_iter().chain(state.timer_ms(rule)));
        self.wake_ms = due.min().unwrap_or(i64::MAX);
    }

    /// Takes over a rule's state from another group.
    pub fn adopt(&mut self, index: usize, state: RuleState) {
        self.rules[index] = RuleState { react_at_ms: None, ..state };
        self.rules[index].ran_at_ms = self.rules[index].ran_at_ms.min(i64::MAX - MIN_INTERVAL_MS);
    }
}

/// Makes what is published of an alert, unless it is there already; nothing for pending ones.
pub(in crate::rules) fn publish(
    labels: &Labels,
    state: &mut AlertState,
    expression: &str,
    settings: &Settings,
) -> Option<Arc<Alert>> {
    let fired_at = state.fired_at?;
    if state.phase == AlertPhase::Pending {
        return None;
    }
    if state.published.is_none() {
        state.published = Some(Arc::new(Alert {
            labels: settings.external_labels.merged(labels),
            annotations: state.annotations.clone(),
            active_at: state.active_at,
            fired_at,
            resolved_at: state.resolved_at,
            value_at_firing: state.value_at_firing,
            value: state.value,
            value_at_resolve: state.value_at_resolve,
            context: state.context.clone(),
            generator_url: match expression {
                // An event condition has no expression to look at.
                "" => settings.external_url.clone(),
                _ => format!("{}{}", settings.external_url.trim_end_matches('/'), graph_link(expression, true)),
            },
        }));
    }
    state.published.clone()
}

/// Carries state over to the groups of a new configuration: by file and group, then by name and labels in order.
pub(in crate::rules) fn carry_over(old: Vec<GroupState>, new: &mut [GroupState], now: Timestamp, out: &mut Effects) {
    for mut group in old {
        let target =
            new.iter_mut().find(|other| other.group.file == group.group.file && other.group.name == group.group.name);
        let mut left: Vec<Option<RuleState>> = group.rules.drain(..).map(Some).collect();
        if let Some(target) = target {
            target.evaluated_at = group.evaluated_at;
            target.took = group.took;
            target.restored = group.restored;
            for index in 0..target.rules.len() {
                let rule = target.group.rules[index].clone();
                let from =
                    (0..left.len()).find(|at| left[*at].is_some() && group.group.rules[*at].same_identity(&rule));
                if let Some(state) = from.and_then(|at| left[at].take()) {
                    target.adopt(index, state);
                }
            }
            target.set_wake();
        }
        for state in left.into_iter().flatten() {
            end_alerts(&state.states, &group.group.file, &group.group.name, now, out);
            let ended = state.written.iter();
            out.samples.extend(ended.map(|labels| RecordedSample::stale(labels.clone(), now.millis())));
        }
    }
}

/// A rule is gone: its alerts end and so do their series. As in Prometheus they are not published as resolved; the
/// notifier sees them leave the set.
pub(in crate::rules) fn end_alerts(
    states: &AlertStates,
    file: &Arc<str>,
    group: &str,
    now: Timestamp,
    out: &mut Effects,
) {
    end_series(states, now.millis(), &mut out.samples);
    for (labels, state) in states.iter().filter(|(_, state)| state.phase != AlertPhase::Inactive) {
        let change = Transition {
            at: now,
            labels: labels.clone(),
            annotations: state.annotations.clone(),
            from: state.phase,
            to: AlertPhase::Inactive,
            reason: Reason::RuleRemoved,
            value: state.value,
            since: state.active_at,
            fired_at: state.fired_at,
        };
        out.transitions.push(RuleTransition { file: file.clone(), group: group.into(), change });
    }
}
