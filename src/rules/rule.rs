//! Checked rules: what the schema said, compiled.

use super::alert_state::Timing;
use super::events::EventRule;
use super::expression::Expression;
use super::slo::Slo;
use crate::model::{Label, Labels};
use crate::template::{AlertData, Functions, Template, Value};
use std::sync::Arc;

/// Labels or annotations whose values are templates.
pub type TemplatedLabels = Vec<(Arc<str>, Template)>;

/// What all rules share.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Settings {
    /// `external_labels`: in templates, and on published alerts.
    pub external_labels: Labels,
    /// `external_url`.
    pub external_url: String,
    /// The most alerts that one rule may hold.
    pub alerts_per_rule: usize,
    /// The most keys that one event condition may hold.
    pub pattern_keys: usize,
    /// Whether rules evaluate when their inputs change.
    pub reactive: bool,
}

/// A PromQL rule: recording when it has no [`Alerting`] part.
#[derive(Clone, Debug)]
pub struct Rule {
    /// `record` or `alert`.
    pub name: Arc<str>,
    /// `expr`.
    pub expression: Expression,
    /// `labels`, the group's labels beneath.
    pub labels: TemplatedLabels,
    /// What only alerts have.
    pub alerting: Option<Alerting>,
    /// It records nothing itself: what it finds goes to an objective.
    pub feeds: Option<Feed>,
}

/// Where the counters that a rule reads go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Feed {
    /// The objective, by its place in the set.
    pub slo: usize,
    /// They are of `total`, not of `good` or `error`.
    pub total: bool,
}

/// What only alerts have.
#[derive(Clone, Debug, PartialEq)]
pub struct Alerting {
    /// `for` and `keep_firing_for`.
    pub timing: Timing,
    /// `annotations`.
    pub annotations: TemplatedLabels,
}

impl Rule {
    /// Whether state may be carried over from `other` on reload: Prometheus compares name and labels.
    pub(super) fn same_identity(&self, other: &Self) -> bool {
        self.name == other.name && self.alerting.is_some() == other.alerting.is_some() && self.labels == other.labels
    }
}

/// Rules that are evaluated one after the other at the same moment.
#[derive(Clone, Debug)]
pub struct Group {
    /// `name`.
    pub name: Arc<str>,
    /// The file as the user named it.
    pub file: Arc<str>,
    /// `interval` in milliseconds.
    pub interval_ms: i64,
    /// `limit`: the most alerts or series of each rule; 0 is no limit.
    pub limit: usize,
    /// `query_offset` in milliseconds.
    pub query_offset_ms: i64,
    /// Evaluations lie at whole multiples of the interval, as unit tests need them, and are not spread.
    pub aligned: bool,
    /// The rules in order.
    pub rules: Vec<Arc<Rule>>,
}

impl Group {
    /// How far into its interval the group's evaluations lie: spread by file and name, the same in every run.
    pub fn slot_offset_ms(&self) -> i64 {
        if self.aligned {
            return 0;
        }
        let hash = Labels::from_pairs([("file", &*self.file), ("name", &*self.name)]).fingerprint();
        (hash % self.interval_ms.max(1).unsigned_abs()) as i64
    }

    /// The evaluation slot at or before a moment.
    pub fn slot_at_or_before_ms(&self, now_ms: i64) -> i64 {
        let offset = self.slot_offset_ms();
        (now_ms - offset).div_euclid(self.interval_ms) * self.interval_ms + offset
    }
}

/// Where the short form sends an alert: notify makes routes of these.
#[derive(Clone, Debug, PartialEq)]
pub struct ShortRoute {
    /// The alert's name.
    pub alertname: String,
    /// The receivers; empty for the default receiver.
    pub receivers: Vec<crate::config::Spanned<String>>,
}

/// Everything that evaluates: groups of PromQL rules and event conditions.
#[derive(Clone, Debug, Default)]
pub struct RuleSet {
    /// Groups in order of files.
    pub groups: Vec<Arc<Group>>,
    /// Event conditions.
    pub events: Vec<Arc<EventRule>>,
    /// Service level objectives.
    pub slos: Vec<Arc<Slo>>,
    /// Where short-form alerts go.
    pub routes: Vec<ShortRoute>,
    /// What all rules share.
    pub settings: Arc<Settings>,
}

/// Expands a rule's labels and annotations for one case. `base` are the labels that stay (the metric's name gone).
pub(super) fn expand(
    name: &str,
    base: &Labels,
    data: &AlertData,
    labels: &TemplatedLabels,
    annotations: &TemplatedLabels,
    functions: &Functions<'_>,
) -> (Labels, Labels) {
    let pairs = |texts: &TemplatedLabels| -> Vec<Label> {
        let expanded = texts.iter().map(|(key, text)| (key.clone(), text.expand(name, data, functions)));
        expanded.map(|(name, value)| Label { name, value: value.into() }).collect()
    };
    // A rule's label with an empty value removes the series' label, as `Labels::new` drops empty values.
    let mut all = base.as_slice().to_vec();
    all.extend(pairs(labels));
    all.push(Label { name: "alertname".into(), value: name.into() });
    (Labels::new(all), Labels::new(pairs(annotations)))
}

/// The data of a template for one case.
pub(super) fn alert_data(settings: &Settings, labels: &Labels, value: f64, event: Value) -> AlertData {
    AlertData::new(labels, value, &settings.external_labels, &settings.external_url, event)
}
