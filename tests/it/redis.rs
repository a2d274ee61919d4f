//! Redis: streams and channels against real servers.

mod server;

use crate::harness::{Sidewatch, eventually};
use server::{Redis, add, pending};
use std::path::Path;

fn configure(dir: &Path, text: &str) {
    std::fs::write(dir.join("sidewatch.yaml"), text).unwrap();
}

/// Waits until a query gives exactly this; more is an error at once.
fn reaches(sidewatch: &Sidewatch, query: &str, expected: f64) {
    eventually(&format!("{query} = {expected}"), 30, || {
        let seen = sidewatch.value(query).unwrap_or(0.0);
        assert!(seen <= expected, "{query}: {seen} is more than {expected}");
        (seen == expected).then_some(())
    });
}

/// What a source says of itself: state and detail.
fn state(sidewatch: &Sidewatch, source: &str) -> (String, String) {
    let status = sidewatch.json("/api/status");
    let sources = status["sources"].as_array().unwrap_or_else(|| panic!("{status}"));
    let found = sources.iter().find(|known| known["name"] == source).unwrap_or_else(|| panic!("{status}"));
    (found["state"].as_str().unwrap_or_default().to_owned(), found["detail"].as_str().unwrap_or_default().to_owned())
}

fn is(sidewatch: &Sidewatch, source: &str, expected: &str) -> String {
    eventually(&format!("{source} is {expected}"), 20, || {
        let (state, detail) = state(sidewatch, source);
        (state == expected).then_some(detail)
    })
}

#[test]
fn streams_and_channels_become_metrics() {
    let dir = tempfile::tempdir().unwrap();
    let redis = Redis::start(dir.path());
    let mut client = redis.client();
    // What is there before the start counts: a new group begins with the first entry.
    add(&mut client, "orders", &[("event", r#"{"type":"order.placed","payload":{"amount":3,"region":"eu"}}"#)]);
    add(&mut client, "orders", &[("data", r#"{"type":"order.placed","payload":{"amount":4,"region":"us"}}"#)]);
    add(&mut client, "orders", &[("payload", r#"{"event_type":"order.placed","amount":5,"region":"us"}"#)]);
    add(&mut client, "cache", &[("type", "cache.hit"), ("amount", "6"), ("region", "eu"), ("zip", "007")]);
    add(&mut client, "cache", &[("event", r#"{"payload":{"amount":1}}"#)]);
    add(&mut client, "cache", &[("event", "{broken")]);
    configure(
        dir.path(),
        &format!(
            "sources:\n  cache: {{redis: {{url: 'redis://127.0.0.1:{port}/0', streams: [orders, cache], group: g}}}}\n\
             \x20 live: {{redis: {{url: 'redis://127.0.0.1:{port}', channels: [news], patterns: ['user.*']}}}}\n\
             \x20 short: 'redis://127.0.0.1:{port}/0?channels=other'\n\
             metrics:\n  amount_total: {{counter: {{match: '*', value: data.amount, labels: {{region: data.region, type: type}}}}}}\n",
            port = redis.port
        ),
    );
    let sidewatch = Sidewatch::start(dir.path(), "run", &[]);
    reaches(&sidewatch, "sum(amount_total{type='order.placed'})", 12.0);
    reaches(&sidewatch, "sum(amount_total{type='cache.hit',region='eu'})", 6.0);
    // An event that names no type is called as its stream is.
    reaches(&sidewatch, "sum(events_total{type='cache',source='cache'})", 1.0);
    reaches(&sidewatch, "sum(sidewatch_events_refused_total{source='cache'})", 1.0);
    reaches(&sidewatch, "sidewatch_source_acknowledged_total{source='cache'}", 6.0);
    assert_eq!((pending(&mut client, "orders", "g"), pending(&mut client, "cache", "g")), (0, 0));
    assert_eq!(sidewatch.value("sidewatch_source_up{source='cache'}"), Some(1.0));
    assert_eq!(sidewatch.value("sidewatch_source_messages_total{source='cache'}"), Some(6.0));

    is(&sidewatch, "live", "connected");
    is(&sidewatch, "short", "connected");
    let publish = |client: &mut redis::Connection, channel: &str, text: &str| {
        redis::cmd("PUBLISH").arg(channel).arg(text).query::<i64>(client).unwrap()
    };
    assert_eq!(publish(&mut client, "news", r#"{"type":"news.flash","payload":{"amount":7}}"#), 1);
    assert_eq!(publish(&mut client, "user.created", r#"{"amount":8}"#), 1);
    assert_eq!(publish(&mut client, "other", r#"{"amount":9}"#), 1);
    reaches(&sidewatch, "sum(amount_total{type='news.flash'})", 7.0);
    reaches(&sidewatch, "sum(amount_total{type='user.created'})", 8.0);
    reaches(&sidewatch, "sum(amount_total{type='other'})", 9.0);
}
