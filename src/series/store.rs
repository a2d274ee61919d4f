//! The store itself: what it holds, and how its parts hang together.

use super::FloatHistogram;
use super::buckets::{ExactSum, HistogramCodec, HistogramState};
use super::chunk::FloatCodec;
use super::exemplars::Exemplars;
use super::index::Index;
use super::received::ReceivedCodec;
use super::registry::{Handle, Metric, MetricId};
use super::ring::{Ring, Rings, Ticks};
use super::stats::Counts;
use super::update::Exemplar;
use super::window::Window;
use crate::config::schema::Limits;
use crate::model::{Labels, Timestamp};
use hashbrown::{HashMap, HashSet, HashTable};
use std::sync::Arc;

/// Hashes with fixed seeds: the same calls give the same bytes.
pub(super) type Seeded = ahash::RandomState;

pub(super) fn seeded() -> Seeded {
    ahash::RandomState::with_seeds(0x7369_6465, 0x7761_7463, 0x6865_7261, 0x7365_7269)
}

/// What a store is made with.
#[derive(Clone, Debug, Default)]
pub struct StoreOptions {
    /// The bounds; `series`, `series_per_metric`, `histogram_series`, `labels_per_series`, `label_value_bytes`,
    /// `series_bytes` and `idle_series_ms` are used here.
    pub limits: Limits,
    /// Labels that every self-counted series carries in queries, but not in the exposition: `job` and `instance`.
    /// A label that a mapping sets under the same name wins.
    pub base_labels: Labels,
    /// Resolution and reach of the rings.
    pub rings: Rings,
}

/// The registry, the rings and the index of all series: one writer, synchronous, deterministic.
#[derive(Debug)]
pub struct Store {
    pub(super) options: StoreOptions,
    pub(super) hasher: Seeded,
    pub(super) texts: HashSet<Arc<str>, Seeded>,
    pub(super) metrics: Vec<Metric>,
    pub(super) metric_names: HashMap<Arc<str>, MetricId, Seeded>,
    pub(super) hot: Vec<Hot>,
    pub(super) entries: Vec<Option<Box<Entry>>>,
    pub(super) free: Vec<u32>,
    /// Self-counted series by metric and own labels.
    pub(super) own: HashTable<u32>,
    /// All series by all their labels.
    pub(super) by_labels: HashTable<u32>,
    pub(super) index: Index,
    pub(super) ticks: Ticks,
    /// Series with a change that no tick has recorded.
    pub(super) dirty: Vec<u32>,
    /// Series with a change that no delta has carried.
    pub(super) unsaved: Vec<u32>,
    /// Slots emptied since the last delta.
    pub(super) removed: Vec<u32>,
    pub(super) changed: Vec<MetricId>,
    /// Grows with each [`Store::changed_metrics`]; a series that lags behind has not been reported since.
    pub(super) epoch: u32,
    /// Where the next sweep goes on.
    pub(super) sweep_at: usize,
    pub(super) live: usize,
    pub(super) live_histograms: usize,
    pub(super) bytes: usize,
    pub(super) counts: Counts,
    pub(super) exemplars: Exemplars,
}

pub(super) mod flag {
    pub const LIVE: u8 = 1;
    pub const TICK: u8 = 2;
    pub const SAVE: u8 = 4;
    pub const COUNTER: u8 = 8;
    pub const GAUGE: u8 = 16;
    pub const HISTOGRAM: u8 = 32;
    /// A gauge that has been set; counters and histograms begin with a value.
    pub const VALUED: u8 = 64;
}

/// What an update of a series touches, 32 bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Hot {
    pub value: f64,
    pub updated_us: i64,
    /// Grows when the series ends, so that its handles go stale.
    pub generation: u32,
    pub epoch: u32,
    /// As in the entry, which is colder.
    pub metric: u32,
    pub flags: u8,
}

/// The rest of a series.
#[derive(Debug)]
pub(super) struct Entry {
    pub metric: MetricId,
    /// All labels, as queries see them.
    pub labels: Labels,
    /// The labels of a self-counted series without the metric's name and the base labels.
    pub own: Labels,
    pub own_hash: u64,
    pub labels_hash: u64,
    /// `name{labels} ` in the exposition; empty for received series and histograms.
    pub prefix: Box<str>,
    /// Start timestamp of a self-counted counter or histogram.
    pub created_ms: i64,
    pub counted: bool,
    pub body: Body,
    /// Bytes at the last sweep.
    pub bytes: usize,
    /// One for each ring.
    pub saved: [Saved; 2],
    /// Whether a delta has carried the labels.
    pub identity_saved: bool,
}

/// How far the last delta went: everything of the first tier up to this byte of this chunk.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Saved {
    pub known: bool,
    pub first_ms: i64,
    pub bytes: usize,
}

