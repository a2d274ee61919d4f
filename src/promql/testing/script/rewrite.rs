//! Queries rewritten so that they have to give the same at another time.

use crate::promql::ast::{At, Expr, Modifiers};
use crate::promql::parse;
use crate::promql::plan::TIME_DEPENDENT;

/// The query with `@ t` on each selector that has none, and other times at which it has to give the same result.
/// Nothing for queries with functions whose result depends on the time of the evaluation.
pub(super) fn at_modifier_variants(query: &str, at_ms: i64) -> Vec<(String, i64)> {
    let Ok(mut expr) = parse(query) else {
        return Vec::new();
    };
    let mut depends_on_time = false;
    expr.visit(&mut |part| {
        depends_on_time |= matches!(part, Expr::Call(call) if TIME_DEPENDENT.contains(&call.function.name));
    });
    if depends_on_time {
        return Vec::new();
    }
    pin(&mut expr, at_ms);
    let text = expr.to_string();
    let times = if at_ms == 0 { vec![-1_000, 0, 1_000] } else { vec![-10 * at_ms, 0, at_ms / 5, at_ms, 10 * at_ms] };
    times.into_iter().map(|time| (text.clone(), time)).collect()
}

/// Sets `@` on every selector and subquery without it; inside of a subquery with `@`, nothing changes.
fn pin(expr: &mut Expr, at_ms: i64) {
    let set = |modifiers: &mut Modifiers| {
        if !matches!(modifiers.at, Some(At::Time(_))) {
            modifiers.at = Some(At::Time(at_ms));
        }
    };
    match expr {
        Expr::Number { .. } | Expr::String(..) => {}
        Expr::Vector(selector) | Expr::Matrix { selector, .. } => set(&mut selector.modifiers),
        Expr::Subquery(subquery) => set(&mut subquery.modifiers),
        Expr::Paren(inner, _) | Expr::Unary { expr: inner, .. } | Expr::Invariant(inner) => pin(inner, at_ms),
        Expr::Binary(binary) => {
            pin(&mut binary.left, at_ms);
            pin(&mut binary.right, at_ms);
        }
        Expr::Aggregate(aggregate) => {
            if let Some(parameter) = &mut aggregate.parameter {
                pin(parameter, at_ms);
            }
            pin(&mut aggregate.expr, at_ms);
        }
        Expr::Call(call) => call.args.iter_mut().for_each(|arg| pin(arg, at_ms)),
    }
}
