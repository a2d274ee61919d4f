//! A rule's expression: the one file of this room that knows the query engine's types.

use crate::model::Labels;
use crate::series::{Selection, Storage};

/// Why an expression does not parse.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpressionError {
    /// Byte offset in the text.
    pub offset: usize,
    /// What is wrong.
    pub message: String,
}

/// A parsed expression.
#[derive(Clone, Debug, PartialEq)]
pub struct Expression {
    text: String,
}

impl Expression {
    pub fn parse(text: &str) -> Result<Self, ExpressionError> {
        Ok(Self { text: text.to_owned() })
    }
    /// The expression in the printer's normal form.
    pub fn text(&self) -> &str {
        &self.text
    }
    pub fn metric_names(&self) -> Vec<String> {
        Vec::new()
    }
    pub fn selections(&self, _at_ms: i64) -> Vec<Selection> {
        Vec::new()
    }
    pub fn vector(
        &self,
        _at_ms: i64,
        _storage: &dyn Storage,
        _options: &Options,
    ) -> Result<Vec<(Labels, f64)>, String> {
        Err("no query engine".into())
    }
}
#[derive(Clone, Debug, Default)]
pub struct Options;
