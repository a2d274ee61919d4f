//! Evaluation of a group's rules: a pure function of a storage.

use super::alert_state::{AlertStates, Present, RecordedSample, Scope, Step, Transition, step};
use super::evidence;
use super::expression::Expression;
use super::rule::{Alerting, Group, Rule, Settings, alert_data, expand};
use crate::model::{Label, Labels, METRIC_NAME, Timestamp};
use crate::promql::{self, Options};
use crate::series::{FloatPoint, HistogramPoint, SampleValue, Selection, SeriesData, Storage};
use crate::template::{Dialect, Functions, Value, sample};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Which evaluation a job belongs to, so that a result that comes after a reload is recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    pub(super) group: usize,
    pub(super) generation: u64,
}

/// Why a group's rules run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EvalKind {
    /// Its interval.
    Interval,
    /// An input changed, or a `for` is over: some of its rules run, raising only.
    Reactive,
}

/// One rule of a job with what it knows.
#[derive(Clone, Debug)]
pub(super) struct JobRule {
    pub index: usize,
    pub states: Arc<AlertStates>,
    /// The series that a recording rule wrote last.
    pub written: Arc<BTreeSet<Labels>>,
}

/// The rules of one group at one moment: a pure function of a storage, to be run anywhere.
#[derive(Clone, Debug)]
pub struct EvalJob {
    pub(super) ticket: Ticket,
    pub(super) at_ms: i64,
    pub(super) kind: EvalKind,
    pub(super) scope: Scope,
    pub(super) group: Arc<Group>,
    pub(super) settings: Arc<Settings>,
    pub(super) rules: Vec<JobRule>,
}

/// What a job's rules found; give it to `Rules::apply`.
#[derive(Clone, Debug)]
pub struct EvalResult {
    pub(super) ticket: Ticket,
    pub(super) at_ms: i64,
    pub(super) kind: EvalKind,
    pub(super) rules: Vec<RuleResult>,
}

#[derive(Clone, Debug)]
pub(super) struct RuleResult {
    pub index: usize,
    pub outcome: Result<Outcome, String>,
}

/// What one rule's evaluation changes.
#[derive(Clone, Debug, Default)]
pub(super) struct Outcome {
    pub states: Option<AlertStates>,
    pub written: Option<BTreeSet<Labels>>,
    pub transitions: Vec<Transition>,
    pub samples: Vec<RecordedSample>,
    pub error: Option<String>,
    /// What goes to an objective.
    pub fed: Vec<(Labels, f64)>,
}

impl EvalJob {
    /// Group and file.
    pub fn group(&self) -> (&str, &str) {
        (&self.group.name, &self.group.file)
    }

    /// The moment of evaluation, in milliseconds since the epoch.
    pub fn at_ms(&self) -> i64 {
        self.at_ms
    }

    /// Interval or reactive.
    pub fn kind(&self) -> EvalKind {
        self.kind
    }

    /// To report that the job was lost.
    pub fn ticket(&self) -> Ticket {
        self.ticket
    }

    /// What the expressions read (what `query` in templates reads is not known before).
    pub fn selections(&self) -> Vec<Selection> {
        let at_ms = self.at_ms - self.group.query_offset_ms;
        self.rules.iter().flat_map(|job| self.group.rules[job.index].expression.selections(at_ms)).collect()
    }

    /// Evaluates the rules in order; each sees what the ones before it recorded.
    pub fn run(&self, storage: &dyn Storage, options: &Options<'_>) -> EvalResult {
        let mut overlay = Overlay { base: storage, added: BTreeMap::new() };
        let mut results = Vec::with_capacity(self.rules.len());
        for job in &self.rules {
            let rule = &self.group.rules[job.index];
            let outcome = match (&rule.alerting, rule.feeds) {
                (Some(alerting), _) => self.alert(rule, alerting, job, &overlay, options),
                (None, Some(_)) => self.feed(rule, &overlay, options),
                (None, None) => self.record(rule, job, &overlay, options),
            };
            if let Ok(outcome) = &outcome {
                overlay.add(&outcome.samples);
            }
            results.push(RuleResult { index: job.index, outcome });
        }
        EvalResult { ticket: self.ticket, at_ms: self.at_ms, kind: self.kind, rules: results }
    }

    fn read_at_ms(&self) -> i64 {
        self.at_ms - self.group.query_offset_ms
    }

    fn alert(
        &self,
        rule: &Rule,
        alerting: &Alerting,
        job: &JobRule,
        storage: &dyn Storage,
        options: &Options<'_>,
    ) -> Result<Outcome, String> {
        let (now, read_at_ms) = (Timestamp::from_millis(self.at_ms), self.read_at_ms());
        let vector = rule.expression.samples(read_at_ms, storage, options)?;
        let query = |text: &str| query(text, read_at_ms, storage, options);
        let functions =
            Functions { query: Some(&query), ..Functions::new(Dialect::Prometheus, now, &self.settings.external_url) };
        let present = vector
            .into_iter()
            .map(|(labels, value)| {
                let value = number(&value);
                let data = alert_data(&self.settings, &labels, value, Value::Nil);
                let base = labels.filtered(|name| name != METRIC_NAME);
                let (labels, annotations) =
                    expand(&rule.name, &base, &data, &rule.labels, &alerting.annotations, &functions);
                Present { labels, annotations, value }
            })
            .collect();
        let limit = match self.group.limit {
            0 => self.settings.alerts_per_rule,
            limit => limit.min(self.settings.alerts_per_rule),
        };
        let Step { mut states, transitions, series, error } =
            step(&job.states, present, alerting.timing, now, self.scope, limit, read_at_ms)
                .map_err(|error| error.to_string())?;
        let expand_labels = |labels: &Labels, value: f64| {
            let data = alert_data(&self.settings, labels, value, Value::Nil);
            expand(&rule.name, labels, &data, &rule.labels, &Vec::new(), &functions).0
        };
        evidence::add(&rule.expression, &mut states, &transitions, read_at_ms, storage, options, &expand_labels);
        Ok(Outcome {
            states: Some(states),
            written: None,
            transitions,
            samples: series,
            error: error.map(|error| error.to_string()),
            fed: Vec::new(),
        })
    }

