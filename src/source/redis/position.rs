//! What was counted of each stream: stored in the checkpoint with the counts, so that a redelivered entry is recognised.
//!
//! A consumer group delivers an entry again until it is acknowledged, and acknowledgement comes after the checkpoint. So
//! what has to be remembered is what was counted and may still come: the entries whose acknowledgement is not certain.
//! They are kept as runs of consecutive ids: exact (a run never spans an id that was not delivered to this consumer), and
//! small, because entries that come fast share their millisecond. A bounded number of settled runs is kept besides: a
//! server that comes back with an older state of the group (a replica that was behind) delivers those again.

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;

/// Settled runs that are remembered of each stream, the highest ids.
const SETTLED_RUNS: usize = 512;
/// The first byte of the encoding.
const VERSION: u8 = 1;

/// The id of an entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct EntryId {
    /// Milliseconds since the epoch, as a rule.
    pub ms: u64,
    /// Number within the millisecond.
    pub seq: u64,
}

impl EntryId {
    /// `MS-SEQ`, or `MS` alone.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        let (ms, seq) = text.split_once('-').unwrap_or((text, "0"));
        Some(Self { ms: ms.parse().ok()?, seq: seq.parse().ok()? })
    }

    /// The least id above this one.
    pub fn next(self) -> Self {
        match self.seq.checked_add(1) {
            Some(seq) => Self { seq, ..self },
            None => Self { ms: self.ms.saturating_add(1), seq: 0 },
        }
    }
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.ms, self.seq)
    }
}

/// Consecutive ids of one millisecond, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub ms: u64,
    pub first: u64,
    pub last: u64,
}

impl Run {
    pub fn of(id: EntryId) -> Self {
        Self { ms: id.ms, first: id.seq, last: id.seq }
    }

    /// Every id of it.
    pub fn ids(self) -> impl Iterator<Item = EntryId> {
        (self.first..=self.last).map(move |seq| EntryId { ms: self.ms, seq })
    }

    /// Takes the id in when it follows.
    pub fn extend(&mut self, id: EntryId) -> bool {
        let follows = id.ms == self.ms && self.last.checked_add(1) == Some(id.seq);
        if follows {
            self.last = id.seq;
        }
        follows
    }
}

/// Appends an id to runs that grow at their end.
pub(super) fn append(runs: &mut Vec<Run>, id: EntryId) {
    if !runs.last_mut().is_some_and(|last| last.extend(id)) {
        runs.push(Run::of(id));
    }
}

/// A set of ids. Runs never touch or overlap.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Runs(BTreeMap<EntryId, u64>);

impl Runs {
    /// Runs of this millisecond that touch or overlap `first..=last`, widened by one on both sides when `touching`.
    fn meeting(&self, run: Run, touching: bool) -> Vec<Run> {
        let (low, high) = match touching {
            true => (run.first.saturating_sub(1), run.last.saturating_add(1)),
            false => (run.first, run.last),
        };
        let up_to = self.0.range(..=EntryId { ms: run.ms, seq: high });
        up_to
            .rev()
            .map(|(start, last)| Run { ms: start.ms, first: start.seq, last: *last })
            .take_while(|known| known.ms == run.ms && known.last >= low)
            .collect()
    }

    fn put(&mut self, run: Run) {
        self.0.insert(EntryId { ms: run.ms, seq: run.first }, run.last);
    }

    pub fn insert(&mut self, mut run: Run) {
        for known in self.meeting(run, true) {
            self.0.remove(&EntryId { ms: known.ms, seq: known.first });
            run = Run { ms: run.ms, first: run.first.min(known.first), last: run.last.max(known.last) };
        }
        self.put(run);
    }

    pub fn remove(&mut self, run: Run) {
        for known in self.meeting(run, false) {
            self.0.remove(&EntryId { ms: known.ms, seq: known.first });
            if known.first < run.first {
                self.put(Run { last: run.first - 1, ..known });
            }
            if known.last > run.last {
                self.put(Run { first: run.last + 1, ..known });
            }
        }
    }

    pub fn contains(&self, id: EntryId) -> bool {
        self.0.range(..=id).next_back().is_some_and(|(start, last)| start.ms == id.ms && id.seq <= *last)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn absorb(&mut self, other: Self) {
        for (start, last) in other.0 {
            self.insert(Run { ms: start.ms, first: start.seq, last });
        }
    }

    /// Forgets the lowest runs beyond a limit.
    fn limit(&mut self, runs: usize) {
        while self.0.len() > runs {
            self.0.pop_first();
        }
    }

    /// Distances and lengths, which are small numbers where ids are close.
    fn encode(&self) -> Vec<u64> {
        let mut out = Vec::with_capacity(self.0.len() * 3);
        let mut ms = 0;
        for (start, last) in &self.0 {
            out.extend([start.ms - ms, start.seq, last - start.seq]);
            ms = start.ms;
        }
        out
    }

    fn decode(numbers: &[u64]) -> Option<Self> {
        let (triples, left_over) = numbers.as_chunks::<3>();
        let mut runs = Self::default();
        let mut ms = 0_u64;
        for [distance, first, length] in triples {
            ms = ms.checked_add(*distance)?;
            runs.put(Run { ms, first: *first, last: first.checked_add(*length)? });
        }
        left_over.is_empty().then_some(runs)
    }
}

/// What is known of one stream.
#[derive(Clone, Debug, Default, PartialEq)]
struct StreamPosition {
    /// The highest id that was counted.
    highest: EntryId,
    /// Counted; the acknowledgement is not certain.
    counted: Runs,
    /// Counted before this connection, and not met again since: what the group does not hold any more when all that it holds
    /// has come.
    suspects: Runs,
    /// Counted and acknowledged, the latest of them.
    settled: Runs,
    /// Entries that were trimmed before they were delivered, as far as they are told from the group's own numbers.
    skipped: u64,
}

/// What is known of all streams of a source.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Position {
    /// The group that all of it is about.
    group: String,
    streams: BTreeMap<Arc<str>, StreamPosition>,
}

