//! YAML into a tree with positions. The only file that knows the YAML crate.
//!
//! Deliberately absent: YAML 1.1 booleans (`yes`, `on`), tags (only the core schema's), several documents in a file.

use super::{Diagnostics, Span};
use granit_parser::{Event, Parser, ScalarStyle, Span as ParserSpan};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

/// Nodes of one file, aliases expanded; more is refused ("billion laughs").
const MAX_NODES: usize = 250_000;
/// Levels of nesting.
const MAX_DEPTH: usize = 64;

/// A node and where it begins.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// What it is.
    pub kind: Kind,
    /// Where it begins: the quote of a quoted scalar, the first visible character of a block scalar's text (so not its
    /// `|`). [`Diagnostics::locate`] finds a character inside.
    pub span: Span,
}

/// What a node is.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// A scalar, with whether it was written plain (so that `5` may be a number and `"5"` not).
    Scalar {
        /// The text, escapes and folding resolved.
        text: String,
        /// Written without quotes and not as a block.
        plain: bool,
    },
    /// A mapping in the order of the file; keys are unique.
    Map(Vec<(Node, Node)>),
    /// A sequence.
    Seq(Vec<Node>),
}

impl Node {
    /// The text of a scalar that is not null.
    pub fn as_str(&self) -> Option<&str> {
        match &self.kind {
            Kind::Scalar { text, .. } if !self.is_null() => Some(text),
            _ => None,
        }
    }

    /// Plain and empty, `~` or `null`.
    pub fn is_null(&self) -> bool {
        matches!(&self.kind, Kind::Scalar { text, plain: true } if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }

    /// The entries of a mapping.
    pub fn as_map(&self) -> Option<&[(Node, Node)]> {
        if let Kind::Map(entries) = &self.kind { Some(entries) } else { None }
    }

    /// The elements of a sequence.
    pub fn as_seq(&self) -> Option<&[Node]> {
        if let Kind::Seq(items) = &self.kind { Some(items) } else { None }
    }

    /// The value under a key of a mapping.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.as_map()?.iter().find(|(name, _)| name.as_str() == Some(key)).map(|(_, value)| value)
    }

    /// What it is, for messages: "a mapping", "a list", "a text", "nothing".
    pub fn describe(&self) -> &'static str {
        match &self.kind {
            Kind::Map(_) => "a mapping",
            Kind::Seq(_) => "a list",
            Kind::Scalar { .. } if self.is_null() => "nothing",
            Kind::Scalar { .. } => "a single value",
        }
    }
}

/// Reads the first document of a text. Syntax errors, duplicate keys and limits go to `found`; `None` when there is no
/// usable tree (an empty file is an empty mapping).
pub fn parse(file: &str, text: &str, found: &mut Diagnostics) -> Option<Node> {
    let file: Arc<str> = file.into();
    found.add_source(file.clone(), text.into());
    let mut builder =
        Builder { file: file.clone(), found, stack: Vec::new(), anchors: HashMap::new(), root: None, nodes: 0 };
    let mut documents = 0;
    for event in Parser::new_from_str(text) {
        match event {
            Ok((Event::DocumentStart(..), span)) => {
                documents += 1;
                if documents > 1 {
                    let span = builder.place(&span);
                    builder.found.warning(&span, "only the first document of a file is read");
                    break;
                }
            }
            Ok((event, span)) => {
                if builder.event(event, &span).is_err() {
                    return None;
                }
            }
            Err(error) => {
                let marker = error.marker();
                let span = Span { file, line: marker.line() as u32, column: marker.col() as u32 + 1 };
                builder.found.error(&span, format!("not valid YAML: {}", error.info()));
                return None;
            }
        }
    }
    let empty = Node { kind: Kind::Map(Vec::new()), span: Span { file, line: 1, column: 1 } };
    Some(match builder.root.take() {
        Some(root) if !root.is_null() => root,
        _ => empty,
    })
}