/// The samples of a series.
#[derive(Debug)]
pub(super) enum Body {
    Float(Ring<FloatCodec>),
    Histogram(Box<OwnHistogram>),
    Received(Box<ReceivedRings>),
}

/// A received series may change between floats and histograms.
#[derive(Debug, Default)]
pub(super) struct ReceivedRings {
    pub floats: Ring<FloatCodec>,
    pub histograms: Ring<ReceivedCodec>,
}

/// A histogram that sidewatch counts.
#[derive(Debug)]
pub(super) struct OwnHistogram {
    pub state: HistogramState,
    pub sum: ExactSum,
    pub bounds: Arc<[f64]>,
    pub window: Window,
    /// The last exemplar of each classic bucket; empty until the first.
    pub exemplars: Vec<Option<Exemplar>>,
    pub ring: Ring<HistogramCodec>,
}

impl Entry {
    /// Time of the last sample; `i64::MIN` before the first.
    pub fn last_ms(&self) -> i64 {
        match &self.body {
            Body::Float(ring) => ring.last_ms,
            Body::Histogram(histogram) => histogram.ring.last_ms,
            Body::Received(rings) => rings.floats.last_ms.max(rings.histograms.last_ms),
        }
    }

    /// Bytes that it takes in memory, labels by estimate (their texts are shared).
    pub fn size(&self) -> usize {
        let body = match &self.body {
            Body::Float(ring) => ring.size(),
            Body::Histogram(histogram) => {
                histogram.ring.size()
                    + histogram.window.size()
                    + size_of::<OwnHistogram>()
                    + histogram.state.native.capacity() * 16
            }
            Body::Received(rings) => rings.floats.size() + rings.histograms.size() + size_of::<ReceivedRings>(),
        };
        body + size_of::<Self>() + size_of::<Hot>() + self.prefix.len() + (self.labels.len() + self.own.len()) * 48
    }

    /// Whether there is no sample left to read.
    pub fn is_empty(&self) -> bool {
        match &self.body {
            Body::Float(ring) => ring.is_empty(),
            Body::Histogram(histogram) => histogram.ring.is_empty(),
            Body::Received(rings) => rings.floats.is_empty() && rings.histograms.is_empty(),
        }
    }
}

impl Store {
    /// An empty store.
    pub fn new(options: StoreOptions) -> Self {
        let hasher = seeded();
        Self {
            options,
            texts: HashSet::with_hasher(hasher.clone()),
            metrics: Vec::new(),
            metric_names: HashMap::with_hasher(hasher.clone()),
            hasher,
            hot: Vec::new(),
            entries: Vec::new(),
            free: Vec::new(),
            own: HashTable::new(),
            by_labels: HashTable::new(),
            index: Index::default(),
            ticks: Ticks::default(),
            dirty: Vec::new(),
            unsaved: Vec::new(),
            removed: Vec::new(),
            changed: Vec::new(),
            epoch: 1,
            sweep_at: 0,
            live: 0,
            live_histograms: 0,
            bytes: 0,
            exemplars: Exemplars::default(),
            counts: Counts::default(),
        }
    }

    /// What the store was made with.
    pub fn options(&self) -> &StoreOptions {
        &self.options
    }

    /// Takes new limits (a reload); what is over a lowered one stays until it expires.
    pub fn set_limits(&mut self, limits: Limits) {
        self.options.limits = limits;
    }

    /// The moment of the last tick.
    pub fn last_tick(&self) -> Option<Timestamp> {
        self.ticks.last().map(Timestamp::from_millis)
    }

    pub(super) fn entry(&self, slot: u32) -> Option<&Entry> {
        self.entries.get(slot as usize)?.as_deref()
    }

    pub(super) fn entry_mut(&mut self, slot: u32) -> Option<&mut Entry> {
        self.entries.get_mut(slot as usize)?.as_deref_mut()
    }

    /// All series in order of their slots.
    pub(super) fn each_entry(&self) -> impl Iterator<Item = (u32, &Entry)> {
        self.entries.iter().enumerate().filter_map(|(slot, entry)| Some((slot as u32, entry.as_deref()?)))
    }

    pub(super) fn handle(&self, slot: u32, overflow: bool) -> Handle {
        Handle { slot, generation: self.hot[slot as usize].generation, overflow }
    }

    /// A shared copy of a text.
    pub(super) fn intern(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.texts.get(text) {
            return known.clone();
        }
        let text: Arc<str> = text.into();
        self.texts.insert(text.clone());
        text
    }

