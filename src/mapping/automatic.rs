//! The metrics that every event has without any mapping.

use super::handles::TypeEntry;
use crate::model::{Attribute, Event, EventBatch, Timestamp};
use crate::series::{ExemplarRef, Handle, HistogramOptions, MetricId, MetricKind, Observed, Store};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Name, kind (`counter` or `histogram`), unit and help of every automatic metric.
pub const AUTOMATIC: [(&str, &str, &str, &str); 9] = [
    ("events_total", "counter", "", "Events received."),
    ("events_failed_total", "counter", "", "Events that report a failure, by their outcome or their type."),
    ("events_retried_total", "counter", "", "Events that are a second or later attempt."),
    ("event_duration_seconds", "histogram", "seconds", "How long what an event reports took."),
    ("event_lag_seconds", "histogram", "seconds", "Time from an event's own time to its arrival."),
    (
        "sidewatch_events_refused_total",
        "counter",
        "",
        "Input that was refused, and times that could not be read (time_invalid), by reason.",
    ),
    ("sidewatch_events_dropped_total", "counter", "", "Events that a drop rule left out."),
    ("sidewatch_mapping_skipped_total", "counter", "", "Events that a mapping could not use, by reason."),
    (
        "sidewatch_events_validated_total",
        "counter",
        "",
        "Events that were held against a schema, by its name and version and by result: valid or invalid.",
    ),
];

const TOTAL: usize = 0;
const FAILED: usize = 1;
const RETRIED: usize = 2;
const DURATION: usize = 3;
const LAG: usize = 4;
const REFUSED: usize = 5;
const DROPPED: usize = 6;
const SKIPPED: usize = 7;
const VALIDATED: usize = 8;

/// Sources of one type whose handles are remembered.
const SOURCES_OF_A_TYPE: usize = 64;

/// The series of one type and source.
#[derive(Clone, Debug, Default)]
pub(super) struct TypeHandles {
    source: Box<str>,
    series: [Option<Handle>; 5],
}

/// Declares and updates the automatic metrics.
#[derive(Clone, Debug, Default)]
pub(super) struct Automatic {
    ids: Vec<MetricId>,
    refused: BTreeMap<(Arc<str>, &'static str), Handle>,
}

impl Automatic {
    pub fn declare(&mut self, store: &mut Store) {
        self.refused.clear();
        let declare = |(name, kind, unit, help): &(&str, &str, &str, &str)| {
            let kind = match *kind {
                "histogram" => MetricKind::Histogram(HistogramOptions::default()),
                _ => MetricKind::Counter,
            };
            // No configuration may name a metric so, and their kind never changes.
            store.declare(name, kind, help, unit).unwrap_or_else(|_| store.metric_id(name))
        };
        self.ids = AUTOMATIC.iter().map(declare).collect();
    }

    /// Counts one event.
    pub fn event(&self, store: &mut Store, batch: &EventBatch, event: &Event, entry: &mut TypeEntry, now: Timestamp) {
        let source = batch.source_of(event);
        let at = match entry.automatic.iter().position(|known| &*known.source == source) {
            Some(at) => at,
            None => {
                if entry.automatic.len() >= SOURCES_OF_A_TYPE {
                    entry.automatic.clear();
                }
                entry.automatic.push(TypeHandles { source: source.into(), ..TypeHandles::default() });
                entry.automatic.len() - 1
            }
        };
        let event_type = batch.text(event.event_type);
        let series = &mut entry.automatic[at].series;
        let both = [("type", event_type), ("source", source)];
        self.add(store, &mut series[TOTAL], TOTAL, &both, event.weight, now);
        if event.failed {
            self.add(store, &mut series[FAILED], FAILED, &both, event.weight, now);
        }
        if event.attempt > 1 {
            self.add(store, &mut series[RETRIED], RETRIED, &both, event.weight, now);
        }
        if !event.duration_seconds.is_nan() {
            let shown = |attribute, id| Some(batch.text(id)).filter(|text| batch.plan.veil().shows(attribute, text));
            let trace_id = shown(Attribute::TraceId, event.trace_id).filter(|text| !text.is_empty());
            let exemplar = trace_id.map(|trace_id| ExemplarRef {
                trace_id,
                span_id: shown(Attribute::SpanId, event.span_id).unwrap_or(""),
                value: event.duration_seconds,
            });
            self.observe(
                store,
                &mut series[DURATION],
                DURATION,
                &both,
                event.duration_seconds,
                event.weight,
                exemplar,
                now,
            );
        }
        if let Some(time) = event.time {
            // An event from the future (a clock that is ahead) has no lag.
            let lag = batch.arrived.micros_since(time).max(0) as f64 / 1e6;
            self.observe(store, &mut series[LAG], LAG, &both[1..], lag, event.weight, None, now);
        }
    }

