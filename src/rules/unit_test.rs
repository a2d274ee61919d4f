//! promtool's unit tests of rules (`cmd/promtool/unittest.go`): its files run unchanged, with the same verdicts.
//!
//! Beside `input_series` a test may have `input_events`: events that conditions of the short form see, at their times.
//! Reactive evaluation is off here, as in promtool. A file with `config:` is driven by `app`, with the whole core.

pub(crate) mod compare;
mod events;
mod input;
pub(crate) mod schema;

use super::rule::{RuleSet, Settings};
use super::schedule::{Effects, Rules};
use super::{RuleFile, file, short};
use crate::config::Diagnostics;
use crate::model::{FieldPlan, FieldPlanBuilder, Labels, Timestamp};
use crate::promql::Options;
use crate::promql::testing::{PointValue, TestStorage};
use crate::series::SampleValue;
use crate::source::decode::Decoder;
pub use input::InputEvent;
pub use schema::{AlertTest, ExpectedAlert, ExpectedNotification, ExprTest, TestCase, TestFile, read};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// The verdict on one test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestResult {
    /// The test file.
    pub file: Arc<str>,
    /// `name:` of the test, or its number.
    pub name: String,
    /// What differs; empty when it passed.
    pub failures: Vec<String>,
}

/// The verdict on all tests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// One entry a test, in order.
    pub tests: Vec<TestResult>,
}

impl Report {
    /// Whether every test passed.
    pub fn passed(&self) -> bool {
        self.tests.iter().all(|test| test.failures.is_empty())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut file = None;
        for test in &self.tests {
            if file != Some(&test.file) {
                writeln!(f, "{}", test.file)?;
                file = Some(&test.file);
            }
            let verdict = if test.failures.is_empty() { "ok" } else { "FAILED" };
            writeln!(f, "  {}: {verdict}", test.name)?;
            for failure in &test.failures {
                for line in failure.lines() {
                    writeln!(f, "    {line}")?;
                }
            }
        }
        let failed = self.tests.iter().filter(|test| !test.failures.is_empty()).count();
        write!(f, "{} passed, {failed} failed", self.tests.len() - failed)
    }
}

/// Runs a test file. `rule_file` gives the files that its `rule_files` patterns name (the shell reads them; patterns are
/// relative to the test file). What is wrong with the files themselves goes to `found`.
pub fn run(name: &str, text: &str, rule_files: &dyn Fn(&str) -> Vec<RuleFile>, found: &mut Diagnostics) -> Report {
    let mut report = Report::default();
    let Some(test_file) = read(name, text, found) else { return report };
    let mut files = Vec::new();
    for pattern in &test_file.rule_files {
        let matched = rule_files(&pattern.value);
        if matched.is_empty() {
            found.error(&pattern.span, format!("no rule file matches {:?}", pattern.value));
        }
        files.extend(matched);
    }
    let before = found.has_errors();
    for (at, case) in test_file.tests.iter().enumerate() {
        let Some((rules, plan)) = compile(&test_file, case, &files, found) else { break };
        if found.has_errors() && (before || at == 0) {
            break;
        }
        let mut world = World::new(&test_file, case, rules, plan);
        world.run();
        report.tests.push(TestResult {
            file: name.into(),
            name: if case.name.is_empty() { format!("test {}", at + 1) } else { case.name.clone() },
            failures: world.failures,
        });
    }
    report
}

/// The rules as one test sees them: its external labels, the groups in the wanted order.
fn compile(
    test_file: &TestFile,
    case: &TestCase,
    files: &[RuleFile],
    found: &mut Diagnostics,
) -> Option<(RuleSet, Arc<FieldPlan>)> {
    let mut plan = FieldPlanBuilder::default();
    let settings = Settings {
        external_labels: Labels::from_pairs(case.external_labels.iter().map(|(name, value)| (&name.value, value))),
        external_url: case.external_url.clone(),
        alerts_per_rule: 10_000,
        pattern_keys: 10_000,
        reactive: false,
    };
    let mut set = RuleSet { settings: Arc::new(settings), ..RuleSet::default() };
    let interval_ms = test_file.evaluation_interval_ms;
    // Each test compiles anew; what is wrong with a file is said once.
    let mut own = Diagnostics::new();
    for rule_file in files {
        let Some(read) = file::read(&rule_file.name, &rule_file.text, &mut own) else { continue };
        set.groups.extend(read.compile(interval_ms, &mut own).into_iter().map(Arc::new));
        let guess = |_: &str| None;
        let mut compiler = short::Compiler { plan: &mut plan, metric_type: &guess, interval_ms };
        compiler.compile(&read.alerts, &rule_file.name, &mut set, &mut own);
    }
    let failed = own.has_errors();
    if failed {
        found.absorb(own);
        return None;
    }
    let position = |name: &str| test_file.group_eval_order.iter().position(|known| known == name);
    set.groups.sort_by_key(|group| position(&group.name).unwrap_or(usize::MAX));
    Some((set, Arc::new(plan.build(1))))
}

