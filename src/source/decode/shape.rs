//! The shapes of events: how each is recognised, and where each keeps the canonical attributes (DESIGN.md, Event).

use super::found::{Found, priority};
use super::reason;
use super::trie::TrieBuilder;
use crate::config::Diagnostics;
use crate::config::diagnostic::nearest;
use crate::config::schema::FormatConfig;
use crate::model::{Attribute, Event, Field, FieldPath, Segment, Shape, Text, Timestamp};

macro_rules! candidates {
    ($($name:ident $path:literal)*) => {
        /// The places of all shapes at which an attribute may stand; the discriminant is the slot.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[expect(clippy::enum_variant_names, reason = "Type is the attribute of that name")]
        pub(super) enum At { $($name,)* }
        const PATHS: &[&str] = &[$($path,)*];
    };
}

candidates! {
    SpecVersion "specversion"
    Type "type"
    EventType "event_type"
    EventEventType "event.event_type"
    Data "data"
    DataBase64 "data_base64"
    DataContentType "datacontenttype"
    Payload "payload"
    Id "id"
    EventId "event_id"
    EventEventId "event.event_id"
    Source "source"
    Subject "subject"
    Target "target"
    ContextId "context_id"
    AggregateId "event.aggregate_id"
    Time "time"
    Timestamp "timestamp"
    OccurredAt "event.occurred_at"
    CorrelationId "correlation_id"
    Correlationid "correlationid"
    MetadataCorrelation "event.metadata.correlation_id"
    CausationId "causation_id"
    Causationid "causationid"
    MetadataCausation "event.metadata.causation_id"
    Traceparent "traceparent"
    HeadersTraceparent "headers.traceparent"
    MetadataTraceparent "event.metadata.traceparent"
    TraceId "trace_id"
    SpanId "span_id"
    MetadataTraceId "event.metadata.trace_id"
    MetadataSpanId "event.metadata.span_id"
    Priority "priority"
    RoutingPriority "routing.priority"
    Severity "severity"
    Level "level"
    DataSeverity "data.severity"
    DataLevel "data.level"
    PayloadSeverity "payload.severity"
    PayloadLevel "payload.level"
    EventDataSeverity "event.data.severity"
    EventDataLevel "event.data.level"
    Attempts "attempts"
    Attempt "attempt"
    ProcessingAttempt "processing.attempt"
    Status "status"
    Result "result"
    Outcome "outcome"
    DataStatus "data.status"
    DataResult "data.result"
    DataOutcome "data.outcome"
    PayloadStatus "payload.status"
    PayloadResult "payload.result"
    PayloadOutcome "payload.outcome"
    EventDataStatus "event.data.status"
    EventDataResult "event.data.result"
    EventDataOutcome "event.data.outcome"
    ProcessingStatus "processing.status"
    ProcessingResult "processing.result"
    ProcessingOutcome "processing.outcome"
    DurationMs "duration_ms"
    DurationS "duration_s"
    DurationUs "duration_us"
    DurationNs "duration_ns"
    DataDurationMs "data.duration_ms"
    DataDurationS "data.duration_s"
    DataDurationUs "data.duration_us"
    DataDurationNs "data.duration_ns"
    PayloadDurationMs "payload.duration_ms"
    PayloadDurationS "payload.duration_s"
    PayloadDurationUs "payload.duration_us"
    PayloadDurationNs "payload.duration_ns"
    ProcessingDurationMs "processing.duration_ms"
    ProcessingDurationS "processing.duration_s"
    ProcessingDurationUs "processing.duration_us"
    ProcessingDurationNs "processing.duration_ns"
    SampledRate "sampledrate"
    ExpiresAt "expires_at"
    Expiresat "expiresat"
    ExpiryTime "expirytime"
    RoutingExpiresAt "routing.expires_at"
    Ttl "ttl"
    RoutingTtl "routing.ttl"
}

