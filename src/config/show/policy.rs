//! `schemas:` and `redact:`.

use super::{Fields, Yaml, fields, pattern, secret, text};
use crate::config::schema::{Config, RedactEntry, SchemaConfig, SchemaSource};
use crate::config::yaml::{Kind, Node};

pub(super) fn add(map: &mut Fields, config: &Config) {
    let schemas: Vec<_> = config.schemas.iter().map(|entry| (entry.name.value.clone(), schema(&entry.value))).collect();
    map.add("schemas", Yaml::Map(schemas));
    if !config.redact.fields.is_empty() {
        let mut inner = Fields::default();
        inner.add("fields", Yaml::Seq(config.redact.fields.iter().map(entry).collect()));
        if let Some(key) = &config.redact.hash_key {
            secret(&mut inner, "hash_key", key);
        }
        map.add("redact", Yaml::Map(inner.0));
    }
}

fn schema(schema: &SchemaConfig) -> Yaml {
    let mut map = Fields::default();
    map.add("match", Yaml::Seq(schema.matches.iter().map(pattern).collect()));
    map.add(
        "schema",
        match &schema.schema {
            SchemaSource::File(file) => text(&file.value),
            SchemaSource::Inline(node) => tree(node),
        },
    );
    map.text("version", schema.version.as_ref());
    map.raw("of", if schema.whole { "event" } else { "data" });
    map.raw("on_invalid", if schema.only_count { "count" } else { "quarantine" });
    Yaml::Map(map.0)
}

fn entry(entry: &RedactEntry) -> Yaml {
    match entry {
        RedactEntry::Path { path, hash: false } => text(&path.value.to_string()),
        RedactEntry::Path { path, hash: true } => {
            fields([("path", text(&path.value.to_string())), ("hash", Yaml::Raw("true".into()))])
        }
        RedactEntry::Regex(regex) => fields([("regex", text(&regex.value))]),
    }
}

/// A tree as it was written.
fn tree(node: &Node) -> Yaml {
    match &node.kind {
        Kind::Scalar { text: word, plain: true } if !word.is_empty() => Yaml::Raw(word.clone()),
        Kind::Scalar { text: word, .. } => text(word),
        Kind::Seq(items) => Yaml::Seq(items.iter().map(tree).collect()),
        Kind::Map(entries) => {
            let entry = |(key, value): &(Node, Node)| (key.as_str().unwrap_or_default().to_owned(), tree(value));
            Yaml::Map(entries.iter().map(entry).collect())
        }
    }
}
