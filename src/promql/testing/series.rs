//! The series notation of tests: `http_requests{job="a"} 0+10x5 _ stale {{schema:1 count:3 buckets:[1 2]}}`.

use crate::model::{Labels, METRIC_NAME};
use crate::promql::number::{parse_float, parse_literal, unquote};
use crate::series::data::STALE_NAN_BITS;
use crate::series::{FloatHistogram, ResetHint, Span};
use std::sync::Arc;

/// How many points one item (`1x1000`) may stand for.
const MAX_POINTS_PER_ITEM: usize = 1_000_000;

/// A value of the notation.
#[derive(Clone, Debug, PartialEq)]
pub enum PointValue {
    /// A number; `stale` is the stale NaN.
    Float(f64),
    /// A histogram, and whether its `counter_reset_hint` was written.
    #[expect(missing_docs, reason = "said above")]
    Histogram { histogram: Arc<FloatHistogram>, hint_given: bool },
}

/// One point; `None` is a gap (`_`).
pub type Point = Option<PointValue>;

/// A series as it is written.
#[derive(Clone, Debug, PartialEq)]
pub struct SeriesNotation {
    /// The labels, the metric's name among them.
    pub labels: Labels,
    /// Whether the line gives start timestamps (`metric@st -1m`), which are in `start_offsets`.
    pub is_start: bool,
    /// Values, one for each interval.
    pub points: Vec<Point>,
    /// Start timestamps relative to the samples, in milliseconds.
    pub start_offsets: Vec<Option<i64>>,
}

/// Reads one line of the notation.
///
/// # Errors
/// A sentence that says what is wrong.
pub fn parse_series(line: &str) -> Result<SeriesNotation, String> {
    let mut reader = Reader { text: line, at: 0 };
    reader.blanks();
    let labels = reader.labels()?;
    let is_start = reader.take("@st");
    let mut notation = SeriesNotation { labels, is_start, points: Vec::new(), start_offsets: Vec::new() };
    reader.values(&mut notation)?;
    Ok(notation)
}