#[derive(Serialize, Deserialize)]
struct StoredStream {
    name: String,
    highest: EntryId,
    counted: Vec<u64>,
    settled: Vec<u64>,
    skipped: u64,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    group: String,
    streams: VecDeque<StoredStream>,
}

impl Position {
    /// Of a group of which nothing is known.
    pub fn new(group: &str) -> Self {
        Self { group: group.to_owned(), streams: BTreeMap::new() }
    }

    /// From a checkpoint; of another group, or of another transport, it says nothing.
    pub fn restore(group: &str, bytes: Option<&[u8]>) -> Self {
        bytes.and_then(Self::decode).filter(|position| position.group == group).unwrap_or_else(|| Self::new(group))
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (&VERSION, rest) = bytes.split_first()? else { return None };
        let stored: Stored = postcard::from_bytes(rest).ok()?;
        let mut position = Self::new(&stored.group);
        for stream in stored.streams {
            let known = StreamPosition {
                highest: stream.highest,
                counted: Runs::decode(&stream.counted)?,
                suspects: Runs::default(),
                settled: Runs::decode(&stream.settled)?,
                skipped: stream.skipped,
            };
            position.streams.insert(stream.name.into(), known);
        }
        Some(position)
    }

    /// For the checkpoint.
    pub fn encode(&self) -> Vec<u8> {
        let stream = |(name, known): (&Arc<str>, &StreamPosition)| {
            let counted = match known.suspects.is_empty() {
                true => known.counted.encode(),
                false => {
                    let mut both = known.suspects.clone();
                    both.absorb(known.counted.clone());
                    both.encode()
                }
            };
            StoredStream {
                name: name.to_string(),
                highest: known.highest,
                counted,
                settled: known.settled.encode(),
                skipped: known.skipped,
            }
        };
        let stored = Stored { group: self.group.clone(), streams: self.streams.iter().map(stream).collect() };
        // Writing numbers and texts into memory does not fail; an empty encoding would say that nothing is known.
        postcard::to_extend(&stored, vec![VERSION]).unwrap_or_default()
    }

    /// The highest id that was counted of a stream; `None` when nothing was.
    pub fn highest(&self, stream: &str) -> Option<EntryId> {
        self.streams.get(stream).map(|known| known.highest).filter(|highest| *highest > EntryId::default())
    }

    /// Whether an entry was counted.
    pub fn knows(&self, stream: &str, id: EntryId) -> bool {
        self.streams.get(stream).is_some_and(|known| {
            id <= known.highest
                && (known.counted.contains(id) || known.suspects.contains(id) || known.settled.contains(id))
        })
    }

    /// These are counted in the batch that is about to be delivered.
    pub fn count(&mut self, stream: &Arc<str>, runs: &[Run]) {
        let known = self.streams.entry(stream.clone()).or_default();
        for run in runs {
            known.highest = known.highest.max(EntryId { ms: run.ms, seq: run.last });
            known.counted.insert(*run);
        }
    }

    /// Entries that were counted have come again and wait for their acknowledgement: they must not be forgotten before.
    pub fn meet(&mut self, stream: &str, runs: &[Run]) {
        let Some(known) = self.streams.get_mut(stream) else { return };
        for run in runs {
            known.suspects.remove(*run);
            known.settled.remove(*run);
            known.counted.insert(*run);
        }
    }

    /// These are acknowledged for certain.
    pub fn settle(&mut self, stream: &str, runs: &[Run]) {
        let Some(known) = self.streams.get_mut(stream) else { return };
        for run in runs {
            known.counted.remove(*run);
            known.settled.insert(*run);
        }
        known.settled.limit(SETTLED_RUNS);
    }

    /// A new connection: acknowledgements that were under way may have arrived or not.
    pub fn suspect_all(&mut self) {
        for known in self.streams.values_mut() {
            let counted = std::mem::take(&mut known.counted);
            known.suspects.absorb(counted);
        }
    }

    /// All that the group held for this consumer has come: what was not met again is acknowledged.
    pub fn all_met(&mut self, stream: &str) {
        let Some(known) = self.streams.get_mut(stream) else { return };
        let suspects = std::mem::take(&mut known.suspects);
        known.settled.absorb(suspects);
        known.settled.limit(SETTLED_RUNS);
    }

    /// The stream was made anew: what is known is about another one.
    pub fn forget(&mut self, stream: &str) {
        self.streams.remove(stream);
    }

    /// Entries of a stream that were trimmed before they were delivered.
    pub fn skipped(&self, stream: &str) -> u64 {
        self.streams.get(stream).map_or(0, |known| known.skipped)
    }

    /// Sets what [`Position::skipped`] tells.
    pub fn set_skipped(&mut self, stream: &Arc<str>, skipped: u64) {
        if self.skipped(stream) != skipped {
            self.streams.entry(stream.clone()).or_default().skipped = skipped;
        }
    }

    /// Whether nothing of a stream waits for its acknowledgement.
    #[cfg(test)]
    fn is_settled(&self) -> bool {
        self.streams.values().all(|known| known.counted.is_empty() && known.suspects.is_empty())
    }
}

#[cfg(test)]
mod tests;
