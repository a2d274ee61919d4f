//! The client: librdkafka's options, and what it tells us between messages.

use super::heard::Statistics;
use super::offsets::{Offsets, Partition};
use crate::config::schema::{KafkaConfig, KafkaServers, SecretSource};
use crate::config::{Span, Spanned};
use crate::secret::Secret;
use rdkafka::TopicPartitionList;
use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::topic_partition_list::Offset;
use rdkafka::types::RDKafkaRespErr;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// What librdkafka may hold that nobody has polled yet; beyond it, it stops fetching (overshot by one answer).
const QUEUED_KIBIBYTES: u32 = 8 << 10;
/// The most that one answer of a broker holds, unless one message alone is larger.
const ANSWER_BYTES: u32 = 8 << 20;
/// The most of one partition in it.
const PARTITION_BYTES: u32 = 1 << 20;
/// A message larger than this stops its partition for ever; one that is only too large for us is refused and counted.
const LARGEST_ANSWER_BYTES: u32 = 256 << 20;
/// Errors and log lines that are kept between two looks.
const KEPT: usize = 64;

/// Defaults that `properties` may change.
const DEFAULTS: [(&str, &str); 9] = [
    ("client.id", "sidewatch"),
    ("partition.assignment.strategy", "cooperative-sticky"),
    // A member that was killed is missed by its group for so long.
    ("session.timeout.ms", "10000"),
    ("heartbeat.interval.ms", "3000"),
    // A broker that does not answer is gone; the default is a minute.
    ("socket.timeout.ms", "15000"),
    ("reconnect.backoff.max.ms", "5000"),
    // How soon new topics and partitions are seen; the default is five minutes.
    ("topic.metadata.refresh.interval.ms", "10000"),
    ("socket.keepalive.enable", "true"),
    // How long a partition rests when the local queue is full; with the default of a second, a backlog is read in fits.
    ("fetch.queue.backoff.ms", "5"),
];

/// Librdkafka's options. The password's file is read.
///
/// # Errors
/// A sentence: the password's file cannot be read.
pub(super) fn options(config: &KafkaConfig, base_dir: &Path) -> Result<ClientConfig, String> {
    let password = config.servers.password.as_ref().map(SecretSource::read_now).transpose()?;
    Ok(with_password(config, password.as_ref(), base_dir))
}

/// Sets how the brokers are reached. The password's file is read.
///
/// # Errors
/// A sentence: the password's file cannot be read.
pub(crate) fn reach(client: &mut ClientConfig, servers: &KafkaServers, base_dir: &Path) -> Result<(), String> {
    let password = servers.password.as_ref().map(SecretSource::read_now).transpose()?;
    reach_with(client, servers, password.as_ref(), base_dir);
    Ok(())
}

fn with_password(config: &KafkaConfig, password: Option<&Secret>, base_dir: &Path) -> ClientConfig {
    let mut client = ClientConfig::new();
    for (key, value) in DEFAULTS {
        client.set(key, value);
    }
    for (key, value) in [
        ("queued.max.messages.kbytes", QUEUED_KIBIBYTES),
        ("fetch.max.bytes", ANSWER_BYTES),
        ("fetch.message.max.bytes", PARTITION_BYTES),
        ("receive.message.max.bytes", LARGEST_ANSWER_BYTES),
    ] {
        client.set(key, value.to_string());
    }
    for (key, value) in &config.properties {
        client.set(key.value.as_str(), value.value.as_str());
    }
    reach_with(&mut client, &config.servers, password, base_dir);
    client.set("group.id", config.group_id());
    if let Some(member) = config.member_id() {
        client.set("group.instance.id", member);
    }
    // The promise: nothing is committed but what stands in a checkpoint, nothing is skipped without being said.
    for (key, value) in [
        ("enable.auto.commit", "false"),
        ("enable.auto.offset.store", "false"),
        ("auto.offset.reset", "error"),
        ("statistics.interval.ms", "1000"),
        ("allow.auto.create.topics", "false"),
    ] {
        client.set(key, value);
    }
    client.set_log_level(RDKafkaLogLevel::Info);
    client
}

