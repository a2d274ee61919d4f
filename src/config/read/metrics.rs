//! `metrics:`.

use super::events;
use crate::config::reader::{self, MapReader};
use crate::config::schema::{MetricConfig, MetricKind, Named};
use crate::config::yaml::Node;
use crate::config::{Diagnostics, Span, Spanned};
use std::collections::BTreeMap;

/// What sidewatch counts itself (DESIGN.md, Event).
const AUTOMATIC: [&str; 5] =
    ["events_total", "events_failed_total", "events_retried_total", "event_duration_seconds", "event_lag_seconds"];
/// How long a timer remembers a start when `within` is not given.
const TIMER_WITHIN_MS: i64 = 600_000;
const KINDS: [&str; 5] = ["counter", "gauge", "histogram", "timer", "drop"];

/// Reads `metrics:`.
pub(super) fn read(map: &mut MapReader<'_, '_>) -> Vec<Named<MetricConfig>> {
    let metrics: Vec<Named<MetricConfig>> =
        map.named("metrics", metric).into_iter().map(|(name, value)| Named { name, value }).collect();
    families(&metrics, map.found());
    metrics
}

fn metric(name: &Spanned<String>, node: &Node, found: &mut Diagnostics) -> Option<MetricConfig> {
    let mut map = MapReader::new(node, "metric", found)?;
    let span = map.span().clone();
    let kind = map.exactly_one(&KINDS);
    if let Some((kind, _)) = kind {
        for key in ["match", "where", "labels", "help", "value", "unit", "buckets"] {
            map.refuse(key, &format!("{key} stands inside {kind}: {{...}}"));
        }
    }
    map.finish();
    let (kind, node) = kind?;
    let valid = kind == "drop" || metric_name(name, found);
    let metric = match kind {
        "counter" => counter(node, span, found),
        "gauge" => gauge(node, span, found),
        "histogram" => histogram(node, span, found),
        "timer" => timer(node, span, found),
        _ => drop_rule(node, span, found),
    };
    let metric = metric.filter(|_| valid)?;
    let histogram = matches!(metric.kind, MetricKind::Histogram { .. } | MetricKind::Timer { .. });
    for label in &metric.labels {
        let text = label.name.value.as_str();
        let taken = match text {
            "job" => "is service.name on every series",
            "instance" => "is service.instance on every series",
            "sidewatch_overflow" => "marks the overflow series",
            "le" if histogram => "holds the bounds of a histogram's buckets",
            _ => continue,
        };
        found.error_hint(&label.name.span, format!("the label {text:?} {taken}"), "give it another name");
    }
    Some(metric)
}

fn counter(node: &Node, span: Span, found: &mut Diagnostics) -> Option<MetricConfig> {
    let mut map = MapReader::new(node, "counter", found)?;
    let (selector, value) = (events::selector(&mut map), events::value(&mut map));
    Some(rest(map, MetricKind::Counter { selector, value }, span))
}

fn gauge(node: &Node, span: Span, found: &mut Diagnostics) -> Option<MetricConfig> {
    let mut map = MapReader::new(node, "gauge", found)?;
    let selector = events::selector(&mut map);
    map.required("value");
    let value = events::value(&mut map);
    let add = map.one_of("op", &[("set", false), ("add", true)]).is_some_and(|op| op.value);
    let Some(value) = value else {
        rest(map, MetricKind::Drop { selector }, span);
        return None;
    };
    Some(rest(map, MetricKind::Gauge { selector, value, add }, span))
}

fn histogram(node: &Node, span: Span, found: &mut Diagnostics) -> Option<MetricConfig> {
    let mut map = MapReader::new(node, "histogram", found)?;
    let selector = events::selector(&mut map);
    map.required("value");
    let (value, buckets) = (events::value(&mut map), buckets(&mut map));
    let Some(value) = value else {
        rest(map, MetricKind::Drop { selector }, span);
        return None;
    };
    Some(rest(map, MetricKind::Histogram { selector, value, buckets }, span))
}

fn timer(node: &Node, span: Span, found: &mut Diagnostics) -> Option<MetricConfig> {
    let mut map = MapReader::new(node, "timer", found)?;
    let from = map.required("from").and_then(|node| events::selector_of(node, map.found()));
    let to = map.required("to").and_then(|node| events::selector_of(node, map.found()));
    let by = map.required("by").and_then(|node| reader::path(node, "by", map.found()));
    let within_ms = map.duration_ms("within").map_or(TIMER_WITHIN_MS, |within| within.value);
    let buckets = buckets(&mut map);
    let (Some(from), Some(to), Some(by)) = (from, to, by) else {
        rest(map, MetricKind::Drop { selector: Default::default() }, span);
        return None;
    };
    Some(rest(map, MetricKind::Timer { from, to, by, within_ms, buckets }, span))
}

