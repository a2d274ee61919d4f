//! Core NATS: subjects that are heard while somebody listens. What comes meanwhile is gone, and every gap is counted.

use super::connect::{Connection, WAITING_MESSAGES, chain};
use super::inbox::{Topics, receive};
use super::{BATCH_BYTES, BATCH_MESSAGES, End};
use crate::config::schema::NatsConfig;
use crate::source::SourceContext;
use crate::source::message::Messages;
use crate::source::standing::Standing;
use crate::telemetry::self_metrics;
use async_nats::{Message, Subscriber};
use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How often the client's own counts are looked at.
const LOOK: Duration = Duration::from_millis(250);
/// What is kept while the core has no room.
const KEPT_MESSAGES: usize = 65_536;
const KEPT_BYTES: usize = 16 << 20;

/// Listens until the connection ends.
pub(super) async fn listen(
    context: &SourceContext,
    config: &NatsConfig,
    connection: &Connection,
    standing: &mut Standing<'_>,
    cancel: &CancellationToken,
) -> End {
    let news = &connection.news;
    let mut subscriptions = match subscribe(config, connection).await {
        Ok(subscriptions) => subscriptions,
        Err(End::Refused(reason)) => return End::Refused(news.take_refused().unwrap_or(reason)),
        Err(end) => return end,
    };
    if let Some(refused) = news.take_refused() {
        return End::Refused(refused);
    }
    standing.connected(0).await;
    let counted = self_metrics::source_messages(&context.name);
    let received = self_metrics::source_received_bytes(&context.name);
    let mut drops = Drops::new(context, connection, subscriptions.len());
    let mut kept = Kept::new(context.event_bytes);
    let mut look = tokio::time::interval(LOOK);
    loop {
        if kept.is_empty() {
            tokio::select! {
                biased;
                () = cancel.cancelled() => return End::Cancelled,
                open = receive(&mut subscriptions, BATCH_MESSAGES, BATCH_BYTES, |message| kept.take(&message)) => {
                    if !open {
                        return drops.end();
                    }
                }
                () = news.gone.cancelled() => return drops.end(),
                () = news.refused_now.notified() => {
                    // A subscription that is refused leaves the connection open, and silent.
                    match news.take_refused() {
                        Some(refused) => return End::Refused(refused),
                        None => continue,
                    }
                }
                _ = look.tick() => {
                    drops.look(true, 0);
                    continue;
                }
            }
        }
        let Some((mut batch, count, bytes)) = kept.next() else { continue };
        counted.increment(count);
        received.increment(bytes);
        drops.taken += count;
        let deliver = context.deliver_messages(&mut batch, None);
        tokio::pin!(deliver);
        loop {
            // While the core has no room, so much is kept; what comes beyond it is dropped, and counted.
            tokio::select! {
                biased;
                sent = &mut deliver => match sent {
                    Some(_) => break,
                    None => return End::Cancelled,
                },
                () = cancel.cancelled() => return End::Cancelled,
                open = receive(&mut subscriptions, BATCH_MESSAGES, BATCH_BYTES, |message| kept.take(&message)),
                    if !news.gone.is_cancelled() => {
                    if !open {
                        news.gone.cancel();
                    }
                }
            }
            drops.dropped(std::mem::take(&mut kept.dropped));
            // Messages may come without a pause: the others have their turn.
            tokio::task::yield_now().await;
        }
        tokio::task::yield_now().await;
        drops.look(false, kept.messages);
    }
}

async fn subscribe(config: &NatsConfig, connection: &Connection) -> Result<Vec<Subscriber>, End> {
    let client = &connection.client;
    let mut subscriptions = Vec::new();
    let subscribing = async {
        for subject in &config.subjects {
            let subject = subject.value.clone();
            let subscription = match &config.queue_group {
                Some(group) => client.queue_subscribe(subject, group.value.clone()).await,
                None => client.subscribe(subject).await,
            };
            subscriptions.push(subscription.map_err(|error| End::Refused(chain(&error)))?);
        }
        // Behind this the server knows: what is published from now on is heard.
        client.flush().await.map_err(|error| End::Refused(chain(&error)))
    };
    tokio::select! {
        done = subscribing => done?,
        () = connection.news.gone.cancelled() => return Err(End::Gone),
    }
    Ok(subscriptions)
}

