//! JetStream's API (NATS ADR-1 and the reference of `$JS.API`): streams and consumers, as far as a source asks.

use super::connect::{Connection, News, chain};
use super::window::Bound;
use crate::config::schema::{NatsConfig, NatsStream, Scope};
use async_nats::RequestErrorKind;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::time::Duration;

/// `err_code` of the API's answers.
const STREAM_NOT_FOUND: u64 = 10_059;
const CONSUMER_NOT_FOUND: u64 = 10_014;
const NO_MESSAGE_FOUND: u64 = 10_037;
const NOT_ENABLED: [u64; 2] = [10_039, 10_076];
/// What our own consumers are described as; only those are changed when the configuration changes.
const DESCRIPTION: &str = "made by sidewatch";

/// How a consumer acknowledges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AckPolicy {
    /// Each message by itself.
    Explicit,
    /// A message stands for all before it.
    All,
    /// Nothing is acknowledged: what is delivered is gone.
    None,
}

/// A consumer as the server has it.
#[derive(Clone, Debug)]
pub(super) struct Binding {
    /// For the window.
    pub bound: Bound,
    /// When the consumer was created: acknowledgements for another one are meaningless.
    pub consumer_created: String,
    pub ack_policy: AckPolicy,
    /// What is not acknowledged for so long comes again, at the earliest and at the latest.
    pub ack_wait: Duration,
    pub longest_wait: Duration,
    /// Messages that may wait for their acknowledgement; `None` without limit.
    pub max_ack_pending: Option<usize>,
    /// Limits of one pull request.
    pub max_batch: Option<usize>,
    pub max_bytes: Option<usize>,
    pub max_expires: Option<Duration>,
    /// The consumer hears other subjects than the configuration names: the source picks its messages itself.
    pub pick: bool,
    /// Messages that were delivered and not acknowledged.
    pub pending: u64,
    /// Messages that are still to come, those included that were delivered and not acknowledged.
    pub behind: u64,
}

/// A message of the stream.
#[derive(Debug)]
pub(super) struct Raw {
    pub subject: String,
    pub headers: Vec<u8>,
    pub payload: Vec<u8>,
}

/// What went wrong with a request.
#[derive(Debug)]
enum Failed {
    /// The API's own error.
    Error(u64, String),
    /// No answer at all.
    Silent(String),
}

/// The API of one stream and one consumer.
#[derive(Debug)]
pub(super) struct Api<'a> {
    config: &'a NatsConfig,
    stream: &'a NatsStream,
    /// `$JS.API`, or with the domain.
    prefix: String,
}

#[derive(Deserialize)]
struct StreamInfo {
    created: String,
    state: StreamState,
}

#[derive(Deserialize)]
struct StreamState {
    last_seq: u64,
}

#[derive(Deserialize)]
struct ConsumerInfo {
    created: String,
    config: Map<String, Value>,
    delivered: Sequences,
    ack_floor: Sequences,
    num_ack_pending: u64,
    num_pending: u64,
}

#[derive(Deserialize)]
struct Sequences {
    consumer_seq: u64,
    stream_seq: u64,
}

impl<'a> Api<'a> {
    pub fn new(config: &'a NatsConfig, stream: &'a NatsStream) -> Self {
        let prefix = match &stream.domain {
            Some(domain) => format!("$JS.{}.API", domain.value),
            None => "$JS.API".to_owned(),
        };
        Self { config, stream, prefix }
    }

    /// The subject that messages are asked for with.
    pub fn next(&self) -> String {
        format!("{}.CONSUMER.MSG.NEXT.{}.{}", self.prefix, self.stream.name.value, self.stream.durable.value)
    }

