//! Why a rule's alerts are in the state they are in.

use super::alert_state::{AlertPhase, AlertState, AlertStates, Timing};
use super::clauses::{Clause, clauses};
use super::events::EventWhy;
use super::rule::TemplatedLabels;
use super::schedule::{DEAF_ALERT, EVENT_GROUP, Rules};
use crate::model::{Label, Labels, Timestamp};
use std::sync::Arc;

/// Alerts of one rule that are shown; those that fire first.
const ALERTS_SHOWN: usize = 50;

/// One rule of a name.
#[derive(Clone, Debug)]
pub struct RuleWhy {
    /// Where it is configured.
    pub file: Arc<str>,
    /// Its group.
    pub group: Arc<str>,
    /// `metric`, `event` or `built_in`.
    pub kind: &'static str,
    /// The expression in the printer's form, or the condition in words.
    pub condition: String,
    /// The expression's clauses; empty for conditions on events.
    pub clauses: Vec<Clause>,
    /// When the expression's clauses are to be read: now less `query_offset`, in milliseconds.
    pub query_offset_ms: i64,
    /// What an event condition knows.
    pub event: Option<EventWhy>,
    /// `for` and `keep_firing_for`.
    pub timing: Timing,
    /// How often it is evaluated, in milliseconds; 0 for conditions on events, which are judged with each event.
    pub interval_ms: i64,
    /// When it was last evaluated.
    pub last_evaluation: Option<Timestamp>,
    /// When it is evaluated next at the latest; `None` while it is being evaluated and for conditions on events.
    pub next_evaluation: Option<Timestamp>,
    /// Why the last evaluation failed.
    pub last_error: Option<String>,
    /// The phase of its furthest alert.
    pub state: AlertPhase,
    /// Its alerts, the first of them.
    pub alerts: Vec<AlertWhy>,
    /// How many there are.
    pub alerts_total: usize,
    /// The labels that an alert of it has in any case, for its route while there is none.
    pub labels: Labels,
}

/// One alert.
#[derive(Clone, Debug)]
pub struct AlertWhy {
    /// Its labels with `external_labels`, as they are routed.
    pub labels: Labels,
    /// `pending`, `firing` or `resolved`.
    pub state: &'static str,
    /// Since when the condition holds.
    pub active_at: Timestamp,
    /// Since when it fires.
    pub fired_at: Option<Timestamp>,
    /// When it ended.
    pub resolved_at: Option<Timestamp>,
    /// The last value while the condition held.
    pub value: f64,
    /// What is left of `for`, in milliseconds.
    pub for_left_ms: Option<i64>,
    /// What is left of `keep_firing_for`, in milliseconds: the condition has stopped holding.
    pub keep_left_ms: Option<i64>,
    /// One line about it.
    pub summary: String,
}

impl Rules {
    /// The names of all alerting rules, each once, in order.
    pub fn alert_names(&self) -> Vec<Arc<str>> {
        let metric = self.groups.iter().flat_map(|group| &group.group.rules);
        let metric = metric.filter(|rule| rule.alerting.is_some()).map(|rule| rule.name.clone());
        let event = self.events.iter().map(|(rule, ..)| rule.name.clone());
        let mut names: Vec<Arc<str>> = metric.chain(event).chain([DEAF_ALERT.into()]).collect();
        names.sort();
        names.dedup();
        names
    }

    /// The rules of a name; several files may have one.
    pub fn why(&self, name: &str, now: Timestamp) -> Vec<RuleWhy> {
        let external = &self.set.settings.external_labels;
        let mut found = Vec::new();
        for group in &self.groups {
            for (rule, state) in group.group.rules.iter().zip(&group.rules) {
                let Some(alerting) = rule.alerting.as_ref().filter(|_| *rule.name == *name) else { continue };
                let next_ms = group.next_slot_ms.min(state.react_at_ms.unwrap_or(i64::MAX));
                found.push(RuleWhy {
                    file: group.group.file.clone(),
                    group: group.group.name.clone(),
                    kind: "metric",
                    condition: rule.expression.text().to_owned(),
                    clauses: clauses(rule.expression.expr()),
                    query_offset_ms: group.group.query_offset_ms,
                    event: None,
                    interval_ms: group.group.interval_ms,
                    last_evaluation: state.evaluated_at,
                    next_evaluation: (!group.in_flight).then(|| Timestamp::from_millis(next_ms)),
                    last_error: state.last_error.clone(),
                    ..common(name, &rule.labels, alerting.timing, &state.states, external, now)
                });
            }
        }
        for (index, (rule, alerts, _)) in self.events.iter().enumerate().filter(|(_, (rule, ..))| *rule.name == *name) {
            found.push(RuleWhy {
                file: rule.file.clone(),
                kind: "event",
                condition: rule.text.clone(),
                event: self.events.inspect(index, now),
                ..common(name, &rule.labels, rule.timing, alerts, external, now)
            });
        }
        if name == DEAF_ALERT {
            found.push(RuleWhy {
                file: super::bundled::BUILT_IN.into(),
                kind: "built_in",
                condition: "a source is lost or catching up".into(),
                ..common(name, &Vec::new(), Timing::default(), &self.deaf, external, now)
            });
        }
        found
    }
}

fn common(
    name: &str,
    labels: &TemplatedLabels,
    timing: Timing,
    states: &AlertStates,
    external: &Labels,
    now: Timestamp,
) -> RuleWhy {
    let mut order: Vec<(&Labels, &AlertState)> = states.iter().collect();
    order.sort_by_key(|(_, state)| std::cmp::Reverse(state.phase));
    let plain = labels.iter().filter(|(_, text)| !text.source().contains("{{"));
    let fixed = plain.map(|(name, text)| Label { name: name.clone(), value: text.source().into() });
    let fixed = fixed.chain([Label { name: "alertname".into(), value: name.into() }]);
    RuleWhy {
        file: Arc::default(),
        group: EVENT_GROUP.into(),
        kind: "",
        condition: String::new(),
        clauses: Vec::new(),
        query_offset_ms: 0,
        event: None,
        timing,
        interval_ms: 0,
        last_evaluation: None,
        next_evaluation: None,
        last_error: None,
        state: states.values().map(|state| state.phase).max().unwrap_or(AlertPhase::Inactive),
        alerts_total: states.len(),
        alerts: order
            .into_iter()
            .take(ALERTS_SHOWN)
            .map(|(labels, state)| alert(labels, state, timing, external, now))
            .collect(),
        labels: external.merged(&Labels::new(fixed.collect())),
    }
}

fn alert(labels: &Labels, state: &AlertState, timing: Timing, external: &Labels, now: Timestamp) -> AlertWhy {
    let left = |since: Timestamp, ms: i64| (ms - now.millis_since(since)).max(0);
    let summary = ["summary", "description", "message"].iter().find_map(|name| state.annotations.get(name));
    AlertWhy {
        labels: external.merged(labels),
        state: if state.phase == AlertPhase::Inactive { "resolved" } else { state.phase.name() },
        active_at: state.active_at,
        fired_at: state.fired_at,
        resolved_at: state.resolved_at,
        value: state.value,
        for_left_ms: (state.phase == AlertPhase::Pending).then(|| left(state.active_at, timing.for_ms)),
        keep_left_ms: state
            .keep_firing_since
            .filter(|_| state.phase == AlertPhase::Firing)
            .map(|since| left(since, timing.keep_firing_for_ms)),
        summary: summary.and_then(|text| text.lines().next()).unwrap_or("").to_owned(),
    }
}
