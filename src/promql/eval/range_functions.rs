//! Calls of functions over ranges: every series once, sliding over its samples.

use super::rate::{RateKind, Resets, float_resets, histogram_resets, instant_rate, rate};
use super::select::{Sink, Sliding, Window};
use super::{Evaluated, Evaluator, Series, fail, over_time};
use crate::model::Labels;
use crate::promql::SampleValue;
use crate::promql::ast::{Call, Expr, Extension, Span, ValueType};
use crate::promql::notes::Notes;
use crate::promql::plan::Frame;

const ANCHORED: &[&str] = &["changes", "delta", "increase", "rate", "resets"];
const SMOOTHED: &[&str] = &["delta", "increase", "rate"];

/// What a function gets beside its range.
struct Arguments {
    /// The scalars, in order, each with its value at every step.
    scalars: Vec<Vec<f64>>,
    /// Where the first argument stands.
    first: Span,
}

impl Arguments {
    fn scalar(&self, at: usize, step: usize) -> f64 {
        self.scalars.get(at).and_then(|values| values.get(step)).copied().unwrap_or(f64::NAN)
    }
}

impl<'a> Evaluator<'a> {
    pub(super) fn range_call(&mut self, frame: Frame, call: &Call, sink: Sink<'_, 'a>) -> Evaluated<()> {
        let name = call.function.name;
        let Some(range) = call.args.iter().find(|arg| arg.value_type() == ValueType::Matrix) else {
            return fail("a range vector is expected here");
        };
        self.check_extension(name, range)?;
        let mut arguments = Arguments {
            scalars: Vec::new(),
            first: call.args.first().map_or(call.span, |first| first.unwrapped().span()),
        };
        for arg in &call.args {
            if arg.value_type() == ValueType::Scalar {
                arguments.scalars.push(self.scalar(frame, arg)?);
            }
        }
        let ranges = self.ranges(frame, range)?;
        let extension = ranges.modifiers.extension;
        let keeps_name = matches!(name, "last_over_time" | "first_over_time");
        let still = ranges.stands_still() && name != "predict_linear";
        // Notes point at the argument, without the parentheses it may have.
        let span = range.unwrapped().span();
        for (at, data) in ranges.series.iter().enumerate() {
            let inherited = ranges.drop_names.get(at).copied().unwrap_or(false);
            let mut series = Series::new(data.labels.clone(), inherited || !keeps_name);
            // What ranges that overlap would each find again is found once.
            let once = matches!(name, "rate" | "increase") && frame.steps() > 1 && extension == Extension::None;
            let known_resets = if once { float_resets(&data.floats) } else { None };
            let known_histogram_resets = once.then(|| histogram_resets(&data.histograms));
            let mut sliding = Sliding::new(data);
            let mut before: Option<Option<SampleValue>> = None;
            let mut seen = 0;
            for (step, now) in frame.times().enumerate() {
                if still
                    && arguments.scalars.is_empty()
                    && let Some(value) = &before
                {
                    if let Some(value) = value {
                        series.push(now, value.clone());
                    }
                    continue;
                }
                let range_end = Self::reference_time(ranges.modifiers, now);
                let range_start = range_end.saturating_sub(ranges.range_ms);
                let lookback = self.options.lookback_ms;
                let (from, to) = match extension {
                    Extension::None => (range_start, range_end),
                    Extension::Anchored => (range_start.saturating_sub(lookback), range_end),
                    Extension::Smoothed => (range_start.saturating_sub(lookback), range_end.saturating_add(lookback)),
                };
                let (floats, histograms) = sliding.slide(from, to);
                seen += 1 + floats.len() + histograms.len();
                if floats.is_empty() && histograms.is_empty() {
                    before = Some(None);
                    continue;
                }
                let labels = &data.labels;
                let (first_float, first_histogram) = sliding.first_places();
                let window = Window {
                    labels,
                    floats,
                    histograms,
                    range_start,
                    range_end,
                    now,
                    extension,
                    span,
                    resets: known_resets.as_deref().map(|places| Resets::new(places, first_float)),
                    histogram_resets: known_histogram_resets
                        .as_deref()
                        .map(|places| Resets::new(places, first_histogram)),
                };
                let value = apply(name, &window, &arguments, step, &mut self.notes)?;
                if still {
                    before = Some(value.clone());
                }
                if let Some(value) = value {
                    series.push(now, value);
                }
            }
            self.work(seen)?;
            if series.is_empty() {
                continue;
            }
            if matches!(name, "rate" | "increase") && !series.floats.is_empty() {
                self.note_non_counter(&series.labels, span);
            }
            sink(self, series)?;
        }
        Ok(())
    }

