//! Reads PromQL.

mod check;
mod durations;
mod error;
mod modifiers;
mod selector;

pub use error::ParseError;
pub(crate) use error::line_and_column;

use super::ast::{
    Aggregate, Aggregator, Binary, Call, Cardinality, Duration, Expr, Matching, Number, Op, Selector, Span, Text,
};
use super::lexer::{LexError, tokens};
use super::number::{go_quote, parse_literal, unquote};
use super::token::{Kind, Token};
use super::{durations as duration_values, functions};

use error::Failure;

/// How deep an expression may be nested, and how long a chain of operators may be.
pub const MAX_DEPTH: usize = 250;

/// How many parentheses, calls or signs may be open at once: reading one takes more of the stack than evaluating it.
const MAX_NESTING: usize = 100;

/// Reads an expression.
///
/// # Errors
/// The first thing that is wrong, with its place; the message is Prometheus's.
pub fn parse(text: &str) -> Result<Expr, ParseError> {
    parse_with_depth(text, MAX_DEPTH)
}

pub(crate) fn parse_with_depth(text: &str, max_depth: usize) -> Result<Expr, ParseError> {
    let parsed = Parser::new(text, max_depth).and_then_finish(Parser::expression).and_then(|(mut expr, _)| {
        check::check(&mut expr)?;
        Ok(expr)
    });
    parsed.map_err(|failure| ParseError::new(text, failure))
}

/// Reads a vector selector without modifiers, as `match[]` of the HTTP API takes it.
///
/// # Errors
/// As [`parse`].
pub fn parse_metric_selector(text: &str) -> Result<Selector, ParseError> {
    let parsed = Parser::new(text, MAX_DEPTH).and_then_finish(Parser::selector);
    parsed.map_err(|failure| ParseError::new(text, failure))
}

type Parsed<T> = Result<T, Failure>;

/// An expression and how deep it is.
type Node = (Expr, usize);

struct Parser<'a> {
    tokens: Vec<Token<'a>>,
    at: usize,
    lex_error: Option<LexError>,
    depth: usize,
    max_depth: usize,
}

impl<'a> Parser<'a> {
    fn new(text: &'a str, max_depth: usize) -> Self {
        let (tokens, lex_error) = tokens(text);
        Self { tokens, at: 0, lex_error, depth: 0, max_depth }
    }

    fn and_then_finish<T>(mut self, parse: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        if self.peek().kind == Kind::Eof {
            return Err(Failure::new(Span::default(), "no expression found in input"));
        }
        let parsed = parse(&mut self)?;
        if self.peek().kind == Kind::Eof { Ok(parsed) } else { self.unexpected("", "") }
    }

