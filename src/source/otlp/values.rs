//! Values of attributes as texts and as JSON.

use super::model::{Any, Attributes};
use base64::Engine as _;
use serde_json::{Map, Value};

/// As a label's value: texts as they are, numbers in their shortest form, lists and mappings as JSON, bytes in base64.
pub fn text(value: &Any) -> String {
    match value {
        Any::None => String::new(),
        Any::Text(text) => text.clone(),
        Any::Bool(value) => value.to_string(),
        Any::Int(value) => value.to_string(),
        Any::Double(value) => number(*value),
        Any::Bytes(bytes) => base64::engine::general_purpose::STANDARD.encode(bytes),
        Any::List(_) | Any::Map(_) => json(value).to_string(),
    }
}

/// As JSON; what JSON has no number for is a text.
pub fn json(value: &Any) -> Value {
    match value {
        Any::None => Value::Null,
        Any::Bool(value) => (*value).into(),
        Any::Int(value) => (*value).into(),
        Any::Double(value) if value.is_finite() => (*value).into(),
        Any::List(items) => items.iter().map(json).collect::<Vec<Value>>().into(),
        Any::Map(entries) => object(entries).into(),
        Any::Text(_) | Any::Double(_) | Any::Bytes(_) => text(value).into(),
    }
}

/// Attributes as an object; of a name that comes twice the last value.
pub fn object(attributes: &Attributes) -> Map<String, Value> {
    attributes.iter().map(|(name, value)| (name.clone(), json(value))).collect()
}

/// A number as Prometheus prints it.
pub fn number(value: f64) -> String {
    match value {
        _ if value.is_nan() => "NaN".into(),
        f64::INFINITY => "+Inf".into(),
        f64::NEG_INFINITY => "-Inf".into(),
        _ => value.to_string(),
    }
}

/// As trace ids are written.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}
