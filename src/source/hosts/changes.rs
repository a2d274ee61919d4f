//! What is known, and how what was found differs from it: a pure comparison.

use super::parse::{Bad, Family, Parsed, Record};
use super::scan::Found;
use crate::model::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// What was told so far, as the checkpoint keeps it.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Known {
    /// A look was told.
    begun: bool,
    files: BTreeMap<String, KnownFile>,
    /// Paths that could not be read, with the reason.
    errors: BTreeMap<String, String>,
}

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct KnownFile {
    records: BTreeMap<(String, Family), BTreeSet<String>>,
    bad: BTreeSet<u64>,
}

/// One thing that is different.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Change {
    FileAdded {
        file: String,
        records: usize,
    },
    FileChanged {
        file: String,
        added: usize,
        updated: usize,
        removed: usize,
        bad: BTreeSet<u64>,
    },
    FileRemoved {
        file: String,
    },
    Error {
        file: String,
        reason: &'static str,
        message: String,
    },
    /// What could not be read can be read; nobody is told, its records speak.
    Readable {
        file: String,
    },
    Added {
        file: String,
        record: Record,
    },
    Updated {
        file: String,
        record: Record,
        previous: String,
    },
    Removed {
        file: String,
        name: String,
        family: Family,
        address: String,
    },
    Bad {
        file: String,
        bad: Bad,
    },
}

impl Known {
    /// From a checkpoint; one that cannot be read counts as none.
    pub fn decode(bytes: Option<&[u8]>) -> Self {
        bytes.and_then(|bytes| postcard::from_bytes(bytes).ok()).unwrap_or_default()
    }

    pub fn encode(&self) -> Vec<u8> {
        postcard::to_stdvec(self).unwrap_or_default()
    }

    /// Nothing was ever told.
    pub fn is_new(&self) -> bool {
        !self.begun
    }

    /// The first look was told; whether that is news.
    pub fn begin(&mut self) -> bool {
        !std::mem::replace(&mut self.begun, true)
    }

    /// What is different now, in the order in which it is told.
    pub fn changes(&self, found: Found) -> Vec<Change> {
        let mut changes = Vec::new();
        for (file, failure) in &found.errors {
            if self.errors.get(file).map(String::as_str) != Some(failure.reason) {
                let (file, message) = (file.clone(), failure.message.clone());
                changes.push(Change::Error { file, reason: failure.reason, message });
            }
        }
        for file in self.errors.keys().filter(|file| !found.errors.contains_key(*file)) {
            changes.push(Change::Readable { file: file.clone() });
        }
        for (file, known) in &self.files {
            let hidden = |path: &String| {
                file == path || file.strip_prefix(path.trim_end_matches('/')).is_some_and(|rest| rest.starts_with('/'))
            };
            // What cannot be seen is not gone.
            if found.files.contains_key(file) || found.hidden.iter().any(hidden) {
                continue;
            }
            for ((name, family), addresses) in &known.records {
                changes.extend(addresses.iter().map(|address| {
                    let (file, name, address) = (file.clone(), name.clone(), address.clone());
                    Change::Removed { file, name, family: *family, address }
                }));
            }
            changes.push(Change::FileRemoved { file: file.clone() });
        }
        let empty = KnownFile::default();
        for (file, parsed) in found.files {
            let Some(parsed) = parsed else { continue };
            let known = self.files.get(&file);
            if known.is_none() {
                changes.push(Change::FileAdded { file: file.clone(), records: parsed.records.len() });
            }
            compare(&file, known.unwrap_or(&empty), parsed, known.is_some(), &mut changes);
        }
        changes
    }

    /// A change was told.
    pub fn apply(&mut self, change: Change) {
        match change {
            Change::FileAdded { file, .. } => {
                self.files.entry(file).or_default();
            }
            Change::FileChanged { file, bad, .. } => {
                self.files.entry(file).or_default().bad.retain(|hash| bad.contains(hash));
            }
            Change::FileRemoved { file } => {
                self.files.remove(&file);
            }
            Change::Error { file, reason, .. } => {
                self.errors.insert(file, reason.to_owned());
            }
            Change::Readable { file } => {
                self.errors.remove(&file);
            }
            Change::Added { file, record } => {
                let records = &mut self.files.entry(file).or_default().records;
                records.entry((record.name, record.family)).or_default().insert(record.address);
            }
            Change::Updated { file, record, previous } => {
                let records = &mut self.files.entry(file).or_default().records;
                let addresses = records.entry((record.name, record.family)).or_default();
                addresses.remove(&previous);
                addresses.insert(record.address);
            }
            Change::Removed { file, name, family, address } => {
                let records = &mut self.files.entry(file).or_default().records;
                if let Some(addresses) = records.get_mut(&(name.clone(), family)) {
                    addresses.remove(&address);
                    if addresses.is_empty() {
                        records.remove(&(name, family));
                    }
                }
            }
            Change::Bad { file, bad } => {
                self.files.entry(file).or_default().bad.insert(bad.hash());
            }
        }
    }
}

