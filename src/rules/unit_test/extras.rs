//! What sidewatch adds to promtool's test files: `input_events` and `expect_notifications`.

use super::schema::to_labels;
use crate::config::reader::MapReader;
use crate::config::yaml::{self, Node};
use crate::config::{Diagnostics, Span};
use crate::model::{AlertStatus, Labels};
use std::sync::Arc;

/// The most often that one entry of `input_events` repeats.
const MAX_TIMES: i64 = 100_000;

/// An event that arrives: `{at: 10s, type: order.placed, data: {...}}`, or with the event apart from what is said about
/// it: `{at: 10s, source: orders, event: {...}}`. `every: 1s` and `times: 5` repeat it.
#[derive(Clone, Debug)]
pub struct InputEvent {
    /// Where it stands.
    pub span: Span,
    /// When it arrives, in milliseconds from the start; its own time, when it has one, is used as it is.
    pub at_ms: i64,
    /// The configured source that it comes through (`via:`, or `source:` beside `event:`); else the first one.
    pub source: Option<Arc<str>>,
    /// The event as JSON.
    pub event: Arc<serde_json::Value>,
}

/// When a message is expected, in milliseconds from the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// `at:`; in the second that begins then.
    At(i64),
    /// `within:`; not later.
    Within(i64),
    /// `none: true` with `until:`; nothing may be told before that.
    NoneUntil(i64),
}

/// `{within: 30s, receiver: oncall, status: firing, group_labels: {...}, alerts: [{...}]}`, or that nobody is told:
/// `{none: true, until: 30s}`. What is not given may be anything.
#[derive(Clone, Debug)]
pub struct ExpectedNotification {
    /// Where it stands.
    pub span: Span,
    /// When.
    pub when: When,
    /// `receiver:`.
    pub receiver: Option<String>,
    /// `status:`.
    pub status: Option<AlertStatus>,
    /// `group_labels:` (or `grouping:`), all of them.
    pub group_labels: Option<Labels>,
    /// `alerts:`; each stands for one alert of the message that has at least these labels, and none is left over.
    pub alerts: Option<Vec<Labels>>,
}

impl ExpectedNotification {
    /// The latest moment that it speaks of, in milliseconds from the start.
    pub fn until_ms(&self) -> i64 {
        match self.when {
            When::At(at_ms) => at_ms.saturating_add(999),
            When::Within(until_ms) | When::NoneUntil(until_ms) => until_ms,
        }
    }
}

/// One entry of `input_events`, as often as it repeats.
pub(super) fn events(node: &Node, found: &mut Diagnostics) -> Option<Vec<InputEvent>> {
    let mut map = MapReader::new(node, "input event", found)?;
    let span = map.span().clone();
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
        let kept: Vec<&(Node, Node)> = node.as_map().unwrap_or_default().iter().collect();
        let own = ["at", "every", "times", "via"];
        let entries = kept.into_iter().filter(|(key, _)| key.as_str().is_none_or(|key| !own.contains(&key)));
        let event: serde_json::Map<_, _> =
            entries.map(|(key, value)| (key.as_str().unwrap_or_default().to_owned(), json(value))).collect();
        if event.is_empty() {
            let message = "input event: there is no event";
            map.found().error_hint(&span, message, "write it beside `at`: {at: 10s, type: order.placed}");
        }
        (via, serde_json::Value::Object(event))
    };
    let (at_ms, event) = (at?.value, Arc::new(event));
    let source: Option<Arc<str>> = source.map(|source| source.value.as_str().into());
    let (every_ms, times) = (every.map_or(0, |every| every.value), times.map_or(1, |times| times.value));
    let one = |n: i64| InputEvent {
        span: span.clone(),
        at_ms: at_ms.saturating_add(every_ms.saturating_mul(n)),
        source: source.clone(),
        event: event.clone(),
    };
    Some((0..times).map(one).collect())
}

/// One entry of `expect_notifications`.
pub(super) fn notification(node: &Node, found: &mut Diagnostics) -> Option<ExpectedNotification> {
    let mut map = MapReader::new(node, "expected notification", found)?;
    let span = map.span().clone();
    let none = map.boolean("none").is_some_and(|none| none.value);
    let receiver = map.string("receiver").map(|receiver| receiver.value);
    let words = [("firing", AlertStatus::Firing), ("resolved", AlertStatus::Resolved)];
    let status = map.one_of("status", &words).map(|status| status.value);
    let when = if none {
        map.refuse("at", "with none: true the time is until:");
        map.refuse("within", "with none: true the time is until:");
        map.refuse("alerts", "with none: true no message is looked at");
        map.required_duration_ms("until").map(|until| When::NoneUntil(until.value))
    } else {
        map.refuse("until", "until: belongs to none: true");
        map.exactly_one(&["at", "within"]).and_then(|(key, _)| {
            let time = map.duration_ms(key)?.value;
            Some(if key == "at" { When::At(time) } else { When::Within(time) })
        })
    };
    let mut group_labels = None;
    for key in ["group_labels", "grouping"] {
        if map.get(key).is_some() {
            group_labels = Some(to_labels(&map.string_map(key)));
        }
    }
    let listed = map.get("alerts").is_some();
    let alerts = map.each("alerts", |node, found| {
        let mut map = MapReader::new(node, "alert", found)?;
        // Either the labels themselves, or below `labels` as the messages have them.
        if map.get("labels").is_some_and(|labels| labels.as_map().is_some()) {
            let labels = map.string_map("labels");
            map.finish();
            return Some(to_labels(&labels));
        }
        let entries = node.as_map().unwrap_or_default();
        Some(Labels::from_pairs(entries.iter().filter_map(|(name, value)| Some((name.as_str()?, value.as_str()?)))))
    });
    map.finish();
    Some(ExpectedNotification { span, when: when?, receiver, status, group_labels, alerts: listed.then_some(alerts) })
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
