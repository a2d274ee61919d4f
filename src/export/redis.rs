//! Publishing to Redis: an entry of a stream (XADD with MAXLEN) or a message of a channel (PUBLISH).

use super::Outcome;
use super::publish::Published;
use crate::config::schema::RedisTarget;
use ::redis::aio::MultiplexedConnection;
use ::redis::{Client, Cmd, IntoConnectionInfo, RedisError};
use std::time::Duration;

/// How long a connection and an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

pub(super) struct RedisPublisher {
    config: RedisTarget,
    connection: Option<MultiplexedConnection>,
}

impl RedisPublisher {
    pub fn new(config: &RedisTarget) -> Self {
        Self { config: config.clone(), connection: None }
    }

    async fn connection(&mut self) -> Result<MultiplexedConnection, String> {
        if let Some(connection) = &self.connection {
            return Ok(connection.clone());
        }
        crate::tls::install_provider();
        let wrong = |error: RedisError| format!("the address of Redis: {error}");
        let mut info = self.config.url.value.as_str().into_connection_info().map_err(wrong)?;
        let mut settings = info.redis_settings().clone();
        if let Some(username) = &self.config.username {
            settings = settings.set_username(username);
        }
        if let Some(password) = &self.config.password {
            settings = settings.set_password(password.read().await?.expose());
        }
        info = info.set_redis_settings(settings);
        let client = Client::open(info).map_err(wrong)?;
        let connected = client.get_multiplexed_async_connection().await;
        let connection = connected.map_err(|error| format!("cannot connect to Redis: {error}"))?;
        Ok(self.connection.insert(connection).clone())
    }

    pub async fn send(&mut self, event: &Published) -> Outcome {
        let outcome = match tokio::time::timeout(PATIENCE, self.publish(event)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(format!("Redis did not answer within {PATIENCE:?}")),
        };
        match outcome {
            Ok(()) => Outcome::Taken,
            Err(error) => {
                self.connection = None;
                Outcome::retry(error)
            }
        }
    }

    async fn publish(&mut self, event: &Published) -> Result<(), String> {
        let mut connection = self.connection().await?;
        let name = &self.config.name.value;
        let mut command = Cmd::new();
        if self.config.stream {
            command.arg("XADD").arg(name).arg("MAXLEN").arg("~").arg(self.config.maxlen).arg("*");
            command.arg("event").arg(&event.document).arg("id").arg(&event.id).arg("type").arg(&event.event_type);
        } else {
            command.arg("PUBLISH").arg(name).arg(&event.document);
        }
        command.exec_async(&mut connection).await.map_err(|error| format!("Redis: {error}"))
    }
}
