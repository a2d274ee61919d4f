//! The effective configuration as YAML: all layers applied, every default written out, secrets hidden. It reads back to
//! the same configuration but for the secrets.

use super::expand::escape;
use super::schema::{
    AlertConfig, AlertKind, Comparison, Condition, Config, EventCondition, EventConditionKind, EventSelector,
    FormatConfig, HealthConfig, HealthKind, LabelConfig, Limits, MetricConfig, MetricKind, Named, Pattern, Profile,
    ReceiverConfig, ReceiverKind, Scalar, SecretSource, SourceConfig, Test, ThresholdOp, Transport, ValueConfig,
    ValueFrom,
};
use crate::model::format_duration_ms;
use serde_json::{Map, Value, json};
use std::fmt::Write;

/// How a secret is shown.
const HIDDEN: &str = "<secret>";

/// The configuration as the text of a sidewatch.yaml.
pub fn show(config: &Config) -> String {
    let mut out = String::new();
    for (key, value) in &whole(config) {
        let _ = write!(out, "{}:", text(key));
        block(value, 1, &mut out);
    }
    out
}

/// Writes a value after its key: short ones on the same line, mappings of one's own names one entry a line.
fn block(value: &Value, depth: usize, out: &mut String) {
    match value {
        Value::Object(entries) if depth == 1 && !entries.is_empty() => {
            out.push('\n');
            for (key, value) in entries {
                let _ = writeln!(out, "  {}: {}", text(key), flow(value));
            }
        }
        _ => {
            let _ = writeln!(out, " {}", flow(value));
        }
    }
}

fn flow(value: &Value) -> String {
    match value {
        Value::Object(entries) => {
            let entries: Vec<String> =
                entries.iter().map(|(key, value)| format!("{}: {}", text(key), flow(value))).collect();
            format!("{{{}}}", entries.join(", "))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(flow).collect::<Vec<_>>().join(", ")),
        Value::String(string) => text(string),
        other => other.to_string(),
    }
}

/// Plain where nothing could be misread, else in double quotes (JSON's are YAML's).
fn text(string: &str) -> String {
    let string = escape(string);
    let simple = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '/' | '-');
    let word = string.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && string.chars().all(simple);
    let reserved = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
    if word && !reserved.contains(&string.to_ascii_lowercase().as_str()) {
        string
    } else {
        Value::String(string).to_string()
    }
}

fn time(ms: i64) -> Value {
    format_duration_ms(ms).into()
}

/// A number: whole ones without a point.
fn number(value: f64) -> Value {
    if value.fract() == 0.0 && value.abs() < 9e15 { Value::from(value as i64) } else { Value::from(value) }
}

fn named<T>(entries: &[Named<T>], show: impl Fn(&T) -> Value) -> Value {
    entries.iter().map(|entry| (entry.name.value.clone(), show(&entry.value))).collect::<Map<_, _>>().into()
}

fn whole(config: &Config) -> Map<String, Value> {
    let mut map = Map::new();
    let profile = match config.profile {
        Profile::Development => "development",
        Profile::Production => "production",
        Profile::Testing => "testing",
    };
    map.insert("profile".into(), profile.into());
    map.insert("service".into(), json!({"name": config.service.name, "instance": config.service.instance}));
    map.insert("listen".into(), json!({"observe": config.listen.observe.value, "ingest": config.listen.ingest.value}));
    if let Some(sources) = &config.sources {
        map.insert("sources".into(), named(sources, source));
    }
    map.insert("metrics".into(), named(&config.metrics, metric));
    map.insert("health".into(), named(&config.health, health));
    map.insert("alerts".into(), named(&config.alerts, alert));
    map.insert("rules".into(), config.rules.iter().map(|rule| rule.value.clone()).collect());
    map.insert("bundled_rules".into(), config.bundled_rules.into());
    let mut notify = named(&config.notify.receivers, receiver);
    if let (Some(file), Some(entries)) = (&config.notify.alertmanager, notify.as_object_mut()) {
        entries.insert("alertmanager".into(), file.value.clone().into());
    }
    map.insert("notify".into(), notify);
    if let Some(state) = &config.state {
        let sync = if state.sync_full { "full" } else { "normal" };
        let interval = time(state.checkpoint_interval_ms);
        map.insert("state".into(), json!({"dir": state.dir.value, "sync": sync, "checkpoint_interval": interval}));
    }
    let labels = config.external_labels.iter().map(|(name, value)| (name.value.clone(), Value::from(value.clone())));
    map.insert("external_labels".into(), labels.collect::<Map<_, _>>().into());
    if !config.external_url.is_empty() {
        map.insert("external_url".into(), config.external_url.clone().into());
    }
    map.insert("evaluation_interval".into(), time(config.evaluation_interval_ms));
    map.insert("limits".into(), limits(&config.limits));
    map
}

