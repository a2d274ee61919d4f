//! One line of StatsD or DogStatsD, cut into its parts without judging names. No allocation.
//!
//! `name:value|type[|@rate][|#tag:v,...][|c:container][|T seconds]` (DogStatsD datagrams 1.0 to 1.3; `e:` and `card:` of
//! later ones are read over). Packed values, `name:1:2:3|ms`, are DogStatsD 1.1; whole samples behind one name,
//! `name:1|c:2|g`, are etsy's form. Both stand in one line only without each other.

use memchr::{memchr, memchr_iter};

/// What a sample's type says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `c`.
    Counter,
    /// `g`.
    Gauge,
    /// `ms`: milliseconds.
    Timer,
    /// `h`.
    Histogram,
    /// `d`.
    Distribution,
    /// `s`.
    Set,
}

impl Kind {
    fn parse(text: &[u8]) -> Option<Self> {
        Some(match text {
            b"c" => Self::Counter,
            b"g" => Self::Gauge,
            b"ms" => Self::Timer,
            b"h" => Self::Histogram,
            b"d" => Self::Distribution,
            b"s" => Self::Set,
            _ => return None,
        })
    }
}

/// What a sample means for its series.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Amount<'a> {
    /// A number, with its sign written out or not (`+3` and `-3` change a gauge, `3` sets it), and the sample rate.
    Number {
        /// The value as written.
        value: f64,
        /// A sign stands before it.
        signed: bool,
    },
    /// A member of a set.
    Member(&'a [u8]),
}

/// One sample.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample<'a> {
    /// The name as written, tags of the name included.
    pub name: &'a [u8],
    /// What it is.
    pub kind: Kind,
    /// The value.
    pub amount: Amount<'a>,
    /// More than 0, at most 1.
    pub rate: f64,
    /// What stands behind `#`.
    pub tags: &'a [u8],
    /// Its own time in seconds since the epoch.
    pub seconds: Option<i64>,
}

/// Why a line, or a part of it, is no sample: the `reason` of `sidewatch_events_refused_total`.
pub mod reason {
    /// Not `name:value|type`.
    pub const MALFORMED: &str = "malformed_line";
    /// The type is none of c, g, ms, h, d, s.
    pub const TYPE: &str = "unknown_type";
    /// The value is no finite number.
    pub const VALUE: &str = "malformed_value";
    /// The sample rate is not above 0 and at most 1.
    pub const RATE: &str = "invalid_sample_rate";
    /// A part behind the type is none that is known.
    pub const PART: &str = "unknown_part";
    /// A counter may not fall.
    pub const NEGATIVE: &str = "negative_counter";
    /// Tags in the name and behind `#` in one line.
    pub const MIXED_TAGS: &str = "mixed_tagging_styles";
    /// A tag without a value, or without a name. The sample counts all the same.
    pub const TAG: &str = "malformed_tag";
    /// The name is empty once its tags are off.
    pub const NAME: &str = "empty_name";
    /// A rule of the mapping file says `action: drop`.
    pub const DROPPED: &str = "mapping_drop";
    /// Longer than `limits.event_bytes`.
    pub const TOO_LARGE: &str = "too_large";
    /// `_e{...}` or `_sc|...` that is not as the format says.
    pub const EVENT: &str = "malformed_event";
}

