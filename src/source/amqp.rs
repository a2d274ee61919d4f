//! `amqp`: a queue of RabbitMQ, over AMQP 0.9.1. At least once: a message is acknowledged when it stands in a checkpoint.
//!
//! `connect` makes connection, channel, exchanges, queue and bindings; `poison` tells which messages were no events;
//! `reasons` says in plain words what a broker complains about.

mod connect;
mod poison;
mod reasons;

use super::SourceContext;
use super::acks::Acks;
use super::message::{Binding, Messages};
use super::standing::Standing;
use super::unacked::{Unacked, fingerprint};
use crate::config::schema::{AmqpConfig, Scope};
use crate::telemetry::{clock, self_metrics};
use connect::Connected;
use futures_util::{FutureExt, StreamExt};
use lapin::Event;
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicRejectOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use metrics::Counter;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Messages of one batch at most, and bytes.
const BATCH_MESSAGES: usize = 1_024;
const BATCH_BYTES: usize = 1 << 20;
/// How long an answer of the broker may take.
const ANSWER: Duration = Duration::from_secs(10);
/// How often the broker is asked how many messages wait.
const LAG: Duration = Duration::from_secs(2);

/// What `sidewatch check` says.
pub(super) fn guarantee(config: &AmqpConfig) -> String {
    let poison = if config.reject_poison { "rejected, for the dead-letter exchange" } else { "acknowledged" };
    let whose = match config.scope {
        Some(Scope::PerInstance) => "a queue of its own",
        _ => "one queue for all who consume it",
    };
    format!(
        "at least once, counted once: acknowledged after the checkpoint, redeliveries recognised by id, and by content \
         where there is none (of messages alike in every byte one may be miscounted after a kill); {whose}; what is no \
         event is {poison}"
    )
}

/// Runs until cancelled.
pub(super) async fn run(context: &SourceContext, config: &AmqpConfig, cancel: &CancellationToken) {
    let mut standing = Standing::new(context);
    let mut unacked: Unacked<()> =
        Unacked::restore(context.position.as_deref(), usize::from(config.prefetch), clock::instant());
    while !cancel.is_cancelled() {
        let reason = tokio::select! {
            connected = connect::connect(context, config) => match connected {
                Ok(connected) => consume(context, config, connected, &mut standing, &mut unacked, cancel).await,
                Err(reason) => reason,
            },
            () = cancel.cancelled() => return,
        };
        if cancel.is_cancelled() {
            return;
        }
        unacked.disconnected(clock::instant());
        standing.lost(reason).await;
        tokio::select! {
            () = tokio::time::sleep(standing.next_wait()) => {}
            () = cancel.cancelled() => return,
        }
    }
}

/// What one batch is acknowledged with.
#[derive(Debug, Default)]
struct Token {
    /// Everything up to this one is done with.
    up_to: Option<u64>,
    /// These go to the dead-letter exchange.
    reject: Vec<u64>,
    messages: usize,
}

/// The counters of one source.
struct Counters {
    messages: Counter,
    bytes: Counter,
    redelivered: Counter,
    duplicates: Counter,
    acknowledged: Counter,
}

