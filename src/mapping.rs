//! Mappings: which events change which metrics, compiled once.
//!
//! An event's type is looked up in a bounded table that says at once which mappings match it; the series of a mapping are
//! found by the values of their labels in a table of their own. An event thus costs two or three hash lookups for each
//! metric it changes, whatever the number of mappings, and no allocation.

mod automatic;
mod compile;
mod handles;
pub mod select;
mod timer;
pub mod units;

pub use automatic::AUTOMATIC;

use crate::config::schema::{LabelConfig, MetricConfig};
use crate::model::{Event, EventBatch, Field, Timestamp};
use crate::series::{ExemplarRef, Handle, MetricId, MetricKind, Observed, Store};
use crate::source::decode::field_number;
use automatic::Automatic;
use handles::{Handles, Types};
use regex::Regex;
use select::{FieldSource, Select};
use std::borrow::Cow;
use std::sync::Arc;
use timer::{Lost, Timer};

/// The built-in source: what sidewatch says of itself is not among what it heard.
const OWN_SOURCE: &str = "sidewatch";

/// Elements of a list that one mapping looks at in one event.
const ELEMENTS: usize = 1_000;

/// One label of a mapping.
#[derive(Debug)]
struct LabelRule {
    name: Arc<str>,
    from: Option<FieldSource>,
    constant: Box<str>,
    replace: Vec<(Regex, Box<str>)>,
    map: Vec<(Box<str>, Box<str>)>,
    default: Box<str>,
}

/// Where a mapping's number comes from, and the factor to the base unit.
#[derive(Clone, Copy, Debug)]
enum Number {
    Constant(f64),
    Field(FieldSource, f64),
}

/// What a mapping does with an event.
#[derive(Debug)]
enum Action {
    Add(Number),
    Set(Number),
    GaugeAdd(Number),
    Observe(Number),
    /// Index into `Mappings::timers`; the event may begin it, end it, or both.
    Timer(usize),
}

/// One compiled entry of `metrics:`.
#[derive(Debug)]
struct Mapping {
    name: Arc<str>,
    help: Box<str>,
    unit: &'static str,
    kind: MetricKind,
    action: Action,
    /// Which events; for a timer, which end it.
    select: Select,
    /// Which events begin a timer.
    begin: Option<Select>,
    by: Option<FieldSource>,
    labels: Vec<LabelRule>,
    /// The entry as it was read, to see whether a reload changes it.
    config: MetricConfig,
}

/// A compiled `drop:` rule.
#[derive(Debug)]
struct Drop {
    select: Select,
}

/// What a configuration compiles to: shared, never changed.
#[derive(Debug, Default)]
struct Compiled {
    mappings: Vec<Mapping>,
    drops: Vec<Drop>,
}

/// The mappings with their tables. A clone of freshly compiled mappings is cheap.
#[derive(Clone, Debug)]
pub struct Mappings {
    compiled: Arc<Compiled>,
    ids: Vec<MetricId>,
    types: Types,
    handles: Handles,
    timers: Vec<Timer>,
    automatic: Automatic,
}

impl Mappings {
    /// Declares every metric. To be called once before the first event, and again for a restored or another store.
    /// A metric that is something else now than before loses its old series.
    pub fn declare(&mut self, store: &mut Store, now: Timestamp) {
        self.automatic.declare(store);
        self.handles.clear();
        self.types.forget_handles();
        let declare =
            |mapping: &Mapping| match store.declare(&mapping.name, mapping.kind.clone(), &mapping.help, mapping.unit) {
                Ok(id) => id,
                Err(_) => {
                    // The names were checked when they were compiled: only an earlier configuration can be in the way.
                    let id = store.metric_id(&mapping.name);
                    store.retire(id, now);
                    store.declare(&mapping.name, mapping.kind.clone(), &mapping.help, mapping.unit).unwrap_or(id)
                }
            };
        self.ids = self.compiled.mappings.iter().map(declare).collect();
    }

