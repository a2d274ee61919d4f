//! The core: a synchronous, deterministic state machine. No clock, no I/O, no task, no random state.
//!
//! [`Engine`] owns the series, the mappings, the health checks and the rules; the notifier stands beside it in [`Core`],
//! because both are driven by the same hand: the live shell (`app`), rule tests and the simulation are three drivers of one core.
//!
//! A driver repeats: [`Core::observe`] what came in, [`Core::tick`], run what [`Core::due`] hands out (each job is a pure
//! function of its read view, inline or on a worker), [`Core::apply`] the results, send what [`Core::notifications`]
//! gives, sleep until [`Core::next_due`]. `now` never goes backwards: an earlier `now` counts as the latest one seen.

mod alerts;
mod checkpoint;
mod counts;
mod dedup;
mod event_log;
mod expiry;
pub mod life_cycle;
mod parts;
mod quarantine;
mod recent;
mod record;
mod scrape;
mod tap;

pub use checkpoint::{RestoreError, Restored};
pub use event_log::{EventLog, LogLine};
pub use life_cycle::{Moment, Speaker, Told};
pub use parts::{Parts, SourcePart};
pub use quarantine::{Quarantine, QuarantineEntry};
pub use recent::{RecentEvent, SecondTotals, Totals};
pub use tap::{TapSpec, Tapped, TapsDropped};

use crate::health::{self, Checks, ProbeOutcome};
use crate::mapping::Mappings;
use crate::model::{Alert, EventBatch, FieldPlan, Labels, Timestamp};
use crate::notify::{Notification, Notifier, PostedAlerts};
use crate::promql::Options;
use crate::rules::{self, Effects, Rules, SourceHealth};
use crate::series::{Metadata, SampleValue, Selection, Storage, Store, View, Written};
use crate::source::SourceState;
use crate::source::counts::CountBatch;
use crate::source::decode::Framing;
use crate::source::received::ReceivedBatch;
use crate::source::remote_write::WriteRequest;
use crate::source::scrape::{ScrapeBatch, ScrapeTargets};
use counts::Counts;
use dedup::Dedup;
use event_log::EventLogs;
use life_cycle::LifeCycle;
use recent::Recent;
use scrape::{SCRAPE, Scrapes};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tap::Taps;

/// What comes in from outside.
#[derive(Debug)]
pub enum Input {
    /// Decoded events.
    Events(EventBatch),
    /// Samples with times of their own (self-metrics read back, scrapes, remote write).
    Samples(Vec<InputSample>),
    /// What one scrape of a target found.
    Scrape(Box<ScrapeBatch>),
    /// Changes of series that a source has counted itself.
    Counts(Box<CountBatch>),
    /// Samples that somebody else has counted.
    Received(Box<ReceivedBatch>),
    /// Which targets a source scrapes from now on.
    ScrapeTargets(ScrapeTargets),
    /// What an HTTP probe of a health check found.
    Probe {
        /// The check's name.
        check: String,
        /// What it found.
        outcome: ProbeOutcome,
    },
    /// A source's connection changed.
    Source {
        /// The source's name.
        name: Arc<str>,
        /// Its state now.
        state: SourceState,
    },
}

/// One received sample.
#[derive(Clone, Debug)]
pub struct InputSample {
    /// All labels with the metric's name.
    pub labels: Labels,
    /// Milliseconds since the epoch.
    pub t_ms: i64,
    /// The value.
    pub value: f64,
}

/// A source as the status shows it.
#[derive(Clone, Debug)]
pub struct SourceStatus {
    /// The kind of transport, for people.
    pub kind: &'static str,
    /// Its state.
    pub state: SourceState,
    /// Since when.
    pub since: Timestamp,
    /// Events received since the start.
    pub events: u64,
}

/// A piece of evaluation: a pure function of a read view.
#[derive(Debug)]
pub enum EvalJob {
    /// Rules of one group.
    Rules(rules::EvalJob),
    /// The expression of one health check.
    Health {
        /// The check's name.
        check: String,
        /// Its query.
        query: Arc<crate::promql::Query>,
        /// When.
        at: Timestamp,
    },
}

