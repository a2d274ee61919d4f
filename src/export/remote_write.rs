//! The sender of Prometheus remote write 1.0: at each interval the newest sample of every series, with `job`, `instance`
//! and `external_labels`, to Prometheus, Mimir or Thanos. Requests wait in a durable queue while the receiver is away and
//! go out in their order ("Remote-Write Specification 1.0": retries, ordering, staleness markers).

mod collect;
mod encode;
mod queue;

use super::ExportContext;
use crate::config::schema::RemoteWriteConfig;
use crate::model::{Label, Labels};
use crate::notify::redirect_hint;
use crate::source::scrape::{Relabeling, http_client, is_local, with_options};
use crate::telemetry::{OnChange, clock, root_cause, self_metrics};
use collect::Collector;
use encode::Batch;
use queue::{First, Queue};
use reqwest::{StatusCode, Url};
use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Mutex, Notify};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

/// The first wait after a failure; each further one is twice as long.
const FIRST_WAIT: Duration = Duration::from_millis(200);
/// The longest wait, also of a `Retry-After`.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// What may take at the end: the last samples are sent if the receiver is there.
const FAREWELL: Duration = Duration::from_secs(2);

/// What became of a request.
enum Outcome {
    Taken,
    /// Never to be sent again.
    Refused {
        reason: &'static str,
        text: String,
    },
    /// To be sent again.
    Later {
        text: String,
        wait: Option<Duration>,
    },
}

/// Runs one sender until it is cancelled.
pub async fn run(context: ExportContext, config: RemoteWriteConfig, cancel: CancellationToken) {
    let sender = tokio::select! {
        sender = Sender::new(&context, &config) => sender,
        () = cancel.cancelled() => return,
    };
    let sender = match sender {
        Ok(sender) => sender,
        Err(error) => {
            tracing::error!(export = %context.name, %error, "remote write cannot begin");
            context.statuses.update(&context.name, |status| {
                (status.kind, status.state, status.last_error) = ("remote_write", "failed", error.clone());
            });
            return;
        }
    };
    sender.report().await;
    let gathering = async {
        let mut ticks = tokio::time::interval(Duration::from_millis(config.interval_ms.unsigned_abs()));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        ticks.tick().await;
        // A round is never left in the middle: what was read and not put in line yet would be missing.
        while cancel.run_until_cancelled(ticks.tick()).await.is_some() {
            sender.gather().await;
        }
    };
    let late = async {
        cancel.cancelled().await;
        tokio::time::sleep(FAREWELL).await;
    };
    tokio::select! {
        _ = async { tokio::join!(gathering, cancel.run_until_cancelled(sender.ship())) } => {}
        () = late => {}
    }
    let farewell = async {
        sender.gather().await;
        while sender.send_first().await == Some(Duration::ZERO) {}
    };
    // What is not sent by then waits in the state folder for the next start.
    let _ = tokio::time::timeout(FAREWELL, farewell).await;
}

struct Sender<'a> {
    context: &'a ExportContext,
    config: &'a RemoteWriteConfig,
    client: reqwest::Client,
    url: Url,
    relabeling: Relabeling,
    external: Vec<Label>,
    /// Held for a collection.
    collector: Mutex<Collector>,
    /// Held for an operation on it, never while the receiver is asked.
    queue: Mutex<Queue>,
    filled: Notify,
    said: OnChange<bool>,
    // Held for a copy or a store.
    figures: std::sync::Mutex<Figures>,
}

/// What the API tells.
#[derive(Clone, Debug, Default)]
struct Figures {
    failures: u32,
    last_error: String,
    sent_samples: u64,
    dropped_samples: u64,
}

impl<'a> Sender<'a> {
    async fn new(context: &'a ExportContext, config: &'a RemoteWriteConfig) -> Result<Self, String> {
        let url = Url::parse(&config.url.value).map_err(|error| error.to_string())?;
        let label =
            |(name, value): &(String, String)| Label { name: name.as_str().into(), value: value.as_str().into() };
        let client = http_client(&config.http, is_local(&url), true, &context.base_dir)?;
        let (limit_bytes, limit_age_ms) = (config.queue_bytes, config.queue_age_ms);
        let (queue, damaged) = Queue::open(&context.name, context.state.clone(), limit_bytes, limit_age_ms).await;
        let sender = Self {
            context,
            config,
            client,
            url,
            relabeling: Relabeling::new(&config.relabel),
            external: context.external_labels.iter().map(label).collect(),
            collector: Mutex::new(Collector::new(clock::now().millis() - config.interval_ms, config.native_histograms)),
            queue: Mutex::new(queue),
            filled: Notify::new(),
            said: OnChange::new(false),
            figures: std::sync::Mutex::default(),
        };
        // How many samples they held is lost with them.
        sender.count_dropped("unreadable", damaged);
        Ok(sender)
    }

    fn figures(&self) -> MutexGuard<'_, Figures> {
        self.figures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the series and puts them in line.
    async fn gather(&self) {
        let now_ms = clock::now().millis();
        let found = match self.collector.lock().await.collect(&self.context.core, now_ms).await {
            Ok(found) => found,
            Err(gone) => {
                tracing::debug!(export = %self.context.name, %gone, "nothing could be read");
                return;
            }
        };
        // A disk that fails stops no samples; a counter must not fall after a kill.
        if let Ok(commands) = self.context.core.call(|core, _| core.want_stored()).await {
            let _ = (self.context.stored)(commands).await;
        }
        let finish = |labels: &Labels| {
            let mut all: Vec<Label> = self.external.clone();
            // The series' own labels come later and win.
            all.extend(labels.iter().cloned());
            self.relabeling.apply(&Labels::new(all))
        };
        for batch in encode::batches(&found, finish) {
            let dropped = self.queue.lock().await.push(batch, now_ms).await;
            self.count_dropped("queue", dropped);
        }
        self.collector.lock().await.done(now_ms);
        self.filled.notify_one();
        self.report().await;
    }

