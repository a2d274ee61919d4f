//! What there is: label names and values, series, metadata, for the HTTP API.

use super::registry::{Metric, MetricKind};
use super::store::{Body, Entry, Store, flag};
use super::view::Form;
use super::{Matcher, number::bound_text};
use crate::model::{Labels, METRIC_NAME};
use std::collections::BTreeSet;

/// The type of a metric, as the text formats name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[expect(missing_docs, reason = "the names of Prometheus and OpenMetrics")]
pub enum MetricType {
    Counter,
    Gauge,
    Histogram,
    GaugeHistogram,
    Summary,
    Info,
    StateSet,
    #[default]
    Unknown,
}

impl MetricType {
    /// The name in the HTTP API and in OpenMetrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::GaugeHistogram => "gaugehistogram",
            Self::Summary => "summary",
            Self::Info => "info",
            Self::StateSet => "stateset",
            Self::Unknown => "unknown",
        }
    }

    /// The type of a name in a text format; `untyped` is [`Self::Unknown`].
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "counter" => Self::Counter,
            "gauge" => Self::Gauge,
            "histogram" => Self::Histogram,
            "gaugehistogram" => Self::GaugeHistogram,
            "summary" => Self::Summary,
            "info" => Self::Info,
            "stateset" => Self::StateSet,
            "unknown" | "untyped" => Self::Unknown,
            _ => return None,
        })
    }
}

/// What is known about a metric.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields of the HTTP API's metadata")]
pub struct Metadata {
    pub name: String,
    pub kind: MetricType,
    pub help: String,
    pub unit: String,
}

impl Metric {
    pub(super) fn is_histogram(&self) -> bool {
        matches!(self.kind, Some(MetricKind::Histogram(_)))
    }
}

impl Store {
    /// Notes type, help and unit of a received metric; what is declared here stays as it is.
    pub fn describe(&mut self, name: &str, kind: MetricType, help: &str, unit: &str) {
        let id = self.metric_id(name);
        let metric = &mut self.metrics[id.0 as usize];
        if metric.kind.is_none() {
            metric.described = kind;
            (metric.help, metric.unit) = (help.into(), unit.into());
        }
    }

    /// Type, help and unit of every metric, in order of the names.
    pub fn metadata(&self) -> Vec<Metadata> {
        let told = |metric: &&Metric| {
            metric.kind.is_some() || metric.described != MetricType::Unknown || !metric.help.is_empty()
        };
        let mut all: Vec<Metadata> = self
            .metrics
            .iter()
            .filter(told)
            .map(|metric| Metadata {
                name: metric.name.to_string(),
                kind: metric.described,
                help: metric.help.to_string(),
                unit: metric.unit.to_string(),
            })
            .collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// Whether a series has a sample from `from_ms` to `to_ms`, judged by its chunks' ends.
    fn within(&self, slot: u32, entry: &Entry, (from_ms, to_ms): (i64, i64)) -> bool {
        let live = self.hot[slot as usize].flags & flag::LIVE != 0;
        // A series that lives is repeated at each tick.
        let last_ms = if live { i64::MAX } else { entry.last_ms() };
        let first_ms = match &entry.body {
            Body::Float(ring) => ring.first_ms(),
            Body::Histogram(histogram) => histogram.ring.first_ms(),
            Body::Received(rings) => match (rings.floats.first_ms(), rings.histograms.first_ms()) {
                (Some(floats), Some(histograms)) => Some(floats.min(histograms)),
                (floats, histograms) => floats.or(histograms),
            },
        };
        let valued = self.hot[slot as usize].flags & flag::VALUED != 0;
        first_ms.or(valued.then_some(i64::MIN)).is_some_and(|first_ms| first_ms <= to_ms) && last_ms >= from_ms
    }

    /// The series that any of the matcher sets takes (all series without a set) and that have samples in the range.
    fn found(&self, sets: &[Vec<Matcher>], range: (i64, i64)) -> BTreeSet<(u32, Form)> {
        let mut found = BTreeSet::new();
        if sets.is_empty() {
            for (slot, entry) in self.each_entry() {
                found.insert((slot, Form::Native));
                if matches!(entry.body, Body::Histogram(_)) {
                    found.extend(Form::CLASSIC.map(|(form, _)| (slot, form)));
                }
            }
        }
        for matchers in sets {
            found.extend(self.matching(matchers));
        }
        found.retain(|(slot, _)| self.entry(*slot).is_some_and(|entry| self.within(*slot, entry, range)));
        found
    }

    fn labels_in(&self, slot: u32, form: Form, sets: &[Vec<Matcher>]) -> Vec<Labels> {
        let Some(entry) = self.entry(slot) else { return Vec::new() };
        let Some((_, suffix)) = Form::CLASSIC.iter().find(|(known, _)| *known == form) else {
            return vec![entry.labels.clone()];
        };
        let labels = entry.labels.with(METRIC_NAME, &format!("{}{suffix}", entry.labels.metric_name()));
        let Body::Histogram(histogram) = &entry.body else { return Vec::new() };
        if form != Form::Bucket {
            return vec![labels];
        }
        let takes = |labels: &Labels| {
            sets.is_empty()
                || sets
                    .iter()
                    .any(|set| set.iter().all(|matcher| matcher.matches(labels.get(&matcher.name).unwrap_or(""))))
        };
        let bounds = histogram.bounds.iter().copied().chain([f64::INFINITY]);
        bounds.map(|bound| labels.with("le", &bound_text(bound))).filter(takes).collect()
    }

    /// The label sets of the series that any of the matcher sets takes, in order. Times are in milliseconds, ends included.
    pub fn series(&self, sets: &[Vec<Matcher>], range: (i64, i64)) -> Vec<Labels> {
        let found = self.found(sets, range);
        let mut all: Vec<Labels> =
            found.into_iter().flat_map(|(slot, form)| self.labels_in(slot, form, sets)).collect();
        all.sort_unstable();
        all
    }

    /// The names of the labels of those series, in order.
    pub fn label_names(&self, sets: &[Vec<Matcher>], range: (i64, i64)) -> Vec<String> {
        let mut names: BTreeSet<&str> = BTreeSet::new();
        for (slot, form) in self.found(sets, range) {
            if let Some(entry) = self.entry(slot) {
                names.extend(entry.labels.iter().map(|label| &*label.name));
            }
            if form == Form::Bucket {
                names.insert("le");
            }
        }
        names.into_iter().map(str::to_owned).collect()
    }

    /// The values of one label of those series, in order. The forms `x_bucket`, `x_sum`, `x_count` are names too.
    pub fn label_values(&self, name: &str, sets: &[Vec<Matcher>], range: (i64, i64)) -> Vec<String> {
        let mut values: BTreeSet<String> = BTreeSet::new();
        for (slot, form) in self.found(sets, range) {
            if form == Form::Native || !matches!(name, "le" | METRIC_NAME) {
                if let Some(value) = self.entry(slot).and_then(|entry| entry.labels.get(name))
                    && !values.contains(value)
                {
                    values.insert(value.to_owned());
                }
            } else {
                let labels = self.labels_in(slot, form, sets);
                values.extend(labels.iter().filter_map(|labels| labels.get(name)).map(str::to_owned));
            }
        }
        values.into_iter().collect()
    }
}
