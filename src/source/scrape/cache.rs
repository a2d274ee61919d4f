//! The series of one target between scrapes. A series is found by its raw bytes in the exposition; on a steady target the
//! next series is the one that stood there the last time, so that a scrape neither hashes nor allocates.

use super::batch::{FamilyMetadata, NativeHistogram, ScrapeBatch};
use super::relabel::{self, LabelBuilder, Step};
use crate::model::{Labels, METRIC_NAME};
use ahash::RandomState;
use hashbrown::{HashMap, HashTable};

/// What the samples of a target are made with.
#[derive(Clone, Debug, Default)]
pub(super) struct Making {
    /// Labels of the target: job, instance and those of the configuration.
    pub target_labels: Vec<(String, String)>,
    pub honor_labels: bool,
    pub honor_timestamps: bool,
    pub classic_histograms: bool,
    pub steps: Vec<Step>,
    /// 0 for none.
    pub sample_limit: usize,
}

#[derive(Clone, Debug, Default)]
struct Entry {
    key: Box<[u8]>,
    hash: u64,
    /// Whether the slot is in use.
    used: bool,
    /// Relabelling keeps it.
    kept: bool,
    /// The scrape in which it was last seen.
    seen: u64,
    /// The scrape in which it last had a sample without a time of its own: those end with a marker of staleness.
    tracked: u64,
    /// A sample was handed over and no end after it.
    live: bool,
    /// Start timestamp as last handed over.
    start_ms: i64,
}

/// Why a scrape is given up; the words are the value of a label.
pub(super) type Reason = &'static str;

pub(super) const NO_NAME: Reason = "a series has no name after relabelling";
pub(super) const SAMPLE_LIMIT: Reason = "more samples than sample_limit";

/// The names of the samples that tell about the scrape itself, in the order of [`Report`].
const REPORT: [&str; 5] = [
    "up",
    "scrape_duration_seconds",
    "scrape_samples_scraped",
    "scrape_samples_post_metric_relabeling",
    "scrape_series_added",
];

/// The value of a sample.
pub(super) enum Sampled {
    Float(f64),
    Histogram(Box<NativeHistogram>),
}

pub(super) struct SeriesCache {
    making: Making,
    hasher: RandomState,
    table: HashTable<u32>,
    entries: Vec<Entry>,
    free: Vec<u32>,
    metadata: HashMap<String, FamilyMetadata, RandomState>,
    scrape: u64,
    /// Where the next series is expected.
    next: usize,
    batch: ScrapeBatch,
    report: Option<[u32; REPORT.len()]>,
    scraped: usize,
    added: usize,
    at_ms: i64,
}

impl SeriesCache {
    pub fn new(making: Making) -> Self {
        let hasher = RandomState::with_seeds(0x7363, 0x7261, 0x7065, 0x6421);
        Self {
            making,
            metadata: HashMap::with_hasher(hasher.clone()),
            hasher,
            table: HashTable::new(),
            entries: Vec::new(),
            free: Vec::new(),
            scrape: 0,
            next: 0,
            batch: ScrapeBatch::default(),
            report: None,
            scraped: 0,
            added: 0,
            at_ms: 0,
        }
    }

    pub fn making(&self) -> &Making {
        &self.making
    }

    /// Begins a scrape.
    pub fn begin(&mut self, at_ms: i64) {
        self.scrape += 1;
        self.at_ms = at_ms;
        let samples = self.entries.len();
        self.batch = ScrapeBatch { at_ms, floats: Vec::with_capacity(samples), ..ScrapeBatch::default() };
        (self.next, self.scraped, self.added) = (0, 0, 0);
    }

    /// The raw bytes of the series that is expected next.
    pub fn expected(&self) -> &[u8] {
        self.entries.get(self.next).map_or(&[], |entry| &entry.key)
    }

    fn find(&mut self, key: &[u8]) -> Option<u32> {
        if self.entries.get(self.next).is_some_and(|entry| *entry.key == *key) {
            return Some(self.next as u32);
        }
        let hash = self.hasher.hash_one(key);
        self.table.find(hash, |at| *self.entries[*at as usize].key == *key).copied()
    }

