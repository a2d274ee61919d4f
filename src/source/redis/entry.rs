//! What an entry of a stream says: JSON in one of its fields, or its fields.

use super::resp::{Item, Reader};
use serde::Deserialize;
use serde::de::IgnoredAny;

/// Fields that may hold the whole event, in this order.
const WHOLE: [&[u8]; 3] = [b"event", b"data", b"payload"];
/// Fields that name the type: with one of them beside it, a `data` or `payload` without a type of its own is the event's
/// data, not the event.
const TYPES: [&[u8]; 2] = [b"type", b"event_type"];

/// One field of an entry.
#[derive(Clone, Copy, Debug)]
struct Field<'a> {
    name: &'a [u8],
    value: &'a [u8],
}

/// What became of an entry's fields.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Content<'a> {
    /// An event.
    Event(&'a [u8]),
    /// A field was larger than an event may be: its bytes.
    TooLong(u64),
    /// The entry was deleted while it was pending.
    Gone,
}

/// Reads the array of fields and values at the reader's place; `None` when there is none. An event that is made of fields
/// is written to `built`.
pub(super) fn content<'b, 'r: 'b>(reader: &mut Reader<'r>, built: &'b mut Vec<u8>) -> Option<Content<'b>> {
    let count = match reader.item()? {
        Item::Array(count) => count,
        Item::Nil => return Some(Content::Gone),
        _ => return None,
    };
    let mut fields: smallvec::SmallVec<[Field<'r>; 8]> = smallvec::SmallVec::new();
    let mut too_long = None;
    for _ in 0..count / 2 {
        match (reader.item()?, reader.item()?) {
            (Item::Bulk(name), Item::Bulk(value)) => fields.push(Field { name, value }),
            (Item::TooLong(bytes), _) | (_, Item::TooLong(bytes)) => too_long = Some(bytes),
            _ => return None,
        }
    }
    if let Some(bytes) = too_long {
        return Some(Content::TooLong(bytes));
    }
    let document =
        WHOLE.iter().find_map(|name| fields.iter().find(|field| field.name == *name && is_document(field.value)));
    let typed = || fields.iter().any(|field| TYPES.contains(&field.name));
    match document {
        Some(field) if field.name == WHOLE[0] || !typed() || names_type(field.value) => {
            Some(Content::Event(field.value))
        }
        _ => {
            built.clear();
            build(&fields, document.map(|field| field.name), built);
            Some(Content::Event(built))
        }
    }
}
/// Whether a text is meant to be a JSON object or a list of them. When it is broken, it is refused as such.
fn is_document(value: &[u8]) -> bool {
    matches!(value.iter().find(|byte| !byte.is_ascii_whitespace()), Some(b'{' | b'['))
}

/// Whether a document names its type itself; one that cannot be read does not ask.
fn names_type(value: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Typed {
        #[serde(rename = "type")]
        plain: Option<IgnoredAny>,
        event_type: Option<IgnoredAny>,
        event: Option<IgnoredAny>,
    }
    serde_json::from_slice::<Typed>(value)
        .is_ok_and(|typed| typed.plain.is_some() || typed.event_type.is_some() || typed.event.is_some())
}

/// A JSON object of the fields. Numbers stay numbers, `document` is put in as it is, everything else is text.
fn build(fields: &[Field<'_>], document: Option<&[u8]>, out: &mut Vec<u8>) {
    let text = |text: &[u8], out: &mut Vec<u8>| {
        // Writing into memory does not fail.
        let _ = serde_json::to_writer(out, &String::from_utf8_lossy(text));
    };
    out.push(b'{');
    for (at, field) in fields.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        text(field.name, out);
        out.push(b':');
        if is_number(field.value) || document == Some(field.name) {
            out.extend_from_slice(field.value);
        } else {
            text(field.value, out);
        }
    }
    out.push(b'}');
}

/// Whether a text is a number of JSON (RFC 8259, section 6).
fn is_number(value: &[u8]) -> bool {
    let digits = |text: &[u8]| text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let rest = value.strip_prefix(b"-").unwrap_or(value);
    let whole = digits(rest);
    if whole == 0 || (whole > 1 && rest[0] == b'0') {
        return false;
    }
    let mut rest = &rest[whole..];
    if let Some(fraction) = rest.strip_prefix(b".") {
        let count = digits(fraction);
        if count == 0 {
            return false;
        }
        rest = &fraction[count..];
    }
    if let Some(exponent) = rest.strip_prefix(b"e").or_else(|| rest.strip_prefix(b"E")) {
        let exponent = exponent.strip_prefix(b"+").or_else(|| exponent.strip_prefix(b"-")).unwrap_or(exponent);
        return !exponent.is_empty() && digits(exponent) == exponent.len();
    }
    rest.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::redis::resp::command;

    /// The event that an entry of these fields and values is.
    fn check(words: &[&str], expected: &str) {
        let mut bytes = Vec::new();
        let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
        command(&mut bytes, &words);
        let mut built = Vec::new();
        let content = content(&mut Reader::new(&bytes, 100), &mut built).unwrap();
        let said = match content {
            Content::Event(event) => String::from_utf8_lossy(event).into_owned(),
            other => format!("{other:?}"),
        };
        assert_eq!(said, expected);
    }

    #[test]
    fn json_in_a_field_is_the_event() {
        check(&["event", r#"{"type":"a"}"#], r#"{"type":"a"}"#);
        check(&["x", "1", "payload", " [1]"], " [1]");
        check(&["payload", r#"{"p":1}"#, "data", r#"{"d":1}"#, "event", r#"{"e":1}"#], r#"{"e":1}"#);
        check(&["payload", r#"{"p":1}"#, "data", r#"{"d":1}"#], r#"{"d":1}"#);
        check(&["data", "{broken"], "{broken");
        check(&["data", &format!("{{{}", "x".repeat(100))], "TooLong(101)");
        // Named from outside and from inside.
        check(
            &["type", "hint", "data", r#"{"type":"order.placed","payload":{}}"#],
            r#"{"type":"order.placed","payload":{}}"#,
        );
        check(&["type", "order.placed", "data", r#"{"amount":5}"#], r#"{"type":"order.placed","data":{"amount":5}}"#);
        check(&["type", "hint", "event", r#"{"amount":5}"#], r#"{"amount":5}"#);
    }

    #[test]
    fn fields_are_the_event_and_numbers_stay_numbers() {
        check(
            &[
                "type",
                "order.placed",
                "amount",
                "5",
                "n",
                "-0.5e+3",
                "code",
                "007",
                "ok",
                "true",
                "q",
                "a\"b",
                "data",
                "text",
            ],
            r#"{"type":"order.placed","amount":5,"n":-0.5e+3,"code":"007","ok":"true","q":"a\"b","data":"text"}"#,
        );
        for (text, number) in [
            ("0", true),
            ("-0", true),
            ("10.25", true),
            ("1e5", true),
            ("1E-5", true),
            ("", false),
            ("-", false),
            ("01", false),
            ("1.", false),
            (".5", false),
            ("1e", false),
            ("1e5x", false),
            ("+1", false),
            ("NaN", false),
            ("0x10", false),
            ("1 ", false),
        ] {
            assert_eq!(is_number(text.as_bytes()), number, "{text:?}");
        }
    }
}