/// Consumes until the connection is gone, or cancelled; why it is gone.
async fn consume(
    context: &SourceContext,
    config: &AmqpConfig,
    connected: Connected,
    standing: &mut Standing<'_>,
    unacked: &mut Unacked<()>,
    cancel: &CancellationToken,
) -> String {
    let Connected { connection, channel, mut consumer, queue, waiting } = connected;
    let mut events: futures_util::stream::BoxStream<'static, Event> = Box::pin(connection.events_listener());
    let mut acks: Acks<Token> = Acks::new(&context.sink, usize::from(config.prefetch));
    let mut gather = Gather::new(context, config);
    self_metrics::source_connected(&context.name).increment(1);
    standing.connected(u64::from(waiting)).await;
    let mut lag = tokio::time::interval(LAG);
    lag.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    lag.reset();
    loop {
        tokio::select! {
            biased;
            () = cancel.cancelled() => {
                // What is not acknowledged comes again and is recognised; a failure to say goodbye changes nothing.
                let _ = tokio::time::timeout(ANSWER, connection.close(200, "bye".into())).await;
                return String::new();
            }
            () = acks.changed() => {
                for token in acks.ready() {
                    if let Err(error) = acknowledge(&channel, &token).await {
                        return reasons::lost(&error, config);
                    }
                    gather.counters.acknowledged.increment(token.messages as u64);
                    unacked.acknowledged(token.messages, clock::instant());
                }
            }
            event = events.next() => match event {
                Some(Event::ConnectionBlocked(reason)) => {
                    tracing::info!(source = %context.name, reason, "the broker is short of memory or disk and takes nothing from those who publish");
                }
                Some(Event::ConnectionUnblocked) => tracing::info!(source = %context.name, "the broker takes messages again"),
                Some(Event::Error(error)) => return reasons::lost(&error, config),
                Some(_) => {}
                None => return "the connection is closed".into(),
            },
            delivery = consumer.next() => {
                let mut next = Some(delivery);
                while let Some(delivery) = next {
                    match delivery {
                        Some(Ok(delivery)) => gather.take(&delivery, unacked),
                        Some(Err(error)) => return reasons::lost(&error, config),
                        None => return reasons::cancelled(config),
                    }
                    next = if gather.is_full() { None } else { consumer.next().now_or_never() };
                }
                match gather.deliver(context, unacked).await {
                    Some((number, token)) => acks.push(number, token.messages, token),
                    None => return "sidewatch is shutting down".into(),
                }
            }
            _ = lag.tick() => {
                if unacked.is_settled(clock::instant())
                    && context.deliver_messages(&mut gather.messages, Some(unacked.position())).await.is_none()
                {
                    return "sidewatch is shutting down".into();
                }
                let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
                let asked = channel.queue_declare(queue.clone(), passive, FieldTable::default());
                match tokio::time::timeout(ANSWER, asked).await {
                    Ok(Ok(queue)) => standing.connected(u64::from(queue.message_count())).await,
                    Ok(Err(error)) => return reasons::lost(&error, config),
                    Err(_) => return "the broker does not answer".into(),
                }
            }
        }
    }
}

/// Rejects first: what comes with `multiple` would be acknowledged otherwise.
async fn acknowledge(channel: &lapin::Channel, token: &Token) -> lapin::Result<()> {
    for tag in &token.reject {
        channel.basic_reject(*tag, BasicRejectOptions { requeue: false }).await?;
    }
    match token.up_to {
        Some(tag) => channel.basic_ack(tag, BasicAckOptions { multiple: true }).await,
        None => Ok(()),
    }
}

/// Gathers deliveries for one batch.
struct Gather {
    messages: Messages,
    /// The tag of each message of the batch, and whether it is a repetition that the core does not see.
    tags: Vec<(u64, bool)>,
    topic: Arc<str>,
    counters: Counters,
    reject_poison: bool,
    max_deliveries: Option<u32>,
}

impl Gather {
    fn new(context: &SourceContext, config: &AmqpConfig) -> Self {
        let name = &context.name;
        Self {
            messages: Messages::new(context.event_bytes),
            tags: Vec::new(),
            topic: "".into(),
            counters: Counters {
                messages: self_metrics::source_messages(name),
                bytes: self_metrics::source_received_bytes(name),
                redelivered: self_metrics::source_redelivered(name),
                duplicates: self_metrics::source_duplicates(name),
                acknowledged: self_metrics::source_acknowledged(name),
            },
            reject_poison: config.reject_poison,
            max_deliveries: config.max_deliveries,
        }
    }

    fn is_full(&self) -> bool {
        self.tags.len() >= BATCH_MESSAGES || self.messages.bytes() >= BATCH_BYTES
    }

