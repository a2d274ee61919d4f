//! Sources: what brings events in, and how bytes become events. One file a transport; [`decode`] has one file a format.
//!
//! A source is a task. It reads, cuts what it read at the ends of events, decodes with the current field plan and hands
//! the batch to the core through the bounded queue of [`sink`]: a full queue stops the reading (or answers 429), never
//! loses. What it knows about its own connection it reports through the same queue, so that the core sees both in order.

mod acks;
mod amqp;
pub mod counts;
pub mod decode;
pub mod demo;
mod docker;
mod file;
mod hosts;
#[cfg(feature = "kafka")]
pub(crate) mod kafka;
mod lines;
mod memory;
mod message;
mod mqtt;
pub(crate) mod nats;
pub mod otlp;
pub mod rate;
pub mod received;
pub mod redact;
pub(crate) mod redis;
pub mod remote_write;
pub mod scrape;
mod sink;
mod socket;
mod sse;
mod standing;
pub(crate) mod statsd;
mod unacked;
pub mod validate;
mod websocket;
pub(crate) mod wire;

pub use memory::MemorySource;
pub use sink::{
    Depth, Full, Ingest, IngestQueue, IngestSink, Offered, Pace, Priority, QueueLimits, QueueOptions, queue,
};
pub use socket::set_keepalive;

use crate::config::Span;
use crate::config::schema::{KafkaConfig, Scope, Transport};
use crate::model::FieldPlan;
use crate::telemetry::{clock, self_metrics};
use decode::{Decoder, Framing};
use lines::LineBuffer;
use message::Messages;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Bytes read at once.
const BLOCK_BYTES: usize = 256 << 10;
/// Between attempts to open or bind what is not there.
const RETRY: Duration = Duration::from_millis(500);

/// How a source stands with what it listens to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceState {
    /// Not connected yet, for the first time.
    Starting,
    /// Listening, reading, connected.
    Connected,
    /// It cannot hear: conditions that conclude from silence pause.
    Lost {
        /// Why, for people.
        reason: String,
    },
    /// Connected again and delivering what was missed.
    CatchingUp {
        /// How much is left: bytes of a file, messages of a broker.
        behind: u64,
    },
    /// Its input is over (standard input); nothing more will come.
    Ended,
}

impl SourceState {
    /// The word that API, page and logs use.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Connected => "connected",
            Self::Lost { .. } => "lost",
            Self::CatchingUp { .. } => "catching_up",
            Self::Ended => "ended",
        }
    }

    /// Why, or how far; empty when there is nothing to add.
    pub fn detail(&self) -> String {
        match self {
            Self::Lost { reason } => reason.clone(),
            Self::CatchingUp { behind } => format!("{behind} behind"),
            _ => String::new(),
        }
    }
}

/// The kind of a transport, for people.
pub fn kind(transport: &Transport) -> &'static str {
    match transport {
        Transport::Http => "http",
        Transport::Stdin => "stdin",
        Transport::File { .. } => "file",
        Transport::Unix { .. } => "unix",
        Transport::Tcp { .. } => "tcp",
        Transport::Scrape(_) => "scrape",
        Transport::Amqp(_) => "amqp",
        Transport::Mqtt(_) => "mqtt",
        Transport::Statsd(_) => "statsd",
        Transport::Otlp => "otlp",
        Transport::WebSocket(_) => "websocket",
        Transport::Docker(_) => "docker",
        Transport::Hosts(_) => "hosts",
        Transport::Nats(_) => "nats",
        Transport::Redis(_) => "redis",
        Transport::Kafka(_) => "kafka",
        Transport::Sse(_) => "sse",
        Transport::Memory => "memory",
        Transport::Demo => "demo",
        Transport::None => "none",
    }
}

