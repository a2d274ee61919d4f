//! The short form of alerts, compiled to PromQL, labels, annotations and a route: no second engine.

mod event_texts;
mod quantity;

pub use quantity::{Quantity, parse_quantity};

use event_texts::event_texts;

use super::alert_state::Timing;
use super::events::{self, EventAlert};
use super::file::{is_metric_name, templates};
use super::rule::{Alerting, Group, Rule, RuleSet, ShortRoute, TemplatedLabels};
use super::slo::{self, SloAlert};
use crate::config::schema::{AlertConfig, AlertKind, Named, Pattern, ThresholdOp};
use crate::config::{Diagnostics, Spanned};
use crate::model::{FieldPath, FieldPlanBuilder, format_duration_ms};
use crate::promql::go_quote;
use crate::series::MetricType;
use crate::template::{Template, format_float};
use std::sync::Arc;

/// The group that short-form alerts on metrics and expressions become.
pub const SHORT_GROUP: &str = "alerts";

/// What `over` is when it is not written, in milliseconds.
const DEFAULT_OVER_MS: i64 = 5 * 60_000;

/// Names the labels of a series in a message.
const LABELS: &str =
    "{{ range $name, $value := $labels }}{{ if ne $name \"__name__\" }} {{ $name }}={{ $value }}{{ end }}{{ end }}";

/// Compiles `alerts:` of one file after the other.
pub struct Compiler<'a> {
    /// Fields that event conditions need.
    pub plan: &'a mut FieldPlanBuilder,
    /// The type of a metric.
    pub metric_type: &'a dyn Fn(&str) -> Option<MetricType>,
    /// How often the alerts evaluate, in milliseconds.
    pub interval_ms: i64,
}

impl Compiler<'_> {
    /// Adds the alerts of a file to the set.
    pub fn compile(
        &mut self,
        alerts: &[Named<AlertConfig>],
        file: &Arc<str>,
        set: &mut RuleSet,
        found: &mut Diagnostics,
    ) {
        let (mut rules, mut objectives) = (Vec::new(), Vec::new());
        for alert in alerts {
            let config = &alert.value;
            let timing = Timing { for_ms: config.for_ms, keep_firing_for_ms: config.keep_firing_for_ms };
            let written = self.expression(alert, found);
            let texts = match (&config.kind, &written) {
                (AlertKind::Event(_), _) => event_texts(alert),
                (AlertKind::Slo(slo), _) => slo::texts(&alert.name.value, slo),
                (_, Some(written)) => written.texts.clone(),
                _ => Vec::new(),
            };
            let labels = labels(config, found);
            let annotations = annotations(config, texts, found);
            let name: Arc<str> = alert.name.value.as_str().into();
            if let AlertKind::Event(condition) = &config.kind {
                let event = EventAlert { name, file: file.clone(), labels, annotations, timing };
                set.events.extend(events::compile(event, condition, self.plan, found).map(Arc::new));
            } else if let AlertKind::Slo(config) = &config.kind {
                let objective = SloAlert { name, file: file.clone(), labels, annotations, timing };
                let counted = |name: &str| (self.metric_type)(name).is_some();
                let compiled = slo::compile(&objective, config, set.slos.len(), &counted, self.plan, found);
                if let Some((slo, rules)) = compiled {
                    set.slos.push(Arc::new(slo));
                    objectives.extend(rules.into_iter().map(Arc::new));
                }
            } else if let Some(written) = written {
                let span = &written.expr.span;
                let expression = match super::expression::Expression::parse(&written.expr.value) {
                    Ok(expression) => expression,
                    Err(error) => {
                        let place = found.locate_offset(&written.expr, error.offset);
                        let place = if matches!(config.kind, AlertKind::Expr(_)) { &place } else { span };
                        found.error(place, format!("could not parse expression: {}", error.message));
                        continue;
                    }
                };
                let alerting = Some(Alerting { timing, annotations });
                rules.push(Arc::new(Rule { name, expression, labels, alerting, feeds: None }));
            }
            let route = ShortRoute { alertname: alert.name.value.clone(), receivers: config.notify.clone() };
            set.routes.push(route);
        }
        for (group, rules) in [(SHORT_GROUP, rules), (slo::SLO_GROUP, objectives)] {
            if rules.is_empty() {
                continue;
            }
            set.groups.push(Arc::new(Group {
                name: group.into(),
                file: file.clone(),
                interval_ms: self.interval_ms.max(10),
                limit: 0,
                query_offset_ms: 0,
                aligned: false,
                rules,
            }));
        }
    }

    /// The PromQL of an alert on a metric or an expression.
    fn expression(&self, alert: &Named<AlertConfig>, found: &mut Diagnostics) -> Option<Written> {
        match &alert.value.kind {
            AlertKind::Event(_) | AlertKind::Slo(_) => None,
            AlertKind::Expr(expr) => {
                let since = since(alert.value.for_ms);
                let texts = vec![
                    ("summary", format!("{}: {{{{ $value | humanize }}}}{LABELS}", escaped(&alert.name.value))),
                    (
                        "description",
                        format!(
                            "The expression gives {{{{ $value | humanize }}}}{since}: {}",
                            escaped(expr.value.trim())
                        ),
                    ),
                ];
                Some(Written { expr: expr.clone(), texts })
            }
            AlertKind::Metric { metric, of, stat, over_ms, by, matchers, op, threshold } => {
                let metric = MetricAlert { metric, of, stat, over_ms: *over_ms, by, matchers, op: *op, threshold };
                metric.write(alert, self.metric_type, found)
            }
        }
    }
}

