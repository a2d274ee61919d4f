//! Quantiles and rates by type: PromQL on a read view.

use super::{Latency, TypeRow};
use crate::model::Timestamp;
use crate::promql::{Options, Query, SampleValue, Value};
use crate::series::{Selection, Storage};
use std::collections::BTreeMap;
use std::sync::LazyLock;

/// The history that the page draws.
const HISTORY_MS: i64 = 300_000;
/// The distance of its points.
const STEP_MS: i64 = 5_000;
const QUANTILES: [f64; 3] = [0.5, 0.95, 0.99];

/// The expressions; a test reads all of them.
struct Queries {
    latency: [Query; 3],
    latency_history: [Query; 3],
    rates: Query,
    events: Query,
    failed: Query,
    p99: Query,
}

#[expect(clippy::expect_used, reason = "the texts are constant and a test reads them")]
fn fixed(text: &str) -> Query {
    Query::parse(text).expect("a constant expression")
}

static QUERIES: LazyLock<Queries> = LazyLock::new(|| {
    let quantile = |quantile: f64, range: &str| {
        fixed(&format!("histogram_quantile({quantile}, sum(rate(event_duration_seconds[{range}])))"))
    };
    Queries {
        latency: QUANTILES.map(|q| quantile(q, "1m")),
        latency_history: QUANTILES.map(|q| quantile(q, "15s")),
        // A short window for the rate, which is then right soon after the start; a longer one for the share.
        rates: fixed("sum by (type) (rate(events_total[15s]))"),
        events: fixed("sum by (type) (rate(events_total[1m]))"),
        failed: fixed("sum by (type) (rate(events_failed_total[1m]))"),
        p99: fixed("histogram_quantile(0.99, sum by (type) (rate(event_duration_seconds[1m])))"),
    }
});

/// What the queries gave.
#[derive(Debug, Default)]
pub struct Figures {
    /// Quantiles now and over time.
    pub latency: Latency,
    /// Types, the busiest first.
    pub types: Vec<TypeRow>,
}

/// What a view for [`Figures::of`] must hold.
pub fn selections(now: Timestamp) -> Vec<Selection> {
    let (queries, options, now_ms) = (&*QUERIES, Options::default(), now.millis());
    let instant = queries.latency.iter().chain([&queries.rates, &queries.events, &queries.failed, &queries.p99]);
    let mut all: Vec<Selection> = instant.flat_map(|query| query.selections(now_ms, now_ms, &options)).collect();
    let (start_ms, end_ms) = history_range(now_ms);
    for query in &queries.latency_history {
        all.extend(query.selections_at_step(start_ms, end_ms, STEP_MS, &options));
    }
    // The three quantiles read the same.
    let mut wanted: Vec<Selection> = Vec::new();
    for selection in all {
        if !wanted.contains(&selection) {
            wanted.push(selection);
        }
    }
    wanted
}

/// On the grid of the step, so that points stay where they are while the window moves.
fn history_range(now_ms: i64) -> (i64, i64) {
    let end_ms = now_ms.div_euclid(STEP_MS) * STEP_MS;
    (end_ms - HISTORY_MS, end_ms)
}

impl Figures {
    /// Evaluates everything. A query that fails gives nothing: the page shows a gap, the log of queries says why.
    pub fn of(storage: &dyn Storage, now: Timestamp) -> Self {
        let (queries, now_ms) = (&*QUERIES, now.millis());
        let [p50, p95, p99] = [0, 1, 2].map(|at| by_type(&queries.latency[at], storage, now_ms).into_values().next());
        let mut rates = by_type(&queries.rates, storage, now_ms);
        let mut failed = by_type(&queries.failed, storage, now_ms);
        let mut types: BTreeMap<String, TypeRow> = BTreeMap::new();
        for (name, events) in by_type(&queries.events, storage, now_ms).into_iter().filter(|(_, events)| *events > 0.0)
        {
            let failed = failed.remove(&name).unwrap_or_default();
            let rate = rates.remove(&name).unwrap_or_default();
            let row = TypeRow { r#type: name.clone(), rate, failed_share: Some((failed / events).min(1.0)), p99: None };
            types.insert(name, row);
        }
        for (name, p99) in by_type(&queries.p99, storage, now_ms) {
            if let Some(row) = types.get_mut(&name) {
                row.p99 = Some(p99);
            }
        }
        let mut types: Vec<TypeRow> = types.into_values().collect();
        types.sort_by(|a, b| b.rate.total_cmp(&a.rate).then_with(|| a.r#type.cmp(&b.r#type)));
        Self { latency: Latency { p50, p95, p99, history: history(&queries.latency_history, storage, now_ms) }, types }
    }
}

/// The values of an instant query by the label `type`; "" without it. What is not a number is left out.
fn by_type(query: &Query, storage: &dyn Storage, now_ms: i64) -> BTreeMap<String, f64> {
    let found = query.instant(storage, now_ms, &Options::default()).map(|evaluation| evaluation.value);
    let Ok(Value::Vector(samples)) = found else { return BTreeMap::new() };
    let value = |value: &SampleValue| match value {
        SampleValue::Float(value) if value.is_finite() => Some(*value),
        _ => None,
    };
    samples
        .iter()
        .filter_map(|sample| Some((sample.labels.get("type").unwrap_or("").to_owned(), value(&sample.value)?)))
        .collect()
}

fn history(queries: &[Query; 3], storage: &dyn Storage, now_ms: i64) -> Vec<[Option<f64>; 4]> {
    let (start_ms, end_ms) = history_range(now_ms);
    let mut points: BTreeMap<i64, [Option<f64>; 4]> = BTreeMap::new();
    for (at, query) in queries.iter().enumerate() {
        let found = query.range(storage, start_ms, end_ms, STEP_MS, &Options::default());
        let Ok(Value::Matrix(series)) = found.map(|evaluation| evaluation.value) else { continue };
        for point in series.iter().flat_map(|series| &series.floats) {
            let seconds = point.t_ms as f64 / 1e3;
            let row = points.entry(point.t_ms).or_insert([Some(seconds), None, None, None]);
            row[at + 1] = point.value.is_finite().then_some(point.value);
        }
    }
    // Moments without any sample are gaps that the page must see.
    let mut t_ms = start_ms;
    while t_ms <= end_ms {
        points.entry(t_ms).or_insert([Some(t_ms as f64 / 1e3), None, None, None]);
        t_ms += STEP_MS;
    }
    points.into_values().collect()
}
