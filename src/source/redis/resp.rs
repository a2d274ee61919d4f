//! Replies of the Redis protocol (RESP2), read in place: entries and messages go from the bytes of the connection into the
//! batch without a tree of values between them, and what is larger than an event may be is never kept.
//!
//! <https://redis.io/docs/latest/develop/reference/protocol-spec/>

use std::fmt;

/// Levels of nesting; a reply of XREADGROUP has four.
const DEPTH: usize = 16;
/// Bytes of a line: a header, a status or an error.
const LINE_BYTES: usize = 64 << 10;
/// The longest text that the protocol knows (proto-max-bulk-len is 512 MB), with room.
const BULK_BYTES: i64 = 8 << 30;

/// What is no reply of Redis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Garbage(String);

impl fmt::Display for Garbage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "this is no Redis server: it answers {:?}", self.0)
    }
}

fn garbage(bytes: &[u8]) -> Garbage {
    Garbage(String::from_utf8_lossy(&bytes[..bytes.len().min(40)]).into_owned())
}

/// One piece of a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Item<'a> {
    /// `+OK`.
    Status(&'a [u8]),
    /// `-ERR ...`.
    Error(&'a [u8]),
    /// `:1`.
    Integer(i64),
    /// `$3`.
    Bulk(&'a [u8]),
    /// A text longer than the limit, which was not kept: its bytes.
    TooLong(u64),
    /// `$-1` or `*-1`.
    Nil,
    /// So many items follow.
    Array(usize),
}

/// A header: what it says and where it ends.
enum Head<'a> {
    Line(Item<'a>),
    Bulk(u64),
}

/// The header at `at`; `None` when it is not whole.
fn head(bytes: &[u8], at: usize) -> Result<Option<(Head<'_>, usize)>, Garbage> {
    let rest = &bytes[at..];
    let Some(&kind) = rest.first() else { return Ok(None) };
    if !matches!(kind, b'+' | b'-' | b':' | b'$' | b'*') {
        return Err(garbage(rest));
    }
    let Some(end) = memchr::memchr(b'\r', &rest[..rest.len().min(LINE_BYTES)]) else {
        return if rest.len() >= LINE_BYTES { Err(garbage(rest)) } else { Ok(None) };
    };
    match rest.get(end + 1) {
        None => return Ok(None),
        Some(b'\n') => {}
        Some(_) => return Err(garbage(rest)),
    }
    let line = &rest[1..end];
    let number =
        || std::str::from_utf8(line).ok().and_then(|text| text.parse::<i64>().ok()).ok_or_else(|| garbage(rest));
    let head = match kind {
        b'+' => Head::Line(Item::Status(line)),
        b'-' => Head::Line(Item::Error(line)),
        b':' => Head::Line(Item::Integer(number()?)),
        b'$' => match number()? {
            -1 => Head::Line(Item::Nil),
            length @ 0..=BULK_BYTES => Head::Bulk(length.unsigned_abs()),
            _ => return Err(garbage(rest)),
        },
        _ => match number()? {
            -1 => Head::Line(Item::Nil),
            count => Head::Line(Item::Array(usize::try_from(count).map_err(|_| garbage(rest))?)),
        },
    };
    Ok(Some((head, at + end + 2)))
}

/// Finds where replies end, as their bytes come. Texts longer than the limit are cut out of the buffer on the way; only
/// their header stays.
#[derive(Debug)]
pub(super) struct Scanner {
    /// Everything before this was looked at.
    at: usize,
    /// Whole replies end here.
    done: usize,
    /// Items that are still to come on each level.
    open: Vec<usize>,
    /// Bytes of a long text, with its end of line, that are still to be thrown away.
    skip: u64,
    limit: u64,
}

impl Scanner {
    pub fn new(limit_bytes: usize) -> Self {
        Self { at: 0, done: 0, open: Vec::new(), skip: 0, limit: limit_bytes as u64 }
    }

    /// Cuts off the whole replies that were found.
    pub fn cut(&mut self, buffer: &mut Vec<u8>) -> Vec<u8> {
        let rest = buffer.split_off(self.done);
        self.at -= self.done;
        self.done = 0;
        std::mem::replace(buffer, rest)
    }

    /// Looks for the end of one more reply; `false` when it is not whole.
    pub fn scan(&mut self, buffer: &mut Vec<u8>) -> Result<bool, Garbage> {
        loop {
            if self.skip > 0 {
                let there = (buffer.len() - self.at).min(usize::try_from(self.skip).unwrap_or(usize::MAX));
                buffer.drain(self.at..self.at + there);
                self.skip -= there as u64;
                if self.skip > 0 {
                    return Ok(false);
                }
            } else {
                let Some((head, end)) = head(buffer, self.at)? else { return Ok(false) };
                match head {
                    Head::Bulk(length) if length > self.limit => {
                        self.at = end;
                        self.skip = length + 2;
                        continue;
                    }
                    Head::Bulk(length) => {
                        let after = end + usize::try_from(length).unwrap_or(usize::MAX) + 2;
                        if buffer.len() < after {
                            return Ok(false);
                        }
                        self.at = after;
                    }
                    Head::Line(Item::Array(count)) if count > 0 => {
                        if self.open.len() == DEPTH {
                            return Err(garbage(&buffer[self.at..]));
                        }
                        self.at = end;
                        self.open.push(count);
                        continue;
                    }
                    Head::Line(_) => self.at = end,
                }
            }
            if self.close() {
                self.done = self.at;
                return Ok(true);
            }
        }
    }

    /// One item is whole; whether the reply is.
    fn close(&mut self) -> bool {
        while let Some(left) = self.open.last_mut() {
            *left -= 1;
            if *left > 0 {
                return false;
            }
            self.open.pop();
        }
        true
    }
}

/// Walks through whole replies.
#[derive(Clone, Debug)]
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    limit: u64,
}

impl<'a> Reader<'a> {
    /// `limit_bytes` as the scanner had it.
    pub fn new(bytes: &'a [u8], limit_bytes: usize) -> Self {
        Self { bytes, at: 0, limit: limit_bytes as u64 }
    }

    /// The next item; `None` at the end, and where something is not a reply (the scanner lets none through).
    pub fn item(&mut self) -> Option<Item<'a>> {
        let (head, end) = head(self.bytes, self.at).ok()??;
        self.at = end;
        Some(match head {
            Head::Line(item) => item,
            Head::Bulk(length) if length > self.limit => Item::TooLong(length),
            Head::Bulk(length) => {
                let text = self.bytes.get(end..end + length as usize)?;
                self.at = end + text.len() + 2;
                Item::Bulk(text)
            }
        })
    }

    /// The next item when it is a text.
    pub fn text(&mut self) -> Option<&'a [u8]> {
        match self.item()? {
            Item::Bulk(text) | Item::Status(text) => Some(text),
            _ => None,
        }
    }

    /// How many items follow, when the next one is an array; 0 for nil.
    pub fn array(&mut self) -> Option<usize> {
        match self.item()? {
            Item::Array(count) => Some(count),
            Item::Nil => Some(0),
            _ => None,
        }
    }

    /// Passes over one item with all that is in it; `None` at the end.
    pub fn skip(&mut self) -> Option<()> {
        let mut left = 1_usize;
        while left > 0 {
            left -= 1;
            if let Item::Array(count) = self.item()? {
                left += count;
            }
        }
        Some(())
    }

    /// Whether there is nothing more.
    pub fn is_done(&self) -> bool {
        self.at >= self.bytes.len()
    }
}

