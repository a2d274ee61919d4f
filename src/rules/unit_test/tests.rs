//! The bundled packs' own tests, and the runner's verdicts.

use super::*;
use crate::rules::bundled::PACKS;

fn check(name: &str, text: &str, files: &[(&str, &str)]) -> (Report, String) {
    let mut found = Diagnostics::new();
    let read = |pattern: &str| {
        let matching = files.iter().filter(|(file, _)| file.rsplit('/').next() == Some(pattern));
        matching.map(|(file, text)| RuleFile { name: (*file).into(), text: (*text).into() }).collect()
    };
    let report = run(name, text, &read, &mut found);
    (report, found.to_string())
}

#[test]
fn the_bundled_packs_pass_their_tests() {
    for (name, text) in [
        ("rules/event-stream.test.yaml", include_str!("../../../rules/event-stream.test.yaml")),
        ("rules/sidewatch.test.yaml", include_str!("../../../rules/sidewatch.test.yaml")),
    ] {
        let (report, found) = check(name, text, &PACKS);
        assert_eq!(found, "");
        assert!(report.passed() && report.tests.len() >= 4, "{report}");
    }
}

const RULES: &str = "groups:
- name: two
  rules: [{record: b, expr: a + 1}]
- name: one
  rules:
  - {record: a, expr: x}
  - {alert: High, expr: b > 2, for: 1m, labels: {dc: '{{ $externalLabels.dc }}'}, annotations: {s: '{{ $value }} {{ $externalURL }}'}}
";

#[test]
fn a_file_of_promtool_runs_unchanged() {
    let test = "rule_files: [r.yaml]
evaluation_interval: 1m
group_eval_order: [one, two]
fuzzy_compare: true
tests:
- interval: 30s
  name: all of it
  input_series:
  - {series: 'x{i=\"1\"}', values: '1 1 2x10 _x3 stale'}
  - {series: 'h', values: '{{schema:0 sum:4 count:4 buckets:[1 2 1]}}x20'}
  external_labels: {dc: eu}
  external_url: http://e
  alert_rule_test:
  - {eval_time: 1m, alertname: High}
  - eval_time: 3m10s
    alertname: High
    exp_alerts:
    - exp_labels: {i: '1', dc: eu}
      exp_annotations: {s: '3 http://e'}
  promql_expr_test:
  - expr: b
    eval_time: 4m
    exp_samples: [{labels: 'b{i=\"1\"}', value: 3.0000000000000004}]
  - expr: count(ALERTS{alertstate=\"firing\"})
    eval_time: 5m
    exp_samples: [{value: 1}]
  - expr: histogram_count(h)
    eval_time: 1m
    exp_samples: [{labels: '{}', value: 4}]
  - expr: h * 2
    eval_time: 1m
    exp_samples: [{labels: '{}', histogram: '{{schema:0 sum:8 count:8 buckets:[2 4 2]}}'}]
  - {expr: nothing, eval_time: 1m}
";
    let (report, found) = check("t.yaml", test, &[("r.yaml", RULES)]);
    assert_eq!(found, "");
    assert!(report.passed(), "{report}");
    let (report, _) = check("t.yaml", &test.replace("'3 http://e'", "'4 http://e'"), &[("r.yaml", RULES)]);
    assert!(!report.passed());
    let text = report.to_string();
    assert!(text.contains("alertname: High, time: 3m10s") && text.contains("got:"), "{text}");
    let (report, _) = check("t.yaml", &test.replace("fuzzy_compare: true\n", ""), &[("r.yaml", RULES)]);
    assert!(!report.passed());
}

#[test]
fn event_conditions_are_tested_with_events() {
    let rules = "alerts:
  Stuck: {event: {sequence: [order.placed, payment.captured], by: correlation, within: 30s, missing: last}}
  Burst:
    event: {match: payment.failed, where: {data.amount: {gt: 100}}, count: '>= 2', within: 1m}
    annotations: {summary: 'last {{ $event.data.amount }}', description: ''}
";
    let test = "rule_files: [r.yaml]
evaluation_interval: 10s
tests:
- input_events:
  - {at: 0s, event: {id: 1, type: order.placed, correlation_id: a, payload: {}}}
  - {at: 1s, event: {id: 2, type: order.placed, correlation_id: b, payload: {}}}
  - {at: 5s, event: {id: 3, type: payment.captured, correlation_id: b, payload: {}}}
  - {at: 6s, event: {event_type: payment.failed, data: {amount: 150}}}
  - {at: 7s, event: {event_type: payment.failed, data: {amount: 50}}}
  - {at: 8s, event: {event_type: payment.failed, data: {amount: 250.5}}}
  alert_rule_test:
  - {eval_time: 20s, alertname: Stuck}
  - eval_time: 30s
    alertname: Stuck
    exp_alerts:
    - exp_labels: {correlation: a}
      exp_annotations:
        summary: payment.captured is missing after order.placed for correlation a
        description: order.placed came, but no payment.captured within 30s for correlation a.
  - eval_time: 10s
    alertname: Burst
    exp_alerts: [{exp_annotations: {summary: last 250.5}}]
  - {eval_time: 80s, alertname: Burst}
";
    let (report, found) = check("t.yaml", test, &[("r.yaml", rules)]);
    assert_eq!(found, "");
    assert!(report.passed(), "{report}");
}

#[test]
fn what_is_wrong_with_the_files_is_said() {
    let (_, found) = check("t.yaml", "rule_files: [gone.yaml]\ntests: [{intervall: 1m}]\n", &[]);
    assert!(
        found.contains("no rule file matches \"gone.yaml\"") && found.contains("did you mean \"interval\"?"),
        "{found}"
    );
    let (report, found) = check(
        "t.yaml",
        "rule_files: [r.yaml]\ntests: [{}]\n",
        &[("r.yaml", "groups: [{name: a, rules: [{alert: A}]}]")],
    );
    assert!(report.tests.is_empty() && found.contains("r.yaml:1:"), "{found}");
}
