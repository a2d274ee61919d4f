//! The wanted paths as a tree, so that one pass over a document finds all of them.

use crate::model::Segment;
use smallvec::SmallVec;

/// No node, no list.
pub(super) const NONE: u32 = u32::MAX;

/// What tells keys apart without a call: keys of up to 16 bytes are equal exactly when these are.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
struct KeyId {
    first: u64,
    last: u64,
    len: u32,
}

#[inline]
fn load(bytes: &[u8]) -> u64 {
    if let Some(word) = bytes.first_chunk::<8>() {
        return u64::from_le_bytes(*word);
    }
    let mut word = [0; 8];
    word[..bytes.len()].copy_from_slice(bytes);
    u64::from_le_bytes(word)
}

impl KeyId {
    /// The key that stands at `start..end`; bytes behind it may be read, never compared.
    #[inline]
    fn new(bytes: &[u8], start: usize, end: usize) -> Self {
        let len = end - start;
        let first = load(&bytes[start..]);
        if len < 8 {
            return Self { first: first & ((1_u64 << (8 * len)) - 1), last: 0, len: len as u32 };
        }
        Self { first, last: load(&bytes[end - 8..end]), len: len as u32 }
    }

    #[inline]
    fn hash(self) -> u32 {
        let mixed = self.first ^ self.last.rotate_left(29) ^ (u64::from(self.len) << 56);
        (mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32
    }
}

#[derive(Clone, Debug)]
struct Entry {
    id: KeyId,
    node: u32,
    key: Box<str>,
}

/// One place in the documents that somebody wants something from.
#[derive(Clone, Debug)]
pub(super) struct Node {
    table: u32,
    mask: u32,
    /// Whether the keys of an object here matter.
    pub has_keys: bool,
    /// The node for each element of an array here.
    pub each: u32,
    /// Nodes for single elements of an array here.
    pub indexes: Vec<(u32, u32)>,
    /// Where the value that stands here goes.
    pub slots: SmallVec<[u32; 4]>,
    /// On a node for each element: the lists that get one value an element.
    pub fills: SmallVec<[u32; 2]>,
}

/// The finished tree. Node 0 is the document.
#[derive(Clone, Debug)]
pub(super) struct Trie {
    pub nodes: Vec<Node>,
    entries: Vec<Entry>,
    /// For each slot the list it collects into, or [`NONE`] for a single value.
    pub list_of: Vec<u32>,
    pub lists: usize,
}

impl Trie {
    /// The node of a key of the object at `node`; the key stands at `start..end`.
    #[inline]
    pub fn child(&self, node: &Node, bytes: &[u8], start: usize, end: usize) -> Option<u32> {
        let id = KeyId::new(bytes, start, end);
        let mut at = id.hash() & node.mask;
        loop {
            let entry = &self.entries[(node.table + at) as usize];
            if entry.node == NONE {
                return None;
            }
            if entry.id == id && (id.len <= 16 || entry.key.as_bytes() == &bytes[start..end]) {
                return Some(entry.node);
            }
            at = (at + 1) & node.mask;
        }
    }
}

#[derive(Default)]
struct Draft {
    keys: Vec<(String, u32)>,
    each: Option<u32>,
    indexes: Vec<(u32, u32)>,
    slots: SmallVec<[u32; 4]>,
    fills: SmallVec<[u32; 2]>,
}

/// Collects paths with the slots their values go to.
pub(super) struct TrieBuilder {
    drafts: Vec<Draft>,
    list_of: Vec<u32>,
    lists: u32,
}

impl TrieBuilder {
    pub fn new() -> Self {
        Self { drafts: vec![Draft::default()], list_of: Vec::new(), lists: 0 }
    }

    /// A new slot for the value at `path`; with `[]` in the path it is a list.
    pub fn add(&mut self, path: &[Segment]) -> u32 {
        let slot = self.list_of.len() as u32;
        let (mut at, mut innermost) = (0, None);
        for segment in path {
            let next = self.drafts.len() as u32;
            let draft: &mut Draft = &mut self.drafts[at];
            let found = match segment {
                Segment::Key(name) => match draft.keys.iter().find(|(known, _)| known == name) {
                    Some((_, node)) => *node,
                    None => {
                        draft.keys.push((name.clone(), next));
                        next
                    }
                },
                Segment::Index(index) => match draft.indexes.iter().find(|(known, _)| known == index) {
                    Some((_, node)) => *node,
                    None => {
                        draft.indexes.push((*index, next));
                        next
                    }
                },
                Segment::Each => *draft.each.get_or_insert(next),
            };
            if found == next {
                self.drafts.push(Draft::default());
            }
            at = found as usize;
            if *segment == Segment::Each {
                innermost = Some(at);
            }
        }
        self.drafts[at].slots.push(slot);
        match innermost {
            Some(each) => {
                self.drafts[each].fills.push(slot);
                self.list_of.push(self.lists);
                self.lists += 1;
            }
            None => self.list_of.push(NONE),
        }
        slot
    }

    /// How many slots there are so far.
    pub fn slots(&self) -> u32 {
        self.list_of.len() as u32
    }

    /// The finished tree.
    pub fn build(self) -> Trie {
        let (mut nodes, mut entries) = (Vec::with_capacity(self.drafts.len()), Vec::new());
        for draft in self.drafts {
            let table = entries.len();
            // At most half full, so that a key nobody wants meets an empty place soon.
            let size = (draft.keys.len() * 2).next_power_of_two().max(2);
            let mask = size as u32 - 1;
            let empty = Entry { id: KeyId::default(), node: NONE, key: "".into() };
            entries.resize(table + size, empty);
            for (key, node) in &draft.keys {
                let id = KeyId::new(key.as_bytes(), 0, key.len());
                let mut at = id.hash() & mask;
                while entries[table + at as usize].node != NONE {
                    at = (at + 1) & mask;
                }
                entries[table + at as usize] = Entry { id, node: *node, key: key.as_str().into() };
            }
            nodes.push(Node {
                table: table as u32,
                mask,
                has_keys: !draft.keys.is_empty(),
                each: draft.each.unwrap_or(NONE),
                indexes: draft.indexes,
                slots: draft.slots,
                fills: draft.fills,
            });
        }
        Trie { nodes, entries, list_of: self.list_of, lists: self.lists as usize }
    }
}