    /// Takes one sample of the series of that key. `labels` is asked for only when the series is new.
    pub fn sample(
        &mut self,
        key: &[u8],
        value: Sampled,
        t_ms: Option<i64>,
        start_ms: i64,
        labels: impl FnOnce(&mut LabelBuilder) -> Result<(), Reason>,
    ) -> Result<(), Reason> {
        self.scraped += 1;
        let id = match self.find(key) {
            Some(id) => id,
            None => self.insert(key, labels)?,
        };
        self.next = id as usize + 1;
        let scrape = self.scrape;
        let honor = self.making.honor_timestamps;
        let entry = &mut self.entries[id as usize];
        entry.seen = scrape;
        if !entry.kept {
            return Ok(());
        }
        if self.making.sample_limit > 0 && self.batch.samples() >= self.making.sample_limit {
            return Err(SAMPLE_LIMIT);
        }
        let own_ms = t_ms.filter(|_| honor);
        if own_ms.is_none() {
            entry.tracked = scrape;
        }
        if entry.start_ms != start_ms {
            entry.start_ms = start_ms;
            self.batch.starts.push((id, start_ms));
        }
        match (value, own_ms) {
            (Sampled::Float(value), None) => self.batch.floats.push((id, value)),
            (Sampled::Float(value), Some(t_ms)) => self.batch.timed.push((id, t_ms, value)),
            (Sampled::Histogram(value), own) => self.batch.histograms.push((id, own.unwrap_or(self.at_ms), value)),
        }
        Ok(())
    }

    /// Makes a new series.
    #[cold]
    fn insert(
        &mut self,
        key: &[u8],
        labels: impl FnOnce(&mut LabelBuilder) -> Result<(), Reason>,
    ) -> Result<u32, Reason> {
        let mut builder = LabelBuilder::default();
        labels(&mut builder)?;
        let labels = self.finish(builder)?;
        self.added += usize::from(labels.is_some());
        Ok(self.place(key, labels))
    }

    /// The labels of a series as they are stored; `None` when relabelling drops it.
    fn finish(&self, mut scraped: LabelBuilder) -> Result<Option<Labels>, Reason> {
        let making = &self.making;
        if making.honor_labels {
            for (name, value) in &making.target_labels {
                // A label that is scraped empty removes the target's: `Has` of Prometheus's labels.
                if !scraped.has(name) {
                    scraped.set(name, value);
                }
            }
        } else {
            let conflicts: Vec<(String, String)> = scraped
                .pairs
                .extract_if(.., |(name, _)| making.target_labels.iter().any(|(known, _)| known == name))
                .collect();
            for (name, value) in &making.target_labels {
                scraped.set(name, value);
            }
            for (name, value) in conflicts {
                let mut renamed = format!("exported_{name}");
                while scraped.has(&renamed) {
                    renamed.insert_str(0, "exported_");
                }
                scraped.set(&renamed, &value);
            }
        }
        if !relabel::apply(&making.steps, &mut scraped) {
            return Ok(None);
        }
        let labels = scraped.finish();
        if labels.is_empty() {
            return Ok(None);
        }
        if labels.metric_name().is_empty() {
            return Err(NO_NAME);
        }
        Ok(Some(labels))
    }

    fn place(&mut self, key: &[u8], labels: Option<Labels>) -> u32 {
        let hash = self.hasher.hash_one(key);
        let kept = labels.is_some();
        let entry = Entry { key: key.into(), hash, used: true, kept, ..Entry::default() };
        let id = match self.free.pop() {
            Some(id) => {
                self.entries[id as usize] = entry;
                id
            }
            None => {
                self.entries.push(entry);
                (self.entries.len() - 1) as u32
            }
        };
        let entries = &self.entries;
        self.table.insert_unique(hash, id, |at| entries[*at as usize].hash);
        if let Some(labels) = labels {
            self.batch.fresh.push((id, labels));
        }
        id
    }

