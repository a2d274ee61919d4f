//! Blocks of bytes become whole lines; half a last line waits for its rest, within a limit.

use super::decode::reason;
use crate::model::Refusal;

/// What is told of a line that was too long.
pub(super) fn refusal(item: u32, limit_bytes: usize) -> Refusal {
    let message = format!("a line is longer than {limit_bytes} bytes (limits.event_bytes)");
    Refusal { item, reason: reason::TOO_LARGE, message }
}

/// Gathers lines. What it has handed out and what it still holds account for every byte it was given.
#[derive(Debug)]
pub(super) struct LineBuffer {
    /// A line longer than this is not held: it is skipped to its end and counted there.
    limit_bytes: usize,
    partial: Vec<u8>,
    /// Within a line that is too long.
    skipping: bool,
    /// Bytes since the last line's end, skipped ones included.
    pending_bytes: u64,
    oversized: u32,
}

impl LineBuffer {
    pub(super) fn new(limit_bytes: usize) -> Self {
        Self { limit_bytes, partial: Vec::new(), skipping: false, pending_bytes: 0, oversized: 0 }
    }

    /// Takes a block and returns the lines that it completes, each with its newline; empty when it completes none.
    ///
    /// A complete line within the block may still be longer than the limit by as much as the block: decoding refuses it.
    pub(super) fn push(&mut self, mut bytes: &[u8]) -> Vec<u8> {
        if self.skipping {
            let Some(end) = memchr::memchr(b'\n', bytes) else {
                self.pending_bytes += bytes.len() as u64;
                return Vec::new();
            };
            bytes = &bytes[end + 1..];
            self.end_skip();
        }
        let Some(last) = memchr::memrchr(b'\n', bytes) else {
            self.hold(bytes);
            return Vec::new();
        };
        let mut lines = std::mem::take(&mut self.partial);
        lines.extend_from_slice(&bytes[..=last]);
        self.pending_bytes = 0;
        self.hold(&bytes[last + 1..]);
        lines
    }

    /// The last line, which no newline ended; empty when there is none.
    pub(super) fn finish(&mut self) -> Vec<u8> {
        if self.skipping {
            self.end_skip();
        }
        self.pending_bytes = 0;
        std::mem::take(&mut self.partial)
    }

    /// Bytes since the end of the last line that was handed out or counted.
    pub(super) fn pending_bytes(&self) -> u64 {
        self.pending_bytes
    }

    /// How many lines were too long since this was last asked.
    pub(super) fn take_oversized(&mut self) -> u32 {
        std::mem::take(&mut self.oversized)
    }

    fn end_skip(&mut self) {
        self.skipping = false;
        self.pending_bytes = 0;
        self.oversized += 1;
    }

    fn hold(&mut self, bytes: &[u8]) {
        self.pending_bytes += bytes.len() as u64;
        if self.partial.len() + bytes.len() > self.limit_bytes {
            self.partial = Vec::new();
            self.skipping = true;
        } else {
            self.partial.extend_from_slice(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Feeds the pieces and returns what came out, a `|` after each piece, `!` for each line that was too long.
    fn check(limit_bytes: usize, pieces: &[&str], expected: &str) {
        let mut lines = LineBuffer::new(limit_bytes);
        let mut out = String::new();
        for piece in pieces {
            out.push_str(&String::from_utf8(lines.push(piece.as_bytes())).unwrap());
            out.push_str(&"!".repeat(lines.take_oversized() as usize));
            out.push('|');
        }
        out.push_str(&String::from_utf8(lines.finish()).unwrap());
        out.push_str(&"!".repeat(lines.take_oversized() as usize));
        assert_eq!(out, expected);
    }

    #[test]
    fn halves_wait_for_their_rest_and_long_lines_are_skipped() {
        check(9, &["a\nb", "c\n", "d"], "a\n|bc\n||d");
        check(9, &["", "\n", "\n\n"], "|\n|\n\n|");
        check(4, &["abc", "de", "fgh", "i\nj\n"], "|||j\n!|");
        check(4, &["abcdefgh"], "|!");
        check(4, &["a\nbcdefgh", "\nc"], "a\n|!|c");
        check(0, &["\n", "a", "\n"], "\n||!|");
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]
        #[test]
        fn no_byte_is_lost_whatever_the_blocks(text in "[ab\n]{0,60}", cuts in prop::collection::vec(0..60_usize, 0..8)) {
            let mut cuts: Vec<usize> = cuts.into_iter().filter(|cut| *cut < text.len()).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let (mut lines, mut out, mut given) = (LineBuffer::new(1_000), Vec::new(), 0);
            for pair in cuts.windows(2) {
                given += pair[1] - pair[0];
                out.extend(lines.push(&text.as_bytes()[pair[0]..pair[1]]));
                prop_assert_eq!(out.len() as u64 + lines.pending_bytes(), given as u64);
            }
            out.extend(lines.finish());
            prop_assert_eq!(out, text.into_bytes());
        }
    }
}
