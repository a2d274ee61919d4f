//! HTTP: push, probes, metrics, Prometheus's and Alertmanager's APIs, dashboard, events, the page.
//!
//! Two listeners (DESIGN.md, HTTP). The observe listener only reads, but for alerts and silences from this machine; the
//! ingest listener takes events and commands and has everything of the other one. [`routes`] is the one table of paths. Handlers hold nothing of the core: they send it
//! a closure that does a bounded piece of work ([`CoreHandle::call`]), and evaluate queries on a read view elsewhere.
//!
//! Deliberate absences: no authentication yet (push and reload are on loopback by default), no CORS (pages of other sites
//! read nothing and change nothing), no TLS (what stands before a pod does that).

mod alertmanager;
mod backend;
mod dashboard;
#[cfg(test)]
mod deploy_tests;
mod error;
mod events;
#[cfg(test)]
mod grafana_tests;
mod history;
mod listen;
mod metrics;
mod negotiate;
mod notifications;
mod openapi;
mod origin;
mod otlp;
mod page;
mod probes;
mod prometheus;
mod push;
mod push_socket;
mod quarantine;
mod reload;
mod remote_write;
mod routes;
mod status;
#[cfg(test)]
mod tests;
mod why;

pub use backend::{CALL_TIMEOUT, CALLS, CoreGone, CoreHandle, CoreJob, core_channel};
pub use error::ApiError;
pub use listen::{CONNECTIONS, serve};
pub use probes::Readiness;
pub use push::PushSource;
pub use reload::Reloaded;
pub use routes::routers;

use crate::config::schema::Limits;
use crate::engine::Core;
use crate::model::{FieldPlan, Timestamp};
use crate::notify::{Deliveries, OutboxStatus};
use crate::source::{Depth, IngestSink, QueueOptions};
use crate::state::StateStore;
use arc_swap::ArcSwap;
use std::fmt;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// The version of sidewatch.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Queries that are evaluated at once; more wait for their turn within their timeout.
pub const QUERIES: usize = 8;

/// What every handler has.
pub type Shared = Arc<Backend>;

/// Who is observed, and since when.
#[derive(Clone, Debug)]
pub struct Identity {
    /// service.name.
    pub service: String,
    /// service.instance.
    pub instance: String,
    /// When this process began to watch.
    pub started: Timestamp,
}

/// Where the two listeners are bound.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    /// The observe listener.
    pub observe: SocketAddr,
    /// The ingest listener.
    pub ingest: SocketAddr,
}

/// The `http` sources and the plan that their input is decoded with; swapped as a whole on reload.
#[derive(Clone, Debug)]
pub struct Push {
    /// The fields that somebody asks for.
    pub plan: Arc<FieldPlan>,
    /// The sources.
    pub sources: Vec<PushSource>,
    /// Where OTLP goes: the `otlp` source, or else the only `http` one that reads events as they usually are.
    pub otlp: Option<PushSource>,
}

impl Push {
    /// The source of that name; without a name the only one.
    fn source(&self, name: Option<&str>) -> Result<&PushSource, ApiError> {
        let known = || self.sources.iter().map(|source| &*source.name).collect::<Vec<_>>().join(", ");
        let hint_none = "add one: sources: {push: {http: {}}}";
        match (name, self.sources.as_slice()) {
            (_, []) => Err(ApiError::new(http::StatusCode::NOT_FOUND, "no http source is configured", hint_none)),
            (None, [only]) => Ok(only),
            (None, _) => Err(ApiError::bad_request(
                "there are several http sources, and the request names none",
                format!("send to /events/NAME, where NAME is one of {}", known()),
            )),
            (Some(name), sources) => sources.iter().find(|source| &*source.name == name).ok_or_else(|| {
                let error = format!("there is no http source named {name:?}");
                ApiError::new(http::StatusCode::NOT_FOUND, error, format!("there is {}", known()))
            }),
        }
    }
}

/// How the last reading of the configuration went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReloadStatus {
    /// Whether it took effect.
    pub succeeded: bool,
    /// When.
    pub at: Timestamp,
    /// What was wrong; empty when nothing.
    pub error: String,
}

/// How the pings of `watchdog:` go.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WatchdogStatus {
    /// Whether the last ping arrived; `None` before the first.
    pub arrives: Option<bool>,
    /// Pings that arrived.
    pub sent: u64,
    /// Pings that failed.
    pub failed: u64,
    /// Pings that were not sent, because rules were not evaluated in time.
    pub withheld: u64,
    /// When the last ping arrived.
    pub last_sent: Option<Timestamp>,
    /// Why the last one failed or was withheld; empty when it arrived.
    pub last_error: String,
    /// How often it is sent, in milliseconds.
    pub every_ms: i64,
}

/// How an entry of `export:` stands.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub struct ExportStatus {
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: &'static str,
    /// `sending`, `waiting` for its receiver, or `failed`.
    pub state: &'static str,
    /// Requests that wait.
    pub pending: usize,
    /// Their bytes.
    pub pending_bytes: u64,
    /// Samples or lines that went out.
    pub sent: u64,
    /// Samples or lines that were given up.
    pub dropped: u64,
    /// Why the last attempt failed; empty when it did not.
    pub last_error: String,
}

