//! The keys of `publish:`, and of `otlp:` of `export:`.

use super::scrape::request;
use super::{bytes, flag, integer, object, one_of, one_or_list, reference, selection, text, time};
use serde_json::{Value, json};

fn over_http(title: &str, keys: Vec<(&'static str, Value)>) -> Value {
    let mut all = vec![("url", text("The address.")), ("url_file", text("A file that holds the address."))];
    all.extend(keys);
    all.extend(request());
    object(title, &all)
}

pub(super) fn definitions() -> Vec<Value> {
    let queue = || ("queue", reference("export queue"));
    let mode = || ("mode", one_of(&["structured", "binary"], "How CloudEvents are written (structured)."));
    let mut nats = vec![
        ("subject", text("Where to; {type} stands for the event's type.")),
        ("jetstream", flag("Whether a stream must acknowledge (false).")),
    ];
    nats.extend(super::nats::servers());
    let mut redis = vec![
        ("stream", text("XADD to this.")),
        ("channel", text("PUBLISH to this.")),
        ("maxlen", integer("Entries of the stream that are kept, roughly (10000).")),
    ];
    redis.extend(super::redis::access());
    let mut kafka = vec![("topic", text("Where to.")), mode()];
    kafka.extend(super::kafka::servers());
    vec![
        object(
            "publisher",
            &[
                ("http", reference("http publisher")),
                ("nats", reference("nats publisher")),
                ("redis", reference("redis publisher")),
                ("kafka", reference("kafka publisher")),
                ("events", one_or_list(&one_of(&["alerts", "health", "lifecycle"], ""), "What is published (all).")),
                ("match", selection()[0].1.clone()),
                queue(),
            ],
        ),
        object(
            "export queue",
            &[("bytes", bytes("Bytes that may wait.")), ("age", time("How old what waits may become."))],
        ),
        over_http("http publisher", vec![mode(), ("timeout", time("How long an answer may take (10s)."))]),
        object("nats publisher", &nats),
        object("redis publisher", &redis),
        object("kafka publisher", &kafka),
        over_http(
            "otlp export",
            vec![
                ("metrics", flag("Whether metrics are sent (true).")),
                ("traces", flag("Whether events with a trace context and a duration are sent as spans (false).")),
                ("sample", json!({"type": ["string", "number"], "description": "The share of traces, 1% or 0.01."})),
                ("interval", time("How often metrics are sent (15s).")),
                ("timeout", time("How long an answer may take (10s).")),
                ("gzip", flag("Whether requests are packed (true).")),
                queue(),
            ],
        ),
    ]
}
