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

/// What each stat becomes, with and without `by` and `over`.
#[test]
fn each_stat_becomes_its_promql() {
    for (alert, expr) in [
        // Counters.
        ("metric: events_total, above: 5", "sum(rate(events_total[5m])) > 5"),
        (
            "metric: events_total, stat: rate, over: 1m, by: type, above: 5",
            "sum by (type) (rate(events_total[1m])) > 5",
        ),
        ("metric: events_total, stat: increase, over: 1h, below: 5", "sum(increase(events_total[1h])) < 5"),
        ("metric: events_total, stat: last, at_least: 5", "sum(events_total) >= 5"),
        (
            "metric: events_failed_total, of: events_total, stat: increase, over: 1h, by: [type, source], above: 5%",
            "sum by (type, source) (increase(events_failed_total[1h])) / sum by (type, source) (increase(events_total[1h])) > 0.05",
        ),
        // Gauges.
        ("metric: stock, at_most: 5", "stock <= 5"),
        ("metric: stock, stat: last, by: data.item, below: 5", "sum by (item) (stock) < 5"),
        ("metric: stock, stat: avg, over: 5m, below: 5", "avg_over_time(stock[5m]) < 5"),
        ("metric: stock, stat: avg, over: 5m, by: item, below: 5", "avg by (item) (avg_over_time(stock[5m])) < 5"),
        ("metric: stock, stat: avg, by: item, below: 5", "avg by (item) (stock) < 5"),
        ("metric: stock, stat: min, over: 5m, below: 5", "min_over_time(stock[5m]) < 5"),
        ("metric: stock, stat: min, below: 5", "min(stock) < 5"),
        ("metric: stock, stat: max, over: 5m, by: item, above: 5", "max by (item) (max_over_time(stock[5m])) > 5"),
        ("metric: stock, stat: sum, above: 5", "sum(stock) > 5"),
        ("metric: stock, stat: sum, over: 5m, by: item, above: 5", "sum by (item) (sum_over_time(stock[5m])) > 5"),
        ("metric: stock, stat: p90, over: 5m, above: 5", "quantile_over_time(0.9, stock[5m]) > 5"),
        (
            "metric: stock, stat: p90, over: 5m, by: item, above: 5",
            "max by (item) (quantile_over_time(0.9, stock[5m])) > 5",
        ),
        // Histograms.
        (
            "metric: order_duration_seconds, stat: p50, over: 1m, above: 2s",
            "histogram_quantile(0.5, sum(rate(order_duration_seconds[1m]))) > 2",
        ),
        (
            "metric: order_duration_seconds, stat: p99.9, by: region, above: 2s",
            "histogram_quantile(0.999, sum by (region) (rate(order_duration_seconds[5m]))) > 2",
        ),
        (
            "metric: order_duration_seconds, stat: avg, by: region, above: 2s",
            "histogram_avg(sum by (region) (rate(order_duration_seconds[5m]))) > 2",
        ),
        (
            "metric: order_duration_seconds, stat: rate, above: 2",
            "sum(histogram_count(rate(order_duration_seconds[5m]))) > 2",
        ),
        (
            "metric: order_duration_seconds, stat: increase, over: 1h, by: region, below: 2",
            "sum by (region) (histogram_count(increase(order_duration_seconds[1h]))) < 2",
        ),
    ] {
        let (set, found) = compile(&format!("A: {{{alert}}}"));
        assert_eq!(found, "", "{alert}");
        assert_eq!(set.groups[0].rules[0].expression.text(), expr, "{alert}");
    }
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
        ("A: {event: {first_seen: data.id, by: payload.id}}", "a.yaml:2:", "both make the label \"id\""),
        ("A: {event: {first_seen: data.id, for: 1h, learn: 2h}}", "a.yaml:2:", "remembered for longer"),
        ("A: {event: {rate_change: x, within: 1h, baseline: 1h}}", "a.yaml:2:", "holds 1 windows"),
        ("A: {event: {rate_change: x, within: 1m, floor: much}}", "a.yaml:2:", "neither a share nor a number"),
        ("A: {event: {rate_change: x, within: 1m, threshhold: 3}}", "a.yaml:2:", "did you mean \"threshold\""),
        ("A: {event: {rate_change: x, within: 1m, lateness: 2m}}", "a.yaml:2:", "at most as long as within"),
        ("A: {event: {rate_change: x, within: 1m, direction: downn}}", "a.yaml:2:", "did you mean \"down\""),
        ("A: {event: {gap: data.n, learn: 1h}}", "a.yaml:2:", "learn goes with first_seen, not with gap"),
        ("A: {event: {gap: data.n, first_seen: data.n}}", "a.yaml:2:", "exactly one of"),
        ("A: {event: {absent: x, within: 1m, for: 1h}}", "a.yaml:2:", "for stands beside event"),
        ("A: {event: {sequence: [a], within: 1m}}", "a.yaml:2:", "at least two steps"),
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
