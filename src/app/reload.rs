//! Reading the configuration again: build everything, then swap. A bad one changes nothing.

use super::build::build;
use super::exports::Exports;
use super::run::{ReadAgain, findings, push};
use super::sources::Sources;
use super::{privacy, probes};
use crate::api::{CoreHandle, ReloadStatus, Reloaded, Shared};
use crate::config::schema::{Config, ExportKind, WatchdogConfig};
use crate::config::{Diagnostics, Named};
use crate::engine::{Core, Moment, Parts};
use crate::notify::Deliveries;
use crate::supervise::Supervisor;
use crate::telemetry::{clock, self_metrics};
use std::path::PathBuf;
use std::sync::{Arc, Mutex as StdMutex, MutexGuard, OnceLock, PoisonError};
use tokio::sync::{Mutex, watch};
use tokio_util::sync::CancellationToken;

/// What a reload changes.
pub(super) struct Reloader {
    pub again: Option<ReadAgain>,
    /// Held for a whole reload: one at a time.
    pub config: Mutex<Config>,
    pub core: CoreHandle<Core>,
    pub deliveries: Deliveries,
    pub sources: Mutex<Sources>,
    pub exports: Mutex<Exports>,
    pub watchdog: watch::Sender<Option<WatchdogConfig>>,
    /// Held for a swap.
    pub probes: StdMutex<CancellationToken>,
    pub client: reqwest::Client,
    pub supervisor: Supervisor,
    pub backend: OnceLock<Shared>,
    /// Held for a copy or a store.
    pub status: StdMutex<ReloadStatus>,
    /// Held for a comparison or a store.
    pub rules: StdMutex<RuleTexts>,
}

/// Rule files and the Alertmanager file with their texts.
pub(super) type RuleTexts = Vec<(Arc<str>, Arc<str>)>;

/// What stands in the files beside the configuration.
pub(super) fn texts(config: &Config) -> RuleTexts {
    let rules = super::build::rule_files(config, &mut Diagnostics::new());
    let mut texts: RuleTexts = rules.into_iter().map(|file| (file.name, file.text)).collect();
    if let Some(file) = &config.notify.alertmanager
        && let Ok(text) = std::fs::read_to_string(config.base_dir.join(&file.value))
    {
        texts.push((file.value.as_str().into(), text.into()));
    }
    for file in privacy::schema_files(config) {
        if let Ok(text) = std::fs::read_to_string(&file) {
            texts.push((file.display().to_string().into(), text.into()));
        }
    }
    texts
}

impl Reloader {
    pub fn set_backend(&self, backend: Shared) {
        // Called once, before the first reload can come.
        let _ = self.backend.set(backend);
    }

    pub fn status(&self) -> ReloadStatus {
        self.status.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn rules(&self) -> MutexGuard<'_, RuleTexts> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn can_reload(&self) -> bool {
        self.again.is_some()
    }

    pub async fn start_sources(&self, parts: &Parts, event_bytes: usize) {
        self.sources.lock().await.configure(&parts.sources, event_bytes).await;
    }

    /// The files whose change matters: configuration, rules, receivers.
    pub async fn files(&self) -> Vec<PathBuf> {
        let config = self.config.lock().await;
        let rules = super::build::rule_files(&config, &mut Diagnostics::new());
        let alertmanager = config.notify.alertmanager.iter().map(|file| config.base_dir.join(&file.value));
        let alertmanager = alertmanager.chain(privacy::schema_files(&config));
        let rules = rules.iter().map(|file| PathBuf::from(&*file.name));
        config.files.iter().cloned().chain(rules).chain(alertmanager).collect()
    }

    /// The folders in which new rule files may appear.
    pub async fn folders(&self) -> Vec<PathBuf> {
        let config = self.config.lock().await;
        let parent = |path: PathBuf| {
            path.parent()
                .map(|parent| if parent.as_os_str().is_empty() { PathBuf::from(".") } else { parent.to_owned() })
        };
        let patterns = config.rules.iter().map(|pattern| config.base_dir.join(&pattern.value));
        let files = config
            .files
            .iter()
            .cloned()
            .chain(config.notify.alertmanager.iter().map(|file| config.base_dir.join(&file.value)));
        let mut folders: Vec<PathBuf> = patterns.chain(files).filter_map(parent).collect();
        folders.sort();
        folders.dedup();
        folders
    }

    /// Reads and swaps.
    ///
    /// # Errors
    /// Every finding as one text; nothing has changed then.
    pub async fn reload(&self) -> Result<Reloaded, String> {
        let mut current = self.config.lock().await;
        let outcome = self.swap(&mut current).await;
        self_metrics::config_reloaded(outcome.is_ok());
        let error = outcome.as_ref().err().cloned().unwrap_or_default();
        match &outcome {
            Ok(reloaded) if reloaded.changed.is_empty() => {
                tracing::info!("the configuration was read again; nothing has changed")
            }
            Ok(reloaded) => tracing::info!(changed = reloaded.changed.join("; "), "the configuration was read again"),
            Err(error) => {
                tracing::error!("the configuration was read again and is wrong; the one before still holds\n{error}")
            }
        }
        let moment = match &outcome {
            Ok(reloaded) => Moment::Reloaded { changed: reloaded.changed.clone() },
            Err(error) => Moment::ReloadFailed { error: error.clone() },
        };
        super::run::tell(&self.core, moment).await;
        if let Ok(Reloaded { needs_restart, .. }) = &outcome
            && !needs_restart.is_empty()
        {
            tracing::warn!(keys = needs_restart.join(", "), "these keys have changed and need a restart");
        }
        *self.status.lock().unwrap_or_else(PoisonError::into_inner) =
            ReloadStatus { succeeded: outcome.is_ok(), at: clock::now(), error };
        outcome
    }

