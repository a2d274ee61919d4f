//! Lines into changes of series. A line that was seen before costs one look-up: what its name, type and tags stand for is
//! worked out once and kept under their bytes.

use super::line::{self, Amount, Kind, Sample, Take, reason};
use super::mapping::Mapping;
use super::{event, names};
use crate::config::schema::{MappingObserver, StatsdConfig};
use crate::model::{Label, Labels};
use crate::source::counts::{CountBatch, CountChange, CountKind, CountedSeries, Means, next_session};
use ahash::RandomState;
use hashbrown::{HashMap, HashTable};
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;

/// Kinds of lines that are remembered; beyond it everything is learnt afresh.
const KNOWN: usize = 200_000;
/// Bytes of their names and tags.
const KNOWN_BYTES: usize = 64 << 20;

/// The lines' hasher; seeds are fixed, as everywhere.
pub(super) fn hasher() -> RandomState {
    RandomState::with_seeds(0x7374, 0x6174, 0x7364, 0x2e31)
}

/// What a kind of line stands for.
#[derive(Clone, Copy, Debug)]
enum Stands {
    /// A series, and the factor of its values.
    For(u32, f64),
    /// A rule says `action: drop`.
    Dropped,
    /// It has no usable name.
    Refused(&'static str),
}

/// A kind of line: all that decides about the series.
#[derive(Debug)]
struct Known {
    hash: u64,
    kind: Kind,
    /// Where name and tags stand among the keys, as written: from, between, to.
    key: (u32, u32, u32),
    stands: Stands,
    /// Tags that are none, each time.
    malformed: u32,
}

impl Known {
    fn is(&self, sample: &Sample<'_>, keys: &[u8]) -> bool {
        let (from, between, to) = self.key;
        let part = |from: u32, to: u32| keys.get(from as usize..to as usize);
        self.kind == sample.kind && part(from, between) == Some(sample.name) && part(between, to) == Some(sample.tags)
    }
}

/// Reads lines into batches.
#[derive(Debug)]
pub struct Lines {
    source: Arc<str>,
    config: StatsdConfig,
    mapping: Option<Mapping>,
    hasher: RandomState,
    known: HashTable<Known>,
    /// Their names and tags, side by side: they are looked at with every line.
    keys: Vec<u8>,
    /// Different lines may stand for one series.
    series: HashMap<(Arc<str>, Labels, u8), u32, RandomState>,
    session: u64,
    batch: CountBatch,
    /// Batches of sessions before.
    sealed: Vec<CountBatch>,
    /// Events and service checks, as documents.
    events: Vec<String>,
    line_bytes: usize,
    /// The first refused line of each reason since they were last taken.
    examples: Vec<(&'static str, String)>,
}

impl Lines {
    /// With nothing known. Lines longer than `line_bytes` are refused.
    pub fn new(source: Arc<str>, config: StatsdConfig, line_bytes: usize) -> Self {
        let session = next_session();
        let mapping = config.rules.clone().map(Mapping::compile);
        let batch = CountBatch { source: source.clone(), session, ..CountBatch::default() };
        Self {
            source,
            config,
            mapping,
            hasher: hasher(),
            known: HashTable::new(),
            keys: Vec::new(),
            series: HashMap::with_hasher(hasher()),
            session,
            batch,
            sealed: Vec::new(),
            events: Vec::new(),
            line_bytes,
            examples: Vec::new(),
        }
    }

    /// Takes a datagram, or lines of a stream.
    pub fn read(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let line = match memchr::memchr(b'\n', rest) {
                Some(end) => {
                    let line = &rest[..end];
                    rest = &rest[end + 1..];
                    line
                }
                None => std::mem::take(&mut rest),
            };
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if !line.is_empty() {
                self.line(line);
            }
        }
    }

    /// Counts lines that were too long to be kept.
    pub fn oversized(&mut self, count: u32) {
        self.batch.lines += u64::from(count);
        self.batch.refuse(reason::TOO_LARGE, u64::from(count));
    }

    /// What was read since the last time, in order, and the events among it.
    pub fn take(&mut self) -> (Vec<CountBatch>, Vec<String>) {
        self.seal();
        (std::mem::take(&mut self.sealed), std::mem::take(&mut self.events))
    }

