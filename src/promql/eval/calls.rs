//! Calls of functions.

use super::select::{Found, Lookback, Sink};
use super::{Evaluated, Evaluator, Out, Series, Steps, fail, instant_functions};
use crate::model::{Labels, METRIC_NAME};
use crate::promql::ast::{Call, Expr, Extension, Selector, Text, ValueType};
use crate::promql::plan::Frame;
use crate::series::MatchOp;
use std::collections::BTreeSet;

impl<'a> Evaluator<'a> {
    pub(super) fn call(&mut self, frame: Frame, call: &Call) -> Evaluated<Out> {
        let name = call.function.name;
        let matrix = match name {
            "time" => {
                self.account(frame.steps())?;
                return Ok(Out::Scalar(frame.times().map(|t_ms| t_ms as f64 / 1000.0).collect()));
            }
            "pi" => return self.constant(frame, std::f64::consts::PI),
            "scalar" => return self.scalar_of_vector(frame, call),
            "min_of" | "max_of" => return self.of_two(frame, call),
            "vector" => self.vector_of_scalar(frame, call),
            "absent" => self.absent(frame, call),
            "absent_over_time" => self.absent_over_time(frame, call),
            "label_replace" => self.label_replace(frame, call),
            "label_join" => self.label_join(frame, call),
            "info" => self.info(frame, call),
            "timestamp" => self.timestamp(frame, call, false),
            "start_timestamp" => self.timestamp(frame, call, true),
            "sort" | "sort_desc" | "sort_by_label" | "sort_by_label_desc" => self.sort(frame, call),
            "histogram_quantile" | "histogram_quantiles" | "histogram_fraction" => self.histogram_call(frame, call),
            _ if is_range_call(call) => self.collected(|evaluator, sink| evaluator.range_call(frame, call, sink)),
            _ => self.instant_call(frame, call),
        }?;
        Ok(Out::Matrix(matrix))
    }

    /// The series that are handed over, as a list.
    pub(super) fn collected(
        &mut self,
        evaluate: impl FnOnce(&mut Self, Sink<'_, 'a>) -> Evaluated<()>,
    ) -> Evaluated<Vec<Series>> {
        let mut out = Vec::new();
        evaluate(self, &mut |evaluator, series| {
            evaluator.account(series.weight_samples())?;
            out.push(series);
            Ok(())
        })?;
        Ok(out)
    }

    /// The text of an argument that is one.
    pub(super) fn text_argument(call: &Call, at: usize) -> Evaluated<&Text> {
        match call.args.get(at).map(Expr::unwrapped) {
            Some(Expr::String(text, _)) => Ok(text),
            _ => fail(format!("argument {} of {} has to be a text literal", at + 1, call.function.name)),
        }
    }

    pub(super) fn argument(call: &Call, at: usize) -> Evaluated<&Expr> {
        match call.args.get(at) {
            Some(arg) => Ok(arg),
            None => fail(format!("{} needs more than {at} argument(s)", call.function.name)),
        }
    }

    fn scalar_of_vector(&mut self, frame: Frame, call: &Call) -> Evaluated<Out> {
        let matrix = self.matrix(frame, Self::argument(call, 0)?)?;
        let mut steps = Steps::new(&matrix);
        let value = |t_ms| {
            let mut floats = steps.vector(t_ms).into_iter().filter_map(|(_, sample)| sample.float());
            match (floats.next(), floats.next()) {
                (Some(value), None) => value,
                _ => f64::NAN,
            }
        };
        let values = frame.times().map(value).collect();
        Ok(Out::Scalar(values))
    }

    fn of_two(&mut self, frame: Frame, call: &Call) -> Evaluated<Out> {
        let left = self.scalar(frame, Self::argument(call, 0)?)?;
        let right = self.scalar(frame, Self::argument(call, 1)?)?;
        let pick = if call.function.name == "min_of" { instant_functions::min } else { instant_functions::max };
        Ok(Out::Scalar(left.into_iter().zip(right).map(|(left, right)| pick(left, right)).collect()))
    }

    fn vector_of_scalar(&mut self, frame: Frame, call: &Call) -> Evaluated<Vec<Series>> {
        let values = self.scalar(frame, Self::argument(call, 0)?)?;
        let mut series = Series::default();
        for (t_ms, value) in frame.times().zip(values) {
            series.push_float(t_ms, value);
        }
        Ok(vec![series])
    }

    fn absent(&mut self, frame: Frame, call: &Call) -> Evaluated<Vec<Series>> {
        let arg = Self::argument(call, 0)?;
        let matrix = self.matrix(frame, arg)?;
        Ok(Self::missing(frame, &matrix, arg))
    }

    fn absent_over_time(&mut self, frame: Frame, call: &Call) -> Evaluated<Vec<Series>> {
        let matrix = self.collected(|evaluator, sink| evaluator.range_call(frame, call, sink))?;
        Ok(Self::missing(frame, &matrix, Self::argument(call, 0)?))
    }

