//! Everything that goes out, started from the configuration.

use super::collect::{Collect, Rounds};
use super::http::HttpTarget;
#[cfg(feature = "kafka")]
use super::kafka::KafkaPublisher;
use super::lane::Lane;
use super::nats::NatsPublisher;
use super::otlp::Resource;
use super::publish::{Published, Wanted, percent_encoded};
use super::queue::{Piece, Queue};
use super::redis::RedisPublisher;
use super::{Outcome, otlp};
use crate::api::ExportStatus;
use crate::config::schema::{Config, ExportKind, OtlpConfig, PublishConfig, PublishTo};
use crate::engine::{Tapped, TapsDropped, Told};
use crate::model::Labels;
use crate::state::StateStore;
use crate::supervise::{Stage, Supervisor};
use crate::telemetry::clock;
use crate::telemetry::self_metrics::SinkMetrics;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Portions of events that may wait to become spans.
const PORTIONS: usize = 64;

/// What sends.
pub(super) enum Target {
    Http {
        http: HttpTarget,
        binary: bool,
    },
    Nats(NatsPublisher),
    Redis(RedisPublisher),
    #[cfg(feature = "kafka")]
    Kafka(KafkaPublisher),
    Otlp {
        http: HttpTarget,
        path: &'static str,
        gzip: bool,
    },
}

impl Target {
    fn of(to: &PublishTo, base_dir: &std::path::Path) -> Option<Self> {
        let base_dir = base_dir.to_owned();
        Some(match to {
            PublishTo::Http { url, binary, timeout_ms, http } => {
                Self::Http { http: HttpTarget::new(url, http, *timeout_ms, base_dir), binary: *binary }
            }
            PublishTo::Nats(config) => Self::Nats(NatsPublisher::new(config, base_dir)),
            PublishTo::Redis(config) => Self::Redis(RedisPublisher::new(config, base_dir)),
            #[cfg(feature = "kafka")]
            PublishTo::Kafka(config) => Self::Kafka(KafkaPublisher::new(config, base_dir)),
            // The configuration has refused it.
            #[cfg(not(feature = "kafka"))]
            PublishTo::Kafka(_) => return None,
        })
    }

    pub async fn send(&mut self, blob: &[u8]) -> Outcome {
        if let Self::Otlp { http, path, gzip } = self {
            return otlp::send(http, path, blob, *gzip).await;
        }
        let Ok(event) = postcard::from_bytes::<Published>(blob) else {
            return Outcome::Refused { error: "it was written by another version of sidewatch".into() };
        };
        match self {
            Self::Http { http, binary } => post(http, *binary, &event).await,
            Self::Nats(nats) => nats.send(&event).await,
            Self::Redis(redis) => redis.send(&event).await,
            #[cfg(feature = "kafka")]
            Self::Kafka(kafka) => kafka.send(&event).await,
            Self::Otlp { .. } => Outcome::Taken,
        }
    }
}

async fn post(http: &mut HttpTarget, binary: bool, event: &Published) -> Outcome {
    let answer = if binary {
        let (attributes, data) = event.binary();
        let headers: Vec<(String, String)> =
            attributes.iter().map(|(name, value)| (format!("ce-{name}"), percent_encoded(value))).collect();
        http.post("", "application/json", &headers, data).await
    } else {
        let key = [("Idempotency-Key".to_owned(), event.id.clone())];
        http.post("", "application/cloudevents+json; charset=utf-8", &key, event.document.clone().into_bytes()).await
    };
    match answer {
        Ok(answer) => answer.outcome(|status| status.is_server_error() || matches!(status.as_u16(), 408 | 425 | 429)),
        Err(error) => Outcome::retry(error),
    }
}

/// What the sinks stand on.
pub struct Ground<'a> {
    /// The configuration.
    pub config: &'a Config,
    /// Where queues are kept; `None` for memory.
    pub state: Option<StateStore>,
    /// Where tasks run.
    pub supervisor: &'a Supervisor,
    /// Where samples come from.
    pub collect: Collect,
}

/// Everything that goes out. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Publishing {
    shared: Arc<Shared>,
}

/// Where spans of one export go, and its queue.
type SpanDoor = (Arc<Lane>, mpsc::Sender<Vec<Tapped>>);

#[derive(Debug, Default)]
struct Shared {
    publishers: Vec<(Wanted, Arc<Lane>)>,
    /// Of samples and spans.
    lanes: Vec<Arc<Lane>>,
    spans: BTreeMap<Arc<str>, SpanDoor>,
}

