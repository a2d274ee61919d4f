//! Which series carry which labels: postings by (name, value).

use super::{MatchOp, Matcher};
use crate::model::Labels;
use std::collections::BTreeMap;
use std::sync::Arc;

type Postings = Vec<u32>;

/// The index. Ordered maps, so that every answer is in order and the same each time.
#[derive(Debug, Default)]
pub(super) struct Index {
    names: BTreeMap<Arc<str>, BTreeMap<Arc<str>, Postings>>,
    all: Postings,
}

fn insert(postings: &mut Postings, slot: u32) {
    // Slots mostly grow, so this is nearly always the end.
    if let Err(at) = postings.binary_search(&slot) {
        postings.insert(at, slot);
    }
}

/// The texts of a regex that is only an alternation of plain texts: `GET|POST`.
fn alternation(matcher: &Matcher) -> Option<impl Iterator<Item = &str>> {
    let plain = |c: char| !matches!(c, '\\' | '.' | '+' | '*' | '?' | '(' | ')' | '[' | ']' | '{' | '}' | '^' | '$');
    (matcher.op == MatchOp::Regex && matcher.value.chars().all(plain)).then(|| matcher.value.split('|'))
}

impl Index {
    /// Adds a series.
    pub fn insert(&mut self, slot: u32, labels: &Labels) {
        for label in labels.iter() {
            let values = self.names.entry(label.name.clone()).or_default();
            insert(values.entry(label.value.clone()).or_default(), slot);
        }
        insert(&mut self.all, slot);
    }

    /// Removes series, many at once, so that the long lists are gone through once.
    pub fn remove(&mut self, gone: &[(u32, Labels)]) {
        let slots: Vec<u32> = {
            let mut slots: Vec<u32> = gone.iter().map(|(slot, _)| *slot).collect();
            slots.sort_unstable();
            slots
        };
        let mut pairs: Vec<(&Arc<str>, &Arc<str>)> =
            gone.iter().flat_map(|(_, labels)| labels.iter().map(|label| (&label.name, &label.value))).collect();
        pairs.sort_unstable();
        pairs.dedup();
        for (name, value) in pairs {
            let Some(values) = self.names.get_mut(name) else { continue };
            if let Some(postings) = values.get_mut(value) {
                postings.retain(|slot| slots.binary_search(slot).is_err());
                if postings.is_empty() {
                    values.remove(value);
                }
            }
            if values.is_empty() {
                self.names.remove(name);
            }
        }
        self.all.retain(|slot| slots.binary_search(slot).is_err());
    }

    fn postings(&self, name: &str, value: &str) -> &[u32] {
        self.names.get(name).and_then(|values| values.get(value)).map_or(&[], Vec::as_slice)
    }

    /// The postings that a matcher which does not take "" asks for, as lists to unite.
    fn lists<'a>(&'a self, matcher: &Matcher) -> Vec<&'a [u32]> {
        if matcher.op == MatchOp::Equal {
            return vec![self.postings(&matcher.name, &matcher.value)];
        }
        if let Some(texts) = alternation(matcher) {
            return texts.map(|text| self.postings(&matcher.name, text)).collect();
        }
        let Some(values) = self.names.get(matcher.name.as_str()) else { return Vec::new() };
        values.iter().filter(|(value, _)| matcher.matches(value)).map(|(_, postings)| postings.as_slice()).collect()
    }

    /// The series that all matchers take, in order of their slots. The rarest equality is the start, the others filter it.
    pub fn resolve<'a>(&self, matchers: &[&Matcher], labels: impl Fn(u32) -> &'a Labels) -> Vec<u32> {
        let cheap = |matcher: &Matcher| matcher.op == MatchOp::Equal || alternation(matcher).is_some();
        let positive = || matchers.iter().enumerate().filter(|(_, matcher)| !matcher.matches(""));
        let start = positive()
            .filter(|(_, matcher)| cheap(matcher))
            .map(|(at, matcher)| (at, self.lists(matcher)))
            .min_by_key(|(_, lists)| lists.iter().map(|list| list.len()).sum::<usize>())
            .or_else(|| positive().next().map(|(at, matcher)| (at, self.lists(matcher))));
        let (used, mut slots) = match start {
            Some((at, lists)) if lists.len() == 1 => (at, lists[0].to_vec()),
            Some((at, lists)) => {
                let mut slots = lists.concat();
                slots.sort_unstable();
                slots.dedup();
                (at, slots)
            }
            None => (usize::MAX, self.all.clone()),
        };
        for (at, matcher) in matchers.iter().enumerate() {
            if at != used {
                slots.retain(|slot| matcher.matches(labels(*slot).get(&matcher.name).unwrap_or("")));
            }
        }
        slots
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn matcher() -> impl Strategy<Value = Matcher> {
        let op = prop::sample::select(vec![MatchOp::Equal, MatchOp::NotEqual, MatchOp::Regex, MatchOp::NotRegex]);
        let value = prop::sample::select(vec!["", "x", "y", "x|y", "x|", ".*", ".+", "[xz]", "(x|z)", "w"]);
        (prop::sample::select(vec!["a", "b", "c", "d"]), op, value)
            .prop_map(|(name, op, value)| Matcher::new(name, op, value).unwrap())
    }

    proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig { failure_persistence: None, ..Default::default() })]
        #[test]
        fn the_index_answers_as_looking_at_each_series_does(
            sets in prop::collection::vec(prop::collection::vec((prop::sample::select(vec!["a", "b", "c"]), prop::sample::select(vec!["x", "y", "z"])), 0..4), 1..30),
            matchers in prop::collection::vec(matcher(), 0..4),
            gone in prop::collection::vec(any::<prop::sample::Index>(), 0..5),
        ) {
            let sets: Vec<Labels> = sets.into_iter().map(Labels::from_pairs).collect();
            let mut index = Index::default();
            for (slot, labels) in sets.iter().enumerate() {
                index.insert(slot as u32, labels);
            }
            let mut gone: Vec<u32> = gone.iter().map(|at| at.index(sets.len()) as u32).collect();
            gone.sort_unstable();
            gone.dedup();
            index.remove(&gone.iter().map(|slot| (*slot, sets[*slot as usize].clone())).collect::<Vec<_>>());
            let refs: Vec<&Matcher> = matchers.iter().collect();
            let found = index.resolve(&refs, |slot| &sets[slot as usize]);
            let expected: Vec<u32> = (0..sets.len() as u32)
                .filter(|slot| !gone.contains(slot))
                .filter(|slot| matchers.iter().all(|matcher| matcher.matches(sets[*slot as usize].get(&matcher.name).unwrap_or(""))))
                .collect();
            prop_assert_eq!(found, expected);
        }
    }
}
