//! The scrape source through the real binary, against a small exporter of this test; and Prometheus that scrapes sidewatch.

use crate::harness::{Sidewatch, encode, eventually, exchange, free_port, get, in_ci};
use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

const TEXT: &str = "text/plain; version=0.0.4";
const OPEN: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const PROTO: &str = "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited";

/// What the exporter answers: status, content type, body; and the heads of the requests it saw.
#[derive(Default)]
struct Answer {
    status: u16,
    content_type: String,
    body: Vec<u8>,
    heads: Vec<String>,
}

struct Exporter {
    port: u16,
    answer: Arc<Mutex<Answer>>,
}

impl Exporter {
    fn start(content_type: &str, body: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let answer = Arc::new(Mutex::new(Answer::default()));
        let served = answer.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let served = served.clone();
                std::thread::spawn(move || {
                    let mut reader = BufReader::new(stream);
                    loop {
                        let mut head = String::new();
                        while !head.ends_with("\r\n\r\n") {
                            if reader.read_line(&mut head).unwrap_or(0) == 0 {
                                return;
                            }
                        }
                        let mut answer = served.lock().unwrap();
                        answer.heads.push(head.to_ascii_lowercase());
                        let head = format!(
                            "HTTP/1.1 {} X\r\ncontent-type: {}\r\ncontent-length: {}\r\n\r\n",
                            answer.status,
                            answer.content_type,
                            answer.body.len()
                        );
                        let bytes = [head.as_bytes(), &answer.body].concat();
                        drop(answer);
                        if reader.get_mut().write_all(&bytes).is_err() {
                            return;
                        }
                    }
                });
            }
        });
        let exporter = Self { port, answer };
        exporter.set(200, content_type, body.as_bytes());
        exporter
    }

    fn set(&self, status: u16, content_type: &str, body: &[u8]) {
        let mut answer = self.answer.lock().unwrap();
        (answer.status, answer.body) = (status, body.to_vec());
        content_type.clone_into(&mut answer.content_type);
    }
}

fn configure(dir: &Path, text: &str) {
    std::fs::write(dir.join("sidewatch.yaml"), text).unwrap();
}

fn wait(sidewatch: &Sidewatch, query: &str, expected: Option<f64>) {
    eventually(&format!("{query} is {expected:?}"), 20, || (sidewatch.value(query) == expected).then_some(()));
}

