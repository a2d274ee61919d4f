//! The effective configuration as YAML, secrets hidden.

use super::expand::escape;
use super::schema::{
    AlertConfig, AlertKind, Comparison, Condition, Config, EventCondition, EventConditionKind, EventSelector,
    FormatConfig, HealthConfig, HealthKind, LabelConfig, Limits, MetricConfig, MetricKind, Named, NotifyConfig,
    Pattern, Profile, ReceiverConfig, ReceiverKind, Scalar, SecretSource, SourceConfig, Test, ThresholdOp, Transport,
    ValueConfig, ValueFrom,
};
use super::{Spanned, reader};
use crate::model::{FieldPath, format_duration_ms};
use serde_json::{Map, Value, json};
use std::fmt::Write;

/// The configuration with all layers applied, as YAML that [`super::load`] reads back to the same, apart from secrets:
/// they are shown as `<secret>`.
pub fn show(config: &Config) -> String {
    let mut out = String::new();
    write_yaml(&mut out, &show_json(config), 0);
    out
}

/// The same as a JSON document, for the API.
pub fn show_json(config: &Config) -> Value {
    let mut map = Map::new();
    let mut put = |key: &str, value: Value| map.insert(key.to_owned(), value);
    put("profile", text(profile(config.profile)));
    put("service", json!({"name": escape(&config.service.name), "instance": escape(&config.service.instance)}));
    put(
        "listen",
        json!({"observe": escape(&config.listen.observe.value), "ingest": escape(&config.listen.ingest.value)}),
    );
    if let Some(sources) = &config.sources {
        put("sources", named(sources, source));
    }
    put("metrics", named(&config.metrics, metric));
    put("health", named(&config.health, health));
    put("alerts", named(&config.alerts, alert));
    put("rules", config.rules.iter().map(|rule| text(&rule.value)).collect());
    put("bundled_rules", config.bundled_rules.into());
    put("notify", notify(&config.notify));
    if let Some(state) = &config.state {
        put(
            "state",
            json!({
                "dir": escape(&state.dir.value),
                "sync": if state.sync_full { "full" } else { "normal" },
                "checkpoint_interval": format_duration_ms(state.checkpoint_interval_ms),
            }),
        );
    }
    put(
        "external_labels",
        config.external_labels.iter().map(|(name, value)| (name.value.clone(), text(value))).collect(),
    );
    if !config.external_url.is_empty() {
        put("external_url", text(&config.external_url));
    }
    put("evaluation_interval", format_duration_ms(config.evaluation_interval_ms).into());
    put("limits", limits(&config.limits));
    Value::Object(map)
}

fn profile(profile: Profile) -> &'static str {
    match profile {
        Profile::Development => "development",
        Profile::Production => "production",
        Profile::Testing => "testing",
    }
}

fn text(text: &str) -> Value {
    Value::String(escape(text))
}

fn paths(paths: &[Spanned<FieldPath>]) -> Value {
    paths.iter().map(|path| text(&path.value.to_string())).collect()
}

fn number(number: f64) -> Value {
    // Whole numbers without a decimal point, as people write them.
    if number.fract() == 0.0 && number.abs() < 1e15 { Value::from(number as i64) } else { Value::from(number) }
}

fn named<T>(entries: &[Named<T>], show: impl Fn(&T) -> Value) -> Value {
    entries.iter().map(|entry| (entry.name.value.clone(), show(&entry.value))).collect()
}

fn pairs<'a>(pairs: impl IntoIterator<Item = (&'a Spanned<String>, &'a Spanned<String>)>) -> Value {
    pairs.into_iter().map(|(name, value)| (name.value.clone(), text(&value.value))).collect()
}

/// A mapping without the entries that say nothing.
fn object<const N: usize>(entries: [(&str, Option<Value>); N]) -> Value {
    entries.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect()
}

