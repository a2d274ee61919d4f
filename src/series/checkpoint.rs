//! The store in a checkpoint: a full blob, then deltas of what changed.
//!
//! A blob is one version byte and a postcard document. Series are named by their slots, their labels are sent once. Of a
//! ring's first tier a delta carries only the bytes written since the blob before; what ages into the second tier is not
//! sent, because the restored store ages the same samples itself. Left out, because a minute brings it back: the windows
//! of HDR histograms, exemplars, and the counts of refusals.

use super::buckets::{ExactSum, HistogramCodec, HistogramState};
use super::chunk::{Chunk, Codec, OpenChunk};
use super::registry::{HistogramOptions, MetricId, MetricKind};
use super::ring::Ring;
use super::sampling::age;
use super::stats::Refusal;
use super::store::{Body, Hot, Saved, Store, flag};
use crate::model::{Label, Labels};
use hashbrown::HashMap;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Grows with every change of the blobs' layout.
const VERSION: u8 = 1;

/// Why a blob was not restored. The store may hold a part of it then and should be replaced by a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    /// Written by another version.
    #[error("the series checkpoint has version {found}, this program reads version {VERSION}")]
    Version {
        /// What the blob says.
        found: u8,
    },
    /// The blob is empty, cut off or not a checkpoint.
    #[error("the series checkpoint is damaged")]
    Damaged,
}

#[derive(Default, Serialize, Deserialize)]
struct Blob {
    full: bool,
    texts: Vec<Arc<str>>,
    metrics: Vec<MetricBlob>,
    ticks: Vec<(i64, i64)>,
    removed: Vec<u32>,
    series: Vec<SeriesBlob>,
}

#[derive(Serialize, Deserialize)]
struct MetricBlob {
    name: u32,
    kind: KindBlob,
    help: String,
    unit: String,
}

#[derive(Clone, PartialEq, Serialize, Deserialize)]
enum KindBlob {
    Received,
    Counter,
    Gauge,
    Histogram(Vec<f64>),
}

#[derive(Serialize, Deserialize)]
struct SeriesBlob {
    slot: u32,
    identity: Option<Identity>,
    flags: u8,
    value: f64,
    updated_us: i64,
    created_ms: i64,
    body: BodyBlob,
}

#[derive(Serialize, Deserialize)]
struct Identity {
    metric: u32,
    /// Own labels of a self-counted series, all labels of a received one.
    labels: Vec<(u32, u32)>,
}

#[derive(Serialize, Deserialize)]
enum BodyBlob {
    Float(RingBlob),
    Histogram { state: Vec<u8>, sum: f64, lost: f64, ring: RingBlob },
    Received(RingBlob, RingBlob),
}

#[derive(Default, Serialize, Deserialize)]
struct RingBlob {
    /// Replaces what is there; else it goes on where the blob before ended.
    whole: bool,
    base: Option<ChunkBlob>,
    coarse: Vec<ChunkBlob>,
    coarse_open: bool,
    fine: Vec<ChunkBlob>,
    open: bool,
    last_ms: i64,
    ended: bool,
}

#[derive(Serialize, Deserialize)]
struct ChunkBlob {
    first_ms: i64,
    last_ms: i64,
    start_ms: i64,
    count: u32,
    /// Where `bytes` begin in the chunk.
    offset: u32,
    bytes: Vec<u8>,
}

/// The texts and metrics of a blob that is being written.
#[derive(Default)]
struct Tables {
    texts: Vec<Arc<str>>,
    text_places: HashMap<Arc<str>, u32>,
    metrics: Vec<MetricBlob>,
    metric_places: HashMap<MetricId, u32>,
}

impl Tables {
    fn text(&mut self, text: &Arc<str>) -> u32 {
        if let Some(place) = self.text_places.get(text) {
            return *place;
        }
        let place = self.texts.len() as u32;
        self.texts.push(text.clone());
        self.text_places.insert(text.clone(), place);
        place
    }

    fn metric(&mut self, store: &Store, id: MetricId) -> u32 {
        if let Some(place) = self.metric_places.get(&id) {
            return *place;
        }
        let metric = &store.metrics[id.0 as usize];
        let blob = MetricBlob {
            name: self.text(&metric.name),
            kind: KindBlob::of(metric.kind.as_ref()),
            help: metric.help.to_string(),
            unit: metric.unit.to_string(),
        };
        let place = self.metrics.len() as u32;
        self.metrics.push(blob);
        self.metric_places.insert(id, place);
        place
    }
}

impl KindBlob {
    fn of(kind: Option<&MetricKind>) -> Self {
        match kind {
            None => Self::Received,
            Some(MetricKind::Counter) => Self::Counter,
            Some(MetricKind::Gauge) => Self::Gauge,
            Some(MetricKind::Histogram(options)) => Self::Histogram(options.bounds.clone()),
        }
    }

