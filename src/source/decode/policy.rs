//! What decoding holds events against beside their syntax, and what it keeps of those that it refuses.

use super::shape::Root;
use super::{DecodeLimits, Prepared, reason};
use crate::model::{Attribute, Event, EventBatch, Fault, Field, Quarantined, REDACTED, Text, Validated};
use crate::source::redact::Redactor;
use crate::source::validate::{Schema, Schemas};
use serde_json::{Map, Value};
use std::collections::HashMap;
use std::sync::Arc;

/// Bytes of a refused document that are kept.
const PAYLOAD_BYTES: usize = 8_192;
/// Types whose schemas one call remembers.
const TYPES: usize = 1_024;

/// What a source's events are held against.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// The schemas.
    pub schemas: Arc<Schemas>,
    /// What is not shown of them.
    pub redactor: Arc<Redactor>,
    /// Refused items of one batch that are kept.
    pub quarantine_events: usize,
    /// Bytes of them.
    pub quarantine_bytes: usize,
}

/// What was found wrong with the item at hand, for its entry in the quarantine.
#[derive(Debug, Default)]
pub(super) struct Wrongs {
    faults: Vec<Fault>,
    schema: String,
    version: String,
    event_type: String,
    id: String,
}

/// The policy during one call.
#[derive(Debug, Default)]
pub(super) struct Inspection<'a> {
    types: HashMap<&'a str, Vec<usize>, ahash::RandomState>,
    kept_bytes: usize,
    wrongs: Option<Wrongs>,
}

/// Where an event's payload stands.
pub(super) struct Payload<'a> {
    pub raw: &'a str,
    pub root: Root,
    pub given: Option<&'a crate::model::FieldPath>,
    /// The groups of a text line.
    pub groups: Option<Map<String, Value>>,
}

impl<'a> Inspection<'a> {
    /// Holds an event against its schema.
    ///
    /// # Errors
    /// The reason and a sentence for the sender.
    pub fn check(
        &mut self,
        policy: &Policy,
        batch: &mut EventBatch,
        text: &'a str,
        event: &Event,
        payload: Payload<'_>,
    ) -> Result<(), (&'static str, String)> {
        let document = match self.of_type(policy, batch, text, event) {
            [] => return Ok(()),
            _ => document(&payload),
        };
        let places = self.of_type(policy, batch, text, event);
        let Some(at) = policy.schemas.choose(places, &document) else { return Ok(()) };
        let Some(schema) = policy.schemas.get(at) else { return Ok(()) };
        let faults = match schema.whole {
            true => schema.faults(&document),
            false => schema.faults(&data(&document, &payload)),
        };
        count(batch, schema, faults.is_empty());
        let Some(first) = faults.first() else { return Ok(()) };
        if schema.only_count {
            return Ok(());
        }
        let place = if first.pointer.is_empty() { "" } else { " at " };
        let more = if faults.len() > 1 { format!(", and {} more", faults.len() - 1) } else { String::new() };
        let message = format!(
            "the event does not follow the schema {:?}{}: {}{place}{}{more}",
            schema.name,
            if schema.version.is_empty() { String::new() } else { format!(" ({})", schema.version) },
            first.message,
            first.pointer,
        );
        let veil = policy.redactor.veil();
        self.wrongs = Some(Wrongs {
            faults,
            schema: schema.name.to_string(),
            version: schema.version.to_string(),
            event_type: veil.clean(event.event_type.resolve(text, &batch.arena)).into_owned(),
            id: veil.attribute(Attribute::Id, event.id.resolve(text, &batch.arena)).into_owned(),
        });
        Err((reason::INVALID_SCHEMA, message))
    }

    fn of_type(&mut self, policy: &Policy, batch: &EventBatch, text: &'a str, event: &Event) -> &[usize] {
        // A type that stands in the received text lives as long as this call; others are rare.
        let Some(event_type) = event.event_type.buffer_range().and_then(|range| text.get(range)) else {
            let name = event.event_type.resolve(text, &batch.arena);
            let places = policy.schemas.of_type(name);
            return self.types.entry("").insert_entry(places).into_mut();
        };
        if self.types.len() > TYPES {
            self.types.clear();
        }
        self.types.entry(event_type).or_insert_with(|| policy.schemas.of_type(event_type))
    }

    /// Keeps what was refused, as far as there is room.
    pub fn keep(
        &mut self,
        policy: &Policy,
        batch: &mut EventBatch,
        item: u32,
        (reason, message): (&str, &str),
        raw: &str,
        is_line: bool,
    ) {
        let wrongs = self.wrongs.take().unwrap_or_default();
        if batch.quarantined.len() >= policy.quarantine_events || self.kept_bytes >= policy.quarantine_bytes {
            return;
        }
        let said = || vec![Fault { pointer: String::new(), message: message.to_owned() }];
        let kept = Quarantined {
            item,
            reason: reason.to_owned(),
            event_type: wrongs.event_type,
            id: wrongs.id,
            schema: wrongs.schema,
            version: wrongs.version,
            faults: if wrongs.faults.is_empty() && !message.is_empty() { said() } else { wrongs.faults },
            payload: policy.redactor.refused(raw, is_line, PAYLOAD_BYTES),
            size: raw.len() as u64,
        };
        self.kept_bytes += kept.bytes();
        batch.quarantined.push(kept);
    }
}

