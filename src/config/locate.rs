//! From a character of a scalar's text to its place in the file.

use super::{Diagnostics, Span, Spanned};

impl Diagnostics {
    /// The place in the file of a character of a scalar's text, given by line and column in that text (both from 1, the
    /// column in characters): an error of PromQL inside `expr: |` points at the right line and column of the file.
    ///
    /// Exact for plain, quoted and block scalars, folding and escapes included, because the file's text is walked beside
    /// the value. Approximate in three cases: after a `${VAR}` that was replaced the place is that of the `${`; for a
    /// value that came through an alias it is the alias; and where the file's text is not known ([`Self::add_source`])
    /// the text is taken to stand in the file as it is, each line at the column of the first.
    pub fn locate(&self, text: &Spanned<String>, line: u32, column: u32) -> Span {
        let mut offset = 0;
        for skipped in text.value.split_inclusive('\n').take(line.saturating_sub(1) as usize) {
            offset += skipped.len();
        }
        let rest = text.value.get(offset..).unwrap_or("");
        let into = rest.char_indices().nth(column.saturating_sub(1) as usize).map_or(rest.len(), |(at, _)| at);
        self.locate_offset(text, offset + into)
    }

    /// As [`Self::locate`], for a byte offset in the text.
    pub fn locate_offset(&self, text: &Spanned<String>, offset: usize) -> Span {
        let span = &text.span;
        if span.line == 0 {
            return span.clone();
        }
        // Blank lines at the head of a block scalar are in its text, but its place is that of the first visible character.
        let value = text.value.trim_start_matches('\n');
        let Some(offset) = offset.checked_sub(text.value.len() - value.len()) else { return span.clone() };
        let (line, column) = match self.source(&span.file) {
            Some(source) => {
                Cursor::at(source, span).map_or((span.line, span.column), |cursor| walk(cursor, value, offset))
            }
            None => {
                let before = value.get(..offset).unwrap_or(value);
                let last = before.rsplit('\n').next().unwrap_or("");
                (span.line + before.matches('\n').count() as u32, span.column + last.chars().count() as u32)
            }
        };
        Span { file: span.file.clone(), line, column }
    }
}

/// How a scalar is written.
#[derive(Clone, Copy, PartialEq)]
enum Style {
    /// Plain or block: no escapes.
    Raw,
    Single,
    Double,
}

#[derive(Clone)]
struct Cursor<'s> {
    rest: &'s str,
    line: u32,
    column: u32,
    /// Columns that continuation lines are indented by, at most.
    indent: u32,
}

impl<'s> Cursor<'s> {
    fn at(source: &'s str, span: &Span) -> Option<Self> {
        let source = source.strip_prefix('\u{feff}').unwrap_or(source);
        let mut rest = source;
        for _ in 1..span.line {
            rest = &rest[rest.find('\n')? + 1..];
        }
        let into = rest.char_indices().nth(span.column as usize - 1).map(|(at, _)| at)?;
        Some(Self { rest: &rest[into..], line: span.line, column: span.column, indent: span.column - 1 })
    }

    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn bump(&mut self) {
        let mut chars = self.rest.chars();
        match chars.next() {
            Some('\n') => (self.line, self.column) = (self.line + 1, 1),
            Some(_) => self.column += 1,
            None => {}
        }
        self.rest = chars.as_str();
    }

    fn skip_white(&mut self) {
        while self.peek().is_some_and(char::is_whitespace) {
            self.bump();
        }
    }

    fn place(&self) -> (u32, u32) {
        (self.line, self.column)
    }
}

/// The place of `value[offset]`. The style is found by trying: a block scalar's text may begin with a quote, too.
fn walk(cursor: Cursor<'_>, value: &str, offset: usize) -> (u32, u32) {
    let quoted = match cursor.peek() {
        Some('"') => Some(Style::Double),
        Some('\'') => Some(Style::Single),
        _ => None,
    };
    let (place, reached) = walk_as(cursor.clone(), value, offset, Style::Raw);
    match quoted {
        Some(style) if reached < value.trim_end().len() => {
            let (other, further) = walk_as(cursor, value, offset, style);
            if further >= reached { other } else { place }
        }
        _ => place,
    }
}

