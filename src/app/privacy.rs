//! Redaction against the rest of the configuration: nothing that is hidden may become a label or a key.

use crate::config::schema::{
    AlertConfig, AlertKind, Config, EventConditionKind, FormatConfig, MetricKind, SchemaSource, SourceConfig,
};
use crate::config::{Diagnostics, Named, Spanned};
use crate::model::FieldPath;
use crate::source::redact::{RedactedSource, Redactor, is_hidden};
use std::path::PathBuf;

/// Compiles `redact:` with what every source calls its fields.
pub(super) fn redactor(config: &Config, found: &mut Diagnostics) -> Redactor {
    let named = |source: &'_ Named<SourceConfig>| (source.name.value.clone(), source.value.format.clone());
    let sources: Vec<_> = match &config.sources {
        Some(sources) => sources.iter().map(named).collect(),
        None => vec![(super::build::DEFAULT_SOURCE.to_owned(), FormatConfig::default())],
    };
    let sources: Vec<RedactedSource<'_>> =
        sources.iter().map(|(name, format)| RedactedSource { name, format }).collect();
    Redactor::compile(&config.redact, &sources, found)
}

/// Labels and keys stand in /metrics, in messages and in the state folder: none may be made of what is hidden.
pub(super) fn check(config: &Config, redactor: &Redactor, found: &mut Diagnostics) {
    if !redactor.veil().has_paths() {
        return;
    }
    let mut refuse = |path: &Spanned<FieldPath>, what: &str| {
        if is_hidden(redactor.veil(), path) {
            found.error_hint(
                &path.span,
                format!("{what} would show {}, which redact: hides", path.value),
                format!("count by its hash instead: redact: [{{path: {}, hash: true}}]", path.value),
            );
        }
    };
    for Named { value: metric, .. } in &config.metrics {
        for from in metric.labels.iter().filter_map(|label| label.from.as_ref()) {
            refuse(from, "the label");
        }
        if let MetricKind::Timer { by, .. } = &metric.kind {
            refuse(by, "the timer's key");
        }
    }
    for Named { value: alert, .. } in &config.alerts {
        for (path, what) in keys(alert) {
            refuse(path, what);
        }
    }
}

fn keys(alert: &AlertConfig) -> Vec<(&Spanned<FieldPath>, &'static str)> {
    let AlertKind::Event(condition) = &alert.kind else { return Vec::new() };
    let mut keys: Vec<_> = condition.by.iter().map(|path| (path, "the label of `by`")).collect();
    match &condition.kind {
        EventConditionKind::FirstSeen { path, .. } => keys.push((path, "the label of `first_seen`")),
        EventConditionKind::Gap { path, .. } => keys.push((path, "the number of `gap`")),
        _ => {}
    }
    keys
}

/// The files of `schemas:`, to be watched. What they refer to is read again with them.
pub(super) fn schema_files(config: &Config) -> Vec<PathBuf> {
    let file = |entry: &Named<crate::config::schema::SchemaConfig>| match &entry.value.schema {
        SchemaSource::File(file) => Some(config.base_dir.join(&file.value)),
        SchemaSource::Inline(_) => None,
    };
    config.schemas.iter().filter_map(file).collect()
}
