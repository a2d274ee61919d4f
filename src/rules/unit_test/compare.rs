//! What was expected, held against what was found.

use super::schema::{AlertTest, ExprTest};
use crate::config::Span;
use crate::model::{Labels, format_duration_ms};
use crate::promql::testing::{PointValue, same_histogram};
use crate::promql::{Options, Query, SampleValue, Value};
use crate::rules::alert_state::AlertPhase;
use crate::rules::schedule::Rules;
use crate::series::Storage;
use std::fmt::Write as _;

/// `file:line: `, before what was expected there.
pub(crate) fn place(span: &Span) -> String {
    format!("{}:{}: ", span.file, span.line)
}

/// A time as promtool prints it.
pub(crate) fn time(at_ms: i64) -> String {
    format_duration_ms(at_ms)
}

/// Labels and annotations of the firing alerts of a name must be exactly the expected ones.
pub(crate) fn alerts(test: &AlertTest, rules: &Rules, failures: &mut Vec<String>) {
    let mut found: Vec<(Labels, Labels)> = Vec::new();
    for (name, states) in rules.alerts_by_rule() {
        if *name != *test.alertname {
            continue;
        }
        let firing = states.iter().filter(|(_, state)| state.phase == AlertPhase::Firing);
        found.extend(firing.map(|(labels, state)| (labels.clone(), state.annotations.clone())));
    }
    let mut expected: Vec<(Labels, Labels)> =
        test.expected.iter().map(|alert| (alert.labels.clone(), alert.annotations.clone())).collect();
    found.sort();
    expected.sort();
    if found != expected {
        let mut text =
            format!("{}alertname: {}, time: {}\n  exp:", place(&test.span), test.alertname, time(test.at_ms));
        list(&mut text, &expected);
        text.push_str("\n  got:");
        list(&mut text, &found);
        failures.push(text);
    }
}

fn list(text: &mut String, alerts: &[(Labels, Labels)]) {
    if alerts.is_empty() {
        text.push_str(" nothing");
    }
    for (labels, annotations) in alerts {
        let _ = write!(text, "\n    Labels:{labels} Annotations:{annotations}");
    }
}

/// Evaluates the expression of an expectation at a moment of the epoch.
pub(crate) fn expression(
    test: &ExprTest,
    at_ms: i64,
    storage: &dyn Storage,
    options: &Options<'_>,
    fuzzy: bool,
    failures: &mut Vec<String>,
) {
    let found = Query::parse(&test.expr.value)
        .map_err(|error| error.to_string())
        .and_then(|query| query.instant(storage, at_ms, options).map_err(|error| error.to_string()));
    match found {
        Ok(evaluation) => samples(test, evaluation.value, fuzzy, failures),
        Err(error) => {
            let place = place(&test.expr.span);
            failures.push(format!("{place}expr: {:?}, time: {}: {error}", test.expr.value, time(test.at_ms)));
        }
    }
}

/// The result must have exactly the expected samples.
fn samples(test: &ExprTest, value: Value, fuzzy: bool, failures: &mut Vec<String>) {
    let found: Vec<(Labels, SampleValue)> = match value {
        Value::Scalar { value, .. } => vec![(Labels::default(), SampleValue::Float(value))],
        Value::Vector(samples) => samples.into_iter().map(|sample| (sample.labels, sample.value)).collect(),
        Value::String { .. } | Value::Matrix(_) => {
            failures.push(format!(
                "{}expr: {:?}: the result is not a vector or scalar",
                place(&test.expr.span),
                test.expr.value
            ));
            return;
        }
    };
    let mut found = found;
    found.sort_by(|a, b| a.0.cmp(&b.0));
    let mut expected = test.expected.clone();
    expected.sort_by(|a, b| a.0.cmp(&b.0));
    let alike = found.len() == expected.len()
        && found
            .iter()
            .zip(&expected)
            .all(|(found, expected)| found.0 == expected.0 && same(&expected.1, &found.1, fuzzy));
    if !alike {
        let mut text =
            format!("{}expr: {:?}, time: {}\n  exp:", place(&test.expr.span), test.expr.value, time(test.at_ms));
        for (labels, value) in &expected {
            let value = match value {
                PointValue::Float(value) => SampleValue::Float(*value),
                PointValue::Histogram { histogram, .. } => SampleValue::Histogram(histogram.clone()),
            };
            let _ = write!(text, "\n    {labels} {value}");
        }
        if expected.is_empty() {
            text.push_str(" nothing");
        }
        text.push_str(if found.is_empty() { "\n  got: nothing" } else { "\n  got:" });
        for (labels, value) in &found {
            let _ = write!(text, "\n    {labels} {value}");
        }
        failures.push(text);
    }
}

/// Floats are equal bit for bit (any NaN is any NaN), or nearly with `fuzzy_compare`.
fn same(expected: &PointValue, found: &SampleValue, fuzzy: bool) -> bool {
    match (expected, found) {
        (PointValue::Float(a), SampleValue::Float(b)) => {
            let near = || {
                // Prometheus's documentation: differences in the last bit of the mantissa are ignored.
                let distance = (a.to_bits() as i64).wrapping_sub(b.to_bits() as i64).unsigned_abs();
                a.is_sign_negative() == b.is_sign_negative() && distance <= 1
            };
            (a.is_nan() && b.is_nan()) || a == b || (fuzzy && near())
        }
        (PointValue::Histogram { histogram, hint_given }, SampleValue::Histogram(found)) => {
            same_histogram(histogram, found, *hint_given)
        }
        _ => false,
    }
}