    fn forget(&mut self, id: u32) {
        let hash = self.entries[id as usize].hash;
        if let Ok(found) = self.table.find_entry(hash, |at| *at == id) {
            found.remove();
        }
        self.entries[id as usize] = Entry::default();
        self.free.push(id);
    }

    /// Notes what a family is; handed over only when it is news.
    pub fn describe(&mut self, name: &str, change: impl FnOnce(&mut FamilyMetadata)) {
        match self.metadata.get_mut(name) {
            Some(known) => change(known),
            None => {
                let mut fresh = FamilyMetadata { name: name.to_owned(), kind: "unknown", ..Default::default() };
                change(&mut fresh);
                self.metadata.insert(name.to_owned(), fresh);
            }
        }
    }

    /// What is known of a family.
    pub fn described(&self, name: &str) -> Option<&FamilyMetadata> {
        self.metadata.get(name)
    }

    /// Says that a family's metadata is to be handed over.
    pub fn tell(&mut self, name: &str) {
        if let Some(known) = self.metadata.get(name)
            && self.batch.metadata.last().is_none_or(|last| last.name != known.name)
            && !self.batch.metadata.iter().any(|told| told.name == known.name)
        {
            self.batch.metadata.push(known.clone());
        }
    }

    /// Ends a scrape that was read whole: what was there the last time and is not now has ended.
    pub fn succeed(&mut self, seconds: f64) -> ScrapeBatch {
        let kept = self.batch.samples();
        for id in 0..self.entries.len() as u32 {
            if self.is_report(id) || !self.entries[id as usize].used {
                continue;
            }
            let entry = &mut self.entries[id as usize];
            let now = entry.tracked == self.scrape;
            if entry.live && !now {
                self.batch.stale.push(id);
            }
            entry.live = now;
            if entry.seen != self.scrape {
                self.forget(id);
            }
        }
        for told in &mut self.batch.metadata {
            if let Some(known) = self.metadata.get(told.name.as_str()) {
                // What was said of the family after it was first told.
                told.clone_from(known);
            }
        }
        let figures = [1.0, seconds, self.scraped as f64, kept as f64, self.added as f64];
        self.finish_batch(figures)
    }

    /// Ends a scrape that failed: it stores nothing but that, and ends all series.
    pub fn fail(&mut self, seconds: f64) -> ScrapeBatch {
        for (id, _) in std::mem::take(&mut self.batch.fresh) {
            self.forget(id);
        }
        let scraped = self.scraped;
        // Metadata and start timestamps were not told: what the next scrape says is news again.
        for (id, _) in &self.batch.starts {
            self.entries[*id as usize].start_ms = i64::MIN;
        }
        for told in &self.batch.metadata {
            self.metadata.remove(told.name.as_str());
        }
        self.batch = ScrapeBatch { at_ms: self.at_ms, ..ScrapeBatch::default() };
        for id in 0..self.entries.len() as u32 {
            let report = self.is_report(id);
            let entry = &mut self.entries[id as usize];
            if entry.live && !report {
                entry.live = false;
                self.batch.stale.push(id);
            }
        }
        self.finish_batch([0.0, seconds, scraped as f64, 0.0, 0.0])
    }

    fn is_report(&self, id: u32) -> bool {
        self.report.is_some_and(|report| report.contains(&id))
    }

