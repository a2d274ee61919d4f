//! The position against a model of a consumer group: whatever comes between, each entry is counted once.

use super::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

fn id(number: u64) -> EntryId {
    // Several ids share a millisecond, and some milliseconds are left out.
    EntryId { ms: 1_000 + number / 5 * 2, seq: number % 5 }
}

/// What a group on a server knows, and what one consumer of it does with the position.
#[derive(Default)]
struct Model {
    /// Entries that exist; trimmed ones are gone.
    entries: BTreeSet<u64>,
    added: u64,
    /// The last that was delivered to anybody.
    delivered: u64,
    /// Who holds what: 0 is us.
    pending: BTreeMap<u64, usize>,

    position: Position,
    /// Batches that were handed to the core since the last checkpoint and before: number and runs.
    waiting: Vec<(u64, Vec<Run>)>,
    batches: u64,
    /// How often each entry was counted by the core.
    counts: BTreeMap<u64, u32>,
    /// What the last checkpoint holds: counts, position, batches.
    stored: (BTreeMap<u64, u32>, Vec<u8>, u64),
    /// Own entries up to here have come again since the connection was made; `None` when all have.
    own: Option<u64>,
}

#[derive(Clone, Debug)]
enum Step {
    /// So many entries are added.
    Add(u8),
    /// New entries are delivered to a consumer: 0 is us.
    Read(usize, u8),
    /// The next of our own pending entries come.
    Own(u8),
    /// Everything that another consumer holds is taken over.
    Claim(u8),
    /// A checkpoint is written.
    Checkpoint,
    /// What it allows is acknowledged; the answer arrives or not.
    Acknowledge(bool),
    /// The connection is lost, and made again.
    Reconnect,
    /// kill -9, and started again.
    Kill,
    /// The oldest entries are trimmed.
    Trim(u8),
}

const STREAM: &str = "s";

impl Model {
    fn stream() -> Arc<str> {
        STREAM.into()
    }

    /// Entries come to us: counted or recognised, in one batch.
    fn take(&mut self, numbers: &[u64]) {
        let (mut new, mut known) = (Vec::new(), Vec::new());
        for &number in numbers {
            if self.position.knows(STREAM, id(number)) {
                append(&mut known, id(number));
            } else {
                append(&mut new, id(number));
                // A trimmed entry comes without its fields: there is nothing to count.
                if self.entries.contains(&number) {
                    *self.counts.entry(number).or_default() += 1;
                }
            }
        }
        self.position.meet(STREAM, &known);
        self.position.count(&Self::stream(), &new);
        new.extend(known);
        if !new.is_empty() {
            self.batches += 1;
            self.waiting.push((self.batches, new));
        }
    }

    fn reconnect(&mut self) {
        self.waiting.clear();
        self.position.suspect_all();
        self.own = Some(0);
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Add(count) => {
                for _ in 0..count {
                    self.added += 1;
                    self.entries.insert(self.added);
                }
            }
            // New entries are asked for when all own ones have come.
            Step::Read(0, _) if self.own.is_some() => {}
            Step::Read(consumer, count) => {
                let delivered = self.delivered;
                let numbers: Vec<u64> =
                    self.entries.iter().copied().filter(|number| *number > delivered).take(count.into()).collect();
                for number in &numbers {
                    self.pending.insert(*number, consumer);
                    self.delivered = *number;
                }
                if consumer == 0 {
                    self.take(&numbers);
                }
            }
            Step::Own(count) => {
                let Some(after) = self.own else { return };
                let ours = self.pending.iter().filter(|(number, consumer)| **number > after && **consumer == 0);
                let numbers: Vec<u64> = ours.map(|(number, _)| *number).take(count.into()).collect();
                match numbers.last() {
                    Some(last) => self.own = Some(*last),
                    None => {
                        self.own = None;
                        self.position.all_met(STREAM);
                    }
                }
                self.take(&numbers);
            }
            Step::Claim(count) => {
                if self.own.is_some() {
                    return;
                }
                let numbers: Vec<u64> = self.pending.keys().copied().take(count.into()).collect();
                for number in &numbers {
                    self.pending.insert(*number, 0);
                }
                self.take(&numbers);
            }
            Step::Checkpoint => self.stored = (self.counts.clone(), self.position.encode(), self.batches),
            Step::Acknowledge(answered) => {
                let stored = self.stored.2;
                let (ready, rest): (Vec<_>, Vec<_>) = self.waiting.drain(..).partition(|(number, _)| *number <= stored);
                self.waiting = rest;
                for (_, runs) in ready {
                    let all: Vec<EntryId> = runs.iter().flat_map(|run| run.ids()).collect();
                    self.pending.retain(|number, _| !all.contains(&id(*number)));
                    if answered {
                        self.position.settle(STREAM, &runs);
                    }
                }
                if !answered {
                    self.reconnect();
                }
            }
            Step::Reconnect => self.reconnect(),
            Step::Kill => {
                let (counts, position, batches) = self.stored.clone();
                self.counts = counts;
                self.batches = batches;
                self.position = Position::restore("g", Some(&position));
                self.reconnect();
            }
            Step::Trim(count) => {
                for _ in 0..count {
                    self.entries.pop_first();
                }
            }
        }
        assert!(self.counts.values().all(|count| *count == 1), "counted twice after {step:?}: {:?}", self.counts);
    }
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (1..12_u8).prop_map(Step::Add),
        4 => (0..2_usize, 1..9_u8).prop_map(|(consumer, count)| Step::Read(consumer, count)),
        4 => (1..9_u8).prop_map(Step::Own),
        1 => (1..9_u8).prop_map(Step::Claim),
        2 => Just(Step::Checkpoint),
        2 => any::<bool>().prop_map(Step::Acknowledge),
        1 => Just(Step::Reconnect),
        1 => Just(Step::Kill),
    ]
}

