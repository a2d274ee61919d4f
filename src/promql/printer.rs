//! Prometheus's canonical form of an expression.

use super::ast::{
    Aggregate, At, Binary, Cardinality, Duration, DurationExpr, Expr, Extension, Matching, Modifiers, Selector,
    Subquery,
};
use super::number::{format_short, go_quote, is_plain_label};
use super::token::Op;
use crate::model::{METRIC_NAME, format_duration_ms};
use crate::series::{MatchOp, Matcher};
use std::fmt::{self, Display, Formatter, Write};

impl Display for Expr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number { value, duration: true, .. } => {
                let ms = (value.0 * 1000.0).round() as i64;
                f.write_str(&format_duration_ms(ms))
            }
            Self::Number { value, .. } => f.write_str(&format_short(value.0)),
            Self::String(text, _) => match &text.bytes {
                Some(bytes) => f.write_str(&super::number::go_quote_bytes(bytes)),
                None => f.write_str(&go_quote(&text.value)),
            },
            Self::Vector(selector) => write!(f, "{}{}", Bare(selector), ModifierText(&selector.modifiers)),
            Self::Matrix { selector, range, .. } => {
                write!(f, "{}[{range}]{}", Bare(selector), ModifierText(&selector.modifiers))
            }
            Self::Subquery(subquery) => subquery.fmt(f),
            Self::Paren(expr, _) => write!(f, "({expr})"),
            Self::Unary { negative, expr, .. } => write!(f, "{}{expr}", if *negative { '-' } else { '+' }),
            Self::Binary(binary) => binary.fmt(f),
            Self::Aggregate(aggregate) => aggregate.fmt(f),
            Self::Call(call) => {
                write!(f, "{}(", call.function.name)?;
                for (at, arg) in call.args.iter().enumerate() {
                    write!(f, "{}{arg}", if at == 0 { "" } else { ", " })?;
                }
                f.write_char(')')
            }
            Self::Invariant(expr) => expr.fmt(f),
        }
    }
}

/// A selector without its modifiers.
struct Bare<'a>(&'a Selector);

impl Display for Bare<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Selector { name, matchers, .. } = self.0;
        let mut texts: Vec<String> = matchers
            .iter()
            .filter(|matcher| {
                name.is_empty() || matcher.name != METRIC_NAME || matcher.op != MatchOp::Equal || matcher.value != *name
            })
            .map(matcher_text)
            .collect();
        texts.sort_unstable();
        f.write_str(name)?;
        if name.is_empty() || !texts.is_empty() { write!(f, "{{{}}}", texts.join(",")) } else { Ok(()) }
    }
}

fn matcher_text(matcher: &Matcher) -> String {
    let op = match matcher.op {
        MatchOp::Equal => "=",
        MatchOp::NotEqual => "!=",
        MatchOp::Regex => "=~",
        MatchOp::NotRegex => "!~",
    };
    format!("{}{op}{}", label_text(&matcher.name), go_quote(&matcher.value))
}

fn label_text(name: &str) -> String {
    if is_plain_label(name) { name.into() } else { go_quote(name) }
}

struct ModifierText<'a>(&'a Modifiers);

impl Display for ModifierText<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Modifiers { offset, at, extension } = self.0;
        if *extension != Extension::None {
            write!(f, " {}", extension.name())?;
        }
        match at {
            None => {}
            Some(At::Time(ms)) => {
                let sign = if *ms < 0 { "-" } else { "" };
                let ms = ms.unsigned_abs();
                write!(f, " @ {sign}{}.{:03}", ms / 1000, ms % 1000)?;
            }
            Some(At::Start) => f.write_str(" @ start()")?,
            Some(At::End) => f.write_str(" @ end()")?,
        }
        match offset {
            None | Some(Duration::Fixed(0)) => Ok(()),
            Some(duration) => write!(f, " offset {duration}"),
        }
    }
}

impl Display for Duration {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(ms) => f.write_str(&format_duration_ms(*ms)),
            Self::Computed(expr) => expr.fmt(f),
        }
    }
}

impl Display for DurationExpr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            // A sign would be read as an operator.
            Self::Seconds(value) => f.write_str(format_short(value.0).trim_start_matches('+')),
            Self::Literal(ms) => f.write_str(&format_duration_ms(*ms)),
            Self::Step => f.write_str("step()"),
            Self::Range => f.write_str("range()"),
            Self::Unary(op, expr) => write!(f, "{}{expr}", op.text()),
            Self::Binary(op, left, right) => write!(f, "{left} {} {right}", op.text()),
            Self::MinOf(a, b) => write!(f, "min_of({a}, {b})"),
            Self::MaxOf(a, b) => write!(f, "max_of({a}, {b})"),
            Self::Paren(expr) => write!(f, "({expr})"),
        }
    }
}

/// A subquery's range, step and modifiers.
pub(super) fn subquery_suffix(subquery: &Subquery) -> String {
    let step = subquery.step.as_ref().map(ToString::to_string).unwrap_or_default();
    format!("[{}:{step}]{}", subquery.range, ModifierText(&subquery.modifiers))
}

impl Display for Subquery {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.expr, subquery_suffix(self))
    }
}

fn label_list(labels: &[String]) -> String {
    labels.iter().map(|label| label_text(label)).collect::<Vec<_>>().join(", ")
}

/// `Inf ^ x`: with its sign it would be read as `+(Inf ^ x)`, because a sign binds less than `^`.
pub(super) fn raises_infinity(binary: &Binary) -> bool {
    matches!(binary.left, Expr::Number { value, .. } if value.0 == f64::INFINITY) && binary.op == Op::Pow
}

impl Display for Binary {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let flag = if self.return_bool { " bool" } else { "" };
        if raises_infinity(self) {
            f.write_str("Inf")?;
        } else {
            self.left.fmt(f)?;
        }
        write!(f, " {}{flag}", self.op.text())?;
        if let Some(matching) = &self.matching {
            matching.fmt(f)?;
        }
        write!(f, " {}", self.right)
    }
}

impl Display for Matching {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let grouped = matches!(self.cardinality, Cardinality::ManyToOne | Cardinality::OneToMany);
        if !self.labels.is_empty() || self.on || grouped {
            let word = if self.on { "on" } else { "ignoring" };
            write!(f, " {word} ({})", label_list(&self.labels))?;
        }
        if grouped {
            let side = if self.cardinality == Cardinality::ManyToOne { "left" } else { "right" };
            write!(f, " group_{side} ({})", label_list(&self.include))?;
        }
        match (self.fill_left, self.fill_right) {
            (Some(left), Some(right)) if left == right => write!(f, " fill ({})", format_short(left.0)),
            (left, right) => {
                if let Some(left) = left {
                    write!(f, " fill_left ({})", format_short(left.0))?;
                }
                if let Some(right) = right {
                    write!(f, " fill_right ({})", format_short(right.0))?;
                }
                Ok(())
            }
        }
    }
}

/// An aggregation up to its parenthesis.
pub(super) fn aggregate_head(aggregate: &Aggregate) -> String {
    let name = aggregate.op.name();
    if aggregate.without {
        format!("{name} without ({}) ", label_list(&aggregate.grouping))
    } else if aggregate.grouping.is_empty() {
        name.to_owned()
    } else {
        format!("{name} by ({}) ", label_list(&aggregate.grouping))
    }
}

impl Display for Aggregate {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&aggregate_head(self))?;
        match &self.parameter {
            Some(parameter) => write!(f, "({parameter}, {})", self.expr),
            None => write!(f, "({})", self.expr),
        }
    }
}
