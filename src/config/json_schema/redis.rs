//! The keys of a `redis` source.

use super::{flag, object, one_of, one_or_list, reference, text, time, whole};
use crate::config::schema::Scope;
use serde_json::Value;

fn names(description: &str) -> Value {
    one_or_list(&text(""), description)
}

/// How servers are reached.
pub(super) fn access() -> Vec<(&'static str, Value)> {
    vec![
        ("url", text("redis://HOST:6379/0, rediss:// with TLS, redis+unix:///PATH.")),
        ("urls", names("Nodes of a cluster.")),
        ("cluster", flag("Whether the servers are a cluster.")),
        ("sentinel", reference("redis sentinel")),
        ("username", text("The user (ACL).")),
        ("password", text("The password.")),
        ("password_file", text("A file that holds it.")),
        ("database", whole("The database's number (0).")),
        ("tls", reference("source tls")),
    ]
}

pub(super) fn definitions() -> Vec<Value> {
    let mut source = vec![
        ("streams", names("Streams, read with a consumer group.")),
        ("channels", names("Channels of pub/sub.")),
        ("patterns", names("Patterns of channels.")),
        ("group", text("The consumer group (sidewatch).")),
        ("consumer", text("The consumer's name; service.instance without it.")),
        ("scope", one_of(&Scope::ALL.map(|(name, _)| name), "Each event to one sidecar, or to all.")),
        ("start", one_of(&["first", "last"], "Where a new group begins.")),
        ("claim_idle", time("Entries that another consumer holds for so long are taken over (1m); 0 never.")),
    ];
    source.extend(access());
    vec![
        object("redis source", &source),
        object(
            "redis sentinel",
            &[
                ("master", text("The name of the set of servers.")),
                ("urls", names("The sentinels: redis://HOST:26379.")),
                ("username", text("The user for the sentinels.")),
                ("password", text("The password for the sentinels.")),
                ("password_file", text("A file that holds it.")),
            ],
        ),
    ]
}
