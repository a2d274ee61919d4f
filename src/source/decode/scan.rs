//! One pass over a JSON document (RFC 8259): all of it is validated, only the wanted paths are taken out.

use super::number;
use super::trie::{NONE, Node, Trie};
use crate::model::{Field, Text};

/// What is wrong with a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// The text ends inside a value.
    End,
    /// Nested deeper than the limit.
    Deep,
    Value,
    Key,
    Colon,
    CommaInObject,
    CommaInArray,
    Escape,
    Control,
    Number,
    Literal,
    Trailing,
}

impl What {
    /// What was expected, for the sender.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::End => "the text ends inside a value",
            Self::Deep => "nested too deep",
            Self::Value => "a value was expected",
            Self::Key => "a key in double quotes was expected",
            Self::Colon => "a colon was expected",
            Self::CommaInObject => "a comma or a closing brace was expected",
            Self::CommaInArray => "a comma or a closing bracket was expected",
            Self::Escape => "a backslash must be followed by one of \" \\ / b f n r t or by u and four hex digits",
            Self::Control => "a control character in a text must be escaped",
            Self::Number => "a number needs a digit here",
            Self::Literal => "only true, false and null may stand without quotes",
            Self::Trailing => "something follows the value",
        }
    }
}

/// What is wrong and at which byte of the scanned text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub what: What,
    pub at: u32,
}

/// Where the scanned text stands in the batch.
#[derive(Clone, Copy, Debug)]
pub(super) enum Origin {
    /// It is the received buffer.
    Buffer,
    /// It was put into the arena at this byte.
    Arena(u32),
}

/// Values found, by slot; reused from document to document.
#[derive(Debug, Default)]
pub(super) struct Work {
    pub values: Vec<Field>,
    pub touched: Vec<u32>,
    pub lists: Vec<Vec<Field>>,
    seen: Vec<u32>,
    objects: u32,
}

impl Work {
    pub fn new(trie: &Trie) -> Self {
        Self {
            values: vec![Field::Missing; trie.list_of.len()],
            touched: Vec::with_capacity(trie.list_of.len()),
            lists: vec![Vec::new(); trie.lists],
            seen: vec![0; trie.nodes.len()],
            objects: 0,
        }
    }

    /// Forgets the last document.
    pub fn clear(&mut self) {
        for slot in self.touched.drain(..) {
            self.values[slot as usize] = Field::Missing;
        }
        for list in &mut self.lists {
            list.clear();
        }
    }
}

/// Reads documents out of one text. `bytes` ends where the document must end at the latest.
pub(super) struct Scanner<'a> {
    pub bytes: &'a [u8],
    pub pos: usize,
    pub trie: &'a Trie,
    pub work: &'a mut Work,
    pub arena: &'a mut String,
    pub origin: Origin,
    pub depth_limit: u32,
    /// A wanted key stood twice in one object: scan again, `careful`.
    duplicate: bool,
    /// Take only the last of equal keys; needs a look ahead through each object.
    careful: bool,
}

const ONES: u64 = u64::MAX / 255;
const HIGHS: u64 = ONES << 7;

/// High bits set from the first byte on that ends a run of plain text: quote, backslash, control. Only the lowest is exact.
#[inline]
fn special(word: u64) -> u64 {
    let quote = word ^ (ONES * b'"' as u64);
    let backslash = word ^ (ONES * b'\\' as u64);
    let found = (quote.wrapping_sub(ONES) & !quote)
        | (backslash.wrapping_sub(ONES) & !backslash)
        | (word.wrapping_sub(ONES * 0x20) & !word);
    found & HIGHS
}

impl<'a> Scanner<'a> {
    pub fn new(
        bytes: &'a [u8],
        trie: &'a Trie,
        work: &'a mut Work,
        arena: &'a mut String,
        origin: Origin,
        depth_limit: u32,
    ) -> Self {
        Self { bytes, pos: 0, trie, work, arena, origin, depth_limit, duplicate: false, careful: false }
    }

    /// Reads the value at `pos` (blanks before it are skipped) into the slots under `node`. Afterwards `pos` is behind it.
    pub fn document(&mut self, node: u32) -> Result<(), Fault> {
        self.blanks();
        let (start, arena_mark, touched_mark) = (self.pos, self.arena.len(), self.work.touched.len());
        (self.duplicate, self.careful) = (false, false);
        self.value(node, 0)?;
        if self.duplicate {
            self.pos = start;
            self.arena.truncate(arena_mark);
            for slot in self.work.touched.drain(touched_mark..) {
                self.work.values[slot as usize] = Field::Missing;
                let list = self.trie.list_of[slot as usize];
                if list != NONE {
                    self.work.lists[list as usize].clear();
                }
            }
            self.careful = true;
            self.value(node, 0)?;
        }
        Ok(())
    }