/// A generated or given expression with the default texts of its messages.
struct Written {
    expr: Spanned<String>,
    texts: Vec<(&'static str, String)>,
}

struct MetricAlert<'a> {
    metric: &'a Spanned<String>,
    of: &'a Option<Spanned<String>>,
    stat: &'a Option<Spanned<String>>,
    over_ms: Option<i64>,
    by: &'a [Spanned<FieldPath>],
    matchers: &'a [(Spanned<String>, Pattern)],
    op: ThresholdOp,
    threshold: &'a Spanned<String>,
}

impl MetricAlert<'_> {
    fn write(
        &self,
        alert: &Named<AlertConfig>,
        metric_type: &dyn Fn(&str) -> Option<MetricType>,
        found: &mut Diagnostics,
    ) -> Option<Written> {
        for name in std::iter::once(self.metric).chain(self.of) {
            if !is_metric_name(&name.value) {
                let message = format!("{:?} is not a metric name", name.value);
                found.error_hint(&name.span, message, "write the expression as `expr:` instead");
                return None;
            }
        }
        let kind = metric_type(&self.metric.value);
        if kind.is_none() {
            found.warning(
                &self.metric.span,
                format!(
                    "no mapping or automatic metric is called {:?}; it must be received from elsewhere",
                    self.metric.value
                ),
            );
        }
        let kind = kind.unwrap_or_else(|| guess_type(&self.metric.value));
        let stat = self.stat(kind, found)?;
        let quantity = self.quantity(&stat, found)?;
        let over = format_duration_ms(self.over_ms.filter(|over| *over > 0).unwrap_or(DEFAULT_OVER_MS));
        let by: Vec<&str> = self.by.iter().map(|path| path.value.last_name()).collect();
        let selector = self.selector(&self.metric.value, found)?;
        let numerator = stat.promql(&selector, kind, &over, &by, self.over_ms.is_some());
        let value = match self.of {
            None => numerator,
            Some(of) => {
                let selector = self.selector(&of.value, found)?;
                let of_kind = metric_type(&of.value).unwrap_or_else(|| guess_type(&of.value));
                format!("{numerator} / {}", stat.promql(&selector, of_kind, &over, &by, self.over_ms.is_some()))
            }
        };
        let symbol = match self.op {
            ThresholdOp::Above => ">",
            ThresholdOp::Below => "<",
            ThresholdOp::AtLeast => ">=",
            ThresholdOp::AtMost => "<=",
        };
        let expr = format!("{value} {symbol} {}", format_float(quantity.value, 'g', None));
        Some(Written {
            expr: Spanned::new(expr, self.metric.span.clone()),
            texts: self.texts(alert, &stat, &quantity, &over, &by),
        })
    }

    fn stat(&self, kind: MetricType, found: &mut Diagnostics) -> Option<Stat> {
        let Some(written) = self.stat else {
            return match kind {
                MetricType::Counter => Some(Stat::Rate),
                MetricType::Histogram | MetricType::GaugeHistogram => {
                    let message = format!("{:?} is a histogram, so that `stat` is needed", self.metric.value);
                    found.error_hint(
                        &self.metric.span,
                        message,
                        "stat: p99 (any pNN), avg, rate (observations per second)",
                    );
                    None
                }
                _ => Some(Stat::Last),
            };
        };
        let Some(stat) = Stat::parse(&written.value) else {
            let words = ["rate", "increase", "last", "avg", "min", "max", "sum", "p50", "p90", "p95", "p99", "p999"];
            let message = format!("unknown stat {:?}", written.value);
            match crate::config::diagnostic::nearest(&written.value, words) {
                Some(near) => found.error_hint(&written.span, message, format!("did you mean {near:?}?")),
                None => found.error_hint(&written.span, message, format!("one of {}", words.join(", "))),
            }
            return None;
        };
        let fits = match kind {
            MetricType::Counter => matches!(stat, Stat::Rate | Stat::Increase | Stat::Last),
            MetricType::Histogram => matches!(stat, Stat::Rate | Stat::Increase | Stat::Avg | Stat::Quantile(_)),
            _ => !matches!(stat, Stat::Rate | Stat::Increase),
        };
        if !fits {
            let (what, stats) = match kind {
                MetricType::Counter => ("counter", "rate, increase, last"),
                MetricType::Histogram => ("histogram", "pNN, avg, rate, increase"),
                _ => ("gauge", "last, avg, min, max, sum, pNN (over time)"),
            };
            let message = format!("stat {:?} does not fit {:?}, which is a {what}", written.value, self.metric.value);
            found.error_hint(&written.span, message, format!("a {what} has {stats}"));
            return None;
        }
        if self.of.is_some() && !matches!(stat, Stat::Rate | Stat::Increase | Stat::Last | Stat::Sum | Stat::Avg) {
            found.error(&written.span, format!("a ratio (`of`) of {} makes no sense", written.value));
            return None;
        }
        Some(stat)
    }

    /// The threshold in the metric's base unit.
    fn quantity(&self, stat: &Stat, found: &mut Diagnostics) -> Option<Quantity> {
        let quantity = match parse_quantity(&self.threshold.value) {
            Ok(quantity) => quantity,
            Err(message) => {
                found.error(&self.threshold.span, message);
                return None;
            }
        };
        let unit = quantity.unit.as_str();
        let name = self.metric.value.trim_end_matches("_total");
        if name.ends_with("_percent") && unit == "%" {
            // Such a metric counts from 0 to 100.
            return Some(Quantity { value: quantity.value * 100.0, unit: "percent".into() });
        }
        if self.of.is_some() {
            if !matches!(unit, "" | "%") {
                let message = format!("{:?}: a ratio has no unit", self.threshold.value);
                found.error_hint(&self.threshold.span, message, "write 5% or 0.05");
                return None;
            }
            return Some(quantity);
        }
        // A rate of seconds is a share of time; the number of observations has no unit.
        let counts = matches!(stat, Stat::Rate | Stat::Increase);
        let base = if name.ends_with("_seconds") {
            "s"
        } else if name.ends_with("_bytes") {
            "B"
        } else if name.ends_with("_ratio") {
            "%"
        } else {
            ""
        };
        if base == "s" && unit.is_empty() && !counts && quantity.value != 0.0 {
            let message = format!("{:?} is in seconds, and {:?} has no unit", self.metric.value, self.threshold.value);
            found.error_hint(
                &self.threshold.span,
                message,
                format!("write {0}s or {0}ms", self.threshold.value.trim()),
            );
            return None;
        }
        let expected = if counts && base == "s" { "" } else { base };
        let fits = unit.is_empty() || unit == expected || (unit == "%" && expected.is_empty() && !counts);
        if !fits {
            let message = format!("{:?} does not fit {:?}", self.threshold.value, self.metric.value);
            let hint = match expected {
                "s" => "it is in seconds: write 500ms or 2s",
                "B" => "it is in bytes: write 10MiB",
                _ => "it has no unit: write a plain number",
            };
            found.error_hint(&self.threshold.span, message, hint);
            return None;
        }
        Some(Quantity { unit: if unit.is_empty() { expected.into() } else { quantity.unit }, ..quantity })
    }

    fn selector(&self, metric: &str, found: &mut Diagnostics) -> Option<String> {
        if self.matchers.is_empty() {
            return Some(metric.to_owned());
        }
        let mut parts = Vec::with_capacity(self.matchers.len());
        for (name, pattern) in self.matchers {
            match pattern {
                Pattern::Glob(value) => parts.push(format!("{}={}", name.value, go_quote(&value.value))),
                Pattern::Regex(value) => {
                    if let Err(error) = regex::Regex::new(&value.value) {
                        found.error(&value.span, format!("not a regular expression: {error}"));
                        return None;
                    }
                    parts.push(format!("{}=~{}", name.value, go_quote(&value.value)));
                }
            }
        }
        Some(format!("{metric}{{{}}}", parts.join(",")))
    }

    /// Default messages that say what, how much, what is allowed and for how long.
    fn texts(
        &self,
        alert: &Named<AlertConfig>,
        stat: &Stat,
        quantity: &Quantity,
        over: &str,
        by: &[&str],
    ) -> Vec<(&'static str, String)> {
        let value = match (self.of.is_some(), quantity.unit.as_str()) {
            (_, "percent") => "{{ $value | humanize }}%",
            (true, _) | (_, "%") => "{{ $value | humanizePercentage }}",
            (_, "s") => "{{ $value | humanizeDuration }}",
            (_, "B") => "{{ $value | humanize1024 }}B",
            _ => "{{ $value | humanize }}",
        };
        let what = match self.of {
            Some(of) => format!("{} of {}", self.metric.value, of.value),
            None => format!("{}{}", stat.words(), self.metric.value),
        };
        let per = if self.of.is_none() && matches!(stat, Stat::Rate) { " per second" } else { "" };
        let which: Vec<String> = by.iter().map(|name| format!("{name} {{{{ $labels.{name} }}}}")).collect();
        let which = if which.is_empty() { String::new() } else { format!(" for {}", which.join(", ")) };
        let relation = match self.op {
            ThresholdOp::Above => "above",
            ThresholdOp::Below => "below",
            ThresholdOp::AtLeast => "at least",
            ThresholdOp::AtMost => "at most",
        };
        let limit = self.threshold.value.trim();
        let window =
            if matches!(stat, Stat::Last) && self.over_ms.is_none() { String::new() } else { format!(" over {over}") };
        let since = since(alert.value.for_ms);
        vec![
            ("summary", format!("{what} is {value}{per}{which} ({relation} {limit})")),
            (
                "description",
                format!("{what}{window} is {value}{per}{which}, {relation} the threshold of {limit}{since}."),
            ),
        ]
    }
}

