//! The keys of a `kafka` source.

use super::{object, one_of, one_or_list, reference, text, texts};
use crate::config::schema::KafkaMechanism;
use serde_json::Value;

/// How brokers are reached.
pub(super) fn servers() -> Vec<(&'static str, Value)> {
    vec![
        ("brokers", one_or_list(&text(""), "HOST:PORT, several by commas.")),
        ("user", text("For SASL.")),
        ("password", text("For SASL.")),
        ("password_file", text("A file that holds the password.")),
        ("mechanism", one_of(&KafkaMechanism::ALL.map(|(name, _)| name), "Of SASL (PLAIN).")),
        ("tls", reference("source tls")),
    ]
}

pub(super) fn definitions() -> Vec<Value> {
    let mut source = vec![
        ("topics", one_or_list(&text(""), "Topics; ^ begins a regular expression.")),
        ("group", text("The consumer group (sidewatch-SERVICE).")),
        ("start", one_of(&["first", "last"], "Where to begin without a known position (first).")),
        ("scope", one_of(&["shared", "per_instance"], "Each event to one sidecar, or to all.")),
        ("member", text("A name in the group that survives a restart: nothing is rebalanced meanwhile.")),
        ("properties", texts("More properties of librdkafka.")),
    ];
    source.extend(servers());
    vec![object("kafka source", &source)]
}