/// What has arrived and waits for the core, in portions for one batch each.
struct Kept {
    /// Only the last one grows.
    portions: VecDeque<Portion>,
    messages: usize,
    bytes: usize,
    /// Messages that found no room.
    dropped: u64,
    topics: Topics,
    event_bytes: usize,
}

struct Portion {
    messages: Messages,
    count: usize,
    bytes: usize,
}

impl Kept {
    fn new(event_bytes: usize) -> Self {
        Self { portions: VecDeque::new(), messages: 0, bytes: 0, dropped: 0, topics: Topics::default(), event_bytes }
    }

    fn is_empty(&self) -> bool {
        self.messages == 0
    }

    /// Keeps a message if there is room for it.
    fn take(&mut self, message: &Message) {
        if self.messages >= KEPT_MESSAGES || self.bytes >= KEPT_BYTES {
            self.dropped += 1;
            return;
        }
        self.messages += 1;
        self.bytes += message.length;
        let last = self.portions.back_mut();
        let size = last.as_ref().map(|portion| portion.messages.size());
        let portion = match last.filter(|portion| portion.count < BATCH_MESSAGES && portion.bytes < BATCH_BYTES) {
            Some(portion) => portion,
            None => {
                let messages = Messages::like(size.unwrap_or_default(), self.event_bytes);
                self.portions.push_back_mut(Portion { messages, count: 0, bytes: 0 })
            }
        };
        portion.count += 1;
        portion.bytes += message.length;
        self.topics.push(message, &mut portion.messages);
    }

    /// What came first, its messages and their bytes.
    fn next(&mut self) -> Option<(Messages, u64, u64)> {
        let Portion { messages, count, bytes } = self.portions.pop_front()?;
        self.messages -= count;
        self.bytes -= bytes;
        Some((messages, count as u64, bytes as u64))
    }
}

/// Messages that were dropped because they came faster than they were counted.
struct Drops<'a> {
    context: &'a SourceContext,
    connection: &'a Connection,
    /// Messages that may wait in the client, all subscriptions together.
    capacity: u64,
    /// Messages that were given out by the client, dropped ones included.
    taken: u64,
    /// Messages that the client had to drop, as far as they are counted.
    lost: u64,
    /// What seemed to be missing at the last look: a message on its way from the client's task to this one is missing for
    /// a moment, and only then.
    seen: u64,
    said: bool,
}

impl<'a> Drops<'a> {
    fn new(context: &'a SourceContext, connection: &'a Connection, subscriptions: usize) -> Self {
        let capacity = (WAITING_MESSAGES * subscriptions) as u64;
        Self { context, connection, capacity, taken: 0, lost: 0, seen: 0, said: false }
    }

    /// Messages that were taken from the client and found no room.
    fn dropped(&mut self, count: u64) {
        self.taken += count;
        self.count(count);
    }

    /// Looks for messages that the client received and never gave out; `kept` are out and not taken yet. While some wait in
    /// the client, only those are sure that cannot be among the waiting.
    fn look(&mut self, nothing_waits: bool, kept: usize) {
        if !self.connection.news.slow.load(Ordering::Relaxed) {
            return;
        }
        let received = self.connection.client.statistics().in_messages.load(Ordering::Relaxed);
        let missing = received.saturating_sub(self.taken + kept as u64);
        let sure = match nothing_waits {
            true => missing.min(self.seen),
            false => missing.saturating_sub(self.capacity),
        };
        if nothing_waits {
            self.seen = missing;
        }
        if sure > self.lost {
            self.count(sure - self.lost);
            self.lost = sure;
        }
    }

    fn count(&mut self, dropped: u64) {
        if dropped == 0 {
            return;
        }
        if !std::mem::replace(&mut self.said, true) {
            tracing::warn!(
                source = %self.context.name, dropped,
                "messages come faster than they are counted; what does not fit is dropped"
            );
        }
        self_metrics::source_gaps(&self.context.name, "slow_consumer").increment(dropped);
    }

    /// The connection is over: what the client still held and dropped is settled.
    fn end(&mut self) -> End {
        self.look(true, 0);
        self.look(true, 0);
        End::Gone
    }
}
