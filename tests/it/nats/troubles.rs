//! What a broker may do wrong: absent, gone, talking garbage, refusing, without the stream, with huge messages.

use super::broker::Broker;
use super::{order, start};
use crate::harness::{Receiver, eventually, free_port};
use serde_json::Value;
use std::io::Write;
use std::net::TcpListener;

/// How many messages of a state a receiver got for an alert.
fn told(hook: &Receiver, alert: &str, state: &str) -> usize {
    let bodies = hook.bodies();
    let messages = bodies.iter().map(|body| serde_json::from_str::<Value>(body).unwrap());
    let alerts = messages.flat_map(|message| message["alerts"].as_array().unwrap().clone());
    alerts.filter(|one| one["labels"]["alertname"] == alert && one["status"] == state).count()
}

#[test]
fn a_broker_that_is_gone_is_deaf_and_not_silent() {
    let mut broker = Broker::start("");
    let (dir, hook) = (tempfile::tempdir().unwrap(), Receiver::start(200));
    broker.add_stream("BEATS", &["beat.>"]);
    let url = broker.url();
    let sidewatch = start(
        dir.path(),
        &format!(
            "sources:\n  js: {{nats: {{url: '{url}', stream: BEATS, durable: side, scope: shared}}}}\n\
             \x20 core: {{nats: {{url: '{url}', subjects: 'pulse', scope: per_instance}}}}\n  push: {{http: {{}}}}\n\
             health: {{beat: {{event: {{match: beat.w, within: 1500ms}}}}}}\n\
             alerts:\n  Silent: {{event: {{absent: beat.w, keys: [w1], by: data.worker, within: 1500ms}}}}\n\
             notify:\n  hook: {{webhook: {{url: 'http://127.0.0.1:{}/'}}}}\n",
            hook.port
        ),
    );
    sidewatch.connected("js");
    sidewatch.connected("core");
    let beat = "{\"data\":{\"worker\":\"w1\"}}";
    broker.publish("beat.w", beat);
    broker.publish("pulse", beat);
    sidewatch.is("sum(events_total)", 2.0);
    broker.stop(true);
    for source in ["js", "core"] {
        let lost = sidewatch.source_is(source, "lost", "");
        assert!(lost.contains(&broker.port.to_string()), "{lost}");
    }
    let health = eventually("health is unknown", 10, || {
        let health = sidewatch.json("/health");
        (health["checks"]["beat"]["status"] == "unknown").then_some(health)
    });
    assert!(health["checks"]["beat"]["reason"].as_str().unwrap().contains("js"), "{health}");
    eventually("deafness is told", 10, || (told(&hook, "SidewatchDeaf", "firing") > 0).then_some(()));
    sidewatch.is("count(ALERTS{alertname=\"SidewatchDeaf\",alertstate=\"firing\"})", 2.0);
    assert_eq!((sidewatch.get("/livez").0, sidewatch.get("/readyz").0), (200, 200));
    assert_eq!(sidewatch.post("/events", "application/json", b"{\"type\":\"pushed\"}").0, 202);
    sidewatch.is("events_total{type=\"pushed\"}", 1.0);
    // Twice as long as the absence would need.
    let since = std::time::Instant::now();
    eventually("the window has passed twice", 10, || (since.elapsed().as_millis() > 3_000).then_some(()));
    assert_eq!(told(&hook, "Silent", "firing"), 0, "nobody could hear: {:?}", hook.bodies());
    broker.run();
    // Beats go on, as they did while nobody could hear.
    let beating = std::time::Instant::now();
    eventually("deafness is over", 20, || {
        broker.publish("beat.w", beat);
        sidewatch.value("ALERTS{alertname=\"SidewatchDeaf\",alertstate=\"firing\"}").is_none().then_some(())
    });
    eventually("beats for a while", 20, || {
        broker.publish("beat.w", beat);
        (beating.elapsed().as_millis() > 3_000).then_some(())
    });
    sidewatch.connected("core");
    broker.publish("pulse", beat);
    sidewatch.is("events_total{source=\"core\"}", 2.0);
    sidewatch.is("sidewatch_source_gaps_total{source=\"core\",reason=\"disconnected\"}", 1.0);
    assert_eq!(told(&hook, "Silent", "firing"), 0, "no false alarm: {:?}", hook.bodies());
    let log = sidewatch.err();
    let deaf = log.lines().filter(|line| line.contains("SidewatchDeaf") && line.contains("\"to\":\"Firing\""));
    assert_eq!(deaf.count(), 2, "once for each source: {log}");
    assert_eq!(sidewatch.json("/health")["checks"]["beat"]["status"], "healthy");
    // Heard again, and then silent for real.
    eventually("silence is told", 10, || (told(&hook, "Silent", "firing") == 1).then_some(()));
}

