//! Exemplars of received series, for `query_exemplars`: the newest so many of all series together. They are not in
//! checkpoints: a minute brings new ones.

use super::Matcher;
use crate::model::Labels;
use std::collections::VecDeque;
use std::sync::Arc;

/// An exemplar.
#[derive(Clone, Debug, PartialEq)]
pub struct Exemplar {
    /// Its own labels, `trace_id` for example.
    pub labels: Labels,
    /// Its value.
    pub value: f64,
    /// Milliseconds since the epoch.
    pub t_ms: i64,
}

/// The exemplars of one series, in order of time.
#[derive(Clone, Debug, PartialEq)]
pub struct SeriesExemplars {
    /// The series.
    pub labels: Labels,
    /// Its exemplars.
    pub exemplars: Vec<Exemplar>,
}

/// Why an exemplar was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExemplarRefusal {
    /// Older than the series' last one.
    OutOfOrder,
}

/// As they came, oldest first.
#[derive(Debug, Default)]
pub(super) struct Exemplars {
    held: VecDeque<(Arc<Labels>, Exemplar)>,
    /// The last one of each series that has some.
    last: hashbrown::HashMap<Arc<Labels>, Exemplar, ahash::RandomState>,
}

/// How many are held.
const HELD: usize = 10_000;

impl Exemplars {
    /// Takes one; the last one again is taken for what it is, a repetition.
    pub fn push(&mut self, series: &Labels, exemplar: Exemplar) -> Result<(), ExemplarRefusal> {
        let known = self.last.get_key_value(series);
        if let Some((_, last)) = known {
            if *last == exemplar {
                return Ok(());
            }
            if exemplar.t_ms < last.t_ms {
                return Err(ExemplarRefusal::OutOfOrder);
            }
        }
        let labels = known.map_or_else(|| Arc::new(series.clone()), |(labels, _)| labels.clone());
        if self.held.len() >= HELD
            && let Some((labels, oldest)) = self.held.pop_front()
            && self.last.get(&labels) == Some(&oldest)
        {
            self.last.remove(&labels);
        }
        self.last.insert(labels.clone(), exemplar.clone());
        self.held.push_back((labels, exemplar));
        Ok(())
    }

    /// Those of series that match one of the sets, between two times; sorted by labels.
    pub fn select(&self, sets: &[Vec<Matcher>], from_ms: i64, to_ms: i64) -> Vec<SeriesExemplars> {
        let mut found: std::collections::BTreeMap<&Labels, Vec<Exemplar>> = std::collections::BTreeMap::new();
        for (labels, exemplar) in &self.held {
            let matches =
                |set: &Vec<Matcher>| set.iter().all(|matcher| matcher.matches(labels.get(&matcher.name).unwrap_or("")));
            if (from_ms..=to_ms).contains(&exemplar.t_ms) && sets.iter().any(matches) {
                found.entry(labels).or_default().push(exemplar.clone());
            }
        }
        found.into_iter().map(|(labels, exemplars)| SeriesExemplars { labels: labels.clone(), exemplars }).collect()
    }
}
