//! The two tables of the hot path: event type -> mappings, label values -> series.

use super::Compiled;
use crate::series::Handle;
use ahash::RandomState;
use hashbrown::HashTable;
use std::borrow::Cow;
use std::hash::{BuildHasher, Hasher};

/// Event types whose mappings are remembered; beyond it the mappings of a type are found anew each time.
const TYPES: usize = 20_000;
/// Series that all mappings together remember; beyond it the table begins afresh.
const HANDLES: usize = 200_000;

fn hasher() -> RandomState {
    RandomState::with_seeds(11, 12, 13, 14)
}

/// What is known of an event type.
#[derive(Clone, Debug, Default)]
pub(super) struct TypeEntry {
    name: Box<str>,
    /// The mappings whose patterns match, in their order.
    pub mappings: Vec<u32>,
    /// Handles of the automatic metrics, one set for each source that sent this type.
    pub automatic: Vec<super::automatic::TypeHandles>,
}

/// Types seen so far.
#[derive(Clone, Debug)]
pub(super) struct Types {
    hasher: RandomState,
    table: HashTable<u32>,
    entries: Vec<TypeEntry>,
    /// For a type past the limit.
    spare: TypeEntry,
    /// The type of the event before: streams come in runs.
    last: usize,
}

impl Types {
    pub fn new() -> Self {
        Self {
            hasher: hasher(),
            table: HashTable::new(),
            entries: Vec::new(),
            spare: TypeEntry::default(),
            last: usize::MAX,
        }
    }

    pub fn entry(&mut self, name: &str, compiled: &Compiled) -> &mut TypeEntry {
        if self.entries.get(self.last).is_some_and(|entry| &*entry.name == name) {
            return &mut self.entries[self.last];
        }
        let hash = self.hasher.hash_one(name);
        if let Some(at) = self.table.find(hash, |at| &*self.entries[*at as usize].name == name) {
            self.last = *at as usize;
            return &mut self.entries[self.last];
        }
        let mappings = compiled.mappings.iter().enumerate();
        let matching = mappings.filter(|(_, mapping)| {
            mapping.select.matches_type(name) || mapping.begin.as_ref().is_some_and(|begin| begin.matches_type(name))
        });
        let entry = TypeEntry {
            name: name.into(),
            mappings: matching.map(|(at, _)| at as u32).collect(),
            automatic: Vec::new(),
        };
        if self.entries.len() >= TYPES {
            self.spare = entry;
            return &mut self.spare;
        }
        let at = self.entries.len();
        self.entries.push(entry);
        let (entries, hasher) = (&self.entries, &self.hasher);
        self.table.insert_unique(hash, at as u32, |at| hasher.hash_one(&*entries[*at as usize].name));
        self.last = at;
        &mut self.entries[at]
    }

    /// Forgets the handles, which belong to a store.
    pub fn forget_handles(&mut self) {
        self.entries.iter_mut().for_each(|entry| entry.automatic.clear());
    }
}

#[derive(Clone, Debug)]
struct Known {
    hash: u64,
    mapping: u32,
    values: Box<[Box<str>]>,
    handle: Handle,
}

/// Series by mapping and label values.
#[derive(Clone, Debug)]
pub(super) struct Handles {
    hasher: RandomState,
    table: HashTable<Known>,
}

impl Handles {
    pub fn new() -> Self {
        Self { hasher: hasher(), table: HashTable::new() }
    }

    pub fn clear(&mut self) {
        self.table.clear();
    }

    fn hash(&self, mapping: u32, values: &[Cow<'_, str>]) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        hasher.write_u32(mapping);
        for value in values {
            hasher.write(value.as_bytes());
            hasher.write_u8(0xff);
        }
        hasher.finish()
    }

    /// The series for these values; resolved when it is not known. An overflow series is not remembered: when others
    /// expire, the values get a series of their own.
    pub fn get(
        &mut self,
        mapping: u32,
        values: &[Cow<'_, str>],
        resolve: impl FnOnce() -> Option<Handle>,
    ) -> Option<Handle> {
        let hash = self.hash(mapping, values);
        if let Some(known) = self.table.find(hash, |known| is_it(known, mapping, values)) {
            return Some(known.handle);
        }
        let handle = resolve()?;
        if !handle.is_overflow() {
            if self.table.len() >= HANDLES {
                self.table.clear();
            }
            let values = values.iter().map(|value| Box::from(&**value)).collect();
            self.table.insert_unique(hash, Known { hash, mapping, values, handle }, |known| known.hash);
        }
        Some(handle)
    }

    /// Forgets a series that has ended.
    pub fn forget(&mut self, mapping: u32, values: &[Cow<'_, str>]) {
        let hash = self.hash(mapping, values);
        if let Ok(entry) = self.table.find_entry(hash, |known| is_it(known, mapping, values)) {
            entry.remove();
        }
    }
}

fn is_it(known: &Known, mapping: u32, values: &[Cow<'_, str>]) -> bool {
    known.mapping == mapping && known.values.iter().zip(values).all(|(known, value)| **known == **value)
}
