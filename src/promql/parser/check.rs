//! Checks the types of a tree that was read.

use super::Parsed;
use super::error::Failure;
use crate::promql::ast::{Aggregate, Aggregator, Binary, Call, Cardinality, Expr, Selector, Span, ValueType};
use crate::promql::number::go_quote;

/// Checks types and arguments, and tidies the matching of operators that do not match vectors.
pub(super) fn check(expr: &mut Expr) -> Parsed<ValueType> {
    match expr {
        Expr::Number { .. } | Expr::String(..) => {}
        Expr::Vector(selector) => check_selector(selector)?,
        Expr::Matrix { selector, .. } => check_selector(selector)?,
        Expr::Subquery(subquery) => {
            let found = check(&mut subquery.expr)?;
            if found != ValueType::Vector {
                let message = format!("subquery is only allowed on instant vector, got {} instead", type_name(found));
                return Err(Failure { span: subquery.span, message });
            }
        }
        Expr::Paren(inner, _) | Expr::Invariant(inner) => return check(inner),
        Expr::Unary { expr: inner, span, .. } => {
            let found = check(inner)?;
            if !matches!(found, ValueType::Scalar | ValueType::Vector) {
                let message = format!(
                    "unary expression only allowed on expressions of type scalar or instant vector, got {}",
                    go_quote(found.documented())
                );
                return Err(Failure { span: *span, message });
            }
        }
        Expr::Binary(binary) => check_binary(binary)?,
        Expr::Aggregate(aggregate) => check_aggregate(aggregate)?,
        Expr::Call(call) => check_call(call)?,
    }
    Ok(expr.value_type())
}

fn type_name(value: ValueType) -> &'static str {
    match value {
        ValueType::Scalar => "scalar",
        ValueType::String => "string",
        ValueType::Vector => "vector",
        ValueType::Matrix => "matrix",
    }
}

fn expect(expr: &mut Expr, wanted: ValueType, context: &str) -> Parsed<()> {
    let found = check(expr)?;
    if found == wanted {
        return Ok(());
    }
    let message = format!("expected type {} in {context}, got {}", wanted.documented(), found.documented());
    Err(Failure { span: expr.span(), message })
}

fn check_selector(selector: &Selector) -> Parsed<()> {
    // A selector that matches everything would read the whole store by mistake.
    if selector.matchers.iter().all(|matcher| matcher.matches("")) {
        return Err(Failure::new(selector.span, "vector selector must contain at least one non-empty matcher"));
    }
    Ok(())
}

fn check_aggregate(aggregate: &mut Aggregate) -> Parsed<()> {
    expect(&mut aggregate.expr, ValueType::Vector, "aggregation expression")?;
    let wanted = if aggregate.op == Aggregator::CountValues { ValueType::String } else { ValueType::Scalar };
    match &mut aggregate.parameter {
        Some(parameter) => expect(parameter, wanted, "aggregation parameter"),
        None => Ok(()),
    }
}

fn check_binary(binary: &mut Binary) -> Parsed<()> {
    let left = check(&mut binary.left)?;
    let right = check(&mut binary.right)?;
    let operator = binary.op_span;
    let fail = |span: Span, message: String| Err(Failure { span, message });
    if binary.return_bool && !binary.op.is_comparison() {
        return fail(operator, "bool modifier can only be used on comparison operators".into());
    }
    let scalars = (left == ValueType::Scalar, right == ValueType::Scalar);
    if binary.op.is_comparison() && !binary.return_bool && scalars == (true, true) {
        return fail(operator, "comparisons between scalars must use BOOL modifier".into());
    }
    for (side, found) in [(&binary.left, left), (&binary.right, right)] {
        if !matches!(found, ValueType::Scalar | ValueType::Vector) {
            let message = "binary expression must contain only scalar and instant vector types".to_owned();
            return fail(side.span(), message);
        }
    }
    let Some(matching) = &mut binary.matching else {
        return Ok(());
    };
    let op = go_quote(binary.op.text());
    if matching.on
        && let Some(label) = matching.labels.iter().find(|label| matching.include.contains(label))
    {
        let message = format!("label {} must not occur in ON and GROUP clause at once", go_quote(label));
        return fail(operator, message);
    }
    let fills = matching.fill_left.is_some() || matching.fill_right.is_some();
    if scalars != (false, false) {
        if !matching.labels.is_empty() {
            return fail(binary.span, "vector matching only allowed between instant vectors".into());
        }
        if fills {
            let message = "filling in missing series only allowed between instant vectors".to_owned();
            return fail(binary.span, message);
        }
        binary.matching = None;
        if binary.op.is_set() {
            return fail(binary.span, format!("set operator {op} not allowed in binary scalar expression"));
        }
        return Ok(());
    }
    if binary.op.is_set() {
        if matching.cardinality == Cardinality::OneToOne {
            matching.cardinality = Cardinality::ManyToMany;
        }
        if matching.cardinality != Cardinality::ManyToMany {
            return fail(binary.span, format!("no grouping allowed for {op} operation"));
        }
        if fills {
            return fail(binary.span, "filling in missing series not allowed for set operators".into());
        }
    }
    Ok(())
}

fn check_call(call: &mut Call) -> Parsed<()> {
    let function = call.function;
    let (name, got) = (go_quote(function.name), call.args.len());
    let required = match usize::try_from(function.variadic) {
        Ok(0) => {
            if got != function.args.len() {
                let message = format!("expected {} argument(s) in call to {name}, got {got}", function.args.len());
                return Err(Failure { span: call.span, message });
            }
            got
        }
        Ok(optional) => {
            let required = function.args.len() - 1;
            if got > required + optional {
                let message =
                    format!("expected at most {} argument(s) in call to {name}, got {got}", required + optional);
                return Err(Failure { span: call.span, message });
            }
            required
        }
        Err(_) => function.args.len() - 1,
    };
    if got < required {
        let message = format!("expected at least {required} argument(s) in call to {name}, got {got}");
        return Err(Failure { span: call.span, message });
    }
    let context = format!("call to function {name}");
    let is_info = function.name == "info";
    for (at, arg) in call.args.iter_mut().enumerate() {
        if is_info && at == 1 {
            check_info_labels(arg)?;
            continue;
        }
        expect(arg, function.args[at.min(function.args.len() - 1)], &context)?;
    }
    Ok(())
}

/// The second argument of `info()` looks like a selector but selects labels; it may match everything.
fn check_info_labels(arg: &Expr) -> Parsed<()> {
    let Expr::Vector(selector) = arg else {
        let message =
            format!("expected label selectors as the second argument to \"info\" function, got {}", arg_name(arg));
        return Err(Failure { span: arg.span(), message });
    };
    if selector.name.is_empty() {
        return Ok(());
    }
    Err(Failure::new(arg.span(), "expected label selectors only, got vector selector instead"))
}

fn arg_name(arg: &Expr) -> &'static str {
    type_name(arg.value_type())
}
