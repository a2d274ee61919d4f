//! From a configuration to checked parts: everything that can fail, before anything is bound or swapped.

use super::privacy;
use crate::config::schema::{Config, ExportKind, Overflow, SourceConfig, Transport};
use crate::config::{Diagnostics, Named, Span, Spanned};
use crate::engine::{EventLog, Parts, SourcePart};
use crate::health::Checks;
use crate::mapping::{AUTOMATIC, Mappings};
use crate::model::{FieldPlanBuilder, Labels};
use crate::notify::{Routing, ShortRoute};
use crate::rules::{RuleFile, RuleInput, RuleSet};
use crate::series::{MetricKind, MetricType};
use crate::source::decode::{DecodeLimits, Decoder, Policy};
use crate::source::validate::Schemas;
use crate::source::{is_throttled, kind, objection};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Each build has a plan of its own: batches decoded with an older one are decoded again.
static PLAN_VERSION: AtomicU64 = AtomicU64::new(1);

/// The name of the source that serves when `sources:` is absent.
pub(super) const DEFAULT_SOURCE: &str = "http";

/// Builds everything. Every error is among the findings; `None` when a part could not be built at all.
pub fn build(config: &Config, found: &mut Diagnostics) -> Option<Parts> {
    let mut plan = FieldPlanBuilder::default();
    let redactor = Arc::new(privacy::redactor(config, found));
    plan.set_veil(redactor.veil().clone());
    privacy::check(config, &redactor, found);
    let schemas = Arc::new(Schemas::compile(config, found));
    let mappings = Mappings::compile(&config.metrics, &mut plan, found);
    let checks = Checks::compile(&config.health, config.evaluation_interval_ms, &mut plan, found);
    let files = rule_files(config, found);
    let metric_type = |name: &str| metric_type(&mappings, name);
    let rule_set = RuleSet::compile(&RuleInput { config, files: &files, metric_type: &metric_type }, &mut plan, found);
    let alertmanager = alertmanager_file(config, found);
    let named = alertmanager.as_ref().map(|(name, text)| (name.as_str(), text.as_str()));
    let routes: Vec<ShortRoute> = rule_set
        .routes
        .iter()
        .map(|route| ShortRoute { alertname: route.alertname.clone(), receivers: route.receivers.clone() })
        .collect();
    let routing = Routing::compile(&config.notify, named, &routes, found);
    let policy = Policy {
        schemas: schemas.clone(),
        redactor: redactor.clone(),
        quarantine_events: config.limits.quarantine_events,
        quarantine_bytes: config.limits.quarantine_bytes,
    };
    let sources = sources(config, &policy, found);
    let taps = super::publishing::taps(config);
    let event_logs: Vec<EventLog> = config
        .export
        .iter()
        .filter_map(|export| match &export.value.kind {
            ExportKind::Log(log) => EventLog::compile(&export.name.value, log, &mut plan, found),
            ExportKind::RemoteWrite(_) | ExportKind::Otlp(_) => None,
        })
        .collect();
    Some(Parts {
        plan: Arc::new(plan.build(PLAN_VERSION.fetch_add(1, Ordering::Relaxed))),
        mappings,
        checks,
        rule_set,
        routing: Arc::new(routing?),
        sources: sources?,
        redactor,
        schemas,
        event_logs: event_logs.into(),
        base_labels: Labels::from_pairs([("job", &config.service.name), ("instance", &config.service.instance)]),
        limits: config.limits.clone(),
        taps: taps.into(),
    })
}

/// What a metric is, as far as the configuration says.
pub(super) fn metric_type(mappings: &Mappings, name: &str) -> Option<MetricType> {
    if let Some((_, kind)) = mappings.metrics().find(|(known, _)| *known == name) {
        return Some(match kind {
            MetricKind::Counter => MetricType::Counter,
            MetricKind::Gauge => MetricType::Gauge,
            MetricKind::Histogram(_) => MetricType::Histogram,
        });
    }
    let automatic = AUTOMATIC.iter().find(|(known, ..)| *known == name).map(|(_, kind, ..)| *kind);
    match automatic {
        Some("histogram") => Some(MetricType::Histogram),
        Some(_) => Some(MetricType::Counter),
        // sidewatch's own metrics follow the convention of names.
        None if name.starts_with("sidewatch_") && name.ends_with("_total") => Some(MetricType::Counter),
        None if name.starts_with("sidewatch_") => Some(MetricType::Gauge),
        None => None,
    }
}

fn sources(config: &Config, policy: &Policy, found: &mut Diagnostics) -> Option<Vec<SourcePart>> {
    let limits = DecodeLimits { event_bytes: config.limits.event_bytes, depth: config.limits.event_depth };
    let default = [Named {
        name: Spanned::bare(DEFAULT_SOURCE.to_owned()),
        value: SourceConfig {
            transport: Transport::Http,
            format: Default::default(),
            flow: Default::default(),
            dedup: None,
            span: Span::default(),
        },
    }];
    let configured = config.sources.as_deref().unwrap_or(&default);
    let parts: Vec<SourcePart> = configured
        .iter()
        .filter_map(|Named { name, value }| {
            overflow_fits(value, found);
            rate_limit_fits(value, found);
            if let Some((span, message)) = objection(&value.transport) {
                found.error(&span, message);
                return None;
            }
            let decoder = Decoder::compile(&value.format, limits, found)?.with_policy(policy.clone());
            Some(SourcePart {
                name: name.value.as_str().into(),
                kind: kind(&value.transport),
                config: value.clone(),
                decoder: Arc::new(decoder),
            })
        })
        .collect();
    (parts.len() == configured.len()).then_some(parts)
}

