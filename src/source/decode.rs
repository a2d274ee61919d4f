//! From received bytes to events: framing (which part of the input is an event), recognising shapes, taking out the
//! canonical attributes and the fields that the plan asks for.
//!
//! `scan` reads JSON in one pass along `trie`, the tree of wanted paths; `shape` knows where each shape keeps what;
//! `when` reads times, `line` cuts text lines, `cloudevents` turns binary mode into structured mode.
//! One bad item is refused with a [`reason`]; the rest of the batch is kept.

mod cloudevents;
mod found;
mod frame;
mod line;
mod number;
mod policy;
mod scan;
mod shape;
#[cfg(test)]
mod tests;
mod trie;
mod when;

use crate::config::Diagnostics;
use crate::config::schema::FormatConfig;
use crate::model::{
    Attribute, Cover, EventBatch, Field, FieldPath, FieldPlan, Refusal, Segment, Shape, Slot, Timestamp,
};
use arc_swap::ArcSwapOption;
use frame::Job;
pub use policy::Policy;
use scan::{Origin, Scanner, Work};
use shape::{Root, Shapes};
use std::ops::Range;
use std::sync::Arc;
use trie::{Trie, TrieBuilder};

/// The values of the `reason` label of `sidewatch_events_refused_total` that decoding gives.
pub mod reason {
    /// Bytes that are not UTF-8.
    pub const INVALID_UTF8: &str = "invalid_utf8";
    /// Not JSON by RFC 8259.
    pub const INVALID_JSON: &str = "invalid_json";
    /// The input ends inside an event or an array.
    pub const TRUNCATED: &str = "truncated";
    /// Nested deeper than `limits.event_depth`.
    pub const TOO_DEEP: &str = "too_deep";
    /// Larger than `limits.event_bytes`.
    pub const TOO_LARGE: &str = "too_large";
    /// JSON, but no object.
    pub const NOT_AN_OBJECT: &str = "not_an_object";
    /// Nothing says what type the event has.
    pub const NO_TYPE: &str = "no_type";
    /// A CloudEvent without a required attribute or of another version.
    pub const INVALID_CLOUDEVENT: &str = "invalid_cloudevent";
    /// A text line that the source's regex does not match.
    pub const NO_MATCH: &str = "no_match";
    /// A message of a broker without content.
    pub const EMPTY: &str = "empty";
    /// Its `expires_at` or `ttl` was over when the core took it.
    pub const EXPIRED: &str = "expired";
    /// Its type has a schema (`schemas:`) that it does not follow.
    pub const INVALID_SCHEMA: &str = "invalid_schema";
    /// A message that a broker has delivered too often already.
    pub const REDELIVERED: &str = "redelivered";
    /// All of them.
    pub const ALL: [&str; 13] = [
        INVALID_UTF8,
        INVALID_JSON,
        TRUNCATED,
        TOO_DEEP,
        TOO_LARGE,
        NOT_AN_OBJECT,
        NO_TYPE,
        INVALID_CLOUDEVENT,
        NO_MATCH,
        EMPTY,
        EXPIRED,
        INVALID_SCHEMA,
        REDELIVERED,
    ];
}

/// How a received piece of input is divided into events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Framing {
    /// JSON: one object, an array of them, or several one after the other (NDJSON); by looking.
    Auto,
    /// One JSON object a line.
    Ndjson,
    /// Text lines, cut by the source's `lines:` regex; without one, as [`Framing::Ndjson`].
    Lines,
    /// One CloudEvent, `application/cloudevents+json`.
    CloudEvents,
    /// An array of CloudEvents, `application/cloudevents-batch+json`.
    CloudEventsBatch,
    /// Messages of a broker, each by itself.
    Messages(Vec<Part>),
    /// A CloudEvent whose attributes came beside its data.
    CloudEventsBinary {
        /// Names with or without their prefix (`ce-`, `ce_`, `cloudEvents:`), values still percent-encoded.
        attributes: Vec<(String, String)>,
        /// The media type of the data; `None` when not said.
        content_type: Option<String>,
    },
}

