//! `sidewatch test rules`: reads a test file and what it names, and drives what it tests in virtual time.
//!
//! Without `config:` a file is promtool's and runs as promtool runs it ([`unit_test::run_file`]). With it the whole core of
//! that configuration runs: events go through the real decoder and the real mappings, alerts through the real routes.

use super::{build, files_matching};
use crate::config::{Config, Diagnostics, Overrides, Spanned, load_from_system};
use crate::engine::{Change, Core, Input, Parts};
use crate::model::{AlertStatus, Labels, Timestamp};
use crate::notify::Notification;
use crate::promql::Options;
use crate::promql::testing::PointValue;
use crate::rules::unit_test::{
    self, ExpectedNotification, InputEvent, Report, TestCase, TestFile, TestResult, When, compare,
};
use crate::rules::{Group, RecordedSample, RuleFile};
use crate::series::SampleValue;
use crate::source::SourceState;
use crate::source::decode::Framing;
use std::cell::RefCell;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

/// The messages that a failure lists at most.
const LISTED: usize = 20;

/// Runs one test file.
///
/// # Errors
/// What is wrong with the files, as one text: one cannot be read, or what stands in it cannot be used.
pub fn test_rules(path: &Path) -> Result<Report, String> {
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|error| format!("{name} cannot be read: {error}"))?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut found = Diagnostics::new();
    let unreadable = RefCell::new(String::new());
    let rule_files = |pattern: &str| -> Vec<RuleFile> {
        let paths = files_matching(folder, pattern).unwrap_or_default();
        let one = |path: std::path::PathBuf| match std::fs::read_to_string(&path) {
            Ok(text) => Some(RuleFile { name: path.display().to_string().into(), text: text.into() }),
            Err(error) => {
                let _ = writeln!(unreadable.borrow_mut(), "{} cannot be read: {error}", path.display());
                None
            }
        };
        paths.into_iter().filter_map(one).collect()
    };
    let report = match unit_test::read(&name, &text, &mut found) {
        Some(file) if !found.has_errors() => match &file.config {
            Some(config) => rehearse(&name, &file, config, folder, &mut found),
            None => unit_test::run_file(&name, &file, &rule_files, &mut found),
        },
        _ => Report::default(),
    };
    found.sort();
    if found.has_errors() { Err(found.to_string() + &unreadable.into_inner()) } else { Ok(report) }
}

/// Runs the tests of a file with a configuration.
fn rehearse(name: &str, file: &TestFile, config: &Spanned<String>, folder: &Path, found: &mut Diagnostics) -> Report {
    let mut report = Report::default();
    let path = folder.join(&config.value);
    if let Err(error) = std::fs::metadata(&path) {
        found.error(&config.span, format!("{} cannot be read: {error}", path.display()));
        return report;
    }
    let (loaded, said) = load_from_system(Some(&path), &Overrides::default());
    found.absorb(said);
    let Some(mut loaded) = loaded.filter(|_| !found.has_errors()) else { return report };
    for pattern in &file.rule_files {
        let pattern = Spanned::new(absolute(folder, &pattern.value), pattern.span.clone());
        loaded.rules.push(pattern);
    }
    if file.interval_given {
        loaded.evaluation_interval_ms = file.evaluation_interval_ms;
    }
    for (at, case) in file.tests.iter().enumerate() {
        // Every test is built anew; what is wrong is said once.
        let mut own = Diagnostics::new();
        let parts = parts(file, case, &loaded, &mut own);
        if let Some(parts) = &parts {
            check_sources(case, parts, &mut own);
        }
        let failed = own.has_errors();
        if failed || at == 0 {
            found.absorb(own);
        }
        let Some(parts) = parts.filter(|_| !failed) else { break };
        let mut rehearsal = Rehearsal::new(file, case, &parts, loaded.evaluation_interval_ms);
        rehearsal.run();
        rehearsal.judge();
        report.tests.push(TestResult { file: name.into(), name: case.title(at), failures: rehearsal.failures });
    }
    report
}

