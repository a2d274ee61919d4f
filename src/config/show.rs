//! The effective configuration as YAML that `load` reads back.

mod amqp;
mod conditions;
mod docker;
mod export;
mod hidden;
mod hosts;
mod kafka;
mod mqtt;
mod nats;
mod policy;
mod publish;
mod redis;
mod scrape;
mod silences;
mod sse;
mod statsd;
mod tls;
mod websocket;

use super::expand::escape;
use super::read::PROFILES;
use super::schema::*;
use super::{Spanned, reader};
use crate::model::FieldPath;
use Yaml::{Map, Raw, Seq, Text};
use hidden::secret;
use std::fmt::Display;

/// What is written; only as much of YAML as the configuration needs.
enum Yaml {
    /// A number, a duration or another word that needs no quotes.
    Raw(String),
    /// A text, quoted where it could be read as something else.
    Text(String),
    Map(Vec<(String, Yaml)>),
    Seq(Vec<Yaml>),
}

/// The configuration with all layers applied, as YAML. Secrets are shown as `<secret>`; everything else reads back
/// through `load` as it is. Paths stay relative to the folder of the configuration file.
pub fn show(config: &Config) -> String {
    let mut map = Fields::default();
    let profile = PROFILES.iter().find(|(_, profile)| *profile == config.profile);
    map.raw("profile", profile.map_or("production", |(name, _)| *name));
    map.add("service", fields([("name", text(&config.service.name)), ("instance", text(&config.service.instance))]));
    let (observe, ingest) = (text(&config.listen.observe.value), text(&config.listen.ingest.value));
    map.add("listen", fields([("observe", observe), ("ingest", ingest)]));
    if let Some(sources) = &config.sources {
        map.add("sources", named(sources, source));
    }
    map.add("metrics", named(&config.metrics, metric));
    policy::add(&mut map, config);
    map.add("health", named(&config.health, health));
    map.add("alerts", named(&config.alerts, alert));
    map.add("rules", texts(&config.rules));
    map.raw("bundled_rules", config.bundled_rules);
    let Map(mut notify) = named(&config.notify.receivers, receiver) else { return String::new() };
    if !config.notify.exec_allowed.is_empty() {
        notify.push(("exec_allowed".into(), texts(&config.notify.exec_allowed)));
    }
    if let Some(file) = &config.notify.alertmanager {
        notify.push(("alertmanager".into(), text(&file.value)));
    }
    match config.notify.flapping {
        FlappingConfig::Default => {}
        FlappingConfig::Off => notify.push(("flapping".into(), Raw("false".into()))),
        FlappingConfig::On { changes, window_ms, steady_ms } => {
            let times = [("window", Raw(duration(window_ms))), ("steady", Raw(duration(steady_ms)))];
            let mut inner = Fields::default();
            inner.raw("changes", changes);
            inner.0.extend(times.map(|(key, value)| (key.to_owned(), value)));
            notify.push(("flapping".into(), Map(inner.0)));
        }
    }
    if !config.notify.silences.is_empty() {
        notify.push(("silences".into(), Seq(config.notify.silences.iter().map(silences::entry).collect())));
    }
    map.add("notify", Map(notify));
    map.map("export", config.export.iter().map(|one| (one.name.value.clone(), export::export(&one.value))).collect());
    if let Some(watchdog) = &config.watchdog {
        let mut inner = Fields::default();
        secret(&mut inner, "url", &watchdog.url);
        inner.raw("every", duration(watchdog.every_ms));
        inner.raw("method", if watchdog.post { "POST" } else { "GET" });
        map.add("watchdog", Map(inner.0));
    }
    if !config.publish.is_empty() {
        map.add("publish", named(&config.publish, publish::publisher));
    }
    if let Some(state) = &config.state {
        let mut inner = Fields::default();
        inner.text("dir", Some(&state.dir.value));
        inner.raw("sync", if state.sync_full { "full" } else { "normal" });
        inner.raw("checkpoint_interval", duration(state.checkpoint_interval_ms));
        map.add("state", Map(inner.0));
    }
    let labels = config.external_labels.iter().map(|(name, value)| (name.value.clone(), text(value)));
    map.add("external_labels", Map(labels.collect()));
    if !config.external_url.is_empty() {
        map.text("external_url", Some(&config.external_url));
    }
    map.raw("evaluation_interval", duration(config.evaluation_interval_ms));
    map.add("limits", limits(&config.limits));
    let mut out = String::new();
    block(&map.0, 0, &mut out);
    out
}

