//! An expression on several lines, as Prometheus's `/api/v1/format_query` and `promtool promql format` print it.

use super::ast::Expr;
use super::printer::{aggregate_head, raises_infinity, subquery_suffix};
use std::fmt::Write;

/// Parts that are longer than this are split.
const MAX_LINE_BYTES: usize = 100;

impl Expr {
    /// The canonical form, long parts on lines of their own.
    pub fn pretty(&self) -> String {
        let mut out = String::new();
        self.write_pretty(0, &mut out);
        out
    }

    fn write_pretty(&self, level: usize, out: &mut String) {
        let whole = self.to_string();
        let short = whole.len() <= MAX_LINE_BYTES;
        match self {
            Self::Subquery(_) if short => out.push_str(&whole),
            Self::Subquery(subquery) => {
                subquery.expr.write_pretty(level, out);
                out.push_str(&subquery_suffix(subquery));
            }
            Self::Unary { negative, expr, .. } => {
                let mut child = String::new();
                expr.write_pretty(level, &mut child);
                indent(level, out);
                out.push(if *negative { '-' } else { '+' });
                out.push_str(child.trim());
            }
            Self::Invariant(inner) => inner.write_pretty(level, out),
            Self::Binary(binary) if !short => {
                if raises_infinity(binary) {
                    indent(level + 1, out);
                    out.push_str("Inf");
                } else {
                    binary.left.write_pretty(level + 1, out);
                }
                out.push('\n');
                indent(level, out);
                out.push_str(binary.op.text());
                if binary.return_bool {
                    out.push_str(" bool");
                }
                if let Some(matching) = &binary.matching {
                    // Writing to a text cannot fail.
                    let _ = write!(out, "{matching}");
                }
                out.push('\n');
                binary.right.write_pretty(level + 1, out);
            }
            Self::Aggregate(aggregate) if !short => {
                let arguments: Vec<&Self> = aggregate.parameter.iter().chain([&aggregate.expr]).collect();
                write_arguments(&aggregate_head(aggregate), &arguments, level, out);
            }
            Self::Call(call) if !short => {
                write_arguments(call.function.name, &call.args.iter().collect::<Vec<_>>(), level, out);
            }
            Self::Paren(inner, _) if !short => write_arguments("", &[inner], level, out),
            _ => {
                indent(level, out);
                out.push_str(&whole);
            }
        }
    }
}

fn write_arguments(head: &str, arguments: &[&Expr], level: usize, out: &mut String) {
    indent(level, out);
    out.push_str(head);
    out.push_str("(\n");
    for (at, argument) in arguments.iter().enumerate() {
        if at > 0 {
            out.push_str(",\n");
        }
        argument.write_pretty(level + 1, out);
    }
    out.push('\n');
    indent(level, out);
    out.push(')');
}

fn indent(level: usize, out: &mut String) {
    out.push_str(&"  ".repeat(level));
}
