//! Kafka: a member of a consumer group, by librdkafka.
//!
//! The position holds, for each partition, the offset behind what is counted; it stands in the same checkpoint as the
//! counts. The group's offsets are committed after that. A partition that we get is read from the higher of both, so
//! that neither a kill between checkpoint and commit nor a member that went on meanwhile counts anything twice. A
//! partition that we lose is given up only when what was read of it stands in a checkpoint and is on its way to be
//! committed.

mod batch;
mod client;
mod heard;
mod offsets;
mod reader;

pub(crate) use client::reach;

use super::SourceContext;
use super::acks::Acks;
use super::standing::Standing;
use crate::config::Span;
use crate::config::schema::KafkaConfig;
use crate::telemetry::self_metrics;
use batch::Batch;
use offsets::Offsets;
use reader::{SETTLE, Shared, Start, Step};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Batches between the thread that reads and the task that delivers.
const BETWEEN: usize = 2;
/// Kafka has no limit of unacknowledged messages; this many ask for a checkpoint early.
const WINDOW_MESSAGES: usize = 1_000_000;
/// The group is told that we go, for so long at most.
const GOODBYE: Duration = Duration::from_secs(3);

/// What librdkafka would not take of these options.
pub(super) fn objection(config: &KafkaConfig) -> Option<(Span, String)> {
    client::objection(config)
}

pub(super) async fn run(context: &SourceContext, config: &KafkaConfig, cancel: &CancellationToken) {
    let mut known = context.position.as_deref().and_then(Offsets::decode).unwrap_or_default();
    let mut standing = Standing::new(context);
    let mut acks = Acks::new(&context.sink, WINDOW_MESSAGES);
    loop {
        let shared = Arc::new(Shared::default());
        let (steps, received) = mpsc::channel(BETWEEN);
        let start = Start {
            source: context.name.clone(),
            config: config.clone(),
            base_dir: context.base_dir.clone(),
            event_bytes: context.event_bytes,
            known: known.clone(),
            steps,
            shared: shared.clone(),
        };
        let thread = std::thread::Builder::new().name(format!("kafka {}", context.name));
        let reason = match thread.spawn(move || reader::run(start)) {
            Err(error) => format!("no thread for Kafka: {error}"),
            Ok(_) => {
                let mut session =
                    Session { context, standing: &mut standing, acks: &mut acks, shared: &shared, known: &mut known };
                match session.run(received, cancel).await {
                    None => return,
                    Some(reason) => reason,
                }
            }
        };
        acks.clear();
        standing.lost(reason).await;
        tokio::select! {
            () = tokio::time::sleep(standing.next_wait()) => {}
            () = cancel.cancelled() => return,
        }
    }
}

/// One client, from its start to its end.
struct Session<'s, 'c> {
    context: &'s SourceContext,
    standing: &'s mut Standing<'c>,
    acks: &'s mut Acks<(Offsets, u64)>,
    shared: &'s Shared,
    /// What was read: a new client goes on from here, however this one ends.
    known: &'s mut Offsets,
}

impl Session<'_, '_> {
    /// `None` when the source is over; else why this client is.
    async fn run(&mut self, mut steps: mpsc::Receiver<Step>, cancel: &CancellationToken) -> Option<String> {
        let mut over = None;
        let mut until: Option<Instant> = None;
        loop {
            let ended = async {
                match until {
                    Some(until) => tokio::time::sleep_until(until).await,
                    None => cancel.cancelled().await,
                }
            };
            tokio::select! {
                step = steps.recv() => match step {
                    None if cancel.is_cancelled() => return None,
                    None => return over.or_else(|| Some("the thread of Kafka has ended".into())),
                    Some(step) => {
                        if !self.step(step, &mut over).await {
                            self.shared.stop();
                            return None;
                        }
                    }
                },
                () = self.acks.changed(), if !self.acks.is_empty() => self.acknowledge(),
                () = ended => {
                    if until.is_some() {
                        return None;
                    }
                    self.shared.stop();
                    until = Some(Instant::now() + GOODBYE);
                }
            }
        }
    }

    /// `false` when the core has ended.
    async fn step(&mut self, step: Step, over: &mut Option<String>) -> bool {
        match step {
            Step::Batch { batch, position } => return self.deliver(*batch, position).await,
            Step::Hears { behind, first } => {
                if first {
                    self_metrics::source_connected(&self.context.name).increment(1);
                }
                self.standing.connected(behind).await;
            }
            Step::Deaf(reason) => self.standing.lost(reason).await,
            Step::Settle(reply) => {
                // The thread waits as long as this; what is not settled then is delivered again to whoever reads on.
                let _ = tokio::time::timeout(SETTLE, self.settle()).await;
                let _ = reply.send(());
            }
            Step::Over { reason, known } => {
                // A topic that was made anew begins lower: what the reader says last holds, not what is highest.
                *self.known = known;
                *over = Some(reason);
            }
        }
        true
    }

    async fn deliver(&mut self, mut batch: Batch, position: Vec<u8>) -> bool {
        let name = &self.context.name;
        self_metrics::source_received_bytes(name).increment(batch.bytes);
        self_metrics::source_messages(name).increment(batch.count as u64 + batch.duplicates);
        self_metrics::source_duplicates(name).increment(batch.duplicates);
        if batch.count == 0 {
            return true;
        }
        let Some(number) = self.context.deliver_messages(&mut batch.messages, Some(position)).await else {
            return false;
        };
        self.known.replace(&batch.next);
        self.acks.push(number, batch.count, (batch.next, batch.count as u64));
        true
    }

    fn acknowledge(&mut self) {
        for (offsets, messages) in self.acks.ready() {
            self.shared.commit(&offsets, messages);
        }
    }

    async fn settle(&mut self) {
        self.acknowledge();
        while !self.acks.is_empty() {
            self.acks.changed().await;
            self.acknowledge();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::decode::{DecodeLimits, Decoder};
    use crate::source::{QueueLimits, queue};

    #[tokio::test]
    async fn what_was_handed_over_is_known_however_the_thread_ends() {
        let (sink, mut input) = queue(QueueLimits { batches: 10, bytes: 1 << 20 });
        let decoder = Decoder::compile(&Default::default(), DecodeLimits::default(), &mut Default::default()).unwrap();
        let context = SourceContext {
            name: "bus".into(),
            instance: "i".into(),
            decoder: decoder.into(),
            plan: tokio::sync::watch::channel(Arc::default()).1,
            sink,
            position: None,
            event_bytes: 1_000,
            base_dir: ".".into(),
        };
        let (steps, received) = mpsc::channel(BETWEEN);
        let mut batch = Batch::new(crate::source::message::Size::default(), 1_000);
        batch.messages.push(br#"{"type":"a"}"#, None);
        batch.count = 1;
        batch.next.raise(&("t".into(), 0), 7);
        let mut known = Offsets::default();
        known.raise(&("t".into(), 1), 3);
        steps.send(Step::Batch { position: batch.next.encode(), batch: Box::new(batch) }).await.unwrap();
        // A panic of the thread closes the channel without a word.
        drop(steps);
        let (shared, mut standing) = (Shared::default(), Standing::new(&context));
        let mut acks = Acks::new(&context.sink, WINDOW_MESSAGES);
        let mut session =
            Session { context: &context, standing: &mut standing, acks: &mut acks, shared: &shared, known: &mut known };
        assert!(session.run(received, &CancellationToken::new()).await.is_some());
        assert_eq!((known.get(&("t".into(), 0)), known.get(&("t".into(), 1))), (Some(7), Some(3)));
        assert_eq!(input.try_receive(10).len(), 1);
    }
}
