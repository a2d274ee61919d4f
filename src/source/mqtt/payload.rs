//! What devices publish is often no JSON object but a number or a word: it becomes the data of an event.

use serde::Deserialize;
use serde_json::value::RawValue;

/// Whether the message is a CloudEvent (CloudEvents MQTT binding): it is read as it is.
pub(super) fn is_cloudevent(properties: &[(&str, &str)], content_type: Option<&str>) -> bool {
    let structured = |media: &str| media.trim_start().to_ascii_lowercase().starts_with("application/cloudevents");
    content_type.is_some_and(structured) || properties.iter().any(|(name, _)| name.eq_ignore_ascii_case("specversion"))
}

/// `{"subject": TOPIC, "data": VALUE}` for a bare number, word or text. `None` for objects and arrays, for what is empty,
/// and for what is no text: these are taken, or refused, as they came.
pub(super) fn wrapped(payload: &[u8], topic: &str) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(payload).ok()?.trim();
    if text.is_empty() || text.starts_with(['{', '[', '\u{feff}']) {
        return None;
    }
    let value = match <&RawValue>::deserialize(&mut serde_json::Deserializer::from_str(text)) {
        Ok(value) if value.get().len() == text.len() => text.to_owned(),
        _ => serde_json::Value::from(text).to_string(),
    };
    Some(format!("{{\"subject\":{},\"data\":{value}}}", serde_json::Value::from(topic)).into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bare_values_become_data() {
        let check = |payload: &[u8], expected: Option<&str>| {
            let event = wrapped(payload, "a/b").map(|event| String::from_utf8(event).unwrap());
            let expected = expected.map(|data| format!(r#"{{"subject":"a/b","data":{data}}}"#));
            assert_eq!(event, expected, "{}", String::from_utf8_lossy(payload));
        };
        check(b"21.5", Some("21.5"));
        check(b" -4e2\n", Some("-4e2"));
        check(b"true", Some("true"));
        check(b"ON", Some("\"ON\""));
        check(b"\"quoted\"", Some("\"quoted\""));
        check(b"21.5 C", Some("\"21.5 C\""));
        check(b"say \"hi\"\\", Some(r#""say \"hi\"\\""#));
        check(b"007", Some("\"007\""));
        check("\u{1f600}".as_bytes(), Some("\"\u{1f600}\""));
        check(b"{\"a\":1}", None);
        check(b"[1]", None);
        check(b"{broken", None);
        check(b" ", None);
        check(b"", None);
        check(b"\xff\xfe", None);
    }

    #[test]
    fn cloudevents_are_left_alone() {
        assert!(is_cloudevent(&[("SpecVersion", "1.0")], None));
        assert!(is_cloudevent(&[], Some("application/cloudevents+json; charset=utf-8")));
        assert!(!is_cloudevent(&[("type", "x")], Some("application/json")));
    }
}