    fn finish_batch(&mut self, figures: [f64; REPORT.len()]) -> ScrapeBatch {
        let report = match self.report {
            Some(report) => report,
            None => {
                let ids = REPORT.map(|name| {
                    let mut labels = LabelBuilder::default();
                    for (label, value) in &self.making.target_labels {
                        labels.set(label, value);
                    }
                    labels.set(METRIC_NAME, name);
                    // No exposition holds the byte 0xff.
                    let key = [name.as_bytes(), b"\xff"].concat();
                    self.place(&key, Some(labels.finish()))
                });
                self.report = Some(ids);
                ids
            }
        };
        self.batch.floats.extend(report.into_iter().zip(figures));
        std::mem::take(&mut self.batch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(name: &'static str) -> impl FnOnce(&mut LabelBuilder) -> Result<(), Reason> {
        move |builder| {
            builder.set(METRIC_NAME, name);
            Ok(())
        }
    }

    fn scrape(cache: &mut SeriesCache, at_ms: i64, names: &[&'static str]) -> ScrapeBatch {
        cache.begin(at_ms);
        for name in names {
            cache.sample(name.as_bytes(), Sampled::Float(1.0), None, 0, labels(name)).unwrap();
        }
        cache.succeed(0.5)
    }

    #[test]
    fn what_vanishes_ends_and_what_fails_ends_everything() {
        let mut cache = SeriesCache::new(Making::default());
        let first = scrape(&mut cache, 1, &["a", "b", "c"]);
        assert_eq!((first.fresh.len(), first.floats.len(), first.stale.len()), (8, 8, 0));
        assert_eq!(first.floats[3..].iter().map(|(_, value)| *value).collect::<Vec<_>>(), [1.0, 0.5, 3.0, 3.0, 3.0]);
        let second = scrape(&mut cache, 2, &["a", "c"]);
        assert_eq!((second.fresh.len(), second.floats.len(), second.stale.clone()), (0, 7, vec![1]));
        cache.begin(3);
        cache.sample(b"a", Sampled::Float(1.0), None, 0, labels("a")).unwrap();
        cache.sample(b"d", Sampled::Float(1.0), None, 0, labels("d")).unwrap();
        let failed = cache.fail(0.1);
        assert_eq!((failed.fresh.len(), failed.stale.clone()), (0, vec![0, 2]));
        assert_eq!(failed.floats.iter().map(|(_, value)| *value).collect::<Vec<_>>(), [0.0, 0.1, 2.0, 0.0, 0.0]);
        cache.begin(4);
        assert_eq!(cache.fail(0.1).stale.len(), 0, "what has ended does not end again");
        let back = scrape(&mut cache, 5, &["a", "c", "d"]);
        assert_eq!((back.fresh.len(), back.stale.len()), (1, 0), "the target's series are still known");
        assert_eq!(scrape(&mut cache, 6, &["c", "d", "a"]).fresh.len(), 0, "in any order");
    }

    #[test]
    fn samples_with_times_of_their_own_do_not_end() {
        let mut cache = SeriesCache::new(Making { honor_timestamps: true, ..Making::default() });
        cache.begin(10);
        cache.sample(b"a", Sampled::Float(1.0), Some(7), 0, labels("a")).unwrap();
        let batch = cache.succeed(0.0);
        assert_eq!(batch.timed, [(0, 7, 1.0)]);
        assert!(scrape(&mut cache, 20, &[]).stale.is_empty());
    }

    #[test]
    fn labels_of_the_target_and_of_the_series() {
        let check = |honor_labels, expected: &str| {
            let target_labels =
                [("job", "j"), ("instance", "i")].map(|(name, value)| (name.into(), value.into())).into();
            let mut cache = SeriesCache::new(Making { target_labels, honor_labels, ..Making::default() });
            cache.begin(1);
            let scraped = |builder: &mut LabelBuilder| {
                let pairs = [(METRIC_NAME, "m"), ("job", "x"), ("exported_job", "y"), ("instance", "")];
                builder.pairs = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
                Ok(())
            };
            cache.sample(b"m", Sampled::Float(1.0), None, 0, scraped).unwrap();
            assert_eq!(cache.succeed(0.0).fresh[0].1.to_string(), expected);
        };
        check(false, r#"m{exported_exported_job="x", exported_job="y", instance="i", job="j"}"#);
        check(true, r#"m{exported_job="y", job="x"}"#);
    }

    #[test]
    fn the_limit_counts_what_relabelling_keeps() {
        let mut cache = SeriesCache::new(Making { sample_limit: 1, ..Making::default() });
        cache.begin(1);
        cache.sample(b"a", Sampled::Float(1.0), None, 0, labels("a")).unwrap();
        assert_eq!(cache.sample(b"b", Sampled::Float(1.0), None, 0, labels("b")), Err(SAMPLE_LIMIT));
        assert!(cache.fail(0.0).stale.is_empty());
    }
}