/// A collection that is still open.
struct Open {
    node: Node,
    anchor: usize,
    key: Option<Node>,
    /// The keys that stand in this mapping, with their lines.
    keys: HashMap<String, u32>,
    /// What `<<` brings in; explicit keys win wherever they stand.
    merged: Vec<(Node, Node)>,
}

struct Builder<'a> {
    file: Arc<str>,
    found: &'a mut Diagnostics,
    stack: Vec<Open>,
    anchors: HashMap<usize, Node>,
    root: Option<Node>,
    nodes: usize,
}

/// The tree cannot be built; the reason is among the findings.
struct Stop;

impl Builder<'_> {
    fn place(&self, span: &ParserSpan) -> Span {
        Span { file: self.file.clone(), line: span.start.line() as u32, column: span.start.col() as u32 + 1 }
    }

    fn event(&mut self, event: Event<'_>, at: &ParserSpan) -> Result<(), Stop> {
        let span = self.place(at);
        match event {
            Event::Scalar(text, style, anchor, _) => {
                let plain = style == ScalarStyle::Plain;
                let block = matches!(style, ScalarStyle::Literal | ScalarStyle::Folded);
                // A block without text has no place of its own: the parser points behind it.
                let key = self.stack.last().and_then(|open| open.key.as_ref());
                let span = key.filter(|_| block && text.trim().is_empty()).map_or(span, |key| key.span.clone());
                let node = Node { kind: Kind::Scalar { text: text.into_owned(), plain }, span };
                self.finish(node, anchor)
            }
            Event::SequenceStart(_, anchor, ..) => self.open(Kind::Seq(Vec::new()), span, anchor),
            Event::MappingStart(_, anchor, ..) => self.open(Kind::Map(Vec::new()), span, anchor),
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(mut open) = self.stack.pop() else { return Ok(()) };
                if let Kind::Map(entries) = &mut open.node.kind {
                    for (key, value) in open.merged {
                        let name = key.as_str().unwrap_or_default();
                        if let Entry::Vacant(vacant) = open.keys.entry(name.to_owned()) {
                            vacant.insert(key.span.line);
                            entries.push((key, value));
                        }
                    }
                }
                self.finish(open.node, open.anchor)
            }
            Event::Alias(id) => {
                let Some(mut node) = self.anchors.get(&id).cloned() else {
                    self.found.error(&span, "an alias to something that is not complete yet");
                    return Err(Stop);
                };
                self.nodes += count(&node);
                node.span = span;
                self.finish(node, 0)
            }
            _ => Ok(()),
        }
    }

    fn open(&mut self, kind: Kind, span: Span, anchor: usize) -> Result<(), Stop> {
        if self.stack.len() >= MAX_DEPTH {
            self.found.error(&span, format!("nested deeper than {MAX_DEPTH} levels"));
            return Err(Stop);
        }
        let node = Node { kind, span };
        self.stack.push(Open { node, anchor, key: None, keys: HashMap::new(), merged: Vec::new() });
        Ok(())
    }

    fn finish(&mut self, node: Node, anchor: usize) -> Result<(), Stop> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            self.found.error(&node.span, format!("more than {MAX_NODES} values in one file"));
            return Err(Stop);
        }
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        let Some(top) = self.stack.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        match &mut top.node.kind {
            Kind::Seq(items) => items.push(node),
            Kind::Map(_) => match top.key.take() {
                None => top.key = Some(node),
                Some(key) => top.add(key, node, self.found),
            },
            Kind::Scalar { .. } => {}
        }
        Ok(())
    }
}

