//! The functions and methods of templates: Go's builtins, Prometheus's (`template/template.go`) and Alertmanager's.

use super::format;
use super::time::{GoTime, duration_method};
use super::{Dialect, Functions, Value};
use regex::Regex;
use std::cmp::Ordering;
use std::net::IpAddr;
use std::sync::Arc;

type Answer = Result<Value, String>;

const BUILTIN: [&str; 20] = [
    "and", "or", "not", "eq", "ne", "lt", "le", "gt", "ge", "len", "index", "slice", "print", "printf", "println",
    "html", "js", "urlquery", "call", "now",
];
const COMMON: [&str; 7] = ["title", "toUpper", "toLower", "match", "safeHtml", "reReplaceAll", "humanizeDuration"];
const PROMETHEUS: [&str; 21] = [
    "query",
    "first",
    "label",
    "value",
    "sortByLabel",
    "strvalue",
    "humanize",
    "humanize1024",
    "humanizePercentage",
    "humanizeTimestamp",
    "toTime",
    "toDuration",
    "stripPort",
    "stripDomain",
    "graphLink",
    "tableLink",
    "parseDuration",
    "urlQueryEscape",
    "args",
    "externalURL",
    "pathPrefix",
];
const ALERTMANAGER: [&str; 13] = [
    "join",
    "stringSlice",
    "date",
    "tz",
    "since",
    "trimSpace",
    "safeUrl",
    "urlUnescape",
    "toJson",
    "humanizePercentage",
    "list",
    "dict",
    "humanize",
];

/// The names that a dialect knows.
pub(super) fn names(dialect: Dialect) -> impl Iterator<Item = &'static str> {
    let own: &[&str] = match dialect {
        Dialect::Prometheus => &PROMETHEUS,
        Dialect::Alertmanager => &ALERTMANAGER,
    };
    BUILTIN.iter().chain(&COMMON).chain(own).copied()
}

pub(super) fn exists(name: &str, dialect: Dialect) -> bool {
    names(dialect).any(|known| known == name)
}

fn text(args: &[Value], at: usize) -> Result<&str, String> {
    match args.get(at) {
        Some(Value::Text(text)) => Ok(text),
        Some(other) => Err(format!("wrong type for value; expected string; got {}", other.type_name())),
        None => Err(format!("wrong number of args: want at least {} got {}", at + 1, args.len())),
    }
}

fn arg(args: &[Value], at: usize) -> Result<&Value, String> {
    args.get(at).ok_or_else(|| format!("wrong number of args: want at least {} got {}", at + 1, args.len()))
}

fn exactly(args: &[Value], want: usize) -> Result<(), String> {
    if args.len() == want { Ok(()) } else { Err(format!("wrong number of args: want {want} got {}", args.len())) }
}

/// `convertToFloat` of Prometheus.
fn float(value: &Value) -> Result<f64, String> {
    match value {
        Value::Float(value) => Ok(*value),
        Value::Int(value) => Ok(*value as f64),
        Value::Duration(nanos) => Ok(*nanos as f64 / 1e9),
        Value::Text(text) => {
            let lower = text.to_ascii_lowercase();
            let known = match lower.trim_start_matches(['+', '-']) {
                "inf" | "infinity" => Some(f64::INFINITY),
                "nan" => Some(f64::NAN),
                rest if rest.starts_with(|c: char| c.is_ascii_digit() || c == '.') => rest.parse().ok(),
                _ => None,
            };
            let value =
                known.ok_or_else(|| format!("strconv.ParseFloat: parsing {}: invalid syntax", format::quote(text)))?;
            Ok(if lower.starts_with('-') { -value } else { value })
        }
        other => Err(format!("can't convert {} to float", other.type_name())),
    }
}

fn regex(pattern: &str) -> Result<Regex, String> {
    regex::RegexBuilder::new(pattern)
        .size_limit(1 << 20)
        .build()
        .map_err(|_| format!("error parsing regexp: {pattern}"))
}