/// One test as it runs.
struct World<'a> {
    file: &'a TestFile,
    case: &'a TestCase,
    rules: Rules,
    plan: Arc<FieldPlan>,
    decoder: Option<Decoder>,
    storage: TestStorage,
    /// The next point of each input series.
    next: Vec<usize>,
    next_event: usize,
    options: Options<'static>,
    failures: Vec<String>,
}

impl<'a> World<'a> {
    fn new(file: &'a TestFile, case: &'a TestCase, set: RuleSet, plan: Arc<FieldPlan>) -> Self {
        let start = Timestamp::from_millis(case.start_ms);
        Self {
            file,
            case,
            rules: Rules::new(set, start),
            plan,
            decoder: events::decoder(),
            storage: TestStorage::default(),
            next: vec![0; case.series.len()],
            next_event: 0,
            options: Options { subquery_step_ms: file.evaluation_interval_ms, ..Options::default() },
            failures: Vec::new(),
        }
    }

    fn run(&mut self) {
        let interval_ms = self.file.evaluation_interval_ms;
        let last_ms = self.case.alert_tests.iter().map(|test| test.at_ms).max().unwrap_or(0);
        let last_ms = self.case.expr_tests.iter().map(|test| test.at_ms).max().unwrap_or(0).max(last_ms);
        let mut tests: Vec<&AlertTest> = self.case.alert_tests.iter().collect();
        tests.sort_by_key(|test| test.at_ms);
        let mut tests = tests.into_iter().peekable();
        let mut tick_ms = 0;
        while tick_ms <= last_ms {
            self.load(tick_ms);
            self.evaluate(tick_ms);
            // A test belongs to the tick at or before its time.
            while let Some(test) = tests.next_if(|test| test.at_ms < tick_ms + interval_ms) {
                compare::alerts(test, &self.rules, &mut self.failures);
            }
            tick_ms += interval_ms;
        }
        self.load(i64::MAX);
        for test in &self.case.expr_tests {
            let (at_ms, fuzzy) = (self.case.start_ms + test.at_ms, self.file.fuzzy_compare);
            compare::expression(test, at_ms, &self.storage, &self.options, fuzzy, &mut self.failures);
        }
    }

    /// Puts the samples up to a time into the storage.
    fn load(&mut self, until_ms: i64) {
        for (series, next) in self.case.series.iter().zip(&mut self.next) {
            while let Some(point) = series.points.get(*next) {
                let t_ms = self.case.interval_ms.saturating_mul(*next as i64);
                if t_ms > until_ms {
                    break;
                }
                if let Some(value) = point {
                    self.storage.add(&series.labels, self.case.start_ms + t_ms, value, 0);
                }
                *next += 1;
            }
        }
    }

    /// Events up to a time, then every group once.
    fn evaluate(&mut self, tick_ms: i64) {
        while let Some(event) = self.case.events.get(self.next_event).filter(|event| event.at_ms <= tick_ms) {
            let at = Timestamp::from_millis(self.case.start_ms + event.at_ms);
            self.pass_time(at);
            self.next_event += 1;
            let Some(decoder) = &self.decoder else { continue };
            let batch = events::batch(decoder, event, &self.plan, at);
            let refused = batch
                .refused
                .iter()
                .map(|refusal| format!("{}event: {}", compare::place(&event.span), refusal.message));
            self.failures.extend(refused);
            let mut out = Effects::default();
            self.rules.observe(at, &batch, &self.storage, &mut out);
            self.record(out);
        }
        let now = Timestamp::from_millis(self.case.start_ms + tick_ms);
        self.pass_time(now);
        for job in self.rules.jobs_at(now) {
            let result = job.run(&self.storage, &self.options);
            let mut out = Effects::default();
            self.rules.apply(now, result, Duration::ZERO, &mut out);
            for (group, rule, error) in &out.failures {
                if let Some(error) = error {
                    self.failures.push(format!("rule {rule} of group {group} at {tick_ms}ms: {error}"));
                }
            }
            self.record(out);
        }
    }

    /// Event conditions that become true or false by themselves, each at its own time.
    fn pass_time(&mut self, until: Timestamp) {
        while let Some(due) = self.rules.events.next_due().filter(|due| *due <= until) {
            let mut out = Effects::default();
            self.rules.tick(due, &self.storage, &mut out);
            self.record(out);
        }
    }

    fn record(&mut self, out: Effects) {
        for sample in out.samples {
            let value = match sample.value {
                SampleValue::Float(value) => PointValue::Float(value),
                SampleValue::Histogram(histogram) => PointValue::Histogram { histogram, hint_given: true },
            };
            self.storage.add(&sample.labels, sample.t_ms, &value, 0);
        }
    }
}

#[cfg(test)]
mod tests;