const TOP_DURATION: [At; 4] = [At::DurationMs, At::DurationS, At::DurationUs, At::DurationNs];
const DATA_DURATION: [At; 4] = [At::DataDurationMs, At::DataDurationS, At::DataDurationUs, At::DataDurationNs];
const PAYLOAD_DURATION: [At; 4] =
    [At::PayloadDurationMs, At::PayloadDurationS, At::PayloadDurationUs, At::PayloadDurationNs];
const PROCESSING_DURATION: [At; 4] =
    [At::ProcessingDurationMs, At::ProcessingDurationS, At::ProcessingDurationUs, At::ProcessingDurationNs];
/// Seconds in one of ms, s, us, ns.
pub(super) const DURATION_DIVISORS: [f64; 4] = [1e3, 1.0, 1e6, 1e9];
/// The names of durations, in the order of the divisors.
pub(super) const DURATION_NAMES: [&str; 4] = ["duration_ms", "duration_s", "duration_us", "duration_ns"];

const TOP_OUTCOME: [At; 3] = [At::Status, At::Result, At::Outcome];
const DATA_OUTCOME: [At; 3] = [At::DataStatus, At::DataResult, At::DataOutcome];
const PAYLOAD_OUTCOME: [At; 3] = [At::PayloadStatus, At::PayloadResult, At::PayloadOutcome];
const EVENT_DATA_OUTCOME: [At; 3] = [At::EventDataStatus, At::EventDataResult, At::EventDataOutcome];
const PROCESSING_OUTCOME: [At; 3] = [At::ProcessingResult, At::ProcessingStatus, At::ProcessingOutcome];

/// Where `data.*` of a path begins in an event's document; a bit each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Root {
    Data = 1,
    Payload = 2,
    EventData = 4,
    Top = 8,
    Given = 16,
}

/// Where one shape keeps the attributes: slots in order of preference.
#[derive(Debug, Default, Clone)]
pub(super) struct Table {
    event_type: Vec<u32>,
    id: Vec<u32>,
    source: Vec<u32>,
    subject: Vec<u32>,
    time: Vec<u32>,
    correlation: Vec<u32>,
    causation: Vec<u32>,
    traceparent: Vec<u32>,
    trace_id: Vec<u32>,
    span_id: Vec<u32>,
    priority: Vec<u32>,
    severity: Vec<u32>,
    outcome: Vec<u32>,
    /// With what one second is in its unit.
    duration: Vec<(u32, f64)>,
    /// With what to add (the router counts attempts from 0).
    attempt: Vec<(u32, u32)>,
    weight: Vec<u32>,
    pub expires_at: Vec<u32>,
    pub ttl: Vec<u32>,
}

fn slots(places: &[&[At]]) -> Vec<u32> {
    places.iter().flat_map(|group| group.iter().map(|at| *at as u32)).collect()
}

fn durations(groups: &[[At; 4]]) -> Vec<(u32, f64)> {
    groups.iter().flat_map(|group| group.iter().map(|at| *at as u32).zip(DURATION_DIVISORS)).collect()
}

/// What every shape has in common.
fn common() -> Table {
    Table {
        traceparent: slots(&[&[At::Traceparent, At::HeadersTraceparent]]),
        trace_id: slots(&[&[At::TraceId]]),
        span_id: slots(&[&[At::SpanId]]),
        priority: slots(&[&[At::Priority]]),
        causation: slots(&[&[At::CausationId, At::Causationid]]),
        weight: slots(&[&[At::SampledRate]]),
        ..Table::default()
    }
}

