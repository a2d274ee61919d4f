//! Prepares an expression for one evaluation: durations become numbers, `@ start()` becomes a time, and it is known which
//! samples will be read.

use super::ast::{At, Call, Duration, Expr, Extension, Modifiers, Number, Selector, Subquery};
use super::durations::{Times, evaluate};
use super::eval::info::info_name_matchers;
use super::{Options, QueryError};
use crate::model::METRIC_NAME;
use crate::series::{Matcher, Selection};
use std::collections::{BTreeMap, BTreeSet};

/// The steps of an evaluation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub start_ms: i64,
    pub end_ms: i64,
    pub step_ms: i64,
}

impl Frame {
    pub fn steps(self) -> usize {
        let span = i128::from(self.end_ms) - i128::from(self.start_ms);
        if span < 0 { 0 } else { usize::try_from(span / i128::from(self.step_ms.max(1)) + 1).unwrap_or(usize::MAX) }
    }

    pub fn time(self, step: usize) -> i64 {
        self.start_ms.saturating_add(self.step_ms.saturating_mul(step as i64))
    }

    pub fn times(self) -> impl Iterator<Item = i64> {
        (0..self.steps()).map(move |step| self.time(step))
    }
}

/// An expression whose durations and times are numbers, and what it reads.
#[derive(Debug)]
pub(crate) struct Plan {
    pub expr: Expr,
    pub frame: Frame,
    pub selections: Vec<Selection>,
    /// Where a selector (or a call of `info`) begins in the text -> its selection.
    pub slots: BTreeMap<usize, usize>,
    /// Selectors of which only counts and sums of histograms are used, by where they begin.
    pub stats_only: BTreeSet<usize>,
}

/// Functions whose result depends on the time of the evaluation even when their arguments do not.
pub(crate) const TIME_DEPENDENT: &[&str] = &[
    "days_in_month",
    "day_of_month",
    "day_of_week",
    "day_of_year",
    "end",
    "hour",
    "minute",
    "month",
    "year",
    "predict_linear",
    "range",
    "start",
    "step",
    "time",
    "timestamp",
];

/// # Errors
/// A duration that cannot be computed.
pub(crate) fn prepare(expr: &Expr, frame: Frame, step_ms: i64, options: &Options<'_>) -> Result<Plan, QueryError> {
    let times = Times { step_ms, range_ms: frame.end_ms.saturating_sub(frame.start_ms) };
    let mut resolver = Resolver { times, frame };
    let mut expr = expr.clone();
    resolver.resolve(&mut expr)?;
    let invariant = mark_invariant(&mut expr);
    if invariant && is_worth_wrapping(&expr) {
        wrap(&mut expr);
    }
    let mut plan = Plan { expr, frame, selections: Vec::new(), slots: BTreeMap::new(), stats_only: BTreeSet::new() };
    let expr = std::mem::replace(
        &mut plan.expr,
        Expr::Number { value: Number(0.0), duration: false, span: Default::default() },
    );
    plan.collect(&expr, frame.start_ms, frame.end_ms, options);
    find_stats_only(&expr, false, &mut plan.stats_only);
    plan.expr = expr;
    Ok(plan)
}

/// Finds the selectors inside of `histogram_count` and its like. A subquery between them, or a function that needs the
/// buckets, ends that.
fn find_stats_only(expr: &Expr, within: bool, found: &mut BTreeSet<usize>) {
    let within = match expr {
        Expr::Vector(selector) | Expr::Matrix { selector, .. } => {
            if within {
                found.insert(selector.span.start);
            }
            return;
        }
        Expr::Subquery(_) => return,
        Expr::Binary(_) => false,
        Expr::Call(call) => match call.function.name {
            "histogram_count" | "histogram_sum" | "histogram_avg" => true,
            "histogram_quantile" | "histogram_quantiles" | "histogram_fraction" => return,
            _ => within,
        },
        _ => within,
    };
    for child in expr.children() {
        find_stats_only(child, within, found);
    }
}

struct Resolver {
    times: Times,
    frame: Frame,
}

