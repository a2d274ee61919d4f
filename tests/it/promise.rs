//! The promise about each event: the queue's lanes and limits, expiry, validation, quarantine, redaction, rate limits.

use crate::harness::{Receiver, Sidewatch, eventually, exchange, free_port, run};
use std::fmt::Write as _;
use std::io::Write as _;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tokio_tungstenite::tungstenite;

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
    let limits = "limits: {queue_batches: 2000, queue_bytes: 512MiB, queue_events: 400000}\n";
    let (_dir, sidewatch) = start(&format!("sources: {{push: {{http: {{}}}}}}\n{limits}{}", much_to_count(300)));
    let body = work(1_000);
    // Several senders at once: one alone is answered no faster than the core counts.
    let (sent, enough) = (AtomicU64::new(0), AtomicBool::new(false));
    let waiting = std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !enough.load(Ordering::SeqCst) && sent.load(Ordering::SeqCst) < 2_000_000 {
                    // 429 is a full queue, which is a backlog as well.
                    let status = sidewatch.post("/events", "application/x-ndjson", body.as_bytes()).0;
                    if status == 429 {
                        return;
                    }
                    assert_eq!(status, 202);
                    sent.fetch_add(1_000, Ordering::SeqCst);
                }
            });
        }
        let waiting = eventually("a backlog of 100,000", 60, || {
            let waiting = sidewatch.json("/health")["sidewatch"]["queue"].clone();
            (waiting["events"].as_u64().unwrap() >= 100_000).then_some(waiting)
        });
        enough.store(true, Ordering::SeqCst);
        waiting
    });
    let sent = sent.into_inner() as f64;
    assert_eq!(waiting["capacity_events"], 400_000);
    let urgent = br#"[{"type":"work.trouble","priority":"critical"},{"type":"late","priority":3}]"#;
    assert_eq!(sidewatch.post("/events", "application/json", urgent).0, 202);
    let (counted, late, status) = eventually("the urgent event is counted", 30, || {
        sidewatch.value("events_total{type=\"work.trouble\"}").filter(|counted| *counted == 1.0)?;
        let counted = sidewatch.value("events_total{type=\"work.done\"}").unwrap_or(0.0);
        Some((counted, sidewatch.value("events_total{type=\"late\"}"), sidewatch.json("/api/status")))
    });
    assert!(counted < sent, "{counted} of {sent} were counted before it");
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
fn limits_that_would_mean_nothing_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let configuration = "sources:
  a: {statsd: {udp: '127.0.0.1:0'}, overflow: drop_newest}
  b: {otlp: {}, overflow: drop_oldest}
  c: {scrape: 'http://127.0.0.1:1/metrics', rate_limit: 5/s}
  d: {statsd: {tcp: '127.0.0.1:0'}, rate_limit: {per_client: 5/s}}
  e: {none: {}, rate_limit: 5/s}
";
    std::fs::write(dir.path().join("sidewatch.yaml"), configuration).unwrap();
    let (code, out, err) = run(dir.path(), &["check"]);
    let said = format!("{out}{err}");
    assert_eq!(code, 2, "{said}");
    for (line, expected) in [
        (2, "overflow: a statsd source drops nothing itself"),
        (3, "overflow: an otlp source drops nothing itself"),
        (4, "rate_limit: nobody sends to a scrape source"),
        (5, "per_client: the clients of a statsd source are not told apart"),
        (6, "rate_limit: nobody sends to a none source"),
    ] {
        let found = said.lines().any(|one| one.contains(&format!("sidewatch.yaml:{line}:")) && one.contains(expected));
        assert!(found, "{line} {expected}: {said}");
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

const ORDER_SCHEMA: &str = r#"{
  "$schema": "https://json-schema.org/draft/2020-12/schema",
  "$id": "https://shop.example/schemas/order.json",
  "version": "3",
  "type": "object",
  "required": ["id", "host"],
  "properties": {
    "id": {"$ref": "common.json#/$defs/id"},
    "host": {"type": "string", "format": "hostname"},
    "at": {"type": "string", "format": "date-time"}
  }
}"#;

