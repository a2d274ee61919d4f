//! What events must look like, and what of them is never shown: `schemas:` and `redact:`.

use super::{Pattern, SecretSource};
use crate::config::yaml::Node;
use crate::config::{Span, Spanned};
use crate::model::FieldPath;

/// One entry of `schemas:`.
#[derive(Clone, Debug, PartialEq)]
pub struct SchemaConfig {
    /// `match:`; the entry's name when absent.
    pub matches: Vec<Pattern>,
    /// `schema:`.
    pub schema: SchemaSource,
    /// `version:`; `None` for what the schema says itself.
    pub version: Option<String>,
    /// `of: event`: the whole document is described, not its payload.
    pub whole: bool,
    /// `on_invalid: count`: invalid events are counted as such and taken.
    pub only_count: bool,
    /// The place of the entry.
    pub span: Span,
}

/// Where a schema stands.
#[derive(Clone, Debug, PartialEq)]
pub enum SchemaSource {
    /// A file, JSON or YAML.
    File(Spanned<String>),
    /// In the configuration itself.
    Inline(Node),
}

/// `redact:`.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct RedactConfig {
    /// What is hidden.
    pub fields: Vec<RedactEntry>,
    /// `hash_key` or `hash_key_file`.
    pub hash_key: Option<SecretSource>,
    /// The place of the key.
    pub span: Span,
}

/// One entry of `redact:`.
#[derive(Clone, Debug, PartialEq)]
pub enum RedactEntry {
    /// A path, or `{path, hash}`.
    Path {
        /// The path; `*` is any key.
        path: Spanned<FieldPath>,
        /// A keyed hash takes its place.
        hash: bool,
    },
    /// `{regex: ...}`: whatever matches, in any text that is shown.
    Regex(Spanned<String>),
}

impl Pattern {
    /// The anchored regular expression: `*` is any text, `+` one segment.
    pub fn to_regex(&self) -> String {
        match self {
            Self::Regex(regex) => format!("^(?s:{})$", regex.value),
            Self::Glob(glob) => {
                let mut regex = String::from("^(?s:");
                for c in glob.value.chars() {
                    match c {
                        '*' => regex.push_str(".*"),
                        '+' => regex.push_str("[^.]+"),
                        c => regex.push_str(&regex_escape(c)),
                    }
                }
                regex.push_str(")$");
                regex
            }
        }
    }

    /// Where it stands.
    pub fn span(&self) -> &Span {
        match self {
            Self::Glob(text) | Self::Regex(text) => &text.span,
        }
    }
}

fn regex_escape(c: char) -> String {
    regex::escape(c.encode_utf8(&mut [0; 4]))
}
