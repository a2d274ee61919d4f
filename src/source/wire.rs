//! Protocol Buffers on the wire: a reader that borrows and a writer that appends. Only what fixed, small schemas need
//! ("Encoding", protobuf.dev): varints, 64-bit and 32-bit words, bytes; groups are refused.

/// A message that ends early, or holds what the encoding does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damaged;

/// One field's value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// int32, int64, uint32, uint64, bool, enum; sint as zigzag.
    Varint(u64),
    /// double, fixed64.
    Fixed64(u64),
    /// string, bytes, messages, packed lists.
    Bytes(&'a [u8]),
    /// float, fixed32.
    Fixed32(u32),
}

impl<'a> Value<'a> {
    /// A whole number.
    ///
    /// # Errors
    /// [`Damaged`] when it is something else.
    pub fn uint(self) -> Result<u64, Damaged> {
        match self {
            Self::Varint(value) => Ok(value),
            _ => Err(Damaged),
        }
    }

    /// sint32 and sint64.
    ///
    /// # Errors
    /// [`Damaged`] when it is something else.
    pub fn sint(self) -> Result<i64, Damaged> {
        self.uint().map(unzigzag)
    }

    /// A double.
    ///
    /// # Errors
    /// [`Damaged`] when it is something else.
    pub fn double(self) -> Result<f64, Damaged> {
        match self {
            Self::Fixed64(bits) => Ok(f64::from_bits(bits)),
            _ => Err(Damaged),
        }
    }

    /// Bytes or a message.
    ///
    /// # Errors
    /// [`Damaged`] when it is something else.
    pub fn bytes(self) -> Result<&'a [u8], Damaged> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            _ => Err(Damaged),
        }
    }

    /// A string.
    ///
    /// # Errors
    /// [`Damaged`] when it is something else, or not UTF-8.
    pub fn text(self) -> Result<&'a str, Damaged> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Damaged)
    }
}

/// Reads the fields of one message.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// From the first byte of a message.
    pub fn new(message: &'a [u8]) -> Self {
        Self { rest: message }
    }

    /// Bytes that have not been read.
    pub fn left(&self) -> usize {
        self.rest.len()
    }

    /// A varint of at most ten bytes.
    ///
    /// # Errors
    /// [`Damaged`]
    pub fn varint(&mut self) -> Result<u64, Damaged> {
        let mut value = 0_u64;
        for (at, byte) in self.rest.iter().take(10).enumerate() {
            value |= u64::from(byte & 0x7f) << (at * 7);
            if byte & 0x80 == 0 {
                self.rest = &self.rest[at + 1..];
                return Ok(value);
            }
        }
        Err(Damaged)
    }

    /// So many bytes behind a length: a string, or a message of a delimited stream.
    ///
    /// # Errors
    /// [`Damaged`]
    pub fn delimited(&mut self) -> Result<&'a [u8], Damaged> {
        let length = usize::try_from(self.varint()?).map_err(|_| Damaged)?;
        let (bytes, rest) = self.rest.split_at_checked(length).ok_or(Damaged)?;
        self.rest = rest;
        Ok(bytes)
    }

    fn word<const N: usize>(&mut self) -> Result<[u8; N], Damaged> {
        let (word, rest) = self.rest.split_first_chunk::<N>().ok_or(Damaged)?;
        self.rest = rest;
        Ok(*word)
    }

    /// A double without a tag, as packed lists hold them.
    ///
    /// # Errors
    /// [`Damaged`]
    pub fn double(&mut self) -> Result<f64, Damaged> {
        self.word::<8>().map(f64::from_le_bytes)
    }

    /// The next field with its number; `None` at the end.
    ///
    /// # Errors
    /// [`Damaged`]
    pub fn field(&mut self) -> Result<Option<(u32, Value<'a>)>, Damaged> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let number = u32::try_from(tag >> 3).ok().filter(|number| *number > 0).ok_or(Damaged)?;
        let value = match tag & 7 {
            0 => Value::Varint(self.varint()?),
            1 => Value::Fixed64(u64::from_le_bytes(self.word()?)),
            2 => Value::Bytes(self.delimited()?),
            5 => Value::Fixed32(u32::from_le_bytes(self.word()?)),
            _ => return Err(Damaged),
        };
        Ok(Some((number, value)))
    }
}