impl Resolver {
    fn resolve(&mut self, expr: &mut Expr) -> Result<(), QueryError> {
        match expr {
            Expr::Number { .. } | Expr::String(..) => Ok(()),
            Expr::Vector(selector) => self.modifiers(&mut selector.modifiers),
            Expr::Matrix { selector, range, .. } => {
                self.duration(range, false)?;
                self.modifiers(&mut selector.modifiers)
            }
            Expr::Subquery(subquery) => {
                self.duration(&mut subquery.range, false)?;
                if let Some(step) = &mut subquery.step {
                    self.duration(step, false)?;
                }
                self.modifiers(&mut subquery.modifiers)?;
                self.resolve(&mut subquery.expr)
            }
            Expr::Paren(inner, _) | Expr::Unary { expr: inner, .. } | Expr::Invariant(inner) => self.resolve(inner),
            Expr::Binary(binary) => {
                self.resolve(&mut binary.left)?;
                self.resolve(&mut binary.right)
            }
            Expr::Aggregate(aggregate) => {
                if let Some(parameter) = &mut aggregate.parameter {
                    self.resolve(parameter)?;
                }
                self.resolve(&mut aggregate.expr)
            }
            Expr::Call(call) => {
                if let Some(value) = self.query_context(call.function.name) {
                    *expr = Expr::Number { value: Number(value), duration: false, span: call.span };
                    return Ok(());
                }
                call.args.iter_mut().try_for_each(|arg| self.resolve(arg))
            }
        }
    }

    /// `start()`, `end()`, `range()` and `step()` are numbers once the query's times are known.
    fn query_context(&self, name: &str) -> Option<f64> {
        let ms = match name {
            "start" => self.frame.start_ms,
            "end" => self.frame.end_ms,
            "range" => self.times.range_ms,
            "step" => self.times.step_ms,
            _ => return None,
        };
        Some(ms as f64 / 1000.0)
    }

    fn duration(&self, duration: &mut Duration, may_be_negative: bool) -> Result<(), QueryError> {
        if let Duration::Computed(expr) = duration {
            *duration = Duration::Fixed(evaluate(expr, self.times, may_be_negative).map_err(QueryError::Execution)?);
        }
        Ok(())
    }

    fn modifiers(&self, modifiers: &mut Modifiers) -> Result<(), QueryError> {
        if let Some(offset) = &mut modifiers.offset {
            self.duration(offset, true)?;
        }
        match modifiers.at {
            Some(At::Start) => modifiers.at = Some(At::Time(self.frame.start_ms)),
            Some(At::End) => modifiers.at = Some(At::Time(self.frame.end_ms)),
            _ => {}
        }
        Ok(())
    }
}

fn is_worth_wrapping(expr: &Expr) -> bool {
    !matches!(expr, Expr::Number { .. } | Expr::String(..) | Expr::Invariant(_))
        && expr.value_type() != super::ast::ValueType::Matrix
}

fn wrap(expr: &mut Expr) {
    let placeholder = Expr::Number { value: Number(0.0), duration: false, span: Default::default() };
    let inner = std::mem::replace(expr, placeholder);
    *expr = Expr::Invariant(Box::new(inner));
}

/// Wraps the largest parts that are the same at every step; whether the whole is.
fn mark_invariant(expr: &mut Expr) -> bool {
    match expr {
        Expr::Number { .. } | Expr::String(..) => true,
        Expr::Vector(selector) | Expr::Matrix { selector, .. } => selector.modifiers.at.is_some(),
        Expr::Subquery(subquery) => {
            // The steps inside differ even when the subquery itself stands still, so its inside is on its own.
            if mark_invariant(&mut subquery.expr) && is_worth_wrapping(&subquery.expr) {
                wrap(&mut subquery.expr);
            }
            subquery.modifiers.at.is_some()
        }
        Expr::Paren(inner, _) | Expr::Unary { expr: inner, .. } | Expr::Invariant(inner) => mark_invariant(inner),
        Expr::Binary(binary) => {
            let left = mark_invariant(&mut binary.left);
            let right = mark_invariant(&mut binary.right);
            if left && right {
                return true;
            }
            for (invariant, side) in [(left, &mut binary.left), (right, &mut binary.right)] {
                if invariant && is_worth_wrapping(side) {
                    wrap(side);
                }
            }
            false
        }
        Expr::Aggregate(aggregate) => {
            let whole = mark_invariant(&mut aggregate.expr);
            let parameter = aggregate.parameter.as_mut().is_none_or(mark_invariant);
            if whole && !parameter && is_worth_wrapping(&aggregate.expr) {
                wrap(&mut aggregate.expr);
            }
            whole && parameter
        }
        Expr::Call(call) => {
            let invariant: Vec<bool> = call.args.iter_mut().map(mark_invariant).collect();
            let safe = !TIME_DEPENDENT.contains(&call.function.name);
            if safe && invariant.iter().all(|invariant| *invariant) {
                return true;
            }
            // These look at the selector itself.
            if ["timestamp", "start_timestamp", "absent", "info"].contains(&call.function.name) {
                return false;
            }
            for (arg, invariant) in call.args.iter_mut().zip(invariant) {
                if invariant && is_worth_wrapping(arg) {
                    wrap(arg);
                }
            }
            false
        }
    }
}

