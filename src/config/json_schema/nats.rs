//! The keys of a `nats` source.

use super::{integer, object, one_of, one_or_list, reference, text, time};
use serde_json::Value;

/// How servers are reached.
pub(super) fn servers() -> Vec<(&'static str, Value)> {
    vec![
        ("url", text("nats://HOST:4222, or tls:// to insist on TLS; /SUBJECT may follow in a source.")),
        ("urls", one_or_list(&text(""), "Several servers, tried in their turn.")),
        ("user", text("Who we are.")),
        ("password", text("The user's password.")),
        ("password_file", text("A file that holds it.")),
        ("token", text("A token.")),
        ("token_file", text("A file that holds it.")),
        ("nkey_file", text("A file with the seed of an nkey.")),
        ("creds_file", text("A file with a JWT and its seed, as nsc writes it.")),
        ("tls", reference("source tls")),
        ("inbox_prefix", text("What inboxes begin with (_INBOX).")),
    ]
}

pub(super) fn definitions() -> Vec<Value> {
    let mut source = vec![
        ("subjects", one_or_list(&text(""), "Subjects with the wildcards * and >; of a stream, all without this key.")),
        ("queue_group", text("Core NATS: each message goes to one member of the group.")),
        ("stream", text("JetStream: the stream.")),
        ("durable", text("JetStream: the consumer; it is made when it is missing.")),
        ("domain", text("JetStream: the domain.")),
        ("ack_wait", time("JetStream: what is not acknowledged for so long comes again (5s).")),
        ("max_deliver", integer("JetStream: how often a message comes at most; without limit without this key.")),
        ("backoff", one_or_list(&time(""), "JetStream: waits before each further delivery.")),
        ("max_ack_pending", integer("JetStream: messages that may wait for their acknowledgement (20000).")),
        ("start", one_of(&["first", "last"], "JetStream: where a new consumer begins (first).")),
        ("scope", one_of(&["shared", "per_instance"], "Whether each event goes to one sidecar or to all.")),
    ];
    source.extend(servers());
    vec![object("nats source", &source)]
}
