//! Metrics, handles, limits, refusals, expiry.

use super::*;

#[test]
fn kinds_do_not_change() {
    let mut store = store();
    let counter = store.declare("a_total", MetricKind::Counter, "", "").unwrap();
    assert_eq!(store.declare("a_total", MetricKind::Counter, "again", ""), Ok(counter));
    let error = store.declare("a_total", MetricKind::Gauge, "", "").unwrap_err();
    assert_eq!(error.to_string(), "metric a_total is already a counter, it cannot also be a gauge");
    let histogram = |bounds: &[f64]| MetricKind::Histogram(HistogramOptions { bounds: bounds.to_vec() });
    store.declare("h", histogram(&[1.0]), "", "").unwrap();
    assert!(matches!(store.declare("h", histogram(&[2.0]), "", ""), Err(DeclareError::BoundsConflict(_))));
    assert!(matches!(store.declare("i", histogram(&[2.0, 1.0]), "", ""), Err(DeclareError::BadBounds(_))));
    assert!(matches!(store.declare("", MetricKind::Gauge, "", ""), Err(DeclareError::EmptyName)));
}

#[test]
fn a_retired_metric_may_become_something_else() {
    let mut store = store();
    let metric = store.declare("a", MetricKind::Counter, "", "").unwrap();
    let old = store.resolve(metric, &[("x", "1")], at(0)).unwrap();
    store.retire(metric, at(10));
    assert!(!store.add(old, 1.0, at(20)));
    store.declare("a", MetricKind::Gauge, "", "").unwrap();
    let new = store.resolve(metric, &[("x", "1")], at(30)).unwrap();
    assert!(store.set(new, 4.0, at(30)));
    assert_eq!(read(&store, &["=a"], 0, 1_000), ["a{x=\"1\"} 4@30"]);
}

#[test]
fn labels_in_any_order_are_one_series() {
    let mut store = store();
    let metric = store.declare("a_total", MetricKind::Counter, "", "").unwrap();
    let one = store.resolve(metric, &[("b", "1"), ("a", "2"), ("c", "")], at(0)).unwrap();
    assert_eq!(store.resolve(metric, &[("a", "2"), ("b", "1")], at(0)), Ok(one));
    assert_ne!(store.resolve(metric, &[("a", "1"), ("b", "2")], at(0)), Ok(one));
}

#[test]
fn past_a_limit_counters_overflow_and_others_are_dropped() {
    let mut options = options();
    options.limits.series_per_metric = 3;
    options.limits.histogram_series = 1;
    options.limits.labels_per_series = 2;
    let mut store = Store::new(options);
    let counter = store.declare("c_total", MetricKind::Counter, "", "").unwrap();
    let gauge = store.declare("g", MetricKind::Gauge, "", "").unwrap();
    let histogram = store.declare("h", MetricKind::Histogram(HistogramOptions::default()), "", "seconds").unwrap();
    for number in 0..10 {
        let user = number.to_string();
        let handle = store.resolve(counter, &[("user", &user), ("kind", "x")], at(0)).unwrap();
        assert_eq!(handle.is_overflow(), number >= 3);
        assert!(store.add(handle, 1.0, at(0)));
        let set = store.resolve(gauge, &[("user", &user)], at(0)).map(|handle| store.set(handle, 1.0, at(0)));
        assert_eq!(set.is_ok(), number < 3);
    }
    store.resolve(histogram, &[], at(0)).unwrap();
    assert_eq!(store.resolve(histogram, &[("a", "b")], at(0)), Err(Dropped { reason: Limit::HistogramSeries }));
    assert_eq!(
        store.resolve(gauge, &[("a", "1"), ("b", "1"), ("c", "1")], at(0)),
        Err(Dropped { reason: Limit::LabelsPerSeries })
    );
    assert_eq!(
        read(&store, &["=c_total", "sidewatch_overflow=true"], 0, 10),
        ["c_total{sidewatch_overflow=\"true\"} 7@0"]
    );
    let stats = store.stats();
    let told: Vec<String> =
        stats.metrics.iter().map(|m| format!("{} {} {:?} {:?}", m.name, m.series, m.limited, m.widest_label)).collect();
    assert_eq!(
        told,
        [
            "c_total 4 {\"series_per_metric\": 7} Some((\"user\", 3))",
            "g 3 {\"labels_per_series\": 1, \"series_per_metric\": 7} Some((\"user\", 3))",
            "h 1 {\"histogram_series\": 1} None",
        ]
    );
    assert_eq!(store.limit_hits(), 16);
}

#[test]
fn long_label_values_are_cut_at_a_character() {
    let mut options = options();
    options.limits.label_value_bytes = 5;
    let mut store = Store::new(options);
    let metric = store.declare("g", MetricKind::Gauge, "", "").unwrap();
    let handle = store.resolve(metric, &[("a", "ééééé")], at(0)).unwrap();
    assert_eq!(store.resolve(metric, &[("a", "ééx-other")], at(0)).map(|other| other == handle), Ok(false));
    assert_eq!(store.resolve(metric, &[("a", "éééééx")], at(0)), Ok(handle));
    assert_eq!(store.stats().truncated_values, 3);
    assert_eq!(store.series(&[], (0, i64::MAX)).len(), 0, "a gauge that was never set is no series");
}