    /// Takes over from the mappings of the configuration before: metrics that are gone end, timers of unchanged entries
    /// keep what has begun.
    pub fn carry_over(&mut self, old: Self, store: &mut Store, now: Timestamp) {
        for mapping in &old.compiled.mappings {
            if !self.compiled.mappings.iter().any(|kept| kept.name == mapping.name) {
                let id = store.metric_id(&mapping.name);
                store.retire(id, now);
            }
        }
        let compiled = self.compiled.clone();
        for mapping in &compiled.mappings {
            let Action::Timer(at) = mapping.action else { continue };
            let same = |other: &&Mapping| other.config == mapping.config && other.name == mapping.name;
            if let Some(Mapping { action: Action::Timer(before), .. }) = old.compiled.mappings.iter().find(same) {
                self.timers[at].take_over(&old.timers[*before]);
            }
        }
    }

    /// Every configured metric with what it is; automatic ones are in [`AUTOMATIC`].
    pub fn metrics(&self) -> impl Iterator<Item = (&str, &MetricKind)> {
        self.compiled.mappings.iter().map(|mapping| (&*mapping.name, &mapping.kind))
    }

    /// Whether a metric is counted here, so that nobody else may.
    pub fn owns(&self, metric: &str) -> bool {
        metric.starts_with("sidewatch_")
            || AUTOMATIC.iter().any(|(name, ..)| *name == metric)
            || self.compiled.mappings.iter().any(|mapping| *mapping.name == *metric)
    }

    /// Counts input that a source refused, by reason.
    pub fn refuse(&mut self, store: &mut Store, source: &Arc<str>, reason: &'static str, count: u64, now: Timestamp) {
        self.automatic.refuse(store, source, reason, count as f64, now);
    }

    /// Takes out the events that a `drop:` rule names and counts them.
    pub fn drop_events(&mut self, batch: &mut EventBatch, store: &mut Store, now: Timestamp) {
        if self.compiled.drops.is_empty() {
            return;
        }
        let dropped: Vec<bool> = (0..batch.events.len())
            .map(|row| {
                let event = &batch.events[row];
                let name = batch.text(event.event_type);
                self.compiled
                    .drops
                    .iter()
                    .any(|rule| rule.select.matches_type(name) && rule.select.matches_fields(batch, row, event))
            })
            .collect();
        let count = batch.remove(&dropped);
        if count > 0 {
            self.automatic.dropped(store, &batch.source, count as f64, now);
        }
    }

    /// Lets a batch change the metrics: the automatic ones, and those of every mapping that matches.
    pub fn apply(&mut self, batch: &EventBatch, store: &mut Store, now: Timestamp) {
        let compiled = self.compiled.clone();
        for (row, event) in batch.events.iter().enumerate() {
            let event_type = batch.text(event.event_type);
            let entry = self.types.entry(event_type, &compiled);
            if &*batch.source != OWN_SOURCE {
                self.automatic.event(store, batch, event, entry, now);
            }
            // Indices, because the table must be free for the next look-up.
            for at in 0..entry.mappings.len() {
                let index = entry.mappings[at] as usize;
                let mapping = &compiled.mappings[index];
                if let Action::Timer(timer) = mapping.action {
                    let timer = &mut self.timers[timer];
                    apply_timer(
                        mapping,
                        self.ids[index],
                        index,
                        timer,
                        &mut self.handles,
                        &mut self.automatic,
                        batch,
                        row,
                        event,
                        store,
                        now,
                    );
                } else if mapping.select.matches_fields(batch, row, event) {
                    apply_one(
                        mapping,
                        self.ids[index],
                        index,
                        &mut self.handles,
                        &mut self.automatic,
                        batch,
                        row,
                        event,
                        store,
                        now,
                    );
                }
            }
        }
        self.automatic.refused(store, batch, now);
        self.automatic.validated(store, batch, now);
    }

    /// What timers remember.
    pub fn snapshot(&self) -> Vec<u8> {
        let names = self.compiled.mappings.iter().filter(|mapping| matches!(mapping.action, Action::Timer(_)));
        let all: Vec<(&str, Vec<(&str, Timestamp)>)> =
            names.zip(&self.timers).map(|(mapping, timer)| (&*mapping.name, timer.pending())).collect();
        postcard::to_stdvec(&all).unwrap_or_default()
    }

