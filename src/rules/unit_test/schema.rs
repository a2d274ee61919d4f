//! promtool's test files as read.

use super::extras::{self, ExpectedNotification, InputEvent};
use crate::config::reader::{self, MapReader};
use crate::config::yaml::Node;
use crate::config::{Diagnostics, Span, Spanned, yaml};
use crate::model::Labels;
use crate::promql::testing::{PointValue, SeriesNotation, parse_series};

/// A test file.
#[derive(Clone, Debug)]
pub struct TestFile {
    /// `rule_files:`, relative to the test file.
    pub rule_files: Vec<Spanned<String>>,
    /// `config:`, the sidewatch.yaml under test, relative to the test file.
    pub config: Option<Spanned<String>>,
    /// `evaluation_interval:` in milliseconds (1 min, or with `config` what it says).
    pub evaluation_interval_ms: i64,
    /// Whether the file gives `evaluation_interval:`.
    pub interval_given: bool,
    /// `group_eval_order:`.
    pub group_eval_order: Vec<String>,
    /// `fuzzy_compare:`.
    pub fuzzy_compare: bool,
    /// `tests:`.
    pub tests: Vec<TestCase>,
}

/// One test.
#[derive(Clone, Debug)]
pub struct TestCase {
    /// `name:`.
    pub name: String,
    /// `interval:` between the points of the input, in milliseconds.
    pub interval_ms: i64,
    /// `start_timestamp:` in milliseconds since the epoch (0).
    pub start_ms: i64,
    /// `input_series:`.
    pub series: Vec<SeriesNotation>,
    /// `input_events:`, in order of time.
    pub events: Vec<InputEvent>,
    /// `alert_rule_test:`.
    pub alert_tests: Vec<AlertTest>,
    /// `promql_expr_test:`.
    pub expr_tests: Vec<ExprTest>,
    /// `expect_notifications:`.
    pub notifications: Vec<ExpectedNotification>,
    /// `external_labels:`.
    pub external_labels: Vec<(Spanned<String>, String)>,
    /// `external_url:`.
    pub external_url: String,
}

impl TestCase {
    /// Its name, or its number for one without.
    pub fn title(&self, at: usize) -> String {
        if self.name.is_empty() { format!("test {}", at + 1) } else { self.name.clone() }
    }

    /// The last moment that anything is expected of, in milliseconds from the start.
    pub fn last_ms(&self) -> i64 {
        let alerts = self.alert_tests.iter().map(|test| test.at_ms);
        let exprs = self.expr_tests.iter().map(|test| test.at_ms);
        alerts.chain(exprs).chain(self.notifications.iter().map(|one| one.until_ms())).max().unwrap_or(0)
    }
}

/// One expectation about an alert.
#[derive(Clone, Debug)]
pub struct AlertTest {
    /// Where it stands.
    pub span: Span,
    /// `eval_time:` in milliseconds.
    pub at_ms: i64,
    /// `alertname:`.
    pub alertname: String,
    /// `exp_alerts:`.
    pub expected: Vec<ExpectedAlert>,
}

/// One firing alert that is expected.
#[derive(Clone, Debug)]
pub struct ExpectedAlert {
    /// `exp_labels:` with the alert's name.
    pub labels: Labels,
    /// `exp_annotations:`.
    pub annotations: Labels,
}

/// One expectation about an expression.
#[derive(Clone, Debug)]
pub struct ExprTest {
    /// `expr:`.
    pub expr: Spanned<String>,
    /// `eval_time:` in milliseconds.
    pub at_ms: i64,
    /// `exp_samples:`.
    pub expected: Vec<(Labels, PointValue)>,
}

/// Reads a test file; what is wrong goes to `found`.
pub fn read(file: &str, text: &str, found: &mut Diagnostics) -> Option<TestFile> {
    let tree = yaml::parse(file, text, found)?;
    let mut map = MapReader::new(&tree, "test file", found)?;
    let rule_files = map.strings("rule_files");
    let config = map.string("config");
    let interval = map.duration_ms("evaluation_interval").map_or(0, |interval| interval.value);
    let group_eval_order = map.strings("group_eval_order").into_iter().map(|name| name.value).collect();
    let fuzzy_compare = map.boolean("fuzzy_compare").is_some_and(|fuzzy| fuzzy.value);
    let evaluation_interval_ms = if interval > 0 { interval } else { 60_000 };
    let tests = map.each("tests", |node, found| case(node, evaluation_interval_ms, config.is_some(), found));
    map.finish();
    let interval_given = interval > 0;
    Some(TestFile {
        rule_files,
        config,
        evaluation_interval_ms,
        interval_given,
        group_eval_order,
        fuzzy_compare,
        tests,
    })
}