/// A metric that nobody here makes: its name tells.
fn guess_type(name: &str) -> MetricType {
    if name.ends_with("_total") || name.ends_with("_count") || name.ends_with("_sum") || name.ends_with("_bucket") {
        MetricType::Counter
    } else {
        MetricType::Gauge
    }
}

/// How a series becomes one number.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Stat {
    Rate,
    Increase,
    Last,
    Avg,
    Min,
    Max,
    Sum,
    Quantile(f64),
}

impl Stat {
    fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "rate" => Self::Rate,
            "increase" => Self::Increase,
            "last" => Self::Last,
            "avg" => Self::Avg,
            "min" => Self::Min,
            "max" => Self::Max,
            "sum" => Self::Sum,
            _ => {
                // p50, p99, p999 and p99.9 are quantiles: the first two digits stand before the point.
                let digits = text.strip_prefix('p')?;
                if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
                    return None;
                }
                let number: f64 = digits.parse().ok()?;
                let places = if digits.contains('.') { 2 } else { digits.len().max(2) };
                let quantile = number / 10_f64.powi(places as i32);
                if !(0.0..=1.0).contains(&quantile) || digits.len() == 1 {
                    return None;
                }
                // 0.99 rather than 0.9900000000000001.
                Self::Quantile((quantile * 1e9).round() / 1e9)
            }
        })
    }

    fn words(self) -> String {
        match self {
            Self::Rate => "rate of ".into(),
            Self::Increase => "increase of ".into(),
            Self::Last => String::new(),
            Self::Avg => "average of ".into(),
            Self::Min => "minimum of ".into(),
            Self::Max => "maximum of ".into(),
            Self::Sum => "sum of ".into(),
            Self::Quantile(quantile) => format!("p{} of ", format_float((quantile * 1e8).round() / 1e6, 'g', None)),
        }
    }

    fn promql(self, selector: &str, kind: MetricType, over: &str, by: &[&str], windowed: bool) -> String {
        let grouped = |aggregation: &str, inner: String| match by {
            [] => format!("{aggregation}({inner})"),
            _ => format!("{aggregation} by ({}) ({inner})", by.join(", ")),
        };
        match (self, kind) {
            (Self::Rate, MetricType::Histogram) => grouped("sum", format!("histogram_count(rate({selector}[{over}]))")),
            (Self::Increase, MetricType::Histogram) => {
                grouped("sum", format!("histogram_count(increase({selector}[{over}]))"))
            }
            (Self::Avg, MetricType::Histogram) => {
                let sum = grouped("sum", format!("rate({selector}[{over}])"));
                format!("histogram_avg({sum})")
            }
            (Self::Quantile(quantile), MetricType::Histogram) => {
                let sum = grouped("sum", format!("rate({selector}[{over}])"));
                format!("histogram_quantile({quantile}, {sum})")
            }
            (Self::Rate, _) => grouped("sum", format!("rate({selector}[{over}])")),
            (Self::Increase, _) => grouped("sum", format!("increase({selector}[{over}])")),
            // Without `by` a gauge keeps its labels: one alert for each series, which the message can name.
            (Self::Last, MetricType::Counter) => grouped("sum", selector.to_owned()),
            (Self::Last, _) if by.is_empty() => selector.to_owned(),
            (Self::Last, _) => grouped("sum", selector.to_owned()),
            (Self::Avg, _) => over_time("avg", selector, over, by, windowed, &grouped),
            (Self::Min, _) => over_time("min", selector, over, by, windowed, &grouped),
            (Self::Max, _) => over_time("max", selector, over, by, windowed, &grouped),
            (Self::Sum, _) => over_time("sum", selector, over, by, windowed, &grouped),
            (Self::Quantile(quantile), _) => {
                let inner = format!("quantile_over_time({quantile}, {selector}[{over}])");
                if by.is_empty() { inner } else { grouped("max", inner) }
            }
        }
    }
}

