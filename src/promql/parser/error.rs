//! What is wrong with a query, and where.

use crate::promql::ast::Span;
use std::fmt;

/// A failure without the text around it.
#[derive(Debug)]
pub(super) struct Failure {
    pub span: Span,
    pub message: String,
}

impl Failure {
    pub fn new(span: Span, message: &str) -> Self {
        Self { span, message: message.into() }
    }
}

/// Why a query cannot be read. Prints as Prometheus prints it: `1:5: parse error: unexpected end of input`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    /// What is wrong.
    pub message: String,
    /// First byte of what is wrong.
    pub start: usize,
    /// One after its last byte.
    pub end: usize,
    /// Line, from 1.
    pub line: usize,
    /// Column, from 1, counted in bytes.
    pub column: usize,
}

impl ParseError {
    pub(super) fn new(text: &str, failure: Failure) -> Self {
        let (line, column) = line_and_column(text, failure.span.start);
        Self { message: failure.message, start: failure.span.start, end: failure.span.end, line, column }
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: parse error: {}", self.line, self.column, self.message)
    }
}

impl std::error::Error for ParseError {}

/// Line and column (in bytes), both from 1, of a byte of the text.
pub(crate) fn line_and_column(text: &str, at: usize) -> (usize, usize) {
    let before = &text.as_bytes()[..at.min(text.len())];
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    let line_start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    (line, before.len() - line_start + 1)
}