#[test]
fn a_target_is_scraped_lost_and_found_again() {
    let dir = tempfile::tempdir().unwrap();
    let body = "# HELP requests_total Requests.\n# TYPE requests_total counter\nrequests_total{path=\"/a\"} 3\n\
                requests_total{path=\"/b\",job=\"inner\"} 4\nnoise 1\n# TYPE temperature gauge\ntemperature 21.5\n";
    let exporter = Exporter::start(TEXT, body);
    let config = format!(
        "profile: testing\nevaluation_interval: 100ms\nsources:\n  app:\n    scrape:\n      url: http://127.0.0.1:{}/metrics\n      interval: 100ms\n      \
         labels: {{env: prod}}\n      metric_relabel_configs:\n        - {{source_labels: [__name__], regex: noise, action: drop}}\n        \
         - {{source_labels: [path], regex: '/(.*)', target_label: route}}\n        - {{action: labeldrop, regex: path}}\n\
         alerts:\n  Hot: {{expr: 'temperature{{job=\"app\"}} > 30'}}\n  Down: {{expr: 'up == 0'}}\n",
        exporter.port
    );
    configure(dir.path(), &config);
    let sidewatch = Sidewatch::start(dir.path(), "run", &[]);
    wait(&sidewatch, "requests_total{route=\"a\"}", Some(3.0));
    let instance = format!("127.0.0.1:{}", exporter.port);
    let labels = format!("{{job=\"app\",instance=\"{instance}\",env=\"prod\"}}");
    wait(&sidewatch, &format!("up{labels}"), Some(1.0));
    wait(&sidewatch, &format!("scrape_samples_scraped{labels}"), Some(4.0));
    wait(&sidewatch, &format!("scrape_samples_post_metric_relabeling{labels}"), Some(3.0));
    wait(&sidewatch, "scrape_series_added", Some(0.0));
    assert!(sidewatch.value("scrape_duration_seconds").unwrap() < 5.0);
    assert_eq!(sidewatch.value("requests_total{route=\"b\",exported_job=\"inner\",job=\"app\"}"), Some(4.0));
    assert_eq!(sidewatch.value("noise"), None);
    let metadata = sidewatch.json("/api/v1/metadata?metric=requests_total");
    assert_eq!(metadata["data"]["requests_total"][0]["type"], "counter", "{metadata}");
    assert_eq!(metadata["data"]["requests_total"][0]["help"], "Requests.");
    assert!(!sidewatch.get("/metrics").1.contains("temperature"), "what is scraped is not exposed again");
    assert_eq!(sidewatch.json("/health")["sidewatch"]["sources"]["app"]["state"], "connected");
    {
        let answer = exporter.answer.lock().unwrap();
        let head = answer.heads.last().unwrap();
        for expected in [
            "proto=io.prometheus.client.metricfamily",
            "openmetrics-text;version=1.0.0",
            "x-prometheus-scrape-timeout-seconds: 0.1",
        ] {
            assert!(head.contains(expected), "{head}");
        }
    }

    // A series that vanishes ends at once, others go on; an alert on a scraped metric fires.
    exporter.set(200, TEXT, b"requests_total{path=\"/b\",job=\"inner\"} 5\ntemperature 35\n");
    wait(&sidewatch, "requests_total{route=\"b\"}", Some(5.0));
    assert_eq!(sidewatch.value("requests_total{route=\"a\"}"), None, "stale in the scrape that lacks it");
    wait(&sidewatch, "ALERTS{alertname=\"Hot\",alertstate=\"firing\"}", Some(1.0));
    assert_eq!(
        sidewatch.value("count_over_time(requests_total{route=\"a\"}[5m]) > 0").map(|count| count > 0.0),
        Some(true)
    );

    // A bad line fails the scrape: nothing of it is stored, everything ends, the reason is told.
    exporter.set(200, TEXT, b"temperature 36\nrequests_total{ 1\n");
    wait(&sidewatch, "up", Some(0.0));
    assert_eq!(sidewatch.value("temperature"), None);
    wait(&sidewatch, "ALERTS{alertname=\"Down\",alertstate=\"firing\"}", Some(1.0));
    let source = eventually("the source is lost", 10, || {
        let source = sidewatch.json("/health")["sidewatch"]["sources"]["app"].clone();
        (source["state"] == "lost").then_some(source)
    });
    assert!(source.to_string().contains("line 2: a brace is not closed"), "{source}");
    wait(&sidewatch, "ALERTS{alertname=\"SidewatchDeaf\",alertstate=\"firing\",source=\"app\"}", Some(1.0));
    let failed = "sidewatch_scrapes_failed_total{source=\"app\",reason=\"a brace is not closed\"}";
    eventually("the failure is counted by its reason", 10, || sidewatch.value(failed).filter(|count| *count >= 1.0));

    // It recovers alone, in another format.
    exporter.set(200, OPEN, b"# TYPE temperature gauge\ntemperature 22\n# EOF\n");
    wait(&sidewatch, "up", Some(1.0));
    wait(&sidewatch, "temperature", Some(22.0));
    wait(&sidewatch, "ALERTS{alertname=\"SidewatchDeaf\",alertstate=\"firing\",source=\"app\"}", None);
    wait(&sidewatch, "ALERTS{alertname=\"Hot\"}", None);

    // The target goes out of the configuration while it is down: its series end with it, and nobody misses it.
    exporter.set(500, TEXT, b"");
    wait(&sidewatch, "ALERTS{alertname=\"SidewatchDeaf\",alertstate=\"firing\",source=\"app\"}", Some(1.0));
    configure(dir.path(), "profile: testing\nsources: {push: {http: {}}}\n");
    assert_eq!(sidewatch.post("/-/reload", "text/plain", b"").0, 200);
    wait(&sidewatch, "up", None);
    assert_eq!(sidewatch.value("temperature"), None);
    wait(&sidewatch, "ALERTS{alertname=\"SidewatchDeaf\",alertstate=\"firing\",source=\"app\"}", None);
    assert_eq!(sidewatch.terminate(), Some(0));
}

const SHOP: &str = "profile: testing\nservice: shop\nmetrics:\n  orders_total: {counter: {match: order.completed, labels: {region: data.region}}}\n  \
    order_duration_seconds: {histogram: {match: order.completed, value: data.duration_ms, unit: ms, labels: {region: data.region}}}\n";

/// A sidewatch that has counted 200 orders, and no more.
fn shop(dir: &Path) -> Sidewatch {
    configure(dir, SHOP);
    let sidewatch = Sidewatch::start(dir, "run", &[]);
    let event = |at: usize| {
        let region = ["eu", "us"][at % 2];
        // From microseconds to minutes, so that the spans have gaps; zero among them.
        let duration_ms = if at.is_multiple_of(20) { 0.0 } else { 0.003 * 1.09_f64.powi(at as i32) };
        format!(
            "{{\"type\":\"order.completed\",\"trace_id\":\"t{at}\",\"payload\":{{\"region\":\"{region}\",\"duration_ms\":{duration_ms}}}}}\n"
        )
    };
    let events: String = (0..200).map(event).collect();
    assert!(sidewatch.post("/events", "application/x-ndjson", events.as_bytes()).0 < 300);
    wait(&sidewatch, "sum(orders_total)", Some(200.0));
    sidewatch
}

/// What one server answers to an instant query: values by region, in order.
fn answers(port: u16, query: &str) -> Option<Vec<(String, f64)>> {
    let (_, body) = get(port, &format!("/api/v1/query?query={}", encode(query)));
    let answer: Value = serde_json::from_str(&body).ok()?;
    let result = answer["data"]["result"].as_array()?;
    let one = |one: &Value| {
        let value = one["value"][1].as_str()?.parse().ok()?;
        Some((one["metric"]["region"].as_str().unwrap_or("").to_owned(), value))
    };
    let mut all: Vec<(String, f64)> = result.iter().filter_map(one).collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    (!all.is_empty()).then_some(all)
}

