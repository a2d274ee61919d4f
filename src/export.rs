//! What leaves sidewatch besides messages: samples to remote-write receivers, lines for matched events.
//!
//! Each export is a task of its own behind a bounded queue: a receiver that is slow or gone delays nothing else. The room
//! stands above `api`, because it reads the core through the same door as the handlers do ([`crate::api::CoreHandle`]).

pub mod event_log;
pub mod remote_write;

use crate::api::{CoreHandle, ExportStatus};
use crate::engine::Core;
use crate::state::StateStore;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

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
