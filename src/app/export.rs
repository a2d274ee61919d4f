//! What goes out, tied to the core.

use crate::api::CoreHandle;
use crate::config::Diagnostics;
use crate::config::schema::{Config, ExportKind, PublishTo, SecretSource};
use crate::engine::{Core, TapSpec};
use crate::export::{Collect, Collected};
use crate::mapping::select::{FieldSource, Select};
use crate::model::FieldPlanBuilder;
use std::pin::Pin;
use std::sync::Arc;

/// Waits until so many commands stand in a checkpoint.
pub(super) type Stored = Arc<dyn Fn(u64) -> Pin<Box<dyn Future<Output = bool> + Send>> + Send + Sync>;

/// What logs and traces take out of the stream.
pub(super) fn taps(config: &Config, plan: &mut FieldPlanBuilder, found: &mut Diagnostics) -> Vec<TapSpec> {
    let mut taps = Vec::new();
    for entry in &config.export {
        let sink: Arc<str> = entry.name.value.as_str().into();
        match &entry.value.kind {
            ExportKind::Log(log) => {
                let Some(select) = Select::compile(&log.selector, plan, found) else { continue };
                let mut fields = Vec::new();
                for path in &log.fields {
                    match FieldSource::new(&path.value, plan) {
                        Some(source) => fields.push((path.value.to_string(), source)),
                        None => found.error(&path.span, "more than 65535 different fields are asked for"),
                    }
                }
                taps.push(TapSpec { sink, select: Some(select), sample: log.sample, per_type: log.per_type, fields });
            }
            ExportKind::Otlp(otlp) if otlp.traces => {
                taps.push(TapSpec { sink, select: None, sample: otlp.sample, per_type: None, fields: Vec::new() });
            }
            ExportKind::Otlp(_) | ExportKind::RemoteWrite(_) => {}
        }
    }
    taps
}

/// Samples from the core; they are given when the checkpoint that holds them is written (or has failed).
pub(super) fn collect(core: CoreHandle<Core>, stored: Stored) -> Collect {
    Arc::new(move |from_ms| {
        let (core, stored) = (core.clone(), stored.clone());
        Box::pin(async move {
            let asked = core.call(move |core, now| {
                let collected = Collected::of(core.engine.store(), from_ms, now.millis());
                (collected, core.want_stored())
            });
            let (collected, commands) = asked.await.ok()?;
            // A disk that fails stops no samples.
            let _ = stored(commands).await;
            collected
        })
    })
}

/// Publishers that send to a place that this sidewatch reads from. No circle comes of it (only patterns that begin with
/// `sidewatch` take such events, and none is published again), but each event would be counted as received.
pub(super) fn lint(config: &Config, found: &mut Diagnostics) {
    for entry in &config.publish {
        let (target, name) = (&entry.value.to, &entry.name);
        let own = match target {
            PublishTo::Http { url: SecretSource::Inline(url), .. } => {
                let address = url.value.expose();
                let port = config.listen.ingest.value.rsplit(':').next().unwrap_or_default();
                let here = ["127.0.0.1", "localhost", "[::1]"];
                here.iter().any(|host| address.starts_with(&format!("http://{host}:{port}/events")))
            }
            _ => false,
        };
        if own {
            found.warning_hint(
                &name.span,
                format!("the publisher {:?} publishes to this sidewatch itself", name.value),
                "these events are part of its stream anyway, under the source sidewatch",
            );
        }
    }
}
