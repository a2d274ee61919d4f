//! A rule's expression: the one place of this room that knows the query engine's types.

mod measure;

use crate::model::{Labels, METRIC_NAME};
use crate::promql::{Options, Query, SampleValue, Value};
use crate::series::{MatchOp, Selection, Storage};
use std::collections::BTreeSet;

/// Why an expression does not parse.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpressionError {
    /// Byte offset in the text.
    pub offset: usize,
    /// What is wrong.
    pub message: String,
}

/// A parsed expression.
#[derive(Clone, Debug, PartialEq)]
pub struct Expression {
    text: String,
    query: Query,
}

/// Suffixes under which the parts of a histogram are read.
const HISTOGRAM_PARTS: [&str; 3] = ["_bucket", "_sum", "_count"];

impl Expression {
    /// Reads an expression.
    ///
    /// # Errors
    /// The first thing that is wrong, with its place.
    pub fn parse(text: &str) -> Result<Self, ExpressionError> {
        let query = Query::parse(text).map_err(|error| ExpressionError {
            offset: error.start,
            message: format!("parse error: {}", error.message),
        })?;
        Ok(Self { text: query.expr().to_string(), query })
    }

    /// The expression in the printer's normal form.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The expression itself.
    pub fn expr(&self) -> &crate::promql::Expr {
        self.query.expr()
    }

    /// Whether it is nothing but a selector, without modifiers.
    pub fn is_selector(&self) -> bool {
        crate::promql::parse_metric_selector(&self.text).is_ok()
    }

    /// The metrics that it reads by name; for the parts of a histogram, the histogram's name too. Selectors without a
    /// fixed name are not among them: they are evaluated at the interval.
    pub fn metric_names(&self) -> Vec<String> {
        let mut names = BTreeSet::new();
        for selection in self.selections(0) {
            let fixed = |matcher: &&crate::series::Matcher| matcher.name == METRIC_NAME && matcher.op == MatchOp::Equal;
            if let Some(matcher) = selection.matchers.iter().find(fixed) {
                let name = matcher.value.as_str();
                let whole = HISTOGRAM_PARTS.iter().find_map(|part| name.strip_suffix(part));
                names.extend(whole.map(str::to_owned));
                names.insert(name.to_owned());
            }
        }
        names.into_iter().collect()
    }

    /// What an evaluation reads.
    pub fn selections(&self, at_ms: i64) -> Vec<Selection> {
        self.query.selections(at_ms, at_ms, &Options::default())
    }

    /// Evaluates to a vector; a scalar counts as one sample without labels, as in Prometheus.
    ///
    /// # Errors
    /// What the evaluation says, or that the result is neither.
    pub fn samples(
        &self,
        at_ms: i64,
        storage: &dyn Storage,
        options: &Options<'_>,
    ) -> Result<Vec<(Labels, SampleValue)>, String> {
        let evaluation = self.query.instant(storage, at_ms, options).map_err(|error| error.to_string())?;
        match evaluation.value {
            Value::Vector(samples) => Ok(samples.into_iter().map(|sample| (sample.labels, sample.value)).collect()),
            Value::Scalar { value, .. } => Ok(vec![(Labels::default(), SampleValue::Float(value))]),
            Value::String { .. } | Value::Matrix(_) => Err("rule result is not a vector or scalar".into()),
        }
    }
}
