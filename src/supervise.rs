//! Named tasks: who runs, who panicked, who did not end in time.
//!
//! This is the only place that calls `tokio::spawn`. Shutdown flows downstream: each [`Stage`] is cancelled only after
//! every task of the stage before it has ended, so that what a source has accepted still reaches the core, and what the
//! core has published still reaches the receivers. The deadline is one for all stages, and each stage keeps a share of it
//! for those that follow, so that a source that hangs cannot take the notifier's time to flush.

use crate::telemetry::logging::panic_message;
use futures_util::FutureExt;
use std::collections::BTreeMap;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// The order of shutdown, first to stop first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// Whatever takes input: sources, the ingest listener, file watches, probes.
    Sources,
    /// The core task and its evaluation worker.
    Core,
    /// The notifier and the receivers' workers.
    Notifier,
    /// The observe listener, upkeep, state: last, so that the drain itself can be watched.
    Api,
}

impl Stage {
    /// Every stage in the order of shutdown.
    pub const ALL: [Self; 4] = [Self::Sources, Self::Core, Self::Notifier, Self::Api];

    /// The name in logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sources => "sources",
            Self::Core => "core",
            Self::Notifier => "notifier",
            Self::Api => "api",
        }
    }
}

/// A task that panicked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Panicked {
    /// The task's name.
    pub task: Arc<str>,
    /// What the panic said.
    pub message: String,
}

/// How a drain went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DrainReport {
    /// Tasks that had not ended when their stage's time was up, as `stage: name`; they were aborted.
    pub stragglers: Vec<String>,
    /// Tasks that panicked since the start.
    pub panicked: Vec<Panicked>,
}

impl DrainReport {
    /// Whether every task ended in time and none panicked.
    pub fn is_clean(&self) -> bool {
        self.stragglers.is_empty() && self.panicked.is_empty()
    }
}

/// Spawns named tasks and ends them in order. Clones share the tasks.
#[derive(Clone)]
pub struct Supervisor {
    shared: Arc<Shared>,
}

struct Shared {
    /// One token a stage; cancelling the first never cancels the second.
    tokens: [CancellationToken; Stage::ALL.len()],
    /// Held for an insertion, a removal or a listing; never across an await.
    tasks: Mutex<Tasks>,
    /// Counts changes of `tasks`, so that a drain can wait for the next one.
    changes: watch::Sender<u64>,
}

#[derive(Default)]
struct Tasks {
    next_id: u64,
    running: BTreeMap<u64, Running>,
    panicked: Vec<Panicked>,
}

struct Running {
    stage: Stage,
    name: Arc<str>,
    abort: CancellationToken,
}

/// A task on the list that does not run yet.
struct Registered {
    handle: TaskHandle,
    guard: EndGuard,
}

/// One task: to cancel it alone and to wait for its end. Dropping the handle leaves the task running.
#[derive(Clone, Debug)]
pub struct TaskHandle {
    name: Arc<str>,
    cancel: CancellationToken,
    abort: CancellationToken,
    ended: watch::Receiver<bool>,
}

impl TaskHandle {
    /// The task's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Asks the task to end; it sees its token cancelled.
    pub fn cancel(&self) {
        self.cancel.cancel();
    }

    /// Drops the task where it stands, at its next await.
    pub fn abort(&self) {
        self.abort.cancel();
    }

    /// Whether the task has ended, by itself or by a panic.
    pub fn has_ended(&self) -> bool {
        *self.ended.borrow()
    }

    /// Waits for the end of the task.
    pub async fn ended(&mut self) {
        // An error means that the sender is gone, which is an end as well.
        let _ = self.ended.wait_for(|ended| *ended).await;
    }

    /// Cancels the task and waits for its end, at most `deadline`. `false` when it still runs.
    pub async fn stop(&mut self, deadline: Duration) -> bool {
        self.cancel();
        tokio::time::timeout(deadline, self.ended()).await.is_ok()
    }
}

impl Default for Supervisor {
    fn default() -> Self {
        Self::new()
    }
}

impl Supervisor {
    /// No task yet.
    pub fn new() -> Self {
        Self {
            shared: Arc::new(Shared {
                tokens: std::array::from_fn(|_| CancellationToken::new()),
                tasks: Mutex::default(),
                changes: watch::Sender::new(0),
            }),
        }
    }

    /// The token of a stage: cancelled when the stage's turn to stop has come.
    pub fn token(&self, stage: Stage) -> CancellationToken {
        self.shared.tokens[stage as usize].clone()
    }