/// A condition as it was configured, every key written out: two that are written alike mean the same.
pub fn show_condition(condition: &EventCondition) -> String {
    let mut out = String::new();
    flow(&conditions::event(condition), &mut out);
    out
}

/// An objective, likewise.
pub fn show_slo(slo: &SloConfig) -> String {
    let mut out = String::new();
    flow(&conditions::slo(slo), &mut out);
    out
}

#[derive(Default)]
struct Fields(Vec<(String, Yaml)>);

impl Fields {
    fn add(&mut self, key: &str, value: Yaml) {
        self.0.push((key.to_owned(), value));
    }

    fn raw(&mut self, key: &str, value: impl Display) {
        self.add(key, Raw(value.to_string()));
    }

    fn text(&mut self, key: &str, value: Option<&String>) {
        if let Some(value) = value {
            self.add(key, text(value));
        }
    }

    /// An address without what is secret in it.
    fn url(&mut self, key: &str, address: Option<&String>) {
        if let Some(address) = address {
            self.add(key, hidden::url(address));
        }
    }

    /// A list that is left out when it is empty.
    fn list(&mut self, key: &str, items: Vec<Yaml>) {
        if !items.is_empty() {
            self.add(key, Seq(items));
        }
    }

    /// A mapping that is left out when it is empty.
    fn map(&mut self, key: &str, entries: Vec<(String, Yaml)>) {
        if !entries.is_empty() {
            self.add(key, Map(entries));
        }
    }
}

/// The text of a value: what `expand` would replace is escaped.
fn text(value: &str) -> Yaml {
    Text(escape(value))
}

fn texts(values: &[Spanned<String>]) -> Yaml {
    Seq(values.iter().map(|value| text(&value.value)).collect())
}

fn paths(values: &[Spanned<FieldPath>]) -> Vec<Yaml> {
    values.iter().map(|path| text(&path.value.to_string())).collect()
}

fn fields<const N: usize>(entries: [(&str, Yaml); N]) -> Yaml {
    Map(entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
}

fn named<T>(entries: &[Named<T>], show: impl Fn(&T) -> Yaml) -> Yaml {
    Map(entries.iter().map(|entry| (entry.name.value.clone(), show(&entry.value))).collect())
}

fn pairs(entries: &[(Spanned<String>, Spanned<String>)]) -> Vec<(String, Yaml)> {
    entries.iter().map(|(key, value)| (key.value.clone(), text(&value.value))).collect()
}

fn number(value: f64) -> String {
    match value {
        _ if value.is_nan() => ".nan".into(),
        f64::INFINITY => ".inf".into(),
        f64::NEG_INFINITY => "-.inf".into(),
        _ => value.to_string(),
    }
}

/// `1h30m`, the largest units first.
fn duration(ms: i64) -> String {
    let (mut rest, mut out) = (ms, String::new());
    for (unit, size) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)] {
        if rest >= size {
            out += &format!("{}{unit}", rest / size);
            rest %= size;
        }
    }
    if out.is_empty() { "0s".into() } else { out }
}