/// Calls a function.
pub(super) fn call(name: &str, args: &[Value], functions: &Functions<'_>) -> Answer {
    match name {
        "not" => Ok(Value::Bool(!arg(args, 0)?.is_true())),
        "eq" => equal(args),
        "ne" => {
            exactly(args, 2)?;
            same(&args[0], &args[1]).map(|same| Value::Bool(!same))
        }
        "lt" => compare(args, |order| order == Some(Ordering::Less)),
        "le" => compare(args, |order| matches!(order, Some(Ordering::Less | Ordering::Equal))),
        "gt" => compare(args, |order| order == Some(Ordering::Greater)),
        "ge" => compare(args, |order| matches!(order, Some(Ordering::Greater | Ordering::Equal))),
        "len" => {
            let value = arg(args, 0)?;
            value.len().map(|len| Value::Int(len as i64)).ok_or_else(|| format!("len of type {}", value.type_name()))
        }
        "index" => index(args),
        "slice" => slice(args),
        "print" => Ok(Value::text(format::sprint(args))),
        "println" => Ok(Value::text(format::sprintln(args))),
        "printf" => Ok(Value::text(format::sprintf(text(args, 0)?, &args[1..]))),
        "html" => Ok(Value::text(gotmpl::html_escape(&format::sprint(args)))),
        "js" => Ok(Value::text(gotmpl::js_escape(&format::sprint(args)))),
        "urlquery" => Ok(Value::text(gotmpl::url_encode(&format::sprint(args)))),
        "urlQueryEscape" => Ok(Value::text(gotmpl::url_encode(text(args, 0)?))),
        "call" => Err("call of a value that is not a function".into()),
        "title" => Ok(Value::text(title(text(args, 0)?))),
        "toUpper" => Ok(Value::text(text(args, 0)?.to_uppercase())),
        "toLower" => Ok(Value::text(text(args, 0)?.to_lowercase())),
        "trimSpace" => Ok(Value::text(text(args, 0)?.trim())),
        "match" => Ok(Value::Bool(regex(text(args, 0)?)?.is_match(text(args, 1)?))),
        "safeHtml" | "safeUrl" => Ok(Value::text(text(args, 0)?)),
        "reReplaceAll" => {
            let replaced = regex(text(args, 0)?)?.replace_all(text(args, 2)?, text(args, 1)?).into_owned();
            Ok(Value::text(replaced))
        }
        "humanize" => Ok(Value::text(humanize(float(arg(args, 0)?)?))),
        "humanize1024" => Ok(Value::text(humanize_1024(float(arg(args, 0)?)?))),
        "humanizeDuration" => Ok(Value::text(humanize_duration(float(arg(args, 0)?)?))),
        "humanizePercentage" => Ok(Value::text(format!("{}%", g4(float(arg(args, 0)?)? * 100.0)))),
        "humanizeTimestamp" => {
            let value = float(arg(args, 0)?)?;
            if !value.is_finite() {
                return Ok(Value::text(g4(value)));
            }
            Ok(Value::text(GoTime::from_seconds(value)?.to_string()))
        }
        "toTime" => GoTime::from_seconds(float(arg(args, 0)?)?).map(Value::Time),
        "toDuration" => Ok(Value::Duration((float(arg(args, 0)?)? * 1e9) as i64)),
        "now" => match functions.dialect {
            Dialect::Prometheus => Ok(Value::Float(functions.now.seconds())),
            Dialect::Alertmanager => GoTime::from_micros(functions.now.micros()).map(Value::Time),
        },
        "parseDuration" => Ok(Value::Float(crate::model::parse_duration_ms(text(args, 0)?)? as f64 / 1e3)),
        "stripPort" => Ok(Value::text(split_host_port(text(args, 0)?).map_or(text(args, 0)?, |(host, _)| host))),
        "stripDomain" => Ok(Value::text(strip_domain(text(args, 0)?))),
        "graphLink" => Ok(Value::text(graph_link(text(args, 0)?, false))),
        "tableLink" => Ok(Value::text(graph_link(text(args, 0)?, true))),
        "externalURL" => Ok(Value::text(functions.external_url)),
        "pathPrefix" => Ok(Value::text(url_path(functions.external_url))),
        "query" => {
            let run = functions.query.ok_or("there is nothing to query here")?;
            run(text(args, 0)?).map(Value::list)
        }
        "first" => match arg(args, 0)? {
            Value::List(items) => {
                items.first().cloned().ok_or_else(|| "first() called on vector with no elements".into())
            }
            other => Err(format!("first wants the result of query, not {}", other.type_name())),
        },
        "value" => field(arg(args, 0)?, "Value", &[]),
        "strvalue" => sample_label(arg(args, 0)?, "__value__"),
        "label" => sample_label(arg(args, 1)?, text(args, 0)?),
        "sortByLabel" => {
            let (name, Value::List(items)) = (text(args, 0)?, arg(args, 1)?) else {
                return Err("sortByLabel wants a label and the result of query".into());
            };
            let mut items = items.to_vec();
            items.sort_by_key(|item| sample_label(item, name).map(|value| value.to_string()).unwrap_or_default());
            Ok(Value::list(items))
        }
        "args" => Ok(Value::map(args.iter().enumerate().map(|(at, value)| (format!("arg{at}"), value.clone())))),
        "join" => {
            // Alertmanager's order: separator, then the list, so that it can be piped.
            let (separator, Value::List(items)) = (text(args, 0)?, arg(args, 1)?) else {
                return Err("join wants a separator and a list of strings".into());
            };
            let texts: Vec<String> = items.iter().map(Value::to_string).collect();
            Ok(Value::text(texts.join(separator)))
        }
        "stringSlice" | "list" => Ok(Value::list(args.to_vec())),
        "dict" => {
            let mut entries = Vec::new();
            for pair in args.chunks(2) {
                let [Value::Text(key), value] = pair else {
                    return Err("dict wants pairs of a string and a value".into());
                };
                entries.push((key.to_string(), value.clone()));
            }
            Ok(Value::map(entries))
        }
        "date" => match (text(args, 0)?, arg(args, 1)?) {
            (layout, Value::Time(time)) => Ok(Value::text(time.format(layout))),
            (_, other) => Err(format!("date wants a time, not {}", other.type_name())),
        },
        "tz" => match (text(args, 0)?, arg(args, 1)?) {
            (zone, Value::Time(time)) => time.in_zone(zone).map(Value::Time),
            (_, other) => Err(format!("tz wants a time, not {}", other.type_name())),
        },
        "since" => match arg(args, 0)? {
            Value::Time(time) => {
                Ok(Value::Duration(functions.now.micros().saturating_sub(time.micros()).saturating_mul(1_000)))
            }
            other => Err(format!("since wants a time, not {}", other.type_name())),
        },
        "urlUnescape" => Ok(Value::text(unescape_url(text(args, 0)?)?)),
        "toJson" => Ok(Value::text(json(arg(args, 0)?).to_string())),
        _ => Err(format!("function {name:?} not defined")),
    }
}

