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

/// What a template prints is what Prometheus prints: sidewatch expands each, promtool judges. `externalURL` and `pathPrefix`
/// are missing because promtool 2.42 itself fails on them in tests.
const TEMPLATES: &[&str] = &[
    "{{ $value }}",
    "{{ $labels.instance }} {{ .Labels.job }} {{ .Value }}",
    "{{ $externalLabels.dc }} {{ $externalURL }}",
    "{{ humanize $value }} {{ humanize 0.00012 }} {{ humanize 1e21 }} {{ humanize -1234567.0 }} {{ humanize 0 }}",
    "{{ humanize1024 $value }} {{ humanize1024 1048576.0 }} {{ humanize1024 0.5 }}",
    "{{ humanizeDuration 93784.5 }} {{ humanizeDuration 0.0123 }} {{ humanizeDuration -61 }} {{ humanizeDuration 0 }}",
    "{{ humanizePercentage 0.1234567 }} {{ humanizePercentage 12 }}",
    "{{ humanizeTimestamp 1435065584.128 }}",
    "{{ title \"abc def\" }} {{ toUpper \"abc\" }} {{ toLower \"ABC\" }}",
    "{{ match \"a.*c\" \"xabcx\" }} {{ match \"^b\" \"abc\" }}",
    "{{ reReplaceAll \"(\\\\w+)\\\\.example\\\\.com\" \"$1\" $labels.instance }}",
    "{{ stripPort $labels.instance }} {{ stripDomain $labels.instance }}",
    "{{ parseDuration \"1h30m\" }}",
    "{{ printf \"%.2f %d %s %q %v %5.1f|%-6s|%06d\" $value 42 \"x\" \"q\" true 3.14159 \"ab\" 42 }}",
    "{{ printf \"%e %g %x %t\" $value $value 255 false }}",
    "{{ query \"x\" | first | value }} {{ query \"x\" | first | label \"job\" }}",
    "{{ range query \"y\" | sortByLabel \"n\" }}{{ .Labels.n }}={{ .Value }};{{ end }}",
    "{{ range $i, $s := query \"y\" | sortByLabel \"n\" }}{{ $i }}{{ $s.Labels.n }} {{ end }}",
    "{{ with query \"nothing\" }}some{{ else }}none{{ end }}",
    "{{ if gt $value 1000.0 }}big{{ else if gt $value 10.0 }}mid{{ else }}small{{ end }}",
    "{{ $x := 3 }}{{ $x }} {{ len \"abc\" }} {{ index (args \"p\" \"q\") \"arg1\" }}",
    "{{ and true false }} {{ or false true }} {{ not true }} {{ eq 1 1 }} {{ ne \"a\" \"b\" }} {{ lt 1 2 }}",
    "{{ safeHtml \"<b>\" }} {{ html \"<b>\" }} {{ js \"'x'\" }} {{ urlquery \"a b&c\" }}",
    "{{ define \"t\" }}[{{ . }}]{{ end }}{{ template \"t\" $labels.job }}",
    "{{ graphLink \"x > 1\" }} {{ tableLink \"up{a=\\\"b\\\"}\" }}",
    "{{ toTime 1435065584.5 }}",
    "{{ \"quoted\" }} {{ `raw` }} {{ 1.5e3 }} {{ 'a' }} {{ 0x1F }}",
    "{{ $labels.missing }}|{{ $labels }}",
    "{{- \" trimmed \" -}}   x",
    "{{/* said to nobody */}}shown",
    "{{ slice \"abcdef\" 1 3 }} {{ print 1 2 \"x\" }} {{ println \"l\" }}",
    "{{ $value | printf \"%.1f\" }} {{ 0.1 }} {{ 1e6 }} {{ 123456789.0 }} {{ 1e21 }}",
    "{{ index $labels \"job\" }} {{ $labels.job | toUpper | printf \"%s!\" }}",
    "{{ humanize \"12345\" }}",
];