/// The entries of several mappings in one.
fn joined<const N: usize>(parts: [Value; N]) -> Value {
    let entries = parts.into_iter().filter_map(|part| if let Value::Object(map) = part { Some(map) } else { None });
    Value::Object(entries.flatten().collect())
}

fn source(source: &SourceConfig) -> Value {
    let transport = match &source.transport {
        Transport::Http => json!({"http": {}}),
        Transport::Stdin => json!({"stdin": {}}),
        Transport::File { path, from_end } => {
            json!({"file": {"path": escape(&path.value), "start": if *from_end { "last" } else { "first" }}})
        }
        Transport::Unix { path } => json!({"unix": {"path": escape(&path.value)}}),
        Transport::Tcp { listen } => json!({"tcp": {"listen": escape(&listen.value)}}),
        Transport::Memory => json!({"memory": {}}),
        Transport::None => json!({"none": {}}),
    };
    let FormatConfig { lines, event_type, shape } = &source.format;
    let shape = shape.iter().map(|(name, path)| (name.value.clone(), text(&path.value.to_string()))).collect();
    let format = object([
        ("lines", lines.as_ref().map(|regex| json!({"regex": escape(&regex.value)}))),
        ("type", event_type.as_ref().map(|event_type| text(&event_type.value))),
        ("shape", (!source.format.shape.is_empty()).then_some(shape)),
    ]);
    joined([transport, format])
}

fn pattern(pattern: &Pattern) -> Value {
    match pattern {
        Pattern::Glob(glob) => text(&glob.value),
        Pattern::Regex(regex) => json!({"regex": escape(&regex.value)}),
    }
}

fn selector(selector: &EventSelector) -> Value {
    object([
        ("match", (!selector.matches.is_empty()).then(|| selector.matches.iter().map(pattern).collect())),
        ("where", selector.condition.as_ref().map(condition)),
    ])
}

fn scalar(scalar: &Scalar) -> Value {
    match scalar {
        Scalar::Null => Value::Null,
        Scalar::Bool(value) => (*value).into(),
        Scalar::Number(value) => number(*value),
        Scalar::Text(value) => text(value),
    }
}

fn condition(whole: &Condition) -> Value {
    match whole {
        Condition::All(parts) => json!({"all": parts.iter().map(condition).collect::<Value>()}),
        Condition::Any(parts) => json!({"any": parts.iter().map(condition).collect::<Value>()}),
        Condition::Not(inner) => json!({"not": condition(inner)}),
        Condition::Field { path, test } => {
            let test = match test {
                Test::Gt(bound) => json!({"gt": number(*bound)}),
                Test::Gte(bound) => json!({"gte": number(*bound)}),
                Test::Lt(bound) => json!({"lt": number(*bound)}),
                Test::Lte(bound) => json!({"lte": number(*bound)}),
                Test::Eq(value) => json!({"eq": scalar(value)}),
                Test::Ne(value) => json!({"ne": scalar(value)}),
                Test::In(values) => json!({"in": values.iter().map(scalar).collect::<Value>()}),
                Test::Exists(wanted) => json!({"exists": wanted}),
                Test::Regex(regex) => json!({"regex": escape(&regex.value)}),
            };
            json!({path.value.to_string(): test})
        }
    }
}

fn value(value: &ValueConfig) -> Value {
    let from = match &value.from {
        ValueFrom::Path(path) => text(&path.value.to_string()),
        ValueFrom::Constant(constant) => number(*constant),
    };
    object([("value", Some(from)), ("unit", value.unit.as_ref().map(|unit| text(&unit.value)))])
}

