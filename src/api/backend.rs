//! What the handlers stand on: the core's door and what is fixed for the life of the process.

use crate::model::Timestamp;
use std::fmt;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// Work for the core task: it runs between two inputs, with the whole core and the time.
pub type CoreJob<C> = Box<dyn FnOnce(&mut C, Timestamp) + Send>;

/// The core has ended, or has not answered within [`CALL_TIMEOUT`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the core does not answer")]
pub struct CoreGone;

/// How long a handler waits for the core.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// Calls that may wait for the core.
pub const CALLS: usize = 256;

/// Runs closures on the core task. Clones share one queue.
pub struct CoreHandle<C> {
    jobs: mpsc::Sender<CoreJob<C>>,
}

impl<C> Clone for CoreHandle<C> {
    fn clone(&self) -> Self {
        Self { jobs: self.jobs.clone() }
    }
}

impl<C> fmt::Debug for CoreHandle<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CoreHandle").field("waiting", &(self.jobs.max_capacity() - self.jobs.capacity())).finish()
    }
}

/// A handle and the queue that the core task empties.
pub fn core_channel<C>() -> (CoreHandle<C>, mpsc::Receiver<CoreJob<C>>) {
    let (jobs, queue) = mpsc::channel(CALLS);
    (CoreHandle { jobs }, queue)
}

impl<C: 'static> CoreHandle<C> {
    /// Runs `read` on the core task and gives its result. It must be bounded work: nothing else happens meanwhile.
    ///
    /// # Errors
    /// [`CoreGone`] when the core has ended or is busy for [`CALL_TIMEOUT`].
    pub async fn call<R: Send + 'static>(
        &self,
        read: impl FnOnce(&mut C, Timestamp) -> R + Send + 'static,
    ) -> Result<R, CoreGone> {
        let (give, result) = oneshot::channel();
        let job: CoreJob<C> = Box::new(move |core, now| {
            // What was given up, and answered so, is not done later.
            if !give.is_closed() {
                let _ = give.send(read(core, now));
            }
        });
        let call = async {
            self.jobs.send(job).await.map_err(|_| CoreGone)?;
            result.await.map_err(|_| CoreGone)
        };
        tokio::time::timeout(CALL_TIMEOUT, call).await.map_err(|_| CoreGone)?
    }

    /// As [`CoreHandle::call`], for what must not be done halfway: an error means that it has not been done, and never will
    /// be. Once it has begun it is waited for as long as it takes.
    ///
    /// # Errors
    /// [`CoreGone`] when the core has ended, or has not begun within [`CALL_TIMEOUT`].
    pub async fn change<R: Send + 'static>(
        &self,
        change: impl FnOnce(&mut C, Timestamp) -> R + Send + 'static,
    ) -> Result<R, CoreGone> {
        let ((begin, mut begun), (give, result)) = (oneshot::channel(), oneshot::channel());
        let job: CoreJob<C> = Box::new(move |core, now| {
            if begin.send(()).is_ok() {
                let _ = give.send(change(core, now));
            }
        });
        let begins = async {
            self.jobs.send(job).await.map_err(|_| CoreGone)?;
            (&mut begun).await.map_err(|_| CoreGone)
        };
        match tokio::time::timeout(CALL_TIMEOUT, begins).await {
            Ok(begins) => begins?,
            Err(_) => {
                // It may begin at this very moment: from here on it cannot, and whether it has is known.
                begun.close();
                begun.try_recv().map_err(|_| CoreGone)?;
            }
        }
        result.await.map_err(|_| CoreGone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_done_and_told_or_never_done() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let (handle, mut queue) = core_channel::<u32>();
            let mut state = 41;
            // Too busy to begin: refused, and not done when there is time.
            assert_eq!(handle.change(|state, _| *state += 1).await, Err(CoreGone));
            queue.recv().await.unwrap()(&mut state, Timestamp::EPOCH);
            assert_eq!(state, 41);
            // Begun in time and done late.
            let (change, _) = tokio::join!(handle.change(|state, _| *state += 1), async {
                let job = queue.recv().await.unwrap();
                job(&mut state, Timestamp::EPOCH);
                tokio::time::sleep(CALL_TIMEOUT * 2).await;
            });
            assert_eq!((change, state), (Ok(()), 42));
            drop(queue);
            assert_eq!(handle.change(|state, _| *state += 1).await, Err(CoreGone));
        });
    }

    #[test]
    fn a_call_runs_on_the_core_and_a_core_that_ended_is_gone() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (handle, mut queue) = core_channel::<u32>();
            let core = async {
                let mut state = 41;
                if let Some(job) = queue.recv().await {
                    job(&mut state, Timestamp::from_millis(7));
                }
                drop(queue);
                state
            };
            let call = handle.call(|state, now| {
                *state += 1;
                (*state, now.millis())
            });
            let (answer, state) = tokio::join!(call, core);
            assert_eq!((answer, state), (Ok((42, 7)), 42));
            assert_eq!(handle.call(|state, _| *state).await, Err(CoreGone));
        });
    }
}
