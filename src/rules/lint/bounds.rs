//! Comparisons that never hold: what the smallest and the largest possible value of an expression are.

use super::{Known, Said};
use crate::promql::Expr;
use crate::promql::ast::{Aggregator, Binary, Call, Matching, Op, Selector};
use crate::series::MetricType;
use std::collections::BTreeMap;

/// Smallest and largest value, both included.
type Bounds = (f64, f64);

const ANY: Bounds = (f64::NEG_INFINITY, f64::INFINITY);
const NOT_NEGATIVE: Bounds = (0.0, f64::INFINITY);

pub(super) fn lint(expr: &Expr, known: &Known, said: &mut Said<'_>) {
    expr.visit(&mut |part| {
        if let Some((op, bound, side)) = comparison(part) {
            let (low, high) = bounds(side, known);
            if outside(op, low, high, bound) {
                let range = match (low, high) {
                    (low, high) if low == high => format!("is always {low}"),
                    (low, f64::INFINITY) => format!("is never below {low}"),
                    (low, high) => format!("lies between {low} and {high}"),
                };
                let hint = match high {
                    1.0 if bound > 1.0 => "a ratio is a part of 1: 5% is 0.05",
                    _ => "turn the comparison round, or remove it",
                };
                let message = format!("this never holds: the value {range}, compared with {} {bound}", op.text());
                said.warn(part.span().start, message, hint);
            }
        }
        contradiction(part, known, said);
        if let Expr::Call(call) = part
            && call.function.name == "absent"
            && call.args.first().is_some_and(always)
        {
            said.warn(
                call.span.start,
                "this never holds: what absent() asks for always has a value".into(),
                "ask for the metric alone, without vector() or a number beside it",
            );
        }
    });
}

/// Whether an expression is a comparison with a number that never holds.
pub(super) fn never(expr: &Expr, known: &Known) -> bool {
    comparison(expr).is_some_and(|(op, bound, side)| {
        let (low, high) = bounds(side, known);
        outside(op, low, high, bound)
    })
}

fn number(expr: &Expr) -> Option<f64> {
    match expr.unwrapped() {
        Expr::Number { value, .. } => Some(value.0),
        Expr::Unary { negative, expr, .. } => number(expr).map(|value| if *negative { -value } else { value }),
        _ => None,
    }
}

/// A filtering comparison with a number: the operator as if the number stood to the right, the number, the other side.
fn comparison(expr: &Expr) -> Option<(Op, f64, &Expr)> {
    let Expr::Binary(binary) = expr.unwrapped() else { return None };
    if !binary.op.is_comparison() || binary.return_bool {
        return None;
    }
    match (number(&binary.left), number(&binary.right)) {
        (None, Some(bound)) => Some((binary.op, bound, &binary.left)),
        (Some(bound), None) => Some((turned(binary.op), bound, &binary.right)),
        _ => None,
    }
}

fn turned(op: Op) -> Op {
    match op {
        Op::Greater => Op::Less,
        Op::Less => Op::Greater,
        Op::GreaterOrEqual => Op::LessOrEqual,
        Op::LessOrEqual => Op::GreaterOrEqual,
        other => other,
    }
}

fn outside(op: Op, low: f64, high: f64, bound: f64) -> bool {
    match op {
        Op::Greater => high <= bound,
        Op::GreaterOrEqual => high < bound,
        Op::Less => low >= bound,
        Op::LessOrEqual => low > bound,
        Op::Equal => bound < low || bound > high,
        _ => false,
    }
}

