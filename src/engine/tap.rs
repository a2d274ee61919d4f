//! Events that become spans, as they pass. Deterministic like everything here: what is sampled depends on the events alone.

use crate::model::{Attribute, Event, EventBatch, Timestamp};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Events that wait to be taken; more are dropped and counted.
const WAITING_EVENTS: usize = 20_000;

/// What one consumer wants: events with a trace context and a duration.
#[derive(Clone, Debug)]
pub struct TapSpec {
    /// Its name under `export:`.
    pub sink: Arc<str>,
    /// Which share of the traces, 0 to 1.
    pub sample: f64,
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
}

/// The taps of a configuration with what waits.
#[derive(Debug, Default)]
pub(super) struct Taps {
    specs: Arc<[TapSpec]>,
    waiting: Vec<Tapped>,
    dropped: TapsDropped,
}

/// What was dropped since the last call, by consumer and reason.
pub type TapsDropped = BTreeMap<(Arc<str>, &'static str), u64>;

impl Taps {
    pub fn new(specs: Arc<[TapSpec]>) -> Self {
        Self { specs, ..Self::default() }
    }

    pub fn observe(&mut self, batch: &EventBatch) {
        for spec in self.specs.iter() {
            for event in &batch.events {
                if !is_span(batch, event) || !samples(spec, batch, event) {
                    continue;
                }
                if self.waiting.len() >= WAITING_EVENTS {
                    *self.dropped.entry((spec.sink.clone(), "queue_full")).or_default() += 1;
                } else {
                    self.waiting.push(taken(spec, batch, event));
                }
            }
        }
    }

    pub fn take(&mut self) -> (Vec<Tapped>, TapsDropped) {
        (std::mem::take(&mut self.waiting), std::mem::take(&mut self.dropped))
    }
}

/// By the trace's id, so that all spans of a trace are kept or none (as TraceIdRatioBased of OpenTelemetry).
fn samples(spec: &TapSpec, batch: &EventBatch, event: &Event) -> bool {
    let trace = batch.text(event.trace_id);
    let low = trace.get(18..).and_then(|digits| u64::from_str_radix(digits, 16).ok()).unwrap_or(0);
    spec.sample >= 1.0 || (low as f64) < spec.sample * (1_u64 << 56) as f64
}

fn is_span(batch: &EventBatch, event: &Event) -> bool {
    let trace_id = batch.text(event.trace_id);
    // A span whose trace must not be shown belongs nowhere.
    trace_id.len() == 32
        && batch.plan.veil().shows(Attribute::TraceId, trace_id)
        && event.duration_seconds >= 0.0
        && event.duration_seconds.is_finite()
}

fn taken(spec: &TapSpec, batch: &EventBatch, event: &Event) -> Tapped {
    let veil = batch.plan.veil();
    let shown = |attribute, text| veil.attribute(attribute, batch.text(text)).into_owned();
    Tapped {
        sink: spec.sink.clone(),
        source: batch.source_of(event).to_owned(),
        event_type: shown(Attribute::Type, event.event_type),
        id: shown(Attribute::Id, event.id),
        subject: shown(Attribute::Subject, event.subject),
        correlation: shown(Attribute::Correlation, event.correlation),
        trace_id: batch.text(event.trace_id).to_owned(),
        span_id: shown(Attribute::SpanId, event.span_id),
        at: event.time.unwrap_or(batch.arrived),
        duration_seconds: event.duration_seconds,
        failed: event.failed,
    }
}
