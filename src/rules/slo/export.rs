//! Objectives as an ordinary Prometheus rule file with promtool's tests: what these alerts would be without sidewatch.
//!
//! The recording rules compute by PromQL what [`super::Objectives`] keeps sums for; the alerts are the same.

use super::{BURN_RATE, BurnRate, GOOD, OBJECTIVE, REMAINING, Slo, SloInput, TOTAL, ratio_metric};
use crate::model::{Labels, Timestamp, format_duration_ms};
use crate::rules::rule::{Rule, RuleSet, alert_data, expand};
use crate::template::{Dialect, Functions, Value, format_float};
use std::fmt::Write;
use std::sync::Arc;

/// The file that the tests name.
const RULE_FILE: &str = "slo.rules.yaml";
/// Counted by each step of the tests: enough that the smallest budget is a whole number.
const PER_STEP: f64 = 1_000_000.0;
/// Steps of the tests before the errors end.
const BURNING_STEPS: i64 = 10;

/// A YAML scalar that reads as this text: JSON's strings are YAML's double-quoted ones.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn number(value: f64) -> String {
    format_float(value, 'g', None)
}

/// The selectors of the part and of all, as PromQL outside of sidewatch reads them.
fn selectors(slo: &Slo) -> (String, String) {
    match &slo.input {
        SloInput::Events { .. } => {
            let selector = slo.selector();
            (format!("{GOOD}{selector}"), format!("{TOTAL}{selector}"))
        }
        SloInput::Series { part, total, .. } => (part.clone(), total.clone()),
    }
}

/// The share of bad ones over a window.
fn ratio(slo: &Slo, window_ms: i64) -> String {
    let (part, total) = selectors(slo);
    let window = format_duration_ms(window_ms);
    let share = format!("sum(rate({part}[{window}])) / sum(rate({total}[{window}]))");
    // Of events the good ones are recorded, whatever was configured.
    let bad = slo.part_is_bad && matches!(slo.input, SloInput::Series { .. });
    if bad { share } else { format!("1 - {share}") }
}

/// The alerting rules of an objective.
fn alerts<'a>(set: &'a RuleSet, slo: &'a Slo) -> impl Iterator<Item = &'a Arc<Rule>> {
    let groups = set.groups.iter().filter(|group| *group.name == *super::SLO_GROUP && group.file == slo.file);
    groups.flat_map(|group| &group.rules).filter(|rule| rule.name == slo.name && rule.alerting.is_some())
}

/// The rule file; empty text without objectives.
pub fn rules_yaml(set: &RuleSet) -> String {
    let mut out = String::new();
    if set.slos.is_empty() {
        return out;
    }
    out.push_str(
        "# What the objectives of sidewatch.yaml are as Prometheus rules (SRE workbook, chapter 5, 6).\ngroups:\n",
    );
    for slo in &set.slos {
        let labels = format!("{{slo: {}}}", quoted(&slo.name));
        // Writing to a String cannot fail.
        let _ = writeln!(out, "- name: {}\n  rules:", quoted(&format!("slo-{}", slo.name)));
        let mut record = |name: &str, expr: &str, labels: &str| {
            let _ = writeln!(out, "  - record: {name}\n    expr: {}\n    labels: {labels}", quoted(expr));
        };
        for window in slo.windows_ms() {
            record(&ratio_metric(window), &ratio(slo, window), &labels);
        }
        for window in slo.windows_ms() {
            let expr = format!("{}{} / {}", ratio_metric(window), slo.selector(), number(slo.budget()));
            let labels = format!("{{slo: {}, window: {}}}", quoted(&slo.name), format_duration_ms(window));
            record(BURN_RATE, &expr, &labels);
        }
        record(OBJECTIVE, &format!("vector({})", number(slo.target)), &labels);
        let remaining = format!("1 - ({}) / {}", ratio(slo, slo.window_ms), number(slo.budget()));
        record(REMAINING, &remaining, &labels);
        for rule in alerts(set, slo) {
            let Some(alerting) = &rule.alerting else { continue };
            let _ = writeln!(out, "  - alert: {}\n    expr: {}", quoted(&rule.name), quoted(rule.expression.text()));
            for (key, ms) in [("for", alerting.timing.for_ms), ("keep_firing_for", alerting.timing.keep_firing_for_ms)]
            {
                if ms > 0 {
                    let _ = writeln!(out, "    {key}: {}", format_duration_ms(ms));
                }
            }
            for (key, texts) in [("labels", &rule.labels), ("annotations", &alerting.annotations)] {
                if !texts.is_empty() {
                    let _ = writeln!(out, "    {key}:");
                }
                for (name, text) in texts {
                    let _ = writeln!(out, "      {name}: {}", quoted(text.source()));
                }
            }
        }
    }
    out
}