fn source(source: &SourceConfig) -> Yaml {
    let (kind, options) = match &source.transport {
        Transport::Http if source.flow.ack_checkpoint => ("http", fields([("ack", Raw("checkpoint".into()))])),
        Transport::Http => ("http", Map(Vec::new())),
        Transport::Stdin => ("stdin", Map(Vec::new())),
        Transport::File { path, from_end } => {
            let start = Raw(if *from_end { "last" } else { "first" }.into());
            ("file", fields([("path", text(&path.value)), ("start", start)]))
        }
        Transport::Unix { path } => ("unix", fields([("path", text(&path.value))])),
        Transport::Tcp { listen } => ("tcp", fields([("listen", text(&listen.value))])),
        Transport::Scrape(config) => ("scrape", scrape::scrape(config)),
        Transport::Amqp(config) => ("amqp", amqp::amqp(config)),
        Transport::Mqtt(config) => ("mqtt", mqtt::mqtt(config)),
        Transport::Otlp => ("otlp", Map(Vec::new())),
        Transport::Statsd(config) => ("statsd", statsd::statsd(config)),
        Transport::WebSocket(config) => ("websocket", websocket::websocket(config)),
        Transport::Docker(config) => ("docker", docker::docker(config)),
        Transport::Hosts(config) => ("hosts", hosts::hosts(config)),
        Transport::Nats(config) => ("nats", nats::nats(config)),
        Transport::Redis(config) => ("redis", redis::redis(config)),
        Transport::Kafka(config) => ("kafka", kafka::kafka(config)),
        Transport::Sse(config) => ("sse", sse::sse(config)),
        Transport::Memory => ("memory", Map(Vec::new())),
        Transport::Demo => ("demo", Map(Vec::new())),
        Transport::None => ("none", Map(Vec::new())),
    };
    let mut map = Fields::default();
    map.add(kind, options);
    if let Some(lines) = &source.format.lines {
        map.add("lines", fields([("regex", text(&lines.value))]));
    }
    map.text("type", source.format.event_type.as_ref().map(|name| &name.value));
    let shape = source.format.shape.iter().map(|(name, path)| (name.value.clone(), text(&path.value.to_string())));
    map.map("shape", shape.collect());
    if let Some(overflow) = &source.flow.overflow {
        map.raw("overflow", overflow.value.word());
    }
    if let Some(RateLimitConfig { events, burst, per_client }) = source.flow.rate_limit {
        let mut inner = Fields::default();
        let rate = |inner: &mut Fields, key, rate: Option<Rate>| {
            if let Some(rate) = rate {
                inner.raw(key, rate);
            }
        };
        rate(&mut inner, "events", events);
        if let Some(burst) = burst {
            inner.raw("burst", burst);
        }
        rate(&mut inner, "per_client", per_client);
        map.add("rate_limit", Map(inner.0));
    }
    match source.dedup {
        Some(0) => map.raw("dedup", false),
        Some(window) => map.add("dedup", fields([("by", text("id")), ("window", Raw(window.to_string()))])),
        None => {}
    }
    Map(map.0)
}

fn pattern(pattern: &Pattern) -> Yaml {
    match pattern {
        Pattern::Glob(glob) => text(&glob.value),
        Pattern::Regex(regex) => fields([("regex", text(&regex.value))]),
    }
}

/// `match` stands always, so that a selector of everything is one, too.
fn select(map: &mut Fields, selector: &EventSelector) {
    map.add("match", Seq(selector.matches.iter().map(pattern).collect()));
    if let Some(condition) = &selector.condition {
        map.add("where", where_(condition));
    }
}

fn selector(selector: &EventSelector) -> Yaml {
    let mut map = Fields::default();
    select(&mut map, selector);
    Map(map.0)
}

fn where_(condition: &Condition) -> Yaml {
    match condition {
        Condition::All(parts) => fields([("all", Seq(parts.iter().map(where_).collect()))]),
        Condition::Any(parts) => fields([("any", Seq(parts.iter().map(where_).collect()))]),
        Condition::Not(inner) => fields([("not", where_(inner))]),
        Condition::Field { path, test } => Map(vec![(path.value.to_string(), comparison(test))]),
    }
}

