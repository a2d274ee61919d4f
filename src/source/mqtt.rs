//! `mqtt`: topics of an MQTT broker, versions 3.1.1 and 5. QoS 1 is at least once: a message is acknowledged when it
//! stands in a checkpoint, and the broker keeps the session while we are away. QoS 0 is at most once.
//!
//! `client` speaks both versions behind one face; `payload` makes events of bare numbers and texts.

mod client;
mod payload;

use super::SourceContext;
use super::acks::Acks;
use super::message::{Binding, Messages};
use super::standing::Standing;
use super::unacked::{Unacked, fingerprint};
use crate::config::schema::{MqttConfig, Scope};
use crate::telemetry::{clock, self_metrics};
use client::{Client, Connection, Packet, Publish};
use metrics::Counter;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Messages of one batch at most, and bytes.
const BATCH_MESSAGES: usize = 1_024;
const BATCH_BYTES: usize = 1 << 20;
/// Packets between the connection and the batches, where the broker does not bound them (QoS 0).
const PACKETS: usize = 1_024;
/// How long the broker may take to answer a CONNECT.
const ANSWER: Duration = Duration::from_secs(10);
/// How long a farewell may take.
const FAREWELL: Duration = Duration::from_secs(1);
/// Mosquitto sends so many messages of QoS 1 ahead of their acknowledgement to a client of version 3.1.1.
const WINDOW_V3: usize = 20;

/// What stands beside the fingerprints in the position: what the session at the broker is subscribed to.
type Subscribed = Vec<String>;

/// What `sidewatch check` says.
pub(super) fn guarantee(config: &MqttConfig) -> String {
    let whose = match config.scope {
        Some(Scope::Shared) => format!("shared subscriptions of the group {:?}", config.group),
        _ => "each sidecar hears everything".to_owned(),
    };
    let retained = match config.ignore_retained {
        true => "",
        false if config.v3 => "; retained messages count, and again with each new subscription",
        false => "; retained messages count, and again with a new session",
    };
    if !config.at_least_once {
        return format!(
            "at most once (QoS 0): what is sent while the connection is gone is lost, each gap is counted; {whose}{retained}"
        );
    }
    let session = if config.clean_session {
        "; what is sent while the connection is gone is lost, each gap is counted"
    } else {
        ""
    };
    format!(
        "at least once, counted once (QoS 1): acknowledged after the checkpoint, redeliveries recognised by packet \
         identifier and content, and by id; what a publisher sends twice without an id counts twice{session}; \
         {whose}{retained}"
    )
}

/// Runs until cancelled.
pub(super) async fn run(context: &SourceContext, config: &MqttConfig, cancel: &CancellationToken) {
    let mut standing = Standing::new(context);
    // A broker of version 3.1.1 says nothing of its window; Mosquitto's is 20, others have some hundreds.
    let unacked = Unacked::restore(context.position.as_deref(), usize::from(config.receive_maximum), clock::instant());
    let mut worker = Worker::new(context, config, unacked);
    let mut connected = false;
    while !cancel.is_cancelled() {
        let reason = tokio::select! {
            made = client::connect(context, config) => match made {
                Ok((client, connection)) => {
                    let reason = session(&mut worker, client, connection, &mut standing, cancel).await;
                    connected |= standing.is_up();
                    reason
                }
                Err(reason) => reason,
            },
            () = cancel.cancelled() => return,
        };
        if cancel.is_cancelled() {
            return;
        }
        worker.unacked.disconnected(clock::instant());
        if connected && config.clean_session {
            self_metrics::source_gaps(&context.name, "disconnected").increment(1);
        }
        connected = false;
        standing.lost(reason).await;
        tokio::select! {
            () = tokio::time::sleep(standing.next_wait()) => {}
            () = cancel.cancelled() => return,
        }
    }
}

