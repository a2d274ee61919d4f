//! The life of alerts as one pure function: (alerts of a rule, what its condition says now, now) to (alerts, transitions,
//! series). Prometheus's `AlertingRule.Eval` (`rules/alerting.go`), and the alert generator specification 1.0 of
//! prometheus/compliance.

use crate::model::{Alert, AlertContext, Labels, METRIC_NAME, Timestamp};
use crate::series::{STALE_NAN_BITS, SampleValue};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// How long a resolved alert is kept (and sent again), in milliseconds: a lost message cannot lose a resolution.
pub const RESOLVED_RETENTION_MS: i64 = 15 * 60_000;

/// A sample that a rule writes; a staleness marker ends a series.
#[derive(Clone, Debug, PartialEq)]
pub struct RecordedSample {
    /// The labels, the metric's name among them.
    pub labels: Labels,
    /// Milliseconds since the epoch.
    pub t_ms: i64,
    /// The value; the stale NaN ends the series.
    pub value: SampleValue,
}

impl RecordedSample {
    /// A number.
    pub fn float(labels: Labels, t_ms: i64, value: f64) -> Self {
        Self { labels, t_ms, value: SampleValue::Float(value) }
    }

    /// The end of a series.
    pub fn stale(labels: Labels, t_ms: i64) -> Self {
        Self::float(labels, t_ms, f64::from_bits(STALE_NAN_BITS))
    }

    /// Whether it ends its series.
    pub fn is_stale(&self) -> bool {
        matches!(self.value, SampleValue::Float(value) if crate::series::is_stale(value))
    }
}

/// pending, firing, inactive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AlertPhase {
    /// It has ended; kept for [`RESOLVED_RETENTION_MS`].
    Inactive,
    /// The condition holds, but not yet for the rule's `for`.
    Pending,
    /// It fires.
    Firing,
}

impl AlertPhase {
    /// As the `alertstate` label and the API write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Inactive => "inactive",
            Self::Pending => "pending",
            Self::Firing => "firing",
        }
    }
}

/// One alert of a rule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AlertState {
    /// Expanded annotations; frozen when it ends.
    pub annotations: Labels,
    /// Where in its life it is.
    pub phase: AlertPhase,
    /// Since when the condition holds.
    pub active_at: Timestamp,
    /// Since when it fires; `None` while it never did.
    pub fired_at: Option<Timestamp>,
    /// When it ended.
    pub resolved_at: Option<Timestamp>,
    /// Since when it fires only because of `keep_firing_for`.
    pub keep_firing_since: Option<Timestamp>,
    /// The last value that was seen while the condition held.
    pub value: f64,
    /// The value when it began to fire.
    pub value_at_firing: f64,
    /// The value that ended it, where one is known.
    pub value_at_resolve: Option<f64>,
    /// What else messages may tell.
    pub context: AlertContext,
    /// What is published of it, made when something changes.
    #[serde(skip)]
    pub published: Option<Arc<Alert>>,
}

/// The alerts of one rule by their labels.
pub type AlertStates = BTreeMap<Labels, AlertState>;

/// What a rule asks of time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timing {
    /// `for`, in milliseconds.
    pub for_ms: i64,
    /// `keep_firing_for`, in milliseconds.
    pub keep_firing_for_ms: i64,
}

/// A case for which the condition holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Present {
    /// The alert's labels, `alertname` among them.
    pub labels: Labels,
    /// Expanded annotations.
    pub annotations: Labels,
    /// The value.
    pub value: f64,
}

/// What a missing case means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// It has ended: the evaluation of the interval.
    Whole,
    /// Nothing: reactive evaluation raises and never ends.
    Raise,
}

/// Why an alert changed its phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The condition began to hold; `for` is running.
    ConditionHolds,
    /// The condition has held for `for` (or there is no `for`).
    HeldLongEnough,
    /// The condition stopped holding before `for` was over.
    EndedWhilePending,
    /// The condition stopped holding.
    ConditionEnded,
    /// `keep_firing_for` is over and the condition did not come back.
    KeepFiringOver,
    /// The rule holds more alerts than its limit; all were dropped.
    LimitExceeded,
    /// The rule is no longer configured.
    RuleRemoved,
}

