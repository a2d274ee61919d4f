//! `sidewatch test rules` with `config:`: what a test says goes before the configuration, every input reaches the real core,
//! and each complaint has its place.

use crate::harness::run;
use std::path::Path;

const CONFIG: &str = "sources: {push: {http: {}}, odd: {http: {}, shape: {type: kind, data: body}}}
bundled_rules: false
external_labels: {dc: us}
rules: [rules.yml]
metrics:
  orders_total: {counter: {match: 'order.*', labels: {region: data.region}}}
notify: {chat: {webhook: {url: 'http://127.0.0.1:1/'}}}
";

const RULES: &str = "groups:
- name: slow
  interval: 1m
  rules:
  - {alert: Busy, expr: 'x > 2', labels: {dc: '{{ $externalLabels.dc }}'}}
  - {record: doubled, expr: b * 2}
- name: fast
  rules:
  - {record: b, expr: x + 1}
";

/// Runs one test file in a folder of this name; it must end with `code` and say each text.
fn check(folder: &str, test: &str, code: i32, says: &[&str]) {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join(folder);
    std::fs::create_dir_all(&folder).unwrap();
    for (name, text) in [("sidewatch.yaml", CONFIG), ("rules.yml", RULES), ("t.yml", test)] {
        std::fs::write(folder.join(name), text).unwrap();
    }
    let (found, out, err) = run(&folder, &["test", "rules", "t.yml"]);
    assert_eq!(found, code, "{test}\n{out}{err}");
    for text in says {
        assert!((out.clone() + &err).contains(text), "{text:?} is not in\n{out}{err}");
    }
}

#[test]
fn events_stand_beside_their_time_and_come_through_a_named_source() {
    let test = "config: sidewatch.yaml
tests:
- input_events:
  - {at: 1s, every: 1s, times: 4, type: order.placed, payload: {region: eu}}
  - {at: 2s, via: odd, kind: order.lost, body: {region: us}}
  - {at: 3s, source: odd, event: {kind: order.lost, body: {region: us}}}
  promql_expr_test:
  - {expr: 'sum by (region) (orders_total)', eval_time: 3s, exp_samples: [{labels: '{region=\"eu\"}', value: 3}, {labels: '{region=\"us\"}', value: 2}]}
  - {expr: 'sum by (source) (events_total)', eval_time: 6s, exp_samples: [{labels: '{source=\"push\"}', value: 4}, {labels: '{source=\"odd\"}', value: 2}]}
";
    check("a", test, 0, &["1 passed, 0 failed"]);
    // A wrong expectation names its line.
    check("a", &test.replace("value: 3}", "value: 5}"), 1, &["t.yml:8: expr:", "exp:", "got:", "0 passed, 1 failed"]);
    check("a", &test.replace("via: odd", "via: add"), 2, &["t.yml:5:", "no source \"add\"", "push, odd"]);
    check("a", &test.replace("times: 4, ", ""), 2, &["t.yml:4:", "how often?", "times: 10"]);
    check("a", &test.replace("source: odd, event", "sauce: odd, event"), 2, &["t.yml:6:", "did you mean \"source\"?"]);
    check(
        "a",
        &test.replace("kind: order.lost, body: {region: us}}\n  - {at: 3s", "body: {}}\n  - {at: 3s"),
        1,
        &["t.yml:5: event:"],
    );
    check(
        "a",
        "config: sidewatch.yaml\ntests: [{input_events: [{at: 1s}]}]\n",
        2,
        &["t.yml:2:25:", "there is no event"],
    );
}

#[test]
fn a_verdict_does_not_depend_on_names_of_folders() {
    let test = "config: sidewatch.yaml
evaluation_interval: 10s
group_eval_order: [fast, slow]
tests:
- interval: 10s
  external_labels: {dc: eu}
  input_series:
  - {series: 'x{i=\"1\"}', values: '1x5 4x20'}
  - {series: h, values: '{{schema:0 sum:4 count:4 buckets:[1 2 1]}}x20'}
  alert_rule_test:
  - {eval_time: 59s, alertname: Busy}
  - {eval_time: 61s, alertname: Busy, exp_alerts: [{exp_labels: {i: '1', dc: eu}}]}
  promql_expr_test:
  - {expr: 'max(doubled)', eval_time: 60s, exp_samples: [{value: 10}]}
  - {expr: 'max(b)', eval_time: 59s, exp_samples: [{value: 2}]}
  - {expr: 'max(histogram_count(h))', eval_time: 60s, exp_samples: [{value: 4}]}
";
    // Alone, the configuration's labels hold.
    let own = test.replace("  external_labels: {dc: eu}\n", "");
    for folder in ["a", "another/one", "c/d/e"] {
        check(folder, test, 0, &["1 passed, 0 failed"]);
        check(folder, &own, 1, &["t.yml:11: alertname: Busy, time: 1m1s", "dc=\"us\""]);
    }
    // In the order of the file `slow` reads `b` before it is recorded.
    check("a", &test.replace("[fast, slow]", "[slow, fast]"), 1, &["t.yml:14: expr: \"max(doubled)\""]);
}

#[test]
fn what_cannot_be_read_is_an_error_of_its_own() {
    check("a", "config: gone.yaml\ntests: [{}]\n", 2, &["gone.yaml"]);
    let (code, out, err) = run(Path::new("/"), &["test", "rules", "/nowhere/t.yml"]);
    assert_eq!(code, 2, "{out}{err}");
    assert!(err.contains("/nowhere/t.yml cannot be read: "), "{err}");
}