    fn feed(&self, rule: &Rule, storage: &dyn Storage, options: &Options<'_>) -> Result<Outcome, String> {
        let vector = rule.expression.samples(self.read_at_ms(), storage, options)?;
        let fed = vector.into_iter().map(|(labels, value)| {
            let value = match &value {
                promql::SampleValue::Float(value) => *value,
                promql::SampleValue::Histogram(histogram) => histogram.count,
            };
            (labels, value)
        });
        Ok(Outcome { fed: fed.collect(), ..Outcome::default() })
    }

    fn record(
        &self,
        rule: &Rule,
        job: &JobRule,
        storage: &dyn Storage,
        options: &Options<'_>,
    ) -> Result<Outcome, String> {
        let t_ms = self.read_at_ms();
        let vector = rule.expression.samples(t_ms, storage, options)?;
        let mut samples = Vec::with_capacity(vector.len());
        let mut written = BTreeSet::new();
        for (labels, value) in vector {
            let mut all = labels.as_slice().to_vec();
            all.push(Label { name: METRIC_NAME.into(), value: rule.name.clone() });
            all.extend(
                rule.labels.iter().map(|(name, text)| Label { name: name.clone(), value: text.source().into() }),
            );
            let labels = Labels::new(all);
            if !written.insert(labels.clone()) {
                return Err("vector contains metrics with the same labelset after applying rule labels".into());
            }
            let value = match value {
                promql::SampleValue::Float(value) => SampleValue::Float(value),
                promql::SampleValue::Histogram(histogram) => SampleValue::Histogram(histogram),
            };
            samples.push(RecordedSample { labels, t_ms, value });
        }
        if self.group.limit > 0 && samples.len() > self.group.limit {
            return Err(format!("exceeded limit of {} with {} series", self.group.limit, samples.len()));
        }
        let ended = job.written.iter().filter(|labels| !written.contains(*labels));
        samples.extend(ended.map(|labels| RecordedSample::stale(labels.clone(), t_ms)));
        Ok(Outcome { written: Some(written), samples, ..Outcome::default() })
    }
}

/// `query` of templates.
pub(super) fn query(
    text: &str,
    at_ms: i64,
    storage: &dyn Storage,
    options: &Options<'_>,
) -> Result<Vec<Value>, String> {
    let expression = Expression::parse(text).map_err(|error| error.message)?;
    let vector = expression.samples(at_ms, storage, options)?;
    Ok(vector.iter().map(|(labels, value)| sample(labels, number(value))).collect())
}

/// A histogram has no single value; Prometheus's alerts show 0 for it.
fn number(value: &promql::SampleValue) -> f64 {
    if let promql::SampleValue::Float(value) = value { *value } else { 0.0 }
}

/// A storage with what the rules before have recorded in the same pass.
struct Overlay<'a> {
    base: &'a dyn Storage,
    added: BTreeMap<Labels, (i64, SampleValue)>,
}

impl Overlay<'_> {
    fn add(&mut self, samples: &[RecordedSample]) {
        for sample in samples {
            self.added.insert(sample.labels.clone(), (sample.t_ms, sample.value.clone()));
        }
    }
}

impl Storage for Overlay<'_> {
    fn select(&self, selection: &Selection) -> Vec<SeriesData> {
        let mut found = self.base.select(selection);
        let mut grown = false;
        for (labels, (t_ms, value)) in &self.added {
            let t_ms = *t_ms;
            let inside = (selection.from_ms..=selection.to_ms).contains(&t_ms);
            let matches = |matcher: &crate::series::Matcher| matcher.matches(labels.get(&matcher.name).unwrap_or(""));
            if !inside || !selection.matchers.iter().all(matches) {
                continue;
            }
            let at = found.iter().position(|series| series.labels == *labels).unwrap_or_else(|| {
                grown = true;
                found.push(SeriesData { labels: labels.clone(), ..SeriesData::default() });
                found.len() - 1
            });
            let series = &mut found[at];
            series.floats.retain(|known| known.t_ms < t_ms);
            series.histograms.retain(|known| known.t_ms < t_ms);
            match value {
                SampleValue::Float(value) => series.floats.push(FloatPoint { t_ms, value: *value, start_ms: 0 }),
                SampleValue::Histogram(histogram) => {
                    series.histograms.push(HistogramPoint { t_ms, histogram: histogram.clone(), start_ms: 0 });
                }
            }
        }
        if grown {
            found.sort_by(|a, b| a.labels.cmp(&b.labels));
        }
        found
    }
}