    async fn swap(&self, current: &mut Config) -> Result<Reloaded, String> {
        let Some(again) = &self.again else {
            return Err("this run has no configuration file to read again".into());
        };
        let (config, mut found) = again();
        if config.as_ref().is_some_and(|config| config.blank) && !current.blank {
            // So it looks while a file is being replaced, which is no wish to end everything.
            return Err("the configuration file is empty or gone; what it said before still holds".into());
        }
        let parts = config.as_ref().and_then(|config| build(config, &mut found));
        let (Some(config), Some(parts)) = (config, parts) else { return Err(findings(&mut found)) };
        if found.has_errors() {
            return Err(findings(&mut found));
        }
        let rules = texts(&config);
        let reloaded = differences(current, &config, rules != *self.rules());

        let (plan, routing) = (parts.plan.clone(), parts.routing.clone());
        let http = push(&parts);
        let swap = parts.clone();
        let swapped = self.core.change(move |core, now| {
            core.reconfigure(&swap, now);
            core.engine.checks().probes()
        });
        let too_busy = "the core has ended or is too busy; nothing has changed, reload again".to_owned();
        let probe_specs = swapped.await.map_err(|_| too_busy)?;
        // From here on nothing can fail.
        self.deliveries.reconfigure(routing);
        if let Some(backend) = self.backend.get() {
            backend.push.store(Arc::new(http));
            backend.limits.store(Arc::new(config.limits.clone()));
        }
        let mut sources = self.sources.lock().await;
        sources.plan.send_replace(plan);
        sources.configure(&parts.sources, config.limits.event_bytes).await;
        let fresh = probes::start(probe_specs, &self.client, &self.core, &self.supervisor);
        std::mem::replace(&mut *self.probes.lock().unwrap_or_else(PoisonError::into_inner), fresh).cancel();
        self.exports.lock().await.configure(&config).await;
        self.watchdog.send_if_modified(|known| {
            let differs = *known != config.watchdog;
            known.clone_from(&config.watchdog);
            differs
        });
        *current = config;
        *self.rules() = rules;
        Ok(reloaded)
    }
}

/// The entries that only a restart changes.
fn otlp(config: &Config) -> Vec<(&str, &ExportKind)> {
    let entries = config.export.iter().map(|entry| (entry.name.value.as_str(), &entry.value.kind));
    entries.filter(|(_, kind)| matches!(kind, ExportKind::Otlp(_))).collect()
}

/// What two configurations differ in, in plain words.
fn differences(old: &Config, new: &Config, rules_differ: bool) -> Reloaded {
    let mut changed = Vec::new();
    named(
        "source",
        old.sources.as_deref().unwrap_or_default(),
        new.sources.as_deref().unwrap_or_default(),
        &mut changed,
    );
    named("metric", &old.metrics, &new.metrics, &mut changed);
    named("health check", &old.health, &new.health, &mut changed);
    named("alert", &old.alerts, &new.alerts, &mut changed);
    named("export", &old.export, &new.export, &mut changed);
    named("receiver", &old.notify.receivers, &new.notify.receivers, &mut changed);
    named("schema", &old.schemas, &new.schemas, &mut changed);
    let mut whole = |what: &str, differs: bool| {
        if differs {
            changed.push(format!("{what} changed"));
        }
    };
    whole("rule files, schemas or the Alertmanager file", rules_differ);
    whole("redact", old.redact != new.redact);
    whole("watchdog", old.watchdog != new.watchdog);
    whole("flapping", old.notify.flapping != new.notify.flapping);
    whole("silences of the configuration", old.notify.silences != new.notify.silences);
    whole("limits", old.limits != new.limits);
    whole("external_labels", old.external_labels != new.external_labels);
    let restart = [
        ("service", old.service != new.service),
        ("listen", old.listen != new.listen),
        ("state", old.state != new.state),
        ("publish", old.publish != new.publish),
        ("export (otlp)", otlp(old) != otlp(new)),
        ("external_url", old.external_url != new.external_url),
        ("limits.queue_batches", old.limits.queue_batches != new.limits.queue_batches),
        ("limits.queue_events", old.limits.queue_events != new.limits.queue_events),
        ("limits.high_priority", old.limits.high_priority != new.limits.high_priority),
        ("limits.queue_bytes", old.limits.queue_bytes != new.limits.queue_bytes),
    ];
    let needs_restart = restart.into_iter().filter(|(_, differs)| *differs).map(|(key, _)| key.to_owned()).collect();
    Reloaded { changed, needs_restart }
}

fn named<T: PartialEq>(what: &str, old: &[Named<T>], new: &[Named<T>], changed: &mut Vec<String>) {
    for entry in new {
        let name = &entry.name.value;
        match old.iter().find(|known| known.name.value == *name) {
            None => changed.push(format!("{what} {name} added")),
            Some(known) if known.value != entry.value => changed.push(format!("{what} {name} changed")),
            Some(_) => {}
        }
    }
    for entry in old.iter().filter(|entry| !new.iter().any(|kept| kept.name.value == entry.name.value)) {
        changed.push(format!("{what} {} removed", entry.name.value));
    }
}
