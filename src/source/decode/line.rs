//! Text lines cut by a named regex.

use super::shape::{DURATION_DIVISORS, DURATION_NAMES, outcome_says_failed, type_says_failed};
use super::{number, reason, when};
use crate::config::{Diagnostics, Spanned};
use crate::model::{Event, Shape, Text};

/// Cuts lines into events; each named group is a field.
#[derive(Debug)]
pub(super) struct Cutter {
    regex: regex::Regex,
    /// Names of the groups with their numbers.
    pub groups: Vec<(String, usize)>,
}

impl Cutter {
    /// Compiles `lines: {regex}`.
    pub fn compile(text: &Spanned<String>, has_default_type: bool, found: &mut Diagnostics) -> Option<Self> {
        let regex = match regex::Regex::new(&text.value) {
            Ok(regex) => regex,
            Err(error) => {
                found.error(&text.span, format!("the regex of `lines` does not compile: {error}"));
                return None;
            }
        };
        let groups: Vec<(String, usize)> = regex
            .capture_names()
            .enumerate()
            .filter_map(|(number, name)| name.map(|name| (name.to_owned(), number)))
            .collect();
        let example = r"^(?P<time>\S+) (?P<type>\S+) (?P<duration_ms>\d+)";
        if groups.is_empty() {
            found.error_hint(&text.span, "the regex of `lines` has no named group", format!("name them: {example}"));
            return None;
        }
        if !has_default_type && !groups.iter().any(|(name, _)| name == "type") {
            found.error_hint(
                &text.span,
                "lines have no type: the regex has no group named `type`",
                "add (?P<type>...), or `type:` beside `lines:` for all of them",
            );
            return None;
        }
        Some(Self { regex, groups })
    }

    /// Room for the places of one line's groups, to be used again and again.
    pub fn places(&self) -> regex::CaptureLocations {
        self.regex.capture_locations()
    }

    /// The event of a line that begins at byte `start` of the batch's buffer; afterwards `places` has its groups.
    pub fn cut(
        &self,
        line: &str,
        start: usize,
        default_type: Text,
        arena: &str,
        places: &mut regex::CaptureLocations,
    ) -> Result<Event, (&'static str, String)> {
        if self.regex.captures_read(places, line).is_none() {
            return Err((reason::NO_MATCH, "the line does not match the regex of `lines`".into()));
        }
        let group = |wanted: &str| -> (Text, &str) {
            let place = self
                .groups
                .iter()
                .find(|(name, _)| name == wanted)
                .and_then(|(_, number)| places.get(*number))
                .filter(|(from, to)| from < to);
            match place {
                Some((from, to)) => (Text::in_buffer((start + from) as u32, (to - from) as u32), &line[from..to]),
                None => (Text::NONE, ""),
            }
        };
        let (mut event_type, mut type_str) = group("type");
        if event_type.is_none() {
            if default_type.is_none() {
                return Err((reason::NO_TYPE, "the line's group `type` is empty".into()));
            }
            (event_type, type_str) = (default_type, default_type.resolve("", arena));
        }
        let (time, time_str) = group("time");
        let moment = when::read(time_str);
        let outcome = ["status", "result", "outcome"].map(group);
        let failing = outcome.iter().find(|(_, text)| outcome_says_failed(text));
        let (outcome, _) =
            failing.or(outcome.iter().find(|(text, _)| !text.is_none())).copied().unwrap_or((Text::NONE, ""));
        let severity = match group("severity").0 {
            none if none.is_none() => group("level").0,
            some => some,
        };
        let duration = DURATION_NAMES.iter().zip(DURATION_DIVISORS);
        let duration_seconds = duration
            .filter_map(|(name, divisor)| Some(number::read(group(name).1)? / divisor))
            .next()
            .unwrap_or(f64::NAN);
        Ok(Event {
            event_type,
            id: group("id").0,
            source: group("source").0,
            subject: group("subject").0,
            correlation: group("correlation").0,
            causation: Text::NONE,
            trace_id: Text::NONE,
            span_id: Text::NONE,
            outcome,
            severity,
            time: moment,
            time_invalid: !time.is_none() && moment.is_none(),
            duration_seconds,
            attempt: 1,
            priority: 5,
            expires: Event::NEVER,
            failed: failing.is_some() || type_says_failed(type_str),
            weight: 1.0,
            shape: Shape::Line,
            raw: Text::in_buffer(start as u32, line.len() as u32),
        })
    }
}
