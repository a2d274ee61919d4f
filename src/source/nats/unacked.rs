//! Messages of a stream that wait for their acknowledgement, and what to send when they may have it.

use super::api::AckPolicy;
use super::window::Delivery;
use async_nats::Subject;
use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

/// Where to send the acknowledgement of one delivery.
#[derive(Clone, Debug)]
pub(super) struct Reply {
    subject: Subject,
    stream: u64,
    consumer: u64,
}

impl Reply {
    pub fn new(subject: Subject, delivery: Delivery) -> Self {
        Self { subject, stream: delivery.stream, consumer: delivery.consumer }
    }
}

/// One batch on its way to a checkpoint.
#[derive(Debug)]
struct Held {
    replies: Vec<Reply>,
    /// Everything up to here was settled when the batch was handed over.
    floor: u64,
    /// When the server was told last that somebody works on it; at first when it came.
    told: Instant,
}

/// What to send.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Acknowledge {
    /// Subjects to publish an acknowledgement to.
    pub subjects: Vec<Subject>,
    /// Messages that this acknowledges.
    pub messages: u64,
}

/// What waits, in the order of its batches.
#[derive(Debug, Default)]
pub(super) struct Unacked {
    batches: VecDeque<Held>,
    /// With [`AckPolicy::All`]: messages of a checkpoint that lie above a hole. Acknowledging them would acknowledge what
    /// is missing as well.
    above: BTreeMap<u64, Reply>,
    above_told: Option<Instant>,
    /// With [`AckPolicy::All`]: how far it is acknowledged, as sequences of the stream and of the consumer.
    acknowledged: (u64, u64),
    /// The consumer's highest delivery that stands in a checkpoint.
    highest: u64,
}

impl Unacked {
    /// Whether messages of a checkpoint wait above a hole.
    pub fn waits_above(&self) -> bool {
        !self.above.is_empty()
    }

    /// A batch that was handed over; `floor` is the window's.
    pub fn hold(&mut self, replies: Vec<Reply>, floor: u64, now: Instant) {
        self.batches.push_back(Held { replies, floor, told: now });
    }

    /// Forgets everything: the consumer is another one.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// So many of the oldest batches stand in a checkpoint: what may be acknowledged now.
    pub fn stored(&mut self, batches: usize, policy: AckPolicy) -> Acknowledge {
        let taken = self.batches.drain(..batches.min(self.batches.len()));
        match policy {
            AckPolicy::None => {
                taken.for_each(drop);
                Acknowledge::default()
            }
            AckPolicy::Explicit => {
                let subjects: Vec<Subject> = taken.flat_map(|held| held.replies).map(|reply| reply.subject).collect();
                let messages = subjects.len() as u64;
                Acknowledge { subjects, messages }
            }
            AckPolicy::All => {
                let mut last: Option<Reply> = None;
                let (mut messages, mut floor) = (0, 0);
                for held in taken {
                    floor = floor.max(held.floor);
                    for reply in held.replies {
                        self.highest = self.highest.max(reply.consumer);
                        if reply.stream > held.floor {
                            self.above.insert(reply.stream, reply);
                            continue;
                        }
                        messages += 1;
                        if last.as_ref().is_none_or(|last| last.stream < reply.stream) {
                            last = Some(reply);
                        }
                    }
                }
                while let Some(entry) = self.above.first_entry()
                    && *entry.key() <= floor
                {
                    let reply = entry.remove();
                    messages += 1;
                    if last.as_ref().is_none_or(|last| last.stream < reply.stream) {
                        last = Some(reply);
                    }
                }
                let last = last.filter(|last| last.stream > self.acknowledged.0);
                let subjects = last.map(|last| self.one_for_all(last)).into_iter().collect();
                Acknowledge { subjects, messages }
            }
        }
    }

    /// The server goes by the delivery's number too, and ignores one that is not above the last. A message that waited
    /// above a hole has a lower one than what filled the hole: the highest stands for both.
    fn one_for_all(&mut self, last: Reply) -> Subject {
        let stale = last.consumer <= self.acknowledged.1;
        let consumer = if stale { self.highest.max(self.acknowledged.1 + 1) } else { last.consumer };
        self.acknowledged = (last.stream, consumer);
        if !stale {
            return last.subject;
        }
        let (stream, old) = (last.stream, last.consumer);
        last.subject.replacen(&format!(".{stream}.{old}."), &format!(".{stream}.{consumer}."), 1).into()
    }

