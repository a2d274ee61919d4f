//! Publishing to NATS: core subjects, or a JetStream stream that acknowledges and drops what it has seen by `Nats-Msg-Id`.

use super::Outcome;
use super::publish::Published;
use crate::config::schema::NatsTarget;
use crate::source::nats::Connection;
use async_nats::{Client, HeaderMap};
use std::path::PathBuf;
use std::time::Duration;

/// How long an acknowledgement may take.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) struct NatsPublisher {
    config: NatsTarget,
    base_dir: PathBuf,
    client: Option<Client>,
    /// Which server is asked first: after a failure the next one.
    turn: usize,
}

impl NatsPublisher {
    pub fn new(config: &NatsTarget, base_dir: PathBuf) -> Self {
        Self { config: config.clone(), base_dir, client: None, turn: 0 }
    }

    async fn client(&mut self) -> Result<Client, String> {
        if let Some(client) = &self.client {
            return Ok(client.clone());
        }
        let turn = self.turn;
        self.turn += 1;
        let opened = Connection::open(&self.config.servers, &self.base_dir, "sidewatch", turn).await?;
        Ok(self.client.insert(opened.client).clone())
    }

    pub async fn send(&mut self, event: &Published) -> Outcome {
        // Each step of connecting has its own limit: a server that is silent must not use up the time of the next one.
        let client = match self.client().await {
            Ok(client) => client,
            Err(error) => return Outcome::retry(error),
        };
        match tokio::time::timeout(PATIENCE, self.publish(client, event)).await {
            Ok(Ok(())) => Outcome::Taken,
            Ok(Err(error)) => {
                self.client = None;
                Outcome::retry(error)
            }
            Err(_) => {
                self.client = None;
                Outcome::retry(format!("NATS did not answer within {PATIENCE:?}"))
            }
        }
    }

    async fn publish(&self, client: Client, event: &Published) -> Result<(), String> {
        let subject = self.config.subject.value.replace("{type}", &event.event_type);
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Msg-Id", event.id.as_str());
        headers.insert("content-type", "application/cloudevents+json");
        let payload = event.document.clone().into();
        if self.config.jetstream {
            let stream = async_nats::jetstream::new(client);
            let sent = stream.publish_with_headers(subject.clone(), headers, payload).await;
            let sent = sent.map_err(|error| format!("cannot publish to {subject}: {error}"))?;
            sent.await.map_err(|error| format!("no stream has acknowledged {subject}: {error}"))?;
            return Ok(());
        }
        client.publish_with_headers(subject, headers, payload).await.map_err(|error| error.to_string())?;
        client.flush().await.map_err(|error| error.to_string())?;
        // A flush of a client that is reconnecting only waits: what matters is whether the server is there.
        match client.connection_state() {
            async_nats::connection::State::Connected => Ok(()),
            _ => Err("the connection to NATS is lost".into()),
        }
    }
}