    fn peek(&self) -> Token<'a> {
        self.peek_at(0)
    }

    fn peek_at(&self, ahead: usize) -> Token<'a> {
        let last = Token { kind: Kind::Eof, text: "", start: 0 };
        self.tokens.get(self.at + ahead).or(self.tokens.last()).copied().unwrap_or(last)
    }

    fn next(&mut self) -> Token<'a> {
        let token = self.peek();
        if !matches!(token.kind, Kind::Eof | Kind::Error) {
            self.at += 1;
        }
        token
    }

    fn take(&mut self, kind: Kind) -> Option<Token<'a>> {
        (self.peek().kind == kind).then(|| self.next())
    }

    fn take_keyword(&mut self, keyword: &str) -> bool {
        let found = self.peek().is(keyword);
        if found {
            self.next();
        }
        found
    }

    fn expect(&mut self, kind: Kind, context: &str, expected: &str) -> Parsed<Token<'a>> {
        match self.take(kind) {
            Some(token) => Ok(token),
            None => self.unexpected(context, expected),
        }
    }

    fn unexpected<T>(&mut self, context: &str, expected: &str) -> Parsed<T> {
        let token = self.peek();
        if token.kind == Kind::Error
            && let Some(error) = self.lex_error.take()
        {
            return Err(Failure { span: error.span, message: error.message });
        }
        let mut message = format!("unexpected {}", token.describe());
        if !context.is_empty() {
            message.push_str(&format!(" in {context}"));
        }
        if !expected.is_empty() {
            message.push_str(&format!(", expected {expected}"));
        }
        Err(Failure { span: span_of(&token), message })
    }

    fn deeper<T>(&mut self, parse: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        if self.depth >= self.max_depth.min(MAX_NESTING) {
            return Err(self.too_deep());
        }
        self.depth += 1;
        let parsed = parse(self);
        self.depth -= 1;
        parsed
    }

    fn too_deep(&self) -> Failure {
        let limit = if self.depth >= MAX_NESTING { MAX_NESTING.min(self.max_depth) } else { self.max_depth };
        let message = format!("expression is nested too deeply (the limit is {limit} levels)");
        Failure { span: span_of(&self.peek()), message }
    }

    fn node(&self, expr: Expr, depth: usize) -> Parsed<Node> {
        if depth > self.max_depth { Err(self.too_deep()) } else { Ok((expr, depth)) }
    }

    fn expression(&mut self) -> Parsed<Node> {
        self.binary(0)
    }

    /// Operators that bind at least as strongly as `weakest`.
    fn binary(&mut self, weakest: u8) -> Parsed<Node> {
        self.deeper(|parser| {
            let (mut left, mut depth) = parser.unary()?;
            while let Kind::Op(op) = parser.peek().kind {
                let precedence = op.precedence();
                if precedence < weakest {
                    break;
                }
                let op_span = span_of(&parser.next());
                let (return_bool, matching) = parser.binary_modifiers()?;
                let (right, right_depth) = parser.binary(precedence + u8::from(op != Op::Pow))?;
                let span = left.span().to(right.span());
                let binary = Binary { op, left, right, return_bool, matching: Some(matching), op_span, span };
                (left, depth) = parser.node(Expr::Binary(Box::new(binary)), depth.max(right_depth) + 1)?;
            }
            Ok((left, depth))
        })
    }

    fn binary_modifiers(&mut self) -> Parsed<(bool, Matching)> {
        let mut matching = Matching {
            cardinality: Cardinality::OneToOne,
            labels: Vec::new(),
            on: false,
            include: Vec::new(),
            fill_left: None,
            fill_right: None,
        };
        let return_bool = self.take_keyword("bool");
        let on = self.peek().is("on");
        if on || self.peek().is("ignoring") {
            self.next();
            matching.on = on;
            matching.labels = self.label_list()?;
            let left = self.peek().is("group_left");
            if left || self.peek().is("group_right") {
                self.next();
                matching.cardinality = if left { Cardinality::ManyToOne } else { Cardinality::OneToMany };
                if self.peek().kind == Kind::LeftParen {
                    matching.include = self.label_list()?;
                }
            }
        }
        while self.peek_at(1).kind == Kind::LeftParen {
            let token = self.peek();
            let (left, right) = match () {
                () if token.is("fill") => (true, true),
                () if token.is("fill_left") => (true, false),
                () if token.is("fill_right") => (false, true),
                () => break,
            };
            if (left && matching.fill_left.is_some()) || (right && matching.fill_right.is_some()) {
                return self.unexpected("", "");
            }
            self.next();
            let value = Some(Number(self.fill_value()?));
            if left {
                matching.fill_left = value;
            }
            if right {
                matching.fill_right = value;
            }
        }
        Ok((return_bool, matching))
    }

    fn fill_value(&mut self) -> Parsed<f64> {
        self.next();
        let negative = self.sign();
        let token = self.peek();
        let value = match token.kind {
            Kind::Number | Kind::Duration => {
                self.next();
                literal_value(&token)?
            }
            _ => return self.unexpected("fill modifier", "number"),
        };
        self.expect(Kind::RightParen, "fill modifier", "\")\"")?;
        Ok(if negative { -value } else { value })
    }

    /// Takes a sign; whether it is a minus.
    fn sign(&mut self) -> bool {
        if self.take(Kind::Op(Op::Sub)).is_some() {
            return true;
        }
        self.take(Kind::Op(Op::Add));
        false
    }

    fn label_list(&mut self) -> Parsed<Vec<String>> {
        self.expect(Kind::LeftParen, "grouping opts", "\"(\"")?;
        let mut labels = Vec::new();
        if self.take(Kind::RightParen).is_some() {
            return Ok(labels);
        }
        loop {
            labels.push(self.label_name()?);
            if self.take(Kind::RightParen).is_some() {
                return Ok(labels);
            }
            self.expect(Kind::Comma, "grouping opts", "\",\" or \")\"")?;
            if self.take(Kind::RightParen).is_some() {
                return Ok(labels);
            }
        }
    }

    fn label_name(&mut self) -> Parsed<String> {
        let token = self.peek();
        match token.kind {
            Kind::Text => {
                self.next();
                let text = text_of(&token)?;
                if text.bytes.is_some() || text.value.is_empty() {
                    return Err(Failure {
                        span: span_of(&token),
                        message: format!("invalid label name for grouping: {}", go_quote(&text.value)),
                    });
                }
                Ok(text.value)
            }
            Kind::Identifier | Kind::MetricIdentifier | Kind::Keyword | Kind::Aggregator => {
                self.next();
                Ok(token.text.into())
            }
            Kind::Op(_) | Kind::Number if token.text.starts_with(|c: char| c.is_ascii_alphabetic()) => {
                self.next();
                Ok(token.text.into())
            }
            _ => self.unexpected("grouping opts", "label"),
        }
    }

    fn unary(&mut self) -> Parsed<Node> {
        let token = self.peek();
        let (Kind::Op(Op::Sub) | Kind::Op(Op::Add)) = token.kind else {
            let (expr, depth) = self.primary()?;
            return self.postfix(expr, depth);
        };
        self.next();
        let negative = token.kind == Kind::Op(Op::Sub);
        let (operand, depth) = self.binary(Op::Pow.precedence())?;
        let span = Span::new(token.start, operand.span().end);
        match operand {
            Expr::Number { value, duration, .. } => {
                Ok((Expr::Number { value: if negative { Number(-value.0) } else { value }, duration, span }, depth))
            }
            operand => self.node(Expr::Unary { negative, expr: Box::new(operand), span }, depth + 1),
        }
    }

    fn primary(&mut self) -> Parsed<Node> {
        let token = self.peek();
        let followed_by_paren = self.peek_at(1).kind == Kind::LeftParen;
        match token.kind {
            Kind::Number | Kind::Duration => {
                self.next();
                let value = Number(literal_value(&token)?);
                Ok((Expr::Number { value, duration: token.kind == Kind::Duration, span: span_of(&token) }, 1))
            }
            Kind::Text => {
                self.next();
                Ok((Expr::String(text_of(&token)?, span_of(&token)), 1))
            }
            Kind::LeftParen => {
                self.next();
                let (inner, depth) = self.expression()?;
                let close = match self.take(Kind::RightParen) {
                    Some(close) => close,
                    None => return self.unexpected("", ""),
                };
                self.node(Expr::Paren(Box::new(inner), Span::new(token.start, close.end())), depth + 1)
            }
            Kind::Aggregator => {
                let next = self.peek_at(1);
                if followed_by_paren || next.is("by") || next.is("without") {
                    self.aggregate()
                } else {
                    Ok((Expr::Vector(self.selector()?), 1))
                }
            }
            Kind::Identifier if followed_by_paren => self.call(),
            Kind::Keyword if followed_by_paren && functions::find(&token.text.to_ascii_lowercase()).is_some() => {
                self.call()
            }
            _ => Ok((Expr::Vector(self.selector()?), 1)),
        }
    }

    fn aggregate(&mut self) -> Parsed<Node> {
        let token = self.next();
        let Some(op) = Aggregator::from_name(&token.text.to_ascii_lowercase()) else {
            return self.unexpected("aggregation", "");
        };
        let mut modifier = self.grouping()?;
        if self.peek().kind != Kind::LeftParen {
            return self.unexpected("aggregation", "");
        }
        let (mut args, depth) = self.arguments()?;
        if modifier.is_none() {
            modifier = self.grouping()?;
        }
        let (grouping, without) = modifier.unwrap_or_default();
        let span = Span::new(token.start, self.last_end());
        let wanted = 1 + usize::from(op.has_parameter());
        if args.is_empty() {
            return Err(Failure::new(span, "no arguments for aggregate expression provided"));
        }
        if args.len() != wanted {
            let message = format!(
                "wrong number of arguments for aggregate expression provided, expected {wanted}, got {}",
                args.len()
            );
            return Err(Failure { span, message });
        }
        let expr = args.remove(wanted - 1);
        let parameter = args.pop();
        let aggregate = Aggregate { op, expr, parameter, grouping, without, span };
        self.node(Expr::Aggregate(Box::new(aggregate)), depth + 1)
    }

    fn grouping(&mut self) -> Parsed<Option<(Vec<String>, bool)>> {
        let without = self.peek().is("without");
        if !without && !self.peek().is("by") {
            return Ok(None);
        }
        self.next();
        Ok(Some((self.label_list()?, without)))
    }

    /// The arguments with their parentheses, and how deep the deepest is.
    fn arguments(&mut self) -> Parsed<(Vec<Expr>, usize)> {
        self.next();
        let (mut args, mut depth) = (Vec::new(), 0);
        if self.take(Kind::RightParen).is_some() {
            return Ok((args, depth));
        }
        loop {
            let (arg, arg_depth) = self.expression()?;
            args.push(arg);
            depth = depth.max(arg_depth);
            if self.take(Kind::RightParen).is_some() {
                return Ok((args, depth));
            }
            let Some(comma) = self.take(Kind::Comma) else {
                return self.unexpected("", "");
            };
            if self.peek().kind == Kind::RightParen {
                return Err(Failure::new(span_of(&comma), "trailing commas not allowed in function call args"));
            }
        }
    }

    fn call(&mut self) -> Parsed<Node> {
        let token = self.next();
        let name = if token.kind == Kind::Keyword { token.text.to_ascii_lowercase() } else { token.text.into() };
        let (args, depth) = self.arguments()?;
        let Some(function) = functions::find(&name) else {
            let message = format!("unknown function with name {}", go_quote(token.text));
            return Err(Failure { span: span_of(&token), message });
        };
        let span = Span::new(token.start, self.last_end());
        self.node(Expr::Call(Call { function, args, span }), depth + 1)
    }

    fn last_end(&self) -> usize {
        self.at.checked_sub(1).and_then(|at| self.tokens.get(at)).map_or(0, Token::end)
    }
}