    /// Runs a task that is given its own token, a child of its stage's. A task spawned while its stage is already
    /// stopping runs with a cancelled token. Must be called within a tokio runtime.
    pub fn spawn<F>(
        &self,
        stage: Stage,
        name: impl Into<Arc<str>>,
        task: impl FnOnce(CancellationToken) -> F,
    ) -> TaskHandle
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let Registered { handle, guard } = self.register(stage, name.into());
        let running = guarded(task(handle.cancel.clone()), guard, handle.clone());
        #[expect(
            clippy::disallowed_methods,
            reason = "this is the one place where tasks are spawned, with their names"
        )]
        tokio::spawn(running);
        handle
    }

    /// Runs a task as [`Supervisor::spawn`] does, but on a thread of its own: it keeps no other task waiting, whatever it
    /// has to do, and none keeps it waiting. Only timers run there; it must not spawn tasks.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn spawn_apart<F>(
        &self,
        stage: Stage,
        name: &'static str,
        task: impl FnOnce(CancellationToken) -> F,
    ) -> std::io::Result<TaskHandle>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let Registered { handle, guard } = self.register(stage, name.into());
        let running = guarded(task(handle.cancel.clone()), guard, handle.clone());
        // Made and dropped on its own thread: it must not be dropped within another runtime.
        let (tell, made) = std::sync::mpsc::sync_channel(1);
        std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            match tokio::runtime::Builder::new_current_thread().enable_time().build() {
                Ok(runtime) => {
                    drop(tell.send(Ok(())));
                    runtime.block_on(running);
                }
                Err(error) => drop(tell.send(Err(error))),
            }
        })?;
        made.recv().unwrap_or_else(|_| Err(std::io::Error::other("the thread ended at once")))?;
        Ok(handle)
    }

    fn register(&self, stage: Stage, name: Arc<str>) -> Registered {
        let cancel = self.shared.tokens[stage as usize].child_token();
        let (abort, (ended_sender, ended)) = (CancellationToken::new(), watch::channel(false));
        let id = {
            let mut tasks = self.shared.tasks();
            tasks.next_id += 1;
            let id = tasks.next_id;
            tasks.running.insert(id, Running { stage, name: Arc::clone(&name), abort: abort.clone() });
            id
        };
        let guard = EndGuard { shared: Arc::clone(&self.shared), id, ended: ended_sender };
        Registered { handle: TaskHandle { name, cancel, abort, ended }, guard }
    }

    /// The names of the running tasks of a stage.
    pub fn running(&self, stage: Stage) -> Vec<Arc<str>> {
        let tasks = self.shared.tasks();
        tasks.running.values().filter(|task| task.stage == stage).map(|task| Arc::clone(&task.name)).collect()
    }

    /// Waits until some task has panicked (or returns the first that did). A service whose core is gone must end and
    /// be restarted rather than look alive.
    pub async fn panicked(&self) -> Panicked {
        let mut changes = self.shared.changes.subscribe();
        loop {
            changes.mark_unchanged();
            if let Some(first) = self.shared.tasks().panicked.first() {
                return first.clone();
            }
            // `self` holds the sender, so that this cannot fail while we wait.
            let _ = changes.changed().await;
        }
    }

    /// Stops everything, stage after stage, within `deadline`; names and aborts the tasks that do not end.
    ///
    /// A stage may use what is left of the deadline but for a tenth of the whole for each stage that follows.
    pub async fn drain(&self, deadline: Duration) -> DrainReport {
        let mut stragglers = Vec::new();
        let end = tokio::time::Instant::now() + deadline;
        for stage in Stage::ALL {
            self.shared.tokens[stage as usize].cancel();
            let later = (Stage::ALL.len() - 1 - stage as usize) as u32;
            let stage_end = end.checked_sub(deadline / 10 * later).unwrap_or(end);
            if tokio::time::timeout_at(stage_end, self.stage_ended(stage)).await.is_err() {
                for name in self.abort(stage) {
                    tracing::warn!(stage = stage.name(), task = &*name, "task did not end in time; aborted");
                    stragglers.push(format!("{}: {name}", stage.name()));
                }
            }
        }
        DrainReport { stragglers, panicked: self.shared.tasks().panicked.clone() }
    }

    async fn stage_ended(&self, stage: Stage) {
        let mut changes = self.shared.changes.subscribe();
        loop {
            changes.mark_unchanged();
            if !self.shared.tasks().running.values().any(|task| task.stage == stage) {
                return;
            }
            let _ = changes.changed().await;
        }
    }

    /// Aborts what still runs in a stage and returns the names.
    fn abort(&self, stage: Stage) -> Vec<Arc<str>> {
        let tasks = self.shared.tasks();
        tasks
            .running
            .values()
            .filter(|task| task.stage == stage)
            .map(|task| {
                task.abort.cancel();
                Arc::clone(&task.name)
            })
            .collect()
    }
}

impl Shared {
    fn tasks(&self) -> MutexGuard<'_, Tasks> {
        // Nothing under the lock can leave the map half changed, so that a poisoned lock is as good as any.
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs a task to its end, or until it is aborted; a panic is noted with its name.
async fn guarded(task: impl Future<Output = ()>, guard: EndGuard, handle: TaskHandle) {
    let task = handle.abort.run_until_cancelled(task);
    if let Err(payload) = AssertUnwindSafe(task).catch_unwind().await {
        guard.panicked(handle.name, panic_message(&*payload));
    }
}

/// Takes a task off the list when it ends, however it ends: an aborted task runs only its destructors.
struct EndGuard {
    shared: Arc<Shared>,
    id: u64,
    ended: watch::Sender<bool>,
}

impl EndGuard {
    fn panicked(&self, task: Arc<str>, message: String) {
        tracing::error!(task = &*task, panic = message, "task panicked");
        self.shared.tasks().panicked.push(Panicked { task, message });
    }
}

impl Drop for EndGuard {
    fn drop(&mut self) {
        self.shared.tasks().running.remove(&self.id);
        self.ended.send_replace(true);
        self.shared.changes.send_modify(|count| *count += 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check<F: Future<Output = ()>>(test: F) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { tokio::time::timeout(Duration::from_secs(20), test).await.unwrap() });
    }

