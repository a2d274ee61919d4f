//! Objectives in virtual time, against numbers counted by hand.

use super::sums::{Pair, Sums};
use super::*;
use crate::model::{EventBatch, FieldPlan, Labels, Timestamp};
use crate::rules::schedule::{Effects, Rules, SourceHealth};
use crate::rules::short::Compiler;
use crate::rules::unit_test;
use crate::rules::{RuleFile, RuleSet, Settings, file};
use crate::source::decode::{DecodeLimits, Decoder, Framing};
use std::collections::BTreeMap;
use std::time::Duration;

/// 2026-11-21T00:00:00Z
const START_MS: i64 = 1_795_219_200_000;
const HOUR: i64 = 3_600;

fn compiled(slo: &str) -> (RuleSet, Arc<FieldPlan>, String) {
    let (mut found, mut plan, mut set) = (Diagnostics::new(), FieldPlanBuilder::default(), RuleSet::default());
    let yaml = format!("alerts:\n  Shop: {slo}\n");
    let read = file::read("a.yaml", &yaml, &mut found).unwrap_or_default();
    set.settings = Arc::new(Settings { alerts_per_rule: 100, pattern_keys: 100, ..Settings::default() });
    let metric_type = |name: &str| name.starts_with("own_").then_some(crate::series::MetricType::Counter);
    let mut compiler = Compiler { plan: &mut plan, metric_type: &metric_type, interval_ms: 1_000 };
    compiler.compile(&read.alerts, &"a.yaml".into(), &mut set, &mut found);
    (set, Arc::new(plan.build(1)), found.to_string())
}

struct World {
    rules: Rules,
    plan: Arc<FieldPlan>,
    decoder: Decoder,
    series: BTreeMap<String, f64>,
    storage: crate::promql::testing::TestStorage,
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(START_MS + seconds * 1_000)
}

const EVENTS: &str = "{slo: {good: {match: req, where: {data.ok: true}}, total: req, target: 99.9%}}";

impl World {
    fn new(slo: &str, now: i64) -> Self {
        let (set, plan, found) = compiled(slo);
        assert_eq!(found, "");
        let decoder = Decoder::compile(&Default::default(), DecodeLimits::default(), &mut Diagnostics::new()).unwrap();
        let rules = Rules::new(set, at(now));
        Self { rules, plan, decoder, series: BTreeMap::new(), storage: Default::default() }
    }

    /// Events that arrive now and happened at `time`.
    fn events(&mut self, now: i64, time: i64, good: usize, bad: usize) {
        let line = |ok: bool| {
            format!(
                "{{\"type\":\"req\",\"time\":\"{}\",\"specversion\":\"1.0\",\"id\":\"1\",\"source\":\"s\",\"data\":{{\"ok\":{ok}}}}}\n",
                at(time).rfc3339()
            )
        };
        let text = line(true).repeat(good) + &line(false).repeat(bad);
        let batch = self.decoder.decode(text.into_bytes(), Framing::Ndjson, &self.plan, &"in".into(), at(now));
        assert!(batch.refused.is_empty(), "{:?}", batch.refused);
        self.observe(now, &batch);
    }

    fn observe(&mut self, now: i64, batch: &EventBatch) {
        let mut out = Effects::default();
        self.rules.observe(at(now), batch, &self.storage, &mut out);
        self.take(out);
    }

    fn take(&mut self, out: Effects) {
        for sample in out.samples {
            let crate::series::SampleValue::Float(value) = sample.value else { continue };
            let point = crate::promql::testing::PointValue::Float(value);
            self.storage.add(&sample.labels, sample.t_ms, &point, 0);
            self.series.insert(sample.labels.to_string(), value);
        }
    }

    /// Lets time pass until `now` and evaluates the alerts there.
    fn run(&mut self, now: i64) {
        let mut out = Effects::default();
        self.rules.tick(at(now), &self.storage, &mut out);
        self.take(out);
        for job in self.rules.jobs_at(at(now)) {
            let result = job.run(&self.storage, &crate::promql::Options::default());
            let mut out = Effects::default();
            self.rules.apply(at(now), result, Duration::ZERO, &mut out);
            self.take(out);
        }
    }

    #[track_caller]
    fn check(&self, series: &str, expected: f64) {
        let value = self.series.get(series).unwrap_or_else(|| panic!("{series} is not in {:#?}", self.series));
        assert!((value - expected).abs() < 1e-9, "{series}: {value}, expected {expected}");
    }

    fn firing(&mut self) -> Vec<String> {
        let (_, alerts) = self.rules.published();
        let firing = alerts.iter().filter(|alert| alert.resolved_at.is_none());
        firing.map(|alert| alert.labels.get("burn").unwrap_or("").to_owned()).collect()
    }
}

fn named(metric: &str) -> String {
    Labels::from_pairs([("__name__", metric), ("slo", "Shop")]).to_string()
}

