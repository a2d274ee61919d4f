//! Objectives at run time: what was counted, and the series that tell it.

use super::sums::{Pair, SavedSums, Sums};
use super::{BAD, BURN_RATE, GOOD, OBJECTIVE, REMAINING, Slo, SloInput, TOTAL, ratio_metric};
use crate::mapping::select::Select;
use crate::model::{EventBatch, Label, Labels, METRIC_NAME, Timestamp, format_duration_ms};
use crate::rules::SourceHealth;
use crate::rules::alert_state::RecordedSample;
use crate::rules::events::{Clock, Place};
use ahash::RandomState;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// After something was counted the series are written at most this often, in milliseconds.
const WRITE_EVERY_MS: i64 = 1_000;
/// Without anything counted they are written this often: windows move on.
const IDLE_EVERY_MS: i64 = 10_000;
/// A counter that was not read for so long is forgotten, in milliseconds.
const FORGET_COUNTER_MS: i64 = 3_600_000;
/// Event types whose objectives are remembered.
const MAX_TYPES: usize = 4_096;
/// Sources that an objective remembers having heard from.
const MAX_SOURCES: usize = 64;

/// What an objective could not use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SloCounters {
    /// Events older than the window.
    pub late: u64,
    /// Counters beyond `limits.pattern_keys`.
    pub counters_refused: u64,
}

impl SloCounters {
    /// Each count with its reason, as the metric names it.
    pub fn by_reason(&self) -> [(&'static str, u64); 2] {
        [("late", self.late), ("counter_refused", self.counters_refused)]
    }
}

struct Objective {
    slo: Arc<Slo>,
    clock: Clock,
    sums: Sums,
    /// Everything counted since the objective is there.
    all: Pair,
    /// The last value of each counter, and when it was read.
    counters: BTreeMap<(bool, Labels), (f64, i64)>,
    /// The parts of the input that were read at least once.
    read: [bool; 2],
    heard: BTreeSet<Arc<str>>,
    seen: SloCounters,
    labels: Vec<(Labels, Figure)>,
}

/// What a series of an objective tells.
#[derive(Clone, Copy)]
enum Figure {
    /// The share of bad ones in a window, in milliseconds.
    Ratio(i64),
    /// The same as a multiple of the budget.
    BurnRate(i64),
    Objective,
    Remaining,
    Total,
    Good,
    Bad,
}

/// Objectives that look at a type, and whether as part and as total.
type Hits = Arc<[(usize, bool, bool)]>;

/// All objectives.
pub struct Objectives {
    all: Vec<Objective>,
    deaf: BTreeSet<Arc<str>>,
    due_ms: i64,
    limit: usize,
    /// The objectives that look at a type, and whether as part and as total.
    by_type: HashMap<Box<str>, Hits, RandomState>,
}

impl Objective {
    fn new(slo: Arc<Slo>, now: Timestamp) -> Self {
        let series = |name: &str, window: Option<i64>| {
            let mut labels = vec![
                Label { name: METRIC_NAME.into(), value: name.into() },
                Label { name: "slo".into(), value: slo.name.clone() },
            ];
            let window = window.map(|window| format_duration_ms(window).into());
            labels.extend(window.map(|value| Label { name: "window".into(), value }));
            Labels::new(labels)
        };
        let mut labels = vec![
            (series(OBJECTIVE, None), Figure::Objective),
            (series(REMAINING, None), Figure::Remaining),
            (series(TOTAL, None), Figure::Total),
            (series(GOOD, None), Figure::Good),
            (series(BAD, None), Figure::Bad),
        ];
        for window in slo.windows_ms() {
            labels.push((series(&ratio_metric(window), None), Figure::Ratio(window)));
            labels.push((series(BURN_RATE, Some(window)), Figure::BurnRate(window)));
        }
        Self {
            clock: Clock::new(now),
            sums: Sums::new(slo.window_ms.saturating_mul(1_000)),
            all: Pair::default(),
            counters: BTreeMap::new(),
            read: [false; 2],
            heard: BTreeSet::new(),
            seen: SloCounters::default(),
            labels,
            slo,
        }
    }

    fn window_us(&self) -> i64 {
        self.slo.window_ms.saturating_mul(1_000)
    }

    fn depends_on(&self, source: &Arc<str>) -> bool {
        match (self.slo.sources.is_empty(), self.heard.is_empty()) {
            (false, _) => self.slo.sources.contains(source),
            (true, true) => true,
            (true, false) => self.heard.contains(source),
        }
    }

    fn count(&mut self, at: i64, pair: Pair) {
        self.sums.add(at, pair);
        self.all.part += pair.part;
        self.all.total += pair.total;
    }

    /// The share of bad ones; nothing counted is nothing bad.
    fn ratio(&self, pair: Pair) -> f64 {
        if pair.total <= 0.0 {
            return 0.0;
        }
        let share = pair.part / pair.total;
        if self.slo.part_is_bad { share.clamp(0.0, 1.0) } else { (1.0 - share).clamp(0.0, 1.0) }
    }

