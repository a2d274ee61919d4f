//! Publishing to Kafka (CloudEvents 1.0, "Kafka Protocol Binding"): structured, or binary with `ce_` headers. The key is
//! the event's subject, so that what happens to one thing stays in order.

use super::Outcome;
use super::publish::Published;
use crate::config::schema::KafkaTarget;
use crate::source::kafka::reach;
use rdkafka::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use std::path::PathBuf;
use std::time::Duration;

/// How long a message may take.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) struct KafkaPublisher {
    config: KafkaTarget,
    base_dir: PathBuf,
    producer: Option<FutureProducer>,
}

impl KafkaPublisher {
    pub fn new(config: &KafkaTarget, base_dir: PathBuf) -> Self {
        Self { config: config.clone(), base_dir, producer: None }
    }

    fn producer(&mut self) -> Result<FutureProducer, String> {
        if let Some(producer) = &self.producer {
            return Ok(producer.clone());
        }
        let mut config = ClientConfig::new();
        config.set("client.id", "sidewatch");
        config.set("enable.idempotence", "true").set("linger.ms", "0").set("queue.buffering.max.messages", "1000");
        config.set("message.timeout.ms", PATIENCE.as_millis().to_string());
        reach(&mut config, &self.config.servers, &self.base_dir)?;
        let producer: FutureProducer = config.create().map_err(|error| format!("Kafka: {error}"))?;
        Ok(self.producer.insert(producer).clone())
    }

    pub async fn send(&mut self, event: &Published) -> Outcome {
        let producer = match self.producer() {
            Ok(producer) => producer,
            Err(error) => return Outcome::retry(error),
        };
        let (headers, payload) = if self.config.binary {
            let (attributes, data) = event.binary();
            let mut headers =
                OwnedHeaders::new().insert(Header { key: "content-type", value: Some("application/json") });
            for (name, value) in &attributes {
                headers = headers.insert(Header { key: &format!("ce_{name}"), value: Some(value) });
            }
            (headers, data)
        } else {
            let media = Some("application/cloudevents+json; charset=UTF-8");
            (
                OwnedHeaders::new().insert(Header { key: "content-type", value: media }),
                event.document.clone().into_bytes(),
            )
        };
        let record = FutureRecord::to(&self.config.topic.value).key(&event.subject).payload(&payload).headers(headers);
        match producer.send(record, PATIENCE).await {
            Ok(_) => Outcome::Taken,
            Err((error, _)) => {
                // The next one reads its password anew. Ending this one waits for its threads.
                let ended = self.producer.take();
                tokio::task::spawn_blocking(move || drop((producer, ended)));
                Outcome::retry(format!("Kafka: {error}"))
            }
        }
    }
}