/// One file against what is known of it. An address that takes the place of another of the same name is an update.
fn compare(file: &str, known: &KnownFile, parsed: Parsed, was_there: bool, changes: &mut Vec<Change>) {
    let mut now: BTreeMap<(String, Family), BTreeMap<String, Record>> = BTreeMap::new();
    for record in parsed.records {
        let key = (record.name.clone(), record.family);
        now.entry(key).or_default().entry(record.address.clone()).or_insert(record);
    }
    let (mut told, mut added, mut updated, mut removed) = (Vec::new(), 0, 0, 0);
    let none = BTreeSet::new();
    for (key, records) in &now {
        let before = known.records.get(key).unwrap_or(&none);
        let mut gone = before.iter().filter(|address| !records.contains_key(*address));
        for record in records.values().filter(|record| !before.contains(&record.address)) {
            let (file, record) = (file.to_owned(), record.clone());
            match gone.next() {
                Some(previous) => {
                    updated += 1;
                    told.push(Change::Updated { file, record, previous: previous.clone() });
                }
                None => {
                    added += 1;
                    told.push(Change::Added { file, record });
                }
            }
        }
        for address in gone {
            removed += 1;
            let (name, family) = key.clone();
            told.push(Change::Removed { file: file.to_owned(), name, family, address: address.clone() });
        }
    }
    for ((name, family), addresses) in known.records.iter().filter(|(key, _)| !now.contains_key(*key)) {
        for address in addresses {
            removed += 1;
            let (file, name, address) = (file.to_owned(), name.clone(), address.clone());
            told.push(Change::Removed { file, name, family: *family, address });
        }
    }
    let hashes: BTreeSet<u64> = parsed.bad.iter().map(Bad::hash).collect();
    let mut said = known.bad.clone();
    let fresh: Vec<Change> = parsed
        .bad
        .into_iter()
        .filter(|bad| said.insert(bad.hash()))
        .map(|bad| Change::Bad { file: file.to_owned(), bad })
        .collect();
    let mended = known.bad.iter().any(|hash| !hashes.contains(hash));
    if was_there && (!told.is_empty() || !fresh.is_empty() || mended) {
        changes.push(Change::FileChanged { file: file.to_owned(), added, updated, removed, bad: hashes });
    }
    changes.append(&mut told);
    changes.extend(fresh);
}

