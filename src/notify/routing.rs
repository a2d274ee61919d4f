//! Receivers and the route tree, compiled once from either form of configuration.

use super::flapping::{DEFAULT_FLAPPING, FlapPolicy};
use super::inhibit::InhibitRule;
use super::intervals::{Intervals, TimeInterval};
use super::matcher::{self, MatchOp, Matcher};
use super::posted::RESOLVE_TIMEOUT_MS;
use super::receiver::{Integration, IntegrationKind, Receiver};
use super::silence_window::{self, ConfiguredSilence};
use super::{alertmanager, receiver};
use crate::config::diagnostic::nearest;
use crate::config::schema::{FlappingConfig, NotifyConfig};
use crate::config::{Diagnostics, Span, Spanned};
use crate::model::{Labels, Timestamp};
use crate::template::Templates;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Receivers that one rule of the short form names (`alerts: X: {notify: oncall}`).
#[derive(Clone, Debug, PartialEq)]
pub struct ShortRoute {
    /// The rule's name, the value of the label `alertname`.
    pub alertname: String,
    /// The receivers, with their places.
    pub receivers: Vec<Spanned<String>>,
}

/// Which labels make a group.
#[derive(Clone, Debug, PartialEq)]
pub enum GroupBy {
    /// `group_by: ['...']`: all of them, no grouping at all.
    All,
    /// These; a label that an alert lacks is left out of its group's labels.
    Names(Vec<String>),
}

/// When a group's news is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// How long a new group waits for more alerts, in milliseconds.
    pub group_wait_ms: i64,
    /// The least time between two messages of one group, in milliseconds.
    pub group_interval_ms: i64,
    /// After how long an unchanged group is told again, in milliseconds.
    pub repeat_interval_ms: i64,
    /// News after a quiet time is sent at once (leading edge) instead of at the next multiple of `group_interval`, as
    /// Alertmanager does. The short form is eager.
    pub eager: bool,
}

/// The short form: the first alert goes out at once, a storm becomes one message a second, endings are told at once.
pub const SHORT_TIMING: Timing =
    Timing { group_wait_ms: 0, group_interval_ms: 1_000, repeat_interval_ms: 4 * 3_600_000, eager: true };

/// Alertmanager's defaults (config/config.go, `DefaultGlobalConfig` and dispatch/route.go).
pub const ALERTMANAGER_TIMING: Timing =
    Timing { group_wait_ms: 30_000, group_interval_ms: 300_000, repeat_interval_ms: 4 * 3_600_000, eager: false };

/// One node of the route tree.
#[derive(Clone, Debug)]
pub struct Route {
    /// The first part of group keys: `{}/{severity="page"}`.
    pub key: Arc<str>,
    /// Tells apart routes whose keys are alike; stable while the file's order is.
    pub id: String,
    /// What an alert must match.
    pub matchers: Vec<Matcher>,
    /// Index into [`Routing::receivers`].
    pub receiver: usize,
    /// How alerts are grouped.
    pub group_by: GroupBy,
    /// When groups are sent.
    pub timing: Timing,
    /// Whether the next sibling is tried as well.
    pub continues: bool,
    /// Names of intervals in which nothing is sent.
    pub mute_time_intervals: Vec<String>,
    /// Names of intervals outside which nothing is sent; empty means always.
    pub active_time_intervals: Vec<String>,
    /// Indexes of the children, in order.
    pub children: Vec<usize>,
}

/// Everything that says who is told what, and when.
#[derive(Clone, Debug)]
pub struct Routing {
    pub(super) receivers: Vec<Receiver>,
    pub(super) routes: Vec<Route>,
    /// Routes that single rules name; where one matches, the tree is not asked.
    pub(super) explicit: Vec<usize>,
    pub(super) root: usize,
    pub(super) inhibit_rules: Vec<InhibitRule>,
    pub(super) intervals: Intervals,
    /// When a posted alert that names no end ends, after its last post.
    pub(super) resolve_timeout_ms: i64,
    /// Silences and maintenance windows of the configuration.
    pub(super) silences: Vec<ConfiguredSilence>,
    /// Named templates that the receivers' texts may call.
    pub(super) templates: Templates,
    /// What counts as flapping; `None` when that is switched off.
    pub(super) flapping: Option<FlapPolicy>,
}

