//! The clauses of an expression: what is joined by `and`, `or` and `unless` at its top, and the comparison in each.

use crate::promql::Expr;
use serde::Serialize;

/// Clauses that are told apart; what lies beyond stays in one piece.
const CLAUSES: usize = 16;

/// One clause.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Clause {
    /// `and`, `or` or `unless` before it; empty for the first.
    pub joined_by: &'static str,
    /// The whole clause.
    pub text: String,
    /// What is compared, or the whole clause.
    pub left: String,
    /// The comparison; empty when there is none.
    pub operator: &'static str,
    /// What it is compared with.
    pub right: Option<String>,
}

/// The clauses of an expression in order.
pub fn clauses(expr: &Expr) -> Vec<Clause> {
    let mut found = Vec::new();
    split(expr, "", &mut found);
    found
}

fn split(expr: &Expr, joined_by: &'static str, found: &mut Vec<Clause>) {
    match expr {
        Expr::Paren(inner, _) | Expr::Invariant(inner) => split(inner, joined_by, found),
        Expr::Binary(binary) if binary.op.is_set() && found.len() + 2 <= CLAUSES => {
            split(&binary.left, joined_by, found);
            split(&binary.right, binary.op.text(), found);
        }
        Expr::Binary(binary) if binary.op.is_comparison() && !binary.return_bool => found.push(Clause {
            joined_by,
            text: expr.to_string(),
            left: binary.left.to_string(),
            operator: binary.op.text(),
            right: Some(binary.right.to_string()),
        }),
        _ => {
            found.push(Clause { joined_by, text: expr.to_string(), left: expr.to_string(), operator: "", right: None })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[(&str, &str, &str, Option<&str>)]) {
        let found = clauses(&crate::promql::parse(text).unwrap());
        let found: Vec<_> =
            found.iter().map(|one| (one.joined_by, one.left.as_str(), one.operator, one.right.as_deref())).collect();
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn an_expression_is_split_at_its_top() {
        check("up == 0", &[("", "up", "==", Some("0"))]);
        check(
            "(sum(rate(a[1m])) / sum(rate(b[1m])) > 0.05) and on() c < 2 unless d",
            &[
                ("", "sum(rate(a[1m])) / sum(rate(b[1m]))", ">", Some("0.05")),
                ("and", "c", "<", Some("2")),
                ("unless", "d", "", None),
            ],
        );
        check("a > bool 1", &[("", "a > bool 1", "", None)]);
        check("absent(up)", &[("", "absent(up)", "", None)]);
        check(
            "a > b or (c > 1 or d > 2)",
            &[("", "a", ">", Some("b")), ("or", "c", ">", Some("1")), ("or", "d", ">", Some("2"))],
        );
    }
}
