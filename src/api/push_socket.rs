//! `GET /events` as a WebSocket (RFC 6455): producers that keep a connection open. Each message is what a body of
//! `POST /events` is. Nothing is read on while the queue is full; with `?ack=1` each message is answered once it is queued
//! (with `ack: checkpoint` of the source, once a checkpoint holds it).

use super::error::ApiError;
use super::listen::Peer;
use super::push::{self, PushSource};
use super::{Shared, origin};
use crate::config::schema::Overflow;
use crate::model::Refusal;
use crate::source::decode::{Framing, Part, PartKind, reason};
use crate::source::rate::Client;
use crate::source::{Ingest, Pace};
use crate::telemetry::{clock, self_metrics};
use axum::Extension;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade, close_code};
use axum::extract::{ConnectInfo, Path, State};
use axum::response::Response;
use bytes::Bytes;
use futures_util::{FutureExt as _, SinkExt as _, StreamExt as _};
use http::{HeaderMap, StatusCode, Uri};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

/// Open WebSockets of the ingest listener: half of its connections, so that requests always find a place.
const SOCKETS: usize = super::listen::CONNECTIONS / 2;
/// Messages of one batch, and their bytes.
const BATCH_MESSAGES: usize = 8_192;
const BATCH_BYTES: usize = 1 << 20;
/// A connection that says nothing for so long is asked whether it is still there, and given up after as long again.
const IDLE: Duration = Duration::from_secs(30);
/// The last words to a connection may take so long.
const CLOSE: Duration = Duration::from_secs(2);
/// The subprotocol that asks for answers as `?ack=1` does.
const ACK: &str = "sidewatch.ack";
/// Each message is one event in structured mode (CloudEvents' WebSockets binding 1.0.2, section 3.1).
const CLOUDEVENTS: &str = "cloudevents.json";

/// The open WebSockets of a process.
pub struct Sockets {
    closing: CancellationToken,
    places: Arc<Semaphore>,
}

impl Default for Sockets {
    fn default() -> Self {
        Self { closing: CancellationToken::new(), places: Arc::new(Semaphore::new(SOCKETS)) }
    }
}

impl Sockets {
    /// Tells every producer that sidewatch goes away.
    pub fn close(&self) {
        self.closing.cancel();
    }

    /// Waits until all have been told, or until that takes too long.
    pub async fn closed(&self) {
        let all = self.places.acquire_many(SOCKETS as u32);
        if tokio::time::timeout(CLOSE * 2, all).await.is_err() {
            tracing::warn!("some WebSockets of producers did not end in time");
        }
    }
}