/// The parts of the state that the core does not own, as `app` gives them.
pub struct Surroundings {
    /// The outbox and its receivers.
    pub outbox: Box<dyn Fn() -> OutboxStatus + Send + Sync>,
    /// How the last reading of the configuration went.
    pub reload_status: Box<dyn Fn() -> ReloadStatus + Send + Sync>,
    /// Messages on their way, to be looked at, tried again and dropped.
    pub deliveries: Deliveries,
    /// What happened.
    pub history: StateStore,
    /// The dead man's switch; `None` when none is configured.
    pub watchdog: Box<dyn Fn() -> Option<WatchdogStatus> + Send + Sync>,
    /// The entries of `export:` and `publish:`.
    pub exports: Box<dyn Fn() -> Vec<ExportStatus> + Send + Sync>,
    /// The Prometheus text of sidewatch's own metrics.
    pub self_metrics: Box<dyn Fn() -> String + Send + Sync>,
    /// Waits until a checkpoint holds so many commands ([`Core::commands`]), and says whether it was written. Without a
    /// state folder that is at once and yes.
    pub stored: StoredCall,
}

/// What waits for the core.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct QueueStatus {
    /// Batches that wait.
    pub batches: usize,
    /// Batches that may wait.
    pub capacity: usize,
    /// Bytes that wait.
    pub bytes: usize,
    /// Bytes that may wait.
    pub capacity_bytes: usize,
    /// Events that wait.
    pub events: usize,
    /// Events that may wait.
    pub capacity_events: usize,
    /// What waits, by priority.
    pub priorities: QueuePriorities,
}

/// What waits for the core, by priority.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct QueuePriorities {
    /// Events that overtake others.
    pub high: Depth,
    /// Everything else.
    pub normal: Depth,
}

/// Waits until so many commands are stored: whether they are.
pub type StoredCall = Box<dyn Fn(u64) -> Pin<Box<dyn Future<Output = bool> + Send>> + Send + Sync>;

/// Reads the configuration again: what changed, or every error.
pub type ReloadCall = Box<dyn Fn() -> Pin<Box<dyn Future<Output = Result<Reloaded, String>> + Send>> + Send + Sync>;

/// What the handlers stand on. Made once by `app`; what a reload changes is behind [`ArcSwap`].
pub struct Backend {
    /// The core's door.
    pub core: CoreHandle<Core>,
    /// Who is observed.
    pub identity: Identity,
    /// Where the listeners are.
    pub addresses: Addresses,
    /// The limits that hold.
    pub limits: ArcSwap<Limits>,
    /// The http sources.
    pub push: ArcSwap<Push>,
    /// The queue before the core.
    pub sink: IngestSink,
    /// What the core does not own.
    pub surroundings: Surroundings,
    /// Reads the configuration again.
    pub reload: ReloadCall,
    /// Whether sidewatch has started and takes requests.
    pub readiness: Readiness,
    /// Cancelled when the listeners stop: live streams end.
    pub closing: CancellationToken,
    queries: Semaphore,
    dashboard: tokio::sync::Mutex<dashboard::Cache>,
    metrics_bytes: AtomicUsize,
    sockets: push_socket::Sockets,
}

impl fmt::Debug for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backend")
            .field("identity", &self.identity)
            .field("addresses", &self.addresses)
            .finish_non_exhaustive()
    }
}

/// What [`Backend::new`] is made of.
#[expect(missing_docs, reason = "the fields of Backend")]
pub struct Parts {
    pub core: CoreHandle<Core>,
    pub identity: Identity,
    pub addresses: Addresses,
    pub limits: Limits,
    pub push: Push,
    pub sink: IngestSink,
    pub surroundings: Surroundings,
    pub reload: ReloadCall,
    pub readiness: Readiness,
    pub closing: CancellationToken,
}

impl Backend {
    /// The state of both routers.
    pub fn new(parts: Parts) -> Shared {
        let Parts { core, identity, addresses, limits, push, sink, surroundings, reload, readiness, closing } = parts;
        Arc::new(Self {
            core,
            identity,
            addresses,
            limits: ArcSwap::from_pointee(limits),
            push: ArcSwap::from_pointee(push),
            sink,
            surroundings,
            reload,
            readiness,
            closing,
            queries: Semaphore::new(QUERIES),
            dashboard: tokio::sync::Mutex::default(),
            metrics_bytes: AtomicUsize::new(0),
            sockets: push_socket::Sockets::default(),
        })
    }

    /// What waits for the core.
    fn queue(&self) -> QueueStatus {
        let [high, normal] = self.sink.depth();
        let QueueOptions { limits, events, .. } = self.sink.options();
        QueueStatus {
            batches: high.batches + normal.batches,
            capacity: limits.batches,
            bytes: high.bytes + normal.bytes,
            capacity_bytes: limits.bytes,
            events: high.events + normal.events,
            capacity_events: events,
            priorities: QueuePriorities { high, normal },
        }
    }

    /// The limits that hold now.
    fn limits(&self) -> Arc<Limits> {
        self.limits.load_full()
    }

    /// The size of the last /metrics.
    fn metrics_bytes(&self) -> usize {
        self.metrics_bytes.load(Ordering::Relaxed)
    }

    fn note_metrics_bytes(&self, bytes: usize) {
        self.metrics_bytes.store(bytes, Ordering::Relaxed);
    }
}