/// A change of one alert's phase.
#[derive(Clone, Debug, PartialEq)]
pub struct Transition {
    /// When.
    pub at: Timestamp,
    /// Whose.
    pub labels: Labels,
    /// Its annotations then.
    pub annotations: Labels,
    /// From which phase.
    pub from: AlertPhase,
    /// To which phase.
    pub to: AlertPhase,
    /// Why.
    pub reason: Reason,
    /// The last value.
    pub value: f64,
    /// Since when the condition holds: activeAt, or the time of the event that made it hold where that is earlier.
    pub since: Timestamp,
    /// Since when it fires, or fired until now.
    pub fired_at: Option<Timestamp>,
}

/// Why a whole evaluation counts as failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StepError {
    /// `ErrDuplicateAlertLabelSet`.
    #[error("vector contains metrics with the same labelset after applying alert labels")]
    Duplicate,
    /// More alerts than `limit`; the rule's alerts are dropped.
    #[error("exceeded limit of {limit} with {alerts} alerts")]
    Limit {
        /// The limit.
        limit: usize,
        /// How many there would be.
        alerts: usize,
    },
}

/// What one evaluation gives.
#[derive(Clone, Debug, Default)]
pub struct Step {
    /// The alerts from now on.
    pub states: AlertStates,
    /// What changed.
    pub transitions: Vec<Transition>,
    /// `ALERTS` and `ALERTS_FOR_STATE` of the active alerts, staleness markers of the series that ended.
    pub series: Vec<RecordedSample>,
    /// The evaluation failed although the states changed (a limit).
    pub error: Option<StepError>,
}

/// One evaluation of a rule. `limit` is the most alerts that the rule may hold (0: no limit); `write_at_ms` is the time of
/// the samples (`now` less the group's `query_offset`).
///
/// # Errors
/// [`StepError::Duplicate`], before anything has changed.
pub fn step(
    old: &AlertStates,
    present: Vec<Present>,
    timing: Timing,
    now: Timestamp,
    scope: Scope,
    limit: usize,
    write_at_ms: i64,
) -> Result<Step, StepError> {
    let mut found: BTreeMap<Labels, Present> = BTreeMap::new();
    for case in present {
        if found.insert(case.labels.clone(), case).is_some() {
            return Err(StepError::Duplicate);
        }
    }
    let mut out = Step::default();
    for (labels, state) in old {
        let case = found.remove(labels);
        if case.is_none() && scope == Scope::Raise {
            out.states.insert(labels.clone(), state.clone());
            continue;
        }
        let (next, transition) = advance(Some(state), labels, case, timing, now);
        write_series(labels, Some(state), next.as_ref(), scope, write_at_ms, &mut out.series);
        out.transitions.extend(transition);
        if let Some(next) = next {
            out.states.insert(labels.clone(), next);
        }
    }
    for (labels, case) in found {
        let (next, transition) = advance(None, &labels, Some(case), timing, now);
        write_series(&labels, None, next.as_ref(), scope, write_at_ms, &mut out.series);
        out.transitions.extend(transition);
        if let Some(next) = next {
            out.states.insert(labels, next);
        }
    }
    let alerts = out.states.values().filter(|state| state.phase != AlertPhase::Inactive).count();
    if limit > 0 && alerts > limit {
        return Ok(over_limit(old, now, limit, alerts, write_at_ms));
    }
    Ok(out)
}

/// Prometheus drops all alerts of a rule that exceeds its limit.
fn over_limit(old: &AlertStates, now: Timestamp, limit: usize, alerts: usize, write_at_ms: i64) -> Step {
    let mut out = Step { error: Some(StepError::Limit { limit, alerts }), ..Step::default() };
    for (labels, state) in old.iter().filter(|(_, state)| state.phase != AlertPhase::Inactive) {
        write_series(labels, Some(state), None, Scope::Whole, write_at_ms, &mut out.series);
        out.transitions.push(transition(labels, state, AlertPhase::Inactive, Reason::LimitExceeded, now));
    }
    out
}

