//! A durable consumer of JetStream: pulled in bounded portions, acknowledged when a checkpoint holds what was counted.

use super::api::{AckPolicy, Api, Binding};
use super::connect::{Connection, chain};
use super::inbox::{Topics, receive};
use super::pull::{Pull, Said};
use super::recall::Recall;
use super::rescue::{ENDS, SOON};
use super::unacked::{Reply, Unacked};
use super::window::{Delivery, Window};
use super::{BATCH_BYTES, BATCH_MESSAGES, End};
use crate::config::schema::{NatsConfig, NatsStream};
use crate::source::SourceContext;
use crate::source::acks::Acks;
use crate::source::message::Messages;
use crate::source::standing::Standing;
use crate::telemetry::{clock, self_metrics};
use async_nats::{Message, Subject};
use bytes::Bytes;
use metrics::Counter;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// Acknowledgements of NATS (ADR-15).
const ACK: Bytes = Bytes::from_static(b"+ACK");
const WORKING: Bytes = Bytes::from_static(b"+WPI");
/// How often holes are looked into.
const LOOK: Duration = Duration::from_secs(1);
/// How long an answer about them may take, and all answers of one look: events wait meanwhile.
const LOOK_ANSWER: Duration = Duration::from_millis(500);
const LOOK_ANSWERS: Duration = Duration::from_millis(200);
/// Without a limit of its own a consumer's unacknowledged messages are limited here.
const WINDOW: usize = 20_000;
/// Not heard from for so long beyond the time of redelivery, a message is not coming any more.
const GIVEN_UP: Duration = Duration::from_secs(10);

/// The source's side of a consumer; outlives connections.
pub(super) struct Consumer<'a> {
    pub(super) context: &'a SourceContext,
    config: &'a NatsConfig,
    pub(super) api: Api<'a>,
    pub(super) window: Window,
    /// What had been delivered before and comes again.
    recall: Recall,
    /// One entry for each batch in `unacked`.
    pub(super) acks: Acks<()>,
    window_messages: usize,
    unacked: Unacked,
    /// When the consumer was made whose acknowledgements are waiting.
    made: String,
    pub(super) topics: Topics,
    pub(super) messages: Messages,
    pub(super) replies: Vec<Reply>,
    /// Connections in a row that ended soon.
    ends: u32,
    /// A message that should have come again, where it is awaited since.
    awaited: Option<(u64, Instant)>,
    counts: Counts,
}

struct Counts {
    messages: Counter,
    bytes: Counter,
    redelivered: Counter,
    duplicates: Counter,
    acknowledged: Counter,
}

impl Counts {
    fn new(name: &Arc<str>) -> Self {
        Self {
            messages: self_metrics::source_messages(name),
            bytes: self_metrics::source_received_bytes(name),
            redelivered: self_metrics::source_redelivered(name),
            duplicates: self_metrics::source_duplicates(name),
            acknowledged: self_metrics::source_acknowledged(name),
        }
    }
}

impl<'a> Consumer<'a> {
    pub fn new(context: &'a SourceContext, config: &'a NatsConfig, stream: &'a NatsStream) -> Self {
        Self {
            context,
            config,
            api: Api::new(config, stream),
            window: Window::restore(context.position.as_deref()),
            recall: Recall::default(),
            acks: Acks::new(&context.sink, WINDOW),
            window_messages: WINDOW,
            unacked: Unacked::default(),
            made: String::new(),
            topics: Topics::default(),
            messages: Messages::new(context.event_bytes),
            replies: Vec::new(),
            ends: 0,
            awaited: None,
            counts: Counts::new(&context.name),
        }
    }

    /// Pulls until the connection ends or the server will not have it.
    pub async fn listen(
        &mut self,
        connection: &Connection,
        standing: &mut Standing<'_>,
        cancel: &CancellationToken,
    ) -> End {
        let began = clock::instant();
        let end = self.attend(connection, standing, cancel).await;
        let soon = matches!(end, End::Gone) && clock::instant().duration_since(began) < SOON;
        self.ends = if soon { self.ends.saturating_add(1) } else { 0 };
        end
    }