    #[inline]
    fn fault<T>(&self, what: What) -> Result<T, Fault> {
        let what = if self.pos >= self.bytes.len() { What::End } else { what };
        Err(Fault { what, at: self.pos as u32 })
    }

    #[inline]
    fn peek(&self) -> u8 {
        // 0 is no byte that JSON allows outside of texts, so the end needs no case of its own.
        self.bytes.get(self.pos).copied().unwrap_or(0)
    }

    #[inline]
    pub fn blanks(&mut self) {
        while matches!(self.peek(), b' ' | b'\n' | b'\r' | b'\t') {
            self.pos += 1;
        }
    }

    fn text(&self, start: usize, end: usize) -> Text {
        let (start, len) = (start as u32, (end - start) as u32);
        match self.origin {
            Origin::Buffer => Text::in_buffer(start, len),
            Origin::Arena(base) => Text::in_arena(base + start, len),
        }
    }

    #[inline]
    fn store(&mut self, node: &Node, field: Field) {
        for slot in &node.slots {
            let list = self.trie.list_of[*slot as usize];
            if list == NONE {
                self.work.values[*slot as usize] = field;
                self.work.touched.push(*slot);
            } else if let Some(last) = self.work.lists[list as usize].last_mut() {
                *last = field;
            }
        }
    }

    fn value(&mut self, at: u32, depth: u32) -> Result<(), Fault> {
        let trie = self.trie;
        let node = &trie.nodes[at as usize];
        let start = self.pos;
        match self.peek() {
            b'"' => {
                self.pos += 1;
                let escaped = self.string_end()?;
                let (from, to) = (start + 1, self.pos - 1);
                if !node.slots.is_empty() {
                    let text = if escaped { self.unescape(from, to) } else { self.text(from, to) };
                    self.store(node, Field::Text(text));
                }
                Ok(())
            }
            b'{' => {
                if !node.has_keys {
                    self.skip(depth)?;
                } else if self.careful {
                    self.object_with_duplicates(node, depth)?;
                } else {
                    self.object(node, depth)?;
                }
                self.store(node, Field::Json(self.text(start, self.pos)));
                Ok(())
            }
            b'[' => {
                if node.each == NONE && node.indexes.is_empty() {
                    self.skip(depth)?;
                } else {
                    self.array(node, depth)?;
                }
                self.store(node, Field::Json(self.text(start, self.pos)));
                Ok(())
            }
            b't' => self.literal("true").map(|()| self.store(node, Field::Bool(true))),
            b'f' => self.literal("false").map(|()| self.store(node, Field::Bool(false))),
            b'n' => self.literal("null").map(|()| self.store(node, Field::Null)),
            b'-' | b'0'..=b'9' => {
                self.number_end()?;
                if !node.slots.is_empty() {
                    let digits = std::str::from_utf8(&self.bytes[start..self.pos]).unwrap_or("");
                    self.store(node, Field::Number(number::to_f64(digits), self.text(start, self.pos)));
                }
                Ok(())
            }
            _ => self.fault(What::Value),
        }
    }

    fn deeper(&self, depth: u32) -> Result<u32, Fault> {
        if depth >= self.depth_limit { Err(Fault { what: What::Deep, at: self.pos as u32 }) } else { Ok(depth + 1) }
    }

    /// From the opening quote to behind the colon and the blanks: the range of the key and whether it has escapes.
    #[inline]
    fn key(&mut self) -> Result<(usize, usize, bool), Fault> {
        if self.peek() != b'"' {
            return self.fault(What::Key);
        }
        self.pos += 1;
        let start = self.pos;
        let escaped = self.string_end()?;
        let end = self.pos - 1;
        self.blanks();
        if self.peek() != b':' {
            return self.fault(What::Colon);
        }
        self.pos += 1;
        self.blanks();
        Ok((start, end, escaped))
    }

    #[inline]
    fn child(&mut self, node: &Node, (start, end, escaped): (usize, usize, bool)) -> Option<u32> {
        if !escaped {
            return self.trie.child(node, self.bytes, start, end);
        }
        let mark = self.arena.len();
        self.unescape(start, end);
        let found = self.trie.child(node, self.arena.as_bytes(), mark, self.arena.len());
        self.arena.truncate(mark);
        found
    }

