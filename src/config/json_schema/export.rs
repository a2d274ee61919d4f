//! `export:`.

use super::scrape::request;
use super::{bytes, either, flag, number, object, one_of, one_or_list, reference, text, time, whole};
use serde_json::{Value, json};

pub(super) fn definitions() -> Vec<Value> {
    let mut remote_write = vec![
        ("url", text("Where to: http://HOST:9090/api/v1/write.")),
        ("interval", time("How often the series are read and sent (15s).")),
        ("timeout", time("How long an answer may take (30s).")),
        ("native_histograms", flag("Whether histograms go out as native ones; as classic buckets otherwise.")),
        (
            "write_relabel_configs",
            json!({"type": "array", "items": reference("relabel step"), "description": "Relabelling of each series."}),
        ),
        ("queue", reference("export queue")),
    ];
    remote_write.extend(request());
    vec![
        object(
            "export",
            &[
                ("remote_write", either(&[text(""), reference("remote_write")], "An address or a mapping.")),
                ("log", reference("event log")),
                ("otlp", reference("otlp export")),
            ],
        ),
        object("remote_write", &remote_write),
        object(
            "event log",
            &[
                ("match", one_or_list(&either(&[text(""), reference("pattern")], ""), "Event types.")),
                ("where", json!({"type": "object", "description": "Paths with comparisons; all, any, not."})),
                ("to", text("A file; standard output without it.")),
                ("sample", either(&[text(""), number("")], "The share of events that is written, for example 1%.")),
                ("per_second", whole("Lines of one type in a second.")),
                ("fields", one_or_list(&text(""), "Paths written beside the attributes.")),
                ("format", one_of(&["json", "logfmt"], "How lines are written (json).")),
                ("rotate", reference("event log rotate")),
            ],
        ),
        object(
            "event log rotate",
            &[
                ("bytes", bytes("A longer file is begun anew (64MiB).")),
                ("keep", whole("Older files that are kept (3).")),
            ],
        ),
    ]
}
