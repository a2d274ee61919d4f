//! Conditions on events and objectives as YAML.

use super::Yaml::{self, Map, Seq, Text};
use super::{Fields, duration, number, paths, select, selector, text};
use crate::config::schema::{Comparison, Direction, EventCondition, EventConditionKind, Floor, SloConfig, SloSeries};

pub(super) fn event(condition: &EventCondition) -> Yaml {
    let mut map = Fields::default();
    match &condition.kind {
        EventConditionKind::Count { selector, comparison, count } => {
            select(&mut map, selector);
            let operator = match comparison {
                Comparison::AtLeast => ">=",
                Comparison::MoreThan => ">",
                Comparison::AtMost => "<=",
                Comparison::LessThan => "<",
                Comparison::Equal => "==",
                Comparison::NotEqual => "!=",
            };
            map.add("count", Text(format!("{operator} {count}")));
        }
        EventConditionKind::Absent { selector: absent, keys } => {
            map.add("absent", selector(absent));
            map.list("keys", keys.iter().map(|key| text(key)).collect());
        }
        EventConditionKind::Sequence { steps, missing_last } => {
            map.add("sequence", Seq(steps.iter().map(selector).collect()));
            if *missing_last {
                map.raw("missing", "last");
            }
        }
        EventConditionKind::RateChange(rate) => {
            map.add("rate_change", selector(&rate.selector));
            map.raw("baseline", duration(rate.baseline_ms));
            let direction = match rate.direction {
                Direction::Up => "up",
                Direction::Down => "down",
                Direction::Both => "both",
            };
            map.raw("direction", direction);
            map.raw("threshold", number(rate.threshold));
            map.raw("min_samples", rate.min_samples);
            match rate.floor {
                Floor::Share(share) => map.add("floor", Text(format!("{}%", number((share * 1e11).round() / 1e9)))),
                Floor::Events(events) => map.raw("floor", number(events)),
            }
            map.raw("lateness", duration(rate.lateness_ms));
        }
        EventConditionKind::FirstSeen { selector, path, memory_ms, learn_ms } => {
            map.add("first_seen", text(&path.value.to_string()));
            select(&mut map, selector);
            map.raw("for", duration(*memory_ms));
            map.raw("learn", duration(*learn_ms));
        }
        EventConditionKind::Gap { selector, path } => {
            map.add("gap", text(&path.value.to_string()));
            select(&mut map, selector);
        }
    }
    map.list("by", paths(&condition.by));
    map.raw("within", duration(condition.within_ms));
    map.list("source", condition.sources.iter().map(|source| text(&source.value)).collect());
    Map(map.0)
}

pub(super) fn slo(slo: &SloConfig) -> Yaml {
    let series = |series: &SloSeries| match series {
        SloSeries::Events(events) => selector(events),
        SloSeries::Series(series) => super::fields([("series", text(&series.value))]),
    };
    let mut map = Fields::default();
    map.add(if slo.part_is_bad { "error" } else { "good" }, series(&slo.part));
    map.add("total", series(&slo.total));
    map.raw("target", number(slo.target.value));
    map.raw("window", duration(slo.window_ms));
    map.list("source", slo.sources.iter().map(|source| text(&source.value)).collect());
    Map(map.0)
}
