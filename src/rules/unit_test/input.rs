//! `input_events` of a test.

use crate::config::reader::MapReader;
use crate::config::yaml::{self, Node};
use crate::config::{Diagnostics, Span};
use std::sync::Arc;

/// How often an input event may be repeated.
const MAX_TIMES: i64 = 100_000;
/// What stands beside the event itself.
const OWN: [&str; 4] = ["at", "every", "times", "via"];

/// An event that arrives: `{at: 10s, type: order.placed, payload: {...}}`, or with the event apart from what is said of it:
/// `{at: 10s, source: orders, event: {...}}`. `every: 1s` with `times: 5` repeats it.
#[derive(Clone, Debug)]
pub struct InputEvent {
    /// Where it stands.
    pub span: Span,
    /// When it arrives, in milliseconds from the start; its own time, when it has one, is used as it is.
    pub at_ms: i64,
    /// The source that it comes through: `source:` beside `event:`, else `via:`. `None` is the first one of the
    /// configuration.
    pub source: Option<Arc<str>>,
    /// The event as JSON.
    pub event: Arc<serde_json::Value>,
}

/// One entry, as often as it repeats.
pub(super) fn read(node: &Node, found: &mut Diagnostics) -> Option<Vec<InputEvent>> {
    let mut map = MapReader::new(node, "input event", found)?;
    let at = map.required_duration_ms("at");
    let every = map.duration_ms("every");
    let times = map.integer("times", 1..=MAX_TIMES);
    match (&every, &times) {
        (Some(every), None) => map.found().error_hint(&every.span, "every: how often?", "add times: 10"),
        (None, Some(times)) if times.value > 1 => {
            map.found().error_hint(&times.span, "times: how far apart?", "add every: 1s");
        }
        _ => {}
    }
    let apart = map.get("event").filter(|event| event.as_map().is_some());
    let (source, event) = if let Some(event) = apart {
        let source = map.string("source");
        map.finish();
        (source, json(event))
    } else {
        let via = map.string("via");
        let entries = node.as_map().unwrap_or_default().iter();
        let entries = entries.filter(|(key, _)| key.as_str().is_none_or(|key| !OWN.contains(&key)));
        let event: serde_json::Map<_, _> =
            entries.map(|(key, value)| (key.as_str().unwrap_or_default().to_owned(), json(value))).collect();
        if event.is_empty() {
            let hint = "write it beside `at`: {at: 10s, type: order.placed}";
            map.found().error_hint(&node.span, "input event: there is no event", hint);
        }
        (via, serde_json::Value::Object(event))
    };
    let (at_ms, event) = (at?.value, Arc::new(event));
    let source: Option<Arc<str>> = source.map(|source| source.value.as_str().into());
    let (every_ms, times) = (every.map_or(0, |every| every.value), times.map_or(1, |times| times.value));
    let one = |turn: i64| InputEvent {
        span: node.span.clone(),
        at_ms: at_ms.saturating_add(every_ms.saturating_mul(turn)),
        source: source.clone(),
        event: event.clone(),
    };
    Some((0..times).map(one).collect())
}

/// YAML to JSON, numbers and booleans as YAML's core schema reads them.
fn json(node: &Node) -> serde_json::Value {
    use serde_json::Value;
    if let Some(entries) = node.as_map() {
        return Value::Object(
            entries.iter().map(|(key, value)| (key.as_str().unwrap_or_default().to_owned(), json(value))).collect(),
        );
    }
    if let Some(items) = node.as_seq() {
        return Value::Array(items.iter().map(json).collect());
    }
    let Some(text) = node.as_str() else { return Value::Null };
    let plain = matches!(&node.kind, yaml::Kind::Scalar { plain: true, .. });
    let parsed = if plain { serde_json::from_str(text).ok() } else { None };
    parsed.unwrap_or_else(|| Value::String(text.to_owned()))
}