/// One connection, until it is gone or the source is cancelled; why it is gone. The connection is read in a future of its
/// own, so that it never stands still in the middle of a packet: signs of life go on while the core is slow.
async fn session(
    worker: &mut Worker<'_>,
    client: Client,
    connection: Connection,
    standing: &mut Standing<'_>,
    cancel: &CancellationToken,
) -> String {
    let (packets, received) = mpsc::channel(PACKETS.max(usize::from(worker.config.receive_maximum)));
    let read = async move {
        let mut connection = connection;
        let mut within = Some(ANSWER);
        loop {
            let next = connection.next();
            let packet = match within {
                Some(within) => tokio::time::timeout(within, next).await.unwrap_or_else(|_| Err(connection.silent())),
                None => next.await,
            };
            match packet {
                Ok(None) => {}
                Ok(Some(packet)) => {
                    if matches!(packet, Packet::Connected { .. }) {
                        within = None;
                    }
                    if packets.send(packet).await.is_err() {
                        return String::new();
                    }
                }
                Err(reason) => return reason,
            }
        }
    };
    let (mut read, mut work) = (Box::pin(read), Box::pin(worker.work(&client, received, standing, cancel)));
    tokio::select! {
        reason = &mut read => {
            drop(read);
            // What came before the end still counts.
            match work.await {
                Some(refused) => refused,
                None => reason,
            }
        }
        end = &mut work => {
            client.disconnect();
            let _ = tokio::time::timeout(FAREWELL, read).await;
            end.unwrap_or_default()
        }
    }
}

/// The counters of one source.
struct Counters {
    messages: Counter,
    bytes: Counter,
    redelivered: Counter,
    duplicates: Counter,
    acknowledged: Counter,
    retained_ignored: Counter,
}

struct Worker<'a> {
    context: &'a SourceContext,
    config: &'a MqttConfig,
    unacked: Unacked<Subscribed>,
    messages: Messages,
    counters: Counters,
    /// The topic of the last message and the type made of it: the next one is often alike.
    topic: (String, Arc<str>),
    /// Packet identifiers of the batch.
    identifiers: Vec<u16>,
}

impl<'a> Worker<'a> {
    fn new(context: &'a SourceContext, config: &'a MqttConfig, unacked: Unacked<Subscribed>) -> Self {
        let name = &context.name;
        let counters = Counters {
            messages: self_metrics::source_messages(name),
            bytes: self_metrics::source_received_bytes(name),
            redelivered: self_metrics::source_redelivered(name),
            duplicates: self_metrics::source_duplicates(name),
            acknowledged: self_metrics::source_acknowledged(name),
            retained_ignored: self_metrics::source_ignored(name),
        };
        let messages = Messages::new(context.event_bytes);
        Self { context, config, unacked, messages, counters, topic: Default::default(), identifiers: Vec::new() }
    }

    /// Takes packets until there are no more: why the session cannot go on, or nothing when the connection is gone or the
    /// source cancelled.
    async fn work(
        &mut self,
        client: &Client,
        mut packets: mpsc::Receiver<Packet>,
        standing: &mut Standing<'_>,
        cancel: &CancellationToken,
    ) -> Option<String> {
        let window = if self.config.v3 { WINDOW_V3 } else { usize::from(self.config.receive_maximum) };
        let mut acks: Acks<Vec<u16>> = Acks::new(&self.context.sink, window);
        // Identifiers of a connection that ended in the middle of a batch mean nothing on this one.
        self.identifiers.clear();
        loop {
            tokio::select! {
                biased;
                () = cancel.cancelled() => return None,
                () = acks.changed() => {
                    for identifiers in acks.ready() {
                        for identifier in &identifiers {
                            client.acknowledge(*identifier);
                        }
                        self.counters.acknowledged.increment(identifiers.len() as u64);
                        self.unacked.acknowledged(identifiers.len(), clock::instant());
                    }
                }
                packet = packets.recv() => {
                    let mut next = packet;
                    while let Some(packet) = next {
                        match packet {
                            Packet::Connected { session_present } => self.connected(client, session_present, standing).await,
                            Packet::Subscribed(Ok(())) => {
                                self.unacked.more = client::filters(self.config);
                                self.hand_over(&mut acks).await?;
                                standing.connected(0).await;
                            }
                            Packet::Subscribed(Err(reason)) => return Some(reason),
                            Packet::Publish(publish) => self.take(&publish),
                        }
                        let full = self.identifiers.len() >= BATCH_MESSAGES
                            || self.messages.len() >= BATCH_MESSAGES
                            || self.messages.bytes() >= BATCH_BYTES;
                        next = if full { None } else { packets.try_recv().ok() };
                    }
                    if !self.identifiers.is_empty() || !self.messages.is_empty() {
                        self.hand_over(&mut acks).await?;
                    }
                    if packets.is_closed() && packets.is_empty() {
                        return None;
                    }
                }
            }
        }
    }