/// A pattern that means the same wherever the configuration stands.
fn absolute(folder: &Path, pattern: &str) -> String {
    let joined = folder.join(pattern);
    std::path::absolute(&joined).unwrap_or(joined).display().to_string()
}

/// The configuration as one test sees it: its external labels, groups in the wanted order, evaluated at whole multiples
/// of their interval.
fn parts(file: &TestFile, case: &TestCase, config: &Config, found: &mut Diagnostics) -> Option<Parts> {
    let mut config = config.clone();
    if !case.external_labels.is_empty() {
        config.external_labels = case.external_labels.clone();
    }
    if !case.external_url.is_empty() {
        config.external_url = case.external_url.clone();
    }
    let mut parts = build(&config, found)?;
    for group in &mut parts.rule_set.groups {
        *group = Arc::new(Group { aligned: true, ..(**group).clone() });
    }
    let position = |name: &str| file.group_eval_order.iter().position(|known| known == name);
    parts.rule_set.groups.sort_by_key(|group| position(&group.name).unwrap_or(usize::MAX));
    Some(parts)
}

fn check_sources(case: &TestCase, parts: &Parts, found: &mut Diagnostics) {
    let known = || parts.sources.iter().map(|source| &*source.name);
    for event in &case.events {
        if let Some(source) = &event.source
            && !known().any(|name| name == &**source)
        {
            let message = format!("the configuration has no source {:?}", &**source);
            let all = known().collect::<Vec<_>>().join(", ");
            found.error_hint(&event.span, message, format!("it has {all}"));
        }
    }
}

/// One test as it runs.
struct Rehearsal<'a> {
    file: &'a TestFile,
    case: &'a TestCase,
    parts: &'a Parts,
    core: Core,
    /// The next point of each input series.
    next_point: Vec<usize>,
    next_event: usize,
    told: Vec<Notification>,
    options: Options<'static>,
    failures: Vec<String>,
}

impl<'a> Rehearsal<'a> {
    fn new(file: &'a TestFile, case: &'a TestCase, parts: &'a Parts, interval_ms: i64) -> Self {
        let start = Timestamp::from_millis(case.start_ms);
        let mut core = Core::new(parts, start);
        let connected = |name: &Arc<str>| Input::Source { name: name.clone(), state: SourceState::Connected };
        core.engine.observe(start, parts.sources.iter().map(|source| connected(&source.name)));
        Self {
            file,
            case,
            parts,
            core,
            next_point: vec![0; case.series.len()],
            next_event: 0,
            told: Vec::new(),
            options: Options { subquery_step_ms: interval_ms, ..Options::default() },
            failures: Vec::new(),
        }
    }

    /// From the start to the last expectation, from one moment at which anything happens to the next.
    fn run(&mut self) {
        let last_ms = self.case.last_ms();
        let mut at_ms = 0;
        loop {
            self.feed(at_ms);
            let now = Timestamp::from_millis(self.case.start_ms + at_ms);
            self.told.extend(self.core.step(now, &self.options));
            self.check(at_ms);
            if at_ms >= last_ms {
                break;
            }
            let due_ms = self.core.next_due().millis() - self.case.start_ms;
            let next_ms = self.next_input_ms().into_iter().chain(self.next_check_ms(at_ms)).fold(due_ms, i64::min);
            at_ms = next_ms.clamp(at_ms + 1, last_ms);
        }
    }

    fn point_ms(&self, next: usize) -> i64 {
        self.case.interval_ms.saturating_mul(next as i64)
    }

    fn next_input_ms(&self) -> Option<i64> {
        let series = self.case.series.iter().zip(&self.next_point);
        let points = series.filter(|(series, next)| **next < series.points.len()).map(|(_, next)| self.point_ms(*next));
        points.chain(self.case.events.get(self.next_event).map(|event| event.at_ms)).min()
    }