    fn kind(&self) -> Option<MetricKind> {
        match self {
            Self::Received => None,
            Self::Counter => Some(MetricKind::Counter),
            Self::Gauge => Some(MetricKind::Gauge),
            Self::Histogram(bounds) => Some(MetricKind::Histogram(HistogramOptions { bounds: bounds.clone() })),
        }
    }
}

fn chunk_blob<C: Codec>(chunk: &Chunk<C>, offset: usize) -> ChunkBlob {
    ChunkBlob {
        first_ms: chunk.first_ms,
        last_ms: chunk.last_ms,
        start_ms: chunk.start_ms,
        count: chunk.count,
        offset: offset as u32,
        bytes: chunk.bytes[offset..].to_vec(),
    }
}

impl ChunkBlob {
    fn chunk<C: Codec>(self) -> Chunk<C> {
        Chunk::from_parts(self.first_ms, self.last_ms, self.start_ms, self.count, self.bytes)
    }
}

/// What was written to a ring since `saved`, which moves to now.
fn save_ring<C: Codec>(ring: &Ring<C>, saved: &mut Saved, full: bool) -> RingBlob {
    let chunks = || ring.fine.iter().map(|chunk| &**chunk).chain(ring.open.as_ref().map(|open| &open.chunk));
    let known = saved.known && chunks().any(|chunk| chunk.first_ms == saved.first_ms);
    let mut blob =
        RingBlob { open: ring.open.is_some(), last_ms: ring.last_ms, ended: ring.ended, ..RingBlob::default() };
    if full || !known {
        blob.whole = true;
        blob.base = ring.base.as_ref().map(|base| chunk_blob(base, 0));
        let coarse = ring.coarse.iter().map(|chunk| &**chunk).chain(ring.coarse_open.as_ref().map(|open| &open.chunk));
        blob.coarse = coarse.map(|chunk| chunk_blob(chunk, 0)).collect();
        blob.coarse_open = ring.coarse_open.is_some();
        blob.fine = chunks().map(|chunk| chunk_blob(chunk, 0)).collect();
    } else {
        let fresh = chunks().skip_while(|chunk| chunk.first_ms != saved.first_ms).enumerate();
        blob.fine = fresh
            // The last byte of a bit string may have been half full.
            .map(|(at, chunk)| chunk_blob(chunk, if at == 0 { saved.bytes.saturating_sub(1) } else { 0 }))
            .collect();
    }
    *saved = cursor(ring);
    blob
}

fn cursor<C: Codec>(ring: &Ring<C>) -> Saved {
    let last = ring.open.as_ref().map(|open| &open.chunk).or_else(|| ring.fine.last().map(|chunk| &**chunk));
    last.map_or_else(Saved::default, |chunk| Saved { known: true, first_ms: chunk.first_ms, bytes: chunk.bytes.len() })
}

fn load_ring<C: Codec>(ring: &mut Ring<C>, blob: RingBlob) -> Result<Saved, RestoreError> {
    let resume = |chunk: Chunk<C>| OpenChunk::resume(chunk).map(Box::new).ok_or(RestoreError::Damaged);
    (ring.last_ms, ring.ended) = (blob.last_ms, blob.ended);
    let mut fine: Vec<Chunk<C>> = Vec::new();
    if blob.whole {
        *ring = Ring { last_ms: blob.last_ms, ended: blob.ended, ..Ring::default() };
        ring.base = blob.base.map(|base| Arc::new(base.chunk()));
        let mut coarse: Vec<Chunk<C>> = blob.coarse.into_iter().map(ChunkBlob::chunk).collect();
        if blob.coarse_open {
            ring.coarse_open = Some(resume(coarse.pop().ok_or(RestoreError::Damaged)?)?);
        }
        ring.coarse = coarse.into_iter().map(Arc::new).collect();
    } else if let Some(open) = ring.open.take() {
        fine.push(open.chunk);
    } else if let Some(last) = ring.fine.pop() {
        fine.push(Chunk::clone(&last));
    }
    for part in blob.fine {
        match fine.last_mut() {
            Some(last) if last.first_ms == part.first_ms => {
                if last.bytes.len() < part.offset as usize {
                    return Err(RestoreError::Damaged);
                }
                last.bytes.truncate(part.offset as usize);
                last.bytes.extend_from_slice(&part.bytes);
                (last.count, last.last_ms) = (part.count, part.last_ms);
            }
            _ if part.offset == 0 => fine.push(part.chunk()),
            _ => return Err(RestoreError::Damaged),
        }
    }
    if blob.open {
        ring.open = Some(resume(fine.pop().ok_or(RestoreError::Damaged)?)?);
    }
    ring.fine.extend(fine.into_iter().map(Arc::new));
    Ok(cursor(ring))
}