impl Routing {
    /// Compiles the short form, Alertmanager's file (name and text), or both. With both, rules that name receivers go to
    /// those, all others go through the file's tree. Without any receiver, alerts go to the terminal.
    ///
    /// Everything wrong is added to `found`; `None` when something that is needed is missing.
    pub fn compile(
        config: &NotifyConfig,
        alertmanager_file: Option<(&str, &str)>,
        short_routes: &[ShortRoute],
        found: &mut Diagnostics,
    ) -> Option<Self> {
        let mut routing = Self {
            receivers: Vec::new(),
            routes: Vec::new(),
            explicit: Vec::new(),
            root: 0,
            inhibit_rules: Vec::new(),
            intervals: Intervals::default(),
            resolve_timeout_ms: RESOLVE_TIMEOUT_MS,
            silences: Vec::new(),
            templates: Templates::default(),
            flapping: policy(config.flapping),
        };
        let mut usable = true;
        for named in &config.receivers {
            match receiver::from_short_form(named, &config.exec_allowed, found) {
                Some(receiver) => routing.receivers.push(receiver),
                None => usable = false,
            }
        }
        match alertmanager_file {
            Some((file, text)) => {
                usable &= alertmanager::read_into(&mut routing, file, text, &config.exec_allowed, found)
            }
            None => {
                if routing.receivers.is_empty() && config.receivers.is_empty() {
                    routing.receivers.push(Receiver::terminal("terminal"));
                }
                if !routing.receivers.is_empty() {
                    routing.root = routing.add_short_route(None, 0, false);
                }
            }
        }
        match silence_window::compile(&config.silences, &routing.intervals, found) {
            Some(silences) => routing.silences = silences,
            None => usable = false,
        }
        if !usable || routing.receivers.is_empty() {
            return None;
        }
        usable &= routing.add_short_routes(short_routes, found);
        usable.then_some(routing)
    }

    /// Alerts to the terminal and nowhere else: what serves without any configuration.
    pub fn terminal() -> Self {
        let mut routing = Self {
            receivers: vec![Receiver::terminal("terminal")],
            routes: Vec::new(),
            explicit: Vec::new(),
            root: 0,
            inhibit_rules: Vec::new(),
            intervals: Intervals::default(),
            resolve_timeout_ms: RESOLVE_TIMEOUT_MS,
            silences: Vec::new(),
            templates: Templates::default(),
            flapping: Some(DEFAULT_FLAPPING),
        };
        routing.root = routing.add_short_route(None, 0, false);
        routing
    }

    fn add_short_routes(&mut self, short_routes: &[ShortRoute], found: &mut Diagnostics) -> bool {
        let mut usable = true;
        let mut wanted: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for route in short_routes {
            for name in &route.receivers {
                match self.receivers.iter().position(|receiver| *receiver.name == *name.value) {
                    Some(at) => {
                        let list = wanted.entry(&route.alertname).or_default();
                        if !list.contains(&at) {
                            list.push(at);
                        }
                    }
                    None => {
                        usable = false;
                        self.report_unknown_receiver(&name.value, &name.span, found);
                    }
                }
            }
        }
        for (alertname, receivers) in wanted {
            let last = receivers.len().saturating_sub(1);
            for (at, receiver) in receivers.into_iter().enumerate() {
                let index = self.add_short_route(Some(alertname), receiver, at != last);
                self.explicit.push(index);
            }
        }
        usable
    }

    fn add_short_route(&mut self, alertname: Option<&str>, receiver: usize, continues: bool) -> usize {
        let matchers: Vec<Matcher> =
            alertname.and_then(|name| Matcher::new("alertname", MatchOp::Equal, name).ok()).into_iter().collect();
        let key = if matchers.is_empty() { "{}".to_owned() } else { format!("{{}}/{}", matcher::print(&matchers)) };
        self.add_route(Route {
            key: key.into(),
            id: String::new(),
            matchers,
            receiver,
            group_by: GroupBy::Names(vec!["alertname".into()]),
            timing: SHORT_TIMING,
            continues,
            mute_time_intervals: Vec::new(),
            active_time_intervals: Vec::new(),
            children: Vec::new(),
        })
    }

    /// Adds a route and gives it its id: key, receiver and how many like it came before.
    pub(super) fn add_route(&mut self, mut route: Route) -> usize {
        let receiver = self.receivers.get(route.receiver).map_or("", |receiver| &receiver.name);
        let stem = format!("{}#{}", route.key, receiver);
        let before =
            self.routes.iter().filter(|known| known.id.rsplit_once('#').is_some_and(|(s, _)| s == stem)).count();
        route.id = format!("{stem}#{before}");
        self.routes.push(route);
        self.routes.len() - 1
    }

    pub(super) fn report_unknown_receiver(&self, name: &str, span: &Span, found: &mut Diagnostics) {
        let names = self.receivers.iter().map(|receiver| &*receiver.name);
        let hint = match nearest(name, names.clone()) {
            Some(near) => format!("did you mean {near:?}?"),
            None => format!("receivers are {}", names.collect::<Vec<_>>().join(", ")),
        };
        found.error_hint(span, format!("there is no receiver {name:?}"), hint);
    }

    /// All receivers, in the order of the configuration.
    pub fn receivers(&self) -> &[Receiver] {
        &self.receivers
    }

    /// The receiver of this name.
    pub fn receiver(&self, name: &str) -> Option<&Receiver> {
        self.receivers.iter().find(|receiver| &*receiver.name == name)
    }

    /// The integration `index` of a receiver.
    pub fn integration(&self, receiver: &str, index: usize) -> Option<&Integration> {
        self.receiver(receiver)?.integrations.get(index)
    }

