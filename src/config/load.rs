//! The layers: defaults < profile < file < environment < flags.

use super::schema::{Config, Transport};
use super::yaml::{self, Kind, Node};
use super::{Diagnostics, Span, expand, read};
use crate::config::diagnostic::nearest;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The file that is read when none is named.
pub const DEFAULT_FILE: &str = "sidewatch.yaml";

/// What [`load`] starts from. It does no I/O of its own: files come through `read_file`, variables through `env`.
pub struct LoadOptions<'a> {
    /// `--config FILE`; without it ./sidewatch.yaml when there is one, else the defaults alone.
    pub file: Option<PathBuf>,
    /// The environment.
    pub env: &'a BTreeMap<String, String>,
    /// Flags of the command line.
    pub overrides: Overrides,
    /// Reads a file; [`std::fs::read_to_string`] in the live program.
    pub read_file: &'a dyn Fn(&Path) -> io::Result<String>,
}

/// Flags that set a key; each wins over the environment and the file.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// `--profile`.
    pub profile: Option<String>,
    /// `--service-name`.
    pub service_name: Option<String>,
    /// `--service-instance`.
    pub service_instance: Option<String>,
    /// `--listen-observe`.
    pub listen_observe: Option<String>,
    /// `--listen-ingest`.
    pub listen_ingest: Option<String>,
    /// `--state-dir`.
    pub state_dir: Option<String>,
    /// `--external-url`.
    pub external_url: Option<String>,
    /// `--evaluation-interval`.
    pub evaluation_interval: Option<String>,
    /// `--bundled-rules true|false`.
    pub bundled_rules: Option<String>,
}