    /// Behind a member: true when another follows (`pos` is then at its first byte).
    #[inline]
    fn another(&mut self, close: u8, what: What) -> Result<bool, Fault> {
        self.blanks();
        let byte = self.peek();
        if byte == b',' {
            self.pos += 1;
            self.blanks();
            return Ok(true);
        }
        if byte == close {
            self.pos += 1;
            return Ok(false);
        }
        self.fault(what)
    }

    /// Behind the opening bracket: true when it is closed at once.
    #[inline]
    fn empty(&mut self, close: u8) -> bool {
        self.pos += 1;
        self.blanks();
        let closed = self.peek() == close;
        self.pos += usize::from(closed);
        closed
    }

    fn object(&mut self, node: &Node, depth: u32) -> Result<(), Fault> {
        let depth = self.deeper(depth)?;
        self.work.objects = self.work.objects.wrapping_add(1).max(1);
        let object = self.work.objects;
        if self.empty(b'}') {
            return Ok(());
        }
        loop {
            let key = self.key()?;
            match self.child(node, key) {
                Some(child) => {
                    let seen = &mut self.work.seen[child as usize];
                    self.duplicate |= *seen == object;
                    *seen = object;
                    self.value(child, depth)?;
                }
                None => self.skip(depth)?,
            }
            if !self.another(b'}', What::CommaInObject)? {
                return Ok(());
            }
        }
    }

    /// As `object`, but of equal keys only the last is taken, with everything below it.
    fn object_with_duplicates(&mut self, node: &Node, depth: u32) -> Result<(), Fault> {
        let depth = self.deeper(depth)?;
        if self.empty(b'}') {
            return Ok(());
        }
        let (first, mut last) = (self.pos, std::collections::BTreeMap::new());
        for taking in [false, true] {
            self.pos = first;
            loop {
                let key = self.key()?;
                match self.child(node, key) {
                    Some(child) if !taking => {
                        last.insert(child, key.0);
                        self.skip(depth)?;
                    }
                    Some(child) if last.get(&child) == Some(&key.0) => self.value(child, depth)?,
                    _ => self.skip(depth)?,
                }
                if !self.another(b'}', What::CommaInObject)? {
                    break;
                }
            }
        }
        Ok(())
    }

    fn array(&mut self, node: &Node, depth: u32) -> Result<(), Fault> {
        let depth = self.deeper(depth)?;
        let trie = self.trie;
        let fills = if node.each == NONE { &[][..] } else { &trie.nodes[node.each as usize].fills };
        for slot in fills {
            self.work.values[*slot as usize] = Field::List { start: 0, len: 0 };
            self.work.touched.push(*slot);
        }
        if self.empty(b']') {
            return Ok(());
        }
        let mut index = 0;
        loop {
            let (start, mut read) = (self.pos, false);
            if node.each != NONE {
                // One entry an element, even where the element lacks the field: lists of one array stay in step.
                for slot in fills {
                    self.work.lists[trie.list_of[*slot as usize] as usize].push(Field::Missing);
                }
                self.value(node.each, depth)?;
                read = true;
            }
            for (wanted, child) in &node.indexes {
                if *wanted == index {
                    self.pos = start;
                    self.value(*child, depth)?;
                    read = true;
                }
            }
            if !read {
                self.skip(depth)?;
            }
            index += 1;
            if !self.another(b']', What::CommaInArray)? {
                return Ok(());
            }
        }
    }

    /// Puts a value that was found elsewhere where the value of `node` goes.
    pub fn put(&mut self, node: u32, field: Field) {
        let trie = self.trie;
        self.store(&trie.nodes[node as usize], field);
    }

    /// Nothing but blanks may follow.
    pub fn end(&mut self) -> Result<(), Fault> {
        self.blanks();
        if self.pos == self.bytes.len() { Ok(()) } else { Err(Fault { what: What::Trailing, at: self.pos as u32 }) }
    }

    /// Validates a value that nobody wants.
    pub fn skip(&mut self, depth: u32) -> Result<(), Fault> {
        match self.peek() {
            b'"' => {
                self.pos += 1;
                self.string_end().map(|_| ())
            }
            b'{' => {
                let depth = self.deeper(depth)?;
                if self.empty(b'}') {
                    return Ok(());
                }
                loop {
                    self.key()?;
                    self.skip(depth)?;
                    if !self.another(b'}', What::CommaInObject)? {
                        return Ok(());
                    }
                }
            }
            b'[' => {
                let depth = self.deeper(depth)?;
                if self.empty(b']') {
                    return Ok(());
                }
                loop {
                    self.skip(depth)?;
                    if !self.another(b']', What::CommaInArray)? {
                        return Ok(());
                    }
                }
            }
            b't' => self.literal("true"),
            b'f' => self.literal("false"),
            b'n' => self.literal("null"),
            b'-' | b'0'..=b'9' => self.number_end(),
            _ => self.fault(What::Value),
        }
    }

