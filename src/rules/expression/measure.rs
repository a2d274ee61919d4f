//! What an alert's expression measures, apart from the condition on it: for the value that ended an alert, and for the
//! label values that carry most of the value that began it. Both are looked at only when an alert begins or ends to fire.

use super::Expression;
use crate::model::{Labels, METRIC_NAME};
use crate::promql::ast::{Aggregate, Aggregator, Expr, Op};
use crate::promql::{Options, Query, SampleValue};
use crate::series::Storage;
use std::collections::BTreeMap;

/// Series that are looked through for what stands out; with more of them nothing is said.
const SERIES: usize = 10_000;
/// From which share of the whole on a label's value stands out.
const SHARE: f64 = 0.5;
/// Label values that are named.
const NAMED: usize = 2;
/// Labels that say where a series was read, not what it counts.
const NOT_TOLD: [&str; 4] = [METRIC_NAME, "le", "job", "quantile"];

/// A value measured for each label set.
pub(in crate::rules) type Measured = Vec<(Labels, f64)>;

impl Expression {
    /// The measure at a moment: the left side of the comparison, whatever it is compared with. `None` where the condition
    /// is no comparison or its labels are not those of the left side.
    pub(in crate::rules) fn measure(
        &self,
        at_ms: i64,
        storage: &dyn Storage,
        options: &Options<'_>,
    ) -> Option<Measured> {
        let measured = Self::parse(&measured(self.query.expr())?.to_string()).ok()?;
        let samples = measured.samples(at_ms, storage, options).ok()?;
        let floats = samples.into_iter().filter_map(|(labels, value)| match value {
            SampleValue::Float(value) => Some((labels.filtered(|name| name != METRIC_NAME), value)),
            SampleValue::Histogram(_) => None,
        });
        Some(floats.collect())
    }

    /// What the measure is made of: the series that its first aggregation adds up (or takes the extreme of).
    pub(in crate::rules) fn parts(&self, at_ms: i64, storage: &dyn Storage, options: &Options<'_>) -> Option<Parts> {
        let aggregate = aggregate(measured(self.query.expr()).unwrap_or_else(|| self.query.expr()))?;
        let added = match aggregate.op {
            Aggregator::Sum | Aggregator::Count => true,
            Aggregator::Max | Aggregator::Min => false,
            _ => return None,
        };
        let inner = Self { text: String::new(), query: Query::parse(&aggregate.expr.to_string()).ok()? };
        let samples = inner.samples(at_ms, storage, options).ok()?;
        if samples.len() > SERIES {
            return None;
        }
        let counted = aggregate.op == Aggregator::Count;
        let value = |value: SampleValue| match value {
            SampleValue::Float(_) if counted => Some(1.0),
            SampleValue::Float(value) => Some(value),
            SampleValue::Histogram(histogram) => Some(histogram.count),
        };
        let series = samples.into_iter().filter_map(|(labels, sample)| Some((labels, value(sample)?))).collect();
        Some(Parts {
            series,
            grouping: aggregate.grouping.clone(),
            without: aggregate.without,
            added,
            least: aggregate.op == Aggregator::Min,
        })
    }
}

/// The series behind an aggregated value.
#[derive(Debug)]
pub(in crate::rules) struct Parts {
    series: Vec<(Labels, f64)>,
    grouping: Vec<String>,
    without: bool,
    /// Their values add up; otherwise one of them is the whole.
    added: bool,
    least: bool,
}

impl Parts {
    /// What stands out in the group of an alert with these labels: `region=eu: 92 %`, or the extreme series' own labels.
    pub(in crate::rules) fn standing_out(&self, alert: &Labels) -> Vec<String> {
        let groups = |name: &str| self.grouping.iter().any(|label| label == name) != self.without;
        let same_group = |labels: &Labels| {
            labels
                .iter()
                .filter(|label| groups(&label.name) && &*label.name != METRIC_NAME)
                .all(|label| alert.get(&label.name) == Some(&*label.value))
        };
        let mine: Vec<&(Labels, f64)> = self.series.iter().filter(|(labels, _)| same_group(labels)).collect();
        if mine.len() < 2 {
            return Vec::new();
        }
        let told = |name: &str| !groups(name) && !NOT_TOLD.contains(&name);
        if self.added { shares(&mine, told) } else { self.extreme(&mine, told) }
    }

    fn extreme(&self, mine: &[&(Labels, f64)], told: impl Fn(&str) -> bool) -> Vec<String> {
        let order = |a: &&&(Labels, f64), b: &&&(Labels, f64)| a.1.total_cmp(&b.1);
        let whole = if self.least { mine.iter().min_by(order) } else { mine.iter().max_by(order) };
        let Some((labels, _)) = whole else { return Vec::new() };
        let varies = |name: &str| mine.iter().any(|(other, _)| other.get(name) != labels.get(name));
        let shown = labels.iter().filter(|label| told(&label.name) && varies(&label.name));
        let shown = shown.map(|label| format!("{}={}", label.name, label.value));
        shown.take(NAMED).collect()
    }
}