fn metric(metric: &MetricConfig) -> Value {
    let shown = |buckets: &Option<Vec<f64>>| {
        object([("buckets", buckets.as_ref().map(|bounds| bounds.iter().map(|bound| number(*bound)).collect()))])
    };
    let (kind, inner) = match &metric.kind {
        MetricKind::Counter { selector: events, value: from } => {
            ("counter", joined([selector(events), from.as_ref().map_or(Value::Null, value)]))
        }
        MetricKind::Gauge { selector: events, value: from, add } => {
            ("gauge", joined([selector(events), value(from), json!({"op": if *add { "add" } else { "set" }})]))
        }
        MetricKind::Histogram { selector: events, value: from, buckets } => {
            ("histogram", joined([selector(events), value(from), shown(buckets)]))
        }
        MetricKind::Timer { from, to, by, within_ms, buckets } => {
            let events = json!({
                "from": alone(from), "to": alone(to), "by": escape(&by.value.to_string()),
                "within": format_duration_ms(*within_ms),
            });
            ("timer", joined([events, shown(buckets)]))
        }
        MetricKind::Drop { selector: events } => ("drop", selector(events)),
    };
    let labels = metric.labels.iter().map(|config| (config.name.value.clone(), label(config))).collect();
    let rest = object([
        ("labels", (!metric.labels.is_empty()).then_some(labels)),
        ("help", (!metric.help.is_empty()).then(|| text(&metric.help))),
    ]);
    json!({kind: joined([inner, rest])})
}

/// A selector where it stands alone.
fn alone(events: &EventSelector) -> Value {
    if events.condition.is_none() { events.matches.iter().map(pattern).collect() } else { selector(events) }
}

fn label(label: &LabelConfig) -> Value {
    let replace =
        label.replace.iter().map(|(regex, with)| json!({"regex": escape(&regex.value), "with": escape(with)}));
    let map = label.map.iter().map(|(from, to)| (from.clone(), text(to)));
    object([
        ("from", label.from.as_ref().map(|path| text(&path.value.to_string()))),
        ("value", label.constant.as_deref().map(text)),
        ("replace", (!label.replace.is_empty()).then(|| replace.collect())),
        ("map", (!label.map.is_empty()).then(|| map.collect())),
        ("default", label.default.as_deref().map(text)),
    ])
}

fn health(health: &HealthConfig) -> Value {
    let kind = match &health.kind {
        HealthKind::Event { selector: events, within_ms } => {
            json!({"event": joined([selector(events), json!({"within": format_duration_ms(*within_ms)})])})
        }
        HealthKind::Expr { expr } => json!({"expr": escape(&expr.value)}),
        HealthKind::Http { url, status, body, timeout_ms, every_ms } => {
            let expect = object([("status", status.map(Value::from)), ("body", body.as_deref().map(text))]);
            json!({"http": {
                "url": escape(&url.value), "expect": expect,
                "timeout": format_duration_ms(*timeout_ms), "every": format_duration_ms(*every_ms),
            }})
        }
    };
    joined([kind, json!({"status": if health.degraded { "degraded" } else { "unhealthy" }})])
}

fn alert(alert: &AlertConfig) -> Value {
    let kind = match &alert.kind {
        AlertKind::Metric { metric, of, stat, over_ms, by, matchers, op, threshold } => {
            let op = match op {
                ThresholdOp::Above => "above",
                ThresholdOp::Below => "below",
                ThresholdOp::AtLeast => "at_least",
                ThresholdOp::AtMost => "at_most",
            };
            let matchers = matchers.iter().map(|(name, value)| (name.value.clone(), pattern(value))).collect();
            object([
                ("metric", Some(text(&metric.value))),
                ("of", of.as_ref().map(|of| text(&of.value))),
                ("stat", stat.as_ref().map(|stat| text(&stat.value))),
                ("over", over_ms.map(|over_ms| format_duration_ms(over_ms).into())),
                ("by", (!by.is_empty()).then(|| paths(by))),
                ("where", Some(matchers)),
                (op, Some(text(&threshold.value))),
            ])
        }
        AlertKind::Event(condition) => json!({"event": event_condition(condition)}),
        AlertKind::Expr(expr) => json!({"expr": escape(&expr.value)}),
    };
    let rest = object([
        ("for", (alert.for_ms > 0).then(|| format_duration_ms(alert.for_ms).into())),
        (
            "keep_firing_for",
            (alert.keep_firing_for_ms > 0).then(|| format_duration_ms(alert.keep_firing_for_ms).into()),
        ),
        ("severity", alert.severity.as_ref().map(|severity| text(&severity.value))),
        ("labels", (!alert.labels.is_empty()).then(|| pairs(alert.labels.iter().map(|(name, value)| (name, value))))),
        (
            "annotations",
            (!alert.annotations.is_empty()).then(|| pairs(alert.annotations.iter().map(|(name, value)| (name, value)))),
        ),
        ("runbook", alert.runbook.as_deref().map(text)),
        ("notify", (!alert.notify.is_empty()).then(|| alert.notify.iter().map(|name| text(&name.value)).collect())),
    ]);
    joined([kind, rest])
}

