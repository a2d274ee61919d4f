//! A reader of the Prometheus text format (0.0.4, and names in quotes as 1.0.0 has them).
//!
//! OpenMetrics reads as well: `# UNIT` and `# EOF` are understood and exemplars skipped, but its timestamps are seconds and
//! are taken as such only when they have a decimal point.

use super::catalog::{Metadata, MetricType};
use crate::model::{Label, Labels, METRIC_NAME};
use std::collections::BTreeMap;

/// Bad lines that are told one by one; the others are only counted.
const MAX_BAD_LINES: usize = 100;

/// One sample of an exposition.
#[derive(Clone, Debug, PartialEq)]
pub struct TextSample {
    /// The labels, the metric's name among them.
    pub labels: Labels,
    /// The value.
    pub value: f64,
    /// Its own time in milliseconds, if it has one.
    pub t_ms: Option<i64>,
}

/// A line that could not be read; the others were.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadLine {
    /// From 1.
    pub line: usize,
    /// What is wrong.
    pub reason: &'static str,
}

/// What an exposition holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Exposition {
    /// The samples in order.
    pub samples: Vec<TextSample>,
    /// Type, help and unit by metric, in order of the names.
    pub metadata: Vec<Metadata>,
    /// The first bad lines.
    pub bad_lines: Vec<BadLine>,
    /// Bad lines by reason, all of them.
    pub bad: BTreeMap<&'static str, u64>,
}

/// Reads an exposition; a bad line is counted and the rest is read.
pub fn parse(text: &str) -> Exposition {
    let mut read = Exposition::default();
    let mut metadata: BTreeMap<String, Metadata> = BTreeMap::new();
    for (at, line) in text.split('\n').enumerate() {
        let line = line.strip_suffix('\r').unwrap_or(line);
        let mut cursor = Cursor { rest: line };
        cursor.skip_blanks();
        let outcome = if cursor.rest.is_empty() {
            Ok(())
        } else if cursor.take('#') {
            cursor.comment(&mut metadata)
        } else {
            cursor.sample().map(|sample| read.samples.push(sample))
        };
        if let Err(reason) = outcome {
            *read.bad.entry(reason).or_default() += 1;
            if read.bad_lines.len() < MAX_BAD_LINES {
                read.bad_lines.push(BadLine { line: at + 1, reason });
            }
        }
    }
    read.metadata = metadata.into_values().collect();
    read
}

struct Cursor<'a> {
    rest: &'a str,
}

impl<'a> Cursor<'a> {
    fn skip_blanks(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t']);
    }

    fn take(&mut self, c: char) -> bool {
        let taken = self.rest.strip_prefix(c);
        self.rest = taken.unwrap_or(self.rest);
        taken.is_some()
    }

    /// Up to the next blank.
    fn word(&mut self) -> &'a str {
        let end = self.rest.find([' ', '\t']).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        self.skip_blanks();
        word
    }

    /// A name without quotes.
    fn name(&mut self, colons: bool) -> Result<&'a str, &'static str> {
        let takes = |at: usize, c: char| {
            c.is_ascii_alphabetic() || c == '_' || (colons && c == ':') || (at > 0 && c.is_ascii_digit())
        };
        let end = self.rest.char_indices().find(|(at, c)| !takes(*at, *c)).map_or(self.rest.len(), |(at, _)| at);
        if end == 0 {
            return Err("a name is missing");
        }
        let (name, rest) = self.rest.split_at(end);
        self.rest = rest;
        Ok(name)
    }

    /// A text in quotes, the opening one taken already.
    fn quoted(&mut self) -> Result<String, &'static str> {
        let mut text = String::new();
        loop {
            let end = self.rest.find(['"', '\\']).ok_or("a quote is not closed")?;
            text.push_str(&self.rest[..end]);
            let closed = self.rest[end..].starts_with('"');
            self.rest = &self.rest[end + 1..];
            if closed {
                return Ok(text);
            }
            let escaped = self.rest.chars().next().ok_or("a quote is not closed")?;
            self.rest = &self.rest[escaped.len_utf8()..];
            match escaped {
                'n' => text.push('\n'),
                '\\' | '"' => text.push(escaped),
                // As Prometheus does: an unknown escape stays as it is.
                _ => text.extend(['\\', escaped]),
            }
        }
    }

    fn comment(&mut self, metadata: &mut BTreeMap<String, Metadata>) -> Result<(), &'static str> {
        self.skip_blanks();
        let word = self.word();
        if !matches!(word, "HELP" | "TYPE" | "UNIT") {
            return Ok(());
        }
        let name = if self.take('"') { self.quoted()? } else { self.name(true)?.to_owned() };
        self.skip_blanks();
        let known = metadata.entry(name.clone()).or_insert_with(|| Metadata {
            name,
            kind: MetricType::Unknown,
            help: String::new(),
            unit: String::new(),
        });
        match word {
            "TYPE" => known.kind = MetricType::parse(self.rest.trim_end()).ok_or("an unknown type")?,
            "UNIT" => known.unit = self.rest.trim_end().to_owned(),
            _ => known.help = unescape_help(self.rest),
        }
        Ok(())
    }

    fn sample(&mut self) -> Result<TextSample, &'static str> {
        let mut labels = Vec::new();
        let name = |value: &str| Label { name: METRIC_NAME.into(), value: value.into() };
        if !self.rest.starts_with('{') {
            labels.push(name(self.name(true)?));
            self.skip_blanks();
        }
        if self.take('{') {
            loop {
                self.skip_blanks();
                if self.take('}') {
                    break;
                }
                let quoted = self.take('"');
                let key = if quoted { self.quoted()? } else { self.name(false)?.to_owned() };
                self.skip_blanks();
                if self.take('=') {
                    self.skip_blanks();
                    if !self.take('"') {
                        return Err("a label's value must be in quotes");
                    }
                    let value = self.quoted()?;
                    if labels.iter().any(|label: &Label| *label.name == *key) {
                        return Err("a label is given twice");
                    }
                    labels.push(Label { name: key.into(), value: value.into() });
                } else if quoted && labels.is_empty() {
                    labels.push(name(&key));
                } else {
                    return Err("a label has no value");
                }
                self.skip_blanks();
                if !self.take(',') && !self.rest.starts_with('}') {
                    return Err("a comma or a closing brace is missing");
                }
            }
        }
        self.skip_blanks();
        let value = self.word();
        let value: f64 = value
            .parse()
            .map_err(|_| if value.is_empty() { "a value is missing" } else { "a value is not a number" })?;
        let t_ms =
            if self.rest.is_empty() || self.rest.starts_with('#') { None } else { Some(timestamp(self.word())?) };
        if !self.rest.is_empty() && !self.rest.starts_with('#') {
            return Err("something follows the sample");
        }
        let labels = Labels::new(labels);
        if labels.metric_name().is_empty() {
            return Err("a name is missing");
        }
        Ok(TextSample { labels, value, t_ms })
    }
}