fn comparison(test: &Test) -> Yaml {
    match test {
        Test::Gt(bound) => fields([("gt", Raw(number(*bound)))]),
        Test::Gte(bound) => fields([("gte", Raw(number(*bound)))]),
        Test::Lt(bound) => fields([("lt", Raw(number(*bound)))]),
        Test::Lte(bound) => fields([("lte", Raw(number(*bound)))]),
        Test::Eq(value) => fields([("eq", scalar(value))]),
        Test::Ne(value) => fields([("ne", scalar(value))]),
        Test::In(values) => fields([("in", Seq(values.iter().map(scalar).collect()))]),
        Test::Exists(wanted) => fields([("exists", Raw(wanted.to_string()))]),
        Test::Regex(regex) => fields([("regex", text(&regex.value))]),
    }
}

fn scalar(value: &Scalar) -> Yaml {
    match value {
        Scalar::Null => Raw("null".into()),
        Scalar::Bool(value) => Raw(value.to_string()),
        Scalar::Number(value) => Raw(number(*value)),
        Scalar::Text(value) => text(value),
    }
}

fn value(map: &mut Fields, value: &ValueConfig) {
    match &value.from {
        ValueFrom::Path(path) => map.add("value", text(&path.value.to_string())),
        ValueFrom::Constant(constant) => map.raw("value", number(*constant)),
    }
    map.text("unit", value.unit.as_ref().map(|unit| &unit.value));
}

fn metric(metric: &MetricConfig) -> Yaml {
    let mut map = Fields::default();
    let bounds = |buckets: &Option<Vec<f64>>| buckets.iter().flatten().map(|bound| Raw(number(*bound))).collect();
    let kind = match &metric.kind {
        MetricKind::Counter { selector, value: added } => {
            select(&mut map, selector);
            if let Some(added) = added {
                value(&mut map, added);
            }
            "counter"
        }
        MetricKind::Gauge { selector, value: set, add } => {
            select(&mut map, selector);
            value(&mut map, set);
            map.raw("op", if *add { "add" } else { "set" });
            "gauge"
        }
        MetricKind::Histogram { selector, value: observed, buckets } => {
            select(&mut map, selector);
            value(&mut map, observed);
            map.list("buckets", bounds(buckets));
            "histogram"
        }
        MetricKind::Timer { from, to, by, within_ms, buckets } => {
            map.add("from", selector(from));
            map.add("to", selector(to));
            map.add("by", text(&by.value.to_string()));
            map.raw("within", duration(*within_ms));
            map.list("buckets", bounds(buckets));
            "timer"
        }
        MetricKind::Drop { selector } => {
            select(&mut map, selector);
            "drop"
        }
    };
    map.map("labels", metric.labels.iter().map(|entry| (entry.name.value.clone(), label(entry))).collect());
    if !metric.help.is_empty() {
        map.text("help", Some(&metric.help));
    }
    fields([(kind, Map(map.0))])
}

fn label(label: &LabelConfig) -> Yaml {
    let mut map = Fields::default();
    if let Some(from) = &label.from {
        map.add("from", text(&from.value.to_string()));
    }
    map.text("value", label.constant.as_ref());
    let replace =
        label.replace.iter().map(|(regex, with)| fields([("regex", text(&regex.value)), ("with", text(with))]));
    map.list("replace", replace.collect());
    map.map("map", label.map.iter().map(|(from, to)| (from.clone(), text(to))).collect());
    map.text("default", label.default.as_ref());
    Map(map.0)
}

