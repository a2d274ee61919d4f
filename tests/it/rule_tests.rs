//! `sidewatch test rules`: the verdicts are promtool's on its own files, and a whole configuration is tested by events and by
//! the messages that it would send.

use crate::harness::{in_ci, run};
use std::path::Path;
use std::process::Command;

const RULES: &str = "groups:
- name: g
  rules:
  - {record: 'job:x:sum', expr: sum by (job) (x)}
  - {alert: High, expr: 'job:x:sum > 10', for: 2m, labels: {severity: page}, annotations: {summary: '{{ $labels.job }} is at {{ $value | humanize }}'}}
  - {alert: Gone, expr: absent(x)}
";

/// Tests of the rules above and whether they pass.
const TESTS: &[(&str, bool)] = &[
    ("alert_rule_test: [{eval_time: 1m, alertname: High}]", true),
    (
        "alert_rule_test: [{eval_time: 2m, alertname: High, exp_alerts: [{exp_labels: {severity: page, job: a}, exp_annotations: {summary: a is at 12}}]}]",
        true,
    ),
    ("alert_rule_test: [{eval_time: 2m, alertname: High}]", false),
    (
        "alert_rule_test: [{eval_time: 1m, alertname: High, exp_alerts: [{exp_labels: {severity: page, job: a}, exp_annotations: {summary: a is at 12}}]}]",
        false,
    ),
    (
        "alert_rule_test: [{eval_time: 2m, alertname: High, exp_alerts: [{exp_labels: {severity: mail, job: a}, exp_annotations: {summary: a is at 12}}]}]",
        false,
    ),
    (
        "alert_rule_test: [{eval_time: 2m, alertname: High, exp_alerts: [{exp_labels: {severity: page, job: a}, exp_annotations: {summary: wrong}}]}]",
        false,
    ),
    ("alert_rule_test: [{eval_time: 8m, alertname: Gone}]", true),
    ("alert_rule_test: [{eval_time: 20m, alertname: Gone, exp_alerts: [{}]}]", true),
    (
        "promql_expr_test: [{expr: 'job:x:sum', eval_time: 3m, exp_samples: [{labels: 'job:x:sum{job=\"a\"}', value: 12}]}]",
        true,
    ),
    (
        "promql_expr_test: [{expr: 'job:x:sum', eval_time: 3m, exp_samples: [{labels: 'job:x:sum{job=\"a\"}', value: 13}]}]",
        false,
    ),
    ("promql_expr_test: [{expr: 'job:x:sum', eval_time: 3m}]", false),
    ("promql_expr_test: [{expr: 'count(ALERTS)', eval_time: 3m, exp_samples: [{value: 1}]}]", true),
    ("promql_expr_test: [{expr: 'rate(x[5m]) > 1e9', eval_time: 3m}]", true),
    ("promql_expr_test: [{expr: 'sum(', eval_time: 3m}]", false),
    ("promql_expr_test: [{expr: 'y', eval_time: 2m, exp_samples: [{labels: y, value: 3}]}]", true),
    ("promql_expr_test: [{expr: 'y', eval_time: 4m}]", true),
];

fn promtool(dir: &Path, file: &str) -> Option<bool> {
    match Command::new("promtool").args(["test", "rules", file]).current_dir(dir).output() {
        Ok(output) => Some(output.status.success()),
        Err(error) => {
            assert!(!in_ci(), "promtool cannot be started: {error}");
            None
        }
    }
}

#[test]
fn verdicts_are_those_of_promtool() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("r.yml"), RULES).unwrap();
    for (test, passes) in TESTS {
        let text = format!(
            "rule_files: [r.yml]\nevaluation_interval: 1m\ntests:\n- interval: 1m\n  input_series:\n  - {{series: 'x{{job=\"a\"}}', values: '12x10'}}\n\
             \x20 - {{series: y, values: '1+1x2 stale'}}\n  {test}\n"
        );
        std::fs::write(dir.path().join("t.yml"), &text).unwrap();
        let (code, out, err) = run(dir.path(), &["test", "rules", "t.yml"]);
        assert_eq!(code, i32::from(!passes), "{text}\n{out}{err}");
        if let Some(theirs) = promtool(dir.path(), "t.yml") {
            assert_eq!(theirs, *passes, "promtool: {text}");
        }
    }
    let packs = Path::new(env!("CARGO_MANIFEST_DIR")).join("rules");
    for entry in std::fs::read_dir(&packs).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name.ends_with(".test.yaml") {
            let (code, out, err) = run(&packs, &["test", "rules", &name]);
            assert_eq!(code, 0, "{name}\n{out}{err}");
            assert_ne!(promtool(&packs, &name), Some(false), "{name}");
        }
    }
}

