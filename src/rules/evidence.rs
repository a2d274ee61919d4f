//! What messages tell of an alert beside its value: which label values carry most of it when it begins to fire, and the
//! value that ended it. Computed at these two transitions only, once an evaluation for all alerts of the rule.

use super::alert_state::{AlertPhase, AlertStates, Transition};
use super::expression::Expression;
use crate::model::Labels;
use crate::promql::Options;
use crate::series::Storage;

/// Alerts of one rule that begin to fire in one evaluation and are looked into; in a storm the others go without.
const LOOKED_INTO: usize = 20;

/// Adds to the alerts what their transitions ask for. `expand` makes an alert's labels from a sample's labels and value.
pub(super) fn add(
    expression: &Expression,
    states: &mut AlertStates,
    transitions: &[Transition],
    at_ms: i64,
    storage: &dyn Storage,
    options: &Options<'_>,
    expand: &dyn Fn(&Labels, f64) -> Labels,
) {
    let begun = transitions.iter().filter(|change| change.to == AlertPhase::Firing).take(LOOKED_INTO);
    let mut begun = begun.peekable();
    if begun.peek().is_some()
        && let Some(parts) = expression.parts(at_ms, storage, options)
    {
        for change in begun {
            if let Some(state) = states.get_mut(&change.labels) {
                state.context.stands_out = parts.standing_out(&change.labels);
                state.published = None;
            }
        }
    }
    let ended = |change: &&Transition| change.from == AlertPhase::Firing && change.to == AlertPhase::Inactive;
    let mut ended = transitions.iter().filter(ended).peekable();
    if ended.peek().is_none() {
        return;
    }
    let Some(measured) = expression.measure(at_ms, storage, options) else { return };
    let measured: std::collections::BTreeMap<Labels, f64> =
        measured.into_iter().map(|(labels, value)| (expand(&labels, value), value)).collect();
    for change in ended {
        if let Some(state) = states.get_mut(&change.labels) {
            state.value_at_resolve = measured.get(&change.labels).copied();
            state.published = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::Diagnostics;
    use crate::model::{Alert, Labels, Timestamp};
    use crate::promql::Options;
    use crate::promql::testing::{PointValue, TestStorage};
    use crate::rules::rule::Settings;
    use crate::rules::{Effects, RuleSet, Rules, file};
    use std::sync::Arc;
    use std::time::Duration;

    const START_MS: i64 = 1_795_219_200_000;

    /// The published alerts after each second's samples (`name{label="value"} number`), as text.
    #[track_caller]
    fn check(expr: &str, more: &str, seconds: &[&[(&str, f64)]], expected: &[&str]) {
        let yaml = format!("groups:\n- name: g\n  interval: 1s\n  rules:\n  - {{alert: A, expr: '{expr}'{more}}}\n");
        let mut found = Diagnostics::new();
        let groups = file::read("r.yaml", &yaml, &mut found).unwrap().compile(1_000, &mut found);
        assert_eq!(found.to_string(), "");
        let settings = Arc::new(Settings { alerts_per_rule: 100, ..Settings::default() });
        let set = RuleSet { groups: groups.into_iter().map(Arc::new).collect(), settings, ..RuleSet::default() };
        let at = |second: usize| Timestamp::from_millis(START_MS + 1_000 * second as i64);
        let (mut rules, mut storage) = (Rules::new(set, at(0)), TestStorage::default());
        for (second, samples) in seconds.iter().enumerate() {
            for (series, value) in *samples {
                let mut labels: Vec<(&str, &str)> =
                    series.split_whitespace().filter_map(|it| it.split_once('=')).collect();
                labels.push(("__name__", series.split_whitespace().next().unwrap()));
                storage.add(&Labels::from_pairs(labels), at(second).millis(), &PointValue::Float(*value), 0);
            }
            let mut now = at(second);
            while let Some(due) = rules.next_due().filter(|due| *due < at(second + 1)) {
                now = due.max(now);
                for job in rules.due(now) {
                    let result = job.run(&storage, &Options::default());
                    rules.apply(now, result, Duration::ZERO, &mut Effects::default());
                }
            }
            let told = |alert: &Arc<Alert>| {
                let labels = alert.labels.filtered(|name| name != "alertname");
                format!(
                    "{labels} {} -> {:?} {:?}",
                    alert.value_at_firing, alert.value_at_resolve, alert.context.stands_out
                )
            };
            let published: Vec<String> = rules.published().1.iter().map(told).collect();
            assert_eq!(published.join("; "), expected[second], "second {second}");
        }
    }

    #[test]
    fn the_value_that_ended_an_alert_is_kept_with_it() {
        check(
            "m > 5",
            "",
            &[&[("m x=1", 9.0), ("m x=2", 1.0)], &[("m x=1", 3.5), ("m x=2", 1.0)], &[("m x=1", 2.0)]],
            &[r#"{x="1"} 9 -> None []"#, r#"{x="1"} 9 -> Some(3.5) []"#, r#"{x="1"} 9 -> Some(3.5) []"#],
        );
        // Labels of the rule's own, and a condition that joins two.
        check(
            "sum by (x) (m) / 2 > 5 and on() up == 1",
            ", labels: {team: t}",
            &[&[("m x=1", 20.0), ("up", 1.0)], &[("m x=1", 4.0), ("up", 1.0)]],
            &[r#"{team="t", x="1"} 10 -> None []"#, r#"{team="t", x="1"} 10 -> Some(2.0) []"#],
        );
        // What no comparison decides has no such value.
        check("absent(m)", "", &[&[("other", 1.0)], &[("m", 1.0)]], &[r#"{} 1 -> None []"#, r#"{} 1 -> None []"#]);
    }

    #[test]
    fn what_carries_most_of_the_value_is_looked_up_once() {
        let eu = ("m region=eu", 92.0);
        check(
            "sum(m) > 50",
            "",
            &[&[eu, ("m region=us", 8.0)], &[("m region=eu", 60.0), ("m region=us", 60.0)]],
            &[r#"{} 100 -> None ["region=eu: 92 %"]"#, r#"{} 100 -> None ["region=eu: 92 %"]"#],
        );
        check(
            "sum by (code) (m) / scalar(count(m)) > 10",
            "",
            &[&[("m code=5 region=eu", 30.0), ("m code=5 region=us", 10.0), ("m code=2 region=us", 3.0)]],
            &[r#"{code="5"} 13.333333333333334 -> None ["region=eu: 75 %"]"#],
        );
        check("max(m) > 5", "", &[&[("m node=a", 1.0), ("m node=b", 7.0)]], &[r#"{} 7 -> None ["node=b"]"#]);
    }
}
