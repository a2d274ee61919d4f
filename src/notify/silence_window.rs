//! Silences and maintenance windows that stand in the configuration.

use super::intervals::{self, Intervals, TimeInterval};
use super::matcher::{self, Matcher};
use super::silence::{CONFIGURATION, Silence, check_matchers};
use crate::config::diagnostic::nearest;
use crate::config::schema::{IntervalConfig, SilenceConfig, SilenceTimes};
use crate::config::{Diagnostics, Spanned};
use crate::model::Timestamp;
use std::sync::Arc;

const NEVER: Timestamp = Timestamp::from_micros(i64::MAX);

/// One entry of `notify: silences:`, checked.
#[derive(Clone, Debug)]
pub(super) struct ConfiguredSilence {
    id: Arc<str>,
    matchers: Vec<Matcher>,
    starts: Option<Timestamp>,
    ends: Option<Timestamp>,
    /// Holds only within these; empty means from `starts` to `ends`.
    windows: Vec<TimeInterval>,
    comment: String,
}

impl ConfiguredSilence {
    /// The silence with the times of its present or next window.
    pub(super) fn at(&self, now: Timestamp) -> Silence {
        let (first, last) = (self.starts.unwrap_or(Timestamp::EPOCH), self.ends.unwrap_or(NEVER));
        let (starts_at, ends_at) = if self.windows.is_empty() {
            (first, last)
        } else {
            match TimeInterval::window(&self.windows, now.max(first)) {
                Some((start, end)) if start < last => (start.max(first), end.min(last)),
                // No time of it is left.
                _ => (last.min(now), last.min(now)),
            }
        };
        Silence {
            id: self.id.clone(),
            matchers: self.matchers.clone(),
            starts_at,
            ends_at,
            updated_at: starts_at.min(now),
            created_by: CONFIGURATION.into(),
            comment: self.comment.clone(),
            configured: true,
        }
    }
}

/// Checks the entries of `notify: silences:`. `None` when one cannot be used; every mistake is in `found`.
pub(super) fn compile(
    entries: &[SilenceConfig],
    intervals: &Intervals,
    found: &mut Diagnostics,
) -> Option<Vec<ConfiguredSilence>> {
    let mut compiled: Vec<ConfiguredSilence> = Vec::with_capacity(entries.len());
    let mut usable = true;
    for entry in entries {
        match compile_one(entry, intervals, found) {
            Some(mut silence) => {
                // Two entries that are alike are told apart by their order.
                let alike = compiled.iter().filter(|known| known.id[..24] == silence.id[..24]).count();
                silence.id = format!("{}{alike:012x}", &silence.id[..24]).into();
                compiled.push(silence);
            }
            None => usable = false,
        }
    }
    usable.then_some(compiled)
}

fn compile_one(entry: &SilenceConfig, intervals: &Intervals, found: &mut Diagnostics) -> Option<ConfiguredSilence> {
    let mut matchers = Vec::new();
    let mut usable = true;
    for text in &entry.matchers {
        match matcher::parse(&text.value) {
            Ok(parsed) => matchers.extend(parsed),
            Err(reason) => {
                usable = false;
                found.error_hint(&text.span, reason, "a matcher is like severity=\"page\" or team=~\"a|b\"");
            }
        }
    }
    if usable && let Err(reason) = check_matchers(&matchers) {
        usable = false;
        found.error(&entry.span, format!("silence: {reason}"));
    }
    let windows = match &entry.times {
        None => Vec::new(),
        Some(SilenceTimes::Named(name)) => match intervals.get(&name.value) {
            Some(list) => list.to_vec(),
            None => {
                usable = false;
                let message = format!("there is no time interval {:?}", name.value);
                let hint = match nearest(&name.value, intervals.names()) {
                    Some(near) => format!("did you mean {near:?}?"),
                    None => "define it under time_intervals of the Alertmanager file, or write it here: \
                             {weekdays: [saturday], times: [{start_time: '02:00', end_time: '04:00'}]}"
                        .into(),
                };
                found.error_hint(&name.span, message, hint);
                Vec::new()
            }
        },
        Some(SilenceTimes::Here(list)) => {
            let read: Vec<TimeInterval> = list.iter().filter_map(|one| compile_interval(one, found)).collect();
            usable &= read.len() == list.len();
            read
        }
    };
    let moment = |at: &Option<Spanned<i64>>| at.as_ref().map(|at| Timestamp::from_micros(at.value));
    matcher::sort(&mut matchers);
    let (starts, ends) = (moment(&entry.starts), moment(&entry.ends));
    // The id follows from what the entry says, so that it stays the same over reloads and restarts.
    let said = format!("{}|{starts:?}|{ends:?}|{windows:?}|{}", matcher::print(&matchers), entry.comment);
    usable.then(|| ConfiguredSilence {
        id: id_of(&said),
        matchers,
        starts,
        ends,
        windows,
        comment: entry.comment.clone(),
    })
}

/// An interval that stands in the configuration itself.
fn compile_interval(config: &IntervalConfig, found: &mut Diagnostics) -> Option<TimeInterval> {
    let mut usable = true;
    let mut read = |text: &Spanned<String>, parse: fn(&str) -> Result<intervals::Range, String>| {
        parse(&text.value).map_err(|reason| found.error(&text.span, reason)).ok()
    };
    let time = |text: &str| intervals::parse_time(text).map(|minute| (minute, minute));
    let mut interval = TimeInterval::default();
    for (start, end) in &config.times {
        match (read(start, time), read(end, time)) {
            (Some((start, _)), Some((end, _))) => interval.times.push((start, end)),
            _ => usable = false,
        }
    }
    type Part<'a> =
        (&'a [Spanned<String>], fn(&str) -> Result<intervals::Range, String>, &'a mut Vec<intervals::Range>);
    let parts: [Part<'_>; 4] = [
        (&config.weekdays, intervals::parse_weekdays, &mut interval.weekdays),
        (&config.days_of_month, intervals::parse_days_of_month, &mut interval.days_of_month),
        (&config.months, intervals::parse_months, &mut interval.months),
        (&config.years, intervals::parse_years, &mut interval.years),
    ];
    for (texts, parse, into) in parts {
        into.extend(texts.iter().filter_map(|text| read(text, parse)));
        usable &= into.len() == texts.len();
    }
    for ((start, end), (_, place)) in interval.times.iter().zip(&config.times) {
        if start >= end {
            usable = false;
            found.error(&place.span, "the time range ends before it begins; write two ranges around midnight");
        }
    }
    if let Some(name) = &config.location {
        match intervals::location(&name.value) {
            Some(zone) => interval.location = zone,
            None => {
                usable = false;
                let message = format!("there is no time zone {:?}", name.value);
                found.error_hint(&name.span, message, "names are like Europe/Berlin or UTC");
            }
        }
    }
    usable.then_some(interval)
}

/// A UUID of version 8 (RFC 9562, section 5.8) from a text: the first 60 bits that are free are FNV-1a's.
fn id_of(text: &str) -> Arc<str> {
    let hash = text
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let (high, middle, low) = (hash >> 32, (hash >> 16) & 0xffff, hash & 0xfff);
    format!("{high:08x}-{middle:04x}-8{low:03x}-8000-000000000000").into()
}