/// Only what cannot be throttled may be dropped.
fn overflow_fits(source: &SourceConfig, found: &mut Diagnostics) {
    let Some(overflow) = source.flow.overflow.as_ref().filter(|overflow| overflow.value != Overflow::Block) else {
        return;
    };
    let kind = kind(&source.transport);
    let own = match source.transport {
        Transport::Otlp => Some("a request is taken whole or answered 429, and its sender keeps it"),
        Transport::Statsd(_) => Some(
            "it is read more slowly while the queue is full, and what the kernel drops of its datagrams is counted in \
             sidewatch_source_gaps_total",
        ),
        _ => None,
    };
    if let Some(instead) = own {
        let message =
            format!("overflow: {} {kind} source drops nothing itself", if kind == "otlp" { "an" } else { "a" });
        found.error_hint(&overflow.span, message, format!("{instead}: leave overflow out"));
    } else if is_throttled(&source.transport) {
        found.error_hint(
            &overflow.span,
            format!("overflow: nothing of this {kind} source may be dropped, it promises each event at least once"),
            "it is throttled while the queue is full: leave overflow out, or write overflow: block",
        );
    }
}

/// A limit that would never be looked at is a mistake.
fn rate_limit_fits(source: &SourceConfig, found: &mut Diagnostics) {
    let Some(limit) = source.flow.rate_limit else { return };
    let kind = kind(&source.transport);
    if matches!(source.transport, Transport::Scrape(_) | Transport::None) {
        let message = format!("rate_limit: nobody sends to a {kind} source");
        found.error_hint(&source.span, message, "leave it out; interval and sample_limit say how much a scrape brings");
    } else if limit.per_client.is_some()
        && !matches!(
            source.transport,
            Transport::Http | Transport::Otlp | Transport::Tcp { .. } | Transport::Unix { .. }
        )
    {
        let message = format!("per_client: the clients of a {kind} source are not told apart");
        found.error_hint(&source.span, message, "write rate_limit: {events: 1000/s}");
    }
}

/// The Alertmanager file of `notify:`, variables replaced.
pub(super) fn alertmanager_file(config: &Config, found: &mut Diagnostics) -> Option<(String, String)> {
    let path = config.notify.alertmanager.as_ref()?;
    let file = config.base_dir.join(&path.value);
    match std::fs::read_to_string(&file) {
        Ok(text) => Some((file.display().to_string(), text)),
        Err(error) => {
            found.error(&path.span, format!("{} cannot be read: {error}", file.display()));
            None
        }
    }
}

/// The rule files that `rules:` names, in order of the patterns and then of the names.
pub fn rule_files(config: &Config, found: &mut Diagnostics) -> Vec<RuleFile> {
    let mut files: Vec<RuleFile> = Vec::new();
    for pattern in &config.rules {
        let paths = match files_matching(&config.base_dir, &pattern.value) {
            Ok(paths) => paths,
            Err(error) => {
                found.error(&pattern.span, format!("{} cannot be read: {error}", pattern.value));
                continue;
            }
        };
        if paths.is_empty() {
            found.warning(&pattern.span, format!("no file matches {}", pattern.value));
        }
        for path in paths {
            let name: Arc<str> = path.display().to_string().into();
            if files.iter().any(|known| known.name == name) {
                continue;
            }
            match std::fs::read_to_string(&path) {
                Ok(text) => files.push(RuleFile { name, text: text.into() }),
                Err(error) => found.error(&pattern.span, format!("{} cannot be read: {error}", path.display())),
            }
        }
    }
    files
}

/// The files of a pattern below a folder: `*` and `?` in the last part of the path, as Prometheus's `rule_files` has them. A pattern
/// without them is one path, whether it is there or not.
///
/// # Errors
/// The folder cannot be read.
pub fn files_matching(base: &Path, pattern: &str) -> std::io::Result<Vec<PathBuf>> {
    let whole = base.join(pattern);
    let last = whole.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    if !last.contains(['*', '?']) {
        return Ok(vec![whole]);
    }
    let folder = whole.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.is_file())
        .filter(|path| path.file_name().is_some_and(|name| wildcard(last.as_bytes(), name.as_encoded_bytes())))
        .collect();
    paths.sort();
    Ok(paths)
}

fn wildcard(pattern: &[u8], name: &[u8]) -> bool {
    match (pattern.first(), name.first()) {
        (None, None) => true,
        (Some(b'*'), _) => wildcard(&pattern[1..], name) || (!name.is_empty() && wildcard(pattern, &name[1..])),
        (Some(b'?'), Some(_)) => wildcard(&pattern[1..], &name[1..]),
        (Some(a), Some(b)) if a == b => wildcard(&pattern[1..], &name[1..]),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_take_what_the_shell_takes() {
        for (pattern, name, takes) in
            [("*.yaml", "a.yaml", true), ("*.yaml", "a.yml", false), ("a?c*", "abcd", true), ("a?c*", "ac", false)]
        {
            assert_eq!(wildcard(pattern.as_bytes(), name.as_bytes()), takes, "{pattern} {name}");
        }
    }
}
