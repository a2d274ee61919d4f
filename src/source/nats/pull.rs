//! Requests for messages: enough of them open that the server never waits for one, bounded in messages and bytes.

use super::api::Binding;
use crate::telemetry::clock;
use async_nats::{Client, Message, Subject};
use bytes::Bytes;
use serde_json::json;
use std::time::{Duration, Instant};

/// One request asks for so many messages and bytes at most; half as many may be open when the next is sent.
const MESSAGES: usize = 4_096;
const BYTES: usize = 4 << 20;
const EXPIRES: Duration = Duration::from_secs(20);
/// While there is nothing, the server says that it is there this often.
const HEARTBEAT: Duration = Duration::from_secs(2);
/// Without a word for so long, first a new request is sent, then the consumer counts as gone.
const SILENCE: Duration = Duration::from_millis(5_500);
/// After a refused request the next one waits.
const PAUSE: Duration = Duration::from_secs(1);

/// What a status means for the source.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// It goes on.
    Nothing,
    /// It must bind anew, and this is why.
    Over(String),
}

/// The requests that are open.
#[derive(Debug)]
pub(super) struct Pull {
    /// Where requests go.
    subject: Subject,
    inbox: String,
    requests: u64,
    messages: usize,
    bytes: usize,
    expires: Duration,
    /// Messages that open requests may still bring.
    open: usize,
    open_bytes: usize,
    heard: Instant,
    /// A new request was sent because of the silence.
    asked_again: bool,
    /// The next message is larger than a request's bytes: one alone is asked for, whatever its size.
    alone: bool,
    /// Nothing was delivered since the last request was ended for its bytes.
    ended_by_bytes: bool,
    pause_until: Option<Instant>,
}

impl Pull {
    /// `window` is the limit of unacknowledged messages: asking for more is of no use.
    pub fn new(client: &Client, subject: String, binding: &Binding, window: usize) -> Self {
        Self {
            subject: subject.into(),
            inbox: client.new_inbox(),
            requests: 0,
            messages: MESSAGES.min(window).min(binding.max_batch.unwrap_or(usize::MAX)).max(1),
            bytes: BYTES.min(binding.max_bytes.unwrap_or(usize::MAX)),
            expires: EXPIRES.min(binding.max_expires.unwrap_or(EXPIRES)),
            open: 0,
            open_bytes: 0,
            heard: clock::instant(),
            asked_again: false,
            alone: false,
            ended_by_bytes: false,
            pause_until: None,
        }
    }

    /// What to subscribe to: each request has a name of its own below it.
    pub fn inbox(&self) -> String {
        format!("{}.*", self.inbox)
    }

    /// Sends a request when too few messages are on their way.
    ///
    /// # Errors
    /// The client takes nothing any more.
    pub async fn keep_open(&mut self, client: &Client) -> Result<(), String> {
        let few = self.open <= self.messages / 2 || self.open_bytes <= self.bytes / 2;
        if !few || self.pause_until.is_some_and(|until| clock::instant() < until) {
            return Ok(());
        }
        self.pause_until = None;
        let heartbeat = HEARTBEAT.min(self.expires / 2);
        let mut request = json!({
            "batch": self.messages,
            "expires": self.expires.as_nanos() as u64,
            "idle_heartbeat": heartbeat.as_nanos() as u64,
        });
        if self.alone {
            request["batch"] = json!(1);
            self.open += 1;
            // Its size is not known: it counts as a whole request.
            self.open_bytes += self.bytes;
        } else {
            request["max_bytes"] = json!(self.bytes);
            self.open += self.messages;
            self.open_bytes += self.bytes;
        }
        self.requests += 1;
        let inbox = format!("{}.{}", self.inbox, self.requests);
        let payload = Bytes::from(request.to_string());
        let sent = client.publish_with_reply(self.subject.clone(), inbox, payload).await;
        sent.map_err(|error| super::connect::chain(&error))
    }

    /// Something came.
    pub fn heard(&mut self, now: Instant) {
        self.heard = now;
        self.asked_again = false;
    }

    /// A message came, of so many bytes.
    pub fn delivered(&mut self, bytes: usize) {
        self.open = self.open.saturating_sub(1);
        self.open_bytes = self.open_bytes.saturating_sub(bytes);
        self.ended_by_bytes = false;
        if std::mem::take(&mut self.alone) {
            self.open = 0;
            self.open_bytes = 0;
        }
    }

    /// Whether the server was heard from lately; a request is sent anew before the consumer is given up.
    ///
    /// # Errors
    /// A sentence: it was not, and did not answer the new request either.
    pub fn heard_lately(&mut self, now: Instant) -> Result<(), String> {
        if now.duration_since(self.heard) < SILENCE {
            return Ok(());
        }
        if self.asked_again {
            return Err("the consumer does not answer requests for messages".to_owned());
        }
        self.asked_again = true;
        self.heard = now;
        self.open = 0;
        self.open_bytes = 0;
        Ok(())
    }

    /// The server's word on a request (NATS ADR-13): most end it with what it has not brought.
    pub fn status(&mut self, code: u16, message: &Message) -> Said {
        let text = message.description.as_deref().unwrap_or_default();
        match (code, text) {
            (100, _) => return Said::Nothing,
            (503, _) => {
                return Said::Over("nobody answers requests for messages: the consumer or its stream is gone".into());
            }
            (409, "Consumer Deleted") => return Said::Over("the consumer was deleted".into()),
            (409, "Consumer is push based") => return Said::Over("the consumer is one that pushes".into()),
            (409, "Leadership Change" | "Server Shutdown") => return Said::Over(format!("the server says: {text}")),
            (409, text) if text.starts_with("Exceeded MaxRequest") => {
                return Said::Over(format!("the consumer does not serve such requests: {text}"));
            }
            (409, text) if text.starts_with("Exceeded MaxWaiting") => self.pause_until = Some(clock::instant() + PAUSE),
            (409, text) if text.contains("Message Size Exceeds") => {
                // A request that ended without a message could not even bring the next one.
                self.alone = std::mem::replace(&mut self.ended_by_bytes, true);
            }
            (404 | 408 | 409, _) => {}
            (code, text) => return Said::Over(format!("the server refuses a request for messages: {code} {text}")),
        }
        let left = |header: &str, all: usize| {
            let value = message.headers.as_ref().and_then(|headers| headers.get(header));
            value.and_then(|value| value.as_str().parse().ok()).unwrap_or(all)
        };
        self.open = self.open.saturating_sub(left("Nats-Pending-Messages", self.messages));
        self.open_bytes = self.open_bytes.saturating_sub(left("Nats-Pending-Bytes", self.bytes));
        Said::Nothing
    }
}
