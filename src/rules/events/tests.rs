//! Lives of event conditions, driven through `Rules` as the engine drives them.

use crate::config::Diagnostics;
use crate::model::{Event, EventBatch, Field, FieldPlan, FieldPlanBuilder, Shape, Text, Timestamp};
use crate::promql::testing::TestStorage;
use crate::rules::schedule::{Effects, Rules, SourceHealth};
use crate::rules::short::Compiler;
use crate::rules::{AlertPhase, RuleSet, Settings, file};
use std::sync::Arc;

mod changes;

/// 2026-11-21T00:00:00Z
const START_MS: i64 = 1_795_219_200_000;

struct World {
    rules: Rules,
    plan: Arc<FieldPlan>,
    said: String,
    storage: TestStorage,
}

fn at(seconds: f64) -> Timestamp {
    Timestamp::from_millis(START_MS + (seconds * 1e3) as i64)
}

fn compile(yaml: &str, pattern_keys: usize) -> (RuleSet, Arc<FieldPlan>) {
    let (mut found, mut plan, mut set) = (Diagnostics::new(), FieldPlanBuilder::default(), RuleSet::default());
    let read = file::read("a.yaml", yaml, &mut found).unwrap();
    set.settings = Arc::new(Settings { alerts_per_rule: 100, pattern_keys, ..Settings::default() });
    let mut compiler = Compiler { plan: &mut plan, metric_type: &|_| None, interval_ms: 1_000 };
    compiler.compile(&read.alerts, &"a.yaml".into(), &mut set, &mut found);
    assert_eq!(found.to_string(), "");
    (set, Arc::new(plan.build(1)))
}

impl World {
    fn new(yaml: &str) -> Self {
        let (set, plan) = compile(yaml, 100);
        Self { rules: Rules::new(set, at(0.0)), plan, said: String::new(), storage: TestStorage::default() }
    }

    /// An event of a type at a time (`late` seconds before it arrives) with fields `path=value`.
    fn event(&mut self, arrives: f64, late: f64, event_type: &str, fields: &[(&str, &str)]) {
        let mut batch = EventBatch::new("orders".into(), self.plan.clone(), at(arrives), String::new());
        let mut event = blank(batch.push_text(event_type));
        event.time = Some(at(arrives - late));
        for (path, value) in fields {
            match *path {
                "correlation" => event.correlation = batch.push_text(value),
                "source" => event.source = batch.push_text(value),
                _ => {}
            }
        }
        for path in self.plan.clone().paths() {
            let value = fields.iter().find(|(known, _)| *known == path.to_string());
            let field = value.map_or(Field::Missing, |(_, value)| {
                let text = batch.push_text(value);
                value.parse().map_or(Field::Text(text), |number| Field::Number(number, text))
            });
            batch.fields.push(field);
        }
        batch.events.push(event);
        let mut out = Effects::default();
        self.rules.observe(at(arrives), &batch, &self.storage, &mut out);
        self.log(arrives, out);
    }

    fn log(&mut self, now: f64, out: Effects) {
        for change in out.transitions {
            let change = change.change;
            let summary = change.annotations.get("summary").unwrap_or("");
            self.said += &format!("{now} {} {}->{} {summary}\n", change.labels, change.from.name(), change.to.name());
        }
    }

    /// Lets time pass until `until`, waking exactly when the rules ask for it.
    fn run(&mut self, until: f64) {
        let mut turns = 0;
        while let Some(due) = self.rules.next_due().filter(|due| *due <= at(until)) {
            let mut out = Effects::default();
            self.rules.tick(due, &self.storage, &mut out);
            self.log(due.micros_since(at(0.0)) as f64 / 1e6, out);
            turns += 1;
            assert!(turns < 10_000, "asks to be woken for ever at {due}");
        }
    }

    fn source(&mut self, now: f64, health: SourceHealth) {
        let mut out = Effects::default();
        self.rules.source_state(at(now), &"orders".into(), health, &mut out);
        self.log(now, out);
    }

    #[track_caller]
    fn check(&mut self, expected: &str) {
        assert_eq!(std::mem::take(&mut self.said).trim_end(), expected.trim_end());
    }
}

fn blank(event_type: Text) -> Event {
    Event {
        event_type,
        id: Text::NONE,
        source: Text::NONE,
        subject: Text::NONE,
        correlation: Text::NONE,
        causation: Text::NONE,
        trace_id: Text::NONE,
        span_id: Text::NONE,
        outcome: Text::NONE,
        severity: Text::NONE,
        time: None,
        time_invalid: false,
        duration_seconds: f64::NAN,
        attempt: 1,
        priority: 5,
        expires: Event::NEVER,
        failed: false,
        weight: 1.0,
        shape: Shape::Typed,
        raw: Text::NONE,
    }
}

