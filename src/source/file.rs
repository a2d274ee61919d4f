//! A file that grows: read from a stored position, rotation by rename and by copy-and-truncate followed.
//!
//! [`Tail`] (in `tail`) is synchronous and is given the time; this file is the thin shell that runs it on a blocking
//! thread, wakes it and delivers what it reads.

mod position;
mod tail;

use super::decode::Framing;
use super::standing::Standing;
use super::{RETRY, SourceContext};
use crate::telemetry::{clock, self_metrics};
use notify::{RecursiveMode, Watcher};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tail::{Step, Tail};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// How often to look without being told of a change: some file systems (NFS, FUSE, overlay) tell nothing.
const POLL: Duration = Duration::from_millis(250);
/// After being told of a change, at most so often: a busy writer changes the file thousands of times a second.
const SETTLE: Duration = Duration::from_millis(5);
/// Further behind than this is catching up.
const BEHIND_BYTES: u64 = 8 << 20;

pub(super) async fn run(context: &SourceContext, path: &Path, from_end: bool, cancel: &CancellationToken) {
    let changed = Arc::new(Notify::new());
    let _watcher = watch(path, &changed);
    let received = self_metrics::source_received_bytes(&context.name);
    let behind_gauge = self_metrics::source_behind(&context.name);
    let mut tail = Tail::new(path.to_path_buf(), from_end, context.event_bytes, context.position.as_deref());
    let mut standing = Standing::new(context);
    while !cancel.is_cancelled() {
        let now_ms = clock::now().millis();
        let stepped = tokio::task::spawn_blocking(move || {
            let step = tail.step(now_ms);
            (tail, step)
        });
        let step = match stepped.await {
            Ok((returned, step)) => {
                tail = returned;
                step
            }
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            // The runtime is ending.
            Err(_) => return,
        };
        for reset in tail.take_resets() {
            self_metrics::source_file_resets(&context.name, reset.reason()).increment(1);
            tracing::info!(source = %context.name, path = %path.display(), reason = reset.reason(), "{}", reset.text());
        }
        let pause = match step {
            Ok(Step::Lines(block)) => {
                received.increment(block.lines.len() as u64);
                let behind = block.behind_bytes;
                standing.connected(if behind > BEHIND_BYTES { behind } else { 0 }).await;
                behind_gauge.set(behind as f64);
                if !context.deliver(block.lines, Framing::Lines, block.oversized, Some(block.position)).await {
                    return;
                }
                continue;
            }
            Ok(Step::Again) => continue,
            Ok(Step::Idle) => {
                standing.connected(0).await;
                POLL
            }
            Ok(Step::Missing) => {
                standing.lost(format!("{}: the file does not exist yet", path.display())).await;
                POLL
            }
            Ok(Step::Gone) => {
                standing.lost(format!("{}: the file is gone", path.display())).await;
                POLL
            }
            Err(error) => {
                standing.lost(format!("{}: {error}", path.display())).await;
                RETRY
            }
        };
        if !standing.is_up() {
            behind_gauge.set(0.0);
        }
        tokio::select! {
            () = cancel.cancelled() => {}
            () = tokio::time::sleep(pause) => {}
            () = changed.notified() => tokio::time::sleep(SETTLE).await,
        }
    }
}

/// Asks to be woken when something happens to the file. `None` where the system cannot: polling is enough.
fn watch(path: &Path, changed: &Arc<Notify>) -> Option<notify::RecommendedWatcher> {
    let name = path.file_name()?.to_os_string();
    let changed = Arc::clone(changed);
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        let ours = |path: &PathBuf| path.file_name() == Some(&name);
        // Reading is an event as well, and our own.
        if event.is_ok_and(|event| !event.kind.is_access() && event.paths.iter().any(ours)) {
            changed.notify_one();
        }
    })
    .ok()?;
    // The folder, not the file: rotation replaces the file.
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    watcher.watch(folder, RecursiveMode::NonRecursive).ok()?;
    Some(watcher)
}