#[test]
fn invalid_events_are_counted_by_schema_and_kept_through_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    write("order.json", ORDER_SCHEMA);
    write("common.json", "{\"$defs\": {\"id\": {\"type\": \"integer\", \"minimum\": 1}}}");
    write(
        "sidewatch.yaml",
        "sources: {push: {http: {}}}
state: {dir: state, checkpoint_interval: 100ms}
schemas:
  order: {match: 'order.*', schema: order.json}
  ping: {match: ping, schema: {type: object, required: [n]}, version: v9, on_invalid: count}
",
    );
    let sidewatch = Sidewatch::start(dir.path(), "run", &[]);
    let events = br#"
{"type":"order.placed","id":"1","data":{"id":1,"host":"web-1.local","at":"2026-11-20T09:00:00Z"}}
{"type":"order.placed","id":"2","data":{"id":0,"host":"-bad-","at":"yesterday"}}
{"type":"order.placed","id":"3","payload":{"host":"a"}}
{"type":"ping","id":"4","data":{}}
{"type":"other","id":"5","data":{}}
{"type":"order.placed","id":
"#;
    let (status, answer) = sidewatch.post("/events", "application/x-ndjson", events);
    assert_eq!(status, 400, "{answer}");
    let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(answer["accepted"], 3, "{answer}");
    assert_eq!(answer["refused"][0]["reason"], "invalid_schema");
    let counted = |query: &str, expected: f64| {
        eventually(query, 20, || (sidewatch.value(query) == Some(expected)).then_some(()));
    };
    counted("sidewatch_events_refused_total{source=\"push\",reason=\"invalid_schema\"}", 2.0);
    counted("sidewatch_events_validated_total{schema=\"order\",version=\"3\",result=\"valid\"}", 1.0);
    counted("sidewatch_events_validated_total{schema=\"order\",version=\"3\",result=\"invalid\"}", 2.0);
    counted("sidewatch_events_validated_total{schema=\"ping\",version=\"v9\",result=\"invalid\"}", 1.0);
    counted("events_total{type=\"order.placed\"}", 1.0);
    counted("events_total{type=\"ping\"}", 1.0);
    let kept = sidewatch.json("/api/quarantine");
    assert_eq!((&kept["events"], &kept["total"]), (&3.into(), &3.into()), "{kept}");
    let second = &kept["quarantine"][2];
    assert_eq!(
        (&second["type"], &second["id"], &second["schema"]),
        (&"order.placed".into(), &"2".into(), &"order".into())
    );
    let pointers: Vec<&str> =
        second["reasons"].as_array().unwrap().iter().map(|one| one["pointer"].as_str().unwrap()).collect();
    assert_eq!(pointers, ["/id", "/host", "/at"], "{second}");
    assert_eq!(second["payload"]["data"]["host"], "-bad-");
    assert_eq!(kept["quarantine"][0]["reason"], "truncated");
    let only = sidewatch.json("/api/quarantine?reason=invalid_schema&type=order.*&limit=1");
    assert_eq!((only["quarantine"].as_array().unwrap().len(), &only["quarantine"][0]["id"]), (1, &"3".into()));

    let url = format!("127.0.0.1:{}", sidewatch.observe);
    let (code, out, err) = run(dir.path(), &["events", "quarantine", "--url", &url, "--reason", "invalid_schema"]);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("invalid_schema  order.placed 2") && out.contains("/host: "), "{out}");

    // What is in quarantine survives a kill, with the counts.
    sidewatch.checkpointed();
    sidewatch.kill();
    let sidewatch = Sidewatch::start(dir.path(), "run", &[]);
    let again = sidewatch.json("/api/quarantine");
    assert_eq!(again["quarantine"], kept["quarantine"]);
    let (code, out, err) =
        run(dir.path(), &["events", "quarantine", "--clear", "--url", &format!("127.0.0.1:{}", sidewatch.observe)]);
    assert_eq!((code, out.as_str()), (0, "3 items forgotten\n"), "{err}");
    assert_eq!(sidewatch.json("/api/quarantine")["events"], 0);
}

/// In every hidden field; nobody may ever see it.
const MARKER: &str = "MARKER4111";

