//! Starting everything, waiting for the end, draining.

use super::build::build;
use super::checkpoints::{self, OUTBOX};
use super::core_task::{Checkpointing, CoreTask, HISTORY_PORTIONS, write_history};
use super::exports::Exports;
use super::history::Lines;
use super::reload::{Reloader, texts};
use super::sources::Sources;
use super::{evaluate, probes, upkeep, watchdog};
use crate::api::{
    self, Addresses, Backend, CoreHandle, Identity, Push, PushSource, Readiness, Surroundings, core_channel,
};
use crate::config::schema::FormatConfig;
use crate::config::{Config, Diagnostics};
use crate::engine::{Core, Moment, Parts, Speaker, Told};
use crate::export::{Ground, Publishing};
use crate::model::Timestamp;
use crate::notify::{Courier, Deliveries, Outbox, Terminal};
use crate::source::rate::RateLimits;
use crate::source::{MemorySource, Pace, QueueLimits, QueueOptions, queue};
use crate::state::StateStore;
use crate::supervise::{DrainReport, Stage, Supervisor};
use crate::telemetry::{clock, self_metrics};
use anyhow::Context;
use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{Mutex, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

/// How long the drain may take; Kubernetes gives 30 s by default, and others want some of it.
const DRAIN: Duration = Duration::from_secs(10);
/// How long receivers may take at the end for what can go at once.
const FLUSH: Duration = Duration::from_secs(3);

/// Why a run failed.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The configuration is wrong: every finding, as text.
    #[error("{0}")]
    Configuration(String),
    /// Anything else.
    #[error(transparent)]
    Runtime(#[from] anyhow::Error),
}

/// Reads the configuration again.
pub type ReadAgain = Box<dyn Fn() -> (Option<Config>, Diagnostics) + Send + Sync>;

/// A configuration that was read, and how to read it again.
pub struct Configured {
    /// The configuration.
    pub config: Config,
    /// What was found; warnings only.
    pub found: Diagnostics,
    /// Its parts.
    pub parts: Parts,
    /// Reads it again; `None` when it does not come from a file.
    pub again: Option<ReadAgain>,
}

impl Configured {
    /// Builds what was read.
    ///
    /// # Errors
    /// Every finding as one text, when one of them is an error.
    pub fn new(config: Option<Config>, mut found: Diagnostics, again: Option<ReadAgain>) -> Result<Self, RunError> {
        let parts = config.as_ref().and_then(|config| build(config, &mut found));
        match (config, parts) {
            (Some(config), Some(parts)) if !found.has_errors() => Ok(Self { config, found, parts, again }),
            _ => Err(RunError::Configuration(findings(&mut found))),
        }
    }
}

/// Everything that is wrong, in the order of the files, and how much it is.
pub(super) fn findings(found: &mut Diagnostics) -> String {
    found.sort();
    let errors = found.iter().filter(|finding| finding.level == crate::config::Level::Error).count();
    format!("{found}{errors} {} in the configuration", if errors == 1 { "error" } else { "errors" })
}

/// What runs, told when everything is up.
#[derive(Debug)]
pub struct Started {
    /// Where the two listeners are.
    pub addresses: Addresses,
    /// The `memory` sources by name: a program that embeds the library pushes its events through these.
    pub memory: BTreeMap<Arc<str>, MemorySource>,
}

/// Runs until a signal ends it (or `stop` does). `greet` is called when everything is up.
///
/// # Errors
/// [`RunError`]: an address that cannot be bound, a state folder that cannot be used, a task that broke.
pub async fn run(
    configured: Configured,
    greet: impl FnOnce(Started) + Send,
    stop: CancellationToken,
) -> Result<(), RunError> {
    let Configured { config, found, parts, again } = configured;
    for finding in found.iter() {
        tracing::warn!(place = ?finding.span, "{}", finding.message);
    }
    let own = self_metrics::install().context("installing sidewatch's own metrics")?;
    self_metrics::config_loaded();
    let (observe, ingest) =
        (bind("observe", &config.listen.observe.value).await?, bind("ingest", &config.listen.ingest.value).await?);
    let addresses = Addresses { observe: address(&observe)?, ingest: address(&ingest)? };

    let state = match &config.state {
        Some(state) => Some(
            StateStore::open(&config.base_dir.join(&state.dir.value), state.sync_full)
                .with_context(|| format!("opening the state folder {}", state.dir.value))?,
        ),
        None => None,
    };
    let now = clock::now();
    let mut core = Core::new(&parts, now);
    core.engine.tell_life_cycle(Speaker {
        service: config.service.name.clone(),
        instance: config.service.instance.clone(),
        version: api::VERSION,
    });
    let mut restored = None;
    let mut outbox = Outbox::new(config.limits.outbox_messages, now.micros().unsigned_abs());
    if let Some(state) = &state {
        restored = restore(state, &mut core, &mut outbox, now).await?;
    }

    let supervisor = Supervisor::new();
    let (handle, jobs) = core_channel::<Core>();
    let limits = QueueLimits { batches: config.limits.queue_batches, bytes: config.limits.queue_bytes };
    let (sink, input) = queue(QueueOptions {
        limits,
        events: config.limits.queue_events,
        high_priority: config.limits.high_priority as u8,
    });
    let (worker, finished) = evaluate::start(config.limits.query_samples).context("starting the evaluation worker")?;
    let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let courier = Courier::new(Terminal::new(colour, print), external_url(&config, addresses.observe));
    let deliveries = Deliveries::new(outbox, parts.routing.clone(), courier, Arc::new(clock::now));

    let journal = match &state {
        Some(state) => state.clone(),
        None => StateStore::in_memory().context("starting the history in memory")?,
    };
    let (store, messages) = (journal.clone(), deliveries.clone());
    supervisor.spawn(Stage::Api, "outbox", |cancel| checkpoints::run_outbox(store, messages, cancel));
    let (command_stored, stored) = watch::channel(checkpoints::Stored::default());
    let is_durable = state.is_some();
    let known = stored.clone();
    let stored_call: super::publishing::Stored = Arc::new(move |commands| {
        let stored = known.clone();
        Box::pin(async move { !is_durable || checkpoints::is_stored(stored, commands).await })
    });
    let publishing = Publishing::start(Ground {
        config: &config,
        state: state.clone(),
        supervisor: &supervisor,
        collect: super::publishing::collect(handle.clone(), stored_call.clone()),
    })
    .await;
    let (telling, mut to_tell) = mpsc::channel::<Vec<Told>>(HISTORY_PORTIONS);
    let keeper = publishing.clone();
    supervisor.spawn(Stage::Notifier, "what is told", |cancel| async move {
        loop {
            let told = tokio::select! {
                told = to_tell.recv() => told,
                () = cancel.cancelled() => to_tell.try_recv().ok(),
            };
            let Some(told) = told else { return };
            keeper.keep(&told).await;
            keeper.wake();
        }
    });
    let (checkpointing, history) = match &state {
        None => {
            let (portions, to_write) = mpsc::channel(HISTORY_PORTIONS);
            let task = write_history(journal.clone(), to_write);
            supervisor.spawn(Stage::Api, "history", |_| task);
            (None, Some(portions))
        }
        Some(state) => {
            let (writes, to_write) = mpsc::channel(1);
            let (acknowledge, written) = mpsc::channel(1);
            let task = checkpoints::run(state.clone(), publishing.clone(), to_write, acknowledge);
            supervisor.spawn(Stage::Api, "checkpoints", |_| task);
            let interval_ms = config.state.as_ref().map_or(1_000, |state| state.checkpoint_interval_ms);
            let checkpointing = Checkpointing::new(writes, written, interval_ms, command_stored, now);
            (Some(checkpointing), None)
        }
    };
    let mut exports =
        Exports::new(supervisor.clone(), handle.clone(), state.clone(), config.base_dir.clone(), stored_call);
    let (logs, export_statuses) = (exports.logs.clone(), exports.statuses.clone());
    exports.configure(&config).await;
    let probe_specs = core.engine.checks().probes();
    let task = CoreTask {
        core,
        queue: input,
        jobs,
        worker,
        finished,
        deliveries: deliveries.clone(),
        checkpointing,
        lines: Lines::default(),
        history,
        logs,
        held: Vec::new(),
        releasing: Vec::new(),
        told: Vec::new(),
        publishing: publishing.clone(),
        telling,
    };
    supervisor.spawn_apart(Stage::Core, "core", |cancel| task.run(cancel)).context("starting the core's thread")?;
    let delivering = deliveries.clone();
    supervisor.spawn(Stage::Notifier, "deliveries", |cancel| async move {
        let report = delivering.run(cancel, FLUSH).await;
        for (receiver, messages) in report.undelivered {
            tracing::warn!(receiver, messages, "messages were not delivered before the end");
        }
    });

    let client =
        crate::notify::plain_client().map_err(anyhow::Error::msg).context("building the HTTP client of the probes")?;
    let running = Sources::new(supervisor.clone(), sink.clone(), parts.plan.clone(), &config);
    let handle_of = |part: &crate::engine::SourcePart| {
        let limits = part.config.flow.rate_limit.map(|limit| Arc::new(RateLimits::new(part.name.clone(), &limit)));
        let pace = limits.map(|limits| Pace::new(limits, CancellationToken::new()));
        let sink = sink.with_overflow(part.config.flow.overflow()).with_pace(pace);
        MemorySource::new(part.name.clone(), part.decoder.clone(), running.plan.subscribe(), sink)
    };
    let memory = parts.sources.iter().filter(|part| part.kind == "memory");
    let memory = memory.map(|part| (part.name.clone(), handle_of(part))).collect();
    let dog = watch::Sender::new(config.watchdog.clone());
    let dog_status = watchdog::Status::default();
    let (known, pings, door, says) = (dog.subscribe(), client.clone(), handle.clone(), dog_status.clone());
    supervisor.spawn(Stage::Sources, "watchdog", |cancel| watchdog::run(known, pings, door, says, cancel));
    let reloader = Arc::new(Reloader {
        again,
        config: Mutex::new(config.clone()),
        core: handle.clone(),
        deliveries: deliveries.clone(),
        sources: Mutex::new(running),
        exports: Mutex::new(exports),
        watchdog: dog,
        probes: std::sync::Mutex::new(probes::start(probe_specs, &client, &handle, &supervisor)),
        client,
        supervisor: supervisor.clone(),
        backend: std::sync::OnceLock::new(),
        rules: std::sync::Mutex::new(texts(&config)),
        status: std::sync::Mutex::new(api::ReloadStatus { succeeded: true, at: now, error: String::new() }),
    });
    let readiness = Readiness::default();
    let closing = supervisor.token(Stage::Api).child_token();
    let backend = Backend::new(api::Parts {
        core: handle.clone(),
        identity: Identity {
            service: config.service.name.clone(),
            instance: config.service.instance.clone(),
            started: now,
        },
        addresses,
        limits: config.limits.clone(),
        push: push(&parts),
        sink,
        surroundings: Surroundings {
            outbox: Box::new({
                let deliveries = deliveries.clone();
                move || deliveries.status()
            }),
            reload_status: Box::new({
                let reloader = reloader.clone();
                move || reloader.status()
            }),
            deliveries: deliveries.clone(),
            history: journal,
            watchdog: Box::new(move || dog_status.get()),
            exports: Box::new(move || export_statuses.all().into_iter().chain(publishing.status()).collect()),
            self_metrics: Box::new(|| own.render()),
            stored: Box::new(move |commands| {
                let stored = stored.clone();
                Box::pin(async move { !is_durable || checkpoints::is_stored(stored, commands).await })
            }),
        },
        reload: Box::new({
            let (reloader, supervisor) = (reloader.clone(), supervisor.clone());
            move || {
                let (reloader, supervisor) = (reloader.clone(), supervisor.clone());
                Box::pin(async move {
                    let (answer, outcome) = oneshot::channel();
                    // A task of its own: whoever asked may go away in the middle of it.
                    supervisor.spawn(Stage::Sources, "reload", |cancel| async move {
                        if let Some(outcome) = cancel.run_until_cancelled(reloader.reload()).await {
                            let _ = answer.send(outcome);
                        }
                    });
                    outcome.await.unwrap_or_else(|_| Err("sidewatch is shutting down".into()))
                })
            }
        }),
        readiness: readiness.clone(),
        closing: closing.clone(),
    });
    reloader.set_backend(backend.clone());
    let (observe_router, ingest_router) = api::routers();
    for (name, listener, router, stage) in [
        ("observe listener", observe, observe_router, Stage::Api),
        ("ingest listener", ingest, ingest_router, Stage::Sources),
    ] {
        let backend = backend.clone();
        supervisor.spawn(stage, name, |cancel| async move {
            if let Err(error) = api::serve(listener, router, backend, async move { cancel.cancelled().await }).await {
                tracing::error!(%error, "the listener has ended");
            }
        });
    }
    let messages = deliveries.clone();
    let door = handle.clone();
    supervisor.spawn(Stage::Sources, "upkeep", |cancel| upkeep::run(own, handle, messages, cancel));
    reloader.start_sources(&parts, config.limits.event_bytes).await;
    if reloader.can_reload() {
        let reloader = reloader.clone();
        supervisor.spawn(Stage::Sources, "configuration", |cancel| super::watch::run(reloader, cancel));
    }
    tell(&door, Moment::Started { restored }).await;
    readiness.set_ready();
    tracing::info!(observe = %addresses.observe, ingest = %addresses.ingest, "ready");
    greet(Started { addresses, memory });

    let broken = wait(&supervisor, || reloader.reload(), &stop).await;
    let reason = broken.clone().unwrap_or_else(|| "asked to end".into());
    tell(&door, Moment::Stopping { reason }).await;
    readiness.set_stopping();
    let report = supervisor.drain(DRAIN).await;
    if let Some(state) = state
        && let Err(error) = state.close().await
    {
        tracing::error!(%error, "the state folder could not be closed cleanly");
    }
    end(broken, &report)
}

/// Something happened to sidewatch itself. An error means that the core has ended; there is nobody to tell.
pub(super) async fn tell(core: &CoreHandle<Core>, moment: Moment) {
    let _ = core.call(move |core, now| core.engine.moment(now, &moment)).await;
}

/// Waits for the end: a signal, the caller, or a task that broke. SIGHUP reloads, which keeps no end waiting.
async fn wait<R: Future>(supervisor: &Supervisor, reload: impl Fn() -> R, stop: &CancellationToken) -> Option<String> {
    use tokio::signal::unix::{SignalKind, signal};
    let signals = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()), signal(SignalKind::hangup()));
    let (Ok(mut terminate), Ok(mut interrupt), Ok(mut hangup)) = signals else {
        return Some("signals cannot be listened to".into());
    };
    let reloads = async {
        loop {
            hangup.recv().await;
            // What is wrong has been said in the log.
            reload().await;
        }
    };
    tokio::select! {
        _ = terminate.recv() => tracing::info!("asked to end (SIGTERM)"),
        _ = interrupt.recv() => tracing::info!("asked to end (SIGINT)"),
        () = stop.cancelled() => tracing::info!("asked to end"),
        panicked = supervisor.panicked() => {
            return Some(format!("the task {} broke: {}", panicked.task, panicked.message));
        }
        () = reloads => {}
    }
    None
}