fn limits(limits: &Limits) -> Value {
    json!({
        "series": limits.series, "series_per_metric": limits.series_per_metric,
        "histogram_series": limits.histogram_series, "labels_per_series": limits.labels_per_series,
        "label_value_bytes": limits.label_value_bytes, "series_bytes": limits.series_bytes,
        "idle_series": time(limits.idle_series_ms), "queue_batches": limits.queue_batches,
        "queue_bytes": limits.queue_bytes, "body_bytes": limits.body_bytes, "event_bytes": limits.event_bytes,
        "event_depth": limits.event_depth, "query_samples": limits.query_samples,
        "query_timeout": time(limits.query_timeout_ms), "pattern_keys": limits.pattern_keys,
        "alerts_per_rule": limits.alerts_per_rule, "outbox_messages": limits.outbox_messages,
    })
}

fn source(config: &SourceConfig) -> Value {
    let (kind, options) = match &config.transport {
        Transport::Http => ("http", json!({})),
        Transport::Stdin => ("stdin", json!({})),
        Transport::File { path, from_end } => {
            ("file", json!({"path": path.value, "start": if *from_end { "last" } else { "first" }}))
        }
        Transport::Unix { path } => ("unix", json!({"path": path.value})),
        Transport::Tcp { listen } => ("tcp", json!({"listen": listen.value})),
        Transport::Memory => ("memory", json!({})),
        Transport::Demo => ("demo", json!({})),
        Transport::None => ("none", json!({})),
    };
    let mut map = Map::from_iter([(kind.to_owned(), options)]);
    let FormatConfig { lines, event_type, shape } = &config.format;
    if let Some(lines) = lines {
        map.insert("lines".into(), json!({"regex": lines.value}));
    }
    if let Some(event_type) = event_type {
        map.insert("type".into(), event_type.value.clone().into());
    }
    if !shape.is_empty() {
        let paths = shape.iter().map(|(name, path)| (name.value.clone(), Value::from(path.value.to_string())));
        map.insert("shape".into(), paths.collect::<Map<_, _>>().into());
    }
    map.into()
}

fn pattern(pattern: &Pattern) -> Value {
    match pattern {
        Pattern::Glob(glob) => glob.value.clone().into(),
        Pattern::Regex(regex) => json!({"regex": regex.value}),
    }
}

/// The keys `match` and `where` of a selector.
fn selector(selector: &EventSelector) -> Map<String, Value> {
    let mut map = Map::new();
    if !selector.matches.is_empty() {
        map.insert("match".into(), selector.matches.iter().map(pattern).collect());
    }
    if let Some(condition_) = &selector.condition {
        map.insert("where".into(), condition(condition_));
    }
    map
}

/// A selector that stands alone; without any key it is the pattern that takes everything.
fn alone(one: &EventSelector) -> Value {
    let map = selector(one);
    if map.is_empty() { "*".into() } else { map.into() }
}

fn condition(one: &Condition) -> Value {
    let list = |items: &[Condition]| Value::Array(items.iter().map(condition).collect());
    match one {
        Condition::All(items) => json!({"all": list(items)}),
        Condition::Any(items) => json!({"any": list(items)}),
        Condition::Not(inner) => json!({"not": condition(inner)}),
        Condition::Field { path, test: one } => Map::from_iter([(path.value.to_string(), test(one))]).into(),
    }
}