    /// A series that is 1 where no other is.
    fn missing(frame: Frame, matrix: &[Series], arg: &Expr) -> Vec<Series> {
        let present: BTreeSet<i64> = matrix
            .iter()
            .flat_map(|series| {
                let floats = series.floats.iter().map(|point| point.t_ms);
                floats.chain(series.histograms.iter().map(|point| point.t_ms))
            })
            .collect();
        let mut series = Series::new(absent_labels(arg), false);
        for t_ms in frame.times().filter(|t_ms| !present.contains(t_ms)) {
            series.push_float(t_ms, 1.0);
        }
        if series.is_empty() { Vec::new() } else { vec![series] }
    }

    /// When the samples were taken; of a plain selector their own times, else the time of the step.
    fn timestamp(&mut self, frame: Frame, call: &Call, of_start: bool) -> Evaluated<Vec<Series>> {
        let arg = Self::argument(call, 0)?;
        if let Expr::Vector(selector) = arg.unwrapped()
            && selector.modifiers.extension == Extension::None
        {
            return self.selector_timestamps(frame, selector, of_start);
        }
        let mut matrix = self.matrix(frame, arg)?;
        if of_start {
            return Ok(Vec::new());
        }
        for series in &mut matrix {
            series.drop_name = true;
            let mut times: Vec<i64> = series.floats.iter().map(|point| point.t_ms).collect();
            times.extend(series.histograms.iter().map(|point| point.t_ms));
            times.sort_unstable();
            series.floats.clear();
            series.histograms.clear();
            for t_ms in times {
                series.push_float(t_ms, t_ms as f64 / 1000.0);
            }
        }
        Ok(matrix)
    }

    fn selector_timestamps(&mut self, frame: Frame, selector: &Selector, of_start: bool) -> Evaluated<Vec<Series>> {
        let mut out = Vec::new();
        for data in self.selected(selector.span.start) {
            let mut series = Series::new(data.labels.clone(), true);
            let mut lookback = Lookback::new(data, self.options.lookback_ms);
            for t_ms in frame.times() {
                let found = lookback.find(Self::reference_time(&selector.modifiers, t_ms));
                let times = match found {
                    Some(Found { float: Some(point), .. }) => (point.t_ms, point.start_ms),
                    Some(Found { histogram: Some(point), .. }) => (point.t_ms, point.start_ms),
                    _ => continue,
                };
                series.push_float(t_ms, if of_start { times.1 } else { times.0 } as f64 / 1000.0);
            }
            self.account(series.floats.len())?;
            if !series.is_empty() {
                out.push(series);
            }
        }
        Ok(out)
    }

    fn sort(&mut self, frame: Frame, call: &Call) -> Evaluated<Vec<Series>> {
        let mut matrix = self.matrix(frame, Self::argument(call, 0)?)?;
        if frame.start_ms != frame.end_ms {
            self.notes.sort_in_range_query(call.span);
        }
        let name = call.function.name;
        if name == "sort" || name == "sort_desc" {
            matrix.retain_mut(|series| {
                series.histograms.clear();
                !series.is_empty()
            });
            let key = |series: &Series| series.floats.first().map_or(f64::NAN, |point| point.value);
            // NaN goes to the end in both directions.
            matrix.sort_by(|a, b| match (key(a), key(b)) {
                (a, b) if a.is_nan() || b.is_nan() => a.is_nan().cmp(&b.is_nan()),
                (a, b) if name == "sort" => a.total_cmp(&b),
                (a, b) => b.total_cmp(&a),
            });
            return Ok(matrix);
        }
        let labels = (1..call.args.len())
            .map(|at| Self::text_argument(call, at).map(|text| text.value.as_str()))
            .collect::<Evaluated<Vec<&str>>>()?;
        matrix.sort_by(|a, b| {
            let by_label = |label: &&str| {
                super::label_functions::natural_order(
                    a.labels.get(label).unwrap_or(""),
                    b.labels.get(label).unwrap_or(""),
                )
            };
            let order = labels.iter().map(by_label).find(|order| order.is_ne());
            order.unwrap_or_else(|| a.labels.cmp(&b.labels))
        });
        if name == "sort_by_label_desc" {
            matrix.reverse();
        }
        Ok(matrix)
    }
}

/// Whether it is a function that takes each series of a range vector by itself.
pub(super) fn is_range_call(call: &Call) -> bool {
    call.function.name != "absent_over_time" && call.args.iter().any(|arg| arg.value_type() == ValueType::Matrix)
}

/// The labels that a selector demands with `=`, each only once.
fn absent_labels(arg: &Expr) -> Labels {
    let (Expr::Vector(selector) | Expr::Matrix { selector, .. }) = arg.unwrapped() else {
        return Labels::default();
    };
    let mut labels: Vec<(&str, &str)> = Vec::new();
    let mut seen: BTreeSet<&str> = BTreeSet::new();
    for matcher in selector.matchers.iter().filter(|matcher| matcher.name != METRIC_NAME) {
        if matcher.op == MatchOp::Equal && seen.insert(&matcher.name) {
            labels.push((&matcher.name, &matcher.value));
        } else {
            labels.retain(|(name, _)| *name != matcher.name);
        }
    }
    Labels::from_pairs(labels)
}