fn equal(args: &[Value]) -> Answer {
    let first = arg(args, 0)?;
    arg(args, 1)?;
    for other in &args[1..] {
        if same(first, other)? {
            return Ok(Value::Bool(true));
        }
    }
    Ok(Value::Bool(false))
}

fn same(a: &Value, b: &Value) -> Result<bool, String> {
    Ok(match (a, b) {
        (Value::Bool(a), Value::Bool(b)) => a == b,
        (Value::Int(a), Value::Int(b)) | (Value::Duration(a), Value::Duration(b)) => a == b,
        (Value::Duration(a), Value::Int(b)) | (Value::Int(a), Value::Duration(b)) => a == b,
        (Value::Float(a), Value::Float(b)) => a == b,
        (Value::Text(a), Value::Text(b)) => a == b,
        (Value::Time(a), Value::Time(b)) => a == b,
        (Value::Nil, Value::Nil) => true,
        (Value::Nil, _) | (_, Value::Nil) => false,
        (Value::List(_) | Value::Labels(_) | Value::Map(_), _) => {
            return Err(format!("non-comparable type {}: {a}", a.type_name()));
        }
        _ => return Err("incompatible types for comparison".into()),
    })
}

fn compare(args: &[Value], decide: impl Fn(Option<Ordering>) -> bool) -> Answer {
    exactly(args, 2)?;
    let order = match (&args[0], &args[1]) {
        (Value::Int(a) | Value::Duration(a), Value::Int(b) | Value::Duration(b)) => Some(a.cmp(b)),
        (Value::Float(a), Value::Float(b)) => a.partial_cmp(b),
        (Value::Text(a), Value::Text(b)) => Some(a.cmp(b)),
        (Value::Nil | Value::Bool(_) | Value::List(_) | Value::Labels(_) | Value::Map(_) | Value::Struct(_), _) => {
            return Err("invalid type for comparison".into());
        }
        _ => return Err("incompatible types for comparison".into()),
    };
    Ok(Value::Bool(decide(order)))
}

