//! Which messages of a stream were counted: the position of a JetStream source.
//!
//! A message is known by its sequence in the stream. What was counted is kept as a floor (everything up to it is settled)
//! and ranges above it. A range grows over sequences that the consumer does not hear (other subjects, deleted messages)
//! because the consumer numbers its deliveries: between two first deliveries with nothing missing in between there is
//! nothing left to come. Where a delivery went missing (a connection broke, a process was killed) a hole stays until the
//! message comes again, or until the server says that everything up to there was acknowledged.

use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// Ranges that are kept. Sidecars that share a durable have as many as sequences that went to others since the lowest
/// unacknowledged one; a sidecar of its own has a handful. Beyond this the lowest is forgotten: it was acknowledged long ago.
const RANGES: usize = 16_384;

/// A delivery's numbers, from its reply subject (NATS ADR-15).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Delivery {
    /// How often the message was delivered, this time included.
    pub delivered: u64,
    /// The message's place in the stream.
    pub stream: u64,
    /// The delivery's place in the consumer.
    pub consumer: u64,
    /// Messages that are still to come.
    pub pending: u64,
}

impl Delivery {
    /// `$JS.ACK.STREAM.CONSUMER.DELIVERED.STREAMSEQ.CONSUMERSEQ.TIME.PENDING`, or with the domain and the account's hash
    /// before the stream and possibly a token at the end.
    pub fn parse(reply: &str) -> Option<Self> {
        let rest = reply.strip_prefix("$JS.ACK.")?.as_bytes();
        let tokens = rest.iter().filter(|byte| **byte == b'.').count() + 1;
        let skip = match tokens {
            7 => 2,
            9 | 10 => 4,
            _ => return None,
        };
        // Byte by byte: searching is slower than looking where tokens are this short, and this is done for each message.
        let mut parts = rest.split(|byte| *byte == b'.').skip(skip);
        let mut next = || number(parts.next()?);
        let (delivered, stream, consumer) = (next()?, next()?, next()?);
        next()?;
        Some(Self { delivered, stream, consumer, pending: next()? })
    }
}

/// Decimal digits and nothing else.
fn number(digits: &[u8]) -> Option<u64> {
    let digit = |byte: &u8| byte.is_ascii_digit().then(|| u64::from(byte - b'0'));
    let add = |number: u64, byte| number.checked_mul(10)?.checked_add(digit(byte)?);
    if digits.is_empty() { None } else { digits.iter().try_fold(0, add) }
}

/// What was counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Window {
    /// When the stream was created, as the server writes it: another one numbers anew. Empty before the first.
    created: String,
    /// Everything up to this sequence is settled.
    floor: u64,
    /// Settled sequences above the floor, from and to, rising, apart from each other.
    ranges: VecDeque<(u64, u64)>,
    /// The next number of the consumer's deliveries, when nothing goes missing.
    expected: u64,
    /// The highest first delivery; everything between it and the next one is settled unless a delivery is missing.
    first: Option<u64>,
}

/// The position as it stands in the checkpoint: ranges as distances, which are small numbers.
#[derive(Serialize, Deserialize)]
struct Stored {
    created: String,
    floor: u64,
    ranges: Vec<(u64, u64)>,
}

/// What the server says about stream and consumer when a source binds to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Bound {
    /// When the stream was created.
    pub created: String,
    /// The stream's last sequence.
    pub last: u64,
    /// Everything up to this sequence is acknowledged.
    pub acknowledged: u64,
    /// The consumer's last delivery and the highest sequence that it delivered.
    pub delivered: (u64, u64),
}

impl Window {
    /// From a checkpoint; what cannot be read counts as nothing known.
    pub fn restore(position: Option<&[u8]>) -> Self {
        let Some(stored) = position.and_then(|bytes| postcard::from_bytes::<Stored>(bytes).ok()) else {
            return Self::default();
        };
        let mut window = Self { created: stored.created, floor: stored.floor, ..Self::default() };
        let mut end = stored.floor;
        for (gap, length) in stored.ranges {
            let from = end.saturating_add(gap);
            end = from.saturating_add(length);
            window.ranges.push_back((from, end));
        }
        window
    }

