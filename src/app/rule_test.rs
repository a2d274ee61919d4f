//! Unit tests of a whole configuration (`sidewatch test rules`, a test file with `config:`): its mappings, short-form
//! alerts, rule files and routes are driven in virtual time by events and series, the way a running sidewatch drives them.
//!
//! Unlike promtool's files these evaluate as in production, between the slots as well; but the slots lie at whole multiples
//! of the intervals from the start, so that a verdict does not depend on the names of files and groups. What a test says
//! of `evaluation_interval`, `group_eval_order`, `external_labels` and `external_url` goes before the configuration.

use super::build;
use crate::config::{Config, Diagnostics, Overrides, load_from_system};
use crate::engine::{Change, Core, Input, Parts};
use crate::model::{AlertStatus, Labels, Timestamp, format_duration_ms};
use crate::notify::Notification;
use crate::promql::Options;
use crate::promql::testing::PointValue;
use crate::rules::unit_test::{ExpectedNotification, InputEvent, Report, TestCase, TestFile, TestResult, compare};
use crate::rules::{Group, RecordedSample};
use crate::series::SampleValue;
use crate::source::SourceState;
use crate::source::decode::Framing;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

/// Where time begins when a test names no `start_timestamp`: 2026-01-01T00:00:00Z.
const START_MS: i64 = 1_767_225_600_000;

/// Runs the tests of a file that names a configuration. What is wrong with either goes to `found`.
pub fn run(name: &str, file: &TestFile, folder: &Path, found: &mut Diagnostics) -> Report {
    let mut report = Report::default();
    let Some(path) = &file.config else { return report };
    let (config, findings) = load_from_system(Some(&folder.join(&path.value)), &Overrides::default());
    found.absorb(findings);
    let Some(mut config) = config.filter(|_| !found.has_errors()) else { return report };
    if file.interval_given {
        config.evaluation_interval_ms = file.evaluation_interval_ms;
    }
    for (at, case) in file.tests.iter().enumerate() {
        // Each test is built anew; what is wrong with the configuration is said once.
        let mut own = Diagnostics::new();
        let parts = parts(file, case, &config, &mut own);
        let failed = own.has_errors();
        if failed || at == 0 {
            found.absorb(own);
        }
        let Some(parts) = parts.filter(|_| !failed) else { break };
        let mut world = World::new(&parts, case, config.evaluation_interval_ms);
        world.run(file);
        let name_of = || if case.name.is_empty() { format!("test {}", at + 1) } else { case.name.clone() };
        report.tests.push(TestResult { file: name.into(), name: name_of(), failures: world.failures });
    }
    report
}

/// The configuration as one test sees it.
fn parts(file: &TestFile, case: &TestCase, config: &Config, found: &mut Diagnostics) -> Option<Parts> {
    let mut config = config.clone();
    if !case.external_labels.is_empty() {
        config.external_labels.clone_from(&case.external_labels);
    }
    if !case.external_url.is_empty() {
        config.external_url.clone_from(&case.external_url);
    }
    let mut parts = build(&config, found)?;
    for group in &mut parts.rule_set.groups {
        *group = Arc::new(Group { aligned: true, ..(**group).clone() });
    }
    let position = |name: &str| file.group_eval_order.iter().position(|known| known == name);
    parts.rule_set.groups.sort_by_key(|group| position(&group.name).unwrap_or(usize::MAX));
    for event in &case.events {
        let Some(source) = &event.source else { continue };
        if !parts.sources.iter().any(|known| known.name == *source) {
            let known: Vec<&str> = parts.sources.iter().map(|known| &*known.name).collect();
            let message = format!("the configuration has no source {:?}", &**source);
            found.error_hint(&event.span, message, format!("it has {}", known.join(", ")));
        }
    }
    Some(parts)
}

/// One test as it runs.
struct World<'a> {
    case: &'a TestCase,
    parts: &'a Parts,
    start_ms: i64,
    core: Core,
    options: Options<'static>,
    told: Vec<Notification>,
    failures: Vec<String>,
}

/// What happens at a moment, in the order in which it happens there.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Act {
    Sample { series: usize, point: usize },
    Event(usize),
    AlertTest(usize),
    ExprTest(usize),
}

