//! One hosts file: an address, a name and aliases a line (hosts(5)); comments begin with `#`. Names are checked by
//! RFC 1123, section 2.1, addresses by RFC 4291 and, for their zones, RFC 4007, section 11.

use std::net::{Ipv4Addr, Ipv6Addr};

/// Bytes of a line.
const LINE_BYTES: usize = 8_192;
/// Bytes of a bad line that are told.
const SHOWN_BYTES: usize = 200;
/// Bad lines of one file that are told; the rest is counted as one.
const BAD: usize = 1_000;
/// A name as a whole, and one label of it (RFC 1035, section 2.3.4).
const NAME_BYTES: usize = 253;
const LABEL_BYTES: usize = 63;

/// Which kind of address a name has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub(super) enum Family {
    A,
    Aaaa,
}

impl Family {
    /// The type of the DNS record that would say the same.
    pub fn record(self) -> &'static str {
        match self {
            Self::A => "A",
            Self::Aaaa => "AAAA",
        }
    }
}

/// One name of one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub name: String,
    pub family: Family,
    pub address: String,
    /// The other names of the line.
    pub aliases: Vec<String>,
    pub line: u32,
}

/// A line, or a part of it, that is no record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bad {
    pub line: u32,
    pub reason: &'static str,
    /// What is wrong, cut to a length that can be shown.
    pub text: String,
}

impl Bad {
    /// What is wrong with it, in a sentence.
    pub fn message(&self) -> String {
        let text = &self.text;
        match self.reason {
            INVALID_ADDRESS => format!("{text:?} is no IPv4 or IPv6 address"),
            INVALID_NAME => format!("{text:?} is no name of a host (letters, digits, hyphens, dots; RFC 1123)"),
            NO_NAME => format!("the address {text} has no name"),
            LINE_TOO_LONG => format!("the line is longer than {LINE_BYTES} bytes"),
            INVALID_UTF8 => "the line is not UTF-8".to_owned(),
            _ => text.clone(),
        }
    }

    /// Tells it apart from other mistakes of a file, wherever its line moves to (FNV-1a).
    pub fn hash(&self) -> u64 {
        let bytes = self.reason.bytes().chain([0]).chain(self.text.bytes());
        bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
    }
}

pub(super) const INVALID_ADDRESS: &str = "invalid_address";
pub(super) const INVALID_NAME: &str = "invalid_name";
pub(super) const NO_NAME: &str = "no_name";
pub(super) const LINE_TOO_LONG: &str = "line_too_long";
pub(super) const INVALID_UTF8: &str = crate::source::decode::reason::INVALID_UTF8;
pub(super) const TOO_MANY: &str = "too_many";

/// What a file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Parsed {
    pub records: Vec<Record>,
    pub bad: Vec<Bad>,
}

/// Reads a file; at most `limit` records.
pub(super) fn parse(bytes: &[u8], limit: usize) -> Parsed {
    let mut parsed = Parsed::default();
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let mut left_out = 0_usize;
    let mut line_number = 0_u32;
    for line in bytes.split(|byte| *byte == b'\n') {
        line_number = line_number.saturating_add(1);
        if line.len() > LINE_BYTES {
            parsed.bad(line_number, LINE_TOO_LONG, &String::from_utf8_lossy(&line[..SHOWN_BYTES]));
            continue;
        }
        let line = line.split(|byte| *byte == b'#').next().unwrap_or(line);
        let Ok(line) = std::str::from_utf8(line) else {
            parsed.bad(line_number, INVALID_UTF8, &String::from_utf8_lossy(line));
            continue;
        };
        let mut words = line.split_ascii_whitespace();
        let Some(first) = words.next() else { continue };
        let Some((family, address)) = address(first) else {
            parsed.bad(line_number, INVALID_ADDRESS, first);
            continue;
        };
        let mut names: Vec<String> = Vec::new();
        let mut written = 0;
        for word in words {
            written += 1;
            match name(word) {
                Some(name) if names.contains(&name) => {}
                Some(name) => names.push(name),
                None => parsed.bad(line_number, INVALID_NAME, word),
            }
        }
        if written == 0 {
            parsed.bad(line_number, NO_NAME, first);
        }
        for at in 0..names.len() {
            if parsed.records.len() >= limit {
                left_out += 1;
                continue;
            }
            let others = names.iter().enumerate().filter(|(other, _)| *other != at).map(|(_, name)| name.clone());
            let (name, aliases) = (names[at].clone(), others.collect());
            parsed.records.push(Record { name, family, address: address.clone(), aliases, line: line_number });
        }
    }
    if left_out > 0 {
        let text = format!("{left_out} records beyond the first {limit} are left out");
        parsed.bad.push(Bad { line: line_number, reason: TOO_MANY, text });
    }
    parsed
}

impl Parsed {
    fn bad(&mut self, line: u32, reason: &'static str, text: &str) {
        if self.bad.len() == BAD {
            let text = format!("more than {BAD} mistakes: the others are left out");
            self.bad.push(Bad { line, reason: TOO_MANY, text });
        }
        if self.bad.len() > BAD {
            return;
        }
        let mut end = text.len().min(SHOWN_BYTES);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        self.bad.push(Bad { line, reason, text: text[..end].to_owned() });
    }
}

