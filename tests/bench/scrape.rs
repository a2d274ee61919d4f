//! A scrape of 10,000 series that all change: reading the text, and reading it and storing the samples.
//!
//! The figure that matters is the time of one scrape: at one a second, 10 ms is one per cent of a core. The peer in the
//! same run is the plain parse of the same numbers, without names: nobody can be faster than that.

use divan::{Bencher, counter::ItemsCount};
use sidewatch::model::Timestamp;
use sidewatch::series::{ScrapedSeries, Store, StoreOptions};
use sidewatch::source::scrape::Scraper;
use std::fmt::Write as _;

const SERIES: usize = 10_000;
const TEXT: &str = "text/plain; version=0.0.4";
const OPEN: &str = "application/openmetrics-text; version=1.0.0";

/// What an exporter with 100 families shows in its scrape of that number.
fn exposition(scrape: usize, end: &str) -> Vec<u8> {
    let mut text = String::new();
    for at in 0..SERIES {
        if at % 100 == 0 {
            let family = at / 100;
            let _ = writeln!(text, "# HELP app_requests_{family}_total Requests of part {family}.");
            let _ = writeln!(text, "# TYPE app_requests_{family}_total counter");
        }
        let (family, route, code) = (at / 100, at % 25, ["200", "400", "404", "500"][at % 4]);
        // Counters of some hundreds a second, one in ten a float.
        let value = scrape * (at % 700 + 1) + at;
        let fraction = if at % 10 == 0 { ".25" } else { "" };
        let total = "_total";
        let _ = writeln!(
            text,
            "app_requests_{family}{total}{{route=\"/api/v1/r{route}\",code=\"{code}\",method=\"GET\",pod=\"shop-{at}\"}} {value}{fraction}"
        );
    }
    text.push_str(end);
    text.into_bytes()
}

/// Prepared scrapes, so that making them is not measured.
fn scrapes(end: &str) -> Vec<Vec<u8>> {
    (0..16).map(|at| exposition(at, end)).collect()
}

fn read(bencher: Bencher<'_, '_>, content_type: &str, end: &str) {
    let (bodies, mut scraper, mut at) = (scrapes(end), Scraper::default(), 0);
    bencher.counter(ItemsCount::new(SERIES)).bench_local(|| {
        at += 1;
        scraper.scrape(&bodies[at % bodies.len()], content_type, at as i64 * 1_000).unwrap().samples()
    });
}

#[divan::bench(name = "1 read, text")]
fn read_text(bencher: Bencher<'_, '_>) {
    read(bencher, TEXT, "");
}

#[divan::bench(name = "2 read, OpenMetrics")]
fn read_open_metrics(bencher: Bencher<'_, '_>) {
    read(bencher, OPEN, "# EOF\n");
}

#[divan::bench(name = "3 read, text, and store")]
fn store(bencher: Bencher<'_, '_>) {
    let (bodies, mut scraper, mut at) = (scrapes(""), Scraper::default(), 0);
    let (mut store, mut series) = (Store::new(StoreOptions::default()), ScrapedSeries::default());
    bencher.counter(ItemsCount::new(SERIES)).bench_local(|| {
        at += 1;
        let batch = scraper.scrape(&bodies[at % bodies.len()], TEXT, at as i64 * 1_000).unwrap();
        store.apply_scrape(&mut series, &batch);
        store.tick(Timestamp::from_millis(at as i64 * 1_000));
        store.changed_metrics().len()
    });
}

#[divan::bench(name = "4 peer: only the numbers, parsed")]
fn numbers(bencher: Bencher<'_, '_>) {
    let body = exposition(3, "");
    let text = std::str::from_utf8(&body).unwrap();
    bencher.counter(ItemsCount::new(SERIES)).bench_local(|| {
        let values = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.rsplit(' ').next());
        values.map(|value| value.parse::<f64>().unwrap()).sum::<f64>()
    });
}
