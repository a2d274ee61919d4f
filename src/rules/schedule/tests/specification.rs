//! The Prometheus project's Alert Generator Compliance Specification 1.0, clause by clause, in virtual time.
//!
//! What it says of sending to an Alertmanager is held by the tests of that receiver (notify); where it and Prometheus
//! differ (the metric's name among the labels of an alert), Prometheus is followed.

use super::*;
use crate::promql::{self, Query, Value};

impl World {
    fn put_with(&mut self, ms: i64, labels: &[(&str, &str)], value: f64) {
        self.storage.add(&Labels::from_pairs(labels.iter().copied()), START_MS + ms, &PointValue::Float(value), 0);
    }

    /// What an instant query at a moment finds, sorted, each as `labels=value`.
    fn ask(&self, query: &str, ms: i64) -> Vec<String> {
        let found = Query::parse(query).unwrap().instant(&self.storage, START_MS + ms, &Options::default()).unwrap();
        let Value::Vector(samples) = found.value else { panic!("{query} is no vector") };
        let mut texts: Vec<String> = samples
            .iter()
            .map(|sample| match &sample.value {
                promql::SampleValue::Float(value) => format!("{}={value}", sample.labels),
                promql::SampleValue::Histogram(_) => panic!("{query} gives a histogram"),
            })
            .collect();
        texts.sort();
        texts
    }

    /// The rule's description by the API, as JSON.
    fn rule(&self, at: usize) -> serde_json::Value {
        serde_json::to_value(self.rules.describe()).unwrap()["groups"][0]["rules"][at].clone()
    }
}

/// One group, evaluated at its interval only: evaluations in between are ours and not the specification's.
fn rules(rules: &str) -> World {
    let mut world = World::new("groups: []");
    let mut set = set(&format!("groups:\n- name: g\n  interval: 10s\n  rules:\n{rules}"));
    set.settings = Arc::new(Settings { reactive: false, ..(*set.settings).clone() });
    world.rules = Rules::new(set, at(0));
    world
}

/// "Constraints" 1: results are at hand for later rules of the group in the same cycle, in the order of the file;
/// "Time Series to Create": so are the series of alerts.
#[test]
fn later_rules_see_what_earlier_ones_made_in_the_same_cycle() {
    let mut world = rules(
        "  - {record: a, expr: x + 1}\n  - {alert: First, expr: a > 1}\n  - {record: b, expr: 'count(ALERTS{alertname=\"First\", alertstate=\"firing\"})'}\n\
         \x20 - {alert: Second, expr: b == 1}\n  - {record: early, expr: late}\n  - {record: late, expr: x}\n",
    );
    world.put(-1, "x", 1.0);
    world.turn(0);
    assert_eq!(world.ask("a", 0), ["a=2"]);
    assert_eq!(world.ask("count(ALERTS) by (alertname)", 0).len(), 2, "both in the first cycle");
    assert_eq!(world.ask("early", 0), Vec::<String>::new(), "a rule does not see what a later one makes");
}

