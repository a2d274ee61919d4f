//! Writing checkpoints: one at a time, each acknowledged to the core task.

use super::history::{self, Line};
use crate::api::CALL_TIMEOUT;
use crate::engine::Told;
use crate::export::Publishing;
use crate::model::Timestamp;
use crate::notify::{Deliveries, Record};
use crate::state::{HistoryEntry, StateError, StateStore};
use crate::telemetry::{OnChange, clock, self_metrics};
use std::time::Duration;
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
    /// How long building it took.
    pub built: Duration,
    /// The highest input number that it stands for.
    pub number: u64,
    /// What happened since the last one.
    pub lines: Vec<Line>,
    /// What became of messages that the outbox in it holds no more, and the number to acknowledge it with.
    pub records: (u64, Vec<Record>),
    /// The commands of the API that it holds.
    pub commands: u64,
    /// What is to be published.
    pub told: Vec<Told>,
}

/// What became of it.
#[derive(Debug)]
pub(super) struct Written {
    pub number: u64,
    pub commands: u64,
    pub stored: bool,
    /// How long building and writing it took.
    pub took: Duration,
    /// The last record of the outbox that is written with it.
    pub records: u64,
    /// The lines that are not written, because it was not stored.
    pub unwritten: Vec<HistoryEntry>,
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
pub(super) async fn run(
    state: StateStore,
    publishing: Publishing,
    mut writes: mpsc::Receiver<Write>,
    written: mpsc::Sender<Written>,
) {
    let failing = OnChange::new(false);
    while let Some(write) = writes.recv().await {
        let Write { blob, full, at, built, number, commands, lines, records: (records, made), told } = write;
        // Before the checkpoint: a kill in between tells twice, never not at all.
        publishing.keep(&told).await;
        let began = clock::instant();
        let lines: Vec<HistoryEntry> = lines.into_iter().map(Line::entry).collect();
        let mut history = lines.clone();
        history.extend(history::entries(made));
        let outcome = state.checkpoint(full, blob, at, history).await;
        let writing = began.elapsed();
        self_metrics::checkpoint_seconds().record(writing.as_secs_f64());
        publishing.wake();
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
        let unwritten = if stored { Vec::new() } else { lines };
        let took = built + writing;
        if written.send(Written { number, commands, stored, took, records, unwritten }).await.is_err() {
            return;
        }
    }
}

/// Keeps the outbox on disk as it changes, with what became of its messages. Without `state:` only the latter is kept.
pub(super) async fn run_outbox(state: StateStore, deliveries: Deliveries, cancel: CancellationToken) {
    let mut stored = 0;
    loop {
        // A failure is counted and said by the checkpoints, which use the same disk; the next change tries again.
        let _ = store_outbox(&state, &deliveries, &mut stored).await;
        tokio::select! {
            () = deliveries.changed() => {}
            () = cancel.cancelled() => break,
        }
    }
    if let Err(error) = store_outbox(&state, &deliveries, &mut stored).await {
        tracing::error!(%error, "the outbox could not be written at the end");
    }
}

async fn store_outbox(state: &StateStore, deliveries: &Deliveries, stored: &mut u64) -> Result<(), StateError> {
    if !state.is_persistent() {
        let (number, records) = deliveries.records();
        if !records.is_empty() {
            state.append_history(history::entries(records)).await?;
            deliveries.records_written(number);
        }
        return Ok(());
    }
    let (revision, blob, number, records) = deliveries.snapshot_with_records();
    if revision != *stored || !records.is_empty() {
        state.write_with_history(vec![(OUTBOX.into(), Some(blob))], history::entries(records)).await?;
        *stored = revision;
        deliveries.records_written(number);
    }
    Ok(())
}