/// What a job found.
#[derive(Debug)]
pub enum EvalResult {
    /// Of rules.
    Rules(rules::EvalResult),
    /// Of a health check: whether the condition holds, with the value, or why it could not be evaluated.
    Health {
        /// The check's name.
        check: String,
        /// The outcome.
        outcome: Result<Option<f64>, String>,
    },
}

impl EvalJob {
    /// What it reads, so that a read view can be made for it.
    pub fn selections(&self, options: &Options) -> Vec<Selection> {
        match self {
            Self::Rules(job) => job.selections(),
            Self::Health { query, at, .. } => query.selections(at.millis(), at.millis(), options),
        }
    }

    /// Evaluates on a read view.
    pub fn run(&self, storage: &dyn Storage, options: &Options) -> EvalResult {
        match self {
            Self::Rules(job) => EvalResult::Rules(job.run(storage, options)),
            Self::Health { check, query, at } => EvalResult::Health {
                check: check.clone(),
                outcome: health::evaluate(query, storage, at.millis(), options),
            },
        }
    }
}

/// A change worth keeping in the history and saying in the log.
#[derive(Clone, Debug)]
pub enum Change {
    /// An alert changed its phase.
    Alert(rules::RuleTransition),
    /// A rule's evaluation began to fail, or recovered.
    Rule {
        /// The group.
        group: Arc<str>,
        /// The rule.
        rule: Arc<str>,
        /// Why it fails; `None` when it works again.
        error: Option<String>,
    },
    /// A health check changed its status.
    Health(health::Transition),
}

/// Samples of self-counted series are this far apart, in milliseconds.
const TICK_MS: i64 = 1_000;

/// Series, mappings, checks and rules behind one door.
pub struct Engine {
    now: Timestamp,
    started: Timestamp,
    plan: Arc<FieldPlan>,
    store: Store,
    mappings: Mappings,
    checks: Checks,
    rules: Rules,
    recent: Recent,
    sources: BTreeMap<Arc<str>, SourceStatus>,
    positions: BTreeMap<Arc<str>, Vec<u8>>,
    changes: Vec<Change>,
    base_labels: Labels,
    scrapes: Scrapes,
    quarantine: Quarantine,
    dedup: Dedup,
    counts: Counts,
    /// `None` for drivers that have no life of their own: rule tests, simulation.
    life_cycle: Option<LifeCycle>,
    taps: Taps,
    logs: EventLogs,
}

impl Engine {
    /// A fresh core from compiled parts.
    pub fn new(parts: &Parts, now: Timestamp) -> Self {
        let mut store = Store::new(parts.store_options());
        let mut mappings = parts.mappings.clone();
        mappings.declare(&mut store, now);
        let mut checks = parts.checks.clone();
        checks.start(now);
        let mut quarantine = Quarantine::default();
        quarantine.set_limits(parts.limits.quarantine_events, parts.limits.quarantine_bytes);
        Self {
            now,
            started: now,
            plan: parts.plan.clone(),
            store,
            mappings,
            checks,
            rules: Rules::new(parts.rule_set.clone(), now),
            recent: Recent::new(parts.redactor.clone()),
            sources: parts.source_statuses(now),
            positions: BTreeMap::new(),
            changes: Vec::new(),
            base_labels: parts.base_labels.clone(),
            scrapes: Scrapes::new(),
            quarantine,
            dedup: Dedup::new(&parts.sources),
            counts: Counts::default(),
            life_cycle: None,
            taps: Taps::new(parts.taps.clone()),
            logs: {
                let mut logs = EventLogs::default();
                logs.configure(parts.event_logs.clone());
                logs
            },
        }
    }

    fn advance(&mut self, now: Timestamp) -> Timestamp {
        self.now = self.now.max(now);
        self.now
    }

