//! The running exports: started, kept, ended as the configuration says.

use crate::api::CoreHandle;
use crate::config::Named;
use crate::config::schema::{Config, ExportConfig, ExportKind};
use crate::engine::{Core, LogLine};
use crate::export::{ExportContext, Statuses, Stored, event_log, remote_write};
use crate::state::StateStore;
use crate::supervise::{Stage, Supervisor, TaskHandle};
use crate::telemetry::self_metrics;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;

/// How long an export that is no longer configured may take to end.
const END: Duration = Duration::from_secs(5);
/// Portions of lines that may wait for a disk.
const PORTIONS: usize = 256;

/// By the log's name.
type Doors = BTreeMap<Arc<str>, mpsc::Sender<Vec<String>>>;

/// The way of lines from the core to their logs.
#[derive(Clone, Debug, Default)]
pub(super) struct Logs {
    // Held for a look or a change.
    doors: Arc<Mutex<Doors>>,
}

impl Logs {
    fn lock(&self) -> MutexGuard<'_, Doors> {
        self.doors.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands lines over without waiting; what finds no room is counted.
    pub fn send(&self, (lines, dropped): (Vec<LogLine>, BTreeMap<Arc<str>, u64>)) {
        for (export, count) in dropped {
            self_metrics::event_log_dropped(&export, "queue").increment(count);
        }
        let mut portions: BTreeMap<Arc<str>, Vec<String>> = BTreeMap::new();
        for line in lines {
            portions.entry(line.export).or_default().push(line.text);
        }
        for (export, portion) in portions {
            let count = portion.len() as u64;
            let taken = self.lock().get(&export).is_some_and(|door| door.try_send(portion).is_ok());
            if !taken {
                self_metrics::event_log_dropped(&export, "queue").increment(count);
            }
        }
    }
}

/// What it was started with, and its task.
type Running = (ExportConfig, Vec<(String, String)>, TaskHandle);

/// What every export's task is given.
pub(super) struct Exports {
    pub supervisor: Supervisor,
    pub core: CoreHandle<Core>,
    pub state: Option<StateStore>,
    pub base_dir: PathBuf,
    pub stored: Stored,
    pub statuses: Statuses,
    pub logs: Logs,
    running: BTreeMap<Arc<str>, Running>,
}

impl Exports {
    pub fn new(
        supervisor: Supervisor,
        core: CoreHandle<Core>,
        state: Option<StateStore>,
        base_dir: PathBuf,
        stored: Stored,
    ) -> Self {
        let (statuses, logs) = (Statuses::default(), Logs::default());
        Self { supervisor, core, state, base_dir, stored, statuses, logs, running: BTreeMap::new() }
    }

    /// Ends the exports that changed or are gone, and starts those that are new.
    pub async fn configure(&mut self, config: &Config) {
        let labels: Vec<(String, String)> =
            config.external_labels.iter().map(|(name, value)| (name.value.clone(), value.clone())).collect();
        let kept = |name: &str, known: &ExportConfig, with: &Vec<(String, String)>| {
            let mut entries = config.export.iter();
            *with == labels && entries.any(|entry| entry.name.value == name && entry.value.kind == known.kind)
        };
        let gone: Vec<Arc<str>> = self
            .running
            .iter()
            .filter(|(name, (known, with, _))| !kept(name, known, with))
            .map(|(name, _)| name.clone())
            .collect();
        for name in gone {
            self.logs.lock().remove(&name);
            if let Some((.., mut task)) = self.running.remove(&name)
                && !task.stop(END).await
            {
                tracing::warn!(export = %name, "the export did not end in time");
            }
            self.statuses.remove(&name);
        }
        for Named { name, value } in &config.export {
            let name: Arc<str> = name.value.as_str().into();
            if self.running.contains_key(&name) {
                continue;
            }
            let context = ExportContext {
                name: name.clone(),
                core: self.core.clone(),
                state: self.state.clone(),
                external_labels: labels.clone(),
                base_dir: self.base_dir.clone(),
                stored: self.stored.clone(),
                statuses: self.statuses.clone(),
            };
            let title = format!("export {name}");
            let task = match value.kind.clone() {
                ExportKind::Otlp(_) => continue,
                ExportKind::RemoteWrite(config) => {
                    self.supervisor.spawn(Stage::Sources, title, |cancel| remote_write::run(context, *config, cancel))
                }
                ExportKind::Log(config) => {
                    let (door, lines) = mpsc::channel(PORTIONS);
                    self.logs.lock().insert(name.clone(), door);
                    // It ends after the core, whose last lines it writes.
                    self.supervisor
                        .spawn(Stage::Notifier, title, |cancel| event_log::run(context, *config, lines, cancel))
                }
            };
            self.running.insert(name, (value.clone(), labels.clone(), task));
        }
    }
}
