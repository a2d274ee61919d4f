//! Default messages of conditions on events.

use super::escaped;
use crate::config::schema::{AlertConfig, AlertKind, EventConditionKind as Kind, EventSelector, Named, Pattern};
use crate::model::format_duration_ms;

/// Summary and description that say what happened, for whom, and what was expected.
pub(super) fn event_texts(alert: &Named<AlertConfig>) -> Vec<(&'static str, String)> {
    let AlertKind::Event(condition) = &alert.value.kind else { return Vec::new() };
    let within = format_duration_ms(condition.within_ms);
    let names: Vec<&str> = condition.by.iter().map(|path| path.value.last_name()).collect();
    let which: Vec<String> = names.iter().map(|name| format!("{name} {{{{ $labels.{name} }}}}")).collect();
    let which = if which.is_empty() { String::new() } else { format!(" for {}", which.join(", ")) };
    let of = |selector: &EventSelector| {
        let names: Vec<&str> = selector
            .matches
            .iter()
            .map(|pattern| match pattern {
                Pattern::Glob(text) | Pattern::Regex(text) => text.value.as_str(),
            })
            .collect();
        if names.is_empty() { "any event".to_owned() } else { escaped(&names.join(" or ")) }
    };
    let (summary, description) = match &condition.kind {
        Kind::RateChange(rate) => (
            format!("Rate of {} is {{{{ printf \"%+.1f\" $value }}}} deviations off{which}", of(&rate.selector)),
            format!(
                "{{{{ $event.condition.count }}}} {} came in {within}{which}; usual are {{{{ $event.condition.expected }}}} (the \
                 median of the last {}).",
                of(&rate.selector),
                format_duration_ms(rate.baseline_ms)
            ),
        ),
        Kind::FirstSeen { selector, path, memory_ms, .. } => {
            let name = path.value.last_name();
            (
                format!("{name} {{{{ $labels.{name} }}}} was never seen before{which}"),
                format!(
                    "{} with {name} {{{{ $labels.{name} }}}}{which}: no event of the last {} had that.",
                    of(selector),
                    format_duration_ms(*memory_ms)
                ),
            )
        }
        Kind::Gap { selector, path } => {
            let name = path.value.last_name();
            (
                format!("{{{{ $value }}}} missing in {name} of {}{which}", of(selector)),
                format!(
                    "{{{{ $value }}}} numbers between {{{{ $event.condition.first }}}} and {{{{ $event.condition.last }}}} of \
                     {name} did not come within {within}{which}."
                ),
            )
        }
        Kind::Count { selector, .. } => (
            format!("{{{{ $value }}}} x {} within {within}{which}", of(selector)),
            format!("{} came {{{{ $value }}}} times within {within}{which}.", of(selector)),
        ),
        Kind::Absent { selector, .. } => (
            format!("No {} for {{{{ $value | humanizeDuration }}}}{which}", of(selector)),
            format!(
                "{} should come every {within}{which}; none came for {{{{ $value | humanizeDuration }}}}.",
                of(selector)
            ),
        ),
        Kind::Sequence { steps, missing_last } => {
            let names: Vec<String> = steps.iter().map(of).collect();
            let (last, before) =
                names.split_last().map_or(("", String::new()), |(last, before)| (last.as_str(), before.join(", ")));
            if *missing_last {
                (
                    format!("{last} is missing after {before}{which}"),
                    format!("{before} came, but no {last} within {within}{which}."),
                )
            } else {
                (
                    format!("{} happened within {within}{which}", names.join(", then ")),
                    format!(
                        "{} came in this order within {{{{ $value | humanizeDuration }}}}{which}.",
                        names.join(", ")
                    ),
                )
            }
        }
    };
    vec![("summary", summary), ("description", description)]
}
