//! Alertmanager's own configuration format, taken literally (config/config.go, docs/configuration.md).

mod http_config;
mod not_served;
mod receivers;

use super::inhibit::InhibitRule;
use super::intervals::{self, TimeInterval};
use super::matcher::{self, MatchOp, Matcher};
use super::render::DEFAULT_DEFINITIONS;
use super::routing::{ALERTMANAGER_TIMING, GroupBy, Route, Routing, Timing};
use crate::config::diagnostic::nearest;
use crate::config::reader::{self, MapReader};
use crate::config::yaml::{self, Node};
use crate::config::{Diagnostics, Span, Spanned};
use jiff::tz::TimeZone;
use receivers::Global;
use std::path::Path;

/// Levels of nested routes.
const MAX_ROUTE_DEPTH: usize = 32;

/// Reads a file's text into the routing. Returns whether it can be used.
pub(super) fn read_into(
    routing: &mut Routing,
    file: &str,
    text: &str,
    exec_allowed: &[Spanned<String>],
    found: &mut Diagnostics,
) -> bool {
    let before = error_count(found);
    // The definitions that Alertmanager's own templates are made of are part of its format.
    if let Err(error) = routing.templates.add_built_in(DEFAULT_DEFINITIONS) {
        found.error(&Span::default(), format!("the built-in templates do not parse: {error}"));
    }
    if let Some(root) = yaml::parse(file, text, found) {
        read_root(routing, file, &root, exec_allowed, found);
    }
    error_count(found) == before
}

fn error_count(found: &Diagnostics) -> usize {
    found.iter().filter(|finding| finding.level == crate::config::Level::Error).count()
}

fn read_root(
    routing: &mut Routing,
    file: &str,
    root: &Node,
    exec_allowed: &[Spanned<String>],
    found: &mut Diagnostics,
) {
    let Some(mut map) = MapReader::new(root, "Alertmanager configuration", found) else { return };
    let mut global = match map.raw("global") {
        Some(node) => Global::read(node, map.found()),
        None => Global::default(),
    };
    global.exec_allowed = exec_allowed.to_vec();
    if let Some(timeout_ms) = global.resolve_timeout_ms {
        routing.resolve_timeout_ms = timeout_ms;
    }
    let patterns = map.strings("templates");
    for pattern in &patterns {
        add_templates(routing, file, pattern, map.found());
    }
    for key in ["time_intervals", "mute_time_intervals"] {
        for (name, list) in map.each(key, read_named_interval) {
            if routing.intervals.knows(&name.value) {
                map.found().error(&name.span, format!("the time interval {:?} stands here a second time", name.value));
            }
            routing.add_interval(name.value, list);
        }
    }
    let served = map.each("receivers", |node, found| receivers::read(node, &global, found));
    for (name, receiver) in served {
        if routing.receivers.iter().any(|known| known.name == receiver.name) {
            map.found().error(&name.span, format!("the receiver {:?} stands here a second time", name.value));
            continue;
        }
        routing.receivers.push(receiver);
    }
    routing.inhibit_rules = map.each("inhibit_rules", read_inhibit_rule);
    // Recording of what Alertmanager traces has no meaning here.
    map.get("tracing");
    if let Some(node) = map.required("route") {
        let parent =
            Parent { key: None, receiver: None, group_by: GroupBy::Names(Vec::new()), timing: ALERTMANAGER_TIMING };
        if let Some(root) = read_route(routing, node, &parent, 0, map.found()) {
            routing.root = root;
        }
    }
    map.finish();
}

/// What a route inherits.
struct Parent {
    key: Option<String>,
    receiver: Option<usize>,
    group_by: GroupBy,
    timing: Timing,
}

