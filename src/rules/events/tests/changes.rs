//! rate_change, first_seen and gap, against numbers counted by hand and against plain models.

use super::*;
use std::collections::BTreeSet;

impl World {
    fn events(&mut self, arrives: f64, late: f64, event_type: &str, times: usize) {
        for _ in 0..times {
            self.event(arrives, late, event_type, &[]);
        }
    }

    fn numbers(&mut self, at: f64, numbers: impl IntoIterator<Item = i64>) {
        for number in numbers {
            self.event(at, 0.0, "v", &[("data.n", &number.to_string())]);
        }
    }

    /// The changes so far as `second from->to summary`.
    fn changes(&mut self) -> Vec<String> {
        let said = std::mem::take(&mut self.said);
        said.lines()
            .map(|line| {
                let (second, rest) = line.split_once(' ').unwrap();
                format!("{second} {}", rest.split_once("} ").unwrap().1)
            })
            .collect()
    }

    fn restart(&mut self, yaml: &str, saved_at: f64, restored_at: f64) {
        let saved = self.rules.snapshot(at(saved_at));
        self.rules = Rules::new(compile(yaml, 100).0, at(restored_at));
        self.rules.restore(&saved, at(restored_at)).unwrap();
    }
}

const RATE: &str = "alerts:
  Odd:
    event: {rate_change: order, within: 10s, baseline: 200s, min_samples: 6, floor: 2, lateness: 1s}
    annotations: {summary: '{{ $event.condition.count }} of {{ $event.condition.expected }}, {{ printf \"%.3f\" $value }}'}
";

/// Windows of 10 s with 10, 12, 8, 10, 12, 8, ... events; the first one begins at 0.
fn usual(world: &mut World, windows: std::ops::Range<i64>) {
    for window in windows {
        let second = (window * 10) as f64;
        world.run(second + 2.0);
        world.events(second + 5.0, 0.0, "order", [10, 12, 8][(window % 3) as usize]);
    }
}

#[test]
fn far_fewer_than_usual_fires_when_the_window_is_over() {
    let mut world = World::new(RATE);
    usual(&mut world, 0..9);
    // The first window is not heard in full: the others are 12 8 10 12 8 10 12 8, median 10, MAD 2, deviation 2.9652.
    world.events(95.0, 0.0, "order", 10);
    world.events(105.0, 0.0, "order", 0);
    world.run(110.5);
    world.check("");
    // The ninth has 10 as usual; the tenth is empty: (0 - 10) / 2.9652 = -3.37 is within the threshold of 3.5.
    world.run(111.5);
    world.check("");
    let tight = RATE.replace("floor: 2", "floor: 2, threshold: 3");
    let mut world = World::new(&tight);
    usual(&mut world, 0..9);
    world.events(95.0, 0.0, "order", 10);
    world.run(110.9);
    world.check("");
    world.run(111.5);
    assert_eq!(world.changes(), ["111 inactive->firing 0 of 10, -3.372"]);
    // As usual again: it ends when that window is over.
    world.events(115.0, 0.0, "order", 11);
    world.run(120.9);
    world.check("");
    world.run(122.0);
    assert_eq!(world.changes(), ["121 firing->inactive 0 of 10, -3.372"]);
}

#[test]
fn far_more_than_usual_fires_at_once() {
    let mut world = World::new(RATE);
    usual(&mut world, 0..9);
    world.run(92.0);
    // 10 + 3.5 * 2.9652 = 20.4: the 21st event is too many.
    world.events(93.0, 0.0, "order", 20);
    world.check("");
    world.events(93.0, 0.0, "order", 1);
    assert_eq!(world.changes(), ["93 inactive->firing 21 of 10, 3.710"]);
    world.events(104.0, 0.0, "order", 10);
    world.run(110.5);
    world.check("");
    world.run(111.5);
    assert_eq!(world.changes(), ["111 firing->inactive 21 of 10, 3.710"]);
}

