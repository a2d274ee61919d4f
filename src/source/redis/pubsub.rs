//! Channels and patterns: what is published while the connection stands, at most once.
//!
//! While the core's queue is full nothing is read. The server keeps what it can (client-output-buffer-limit pubsub), then
//! closes the connection, and that is a gap like any other.

use super::super::SourceContext;
use super::super::decode::reason;
use super::super::message::Messages;
use super::super::standing::Standing;
use super::resp::{Item, Reader, command};
use super::servers::Access;
use super::wire::{PATIENCE, Wire};
use super::{End, lost};
use crate::config::Spanned;
use crate::telemetry::self_metrics;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// A connection that says nothing for so long is asked whether it is still there.
const QUIET: Duration = Duration::from_secs(5);
/// Names of channels that are kept, so that a name costs nothing the second time.
const CHANNELS: usize = 1_000;

/// What is listened to.
pub(super) struct Channels<'a> {
    pub context: &'a SourceContext,
    pub channels: &'a [Spanned<String>],
    pub patterns: &'a [Spanned<String>],
    pub names: HashMap<Vec<u8>, Arc<str>>,
}

impl Channels<'_> {
    /// One connection, from its beginning to its end.
    pub async fn session(&mut self, access: &Access<'_>, standing: &mut Standing<'_>) -> End {
        let wire = match self.subscribe(access).await {
            Ok(wire) => wire,
            Err(reason) => return lost(reason),
        };
        self_metrics::source_connected(&self.context.name).increment(1);
        standing.connected(0).await;
        let ended = self.listen(wire).await;
        if let End::Lost(_) = ended {
            // What is published until the next connection is not heard.
            self_metrics::source_gaps(&self.context.name, "disconnected").increment(1);
        }
        ended
    }

    async fn subscribe(&self, access: &Access<'_>) -> Result<Wire, String> {
        let nodes = access.nodes(&[]).await?;
        let node = nodes.first().ok_or("no server is known")?;
        let mut wire = access.open(&node.address).await?;
        for (word, names) in [("SUBSCRIBE", self.channels), ("PSUBSCRIBE", self.patterns)] {
            for name in names {
                // The answer is read one by one: a refusal (ACL) names its channel.
                let refused = |reason| format!("{word} {}: {reason}", name.value);
                wire.ask(&[word.as_bytes(), name.value.as_bytes()]).await.map_err(refused)?;
            }
        }
        Ok(wire)
    }

    async fn listen(&mut self, mut wire: Wire) -> End {
        let messages_counter = self_metrics::source_messages(&self.context.name);
        let bytes_counter = self_metrics::source_received_bytes(&self.context.name);
        let mut ping = Vec::new();
        command(&mut ping, &[b"PING"]);
        let mut asked = false;
        loop {
            let patience = if asked { PATIENCE } else { QUIET };
            let replies = match timeout(patience, wire.replies()).await {
                Ok(Ok(replies)) => replies,
                Ok(Err(reason)) => return lost(reason),
                Err(_) if asked => return lost("the server does not answer any more".into()),
                Err(_) => {
                    if let Err(reason) = wire.send(&ping).await {
                        return lost(reason);
                    }
                    asked = true;
                    continue;
                }
            };
            asked = false;
            let mut messages = Messages::new(self.context.event_bytes);
            let mut reader = Reader::new(&replies, wire.limit());
            while !reader.is_done() {
                match self.message(&mut reader, &mut messages) {
                    Some(Ok(())) => {}
                    Some(Err(text)) => return lost(wire.refused(text)),
                    None => return lost("a message cannot be read".into()),
                }
            }
            if messages.is_empty() {
                continue;
            }
            messages_counter.increment(messages.len() as u64);
            bytes_counter.increment(replies.len() as u64);
            if self.context.deliver_messages(&mut messages, None).await.is_none() {
                return End::Over;
            }
        }
    }

    /// One thing that the server pushed: a message, or the answer to a command.
    fn message<'r>(&mut self, reader: &mut Reader<'r>, messages: &mut Messages) -> Option<Result<(), &'r [u8]>> {
        let count = match reader.item()? {
            Item::Array(count) => count,
            Item::Error(text) => return Some(Err(text)),
            _ => return Some(Ok(())),
        };
        let kind = reader.text()?;
        let before = match kind {
            b"message" if count == 3 => 0,
            b"pmessage" if count == 4 => 1,
            _ => {
                for _ in 1..count {
                    reader.skip()?;
                }
                return Some(Ok(()));
            }
        };
        for _ in 0..before {
            reader.skip()?;
        }
        let channel = self.name(reader.text()?);
        match reader.item()? {
            Item::Bulk(payload) => messages.push(payload, Some(&channel)),
            Item::TooLong(bytes) => {
                let limit = self.context.event_bytes;
                let message =
                    format!("a message on {channel} has {bytes} bytes, the limit is {limit} (limits.event_bytes)");
                messages.refuse(reason::TOO_LARGE, message);
            }
            _ => return None,
        }
        Some(Ok(()))
    }

    fn name(&mut self, channel: &[u8]) -> Arc<str> {
        if let Some(name) = self.names.get(channel) {
            return name.clone();
        }
        let name: Arc<str> = String::from_utf8_lossy(channel).into();
        // Channels may be named after orders or people: without end.
        if self.names.len() < CHANNELS {
            self.names.insert(channel.to_vec(), name.clone());
        }
        name
    }
}