    fn next_check_ms(&self, after_ms: i64) -> Option<i64> {
        let alerts = self.case.alert_tests.iter().map(|test| test.at_ms);
        alerts.chain(self.case.expr_tests.iter().map(|test| test.at_ms)).filter(|at_ms| *at_ms > after_ms).min()
    }

    /// What has arrived by now: samples, then events.
    fn feed(&mut self, until_ms: i64) {
        let now = Timestamp::from_millis(self.case.start_ms + until_ms);
        let mut samples = Vec::new();
        for (at, series) in self.case.series.iter().enumerate() {
            while let Some(point) = series.points.get(self.next_point[at]) {
                let point_ms = self.point_ms(self.next_point[at]);
                if point_ms > until_ms {
                    break;
                }
                let value = match point {
                    Some(PointValue::Float(value)) => Some(SampleValue::Float(*value)),
                    Some(PointValue::Histogram { histogram, .. }) => Some(SampleValue::Histogram(histogram.clone())),
                    None => None,
                };
                let t_ms = self.case.start_ms + point_ms;
                samples.extend(value.map(|value| RecordedSample { labels: series.labels.clone(), t_ms, value }));
                self.next_point[at] += 1;
            }
        }
        if !samples.is_empty() {
            self.core.engine.record(now, samples);
        }
        while let Some(event) = self.case.events.get(self.next_event).filter(|event| event.at_ms <= until_ms) {
            self.next_event += 1;
            self.event(event, now);
        }
    }

    fn event(&mut self, event: &InputEvent, now: Timestamp) {
        let named = |name: &Arc<str>| self.parts.sources.iter().find(|source| source.name == *name);
        let source = event.source.as_ref().map_or(self.parts.sources.first(), named);
        let Some(source) = source else {
            self.failures.push(format!("{}event: the configuration has no source", compare::place(&event.span)));
            return;
        };
        let plan = self.core.engine.plan().clone();
        let batch =
            source.decoder.decode(event.event.to_string().into_bytes(), Framing::Auto, &plan, &source.name, now);
        for refusal in &batch.refused {
            self.failures.push(format!("{}event: {}", compare::place(&event.span), refusal.message));
        }
        self.core.engine.observe(now, [Input::Events(batch)]);
    }

    /// The expectations of this moment, and rules that fail.
    fn check(&mut self, at_ms: i64) {
        for change in self.core.engine.take_changes() {
            if let Change::Rule { group, rule, error: Some(error) } = change {
                self.failures.push(format!("rule {rule} of group {group} at {}: {error}", compare::time(at_ms)));
            }
        }
        for test in self.case.alert_tests.iter().filter(|test| test.at_ms == at_ms) {
            compare::alerts(test, self.core.engine.rules(), &mut self.failures);
        }
        for test in self.case.expr_tests.iter().filter(|test| test.at_ms == at_ms) {
            let (start_ms, fuzzy) = (self.case.start_ms, self.file.fuzzy_compare);
            compare::expression(test, start_ms, self.core.engine.store(), &self.options, fuzzy, &mut self.failures);
        }
    }

    /// Holds what was told against what was expected. Each message answers one expectation.
    fn judge(&mut self) {
        let mut used = vec![false; self.told.len()];
        for expected in &self.case.notifications {
            let fits = |one: &Notification| self.in_time(expected, one) && fits(expected, one);
            let found = self.told.iter().zip(&used).position(|(one, used)| {
                let free = !used || matches!(expected.when, When::NoneUntil(_));
                free && fits(one)
            });
            let wanted = matches!(expected.when, When::At(_) | When::Within(_));
            match found {
                Some(at) if wanted => used[at] = true,
                None if !wanted => {}
                _ => {
                    let text = self.complaint(expected);
                    self.failures.push(text);
                }
            }
        }
    }

