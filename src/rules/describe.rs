//! What `/api/v1/rules` and `/api/v1/alerts` say, in Prometheus's shape (`web/api/v1/api.go`).

use super::alert_state::{AlertPhase, AlertState, AlertStates};
use super::rule::TemplatedLabels;
use super::schedule::{EVENT_GROUP, RuleState, Rules};
use crate::model::{Labels, Timestamp};
use crate::template::format_float;
use serde::Serialize;
use serde::ser::SerializeMap;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// `data` of `/api/v1/rules`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RuleGroups {
    /// The groups in order.
    pub groups: Vec<GroupView>,
}

/// One group.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GroupView {
    /// `name`
    pub name: Arc<str>,
    /// `file`
    pub file: Arc<str>,
    /// The rules in order.
    pub rules: Vec<RuleView>,
    /// In seconds.
    pub interval: f64,
    /// 0 is none.
    pub limit: usize,
    /// In seconds.
    pub evaluation_time: f64,
    /// RFC 3339.
    pub last_evaluation: String,
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum RuleView {
    /// An alert.
    Alerting(AlertingView),
    /// A recording rule.
    Recording(RecordingView),
}

/// An alerting rule.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AlertingView {
    /// The phase of its furthest alert.
    pub state: AlertPhase,
    /// `alertname`
    pub name: Arc<str>,
    /// The expression in the printer's form; for event conditions, the condition in words.
    pub query: String,
    /// `for` in seconds.
    pub duration: f64,
    /// `keep_firing_for` in seconds.
    pub keep_firing_for: f64,
    /// Labels as written.
    #[serde(serialize_with = "pairs")]
    pub labels: Vec<(Arc<str>, String)>,
    /// Annotations as written.
    #[serde(serialize_with = "pairs")]
    pub annotations: Vec<(Arc<str>, String)>,
    /// Its pending and firing alerts.
    pub alerts: Vec<AlertView>,
    /// ok, err or unknown.
    pub health: &'static str,
    /// Why the last evaluation failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// In seconds.
    pub evaluation_time: f64,
    /// RFC 3339.
    pub last_evaluation: String,
}

/// A recording rule.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RecordingView {
    /// The metric that it writes.
    pub name: Arc<str>,
    /// The expression in the printer's form.
    pub query: String,
    /// Labels as written.
    #[serde(serialize_with = "pairs", skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<(Arc<str>, String)>,
    /// ok, err or unknown.
    pub health: &'static str,
    /// Why the last evaluation failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// In seconds.
    pub evaluation_time: f64,
    /// RFC 3339.
    pub last_evaluation: String,
}

/// `data` of `/api/v1/alerts`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AlertsView {
    /// All pending and firing alerts.
    pub alerts: Vec<AlertView>,
}

/// One active alert.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AlertView {
    /// All labels.
    #[serde(serialize_with = "label_map")]
    pub labels: Labels,
    /// Expanded annotations.
    #[serde(serialize_with = "label_map")]
    pub annotations: Labels,
    /// pending or firing.
    pub state: AlertPhase,
    /// RFC 3339.
    pub active_at: String,
    /// RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_firing_since: Option<String>,
    /// As Go prints it with the verb e: `9.58e+01`.
    pub value: String,
}

fn pairs<S: serde::Serializer>(pairs: &[(Arc<str>, String)], serializer: S) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(pairs.len()))?;
    let sorted: BTreeMap<&str, &str> = pairs.iter().map(|(name, value)| (&**name, value.as_str())).collect();
    for (name, value) in sorted {
        map.serialize_entry(name, value)?;
    }
    map.end()
}

fn label_map<S: serde::Serializer>(labels: &Labels, serializer: S) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(labels.len()))?;
    for label in labels.iter() {
        map.serialize_entry(&*label.name, &*label.value)?;
    }
    map.end()
}

/// Go's zero time, for what has not happened yet.
const NEVER: &str = "0001-01-01T00:00:00Z";

fn moment(at: Option<Timestamp>) -> String {
    at.map_or_else(|| NEVER.into(), Timestamp::rfc3339)
}

fn seconds(took: Duration) -> f64 {
    took.as_secs_f64()
}

fn texts(labels: &TemplatedLabels) -> Vec<(Arc<str>, String)> {
    labels.iter().map(|(name, text)| (name.clone(), text.source().to_owned())).collect()
}

fn alert_view(labels: &Labels, state: &AlertState) -> AlertView {
    AlertView {
        labels: labels.clone(),
        annotations: state.annotations.clone(),
        state: state.phase,
        active_at: state.active_at.rfc3339(),
        keep_firing_since: state.keep_firing_since.map(Timestamp::rfc3339),
        value: format_float(state.value, 'e', None),
    }
}