/// A port that answers every connection with the same bytes, again and again.
fn garbage(bytes: &'static [u8], endless: bool) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || while stream.write_all(bytes).is_ok() && endless {});
        }
    });
    port
}

#[test]
fn a_bad_broker_disturbs_only_its_own_source() {
    let broker = Broker::start("max_payload: 8MB\n");
    let mut late = Broker::absent("");
    let mut strict = Broker::absent("authorization: {user: me, password: right}\n");
    strict.run();
    broker.add_stream("EVENTS", &["order.>"]);
    let dir = tempfile::tempdir().unwrap();
    let (url, nobody) = (broker.url(), free_port());
    std::fs::write(dir.path().join("password"), "wrong\n").unwrap();
    let sidewatch = start(
        dir.path(),
        &format!(
            "sources:\n  good: {{nats: {{url: '{url}', subjects: 'a.>', scope: per_instance}}}}\n\
             \x20 js: {{nats: {{url: '{url}', stream: EVENTS, durable: side, scope: per_instance}}}}\n\
             \x20 missing: {{nats: {{url: '{url}', stream: LATER, subjects: later, durable: side, scope: shared}}}}\n\
             \x20 nobody: {{nats: {{urls: ['nats://127.0.0.1:{nobody}', 'nats://127.0.0.1:{nobody}'], subjects: a, scope: per_instance}}}}\n\
             \x20 web: {{nats: {{url: 'nats://127.0.0.1:{}', subjects: a, scope: per_instance}}}}\n\
             \x20 zeros: {{nats: {{url: 'nats://127.0.0.1:{}', subjects: a, scope: per_instance}}}}\n\
             \x20 hello: {{nats: {{url: 'nats://127.0.0.1:{}', subjects: a, scope: per_instance}}}}\n\
             \x20 refused: {{nats: {{url: '{}', subjects: a, user: me, password_file: password, scope: per_instance}}}}\n\
             \x20 late: {{nats: {{url: '{}', subjects: a, scope: per_instance}}}}\n",
            garbage(b"HTTP/1.1 400 Bad Request\r\n\r\n", false),
            garbage(&[0; 65_536], true),
            garbage(b"INFO {\"server_id\":\"x\"}\r\nEVERYTHING ELSE IS WRONG\r\n", true),
            strict.url(),
            late.url(),
        ),
    );
    let reason = |source: &str, expected: &str| {
        let said = sidewatch.source_is(source, "lost", "");
        assert!(said.contains(expected), "{source}: {said}");
    };
    sidewatch.connected("good");
    reason("nobody", "refused");
    reason("web", "no NATS server");
    reason("zeros", "no NATS server");
    reason("hello", "invalid server operation");
    reason("refused", "the server refuses the credentials");
    reason("missing", "nats stream add LATER --subjects");
    reason("late", "refused");
    assert_eq!((sidewatch.get("/livez").0, sidewatch.get("/readyz").0), (200, 200));

    broker.publish("a.b", &order(3));
    sidewatch.is("events_total{source=\"good\"}", 1.0);
    // Larger than an event may be: refused and acknowledged, and what stands behind it is heard.
    let limit = 4 << 20;
    for (subject, source) in [("a.b", "good"), ("order.x", "js")] {
        let large = format!("{{\"type\":\"order.large\",\"fill\":\"{}\"}}", "x".repeat(limit));
        broker.publish(subject, &large);
        // Larger than what one request asks for, and small enough to be an event.
        let fits = format!("{{\"type\":\"order.fits\",\"fill\":\"{}\"}}", "x".repeat(limit - 64));
        broker.publish(subject, &fits);
        broker.publish(subject, &order(4));
        sidewatch.is(&format!("events_total{{source=\"{source}\",type=\"order.fits\"}}"), 1.0);
        let refused = format!("sidewatch_events_refused_total{{source=\"{source}\",reason=\"too_large\"}}");
        sidewatch.is(&refused, 1.0);
    }
    sidewatch.is("events_total{source=\"js\",type=\"order.placed\"}", 1.0);
    eventually("all of it is acknowledged", 10, || {
        (broker.consumer("EVENTS", "side")["ack_floor"]["stream_seq"] == 3).then_some(())
    });

    // Put right one after the other: each recovers alone.
    broker.add_stream("LATER", &["later"]);
    late.run();
    std::fs::write(dir.path().join("password"), "right\n").unwrap();
    for source in ["missing", "late", "refused"] {
        sidewatch.connected(source);
    }
    broker.publish("later", &order(1));
    sidewatch.is("events_total{source=\"missing\"}", 1.0);
    // A consumer that is deleted is made anew, and goes on behind what was counted.
    broker.api("CONSUMER.DELETE.LATER.side", "");
    broker.publish("later", &order(2));
    sidewatch.is("events_total{source=\"missing\"}", 2.0);
    assert_eq!(sidewatch.value("sidewatch_source_duplicates_total{source=\"missing\"}").unwrap_or(0.0), 0.0);
    // A stream that is made anew begins with lower numbers: they are new events.
    broker.api("STREAM.DELETE.LATER", "");
    broker.add_stream("LATER", &["later"]);
    broker.publish("later", &order(1));
    sidewatch.is("events_total{source=\"missing\"}", 3.0);
    let log = sidewatch.err();
    let said = log.lines().filter(|line| line.contains("refuses the credentials")).count();
    assert_eq!(said, 1, "said once: {log}");
    assert!(!log.contains("async_nats"), "{log}");
}