    fn seal(&mut self) {
        let fresh = CountBatch {
            source: self.source.clone(),
            session: self.session,
            // The next one will be about as long.
            changes: Vec::with_capacity(self.batch.changes.len()),
            ..CountBatch::default()
        };
        let mut batch = std::mem::replace(&mut self.batch, fresh);
        // Each series by itself, its own changes in order: the core looks for it once, and finds it in the cache.
        batch.changes.sort_by_key(|change| change.series);
        if !batch.is_empty() {
            self.sealed.push(batch);
        }
    }

    /// One refused line for each reason that came up since the last time.
    pub fn examples(&mut self) -> Vec<(&'static str, String)> {
        std::mem::take(&mut self.examples)
    }

    fn line(&mut self, line: &[u8]) {
        self.batch.lines += 1;
        let before = self.batch.refused.len();
        if line.len() > self.line_bytes {
            self.batch.refuse(reason::TOO_LARGE, 1);
        } else if line.starts_with(b"_e{") {
            match event::event(line) {
                Some(document) => self.events.push(document.to_string()),
                None => self.batch.refuse(reason::EVENT, 1),
            }
        } else if line.starts_with(b"_sc|") {
            match event::service_check(line) {
                Some((document, check)) => {
                    self.events.push(document.to_string());
                    if self.config.service_checks {
                        self.batch.checks.push(check);
                    }
                }
                None => self.batch.refuse(reason::EVENT, 1),
            }
        } else {
            line::read(line, self);
        }
        if self.batch.refused.len() > before
            && let Some((reason, _)) = self.batch.refused.last()
            && *reason != reason::DROPPED
            && !self.examples.iter().any(|(known, _)| known == reason)
        {
            let shown: String = String::from_utf8_lossy(line).chars().take(200).collect();
            self.examples.push((reason, shown));
        }
    }

    fn change(&mut self, series: u32, factor: f64, sample: &Sample<'_>) {
        let Amount::Number { value, signed } = sample.amount else {
            if let Amount::Member(member) = sample.amount {
                self.batch.members.push((series, self.hasher.hash_one(member)));
            }
            return;
        };
        let value = if factor == 1.0 { value } else { scaled(value, factor) };
        let (means, value) = match sample.kind {
            Kind::Counter if value < 0.0 => return self.batch.refuse(reason::NEGATIVE, 1),
            Kind::Counter => (Means::Add, value / sample.rate),
            Kind::Gauge if signed => (Means::Add, value),
            Kind::Gauge => {
                if let Some(seconds) = sample.seconds {
                    self.batch.stamped.push((series, seconds.saturating_mul(1_000), value));
                    return;
                }
                (Means::Set, value)
            }
            Kind::Timer => (Means::Times(times(sample.rate)), value / 1e3),
            Kind::Histogram | Kind::Distribution | Kind::Set => (Means::Times(times(sample.rate)), value),
        };
        self.batch.changes.push(CountChange { series, means, value });
    }

    /// Works out what a line of a new kind stands for.
    #[cold]
    fn learn(&mut self, sample: &Sample<'_>, hash: u64) {
        if self.known.len() >= KNOWN || self.keys.len() > KNOWN_BYTES {
            self.forget();
        }
        let (stands, malformed) = match names::read(sample.name, sample.tags, &self.config.tags) {
            Ok(tagged) => (self.stands_for(&tagged, sample.kind), tagged.malformed as u32),
            Err(reason) => (Stands::Refused(reason), 0),
        };
        let from = self.keys.len() as u32;
        self.keys.extend_from_slice(sample.name);
        let between = self.keys.len() as u32;
        self.keys.extend_from_slice(sample.tags);
        let key = (from, between, self.keys.len() as u32);
        let known = Known { hash, kind: sample.kind, key, stands, malformed };
        self.known.insert_unique(hash, known, |known| known.hash);
    }

    /// Begins afresh: a new session, whose numbers the core learns anew.
    fn forget(&mut self) {
        self.known.clear();
        self.series.clear();
        self.keys = Vec::new();
        self.session = next_session();
        self.seal();
    }

