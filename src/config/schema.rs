//! What sidewatch.yaml says, as read: types checked, meaning not yet.
//!
//! Every value that a later check may complain about keeps its place ([`Spanned`]). The rooms that give a part its
//! meaning compile it into types of their own (mapping, rules, health, notify, source).

mod amqp;
mod conditions;
mod dedup;
mod docker;
mod export;
mod flow;
mod hosts;
mod kafka;
mod mqtt;
mod nats;
mod notify;
mod policy;
mod publish;
mod redis;
mod scope;
mod scrape;
mod secret;
mod silence;
mod sse;
mod statsd;
mod tls;
mod websocket;

pub use amqp::{AmqpBinding, AmqpConfig, AmqpDeclare, AmqpValue};
pub use conditions::{
    Comparison, Direction, EventCondition, EventConditionKind, Floor, RateChange, SloConfig, SloSeries,
};
pub use dedup::DEDUP_WINDOW;
pub use docker::{DockerConfig, DockerSocket};
pub use export::{EventLogConfig, ExportConfig, ExportKind, RemoteWriteConfig};
pub use flow::{FlowConfig, Overflow, Rate, RateLimitConfig};
pub use hosts::HostsConfig;
pub use kafka::{KafkaConfig, KafkaMechanism, KafkaServers};
pub use mqtt::MqttConfig;
pub use nats::{NatsConfig, NatsCredentials, NatsServers, NatsStream, NatsUrl};
pub use notify::{FlappingConfig, NotifyConfig, ReceiverConfig, ReceiverKind, WatchdogConfig};
pub use policy::{RedactConfig, RedactEntry, SchemaConfig, SchemaSource};
pub use publish::{
    KafkaTarget, NatsTarget, OtlpConfig, PublishConfig, PublishTo, PublishedKind, QueueConfig, RedisTarget,
};
pub use redis::{RedisAccess, RedisAddress, RedisConfig, RedisInput, RedisServers, RedisStreams};
pub use scope::Scope;
pub use scrape::{RelabelAction, RelabelConfig, ScrapeConfig, ScrapeHttp, ScrapeTarget};
pub use secret::SecretSource;
pub use silence::{IntervalConfig, SilenceConfig, SilenceTimes};
pub use sse::SseConfig;
pub use statsd::{MappedType, MappingObserver, MappingRule, StatsdConfig, StatsdMapping, TagStyles};
pub use tls::TlsConfig;
pub use websocket::{IgnoredMessage, WebSocketConfig};

use super::{Span, Spanned};
use crate::model::FieldPath;

/// An entry of a mapping whose keys are the user's names.
#[derive(Clone, Debug, PartialEq)]
pub struct Named<T> {
    /// The key.
    pub name: Spanned<String>,
    /// What stands under it.
    pub value: T,
}

/// The whole configuration, all layers applied.
#[derive(Clone, Debug)]
pub struct Config {
    /// `service: {name, instance}`; the `job` and `instance` labels of queries.
    pub service: Service,
    /// `listen: {observe, ingest}`.
    pub listen: Listen,
    /// `sources:`; `None` when the key is absent (then one `http` source named `http` serves).
    pub sources: Option<Vec<Named<SourceConfig>>>,
    /// `metrics:`.
    pub metrics: Vec<Named<MetricConfig>>,
    /// `schemas:`.
    pub schemas: Vec<Named<SchemaConfig>>,
    /// `redact:`.
    pub redact: RedactConfig,
    /// `health:`.
    pub health: Vec<Named<HealthConfig>>,
    /// `alerts:` of sidewatch.yaml.
    pub alerts: Vec<Named<AlertConfig>>,
    /// `rules:`; file patterns relative to the configuration file's folder.
    pub rules: Vec<Spanned<String>>,
    /// `bundled_rules:`; whether the built-in rule packs are loaded (default true).
    pub bundled_rules: bool,
    /// `notify:`.
    pub notify: NotifyConfig,
    /// `watchdog:`.
    pub watchdog: Option<WatchdogConfig>,
    /// `publish:`.
    pub publish: Vec<Named<PublishConfig>>,
    /// `export:`.
    pub export: Vec<Named<ExportConfig>>,
    /// `state:`; `None` keeps everything in memory.
    pub state: Option<StateConfig>,
    /// `external_labels:`.
    pub external_labels: Vec<(Spanned<String>, String)>,
    /// `external_url:`; empty when not given.
    pub external_url: String,
    /// `evaluation_interval:` in milliseconds (1000).
    pub evaluation_interval_ms: i64,
    /// `limits:`.
    pub limits: Limits,
    /// `profile:`.
    pub profile: Profile,
    /// The folder that relative paths start from.
    pub base_dir: std::path::PathBuf,
    /// Every file that was read, so that all of them are watched.
    pub files: Vec<std::path::PathBuf>,
    /// Nothing stands in the configuration file, or there is none.
    pub blank: bool,
}

