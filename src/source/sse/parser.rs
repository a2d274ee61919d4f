//! The stream format of server-sent events (WHATWG HTML, section 9.2.5 and 9.2.6): bytes in, events out.
//!
//! Synchronous, and blind to how the bytes are cut: any division gives the same events.

use http::HeaderValue;

/// One event of the stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ServerEvent {
    /// `event`; `message` when the server names none.
    pub name: String,
    /// The lines of `data`, joined.
    pub data: Vec<u8>,
    /// Bytes of `data` in all, when they were more than the limit; then `data` is empty.
    pub too_large: Option<usize>,
    /// The last `id` up to here; empty when the server gave none.
    pub id: String,
    /// The id came with this event, and is not one from before that still holds.
    pub own_id: bool,
}

/// The name of an event without one.
const MESSAGE: &str = "message";
/// Longer names and ids are of no use to anybody.
const LONGEST_WORD_BYTES: usize = 4 << 10;
const BYTE_ORDER_MARK: [u8; 3] = [0xEF, 0xBB, 0xBF];

/// Reads the stream of one connection.
#[derive(Debug)]
pub(super) struct Parser {
    /// Bytes of data of one event that are kept.
    limit_bytes: usize,
    /// The line so far. Of a line that is too long only its beginning.
    line: Vec<u8>,
    /// Bytes of the line, kept or not.
    line_bytes: usize,
    /// The last byte was a CR: a LF behind it belongs to the same end of line.
    after_cr: bool,
    /// Bytes of the byte order mark that were found; 3 when it is decided.
    mark: usize,
    name: String,
    data: Vec<u8>,
    /// Bytes of data, its newlines included, kept or not.
    data_bytes: usize,
    has_data: bool,
    /// What `id` said last; it stays from event to event.
    id: String,
    /// It was said in the lines of the event that is being read.
    own_id: bool,
    retry_ms: Option<u64>,
}

impl Parser {
    /// `id` is the last one of the connection before: an event without one keeps it.
    pub fn new(limit_bytes: usize, id: String) -> Self {
        Self {
            limit_bytes,
            line: Vec::new(),
            line_bytes: 0,
            after_cr: false,
            mark: 0,
            name: String::new(),
            data: Vec::new(),
            data_bytes: 0,
            has_data: false,
            id,
            own_id: false,
            retry_ms: None,
        }
    }

    /// What the server last said how long to wait before a new connection, in milliseconds.
    pub fn take_retry_ms(&mut self) -> Option<u64> {
        self.retry_ms.take()
    }