/// What a transport promises about each event, in one line for `sidewatch check`.
pub fn guarantee(transport: &Transport) -> String {
    match transport {
        Transport::Http => {
            "answered only when queued (429 when full); a kill may lose what the last checkpoint did not hold"
        }
        Transport::Unix { .. } | Transport::Tcp { .. } | Transport::Stdin => {
            "read on only when queued; a kill may lose what the last checkpoint did not hold"
        }
        Transport::File { .. } => "at least once, counted once: the position stands in the checkpoint",
        Transport::Scrape(_) => "metrics, not events: each scrape is taken whole or not at all",
        Transport::Amqp(config) => return amqp::guarantee(config),
        Transport::Mqtt(config) => return mqtt::guarantee(config),
        Transport::Statsd(config) => return statsd::guarantee(config),
        Transport::Otlp => {
            "answered only when queued (429 when full); exporters that retry may count twice; a kill may lose what the last checkpoint did not hold"
        }
        Transport::WebSocket(_) => {
            "at most once: what the server sends while the connection is gone is missed, and each such gap is counted"
        }
        Transport::Docker(_) => {
            "at most once: after an interruption what the daemon still remembers (Docker: 256 events) comes, once"
        }
        Transport::Hosts(_) => "level-triggered: what changed between two looks is told, also across a restart",
        Transport::Nats(config) => nats::guarantee(config),
        Transport::Redis(config) => return redis::guarantee(config),
        Transport::Kafka(config) => return kafka_guarantee(config),
        Transport::Sse(_) => {
            "at most once, unless the server gives ids: then what came behind the last one is asked for again; every lost \
             connection is counted"
        }
        Transport::Memory => "pushed by the embedding program; what is refused is told to it",
        Transport::Demo => "made up as it goes",
        Transport::None => "nothing",
    }
    .to_owned()
}

/// Whether a transport keeps what is not taken (its guarantee begins with "at least once"): it is made to wait while the
/// queue is full, and nothing of it is ever dropped. A scrape is taken whole or not at all.
pub fn is_throttled(transport: &Transport) -> bool {
    matches!(transport, Transport::Scrape(_)) || guarantee(transport).starts_with("at least once")
}

fn kafka_guarantee(config: &KafkaConfig) -> String {
    let whose = match config.scope {
        Some(Scope::PerInstance) => "this sidecar sees every event",
        _ => "sidecars of the group share the events",
    };
    format!(
        "at least once, counted once: offsets stand in the checkpoint and are committed after it; group {}, {whose}",
        config.group_id()
    )
}

/// What is wrong with a transport's options beyond what their keys tell; only what can be known without connecting.
pub fn objection(transport: &Transport) -> Option<(Span, String)> {
    match transport {
        #[cfg(feature = "kafka")]
        Transport::Kafka(config) => kafka::objection(config),
        _ => None,
    }
}

/// What a source's task works with.
#[derive(Clone, Debug)]
pub struct SourceContext {
    /// The configured name.
    pub name: Arc<str>,
    /// Which sidecar this is: `service.instance`.
    pub instance: Arc<str>,
    /// Reads what arrives.
    pub decoder: Arc<Decoder>,
    /// The fields that are asked for; changes with a reload.
    pub plan: watch::Receiver<Arc<FieldPlan>>,
    /// The way to the core.
    pub sink: IngestSink,
    /// Where to go on, from the last checkpoint.
    pub position: Option<Vec<u8>>,
    /// Bytes of one event; longer ones are refused without being kept.
    pub event_bytes: usize,
    /// Where relative paths start.
    pub base_dir: PathBuf,
}

impl SourceContext {
    /// Runs a source until it is cancelled.
    pub async fn run(self, transport: Transport, cancel: CancellationToken) {
        match transport {
            Transport::File { path, from_end } => file::run(&self, &self.path(&path.value), from_end, &cancel).await,
            Transport::Unix { path } => socket::run_unix(&self, &self.path(&path.value), &cancel).await,
            Transport::Tcp { listen } => socket::run_tcp(&self, &listen.value, &cancel).await,
            Transport::Stdin => self.run_stdin(&cancel).await,
            Transport::Scrape(config) => scrape::run(&self, &config, &cancel).await,
            Transport::Amqp(config) => amqp::run(&self, &config, &cancel).await,
            Transport::Mqtt(config) => mqtt::run(&self, &config, &cancel).await,
            Transport::Statsd(config) => statsd::run(&self, &config, &cancel).await,
            Transport::WebSocket(config) => websocket::run(&self, &config, &cancel).await,
            Transport::Docker(config) => docker::run(&self, &config, &cancel).await,
            Transport::Hosts(config) => hosts::run(&self, &config, &cancel).await,
            Transport::Nats(config) => nats::run(&self, &config, &cancel).await,
            Transport::Redis(config) => redis::run(&self, &config, &cancel).await,
            Transport::Sse(config) => sse::run(&self, &config, &cancel).await,
            #[cfg(feature = "kafka")]
            Transport::Kafka(config) => kafka::run(&self, &config, &cancel).await,
            #[cfg(not(feature = "kafka"))]
            Transport::Kafka(_) => {
                self.report(SourceState::Lost { reason: "this build of sidewatch has no Kafka".into() }).await;
            }
            Transport::Demo => demo::run(&self, &cancel).await,
            // Pushed to from outside: the listener and the embedding program are what connects.
            Transport::Http | Transport::Otlp | Transport::Memory | Transport::None => {
                self.report(SourceState::Connected).await
            }
        }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.base_dir.join(Path::new(path))
    }

