//! `query`, `query_range`, `format_query`.

use super::params::{Params, invalid};
use super::{ErrorKind, Notes, PromError, encode, success, success_text, truncate};
use crate::api::Shared;
use crate::model::Labels;
use crate::promql::{Evaluation, Options, Query, QueryError, SampleValue, Value};
use crate::series::{Selection, SeriesData, View};
use crate::telemetry::clock;
use axum::extract::State;
use axum::response::Response;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

impl From<QueryError> for PromError {
    fn from(error: QueryError) -> Self {
        let kind = match error {
            QueryError::Parse(_) | QueryError::BadData(_) => ErrorKind::BadData,
            QueryError::Execution(_) => ErrorKind::Execution,
            QueryError::Timeout | QueryError::Canceled => ErrorKind::Timeout,
        };
        Self::new(kind, error.to_string())
    }
}

/// Evaluation at one moment (`step_ms` 0) or over a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    start_ms: i64,
    end_ms: i64,
    step_ms: i64,
}

impl Span {
    fn instant(at_ms: i64) -> Self {
        Self { start_ms: at_ms, end_ms: at_ms, step_ms: 0 }
    }

    fn selections(self, query: &Query, options: &Options<'_>) -> Vec<Selection> {
        query.selections_at_step(self.start_ms, self.end_ms, self.step_ms, options)
    }

    fn evaluate(self, query: &Query, view: &View, options: &Options<'_>) -> Result<Evaluation, QueryError> {
        match self.step_ms {
            0 => query.instant(view, self.start_ms, options),
            step_ms => query.range(view, self.start_ms, self.end_ms, step_ms, options),
        }
    }
}

/// What one query may use.
#[derive(Clone, Copy, Debug)]
struct Budget {
    lookback_ms: i64,
    max_samples: usize,
    timeout: Duration,
    limit: Option<usize>,
}

impl Budget {
    fn read(params: &Params, backend: &Shared) -> Result<Self, PromError> {
        let limits = backend.limits();
        let most_ms = limits.query_timeout_ms.max(1);
        let timeout_ms = params.duration_ms("timeout")?.map_or(most_ms, |asked| asked.clamp(1, most_ms));
        let lookback_ms = params.duration_ms("lookback_delta")?.unwrap_or(Options::default().lookback_ms);
        if lookback_ms < 0 {
            return Err(invalid("lookback_delta", "it must not be negative"));
        }
        Ok(Self {
            lookback_ms,
            max_samples: limits.query_samples,
            timeout: Duration::from_millis(timeout_ms.unsigned_abs()),
            limit: params.limit("limit")?,
        })
    }

    fn options(self) -> Options<'static> {
        Options { lookback_ms: self.lookback_ms, max_samples: self.max_samples, ..Options::default() }
    }
}

/// `/api/v1/query`.
///
/// # Errors
/// In Prometheus's envelope.
pub async fn query(State(backend): State<Shared>, params: Params) -> Result<Response, PromError> {
    let at_ms = params.time_ms("time")?;
    answer(&backend, &params, at_ms.map(Span::instant)).await
}

/// `/api/v1/query_range`.
///
/// # Errors
/// In Prometheus's envelope.
pub async fn query_range(State(backend): State<Shared>, params: Params) -> Result<Response, PromError> {
    let (start_ms, end_ms) = (params.required_time_ms("start")?, params.required_time_ms("end")?);
    if end_ms < start_ms {
        return Err(invalid("end", "end timestamp must not be before start time"));
    }
    let step = params.get("step").unwrap_or("");
    let step_ms = super::params::parse_duration(step).map_err(|error| invalid("step", &error))?;
    if step_ms <= 0 {
        let error = "zero or negative query resolution step widths are not accepted. Try a positive integer";
        return Err(invalid("step", error));
    }
    if (i128::from(end_ms) - i128::from(start_ms)) / i128::from(step_ms) > Options::default().max_steps as i128 {
        let message = "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution \
                       (?step=XX)";
        return Err(PromError::new(ErrorKind::BadData, message));
    }
    answer(&backend, &params, Some(Span { start_ms, end_ms, step_ms })).await
}

/// Without a span: at this moment.
async fn answer(backend: &Shared, params: &Params, span: Option<Span>) -> Result<Response, PromError> {
    let budget = Budget::read(params, backend)?;
    let query = Query::parse_with(params.get("query").unwrap_or(""), &budget.options())?;
    let (data, notes) = run(backend, query, span, budget).await?;
    Ok(success_text(&data, &notes))
}

