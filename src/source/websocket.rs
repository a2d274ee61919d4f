//! Client of a WebSocket server (RFC 6455): connects, subscribes, reads. Each frame is one event, an array of them or
//! lines of them; what has arrived meanwhile makes one batch. A full queue stops the reading.

mod connect;
mod ignore;

use super::message::Messages;
use super::standing::Standing;
use super::{SourceContext, decode};
use crate::config::schema::WebSocketConfig;
use crate::telemetry::{clock, self_metrics};
use connect::Stream;
use futures_util::{FutureExt as _, SinkExt as _, StreamExt as _};
use ignore::Ignore;
use metrics::Counter;
use std::time::{Duration, Instant};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::{CapacityError, Error};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Bytes, Message};
use tokio_util::sync::CancellationToken;

/// Frames of one batch, and their bytes.
const BATCH_FRAMES: usize = 8_192;
const BATCH_BYTES: usize = 1 << 20;
/// Closing and sending may take so long; the other side may have stopped reading.
const SEND: Duration = Duration::from_secs(5);
/// A connection that ends sooner without an event counts as a failed attempt, so that the next one waits longer.
const SETTLED: Duration = Duration::from_secs(10);
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// Frames up to so many times the limit of an event are read and refused; a larger one ends the connection.
const READ_FACTOR: usize = 4;

struct Client<'a> {
    context: &'a SourceContext,
    config: &'a WebSocketConfig,
    ignore: Ignore,
    messages: Messages,
    received: Counter,
    received_bytes: Counter,
    ignored: Counter,
}

/// How a connection ended.
struct End {
    reason: String,
    /// Something arrived, or it lasted.
    settled: bool,
    /// The core has ended, or the source is cancelled.
    last: bool,
}

/// Runs until cancelled.
pub(super) async fn run(context: &SourceContext, config: &WebSocketConfig, cancel: &CancellationToken) {
    let name = &context.name;
    let (connected, gaps) = (self_metrics::source_connected(name), self_metrics::source_gaps(name, "disconnected"));
    let mut standing = Standing::new(context);
    let mut client = Client {
        context,
        config,
        ignore: Ignore::new(&config.ignore),
        messages: Messages::new(context.event_bytes),
        received: self_metrics::source_messages(name),
        received_bytes: self_metrics::source_received_bytes(name),
        ignored: self_metrics::source_ignored(name),
    };
    let mut unsettled = 0_u32;
    loop {
        let opened = tokio::select! {
            opened = connect::open(context, config, context.event_bytes.saturating_mul(READ_FACTOR)) => opened,
            () = cancel.cancelled() => return,
        };
        let reason = match opened {
            Ok(socket) => {
                connected.increment(1);
                standing.connected(0).await;
                let end = client.session(socket, cancel).await;
                if end.last {
                    return;
                }
                // What the server sends until we are back is not kept for us.
                gaps.increment(1);
                unsettled = if end.settled { 0 } else { unsettled.saturating_add(1) };
                end.reason
            }
            Err(reason) => reason,
        };
        standing.lost(reason).await;
        let mut wait = standing.next_wait();
        if unsettled > 1 {
            wait = wait.max(wait.saturating_mul(1 << unsettled.min(10)).min(LONGEST_WAIT));
        }
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = cancel.cancelled() => return,
        }
    }
}

