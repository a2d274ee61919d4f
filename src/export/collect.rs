//! The samples of one round: of each series the newest one that was not sent yet.

use crate::model::{Labels, METRIC_NAME};
use crate::series::{FloatPoint, HistogramPoint, MatchOp, Matcher, Metadata, Selection, SeriesData, Storage, View};
use std::collections::{BTreeSet, HashMap};
use std::pin::Pin;
use std::sync::Arc;

/// A scrape's samples carry the time of its beginning and come when it ends: so far back is looked again.
const OVERLAP_MS: i64 = 60_000;
/// Series whose last sent time is remembered.
const SERIES: usize = 1_000_000;

/// What the core gives: a view of the series, what metrics are, and until when.
#[derive(Debug)]
pub struct Collected {
    /// The series.
    pub view: View,
    /// What they were selected by.
    pub selection: Selection,
    /// What metrics are.
    pub metadata: Vec<Metadata>,
}

/// Asks the core for everything since a time, in milliseconds; what comes stands in a checkpoint, where there are any, so
/// that a counter never falls behind what a receiver was told. `None` when the core is gone.
pub type Collect = Arc<dyn Fn(i64) -> Pin<Box<dyn Future<Output = Option<Collected>> + Send>> + Send + Sync>;

/// Everything in a range of time, both ends included.
pub(super) fn everything(from_ms: i64, to_ms: i64) -> Option<Selection> {
    let any = Matcher::new(METRIC_NAME, MatchOp::Regex, ".+").ok()?;
    Some(Selection { matchers: vec![any], from_ms, to_ms })
}

impl Collected {
    /// Of the live store; see [`Collect`].
    pub fn of(store: &crate::series::Store, from_ms: i64, to_ms: i64) -> Option<Self> {
        let selection = everything(from_ms, to_ms)?;
        let view = store.view(std::slice::from_ref(&selection));
        Some(Self { view, selection, metadata: store.metadata() })
    }
}

/// One value to be sent.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Point {
    Float(FloatPoint),
    Histogram(HistogramPoint),
}

impl Point {
    pub fn t_ms(&self) -> i64 {
        match self {
            Self::Float(point) => point.t_ms,
            Self::Histogram(point) => point.t_ms,
        }
    }
}

/// What was sent of each series.
#[derive(Debug, Default)]
pub(super) struct Rounds {
    /// By the fingerprint of the labels.
    sent_ms: HashMap<u64, i64, ahash::RandomState>,
    /// Until when the last round went; what came before this process began is never sent again.
    floor_ms: i64,
    last_ms: i64,
}

impl Rounds {
    pub fn since(floor_ms: i64) -> Self {
        Self { floor_ms, last_ms: floor_ms, ..Self::default() }
    }

    /// From when on the next round must look.
    pub fn begin_ms(&self) -> i64 {
        (self.last_ms - OVERLAP_MS).max(self.floor_ms + 1)
    }

    /// The newest sample of each series that was not sent yet. With `native` a histogram goes in its native form, without
    /// it in its classic one, where it has one.
    pub fn take(&mut self, collected: &Collected, native: bool) -> Vec<(Labels, Point)> {
        let series = collected.view.select(&collected.selection);
        let name = |labels: &Labels, suffix: &str| labels.metric_name().strip_suffix(suffix).map(str::to_owned);
        // Own histograms answer in both forms; of others that exist natively only, the native form is sent anyway.
        let natives: BTreeSet<&str> =
            series.iter().filter(|data| !data.histograms.is_empty()).map(|data| data.labels.metric_name()).collect();
        let counted: BTreeSet<String> = series
            .iter()
            .filter_map(|data| name(&data.labels, "_count"))
            .filter(|base| natives.contains(base.as_str()))
            .collect();
        let mut out = Vec::with_capacity(series.len());
        for data in &series {
            let own = data.labels.metric_name();
            let classic = ["_bucket", "_sum", "_count"].iter().filter_map(|suffix| name(&data.labels, suffix));
            let skip = if native {
                data.histograms.is_empty() && classic.into_iter().any(|base| counted.contains(&base))
            } else {
                !data.histograms.is_empty() && counted.contains(own)
            };
            if skip {
                continue;
            }
            let Some(point) = newest(data) else { continue };
            let key = data.labels.fingerprint();
            let t_ms = point.t_ms();
            if t_ms <= self.floor_ms || self.sent_ms.get(&key).is_some_and(|sent| *sent >= t_ms) {
                continue;
            }
            self.sent_ms.insert(key, t_ms);
            out.push((data.labels.clone(), point));
        }
        self.last_ms = self.last_ms.max(collected.selection.to_ms);
        let oldest = self.begin_ms();
        self.sent_ms.retain(|_, sent| *sent >= oldest);
        if self.sent_ms.len() > SERIES {
            // Beyond that the overlap is given up: late samples are then missed, none is sent twice.
            self.floor_ms = self.last_ms;
            self.sent_ms.clear();
        }
        out
    }
}

fn newest(data: &SeriesData) -> Option<Point> {
    let float = data.floats.last().map(|point| Point::Float(*point));
    let histogram = data.histograms.last().map(|point| Point::Histogram(point.clone()));
    match (float, histogram) {
        (Some(float), Some(histogram)) => Some(if float.t_ms() > histogram.t_ms() { float } else { histogram }),
        (float, histogram) => float.or(histogram),
    }
}
