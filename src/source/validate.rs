//! `schemas:`: JSON Schema (2020-12, or what `$schema` says) for events by type, formats asserted.
//!
//! Schemas are compiled with the configuration. References lead to files beside the schema; nothing is ever fetched from
//! the network. Validation runs where decoding runs; a type without a schema costs one look-up.

mod read;

use crate::config::schema::{Config, Pattern, SchemaConfig};
use crate::config::{Diagnostics, Named};
use crate::model::Fault;
use jsonschema::Validator;
use regex::Regex;
use serde_json::Value;
use std::path::PathBuf;
use std::sync::Arc;

/// Faults of one event that are kept; one is enough to refuse it, a few help to mend it.
const FAULTS: usize = 10;
/// Bytes of one fault's sentence.
const SENTENCE_BYTES: usize = 300;
/// Where an event says which version of a schema it follows.
const VERSIONS: [&str; 6] = [
    "/dataschema",
    "/schemaversion",
    "/schema_version",
    "/data/schema_version",
    "/payload/schema_version",
    "/event/metadata/schema_version",
];

/// One schema, compiled.
#[derive(Debug)]
pub struct Schema {
    /// Its name in the configuration.
    pub name: Arc<str>,
    /// The version: of the configuration, else the schema's `version`, else its `$id`; empty when none says.
    pub version: Arc<str>,
    /// The schema's `$id`.
    id: String,
    /// It describes the whole document, not its payload.
    pub whole: bool,
    /// Invalid events are taken.
    pub only_count: bool,
    patterns: Vec<Regex>,
    validator: Validator,
}

/// Every schema, in the order of the configuration.
#[derive(Debug, Default)]
pub struct Schemas {
    schemas: Vec<Schema>,
    /// The files that were read, to be watched.
    files: Vec<PathBuf>,
}

impl Schemas {
    /// Compiles all; what is wrong is among the findings.
    pub fn compile(config: &Config, found: &mut Diagnostics) -> Self {
        let mut all = Self::default();
        for Named { name, value } in &config.schemas {
            let patterns: Vec<Regex> = value.matches.iter().filter_map(|pattern| compile(pattern, found)).collect();
            let Some(read) = read::schema(value, &config.base_dir, found) else { continue };
            all.files.extend(read.files);
            all.schemas.push(Schema {
                name: name.value.as_str().into(),
                version: version(value, &read.schema).into(),
                id: read.schema.get("$id").and_then(Value::as_str).unwrap_or_default().to_owned(),
                whole: value.whole,
                only_count: value.only_count,
                patterns,
                validator: read.validator,
            });
        }
        all
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.schemas.is_empty()
    }

    /// The files that they stand in.
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// A schema by its place.
    pub fn get(&self, at: usize) -> Option<&Schema> {
        self.schemas.get(at)
    }

    /// The places of the schemas for a type.
    pub fn of_type(&self, event_type: &str) -> Vec<usize> {
        let takes = |schema: &Schema| schema.patterns.iter().any(|pattern| pattern.is_match(event_type));
        self.schemas.iter().enumerate().filter(|(_, schema)| takes(schema)).map(|(at, _)| at).collect()
    }

    /// Which of several schemas of a type an event follows: the one whose version or `$id` it names, else the first.
    pub fn choose(&self, places: &[usize], document: &Value) -> Option<usize> {
        if places.len() < 2 {
            return places.first().copied();
        }
        let named = |at: &usize, version: &str| {
            let schema = &self.schemas[*at];
            *schema.version == *version || (!schema.id.is_empty() && schema.id == version)
        };
        let says = VERSIONS.iter().filter_map(|pointer| match document.pointer(pointer)? {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        });
        let chosen = says.filter_map(|version| places.iter().find(|at| named(at, &version)).copied()).next();
        chosen.or(places.first().copied())
    }
}

impl Schema {
    /// What is wrong with an event's payload (or document); nothing when it follows the schema. The sentences hold no
    /// value of the event.
    pub fn faults(&self, instance: &Value) -> Vec<Fault> {
        if self.validator.is_valid(instance) {
            return Vec::new();
        }
        let fault = |error: jsonschema::ValidationError<'_>| Fault {
            pointer: error.instance_path().to_string(),
            message: super::redact::cut(&error.masked().to_string(), SENTENCE_BYTES).to_owned(),
        };
        self.validator.iter_errors(instance).take(FAULTS).map(fault).collect()
    }
}

fn compile(pattern: &Pattern, found: &mut Diagnostics) -> Option<Regex> {
    Regex::new(&pattern.to_regex())
        .map_err(|error| found.error(pattern.span(), format!("not a regular expression: {error}")))
        .ok()
}

fn version(config: &SchemaConfig, schema: &Value) -> String {
    let own = ["version", "$id"].into_iter().find_map(|key| match schema.get(key)? {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    });
    config.version.clone().or(own).unwrap_or_default()
}

#[cfg(test)]
mod tests;
