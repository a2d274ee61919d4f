//! What goes out, tied to the core.

use crate::api::CoreHandle;
use crate::config::Diagnostics;
use crate::config::schema::{Config, ExportKind};
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