#[test]
fn templates_print_what_prometheus_prints() {
    let dir = tempfile::tempdir().unwrap();
    let annotations = |texts: &[String]| {
        let pairs =
            texts.iter().enumerate().map(|(at, text)| format!("e{at:02}: {}", serde_json::to_string(text).unwrap()));
        pairs.collect::<Vec<_>>().join(", ")
    };
    let templates: Vec<String> = TEMPLATES.iter().map(|text| (*text).to_owned()).collect();
    let rules = format!(
        "groups:\n- name: g\n  rules:\n  - {{alert: T, expr: 'x > 0', annotations: {{{}}}}}\n",
        annotations(&templates)
    );
    std::fs::write(dir.path().join("r.yml"), rules).unwrap();
    let test = |expected: &[String]| {
        format!(
            "rule_files: [r.yml]\nevaluation_interval: 1m\ntests:\n- interval: 1m\n  external_labels: {{dc: eu}}\n  external_url: http://sw:9180/p\n  input_series:\n\
             \x20 - {{series: 'x{{job=\"a\", instance=\"host.example.com:8080\"}}', values: '1234.5678x5'}}\n\
             \x20 - {{series: 'y{{n=\"2\"}}', values: '2x5'}}\n  - {{series: 'y{{n=\"1\"}}', values: '1x5'}}\n\
             \x20 alert_rule_test: [{{eval_time: 1m, alertname: T, exp_alerts: [{{exp_labels: {{job: a, instance: 'host.example.com:8080'}}, exp_annotations: {{{}}}}}]}}]\n",
            annotations(expected)
        )
    };
    // Asked with wrong expectations, sidewatch says what it printed.
    std::fs::write(dir.path().join("t.yml"), test(&[])).unwrap();
    let (code, out, err) = run(dir.path(), &["test", "rules", "t.yml"]);
    assert_eq!(code, 1, "{out}{err}");
    let got = out.split("got:").nth(1).unwrap();
    let pattern = regex::Regex::new(r#"e(\d\d)=("(?:[^"\\]|\\.)*")"#).unwrap();
    let mut printed = vec![String::new(); TEMPLATES.len()];
    for found in pattern.captures_iter(got) {
        printed[found[1].parse::<usize>().unwrap()] = serde_json::from_str(&found[2]).unwrap();
    }
    let mut differ = Vec::new();
    std::fs::write(dir.path().join("t.yml"), test(&printed)).unwrap();
    let (code, out, err) = run(dir.path(), &["test", "rules", "t.yml"]);
    assert_eq!(code, 0, "{out}{err}");
    match Command::new("promtool").args(["test", "rules", "t.yml"]).current_dir(dir.path()).output() {
        Ok(output) if output.status.success() => {}
        Ok(output) => {
            differ.push(String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout))
        }
        Err(error) => assert!(!in_ci(), "promtool cannot be started: {error}"),
    }
    assert!(differ.is_empty(), "{}\nprinted: {printed:#?}", differ.join("\n"));
}

/// A template that fails at run time neither stops the alert nor hides: its error stands where its text would.
#[test]
fn a_failing_template_still_fires_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(
        dir.path().join("r.yml"),
        "groups: [{name: g, rules: [{alert: T, expr: 'x > 0', annotations: {a: '{{ humanize \"no number\" }}', b: '{{ .Nothing }}', c: fine}}]}]\n",
    )
    .unwrap();
    let test = "rule_files: [r.yml]\ntests:\n- input_series: [{series: x, values: '1x5'}]\n  alert_rule_test: [{eval_time: 1m, alertname: T}]\n";
    std::fs::write(dir.path().join("t.yml"), test).unwrap();
    let (_, out, _) = run(dir.path(), &["test", "rules", "t.yml"]);
    for text in [
        "a=\"<error expanding template: error executing template __alert_T: template: __alert_T:1:",
        "parsing \\\"no number\\\": invalid syntax>",
        "can't evaluate field Nothing in type struct { Labels map[string]string;",
        "c=\"fine\"",
    ] {
        assert!(out.contains(text), "{text:?} is not in {out}");
    }
}
