//! statsd_exporter's mapping file, read as it is: the keys, their defaults and what is refused are those of its
//! documentation. What is said of a mistake is ours.

use crate::config::reader::{self, MapReader};
use crate::config::schema::{MappedType, MappingObserver, MappingRule, StatsdMapping};
use crate::config::yaml::Node;
use crate::config::{Diagnostics, Spanned, yaml};
use std::sync::Arc;

/// Quantiles of a summary where the file names none.
const QUANTILES: [f64; 3] = [0.5, 0.9, 0.99];
/// Rules of one file.
const RULES: usize = 100_000;

/// What `defaults:` says.
#[derive(Clone, Default)]
struct Defaults {
    regex: bool,
    most_specific: bool,
    ttl_ms: i64,
    histogram: bool,
    bounds: Option<Arc<[f64]>>,
    quantiles: Option<Arc<[f64]>>,
}

/// What a `defaults:` or a rule says of observers.
#[derive(Default)]
struct Observer {
    histogram: Option<bool>,
    bounds: Option<Arc<[f64]>>,
    quantiles: Option<Arc<[f64]>>,
}

impl Observer {
    fn with(self, defaults: &Defaults) -> MappingObserver {
        let histogram = self.histogram.unwrap_or(defaults.histogram);
        let none: Arc<[f64]> = Arc::from([]);
        MappingObserver {
            bounds: self.bounds.or_else(|| defaults.bounds.clone()),
            quantiles: if histogram {
                none
            } else {
                self.quantiles.or_else(|| defaults.quantiles.clone()).unwrap_or_else(|| Arc::from(QUANTILES))
            },
        }
    }
}

/// Reads a mapping file; every mistake is among the findings. `None` when there is nothing to use.
pub fn statsd_mapping(file: &Arc<str>, text: &str, found: &mut Diagnostics) -> Option<StatsdMapping> {
    found.add_source(file.clone(), text.into());
    let tree = yaml::parse(file, text, found)?;
    let mut map = MapReader::new(&tree, "StatsD mapping file", found)?;
    let defaults = map.get("defaults").map(|node| defaults(node, map.found())).unwrap_or_default();
    let rules = map.each("mappings", |node, found| rule(node, &defaults, found));
    if rules.len() > RULES {
        let span = map.span().clone();
        map.found().error(&span, format!("mappings: at most {RULES} rules"));
    }
    map.finish();
    Some(StatsdMapping {
        rules,
        most_specific: defaults.most_specific,
        unmapped: Observer::default().with(&defaults),
        ttl_ms: defaults.ttl_ms,
    })
}

fn defaults(node: &Node, found: &mut Diagnostics) -> Defaults {
    let Some(mut map) = MapReader::new(node, "StatsD mapping defaults", found) else { return Defaults::default() };
    let observer = observer(&mut map);
    let regex = map.one_of("match_type", &MATCH_TYPES).is_some_and(|kind| kind.value);
    let most_specific = map.boolean("glob_disable_ordering").is_some_and(|it| it.value);
    let ttl_ms = ttl(&mut map).unwrap_or(0);
    map.finish();
    Defaults {
        regex,
        most_specific,
        ttl_ms,
        histogram: observer.histogram.unwrap_or(false),
        bounds: observer.bounds,
        quantiles: observer.quantiles,
    }
}

const MATCH_TYPES: [(&str, bool); 2] = [("glob", false), ("regex", true)];