    fn take(&mut self, delivery: &Delivery, unacked: &mut Unacked<()>) {
        let properties = &delivery.properties;
        let text = |text: &Option<lapin::types::ShortString>| text.as_ref().map_or("", |text| text.as_str()).to_owned();
        let id = text(properties.message_id());
        self.counters.messages.increment(1);
        self.counters.bytes.increment(delivery.data.len() as u64);
        if delivery.redelivered {
            self.counters.redelivered.increment(1);
        }
        let (exchange, routing_key) = (delivery.exchange.as_str(), delivery.routing_key.as_str());
        let parts = [exchange.as_bytes(), routing_key.as_bytes(), id.as_bytes(), &delivery.data];
        let counted = unacked.take(fingerprint(&parts), delivery.redelivered);
        self.tags.push((delivery.delivery_tag, counted));
        if counted {
            self.counters.duplicates.increment(1);
            return;
        }
        let deliveries = properties.headers().as_ref().and_then(deliveries);
        if let (Some(count), Some(limit)) = (deliveries, self.max_deliveries)
            && count > i64::from(limit)
        {
            let message =
                format!("the message was delivered {count} times before, the limit is {limit} (max_deliveries)");
            return self.messages.refuse(super::decode::reason::REDELIVERED, message);
        }
        // A fanout exchange needs no routing key; what comes through it is of one kind.
        let topic = if routing_key.is_empty() { exchange } else { routing_key };
        if *self.topic != *topic {
            self.topic = topic.into();
        }
        let topic = Some(&self.topic).filter(|topic| !topic.is_empty());
        let headers = properties.headers().as_ref().map(attributes).unwrap_or_default();
        let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let content_type = Some(text(properties.content_type())).filter(|kind| !kind.is_empty());
        self.messages.push_with_headers(&delivery.data, topic, &headers, content_type.as_deref(), Binding::Long);
        self.messages.identify(&id);
    }

    /// Hands the batch over: its number, and what it is acknowledged with. `None` when the core has ended.
    async fn deliver(&mut self, context: &SourceContext, unacked: &mut Unacked<()>) -> Option<(u64, Token)> {
        let position = Some(unacked.position());
        let tags = std::mem::take(&mut self.tags);
        if !self.reject_poison {
            let number = context.deliver_messages(&mut self.messages, position).await?;
            let token = Token { up_to: tags.last().map(|(tag, _)| *tag), reject: Vec::new(), messages: tags.len() };
            return Some((number, token));
        }
        let (number, poison) = poison::deliver(context, &mut self.messages, position).await?;
        let mut token = Token { messages: tags.len(), ..Token::default() };
        let mut seen = tags.iter().filter(|(_, counted)| !counted).map(|(tag, _)| *tag).zip(poison);
        let mut poisoned = seen.by_ref().filter(|(_, poison)| *poison).map(|(tag, _)| tag).peekable();
        for (tag, _) in &tags {
            if poisoned.next_if_eq(tag).is_some() {
                token.reject.push(*tag);
            } else {
                token.up_to = Some(*tag);
            }
        }
        Some((number, token))
    }
}

/// How often a quorum queue has delivered the message before (RabbitMQ).
fn deliveries(headers: &FieldTable) -> Option<i64> {
    match headers.inner().get("x-delivery-count")? {
        AMQPValue::LongLongInt(count) => Some(*count),
        AMQPValue::LongInt(count) => Some(i64::from(*count)),
        AMQPValue::LongUInt(count) => Some(i64::from(*count)),
        AMQPValue::ShortInt(count) => Some(i64::from(*count)),
        AMQPValue::ShortShortInt(count) => Some(i64::from(*count)),
        _ => None,
    }
}

/// The headers of the CloudEvents binding (AMQP binding, section 3.1.3).
fn attributes(headers: &FieldTable) -> Vec<(&str, String)> {
    let ours = |name: &&str| name.get(..11).is_some_and(|start| start.eq_ignore_ascii_case("cloudEvents"));
    let value = |value: &AMQPValue| {
        Some(match value {
            AMQPValue::LongString(text) => String::from_utf8_lossy(text.as_bytes()).into_owned(),
            AMQPValue::ShortString(text) => text.as_str().to_owned(),
            AMQPValue::Boolean(value) => value.to_string(),
            AMQPValue::LongInt(number) => number.to_string(),
            AMQPValue::LongLongInt(number) => number.to_string(),
            AMQPValue::ShortInt(number) => number.to_string(),
            AMQPValue::ShortShortInt(number) => number.to_string(),
            AMQPValue::Timestamp(seconds) => {
                crate::model::Timestamp::from_millis(i64::try_from(*seconds).ok()?.checked_mul(1_000)?).to_string()
            }
            _ => return None,
        })
    };
    let all = headers.inner().iter().map(|(name, it)| (name.as_str(), it));
    all.filter(|(name, _)| ours(name)).filter_map(|(name, it)| Some((name, value(it)?))).collect()
}