impl Store {
    /// What changed since the last delta (all with `full`), for [`Self::restore`]. The first blob must be a full one.
    pub fn delta(&mut self, full: bool) -> Vec<u8> {
        let mut tables = Tables::default();
        let mut blob = Blob { full, ticks: self.ticks.runs.iter().copied().collect(), ..Blob::default() };
        blob.removed = std::mem::take(&mut self.removed);
        let changed = std::mem::take(&mut self.unsaved);
        let mut slots: Vec<u32> = if full { self.each_entry().map(|(slot, _)| slot).collect() } else { changed };
        slots.sort_unstable();
        blob.series.reserve(slots.len());
        for slot in slots {
            self.hot[slot as usize].flags &= !flag::SAVE;
            // Taken out while it is written, because the tables look into the store.
            let Some(mut entry) = self.entries[slot as usize].take() else { continue };
            let identity = (full || !entry.identity_saved).then(|| Identity {
                metric: tables.metric(self, entry.metric),
                labels: if entry.counted { &entry.own } else { &entry.labels }
                    .iter()
                    .map(|label| (tables.text(&label.name), tables.text(&label.value)))
                    .collect(),
            });
            entry.identity_saved = true;
            let hot = self.hot[slot as usize];
            let [saved, other] = &mut entry.saved;
            let body = match &entry.body {
                Body::Float(ring) => BodyBlob::Float(save_ring(ring, saved, full)),
                Body::Histogram(histogram) => {
                    let mut state = Vec::new();
                    HistogramCodec::default().encode(&mut state, 0, &histogram.state);
                    let ExactSum { sum, lost } = histogram.sum;
                    BodyBlob::Histogram { state, sum, lost, ring: save_ring(&histogram.ring, saved, full) }
                }
                Body::Received(rings) => {
                    BodyBlob::Received(save_ring(&rings.floats, saved, full), save_ring(&rings.histograms, other, full))
                }
            };
            blob.series.push(SeriesBlob {
                slot,
                identity,
                flags: hot.flags,
                value: hot.value,
                updated_us: hot.updated_us,
                created_ms: entry.created_ms,
                body,
            });
            self.entries[slot as usize] = Some(entry);
        }
        (blob.texts, blob.metrics) = (tables.texts, tables.metrics);
        // Serialising into memory cannot fail: there is no type in it that postcard lacks.
        postcard::to_extend(&blob, vec![VERSION]).unwrap_or_default()
    }

    /// Applies a blob of [`Self::delta`]: a full one replaces all series, then deltas in the order in which they were made.
    /// Declare metrics first: a series whose metric is now something else, or has other bounds, is left out and counted
    /// (`restore_conflict`). All handles from before go stale.
    ///
    /// # Errors
    /// [`RestoreError`]; the store may hold a part then.
    pub fn restore(&mut self, bytes: &[u8]) -> Result<(), RestoreError> {
        let (version, document) = bytes.split_first().ok_or(RestoreError::Damaged)?;
        if *version != VERSION {
            return Err(RestoreError::Version { found: *version });
        }
        let blob: Blob = postcard::from_bytes(document).map_err(|_| RestoreError::Damaged)?;
        let gone: Vec<u32> =
            if blob.full { self.each_entry().map(|(slot, _)| slot).collect() } else { blob.removed.clone() };
        let gone: Vec<u32> = gone.into_iter().filter(|slot| self.entry(*slot).is_some()).collect();
        gone.iter().for_each(|slot| self.detach(*slot));
        self.purge(&gone);
        let mut metrics = Vec::with_capacity(blob.metrics.len());
        for metric in &blob.metrics {
            metrics.push(self.restore_metric(metric, &blob.texts)?);
        }
        self.ticks.runs = blob.ticks.into();
        for series in blob.series {
            self.restore_series(series, &blob.texts, &metrics)?;
        }
        // What aged while the blobs were made ages here too.
        if let Some(last_ms) = self.ticks.last() {
            let rings = self.options.rings;
            self.entries.iter_mut().flatten().for_each(|entry| age(entry, last_ms, &rings));
        }
        self.free = (0..self.entries.len() as u32).rev().filter(|slot| self.entry(*slot).is_none()).collect();
        self.removed.clear();
        let unsaved = std::mem::take(&mut self.unsaved);
        unsaved.into_iter().for_each(|slot| self.hot[slot as usize].flags &= !flag::SAVE);
        Ok(())
    }