fn index(args: &[Value]) -> Answer {
    let mut value = arg(args, 0)?.clone();
    for key in &args[1..] {
        value = match (&value, key) {
            (Value::List(items), Value::Int(at)) => usize::try_from(*at)
                .ok()
                .and_then(|at| items.get(at).cloned())
                .ok_or_else(|| format!("index out of range: {at}"))?,
            (Value::Text(text), Value::Int(at)) => usize::try_from(*at)
                .ok()
                .and_then(|at| text.as_bytes().get(at))
                .map(|byte| Value::Int(i64::from(*byte)))
                .ok_or_else(|| format!("index out of range: {at}"))?,
            (Value::Labels(map), Value::Text(key)) => Value::Text(map.get(key).cloned().unwrap_or_else(|| "".into())),
            (Value::Map(map), Value::Text(key)) => map.get(key).cloned().unwrap_or_default(),
            (Value::Nil, _) => return Err("index of untyped nil".into()),
            (value, key) => {
                return Err(format!("can't index item of type {} with {}", value.type_name(), key.type_name()));
            }
        };
    }
    Ok(value)
}

fn slice(args: &[Value]) -> Answer {
    let value = arg(args, 0)?;
    let len = match value {
        Value::Text(_) | Value::List(_) => value.len().unwrap_or(0),
        other => return Err(format!("can't slice item of type {}", other.type_name())),
    };
    let bound = |at: usize, default: usize| match args.get(at) {
        None => Ok(default),
        Some(Value::Int(bound)) => {
            usize::try_from(*bound).ok().filter(|bound| *bound <= len).ok_or(format!("index out of range: {bound}"))
        }
        Some(other) => Err(format!("cannot index slice/array with type {}", other.type_name())),
    };
    let (from, to) = (bound(1, 0)?, bound(2, len)?);
    if from > to {
        return Err(format!("invalid slice index: {from} > {to}"));
    }
    match value {
        Value::List(items) => Ok(Value::List(items[from..to].into())),
        Value::Text(text) => Ok(Value::text(String::from_utf8_lossy(&text.as_bytes()[from..to]))),
        _ => Ok(Value::Nil),
    }
}

fn sample_label(sample: &Value, name: &str) -> Answer {
    let labels = field(sample, "Labels", &[])?;
    index(&[labels, Value::text(name)])
}

/// `%.4g`
fn g4(value: f64) -> String {
    format::float(value, 'g', Some(4))
}

fn scaled_down(mut value: f64, unit: &str) -> String {
    let mut prefix = "";
    for next in ["m", "u", "n", "p", "f", "a", "z", "y"] {
        if value.abs() >= 1.0 {
            break;
        }
        prefix = next;
        value *= 1_000.0;
    }
    format!("{}{prefix}{unit}", g4(value))
}

/// `humanize`: 4 digits and an SI prefix.
pub fn humanize(mut value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return g4(value);
    }
    if value.abs() < 1.0 {
        return scaled_down(value, "");
    }
    let mut prefix = "";
    for next in ["k", "M", "G", "T", "P", "E", "Z", "Y"] {
        if value.abs() < 1_000.0 {
            break;
        }
        prefix = next;
        value /= 1_000.0;
    }
    format!("{}{prefix}", g4(value))
}