fn rule(node: &Node, defaults: &Defaults, found: &mut Diagnostics) -> Option<MappingRule> {
    let mut map = MapReader::new(node, "StatsD mapping", found)?;
    let pattern = map.required_string("match");
    let regex = map.one_of("match_type", &MATCH_TYPES).map_or(defaults.regex, |kind| kind.value);
    let drop = map.one_of("action", &[("map", false), ("drop", true)]).is_some_and(|action| action.value);
    let types = [
        ("counter", MappedType::Counter),
        ("gauge", MappedType::Gauge),
        ("observer", MappedType::Observer),
        // Its older name.
        ("timer", MappedType::Observer),
    ];
    let only = map.one_of("match_metric_type", &types).map(|kind| kind.value);
    let name = if drop { map.string("name") } else { map.required_string("name") };
    let help = map.string("help");
    let labels = map.string_map("labels");
    let honor_labels = map.boolean("honor_labels").is_some_and(|it| it.value);
    let scale = map.float("scale");
    let ttl_ms = ttl(&mut map);
    let observer = observer(&mut map);
    let mut valid = true;
    if let Some(pattern) = &pattern {
        valid &= if regex { is_regex(pattern, map.found()) } else { is_glob(pattern, map.found()) };
    }
    if let Some(name) = &name {
        let wildcards = pattern.as_ref().filter(|_| !regex).map(|pattern| pattern.value.matches('*').count());
        valid &= template(name, "name", wildcards, map.found());
        // Templates aside, it is a name of Prometheus: `${1}_total` begins with whatever `$1` is.
        if !is_name(&name.value) {
            let message = format!("name: {:?} is not a metric's name: letters, digits, _ and $1", name.value);
            map.found().error(&name.span, message);
            valid = false;
        }
        for (label, value) in &labels {
            valid &= template(value, "labels", wildcards, map.found());
            if !is_label(&label.value) {
                let message = format!("labels: {:?} is not a label's name: letters, digits and _", label.value);
                map.found().error(&label.span, message);
                valid = false;
            }
        }
    }
    if let Some(scale) = scale.as_ref().filter(|scale| !scale.value.is_finite()) {
        map.found().error(&scale.span, "scale: it must be a finite number");
        valid = false;
    }
    map.finish();
    let (pattern, name) = (pattern?, name.map(|name| name.value).or(drop.then(String::new))?);
    let help = help.map_or_else(|| format!("StatsD metrics that match {}", pattern.value), |help| help.value);
    valid.then(|| MappingRule {
        pattern,
        regex,
        only,
        drop,
        name,
        help: help.into(),
        labels: labels.into_iter().map(|(name, value)| (name.value, value.value)).collect(),
        honor_labels,
        scale: scale.map_or(1.0, |scale| scale.value),
        ttl_ms: ttl_ms.filter(|ttl| *ttl > 0).unwrap_or(defaults.ttl_ms),
        observer: observer.with(defaults),
    })
}

/// `ttl: 1h`; Go also writes a bare 0.
fn ttl(map: &mut MapReader<'_, '_>) -> Option<i64> {
    map.duration_ms("ttl").map(|ttl| ttl.value)
}

fn observer(map: &mut MapReader<'_, '_>) -> Observer {
    const TYPES: [(&str, bool); 2] = [("histogram", true), ("summary", false)];
    let kind = map.one_of("observer_type", &TYPES);
    let older = map.one_of("timer_type", &TYPES);
    if let (Some(_), Some(older)) = (&kind, &older) {
        map.found().error(&older.span, "timer_type is the older name of observer_type: one of them is enough");
    }
    let mut bounds = bounds(map);
    let mut quantiles = quantiles(map);
    if let Some(node) = map.get("histogram_options")
        && let Some(mut inner) = MapReader::new(node, "StatsD histogram options", map.found())
    {
        let own = self::bounds(&mut inner);
        if own.is_some() && bounds.is_some() {
            let span = inner.span().clone();
            inner.found().error(&span, "buckets stand beside histogram_options and in it: one of them is enough");
        }
        bounds = own.or(bounds);
        // Ours always count native buckets, of schema 3 (a factor of 1.09).
        inner.float("native_histogram_bucket_factor");
        inner.integer("native_histogram_max_buckets", 0..=1_000_000);
        inner.finish();
    }
    if let Some(node) = map.get("summary_options")
        && let Some(mut inner) = MapReader::new(node, "StatsD summary options", map.found())
    {
        let own = self::quantiles(&mut inner);
        if own.is_some() && quantiles.is_some() {
            let span = inner.span().clone();
            inner.found().error(&span, "quantiles stand beside summary_options and in it: one of them is enough");
        }
        quantiles = own.or(quantiles);
        // Ours are of the last minute, in six parts.
        inner.duration_ms("max_age");
        inner.integer("age_buckets", 0..=1_000_000);
        inner.integer("buf_cap", 0..=1_000_000_000);
        inner.finish();
    }
    Observer { histogram: kind.or(older).map(|kind| kind.value), bounds, quantiles }
}

