//! A store in memory for tests.

use super::series::{PointValue, SeriesNotation};
use crate::model::{Labels, METRIC_NAME};
use crate::promql::number::parse_float;
use crate::series::data::is_stale;
use crate::series::histogram::CUSTOM_BUCKETS_SCHEMA;
use crate::series::{FloatHistogram, FloatPoint, HistogramPoint, ResetHint, Selection, SeriesData, Span, Storage};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Series by their labels.
#[derive(Clone, Debug, Default)]
pub struct TestStorage {
    series: BTreeMap<Labels, SeriesData>,
}

impl TestStorage {
    /// Adds a sample; samples of a series have to come in the order of time. A histogram that does not say what it knows of
    /// resets learns it from the one before, as in Prometheus's store.
    pub fn add(&mut self, labels: &Labels, t_ms: i64, value: &PointValue, start_ms: i64) {
        let data = self
            .series
            .entry(labels.clone())
            .or_insert_with(|| SeriesData { labels: labels.clone(), ..SeriesData::default() });
        match value {
            PointValue::Float(value) => {
                data.floats.push(FloatPoint { t_ms, value: *value, start_ms });
            }
            PointValue::Histogram { histogram, .. } => {
                let mut histogram = (**histogram).clone();
                let float_since = data.floats.last().map(|point| point.t_ms);
                let previous = data.histograms.last().filter(|point| float_since < Some(point.t_ms));
                if matches!(histogram.reset_hint, ResetHint::Unknown | ResetHint::NotReset) {
                    histogram.reset_hint = stored_hint(previous.map(|point| &*point.histogram), &histogram);
                }
                data.histograms.push(HistogramPoint { t_ms, histogram: Arc::new(histogram), start_ms });
            }
        }
    }

    /// Adds a series of the notation, its first point at `from_ms`.
    pub fn add_notation(&mut self, notation: &SeriesNotation, starts: &[Option<i64>], from_ms: i64, interval_ms: i64) {
        for (at, point) in notation.points.iter().enumerate() {
            let t_ms = from_ms.saturating_add(interval_ms.saturating_mul(at as i64));
            let start = starts.get(at).copied().flatten().map_or(0, |offset| t_ms.saturating_add(offset));
            if let Some(value) = point {
                self.add(&notation.labels, t_ms, value, start);
            }
        }
    }

    /// Removes everything.
    pub fn clear(&mut self) {
        self.series.clear();
    }

    /// The latest sample's time.
    pub fn last_time(&self) -> Option<i64> {
        self.series
            .values()
            .filter_map(|data| {
                data.floats.last().map(|point| point.t_ms).max(data.histograms.last().map(|point| point.t_ms))
            })
            .max()
    }
}

/// What the store says about a reset before a histogram: what can be seen from the one before it.
fn stored_hint(previous: Option<&FloatHistogram>, histogram: &FloatHistogram) -> ResetHint {
    let Some(previous) = previous.filter(|previous| previous.reset_hint != ResetHint::Gauge) else {
        return ResetHint::Unknown;
    };
    if is_stale(previous.sum) {
        return ResetHint::Unknown;
    }
    if is_stale(histogram.sum) {
        return ResetHint::NotReset;
    }
    if histogram.schema != previous.schema
        || histogram.zero_threshold != previous.zero_threshold
        || histogram.custom_values != previous.custom_values
    {
        return ResetHint::Unknown;
    }
    let unhinted = FloatHistogram { reset_hint: ResetHint::Unknown, ..histogram.clone() };
    // A reset that the store finds itself begins a chunk, and the first sample of a chunk claims nothing.
    if unhinted.is_reset_after(previous) { ResetHint::Unknown } else { ResetHint::NotReset }
}

