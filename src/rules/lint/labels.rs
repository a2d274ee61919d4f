//! Labels in matchers, `by` and `without` that the metric does not have.

use super::{Known, Said};
use crate::config::diagnostic::nearest;
use crate::model::METRIC_NAME;
use crate::promql::Expr;
use crate::promql::ast::{Aggregate, Op, Selector};
use crate::series::MatchOp;
use std::collections::BTreeSet;

pub(super) fn lint(expr: &Expr, known: &Known, said: &mut Said<'_>) {
    for selector in expr.selectors() {
        matchers(selector, known, said);
    }
    expr.visit(&mut |part| {
        if let Expr::Aggregate(aggregate) = part {
            grouping(aggregate, known, said);
        }
    });
}

fn hint(label: &str, labels: &BTreeSet<String>) -> String {
    let own = || labels.iter().map(String::as_str).filter(|name| !matches!(*name, METRIC_NAME | "sidewatch_overflow"));
    match nearest(label, own()) {
        Some(near) => format!("did you mean {near:?}?"),
        None => format!("its labels are {}", own().collect::<Vec<_>>().join(", ")),
    }
}

fn matchers(selector: &Selector, known: &Known, said: &mut Said<'_>) {
    let Some(name) = selector.metric_name() else { return };
    let Some(labels) = known.labels(name) else { return };
    for matcher in &selector.matchers {
        // `label=""` asks for series without the label, and all are.
        let asks_for_none = matcher.op == MatchOp::Equal && matcher.value.is_empty();
        if !labels.contains(&matcher.name) && !asks_for_none {
            let name_end = if selector.name.is_empty() { 0 } else { selector.name.len() };
            let at = said.word(&matcher.name, selector.span.start + name_end, selector.span.end);
            said.warn(at, format!("{name} has no label {:?}", matcher.name), hint(&matcher.name, &labels));
        }
    }
}

fn grouping(aggregate: &Aggregate, known: &Known, said: &mut Said<'_>) {
    let Some(labels) = labels_of(&aggregate.expr, known) else { return };
    let word = if aggregate.without { "without" } else { "by" };
    for label in aggregate.grouping.iter().filter(|label| !labels.contains(*label)) {
        // The clause stands before or after the parentheses; inside them stands the inner expression.
        let (inner, whole) = (aggregate.expr.span(), aggregate.span);
        let mut at = said.word(label, whole.start, inner.start);
        if at == whole.start {
            at = said.word(label, inner.end, whole.end);
            if at == inner.end {
                at = whole.start;
            }
        }
        let message = format!("{word} ({label}): what is aggregated has no label {label:?}");
        said.warn(at, message, hint(label, &labels));
    }
}

/// The labels that a result may have; `None` when they cannot be told.
fn labels_of(expr: &Expr, known: &Known) -> Option<BTreeSet<String>> {
    match expr.unwrapped() {
        Expr::Number { .. } | Expr::String(..) => Some(BTreeSet::new()),
        Expr::Vector(selector) | Expr::Matrix { selector, .. } => known.labels(selector.metric_name()?),
        Expr::Subquery(subquery) => labels_of(&subquery.expr, known),
        Expr::Unary { expr, .. } => labels_of(expr, known),
        Expr::Aggregate(aggregate) => match aggregate.op {
            crate::promql::ast::Aggregator::CountValues => None,
            _ if aggregate.op.has_parameter() || aggregate.without => labels_of(&aggregate.expr, known),
            _ => Some(aggregate.grouping.iter().cloned().collect()),
        },
        Expr::Call(call) => match call.function.name {
            "label_replace" | "label_join" | "info" | "absent" | "absent_over_time" | "vector" => None,
            _ => union(&call.args, known),
        },
        Expr::Binary(binary) => {
            if binary.matching.as_ref().is_some_and(|matching| !matching.include.is_empty()) {
                return None;
            }
            match binary.op {
                Op::And | Op::Unless => labels_of(&binary.left, known),
                _ => Some(&labels_of(&binary.left, known)? | &labels_of(&binary.right, known)?),
            }
        }
        _ => None,
    }
}

fn union(args: &[Expr], known: &Known) -> Option<BTreeSet<String>> {
    let mut all = BTreeSet::new();
    for arg in args {
        all.extend(labels_of(arg, known)?);
    }
    Some(all)
}