/// `service:`.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "named as in the file")]
pub struct Service {
    pub name: String,
    pub instance: String,
}

/// `listen:`.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "named as in the file")]
pub struct Listen {
    pub observe: Spanned<String>,
    pub ingest: Spanned<String>,
}

/// Which defaults hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[expect(missing_docs, reason = "named as in the file")]
pub enum Profile {
    Development,
    #[default]
    Production,
    Testing,
}

/// `limits:`; each is a bound named with its unit.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// Series in all (100,000).
    pub series: usize,
    /// Series of one metric (10,000).
    pub series_per_metric: usize,
    /// Histogram series (1,000).
    pub histogram_series: usize,
    /// Labels of one series (32).
    pub labels_per_series: usize,
    /// Bytes of a label value (1,024).
    pub label_value_bytes: usize,
    /// Bytes that rings may take (256 MiB).
    pub series_bytes: usize,
    /// Idle time after which a series is forgotten, in milliseconds (1 h).
    pub idle_series_ms: i64,
    /// Batches that wait for the core (1,024).
    pub queue_batches: usize,
    /// Bytes that wait for the core (64 MiB).
    pub queue_bytes: usize,
    /// Events that wait for the core (250,000).
    pub queue_events: usize,
    /// Refused items kept to be looked at (1,000).
    pub quarantine_events: usize,
    /// Bytes of them (4 MiB).
    pub quarantine_bytes: usize,
    /// Events of at least this priority, 1 to 10, overtake others in the queue (8).
    pub high_priority: usize,
    /// Bytes of a request's body (16 MiB).
    pub body_bytes: usize,
    /// Bytes of one event (4 MiB).
    pub event_bytes: usize,
    /// Levels of nesting in an event (64).
    pub event_depth: usize,
    /// Samples that one query may touch (50,000,000).
    pub query_samples: usize,
    /// How late a sample of remote write may come, in milliseconds (5 min).
    pub late_samples_ms: i64,
    /// Time that one query may take, in milliseconds (30 s).
    pub query_timeout_ms: i64,
    /// Keys that one event condition may hold (10,000).
    pub pattern_keys: usize,
    /// Alerts that one rule may hold (10,000).
    pub alerts_per_rule: usize,
    /// Messages in the outbox (10,000).
    pub outbox_messages: usize,
    /// Alerts that others may post (10,000).
    pub posted_alerts: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            series: 100_000,
            series_per_metric: 10_000,
            histogram_series: 1_000,
            labels_per_series: 32,
            label_value_bytes: 1_024,
            series_bytes: 256 << 20,
            idle_series_ms: 3_600_000,
            queue_batches: 1_024,
            queue_bytes: 64 << 20,
            queue_events: 250_000,
            high_priority: 8,
            quarantine_events: 1_000,
            quarantine_bytes: 4 << 20,
            body_bytes: 16 << 20,
            event_bytes: 4 << 20,
            event_depth: 64,
            query_samples: 50_000_000,
            late_samples_ms: 300_000,
            query_timeout_ms: 30_000,
            pattern_keys: 10_000,
            alerts_per_rule: 10_000,
            outbox_messages: 10_000,
            posted_alerts: 10_000,
        }
    }
}