/// "Processing Instant Query Result", steps 1 to 3.
#[test]
fn each_element_makes_an_alert_with_its_labels_the_rules_labels_and_the_name() {
    let mut world = rules(
        "  - alert: Errors\n    expr: errors > 5\n    labels: {job: 'over {{ $labels.status }}', alertname: no, severity: '{{ if gt $value 15.0 }}page{{ else }}mail{{ end }}'}\n\
         \x20   annotations: {text: '{{ $labels.job }} {{ $value }}'}\n",
    );
    for (status, value) in [("400", 18.0), ("500", 10.0), ("503", 1.0)] {
        world.put_with(-1, &[("__name__", "errors"), ("job", "foo"), ("status", status), ("alertname", "x")], value);
    }
    world.turn(0);
    assert_eq!(
        world.ask("ALERTS", 0),
        [
            r#"ALERTS{alertname="Errors", alertstate="firing", job="over 400", severity="page", status="400"}=1"#,
            r#"ALERTS{alertname="Errors", alertstate="firing", job="over 500", severity="mail", status="500"}=1"#,
        ]
    );
    let texts: Vec<_> = world.rules.published().1.iter().map(|alert| alert.annotations.to_string()).collect();
    assert_eq!(texts, [r#"{text="foo 18"}"#, r#"{text="foo 10"}"#], "templates see the labels of the element");
}

/// Step 4: two alerts with the same labels are an error of the rule: nothing is sent, no sample is written, the API says so.
#[test]
fn two_alerts_with_the_same_labels_fail_the_rule() {
    let mut world = rules("  - {alert: A, expr: x > 0, labels: {a: same}}\n");
    world.put_with(-1, &[("__name__", "x"), ("a", "1")], 1.0);
    world.put_with(-1, &[("__name__", "x"), ("a", "2")], 1.0);
    world.turn(0);
    assert_eq!(world.ask("ALERTS", 0), Vec::<String>::new());
    assert!(world.rules.published().1.is_empty());
    let rule = world.rule(0);
    assert_eq!((&rule["health"], &rule["alerts"]), (&"err".into(), &serde_json::json!([])));
    assert!(rule["lastError"].as_str().unwrap().contains("same labelset"), "{rule}");
    // The clash ends: so does the error.
    world.put_with(5_000, &[("__name__", "x"), ("a", "2")], 0.0);
    world.run(20_000);
    assert_eq!(world.rule(0)["health"], "ok");
    assert_eq!(world.rules.published().1.len(), 1);
}

/// "pending", "firing" and "inactive" State Conditions, and the series of each state.
#[test]
fn states_follow_for_and_the_evaluation_times() {
    let mut world = rules("  - {alert: A, expr: x > 0, for: 20s, annotations: {v: '{{ $value }}'}}\n");
    world.put(-1, "x", 1.0);
    world.turn(0);
    let first = world.rules.next_due().unwrap().millis_since(at(0));
    // ActiveAt is the first evaluation; less than `for` later it is still pending, annotations follow the value.
    let state = |world: &World| {
        let alert = &world.rule(0)["alerts"][0];
        let text = |name: &str| alert[name].as_str().unwrap_or("-").to_owned();
        (text("state"), text("activeAt"), alert["annotations"]["v"].as_str().unwrap_or("-").to_owned())
    };
    let active_at = at(0).rfc3339();
    world.put(first - 1, "x", 2.0);
    world.turn(first);
    assert_eq!(state(&world), ("pending".into(), active_at.clone(), "2".into()));
    assert_eq!(world.ask("ALERTS", first), [r#"ALERTS{alertname="A", alertstate="pending"}=1"#]);
    let since = (START_MS / 1_000).to_string();
    assert_eq!(world.ask("ALERTS_FOR_STATE", first), [format!(r#"ALERTS_FOR_STATE{{alertname="A"}}={since}"#)]);
    // At the first evaluation that is `for` or more after it, it fires; not between evaluations.
    let fires = (first..).step_by(10_000).find(|ms| *ms >= 20_000).unwrap();
    world.put(fires - 1, "x", 3.0);
    world.run(fires - 1);
    assert_eq!(state(&world).0, "pending");
    world.run(fires);
    assert_eq!(state(&world), ("firing".into(), active_at, "3".into()));
    assert_eq!(world.ask("ALERTS", fires), [r#"ALERTS{alertname="A", alertstate="firing"}=1"#]);
    let fired = world.rules.published().1[0].clone();
    assert_eq!((fired.fired_at, fired.resolved_at), (at(fires), None), "startsAt is FiredAt");
    // Not produced: inactive at once, no series, kept with its end for the messages.
    world.put(fires + 9_000, "x", 0.0);
    world.run(fires + 10_000);
    let ended = world.rules.published().1[0].clone();
    assert_eq!((ended.fired_at, ended.resolved_at), (at(fires), Some(at(fires + 10_000))));
    assert_eq!(world.ask("{__name__=~\"ALERTS.*\"}", fires + 10_000), Vec::<String>::new());
    assert_eq!(
        (world.rule(0)["state"].clone(), world.rule(0)["alerts"].clone()),
        ("inactive".into(), serde_json::json!([]))
    );
    // The same labels again are a new alert with an ActiveAt of its own.
    world.put(fires + 19_000, "x", 1.0);
    world.run(fires + 20_000);
    assert_eq!(state(&world), ("pending".into(), at(fires + 20_000).rfc3339(), "1".into()));
}

/// "firing": without `for` at once; with a `for` shorter than the interval at the next evaluation, not before.
#[test]
fn a_for_shorter_than_the_interval_takes_one_more_evaluation() {
    let mut world = rules("  - {alert: At, expr: x > 0}\n  - {alert: Next, expr: x > 0, for: 1s}\n");
    world.put(-1, "x", 1.0);
    world.turn(0);
    assert_eq!((world.rule(0)["state"].clone(), world.rule(1)["state"].clone()), ("firing".into(), "pending".into()));
    let next = world.rules.next_due().unwrap().millis_since(at(0));
    world.run(next - 1);
    assert_eq!(world.rule(1)["state"], "pending");
    world.run(next);
    assert_eq!(world.rule(1)["state"], "firing");
}

/// "Time Series to Create": name and state override what the alert says under these names.
#[test]
fn the_series_own_labels_win() {
    let mut world = rules("  - {alert: A, expr: x > 0, labels: {alertstate: very_critical, severity: page}}\n");
    world.put(-1, "x", 1.0);
    world.turn(0);
    assert_eq!(world.ask("ALERTS", 0), [r#"ALERTS{alertname="A", alertstate="firing", severity="page"}=1"#]);
}
