//! One simulated life: clock, transport, disk, receivers and accidents around a core.

use super::configs::{SILENT_MS, STUCK_MS, Setup};
use super::model::{Digest, ITEMS, Log, REGIONS, Random, Receivers, Said, WORKERS};
use sidewatch::engine::{Change, Core, EvalResult, Input};
use sidewatch::model::Timestamp;
use sidewatch::notify::{LaneId, Next, Notification, Outbox, Outcome};
use sidewatch::promql::Options;
use sidewatch::rules::alert_state::AlertPhase;
use sidewatch::source::SourceState;
use sidewatch::source::decode::Framing;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// The sources; the second one brings only heartbeats.
pub const SOURCES: [&str; 2] = ["log", "beats"];
const OUTBOX_LIMIT: usize = 500;

pub enum Action {
    Beat(usize),
    Shop,
    Capture(u64),
    Deliver(usize),
    SourceUp(usize),
    Reachable(usize),
    Job(EvalResult),
    Attempt { lane: LaneId, id: u64, message: Arc<Notification>, fails: Option<Option<i64>> },
    DiskDone,
    OutboxDone,
    Start(usize),
    Wake,
}

/// A checkpoint on its way, with the outbox as it was then.
struct Write {
    blob: Vec<u8>,
    full: bool,
    at_ms: i64,
    outbox: (u64, Vec<u8>),
}

/// What is on disk and on its way there.
#[derive(Default)]
struct Disk {
    blobs: Vec<Vec<u8>>,
    stored_ms: i64,
    /// The outbox with its revision.
    outbox: (u64, Vec<u8>),
    writing: Option<Write>,
    writing_outbox: Option<(u64, Vec<u8>)>,
    broken_until: i64,
}

pub struct Process {
    pub core: Core,
    pub outbox: Outbox,
    cursors: [usize; 2],
    states: [Option<SourceState>; 2],
    last_ms: i64,
    last_full_ms: i64,
    need_full: bool,
    dirty: bool,
    outbox_stored: u64,
    /// When each value of an item arrived in this process.
    values: Vec<Vec<(i64, i64)>>,
}

pub struct World<'a> {
    setups: &'a [Setup],
    pub setup: usize,
    pub random: Random,
    pub now: i64,
    agenda: BTreeMap<(i64, u64), (u64, Action)>,
    next_number: u64,
    pub process: Option<Process>,
    life: u64,
    disk: Disk,
    pub logs: [Log; 2],
    reachable: [bool; 2],
    pub receivers: Receivers,
    down_until: BTreeMap<String, i64>,
    pub kills: u64,
    reloads: u64,
    changed_ms: i64,
    pub orders: BTreeMap<u64, (i64, Option<i64>)>,
    pub dead: BTreeSet<usize>,
    pub silent_until: i64,
    pub digest: Digest,
    pub calm: bool,
    pub transitions: u64,
    /// Says what happens.
    pub verbose: bool,
}

fn at(ms: i64) -> Timestamp {
    Timestamp::from_millis(ms)
}

impl<'a> World<'a> {
    pub fn new(setups: &'a [Setup], seed: u64) -> Self {
        let now = 1_700_000_000_000;
        let mut world = Self {
            setups,
            setup: 0,
            random: Random(seed),
            now,
            agenda: BTreeMap::new(),
            next_number: 0,
            process: None,
            life: 0,
            disk: Disk::default(),
            logs: Default::default(),
            reachable: [true; 2],
            receivers: Receivers::default(),
            down_until: BTreeMap::new(),
            kills: 0,
            reloads: 0,
            changed_ms: now,
            orders: BTreeMap::new(),
            dead: BTreeSet::new(),
            silent_until: 0,
            digest: Digest(0xcbf2_9ce4_8422_2325),
            calm: false,
            transitions: 0,
            verbose: false,
        };
        world.start(0);
        for worker in 0..WORKERS {
            world.after(worker as i64 * 900, 0, Action::Beat(worker));
        }
        world.after(100, 0, Action::Shop);
        world
    }

