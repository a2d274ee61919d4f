//! Publishers and OTLP, tied to the core.

use crate::api::CoreHandle;
use crate::config::Diagnostics;
use crate::config::schema::{Config, ExportKind, PublishTo, SecretSource};
use crate::engine::{Core, TapSpec};
pub(super) use crate::export::Stored;
use crate::export::{Collect, Collected};
use std::sync::Arc;

/// What traces take out of the stream.
pub(super) fn taps(config: &Config) -> Vec<TapSpec> {
    let otlp = config.export.iter().filter_map(|entry| match &entry.value.kind {
        ExportKind::Otlp(otlp) if otlp.traces => {
            Some(TapSpec { sink: entry.name.value.as_str().into(), sample: otlp.sample })
        }
        _ => None,
    });
    otlp.collect()
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