#[test]
fn what_is_redacted_is_found_nowhere() {
    let dir = tempfile::tempdir().unwrap();
    let (hook, spans, told) = (Receiver::start(200), Receiver::start(200), Receiver::start(200));
    let configuration = format!(
        "sources: {{push: {{http: {{}}}}, lines: {{unix: {{path: in.sock}}, lines: '(?P<type>\\S+) (?P<card>\\S+)'}}}}
state: {{dir: state, checkpoint_interval: 100ms}}
redact:
  fields: [data.card, 'data.*.email', headers.authorization, correlation, {{path: data.user, hash: true}}, {{regex: 'MARKER\\d+'}}, {{regex: 'feedfeed\\w+'}}]
  hash_key: 0123456789abcdef
schemas:
  strict: {{match: strict, schema: {{properties: {{card: {{type: integer}}}}}}}}
export:
  seen: {{log: {{match: '*', fields: [data.card, data.note, data.buyer, headers, correlation]}}}}
  spans: {{otlp: {{url: 'http://127.0.0.1:{}', traces: true, gzip: false, interval: 200ms}}}}
publish: {{told: {{http: {{url: 'http://127.0.0.1:{}'}}}}}}
metrics:
  users_total: {{counter: {{match: pay, labels: {{user: data.user}}}}}}
alerts:
  Paid:
    event: {{match: pay, where: {{data.card: {{exists: true}}}}, count: '>= 1', within: 1h, by: data.user}}
    annotations: {{summary: 'card {{{{ $event.data.card }}}} of {{{{ $event.data.buyer }}}}'}}
    notify: hook
notify: {{hook: {{webhook: {{url: 'http://127.0.0.1:{}/'}}}}}}
",
        spans.port, told.port, hook.port
    );
    std::fs::write(dir.path().join("sidewatch.yaml"), configuration).unwrap();
    let sidewatch = Sidewatch::start(dir.path(), "run", &["--log", "trace"]);
    let full = format!(
        r#"{{"type":"pay","id":"{MARKER}","subject":"of {MARKER}","correlation_id":"{MARKER}","headers":{{"Authorization":"{MARKER}","traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}},"data":{{"duration_ms":5,"card":"{MARKER}","user":"{MARKER}","buyer":{{"email":"{MARKER}","name":"n"}},"note":"see {MARKER} there"}}}}"#
    );
    for body in [
        full.clone(),
        full.replace("\"pay\"", "\"strict\""),
        full.replace("\"pay\"", "\"other\"").replace("0af7651916cd43dd", "feedfeedfeedfeed"),
        full.replace("\"type\"", "\"tpe\""),
        full[..full.len() - 20].to_owned(),
        format!("nonsense card={MARKER}"),
        format!(r#"{{"event_type":"typed","card":"{MARKER}","c\u0061rd":"{MARKER}"}}"#),
        format!(r#"{{"specversion":"1.0","type":"ce","id":"7","source":"/s","data_base64":"{}"}}"#, "TUFSS0VSNDExMQ=="),
        format!(r#"{{"id":"8","type":"router","payload":{{"card":"{MARKER}"}},"correlation_id":"{MARKER}"}}"#),
    ] {
        sidewatch.post("/events/push", "application/json", body.as_bytes());
    }
    let mut lines = std::os::unix::net::UnixStream::connect(dir.path().join("in.sock")).unwrap();
    writeln!(lines, "line {MARKER}\n{MARKER}").unwrap();
    drop(lines);
    let message = eventually("the message", 20, || hook.bodies().first().cloned());
    assert!(message.contains("[redacted]") && !message.contains("MARKER") && message.contains("hash:"), "{message}");
    eventually("all are there", 20, || (sidewatch.json("/api/quarantine")["total"] == 5).then_some(()));
    let recent = sidewatch.get("/api/events?limit=100").1;
    for shown in ["\"router\"", "\"ce\"", "\"typed\"", "\"line\"", "[redacted]"] {
        assert!(recent.contains(shown), "{shown} in {recent}");
    }
    let of_spans = || spans.bodies().into_iter().filter(|body| body.contains("event.id"));
    let span = eventually("the span", 20, || of_spans().find(|body| body.contains("pay")));
    assert!(span.contains("event.subject") && span.contains("[redacted]"), "{span}");
    eventually("what is published", 20, || told.bodies().into_iter().find(|body| body.contains("Paid")));
    for body in spans.bodies().iter().chain(&told.bodies()) {
        assert!(!body.contains("MARKER"), "{body}");
    }
    let open = [("accept", "application/openmetrics-text;version=1.0.0")];
    let exemplars = exchange(sidewatch.observe, "GET", "/metrics", &open, b"").2;
    assert!(
        exemplars.contains("trace_id=\"0af7651916cd43dd8448eb211c80319c\"") && !exemplars.contains("feedfeed"),
        "{exemplars}"
    );
    let paths = [
        "/api/v1/query_exemplars?query=event_duration_seconds_bucket&start=0&end=9999999999",
        "/api/events?limit=100",
        "/api/quarantine",
        "/api/dashboard",
        "/api/status",
        "/api/history",
        "/api/alerts/why?name=Paid",
        "/api/notifications",
        "/api/v1/alerts",
        "/api/v1/rules",
        "/api/v1/series?match%5B%5D=users_total",
        "/api/v2/alerts",
        "/metrics",
        "/health",
    ];
    for path in paths {
        let (status, body) = sidewatch.get(path);
        assert_eq!(status, 200, "{path}: {body}");
        let hidden = ["MARKER", "TUFSS0VS", "feedfeed"];
        assert!(!hidden.iter().any(|hidden| body.contains(hidden)), "{path}: {body}");
    }
    let (url, labels) = (format!("127.0.0.1:{}", sidewatch.observe), sidewatch.get("/metrics").1);
    assert!(labels.contains("users_total{user=\"hash:"), "{labels}");
    for (command, known) in [
        (&["events", "recent"][..], "typed"),
        (&["events", "quarantine"], "strict"),
        (&["alerts", "why", "Paid"], "FIRING"),
    ] {
        let (code, out, err) = run(dir.path(), &[command, &["--url", &url]].concat());
        assert!(code == 0 && out.contains(known), "{command:?}: {code} {out}{err}");
        assert!(!out.contains("MARKER") && !err.contains("MARKER"), "{command:?}: {out}{err}");
    }
    let (out, err) = (sidewatch.out(), sidewatch.err());
    assert!(!out.contains("MARKER") && !err.contains("MARKER"), "{out}{err}");
    assert_eq!(sidewatch.terminate(), Some(0));
    for entry in std::fs::read_dir(dir.path().join("state")).unwrap() {
        let path = entry.unwrap().path();
        let bytes = std::fs::read(&path).unwrap_or_default();
        assert!(!bytes.windows(6).any(|window| window == b"MARKER"), "{}", path.display());
    }
}

#[test]
fn nothing_hidden_becomes_a_label_or_a_key() {
    let dir = tempfile::tempdir().unwrap();
    let configuration = "redact: [data.card, type]
metrics:
  a_total: {counter: {match: a, labels: {card: payload.card}}}
  b: {timer: {from: a, to: b, by: data.card}}
alerts:
  A: {event: {match: a, count: '>= 1', within: 1m, by: data.card.number}}
  B: {event: {first_seen: data.card}}
";
    std::fs::write(dir.path().join("sidewatch.yaml"), configuration).unwrap();
    let (code, out, err) = run(dir.path(), &["check"]);
    let said = format!("{out}{err}");
    assert_eq!(code, 2, "{said}");
    for (line, expected) in [
        (1, "type cannot be hidden"),
        (3, "the label would show payload.card, which redact: hides"),
        (4, "the timer's key would show data.card"),
        (6, "the label of `by` would show data.card.number"),
        (7, "the label of `first_seen` would show data.card"),
    ] {
        let found = said.lines().any(|one| one.contains(&format!("sidewatch.yaml:{line}:")) && one.contains(expected));
        assert!(found, "{line} {expected}: {said}");
    }
    assert!(said.contains("redact: [{path: payload.card, hash: true}]"), "{said}");
}

#[test]
fn rates_are_held_for_sources_and_clients() {
    let port = free_port();
    let (_dir, sidewatch) = start(&format!(
        "sources:
  push: {{http: {{}}, rate_limit: {{events: 10/s, burst: 20}}}}
  mine: {{http: {{}}, rate_limit: {{per_client: 5/m}}}}
  t: {{tcp: '127.0.0.1:{port}', rate_limit: 100/s}}
  d: {{unix: in.sock, overflow: drop_newest, rate_limit: 10/h}}
"
    ));
    let post = |path: &str, events: usize| {
        let body = work(events);
        exchange(sidewatch.ingest, "POST", path, &[("content-type", "application/x-ndjson")], body.as_bytes())
    };
    assert_eq!(post("/events/push", 20).0, 202);
    let (status, head, answer) = post("/events/push", 15);
    assert_eq!(status, 429, "{answer}");
    assert!(head.to_ascii_lowercase().contains("retry-after: "), "{head}");
    let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(answer["accepted"], 0, "{answer}");
    assert!(answer["error"].as_str().unwrap().contains("rate limit of this source"), "{answer}");
    eventually("room comes back", 10, || (post("/events/push", 15).0 == 202).then_some(()));
    assert_eq!((post("/events/mine", 5).0, post("/events/mine", 1).0), (202, 429));
    let refused = |source: &str, limit: &str, outcome: &str| {
        let labels = format!("source=\"{source}\",limit=\"{limit}\",outcome=\"{outcome}\"");
        sidewatch.value(&format!("sidewatch_rate_limited_events_total{{{labels}}}")).unwrap_or(0.0)
    };
    eventually("refusals are counted by client", 10, || (refused("mine", "client", "refused") >= 1.0).then_some(()));
    eventually("refusals are counted by source", 10, || (refused("push", "source", "refused") >= 1.0).then_some(()));

    // A socket is read slower; nothing is lost.
    let began = std::time::Instant::now();
    let mut connection = eventually("the TCP listener", 10, || TcpStream::connect(("127.0.0.1", port)).ok());
    let from_t = |count: f64| (sidewatch.value("sum(events_total{source=\"t\"})") == Some(count)).then_some(());
    connection.write_all(work(300).as_bytes()).unwrap();
    eventually("the first 300", 20, || from_t(300.0));
    connection.write_all(work(1).as_bytes()).unwrap();
    eventually("the last one", 20, || from_t(301.0));
    // A hundred at once, and a hundred each second: the last one cannot have come before two seconds were over.
    let took = began.elapsed().as_secs_f64();
    assert!(took > 1.9, "{took}");

    // A WebSocket waits: a second client's address is the same, so its share is used up as well.
    let open = |path: &str| tungstenite::connect(format!("ws://127.0.0.1:{}{path}", sidewatch.ingest)).unwrap().0;
    let mut waiting = open("/events/mine?ack=1");
    waiting.send(tungstenite::Message::text(work(1))).unwrap();
    eventually("a WebSocket waits for its share", 10, || (refused("mine", "client", "delayed") >= 1.0).then_some(()));
    drop(waiting);

    // What may be dropped is, and is counted.
    let mut lines =
        eventually("the socket", 10, || std::os::unix::net::UnixStream::connect(_dir.path().join("in.sock")).ok());
    for _ in 0..5 {
        lines.write_all(work(10).as_bytes()).unwrap();
        lines.flush().unwrap();
    }
    drop(lines);
    eventually("each is counted, or counted as dropped", 10, || {
        let counted = sidewatch.value("sum(events_total{source=\"d\"})").unwrap_or(0.0);
        (counted + refused("d", "source", "dropped") == 50.0 && counted >= 10.0).then_some(())
    });
    let (_, said) = ((), sidewatch.err());
    assert_eq!(
        said.lines().filter(|line| line.contains("rate_limit allows") && line.contains("push")).count(),
        1,
        "{said}"
    );
}

#[test]
fn an_answer_after_the_checkpoint_holds_through_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let configuration = "sources: {push: {http: {ack: checkpoint}}}\nstate: {dir: state, checkpoint_interval: 1h}\n";
    std::fs::write(dir.path().join("sidewatch.yaml"), configuration).unwrap();
    let mut sent = 0.0;
    for round in 1..=5 {
        let sidewatch = Sidewatch::start(dir.path(), "run", &[]);
        let counted = || sidewatch.value("sum(events_total)").unwrap_or(0.0);
        if sent > 0.0 {
            eventually("what was answered is counted", 10, || (counted() == sent).then_some(()));
        }
        let (status, answer) = sidewatch.post("/events", "application/x-ndjson", work(round * 3).as_bytes());
        assert_eq!(status, 202, "{answer}");
        sent += (round * 3) as f64;
        let (status, answer) = sidewatch.post("/events?ack=nonsense", "application/x-ndjson", work(1).as_bytes());
        assert!(status == 400 && answer.contains("checkpoint"), "{status} {answer}");
        // Over a WebSocket as well.
        let (mut socket, _) =
            tungstenite::connect(format!("ws://127.0.0.1:{}/events?ack=1", sidewatch.ingest)).unwrap();
        for _ in 0..2 {
            socket.send(tungstenite::Message::text(work(1))).unwrap();
            assert_eq!(socket.read().unwrap().to_text().unwrap(), r#"{"accepted":1,"refused":[]}"#);
            sent += 1.0;
        }
        sidewatch.kill();
    }
}