    /// The metric of a blob here; `None` when its series do not fit what is declared.
    fn restore_metric(&mut self, blob: &MetricBlob, texts: &[Arc<str>]) -> Result<Option<MetricId>, RestoreError> {
        let name = texts.get(blob.name as usize).ok_or(RestoreError::Damaged)?;
        let id = self.metric_id(name);
        let known = KindBlob::of(self.metrics[id.0 as usize].kind.as_ref());
        if let (KindBlob::Received, Some(kind)) = (&known, blob.kind.kind()) {
            if self.declare(name, kind, &blob.help, &blob.unit).is_err() {
                return Err(RestoreError::Damaged);
            }
            // Nobody has declared it in this process yet, and whoever does may change it.
            self.metrics[id.0 as usize].declared = false;
            return Ok(Some(id));
        }
        Ok((blob.kind == KindBlob::Received || known == blob.kind).then_some(id))
    }

    fn restore_series(
        &mut self,
        blob: SeriesBlob,
        texts: &[Arc<str>],
        metrics: &[Option<MetricId>],
    ) -> Result<(), RestoreError> {
        let slot = blob.slot;
        if slot as usize >= self.entries.len() {
            let limit = self.options.limits.series.saturating_mul(4).max(1 << 20);
            if slot as usize > limit {
                return Err(RestoreError::Damaged);
            }
            self.entries.resize_with(slot as usize + 1, || None);
            self.hot.resize(slot as usize + 1, Hot::default());
        }
        if let Some(identity) = &blob.identity {
            let metric = *metrics.get(identity.metric as usize).ok_or(RestoreError::Damaged)?;
            let mut labels = Vec::with_capacity(identity.labels.len());
            for (name, value) in &identity.labels {
                let text = |place: &u32| texts.get(*place as usize).ok_or(RestoreError::Damaged);
                labels.push(Label { name: self.intern(text(name)?), value: self.intern(text(value)?) });
            }
            if !self.restore_entry(slot, &blob, metric, Labels::new(labels)) {
                self.counts.refuse(Refusal::RestoreConflict);
                return Ok(());
            }
        }
        // A series that was left out stays out.
        let Some(mut entry) = self.entries[slot as usize].take() else { return Ok(()) };
        let loaded = match (&mut entry.body, blob.body) {
            (Body::Float(ring), BodyBlob::Float(saved)) => {
                load_ring(ring, saved).map(|saved| [saved, Saved::default()])
            }
            (Body::Histogram(histogram), BodyBlob::Histogram { state, sum, lost, ring }) => {
                let mut restored = None;
                HistogramCodec::decode(&state, 1, &mut |_, state: &HistogramState| restored = Some(state.clone()));
                histogram.state = restored.ok_or(RestoreError::Damaged)?;
                histogram.sum = ExactSum { sum, lost };
                load_ring(&mut histogram.ring, ring).map(|saved| [saved, Saved::default()])
            }
            (Body::Received(rings), BodyBlob::Received(floats, histograms)) => {
                let floats = load_ring(&mut rings.floats, floats);
                let histograms = load_ring(&mut rings.histograms, histograms);
                floats.and_then(|floats| Ok([floats, histograms?]))
            }
            _ => Err(RestoreError::Damaged),
        };
        entry.created_ms = blob.created_ms;
        entry.saved = loaded?;
        entry.identity_saved = true;
        let before = entry.bytes;
        entry.bytes = entry.size();
        self.bytes = (self.bytes + entry.bytes).saturating_sub(before);
        let metric = entry.metric;
        self.entries[slot as usize] = Some(entry);
        let was = self.hot[slot as usize].flags;
        if was & flag::TICK == 0 && blob.flags & flag::TICK != 0 {
            self.dirty.push(slot);
        }
        let hot = &mut self.hot[slot as usize];
        (hot.value, hot.updated_us) = (blob.value, blob.updated_us);
        hot.flags = blob.flags & !flag::SAVE;
        match (was & flag::LIVE != 0, blob.flags & flag::LIVE != 0) {
            (false, true) => self.attach(slot, metric),
            (true, false) => self.detach(slot),
            _ => {}
        }
        self.note_changed(metric);
        Ok(())
    }

    /// Makes the series that a blob names; false when it does not fit.
    fn restore_entry(&mut self, slot: u32, blob: &SeriesBlob, metric: Option<MetricId>, labels: Labels) -> bool {
        if self.entry(slot).is_some() {
            self.detach(slot);
            self.purge(&[slot]);
        }
        let Some(metric) = metric else { return false };
        let counted = !matches!(blob.body, BodyBlob::Received(..));
        let entry = if counted {
            self.new_own_entry(metric, labels)
        } else {
            let hash = self.hash_labels(&labels);
            super::append::received_entry(metric, labels, hash)
        };
        let fits = matches!(
            (&entry.body, &blob.body),
            (Body::Float(_), BodyBlob::Float(_))
                | (Body::Histogram(_), BodyBlob::Histogram { .. })
                | (Body::Received(_), BodyBlob::Received(..))
        );
        if !fits || self.find_labels(entry.labels_hash, &entry.labels).is_some() {
            return false;
        }
        self.place_entry(slot, entry, Hot::default());
        true
    }
}