    /// Takes in what came from outside, in order.
    pub fn observe(&mut self, now: Timestamp, inputs: impl IntoIterator<Item = Input>) {
        let now = self.advance(now);
        let mut effects = Effects::default();
        for input in inputs {
            match input {
                Input::Events(batch) => self.events(now, batch, &mut effects),
                Input::Samples(samples) => {
                    for sample in samples {
                        // A refused sample is counted by the store, by reason.
                        let _ = self.store.append(&sample.labels, sample.t_ms, SampleValue::Float(sample.value), 0);
                    }
                }
                Input::Scrape(batch) => self.scrape(&batch),
                Input::Counts(batch) => self.count(now, &batch),
                Input::Received(batch) => self.store.apply_received(&batch, &self.base_labels),
                Input::ScrapeTargets(all) => self.scrape_targets(now, &all.source, &all.targets),
                Input::Probe { check, outcome } => self.checks.probe_result(now, &check, outcome),
                // What was removed may still have said something.
                Input::Source { name, state } if self.sources.contains_key(&name) => {
                    self.source(now, &name, state, &mut effects);
                }
                Input::Source { .. } => {}
            }
        }
        self.settle(now, effects);
    }

    fn events(&mut self, now: Timestamp, mut batch: EventBatch, effects: &mut Effects) {
        expiry::drop_expired(&mut batch, now);
        self.dedup.filter(&mut batch);
        self.quarantine.observe(&mut batch);
        self.mappings.drop_events(&mut batch, &mut self.store, now);
        self.taps.observe(&batch);
        self.mappings.apply(&batch, &mut self.store, now);
        self.logs.observe(now, &batch);
        self.rules.observe(now, &batch, &self.store, effects);
        self.checks.observe(now, &batch);
        if let Some(source) = self.sources.get_mut(&batch.source) {
            source.events += batch.events.len() as u64;
        }
        if let Some(position) = batch.position.take() {
            self.positions.insert(batch.source.clone(), position);
        }
        let came_in = &*batch.source != life_cycle::SOURCE;
        self.recent.observe(now, batch, came_in);
    }

    fn source(&mut self, now: Timestamp, name: &Arc<str>, state: SourceState, effects: &mut Effects) {
        let known = self.sources.get(name);
        if let Some(told) = self.life_cycle.as_mut().and_then(|life| life.of_source(now, name, known, &state)) {
            let mut brought = Effects::default();
            self.tell(now, vec![told], &mut brought);
            self.settle_told(now, brought);
        }
        let health = match &state {
            SourceState::Lost { reason } => SourceHealth::Lost { reason: reason.clone() },
            SourceState::CatchingUp { .. } => SourceHealth::CatchingUp,
            SourceState::Starting | SourceState::Connected | SourceState::Ended => SourceHealth::Live,
        };
        if self.sources.get(name).is_some_and(|status| status.kind == SCRAPE) {
            // It brings no events: conditions on their silence go on while it is deaf.
            self.rules.deaf(now, name, health, effects);
        } else {
            self.rules.source_state(now, name, health, effects);
            self.checks.source_state(now, name, &state);
        }
        if let Some(status) = self.sources.get_mut(name) {
            if std::mem::discriminant(&status.state) != std::mem::discriminant(&state) {
                status.since = now;
            }
            status.state = state;
        }
    }

    /// Writes what rules recorded, tells rules which metrics changed, collects what goes to the history.
    fn settle(&mut self, now: Timestamp, effects: Effects) {
        for sample in &effects.samples {
            let _ = self.store.append(&sample.labels, sample.t_ms, sample.value.clone(), 0);
        }
        let first = self.changes.len();
        self.changes.extend(effects.transitions.into_iter().map(Change::Alert));
        self.changes.extend(effects.failures.into_iter().map(|(group, rule, error)| Change::Rule {
            group,
            rule,
            error,
        }));
        self.changes.extend(self.checks.take_transitions().into_iter().map(Change::Health));
        if self.store.has_changes() {
            let changed = self.store.changed_metrics();
            let (store, rules) = (&self.store, &mut self.rules);
            rules.metrics_changed(now, &mut changed.iter().map(|id| store.metric_name(*id)));
        }
        self.tell_changes(now, first);
    }

