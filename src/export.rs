//! What leaves sidewatch besides messages: samples to remote-write receivers and to OTLP, spans, lines for matched events,
//! and alerts, health and life cycle as CloudEvents ([`Publishing`]).
//!
//! Each export is a task of its own behind a bounded queue: a receiver that is slow or gone delays nothing else. The room
//! stands above `api`, because it reads the core through the same door as the handlers do ([`crate::api::CoreHandle`]).

mod collect;
pub mod event_log;
mod http;
#[cfg(feature = "kafka")]
mod kafka;
mod lane;
mod nats;
mod otlp;
mod publish;
mod queue;
mod redis;
pub mod remote_write;
mod start;

pub use collect::{Collect, Collected};
pub use start::{Ground, Publishing};

use crate::api::{CoreHandle, ExportStatus};
use crate::engine::Core;
use crate::state::StateStore;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Waits until so many commands of the core stand in a checkpoint, where there are any.
pub type Stored = Arc<dyn Fn(u64) -> Pin<Box<dyn Future<Output = bool> + Send>> + Send + Sync>;

/// What every export's task is given.
#[derive(Clone)]
pub struct ExportContext {
    /// The configured name.
    pub name: Arc<str>,
    /// The way to the core.
    pub core: CoreHandle<Core>,
    /// Where what waits survives a restart; `None` keeps it in memory.
    pub state: Option<StateStore>,
    /// `external_labels`.
    pub external_labels: Vec<(String, String)>,
    /// Where relative paths start.
    pub base_dir: PathBuf,
    /// Waits until so many commands stand in a checkpoint: no receiver is told of what a restart would forget.
    pub stored: Stored,
    /// How it stands, for the API.
    pub statuses: Statuses,
}

/// How the exports stand, by name, shared with the API.
#[derive(Clone, Debug, Default)]
pub struct Statuses {
    // Held for a copy or a change.
    shared: Arc<Mutex<BTreeMap<Arc<str>, ExportStatus>>>,
}

impl Statuses {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, ExportStatus>> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All of them, in order of their names.
    pub fn all(&self) -> Vec<ExportStatus> {
        self.lock().values().cloned().collect()
    }

    /// Changes one.
    pub fn update(&self, name: &Arc<str>, change: impl FnOnce(&mut ExportStatus)) {
        let mut shared = self.lock();
        let status = shared.entry(name.clone()).or_default();
        if status.name.is_empty() {
            status.name = name.to_string();
        }
        change(status);
    }

    /// Forgets one that is configured no more.
    pub fn remove(&self, name: &Arc<str>) {
        self.lock().remove(name);
    }
}

/// What became of an attempt to send.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Outcome {
    /// Taken.
    Taken,
    /// Worth another try, not before so many milliseconds when the receiver says so.
    Retry { error: String, after_ms: Option<i64> },
    /// Refused for what it is: trying again does not help.
    Refused { error: String },
}

impl Outcome {
    fn retry(error: impl Into<String>) -> Self {
        Self::Retry { error: error.into(), after_ms: None }
    }
}