const BURST: &str = "alerts:
  Burst:
    event: {match: payment.failed, where: {data.amount: {gt: 100}}, count: '>= 3', within: 60s, by: data.region}
    annotations: {summary: '{{ $value }} in {{ $labels.region }}, last {{ $event.data.amount }}'}
";

#[test]
fn a_burst_fires_at_once_for_its_key_and_ends_with_its_window() {
    let mut world = World::new(BURST);
    for second in 0..3 {
        world.event(f64::from(second), 0.0, "payment.failed", &[("data.amount", "150.5"), ("data.region", "eu")]);
        world.event(f64::from(second), 0.0, "payment.failed", &[("data.amount", "99"), ("data.region", "us")]);
        world.event(f64::from(second), 0.0, "payment.ok", &[("data.amount", "500"), ("data.region", "us")]);
    }
    world.check(r#"2 {alertname="Burst", region="eu"} inactive->firing 3 in eu, last 150.5"#);
    world.run(59.9);
    world.check("");
    world.run(60.5);
    world.check(r#"60 {alertname="Burst", region="eu"} firing->inactive 3 in eu, last 150.5"#);
    let (_, published) = world.rules.published();
    assert_eq!(published.len(), 1, "kept as resolved");
    world.run(60.0 + 15.0 * 60.0 + 2.0);
    let (_, published) = world.rules.published();
    assert!(published.is_empty(), "forgotten after 15 minutes");
}

#[test]
fn events_are_judged_by_their_own_time() {
    let mut world = World::new(BURST);
    let fields = [("data.amount", "150"), ("data.region", "eu")];
    // Spread over three minutes, delivered at once: no burst.
    for late in [180.0, 90.0, 0.0] {
        world.event(200.0, late, "payment.failed", &fields);
    }
    world.check("");
    // Yesterday's burst, read now, is a burst; and again when the file is read again.
    let mut world = World::new(BURST);
    for round in 0..2 {
        for late in [86_430.0, 86_420.0, 86_410.0] {
            world.event(100.0 + f64::from(round) * 300.0, late, "payment.failed", &fields);
        }
        world.run(399.0 + f64::from(round) * 300.0);
    }
    world.check(
        r#"100 {alertname="Burst", region="eu"} inactive->firing 3 in eu, last 150
140 {alertname="Burst", region="eu"} firing->inactive 3 in eu, last 150
400 {alertname="Burst", region="eu"} inactive->firing 3 in eu, last 150
440 {alertname="Burst", region="eu"} firing->inactive 3 in eu, last 150"#,
    );
}

const SILENT: &str = "alerts:
  Silent: {event: {absent: worker.heartbeat, by: source, within: 45s}, severity: critical}
";

#[test]
fn silence_fires_per_key_and_ends_with_the_next_event() {
    let mut world = World::new(SILENT);
    world.event(0.0, 0.0, "worker.heartbeat", &[("source", "w1")]);
    world.event(10.0, 0.0, "worker.heartbeat", &[("source", "w2")]);
    world.run(50.0);
    world.check(
        r#"45 {alertname="Silent", severity="critical", source="w1"} inactive->firing No worker.heartbeat for 45s for source w1"#,
    );
    world.event(52.0, 0.0, "worker.heartbeat", &[("source", "w1")]);
    world.event(54.0, 0.0, "worker.heartbeat", &[("source", "w2")]);
    world.run(90.0);
    world.check(
        r#"52 {alertname="Silent", severity="critical", source="w1"} firing->inactive No worker.heartbeat for 45s for source w1"#,
    );
}

#[test]
fn a_lost_source_pauses_silence_and_says_so() {
    let mut world = World::new(SILENT);
    world.event(0.0, 0.0, "worker.heartbeat", &[("source", "w1")]);
    world.source(10.0, SourceHealth::Lost { reason: "connection refused".into() });
    world.check(
        r#"10 {alertname="SidewatchDeaf", severity="warning", source="orders"} inactive->firing Source orders cannot be heard: connection refused"#,
    );
    world.run(300.0);
    world.check("");
    world.source(300.0, SourceHealth::CatchingUp);
    world.source(310.0, SourceHealth::Live);
    world.said.clear();
    world.run(344.0);
    world.check("");
    world.run(346.0);
    world.check(
        r#"345 {alertname="Silent", severity="critical", source="w1"} inactive->firing No worker.heartbeat for 45s for source w1"#,
    );
}

#[test]
fn what_must_be_heard_is_known_before_it_was_heard() {
    let mut world = World::new(
        "alerts:\n  Any: {event: {absent: tick, within: 30s}}\n  Keys: {event: {absent: beat, by: data.node, keys: [a, b], within: 30s}}\n",
    );
    world.event(20.0, 0.0, "beat", &[("data.node", "a")]);
    world.run(40.0);
    world.check(
        r#"30 {alertname="Any"} inactive->firing No tick for 30s
30 {alertname="Keys", node="b"} inactive->firing No beat for 30s for node b"#,
    );
    world.run(51.0);
    world.check(r#"50 {alertname="Keys", node="a"} inactive->firing No beat for 30s for node a"#);
}

const STUCK: &str = "alerts:
  Stuck: {event: {sequence: [order.placed, payment.captured], by: correlation, within: 30s, missing: last}}
";

#[test]
fn a_missing_last_event_fires_and_ends_when_it_comes_after_all() {
    let mut world = World::new(STUCK);
    world.event(0.0, 0.0, "order.placed", &[("correlation", "c1")]);
    world.event(1.0, 0.0, "order.placed", &[("correlation", "c2")]);
    world.event(5.0, 0.0, "payment.captured", &[("correlation", "c1")]);
    // Overtaken: the payment arrives before its order.
    world.event(6.0, 0.0, "payment.captured", &[("correlation", "c3")]);
    world.event(6.5, 0.0, "order.placed", &[("correlation", "c3")]);
    world.event(7.0, 0.0, "order.placed", &[]);
    world.run(60.0);
    world.check(
        r#"31 {alertname="Stuck", correlation="c2"} inactive->firing payment.captured is missing after order.placed for correlation c2"#,
    );
    world.event(70.0, 0.0, "payment.captured", &[("correlation", "c2")]);
    world.check(
        r#"70 {alertname="Stuck", correlation="c2"} firing->inactive payment.captured is missing after order.placed for correlation c2"#,
    );
    let counters = world.rules.event_counters();
    assert_eq!(counters[0].1.without_key, 1);
    // One that never comes ends after an hour.
    world.event(100.0, 0.0, "order.placed", &[("correlation", "c4")]);
    world.run(5_000.0);
    let ends: Vec<&str> = world.said.lines().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(ends, ["130", "3730"]);
}

#[test]
fn a_sequence_fires_when_it_is_complete_in_order_and_time() {
    let mut world = World::new("alerts:\n  Chain: {event: {sequence: [a, b, c], by: data.k, within: 10s}}\n");
    for (second, name, key) in
        [(0, "a", "x"), (1, "c", "x"), (2, "b", "x"), (3, "c", "x"), (4, "b", "y"), (5, "c", "y")]
    {
        world.event(f64::from(second), 0.0, name, &[("data.k", key)]);
    }
    world.run(60.0);
    let lines: Vec<&str> = world.said.lines().map(|line| line.split(" a, then").next().unwrap()).collect();
    assert_eq!(
        lines,
        [r#"3 {alertname="Chain", k="x"} inactive->firing"#, r#"13 {alertname="Chain", k="x"} firing->inactive"#]
    );
}

#[test]
fn too_few_events_count_only_after_a_whole_window() {
    let mut world = World::new("alerts:\n  Few: {event: {match: sale, count: '< 2', within: 60s}}\n");
    world.event(1.0, 0.0, "sale", &[]);
    world.run(59.0);
    world.check("");
    world.run(70.0);
    assert!(
        world.said.starts_with("61 {alertname=\"Few\"} inactive->firing") || world.said.starts_with("60 "),
        "{}",
        world.said
    );
    world.said.clear();
    world.event(80.0, 0.0, "sale", &[]);
    world.event(81.0, 0.0, "sale", &[]);
    assert!(world.said.starts_with("81 {alertname=\"Few\"} firing->inactive"), "{}", world.said);
}

#[test]
fn a_for_is_waited_for() {
    let mut world = World::new("alerts:\n  Slow: {event: {match: e, count: '>= 1', within: 60s}, for: 10s}\n");
    world.event(0.0, 0.0, "e", &[]);
    world.run(59.0);
    let lines: Vec<&str> = world.said.lines().map(|line| line.split(" 1 x").next().unwrap()).collect();
    assert_eq!(lines, [r#"0 {alertname="Slow"} inactive->pending"#, r#"10 {alertname="Slow"} pending->firing"#]);
}

#[test]
fn keep_firing_for_bridges_a_gap() {
    let mut world = World::new("alerts:\n  K: {event: {match: e, count: '>= 1', within: 10s}, keep_firing_for: 30s}\n");
    world.event(0.0, 0.0, "e", &[]);
    world.run(30.0);
    world.event(30.0, 0.0, "e", &[]);
    world.run(200.0);
    let lines: Vec<&str> = world.said.lines().map(|line| line.split(" 1 x").next().unwrap()).collect();
    assert_eq!(lines, [r#"0 {alertname="K"} inactive->firing"#, r#"70 {alertname="K"} firing->inactive"#]);
}

#[test]
fn keys_are_bounded_and_what_goes_is_counted() {
    let (set, plan) = compile(STUCK, 3);
    let mut world =
        World { rules: Rules::new(set, at(0.0)), plan, said: String::new(), storage: TestStorage::default() };
    for key in ["1", "2", "3", "4", "5"] {
        world.event(0.0, 0.0, "order.placed", &[("correlation", key)]);
    }
    assert_eq!(world.rules.event_counters()[0].1.keys_refused, 2);
    let (set, plan) = compile(BURST, 3);
    let mut world =
        World { rules: Rules::new(set, at(0.0)), plan, said: String::new(), storage: TestStorage::default() };
    for key in ["1", "2", "3", "4", "5"] {
        world.event(0.0, 0.0, "payment.failed", &[("data.amount", "500"), ("data.region", key)]);
    }
    assert_eq!(world.rules.event_counters()[0].1.keys_evicted, 2);
}

#[test]
fn downtime_counts_neither_for_absent_nor_for_missing() {
    for (yaml, name, key) in [(SILENT, "worker.heartbeat", "source"), (STUCK, "order.placed", "correlation")] {
        let mut world = World::new(yaml);
        world.event(0.0, 0.0, name, &[(key, "k")]);
        world.run(10.0);
        let saved = world.rules.snapshot(at(10.0));
        let mut other = World::new(yaml);
        other.rules = Rules::new(compile(yaml, 100).0, at(1_000.0));
        other.rules.restore(&saved, at(1_000.0)).unwrap();
        other.run(1_015.0);
        other.check("");
        other.run(1_040.0);
        let firing = other.said.lines().count();
        assert_eq!(firing, 1, "{}", other.said);
        let expected = if yaml == SILENT { "1035 " } else { "1020 " };
        assert!(other.said.starts_with(expected), "{}", other.said);
        assert_eq!(world.rules.snapshot(at(10.0)), saved, "the same state gives the same bytes");
    }
}

#[test]
fn a_reload_keeps_what_is_unchanged_and_ends_what_is_gone() {
    let mut world = World::new(SILENT);
    world.event(0.0, 0.0, "worker.heartbeat", &[("source", "w1")]);
    world.run(46.0);
    world.said.clear();
    let mut out = Effects::default();
    world.rules.reconfigure(compile(SILENT, 100).0, at(47.0), &mut out);
    world.log(47.0, out);
    world.check("");
    assert_eq!(world.rules.published().1.len(), 1);
    let mut out = Effects::default();
    world.rules.reconfigure(compile(BURST, 100).0, at(48.0), &mut out);
    assert_eq!(out.transitions.len(), 1);
    assert_eq!(out.transitions[0].change.to, AlertPhase::Inactive);
    assert!(out.samples.iter().any(|sample| sample.labels.metric_name() == "ALERTS" && sample.is_stale()));
    assert!(world.rules.published().1.is_empty());
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig { failure_persistence: None, cases: 64, ..Default::default() })]

    /// The window's count is exactly what a plain list of times says, whatever the order of arrival.
    #[test]
    fn counts_agree_with_a_plain_list(times in proptest::collection::vec(0_i64..200, 1..60)) {
        let mut world = World::new("alerts:\n  C: {event: {match: e, count: '>= 4', within: 20s}}\n");
        let mut seen: Vec<i64> = Vec::new();
        let mut now = 0;
        for time in times {
            now = now.max(time);
            world.run(now as f64);
            world.event(now as f64, (now - time) as f64, "e", &[]);
            if time > now - 20 {
                seen.push(time);
            }
            let expected = seen.iter().filter(|time| **time > now - 20).count() >= 4;
            let firing = world.rules.published().1.iter().any(|alert| alert.resolved_at.is_none());
            proptest::prop_assert_eq!(firing, expected, "at {}: {:?}", now, seen);
        }
    }
}