    /// Finds the stream and the consumer, which is made when it is missing: after `counted` (when the stream was created,
    /// and the last sequence that needs not come again) when that is of this stream, else where the configuration says.
    ///
    /// # Errors
    /// A sentence with what to do.
    pub async fn bind(&self, connection: &Connection, counted: (&str, u64)) -> Result<Binding, String> {
        let (stream, durable) = (&self.stream.name.value, &self.stream.durable.value);
        let info = self.request::<StreamInfo>(connection, &format!("STREAM.INFO.{stream}"), &Value::Null).await;
        let found = match info {
            Ok(found) => found,
            Err(Failed::Error(STREAM_NOT_FOUND, _)) => {
                let subjects: Vec<&str> = self.config.subjects.iter().map(|subject| subject.value.as_str()).collect();
                let subjects = if subjects.is_empty() { "order.>".to_owned() } else { subjects.join(",") };
                return Err(format!(
                    "the server has no stream {stream}; make it with: nats stream add {stream} --subjects \"{subjects}\" --defaults"
                ));
            }
            Err(failed) => return Err(self.sentence(failed, connection, "STREAM.INFO")),
        };
        let path = format!("CONSUMER.INFO.{stream}.{durable}");
        let consumer = match self.request::<ConsumerInfo>(connection, &path, &Value::Null).await {
            Ok(consumer) => self.keep(connection, consumer).await?,
            Err(Failed::Error(CONSUMER_NOT_FOUND, _)) => {
                let start = (counted.0 == found.created && counted.1 > 0).then_some(counted.1 + 1);
                self.create(connection, start).await?
            }
            Err(failed) => return Err(self.sentence(failed, connection, "CONSUMER.INFO")),
        };
        self.binding(found, consumer)
    }

    /// How far the consumer is acknowledged; `None` when the server does not say.
    pub async fn acknowledged(&self, connection: &Connection) -> Option<u64> {
        let path = format!("CONSUMER.INFO.{}.{}", self.stream.name.value, self.stream.durable.value);
        let info = self.request::<ConsumerInfo>(connection, &path, &Value::Null).await.ok()?;
        Some(info.ack_floor.stream_seq)
    }

    /// The first sequence from `from` on that the consumer hears; `u64::MAX` when there is none, `None` when the server
    /// does not say.
    pub async fn first_heard(&self, connection: &Connection, from: u64) -> Option<u64> {
        #[derive(Deserialize)]
        struct Found {
            message: Message,
        }
        #[derive(Deserialize)]
        struct Message {
            seq: u64,
        }
        let all = [">"];
        let given: Vec<&str> = self.config.subjects.iter().map(|subject| subject.value.as_str()).collect();
        let subjects = if given.is_empty() { &all[..] } else { &given };
        let path = format!("STREAM.MSG.GET.{}", self.stream.name.value);
        let mut first = u64::MAX;
        for subject in subjects {
            let wanted = json!({"seq": from, "next_by_subj": subject});
            match self.request::<Found>(connection, &path, &wanted).await {
                Ok(found) => first = first.min(found.message.seq),
                Err(Failed::Error(NO_MESSAGE_FOUND, _)) => {}
                Err(_) => return None,
            }
        }
        Some(first)
    }

    /// A message by its sequence, as it stands in the stream; `None` when the server does not give it.
    pub async fn message(&self, connection: &Connection, sequence: u64) -> Option<Raw> {
        #[derive(Deserialize)]
        struct Found {
            message: Message,
        }
        #[derive(Deserialize)]
        struct Message {
            subject: String,
            #[serde(default)]
            hdrs: String,
            #[serde(default)]
            data: String,
        }
        let path = format!("STREAM.MSG.GET.{}", self.stream.name.value);
        let found = self.request::<Found>(connection, &path, &json!({"seq": sequence})).await.ok()?.message;
        Some(Raw {
            subject: found.subject,
            headers: STANDARD.decode(found.hdrs).ok()?,
            payload: STANDARD.decode(found.data).ok()?,
        })
    }

    /// Where a delivery is acknowledged that never arrived.
    pub fn reply(&self, sequence: u64, consumer: u64) -> String {
        format!("$JS.ACK.{}.{}.1.{sequence}.{consumer}.0.0", self.stream.name.value, self.stream.durable.value)
    }

    /// What the configuration asks for. Only what users may leave out is left out.
    fn wanted(&self, start: Option<u64>) -> Map<String, Value> {
        let stream = self.stream;
        let mut config = Map::new();
        config.insert("durable_name".into(), json!(stream.durable.value));
        config.insert("description".into(), json!(DESCRIPTION));
        match start {
            Some(sequence) => {
                config.insert("deliver_policy".into(), json!("by_start_sequence"));
                config.insert("opt_start_seq".into(), json!(sequence));
            }
            None => {
                config.insert("deliver_policy".into(), json!(if stream.from_end { "new" } else { "all" }));
            }
        }
        // One acknowledgement for many is only right for a consumer that nobody else pulls from.
        let alone = self.config.scope == Some(Scope::PerInstance);
        config.insert("ack_policy".into(), json!(if alone { "all" } else { "explicit" }));
        config.insert("replay_policy".into(), json!("instant"));
        self.change(&mut config);
        config
    }