impl<'a> World<'a> {
    fn new(parts: &'a Parts, case: &'a TestCase, interval_ms: i64) -> Self {
        let start_ms = if case.start_ms == 0 { START_MS } else { case.start_ms };
        let start = Timestamp::from_millis(start_ms);
        let mut core = Core::new(parts, start);
        let connected = |name: &Arc<str>| Input::Source { name: name.clone(), state: SourceState::Connected };
        core.engine.observe(start, parts.sources.iter().map(|source| connected(&source.name)));
        Self {
            case,
            parts,
            start_ms,
            core,
            options: Options { subquery_step_ms: interval_ms, ..Options::default() },
            told: Vec::new(),
            failures: Vec::new(),
        }
    }

    fn at(&self, offset_ms: i64) -> Timestamp {
        Timestamp::from_millis(self.start_ms.saturating_add(offset_ms))
    }

    fn run(&mut self, file: &TestFile) {
        let case = self.case;
        let mut acts: Vec<(i64, Act)> = Vec::new();
        for (series, notation) in case.series.iter().enumerate() {
            let points = notation.points.iter().enumerate().filter(|(_, value)| value.is_some());
            let at = |point: usize| case.interval_ms.saturating_mul(point as i64);
            acts.extend(points.map(|(point, _)| (at(point), Act::Sample { series, point })));
        }
        acts.extend(case.events.iter().enumerate().map(|(at, event)| (event.at_ms, Act::Event(at))));
        acts.extend(case.alert_tests.iter().enumerate().map(|(at, test)| (test.at_ms, Act::AlertTest(at))));
        acts.extend(case.expr_tests.iter().enumerate().map(|(at, test)| (test.at_ms, Act::ExprTest(at))));
        acts.sort();
        let expected = case.notifications.iter().flatten().map(|one| one.at_ms.saturating_add(one.within_ms));
        // Nothing that comes after the last expectation could change a verdict.
        let last_ms = acts.iter().map(|(at, _)| *at).chain(expected).max().unwrap_or(0);
        // Everything that arrives at one moment is there before anything is concluded from it.
        let mut arrived_ms = None;
        for (at_ms, act) in acts {
            let is_input = matches!(act, Act::Sample { .. } | Act::Event(_));
            if let Some(arrived_ms) = arrived_ms.take_if(|arrived_ms| !is_input || *arrived_ms != at_ms) {
                self.step(arrived_ms);
            }
            self.pass_time(if is_input { at_ms - 1 } else { at_ms });
            if is_input {
                arrived_ms = Some(at_ms);
            }
            match act {
                Act::Sample { series, point } => self.sample(series, point, at_ms),
                Act::Event(at) => self.event(&case.events[at]),
                Act::AlertTest(at) => {
                    compare::alerts(&case.alert_tests[at], self.core.engine.rules(), &mut self.failures);
                }
                Act::ExprTest(at) => {
                    let (test, store) = (&case.expr_tests[at], self.core.engine.store());
                    let at_ms = self.start_ms.saturating_add(test.at_ms);
                    compare::expression(test, at_ms, store, &self.options, file.fuzzy_compare, &mut self.failures);
                }
            }
        }
        if let Some(arrived_ms) = arrived_ms {
            self.step(arrived_ms);
        }
        self.pass_time(last_ms);
        for change in self.core.engine.take_changes() {
            if let Change::Rule { group, rule, error: Some(error) } = change {
                self.failures.push(format!("rule {rule} of group {group}: {error}"));
            }
        }
        if let Some(expected) = &case.notifications {
            self.notifications(expected);
        }
    }

    fn step(&mut self, at_ms: i64) {
        let told = self.core.step(self.at(at_ms), &self.options);
        self.told.extend(told);
    }

    /// Runs everything that is due up to a time, each at its own moment.
    fn pass_time(&mut self, until_ms: i64) {
        let until = self.at(until_ms);
        loop {
            let due = self.core.next_due();
            if due > until {
                return;
            }
            let told = self.core.step(due, &self.options);
            self.told.extend(told);
            if self.core.next_due() <= due {
                // What is due at once again (a budget that is used up) waits for the next millisecond.
                let next = due.plus_millis(1);
                if next > until {
                    return;
                }
                let told = self.core.step(next, &self.options);
                self.told.extend(told);
            }
        }
    }

