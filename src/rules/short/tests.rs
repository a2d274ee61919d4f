//! What the short form compiles to, and what it refuses.

use super::*;
use crate::rules::file;

fn compile(yaml: &str) -> (RuleSet, String) {
    let (mut found, mut plan, mut set) = (Diagnostics::new(), FieldPlanBuilder::default(), RuleSet::default());
    let read = file::read("a.yaml", &format!("alerts:\n  {yaml}\n"), &mut found).unwrap_or_default();
    let metric_type = |name: &str| match name {
        "events_total" | "events_failed_total" => Some(MetricType::Counter),
        "stock" | "heap_bytes" | "used_ratio" | "cpu_percent" => Some(MetricType::Gauge),
        "order_duration_seconds" => Some(MetricType::Histogram),
        _ => None,
    };
    let mut compiler = Compiler { plan: &mut plan, metric_type: &metric_type, interval_ms: 1_000 };
    compiler.compile(&read.alerts, &"a.yaml".into(), &mut set, &mut found);
    (set, found.to_string())
}

#[track_caller]
fn check(yaml: &str, expr: &str, summary: &str) {
    let (set, found) = compile(yaml);
    assert_eq!(found, "");
    let rule = &set.groups[0].rules[0];
    assert_eq!(rule.expression.text(), expr);
    let alerting = rule.alerting.as_ref().unwrap();
    let (_, text) = alerting.annotations.iter().find(|(name, _)| &**name == "summary").unwrap();
    assert_eq!(text.source(), summary);
}

#[test]
fn metrics_compile_to_promql_with_messages() {
    check(
        "A: {metric: events_failed_total, of: events_total, over: 5m, above: 5%, for: 1m, notify: oncall}",
        "sum(rate(events_failed_total[5m])) / sum(rate(events_total[5m])) > 0.05",
        "events_failed_total of events_total is {{ $value | humanizePercentage }} (above 5%)",
    );
    check(
        "A: {metric: order_duration_seconds, stat: p99, over: 5m, by: data.region, above: 500ms}",
        "histogram_quantile(0.99, sum by (region) (rate(order_duration_seconds[5m]))) > 0.5",
        "p99 of order_duration_seconds is {{ $value | humanizeDuration }} for region {{ $labels.region }} (above 500ms)",
    );
    check(
        "A: {metric: stock, by: item, below: 10}",
        "sum by (item) (stock) < 10",
        "stock is {{ $value | humanize }} for item {{ $labels.item }} (below 10)",
    );
    check(
        "A: {metric: events_total, where: {type: order.placed, source: {regex: 'a|b'}}, at_most: 0}",
        r#"sum(rate(events_total{source=~"a|b",type="order.placed"}[5m])) <= 0"#,
        "rate of events_total is {{ $value | humanize }} per second (at most 0)",
    );
    check(
        "A: {metric: heap_bytes, stat: max, over: 10m, at_least: 512MiB}",
        "max_over_time(heap_bytes[10m]) >= 5.36870912e+08",
        "maximum of heap_bytes is {{ $value | humanize1024 }}B (at least 512MiB)",
    );
    check(
        "A: {metric: order_duration_seconds, stat: p999, above: 2s}",
        "histogram_quantile(0.999, sum(rate(order_duration_seconds[5m]))) > 2",
        "p99.9 of order_duration_seconds is {{ $value | humanizeDuration }} (above 2s)",
    );
    check(
        "A: {metric: cpu_percent, above: 90%}",
        "cpu_percent > 90",
        "cpu_percent is {{ $value | humanize }}% (above 90%)",
    );
    check(
        "A: {metric: used_ratio, above: 90%}",
        "used_ratio > 0.9",
        "used_ratio is {{ $value | humanizePercentage }} (above 90%)",
    );
}

#[test]
fn what_makes_no_sense_is_said_with_its_place() {
    for (yaml, place, part) in [
        ("A: {metric: order_duration_seconds, stat: p99, above: 500}", "a.yaml:2:57:", "has no unit"),
        ("A: {metric: order_duration_seconds, above: 500ms}", "a.yaml:2:15:", "`stat` is needed"),
        ("A: {metric: order_duration_seconds, stat: p9x, above: 500ms}", "a.yaml:2:45:", "unknown stat"),
        ("A: {metric: stock, stat: rate, above: 1}", "a.yaml:2:28:", "does not fit"),
        ("A: {metric: stock, above: 5 apples}", "a.yaml:2:29:", "not a threshold"),
        ("A: {metric: heap_bytes, above: 5ms}", "a.yaml:2:34:", "does not fit"),
        ("A: {metric: events_failed_total, of: events_total, above: 5s}", "a.yaml:2:61:", "a ratio has no unit"),
        ("A: {metric: 'a b', above: 5}", "a.yaml:2:15:", "not a metric name"),
        ("A: {expr: 'sum(', severity: page}", "a.yaml:2:1", "could not parse expression"),
        ("A: {expr: 'up == 0', annotations: {summary: '{{ nope }}'}}", "a.yaml:2:", "function \"nope\" not defined"),
        (
            "A: {event: {match: x, where: {data.a: {regex: '('}}, count: '>= 5', within: 1m}}",
            "a.yaml:2:",
            "regular expression",
        ),
        ("A: {event: {absent: x, by: [data.id, payload.id], within: 1m}}", "a.yaml:2:", "labels are the same"),
    ] {
        let (_, found) = compile(yaml);
        assert!(found.contains(part), "{yaml}: {found}");
        assert!(found.starts_with(place), "{yaml}: {found}");
    }
}

#[test]
fn a_route_and_labels_come_with_each_alert() {
    let (set, found) = compile(
        "A: {expr: up == 0, severity: critical, labels: {team: a}, runbook: 'http://r', notify: [x, y], keep_firing_for: 1m}",
    );
    assert_eq!(found, "");
    let route = &set.routes[0];
    assert_eq!((route.alertname.as_str(), route.receivers.len()), ("A", 2));
    let rule = &set.groups[0].rules[0];
    let labels: Vec<_> = rule.labels.iter().map(|(name, text)| format!("{name}={}", text.source())).collect();
    assert_eq!(labels, ["team=a", "severity=critical"]);
    let alerting = rule.alerting.as_ref().unwrap();
    assert_eq!(alerting.timing, Timing { for_ms: 0, keep_firing_for_ms: 60_000 });
    let names: Vec<_> = alerting.annotations.iter().map(|(name, _)| &**name).collect();
    assert_eq!(names, ["summary", "description", "runbook_url"]);
}