fn table(shape: Shape) -> Table {
    match shape {
        Shape::CloudEvents => Table {
            event_type: slots(&[&[At::Type]]),
            id: slots(&[&[At::Id]]),
            source: slots(&[&[At::Source]]),
            subject: slots(&[&[At::Subject]]),
            time: slots(&[&[At::Time]]),
            correlation: slots(&[&[At::Correlationid]]),
            severity: slots(&[&[At::Severity, At::Level, At::DataSeverity, At::DataLevel]]),
            outcome: slots(&[&TOP_OUTCOME, &DATA_OUTCOME]),
            duration: durations(&[DATA_DURATION]),
            // `expirytime` is CloudEvents' own extension; names of attributes have no underscores there.
            expires_at: slots(&[&[At::ExpiryTime, At::Expiresat]]),
            ttl: slots(&[&[At::Ttl]]),
            ..common()
        },
        Shape::Router => Table {
            event_type: slots(&[&[At::Type]]),
            id: slots(&[&[At::Id]]),
            source: slots(&[&[At::Source]]),
            subject: slots(&[&[At::Target]]),
            time: slots(&[&[At::Timestamp]]),
            correlation: slots(&[&[At::CorrelationId]]),
            severity: slots(&[&[At::Severity, At::Level, At::PayloadSeverity, At::PayloadLevel]]),
            outcome: slots(&[&TOP_OUTCOME, &PAYLOAD_OUTCOME]),
            duration: durations(&[PAYLOAD_DURATION]),
            attempt: vec![(At::Attempts as u32, 1)],
            expires_at: slots(&[&[At::ExpiresAt]]),
            ttl: slots(&[&[At::Ttl]]),
            ..common()
        },
        Shape::DomainEnvelope => Table {
            event_type: slots(&[&[At::EventEventType]]),
            id: slots(&[&[At::EventEventId]]),
            subject: slots(&[&[At::AggregateId]]),
            time: slots(&[&[At::OccurredAt]]),
            correlation: slots(&[&[At::MetadataCorrelation]]),
            causation: slots(&[&[At::MetadataCausation]]),
            traceparent: slots(&[&[At::MetadataTraceparent, At::Traceparent, At::HeadersTraceparent]]),
            trace_id: slots(&[&[At::MetadataTraceId]]),
            span_id: slots(&[&[At::MetadataSpanId]]),
            priority: slots(&[&[At::RoutingPriority]]),
            severity: slots(&[&[At::Severity, At::Level, At::EventDataSeverity, At::EventDataLevel]]),
            outcome: slots(&[&PROCESSING_OUTCOME, &TOP_OUTCOME, &EVENT_DATA_OUTCOME]),
            duration: durations(&[PROCESSING_DURATION]),
            attempt: vec![(At::ProcessingAttempt as u32, 0)],
            expires_at: slots(&[&[At::RoutingExpiresAt, At::ExpiresAt]]),
            ttl: slots(&[&[At::RoutingTtl, At::Ttl]]),
            ..common()
        },
        Shape::Typed => Table {
            event_type: slots(&[&[At::EventType]]),
            id: slots(&[&[At::EventId]]),
            subject: slots(&[&[At::ContextId]]),
            time: slots(&[&[At::Timestamp]]),
            correlation: slots(&[&[At::ContextId]]),
            severity: slots(&[&[At::Severity, At::Level]]),
            outcome: slots(&[&TOP_OUTCOME]),
            duration: durations(&[TOP_DURATION]),
            ..common()
        },
        // Where an event's own fields stand at the top (typed), `ttl` and `expires_at` may be about a session or a cache's
        // entry: there only `shape:` can say that they are the event's.
        Shape::Coordinator => Table {
            event_type: slots(&[&[At::EventType]]),
            id: slots(&[&[At::EventId]]),
            source: slots(&[&[At::Source]]),
            time: slots(&[&[At::Timestamp]]),
            correlation: slots(&[&[At::CorrelationId]]),
            severity: slots(&[&[At::Severity, At::Level, At::DataSeverity, At::DataLevel]]),
            outcome: slots(&[&TOP_OUTCOME, &DATA_OUTCOME]),
            duration: durations(&[DATA_DURATION]),
            expires_at: slots(&[&[At::ExpiresAt]]),
            ttl: slots(&[&[At::Ttl]]),
            ..common()
        },
        // What a hand-written event is likely to call them: `curl -d '{"type": "order.placed", "data": {...}}'`.
        Shape::Foreign | Shape::Line => Table {
            event_type: slots(&[&[At::Type, At::EventType]]),
            id: slots(&[&[At::Id, At::EventId]]),
            source: slots(&[&[At::Source]]),
            subject: slots(&[&[At::Subject, At::Target]]),
            time: slots(&[&[At::Time, At::Timestamp]]),
            correlation: slots(&[&[At::CorrelationId, At::Correlationid]]),
            severity: slots(&[&[
                At::Severity,
                At::Level,
                At::DataSeverity,
                At::DataLevel,
                At::PayloadSeverity,
                At::PayloadLevel,
            ]]),
            outcome: slots(&[&TOP_OUTCOME, &DATA_OUTCOME, &PAYLOAD_OUTCOME]),
            duration: durations(&[TOP_DURATION, DATA_DURATION, PAYLOAD_DURATION]),
            attempt: vec![(At::Attempt as u32, 0)],
            ..common()
        },
    }
}

