//! The `scrape` source: metrics that a service exposes, fetched over HTTP each interval.
//!
//! A target is a loop: fetch, read (outside the core), hand the samples over as one batch. A scrape is whole or nothing: one
//! bad line, a timeout or too many samples make it a failed one, which stores `up 0` and ends the target's series. What
//! Prometheus's scrape loop does is done as it does it: `up` and the figures of each scrape, conflicting labels,
//! relabelling, markers of staleness, times aligned to the interval.

mod batch;
mod cache;
mod convert;
mod fetch;
mod md5;
mod protobuf;
mod relabel;
mod target;
#[cfg(test)]
mod tests;
mod text;

pub use batch::{FamilyMetadata, NativeHistogram, ScrapeBatch, ScrapeTargets};
pub use fetch::{client as http_client, is_local, with_options};
pub use relabel::Relabeling;

use super::{Ingest, RETRY, SourceContext, SourceState};
use crate::config::schema::ScrapeConfig;
use crate::telemetry::{clock, self_metrics};
use cache::{Making, SeriesCache};
use fetch::{Fetcher, Format, NoAnswer};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use target::Target;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

/// Numbers of series hold within one of these.
static SESSIONS: AtomicU64 = AtomicU64::new(1);

/// A scrape's time is the interval's when it began no later than this behind it (or a hundredth of the interval): regular
/// times cost a bit in the rings, irregular ones two bytes. Prometheus's `scrape.timestamp-tolerance`, which many set so.
const TOLERANCE_MS: i64 = 15;
/// Longer answers are read on a thread of their own, so that other tasks go on.
const LONG_BYTES: usize = 256 << 10;
/// How much of the reasons a state shows, in targets.
const REASONS_SHOWN: usize = 3;

/// Scrapes all targets until cancelled.
pub(super) async fn run(context: &SourceContext, config: &ScrapeConfig, cancel: &CancellationToken) {
    let targets = match target::targets(&context.name, config) {
        Ok(targets) => targets,
        Err(reason) => {
            tracing::warn!(source = %context.name, %reason, "nothing can be scraped");
            context.report(SourceState::Lost { reason }).await;
            return;
        }
    };
    let session = SESSIONS.fetch_add(1, Ordering::Relaxed);
    let keys = targets.iter().map(|target| target.key.clone()).collect();
    let told = Ingest::ScrapeTargets(ScrapeTargets { source: context.name.clone(), targets: keys });
    if context.sink.send(told).await.is_err() {
        return;
    }
    if targets.is_empty() {
        tracing::warn!(source = %context.name, "relabelling drops every target; nothing is scraped");
        context.report(SourceState::Connected).await;
    }
    let standing = Arc::new(Standing::new(&targets));
    let mut loops = JoinSet::new();
    for target in targets {
        let (context, config) = (context.clone(), config.clone());
        let (standing, cancel) = (standing.clone(), cancel.clone());
        loops.spawn(async move { Loop::new(context, config, target, session, standing).run(&cancel).await });
    }
    while loops.join_next().await.is_some() {}
}

/// How the targets of one source stand together.
struct Standing {
    /// Held for a comparison and a store.
    targets: Mutex<Outcomes>,
}

/// By target: `None` before the first scrape, then why it fails.
type Outcomes = BTreeMap<Arc<str>, Option<Result<(), String>>>;

impl Standing {
    fn new(targets: &[Target]) -> Self {
        Self { targets: Mutex::new(targets.iter().map(|target| (target.key.clone(), None)).collect()) }
    }

    /// Notes a target's outcome; the state of the source when it differs from the one before.
    fn set(&self, target: &Arc<str>, outcome: Result<(), String>) -> Option<SourceState> {
        let mut targets = self.targets.lock().unwrap_or_else(PoisonError::into_inner);
        let before = Self::state(&targets);
        targets.insert(target.clone(), Some(outcome));
        let after = Self::state(&targets);
        (before != after).then_some(after)
    }