/// An address in its shortest form, with its zone.
fn address(text: &str) -> Option<(Family, String)> {
    if let Ok(address) = text.parse::<Ipv4Addr>() {
        return Some((Family::A, address.to_string()));
    }
    let (bare, zone) = text.split_once('%').map_or((text, None), |(bare, zone)| (bare, Some(zone)));
    let address: Ipv6Addr = bare.parse().ok()?;
    match zone {
        None => Some((Family::Aaaa, address.to_string())),
        // The name or the number of an interface.
        Some(zone) if !zone.is_empty() && zone.len() <= 32 && zone.bytes().all(is_zone) => {
            Some((Family::Aaaa, format!("{address}%{zone}")))
        }
        Some(_) => None,
    }
}

fn is_zone(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

/// A name of a host in lower case, without the dot that may end it.
fn name(text: &str) -> Option<String> {
    let text = text.strip_suffix('.').unwrap_or(text);
    let label = |label: &str| {
        let bytes = label.as_bytes();
        !bytes.is_empty()
            && bytes.len() <= LABEL_BYTES
            && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-')
            && bytes.first() != Some(&b'-')
            && bytes.last() != Some(&b'-')
    };
    (text.len() <= NAME_BYTES && text.split('.').all(label)).then(|| text.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(text: &str, records: &[&str], bad: &[(u32, &str)]) {
        let parsed = parse(text.as_bytes(), 1_000);
        let read: Vec<String> = parsed
            .records
            .iter()
            .map(|record| format!("{} {} {} {}", record.line, record.name, record.family.record(), record.address))
            .collect();
        assert_eq!(read, records, "{text:?}");
        let wrong: Vec<(u32, &str)> = parsed.bad.iter().map(|bad| (bad.line, bad.reason)).collect();
        assert_eq!(wrong, bad, "{text:?}");
    }

    #[test]
    fn records_comments_and_line_ends() {
        check("127.0.0.1 localhost\n", &["1 localhost A 127.0.0.1"], &[]);
        check(
            "\u{feff}127.0.0.1\tLocalHost  local # x\r\n\r\n# y\n::1 ip6",
            &["1 localhost A 127.0.0.1", "1 local A 127.0.0.1", "4 ip6 AAAA ::1"],
            &[],
        );
        check("fe80:0:0::1%eth0 gate.example.", &["1 gate.example AAAA fe80::1%eth0"], &[]);
        check("2001:DB8::A:0:0:1 a a A", &["1 a AAAA 2001:db8::a:0:0:1"], &[]);
        check("", &[], &[]);
        assert_eq!(parse(b"10.0.0.1 a b c", 9).records[1].aliases, ["a", "c"]);
    }

    #[test]
    fn mistakes_have_their_lines_and_spoil_only_themselves() {
        check("10.0.0.256 a\n10.0.0.1 b\n", &["2 b A 10.0.0.1"], &[(1, INVALID_ADDRESS)]);
        check("10.0.0.1 -a b_c ok\n", &["1 ok A 10.0.0.1"], &[(1, INVALID_NAME), (1, INVALID_NAME)]);
        check("10.0.0.1\n", &[], &[(1, NO_NAME)]);
        check(
            "010.0.0.1 a\nfe80::1% b\nfe80::1%a/b c\n1.2.3.4%eth0 d",
            &[],
            &[(1, INVALID_ADDRESS), (2, INVALID_ADDRESS), (3, INVALID_ADDRESS), (4, INVALID_ADDRESS)],
        );
        check(
            &format!("10.0.0.1 {}\n10.0.0.1 {}.b\n", "a".repeat(64), "a".repeat(63)),
            &[&format!("2 {}.b A 10.0.0.1", "a".repeat(63))],
            &[(1, INVALID_NAME)],
        );
        check(&format!("10.0.0.1 {}\n10.0.0.2 b", "a ".repeat(5_000)), &["2 b A 10.0.0.2"], &[(1, LINE_TOO_LONG)]);
        let broken = parse(b"10.0.0.1 a\xff\n10.0.0.2 b # \xff\n", 9);
        assert_eq!((broken.records.len(), broken.bad[0].reason), (1, INVALID_UTF8));
    }

    #[test]
    fn there_is_an_end_to_everything() {
        let many: String = (0..30).map(|at| format!("10.0.0.{at} h{at}\n")).collect();
        let parsed = parse(many.as_bytes(), 10);
        assert_eq!((parsed.records.len(), parsed.bad[0].reason), (10, TOO_MANY));
        let parsed = parse("x y\n".repeat(5_000).as_bytes(), 10);
        assert_eq!((parsed.bad.len(), parsed.bad[BAD].reason), (BAD + 1, TOO_MANY));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]
        #[test]
        fn any_bytes_are_read(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            parse(&bytes, 50);
        }

        #[test]
        fn what_is_written_is_read(v4: u32, v6: u128, names in prop::collection::btree_set("[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?(\\.[a-z]{1,8}){0,3}", 1..5)) {
            let names: Vec<String> = names.into_iter().collect();
            for (address, family) in [(Ipv4Addr::from_bits(v4).to_string(), Family::A), (Ipv6Addr::from_bits(v6).to_string(), Family::Aaaa)] {
                let parsed = parse(format!("# x\n  {address} \t {}\r\n", names.join("  ")).as_bytes(), 50);
                prop_assert_eq!(&parsed.bad, &Vec::new());
                let read: Vec<(&str, &str, Family, u32)> = parsed.records.iter().map(|record| (record.name.as_str(), record.address.as_str(), record.family, record.line)).collect();
                let wanted: Vec<(&str, &str, Family, u32)> = names.iter().map(|name| (name.as_str(), address.as_str(), family, 2)).collect();
                prop_assert_eq!(read, wanted);
            }
        }
    }
}