/// What a line gave, piece by piece.
pub trait Take {
    /// A sample.
    fn sample(&mut self, sample: &Sample<'_>);
    /// Something that is no sample.
    fn refuse(&mut self, reason: &'static str);
}

/// Cuts a line that is neither empty nor an event nor a service check.
pub fn read(line: &[u8], take: &mut impl Take) {
    let Some(colon) = memchr(b':', line).filter(|colon| *colon > 0) else { return take.refuse(reason::MALFORMED) };
    let (name, rest) = (&line[..colon], &line[colon + 1..]);
    // With tags behind the type the line holds one sample, whose tags may hold colons.
    let tagged = memchr_iter(b'#', rest).any(|at| at > 0 && rest[at - 1] == b'|');
    let Some(bar) = memchr(b'|', rest) else { return take.refuse(reason::MALFORMED) };
    if !tagged && has_samples(&rest[bar + 1..]) {
        return several(name, rest, take);
    }
    one(name, rest, bar, take);
}

/// Whether a colon in the type or in the sample rate begins another sample.
fn has_samples(behind_value: &[u8]) -> bool {
    behind_value
        .split(|byte| *byte == b'|')
        .enumerate()
        .any(|(at, part)| (at == 0 || part.first() == Some(&b'@')) && memchr(b':', part).is_some())
}

#[cold]
fn several(name: &[u8], rest: &[u8], take: &mut impl Take) {
    for sample in rest.split(|byte| *byte == b':') {
        match memchr(b'|', sample) {
            Some(bar) => one(name, sample, bar, take),
            None => take.refuse(reason::MALFORMED),
        }
    }
}

/// `value|type|...`, with the place of the first bar.
fn one(name: &[u8], sample: &[u8], bar: usize, take: &mut impl Take) {
    let values = &sample[..bar];
    let mut behind = &sample[bar + 1..];
    let kind = next(&mut behind);
    let Some(kind) = Kind::parse(kind) else { return take.refuse(reason::TYPE) };
    let (mut rate, mut tags, mut seconds) = (1.0, &b""[..], None);
    while !behind.is_empty() {
        let part = next(&mut behind);
        match part.first() {
            Some(b'@') => match number(&part[1..]) {
                Some(read) if read > 0.0 && read <= 1.0 => rate = read,
                _ => return take.refuse(reason::RATE),
            },
            Some(b'#') => tags = &part[1..],
            Some(b'T') => match std::str::from_utf8(&part[1..]).ok().and_then(|text| text.parse::<i64>().ok()) {
                Some(read) if read > 0 => seconds = Some(read),
                _ => return take.refuse(reason::PART),
            },
            // Where it came from (container id, external data) and how finely that is to be told.
            Some(b'c' | b'e') if part.get(1) == Some(&b':') => {}
            _ if part.starts_with(b"card:") => {}
            // An empty part stands where a client had nothing to write.
            None => {}
            _ => return take.refuse(reason::PART),
        }
    }
    let mut one_value = |value: &[u8]| {
        let amount = if kind == Kind::Set {
            Amount::Member(value)
        } else {
            match number(value) {
                Some(read) => Amount::Number { value: read, signed: matches!(value.first(), Some(b'+' | b'-')) },
                None => return take.refuse(reason::VALUE),
            }
        };
        take.sample(&Sample { name, kind, amount, rate, tags, seconds });
    };
    if memchr(b':', values).is_some() && kind != Kind::Set {
        values.split(|byte| *byte == b':').for_each(one_value);
    } else {
        one_value(values);
    }
}

/// The part up to the next bar, which is taken off.
fn next<'a>(rest: &mut &'a [u8]) -> &'a [u8] {
    let (part, behind) = match memchr(b'|', rest) {
        Some(bar) => (&rest[..bar], &rest[bar + 1..]),
        None => (*rest, &b""[..]),
    };
    *rest = behind;
    part
}

/// A finite number as clients print them: a sign, digits, a point, an exponent.
fn number(text: &[u8]) -> Option<f64> {
    // Whole numbers of up to 15 digits are most of what is sent, and exact.
    if text.len() <= 15 && text.iter().all(u8::is_ascii_digit) && !text.is_empty() {
        return Some(text.iter().fold(0_u64, |number, digit| number * 10 + u64::from(digit - b'0')) as f64);
    }
    let text = std::str::from_utf8(text).ok()?;
    // Not the words for infinity and NaN.
    if !text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-')) {
        return None;
    }
    let unsigned = text.trim_start_matches(['+', '-']);
    if text.len() - unsigned.len() <= 1
        && unsigned.len() <= 16
        && unsigned.bytes().all(|b| b.is_ascii_digit() || b == b'.')
    {
        let (mut mantissa, mut decimals, mut points) = (0_u64, 0, 0);
        for byte in unsigned.bytes() {
            if byte == b'.' {
                points += 1;
            } else {
                mantissa = mantissa * 10 + u64::from(byte - b'0');
                decimals += points;
            }
        }
        // Both operands are exact, so that the one division is rounded correctly.
        if points <= 1 && unsigned.len() > points as usize && mantissa < 1 << 53 {
            let value = mantissa as f64 / POWERS[decimals as usize];
            return Some(if text.starts_with('-') { -value } else { value });
        }
    }
    text.parse().ok().filter(|value: &f64| value.is_finite())
}