/// Undoes zigzag.
pub fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -(value & 1).cast_signed()
}

/// Appends fields to a message.
#[derive(Debug, Default)]
pub struct Writer {
    /// What has been written.
    pub out: Vec<u8>,
}

impl Writer {
    /// A varint without a tag.
    pub fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.out.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.out.push(value as u8);
    }

    fn tag(&mut self, field: u32, kind: u8) {
        self.varint(u64::from(field) << 3 | u64::from(kind));
    }

    /// uint32, uint64, int64 (as its bits), bool, enum.
    pub fn uint(&mut self, field: u32, value: u64) {
        self.tag(field, 0);
        self.varint(value);
    }

    /// sint32 and sint64.
    pub fn sint(&mut self, field: u32, value: i64) {
        self.uint(field, ((value << 1) ^ (value >> 63)).cast_unsigned());
    }

    /// A double.
    pub fn double(&mut self, field: u32, value: f64) {
        self.tag(field, 1);
        self.out.extend_from_slice(&value.to_le_bytes());
    }

    /// A string.
    pub fn text(&mut self, field: u32, value: &str) {
        self.tag(field, 2);
        self.varint(value.len() as u64);
        self.out.extend_from_slice(value.as_bytes());
    }

    /// Bytes as they are.
    pub fn bytes(&mut self, field: u32, value: &[u8]) {
        self.tag(field, 2);
        self.varint(value.len() as u64);
        self.out.extend_from_slice(value);
    }

    /// A message within this one.
    pub fn message(&mut self, field: u32, write: impl FnOnce(&mut Self)) {
        self.tag(field, 2);
        self.delimited(write);
    }

    /// A message behind its length.
    pub fn delimited(&mut self, write: impl FnOnce(&mut Self)) {
        let start = self.out.len();
        // Most messages are shorter than 128 bytes, so that one byte is their length; longer ones are moved.
        self.out.push(0);
        write(self);
        let mut length = self.out.len() - start - 1;
        let mut at = start;
        while length >= 0x80 {
            self.out[at] = length as u8 | 0x80;
            length >>= 7;
            at += 1;
            self.out.insert(at, 0);
        }
        self.out[at] = length as u8;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]
        #[test]
        fn fields_come_back(uint: u64, sint: i64, double: f64, text in ".{0,300}", inner in prop::collection::vec(any::<u64>(), 0..40)) {
            let mut writer = Writer::default();
            writer.uint(1, uint);
            writer.sint(2, sint);
            writer.double(3, double);
            writer.text(16, &text);
            writer.message(2_000, |writer| inner.iter().for_each(|value| writer.uint(7, *value)));
            let mut reader = Reader::new(&writer.out);
            let mut next = || reader.field().unwrap().unwrap();
            prop_assert_eq!(next(), (1, Value::Varint(uint)));
            prop_assert_eq!(next().1.sint(), Ok(sint));
            prop_assert_eq!(next().1.double().unwrap().to_bits(), double.to_bits());
            prop_assert_eq!(next().1.text(), Ok(text.as_str()));
            let (number, value) = next();
            let mut read = Vec::new();
            let mut message = Reader::new(value.bytes().unwrap());
            while let Some((7, value)) = message.field().unwrap() {
                read.push(value.uint().unwrap());
            }
            prop_assert_eq!((number, read), (2_000, inner));
            prop_assert_eq!(reader.field(), Ok(None));
        }

        #[test]
        fn damage_is_no_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let mut reader = Reader::new(&bytes);
            while let Ok(Some((_, value))) = reader.field() {
                let _ = (value.text(), value.double());
            }
        }
    }
}