/// Publishes past the client library, which would not send such headers.
fn publish_raw(broker: &Broker, subject: &str, headers: &[u8], payload: &str) {
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", broker.port)).unwrap();
    let sizes = (headers.len(), headers.len() + payload.len());
    let head = format!("CONNECT {{\"verbose\":false,\"headers\":true}}\r\nHPUB {subject} {} {}\r\n", sizes.0, sizes.1);
    stream.write_all(&[head.as_bytes(), headers, payload.as_bytes(), b"\r\nPING\r\n"].concat()).unwrap();
    let mut said = String::new();
    let mut answers = std::io::BufReader::new(stream);
    while !said.contains("PONG") {
        assert!(std::io::BufRead::read_line(&mut answers, &mut said).unwrap() > 0, "{said}");
    }
}

#[test]
fn a_message_that_the_client_cannot_read_disturbs_only_itself() {
    let broker = Broker::start("");
    broker.add_stream("EVENTS", &["order.>"]);
    for at in 0..50 {
        broker.publish_stream("order.x", &order(at));
        if at % 25 == 10 {
            publish_raw(&broker, "order.x", b"NATS/1.0\r\nbad: \xff\xfe\r\n\r\n", "{\"type\":\"order.odd\"}");
            // Headers that look like a word of the server are the publisher's all the same.
            publish_raw(&broker, "order.x", b"NATS/1.0 503\r\n\r\n", "{\"type\":\"order.status\"}");
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let source = |scope: &str| {
        format!(
            "{{nats: {{url: '{}', stream: EVENTS, durable: {scope}, scope: {scope}, ack_wait: 500ms}}}}",
            broker.url()
        )
    };
    let sidewatch = start(
        dir.path(),
        &format!("state: {{dir: state}}\nsources:\n  a: {}\n  b: {}\n", source("shared"), source("per_instance")),
    );
    for source in ["a", "b"] {
        for (name, count) in [("placed", 50.0), ("odd", 2.0), ("status", 2.0)] {
            sidewatch.is(&format!("events_total{{source=\"{source}\",type=\"order.{name}\"}}"), count);
        }
    }
    for durable in ["shared", "per_instance"] {
        eventually("all of it is acknowledged", 20, || {
            (broker.consumer("EVENTS", durable)["num_ack_pending"] == 0).then_some(())
        });
    }
}

#[test]
fn a_broker_that_is_restarted_fifty_times_is_heard_again_each_time() {
    let mut broker = Broker::start("");
    broker.add_stream("EVENTS", &["order.>"]);
    let dir = tempfile::tempdir().unwrap();
    let url = broker.url();
    let sidewatch = start(
        dir.path(),
        &format!(
            "sources:\n  js: {{nats: {{url: '{url}', stream: EVENTS, durable: side, scope: per_instance}}}}\n\
             \x20 core: {{nats: {{url: '{url}', subjects: 'pulse', scope: per_instance}}}}\n"
        ),
    );
    sidewatch.connected("js");
    sidewatch.connected("core");
    for restart in 1..=50 {
        broker.publish_stream("order.x", &order(restart));
        // Now and then as by a crash.
        broker.stop(restart % 5 == 0);
        broker.run();
        let connected = f64::from(restart as u32 + 1);
        for source in ["js", "core"] {
            sidewatch.is(&format!("sidewatch_source_connected_total{{source=\"{source}\"}}"), connected);
        }
        broker.publish("pulse", &order(restart));
        sidewatch.is("sum(events_total{source=\"core\"})", f64::from(restart as u32));
        assert_eq!((sidewatch.get("/livez").0, sidewatch.get("/readyz").0), (200, 200));
    }
    sidewatch.is("sum(events_total{source=\"js\"})", 50.0);
    sidewatch.is("sidewatch_source_gaps_total{source=\"core\",reason=\"disconnected\"}", 50.0);
    let log = sidewatch.err();
    let mut said = std::collections::BTreeMap::<(String, String), u32>::new();
    for line in log.lines().filter(|line| line.contains("cannot hear")) {
        let line: Value = serde_json::from_str(line).unwrap();
        let of = |key: &str| line[key].as_str().unwrap().to_owned();
        *said.entry((of("source"), of("reason"))).or_default() += 1;
    }
    assert!(said.values().sum::<u32>() >= 50, "every outage is said: {said:?}");
    assert!(said.values().all(|times| *times <= 50), "an outage says each of its reasons once: {said:?}");
}

#[test]
fn what_came_together_with_the_end_of_its_consumer_is_counted_at_once() {
    let broker = Broker::start("");
    broker.add_stream("EVENTS", &["order.>"]);
    let dir = tempfile::tempdir().unwrap();
    let sidewatch = start(
        dir.path(),
        &format!(
            "sources: {{js: {{nats: {{url: '{}', stream: EVENTS, durable: side, scope: shared}}}}}}\n",
            broker.url()
        ),
    );
    sidewatch.connected("js");
    broker.publish_stream("order.x", &order(0));
    sidewatch.is("sum(events_total)", 1.0);
    // While it sleeps, messages and the word that the consumer is gone gather in its socket. It cannot be bound anew.
    let signal = |name: &str| {
        let sent = std::process::Command::new("kill").arg(name).arg(sidewatch.pid().to_string()).status();
        assert!(sent.unwrap().success());
    };
    signal("-STOP");
    for at in 1..=100 {
        broker.publish_stream("order.x", &order(at));
    }
    eventually("all are on their way", 10, || (broker.consumer("EVENTS", "side")["num_pending"] == 0).then_some(()));
    assert_eq!(broker.api("STREAM.DELETE.EVENTS", "")["success"], true);
    signal("-CONT");
    sidewatch.is("sum(events_total)", 101.0);
}