/// `GET /events`, upgraded.
///
/// # Errors
/// 403, 404, 426 for a request that is no upgrade, 503 when there are too many.
pub async fn events(
    state: State<Shared>,
    uri: Uri,
    peer: Option<Extension<ConnectInfo<Peer>>>,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, ApiError> {
    let params = super::prometheus::Params::parse(uri.query().unwrap_or(""));
    let name = params.get("source").map(str::to_owned);
    open(state.0, name, uri, client(peer), &headers, upgrade)
}

/// `GET /events/NAME`, upgraded.
///
/// # Errors
/// As [`events`].
pub async fn events_of(
    state: State<Shared>,
    Path(name): Path<String>,
    uri: Uri,
    peer: Option<Extension<ConnectInfo<Peer>>>,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, ApiError> {
    open(state.0, Some(name), uri, client(peer), &headers, upgrade)
}

fn client(peer: Option<Extension<ConnectInfo<Peer>>>) -> Option<Client> {
    peer.map(|Extension(ConnectInfo(Peer(address)))| Client::Ip(address.ip().to_canonical()))
}

fn open(
    backend: Shared,
    name: Option<String>,
    uri: Uri,
    client: Option<Client>,
    headers: &HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, ApiError> {
    origin::refuse_foreign(headers)?;
    let source = backend.push.load().source(name.as_deref())?.name.clone();
    let upgrade = upgrade.map_err(|refused| {
        let hint = "POST events here, or connect with a WebSocket client: ws://HOST:PORT/events";
        ApiError::new(StatusCode::UPGRADE_REQUIRED, format!("GET {} is a WebSocket: {refused}", uri.path()), hint)
    })?;
    let Ok(place) = backend.sockets.places.clone().try_acquire_owned() else {
        self_metrics::source_connections_refused(&source, "too_many").increment(1);
        let message = format!("{SOCKETS} WebSockets are open, which is the most");
        let hint = "try again later, or send many events over one connection";
        return Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, message, hint).retry_after(1));
    };
    let params = super::prometheus::Params::parse(uri.query().unwrap_or(""));
    let limit_bytes = backend.limits().body_bytes;
    let upgrade = upgrade.max_message_size(limit_bytes).max_frame_size(limit_bytes).protocols([ACK, CLOUDEVENTS]);
    let protocol = upgrade.selected_protocol().cloned();
    let answers = params.get("ack").is_some_and(|value| !matches!(value, "0" | "false"))
        || protocol.as_ref().is_some_and(|protocol| protocol == ACK);
    let kind =
        if protocol.is_some_and(|protocol| protocol == CLOUDEVENTS) { PartKind::CloudEvent } else { PartKind::Plain };
    Ok(upgrade.on_upgrade(move |socket| async move {
        let connection = Connection { backend, name, client, answers, kind, limit_bytes, _place: place };
        let open = self_metrics::source_connections(&source);
        open.increment(1.0);
        connection.serve(socket, &source).await;
        open.decrement(1.0);
    }))
}

struct Connection {
    backend: Shared,
    /// The source as the request named it.
    name: Option<String>,
    /// Who sends, for the source's rate limit.
    client: Option<Client>,
    /// Each message is answered.
    answers: bool,
    kind: PartKind,
    limit_bytes: usize,
    _place: OwnedSemaphorePermit,
}

/// Messages that go to the core together.
#[derive(Default)]
struct Gathered {
    buffer: Vec<u8>,
    parts: Vec<Part>,
    refused: Vec<Refusal>,
}

impl Gathered {
    fn push(&mut self, payload: &[u8], kind: PartKind) {
        let start = self.buffer.len();
        self.buffer.extend_from_slice(payload);
        self.parts.push(Part { range: start..self.buffer.len(), kind, topic: None, id: None });
        // Bytes of two messages must never make one character.
        self.buffer.push(b'\n');
    }

    fn refuse(&mut self, reason: &'static str, message: String) {
        self.refused.push(Refusal { item: self.parts.len() as u32, reason, message });
        self.parts.push(Part { range: 0..0, kind: PartKind::Refused, topic: None, id: None });
    }
}

/// What the producer is told at the end.
type Farewell = (u16, &'static str);

const UNSTORED: Farewell =
    (close_code::AGAIN, "no checkpoint held the events in time; they may be counted all the same");
const GOING: Farewell = (close_code::AWAY, "sidewatch is shutting down");

impl Connection {
    async fn serve(&self, mut socket: WebSocket, source: &Arc<str>) {
        let Some((code, words)) = self.read(&mut socket, source).await else { return };
        let frame = CloseFrame { code, reason: Utf8Bytes::from_static(words) };
        let farewell = async {
            socket.send(Message::Close(Some(frame))).await?;
            // What the producer has sent meanwhile is not taken: it hears no answer and sends it again.
            while let Some(Ok(_)) = socket.recv().await {}
            Ok::<(), axum::Error>(())
        };
        // A producer that does not read its end learns of it when the connection goes.
        let _ = tokio::time::timeout(CLOSE, farewell).await;
    }

    /// Reads until the end; what to say then, `None` when nobody hears it.
    async fn read(&self, socket: &mut WebSocket, source: &Arc<str>) -> Option<Farewell> {
        let (received, received_bytes) =
            (self_metrics::source_messages(source), self_metrics::source_received_bytes(source));
        let closing = &self.backend.sockets.closing;
        let mut asked = false;
        loop {
            let first = tokio::select! {
                biased;
                () = closing.cancelled() => return Some(GOING),
                next = tokio::time::timeout(IDLE, socket.next()) => next,
            };
            let Ok(first) = first else {
                if asked {
                    tracing::debug!(%source, "a producer's WebSocket does not answer");
                    return None;
                }
                asked = true;
                socket.send(Message::Ping(Bytes::new())).await.ok()?;
                continue;
            };
            asked = false;
            let (mut next, mut gathered, mut end) = (Some(first), Gathered::default(), None);
            let (mut bytes, mut answers, mut last) = (0, Vec::new(), None);
            while let Some(message) = next {
                match message {
                    Some(Ok(Message::Text(text))) => gathered.push(text.as_bytes(), self.kind),
                    Some(Ok(Message::Binary(payload))) => gathered.push(&payload, self.kind),
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                    Some(Ok(Message::Close(_))) | None => end = Some(None),
                    Some(Err(error)) => end = Some(self.broken(&error, &mut gathered)),
                }
                if self.answers && !gathered.parts.is_empty() {
                    received.increment(1);
                    bytes += gathered.buffer.len();
                    match self.deliver(std::mem::take(&mut gathered), source).await {
                        Ok((answer, number)) => (answers.push(answer), last = Some(number)),
                        Err(farewell) => return Some(farewell),
                    };
                }
                let full = gathered.parts.len() >= BATCH_MESSAGES || gathered.buffer.len() >= BATCH_BYTES;
                next = if end.is_some() || full || answers.len() >= BATCH_MESSAGES {
                    None
                } else {
                    socket.next().now_or_never()
                };
            }
            if !gathered.parts.is_empty() {
                received.increment(gathered.parts.len() as u64);
                bytes += gathered.buffer.len();
                if let Err(farewell) = self.deliver(gathered, source).await {
                    return Some(farewell);
                }
            }
            received_bytes.increment(bytes as u64);
            // With `ack: checkpoint` an answer says that the events are stored.
            if let Some(number) = last
                && self.waits_for_checkpoint()
                && push::stored(&self.backend, number).await.is_err()
            {
                return Some(UNSTORED);
            }
            if !answers.is_empty() {
                for answer in answers {
                    socket.feed(Message::Text(answer.into())).await.ok()?;
                }
                socket.flush().await.ok()?;
            }
            if let Some(end) = end {
                return end;
            }
        }
    }

    /// A connection that cannot go on: too large a message is refused by name, anything else is its end.
    fn broken(&self, error: &axum::Error, gathered: &mut Gathered) -> Option<Farewell> {
        tracing::debug!(%error, "a producer's WebSocket broke");
        if !error.to_string().contains("too long") {
            return None;
        }
        let message = format!("a message is larger than {} bytes (limits.body_bytes)", self.limit_bytes);
        gathered.refuse(reason::TOO_LARGE, message);
        Some((close_code::SIZE, "the message is larger than limits.body_bytes"))
    }

    fn waits_for_checkpoint(&self) -> bool {
        self.backend.push.load().source(self.name.as_deref()).is_ok_and(|source| source.ack_checkpoint)
    }

    /// Decodes, waits until the rate limit and the queue have room, and says what became of it and its number.
    async fn deliver(&self, gathered: Gathered, source: &Arc<str>) -> Result<(String, u64), Farewell> {
        let push = self.backend.push.load_full();
        let gone = (close_code::POLICY, "the http source is no longer configured");
        let PushSource { decoder, limits, overflow, .. } = push.source(self.name.as_deref()).map_err(|_| gone)?;
        let Gathered { buffer, parts, refused } = gathered;
        let mut batch = decoder.decode(buffer, Framing::Messages(parts), &push.plan, source, clock::now());
        batch.refused.extend(refused);
        let answer = if self.answers { push::answer_text(batch.events.len(), &batch.refused) } else { String::new() };
        let closing = &self.backend.sockets.closing;
        let pace = limits.clone().map(|limits| Pace::new(limits, closing.clone()).for_client(self.client));
        // What is answered is never dropped: its sender waits.
        let overflow = if self.answers { Overflow::Block } else { *overflow };
        let sink = self.backend.sink.with_overflow(overflow).with_pace(pace);
        let number = sink.send(Ingest::Batch(batch, decoder.clone())).await.map_err(|_| GOING)?;
        Ok((answer, number))
    }
}