    fn note_non_counter(&mut self, labels: &Labels, span: Span) {
        let metric = labels.metric_name();
        if metric.is_empty() {
            return;
        }
        if self.options.type_and_unit_labels {
            let type_label = labels.get("__type__").unwrap_or("");
            if type_label != "counter" && type_label != "histogram" {
                self.notes.possible_non_counter_type(metric, type_label, span);
            }
        } else if !["_total", "_sum", "_count", "_bucket"].iter().any(|end| metric.ends_with(end)) {
            self.notes.possible_non_counter(metric, span);
        }
    }

    fn check_extension(&self, name: &str, range: &Expr) -> Evaluated<()> {
        let Expr::Matrix { selector, .. } = range.unwrapped() else {
            return Ok(());
        };
        let (modifier, allowed) = match selector.modifiers.extension {
            Extension::None => return Ok(()),
            Extension::Anchored => ("anchored", ANCHORED),
            Extension::Smoothed => ("smoothed", SMOOTHED),
        };
        if allowed.contains(&name) {
            return Ok(());
        }
        fail(format!("{modifier} modifier can only be used with: {} - not with {name}", allowed.join(", ")))
    }
}

fn apply(
    name: &str,
    window: &Window<'_>,
    arguments: &Arguments,
    step: usize,
    notes: &mut Notes,
) -> Evaluated<Option<SampleValue>> {
    let kind = |counter, per_second| RateKind { counter, per_second };
    Ok(match name {
        "rate" => rate(window, kind(true, true), notes),
        "increase" => rate(window, kind(true, false), notes),
        "delta" => rate(window, kind(false, false), notes),
        "irate" => instant_rate(window, true, notes),
        "idelta" => instant_rate(window, false, notes),
        "sum_over_time" => over_time::sum(window, notes),
        "avg_over_time" => over_time::average(window, notes),
        "count_over_time" => Some(SampleValue::Float((window.floats.len() + window.histograms.len()) as f64)),
        "present_over_time" | "absent_over_time" => Some(SampleValue::Float(1.0)),
        "min_over_time" => over_time::best(window, notes, false, |a, b| a < b),
        "max_over_time" => over_time::best(window, notes, false, |a, b| a > b),
        "ts_of_min_over_time" => over_time::best(window, notes, true, |a, b| a <= b),
        "ts_of_max_over_time" => over_time::best(window, notes, true, |a, b| a >= b),
        "first_over_time" => over_time::end_sample(window, false),
        "last_over_time" => over_time::end_sample(window, true),
        "ts_of_first_over_time" => over_time::end_time(window, false),
        "ts_of_last_over_time" => over_time::end_time(window, true),
        "stddev_over_time" => over_time::variance(window, notes, true),
        "stdvar_over_time" => over_time::variance(window, notes, false),
        "mad_over_time" => over_time::median_deviation(window, notes),
        "quantile_over_time" => {
            over_time::quantile_over_time(window, arguments.scalar(0, step), notes, arguments.first)
        }
        "changes" => over_time::changes(window),
        "resets" => over_time::resets(window),
        "deriv" => over_time::derivative(window, notes),
        "predict_linear" => over_time::predict_linear(window, arguments.scalar(0, step), notes),
        "double_exponential_smoothing" => {
            let (smoothing, trend) = (arguments.scalar(0, step), arguments.scalar(1, step));
            over_time::double_exponential_smoothing(window, smoothing, trend, notes)?
        }
        _ => return fail(format!("the function {name} takes no range")),
    })
}
