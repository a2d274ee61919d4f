//! Aggregations that look at all elements of a step: `topk`, `bottomk`, `limitk`, `limit_ratio`, `quantile`, `count_values`.

use super::aggregate::Groups;
use super::label_functions::label_name;
use super::quantiles::quantile;
use super::{Collector, Evaluated, Evaluator, SampleRef, Series, Steps, fail};
use crate::model::Labels;
use crate::promql::ast::{Aggregate, Aggregator, Expr, Span};
use crate::promql::hash::hash_labels;
use crate::promql::number::{format_short, format_value};
use crate::promql::plan::Frame;
use crate::promql::{QueryError, SampleValue};
use std::cmp::Ordering;
use std::collections::BTreeMap;

impl Evaluator<'_> {
    pub(super) fn aggregate_with_parameter(&mut self, frame: Frame, aggregate: &Aggregate) -> Evaluated<Vec<Series>> {
        let Some(parameter) = &aggregate.parameter else {
            return fail(format!("{} needs a parameter", aggregate.op.name()));
        };
        if aggregate.op == Aggregator::CountValues {
            return self.count_values(frame, aggregate, parameter);
        }
        let parameters = self.scalar(frame, parameter)?;
        let matrix = self.matrix(frame, &aggregate.expr)?;
        let groups = Groups::new(aggregate, &matrix);
        self.check_parameters(aggregate, &parameters, parameter.unwrapped().span())?;
        match aggregate.op {
            Aggregator::Quantile => self.quantile(frame, aggregate, &parameters, &matrix, &groups),
            _ => self.pick(frame, aggregate, &parameters, matrix, &groups),
        }
    }

    fn check_parameters(&mut self, aggregate: &Aggregate, parameters: &[f64], span: Span) -> Evaluated<()> {
        let is_nan = parameters.iter().any(|value| value.is_nan());
        match aggregate.op {
            Aggregator::Quantile => {
                for value in parameters.iter().filter(|value| value.is_nan() || !(0.0..=1.0).contains(*value)) {
                    self.notes.invalid_quantile(*value, span);
                }
                Ok(())
            }
            Aggregator::LimitRatio => {
                if is_nan {
                    return fail("Ratio value is NaN");
                }
                for value in parameters.iter().filter(|value| value.abs() > 1.0) {
                    self.notes.invalid_ratio(*value, value.signum(), span);
                }
                Ok(())
            }
            _ if is_nan => fail("Parameter value is NaN"),
            _ => match parameters.iter().find(|value| value.abs() >= i64::MAX as f64) {
                Some(value) if *value > 0.0 => fail(format!("Scalar value {} overflows int64", format_short(*value))),
                Some(value) => fail(format!("Scalar value {} underflows int64", format_short(*value))),
                None => Ok(()),
            },
        }
    }

    fn quantile(
        &mut self,
        frame: Frame,
        aggregate: &Aggregate,
        parameters: &[f64],
        matrix: &[Series],
        groups: &Groups,
    ) -> Evaluated<Vec<Series>> {
        let mut steps = Steps::new(matrix);
        let mut out: Vec<Series> = groups
            .labels
            .iter()
            .zip(&groups.drop_names)
            .map(|(labels, drop_name)| Series::new(labels.clone(), *drop_name))
            .collect();
        let mut values: Vec<Vec<f64>> = vec![Vec::new(); out.len()];
        for (step, t_ms) in frame.times().enumerate() {
            values.iter_mut().for_each(Vec::clear);
            for (at, sample) in steps.vector(t_ms) {
                match sample {
                    SampleRef::Float(value) => values[groups.of_series[at]].push(value),
                    SampleRef::Histogram(_) => {
                        self.notes.histogram_ignored_in_aggregation("quantile", aggregate.expr.unwrapped().span());
                    }
                }
            }
            for (series, values) in out.iter_mut().zip(&mut values) {
                if !values.is_empty() {
                    series.push_float(t_ms, quantile(parameters[step], values));
                }
            }
            self.work(matrix.len())?;
        }
        out.retain(|series| !series.is_empty());
        Ok(out)
    }

    /// The aggregations that let some elements through as they are.
    fn pick(
        &mut self,
        frame: Frame,
        aggregate: &Aggregate,
        parameters: &[f64],
        matrix: Vec<Series>,
        groups: &Groups,
    ) -> Evaluated<Vec<Series>> {
        let mut steps = Steps::new(&matrix);
        let mut out: Vec<Series> =
            matrix.iter().map(|series| Series::new(series.labels.clone(), series.drop_name)).collect();
        // For an instant query the order of the result is the order of the picks.
        let mut order: Vec<usize> = Vec::new();
        let ratios: Vec<f64> = match aggregate.op {
            Aggregator::LimitRatio => matrix.iter().map(|series| hash_ratio(&series.labels)).collect(),
            _ => Vec::new(),
        };
        let mut members: Vec<Vec<(usize, SampleRef<'_>)>> = vec![Vec::new(); groups.labels.len()];
        for (step, t_ms) in frame.times().enumerate() {
            members.iter_mut().for_each(Vec::clear);
            let parameter = parameters.get(step).copied().unwrap_or(f64::NAN);
            for (at, sample) in steps.vector(t_ms) {
                members[groups.of_series[at]].push((at, sample));
            }
            self.work(matrix.len())?;
            for members in &mut members {
                self.pick_from(aggregate, parameter, members, &ratios);
                for (at, sample) in members.iter() {
                    out[*at].push(t_ms, sample.owned());
                    if frame.start_ms == frame.end_ms {
                        order.push(*at);
                    }
                }
            }
        }
        if frame.start_ms == frame.end_ms {
            return Ok(order.into_iter().map(|at| std::mem::take(&mut out[at])).collect());
        }
        out.retain(|series| !series.is_empty());
        Ok(out)
    }

    fn pick_from(
        &mut self,
        aggregate: &Aggregate,
        parameter: f64,
        members: &mut Vec<(usize, SampleRef<'_>)>,
        ratios: &[f64],
    ) {
        let limit = if parameter < 1.0 { 0 } else { parameter as usize };
        match aggregate.op {
            Aggregator::LimitK => members.truncate(limit),
            Aggregator::LimitRatio => {
                let ratio = parameter.clamp(-1.0, 1.0);
                members.retain(|(at, _)| within_ratio(ratio, ratios[*at]));
            }
            op => {
                if limit == 0 {
                    members.clear();
                    return;
                }
                let before = members.len();
                members.retain(|(_, sample)| sample.float().is_some());
                if members.len() < before {
                    self.notes.histogram_ignored_in_aggregation(op.name(), aggregate.expr.unwrapped().span());
                }
                let key = |sample: &SampleRef<'_>| sample.float().unwrap_or(f64::NAN);
                // NaN is chosen last, by both.
                members.sort_by(|(_, a), (_, b)| match (key(a), key(b)) {
                    (a, b) if a.is_nan() || b.is_nan() => a.is_nan().cmp(&b.is_nan()),
                    (a, b) if op == Aggregator::TopK => b.partial_cmp(&a).unwrap_or(Ordering::Equal),
                    (a, b) => a.partial_cmp(&b).unwrap_or(Ordering::Equal),
                });
                members.truncate(limit);
            }
        }
    }

    fn count_values(&mut self, frame: Frame, aggregate: &Aggregate, parameter: &Expr) -> Evaluated<Vec<Series>> {
        let Expr::String(text, _) = parameter.unwrapped() else {
            return fail("count_values needs the name of a label");
        };
        let label = match label_name(text, "label name") {
            Ok(label) => label.to_owned(),
            Err(_) => {
                let quoted = match &text.bytes {
                    Some(bytes) => crate::promql::number::go_quote_bytes(bytes),
                    None => "\"\"".to_owned(),
                };
                return Err(QueryError::Execution(format!("invalid label name {quoted}")));
            }
        };
        let matrix = self.matrix(frame, &aggregate.expr)?;
        let groups = Groups::new(aggregate, &matrix);
        let mut steps = Steps::new(&matrix);
        let mut collector = Collector::default();
        for t_ms in frame.times() {
            let mut counts: BTreeMap<(Labels, bool), f64> = BTreeMap::new();
            for (at, sample) in steps.vector(t_ms) {
                let value = match sample {
                    SampleRef::Float(value) => format_value(value),
                    SampleRef::Histogram(histogram) => histogram.to_string(),
                };
                // The counted label may overwrite one of the group, which joins groups.
                let group = groups.of_series[at];
                *counts.entry((groups.labels[group].with(&label, &value), groups.drop_names[group])).or_default() +=
                    1.0;
            }
            // Every value may become a series, so they count before they are kept.
            self.account(counts.len())?;
            for ((labels, drop_name), count) in counts {
                let place = collector.place(&labels, drop_name);
                collector.push(place, t_ms, SampleValue::Float(count))?;
            }
        }
        Ok(collector.finish())
    }
}

/// Where a series stands between 0 and 1, by its labels, always in the same place.
fn hash_ratio(labels: &Labels) -> f64 {
    hash_labels(labels) as f64 / u64::MAX as f64
}

/// A positive ratio takes the series from below, a negative one the others, so that r and r - 1 are complements.
fn within_ratio(ratio: f64, place: f64) -> bool {
    if ratio >= 0.0 { place < ratio || ratio == 1.0 } else { place >= 1.0 + ratio }
}
