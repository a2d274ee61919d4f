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
/// A check of a further name than are remembered.
const TOO_MANY_CHECKS: &str = "too_many_checks";

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
        for run in batch.changes.chunk_by(|one, next| one.series == next.series) {
            session.changes(&mut door, run);
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
            if !self.checks.reported(now, &batch.source, check) {
                door.refuse(TOO_MANY_CHECKS, 1);
            }
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

    /// Changes of one series, in order.
    fn changes(&mut self, door: &mut Door<'_>, changes: &[CountChange]) {
        let Some(row) = changes.first().and_then(|change| self.row(change.series)) else { return };
        row.updated_ms = door.now.millis();
        for change in changes {
            if let Way::Known(handle) = row.way
                && apply(door.store, handle, &row.series.kind, change, door.now)
            {
                continue;
            }
            if matches!(row.way, Way::Known(_)) {
                row.way = Way::Unknown;
            }
            if let Some(handle) = door.find(row) {
                apply(door.store, handle, &row.series.kind, change, door.now);
            }
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
        self.changes(door, &[CountChange { series: at, means: Means::Set, value }]);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Diagnostics;
    use crate::model::{FieldPlanBuilder, Labels};
    use crate::series::{MatchOp, Matcher, Selection, Storage, StoreOptions, is_stale};

    struct Bench {
        store: Store,
        mappings: Mappings,
        counts: Counts,
        now_ms: i64,
    }

    impl Bench {
        fn new() -> Self {
            let mut store = Store::new(StoreOptions::default());
            let mut mappings = Mappings::compile(&[], &mut FieldPlanBuilder::default(), &mut Diagnostics::new());
            mappings.declare(&mut store, Timestamp::EPOCH);
            Self { store, mappings, counts: Counts::default(), now_ms: 1_000_000 }
        }

        fn take(&mut self, batch: &CountBatch) {
            let session = self.counts.sources.entry(batch.source.clone()).or_default();
            session.begin(batch);
            let now = Timestamp::from_millis(self.now_ms);
            let mut door = Door { store: &mut self.store, mappings: &mut self.mappings, source: &batch.source, now };
            batch.changes.chunks(1).for_each(|change| session.changes(&mut door, change));
            batch.members.iter().for_each(|(at, hash)| session.member(&mut door, *at, *hash));
            batch.stamped.iter().for_each(|(at, t_ms, value)| session.stamped(&mut door, *at, *t_ms, *value));
            self.pass(1_000);
        }

        fn pass(&mut self, ms: i64) {
            for _ in 0..ms / 1_000 {
                self.now_ms += 1_000;
                let now = Timestamp::from_millis(self.now_ms);
                self.counts.tick(&mut self.store, now);
                self.store.tick(now);
            }
        }

        /// The last value of each series of a metric.
        fn check(&self, metric: &str, expected: &str) {
            let matchers = vec![Matcher::new("__name__", MatchOp::Equal, metric).unwrap()];
            let selection = Selection { matchers, from_ms: self.now_ms - 500, to_ms: self.now_ms };
            let found = self.store.select(&selection);
            let told = found.iter().filter_map(|series| {
                let Some(last) = series.floats.last() else { return Some(format!("{} histogram", series.labels)) };
                // Quantiles are near.
                let near = series.labels.get("quantile").is_some();
                let value = if near { last.value.round() } else { last.value };
                (!is_stale(last.value)).then(|| format!("{} {value}", series.labels))
            });
            let told: Vec<String> = told.collect();
            assert_eq!(told.join("; "), expected, "{metric}");
        }
    }

    fn series(metric: &str, kind: CountKind, ttl_ms: i64) -> Arc<CountedSeries> {
        let (metric, help, labels) = (metric.into(), "".into(), Labels::default());
        Arc::new(CountedSeries { metric, kind, help, unit: "", labels, ttl_ms })
    }

    fn batch(session: u64, fresh: Vec<(u32, Arc<CountedSeries>)>, changes: &[(u32, Means, f64)]) -> CountBatch {
        let changes =
            changes.iter().map(|(series, means, value)| CountChange { series: *series, means: *means, value: *value });
        CountBatch { source: "s".into(), session, fresh, changes: changes.collect(), ..CountBatch::default() }
    }

    #[test]
    fn numbers_of_a_session_lead_to_the_same_series_in_the_next() {
        let mut bench = Bench::new();
        bench.take(&batch(
            1,
            vec![(0, series("c", CountKind::Counter, 0)), (1, series("g", CountKind::Gauge, 0))],
            &[(0, Means::Add, 2.0), (1, Means::Set, 5.0), (1, Means::Add, -1.5)],
        ));
        bench.check("c", "c 2");
        bench.check("g", "g 3.5");
        bench.take(&batch(1, vec![], &[(0, Means::Add, 1.0), (7, Means::Add, 1.0)]));
        bench.take(&batch(
            2,
            vec![(0, series("g", CountKind::Gauge, 0)), (1, series("c", CountKind::Counter, 0))],
            &[(1, Means::Add, 4.0)],
        ));
        bench.check("c", "c 7");
    }

    #[test]
    fn what_a_metric_is_already_decides() {
        let mut bench = Bench::new();
        let fresh = vec![
            (0, series("x", CountKind::Counter, 0)),
            (1, series("x", CountKind::Gauge, 0)),
            (2, series("events_total", CountKind::Counter, 0)),
            (3, series("sidewatch_mine", CountKind::Gauge, 0)),
        ];
        let all = [0, 1, 2, 3].map(|at| (at, Means::Add, 1.0));
        bench.take(&batch(1, fresh, &all));
        bench.take(&batch(1, vec![], &all));
        bench.check("x", "x 2");
        bench.check("events_total", "");
        bench.check(
            "sidewatch_events_refused_total",
            "sidewatch_events_refused_total{reason=\"kind_conflict\", source=\"s\"} 2; sidewatch_events_refused_total{reason=\"reserved_name\", source=\"s\"} 4",
        );
    }

    #[test]
    fn series_end_after_their_own_time_and_begin_again() {
        let mut bench = Bench::new();
        bench.take(&batch(1, vec![(0, series("c", CountKind::Counter, 5_000))], &[(0, Means::Add, 2.0)]));
        bench.pass(3_000);
        bench.check("c", "c 2");
        bench.pass(3_000);
        bench.check("c", "");
        bench.take(&batch(1, vec![], &[(0, Means::Add, 1.0)]));
        bench.check("c", "c 1");
    }

    #[test]
    fn sets_count_different_members_of_a_minute() {
        let mut bench = Bench::new();
        let hash = |value: u64| value.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let members = |all: std::ops::Range<u64>| all.map(|value| (0, hash(value))).collect();
        let first = batch(1, vec![(0, series("u", CountKind::Set, 0))], &[]);
        bench.take(&CountBatch { members: members(0..3), ..first });
        bench.check("u", "u 3");
        bench.pass(30_000);
        bench.take(&CountBatch { members: members(2..5), ..batch(1, vec![], &[]) });
        bench.check("u", "u 5");
        bench.pass(31_000);
        bench.check("u", "u 3");
        bench.pass(40_000);
        bench.check("u", "u 0");
    }

    #[test]
    fn an_older_value_of_a_gauge_is_left_out() {
        let mut bench = Bench::new();
        let first = batch(1, vec![(0, series("g", CountKind::Gauge, 0))], &[]);
        bench.take(&CountBatch { stamped: vec![(0, 5_000, 1.0), (0, 4_000, 2.0), (0, 5_000, 3.0)], ..first });
        bench.check("g", "g 3");
        bench.check(
            "sidewatch_events_refused_total",
            "sidewatch_events_refused_total{reason=\"out_of_order\", source=\"s\"} 1",
        );
    }

    #[test]
    fn quantiles_stand_beside_a_histogram() {
        let mut bench = Bench::new();
        let kind = CountKind::Histogram { bounds: Some(Arc::from([1.0])), quantiles: Arc::from([0.5, 0.99]) };
        let values: Vec<(u32, Means, f64)> = (1..=100).map(|value| (0, Means::Times(1), f64::from(value))).collect();
        bench.take(&batch(1, vec![(0, series("h", kind, 0))], &values));
        bench.check("h_count", "h_count 100");
        bench.check("h", "h histogram; h{quantile=\"0.5\"} 50; h{quantile=\"0.99\"} 99");
    }
}