/// The names that `shape:` takes, `data` beside them.
const GIVEN: [&str; 21] = [
    "type",
    "id",
    "source",
    "subject",
    "time",
    "correlation",
    "causation",
    "traceparent",
    "trace_id",
    "span_id",
    "priority",
    "severity",
    "outcome",
    "attempt",
    "duration_ms",
    "duration_s",
    "duration_us",
    "duration_ns",
    "sampledrate",
    "expires_at",
    "ttl",
];

/// All shapes of one decoder.
#[derive(Debug, Clone)]
pub(super) struct Shapes {
    tables: [Table; 7],
    /// `shape:` of the configuration: paths whose slots follow the candidates'.
    given: Vec<FieldPath>,
    /// `data:` of `shape:`.
    given_data: Option<FieldPath>,
    configured: bool,
}

const ORDER: [Shape; 7] = [
    Shape::CloudEvents,
    Shape::Router,
    Shape::DomainEnvelope,
    Shape::Typed,
    Shape::Coordinator,
    Shape::Foreign,
    Shape::Line,
];

impl Shapes {
    /// Reads `shape:`; attributes that it does not name stand where they usually do.
    pub fn compile(config: &FormatConfig, found: &mut Diagnostics) -> Self {
        let mut shapes = Self {
            tables: ORDER.map(table),
            given: Vec::new(),
            given_data: None,
            configured: !config.shape.is_empty(),
        };
        let foreign = &mut shapes.tables[5];
        for (name, path) in &config.shape {
            if path.value.segments().contains(&Segment::Each) {
                found.error_hint(&path.span, "an attribute is one value, [] gives several", "name one element: [0]");
                continue;
            }
            if name.value == "data" {
                shapes.given_data = Some(path.value.clone());
                continue;
            }
            let slot = (PATHS.len() + shapes.given.len()) as u32;
            let list = match name.value.as_str() {
                "type" => &mut foreign.event_type,
                "id" => &mut foreign.id,
                "source" => &mut foreign.source,
                "subject" => &mut foreign.subject,
                "time" => &mut foreign.time,
                "correlation" => &mut foreign.correlation,
                "causation" => &mut foreign.causation,
                "traceparent" => &mut foreign.traceparent,
                "trace_id" => &mut foreign.trace_id,
                "span_id" => &mut foreign.span_id,
                "priority" => &mut foreign.priority,
                "severity" => &mut foreign.severity,
                "outcome" => &mut foreign.outcome,
                "sampledrate" => &mut foreign.weight,
                "expires_at" => &mut foreign.expires_at,
                "ttl" => &mut foreign.ttl,
                "attempt" => {
                    foreign.attempt.insert(0, (slot, 0));
                    shapes.given.push(path.value.clone());
                    continue;
                }
                other => match DURATION_NAMES.iter().position(|known| *known == other) {
                    Some(unit) => {
                        foreign.duration.insert(0, (slot, DURATION_DIVISORS[unit]));
                        shapes.given.push(path.value.clone());
                        continue;
                    }
                    None => {
                        let hint = match nearest(other, GIVEN.into_iter().chain(["data"])) {
                            Some(near) => format!("did you mean {near:?}?"),
                            None => format!("one of data, {}", GIVEN.join(", ")),
                        };
                        found.error_hint(&name.span, format!("an event has no attribute {other:?}"), hint);
                        continue;
                    }
                },
            };
            list.insert(0, slot);
            shapes.given.push(path.value.clone());
        }
        shapes
    }