impl Publishing {
    /// Opens the queues and starts the tasks.
    pub async fn start(ground: Ground<'_>) -> Self {
        let config = ground.config;
        let mut shared = Shared::default();
        forget_others(&ground).await;
        for entry in &config.publish {
            shared.publishers.extend(publisher(&ground, entry.name.value.as_str().into(), &entry.value).await);
        }
        for entry in &config.export {
            let name: Arc<str> = entry.name.value.as_str().into();
            if let ExportKind::Otlp(options) = &entry.value.kind {
                start_otlp(&ground, &name, options, &mut shared).await;
            }
        }
        Self { shared: Arc::new(shared) }
    }

    /// Whether anybody subscribes to what is told.
    pub fn publishes(&self) -> bool {
        !self.shared.publishers.is_empty()
    }

    /// Keeps what was told for those who want it. To be called before the checkpoint that holds it: after a kill in
    /// between it is told again, with the same id where it happens at the same time.
    pub async fn keep(&self, told: &[Told]) {
        for (wanted, lane) in &self.shared.publishers {
            let pieces = told.iter().filter(|told| wanted.takes(told)).filter_map(|told| {
                let blob = postcard::to_stdvec(&Published::of(told)).ok()?;
                Some(Piece { blob, items: 1, at: told.at })
            });
            let pieces: Vec<Piece> = pieces.collect();
            if !pieces.is_empty() {
                lane.push(pieces, None).await;
            }
        }
    }

    /// What was kept may go.
    pub fn wake(&self) {
        self.shared.publishers.iter().for_each(|(_, lane)| lane.wake());
    }

    /// Hands over what traces want. Never waits: what does not fit is dropped and counted.
    pub fn tapped(&self, events: Vec<Tapped>, dropped: TapsDropped) {
        for ((sink, reason), count) in dropped {
            self.drop(&sink, reason, count);
        }
        let mut by_sink: BTreeMap<Arc<str>, Vec<Tapped>> = BTreeMap::new();
        for event in events {
            by_sink.entry(event.sink.clone()).or_default().push(event);
        }
        for (sink, events) in by_sink {
            let Some((_, portions)) = self.shared.spans.get(&sink) else { continue };
            let count = events.len() as u64;
            if portions.try_send(events).is_err() {
                self.drop(&sink, "sink_too_slow", count);
            }
        }
    }

    fn drop(&self, sink: &Arc<str>, reason: &'static str, count: u64) {
        if let Some((lane, _)) = self.shared.spans.get(sink) {
            lane.drop_counted(reason, count);
        }
    }

    /// How they stand, for the API.
    pub fn status(&self) -> Vec<ExportStatus> {
        let publishers = self.shared.publishers.iter().map(|(_, lane)| lane);
        publishers.chain(&self.shared.lanes).map(|lane| lane.status()).collect()
    }
}

/// What waits for sinks that are configured no more is forgotten.
async fn forget_others(ground: &Ground<'_>) {
    let Some(state) = &ground.state else { return };
    let publish = ground.config.publish.iter().map(|entry| format!("publish/{}/", entry.name.value));
    let export = ground.config.export.iter().flat_map(|entry| {
        let name = &entry.name.value;
        [format!("otlp-metrics/{name}/"), format!("otlp-traces/{name}/"), format!("otlp-mark/{name}/")]
    });
    let known: Vec<String> = publish.chain(export).collect();
    let mut gone = Vec::new();
    for prefix in ["publish/", "otlp-metrics/", "otlp-traces/", "otlp-mark/"] {
        let names = state.names(prefix).await.unwrap_or_default();
        gone.extend(names.into_iter().filter(|name| !known.iter().any(|known| name.starts_with(known.as_str()))));
    }
    if !gone.is_empty() {
        tracing::info!(
            pieces = gone.len(),
            "what waited for publishers and exports that are configured no more is forgotten"
        );
        let _ = state.write(gone.into_iter().map(|name| (name, None)).collect()).await;
    }
}

async fn publisher(ground: &Ground<'_>, name: Arc<str>, config: &PublishConfig) -> Option<(Wanted, Arc<Lane>)> {
    let target = Target::of(&config.to, &ground.config.base_dir)?;
    let queue = Queue::open(format!("publish/{name}/"), ground.state.clone(), config.queue).await;
    let lane = Lane::new(name.clone(), "publish", queue, SinkMetrics::publisher(&name));
    let task = lane.clone();
    ground.supervisor.spawn(Stage::Notifier, format!("publisher {name}"), |cancel| task.run(target, cancel));
    Some((Wanted::new(config), lane))
}

