//! CloudEvents in binary mode: attributes beside the body (HTTP headers, message properties). They are written as one
//! structured event, so that everything behind this point knows one form.

use super::shape::is_json;
use base64::Engine as _;

/// The structured event (CloudEvents 1.0, JSON event format) of a binary one. `is_valid` says whether the body is one
/// JSON value.
///
/// # Errors
/// Why the body cannot be the data of the event.
pub(super) fn structured(
    attributes: &[(String, String)],
    content_type: Option<&str>,
    body: &[u8],
    is_valid: impl Fn(&[u8]) -> Result<(), String>,
) -> Result<Vec<u8>, String> {
    let mut out = Vec::with_capacity(body.len() + 256);
    out.push(b'{');
    let write = |out: &mut Vec<u8>, name: &str, value: &str| {
        if out.len() > 1 {
            out.push(b',');
        }
        out.extend_from_slice(quoted(name).as_bytes());
        out.push(b':');
        out.extend_from_slice(quoted(value).as_bytes());
    };
    for (name, value) in attributes {
        let name = attribute_name(name);
        // These three are the body's; an attribute must not speak in its place.
        if !matches!(name.as_str(), "data" | "data_base64" | "datacontenttype") {
            write(&mut out, &name, &percent_decoded(value));
        }
    }
    if let Some(content_type) = content_type {
        write(&mut out, "datacontenttype", content_type);
    }
    let json = match content_type {
        Some(content_type) => is_json(content_type),
        None => is_valid(body).is_ok(),
    };
    if body.is_empty() {
    } else if json {
        is_valid(body)?;
        out.extend_from_slice(b",\"data\":");
        out.extend_from_slice(body);
    } else if let Ok(text) = std::str::from_utf8(body) {
        write(&mut out, "data", text);
    } else {
        write(&mut out, "data_base64", &base64::engine::general_purpose::STANDARD.encode(body));
    }
    out.push(b'}');
    Ok(out)
}

/// `ce-type` (HTTP, NATS), `ce_type` (Kafka), `cloudEvents:type`, `cloudEvents_type` (AMQP) and plain `type` alike.
fn attribute_name(name: &str) -> String {
    let name = name.to_ascii_lowercase();
    for prefix in ["ce-", "ce_", "cloudevents:", "cloudevents_"] {
        if let Some(rest) = name.strip_prefix(prefix) {
            return rest.to_owned();
        }
    }
    name
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// HTTP protocol binding, section 3.1.3.2: quotes around it are taken off, then %XX is decoded; what is not UTF-8
/// afterwards becomes U+FFFD.
fn percent_decoded(value: &str) -> String {
    let value = value.strip_prefix('"').and_then(|inner| inner.strip_suffix('"')).unwrap_or(value);
    let (mut out, mut rest) = (Vec::with_capacity(value.len()), value.as_bytes());
    while let [first, tail @ ..] = rest {
        let code = tail.get(..2).filter(|_| *first == b'%').and_then(|two| std::str::from_utf8(two).ok());
        match code.filter(|two| two.bytes().all(|byte| byte.is_ascii_hexdigit())) {
            Some(two) => {
                out.push(u8::from_str_radix(two, 16).unwrap_or(b'?'));
                rest = &tail[2..];
            }
            None => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_values_are_percent_decoded() {
        for (value, decoded) in [
            ("Euro%20%E2%82%AC%20%F0%9F%98%80", "Euro € 😀"),
            ("100%", "100%"),
            ("%zz%4", "%zz%4"),
            ("\"quoted\"", "quoted"),
            ("%ff", "\u{fffd}"),
        ] {
            assert_eq!(percent_decoded(value), decoded);
        }
        assert_eq!(attribute_name("Ce-Type"), "type");
        assert_eq!(attribute_name("cloudEvents:source"), "source");
    }
}