impl Storage for TestStorage {
    fn select(&self, selection: &Selection) -> Vec<SeriesData> {
        let within = |t_ms: i64| (selection.from_ms..=selection.to_ms).contains(&t_ms);
        self.series
            .values()
            .filter(|data| {
                selection.matchers.iter().all(|matcher| matcher.matches(data.labels.get(&matcher.name).unwrap_or("")))
            })
            .map(|data| SeriesData {
                labels: data.labels.clone(),
                floats: data.floats.iter().filter(|point| within(point.t_ms)).copied().collect(),
                histograms: data.histograms.iter().filter(|point| within(point.t_ms)).cloned().collect(),
            })
            .filter(|data| !data.floats.is_empty() || !data.histograms.is_empty())
            .collect()
    }
}

/// The counts of a classic histogram at one time.
#[derive(Default)]
struct Classic {
    /// Cumulative, by bound.
    buckets: Vec<(f64, f64)>,
    count: Option<f64>,
    sum: Option<f64>,
}

/// Histograms with custom buckets made of the classic histograms among these series (`load_with_nhcb`).
pub(super) fn custom_bucket_histograms(
    loaded: &[(SeriesNotation, Vec<Option<i64>>)],
    interval_ms: i64,
) -> Vec<(Labels, i64, PointValue)> {
    let mut all: BTreeMap<Labels, BTreeMap<i64, Classic>> = BTreeMap::new();
    let is_bucket = |labels: &Labels| labels.metric_name().ends_with("_bucket") && labels.get("le").is_some();
    let base_of = |labels: &Labels, suffix: &str| {
        let name = labels.metric_name().strip_suffix(suffix)?;
        Some(labels.filtered(|label| label != "le").with(METRIC_NAME, name))
    };
    let known: Vec<Labels> = loaded
        .iter()
        .filter(|(series, _)| is_bucket(&series.labels))
        .filter_map(|(series, _)| base_of(&series.labels, "_bucket"))
        .collect();
    for (series, _) in loaded {
        let labels = &series.labels;
        let bound = if is_bucket(labels) { labels.get("le").and_then(parse_float) } else { None };
        let (base, kind) = match bound {
            Some(_) => (base_of(labels, "_bucket"), 0),
            None => match (base_of(labels, "_count"), base_of(labels, "_sum")) {
                (Some(base), _) => (Some(base), 1),
                (None, base) => (base, 2),
            },
        };
        let Some(base) = base.filter(|base| known.contains(base)) else {
            continue;
        };
        let times = all.entry(base).or_default();
        for (at, point) in series.points.iter().enumerate() {
            let Some(PointValue::Float(value)) = point else {
                continue;
            };
            let classic = times.entry(interval_ms.saturating_mul(at as i64)).or_default();
            match (kind, bound) {
                (0, Some(bound)) => classic.buckets.push((bound, *value)),
                (1, _) => classic.count = Some(*value),
                _ => classic.sum = Some(*value),
            }
        }
    }
    let mut out = Vec::new();
    for (labels, times) in all {
        for (t_ms, classic) in times {
            if let Some(histogram) = converted(classic) {
                let histogram = Arc::new(histogram.compacted());
                out.push((labels.clone(), t_ms, PointValue::Histogram { histogram, hint_given: false }));
            }
        }
    }
    out
}

fn converted(mut classic: Classic) -> Option<FloatHistogram> {
    classic.buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
    let last = *classic.buckets.last()?;
    let count = classic.count.unwrap_or(last.1);
    if classic.buckets.iter().any(|(_, value)| is_stale(*value)) {
        return None;
    }
    if last.0 != f64::INFINITY {
        classic.buckets.push((f64::INFINITY, count));
    }
    let mut before = 0.0;
    let mut counts = Vec::new();
    for (_, cumulative) in &classic.buckets {
        if *cumulative < before {
            return None;
        }
        counts.push(cumulative - before);
        before = *cumulative;
    }
    let custom_values: Vec<f64> =
        classic.buckets.iter().map(|(bound, _)| *bound).filter(|bound| *bound != f64::INFINITY).collect();
    Some(FloatHistogram {
        schema: CUSTOM_BUCKETS_SCHEMA,
        count,
        sum: classic.sum.unwrap_or(0.0),
        positive_spans: vec![Span { offset: 0, length: u32::try_from(counts.len()).ok()? }],
        positive_buckets: counts,
        custom_values,
        ..FloatHistogram::default()
    })
}
