//! `info()`: adds the labels of info series, found by `instance` and `job`.

use super::select::{Found, Lookback};
use super::{Collector, Evaluated, Evaluator, SampleRef, Series, Steps, fail};
use crate::model::{Labels, METRIC_NAME};
use crate::promql::ast::{Call, Expr};
use crate::promql::plan::{Frame, first_selector_times};
use crate::series::{MatchOp, Matcher, SeriesData};
use std::collections::{BTreeMap, BTreeSet};

/// The labels by which an info series is found.
const IDENTIFYING: [&str; 2] = ["instance", "job"];
const TARGET_INFO: &str = "target_info";

/// The values of the identifying labels.
type Identity = [String; 2];

/// An info series, and when its current sample was taken, at every step.
type Candidate<'d> = (&'d SeriesData, Vec<Option<i64>>);

/// At one step: by identity and name, the labels of the info series and when its sample was taken.
type Current<'c> = BTreeMap<Identity, BTreeMap<&'c str, (&'c Labels, i64)>>;

fn identity(labels: &Labels) -> Identity {
    IDENTIFYING.map(|name| labels.get(name).unwrap_or("").to_owned())
}

impl<'a> Evaluator<'a> {
    pub(super) fn info(&mut self, frame: Frame, call: &Call) -> Evaluated<Vec<Series>> {
        let first = Self::argument(call, 0)?;
        let base = self.matrix(frame, first)?;
        let matchers: &[Matcher] = match call.args.get(1) {
            Some(Expr::Vector(selector)) => &selector.matchers,
            _ => &[],
        };
        let data: Vec<&Matcher> = matchers.iter().filter(|matcher| matcher.name != METRIC_NAME).collect();
        let names = info_name_matchers(matchers);
        let is_info = |name: &str| {
            let named = call.args.len() < 2 || matchers.iter().any(|matcher| matcher.name == METRIC_NAME);
            named && names.iter().all(|matcher| matcher.matches(name))
        };
        let ignored: Vec<bool> = base.iter().map(|series| is_info(series.labels.metric_name())).collect();
        let candidates = self.info_series(frame, call, first, &base, &ignored)?;
        let wanted: BTreeSet<&str> = data.iter().map(|matcher| matcher.name.as_str()).collect();
        let may_be_missing = data.iter().all(|matcher| matcher.matches(""));
        let mut base_steps = Steps::new(&base);
        let mut collector = Collector::default();
        for (step, t_ms) in frame.times().enumerate() {
            let current = current_info(&candidates, step)?;
            for (at, sample) in base_steps.vector(t_ms) {
                let series = &base[at];
                let labels = if ignored[at] {
                    series.labels.clone()
                } else {
                    match enriched(&series.labels, &current, &wanted)? {
                        Some(labels) => labels,
                        None if may_be_missing => series.labels.clone(),
                        None => continue,
                    }
                };
                self.account(1)?;
                let place = collector.place(&labels, series.drop_name);
                collector.push(place, t_ms, SampleRef::owned(sample))?;
            }
        }
        Ok(collector.finish())
    }

    /// The info series that some base series could use, with the time of the current sample at every step.
    fn info_series(
        &mut self,
        frame: Frame,
        call: &Call,
        first: &Expr,
        base: &[Series],
        ignored: &[bool],
    ) -> Evaluated<Vec<Candidate<'a>>> {
        let identities: BTreeSet<Identity> = base
            .iter()
            .zip(ignored)
            .filter(|(_, ignored)| !**ignored)
            .map(|(series, _)| identity(&series.labels))
            .filter(|identity| identity.iter().any(|value| !value.is_empty()))
            .collect();
        let mut out = Vec::new();
        for data in self.selected(call.span.start) {
            if !identities.contains(&identity(&data.labels)) {
                continue;
            }
            let mut lookback = Lookback::new(data, self.options.lookback_ms);
            let mut times = Vec::with_capacity(frame.steps());
            for t_ms in frame.times() {
                // The info series is looked at when its base series is.
                let at = first_selector_times(first, t_ms, t_ms).1;
                times.push(match lookback.find(at) {
                    Some(Found { float: Some(point), .. }) => Some(point.t_ms),
                    Some(_) => return fail("info sample should be float"),
                    None => None,
                });
            }
            self.account(times.len())?;
            out.push((data, times));
        }
        Ok(out)
    }
}

/// The matchers of the info series' name: `target_info` when there are none, all names that end in `_info` when they only
/// say what it is not.
pub(in crate::promql) fn info_name_matchers(matchers: &[Matcher]) -> Vec<Matcher> {
    let mut names: Vec<Matcher> = matchers.iter().filter(|matcher| matcher.name == METRIC_NAME).cloned().collect();
    let positive = |matcher: &Matcher| matches!(matcher.op, MatchOp::Equal | MatchOp::Regex);
    if names.is_empty() {
        names.extend(Matcher::new(METRIC_NAME, MatchOp::Equal, TARGET_INFO));
    } else if !names.iter().any(positive) {
        names.extend(Matcher::new(METRIC_NAME, MatchOp::Regex, ".+_info"));
    }
    names
}

/// At a step, the newest info series of each name and identity.
fn current_info<'c>(candidates: &'c [Candidate<'_>], step: usize) -> Evaluated<Current<'c>> {
    let mut current = Current::new();
    for (data, times) in candidates {
        let Some(t_ms) = times.get(step).copied().flatten() else {
            continue;
        };
        let of_identity = current.entry(identity(&data.labels)).or_default();
        let name = data.labels.metric_name();
        match of_identity.get(name) {
            Some((_, known)) if *known > t_ms => {}
            Some((labels, known)) if *known == t_ms => {
                return fail(format!(
                    "found duplicate series for info metric: existing {labels} @ {known}, new {} @ {t_ms}",
                    data.labels
                ));
            }
            _ => {
                of_identity.insert(name, (&data.labels, t_ms));
            }
        }
    }
    Ok(current)
}

/// The labels with those of the info series; nothing when there is none.
fn enriched(labels: &Labels, current: &Current<'_>, wanted: &BTreeSet<&str>) -> Evaluated<Option<Labels>> {
    let Some(found) = current.get(&identity(labels)) else {
        return Ok(None);
    };
    let mut added: BTreeMap<&str, &str> = BTreeMap::new();
    for (info, _) in found.values() {
        for label in info.iter().filter(|label| &*label.name != METRIC_NAME) {
            if !wanted.is_empty() && !wanted.contains(&*label.name) {
                continue;
            }
            if added.get(&*label.name).is_some_and(|known| *known != &*label.value) {
                return fail(format!("conflicting label: {}", label.name));
            }
            if labels.get(&label.name).is_none() {
                added.insert(&label.name, &label.value);
            }
        }
    }
    Ok(Some(labels.merged(&Labels::from_pairs(added))))
}
