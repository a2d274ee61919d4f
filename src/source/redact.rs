//! `redact:`: what of an event is never shown. The veil says which fields; this room takes them out of documents and
//! makes the hashes that stand in their place.

mod document;

use super::decode::{attribute_places, line_groups};
use crate::config::schema::{FormatConfig, RedactConfig, RedactEntry};
use crate::config::{Diagnostics, Spanned};
use crate::model::{Attribute, Cover, FieldPath, HiddenPath, REDACTED, Segment, Shape, Veil};
use crate::secret::Secret;
use document::Tree;
use ring::hmac;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::Arc;

/// Hex digits of a hash that are shown: 64 bits tell a million customers apart.
const HASH_DIGITS: usize = 16;

/// Attributes that every metric and page is about: hiding them would hide the event.
const NEVER: [Attribute; 6] = [
    Attribute::Type,
    Attribute::Source,
    Attribute::Time,
    Attribute::Priority,
    Attribute::Attempt,
    Attribute::DurationSeconds,
];

/// Takes out of events what is not to be shown.
#[derive(Clone, Debug, Default)]
pub struct Redactor {
    veil: Arc<Veil>,
    trees: Vec<(Option<Shape>, Tree)>,
    /// Sources of text lines with a hidden group: their lines are not shown at all.
    hidden_lines: BTreeSet<Arc<str>>,
    key: Option<hmac::Key>,
}

/// A source whose events are redacted.
#[derive(Clone, Copy, Debug)]
pub struct RedactedSource<'a> {
    /// Its name.
    pub name: &'a str,
    /// How its input is read.
    pub format: &'a FormatConfig,
}

/// The shapes that documents have; `None` is for what could not be recognised.
const SHAPES: [Option<Shape>; 7] = [
    None,
    Some(Shape::CloudEvents),
    Some(Shape::Router),
    Some(Shape::DomainEnvelope),
    Some(Shape::Typed),
    Some(Shape::Coordinator),
    Some(Shape::Foreign),
];

impl Redactor {
    /// Compiles `redact:`; what is wrong is among the findings.
    pub fn compile(config: &RedactConfig, sources: &[RedactedSource<'_>], found: &mut Diagnostics) -> Self {
        let (mut paths, mut patterns) = (Vec::new(), Vec::new());
        for entry in &config.fields {
            match entry {
                RedactEntry::Path { path, hash } => {
                    if let Some(name) = path.value.attribute().filter(|attribute| NEVER.contains(attribute)) {
                        let message = format!("redact: {} cannot be hidden: it says which event it is", path.value);
                        found.error_hint(&path.span, message, hint_of(name));
                    }
                    paths.push(HiddenPath { path: path.value.clone(), hash: *hash });
                }
                RedactEntry::Regex(text) => match regex::Regex::new(&text.value) {
                    Ok(regex) if regex.is_match("") => {
                        found.error(&text.span, "redact: this regex matches the empty text, so it matches everywhere");
                    }
                    Ok(regex) => patterns.push(regex),
                    Err(error) => found.error(&text.span, format!("redact: the regex does not compile: {error}")),
                },
            }
        }
        let key = hash_key(config, paths.iter().any(|hidden| hidden.hash), found);
        let plain = Veil::new(paths.clone(), Vec::new(), Vec::new());
        let mut aliases = BTreeSet::new();
        let mut hidden_lines = BTreeSet::new();
        for source in sources {
            for (attribute, path) in attribute_places(source.format) {
                if plain.cover(&path) >= Cover::Hashed {
                    aliases.insert(Attribute::ALL.iter().position(|(_, known)| *known == attribute).unwrap_or(0));
                }
            }
            let hides = |name: &str| FieldPath::parse(name).is_ok_and(|path| plain.cover(&path) >= Cover::Hashed);
            if plain.has_paths() && line_groups(source.format).iter().any(|name| hides(name)) {
                hidden_lines.insert(source.name.into());
            }
        }
        let aliases = aliases.into_iter().map(|at| Attribute::ALL[at].1).filter(|it| !NEVER.contains(it)).collect();
        let trees = SHAPES.map(|shape| (shape, tree(&paths, shape, sources))).into();
        Self { veil: Arc::new(Veil::new(paths, aliases, patterns)), trees, hidden_lines, key }
    }

    /// What is hidden.
    pub fn veil(&self) -> &Arc<Veil> {
        &self.veil
    }

    /// Whether everything is shown.
    pub fn is_empty(&self) -> bool {
        self.veil.is_empty()
    }

    /// An event's document as it may be shown, at most `limit` bytes of it.
    pub fn document(&self, source: &str, shape: Shape, raw: &str, limit: usize) -> String {
        match shape {
            _ if self.is_empty() => cut(raw, limit).to_owned(),
            Shape::Line if self.hidden_lines.contains(source) => REDACTED.to_owned(),
            Shape::Line => cut(&self.veil.clean(raw), limit).to_owned(),
            _ => self.json(Some(shape), raw, limit),
        }
    }

    /// Input that was refused, as it may be shown: of a document that breaks off or is no JSON, what stands before the
    /// fault. Lines that nobody could cut are hidden when any path is, since any field may stand in them.
    pub fn refused(&self, raw: &str, is_line: bool, limit: usize) -> String {
        match is_line {
            _ if self.is_empty() => cut(raw, limit).to_owned(),
            true if self.veil.has_paths() => REDACTED.to_owned(),
            true => cut(&self.veil.clean(raw), limit).to_owned(),
            false => self.json(None, raw, limit),
        }
    }

    /// What takes the place of a value that is hashed.
    pub fn hash(&self, value: &str, into: &mut String) {
        let Some(key) = &self.key else { return into.push_str(REDACTED) };
        let tag = hmac::sign(key, value.as_bytes());
        into.push_str("hash:");
        for byte in &tag.as_ref()[..HASH_DIGITS / 2] {
            // Writing to a String cannot fail.
            let _ = write!(into, "{byte:02x}");
        }
    }

    fn json(&self, shape: Option<Shape>, raw: &str, limit: usize) -> String {
        let tree = self.trees.iter().find(|(known, _)| *known == shape).or(self.trees.first()).map(|(_, tree)| tree);
        match tree {
            Some(tree) => document::redact(raw, tree, self, limit),
            None => REDACTED.to_owned(),
        }
    }
}

fn hint_of(attribute: Attribute) -> &'static str {
    match attribute {
        Attribute::Type | Attribute::Source => "hide the field of the payload that is secret, e.g. data.card",
        _ => "times and counts say nothing about a person; hide the field that does",
    }
}