    /// Writes what may be changed later into a consumer's configuration.
    fn change(&self, config: &mut Map<String, Value>) {
        let nanoseconds = |ms: i64| ms.saturating_mul(1_000_000);
        let stream = self.stream;
        // With backoff the server takes its first wait.
        let ack_wait = stream.backoff_ms.first().copied().unwrap_or(stream.ack_wait_ms);
        config.insert("ack_wait".into(), json!(nanoseconds(ack_wait)));
        config.insert("max_deliver".into(), json!(stream.max_deliver.unwrap_or(-1)));
        config.insert("max_ack_pending".into(), json!(stream.max_ack_pending));
        config.remove("backoff");
        if !stream.backoff_ms.is_empty() {
            let waits: Vec<i64> = stream.backoff_ms.iter().map(|wait| nanoseconds(*wait)).collect();
            config.insert("backoff".into(), json!(waits));
        }
        config.remove("filter_subject");
        config.remove("filter_subjects");
        match self.config.subjects.as_slice() {
            [] => {}
            [one] => {
                config.insert("filter_subject".into(), json!(one.value));
            }
            many => {
                let many: Vec<&str> = many.iter().map(|subject| subject.value.as_str()).collect();
                config.insert("filter_subjects".into(), json!(many));
            }
        }
    }

    async fn create(&self, connection: &Connection, start: Option<u64>) -> Result<ConsumerInfo, String> {
        let made = self.put(connection, self.wanted(start)).await?;
        tracing::info!(stream = %self.stream.name.value, durable = %self.stream.durable.value, "the consumer is made");
        Ok(made)
    }

    async fn put(&self, connection: &Connection, mut config: Map<String, Value>) -> Result<ConsumerInfo, String> {
        let (stream, durable) = (&self.stream.name.value, &self.stream.durable.value);
        if !connection.client.is_server_compatible(2, 10, 0) {
            // Servers before 2.10 know one filter only; with several subjects the source picks its messages itself.
            config.remove("filter_subjects");
        }
        let path = format!("CONSUMER.DURABLE.CREATE.{stream}.{durable}");
        let wanted = json!({"stream_name": stream, "config": config});
        let made = self.request::<ConsumerInfo>(connection, &path, &wanted).await;
        made.map_err(|failed| self.sentence(failed, connection, "CONSUMER.DURABLE.CREATE"))
    }

    /// A consumer that is there already: our own follows the configuration, another's is taken as it is.
    async fn keep(&self, connection: &Connection, found: ConsumerInfo) -> Result<ConsumerInfo, String> {
        let durable = &self.stream.durable.value;
        if found.config.get("deliver_subject").is_some_and(|subject| subject != "") {
            return Err(format!("the consumer {durable} is one that pushes; take another name for durable"));
        }
        let mut changed = found.config.clone();
        self.change(&mut changed);
        if !connection.client.is_server_compatible(2, 10, 0) {
            changed.remove("filter_subjects");
        }
        let default = |key: &str, value: &Value| match key {
            "max_deliver" => *value == json!(-1),
            _ => false,
        };
        let keys = ["ack_wait", "max_deliver", "max_ack_pending", "backoff", "filter_subject", "filter_subjects"];
        let differing: Vec<&str> = keys
            .into_iter()
            .filter(|key| match (found.config.get(*key), changed.get(*key)) {
                (None, Some(value)) => !default(key, value),
                (before, after) => before != after,
            })
            .collect();
        if differing.is_empty() {
            return Ok(found);
        }
        if found.config.get("description").is_some_and(|text| text == DESCRIPTION) {
            let made = self.put(connection, changed).await?;
            tracing::info!(%durable, changed = differing.join(", "), "the consumer follows the configuration");
            return Ok(made);
        }
        tracing::warn!(
            %durable, differing = differing.join(", "),
            "the consumer was made by somebody else and is taken as it is; it differs from the configuration"
        );
        Ok(found)
    }

