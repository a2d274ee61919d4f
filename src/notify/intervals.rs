//! Time intervals of routes: weekdays, times of day, days of the month, months, years (Alertmanager, timeinterval).

use crate::model::Timestamp;
use jiff::tz::TimeZone;
use std::collections::BTreeMap;

/// Named intervals, as routes refer to them.
#[derive(Clone, Debug, Default)]
pub(super) struct Intervals(BTreeMap<String, Vec<TimeInterval>>);

impl Intervals {
    pub(super) fn add(&mut self, name: String, intervals: Vec<TimeInterval>) {
        self.0.insert(name, intervals);
    }

    pub(super) fn get(&self, name: &str) -> Option<&[TimeInterval]> {
        self.0.get(name).map(Vec::as_slice)
    }

    /// All of them in the order of their names.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &[TimeInterval])> {
        self.0.iter().map(|(name, list)| (name.as_str(), list.as_slice()))
    }

    pub(super) fn knows(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Whether a moment is in one of the intervals of this name.
    pub(super) fn contains(&self, name: &str, now: Timestamp) -> bool {
        self.0.get(name).is_some_and(|list| list.iter().any(|interval| interval.contains(now)))
    }
}

/// Inclusive bounds.
pub type Range = (i64, i64);

/// A moment is in it when every part that is not empty contains it.
#[derive(Clone, Debug)]
pub struct TimeInterval {
    /// Minutes of the day, the end exclusive.
    pub times: Vec<Range>,
    /// 0 is Sunday.
    pub weekdays: Vec<Range>,
    /// From 1; negative days count from the month's end.
    pub days_of_month: Vec<Range>,
    /// From 1.
    pub months: Vec<Range>,
    /// The years.
    pub years: Vec<Range>,
    /// Where the clock hangs.
    pub location: TimeZone,
}

impl Default for TimeInterval {
    fn default() -> Self {
        let none = Vec::new;
        Self {
            times: none(),
            weekdays: none(),
            days_of_month: none(),
            months: none(),
            years: none(),
            location: TimeZone::UTC,
        }
    }
}

impl TimeInterval {
    fn contains(&self, now: Timestamp) -> bool {
        let Ok(moment) = jiff::Timestamp::from_microsecond(now.micros()) else { return false };
        let local = moment.to_zoned(self.location.clone());
        let minute = i64::from(local.hour()) * 60 + i64::from(local.minute());
        (self.times.is_empty() || self.times.iter().any(|(start, end)| (*start..*end).contains(&minute)))
            && self.takes_day(local.date())
    }

    fn takes_day(&self, date: jiff::civil::Date) -> bool {
        let (day, last_day) = (i64::from(date.day()), i64::from(date.days_in_month()));
        let from_start = |bound: i64| if bound < 0 { last_day + 1 + bound } else { bound };
        let within = |ranges: &[Range], value: i64| {
            ranges.is_empty() || ranges.iter().any(|(low, high)| (*low..=*high).contains(&value))
        };
        within(&self.weekdays, i64::from(date.weekday().to_sunday_zero_offset()))
            && (self.days_of_month.is_empty()
                || self.days_of_month.iter().any(|(low, high)| {
                    let low = from_start(*low).max(1);
                    (low..=from_start(*high).min(last_day)).contains(&day)
                }))
            && within(&self.months, i64::from(date.month()))
            && within(&self.years, i64::from(date.year()))
    }
}

/// How many days ahead a window is looked for: 29 February on one weekday comes every 28 years at the latest.
const DAYS_AHEAD: i64 = 366 * 29;
/// How many days one window is followed; what is longer goes on when it is asked for again.
const WINDOW_DAYS: i64 = 40;
const DAY_MS: i64 = 86_400_000;