#[test]
fn a_constant_stream_does_not_alert_on_noise_and_a_change_that_stays_becomes_usual() {
    let mut world =
        World::new("alerts:\n  Odd: {event: {rate_change: order, within: 10s, baseline: 100s, min_samples: 6}}\n");
    for window in 0..12 {
        world.run(f64::from(window * 10));
        world.events(f64::from(window * 10) + 5.0, 0.0, "order", 100);
    }
    // The MAD is 0; ten percent of the median are assumed: 34 less or more are within 3.5 deviations.
    for (window, count) in [(12, 66), (13, 134)].into_iter().chain((14..25).map(|window| (window, 100))) {
        world.events(f64::from(window * 10) + 5.0, 0.0, "order", count);
        world.run(f64::from(window * 10) + 10.0);
    }
    world.check("");
    // Now it doubles and stays so: after half of the baseline that is usual.
    for window in 25..40 {
        world.run(f64::from(window * 10));
        world.events(f64::from(window * 10) + 5.0, 0.0, "order", 200);
    }
    let changes = world.changes();
    assert_eq!(changes.len(), 2, "{changes:?}");
    assert!(changes[0].starts_with("255 inactive->firing"), "{changes:?}");
    assert!(changes[1].starts_with("315 firing->inactive"), "{changes:?}");
}

#[test]
fn late_events_belong_to_their_window() {
    let tight = RATE.replace("floor: 2", "floor: 2, threshold: 3");
    let mut world = World::new(&tight);
    usual(&mut world, 0..9);
    // The window from 90 to 100 gets its events within the lateness of a second.
    world.events(100.8, 2.0, "order", 10);
    world.run(105.0);
    world.check("");
}

#[test]
fn what_nobody_heard_is_no_change() {
    let tight = RATE.replace("floor: 2", "floor: 2, threshold: 3");
    for restart in [false, true] {
        let mut world = World::new(&tight);
        usual(&mut world, 0..9);
        if restart {
            world.restart(&tight, 91.0, 141.0);
        } else {
            world.source(91.0, SourceHealth::Lost { reason: "cut".into() });
            world.run(141.0);
            world.source(141.0, SourceHealth::Live);
        }
        world.said.clear();
        // Half of the window of 140 was not heard; the next ones are as usual.
        for window in 14..20 {
            world.events(f64::from(window * 10) + 5.0, 0.0, "order", if window == 14 { 3 } else { 10 });
            world.run(f64::from(window * 10) + 12.0);
        }
        world.check("");
        // And real silence is still found.
        world.run(212.0);
        assert_eq!(world.changes().len(), 1, "restart {restart}");
    }
}

const NEW: &str = "alerts:
  New:
    event: {first_seen: data.code, match: '*.failed', by: data.region, for: 1h, learn: 60s, within: 5m}
    annotations: {summary: '{{ $labels.code }} in {{ $labels.region }} for {{ $event.subject }}{{ $event.data.order }}'}
";

