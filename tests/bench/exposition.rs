//! /metrics: rendering 10,000 and 100,000 series, beside metrics-exporter-prometheus with as many.

use divan::{Bencher, counter::ItemsCount};
use sidewatch::model::Timestamp;
use sidewatch::series::{MetricKind, Store, StoreOptions};

fn store(series: usize) -> Store {
    let mut options = StoreOptions::default();
    options.limits.series = series + 10;
    options.limits.series_per_metric = series + 10;
    let mut store = Store::new(options);
    let metric = store.declare("requests_total", MetricKind::Counter, "Requests.", "").unwrap();
    let now = Timestamp::from_millis(1_795_165_201_000);
    for at in 0..series {
        let (route, code) = (format!("/api/r{}", at / 4), ["200", "400", "404", "500"][at % 4]);
        let labels = [("route", route.as_str()), ("code", code), ("method", "GET"), ("pod", "shop-1")];
        let handle = store.resolve(metric, &labels, now).unwrap();
        store.add(handle, at as f64, now);
    }
    store
}

#[divan::bench(name = "1 sidewatch, text", args = [10_000, 100_000])]
fn ours(bencher: Bencher<'_, '_>, series: usize) {
    let store = store(series);
    bencher.counter(ItemsCount::new(series)).bench_local(|| {
        let mut out = String::with_capacity(series * 80);
        store.write_prometheus(&mut out);
        out.len()
    });
}

#[divan::bench(name = "2 peer: metrics-exporter-prometheus", args = [10_000, 100_000], sample_count = 10)]
fn peer(bencher: Bencher<'_, '_>, series: usize) {
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    metrics::with_local_recorder(&recorder, || {
        for at in 0..series {
            let (route, code) = (format!("/api/r{}", at / 4), ["200", "400", "404", "500"][at % 4]);
            metrics::counter!("requests_total", "route" => route, "code" => code, "method" => "GET", "pod" => "shop-1")
                .increment(at as u64);
        }
    });
    bencher.counter(ItemsCount::new(series)).bench_local(|| handle.render().len());
}
