//! `publish:` and `export:`: what goes out besides notifications.

use super::{EventSelector, Pattern, RelabelConfig, ScrapeHttp, SecretSource, TlsConfig};
use crate::config::{Span, Spanned};
use crate::model::FieldPath;

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
        http: ScrapeHttp,
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
    /// `url:`, one or several with commas.
    pub url: Spanned<String>,
    /// `subject:`; `{type}` in it is replaced.
    pub subject: Spanned<String>,
    /// `jetstream:` (false): wait for the stream's acknowledgement.
    pub jetstream: bool,
    /// `username:` and `password:`.
    pub user: Option<(String, SecretSource)>,
    /// `token:`.
    pub token: Option<SecretSource>,
    /// `credentials_file:`.
    pub credentials_file: Option<Spanned<String>>,
    /// `tls:`.
    pub tls: Option<TlsConfig>,
}

/// `redis: {url, stream | channel, ...}`.
#[derive(Clone, Debug, PartialEq)]
pub struct RedisTarget {
    /// `url:`; `redis://` or `rediss://`.
    pub url: Spanned<String>,
    /// `stream:` (XADD) or, when `false`, `channel:` (PUBLISH).
    pub stream: bool,
    /// The name of either.
    pub name: Spanned<String>,
    /// `maxlen:` of a stream, roughly (10,000).
    pub maxlen: usize,
    /// `username:`.
    pub username: Option<String>,
    /// `password:`.
    pub password: Option<SecretSource>,
}

/// `kafka: {brokers, topic, ...}`.
#[derive(Clone, Debug, PartialEq)]
pub struct KafkaTarget {
    /// `brokers:`.
    pub brokers: Vec<Spanned<String>>,
    /// `topic:`.
    pub topic: Spanned<String>,
    /// `mode: binary` instead of structured.
    pub binary: bool,
    /// `username:` and `password:`, SASL PLAIN.
    pub user: Option<(String, SecretSource)>,
}

/// `queue: {bytes, age}`: what waits while nobody takes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueConfig {
    /// `bytes:`.
    pub bytes: u64,
    /// `age:` in milliseconds.
    pub age_ms: i64,
}

/// One entry of `export:`.
#[derive(Clone, Debug, PartialEq)]
pub struct ExportConfig {
    /// What goes where.
    pub kind: ExportKind,
    /// The place of the entry.
    pub span: Span,
}

/// The kinds of `export:`.
#[derive(Clone, Debug, PartialEq)]
pub enum ExportKind {
    /// `remote_write:`.
    RemoteWrite(Box<RemoteWriteConfig>),
    /// `otlp:`.
    Otlp(Box<OtlpConfig>),
    /// `log:`.
    Log(Box<LogConfig>),
}

impl ExportKind {
    /// The key.
    pub fn name(&self) -> &'static str {
        match self {
            Self::RemoteWrite(_) => "remote_write",
            Self::Otlp(_) => "otlp",
            Self::Log(_) => "log",
        }
    }
}

/// `remote_write:`.
#[derive(Clone, Debug, PartialEq)]
pub struct RemoteWriteConfig {
    /// `url:` or `url_file:`.
    pub url: SecretSource,
    /// `interval:` in milliseconds (15 s).
    pub interval_ms: i64,
    /// `timeout:` in milliseconds (30 s).
    pub timeout_ms: i64,
    /// `samples_per_send:` (2,000).
    pub samples_per_send: usize,
    /// `native_histograms:` (false): native form instead of classic buckets.
    pub native_histograms: bool,
    /// `write_relabel_configs:`.
    pub relabel: Vec<RelabelConfig>,
    /// `queue:`.
    pub queue: QueueConfig,
    /// Credentials, TLS, headers.
    pub http: ScrapeHttp,
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

/// `log:`.
#[derive(Clone, Debug, PartialEq)]
pub struct LogConfig {
    /// `file:`; standard output when absent.
    pub file: Option<Spanned<String>>,
    /// `format: logfmt` instead of JSON.
    pub logfmt: bool,
    /// `match:` and `where:`.
    pub selector: EventSelector,
    /// `sample:` from 0 to 1 (1).
    pub sample: f64,
    /// `per_type:` lines of one type a second; no limit when absent.
    pub per_type: Option<usize>,
    /// `fields:`; attributes and the data when empty.
    pub fields: Vec<Spanned<FieldPath>>,
    /// `rotate: {size}` in bytes (100 MiB).
    pub rotate_bytes: u64,
    /// `rotate: {keep}`, files kept besides the current one (5).
    pub rotate_keep: usize,
}