impl Client<'_> {
    /// One connection, from its first message to its end.
    async fn session(&mut self, mut socket: WebSocketStream<Stream>, cancel: &CancellationToken) -> End {
        let began = clock::instant();
        let mut arrived = false;
        let outcome = self.converse(&mut socket, &mut arrived, cancel).await;
        // What came before the end is kept.
        let delivered = self.deliver().await;
        let Some(reason) = outcome.filter(|_| delivered) else {
            let frame = CloseFrame { code: CloseCode::Away, reason: "sidewatch ends".into() };
            // The other side notices the end of the connection anyway.
            let _ = tokio::time::timeout(SEND, socket.close(Some(frame))).await;
            return End { reason: String::new(), settled: true, last: true };
        };
        let settled = arrived || clock::instant().duration_since(began) >= SETTLED;
        End { reason, settled, last: false }
    }

    /// Subscribes and reads until something ends it: why, or `None` when the core has ended or the source is cancelled.
    async fn converse(
        &mut self,
        socket: &mut WebSocketStream<Stream>,
        arrived: &mut bool,
        cancel: &CancellationToken,
    ) -> Option<String> {
        for message in &self.config.subscribe {
            if let Err(reason) = send(socket, Message::text(message.clone()), "subscribing").await {
                return Some(reason);
            }
        }
        let ping = Duration::from_millis(self.config.ping_ms.unsigned_abs());
        let patience = Duration::from_millis(self.config.pong_timeout_ms.unsigned_abs());
        let mut heard = clock::instant();
        let mut asked: Option<Instant> = None;
        loop {
            let deadline = match asked {
                Some(asked) => Some(asked + patience),
                None if ping.is_zero() => None,
                None => Some(heard + ping),
            };
            let next = tokio::select! {
                biased;
                () = cancel.cancelled() => return None,
                next = socket.next() => next,
                () = until(deadline) => {
                    if asked.is_some() {
                        let silence = clock::instant().duration_since(heard);
                        return Some(format!("no answer to a ping, nothing heard for {:.1} s", silence.as_secs_f64()));
                    }
                    if let Err(reason) = send(socket, Message::Ping(Bytes::from_static(b"sidewatch")), "a ping").await {
                        return Some(reason);
                    }
                    asked = Some(clock::instant());
                    continue;
                }
            };
            let mut end = self.take(next);
            // What is there already goes along, without waiting for more.
            while end.is_none() && self.messages.len() < BATCH_FRAMES && self.messages.bytes() < BATCH_BYTES {
                match socket.next().now_or_never() {
                    Some(next) => end = self.take(next),
                    None => break,
                }
            }
            *arrived |= !self.messages.is_empty();
            if !self.deliver().await {
                return None;
            }
            if end.is_some() {
                return end;
            }
            // While the queue was full nothing was read: the silence was ours.
            heard = clock::instant();
            asked = None;
        }
    }

    /// One thing read; why the connection is over, when it is.
    fn take(&mut self, next: Option<Result<Message, Error>>) -> Option<String> {
        match next {
            Some(Ok(Message::Text(text))) => self.event(text.as_bytes()),
            Some(Ok(Message::Binary(bytes))) => self.event(&bytes),
            Some(Ok(Message::Close(frame))) => return Some(closed(frame.as_ref())),
            // The answer to a ping is sent by the next read.
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
            Some(Err(Error::Capacity(CapacityError::MessageTooLong { size, .. }))) => {
                self.received.increment(1);
                let limit = self.context.event_bytes;
                let message = format!("the message has {size} bytes, the limit is {limit} (limits.event_bytes)");
                self.messages.refuse(decode::reason::TOO_LARGE, message);
                return Some(format!("a message of {size} bytes, far above limits.event_bytes, ended the connection"));
            }
            Some(Err(Error::ConnectionClosed | Error::AlreadyClosed)) | None => {
                return Some("the server closed the connection".into());
            }
            Some(Err(error)) => return Some(format!("the connection broke: {error}")),
        }
        None
    }

    fn event(&mut self, payload: &[u8]) {
        self.received.increment(1);
        self.received_bytes.increment(payload.len() as u64);
        if self.ignore.is_match(payload) {
            self.ignored.increment(1);
        } else {
            self.messages.push(payload, None);
        }
    }

    async fn deliver(&mut self) -> bool {
        self.messages.is_empty() || self.context.deliver_messages(&mut self.messages, None).await.is_some()
    }
}

async fn send(socket: &mut WebSocketStream<Stream>, message: Message, what: &str) -> Result<(), String> {
    match tokio::time::timeout(SEND, socket.send(message)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(format!("{what} failed: {error}")),
        Err(_) => Err(format!("{what} failed: the server does not read")),
    }
}

/// Waits for a time; for ever without one.
async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

/// Why the server closed, with its code (RFC 6455, section 7.4).
fn closed(frame: Option<&CloseFrame>) -> String {
    match frame {
        Some(frame) if frame.reason.is_empty() => format!("the server closed the connection ({})", frame.code),
        Some(frame) => {
            let reason: String = frame.reason.chars().filter(|character| !character.is_control()).collect();
            format!("the server closed the connection ({}, {reason})", frame.code)
        }
        None => "the server closed the connection".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_close_is_told_with_code_and_reason() {
        assert_eq!(closed(None), "the server closed the connection");
        let frame = |reason: &'static str| CloseFrame { code: CloseCode::Policy, reason: reason.into() };
        assert_eq!(closed(Some(&frame(""))), "the server closed the connection (1008)");
        assert_eq!(closed(Some(&frame("no\nroom"))), "the server closed the connection (1008, noroom)");
    }
}