fn reach_with(client: &mut ClientConfig, servers: &KafkaServers, password: Option<&Secret>, base_dir: &Path) {
    let brokers: Vec<&str> = servers.brokers.iter().map(|broker| broker.value.as_str()).collect();
    client.set("bootstrap.servers", brokers.join(","));
    let protocol = match (&servers.tls, &servers.user) {
        (None, None) => "plaintext",
        (None, Some(_)) => "sasl_plaintext",
        (Some(_), None) => "ssl",
        (Some(_), Some(_)) => "sasl_ssl",
    };
    client.set("security.protocol", protocol);
    if let Some(user) = &servers.user {
        client.set("sasl.mechanism", servers.mechanism.name());
        client.set("sasl.username", user.value.as_str());
        client.set("sasl.password", password.map(Secret::expose).unwrap_or_default());
    }
    if let Some(tls) = &servers.tls {
        let files = [
            ("ssl.ca.location", &tls.ca_file),
            ("ssl.certificate.location", &tls.cert_file),
            ("ssl.key.location", &tls.key_file),
        ];
        for (key, file) in files {
            if let Some(file) = file {
                client.set(key, base_dir.join(&file.value).display().to_string());
            }
        }
        if tls.insecure_skip_verify {
            client.set("enable.ssl.certificate.verification", "false");
        }
    }
}

/// What librdkafka would not take, with the place of it.
pub(super) fn objection(config: &KafkaConfig) -> Option<(Span, String)> {
    let first = &config.servers.brokers.first()?.span;
    let place = |key: &str| config.properties.iter().find(|(name, _)| name.value == key).map(|(name, _)| name);
    let all = with_password(config, None, Path::new(""));
    // One by one, so that the property that is wrong can be named.
    for (key, value) in &config.properties {
        let mut one = ClientConfig::new();
        one.set(key.value.as_str(), value.value.as_str());
        if let Err(error) = one.create_native_config() {
            return Some((key.span.clone(), explain(key, &error)));
        }
    }
    let error = all.create_native_config().err()?;
    let span = match &error {
        KafkaError::ClientConfig(_, _, key, _) => place(key).map_or(first, |name| &name.span),
        _ => first,
    };
    Some((span.clone(), format!("kafka: {error}")))
}

fn explain(key: &Spanned<String>, error: &KafkaError) -> String {
    match error {
        KafkaError::ClientConfig(_, why, ..) => format!("properties: {}: {}", key.value, why.trim_end_matches('\0')),
        other => format!("properties: {}: {other}", key.value),
    }
}

/// Microseconds within which a broker that is asked for messages answers, with a margin.
pub(super) fn answer_us(config: &KafkaConfig) -> i64 {
    let set = config.properties.iter().find(|(key, _)| key.value == "fetch.wait.max.ms");
    let wait_ms: i64 = set.and_then(|(_, value)| value.value.parse().ok()).unwrap_or(500);
    (2 * wait_ms + 2_000) * 1_000
}

/// A change of what is assigned to us; librdkafka waits until it has been carried out.
#[derive(Debug)]
pub(super) enum Change {
    Assign(BTreeSet<Partition>),
    Revoke(BTreeSet<Partition>),
}

/// What was told since the last look.
#[derive(Debug, Default)]
pub(super) struct Heard {
    pub changes: Vec<Change>,
    pub statistics: Option<Statistics>,
    pub errors: Vec<(RDKafkaErrorCode, String)>,
}

/// Takes what librdkafka tells while it is polled.
pub(super) struct Context {
    source: Arc<str>,
    /// Held for a push or a take, in the one thread that polls.
    heard: Mutex<Heard>,
    /// From now on partitions are given up as soon as that is asked.
    closing: AtomicBool,
    /// Kinds of log lines that were said since the last connection.
    said: Mutex<BTreeSet<String>>,
}