    /// Restores what timers remembered; those that are no longer configured are left out.
    ///
    /// # Errors
    /// The bytes are not a snapshot.
    pub fn restore(&mut self, bytes: &[u8]) -> Result<(), String> {
        let all: Vec<(String, Vec<(String, Timestamp)>)> =
            postcard::from_bytes(bytes).map_err(|error| error.to_string())?;
        for (name, pending) in all {
            let known = self.compiled.mappings.iter().find(|mapping| *mapping.name == *name);
            if let Some(Mapping { action: Action::Timer(at), .. }) = known {
                self.timers[*at].restore(pending);
            }
        }
        Ok(())
    }
}

/// Values of labels for one element: borrowed where nothing has to be changed.
type Values<'a> = smallvec::SmallVec<[Cow<'a, str>; 8]>;

impl LabelRule {
    fn value<'a>(&'a self, batch: &'a EventBatch, row: usize, event: &Event, element: usize) -> Cow<'a, str> {
        let Some(from) = &self.from else { return Cow::Borrowed(&self.constant) };
        let field = from.field(batch, row);
        let text = match field {
            Some(Field::List { start, len }) => {
                batch.list(start, len).get(element).and_then(|field| batch.field_str(*field))
            }
            Some(field) => batch.field_str(field),
            None => from.text(batch, row, event),
        };
        let mut text = match text {
            Some(text) if !text.is_empty() => Cow::Borrowed(text),
            _ => return Cow::Borrowed(&self.default),
        };
        for (regex, with) in &self.replace {
            if let Cow::Owned(changed) = regex.replace_all(&text, &**with) {
                text = Cow::Owned(changed);
            }
        }
        match self.map.iter().find(|(from, _)| **from == *text) {
            Some((_, to)) => Cow::Borrowed(to),
            None => text,
        }
    }

    fn elements(&self, batch: &EventBatch, row: usize) -> usize {
        match self.from.and_then(|from| from.field(batch, row)) {
            Some(Field::List { len, .. }) => len as usize,
            _ => 0,
        }
    }
}

impl Number {
    /// The number of one element; `None` when the field is absent or no number.
    fn value(self, batch: &EventBatch, row: usize, event: &Event, element: usize) -> Option<f64> {
        match self {
            Self::Constant(value) => Some(value),
            Self::Field(from, factor) => {
                let value = match from.field(batch, row) {
                    Some(Field::List { start, len }) => field_number(batch, *batch.list(start, len).get(element)?),
                    Some(field) => field_number(batch, field),
                    None => from.text(batch, row, event)?.parse().ok(),
                }?;
                // Divided by whole numbers where the unit is a part of the base: 40 ms is 0.04 s exactly.
                Some(if factor < 1.0 { value / (1.0 / factor).round() } else { value * factor })
            }
        }
    }

    fn elements(self, batch: &EventBatch, row: usize) -> usize {
        match self {
            Self::Field(from, _) => match from.field(batch, row) {
                Some(Field::List { len, .. }) => len as usize,
                _ => 0,
            },
            Self::Constant(_) => 0,
        }
    }

    fn is_list(self, batch: &EventBatch, row: usize) -> bool {
        matches!(self, Self::Field(from, _) if matches!(from.field(batch, row), Some(Field::List { .. })))
    }
}

#[expect(clippy::too_many_arguments, reason = "one step of the hot loop, cut out to be read")]
fn apply_one(
    mapping: &Mapping,
    id: MetricId,
    index: usize,
    handles: &mut Handles,
    automatic: &mut Automatic,
    batch: &EventBatch,
    row: usize,
    event: &Event,
    store: &mut Store,
    now: Timestamp,
) {
    let number = match mapping.action {
        Action::Add(number) | Action::Set(number) | Action::GaugeAdd(number) | Action::Observe(number) => number,
        Action::Timer(_) => return,
    };
    let labels = mapping.labels.iter().map(|label| label.elements(batch, row)).max().unwrap_or(0);
    let elements = if number.is_list(batch, row) { number.elements(batch, row) } else { labels.max(1) };
    for element in 0..elements.min(ELEMENTS) {
        let Some(value) = number.value(batch, row, event, element) else {
            automatic.skipped(store, &mapping.name, "no_value", now);
            continue;
        };
        let values: Values<'_> = mapping.labels.iter().map(|label| label.value(batch, row, event, element)).collect();
        update(mapping, id, index, handles, &values, batch, event, value, store, now);
    }
    if elements > ELEMENTS {
        automatic.skipped(store, &mapping.name, "too_many_elements", now);
    }
}