fn over_time(
    stat: &str,
    selector: &str,
    over: &str,
    by: &[&str],
    windowed: bool,
    grouped: &dyn Fn(&str, String) -> String,
) -> String {
    match (windowed, by.is_empty()) {
        (true, true) => format!("{stat}_over_time({selector}[{over}])"),
        (true, false) => grouped(stat, format!("{stat}_over_time({selector}[{over}])")),
        (false, _) => grouped(stat, selector.to_owned()),
    }
}

fn since(for_ms: i64) -> String {
    if for_ms > 0 { format!(" for more than {}", format_duration_ms(for_ms)) } else { String::new() }
}

/// A text that stands in a template as it is.
fn escaped(text: &str) -> String {
    text.replace("{{", "{{ \"{{\" }}")
}

fn labels(config: &AlertConfig, found: &mut Diagnostics) -> TemplatedLabels {
    let mut all = config.labels.clone();
    if let Some(severity) = &config.severity
        && !all.iter().any(|(name, _)| name.value == "severity")
    {
        all.push((Spanned::new("severity".into(), severity.span.clone()), severity.clone()));
    }
    templates(&all, found)
}

fn annotations(config: &AlertConfig, texts: Vec<(&'static str, String)>, found: &mut Diagnostics) -> TemplatedLabels {
    let mut out = templates(&config.annotations, found);
    for (name, text) in texts {
        if !out.iter().any(|(known, _)| &**known == name) {
            // Generated from checked names; a text that is no template after all stands as it is.
            out.push((name.into(), Template::parse(&text).unwrap_or_else(|_| Template::literal(&text))));
        }
    }
    if let Some(runbook) = &config.runbook
        && !out.iter().any(|(known, _)| &**known == "runbook_url")
    {
        out.push(("runbook_url".into(), Template::literal(runbook)));
    }
    out
}

#[cfg(test)]
mod tests;
