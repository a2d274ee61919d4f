//! What was handed to the core and may still come again: the position of transports that number nothing.
//!
//! A broker that loses its connection delivers again what it has no acknowledgement for. Which of that was counted says
//! the checkpoint: it holds a fingerprint of each message that was handed over and not acknowledged. What is delivered
//! again and has one was counted; what has none was on its way and was not.
//!
//! Two messages alike in every byte have the same fingerprint, so that how many of them came is kept, not which.

use ring::digest;
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

/// A broker that has not noticed by now that a connection is gone will hardly deliver what it sent on it again: the
/// longest usual time until a silent connection is given up, several times over.
const REDELIVERY: Duration = Duration::from_secs(600);

/// The first 64 bits of SHA-256 over the parts, each behind its length.
pub(super) fn fingerprint(parts: &[&[u8]]) -> u64 {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        context.update(&(part.len() as u64).to_le_bytes());
        context.update(part);
    }
    context.finish().as_ref().iter().take(8).fold(0, |word, byte| (word << 8) | u64::from(*byte))
}

/// As it stands in the checkpoint: 8 bytes each.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Position<M> {
    fingerprints: Vec<u8>,
    /// What a transport keeps beside them.
    more: M,
}

/// Messages that were handed over and are not acknowledged.
#[derive(Debug)]
pub(super) struct Unacked<M> {
    /// Of earlier connections: they may come again.
    before: HashMap<u64, u32>,
    before_since: Instant,
    /// Of this connection, in their order.
    waiting: VecDeque<u64>,
    /// What a transport keeps beside them.
    pub more: M,
    /// The last position that was handed over had something in it.
    told: bool,
}

impl<M: Default + Serialize + for<'a> Deserialize<'a>> Unacked<M> {
    /// From the last checkpoint's position; one that cannot be read is as none, which the log says.
    pub fn restore(position: Option<&[u8]>, now: Instant) -> Self {
        let position: Position<M> = match position.map(postcard::from_bytes) {
            Some(Ok(position)) => position,
            Some(Err(error)) => {
                tracing::warn!(%error, "the position of a source cannot be read; what is delivered again may count twice");
                Position::default()
            }
            None => Position::default(),
        };
        let mut before = HashMap::new();
        for bytes in position.fingerprints.chunks_exact(8) {
            *before.entry(bytes.iter().fold(0, |word, byte| (word << 8) | u64::from(*byte))).or_default() += 1;
        }
        let told = !before.is_empty();
        Self { before, before_since: now, waiting: VecDeque::new(), more: position.more, told }
    }

    /// The connection is gone: everything that is not acknowledged may come again.
    pub fn disconnected(&mut self, now: Instant) {
        for fingerprint in self.waiting.drain(..) {
            *self.before.entry(fingerprint).or_default() += 1;
        }
        self.before_since = now;
    }

    /// The broker has forgotten us: nothing comes again.
    pub fn forget(&mut self) {
        self.before.clear();
        self.waiting.clear();
    }

    /// Takes a message of this connection in; `again` when the broker may have delivered it before. Whether it is counted
    /// already.
    pub fn take(&mut self, fingerprint: u64, again: bool) -> bool {
        self.waiting.push_back(fingerprint);
        let Some(count) = self.before.get_mut(&fingerprint).filter(|_| again) else { return false };
        *count -= 1;
        if *count == 0 {
            self.before.remove(&fingerprint);
        }
        true
    }

    /// The broker was told of the oldest messages.
    pub fn acknowledged(&mut self, count: usize, now: Instant) {
        self.waiting.drain(..count.min(self.waiting.len()));
        if now.duration_since(self.before_since) > REDELIVERY {
            self.before.clear();
        }
    }

    /// Whether the last position says of messages that may come again, and nothing may any more.
    pub fn is_settled(&self) -> bool {
        self.told && self.waiting.is_empty() && self.before.is_empty()
    }

    /// What goes into the checkpoint with the messages that were taken so far.
    pub fn position(&mut self) -> Vec<u8> {
        let of_before = self.before.iter().flat_map(|(fingerprint, count)| (0..*count).map(move |_| *fingerprint));
        let fingerprints: Vec<u8> = of_before.chain(self.waiting.iter().copied()).flat_map(u64::to_be_bytes).collect();
        self.told = !fingerprints.is_empty();
        let position = Position { fingerprints, more: &self.more };
        postcard::to_stdvec(&position).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::clock;

    #[test]
    fn what_comes_again_is_told_from_what_is_new() {
        let now = clock::instant();
        let mut live: Unacked<Vec<String>> = Unacked::restore(None, now);
        live.more.push("a/b".into());
        // Three are handed over, two alike; the first is acknowledged behind the checkpoint that holds them.
        assert_eq!([1, 7, 7].map(|one| live.take(one, false)), [false; 3]);
        let position = live.position();
        live.acknowledged(1, now);
        assert!(!live.is_settled());

        let mut after: Unacked<Vec<String>> = Unacked::restore(Some(&position), now);
        assert_eq!(after.more, ["a/b"]);
        // Two of 7 were counted; a third one was on its way. A new one that is alike is new.
        assert_eq!([7, 7, 7, 9].map(|one| after.take(one, true)), [true, true, false, false]);
        assert!(!after.take(7, false));
        // Lost again, before a checkpoint: all of this connection may come once more.
        after.disconnected(now);
        assert_eq!([7, 7, 7, 7, 7].map(|one| after.take(one, true)), [true, true, true, true, false]);
        after.acknowledged(5, now);
        after.acknowledged(0, now + REDELIVERY * 2);
        assert!(after.is_settled());
        assert_eq!(Unacked::<Vec<String>>::restore(Some(&after.position()), now).before.len(), 0);
        assert!(!after.is_settled(), "the position says so now");
        assert!(Unacked::<Vec<String>>::restore(Some(b"\xff\xff\xff"), now).before.is_empty());
    }

    #[test]
    fn a_fingerprint_knows_where_one_part_ends() {
        assert_ne!(fingerprint(&[b"ab", b"c"]), fingerprint(&[b"a", b"bc"]));
        assert_eq!(fingerprint(&[b"ab", b"c"]), fingerprint(&[b"ab", b"c"]));
    }
}
