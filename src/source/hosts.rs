//! Hosts files (hosts(5)) and folders of them, watched: what changes between two looks is told, record by record.
//!
//! The system's notices make it quick; looking again at a fixed interval makes it sure, where notices are missing (network
//! file systems) or lie (folders that Kubernetes swaps by a link). What is known stands in the position: after a restart
//! only what changed meanwhile is told.

mod changes;
mod parse;
mod scan;

use super::SourceContext;
use super::message::Messages;
use super::standing::Standing;
use crate::config::schema::HostsConfig;
use crate::model::Timestamp;
use crate::telemetry::{clock, self_metrics};
use changes::{Change, Known};
use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use scan::Scanner;
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Events of one batch.
const BATCH: usize = 1_000;
/// Whoever writes a file writes it in pieces: so long after the first notice it is read.
const SETTLE: Duration = Duration::from_millis(50);

/// Runs until cancelled.
pub(super) async fn run(context: &SourceContext, config: &HostsConfig, cancel: &CancellationToken) {
    let paths: Vec<PathBuf> = config.paths.iter().map(|path| context.path(&path.value)).collect();
    let poll = Duration::from_millis(config.poll_ms.unsigned_abs());
    let connected = self_metrics::source_connected(&context.name);
    let mut standing = Standing::new(context);
    let mut teller = Teller {
        context,
        messages: Messages::new(context.event_bytes),
        known: Known::decode(context.position.as_deref()),
        number: 0,
    };
    // One notice that has not been looked at stands for all.
    let (notice, mut noticed) = mpsc::channel(1);
    let watcher = watch(context, &paths, notice);
    let mut scanner = Scanner::new(paths);
    loop {
        let looking = tokio::task::spawn_blocking(move || {
            let found = scanner.look();
            (scanner, found)
        });
        let found = match looking.await {
            Ok((back, found)) => {
                scanner = back;
                found
            }
            Err(error) => {
                tracing::error!(source = %context.name, %error, "hosts files can no longer be looked at");
                standing.lost(error.to_string()).await;
                return;
            }
        };
        if found.readable || found.errors.is_empty() {
            if !standing.is_up() {
                connected.increment(1);
            }
            standing.connected(0).await;
        } else {
            let reasons: Vec<&str> = found.errors.values().map(|error| error.message.as_str()).collect();
            standing.lost(reasons.join("; ")).await;
        }
        if !teller.tell(found).await {
            return;
        }
        tokio::select! {
            () = cancel.cancelled() => break,
            () = tokio::time::sleep(poll) => {}
            Some(()) = noticed.recv() => {
                tokio::select! {
                    () = cancel.cancelled() => break,
                    () = tokio::time::sleep(SETTLE) => {}
                }
            }
        }
        while noticed.try_recv().is_ok() {}
    }
    drop(watcher);
}

/// Asks the system for notices; `None` when it gives none, which is said and then made up for by looking.
fn watch(context: &SourceContext, paths: &[PathBuf], notice: mpsc::Sender<()>) -> Option<RecommendedWatcher> {
    let handler = move |event: notify::Result<notify::Event>| {
        // Our own reading is no change.
        if event.is_ok_and(|event| !event.kind.is_access()) {
            // A full channel holds a notice already.
            let _ = notice.try_send(());
        }
    };
    let result = notify::recommended_watcher(handler).and_then(|mut watcher| {
        for path in paths {
            // A file is replaced as often as it is written: its folder tells of both. A folder that is not there yet is
            // found by looking.
            let folder = if path.is_dir() { Some(path.as_path()) } else { path.parent() };
            if let Some(folder) = folder.filter(|folder| folder.is_dir()) {
                watcher.watch(folder, RecursiveMode::NonRecursive)?;
            }
        }
        Ok(watcher)
    });
    match result {
        Ok(watcher) => Some(watcher),
        Err(error) => {
            tracing::info!(source = %context.name, %error, "the system gives no notice of changes; the files are looked at again and again instead");
            None
        }
    }
}

struct Teller<'a> {
    context: &'a SourceContext,
    messages: Messages,
    known: Known,
    /// Of the last event, so that each has an id of its own.
    number: u64,
}

impl Teller<'_> {
    /// Tells what is different from what is known. `false` when the core has ended.
    async fn tell(&mut self, found: scan::Found) -> bool {
        // What stands there when nothing is known yet did not change now.
        let first = self.known.is_new();
        let now = clock::now();
        let changes = self.known.changes(found);
        for change in changes {
            self.push(&change, first, now);
            self.known.apply(change);
            if self.messages.len() >= BATCH && !self.deliver().await {
                return false;
            }
        }
        if first && self.known.begin() {
            return self.deliver().await;
        }
        self.messages.is_empty() || self.deliver().await
    }

    fn push(&mut self, change: &Change, first: bool, now: Timestamp) {
        if let Change::Bad { file, bad, .. } = change {
            let message = format!("{file}:{}: {}", bad.line, bad.message());
            self.messages.refuse(bad.reason, message);
        }
        self.number += 1;
        let id = format!("{}-{}", now.micros(), self.number);
        if let Some(event) = change.json(&id, now, first) {
            self.messages.push(event.as_bytes(), None);
        }
    }

    async fn deliver(&mut self) -> bool {
        self_metrics::source_messages(&self.context.name).increment(self.messages.len() as u64);
        let position = self.known.encode();
        self.context.deliver_messages(&mut self.messages, Some(position)).await.is_some()
    }
}
