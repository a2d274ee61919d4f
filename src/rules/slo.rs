//! Service level objectives: `slo: {good: ..., total: ..., target: 99.9%, window: 30d}` becomes the multi-window
//! multi-burn-rate alerts of the Google SRE workbook (chapter 5, "Alerting on SLOs", 6), recording rules and their tests.
//!
//! | burns so fast | over | and still over | severity |
//! |---|---|---|---|
//! | 14.4 times (2 % of the budget in the long window) | 1h | 5m | critical |
//! | 6 times (5 %) | 6h | 30m | critical |
//! | 3 times (10 %) | 1d | 2h | warning |
//! | once (10 %) | 3d | 6h | warning |
//!
//! Those are the windows of 30 days; another window scales them, so that the shares of the budget stay.
//!
//! Rings reach back an hour, so that the ratios of these windows cannot be computed by PromQL here: [`Objectives`] keeps
//! sums ([`sums`]), in the checkpoint, and writes the series that the recording rules would write. The alerts read those
//! series: they are the same rules here and in Prometheus. [`export`] prints them as a rule file with its tests.

mod export;
mod state;
mod sums;

pub use export::{rules_yaml, tests_yaml};
pub use state::{Objectives, ObjectivesSnapshot, SloCounters};

use super::alert_state::Timing;
use super::expression::Expression;
use super::rule::{Alerting, Feed, Rule, TemplatedLabels};
use crate::config::Diagnostics;
use crate::config::schema::{SloConfig, SloSeries};
use crate::mapping::select::Select;
use crate::model::{FieldPlanBuilder, format_duration_ms};
use crate::promql::go_quote;
use crate::template::format_float;
use std::sync::Arc;

/// The group that the rules of objectives stand in.
pub const SLO_GROUP: &str = "slo";

/// Factor, long window and short window of 30 days in milliseconds, and whether it is urgent.
const PAIRS: [(f64, i64, i64, bool); 4] = [
    (14.4, HOUR_MS, 5 * MINUTE_MS, true),
    (6.0, 6 * HOUR_MS, 30 * MINUTE_MS, true),
    (3.0, 24 * HOUR_MS, 2 * HOUR_MS, false),
    (1.0, 72 * HOUR_MS, 6 * HOUR_MS, false),
];
const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 3_600_000;
const MONTH_MS: i64 = 30 * 24 * HOUR_MS;
/// No window is shorter: the sums are of ten seconds.
const MIN_SHORT_MS: i64 = 10_000;
const MIN_LONG_MS: i64 = 60_000;

/// A burn rate with its two windows.
#[derive(Clone, Debug, PartialEq)]
pub struct BurnRate {
    /// How many times faster than allowed the budget burns.
    pub factor: f64,
    /// The window that says that it matters, in milliseconds.
    pub long_ms: i64,
    /// The window that says that it goes on, in milliseconds.
    pub short_ms: i64,
    /// Somebody must look at it now.
    pub urgent: bool,
}

/// Where the counts come from.
#[derive(Debug)]
pub enum SloInput {
    /// Events, judged by their own times.
    Events {
        /// `good` or `error`.
        part: Box<Select>,
        /// `total`.
        total: Box<Select>,
    },
    /// Counters.
    Series {
        /// `good` or `error`, as a selector.
        part: String,
        /// `total`, as a selector.
        total: String,
        /// sidewatch counts them itself: a series that appears began at 0.
        from_zero: bool,
    },
}

/// A compiled objective.
#[derive(Debug)]
pub struct Slo {
    /// The alert's name, and the label `slo` of its series.
    pub name: Arc<str>,
    /// Where it was configured.
    pub file: Arc<str>,
    /// What is counted.
    pub input: SloInput,
    /// The part that is counted is the bad one.
    pub part_is_bad: bool,
    /// The share that must be good.
    pub target: f64,
    /// The window of the budget, in milliseconds.
    pub window_ms: i64,
    /// The alerts that can fire.
    pub burn_rates: Vec<BurnRate>,
    /// The configured sources that count; empty for all.
    pub sources: Vec<Arc<str>>,
    /// In words, for the API.
    pub text: String,
    /// What is counted, as configured: the sums carry over while it is unchanged, whatever the target.
    pub identity: String,
}

impl Slo {
    /// The share that may be bad.
    pub fn budget(&self) -> f64 {
        // 0.001 rather than 0.0010000000000000009.
        ((1.0 - self.target) * 1e12).round() / 1e12
    }

