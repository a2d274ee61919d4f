//! `notify: silences:`, a list of silences and maintenance windows.

use crate::config::reader::{self, MapReader};
use crate::config::schema::{IntervalConfig, SilenceConfig, SilenceTimes};
use crate::config::yaml::{Kind, Node};
use crate::config::{Diagnostics, Spanned};

/// The keys of a time interval, which are Alertmanager's.
const EXAMPLE: &str =
    "{weekdays: [saturday], times: [{start_time: '02:00', end_time: '04:00'}], location: Europe/Berlin}";

/// Reads one entry.
pub(super) fn read(node: &Node, found: &mut Diagnostics) -> Option<SilenceConfig> {
    let mut map = MapReader::new(node, "silence", found)?;
    let span = node.span.clone();
    map.required("matchers");
    let matchers = map.strings("matchers");
    let starts = moment(&mut map, "starts");
    let ends = moment(&mut map, "ends");
    let times = map.get("time_interval").map(|node| times(node, map.found()));
    let comment = map.string("comment").map(|text| text.value).unwrap_or_default();
    if let (Some(Some(starts)), Some(Some(ends))) = (&starts, &ends)
        && starts.value >= ends.value
    {
        map.found().error(&ends.span, "ends: it is not after starts");
    }
    if ends.is_none() && times.is_none() {
        map.found().error_hint(
            &span,
            "silence: it says neither when it ends nor when it comes",
            "give ends, for example 2026-12-24T18:00:00Z, or time_interval",
        );
        map.finish();
        return None;
    }
    map.finish();
    let times = match times {
        Some(times) => Some(times?),
        None => None,
    };
    // What was given and could not be read is not the same as what was not given.
    let (starts, ends) = (starts.map_or(Some(None), |at| at.map(Some))?, ends.map_or(Some(None), |at| at.map(Some))?);
    (!matchers.is_empty()).then_some(SilenceConfig { matchers, starts, ends, times, comment, span })
}

/// RFC 3339, or without a zone for UTC: microseconds since the epoch.
fn moment(map: &mut MapReader<'_, '_>, key: &'static str) -> Option<Option<Spanned<i64>>> {
    let node = map.get(key)?;
    let text = reader::string(node, key, map.found());
    Some(text.and_then(|text| {
        let zoned = text.value.parse::<jiff::Timestamp>().ok();
        let moment = zoned.or_else(|| {
            let civil = text.value.parse::<jiff::civil::DateTime>().ok()?;
            Some(civil.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp())
        });
        if moment.is_none() {
            map.found().error_hint(
                &text.span,
                format!("{key}: {:?} is no moment", text.value),
                "write 2026-12-24T18:00:00+01:00, or without a zone for UTC",
            );
        }
        Some(Spanned::new(moment?.as_microsecond(), text.span))
    }))
}

/// A name, an interval or a list of intervals.
fn times(node: &Node, found: &mut Diagnostics) -> Option<SilenceTimes> {
    match &node.kind {
        Kind::Scalar { .. } if !node.is_null() => {
            Some(SilenceTimes::Named(reader::string(node, "time_interval", found)?))
        }
        _ => {
            let nodes = reader::one_or_list(node);
            let intervals: Vec<IntervalConfig> = nodes.iter().filter_map(|node| interval(node, found)).collect();
            if nodes.is_empty() {
                found.error_hint(&node.span, "time_interval: it is empty", format!("for example {EXAMPLE}"));
            }
            (!nodes.is_empty() && intervals.len() == nodes.len()).then_some(SilenceTimes::Here(intervals))
        }
    }
}

fn interval(node: &Node, found: &mut Diagnostics) -> Option<IntervalConfig> {
    let mut map = MapReader::new(node, "time interval", found)?;
    let times = map.each("times", |node, found| {
        let mut map = MapReader::new(node, "time range", found)?;
        let (start, end) = (map.required_string("start_time"), map.required_string("end_time"));
        map.finish();
        Some((start?, end?))
    });
    let read = IntervalConfig {
        times,
        weekdays: map.strings("weekdays"),
        days_of_month: map.strings("days_of_month"),
        months: map.strings("months"),
        years: map.strings("years"),
        location: map.string("location"),
    };
    map.finish();
    Some(read)
}
