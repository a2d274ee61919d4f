//! statsd_exporter's mapping rules, compiled: globs into a trie over the parts of the name, regexes behind it.
//!
//! Globs go first, whatever their place in the file, then regexes in their order. Among globs the first in the file wins,
//! or, with `glob_disable_ordering`, the most specific one from left to right. The trie is walked once for each new name
//! and never again; a branch whose rules all come later than one already found is not looked at.

use super::line::Kind;
use crate::config::schema::{MappedType, MappingRule, StatsdMapping};
use hashbrown::HashMap;
use regex::Regex;
use std::sync::Arc;

/// A rule with what its wildcards took.
#[derive(Debug)]
pub struct Mapped<'a> {
    /// The rule.
    pub rule: &'a MappingRule,
    /// Its name, `$1` replaced, not escaped.
    pub name: String,
    /// Its labels, `$1` replaced.
    pub labels: Vec<(String, String)>,
}

/// A mapping file, ready to be asked.
#[derive(Debug)]
pub struct Mapping {
    file: Arc<StatsdMapping>,
    /// One trie for each type of metric.
    tries: [Trie; 3],
    regexes: Vec<(usize, Regex)>,
}

/// No rule.
const NONE: u32 = u32::MAX;

#[derive(Debug)]
struct Node {
    parts: HashMap<Box<str>, u32, ahash::RandomState>,
    star: u32,
    rule: u32,
    /// The earliest rule at or below.
    earliest: u32,
}

impl Default for Node {
    fn default() -> Self {
        Self { parts: HashMap::with_hasher(super::lines::hasher()), star: NONE, rule: NONE, earliest: NONE }
    }
}

#[derive(Debug)]
struct Trie {
    nodes: Vec<Node>,
}

/// Wildcards of one glob, by what they took.
type Taken<'n> = smallvec::SmallVec<[&'n str; 8]>;

struct Walk<'t, 'n> {
    trie: &'t Trie,
    most_specific: bool,
    taken: Taken<'n>,
    best: u32,
    best_taken: Taken<'n>,
}

impl Trie {
    fn insert(&mut self, glob: &str, rule: u32) {
        let mut at = 0;
        self.nodes[0].earliest = self.nodes[0].earliest.min(rule);
        for part in glob.split('.') {
            let known = if part == "*" {
                Some(self.nodes[at].star).filter(|node| *node != NONE)
            } else {
                self.nodes[at].parts.get(part).copied()
            };
            let next = known.unwrap_or_else(|| {
                self.nodes.push(Node::default());
                (self.nodes.len() - 1) as u32
            });
            if part == "*" {
                self.nodes[at].star = next;
            } else if known.is_none() {
                self.nodes[at].parts.insert(part.into(), next);
            }
            at = next as usize;
            self.nodes[at].earliest = self.nodes[at].earliest.min(rule);
        }
        // Of two rules for the same glob the first holds.
        self.nodes[at].rule = self.nodes[at].rule.min(rule);
    }

    fn find<'n>(&self, name: &'n str, most_specific: bool) -> Option<(u32, Taken<'n>)> {
        let mut walk = Walk { trie: self, most_specific, taken: Taken::new(), best: NONE, best_taken: Taken::new() };
        walk.step(0, Some(name));
        (walk.best != NONE).then_some((walk.best, walk.best_taken))
    }
}

impl<'n> Walk<'_, 'n> {
    fn done(&self) -> bool {
        self.most_specific && self.best != NONE
    }

    fn step(&mut self, at: u32, rest: Option<&'n str>) {
        let node = &self.trie.nodes[at as usize];
        if self.done() || node.earliest >= self.best {
            return;
        }
        let Some(rest) = rest else {
            if node.rule < self.best {
                self.best = node.rule;
                self.best_taken.clone_from(&self.taken);
            }
            return;
        };
        let (part, rest) = match rest.split_once('.') {
            Some((part, rest)) => (part, Some(rest)),
            None => (rest, None),
        };
        if let Some(next) = node.parts.get(part) {
            self.step(*next, rest);
        }
        if node.star != NONE {
            self.taken.push(part);
            self.step(node.star, rest);
            self.taken.pop();
        }
    }
}

impl Mapping {
    /// Compiles a file that was checked when it was read.
    pub fn compile(file: Arc<StatsdMapping>) -> Self {
        let trie = || Trie { nodes: vec![Node::default()] };
        let mut tries = [trie(), trie(), trie()];
        let mut regexes = Vec::new();
        for (at, rule) in file.rules.iter().enumerate() {
            if rule.regex {
                // It was compiled once when it was read, where a mistake is an error with its place.
                regexes.extend(Regex::new(&rule.pattern.value).ok().map(|regex| (at, regex)));
                continue;
            }
            for (place, kind) in [MappedType::Counter, MappedType::Gauge, MappedType::Observer].into_iter().enumerate()
            {
                if rule.only.is_none_or(|only| only == kind) {
                    tries[place].insert(&rule.pattern.value, at as u32);
                }
            }
        }
        Self { file, tries, regexes }
    }

    /// The file.
    pub fn file(&self) -> &StatsdMapping {
        &self.file
    }

    /// The rule for a name; `None` when no rule matches. A set is asked as a gauge.
    pub fn find(&self, name: &str, kind: Kind) -> Option<Mapped<'_>> {
        let kind = match kind {
            Kind::Counter => MappedType::Counter,
            Kind::Gauge | Kind::Set => MappedType::Gauge,
            Kind::Timer | Kind::Histogram | Kind::Distribution => MappedType::Observer,
        };
        if let Some((at, taken)) = self.tries[kind as usize].find(name, self.file.most_specific) {
            let rule = &self.file.rules[at as usize];
            let fill = |text: &str| fill(text, &taken);
            let labels = rule.labels.iter().map(|(name, value)| (name.clone(), fill(value))).collect();
            return Some(Mapped { rule, name: fill(&rule.name), labels });
        }
        for (at, regex) in &self.regexes {
            let rule = &self.file.rules[*at];
            if rule.only.is_some_and(|only| only != kind) {
                continue;
            }
            let Some(taken) = regex.captures(name) else { continue };
            let fill = |text: &str| {
                let mut out = String::new();
                taken.expand(text, &mut out);
                out
            };
            let labels = rule.labels.iter().map(|(name, value)| (name.clone(), fill(value))).collect();
            return Some(Mapped { rule, name: fill(&rule.name), labels });
        }
        None
    }
}

/// Replaces `$1` and `${1}` by what the wildcards took; a number beyond them by nothing.
fn fill(text: &str, taken: &[&str]) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let behind = &rest[at + 1..];
        let braced = behind.starts_with('{');
        let digits = &behind[usize::from(braced)..];
        let length = digits.bytes().take_while(u8::is_ascii_digit).count();
        let closed = !braced || digits[length..].starts_with('}');
        if length == 0 || !closed {
            out.push('$');
            rest = behind;
            continue;
        }
        let number: usize = digits[..length].parse().unwrap_or(0);
        out.push_str(number.checked_sub(1).and_then(|at| taken.get(at)).unwrap_or(&""));
        rest = &digits[length + usize::from(braced)..];
    }
    out.push_str(rest);
    out
}