    fn count_dropped(&self, reason: &'static str, samples: u64) {
        if samples > 0 {
            self.figures().dropped_samples += samples;
            self_metrics::remote_write_dropped(&self.context.name, reason).increment(samples);
        }
    }

    /// Sends what waits, as it comes.
    async fn ship(&self) {
        loop {
            match self.send_first().await {
                Some(wait) => tokio::time::sleep(wait).await,
                None => self.filled.notified().await,
            }
            self.report().await;
        }
    }

    /// Sends the oldest request. How long to wait before the next; `None` when nothing waits.
    async fn send_first(&self) -> Option<Duration> {
        let (number, batch) = {
            let mut queue = self.queue.lock().await;
            let aged = queue.drop_aged(clock::now().millis()).await;
            self.count_dropped("age", aged);
            let (first, lost) = queue.first().await;
            self.count_dropped("unreadable", lost);
            match first {
                First::Request(number, batch) => (number, batch),
                First::Nothing => return None,
                First::Later(error) => return Some(self.failed(error, None)),
            }
        };
        match self.post(&batch).await {
            Outcome::Taken => {
                self.queue.lock().await.remove(number).await;
                {
                    let mut figures = self.figures();
                    figures.failures = 0;
                    figures.sent_samples += batch.samples;
                    figures.last_error.clear();
                }
                self_metrics::remote_write_sent(&self.context.name).increment(batch.samples);
                self_metrics::remote_write_highest(&self.context.name).set(batch.highest_ms as f64 / 1e3);
                if self.said.set(false) {
                    tracing::info!(export = %self.context.name, "the receiver takes samples again");
                }
                Some(Duration::ZERO)
            }
            Outcome::Refused { reason, text } => {
                self.queue.lock().await.remove(number).await;
                self.count_dropped(reason, batch.samples);
                let mut figures = self.figures();
                if figures.last_error != text {
                    tracing::error!(export = %self.context.name, samples = batch.samples, error = text, "the receiver refuses samples for good");
                }
                (figures.failures, figures.last_error) = (0, text);
                Some(Duration::ZERO)
            }
            Outcome::Later { text, wait } => {
                self_metrics::remote_write_failed(&self.context.name).increment(1);
                Some(self.failed(text, wait))
            }
        }
    }

    /// Nothing could be sent; how long to wait.
    fn failed(&self, text: String, wait: Option<Duration>) -> Duration {
        if self.said.set(true) {
            tracing::warn!(export = %self.context.name, error = text, "samples cannot be sent; they wait");
        }
        let mut figures = self.figures();
        let doubled = FIRST_WAIT.saturating_mul(1 << figures.failures.min(10)).min(LONGEST_WAIT);
        (figures.failures, figures.last_error) = (figures.failures.saturating_add(1), text);
        wait.map_or(doubled, |wait| wait.clamp(FIRST_WAIT, LONGEST_WAIT))
    }

    async fn post(&self, batch: &Batch) -> Outcome {
        let later = |text: String| Outcome::Later { text, wait: None };
        let request = self
            .client
            .post(self.url.clone())
            .timeout(Duration::from_millis(self.config.timeout_ms.unsigned_abs()))
            .header("content-type", "application/x-protobuf")
            .header("content-encoding", "snappy")
            .header("x-prometheus-remote-write-version", "0.1.0")
            .body(batch.packed.clone());
        let request = match with_options(request, &self.config.http).await {
            Ok(request) => request,
            Err(error) => return later(error),
        };
        let answer = match request.send().await {
            Ok(answer) => answer,
            Err(error) => return later(root_cause(&error.without_url())),
        };
        let status = answer.status();
        let redirected = redirect_hint(&self.url, &answer);
        if status.is_success() {
            return Outcome::Taken;
        }
        let wait = answer
            .headers()
            .get("retry-after")
            .and_then(|value| value.to_str().ok()?.trim().parse::<u64>().ok())
            .map(Duration::from_secs);
        let text = answer.text().await.unwrap_or_default();
        let first: String = text.lines().next().unwrap_or_default().chars().take(200).collect();
        let first = redirected.unwrap_or(first);
        let text = format!("{status} {first}").trim_end().to_owned();
        if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
            Outcome::Later { text, wait }
        } else {
            Outcome::Refused { reason: "refused", text }
        }
    }

    async fn report(&self) {
        let (requests, bytes) = self.queue.lock().await.waiting();
        let figures = self.figures().clone();
        self_metrics::remote_write_pending(&self.context.name).set(bytes as f64);
        self.context.statuses.update(&self.context.name, |status| {
            status.kind = "remote_write";
            status.state = if figures.failures > 0 { "waiting" } else { "sending" };
            status.pending = requests;
            status.pending_bytes = bytes;
            status.sent = figures.sent_samples;
            status.dropped = figures.dropped_samples;
            status.last_error = figures.last_error;
        });
    }
}
