//! Series that sources count themselves: which numbers stand for which series, by source.

use super::Engine;
use crate::mapping::Mappings;
use crate::model::Timestamp;
use crate::series::{DeclareError, Distinct, Handle, HistogramOptions, MetricKind, Observed, Store};
use crate::source::counts::{CountBatch, CountChange, CountKind, CountedSeries, Means};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A value of an older time than the gauge's last.
const OUT_OF_ORDER: &str = "out_of_order";
/// The metric is counted from events, or by sidewatch about itself.
const RESERVED: &str = "reserved_name";
/// A metric of this name exists and is something else.
const KIND_CONFLICT: &str = "kind_conflict";

/// Quantiles are written for so long after the last value: their window, and a little more, so that the last is empty.
const QUANTILES_MS: i64 = 72_000;

/// How a series is reached.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// Not looked for yet, or it has ended.
    Unknown,
    Known(Handle),
    /// Its changes are refused for this reason until the configuration changes.
    Refused(&'static str),
}

/// One series of a source.
#[derive(Debug)]
struct Row {
    way: Way,
    series: Arc<CountedSeries>,
    updated_ms: i64,
    /// Time of the last value that brought its own.
    stamp_ms: i64,
    set: Option<Box<Distinct>>,
}

/// The series of one source.
#[derive(Debug, Default)]
struct Session {
    session: u64,
    rows: Vec<Option<Row>>,
    /// Rows that end after a time of their own.
    mortal: Vec<u32>,
    /// Rows of sets.
    sets: Vec<u32>,
    /// Rows whose quantiles are series.
    summaries: Vec<u32>,
}

/// The series that sources count themselves.
#[derive(Debug, Default)]
pub(super) struct Counts {
    sources: BTreeMap<Arc<str>, Session>,
}

impl Counts {
    /// After a change of the configuration, what a metric may be is asked again.
    pub fn look_again(&mut self) {
        for row in self.sources.values_mut().flat_map(|session| session.rows.iter_mut().flatten()) {
            row.way = Way::Unknown;
        }
    }

    /// Forgets the numbers of a source whose task has ended; its series stay until they are idle for long.
    pub fn end(&mut self, source: &Arc<str>) {
        self.sources.remove(source);
    }

    /// What a second brings: sets are counted, series whose time has come end.
    pub fn tick(&mut self, store: &mut Store, now: Timestamp) {
        for session in self.sources.values_mut() {
            for at in &session.sets {
                let Some(row) = session.rows[*at as usize].as_mut() else { continue };
                if let (Way::Known(handle), Some(set)) = (row.way, &mut row.set) {
                    let count = set.count(now.millis());
                    // A set that nobody adds to is idle, and ends as other series do.
                    if store.value(handle) != Some(count) && !store.set(handle, count, now) {
                        row.way = Way::Unknown;
                    }
                }
            }
            for at in &session.summaries {
                let Some(row) = session.rows[*at as usize].as_mut() else { continue };
                let idle_ms = now.millis() - row.updated_ms;
                if let (Way::Known(handle), CountKind::Histogram { quantiles, .. }) = (row.way, &row.series.kind)
                    && idle_ms <= QUANTILES_MS
                {
                    store.record_quantiles(handle, quantiles, now);
                }
            }
            for at in &session.mortal {
                let Some(row) = session.rows[*at as usize].as_mut() else { continue };
                if let Way::Known(handle) = row.way
                    && now.millis() - row.updated_ms >= row.series.ttl_ms
                {
                    store.remove(handle, now);
                    row.way = Way::Unknown;
                }
            }
        }
    }
}

impl Engine {
    /// Takes a batch of changes.
    pub(super) fn count(&mut self, now: Timestamp, batch: &CountBatch) {
        let session = self.counts.sources.entry(batch.source.clone()).or_default();
        session.begin(batch);
        let mut door = Door { store: &mut self.store, mappings: &mut self.mappings, source: &batch.source, now };
        for change in &batch.changes {
            session.change(&mut door, change);
        }
        for (at, hash) in &batch.members {
            session.member(&mut door, *at, *hash);
        }
        for (at, t_ms, value) in &batch.stamped {
            session.stamped(&mut door, *at, *t_ms, *value);
        }
        for (reason, count) in &batch.refused {
            door.refuse(reason, *count);
        }
        for check in &batch.checks {
            self.checks.reported(now, check);
        }
        if let Some(status) = self.sources.get_mut(&batch.source) {
            status.events += batch.lines;
        }
    }
}

/// What a change needs beside its row.
struct Door<'a> {
    store: &'a mut Store,
    mappings: &'a mut Mappings,
    source: &'a Arc<str>,
    now: Timestamp,
}