fn humanize_1024(mut value: f64) -> String {
    if value.abs() <= 1.0 || !value.is_finite() {
        return g4(value);
    }
    let mut prefix = "";
    for next in ["ki", "Mi", "Gi", "Ti", "Pi", "Ei", "Zi", "Yi"] {
        if value.abs() < 1_024.0 {
            break;
        }
        prefix = next;
        value /= 1_024.0;
    }
    format!("{}{prefix}", g4(value))
}

/// `humanizeDuration` of seconds: `1d 2h 3m 4s`, `59.12s`, `500ms`.
pub fn humanize_duration(value: f64) -> String {
    if !value.is_finite() {
        return g4(value);
    }
    if value == 0.0 {
        return "0s".into();
    }
    if value.abs() < 1.0 {
        return scaled_down(value, "s");
    }
    let sign = if value < 0.0 { "-" } else { "" };
    let whole = value.abs() as i64;
    let (days, hours, minutes, seconds) = (whole / 86_400, whole / 3_600 % 24, whole / 60 % 60, whole % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{sign}{}s", g4(value.abs())),
        (0, 0, _) => format!("{sign}{minutes}m {seconds}s"),
        (0, _, _) => format!("{sign}{hours}h {minutes}m {seconds}s"),
        _ => format!("{sign}{days}d {hours}h {minutes}m {seconds}s"),
    }
}

fn title(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut start = true;
    for c in text.chars() {
        if start {
            out.extend(c.to_uppercase())
        } else {
            out.push(c)
        }
        start = !(c.is_alphanumeric() || c == '_' || c == '\'');
    }
    out
}

/// `net.SplitHostPort`; `None` where Go reports an error.
fn split_host_port(text: &str) -> Option<(&str, &str)> {
    let colon = text.rfind(':')?;
    let (host, port) = (&text[..colon], &text[colon + 1..]);
    if let Some(rest) = host.strip_prefix('[') {
        return rest.strip_suffix(']').map(|host| (host, port));
    }
    (!host.contains([':', '[', ']'])).then_some((host, port))
}

fn strip_domain(text: &str) -> String {
    let (host, port) = split_host_port(text).unwrap_or((text, ""));
    if host.parse::<IpAddr>().is_ok() {
        return text.into();
    }
    let host = host.split('.').next().unwrap_or("");
    if port.is_empty() { host.into() } else { format!("{host}:{port}") }
}

/// `strutil.TableLinkForExpression` and `GraphLinkForExpression`.
pub fn graph_link(expression: &str, table: bool) -> String {
    format!("/graph?g0.expr={}&g0.tab={}", gotmpl::url_encode(expression), u8::from(table))
}

fn url_path(url: &str) -> &str {
    let after = url.split_once("://").map_or(url, |(_, rest)| rest);
    after.find('/').map_or("", |slash| after[slash..].split(['?', '#']).next().unwrap_or(""))
}

fn unescape_url(text: &str) -> Result<String, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        match (first, tail) {
            (b'%', [high, low, after @ ..]) => {
                let digits = [*high, *low];
                let byte = std::str::from_utf8(&digits).ok().and_then(|digits| u8::from_str_radix(digits, 16).ok());
                bytes.push(byte.ok_or_else(|| format!("invalid URL escape in {text:?}"))?);
                rest = after;
            }
            (b'%', _) => return Err(format!("invalid URL escape in {text:?}")),
            (b'+', after) => {
                bytes.push(b' ');
                rest = after;
            }
            (other, after) => {
                bytes.push(*other);
                rest = after;
            }
        }
    }
    String::from_utf8(bytes).map_err(|error| error.to_string())
}

fn json(value: &Value) -> serde_json::Value {
    use serde_json::Value as Json;
    match value {
        Value::Nil => Json::Null,
        Value::Bool(value) => Json::Bool(*value),
        Value::Int(value) | Value::Duration(value) => (*value).into(),
        Value::Float(value) => serde_json::Number::from_f64(*value).map_or(Json::Null, Json::Number),
        Value::Text(text) => Json::String(text.to_string()),
        Value::List(items) => Json::Array(items.iter().map(json).collect()),
        Value::Labels(map) => {
            Json::Object(map.iter().map(|(key, value)| (key.to_string(), Json::String(value.to_string()))).collect())
        }
        Value::Map(map) => Json::Object(map.iter().map(|(key, value)| (key.to_string(), json(value))).collect()),
        Value::Struct(value) => {
            let key = |key: &str| json_key(value.type_name, key);
            Json::Object(value.fields.iter().map(|(name, value)| (key(name), json(value))).collect())
        }
        Value::Time(time) => Json::String(time.format("2006-01-02T15:04:05.999999999Z07:00")),
    }
}

