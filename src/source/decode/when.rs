//! Times as events write them.

use crate::model::Timestamp;

const DAY_SECONDS: i64 = 86_400;
/// 0001-01-01 and 10000-01-01 in microseconds: what RFC 3339 can write.
const RANGE: std::ops::Range<i64> = -62_135_596_800_000_000..253_402_300_800_000_000;

/// Reads RFC 3339 (also with a space for the T, and without a zone, which means UTC), or a number in a text.
pub(super) fn read(text: &str) -> Option<Timestamp> {
    if let Some(moment) = rfc3339(text.as_bytes()) {
        return Some(moment);
    }
    super::number::read(text).and_then(|value| number(value, text.trim()))
}

/// Reads seconds, milliseconds, microseconds or nanoseconds since the epoch, told apart by their size: up to 1e11 are
/// seconds (the year 5138), up to 1e14 milliseconds, up to 1e17 microseconds.
pub(super) fn number(value: f64, text: &str) -> Option<Timestamp> {
    let micros = match value.abs() {
        size if size < 1e11 => (value * 1e6).round() as i64,
        size if size < 1e14 => (value * 1e3).round() as i64,
        size if size < 1e17 => value.round() as i64,
        // A double has no room for nanoseconds of today; the digits have.
        size if size < 9.2e18 => {
            text.parse().map_or((value / 1e3).round() as i64, |nanos: i64| nanos.div_euclid(1_000))
        }
        _ => return None,
    };
    RANGE.contains(&micros).then(|| Timestamp::from_micros(micros))
}

fn two(bytes: &[u8], at: usize) -> Option<i64> {
    let (tens, ones) = (bytes.get(at)?.wrapping_sub(b'0'), bytes.get(at + 1)?.wrapping_sub(b'0'));
    (tens < 10 && ones < 10).then(|| i64::from(tens) * 10 + i64::from(ones))
}

/// RFC 3339, section 5.6, and the two liberties above. A leap second counts as the second after it.
fn rfc3339(bytes: &[u8]) -> Option<Timestamp> {
    let year = two(bytes, 0)? * 100 + two(bytes, 2)?;
    let (month, day) = (two(bytes, 5)?, two(bytes, 8)?);
    let (hour, minute, second) = (two(bytes, 11)?, two(bytes, 14)?, two(bytes, 17)?);
    let separated = bytes[4] == b'-' && bytes[7] == b'-' && bytes[13] == b':' && bytes[16] == b':';
    let sensible = year > 0 && (1..=12).contains(&month) && day >= 1 && day <= days_in(year, month);
    if !separated || !sensible || !matches!(bytes[10], b'T' | b't' | b' ') || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let (mut at, mut micros) = (19, 0);
    if bytes.get(at) == Some(&b'.') {
        let digits = bytes[at + 1..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        if digits == 0 {
            return None;
        }
        let mut place = 100_000;
        for byte in &bytes[at + 1..at + 1 + digits.min(6)] {
            micros += i64::from(byte - b'0') * place;
            place /= 10;
        }
        at += 1 + digits;
    }
    let offset_minutes = match &bytes[at..] {
        [] | [b'Z' | b'z'] => 0,
        [sign @ (b'+' | b'-'), zone @ ..] => {
            let hours = two(zone, 0)?;
            let minutes = match zone.len() {
                2 => 0,
                4 => two(zone, 2)?,
                5 if zone[2] == b':' => two(zone, 3)?,
                _ => return None,
            };
            if hours > 23 || minutes > 59 {
                return None;
            }
            (hours * 60 + minutes) * if *sign == b'-' { -1 } else { 1 }
        }
        _ => return None,
    };
    let seconds = days_from_epoch(year, month, day) * DAY_SECONDS + hour * 3_600 + minute * 60 + second;
    Some(Timestamp::from_micros((seconds - offset_minutes * 60) * 1_000_000 + micros))
}

fn days_in(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970-01-01 in the proleptic Gregorian calendar. The year is taken to begin in March, so that the leap day
/// is its last.
fn days_from_epoch(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    year * 365 + year / 4 - year / 100 + year / 400 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn times_of_every_system_are_read() {
        let nine = 1_795_165_200_000_000;
        for (text, micros) in [
            ("2026-11-20T09:00:00Z", nine),
            ("2026-11-20t09:00:00z", nine),
            ("2026-11-20T09:00:00", nine),
            ("2026-11-20 09:00:00.250000+00:00", nine + 250_000),
            ("2026-11-20T09:00:00.250000", nine + 250_000),
            ("2026-11-20T10:30:00.1234567+01:30", nine + 123_456),
            ("2026-11-20T04:00:00-0500", nine),
            ("2026-11-20T10:00:00+01", nine),
            ("1795165200.25", nine + 250_000),
            ("1795165200", nine),
            ("1795165200250", nine + 250_000),
            ("1795165200250001", nine + 250_001),
            ("1795165200250001999", nine + 250_001),
            ("2000-02-29T23:59:60Z", 951_868_800_000_000),
            ("1969-12-31T23:59:59.5Z", -500_000),
        ] {
            assert_eq!(read(text), Some(Timestamp::from_micros(micros)), "{text}");
        }
        for text in [
            "",
            "now",
            "2026-11-20",
            "2026-11-20T09:00",
            "2026-02-30T09:00:00Z",
            "2026-11-20T24:00:00Z",
            "2026-11-20T09:00:00.Z",
            "2026-11-20T09:00:00 Z",
            "2026-11-20T09:00:00+1",
            "20/11/2026 09:00:00",
            "2026-13-01T00:00:00Z",
            "NaN",
            "1e300",
            "2100-02-29T00:00:00Z",
            "2026-11-20T09:00:00Zx",
            "²026-11-20T09:00:00Z",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig { failure_persistence: None, ..Default::default() })]
        #[test]
        fn what_jiff_prints_is_read(micros in -62_135_596_800_000_000_i64..253_402_207_200_000_000) {
            let moment = Timestamp::from_micros(micros);
            prop_assert_eq!(read(&moment.rfc3339()), Some(moment));
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,40}|[0-9T:.+-]{15,30}") {
            read(&text);
        }
    }
}