fn case(node: &Node, default_interval_ms: i64, configured: bool, found: &mut Diagnostics) -> Option<TestCase> {
    let mut map = MapReader::new(node, "test", found)?;
    let name = map.string("name").map(|name| name.value).unwrap_or_default();
    let interval = map.duration_ms("interval").map_or(0, |interval| interval.value);
    let start_ms = map.get("start_timestamp").map_or(0, |node| start(node, map.found()));
    let series = map.each("input_series", series);
    let mut events: Vec<InputEvent> = map.each("input_events", extras::events).into_iter().flatten().collect();
    events.sort_by_key(|event| event.at_ms);
    let alert_tests = map.each("alert_rule_test", alert_test);
    let expr_tests = map.each("promql_expr_test", expr_test);
    let notifications = map.each("expect_notifications", extras::notification);
    if let Some((key, _)) = map.entry("expect_notifications")
        && !configured
    {
        let message = "expect_notifications needs the routes of a configuration";
        map.found().error_hint(&key.span, message, "name it at the top of the file: config: sidewatch.yaml");
    }
    let external_labels = map.string_map("external_labels");
    let external_url = map.string("external_url").map(|url| url.value).unwrap_or_default();
    map.finish();
    Some(TestCase {
        name,
        interval_ms: if interval > 0 { interval } else { default_interval_ms },
        start_ms,
        series,
        events,
        alert_tests,
        expr_tests,
        notifications,
        external_labels: external_labels.into_iter().map(|(name, value)| (name, value.value)).collect(),
        external_url,
    })
}

/// RFC 3339, or seconds since the epoch.
fn start(node: &Node, found: &mut Diagnostics) -> i64 {
    let text = node.as_str().unwrap_or_default();
    if let Ok(seconds) = text.parse::<f64>() {
        return (seconds * 1e3) as i64;
    }
    match text.parse::<jiff::Timestamp>() {
        Ok(moment) => moment.as_millisecond(),
        Err(error) => {
            found.error(&node.span, format!("start_timestamp: not a time: {error}"));
            0
        }
    }
}

fn series(node: &Node, found: &mut Diagnostics) -> Option<SeriesNotation> {
    let mut map = MapReader::new(node, "input series", found)?;
    let series = map.required_string("series");
    let values = map.required_string("values");
    map.finish();
    let (series, values) = (series?, values?);
    match parse_series(&format!("{} {}", series.value, values.value)) {
        Ok(notation) => Some(notation),
        Err(message) => {
            found.error(&series.span, format!("series: {message}"));
            None
        }
    }
}

fn alert_test(node: &Node, found: &mut Diagnostics) -> Option<AlertTest> {
    let mut map = MapReader::new(node, "alert test", found)?;
    let span = map.span().clone();
    let at = map.duration_ms("eval_time").map_or(0, |at| at.value);
    let alertname = map.required_string("alertname").map(|name| name.value);
    let alerts = map.each("exp_alerts", |node, found| {
        let mut map = MapReader::new(node, "expected alert", found)?;
        let labels = map.string_map("exp_labels");
        let annotations = map.string_map("exp_annotations");
        map.finish();
        Some((labels, annotations))
    });
    map.finish();
    let alertname = alertname?;
    let expected = alerts
        .into_iter()
        .map(|(labels, annotations)| ExpectedAlert {
            labels: to_labels(&labels).with("alertname", &alertname),
            annotations: to_labels(&annotations),
        })
        .collect();
    Some(AlertTest { span, at_ms: at, alertname, expected })
}

pub(super) fn to_labels(pairs: &[(Spanned<String>, Spanned<String>)]) -> Labels {
    Labels::from_pairs(pairs.iter().map(|(name, value)| (&name.value, &value.value)))
}

fn expr_test(node: &Node, found: &mut Diagnostics) -> Option<ExprTest> {
    let mut map = MapReader::new(node, "expression test", found)?;
    let expr = map.required_string("expr");
    let at_ms = map.duration_ms("eval_time").map_or(0, |at| at.value);
    let expected = map.each("exp_samples", expected_sample);
    map.finish();
    Some(ExprTest { expr: expr?, at_ms, expected })
}

fn expected_sample(node: &Node, found: &mut Diagnostics) -> Option<(Labels, PointValue)> {
    let mut map = MapReader::new(node, "expected sample", found)?;
    let labels = map.string("labels");
    let value = map.get("value");
    let histogram = map.string("histogram");
    map.finish();
    let written = match (&histogram, value) {
        (Some(histogram), _) => histogram.value.clone(),
        (None, Some(node)) => reader::float(node, "value", found)?.value.to_string(),
        (None, None) => "0".into(),
    };
    let series = labels.as_ref().map(|labels| labels.value.trim()).filter(|labels| !labels.is_empty()).unwrap_or("{}");
    match parse_series(&format!("{series} {written}")) {
        Ok(mut notation) => notation.points.pop().flatten().map(|value| (notation.labels, value)),
        Err(message) => {
            found.error(&labels.map_or_else(|| node.span.clone(), |labels| labels.span), format!("labels: {message}"));
            None
        }
    }
}