    fn binding(&self, stream: StreamInfo, consumer: ConsumerInfo) -> Result<Binding, String> {
        let number = |key: &str| consumer.config.get(key).and_then(Value::as_i64).filter(|number| *number > 0);
        let time = |key: &str| number(key).map(|nanoseconds| Duration::from_nanos(nanoseconds.unsigned_abs()));
        let size = |key: &str| number(key).and_then(|number| usize::try_from(number).ok());
        let ack_policy = match consumer.config.get("ack_policy").and_then(Value::as_str) {
            Some("explicit") => AckPolicy::Explicit,
            Some("all") => AckPolicy::All,
            Some("none") => AckPolicy::None,
            other => return Err(format!("the consumer's ack_policy {other:?} is unknown here")),
        };
        let backoff = consumer.config.get("backoff").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let waits: Vec<Duration> = backoff.iter().filter_map(Value::as_u64).map(Duration::from_nanos).collect();
        // Without the key the server waits 30 seconds.
        let ack_wait = time("ack_wait").unwrap_or(Duration::from_secs(30));
        Ok(Binding {
            bound: Bound {
                created: stream.created,
                last: stream.state.last_seq,
                acknowledged: consumer.ack_floor.stream_seq,
                delivered: (consumer.delivered.consumer_seq, consumer.delivered.stream_seq),
            },
            consumer_created: consumer.created,
            ack_policy,
            ack_wait: waits.iter().min().copied().unwrap_or(ack_wait),
            longest_wait: waits.iter().max().copied().unwrap_or(ack_wait),
            max_ack_pending: size("max_ack_pending"),
            max_batch: size("max_batch"),
            max_bytes: size("max_bytes"),
            max_expires: time("max_expires"),
            pick: !self.config.subjects.is_empty() && !self.filtered(&consumer.config),
            pending: consumer.num_ack_pending,
            behind: consumer.num_pending.saturating_add(consumer.num_ack_pending),
        })
    }

    /// Whether the consumer filters by the very subjects of the configuration.
    fn filtered(&self, config: &Map<String, Value>) -> bool {
        let one = config.get("filter_subject").and_then(Value::as_str).into_iter();
        let many = config.get("filter_subjects").and_then(Value::as_array).into_iter().flatten();
        let mut filters: Vec<&str> =
            one.chain(many.filter_map(Value::as_str)).filter(|text| !text.is_empty()).collect();
        let mut wanted: Vec<&str> = self.config.subjects.iter().map(|subject| subject.value.as_str()).collect();
        filters.sort_unstable();
        wanted.sort_unstable();
        filters == wanted
    }

    async fn request<T: for<'de> Deserialize<'de>>(
        &self,
        connection: &Connection,
        path: &str,
        body: &Value,
    ) -> Result<T, Failed> {
        #[derive(Deserialize)]
        struct Answer {
            error: Option<ApiError>,
        }
        #[derive(Deserialize)]
        struct ApiError {
            #[serde(default)]
            err_code: u64,
            #[serde(default)]
            description: String,
        }
        let payload = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let request = connection.client.request(format!("{}.{path}", self.prefix), payload.into());
        let answer = tokio::select! {
            answer = request => answer,
            () = connection.news.gone.cancelled() => return Err(Failed::Silent("the connection is gone".into())),
        };
        let answer = answer.map_err(|error| match error.kind() {
            RequestErrorKind::NoResponders => Failed::Error(NOT_ENABLED[0], String::new()),
            _ => Failed::Silent(chain(&error)),
        })?;
        let unreadable = |error: serde_json::Error| Failed::Silent(format!("the answer cannot be read: {error}"));
        let said: Answer = serde_json::from_slice(&answer.payload).map_err(unreadable)?;
        match said.error {
            Some(error) => Err(Failed::Error(error.err_code, error.description)),
            None => serde_json::from_slice(&answer.payload).map_err(unreadable),
        }
    }

    fn sentence(&self, failed: Failed, connection: &Connection, what: &str) -> String {
        let refused = News::take_refused(&connection.news);
        match (failed, refused) {
            (Failed::Error(code, _), _) if NOT_ENABLED.contains(&code) => {
                "JetStream is not enabled on the server (nats-server -js) or for this account".to_owned()
            }
            (Failed::Error(_, text), _) => format!("JetStream refuses {what}: {text}"),
            // A permission that is missing is said beside, and the request merely gets no answer.
            (Failed::Silent(_), Some(refused)) => format!("{what}: {refused}"),
            (Failed::Silent(text), None) => format!("{what}: {text}"),
        }
    }
}