#[test]
fn ratios_budget_and_alerts_follow_the_events() {
    let mut world = World::new(EVENTS, 0);
    // A good day: 1,000 an hour.
    for hour in 0..24 {
        world.events(hour * HOUR, hour * HOUR, 1_000, 0);
    }
    // Then for ten minutes 2 % are bad: 20 times the budget of 0.1 %.
    for minute in 0..10 {
        let now = 24 * HOUR + minute * 60;
        world.events(now, now, 490, 10);
    }
    let now = 24 * HOUR + 599;
    world.run(now);
    world.check(&named("slo:sli_error:ratio_rate5m"), 0.02);
    // The hour before holds the 10 minutes only: 100 of 5,000, the thousand of 23:00 lies further back.
    world.check(&named("slo:sli_error:ratio_rate1h"), 0.02);
    // Six hours: 100 bad of 5,000 + 5 * 1,000 (the buckets of five minutes begin at the full hour).
    world.check(&named("slo:sli_error:ratio_rate6h"), 100.0 / 10_000.0);
    // All: 100 of 29,000 in the month, of an allowed share of 0.001.
    world.check(&named("sidewatch_slo_error_budget_remaining_ratio"), 1.0 - 100.0 / 29_000.0 / 0.001);
    world.check(&named("sidewatch_slo_objective_ratio"), 0.999);
    world.check(&named("sidewatch_slo_events_total"), 29_000.0);
    world.check(&named("sidewatch_slo_good_events_total"), 28_900.0);
    let rate = Labels::from_pairs([("__name__", "sidewatch_slo_burn_rate"), ("slo", "Shop"), ("window", "1h")]);
    world.check(&rate.to_string(), 20.0);
    assert_eq!(world.firing(), ["fast", "slow"]);
    // Forty calm minutes later both short windows of the urgent alert are clean.
    for minute in 10..50 {
        let now = 24 * HOUR + minute * 60;
        world.events(now, now, 500, 0);
    }
    world.run(24 * HOUR + 49 * 60);
    assert_eq!(world.firing(), ["slow"]);
}

#[test]
fn a_lost_source_neither_ends_nor_begins_anything() {
    let mut world = World::new(EVENTS, 0);
    world.events(0, 0, 900, 100);
    world.run(60);
    assert_eq!(world.firing(), ["fast", "slow"]);
    let mut out = Effects::default();
    world.rules.source_state(at(61), &"in".into(), SourceHealth::Lost { reason: "cut".into() }, &mut out);
    world.run(3 * HOUR);
    assert!(world.firing().contains(&"fast".to_owned()), "nobody heard that it is over");
    world.rules.source_state(at(3 * HOUR), &"in".into(), SourceHealth::Live, &mut out);
    // Now the silence counts: half an hour later nothing is bad any more.
    world.run(3 * HOUR + 35 * 60);
    assert!(!world.firing().contains(&"fast".to_owned()));
}

#[test]
fn sums_survive_a_restart_exactly() {
    let mut world = World::new(EVENTS, 0);
    for hour in 0..240 {
        world.events(hour * HOUR, hour * HOUR, 999, 1);
    }
    let saved = world.rules.snapshot(at(240 * HOUR));
    let mut other = World::new(EVENTS, 241 * HOUR);
    other.rules.restore(&saved, at(241 * HOUR)).unwrap();
    other.events(241 * HOUR, 241 * HOUR, 10, 0);
    other.run(241 * HOUR + 5);
    other.check(&named("sidewatch_slo_events_total"), 240_010.0);
    other.check(&named("sidewatch_slo_error_budget_remaining_ratio"), 1.0 - 240.0 / 240_010.0 / 0.001);
    assert!(saved.len() < 20_000, "{} bytes", saved.len());
}

#[test]
fn counters_are_added_up_through_resets_and_newcomers() {
    let mut world =
        World::new("{slo: {error: 'own_bad_total', total: {series: 'own_all_total{x=\"1\"}'}, target: 99%}}", 0);
    let at_value = |world: &mut World, second: i64, name: &str, instance: &str, value: f64| {
        let labels = Labels::from_pairs([("__name__", name), ("x", "1"), ("instance", instance)]);
        let point = crate::promql::testing::PointValue::Float(value);
        world.storage.add(&labels, START_MS + second * 1_000, &point, 0);
    };
    for (second, all, bad) in [(0, 1_000.0, 10.0), (10, 1_100.0, 11.0), (20, 50.0, 2.0)] {
        at_value(&mut world, second, "own_all_total", "a", all);
        at_value(&mut world, second, "own_bad_total", "a", bad);
        if second == 20 {
            at_value(&mut world, second, "own_all_total", "b", 7.0);
        }
        world.run(second);
    }
    world.run(31);
    // What was counted before the first look is not ours: +100, then a reset to 50, then a new one of 7.
    world.check(&named("sidewatch_slo_events_total"), 157.0);
    world.check(&named("sidewatch_slo_good_events_total"), 154.0);
    world.check(&named("slo:sli_error:ratio_rate5m"), 3.0 / 157.0);
}