    #[test]
    fn stages_end_one_after_the_other() {
        check(async {
            let supervisor = Supervisor::new();
            let order = Arc::new(Mutex::new(Vec::new()));
            // Spawned in the wrong order on purpose.
            for stage in [Stage::Api, Stage::Notifier, Stage::Core, Stage::Sources] {
                let order = Arc::clone(&order);
                supervisor.spawn(stage, stage.name(), |cancel| async move {
                    cancel.cancelled().await;
                    for _ in 0..10 {
                        tokio::task::yield_now().await;
                    }
                    order.lock().unwrap().push(stage.name());
                });
            }
            assert_eq!(supervisor.running(Stage::Core), [Arc::from("core")]);
            let report = supervisor.drain(Duration::from_secs(10)).await;
            assert!(report.is_clean(), "{report:?}");
            assert_eq!(*order.lock().unwrap(), ["sources", "core", "notifier", "api"]);
        });
    }

    #[test]
    fn a_straggler_is_named_and_leaves_time_to_the_stages_after_it() {
        check(async {
            let supervisor = Supervisor::new();
            supervisor.spawn(Stage::Sources, "source stuck", |_| std::future::pending());
            let flushed = Arc::new(Mutex::new(false));
            let flag = Arc::clone(&flushed);
            supervisor.spawn(Stage::Notifier, "notifier", |cancel| async move {
                cancel.cancelled().await;
                *flag.lock().unwrap() = true;
            });
            let report = supervisor.drain(Duration::from_secs(2)).await;
            assert_eq!(report.stragglers, ["sources: source stuck"]);
            assert!(*flushed.lock().unwrap());
        });
    }

    #[test]
    fn a_panic_is_reported_by_name_and_ends_no_other_task() {
        check(async {
            let supervisor = Supervisor::new();
            let mut bystander = supervisor.spawn(Stage::Core, "core", |cancel| async move { cancel.cancelled().await });
            supervisor.spawn(Stage::Sources, "source orders", |_| async { panic!("at {}", "line 7") });
            let expected = Panicked { task: "source orders".into(), message: "at line 7".into() };
            assert_eq!(supervisor.panicked().await, expected);
            assert!(!bystander.has_ended());
            assert!(bystander.stop(Duration::from_secs(5)).await);
            assert_eq!(supervisor.drain(Duration::from_secs(5)).await.panicked, [expected]);
        });
    }

    #[test]
    fn a_task_apart_keeps_nobody_waiting_and_ends_like_the_others() {
        check(async {
            let supervisor = Supervisor::new();
            let (began, mut begun) = tokio::sync::mpsc::channel(1);
            let (go_on, blocked) = std::sync::mpsc::sync_channel::<()>(1);
            let blocking = |cancel: CancellationToken| async move {
                tokio::time::sleep(Duration::from_millis(1)).await;
                began.send(std::thread::current().name().map(str::to_owned)).await.unwrap();
                // The thread is blocked; this test's only thread is not.
                blocked.recv().unwrap();
                cancel.cancelled().await;
            };
            supervisor.spawn_apart(Stage::Core, "core", blocking).unwrap();
            assert_eq!(begun.recv().await, Some(Some("core".to_owned())));
            go_on.send(()).unwrap();
            supervisor.spawn_apart(Stage::Api, "stuck", |_| std::future::pending()).unwrap();
            supervisor.spawn_apart(Stage::Api, "broken", |_| async { panic!("x") }).unwrap();
            assert_eq!(&*supervisor.panicked().await.task, "broken");
            assert_eq!(supervisor.drain(Duration::from_secs(2)).await.stragglers, ["api: stuck"]);
            assert!(supervisor.running(Stage::Core).is_empty());
        });
    }

    #[test]
    fn one_task_can_be_stopped_alone() {
        check(async {
            let supervisor = Supervisor::new();
            let mut stuck = supervisor.spawn(Stage::Sources, "stuck", |_| std::future::pending());
            assert!(!stuck.stop(Duration::from_millis(1)).await);
            stuck.abort();
            stuck.ended().await;
            assert!(supervisor.running(Stage::Sources).is_empty());
        });
        check(async {
            let supervisor = Supervisor::new();
            let mut first = supervisor.spawn(Stage::Sources, "a", |cancel| async move { cancel.cancelled().await });
            let second = supervisor.spawn(Stage::Sources, "b", |cancel| async move { cancel.cancelled().await });
            assert!(first.stop(Duration::from_secs(5)).await);
            assert!(!second.has_ended());
            assert_eq!(supervisor.running(Stage::Sources), [Arc::from("b")]);
        });
    }
}
