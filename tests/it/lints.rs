//! `sidewatch check` says what is valid and still cannot work, as text and as JSON.

use crate::harness::binary;
use std::process::{Command, Output};

const CONFIG: &str = "sources: {none: {none: {}}}
metrics:
  orders_total: {counter: {match: order.placed, labels: {region: data.region}}}
notify: {alertmanager: am.yaml}
alerts:
  Slow: {expr: 'rate(order_total[5m]) > 1', severity: page}
rules: [rules.yaml]
";

const RULES: &str = "groups:
- name: shop
  rules:
  - alert: Many
    expr: |
      sum by (regoin) (
        orders_total
      ) > 5
  - alert: Never
    expr: count(orders_total) < 0
";

const ROUTES: &str = "route:
  receiver: all
receivers:
- name: all
- name: nobody
";

fn check(rules: &str, arguments: &[&str]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in [("sidewatch.yaml", CONFIG), ("rules.yaml", rules), ("am.yaml", ROUTES)] {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let mut command = Command::new(binary());
    command.current_dir(folder.path()).args(["check", "sidewatch.yaml"]).args(arguments);
    command.env_remove("SIDEWATCH_BIN").env_remove("SIDEWATCH_PYTHON").env_remove("SIDEWATCH_LONG");
    command.output().unwrap()
}

#[test]
fn findings_have_place_line_and_hint_and_leave_the_exit_code_alone() {
    let output = check(RULES, &[]);
    let (said, summary) = (String::from_utf8_lossy(&output.stderr), String::from_utf8_lossy(&output.stdout));
    assert_eq!(output.status.code(), Some(0), "{said}{summary}");
    for wanted in [
        "sidewatch.yaml:6:22: warning: nothing produces the metric \"order_total\"",
        "hint: did you mean \"orders_total\"?",
        "rules.yaml:4:12: warning: alerts of the group \"shop\" without the label severity: Many, Never",
        "rules.yaml:6:15: warning: by (regoin)",
        "  6 |       sum by (regoin) (\n    |               ^\n  hint: did you mean \"region\"?",
        "rules.yaml:6:7: warning: orders_total is a counter",
        "rules.yaml:10:11: warning: this never holds: the value is never below 1",
        "am.yaml:5:9: warning: nothing is sent to the receiver \"nobody\"",
    ] {
        assert!(said.contains(wanted), "{wanted}\n\n{said}");
    }
    let after = summary.split("\nok\n").nth(1).unwrap_or_else(|| panic!("{summary}"));
    for wanted in ["memory of rings: at most 256.0 MiB", "memory of patterns: at most 0.0 MiB", "1 route, 2 receivers"]
    {
        assert!(after.contains(wanted), "{wanted}\n\n{summary}");
    }
}

#[test]
fn findings_are_an_array_for_programs() {
    let read = |output: &Output| -> Vec<serde_json::Value> { serde_json::from_slice(&output.stdout).unwrap() };
    let output = check(RULES, &["--json"]);
    let found = read(&output);
    assert_eq!((output.status.code(), found.len()), (Some(0), 6), "{found:#?}");
    assert!(found.iter().all(|finding| finding["level"] == "warning"), "{found:#?}");
    let metric = found.iter().find(|finding| finding["line"] == 6 && finding["column"] == 22).unwrap();
    assert_eq!(metric["hint"], "did you mean \"orders_total\"?");
    assert_eq!(metric["file"], "sidewatch.yaml");

    let output = check("groups:\n- name: g\n  rules:\n  - {alert: A, expr: 'sum('}\n", &["--json"]);
    let found = read(&output);
    assert_eq!(output.status.code(), Some(2), "{found:#?}");
    let error = found.iter().find(|finding| finding["level"] == "error").unwrap();
    assert!(error["line"] == 4 && error["file"].as_str().unwrap().ends_with("rules.yaml"), "{error}");
}