/// Tells the evaluation that nobody waits any more when the request is dropped.
struct CancelOnDrop(Arc<AtomicBool>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A read view from the core, the evaluation on another thread: ingest never waits for a query.
async fn run(backend: &Shared, query: Query, span: Option<Span>, budget: Budget) -> Result<(String, Notes), PromError> {
    let end = clock::instant() + budget.timeout;
    let waiting = tokio::time::timeout(budget.timeout, backend.queries.acquire());
    // The semaphore is never closed: an error is the timeout.
    let Ok(Ok(_place)) = waiting.await else { return Err(QueryError::Timeout.into()) };
    let viewed = backend.core.call(move |core, now| {
        // The core's own time: by one of a moment ago, the samples of a second that has just begun would not be there yet,
        // and what had been seen before it would be gone again.
        let span = span.unwrap_or_else(|| Span::instant(now.max(core.engine.now()).millis()));
        let view = core.engine.view(&span.selections(&query, &budget.options()));
        (view, query, span)
    });
    let (view, query, span) = viewed.await?;
    let canceled = Arc::new(AtomicBool::new(false));
    let _cancel = CancelOnDrop(Arc::clone(&canceled));
    let evaluation = tokio::task::spawn_blocking(move || {
        let (is_over, is_canceled) = (move || clock::instant() >= end, move || canceled.load(Ordering::Relaxed));
        let options = Options { deadline: Some(&is_over), canceled: Some(&is_canceled), ..budget.options() };
        let Evaluation { mut value, warnings, infos } = span.evaluate(&query, &view, &options)?;
        let mut notes = Notes { warnings, infos };
        match &mut value {
            Value::Vector(samples) => truncate(samples, budget.limit, &mut notes),
            Value::Matrix(series) => truncate(series, budget.limit, &mut notes),
            Value::Scalar { .. } | Value::String { .. } => {}
        }
        Ok::<_, PromError>((value_text(&value), notes))
    });
    evaluation.await.map_err(|error| PromError::new(ErrorKind::Internal, format!("the evaluation failed: {error}")))?
}

/// The `data` of an answer.
fn value_text(value: &Value) -> String {
    let kind = match value {
        Value::Scalar { .. } => "scalar",
        Value::String { .. } => "string",
        Value::Vector(_) => "vector",
        Value::Matrix(_) => "matrix",
    };
    let mut out = format!("{{\"resultType\":\"{kind}\",\"result\":");
    match value {
        Value::Scalar { t_ms, value } => encode::sample(&mut out, *t_ms, *value),
        Value::String { t_ms, value } => {
            out.push('[');
            encode::time(&mut out, *t_ms);
            out.push(',');
            encode::string(&mut out, value);
            out.push(']');
        }
        Value::Vector(samples) => encode::list(&mut out, samples, |out, sample| {
            open_series(out, &sample.labels);
            match &sample.value {
                SampleValue::Float(value) => {
                    out.push_str(",\"value\":");
                    encode::sample(out, sample.t_ms, *value);
                }
                SampleValue::Histogram(histogram) => {
                    out.push_str(",\"histogram\":");
                    encode::histogram_sample(out, sample.t_ms, histogram);
                }
            }
            out.push('}');
        }),
        Value::Matrix(series) => encode::list(&mut out, series, matrix_series),
    }
    out.push('}');
    out
}

fn open_series(out: &mut String, labels: &Labels) {
    out.push_str("{\"metric\":");
    encode::labels(out, labels);
}

fn matrix_series(out: &mut String, series: &SeriesData) {
    open_series(out, &series.labels);
    if !series.floats.is_empty() {
        out.push_str(",\"values\":");
        encode::list(out, &series.floats, |out, point| encode::sample(out, point.t_ms, point.value));
    }
    if !series.histograms.is_empty() {
        out.push_str(",\"histograms\":");
        encode::list(out, &series.histograms, |out, point| encode::histogram_sample(out, point.t_ms, &point.histogram));
    }
    out.push('}');
}

/// `/api/v1/format_query`.
///
/// # Errors
/// `bad_data` when it cannot be read.
pub async fn format_query(params: Params) -> Result<Response, PromError> {
    let query = Query::parse_with(params.get("query").unwrap_or(""), &Options::default())?;
    success(&query.expr().to_string())
}
