//! Reads PromQL.

mod check;
mod durations;
mod error;

pub use error::ParseError;
pub(crate) use error::line_and_column;

use super::ast::{
    Aggregate, Aggregator, At, Binary, Call, Cardinality, Duration, Expr, Extension, Matching, Modifiers, Number, Op,
    Selector, Span, Subquery, Text,
};
use super::lexer::{LexError, tokens};
use super::number::{go_quote, parse_literal, unquote};
use super::token::{Kind, Token};
use super::{durations as duration_values, functions};
use crate::model::METRIC_NAME;
use crate::series::{MatchOp, Matcher};
use error::Failure;

/// How deep an expression may be nested, and how long a chain of operators may be.
pub const MAX_DEPTH: usize = 250;

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
        if self.depth >= self.max_depth {
            return Err(self.too_deep());
        }
        self.depth += 1;
        let parsed = parse(self);
        self.depth -= 1;
        parsed
    }

    fn too_deep(&self) -> Failure {
        let message = format!("expression is nested too deeply (the limit is {} levels)", self.max_depth);
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
                parser.next();
                let (return_bool, matching) = parser.binary_modifiers()?;
                let (right, right_depth) = parser.binary(precedence + u8::from(op != Op::Pow))?;
                let span = left.span().to(right.span());
                let binary = Binary { op, left, right, return_bool, matching: Some(matching), span };
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
            Kind::Identifier | Kind::Keyword | Kind::Aggregator => {
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
        let Some(function) = functions::find(&name) else {
            let message = format!("unknown function with name {}", go_quote(token.text));
            return Err(Failure { span: span_of(&token), message });
        };
        let (args, depth) = self.arguments()?;
        let span = Span::new(token.start, self.last_end());
        self.node(Expr::Call(Call { function, args, span }), depth + 1)
    }

    fn last_end(&self) -> usize {
        self.at.checked_sub(1).and_then(|at| self.tokens.get(at)).map_or(0, Token::end)
    }

    fn selector(&mut self) -> Parsed<Selector> {
        let token = self.peek();
        let mut name = String::new();
        let mut span = span_of(&token);
        let mut matchers = Vec::new();
        let is_name = match token.kind {
            Kind::Identifier | Kind::MetricIdentifier | Kind::Aggregator => true,
            Kind::Keyword => !["bool", "on", "ignoring", "group_left", "group_right"]
                .contains(&token.text.to_ascii_lowercase().as_str()),
            Kind::Op(Op::And | Op::Or | Op::Unless) => true,
            _ => false,
        };
        if is_name {
            self.next();
            name = token.text.into();
        }
        if self.peek().kind == Kind::LeftBrace {
            let open = self.next();
            if name.is_empty() {
                span.start = open.start;
            }
            matchers = self.matchers()?;
            span.end = self.last_end();
        } else if name.is_empty() {
            return self.unexpected("", "");
        }
        self.assemble(name, matchers, span)
    }

    fn assemble(&mut self, name: String, mut matchers: Vec<Matcher>, span: Span) -> Parsed<Selector> {
        if !name.is_empty() {
            let second = matchers.iter().find(|matcher| matcher.name == METRIC_NAME && matcher.op == MatchOp::Equal);
            if let Some(second) = second {
                let message =
                    format!("metric name must not be set twice: {} or {}", go_quote(&name), go_quote(&second.value));
                return Err(Failure { span, message });
            }
            let matcher = Matcher::new(METRIC_NAME, MatchOp::Equal, name.clone());
            matchers.push(matcher.map_err(|message| Failure { span, message })?);
        }
        Ok(Selector { name, matchers, modifiers: Modifiers::NONE, span })
    }

    fn matchers(&mut self) -> Parsed<Vec<Matcher>> {
        let mut matchers = Vec::new();
        if self.take(Kind::RightBrace).is_some() {
            return Ok(matchers);
        }
        loop {
            matchers.push(self.matcher(&matchers)?);
            if self.take(Kind::RightBrace).is_some() {
                return Ok(matchers);
            }
            self.expect(Kind::Comma, "label matching", "\",\" or \"}\"")?;
            if self.take(Kind::RightBrace).is_some() {
                return Ok(matchers);
            }
        }
    }

    fn matcher(&mut self, before: &[Matcher]) -> Parsed<Matcher> {
        let token = self.peek();
        let name = match token.kind {
            Kind::Identifier => {
                self.next();
                token.text.to_owned()
            }
            Kind::Text => {
                self.next();
                let text = text_of(&token)?;
                if matches!(self.peek().kind, Kind::Comma | Kind::RightBrace) {
                    return self.quoted_metric_name(&token, text, before);
                }
                text.value
            }
            _ => return self.unexpected("label matching", "identifier or \"}\""),
        };
        let op = match self.peek().kind {
            Kind::Assign => MatchOp::Equal,
            Kind::Op(Op::NotEqual) => MatchOp::NotEqual,
            Kind::EqualRegex => MatchOp::Regex,
            Kind::NotEqualRegex => MatchOp::NotRegex,
            _ => return self.unexpected("label matching", "label matching operator"),
        };
        self.next();
        let value = self.expect(Kind::Text, "label matching", "string")?;
        let text = text_of(&value)?;
        let span = Span::new(token.start, value.end());
        Matcher::new(name, op, text.value).map_err(|message| Failure { span, message })
    }

    /// `{"http.requests"}`: a metric name that needs quotes.
    fn quoted_metric_name(&mut self, token: &Token<'_>, text: Text, before: &[Matcher]) -> Parsed<Matcher> {
        let span = span_of(token);
        if let Some(first) = before.iter().find(|matcher| matcher.name == METRIC_NAME && matcher.op == MatchOp::Equal) {
            let message =
                format!("metric name must not be set twice: {} or {}", go_quote(&first.value), go_quote(&text.value));
            return Err(Failure { span, message });
        }
        Matcher::new(METRIC_NAME, MatchOp::Equal, text.value).map_err(|message| Failure { span, message })
    }

    fn postfix(&mut self, mut expr: Expr, mut depth: usize) -> Parsed<Node> {
        loop {
            let token = self.peek();
            match token.kind {
                Kind::LeftBracket => {
                    expr = self.range_or_subquery(expr)?;
                    depth += 1;
                    (expr, depth) = self.node(expr, depth)?;
                }
                Kind::At => self.at_modifier(&mut expr)?,
                Kind::Keyword if token.is("offset") => self.offset_modifier(&mut expr)?,
                Kind::Keyword if token.is("anchored") => self.extension(&mut expr, Extension::Anchored)?,
                Kind::Keyword if token.is("smoothed") => self.extension(&mut expr, Extension::Smoothed)?,
                _ => return Ok((expr, depth)),
            }
        }
    }

    fn range_or_subquery(&mut self, expr: Expr) -> Parsed<Expr> {
        let open = self.next();
        let range = self.duration_in_brackets("subquery or range selector", "number, duration, step(), or range()")?;
        if self.take(Kind::Colon).is_some() {
            let step = match self.peek().kind {
                Kind::RightBracket => None,
                _ => {
                    Some(self.duration_in_brackets("subquery selector", "number, duration, step(), range(), or \"]\"")?)
                }
            };
            let close = self.expect(Kind::RightBracket, "subquery selector", "\"]\"")?;
            let span = Span::new(expr.span().start, close.end());
            let modifiers = Modifiers::NONE;
            return Ok(Expr::Subquery(Box::new(Subquery { expr, range, step, modifiers, span })));
        }
        let close = self.expect(Kind::RightBracket, "subquery or range", "\":\" or \"]\"")?;
        let brackets = Span::new(open.start, close.end());
        let message = match &expr {
            Expr::Vector(selector) if selector.modifiers.offset.is_some() => "no offset modifiers allowed before range",
            Expr::Vector(selector) if selector.modifiers.at.is_some() => "no @ modifiers allowed before range",
            Expr::Vector(selector) if selector.modifiers.extension == Extension::Anchored => {
                "no anchored modifiers allowed before range"
            }
            Expr::Vector(selector) if selector.modifiers.extension == Extension::Smoothed => {
                "no smoothed modifiers allowed before range"
            }
            Expr::Vector(_) => "",
            _ => "ranges only allowed for vector selectors",
        };
        match expr {
            Expr::Vector(selector) if message.is_empty() => {
                let span = Span::new(selector.span.start, close.end());
                Ok(Expr::Matrix { selector, range, span })
            }
            _ => Err(Failure::new(brackets, message)),
        }
    }

    fn at_modifier(&mut self, expr: &mut Expr) -> Parsed<()> {
        self.next();
        let token = self.peek();
        let at = if self.peek_at(1).kind == Kind::LeftParen && (token.is("start") || token.is("end")) {
            self.next();
            self.next();
            self.expect(Kind::RightParen, "@", "timestamp")?;
            if token.is("start") { At::Start } else { At::End }
        } else {
            let negative = self.sign();
            let number = match self.peek().kind {
                Kind::Number | Kind::Duration => self.next(),
                _ => return self.unexpected("@", "timestamp"),
            };
            let value = literal_value(&number)?;
            let value = if negative { -value } else { value };
            let ms = (value * 1000.0).round();
            if value.is_nan() || ms.abs() >= i64::MAX as f64 {
                let message = format!("timestamp out of bounds for @ modifier: {value:.6}");
                return Err(Failure { span: expr.span(), message });
            }
            At::Time(ms as i64)
        };
        let end = self.last_end();
        let (modifiers, span) = self.modifiers_of(
            expr,
            "@ modifier must be preceded by an instant vector selector or range vector selector or a subquery",
        )?;
        if modifiers.at.is_some() {
            return Err(Failure::new(*span, "@ <timestamp> may not be set multiple times"));
        }
        modifiers.at = Some(at);
        span.end = end;
        Ok(())
    }

    fn offset_modifier(&mut self, expr: &mut Expr) -> Parsed<()> {
        self.next();
        let offset = self.offset_duration()?;
        let end = self.last_end();
        let (modifiers, span) = self.modifiers_of(
            expr,
            "offset modifier must be preceded by an instant vector selector or range vector selector or a subquery",
        )?;
        if modifiers.offset.is_some() {
            return Err(Failure::new(*span, "offset may not be set multiple times"));
        }
        modifiers.offset = Some(offset);
        span.end = end;
        Ok(())
    }

    fn extension(&mut self, expr: &mut Expr, extension: Extension) -> Parsed<()> {
        self.next();
        let end = self.last_end();
        let name = extension.name();
        let message = format!(
            "{name} modifier must be preceded by an instant vector selector or range vector selector or a subquery"
        );
        if matches!(expr, Expr::Subquery(_)) {
            return Err(Failure {
                span: expr.span(),
                message: format!("{name} modifier is not supported for subqueries"),
            });
        }
        let (modifiers, span) = self.modifiers_of(expr, &message)?;
        if modifiers.extension != Extension::None {
            return Err(Failure::new(*span, "anchored and smoothed modifiers cannot be used together"));
        }
        modifiers.extension = extension;
        span.end = end;
        Ok(())
    }

    fn modifiers_of<'e>(&self, expr: &'e mut Expr, otherwise: &str) -> Parsed<(&'e mut Modifiers, &'e mut Span)> {
        let span = expr.span();
        match expr {
            Expr::Vector(selector) => Ok((&mut selector.modifiers, &mut selector.span)),
            Expr::Matrix { selector, span, .. } => Ok((&mut selector.modifiers, span)),
            Expr::Subquery(subquery) => Ok((&mut subquery.modifiers, &mut subquery.span)),
            _ => Err(Failure::new(span, otherwise)),
        }
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