    pub fn config(&self) -> &'a Setup {
        &self.setups[self.setup]
    }

    pub fn trace(&self, what: impl FnOnce() -> String) {
        if self.verbose {
            println!("{} {}", at(self.now), what());
        }
    }

    /// Puts an action on the agenda; those of a life end with it (0: of the world).
    fn after(&mut self, delay_ms: i64, life: u64, action: Action) {
        self.next_number += 1;
        self.agenda.insert((self.now + delay_ms, self.next_number), (life, action));
    }

    /// Runs until a moment, everything in its order.
    pub fn run_until(&mut self, end: i64) {
        let mut spins = 0;
        let mut second = 0;
        while self.now < end {
            let due = self.process.as_ref().map(|process| process.core.next_due().micros().div_euclid(1_000) + 1);
            let planned = self.agenda.first_key_value().map(|((at, _), _)| *at);
            let next = due.into_iter().chain(planned).fold(end, i64::min);
            self.now = self.now.max(next);
            if self.now / 1_000 == second {
                spins += 1;
                assert!(spins < 20_000, "at {} the core asks to be driven without an end", self.now);
            } else {
                (second, spins) = (self.now / 1_000, 0);
            }
            while let Some(entry) = self.agenda.first_entry()
                && entry.key().0 <= self.now
            {
                let (life, action) = entry.remove();
                if life == 0 || life == self.life {
                    self.act(action);
                }
            }
            self.drive();
            if due.is_some_and(|due| due <= self.now) && planned.is_none_or(|planned| planned > self.now) {
                let again = self.process.as_ref().map(|process| process.core.next_due().millis());
                if again.is_some_and(|again| again <= self.now) {
                    self.now += 1;
                }
            }
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Beat(worker) => {
                if !self.dead.contains(&worker) {
                    self.say(Said::Beat(worker));
                }
                let pause = self.random.within(2_000, 4_000);
                self.after(pause, 0, Action::Beat(worker));
            }
            Action::Shop => {
                if self.now >= self.silent_until && !self.calm {
                    self.shop();
                }
                let pause = self.random.within(50, 2_500);
                self.after(pause, 0, Action::Shop);
            }
            Action::Capture(order) => {
                let took = self.random.within(1, 900);
                if let Some((_, captured)) = self.orders.get_mut(&order) {
                    *captured = Some(self.now);
                }
                self.say(Said::Captured(order, took));
            }
            Action::Deliver(source) => self.deliver(source),
            Action::SourceUp(source) => self.source_up(source),
            Action::Reachable(source) => {
                self.reachable[source] = true;
                self.source_up(source);
            }
            Action::Job(result) => {
                if let Some(process) = &mut self.process {
                    process.core.engine.apply(at(self.now), result, Duration::ZERO);
                }
            }
            Action::Attempt { lane, id, message, fails } => self.attempted(&lane, id, &message, fails),
            Action::DiskDone => self.disk_done(),
            Action::OutboxDone => self.outbox_written(),
            Action::Start(setup) => self.start(setup),
            Action::Wake => {}
        }
    }

    fn shop(&mut self) {
        match self.random.within(0, 9) {
            0..=3 => self.order(),
            4 => {
                let region = self.random.within(0, 2) as usize;
                self.say(Said::Refused(region));
            }
            _ => {
                let (item, low) = (self.random.within(0, 3) as usize, self.random.one_in(4));
                let quantity = if low { self.random.within(0, 12) } else { self.random.within(8, 60) };
                self.say(Said::Stock(item, quantity));
            }
        }
    }

    pub fn order(&mut self) {
        let order = self.orders.len() as u64;
        self.orders.insert(order, (self.now, None));
        let (region, amount) = (self.random.within(0, 2) as usize, self.random.within(1, 500));
        self.say(Said::Placed(order, region, amount));
        if !self.random.one_in(12) {
            let slow = self.random.one_in(15);
            let pause = if slow { self.random.within(12_000, 90_000) } else { self.random.within(5, 7_500) };
            self.after(pause, 0, Action::Capture(order));
        }
    }

    /// An event happens: it stands in its log, and is delivered when it can be.
    pub fn say(&mut self, said: Said) {
        let source = usize::from(matches!(said, Said::Beat(_)));
        self.logs[source].entries.push((self.now, said));
        let pause = self.random.within(1, 300);
        self.after(pause, self.life, Action::Deliver(source));
    }

    fn deliver(&mut self, source: usize) {
        let Some(process) = &mut self.process else { return };
        let Some(SourceState::Connected | SourceState::CatchingUp { .. }) = process.states[source] else { return };
        let from = process.cursors[source];
        let entries = &self.logs[source].entries;
        let to = entries.len().min(from + self.random.within(20, 400) as usize);
        if from < to {
            let mut text = String::new();
            for (id, (t_ms, said)) in entries.iter().enumerate().take(to).skip(from) {
                text.push_str(&said.line(id, *t_ms));
                text.push('\n');
                if let Said::Stock(item, quantity) = said {
                    process.values[*item].push((self.now, *quantity));
                }
            }
            let parts = &self.setups[self.setup].parts;
            let part = parts.sources.iter().find(|part| &*part.name == SOURCES[source]).unwrap();
            let plan = process.core.engine.plan().clone();
            let mut batch = part.decoder.decode(text.into_bytes(), Framing::Ndjson, &plan, &part.name, at(self.now));
            assert!(batch.refused.is_empty() && batch.events.len() == to - from, "{:?}", batch.refused);
            batch.position = Some((to as u64).to_le_bytes().to_vec());
            process.core.engine.observe(at(self.now), [Input::Events(batch)]);
            process.cursors[source] = to;
            process.dirty = true;
        }
        if to < entries.len() {
            let pause = self.random.within(1, 40);
            self.after(pause, self.life, Action::Deliver(source));
        } else if matches!(process.states[source], Some(SourceState::CatchingUp { .. })) {
            self.report(source, SourceState::Connected);
        }
    }

    fn report(&mut self, source: usize, state: SourceState) {
        let Some(process) = &mut self.process else { return };
        process.states[source] = Some(state.clone());
        if self.verbose {
            println!("{} {} is {}", at(self.now), SOURCES[source], state.word());
        }
        process.core.engine.observe(at(self.now), [Input::Source { name: SOURCES[source].into(), state }]);
    }

    fn source_up(&mut self, source: usize) {
        let Some(process) = &self.process else { return };
        let behind = (self.logs[source].entries.len() - process.cursors[source]) as u64;
        let state = match (self.reachable[source], behind) {
            (false, _) => SourceState::Lost { reason: "the simulation took it away".into() },
            (true, 0) => SourceState::Connected,
            (true, _) => SourceState::CatchingUp { behind },
        };
        self.report(source, state);
        self.after(1, self.life, Action::Deliver(source));
    }

    /// A source cannot be heard for some time.
    pub fn lose(&mut self, source: usize, for_ms: i64) {
        self.trace(|| format!("{} is lost for {for_ms} ms", SOURCES[source]));
        self.reachable[source] = false;
        self.source_up(source);
        self.after(for_ms, 0, Action::Reachable(source));
    }

    /// Without a warning.
    pub fn kill(&mut self, down_ms: i64, setup: usize) {
        self.trace(|| format!("kill, down for {down_ms} ms, then configuration {setup}"));
        let Some(process) = self.process.take() else { return };
        // What was on its way to the disk is there or not.
        if self.random.one_in(2) {
            self.outbox_written();
        }
        if let Some(Write { blob, full, at_ms, outbox }) = self.disk.writing.take()
            && self.disk.broken_until <= self.now
            && self.random.one_in(2)
        {
            self.keep_outbox(outbox);
            if self.random.one_in(2) {
                self.store(blob, full, at_ms);
            }
        }
        self.disk.writing_outbox = None;
        // So are messages on their way to receivers.
        let keys: Vec<(i64, u64)> = self
            .agenda
            .iter()
            .filter(|(_, (life, action))| *life == self.life && matches!(action, Action::Attempt { fails: None, .. }))
            .map(|(key, _)| *key)
            .collect();
        for key in keys {
            let Some((_, Action::Attempt { lane, message, .. })) = self.agenda.remove(&key) else { continue };
            if self.random.one_in(2) {
                self.received(&lane, &message);
            }
        }
        self.trace(|| format!("the last checkpoint is of {}", at(self.disk.stored_ms)));
        self.receivers.killed(self.disk.stored_ms);
        self.kills += 1;
        drop(process);
        self.life += 1;
        self.after(down_ms, 0, Action::Start(setup));
    }

    fn start(&mut self, setup: usize) {
        if self.process.is_some() {
            return;
        }
        self.life += 1;
        if setup != self.setup {
            self.switched(setup);
        }
        self.changed_ms = self.now;
        let parts = &self.setups[setup].parts;
        let mut core = Core::new(parts, at(self.now));
        let mut outbox = Outbox::new(OUTBOX_LIMIT, self.random.next());
        core.restore(&self.disk.blobs, at(self.now)).unwrap();
        if !self.disk.outbox.1.is_empty() {
            outbox.restore(&self.disk.outbox.1, at(self.now)).unwrap();
        }
        self.disk.outbox.0 = 0;
        let cursors = SOURCES.map(|source| {
            let bytes = core.engine.position(source).map(|bytes| bytes.try_into().unwrap());
            bytes.map_or(0, u64::from_le_bytes) as usize
        });
        let mut values = vec![Vec::new(); ITEMS.len()];
        for (_, said) in &self.logs[0].entries[..cursors[0]] {
            if let Said::Stock(item, quantity) = said {
                values[*item] = vec![(self.now, *quantity)];
            }
        }
        self.trace(|| format!("started at {cursors:?} of {:?}", self.logs.each_ref().map(|log| log.entries.len())));
        self.process = Some(Process {
            core,
            outbox,
            cursors,
            states: [None, None],
            last_ms: 0,
            last_full_ms: self.now,
            need_full: true,
            dirty: false,
            outbox_stored: 0,
            values,
        });
        for source in 0..SOURCES.len() {
            let pause = self.random.within(0, 300);
            self.after(pause, self.life, Action::SourceUp(source));
        }
    }

    fn switched(&mut self, setup: usize) {
        self.trace(|| format!("configuration {setup}"));
        self.reloads += 1;
        self.changed_ms = self.now;
        self.setup = setup;
        if !self.config().has_ops {
            self.receivers.forget("ops");
        }
    }

    pub fn reload(&mut self, setup: usize) {
        if self.process.is_none() {
            return;
        }
        self.switched(setup);
        let parts = &self.setups[setup].parts;
        let now = at(self.now);
        if let Some(process) = &mut self.process {
            process.core.reconfigure(parts, now);
            process.outbox.keep_lanes(|(name, index)| parts.routing.integration(name, *index).is_some(), now);
            process.dirty = true;
        }
    }

    pub fn receiver_down(&mut self, name: &str, for_ms: i64) {
        self.down_until.insert(name.into(), self.now + for_ms);
    }

    pub fn break_disk(&mut self, for_ms: i64) {
        self.disk.broken_until = self.now + for_ms;
    }

    /// What the live shell's core task does each time round.
    fn drive(&mut self) {
        let options = Options::default();
        let now = at(self.now);
        let Some(process) = &mut self.process else { return };
        process.core.engine.tick(now);
        let mut results = Vec::new();
        for job in process.core.engine.due(now) {
            if self.random.one_in(500) {
                process.core.engine.lost(now, &job);
                continue;
            }
            let view = process.core.engine.view(&job.selections(&options));
            results.push(job.run(&view, &options));
        }
        let notifications = process.core.notifications(now);
        if !notifications.is_empty() {
            assert!(process.core.engine.rules().all_evaluated_once(), "told before every group had evaluated");
            process.dirty = true;
        }
        let changes = process.core.engine.take_changes();
        for notification in &notifications {
            self.digest.add(format!("{notification:?}").as_bytes());
            self.trace(|| {
                let alerts: Vec<_> =
                    notification.alerts.iter().map(|a| format!("{} {:?}", a.labels, a.status())).collect();
                let key = &notification.group_key;
                format!("decided {:?} for {} {key}: {alerts:?}", notification.reason, notification.receiver)
            });
            self.check_notification(notification);
        }
        for change in changes {
            if let Change::Rule { error: Some(error), rule, .. } = &change {
                panic!("{rule} cannot be evaluated: {error}");
            }
            self.digest.add(format!("{change:?}").as_bytes());
            self.transitions += 1;
            if let Change::Alert(t) = &change {
                self.trace(|| {
                    format!("{} {:?} to {:?}: {:?}", t.change.labels, t.change.from, t.change.to, t.change.reason)
                });
            }
            self.check_change(&change);
        }
        for result in results {
            let pause = if self.random.one_in(3) { self.random.within(0, 300) } else { 0 };
            self.after(pause, self.life, Action::Job(result));
        }
        let Some(process) = &mut self.process else { return };
        for notification in notifications {
            process.outbox.push(notification, now);
        }
        assert!(process.outbox.len() <= OUTBOX_LIMIT);
        if self.random.one_in(64) {
            self.step_back();
        }
        self.lanes();
        self.checkpoint();
    }

    /// An earlier `now` counts as the latest one seen.
    fn step_back(&mut self) {
        let earlier = at(self.now - self.random.within(1, 100_000));
        let Some(process) = &mut self.process else { return };
        process.core.engine.observe(earlier, []);
        process.core.engine.tick(earlier);
        let told = process.core.notifications(earlier);
        assert!(told.is_empty(), "a clock set back makes notifications: {told:?}");
        let changes = process.core.engine.take_changes();
        assert!(changes.is_empty(), "a clock set back changes alerts: {changes:?}");
    }

    fn lanes(&mut self) {
        let now = at(self.now);
        let Some(process) = &mut self.process else { return };
        let lanes: Vec<LaneId> = process.outbox.lanes().cloned().collect();
        let mut planned = Vec::new();
        for lane in lanes {
            match process.outbox.next(&lane, now) {
                Next::Send(attempt) => {
                    let down = self.down_until.get(&*lane.0).is_some_and(|until| *until > self.now);
                    let (id, message) = (attempt.id, attempt.notification);
                    let delay = self.random.within(5, if down { 5_000 } else { 400 });
                    let patience = self.random.one_in(4).then(|| self.random.within(0, 20_000));
                    planned.push((delay, Action::Attempt { lane, id, message, fails: down.then_some(patience) }));
                }
                Next::Wait(Some(until)) => {
                    planned.push(((until.millis() - self.now).max(0) + 1, Action::Wake));
                }
                Next::Wait(None) => {}
            }
        }
        for (delay, action) in planned {
            // One waking for each lane and millisecond is enough.
            let known = matches!(action, Action::Wake)
                && self.agenda.range((self.now + delay, 0)..(self.now + delay + 1, 0)).next().is_some();
            if !known {
                self.after(delay, self.life, action);
            }
        }
    }

    fn attempted(&mut self, lane: &LaneId, id: u64, message: &Arc<Notification>, fails: Option<Option<i64>>) {
        let configured = self.config().parts.routing.integration(&lane.0, lane.1).is_some();
        let outcome = match fails {
            _ if !configured => Outcome::Final { error: "no such receiver".into() },
            None => Outcome::Delivered("200".into()),
            Some(retry_after_ms) => Outcome::Retry { error: "503".into(), retry_after_ms },
        };
        if outcome == Outcome::Delivered("200".into()) {
            self.received(lane, message);
        }
        if let Some(process) = &mut self.process {
            process.outbox.finish(lane, id, outcome, at(self.now));
        }
    }

    fn received(&mut self, lane: &LaneId, message: &Notification) {
        let routing = &self.config().parts.routing;
        if routing.integration(&lane.0, lane.1).is_none() {
            return;
        }
        self.trace(|| format!("{} has {} ({:?})", lane.0, message.group_key, message.status));
        let repeat_ms = self.config().repeat_ms;
        if let Err(problem) = self.receivers.deliver(message, self.kills, self.reloads, repeat_ms) {
            panic!("at {}: {problem}", at(self.now));
        }
    }

    fn checkpoint(&mut self) {
        let Some(process) = &mut self.process else { return };
        let mut planned = Vec::new();
        let revision = process.outbox.revision();
        if self.disk.writing_outbox.is_none() && revision != process.outbox_stored {
            process.outbox_stored = revision;
            self.disk.writing_outbox = Some((revision, process.outbox.snapshot()));
            planned.push((self.random.within(1, 80), Action::OutboxDone));
        }
        let age = self.now - process.last_ms;
        if self.disk.writing.is_none() && age >= if process.dirty { 1_000 } else { 15_000 } {
            let full = process.need_full || self.now - process.last_full_ms >= 60_000;
            let blob = process.core.snapshot(full);
            self.digest.add(&blob);
            process.last_ms = self.now;
            (process.dirty, process.need_full) = (false, false);
            if full {
                process.last_full_ms = self.now;
            }
            // The outbox goes to disk before the log that says its messages were told.
            let outbox = (revision, process.outbox.snapshot());
            self.disk.writing = Some(Write { blob, full, at_ms: self.now, outbox });
            let slow = self.random.one_in(20);
            planned.push((self.random.within(1, if slow { 6_000 } else { 60 }), Action::DiskDone));
        }
        for (delay, action) in planned {
            self.after(delay, self.life, action);
        }
    }

    fn disk_done(&mut self) {
        let Some(Write { blob, full, at_ms, outbox }) = self.disk.writing.take() else { return };
        if self.disk.broken_until > self.now {
            if let Some(process) = &mut self.process {
                process.need_full = true;
            }
            return;
        }
        self.keep_outbox(outbox);
        self.store(blob, full, at_ms);
    }

    fn store(&mut self, blob: Vec<u8>, full: bool, at_ms: i64) {
        if full {
            self.disk.blobs.clear();
        }
        self.disk.blobs.push(blob);
        self.disk.stored_ms = at_ms;
    }

    /// What another write brought meanwhile is newer.
    fn keep_outbox(&mut self, outbox: (u64, Vec<u8>)) {
        if outbox.0 >= self.disk.outbox.0 {
            self.disk.outbox = outbox;
        }
    }

    fn outbox_written(&mut self) {
        if let Some(outbox) = self.disk.writing_outbox.take() {
            if self.disk.broken_until <= self.now {
                self.keep_outbox(outbox);
            } else if let Some(process) = &mut self.process {
                process.outbox_stored = 0;
            }
        }
    }

    /// The machine slept.
    pub fn jump(&mut self, ms: i64) {
        self.trace(|| format!("the clock jumps by {ms} ms"));
        self.now += ms;
    }

    /// Whether the engine has seen an item at or above a value within the last evaluations, or for the first time.
    fn was_enough(&self, item: &str, threshold: i64) -> bool {
        let Some(process) = &self.process else { return true };
        let Some(item) = ITEMS.iter().position(|known| *known == item) else { return true };
        let since = self.now - 6_500;
        let values = &process.values[item];
        let current = values.last();
        let recent = values.iter().rev().take_while(|(t, _)| *t >= since).any(|(_, value)| *value >= threshold);
        // The value that held at `since`.
        let before = values.iter().rev().find(|(t, _)| *t < since);
        recent || before.is_some_and(|(_, value)| *value >= threshold) || current.is_none()
    }

    fn check_notification(&self, notification: &Notification) {
        for alert in notification.resolved() {
            let item = alert.labels.get("item").unwrap_or_default();
            let threshold = match alert.name() {
                "LowStock" => self.config().low,
                "LowHeld" => self.config().held,
                _ => continue,
            };
            let recently_changed = self.now - self.changed_ms < 20_000;
            assert!(
                recently_changed && self.reloads > 0 || self.was_enough(item, threshold),
                "at {}: {} of {item} is told as resolved and never was over {threshold}",
                at(self.now),
                alert.name()
            );
        }
    }

    fn check_change(&self, change: &Change) {
        let Change::Alert(transition) = change else { return };
        let change = &transition.change;
        if change.to != AlertPhase::Firing {
            return;
        }
        let now = self.now;
        match change.labels.get("alertname").unwrap_or_default() {
            "WorkerSilent" => {
                let worker: usize = change.labels.get("worker").unwrap()[1..].parse().unwrap();
                let heard = self.logs[1].entries.iter().rev();
                let heard =
                    heard.filter(|(t, said)| *t <= now - 1_500 && matches!(said, Said::Beat(w) if *w == worker));
                let last = heard.map(|(t, _)| *t).next().unwrap_or(0);
                assert!(
                    now - last >= SILENT_MS - 2_000,
                    "at {}: w{worker} is called silent {} ms after it was heard",
                    at(now),
                    now - last
                );
            }
            "Stuck" => {
                let order: u64 = change.labels.get("order").unwrap()[1..].parse().unwrap();
                let (placed, captured) = self.orders[&order];
                assert!(now - placed >= STUCK_MS - 1, "o{order} is called stuck after {} ms", now - placed);
                assert!(
                    captured.is_none_or(|captured| captured - placed > STUCK_MS - 2_000),
                    "at {}: o{order} is called stuck although its payment came after {} ms",
                    at(now),
                    captured.unwrap() - placed
                );
            }
            _ => {}
        }
    }

    /// A burst of everything in a moment.
    pub fn burst(&mut self, events: i64) {
        for _ in 0..events {
            self.shop();
        }
    }

    /// Payments of a region are refused, enough of them.
    pub fn refuse(&mut self, count: usize) {
        let region = self.random.within(0, REGIONS.len() as i64 - 1) as usize;
        for _ in 0..count {
            self.say(Said::Refused(region));
        }
    }

    pub fn delivered_all(&self) -> bool {
        let Some(process) = &self.process else { return false };
        (0..SOURCES.len()).all(|source| process.cursors[source] == self.logs[source].entries.len())
    }

    pub fn heal(&mut self) {
        self.down_until.clear();
        self.disk.broken_until = 0;
    }
}