    /// What has waited for longer than `wait` since the server heard of it: it is to be told that somebody works on it.
    pub fn working(&mut self, now: Instant, wait: Duration) -> Vec<Subject> {
        let mut subjects = Vec::new();
        for held in self.batches.iter_mut().filter(|held| now.duration_since(held.told) >= wait) {
            held.told = now;
            subjects.extend(held.replies.iter().map(|reply| reply.subject.clone()));
        }
        if self.above.is_empty() {
            self.above_told = None;
        } else if now.duration_since(*self.above_told.get_or_insert(now)) >= wait {
            self.above_told = Some(now);
            subjects.extend(self.above.values().map(|reply| reply.subject.clone()));
        }
        subjects
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::clock;

    fn reply(stream: u64, consumer: u64) -> Reply {
        let subject = format!("$JS.ACK.E.d.1.{stream}.{consumer}.17.0").into();
        Reply::new(subject, Delivery { delivered: 1, stream, consumer, pending: 0 })
    }

    /// Holds batches (floor and messages), stores them one by one; `expected` is what is sent each time, as the sequences
    /// of stream and consumer, and how many messages it stands for.
    fn check(policy: AckPolicy, batches: &[(u64, &[(u64, u64)])], expected: &[(&[(u64, u64)], u64)]) {
        let mut unacked = Unacked::default();
        let now = clock::instant();
        for (floor, messages) in batches {
            unacked.hold(messages.iter().map(|&(stream, consumer)| reply(stream, consumer)).collect(), *floor, now);
        }
        for (subjects, messages) in expected {
            let subjects = subjects.iter().map(|&(stream, consumer)| reply(stream, consumer).subject).collect();
            assert_eq!(unacked.stored(1, policy), Acknowledge { subjects, messages: *messages }, "{batches:?}");
        }
        assert_eq!(unacked.stored(1, policy), Acknowledge::default());
    }

    #[test]
    fn each_policy_sends_its_own() {
        let batches: &[(u64, &[(u64, u64)])] = &[(2, &[(1, 1), (2, 2)]), (3, &[(3, 3)])];
        check(AckPolicy::Explicit, batches, &[(&[(1, 1), (2, 2)], 2), (&[(3, 3)], 1)]);
        check(AckPolicy::All, batches, &[(&[(2, 2)], 2), (&[(3, 3)], 1)]);
        check(AckPolicy::None, batches, &[(&[], 0), (&[], 0)]);
    }

    #[test]
    fn nothing_above_a_hole_is_acknowledged_with_the_rest() {
        // 2 is missing, 3 and 4 wait for it; when it comes (as delivery 4) one acknowledgement is for all.
        let batches: &[(u64, &[(u64, u64)])] = &[(1, &[(1, 1), (3, 3)]), (1, &[(4, 5)]), (4, &[(2, 4)])];
        check(AckPolicy::All, batches, &[(&[(1, 1)], 1), (&[], 0), (&[(4, 5)], 3)]);
        // The hole's own acknowledgement bore a higher number than what waited above it.
        let batches: &[(u64, &[(u64, u64)])] = &[(0, &[(3, 3)]), (1, &[(1, 10)]), (3, &[(2, 11)])];
        check(AckPolicy::All, batches, &[(&[], 0), (&[(1, 10)], 1), (&[(3, 11)], 2)]);
    }

    #[test]
    fn what_waits_is_told_as_being_worked_on() {
        let mut unacked = Unacked::default();
        let (start, wait) = (clock::instant(), Duration::from_secs(2));
        unacked.hold(vec![reply(1, 1)], 0, start);
        unacked.hold(vec![reply(2, 2)], 0, start + Duration::from_secs(1));
        assert!(unacked.working(start + Duration::from_secs(1), wait).is_empty());
        assert_eq!(unacked.working(start + wait, wait).len(), 1);
        assert_eq!(unacked.working(start + wait, wait).len(), 0, "told once");
        assert_eq!(unacked.working(start + Duration::from_secs(5), wait).len(), 2);
    }
}
