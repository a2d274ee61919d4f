//! Events of the life cycle on their way to one target: what is kept, and the forms of CloudEvents 1.0.

use crate::config::schema::{Pattern, PublishConfig, PublishedKind};
use crate::engine::Told;
use regex::Regex;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What waits in the queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Published {
    pub event_type: String,
    pub id: String,
    pub subject: String,
    /// In structured mode.
    pub document: String,
}

impl Published {
    pub fn of(told: &Told) -> Self {
        Self {
            event_type: told.event_type.clone(),
            id: told.id.clone(),
            subject: told.subject.clone(),
            document: told.document.clone(),
        }
    }

    /// The attributes beside the data, and the data (CloudEvents 1.0, "HTTP Protocol Binding", section 3.1).
    pub fn binary(&self) -> (Vec<(String, String)>, Vec<u8>) {
        let Ok(Value::Object(event)) = serde_json::from_str(&self.document) else { return (Vec::new(), Vec::new()) };
        let mut attributes = Vec::new();
        let mut data = Vec::new();
        for (name, value) in event {
            match (name.as_str(), value) {
                ("data", value) => data = value.to_string().into_bytes(),
                ("datacontenttype", _) => {}
                (_, Value::String(text)) => attributes.push((name, text)),
                (_, other) => attributes.push((name, other.to_string())),
            }
        }
        (attributes, data)
    }
}

/// A header's value as the binding wants it: what is no printable ASCII, and `"`, `%`, is percent-encoded (section 3.1.3.2).
pub(super) fn percent_encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'"' | b'%' | 0..=0x20 | 0x7f.. => out.push_str(&format!("%{byte:02X}")),
            _ => out.push(char::from(byte)),
        }
    }
    out
}

/// Which events a publisher takes.
#[derive(Debug)]
pub(super) struct Wanted {
    kinds: Vec<PublishedKind>,
    patterns: Vec<Regex>,
}

impl Wanted {
    /// A pattern that is no regular expression was said by `check`; it matches nothing.
    pub fn new(config: &PublishConfig) -> Self {
        let regex = |pattern: &Pattern| match pattern {
            Pattern::Glob(glob) => {
                let parts: Vec<String> = glob
                    .value
                    .chars()
                    .map(|c| match c {
                        '*' => ".*".to_owned(),
                        '+' => "[^.]+".to_owned(),
                        c => regex::escape(c.encode_utf8(&mut [0; 4])),
                    })
                    .collect();
                Regex::new(&format!("^(?s:{})$", parts.concat())).ok()
            }
            Pattern::Regex(text) => Regex::new(&format!("^(?s:{})$", text.value)).ok(),
        };
        let none = Regex::new("^$").ok();
        let patterns = config.matches.iter().filter_map(|pattern| regex(pattern).or_else(|| none.clone())).collect();
        Self { kinds: config.events.clone(), patterns }
    }

    pub fn takes(&self, told: &Told) -> bool {
        let matches =
            || self.patterns.is_empty() || self.patterns.iter().any(|pattern| pattern.is_match(&told.event_type));
        self.kinds.contains(&told.kind) && matches()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binary_mode_has_attributes_beside_the_data() {
        let document = r#"{"specversion":"1.0","id":"1","type":"t","subject":"a \"b\" ä","datacontenttype":"application/json","data":{"x":1}}"#;
        let published =
            Published { event_type: "t".into(), id: "1".into(), subject: String::new(), document: document.into() };
        let (attributes, data) = published.binary();
        assert_eq!(data, br#"{"x":1}"#);
        let subject = attributes.iter().find(|(name, _)| name == "subject").unwrap();
        assert_eq!(percent_encoded(&subject.1), "a%20%22b%22%20%C3%A4");
        assert!(attributes.iter().all(|(name, _)| name != "datacontenttype"));
    }
}
