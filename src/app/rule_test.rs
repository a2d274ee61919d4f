//! Unit tests of a whole configuration (`sidewatch test rules`, a test file with `config:`): its mappings, short-form
//! alerts, rule files and routes are driven in virtual time by events and series, the way a running sidewatch drives them.
//!
//! Unlike promtool's files these evaluate as in production, between the slots as well.

use super::build;
use crate::config::{Diagnostics, Overrides, load_from_system};
use crate::engine::{Core, Input, InputSample, Parts};
use crate::model::{AlertStatus, Labels, Timestamp, format_duration_ms};
use crate::notify::Notification;
use crate::promql::testing::PointValue;
use crate::promql::{Options, Query};
use crate::rules::unit_test::{ExpectedNotification, InputEvent, Report, TestCase, TestFile, TestResult, compare};
use crate::source::SourceState;
use crate::source::decode::{DecodeLimits, Decoder, Framing};
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
    let Some(parts) = config.as_ref().and_then(|config| build(config, found)) else { return report };
    if found.has_errors() {
        return report;
    }
    for (at, case) in file.tests.iter().enumerate() {
        let mut world = World::new(&parts, case);
        world.run(file);
        let name_of = || if case.name.is_empty() { format!("test {}", at + 1) } else { case.name.clone() };
        report.tests.push(TestResult { file: name.into(), name: name_of(), failures: world.failures });
    }
    report
}

/// One test as it runs.
struct World<'a> {
    case: &'a TestCase,
    start_ms: i64,
    core: Core,
    decoders: Vec<(Arc<str>, Arc<Decoder>)>,
    other: Option<Decoder>,
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
    fn new(parts: &Parts, case: &'a TestCase) -> Self {
        let start_ms = if case.start_ms == 0 { START_MS } else { case.start_ms };
        let start = Timestamp::from_millis(start_ms);
        let mut core = Core::new(parts, start);
        let connected = |name: &Arc<str>| Input::Source { name: name.clone(), state: SourceState::Connected };
        core.engine.observe(start, parts.sources.iter().map(|source| connected(&source.name)));
        Self {
            case,
            start_ms,
            core,
            decoders: parts.sources.iter().map(|source| (source.name.clone(), source.decoder.clone())).collect(),
            other: Decoder::compile(&Default::default(), DecodeLimits::default(), &mut Diagnostics::new()),
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
        for (at_ms, act) in acts {
            let is_input = matches!(act, Act::Sample { .. } | Act::Event(_));
            self.pass_time(if is_input { at_ms - 1 } else { at_ms });
            match act {
                Act::Sample { series, point } => self.sample(series, point, at_ms),
                Act::Event(at) => self.event(&case.events[at]),
                Act::AlertTest(at) => {
                    compare::alerts(&case.alert_tests[at], self.core.engine.rules(), &mut self.failures);
                }
                Act::ExprTest(at) => self.expression(file, at),
            }
        }
        self.pass_time(last_ms);
        if let Some(expected) = &case.notifications {
            self.notifications(expected);
        }
    }

    /// Runs everything that is due up to a time, each at its own moment.
    fn pass_time(&mut self, until_ms: i64) {
        let until = self.at(until_ms);
        loop {
            let due = self.core.next_due();
            if due > until {
                return;
            }
            let told = self.core.step(due, &Options::default());
            self.told.extend(told);
            if self.core.next_due() <= due {
                // What is due at once again (a budget that is used up) waits for the next millisecond.
                let next = due.plus_millis(1);
                if next > until {
                    return;
                }
                let told = self.core.step(next, &Options::default());
                self.told.extend(told);
            }
        }
    }

    fn sample(&mut self, series: usize, point: usize, at_ms: i64) {
        let notation = &self.case.series[series];
        let now = self.at(at_ms);
        match &notation.points[point] {
            Some(PointValue::Float(value)) => {
                let sample = InputSample { labels: notation.labels.clone(), t_ms: now.millis(), value: *value };
                self.core.engine.observe(now, [Input::Samples(vec![sample])]);
            }
            Some(_) => self.failures.push(format!("{}: histograms go into files without config:", notation.labels)),
            None => {}
        }
    }

    fn event(&mut self, input: &InputEvent) {
        let now = self.at(input.at_ms);
        let known = self.decoders.iter().find(|(name, _)| *name == input.source).map(|(_, decoder)| &**decoder);
        let Some(decoder) = known.or(self.other.as_ref()) else { return };
        let plan = self.core.engine.plan().clone();
        let batch = decoder.decode(input.event.to_string().into_bytes(), Framing::Auto, &plan, &input.source, now);
        let refused = batch.refused.iter();
        let refused = refused.map(|one| format!("event at {}: {}", format_duration_ms(input.at_ms), one.message));
        self.failures.extend(refused);
        self.core.engine.observe(now, [Input::Events(batch)]);
        let told = self.core.step(now, &Options::default());
        self.told.extend(told);
    }

    fn expression(&mut self, file: &TestFile, at: usize) {
        let test = &self.case.expr_tests[at];
        let now = self.at(test.at_ms);
        let options = Options::default();
        let found = Query::parse(&test.expr.value).map_err(|error| error.to_string()).and_then(|query| {
            let view = self.core.engine.view(&query.selections(now.millis(), now.millis(), &options));
            query.instant(&view, now.millis(), &options).map_err(|error| error.to_string())
        });
        match found {
            Ok(evaluation) => compare::samples(test, evaluation.value, file.fuzzy_compare, &mut self.failures),
            Err(error) => {
                let time = format_duration_ms(test.at_ms);
                self.failures.push(format!("expr: {:?}, time: {time}: {error}", test.expr.value));
            }
        }
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
    let has =
        |labels: &Labels, wanted: &Labels| wanted.iter().all(|label| labels.get(&label.name) == Some(&label.value));
    let mut alerts: Vec<&Labels> = told.alerts.iter().map(|alert| &alert.labels).collect();
    (expected.at_ms..=expected.at_ms.saturating_add(expected.within_ms)).contains(&at_ms)
        && expected.receiver == *told.receiver
        && expected.status == told.status
        && expected.grouping.as_ref().is_none_or(|grouping| *grouping == told.group_labels)
        && (expected.alerts.is_empty() || expected.alerts.len() == alerts.len())
        && expected.alerts.iter().all(|wanted| {
            let found = alerts.iter().position(|labels| has(labels, wanted));
            found.map(|at| alerts.remove(at)).is_some()
        })
}