/// What both sides of `and` demand of the same expression, chained comparisons included.
fn contradiction(expr: &Expr, known: &Known, said: &mut Said<'_>) {
    let mut demands = Vec::new();
    collect(expr, &mut demands);
    if demands.len() < 2 {
        return;
    }
    let mut by_text: BTreeMap<String, (Bounds, bool)> = BTreeMap::new();
    for Demand { op, bound, side, at } in demands {
        if outside_of(side, op, bound, known) {
            return;
        }
        let ((low, high), open) = by_text.entry(side.to_string()).or_insert((ANY, false));
        match op {
            Op::Greater | Op::GreaterOrEqual if bound >= *low => {
                *open |= op == Op::Greater && bound <= *high;
                *low = bound;
            }
            Op::Less | Op::LessOrEqual if bound <= *high => {
                *open |= op == Op::Less && bound >= *low;
                *high = bound;
            }
            Op::Equal => (*low, *high) = (low.max(bound), high.min(bound)),
            _ => continue,
        }
        if *low > *high || (*low == *high && *open) {
            said.warn(
                at,
                format!("this never holds: {side} cannot meet all of its comparisons at once"),
                "one of the two numbers is wrong, or `and` should be `or`",
            );
            return;
        }
    }
}

fn outside_of(side: &Expr, op: Op, bound: f64, known: &Known) -> bool {
    let (low, high) = bounds(side, known);
    outside(op, low, high, bound)
}

struct Demand<'a> {
    op: Op,
    bound: f64,
    side: &'a Expr,
    at: usize,
}

fn collect<'a>(expr: &'a Expr, into: &mut Vec<Demand<'a>>) {
    if let Some((op, bound, side)) = comparison(expr) {
        collect(side, into);
        let mut base = side.unwrapped();
        while let Some((_, _, inner)) = comparison(base) {
            base = inner.unwrapped();
        }
        into.push(Demand { op, bound, side: base, at: expr.span().start });
        return;
    }
    if let Expr::Binary(binary) = expr.unwrapped() {
        match binary.op {
            Op::And if plain(binary.matching.as_ref()) => {
                collect(&binary.left, into);
                collect(&binary.right, into);
            }
            Op::And | Op::Unless => collect(&binary.left, into),
            _ => {}
        }
    }
}

/// All labels are compared.
fn plain(matching: Option<&Matching>) -> bool {
    matching.is_none_or(|matching| {
        matching.labels.is_empty() && !matching.on && matching.fill_left.is_none() && matching.fill_right.is_none()
    })
}

/// Whether the expression has a result at every moment.
fn always(expr: &Expr) -> bool {
    match expr.unwrapped() {
        Expr::Number { .. } => true,
        Expr::Call(call) => matches!(call.function.name, "vector" | "time" | "scalar" | "pi"),
        Expr::Aggregate(aggregate) => !aggregate.op.has_parameter() && always(&aggregate.expr),
        Expr::Binary(binary) if binary.op == Op::Or => always(&binary.left) || always(&binary.right),
        _ => false,
    }
}

fn bounds(expr: &Expr, known: &Known) -> Bounds {
    let (low, high) = match expr.unwrapped() {
        Expr::Number { value, .. } => (value.0, value.0),
        Expr::Unary { negative, expr, .. } => {
            let (low, high) = bounds(expr, known);
            if *negative { (-high, -low) } else { (low, high) }
        }
        Expr::Vector(selector) | Expr::Matrix { selector, .. } => match selector.metric_name() {
            Some(name) if known.kind(name) == Some(MetricType::Counter) && !name.ends_with("_sum") => NOT_NEGATIVE,
            _ => ANY,
        },
        Expr::Call(call) => of_call(call, known),
        Expr::Aggregate(aggregate) => {
            let (low, high) = bounds(&aggregate.expr, known);
            match aggregate.op {
                Aggregator::Count | Aggregator::CountValues => (1.0, f64::INFINITY),
                Aggregator::Group => (1.0, 1.0),
                Aggregator::Stddev | Aggregator::Stdvar => NOT_NEGATIVE,
                // A sum has at least one term.
                Aggregator::Sum => (if low >= 0.0 { low } else { ANY.0 }, if high <= 0.0 { high } else { ANY.1 }),
                Aggregator::Quantile => ANY,
                _ => (low, high),
            }
        }
        Expr::Binary(binary) => of_binary(binary, known),
        _ => ANY,
    };
    if low.is_nan() || high.is_nan() { ANY } else { (low, high) }
}

