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
fn fuzzy_compare_forgives_the_last_bit_only() {
    for (value, fuzzy, passes) in [
        ("0.30000000000000004", false, false),
        ("0.30000000000000004", true, true),
        ("0.3000000000000001", true, false),
        ("-0.3", true, false),
    ] {
        let test = format!(
            "rule_files: [r.yaml]\nfuzzy_compare: {fuzzy}\ntests:\n- input_series: [{{series: y, values: 0.3}}]\n  promql_expr_test: [{{expr: y, exp_samples: [{{labels: y, value: {value}}}]}}]\n"
        );
        let (report, found) = check("t.yaml", &test, &[("r.yaml", RULES)]);
        assert_eq!(found, "");
        assert_eq!(report.passed(), passes, "{value} {fuzzy}: {report}");
        assert!(passes || report.to_string().contains("t.yaml:5: expr: \"y\""), "{report}");
    }
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

/// Every expectation below is what promtool 2.42 printed for these rules and this input.
#[test]
fn the_verdicts_are_those_of_promtool() {
    let rules = r#"
groups:
- name: base
  rules:
  - {record: 'job:req:rate5m', expr: 'sum by (job) (rate(req_total[5m]))', labels: {kind: base, job: ''}}
  - {record: agg, expr: max(g)}
- name: alerts
  limit: 3
  rules:
  - alert: Keep
    expr: g{i="1"} > 5
    keep_firing_for: 3m
    labels: {sev: '{{ if gt $value 8.0 }}high{{ else }}low{{ end }}', i: 'x{{ $labels.i }}'}
    annotations:
      s: 'v={{ $value | humanize }} q={{ query "agg" | first | value }} {{ $labels.nope }}{{ $externalLabels.dc }}'
      t: '{{ range query "g" | sortByLabel "i" }}{{ .Labels.i }}={{ .Value }};{{ end }}'
  - {alert: For, expr: g > 2, for: 2m}
  - {alert: Absent, expr: 'absent(nothing{job="a"})', for: 1m}
  - {alert: OnAlerts, expr: 'count(ALERTS{alertname="For",alertstate="firing"}) > 0'}
  - {alert: Scalar, expr: vector(scalar(agg)) > 3}
"#;
    let test = r#"
rule_files: [r.yaml]
evaluation_interval: 1m
group_eval_order: [base, alerts]
tests:
- interval: 1m
  external_labels: {dc: eu}
  input_series:
  - {series: 'g{i="1"}', values: '1 6 9 9 1 1 1 1 1 7 1 1x20'}
  - {series: 'g{i="2"}', values: '3 3 3 _ stale 3x20'}
  - {series: 'req_total{job="a",x="1"}', values: '0+60x20'}
  - {series: 'req_total{job="a",x="2"}', values: '0+30x10 0+30x10'}
  alert_rule_test:
  - {eval_time: 0m, alertname: Keep, exp_alerts: []}
  - {eval_time: 1m, alertname: Absent, exp_alerts: [{exp_labels: {job: a}}]}
  - {eval_time: 2m, alertname: For, exp_alerts: [{exp_labels: {i: '2'}}]}
  - {eval_time: 2m, alertname: Scalar, exp_alerts: [{}]}
  - eval_time: 3m
    alertname: Keep
    exp_alerts:
    - {exp_labels: {i: x1, sev: high}, exp_annotations: {s: 'v=9 q=9 eu', t: '1=9;2=3;'}}
    - {exp_labels: {i: x1, sev: low}, exp_annotations: {s: 'v=6 q=6 eu', t: '1=6;2=3;'}}
  - {eval_time: 3m, alertname: For, exp_alerts: [{exp_labels: {i: '1'}}, {exp_labels: {i: '2'}}]}
  - {eval_time: 4m30s, alertname: For, exp_alerts: []}
  - {eval_time: 5m, alertname: OnAlerts, exp_alerts: []}
  - {eval_time: 6m, alertname: Keep, exp_alerts: [{exp_labels: {i: x1, sev: high}, exp_annotations: {s: 'v=9 q=9 eu', t: '1=9;2=3;'}}]}
  - {eval_time: 8m, alertname: Keep, exp_alerts: []}
  - {eval_time: 8m, alertname: OnAlerts, exp_alerts: [{}]}
  - {eval_time: 12m, alertname: For, exp_alerts: [{exp_labels: {i: '2'}}]}
  promql_expr_test:
  - expr: ALERTS
    eval_time: 4m
    exp_samples:
    - {labels: 'ALERTS{alertname="Absent", alertstate="firing", job="a"}', value: 1}
    - {labels: 'ALERTS{alertname="Keep", alertstate="firing", i="x1", sev="high"}', value: 1}
    - {labels: 'ALERTS{alertname="Keep", alertstate="firing", i="x1", sev="low"}', value: 1}
  - expr: ALERTS_FOR_STATE
    eval_time: 7m
    exp_samples:
    - {labels: 'ALERTS_FOR_STATE{alertname="Absent", job="a"}', value: 0}
    - {labels: 'ALERTS_FOR_STATE{alertname="For", i="2"}', value: 300}
    - {labels: 'ALERTS_FOR_STATE{alertname="OnAlerts"}', value: 420}
  - expr: '{__name__=~"job:.*|agg"}'
    eval_time: 15m
    exp_samples: [{labels: agg, value: 3}, {labels: 'job:req:rate5m{kind="base"}', value: 1.4}]
"#;
    let (report, found) = check("t.yaml", test, &[("r.yaml", rules)]);
    assert_eq!(found, "");
    assert!(report.passed(), "{report}");
}