#[test]
fn windows_scale_with_the_window_of_the_budget() {
    let (set, _, found) = compiled("{slo: {good: a, total: b, target: 99%, window: 7d}}");
    assert_eq!(found, "");
    let windows: Vec<String> = set.slos[0].windows_ms().into_iter().map(format_duration_ms).collect();
    assert_eq!(windows, ["1m10s", "7m", "14m", "28m", "1h24m", "5h36m", "16h48m"]);
    let group = &set.groups[0];
    assert_eq!(&*group.name, "slo");
    let rules: Vec<String> = group.rules.iter().map(|rule| rule.expression.text().to_owned()).collect();
    assert_eq!(
        rules[0],
        "(slo:sli_error:ratio_rate14m{slo=\"Shop\"} > (14.4 * 0.01) and slo:sli_error:ratio_rate1m10s{slo=\"Shop\"} > (14.4 * 0.01)) or (slo:sli_error:ratio_rate1h24m{slo=\"Shop\"} > (6 * 0.01) and slo:sli_error:ratio_rate7m{slo=\"Shop\"} > (6 * 0.01))"
    );
    assert_eq!(rules.len(), 2);
}

#[test]
fn what_makes_no_sense_is_said_with_its_place() {
    for (slo, part) in [
        ("{slo: {good: a, total: b, target: 100%}}", "leaves no error budget"),
        ("{slo: {good: a, total: b, target: 99.9}}", "write 99.9%"),
        ("{slo: {good: a, total: b, target: x}}", "is not a share"),
        ("{slo: {good: a, total: b, target: 99%, window: 30m}}", "at least 1h"),
        ("{slo: {good: a, total: b, target: 99%, windw: 30d}}", "did you mean \"window\""),
        ("{slo: {good: a, total: b_total, target: 99%}}", "must both be"),
        ("{slo: {good: 'rate(a_total[5m]) + b{}', total: b_total, target: 99%}}", "more than a selector"),
        ("{slo: {good: a_total, total: 'b_total{', target: 99%}}", "could not parse selector"),
        ("{slo: {total: b, target: 99%}}", "exactly one of"),
        ("{slo: {good: a, total: b, target: 90%}}", "14.4 times faster"),
    ] {
        let (_, _, found) = compiled(slo);
        assert!(found.contains(part), "{slo}: {found}");
        assert!(found.starts_with("a.yaml:2:"), "{slo}: {found}");
    }
}

#[test]
fn the_exported_rules_pass_their_exported_tests() {
    for slo in [
        EVENTS,
        "{slo: {error: a, total: b, target: 99.95%, window: 7d}, severity: page, for: 1m, labels: {team: shop}}",
        "{slo: {good: 'http_requests_total{code=\"200\"}', total: 'http_all_total', target: 99%}}",
        "{slo: {error: 'http_requests_total{code=~\"5..\"}', total: http_requests_total, target: 99.9%, window: 1d}}",
    ] {
        let (set, _, found) = compiled(slo);
        assert_eq!(found, "");
        let (rules, tests) = (rules_yaml(&set), tests_yaml(&set));
        let files = |_: &str| vec![RuleFile { name: "slo.rules.yaml".into(), text: rules.as_str().into() }];
        let mut found = Diagnostics::new();
        let report = unit_test::run("slo.test.yaml", &tests, &files, &mut found);
        assert_eq!(found.to_string(), "", "{rules}\n{tests}");
        assert!(report.passed() && !report.tests.is_empty(), "{report}\n{rules}\n{tests}");
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig { failure_persistence: None, cases: 64, ..Default::default() })]

    /// A window's sum lies between those of a plain list for the window and for one that is a bucket longer.
    #[test]
    fn sums_agree_with_a_plain_list(
        times in proptest::collection::vec(0_i64..200_000, 1..80),
        window_s in proptest::sample::select(vec![60_i64, 300, 3_600, 21_600, 86_400, 259_200]),
    ) {
        let mut sums = Sums::new(30 * 24 * 3_600_000_000);
        let mut newest = 0;
        for time in &times {
            newest = newest.max(*time);
            sums.add(time * 1_000_000, Pair { part: 1.0, total: 2.0 });
        }
        let bucket_s = if window_s <= 3_600 { 10 } else if window_s <= 21_600 { 300 } else { 3_600 };
        let plain = |window_s: i64| times.iter().filter(|time| **time > newest - window_s).count() as f64;
        let got = sums.within(newest * 1_000_000, window_s * 1_000_000);
        proptest::prop_assert!(got.part >= plain(window_s) && got.part <= plain(window_s + bucket_s + 1));
        proptest::prop_assert_eq!(got.total, got.part * 2.0);
        let mut other = Sums::new(30 * 24 * 3_600_000_000);
        other.restore(sums.saved());
        proptest::prop_assert_eq!(other, sums);
    }
}
