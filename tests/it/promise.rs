//! The promise about each event: the queue's lanes and limits, expiry, validation, quarantine, redaction, rate limits.

use crate::harness::{Sidewatch, eventually, free_port, run};
use std::fmt::Write as _;
use std::io::Write as _;
use std::net::TcpStream;

fn start(configuration: &str) -> (tempfile::TempDir, Sidewatch) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("sidewatch.yaml"), configuration).unwrap();
    let sidewatch = Sidewatch::start(dir.path(), "run", &[]);
    (dir, sidewatch)
}

/// So many counters of every event that the core is slower than any sender.
fn much_to_count(counters: usize) -> String {
    let mut metrics = String::from("bundled_rules: false\nmetrics:\n");
    for at in 0..counters {
        writeln!(metrics, "  c{at}_total: {{counter: {{match: work.*, labels: {{region: data.region}}}}}}").unwrap();
    }
    metrics
}

fn work(events: usize) -> String {
    (0..events).map(|at| format!("{{\"type\":\"work.done\",\"data\":{{\"region\":\"r{}\"}}}}\n", at % 7)).collect()
}

#[test]
fn an_urgent_event_overtakes_a_backlog_of_100_000() {
    let limits = "limits: {queue_batches: 2000, queue_bytes: 512MiB, queue_events: 200000}\n";
    let (_dir, sidewatch) = start(&format!("sources: {{push: {{http: {{}}}}}}\n{limits}{}", much_to_count(60)));
    let body = work(500);
    for _ in 0..200 {
        assert_eq!(sidewatch.post("/events", "application/x-ndjson", body.as_bytes()).0, 202);
    }
    let waiting = sidewatch.json("/health")["sidewatch"]["queue"].clone();
    assert!(waiting["events"].as_u64().unwrap() > 20_000, "there is a backlog: {waiting}");
    assert_eq!(waiting["capacity_events"], 200_000);
    let urgent = br#"[{"type":"work.trouble","priority":"critical"},{"type":"late","priority":3}]"#;
    assert_eq!(sidewatch.post("/events", "application/json", urgent).0, 202);
    let (counted, late, status) = eventually("the urgent event is counted", 30, || {
        sidewatch.value("events_total{type=\"work.trouble\"}").filter(|counted| *counted == 1.0)?;
        let counted = sidewatch.value("events_total{type=\"work.done\"}").unwrap_or(0.0);
        Some((counted, sidewatch.value("events_total{type=\"late\"}"), sidewatch.json("/api/status")))
    });
    assert!(counted < 90_000.0, "{counted} of 100,000 were counted before it");
    assert_eq!(late, None, "the other event of the same request keeps its place");
    let queue = &status["queue"]["priorities"];
    assert_eq!(queue["high"]["events"], 0, "{queue}");
    assert!(queue["normal"]["events"].as_u64().unwrap() > 0, "{queue}");
}

#[test]
fn what_a_full_queue_drops_is_counted_to_the_event() {
    for policy in ["drop_oldest", "drop_newest"] {
        let port = free_port();
        let sources = format!("sources: {{t: {{tcp: '127.0.0.1:{port}', overflow: {policy}}}}}\n");
        let (_dir, sidewatch) =
            start(&format!("{sources}limits: {{queue_events: 2000, queue_batches: 4}}\n{}", much_to_count(100)));
        let mut connection = eventually("the TCP listener", 10, || TcpStream::connect(("127.0.0.1", port)).ok());
        let (lines, mut sent) = (work(1_000), 0.0);
        for _ in 0..60 {
            connection.write_all(lines.as_bytes()).unwrap();
            sent += 1_000.0;
        }
        drop(connection);
        let dropped = format!("sum(sidewatch_queue_dropped_events_total{{source=\"t\",reason=\"{policy}\"}})");
        eventually("each is counted, or counted as dropped", 30, || {
            let (counted, dropped) =
                (sidewatch.value("sum(events_total)").unwrap_or(0.0), sidewatch.value(&dropped).unwrap_or(0.0));
            assert!(counted + dropped <= sent, "{policy}: {counted} + {dropped}");
            (counted + dropped == sent && dropped > 0.0).then_some(())
        });
        let said = sidewatch.err().lines().filter(|line| line.contains("events are dropped")).count();
        assert_eq!(said, 1, "{policy} is said once\n{}", sidewatch.err());
        assert!(sidewatch.get("/metrics").1.contains("sidewatch_queue_capacity_events 2000"));
    }
}

#[test]
fn nothing_that_can_be_throttled_may_be_dropped() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("sidewatch.yaml"), "sources:\n  app: {file: app.log, overflow: drop_oldest}\n")
        .unwrap();
    let (code, out, err) = run(dir.path(), &["check"]);
    assert_eq!(code, 2, "{out}{err}");
    for expected in ["sidewatch.yaml:2:", "overflow: nothing of this file source may be dropped", "throttled"] {
        assert!(format!("{out}{err}").contains(expected), "{expected}: {out}{err}");
    }
}

#[test]
fn what_has_expired_is_counted_and_nothing_else() {
    let (_dir, sidewatch) = start("sources: {push: {http: {}}}\n");
    let events = br#"
{"type":"a.past","id":"1","payload":{},"expires_at":"2020-01-01T00:00:00Z"}
{"type":"a.old","id":"2","payload":{},"timestamp":"2024-01-01T00:00:00Z","ttl":0.000001}
{"type":"a.lives","id":"3","payload":{},"timestamp":"2024-01-01T00:00:00Z","ttl":"1h"}
{"type":"a.lives","id":"4","payload":{},"expires_at":"2100-01-01T00:00:00Z"}
{"specversion":"1.0","type":"ce.past","id":"5","source":"/s","expirytime":"2020-01-01T00:00:00Z"}
{"event_type":"session.opened","expires_at":"2020-01-01T00:00:00Z","ttl":5}
"#;
    assert_eq!(sidewatch.post("/events", "application/x-ndjson", events).0, 202);
    let refused = "sidewatch_events_refused_total{source=\"push\",reason=\"expired\"}";
    eventually("three are expired", 10, || (sidewatch.value(refused) == Some(3.0)).then_some(()));
    assert_eq!(sidewatch.value("sum(events_total)"), Some(3.0));
    assert_eq!(sidewatch.value("events_total{type=\"session.opened\"}"), Some(1.0), "its own field, not the event's");
    assert_eq!(sidewatch.value("events_total{type=\"a.lives\"}"), Some(2.0));
}