/// Tests of that file in promtool's format; `sidewatch test rules` and `promtool test rules` run them.
pub fn tests_yaml(set: &RuleSet) -> String {
    let mut out = String::new();
    if set.slos.is_empty() {
        return out;
    }
    let intervals = set.slos.iter().map(|slo| interval_ms(slo));
    let evaluation = format_duration_ms(intervals.min().unwrap_or(60_000));
    let _ = write!(
        out,
        "# Tests of the rules that `sidewatch config show --slo-rules` prints; write those to {RULE_FILE} beside this file.\n\
         rule_files: [{RULE_FILE}]\nevaluation_interval: {evaluation}\ntests:\n"
    );
    for slo in &set.slos {
        test(set, slo, &mut out);
    }
    out
}

/// The distance of the samples: five of them lie in the shortest window.
fn interval_ms(slo: &Slo) -> i64 {
    (slo.windows_ms().first().copied().unwrap_or(300_000) / 5).clamp(1_000, 60_000)
}

fn test(set: &RuleSet, slo: &Slo, out: &mut String) {
    let interval_ms = interval_ms(slo);
    // Faster than every burn rate, as far as that is possible.
    let bad = (20.0 * slo.budget()).min(1.0);
    let bad_per_step = (PER_STEP * bad).round();
    let pause_ms = slo.burn_rates.iter().filter(|rate| rate.urgent).map(|rate| rate.short_ms).max().unwrap_or(0);
    let calm_steps = pause_ms / interval_ms + 5;
    let for_ms =
        alerts(set, slo).filter_map(|rule| rule.alerting.as_ref()).map(|alerting| alerting.timing.for_ms).max();
    let burning_steps = BURNING_STEPS + for_ms.unwrap_or(0) / interval_ms;
    let time = |steps: i64| format_duration_ms(steps * interval_ms);
    let (part, total) = selectors(slo);
    let part_is_bad = slo.part_is_bad && matches!(slo.input, SloInput::Series { .. });
    let part_step = |bad: f64| if part_is_bad { bad } else { PER_STEP - bad };
    // A selector with other matchers than = is no series: a name of its own with the equal ones would be guessed. Those
    // objectives are tested by what records them.
    let series = series_of(&part).zip(series_of(&total));
    let Some((part, total)) = series.filter(|(part, total)| part != total) else {
        return recorded_test(set, slo, interval_ms, bad_per_step / PER_STEP, out);
    };
    let line = |out: &mut String, series: &str, values: String| {
        let _ = writeln!(out, "  - {{series: {}, values: {}}}", quoted(series), quoted(&values));
    };
    let name = |what: &str| quoted(&format!("{}: {what}", slo.name));
    let _ = writeln!(
        out,
        "- name: {}\n  interval: {}\n  input_series:",
        name("all is good"),
        format_duration_ms(interval_ms)
    );
    line(out, &total, format!("0+{PER_STEP}x{BURNING_STEPS}"));
    line(out, &part, format!("0+{}x{BURNING_STEPS}", part_step(0.0)));
    let _ = writeln!(
        out,
        "  alert_rule_test:\n  - {{eval_time: {}, alertname: {}}}",
        time(BURNING_STEPS),
        quoted(&slo.name)
    );
    let _ = writeln!(
        out,
        "- name: {}\n  interval: {}\n  input_series:",
        name("the budget burns, then it ends"),
        format_duration_ms(interval_ms)
    );
    let steps = burning_steps + calm_steps;
    line(out, &total, format!("0+{PER_STEP}x{steps}"));
    let burning = part_step(bad_per_step);
    let calm = part_step(0.0);
    let next = burning * burning_steps as f64 + calm;
    line(out, &part, format!("0+{burning}x{burning_steps} {next}+{calm}x{}", calm_steps - 1));
    let _ = writeln!(
        out,
        "  alert_rule_test:\n  - eval_time: {}\n    alertname: {}",
        time(burning_steps),
        quoted(&slo.name)
    );
    expected(set, slo, bad_per_step / PER_STEP, out);
    let _ = writeln!(out, "  promql_expr_test:");
    let mut expect = |expr: String, at: i64, labels: &str, value: &str| {
        let _ = writeln!(
            out,
            "  - expr: {}\n    eval_time: {}\n    exp_samples: [{{labels: {}, value: {value}}}]",
            quoted(&expr),
            time(at),
            quoted(labels)
        );
    };
    let selector = slo.selector();
    expect(format!("{REMAINING}{selector} < bool 0"), burning_steps, &selector, "1");
    let shortest = slo.windows_ms().first().copied().unwrap_or(0);
    expect(format!("{}{selector} == bool 0", ratio_metric(shortest)), steps, &selector, "1");
    let firing =
        format!("count(ALERTS{{alertname={},alertstate=\"firing\",burn=\"fast\"}}) or vector(0)", quoted(&slo.name));
    expect(firing, steps, "{}", "0");
}