fn read_route(
    routing: &mut Routing,
    node: &Node,
    parent: &Parent,
    depth: usize,
    found: &mut Diagnostics,
) -> Option<usize> {
    if depth > MAX_ROUTE_DEPTH {
        found.error(&node.span, format!("routes are nested deeper than {MAX_ROUTE_DEPTH} levels"));
        return None;
    }
    let mut map = MapReader::new(node, "route", found)?;
    let is_root = depth == 0;
    let name = if is_root { map.required_string("receiver") } else { map.string("receiver") };
    let receiver = match &name {
        Some(name) => {
            let at = routing.receivers.iter().position(|receiver| *receiver.name == *name.value);
            if at.is_none() {
                routing.report_unknown_receiver(&name.value, &name.span, map.found());
            }
            at
        }
        None => parent.receiver,
    };
    let matchers = read_matchers(&mut map, "match", "match_re", "matchers");
    if is_root && !matchers.is_empty() {
        let span = map.span().clone();
        map.found().error(&span, "the root route must not have matchers: it takes every alert");
    }
    let group_by = read_group_by(&mut map).unwrap_or_else(|| parent.group_by.clone());
    let timing = read_timing(&mut map, parent.timing);
    let continues = map.boolean("continue").is_some_and(|it| it.value);
    if is_root && continues {
        let span = map.span().clone();
        map.found().error(&span, "the root route cannot continue: there is nothing after it");
    }
    let mute = read_interval_names(routing, &mut map, "mute_time_intervals");
    let active = read_interval_names(routing, &mut map, "active_time_intervals");
    if is_root && !(mute.is_empty() && active.is_empty()) {
        let span = map.span().clone();
        map.found().error(&span, "the root route must not have time intervals: put them on a route below it");
    }
    let key = match &parent.key {
        None => "{}".to_owned(),
        Some(above) => format!("{above}/{}", matcher::print(&matchers)),
    };
    let index = routing.add_route(Route {
        key: key.as_str().into(),
        id: String::new(),
        matchers,
        receiver: receiver.unwrap_or(0),
        group_by: group_by.clone(),
        timing,
        continues,
        mute_time_intervals: mute,
        active_time_intervals: active,
        children: Vec::new(),
    });
    let own = Parent { key: Some(key), receiver, group_by, timing };
    let children = map.each("routes", |child, found| read_route(routing, child, &own, depth + 1, found));
    routing.routes[index].children = children;
    map.finish();
    Some(index)
}

fn read_timing(map: &mut MapReader<'_, '_>, inherited: Timing) -> Timing {
    let mut read = |key: &'static str, inherited_ms: i64, may_be_zero: bool| {
        let Some(given) = map.duration_ms(key) else { return inherited_ms };
        if given.value == 0 && !may_be_zero {
            map.found().error(&given.span, format!("{key} must not be zero"));
        }
        given.value
    };
    Timing {
        group_wait_ms: read("group_wait", inherited.group_wait_ms, true),
        group_interval_ms: read("group_interval", inherited.group_interval_ms, false),
        repeat_interval_ms: read("repeat_interval", inherited.repeat_interval_ms, false),
        eager: false,
    }
}

fn read_group_by(map: &mut MapReader<'_, '_>) -> Option<GroupBy> {
    // An empty list is the same as none: Alertmanager inherits then.
    let names = map.strings("group_by");
    if names.is_empty() {
        return None;
    }
    let mut seen: Vec<String> = Vec::with_capacity(names.len());
    for name in &names {
        if seen.contains(&name.value) {
            map.found().error(&name.span, format!("the label {:?} stands here a second time", name.value));
        } else if name.value.is_empty() {
            map.found().error(&name.span, "a label's name cannot be empty");
        } else {
            seen.push(name.value.clone());
        }
    }
    if let Some(all) = names.iter().find(|name| name.value == "...") {
        if names.len() > 1 {
            map.found().error(&all.span, "'...' groups by all labels and stands alone");
        }
        return Some(GroupBy::All);
    }
    Some(GroupBy::Names(seen))
}

fn read_interval_names(routing: &Routing, map: &mut MapReader<'_, '_>, key: &'static str) -> Vec<String> {
    let names = map.strings(key);
    for name in &names {
        if !routing.intervals.knows(&name.value) {
            let message = format!("there is no time interval {:?}", name.value);
            match nearest(&name.value, routing.intervals.names()) {
                Some(near) => map.found().error_hint(&name.span, message, format!("did you mean {near:?}?")),
                None => map.found().error_hint(&name.span, message, "define it under time_intervals"),
            }
        }
    }
    names.into_iter().map(|name| name.value).collect()
}

/// The three ways to write matchers: `match` and `match_re` mappings, and `matchers`, a list of texts.
fn read_matchers(
    map: &mut MapReader<'_, '_>,
    equal: &'static str,
    regex: &'static str,
    list: &'static str,
) -> Vec<Matcher> {
    let mut matchers = Vec::new();
    for (key, op) in [(equal, MatchOp::Equal), (regex, MatchOp::Matches)] {
        for (name, value) in map.string_map(key) {
            // The old form's expressions are kept with their anchors, and so stand in Alertmanager's group keys.
            let text = match op {
                MatchOp::Matches => format!("^(?:{})$", value.value),
                _ => value.value,
            };
            match Matcher::new(name.value, op, text) {
                Ok(matcher) => matchers.push(matcher),
                Err(reason) => map.found().error(&value.span, reason),
            }
        }
    }
    for text in map.strings(list) {
        match matcher::parse(&text.value) {
            Ok(parsed) => matchers.extend(parsed),
            Err(reason) => {
                map.found().error_hint(&text.span, reason, "a matcher is like severity=\"page\" or team=~\"a|b\"");
            }
        }
    }
    matcher::sort(&mut matchers);
    matchers
}

