//! `schemas:` and `redact:`.

use super::events;
use crate::config::reader::{self, MapReader};
use crate::config::schema::{Named, Pattern, RedactConfig, RedactEntry, SchemaConfig, SchemaSource};
use crate::config::yaml::{Kind, Node};
use crate::config::{Diagnostics, Spanned};
use crate::model::FieldPath;

/// `schemas:`: `NAME: {match, schema, ...}`, `PATTERN: FILE`, or a list of mappings.
pub(super) fn schemas(map: &mut MapReader<'_, '_>) -> Vec<Named<SchemaConfig>> {
    let listed = map.get("schemas").and_then(Node::as_seq);
    let Some(items) = listed else {
        let entries = map.named("schemas", |name, node, found| schema(Some(name), node, found));
        return entries.into_iter().map(|(name, value)| Named { name, value }).collect();
    };
    let one = |(at, node): (usize, &Node)| {
        let value = schema(None, node, map.found())?;
        // A file has a name; what stands in the configuration is known by its place.
        let name = match &value.schema {
            SchemaSource::File(file) => {
                let stem =
                    std::path::Path::new(&file.value).file_stem().map(|stem| stem.to_string_lossy().into_owned());
                stem.unwrap_or_else(|| file.value.clone())
            }
            SchemaSource::Inline(_) => format!("schemas[{at}]"),
        };
        Some(Named { name: Spanned::new(name, node.span.clone()), value })
    };
    items.iter().enumerate().filter_map(one).collect()
}

fn schema(name: Option<&Spanned<String>>, node: &Node, found: &mut Diagnostics) -> Option<SchemaConfig> {
    let own_pattern = || name.map(|name| Pattern::Glob(name.clone())).into_iter().collect();
    if matches!(node.kind, Kind::Scalar { .. }) && !node.is_null() && name.is_some() {
        let file = reader::string(node, "schema", found)?;
        let schema = SchemaSource::File(file);
        let span = node.span.clone();
        return Some(SchemaConfig {
            matches: own_pattern(),
            schema,
            version: None,
            whole: false,
            only_count: false,
            span,
        });
    }
    let mut map = MapReader::new(node, "event schema", found)?;
    let mut matches = map.each_or_one("match", events::pattern);
    if matches.is_empty() && map.get("match").is_none() {
        matches = own_pattern();
        if matches.is_empty() {
            map.found().error_hint(&node.span, "an entry of schemas needs `match`", "match: order.*");
        }
    }
    let schema = map.required("schema").and_then(|node| match &node.kind {
        Kind::Scalar { text, plain: true } if text == "true" || text == "false" => {
            Some(SchemaSource::Inline(node.clone()))
        }
        Kind::Scalar { .. } => reader::string(node, "schema", map.found()).map(SchemaSource::File),
        _ => Some(SchemaSource::Inline(node.clone())),
    });
    let version = map.string("version");
    let whole = map.one_of("of", &[("data", false), ("event", true)]);
    let only_count = map.one_of("on_invalid", &[("quarantine", false), ("count", true)]);
    map.finish();
    Some(SchemaConfig {
        matches,
        schema: schema?,
        version: version.map(|version| version.value),
        whole: whole.is_some_and(|whole| whole.value),
        only_count: only_count.is_some_and(|only| only.value),
        span: node.span.clone(),
    })
}

/// `redact:`: a list, or `{fields, hash_key | hash_key_file}`.
pub(super) fn redact(map: &mut MapReader<'_, '_>) -> RedactConfig {
    let Some(node) = map.get("redact") else { return RedactConfig::default() };
    let span = node.span.clone();
    if node.as_map().is_none() || node.get("path").is_some() || node.get("regex").is_some() {
        return RedactConfig { fields: map.each_or_one("redact", entry), hash_key: None, span };
    }
    let Some(mut inner) = MapReader::new(node, "redaction", map.found()) else { return RedactConfig::default() };
    let fields = inner.each_or_one("fields", entry);
    let hash_key = inner.secret("hash_key", "hash_key_file");
    inner.finish();
    RedactConfig { fields, hash_key, span }
}

fn entry(node: &Node, found: &mut Diagnostics) -> Option<RedactEntry> {
    if node.as_map().is_none() {
        return path(node, found).map(|path| RedactEntry::Path { path, hash: false });
    }
    let mut map = MapReader::new(node, "redacted field", found)?;
    let chosen = map.exactly_one(&["path", "regex"]);
    let hash = map.boolean("hash");
    map.finish();
    let (key, node) = chosen?;
    if key == "regex" {
        if let Some(hash) = hash {
            found.error_hint(&hash.span, "redact: only a path can be hashed", "what a regex finds is left out");
        }
        return reader::string(node, "regex", found).map(RedactEntry::Regex);
    }
    let hash = hash.is_some_and(|hash| hash.value);
    path(node, found).map(|path| RedactEntry::Path { path, hash })
}

fn path(node: &Node, found: &mut Diagnostics) -> Option<Spanned<FieldPath>> {
    let path = reader::path(node, "redact", found)?;
    if path.value.to_string() == "data" || path.value.last_name() == "value" && path.value.segments().len() == 1 {
        let message =
            format!("redact: {} is everything that an event says; hide the fields that are secret", path.value);
        found.error(&path.span, message);
        return None;
    }
    Some(path)
}
