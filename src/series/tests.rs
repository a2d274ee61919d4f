//! Tests of the store as a whole.

mod checkpoint;
mod exposition;
mod reading;
mod registry;
mod scraped;

use super::*;
use crate::config::schema::Limits;
use crate::model::{Labels, Timestamp};

/// Begin of all tests, in milliseconds: a full second.
pub(super) const START_MS: i64 = 1_700_000_000_000;

pub(super) fn at(ms: i64) -> Timestamp {
    Timestamp::from_millis(START_MS + ms)
}

pub(super) fn options() -> StoreOptions {
    StoreOptions {
        base_labels: Labels::from_pairs([("job", "shop"), ("instance", "a")]),
        limits: Limits::default(),
        rings: Rings::default(),
    }
}

pub(super) fn store() -> Store {
    Store::new(options())
}

/// Matchers from `name=value`, `!=`, `=~`, `!~`.
pub(super) fn matchers(texts: &[&str]) -> Vec<Matcher> {
    texts
        .iter()
        .map(|text| {
            let (op, sign) =
                [(MatchOp::NotEqual, "!="), (MatchOp::Regex, "=~"), (MatchOp::NotRegex, "!~"), (MatchOp::Equal, "=")]
                    .into_iter()
                    .find(|(_, sign)| text.contains(sign))
                    .unwrap();
            let (name, value) = text.split_once(sign).unwrap();
            Matcher::new(if name.is_empty() { "__name__" } else { name }, op, value).unwrap()
        })
        .collect()
}

pub(super) fn selection(texts: &[&str], from_ms: i64, to_ms: i64) -> Selection {
    Selection { matchers: matchers(texts), from_ms: START_MS + from_ms, to_ms: START_MS + to_ms }
}

/// What a selection reads, one line a series: labels without job and instance, samples as value@ms from the start. The view
/// must answer as the store does.
pub(super) fn read(store: &Store, texts: &[&str], from_ms: i64, to_ms: i64) -> Vec<String> {
    let selection = selection(texts, from_ms, to_ms);
    let direct = store.select(&selection);
    let view = store.view(std::slice::from_ref(&selection));
    let shown = |series: &[SeriesData]| -> Vec<String> {
        series
            .iter()
            .map(|series| {
                let mut line = series.labels.filtered(|name| name != "job" && name != "instance").to_string();
                for point in &series.floats {
                    let value = if is_stale(point.value) { "stale".into() } else { point.value.to_string() };
                    line.push_str(&format!(" {value}@{}", point.t_ms - START_MS));
                }
                for point in &series.histograms {
                    let value = if is_stale(point.histogram.sum) {
                        "stale".into()
                    } else {
                        format!("{}/{}", point.histogram.sum, point.histogram.count)
                    };
                    line.push_str(&format!(" {value}@{}", point.t_ms - START_MS));
                }
                line
            })
            .collect()
    };
    assert_eq!(shown(&view.select(&selection)), shown(&direct), "a view answers as the store does");
    let everything = store.view(&[Selection { matchers: Vec::new(), ..selection.clone() }]);
    assert_eq!(shown(&everything.select(&selection)), shown(&direct), "a wider view answers as the store does");
    shown(&direct)
}
