//! PromQL to the letter of Prometheus 3.14: reading, printing, evaluating, and the language of its tests.
//!
//! - [`parse`] reads an expression, [`Expr`] prints in the canonical form.
//! - [`Query`] evaluates one over a [`Storage`]: a pure function of the samples that its [`Query::selections`] name.
//! - [`testing`] runs Prometheus's test scripts and reads its series notation.
//!
//! Evaluation goes series by series, not step by step, where the operation allows it: a range query slides windows over the
//! samples of a series, and an aggregation adds whole series to its groups. No clock is read and nothing is random.
//!
//! Experimental parts of the language are on unless [`Options::experimental`] is off: functions, duration expressions,
//! `anchored` and `smoothed`, `fill`. Names are removed at the end of an evaluation unless
//! [`Options::delayed_name_removal`] is off; start timestamps count as resets (`use-start-timestamps`).

pub mod ast;
mod durations;
mod eval;
pub mod functions;
mod hash;
mod lexer;
mod notes;
pub mod number;
mod parser;
mod plan;
mod pretty;
mod printer;
pub mod testing;
#[cfg(test)]
mod tests;
mod token;

pub use ast::Expr;
pub use number::{format_exponent, format_open_metrics, format_short, format_value, go_quote};
pub use parser::{MAX_DEPTH, ParseError, parse, parse_metric_selector};

use crate::model::Labels;
use crate::series::{FloatHistogram, Selection, SeriesData, Storage};
use std::sync::Arc;

/// What an evaluation may use and how it answers questions of time.
#[derive(Clone)]
pub struct Options<'a> {
    /// How old a sample may be to count as current, in milliseconds.
    pub lookback_ms: i64,
    /// The step of subqueries that name none, in milliseconds.
    pub subquery_step_ms: i64,
    /// How many samples may be in memory at once; one takes 24 bytes.
    pub max_samples: usize,
    /// How many steps a range query may have.
    pub max_steps: usize,
    /// How deep an expression may be nested.
    pub max_depth: usize,
    /// How long a query may be, in bytes.
    pub max_query_bytes: usize,
    /// Answers `true` once the time for the query is over; asked every few thousand samples.
    pub deadline: Option<&'a (dyn Fn() -> bool + Sync)>,
    /// Answers `true` once nobody waits for the answer any more; asked as often as the deadline.
    pub canceled: Option<&'a (dyn Fn() -> bool + Sync)>,
    /// Whether what Prometheus has behind feature flags is understood.
    pub experimental: bool,
    /// Whether metric names that an operation removes stay visible until the end (`promql-delayed-name-removal`), so that
    /// `label_replace` can still use them; without it they go at once, as in a Prometheus without that flag.
    pub delayed_name_removal: bool,
    /// Whether `rate()` and `increase()` judge counters by the label `__type__` instead of the end of the name.
    pub type_and_unit_labels: bool,
}

impl Default for Options<'_> {
    fn default() -> Self {
        Self {
            lookback_ms: 300_000,
            subquery_step_ms: 60_000,
            max_samples: 10_000_000,
            max_steps: 11_000,
            max_depth: MAX_DEPTH,
            max_query_bytes: 65_536,
            deadline: None,
            canceled: None,
            experimental: true,
            delayed_name_removal: true,
            type_and_unit_labels: false,
        }
    }
}

/// Why there is no answer. [`QueryError::error_type`] is the `errorType` of the HTTP API.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// The query cannot be read (`bad_data`).
    #[error("invalid parameter \"query\": {0}")]
    Parse(ParseError),
    /// A parameter makes no sense (`bad_data`).
    #[error("{0}")]
    BadData(String),
    /// The evaluation failed (`execution`).
    #[error("{0}")]
    Execution(String),
    /// It took too long (`timeout`).
    #[error("query timed out in expression evaluation")]
    Timeout,
    /// Nobody waits for it any more (`canceled`).
    #[error("query was canceled in expression evaluation")]
    Canceled,
}

impl QueryError {
    /// `bad_data`, `execution`, `timeout` or `canceled`.
    pub fn error_type(&self) -> &'static str {
        match self {
            Self::Parse(_) | Self::BadData(_) => "bad_data",
            Self::Execution(_) => "execution",
            Self::Timeout => "timeout",
            Self::Canceled => "canceled",
        }
    }
}

impl From<ParseError> for QueryError {
    fn from(error: ParseError) -> Self {
        Self::Parse(error)
    }
}

/// The value of a sample.
#[derive(Clone, Debug, PartialEq)]
pub enum SampleValue {
    /// A number.
    Float(f64),
    /// A native histogram.
    Histogram(Arc<FloatHistogram>),
}

impl std::fmt::Display for SampleValue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Float(value) => f.write_str(&format_value(*value)),
            Self::Histogram(histogram) => histogram.fmt(f),
        }
    }
}

/// One element of an instant vector.
#[derive(Clone, Debug, PartialEq)]
pub struct VectorSample {
    /// The labels.
    pub labels: Labels,
    /// Milliseconds since the epoch.
    pub t_ms: i64,
    /// The value.
    pub value: SampleValue,
}