    fn sample(&mut self, series: usize, point: usize, at_ms: i64) {
        let notation = &self.case.series[series];
        let now = self.at(at_ms);
        let value = match &notation.points[point] {
            Some(PointValue::Float(value)) => SampleValue::Float(*value),
            Some(PointValue::Histogram { histogram, .. }) => SampleValue::Histogram(histogram.clone()),
            None => return,
        };
        let sample = RecordedSample { labels: notation.labels.clone(), t_ms: now.millis(), value };
        self.core.engine.record(now, vec![sample]);
    }

    fn event(&mut self, input: &InputEvent) {
        let now = self.at(input.at_ms);
        let named = |name: &Arc<str>| self.parts.sources.iter().find(|source| source.name == *name);
        let place = compare::place(&input.span);
        let Some(source) = input.source.as_ref().map_or(self.parts.sources.first(), named) else {
            self.failures.push(format!("{place}event: the configuration has no source"));
            return;
        };
        let (plan, bytes) = (self.core.engine.plan().clone(), input.event.to_string().into_bytes());
        let batch = source.decoder.decode(bytes, Framing::Auto, &plan, &source.name, now);
        self.failures.extend(batch.refused.iter().map(|one| format!("{place}event: {}", one.message)));
        self.core.engine.observe(now, [Input::Events(batch)]);
    }

    /// Every message is expected, and every expected one was sent.
    fn notifications(&mut self, expected: &[ExpectedNotification]) {
        let mut left: Vec<&Notification> = self.told.iter().collect();
        let mut missing = Vec::new();
        for one in expected {
            match left.iter().position(|told| fits(one, told, told.at.millis() - self.start_ms)) {
                Some(at) => {
                    left.remove(at);
                }
                None => missing.push(one),
            }
        }
        if missing.is_empty() && left.is_empty() {
            return;
        }
        let mut text = String::from("notifications:");
        for one in &missing {
            let _ = write!(text, "\n  line {}: exp: {one}\n    got: nothing that fits", one.line);
        }
        for told in left {
            let at = format_duration_ms(told.at.millis() - self.start_ms);
            let alerts: Vec<String> = told.alerts.iter().map(|alert| alert.labels.to_string()).collect();
            let status = if told.status == AlertStatus::Firing { "firing" } else { "resolved" };
            let (receiver, group, alerts) = (&told.receiver, &told.group_labels, alerts.join(" "));
            let _ = write!(text, "\n  got and not expected: {at} {receiver} {status} group {group}: {alerts}");
        }
        self.failures.push(text);
    }
}

fn fits(expected: &ExpectedNotification, told: &Notification, at_ms: i64) -> bool {
    let alerts: Vec<&Labels> = told.alerts.iter().map(|alert| &alert.labels).collect();
    (expected.at_ms..=expected.at_ms.saturating_add(expected.within_ms)).contains(&at_ms)
        && expected.receiver == *told.receiver
        && expected.status == told.status
        && expected.grouping.as_ref().is_none_or(|grouping| *grouping == told.group_labels)
        && (expected.alerts.is_empty() || one_to_one(&expected.alerts, &alerts))
}

/// Whether each expectation can have an alert of its own with at least its labels, and no alert is left over.
fn one_to_one(expected: &[Labels], told: &[&Labels]) -> bool {
    let mut taken_by: Vec<Option<usize>> = vec![None; told.len()];
    expected.len() == told.len()
        && (0..expected.len()).all(|one| settle(one, expected, told, &mut vec![false; told.len()], &mut taken_by))
}

/// Finds an alert for one expectation; another that has it gives way when it finds a new one (Kuhn's algorithm).
fn settle(
    one: usize,
    expected: &[Labels],
    told: &[&Labels],
    seen: &mut [bool],
    taken_by: &mut [Option<usize>],
) -> bool {
    for at in 0..told.len() {
        let has_all = expected[one].iter().all(|label| told[at].get(&label.name) == Some(&*label.value));
        if seen[at] || !has_all {
            continue;
        }
        seen[at] = true;
        if taken_by[at].is_none_or(|other| settle(other, expected, told, seen, taken_by)) {
            taken_by[at] = Some(one);
            return true;
        }
    }
    false
}