/// One message within the input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Where it stands.
    pub range: Range<usize>,
    /// How it is read.
    pub kind: PartKind,
    /// The type of an event that names none, unless the configuration gives one: subject, routing key, channel.
    pub topic: Option<Arc<str>>,
    /// The id of an event that has none. Several events in one message are told apart by their place.
    pub id: Option<Arc<str>>,
}

/// How a message is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartKind {
    /// As [`Framing::Auto`], or as one line of text where the source has a `lines:` regex.
    Plain,
    /// As [`Framing::CloudEvents`].
    CloudEvent,
    /// As [`Framing::CloudEventsBatch`].
    CloudEventsBatch,
    /// Refused before decoding; it only has its number.
    Refused,
}

/// A CloudEvent in binary mode as one in structured mode.
///
/// # Errors
/// Why the body cannot be the data of the event.
pub fn binary_cloudevent(
    attributes: &[(String, String)],
    content_type: Option<&str>,
    body: &[u8],
) -> Result<Vec<u8>, String> {
    cloudevents::structured(attributes, content_type, body, |body| {
        serde_json::from_slice::<serde::de::IgnoredAny>(body)
            .map(|_| ())
            .map_err(|error| format!("the data is not JSON: {error}"))
    })
}

/// What decoding takes at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecodeLimits {
    /// Bytes of one event.
    pub event_bytes: usize,
    /// Levels of nesting in one event; at most 512 are ever allowed, for the stack's sake.
    pub depth: usize,
}

impl Default for DecodeLimits {
    fn default() -> Self {
        Self { event_bytes: 4 << 20, depth: 64 }
    }
}

/// Decodes what one source receives. Shared between the source's connections; a call keeps nothing.
#[derive(Debug)]
pub struct Decoder {
    limits: DecodeLimits,
    shapes: Shapes,
    cutter: Option<line::Cutter>,
    default_type: Option<String>,
    policy: Policy,
    /// The last plan with its tree. Sources ask with the same plan until a reload.
    prepared: ArcSwapOption<Prepared>,
}

/// Where a scanned value goes: a slot of the plan, when the event's `data` stands at one of these roots.
#[derive(Clone, Copy, Debug)]
struct Target {
    plan_slot: u16,
    roots: u8,
}

/// A plan made ready.
#[derive(Debug)]
struct Prepared {
    plan: Arc<FieldPlan>,
    trie: Trie,
    data_node: u32,
    /// The slots from here on are the plan's.
    first_slot: u32,
    targets: Vec<Target>,
    attributes: Vec<(u16, Attribute)>,
    /// Slots of the plan that are groups of the regex.
    groups: Vec<(u16, usize)>,
    /// Slots of the plan and attributes whose hash takes their place.
    hashed: Vec<u16>,
    /// Slots of the plan within which something is hidden.
    around: Vec<u16>,
    hashed_attributes: Vec<Attribute>,
}

impl Decoder {
    /// Compiles the keys beside a source's transport. `None` when something is wrong with them; the findings say what.
    pub fn compile(config: &FormatConfig, limits: DecodeLimits, diagnostics: &mut Diagnostics) -> Option<Self> {
        let mut found = Diagnostics::new();
        let decoder = Self::build(config, limits, &mut found);
        let fine = !found.has_errors();
        diagnostics.absorb(found);
        decoder.filter(|_| fine)
    }

    fn build(config: &FormatConfig, limits: DecodeLimits, found: &mut Diagnostics) -> Option<Self> {
        let shapes = Shapes::compile(config, found);
        let default_type = config.event_type.as_ref().map(|name| name.value.clone());
        if let Some(name) = config.event_type.as_ref().filter(|name| name.value.trim().is_empty()) {
            found.error_hint(&name.span, "the type is empty", "a dotted name: type: app.log");
        }
        let cutter = match &config.lines {
            Some(lines) => Some(line::Cutter::compile(lines, default_type.is_some(), found)?),
            None => None,
        };
        if let (Some(lines), [(name, _), ..]) = (&config.lines, config.shape.as_slice()) {
            found.error_hint(
                if name.span.line > 0 { &name.span } else { &lines.span },
                "a source has `lines` or `shape`, not both",
                "`lines` is for text, `shape` for JSON",
            );
        }
        let limits = DecodeLimits { depth: limits.depth.min(512), ..limits };
        let policy = Policy::from(limits);
        Some(Self { limits, shapes, cutter, default_type, policy, prepared: ArcSwapOption::empty() })
    }

