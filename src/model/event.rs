//! Decoded events. A batch owns one buffer of text; its events and fields point into it, so that decoding an event
//! allocates nothing.

use super::{FieldPlan, Quarantined, Slot, Timestamp, Validated};
use std::sync::Arc;

/// A piece of a batch's text: into the received buffer, or into the side arena where escapes had to be resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Text {
    start: u32,
    len: u32,
}

const ARENA_BIT: u32 = 1 << 31;

impl Text {
    /// No text at all (the attribute is absent).
    pub const NONE: Self = Self { start: u32::MAX, len: 0 };

    /// A range of the received buffer (at most 2 GiB).
    pub const fn in_buffer(start: u32, len: u32) -> Self {
        Self { start, len }
    }

    /// A range of the side arena.
    pub const fn in_arena(start: u32, len: u32) -> Self {
        Self { start: start | ARENA_BIT, len }
    }

    /// Whether the attribute is absent.
    pub const fn is_none(self) -> bool {
        self.start == u32::MAX
    }

    /// The text itself, given the two places it may stand in; empty when absent.
    pub fn resolve<'a>(self, buffer: &'a str, arena: &'a str) -> &'a str {
        if self.is_none() {
            return "";
        }
        let start = (self.start & !ARENA_BIT) as usize;
        let from = if self.start & ARENA_BIT == 0 { buffer } else { arena };
        from.get(start..start + self.len as usize).unwrap_or("")
    }

    /// A part of this text: `len` bytes from byte `from`.
    #[must_use]
    pub const fn slice(self, from: u32, len: u32) -> Self {
        Self { start: self.start + from, len }
    }

    /// Where it stands in the received buffer; `None` when absent or in the arena.
    pub const fn buffer_range(self) -> Option<std::ops::Range<usize>> {
        if self.start & ARENA_BIT != 0 {
            return None;
        }
        Some(self.start as usize..self.start as usize + self.len as usize)
    }
}

/// The value of one path in one event.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub enum Field {
    /// The path leads nowhere.
    #[default]
    Missing,
    /// JSON null.
    Null,
    /// JSON true or false.
    Bool(bool),
    /// A number, with its digits as they were written.
    Number(f64, Text),
    /// A string.
    Text(Text),
    /// Several values (`[]` in the path): a range of the batch's `lists`.
    List {
        /// First element in `EventBatch::lists`.
        start: u32,
        /// How many elements.
        len: u32,
    },
    /// An object or an array where a scalar was asked for: its JSON text.
    Json(Text),
}

/// The shapes of events that are recognised by their keys (DESIGN.md, Event).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Shape {
    /// CloudEvents 1.0, structured, batch or binary.
    CloudEvents,
    /// id, type, payload.
    Router,
    /// {event, routing, processing}.
    DomainEnvelope,
    /// event_type and its fields beside it.
    Typed,
    /// event_type and `data`.
    Coordinator,
    /// Field paths from the configuration.
    #[default]
    Foreign,
    /// A text line cut by a named regex.
    Line,
}

/// One event: canonical attributes only. Fields asked for by the plan stand in the batch.
#[derive(Clone, Copy, Debug)]
pub struct Event {
    /// The dotted type. Never absent.
    pub event_type: Text,
    /// The id, where there is one.
    pub id: Text,
    /// The event's own source; absent means the configured source's name.
    pub source: Text,
    /// What it is about.
    pub subject: Text,
    /// Correlation id.
    pub correlation: Text,
    /// Causation id.
    pub causation: Text,
    /// 32 hex digits of a W3C trace id.
    pub trace_id: Text,
    /// 16 hex digits of a W3C span id.
    pub span_id: Text,
    /// status, result or outcome as it was written.
    pub outcome: Text,
    /// severity or level as it was written.
    pub severity: Text,
    /// The event's own time; `None` when absent or not readable (then `time_invalid` says which).
    pub time: Option<Timestamp>,
    /// A time was given and could not be read.
    pub time_invalid: bool,
    /// How long what it reports took; not a number when unknown.
    pub duration_seconds: f64,
    /// 1 is the first attempt.
    pub attempt: u32,
    /// 0 (lowest) to 10; 5 where the event does not say.
    pub priority: u8,
    /// From when on it is not worth anything any more (`expires_at`, or `ttl` after its arrival); [`Event::NEVER`] where it
    /// does not say.
    pub expires: Timestamp,
    /// Failed, by the outcome field or the type (DESIGN.md, Event).
    pub failed: bool,
    /// How many events this one stands for (CloudEvents `sampledrate`); 1 as a rule.
    pub weight: f64,
    /// How its shape was recognised.
    pub shape: Shape,
    /// The document as it was received.
    pub raw: Text,
}