/// The place of `value[offset]`, or of the first character that differs, and how many bytes of the value agreed.
fn walk_as(mut cursor: Cursor<'_>, value: &str, offset: usize, style: Style) -> ((u32, u32), usize) {
    if style != Style::Raw {
        cursor.bump();
    }
    let mut place = None;
    for (at, wanted) in value.char_indices() {
        if !wanted.is_whitespace() {
            while style == Style::Double && cursor.rest.starts_with("\\\n") {
                cursor.bump();
                cursor.skip_white();
            }
            cursor.skip_white();
        }
        if at >= offset {
            place.get_or_insert(cursor.place());
        }
        let Some(next) = cursor.peek() else { return (place.unwrap_or(cursor.place()), at) };
        match (style, next) {
            (Style::Double, '\\') => skip_escape(&mut cursor),
            (Style::Single, '\'') if wanted == '\'' => {
                cursor.bump();
                cursor.bump();
            }
            (Style::Raw, '\n' | '\r') if wanted == '\n' => {
                while cursor.peek() == Some('\r') {
                    cursor.bump();
                }
                cursor.bump();
                while cursor.column <= cursor.indent && cursor.peek() == Some(' ') {
                    cursor.bump();
                }
            }
            _ if next == wanted => cursor.bump(),
            // A line break that folding made a space, or blank lines that it made line breaks.
            _ if wanted.is_whitespace() && next.is_whitespace() => cursor.skip_white(),
            _ => return (place.unwrap_or(cursor.place()), at),
        }
    }
    (place.unwrap_or(cursor.place()), value.len())
}

/// Steps over one escape of a double-quoted scalar (YAML 1.2, 5.7).
fn skip_escape(cursor: &mut Cursor<'_>) {
    cursor.bump();
    let digits = match cursor.peek() {
        Some('x') => 2,
        Some('u') => 4,
        Some('U') => 8,
        _ => 0,
    };
    for _ in 0..=digits {
        cursor.bump();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{reader, yaml};

    /// Each `^`-marked character of the value stands in the file where the expectation says.
    fn check(text: &str, wanted: &str, line: u32, column: u32) {
        let mut found = Diagnostics::new();
        let tree = yaml::parse("t.yaml", text, &mut found).unwrap();
        let value = reader::string(tree.get("k").unwrap(), "k", &mut found).unwrap();
        let offset = value.value.find(wanted).unwrap();
        let span = found.locate_offset(&value, offset);
        assert_eq!((span.line, span.column), (line, column), "{wanted:?} in {text:?}");
        let before = &value.value[..offset];
        let (text_line, last) = (before.matches('\n').count(), before.rsplit('\n').next().unwrap());
        // Places never make a difference to `==`, so that line and column are compared.
        let by_column = found.locate(&value, text_line as u32 + 1, last.chars().count() as u32 + 1);
        assert_eq!((by_column.line, by_column.column), (line, column));
        let shown = text.lines().nth(line as usize - 1).unwrap().chars().nth(column as usize - 1);
        assert_eq!(shown, wanted.chars().next(), "{wanted:?} in {text:?}");
    }

    #[test]
    fn a_character_of_any_scalar_is_found_in_the_file() {
        check("k: sum(x) > y\n", "x)", 1, 8);
        check("k: ünï(x)\n", "x)", 1, 8);
        check("k: \"sum(x)\"\n", "x)", 1, 9);
        check("k: \"a\\\"\\u00e9x\"\n", "x", 1, 14);
        check("k: 'it''s x'\n", "x", 1, 11);
        check("k:\n  '''x'\n", "x", 2, 6);
        check("k: |\n  sum(\n    rate(x)\n  ) > 5\n", "rate", 3, 5);
        check("k: |\n  sum(\n    rate(x)\n  ) > 5\n", "5", 4, 7);
        check("k: |\n\n  \"quoted\" x\n", "x", 3, 12);
        check("k: >-\n  sum(x)\n  > 5\n\n  and y\n", "> 5", 3, 3);
        check("k: >-\n  sum(x)\n  > 5\n\n  and y\n", "y", 5, 7);
        check("k: sum(x)\n  and y\n", "y", 2, 7);
        check("k: \"sum(x) \\\n  and y\"\n", "y", 2, 7);
        check("j: 1\r\nk: |\r\n  a\r\n  by\r\n", "y", 4, 4);
    }

    #[test]
    fn without_the_file_the_place_is_near() {
        let span = Span { file: "t.yaml".into(), line: 7, column: 5 };
        let text = Spanned::new("sum(\nx y)".to_owned(), span);
        let place = Diagnostics::new().locate(&text, 2, 3);
        assert_eq!((place.line, place.column), (8, 7));
        assert_eq!(Diagnostics::new().locate(&Spanned::bare("x".into()), 1, 1).line, 0);
    }
}