    /// For the checkpoint.
    pub fn position(&self) -> Vec<u8> {
        let mut end = self.floor;
        let ranges = self.ranges.iter().map(|&(from, to)| {
            let distance = (from - end, to - from);
            end = to;
            distance
        });
        let stored = Stored { created: self.created.clone(), floor: self.floor, ranges: ranges.collect() };
        // A vector of bytes cannot refuse to grow.
        postcard::to_stdvec(&stored).unwrap_or_default()
    }

    /// When the stream was created that this is about; empty when nothing is known.
    pub fn created(&self) -> &str {
        &self.created
    }

    /// Everything up to this sequence is settled.
    pub fn floor(&self) -> u64 {
        self.floor
    }

    /// The first sequences above the floor that nobody has seen although later ones were: from and to.
    pub fn hole(&self) -> Option<(u64, u64)> {
        self.ranges.front().map(|&(from, _)| (self.floor + 1, from - 1))
    }

    /// Begins with a consumer as the server describes it. `false` when this is another stream than before, or one that
    /// lost its messages, so that everything starts afresh.
    pub fn bind(&mut self, bound: &Bound) -> bool {
        let top = self.ranges.back().map_or(self.floor, |&(_, to)| to);
        let shorter = bound.last < top;
        // A stream in memory keeps its name and its birthday when its server is restarted, and nothing else.
        let emptied = shorter && bound.delivered.1 == 0;
        let same = self.created.is_empty() || (self.created == bound.created && !emptied);
        if !same {
            *self = Self::default();
        } else if shorter {
            self.cut(bound.last);
        }
        self.created.clone_from(&bound.created);
        self.acknowledged(bound.acknowledged);
        self.expected = bound.delivered.0 + 1;
        self.first = Some(bound.delivered.1);
        same
    }

    /// The server says that everything up to here is acknowledged: it never comes again.
    pub fn acknowledged(&mut self, sequence: u64) {
        if sequence > self.floor {
            self.floor = sequence;
            self.raise();
        }
    }

    /// A sequence range that holds nothing to come.
    pub fn settle(&mut self, from: u64, to: u64) {
        if from <= to {
            self.insert(from, to);
        }
    }

    /// The stream lost its end (a server without power): those sequences will be given to other messages.
    fn cut(&mut self, last: u64) {
        self.floor = self.floor.min(last);
        self.ranges.retain_mut(|range| {
            range.1 = range.1.min(last);
            range.0 <= range.1
        });
    }

    /// Notes a delivery. `true` when the message is new, `false` when it was counted before.
    pub fn deliver(&mut self, delivery: Delivery) -> bool {
        let Delivery { delivered, stream, consumer, .. } = delivery;
        let new = !self.contains(stream);
        let gapless = consumer == self.expected;
        self.expected = consumer + 1;
        if delivered > 1 {
            if !gapless {
                // What is missing may have been first deliveries: nothing is known about what lies before the next one.
                self.first = None;
            }
            self.insert(stream, stream);
            return new;
        }
        let from = match self.first {
            Some(before) if gapless && before < stream => before + 1,
            _ => stream,
        };
        self.first = Some(stream);
        self.insert(from, stream);
        new
    }

    /// Whether the sequence is settled.
    pub fn contains(&self, sequence: u64) -> bool {
        if sequence <= self.floor {
            return true;
        }
        match self.ranges.back() {
            None => false,
            Some(&(_, to)) if sequence > to => false,
            Some(_) => {
                let at = self.ranges.partition_point(|&(_, to)| to < sequence);
                self.ranges.get(at).is_some_and(|&(from, _)| from <= sequence)
            }
        }
    }