    /// Takes more bytes; whole events are added to `events`.
    pub fn push(&mut self, mut bytes: &[u8], events: &mut Vec<ServerEvent>) {
        while self.mark < BYTE_ORDER_MARK.len() {
            let Some(first) = bytes.first() else { return };
            if *first != BYTE_ORDER_MARK[self.mark] {
                // What looked like its beginning is content.
                let begun = &BYTE_ORDER_MARK[..self.mark];
                self.mark = BYTE_ORDER_MARK.len();
                self.keep(begun);
                break;
            }
            self.mark += 1;
            bytes = &bytes[1..];
        }
        while !bytes.is_empty() {
            if std::mem::take(&mut self.after_cr) && bytes[0] == b'\n' {
                bytes = &bytes[1..];
                continue;
            }
            match memchr::memchr2(b'\n', b'\r', bytes) {
                None => return self.keep(bytes),
                Some(end) => {
                    self.keep(&bytes[..end]);
                    self.after_cr = bytes[end] == b'\r';
                    bytes = &bytes[end + 1..];
                    self.end_line(events);
                }
            }
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        // The name of the longest field and its colon and space besides; a word of the longest size in any case.
        let most = self.limit_bytes.max(LONGEST_WORD_BYTES) + 16;
        let room = most.saturating_sub(self.line.len()).min(bytes.len());
        self.line.extend_from_slice(&bytes[..room]);
        self.line_bytes += bytes.len();
    }

    fn end_line(&mut self, events: &mut Vec<ServerEvent>) {
        let line = std::mem::take(&mut self.line);
        let cut = std::mem::take(&mut self.line_bytes) - line.len();
        if line.is_empty() {
            self.dispatch(events);
        } else {
            let (field, value) = match memchr::memchr(b':', &line) {
                Some(at) => (&line[..at], line[at + 1..].strip_prefix(b" ").unwrap_or(&line[at + 1..])),
                None => (&line[..], &line[line.len()..]),
            };
            self.field(field, value, cut);
        }
        // Its room serves the next line.
        self.line = line;
        self.line.clear();
    }

    fn field(&mut self, field: &[u8], value: &[u8], cut: usize) {
        let word = || {
            let fits = cut == 0 && value.len() <= LONGEST_WORD_BYTES;
            fits.then(|| String::from_utf8_lossy(value).into_owned())
        };
        match field {
            b"data" => {
                self.data_bytes += value.len() + cut + usize::from(self.has_data);
                if self.data_bytes <= self.limit_bytes {
                    if self.has_data {
                        self.data.push(b'\n');
                    }
                    self.data.extend_from_slice(value);
                }
                self.has_data = true;
            }
            b"event" => self.name = word().unwrap_or_default(),
            b"id" if !value.contains(&0) => {
                // One that cannot be sent back in a header is none: going on behind the one before would repeat events.
                self.id = word().filter(|id| HeaderValue::from_bytes(id.as_bytes()).is_ok()).unwrap_or_default();
                self.own_id = true;
            }
            b"retry" if !value.is_empty() && value.iter().all(u8::is_ascii_digit) => {
                // A number too large for a number is a server that wants no new connection for long.
                self.retry_ms = word().map(|digits| digits.parse().unwrap_or(u64::MAX));
            }
            // Comments (no name before the colon) and fields of later times.
            _ => {}
        }
    }

    fn dispatch(&mut self, events: &mut Vec<ServerEvent>) {
        let name = std::mem::take(&mut self.name);
        let data = std::mem::take(&mut self.data);
        let bytes = std::mem::take(&mut self.data_bytes);
        let own_id = std::mem::take(&mut self.own_id);
        // By the standard, an event whose data is empty is none: `data` alone is a heartbeat of some servers.
        if std::mem::take(&mut self.has_data) && bytes > 0 {
            let too_large = (bytes > self.limit_bytes).then_some(bytes);
            let name = if name.is_empty() { MESSAGE.to_owned() } else { name };
            let data = if too_large.is_some() { Vec::new() } else { data };
            events.push(ServerEvent { name, data, too_large, id: self.id.clone(), own_id });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(pieces: &[&[u8]], limit: usize) -> (Vec<ServerEvent>, Option<u64>, String) {
        let (mut parser, mut events) = (Parser::new(limit, String::new()), Vec::new());
        for piece in pieces {
            parser.push(piece, &mut events);
        }
        (events, parser.take_retry_ms(), parser.id)
    }

    /// Events as `name|data|id`.
    fn check(stream: &str, expected: &[&str]) {
        let (events, ..) = parse(&[stream.as_bytes()], 1 << 20);
        let shown: Vec<String> = events
            .iter()
            .map(|event| format!("{}|{}|{}", event.name, String::from_utf8_lossy(&event.data), event.id))
            .collect();
        assert_eq!(shown, expected, "{stream:?}");
    }

    #[test]
    fn the_examples_of_the_standard() {
        check("data: YHOO\ndata: +2\ndata: 10\n\n", &["message|YHOO\n+2\n10|"]);
        check(
            ": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n",
            &["message|first event|1", "message|second event|", "message| third event|"],
        );
        // The last block is not ended by an empty line.
        check("data\n\ndata\ndata\n\ndata:", &["message|\n|"]);
        check("data:test\n\ndata: test\n\n", &["message|test|", "message|test|"]);
        check("event: add\ndata: 73857293\n\nevent: remove\ndata: 2153\n\n", &["add|73857293|", "remove|2153|"]);
    }

    #[test]
    fn line_ends_marks_and_odd_fields() {
        check("data: a\r\ndata: b\r\r\ndata: c\r\n\r\n", &["message|a\nb|", "message|c|"]);
        check("data: a\r\rdata: b\n\r\n", &["message|a|", "message|b|"]);
        check("\u{feff}data: a\n\n\u{feff}data: b\n\n", &["message|a|"]);
        check("event: x\n\ndata: a\n\n", &["message|a|"]);
        check(
            "id: 1\n\ndata: a\n\nid: 2\0\ndata: b\n\nid:\ndata: c\n\n",
            &["message|a|1", "message|b|1", "message|c|"],
        );
        check("Data: a\n data: b\ndata : c\n:data: d\n\n", &[]);
        check("data: a: b\n\n", &["message|a: b|"]);
        check("", &[]);
    }

    #[test]
    fn an_event_says_whether_the_id_is_its_own() {
        let stream = b"id: 1\ndata: a\n\ndata: b\n\nid: 2\n\ndata: c\n\nid: 2\ndata: d\n\n";
        let (events, ..) = parse(&[stream], 100);
        let ids: Vec<_> = events.iter().map(|event| (event.id.as_str(), event.own_id)).collect();
        assert_eq!(ids, [("1", true), ("1", false), ("2", false), ("2", true)]);
    }

    #[test]
    fn an_id_that_no_header_can_carry_is_none() {
        for id in ["a\u{1}b", "\u{7f}", "\u{8}", &"i".repeat(5_000)] {
            let stream = format!("id: 1\ndata: a\n\nid: {id}\ndata: b\n\ndata: c\n\nid: \u{e4} 2\ndata: d\n\n");
            let (events, ..) = parse(&[stream.as_bytes()], 100);
            let ids: Vec<_> = events.iter().map(|event| event.id.as_str()).collect();
            assert_eq!(ids, ["1", "", "", "\u{e4} 2"], "{id:?}");
        }
    }

    #[test]
    fn retry_takes_digits_only() {
        let retry = |stream: &str| parse(&[stream.as_bytes()], 100).1;
        assert_eq!(retry("retry: 3000\n"), Some(3000));
        assert_eq!(retry("retry: 3s\nretry:\nretry: -1\n"), None);
        assert_eq!(retry("retry: 99999999999999999999999\n"), Some(u64::MAX));
    }

    #[test]
    fn what_is_too_large_is_not_kept() {
        let long = format!("event: big\ndata: {}\ndata: {}\n\ndata: ok\n\n", "x".repeat(9_000), "y".repeat(9_000));
        let (events, ..) = parse(&[long.as_bytes()], 100);
        let shown: Vec<_> =
            events.iter().map(|event| (event.name.as_str(), event.data.len(), event.too_large)).collect();
        assert_eq!(shown, [("big", 0, Some(18_001)), ("message", 2, None)]);
        let (events, _, id) = parse(&[format!("id: {}\ndata: a\n\n", "i".repeat(5_000)).as_bytes()], 100);
        assert_eq!((events.len(), id.as_str()), (1, ""), "an id that long is none");
    }

    proptest! {
        #[test]
        fn any_division_gives_the_same_events(
            parts in prop::collection::vec(
                prop_oneof![
                    Just("data: a".to_owned()), Just("data".to_owned()), Just("event: e".to_owned()), Just("id: 7".to_owned()),
                    Just("retry: 12".to_owned()), Just("\n".to_owned()), Just("\r".to_owned()), Just("\r\n".to_owned()),
                    Just("\u{feff}".to_owned()), Just(": c".to_owned()), "[a-z:\u{e4} ]{0,12}",
                ],
                0..60,
            ),
            cuts in prop::collection::vec(0..400_usize, 0..12),
            limit in 1..40_usize,
        ) {
            let stream = parts.concat().into_bytes();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(stream.len())).collect();
            cuts.extend([0, stream.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &stream[pair[0]..pair[1]]).collect();
            let single: Vec<&[u8]> = stream.chunks(1).collect();
            let whole = parse(&[&stream], limit);
            prop_assert_eq!(&parse(&pieces, limit), &whole);
            prop_assert_eq!(&parse(&single, limit), &whole);
        }

        #[test]
        fn any_bytes_are_taken(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let (events, ..) = parse(&[&bytes], 50);
            prop_assert!(events.iter().all(|event| event.data.len() <= 50));
        }
    }
}
