//! Which fields of events are never shown: what `redact:` of the configuration says, as the field plan carries it.

use super::{Attribute, FieldPath, Segment, Slot};
use regex::Regex;
use std::borrow::Cow;

/// Stands in the place of what is not shown.
pub const REDACTED: &str = "[redacted]";

/// A path of `redact:`. `*` is any key; keys are compared without regard to case; arrays on the way are walked through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HiddenPath {
    /// The path.
    pub path: FieldPath,
    /// A keyed hash takes its place, so that it can still be counted by.
    pub hash: bool,
}

/// How a path stands to those of `redact:`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cover {
    /// It may be shown.
    Shown,
    /// Something within it is hidden: a text or a number may be shown, an object or a list not.
    Around,
    /// Its hash takes its place.
    Hashed,
    /// It is never shown.
    Hidden,
}

/// What is not shown.
#[derive(Clone, Debug, Default)]
pub struct Veil {
    paths: Vec<HiddenPath>,
    /// Attributes that are read from a hidden place, whatever their name.
    aliases: Vec<Attribute>,
    /// Whatever these match is replaced in every text that is shown.
    patterns: Vec<Regex>,
}

/// The roots of an event's payload: `data.x` is `payload.x` in another shape.
const ROOTS: [&[&str]; 3] = [&["data"], &["payload"], &["event", "data"]];

/// The keys of a path without its root; indices say nothing about what a field is.
fn keys(path: &FieldPath) -> Vec<&str> {
    let keys: Vec<&str> = path
        .segments()
        .iter()
        .filter_map(|segment| if let Segment::Key(key) = segment { Some(key.as_str()) } else { None })
        .collect();
    let root = ROOTS.iter().find(|root| keys.starts_with(root)).map_or(0, |root| root.len());
    keys[root..].to_vec()
}

fn same_key(rule: &str, key: &str) -> bool {
    rule == "*" || rule.eq_ignore_ascii_case(key)
}

impl Veil {
    /// From checked parts. `aliases` are attributes that some shape reads from a hidden path.
    pub fn new(paths: Vec<HiddenPath>, aliases: Vec<Attribute>, patterns: Vec<Regex>) -> Self {
        Self { paths, aliases, patterns }
    }

    /// Whether everything is shown.
    pub fn is_empty(&self) -> bool {
        self.paths.is_empty() && self.patterns.is_empty()
    }

    /// Whether some path is hidden: then what cannot be read as a document is not shown at all.
    pub fn has_paths(&self) -> bool {
        !self.paths.is_empty()
    }

    /// The paths.
    pub fn paths(&self) -> &[HiddenPath] {
        &self.paths
    }

    /// How a path stands to the hidden ones.
    pub fn cover(&self, path: &FieldPath) -> Cover {
        if let Some(attribute) = path.attribute() {
            return self.cover_of(attribute);
        }
        let asked = keys(path);
        let one = |hidden: &HiddenPath| {
            if hidden.path.attribute().is_some() {
                return Cover::Shown;
            }
            let rule = keys(&hidden.path);
            let common = rule.iter().zip(&asked).all(|(rule, key)| same_key(rule, key));
            match common {
                false => Cover::Shown,
                true if rule.len() > asked.len() => Cover::Around,
                true if hidden.hash => Cover::Hashed,
                true => Cover::Hidden,
            }
        };
        self.paths.iter().map(one).max().unwrap_or(Cover::Shown)
    }

    /// How an attribute stands to the hidden paths.
    pub fn cover_of(&self, attribute: Attribute) -> Cover {
        let named = self.paths.iter().filter(|hidden| hidden.path.attribute() == Some(attribute));
        let named = named.map(|hidden| if hidden.hash { Cover::Hashed } else { Cover::Hidden }).max();
        let aliased = self.aliases.contains(&attribute).then_some(Cover::Hidden);
        named.max(aliased).unwrap_or(Cover::Shown)
    }

    /// A text with everything replaced that the patterns match.
    pub fn clean<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let mut text = Cow::Borrowed(text);
        for pattern in &self.patterns {
            if let Cow::Owned(changed) = pattern.replace_all(&text, REDACTED) {
                text = Cow::Owned(changed);
            }
        }
        text
    }

    /// An attribute's text as it may be shown. A hash already stands in its place.
    pub fn attribute<'t>(&self, attribute: Attribute, text: &'t str) -> Cow<'t, str> {
        match text {
            "" => Cow::Borrowed(""),
            _ if self.cover_of(attribute) == Cover::Hidden => Cow::Borrowed(REDACTED),
            _ => self.clean(text),
        }
    }

    /// Whether an attribute's text may be shown as it is: for ids that mean nothing when a part of them is replaced.
    pub fn shows(&self, attribute: Attribute, text: &str) -> bool {
        self.is_empty() || self.attribute(attribute, text) == text
    }
}

/// How the slots of a plan are covered.
pub(super) fn slots(veil: &Veil, paths: &[FieldPath]) -> Vec<Cover> {
    if veil.has_paths() { paths.iter().map(|path| veil.cover(path)).collect() } else { Vec::new() }
}

/// The cover of a slot in what [`slots`] gave.
pub(super) fn cover_at(covers: &[Cover], slot: Slot) -> Cover {
    covers.get(usize::from(slot.0)).copied().unwrap_or(Cover::Shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn veil(paths: &[&str]) -> Veil {
        let hidden = |text: &&str| {
            let (hash, text) = text.strip_prefix('#').map_or((false, *text), |text| (true, text));
            HiddenPath { path: FieldPath::parse(text).unwrap(), hash }
        };
        Veil::new(paths.iter().map(hidden).collect(), vec![Attribute::Outcome], Vec::new())
    }

    #[test]
    fn a_hidden_path_is_found_under_every_name() {
        let veil = veil(&["data.card", "data.*.email", "#data.user.id", "#subject", "headers.authorization"]);
        for (path, expected) in [
            ("data.card", Cover::Hidden),
            ("payload.card.number", Cover::Hidden),
            ("event.data.Card", Cover::Hidden),
            ("card", Cover::Hidden),
            ("data.cards", Cover::Around),
            ("data.cards.n", Cover::Shown),
            ("data.buyer.email", Cover::Hidden),
            ("data.items[].email", Cover::Hidden),
            ("data.email", Cover::Around),
            ("data.user.id", Cover::Hashed),
            ("data.user", Cover::Around),
            ("data.user.name", Cover::Shown),
            ("data", Cover::Around),
            ("subject", Cover::Hashed),
            ("outcome", Cover::Hidden),
            ("correlation", Cover::Shown),
            ("headers.Authorization", Cover::Hidden),
        ] {
            assert_eq!(veil.cover(&FieldPath::parse(path).unwrap()), expected, "{path}");
        }
        assert!(veil.shows(Attribute::TraceId, "4bf9") && !veil.shows(Attribute::Outcome, "4bf9"));
        let pattern = Veil::new(Vec::new(), Vec::new(), vec![Regex::new("f9").unwrap()]);
        assert!(!pattern.shows(Attribute::TraceId, "4bf9") && pattern.shows(Attribute::TraceId, "4bf8"));
    }
}