fn test(test: &Test) -> Value {
    match test {
        Test::Gt(bound) => json!({"gt": number(*bound)}),
        Test::Gte(bound) => json!({"gte": number(*bound)}),
        Test::Lt(bound) => json!({"lt": number(*bound)}),
        Test::Lte(bound) => json!({"lte": number(*bound)}),
        Test::Eq(value) => json!({"eq": scalar(value)}),
        Test::Ne(value) => json!({"ne": scalar(value)}),
        Test::In(values) => json!({"in": values.iter().map(scalar).collect::<Vec<_>>()}),
        Test::Exists(wanted) => json!({"exists": wanted}),
        Test::Regex(regex) => json!({"regex": regex.value}),
    }
}

fn scalar(scalar: &Scalar) -> Value {
    match scalar {
        Scalar::Null => Value::Null,
        Scalar::Bool(value) => (*value).into(),
        Scalar::Number(value) => number(*value),
        Scalar::Text(text) => text.clone().into(),
    }
}

fn value(map: &mut Map<String, Value>, config: &ValueConfig) {
    let from = match &config.from {
        ValueFrom::Path(path) => path.value.to_string().into(),
        ValueFrom::Constant(constant) => number(*constant),
    };
    map.insert("value".into(), from);
    if let Some(unit) = &config.unit {
        map.insert("unit".into(), unit.value.clone().into());
    }
}

fn metric(config: &MetricConfig) -> Value {
    let buckets = |map: &mut Map<String, Value>, buckets: &Option<Vec<f64>>| {
        if let Some(bounds) = buckets {
            map.insert("buckets".into(), bounds.iter().map(|bound| number(*bound)).collect());
        }
    };
    let (kind, mut map) = match &config.kind {
        MetricKind::Counter { selector: one, value: number } => {
            let mut map = selector(one);
            if let Some(number) = number {
                value(&mut map, number);
            }
            ("counter", map)
        }
        MetricKind::Gauge { selector: one, value: number, add } => {
            let mut map = selector(one);
            value(&mut map, number);
            map.insert("op".into(), if *add { "add" } else { "set" }.into());
            ("gauge", map)
        }
        MetricKind::Histogram { selector: one, value: number, buckets: bounds } => {
            let mut map = selector(one);
            value(&mut map, number);
            buckets(&mut map, bounds);
            ("histogram", map)
        }
        MetricKind::Timer { from, to, by, within_ms, buckets: bounds } => {
            let mut map = Map::new();
            map.insert("from".into(), alone(from));
            map.insert("to".into(), alone(to));
            map.insert("by".into(), by.value.to_string().into());
            map.insert("within".into(), time(*within_ms));
            buckets(&mut map, bounds);
            ("timer", map)
        }
        MetricKind::Drop { selector: one } => ("drop", selector(one)),
    };
    if !config.labels.is_empty() {
        let labels = config.labels.iter().map(|one| (one.name.value.clone(), label(one)));
        map.insert("labels".into(), labels.collect::<Map<_, _>>().into());
    }
    if !config.help.is_empty() {
        map.insert("help".into(), config.help.clone().into());
    }
    Map::from_iter([(kind.to_owned(), map.into())]).into()
}

fn label(config: &LabelConfig) -> Value {
    let mut map = Map::new();
    if let Some(from) = &config.from {
        map.insert("from".into(), from.value.to_string().into());
    }
    if let Some(constant) = &config.constant {
        map.insert("value".into(), constant.clone().into());
    }
    if !config.replace.is_empty() {
        let rule = |(regex, with): &(super::Spanned<String>, String)| json!({"regex": regex.value, "with": with});
        map.insert("replace".into(), config.replace.iter().map(rule).collect());
    }
    if !config.map.is_empty() {
        let pairs = config.map.iter().map(|(from, to)| (from.clone(), Value::from(to.clone())));
        map.insert("map".into(), pairs.collect::<Map<_, _>>().into());
    }
    if let Some(default) = &config.default {
        map.insert("default".into(), default.clone().into());
    }
    match map.get("from") {
        Some(path) if map.len() == 1 => path.clone(),
        _ => map.into(),
    }
}