/// Reads only the values, as the `values` of promtool's rule tests and expected histograms are written.
///
/// # Errors
/// A sentence that says what is wrong.
pub fn parse_values(text: &str) -> Result<Vec<Point>, String> {
    let mut notation =
        SeriesNotation { labels: Labels::default(), is_start: false, points: Vec::new(), start_offsets: Vec::new() };
    Reader { text, at: 0 }.values(&mut notation)?;
    Ok(notation.points)
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    fn values(&mut self, notation: &mut SeriesNotation) -> Result<(), String> {
        loop {
            self.blanks();
            if self.rest().is_empty() {
                return Ok(());
            }
            let before = notation.points.len() + notation.start_offsets.len();
            if notation.is_start {
                self.start_item(&mut notation.start_offsets)?;
            } else {
                self.item(&mut notation.points)?;
            }
            if notation.points.len() + notation.start_offsets.len() - before > MAX_POINTS_PER_ITEM {
                return Err(format!("more than {MAX_POINTS_PER_ITEM} points in one item"));
            }
            if !self.rest().is_empty() && !self.rest().starts_with([' ', '\t']) {
                return Err(format!("unexpected {:?} in series values", self.word()));
            }
        }
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn blanks(&mut self) {
        self.at = self.text.len() - self.rest().trim_start_matches([' ', '\t']).len();
    }

    fn take(&mut self, text: &str) -> bool {
        let found = self.rest().starts_with(text);
        if found {
            self.at += text.len();
        }
        found
    }

    fn word(&self) -> &'a str {
        let rest = self.rest();
        &rest[..rest.find([' ', '\t']).unwrap_or(rest.len())]
    }

    fn run(&mut self, accept: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let run = &rest[..rest.find(|c| !accept(c)).unwrap_or(rest.len())];
        self.at += run.len();
        run
    }

    fn string(&mut self) -> Result<String, String> {
        let rest = self.rest();
        let quote = rest.chars().next().unwrap_or(' ');
        let mut escaped = false;
        for (at, c) in rest.char_indices().skip(1) {
            match c {
                _ if escaped => escaped = false,
                '\\' if quote != '`' => escaped = true,
                _ if c == quote => {
                    self.at += at + 1;
                    let bytes = unquote(&rest[..=at]).map_err(str::to_owned)?;
                    return String::from_utf8(bytes).map_err(|_| "a label that is not UTF-8".to_owned());
                }
                _ => {}
            }
        }
        Err("unterminated quoted string".into())
    }

    fn labels(&mut self) -> Result<Labels, String> {
        let name = self.run(|c| c.is_ascii_alphanumeric() || c == '_' || c == ':');
        let mut pairs = Vec::new();
        if !name.is_empty() {
            pairs.push((METRIC_NAME.to_owned(), name.to_owned()));
        }
        self.blanks();
        if self.rest().starts_with("{{") || !self.take("{") {
            return if name.is_empty() {
                Err(format!("no series in {:?}", self.text))
            } else {
                Ok(Labels::from_pairs(pairs))
            };
        }
        loop {
            self.blanks();
            if self.take("}") {
                return Ok(Labels::from_pairs(pairs));
            }
            let quoted = self.rest().starts_with(['"', '\'', '`']);
            let label =
                if quoted { self.string()? } else { self.run(|c| c.is_ascii_alphanumeric() || c == '_').to_owned() };
            self.blanks();
            if self.take("=") {
                self.blanks();
                if label.is_empty() || !self.rest().starts_with(['"', '\'', '`']) {
                    return Err(format!("label set: a label and a quoted value are expected at {:?}", self.rest()));
                }
                pairs.push((label, self.string()?));
            } else if quoted {
                pairs.push((METRIC_NAME.to_owned(), label));
            } else {
                return Err(format!("unexpected {:?} in label set", self.word()));
            }
            self.blanks();
            if !self.take(",") && !self.rest().starts_with('}') {
                return Err(format!("unexpected {:?} in label set, expected \",\" or \"}}\"", self.word()));
            }
        }
    }

    fn times(&mut self) -> Result<Option<usize>, String> {
        if !self.take("x") {
            return Ok(None);
        }
        let digits = self.run(|c| c.is_ascii_digit());
        match digits.parse() {
            Ok(times) if times <= MAX_POINTS_PER_ITEM => Ok(Some(times)),
            _ => Err(format!("invalid repetition in series values: {digits:?}")),
        }
    }

    fn item(&mut self, points: &mut Vec<Point>) -> Result<(), String> {
        if self.take("_") {
            let times = self.times()?.unwrap_or(1);
            points.extend(std::iter::repeat_n(None, times));
            return Ok(());
        }
        if self.rest().starts_with("{{") {
            return self.histogram_item(points);
        }
        let word = self.word();
        if word == "stale" || word.starts_with("stalex") {
            self.at += "stale".len();
            let times = self.times()?.unwrap_or(0);
            points.extend(std::iter::repeat_n(Some(PointValue::Float(f64::from_bits(STALE_NAN_BITS))), times + 1));
            return Ok(());
        }
        let mut value = self.signed_number()?;
        let step = if self.rest().starts_with(['+', '-']) { self.signed_number()? } else { 0.0 };
        let times = self.times()?.unwrap_or(0);
        for _ in 0..=times {
            points.push(Some(PointValue::Float(value)));
            // Repeated addition, as the language defines it: its rounding is part of the series.
            value += step;
        }
        Ok(())
    }

    fn signed_number(&mut self) -> Result<f64, String> {
        let negative = self.take("-");
        if !negative {
            self.take("+");
        }
        let value = self.number()?;
        Ok(if negative { -value } else { value })
    }

    /// A number without sign; hexadecimal ones would clash with `0x3`.
    fn number(&mut self) -> Result<f64, String> {
        let rest = self.rest();
        for word in ["inf", "nan"] {
            if rest.get(..3).is_some_and(|start| start.eq_ignore_ascii_case(word)) {
                self.at += 3;
                return parse_float(word).ok_or_else(|| "not a number".to_owned());
            }
        }
        let digits = |at: usize| at + rest[at..].find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len() - at);
        let mut end = digits(0);
        if rest[end..].starts_with('.') {
            end = digits(end + 1);
        }
        if rest[end..].starts_with(['e', 'E']) {
            let sign = usize::from(rest[end + 1..].starts_with(['+', '-']));
            let exponent = digits(end + 1 + sign);
            if exponent > end + 1 + sign {
                end = exponent;
            }
        }
        self.at += end;
        parse_literal(&rest[..end]).ok_or_else(|| format!("a number or \"stale\" is expected at {rest:?}"))
    }

    /// `-30s`, `-1m-1mx2`, `_x3`: start timestamps relative to their samples.
    fn start_item(&mut self, offsets: &mut Vec<Option<i64>>) -> Result<(), String> {
        if self.take("_") {
            let times = self.times()?.unwrap_or(1);
            offsets.extend(std::iter::repeat_n(None, times));
            return Ok(());
        }
        let mut offset = self.signed_duration()?;
        let step = if self.rest().starts_with(['+', '-']) { self.signed_duration()? } else { 0 };
        let times = self.times()?.unwrap_or(0);
        for _ in 0..=times {
            offsets.push(Some(offset));
            offset = offset.saturating_add(step);
        }
        Ok(())
    }

    fn signed_duration(&mut self) -> Result<i64, String> {
        let negative = self.take("-");
        if !negative {
            self.take("+");
        }
        let rest = self.rest();
        let end = rest.find(|c: char| !c.is_ascii_digit() && !"mshdwy".contains(c)).unwrap_or(rest.len());
        let text = &rest[..end];
        self.at += end;
        let ms = if text.bytes().all(|b| b == b'0') && !text.is_empty() {
            0
        } else {
            crate::model::parse_duration_ms(text)?
        };
        Ok(if negative { -ms } else { ms })
    }

    fn histogram_item(&mut self, points: &mut Vec<Point>) -> Result<(), String> {
        let (first, hint_given) = self.histogram()?;
        let sign = self.rest().chars().next();
        let step = match sign {
            Some('+' | '-') => {
                self.at += 1;
                Some(self.histogram()?.0)
            }
            _ => None,
        };
        let times = self.times()?.unwrap_or(0);
        let mut value = first;
        for at in 0..=times {
            if at > 0
                && let Some(step) = &step
            {
                let sum = if sign == Some('-') { value.minus(step) } else { value.plus(step) };
                let hint = value.reset_hint;
                value = sum.map_err(|error| error.to_string())?.0;
                value.reset_hint = hint;
            }
            points.push(Some(PointValue::Histogram { histogram: Arc::new(value.clone()), hint_given }));
        }
        Ok(())
    }

    fn histogram(&mut self) -> Result<(FloatHistogram, bool), String> {
        if !self.take("{{") {
            return Err(format!("a histogram is expected at {:?}", self.rest()));
        }
        let mut histogram = FloatHistogram::default();
        let (mut hint_given, mut offset, mut negative_offset) = (false, 0, 0);
        loop {
            self.blanks();
            if self.take("}}") {
                break;
            }
            let key = self.run(|c| c.is_ascii_alphanumeric() || c == '_');
            if !self.take(":") {
                return Err(format!("unexpected {:?} in histogram, expected a key and \":\"", self.word()));
            }
            self.blanks();
            match key {
                "schema" => histogram.schema = self.integer()?,
                "sum" => histogram.sum = self.signed_number()?,
                "count" => histogram.count = self.signed_number()?,
                "z_bucket" => histogram.zero_count = self.signed_number()?,
                "z_bucket_w" => histogram.zero_threshold = self.signed_number()?,
                "custom_values" => histogram.custom_values = self.list()?,
                "buckets" => histogram.positive_buckets = self.list()?,
                "n_buckets" => histogram.negative_buckets = self.list()?,
                "offset" => offset = self.integer()?,
                "n_offset" => negative_offset = self.integer()?,
                "counter_reset_hint" => {
                    hint_given = true;
                    histogram.reset_hint = match self.run(|c| c.is_ascii_alphabetic() || c == '_') {
                        "unknown" => ResetHint::Unknown,
                        "reset" => ResetHint::Reset,
                        "not_reset" => ResetHint::NotReset,
                        "gauge" => ResetHint::Gauge,
                        other => return Err(format!("unknown counter_reset_hint {other:?}")),
                    };
                }
                other => return Err(format!("unknown key {other:?} in histogram")),
            }
        }
        let spans = |offset: i32, counts: &[f64]| match u32::try_from(counts.len()) {
            Ok(length) if length > 0 => vec![Span { offset, length }],
            _ => Vec::new(),
        };
        histogram.positive_spans = spans(offset, &histogram.positive_buckets);
        histogram.negative_spans = spans(negative_offset, &histogram.negative_buckets);
        Ok((histogram, hint_given))
    }

    fn integer(&mut self) -> Result<i32, String> {
        let digits = self.run(|c| c.is_ascii_digit() || c == '-' || c == '+');
        digits.parse().map_err(|_| format!("an integer is expected, got {digits:?}"))
    }

    fn list(&mut self) -> Result<Vec<f64>, String> {
        if !self.take("[") {
            return Err(format!("\"[\" is expected at {:?}", self.rest()));
        }
        let mut values = Vec::new();
        loop {
            self.blanks();
            if self.take("]") {
                return Ok(values);
            }
            values.push(self.signed_number()?);
        }
    }
}