    fn insert(&mut self, from: u64, to: u64) {
        if to <= self.floor {
            return;
        }
        if from <= self.floor + 1 {
            self.floor = to;
            return self.raise();
        }
        // The usual case: right behind the last range, or beyond it.
        match self.ranges.back_mut() {
            Some(last) if from > last.1 + 1 => self.ranges.push_back((from, to)),
            Some(last) if from >= last.0 => last.1 = last.1.max(to),
            None => self.ranges.push_back((from, to)),
            Some(_) => {
                let begin = self.ranges.partition_point(|range| range.1 + 1 < from);
                let end = self.ranges.partition_point(|range| range.0 <= to + 1);
                let joined = self.ranges.range(begin..end);
                let joined = joined.fold((from, to), |all, range| (all.0.min(range.0), all.1.max(range.1)));
                self.ranges.drain(begin..end);
                self.ranges.insert(begin, joined);
            }
        }
        if self.ranges.len() > RANGES {
            self.ranges.pop_front();
        }
    }

    /// Ranges that the floor has reached become part of it.
    fn raise(&mut self) {
        while let Some(&(from, to)) = self.ranges.front()
            && from <= self.floor + 1
        {
            self.floor = self.floor.max(to);
            self.ranges.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};

    fn delivery(delivered: u64, stream: u64, consumer: u64) -> Delivery {
        Delivery { delivered, stream, consumer, pending: 0 }
    }

    #[test]
    fn reply_subjects_are_read() {
        let check = |reply: &str, expected: Option<(u64, u64, u64, u64)>| {
            let read = Delivery::parse(reply).map(|it| (it.delivered, it.stream, it.consumer, it.pending));
            assert_eq!(read, expected, "{reply}");
        };
        check("$JS.ACK.EVENTS.side.2.17.30.1700000000000000000.5", Some((2, 17, 30, 5)));
        check("$JS.ACK.hub.HASH.EVENTS.side.1.17.30.1700000000000000000.5", Some((1, 17, 30, 5)));
        check("$JS.ACK._.HASH.EVENTS.side.1.17.30.1700000000000000000.5.token", Some((1, 17, 30, 5)));
        check("$JS.ACK.EVENTS.side.2.17", None);
        check("_INBOX.x", None);
        check("$JS.ACK.EVENTS.side.x.17.30.1.5", None);
        check("$JS.ACK.EVENTS.side..17.30.1.5", None);
        check("$JS.ACK.EVENTS.side.1.18446744073709551615.30.1.5", Some((1, u64::MAX, 30, 5)));
        check("$JS.ACK.EVENTS.side.1.18446744073709551616.30.1.5", None);
    }

    /// Binds to a consumer that has delivered nothing and plays deliveries; `expected` is the floor and the ranges.
    fn check(deliveries: &[(u64, u64, u64)], expected: (u64, &[(u64, u64)])) {
        let mut window = Window::default();
        window.bind(&Bound { created: "t".into(), last: 100, ..Bound::default() });
        for &(delivered, stream, consumer) in deliveries {
            window.deliver(delivery(delivered, stream, consumer));
        }
        let ranges: Vec<_> = window.ranges.iter().copied().collect();
        assert_eq!((window.floor, ranges.as_slice()), expected, "{deliveries:?}");
        assert_eq!(Window::restore(Some(&window.position())).position(), window.position());
    }

    #[test]
    fn ranges_grow_over_what_the_consumer_does_not_hear() {
        check(&[(1, 3, 1), (1, 7, 2)], (7, &[]));
        // The second delivery is missing: nothing is known between 3 and 9.
        check(&[(1, 3, 1), (1, 9, 3)], (3, &[(9, 9)]));
        // It comes again: only itself is settled.
        check(&[(1, 3, 1), (1, 9, 3), (2, 7, 4), (1, 12, 5)], (3, &[(7, 7), (9, 12)]));
        check(&[(1, 3, 1), (1, 9, 3), (2, 4, 4)], (4, &[(9, 9)]));
        // A missing delivery before a second one may have been a first one.
        check(&[(1, 3, 1), (2, 3, 3), (1, 9, 4)], (3, &[(9, 9)]));
        check(&[(1, 3, 1), (2, 3, 2), (1, 9, 3)], (9, &[]));
    }

    #[test]
    fn a_new_stream_starts_afresh() {
        let mut window = Window::default();
        let mut bound = Bound { created: "a".into(), last: 10, ..Bound::default() };
        assert!(window.bind(&bound));
        assert!(window.deliver(delivery(1, 10, 1)) && !window.deliver(delivery(2, 10, 2)));
        let mut restored = Window::restore(Some(&window.position()));
        assert!(restored.bind(&bound) && !restored.deliver(delivery(2, 10, 3)));
        bound.created = "b".into();
        assert!(!restored.bind(&bound) && restored.deliver(delivery(1, 10, 1)));
        // The stream lost its end: what is known up to there is known, the rest is given out anew.
        (bound.last, bound.delivered) = (9, (5, 9));
        assert!(restored.bind(&bound) && !restored.deliver(delivery(2, 9, 6)) && restored.deliver(delivery(1, 10, 7)));
        // The same name and time, and nothing in it any more: a stream in memory after its server was restarted.
        (bound.last, bound.delivered) = (3, (0, 0));
        assert!(!restored.bind(&bound) && restored.deliver(delivery(1, 2, 1)));
        assert_eq!(Window::restore(Some(b"nonsense")), Window::default());
    }

    #[test]
    fn what_the_server_says_closes_holes() {
        let mut window = Window::default();
        let bound = Bound { created: "a".into(), last: 100, acknowledged: 10, delivered: (30, 20) };
        window.bind(&bound);
        assert!(window.deliver(delivery(1, 25, 31)));
        assert_eq!((window.floor, window.hole()), (10, Some((11, 20))));
        window.settle(11, 15);
        assert_eq!((window.floor, window.hole()), (15, Some((16, 20))));
        window.acknowledged(20);
        assert_eq!((window.floor, window.hole()), (25, None));
    }

    #[test]
    fn ranges_are_bounded() {
        let mut window = Window::default();
        window.bind(&Bound { created: "a".into(), last: u64::MAX, ..Bound::default() });
        for at in 1..=RANGES as u64 + 10 {
            // Every second delivery goes to another sidecar.
            window.deliver(delivery(1, at * 2, at * 2));
        }
        assert_eq!(window.ranges.len(), RANGES);
        assert!(window.position().len() < RANGES * 3, "{}", window.position().len());
    }

    /// A server with one consumer, as far as numbers go.
    #[derive(Default)]
    struct Server {
        /// Sequences that match the consumer's filter, up to the last one.
        matching: BTreeSet<u64>,
        last: u64,
        next: u64,
        deliveries: u64,
        /// How often each unacknowledged message was delivered.
        pending: BTreeMap<u64, u64>,
        acknowledged: u64,
    }

    impl Server {
        fn publish(&mut self, matches: bool) {
            self.last += 1;
            if matches {
                self.matching.insert(self.last);
            }
        }

        fn first(&mut self) -> Option<Delivery> {
            let next = self.matching.range(self.next + 1..).next().copied()?;
            self.next = next;
            self.deliver(next)
        }

        fn again(&mut self, which: usize) -> Option<Delivery> {
            let at = self.pending.keys().nth(which % self.pending.len().max(1)).copied()?;
            self.deliver(at)
        }

        fn deliver(&mut self, at: u64) -> Option<Delivery> {
            self.deliveries += 1;
            let times = self.pending.entry(at).or_default();
            *times += 1;
            Some(Delivery { delivered: *times, stream: at, consumer: self.deliveries, pending: 0 })
        }

        fn ack(&mut self, at: u64) {
            self.pending.remove(&at);
            self.acknowledged = self.pending.keys().next().map_or(self.next, |lowest| lowest - 1);
        }

        fn ack_all(&mut self, upto: u64) {
            self.pending.retain(|at, _| *at > upto);
            self.acknowledged = self.acknowledged.max(upto);
        }

        fn bound(&self) -> Bound {
            Bound {
                created: "t".into(),
                last: self.last,
                acknowledged: self.acknowledged,
                delivered: (self.deliveries, self.next),
            }
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Publish(bool),
        /// A first delivery; `false`: it is lost on the way.
        First(bool),
        /// A delivery of something unacknowledged; `false`: it is lost on the way.
        Again(usize, bool),
        /// A checkpoint is written and what stands in it is acknowledged.
        Checkpoint,
        /// A checkpoint is written; the acknowledgements are lost.
        CheckpointOnly,
        /// The process is killed, or the connection breaks.
        Kill,
        Reconnect,
        /// The server is asked how far it is.
        Ask,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => any::<bool>().prop_map(Step::Publish),
            6 => prop::bool::weighted(0.8).prop_map(Step::First),
            4 => (any::<usize>(), prop::bool::weighted(0.8)).prop_map(|(at, arrives)| Step::Again(at, arrives)),
            2 => Just(Step::Checkpoint),
            1 => Just(Step::CheckpointOnly),
            1 => Just(Step::Kill),
            1 => Just(Step::Reconnect),
            1 => Just(Step::Ask),
        ];
        prop::collection::vec(step, 1..200)
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

        /// Whatever order deliveries, lost ones, redeliveries, checkpoints, kills and reconnections come in: when all has
        /// settled, each matching message was counted once, and none was acknowledged before it was counted.
        #[test]
        fn every_message_counts_once(steps in steps(), all in any::<bool>()) {
            let mut server = Server::default();
            let mut window = Window::default();
            window.bind(&server.bound());
            // What is counted, and what the last checkpoint holds of it.
            let (mut counted, mut unacked) = (BTreeMap::<u64, u32>::new(), Vec::<u64>::new());
            let mut stored = (counted.clone(), window.position());
            let drain = (0..600).flat_map(|at| [Step::First(true), Step::Again(at, true), Step::Ask, Step::Checkpoint]);
            for step in steps.into_iter().chain([Step::Kill]).chain(drain) {
                match step {
                    Step::Publish(matches) => server.publish(matches),
                    Step::First(_) | Step::Again(..) => {
                        let (delivery, arrives) = match step {
                            Step::First(arrives) => (server.first(), arrives),
                            Step::Again(at, arrives) => (server.again(at), arrives),
                            _ => unreachable!(),
                        };
                        let Some(delivery) = delivery.filter(|_| arrives) else { continue };
                        if window.deliver(delivery) {
                            *counted.entry(delivery.stream).or_default() += 1;
                        }
                        unacked.push(delivery.stream);
                    }
                    Step::Checkpoint | Step::CheckpointOnly => {
                        stored = (counted.clone(), window.position());
                        let acks = std::mem::take(&mut unacked);
                        if matches!(step, Step::CheckpointOnly) {
                            continue;
                        }
                        if all {
                            // One acknowledgement for everything below: never beyond the floor.
                            if let Some(upto) = acks.iter().copied().filter(|at| *at <= window.floor()).max() {
                                server.ack_all(upto);
                            }
                            // What lies above a hole stays unacknowledged, and comes again.
                        } else {
                            acks.into_iter().for_each(|at| server.ack(at));
                        }
                        let known: BTreeSet<u64> = stored.0.keys().copied().collect();
                        let gone = server.matching.range(..=server.next).filter(|at| !server.pending.contains_key(at));
                        for at in gone {
                            prop_assert!(known.contains(at), "{at} is acknowledged and was never counted");
                        }
                    }
                    Step::Kill => {
                        counted = stored.0.clone();
                        window = Window::restore(Some(&stored.1));
                        unacked.clear();
                        window.bind(&server.bound());
                    }
                    Step::Reconnect => { window.bind(&server.bound()); }
                    Step::Ask => window.acknowledged(server.acknowledged),
                }
            }
            prop_assert!(counted.values().all(|times| *times == 1), "{counted:?}");
            let heard: BTreeSet<u64> = counted.into_keys().collect();
            prop_assert_eq!(heard, server.matching);
        }
    }
}
