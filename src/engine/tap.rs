//! Events that leave the stream as they pass: for logs and traces. Deterministic like everything here: what is sampled
//! depends on the events alone.

use crate::mapping::select::{FieldSource, Select};
use crate::model::{Event, EventBatch, Timestamp};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Events that wait to be taken; more are dropped and counted.
const WAITING_EVENTS: usize = 20_000;
/// Bytes of their documents.
const WAITING_BYTES: usize = 32 << 20;
/// Types whose events of a second are counted.
const TYPES: usize = 1_000;

/// What one consumer wants.
#[derive(Debug)]
pub struct TapSpec {
    /// Its name under `export:`.
    pub sink: Arc<str>,
    /// Which events; `None` for those with a trace context and a duration.
    pub select: Option<Select>,
    /// Which share of them, 0 to 1.
    pub sample: f64,
    /// So many of a type within a second; `None` for all.
    pub per_type: Option<usize>,
    /// Fields with their paths as they were written.
    pub fields: Vec<(String, FieldSource)>,
}

/// An event that was taken out.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the attributes of an event, as everywhere")]
pub struct Tapped {
    pub sink: Arc<str>,
    pub source: String,
    pub event_type: String,
    pub id: String,
    pub subject: String,
    pub correlation: String,
    pub trace_id: String,
    pub span_id: String,
    pub at: Timestamp,
    pub duration_seconds: f64,
    pub failed: bool,
    /// The document as it came; empty when fields were asked for.
    pub document: String,
    /// Path and value of what was asked for and is there.
    pub fields: Vec<(String, String)>,
}

#[derive(Debug, Default)]
struct TapState {
    /// Grows by the share with each event; at 1 one is taken.
    due: f64,
    second: i64,
    of_type: BTreeMap<String, usize>,
}

/// The taps of a configuration with their state.
#[derive(Debug, Default)]
pub(super) struct Taps {
    specs: Arc<[TapSpec]>,
    states: Vec<TapState>,
    waiting: Vec<Tapped>,
    bytes: usize,
    dropped: BTreeMap<(Arc<str>, &'static str), u64>,
}

/// What was dropped since the last call, by consumer and reason.
pub type TapsDropped = BTreeMap<(Arc<str>, &'static str), u64>;

impl Taps {
    pub fn new(specs: Arc<[TapSpec]>) -> Self {
        Self { states: specs.iter().map(|_| TapState::default()).collect(), specs, ..Self::default() }
    }

    pub fn observe(&mut self, now: Timestamp, batch: &EventBatch) {
        let specs = self.specs.clone();
        for (spec, state) in specs.iter().zip(&mut self.states) {
            for (row, event) in batch.events.iter().enumerate() {
                let event_type = batch.text(event.event_type);
                let wanted = match &spec.select {
                    Some(select) => select.matches_type(event_type) && select.matches_fields(batch, row, event),
                    None => is_span(batch, event),
                };
                if !wanted || !state.samples(spec, batch, event) {
                    continue;
                }
                let mut drop = |reason| *self.dropped.entry((spec.sink.clone(), reason)).or_default() += 1;
                if let Some(limit) = spec.per_type
                    && !state.within(now, event_type, limit)
                {
                    drop("per_type");
                    continue;
                }
                if self.waiting.len() >= WAITING_EVENTS || self.bytes >= WAITING_BYTES {
                    drop("queue_full");
                    continue;
                }
                let tapped = taken(spec, batch, row, event);
                self.bytes += tapped.document.len();
                self.waiting.push(tapped);
            }
        }
    }

    pub fn take(&mut self) -> (Vec<Tapped>, TapsDropped) {
        self.bytes = 0;
        (std::mem::take(&mut self.waiting), std::mem::take(&mut self.dropped))
    }
}

impl TapState {
    fn samples(&mut self, spec: &TapSpec, batch: &EventBatch, event: &Event) -> bool {
        if spec.sample >= 1.0 {
            return true;
        }
        if spec.select.is_none() {
            // By the trace's id, so that all spans of a trace are kept or none (as TraceIdRatioBased of OpenTelemetry).
            let trace = batch.text(event.trace_id);
            let low = trace.get(18..).and_then(|digits| u64::from_str_radix(digits, 16).ok()).unwrap_or(0);
            return (low as f64) < spec.sample * (1_u64 << 56) as f64;
        }
        self.due += spec.sample;
        if self.due >= 1.0 {
            self.due -= 1.0;
            return true;
        }
        false
    }

    fn within(&mut self, now: Timestamp, event_type: &str, limit: usize) -> bool {
        let second = now.millis().div_euclid(1_000);
        if second != self.second {
            self.second = second;
            self.of_type.clear();
        }
        let room = self.of_type.len() < TYPES;
        match self.of_type.get_mut(event_type) {
            Some(count) if *count >= limit => false,
            Some(count) => {
                *count += 1;
                true
            }
            None if room => {
                self.of_type.insert(event_type.to_owned(), 1);
                true
            }
            None => false,
        }
    }
}

fn is_span(batch: &EventBatch, event: &Event) -> bool {
    batch.text(event.trace_id).len() == 32 && event.duration_seconds >= 0.0 && event.duration_seconds.is_finite()
}

fn taken(spec: &TapSpec, batch: &EventBatch, row: usize, event: &Event) -> Tapped {
    let text = |text| batch.text(text).to_owned();
    let fields = spec.fields.iter().filter_map(|(path, source)| {
        let value = source.text(batch, row, event)?;
        Some((path.clone(), value.to_owned()))
    });
    let fields: Vec<(String, String)> = fields.collect();
    let whole = spec.select.is_some() && spec.fields.is_empty();
    Tapped {
        sink: spec.sink.clone(),
        source: batch.source_of(event).to_owned(),
        event_type: text(event.event_type),
        id: text(event.id),
        subject: text(event.subject),
        correlation: text(event.correlation),
        trace_id: text(event.trace_id),
        span_id: text(event.span_id),
        at: event.time.unwrap_or(batch.arrived),
        duration_seconds: event.duration_seconds,
        failed: event.failed,
        document: if whole { text(event.raw) } else { String::new() },
        fields,
    }
}
