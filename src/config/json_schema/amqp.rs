//! The keys of an `amqp` source.

use super::{flag, integer, object, one_of, one_or_list, reference, text, time, whole};
use serde_json::{Value, json};

/// Every key once.
#[cfg(test)]
pub(super) const SAMPLE: &str = "sources: {a: {dedup: {by: id, window: 10}, amqp: {url: 'amqps://u:p@h/v', queue: q, declare: {arguments: {x-queue-type: quorum}}, bind: [{exchange: e, type: topic}], tls: {}}}}\n";

pub(super) fn definitions() -> Vec<Value> {
    let arguments = || json!({"type": "object", "description": "x-... arguments: texts, whole numbers, true, false."});
    vec![
        object(
            "amqp source",
            &[
                ("url", text("amqp://USER:PASSWORD@HOST:5672/VHOST, or amqps:// for TLS.")),
                ("vhost", text("The virtual host (/); the address may name it.")),
                ("username", text("The user (guest); the address may name it.")),
                ("password", text("The password.")),
                ("password_file", text("A file that holds it.")),
                ("queue", text("The queue.")),
                ("declare", super::either(&[flag(""), reference("amqp declare")], "Make the queue if it is missing.")),
                ("bind", one_or_list(&reference("amqp binding"), "What the queue is bound to.")),
                ("prefetch", integer("Messages sent ahead of their acknowledgement (1000).")),
                ("scope", one_of(&["shared", "per_instance"], "One queue for all sidecars, or one for each.")),
                ("poison", one_of(&["ack", "reject"], "What becomes of messages that are no events (ack).")),
                ("max_deliveries", whole("A message delivered more often is poison (20; 0 for never).")),
                ("heartbeat", time("Between signs of life (30s).")),
                ("tls", reference("source tls")),
            ],
        ),
        object(
            "amqp declare",
            &[
                ("durable", flag("Survives a restart of the broker (true).")),
                ("exclusive", flag("Of this connection alone.")),
                ("auto_delete", flag("Goes with its last consumer.")),
                ("arguments", arguments()),
            ],
        ),
        object(
            "amqp binding",
            &[
                ("exchange", text("The exchange.")),
                ("routing_key", text("The routing key; * is one word, # any for topic exchanges.")),
                ("type", one_of(&["direct", "fanout", "topic", "headers"], "Make the exchange if it is missing.")),
                ("durable", flag("Whether the exchange that is made survives a restart of the broker (true).")),
                ("arguments", arguments()),
            ],
        ),
    ]
}