    fn figure(&self, figure: Figure, clock: i64) -> f64 {
        let over = |window_ms: i64| self.ratio(self.sums.within(clock, window_ms.saturating_mul(1_000)));
        match figure {
            Figure::Ratio(window) => over(window),
            Figure::BurnRate(window) => over(window) / self.slo.budget(),
            Figure::Objective => self.slo.target,
            Figure::Remaining => 1.0 - over(self.slo.window_ms) / self.slo.budget(),
            Figure::Total => self.all.total,
            Figure::Good if self.slo.part_is_bad => self.all.total - self.all.part,
            Figure::Good => self.all.part,
            Figure::Bad if self.slo.part_is_bad => self.all.part,
            Figure::Bad => (self.all.total - self.all.part).max(0.0),
        }
    }
}

impl Objectives {
    /// All objectives, nothing counted yet; `limit` bounds the counters that each may read.
    pub(in crate::rules) fn new(slos: &[Arc<Slo>], limit: usize, now: Timestamp) -> Self {
        Self {
            all: slos.iter().map(|slo| Objective::new(slo.clone(), now)).collect(),
            deaf: BTreeSet::new(),
            due_ms: now.millis(),
            limit: limit.max(1),
            by_type: HashMap::with_hasher(RandomState::with_seeds(13, 14, 15, 16)),
        }
    }

    /// Whether there is no objective at all.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// What each could not use.
    pub fn counters(&self) -> impl Iterator<Item = (&Arc<str>, SloCounters)> {
        self.all.iter().map(|one| (&one.slo.name, one.seen))
    }

    /// Counts a batch of events at their own times.
    pub(in crate::rules) fn observe(&mut self, now: Timestamp, batch: &EventBatch) {
        if self.all.is_empty() {
            return;
        }
        let mut counted = false;
        for (row, event) in batch.events.iter().enumerate() {
            let name = batch.text(event.event_type);
            let hits = match self.by_type.get(name) {
                Some(hits) => hits.clone(),
                None => self.dispatch(name),
            };
            for (index, as_part, as_total) in hits.iter() {
                let one = &mut self.all[*index];
                let slo = one.slo.clone();
                let SloInput::Events { part, total } = &slo.input else { continue };
                if !slo.sources.is_empty() && !slo.sources.contains(&batch.source) {
                    continue;
                }
                let weight = |looks: bool, select: &Select| {
                    if looks && select.matches_fields(batch, row, event) { event.weight } else { 0.0 }
                };
                let pair = Pair { part: weight(*as_part, part), total: weight(*as_total, total) };
                if pair == Pair::default() {
                    continue;
                }
                if !one.heard.contains(&batch.source) && one.heard.len() < MAX_SOURCES {
                    one.heard.insert(batch.source.clone());
                }
                let arrived = batch.arrived.min(now);
                let time = event.time.map_or(arrived, |time| time.min(arrived));
                match one.clock.follow(now, time, arrived, one.window_us()) {
                    // When old events begin again, what was counted is of another time and stays where it is.
                    Place::On(at) | Place::Moved(at, _) => {
                        one.count(at, pair);
                        counted = true;
                    }
                    Place::Late => one.seen.late += 1,
                }
            }
        }
        if counted {
            self.due_ms = self.due_ms.min(now.millis().div_euclid(WRITE_EVERY_MS) * WRITE_EVERY_MS + WRITE_EVERY_MS);
        }
    }

    fn dispatch(&mut self, name: &str) -> Hits {
        let looks = |(index, one): (usize, &Objective)| match &one.slo.input {
            SloInput::Events { part, total } => Some((index, part.matches_type(name), total.matches_type(name))),
            SloInput::Series { .. } => None,
        };
        let hits = self.all.iter().enumerate().filter_map(looks).filter(|(_, part, total)| *part || *total).collect();
        if self.by_type.len() >= MAX_TYPES {
            self.by_type.clear();
        }
        let hits: Hits = hits;
        self.by_type.insert(name.into(), hits.clone());
        hits
    }

    /// Takes the values of an objective's counters as they were at a moment.
    pub(in crate::rules) fn feed(&mut self, index: usize, total: bool, at: Timestamp, values: Vec<(Labels, f64)>) {
        let limit = self.limit;
        let Some(one) = self.all.get_mut(index) else { return };
        let SloInput::Series { from_zero, .. } = one.slo.input else { return };
        let (mut grown, at_ms) = (0.0, at.millis());
        for (labels, value) in values {
            if !value.is_finite() {
                continue;
            }
            let known = one.counters.len();
            let last = match one.counters.entry((total, labels)) {
                std::collections::btree_map::Entry::Occupied(mut entry) => Some(entry.insert((value, at_ms)).0),
                std::collections::btree_map::Entry::Vacant(_) if known >= limit => {
                    one.seen.counters_refused += 1;
                    continue;
                }
                std::collections::btree_map::Entry::Vacant(entry) => {
                    entry.insert((value, at_ms));
                    // What others counted before we looked is not of our time.
                    (from_zero && one.read[usize::from(total)]).then_some(0.0)
                }
            };
            // A counter that is lower than before began anew.
            grown += last.map_or(0.0, |last| if value >= last { value - last } else { value });
        }
        one.read[usize::from(total)] = true;
        one.counters.retain(|_, (_, read_ms)| at_ms - *read_ms < FORGET_COUNTER_MS);
        if !one.clock.paused {
            one.clock.follow(at, at, at, one.slo.window_ms.saturating_mul(1_000));
        }
        if grown > 0.0 {
            let pair = if total { Pair { part: 0.0, total: grown } } else { Pair { part: grown, total: 0.0 } };
            let moment = one.clock.read(at);
            one.count(moment, pair);
            self.due_ms = self.due_ms.min(at_ms + WRITE_EVERY_MS);
        }
    }