    /// Lost when one target is: what it says is not heard.
    fn state(targets: &Outcomes) -> SourceState {
        let reasons: Vec<&str> =
            targets.values().flatten().filter_map(|outcome| outcome.as_ref().err()).map(String::as_str).collect();
        match (reasons.len(), targets.len()) {
            (0, _) if targets.values().any(Option::is_none) => SourceState::Starting,
            (0, _) => SourceState::Connected,
            (1, 1) => SourceState::Lost { reason: reasons[0].to_owned() },
            (lost, all) => {
                let shown = reasons[..lost.min(REASONS_SHOWN)].join("; ");
                SourceState::Lost { reason: format!("{lost} of {all} targets: {shown}") }
            }
        }
    }
}

/// The loop of one target.
struct Loop {
    context: SourceContext,
    config: ScrapeConfig,
    target: Target,
    session: u64,
    standing: Arc<Standing>,
    /// Away while a long answer is read elsewhere.
    reading: Option<Reading>,
    /// The time that the grid of this target's scrapes starts from.
    grid_ms: i64,
    last_ms: i64,
}

/// What reading an answer needs.
struct Reading {
    cache: SeriesCache,
    body: Vec<u8>,
    convert: bool,
}

impl Loop {
    fn new(
        context: SourceContext,
        config: ScrapeConfig,
        target: Target,
        session: u64,
        standing: Arc<Standing>,
    ) -> Self {
        let making = Making {
            target_labels: target.labels.clone(),
            honor_labels: config.honor_labels,
            honor_timestamps: config.honor_timestamps,
            classic_histograms: config.classic_histograms,
            steps: relabel::compile(&config.metric_relabel),
            sample_limit: config.sample_limit,
        };
        let reading = Reading { cache: SeriesCache::new(making), body: Vec::new(), convert: config.convert_classic };
        Self { context, config, target, session, standing, reading: Some(reading), grid_ms: 0, last_ms: i64::MIN }
    }

    async fn run(mut self, cancel: &CancellationToken) {
        let mut fetcher = loop {
            match Fetcher::new(&self.config, &self.target, &self.context.base_dir) {
                Ok(fetcher) => break fetcher,
                Err(reason) => {
                    self.stand(Err(NoAnswer { reason: "client", message: reason })).await;
                    tokio::select! {
                        () = tokio::time::sleep(RETRY) => {}
                        () = cancel.cancelled() => return,
                    }
                }
            }
        };
        let mut ticks = tokio::time::interval(Duration::from_millis(self.config.interval_ms.unsigned_abs()));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = cancel.cancelled() => return,
            }
            let taken = tokio::select! {
                taken = self.scrape(&mut fetcher) => taken,
                () = cancel.cancelled() => return,
            };
            if !taken {
                return;
            }
        }
    }

    /// The time of a scrape that begins now: on the grid when it is near enough, later than the one before.
    fn time(&mut self) -> i64 {
        let now_ms = clock::now().millis();
        let interval = self.config.interval_ms.max(1);
        let tolerance = (interval / 100).min(TOLERANCE_MS);
        let slot = (now_ms - self.grid_ms + interval / 2).div_euclid(interval);
        let aligned = self.grid_ms + slot * interval;
        if (now_ms - aligned).abs() > tolerance {
            self.grid_ms = now_ms;
        }
        let at_ms = if (now_ms - aligned).abs() > tolerance { now_ms } else { aligned };
        self.last_ms = at_ms.max(self.last_ms.saturating_add(1));
        self.last_ms
    }

    /// One scrape; `false` when the core has ended.
    async fn scrape(&mut self, fetcher: &mut Fetcher) -> bool {
        let (at_ms, began) = (self.time(), clock::instant());
        let Some(mut reading) = self.reading.take() else { return false };
        let fetched = fetcher.fetch(&mut reading.body).await;
        reading.cache.begin(at_ms);
        let outcome = match fetched {
            Err(no_answer) => Err(no_answer),
            Ok(format) => {
                self_metrics::source_received_bytes(&self.context.name).increment(reading.body.len() as u64);
                if reading.body.len() > LONG_BYTES {
                    let elsewhere = tokio::task::spawn_blocking(move || {
                        let outcome = reading.read(format);
                        (reading, outcome)
                    });
                    match elsewhere.await {
                        Ok((back, outcome)) => {
                            reading = back;
                            outcome
                        }
                        // It broke (a bug, said by the panic hook) or the process ends.
                        Err(_) => return false,
                    }
                } else {
                    reading.read(format)
                }
            }
        };
        let seconds = began.elapsed().as_secs_f64();
        let mut batch = if outcome.is_ok() { reading.cache.succeed(seconds) } else { reading.cache.fail(seconds) };
        batch.source = self.context.name.clone();
        batch.target = self.target.key.clone();
        batch.session = self.session;
        self.reading = Some(reading);
        self.stand(outcome).await;
        self.context.sink.send(Ingest::Scrape(Box::new(batch))).await.is_ok()
    }

    /// Counts a failure, and tells how the source stands when that has changed.
    async fn stand(&self, outcome: Result<(), NoAnswer>) {
        if let Err(NoAnswer { reason, .. }) = &outcome {
            self_metrics::scrapes_failed(&self.context.name, reason).increment(1);
        }
        let message = outcome.map_err(|no_answer| no_answer.message);
        if let Some(state) = self.standing.set(&self.target.key, message) {
            match &state {
                SourceState::Lost { reason } => {
                    tracing::warn!(source = %self.context.name, %reason, "the target cannot be scraped; trying again at each interval");
                }
                _ => tracing::info!(source = %self.context.name, "scraping"),
            }
            self.context.report(state).await;
        }
    }
}