    /// All routes; [`Routing::matching`] gives indexes into it.
    pub fn routes(&self) -> &[Route] {
        &self.routes
    }

    /// The routes that take an alert with these labels.
    pub fn matching(&self, labels: &Labels) -> Vec<usize> {
        let mut hits = Vec::new();
        for at in &self.explicit {
            let route = &self.routes[*at];
            if matcher::all_match(&route.matchers, labels) {
                hits.push(*at);
                if !route.continues {
                    break;
                }
            }
        }
        if hits.is_empty() {
            self.walk(self.root, labels, &mut hits);
        }
        hits
    }

    /// Alertmanager's depth-first match (dispatch/route.go): a node takes the alert itself when no child does.
    fn walk(&self, at: usize, labels: &Labels, hits: &mut Vec<usize>) {
        let Some(route) = self.routes.get(at) else { return };
        if !matcher::all_match(&route.matchers, labels) {
            return;
        }
        let before = hits.len();
        for child in &route.children {
            let so_far = hits.len();
            self.walk(*child, labels, hits);
            if hits.len() > so_far && !self.routes[*child].continues {
                break;
            }
        }
        if hits.len() == before {
            hits.push(at);
        }
    }

    /// The labels by which a route groups an alert.
    pub(super) fn group_labels(&self, route: usize, labels: &Labels) -> Labels {
        match &self.routes[route].group_by {
            GroupBy::All => labels.clone(),
            GroupBy::Names(names) => labels.filtered(|name| names.iter().any(|wanted| wanted == name)),
        }
    }

    /// Whether the route's time intervals mute it now.
    pub(super) fn muted_by_time(&self, route: usize, now: Timestamp) -> bool {
        let route = &self.routes[route];
        let within = |names: &[String]| names.iter().any(|name| self.intervals.contains(name, now));
        within(&route.mute_time_intervals)
            || (!route.active_time_intervals.is_empty() && !within(&route.active_time_intervals))
    }

    /// The names of the intervals by which a route is muted now: those it is in, or all outside of which it is.
    pub(super) fn muting_intervals(&self, route: usize, now: Timestamp) -> Vec<String> {
        let route = &self.routes[route];
        let within = |name: &&String| self.intervals.contains(name, now);
        let mut names: Vec<String> = route.mute_time_intervals.iter().filter(within).cloned().collect();
        if !route.active_time_intervals.iter().any(|name| within(&name)) {
            names.extend(route.active_time_intervals.iter().cloned());
        }
        names
    }

    /// After how long a posted alert that names no end ends, in milliseconds.
    pub fn resolve_timeout_ms(&self) -> i64 {
        self.resolve_timeout_ms
    }

    /// Adds a named time interval.
    pub(super) fn add_interval(&mut self, name: String, intervals: Vec<TimeInterval>) {
        self.intervals.add(name, intervals);
    }

    /// The routes as a tree in words, for `check` and `config routes`: one line a route, indented, with its longest delay.
    pub fn describe(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for at in &self.explicit {
            self.describe_from(*at, 0, &mut lines);
        }
        self.describe_from(self.root, 0, &mut lines);
        lines
    }

    fn describe_from(&self, at: usize, depth: usize, lines: &mut Vec<String>) {
        let Some(route) = self.routes.get(at) else { return };
        let matchers =
            if route.matchers.is_empty() { "everything else".to_owned() } else { matcher::print(&route.matchers) };
        let group_by = match &route.group_by {
            GroupBy::All => "each alert alone".to_owned(),
            GroupBy::Names(names) if names.is_empty() => "all in one group".to_owned(),
            GroupBy::Names(names) => format!("grouped by {}", names.join(", ")),
        };
        let delay = if route.timing.eager {
            "sent at once".to_owned()
        } else {
            let longest_ms = route.timing.group_wait_ms.max(route.timing.group_interval_ms);
            format!("at most {} late", crate::model::format_duration_ms(longest_ms))
        };
        let receiver = self.receivers.get(route.receiver).map_or("", |receiver| &receiver.name);
        let goes_on = if route.continues { ", then the next route" } else { "" };
        lines.push(format!("{}{matchers} -> {receiver} ({group_by}, {delay}{goes_on})", "  ".repeat(depth)));
        for child in &route.children {
            self.describe_from(*child, depth + 1, lines);
        }
    }

    /// Receivers with at least one integration of this kind, for tests and for `check`.
    pub fn uses(&self, wanted: fn(&IntegrationKind) -> bool) -> bool {
        self.receivers.iter().flat_map(|receiver| &receiver.integrations).any(|integration| wanted(&integration.kind))
    }
}

/// What is configured; without the key only the short form's routes are watched.
fn policy(config: FlappingConfig) -> Option<FlapPolicy> {
    match config {
        FlappingConfig::Default => Some(DEFAULT_FLAPPING),
        FlappingConfig::Off => None,
        FlappingConfig::On { changes, window_ms, steady_ms } => {
            Some(FlapPolicy { changes, window_ms, steady_ms, everywhere: true })
        }
    }
}