/// Runs the steps, then lets everything come to its end; trimmed entries may be missing, others not.
fn check(steps: &[Step]) {
    let mut model = Model { position: Position::new("g"), own: Some(0), ..Model::default() };
    model.stored.1 = model.position.encode();
    for step in steps {
        model.step(step);
    }
    for _ in 0..4 {
        model.step(&Step::Reconnect);
        for _ in 0..200 {
            model.step(&Step::Own(250));
        }
        for end in [Step::Claim(250), Step::Read(0, 250), Step::Checkpoint, Step::Acknowledge(true)] {
            model.step(&end);
        }
    }
    let missed: Vec<&u64> = model.entries.iter().filter(|number| !model.counts.contains_key(number)).collect();
    assert!(missed.is_empty(), "never counted: {missed:?}");
    assert!(model.pending.is_empty(), "never acknowledged: {:?}", model.pending);
    assert!(model.position.is_settled());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn each_entry_is_counted_once_whatever_comes_between(steps in proptest::collection::vec(step(), 1..60)) {
        check(&steps);
    }

    #[test]
    fn trimming_makes_nothing_count_twice(
        steps in proptest::collection::vec(prop_oneof![5 => step(), 1 => (1..9_u8).prop_map(Step::Trim)], 1..60),
    ) {
        check(&steps);
    }

    /// Runs are a set: they know what was put in and not taken out, and survive their encoding.
    #[test]
    fn runs_are_a_set(steps in proptest::collection::vec((any::<bool>(), 0..4_u64, 0..20_u64, 0..6_u64), 1..80)) {
        let (mut runs, mut model) = (Runs::default(), BTreeSet::new());
        for (insert, ms, first, length) in steps {
            let run = Run { ms, first, last: first + length };
            for id in run.ids() {
                if insert { model.insert(id); } else { model.remove(&id); }
            }
            if insert { runs.insert(run); } else { runs.remove(run); }
        }
        for ms in 0..4 {
            for seq in 0..30 {
                let id = EntryId { ms, seq };
                prop_assert_eq!(runs.contains(id), model.contains(&id));
            }
        }
        prop_assert_eq!(Runs::decode(&runs.encode()), Some(runs));
    }
}

#[test]
fn a_position_says_nothing_about_another_group_and_foreign_bytes() {
    let stream: Arc<str> = STREAM.into();
    let mut position = Position::new("g");
    position.count(&stream, &[Run { ms: u64::MAX, first: 0, last: u64::MAX }, Run { ms: 7, first: 1, last: 9 }]);
    position.settle(STREAM, &[Run { ms: 7, first: 2, last: 3 }]);
    position.set_skipped(&stream, 5);
    let bytes = position.encode();
    let restored = Position::restore("g", Some(&bytes));
    assert_eq!(restored, position);
    assert_eq!(
        (restored.highest(STREAM), restored.skipped(STREAM)),
        (Some(EntryId { ms: u64::MAX, seq: u64::MAX }), 5)
    );
    assert!(restored.knows(STREAM, EntryId { ms: 7, seq: 2 }), "acknowledged, and remembered");
    assert_eq!(Position::restore("other", Some(&bytes)), Position::new("other"));
    for foreign in [&b""[..], b"\x02", b"\x01", &[VERSION; 17], &bytes[..bytes.len() - 1]] {
        assert_eq!(Position::restore("g", Some(foreign)), Position::new("g"), "{foreign:?}");
    }
}

#[test]
fn what_is_remembered_is_bounded_and_small() {
    let stream: Arc<str> = STREAM.into();
    let mut position = Position::new("g");
    for ms in 0..10_000_u64 {
        let run = [Run { ms: 1_700_000_000_000 + ms * 3, first: 0, last: 40 }];
        position.count(&stream, &run);
        position.settle(STREAM, &run);
    }
    assert!(position.encode().len() < 3_000, "{} bytes", position.encode().len());
    assert!(position.knows(STREAM, EntryId { ms: 1_700_000_000_000 + 9_999 * 3, seq: 0 }));
}
