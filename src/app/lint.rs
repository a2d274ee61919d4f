//! What `check` says beyond errors: rules against metrics, routes against rules; and how much memory all may take.

mod amqp;
mod kafka;
mod nats;
mod redis;

use super::build::{alertmanager_file, metric_type, rule_files};
use crate::config::Diagnostics;
use crate::config::schema::{Config, MetricKind, Transport};
use crate::engine::Parts;
use crate::mapping::AUTOMATIC;
use crate::notify;
use crate::rules::bundled::PACKS;
use crate::rules::file;
use crate::rules::lint::{Known, Produced};
use crate::series::Rings;
use std::collections::{BTreeMap, BTreeSet};

/// Labels that every series may have.
const EVERYWHERE: [&str; 4] = [crate::model::METRIC_NAME, "job", "instance", "sidewatch_overflow"];

/// Looks for what is valid and still cannot work; everything it finds is a warning.
pub fn lint(config: &Config, parts: &Parts, found: &mut Diagnostics) {
    amqp::lint(config, found);
    nats::lint(config, found);
    kafka::lint(config, found);
    // The files were read and judged when the parts were built: what is wrong with them is said already.
    let mut said = Diagnostics::new();
    let files: Vec<_> = rule_files(config, &mut said)
        .iter()
        .filter_map(|rule_file| file::read(&rule_file.name, &rule_file.text, &mut said))
        .collect();
    crate::rules::lint::lint(&files, &config.alerts, &known(config, parts), found);
    let alertmanager = alertmanager_file(config, &mut said);
    let named = alertmanager.as_ref().map(|(name, text)| (name.as_str(), text.as_str()));
    super::publishing::lint(config, found);
    notify::lint(&parts.routing, &config.notify, named, &rule_labels(config, parts), found);
    redis::lint(config, found);
}

/// Every metric that the configuration makes.
fn known(config: &Config, parts: &Parts) -> Known {
    let everywhere = || {
        let external = config.external_labels.iter().map(|(name, _)| name.value.clone());
        EVERYWHERE.iter().map(|label| (*label).to_owned()).chain(external)
    };
    let mut metrics = BTreeMap::new();
    for metric in config.metrics.iter().filter(|metric| !matches!(metric.value.kind, MetricKind::Drop { .. })) {
        let own = metric.value.labels.iter().map(|label| label.name.value.clone());
        let labels: BTreeSet<String> = everywhere().chain(own).collect();
        let kind = metric_type(&parts.mappings, &metric.name.value);
        metrics.insert(metric.name.value.clone(), Produced { kind, labels: Some(labels) });
    }
    for (name, ..) in AUTOMATIC {
        let own: &[&str] = match name {
            "event_lag_seconds" | "sidewatch_events_dropped_total" => &["source"],
            "sidewatch_events_refused_total" => &["source", "reason"],
            "sidewatch_mapping_skipped_total" => &["metric", "reason"],
            "sidewatch_events_validated_total" => &["source", "schema", "version", "result"],
            _ => &["type", "source"],
        };
        let labels = everywhere().chain(own.iter().map(|label| (*label).to_owned())).collect();
        metrics.insert(name.into(), Produced { kind: metric_type(&parts.mappings, name), labels: Some(labels) });
    }
    if config.bundled_rules {
        for (name, text) in PACKS {
            let pack = file::read(name, text, &mut Diagnostics::new()).unwrap_or_default();
            for record in pack.groups.iter().flat_map(|group| &group.rules).filter(|rule| !rule.alert) {
                metrics.entry(record.name.value.clone()).or_insert(Produced { kind: None, labels: None });
            }
        }
    }
    let sources = config.sources.iter().flatten();
    let outside = sources
        .into_iter()
        .any(|source| matches!(source.value.transport, Transport::Scrape(_) | Transport::Statsd(_) | Transport::Otlp));
    Known { metrics, outside, interval_ms: Rings::default().fine_step_ms }
}

/// The labels that rules of all kinds give their alerts.
fn rule_labels(config: &Config, parts: &Parts) -> Vec<BTreeMap<String, Option<String>>> {
    let external = || config.external_labels.iter().map(|(name, value)| (name.value.clone(), Some(value.clone())));
    let all = |name: &str, labels: &crate::rules::rule::TemplatedLabels| {
        let own = labels.iter().map(|(label, text)| {
            let source = text.source();
            (label.to_string(), (!source.contains("{{")).then(|| source.to_owned()))
        });
        external().chain(own).chain([("alertname".to_owned(), Some(name.to_owned()))]).collect()
    };
    let groups = parts.rule_set.groups.iter().flat_map(|group| &group.rules);
    let metric = groups.filter(|rule| rule.alerting.is_some()).map(|rule| all(&rule.name, &rule.labels));
    let event = parts.rule_set.events.iter().map(|rule| all(&rule.name, &rule.labels));
    metric.chain(event).collect()
}

/// What rings and patterns may take at most, one line each, and how that is computed.
pub fn memory(config: &Config, parts: &Parts) -> [String; 2] {
    let limits = &config.limits;
    let mebibytes = |bytes: usize| format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20));
    let conditions = &parts.rule_set.events;
    let key: usize = conditions.iter().map(|condition| condition.key_bytes()).sum();
    [
        format!(
            "memory of rings: at most {} (limits.series_bytes), {} bytes for each of {} series (limits.series)",
            mebibytes(limits.series_bytes),
            limits.series_bytes / limits.series.max(1),
            limits.series,
        ),
        format!(
            "memory of patterns: at most {} ({} keys of each condition (limits.pattern_keys) x {key} bytes for one key of \
             all {} event conditions), the texts of keys and captured fields besides",
            mebibytes(key.saturating_mul(limits.pattern_keys)),
            limits.pattern_keys,
            conditions.len(),
        ),
    ]
}
