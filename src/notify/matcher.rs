//! Label matchers as Alertmanager writes them: `severity="page"`, `team=~"a|b"`, `{a="b", "label name"!="c"}`.

use crate::model::Labels;
use regex::Regex;
use std::fmt;

/// Bytes that one compiled expression may take; beyond it the matcher is refused.
const REGEX_BYTES: usize = 1 << 20;

/// How a matcher compares; in the order in which Alertmanager sorts matchers that are otherwise alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum MatchOp {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `=~`, anchored at both ends.
    Matches,
    /// `!~`, anchored at both ends.
    NotMatches,
}

impl MatchOp {
    fn text(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::NotEqual => "!=",
            Self::Matches => "=~",
            Self::NotMatches => "!~",
        }
    }
}

/// One condition on one label. A label that is absent has the empty value.
#[derive(Clone)]
pub struct Matcher {
    /// The label's name.
    pub name: String,
    /// How to compare.
    pub op: MatchOp,
    /// The value or the expression, as written.
    pub value: String,
    regex: Option<Regex>,
}

impl Matcher {
    /// Builds a matcher, compiling its expression.
    ///
    /// # Errors
    /// A sentence that says why the expression is not valid.
    pub fn new(name: impl Into<String>, op: MatchOp, value: impl Into<String>) -> Result<Self, String> {
        let (name, value) = (name.into(), value.into());
        let regex = match op {
            MatchOp::Matches | MatchOp::NotMatches => Some(
                regex::RegexBuilder::new(&format!("^(?:{value})$"))
                    .size_limit(REGEX_BYTES)
                    .build()
                    .map_err(|error| format!("{value:?} is not a valid regular expression: {}", last_line(&error)))?,
            ),
            MatchOp::Equal | MatchOp::NotEqual => None,
        };
        Ok(Self { name, op, value, regex })
    }

    /// Whether the labels meet the condition.
    pub fn matches(&self, labels: &Labels) -> bool {
        let value = labels.get(&self.name).unwrap_or("");
        match (self.op, &self.regex) {
            (MatchOp::NotEqual, _) => value != self.value,
            (MatchOp::Matches, Some(regex)) => regex.is_match(value),
            (MatchOp::NotMatches, Some(regex)) => !regex.is_match(value),
            _ => value == self.value,
        }
    }
}

/// The last line of a regex error is the one that says what is wrong; the ones before it draw the expression.
fn last_line(error: &regex::Error) -> String {
    let text = error.to_string();
    text.lines().last().unwrap_or_default().trim().trim_start_matches("error: ").to_owned()
}

impl PartialEq for Matcher {
    fn eq(&self, other: &Self) -> bool {
        (&self.name, self.op, &self.value) == (&other.name, other.op, &other.value)
    }
}

impl fmt::Display for Matcher {
    /// As Alertmanager prints a matcher in group keys (pkg/labels, `Matcher.String`).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if is_classic_name(&self.name) {
            f.write_str(&self.name)?;
        } else {
            f.write_str(&go_quote(&self.name))?;
        }
        let value = self.value.replace('\\', "\\\\").replace('\n', "\\n").replace('"', "\\\"");
        write!(f, "{}\"{value}\"", self.op.text())
    }
}

impl fmt::Debug for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Whether all matchers are met; no matcher at all is always met.
pub fn all_match(matchers: &[Matcher], labels: &Labels) -> bool {
    matchers.iter().all(|matcher| matcher.matches(labels))
}

/// Sorts as Alertmanager does (name, value, operator), so that group keys come out alike.
pub fn sort(matchers: &mut [Matcher]) {
    matchers.sort_by(|a, b| (&a.name, &a.value, a.op).cmp(&(&b.name, &b.value, b.op)));
}

/// `{a="b",c=~"d"}`, as group keys hold it.
pub fn print(matchers: &[Matcher]) -> String {
    let parts: Vec<String> = matchers.iter().map(ToString::to_string).collect();
    format!("{{{}}}", parts.join(","))
}

/// A label set as Go's `model.LabelSet` prints it: `{a="b", c="d"}`.
pub fn print_labels(labels: &Labels) -> String {
    let parts: Vec<String> = labels.iter().map(|label| format!("{}={}", label.name, go_quote(&label.value))).collect();
    format!("{{{}}}", parts.join(", "))
}

