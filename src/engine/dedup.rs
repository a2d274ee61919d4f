//! Deduplication by id: a bounded window of the events that a source has brought, for transports that cannot say by
//! position what they deliver again.
//!
//! An event is its (event source, id, attempt) within one configured source: an attempt is an event of its own. Events
//! without an id are never deduplicated. The window is part of the checkpoint that holds the counts, so that both always
//! agree: what was added since the last one, or everything in a whole one.

use crate::engine::SourcePart;
use crate::model::EventBatch;
use crate::telemetry::self_metrics;
use hashbrown::HashSet;
use ring::digest;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

/// A fingerprint is evenly distributed already.
#[derive(Clone, Debug, Default)]
struct AsIs(u64);

impl Hasher for AsIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 << 8) | u64::from(*byte);
        }
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
}

/// The first 64 bits of SHA-256: the same on every machine and in every version, and nobody finds an id that takes the
/// place of another's. Two of 100,000 ids are confused once in 4 thousand million windows.
fn fingerprint(source: &str, id: &str, attempt: u32) -> u64 {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(&(source.len() as u64).to_le_bytes());
    context.update(source.as_bytes());
    context.update(&attempt.to_le_bytes());
    context.update(id.as_bytes());
    let digest = context.finish();
    digest.as_ref().iter().take(8).fold(0, |word, byte| (word << 8) | u64::from(*byte))
}

/// The latest events of one configured source.
#[derive(Clone, Debug)]
struct Window {
    /// Events at most.
    limit: usize,
    known: HashSet<u64, BuildHasherDefault<AsIs>>,
    /// The oldest first.
    order: VecDeque<u64>,
    /// So many at the end of `order` do not stand in a checkpoint.
    fresh: usize,
    /// The next checkpoint must not build on older ones.
    replaces: bool,
}

impl Window {
    fn new(limit: usize) -> Self {
        Self { limit, known: HashSet::default(), order: VecDeque::new(), fresh: 0, replaces: true }
    }

    /// Takes one in; `false` when it is there already.
    fn insert(&mut self, fingerprint: u64) -> bool {
        if !self.known.insert(fingerprint) {
            return false;
        }
        self.order.push_back(fingerprint);
        self.fresh += 1;
        self.shrink();
        true
    }

    fn shrink(&mut self) {
        while self.order.len() > self.limit {
            if let Some(oldest) = self.order.pop_front() {
                self.known.remove(&oldest);
            }
        }
        self.fresh = self.fresh.min(self.order.len());
    }

    fn delta(&mut self, full: bool) -> Delta {
        // More was added than the window holds: what fell out again cannot be told, so the old window must not be built on.
        let replaces = full || self.replaces || self.fresh >= self.order.len();
        let count = if replaces { self.order.len() } else { self.fresh };
        let added = self.order.range(self.order.len() - count..).flat_map(|one| one.to_le_bytes()).collect();
        (self.fresh, self.replaces) = (0, false);
        Delta { replaces, added }
    }

    fn apply(&mut self, delta: &Delta) {
        if delta.replaces {
            self.known.clear();
            self.order.clear();
        }
        for bytes in delta.added.chunks_exact(8) {
            self.insert(bytes.iter().rev().fold(0, |word, byte| (word << 8) | u64::from(*byte)));
        }
        (self.fresh, self.replaces) = (0, false);
    }
}

/// What one checkpoint says of one window.
#[derive(Debug, Serialize, Deserialize)]
struct Delta {
    /// Whether older checkpoints count no more.
    replaces: bool,
    /// 8 bytes each, the oldest first.
    added: Vec<u8>,
}

/// The windows of all sources that are deduplicated by id.
#[derive(Clone, Debug, Default)]
pub(super) struct Dedup {
    windows: BTreeMap<Arc<str>, Window>,
}

impl Dedup {
    /// Empty windows as the sources ask for them.
    pub fn new(sources: &[SourcePart]) -> Self {
        let asked = sources.iter().filter_map(|part| Some((part.name.clone(), part.config.dedup_window()?)));
        Self { windows: asked.map(|(name, limit)| (name, Window::new(limit))).collect() }
    }

    /// Takes the events out that were seen before, counts them, and remembers the others.
    pub fn filter(&mut self, batch: &mut EventBatch) {
        let Some(window) = self.windows.get_mut(&batch.source) else { return };
        let seen: Vec<bool> = batch
            .events
            .iter()
            .map(|event| {
                let id = batch.text(event.id);
                !id.is_empty() && !window.insert(fingerprint(batch.source_of(event), id, event.attempt))
            })
            .collect();
        let count = batch.remove(&seen);
        if count > 0 {
            self_metrics::source_duplicates(&batch.source).increment(count as u64);
        }
    }

    /// Windows of another configuration; those that stay keep what they know.
    pub fn reconfigure(&mut self, sources: &[SourcePart]) {
        let old = std::mem::replace(self, Self::new(sources));
        for (name, mut window) in old.windows {
            if let Some(fresh) = self.windows.get_mut(&name) {
                window.limit = fresh.limit;
                window.shrink();
                *fresh = window;
            }
        }
    }

    /// What was added since the last snapshot, or everything; nothing when there is nothing to say.
    pub fn snapshot(&mut self, full: bool) -> Vec<u8> {
        let deltas: BTreeMap<&Arc<str>, Delta> = self
            .windows
            .iter_mut()
            .filter(|(_, window)| full || window.fresh > 0 || window.replaces)
            .map(|(name, window)| (name, window.delta(full)))
            .collect();
        if deltas.is_empty() { Vec::new() } else { postcard::to_stdvec(&deltas).unwrap_or_default() }
    }

    /// Takes up one snapshot; to be called with all of them, in order. Windows that are configured no more are left out.
    ///
    /// # Errors
    /// When the bytes are not a snapshot.
    pub fn restore(&mut self, bytes: &[u8]) -> Result<(), String> {
        if bytes.is_empty() {
            return Ok(());
        }
        let deltas: BTreeMap<Arc<str>, Delta> = postcard::from_bytes(bytes).map_err(|error| error.to_string())?;
        for (name, delta) in deltas {
            if delta.added.len() % 8 != 0 {
                return Err(format!("the window of {name} ends within a fingerprint"));
            }
            if let Some(window) = self.windows.get_mut(&name) {
                window.apply(&delta);
            }
        }
        Ok(())
    }
}