fn of_call(call: &Call, known: &Known) -> Bounds {
    let argument = || call.args.first().map_or(ANY, |argument| bounds(argument, known));
    match call.function.name {
        "absent" | "absent_over_time" | "present_over_time" => (1.0, 1.0),
        "count_over_time" => (1.0, f64::INFINITY),
        "rate" | "increase" | "irate" | "changes" | "resets" | "abs" | "stddev_over_time" | "stdvar_over_time"
        | "histogram_count" | "sqrt" => NOT_NEGATIVE,
        "min_over_time" | "max_over_time" | "avg_over_time" | "last_over_time" | "sort" | "sort_desc" => argument(),
        "sum_over_time" if argument().0 >= 0.0 => NOT_NEGATIVE,
        "hour" => (0.0, 23.0),
        "minute" => (0.0, 59.0),
        "day_of_week" => (0.0, 6.0),
        "month" => (1.0, 12.0),
        "day_of_month" => (1.0, 31.0),
        _ => ANY,
    }
}

fn of_binary(binary: &Binary, known: &Known) -> Bounds {
    let (left, right) = (bounds(&binary.left, known), bounds(&binary.right, known));
    let positive = |bounds: Bounds| bounds.0 == bounds.1 && bounds.0 > 0.0;
    match binary.op {
        _ if binary.op.is_comparison() && binary.return_bool => (0.0, 1.0),
        Op::Div if is_part(&binary.left, &binary.right) && plain_or_one(binary) => (0.0, 1.0),
        Op::Mul if positive(right) => (left.0 * right.0, left.1 * right.0),
        Op::Mul if positive(left) => (right.0 * left.0, right.1 * left.0),
        Op::Div if positive(right) => (left.0 / right.0, left.1 / right.0),
        Op::Mul | Op::Div if left.0 >= 0.0 && right.0 >= 0.0 => NOT_NEGATIVE,
        Op::Add => (left.0 + right.0, left.1 + right.1),
        Op::Or => (left.0.min(right.0), left.1.max(right.1)),
        Op::And | Op::Unless => left,
        _ if binary.op.is_comparison() && number(&binary.left).is_none() => left,
        _ => ANY,
    }
}

fn plain_or_one(binary: &Binary) -> bool {
    plain(binary.matching.as_ref())
}

/// Whether the upper counts a part of what the lower counts: `sum(rate(x{failed}[5m]))` of `sum(rate(x[5m]))`.
fn is_part(upper: &Expr, lower: &Expr) -> bool {
    match (upper.unwrapped(), lower.unwrapped()) {
        (Expr::Aggregate(a), Expr::Aggregate(b)) => {
            let groups = a.grouping == b.grouping && a.without == b.without;
            a.op == b.op && matches!(a.op, Aggregator::Sum | Aggregator::Count) && groups && is_part(&a.expr, &b.expr)
        }
        (Expr::Call(a), Expr::Call(b)) => {
            a.function == b.function
                && matches!(a.function.name, "rate" | "increase")
                && a.args.len() == 1
                && is_part(&a.args[0], &b.args[0])
        }
        (Expr::Matrix { selector: a, range, .. }, Expr::Matrix { selector: b, range: other, .. }) => {
            range == other && selects_part(a, b)
        }
        _ => false,
    }
}

fn selects_part(a: &Selector, b: &Selector) -> bool {
    let (Some(upper), Some(lower)) = (a.metric_name(), b.metric_name()) else { return false };
    let part = upper == lower
        || (matches!(upper, "events_failed_total" | "events_retried_total") && lower == "events_total")
        || upper.strip_suffix("_bucket").is_some_and(|base| {
            lower.strip_suffix("_count") == Some(base) && a.matchers.iter().any(|matcher| matcher.name == "le")
        });
    let rest = |matcher: &&crate::series::Matcher| matcher.name != crate::model::METRIC_NAME;
    part && a.modifiers == b.modifiers && b.matchers.iter().filter(rest).all(|matcher| a.matchers.contains(matcher))
}
