//! Reading attributes from the values of a scanned document.

use super::shape::{At, Table, outcome_says_failed};
use super::{number, reason, when};
use crate::model::{Event, Field, Text, Timestamp, parse_duration_ms};

pub(super) fn priority(found: Found<'_>, field: Field) -> u8 {
    let named = match field {
        Field::Text(text) => match found.str(text) {
            name if name.eq_ignore_ascii_case("low") => Some(2),
            name if name.eq_ignore_ascii_case("normal") => Some(5),
            name if name.eq_ignore_ascii_case("high") => Some(8),
            name if name.eq_ignore_ascii_case("critical") => Some(10),
            _ => None,
        },
        _ => None,
    };
    named.or_else(|| found.number(field).map(|value| value.clamp(0.0, 10.0) as u8)).unwrap_or(5)
}

/// The values of a scanned document and the texts they point into.
#[derive(Clone, Copy)]
pub(super) struct Found<'a> {
    pub values: &'a [Field],
    pub buffer: &'a str,
    pub arena: &'a str,
}

impl<'a> Found<'a> {
    pub(super) fn str(self, text: Text) -> &'a str {
        text.resolve(self.buffer, self.arena)
    }

    /// The first that is neither absent nor null.
    pub(super) fn first_field(self, slots: &[u32]) -> Field {
        slots
            .iter()
            .map(|slot| self.values[*slot as usize])
            .find(|field| !matches!(field, Field::Missing | Field::Null))
            .unwrap_or_default()
    }

    /// The first text or number that is not empty.
    pub(super) fn first(self, slots: &[u32]) -> Text {
        for slot in slots {
            if let Field::Text(text) | Field::Number(_, text) = self.values[*slot as usize]
                && !self.str(text).is_empty()
            {
                return text;
            }
        }
        Text::NONE
    }

    pub(super) fn number(self, field: Field) -> Option<f64> {
        match field {
            Field::Number(value, _) => Some(value).filter(|value| value.is_finite()),
            Field::Text(text) => number::read(self.str(text)),
            _ => None,
        }
    }

    pub(super) fn hex(self, slots: &[u32], len: usize) -> Text {
        let text = self.first(slots);
        if is_id(self.str(text).as_bytes(), len) { text } else { Text::NONE }
    }

    /// `00-TRACE-SPAN-FLAGS` (W3C Trace Context, section 3.2.2).
    pub(super) fn traceparent(self, slots: &[u32]) -> Option<(Text, Text)> {
        let text = self.first(slots);
        let bytes = self.str(text).as_bytes();
        let framed = bytes.len() >= 55 && bytes[2] == b'-' && bytes[35] == b'-' && bytes[52] == b'-';
        if !framed || bytes.starts_with(b"ff") || !is_id(&bytes[3..35], 32) || !is_id(&bytes[36..52], 16) {
            return None;
        }
        Some((text.slice(3, 32), text.slice(36, 16)))
    }

    /// The outcome and whether it says failed. Where there are several, one that says failed counts.
    pub(super) fn outcome(self, slots: &[u32]) -> (Text, bool) {
        let mut first = Text::NONE;
        for slot in slots {
            let Field::Text(text) = self.values[*slot as usize] else { continue };
            if outcome_says_failed(self.str(text)) {
                return (text, true);
            }
            if first.is_none() && !self.str(text).is_empty() {
                first = text;
            }
        }
        (first, false)
    }

    pub(super) fn time(self, field: Field) -> (Option<Timestamp>, bool) {
        let read = match field {
            Field::Missing | Field::Null => return (None, false),
            Field::Text(text) => when::read(self.str(text)),
            Field::Number(value, text) => when::number(value, self.str(text)),
            _ => None,
        };
        (read, read.is_none())
    }

    /// `expires_at`, or `ttl` (seconds, or a duration such as 30s) after its arrival; whichever is earlier. Not after the
    /// event's own time: a file of yesterday's events, read today, would be empty.
    pub(super) fn expires(self, table: &Table, arrived: Timestamp) -> Timestamp {
        let at = match self.first_field(&table.expires_at) {
            Field::Missing => None,
            field => self.time(field).0,
        };
        let after = match self.first_field(&table.ttl) {
            Field::Missing => None,
            field => self.number(field).or_else(|| match field {
                Field::Text(text) => parse_duration_ms(self.str(text)).ok().map(|ms| ms as f64 / 1e3),
                _ => None,
            }),
        };
        // 0 stands for "for ever" in most brokers; nothing is worth nothing from the start.
        let after = after.filter(|seconds| *seconds > 0.0).map(|seconds| arrived.plus_micros((seconds * 1e6) as i64));
        at.into_iter().chain(after).min().unwrap_or(Event::NEVER)
    }

    /// CloudEvents 1.0, section "REQUIRED attributes".
    pub(super) fn check_cloudevent(self) -> Result<(), (&'static str, String)> {
        for (name, at) in [("id", At::Id), ("source", At::Source), ("type", At::Type), ("specversion", At::SpecVersion)]
        {
            let text = match self.values[at as usize] {
                Field::Text(text) => self.str(text),
                _ => "",
            };
            if text.is_empty() {
                let message = format!("a CloudEvent needs the attribute {name:?}, a text that is not empty");
                return Err((reason::INVALID_CLOUDEVENT, message));
            }
            if at == At::SpecVersion && !text.starts_with("1.") {
                let message = format!("CloudEvents {text:?} is not supported: specversion must be \"1.0\"");
                return Err((reason::INVALID_CLOUDEVENT, message));
            }
        }
        Ok(())
    }
}

fn is_id(bytes: &[u8], len: usize) -> bool {
    bytes.len() == len && bytes.iter().all(u8::is_ascii_hexdigit) && bytes.iter().any(|byte| *byte != b'0')
}