/// At most so many bytes, cut at a character boundary.
pub(super) fn cut(text: &str, limit: usize) -> &str {
    let mut end = text.len().min(limit);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// The key of the hashes: without one, anybody could try all numbers of credit cards.
fn hash_key(config: &RedactConfig, needed: bool, found: &mut Diagnostics) -> Option<hmac::Key> {
    let secret = match &config.hash_key {
        Some(source) => match source.read_now() {
            Ok(secret) => Some(secret),
            Err(error) => {
                found.error(&config.span, format!("redact: hash_key: {error}"));
                None
            }
        },
        None if needed => {
            found.error_hint(
                &config.span,
                "redact: a hash needs a key, else anybody could find the value by trying",
                "write redact: {fields: [...], hash_key_file: /run/secrets/redact}",
            );
            None
        }
        None => None,
    };
    let long_enough = |secret: &Secret| secret.expose().len() >= 8;
    if let Some(secret) = secret.as_ref().filter(|secret| !long_enough(secret)) {
        let bytes = secret.expose().len();
        found.error(&config.span, format!("redact: the hash key has {bytes} bytes; it needs at least 8"));
    }
    secret.filter(long_enough).map(|secret| hmac::Key::new(hmac::HMAC_SHA256, secret.expose().as_bytes()))
}

/// The places of the hidden paths in documents of one shape.
fn tree(paths: &[HiddenPath], shape: Option<Shape>, sources: &[RedactedSource<'_>]) -> Tree {
    let key = |name: &str| Segment::Key(name.to_owned());
    let roots: Vec<Vec<Segment>> = match shape {
        Some(Shape::CloudEvents | Shape::Coordinator) => vec![vec![key("data")]],
        Some(Shape::Router) => vec![vec![key("payload")]],
        Some(Shape::DomainEnvelope) => vec![vec![key("event"), key("data")]],
        Some(Shape::Typed) => vec![vec![key("data")], Vec::new()],
        _ => {
            let given = sources.iter().flat_map(|source| &source.format.shape).filter(|(name, _)| name.value == "data");
            let given = given.map(|(_, path)| path.value.segments().to_vec());
            let usual = [vec![key("data")], vec![key("payload")], vec![key("event"), key("data")], Vec::new()];
            usual.into_iter().chain(given).collect()
        }
    };
    let mut tree = Tree::default();
    for HiddenPath { path, hash } in paths {
        if let Some(attribute) = path.attribute() {
            for source in sources {
                for (_, place) in attribute_places(source.format).iter().filter(|(known, _)| *known == attribute) {
                    tree.add(place.segments(), *hash);
                }
            }
        }
        tree.add(path.segments(), *hash);
        if let [Segment::Key(data), rest @ ..] = path.segments()
            && data == "data"
        {
            for root in &roots {
                let whole: Vec<Segment> = root.iter().chain(rest).cloned().collect();
                tree.add(&whole, *hash);
            }
            // What stands in base64 cannot be looked into.
            tree.add(&[key("data_base64")], false);
        }
    }
    tree
}

/// A path that names something hidden, for the checks of the configuration.
pub fn is_hidden(veil: &Veil, path: &Spanned<FieldPath>) -> bool {
    veil.cover(&path.value) == Cover::Hidden
}

#[cfg(test)]
mod tests;
