//! What a rule file may hold, and what is refused; promtool 2.42 refuses the same.

use super::*;

fn check(text: &str) -> (Vec<Group>, String) {
    let mut found = Diagnostics::new();
    let groups = read("r.yaml", text, &mut found).map(|read| read.compile(1_000, &mut found)).unwrap_or_default();
    (groups, found.to_string())
}

#[test]
fn a_file_compiles() {
    let (groups, found) = check(
        "groups:
  - name: a
    interval: 500ms
    limit: 10
    query_offset: 5s
    labels: {team: x, tier: g}
    rules:
      - {record: 'job:x:rate5m', expr: 'sum by (job) (rate(x[5m]))', labels: {tier: 'r{{'}}
      - alert: A
        expr: |
          job:x:rate5m
            > 1
        for: 1m30s
        keep_firing_for: 5m
        labels: {severity: page}
        annotations: {summary: '{{ $labels.job }} {{ $value }}'}
  - name: b
",
    );
    assert_eq!(found, "");
    let group = &groups[0];
    assert_eq!((group.interval_ms, group.limit, group.query_offset_ms), (500, 10, 5_000));
    assert_eq!((groups[1].interval_ms, groups[1].rules.len()), (1_000, 0));
    let labels = |rule: &Rule| -> Vec<String> {
        rule.labels.iter().map(|(name, text)| format!("{name}={}", text.source())).collect()
    };
    assert_eq!(labels(&group.rules[0]), ["team=x", "tier=r{{"]);
    assert_eq!(labels(&group.rules[1]), ["team=x", "tier=g", "severity=page"]);
    assert_eq!(group.rules[1].expression.text(), "job:x:rate5m > 1");
    let timing = group.rules[1].alerting.as_ref().unwrap().timing;
    assert_eq!(timing, Timing { for_ms: 90_000, keep_firing_for_ms: 300_000 });
}

#[test]
fn every_mistake_is_said_with_its_place() {
    let head = "groups:\n- name: a\n  rules:\n  - ";
    for (rule, place, part) in [
        ("{alert: A, expr: up, fro: 5m}", "4:26:", "did you mean \"for\"?"),
        ("{alert: A, expr: up, anotations: {}}", "4:26:", "did you mean \"annotations\"?"),
        ("{record: a, expr: up, for: 5m}", "4:27:", "invalid field 'for' in recording rule"),
        ("{record: a, expr: up, annotations: {x: y}}", "4:27:", "invalid field 'annotations' in recording rule"),
        ("{record: 'a{b=\"c\"}', expr: up}", "4:14:", "braces present in the recording rule name"),
        ("{record: a, alert: A, expr: up}", "4:17:", "exactly one of"),
        ("{expr: up}", "4:5:", "exactly one of"),
        ("{alert: A}", "4:5:", "the key \"expr\" is missing"),
        ("{alert: A, expr: up, labels: {a-b: c}}", "4:35:", "invalid label name: a-b"),
        ("{alert: A, expr: up, labels: {__name__: c}}", "4:35:", "invalid label name: __name__"),
        ("{alert: A, expr: up, annotations: {a.b: c}}", "4:40:", "invalid annotation name: a.b"),
        ("{alert: A, expr: up, annotations: {s: 'x {{ $label.a }}'}}", "4:49:", "undefined variable \"$label\""),
        ("{alert: A, expr: up, labels: {a: b, a: c}}", "4:41:", "a second time"),
        ("{alert: A, expr: up, for: 5}", "4:31:", "a duration needs a unit"),
        ("{alert: A, expr: 'sum(rate(x[5m])'}", "4:", "could not parse expression"),
        ("{alert: A, expr: 'a +* b'}", "4:26:", "could not parse expression"),
    ] {
        let (_, found) = check(&format!("{head}{rule}\n"));
        assert!(found.starts_with(&format!("r.yaml:{place}")), "{rule}: {found}");
        assert!(found.contains(part), "{rule}: {found}");
    }
    for (text, part) in [
        (
            "groups:\n- name: a\n- name: a\n",
            "r.yaml:3:9: error: groupname: \"a\" is repeated in the same file; first in line 2",
        ),
        ("groups:\n- rules: []\n", "r.yaml:2:3: error: rule group: the key \"name\" is missing"),
        ("group: []\n", "did you mean \"groups\"?"),
        ("groups: {}\n", "expected a list"),
        ("groups:\n- {name: a, interval: 1ms}\n", "at least 10ms"),
        ("groups: [\n", "not valid YAML"),
    ] {
        let (_, found) = check(text);
        assert!(found.contains(part), "{text}: {found}");
    }
}

#[test]
fn an_error_inside_a_block_points_into_it() {
    let (_, found) = check("groups:\n- name: a\n  rules:\n  - alert: A\n    expr: |\n      up\n        =! 1\n");
    assert!(found.starts_with("r.yaml:7:"), "{found}");
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig { failure_persistence: None, cases: 128, ..Default::default() })]

    /// A file with pieces missing, doubled or swapped is an error with a place, never a panic.
    #[test]
    fn a_mangled_file_is_no_panic(cut in proptest::collection::vec(0_usize..400, 0..6), swap in 0_usize..400) {
        let mut text: Vec<char> = "groups:\n- name: a\n  interval: 5s\n  limit: 3\n  labels: {a: b}\n  rules:\n  - alert: A\n    expr: |\n      sum(rate(x[5m])) > 1\n    for: 5m\n    labels: {s: '{{ $value }}'}\n    annotations: {t: \"{{ $labels.x }}\"}\n  - {record: r, expr: 'y'}\nalerts:\n  B: {metric: x_total, above: 5%}\n  C: {event: {absent: q, within: 5s}}\n".chars().collect();
        for at in cut {
            if at < text.len() {
                text.remove(at);
            }
        }
        let len = text.len();
        text.swap(swap % len, (swap * 7 + 3) % len);
        check(&text.into_iter().collect::<String>());
    }
}