const EXACT: [&str; 7] = [
    "sum by (region) (orders_total)",
    "sum by (region) (histogram_count(order_duration_seconds))",
    "sum by (region) (histogram_sum(order_duration_seconds))",
    "histogram_quantile(1, sum by (region) (order_duration_seconds))",
    "histogram_quantile(0, sum by (region) (order_duration_seconds))",
    "sum by (region) (events_total{type=\"order.completed\"}) or on() sum(events_total)",
    "sum(sidewatch_events_refused_total) or vector(0)",
];

#[test]
fn one_sidewatch_scrapes_the_native_histograms_of_another() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let shop = shop(one.path());
    let config = |interval: &str| {
        format!(
            "profile: testing\nsources: {{shop: {{scrape: {{url: 'http://127.0.0.1:{}/metrics', interval: {interval}, enable_compression: true}}}}}}\n",
            shop.observe
        )
    };
    configure(two.path(), &config("100ms"));
    let watcher = Sidewatch::start(two.path(), "run", &[]);
    eventually("the orders arrive", 20, || answers(watcher.observe, "orders_total"));
    let interior = [
        "histogram_quantile(0.5, sum by (region) (order_duration_seconds))",
        "sum by (region) (histogram_fraction(0, 0.1, order_duration_seconds))",
    ];
    for query in EXACT[..5].iter().chain(&interior) {
        let expected = answers(shop.observe, query);
        assert!(expected.is_some(), "{query}");
        assert_eq!(answers(watcher.observe, query), expected, "{query}");
    }
    let classic = "sum by (region) (order_duration_seconds_bucket{le=\"0.1\"})";
    assert_eq!(answers(watcher.observe, classic), answers(shop.observe, classic), "the classic buckets stand beside");
    assert_eq!(watcher.value("up{job=\"shop\"}"), Some(1.0));

    // A reload that changes the interval does not end the target's series.
    configure(two.path(), &config("200ms"));
    assert_eq!(watcher.post("/-/reload", "text/plain", b"").0, 200);
    let before = watcher.value("count_over_time(up{job=\"shop\"}[1m])").unwrap();
    eventually("scraping goes on", 10, || {
        let up = watcher.value("up{job=\"shop\"}");
        assert_eq!(up, Some(1.0));
        watcher.value("count_over_time(up{job=\"shop\"}[1m])").filter(|count| *count > before + 3.0)
    });
    let heads = exchange(shop.observe, "GET", "/metrics", &[("accept", PROTO)], b"").1;
    assert!(heads.to_ascii_lowercase().contains("content-type: application/vnd.google.protobuf"), "{heads}");
}

struct Prometheus(Child);

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn prometheus_scrapes_protobuf_and_answers_as_sidewatch_does() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let shop = shop(one.path());
    let port = free_port();
    let config = format!(
        "global: {{scrape_interval: 1s}}\nscrape_configs:\n  - job_name: shop\n    static_configs: [{{targets: ['127.0.0.1:{}']}}]\n",
        shop.observe
    );
    std::fs::write(two.path().join("prometheus.yml"), config).unwrap();
    let started = Command::new("prometheus")
        .args(["--config.file=prometheus.yml", "--storage.tsdb.path=data", "--enable-feature=native-histograms"])
        .arg(format!("--web.listen-address=127.0.0.1:{port}"))
        .current_dir(two.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let _prometheus = match started {
        Ok(child) => Prometheus(child),
        Err(error) => {
            assert!(!in_ci(), "prometheus cannot be started: {error}");
            return;
        }
    };
    eventually("prometheus has the native histogram", 60, || {
        answers(port, "histogram_count(order_duration_seconds)").filter(|found| found.len() == 2)
    });
    let alike = |query: &str, tolerance: f64| {
        let (ours, theirs) = (answers(shop.observe, query).unwrap(), answers(port, query).unwrap());
        assert_eq!(ours.len(), theirs.len(), "{query}");
        for ((region, ours), (same, theirs)) in ours.iter().zip(&theirs) {
            assert_eq!(region, same, "{query}");
            assert!((ours - theirs).abs() <= ours.abs() * tolerance, "{query}: {region} {ours} {theirs}");
        }
    };
    // Go computes the bounds of buckets in other steps: the last digit may differ.
    EXACT.iter().for_each(|query| alike(query, 1e-14));
    // Ranks inside buckets, not between them. Within a bucket (9 % wide) Prometheus 2 interpolates on a line where
    // Prometheus 3 and sidewatch follow the exponent.
    for quantile in [0.123, 0.456, 0.873, 0.987] {
        alike(&format!("histogram_quantile({quantile}, sum by (region) (order_duration_seconds))"), 0.01);
    }
}