fn external(config: &Config) -> Labels {
    Labels::from_pairs(config.external_labels.iter().map(|(name, value)| (name.value.as_str(), value.as_str())))
}

/// Until when everything was handed to the queue.
async fn mark(ground: &Ground<'_>, name: &str) -> (String, i64) {
    let key = format!("otlp-mark/{name}/");
    let stored = match &ground.state {
        Some(state) => state.get(&key).await.ok().flatten(),
        None => None,
    };
    (key, stored.and_then(|blob| postcard::from_bytes(&blob).ok()).unwrap_or(0))
}

/// Waits for the next round; `false` at the end.
async fn turn(interval_ms: i64, cancel: &CancellationToken) -> bool {
    // Rounds of all restarts fall on one grid, and no two of one interval.
    let left_ms = interval_ms - clock::now().millis().rem_euclid(interval_ms);
    tokio::select! {
        () = tokio::time::sleep(Duration::from_millis(left_ms.unsigned_abs())) => true,
        () = cancel.cancelled() => false,
    }
}

async fn start_otlp(ground: &Ground<'_>, name: &Arc<str>, config: &OtlpConfig, shared: &mut Shared) {
    let base_dir = &ground.config.base_dir;
    let target = |path| Target::Otlp {
        http: HttpTarget::new(&config.url, &config.http, config.timeout_ms, base_dir.clone()),
        path,
        gzip: config.gzip,
    };
    let service = &ground.config.service;
    let resource = Resource {
        service: service.name.clone(),
        instance: service.instance.clone(),
        external: external(ground.config),
    };
    if config.metrics {
        let queue = Queue::open(format!("otlp-metrics/{name}/"), ground.state.clone(), config.queue).await;
        let lane = Lane::new(name.clone(), "otlp metrics", queue, SinkMetrics::otlp(name, "metrics"));
        let (sender, collector, target) = (lane.clone(), lane.clone(), target("/v1/metrics"));
        ground.supervisor.spawn(Stage::Notifier, format!("otlp metrics {name}"), |cancel| sender.run(target, cancel));
        let (key, floor_ms) = mark(ground, name).await;
        let (interval_ms, collect, resource) = (config.interval_ms, ground.collect.clone(), resource.clone());
        ground.supervisor.spawn(Stage::Sources, format!("data points for {name}"), |cancel| async move {
            let mut rounds = Rounds::since(floor_ms);
            while turn(interval_ms, &cancel).await {
                let Some(collected) = collect(rounds.begin_ms()).await else { continue };
                let (mut taken, resource, now) = (std::mem::take(&mut rounds), resource.clone(), clock::now());
                let until_ms = collected.selection.to_ms;
                let made = tokio::task::spawn_blocking(move || {
                    let points = taken.take(&collected, true);
                    let pieces = otlp::metrics(&points, &collected.metadata, &resource, now);
                    (taken, pieces)
                });
                let Ok((back, pieces)) = made.await else { return };
                rounds = back;
                let mark = postcard::to_stdvec(&until_ms).ok().map(|blob| (key.clone(), blob));
                collector.push(pieces, mark).await;
                collector.wake();
            }
        });
        shared.lanes.push(lane);
    }
    if config.traces {
        let queue = Queue::open(format!("otlp-traces/{name}/"), ground.state.clone(), config.queue).await;
        let lane = Lane::new(name.clone(), "otlp traces", queue, SinkMetrics::otlp(name, "traces"));
        let (sender, keeper, target) = (lane.clone(), lane.clone(), target("/v1/traces"));
        ground.supervisor.spawn(Stage::Notifier, format!("otlp traces {name}"), |cancel| sender.run(target, cancel));
        let (portions, mut to_send) = mpsc::channel::<Vec<Tapped>>(PORTIONS);
        ground.supervisor.spawn(Stage::Notifier, format!("spans for {name}"), |cancel| async move {
            loop {
                let events = tokio::select! {
                    events = to_send.recv() => events,
                    () = cancel.cancelled() => to_send.try_recv().ok(),
                };
                let Some(mut events) = events else { return };
                // What has come meanwhile goes along: few requests, much in each.
                while let Ok(more) = to_send.try_recv() {
                    events.extend(more);
                }
                keeper.push(otlp::spans(&events, &resource, clock::now()), None).await;
                keeper.wake();
            }
        });
        shared.lanes.push(lane.clone());
        shared.spans.insert(name.clone(), (lane, portions));
    }
}