/// The key of a field in JSON: Alertmanager's data has tags that begin with a small letter, other structs have none.
fn json_key(type_name: &str, field: &str) -> String {
    match type_name {
        "template.Alert" | "template.Data" => {
            let mut letters = field.chars();
            letters.next().map(|first| first.to_ascii_lowercase()).into_iter().chain(letters).collect()
        }
        _ => field.to_owned(),
    }
}

/// A field or a method of a value.
pub(super) fn field(value: &Value, name: &str, args: &[Value]) -> Answer {
    if let Some(answer) = method(value, name, args) {
        return answer;
    }
    if !args.is_empty() {
        return Err(format!("{name} has arguments but cannot be invoked as function"));
    }
    match value {
        Value::Labels(map) => Ok(Value::Text(map.get(name).cloned().unwrap_or_else(|| "".into()))),
        Value::Map(map) => Ok(map.get(name).cloned().unwrap_or_default()),
        Value::Struct(data) => data
            .fields
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, value)| value.clone())
            .ok_or_else(|| format!("can't evaluate field {name} in type {}", data.type_name)),
        Value::Nil => Err(format!("nil data; no entry for key {}", format::quote(name))),
        other => Err(format!("can't evaluate field {name} in type {}", other.type_name())),
    }
}

fn method(value: &Value, name: &str, args: &[Value]) -> Option<Answer> {
    let pair = |name: &Arc<str>, value: &Arc<str>| {
        let fields = vec![("Name", Value::Text(name.clone())), ("Value", Value::Text(value.clone()))];
        Value::structure("template.Pair", fields)
    };
    match (value, name) {
        (Value::Time(time), _) => time.method(name, args),
        (Value::Duration(nanos), _) => duration_method(*nanos, name).map(Ok),
        (Value::Labels(map), "SortedPairs") => {
            // alertname comes first, as in Alertmanager.
            let first = map.get_key_value("alertname");
            let rest = map.iter().filter(|(key, _)| &***key != "alertname");
            Some(Ok(Value::list(first.into_iter().chain(rest).map(|(key, value)| pair(key, value)).collect())))
        }
        (Value::Labels(map), "Names") => {
            let pairs = Value::Labels(map.clone());
            Some(method(&pairs, "SortedPairs", &[])?.and_then(|pairs| column(&pairs, "Name")))
        }
        (Value::Labels(map), "Values") => {
            let pairs = Value::Labels(map.clone());
            Some(method(&pairs, "SortedPairs", &[])?.and_then(|pairs| column(&pairs, "Value")))
        }
        (Value::Labels(map), "Remove") => Some(match args {
            [Value::List(names)] => {
                let mut kept = map.as_ref().clone();
                for name in names.iter().filter_map(Value::as_str) {
                    kept.remove(name);
                }
                Ok(Value::Labels(Arc::new(kept)))
            }
            _ => Err("Remove wants a list of names: (stringSlice \"a\" \"b\")".into()),
        }),
        (Value::List(_), "Names") => Some(column(value, "Name")),
        (Value::List(_), "Values") => Some(column(value, "Value")),
        (Value::List(items), "Firing" | "Resolved") => {
            let wanted = name.to_ascii_lowercase();
            let is =
                |item: &&Value| field(item, "Status", &[]).is_ok_and(|status| status.as_str() == Some(wanted.as_str()));
            Some(Ok(Value::list(items.iter().filter(is).cloned().collect())))
        }
        _ => None,
    }
}

fn column(pairs: &Value, name: &str) -> Answer {
    let Value::List(items) = pairs else { return Ok(Value::Nil) };
    items.iter().map(|item| field(item, name, &[])).collect::<Result<Vec<_>, _>>().map(Value::list)
}
