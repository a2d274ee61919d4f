//! Samples as queries see them.

use super::*;
use proptest::prelude::*;
use std::sync::Arc;

#[test]
fn the_first_event_is_seen_at_once_and_after_a_zero() {
    let mut store = store();
    let metric = store.declare("c_total", MetricKind::Counter, "", "").unwrap();
    let handle = store.resolve(metric, &[("k", "v")], at(300)).unwrap();
    store.add(handle, 1.0, at(300));
    assert_eq!(read(&store, &["=c_total"], 0, 10_000), ["c_total{k=\"v\"} 0@0 1@300"]);
    store.tick(at(1_020));
    assert_eq!(read(&store, &["=c_total"], 0, 10_000), ["c_total{k=\"v\"} 0@0 1@1000"]);
    store.tick(at(2_000));
    store.add(handle, 1.0, at(2_000));
    assert_eq!(read(&store, &["=c_total"], 0, 10_000), ["c_total{k=\"v\"} 0@0 1@1000 1@2000 2@2001"]);
    store.tick(at(3_000));
    store.tick(at(4_000));
    assert_eq!(read(&store, &["=c_total"], 1_500, 10_000), ["c_total{k=\"v\"} 1@2000 2@3000 2@4000"]);
    let data = store.select(&selection(&["=c_total", "job=shop", "instance=a"], 0, 10_000));
    assert!(data[0].floats.iter().all(|point| point.start_ms == START_MS));
}

#[test]
fn an_event_before_the_tick_of_its_second_is_not_lost() {
    let mut store = store();
    let metric = store.declare("c_total", MetricKind::Counter, "", "").unwrap();
    let handle = store.resolve(metric, &[], at(1_020)).unwrap();
    store.add(handle, 1.0, at(1_020));
    // The tick of second 1 comes late, after the zero stands there.
    store.tick(at(1_050));
    assert_eq!(read(&store, &["=c_total"], 0, 5_000), ["c_total 0@1000 1@1020"]);
    store.tick(at(2_000));
    assert_eq!(read(&store, &["=c_total"], 0, 5_000), ["c_total 0@1000 1@2000"]);
}

#[test]
fn a_pause_of_the_process_is_a_gap() {
    let mut store = store();
    let metric = store.declare("g", MetricKind::Gauge, "", "").unwrap();
    let handle = store.resolve(metric, &[], at(0)).unwrap();
    store.set(handle, 7.0, at(0));
    for second in [1, 2, 60, 61] {
        store.tick(at(second * 1_000));
    }
    assert_eq!(read(&store, &["=g"], 0, 100_000), ["g 7@1000 7@2000 7@60000 7@61000"]);
}

#[test]
fn histograms_answer_in_both_forms() {
    let mut store = store();
    let kind = MetricKind::Histogram(HistogramOptions { bounds: vec![0.5, 1.0] });
    let metric = store.declare("h_seconds", kind, "", "seconds").unwrap();
    let handle = store.resolve(metric, &[("k", "v")], at(500)).unwrap();
    store.observe(handle, 0.5, 1, at(500), None);
    store.observe(handle, 3.0, 2, at(500), None);
    store.tick(at(1_000));
    store.tick(at(2_000));
    assert_eq!(read(&store, &["=h_seconds"], 0, 5_000), ["h_seconds{k=\"v\"} 0/0@0 6.5/3@1000 6.5/3@2000"]);
    assert_eq!(read(&store, &["=h_seconds_count", "k=~v|w"], 1_000, 1_000), ["h_seconds_count{k=\"v\"} 3@1000"]);
    assert_eq!(read(&store, &["=h_seconds_sum"], 1_000, 1_000), ["h_seconds_sum{k=\"v\"} 6.5@1000"]);
    assert_eq!(
        read(&store, &["=h_seconds_bucket"], 0, 1_000),
        [
            "h_seconds_bucket{k=\"v\", le=\"+Inf\"} 0@0 3@1000",
            "h_seconds_bucket{k=\"v\", le=\"0.5\"} 0@0 1@1000",
            "h_seconds_bucket{k=\"v\", le=\"1\"} 0@0 1@1000",
        ]
    );
    assert_eq!(
        read(&store, &["=h_seconds_bucket", "le=1.0"], 1_000, 1_000),
        ["h_seconds_bucket{k=\"v\", le=\"1\"} 1@1000"]
    );
    assert_eq!(read(&store, &["=h_seconds_bucket", "le=+Inf"], 1_000, 1_000).len(), 1);
    assert_eq!(read(&store, &["=~h_.*", "le="], 1_000, 1_000).len(), 3);
    assert_eq!(read(&store, &["=h_seconds_bucket", "k=other"], 0, 1_000).len(), 0);
    assert_eq!(read(&store, &["k=v"], 1_000, 1_000).len(), 1, "without a name only what is held");
    store.remove(handle, at(2_500));
    assert_eq!(read(&store, &["=h_seconds_count"], 2_000, 9_000), ["h_seconds_count{k=\"v\"} 3@2000 stale@2500"]);
    assert_eq!(read(&store, &["=h_seconds"], 2_000, 9_000), ["h_seconds{k=\"v\"} 6.5/3@2000 stale@2500"]);
}