    /// Tells the core how the source stands.
    async fn report(&self, state: SourceState) {
        let up = matches!(state, SourceState::Connected | SourceState::CatchingUp { .. });
        self_metrics::source_up(&self.name).set(if up { 1.0 } else { 0.0 });
        // A closed queue means the core has ended; there is nobody to tell.
        let _ = self.sink.send(Ingest::State { source: self.name.clone(), state }).await;
    }

    /// Decodes what was read and hands it over; waits while the queue is full. `false` when the core has ended.
    async fn deliver(&self, bytes: Vec<u8>, framing: Framing, oversized: u32, position: Option<Vec<u8>>) -> bool {
        let plan = self.plan.borrow().clone();
        let mut batch = self.decoder.decode(bytes, framing, &plan, &self.name, clock::now());
        let next =
            batch.refused.iter().map(|refusal| refusal.item + 1).max().unwrap_or(0).max(batch.events.len() as u32);
        batch.refused.extend((0..oversized).map(|at| lines::refusal(next + at, self.event_bytes)));
        batch.position = position;
        self.sink.send(Ingest::Batch(batch, self.decoder.clone())).await.is_ok()
    }

    /// Hands messages over as one batch, with the position behind them; waits while the queue is full. The number to wait
    /// for in [`acks::Acks`]; `None` when the core has ended.
    async fn deliver_messages(&self, messages: &mut Messages, position: Option<Vec<u8>>) -> Option<u64> {
        let (buffer, framing, refused) = messages.take();
        let plan = self.plan.borrow().clone();
        let mut batch = self.decoder.decode(buffer, framing, &plan, &self.name, clock::now());
        batch.refused.extend(refused);
        batch.position = position;
        self.sink.send(Ingest::Batch(batch, self.decoder.clone())).await.ok()
    }

    async fn run_stdin(&self, cancel: &CancellationToken) {
        self.report(SourceState::Connected).await;
        match self.read_lines(tokio::io::stdin(), cancel).await {
            Ok(()) if cancel.is_cancelled() => return,
            Ok(()) => tracing::info!(source = %self.name, "standard input has ended; everything else goes on"),
            Err(error) => tracing::warn!(source = %self.name, %error, "standard input cannot be read any more"),
        }
        self.report(SourceState::Ended).await;
    }

    /// Reads lines until the end of the stream: what one read gives is one batch, never waiting for more.
    async fn read_lines(&self, mut from: impl AsyncRead + Unpin, cancel: &CancellationToken) -> std::io::Result<()> {
        let received = self_metrics::source_received_bytes(&self.name);
        let mut lines = LineBuffer::new(self.event_bytes);
        let mut block = vec![0; BLOCK_BYTES];
        loop {
            let read = tokio::select! {
                read = from.read(&mut block) => read,
                () = cancel.cancelled() => return Ok(()),
            };
            let count = match read {
                Ok(count) => count,
                // A reset is the end of a stream like any other; what came whole is kept.
                Err(error) => {
                    self.finish_lines(&mut lines).await;
                    return Err(error);
                }
            };
            if count == 0 {
                self.finish_lines(&mut lines).await;
                return Ok(());
            }
            received.increment(count as u64);
            let bytes = lines.push(&block[..count]);
            let oversized = lines.take_oversized();
            if (!bytes.is_empty() || oversized > 0) && !self.deliver(bytes, Framing::Lines, oversized, None).await {
                return Ok(());
            }
        }
    }

    /// The end of a stream completes its last line.
    async fn finish_lines(&self, lines: &mut LineBuffer) {
        let (bytes, oversized) = (lines.finish(), lines.take_oversized());
        if !bytes.is_empty() || oversized > 0 {
            self.deliver(bytes, Framing::Lines, oversized, None).await;
        }
    }
}
