//! promtool's test files as read.

use super::input::{self, InputEvent};
use crate::config::reader::{self, MapReader};
use crate::config::yaml::Node;
use crate::config::{Diagnostics, Span, Spanned, yaml};
use crate::model::{AlertStatus, Labels, format_duration_ms};
use crate::promql::testing::{PointValue, SeriesNotation, parse_series};
use std::fmt;

/// A test file.
#[derive(Clone, Debug)]
pub struct TestFile {
    /// `rule_files:`, relative to the test file.
    pub rule_files: Vec<Spanned<String>>,
    /// `config:`, a sidewatch.yaml relative to the test file: everything it says is under test.
    pub config: Option<Spanned<String>>,
    /// `evaluation_interval:` in milliseconds (1 min, or with `config:` what that says).
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
    /// `expect_notifications:`; `None` when nothing is said of them. An empty list says that nobody is told.
    pub notifications: Option<Vec<ExpectedNotification>>,
    /// `alert_rule_test:`.
    pub alert_tests: Vec<AlertTest>,
    /// `promql_expr_test:`.
    pub expr_tests: Vec<ExprTest>,
    /// `external_labels:`.
    pub external_labels: Vec<(Spanned<String>, String)>,
    /// `external_url:`.
    pub external_url: String,
}

/// `{time: 10s, within: 1s, receiver: chat, status: firing, grouping: {...}, alerts: [{...}]}`.
#[derive(Clone, Debug)]
pub struct ExpectedNotification {
    /// Where it stands in the file.
    pub line: u32,
    /// `time:`, not before this many milliseconds from the start.
    pub at_ms: i64,
    /// `within:`, at most so many milliseconds later (1 s).
    pub within_ms: i64,
    /// `receiver:`.
    pub receiver: String,
    /// `status:` (firing).
    pub status: AlertStatus,
    /// `grouping:`, the labels of the group; `None` for any.
    pub grouping: Option<Labels>,
    /// `alerts:`, for each alert of the message labels that it has; empty for any.
    pub alerts: Vec<Labels>,
}

impl fmt::Display for ExpectedNotification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = if self.status == AlertStatus::Firing { "firing" } else { "resolved" };
        let (time, within) = (format_duration_ms(self.at_ms), format_duration_ms(self.within_ms));
        write!(f, "{time} (within {within}) {} {status}", self.receiver)?;
        if let Some(grouping) = &self.grouping {
            write!(f, " group {grouping}")?;
        }
        self.alerts.iter().try_for_each(|labels| write!(f, " {labels}"))
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
    let tests = map.each("tests", |node, found| case(node, evaluation_interval_ms, found));
    map.finish();
    if let Some(config) = &config
        && !rule_files.is_empty()
    {
        let hint = "name the rule files under rules: of the configuration";
        found.error_hint(&config.span, "config: and rule_files: do not go together", hint);
    }
    if config.is_none() && tests.iter().any(|test| test.notifications.is_some()) {
        let hint = "add config: with the sidewatch.yaml whose routes are meant";
        found.error_hint(&tree.span, "expect_notifications: needs config:", hint);
    }
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

fn case(node: &Node, default_interval_ms: i64, found: &mut Diagnostics) -> Option<TestCase> {
    let mut map = MapReader::new(node, "test", found)?;
    let name = map.string("name").map(|name| name.value).unwrap_or_default();
    let interval = map.duration_ms("interval").map_or(0, |interval| interval.value);
    let start_ms = map.get("start_timestamp").map_or(0, |node| start(node, map.found()));
    let series = map.each("input_series", series);
    let mut events: Vec<InputEvent> = map.each("input_events", input::read).into_iter().flatten().collect();
    events.sort_by_key(|event| event.at_ms);
    let notifications = map.get("expect_notifications").is_some();
    let notifications = notifications.then(|| map.each("expect_notifications", expected_notification));
    let alert_tests = map.each("alert_rule_test", alert_test);
    let expr_tests = map.each("promql_expr_test", expr_test);
    let external_labels = map.string_map("external_labels");
    let external_url = map.string("external_url").map(|url| url.value).unwrap_or_default();
    map.finish();
    Some(TestCase {
        name,
        interval_ms: if interval > 0 { interval } else { default_interval_ms },
        start_ms,
        series,
        events,
        notifications,
        alert_tests,
        expr_tests,
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

fn expected_notification(node: &Node, found: &mut Diagnostics) -> Option<ExpectedNotification> {
    let mut map = MapReader::new(node, "expected notification", found)?;
    let time = map.required_duration_ms("time");
    let within_ms = map.duration_ms("within").map_or(1_000, |within| within.value);
    let receiver = map.required_string("receiver");
    let words = [("firing", AlertStatus::Firing), ("resolved", AlertStatus::Resolved)];
    let status = map.one_of("status", &words).map_or(AlertStatus::Firing, |status| status.value);
    let has_grouping = map.get("grouping").is_some();
    let grouping = map.string_map("grouping");
    let alerts = map.each("alerts", |node, found| {
        let mut labels = Vec::new();
        for (name, value) in node.as_map().unwrap_or_default() {
            labels.push((name.as_str()?.to_owned(), reader::string(value, "label", found)?.value));
        }
        Some(Labels::from_pairs(labels.iter().map(|(name, value)| (name, value))))
    });
    map.finish();
    Some(ExpectedNotification {
        line: node.span.line,
        at_ms: time?.value,
        within_ms,
        receiver: receiver?.value,
        status,
        grouping: has_grouping.then(|| to_labels(&grouping)),
        alerts,
    })
}

fn alert_test(node: &Node, found: &mut Diagnostics) -> Option<AlertTest> {
    let mut map = MapReader::new(node, "alert test", found)?;
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
    Some(AlertTest { span: node.span.clone(), at_ms: at, alertname, expected })
}

fn to_labels(pairs: &[(Spanned<String>, Spanned<String>)]) -> Labels {
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