impl Reading {
    /// Reads the answer into the cache's batch.
    fn read(&mut self, format: Format) -> Result<(), NoAnswer> {
        match format {
            Format::Text(dialect) => text::parse(&self.body, dialect, self.convert, &mut self.cache).map_err(|bad| {
                let place = if bad.text.is_empty() { String::new() } else { format!(": {}", bad.text) };
                NoAnswer { reason: bad.reason, message: format!("line {}: {}{place}", bad.line, bad.reason) }
            }),
            Format::Protobuf => protobuf::parse(&self.body, self.convert, &mut self.cache).map_err(|bad| NoAnswer {
                reason: bad.reason,
                message: format!("family {} {}: {}", bad.family, bad.name, bad.reason),
            }),
        }
    }
}

/// Reads expositions for measuring: the work of a scrape between the network and the core.
pub struct Scraper {
    reading: Reading,
}

impl Default for Scraper {
    fn default() -> Self {
        Self::new([("job", "bench"), ("instance", "127.0.0.1:80")])
    }
}

impl Scraper {
    /// With the target's labels.
    pub fn new<'a>(target_labels: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let target_labels =
            target_labels.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let making = Making { target_labels, honor_timestamps: true, classic_histograms: true, ..Making::default() };
        Self { reading: Reading { cache: SeriesCache::new(making), body: Vec::new(), convert: false } }
    }

    /// One scrape of that text in the format that the content type names.
    ///
    /// # Errors
    /// A sentence with the line; the batch of a failed scrape is lost.
    pub fn scrape(&mut self, body: &[u8], content_type: &str, at_ms: i64) -> Result<ScrapeBatch, String> {
        let format = fetch::format_named(content_type)?;
        self.reading.body.clear();
        self.reading.body.extend_from_slice(body);
        self.reading.cache.begin(at_ms);
        match self.reading.read(format) {
            Ok(()) => Ok(self.reading.cache.succeed(0.0)),
            Err(no_answer) => {
                self.reading.cache.fail(0.0);
                Err(no_answer.message)
            }
        }
    }
}