impl Open {
    /// Adds an entry to a mapping. `<<` is kept for the end of the mapping; a duplicate is an error.
    fn add(&mut self, key: Node, value: Node, found: &mut Diagnostics) {
        let Kind::Map(entries) = &mut self.node.kind else { return };
        let Some(name) = key.as_str() else {
            found.error(&key.span, "a key must be a single value");
            return;
        };
        if name == "<<" && matches!(key.kind, Kind::Scalar { plain: true, .. }) {
            let maps = if let Kind::Seq(items) = value.kind { items } else { vec![value] };
            for map in maps {
                if let Kind::Map(merged) = map.kind {
                    self.merged.extend(merged);
                } else {
                    found.error(&map.span, "only a mapping can be merged with <<");
                }
            }
            return;
        }
        match self.keys.entry(name.to_owned()) {
            Entry::Occupied(known) => {
                let message = format!("the key {name:?} stands here a second time; first in line {}", known.get());
                found.error(&key.span, message);
            }
            Entry::Vacant(vacant) => {
                vacant.insert(key.span.line);
                entries.push((key, value));
            }
        }
    }
}

fn count(node: &Node) -> usize {
    match &node.kind {
        Kind::Scalar { .. } => 1,
        Kind::Seq(items) => 1 + items.iter().map(count).sum::<usize>(),
        Kind::Map(entries) => 1 + entries.iter().map(|(key, value)| count(key) + count(value)).sum::<usize>(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> (Option<Node>, String) {
        let mut found = Diagnostics::new();
        let node = parse("t.yaml", text, &mut found);
        (node, found.to_string())
    }

    #[test]
    fn positions_are_those_of_the_text() {
        let (node, found) = check("a: 1\nb:\n  - {c: \"x\"}\n");
        assert_eq!(found, "");
        let node = node.unwrap();
        let c = node.get("b").unwrap().as_seq().unwrap()[0].get("c").unwrap();
        assert_eq!((c.span.line, c.span.column, c.as_str()), (3, 9, Some("x")));
    }

    #[test]
    fn a_block_scalars_place_is_that_of_its_text() {
        for (text, expected, line, column) in [
            ("expr: |\n  up == 0\n  and x\n", "up == 0\nand x\n", 2, 3),
            ("expr: >-  # folded\n\n   a\n   b\n", "\na b", 3, 4),
            ("expr: |\nfor: 1m\n", "", 1, 1),
        ] {
            let (node, _) = check(text);
            let expr = node.unwrap().get("expr").unwrap().clone();
            let Kind::Scalar { text: value, plain: false } = &expr.kind else { panic!("{expr:?}") };
            assert_eq!((value.as_str(), expr.span.line, expr.span.column), (expected, line, column), "{text}");
        }
    }

    #[test]
    fn duplicates_and_syntax_errors_are_said_with_their_place() {
        assert_eq!(
            check("a: 1\na: 2\n").1,
            "t.yaml:2:1: error: the key \"a\" stands here a second time; first in line 1\n  2 | a: 2\n    | ^\n"
        );
        let (node, found) = check("a: [1\nb: 2\n");
        assert!(node.is_none());
        assert!(found.contains("t.yaml:2:"), "{found}");
    }

    #[test]
    fn merge_keys_and_laughs() {
        let (node, found) = check("x: &x {a: 1, b: 2}\ny: {<<: *x, b: 3}\n");
        assert_eq!(found, "");
        let node = node.unwrap();
        let y = node.get("y").unwrap();
        assert_eq!((y.get("a").unwrap().as_str(), y.get("b").unwrap().as_str()), (Some("1"), Some("3")));
        let (node, found) = check("x: &x {a: 1}\nz: &z {a: 2, c: 9}\ny: {b: 3, <<: [*x, *z], a: 5}\n");
        assert_eq!(found, "");
        let y = node.unwrap().get("y").unwrap().clone();
        let value = |key| y.get(key).and_then(Node::as_str);
        assert_eq!((value("a"), value("b"), value("c")), (Some("5"), Some("3"), Some("9")));
        let mut laughs = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
        for level in 1..9 {
            let previous = format!("*a{}", level - 1);
            laughs += &format!("a{level}: &a{level} [{}]\n", vec![previous; 10].join(","));
        }
        let (node, found) = check(&laughs);
        assert!(node.is_none() && found.contains("values in one file"), "{found}");
    }
}
