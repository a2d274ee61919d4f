//! One pass over a JSON document that leaves out what is hidden. It copies as it goes and stops at the limit, or at the
//! first byte that no JSON document could have there.

use super::Redactor;
use crate::model::{REDACTED, Segment};
use smallvec::SmallVec;
use std::borrow::Cow;

/// Nesting that is followed; deeper values are hidden. Decoding allows 512 at most.
const DEPTH: usize = 512;

/// The hidden places as a tree of keys.
#[derive(Clone, Debug)]
pub(super) struct Tree {
    nodes: Vec<Node>,
}

#[derive(Clone, Debug, Default)]
struct Node {
    /// Lower-cased keys; `*` is any.
    keys: Vec<(String, u32)>,
    elements: Vec<(Option<u32>, u32)>,
    /// Hidden here, or hashed.
    hidden: Option<bool>,
}

impl Default for Tree {
    fn default() -> Self {
        Self { nodes: vec![Node::default()] }
    }
}

impl Tree {
    /// Hides a place, or hashes it.
    pub fn add(&mut self, path: &[Segment], hash: bool) {
        if path.is_empty() {
            return;
        }
        let mut at = 0;
        for segment in path {
            let next = self.nodes.len() as u32;
            let node = &mut self.nodes[at];
            let known = match segment {
                Segment::Key(key) => {
                    let key = key.to_ascii_lowercase();
                    let known = node.keys.iter().find(|(known, _)| *known == key).map(|(_, to)| *to);
                    if known.is_none() {
                        node.keys.push((key, next));
                    }
                    known
                }
                Segment::Index(_) | Segment::Each => {
                    let index = if let Segment::Index(index) = segment { Some(*index) } else { None };
                    let known = node.elements.iter().find(|(known, _)| *known == index).map(|(_, to)| *to);
                    if known.is_none() {
                        node.elements.push((index, next));
                    }
                    known
                }
            };
            if known.is_none() {
                self.nodes.push(Node::default());
            }
            at = known.unwrap_or(next) as usize;
        }
        // Hidden wins over hashed.
        let node = &mut self.nodes[at];
        node.hidden = Some(node.hidden.unwrap_or(true) && hash);
    }
}

/// The places of the tree that a value may be at.
type Places = SmallVec<[u32; 8]>;

/// The scan cannot go on: the document ends or breaks here, or the limit is reached.
struct Stop;

/// The document with everything hidden taken out.
pub(super) fn redact(raw: &str, tree: &Tree, redactor: &Redactor, limit: usize) -> String {
    let mut pass = Pass { text: raw, at: 0, out: String::new(), tree, redactor, limit };
    let places = Places::from_slice(&[0]);
    let whole = pass.value(&places, 0).is_ok();
    if whole {
        pass.blanks();
    }
    let rest = raw.len() > pass.at;
    let mut out = pass.out;
    if out.len() > limit {
        out.truncate(super::cut(&out, limit).len());
    } else if rest && !whole {
        // What stands behind a fault may be anything.
        out.push_str(REDACTED);
    }
    out
}

struct Pass<'a> {
    text: &'a str,
    at: usize,
    out: String,
    tree: &'a Tree,
    redactor: &'a Redactor,
    limit: usize,
}

impl<'a> Pass<'a> {
    fn byte(&self) -> u8 {
        self.text.as_bytes().get(self.at).copied().unwrap_or(0)
    }

    fn blanks(&mut self) {
        while matches!(self.byte(), b' ' | b'\n' | b'\r' | b'\t') {
            self.out.push(char::from(self.byte()));
            self.at += 1;
        }
    }

    fn take(&mut self, expected: u8) -> Result<(), Stop> {
        if self.byte() != expected || self.at >= self.text.len() || self.out.len() > self.limit {
            return Err(Stop);
        }
        self.out.push(char::from(expected));
        self.at += 1;
        Ok(())
    }

    /// The value at hand: copied, hidden or hashed.
    fn value(&mut self, places: &Places, depth: usize) -> Result<(), Stop> {
        self.blanks();
        let hidden = places.iter().filter_map(|at| self.tree.nodes[*at as usize].hidden).reduce(|all, one| all && one);
        if let Some(hash) = hidden {
            return self.hide(hash);
        }
        if depth > DEPTH || self.out.len() > self.limit {
            return Err(Stop);
        }
        match self.byte() {
            b'{' => self.object(places, depth),
            b'[' => self.array(places, depth),
            b'"' => {
                let text = self.string()?;
                let text = self.redactor.veil.clean(&text);
                self.push_string(&text);
                Ok(())
            }
            _ => {
                let word = self.word()?;
                match self.redactor.veil.clean(word) {
                    Cow::Borrowed(word) => self.out.push_str(word),
                    Cow::Owned(changed) => self.push_string(&changed),
                }
                Ok(())
            }
        }
    }

