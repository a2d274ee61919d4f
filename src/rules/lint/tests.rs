use super::*;
use crate::rules::file;

fn known() -> Known {
    let metric = |kind, labels: &[&str]| {
        let labels = ["__name__", "job", "instance"].iter().chain(labels).map(|label| (*label).to_owned()).collect();
        Produced { kind: Some(kind), labels: Some(labels) }
    };
    let metrics = [
        ("orders_total", metric(MetricType::Counter, &["region", "outcome"])),
        ("stock", metric(MetricType::Gauge, &["item"])),
        ("pay_seconds", metric(MetricType::Histogram, &["region"])),
    ];
    Known {
        metrics: metrics.into_iter().map(|(name, metric)| (name.to_owned(), metric)).collect(),
        outside: false,
        interval_ms: 1_000,
    }
}

fn findings(text: &str, known: &Known) -> Vec<String> {
    let mut found = Diagnostics::new();
    let file = file::read("r.yaml", text, &mut found).unwrap_or_else(|| panic!("{found}"));
    assert!(!found.has_errors(), "{found}");
    lint(&[file], &[], known, &mut found);
    let line = |finding: &crate::config::Diagnostic| {
        let hint = finding.hint.as_deref().unwrap_or("");
        format!("{}:{} {} | {hint}", finding.span.line, finding.span.column, finding.message)
    };
    found.iter().map(line).collect()
}

/// The findings of one expression, each as `COLUMN in the expression: message | hint`.
fn check(expr: &str, known: &Known) -> Vec<String> {
    let quoted = expr.replace('\'', "''");
    let text =
        format!("groups:\n- name: g\n  rules:\n  - alert: A\n    labels: {{severity: page}}\n    expr: '{quoted}'\n");
    let columns = |line: String| match line.strip_prefix("6:").and_then(|rest| rest.split_once(' ')) {
        Some((column, rest)) => format!("{}: {rest}", column.parse::<usize>().unwrap() - 11),
        None => line,
    };
    findings(&text, known).into_iter().map(columns).collect()
}

#[test]
fn each_lint_fires_on_its_case_and_is_silent_on_a_near_miss() {
    for (fires, says, near_miss) in [
        ("rate(order_total[5m]) > 1", "6: nothing produces the metric \"order_total\"", "rate(orders_total[5m]) > 1"),
        ("zzz > 1", "1: nothing produces the metric \"zzz\"", "ALERTS > 1 or sidewatch_x > 1 or up == 0"),
        (
            "stock{itm=\"a\"} > 1",
            "7: stock has no label \"itm\" | did you mean \"item\"?",
            "stock{item=\"a\",x=\"\"} > 1",
        ),
        (
            "sum by (regoin) (rate(orders_total[5m])) > 1",
            "9: by (regoin)",
            "sum by (region) (rate(orders_total[5m])) > 1",
        ),
        ("sum(stock) without (place) > 1", "21: without (place)", "sum(stock) without (instance) > 1"),
        (
            "max by (le) (rate(pay_seconds_count[5m])) > 0",
            "9: by (le)",
            "max by (le) (rate(pay_seconds_bucket[5m])) > 0",
        ),
        ("rate(stock[5m]) > 1", "1: rate() of stock, which is a gauge", "delta(stock[5m]) > 1"),
        ("orders_total > 5", "1: orders_total is a counter", "rate(orders_total[5m]) > 5"),
        ("5 < sum(orders_total)", "5: orders_total is a counter", "changes(orders_total[5m]) > 5"),
        (
            "histogram_quantile(0.9, sum by (le) (pay_seconds_bucket)) > 1",
            "38: histogram_quantile() of pay_seconds_bucket",
            "histogram_quantile(0.9, sum by (le) (rate(pay_seconds_bucket[5m]))) > 1",
        ),
        ("rate(orders_total[1s]) > 1", "1: rate() over 1s sees less than two samples", "rate(orders_total[2s]) > 1"),
        ("stock > 5 and stock < 3", "15: this never holds: stock cannot meet", "stock > 3 and stock < 5"),
        ("stock > 5 < 5", "1: this never holds: stock cannot meet", "stock >= 5 <= 5"),
        (
            "stock{item=\"a\"} > 5 and stock{item=\"a\"} == 2",
            "25: this never holds",
            "stock{item=\"a\"} > 5 and on() stock{item=\"b\"} == 2",
        ),
        ("count(stock) < 0", "1: this never holds: the value is never below 1", "count(stock) < 2"),
        ("orders_total < 0", "1: this never holds: the value is never below 0", "stock < 0"),
        ("absent(stock) == 0", "1: this never holds: the value is always 1", "absent(stock) == 1"),
        (
            "sum(rate(orders_total{outcome=\"bad\"}[5m])) / sum(rate(orders_total[5m])) > 5",
            "1: this never holds: the value lies between 0 and 1, compared with > 5 | a ratio is a part of 1",
            "100 * sum(rate(orders_total{outcome=\"bad\"}[5m])) / sum(rate(orders_total[5m])) > 5",
        ),
        ("absent(stock or vector(0))", "1: this never holds: what absent() asks for", "absent(stock)"),
        ("stock{item=\"a\",item=\"b\"} > 1", "7: no series can match", "stock{item=~\"a|b\",item=\"b\"} > 1"),
        ("limitk(1, stock) > 1", "1: limitk is experimental PromQL", "topk(1, stock) > 1"),
    ] {
        let found = check(fires, &known());
        assert!(found.len() == 1 && found[0].starts_with(says), "{fires}: {found:#?}");
        assert_eq!(check(near_miss, &known()), Vec::<String>::new(), "{near_miss}");
    }
}

#[test]
fn metrics_from_outside_are_not_doubted() {
    let outside = Known { outside: true, ..known() };
    assert_eq!(
        check("http_requests_active{code=\"500\"} > 1 and stock{pod=\"a\"} > 1", &outside),
        Vec::<String>::new()
    );
}

#[test]
fn a_nearest_name_is_offered() {
    let found = check("rate(oders_total[5m]) > 1", &known());
    assert!(found[0].ends_with("did you mean \"orders_total\"?"), "{found:?}");
}

#[test]
fn groups_are_looked_at_as_a_whole() {
    for (rules, says) in [
        (
            "[{alert: A, expr: stock > 1}, {alert: B, expr: stock > 2}]",
            "3:19 alerts of the group \"g\" without the label severity: A, B",
        ),
        (
            "[{alert: A, expr: stock > 1, labels: {severity: page}}, {alert: A, expr: stock > 2, labels: {severity: page}}]",
            "3:74 duplicate rule: A has the same name and labels as A in line 3",
        ),
        (
            "[{record: a, expr: stock}, {record: b, expr: stock}]",
            "3:46 duplicate rule: b has the same expression and labels",
        ),
        ("[{record: a, expr: b}, {record: b, expr: a + stock}]", "3:20 recording rules in a circle: a reads b reads a"),
        ("[{record: a, expr: a + 1}]", "3:20 recording rules in a circle: a reads a"),
        ("[{record: a, expr: stock}, {record: b, expr: a}]", ""),
        (
            "[{alert: A, expr: stock > 1, labels: {severity: page}}, {alert: A, expr: stock > 2, labels: {severity: info}}]",
            "",
        ),
    ] {
        let found = findings(&format!("groups:\n- name: g\n  rules: {rules}\n"), &known());
        let right = if says.is_empty() { found.is_empty() } else { found.len() == 1 && found[0].starts_with(says) };
        assert!(right, "{rules}: {found:#?}");
    }
}
