//! The text expositions: Prometheus 0.0.4 and 1.0.0 ("Exposition formats", prometheus.io), and OpenMetrics 1.0.0, which is
//! stricter. One mistake gives up the whole exposition, as in Prometheus: half a scrape would look like vanished series.

use super::cache::{Reason, Sampled, SeriesCache};
use super::convert::Converter;
use super::relabel::LabelBuilder;
use crate::model::METRIC_NAME;
use std::borrow::Cow;

/// Characters that an exemplar's labels may have in all (OpenMetrics 1.0, "Exemplars").
const EXEMPLAR_CHARS: usize = 128;

/// Which text format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    Prometheus,
    OpenMetrics,
}

/// A line that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BadLine {
    /// From 1.
    pub line: usize,
    pub reason: Reason,
    /// The line, cut.
    pub text: String,
}

/// Reads a whole exposition.
/// With `convert` classic histograms become native ones with custom bounds.
pub(super) fn parse(body: &[u8], dialect: Dialect, convert: bool, into: &mut SeriesCache) -> Result<(), BadLine> {
    let mut converter = convert.then(Converter::default);
    let text = match std::str::from_utf8(body) {
        Ok(text) => text,
        Err(error) => {
            let line = memchr::memchr_iter(b'\n', &body[..error.valid_up_to()]).count() + 1;
            return Err(BadLine { line, reason: "not UTF-8", text: String::new() });
        }
    };
    let (mut at, mut number, mut ended) = (0, 0, false);
    while at < text.len() {
        number += 1;
        let end = memchr::memchr(b'\n', &text.as_bytes()[at..]).map_or(text.len(), |length| at + length);
        let line = &text[at..end];
        at = end + 1;
        let outcome = match dialect {
            _ if ended => Err("something stands after # EOF"),
            Dialect::Prometheus => prometheus_line(line, &mut converter, into),
            Dialect::OpenMetrics if line == "# EOF" => {
                ended = true;
                Ok(())
            }
            Dialect::OpenMetrics => open_metrics_line(line, &mut converter, into),
        };
        if let Err(reason) = outcome {
            return Err(BadLine { line: number, reason, text: line.chars().take(120).collect() });
        }
    }
    if dialect == Dialect::OpenMetrics && !ended {
        return Err(BadLine { line: number + 1, reason: "# EOF is missing", text: String::new() });
    }
    match converter.map_or(Ok(()), |converter| converter.finish(into)) {
        Ok(()) => Ok(()),
        Err(reason) => Err(BadLine { line: number, reason, text: String::new() }),
    }
}

/// Hands a sample over, as itself or as a part of a histogram.
fn emit(
    (raw, strict): (&str, bool),
    value: f64,
    t_ms: Option<i64>,
    converter: &mut Option<Converter>,
    into: &mut SeriesCache,
) -> Result<(), Reason> {
    if let Some(converter) = converter {
        let mut labels = LabelBuilder::default();
        read_labels(raw, strict, &mut labels)?;
        if converter.take(labels, value, t_ms, into)? {
            return Ok(());
        }
    }
    into.sample(raw.as_bytes(), Sampled::Float(value), t_ms, 0, |labels| read_labels(raw, strict, labels))
}

fn prometheus_line(line: &str, converter: &mut Option<Converter>, into: &mut SeriesCache) -> Result<(), Reason> {
    let line = line.strip_suffix('\r').unwrap_or(line).trim_start_matches([' ', '\t']);
    let mut cursor = Cursor { rest: line, strict: false };
    if line.is_empty() {
        return Ok(());
    }
    if cursor.take('#') {
        cursor.blanks()?;
        let word = cursor.word();
        return match word {
            "HELP" | "TYPE" => cursor.metadata(word, into),
            _ => Ok(()),
        };
    }
    let (raw, after) = series(line, into)?;
    cursor.rest = after;
    cursor.blanks()?;
    let value = cursor.value(raw)?;
    cursor.blanks()?;
    let stamp = cursor.word();
    cursor.blanks()?;
    if !cursor.rest.is_empty() {
        return Err("something stands after the timestamp");
    }
    let t_ms = match stamp {
        "" => None,
        stamp => Some(stamp.parse::<i64>().map_err(|_| "a timestamp is not a whole number of milliseconds")?),
    };
    emit((raw, false), value, t_ms, converter, into)
}