    /// Adds every candidate to a tree; they get the first slots, in order.
    pub fn plant(&self, builder: &mut TrieBuilder) {
        for path in PATHS {
            let segments: Vec<Segment> = path.split('.').map(|key| Segment::Key(key.into())).collect();
            builder.add(&segments);
        }
        for path in &self.given {
            builder.add(path.segments());
        }
    }

    /// The places in the document at which a canonical `data.…` may stand, by root.
    pub fn data_paths(&self, rest: &[Segment]) -> Vec<(Root, Vec<Segment>)> {
        let key = |name: &str| Segment::Key(name.into());
        let mut roots = vec![
            (Root::Data, vec![key("data")]),
            (Root::Payload, vec![key("payload")]),
            (Root::EventData, vec![key("event"), key("data")]),
        ];
        // With nothing behind `data` the whole document would be meant, and an array has no place at the top.
        if matches!(rest.first(), Some(Segment::Key(_))) {
            roots.push((Root::Top, Vec::new()));
        }
        if let Some(given) = &self.given_data {
            roots.push((Root::Given, given.segments().to_vec()));
        }
        for (_, path) in &mut roots {
            path.extend_from_slice(rest);
        }
        roots
    }

    /// The places that the text attributes are read from, in any shape.
    pub fn attribute_places(&self) -> Vec<(Attribute, FieldPath)> {
        let mut places = Vec::new();
        for table in &self.tables {
            for (attribute, slots) in [
                (Attribute::Id, &table.id),
                (Attribute::Subject, &table.subject),
                (Attribute::Correlation, &table.correlation),
                (Attribute::Causation, &table.causation),
                (Attribute::TraceId, &table.trace_id),
                (Attribute::TraceId, &table.traceparent),
                (Attribute::SpanId, &table.span_id),
                (Attribute::SpanId, &table.traceparent),
                (Attribute::Severity, &table.severity),
                (Attribute::Outcome, &table.outcome),
            ] {
                let place = |slot: &u32| match PATHS.get(*slot as usize) {
                    Some(path) => FieldPath::parse(path).ok(),
                    None => self.given.get(*slot as usize - PATHS.len()).cloned(),
                };
                places.extend(slots.iter().filter_map(place).map(|path| (attribute, path)));
            }
        }
        places
    }

    /// Where `data` of `shape:` stands.
    pub fn given_data(&self) -> Option<&FieldPath> {
        self.given_data.as_ref()
    }

    /// The shape of a scanned document and where its `data.*` begins; `None` when nothing names its type.
    pub fn recognise(&self, values: &[Field], default_type: bool) -> Option<(Shape, Root)> {
        let has = |at: At| values[at as usize] != Field::Missing;
        let anywhere = || {
            if has(At::Data) {
                Root::Data
            } else if has(At::Payload) {
                Root::Payload
            } else {
                Root::Top
            }
        };
        if self.configured {
            let root = if self.given_data.is_some() { Root::Given } else { anywhere() };
            return Some((Shape::Foreign, root));
        }
        if has(At::SpecVersion) {
            Some((Shape::CloudEvents, Root::Data))
        } else if has(At::EventEventType) {
            Some((Shape::DomainEnvelope, Root::EventData))
        } else if has(At::Type) && has(At::Payload) {
            Some((Shape::Router, Root::Payload))
        } else if has(At::EventType) {
            if has(At::Data) { Some((Shape::Coordinator, Root::Data)) } else { Some((Shape::Typed, Root::Top)) }
        } else if has(At::Type) || default_type {
            Some((Shape::Foreign, anywhere()))
        } else {
            None
        }
    }

    /// The base64 text of a CloudEvent without `data`, and whether it is said to be something else than JSON.
    pub fn base64(values: &[Field], buffer: &str, arena: &str) -> Option<(Text, bool)> {
        let (Field::Text(text), Field::Missing) = (values[At::DataBase64 as usize], values[At::Data as usize]) else {
            return None;
        };
        let opaque = match values[At::DataContentType as usize] {
            Field::Text(kind) => !is_json(kind.resolve(buffer, arena)),
            _ => false,
        };
        Some((text, opaque))
    }