fn health(check: &HealthConfig) -> Yaml {
    let mut map = Fields::default();
    match &check.kind {
        HealthKind::Event { selector, within_ms, sources } => {
            let mut inner = Fields::default();
            select(&mut inner, selector);
            inner.raw("within", duration(*within_ms));
            inner.list("source", sources.iter().map(|source| text(&source.value)).collect());
            map.add("event", Map(inner.0));
        }
        HealthKind::Expr { expr } => map.add("expr", text(&expr.value)),
        HealthKind::Http { url, status, body, timeout_ms, every_ms } => {
            let mut inner = Fields::default();
            inner.add("url", hidden::url(&url.value));
            let mut expect = Fields::default();
            if let Some(status) = status {
                expect.raw("status", status);
            }
            expect.text("body", body.as_ref());
            inner.map("expect", expect.0);
            inner.raw("timeout", duration(*timeout_ms));
            inner.raw("every", duration(*every_ms));
            map.add("http", Map(inner.0));
        }
    }
    map.raw("status", if check.degraded { "degraded" } else { "unhealthy" });
    Map(map.0)
}

fn alert(alert: &AlertConfig) -> Yaml {
    let mut map = Fields::default();
    match &alert.kind {
        AlertKind::Metric { metric, of, stat, over_ms, by, matchers, op, threshold } => {
            map.text("metric", Some(&metric.value));
            map.text("of", of.as_ref().map(|of| &of.value));
            map.text("stat", stat.as_ref().map(|stat| &stat.value));
            if let Some(over) = over_ms {
                map.raw("over", duration(*over));
            }
            map.list("by", paths(by));
            map.map("where", matchers.iter().map(|(name, value)| (name.value.clone(), pattern(value))).collect());
            let op = match op {
                ThresholdOp::Above => "above",
                ThresholdOp::Below => "below",
                ThresholdOp::AtLeast => "at_least",
                ThresholdOp::AtMost => "at_most",
            };
            map.text(op, Some(&threshold.value));
        }
        AlertKind::Event(condition) => map.add("event", conditions::event(condition)),
        AlertKind::Slo(slo) => map.add("slo", conditions::slo(slo)),
        AlertKind::Expr(expr) => map.text("expr", Some(&expr.value)),
    }
    map.raw("for", duration(alert.for_ms));
    map.raw("keep_firing_for", duration(alert.keep_firing_for_ms));
    map.text("severity", alert.severity.as_ref().map(|severity| &severity.value));
    map.map("labels", pairs(&alert.labels));
    map.map("annotations", pairs(&alert.annotations));
    map.text("runbook", alert.runbook.as_ref());
    if !alert.notify.is_empty() {
        map.add("notify", texts(&alert.notify));
    }
    Map(map.0)
}

fn receiver(receiver: &ReceiverConfig) -> Yaml {
    let mut map = Fields::default();
    let kind = match &receiver.kind {
        ReceiverKind::Terminal => "terminal",
        ReceiverKind::Slack { url, channel } => {
            secret(&mut map, "url", url);
            map.text("channel", channel.as_ref());
            "slack"
        }
        ReceiverKind::Webhook { url, headers } => {
            secret(&mut map, "url", url);
            map.map("headers", hidden::headers(headers.iter().map(|(name, _)| name)));
            "webhook"
        }
        ReceiverKind::SlackBot { token, url, channel, update_message } => {
            secret(&mut map, "app_token", token);
            map.url("app_url", url.as_ref().map(|url| &url.value));
            map.add("channel", text(channel));
            map.raw("update_message", update_message);
            "slack"
        }
        ReceiverKind::PagerDuty { key, url, severity } => {
            secret(&mut map, "routing_key", key);
            map.url("url", url.as_ref().map(|url| &url.value));
            map.text("severity", severity.as_ref());
            "pagerduty"
        }
        ReceiverKind::Alertmanager { urls } => {
            let shown = |url: &SecretSource| match url {
                SecretSource::Inline(url) => hidden::url(url.value.expose()),
                SecretSource::File(path) => text(&path.value),
            };
            map.add("url", Seq(urls.iter().map(shown).collect()));
            "alertmanager"
        }
        ReceiverKind::Exec { command, timeout_ms } => {
            map.add("command", texts(command));
            if let Some(timeout_ms) = timeout_ms {
                map.raw("timeout", duration(*timeout_ms));
            }
            "exec"
        }
        ReceiverKind::Email { to, from, smtp, username, password, require_tls } => {
            map.add("to", texts(to));
            map.text("from", from.as_ref().map(|from| &from.value));
            map.add("smtp", hidden::url(&smtp.value));
            map.text("username", username.as_ref());
            if let Some(password) = password {
                secret(&mut map, "password", password);
            }
            if let Some(require_tls) = require_tls {
                map.raw("require_tls", require_tls);
            }
            "email"
        }
    };
    map.raw("send_resolved", receiver.send_resolved);
    fields([(kind, Map(map.0))])
}

