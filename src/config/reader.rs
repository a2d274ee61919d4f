//! Reading a tree into types, collecting every error.
//!
//! [`MapReader`] reads a mapping key by key; [`string`], [`boolean`], [`duration_ms`] and the others read one node. Each
//! returns what could be read (`None` after an error, which is then among the findings) so that the reader goes on and
//! the user sees all mistakes at once. [`MapReader::finish`] reports the keys that nobody asked for.
//!
//! ```
//! use sidewatch::config::{Diagnostics, reader::{self, MapReader}, yaml};
//!
//! let mut found = Diagnostics::new();
//! let tree = yaml::parse("rules.yaml", "name: a\ninterval: 30s\nrulez: []\n", &mut found).unwrap();
//! let mut group = MapReader::new(&tree, "group", &mut found).unwrap();
//! let name = group.required("name").and_then(|node| reader::string(node, "name", group.found()));
//! let interval = group.duration_ms("interval");
//! let rules: Vec<_> = group.each("rules", |node, found| reader::string(node, "rule", found));
//! group.finish();
//! assert_eq!((name.unwrap().value.as_str(), interval.unwrap().value), ("a", 30_000));
//! assert!(found.to_string().contains("rulez"));
//! # assert!(rules.is_empty());
//! ```

use super::diagnostic::nearest;
use super::schema::SecretSource;
use super::yaml::{Kind, Node};
use super::{Diagnostics, Span, Spanned};
use crate::model::{FieldPath, parse_duration_ms};
use crate::secret::Secret;
use std::ops::RangeInclusive;

/// Reads one mapping. `'n` is the tree, `'f` the findings.
pub struct MapReader<'n, 'f> {
    what: &'static str,
    span: Span,
    entries: &'n [(Node, Node)],
    asked: Vec<&'static str>,
    refused: Vec<&'static str>,
    found: &'f mut Diagnostics,
}

impl<'n, 'f> MapReader<'n, 'f> {
    /// Begins to read a mapping that messages call `what` ("rule group", "service"). Nothing (`key:` without a value)
    /// reads as an empty mapping; anything else is an error and gives `None`.
    pub fn new(node: &'n Node, what: &'static str, found: &'f mut Diagnostics) -> Option<Self> {
        let entries = match &node.kind {
            Kind::Map(entries) => entries.as_slice(),
            _ if node.is_null() => &[],
            _ => {
                found.error(&node.span, format!("{what}: expected a mapping, found {}", node.describe()));
                return None;
            }
        };
        Some(Self { what, span: node.span.clone(), entries, asked: Vec::new(), refused: Vec::new(), found })
    }

