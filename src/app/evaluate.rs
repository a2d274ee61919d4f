//! The evaluation worker: a thread that runs jobs on read views, so that evaluation never stalls ingest.

use crate::engine::{EvalJob, EvalResult};
use crate::promql::Options;
use crate::series::View;
use crate::telemetry::clock;
use std::panic::AssertUnwindSafe;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;
use tokio::sync::mpsc;

/// Jobs that may wait for the worker. A group has at most one on its way, so that this bounds only the first moment.
pub(super) const JOBS: usize = 4_096;
/// How long one job may take.
const JOB_TIMEOUT: Duration = Duration::from_secs(10);

/// A finished job.
#[derive(Debug)]
pub(super) enum Finished {
    /// With its result and how long it took.
    Done(EvalResult, Duration),
    /// It broke; the group is due again at its next slot.
    Broken(Box<EvalJob>),
}

/// The way to the worker, and what comes back from it.
pub(super) type Worker = (SyncSender<(EvalJob, View)>, mpsc::Receiver<Finished>);

/// Starts the thread. It ends when the sender is dropped.
pub(super) fn start(max_samples: usize) -> std::io::Result<Worker> {
    let (jobs, queue) = sync_channel::<(EvalJob, View)>(JOBS);
    let (results, finished) = mpsc::channel(JOBS);
    std::thread::Builder::new().name("evaluate".into()).spawn(move || serve(&queue, &results, max_samples))?;
    Ok((jobs, finished))
}

fn serve(queue: &Receiver<(EvalJob, View)>, results: &mpsc::Sender<Finished>, max_samples: usize) {
    while let Ok((job, view)) = queue.recv() {
        let began = clock::instant();
        let deadline = || began.elapsed() > JOB_TIMEOUT;
        let options = Options { max_samples, deadline: Some(&deadline), ..Options::default() };
        let outcome = std::panic::catch_unwind(AssertUnwindSafe(|| job.run(&view, &options)));
        let finished = match outcome {
            Ok(result) => Finished::Done(result, began.elapsed()),
            Err(_) => {
                tracing::error!(?job, "an evaluation broke; this is a bug of sidewatch, please report it");
                Finished::Broken(Box::new(job))
            }
        };
        if results.blocking_send(finished).is_err() {
            return;
        }
    }
}