fn event_condition(condition: &EventCondition) -> Value {
    let kind = match &condition.kind {
        EventConditionKind::Count { selector: events, comparison, count } => {
            let operator = match comparison {
                Comparison::AtLeast => ">=",
                Comparison::MoreThan => ">",
                Comparison::AtMost => "<=",
                Comparison::LessThan => "<",
                Comparison::Equal => "==",
                Comparison::NotEqual => "!=",
            };
            let matches = json!({"match": events.matches.iter().map(pattern).collect::<Value>()});
            joined([matches, selector(events), json!({"count": format!("{operator} {count}")})])
        }
        EventConditionKind::Absent { selector: events, keys } => {
            let keys = (!keys.is_empty()).then(|| keys.iter().map(|key| text(key)).collect());
            object([("absent", Some(alone(events))), ("keys", keys)])
        }
        EventConditionKind::Sequence { steps, missing_last } => object([
            ("sequence", Some(steps.iter().map(step).collect())),
            ("missing", missing_last.then(|| "last".into())),
        ]),
    };
    let rest = object([
        ("by", (!condition.by.is_empty()).then(|| paths(&condition.by))),
        ("within", Some(format_duration_ms(condition.within_ms).into())),
    ]);
    joined([kind, rest])
}

/// A step of a sequence: one pattern as it is, anything else as a mapping.
fn step(events: &EventSelector) -> Value {
    match (events.matches.as_slice(), &events.condition) {
        ([one], None) => pattern(one),
        _ => selector(events),
    }
}

fn secret(name: &str, source: &SecretSource) -> Value {
    match source {
        SecretSource::Inline(hidden) => json!({name: hidden.value.to_string()}),
        SecretSource::File(path) => json!({format!("{name}_file"): escape(&path.value)}),
    }
}

fn notify(notify: &NotifyConfig) -> Value {
    let file = object([("alertmanager", notify.alertmanager.as_ref().map(|file| text(&file.value)))]);
    joined([named(&notify.receivers, receiver), file])
}

fn receiver(receiver: &ReceiverConfig) -> Value {
    let (kind, inner) = match &receiver.kind {
        ReceiverKind::Terminal => ("terminal", json!({})),
        ReceiverKind::Slack { url, channel } => {
            ("slack", joined([secret("url", url), object([("channel", channel.as_deref().map(text))])]))
        }
        ReceiverKind::Webhook { url, headers } => {
            // Any header may carry a token, so that none is shown.
            let hidden = headers.iter().map(|(name, _)| (name.clone(), Value::from(super::read::HIDDEN))).collect();
            ("webhook", joined([secret("url", url), object([("headers", (!headers.is_empty()).then_some(hidden))])]))
        }
        ReceiverKind::Email { to, from, smtp, username, password, require_tls } => {
            let fields = object([
                ("to", Some(to.iter().map(|address| text(&address.value)).collect())),
                ("from", from.as_ref().map(|from| text(&from.value))),
                ("smtp", Some(text(&without_password(&smtp.value)))),
                ("username", username.as_deref().map(text)),
                ("require_tls", require_tls.map(Value::from)),
            ]);
            ("email", joined([fields, password.as_ref().map_or(Value::Null, |source| secret("password", source))]))
        }
    };
    json!({kind: joined([inner, json!({"send_resolved": receiver.send_resolved})])})
}

