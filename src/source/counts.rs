//! Counts that a source has made sense of itself: changes of counters, gauges, histograms and sets, without an event
//! behind them. StatsD lines and OTLP deltas come this way.
//!
//! Series are named by numbers that the source and the core share within a session: name, labels and kind are sent once,
//! when a series appears, so that a line costs the core an index and an addition.

use crate::model::Labels;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A number for a session: numbers of series hold within one of these. Unique in the process.
pub fn next_session() -> u64 {
    static SESSIONS: AtomicU64 = AtomicU64::new(1);
    SESSIONS.fetch_add(1, Ordering::Relaxed)
}

/// What a counted series is.
#[derive(Clone, Debug, PartialEq)]
pub enum CountKind {
    /// Only grows.
    Counter,
    /// Any value.
    Gauge,
    /// Counts values in buckets; the upper ends of its classic buckets (`None`: the default ones).
    Histogram {
        /// Rising, without +Inf.
        bounds: Option<Arc<[f64]>>,
        /// Quantiles (0 to 1) of the last minute that are kept as series of their own, as a summary has them.
        quantiles: Arc<[f64]>,
    },
    /// A gauge of how many different members came within the last minute.
    Set,
}

/// A series as the source names it.
#[derive(Clone, Debug, PartialEq)]
pub struct CountedSeries {
    /// The metric.
    pub metric: Arc<str>,
    /// What it is.
    pub kind: CountKind,
    /// HELP.
    pub help: Arc<str>,
    /// The base unit (`seconds`, `bytes`), or empty.
    pub unit: &'static str,
    /// Labels without the metric's name.
    pub labels: Labels,
    /// After so many milliseconds without a change the series ends; 0: when idle series do.
    pub ttl_ms: i64,
}

/// How the value of a change is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Means {
    /// Counter: add. Gauge: add, the amount may be negative. Histogram: observe it once.
    Add,
    /// Gauge: set.
    Set,
    /// Histogram: observe it so many times.
    Times(u32),
}

/// One change of one series.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CountChange {
    /// The number of the series.
    pub series: u32,
    /// How the value is meant.
    pub means: Means,
    /// The value.
    pub value: f64,
}

/// What a check outside says about its subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportedCheck {
    /// Its name.
    pub name: String,
    /// 0 healthy, 1 degraded, 2 unhealthy, 3 unknown (the status of DogStatsD service checks).
    pub status: u8,
    /// Why; may be empty.
    pub message: String,
}

/// Changes that arrived together from one source.
#[derive(Clone, Debug, Default)]
pub struct CountBatch {
    /// The source's name.
    pub source: Arc<str>,
    /// Numbers of series hold within a session.
    pub session: u64,
    /// Series that are named for the first time.
    pub fresh: Vec<(u32, Arc<CountedSeries>)>,
    /// What changed; changes of one series stand in order.
    pub changes: Vec<CountChange>,
    /// Members of sets by their hashes.
    pub members: Vec<(u32, u64)>,
    /// Values of gauges with times of their own (milliseconds): an older one than the last is left out.
    pub stamped: Vec<(u32, i64, f64)>,
    /// What was refused: reason and how often.
    pub refused: Vec<(&'static str, u64)>,
    /// Checks outside that have reported.
    pub checks: Vec<ReportedCheck>,
    /// Lines, or whatever the source counts as one piece of input.
    pub lines: u64,
}

impl CountBatch {
    /// Bytes that it holds, roughly.
    pub fn size(&self) -> usize {
        let labels: usize = self.fresh.iter().map(|(_, series)| 128 + series.labels.len() * 96).sum();
        let checks: usize = self.checks.iter().map(|check| 64 + check.message.len()).sum();
        labels
            + checks
            + self.changes.len() * size_of::<CountChange>()
            + self.members.len() * 16
            + self.stamped.len() * 24
    }

    /// Whether there is nothing to tell.
    pub fn is_empty(&self) -> bool {
        self.lines == 0 && self.refused.is_empty() && self.changes.is_empty() && self.fresh.is_empty()
    }

    /// Counts something refused.
    pub fn refuse(&mut self, reason: &'static str, count: u64) {
        match self.refused.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, counted)) => *counted += count,
            None => self.refused.push((reason, count)),
        }
    }
}
