//! The keys of a `websocket` source.

use super::{object, one_or_list, reference, text, texts, time};
use serde_json::{Value, json};

pub(super) fn definitions() -> Vec<Value> {
    let message = json!({"description": "A text as it is, or what is sent as JSON."});
    vec![object(
        "websocket source",
        &[
            ("url", text("ws://HOST:PORT/PATH or wss://HOST/PATH.")),
            ("subscribe", one_or_list(&message, "Messages that are sent after each connecting.")),
            ("headers", texts("Headers of the opening request.")),
            ("token", text("Sent as bearer.")),
            ("token_file", text("A file that holds the token.")),
            ("protocols", one_or_list(&text(""), "Subprotocols that are offered.")),
            ("ping", time("Between pings (20s); 0s sends none.")),
            ("pong_timeout", time("A server that is silent for so long after a ping is gone (10s).")),
            (
                "ignore",
                one_or_list(&json!({"type": "object"}), "Messages that are no events: fields with their values."),
            ),
            ("tls", reference("source tls")),
        ],
    )]
}