impl Overrides {
    fn entries(&self) -> [(&'static str, &'static [&'static str], Option<&String>); 9] {
        [
            ("--profile", &["profile"], self.profile.as_ref()),
            ("--service-name", &["service", "name"], self.service_name.as_ref()),
            ("--service-instance", &["service", "instance"], self.service_instance.as_ref()),
            ("--listen-observe", &["listen", "observe"], self.listen_observe.as_ref()),
            ("--listen-ingest", &["listen", "ingest"], self.listen_ingest.as_ref()),
            ("--state-dir", &["state", "dir"], self.state_dir.as_ref()),
            ("--external-url", &["external_url"], self.external_url.as_ref()),
            ("--evaluation-interval", &["evaluation_interval"], self.evaluation_interval.as_ref()),
            ("--bundled-rules", &["bundled_rules"], self.bundled_rules.as_ref()),
        ]
    }
}

/// The keys that the environment can set: `SIDEWATCH_` and the path of the key, upper-cased and joined by `_`
/// (`listen.observe` is `SIDEWATCH_LISTEN_OBSERVE`). `rules` takes one pattern.
pub const ENVIRONMENT_KEYS: [&[&str]; 35] = [
    &["profile"],
    &["service", "name"],
    &["service", "instance"],
    &["listen", "observe"],
    &["listen", "ingest"],
    &["state", "dir"],
    &["state", "sync"],
    &["state", "checkpoint_interval"],
    &["rules"],
    &["bundled_rules"],
    &["external_url"],
    &["evaluation_interval"],
    &["limits", "series"],
    &["limits", "series_per_metric"],
    &["limits", "histogram_series"],
    &["limits", "labels_per_series"],
    &["limits", "label_value_bytes"],
    &["limits", "series_bytes"],
    &["limits", "idle_series"],
    &["limits", "queue_batches"],
    &["limits", "queue_bytes"],
    &["limits", "queue_events"],
    &["limits", "high_priority"],
    &["limits", "quarantine_events"],
    &["limits", "quarantine_bytes"],
    &["limits", "body_bytes"],
    &["limits", "event_bytes"],
    &["limits", "event_depth"],
    &["limits", "query_samples"],
    &["limits", "late_samples"],
    &["limits", "query_timeout"],
    &["limits", "pattern_keys"],
    &["limits", "alerts_per_rule"],
    &["limits", "outbox_messages"],
    &["limits", "posted_alerts"],
];

/// Variables of that prefix that are not configuration: the command line's own.
const OTHER_VARIABLES: [&str; 2] = ["SIDEWATCH_CONFIG", "SIDEWATCH_LOG"];

/// Reads all layers. The configuration is `None` when there is no tree to read; with errors it holds what could be read,
/// so that further checks can add their findings, and must not be run.
pub fn load(options: &LoadOptions<'_>) -> (Option<Config>, Diagnostics) {
    let mut found = Diagnostics::new();
    let config = load_into(options, &mut found);
    found.sort();
    (config, found)
}

fn load_into(options: &LoadOptions<'_>, found: &mut Diagnostics) -> Option<Config> {
    let path = options.file.clone().unwrap_or_else(|| DEFAULT_FILE.into());
    let shown: Arc<str> = path.to_string_lossy().into();
    let place = Span { file: shown.clone(), line: 0, column: 0 };
    let (mut files, mut blank) = (Vec::new(), true);
    let mut tree = match (options.read_file)(&path) {
        Ok(text) => {
            files.push(path.clone());
            blank = text.trim().is_empty();
            let mut tree = yaml::parse(&shown, &text, found)?;
            expand(&mut tree, options.env, found);
            tree
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound && options.file.is_none() => {
            Node { kind: Kind::Map(Vec::new()), span: Span::default() }
        }
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            found.error(&place, "not a text in UTF-8");
            return None;
        }
        Err(error) => {
            found.error(&place, format!("cannot be read: {error}"));
            return None;
        }
    };
    if tree.as_map().is_some() {
        environment(&mut tree, options.env, found);
        for (flag, keys, value) in options.overrides.entries() {
            if let Some(value) = value {
                set(&mut tree, keys, value, &format!("flag {flag}"));
            }
        }
    }
    let base_dir = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned();
    let instance = options.env.get("HOSTNAME").filter(|name| !name.is_empty()).map_or("local", String::as_str);
    let mut config = read::config(&tree, instance, base_dir, files, found)?;
    config.blank = blank;
    statsd_mappings(&mut config, options, found);
    Some(config)
}

/// Reads the mapping files that StatsD sources name; a change of one is a change of the configuration.
fn statsd_mappings(config: &mut Config, options: &LoadOptions<'_>, found: &mut Diagnostics) {
    for source in config.sources.iter_mut().flatten() {
        let Transport::Statsd(statsd) = &mut source.value.transport else { continue };
        let Some(named) = &statsd.mapping else { continue };
        let path = config.base_dir.join(&named.value);
        match (options.read_file)(&path) {
            Ok(text) => {
                let shown: Arc<str> = path.to_string_lossy().into();
                statsd.rules = read::statsd_mapping(&shown, &text, found).map(Arc::new);
                config.files.push(path);
            }
            Err(error) => found.error(&named.span, format!("mapping: {} cannot be read: {error}", path.display())),
        }
    }
}

/// The name of the variable that sets a key.
pub fn environment_variable(keys: &[&str]) -> String {
    format!("SIDEWATCH_{}", keys.join("_").to_uppercase())
}

fn environment(tree: &mut Node, env: &BTreeMap<String, String>, found: &mut Diagnostics) {
    let known: BTreeMap<String, &[&str]> =
        ENVIRONMENT_KEYS.iter().map(|keys| (environment_variable(keys), *keys)).collect();
    for (name, value) in env.range("SIDEWATCH_".to_owned()..).take_while(|(name, _)| name.starts_with("SIDEWATCH_")) {
        if let Some(keys) = known.get(name) {
            set(tree, keys, value, &format!("environment {name}"));
        } else if !OTHER_VARIABLES.contains(&name.as_str()) && !from_kubernetes(name) {
            let span = Span { file: format!("environment {name}").into(), line: 0, column: 0 };
            let near = nearest(name, known.keys().map(String::as_str));
            let near = near.map(|near| format!("; did you mean {near}?")).unwrap_or_default();
            found.warning(&span, format!("no key has this name, so it sets nothing{near}"));
        }
    }
}

/// Kubernetes gives a pod the addresses of every service of its namespace; for one named `sidewatch` they look like ours.
fn from_kubernetes(name: &str) -> bool {
    ["_SERVICE_HOST", "_SERVICE_PORT", "_PORT_"].iter().any(|part| name.contains(part)) || name.ends_with("_PORT")
}

/// Sets a scalar below mappings that are made where they are missing. The short forms `service: NAME` and `state: DIR`
/// become mappings first.
fn set(tree: &mut Node, keys: &[&str], value: &str, layer: &str) {
    let span = Span { file: layer.into(), line: 0, column: 0 };
    let scalar = |text: &str, span: &Span| Node {
        kind: Kind::Scalar { text: text.to_owned(), plain: true },
        span: span.clone(),
    };
    let mut node = tree;
    for (depth, key) in keys.iter().enumerate() {
        let Kind::Map(entries) = &mut node.kind else { return };
        let at = entries.iter().position(|(name, _)| name.as_str() == Some(key)).unwrap_or_else(|| {
            entries.push((scalar(key, &span), Node { kind: Kind::Map(Vec::new()), span: span.clone() }));
            entries.len() - 1
        });
        node = &mut entries[at].1;
        if depth + 1 == keys.len() {
            *node = scalar(value, &span);
        } else if matches!(node.kind, Kind::Scalar { .. }) {
            let place = node.span.clone();
            let short = match *key {
                "service" if !node.is_null() => Some("name"),
                "state" if !node.is_null() => Some("dir"),
                _ if node.is_null() => None,
                // Anything else is a mistake that the reader says.
                _ => return,
            };
            let old = std::mem::replace(node, Node { kind: Kind::Map(Vec::new()), span: place.clone() });
            if let (Some(short), Kind::Map(entries)) = (short, &mut node.kind) {
                entries.push((scalar(short, &place), old));
            }
        }
    }
}