/// One alert's step: `case` is there while the condition holds for it. `None` as the next state means forgotten.
pub fn advance(
    old: Option<&AlertState>,
    labels: &Labels,
    case: Option<Present>,
    timing: Timing,
    now: Timestamp,
) -> (Option<AlertState>, Option<Transition>) {
    let Some(case) = case else {
        return old.map_or((None, None), |old| missing(old, labels, timing, now));
    };
    let mut state = match old {
        Some(old) if old.phase != AlertPhase::Inactive => old.clone(),
        _ => AlertState {
            annotations: Labels::default(),
            phase: AlertPhase::Inactive,
            active_at: now,
            fired_at: None,
            resolved_at: None,
            keep_firing_since: None,
            value: case.value,
            value_at_firing: case.value,
            value_at_resolve: None,
            context: AlertContext::default(),
            published: None,
        },
    };
    let from = state.phase;
    let unchanged = state.value.to_bits() == case.value.to_bits() && state.annotations == case.annotations;
    state.value = case.value;
    state.annotations = case.annotations;
    state.keep_firing_since = None;
    if from != AlertPhase::Firing {
        state.phase = AlertPhase::Pending;
        if now.millis_since(state.active_at) >= timing.for_ms {
            state.phase = AlertPhase::Firing;
            state.fired_at = Some(now);
            state.value_at_firing = state.value;
        }
    }
    if !unchanged || from != state.phase {
        state.published = None;
    }
    let change = (from != state.phase).then(|| {
        let reason = if state.phase == AlertPhase::Firing { Reason::HeldLongEnough } else { Reason::ConditionHolds };
        Transition { from, ..transition(labels, &state, state.phase, reason, now) }
    });
    (Some(state), change)
}

/// The condition does not hold for this alert.
fn missing(
    old: &AlertState,
    labels: &Labels,
    timing: Timing,
    now: Timestamp,
) -> (Option<AlertState>, Option<Transition>) {
    match old.phase {
        AlertPhase::Pending => {
            (None, Some(transition(labels, old, AlertPhase::Inactive, Reason::EndedWhilePending, now)))
        }
        AlertPhase::Inactive => {
            let over = old.resolved_at.is_none_or(|at| now.millis_since(at) > RESOLVED_RETENTION_MS);
            ((!over).then(|| old.clone()), None)
        }
        AlertPhase::Firing => {
            let mut state = old.clone();
            if timing.keep_firing_for_ms > 0 {
                let since = *state.keep_firing_since.get_or_insert(now);
                if now.millis_since(since) < timing.keep_firing_for_ms {
                    return (Some(state), None);
                }
            }
            let reason = if old.keep_firing_since.is_some() { Reason::KeepFiringOver } else { Reason::ConditionEnded };
            state.phase = AlertPhase::Inactive;
            state.resolved_at = Some(now);
            state.published = None;
            let change = transition(labels, old, AlertPhase::Inactive, reason, now);
            (Some(state), Some(change))
        }
    }
}

fn transition(labels: &Labels, state: &AlertState, to: AlertPhase, reason: Reason, at: Timestamp) -> Transition {
    Transition {
        at,
        labels: labels.clone(),
        annotations: state.annotations.clone(),
        from: state.phase,
        to,
        reason,
        value: state.value,
        since: state.active_at,
        fired_at: state.fired_at,
    }
}

/// The samples of one alert's step. Reactive steps write only what changed; the grid writes every active alert.
pub(super) fn write_series(
    labels: &Labels,
    old: Option<&AlertState>,
    new: Option<&AlertState>,
    scope: Scope,
    t_ms: i64,
    out: &mut Vec<RecordedSample>,
) {
    let active =
        |state: Option<&AlertState>| state.map(|state| state.phase).filter(|phase| *phase != AlertPhase::Inactive);
    let (before, after) = (active(old), active(new));
    if let Some(phase) = before
        && before != after
    {
        out.push(RecordedSample::stale(alerts_labels(labels, phase), t_ms));
        if after.is_none() {
            out.push(RecordedSample::stale(for_state_labels(labels), t_ms));
        }
    }
    if let (Some(phase), Some(state)) = (after, new)
        && (scope == Scope::Whole || before != after)
    {
        out.push(RecordedSample::float(alerts_labels(labels, phase), t_ms, 1.0));
        let since = state.active_at.micros().div_euclid(1_000_000) as f64;
        out.push(RecordedSample::float(for_state_labels(labels), t_ms, since));
    }
}

