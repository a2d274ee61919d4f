//! `schemas:` and `redact:`.

use super::{either, flag, named, object, one_of, one_or_list, reference, text};
use serde_json::{Value, json};

pub(super) fn schemas() -> Value {
    let entry = either(&[text("A file, for the types that the name matches."), reference("event schema")], "");
    let list = json!({"type": "array", "items": reference("event schema")});
    either(&[named(&entry, ""), list], "JSON Schemas that events must follow, by type.")
}

pub(super) fn redact() -> Value {
    let entry = either(&[text("A path; * is any key."), reference("redacted field")], "");
    either(&[one_or_list(&entry, ""), reference("redaction")], "Fields that are never shown or kept.")
}

pub(super) fn definitions() -> Vec<Value> {
    let entry = either(&[text("A path; * is any key."), reference("redacted field")], "");
    let pattern = either(&[text(""), reference("pattern")], "* any text, + one segment.");
    vec![
        object(
            "event schema",
            &[
                ("match", one_or_list(&pattern, "Event types.")),
                (
                    "schema",
                    json!({"type": ["string", "object", "boolean"], "description": "A file (JSON or YAML), or the schema itself."}),
                ),
                (
                    "version",
                    json!({"type": ["string", "number"], "description": "A label; what the schema says without it."}),
                ),
                ("of", one_of(&["data", "event"], "What it describes: the payload, or the whole document.")),
                (
                    "on_invalid",
                    one_of(&["quarantine", "count"], "Whether an invalid event is refused, or counted and taken."),
                ),
            ],
        ),
        object(
            "redaction",
            &[
                ("fields", one_or_list(&entry, "What is never shown.")),
                ("hash_key", text("The key of the hashes, at least 8 bytes.")),
                ("hash_key_file", text("A file that holds the key.")),
            ],
        ),
        object(
            "redacted field",
            &[
                ("path", text("A path; * is any key.")),
                ("hash", flag("A keyed hash takes its place, so that it can still be counted by.")),
                ("regex", text("Whatever matches, in any text that is shown.")),
            ],
        ),
    ]
}
