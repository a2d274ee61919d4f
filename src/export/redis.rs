//! Publishing to Redis: an entry of a stream (XADD with MAXLEN) or a message of a channel (PUBLISH).

use super::Outcome;
use super::publish::Published;
use crate::config::schema::RedisTarget;
use crate::source::redis::{Access, Wire};
use std::path::PathBuf;
use std::sync::Arc;

/// Longer answers are errors that nobody would read to the end.
const ANSWER_BYTES: usize = 64 << 10;

pub(super) struct RedisPublisher {
    config: RedisTarget,
    base_dir: PathBuf,
    connection: Option<Wire>,
}

impl RedisPublisher {
    pub fn new(config: &RedisTarget, base_dir: PathBuf) -> Self {
        Self { config: config.clone(), base_dir, connection: None }
    }

    /// To the server that holds the stream; masters and slots move, so that it is asked for each time.
    async fn connect(&self) -> Result<Wire, String> {
        let access = Access { config: &self.config.access, base_dir: &self.base_dir, event_bytes: ANSWER_BYTES };
        let stream: Option<Arc<str>> = self.config.stream.then(|| self.config.name.value.as_str().into());
        let nodes = access.nodes(stream.as_slice()).await?;
        let node = nodes.first().ok_or("no server is known")?;
        access.open(&node.address).await
    }

    pub async fn send(&mut self, event: &Published) -> Outcome {
        match self.publish(event).await {
            Ok(()) => Outcome::Taken,
            Err(error) => {
                self.connection = None;
                Outcome::retry(format!("Redis: {error}"))
            }
        }
    }

    async fn publish(&mut self, event: &Published) -> Result<(), String> {
        let mut wire = match self.connection.take() {
            Some(wire) => wire,
            None => self.connect().await?,
        };
        let (name, document) = (self.config.name.value.as_bytes(), event.document.as_bytes());
        if self.config.stream {
            let maxlen = self.config.maxlen.to_string();
            let (id, kind) = (event.id.as_bytes(), event.event_type.as_bytes());
            let entry =
                [b"XADD", name, b"MAXLEN", b"~", maxlen.as_bytes(), b"*", b"event", document, b"id", id, b"type", kind];
            wire.ask(&entry).await?;
        } else {
            wire.ask(&[b"PUBLISH", name, document]).await?;
        }
        self.connection = Some(wire);
        Ok(())
    }
}
