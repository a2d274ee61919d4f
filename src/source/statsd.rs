//! StatsD and DogStatsD: lines in UDP datagrams, in datagrams of a unix socket, and over TCP.
//!
//! A line becomes a change of a counter, gauge, histogram or set without being an event: sources count themselves (see
//! [`super::counts`]). DogStatsD's events and service checks become events of the stream. Names, tags and the mapping file
//! are read as statsd_exporter reads them.
//!
//! A socket is emptied without waiting, then handed over as one batch. While the core's queue is full nothing is read: TCP and unix senders wait, and of
//! UDP the kernel drops what its buffer cannot hold, which it counts and we show.

mod datagrams;
mod drops;
mod event;
pub mod line;
mod lines;
mod mapping;
mod names;
#[cfg(test)]
mod tests;

pub use lines::Lines;

use super::lines::LineBuffer;
use super::message::Messages;
use super::{BLOCK_BYTES, Ingest, RETRY, SourceContext, SourceState, set_keepalive};
use crate::config::schema::StatsdConfig;
use crate::telemetry::{OnChange, clock, self_metrics};
use datagrams::{Pace, udp_socket, unix_socket};
use drops::KernelDrops;
use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, Semaphore};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// One line of the log for each reason in so much time.
const SAY: Duration = Duration::from_secs(60);
/// Open connections.
const CONNECTIONS: usize = 256;

/// The promise, for `sidewatch check`.
pub(super) fn guarantee(config: &StatsdConfig) -> String {
    let mut parts = Vec::new();
    if config.udp.is_some() {
        parts.push("UDP at most once: what the kernel drops is counted in sidewatch_source_gaps_total");
    }
    if config.unixgram.is_some() {
        parts.push("unix datagrams read on only when queued");
    }
    if config.tcp.is_some() {
        parts.push("TCP read on only when queued");
    }
    parts.push("a kill may lose what the last checkpoint did not hold");
    parts.join("; ")
}

/// What all listeners of a source share.
struct Intake {
    context: SourceContext,
    /// Held while a batch is read and handed over, so that batches reach the core in the order of their numbers.
    lines: Mutex<Lines>,
    said: std::sync::Mutex<BTreeMap<&'static str, Instant>>,
}

/// Listens until cancelled.
pub(super) async fn run(context: &SourceContext, config: &StatsdConfig, cancel: &CancellationToken) {
    let lines = Mutex::new(Lines::new(context.name.clone(), config.clone(), context.event_bytes));
    let intake = Arc::new(Intake { context: context.clone(), lines, said: std::sync::Mutex::default() });
    let listeners =
        [config.udp.is_some(), config.unixgram.is_some(), config.tcp.is_some()].iter().filter(|given| **given).count();
    let standing = Arc::new(Standing { waiting: std::sync::Mutex::new((listeners, BTreeMap::new())) });
    let mut tasks = JoinSet::new();
    if let Some(address) = config.udp.clone() {
        let (intake, standing, cancel, bytes) =
            (intake.clone(), standing.clone(), cancel.clone(), config.receive_buffer);
        tasks.spawn(async move { intake.udp(&address.value, bytes, &standing, &cancel).await });
    }
    if let Some(path) = config.unixgram.clone() {
        let (intake, standing, cancel) = (intake.clone(), standing.clone(), cancel.clone());
        let path = context.path(&path.value);
        tasks.spawn(async move { intake.unixgram(&path, &standing, &cancel).await });
    }
    if let Some(address) = config.tcp.clone() {
        let (intake, standing, cancel) = (intake.clone(), standing.clone(), cancel.clone());
        tasks.spawn(async move { intake.tcp(&address.value, &standing, &cancel).await });
    }
    while tasks.join_next().await.is_some() {}
}

/// How the listeners stand together.
struct Standing {
    /// How many have not been bound yet, and why each that could not be.
    waiting: std::sync::Mutex<(usize, BTreeMap<String, String>)>,
}

impl Standing {
    async fn failed(&self, context: &SourceContext, address: &str, reason: &str) {
        let state = {
            let mut waiting = self.waiting.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            waiting.1.insert(address.to_owned(), reason.to_owned());
            let reason = waiting.1.values().map(String::as_str).collect::<Vec<_>>().join("; ");
            SourceState::Lost { reason }
        };
        context.report(state).await;
    }

    async fn bound(&self, context: &SourceContext, address: &str) {
        let state = {
            let mut waiting = self.waiting.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            waiting.0 = waiting.0.saturating_sub(1);
            waiting.1.remove(address);
            if waiting.0 > 0 {
                return;
            }
            SourceState::Connected
        };
        context.report(state).await;
    }
}

/// Binds, again and again until it works; `None` when cancelled before.
async fn bind<T, B: Future<Output = io::Result<T>>>(
    context: &SourceContext,
    address: &str,
    standing: &Standing,
    cancel: &CancellationToken,
    attempt: impl Fn() -> B,
) -> Option<T> {
    let said = OnChange::new(None);
    loop {
        match attempt().await {
            Ok(socket) => {
                standing.bound(context, address).await;
                return Some(socket);
            }
            Err(error) => {
                let reason = format!("cannot listen on {address}: {error}");
                if said.set(Some(reason.clone())) {
                    tracing::warn!(source = %context.name, %reason, "trying again until it works");
                    standing.failed(context, address, &reason).await;
                }
            }
        }
        tokio::select! {
            () = tokio::time::sleep(RETRY) => {}
            () = cancel.cancelled() => return None,
        }
    }
}