    fn object(&mut self, places: &Places, depth: usize) -> Result<(), Stop> {
        self.take(b'{')?;
        self.blanks();
        if self.byte() == b'}' {
            return self.take(b'}');
        }
        loop {
            self.blanks();
            if self.byte() != b'"' {
                return Err(Stop);
            }
            let key = self.string()?;
            let shown = self.redactor.veil.clean(&key).into_owned();
            self.push_string(&shown);
            self.blanks();
            self.take(b':')?;
            let mut inner = Places::new();
            for at in places {
                let keys = &self.tree.nodes[*at as usize].keys;
                let matching = keys.iter().filter(|(known, _)| known == "*" || known.eq_ignore_ascii_case(&key));
                inner.extend(matching.map(|(_, to)| *to));
            }
            self.value(&inner, depth + 1)?;
            self.blanks();
            if self.byte() == b'}' {
                return self.take(b'}');
            }
            self.take(b',')?;
        }
    }

    /// Arrays are walked through: a path need not say that something is a list.
    fn array(&mut self, places: &Places, depth: usize) -> Result<(), Stop> {
        self.take(b'[')?;
        self.blanks();
        if self.byte() == b']' {
            return self.take(b']');
        }
        for index in 0_u32.. {
            let mut inner = places.clone();
            for at in places {
                let elements = &self.tree.nodes[*at as usize].elements;
                let matching = elements.iter().filter(|(known, _)| known.is_none_or(|known| known == index));
                inner.extend(matching.map(|(_, to)| *to));
            }
            self.value(&inner, depth + 1)?;
            self.blanks();
            if self.byte() == b']' {
                return self.take(b']');
            }
            self.take(b',')?;
        }
        Err(Stop)
    }

    /// Leaves the value out. Its end is found, or everything that follows is left out as well.
    fn hide(&mut self, hash: bool) -> Result<(), Stop> {
        let start = self.at;
        let ended = self.skip();
        let raw = &self.text[start..self.at];
        let scalar = !matches!(raw.as_bytes().first(), Some(b'{' | b'[') | None);
        if hash && scalar && ended.is_ok() {
            let text =
                if raw.starts_with('"') { serde_json::from_str(raw).unwrap_or_default() } else { raw.to_owned() };
            let mut hashed = String::new();
            self.redactor.hash(&text, &mut hashed);
            self.push_string(&hashed);
        } else {
            self.push_string(REDACTED);
        }
        ended
    }

    /// Goes behind the value at hand, whatever it is.
    fn skip(&mut self) -> Result<(), Stop> {
        let (bytes, mut depth, mut in_text) = (self.text.as_bytes(), 0_usize, false);
        if !matches!(self.byte(), b'{' | b'[' | b'"') {
            return self.word().map(|_| ());
        }
        while self.at < bytes.len() {
            match bytes[self.at] {
                b'\\' if in_text => self.at += 1,
                b'"' => {
                    in_text = !in_text;
                    if !in_text && depth == 0 {
                        self.at += 1;
                        return Ok(());
                    }
                }
                _ if in_text => {}
                b'{' | b'[' => depth += 1,
                b'}' | b']' => {
                    depth = depth.saturating_sub(1);
                    if depth == 0 {
                        self.at += 1;
                        return Ok(());
                    }
                }
                _ => {}
            }
            self.at += 1;
        }
        self.at = bytes.len();
        Err(Stop)
    }

    /// The text at hand, escapes resolved.
    fn string(&mut self) -> Result<Cow<'a, str>, Stop> {
        let (start, bytes) = (self.at, self.text.as_bytes());
        let mut escaped = false;
        let mut at = start + 1;
        loop {
            match bytes.get(at) {
                None | Some(0..=0x1f) => return Err(Stop),
                Some(b'"') => break,
                Some(b'\\') => {
                    escaped = true;
                    at += 2;
                }
                Some(_) => at += 1,
            }
        }
        self.at = at + 1;
        let inner = &self.text[start + 1..at];
        if !escaped {
            return Ok(Cow::Borrowed(inner));
        }
        serde_json::from_str(&self.text[start..=at]).map(Cow::Owned).map_err(|_| {
            self.at = start;
            Stop
        })
    }

    /// A number, true, false or null.
    fn word(&mut self) -> Result<&'a str, Stop> {
        let text = self.text;
        let rest = &text[self.at..];
        let len =
            rest.find(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '+' | '-' | '.')).unwrap_or(rest.len());
        let word = &rest[..len];
        let is_word = matches!(word, "true" | "false" | "null")
            || (word.starts_with(|c: char| c.is_ascii_digit() || c == '-') && word.parse::<f64>().is_ok());
        if !is_word {
            return Err(Stop);
        }
        self.at += len;
        Ok(word)
    }

    fn push_string(&mut self, text: &str) {
        self.out.push_str(&serde_json::to_string(text).unwrap_or_default());
    }
}