fn bounds(map: &mut MapReader<'_, '_>) -> Option<Arc<[f64]>> {
    let span = map.get("buckets")?.span.clone();
    let read = map.each("buckets", |node, found| reader::float(node, "buckets", found));
    let mut bounds: Vec<f64> = read.iter().map(|bound| bound.value).collect();
    // +Inf is always there.
    if bounds.last() == Some(&f64::INFINITY) {
        bounds.pop();
    }
    if bounds.iter().any(|bound| !bound.is_finite()) || bounds.windows(2).any(|pair| pair[0] >= pair[1]) {
        map.found().error(&span, "buckets: each must be a number larger than the one before");
        return None;
    }
    (!bounds.is_empty()).then(|| bounds.into())
}

fn quantiles(map: &mut MapReader<'_, '_>) -> Option<Arc<[f64]>> {
    map.get("quantiles")?;
    let read = map.each("quantiles", |node, found| {
        let mut inner = MapReader::new(node, "StatsD quantile", found)?;
        let quantile = inner.required("quantile").and_then(|node| reader::float(node, "quantile", inner.found()));
        // Ours are exact to 1 %, whatever is asked for.
        inner.float("error");
        inner.finish();
        let quantile = quantile?;
        if !(0.0..=1.0).contains(&quantile.value) {
            found.error(&quantile.span, "quantile: from 0 to 1");
            return None;
        }
        Some(quantile.value)
    });
    Some(read.into())
}

/// Parts between dots: names, or `*` alone.
fn is_glob(pattern: &Spanned<String>, found: &mut Diagnostics) -> bool {
    let part = |part: &str| {
        part == "*"
            || part.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
                && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
            || !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
    };
    let mut offset = 0;
    for text in pattern.value.split('.') {
        if !part(text) {
            let place = found.locate_offset(pattern, offset);
            let (message, hint) = if text.contains('*') {
                (
                    format!("match: {text:?}: a * stands for a whole part between dots"),
                    "use match_type: regex for less than a part",
                )
            } else if text.is_empty() {
                ("match: a part between two dots is empty".to_owned(), "a glob looks like api.*.requests")
            } else {
                (format!("match: {text:?} is no part of a StatsD name"), "use match_type: regex for other characters")
            };
            found.error_hint(&place, message, hint);
            return false;
        }
        offset += text.len() + 1;
    }
    true
}

fn is_regex(pattern: &Spanned<String>, found: &mut Diagnostics) -> bool {
    match regex::Regex::new(&pattern.value) {
        Ok(_) => true,
        Err(error) => {
            let reason = error.to_string();
            let reason = reason.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
            found.error(&pattern.span, format!("match: not a regular expression: {reason}"));
            false
        }
    }
}

/// Whether every `$1` has a wildcard; what is beyond them is empty, which nobody wants.
fn template(text: &Spanned<String>, what: &str, wildcards: Option<usize>, found: &mut Diagnostics) -> bool {
    let Some(wildcards) = wildcards else { return true };
    for (at, _) in text.value.match_indices('$') {
        let digits = text.value[at + 1..].trim_start_matches('{');
        let length = digits.bytes().take_while(u8::is_ascii_digit).count();
        let number: usize = digits[..length].parse().unwrap_or(1);
        if length > 0 && !(1..=wildcards).contains(&number) {
            let place = found.locate_offset(text, at);
            let have = match wildcards {
                0 => "match has no *".to_owned(),
                1 => "match has one *".to_owned(),
                _ => format!("match has {wildcards} *"),
            };
            found.warning(&place, format!("{what}: ${number} is always empty: {have}"));
        }
    }
    true
}

/// A metric's name in which `$1` and `${1}` (of a regex: `${name}`) may stand.
fn is_name(name: &str) -> bool {
    let first = name.starts_with(|c: char| c.is_ascii_alphabetic() || matches!(c, '_' | ':' | '$'));
    first && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b':' | b'$' | b'{' | b'}'))
}

fn is_label(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && !name.starts_with("__")
}