fn timestamp(word: &str) -> Result<i64, &'static str> {
    if let Ok(t_ms) = word.parse::<i64>() {
        return Ok(t_ms);
    }
    let seconds: f64 = word.parse().map_err(|_| "a timestamp is not a number")?;
    if !seconds.is_finite() || !word.contains('.') {
        return Err("a timestamp is not a number");
    }
    Ok((seconds * 1e3).round() as i64)
}

fn unescape_help(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some('n') => out.push('\n'),
                Some('\\') | None => out.push('\\'),
                Some(other) => out.extend(['\\', other]),
            },
            _ => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(text: &str) -> Vec<String> {
        let read = parse(text);
        let mut lines: Vec<String> = read
            .samples
            .iter()
            .map(|sample| {
                format!("{} {}{}", sample.labels, sample.value, sample.t_ms.map_or(String::new(), |t| format!(" @{t}")))
            })
            .collect();
        lines.extend(read.bad_lines.iter().map(|bad| format!("{}: {}", bad.line, bad.reason)));
        lines
    }

    #[test]
    fn samples_are_read() {
        assert_eq!(
            check("a 1\na{} 2\n  a { b = \"c\" , } 3 1700000000000\n"),
            ["a 1", "a 2", "a{b=\"c\"} 3 @1700000000000"]
        );
        assert_eq!(check("a{b=\"\\\\ \\n \\\" \\x é\"} +Inf"), ["a{b=\"\\\\ \\n \\\" \\\\x é\"} inf"]);
        assert_eq!(check("{\"a.b\",\"c d\"=\"e\"} NaN\r\n"), ["a.b{c d=\"e\"} NaN"]);
        assert_eq!(
            check("a_bucket{le=\"1\"} 3 # {trace_id=\"x\"} 0.5 1.5\na 1 12.5\n# EOF"),
            ["a_bucket{le=\"1\"} 3", "a 1 @12500"]
        );
    }

    #[test]
    fn bad_lines_are_told_and_the_rest_is_read() {
        assert_eq!(
            check(
                "a\nb x\nc{d} 1\nd{e=1} 1\ne{f=\"g} 1\nf 1 2 3\ng{a=\"1\" b=\"2\"} 1\n1a 1\nh{a=\"1\",a=\"2\"} 1\nok 1\n{a=\"b\"} 1\n# TYPE x nothing\nx 1 z"
            ),
            [
                "ok 1",
                "1: a value is missing",
                "2: a value is not a number",
                "3: a label has no value",
                "4: a label's value must be in quotes",
                "5: a quote is not closed",
                "6: something follows the sample",
                "7: a comma or a closing brace is missing",
                "8: a name is missing",
                "9: a label is given twice",
                "11: a name is missing",
                "12: an unknown type",
                "13: a timestamp is not a number",
            ]
        );
    }

    #[test]
    fn metadata_is_read() {
        let read = parse(
            "# HELP a_total Two\\nlines \\\\ and \\q\n# TYPE a_total counter\n# UNIT b_seconds seconds\n# just words\n#\n",
        );
        assert_eq!(read.metadata.len(), 2);
        assert_eq!(
            (read.metadata[0].kind, read.metadata[0].help.as_str()),
            (MetricType::Counter, "Two\nlines \\ and \\q")
        );
        assert_eq!(read.metadata[1].unit, "seconds");
    }

    proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig { failure_persistence: None, ..Default::default() })]
        #[test]
        fn any_text_is_no_panic(text in "[a-z{}=\"\\\\,# \n0-9é]{0,80}") {
            parse(&text);
        }
    }
}