#[test]
fn a_value_that_was_never_seen_fires_once() {
    let mut world = World::new(NEW);
    let failed = |world: &mut World, second: f64, code: &str, region: &str| {
        world.run(second);
        world.event(second, 0.0, "pay.failed", &[("data.code", code), ("data.region", region), ("data.order", "o1")]);
    };
    failed(&mut world, 0.0, "E1", "eu");
    failed(&mut world, 30.0, "E2", "eu");
    world.check("");
    failed(&mut world, 100.0, "E1", "eu");
    failed(&mut world, 110.0, "E1", "us");
    failed(&mut world, 120.0, "E3", "eu");
    failed(&mut world, 130.0, "E3", "eu");
    world.check(
        r#"110 {alertname="New", code="E1", region="us"} inactive->firing E1 in us for o1
120 {alertname="New", code="E3", region="eu"} inactive->firing E3 in eu for o1"#,
    );
    world.run(430.0);
    world.check(
        r#"410 {alertname="New", code="E1", region="us"} firing->inactive E1 in us for o1
420 {alertname="New", code="E3", region="eu"} firing->inactive E3 in eu for o1"#,
    );
    // Known for an hour after it was seen last, through a restart; then new again.
    world.restart(NEW, 430.0, 2_000.0);
    failed(&mut world, 2_100.0, "E3", "eu");
    world.check("");
    failed(&mut world, 5_600.0, "E3", "eu");
    world.check("");
    failed(&mut world, 9_300.0, "E3", "eu");
    world.check(r#"9300 {alertname="New", code="E3", region="eu"} inactive->firing E3 in eu for o1"#);
    // Without the value there is nothing to see.
    world.event(9_301.0, 0.0, "pay.failed", &[("data.region", "eu")]);
    assert_eq!(world.rules.event_counters()[0].1.without_key, 1);
}

#[test]
fn remembered_values_are_bounded_and_counted() {
    let (set, plan) = compile(NEW, 3);
    let mut world =
        World { rules: Rules::new(set, at(0.0)), plan, said: String::new(), storage: TestStorage::default() };
    for (second, code) in ["a", "b", "c", "d", "e"].into_iter().enumerate() {
        world.event(second as f64, 0.0, "x.failed", &[("data.code", code), ("data.region", "eu")]);
    }
    assert_eq!(world.rules.event_counters()[0].1.keys_evicted, 2);
    world.event(100.0, 0.0, "x.failed", &[("data.code", "e"), ("data.region", "eu")]);
    world.check("");
    world.event(101.0, 0.0, "x.failed", &[("data.code", "a"), ("data.region", "eu")]);
    assert_eq!(world.changes().len(), 1, "forgotten, so new");
}

const GAP: &str = "alerts:
  Hole:
    event: {gap: data.n, match: v, within: 10s}
    annotations: {summary: '{{ $value }}: {{ $event.condition.first }}-{{ $event.condition.last }}'}
";

#[test]
fn a_hole_fires_after_its_tolerance_and_ends_when_it_is_filled() {
    let mut world = World::new(GAP);
    world.numbers(0.0, [5, 6, 9, 10]);
    world.run(9.0);
    world.check("");
    world.run(11.0);
    assert_eq!(world.changes(), ["10 inactive->firing 2: 7-8"]);
    // Too late for the tolerance, and it counts all the same.
    world.numbers(20.0, [8]);
    world.numbers(21.0, [7]);
    assert_eq!(world.changes(), ["21 firing->inactive 1: 7-7"]);
    // Out of order within the tolerance is no gap, and neither is what comes twice.
    world.numbers(30.0, [14, 12, 11, 13, 12, 10, 14]);
    world.run(100.0);
    world.check("");
    assert_eq!(world.rules.event_counters()[0].1.duplicates, 3);
    // One that never comes ends after an hour.
    world.numbers(100.0, [16]);
    world.run(4_000.0);
    assert_eq!(world.changes(), ["110 inactive->firing 1: 15-15", "3710 firing->inactive 1: 15-15"]);
    world.event(4_001.0, 0.0, "v", &[("data.n", "seven")]);
    assert_eq!(world.rules.event_counters()[0].1.without_number, 1);
}

#[test]
fn a_new_beginning_is_no_hole() {
    let mut world = World::new(GAP);
    world.numbers(0.0, [100, 102]);
    world.run(11.0);
    assert_eq!(world.changes(), ["10 inactive->firing 1: 101-101"]);
    // The service began anew at 1: what was missing cannot come any more.
    for (second, number) in [(20.0, 1), (21.0, 2), (22.0, 3)] {
        world.numbers(second, [number]);
    }
    assert_eq!(world.changes(), ["21 firing->inactive 1: 101-101"]);
    assert_eq!(world.rules.event_counters()[0].1.resets, 1);
    world.numbers(23.0, [5]);
    world.run(40.0);
    assert_eq!(world.changes(), ["33 inactive->firing 1: 4-4"]);
    // Redelivered events look like a new beginning until the old count goes on.
    let mut world = World::new(GAP);
    for (second, number) in [(0.0, 100), (1.0, 97), (2.0, 98), (3.0, 99), (4.0, 100), (5.0, 101), (6.0, 102)] {
        world.numbers(second, [number]);
    }
    world.run(60.0);
    world.check("");
}

#[test]
fn numbers_survive_a_restart_and_an_outage_is_no_hole() {
    let mut world = World::new(GAP);
    world.numbers(0.0, [1, 2, 3]);
    world.restart(GAP, 1.0, 500.0);
    // The transport delivers what came meanwhile: what is missing then is missing.
    world.numbers(501.0, [6]);
    world.run(520.0);
    assert_eq!(world.changes(), ["511 inactive->firing 2: 4-5"]);
    // A source that comes back without catching up has lost what was sent meanwhile.
    world.numbers(521.0, [4, 5]);
    world.source(522.0, SourceHealth::Lost { reason: "cut".into() });
    world.source(530.0, SourceHealth::Live);
    world.said.clear();
    world.numbers(531.0, [10, 11]);
    world.run(560.0);
    world.check("");
    // One that catches up delivers everything.
    world.source(561.0, SourceHealth::Lost { reason: "cut".into() });
    world.source(562.0, SourceHealth::CatchingUp);
    world.numbers(563.0, [13]);
    world.run(600.0);
    world.source(600.0, SourceHealth::Live);
    world.said.clear();
    world.run(700.0);
    assert_eq!(world.changes().len(), 1);
}

#[test]
fn a_reload_in_the_middle_of_catching_up_misses_nothing() {
    let mut world = World::new(GAP);
    world.numbers(0.0, [1, 2, 3]);
    world.source(1.0, SourceHealth::Lost { reason: "cut".into() });
    world.source(2.0, SourceHealth::CatchingUp);
    world.numbers(3.0, [5]);
    world.rules.reconfigure(compile(GAP, 100).0, at(4.0), &mut Effects::default());
    world.source(5.0, SourceHealth::Live);
    world.said.clear();
    world.run(60.0);
    assert_eq!(world.changes().len(), 1, "4 is missing, for all was delivered");
}

#[test]
fn only_the_named_source_counts_and_pauses() {
    let yaml = "alerts:\n  Here: {event: {absent: beat, within: 30s, source: orders}}\n  There: {event: {absent: beat, within: 30s, source: other}}\n";
    let mut world = World::new(yaml);
    world.event(5.0, 0.0, "beat", &[]);
    // `orders` is lost: only the one that depends on it is paused.
    world.source(6.0, SourceHealth::Lost { reason: "cut".into() });
    world.said.clear();
    world.run(100.0);
    world.check(r#"30 {alertname="There"} inactive->firing No beat for 30s"#);
}

#[test]
fn messages_may_query_and_show_the_first_event() {
    let yaml = "alerts:
  Slow:
    event: {sequence: [a, b], by: data.k, within: 10s, missing: last}
    annotations: {summary: '{{ $event.first.data.who }} {{ $event.data.who }}{{ range query \"stock\" }} {{ .Labels.item }}={{ .Value }}{{ end }}'}
";
    let mut world = World::new(yaml);
    let labels = crate::model::Labels::from_pairs([("__name__", "stock"), ("item", "tea")]);
    world.storage.add(&labels, START_MS, &crate::promql::testing::PointValue::Float(3.0), 0);
    world.event(0.0, 0.0, "a", &[("data.k", "1"), ("data.who", "ann")]);
    world.event(1.0, 0.0, "a", &[("data.k", "1"), ("data.who", "bob")]);
    world.run(20.0);
    world.check(r#"10 {alertname="Slow", k="1"} inactive->firing ann bob tea=3"#);
}

#[test]
fn a_sequence_is_found_whatever_the_order_of_arrival() {
    let yaml = "alerts:\n  Chain: {event: {sequence: [a, b, c], by: data.k, within: 10s}}\n  Stuck: {event: {sequence: [a, b, d], by: data.k, within: 10s, missing: last}}\n";
    let mut world = World::new(yaml);
    // c at 3, then b at 2, then a at 1, all by their own times.
    for (arrives, late, name) in [(4.0, 1.0, "c"), (4.1, 2.1, "b"), (4.2, 3.2, "a")] {
        world.event(arrives, late, name, &[("data.k", "x")]);
    }
    assert_eq!(world.changes(), ["4.2 inactive->firing a, then b, then c happened within 10s for k x"]);
    // The clocks stood at 3 and 2 when 4 and 4.1 had come.
    world.run(15.0);
    let mut changes = world.changes();
    changes.sort();
    assert_eq!(
        changes,
        [
            "14 firing->inactive a, then b, then c happened within 10s for k x",
            "14.1 inactive->firing d is missing after a, b for k x"
        ]
    );
    // A later beginning counts when the first one is too long ago.
    let mut world = World::new("alerts:\n  Two: {event: {sequence: [a, b], by: data.k, within: 10s}}\n");
    for (second, name) in [(0.0, "a"), (9.0, "a"), (12.0, "b")] {
        world.event(second, 0.0, name, &[("data.k", "x")]);
    }
    assert_eq!(world.changes(), ["12 inactive->firing a, then b happened within 10s for k x"]);
}

#[test]
fn every_comparison_of_a_count_holds_as_it_says() {
    for (count, expected) in
        [("> 2", [3, 4]), (">= 3", [3, 4]), ("== 3", [3, 3]), ("!= 2", [3, 4]), ("< 2", [0, 1]), ("<= 1", [0, 1])]
    {
        let yaml = format!("alerts:\n  C: {{event: {{match: e, count: '{count}', within: 100s, by: data.k}}}}\n");
        let mut world = World::new(&yaml);
        // Another key keeps the rule's clock: a whole window of listening comes first.
        let mut holds = Vec::new();
        world.event(0.0, 0.0, "e", &[("data.k", "x")]);
        for number in 0_i64..=4 {
            let second = 200.0 + number as f64 * 0.5;
            world.run(second);
            if number > 0 {
                world.event(second, 0.0, "e", &[("data.k", "x")]);
            }
            let firing = world.rules.published().1.iter().any(|alert| alert.resolved_at.is_none());
            if firing {
                holds.push(number);
            }
        }
        let least = holds.first().copied();
        // `!=` holds for none and one as well.
        let expected = if count == "!= 2" { [0, 4] } else { expected };
        assert_eq!((least, holds.last().copied()), (Some(expected[0]), Some(expected[1])), "{count}: {holds:?}");
    }
}

#[test]
fn a_window_of_many_events_is_counted_in_full() {
    let mut world = World::new("alerts:\n  Many: {event: {match: e, count: '>= 20000', within: 100s}}\n");
    for second in 0..100 {
        for part in 0..200 {
            world.event(f64::from(second) + f64::from(part) * 0.005, 0.0, "e", &[]);
        }
    }
    let changes = world.changes();
    assert_eq!(changes, ["99.995 inactive->firing 20000 x e within 1m40s"]);
    world.run(101.0);
    // The oldest leave; shared times leave late by a 512th of the window.
    assert!(world.changes()[0].starts_with("100"), "the window has passed");
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig { failure_persistence: None, cases: 64, ..Default::default() })]

    /// Whatever the order of arrival: what is missing is what a plain set of numbers says.
    #[test]
    fn gaps_agree_with_a_plain_set(numbers in proptest::collection::vec(100_i64..160, 1..80)) {
        let mut world = World::new(GAP);
        let mut seen = BTreeSet::new();
        let first = numbers[0];
        // All of one moment: nothing is a new beginning.
        for number in numbers {
            world.numbers(0.0, [number]);
            if number >= first {
                seen.insert(number);
            }
        }
        world.run(20.0);
        let missing = (first..=*seen.last().unwrap()).filter(|number| !seen.contains(number)).count();
        let said = world.changes();
        if missing == 0 {
            proptest::prop_assert!(said.is_empty(), "{:?}", said);
        } else {
            proptest::prop_assert!(said[0].starts_with(&format!("10 inactive->firing {missing}: ")), "{:?} {}", said, missing);
        }
    }

    /// Median and MAD of plain lists say the same of every window, at its end.
    #[test]
    fn rate_changes_agree_with_plain_lists(counts in proptest::collection::vec(0_u32..30, 12..30)) {
        let mut world = World::new(
            "alerts:\n  Odd: {event: {rate_change: e, within: 10s, baseline: 100s, min_samples: 4, floor: 1, lateness: 0s, direction: down}}\n",
        );
        // The first window is not heard in full; it is there only to begin.
        world.events(5.0, 0.0, "e", 1);
        let mut plain: Vec<f64> = Vec::new();
        for (at, count) in counts.iter().enumerate() {
            let begins = (at + 1) as f64 * 10.0;
            world.run(begins + 0.5);
            world.events(begins + 1.0, 0.0, "e", *count as usize);
            world.run(begins + 10.0);
            let usual = &plain[plain.len().saturating_sub(10)..];
            let median = |numbers: &[f64]| {
                let mut sorted = numbers.to_vec();
                sorted.sort_by(f64::total_cmp);
                let middle = sorted.len() / 2;
                if sorted.len() % 2 == 1 { sorted[middle] } else { (sorted[middle - 1] + sorted[middle]) / 2.0 }
            };
            let expected = usual.len() >= 4 && {
                let middle = median(usual);
                let distances: Vec<f64> = usual.iter().map(|count| (count - middle).abs()).collect();
                (f64::from(*count) - middle) / (median(&distances) * 1.4826).max(1.0) < -3.5
            };
            let firing = world.rules.published().1.iter().any(|alert| alert.resolved_at.is_none());
            proptest::prop_assert_eq!(firing, expected, "window {} of {:?}", at, counts);
            plain.push(f64::from(*count));
        }
    }
}