    /// The event of a scanned document.
    ///
    /// # Errors
    /// The reason and a sentence for the sender.
    pub fn event(
        &self,
        shape: Shape,
        found: Found<'_>,
        default_type: Text,
        raw: Text,
        arrived: Timestamp,
    ) -> Result<Event, (&'static str, String)> {
        let at = ORDER.iter().position(|known| *known == shape).unwrap_or(5);
        let table = &self.tables[at];
        if shape == Shape::CloudEvents {
            found.check_cloudevent()?;
        }
        let event_type = match found.first_field(&table.event_type) {
            Field::Text(text) if !found.str(text).is_empty() => text,
            Field::Missing | Field::Null if !default_type.is_none() => default_type,
            Field::Missing | Field::Null => return Err((reason::NO_TYPE, NO_TYPE.into())),
            _ => return Err((reason::NO_TYPE, "the event's type must be a text that is not empty".into())),
        };
        let mut event = Event {
            event_type,
            id: found.first(&table.id),
            source: found.first(&table.source),
            subject: found.first(&table.subject),
            correlation: found.first(&table.correlation),
            causation: found.first(&table.causation),
            trace_id: found.hex(&table.trace_id, 32),
            span_id: found.hex(&table.span_id, 16),
            outcome: Text::NONE,
            severity: found.first(&table.severity),
            time: None,
            time_invalid: false,
            duration_seconds: f64::NAN,
            attempt: 1,
            priority: 5,
            expires: Event::NEVER,
            failed: false,
            weight: 1.0,
            shape,
            raw,
        };
        if let Some((trace, span)) = found.traceparent(&table.traceparent) {
            (event.trace_id, event.span_id) = (trace, span);
        }
        if shape == Shape::CloudEvents && event.correlation.is_none() {
            event.correlation = event.trace_id;
        }
        (event.outcome, event.failed) = found.outcome(&table.outcome);
        event.failed |= type_says_failed(found.str(event_type));
        (event.time, event.time_invalid) = found.time(found.first_field(&table.time));
        for (slot, divisor) in &table.duration {
            if let Some(value) = found.number(found.values[*slot as usize]) {
                event.duration_seconds = value / divisor;
                break;
            }
        }
        for (slot, plus) in &table.attempt {
            if let Some(value) = found.number(found.values[*slot as usize]) {
                event.attempt = (value.clamp(0.0, 1e9) as u32 + plus).max(1);
                break;
            }
        }
        event.expires = found.expires(table, arrived);
        event.priority = priority(found, found.first_field(&table.priority));
        if let Some(value) = found.number(found.first_field(&table.weight)).filter(|value| *value >= 1.0) {
            event.weight = value;
        }
        Ok(event)
    }
}

const NO_TYPE: &str = "no type: an event needs `type`, `event_type` or `event.event_type` (or name the path in the \
                       source's `shape:`)";

/// Whether a media type is JSON (RFC 6839 for `+json`).
pub(super) fn is_json(media_type: &str) -> bool {
    let kind = media_type.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
    kind.ends_with("/json") || kind.ends_with("+json")
}

/// *Failed* by the type: the last segment is failed, failure, rejected or timeout, or some segment is error or errors.
pub(super) fn type_says_failed(event_type: &str) -> bool {
    let mut last: &[u8] = b"";
    for segment in event_type.as_bytes().split(|byte| *byte == b'.') {
        // Most segments have another length; comparing that first keeps this off the profile.
        if matches!(segment.len(), 5 | 6)
            && (segment.eq_ignore_ascii_case(b"error") || segment.eq_ignore_ascii_case(b"errors"))
        {
            return true;
        }
        last = segment;
    }
    ["failed", "failure", "rejected", "timeout"].iter().any(|word| last.eq_ignore_ascii_case(word.as_bytes()))
}

/// *Failed* by the outcome.
pub(super) fn outcome_says_failed(outcome: &str) -> bool {
    ["failed", "failure", "error"].iter().any(|word| outcome.eq_ignore_ascii_case(word))
}