impl Plan {
    fn collect(&mut self, expr: &Expr, start: i64, end: i64, options: &Options<'_>) {
        match expr {
            Expr::Number { .. } | Expr::String(..) => {}
            Expr::Vector(selector) => self.select(selector, 0, start, end, options),
            Expr::Matrix { selector, range, .. } => self.select(selector, range.fixed_ms(), start, end, options),
            Expr::Subquery(subquery) => {
                let (start, end) = subquery_times(subquery, start, end);
                self.collect(&subquery.expr, start, end, options);
            }
            Expr::Call(call) if call.function.name == "info" => {
                if let Some(first) = call.args.first() {
                    self.collect(first, start, end, options);
                }
                self.select_info(call, start, end, options);
            }
            _ => {
                for child in expr.children() {
                    self.collect(child, start, end, options);
                }
            }
        }
    }

    fn select(&mut self, selector: &Selector, range_ms: i64, start: i64, end: i64, options: &Options<'_>) {
        let (start, end) = moved(&selector.modifiers, start, end);
        let lookback = options.lookback_ms;
        let back = match (range_ms, selector.modifiers.extension) {
            (0, _) => lookback,
            (range, Extension::None) => range,
            (range, _) => range.saturating_add(lookback),
        };
        let ahead = if selector.modifiers.extension == Extension::Smoothed { lookback } else { 0 };
        self.add(
            selector.span.start,
            Selection {
                matchers: selector.matchers.clone(),
                // Ranges are open on the left.
                from_ms: start.saturating_sub(back).saturating_add(1),
                to_ms: end.saturating_add(ahead),
            },
        );
    }

    /// The series that `info()` may join: all info series of the names it names; which of them, its argument decides.
    fn select_info(&mut self, call: &Call, start: i64, end: i64, options: &Options<'_>) {
        let (start, end) = call.args.first().map_or((start, end), |first| first_selector_times(first, start, end));
        let given: &[Matcher] = match call.args.get(1) {
            Some(Expr::Vector(labels)) => &labels.matchers,
            _ => &[],
        };
        let mut matchers = info_name_matchers(given);
        matchers.extend(given.iter().filter(|matcher| matcher.name != METRIC_NAME).cloned());
        let from_ms = start.saturating_sub(options.lookback_ms).saturating_add(1);
        self.add(call.span.start, Selection { matchers, from_ms, to_ms: end });
    }

    fn add(&mut self, place: usize, selection: Selection) {
        let slot = self.selections.iter().position(|known| *known == selection).unwrap_or_else(|| {
            self.selections.push(selection);
            self.selections.len() - 1
        });
        self.slots.insert(place, slot);
    }
}

/// Times moved by `@` and `offset`.
pub(crate) fn moved(modifiers: &Modifiers, start: i64, end: i64) -> (i64, i64) {
    let offset = modifiers.offset_ms();
    let (start, end) = match modifiers.at {
        Some(At::Time(at)) => (at, at),
        _ => (start, end),
    };
    (start.saturating_sub(offset), end.saturating_sub(offset))
}

/// Times as the first selector of an expression sees them, moved by everything around it.
pub(crate) fn first_selector_times(expr: &Expr, start: i64, end: i64) -> (i64, i64) {
    match expr {
        Expr::Vector(selector) | Expr::Matrix { selector, .. } => moved(&selector.modifiers, start, end),
        Expr::Subquery(subquery) => {
            let (start, end) = moved(&subquery.modifiers, start, end);
            first_selector_times(&subquery.expr, start, end)
        }
        _ => match expr.children().into_iter().find(|child| !child.selectors().is_empty()) {
            Some(child) => first_selector_times(child, start, end),
            None => (start, end),
        },
    }
}

fn subquery_times(subquery: &Subquery, start: i64, end: i64) -> (i64, i64) {
    let (start, end) = moved(&subquery.modifiers, start, end);
    (start.saturating_sub(subquery.range.fixed_ms()), end)
}