impl Change {
    /// The event in the coordinator's shape; `None` for what nobody is told. `replayed` when it stood there before anybody
    /// looked.
    pub fn json(&self, id: &str, now: Timestamp, replayed: bool) -> Option<String> {
        let mut data = Map::new();
        let mut put = |key: &str, value: Value| data.insert(key.to_owned(), value);
        let of_record = |record: &Record| {
            [
                ("address", Value::from(record.address.as_str())),
                ("family", record.family.record().into()),
                ("aliases", record.aliases.clone().into()),
                ("line", record.line.into()),
            ]
        };
        let (event_type, file) = match self {
            Self::Readable { .. } => return None,
            Self::FileAdded { file, records } => {
                put("records", (*records).into());
                ("hosts.file.added", file)
            }
            Self::FileChanged { file, added, updated, removed, .. } => {
                put("added", (*added).into());
                put("updated", (*updated).into());
                put("removed", (*removed).into());
                ("hosts.file.changed", file)
            }
            Self::FileRemoved { file } => ("hosts.file.removed", file),
            Self::Error { file, reason, message } => {
                put("reason", (*reason).into());
                put("message", message.as_str().into());
                ("hosts.file.error", file)
            }
            Self::Added { file, record } | Self::Updated { file, record, .. } => {
                put("name", record.name.as_str().into());
                put("hostname", record.name.as_str().into());
                for (key, value) in of_record(record) {
                    put(key, value);
                }
                if let Self::Updated { previous, .. } = self {
                    put("previous", previous.as_str().into());
                    ("hosts.record.updated", file)
                } else {
                    ("hosts.record.added", file)
                }
            }
            Self::Removed { file, name, family, address } => {
                put("name", name.as_str().into());
                put("hostname", name.as_str().into());
                put("address", address.as_str().into());
                put("family", family.record().into());
                ("hosts.record.removed", file)
            }
            Self::Bad { file, bad } => {
                put("reason", bad.reason.into());
                put("line", bad.line.into());
                put("text", bad.text.as_str().into());
                put("message", bad.message().into());
                ("hosts.record.invalid", file)
            }
        };
        put("file", file.as_str().into());
        put("path", file.as_str().into());
        if replayed {
            put("replayed", true.into());
        }
        Some(json!({"event_id": id, "event_type": event_type, "timestamp": now.rfc3339(), "data": data}).to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse::parse;
    use super::super::scan::Failure;
    use super::*;
    use proptest::prelude::*;

    fn found(files: &[(&str, &str)]) -> Found {
        let files = files.iter().map(|(name, text)| ((*name).to_owned(), Some(parse(text.as_bytes(), 1_000))));
        Found { files: files.collect(), readable: true, ..Found::default() }
    }

    /// What is told when these files are found, in short; and it is known from then on.
    #[track_caller]
    fn check(known: &mut Known, found: Found, expected: &[&str]) {
        let changes = known.changes(found);
        let told: Vec<String> = changes
            .iter()
            .filter_map(|change| change.json("1", Timestamp::EPOCH, false))
            .map(|event| {
                let event: Value = serde_json::from_str(&event).unwrap();
                let data = &event["data"];
                let words = ["file", "name", "address", "previous", "reason"];
                let words = words.iter().filter_map(|word| data[*word].as_str());
                format!("{} {}", event["event_type"].as_str().unwrap(), words.collect::<Vec<_>>().join(" "))
            })
            .collect();
        assert_eq!(told, expected);
        changes.into_iter().for_each(|change| known.apply(change));
        *known = Known::decode(Some(&known.encode()));
    }

    #[test]
    fn records_come_change_and_go() {
        let mut known = Known::default();
        check(
            &mut known,
            found(&[("f", "10.0.0.1 a b\n")]),
            &["hosts.file.added f", "hosts.record.added f a 10.0.0.1", "hosts.record.added f b 10.0.0.1"],
        );
        check(&mut known, found(&[("f", "# moved\n10.0.0.1 b a\n")]), &[]);
        check(
            &mut known,
            found(&[("f", "10.0.0.2 a\n::1 b\n")]),
            &[
                "hosts.file.changed f",
                "hosts.record.updated f a 10.0.0.2 10.0.0.1",
                "hosts.record.added f b ::1",
                "hosts.record.removed f b 10.0.0.1",
            ],
        );
        check(
            &mut known,
            found(&[("g", "10.0.0.2 a\n")]),
            &[
                "hosts.record.removed f a 10.0.0.2",
                "hosts.record.removed f b ::1",
                "hosts.file.removed f",
                "hosts.file.added g",
                "hosts.record.added g a 10.0.0.2",
            ],
        );
    }

    #[test]
    fn a_mistake_is_told_once_until_it_is_mended() {
        let mut known = Known::default();
        check(&mut known, found(&[("f", "x y\n")]), &["hosts.file.added f", "hosts.record.invalid f invalid_address"]);
        check(&mut known, found(&[("f", "\nx y\nx z\n")]), &[]);
        check(&mut known, found(&[("f", "")]), &["hosts.file.changed f"]);
        check(
            &mut known,
            found(&[("f", "x y\n")]),
            &["hosts.file.changed f", "hosts.record.invalid f invalid_address"],
        );
    }

    #[test]
    fn what_cannot_be_seen_is_not_gone() {
        let mut known = Known::default();
        check(
            &mut known,
            found(&[("d/f", "10.0.0.1 a\n")]),
            &["hosts.file.added d/f", "hosts.record.added d/f a 10.0.0.1"],
        );
        let hidden = || {
            let failure = Failure { reason: "permission_denied", message: "cannot".into() };
            Found { errors: [("d".to_owned(), failure)].into(), hidden: vec!["d".into()], ..Found::default() }
        };
        check(&mut known, hidden(), &["hosts.file.error d permission_denied"]);
        check(&mut known, hidden(), &[]);
        check(&mut known, found(&[("d/f", "10.0.0.1 a\n")]), &[]);
        check(&mut known, hidden(), &["hosts.file.error d permission_denied"]);
        check(&mut known, found(&[]), &["hosts.record.removed d/f a 10.0.0.1", "hosts.file.removed d/f"]);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, cases: 64, ..Default::default() })]
        /// Whatever was known and wherever the telling was cut: in the end what is known is what stands in the files.
        #[test]
        fn what_is_known_follows_the_files(looks in prop::collection::vec(prop::collection::btree_map("[fg]", prop::collection::vec((0_u8..4, "[abc]"), 0..6), 0..3), 1..6), cut in 0_usize..10) {
            let texts = |look: &BTreeMap<String, Vec<(u8, String)>>| -> BTreeMap<String, String> {
                look.iter().map(|(file, lines)| (file.clone(), lines.iter().map(|(at, name)| format!("10.0.0.{at} {name}\n")).collect())).collect()
            };
            let seen = |texts: &BTreeMap<String, String>| Found {
                files: texts.iter().map(|(file, text)| (file.clone(), Some(parse(text.as_bytes(), 100)))).collect(),
                ..Found::default()
            };
            let mut known = Known::default();
            for look in &looks {
                let texts = texts(look);
                known.changes(seen(&texts)).into_iter().take(cut).for_each(|change| known.apply(change));
                known = Known::decode(Some(&known.encode()));
                known.changes(seen(&texts)).into_iter().for_each(|change| known.apply(change));
                prop_assert_eq!(known.changes(seen(&texts)), Vec::new());
                let mut fresh = Known::default();
                fresh.changes(seen(&texts)).into_iter().for_each(|change| fresh.apply(change));
                prop_assert_eq!(&known.files, &fresh.files);
            }
        }
    }
}