    fn stands_for(&mut self, tagged: &names::Tagged, kind: Kind) -> Stands {
        let mut labels = tagged.labels.clone();
        let plain = MappingObserver::default();
        let (mut name, mut help, mut scale, mut ttl_ms) =
            (names::escape(&tagged.name), "StatsD metric.".into(), 1.0, 0);
        let mut observer = &plain;
        if let Some(mapping) = &self.mapping {
            (observer, ttl_ms) = (&mapping.file().unmapped, mapping.file().ttl_ms);
            if let Some(mapped) = mapping.find(&tagged.name, kind) {
                let rule = mapped.rule;
                if rule.drop {
                    return Stands::Dropped;
                }
                name = names::escape(&mapped.name);
                (help, scale, ttl_ms, observer) = (rule.help.clone(), rule.scale, rule.ttl_ms, &rule.observer);
                for (label, value) in mapped.labels {
                    match labels.iter_mut().find(|(known, _)| *known == label) {
                        Some(_) if rule.honor_labels => {}
                        Some((_, held)) => *held = value,
                        None => labels.push((label, value)),
                    }
                }
            }
        }
        if name.is_empty() {
            return Stands::Refused(reason::NAME);
        }
        let labels = labels
            .iter()
            .map(|(name, value)| Label { name: (*names::own_label(name)).into(), value: value.as_str().into() });
        let labels = Labels::new(labels.collect());
        let (unit, kind, tag) = match kind {
            Kind::Counter => ("", CountKind::Counter, 0),
            Kind::Gauge => ("", CountKind::Gauge, 1),
            Kind::Set => ("", CountKind::Set, 2),
            Kind::Timer | Kind::Histogram | Kind::Distribution => {
                let unit = if kind == Kind::Timer { "seconds" } else { "" };
                let kind =
                    CountKind::Histogram { bounds: observer.bounds.clone(), quantiles: observer.quantiles.clone() };
                (unit, kind, 3)
            }
        };
        let metric: Arc<str> = name.into();
        let next = self.series.len() as u32;
        let at = *self.series.entry((metric.clone(), labels.clone(), tag)).or_insert(next);
        if at == next {
            let series = CountedSeries { metric, kind, help, unit, labels, ttl_ms };
            self.batch.fresh.push((at, Arc::new(series)));
        }
        Stands::For(at, scale)
    }
}

/// Divided by whole numbers where the factor is a part of one: 40 by 0.001 is 0.04 exactly.
fn scaled(value: f64, factor: f64) -> f64 {
    let inverse = (1.0 / factor).round();
    if factor.abs() < 1.0 && 1.0 / inverse == factor { value / inverse } else { value * factor }
}

/// How many values a sampled one stands for.
fn times(rate: f64) -> u32 {
    if rate == 1.0 { 1 } else { (1.0 / rate).round().clamp(1.0, f64::from(u32::MAX)) as u32 }
}

impl Take for Lines {
    fn sample(&mut self, sample: &Sample<'_>) {
        let mut hasher = self.hasher.build_hasher();
        hasher.write(sample.name);
        hasher.write_u8(sample.kind as u8);
        hasher.write(sample.tags);
        let hash = hasher.finish();
        let found = self.known.find(hash, |known| known.is(sample, &self.keys));
        let found = found.map(|known| (known.stands, known.malformed));
        let (stands, malformed) = match found {
            Some(found) => found,
            None => {
                self.learn(sample, hash);
                let learnt = self.known.find(hash, |known| known.is(sample, &self.keys));
                match learnt.map(|known| (known.stands, known.malformed)) {
                    Some(learnt) => learnt,
                    None => return,
                }
            }
        };
        if malformed > 0 {
            self.batch.refuse(reason::TAG, u64::from(malformed));
        }
        match stands {
            Stands::For(series, factor) => self.change(series, factor, sample),
            Stands::Dropped => self.batch.refuse(reason::DROPPED, 1),
            Stands::Refused(reason) => self.batch.refuse(reason, 1),
        }
    }

    fn refuse(&mut self, reason: &'static str) {
        self.batch.refuse(reason, 1);
    }
}
