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

/// Where nothing has come for this long since the last acknowledgement, it has arrived.
const ARRIVED: Duration = Duration::from_secs(5);

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
    /// Of this connection and acknowledged, in their order.
    lately: VecDeque<u64>,
    acknowledged_at: Instant,
    /// So many the broker sends ahead of their acknowledgement.
    window: usize,
    /// What a transport keeps beside them.
    pub more: M,
    /// The last position that was handed over had something in it.
    told: bool,
}

impl<M: Default + Serialize + for<'a> Deserialize<'a>> Unacked<M> {
    /// From the last checkpoint's position; one that cannot be read is as none, which the log says.
    /// `window` is how many messages the broker sends ahead of their acknowledgement.
    pub fn restore(position: Option<&[u8]>, window: usize, now: Instant) -> Self {
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
        Self {
            before,
            before_since: now,
            waiting: VecDeque::new(),
            lately: VecDeque::new(),
            acknowledged_at: now,
            window,
            more: position.more,
            told,
        }
    }

    /// The connection is gone: everything that is not acknowledged may come again.
    pub fn disconnected(&mut self, now: Instant) {
        for fingerprint in self.lately.drain(..).chain(self.waiting.drain(..)) {
            *self.before.entry(fingerprint).or_default() += 1;
        }
        self.before_since = now;
    }

    /// The broker has forgotten us: nothing comes again.
    pub fn forget(&mut self) {
        self.before.clear();
        self.waiting.clear();
        self.lately.clear();
    }

    /// Takes a message of this connection in; `again` when the broker may have delivered it before. Whether it is counted
    /// already.
    pub fn take(&mut self, fingerprint: u64, again: bool) -> bool {
        self.waiting.push_back(fingerprint);
        if self.lately.len() + self.waiting.len() > self.window {
            self.lately.pop_front();
        }
        let Some(count) = self.before.get_mut(&fingerprint).filter(|_| again) else { return false };
        *count -= 1;
        if *count == 0 {
            self.before.remove(&fingerprint);
        }
        true
    }

    /// The broker was told of the oldest messages.
    pub fn acknowledged(&mut self, count: usize, now: Instant) {
        self.lately.extend(self.waiting.drain(..count.min(self.waiting.len())));
        while !self.lately.is_empty() && self.lately.len() + self.waiting.len() > self.window {
            self.lately.pop_front();
        }
        self.acknowledged_at = now;
    }

    /// To be called now and then: whether the last position says of messages that may come again, and nothing may any
    /// more.
    pub fn is_settled(&mut self, now: Instant) -> bool {
        if self.waiting.is_empty() && now.duration_since(self.acknowledged_at) > ARRIVED {
            self.lately.clear();
        }
        if now.duration_since(self.before_since) > REDELIVERY {
            self.before.clear();
        }
        self.told && self.waiting.is_empty() && self.lately.is_empty() && self.before.is_empty()
    }

    /// What goes into the checkpoint with the messages that were taken so far.
    pub fn position(&mut self) -> Vec<u8> {
        let of_before = self.before.iter().flat_map(|(fingerprint, count)| (0..*count).map(move |_| *fingerprint));
        let fingerprints: Vec<u8> =
            of_before.chain(self.lately.iter().chain(&self.waiting).copied()).flat_map(u64::to_be_bytes).collect();
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
        let restore = |position: Option<&[u8]>| -> Unacked<Vec<String>> { Unacked::restore(position, 3, now) };
        let mut live = restore(None);
        live.more.push("a/b".into());
        // Three are handed over, two alike; the first is acknowledged behind the checkpoint that holds them.
        assert_eq!([1, 7, 7].map(|one| live.take(one, false)), [false; 3]);
        let position = live.position();
        live.acknowledged(1, now);
        assert!(!live.is_settled(now));
        // A fourth one can only have come because the acknowledgement has arrived.
        assert_eq!(restore(Some(&live.position())).before[&1], 1);
        assert!(!live.take(8, false));
        assert_eq!(restore(Some(&live.position())).before.get(&1), None);

        let mut after = restore(Some(&position));
        assert_eq!(after.more, ["a/b"]);
        // Two of 7 were counted; a third one was on its way. A new one that is alike is new.
        assert_eq!([7, 7, 7, 9].map(|one| after.take(one, true)), [true, true, false, false]);
        assert!(!after.take(7, false));
        // Lost again, before a checkpoint: all of this connection may come once more.
        after.disconnected(now);
        assert_eq!([7, 7, 7, 7, 7].map(|one| after.take(one, true)), [true, true, true, true, false]);
        after.acknowledged(5, now);
        assert!(!after.is_settled(now + ARRIVED * 2), "9, counted or not, may still come");
        assert!(after.is_settled(now + REDELIVERY * 2));
        assert!(restore(Some(&after.position())).before.is_empty());
        assert!(!after.is_settled(now + REDELIVERY * 2), "the position says so now");
        assert!(restore(Some(b"\xff\xff\xff")).before.is_empty());
    }

    #[test]
    fn a_fingerprint_knows_where_one_part_ends() {
        assert_ne!(fingerprint(&[b"ab", b"c"]), fingerprint(&[b"a", b"bc"]));
        assert_eq!(fingerprint(&[b"ab", b"c"]), fingerprint(&[b"ab", b"c"]));
    }
}