/// A test of the alerts alone, on the series that the recording rules write. Recording rules of the file that find nothing
/// write nothing, so that the series are the input.
fn recorded_test(set: &RuleSet, slo: &Slo, interval_ms: i64, bad: f64, out: &mut String) {
    let _ = writeln!(
        out,
        "- name: {}\n  interval: {}\n  input_series:",
        quoted(&format!("{}: the alerts", slo.name)),
        format_duration_ms(interval_ms)
    );
    for window in slo.windows_ms() {
        let series = format!("{}{}", ratio_metric(window), slo.selector());
        let _ =
            writeln!(out, "  - {{series: {}, values: {}}}", quoted(&series), quoted(&format!("{bad}x{BURNING_STEPS}")));
    }
    let for_ms =
        alerts(set, slo).filter_map(|rule| rule.alerting.as_ref()).map(|alerting| alerting.timing.for_ms).max();
    let steps = BURNING_STEPS + for_ms.unwrap_or(0) / interval_ms;
    let time = format_duration_ms(steps * interval_ms);
    let _ = writeln!(out, "  alert_rule_test:\n  - eval_time: {time}\n    alertname: {}", quoted(&slo.name));
    expected(set, slo, bad, out);
}

/// The alerts that fire when this share is bad in every window.
fn expected(set: &RuleSet, slo: &Slo, bad: f64, out: &mut String) {
    let reached = |rate: &BurnRate| bad > rate.factor * slo.budget();
    let _ = writeln!(out, "    exp_alerts:");
    for rule in alerts(set, slo) {
        let fast = rule.labels.iter().any(|(name, text)| &**name == "burn" && text.source() == "fast");
        if !slo.burn_rates.iter().any(|rate| rate.urgent == fast && reached(rate)) {
            continue;
        }
        let Some(alerting) = &rule.alerting else { continue };
        let base = Labels::from_pairs([("slo", &*slo.name)]);
        let data = alert_data(&set.settings, &base, bad, Value::Nil);
        let functions = Functions::new(Dialect::Prometheus, Timestamp::EPOCH, "");
        let (labels, annotations) = expand(&rule.name, &base, &data, &rule.labels, &alerting.annotations, &functions);
        for (key, pairs, first) in [("exp_labels", labels, "- "), ("exp_annotations", annotations, "  ")] {
            let pairs: Vec<String> = pairs
                .iter()
                .filter(|label| &*label.name != "alertname")
                .map(|label| format!("{}: {}", label.name, quoted(&label.value)))
                .collect();
            let _ = writeln!(out, "    {first}{key}: {{{}}}", pairs.join(", "));
        }
    }
}

/// A selector as the name of one series: only when it has nothing but equalities.
fn series_of(selector: &str) -> Option<String> {
    let parsed = crate::promql::parse_metric_selector(selector).ok()?;
    let equal = parsed.matchers.iter().all(|matcher| matcher.op == crate::series::MatchOp::Equal);
    (equal && !selector.contains(" offset ")).then(|| selector.to_owned())
}
