//! The receiver of remote write through the real binary: Prometheus as the sender, late and bad samples, a kill.

use crate::differential::{Prometheus, write};
use crate::harness::{Sidewatch, eventually, exchange, free_port, request};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};
use write::{Series, labels};

const HEADERS: [(&str, &str); 2] = [("content-type", "application/x-protobuf"), ("content-encoding", "snappy")];

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64
}

fn configure(dir: &Path, more: &str) {
    let text = format!("bundled_rules: false\nsources: {{none: {{none: {{}}}}}}\n{more}");
    std::fs::write(dir.join("sidewatch.yaml"), text).unwrap();
}

fn send(sidewatch: &Sidewatch, name: &str, samples: &[(i64, f64)]) -> (u16, String) {
    let series = Series { labels: labels(&[("__name__", name), ("x", "1")]), samples: samples.to_vec() };
    request(sidewatch.ingest, "POST", "/api/v1/write", &HEADERS, &write::request(&[series]))
}

#[test]
fn prometheus_writes_here_what_it_scrapes() {
    let dir = tempfile::tempdir().unwrap();
    configure(dir.path(), "");
    let sidewatch = Sidewatch::start(dir.path(), "run", &[]);
    let (own, port) = (tempfile::tempdir().unwrap(), free_port());
    let text = format!(
        "global: {{scrape_interval: 1s}}\nscrape_configs:\n  - job_name: self\n    static_configs: [{{targets: ['127.0.0.1:{port}']}}]\n\
         remote_write:\n  - url: http://127.0.0.1:{}/api/v1/write\n    metadata_config: {{send_interval: 1s}}\n",
        sidewatch.ingest
    );
    let Some(_prometheus) = Prometheus::start_with(own.path(), &text, port) else { return };
    eventually("its samples are here", 30, || (sidewatch.value("up{job=\"self\"}") == Some(1.0)).then_some(()));
    eventually("a rate of them", 30, || {
        sidewatch.value("sum(rate(prometheus_http_requests_total{job=\"self\"}[10s]))").filter(|rate| *rate > 0.0)
    });
    eventually("what they are", 30, || {
        let metadata = sidewatch.json("/api/v1/metadata?metric=prometheus_http_requests_total");
        (metadata["data"]["prometheus_http_requests_total"][0]["type"] == "counter").then_some(())
    });
}

