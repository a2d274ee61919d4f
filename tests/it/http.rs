//! What curl sees: push, refusals, limits, probes, the two listeners, Prometheus's API.

use crate::harness::{Sidewatch, eventually, exchange, in_ci, request};
use std::io::Write;
use std::process::{Command, Stdio};

fn start(configuration: &str) -> (tempfile::TempDir, Sidewatch) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("sidewatch.yaml"), configuration).unwrap();
    let sidewatch = Sidewatch::start(dir.path(), "run", &[]);
    (dir, sidewatch)
}

#[test]
fn a_batch_keeps_its_valid_events_and_says_which_were_refused() {
    let (_dir, sidewatch) = start("sources: {push: {http: {}}}\n");
    let body =
        b"{\"type\":\"a\",\"id\":\"1\"}\n{\"type\":\"a\",\"id\":\n{\"no\":\"type\"}\n{\"type\":\"a\",\"id\":\"2\"}\n";
    let (status, answer) = sidewatch.post("/events", "application/x-ndjson", body);
    let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
    assert_eq!((status, &answer["accepted"]), (400, &2.into()), "{answer}");
    let items: Vec<u64> =
        answer["refused"].as_array().unwrap().iter().map(|one| one["item"].as_u64().unwrap()).collect();
    assert_eq!(items, [1, 2], "{answer}");
    eventually("both valid events", 10, || (sidewatch.value("events_total{type=\"a\"}") == Some(2.0)).then_some(()));
    let refused = sidewatch.value("sum(sidewatch_events_refused_total{source=\"push\"})");
    assert_eq!(refused, Some(2.0));
}

#[test]
fn every_way_to_push_an_event_counts() {
    let (_dir, sidewatch) = start("sources: {push: {http: {}}}\n");
    let event = r#"{"specversion":"1.0","id":"1","source":"/s","type":"x.done","data":{"n":1}}"#;
    let ways: [(&str, String, usize); 6] = [
        ("application/json", event.into(), 1),
        ("application/json", format!("[{event},{event}]"), 2),
        ("application/x-ndjson", format!("{event}\n{event}\n"), 2),
        ("application/cloudevents+json", event.into(), 1),
        ("application/cloudevents-batch+json", format!("[{event}]"), 1),
        ("application/cloudevents+json; charset=utf-8", event.into(), 1),
    ];
    let mut expected = 0.0;
    for (content_type, body, count) in ways {
        let (status, answer) = sidewatch.post("/events", content_type, body.as_bytes());
        assert_eq!(status, 202, "{content_type}: {answer}");
        expected += count as f64;
    }
    let binary = [
        ("content-type", "application/json"),
        ("ce-specversion", "1.0"),
        ("ce-id", "9"),
        ("ce-source", "/s"),
        ("ce-type", "x.done"),
    ];
    let (status, answer) = request(sidewatch.ingest, "POST", "/events", &binary, b"{\"n\":2}");
    assert_eq!(status, 202, "{answer}");
    eventually("all of them", 10, || {
        (sidewatch.value("sum(events_total{type=\"x.done\"})") == Some(expected + 1.0)).then_some(())
    });
}

#[test]
fn too_large_is_413_and_the_wrong_listener_names_the_right_one() {
    let (_dir, sidewatch) = start("sources: {push: {http: {}}}\nlimits: {body_bytes: 100000}\n");
    let (status, answer) = sidewatch.post("/events", "application/json", &vec![b' '; 200_000]);
    assert_eq!(status, 413, "{answer}");
    assert!(answer.contains("100000"), "the limit is named: {answer}");

    let (status, answer) =
        request(sidewatch.observe, "POST", "/events", &[("content-type", "application/json")], b"{}");
    assert!(status == 404 || status == 421, "{status} {answer}");
    assert!(answer.contains(&sidewatch.ingest.to_string()), "the right address is named: {answer}");
    // The ingest listener has everything of the observe listener.
    assert_eq!(request(sidewatch.ingest, "GET", "/livez", &[], b"").0, 200);
}

#[test]
fn a_full_queue_is_429_with_retry_after() {
    // A queue of almost nothing, filled by one request that is larger than it.
    let (_dir, sidewatch) = start("sources: {push: {http: {}}}\nlimits: {queue_bytes: 1000}\n");
    let body = format!("{{\"type\":\"a\",\"id\":\"{}\"}}", "x".repeat(5_000));
    let (status, head, answer) =
        exchange(sidewatch.ingest, "POST", "/events", &[("content-type", "application/json")], body.as_bytes());
    assert_eq!(status, 429, "{answer}");
    assert!(head.to_ascii_lowercase().contains("retry-after:"), "{head}");
}