/// A command as it is sent: an array of texts.
pub(super) fn command(out: &mut Vec<u8>, words: &[&[u8]]) {
    out.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        out.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds the text in pieces of every size and says what was found: replies, each as the debug form of its items.
    fn check(text: &str, limit: usize, expected: &[&str]) {
        for piece in 1..=text.len() {
            let (mut scanner, mut buffer, mut found) = (Scanner::new(limit), Vec::new(), Vec::new());
            for bytes in text.as_bytes().chunks(piece) {
                buffer.extend_from_slice(bytes);
                while scanner.scan(&mut buffer).unwrap() {
                    let whole = scanner.cut(&mut buffer);
                    let mut reader = Reader::new(&whole, limit);
                    let mut said = String::new();
                    while let Some(item) = reader.item() {
                        said += &match item {
                            Item::Bulk(text) => format!("{} ", String::from_utf8_lossy(text)),
                            Item::Status(text) => format!("+{} ", String::from_utf8_lossy(text)),
                            Item::Error(text) => format!("-{} ", String::from_utf8_lossy(text)),
                            other => format!("{other:?} "),
                        };
                    }
                    assert!(reader.is_done());
                    found.push(said.trim_end().to_owned());
                }
            }
            assert_eq!(found, expected, "pieces of {piece}");
            assert!(buffer.is_empty());
        }
    }

    #[test]
    fn replies_are_found_whatever_the_pieces() {
        check(
            "+OK\r\n-ERR no\r\n:-3\r\n$-1\r\n*-1\r\n*0\r\n",
            9,
            &["+OK", "-ERR no", "Integer(-3)", "Nil", "Nil", "Array(0)"],
        );
        check(
            "*2\r\n$1\r\na\r\n*2\r\n*1\r\n$0\r\n\r\n:1\r\n$2\r\n\r\n\r\n",
            9,
            &["Array(2) a Array(2) Array(1)  Integer(1)", "\r\n".trim_end()],
        );
        check("*3\r\n$1\r\na\r\n$12\r\n0123456789ab\r\n$1\r\nb\r\n+X\r\n", 9, &["Array(3) a TooLong(12) b", "+X"]);
    }

    #[test]
    fn what_is_no_reply_is_said() {
        for text in ["HTTP/1.1 400 Bad Request\r\n", "$x\r\n", "*-7\r\n", "$99999999999999\r\n", ":1\rx"] {
            let garbage = Scanner::new(9).scan(&mut text.into()).unwrap_err();
            assert!(garbage.to_string().starts_with("this is no Redis server: it answers "), "{garbage}");
        }
        let deep = "*1\r\n".repeat(DEPTH + 1);
        assert!(Scanner::new(9).scan(&mut deep.into()).is_err());
        let long = format!("+{}", "x".repeat(LINE_BYTES));
        assert!(Scanner::new(9).scan(&mut long.into()).is_err());
    }

    #[test]
    fn commands_are_arrays_of_texts() {
        let mut out = Vec::new();
        command(&mut out, &[b"GET", b""]);
        assert_eq!(out, b"*2\r\n$3\r\nGET\r\n$0\r\n\r\n");
    }
}