    /// Holds events against schemas, and hides what must not be shown.
    #[must_use]
    pub fn with_policy(self, policy: Policy) -> Self {
        Self { policy, ..self }
    }

    /// Whether the source's input is text lines.
    pub fn cuts_lines(&self) -> bool {
        self.cutter.is_some()
    }

    /// Decodes one piece of input. Refused items stand in the batch's `refused`, counted from 0 as they came; empty lines
    /// count as nothing. A byte order mark at the very beginning is left out (RFC 8259, section 8.1).
    pub fn decode(
        &self,
        input: Vec<u8>,
        framing: Framing,
        plan: &Arc<FieldPlan>,
        source: &Arc<str>,
        arrived: Timestamp,
    ) -> EventBatch {
        let prepared = self.prepared(plan);
        let mut batch = EventBatch::new(source.clone(), plan.clone(), arrived, String::new());
        if let Framing::Messages(parts) = &framing {
            batch.events.reserve(parts.len());
            batch.fields.reserve(parts.len() * plan.len());
        }
        let input = match &framing {
            Framing::CloudEventsBinary { attributes, content_type } => {
                let valid = |body: &[u8]| self.is_json_value(&prepared, body);
                match cloudevents::structured(attributes, content_type.as_deref(), &input, valid) {
                    Ok(event) => event,
                    Err(message) => {
                        batch.refused.push(Refusal { item: 0, reason: reason::INVALID_JSON, message });
                        return batch;
                    }
                }
            }
            _ => input,
        };
        let (text, broken) = frame::to_text(input);
        Job::new(self, &prepared, &text, &broken, &mut batch).run(&framing);
        batch.buffer = text;
        batch
    }

    /// Takes the fields of another plan out of events that are already decoded (the plan changed while they waited).
    /// `self` must be the decoder of the batch's source.
    #[must_use]
    pub fn redecode(&self, batch: EventBatch, plan: &Arc<FieldPlan>) -> EventBatch {
        let prepared = self.prepared(plan);
        let mut again = EventBatch::new(batch.source, plan.clone(), batch.arrived, String::new());
        let mut job = Job::new(self, &prepared, &batch.buffer, &[], &mut again).trusting();
        for event in &batch.events {
            if let Some(range) = event.raw.buffer_range() {
                // A type from elsewhere than the document: the message's topic. It stands in the new arena again.
                let topic = event
                    .event_type
                    .buffer_range()
                    .is_none()
                    .then(|| event.event_type.resolve(&batch.buffer, &batch.arena));
                // Likewise an id from elsewhere; one of the document is found there again.
                let id = event.id.buffer_range().is_none().then(|| event.id.resolve(&batch.buffer, &batch.arena));
                job.again(range, event.shape == Shape::Line, topic, id);
            }
        }
        let refused = std::mem::replace(&mut again.refused, batch.refused);
        debug_assert!(refused.is_empty(), "{refused:?}");
        again.refused.extend(refused);
        again.buffer = batch.buffer;
        again.position = batch.position;
        (again.quarantined, again.validated) = (batch.quarantined, batch.validated);
        again
    }

    fn is_json_value(&self, prepared: &Prepared, body: &[u8]) -> Result<(), String> {
        let Ok(text) = std::str::from_utf8(body) else { return Err("the data is not UTF-8".into()) };
        let (mut work, mut arena) = (Work::default(), String::new());
        let depth = self.limits.depth as u32;
        let mut scanner = Scanner::new(text.as_bytes(), &prepared.trie, &mut work, &mut arena, Origin::Buffer, depth);
        scanner.blanks();
        let read = scanner.skip(0).and_then(|()| scanner.end());
        read.map_err(|fault| format!("the data is not JSON: at byte {}, {}", fault.at, fault.what.sentence()))
    }

