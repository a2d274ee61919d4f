//! A JSON Schema of sidewatch.yaml, for editors that complete and underline.
//!
//! Each mapping of a fixed form has a definition whose name is the word that [`super::reader::MapReader`] calls it in
//! messages; a test holds the keys of both against each other.

use super::schema::Profile;
use crate::model::Attribute;
use serde_json::{Map, Value, json};

/// The schema (draft 2020-12) as JSON text.
pub fn json_schema() -> String {
    format!("{:#}\n", schema())
}

fn schema() -> Value {
    let definitions: Map<String, Value> =
        definitions().into_iter().map(|(name, keys, required)| (name.to_owned(), object(keys, &required))).collect();
    let mut whole = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "sidewatch.yaml",
        "$ref": "#/$defs/configuration",
    });
    whole["$defs"] = Value::Object(definitions.into_iter().chain(shared()).collect());
    whole
}

fn object(keys: Value, required: &Required) -> Value {
    let mut definition = json!({"type": ["object", "null"], "additionalProperties": false, "properties": keys});
    match required {
        Required::Nothing => {}
        Required::All(keys) => definition["required"] = json!(keys),
        Required::OneOf(keys) => {
            definition["oneOf"] = keys.iter().map(|key| json!({"required": [key]})).collect();
        }
    }
    definition
}

/// Which keys must be there.
enum Required {
    Nothing,
    All(&'static [&'static str]),
    OneOf(&'static [&'static str]),
}

fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/$defs/{name}")})
}

fn map_of(value: Value, about: &str) -> Value {
    json!({"type": ["object", "null"], "additionalProperties": value, "description": about})
}

fn one_or_list(value: Value) -> Value {
    json!({"anyOf": [value, {"type": "array", "items": value}]})
}

fn either(values: &[Value]) -> Value {
    json!({"anyOf": values})
}

fn about(mut value: Value, about: &str) -> Value {
    value["description"] = about.into();
    value
}