fn end(broken: Option<String>, report: &DrainReport) -> Result<(), RunError> {
    for straggler in &report.stragglers {
        tracing::warn!(task = straggler, "did not end in time");
    }
    match broken {
        Some(message) => Err(RunError::Runtime(anyhow::anyhow!(message))),
        None => {
            tracing::info!("ended");
            Ok(())
        }
    }
}

async fn restore(
    state: &StateStore,
    core: &mut Core,
    outbox: &mut Outbox,
    now: Timestamp,
) -> Result<Option<Timestamp>, RunError> {
    let began = clock::instant();
    let checkpoints = state.load().await.context("reading the checkpoints")?;
    let count = checkpoints.len();
    let blobs: Vec<Vec<u8>> = checkpoints.into_iter().map(|checkpoint| checkpoint.blob).collect();
    let Some(restored) = core.restore(&blobs, now).context("restoring the last state")? else { return Ok(None) };
    // The outbox stands in the checkpoint with every decision, and by itself with every delivery after it.
    let limit = outbox.status().limit_messages;
    let mut by_itself = Outbox::new(limit, now.micros().unsigned_abs());
    if let Some(blob) = state.get(OUTBOX).await.context("reading the outbox")? {
        by_itself.restore(&blob, now).map_err(anyhow::Error::msg)?;
    }
    outbox.restore(&restored.outbox, now).map_err(anyhow::Error::msg)?;
    if by_itself.seen() >= outbox.seen() {
        *outbox = by_itself;
    }
    let took_ms = began.elapsed().as_millis() as u64;
    tracing::info!(checkpoints = count, as_of = %restored.at, took_ms, "going on from the last checkpoint");
    Ok(Some(restored.at))
}

