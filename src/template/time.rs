//! Go's `time.Time` and `time.Duration` as templates see them: printing, layouts, a few methods.

use super::Value;
use jiff::tz::TimeZone;
use jiff::{Timestamp as Moment, Zoned};
use std::fmt;

/// A moment with the time zone that it prints in.
#[derive(Clone, Debug, PartialEq)]
pub struct GoTime(Zoned);

impl GoTime {
    /// From seconds since the epoch, in UTC.
    ///
    /// # Errors
    /// Not a number, infinite or out of range.
    pub fn from_seconds(seconds: f64) -> Result<Self, String> {
        if !seconds.is_finite() {
            return Err("value is NaN or Inf".into());
        }
        // Prometheus converts through int64 nanoseconds (model.TimeFromUnixNano keeps milliseconds).
        let millis = (seconds * 1e3).trunc() as i64;
        Self::from_micros(millis.saturating_mul(1_000))
    }

    /// From microseconds since the epoch, in UTC.
    ///
    /// # Errors
    /// Out of range.
    pub fn from_micros(micros: i64) -> Result<Self, String> {
        let moment = Moment::from_microsecond(micros).map_err(|error| error.to_string())?;
        Ok(Self(moment.to_zoned(TimeZone::UTC)))
    }

    /// Microseconds since the epoch.
    pub fn micros(&self) -> i64 {
        self.0.timestamp().as_microsecond()
    }

    /// The same moment in a zone of the IANA database.
    ///
    /// # Errors
    /// The zone is unknown.
    pub fn in_zone(&self, name: &str) -> Result<Self, String> {
        let zone =
            if name.is_empty() { TimeZone::UTC } else { TimeZone::get(name).map_err(|error| error.to_string())? };
        Ok(Self(self.0.with_time_zone(zone)))
    }

    /// A method of time.Time; `None` when there is none of that name here.
    pub fn method(&self, name: &str, args: &[Value]) -> Option<Result<Value, String>> {
        let value = match name {
            "Unix" => Value::Int(self.micros().div_euclid(1_000_000)),
            "UnixMilli" => Value::Int(self.micros().div_euclid(1_000)),
            "UnixNano" => Value::Int(self.micros().saturating_mul(1_000)),
            "Year" => Value::Int(self.0.year().into()),
            "Month" => Value::text(self.0.strftime("%B").to_string()),
            "Day" => Value::Int(self.0.day().into()),
            "Hour" => Value::Int(self.0.hour().into()),
            "Minute" => Value::Int(self.0.minute().into()),
            "Second" => Value::Int(self.0.second().into()),
            "YearDay" => Value::Int(self.0.day_of_year().into()),
            "Weekday" => Value::text(self.0.strftime("%A").to_string()),
            "UTC" | "Local" => Value::Time(Self(self.0.with_time_zone(TimeZone::UTC))),
            "IsZero" => Value::Bool(self.micros() == ZERO_TIME_MICROS),
            "String" => Value::text(self.to_string()),
            "Format" => match args {
                [Value::Text(layout)] => Value::text(self.format(layout)),
                _ => return Some(Err("Format wants a layout".into())),
            },
            "Add" => match args {
                [Value::Duration(nanos)] => {
                    return Some(Self::from_micros(self.micros().saturating_add(nanos / 1_000)).map(Value::Time));
                }
                _ => return Some(Err("Add wants a duration".into())),
            },
            "Sub" => match args {
                [Value::Time(other)] => {
                    Value::Duration(self.micros().saturating_sub(other.micros()).saturating_mul(1_000))
                }
                _ => return Some(Err("Sub wants a time".into())),
            },
            "Before" | "After" | "Equal" => match args {
                [Value::Time(other)] => Value::Bool(match name {
                    "Before" => self.micros() < other.micros(),
                    "After" => self.micros() > other.micros(),
                    _ => self.micros() == other.micros(),
                }),
                _ => return Some(Err(format!("{name} wants a time"))),
            },
            _ => return None,
        };
        Some(Ok(value))
    }

    /// `Time.Format` with a layout made of Go's reference time.
    pub fn format(&self, layout: &str) -> String {
        let mut out = String::new();
        let mut rest = layout;
        while !rest.is_empty() {
            match ELEMENTS.iter().find(|(element, _)| rest.starts_with(element)) {
                Some((element, directive)) => {
                    out.push_str(&self.element(directive));
                    rest = &rest[element.len()..];
                }
                None => rest = self.fraction_or_text(rest, &mut out),
            }
        }
        out
    }