    /// Lets time pass: samples of the second, expiry, event conditions, heartbeats.
    pub fn tick(&mut self, now: Timestamp) {
        let now = self.advance(now);
        if self.store.last_tick().is_none_or(|last| now.millis_since(last) >= TICK_MS) {
            self.counts.tick(&mut self.store, now);
            self.store.tick(now);
        }
        let mut effects = Effects::default();
        self.rules.tick(now, &self.store, &mut effects);
        self.checks.tick(now);
        self.settle(now, effects);
    }

    /// The evaluations whose time has come. Each job's result must come back through [`Engine::apply`], or be given up
    /// with [`Engine::lost`].
    pub fn due(&mut self, now: Timestamp) -> Vec<EvalJob> {
        let now = self.advance(now);
        let rules = self.rules.due(now).into_iter().map(EvalJob::Rules);
        let health = self.checks.due(now).into_iter().map(|(check, query)| EvalJob::Health { check, query, at: now });
        rules.chain(health).collect()
    }

    /// A view for a job: what its expressions read.
    pub fn view(&self, selections: &[Selection]) -> View {
        self.store.view(selections)
    }

    /// Takes a job's result; `took` is what the shell measured.
    pub fn apply(&mut self, now: Timestamp, result: EvalResult, took: Duration) {
        let now = self.advance(now);
        let mut effects = Effects::default();
        match result {
            EvalResult::Rules(result) => self.rules.apply(now, result, took, &mut effects),
            EvalResult::Health { check, outcome } => self.checks.expr_result(now, &check, outcome),
        }
        self.settle(now, effects);
    }

    /// Gives up a job whose worker broke or had no room; its group is due again at its next slot.
    pub fn lost(&mut self, now: Timestamp, job: &EvalJob) {
        match job {
            EvalJob::Rules(job) => self.rules.lost(job.ticket()),
            EvalJob::Health { check, .. } => {
                let outcome = Err("the evaluation broke or had no room".into());
                self.apply(now, EvalResult::Health { check: check.clone(), outcome }, Duration::ZERO);
            }
        }
    }

    /// Takes a request of remote write; samples may be late by `window_ms`.
    pub fn receive(&mut self, now: Timestamp, request: &WriteRequest, window_ms: i64) -> Written {
        let now = self.advance(now);
        let written = self.store.receive(request, now.millis(), window_ms);
        self.settle(now, Effects::default());
        written
    }

    /// Says what a received metric is, for the API's metadata.
    pub fn describe(&mut self, metric: &Metadata) {
        self.store.describe(&metric.name, metric.kind, &metric.help, &metric.unit);
    }

    /// When [`Engine::tick`] or [`Engine::due`] has something to do next.
    pub fn next_due(&self) -> Timestamp {
        let tick = self.store.last_tick().map_or(self.now, |last| last.plus_millis(TICK_MS));
        [self.rules.next_due(), self.checks.next_due()].into_iter().flatten().fold(tick, Timestamp::min)
    }

    /// Swaps in the parts of a new configuration. Series, positions and the state of what is unchanged stay.
    pub fn reconfigure(&mut self, parts: &Parts, now: Timestamp) {
        let now = self.advance(now);
        let mut effects = Effects::default();
        let old = std::mem::replace(&mut self.mappings, parts.mappings.clone());
        self.store.set_limits(parts.store_options().limits);
        self.mappings.declare(&mut self.store, now);
        self.mappings.carry_over(old, &mut self.store, now);
        self.counts.look_again();
        self.checks.reconfigure(parts.checks.clone(), now);
        self.rules.reconfigure(parts.rule_set.clone(), now, &mut effects);
        self.plan = parts.plan.clone();
        self.recent.set_redactor(parts.redactor.clone());
        self.quarantine.set_limits(parts.limits.quarantine_events, parts.limits.quarantine_bytes);
        self.dedup.reconfigure(&parts.sources);
        self.taps = Taps::new(parts.taps.clone());
        self.logs.configure(parts.event_logs.clone());
        let old = std::mem::replace(&mut self.sources, parts.source_statuses(now));
        for (name, status) in old {
            match self.sources.get_mut(&name) {
                Some(kept) => *kept = SourceStatus { kind: kept.kind, ..status },
                // What is configured no more is not missed.
                None => self.source(now, &name, SourceState::Ended, &mut effects),
            }
        }
        self.settle(now, effects);
    }