    /// What messages call the mapping.
    pub fn what(&self) -> &'static str {
        self.what
    }

    /// Where the mapping begins.
    pub fn span(&self) -> &Span {
        &self.span
    }

    /// The findings, for what is read between two keys.
    pub fn found(&mut self) -> &mut Diagnostics {
        self.found
    }

    /// The value under a key, also when it is null. The key counts as known from here on.
    pub fn raw(&mut self, key: &'static str) -> Option<&'n Node> {
        self.entry(key).map(|(_, value)| value)
    }

    /// A key with its value, also when that is null.
    pub fn entry(&mut self, key: &'static str) -> Option<&'n (Node, Node)> {
        if !self.asked.contains(&key) {
            self.asked.push(key);
        }
        self.entries.iter().find(|(name, _)| name.as_str() == Some(key))
    }

    /// The value under a key; a null is the same as no key.
    pub fn get(&mut self, key: &'static str) -> Option<&'n Node> {
        self.raw(key).filter(|node| !node.is_null())
    }

    /// The value under a key; that it is missing or null is an error.
    pub fn required(&mut self, key: &'static str) -> Option<&'n Node> {
        match self.entry(key) {
            Some((_, value)) if !value.is_null() => Some(value),
            Some((name, _)) => {
                self.found.error(&name.span, format!("{}: {key:?} has no value", self.what));
                None
            }
            None => {
                self.found.error(&self.span, format!("{}: the key {key:?} is missing", self.what));
                None
            }
        }
    }

    /// A text; see [`string`].
    pub fn string(&mut self, key: &'static str) -> Option<Spanned<String>> {
        let node = self.get(key)?;
        string(node, key, self.found)
    }

    /// A text that must be there.
    pub fn required_string(&mut self, key: &'static str) -> Option<Spanned<String>> {
        let node = self.required(key)?;
        string(node, key, self.found)
    }

    /// A secret that stands here or in a file; both at once is an error.
    pub fn secret(&mut self, inline: &'static str, file: &'static str) -> Option<SecretSource> {
        match (self.string(inline), self.string(file)) {
            (Some(_), Some(path)) => {
                self.found.error(&path.span, format!("at most one of {inline} and {file} may be set"));
                None
            }
            (Some(text), None) => Some(SecretSource::Inline(Spanned::new(Secret::new(text.value), text.span))),
            (None, path) => path.map(SecretSource::File),
        }
    }

    /// `true` or `false`.
    pub fn boolean(&mut self, key: &'static str) -> Option<Spanned<bool>> {
        let node = self.get(key)?;
        boolean(node, key, self.found)
    }

    /// A whole number within bounds.
    pub fn integer(&mut self, key: &'static str, bounds: RangeInclusive<i64>) -> Option<Spanned<i64>> {
        let node = self.get(key)?;
        integer(node, key, bounds, self.found)
    }

    /// A number.
    pub fn float(&mut self, key: &'static str) -> Option<Spanned<f64>> {
        let node = self.get(key)?;
        float(node, key, self.found)
    }

    /// A duration (`30s`, `1m30s`) in milliseconds.
    pub fn duration_ms(&mut self, key: &'static str) -> Option<Spanned<i64>> {
        let node = self.get(key)?;
        duration_ms(node, key, self.found)
    }

    /// A duration that must be there.
    pub fn required_duration_ms(&mut self, key: &'static str) -> Option<Spanned<i64>> {
        let node = self.required(key)?;
        duration_ms(node, key, self.found)
    }

    /// A number of bytes (`64MiB`).
    pub fn bytes(&mut self, key: &'static str) -> Option<Spanned<u64>> {
        let node = self.get(key)?;
        bytes(node, key, self.found)
    }

    /// A field path (`data.items[0].sku`).
    pub fn path(&mut self, key: &'static str) -> Option<Spanned<FieldPath>> {
        let node = self.get(key)?;
        path(node, key, self.found)
    }

    /// One of a few words.
    pub fn one_of<T: Copy>(&mut self, key: &'static str, words: &[(&'static str, T)]) -> Option<Spanned<T>> {
        let node = self.get(key)?;
        one_of(node, key, words, self.found)
    }

    /// One text or a list of texts.
    pub fn strings(&mut self, key: &'static str) -> Vec<Spanned<String>> {
        self.each_or_one(key, |node, found| string(node, key, found))
    }

    /// A mapping of the user's own names to texts, in order.
    pub fn string_map(&mut self, key: &'static str) -> Vec<(Spanned<String>, Spanned<String>)> {
        self.named(key, |_, value, found| string_or_empty(value, key, found))
    }

    /// `headers:` of a request.
    pub fn headers(&mut self) -> Vec<(Spanned<String>, Spanned<String>)> {
        let headers = self.string_map("headers");
        for (name, value) in &headers {
            if let Some(message) = header_fault(&name.value, Some(&value.value)) {
                self.found.error(&name.span, message);
            }
        }
        headers
    }

    /// Reads each element of a list; a key that is absent or null is an empty list, anything but a list an error.
    pub fn each<T>(
        &mut self,
        key: &'static str,
        mut read: impl FnMut(&'n Node, &mut Diagnostics) -> Option<T>,
    ) -> Vec<T> {
        let Some(node) = self.get(key) else { return Vec::new() };
        match &node.kind {
            Kind::Seq(items) => items.iter().filter_map(|item| read(item, self.found)).collect(),
            _ => {
                self.found.error(&node.span, format!("{key}: expected a list, found {}", node.describe()));
                Vec::new()
            }
        }
    }

    /// As [`Self::each`], where a single value stands for a list of one.
    pub fn each_or_one<T>(
        &mut self,
        key: &'static str,
        mut read: impl FnMut(&'n Node, &mut Diagnostics) -> Option<T>,
    ) -> Vec<T> {
        let Some(node) = self.get(key) else { return Vec::new() };
        one_or_list(node).iter().filter_map(|item| read(item, self.found)).collect()
    }

    /// Reads each entry of a mapping whose keys are the user's names, in order. The value may be null.
    pub fn named<T>(
        &mut self,
        key: &'static str,
        mut read: impl FnMut(&Spanned<String>, &'n Node, &mut Diagnostics) -> Option<T>,
    ) -> Vec<(Spanned<String>, T)> {
        let Some(node) = self.get(key) else { return Vec::new() };
        let Kind::Map(entries) = &node.kind else {
            self.found.error(&node.span, format!("{key}: expected a mapping, found {}", node.describe()));
            return Vec::new();
        };
        let mut out = Vec::with_capacity(entries.len());
        for (name, value) in entries {
            let name = Spanned::new(name.as_str().unwrap_or_default().to_owned(), name.span.clone());
            if let Some(value) = read(&name, value, self.found) {
                out.push((name, value));
            }
        }
        out
    }

    /// Which one of some keys stands here. None or several is an error that says which, and gives `None`; all of them
    /// count as known.
    pub fn exactly_one(&mut self, keys: &[&'static str]) -> Option<(&'static str, &'n Node)> {
        let mut given: Vec<(&'static str, &'n (Node, Node))> = Vec::new();
        for key in keys {
            given.extend(self.entry(key).map(|entry| (*key, entry)));
        }
        match given.as_slice() {
            [(key, (_, value))] => Some((*key, value)),
            [] => {
                let message = format!("{}: exactly one of {} is needed, found none", self.what, list(keys, "or"));
                self.found.error(&self.span, message);
                None
            }
            [_, (_, (second, _)), ..] => {
                let names: Vec<&str> = given.iter().map(|(key, _)| *key).collect();
                let message = format!(
                    "{}: exactly one of {} is needed, found {}",
                    self.what,
                    list(keys, "or"),
                    list(&names, "and")
                );
                self.found.error(&second.span, message);
                None
            }
        }
    }

    /// Keys that are known, whatever stands under them: where an error that was said already makes them meaningless.
    pub fn know(&mut self, keys: &[&'static str]) {
        self.asked.extend(keys);
    }

    /// A key that users may expect but that does not belong here; standing here it is an error with this message.
    pub fn refuse(&mut self, key: &'static str, message: &str) {
        self.refused.push(key);
        if let Some((name, _)) = self.entries.iter().find(|(name, _)| name.as_str() == Some(key)) {
            self.found.error(&name.span, message);
        }
    }

    /// The keys that stand in this mapping and were not asked for so far.
    pub fn unknown(&self) -> impl Iterator<Item = &'n (Node, Node)> + use<'_, 'n, 'f> {
        let known = |key: &str| self.asked.contains(&key) || self.refused.contains(&key);
        self.entries.iter().filter(move |(name, _)| name.as_str().is_none_or(|key| !known(key)))
    }

    /// Ends the mapping: each key that nobody asked for is an error with the nearest valid name.
    pub fn finish(self) {
        #[cfg(test)]
        record::keys(self.what, &self.asked, self.entries.iter().filter_map(|(name, _)| name.as_str()));
        for (name, _) in self.unknown().collect::<Vec<_>>() {
            let text = name.as_str().unwrap_or_default();
            let message = format!("{}: unknown key {text:?}", self.what);
            match nearest(text, self.asked.iter().copied()) {
                Some(near) => self.found.error_hint(&name.span, message, format!("did you mean {near:?}?")),
                None if self.asked.is_empty() => self.found.error_hint(&name.span, message, "it takes no keys"),
                None => self.found.error_hint(&name.span, message, format!("it takes {}", list(&self.asked, "and"))),
            }
        }
    }
}

/// The elements of a list, or the node itself.
pub fn one_or_list(node: &Node) -> &[Node] {
    if let Kind::Seq(items) = &node.kind { items } else { std::slice::from_ref(node) }
}

/// A text. Numbers and booleans serve as the text they are written as, as Prometheus reads label values; a null does not.
pub fn string(node: &Node, what: &str, found: &mut Diagnostics) -> Option<Spanned<String>> {
    match node.as_str() {
        Some(text) => Some(Spanned::new(text.to_owned(), node.span.clone())),
        None => wrong(node, what, "a text", found),
    }
}

/// As [`string`], where nothing is the empty text.
pub fn string_or_empty(node: &Node, what: &str, found: &mut Diagnostics) -> Option<Spanned<String>> {
    if node.is_null() { Some(Spanned::new(String::new(), node.span.clone())) } else { string(node, what, found) }
}

/// `true` or `false` (YAML 1.2; not `yes` or `on`).
pub fn boolean(node: &Node, what: &str, found: &mut Diagnostics) -> Option<Spanned<bool>> {
    let value = match node.as_str() {
        Some("true" | "True" | "TRUE") => true,
        Some("false" | "False" | "FALSE") => false,
        _ => return wrong(node, what, "true or false", found),
    };
    Some(Spanned::new(value, node.span.clone()))
}

/// A whole number (decimal, `0x`, `0o`, `_` between digits not allowed) within bounds.
pub fn integer(node: &Node, what: &str, bounds: RangeInclusive<i64>, found: &mut Diagnostics) -> Option<Spanned<i64>> {
    let Some(value) = node.as_str().and_then(parse_integer) else {
        return wrong(node, what, "a whole number", found);
    };
    if !bounds.contains(&value) {
        let (low, high) = (bounds.start(), bounds.end());
        let expected = if *high == i64::MAX { format!("at least {low}") } else { format!("from {low} to {high}") };
        found.error(&node.span, format!("{what}: expected a number {expected}, found {value}"));
        return None;
    }
    Some(Spanned::new(value, node.span.clone()))
}

/// A number, `.inf` and `.nan` included.
pub fn float(node: &Node, what: &str, found: &mut Diagnostics) -> Option<Spanned<f64>> {
    match node.as_str().and_then(parse_float) {
        Some(value) => Some(Spanned::new(value, node.span.clone())),
        None => wrong(node, what, "a number", found),
    }
}

/// A duration as Prometheus writes it, in milliseconds.
pub fn duration_ms(node: &Node, what: &str, found: &mut Diagnostics) -> Option<Spanned<i64>> {
    let Some(text) = node.as_str() else {
        return wrong(node, what, "a duration such as 30s", found);
    };
    match parse_duration_ms(text) {
        Ok(value) => Some(Spanned::new(value, node.span.clone())),
        Err(_) if parse_float(text).is_some() => {
            found.error_hint(
                &node.span,
                format!("{what}: a duration needs a unit"),
                format!("write {text}s or {text}ms"),
            );
            None
        }
        Err(message) => {
            found.error(&node.span, format!("{what}: {message}"));
            None
        }
    }
}

/// A number of bytes: a whole number, alone or with B, kB, MB, GB (powers of 1000), KiB, MiB, GiB (powers of 1024).
pub fn bytes(node: &Node, what: &str, found: &mut Diagnostics) -> Option<Spanned<u64>> {
    const UNITS: [(&str, u64); 9] = [
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
        ("kB", 1_000),
        ("KB", 1_000),
        ("MB", 1_000_000),
        ("GB", 1_000_000_000),
        ("B", 1),
        ("", 1),
    ];
    let parsed = node.as_str().and_then(|text| {
        let (unit, size) = UNITS.iter().find(|(unit, _)| text.ends_with(unit))?;
        text[..text.len() - unit.len()].trim_end().parse::<u64>().ok()?.checked_mul(*size)
    });
    match parsed {
        Some(value) => Some(Spanned::new(value, node.span.clone())),
        None => wrong(node, what, "a number of bytes such as 64MiB", found),
    }
}

/// A field path.
pub fn path(node: &Node, what: &str, found: &mut Diagnostics) -> Option<Spanned<FieldPath>> {
    let text = string(node, what, found)?;
    path_of(&text, what, found)
}

/// A field path from a text that was read before.
pub fn path_of(text: &Spanned<String>, what: &str, found: &mut Diagnostics) -> Option<Spanned<FieldPath>> {
    match FieldPath::parse(&text.value) {
        Ok(path) => Some(Spanned::new(path, text.span.clone())),
        Err(error) => {
            let span = found.locate_offset(text, error.at);
            found.error_hint(
                &span,
                format!("{what}: {:?} is not a field path: {}", text.value, error.message),
                "a path looks like data.items[0].sku or subject",
            );
            None
        }
    }
}

/// One of a few words.
pub fn one_of<T: Copy>(
    node: &Node,
    what: &str,
    words: &[(&'static str, T)],
    found: &mut Diagnostics,
) -> Option<Spanned<T>> {
    let names: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
    let Some(text) = node.as_str() else {
        return wrong(node, what, &list(&names, "or"), found);
    };
    if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
        return Some(Spanned::new(*value, node.span.clone()));
    }
    let message = format!("{what}: {text:?} is not one of {}", list(&names, "or"));
    match nearest(text, names.iter().copied()) {
        Some(near) => found.error_hint(&node.span, message, format!("did you mean {near:?}?")),
        None => found.error(&node.span, message),
    }
    None
}

/// Says that a node is not what was expected.
pub fn wrong<T>(node: &Node, what: &str, expected: &str, found: &mut Diagnostics) -> Option<T> {
    let message = match node.as_str() {
        Some(text) => {
            let short: String = text.chars().take(60).collect();
            format!("{what}: expected {expected}, found {short:?}")
        }
        None => format!("{what}: expected {expected}, found {}", node.describe()),
    };
    found.error(&node.span, message);
    None
}

/// Why a header cannot be sent (RFC 9110, section 5); a value that is not known yet is taken for a good one, and none is
/// repeated in the message.
pub fn header_fault(name: &str, value: Option<&str>) -> Option<String> {
    if http::HeaderName::from_bytes(name.as_bytes()).is_err() {
        return Some(format!("headers: {name:?} is no name of a header"));
    }
    let bad = value.is_some_and(|value| http::HeaderValue::from_str(value).is_err());
    bad.then(|| format!("headers: the value of {name} holds characters that a header cannot"))
}

/// `a, b or c`.
pub fn list(words: &[&str], conjunction: &str) -> String {
    match words {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [first @ .., last] => format!("{} {conjunction} {last}", first.join(", ")),
    }
}

/// A whole number of YAML's core schema (YAML 1.2, 10.3.2).
pub fn parse_integer(text: &str) -> Option<i64> {
    if let Some(hex) = text.strip_prefix("0x") {
        return i64::from_str_radix(hex, 16).ok();
    }
    if let Some(octal) = text.strip_prefix("0o") {
        return i64::from_str_radix(octal, 8).ok();
    }
    text.parse().ok()
}

/// A number of YAML's core schema (YAML 1.2, 10.3.2).
pub fn parse_float(text: &str) -> Option<f64> {
    let unsigned = text.trim_start_matches(['+', '-']);
    match unsigned {
        ".inf" | ".Inf" | ".INF" => Some(if text.starts_with('-') { f64::NEG_INFINITY } else { f64::INFINITY }),
        ".nan" | ".NaN" | ".NAN" => Some(f64::NAN),
        _ if unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.') => {
            text.parse().ok().or_else(|| parse_integer(text).map(|whole| whole as f64))
        }
        _ => None,
    }
}

/// Which keys readers asked for, so that a test can hold them against the JSON Schema.
#[cfg(test)]
pub(super) mod record {
    use std::cell::RefCell;
    use std::collections::{BTreeMap, BTreeSet};

    type Known = BTreeMap<&'static str, BTreeSet<&'static str>>;

    type Given = BTreeMap<&'static str, BTreeSet<String>>;

    thread_local! {
        static KNOWN: RefCell<Known> = const { RefCell::new(BTreeMap::new()) };
        static GIVEN: RefCell<Given> = const { RefCell::new(BTreeMap::new()) };
    }

    pub fn keys<'n>(what: &'static str, asked: &[&'static str], given: impl Iterator<Item = &'n str>) {
        KNOWN.with_borrow_mut(|known| known.entry(what).or_default().extend(asked));
        GIVEN.with_borrow_mut(|known| known.entry(what).or_default().extend(given.map(str::to_owned)));
    }

    /// What stood in the mappings that were read in this thread since the last call.
    pub fn given() -> Given {
        GIVEN.take()
    }

    /// What was asked for in this thread since the last call.
    pub fn take() -> Known {
        KNOWN.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::yaml;

    /// Everything found while reading `text` with `read`.
    fn check(text: &str, read: impl FnOnce(&mut MapReader<'_, '_>)) -> String {
        let mut found = Diagnostics::new();
        let tree = yaml::parse("t", text, &mut found).unwrap();
        if let Some(mut map) = MapReader::new(&tree, "thing", &mut found) {
            read(&mut map);
            map.finish();
        }
        found.iter().map(|f| format!("{:?} {} {}\n", f.span, f.message, f.hint.as_deref().unwrap_or("-"))).collect()
    }

    #[test]
    fn values_of_every_type_are_read() {
        let text = "s: 5\nb: true\ni: 0x10\nf: 1e3\nd: 1m30s\nz: 64MiB\np: data.a[0]\nw: up\none: x\nmany: [x, y]\nm: {k: v, e: }\nn: ~\n";
        let found = check(text, |map| {
            assert_eq!(map.string("s").unwrap().value, "5");
            assert!(map.boolean("b").unwrap().value);
            assert_eq!(map.integer("i", 0..=20).unwrap().value, 16);
            assert_eq!(map.float("f").unwrap().value, 1000.0);
            assert_eq!(map.duration_ms("d").unwrap().value, 90_000);
            assert_eq!(map.bytes("z").unwrap().value, 64 << 20);
            assert_eq!(map.path("p").unwrap().value.to_string(), "data.a[0]");
            assert_eq!(map.one_of("w", &[("down", 0), ("up", 1)]).unwrap().value, 1);
            assert_eq!(map.strings("one").len() + map.strings("many").len(), 3);
            assert_eq!(map.string_map("m")[1].1.value, "");
            assert!(map.get("n").is_none() && map.raw("n").is_some());
        });
        assert_eq!(found, "");
    }

    #[test]
    fn every_mistake_is_said() {
        let text = "s: [1]\nb: yes\ni: 99\nf: x\nd: 30\nz: 5 apples\np: data..a\nw: upp\nmany: {}\nextra: 1\n";
        let found = check(text, |map| {
            map.string("s");
            map.boolean("b");
            map.integer("i", 0..=20);
            map.float("f");
            map.duration_ms("d");
            map.bytes("z");
            map.path("p");
            map.one_of("w", &[("down", 0), ("up", 1)]);
            map.each("many", |_, _| Some(()));
            map.required("extras");
        });
        assert_eq!(
            found,
            "t:1:4 s: expected a text, found a list -
t:2:4 b: expected true or false, found \"yes\" -
t:3:4 i: expected a number from 0 to 20, found 99 -
t:4:4 f: expected a number, found \"x\" -
t:5:4 d: a duration needs a unit write 30s or 30ms
t:6:4 z: expected a number of bytes such as 64MiB, found \"5 apples\" -
t:7:9 p: \"data..a\" is not a field path: a name is missing a path looks like data.items[0].sku or subject
t:8:4 w: \"upp\" is not one of down or up did you mean \"up\"?
t:9:7 many: expected a list, found a mapping -
t:1:1 thing: the key \"extras\" is missing -
t:10:1 thing: unknown key \"extra\" did you mean \"extras\"?
"
        );
    }

    #[test]
    fn exactly_one_names_what_stands_there() {
        let read = |map: &mut MapReader<'_, '_>| {
            map.exactly_one(&["metric", "event", "expr"]);
        };
        assert_eq!(check("expr: x\n", read), "");
        assert_eq!(check("{}\n", read), "t:1:1 thing: exactly one of metric, event or expr is needed, found none -\n");
        assert_eq!(
            check("metric: x\nexpr: y\n", read),
            "t:2:1 thing: exactly one of metric, event or expr is needed, found metric and expr -\n"
        );
        assert_eq!(
            check("exprs: x\n", read),
            "t:1:1 thing: exactly one of metric, event or expr is needed, found none -
t:1:1 thing: unknown key \"exprs\" did you mean \"expr\"?
"
        );
    }
}