/// Label values that carry at least half of the sum while others carry the rest.
fn shares(mine: &[&(Labels, f64)], told: impl Fn(&str) -> bool) -> Vec<String> {
    let total: f64 = mine.iter().map(|(_, value)| value).sum();
    let usable = total.is_finite() && total > 0.0 && mine.iter().all(|(_, value)| *value >= 0.0);
    if !usable {
        return Vec::new();
    }
    let mut sums: BTreeMap<(&str, &str), (f64, usize)> = BTreeMap::new();
    for (labels, value) in mine {
        for label in labels.iter().filter(|label| told(&label.name)) {
            let (sum, series) = sums.entry((&label.name, &label.value)).or_default();
            *sum += value;
            *series += 1;
        }
    }
    // A value that all series bear says nothing, however much it carries.
    let mut found: Vec<(f64, String)> = sums
        .into_iter()
        .filter(|(_, (sum, series))| sum / total >= SHARE && *series < mine.len())
        .map(|((name, value), (sum, _))| (sum / total, format!("{name}={value}: {:.0} %", 100.0 * sum / total)))
        .collect();
    found.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    found.into_iter().take(NAMED).map(|(_, text)| text).collect()
}

/// The left side of the comparison that decides; of several conditions joined by `and` or `unless`, the first's.
fn measured(expr: &Expr) -> Option<&Expr> {
    match expr {
        Expr::Paren(inner, _) => measured(inner),
        Expr::Binary(binary) => match binary.op {
            Op::Equal | Op::NotEqual | Op::Greater | Op::Less | Op::GreaterOrEqual | Op::LessOrEqual => {
                let plain = binary.matching.as_ref().is_none_or(|matching| matching.labels.is_empty() && !matching.on);
                let scalar = |side: &Expr| side.value_type() == crate::promql::ast::ValueType::Scalar;
                // `5 < metric` measures the metric.
                let side = if scalar(&binary.left) { &binary.right } else { &binary.left };
                (plain && !binary.return_bool).then_some(side)
            }
            Op::And | Op::Unless => measured(&binary.left),
            _ => None,
        },
        _ => None,
    }
}

/// The first aggregation on the way into an expression: of a quotient, that of what is divided.
fn aggregate(expr: &Expr) -> Option<&Aggregate> {
    match expr {
        Expr::Paren(inner, _) => aggregate(inner),
        Expr::Unary { expr, .. } => aggregate(expr),
        Expr::Aggregate(found) => Some(found),
        Expr::Binary(binary) if matches!(binary.op, Op::Div | Op::Mul | Op::Add | Op::Sub) => {
            aggregate(&binary.left).or_else(|| aggregate(&binary.right))
        }
        Expr::Binary(binary) => aggregate(&binary.left),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The series in `a{x="1"} 2` notation, one a line.
    fn parts(grouping: &str, without: bool, added: bool, series: &[(&[(&str, &str)], f64)]) -> Parts {
        Parts {
            series: series.iter().map(|(labels, value)| (Labels::from_pairs(labels.iter().copied()), *value)).collect(),
            grouping: grouping.split_whitespace().map(str::to_owned).collect(),
            without,
            added,
            least: false,
        }
    }

    #[test]
    fn the_measure_is_what_is_compared() {
        for (expr, expected) in [
            ("a > 5", Some("a")),
            ("5 < sum(a)", Some("sum(a)")),
            ("(rate(a[5m]) / rate(b[5m]) > 0.1) and on() c", Some("rate(a[5m]) / rate(b[5m])")),
            ("a > bool 5", None),
            ("a > on(x) b", None),
            ("absent(a)", None),
        ] {
            let expression = Expression::parse(expr).unwrap();
            assert_eq!(measured(expression.query.expr()).map(ToString::to_string).as_deref(), expected, "{expr}");
        }
    }

    #[test]
    fn most_of_the_sum_stands_out() {
        let eu = [("region", "eu"), ("code", "500"), ("job", "j")];
        let us = [("region", "us"), ("code", "500"), ("job", "j")];
        let other = [("region", "us"), ("code", "502"), ("job", "j")];
        let check = |parts: Parts, alert: &[(&str, &str)], expected: &[&str]| {
            assert_eq!(parts.standing_out(&Labels::from_pairs(alert.iter().copied())), expected);
        };
        check(
            parts("", false, true, &[(&eu, 92.0), (&us, 7.0), (&other, 1.0)]),
            &[("alertname", "A")],
            &["code=500: 99 %", "region=eu: 92 %"],
        );
        check(
            parts("region", false, true, &[(&eu, 92.0), (&us, 7.0), (&other, 1.0)]),
            &[("region", "us")],
            &["code=500: 88 %"],
        );
        check(parts("code region", true, true, &[(&eu, 1.0), (&us, 3.0)]), &[("job", "j")], &["region=us: 75 %"]);
        check(parts("", false, true, &[(&eu, 1.0), (&us, 1.0)]), &[], &["region=eu: 50 %", "region=us: 50 %"]);
        check(parts("", false, true, &[(&eu, 0.0), (&us, 0.0)]), &[], &[]);
        check(parts("", false, true, &[(&eu, 1.0)]), &[], &[]);
        check(parts("", false, false, &[(&eu, 1.0), (&other, 3.0)]), &[], &["code=502", "region=us"]);
    }
}