    /// What was restored as deaf and is configured no more is not missed.
    fn end_unknown_sources(&mut self, now: Timestamp) {
        let unknown = |name: &&str| !self.sources.contains_key(*name);
        let unknown: Vec<Arc<str>> = self.rules.deaf_sources().filter(unknown).map(Arc::from).collect();
        let mut effects = Effects::default();
        for name in unknown {
            self.source(now, &name, SourceState::Ended, &mut effects);
        }
        self.settle(now, effects);
    }

    /// The plan that batches must be decoded with.
    pub fn plan(&self) -> &Arc<FieldPlan> {
        &self.plan
    }

    /// The series.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The rules.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// The health checks.
    pub fn checks(&self) -> &Checks {
        &self.checks
    }

    /// The published alert set with its version.
    pub fn published(&mut self) -> (u64, Arc<Vec<Arc<Alert>>>) {
        self.rules.published()
    }

    /// The sources by name.
    pub fn sources(&self) -> &BTreeMap<Arc<str>, SourceStatus> {
        &self.sources
    }

    /// The transport position after which a source goes on.
    pub fn position(&self, source: &str) -> Option<&[u8]> {
        self.positions.get(source).map(Vec::as_slice)
    }

    /// Events since the start, and by second.
    pub fn totals(&self) -> &Totals {
        &self.recent.totals
    }

    /// The latest events after a number, newest first.
    pub fn recent(&self, after: u64, limit: usize, keep: impl FnMut(&RecentEvent) -> bool) -> Vec<RecentEvent> {
        self.recent.after(after, limit, keep)
    }

    /// Refused input that is kept.
    pub fn quarantine(&self) -> &Quarantine {
        &self.quarantine
    }

    /// The same, to be emptied.
    pub fn quarantine_mut(&mut self) -> &mut Quarantine {
        &mut self.quarantine
    }

    /// `job` and `instance`, which every series of this process carries in queries.
    pub fn base_labels(&self) -> &Labels {
        &self.base_labels
    }

    /// When this core was made.
    pub fn started(&self) -> Timestamp {
        self.started
    }

    /// The latest `now` seen.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// From now on the life cycle is told, by this speaker.
    pub fn tell_life_cycle(&mut self, speaker: Speaker) {
        self.life_cycle = LifeCycle::new(speaker);
    }

    /// Something happened that only the shell knows.
    pub fn moment(&mut self, now: Timestamp, moment: &Moment) {
        let now = self.advance(now);
        let Some(told) = self.life_cycle.as_ref().map(|life| life.of_moment(now, moment)) else { return };
        let mut effects = Effects::default();
        self.tell(now, vec![told], &mut effects);
        self.settle_told(now, effects);
    }

    /// What was told since the last call, in order.
    pub fn take_told(&mut self) -> Vec<Told> {
        self.life_cycle.as_mut().map(|life| std::mem::take(&mut life.told)).unwrap_or_default()
    }

    /// Events of the life cycle that were kept out of the stream.
    pub fn life_cycle_suppressed(&self) -> u64 {
        self.life_cycle.as_ref().map_or(0, |life| life.suppressed)
    }

    /// What logs and traces want of the stream, since the last call.
    pub fn take_tapped(&mut self) -> (Vec<Tapped>, TapsDropped) {
        self.taps.take()
    }

    /// Changes from a place on become events.
    fn tell_changes(&mut self, now: Timestamp, first: usize) {
        let Some(life) = &mut self.life_cycle else { return };
        let told: Vec<Told> = self.changes[first..].iter().filter_map(|change| life.of_change(change)).collect();
        if told.is_empty() {
            return;
        }
        let mut effects = Effects::default();
        self.tell(now, told, &mut effects);
        self.settle_told(now, effects);
    }

