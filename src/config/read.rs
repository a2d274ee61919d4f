//! The tree of sidewatch.yaml into the types of `schema`, every mistake found.

mod alerts;
mod conditions;
mod events;
mod export;
mod health;
mod metrics;
mod notify;
mod policy;
mod publish;
mod scrape;
mod silences;
mod slo;
mod sources;
mod statsd_mapping;
mod watchdog;

use super::diagnostic::nearest;
use super::reader::{self, MapReader};
use super::schema::{Config, Limits, Listen, Profile, Service, StateConfig};
use super::yaml::{Kind, Node};
use super::{Diagnostics, Span, Spanned};
use std::path::PathBuf;

pub use alerts::read as read_alerts;
pub(super) use notify::HIDDEN;
pub use statsd_mapping::statsd_mapping;

/// Top-level keys that are designed but not in this build.
const PLANNED: [&str; 4] = ["auth", "tls", "journal", "membership"];

/// What holds where the file says nothing; see [`Defaults::of`].
pub(super) struct Defaults {
    listen: [&'static str; 2],
    bundled_rules: bool,
    evaluation_interval_ms: i64,
    checkpoint_interval_ms: i64,
    limits: Limits,
}

impl Defaults {
    /// The defaults of a profile.
    ///
    /// | | production | development | testing |
    /// |---|---|---|---|
    /// | `listen` | 127.0.0.1:9180 and :9181 | the same | 127.0.0.1:0, any free port |
    /// | `bundled_rules` | true | true | false: only one's own alerts fire |
    /// | `evaluation_interval` | 1s | 1s | 100ms |
    /// | `state.checkpoint_interval` | 1s | 1s | 100ms |
    /// | `limits.series`, `limits.series_bytes` | 100,000, 256 MiB | 20,000, 64 MiB | as development |
    /// | `limits.idle_series` | 1h | 10m: a renamed metric is soon gone | as development |
    pub(super) fn of(profile: Profile) -> Self {
        let (production, testing) = (profile == Profile::Production, profile == Profile::Testing);
        let mut limits = Limits::default();
        if !production {
            (limits.series, limits.series_bytes, limits.idle_series_ms) = (20_000, 64 << 20, 600_000);
        }
        Self {
            listen: if testing { ["127.0.0.1:0"; 2] } else { ["127.0.0.1:9180", "127.0.0.1:9181"] },
            bundled_rules: !testing,
            evaluation_interval_ms: if testing { 100 } else { 1_000 },
            checkpoint_interval_ms: if testing { 100 } else { 1_000 },
            limits,
        }
    }
}

/// The words of `profile:`.
pub(super) const PROFILES: [(&str, Profile); 3] =
    [("development", Profile::Development), ("production", Profile::Production), ("testing", Profile::Testing)];

/// Reads the whole tree. What cannot be read is left out and said in `found`.
pub(super) fn config(
    tree: &Node,
    default_instance: &str,
    base_dir: PathBuf,
    files: Vec<PathBuf>,
    found: &mut Diagnostics,
) -> Option<Config> {
    let mut map = MapReader::new(tree, "configuration", found)?;
    for key in PLANNED {
        map.refuse(key, &format!("{key} is not in this build"));
    }
    map.refuse(
        "slo",
        "an objective is an alert: alerts: {NAME: {slo: {good: ..., total: ..., target: 99.9%, window: 30d}}}",
    );
    let profile = map.one_of("profile", &PROFILES).map(|profile| profile.value).unwrap_or_default();
    let defaults = Defaults::of(profile);
    let service = service(&mut map, default_instance);
    let listen = listen(&mut map, defaults.listen);
    let mut sources = sources::read(&mut map);
    for source in sources.iter_mut().flatten() {
        sources::identify(&mut source.value.transport, &service);
    }
    let metrics = metrics::read(&mut map);
    let schemas = policy::schemas(&mut map);
    let redact = policy::redact(&mut map);
    let health = health::read(&mut map);
    let alerts = alerts::read(&mut map);
    let rules = map.strings("rules");
    let bundled_rules = map.boolean("bundled_rules").map_or(defaults.bundled_rules, |wanted| wanted.value);
    let notify = notify::read(&mut map);
    let export = export::read(&mut map);
    let watchdog = watchdog::read(&mut map);
    let publish = publish::publish(&mut map);
    let state = map.get("state").and_then(|node| state(node, defaults.checkpoint_interval_ms, map.found()));
    let external_labels = external_labels(&mut map);
    let external_url = map.string("external_url");
    if let Some(url) = external_url.as_ref().filter(|url| !is_http_url(&url.value)) {
        let message = format!("external_url: {:?} does not begin with http:// or https://", url.value);
        map.found().error(&url.span, message);
    }
    let evaluation_interval = map.duration_ms("evaluation_interval");
    if let Some(interval) = evaluation_interval.as_ref().filter(|interval| interval.value < 10) {
        map.found().error(&interval.span, "evaluation_interval: it must be at least 10ms");
    }
    let limits = map.get("limits").and_then(|node| limits(node, defaults.limits.clone(), map.found()));
    map.finish();
    let mut config = Config {
        service,
        listen,
        sources,
        metrics,
        schemas,
        redact,
        health,
        alerts,
        rules,
        bundled_rules,
        notify,
        watchdog,
        publish,
        export,
        state,
        external_labels,
        external_url: external_url.map(|url| url.value).unwrap_or_default(),
        evaluation_interval_ms: evaluation_interval.map_or(defaults.evaluation_interval_ms, |time| time.value),
        limits: limits.unwrap_or(defaults.limits),
        profile,
        base_dir,
        files,
        blank: false,
    };
    sources::name_consumers(&mut config);
    receivers_exist(&config, tree, found);
    conditions::sources_exist(&config, tree, found);
    Some(config)
}

fn service(map: &mut MapReader<'_, '_>, default_instance: &str) -> Service {
    let mut service = Service { name: "service".into(), instance: default_instance.into() };
    let Some(node) = map.get("service") else { return service };
    // `service: checkout` names it.
    if matches!(node.kind, Kind::Scalar { .. }) {
        service.name = node.as_str().unwrap_or_default().to_owned();
        return service;
    }
    if let Some(mut map) = MapReader::new(node, "service", map.found()) {
        if let Some(name) = map.string("name") {
            service.name = name.value;
        }
        if let Some(instance) = map.string("instance") {
            service.instance = instance.value;
        }
        map.finish();
    }
    service
}

fn listen(map: &mut MapReader<'_, '_>, defaults: [&str; 2]) -> Listen {
    let [observe, ingest] = defaults.map(|address| Spanned::bare(address.to_owned()));
    let mut listen = Listen { observe, ingest };
    let Some(node) = map.get("listen") else { return listen };
    let Some(mut map) = MapReader::new(node, "listen", map.found()) else { return listen };
    for (key, place) in [("observe", &mut listen.observe), ("ingest", &mut listen.ingest)] {
        if let Some(address) = map.get(key).and_then(|node| address(node, key, map.found())) {
            *place = address;
        }
    }
    if listen.observe == listen.ingest && !listen.ingest.value.ends_with(":0") {
        let span = if listen.ingest.span.line > 0 { &listen.ingest.span } else { &listen.observe.span }.clone();
        map.found().error_hint(
            &span,
            format!("observe and ingest are both {}", listen.ingest.value),
            "the two listeners need different ports",
        );
    }
    map.finish();
    listen
}

fn state(node: &Node, checkpoint_interval_ms: i64, found: &mut Diagnostics) -> Option<StateConfig> {
    // `state: DIR` says the one thing that matters.
    if matches!(node.kind, Kind::Scalar { .. }) {
        let dir = reader::string(node, "state", found)?;
        return Some(StateConfig { dir, sync_full: false, checkpoint_interval_ms });
    }
    let mut map = MapReader::new(node, "state", found)?;
    let dir = map.required_string("dir");
    let sync = map.one_of("sync", &[("normal", false), ("full", true)]);
    let interval = map.duration_ms("checkpoint_interval");
    if let Some(interval) = interval.as_ref().filter(|interval| interval.value < 10) {
        map.found().error(&interval.span, "checkpoint_interval: it must be at least 10ms");
    }
    map.finish();
    Some(StateConfig {
        dir: dir?,
        sync_full: sync.is_some_and(|sync| sync.value),
        checkpoint_interval_ms: interval.map_or(checkpoint_interval_ms, |interval| interval.value),
    })
}

fn external_labels(map: &mut MapReader<'_, '_>) -> Vec<(Spanned<String>, String)> {
    map.string_map("external_labels")
        .into_iter()
        .filter(|(name, _)| events::label_name(name, map.found()))
        .map(|(name, value)| (name, value.value))
        .collect()
}

fn limits(node: &Node, mut limits: Limits, found: &mut Diagnostics) -> Option<Limits> {
    let mut map = MapReader::new(node, "limits", found)?;
    for (key, place) in [
        ("series", &mut limits.series),
        ("series_per_metric", &mut limits.series_per_metric),
        ("histogram_series", &mut limits.histogram_series),
        ("labels_per_series", &mut limits.labels_per_series),
        ("queue_batches", &mut limits.queue_batches),
        ("queue_events", &mut limits.queue_events),
        ("quarantine_events", &mut limits.quarantine_events),
        ("event_depth", &mut limits.event_depth),
        ("query_samples", &mut limits.query_samples),
        ("pattern_keys", &mut limits.pattern_keys),
        ("alerts_per_rule", &mut limits.alerts_per_rule),
        ("outbox_messages", &mut limits.outbox_messages),
        ("posted_alerts", &mut limits.posted_alerts),
    ] {
        if let Some(limit) = map.integer(key, 1..=1_000_000_000) {
            *place = limit.value as usize;
        }
    }
    if let Some(priority) = map.integer("high_priority", 1..=10) {
        limits.high_priority = priority.value as usize;
    }
    for (key, place) in [
        ("label_value_bytes", &mut limits.label_value_bytes),
        ("series_bytes", &mut limits.series_bytes),
        ("queue_bytes", &mut limits.queue_bytes),
        ("quarantine_bytes", &mut limits.quarantine_bytes),
        ("body_bytes", &mut limits.body_bytes),
        ("event_bytes", &mut limits.event_bytes),
    ] {
        if let Some(limit) = map.bytes(key) {
            match usize::try_from(limit.value) {
                Ok(0) | Err(_) => map.found().error(&limit.span, format!("{key}: it must be at least 1 byte")),
                Ok(bytes) => *place = bytes,
            }
        }
    }
    if let Some(late) = map.duration_ms("late_samples") {
        limits.late_samples_ms = late.value;
    }
    for (key, place) in [("idle_series", &mut limits.idle_series_ms), ("query_timeout", &mut limits.query_timeout_ms)] {
        if let Some(limit) = map.duration_ms(key) {
            *place = limit.value;
            if limit.value == 0 {
                map.found().error(&limit.span, format!("{key}: it must be longer than 0"));
            }
        }
    }
    // A received batch is addressed with 31 bits (model::Text).
    if limits.body_bytes > 1 << 31 {
        let span = map.raw("body_bytes").map_or_else(|| map.span().clone(), |node| node.span.clone());
        map.found().error(&span, "body_bytes: at most 2GiB");
    }
    map.finish();
    Some(limits)
}

/// The names after `notify:` of alerts are receivers. With an Alertmanager file the notifier checks them.
fn receivers_exist(config: &Config, tree: &Node, found: &mut Diagnostics) {
    if config.notify.alertmanager.is_some() {
        return;
    }
    // Also those that could not be read: their own error is enough.
    let entries = tree.get("notify").and_then(Node::as_map).unwrap_or(&[]);
    let receivers = entries.iter().filter(|(name, node)| notify::is_receiver(name, node));
    let known: Vec<&str> = receivers.filter_map(|(name, _)| name.as_str()).collect();
    for name in config.alerts.iter().flat_map(|alert| &alert.value.notify) {
        if known.contains(&name.value.as_str()) || (known.is_empty() && name.value == "terminal") {
            continue;
        }
        let message = format!("there is no receiver {:?} under notify", name.value);
        match nearest(&name.value, known.iter().copied()) {
            Some(near) => found.error_hint(&name.span, message, format!("did you mean {near:?}?")),
            None if known.is_empty() => {
                found.error_hint(&name.span, message, "without notify there is one receiver, terminal")
            }
            None => found.error_hint(&name.span, message, format!("it has {}", reader::list(&known, "and"))),
        }
    }
}

/// `HOST:PORT` to bind.
fn address(node: &Node, what: &str, found: &mut Diagnostics) -> Option<Spanned<String>> {
    let address = reader::string(node, what, found)?;
    check_address(what, &address.value, &address.span, found).then_some(address)
}

fn check_address(what: &str, address: &str, span: &Span, found: &mut Diagnostics) -> bool {
    let valid = address.rsplit_once(':').is_some_and(|(host, port)| {
        let bracketed = host.starts_with('[') && host.ends_with(']');
        !host.is_empty() && (bracketed || !host.contains([':', '/', ' '])) && port.parse::<u16>().is_ok()
    });
    if !valid {
        let port = address.trim_start_matches(':');
        let message = format!("{what}: {address:?} is not HOST:PORT");
        match port.parse::<u16>() {
            Ok(_) => found.error_hint(
                span,
                message,
                format!("write \"127.0.0.1:{port}\", or \"0.0.0.0:{port}\" to listen on every interface"),
            ),
            Err(_) => found.error_hint(span, message, "addresses look like \"127.0.0.1:9180\" or \"[::]:9180\""),
        }
    }
    valid
}

/// Begins with http:// or https:// and names a host.
fn is_http_url(text: &str) -> bool {
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/') && !rest.contains(char::is_whitespace))
}
