//! JSON whose texts are templates: `payload` of webhooks, `details` of PagerDuty.

use super::render::Renderer;
use crate::config::Diagnostics;
use crate::config::yaml::{self, Kind, Node};
use crate::template::Template;
use serde_json::Value;

/// Levels of nesting.
const MAX_DEPTH: usize = 32;

/// A JSON value whose texts are rendered when it is sent.
#[derive(Clone, Debug, PartialEq)]
pub enum Payload {
    /// A text. Where what it renders to reads as anything but a text (a number, `true`, a list, a mapping), that stands in
    /// the result, as in Alertmanager (template.DeepCopyWithTemplate).
    Text(Template),
    /// A number, a boolean or null.
    Fixed(Value),
    /// A list.
    List(Vec<Payload>),
    /// A mapping, in order.
    Map(Vec<(String, Payload)>),
}

impl Payload {
    /// Reads one from the configuration; `template` reads its texts and reports what is wrong with them.
    pub(super) fn read(
        node: &Node,
        found: &mut Diagnostics,
        template: &mut dyn FnMut(&Node, &mut Diagnostics) -> Option<Template>,
    ) -> Option<Self> {
        Some(match &node.kind {
            Kind::Scalar { .. } => match scalar(node) {
                Value::String(_) => Self::Text(template(node, found)?),
                fixed => Self::Fixed(fixed),
            },
            Kind::Seq(items) => {
                let read = items.iter().map(|item| Self::read(item, found, template));
                Self::List(read.collect::<Option<_>>()?)
            }
            Kind::Map(entries) => {
                let mut out = Vec::with_capacity(entries.len());
                for (key, value) in entries {
                    out.push((key.as_str().unwrap_or_default().to_owned(), Self::read(value, found, template)?));
                }
                Self::Map(out)
            }
        })
    }

    /// The JSON of one message.
    pub(super) fn render(&self, renderer: &Renderer<'_>) -> Value {
        match self {
            Self::Text(template) => inline(renderer.text(template)),
            Self::Fixed(value) => value.clone(),
            Self::List(items) => items.iter().map(|item| item.render(renderer)).collect(),
            Self::Map(entries) => entries
                .iter()
                .map(|(key, value)| (key.clone(), value.render(renderer)))
                .collect::<serde_json::Map<_, _>>()
                .into(),
        }
    }
}

/// What a rendered text reads as.
pub(super) fn inline(text: String) -> Value {
    if text.trim().is_empty() {
        return Value::String(text);
    }
    let mut found = Diagnostics::new();
    match yaml::parse("payload", &text, &mut found) {
        Some(node) if !found.has_errors() => match json(&node, 0) {
            Some(Value::String(_)) | None => Value::String(text),
            Some(value) => value,
        },
        _ => Value::String(text),
    }
}

fn json(node: &Node, depth: usize) -> Option<Value> {
    if depth > MAX_DEPTH {
        return None;
    }
    Some(match &node.kind {
        Kind::Scalar { .. } => scalar(node),
        Kind::Seq(items) => Value::Array(items.iter().map(|item| json(item, depth + 1)).collect::<Option<_>>()?),
        Kind::Map(entries) => {
            let mut map = serde_json::Map::new();
            for (key, value) in entries {
                map.insert(key.as_str().unwrap_or_default().to_owned(), json(value, depth + 1)?);
            }
            Value::Object(map)
        }
    })
}

/// A scalar by YAML 1.2's core schema (section 10.3.2).
fn scalar(node: &Node) -> Value {
    let Kind::Scalar { text, plain } = &node.kind else { return Value::Null };
    if node.is_null() {
        return Value::Null;
    }
    if !plain {
        return text.as_str().into();
    }
    match text.as_str() {
        "true" | "True" | "TRUE" => return true.into(),
        "false" | "False" | "FALSE" => return false.into(),
        _ => {}
    }
    if let Ok(number) = text.parse::<i64>() {
        return number.into();
    }
    let numeric =
        text.bytes().all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b)) && text.bytes().any(|b| b.is_ascii_digit());
    match text.parse::<f64>().ok().filter(|_| numeric).and_then(serde_json::Number::from_f64) {
        Some(number) => Value::Number(number),
        None => text.as_str().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rendered_texts_become_what_they_read_as() {
        for (text, json) in [
            ("2", "2"),
            ("-1.5", "-1.5"),
            ("true", "true"),
            ("word", "\"word\""),
            ("", "\"\""),
            ("{\"a\": [1, \"2\"]}", "{\"a\":[1,\"2\"]}"),
            ("a: b", "{\"a\":\"b\"}"),
            ("[FIRING:1] Flip", "\"[FIRING:1] Flip\""),
            ("two words: {", "\"two words: {\""),
            ("+Inf", "\"+Inf\""),
        ] {
            assert_eq!(inline(text.to_owned()).to_string(), json, "{text}");
        }
    }
}
