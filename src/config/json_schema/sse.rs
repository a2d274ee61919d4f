//! The keys of an `sse` source.

use super::{object, reference, text, texts, time};
use serde_json::Value;

pub(super) fn definitions() -> Vec<Value> {
    vec![object(
        "sse source",
        &[
            ("url", text("http:// or https://.")),
            ("headers", texts("More headers of the request.")),
            ("token", text("Sent as Authorization: Bearer.")),
            ("token_file", text("A file that holds the token.")),
            ("tls", reference("source tls")),
            ("idle_timeout", time("Without a byte for so long the connection is made anew; never without this key.")),
        ],
    )]
}