const CONFIG: &str = "sources: {push: {http: {}}}
bundled_rules: false
metrics:
  orders_total: {counter: {match: 'order.*', labels: {region: data.region}}}
  stock: {gauge: {match: stock, value: data.n, labels: {item: subject}}}
alerts:
  Burst: {event: {match: payment.failed, count: '>= 3', within: 10s, by: data.region}, severity: critical, notify: oncall}
  Low: {metric: stock, by: item, below: 5, for: 5s}
notify:
  chat: {webhook: {url: 'http://127.0.0.1:1/'}}
  oncall: {webhook: {url: 'http://127.0.0.1:2/'}}
";

#[test]
fn a_configuration_is_tested_by_events_and_by_its_messages() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("sidewatch.yaml"), CONFIG).unwrap();
    let check = |tests: &str, code: i32, says: &[&str]| {
        std::fs::write(dir.path().join("t.yml"), format!("config: sidewatch.yaml\ntests:\n{tests}")).unwrap();
        let (found, out, err) = run(dir.path(), &["test", "rules", "t.yml"]);
        assert_eq!(found, code, "{tests}\n{out}{err}");
        for text in says {
            assert!((out.clone() + &err).contains(text), "{text:?} is not in\n{out}{err}");
        }
    };
    let burst = "- name: burst
  input_events:
  - {at: 10s, every: 1s, times: 3, event: {type: payment.failed, payload: {region: eu}}}
  - {at: 20s, event: {type: order.placed, payload: {region: eu}}}
";
    check(
        &format!(
            "{burst}  alert_rule_test:
  - {{eval_time: 11s, alertname: Burst}}
  - {{eval_time: 12s, alertname: Burst, exp_alerts: [{{exp_labels: {{region: eu, severity: critical}}, exp_annotations: {{summary: '3 x payment.failed within 10s for region eu'}}}}]}}
  promql_expr_test:
  - {{expr: 'orders_total', eval_time: 21s, exp_samples: [{{labels: 'orders_total{{region=\"eu\", job=\"service\", instance=\"local\"}}', value: 1}}]}}
  expect_notifications:
  - {{time: 12s, receiver: oncall, grouping: {{alertname: Burst}}, alerts: [{{region: eu}}]}}
  - {{time: 20s, within: 5s, receiver: oncall, status: resolved}}
"
        ),
        1,
        // The annotations of the short form are what a test finds out.
        &["exp:", "got:", "description"],
    );
    let told = "  expect_notifications:
  - {time: 12s, receiver: oncall, grouping: {alertname: Burst}, alerts: [{alertname: Burst, region: eu}]}
  - {time: 20s, within: 5s, receiver: oncall, status: resolved}
";
    check(&format!("{burst}{told}"), 0, &["1 passed, 0 failed"]);
    check(&format!("{burst}  expect_notifications: []\n"), 1, &["got and not expected: 12s oncall firing"]);
    check(
        &format!("{burst}{}", told.replace("receiver: oncall, grouping", "receiver: chat, grouping")),
        1,
        &["line 8: exp: 12s (within 1s) chat firing", "got and not expected: 12s oncall firing"],
    );
    let low = "- name: low
  input_events:
  - {at: 3s, event: {type: stock, target: tea, payload: {n: 2}}}
  - {at: 30s, event: {type: stock, target: tea, payload: {n: 9}}}
  expect_notifications:
  - {time: 8s, receiver: chat, alerts: [{item: tea}]}
  - {time: 30s, within: 2s, receiver: chat, status: resolved, alerts: [{item: tea}]}
";
    check(low, 0, &["1 passed, 0 failed"]);
    check(&low.replace("time: 8s", "time: 4s"), 1, &["exp: 4s (within 1s) chat firing", "8s chat firing"]);
    check(&low.replace("receiver: chat, alerts", "reciever: chat, alerts"), 2, &["t.yml:", "receiver"]);
    check("- {input_events: [{at: 1s, event: {type: a}}]}\n", 0, &["1 passed"]);
}
