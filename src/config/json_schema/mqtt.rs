//! The keys of an `mqtt` source.

use super::{bytes, flag, integer, object, one_of, one_of_values, one_or_list, reference, text, time};
use serde_json::{Value, json};

/// Every key once.
#[cfg(test)]
pub(super) const SAMPLE: &str = "sources: {a: {mqtt: {url: 'mqtt://h', topics: a/b, tls: {}}}}\n";

pub(super) fn definitions() -> Vec<Value> {
    vec![object(
        "mqtt source",
        &[
            ("url", text("mqtt://HOST:1883, or mqtts:// for TLS.")),
            ("topics", one_or_list(&text(""), "Topic filters: + is one level, # all that follow.")),
            (
                "version",
                one_of_values(
                    &[json!(5), json!(4), json!("5"), json!("3.1.1"), json!("4")],
                    "Of the protocol (5); 4 is another name of 3.1.1.",
                ),
            ),
            (
                "qos",
                one_of_values(&[json!(1), json!(0), json!("1"), json!("0")], "1: at least once; 0: at most once (1)."),
            ),
            ("client_id", text("Who we are to the broker (INSTANCE-SOURCE).")),
            ("clean_session", flag("Whether the broker keeps nothing for us (true with qos 0).")),
            ("session_expiry", time("How long the broker keeps the session (24h); version 5.")),
            ("receive_maximum", integer("Messages sent ahead of their acknowledgement (1000); version 5.")),
            ("max_packet_size", bytes("Larger messages the broker keeps from us; version 5.")),
            ("scope", one_of(&["shared", "per_instance"], "Shared subscriptions, or each sidecar hears everything.")),
            ("group", text("Of shared subscriptions (sidewatch).")),
            ("retained", one_of(&["count", "ignore"], "What becomes of retained messages (count).")),
            ("username", text("The user.")),
            ("password", text("The password.")),
            ("password_file", text("A file that holds it.")),
            ("keep_alive", time("Between signs of life (30s).")),
            ("tls", reference("source tls")),
        ],
    )]
}
