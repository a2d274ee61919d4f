//! NATS with Debian's nats-server: core subjects and queue groups, durable consumers of JetStream, credentials and TLS,
//! kills and restarts, and what a broker may do wrong.

pub mod broker;
mod kills;
mod secrets;
mod troubles;

use crate::harness::{Sidewatch, eventually, free_port, run};
use broker::Broker;
use std::path::Path;

/// Starts sidewatch with a configuration.
fn start(dir: &Path, configuration: &str) -> Sidewatch {
    std::fs::write(dir.join("sidewatch.yaml"), format!("bundled_rules: false\n{configuration}")).unwrap();
    Sidewatch::start(dir, "run", &[])
}

fn order(at: u64) -> String {
    format!("{{\"type\":\"order.placed\",\"id\":\"{at}\",\"data\":{{\"amount\":{}}}}}", at % 97)
}

#[test]
fn subjects_streams_and_queue_groups_become_metrics() {
    let broker = Broker::start("");
    let dir = tempfile::tempdir().unwrap();
    broker.add_stream("EVENTS", &["shop.>"]);
    broker.publish_stream("shop.early", &order(1));
    let url = broker.url();
    let nats = format!(
        "sources:\n  core: {{nats: {{url: '{url}', subjects: ['plain.>', 'cloud.*']}}}}\n  short: '{url}/short.>'\n\
         \x20 one: {{nats: {{url: '{url}', subjects: work, queue_group: g, scope: shared}}}}\n\
         \x20 two: {{nats: {{url: '{url}', subjects: work, queue_group: g, scope: shared}}}}\n\
         \x20 js: {{nats: {{url: '{url}', stream: EVENTS, durable: side, scope: per_instance}}}}\n\
         \x20 some: {{nats: {{url: '{url}', stream: EVENTS, subjects: [shop.early, shop.b], durable: some, scope: shared}}}}\n\
         \x20 late: {{nats: {{url: '{url}', stream: EVENTS, durable: late, start: last, scope: shared}}}}\n\
         state: {{dir: state}}\n\
         metrics: {{amount_total: {{counter: {{match: order.placed, value: data.amount, labels: {{at: source}}}}}}}}\n"
    );
    let sidewatch = start(dir.path(), &nats);
    for source in ["core", "short", "one", "two", "js", "some", "late"] {
        sidewatch.connected(source);
    }
    // The type is the event's own, else the subject; attributes may stand in headers, or all in the payload.
    broker.publish("plain.a", &order(5));
    broker.publish("plain.b", "{\"no\":\"type\"}");
    broker.publish("plain.c", "not json");
    broker.publish("short.x", "{\"a\":1}");
    broker.publish_with(
        "cloud.binary",
        &[
            ("ce-specversion", "1.0"),
            ("ce-type", "pay.ed"),
            ("ce-id", "1"),
            ("ce-source", "till"),
            ("ce-subject", "s%20x"),
        ],
        "{\"amount\":7}",
    );
    broker.publish_with(
        "cloud.structured",
        &[("Content-Type", "application/cloudevents+json; charset=utf-8")],
        "{\"specversion\":\"1.0\",\"type\":\"pay.structured\",\"id\":\"2\",\"source\":\"till\",\"data\":{}}",
    );
    sidewatch.is("events_total{type=\"order.placed\",source=\"core\"}", 1.0);
    sidewatch.is("events_total{type=\"plain.b\"}", 1.0);
    sidewatch.is("events_total{type=\"short.x\",source=\"short\"}", 1.0);
    sidewatch.is("events_total{type=\"pay.ed\",source=\"till\"}", 1.0);
    sidewatch.is("events_total{type=\"pay.structured\"}", 1.0);
    sidewatch.is("sum(sidewatch_events_refused_total{source=\"core\"})", 1.0);
    let recent = sidewatch.json("/api/events?type=pay.ed");
    assert!(recent.to_string().contains("s x"), "headers are percent-decoded: {recent}");

    for at in 0..500 {
        broker.publish("work", &order(at));
    }
    sidewatch.is("sum(events_total{source=~\"one|two\"})", 500.0);
    assert!(sidewatch.value("events_total{source=\"one\"}").unwrap() > 100.0, "each member gets its share");
    assert!(sidewatch.value("events_total{source=\"two\"}").unwrap() > 100.0, "each member gets its share");

    for at in 2..=1_000 {
        broker.publish(["shop.a", "shop.b"][(at % 2) as usize], &order(at));
    }
    let sum = |from: u64, step: usize| (from..=1_000).step_by(step).map(|at| at % 97).sum::<u64>() as f64;
    sidewatch.is("sum(events_total{source=\"js\"})", 1_000.0);
    sidewatch.is("sum(events_total{source=\"late\"})", 999.0);
    // shop.early and the odd ones.
    sidewatch.is("sum(events_total{source=\"some\"})", 500.0);
    assert_eq!(sidewatch.value("amount_total{at=\"js\"}"), Some(sum(1, 1)));
    assert_eq!(sidewatch.value("amount_total{at=\"some\"}"), Some(sum(1, 2)));
    sidewatch.is("sidewatch_source_acknowledged_total{source=\"js\"}", 1_000.0);
    for durable in ["side", "some", "late"] {
        eventually("the server has every acknowledgement", 10, || {
            let info = broker.consumer("EVENTS", durable);
            (info["num_ack_pending"] == 0 && info["num_pending"] == 0).then_some(())
        });
    }
    let side = broker.consumer("EVENTS", "side");
    assert_eq!(
        (&side["config"]["ack_policy"], &side["config"]["ack_wait"]),
        (&"all".into(), &5_000_000_000_u64.into())
    );
    assert_eq!(broker.consumer("EVENTS", "some")["config"]["ack_policy"], "explicit");
    assert_eq!(sidewatch.value("sum(sidewatch_source_redelivered_total)").unwrap_or(0.0), 0.0);
    assert_eq!(sidewatch.value("sum(sidewatch_source_connected_total)"), Some(7.0));
    let metrics = sidewatch.get("/metrics").1;
    assert!(metrics.contains("sidewatch_source_received_bytes_total{source=\"js\"}"), "{metrics}");
    assert_eq!(sidewatch.terminate(), Some(0));
    // A restart goes on where it was, and what somebody else made is taken as it is.
    broker.publish("shop.a", &order(1));
    let sidewatch = start(dir.path(), &nats);
    sidewatch.is("sum(events_total{source=\"js\"})", 1_001.0);
    sidewatch.is("sum(events_total{source=\"late\"})", 1_000.0);
}

