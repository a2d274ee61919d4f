//! Once a second: sidewatch's own figures become samples, so that rules and page see them.

use crate::api::CoreHandle;
use crate::engine::{Core, Input, InputSample};
use crate::model::AlertStatus;
use crate::notify::{Deliveries, SilenceState};
use crate::series::{STALE_NAN_BITS, text};
use crate::telemetry::self_metrics::{self, SelfMetrics};
use std::collections::HashSet;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

const EVERY: Duration = Duration::from_secs(1);

/// Runs until cancelled. While the core is busy for long a second is left out.
pub(super) async fn run(
    own: &'static SelfMetrics,
    core: CoreHandle<Core>,
    deliveries: Deliveries,
    cancel: CancellationToken,
) {
    let mut hits = 0;
    // Series that are over and were ended.
    let mut over = HashSet::new();
    loop {
        own.upkeep();
        outbox(&deliveries);
        if let Ok(seen) = core.call(move |core, _| figures(core, hits)).await {
            hits = seen;
        }
        let mut exposition = text::parse(&own.render_all());
        exposition.samples.retain_mut(|sample| {
            let ends = sample.value.is_nan();
            sample.value = if ends { f64::from_bits(STALE_NAN_BITS) } else { sample.value };
            if !ends {
                over.remove(&sample.labels);
            }
            !ends || over.insert(sample.labels.clone())
        });
        let told = core.call(move |core, now| {
            let base = core.engine.base_labels().clone();
            let sample = |sample: text::TextSample| InputSample {
                labels: base.merged(&sample.labels),
                t_ms: now.millis(),
                value: sample.value,
            };
            for described in &exposition.metadata {
                core.engine.describe(described);
            }
            core.engine.observe(now, [Input::Samples(exposition.samples.into_iter().map(sample).collect())]);
        });
        // A core that has no time now has some for the next ones, which are newer.
        let _ = told.await;
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = cancel.cancelled() => return,
        }
    }
}

/// What the outbox counts itself becomes self-metrics.
fn outbox(deliveries: &Deliveries) {
    for lane in deliveries.lanes() {
        let counters = lane.counters;
        let dead = counters.refused + counters.expired + counters.outbox_full;
        self_metrics::notification_dead_letters(&lane.receiver, lane.integration).absolute(dead);
        self_metrics::notifications_pending(&lane.receiver, lane.integration).set(lane.pending as f64);
    }
    self_metrics::history_lost("outbox").absolute(deliveries.records_dropped());
}

/// What the core counts itself becomes self-metrics. `hits` is the number of limited updates seen before.
fn figures(core: &mut Core, hits: u64) -> u64 {
    let now_at = core.engine.now();
    let (_, alerts) = core.alerts(now_at);
    let firing = alerts.iter().filter(|alert| alert.status() == AlertStatus::Firing).count();
    self_metrics::alerts_firing().set(firing as f64);
    let silences = core.notifier.silences(now_at).list(now_at);
    for state in [SilenceState::Active, SilenceState::Pending, SilenceState::Expired] {
        let count = silences.iter().filter(|silence| silence.state(now_at) == state).count();
        self_metrics::silences(state.name()).set(count as f64);
    }
    let store = core.engine.store();
    self_metrics::series().set(store.live_series() as f64);
    for (reason, count) in store.refusals().filter(|(_, count)| *count > 0) {
        self_metrics::samples_refused(reason).absolute(count);
    }
    let now = store.limit_hits();
    if now != hits {
        // Only then: these statistics go through all series.
        for metric in &store.stats().metrics {
            let limited: u64 = metric.limited.values().sum();
            if limited > 0 {
                self_metrics::series_limited(&metric.name).absolute(limited);
            }
        }
    }
    self_metrics::lifecycle_suppressed().absolute(core.engine.life_cycle_suppressed());
    self_metrics::notifications_withheld("flapping").absolute(core.notifier.flapping_withheld());
    self_metrics::history_lost("withheld").absolute(core.notifier.withheld_notes_dropped());
    let counters = core.engine.rules().counters();
    self_metrics::rule_evaluations("all", "interval").absolute(counters.evaluations);
    self_metrics::rule_evaluations("all", "reactive").absolute(counters.reactive);
    for (group, count) in &counters.failures {
        self_metrics::rule_evaluation_failures(group).absolute(*count);
    }
    let rules = core.engine.rules();
    for timing in rules.timing() {
        // As Prometheus names a group: the same name may stand in several files.
        let group = format!("{};{}", timing.file, timing.group);
        let (interval_s, lag_s) = (timing.interval_ms as f64 / 1e3, timing.lag_ms as f64 / 1e3);
        self_metrics::rule_group(&group, interval_s, lag_s, timing.took.as_secs_f64(), timing.missed);
    }
    let events = rules.event_counters().into_iter().flat_map(|(alert, counters)| {
        counters.by_reason().into_iter().map(move |(reason, count)| (alert.clone(), reason, count))
    });
    let slos = rules.slo_counters().into_iter().flat_map(|(alert, counters)| {
        counters.by_reason().into_iter().map(move |(reason, count)| (alert.clone(), reason, count))
    });
    for (alert, reason, count) in events.chain(slos).filter(|(_, _, count)| *count > 0) {
        self_metrics::event_condition_unused(&alert, reason).absolute(count);
    }
    now
}