impl Event {
    /// The expiry of an event that does not expire.
    pub const NEVER: Timestamp = Timestamp::from_micros(i64::MAX);
}

/// A piece of input that was refused, with what to tell the sender.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Which item of the input, from 0.
    pub item: u32,
    /// The `reason` label of `sidewatch_events_refused_total`.
    pub reason: &'static str,
    /// A sentence for the sender.
    pub message: String,
}

/// Events that arrived together from one source.
#[derive(Clone, Debug)]
pub struct EventBatch {
    /// The configured source's name.
    pub source: Arc<str>,
    /// The plan whose slots the fields follow.
    pub plan: Arc<FieldPlan>,
    /// When the batch arrived.
    pub arrived: Timestamp,
    /// The received text.
    pub buffer: String,
    /// Texts that are not in the buffer as such (escapes resolved, joined paths).
    pub arena: String,
    /// The events in order.
    pub events: Vec<Event>,
    /// `events.len() * plan.len()` values, one row an event.
    pub fields: Vec<Field>,
    /// The elements of list fields.
    pub lists: Vec<Field>,
    /// What was refused.
    pub refused: Vec<Refusal>,
    /// Refused items that are kept to be looked at, in their order.
    pub quarantined: Vec<Quarantined>,
    /// How many events were held against schemas.
    pub validated: Vec<Validated>,
    /// The transport position after this batch (source's own encoding), stored in the checkpoint.
    pub position: Option<Vec<u8>>,
}

impl EventBatch {
    /// An empty batch.
    pub fn new(source: Arc<str>, plan: Arc<FieldPlan>, arrived: Timestamp, buffer: String) -> Self {
        Self {
            source,
            plan,
            arrived,
            buffer,
            arena: String::new(),
            events: Vec::new(),
            fields: Vec::new(),
            lists: Vec::new(),
            refused: Vec::new(),
            quarantined: Vec::new(),
            validated: Vec::new(),
            position: None,
        }
    }

    /// The text; empty when absent.
    pub fn text(&self, text: Text) -> &str {
        text.resolve(&self.buffer, &self.arena)
    }

    /// Puts a text into the arena.
    pub fn push_text(&mut self, text: &str) -> Text {
        let start = self.arena.len() as u32;
        self.arena.push_str(text);
        Text::in_arena(start, text.len() as u32)
    }

    /// The event's own source, or the configured source's name.
    pub fn source_of(&self, event: &Event) -> &str {
        if event.source.is_none() { &self.source } else { self.text(event.source) }
    }

    /// The value of a slot in the event at `row`.
    pub fn field(&self, row: usize, slot: Slot) -> Field {
        self.fields.get(row * self.plan.len() + usize::from(slot.0)).copied().unwrap_or_default()
    }

    /// All fields of the event at `row`, in order of the plan's slots.
    pub fn row(&self, row: usize) -> &[Field] {
        &self.fields[row * self.plan.len()..(row + 1) * self.plan.len()]
    }

    /// The elements of a list field.
    pub fn list(&self, start: u32, len: u32) -> &[Field] {
        &self.lists[start as usize..(start + len) as usize]
    }

    /// Takes the events out whose rows are marked, with their fields. How many they were.
    pub fn remove(&mut self, marked: &[bool]) -> usize {
        let count = marked.iter().filter(|marked| **marked).count();
        if count == 0 {
            return 0;
        }
        let width = self.plan.len();
        let mut at = 0;
        self.fields.retain(|_| {
            let keep = !marked[at / width];
            at += 1;
            keep
        });
        let mut rows = marked.iter();
        self.events.retain(|_| !rows.next().copied().unwrap_or(false));
        count
    }

    /// A scalar field as a label value: numbers as written, booleans as `true`/`false`; `None` for anything absent.
    pub fn field_str(&self, field: Field) -> Option<&str> {
        match field {
            Field::Missing | Field::Null | Field::List { .. } => None,
            Field::Bool(true) => Some("true"),
            Field::Bool(false) => Some("false"),
            Field::Number(_, text) | Field::Text(text) | Field::Json(text) => Some(self.text(text)),
        }
    }
}