impl TimeInterval {
    /// The first stretch of time in any of the intervals that ends after a moment: its beginning and end. Stretches that
    /// touch are one. `None` when none comes.
    pub(super) fn window(intervals: &[Self], now: Timestamp) -> Option<(Timestamp, Timestamp)> {
        let mut stretches: Vec<(Timestamp, Timestamp)> = Vec::new();
        for ahead in -1..DAYS_AHEAD {
            let today = intervals.iter().flat_map(|interval| interval.on_day(now, ahead));
            stretches.extend(today.filter(|(_, end)| *end > now));
            stretches.sort();
            let mut rest = stretches.iter();
            let Some(mut first) = rest.next().copied() else { continue };
            for (start, end) in rest {
                if *start <= first.1 {
                    first.1 = first.1.max(*end);
                }
            }
            // Everything that begins in the days looked at is known, wherever the clocks of the intervals hang; the two
            // hours are for the change to summer time.
            let known_until = now.plus_millis(ahead * DAY_MS - 7_200_000);
            if first.1 < known_until || ahead >= WINDOW_DAYS && first.0 <= known_until {
                return Some(first);
            }
        }
        None
    }

    /// The stretches of one local day, so many days after a moment's.
    fn on_day(&self, now: Timestamp, ahead: i64) -> Vec<(Timestamp, Timestamp)> {
        let Ok(moment) = jiff::Timestamp::from_microsecond(now.micros()) else { return Vec::new() };
        let date = moment.to_zoned(self.location.clone()).date();
        let Ok(date) = date.checked_add(jiff::Span::new().days(ahead)) else { return Vec::new() };
        if !self.takes_day(date) {
            return Vec::new();
        }
        let at = |minute: i64| {
            let (date, minute) = if minute >= 1_440 { (date.tomorrow().ok()?, 0) } else { (date, minute) };
            let time = date.at((minute / 60) as i8, (minute % 60) as i8, 0, 0);
            let zoned = time.to_zoned(self.location.clone()).ok()?;
            Some(Timestamp::from_micros(zoned.timestamp().as_microsecond()))
        };
        let whole = [(0, 1_440)];
        let times = if self.times.is_empty() { &whole[..] } else { &self.times };
        times
            .iter()
            .filter_map(|(start, end)| Some((at(*start)?, at(*end)?)))
            .filter(|(start, end)| start < end)
            .collect()
    }
}

const WEEKDAYS: [&str; 7] = ["sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"];
const MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];

/// A time zone by its name; `Local` is this machine's.
pub fn location(name: &str) -> Option<TimeZone> {
    if name == "Local" { Some(TimeZone::system()) } else { TimeZone::get(name).ok() }
}

/// `09:30` in minutes; `24:00` is the end of the day.
///
/// # Errors
/// A sentence that says what was expected.
pub fn parse_time(text: &str) -> Result<i64, String> {
    let bad = || format!("{text:?} is no time of day (examples: 09:00, 17:30, 24:00)");
    let (hour, minute) = text.split_once(':').ok_or_else(bad)?;
    if hour.len() != 2 || minute.len() != 2 {
        return Err(bad());
    }
    let (hour, minute): (i64, i64) = (hour.parse().map_err(|_| bad())?, minute.parse().map_err(|_| bad())?);
    let total = hour * 60 + minute;
    if (0..60).contains(&minute) && (0..=1_440).contains(&total) { Ok(total) } else { Err(bad()) }
}

/// `monday:friday` or `saturday`.
///
/// # Errors
/// A sentence that says what was expected.
pub fn parse_weekdays(text: &str) -> Result<Range, String> {
    let day = |name: &str| WEEKDAYS.iter().position(|known| *known == name).map(|at| at as i64);
    parse_range(text, "weekday (examples: monday:friday, sunday)", day)
}