/// Go's `strconv.Quote`.
pub fn go_quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            c if (c as u32) < 0x20 || c as u32 == 0x7f => out.push_str(&format!("\\x{:02x}", c as u32)),
            // What Rust's Debug escapes is, but for the quote, what neither language calls printable.
            c if c != '\'' && c.escape_debug().count() > 1 => match c as u32 {
                code @ 0..=0xffff => out.push_str(&format!("\\u{code:04x}")),
                code => out.push_str(&format!("\\U{code:08x}")),
            },
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// A name of Prometheus's classic form.
pub fn is_classic_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_' || b == b':')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b':')
}

/// Reads one or more matchers, with or without braces. As Alertmanager does by default, both of its grammars are tried:
/// the UTF-8 one, and the classic one that allows unquoted values with blanks; where both read it, the classic wins.
///
/// # Errors
/// A sentence that says what is wrong and where in the text.
pub fn parse(text: &str) -> Result<Vec<Matcher>, String> {
    let utf8 = Parser { text, at: 0 }.matchers();
    match (parse_classic(text), utf8) {
        (Ok(classic), _) => Ok(classic),
        (Err(_), utf8) => utf8,
    }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl Parser<'_> {
    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    fn bump(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        Some(c)
    }

    fn blanks(&mut self) {
        while self.peek().is_some_and(char::is_whitespace) {
            self.bump();
        }
    }

    fn eat(&mut self, wanted: &str) -> bool {
        self.blanks();
        let found = self.text[self.at..].starts_with(wanted);
        if found {
            self.at += wanted.len();
        }
        found
    }

    fn unexpected(&self, wanted: &str) -> String {
        let column = self.text[..self.at].chars().count() + 1;
        match self.peek() {
            Some(c) => format!("character {column} of {:?} is {c:?}, expected {wanted}", self.text),
            None => format!("{:?} ends where {wanted} was expected", self.text),
        }
    }

    fn matchers(mut self) -> Result<Vec<Matcher>, String> {
        let braces = self.eat("{");
        let mut found = Vec::new();
        loop {
            self.blanks();
            if braces && self.eat("}") {
                break;
            }
            if self.peek().is_none() && !braces && !found.is_empty() {
                return Ok(found);
            }
            found.push(self.matcher()?);
            if self.eat(",") {
                continue;
            }
            if braces {
                if self.eat("}") {
                    break;
                }
                return Err(self.unexpected("a comma or a closing brace"));
            }
            break;
        }
        self.blanks();
        if self.peek().is_some() { Err(self.unexpected("a comma or the end")) } else { Ok(found) }
    }

    fn matcher(&mut self) -> Result<Matcher, String> {
        let name = self.word("a label name")?;
        let op = if self.eat("=~") {
            MatchOp::Matches
        } else if self.eat("!~") {
            MatchOp::NotMatches
        } else if self.eat("!=") {
            MatchOp::NotEqual
        } else if self.eat("=") {
            MatchOp::Equal
        } else {
            return Err(self.unexpected("an operator (=, !=, =~ or !~)"));
        };
        let value = self.word("a label value")?;
        Matcher::new(name, op, value)
    }

    /// A quoted text, or an unquoted one up to a reserved character.
    fn word(&mut self, what: &str) -> Result<String, String> {
        self.blanks();
        if self.peek() == Some('"') {
            return self.quoted();
        }
        let start = self.at;
        while self.peek().is_some_and(|c| !c.is_whitespace() && !"{}!=~,\\\"'`".contains(c)) {
            self.bump();
        }
        if start == self.at { Err(self.unexpected(what)) } else { Ok(self.text[start..self.at].to_owned()) }
    }

    /// A text in double quotes with Go's escapes.
    fn quoted(&mut self) -> Result<String, String> {
        self.bump();
        let mut out = String::new();
        loop {
            match self.bump() {
                None => return Err(format!("{:?} lacks a closing quote", self.text)),
                Some('"') => return Ok(out),
                Some('\\') => {
                    let escape = self.bump();
                    out.push(match escape {
                        Some('n') => '\n',
                        Some('t') => '\t',
                        Some('r') => '\r',
                        Some('a') => '\u{7}',
                        Some('b') => '\u{8}',
                        Some('f') => '\u{c}',
                        Some('v') => '\u{b}',
                        Some(c @ ('"' | '\\')) => c,
                        Some('x') => self.code(2)?,
                        Some('u') => self.code(4)?,
                        Some('U') => self.code(8)?,
                        _ => return Err(format!("{:?} holds an unknown escape after a backslash", self.text)),
                    });
                }
                Some(c) => out.push(c),
            }
        }
    }

    fn code(&mut self, digits: usize) -> Result<char, String> {
        let text = self.text.get(self.at..self.at + digits).unwrap_or("");
        self.at += text.len();
        u32::from_str_radix(text, 16)
            .ok()
            .and_then(char::from_u32)
            .ok_or_else(|| format!("{:?} holds an escape that is no character", self.text))
    }
}