#[test]
fn what_makes_no_sense_is_refused_and_counted() {
    let mut store = store();
    let counter = store.declare("c_total", MetricKind::Counter, "", "").unwrap();
    let histogram = store.declare("h", MetricKind::Histogram(HistogramOptions::default()), "", "").unwrap();
    let c = store.resolve(counter, &[], at(0)).unwrap();
    let h = store.resolve(histogram, &[], at(0)).unwrap();
    for increment in [-1.0, f64::NAN, f64::INFINITY] {
        assert!(store.add(c, increment, at(0)));
    }
    assert!(!store.set(c, 1.0, at(0)), "a counter is not set");
    assert_eq!(store.observe(h, -1.0, 1, at(0), None), Observed::Refused(Refusal::NegativeValue));
    assert_eq!(store.observe(h, f64::NAN, 1, at(0), None), Observed::Refused(Refusal::NotANumber));
    assert_eq!(store.observe(h, f64::INFINITY, 1, at(0), None), Observed::Refused(Refusal::InfiniteValue));
    let refused: Vec<_> = store.stats().refused.into_iter().collect();
    assert_eq!(refused, [("infinite_value", 1), ("negative_increment", 1), ("negative_value", 1), ("not_a_number", 3)]);
    assert_eq!(store.value(c), Some(0.0));
}

#[test]
fn idle_series_end_with_a_marker_and_their_handles_go_stale() {
    let mut store = store();
    let metric = store.declare("c_total", MetricKind::Counter, "", "").unwrap();
    let handle = store.resolve(metric, &[], at(0)).unwrap();
    store.add(handle, 5.0, at(0));
    for second in 0..=3_600 {
        store.tick(at(second * 1_000));
    }
    assert!(!store.add(handle, 1.0, at(3_600_500)));
    assert_eq!(read(&store, &["=c_total"], 3_598_500, 3_700_000), ["c_total 5@3599000 stale@3600000"]);
    assert_eq!((store.stats().expired_series, store.stats().live_series, store.stats().ended_series), (1, 0, 1));
    let again = store.resolve(metric, &[], at(3_600_500)).unwrap();
    assert!(store.add(again, 2.0, at(3_600_500)));
    store.tick(at(3_601_000));
    assert_eq!(read(&store, &["=c_total"], 3_599_500, 3_700_000), ["c_total stale@3600000 0@3600001 2@3601000"]);
    store.remove(again, at(3_601_500));
    for second in 3_602..10_900 {
        store.tick(at(second * 1_000));
    }
    assert_eq!((store.stats().ended_series, store.stats().bytes), (0, 0), "nothing is left of it");
}

#[test]
fn changed_metrics_are_told_once() {
    let mut store = store();
    let a = store.declare("a_total", MetricKind::Counter, "", "").unwrap();
    let handle = store.resolve(a, &[], at(0)).unwrap();
    let b = store.metric_id("b");
    store.changed_metrics();
    store.add(handle, 1.0, at(1));
    store.add(handle, 1.0, at(2));
    store.append(&Labels::from_pairs([("__name__", "b")]), START_MS, SampleValue::Float(1.0), 0).unwrap();
    assert_eq!(store.changed_metrics(), [a, b]);
    assert!(!store.has_changes());
    store.add(handle, 1.0, at(3));
    assert_eq!(store.changed_metrics(), [a]);
    let h = store.declare("h", MetricKind::Histogram(HistogramOptions::default()), "", "").unwrap();
    assert_eq!(
        (store.lookup_metric("h_bucket"), store.lookup_metric("a_total"), store.lookup_metric("zz")),
        (Some(h), Some(a), None)
    );
}

#[test]
fn the_byte_budget_drops_the_oldest_chunks() {
    let mut options = options();
    options.limits.series_bytes = 300_000;
    let mut store = Store::new(options);
    let metric = store.declare("g", MetricKind::Gauge, "", "").unwrap();
    let handles: Vec<_> = (0..100).map(|n| store.resolve(metric, &[("n", &n.to_string())], at(0)).unwrap()).collect();
    for second in 0..600_i64 {
        for (n, handle) in handles.iter().enumerate() {
            store.set(*handle, (second as f64 * 1.1 + n as f64).sin(), at(second * 1_000));
        }
        store.tick(at(second * 1_000));
    }
    let stats = store.stats();
    assert!(stats.bytes <= 330_000 && stats.dropped_chunks > 0, "{stats:?}");
    let left = read(&store, &["=g", "n=7"], 0, 600_000);
    assert!(left[0].ends_with("@599000") && left[0].split(' ').count() < 400);
}

#[test]
fn quantiles_of_the_last_minute_merge_exactly() {
    let mut store = store();
    let metric = store.declare("h_seconds", MetricKind::Histogram(HistogramOptions::default()), "", "seconds").unwrap();
    for number in 1..=1_000_i64 {
        let region = if number % 2 == 0 { "eu" } else { "us" };
        let handle = store.resolve(metric, &[("region", region)], at(0)).unwrap();
        store.observe(handle, number as f64 / 1e3, 1, at(number), None);
    }
    let all = store.window_quantiles(metric, &[], &[], &[0.5, 0.99], at(1_000));
    assert_eq!((all.len(), all[0].count), (1, 1_000));
    assert!((all[0].quantiles[0] - 0.5).abs() < 0.005 && (all[0].quantiles[1] - 0.99).abs() < 0.01, "{all:?}");
    let by = store.window_quantiles(metric, &["region"], &[("job", "shop")], &[1.0], at(1_000));
    assert_eq!(
        by.iter().map(|group| (group.labels.to_string(), group.count)).collect::<Vec<_>>(),
        [("{region=\"eu\"}".into(), 500), ("{region=\"us\"}".into(), 500)]
    );
    assert_eq!(store.window_quantiles(metric, &[], &[], &[0.5], at(70_000)), []);
}
