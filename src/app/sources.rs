//! The running sources: started, kept, ended as the configuration says.

use crate::config::schema::{Config, SourceConfig, Transport};
use crate::engine::SourcePart;
use crate::model::FieldPlan;
use crate::source::rate::RateLimits;
use crate::source::scrape::ScrapeTargets;
use crate::source::{Ingest, IngestSink, Pace, SourceContext};
use crate::supervise::{Stage, Supervisor, TaskHandle};
use crate::telemetry::self_metrics;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;

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
    /// A changed source goes on behind what the core has counted of it, which is known when its old task has ended and
    /// everything that it delivered was taken: the new task waits for that, the reload does not.
    pub async fn configure(&mut self, parts: &[SourcePart], event_bytes: usize) {
        let kept = |name: &Arc<str>, (config, _): &mut (SourceConfig, TaskHandle)| {
            parts.iter().any(|part| part.name == *name && same(&part.config, config))
        };
        let mut gone: BTreeMap<Arc<str>, (SourceConfig, TaskHandle)> =
            self.running.extract_if(.., |name, known| !kept(name, known)).collect();
        gone.values().for_each(|(_, task)| task.cancel());
        let end = tokio::time::Instant::now() + END;
        for (name, (_, task)) in &mut gone {
            if tokio::time::timeout_at(end, task.ended()).await.is_err() {
                tracing::warn!(source = %name, "the source did not end in time; it is cut off");
                task.abort();
            }
        }
        for part in parts {
            if self.running.contains_key(&part.name) {
                continue;
            }
            let before = gone.remove(&part.name);
            if part.kind != "scrape" {
                self.end_scrapes(&part.name, before.as_ref());
            }
            let (name, plan, decoder) = (part.name.clone(), self.plan.subscribe(), part.decoder.clone());
            let (instance, base_dir) = (self.instance.clone(), self.base_dir.clone());
            let sink = self.sink.with_overflow(part.config.flow.overflow());
            let transport = part.config.transport.clone();
            let limits = part.config.flow.rate_limit.map(|limit| Arc::new(RateLimits::new(part.name.clone(), &limit)));
            let run = |cancel: CancellationToken| async move {
                let counted = cancel.run_until_cancelled(counted(&name, &sink, before.map(|(_, task)| task))).await;
                // Cancelled, or the core has ended.
                let Some(Some(position)) = counted else { return };
                let pace = limits.map(|limits| Pace::new(limits, cancel.clone()));
                let sink = sink.with_pace(pace);
                let context = SourceContext { name, instance, decoder, plan, sink, position, event_bytes, base_dir };
                context.run(transport, cancel).await;
            };
            let task = self.supervisor.spawn(Stage::Sources, format!("source {}", part.name), run);
            self.running.insert(part.name.clone(), (part.config.clone(), task));
        }
        for (name, known) in &gone {
            self_metrics::source_gone(name);
            self.end_scrapes(name, Some(known));
        }
    }

    /// The series of a source that scrapes no more end, behind everything that its task has sent.
    fn end_scrapes(&self, name: &Arc<str>, known: Option<&(SourceConfig, TaskHandle)>) {
        let Some((SourceConfig { transport: Transport::Scrape(_), .. }, task)) = known else { return };
        let (source, sink, mut task) = (name.clone(), self.sink.clone(), task.clone());
        self.supervisor.spawn(Stage::Sources, format!("end of source {name}"), |cancel| async move {
            let end = async {
                task.ended().await;
                // An error means that the core has ended.
                let _ = sink.send(Ingest::ScrapeTargets(ScrapeTargets { source, targets: Vec::new() })).await;
            };
            cancel.run_until_cancelled(end).await;
        });
    }
}

/// What the core has counted of a source when all that its task before delivered is taken; `None` when the core has ended.
async fn counted(name: &Arc<str>, sink: &IngestSink, before: Option<TaskHandle>) -> Option<Option<Vec<u8>>> {
    if let Some(mut before) = before {
        before.ended().await;
    }
    let (reply, position) = oneshot::channel();
    sink.send(Ingest::Position { source: name.clone(), reply }).await.ok()?;
    position.await.ok()
}

/// Alike wherever they stand in the file.
fn same(a: &SourceConfig, b: &SourceConfig) -> bool {
    // `dedup` is the core's business: it changes without a new connection.
    a.transport == b.transport && a.format == b.format && a.flow == b.flow
}
