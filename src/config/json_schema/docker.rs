//! The keys of a `docker` source.

use super::{either, flag, object, one_or_list, reference, text, texts, time};
use serde_json::{Value, json};

pub(super) fn definitions() -> Vec<Value> {
    let alternatives = one_or_list(&text(""), "");
    vec![object(
        "docker source",
        &[
            ("socket", text("unix:///var/run/docker.sock (the default) or tcp://HOST:2375; also Podman's.")),
            (
                "labels",
                either(
                    &[texts(""), one_or_list(&text(""), "")],
                    "Only containers with these labels: {name: value}, or a list of name and name=value.",
                ),
            ),
            (
                "filters",
                json!({"type": "object", "additionalProperties": alternatives, "description": "Filters of the Engine API's GET /events."}),
            ),
            ("running", flag("Whether containers that run already are told at the start (true).")),
            ("address_timeout", time("So long the start of a container waits for its address (10s).")),
            ("tls", reference("source tls")),
        ],
    )]
}