    pub(super) fn hash_pairs<'a>(&self, seed: u64, pairs: impl Iterator<Item = (&'a str, &'a str)>) -> u64 {
        // A sum, so that the order of the labels does not matter.
        let sum = pairs.fold(0_u64, |sum, pair| sum.wrapping_add(self.hasher.hash_one(pair)));
        self.hasher.hash_one((seed, sum))
    }

    pub(super) fn hash_labels(&self, labels: &Labels) -> u64 {
        self.hash_pairs(u64::MAX, labels.iter().map(|label| (&*label.name, &*label.value)))
    }

    pub(super) fn find_labels(&self, hash: u64, labels: &Labels) -> Option<u32> {
        self.by_labels.find(hash, |slot| self.entry(*slot).is_some_and(|entry| entry.labels == *labels)).copied()
    }

    /// Notes a change for the next tick, the next delta and the rules that look at the metric.
    #[cold]
    pub(super) fn mark(&mut self, slot: u32) {
        let hot = &mut self.hot[slot as usize];
        let metric = MetricId(hot.metric);
        if hot.flags & flag::TICK == 0 {
            self.dirty.push(slot);
        }
        if hot.flags & flag::SAVE == 0 {
            self.unsaved.push(slot);
        }
        hot.flags |= flag::TICK | flag::SAVE;
        hot.epoch = self.epoch;
        self.note_changed(metric);
    }

    pub(super) fn mark_unsaved(&mut self, slot: u32) {
        let hot = &mut self.hot[slot as usize];
        if hot.flags & flag::SAVE == 0 {
            hot.flags |= flag::SAVE;
            self.unsaved.push(slot);
        }
    }

    pub(super) fn note_changed(&mut self, metric: MetricId) {
        let known = &mut self.metrics[metric.0 as usize];
        if !known.changed {
            known.changed = true;
            self.changed.push(metric);
        }
    }

    /// The metrics that changed since the last call, in the order in which they first did.
    pub fn changed_metrics(&mut self) -> Vec<MetricId> {
        self.epoch = self.epoch.wrapping_add(1);
        for metric in &self.changed {
            self.metrics[metric.0 as usize].changed = false;
        }
        std::mem::take(&mut self.changed)
    }

    /// Whether any metric changed since the last [`Self::changed_metrics`].
    pub fn has_changes(&self) -> bool {
        !self.changed.is_empty()
    }

    /// Puts a series into an empty slot and into all tables.
    pub(super) fn insert_entry(&mut self, entry: Entry, hot: Hot) -> u32 {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.hot.push(Hot::default());
            self.entries.push(None);
            (self.entries.len() - 1) as u32
        });
        self.place_entry(slot, entry, hot);
        slot
    }

    /// Puts a series into the given empty slot.
    pub(super) fn place_entry(&mut self, slot: u32, entry: Entry, hot: Hot) {
        let (own_hash, labels_hash, counted) = (entry.own_hash, entry.labels_hash, entry.counted);
        let metric = entry.metric.0;
        self.index.insert(slot, &entry.labels);
        self.bytes += entry.bytes;
        self.entries[slot as usize] = Some(Box::new(entry));
        let generation = self.hot[slot as usize].generation.wrapping_add(1);
        self.hot[slot as usize] = Hot { generation, epoch: 0, metric, ..hot };
        let entries = &self.entries;
        let rehash = |own: bool| {
            move |slot: &u32| {
                entries[*slot as usize].as_ref().map_or(0, |entry| if own { entry.own_hash } else { entry.labels_hash })
            }
        };
        self.by_labels.insert_unique(labels_hash, slot, rehash(false));
        if counted {
            self.own.insert_unique(own_hash, slot, rehash(true));
        }
    }

    /// Forgets series entirely; their last samples have gone already, or nobody may read them.
    pub(super) fn purge(&mut self, slots: &[u32]) {
        let mut gone = Vec::with_capacity(slots.len());
        for slot in slots {
            let Some(entry) = self.entries[*slot as usize].take() else { continue };
            if let Ok(found) = self.by_labels.find_entry(entry.labels_hash, |at| at == slot) {
                found.remove();
            }
            if entry.counted
                && let Ok(found) = self.own.find_entry(entry.own_hash, |at| at == slot)
            {
                found.remove();
            }
            let hot = &mut self.hot[*slot as usize];
            *hot = Hot { generation: hot.generation.wrapping_add(1), ..Hot::default() };
            self.bytes = self.bytes.saturating_sub(entry.bytes);
            gone.push((*slot, entry.labels));
            self.free.push(*slot);
            self.removed.push(*slot);
        }
        self.index.remove(&gone);
        let held: HashSet<u32> = gone.iter().map(|(slot, _)| *slot).collect();
        if !held.is_empty() {
            self.dirty.retain(|slot| !held.contains(slot));
            self.unsaved.retain(|slot| !held.contains(slot));
            drop(gone);
            self.texts.retain(|text| Arc::strong_count(text) > 1);
        }
    }
}

/// A histogram as queries see it, shared.
pub(super) fn shared_native(state: &HistogramState) -> Arc<FloatHistogram> {
    Arc::new(state.to_native())
}