async fn bind(name: &str, address: &str) -> Result<TcpListener, RunError> {
    let listener = TcpListener::bind(address).await.with_context(|| {
        format!("the {name} listener cannot be bound to {address}; is another sidewatch running? Choose another address with --listen-{name} or listen.{name}")
    })?;
    Ok(listener)
}

fn address(listener: &TcpListener) -> Result<SocketAddr, RunError> {
    Ok(listener.local_addr().context("asking a listener for its address")?)
}

/// Lines for people: a closed pipe must not end the sidecar.
fn print(lines: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(lines.as_bytes()).and_then(|()| out.flush());
}

fn external_url(config: &Config, observe: SocketAddr) -> String {
    match config.external_url.as_str() {
        "" if observe.ip().is_unspecified() => format!("http://localhost:{}", observe.port()),
        "" => format!("http://{observe}"),
        given => given.to_owned(),
    }
}

/// The sources that POST /events may name.
pub(super) fn push(parts: &Parts) -> Push {
    let http = parts.sources.iter().filter(|source| source.kind == "http");
    let pushed = |source: &crate::engine::SourcePart| PushSource {
        name: source.name.clone(),
        decoder: source.decoder.clone(),
        overflow: source.config.flow.overflow(),
        limits: source.config.flow.rate_limit.map(|limit| Arc::new(RateLimits::new(source.name.clone(), &limit))),
        ack_checkpoint: source.config.flow.ack_checkpoint,
    };
    let plain = |kind: &'static str| {
        parts
            .sources
            .iter()
            .filter(move |source| source.kind == kind && source.config.format == FormatConfig::default())
    };
    let otlp = plain("otlp").chain(plain("http")).next().map(pushed);
    Push { plan: parts.plan.clone(), sources: http.map(pushed).collect(), otlp }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_reload_that_hangs_keeps_no_end_waiting() {
        let (supervisor, stop, reloading) = (Supervisor::new(), CancellationToken::new(), CancellationToken::new());
        let reload = || async {
            reloading.cancel();
            std::future::pending::<()>().await;
        };
        let own = std::process::id().to_string();
        let ends = async {
            // Polled second: the signal is listened to.
            std::process::Command::new("kill").args(["-HUP", &own]).status().unwrap();
            reloading.cancelled().await;
            stop.cancel();
        };
        let both = async { tokio::join!(wait(&supervisor, reload, &stop), ends).0 };
        assert_eq!(tokio::time::timeout(Duration::from_secs(10), both).await, Ok(None));
    }
}