fn read_inhibit_rule(node: &Node, found: &mut Diagnostics) -> Option<InhibitRule> {
    let mut map = MapReader::new(node, "inhibit rule", found)?;
    // Newer releases name rules; the name only appears in their metrics.
    map.string("name");
    let source = read_matchers(&mut map, "source_match", "source_match_re", "source_matchers");
    let target = read_matchers(&mut map, "target_match", "target_match_re", "target_matchers");
    let equal = map.strings("equal").into_iter().map(|name| name.value).collect();
    map.finish();
    Some(InhibitRule { source, target, equal })
}

fn read_named_interval(node: &Node, found: &mut Diagnostics) -> Option<(Spanned<String>, Vec<TimeInterval>)> {
    let mut map = MapReader::new(node, "time interval", found)?;
    let name = map.required_string("name");
    let list = map.each("time_intervals", read_interval);
    map.finish();
    Some((name?, list))
}

fn read_interval(node: &Node, found: &mut Diagnostics) -> Option<TimeInterval> {
    let mut map = MapReader::new(node, "time interval", found)?;
    let times = map.each("times", |node, found| {
        let mut map = MapReader::new(node, "time range", found)?;
        let mut time = |key: &'static str| {
            let text = map.required_string(key)?;
            intervals::parse_time(&text.value).map_err(|reason| map.found().error(&text.span, reason)).ok()
        };
        let (start, end) = (time("start_time"), time("end_time"));
        let (start, end) = (start?, end?);
        if start >= end {
            let span = map.span().clone();
            map.found().error(&span, "the time range ends before it begins; write two ranges around midnight");
        }
        map.finish();
        Some((start, end))
    });
    let mut ranges = |key: &'static str, parse: fn(&str) -> Result<intervals::Range, String>| {
        map.each_or_one(key, |node, found| {
            let text = reader::string(node, key, found)?;
            parse(&text.value).map_err(|reason| found.error(&text.span, reason)).ok()
        })
    };
    let weekdays = ranges("weekdays", intervals::parse_weekdays);
    let days_of_month = ranges("days_of_month", intervals::parse_days_of_month);
    let months = ranges("months", intervals::parse_months);
    let years = ranges("years", intervals::parse_years);
    let location = match map.string("location") {
        None => TimeZone::UTC,
        Some(name) if name.value == "Local" => TimeZone::system(),
        Some(name) => match TimeZone::get(&name.value) {
            Ok(zone) => zone,
            Err(_) => {
                let message = format!("there is no time zone {:?}", name.value);
                map.found().error_hint(&name.span, message, "names are like Europe/Berlin or UTC");
                TimeZone::UTC
            }
        },
    };
    map.finish();
    Some(TimeInterval { times, weekdays, days_of_month, months, years, location })
}

/// Reads the template files that a pattern names, relative to the file's own folder; the last part may hold `*` and `?`.
fn add_templates(routing: &mut Routing, file: &str, pattern: &Spanned<String>, found: &mut Diagnostics) {
    let full = Path::new(file).parent().unwrap_or(Path::new("")).join(&pattern.value);
    let folder = full.parent().unwrap_or(Path::new(""));
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let last = full.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let expression = regex::escape(&last).replace(r"\*", ".*").replace(r"\?", ".");
    let Ok(expression) = regex::Regex::new(&format!("^{expression}$")) else { return };
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(Result::ok)
        .filter(|entry| expression.is_match(&entry.file_name().to_string_lossy()))
        .map(|entry| entry.path())
        .collect();
    files.sort();
    if files.is_empty() {
        found.warning(&pattern.span, format!("no template file matches {}", full.display()));
    }
    for path in files {
        let name = path.display().to_string();
        match std::fs::read_to_string(&path) {
            Err(error) => found.error(&pattern.span, format!("cannot read {name}: {error}")),
            Ok(text) => {
                if let Err(error) = routing.templates.add(&text) {
                    let span = Span { file: name.as_str().into(), line: error.line, column: error.column };
                    found.add_source(name.as_str().into(), text.as_str().into());
                    match error.hint {
                        Some(hint) => found.error_hint(&span, error.message, hint),
                        None => found.error(&span, error.message),
                    }
                }
            }
        }
    }
}