    /// Puts what is told into the stream.
    fn tell(&mut self, now: Timestamp, told: Vec<Told>, effects: &mut Effects) {
        let Some(life) = &mut self.life_cycle else { return };
        let mut documents = String::new();
        for told in told {
            let document = told.document.clone();
            if life.tell(told) {
                documents.push_str(&document);
                documents.push('\n');
            }
        }
        if documents.is_empty() {
            return;
        }
        let source: Arc<str> = life_cycle::SOURCE.into();
        let mut batch = life.decoder.decode(documents.into_bytes(), Framing::Ndjson, &self.plan, &source, now);
        // They report on sidewatch and its checks: no failure of the service.
        batch.events.iter_mut().for_each(|event| event.failed = false);
        self.events(now, batch, effects);
    }

    /// Settles what events of the life cycle brought about: told as well, and no events again.
    fn settle_told(&mut self, now: Timestamp, effects: Effects) {
        let before = self.life_cycle.as_mut().map(|life| std::mem::replace(&mut life.inside, true));
        self.settle(now, effects);
        if let (Some(life), Some(before)) = (&mut self.life_cycle, before) {
            life.inside = before;
        }
    }

    /// The lines of event logs since the last call, and how many of each log found no room.
    pub fn take_log_lines(&mut self) -> (Vec<LogLine>, BTreeMap<Arc<str>, u64>) {
        self.logs.take()
    }

    /// What changed since the last call, for log and history.
    pub fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }
}

/// Engine and notifier together: what a driver drives.
pub struct Core {
    /// The engine.
    pub engine: Engine,
    /// The notifier.
    pub notifier: Notifier,
    /// Alerts that others have posted.
    pub posted: PostedAlerts,
    told_version: Option<(u64, u64)>,
    /// How often somebody changed something through the API that must survive a restart.
    commands: u64,
}

impl Core {
    /// A fresh core. Notifications wait until every group of rules has evaluated once.
    pub fn new(parts: &Parts, now: Timestamp) -> Self {
        let mut notifier = Notifier::new(parts.routing.clone());
        notifier.hold_until_ready(true);
        let posted = PostedAlerts::new(parts.limits.posted_alerts);
        Self { engine: Engine::new(parts, now), notifier, posted, told_version: None, commands: 0 }
    }

    /// What is to be sent now, each with its named reason.
    pub fn notifications(&mut self, now: Timestamp) -> Vec<Notification> {
        if self.notifier.is_held() && self.engine.rules.all_evaluated_once() {
            self.notifier.hold_until_ready(false);
        }
        let (version, alerts) = self.alerts(now);
        if self.told_version != Some(version) {
            self.told_version = Some(version);
            self.notifier.update(now, &alerts);
        }
        if self.notifier.next_due().is_some_and(|due| due <= now) { self.notifier.tick(now) } else { Vec::new() }
    }

    /// When something is to be done next, at the latest.
    pub fn next_due(&self) -> Timestamp {
        let others = self.notifier.next_due().into_iter().chain(self.posted.next_change());
        others.fold(self.engine.next_due(), Timestamp::min)
    }

    /// Runs everything that is due at `now` inline: what simulation, replay and tests use in place of a worker.
    pub fn step(&mut self, now: Timestamp, options: &Options<'_>) -> Vec<Notification> {
        self.engine.tick(now);
        loop {
            let jobs = self.engine.due(now);
            if jobs.is_empty() {
                break;
            }
            for job in jobs {
                let result = job.run(&self.engine.store, options);
                self.engine.apply(now, result, Duration::ZERO);
            }
        }
        self.notifications(now)
    }

    /// Swaps in the parts of a new configuration.
    pub fn reconfigure(&mut self, parts: &Parts, now: Timestamp) {
        self.engine.reconfigure(parts, now);
        self.notifier.reconfigure(parts.routing.clone(), now);
        self.posted.set_limit(parts.limits.posted_alerts);
        self.told_version = None;
    }
}
