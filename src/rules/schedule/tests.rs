//! Slots, reactive evaluation, reload, restart, driven as the engine drives them.

mod specification;

use super::*;
use crate::config::Diagnostics;
use crate::promql::Options;
use crate::promql::testing::{PointValue, TestStorage};
use crate::rules::describe::RuleView;
use crate::rules::rule::Settings;
use crate::rules::{EvalKind, file};
use crate::series::SampleValue;

/// 2026-11-21T00:00:00Z
const START_MS: i64 = 1_795_219_200_000;

fn at(ms: i64) -> Timestamp {
    Timestamp::from_millis(START_MS + ms)
}

fn set(yaml: &str) -> RuleSet {
    let mut found = Diagnostics::new();
    let read = file::read("r.yaml", yaml, &mut found).unwrap();
    let groups = read.compile(1_000, &mut found).into_iter().map(Arc::new).collect();
    assert_eq!(found.to_string(), "");
    let settings = Settings {
        external_labels: Labels::from_pairs([("dc", "eu")]),
        external_url: "http://sw:9180".into(),
        alerts_per_rule: 100,
        pattern_keys: 100,
        reactive: true,
    };
    RuleSet { groups, settings: Arc::new(settings), ..RuleSet::default() }
}

#[test]
fn a_group_whose_evaluation_hangs_is_overdue_and_one_in_time_is_not() {
    let mut rules = Rules::new(set("groups: [{name: g, interval: 2s, rules: [{alert: A, expr: up == 0}]}]"), at(0));
    let job = rules.due(at(0)).remove(0);
    assert_eq!(rules.overdue(at(10_000)), None, "slow, but not hanging");
    let said = rules.overdue(at(15_000)).unwrap();
    assert!(said.starts_with("the group g of r.yaml is 1") && said.ends_with("s late"), "{said}");
    let result = job.run(&TestStorage::default(), &Options::default());
    rules.apply(at(15_000), result, Duration::ZERO, &mut Effects::default());
    let job = rules.due(at(15_000)).remove(0);
    assert_eq!(rules.overdue(at(15_000)), None);
    rules.lost(job.ticket());
    assert_eq!(rules.overdue(at(16_000)), None);
}

struct World {
    rules: Rules,
    storage: TestStorage,
    said: String,
}

impl World {
    fn new(yaml: &str) -> Self {
        Self { rules: Rules::new(set(yaml), at(0)), storage: TestStorage::default(), said: String::new() }
    }

    fn put(&mut self, ms: i64, name: &str, value: f64) {
        self.storage.add(&Labels::from_pairs([("__name__", name)]), START_MS + ms, &PointValue::Float(value), 0);
    }

    /// Runs what is due at a moment; returns how many jobs of each kind ran.
    fn turn(&mut self, ms: i64) -> (usize, usize) {
        let mut ran = (0, 0);
        for job in self.rules.due(at(ms)) {
            match job.kind() {
                EvalKind::Interval => ran.0 += 1,
                EvalKind::Reactive => ran.1 += 1,
            }
            let result = job.run(&self.storage, &Options::default());
            let mut out = Effects::default();
            self.rules.apply(at(ms), result, Duration::ZERO, &mut out);
            self.take(ms, out);
        }
        ran
    }

    fn take(&mut self, ms: i64, out: Effects) {
        for sample in out.samples {
            let SampleValue::Float(value) = sample.value else { continue };
            self.storage.add(&sample.labels, sample.t_ms, &PointValue::Float(value), 0);
        }
        for change in out.transitions {
            let change = change.change;
            self.said += &format!("{ms} {}->{} {:?};", change.from.name(), change.to.name(), change.reason);
        }
        for (group, rule, error) in out.failures {
            self.said += &format!("{ms} {group} {rule} {error:?};");
        }
    }

    fn run(&mut self, until_ms: i64) {
        while let Some(due) = self.rules.next_due().filter(|due| *due <= at(until_ms)) {
            self.turn(due.millis_since(at(0)));
        }
    }

    #[track_caller]
    fn check(&mut self, expected: &str) {
        assert_eq!(std::mem::take(&mut self.said), expected);
    }
}

const HIGH: &str = "groups:
- name: g
  interval: 10s
  rules:
  - record: doubled
    expr: x * 2
  - alert: High
    expr: doubled > 10
    for: 15s
    annotations: {summary: 'is {{ $value }}'}
";

