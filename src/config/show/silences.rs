//! `notify: silences:` as YAML.

use super::Yaml::{Map, Seq};
use super::{Fields, Yaml, fields, text, texts};
use crate::config::Spanned;
use crate::config::schema::{IntervalConfig, SilenceConfig, SilenceTimes};
use crate::model::Timestamp;

/// One entry.
pub(super) fn entry(silence: &SilenceConfig) -> Yaml {
    let mut map = Fields::default();
    map.add("matchers", texts(&silence.matchers));
    for (key, moment) in [("starts", &silence.starts), ("ends", &silence.ends)] {
        if let Some(moment) = moment {
            map.add(key, text(&Timestamp::from_micros(moment.value).rfc3339()));
        }
    }
    match &silence.times {
        Some(SilenceTimes::Named(name)) => map.add("time_interval", text(&name.value)),
        Some(SilenceTimes::Here(list)) => map.add("time_interval", Seq(list.iter().map(interval).collect())),
        None => {}
    }
    if !silence.comment.is_empty() {
        map.text("comment", Some(&silence.comment));
    }
    Map(map.0)
}

fn interval(interval: &IntervalConfig) -> Yaml {
    let mut map = Fields::default();
    let list = |texts: &[Spanned<String>]| texts.iter().map(|one| text(&one.value)).collect();
    let times = interval.times.iter();
    let times = times.map(|(start, end)| fields([("start_time", text(&start.value)), ("end_time", text(&end.value))]));
    map.list("times", times.collect());
    map.list("weekdays", list(&interval.weekdays));
    map.list("days_of_month", list(&interval.days_of_month));
    map.list("months", list(&interval.months));
    map.list("years", list(&interval.years));
    map.text("location", interval.location.as_ref().map(|location| &location.value));
    Map(map.0)
}