    #[inline]
    fn literal(&mut self, word: &'static str) -> Result<(), Fault> {
        let rest = &self.bytes[self.pos..];
        if rest.starts_with(word.as_bytes()) {
            self.pos += word.len();
            return Ok(());
        }
        let what = if word.as_bytes().starts_with(rest) { What::End } else { What::Literal };
        Err(Fault { what, at: self.pos as u32 })
    }

    #[inline]
    fn digits(&mut self) -> Result<(), Fault> {
        let start = self.pos;
        while self.peek().is_ascii_digit() {
            self.pos += 1;
        }
        if self.pos == start { self.fault(What::Number) } else { Ok(()) }
    }

    #[inline]
    fn number_end(&mut self) -> Result<(), Fault> {
        if self.peek() == b'-' {
            self.pos += 1;
        }
        if self.peek() == b'0' {
            self.pos += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == b'.' {
            self.pos += 1;
            self.digits()?;
        }
        if matches!(self.peek(), b'e' | b'E') {
            self.pos += 1;
            if matches!(self.peek(), b'+' | b'-') {
                self.pos += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    /// From behind the opening quote to behind the closing one; whether there were escapes.
    #[inline]
    fn string_end(&mut self) -> Result<bool, Fault> {
        let mut escaped = false;
        loop {
            while let Some(word) = self.bytes.get(self.pos..).and_then(|rest| rest.first_chunk::<8>()) {
                let found = special(u64::from_le_bytes(*word));
                if found != 0 {
                    self.pos += found.trailing_zeros() as usize / 8;
                    break;
                }
                self.pos += 8;
            }
            match self.bytes.get(self.pos) {
                Some(b'"') => {
                    self.pos += 1;
                    return Ok(escaped);
                }
                Some(b'\\') => {
                    escaped = true;
                    self.escape()?;
                }
                Some(0..0x20) => return self.fault(What::Control),
                Some(_) => self.pos += 1,
                None => return self.fault(What::End),
            }
        }
    }

    fn escape(&mut self) -> Result<(), Fault> {
        self.pos += 1;
        match self.peek() {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => self.pos += 1,
            b'u' => {
                self.pos += 1;
                for _ in 0..4 {
                    if !self.peek().is_ascii_hexdigit() {
                        return self.fault(What::Escape);
                    }
                    self.pos += 1;
                }
            }
            _ => return self.fault(What::Escape),
        }
        Ok(())
    }

    /// Puts the text at `from..to`, whose escapes are valid, into the arena with its escapes resolved. Half a surrogate
    /// pair becomes U+FFFD: senders cut texts in the middle, and an event is worth more than that character.
    fn unescape(&mut self, from: usize, to: usize) -> Text {
        let mark = self.arena.len();
        let mut rest = std::str::from_utf8(&self.bytes[from..to]).unwrap_or("");
        while let Some(at) = memchr::memchr(b'\\', rest.as_bytes()) {
            self.arena.push_str(&rest[..at]);
            let kind = rest.as_bytes()[at + 1];
            rest = &rest[at + 2..];
            let plain = match kind {
                b'b' => '\u{8}',
                b'f' => '\u{c}',
                b'n' => '\n',
                b'r' => '\r',
                b't' => '\t',
                b'u' => {
                    let unit = hex(&rest[..4]);
                    rest = &rest[4..];
                    let low = rest.strip_prefix("\\u").map(|after| hex(&after[..4]));
                    match (unit, low) {
                        (0xd800..0xdc00, Some(low @ 0xdc00..0xe000)) => {
                            rest = &rest[6..];
                            let code = 0x1_0000 + ((unit - 0xd800) << 10) + (low - 0xdc00);
                            char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER)
                        }
                        _ => char::from_u32(unit).unwrap_or(char::REPLACEMENT_CHARACTER),
                    }
                }
                other => char::from(other),
            };
            self.arena.push(plain);
        }
        self.arena.push_str(rest);
        Text::in_arena(mark as u32, (self.arena.len() - mark) as u32)
    }
}

fn hex(digits: &str) -> u32 {
    u32::from_str_radix(digits, 16).unwrap_or(0xfffd)
}