    fn element(&self, directive: &str) -> String {
        match directive {
            // A zone of offset 0 is Z.
            "Z:" if self.0.offset().is_zero() => "Z".into(),
            "Z:" => self.0.strftime("%:z").to_string(),
            "Zz" if self.0.offset().is_zero() => "Z".into(),
            "Zz" => self.0.strftime("%z").to_string(),
            other => self.0.strftime(other).to_string(),
        }
    }

    /// `.000` and `.999` are decimals of the second (nines without trailing zeros); anything else is itself.
    fn fraction_or_text<'a>(&self, rest: &'a str, out: &mut String) -> &'a str {
        if let Some(after) = rest.strip_prefix(['.', ',']) {
            let zeros = after.bytes().take_while(|byte| *byte == b'0').count();
            let nines = after.bytes().take_while(|byte| *byte == b'9').count();
            let len = zeros.max(nines);
            let ends = !after[len..].starts_with(|c: char| c.is_ascii_digit());
            if len > 0 && len <= 9 && ends {
                let decimals = format!("{:09}", self.0.subsec_nanosecond());
                let mut decimals = &decimals[..len];
                if nines > 0 {
                    decimals = decimals.trim_end_matches('0');
                }
                if !decimals.is_empty() {
                    out.push_str(&rest[..1]);
                    out.push_str(decimals);
                }
                return &after[len..];
            }
        }
        let len = rest.chars().next().map_or(0, char::len_utf8);
        out.push_str(&rest[..len]);
        &rest[len..]
    }
}

/// 0001-01-01T00:00:00Z, Go's zero time.
const ZERO_TIME_MICROS: i64 = -62_135_596_800_000_000;

/// Elements of Go's layouts with their strftime directive; a longer one stands before its prefix.
const ELEMENTS: [(&str, &str); 30] = [
    ("January", "%B"),
    ("Jan", "%b"),
    ("Monday", "%A"),
    ("Mon", "%a"),
    ("MST", "%Z"),
    ("2006", "%Y"),
    ("-07:00", "%:z"),
    ("-0700", "%z"),
    ("-07", "%:::z"),
    ("Z07:00", "Z:"),
    ("Z0700", "Zz"),
    ("002", "%j"),
    ("01", "%m"),
    ("02", "%d"),
    ("03", "%I"),
    ("04", "%M"),
    ("05", "%S"),
    ("06", "%y"),
    ("15", "%H"),
    ("_2", "%e"),
    ("PM", "%p"),
    ("pm", "%P"),
    ("1", "%-m"),
    ("2", "%-d"),
    ("3", "%-I"),
    ("4", "%-M"),
    ("5", "%-S"),
    ("__2", "%_j"),
    ("Z07", "Z:"),
    ("-07:00:00", "%::z"),
];

impl fmt::Display for GoTime {
    /// `2015-06-23 13:19:44.128 +0000 UTC`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.format("2006-01-02 15:04:05.999999999 -0700 MST"))
    }
}

/// `time.Duration.String`: `1h0m0s`, `1.5s`, `2ms`, `0s`.
pub fn duration(nanos: i64) -> String {
    let sign = if nanos < 0 { "-" } else { "" };
    let total = nanos.unsigned_abs();
    if total == 0 {
        return "0s".into();
    }
    let decimal = |value: f64| super::format::float(value, 'f', None);
    if total < 1_000 {
        return format!("{sign}{total}ns");
    }
    if total < 1_000_000 {
        return format!("{sign}{}µs", decimal(total as f64 / 1e3));
    }
    if total < 1_000_000_000 {
        return format!("{sign}{}ms", decimal(total as f64 / 1e6));
    }
    let seconds = total / 1_000_000_000;
    let (hours, minutes) = (seconds / 3_600, seconds / 60 % 60);
    let fraction = total % 1_000_000_000;
    let mut second_text = (seconds % 60).to_string();
    if fraction > 0 {
        second_text.push('.');
        second_text.push_str(format!("{fraction:09}").trim_end_matches('0'));
    }
    match (hours, minutes) {
        (0, 0) => format!("{sign}{second_text}s"),
        (0, _) => format!("{sign}{minutes}m{second_text}s"),
        _ => format!("{sign}{hours}h{minutes}m{second_text}s"),
    }
}

/// A method of time.Duration; `None` when there is none of that name.
pub fn duration_method(nanos: i64, name: &str) -> Option<Value> {
    Some(match name {
        "Seconds" => Value::Float(nanos as f64 / 1e9),
        "Minutes" => Value::Float(nanos as f64 / 6e10),
        "Hours" => Value::Float(nanos as f64 / 3.6e12),
        "Milliseconds" => Value::Int(nanos / 1_000_000),
        "Microseconds" => Value::Int(nanos / 1_000),
        "Nanoseconds" => Value::Int(nanos),
        "String" => Value::text(duration(nanos)),
        _ => return None,
    })
}
