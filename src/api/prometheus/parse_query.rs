//! `parse_query`: an expression as a tree in JSON, as Prometheus's own page and Grafana's query builder read it
//! (web/api/v1/translate_ast.go).

use super::{Params, PromError, success};
use crate::promql::ast::{
    At, Binary, Cardinality, Duration, Expr, Extension, Matching, Modifiers, Number, Selector, ValueType,
};
use crate::promql::{Options, Query};
use crate::series::{MatchOp, Matcher};
use axum::response::Response;
use serde_json::{Value, json};

/// `/api/v1/parse_query`.
///
/// # Errors
/// `bad_data` when it cannot be read.
pub async fn parse_query(params: Params) -> Result<Response, PromError> {
    let query = Query::parse_with(params.get("query").unwrap_or(""), &Options::default())?;
    success(&tree(query.expr()))
}

fn tree(expr: &Expr) -> Value {
    match expr {
        Expr::Number { value, .. } => json!({"type": "numberLiteral", "val": float(*value)}),
        Expr::String(text, _) => json!({"type": "stringLiteral", "val": text.value}),
        Expr::Paren(inner, _) => json!({"type": "parenExpr", "expr": tree(inner)}),
        Expr::Unary { negative, expr, .. } => {
            json!({"type": "unaryExpr", "op": if *negative { "-" } else { "+" }, "expr": tree(expr)})
        }
        Expr::Vector(selector) => selection("vectorSelector", selector, None),
        Expr::Matrix { selector, range, .. } => selection("matrixSelector", selector, Some(range)),
        Expr::Subquery(subquery) => json!({
            "type": "subquery",
            "expr": tree(&subquery.expr),
            "range": fixed_ms(&subquery.range),
            "offset": offset_ms(&subquery.modifiers),
            "step": subquery.step.as_ref().map_or(0, fixed_ms),
            "timestamp": timestamp(&subquery.modifiers),
            "startOrEnd": start_or_end(&subquery.modifiers),
            "alignEvalTime": false,
        }),
        Expr::Binary(binary) => operation(binary),
        Expr::Aggregate(aggregate) => json!({
            "type": "aggregation",
            "op": aggregate.op.name(),
            "expr": tree(&aggregate.expr),
            "param": aggregate.parameter.as_ref().map(tree),
            "grouping": aggregate.grouping,
            "without": aggregate.without,
        }),
        Expr::Call(call) => {
            let types: Vec<&str> = call.function.args.iter().map(|kind| type_name(*kind)).collect();
            json!({
                "type": "call",
                "func": {
                    "name": call.function.name,
                    "argTypes": types,
                    "variadic": call.function.variadic,
                    "returnType": type_name(call.function.returns),
                },
                "args": call.args.iter().map(tree).collect::<Vec<_>>(),
            })
        }
        // Only prepared queries have it; it says nothing of its own.
        Expr::Invariant(inner) => tree(inner),
    }
}

fn operation(binary: &Binary) -> Value {
    json!({
        "type": "binaryExpr",
        "op": binary.op.text(),
        "lhs": tree(&binary.left),
        "rhs": tree(&binary.right),
        "matching": binary.matching.as_ref().map(matching),
        "bool": binary.return_bool,
    })
}

fn matching(matching: &Matching) -> Value {
    let card = match matching.cardinality {
        Cardinality::OneToOne => "one-to-one",
        Cardinality::ManyToOne => "many-to-one",
        Cardinality::OneToMany => "one-to-many",
        Cardinality::ManyToMany => "many-to-many",
    };
    json!({
        "card": card,
        "labels": matching.labels,
        "on": matching.on,
        "include": matching.include,
        "fillValues": {
            "lhs": matching.fill_left.map(|fill| fill.0),
            "rhs": matching.fill_right.map(|fill| fill.0),
        },
    })
}

fn selection(kind: &str, selector: &Selector, range: Option<&Duration>) -> Value {
    let modifiers = &selector.modifiers;
    let mut value = json!({
        "type": kind,
        "name": selector.name,
        "offset": offset_ms(modifiers),
        "matchers": selector.matchers.iter().map(matcher).collect::<Vec<_>>(),
        "timestamp": timestamp(modifiers),
        "startOrEnd": start_or_end(modifiers),
        "anchored": modifiers.extension == Extension::Anchored,
        "smoothed": modifiers.extension == Extension::Smoothed,
    });
    if let Some(range) = range {
        value["range"] = fixed_ms(range).into();
    }
    value
}

fn matcher(matcher: &Matcher) -> Value {
    let kind = match matcher.op {
        MatchOp::Equal => "=",
        MatchOp::NotEqual => "!=",
        MatchOp::Regex => "=~",
        MatchOp::NotRegex => "!~",
    };
    json!({"name": matcher.name, "value": matcher.value, "type": kind})
}

/// Milliseconds; an expression of durations has no value before the query's times are known, and Prometheus says 0.
fn fixed_ms(duration: &Duration) -> i64 {
    match duration {
        Duration::Fixed(ms) => *ms,
        Duration::Computed(_) => 0,
    }
}

fn offset_ms(modifiers: &Modifiers) -> i64 {
    modifiers.offset.as_ref().map_or(0, fixed_ms)
}

fn timestamp(modifiers: &Modifiers) -> Value {
    match modifiers.at {
        Some(At::Time(ms)) => ms.into(),
        _ => Value::Null,
    }
}

fn start_or_end(modifiers: &Modifiers) -> Value {
    match modifiers.at {
        Some(At::Start) => "start".into(),
        Some(At::End) => "end".into(),
        _ => Value::Null,
    }
}

/// `parser.ValueType`.
const fn type_name(kind: ValueType) -> &'static str {
    match kind {
        ValueType::Scalar => "scalar",
        ValueType::String => "string",
        ValueType::Vector => "vector",
        ValueType::Matrix => "matrix",
    }
}

/// As Go's `FormatFloat(v, 'f', -1, 64)` prints.
fn float(number: Number) -> String {
    match number.0 {
        value if value.is_nan() => "NaN".into(),
        f64::INFINITY => "+Inf".into(),
        f64::NEG_INFINITY => "-Inf".into(),
        value => value.to_string(),
    }
}