/// What an expression evaluates to.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A number without labels.
    #[expect(missing_docs, reason = "the names say it")]
    Scalar { t_ms: i64, value: f64 },
    /// A text.
    #[expect(missing_docs, reason = "the names say it")]
    String { t_ms: i64, value: String },
    /// An instant vector, in the order of the evaluation.
    Vector(Vec<VectorSample>),
    /// A range vector, or the result of a range query; sorted by labels.
    Matrix(Vec<SeriesData>),
}

/// An answer and what is to be said about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluation {
    /// The answer.
    pub value: Value,
    /// What is probably wrong with the query or its data, with its place.
    pub warnings: Vec<String>,
    /// What may be surprising, with its place.
    pub infos: Vec<String>,
}

/// An expression that was read, ready to be evaluated any number of times.
#[derive(Clone, Debug, PartialEq)]
pub struct Query {
    text: String,
    expr: Expr,
}

impl Query {
    /// Reads a query.
    ///
    /// # Errors
    /// The first thing that is wrong, with its place.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        Ok(Self { text: text.to_owned(), expr: parse(text)? })
    }

    /// Reads a query under the limits of `options`.
    ///
    /// # Errors
    /// `bad_data` when it cannot be read, is too long or uses what is switched off.
    pub fn parse_with(text: &str, options: &Options<'_>) -> Result<Self, QueryError> {
        if text.len() > options.max_query_bytes {
            let message = format!("the query has {} bytes, the limit is {}", text.len(), options.max_query_bytes);
            return Err(QueryError::BadData(message));
        }
        let expr = parser::parse_with_depth(text, options.max_depth.min(MAX_DEPTH))?;
        let experimental = expr.experimental();
        if !options.experimental && !experimental.is_empty() {
            let message = format!("{} is experimental and not enabled", experimental.join(", "));
            return Err(QueryError::BadData(message));
        }
        Ok(Self { text: text.to_owned(), expr })
    }

    /// The text as it was given.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The tree.
    pub fn expr(&self) -> &Expr {
        &self.expr
    }

    /// What an evaluation from `start_ms` to `end_ms` reads; each selection once. Where a duration depends on the step of a
    /// range query, the step is taken to be 0 here: use [`Query::selections_at_step`] then.
    pub fn selections(&self, start_ms: i64, end_ms: i64, options: &Options<'_>) -> Vec<Selection> {
        self.selections_at_step(start_ms, end_ms, 0, options)
    }

    /// What a range query with that step reads; empty when the query cannot be prepared (its evaluation says why).
    pub fn selections_at_step(
        &self,
        start_ms: i64,
        end_ms: i64,
        step_ms: i64,
        options: &Options<'_>,
    ) -> Vec<Selection> {
        let frame = plan::Frame { start_ms, end_ms, step_ms: step_ms.max(1) };
        plan::prepare(&self.expr, frame, step_ms, options).map(|plan| plan.selections).unwrap_or_default()
    }

    /// Evaluates at one moment.
    ///
    /// # Errors
    /// See [`QueryError`].
    pub fn instant(&self, storage: &dyn Storage, at_ms: i64, options: &Options<'_>) -> Result<Evaluation, QueryError> {
        let frame = plan::Frame { start_ms: at_ms, end_ms: at_ms, step_ms: 1 };
        let plan = plan::prepare(&self.expr, frame, 0, options)?;
        eval::instant(&plan, &self.text, storage, options)
    }

    /// Evaluates at `start_ms`, `start_ms + step_ms` and so on up to `end_ms`.
    ///
    /// # Errors
    /// See [`QueryError`]; `bad_data` as well for a range or step that makes no sense or makes too many steps.
    pub fn range(
        &self,
        storage: &dyn Storage,
        start_ms: i64,
        end_ms: i64,
        step_ms: i64,
        options: &Options<'_>,
    ) -> Result<Evaluation, QueryError> {
        if end_ms < start_ms {
            return Err(QueryError::BadData(
                "invalid parameter \"end\": end timestamp must not be before start time".into(),
            ));
        }
        if step_ms <= 0 {
            let message = "invalid parameter \"step\": zero or negative query resolution step widths are not accepted. \
                           Try a positive integer";
            return Err(QueryError::BadData(message.into()));
        }
        let steps = (i128::from(end_ms) - i128::from(start_ms)) / i128::from(step_ms);
        if steps > options.max_steps as i128 {
            let message = format!(
                "exceeded maximum resolution of {} points per timeseries. Try decreasing the query resolution (?step=XX)",
                options.max_steps
            );
            return Err(QueryError::BadData(message));
        }
        let value_type = self.expr.value_type();
        if !matches!(value_type, ast::ValueType::Scalar | ast::ValueType::Vector) {
            let message = format!(
                "invalid expression type {} for range query, must be Scalar or instant Vector",
                go_quote(value_type.documented())
            );
            return Err(QueryError::BadData(message));
        }
        let frame = plan::Frame { start_ms, end_ms, step_ms };
        let plan = plan::prepare(&self.expr, frame, step_ms, options)?;
        eval::range(&plan, &self.text, storage, options)
    }
}
