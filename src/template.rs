//! Go templates for labels, annotations and messages, parsed at load.
//!
//! The syntax is read by gotmpl; what runs is our own executor, so that numbers, times and missing labels print as
//! Prometheus and Alertmanager print them. Queries come in as a closure: this room knows no storage.

mod check;
mod exec;
mod format;
mod functions;
mod time;
mod value;

pub use format::float as format_float;
pub use functions::{graph_link, humanize, humanize_duration};
pub use time::GoTime;
pub use value::{Struct, Value};

use crate::model::{Labels, Timestamp};
use gotmpl::parse::{ListNode, Parser};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Whose functions a template may call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Dialect {
    /// Labels and annotations of rules: Prometheus's functions, and `$labels`, `$value`, `$externalLabels`,
    /// `$externalURL`, `$event`.
    #[default]
    Prometheus,
    /// Messages: Alertmanager's functions.
    Alertmanager,
}

/// Why a template does not parse.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("template: {line}:{column}: {message}")]
pub struct TemplateError {
    /// Line in the template's text, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
    /// Byte offset in the text.
    pub offset: usize,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl TemplateError {
    fn at(source: &str, offset: usize, message: String) -> Self {
        let before = &source[..source.floor_char_boundary(offset)];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        Self {
            line: before.matches('\n').count() as u32 + 1,
            column: before[line_start..].chars().count() as u32 + 1,
            offset,
            message,
            hint: None,
        }
    }

    fn from_parser(source: &str, error: &gotmpl::TemplateError) -> Self {
        let (gotmpl::TemplateError::Parse { line, col, message, .. }
        | gotmpl::TemplateError::Lex { line, col, message, .. }) = error
        else {
            return Self::at(source, 0, error.to_string());
        };
        let line_start: usize = source.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
        let tail = &source[line_start.min(source.len())..];
        let offset = line_start + tail.chars().take(col.saturating_sub(1)).map(char::len_utf8).sum::<usize>();
        Self { line: *line as u32, column: *col as u32, offset, message: message.clone(), hint: None }
    }
}

/// Answers `query` of templates: PromQL to [`sample`]s, or what is wrong with it.
pub type QueryFunction<'a> = dyn Fn(&str) -> Result<Vec<Value>, String> + 'a;

/// What a rendering may use besides its data.
pub struct Functions<'a> {
    /// Whose functions answer.
    pub dialect: Dialect,
    /// `now`, and what `since` counts from.
    pub now: Timestamp,
    /// `externalURL`; `pathPrefix` is its path.
    pub external_url: &'a str,
    /// `query`: PromQL to a list of [`sample`]s.
    pub query: Option<&'a QueryFunction<'a>>,
    /// Named templates of other files.
    pub shared: Option<&'a Templates>,
    /// Escape what actions print, for HTML mail.
    pub escape_html: bool,
}

impl<'a> Functions<'a> {
    /// Without queries, shared templates and escaping.
    pub fn new(dialect: Dialect, now: Timestamp, external_url: &'a str) -> Self {
        Self { dialect, now, external_url, query: None, shared: None, escape_html: false }
    }
}

/// A sample as `query` returns it: `.Labels` and `.Value`.
pub fn sample(labels: &Labels, value: f64) -> Value {
    Value::structure("template.sample", vec![("Labels", Value::labels(labels)), ("Value", Value::Float(value))])
}

/// Named templates (`{{ define "x" }}`), shared by many texts.
#[derive(Clone, Debug, Default)]
pub struct Templates {
    defines: BTreeMap<String, ListNode>,
    built_in: BTreeSet<String>,
}

impl Templates {
    /// Takes over the definitions of a file of Alertmanager's templates; a later definition replaces an earlier one.
    ///
    /// # Errors
    /// [`TemplateError`] with the place in the text.
    pub fn add(&mut self, text: &str) -> Result<(), TemplateError> {
        let template = Template::parse_as(text, Dialect::Alertmanager)?;
        if let Some(parsed) = template.parsed {
            self.built_in.retain(|name| !parsed.defines.contains_key(name));
            self.defines.extend(parsed.defines.iter().map(|(name, body)| (name.clone(), body.clone())));
        }
        Ok(())
    }

    /// Takes over the definitions that a program brings along; see [`Self::is_redefined`].
    ///
    /// # Errors
    /// [`TemplateError`] with the place in the text.
    pub fn add_built_in(&mut self, text: &str) -> Result<(), TemplateError> {
        self.add(text)?;
        self.built_in = self.defines.keys().cloned().collect();
        Ok(())
    }

    /// Whether there is a definition of this name that is not a built-in one.
    pub fn is_redefined(&self, name: &str) -> bool {
        self.defines.contains_key(name) && !self.built_in.contains(name)
    }
}

#[derive(Debug)]
struct Parsed {
    tree: ListNode,
    defines: BTreeMap<String, ListNode>,
    event_paths: Vec<Vec<String>>,
}

/// A parsed template. A text without actions costs nothing to render.
#[derive(Clone, Debug)]
pub struct Template {
    source: Arc<str>,
    parsed: Option<Arc<Parsed>>,
}

impl PartialEq for Template {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl Template {
    /// Parses the text of a rule's label or annotation.
    ///
    /// # Errors
    /// [`TemplateError`]: syntax, an unknown function, an unknown variable.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        Self::parse_as(text, Dialect::Prometheus)
    }