/// Staleness markers for every series of these alerts.
pub(super) fn end_series(states: &AlertStates, t_ms: i64, out: &mut Vec<RecordedSample>) {
    for (labels, state) in states {
        write_series(labels, Some(state), None, Scope::Whole, t_ms, out);
    }
}

fn alerts_labels(labels: &Labels, phase: AlertPhase) -> Labels {
    labels.with(METRIC_NAME, "ALERTS").with("alertstate", phase.name())
}

fn for_state_labels(labels: &Labels) -> Labels {
    labels.with(METRIC_NAME, "ALERTS_FOR_STATE")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::fmt::Write as _;

    const A: [(&str, &str); 1] = [("alertname", "A")];

    fn timing(for_s: i64, keep_s: i64) -> Timing {
        Timing { for_ms: for_s * 1_000, keep_firing_for_ms: keep_s * 1_000 }
    }

    /// Runs a life: at each second the condition holds with a value or not; prints phases and reasons.
    fn check(timing: Timing, script: &[(i64, Option<f64>)], expected: &str) {
        let mut states = AlertStates::new();
        let mut said = String::new();
        for (at, value) in script {
            let now = Timestamp::from_millis(at * 1_000);
            let present = value.map(|value| Present {
                labels: Labels::from_pairs(A),
                annotations: Labels::from_pairs([("v", value.to_string())]),
                value,
            });
            let step = step(&states, present.into_iter().collect(), timing, now, Scope::Whole, 0, at * 1_000).unwrap();
            let phase = step.states.values().next().map_or("-", |state| state.phase.name());
            write!(said, "{at}:{phase}").unwrap();
            for change in &step.transitions {
                write!(said, "({:?})", change.reason).unwrap();
            }
            said.push(' ');
            states = step.states;
        }
        assert_eq!(said.trim_end(), expected);
    }

    #[test]
    fn an_alert_lives_as_in_prometheus() {
        check(timing(0, 0), &[(0, Some(1.0)), (1, None)], "0:firing(HeldLongEnough) 1:inactive(ConditionEnded)");
        check(
            timing(60, 0),
            &[(0, Some(1.0)), (30, Some(2.0)), (60, Some(3.0)), (90, None), (91, Some(1.0))],
            "0:pending(ConditionHolds) 30:pending 60:firing(HeldLongEnough) 90:inactive(ConditionEnded) 91:pending(ConditionHolds)",
        );
        check(timing(60, 0), &[(0, Some(1.0)), (30, None)], "0:pending(ConditionHolds) 30:-(EndedWhilePending)");
        check(
            timing(0, 60),
            &[(0, Some(1.0)), (10, None), (69, None), (70, None)],
            "0:firing(HeldLongEnough) 10:firing 69:firing 70:inactive(KeepFiringOver)",
        );
        check(
            timing(0, 60),
            &[(0, Some(1.0)), (10, None), (60, Some(1.0)), (70, None), (129, None), (130, None)],
            "0:firing(HeldLongEnough) 10:firing 60:firing 70:firing 129:firing 130:inactive(KeepFiringOver)",
        );
        check(
            timing(0, 0),
            &[(0, Some(1.0)), (1, None), (901, None), (902, None)],
            "0:firing(HeldLongEnough) 1:inactive(ConditionEnded) 901:inactive 902:-",
        );
    }

    #[test]
    fn values_and_annotations_follow_while_active_and_freeze_at_the_end() {
        let labels = Labels::from_pairs(A);
        let case = |value: f64| Present {
            labels: labels.clone(),
            annotations: Labels::from_pairs([("v", value.to_string())]),
            value,
        };
        let at = |s: i64| Timestamp::from_millis(s * 1_000);
        let (first, _) = advance(None, &labels, Some(case(1.0)), timing(5, 0), at(0));
        let (second, _) = advance(first.as_ref(), &labels, Some(case(2.0)), timing(5, 0), at(5));
        let (third, _) = advance(second.as_ref(), &labels, Some(case(3.0)), timing(5, 0), at(6));
        let (ended, change) = advance(third.as_ref(), &labels, None, timing(5, 0), at(7));
        let ended = ended.unwrap();
        assert_eq!((ended.active_at, ended.fired_at, ended.resolved_at), (at(0), Some(at(5)), Some(at(7))));
        assert_eq!((ended.value_at_firing, ended.value), (2.0, 3.0));
        assert_eq!(ended.annotations.get("v"), Some("3"));
        assert_eq!(change.unwrap().from, AlertPhase::Firing);
    }

    #[test]
    fn series_are_written_and_ended() {
        let present = |value| vec![Present { labels: Labels::from_pairs(A), annotations: Labels::default(), value }];
        let at = |s: i64| Timestamp::from_millis(s * 1_000);
        let show = |series: &[RecordedSample]| {
            let text = |sample: &RecordedSample| match &sample.value {
                SampleValue::Float(value) if !sample.is_stale() => format!("{}={value}", sample.labels),
                _ => format!("{}=stale", sample.labels),
            };
            series.iter().map(text).collect::<Vec<_>>().join(" ")
        };
        let one = step(&AlertStates::new(), present(1.0), timing(1, 0), at(100), Scope::Whole, 0, 100_000).unwrap();
        assert_eq!(
            show(&one.series),
            r#"ALERTS{alertname="A", alertstate="pending"}=1 ALERTS_FOR_STATE{alertname="A"}=100"#
        );
        let two = step(&one.states, present(1.0), timing(1, 0), at(101), Scope::Whole, 0, 101_000).unwrap();
        assert_eq!(
            show(&two.series),
            r#"ALERTS{alertname="A", alertstate="pending"}=stale ALERTS{alertname="A", alertstate="firing"}=1 ALERTS_FOR_STATE{alertname="A"}=100"#
        );
        let three = step(&two.states, vec![], timing(1, 0), at(102), Scope::Whole, 0, 102_000).unwrap();
        assert_eq!(
            show(&three.series),
            r#"ALERTS{alertname="A", alertstate="firing"}=stale ALERTS_FOR_STATE{alertname="A"}=stale"#
        );
        let limited = step(
            &two.states,
            present(1.0)
                .into_iter()
                .chain([Present {
                    labels: Labels::from_pairs([("alertname", "A"), ("x", "2")]),
                    annotations: Labels::default(),
                    value: 1.0,
                }])
                .collect(),
            timing(0, 0),
            at(103),
            Scope::Whole,
            1,
            103_000,
        )
        .unwrap();
        assert!(limited.states.is_empty());
        assert_eq!(limited.error.unwrap().to_string(), "exceeded limit of 1 with 2 alerts");
        let twice = present(1.0).into_iter().chain(present(2.0)).collect();
        assert_eq!(
            step(&AlertStates::new(), twice, timing(0, 0), at(0), Scope::Whole, 0, 0).unwrap_err(),
            StepError::Duplicate
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Whatever happens: fires only after `for`, ends only from firing or pending, and reactive steps never end.
        #[test]
        fn the_invariants_hold(for_s in 0_i64..5, keep_s in 0_i64..5, steps in prop::collection::vec((1_i64..4, prop::bool::ANY, prop::bool::ANY), 1..40)) {
            let (mut states, mut t) = (AlertStates::new(), 1_000_000);
            for (gap, holds, whole) in steps {
                t += gap;
                let now = Timestamp::from_millis(t * 1_000);
                let present = holds.then(|| Present { labels: Labels::from_pairs(A), annotations: Labels::default(), value: 1.0 });
                let scope = if whole { Scope::Whole } else { Scope::Raise };
                let next = step(&states, present.into_iter().collect(), timing(for_s, keep_s), now, scope, 0, t * 1_000).unwrap();
                for change in &next.transitions {
                    prop_assert!(scope == Scope::Whole || change.to != AlertPhase::Inactive);
                }
                for state in next.states.values() {
                    if let Some(fired) = state.fired_at {
                        prop_assert!(fired.millis_since(state.active_at) >= for_s * 1_000);
                    }
                    prop_assert_eq!(state.phase == AlertPhase::Inactive, state.resolved_at.is_some());
                }
                states = next.states;
            }
        }
    }
}