/// One source: its transport, and how its input is read. YAML: `orders: {file: {path: ...}}` or a URL string.
#[derive(Clone, Debug, PartialEq)]
pub struct SourceConfig {
    /// The transport.
    pub transport: Transport,
    /// How to read what arrives.
    pub format: FormatConfig,
    /// How much is taken, and what happens when there is no room.
    pub flow: FlowConfig,
    /// `dedup:`: how many events are remembered by their id (`0` for none); `None` when the configuration does not say.
    pub dedup: Option<usize>,
    /// The place of the entry.
    pub span: Span,
}

/// The transports of this build.
#[derive(Clone, Debug, PartialEq)]
pub enum Transport {
    /// `http: {}`: POST /events on the ingest listener.
    Http,
    /// `stdin: {}`: lines of standard input.
    Stdin,
    /// `file: {path, start: first|last}`: a file that grows, rotation followed.
    File {
        /// The file.
        path: Spanned<String>,
        /// Begin at the end instead of the beginning when no position is known.
        from_end: bool,
    },
    /// `unix: {path}`: a unix stream socket that is bound here; one event a line.
    Unix {
        /// The socket's path.
        path: Spanned<String>,
    },
    /// `tcp: {listen}`: a TCP listener; one event a line.
    Tcp {
        /// Address to bind.
        listen: Spanned<String>,
    },
    /// `scrape: URL` or `scrape: {...}`: metrics that are fetched, not events.
    Scrape(Box<ScrapeConfig>),
    /// `amqp: {...}`: a queue of RabbitMQ.
    Amqp(Box<AmqpConfig>),
    /// `mqtt: {...}`: topics of an MQTT broker.
    Mqtt(Box<MqttConfig>),
    /// `otlp: {}`: POST /v1/logs, /v1/metrics and /v1/traces on the ingest listener.
    Otlp,
    /// `statsd: {udp, unixgram, tcp, mapping}`: StatsD and DogStatsD lines.
    Statsd(Box<StatsdConfig>),
    /// `websocket: URL` or `websocket: {...}`: events of a WebSocket server.
    WebSocket(Box<WebSocketConfig>),
    /// `docker: SOCKET` or `docker: {...}`: events of the Docker Engine API.
    Docker(Box<DockerConfig>),
    /// `hosts: PATH` or `hosts: {...}`: hosts files whose records are watched.
    Hosts(Box<HostsConfig>),
    /// `nats: URL` or `nats: {...}`: subjects, or a stream of JetStream.
    Nats(Box<NatsConfig>),
    /// `redis: URL` or `redis: {...}`: streams with a consumer group, or channels.
    Redis(Box<RedisConfig>),
    /// `kafka: {...}`: topics of Kafka, as a member of a consumer group.
    Kafka(Box<KafkaConfig>),
    /// `sse: URL` or `sse: {...}`: server-sent events.
    Sse(Box<SseConfig>),
    /// `memory: {}`: programs that embed the library push batches themselves.
    Memory,
    /// `demo: {}`: a shop's event stream with faults, made up as it goes.
    Demo,
    /// `none: {}`: nothing at all.
    None,
}

/// How the bytes of a source become events: keys beside the transport.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct FormatConfig {
    /// `lines: {regex: '(?P<type>...)'}`: text lines cut by a named regex; each group is a field (`data.NAME`), the
    /// groups type, id, source, subject, time, correlation, severity, duration_ms name attributes.
    pub lines: Option<Spanned<String>>,
    /// `type:`: the type of events that name none (for `lines`, the default type).
    pub event_type: Option<Spanned<String>>,
    /// `shape: {type: kind, time: ts, data: body, ...}`: a foreign shape; attribute -> path in the document.
    pub shape: Vec<(Spanned<String>, Spanned<FieldPath>)>,
}

/// One or more patterns for an event's type: any may match.
#[derive(Clone, Debug, PartialEq)]
pub enum Pattern {
    /// A glob: `*` any text, `+` one segment.
    Glob(Spanned<String>),
    /// `{regex: ...}`, anchored.
    Regex(Spanned<String>),
}

/// Which events: `match:` and `where:`.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct EventSelector {
    /// Any of these; empty matches every type.
    pub matches: Vec<Pattern>,
    /// All of this holds.
    pub condition: Option<Condition>,
}