#[test]
fn late_samples_find_their_place_and_survive_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    configure(dir.path(), "state: {dir: state, checkpoint_interval: 50ms}\nlimits: {late_samples: 1m}\n");
    let sidewatch = Sidewatch::start(dir.path(), "run", &[]);
    let now = now_ms();
    let at = |second: i64| now - 100_000 + second * 1_000;
    assert_eq!(send(&sidewatch, "m", &[(at(10), 1.0), (at(20), 2.0), (at(80), 8.0)]).0, 204);
    eventually("a checkpoint", 10, || sidewatch.value("count(m)").map(drop));
    assert_eq!(send(&sidewatch, "m", &[(at(70), 7.0), (at(50), 5.0), (at(80), 8.0)]).0, 204, "late, and one again");
    let (status, answer) = send(&sidewatch, "m", &[(at(80), 9.0), (at(15), 1.5), (at(90), 9.0)]);
    assert!(status == 400 && answer.contains("2 samples") && answer.contains("duplicate"), "{status} {answer}");
    assert!(answer.contains("out_of_order"), "{answer}");
    let (status, answer) = send(&sidewatch, "m", &[(now + 3_600_000, 1.0)]);
    assert!(status == 400 && answer.contains("too_far_ahead"), "{status} {answer}");
    let (status, answer) = send(&sidewatch, "m", &[(now - 7_200_000, 1.0)]);
    assert!(status == 400 && answer.contains("too_old"), "{status} {answer}");
    let all = format!("/api/v1/query?query=m%5B5m%5D&time={}", (now + 1_000) as f64 / 1e3);
    let values = |sidewatch: &Sidewatch| {
        let answer = sidewatch.json(&all);
        let values = answer["data"]["result"][0]["values"].as_array().cloned().unwrap_or_default();
        values.iter().map(|pair| pair[1].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let expected = ["1", "2", "5", "7", "8", "9"];
    assert_eq!(values(&sidewatch), expected);
    // Everything is on disk once a message that came later is.
    assert_eq!(send(&sidewatch, "later", &[(now, 1.0)]).0, 204);
    let written = || sidewatch.value("sidewatch_checkpoint_seconds_count").unwrap_or(0.0);
    let before = written();
    eventually("two more checkpoints", 20, || (written() >= before + 2.0).then_some(()));
    sidewatch.kill();
    let sidewatch = Sidewatch::start(dir.path(), "run", &[]);
    assert_eq!(values(&sidewatch), expected, "after kill -9");
}

#[test]
fn what_is_no_remote_write_is_told() {
    let dir = tempfile::tempdir().unwrap();
    configure(dir.path(), "");
    let sidewatch = Sidewatch::start(dir.path(), "run", &[]);
    let body = write::request(&[Series { labels: labels(&[("__name__", "m")]), samples: vec![(now_ms(), 1.0)] }]);
    for (content_type, encoding, status) in [
        ("application/x-protobuf;proto=prometheus.WriteRequest", "snappy", 204),
        ("application/x-protobuf;proto=io.prometheus.write.v2.Request", "snappy", 400),
        ("application/x-protobuf;proto=other", "snappy", 415),
        ("application/json", "snappy", 415),
        ("application/x-protobuf", "gzip", 415),
    ] {
        let headers = [("content-type", content_type), ("content-encoding", encoding)];
        let (got, answer) = request(sidewatch.ingest, "POST", "/api/v1/write", &headers, &body);
        assert_eq!(got, status, "{content_type} {encoding}: {answer}");
    }
    assert_eq!(request(sidewatch.ingest, "POST", "/api/v1/write", &HEADERS, b"nonsense").0, 400);
    let (status, answer) = request(sidewatch.observe, "POST", "/api/v1/write", &HEADERS, &body);
    assert!(status == 421 && answer.contains("ingest"), "{status} {answer}");
}

/// The second protocol by hand: texts by number, an exemplar, the headers that say what was written.
#[test]
fn the_second_protocol_says_what_it_wrote() {
    let dir = tempfile::tempdir().unwrap();
    configure(dir.path(), "");
    let sidewatch = Sidewatch::start(dir.path(), "run", &[]);
    let now = now_ms();
    let mut body = Vec::new();
    for symbol in ["", "__name__", "orders_total", "shop", "a", "trace_id", "abc123"] {
        write::bytes(&mut body, 4, symbol.as_bytes());
    }
    let mut series = Vec::new();
    write::bytes(&mut series, 1, &[1, 2, 3, 4]);
    let mut sample = vec![1 << 3 | 1];
    sample.extend_from_slice(&5.0_f64.to_le_bytes());
    sample.push(2 << 3);
    write::varint(&mut sample, now.cast_unsigned());
    write::bytes(&mut series, 2, &sample);
    let mut exemplar = Vec::new();
    write::bytes(&mut exemplar, 1, &[5, 6]);
    exemplar.push(2 << 3 | 1);
    exemplar.extend_from_slice(&1.0_f64.to_le_bytes());
    exemplar.push(3 << 3);
    write::varint(&mut exemplar, now.cast_unsigned());
    write::bytes(&mut series, 4, &exemplar);
    write::bytes(&mut body, 5, &series);
    let packed = snap::raw::Encoder::new().compress_vec(&body).unwrap();
    let headers = [
        ("content-type", "application/x-protobuf;proto=io.prometheus.write.v2.Request"),
        ("content-encoding", "snappy"),
    ];
    let (status, head, answer) = exchange(sidewatch.ingest, "POST", "/api/v1/write", &headers, &packed);
    assert_eq!(status, 204, "{answer}");
    let head = head.to_ascii_lowercase();
    for expected in ["samples-written: 1", "histograms-written: 0", "exemplars-written: 1"] {
        assert!(head.contains(&format!("x-prometheus-remote-write-{expected}")), "{head}");
    }
    assert_eq!(sidewatch.value("orders_total{shop=\"a\"}"), Some(5.0));
    let path = format!(
        "/api/v1/query_exemplars?query=rate(orders_total%5B5m%5D)&start={}&end={}",
        now / 1000 - 60,
        now / 1000 + 60
    );
    let answer = sidewatch.json(&path);
    assert_eq!(answer["data"][0]["seriesLabels"]["shop"], "a", "{answer}");
    assert_eq!(answer["data"][0]["exemplars"][0]["labels"]["trace_id"], "abc123", "{answer}");
    let tree = sidewatch.json(
        "/api/v1/parse_query?query=sum%20by%20(x)%20(rate(m%7Ba%3D%22b%22%7D%5B5m%5D%20offset%201m))%20%3E%20bool%201",
    );
    let data = &tree["data"];
    assert_eq!(
        (&data["type"], &data["op"], &data["bool"]),
        (&"binaryExpr".into(), &">".into(), &true.into()),
        "{tree}"
    );
    assert_eq!(data["lhs"]["expr"]["args"][0]["range"], 300_000, "{tree}");
}