fn span_of(token: &Token<'_>) -> Span {
    Span::new(token.start, token.end())
}

/// The value of a number, or the seconds of a duration.
fn literal_value(token: &Token<'_>) -> Parsed<f64> {
    if token.kind == Kind::Duration {
        return duration_ms(token).map(|ms| ms as f64 / 1000.0);
    }
    parse_literal(token.text).ok_or_else(|| Failure {
        span: span_of(token),
        message: format!("error parsing number: strconv.ParseFloat: parsing {}: invalid syntax", go_quote(token.text)),
    })
}

fn duration_ms(token: &Token<'_>) -> Parsed<i64> {
    crate::model::parse_duration_ms(token.text).map_err(|message| Failure { span: span_of(token), message })
}

fn text_of(token: &Token<'_>) -> Parsed<Text> {
    let bytes = unquote(token.text).map_err(|message| Failure {
        span: span_of(token),
        message: format!("error unquoting string {}: {message}", go_quote(token.text)),
    })?;
    Ok(match String::from_utf8(bytes) {
        Ok(value) => Text { value, bytes: None },
        Err(error) => {
            let bytes = error.into_bytes();
            Text { value: String::from_utf8_lossy(&bytes).into_owned(), bytes: Some(bytes) }
        }
    })
}

/// A range, offset or step of that many seconds.
fn seconds_duration(seconds: f64, span: Span) -> Parsed<Duration> {
    duration_values::seconds_to_ms(seconds).map(Duration::Fixed).map_err(|message| Failure { span, message })
}
