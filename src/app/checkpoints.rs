//! Writing checkpoints: one at a time, each acknowledged to the core task.

use crate::api::CALL_TIMEOUT;
use crate::model::Timestamp;
use crate::notify::Deliveries;
use crate::state::StateStore;
use crate::telemetry::{OnChange, clock, self_metrics};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

/// The name of the outbox's blob.
pub(super) const OUTBOX: &str = "outbox";

/// A checkpoint to be written.
#[derive(Debug)]
pub(super) struct Write {
    pub blob: Vec<u8>,
    pub full: bool,
    pub at: Timestamp,
    /// The highest input number that it stands for.
    pub number: u64,
    /// The commands of the API that it holds.
    pub commands: u64,
}

/// What became of it.
#[derive(Debug)]
pub(super) struct Written {
    pub number: u64,
    pub commands: u64,
    pub stored: bool,
}

/// How far the commands of the API are on disk.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Stored {
    /// A checkpoint that holds so many was tried.
    pub tried: u64,
    /// A checkpoint that holds so many was written.
    pub written: u64,
}

/// Waits for the checkpoint that holds so many commands. Returns whether it was written.
pub(super) async fn is_stored(mut stored: watch::Receiver<Stored>, commands: u64) -> bool {
    let tried = stored.wait_for(|stored| stored.tried >= commands);
    match tokio::time::timeout(CALL_TIMEOUT, tried).await {
        Ok(Ok(stored)) => stored.written >= commands,
        _ => false,
    }
}

/// The task: writes until the core task is gone.
pub(super) async fn run(state: StateStore, mut writes: mpsc::Receiver<Write>, written: mpsc::Sender<Written>) {
    let failing = OnChange::new(false);
    while let Some(Write { blob, full, at, number, commands }) = writes.recv().await {
        let began = clock::instant();
        let outcome = if full { state.compact(blob, at).await } else { state.append_checkpoint(blob, at).await };
        self_metrics::checkpoint_seconds().record(began.elapsed().as_secs_f64());
        let stored = outcome.is_ok();
        match outcome {
            Ok(_) => {
                if failing.set(false) {
                    tracing::info!("checkpoints are written again");
                }
            }
            Err(error) => {
                self_metrics::checkpoint_failures().increment(1);
                if failing.set(true) {
                    tracing::error!(%error, "the checkpoint cannot be written; alerts still go out, a restart would lose what came since");
                }
            }
        }
        if written.send(Written { number, commands, stored }).await.is_err() {
            return;
        }
    }
}

/// Keeps the outbox on disk as it changes.
pub(super) async fn run_outbox(state: StateStore, deliveries: Deliveries, cancel: CancellationToken) {
    let mut stored = 0;
    loop {
        let (revision, blob) = deliveries.snapshot();
        if revision != stored {
            // A failure is counted and said by the checkpoints, which use the same disk.
            if state.put(OUTBOX, blob).await.is_ok() {
                stored = revision;
            }
        }
        tokio::select! {
            () = deliveries.changed() => {}
            () = cancel.cancelled() => break,
        }
    }
    let (_, blob) = deliveries.snapshot();
    if let Err(error) = state.put(OUTBOX, blob).await {
        tracing::error!(%error, "the outbox could not be written at the end");
    }
}