/// `where:`.
#[derive(Clone, Debug, PartialEq)]
pub enum Condition {
    /// `all: [...]`, also several paths in one mapping.
    All(Vec<Condition>),
    /// `any: [...]`.
    Any(Vec<Condition>),
    /// `not: {...}`.
    Not(Box<Condition>),
    /// `data.amount: {gt: 100}`; a bare value means eq, a list means in.
    Field {
        /// The path.
        path: Spanned<FieldPath>,
        /// The comparison.
        test: Test,
    },
}

/// A comparison in `where:`.
#[derive(Clone, Debug, PartialEq)]
pub enum Test {
    /// Greater.
    Gt(f64),
    /// Greater or equal.
    Gte(f64),
    /// Less.
    Lt(f64),
    /// Less or equal.
    Lte(f64),
    /// Equal: numbers as numbers, anything else as text.
    Eq(Scalar),
    /// Not equal, or absent.
    Ne(Scalar),
    /// One of these.
    In(Vec<Scalar>),
    /// Present and not null (or the opposite).
    Exists(bool),
    /// The text matches, anchored.
    Regex(Spanned<String>),
}

/// A scalar of the configuration.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "JSON's scalars")]
pub enum Scalar {
    Null,
    Bool(bool),
    Number(f64),
    Text(String),
}

/// One entry of `metrics:`.
#[derive(Clone, Debug, PartialEq)]
pub struct MetricConfig {
    /// What is counted, set or observed.
    pub kind: MetricKind,
    /// `labels:`.
    pub labels: Vec<LabelConfig>,
    /// `help:`; empty when not given.
    pub help: String,
    /// The place of the entry.
    pub span: Span,
}

/// `counter:`, `gauge:`, `histogram:`, `timer:`, `drop:`.
#[derive(Clone, Debug, PartialEq)]
pub enum MetricKind {
    /// Adds 1, or `value`.
    Counter {
        /// Which events.
        selector: EventSelector,
        /// What to add; 1 when absent.
        value: Option<ValueConfig>,
    },
    /// Sets or adds.
    Gauge {
        /// Which events.
        selector: EventSelector,
        /// `value:` (a path or a number).
        value: ValueConfig,
        /// `op: add` instead of set.
        add: bool,
    },
    /// Observes.
    Histogram {
        /// Which events.
        selector: EventSelector,
        /// `value:`.
        value: ValueConfig,
        /// `buckets:`: upper bounds of the classic form, in the base unit; `None` for the defaults.
        buckets: Option<Vec<f64>>,
    },
    /// Observes the seconds from one event to another with the same key.
    Timer {
        /// `from:`.
        from: EventSelector,
        /// `to:`.
        to: EventSelector,
        /// `by:`.
        by: Spanned<FieldPath>,
        /// `within:` in milliseconds (10 min): how long a start is remembered.
        within_ms: i64,
        /// `buckets:`.
        buckets: Option<Vec<f64>>,
    },
    /// Events that no mapping, automatic metric or rule sees; only counted in `sidewatch_events_dropped_total`.
    Drop {
        /// Which events.
        selector: EventSelector,
    },
}

/// Where a number comes from.
#[derive(Clone, Debug, PartialEq)]
pub struct ValueConfig {
    /// A field, or a constant.
    pub from: ValueFrom,
    /// `unit:` of the field (ms, us, ns, s, min, h, KiB, MB, percent, ...); the metric has the base unit.
    pub unit: Option<Spanned<String>>,
}

/// A field or a number.
#[derive(Clone, Debug, PartialEq)]
pub enum ValueFrom {
    /// A path; `[]` in it gives one update for each element.
    Path(Spanned<FieldPath>),
    /// Always this.
    Constant(f64),
}

/// One label: `region: data.region`, `tier: {value: gold}`, or
/// `path: {from: data.path, replace: [{regex: "/\\d+", with: "/:id"}], map: {a: b}, default: none}`.
#[derive(Clone, Debug, PartialEq)]
pub struct LabelConfig {
    /// The label's name.
    pub name: Spanned<String>,
    /// The field; `None` for a constant.
    pub from: Option<Spanned<FieldPath>>,
    /// `value:`, a constant.
    pub constant: Option<String>,
    /// `replace:`, in order; `$1` in `with` is a group.
    pub replace: Vec<(Spanned<String>, String)>,
    /// `map:`, looked up after the replacements.
    pub map: Vec<(String, String)>,
    /// `default:`, for an absent field.
    pub default: Option<String>,
}