fn health(config: &HealthConfig) -> Value {
    let mut map = Map::new();
    match &config.kind {
        HealthKind::Event { selector: one, within_ms } => {
            let mut inner = selector(one);
            inner.insert("within".into(), time(*within_ms));
            map.insert("event".into(), inner.into());
        }
        HealthKind::Expr { expr } => drop(map.insert("expr".into(), expr.value.clone().into())),
        HealthKind::Http { url, status, body, timeout_ms, every_ms } => {
            let mut expect = Map::new();
            if let Some(status) = status {
                expect.insert("status".into(), (*status).into());
            }
            if let Some(body) = body {
                expect.insert("body".into(), body.clone().into());
            }
            let mut inner = Map::from_iter([("url".to_owned(), Value::from(url.value.clone()))]);
            if !expect.is_empty() {
                inner.insert("expect".into(), expect.into());
            }
            inner.insert("timeout".into(), time(*timeout_ms));
            inner.insert("every".into(), time(*every_ms));
            map.insert("http".into(), inner.into());
        }
    }
    map.insert("status".into(), if config.degraded { "degraded" } else { "unhealthy" }.into());
    map.into()
}

fn alert(config: &AlertConfig) -> Value {
    let mut map = Map::new();
    match &config.kind {
        AlertKind::Metric { metric, of, stat, over_ms, by, matchers, op, threshold } => {
            map.insert("metric".into(), metric.value.clone().into());
            for (key, given) in [("of", of), ("stat", stat)] {
                if let Some(given) = given {
                    map.insert(key.into(), given.value.clone().into());
                }
            }
            if let Some(over_ms) = over_ms {
                map.insert("over".into(), time(*over_ms));
            }
            if !by.is_empty() {
                map.insert("by".into(), by.iter().map(|path| path.value.to_string()).collect());
            }
            if !matchers.is_empty() {
                let pairs = matchers.iter().map(|(name, one)| (name.value.clone(), pattern(one)));
                map.insert("where".into(), pairs.collect::<Map<_, _>>().into());
            }
            let op = match op {
                ThresholdOp::Above => "above",
                ThresholdOp::Below => "below",
                ThresholdOp::AtLeast => "at_least",
                ThresholdOp::AtMost => "at_most",
            };
            map.insert(op.into(), threshold.value.clone().into());
        }
        AlertKind::Event(condition) => drop(map.insert("event".into(), event(condition))),
        AlertKind::Expr(expr) => drop(map.insert("expr".into(), expr.value.clone().into())),
    }
    for (key, ms) in [("for", config.for_ms), ("keep_firing_for", config.keep_firing_for_ms)] {
        if ms > 0 {
            map.insert(key.into(), time(ms));
        }
    }
    if let Some(severity) = &config.severity {
        map.insert("severity".into(), severity.value.clone().into());
    }
    for (key, pairs) in [("labels", &config.labels), ("annotations", &config.annotations)] {
        if !pairs.is_empty() {
            let pairs = pairs.iter().map(|(name, value)| (name.value.clone(), Value::from(value.value.clone())));
            map.insert(key.into(), pairs.collect::<Map<_, _>>().into());
        }
    }
    if let Some(runbook) = &config.runbook {
        map.insert("runbook".into(), runbook.clone().into());
    }
    if !config.notify.is_empty() {
        map.insert("notify".into(), config.notify.iter().map(|name| name.value.clone()).collect());
    }
    map.into()
}

fn event(config: &EventCondition) -> Value {
    let mut map = match &config.kind {
        EventConditionKind::Count { selector: one, comparison, count } => {
            let mut map = selector(one);
            if one.matches.is_empty() {
                map.insert("match".into(), "*".into());
            }
            let operator = match comparison {
                Comparison::AtLeast => ">=",
                Comparison::MoreThan => ">",
                Comparison::AtMost => "<=",
                Comparison::LessThan => "<",
                Comparison::Equal => "==",
                Comparison::NotEqual => "!=",
            };
            map.insert("count".into(), format!("{operator} {count}").into());
            map
        }
        EventConditionKind::Absent { selector, keys } => {
            let mut map = Map::from_iter([("absent".to_owned(), alone(selector))]);
            if !keys.is_empty() {
                map.insert("keys".into(), keys.clone().into());
            }
            map
        }
        EventConditionKind::Sequence { steps, missing_last } => {
            let steps: Vec<Value> = steps.iter().map(alone).collect();
            let mut map = Map::from_iter([("sequence".to_owned(), Value::from(steps))]);
            if *missing_last {
                map.insert("missing".into(), "last".into());
            }
            map
        }
    };
    if !config.by.is_empty() {
        map.insert("by".into(), config.by.iter().map(|path| path.value.to_string()).collect());
    }
    map.insert("within".into(), time(config.within_ms));
    map.into()
}