    fn prepared(&self, plan: &Arc<FieldPlan>) -> Arc<Prepared> {
        if let Some(known) = self.prepared.load_full().filter(|known| Arc::ptr_eq(&known.plan, plan)) {
            return known;
        }
        let fresh = Arc::new(self.prepare(plan));
        self.prepared.store(Some(fresh.clone()));
        fresh
    }

    fn prepare(&self, plan: &Arc<FieldPlan>) -> Prepared {
        let mut builder = TrieBuilder::new();
        self.shapes.plant(&mut builder);
        let first_slot = builder.slots();
        let (mut targets, mut attributes, mut groups) = (Vec::new(), Vec::new(), Vec::new());
        for (plan_slot, path) in plan.paths().iter().enumerate() {
            let plan_slot = plan_slot as u16;
            if let Some(attribute) = path.attribute() {
                attributes.push((plan_slot, attribute));
                continue;
            }
            let named = match path.segments() {
                [Segment::Key(data), rest @ ..] if data == "data" => {
                    for (root, segments) in self.shapes.data_paths(rest) {
                        builder.add(&segments);
                        targets.push(Target { plan_slot, roots: root as u8 });
                    }
                    rest
                }
                segments => {
                    builder.add(segments);
                    targets.push(Target { plan_slot, roots: u8::MAX });
                    segments
                }
            };
            let group = match (named, &self.cutter) {
                ([Segment::Key(name)], Some(cutter)) => cutter.groups.iter().find(|(known, _)| known == name),
                _ => None,
            };
            groups.extend(group.map(|(_, number)| (plan_slot, *number)));
        }
        let trie = builder.build();
        let data_node = trie.child(&trie.nodes[0], b"data", 0, 4).unwrap_or(trie::NONE);
        let (mut hashed, mut around, mut hashed_attributes) = (Vec::new(), Vec::new(), Vec::new());
        if plan.veil().has_paths() {
            let covered = |cover| {
                let is_field = |slot: &u16| plan.paths()[usize::from(*slot)].attribute().is_none();
                (0..plan.len() as u16).filter(is_field).filter(|slot| plan.cover(Slot(*slot)) == cover).collect()
            };
            (hashed, around) = (covered(Cover::Hashed), covered(Cover::Around));
            let attributes = Attribute::ALL.into_iter().map(|(_, attribute)| attribute);
            hashed_attributes = attributes.filter(|it| plan.veil().cover_of(*it) == Cover::Hashed).collect();
        }
        Prepared {
            plan: plan.clone(),
            trie,
            data_node,
            first_slot,
            targets,
            attributes,
            groups,
            hashed,
            around,
            hashed_attributes,
        }
    }
}

/// The places in documents that text attributes are read from, whatever the shape.
pub fn attribute_places(format: &FormatConfig) -> Vec<(Attribute, FieldPath)> {
    // What is wrong with `shape:` is said when the decoder is compiled.
    Shapes::compile(format, &mut Diagnostics::new()).attribute_places()
}

/// The groups that text lines are cut into; empty for sources of JSON.
pub fn line_groups(format: &FormatConfig) -> Vec<String> {
    let cutter = format.lines.as_ref().and_then(|lines| line::Cutter::compile(lines, true, &mut Diagnostics::new()));
    cutter.map_or_else(Vec::new, |cutter| cutter.groups.into_iter().map(|(name, _)| name).collect())
}

/// A field as a number: numbers as they are, texts that read as one. `None` for anything else and for what is not finite.
pub fn field_number(batch: &EventBatch, field: Field) -> Option<f64> {
    match field {
        Field::Number(value, _) => Some(value).filter(|value| value.is_finite()),
        Field::Text(text) => number::read(batch.text(text)),
        _ => None,
    }
}
