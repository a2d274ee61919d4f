//! What an `eval` command expects.

use crate::promql::number::{parse_float, unquote};
use crate::promql::testing::series::{SeriesNotation, parse_series};
use regex::Regex;

/// How a message is compared.
#[derive(Clone, Debug)]
pub(super) enum Match {
    Exact(String),
    Pattern(Regex),
}

impl Match {
    pub fn matches(&self, message: &str) -> bool {
        match self {
            Self::Exact(text) => text == message,
            Self::Pattern(regex) => regex.is_match(message),
        }
    }
}

impl std::fmt::Display for Match {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exact(text) => f.write_str(text),
            Self::Pattern(regex) => write!(f, "(regex) {regex}"),
        }
    }
}

/// What an `eval` command expects.
#[derive(Clone, Debug, Default)]
pub(super) struct Expectation {
    pub fail: bool,
    pub fail_message: Option<Match>,
    pub ordered: bool,
    pub any_warning: bool,
    pub any_info: bool,
    pub no_warning: bool,
    pub no_info: bool,
    pub warnings: Vec<Match>,
    pub infos: Vec<Match>,
    pub scalar: Option<f64>,
    pub string: Option<String>,
    /// Of `expect range vector`: start, end, step.
    pub range_vector: Option<(i64, i64, i64)>,
    pub series: Vec<SeriesNotation>,
}

/// `msg: text` or `regex: text`; quotes around the text are its own.
fn read_match(text: &str) -> Result<Option<Match>, String> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(None);
    }
    if let Some(message) = text.strip_prefix("msg:") {
        return Ok(Some(Match::Exact(message.trim().to_owned())));
    }
    match text.strip_prefix("regex:") {
        Some(pattern) => {
            Regex::new(pattern.trim()).map(|regex| Some(Match::Pattern(regex))).map_err(|error| error.to_string())
        }
        None => Err(format!("expected msg: or regex:, got {text:?}")),
    }
}

impl Expectation {
    /// Reads a line of the command's body.
    pub fn read_line(&mut self, line: &str) -> Result<(), String> {
        if let Some(message) = line.strip_prefix("expected_fail_message") {
            self.fail_message = Some(Match::Exact(message.trim().to_owned()));
            return Ok(());
        }
        if let Some(pattern) = line.strip_prefix("expected_fail_regexp") {
            let regex = Regex::new(pattern.trim()).map_err(|error| error.to_string())?;
            self.fail_message = Some(Match::Pattern(regex));
            return Ok(());
        }
        if let Some(rest) = line.strip_prefix("expect").filter(|rest| rest.starts_with([' ', '\t'])) {
            return self.read_expect(rest.trim());
        }
        if let Some(value) = parse_float(line) {
            self.scalar = Some(value);
            return Ok(());
        }
        let series = parse_series(line).map_err(|message| format!("{line}: {message}"))?;
        self.series.retain(|known| known.labels != series.labels);
        self.series.push(series);
        Ok(())
    }

    fn read_expect(&mut self, text: &str) -> Result<(), String> {
        let (kind, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        match kind {
            "range" => {
                let words: Vec<&str> = rest.split_whitespace().collect();
                let ["vector", "from", start, "to", end, "step", step] = words[..] else {
                    return Err(format!("expected \"range vector from A to B step S\", got {text:?}"));
                };
                self.range_vector = Some((super::moment(start)?, super::moment(end)?, super::moment(step)?));
            }
            "string" => {
                let bytes = unquote(rest.trim()).map_err(str::to_owned)?;
                self.string = Some(String::from_utf8(bytes).map_err(|error| error.to_string())?);
            }
            "ordered" => self.ordered = true,
            "no_warn" => self.no_warning = true,
            "no_info" => self.no_info = true,
            "fail" => {
                self.fail = true;
                self.fail_message = read_match(rest)?;
            }
            "warn" => {
                self.any_warning = true;
                self.warnings.extend(read_match(rest)?);
            }
            "info" => {
                self.any_info = true;
                self.infos.extend(read_match(rest)?);
            }
            _ => return Err(format!("unknown expectation {kind:?}")),
        }
        Ok(())
    }

    /// Whether the value at the middle of a range query has to be the same.
    pub fn may_run_as_range(&self) -> bool {
        self.string.is_none() && self.range_vector.is_none()
    }
}