fn secret(map: &mut Map<String, Value>, key: &str, source: &SecretSource) {
    match source {
        SecretSource::Inline(_) => map.insert(key.into(), HIDDEN.into()),
        SecretSource::File(file) => map.insert(format!("{key}_file"), file.value.clone().into()),
    };
}

fn receiver(config: &ReceiverConfig) -> Value {
    let mut map = Map::new();
    let kind = match &config.kind {
        ReceiverKind::Terminal => "terminal",
        ReceiverKind::Slack { url, channel } => {
            secret(&mut map, "url", url);
            if let Some(channel) = channel {
                map.insert("channel".into(), channel.clone().into());
            }
            "slack"
        }
        ReceiverKind::Webhook { url, headers } => {
            secret(&mut map, "url", url);
            if !headers.is_empty() {
                // Headers carry tokens as a rule.
                let pairs = headers.iter().map(|(name, _)| (name.clone(), Value::from(HIDDEN)));
                map.insert("headers".into(), pairs.collect::<Map<_, _>>().into());
            }
            "webhook"
        }
        ReceiverKind::Email { to, from, smtp, username, password, require_tls } => {
            map.insert("to".into(), to.iter().map(|address| address.value.clone()).collect());
            if let Some(from) = from {
                map.insert("from".into(), from.value.clone().into());
            }
            map.insert("smtp".into(), without_password(&smtp.value).into());
            if let Some(username) = username {
                map.insert("username".into(), username.clone().into());
            }
            if let Some(password) = password {
                secret(&mut map, "password", password);
            }
            if let Some(required) = require_tls {
                map.insert("require_tls".into(), (*required).into());
            }
            "email"
        }
    };
    map.insert("send_resolved".into(), config.send_resolved.into());
    Map::from_iter([(kind.to_owned(), map.into())]).into()
}

/// `smtp://user:secret@host` without what stands between the colon and the at sign.
fn without_password(address: &str) -> String {
    let Some((scheme, rest)) = address.split_once("://") else { return address.to_owned() };
    match rest.rsplit_once('@') {
        Some((login, host)) => match login.split_once(':') {
            Some((user, _)) => format!("{scheme}://{user}:{HIDDEN}@{host}"),
            None => address.to_owned(),
        },
        None => address.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Overrides, load_text};

    const RICH: &str = include_str!("../../deploy/sidewatch.yaml");

    #[test]
    fn what_is_shown_reads_back_to_the_same() {
        let read = |text: &str| {
            let (config, found) = load_text("deploy/sidewatch.yaml", text, &Default::default(), &Overrides::default());
            assert!(!found.has_errors(), "{found}\n{text}");
            config.unwrap()
        };
        for text in [
            RICH,
            crate::source::demo::CONFIG,
            "alerts: {A: {expr: 'vector(1)', annotations: {summary: 'costs $${X} {{ $value }}'}}}",
        ] {
            let first = read(text);
            let shown = show(&first);
            let second = read(&shown);
            assert_eq!(shown, show(&second), "shown twice");
            assert_eq!(
                (&first.metrics, &first.health, &first.alerts),
                (&second.metrics, &second.health, &second.alerts)
            );
            assert_eq!((&first.sources, &first.rules, &first.limits), (&second.sources, &second.rules, &second.limits));
            assert_eq!((&first.service, &first.listen, &first.state), (&second.service, &second.listen, &second.state));
            assert_eq!(first.external_labels, second.external_labels);
        }
    }

    #[test]
    fn no_secret_is_shown() {
        let text = "notify:\n  a: {slack: {url: 'https://h/s3cret'}}\n  b: {webhook: {url: 'http://h/s3cret', headers: {X: s3cret}}}\n  c: {email: {to: a@b.c, smtp: 'smtp://me:s3cret@h:25', password: s3cret}}\n";
        let (config, found) = load_text("x.yaml", text, &Default::default(), &Overrides::default());
        let shown = show(&config.unwrap_or_else(|| panic!("{found}")));
        assert!(!shown.contains("s3cret") && shown.contains("smtp://me:<secret>@h:25"), "{shown}");
    }
}