    /// Parses with the functions of a dialect.
    ///
    /// # Errors
    /// [`TemplateError`]: syntax, an unknown function, an unknown variable.
    pub fn parse_as(text: &str, dialect: Dialect) -> Result<Self, TemplateError> {
        if !text.contains("{{") {
            return Ok(Self { source: text.into(), parsed: None });
        }
        let (tree, found) = Parser::new(text, "{{", "}}")
            .and_then(Parser::parse)
            .map_err(|error| TemplateError::from_parser(text, &error))?;
        if let Some((offset, word)) = check::stray_end(text) {
            return Err(TemplateError::at(text, offset, format!("unexpected {{{{{word}}}}}")));
        }
        let mut check =
            check::Check { source: text, dialect, variables: variable_names(dialect), event_paths: Vec::new() };
        check.list(&tree)?;
        let mut defines = BTreeMap::new();
        for define in found {
            check.variables = vec!["$".into()];
            check.list(&define.body)?;
            let name = define.name.to_string();
            if let Some(known) = defines.get(&name) {
                let known: &ListNode = known;
                if !known.is_empty_tree() && !define.body.is_empty_tree() {
                    let message = format!("multiple definition of template {name:?}");
                    return Err(TemplateError::at(text, define.pos.offset, message));
                }
            }
            defines.insert(name, define.body);
        }
        let event_paths = check.event_paths;
        Ok(Self { source: text.into(), parsed: Some(Arc::new(Parsed { tree, defines, event_paths })) })
    }

    /// A text that is printed as it stands.
    pub fn literal(text: &str) -> Self {
        Self { source: text.into(), parsed: None }
    }

    /// The text as it was written.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The paths below `$event` that the template reads (`$event.data.amount` is `[data, amount]`).
    pub fn event_paths(&self) -> &[Vec<String>] {
        self.parsed.as_ref().map_or(&[], |parsed| &parsed.event_paths)
    }

    /// Renders with any data as dot.
    ///
    /// # Errors
    /// A sentence with the place in the text.
    pub fn render(&self, data: &Value, functions: &Functions<'_>) -> Result<String, String> {
        let Some(parsed) = &self.parsed else { return Ok(self.source.to_string()) };
        let mut variables = vec![("$".to_owned(), data.clone())];
        if let (Dialect::Prometheus, Value::Struct(value)) = (functions.dialect, data) {
            for (name, field) in PRELUDE {
                if let Some((_, value)) = value.fields.iter().find(|(known, _)| *known == field) {
                    variables.push((name.to_owned(), value.clone()));
                }
            }
        }
        let mut executor = exec::Executor {
            defines: [Some(&parsed.defines), functions.shared.map(|shared| &shared.defines)],
            functions,
            variables,
            depth: 0,
            iterations: 0,
            out: String::with_capacity(self.source.len() + 32),
        };
        match executor.list(&parsed.tree, data) {
            Ok(()) | Err(exec::Stop::Break | exec::Stop::Continue) => Ok(executor.out),
            Err(exec::Stop::Error(pos, message)) => {
                let place = TemplateError::at(&self.source, pos.offset, message);
                Err(format!("{}:{}: {}", place.line, place.column, place.message))
            }
        }
    }

    /// Renders a label or annotation of the rule `name`; a failure becomes the text
    /// `<error expanding template: ...>`, because an alert with a bad text is better than none.
    pub fn expand(&self, name: &str, data: &AlertData, functions: &Functions<'_>) -> String {
        if self.parsed.is_none() {
            return self.source.to_string();
        }
        self.render(&data.0, functions).unwrap_or_else(|message| {
            format!("<error expanding template: error executing template __alert_{name}: template: __alert_{name}:{message}>")
        })
    }
}

/// Prometheus's prelude: variables and the fields of the data that they stand for.
const PRELUDE: [(&str, &str); 5] = [
    ("$labels", "Labels"),
    ("$externalLabels", "ExternalLabels"),
    ("$externalURL", "ExternalURL"),
    ("$value", "Value"),
    ("$event", "Event"),
];

fn variable_names(dialect: Dialect) -> Vec<String> {
    let prelude = PRELUDE.iter().map(|(name, _)| (*name).to_owned());
    match dialect {
        Dialect::Prometheus => std::iter::once("$".to_owned()).chain(prelude).collect(),
        Dialect::Alertmanager => vec!["$".into()],
    }
}

/// The data of a rule's templates.
#[derive(Clone, Debug)]
pub struct AlertData(Value);

impl AlertData {
    /// The sample's labels (its name among them) and value, the configured external labels and address, and the fields
    /// of the event at hand ([`Value::Nil`] for rules that no event triggers).
    pub fn new(labels: &Labels, value: f64, external_labels: &Labels, external_url: &str, event: Value) -> Self {
        Self(Value::structure(
            "struct { Labels map[string]string; ExternalLabels map[string]string; ExternalURL string; Value float64 }",
            vec![
                ("Labels", Value::labels(labels)),
                ("ExternalLabels", Value::labels(external_labels)),
                ("ExternalURL", Value::text(external_url)),
                ("Value", Value::Float(value)),
                ("Event", event),
            ],
        ))
    }
}

#[cfg(test)]
mod tests;