impl Door<'_> {
    fn refuse(&mut self, reason: &'static str, count: u64) {
        self.mappings.refuse(self.store, self.source, reason, count, self.now);
    }

    /// Finds or makes a series.
    #[cold]
    fn find(&mut self, row: &mut Row) -> Option<Handle> {
        let series = row.series.clone();
        if let Way::Refused(reason) = row.way {
            self.refuse(reason, 1);
            return None;
        }
        let kind = match &series.kind {
            CountKind::Counter => MetricKind::Counter,
            CountKind::Gauge | CountKind::Set => MetricKind::Gauge,
            CountKind::Histogram { bounds, .. } => MetricKind::Histogram(match bounds {
                Some(bounds) => HistogramOptions { bounds: bounds.to_vec() },
                None => HistogramOptions::default(),
            }),
        };
        let declared = if self.mappings.owns(&series.metric) {
            Err(RESERVED)
        } else {
            match self.store.declare(&series.metric, kind, &series.help, series.unit) {
                Ok(id) => Ok(id),
                // Two rules may want different buckets of one metric: the first has settled it.
                Err(DeclareError::BoundsConflict(_)) => Ok(self.store.metric_id(&series.metric)),
                Err(_) => Err(KIND_CONFLICT),
            }
        };
        let id = match declared {
            Ok(id) => id,
            Err(reason) => {
                row.way = Way::Refused(reason);
                self.refuse(reason, 1);
                return None;
            }
        };
        let labels: Vec<(&str, &str)> = series.labels.iter().map(|label| (&*label.name, &*label.value)).collect();
        // A series past a limit has been counted by the store; the change is lost, as the limit says.
        let handle = self.store.resolve(id, &labels, self.now).ok()?;
        // An overflow series is not kept: when others expire, these labels get a series of their own.
        row.way = if handle.is_overflow() { Way::Unknown } else { Way::Known(handle) };
        Some(handle)
    }
}

impl Session {
    fn begin(&mut self, batch: &CountBatch) {
        if self.session != batch.session {
            *self = Self { session: batch.session, ..Self::default() };
        }
        for (at, series) in &batch.fresh {
            let place = *at as usize;
            if self.rows.len() <= place {
                self.rows.resize_with(place + 1, || None);
            }
            let set = matches!(series.kind, CountKind::Set);
            if set {
                self.sets.push(*at);
            }
            if matches!(&series.kind, CountKind::Histogram { quantiles, .. } if !quantiles.is_empty()) {
                self.summaries.push(*at);
            }
            if series.ttl_ms > 0 {
                self.mortal.push(*at);
            }
            let set = set.then(Box::default);
            let row = Row { way: Way::Unknown, series: series.clone(), updated_ms: 0, stamp_ms: i64::MIN, set };
            self.rows[place] = Some(row);
        }
    }

    fn row(&mut self, at: u32) -> Option<&mut Row> {
        self.rows.get_mut(at as usize)?.as_mut()
    }

    fn change(&mut self, door: &mut Door<'_>, change: &CountChange) {
        let Some(row) = self.row(change.series) else { return };
        row.updated_ms = door.now.millis();
        if let Way::Known(handle) = row.way
            && apply(door.store, handle, &row.series.kind, change, door.now)
        {
            return;
        }
        if matches!(row.way, Way::Known(_)) {
            row.way = Way::Unknown;
        }
        if let Some(handle) = door.find(row) {
            apply(door.store, handle, &row.series.kind, change, door.now);
        }
    }

    fn member(&mut self, door: &mut Door<'_>, at: u32, hash: u64) {
        let Some(row) = self.row(at) else { return };
        row.updated_ms = door.now.millis();
        if let Some(set) = &mut row.set {
            set.insert(hash, door.now.millis());
        }
        // The gauge has its value at the next second; a new series begins with what is known now.
        if !matches!(row.way, Way::Known(handle) if door.store.value(handle).is_some())
            && let Some(handle) = door.find(row)
            && let Some(set) = &mut row.set
        {
            door.store.set(handle, set.count(door.now.millis()), door.now);
        }
    }

    fn stamped(&mut self, door: &mut Door<'_>, at: u32, t_ms: i64, value: f64) {
        let Some(row) = self.row(at) else { return };
        if t_ms < row.stamp_ms {
            return door.refuse(OUT_OF_ORDER, 1);
        }
        row.stamp_ms = t_ms;
        self.change(door, &CountChange { series: at, means: Means::Set, value });
    }
}

/// Changes a series; false when it has ended.
fn apply(store: &mut Store, handle: Handle, kind: &CountKind, change: &CountChange, now: Timestamp) -> bool {
    match (kind, change.means) {
        (CountKind::Counter, _) => store.add(handle, change.value, now),
        (CountKind::Histogram { .. }, means) => {
            let times = if let Means::Times(times) = means { u64::from(times) } else { 1 };
            store.observe(handle, change.value, times, now, None) != Observed::Stale
        }
        (CountKind::Gauge | CountKind::Set, Means::Set) => store.set(handle, change.value, now),
        (CountKind::Gauge | CountKind::Set, _) => store.gauge_add(handle, change.value, now),
    }
}
