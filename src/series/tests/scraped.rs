//! Scraped samples: from an exposition into the store and out of a query, and our own exposition read back.

use crate::model::Timestamp;
use crate::series::{
    FloatHistogram, HistogramOptions, MatchOp, Matcher, MetricKind, ScrapedSeries, Selection, SeriesData, Storage,
    Store, StoreOptions, is_stale,
};
use crate::source::scrape::Scraper;

const TEXT: &str = "text/plain; version=0.0.4";
const PROTO: &str = "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited";

fn select(store: &Store, name: &str) -> Vec<SeriesData> {
    let matchers = vec![Matcher::new("__name__", MatchOp::Equal, name).unwrap()];
    store.select(&Selection { matchers, from_ms: 0, to_ms: i64::MAX })
}

/// Times and values; the end of a series is `None`.
fn floats(store: &Store, name: &str) -> Vec<(i64, Option<f64>)> {
    let value = |value: f64| (!is_stale(value)).then_some(value);
    select(store, name)[0].floats.iter().map(|point| (point.t_ms, value(point.value))).collect()
}

#[test]
fn series_end_when_they_vanish_and_go_on_across_sessions() {
    let (mut store, mut series) = (Store::new(StoreOptions::default()), ScrapedSeries::default());
    let mut scraper = Scraper::new([("job", "j")]);
    let mut scrape = |scraper: &mut Scraper, text: &str, at_ms, session| {
        let mut batch = scraper.scrape(text.as_bytes(), TEXT, at_ms).unwrap();
        batch.session = session;
        store.apply_scrape(&mut series, &batch);
    };
    scrape(&mut scraper, "a 1\nb 2\n", 1_000, 1);
    scrape(&mut scraper, "a 1.5\n", 2_000, 1);
    scrape(&mut scraper, "a 2\nb 3\n", 3_000, 1);
    // A new session of the same target: what it has goes on, what it lacks ends.
    scrape(&mut Scraper::new([("job", "j")]), "b 4\nc 5\nc 5\n", 4_000, 2);
    assert_eq!(floats(&store, "a"), [(1_000, Some(1.0)), (2_000, Some(1.5)), (3_000, Some(2.0)), (4_000, None)]);
    assert_eq!(floats(&store, "b"), [(1_000, Some(2.0)), (2_000, None), (3_000, Some(3.0)), (4_000, Some(4.0))]);
    assert_eq!(floats(&store, "up").last(), Some(&(4_000, Some(1.0))));
    assert_eq!(store.stats().refused.get("duplicate"), Some(&1));
    store.end_scrape(&series, 5_000);
    assert_eq!((floats(&store, "b").last(), floats(&store, "up").last()), (Some(&(5_000, None)), Some(&(5_000, None))));
}

#[test]
fn the_limit_on_series_holds_and_is_counted() {
    let mut options = StoreOptions::default();
    options.limits.series = 3;
    let (mut store, mut series) = (Store::new(options), ScrapedSeries::default());
    let batch = Scraper::new([]).scrape(b"a 1\nb 1\nc 1\nd 1\n", TEXT, 1_000).unwrap();
    store.apply_scrape(&mut series, &batch);
    assert_eq!(store.stats().received_series, 3);
    assert_eq!(store.stats().refused.get("series_limit"), Some(&6), "d and what tells about the scrape");
}

#[test]
fn our_protobuf_reads_back_as_what_queries_see() {
    let mut store = Store::new(StoreOptions::default());
    let now = Timestamp::from_millis(10_000);
    let bounds = HistogramOptions { bounds: vec![0.1, 1.0] };
    let histogram = store.declare("h_seconds", MetricKind::Histogram(bounds), "Help.", "seconds").unwrap();
    let counter = store.declare("c_total", MetricKind::Counter, "", "").unwrap();
    let handle = store.resolve(histogram, &[("a", "x")], now).unwrap();
    for value in [0.0, 0.001, 0.0011, 0.5, 0.5, 3.0, 900.0] {
        store.observe(handle, value, 1, now, None);
    }
    store.resolve(histogram, &[("a", "empty")], now).unwrap();
    let odd = store.resolve(counter, &[("odd.name", "é\"\n")], now).unwrap();
    store.add(odd, 2.5, now);
    store.tick(Timestamp::from_millis(11_000));
    let mut body = Vec::new();
    store.write_protobuf(&mut body);
    let own = "# HELP g A gauge.\n# TYPE g gauge\ng{x=\"1\"} 1.5\n# TYPE t histogram\nt_bucket{le=\"1\"} 1\nt_bucket{le=\"+Inf\"} 3\nt_sum 4\nt_count 3\n";
    crate::series::write_text_as_protobuf(&crate::series::text::parse(own), &mut body);

    let (mut other, mut series) = (Store::new(StoreOptions::default()), ScrapedSeries::default());
    let batch = Scraper::new([]).scrape(&body, PROTO, 12_000).unwrap();
    other.apply_scrape(&mut series, &batch);
    let natives = |store: &Store| -> Vec<FloatHistogram> {
        let last = |data: &SeriesData| FloatHistogram::clone(&data.histograms.last().unwrap().histogram);
        select(store, "h_seconds").iter().map(last).collect()
    };
    let (ours, theirs) = (natives(&store), natives(&other));
    assert_eq!((ours.len(), theirs.len()), (2, 2));
    assert!(ours.iter().zip(&theirs).all(|(a, b)| a.equals(b)), "{ours:?} {theirs:?}");
    assert_eq!(
        select(&other, "h_seconds")[0].histograms[0].start_ms,
        select(&store, "h_seconds")[0].histograms[0].start_ms
    );
    let value = |name: &str| select(&other, name)[0].floats[0].value;
    assert_eq!((value("c_total"), value("g"), value("t_count"), value("t_sum")), (2.5, 1.5, 3.0, 4.0));
    assert_eq!(select(&other, "c_total")[0].labels.to_string(), r#"c_total{U__odd_2e_name="é\"\n"}"#);
    let buckets: Vec<f64> = select(&other, "h_seconds_bucket").iter().map(|data| data.floats[0].value).collect();
    assert_eq!(buckets, [0.0, 0.0, 0.0, 7.0, 3.0, 5.0], "le +Inf, 0.1, 1.0 of the empty one, then of x");
    let metadata = other.metadata();
    let histogram = metadata.iter().find(|known| known.name == "h_seconds").unwrap();
    assert_eq!(
        (histogram.kind.as_str(), histogram.help.as_str(), histogram.unit.as_str()),
        ("histogram", "Help.", "seconds")
    );
}
