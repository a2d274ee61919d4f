//! Compares results with what is expected.

use super::expectation::{Expectation, Match};
use crate::promql::testing::compare::{same_float, same_histogram};
use crate::promql::testing::series::{PointValue, SeriesNotation};
use crate::promql::{Evaluation, SampleValue, Value, VectorSample};
use crate::series::SeriesData;
use std::sync::Arc;

/// The value of a series at a time.
pub(super) fn value_at(series: &SeriesData, t_ms: i64) -> Option<SampleValue> {
    let float = series.floats.iter().find(|point| point.t_ms == t_ms).map(|point| SampleValue::Float(point.value));
    float.or_else(|| {
        let point = series.histograms.iter().find(|point| point.t_ms == t_ms)?;
        Some(SampleValue::Histogram(Arc::clone(&point.histogram)))
    })
}

fn same(expected: &PointValue, found: &SampleValue) -> bool {
    match (expected, found) {
        (PointValue::Float(expected), SampleValue::Float(found)) => same_float(*expected, *found),
        (PointValue::Histogram { histogram, hint_given }, SampleValue::Histogram(found)) => {
            same_histogram(histogram, found, *hint_given)
        }
        _ => false,
    }
}

fn shown(value: &PointValue) -> String {
    match value {
        PointValue::Float(value) => crate::promql::format_value(*value),
        PointValue::Histogram { histogram, .. } => format!("{histogram} {histogram:?}"),
    }
}

fn shown_found(value: &SampleValue) -> String {
    match value {
        SampleValue::Float(value) => crate::promql::format_value(*value),
        SampleValue::Histogram(histogram) => format!("{histogram} {histogram:?}"),
    }
}

fn check_list(kind: &str, any: bool, none: bool, expected: &[Match], found: &[String]) -> Result<(), String> {
    if none && !found.is_empty() {
        return Err(format!("no {kind} was expected, got {found:?}"));
    }
    if any && found.is_empty() {
        let wanted = expected.first().map(|first| format!(" {first}")).unwrap_or_default();
        return Err(format!("a {kind}{wanted} was expected, got none"));
    }
    if expected.is_empty() {
        return Ok(());
    }
    if let Some(missing) = expected.iter().find(|wanted| !found.iter().any(|message| wanted.matches(message))) {
        return Err(format!("the {kind} {missing} was expected, got {found:?}"));
    }
    match found.iter().find(|message| !expected.iter().any(|wanted| wanted.matches(message))) {
        Some(other) => Err(format!("unexpected {kind}: {other}")),
        None => Ok(()),
    }
}

impl Expectation {
    pub fn check_failure(&self, message: &str) -> Result<(), String> {
        match &self.fail_message {
            Some(wanted) if !wanted.matches(message) => {
                Err(format!("expected to fail with {wanted}, but it failed with {message}"))
            }
            _ => Ok(()),
        }
    }

    pub fn check_annotations(&self, evaluation: &Evaluation) -> Result<(), String> {
        check_list("warning", self.any_warning, self.no_warning, &self.warnings, &evaluation.warnings)?;
        check_list("info", self.any_info, self.no_info, &self.infos, &evaluation.infos)
    }

    /// Checks the result of an instant query.
    pub fn check_instant(&self, value: &Value) -> Result<(), String> {
        match value {
            Value::String { value, .. } => match &self.string {
                Some(wanted) if wanted == value => Ok(()),
                wanted => Err(format!("expected the text {wanted:?}, got {value:?}")),
            },
            Value::Scalar { value, .. } => match self.scalar {
                Some(wanted) if same_float(wanted, *value) => Ok(()),
                wanted => Err(format!("expected the scalar {wanted:?}, got {value}")),
            },
            Value::Matrix(_) => match self.range_vector {
                Some(times) => self.check_matrix(value, times),
                None => Err("a range vector needs \"expect range vector\"".into()),
            },
            Value::Vector(vector) => self.check_vector(vector),
        }
    }

    fn check_vector(&self, vector: &[VectorSample]) -> Result<(), String> {
        if self.scalar.is_some() || self.string.is_some() {
            return Err(format!("expected a scalar or text, got {vector:?}"));
        }
        for (at, sample) in vector.iter().enumerate() {
            let place = self.series.iter().position(|series| series.labels == sample.labels);
            let Some(place) = place else {
                return Err(format!("unexpected series {} with {}", sample.labels, shown_found(&sample.value)));
            };
            if self.ordered && place != at {
                return Err(format!("{} comes at place {}, expected at {}", sample.labels, at + 1, place + 1));
            }
            let expected = self.series[place].points.first().and_then(Option::as_ref);
            match expected {
                Some(expected) if same(expected, &sample.value) => {}
                expected => {
                    let wanted = expected.map_or_else(|| "nothing".to_owned(), shown);
                    return Err(format!("{}: expected {wanted}, got {}", sample.labels, shown_found(&sample.value)));
                }
            }
        }
        self.check_missing(|labels| vector.iter().any(|sample| sample.labels == *labels))
    }

    fn check_missing(&self, found: impl Fn(&crate::model::Labels) -> bool) -> Result<(), String> {
        let wanted = |series: &&SeriesNotation| series.points.iter().any(Option::is_some);
        match self.series.iter().filter(wanted).find(|series| !found(&series.labels)) {
            Some(missing) => Err(format!("the series {} is missing", missing.labels)),
            None => Ok(()),
        }
    }

    /// Checks the result of a range query, or a range vector.
    pub fn check_matrix(&self, value: &Value, (start_ms, end_ms, step_ms): (i64, i64, i64)) -> Result<(), String> {
        let Value::Matrix(matrix) = value else {
            return Err("a matrix was expected".into());
        };
        if !matrix.is_sorted_by(|a, b| a.labels < b.labels) {
            return Err("the series are not sorted, or some labels come twice".into());
        }
        for data in matrix {
            let Some(expected) = self.series.iter().find(|series| series.labels == data.labels) else {
                return Err(format!("unexpected series {} with {:?}", data.labels, data.floats));
            };
            let times = |at: usize| start_ms.saturating_add(step_ms.saturating_mul(at as i64));
            let mut seen = 0;
            for (at, point) in expected.points.iter().enumerate() {
                let t_ms = times(at);
                if t_ms > end_ms {
                    return Err(format!("{}: more points are expected than there are steps", data.labels));
                }
                match (point, value_at(data, t_ms)) {
                    (None, None) => {}
                    (Some(expected), Some(found)) if same(expected, &found) => seen += 1,
                    (expected, found) => {
                        let wanted = expected.as_ref().map_or_else(|| "nothing".to_owned(), shown);
                        let got = found.as_ref().map_or_else(|| "nothing".to_owned(), shown_found);
                        return Err(format!("{} at {t_ms} ms: expected {wanted}, got {got}", data.labels));
                    }
                }
            }
            if seen != data.floats.len() + data.histograms.len() {
                return Err(format!(
                    "{}: {seen} points are expected, got {:?} {:?}",
                    data.labels, data.floats, data.histograms
                ));
            }
        }
        self.check_missing(|labels| matrix.iter().any(|data| data.labels == *labels))
    }
}
