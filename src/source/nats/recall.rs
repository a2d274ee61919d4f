//! What was delivered before this connection and not acknowledged comes again. When all of it has, no hole is left.

use super::window::Delivery;
use std::collections::HashSet;

/// More unacknowledged messages than this are not followed one by one.
const FOLLOWED: u64 = 200_000;

/// The messages that were unacknowledged when the source was bound: their number is known, and which they are when they
/// come.
#[derive(Debug, Default)]
pub(super) struct Recall {
    /// So many there were; 0 when nothing is followed.
    pending: u64,
    seen: HashSet<u64, ahash::RandomState>,
    /// The next number of the consumer's deliveries.
    expected: u64,
    /// The lowest first delivery since: what comes again from there on may be of this connection.
    first: Option<u64>,
    /// The highest sequence that had been delivered.
    top: u64,
}

impl Recall {
    /// Follows so many messages; `delivered` is the consumer's last delivery and the highest sequence it delivered.
    pub fn new(pending: u64, delivered: (u64, u64)) -> Self {
        let pending = if pending > FOLLOWED { 0 } else { pending };
        Self { pending, seen: HashSet::default(), expected: delivered.0 + 1, first: None, top: delivered.1 }
    }

    /// Notes a delivery. When this was the last one that had to come: everything up to this sequence is settled.
    pub fn note(&mut self, delivery: Delivery) -> Option<u64> {
        if self.pending == 0 {
            return None;
        }
        if delivery.consumer != self.expected {
            // One went missing: whether it was of these cannot be told.
            *self = Self::default();
            return None;
        }
        self.expected += 1;
        if delivery.delivered == 1 {
            self.first.get_or_insert(delivery.stream);
            return None;
        }
        if self.first.is_some_and(|first| delivery.stream >= first) {
            return None;
        }
        self.top = self.top.max(delivery.stream);
        self.seen.insert(delivery.stream);
        let upto = self.first.map_or(self.top, |first| self.top.min(first - 1));
        let all = self.seen.len() as u64 == self.pending;
        all.then(|| {
            *self = Self::default();
            upto
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plays deliveries (how often, stream, consumer) against three unacknowledged ones of the sequences up to 20.
    fn check(deliveries: &[(u64, u64, u64)], expected: Option<u64>) {
        let mut recall = Recall::new(3, (10, 20));
        let notes = deliveries
            .iter()
            .map(|&(delivered, stream, consumer)| recall.note(Delivery { delivered, stream, consumer, pending: 0 }));
        assert_eq!(notes.flatten().collect::<Vec<_>>(), expected.into_iter().collect::<Vec<_>>(), "{deliveries:?}");
    }

    #[test]
    fn when_all_have_come_again_everything_is_settled() {
        check(&[(2, 4, 11), (2, 9, 12), (2, 13, 13)], Some(20));
        check(&[(2, 4, 11), (1, 25, 12), (2, 9, 13), (3, 4, 14), (2, 13, 15)], Some(20));
        // Two of three; one of them twice; one of this connection; one missing in between.
        check(&[(2, 4, 11), (2, 9, 12)], None);
        check(&[(2, 4, 11), (3, 4, 12), (2, 9, 13)], None);
        check(&[(1, 21, 11), (2, 21, 12), (2, 4, 13), (2, 9, 14)], None);
        check(&[(2, 4, 11), (2, 9, 13), (2, 13, 14)], None);
        // The server may forget how far it was; what was unacknowledged tells it.
        check(&[(2, 4, 11), (2, 9, 12), (2, 22, 13)], Some(22));
    }
}
