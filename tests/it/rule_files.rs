//! Rule files are accepted and refused as Prometheus does: Debian's promtool is asked about the same files.

use crate::harness::{in_ci, run};
use std::process::Command;

/// Each is the content of `groups:` or a whole file, and whether both must accept it.
const FILES: &[(&str, bool)] = &[
    ("groups: [{name: g, rules: [{alert: A, expr: up == 0}]}]", true),
    ("groups: [{name: g, rules: [{record: a:b, expr: sum(up)}]}]", true),
    ("groups: []", true),
    ("groups: [{name: g, rules: []}]", true),
    (
        "groups: [{name: g, interval: 500ms, limit: 3, rules: [{alert: A, expr: up == 0, for: 5m, keep_firing_for: 1m, labels: {severity: page}, annotations: {summary: 'x {{ $value }}'}}]}]",
        true,
    ),
    ("groups: [{name: g, rules: [{alert: A, expr: up == 0}]}, {name: h, rules: [{alert: A, expr: up == 0}]}]", true),
    // Unknown and doubled keys.
    ("groups: [{name: g, rulez: []}]", false),
    ("groups: [{name: g, rules: [{alert: A, expr: up, fore: 5m}]}]", false),
    ("groupz: []", false),
    ("groups: [{name: g, name: h, rules: []}]", false),
    ("groups: [{name: g, rules: [{alert: A, alert: B, expr: up}]}]", false),
    ("groups: [{name: g, rules: []}, {name: g, rules: []}]", false),
    ("groups: [{rules: []}]", false),
    ("groups: [{name: '', rules: []}]", false),
    // What a rule needs and may not have.
    ("groups: [{name: g, rules: [{expr: up}]}]", false),
    ("groups: [{name: g, rules: [{alert: A, record: b, expr: up}]}]", false),
    ("groups: [{name: g, rules: [{alert: A}]}]", false),
    ("groups: [{name: g, rules: [{alert: A, expr: ''}]}]", false),
    ("groups: [{name: g, rules: [{alert: A, expr: 'sum('}]}]", false),
    ("groups: [{name: g, rules: [{alert: A, expr: 'up{'}]}]", false),
    ("groups: [{name: g, rules: [{alert: A, expr: 'rate(up)'}]}]", false),
    ("groups: [{name: g, rules: [{alert: A, expr: 'nosuch(up)'}]}]", false),
    ("groups: [{name: g, rules: [{record: a, expr: up, for: 5m}]}]", false),
    ("groups: [{name: g, rules: [{record: a, expr: up, keep_firing_for: 5m}]}]", false),
    ("groups: [{name: g, rules: [{record: a, expr: up, annotations: {a: b}}]}]", false),
    ("groups: [{name: g, rules: [{record: 'a b', expr: up, labels: {a: b}}]}]", false),
    // Names of labels.
    ("groups: [{name: g, rules: [{alert: A, expr: up, labels: {__name__: b}}]}]", false),
    ("groups: [{name: g, rules: [{alert: A, expr: up, labels: {a: 'x {{ $labels.job }}'}}]}]", true),
    ("groups: [{name: g, rules: [{record: a, expr: up, labels: {__name__: b}}]}]", false),
    // Durations.
    ("groups: [{name: g, interval: 5, rules: []}]", false),
    ("groups: [{name: g, interval: 5x, rules: []}]", false),
    ("groups: [{name: g, interval: -5s, rules: []}]", false),
    ("groups: [{name: g, rules: [{alert: A, expr: up, for: 1h30m}]}]", true),
    ("groups: [{name: g, rules: [{alert: A, expr: up, for: 30m1h}]}]", false),
    ("groups: [{name: g, rules: [{alert: A, expr: up, for: 1.5h}]}]", false),
    ("groups: [{name: g, rules: [{alert: A, expr: up, for: '0'}]}]", true),
    // Templates.
    ("groups: [{name: g, rules: [{alert: A, expr: up, annotations: {a: '{{ $labels.a'}}]}]", false),
    ("groups: [{name: g, rules: [{alert: A, expr: up, annotations: {a: '{{ nosuch 1 }}'}}]}]", false),
    (
        "groups: [{name: g, rules: [{alert: A, expr: up, annotations: {a: '{{ with query \"up\" }}{{ . | first | value }}{{ end }}'}}]}]",
        true,
    ),
    ("groups: [{name: g, rules: [{alert: A, expr: up, labels: {a: '{{ if }}'}}]}]", false),
    (
        "groups: [{name: g, rules: [{alert: A, expr: up, annotations: {a: '{{ $value | humanize }} {{ $externalLabels.x }} {{ $externalURL }}'}}]}]",
        true,
    ),
    // Types.
    ("groups: {name: g}", false),
    ("groups: [{name: g, rules: {alert: A}}]", false),
    ("groups: [{name: g, rules: [{alert: A, expr: [up]}]}]", false),
    ("groups: [{name: g, rules: [{alert: A, expr: 1}]}]", true),
    ("groups: [{name: g, limit: many, rules: []}]", false),
    ("groups: [{name: g, rules: [{alert: A, expr: up, labels: [a]}]}]", false),
    ("groups: [{name: g, rules: [{alert: A, expr: up, labels: {a: 1}}]}]", true),
    ("- a", false),
    ("groups: [", false),
];

#[test]
fn rule_files_are_accepted_and_refused_as_promtool_does() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("sidewatch.yaml"), "sources: {p: {http: {}}}\nrules: [rules.yml]\n").unwrap();
    let promtool = |file: &str| {
        let output =
            Command::new("promtool").args(["check", "rules", "--lint=none", file]).current_dir(dir.path()).output();
        match output {
            Ok(output) => Some((output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())),
            Err(error) => {
                assert!(!in_ci(), "promtool cannot be started: {error}");
                None
            }
        }
    };
    let mut differ = Vec::new();
    for (text, accepted) in FILES {
        std::fs::write(dir.path().join("rules.yml"), format!("{text}\n")).unwrap();
        if let Some((theirs, said)) = promtool("rules.yml")
            && theirs != *accepted
        {
            differ.push(format!("promtool {theirs}: {text}\n{said}"));
        }
        let (code, out, err) = run(dir.path(), &["check"]);
        if (code == 0) != *accepted {
            differ.push(format!("sidewatch {code}: {text}\n{out}{err}"));
        } else if !accepted {
            assert_eq!(code, 2, "{text}: {err}");
            assert!((out + &err).contains("rules.yml:1:"), "a refusal has its place: {text}: {err}");
        }
    }
    assert!(differ.is_empty(), "{}", differ.join("\n"));
}