fn limits(limits: &Limits) -> Yaml {
    let mut map = Fields::default();
    for (key, limit) in [
        ("series", limits.series),
        ("series_per_metric", limits.series_per_metric),
        ("histogram_series", limits.histogram_series),
        ("labels_per_series", limits.labels_per_series),
        ("label_value_bytes", limits.label_value_bytes),
        ("series_bytes", limits.series_bytes),
        ("queue_batches", limits.queue_batches),
        ("queue_bytes", limits.queue_bytes),
        ("queue_events", limits.queue_events),
        ("high_priority", limits.high_priority),
        ("quarantine_events", limits.quarantine_events),
        ("quarantine_bytes", limits.quarantine_bytes),
        ("body_bytes", limits.body_bytes),
        ("event_bytes", limits.event_bytes),
        ("event_depth", limits.event_depth),
        ("query_samples", limits.query_samples),
        ("pattern_keys", limits.pattern_keys),
        ("alerts_per_rule", limits.alerts_per_rule),
        ("outbox_messages", limits.outbox_messages),
        ("posted_alerts", limits.posted_alerts),
    ] {
        map.raw(key, limit);
    }
    map.raw("idle_series", duration(limits.idle_series_ms));
    map.raw("late_samples", duration(limits.late_samples_ms));
    map.raw("query_timeout", duration(limits.query_timeout_ms));
    Map(map.0)
}

fn block(entries: &[(String, Yaml)], depth: usize, out: &mut String) {
    for (key, value) in entries {
        out.push_str(&"  ".repeat(depth));
        out.push_str(&quoted(key));
        out.push(':');
        match value {
            Map(inner) if !inner.is_empty() && depth < 3 => {
                out.push('\n');
                block(inner, depth + 1, out);
            }
            _ => {
                out.push(' ');
                flow(value, out);
                out.push('\n');
            }
        }
    }
}

fn flow(value: &Yaml, out: &mut String) {
    match value {
        Raw(word) => out.push_str(word),
        Text(text) => out.push_str(&quoted(text)),
        Map(entries) => {
            out.push('{');
            for (at, (key, value)) in entries.iter().enumerate() {
                out.push_str(if at > 0 { ", " } else { "" });
                out.push_str(&quoted(key));
                out.push_str(": ");
                flow(value, out);
            }
            out.push('}');
        }
        Seq(items) => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                out.push_str(if at > 0 { ", " } else { "" });
                flow(item, out);
            }
            out.push(']');
        }
    }
}

/// A word as it is; anything that YAML could read as something else in double quotes (YAML 1.2, 7.3.1).
fn quoted(text: &str) -> String {
    let word = text.starts_with(|c: char| c.is_ascii_alphabetic() || matches!(c, '_' | '/'))
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '/' | '.' | '-'));
    // y, n and their like are booleans to readers of YAML 1.1.
    let taken = ["null", "true", "false", "yes", "no", "on", "off", "y", "n"];
    if word && !taken.contains(&text.to_ascii_lowercase().as_str()) && reader::parse_float(text).is_none() {
        return text.to_owned();
    }
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            _ if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}') => {
                out += &format!("\\u{:04x}", u32::from(c));
            }
            _ => out.push(c),
        }
    }
    out.push('"');
    out
}