#[test]
fn check_says_what_is_promised_and_who_shares() {
    let dir = tempfile::tempdir().unwrap();
    let check = |nats: &str, warning: Option<&str>, promise: &str| {
        let text = format!("service: {{name: s, instance: pod-7}}\nsources: {{bus: {{nats: {nats}}}}}\n");
        std::fs::write(dir.path().join("sidewatch.yaml"), text).unwrap();
        let (code, out, err) = run(dir.path(), &["check"]);
        assert_eq!(code, 0, "{nats}: {out}{err}");
        assert!(out.contains(promise), "{nats}: {out}");
        match warning {
            Some(warning) => assert!(err.contains(warning), "{nats}: {err}"),
            // The environment of the tests is not the configuration's.
            None => assert_eq!(err.lines().find(|line| !line.starts_with("environment")), None, "{nats}"),
        }
    };
    let (once, counted) = ("at most once", "at least once, counted once");
    check("{url: h, subjects: a}", Some("every replica hears and counts every message"), once);
    check("{url: h, subjects: a, scope: per_instance}", None, once);
    check("{url: h, subjects: a, queue_group: g}", Some("each replica hears a slice"), once);
    check("{url: h, subjects: a, queue_group: g, scope: shared}", None, once);
    check("{url: h, stream: E, durable: d}", Some("each replica hears a slice"), counted);
    check("{url: h, stream: E, durable: d, scope: shared}", None, counted);
    check("{url: h, stream: E, durable: d-pod-7}", Some("every replica hears and counts every message"), counted);
    check("{url: h, stream: E, durable: d-pod-7, scope: per_instance}", None, counted);
    check(
        "{url: h, stream: E, durable: d, scope: per_instance}",
        Some("the durable is the same for every replica"),
        counted,
    );
    let unreachable = format!("nats://127.0.0.1:{}", free_port());
    check(&format!("{{url: '{unreachable}', subjects: a, scope: per_instance}}"), None, once);
}