/// One entry of `health:`.
#[derive(Clone, Debug, PartialEq)]
pub struct HealthConfig {
    /// What is checked.
    pub kind: HealthKind,
    /// `status: degraded` instead of unhealthy when it fails.
    pub degraded: bool,
    /// The place of the entry.
    pub span: Span,
}

/// `event:`, `expr:`, `http:`.
#[derive(Clone, Debug, PartialEq)]
pub enum HealthKind {
    /// A heartbeat: fails when no such event came within the time.
    Event {
        /// Which events.
        selector: EventSelector,
        /// `within:` in milliseconds.
        within_ms: i64,
        /// `source:`: the configured sources that it comes from; empty for those that it was heard from.
        sources: Vec<Spanned<String>>,
    },
    /// PromQL: fails while the result is not empty (a comparison), or a scalar is not 0.
    Expr {
        /// The expression.
        expr: Spanned<String>,
    },
    /// An HTTP probe.
    Http {
        /// `url:`.
        url: Spanned<String>,
        /// `expect: {status}`; `None` takes any 2xx.
        status: Option<u16>,
        /// `expect: {body}`: text that the answer must contain.
        body: Option<String>,
        /// `timeout:` in milliseconds (2 s).
        timeout_ms: i64,
        /// `every:` in milliseconds (10 s).
        every_ms: i64,
    },
}

/// One entry of `alerts:`, the short form.
#[derive(Clone, Debug, PartialEq)]
pub struct AlertConfig {
    /// Exactly one of metric, event, expr, slo.
    pub kind: AlertKind,
    /// `for:` in milliseconds (0).
    pub for_ms: i64,
    /// `keep_firing_for:` in milliseconds (0).
    pub keep_firing_for_ms: i64,
    /// `severity:`.
    pub severity: Option<Spanned<String>>,
    /// `labels:`.
    pub labels: Vec<(Spanned<String>, Spanned<String>)>,
    /// `annotations:`.
    pub annotations: Vec<(Spanned<String>, Spanned<String>)>,
    /// `runbook:`, becomes the annotation runbook_url.
    pub runbook: Option<String>,
    /// `notify:`: names of receivers; empty for the default.
    pub notify: Vec<Spanned<String>>,
    /// The place of the entry.
    pub span: Span,
}

/// What an alert of the short form looks at.
#[derive(Clone, Debug, PartialEq)]
pub enum AlertKind {
    /// A metric against a threshold.
    Metric {
        /// `metric:`.
        metric: Spanned<String>,
        /// `of:`, for a ratio.
        of: Option<Spanned<String>>,
        /// `stat:` (rate, increase, last, avg, min, max, sum, p50, p90, p95, p99, p999, any pNN).
        stat: Option<Spanned<String>>,
        /// `over:` in milliseconds.
        over_ms: Option<i64>,
        /// `by:`: paths or label names.
        by: Vec<Spanned<FieldPath>>,
        /// `where: {label: value}`: label matchers, `=~` for a value `{regex: ...}`.
        matchers: Vec<(Spanned<String>, Pattern)>,
        /// above, below, at_least, at_most.
        op: ThresholdOp,
        /// The threshold as written: `5%`, `500ms`, `10`.
        threshold: Spanned<String>,
    },
    /// A condition on events.
    Event(EventCondition),
    /// PromQL.
    Expr(Spanned<String>),
    /// A service level objective.
    Slo(SloConfig),
}

/// How a value is held against a threshold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "named as in the file")]
pub enum ThresholdOp {
    Above,
    Below,
    AtLeast,
    AtMost,
}

/// `state:`.
#[derive(Clone, Debug, PartialEq)]
pub struct StateConfig {
    /// `dir:`.
    pub dir: Spanned<String>,
    /// `sync: full` survives power loss.
    pub sync_full: bool,
    /// `checkpoint_interval:` in milliseconds (1 s).
    pub checkpoint_interval_ms: i64,
}