/// Puts hashes in the place of what is hidden so that it can still be counted by, in the fields and in the attributes; an
/// object with something hidden in it is hidden itself.
pub(super) fn hash(
    policy: &Policy,
    prepared: &Prepared,
    batch: &mut EventBatch,
    text: &str,
    event: &mut Event,
    row: usize,
) {
    let hashed = |batch: &mut EventBatch, value: Text| {
        let value = value.resolve(text, &batch.arena).to_owned();
        let start = batch.arena.len();
        policy.redactor.hash(&value, &mut batch.arena);
        Text::in_arena(start as u32, (batch.arena.len() - start) as u32)
    };
    let field = |batch: &mut EventBatch, field: Field| match field {
        Field::Text(value) | Field::Number(_, value) | Field::Json(value) => Field::Text(hashed(batch, value)),
        Field::Bool(value) => {
            let word = batch.push_text(if value { "true" } else { "false" });
            Field::Text(hashed(batch, word))
        }
        other => other,
    };
    for slot in &prepared.hashed {
        let at = row + usize::from(*slot);
        match batch.fields[at] {
            Field::List { start, len } => {
                for element in start as usize..(start + len) as usize {
                    batch.lists[element] = field(batch, batch.lists[element]);
                }
            }
            value => batch.fields[at] = field(batch, value),
        }
    }
    for slot in &prepared.around {
        let at = row + usize::from(*slot);
        let places = match batch.fields[at] {
            Field::List { start, len } => start as usize..(start + len) as usize,
            Field::Json(_) => {
                batch.fields[at] = Field::Text(batch.push_text(REDACTED));
                continue;
            }
            _ => continue,
        };
        for element in places {
            if matches!(batch.lists[element], Field::Json(_)) {
                batch.lists[element] = Field::Text(batch.push_text(REDACTED));
            }
        }
    }
    for attribute in &prepared.hashed_attributes {
        let place = match attribute {
            Attribute::Id => &mut event.id,
            Attribute::Subject => &mut event.subject,
            Attribute::Correlation => &mut event.correlation,
            Attribute::Causation => &mut event.causation,
            Attribute::TraceId => &mut event.trace_id,
            Attribute::SpanId => &mut event.span_id,
            Attribute::Severity => &mut event.severity,
            Attribute::Outcome => &mut event.outcome,
            _ => continue,
        };
        if !place.is_none() {
            *place = hashed(batch, *place);
        }
    }
}

impl Prepared {
    /// Whether fields or attributes are replaced before anybody sees them.
    pub(super) fn is_veiled(&self) -> bool {
        !self.hashed.is_empty() || !self.around.is_empty() || !self.hashed_attributes.is_empty()
    }
}

impl Policy {
    /// Whether events need to be looked at beyond their syntax.
    pub fn validates(&self) -> bool {
        !self.schemas.is_empty()
    }
}

fn count(batch: &mut EventBatch, schema: &Schema, valid: bool) {
    let known = batch.validated.iter().position(|known| known.schema == schema.name && known.version == schema.version);
    let at = known.unwrap_or_else(|| {
        let (schema, version) = (schema.name.clone(), schema.version.clone());
        batch.validated.push(Validated { schema, version, valid: 0, invalid: 0 });
        batch.validated.len() - 1
    });
    let counted = &mut batch.validated[at];
    if valid {
        counted.valid += 1;
    } else {
        counted.invalid += 1;
    }
}

/// The document as a tree. A text line is its groups.
fn document(payload: &Payload<'_>) -> Value {
    match &payload.groups {
        Some(groups) => Value::Object(groups.clone()),
        // It was scanned already: it is JSON.
        None => serde_json::from_str(payload.raw).unwrap_or(Value::Null),
    }
}

/// The payload within the document; null where there is none.
fn data(document: &Value, payload: &Payload<'_>) -> Value {
    let at = match payload.root {
        Root::Data => match (document.get("data"), document.get("data_base64").and_then(Value::as_str)) {
            (None, Some(encoded)) => return decoded(encoded),
            (data, _) => data,
        },
        Root::Payload => document.get("payload"),
        Root::EventData => document.pointer("/event/data"),
        Root::Top => Some(document),
        Root::Given => payload.given.and_then(|path| {
            path.segments().iter().try_fold(document, |value, segment| match segment {
                crate::model::Segment::Key(key) => value.get(key),
                crate::model::Segment::Index(index) => value.get(*index as usize),
                crate::model::Segment::Each => None,
            })
        }),
    };
    at.cloned().unwrap_or(Value::Null)
}

/// `data_base64`: JSON as JSON, anything else as the text that it came as.
fn decoded(encoded: &str) -> Value {
    use base64::Engine as _;
    let bytes = base64::engine::general_purpose::STANDARD.decode(encoded).unwrap_or_default();
    serde_json::from_slice(&bytes).unwrap_or_else(|_| Value::String(encoded.to_owned()))
}

/// What a policy bounds when none is configured: refused items are kept all the same.
impl From<DecodeLimits> for Policy {
    fn from(_: DecodeLimits) -> Self {
        Self { quarantine_events: 1_000, quarantine_bytes: 4 << 20, ..Self::default() }
    }
}
