//! Where each partition has been read to, as stored in the checkpoint.

use std::collections::BTreeMap;
use std::sync::Arc;

/// A partition of a topic.
pub(super) type Partition = (Arc<str>, i32);

/// For each partition the offset of the first message that is not counted yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Offsets(pub BTreeMap<Partition, i64>);

/// As it is stored: each topic with its partitions and their offsets.
type Topics = Vec<(String, Vec<(i32, i64)>)>;

/// The first byte of the encoding.
const VERSION: u8 = 1;

impl Offsets {
    /// Raises a partition's offset; a lower one changes nothing.
    pub fn raise(&mut self, partition: &Partition, next: i64) {
        match self.0.get_mut(partition) {
            Some(known) => *known = (*known).max(next),
            None => {
                self.0.insert(partition.clone(), next);
            }
        }
    }

    /// Everything of `other`, the higher offset where both know one.
    pub fn merge(&mut self, other: &Self) {
        for (partition, next) in &other.0 {
            self.raise(partition, *next);
        }
    }

    /// Everything of `other`, also where it is lower.
    pub fn replace(&mut self, other: &Self) {
        self.0.extend(other.0.iter().map(|(partition, next)| (partition.clone(), *next)));
    }

    pub fn get(&self, partition: &Partition) -> Option<i64> {
        self.0.get(partition).copied()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The version, then postcard: topic by topic, each name once.
    pub fn encode(&self) -> Vec<u8> {
        let mut topics: Vec<(&str, Vec<(i32, i64)>)> = Vec::new();
        for ((topic, partition), next) in &self.0 {
            match topics.last_mut() {
                Some((last, partitions)) if *last == &**topic => partitions.push((*partition, *next)),
                _ => topics.push((topic, vec![(*partition, *next)])),
            }
        }
        postcard::to_extend(&topics, vec![VERSION]).unwrap_or_default()
    }

    /// `None` for an encoding that is not ours (another transport stood under this name).
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (&VERSION, rest) = bytes.split_first()? else { return None };
        let (topics, left_over): (Topics, _) = postcard::take_from_bytes(rest).ok()?;
        let mut offsets = Self::default();
        for (topic, partitions) in topics {
            let topic: Arc<str> = topic.into();
            offsets.0.extend(partitions.into_iter().map(|(partition, next)| ((topic.clone(), partition), next)));
        }
        left_over.is_empty().then_some(offsets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn offsets(list: &[(&str, i32, i64)]) -> Offsets {
        Offsets(list.iter().map(|(topic, partition, next)| (((*topic).into(), *partition), *next)).collect())
    }

    #[test]
    fn the_higher_offset_wins() {
        let mut known = offsets(&[("a", 0, 5), ("a", 1, 7)]);
        known.merge(&offsets(&[("a", 0, 6), ("a", 1, 2), ("b", 0, 1)]));
        assert_eq!(known, offsets(&[("a", 0, 6), ("a", 1, 7), ("b", 0, 1)]));
        // A topic that was made anew begins at 0.
        known.replace(&offsets(&[("a", 1, 0)]));
        assert_eq!(known, offsets(&[("a", 0, 6), ("a", 1, 0), ("b", 0, 1)]));
    }

    #[test]
    fn foreign_positions_are_refused() {
        for foreign in [&b""[..], b"\x02", b"\x01\xff\xff", b"1795165200-0", &[VERSION, 0, 0]] {
            assert_eq!(Offsets::decode(foreign), None, "{foreign:?}");
        }
    }

    proptest! {
        #[test]
        fn positions_survive_their_encoding(list in prop::collection::vec(("[a-c]{1,3}", 0..9_i32, 0..i64::MAX), 0..20)) {
            let list: Vec<_> = list.iter().map(|(topic, partition, next)| (topic.as_str(), *partition, *next)).collect();
            let before = offsets(&list);
            prop_assert_eq!(Offsets::decode(&before.encode()), Some(before));
        }
    }
}