/// Alertmanager's older grammar: names of the classic form, values quoted or not, only `\"`, `\\` and `\n` as escapes.
fn parse_classic(text: &str) -> Result<Vec<Matcher>, String> {
    let inner = text.trim();
    let inner = inner.strip_prefix('{').unwrap_or(inner);
    let inner = inner.strip_suffix('}').unwrap_or(inner);
    let (mut parts, mut quoted, mut escaped, mut start) = (Vec::new(), false, false, 0);
    for (at, c) in inner.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => quoted = !quoted,
            ',' if !quoted => {
                parts.push(&inner[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    if !inner[start..].trim().is_empty() {
        parts.push(&inner[start..]);
    }
    parts.into_iter().map(parse_classic_one).collect()
}

fn parse_classic_one(text: &str) -> Result<Matcher, String> {
    let bad = || format!("{text:?} is not a matcher");
    let at = text.find(['=', '!']).ok_or_else(bad)?;
    let (name, rest) = (text[..at].trim(), &text[at..]);
    let (op, length) = match rest.as_bytes() {
        [b'=', b'~', ..] => (MatchOp::Matches, 2),
        [b'!', b'~', ..] => (MatchOp::NotMatches, 2),
        [b'!', b'=', ..] => (MatchOp::NotEqual, 2),
        [b'=', ..] => (MatchOp::Equal, 1),
        _ => return Err(bad()),
    };
    if !is_classic_name(name) {
        return Err(bad());
    }
    let raw = rest[length..].trim();
    let raw = match raw.strip_prefix('"') {
        Some(raw) => raw.strip_suffix('"').filter(|raw| !ends_escaped(raw)).ok_or_else(bad)?,
        None => raw,
    };
    let (mut value, mut chars) = (String::new(), raw.chars());
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some('n') => value.push('\n'),
                Some(c @ ('"' | '\\')) => value.push(c),
                // An unknown escape keeps its backslash, so that `\d` in an expression means what it says.
                other => {
                    value.push('\\');
                    value.extend(other);
                }
            },
            '"' => return Err(bad()),
            c => value.push(c),
        }
    }
    Matcher::new(name, op, value)
}

fn ends_escaped(text: &str) -> bool {
    text.bytes().rev().take_while(|b| *b == b'\\').count() % 2 == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let found = match parse(text) {
            Ok(matchers) => print(&matchers),
            Err(error) => error,
        };
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn matchers_read_as_alertmanager_reads_them() {
        check("severity=page", r#"{severity="page"}"#);
        check(r#" severity = "page" "#, r#"{severity="page"}"#);
        check(r#"{a="b",c=~"d|e", f!="", g!~x}"#, r#"{a="b",c=~"d|e",f!="",g!~"x"}"#);
        check("owner=the whole team", r#"{owner="the whole team"}"#);
        check(r#"path=~"a\\d+""#, r#"{path=~"a\\d+"}"#);
        check(r#"path=~"\d+""#, r#"{path=~"\\d+"}"#);
        check(r#""label name"="x", 🙂=y"#, r#"{"label name"="x","🙂"="y"}"#);
        check(r#"a="\u00e9\n""#, r#"{a="\\u00e9\n"}"#);
        check(r#"{é="\u00e9"}"#, r#"{"é"="é"}"#);
        check(r#"a="x,y",b="{}""#, r#"{a="x,y",b="{}"}"#);
        check("{}", "{}");
        check("a~b", "character 2 of \"a~b\" is '~', expected an operator (=, !=, =~ or !~)");
        check("a=\"x", "\"a=\\\"x\" lacks a closing quote");
        check("a=~\"(\"", "\"(\" is not a valid regular expression: unclosed group");
    }

    #[test]
    fn conditions_on_absent_labels() {
        let labels = Labels::from_pairs([("a", "x"), ("b", "abc")]);
        for (text, expected) in [
            ("a=x", true),
            ("a!=x", false),
            ("b=~a.c", true),
            ("b=~b", false),
            ("c=\"\"", true),
            ("c!~\".+\"", true),
            ("c=~\"y?\"", true),
            ("a=x,b=y", false),
        ] {
            assert_eq!(all_match(&parse(text).unwrap(), &labels), expected, "{text}");
        }
    }

    #[test]
    fn texts_are_quoted_as_go_does() {
        assert_eq!(go_quote("a\"b\\c\nd\u{1}'é🙂\u{200b}"), "\"a\\\"b\\\\c\\nd\\x01'é🙂\\u200b\"");
    }
}
