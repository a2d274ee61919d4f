//! Events of a test as a batch.

use super::schema::InputEvent;
use crate::model::{Event, EventBatch, Field, FieldPath, FieldPlan, Segment, Shape, Text, Timestamp};
use serde_json::Value;
use std::sync::Arc;

/// A batch of one event. The canonical attributes stand at the top of the event under their own names (`type` or
/// `event_type`), everything else is reached by its path.
pub(super) fn batch(input: &InputEvent, plan: &Arc<FieldPlan>, at: Timestamp) -> EventBatch {
    let mut batch = EventBatch::new(input.source.clone(), plan.clone(), at, String::new());
    let document = &input.event;
    let attribute = |batch: &mut EventBatch, names: &[&str]| {
        let found = names.iter().find_map(|name| document.get(name)?.as_str());
        found.map_or(Text::NONE, |text| batch.push_text(text))
    };
    let outcome = attribute(&mut batch, &["outcome", "status", "result"]);
    let event = Event {
        event_type: attribute(&mut batch, &["type", "event_type"]),
        id: attribute(&mut batch, &["id", "event_id"]),
        source: attribute(&mut batch, &["source"]),
        subject: attribute(&mut batch, &["subject"]),
        correlation: attribute(&mut batch, &["correlation", "correlation_id", "correlationid"]),
        causation: attribute(&mut batch, &["causation", "causation_id"]),
        trace_id: attribute(&mut batch, &["trace_id"]),
        span_id: attribute(&mut batch, &["span_id"]),
        outcome,
        severity: attribute(&mut batch, &["severity", "level"]),
        time: None,
        time_invalid: false,
        duration_seconds: f64::NAN,
        attempt: 1,
        priority: 5,
        failed: false,
        weight: 1.0,
        shape: Shape::Typed,
        raw: Text::NONE,
    };
    for path in plan.paths() {
        let field = find(document, path).map_or(Field::Missing, |value| field(&mut batch, value));
        batch.fields.push(field);
    }
    batch.events.push(event);
    batch
}

fn find<'v>(document: &'v Value, path: &FieldPath) -> Option<&'v Value> {
    path.segments().iter().try_fold(document, |value, segment| match segment {
        Segment::Key(key) => value.get(key),
        Segment::Index(index) => value.get(*index as usize),
        Segment::Each => value.get(0),
    })
}

fn field(batch: &mut EventBatch, value: &Value) -> Field {
    match value {
        Value::Null => Field::Null,
        Value::Bool(value) => Field::Bool(*value),
        Value::Number(number) => {
            let text = batch.push_text(&number.to_string());
            Field::Number(number.as_f64().unwrap_or(f64::NAN), text)
        }
        Value::String(text) => Field::Text(batch.push_text(text)),
        other => Field::Json(batch.push_text(&other.to_string())),
    }
}