    /// A source fell deaf or hears again: the windows of what depends on it stand still meanwhile.
    pub(in crate::rules) fn source_state(&mut self, now: Timestamp, source: &Arc<str>, health: &SourceHealth) {
        let _ = if matches!(health, SourceHealth::Live) {
            self.deaf.remove(source)
        } else {
            self.deaf.insert(source.clone())
        };
        self.pause_all(now);
    }

    fn pause_all(&mut self, now: Timestamp) {
        for one in &mut self.all {
            let paused = self.deaf.iter().any(|source| one.depends_on(source));
            one.clock.pause(now, paused);
        }
    }

    /// Writes the series when it is time.
    pub(in crate::rules) fn tick(&mut self, now: Timestamp, out: &mut Vec<RecordedSample>) {
        if self.all.is_empty() || now.millis() < self.due_ms {
            return;
        }
        self.due_ms = now.millis() + IDLE_EVERY_MS;
        for one in &self.all {
            let clock = one.clock.read(now);
            let each = one.labels.iter();
            out.extend(each.map(|(labels, figure)| {
                RecordedSample::float(labels.clone(), now.millis(), one.figure(*figure, clock))
            }));
        }
    }

    /// When [`Self::tick`] has something to write.
    pub fn next_due(&self) -> Option<Timestamp> {
        (!self.all.is_empty()).then(|| Timestamp::from_millis(self.due_ms))
    }

    /// Ends the series of objectives that another configuration does not have.
    pub(in crate::rules) fn end(&self, others: &Self, now: Timestamp, out: &mut Vec<RecordedSample>) {
        let kept: BTreeSet<&Labels> =
            others.all.iter().flat_map(|one| one.labels.iter().map(|(labels, _)| labels)).collect();
        let gone = self.all.iter().flat_map(|one| &one.labels).filter(|(labels, _)| !kept.contains(labels));
        out.extend(gone.map(|(labels, _)| RecordedSample::stale(labels.clone(), now.millis())));
    }

    /// Everything that must survive.
    pub(in crate::rules) fn snapshot(&self) -> ObjectivesSnapshot {
        let one = |one: &Objective| SavedObjective {
            name: one.slo.name.clone(),
            file: one.slo.file.clone(),
            identity: one.slo.identity.clone(),
            clock: one.clock,
            sums: one.sums.saved(),
            part: one.all.part,
            total: one.all.total,
            counters: one.counters.iter().map(|((total, labels), last)| (*total, labels.clone(), *last)).collect(),
            read: one.read,
            heard: one.heard.clone(),
            seen: one.seen,
        };
        ObjectivesSnapshot { objectives: self.all.iter().map(one).collect() }
    }

    /// Takes over what is remembered of objectives that are unchanged. `lost_us` is the time that nobody listened.
    pub(in crate::rules) fn restore(&mut self, snapshot: ObjectivesSnapshot, now: Timestamp, lost_us: i64) {
        let mut saved = snapshot.objectives;
        for one in &mut self.all {
            let same = |saved: &SavedObjective| {
                saved.name == one.slo.name && saved.file == one.slo.file && saved.identity == one.slo.identity
            };
            let Some(at) = saved.iter().position(same) else { continue };
            let from = saved.remove(at);
            one.clock = Clock::resumed(from.clock, now.plus_micros(-lost_us), now, false);
            one.sums.restore(from.sums);
            one.all = Pair { part: from.part, total: from.total };
            one.counters = from.counters.into_iter().map(|(total, labels, last)| ((total, labels), last)).collect();
            (one.read, one.heard, one.seen) = (from.read, from.heard, from.seen);
        }
        self.pause_all(now);
    }

    /// Carries over which sources are not heard.
    pub(in crate::rules) fn take_sources(&mut self, before: &Self, now: Timestamp) {
        self.deaf = before.deaf.clone();
        self.pause_all(now);
    }
}

/// What objectives remember, for the checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ObjectivesSnapshot {
    objectives: Vec<SavedObjective>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct SavedObjective {
    name: Arc<str>,
    file: Arc<str>,
    identity: String,
    clock: Clock,
    sums: SavedSums,
    part: f64,
    total: f64,
    counters: Vec<(bool, Labels, (f64, i64))>,
    read: [bool; 2],
    heard: BTreeSet<Arc<str>>,
    seen: SloCounters,
}
