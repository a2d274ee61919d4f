//! `publish:`, and `otlp:` of `export:`.

use super::{KafkaServers, NatsServers, Pattern, RedisAccess, ScrapeHttp, SecretSource};
use crate::config::{Span, Spanned};

/// One entry of `publish:`: alerts, health and life cycle as CloudEvents.
#[derive(Clone, Debug, PartialEq)]
pub struct PublishConfig {
    /// Where to.
    pub to: PublishTo,
    /// `events:` (all three).
    pub events: Vec<PublishedKind>,
    /// `match:`, patterns on the types; any, or all when empty.
    pub matches: Vec<Pattern>,
    /// `queue:`.
    pub queue: QueueConfig,
    /// The place of the entry.
    pub span: Span,
}

/// What is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublishedKind {
    /// `sidewatch.alert.*`.
    Alerts,
    /// `sidewatch.check.*`.
    Health,
    /// Everything else: start, stop, reload, sources.
    LifeCycle,
}

impl PublishedKind {
    /// Each with its word.
    pub const ALL: [(&'static str, Self); 3] =
        [("alerts", Self::Alerts), ("health", Self::Health), ("lifecycle", Self::LifeCycle)];

    /// Its word.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, kind)| *kind == self).map_or("", |(name, _)| *name)
    }
}

/// Where events are published.
#[derive(Clone, Debug, PartialEq)]
pub enum PublishTo {
    /// `http:`.
    Http {
        /// `url:` or `url_file:`.
        url: SecretSource,
        /// `mode: binary` instead of structured.
        binary: bool,
        /// `timeout:` in milliseconds (10 s).
        timeout_ms: i64,
        /// Credentials, TLS, headers.
        http: Box<ScrapeHttp>,
    },
    /// `nats:`.
    Nats(Box<NatsTarget>),
    /// `redis:`.
    Redis(Box<RedisTarget>),
    /// `kafka:`.
    Kafka(Box<KafkaTarget>),
}

/// `nats: {url, subject, jetstream, ...}`.
#[derive(Clone, Debug, PartialEq)]
pub struct NatsTarget {
    /// How the servers are reached.
    pub servers: NatsServers,
    /// `subject:`; `{type}` in it is replaced.
    pub subject: Spanned<String>,
    /// `jetstream:` (false): wait for the stream's acknowledgement.
    pub jetstream: bool,
}

/// `redis: {url, stream | channel, ...}`.
#[derive(Clone, Debug, PartialEq)]
pub struct RedisTarget {
    /// How the servers are reached.
    pub access: RedisAccess,
    /// `stream:` (XADD) or, when `false`, `channel:` (PUBLISH).
    pub stream: bool,
    /// The name of either.
    pub name: Spanned<String>,
    /// `maxlen:` of a stream, roughly (10,000).
    pub maxlen: usize,
}

/// `kafka: {brokers, topic, ...}`.
#[derive(Clone, Debug, PartialEq)]
pub struct KafkaTarget {
    /// How the brokers are reached.
    pub servers: KafkaServers,
    /// `topic:`.
    pub topic: Spanned<String>,
    /// `mode: binary` instead of structured.
    pub binary: bool,
}

/// `queue: {bytes, age}`: what waits while nobody takes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueConfig {
    /// `bytes:`.
    pub bytes: u64,
    /// `age:` in milliseconds.
    pub age_ms: i64,
}

/// `otlp:`.
#[derive(Clone, Debug, PartialEq)]
pub struct OtlpConfig {
    /// `url:`, to which `/v1/metrics` and `/v1/traces` are added.
    pub url: SecretSource,
    /// `metrics:` (true).
    pub metrics: bool,
    /// `traces:` (false): a span for each event with a trace context and a duration.
    pub traces: bool,
    /// `sample:` of the traces, from 0 to 1 (1).
    pub sample: f64,
    /// `interval:` of the metrics in milliseconds (15 s).
    pub interval_ms: i64,
    /// `timeout:` in milliseconds (10 s).
    pub timeout_ms: i64,
    /// `gzip:` (true).
    pub gzip: bool,
    /// `queue:`.
    pub queue: QueueConfig,
    /// Credentials, TLS, headers.
    pub http: ScrapeHttp,
}