impl Intake {
    async fn udp(&self, address: &str, bytes: usize, standing: &Standing, cancel: &CancellationToken) {
        let context = &self.context;
        let bound = bind(context, address, standing, cancel, || udp_socket(address, bytes)).await;
        let Some(socket) = bound else { return };
        let granted = socket2::SockRef::from(&socket).recv_buffer_size().unwrap_or(0);
        let local = socket.local_addr().map_or_else(|_| address.to_owned(), |local| local.to_string());
        tracing::info!(source = %context.name, address = %local, receive_buffer_bytes = granted, "listening for StatsD datagrams");
        let drops = KernelDrops::new(&socket, &context.name);
        self.datagrams(socket, Pace::new(granted), drops, cancel).await;
    }

    async fn unixgram(&self, path: &Path, standing: &Standing, cancel: &CancellationToken) {
        let shown = path.display().to_string();
        let bound = bind(&self.context, &shown, standing, cancel, || unix_socket(path)).await;
        let Some(socket) = bound else { return };
        tracing::info!(source = %self.context.name, path = %shown, "listening for StatsD datagrams");
        // A unix socket drops nothing: its senders wait, or are told. It holds a few datagrams only, so that any pause of
        // ours would be theirs.
        self.datagrams(socket, Pace::none(), None, cancel).await;
        // Only a leftover for the next start, which replaces it.
        let _ = tokio::fs::remove_file(path).await;
    }

    async fn tcp(self: &Arc<Self>, address: &str, standing: &Standing, cancel: &CancellationToken) {
        let context = &self.context;
        let bound = bind(context, address, standing, cancel, || TcpListener::bind(address)).await;
        let Some(listener) = bound else { return };
        let local = listener.local_addr().map_or_else(|_| address.to_owned(), |local| local.to_string());
        tracing::info!(source = %context.name, address = %local, "listening for StatsD connections");
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        let open = self_metrics::source_connections(&context.name);
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                Some(_) = connections.join_next() => continue,
                () = cancel.cancelled() => break,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(source = %context.name, %error, "a connection could not be accepted");
                    self_metrics::source_connections_refused(&context.name, "accept_failed").increment(1);
                    tokio::time::sleep(RETRY).await;
                    continue;
                }
            };
            let Ok(place) = places.clone().try_acquire_owned() else {
                self_metrics::source_connections_refused(&context.name, "too_many").increment(1);
                continue;
            };
            let (intake, cancel, open) = (self.clone(), cancel.clone(), open.clone());
            connections.spawn(async move {
                open.increment(1.0);
                intake.connection(stream, &cancel).await;
                open.decrement(1.0);
                drop(place);
            });
        }
        while connections.join_next().await.is_some() {}
    }

    async fn connection(&self, mut stream: TcpStream, cancel: &CancellationToken) {
        // Without it a host that vanished keeps its place.
        let _ = set_keepalive(&stream);
        let received = self_metrics::source_received_bytes(&self.context.name);
        let mut held = LineBuffer::new(self.context.event_bytes);
        let mut block = vec![0; BLOCK_BYTES];
        loop {
            let read = tokio::select! {
                read = stream.read(&mut block) => read,
                () = cancel.cancelled() => return,
            };
            // A reset is the end of a stream like any other; what came whole is kept.
            let count = read.unwrap_or(0);
            received.increment(count as u64);
            let bytes = if count == 0 { held.finish() } else { held.push(&block[..count]) };
            let oversized = held.take_oversized();
            if !bytes.is_empty() || oversized > 0 {
                let mut lines = self.lines.lock().await;
                lines.read(&bytes);
                if oversized > 0 {
                    lines.oversized(oversized);
                }
                if !self.hand_over(&mut lines).await {
                    return;
                }
            }
            if count == 0 {
                return;
            }
        }
    }

    /// Hands over what was read; waits while the queue is full. `false` when the core has ended.
    async fn hand_over(&self, lines: &mut Lines) -> bool {
        let context = &self.context;
        for (reason, line) in lines.examples() {
            let now = clock::instant();
            let mut said = self.said.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            if said.get(reason).is_none_or(|last| now.duration_since(*last) >= SAY) {
                said.insert(reason, now);
                tracing::warn!(source = %context.name, reason, line = %line, "a StatsD line, or a part of it, was not taken");
            }
        }
        let (batches, events) = lines.take();
        for batch in batches {
            if context.sink.send(Ingest::Counts(Box::new(batch))).await.is_err() {
                return false;
            }
        }
        if events.is_empty() {
            return true;
        }
        let mut messages = Messages::new(context.event_bytes);
        events.iter().for_each(|event| messages.push(event.as_bytes(), None));
        context.deliver_messages(&mut messages, None).await.is_some()
    }
}
