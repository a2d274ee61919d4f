//! Messages that are no events: answers to the subscription, greetings, heartbeats of the application.

use crate::config::schema::IgnoredMessage;
use memchr::memmem::Finder;
use serde_json::Value;

/// What is passed over.
pub(super) struct Ignore {
    rules: Vec<Rule>,
}

struct Rule {
    /// Stands in every message that the rule can match: most messages are told apart without being parsed.
    needle: Finder<'static>,
    fields: Vec<(Vec<String>, Value)>,
}

impl Ignore {
    pub fn new(ignored: &[IgnoredMessage]) -> Self {
        let rule = |message: &IgnoredMessage| {
            let path = |path: &String| path.split('.').map(str::to_owned).collect();
            let fields: Vec<_> = message.fields.iter().map(|(name, value)| (path(name), value.clone())).collect();
            Rule { needle: Finder::new(&needle(&fields)).into_owned(), fields }
        };
        Self { rules: ignored.iter().map(rule).collect() }
    }

    /// Whether the message is none that counts.
    pub fn is_match(&self, payload: &[u8]) -> bool {
        let mut possible = self.rules.iter().filter(|rule| rule.needle.find(payload).is_some()).peekable();
        if possible.peek().is_none() {
            return false;
        }
        let Ok(message) = serde_json::from_slice::<Value>(payload) else { return false };
        possible.any(|rule| {
            rule.fields.iter().all(|(path, wanted)| {
                let mut at = Some(&message);
                for name in path {
                    at = at.and_then(|value| value.get(name));
                }
                at.is_some_and(|found| same(found, wanted))
            })
        })
    }
}

/// A text that every match contains: letters and digits of a value are never escaped by anybody who is sane, but may be
/// (RFC 8259, section 7); so only the first field's value of plain letters serves, else any message is looked at.
fn needle(fields: &[(Vec<String>, Value)]) -> Vec<u8> {
    let plain = |value: &Value| match value {
        Value::String(text) if text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') => {
            Some(text.clone().into_bytes())
        }
        Value::Bool(_) => Some(value.to_string().into_bytes()),
        _ => None,
    };
    fields.iter().filter_map(|(_, value)| plain(value)).max_by_key(Vec::len).unwrap_or_default()
}

/// Numbers are alike when their values are (1 and 1.0).
fn same(found: &Value, wanted: &Value) -> bool {
    match (found.as_f64(), wanted.as_f64()) {
        (Some(found), Some(wanted)) => found == wanted,
        _ => found == wanted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(rules: &[&[(&str, Value)]], message: &str, ignored: bool) {
        let rule = |fields: &&[(&str, Value)]| IgnoredMessage {
            fields: fields.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect(),
        };
        let rules: Vec<IgnoredMessage> = rules.iter().map(rule).collect();
        assert_eq!(Ignore::new(&rules).is_match(message.as_bytes()), ignored, "{message}");
    }

    #[test]
    fn every_field_of_a_rule_and_any_rule() {
        let ack: &[(&str, Value)] = &[("type", json!("ack"))];
        let both: &[(&str, Value)] = &[("meta.kind", json!("reply")), ("ok", json!(true))];
        let numbered: &[(&str, Value)] = &[("op", json!(11))];
        for (message, ignored) in [
            (r#"{"type":"ack","id":1}"#, true),
            (r#"{"type":"acknowledged"}"#, false),
            (r#"{"type":"order","note":"ack"}"#, false),
            (r#"{"meta":{"kind":"reply"},"ok":true}"#, true),
            (r#"{"meta":{"kind":"reply"},"ok":false}"#, false),
            (r#"{"op":11.0}"#, true),
            (r#"{"op":"11"}"#, false),
            ("ack", false),
            (r#"[{"type":"ack"}]"#, false),
        ] {
            check(&[ack, both, numbered], message, ignored);
        }
        check(&[], r#"{"type":"ack"}"#, false);
    }
}
