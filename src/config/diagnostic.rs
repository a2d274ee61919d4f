//! What is wrong, where, and what to do about it.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// A place in a file. Lines and columns count from 1, columns in characters; 0 means the place is not in a file.
#[derive(Clone, Default)]
pub struct Span {
    /// The file as the user named it; empty for built-in defaults, `environment` or `flags` for those layers.
    pub file: Arc<str>,
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
}

impl Span {
    /// The folder of the file: where the relative paths that stand in it start.
    pub fn folder(&self) -> &Path {
        Path::new(&*self.file).parent().unwrap_or(Path::new(""))
    }
}

impl PartialEq for Span {
    /// Where something stands never makes it differ: an entry that only moved in its file is unchanged.
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Span {}

impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => f.write_str(&self.file),
            line => write!(f, "{}:{line}:{}", self.file, self.column),
        }
    }
}

/// A value and the place it was read from.
#[derive(Clone, Debug, Default)]
pub struct Spanned<T> {
    /// The value.
    pub value: T,
    /// Where its text begins.
    pub span: Span,
}

impl<T> Spanned<T> {
    /// A value with its place.
    pub fn new(value: T, span: Span) -> Self {
        Self { value, span }
    }

    /// A value that stands in no file.
    pub fn bare(value: T) -> Self {
        Self { value, span: Span::default() }
    }
}

impl<T: PartialEq> PartialEq for Spanned<T> {
    /// Two values are alike wherever they stand.
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

/// Whether the configuration can be used in spite of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// It cannot.
    Error,
    /// It can, but somebody should look.
    Warning,
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Error or warning.
    pub level: Level,
    /// Where.
    pub span: Span,
    /// What is wrong: one sentence without a full stop.
    pub message: String,
    /// What to do: the nearest valid name, an example.
    pub hint: Option<String>,
}

/// Everything found so far; findings are added, never lost.
#[derive(Clone, Debug, Default)]
pub struct Diagnostics {
    found: Vec<Diagnostic>,
    sources: Vec<(Arc<str>, Arc<str>)>,
}

impl Diagnostics {
    /// Nothing found yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Remembers a file's text, so that findings can show the line.
    pub fn add_source(&mut self, file: Arc<str>, text: Arc<str>) {
        self.sources.retain(|(known, _)| *known != file);
        self.sources.push((file, text));
    }

    /// Adds an error.
    pub fn error(&mut self, span: &Span, message: impl Into<String>) {
        self.push(Level::Error, span, message.into(), None);
    }

    /// Adds an error with what to do about it.
    pub fn error_hint(&mut self, span: &Span, message: impl Into<String>, hint: impl Into<String>) {
        self.push(Level::Error, span, message.into(), Some(hint.into()));
    }

    /// Adds a warning.
    pub fn warning(&mut self, span: &Span, message: impl Into<String>) {
        self.push(Level::Warning, span, message.into(), None);
    }

    /// Adds a warning with what to do about it.
    pub fn warning_hint(&mut self, span: &Span, message: impl Into<String>, hint: impl Into<String>) {
        self.push(Level::Warning, span, message.into(), Some(hint.into()));
    }

    fn push(&mut self, level: Level, span: &Span, message: String, hint: Option<String>) {
        self.found.push(Diagnostic { level, span: span.clone(), message, hint });
    }

    /// Takes over what another collection found.
    pub fn absorb(&mut self, other: Self) {
        self.found.extend(other.found);
        for (file, text) in other.sources {
            self.add_source(file, text);
        }
    }

    /// Puts the findings into the order of their places: files as they were added, then lines and columns; findings
    /// without a place first.
    pub fn sort(&mut self) {
        let rank = |file: &str| self.sources.iter().position(|(known, _)| **known == *file);
        self.found.sort_by_cached_key(|finding| (rank(&finding.span.file), finding.span.line, finding.span.column));
    }

    /// Whether any finding is an error.
    pub fn has_errors(&self) -> bool {
        self.found.iter().any(|finding| finding.level == Level::Error)
    }

    /// The findings in the order they were found.
    pub fn iter(&self) -> impl Iterator<Item = &Diagnostic> {
        self.found.iter()
    }

    /// A file's text, where it is known.
    pub fn source(&self, file: &str) -> Option<&str> {
        self.sources.iter().find(|(known, _)| **known == *file).map(|(_, text)| &**text)
    }

    /// The line a finding points at, when its file's text is known.
    pub fn line_of(&self, span: &Span) -> Option<&str> {
        self.source(&span.file)?.lines().nth((span.line as usize).checked_sub(1)?)
    }
}

impl fmt::Display for Diagnostics {
    /// Each finding as `file:line:column: error: message`, the line with a caret, and the hint.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for finding in &self.found {
            let Span { file, line, column } = &finding.span;
            let level = if finding.level == Level::Error { "error" } else { "warning" };
            if *line > 0 {
                write!(f, "{file}:{line}:{column}: ")?;
            } else if !file.is_empty() {
                write!(f, "{file}: ")?;
            }
            writeln!(f, "{level}: {}", finding.message)?;
            if let Some(text) = self.line_of(&finding.span) {
                let number = line.to_string();
                let caret_at: String = text
                    .chars()
                    .take((*column as usize).saturating_sub(1))
                    .map(|c| if c == '\t' { '\t' } else { ' ' })
                    .collect();
                writeln!(f, "  {number} | {text}")?;
                writeln!(f, "  {} | {caret_at}^", " ".repeat(number.len()))?;
            }
            if let Some(hint) = &finding.hint {
                writeln!(f, "  hint: {hint}")?;
            }
        }
        Ok(())
    }
}

/// The candidate nearest to `name` by edit distance, when one is near enough to be meant.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let allowed = (name.chars().count() / 3).max(1) + 1;
    candidates
        .into_iter()
        .map(|candidate| (edit_distance(name, candidate), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Optimal string alignment: insertions, deletions, substitutions, swaps of neighbours.
fn edit_distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for (i, row) in rows.iter_mut().enumerate() {
        row[0] = i;
    }
    for (j, cell) in rows[0].iter_mut().enumerate() {
        *cell = j;
    }
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            let cost = usize::from(a[i - 1] != b[j - 1]);
            let mut best = (rows[i - 1][j] + 1).min(rows[i][j - 1] + 1).min(rows[i - 1][j - 1] + cost);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_the_one_meant() {
        assert_eq!(nearest("anotations", ["labels", "annotations", "for"]), Some("annotations"));
        assert_eq!(nearest("fro", ["for", "expr"]), Some("for"));
        assert_eq!(nearest("zzzzzz", ["for", "expr"]), None);
    }

    #[test]
    fn a_finding_shows_its_line() {
        let mut found = Diagnostics::new();
        found.add_source("a.yaml".into(), "x: 1\nlisten: oops\n".into());
        let span = Span { file: "a.yaml".into(), line: 2, column: 9 };
        found.error_hint(&span, "not a mapping", "write {observe: \"127.0.0.1:9180\"}");
        assert_eq!(
            found.to_string(),
            "a.yaml:2:9: error: not a mapping\n  2 | listen: oops\n    |         ^\n  hint: write {observe: \"127.0.0.1:9180\"}\n"
        );
    }
}