/// Powers of ten that a double holds exactly.
const POWERS: [f64; 17] = [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16];

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::fmt::Write;

    struct Told(String);

    impl Take for Told {
        fn sample(&mut self, sample: &Sample<'_>) {
            let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
            let amount = match sample.amount {
                Amount::Number { value, signed } => format!("{}{value}", if signed { "±" } else { "" }),
                Amount::Member(member) => format!("member {}", text(member)),
            };
            write!(self.0, "{} {:?} {amount}", text(sample.name), sample.kind).unwrap();
            if sample.rate != 1.0 {
                write!(self.0, " @{}", sample.rate).unwrap();
            }
            if !sample.tags.is_empty() {
                write!(self.0, " #{}", text(sample.tags)).unwrap();
            }
            if let Some(seconds) = sample.seconds {
                write!(self.0, " T{seconds}").unwrap();
            }
            self.0.push(';');
        }
        fn refuse(&mut self, reason: &'static str) {
            write!(self.0, "{reason};").unwrap();
        }
    }

    fn check(line: &str, expected: &str) {
        let mut told = Told(String::new());
        read(line.as_bytes(), &mut told);
        assert_eq!(told.0, expected, "{line}");
    }

    #[test]
    fn plain_statsd() {
        check("gorets:1|c", "gorets Counter 1;");
        check("gorets:1|c|@0.1", "gorets Counter 1 @0.1;");
        check("glork:320|ms|@0.1", "glork Timer 320 @0.1;");
        check("gaugor:333|g", "gaugor Gauge 333;");
        check("gaugor:-10|g", "gaugor Gauge ±-10;");
        check("gaugor:+4.5|g", "gaugor Gauge ±4.5;");
        check("uniques:765|s", "uniques Set member 765;");
        check("uniques:a:b|s", "uniques Set member a:b;");
        check(
            "gorets:1|c:2|g:3.25|ms|@0.5:4|h",
            "gorets Counter 1;gorets Gauge 2;gorets Timer 3.25 @0.5;gorets Histogram 4;",
        );
        check("x:1e3|g", "x Gauge 1000;");
        check("a.b-c d:0.000125|h", "a.b-c d Histogram 0.000125;");
    }

    #[test]
    fn dogstatsd() {
        check("page.views:1|c|#env:dev,url:http://x/y", "page.views Counter 1 #env:dev,url:http://x/y;");
        check("users.online:1|c|@0.5|#country:china", "users.online Counter 1 @0.5 #country:china;");
        check(
            "page.views:1:2:32|d|#a:b",
            "page.views Distribution 1 #a:b;page.views Distribution 2 #a:b;page.views Distribution 32 #a:b;",
        );
        check("page.views:1:2|ms", "page.views Timer 1;page.views Timer 2;");
        check(
            "page.views:1|g|#env:dev|c:83c0a99c0a54c0c187f461c7980e9b57f3f6a8b0c918c8d93df19a9de6f3fe1d",
            "page.views Gauge 1 #env:dev;",
        );
        check("page.views:15|c|#env:dev|T1656581400", "page.views Counter 15 #env:dev T1656581400;");
        check("x:1|c|c:in-1234|e:it-false,cn-a|card:low", "x Counter 1;");
    }

    #[test]
    fn what_is_no_sample() {
        check("nothing", "malformed_line;");
        check(":1|c", "malformed_line;");
        check("a:1", "malformed_line;");
        check("a:1|x", "unknown_type;");
        check("a:|c", "malformed_value;");
        check("a:nan|g", "malformed_value;");
        check("a:1.2.3|g", "malformed_value;");
        check("a:--3|g", "malformed_value;");
        check("a:1e999|g", "malformed_value;");
        check("a:.|g", "malformed_value;");
        check("a:1|c|@0", "invalid_sample_rate;");
        check("a:1|c|@2", "invalid_sample_rate;");
        check("a:1|c|hello", "unknown_part;");
        check("a:1|c|T0", "unknown_part;");
        check("a:1:x:3|h", "a Histogram 1;malformed_value;a Histogram 3;");
        check("a:1|c:b", "a Counter 1;malformed_line;");
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]
        #[test]
        fn no_bytes_are_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..80), shaped in "[a:|@#,.0-9cgmshdT+-]{0,40}") {
            read(&bytes, &mut Told(String::new()));
            read(shaped.as_bytes(), &mut Told(String::new()));
        }

        #[test]
        fn numbers_are_the_nearest_double(text in "[+-]?[0-9]{1,20}(\\.[0-9]{0,12})?([eE][+-]?[0-9]{1,2})?") {
            let expected = text.parse::<f64>().ok().filter(|value| value.is_finite());
            prop_assert_eq!(number(text.as_bytes()), expected);
        }
    }
}