/// A URL whose password, if it has one, is hidden.
fn without_password(url: &str) -> String {
    let hide = || {
        let (scheme, rest) = url.split_once("://")?;
        let (user_info, host) = rest.rsplit_once('@')?;
        let (user, _) = user_info.split_once(':')?;
        Some(format!("{scheme}://{user}:{}@{host}", super::read::HIDDEN))
    };
    hide().unwrap_or_else(|| url.to_owned())
}

fn limits(limits: &Limits) -> Value {
    json!({
        "series": limits.series,
        "series_per_metric": limits.series_per_metric,
        "histogram_series": limits.histogram_series,
        "labels_per_series": limits.labels_per_series,
        "label_value_bytes": bytes(limits.label_value_bytes),
        "series_bytes": bytes(limits.series_bytes),
        "idle_series": format_duration_ms(limits.idle_series_ms),
        "queue_batches": limits.queue_batches,
        "queue_bytes": bytes(limits.queue_bytes),
        "body_bytes": bytes(limits.body_bytes),
        "event_bytes": bytes(limits.event_bytes),
        "event_depth": limits.event_depth,
        "query_samples": limits.query_samples,
        "query_timeout": format_duration_ms(limits.query_timeout_ms),
        "pattern_keys": limits.pattern_keys,
        "alerts_per_rule": limits.alerts_per_rule,
        "outbox_messages": limits.outbox_messages,
    })
}

fn bytes(bytes: usize) -> Value {
    for (unit, size) in [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)] {
        if bytes >= size && bytes.is_multiple_of(size) {
            return format!("{}{unit}", bytes / size).into();
        }
    }
    bytes.into()
}

/// Block style for mappings, flow style for what fits behind a key.
fn write_yaml(out: &mut String, value: &Value, indent: usize) {
    let Value::Object(map) = value else { return };
    for (key, value) in map {
        out.extend(std::iter::repeat_n(' ', indent));
        write_scalar(out, key);
        out.push(':');
        let flow = flow(value);
        if value.as_object().is_none_or(Map::is_empty) || (indent > 0 && indent + key.len() + flow.len() < 100) {
            let _infallible = writeln!(out, " {flow}");
        } else {
            out.push('\n');
            write_yaml(out, value, indent + 2);
        }
    }
}

fn flow(value: &Value) -> String {
    let mut out = String::new();
    match value {
        Value::String(text) => write_scalar(&mut out, text),
        Value::Array(items) => {
            out.push('[');
            out.push_str(&items.iter().map(flow).collect::<Vec<_>>().join(", "));
            out.push(']');
        }
        Value::Object(map) => {
            out.push('{');
            for (at, (key, value)) in map.iter().enumerate() {
                out.push_str(if at == 0 { "" } else { ", " });
                write_scalar(&mut out, key);
                let _infallible = write!(out, ": {}", flow(value));
            }
            out.push('}');
        }
        other => out.push_str(&other.to_string()),
    }
    out
}

/// A text plain where every YAML reader takes it as that text, else in JSON's quotes, which are YAML's, too.
fn write_scalar(out: &mut String, text: &str) {
    let safe = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_' || c == '/')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/'))
        || text.starts_with(|c: char| c.is_ascii_digit())
            && reader::parse_float(text).is_none()
            && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '.');
    let word = text.to_ascii_lowercase();
    let reserved = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"].contains(&word.as_str());
    if safe && !reserved {
        out.push_str(text);
    } else {
        out.push_str(&Value::from(text).to_string());
    }
}
