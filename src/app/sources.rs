//! The running sources: started, kept, ended as the configuration says.

use crate::config::schema::{Config, SourceConfig};
use crate::engine::SourcePart;
use crate::model::FieldPlan;
use crate::source::rate::RateLimits;
use crate::source::{Ingest, IngestSink, Pace, SourceContext};
use crate::supervise::{Stage, Supervisor, TaskHandle};
use crate::telemetry::self_metrics;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// How long a source that is no longer configured may take to end.
const END: Duration = Duration::from_secs(5);

/// What every source's task is given.
pub(super) struct Sources {
    pub supervisor: Supervisor,
    pub sink: IngestSink,
    pub plan: watch::Sender<Arc<FieldPlan>>,
    pub base_dir: PathBuf,
    pub instance: Arc<str>,
    running: BTreeMap<Arc<str>, (SourceConfig, TaskHandle)>,
}

impl Sources {
    pub fn new(supervisor: Supervisor, sink: IngestSink, plan: Arc<FieldPlan>, config: &Config) -> Self {
        let (base_dir, instance) = (config.base_dir.clone(), config.service.instance.as_str().into());
        Self { supervisor, sink, plan: watch::Sender::new(plan), base_dir, instance, running: BTreeMap::new() }
    }

    /// Ends the sources that changed or are gone, and starts those that are new; unchanged ones keep their connection.
    pub async fn configure(
        &mut self,
        parts: &[SourcePart],
        event_bytes: usize,
        positions: &BTreeMap<Arc<str>, Vec<u8>>,
    ) {
        let kept = |name: &Arc<str>, config: &SourceConfig| {
            parts.iter().any(|part| part.name == *name && same(&part.config, config))
        };
        let gone: Vec<Arc<str>> = self
            .running
            .iter()
            .filter(|(name, (config, _))| !kept(name, config))
            .map(|(name, _)| name.clone())
            .collect();
        for name in gone {
            if let Some((_, mut task)) = self.running.remove(&name)
                && !task.stop(END).await
            {
                tracing::warn!(source = %name, "the source did not end in time");
            }
            if !parts.iter().any(|part| part.name == name) {
                self_metrics::source_gone(&name);
            }
            if !parts.iter().any(|part| part.name == name && part.kind == "scrape") {
                // Behind everything that its task has sent: its series end. An error means that the core has ended.
                let _ = self.sink.send(Ingest::ScrapeTargets { source: name, targets: Vec::new() }).await;
            }
        }
        for part in parts {
            if self.running.contains_key(&part.name) {
                continue;
            }
            let context = SourceContext {
                name: part.name.clone(),
                instance: self.instance.clone(),
                decoder: part.decoder.clone(),
                plan: self.plan.subscribe(),
                sink: self.sink.with_overflow(part.config.flow.overflow()),
                position: positions.get(&part.name).cloned(),
                event_bytes,
                base_dir: self.base_dir.clone(),
            };
            let transport = part.config.transport.clone();
            let limits = part.config.flow.rate_limit.map(|limit| Arc::new(RateLimits::new(part.name.clone(), &limit)));
            let task = self.supervisor.spawn(Stage::Sources, format!("source {}", part.name), |cancel| {
                let pace = limits.map(|limits| Pace::new(limits, cancel.clone()));
                SourceContext { sink: context.sink.with_pace(pace), ..context }.run(transport, cancel)
            });
            self.running.insert(part.name.clone(), (part.config.clone(), task));
        }
    }
}

/// Alike wherever they stand in the file.
fn same(a: &SourceConfig, b: &SourceConfig) -> bool {
    // `dedup` is the core's business: it changes without a new connection.
    a.transport == b.transport && a.format == b.format && a.flow == b.flow
}