/// `1:5`, `-3:-1` or `15`.
///
/// # Errors
/// A sentence that says what was expected.
pub fn parse_days_of_month(text: &str) -> Result<Range, String> {
    let bad = || format!("{text:?} is no day of the month (examples: 1, 1:7, -3:-1)");
    let day = |part: &str| part.parse().ok().filter(|day: &i64| *day != 0 && (-31..=31).contains(day));
    let (low, high) = split_range(text);
    let (low, high) = (day(low).ok_or_else(bad)?, day(high).ok_or_else(bad)?);
    // A start after the end is refused where both count from the same side.
    if (low < 0) == (high < 0) && low > high { Err(bad()) } else { Ok((low, high)) }
}

/// `january:march`, `1:3` or `december`.
///
/// # Errors
/// A sentence that says what was expected.
pub fn parse_months(text: &str) -> Result<Range, String> {
    let month = |name: &str| {
        let named = MONTHS.iter().position(|known| *known == name).map(|at| at as i64 + 1);
        named.or_else(|| name.parse().ok().filter(|month| (1..=12).contains(month)))
    };
    parse_range(text, "month (examples: january:march, 1:3, december)", month)
}

/// `2026:2028` or `2026`.
///
/// # Errors
/// A sentence that says what was expected.
pub fn parse_years(text: &str) -> Result<Range, String> {
    parse_range(text, "year (examples: 2026, 2026:2028)", |part| part.parse().ok().filter(|year| *year >= 0))
}

fn split_range(text: &str) -> (&str, &str) {
    let (low, high) = text.split_once(':').unwrap_or((text, text));
    (low.trim(), high.trim())
}

fn parse_range(text: &str, what: &str, value: impl Fn(&str) -> Option<i64>) -> Result<Range, String> {
    let lower = text.to_ascii_lowercase();
    let (low, high) = split_range(&lower);
    match (value(low), value(high)) {
        (Some(low), Some(high)) if low <= high => Ok((low, high)),
        (Some(_), Some(_)) => Err(format!("{text:?} ends before it begins")),
        _ => Err(format!("{text:?} is no {what}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(interval: &TimeInterval, moment: &str, expected: bool) {
        let micros = moment.parse::<jiff::Timestamp>().unwrap().as_microsecond();
        assert_eq!(interval.contains(Timestamp::from_micros(micros)), expected, "{moment} {interval:?}");
    }

    #[test]
    fn moments_are_in_or_out() {
        let office = TimeInterval {
            times: vec![(parse_time("09:00").unwrap(), parse_time("17:00").unwrap())],
            weekdays: vec![parse_weekdays("monday:friday").unwrap()],
            ..TimeInterval::default()
        };
        // 2026-11-20 is a Friday.
        check(&office, "2026-11-20T09:00:00Z", true);
        check(&office, "2026-11-20T17:00:00Z", false);
        check(&office, "2026-11-20T08:59:59Z", false);
        check(&office, "2026-11-21T12:00:00Z", false);
        let berlin = TimeInterval { location: TimeZone::get("Europe/Berlin").unwrap(), ..office };
        check(&berlin, "2026-11-20T08:00:00Z", true);
        check(&berlin, "2026-11-20T16:00:00Z", false);
        let end = TimeInterval {
            days_of_month: vec![parse_days_of_month("-2:-1").unwrap()],
            months: vec![parse_months("february").unwrap()],
            years: vec![parse_years("2026:2028").unwrap()],
            ..TimeInterval::default()
        };
        check(&end, "2027-02-27T00:00:00Z", true);
        check(&end, "2028-02-27T00:00:00Z", false);
        check(&end, "2028-02-29T00:00:00Z", true);
        check(&end, "2029-02-28T00:00:00Z", false);
    }

    #[test]
    fn what_is_not_a_range_is_refused() {
        for bad in ["9:00", "24:01", "12:60", "noon"] {
            assert!(parse_time(bad).is_err(), "{bad}");
        }
        assert!(parse_weekdays("friday:monday").unwrap_err().contains("ends before"));
        assert!(parse_days_of_month("0").is_err() && parse_days_of_month("5:1").is_err());
        assert!(parse_days_of_month("5:-5").is_ok());
        assert!(parse_months("13").is_err() && parse_years("x").is_err());
    }
}