    fn told_ms(&self, one: &Notification) -> i64 {
        one.at.millis() - self.case.start_ms
    }

    fn in_time(&self, expected: &ExpectedNotification, one: &Notification) -> bool {
        let told_ms = self.told_ms(one);
        match expected.when {
            When::At(at_ms) => (at_ms..at_ms.saturating_add(1_000)).contains(&told_ms),
            When::Within(until_ms) => told_ms <= until_ms,
            When::NoneUntil(until_ms) => told_ms < until_ms,
        }
    }

    fn complaint(&self, expected: &ExpectedNotification) -> String {
        let mut text = compare::place(&expected.span);
        let _ = match expected.when {
            When::At(at_ms) => write!(text, "notification at {}\n  exp:", compare::time(at_ms)),
            When::Within(until_ms) => write!(text, "notification within {}\n  exp:", compare::time(until_ms)),
            When::NoneUntil(until_ms) => {
                write!(text, "no notification until {}\n  exp: nothing for", compare::time(until_ms))
            }
        };
        let _ = write!(text, " receiver {}", expected.receiver.as_deref().unwrap_or("any"));
        if let Some(status) = expected.status {
            let _ = write!(text, ", {}", word(status));
        }
        if let Some(labels) = &expected.group_labels {
            let _ = write!(text, ", group {labels}");
        }
        for labels in expected.alerts.iter().flatten() {
            let _ = write!(text, "\n    {labels}");
        }
        text.push_str(if self.told.is_empty() { "\n  got: nobody was told" } else { "\n  got:" });
        for one in self.told.iter().take(LISTED) {
            let _ = write!(
                text,
                "\n    at {}: receiver {}, {}, group {}",
                compare::time(self.told_ms(one)),
                one.receiver,
                word(one.status),
                one.group_labels
            );
            for alert in one.alerts.iter().take(LISTED) {
                let _ = write!(text, "\n      {} {}", word(alert.status()), alert.labels);
            }
        }
        if self.told.len() > LISTED {
            let _ = write!(text, "\n    and {} more", self.told.len() - LISTED);
        }
        text
    }
}

const fn word(status: AlertStatus) -> &'static str {
    match status {
        AlertStatus::Firing => "firing",
        AlertStatus::Resolved => "resolved",
    }
}

/// Whether a message is the expected one, its time aside.
fn fits(expected: &ExpectedNotification, one: &Notification) -> bool {
    expected.receiver.as_deref().is_none_or(|receiver| receiver == &*one.receiver)
        && expected.status.is_none_or(|status| status == one.status)
        && expected.group_labels.as_ref().is_none_or(|labels| *labels == one.group_labels)
        && expected.alerts.as_ref().is_none_or(|alerts| {
            let told: Vec<&Labels> = one.alerts.iter().map(|alert| &alert.labels).collect();
            one_to_one(alerts, &told)
        })
}

/// Whether each expectation can have an alert of its own with at least its labels, and no alert is left over.
fn one_to_one(expected: &[Labels], told: &[&Labels]) -> bool {
    let mut taken_by: Vec<Option<usize>> = vec![None; told.len()];
    expected.len() == told.len()
        && (0..expected.len()).all(|one| place(one, expected, told, &mut vec![false; told.len()], &mut taken_by))
}

/// Finds an alert for one expectation; another that has it gives way when it finds a new one (Kuhn's algorithm).
fn place(one: usize, expected: &[Labels], told: &[&Labels], seen: &mut [bool], taken_by: &mut [Option<usize>]) -> bool {
    for at in 0..told.len() {
        let has_all = expected[one].iter().all(|label| told[at].get(&label.name) == Some(&*label.value));
        if seen[at] || !has_all {
            continue;
        }
        seen[at] = true;
        if taken_by[at].is_none_or(|other| place(other, expected, told, seen, taken_by)) {
            taken_by[at] = Some(one);
            return true;
        }
    }
    false
}