    /// Hands the batch over; `None` when the core has ended.
    async fn hand_over(&mut self, acks: &mut Acks<Vec<u16>>) -> Option<()> {
        let position = self.config.at_least_once.then(|| self.unacked.position());
        let number = self.context.deliver_messages(&mut self.messages, position).await?;
        let identifiers = std::mem::take(&mut self.identifiers);
        if !identifiers.is_empty() {
            acks.push(number, identifiers.len(), identifiers);
        }
        Some(())
    }

    async fn connected(&mut self, client: &Client, session_present: bool, standing: &mut Standing<'_>) {
        let context = self.context;
        self_metrics::source_connected(&context.name).increment(1);
        let wanted = client::filters(self.config);
        if !session_present {
            self.unacked.forget();
            if !self.unacked.more.is_empty() && !self.config.clean_session {
                self_metrics::source_gaps(&context.name, "session_lost").increment(1);
                tracing::warn!(source = %context.name, "the broker has not kept the session: what was sent meanwhile is lost");
            }
            self.unacked.more.clear();
        }
        if session_present && self.unacked.more == wanted {
            // Subscribing again would bring every retained message again.
            return standing.connected(0).await;
        }
        let gone: Vec<String> = self.unacked.more.iter().filter(|filter| !wanted.contains(filter)).cloned().collect();
        client.unsubscribe(&gone);
        client.subscribe(self.config);
    }

    fn take(&mut self, publish: &Publish) {
        self.counters.messages.increment(1);
        self.counters.bytes.increment(publish.payload.len() as u64);
        if publish.identifier > 0 {
            self.identifiers.push(publish.identifier);
            if publish.again {
                self.counters.redelivered.increment(1);
            }
            let identifier = publish.identifier.to_be_bytes();
            let print = fingerprint(&[&identifier, publish.topic.as_bytes(), &publish.payload]);
            // The identifier is in use until we acknowledge it: with the same content it is the same message, whether the
            // broker says so or not.
            if self.unacked.take(print, true) {
                return self.counters.duplicates.increment(1);
            }
        }
        if publish.retained && self.config.ignore_retained {
            return self.counters.retained_ignored.increment(1);
        }
        if self.topic.0 != publish.topic {
            self.topic = (publish.topic.clone(), publish.topic.replace('/', ".").into());
        }
        let topic = Some(&self.topic.1);
        let headers: Vec<(&str, &str)> =
            publish.properties.iter().map(|(name, it)| (name.as_str(), it.as_str())).collect();
        let content_type = publish.content_type.as_deref();
        let foreign = !self.context.decoder.cuts_lines() && !payload::is_cloudevent(&headers, content_type);
        match payload::wrapped(&publish.payload, &publish.topic).filter(|_| foreign) {
            Some(event) => self.messages.push(&event, topic),
            None => self.messages.push_with_headers(&publish.payload, topic, &headers, content_type, Binding::Bare),
        }
    }
}