#[expect(clippy::too_many_arguments, reason = "one step of the hot loop, cut out to be read")]
fn update(
    mapping: &Mapping,
    id: MetricId,
    index: usize,
    handles: &mut Handles,
    values: &[Cow<'_, str>],
    batch: &EventBatch,
    event: &Event,
    value: f64,
    store: &mut Store,
    now: Timestamp,
) {
    // A handle goes stale when its series expires: resolve once more.
    for _ in 0..2 {
        let Some(handle) = handles.get(index as u32, values, || resolve(mapping, id, values, store, now)) else {
            return;
        };
        let done = match mapping.action {
            Action::Add(_) => store.add(handle, value * event.weight, now),
            Action::Set(_) => store.set(handle, value, now),
            Action::GaugeAdd(_) => store.gauge_add(handle, value * event.weight, now),
            Action::Observe(_) | Action::Timer(_) => {
                let weight = event.weight.round().max(1.0) as u64;
                store.observe(handle, value, weight, now, exemplar(batch, event, value)) != Observed::Stale
            }
        };
        if done {
            return;
        }
        handles.forget(index as u32, values);
    }
}

fn exemplar<'a>(batch: &'a EventBatch, event: &Event, value: f64) -> Option<ExemplarRef<'a>> {
    (!event.trace_id.is_none()).then(|| ExemplarRef {
        trace_id: batch.text(event.trace_id),
        span_id: batch.text(event.span_id),
        value,
    })
}

fn resolve(
    mapping: &Mapping,
    id: MetricId,
    values: &[Cow<'_, str>],
    store: &mut Store,
    now: Timestamp,
) -> Option<Handle> {
    let labels: smallvec::SmallVec<[(&str, &str); 8]> =
        mapping.labels.iter().zip(values).map(|(label, value)| (&*label.name, &**value)).collect();
    // A series past a limit is counted by the store; the update is lost, as the limit says.
    store.resolve(id, &labels, now).ok()
}

#[expect(clippy::too_many_arguments, reason = "one step of the hot loop, cut out to be read")]
fn apply_timer(
    mapping: &Mapping,
    id: MetricId,
    index: usize,
    timer: &mut Timer,
    handles: &mut Handles,
    automatic: &mut Automatic,
    batch: &EventBatch,
    row: usize,
    event: &Event,
    store: &mut Store,
    now: Timestamp,
) {
    let (Some(begin), Some(by)) = (&mapping.begin, &mapping.by) else { return };
    let event_type = batch.text(event.event_type);
    let matches = |select: &Select| select.matches_type(event_type) && select.matches_fields(batch, row, event);
    let (ends, begins) = (matches(&mapping.select), matches(begin));
    if !ends && !begins {
        return;
    }
    let Some(key) = by.text(batch, row, event).filter(|key| !key.is_empty()) else {
        automatic.skipped(store, &mapping.name, "no_key", now);
        return;
    };
    let at = event.time.unwrap_or(batch.arrived);
    let lost = |store: &mut Store, reason: Lost| automatic.skipped(store, &mapping.name, reason.as_str(), now);
    if ends {
        match timer.end(key, at) {
            Ok(seconds) => {
                let values: Values<'_> = mapping.labels.iter().map(|label| label.value(batch, row, event, 0)).collect();
                update(mapping, id, index, handles, &values, batch, event, seconds, store, now);
            }
            Err(reason) => lost(store, reason),
        }
    }
    for _ in 0..timer.expire(at, now) {
        lost(store, Lost::TooLate);
    }
    if begins && let Some(reason) = timer.begin(key, at, now) {
        lost(store, reason);
    }
}

/// The label's rule as it was configured, checked.
fn label_name(config: &LabelConfig) -> &str {
    &config.name.value
}

#[cfg(test)]
mod tests;