#[test]
fn a_pass_sees_what_it_records_and_slots_are_aligned() {
    let mut world = World::new(HIGH);
    assert!(!world.rules.all_evaluated_once());
    world.put(-1, "x", 6.0);
    assert_eq!(world.turn(0), (1, 0), "the first evaluation is at once");
    assert!(world.rules.all_evaluated_once());
    world.check("0 inactive->pending ConditionHolds;");
    let slot = world.rules.next_due().unwrap();
    let group = &world.rules.set().groups[0];
    assert_eq!(slot.millis().rem_euclid(10_000), group.slot_offset_ms());
    world.run(14_999);
    world.check("");
    world.run(15_000);
    world.check("15000 pending->firing HeldLongEnough;");
    let (version, alerts) = world.rules.published();
    assert_eq!(alerts[0].labels.to_string(), r#"{alertname="High", dc="eu"}"#);
    assert_eq!(alerts[0].annotations.get("summary"), Some("is 12"));
    assert_eq!(alerts[0].generator_url, "http://sw:9180/graph?g0.expr=doubled+%3E+10&g0.tab=1");
    world.run(40_000);
    assert_eq!(world.rules.published().0, version, "nothing changed");
    world.put(41_000, "x", 1.0);
    world.run(60_000);
    assert!(world.said.ends_with("firing->inactive ConditionEnded;"), "{}", world.said);
    assert!(world.rules.published().1[0].resolved_at.is_some());
    assert_eq!(world.rules.counters().missed, 0);
}

#[test]
fn late_slots_are_counted_and_not_caught_up() {
    let mut world = World::new(HIGH);
    world.turn(0);
    let first = world.rules.next_due().unwrap().millis_since(at(0));
    assert_eq!(world.turn(first + 35_000), (1, 0));
    assert_eq!(world.rules.counters().missed, 3);
    let timing = world.rules.timing().next().unwrap();
    assert_eq!((timing.missed, timing.lag_ms, timing.interval_ms), (3, 5_000, 10_000));
    let jobs = world.rules.due(at(first + 40_000));
    assert_eq!(jobs.len(), 1);
    assert!(world.rules.due(at(first + 60_000)).is_empty(), "the group is in flight");
    world.rules.lost(jobs[0].ticket());
    assert_eq!(world.rules.due(at(first + 60_000)).len(), 1);
}

const FAST: &str = "groups:
- {name: g, interval: 1m, rules: [{alert: Any, expr: x > 0}]}
";

#[test]
fn a_changed_input_raises_within_milliseconds_and_never_ends() {
    let mut world = World::new(FAST);
    world.turn(0);
    world.put(1_000, "x", 1.0);
    world.rules.metrics_changed(at(1_000), &mut ["y", "x"].into_iter());
    assert_eq!(world.rules.next_due(), Some(at(1_000)), "the leading edge is at once");
    world.run(1_000);
    world.check("1000 inactive->firing HeldLongEnough;");
    // The trailing edge waits for the minimal interval.
    world.put(1_010, "x", 0.0);
    world.rules.metrics_changed(at(1_010), &mut ["x"].into_iter());
    world.rules.metrics_changed(at(1_020), &mut ["x"].into_iter());
    assert_eq!(world.rules.next_due(), Some(at(1_050)));
    assert_eq!(world.turn(1_050), (0, 1));
    world.check("");
    assert!(world.rules.published().1[0].resolved_at.is_none());
    world.run(61_000);
    assert!(world.said.ends_with("firing->inactive ConditionEnded;"), "{}", world.said);
}

#[test]
fn reactive_work_is_held_to_its_budget() {
    let mut world = World::new(FAST);
    world.turn(0);
    let mut allowed = 0;
    for turn in 1..=100 {
        let now = 1_000 + turn * 100;
        world.put(now, "x", 0.0);
        world.rules.metrics_changed(at(now), &mut ["x"].into_iter());
        for job in world.rules.due(at(now)) {
            allowed += usize::from(job.kind() == EvalKind::Reactive);
            let result = job.run(&world.storage, &Options::default());
            world.rules.apply(at(now), result, Duration::from_millis(10), &mut Effects::default());
        }
    }
    // 100 ms saved up and 10 ms each second, at 10 ms an evaluation.
    assert!((18..=24).contains(&allowed), "{allowed}");
    assert!(world.rules.counters().reactive_over_budget > 70);
}

#[test]
fn failures_are_said_once_and_counted() {
    let mut world =
        World::new("groups:\n- {name: g, interval: 10s, limit: 1, rules: [{record: r, expr: 'x + on () y'}]}\n");
    for name in ["a", "b"] {
        let labels = Labels::from_pairs([("__name__", "y"), ("l", name)]);
        world.storage.add(&labels, START_MS, &PointValue::Float(1.0), 0);
    }
    world.put(0, "x", 1.0);
    world.run(30_000);
    assert_eq!(world.said.matches("Some(").count(), 1, "{}", world.said);
    assert!(world.rules.counters().failures["r.yaml;g"] >= 3);
    let RuleView::Recording(rule) = &world.rules.describe().groups[0].rules[0] else { panic!() };
    assert_eq!(rule.health, "err");
}

#[test]
fn a_reload_carries_alerts_over_and_ends_those_of_rules_that_are_gone() {
    let mut world = World::new(FAST);
    world.put(-1, "x", 1.0);
    world.turn(0);
    world.said.clear();
    let old_job = {
        world.run(59_000);
        world.rules.due(at(120_000))
    };
    let mut out = Effects::default();
    let edited = FAST.replace("1m", "30s").replace("rules: [", "rules: [{record: new, expr: x}, ");
    world.rules.reconfigure(set(&edited), at(120_001), &mut out);
    assert!(out.transitions.is_empty());
    assert_eq!(world.rules.published().1.len(), 1);
    let result = old_job[0].run(&world.storage, &Options::default());
    world.rules.apply(at(120_002), result, Duration::ZERO, &mut Effects::default());
    assert_eq!(world.rules.counters().outdated, 1);
    let mut out = Effects::default();
    world.rules.reconfigure(set("groups: []"), at(120_003), &mut out);
    assert_eq!(out.transitions[0].change.reason, crate::rules::Reason::RuleRemoved);
    assert!(out.samples.iter().all(RecordedSample::is_stale));
    assert!(world.rules.published().1.is_empty());
}

#[test]
fn a_restart_neither_counts_downtime_nor_ends_alerts_before_it_has_heard_anything() {
    let mut world = World::new(HIGH);
    world.put(-1, "x", 6.0);
    world.run(10_000);
    let saved = world.rules.snapshot(at(10_000));
    // An hour later: 10 of 15 seconds of `for` have passed.
    let mut world = World::new(HIGH);
    world.rules = Rules::new(set(HIGH), at(3_600_000));
    world.rules.restore(&saved, at(3_600_000)).unwrap();
    world.put(3_599_000, "x", 6.0);
    world.run(3_604_999);
    world.check("");
    world.run(3_605_000);
    world.check("3605000 pending->firing HeldLongEnough;");
    let saved = world.rules.snapshot(at(3_606_000));
    // Nothing is known yet after the next start: the first evaluation ends nothing, the second does.
    let mut world = World::new(HIGH);
    world.rules = Rules::new(set(HIGH), at(7_200_000));
    world.rules.restore(&saved, at(7_200_000)).unwrap();
    assert_eq!(world.rules.published().1.len(), 1);
    world.turn(7_200_000);
    world.check("");
    world.run(7_211_000);
    assert!(world.said.ends_with("firing->inactive ConditionEnded;"), "{}", world.said);
    assert!(matches!(world.rules.restore(&[99], at(0)), Err(crate::rules::snapshot::SnapshotError::Version(99))));
    assert!(world.rules.restore(&[1, 2, 3], at(0)).is_err());
}

#[test]
fn the_api_says_what_prometheus_says() {
    let mut world = World::new(HIGH);
    world.put(-1, "x", 47.9);
    world.turn(0);
    let json = serde_json::to_value(world.rules.describe()).unwrap();
    let group = &json["groups"][0];
    assert_eq!((&group["name"], &group["file"], &group["interval"]), (&"g".into(), &"r.yaml".into(), &10.0.into()));
    assert_eq!(group["lastEvaluation"], "2026-11-21T00:00:00Z");
    let (record, alert) = (&group["rules"][0], &group["rules"][1]);
    assert_eq!(
        (&record["type"], &record["name"], &record["query"]),
        (&"recording".into(), &"doubled".into(), &"x * 2".into())
    );
    assert_eq!(alert["type"], "alerting");
    assert_eq!(
        (&alert["state"], &alert["duration"], &alert["keepFiringFor"]),
        (&"pending".into(), &15.0.into(), &0.0.into())
    );
    assert_eq!(alert["annotations"]["summary"], "is {{ $value }}");
    assert_eq!(alert["health"], "ok");
    assert_eq!(
        alert["alerts"][0].to_string(),
        r#"{"labels":{"alertname":"High"},"annotations":{"summary":"is 95.8"},"state":"pending","activeAt":"2026-11-21T00:00:00Z","value":"9.58e+01"}"#
    );
    assert_eq!(serde_json::to_value(world.rules.describe_alerts()).unwrap()["alerts"][0], alert["alerts"][0]);
}
