//! DogStatsD's events and service checks: `_e{title bytes,text bytes}:title|text|...` and `_sc|name|status|...`.

use crate::source::counts::ReportedCheck;
use serde_json::{Map, Value, json};

/// The type of an event.
const EVENT: &str = "statsd.event";
/// The type of a service check.
const SERVICE_CHECK: &str = "statsd.service_check";

/// `_e{5,4}:title|text|d:seconds|h:host|k:aggregation key|p:priority|s:source type|t:alert type|#tags`, as a document of the
/// event stream. `None` when it is not that.
pub fn event(line: &[u8]) -> Option<Value> {
    let text = String::from_utf8_lossy(line);
    // The lengths count bytes (DogStatsD says so), of what was sent.
    let (lengths, rest) = text.strip_prefix("_e{")?.split_once("}:")?;
    let (title_bytes, text_bytes) = lengths.split_once(',')?;
    let (title_bytes, text_bytes): (usize, usize) = (title_bytes.trim().parse().ok()?, text_bytes.trim().parse().ok()?);
    let title = rest.get(..title_bytes).filter(|title| !title.is_empty())?;
    let rest = rest.get(title_bytes..)?.strip_prefix('|')?;
    let body = rest.get(..text_bytes)?;
    let rest = rest.get(text_bytes..)?;
    if !rest.is_empty() && !rest.starts_with('|') {
        return None;
    }
    let mut data = Map::new();
    data.insert("title".into(), unescape(title).into());
    data.insert("text".into(), unescape(body).into());
    let mut document = Map::new();
    document.insert("type".into(), EVENT.into());
    let mut severity = "info";
    for part in rest.split('|').skip(1) {
        match part.split_once(':') {
            _ if part.starts_with('#') => drop(data.insert("tags".into(), tags(&part[1..]))),
            Some(("d", seconds)) => drop(document.insert("time".into(), json!(seconds.parse::<i64>().ok()?))),
            Some(("h", host)) => drop(data.insert("host".into(), host.into())),
            Some(("k", key)) => drop(data.insert("aggregation_key".into(), key.into())),
            Some(("p", priority)) => drop(data.insert("priority".into(), priority.into())),
            Some(("s", kind)) => drop(data.insert("source_type_name".into(), kind.into())),
            Some(("t", kind)) => severity = alert_type(kind)?,
            // Where it came from.
            Some(("c" | "e" | "card", _)) => {}
            _ if part.is_empty() => {}
            _ => return None,
        }
    }
    data.insert("alert_type".into(), severity.into());
    document.insert("severity".into(), severity.into());
    document.insert("data".into(), data.into());
    Some(document.into())
}

fn alert_type(word: &str) -> Option<&'static str> {
    ["info", "success", "warning", "error"].into_iter().find(|known| *known == word)
}

/// `_sc|name|status|d:seconds|h:host|#tags|m:message`, as a document of the event stream and as what it says of health.
pub fn service_check(line: &[u8]) -> Option<(Value, ReportedCheck)> {
    let text = String::from_utf8_lossy(line);
    let mut parts = text.strip_prefix("_sc|")?.split('|');
    let name = parts.next().filter(|name| !name.is_empty())?;
    let status: u8 = parts.next()?.parse().ok().filter(|status| *status <= 3)?;
    let mut data = Map::new();
    data.insert("name".into(), name.into());
    data.insert("status_code".into(), status.into());
    data.insert("state".into(), ["ok", "warning", "critical", "unknown"][usize::from(status)].into());
    let mut document = Map::new();
    document.insert("type".into(), SERVICE_CHECK.into());
    document.insert("subject".into(), name.into());
    let mut message = String::new();
    for part in parts.by_ref() {
        match part.split_once(':') {
            _ if part.starts_with('#') => drop(data.insert("tags".into(), tags(&part[1..]))),
            Some(("d", seconds)) => drop(document.insert("time".into(), json!(seconds.parse::<i64>().ok()?))),
            Some(("h", host)) => drop(data.insert("host".into(), host.into())),
            Some(("m", said)) => {
                message = unescape(said);
                data.insert("message".into(), message.as_str().into());
            }
            Some(("c" | "e" | "card", _)) => {}
            _ if part.is_empty() => {}
            _ => return None,
        }
    }
    document.insert("severity".into(), ["info", "warning", "error", "unknown"][usize::from(status)].into());
    document.insert("data".into(), data.into());
    Some((document.into(), ReportedCheck { name: name.to_owned(), status, message }))
}

/// `k:v` under its name, a bare tag as `true`.
fn tags(text: &str) -> Value {
    let one = |tag: &str| match tag.split_once(':') {
        Some((name, value)) => (name.to_owned(), Value::from(value)),
        None => (tag.to_owned(), Value::Bool(true)),
    };
    text.split(',').filter(|tag| !tag.is_empty()).map(one).collect::<Map<String, Value>>().into()
}

/// A newline is written as a backslash and an n.
fn unescape(text: &str) -> String {
    text.replace("\\n", "\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check_event(line: &str, expected: &str) {
        assert_eq!(event(line.as_bytes()).map_or_else(|| "none".into(), |event| event.to_string()), expected, "{line}");
    }

    #[test]
    fn events() {
        check_event(
            "_e{21,36}:An exception occurred|Cannot parse CSV file from 10.0.0.17|t:warning|#err_type:bad_file,urgent",
            r#"{"type":"statsd.event","severity":"warning","data":{"title":"An exception occurred","text":"Cannot parse CSV file from 10.0.0.17","tags":{"err_type":"bad_file","urgent":true},"alert_type":"warning"}}"#,
        );
        check_event(
            "_e{5,4}:a|b|c|x\\ny|d:1700000000|h:web1|k:key|p:low|s:jenkins|t:error",
            r#"{"type":"statsd.event","time":1700000000,"severity":"error","data":{"title":"a|b|c","text":"x\ny","host":"web1","aggregation_key":"key","priority":"low","source_type_name":"jenkins","alert_type":"error"}}"#,
        );
        check_event("_e{5,4}:short|b", "none");
        check_event("_e{0,1}:|b", "none");
        check_event("_e{1,1}:a|b|t:loud", "none");
        check_event("_e{1}:a|b", "none");
    }

    #[test]
    fn service_checks() {
        let (document, check) =
            service_check(b"_sc|Redis connection|2|d:1700000000|h:web1|#env:dev|m:timed out after 10s").unwrap();
        assert_eq!(
            document.to_string(),
            r#"{"type":"statsd.service_check","subject":"Redis connection","time":1700000000,"severity":"error","data":{"name":"Redis connection","status_code":2,"state":"critical","host":"web1","tags":{"env":"dev"},"message":"timed out after 10s"}}"#
        );
        assert_eq!((check.status, check.message.as_str()), (2, "timed out after 10s"));
        for line in ["_sc|x", "_sc|x|4", "_sc||0", "_sc|x|0|what"] {
            assert_eq!(service_check(line.as_bytes()), None, "{line}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]
        #[test]
        fn no_bytes_are_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..60), lengths in "[0-9]{1,3},[0-9]{1,3}", rest in "[aé|:#\\\\]{0,30}") {
            let _ = event(&bytes);
            let _ = service_check(&bytes);
            let _ = event(format!("_e{{{lengths}}}:{rest}").as_bytes());
            let _ = service_check(format!("_sc|{rest}").as_bytes());
        }
    }
}