fn active(states: &AlertStates) -> impl Iterator<Item = AlertView> {
    let states = states.iter().filter(|(_, state)| state.phase != AlertPhase::Inactive);
    states.map(|(labels, state)| alert_view(labels, state))
}

fn furthest(states: &AlertStates) -> AlertPhase {
    states.values().map(|state| state.phase).max().unwrap_or(AlertPhase::Inactive)
}

fn health(state: &RuleState) -> &'static str {
    match (&state.last_error, state.evaluated_at) {
        (Some(_), _) => "err",
        (None, Some(_)) => "ok",
        (None, None) => "unknown",
    }
}

impl Rules {
    /// All groups with their rules and active alerts; event conditions stand in the group `events` of their file.
    pub fn describe(&self) -> RuleGroups {
        let mut groups = Vec::with_capacity(self.groups.len() + 1);
        for group in &self.groups {
            let rules = group.group.rules.iter().zip(&group.rules).map(|(rule, state)| {
                let (query, labels) = (rule.expression.text().to_owned(), texts(&rule.labels));
                let (evaluation_time, last_evaluation) = (seconds(state.took), moment(state.evaluated_at));
                let (health, last_error) = (health(state), state.last_error.clone());
                let name = rule.name.clone();
                match &rule.alerting {
                    None => RuleView::Recording(RecordingView {
                        name,
                        query,
                        labels,
                        health,
                        last_error,
                        evaluation_time,
                        last_evaluation,
                    }),
                    Some(alerting) => RuleView::Alerting(AlertingView {
                        state: furthest(&state.states),
                        name,
                        query,
                        duration: alerting.timing.for_ms as f64 / 1e3,
                        keep_firing_for: alerting.timing.keep_firing_for_ms as f64 / 1e3,
                        labels,
                        annotations: texts(&alerting.annotations),
                        alerts: active(&state.states).collect(),
                        health,
                        last_error,
                        evaluation_time,
                        last_evaluation,
                    }),
                }
            });
            groups.push(GroupView {
                name: group.group.name.clone(),
                file: group.group.file.clone(),
                rules: rules.collect(),
                interval: group.group.interval_ms as f64 / 1e3,
                limit: group.group.limit,
                evaluation_time: seconds(group.took),
                last_evaluation: moment(group.evaluated_at),
            });
        }
        groups.extend(self.event_groups());
        RuleGroups { groups }
    }

    fn event_groups(&self) -> Vec<GroupView> {
        let mut by_file: BTreeMap<Arc<str>, Vec<RuleView>> = BTreeMap::new();
        for (rule, alerts, _) in self.events.iter() {
            by_file.entry(rule.file.clone()).or_default().push(RuleView::Alerting(AlertingView {
                state: furthest(alerts),
                name: rule.name.clone(),
                query: rule.text.clone(),
                duration: rule.timing.for_ms as f64 / 1e3,
                keep_firing_for: rule.timing.keep_firing_for_ms as f64 / 1e3,
                labels: texts(&rule.labels),
                annotations: texts(&rule.annotations),
                alerts: active(alerts).collect(),
                health: "ok",
                last_error: None,
                evaluation_time: 0.0,
                last_evaluation: NEVER.into(),
            }));
        }
        if !self.deaf.is_empty() {
            by_file.entry(super::bundled::BUILT_IN.into()).or_default().push(RuleView::Alerting(AlertingView {
                state: furthest(&self.deaf),
                name: super::schedule::DEAF_ALERT.into(),
                query: "a source is lost or catching up".into(),
                duration: 0.0,
                keep_firing_for: 0.0,
                labels: Vec::new(),
                annotations: Vec::new(),
                alerts: active(&self.deaf).collect(),
                health: "ok",
                last_error: None,
                evaluation_time: 0.0,
                last_evaluation: NEVER.into(),
            }));
        }
        let view = |(file, rules)| GroupView {
            name: EVENT_GROUP.into(),
            file,
            rules,
            interval: 0.0,
            limit: 0,
            evaluation_time: 0.0,
            last_evaluation: NEVER.into(),
        };
        by_file.into_iter().map(view).collect()
    }

    /// All pending and firing alerts.
    pub fn describe_alerts(&self) -> AlertsView {
        let groups = self.groups.iter().flat_map(|group| &group.rules);
        let metric = groups.flat_map(|state| active(&state.states));
        let event = self.events.iter().flat_map(|(_, alerts, _)| active(alerts));
        AlertsView { alerts: metric.chain(event).chain(active(&self.deaf)).collect() }
    }
}