#[test]
fn received_samples_keep_their_times() {
    let mut store = store();
    let labels = Labels::from_pairs([("__name__", "up"), ("job", "other")]);
    let float = SampleValue::Float;
    store.append(&labels, START_MS + 123, float(1.0), 0).unwrap();
    store.append(&labels, START_MS + 5_123, float(2.0), 7).unwrap();
    assert_eq!(store.append(&labels, START_MS + 5_123, float(2.0), 0), Err(Refusal::Duplicate));
    assert_eq!(store.append(&labels, START_MS + 5_000, float(2.0), 0), Err(Refusal::OutOfOrder));
    store.tick(at(10_000));
    assert_eq!(store.append(&labels, START_MS - 3_600_000, float(2.0), 0), Err(Refusal::TooOld));
    assert_eq!(read(&store, &["=up"], 0, 60_000), ["up 1@123 2@5123"]);
    assert_eq!(store.select(&selection(&["=up"], 0, 60_000))[0].floats[1].start_ms, 7);
    store.mark_stale(&labels, START_MS + 11_000).unwrap();
    store.mark_stale(&labels, START_MS + 12_000).unwrap();
    assert_eq!(read(&store, &["=up"], 6_000, 60_000), ["up stale@11000"]);
    let histogram = FloatHistogram { count: 2.0, sum: 3.0, ..FloatHistogram::default() };
    store.append(&labels, START_MS + 13_000, SampleValue::Histogram(Arc::new(histogram)), 0).unwrap();
    store.mark_stale(&labels, START_MS + 14_000).unwrap();
    assert_eq!(read(&store, &["=up"], 12_000, 60_000), ["up 3/2@13000 stale@14000"]);
    let metric = store.declare("own", MetricKind::Gauge, "", "").unwrap();
    let own = store.resolve(metric, &[], at(20_000)).unwrap();
    store.set(own, 1.0, at(20_000));
    let same = Labels::from_pairs([("__name__", "own"), ("job", "shop"), ("instance", "a")]);
    assert_eq!(store.append(&same, START_MS + 21_000, float(1.0), 0), Err(Refusal::SelfCounted));
    assert_eq!(store.stats().refused.values().sum::<u64>(), 4);
}

#[test]
fn received_samples_are_thinned_after_the_first_tier() {
    let mut store = store();
    let labels = Labels::from_pairs([("__name__", "up")]);
    for second in 0..2_000 {
        store.append(&labels, START_MS + second * 1_000 + 250, SampleValue::Float(second as f64), 0).unwrap();
        store.tick(at(second * 1_000));
    }
    let floats = &store.select(&selection(&["=up"], 0, 2_000_000))[0].floats;
    let recent = floats.iter().filter(|point| point.t_ms >= START_MS + 1_400_000).count();
    assert_eq!(recent, 600);
    let old = floats.len() - recent;
    assert!((80..240).contains(&old), "{old}");
    assert!(floats.windows(2).all(|pair| pair[0].t_ms < pair[1].t_ms));
}

#[test]
fn the_catalogue_knows_classic_names() {
    let mut store = store();
    let kind = MetricKind::Histogram(HistogramOptions { bounds: vec![0.5] });
    let metric = store.declare("h", kind, "Help.", "seconds").unwrap();
    store.resolve(metric, &[("k", "v")], at(0)).unwrap();
    store.describe("up", MetricType::Gauge, "Up.", "");
    store.append(&Labels::from_pairs([("__name__", "up")]), START_MS, SampleValue::Float(1.0), 0).unwrap();
    let range = (START_MS - 5_000, START_MS + 5_000);
    assert_eq!(store.label_values("__name__", &[], range), ["h", "h_bucket", "h_count", "h_sum", "up"]);
    assert_eq!(store.label_names(&[], range), ["__name__", "instance", "job", "k", "le"]);
    assert_eq!(store.label_names(&[matchers(&["=up"])], range), ["__name__"]);
    assert_eq!(store.label_values("le", &[matchers(&["=h_bucket"])], range), ["+Inf", "0.5"]);
    assert_eq!(store.label_values("k", &[], range), ["v"]);
    assert_eq!(store.series(&[matchers(&["=h_bucket", "le=0.5"]), matchers(&["=up"])], range).len(), 2);
    assert_eq!(store.series(&[], (0, 1)).len(), 0);
    let told: Vec<_> =
        store.metadata().into_iter().map(|m| format!("{} {} {} {}", m.name, m.kind.as_str(), m.help, m.unit)).collect();
    assert_eq!(told, ["h histogram Help. seconds", "up gauge Up. "]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]
    /// A counter and a gauge, updated and ticked at random, read as a plain list of samples does.
    #[test]
    fn rings_read_as_a_plain_list(steps in prop::collection::vec((0_u8..5, 1_i64..40), 1..120), from in 0_i64..100_000, length in 0_i64..100_000) {
        let mut store = store();
        let metric = store.declare("g", MetricKind::Gauge, "", "").unwrap();
        let handle = store.resolve(metric, &[], at(0)).unwrap();
        let (mut now, mut value, mut last_tick, mut head) = (0, None, i64::MIN, None);
        let mut expected: Vec<(i64, f64)> = Vec::new();
        for (number, (action, step)) in steps.iter().enumerate() {
            now += step * 100;
            if *action < 2 {
                value = Some((number % 7) as f64);
                store.set(handle, (number % 7) as f64, at(now));
                head = Some(now);
            } else {
                store.tick(at(now));
                let tick = now.div_euclid(1_000) * 1_000;
                if tick > last_tick {
                    last_tick = tick;
                    head = None;
                    expected.extend(value.map(|value| (tick, value)));
                }
            }
        }
        expected.extend(head.and_then(|head| value.map(|value| (head.max(last_tick.saturating_add(1)), value))));
        let expected: Vec<(i64, f64)> = expected.into_iter().filter(|(t, _)| (from..=from + length).contains(t)).collect();
        let found = store.select(&selection(&["=g"], from, from + length));
        let found: Vec<(i64, f64)> = found.iter().flat_map(|series| &series.floats).map(|point| (point.t_ms - START_MS, point.value)).collect();
        prop_assert_eq!(found, expected);
    }
}
