//! A store that was restored is the store that was saved.

use super::*;
use proptest::prelude::*;

fn declare(store: &mut Store) -> [MetricId; 3] {
    let kind = MetricKind::Histogram(HistogramOptions { bounds: vec![0.5, 1.0] });
    [
        store.declare("c_total", MetricKind::Counter, "Help.", "").unwrap(),
        store.declare("g", MetricKind::Gauge, "", "bytes").unwrap(),
        store.declare("h_seconds", kind, "", "seconds").unwrap(),
    ]
}

fn check_equal(a: &Store, b: &Store) {
    let all = Selection { matchers: Vec::new(), from_ms: 0, to_ms: i64::MAX };
    let samples = |store: &Store| format!("{:?}", store.select(&all));
    assert_eq!(samples(a), samples(b));
    assert_eq!(read(a, &["=~.+"], 0, 1 << 40), read(b, &["=~.+"], 0, 1 << 40));
    let text = |store: &Store| {
        let mut out = String::new();
        store.write_prometheus(&mut out);
        store.write_openmetrics(&mut out);
        out
    };
    assert_eq!(text(a), text(b));
    let counts = |store: &Store| {
        let stats = store.stats();
        (stats.live_series, stats.histogram_series, stats.received_series, stats.ended_series)
    };
    assert_eq!(counts(a), counts(b));
}

/// One random step of a store's life.
fn step(store: &mut Store, metrics: [MetricId; 3], now_ms: i64, (action, number): (u8, u8)) {
    let now = at(now_ms);
    let label = (number % 5).to_string();
    let labels = [("k", label.as_str())];
    match action {
        0 | 1 => {
            let handle = store.resolve(metrics[0], &labels, now).unwrap();
            store.add(handle, f64::from(number), now);
        }
        2 => {
            let handle = store.resolve(metrics[1], &labels, now).unwrap();
            store.set(handle, f64::from(number) / 3.0, now);
        }
        3 | 4 => {
            let handle = store.resolve(metrics[2], &labels, now).unwrap();
            store.observe(handle, f64::from(number) / 100.0, 1 + u64::from(number % 3), now, None);
        }
        5 => {
            let handle = store.resolve(metrics[usize::from(number % 3)], &labels, now).unwrap();
            store.remove(handle, now);
        }
        6 => {
            let labels = Labels::from_pairs([("__name__", "received"), ("k", &label)]);
            let _ =
                store.append(&labels, START_MS + now_ms, SampleValue::Float(f64::from(number)), i64::from(number % 2));
        }
        7 => {
            let labels = Labels::from_pairs([("__name__", "received"), ("k", &label)]);
            let histogram = FloatHistogram { count: f64::from(number), sum: 0.5, ..FloatHistogram::default() };
            let _ = store.append(&labels, START_MS + now_ms, SampleValue::Histogram(histogram.into()), 0);
        }
        _ => store.tick(now),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn full_and_deltas_bring_everything_back(
        steps in prop::collection::vec((0_u8..12, any::<u8>(), 1_i64..3_000), 1..150),
        every in 1_usize..20,
    ) {
        let mut store = store();
        let metrics = declare(&mut store);
        let (mut blobs, mut now_ms) = (vec![store.delta(true)], 0);
        for (at, (action, number, wait)) in steps.iter().enumerate() {
            now_ms += wait;
            step(&mut store, metrics, now_ms, (*action, *number));
            if at % every == 0 {
                blobs.push(store.delta(at % 50 == 49));
            }
        }
        blobs.push(store.delta(false));
        let mut restored = super::store();
        let metrics_again = declare(&mut restored);
        for blob in &blobs {
            restored.restore(blob).unwrap();
        }
        check_equal(&store, &restored);
        // Both go on alike, and their next full blobs hold the same.
        for (action, number, wait) in &steps {
            now_ms += wait;
            step(&mut store, metrics, now_ms, (*action, *number));
            step(&mut restored, metrics_again, now_ms, (*action, *number));
        }
        check_equal(&store, &restored);
        let mut third = super::store();
        third.restore(&restored.delta(true)).unwrap();
        check_equal(&store, &third);
    }

    #[test]
    fn damage_is_no_panic(cut in any::<prop::sample::Index>(), flip in any::<prop::sample::Index>(), bit in 0_u8..8) {
        let mut store = store();
        let metrics = declare(&mut store);
        for number in 0..40_u8 {
            step(&mut store, metrics, i64::from(number) * 500, (number % 9, number));
        }
        let blob = store.delta(true);
        let mut restored = super::store();
        prop_assert_eq!(restored.restore(&blob[..cut.index(blob.len())]), Err(RestoreError::Damaged));
        let mut bent = blob.clone();
        bent[flip.index(blob.len())] ^= 1 << bit;
        let mut restored = super::store();
        let _ = restored.restore(&bent);
        let _ = restored.select(&Selection { matchers: Vec::new(), from_ms: 0, to_ms: i64::MAX });
    }
}

#[test]
fn the_same_calls_give_the_same_bytes() {
    let run = || {
        let mut store = store();
        let metrics = declare(&mut store);
        let mut bytes = Vec::new();
        for number in 0..200_u8 {
            step(&mut store, metrics, i64::from(number) * 300, (number % 11, number.wrapping_mul(31)));
            if number % 20 == 0 {
                bytes.extend(store.delta(number == 100));
            }
        }
        bytes
    };
    assert_eq!(run(), run());
}

#[test]
fn long_lives_come_back_too() {
    let mut store = store();
    let metrics = declare(&mut store);
    let mut blobs = vec![store.delta(true)];
    for second in 0..2_500_i64 {
        for k in 0..3 {
            step(&mut store, metrics, second * 1_000, (if k == 0 { 0 } else { 3 }, (second % 200) as u8));
        }
        store.tick(at(second * 1_000));
        if second % 700 == 0 {
            blobs.push(store.delta(false));
        }
    }
    blobs.push(store.delta(false));
    let mut restored = super::store();
    declare(&mut restored);
    for blob in &blobs {
        restored.restore(blob).unwrap();
    }
    // The deltas were further apart than the first tier reaches, so the rings were sent whole.
    check_equal(&store, &restored);
}

#[test]
fn what_does_not_fit_is_left_out() {
    let mut old = store();
    let metrics = declare(&mut old);
    step(&mut old, metrics, 0, (0, 1));
    step(&mut old, metrics, 0, (2, 1));
    let full = old.delta(true);
    step(&mut old, metrics, 1_000, (0, 1));
    let delta = old.delta(false);
    let mut new = store();
    new.declare("c_total", MetricKind::Gauge, "", "").unwrap();
    new.restore(&full).unwrap();
    new.restore(&delta).unwrap();
    assert_eq!(new.stats().refused.into_iter().collect::<Vec<_>>(), [("restore_conflict", 1)]);
    assert_eq!(new.stats().live_series, 1);
    assert_eq!(new.declare("g", MetricKind::Gauge, "", "").map(|_| ()), Ok(()));
    let mut other = store();
    assert_eq!(other.restore(&[9, 0]), Err(RestoreError::Version { found: 9 }));
    assert_eq!(other.restore(&[]), Err(RestoreError::Damaged));
    // A metric that only the checkpoint knows gives way to what is declared later.
    other.restore(&full).unwrap();
    other.declare("c_total", MetricKind::Gauge, "", "").unwrap();
    assert_eq!(read(&other, &["=c_total"], -5_000, 5_000).len(), 0);
}