    /// The windows of all burn rates, shortest first, each once, in milliseconds.
    pub fn windows_ms(&self) -> Vec<i64> {
        let mut windows: Vec<i64> = self.burn_rates.iter().flat_map(|rate| [rate.short_ms, rate.long_ms]).collect();
        windows.sort_unstable();
        windows.dedup();
        windows
    }

    /// The matchers that name its series.
    fn selector(&self) -> String {
        format!("{{slo={}}}", go_quote(&self.name))
    }
}

/// The name of the series with the share of bad ones over a window.
pub fn ratio_metric(window_ms: i64) -> String {
    format!("slo:sli_error:ratio_rate{}", format_duration_ms(window_ms))
}

/// What the compiler of the short form hands over.
pub(super) struct SloAlert {
    pub name: Arc<str>,
    pub file: Arc<str>,
    /// Labels without `severity`, unless one was given.
    pub labels: TemplatedLabels,
    pub annotations: TemplatedLabels,
    pub timing: Timing,
}

/// Compiles an objective to what is counted and the rules that read it; `index` is its place in the set.
pub(super) fn compile(
    alert: &SloAlert,
    config: &SloConfig,
    index: usize,
    known: &dyn Fn(&str) -> bool,
    plan: &mut FieldPlanBuilder,
    found: &mut Diagnostics,
) -> Option<(Slo, Vec<Rule>)> {
    let words = if config.part_is_bad { "error" } else { "good" };
    let (input, counted) = match (&config.part, &config.total) {
        (SloSeries::Events(part), SloSeries::Events(total)) => {
            let (part, total) = (Select::compile(part, plan, found), Select::compile(total, plan, found));
            let (part, total) = (part?, total?);
            let text = format!("{words}({}) of total({})", part.text(), total.text());
            (SloInput::Events { part: Box::new(part), total: Box::new(total) }, text)
        }
        (SloSeries::Series(part), SloSeries::Series(total)) => {
            let selector = |text: &crate::config::Spanned<String>, found: &mut Diagnostics| {
                let parsed = Expression::parse(text.value.trim());
                match parsed {
                    Ok(parsed) if parsed.is_selector() => Some(parsed),
                    Ok(_) => {
                        let message = format!("{:?} is more than a selector of counters", text.value);
                        found.error_hint(
                            &text.span,
                            message,
                            "write http_requests_total{code!~\"5..\"}; rates are made of it",
                        );
                        None
                    }
                    Err(error) => {
                        let place = found.locate_offset(text, error.offset);
                        found.error(&place, format!("could not parse selector: {}", error.message));
                        None
                    }
                }
            };
            let (part, total) = (selector(part, found), selector(total, found));
            let (part, total) = (part?, total?);
            let from_zero = part.metric_names().iter().chain(&total.metric_names()).all(|name| known(name));
            let text = format!("{words}({}) of total({})", part.text(), total.text());
            (SloInput::Series { part: part.text().into(), total: total.text().into(), from_zero }, text)
        }
        // The reader has refused a mixture.
        _ => return None,
    };
    let target = config.target.value;
    let scale = |ms: i64, least: i64| {
        let scaled = i128::from(ms) * i128::from(config.window_ms) / i128::from(MONTH_MS);
        let rounded = (i64::try_from(scaled).unwrap_or(i64::MAX) + MIN_SHORT_MS / 2) / MIN_SHORT_MS * MIN_SHORT_MS;
        rounded.max(least)
    };
    let mut burn_rates = Vec::with_capacity(PAIRS.len());
    for (factor, long_ms, short_ms, urgent) in PAIRS {
        let rate =
            BurnRate { factor, long_ms: scale(long_ms, MIN_LONG_MS), short_ms: scale(short_ms, MIN_SHORT_MS), urgent };
        if factor * (1.0 - target) < 1.0 {
            burn_rates.push(rate);
        } else {
            let message = format!(
                "target: with {}% nothing can burn {factor} times faster than allowed: that alert is left out",
                format_float((target * 1e11).round() / 1e9, 'g', None)
            );
            found.warning(&config.target.span, message);
        }
    }
    let text = format!(
        "slo({counted}) target {}% in {}",
        format_float((target * 1e11).round() / 1e9, 'g', None),
        format_duration_ms(config.window_ms)
    );
    let slo = Slo {
        name: alert.name.clone(),
        file: alert.file.clone(),
        input,
        part_is_bad: config.part_is_bad,
        target,
        window_ms: config.window_ms,
        burn_rates,
        sources: config.sources.iter().map(|source| source.value.as_str().into()).collect(),
        text,
        identity: crate::config::show_slo(&SloConfig {
            target: crate::config::Spanned::bare(0.0),
            window_ms: 0,
            ..config.clone()
        }),
    };
    let rules = rules(&slo, alert, index, found);
    Some((slo, rules))
}