    async fn attend(
        &mut self,
        connection: &Connection,
        standing: &mut Standing<'_>,
        cancel: &CancellationToken,
    ) -> End {
        let news = &connection.news;
        let binding = tokio::select! {
            () = cancel.cancelled() => return End::Cancelled,
            binding = self.bind(connection) => match binding {
                Ok(binding) => binding,
                Err(_) if news.gone.is_cancelled() => return End::Gone,
                Err(reason) => return End::Refused(reason),
            },
        };
        if self.ends >= ENDS
            && let Err(end) = self.rescue(connection, &binding, cancel).await
        {
            return end;
        }
        let mut pull = Pull::new(&connection.client, self.api.next(), &binding, self.window_messages);
        let mut subscription = match connection.client.subscribe(pull.inbox()).await {
            Ok(subscription) => [subscription],
            Err(error) => return End::Refused(chain(&error)),
        };
        standing.connected(binding.behind).await;
        let tick = (binding.ack_wait / 8).clamp(Duration::from_millis(10), Duration::from_millis(500));
        let mut ticks = tokio::time::interval(tick);
        let mut looked = clock::instant();
        let mut batch: Vec<Message> = Vec::with_capacity(BATCH_MESSAGES);
        loop {
            if !news.gone.is_cancelled() {
                self.acknowledge(connection, &binding).await;
                if let Err(reason) = pull.keep_open(&connection.client).await {
                    return if news.gone.is_cancelled() { End::Gone } else { End::Refused(reason) };
                }
            }
            tokio::select! {
                biased;
                () = cancel.cancelled() => return End::Cancelled,
                () = news.refused_now.notified() => match news.take_refused() {
                    Some(refused) => return End::Refused(refused),
                    None => continue,
                },
                _ = ticks.tick(), if !news.gone.is_cancelled() => {
                    let now = clock::instant();
                    self.say_working(connection, &binding, now).await;
                    if now.duration_since(looked) >= LOOK {
                        looked = now;
                        let floor = self.window.floor();
                        self.look_into_holes(connection, &binding, now).await;
                        // What waited above a hole is acknowledged when a checkpoint knows that there is none.
                        let closed = self.window.floor() > floor && self.unacked.waits_above();
                        if closed && !self.deliver(connection, &binding, &mut ticks, cancel).await {
                            return End::Cancelled;
                        }
                    }
                    if let Err(reason) = pull.heard_lately(now) {
                        return End::Refused(reason);
                    }
                    continue;
                }
                // Behind what comes seldom: under load there is always something here.
                open = receive(&mut subscription, BATCH_MESSAGES, BATCH_BYTES, |message| batch.push(message)) => {
                    if !open {
                        return End::Gone;
                    }
                }
                // What came before the end is taken first.
                () = news.gone.cancelled() => return End::Gone,
                () = self.acks.changed() => continue,
            }
            let (behind, over) = self.take(&mut batch, &mut pull, &binding);
            if !self.replies.is_empty() && !self.deliver(connection, &binding, &mut ticks, cancel).await {
                return End::Cancelled;
            }
            if let Some(reason) = over {
                return End::Refused(reason);
            }
            if let Some(behind) = behind {
                standing.connected(behind).await;
            }
        }
    }

    async fn bind(&mut self, connection: &Connection) -> Result<Binding, String> {
        let counted = (self.window.created(), self.window.floor());
        let binding = self.api.bind(connection, counted).await?;
        let window_messages = binding.max_ack_pending.unwrap_or(WINDOW);
        if binding.consumer_created != self.made || window_messages != self.window_messages {
            // What waits for acknowledgement belongs to a consumer that is no more; or nothing waits yet.
            self.unacked.clear();
            self.acks = Acks::new(&self.context.sink, window_messages);
            self.window_messages = window_messages;
            self.made.clone_from(&binding.consumer_created);
        }
        if !self.window.bind(&binding.bound) {
            self.unacked.clear();
            self.acks.clear();
            tracing::warn!(source = %self.context.name, "the stream is another one than before; counting starts afresh");
        }
        // Where each message is acknowledged by itself, the server's own floor rises soon enough.
        let followed = if binding.ack_policy == AckPolicy::All { binding.pending } else { 0 };
        self.recall = Recall::new(followed, binding.bound.delivered);
        self.awaited = None;
        Ok(binding)
    }

    /// Sorts what has arrived: new messages are gathered, others recognised; what the server says about requests is noted.
    /// How many messages are still to come, when one says so, and why the consumer must be bound anew, when it must.
    fn take(&mut self, batch: &mut Vec<Message>, pull: &mut Pull, binding: &Binding) -> (Option<u64>, Option<String>) {
        pull.heard(clock::instant());
        let (mut behind, mut over, mut bytes, mut count) = (None, None, 0, 0);
        let (mut redelivered, mut duplicates) = (0, 0);
        for message in batch.drain(..) {
            // A message of the stream is one whatever its headers say about themselves.
            let delivery = message.reply.as_deref().and_then(Delivery::parse);
            if let (Some(status), None) = (message.status, delivery) {
                if let Said::Over(reason) = pull.status(status.as_u16(), &message) {
                    over = Some(reason);
                }
                continue;
            }
            let Some(delivery) = delivery else {
                self.messages.refuse("not_from_stream", "a message came that is none of the stream".to_owned());
                continue;
            };
            pull.delivered(message.length);
            count += 1;
            bytes += message.length;
            behind = Some(delivery.pending);
            redelivered += u64::from(delivery.delivered > 1);
            let new = self.window.deliver(delivery);
            if let Some(upto) = self.recall.note(delivery) {
                self.window.settle(self.window.floor() + 1, upto);
            }
            if !new {
                duplicates += 1;
            } else if !binding.pick || self.wanted(&message.subject) {
                self.topics.push(&message, &mut self.messages);
            }
            // Taken, not copied: a copy of the client's text costs an allocation of its own.
            self.replies.extend(message.reply.map(|reply| Reply::new(reply, delivery)));
        }
        self.counts.messages.increment(count);
        self.counts.bytes.increment(bytes as u64);
        if redelivered + duplicates > 0 {
            self.counts.redelivered.increment(redelivered);
            self.counts.duplicates.increment(duplicates);
        }
        (behind, over)
    }

