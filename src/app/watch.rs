//! Noticing that a configuration file was saved. Folders are watched, not files: editors and Kubernetes replace files.

use super::reload::Reloader;
use notify::{RecursiveMode, Watcher};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Editors write in several steps: look when they are done.
const SETTLE: Duration = Duration::from_millis(50);
/// Without an event a look is still taken this often (network file systems tell nothing).
const POLL: Duration = Duration::from_secs(5);

/// Reloads when the content of a file has changed.
pub(super) async fn run(reloader: Arc<Reloader>, cancel: CancellationToken) {
    let changed = Arc::new(Notify::new());
    let ring = changed.clone();
    // Our own reading rings as an access: only changes count.
    let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        if !event.is_ok_and(|event| event.kind.is_access()) {
            ring.notify_one();
        }
    });
    let mut watcher = match watcher {
        Ok(watcher) => Some(watcher),
        Err(error) => {
            tracing::warn!(%error, "folders cannot be watched; the configuration is looked at every 5 s");
            None
        }
    };
    let mut watched: Vec<PathBuf> = Vec::new();
    let mut known = contents(&reloader).await;
    loop {
        if let Some(watcher) = &mut watcher {
            for folder in reloader.folders().await {
                if !watched.contains(&folder) && watcher.watch(&folder, RecursiveMode::NonRecursive).is_ok() {
                    watched.push(folder);
                }
            }
        }
        tokio::select! {
            () = changed.notified() => tokio::time::sleep(SETTLE).await,
            () = tokio::time::sleep(POLL) => {}
            () = cancel.cancelled() => return,
        }
        let now = contents(&reloader).await;
        if now != known {
            known = now;
            // What is wrong has been said in the log, the metric and the API.
            if cancel.run_until_cancelled(reloader.reload()).await.is_none() {
                return;
            }
            // Files that the new configuration names are known from now on. What was saved meanwhile is not: it is read next.
            for (path, content) in contents(&reloader).await {
                known.entry(path).or_insert(content);
            }
        }
    }
}

/// What stands in the files; a file that cannot be read has no content.
async fn contents(reloader: &Reloader) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
    reloader.files().await.into_iter().map(|path| (path.clone(), std::fs::read(path).ok())).collect()
}
