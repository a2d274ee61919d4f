//! What selectors read, and through which functions: unknown metrics, rates of gauges, counters without a rate.

use super::{Known, Said, unknown_metric};
use crate::model::{METRIC_NAME, format_duration_ms};
use crate::promql::Expr;
use crate::promql::ast::{Aggregator, Call, Duration, Op, Selector};
use crate::series::{MatchOp, MetricType};

/// Functions that make a counter comparable.
const RATES: [&str; 3] = ["rate", "increase", "irate"];

pub(super) fn lint(expr: &Expr, known: &Known, said: &mut Said<'_>) {
    for selector in expr.selectors() {
        contradiction(selector, said);
        if let Some(name) = selector.metric_name() {
            let span = said.found.locate_offset(said.text, selector.span.start);
            unknown_metric(name, &span, known, said.found);
        }
    }
    expr.visit(&mut |part| match part {
        Expr::Call(call) if RATES.contains(&call.function.name) => rate(call, known, said),
        Expr::Call(call) if call.function.name == "histogram_quantile" => quantile(call, known, said),
        Expr::Binary(binary) if binary.op.is_comparison() => {
            let threshold = !matches!(binary.op, Op::Equal | Op::NotEqual);
            for (side, other) in [(&binary.left, &binary.right), (&binary.right, &binary.left)] {
                if threshold
                    && is_number(other)
                    && !super::bounds::never(part, known)
                    && let Some(name) = bare_counter(side, known)
                {
                    said.warn(
                        side.span().start,
                        format!("{name} is a counter: it only rises, so this comparison stays true once it is"),
                        format!("compare how fast it rises: rate({name}[5m]) or increase({name}[5m])"),
                    );
                }
            }
        }
        _ => {}
    });
}

fn is_number(expr: &Expr) -> bool {
    match expr.unwrapped() {
        Expr::Number { .. } => true,
        Expr::Unary { expr, .. } => is_number(expr),
        _ => false,
    }
}

/// The counter that is compared as it is, or added up.
fn bare_counter<'a>(expr: &'a Expr, known: &Known) -> Option<&'a str> {
    match expr.unwrapped() {
        Expr::Vector(selector) => selector.metric_name().filter(|name| known.kind(name) == Some(MetricType::Counter)),
        Expr::Aggregate(aggregate) => match aggregate.op {
            Aggregator::Sum | Aggregator::Avg | Aggregator::Max | Aggregator::Min => {
                bare_counter(&aggregate.expr, known)
            }
            _ => None,
        },
        _ => None,
    }
}

fn rate(call: &Call, known: &Known, said: &mut Said<'_>) {
    let Some(Expr::Matrix { selector, range, .. }) = call.args.first().map(Expr::unwrapped) else { return };
    let Some(name) = selector.metric_name() else { return };
    let function = call.function.name;
    if known.kind(name) == Some(MetricType::Gauge) {
        said.warn(
            call.span.start,
            format!("{function}() of {name}, which is a gauge: every fall counts as a reset of a counter"),
            "for a gauge use delta(), deriv() or avg_over_time()",
        );
    }
    if let Duration::Fixed(range_ms) = range
        && *range_ms < 2 * known.interval_ms
        && known.produced(name).is_some()
    {
        said.warn(
            call.span.start,
            format!(
                "{function}() over {} sees less than two samples: one is taken every {}",
                format_duration_ms(*range_ms),
                format_duration_ms(known.interval_ms)
            ),
            format!("use a range of at least [{}]", format_duration_ms(4 * known.interval_ms)),
        );
    }
}

/// `histogram_quantile` over counts since the start instead of those of a window.
fn quantile(call: &Call, known: &Known, said: &mut Said<'_>) {
    let Some(argument) = call.args.get(1) else { return };
    let mut bare = None;
    argument.visit(&mut |part| {
        if let Expr::Vector(selector) = part
            && let Some(name) = selector.metric_name()
            && !name.contains(':')
            && (name.ends_with("_bucket") || known.kind(name) == Some(MetricType::Histogram))
        {
            bare = Some((selector.span.start, name));
        }
    });
    if let Some((at, name)) = bare {
        said.warn(
            at,
            format!("histogram_quantile() of {name} without rate(): the quantile of everything since the start"),
            format!("write rate({name}[5m])"),
        );
    }
}

/// Matchers of one label that no value meets.
fn contradiction(selector: &Selector, said: &mut Said<'_>) {
    for wanted in selector.matchers.iter().filter(|matcher| matcher.op == MatchOp::Equal) {
        let against = |other: &&crate::series::Matcher| other.name == wanted.name && !other.matches(&wanted.value);
        if wanted.name != METRIC_NAME && selector.matchers.iter().any(|other| against(&other)) {
            let at = said.word(&wanted.name, selector.span.start, selector.span.end);
            said.warn(
                at,
                format!("no series can match: the matchers of {} contradict each other", wanted.name),
                format!("for one of several values write {}=~\"a|b\"", wanted.name),
            );
            return;
        }
    }
}