    fn add(
        &self,
        store: &mut Store,
        held: &mut Option<Handle>,
        metric: usize,
        labels: &[(&str, &str)],
        by: f64,
        now: Timestamp,
    ) {
        if held.is_some_and(|handle| store.add(handle, by, now)) {
            return;
        }
        *held = None;
        let Ok(handle) = store.resolve(self.ids[metric], labels, now) else { return };
        store.add(handle, by, now);
        if !handle.is_overflow() {
            *held = Some(handle);
        }
    }

    #[expect(clippy::too_many_arguments, reason = "one step of the hot loop, cut out to be read")]
    fn observe(
        &self,
        store: &mut Store,
        held: &mut Option<Handle>,
        metric: usize,
        labels: &[(&str, &str)],
        value: f64,
        weight: f64,
        exemplar: Option<ExemplarRef<'_>>,
        now: Timestamp,
    ) {
        let weight = weight.round().max(1.0) as u64;
        if held.is_some_and(|handle| store.observe(handle, value, weight, now, exemplar) != Observed::Stale) {
            return;
        }
        *held = store.resolve(self.ids[metric], labels, now).ok();
        if let Some(handle) = *held {
            store.observe(handle, value, weight, now, exemplar);
        }
    }

    /// Counts what decoding refused, and times that could not be read.
    pub fn refused(&mut self, store: &mut Store, batch: &EventBatch, now: Timestamp) {
        for refusal in &batch.refused {
            self.refuse(store, &batch.source, refusal.reason, 1.0, now);
        }
        let unread = batch.events.iter().filter(|event| event.time_invalid).count();
        if unread > 0 {
            self.refuse(store, &batch.source, "time_invalid", unread as f64, now);
        }
    }

    pub fn refuse(&mut self, store: &mut Store, source: &Arc<str>, reason: &'static str, count: f64, now: Timestamp) {
        let key = (source.clone(), reason);
        if self.refused.get(&key).is_some_and(|handle| store.add(*handle, count, now)) {
            return;
        }
        if let Ok(handle) = store.resolve(self.ids[REFUSED], &[("source", source), ("reason", reason)], now) {
            store.add(handle, count, now);
            self.refused.insert(key, handle);
        }
    }

    /// Counts events that were held against schemas.
    pub fn validated(&self, store: &mut Store, batch: &EventBatch, now: Timestamp) {
        for counted in &batch.validated {
            for (result, count) in [("valid", counted.valid), ("invalid", counted.invalid)] {
                let labels = [
                    ("source", &*batch.source),
                    ("schema", &counted.schema),
                    ("version", &counted.version),
                    ("result", result),
                ];
                if count > 0
                    && let Ok(handle) = store.resolve(self.ids[VALIDATED], &labels, now)
                {
                    store.add(handle, f64::from(count), now);
                }
            }
        }
    }

    /// Counts events that a drop rule left out.
    pub fn dropped(&self, store: &mut Store, source: &str, count: f64, now: Timestamp) {
        if let Ok(handle) = store.resolve(self.ids[DROPPED], &[("source", source)], now) {
            store.add(handle, count, now);
        }
    }

    /// Counts an event that a mapping could not use.
    pub fn skipped(&self, store: &mut Store, metric: &str, reason: &str, now: Timestamp) {
        if let Ok(handle) = store.resolve(self.ids[SKIPPED], &[("metric", metric), ("reason", reason)], now) {
            store.add(handle, 1.0, now);
        }
    }
}