#[test]
fn probes_health_and_pages_answer() {
    let (_dir, sidewatch) = start(
        "sources: {push: {http: {}}}\nhealth: {beat: {event: {match: beat, within: 1h}}, never: {expr: 'vector(0) > 1'}}\n",
    );
    for path in [
        "/livez",
        "/readyz",
        "/startupz",
        "/-/healthy",
        "/-/ready",
        "/",
        "/api/status",
        "/api/dashboard",
        "/api/events",
    ] {
        assert_eq!(sidewatch.get(path).0, 200, "{path}");
    }
    assert_eq!(sidewatch.json("/openapi.json")["openapi"].as_str().unwrap().split('.').next(), Some("3"));
    sidewatch.post("/events", "application/json", br#"{"type":"beat","id":"1"}"#);
    eventually("the heartbeat is healthy", 10, || {
        (sidewatch.json("/health")["checks"]["beat"]["status"] == "healthy").then_some(())
    });
    assert_eq!(sidewatch.get("/health").0, 200);
}

#[test]
fn an_unhealthy_service_is_503_and_livez_stays_green() {
    let (_dir, sidewatch) = start("sources: {push: {http: {}}}\nhealth: {always: {expr: 'vector(1) > 0'}}\n");
    eventually("unhealthy", 10, || (sidewatch.get("/health").0 == 503).then_some(()));
    assert_eq!((sidewatch.get("/livez").0, sidewatch.get("/readyz").0), (200, 200));
}

#[test]
fn prometheus_answers_are_shaped_as_prometheus_shapes_them() {
    let (_dir, sidewatch) = start("service: {name: shop, instance: i1}\nsources: {push: {http: {}}}\n");
    sidewatch.post(
        "/events",
        "application/json",
        br#"{"type":"a","id":"1","duration_ms":20,"data":{"duration_ms":20}}"#,
    );
    eventually("the event", 10, || sidewatch.value("events_total").map(|_| ()));
    let answer = sidewatch.json("/api/v1/query?query=events_total&time=9999999999");
    assert_eq!(answer.to_string(), r#"{"status":"success","data":{"resultType":"vector","result":[]}}"#);
    let answer = sidewatch.json("/api/v1/query?query=events_total");
    let metric = &answer["data"]["result"][0]["metric"];
    assert_eq!((&metric["job"], &metric["instance"]), (&"shop".into(), &"i1".into()), "{answer}");
    let (status, body) = sidewatch.get("/api/v1/query?query=foo(");
    assert_eq!(status, 400);
    assert!(
        body.contains(r#""errorType":"bad_data""#) && body.contains("parse error: unclosed left parenthesis"),
        "{body}"
    );
    let labels = sidewatch.json("/api/v1/labels");
    assert!(labels["data"].as_array().unwrap().contains(&"instance".into()), "{labels}");
    let p99 = "histogram_quantile(0.99, sum by (le) (event_duration_seconds_bucket))";
    assert!(sidewatch.value(p99).is_some_and(|value| value > 0.0 && value <= 0.025));
    let form = b"query=1%2B1&time=4";
    let (status, body) = request(
        sidewatch.observe,
        "POST",
        "/api/v1/query",
        &[("content-type", "application/x-www-form-urlencoded")],
        form,
    );
    assert_eq!(
        (status, body.as_str()),
        (200, r#"{"status":"success","data":{"resultType":"scalar","result":[4,"2"]}}"#)
    );
    let now = answer["data"]["result"][0]["value"][0].as_f64().unwrap();
    let range =
        sidewatch.json(&format!("/api/v1/query_range?query=events_total&start={}&end={}&step=1", now - 2.0, now + 1.0));
    assert_eq!(range["data"]["resultType"], "matrix", "{range}");
}

/// Events whose types need every escape that the text formats have.
const HARD_TYPES: [&str; 5] = ["a", "b\\\\c", "d\\\"e", "f\\ng", "ünïcode {x=\\\"y\\\"}"];

/// Pushes events of the hard types and returns what `/metrics` then says in the asked format.
fn metrics_of_hard_types(accept: &str) -> String {
    let (_dir, sidewatch) = start("sources: {push: {http: {}}}\n");
    for name in HARD_TYPES {
        let body = format!(
            r#"{{"type":"{name}","id":"1","trace_id":"4bf92f3577b34da6a3ce929d0e0e4736","data":{{"duration_ms":3}}}}"#
        );
        assert_eq!(sidewatch.post("/events", "application/json", body.as_bytes()).0, 202, "{body}");
    }
    eventually("five types", 10, || (sidewatch.value("count(events_total)") == Some(5.0)).then_some(()));
    let (status, metrics) = request(sidewatch.observe, "GET", "/metrics", &[("accept", accept)], b"");
    assert_eq!(status, 200);
    metrics
}

/// Gives the text to a program and holds it to saying nothing against it.
fn judged(program: &str, arguments: &[&str], text: &str) {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let Ok(mut judge) = command.spawn() else {
        assert!(!in_ci(), "{program} is missing");
        return;
    };
    judge.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = judge.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.trim().is_empty(), "{said}\n{text}");
}

#[test]
fn promtool_finds_nothing_wrong_with_the_metrics() {
    judged("promtool", &["check", "metrics"], &metrics_of_hard_types("text/plain"));
}

#[test]
fn the_openmetrics_reader_of_another_project_reads_the_metrics() {
    const READ: &str = "
import sys
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse
text = sys.stdin.buffer.read().decode()
families = {family.name: family for family in parse(text)}
types = {sample.labels['type'] for sample in families['events'].samples if sample.name == 'events_total'}
assert types == {'a', 'b\\\\c', 'd\"e', 'f\\ng', 'ünïcode {x=\"y\"}'}, types
buckets = [sample for sample in families['event_duration_seconds'].samples if sample.exemplar]
assert buckets and all(sample.exemplar.labels for sample in buckets), 'no exemplars'
";
    let python = std::env::var("SIDEWATCH_PYTHON").unwrap_or_else(|_| "python3".into());
    judged(&python, &["-c", READ], &metrics_of_hard_types("application/openmetrics-text; version=1.0.0"));
}