    /// Whether the configuration names the subject, where the consumer does not choose.
    fn wanted(&self, subject: &str) -> bool {
        self.config.subjects.iter().any(|pattern| super::matches(&pattern.value, subject))
    }

    /// Hands the batch over; while the core has no room, the server is told that its messages are being worked on.
    /// `false` when the source is to stop.
    pub(super) async fn deliver(
        &mut self,
        connection: &Connection,
        binding: &Binding,
        ticks: &mut tokio::time::Interval,
        cancel: &CancellationToken,
    ) -> bool {
        let replies = std::mem::take(&mut self.replies);
        let count = replies.len();
        self.unacked.hold(replies, self.window.floor(), clock::instant());
        let deliver = self.context.deliver_messages(&mut self.messages, Some(self.window.position()));
        tokio::pin!(deliver);
        let half = binding.ack_wait / 2;
        let number = loop {
            tokio::select! {
                biased;
                number = &mut deliver => break number,
                () = cancel.cancelled() => return false,
                _ = ticks.tick() => {
                    let subjects = self.unacked.working(clock::instant(), half);
                    publish(connection, binding, subjects, WORKING).await;
                }
            }
        };
        match number {
            Some(number) => {
                self.acks.push(number, count, ());
                true
            }
            None => false,
        }
    }

    /// Acknowledges what stands in a checkpoint.
    pub(super) async fn acknowledge(&mut self, connection: &Connection, binding: &Binding) {
        let batches = self.acks.ready().len();
        if batches == 0 {
            return;
        }
        let send = self.unacked.stored(batches, binding.ack_policy);
        if publish(connection, binding, send.subjects, ACK).await {
            self.counts.acknowledged.increment(send.messages);
        }
    }

    async fn say_working(&mut self, connection: &Connection, binding: &Binding, now: Instant) {
        let subjects = self.unacked.working(now, binding.ack_wait / 2);
        publish(connection, binding, subjects, WORKING).await;
    }

    /// Where deliveries went missing, sequences stay open that may hold nothing for this consumer. The server knows.
    async fn look_into_holes(&mut self, connection: &Connection, binding: &Binding, now: Instant) {
        if self.window.hole().is_none() {
            self.awaited = None;
            return;
        }
        if binding.ack_policy != AckPolicy::All {
            let answer = tokio::time::timeout(LOOK_ANSWER, self.api.acknowledged(connection)).await;
            if let Ok(Some(acknowledged)) = answer {
                self.window.acknowledged(acknowledged);
            }
            return;
        }
        while clock::instant().duration_since(now) < LOOK_ANSWERS
            && let Some((from, to)) = self.window.hole()
        {
            let answer = tokio::time::timeout(LOOK_ANSWER, self.api.first_heard(connection, from)).await;
            let Ok(Some(first)) = answer else { break };
            self.window.settle(from, to.min(first.saturating_sub(1)));
            if first > to {
                continue;
            }
            self.give_up(first, binding, now);
            break;
        }
    }

    /// A message that exists and should come again: beyond `max_deliver` it never will, and all behind it would wait.
    fn give_up(&mut self, sequence: u64, binding: &Binding, now: Instant) {
        match self.awaited {
            Some((known, since)) if known == sequence => {
                if now.duration_since(since) < binding.longest_wait * 2 + GIVEN_UP {
                    return;
                }
                tracing::warn!(
                    source = %self.context.name, sequence,
                    "the server does not deliver a message again (max_deliver); it is not counted"
                );
                self_metrics::source_gaps(&self.context.name, "undelivered").increment(1);
                self.window.settle(sequence, sequence);
                self.awaited = None;
            }
            _ => self.awaited = Some((sequence, now)),
        }
    }
}

/// Publishes the same to all; `false` when the connection is gone.
async fn publish(connection: &Connection, binding: &Binding, subjects: Vec<Subject>, payload: Bytes) -> bool {
    if binding.ack_policy == AckPolicy::None {
        return false;
    }
    let publishing = async {
        for subject in subjects {
            if connection.client.publish(subject, payload.clone()).await.is_err() {
                return false;
            }
        }
        true
    };
    tokio::select! {
        sent = publishing => sent,
        // The client takes nothing any more; the server sends it all again.
        () = connection.news.gone.cancelled() => false,
    }
}
