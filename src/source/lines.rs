//! Cutting a stream at line ends, with a limit on the length of a line.

use super::decode::reason;
use crate::model::Refusal;

/// Collects bytes and gives whole lines. A line longer than the limit is skipped without being kept.
#[derive(Debug)]
pub(super) struct LineBuffer {
    pending: Vec<u8>,
    /// End of the last whole line in `pending`.
    complete: usize,
    limit_bytes: usize,
    /// Inside a line that was too long: everything up to its end is dropped.
    skipping: bool,
    oversized: u32,
}

/// What is told of a line that was too long.
pub(super) fn refusal(item: u32, limit_bytes: usize) -> Refusal {
    let message = format!("a line is longer than {limit_bytes} bytes (limits.event_bytes)");
    Refusal { item, reason: reason::TOO_LARGE, message }
}

impl LineBuffer {
    pub fn new(limit_bytes: usize) -> Self {
        Self { pending: Vec::new(), complete: 0, limit_bytes, skipping: false, oversized: 0 }
    }

    /// Adds what was read.
    pub fn push(&mut self, mut block: &[u8]) {
        if self.skipping {
            let Some(end) = memchr::memchr(b'\n', block) else { return };
            block = &block[end + 1..];
            self.skipping = false;
        }
        let start = self.pending.len();
        self.pending.extend_from_slice(block);
        if let Some(end) = memchr::memrchr(b'\n', block) {
            self.complete = start + end + 1;
        }
        if self.pending.len() - self.complete > self.limit_bytes {
            self.pending.truncate(self.complete);
            self.skipping = true;
            self.oversized += 1;
        }
    }

    /// The whole lines so far, and how many lines were too long since the last call.
    pub fn take(&mut self) -> (Vec<u8>, u32) {
        let rest = self.pending.split_off(self.complete);
        self.complete = 0;
        (std::mem::replace(&mut self.pending, rest), std::mem::take(&mut self.oversized))
    }

    /// Everything, a last line without an end as well.
    pub fn finish(&mut self) -> (Vec<u8>, u32) {
        self.complete = self.pending.len();
        self.skipping = false;
        self.take()
    }

    /// Forgets a line that has begun.
    pub fn clear(&mut self) {
        *self = Self::new(self.limit_bytes);
    }

    /// Bytes of the line that has begun and not ended, when it is kept.
    pub fn begun(&self) -> usize {
        self.pending.len() - self.complete
    }

    /// Whether the line that has begun is too long and being dropped.
    pub fn is_skipping(&self) -> bool {
        self.skipping
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_line_that_is_too_long_is_counted_and_the_next_one_kept() {
        let mut lines = LineBuffer::new(4);
        lines.push(b"ab\ncdefgh");
        assert_eq!(lines.take(), (b"ab\n".to_vec(), 1));
        lines.push(b"ijk");
        lines.push(b"l\nxy");
        assert_eq!(lines.take(), (Vec::new(), 0));
        assert_eq!(lines.finish(), (b"xy".to_vec(), 0));
    }

    proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig { failure_persistence: None, ..Default::default() })]
        #[test]
        fn however_it_is_cut_the_lines_are_the_same(text in "[ab\n]{0,60}", cuts in proptest::collection::vec(0_usize..60, 0..8)) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.sort_unstable();
            let (mut lines, mut out, mut from) = (LineBuffer::new(1_000), Vec::new(), 0);
            for cut in cuts.into_iter().chain([text.len()]) {
                lines.push(&text.as_bytes()[from..cut]);
                from = cut;
                let (whole, _) = lines.take();
                prop_assert!(whole.is_empty() || whole.ends_with(b"\n"));
                out.extend(whole);
            }
            out.extend(lines.finish().0);
            prop_assert_eq!(out, text.into_bytes());
        }
    }
}
