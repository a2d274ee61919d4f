//! Selectors: a name, matchers in braces, or both.

use super::error::Failure;
use super::{Parsed, Parser, span_of, text_of};
use crate::model::METRIC_NAME;
use crate::promql::ast::{Modifiers, Op, Selector, Span, Text};
use crate::promql::number::go_quote;
use crate::promql::token::{Kind, Token};
use crate::series::{MatchOp, Matcher};

impl Parser<'_> {
    pub(super) fn selector(&mut self) -> Parsed<Selector> {
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
        Matcher::new(name, op, text.value.clone())
            .map_err(|error| Failure { span, message: regex_message(&text.value, &error) })
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
}

/// What is wrong with a regular expression, on one line and in Go's words where there are some.
fn regex_message(pattern: &str, error: &str) -> String {
    let cause = error.lines().rev().find_map(|line| line.strip_prefix("error: ")).unwrap_or(error);
    let cause = match cause {
        "unclosed group" => "missing closing )",
        "unopened group" => "unexpected )",
        "unclosed character class" => "missing closing ]",
        "unrecognized escape sequence" => "invalid escape sequence",
        "repetition operator missing expression" => "missing argument to repetition operator",
        cause => cause,
    };
    format!("error parsing regexp: {cause}: `^(?s:{pattern})$`")
}