/// Types that several keys share and that are no mappings of a fixed form.
fn shared() -> Vec<(String, Value)> {
    let attributes: Map<String, Value> = Attribute::ALL
        .iter()
        .map(|(name, _)| *name)
        .chain(["data", "tags", "headers"])
        .map(|name| (name.to_owned(), reference("path")))
        .collect();
    let condition = json!({
        "type": "object", "minProperties": 1,
        "description": "paths with comparisons; a bare value means equal, a list one of these; all must hold",
        "properties": {
            "all": {"type": "array", "minItems": 1, "items": reference("condition")},
            "any": {"type": "array", "minItems": 1, "items": reference("condition")},
            "not": reference("condition"),
        },
        "additionalProperties": either(&[reference("scalar"), json!({"type": "array", "items": reference("scalar")}), reference("comparison")]),
    });
    let duration = json!({
        "type": ["string", "integer"], "pattern": "^(\\$\\{.*\\}|0|([0-9]+y)?([0-9]+w)?([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?)$",
        "description": "a duration such as 30s, 5m, 1h30m, 500ms",
    });
    [
        ("text", json!({"type": ["string", "number", "boolean"]})),
        ("scalar", json!({"type": ["string", "number", "boolean", "null"]})),
        (
            "path",
            json!({"type": "string", "description": "a field of the event, such as data.items[0].sku or subject"}),
        ),
        ("duration", duration),
        ("bytes", json!({"type": ["integer", "string"], "description": "bytes, alone or with a unit: 64MiB"})),
        ("count", json!({"anyOf": [{"type": "integer", "minimum": 1}, {"type": "string", "pattern": "^\\$\\{"}]})),
        ("address", json!({"type": "string", "description": "HOST:PORT"})),
        ("event pattern", either(&[json!({"type": "string", "minLength": 1}), reference("pattern")])),
        ("condition", condition),
        ("value", json!({"type": ["string", "number"], "description": "a path, or a number"})),
        ("any events", either(&[one_or_list(reference("event pattern")), reference("event selector")])),
        ("labels of a metric", map_of(either(&[reference("path"), reference("label")]), "label -> path or mapping")),
        ("texts by name", map_of(json!({"type": ["string", "number", "boolean", "null"]}), "name -> text")),
        ("foreign shape", json!({"type": "object", "additionalProperties": false, "properties": attributes})),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect()
}

/// The mappings of a fixed form: name, keys, which are needed.
fn definitions() -> Vec<(&'static str, Value, Required)> {
    use Required::{All, Nothing, OneOf};
    let r = reference;
    let limits = [
        "series",
        "series_per_metric",
        "histogram_series",
        "labels_per_series",
        "queue_batches",
        "event_depth",
        "query_samples",
        "pattern_keys",
        "alerts_per_rule",
        "outbox_messages",
    ]
    .map(|key| (key, r("count")))
    .into_iter()
    .chain(
        ["label_value_bytes", "series_bytes", "queue_bytes", "body_bytes", "event_bytes"].map(|key| (key, r("bytes"))),
    )
    .chain(["idle_series", "query_timeout"].map(|key| (key, r("duration"))))
    .map(|(key, value)| (key.to_owned(), value));
    let profiles: Vec<&str> = super::read::PROFILES.iter().map(|(name, _)| *name).collect();
    let default =
        super::read::PROFILES.iter().find(|(_, profile)| *profile == Profile::default()).map(|(name, _)| *name);
    let events = [("match", one_or_list(r("event pattern"))), ("where", r("condition"))];
    let with = |more: Value| {
        let mut keys = Value::Object(events.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect());
        if let (Some(keys), Value::Object(more)) = (keys.as_object_mut(), more) {
            keys.extend(more);
        }
        keys
    };
    let rest = |more: Value| {
        let mut keys = json!({"labels": r("labels of a metric"), "help": r("text")});
        if let (Some(keys), Value::Object(more)) = (keys.as_object_mut(), more) {
            keys.extend(more);
        }
        keys
    };
    let number = json!({"value": r("value"), "unit": about(r("text"), "of the field: ms, s, KiB, percent, ...")});
    let buckets = json!({"type": "array", "items": {"type": "number"}, "description": "upper bounds, rising"});
    let resolved = json!({"type": "boolean", "default": true});
    let word = |word: &str| json!({"const": word});
    let joined = |left: Value, right: Value| match (left, right) {
        (Value::Object(left), Value::Object(right)) => Value::Object(left.into_iter().chain(right).collect()),
        (left, _) => left,
    };
    vec![
        (
            "configuration",
            json!({
                "profile": {"enum": profiles, "default": default},
                "service": either(&[r("service"), json!({"type": "string"})]),
                "listen": r("listen"),
                "sources": map_of(either(&[r("source"), json!({"type": "string"})]), "where events come from; one http source when absent"),
                "metrics": map_of(r("metric"), "metrics made from events"),
                "health": map_of(r("health check"), "what /health answers from"),
                "alerts": map_of(r("alert"), "alerts in the short form"),
                "rules": about(one_or_list(json!({"type": "string"})), "Prometheus rule files, relative to this file"),
                "bundled_rules": {"type": "boolean", "default": true},
                "notify": {
                    "type": ["object", "null"], "description": "receivers, the first is the default",
                    "properties": {"alertmanager": either(&[json!({"type": "string"}), r("receiver")])},
                    "additionalProperties": either(&[r("receiver"), word("terminal")]),
                },
                "state": either(&[r("state"), json!({"type": "string"})]),
                "external_labels": r("texts by name"),
                "external_url": {"type": "string"},
                "evaluation_interval": r("duration"),
                "limits": r("limits"),
            }),
            Nothing,
        ),
        ("service", json!({"name": r("text"), "instance": r("text")}), Nothing),
        ("listen", json!({"observe": r("address"), "ingest": r("address")}), Nothing),
        (
            "state",
            json!({"dir": {"type": "string"}, "sync": {"enum": ["normal", "full"]}, "checkpoint_interval": r("duration")}),
            All(&["dir"]),
        ),
        ("limits", Value::Object(limits.collect()), Nothing),
        (
            "source",
            json!({
                "http": r("source without options"), "stdin": r("source without options"), "memory": r("source without options"),
                "none": r("source without options"), "file": either(&[json!({"type": "string"}), r("file source")]),
                "unix": either(&[json!({"type": "string"}), r("unix source")]), "tcp": either(&[r("address"), r("tcp source")]),
                "lines": either(&[json!({"type": "string"}), r("lines")]), "type": r("text"), "shape": r("foreign shape"),
            }),
            OneOf(&["http", "stdin", "file", "unix", "tcp", "memory", "none"]),
        ),
        ("source without options", json!({}), Nothing),
        ("file source", json!({"path": {"type": "string"}, "start": {"enum": ["first", "last"]}}), All(&["path"])),
        ("unix source", json!({"path": {"type": "string"}}), All(&["path"])),
        ("tcp source", json!({"listen": r("address")}), All(&["listen"])),
        ("lines", json!({"regex": about(r("text"), "each named group is a field")}), All(&["regex"])),
        ("pattern", json!({"regex": r("text")}), All(&["regex"])),
        ("event selector", with(json!({})), Nothing),
        (
            "comparison",
            json!({
                "gt": {"type": "number"}, "gte": {"type": "number"}, "lt": {"type": "number"}, "lte": {"type": "number"},
                "eq": r("scalar"), "ne": r("scalar"), "in": {"type": "array", "items": r("scalar")},
                "exists": {"type": "boolean"}, "regex": r("text"),
            }),
            Nothing,
        ),
        (
            "metric",
            json!({
                "counter": r("counter"), "gauge": r("gauge"), "histogram": r("histogram"), "timer": r("timer"),
                "drop": either(&[one_or_list(r("event pattern")), r("drop")]),
            }),
            OneOf(&["counter", "gauge", "histogram", "timer", "drop"]),
        ),
        ("counter", rest(with(number.clone())), Nothing),
        ("gauge", rest(with(joined(number.clone(), json!({"op": {"enum": ["set", "add"]}})))), All(&["value"])),
        ("histogram", rest(with(joined(number, json!({"buckets": buckets})))), All(&["value"])),
        (
            "timer",
            rest(
                json!({"from": r("any events"), "to": r("any events"), "by": r("path"), "within": r("duration"), "buckets": buckets}),
            ),
            All(&["from", "to", "by"]),
        ),
        ("drop", with(json!({})), Nothing),
        (
            "label",
            json!({
                "from": r("path"), "value": r("scalar"), "replace": one_or_list(r("replacement")), "map": r("texts by name"),
                "default": r("text"),
            }),
            OneOf(&["from", "value"]),
        ),
        ("replacement", json!({"regex": r("text"), "with": r("scalar")}), All(&["regex", "with"])),
        (
            "health check",
            json!({
                "event": r("heartbeat"), "expr": {"type": "string"}, "http": either(&[json!({"type": "string"}), r("http probe")]),
                "status": {"enum": ["unhealthy", "degraded"]},
            }),
            OneOf(&["event", "expr", "http"]),
        ),
        ("heartbeat", with(json!({"within": r("duration")})), All(&["within"])),
        (
            "http probe",
            json!({
                "url": {"type": "string"}, "expect": either(&[json!({"type": "integer"}), r("expect")]),
                "timeout": r("duration"), "every": r("duration"),
            }),
            All(&["url"]),
        ),
        ("expect", json!({"status": {"type": "integer", "minimum": 100, "maximum": 599}, "body": r("text")}), Nothing),
        (
            "alert",
            json!({
                "metric": r("text"), "event": r("event condition"), "expr": r("text"), "of": r("text"),
                "stat": about(r("text"), "rate, increase, last, avg, min, max, sum, p50, p90, p95, p99, p999, any pNN"),
                "over": r("duration"), "by": one_or_list(r("path")),
                "where": map_of(either(&[r("scalar"), r("pattern")]), "label -> value or {regex}"),
                "above": r("text"), "below": r("text"), "at_least": r("text"), "at_most": r("text"),
                "for": r("duration"), "keep_firing_for": r("duration"), "severity": r("text"), "labels": r("texts by name"),
                "annotations": r("texts by name"), "runbook": r("text"), "notify": one_or_list(r("text")),
            }),
            OneOf(&["metric", "event", "expr"]),
        ),
        (
            "event condition",
            with(json!({
                "count": about(r("text"), "a comparison such as \">= 5\""), "absent": r("any events"),
                "keys": one_or_list(r("text")), "sequence": {"type": "array", "minItems": 2, "items": r("any events")},
                "missing": {"const": "last"}, "by": one_or_list(r("path")), "within": r("duration"),
            })),
            All(&["within"]),
        ),
        (
            "receiver",
            json!({
                "terminal": r("terminal receiver"), "slack": r("slack receiver"), "webhook": r("webhook receiver"),
                "email": r("email receiver"),
            }),
            OneOf(&["terminal", "slack", "webhook", "email"]),
        ),
        ("terminal receiver", json!({"send_resolved": resolved}), Nothing),
        (
            "slack receiver",
            json!({"url": r("text"), "url_file": r("text"), "channel": r("text"), "send_resolved": resolved}),
            OneOf(&["url", "url_file"]),
        ),
        (
            "webhook receiver",
            json!({"url": r("text"), "url_file": r("text"), "headers": r("texts by name"), "send_resolved": resolved}),
            OneOf(&["url", "url_file"]),
        ),
        (
            "email receiver",
            json!({
                "to": one_or_list(r("text")), "from": r("text"), "smtp": about(r("text"), "smtp://HOST:25 or smtps://HOST:465"),
                "username": r("text"), "password": r("text"), "password_file": r("text"), "require_tls": {"type": "boolean"},
                "send_resolved": resolved,
            }),
            All(&["to", "smtp"]),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::reader::record;
    use std::collections::{BTreeMap, BTreeSet};

    #[test]
    fn the_schema_has_exactly_the_keys_that_are_read() {
        record::take();
        let (config, found) = crate::config::tests::load_text(include_str!("../../deploy/sidewatch.yaml"), &[]);
        assert_eq!(found, "");
        assert!(config.is_some());
        let read: BTreeMap<String, BTreeSet<String>> = record::take()
            .into_iter()
            .map(|(what, keys)| (what.to_owned(), keys.into_iter().map(str::to_owned).collect()))
            .collect();
        let described: BTreeMap<String, BTreeSet<String>> = definitions()
            .into_iter()
            .map(|(what, keys, _)| (what.to_owned(), keys.as_object().unwrap().keys().cloned().collect()))
            .collect();
        assert_eq!(read, described);
    }

    #[test]
    fn every_reference_leads_somewhere_and_the_text_is_json() {
        let whole: Value = serde_json::from_str(&json_schema()).unwrap();
        let mut waiting = vec![&whole];
        let mut seen = 0;
        while let Some(value) = waiting.pop() {
            match value {
                Value::Object(map) => {
                    if let Some(Value::String(target)) = map.get("$ref") {
                        assert!(whole.pointer(&target[1..]).is_some(), "{target}");
                        seen += 1;
                    }
                    waiting.extend(map.values());
                }
                Value::Array(items) => waiting.extend(items),
                _ => {}
            }
        }
        assert!(seen > 100);
    }
}
