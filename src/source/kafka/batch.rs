//! Messages of librdkafka, gathered for one delivery.

use super::offsets::{Offsets, Partition};
use crate::source::decode::reason;
use crate::source::message::{Binding, Messages, Size};
use rdkafka::message::{BorrowedMessage, Headers, Message};
use smallvec::SmallVec;
use std::collections::BTreeSet;

/// Messages of one batch: enough that what a batch costs does not count.
const BATCH_MESSAGES: usize = 4_096;
/// Bytes of one batch; the last message may pass it.
const BATCH_BYTES: usize = 1 << 20;

/// What was gathered.
pub(super) struct Batch {
    pub messages: Messages,
    /// For each partition the offset behind the last message.
    pub next: Offsets,
    /// Messages that count.
    pub count: usize,
    /// Messages that were counted before.
    pub duplicates: u64,
    /// Bytes of keys and payloads.
    pub bytes: u64,
    /// The partition of the last message: messages come in runs of one partition.
    run: Option<Run>,
}

struct Run {
    /// Librdkafka's handle of the topic: it stays while the partition is assigned, and no batch outlives that.
    topic: usize,
    partition: Partition,
    ours: bool,
    next: i64,
}

impl Batch {
    /// A batch that will be about as large as the last one.
    pub fn new(last: Size, event_bytes: usize) -> Self {
        Self {
            messages: Messages::like(last, event_bytes),
            next: Offsets::default(),
            count: 0,
            duplicates: 0,
            bytes: 0,
            run: None,
        }
    }

    pub fn is_full(&self) -> bool {
        self.count >= BATCH_MESSAGES || self.messages.bytes() >= BATCH_BYTES
    }

    /// `known` says what was counted before this batch, `assigned` what is ours.
    pub fn take(&mut self, message: &BorrowedMessage<'_>, known: &Offsets, assigned: &BTreeSet<Partition>) {
        let (topic, at) = (message.topic_ptr() as usize, message.partition());
        let mut run = match self.run.take() {
            Some(run) if run.topic == topic && run.partition.1 == at => run,
            other => {
                self.end(other);
                let partition: Partition = (message.topic().into(), at);
                let next = self.next.get(&partition).or_else(|| known.get(&partition)).unwrap_or(0);
                Run { topic, ours: assigned.contains(&partition), partition, next }
            }
        };
        self.bytes += (message.payload_len() + message.key_len()) as u64;
        let offset = message.offset();
        if offset < run.next {
            self.duplicates += 1;
        } else if run.ours {
            // Offsets that are missing in between are no gap: markers of transactions and compaction leave holes.
            run.next = offset + 1;
            self.count += 1;
            self.push(message, &run.partition);
        }
        self.run = Some(run);
    }

    fn push(&mut self, message: &BorrowedMessage<'_>, partition: &Partition) {
        let topic = Some(&partition.0);
        let payload = match message.payload() {
            Some(payload) if !payload.is_empty() => payload,
            _ => {
                let (topic, at) = partition;
                let offset = message.offset();
                let text = format!("message {offset} of partition {at} of {topic} has no content (a tombstone)");
                return self.messages.refuse(reason::EMPTY, text);
            }
        };
        let Some(headers) = message.headers() else { return self.messages.push(payload, topic) };
        let texts: SmallVec<[(&str, &str); 16]> =
            headers.iter().filter_map(|header| Some((header.key, std::str::from_utf8(header.value?).ok()?))).collect();
        let content_type = texts.iter().find(|(name, _)| name.eq_ignore_ascii_case("content-type"));
        let content_type = content_type.map(|(_, value)| *value);
        self.messages.push_with_headers(payload, topic, &texts, content_type, Binding::Underscore);
    }

    fn end(&mut self, run: Option<Run>) {
        if let Some(run) = run.filter(|run| run.ours) {
            self.next.raise(&run.partition, run.next);
        }
    }

    /// Nothing more comes to this batch.
    pub fn finish(&mut self) {
        let run = self.run.take();
        self.end(run);
    }
}