fn drop_rule(node: &Node, span: Span, found: &mut Diagnostics) -> Option<MetricConfig> {
    // Dropping is final, so that the short form takes a pattern as well: `drop: "debug.*"`.
    if node.as_map().is_none() && !node.is_null() {
        let selector = events::selector_of(node, found)?;
        return Some(MetricConfig {
            kind: MetricKind::Drop { selector },
            labels: Vec::new(),
            help: String::new(),
            span,
        });
    }
    let mut map = MapReader::new(node, "drop", found)?;
    let selector = events::selector(&mut map);
    if selector.matches.is_empty() && selector.condition.is_none() {
        let span = map.span().clone();
        map.found().error_hint(&span, "drop: it needs match or where", "{match: \"*\"} drops everything");
    }
    map.finish();
    Some(MetricConfig { kind: MetricKind::Drop { selector }, labels: Vec::new(), help: String::new(), span })
}

/// The keys that all kinds have.
fn rest(mut map: MapReader<'_, '_>, kind: MetricKind, span: Span) -> MetricConfig {
    let labels = events::labels(&mut map);
    let help = map.string("help").map(|help| help.value).unwrap_or_default();
    map.finish();
    MetricConfig { kind, labels, help, span }
}

/// `buckets:`: upper bounds, strictly rising; `+Inf` is always there and not written.
fn buckets(map: &mut MapReader<'_, '_>) -> Option<Vec<f64>> {
    map.get("buckets")?;
    let bounds = map.each("buckets", |node, found| reader::float(node, "buckets", found));
    let mut previous = f64::NEG_INFINITY;
    for bound in &bounds {
        if !bound.value.is_finite() {
            map.found().error(&bound.span, "buckets: only finite bounds are written, +Inf is always there");
        } else if bound.value <= previous {
            map.found().error(&bound.span, format!("buckets: {} does not rise above {previous}", bound.value));
        }
        previous = bound.value;
    }
    (!bounds.is_empty()).then(|| bounds.iter().map(|bound| bound.value).collect())
}

/// Checks a metric's name (Prometheus data model: letters, digits, underscores and colons, not a digit first).
fn metric_name(name: &Spanned<String>, found: &mut Diagnostics) -> bool {
    let text = name.value.as_str();
    let mut chars = text.chars();
    let shaped = chars.next().is_some_and(|c| c.is_ascii_alphabetic() || matches!(c, '_' | ':'))
        && chars.all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | ':'));
    if !shaped {
        let fixed: String = text.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
        let message = format!("{text:?} is not a metric name: letters, digits, _ and : only, no digit first");
        match fixed.trim_start_matches(|c: char| c.is_ascii_digit()) {
            "" => found.error(&name.span, message),
            fixed => found.error_hint(&name.span, message, format!("write {fixed}")),
        }
        return false;
    }
    if text.starts_with("sidewatch_") {
        found.error(&name.span, format!("{text:?}: names that begin with sidewatch_ are sidewatch's own"));
        return false;
    }
    if AUTOMATIC.contains(&text) {
        found.error_hint(&name.span, format!("{text:?} is counted already, for every event"), "give it another name");
        return false;
    }
    true
}

/// A histogram also stands for `x_bucket`, `x_sum` and `x_count`; no other metric may have such a name.
fn families(metrics: &[Named<MetricConfig>], found: &mut Diagnostics) {
    let mut parts: BTreeMap<String, &str> = BTreeMap::new();
    for metric in metrics {
        if matches!(metric.value.kind, MetricKind::Histogram { .. } | MetricKind::Timer { .. }) {
            for suffix in ["bucket", "sum", "count"] {
                parts.insert(format!("{}_{suffix}", metric.name.value), &metric.name.value);
            }
        }
    }
    for metric in metrics.iter().filter(|metric| !matches!(metric.value.kind, MetricKind::Drop { .. })) {
        if let Some(histogram) = parts.get(&metric.name.value) {
            let message = format!("{:?} is already a part of the histogram {histogram:?}", metric.name.value);
            found.error_hint(&metric.name.span, message, "give one of the two another name");
        }
    }
}
