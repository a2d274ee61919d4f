//! The scrape source through the real binary, against a small exporter of this test; and Prometheus that scrapes sidewatch.

use crate::harness::{Sidewatch, encode, eventually, exchange, free_port, get, in_ci};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
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
        for expected in ["proto=io.prometheus.client.metricfamily", "openmetrics-text;version=1.0.0", "x-prometheus-scrape-timeout-seconds: 0.1"] {
            assert!(head.contains(expected), "{head}");
        }
    }

    // A series that vanishes ends at once, others go on; an alert on a scraped metric fires.
    exporter.set(200, TEXT, b"requests_total{path=\"/b\",job=\"inner\"} 5\ntemperature 35\n");
    wait(&sidewatch, "requests_total{route=\"b\"}", Some(5.0));
    assert_eq!(sidewatch.value("requests_total{route=\"a\"}"), None, "stale in the scrape that lacks it");
    wait(&sidewatch, "ALERTS{alertname=\"Hot\",alertstate=\"firing\"}", Some(1.0));
    assert_eq!(sidewatch.value("count_over_time(requests_total{route=\"a\"}[5m]) > 0").map(|count| count > 0.0), Some(true));

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
    wait(&sidewatch, "sidewatch_scrapes_failed_total{source=\"app\",reason=\"a brace is not closed\"} > 0 and on() vector(1) > bool 0", sidewatch.value("sidewatch_scrapes_failed_total"));

    // It recovers alone, in another format.
    exporter.set(200, OPEN, b"# TYPE temperature gauge\ntemperature 22\n# EOF\n");
    wait(&sidewatch, "up", Some(1.0));
    wait(&sidewatch, "temperature", Some(22.0));
    wait(&sidewatch, "ALERTS{alertname=\"SidewatchDeaf\",alertstate=\"firing\",source=\"app\"}", None);
    wait(&sidewatch, "ALERTS{alertname=\"Hot\"}", None);

    // The target goes out of the configuration: its series end with it.
    configure(dir.path(), "profile: testing\nsources: {push: {http: {}}}\n");
    assert_eq!(sidewatch.post("/-/reload", "text/plain", b"").0, 200);
    wait(&sidewatch, "up", None);
    assert_eq!(sidewatch.value("temperature"), None);
    assert_eq!(sidewatch.terminate(), Some(0));
}