/// The rules of an objective as sidewatch runs them: what reads the counters, and the alerts.
fn rules(slo: &Slo, alert: &SloAlert, index: usize, found: &mut Diagnostics) -> Vec<Rule> {
    let mut rules = Vec::with_capacity(4);
    if let SloInput::Series { part, total, .. } = &slo.input {
        let part_name = if slo.part_is_bad { BAD } else { GOOD };
        for (name, text, is_total) in [(part_name, part, false), (TOTAL, total, true)] {
            let Ok(expression) = Expression::parse(text) else { continue };
            let feeds = Some(Feed { slo: index, total: is_total });
            rules.push(Rule { name: name.into(), expression, labels: Vec::new(), alerting: None, feeds });
        }
    }
    for (urgent, severity) in [(true, "critical"), (false, "warning")] {
        let Some(text) = alert_expression(slo, urgent) else { continue };
        let expression = match Expression::parse(&text) {
            Ok(expression) => expression,
            Err(error) => {
                // The name stands in it as a quoted text, all else is ours.
                let place = crate::config::Span { file: slo.file.clone(), line: 0, column: 0 };
                found.error(&place, format!("{}: {}", slo.name, error.message));
                continue;
            }
        };
        let mut labels = alert.labels.clone();
        if !labels.iter().any(|(name, _)| &**name == "severity") {
            labels.push(("severity".into(), crate::template::Template::literal(severity)));
        }
        // Two rules of one name and equal labels would be one alert twice.
        labels.push(("burn".into(), crate::template::Template::literal(if urgent { "fast" } else { "slow" })));
        let alerting = Some(Alerting { timing: alert.timing, annotations: alert.annotations.clone() });
        rules.push(Rule { name: slo.name.clone(), expression, labels, alerting, feeds: None });
    }
    rules
}

/// The condition of the urgent or of the other alert; `None` when none of its burn rates can be reached.
fn alert_expression(slo: &Slo, urgent: bool) -> Option<String> {
    let budget = format_float(slo.budget(), 'g', None);
    let selector = slo.selector();
    let one = |rate: &BurnRate| {
        let limit = format!("({} * {budget})", format_float(rate.factor, 'g', None));
        let (long, short) = (ratio_metric(rate.long_ms), ratio_metric(rate.short_ms));
        format!("({long}{selector} > {limit} and {short}{selector} > {limit})")
    };
    let parts: Vec<String> = slo.burn_rates.iter().filter(|rate| rate.urgent == urgent).map(one).collect();
    (!parts.is_empty()).then(|| parts.join(" or "))
}

/// The counters of an objective: all, the good and the bad ones.
const TOTAL: &str = "sidewatch_slo_events_total";
const BAD: &str = "sidewatch_slo_error_events_total";
const GOOD: &str = "sidewatch_slo_good_events_total";
const OBJECTIVE: &str = "sidewatch_slo_objective_ratio";
const REMAINING: &str = "sidewatch_slo_error_budget_remaining_ratio";
const BURN_RATE: &str = "sidewatch_slo_burn_rate";

/// The default texts of an objective's messages.
pub(super) fn texts(name: &str, config: &SloConfig) -> Vec<(&'static str, String)> {
    let target = format_float((config.target.value * 1e11).round() / 1e9, 'g', None);
    let window = format_duration_ms(config.window_ms);
    vec![
        ("summary", format!("{name}: {{{{ $value | humanizePercentage }}}} are bad, the objective is {target}% good")),
        (
            "description",
            format!(
                "The error budget of {window} burns too fast: {{{{ $value | humanizePercentage }}}} of what {name} counts are bad \
                 and the objective is {target}% good. sidewatch_slo_error_budget_remaining_ratio tells what is left of it."
            ),
        ),
    ]
}

#[cfg(test)]
mod tests;