fn open_metrics_line(line: &str, converter: &mut Option<Converter>, into: &mut SeriesCache) -> Result<(), Reason> {
    if line.is_empty() {
        return Err("an empty line");
    }
    if let Some(comment) = line.strip_prefix("# ") {
        let mut cursor = Cursor { rest: comment, strict: true };
        let word = cursor.word();
        if !matches!(word, "HELP" | "TYPE" | "UNIT") {
            return Err("a comment that is none of HELP, TYPE, UNIT and EOF");
        }
        cursor.blanks()?;
        return cursor.metadata(word, into);
    }
    let (raw, after) = series(line, into)?;
    let mut cursor = Cursor { rest: after, strict: true };
    cursor.blanks()?;
    let value = cursor.value(raw)?;
    let mut t_ms = None;
    if !cursor.rest.is_empty() && !cursor.rest.starts_with(" # ") {
        cursor.blanks()?;
        t_ms = Some(seconds(cursor.word())?);
    }
    if let Some(exemplar) = cursor.rest.strip_prefix(" # ") {
        cursor.rest = exemplar;
        cursor.exemplar()?;
    }
    if !cursor.rest.is_empty() {
        return Err("something stands after the sample");
    }
    emit((raw, true), value, t_ms, converter, into)
}

/// The raw bytes of the series at the beginning of a line, and what follows. The one that is expected is compared first.
fn series<'a>(line: &'a str, into: &SeriesCache) -> Result<(&'a str, &'a str), Reason> {
    let expected = into.expected();
    if !expected.is_empty()
        && line.as_bytes().starts_with(expected)
        && line.as_bytes().get(expected.len()) == Some(&b' ')
    {
        let (raw, after) = line.split_at(expected.len());
        // `name {` is the same series as `name{`, and a longer one than the expected `name`.
        if raw.ends_with('}') || !after.trim_start_matches([' ', '\t']).starts_with('{') {
            return Ok((raw, after));
        }
    }
    let bytes = line.as_bytes();
    let name_end = bytes.iter().position(|byte| matches!(byte, b'{' | b' ' | b'\t')).unwrap_or(bytes.len());
    let open = name_end + bytes[name_end..].iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    if bytes.get(open) != Some(&b'{') {
        return Ok(line.split_at(name_end));
    }
    let (mut at, mut quoted) = (open + 1, false);
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'\\' if quoted => at += 1,
            b'"' => quoted = !quoted,
            b'}' if !quoted => return Ok(line.split_at(at + 1)),
            _ => {}
        }
        at += 1;
    }
    Err(if quoted { "a quote is not closed" } else { "a brace is not closed" })
}

/// A value: what Go's `ParseFloat` reads, without hexadecimal and underscores.
fn number(text: &str) -> Result<f64, Reason> {
    let bytes = text.as_bytes();
    // Most values are counters: whole numbers below 2^53 need no float parser.
    if !bytes.is_empty() && bytes.len() <= 15 && bytes.iter().all(u8::is_ascii_digit) {
        return Ok(bytes.iter().fold(0_u64, |sum, digit| sum * 10 + u64::from(digit - b'0')) as f64);
    }
    match text.parse::<f64>() {
        // Whatever NaN it is, it must not be the one that marks an end.
        Ok(value) if value.is_nan() => Ok(f64::NAN),
        Ok(value) => Ok(value),
        Err(_) if text.is_empty() => Err("a value is missing"),
        Err(_) => Err("a value is not a number"),
    }
}

/// OpenMetrics' timestamps: seconds, fractions allowed.
fn seconds(text: &str) -> Result<i64, Reason> {
    let seconds = number(text).map_err(|_| "a timestamp is not a number")?;
    if !seconds.is_finite() || seconds.abs() > 9e15 {
        return Err("a timestamp is not a moment");
    }
    Ok((seconds * 1e3).round() as i64)
}

