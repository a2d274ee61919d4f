//! Durations in brackets and behind `offset`.

use super::error::Failure;
use super::{Parsed, Parser, duration_ms, literal_value, seconds_duration};
use crate::promql::ast::{Duration, DurationExpr, Number, Op, Span};
use crate::promql::token::Kind;

impl Parser<'_> {
    /// A range or a step: a positive duration.
    pub(super) fn duration_in_brackets(&mut self, context: &str, expected: &str) -> Parsed<Duration> {
        let start = self.peek();
        let expr = self.duration_sum(0, context, expected)?;
        let span = Span::new(start.start, self.last_end());
        let duration = simplify(expr, span)?;
        match duration {
            Duration::Fixed(ms) if ms <= 0 => Err(Failure::new(span, "duration must be greater than 0")),
            duration => Ok(duration),
        }
    }

    /// What `offset` takes: one signed literal, function or parenthesised expression.
    pub(super) fn offset_duration(&mut self) -> Parsed<Duration> {
        let (context, expected) = ("offset", "number, duration, step(), or range()");
        let start = self.peek();
        let sign = match start.kind {
            Kind::Op(op @ (Op::Add | Op::Sub)) => {
                self.next();
                Some(op)
            }
            _ => None,
        };
        let mut expr = self.duration_primary(context, expected)?;
        if let Some(op) = sign {
            expr = DurationExpr::Unary(op, Box::new(expr));
        }
        simplify(expr, Span::new(start.start, self.last_end()))
    }

    fn duration_sum(&mut self, weakest: u8, context: &str, expected: &str) -> Parsed<DurationExpr> {
        self.deeper(|parser| {
            let mut left = parser.duration_unary(context, expected)?;
            let mut length = 0;
            while let Kind::Op(op @ (Op::Add | Op::Sub | Op::Mul | Op::Div | Op::Mod | Op::Pow)) = parser.peek().kind {
                if op.precedence() < weakest {
                    break;
                }
                parser.next();
                length += 1;
                if length + parser.depth > parser.max_depth {
                    return Err(parser.too_deep());
                }
                let right = parser.duration_sum(op.precedence() + u8::from(op != Op::Pow), context, expected)?;
                left = DurationExpr::Binary(op, Box::new(left), Box::new(right));
            }
            Ok(left)
        })
    }

    fn duration_unary(&mut self, context: &str, expected: &str) -> Parsed<DurationExpr> {
        let Kind::Op(op @ (Op::Add | Op::Sub)) = self.peek().kind else {
            return self.duration_primary(context, expected);
        };
        self.next();
        let operand = self.duration_sum(Op::Pow.precedence(), context, expected)?;
        Ok(DurationExpr::Unary(op, Box::new(operand)))
    }

    fn duration_primary(&mut self, context: &str, expected: &str) -> Parsed<DurationExpr> {
        let token = self.peek();
        match token.kind {
            Kind::Number => {
                self.next();
                Ok(DurationExpr::Seconds(Number(literal_value(&token)?)))
            }
            Kind::Duration => {
                self.next();
                Ok(DurationExpr::Literal(duration_ms(&token)?))
            }
            Kind::LeftParen => {
                self.next();
                let inner = self.duration_sum(0, context, expected)?;
                self.expect(Kind::RightParen, context, "\")\"")?;
                Ok(DurationExpr::Paren(Box::new(inner)))
            }
            Kind::Keyword if token.is("step") || token.is("range") => {
                self.next();
                self.expect(Kind::LeftParen, context, "\"(\"")?;
                self.expect(Kind::RightParen, context, "\")\"")?;
                Ok(if token.is("step") { DurationExpr::Step } else { DurationExpr::Range })
            }
            Kind::Identifier if ["min_of", "max_of"].contains(&token.text.to_ascii_lowercase().as_str()) => {
                self.next();
                self.expect(Kind::LeftParen, context, "\"(\"")?;
                let first = Box::new(self.duration_sum(0, context, expected)?);
                self.expect(Kind::Comma, context, "\",\"")?;
                let second = Box::new(self.duration_sum(0, context, expected)?);
                self.expect(Kind::RightParen, context, "\")\"")?;
                Ok(match token.text.as_bytes()[1] | 0x20 {
                    b'i' => DurationExpr::MinOf(first, second),
                    _ => DurationExpr::MaxOf(first, second),
                })
            }
            _ => self.unexpected(context, expected),
        }
    }
}

/// A plain literal, signed or not, is not an expression.
fn simplify(expr: DurationExpr, span: Span) -> Parsed<Duration> {
    match expr {
        DurationExpr::Literal(ms) => Ok(Duration::Fixed(ms)),
        DurationExpr::Seconds(seconds) => seconds_duration(seconds.0, span),
        DurationExpr::Unary(op, inner) => match *inner {
            DurationExpr::Literal(ms) => Ok(Duration::Fixed(if op == Op::Sub { -ms } else { ms })),
            DurationExpr::Seconds(seconds) => {
                seconds_duration(if op == Op::Sub { -seconds.0 } else { seconds.0 }, span)
            }
            inner => Ok(Duration::Computed(DurationExpr::Unary(op, Box::new(inner)))),
        },
        expr => Ok(Duration::Computed(expr)),
    }
}