impl Context {
    pub fn new(source: Arc<str>) -> Self {
        Self { source, heard: Mutex::default(), closing: AtomicBool::new(false), said: Mutex::default() }
    }

    pub fn take(&self) -> Heard {
        std::mem::take(&mut *self.heard.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub fn close(&self) {
        self.closing.store(true, Ordering::Relaxed);
    }

    /// What is logged from now on is news again.
    pub fn forget_said(&self) {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn hear(&self, note: impl FnOnce(&mut Heard)) {
        note(&mut self.heard.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn is_news(&self, kind: &str) -> bool {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        said.len() < KEPT && said.insert(kind.to_owned())
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        // What ends a connection comes as an error as well, and is said with the state of the source; commits are tried again.
        if matches!(facility, "FAIL" | "ERROR" | "COMMITFAIL") || !self.is_news(facility) {
            tracing::debug!(source = %self.source, facility, "librdkafka: {text}");
            return;
        }
        match level {
            RDKafkaLogLevel::Emerg
            | RDKafkaLogLevel::Alert
            | RDKafkaLogLevel::Critical
            | RDKafkaLogLevel::Error
            | RDKafkaLogLevel::Warning => tracing::warn!(source = %self.source, facility, "librdkafka: {text}"),
            RDKafkaLogLevel::Notice => tracing::info!(source = %self.source, facility, "librdkafka: {text}"),
            RDKafkaLogLevel::Info | RDKafkaLogLevel::Debug => {
                tracing::debug!(source = %self.source, facility, "librdkafka: {text}");
            }
        }
    }

    fn stats_raw(&self, json: &[u8]) {
        self.hear(|heard| heard.statistics = Statistics::read(json));
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown);
        self.hear(|heard| {
            if heard.errors.len() < KEPT {
                heard.errors.push((code, reason.to_owned()));
            }
        });
    }
}

impl ConsumerContext for Context {
    /// Only notes it: the thread that polls carries it out between two batches. While closing, at once.
    fn rebalance(&self, consumer: &BaseConsumer<Self>, kind: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let assign = kind == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
        if self.closing.load(Ordering::Relaxed) {
            // An error means that librdkafka has given them up already.
            let _ = match (assign, consumer.rebalance_protocol()) {
                (true, RebalanceProtocol::Cooperative) => consumer.incremental_assign(list),
                (true, _) => consumer.assign(list),
                (false, RebalanceProtocol::Cooperative) => consumer.incremental_unassign(list),
                (false, _) => consumer.unassign(),
            };
            return;
        }
        let partitions = partitions(list);
        self.hear(|heard| {
            heard.changes.push(if assign { Change::Assign(partitions) } else { Change::Revoke(partitions) });
        });
    }
}

fn partitions(list: &TopicPartitionList) -> BTreeSet<Partition> {
    list.elements().iter().map(|element| (element.topic().into(), element.partition())).collect()
}

/// A list for librdkafka.
pub(super) fn list<'p>(entries: impl IntoIterator<Item = (&'p Partition, Offset)>) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for ((topic, partition), offset) in entries {
        // It fails only for an offset that cannot be written; then the partition's place is asked of the broker.
        if list.add_partition_offset(topic, *partition, offset).is_err() {
            list.add_partition(topic, *partition);
        }
    }
    list
}

/// The offsets in a list; an error of one partition is the error of all.
pub(super) fn offsets_of(list: &TopicPartitionList) -> KafkaResult<Offsets> {
    let mut offsets = Offsets::default();
    for element in list.elements() {
        element.error()?;
        if let Offset::Offset(next) = element.offset() {
            offsets.raise(&(element.topic().into(), element.partition()), next);
        }
    }
    Ok(offsets)
}