/// The labels of a series from its raw bytes, the name among them.
fn read_labels(raw: &str, strict: bool, into: &mut LabelBuilder) -> Result<(), Reason> {
    let mut cursor = Cursor { rest: raw, strict };
    let mut named = false;
    if !raw.starts_with('{') {
        into.pairs.push((METRIC_NAME.into(), cursor.name(true)?.into()));
        named = true;
        cursor.skip();
    }
    if cursor.rest.is_empty() {
        return Ok(());
    }
    if !cursor.take('{') {
        return Err("a name holds a character that it cannot");
    }
    cursor.labels(into, named)
}

struct Cursor<'a> {
    rest: &'a str,
    /// OpenMetrics: one space between words, none elsewhere.
    strict: bool,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, c: char) -> bool {
        let taken = self.rest.strip_prefix(c);
        self.rest = taken.unwrap_or(self.rest);
        taken.is_some()
    }

    /// Blanks between words: any in Prometheus's format, exactly one space in OpenMetrics.
    fn blanks(&mut self) -> Result<(), Reason> {
        if !self.strict {
            self.rest = self.rest.trim_start_matches([' ', '\t']);
        } else if self.rest.is_empty() || self.rest.starts_with('{') {
            // Nothing follows, or the labels directly.
        } else if !self.take(' ') || self.rest.starts_with([' ', '\t']) {
            return Err("exactly one space must stand between two words");
        }
        Ok(())
    }

    /// Blanks where OpenMetrics has none.
    fn skip(&mut self) {
        if !self.strict {
            self.rest = self.rest.trim_start_matches([' ', '\t']);
        }
    }

    fn word(&mut self) -> &'a str {
        let end = self.rest.bytes().position(|byte| matches!(byte, b' ' | b'\t')).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word
    }

    /// The value of a series; what is wrong with the series itself is said first.
    fn value(&mut self, raw: &str) -> Result<f64, Reason> {
        number(self.word())
            .map_err(|reason| read_labels(raw, self.strict, &mut LabelBuilder::default()).err().unwrap_or(reason))
    }

    fn name(&mut self, colons: bool) -> Result<&'a str, Reason> {
        let takes = |at: usize, byte: u8| {
            byte.is_ascii_alphabetic() || byte == b'_' || (colons && byte == b':') || (at > 0 && byte.is_ascii_digit())
        };
        let end = self.rest.bytes().enumerate().position(|(at, byte)| !takes(at, byte)).unwrap_or(self.rest.len());
        if end == 0 {
            return Err("a name is missing");
        }
        let (name, rest) = self.rest.split_at(end);
        self.rest = rest;
        Ok(name)
    }

    /// A text in quotes, the opening one taken already.
    fn quoted(&mut self) -> Result<Cow<'a, str>, Reason> {
        let mut at = 0;
        let mut escaped = false;
        loop {
            match self.rest.as_bytes().get(at) {
                None => return Err("a quote is not closed"),
                Some(b'"') => break,
                Some(b'\\') => {
                    escaped = true;
                    at += 2;
                }
                Some(_) => at += 1,
            }
        }
        let (text, rest) = self.rest.split_at(at);
        self.rest = &rest[1..];
        if escaped { Ok(Cow::Owned(unescape(text, true, self.strict)?)) } else { Ok(Cow::Borrowed(text)) }
    }

    /// The labels up to the closing brace, which is taken.
    fn labels(&mut self, into: &mut LabelBuilder, mut named: bool) -> Result<(), Reason> {
        // Where the brace may stand: at the beginning, and in Prometheus's format after a comma as well.
        let mut may_end = true;
        loop {
            self.skip();
            if may_end && self.take('}') {
                break;
            }
            let quoted = self.take('"');
            let key = if quoted { self.quoted()? } else { Cow::Borrowed(self.name(false)?) };
            self.skip();
            if self.take('=') {
                self.skip();
                if !self.take('"') {
                    return Err("a label's value must be in quotes");
                }
                let value = self.quoted()?;
                if key.is_empty() {
                    return Err("a name is missing");
                }
                if into.has(&key) {
                    return Err("a label is given twice");
                }
                into.pairs.push((key.into_owned(), value.into_owned()));
            } else if quoted && !named && !key.is_empty() {
                named = true;
                into.pairs.push((METRIC_NAME.into(), key.into_owned()));
            } else {
                return Err("a label has no value");
            }
            self.skip();
            if self.take(',') {
                may_end = !self.strict;
                continue;
            }
            if self.take('}') {
                break;
            }
            return Err("a comma or a brace is missing between labels");
        }
        if !self.rest.is_empty() && !self.strict && !self.rest.starts_with([' ', '\t']) {
            return Err("a blank is missing after the labels");
        }
        if named { Ok(()) } else { Err("a series has no name") }
    }

    /// An exemplar is checked and given up: exemplars are not kept for queries.
    fn exemplar(&mut self) -> Result<(), Reason> {
        let mut labels = LabelBuilder::default();
        if !self.take('{') {
            return Err("an exemplar begins with a brace");
        }
        if !self.take('}') {
            self.labels(&mut labels, true)?;
        }
        let length: usize = labels.pairs.iter().map(|(name, value)| name.chars().count() + value.chars().count()).sum();
        if length > EXEMPLAR_CHARS {
            return Err("an exemplar's labels are longer than 128 characters");
        }
        self.blanks()?;
        number(self.word()).map_err(|_| "an exemplar's value is not a number")?;
        if !self.rest.is_empty() {
            self.blanks()?;
            seconds(self.word())?;
        }
        Ok(())
    }

    /// What follows HELP, TYPE or UNIT.
    fn metadata(&mut self, word: &str, into: &mut SeriesCache) -> Result<(), Reason> {
        self.skip();
        let name = if self.take('"') { self.quoted()? } else { Cow::Borrowed(self.name(true)?) };
        if !self.rest.is_empty() && !self.rest.starts_with([' ', '\t']) {
            return Err("a name holds a character that it cannot");
        }
        self.blanks()?;
        let known = into.described(&name);
        match word {
            "TYPE" => {
                let kind = kind(self.rest.trim_end_matches([' ', '\t']), self.strict)?;
                if known.is_none_or(|known| known.kind != kind) {
                    into.describe(&name, |family| family.kind = kind);
                    into.tell(&name);
                }
            }
            "UNIT" => {
                if !self.rest.is_empty() && !name.strip_suffix(self.rest).is_some_and(|rest| rest.ends_with('_')) {
                    return Err("a unit is not the end of the metric's name");
                }
                if known.is_none_or(|known| known.unit != self.rest) {
                    into.describe(&name, |family| self.rest.clone_into(&mut family.unit));
                    into.tell(&name);
                }
            }
            _ => {
                let help = if self.rest.contains('\\') {
                    Cow::Owned(unescape(self.rest, self.strict, false)?)
                } else {
                    Cow::Borrowed(self.rest)
                };
                if known.is_none_or(|known| known.help != help) {
                    into.describe(&name, |family| family.help = help.into_owned());
                    into.tell(&name);
                }
            }
        }
        Ok(())
    }
}

/// The type of a family.
fn kind(name: &str, strict: bool) -> Result<&'static str, Reason> {
    Ok(match name {
        "counter" => "counter",
        "gauge" => "gauge",
        "histogram" => "histogram",
        "summary" => "summary",
        "untyped" if !strict => "unknown",
        "gaugehistogram" => "gaugehistogram",
        "info" => "info",
        "stateset" => "stateset",
        "unknown" => "unknown",
        _ => return Err("an unknown type"),
    })
}

fn unescape(text: &str, quotes: bool, strict: bool) -> Result<String, Reason> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        match rest.chars().next() {
            Some('n') => out.push('\n'),
            Some('\\') => out.push('\\'),
            Some('"') if quotes => out.push('"'),
            Some(_) if strict => return Err("an unknown escape"),
            // As Prometheus does: an unknown escape stays as it is.
            Some(other) => out.extend(['\\', other]),
            None => out.push('\\'),
        }
        rest = rest.chars().next().map_or(rest, |c| &rest[c.len_utf8()..]);
    }
    out.push_str(rest);
    Ok(out)
}
