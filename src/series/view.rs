//! Reading: the live store and owned views of it.

use super::buckets::{HistogramCodec, HistogramState};
use super::chunk::FloatCodec;
use super::number::bound_text;
use super::received::ReceivedCodec;
use super::ring::{RingView, Rings, Ticks};
use super::sampling::{stale_float, stale_histogram};
use super::store::{Body, Store, flag, shared_native};
use super::{FloatHistogram, FloatPoint, HistogramPoint, MatchOp, Matcher, Selection, SeriesData, Storage};
use crate::model::{Labels, METRIC_NAME, Timestamp};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The form in which a series answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Form {
    /// As it is.
    Native,
    /// `x_bucket`, one series for each bound.
    Bucket,
    /// `x_sum`
    Sum,
    /// `x_count`
    Count,
}

impl Form {
    pub const CLASSIC: [(Self, &'static str); 3] =
        [(Self::Bucket, "_bucket"), (Self::Sum, "_sum"), (Self::Count, "_count")];
}

/// A part of the store that stays as it was: owned, shared between threads.
#[derive(Clone, Debug, Default)]
pub struct View {
    series: Vec<ViewSeries>,
    /// The series of each selection that the view was made for, so that a query finds them without looking at all.
    selections: Vec<(Vec<Matcher>, Places)>,
    ticks: Ticks,
    rings: Rings,
}

/// Positions in a view's series, each in the form asked for.
type Places = Vec<(u32, Form)>;

#[derive(Clone, Debug)]
pub(super) struct ViewSeries {
    pub labels: Labels,
    data: ViewData,
}

#[derive(Clone, Debug)]
enum ViewData {
    /// A counter or gauge: what holds now and since when, unless a tick has recorded it.
    Float(RingView<FloatCodec>, Option<(i64, f64, i64)>),
    Histogram(RingView<HistogramCodec>, Option<(i64, HistogramState, i64)>, Arc<[f64]>),
    Received(RingView<FloatCodec>, RingView<ReceivedCodec>),
}

fn is_name(matcher: &Matcher) -> bool {
    matcher.name == METRIC_NAME
}

/// Whether the matchers ask for metrics by name in a way that can mean a histogram's classic form.
fn names_a_metric(matchers: &[Matcher]) -> bool {
    matchers.iter().any(|matcher| is_name(matcher) && matches!(matcher.op, MatchOp::Equal | MatchOp::Regex))
}

/// Whether a bucket's series passes the matchers on `le`. `le="1.0"` means the bucket `1`: both ways are in use.
fn bound_passes(matchers: &[&Matcher], bound: f64, text: &str) -> bool {
    matchers.iter().filter(|matcher| matcher.name == "le").all(|matcher| {
        matcher.matches(text)
            || matcher.op == MatchOp::Equal && matcher.value.parse::<f64>().is_ok_and(|wanted| wanted == bound)
    })
}

impl Store {
    /// The series that all matchers take, each in the form in which it is asked for.
    pub(super) fn matching(&self, matchers: &[Matcher]) -> Vec<(u32, Form)> {
        let empty = empty_labels();
        let labels = |slot: u32| self.entry(slot).map_or(empty, |entry| &entry.labels);
        let refs: Vec<&Matcher> = matchers.iter().collect();
        let mut found: Vec<(u32, Form)> =
            self.index.resolve(&refs, labels).into_iter().map(|slot| (slot, Form::Native)).collect();
        if !names_a_metric(matchers) {
            return found;
        }
        for (form, suffix) in Form::CLASSIC {
            for name in self.classic_names(matchers, suffix) {
                let Ok(by_name) = Matcher::new(METRIC_NAME, MatchOp::Equal, name) else { continue };
                let rest = matchers
                    .iter()
                    .filter(|matcher| !is_name(matcher) && (form != Form::Bucket || matcher.name != "le"));
                let rest: Vec<&Matcher> = std::iter::once(&by_name).chain(rest).collect();
                let slots = self.index.resolve(&rest, labels);
                let counted =
                    |slot: &u32| self.entry(*slot).is_some_and(|entry| matches!(entry.body, Body::Histogram(_)));
                found.extend(slots.into_iter().filter(counted).map(|slot| (slot, form)));
            }
        }
        found
    }

    /// The self-counted histograms whose name with this suffix passes all matchers on the name.
    fn classic_names(&self, matchers: &[Matcher], suffix: &str) -> Vec<&str> {
        let histograms = || self.metrics.iter().filter(|metric| metric.is_histogram()).map(|metric| &*metric.name);
        let names: Vec<&str> = match matchers.iter().find(|matcher| is_name(matcher) && matcher.op == MatchOp::Equal) {
            Some(matcher) => {
                let base = matcher.value.strip_suffix(suffix);
                let known = base.and_then(|base| self.metric_names.get(base)).map(|id| &self.metrics[id.0 as usize]);
                known.filter(|metric| metric.is_histogram()).map(|metric| &*metric.name).into_iter().collect()
            }
            None => histograms().collect(),
        };
        let passes = |name: &&str| {
            let classic = format!("{name}{suffix}");
            matchers.iter().filter(|matcher| is_name(matcher)).all(|matcher| matcher.matches(&classic))
        };
        names.into_iter().filter(passes).collect()
    }

    /// The part of the store that these selections read, as it is now.
    pub fn view(&self, selections: &[Selection]) -> View {
        let mut ranges: BTreeMap<u32, (i64, i64)> = BTreeMap::new();
        let mut found = Vec::with_capacity(selections.len());
        for selection in selections {
            let matches = self.matching(&selection.matchers);
            for (slot, _) in &matches {
                let range = ranges.entry(*slot).or_insert((selection.from_ms, selection.to_ms));
                *range = (range.0.min(selection.from_ms), range.1.max(selection.to_ms));
            }
            found.push((selection.matchers.clone(), matches));
        }
        let mut view = View { ticks: self.ticks.clone(), rings: self.options.rings, ..View::default() };
        let mut places = BTreeMap::new();
        for (slot, range) in ranges {
            if let Some(series) = self.view_series(slot, range) {
                places.insert(slot, view.series.len() as u32);
                view.series.push(series);
            }
        }
        view.selections = found
            .into_iter()
            .map(|(matchers, matches)| {
                let placed = matches.iter().filter_map(|(slot, form)| Some((*places.get(slot)?, *form)));
                (matchers, placed.collect())
            })
            .collect();
        view
    }

    fn view_series(&self, slot: u32, (from_ms, to_ms): (i64, i64)) -> Option<ViewSeries> {
        let (entry, hot) = (self.entry(slot)?, self.hot[slot as usize]);
        let pending = flag::LIVE | flag::TICK | flag::VALUED;
        // What has changed since the last sample is seen at the time of its change, but never before that sample.
        let head = (hot.flags & pending == pending).then(|| {
            let after = entry.last_ms().max(self.ticks.last().unwrap_or(i64::MIN)).saturating_add(1);
            Timestamp::from_micros(hot.updated_us).millis().max(after)
        });
        let data = match &entry.body {
            Body::Float(ring) => {
                ViewData::Float(ring.view(from_ms, to_ms, true), head.map(|t_ms| (t_ms, hot.value, entry.created_ms)))
            }
            Body::Histogram(histogram) => ViewData::Histogram(
                histogram.ring.view(from_ms, to_ms, true),
                head.map(|t_ms| (t_ms, histogram.state.clone(), entry.created_ms)),
                histogram.bounds.clone(),
            ),
            Body::Received(rings) => ViewData::Received(
                rings.floats.view(from_ms, to_ms, false),
                rings.histograms.view(from_ms, to_ms, false),
            ),
        };
        Some(ViewSeries { labels: entry.labels.clone(), data })
    }
}

fn empty_labels() -> &'static Labels {
    static EMPTY: std::sync::OnceLock<Labels> = std::sync::OnceLock::new();
    EMPTY.get_or_init(Labels::default)
}

impl Storage for Store {
    fn select(&self, selection: &Selection) -> Vec<SeriesData> {
        let mut out = Vec::new();
        let matchers: Vec<&Matcher> = selection.matchers.iter().collect();
        for (slot, form) in self.matching(&selection.matchers) {
            if let Some(series) = self.view_series(slot, (selection.from_ms, selection.to_ms)) {
                read(&series, form, &matchers, selection, (&self.ticks, &self.options.rings), &mut out);
            }
        }
        sorted(out)
    }
}

impl Storage for View {
    fn select(&self, selection: &Selection) -> Vec<SeriesData> {
        let mut out = Vec::new();
        let matchers: Vec<&Matcher> = selection.matchers.iter().collect();
        let ticks = (&self.ticks, &self.rings);
        if let Some((_, places)) = self.selections.iter().find(|(known, _)| *known == selection.matchers) {
            for (place, form) in places {
                read(&self.series[*place as usize], *form, &matchers, selection, ticks, &mut out);
            }
            return sorted(out);
        }
        for series in &self.series {
            for form in self.forms(series, &selection.matchers) {
                read(series, form, &matchers, selection, ticks, &mut out);
            }
        }
        sorted(out)
    }
}

impl View {
    /// The forms in which a series answers matchers that the view was not made for.
    fn forms(&self, series: &ViewSeries, matchers: &[Matcher]) -> Vec<Form> {
        let value = |name: &str| series.labels.get(name).unwrap_or("");
        let mut forms = Vec::new();
        if matchers.iter().all(|matcher| matcher.matches(value(&matcher.name))) {
            forms.push(Form::Native);
        }
        if matches!(series.data, ViewData::Histogram(..)) && names_a_metric(matchers) {
            for (form, suffix) in Form::CLASSIC {
                let name = format!("{}{suffix}", series.labels.metric_name());
                let passes = |matcher: &Matcher| {
                    form == Form::Bucket && matcher.name == "le"
                        || matcher.matches(if is_name(matcher) { &name } else { value(&matcher.name) })
                };
                if matchers.iter().all(passes) {
                    forms.push(form);
                }
            }
        }
        forms
    }

    /// How many series it holds.
    pub fn len(&self) -> usize {
        self.series.len()
    }

    /// Whether nothing matched.
    pub fn is_empty(&self) -> bool {
        self.series.is_empty()
    }
}

fn sorted(mut series: Vec<SeriesData>) -> Vec<SeriesData> {
    series.sort_by(|a, b| a.labels.cmp(&b.labels));
    series
}

fn read(
    series: &ViewSeries,
    form: Form,
    matchers: &[&Matcher],
    selection: &Selection,
    ticks: (&Ticks, &Rings),
    out: &mut Vec<SeriesData>,
) {
    let range = (selection.from_ms, selection.to_ms);
    let mut data = SeriesData { labels: series.labels.clone(), ..SeriesData::default() };
    match (&series.data, form) {
        (ViewData::Float(ring, head), Form::Native) => {
            let head = head.as_ref().map(|(t_ms, value, start_ms)| (*t_ms, value, *start_ms));
            ring.read(range, Some(ticks), head, |t_ms, value, start_ms| {
                data.floats.push(FloatPoint { t_ms, value: *value, start_ms });
            });
        }
        (ViewData::Received(floats, histograms), Form::Native) => {
            floats.read(range, None, None, |t_ms, value, start_ms| {
                data.floats.push(FloatPoint { t_ms, value: *value, start_ms });
            });
            histograms.read(range, None, None, |t_ms, histogram, start_ms| {
                data.histograms.push(HistogramPoint { t_ms, histogram: histogram.clone(), start_ms });
            });
        }
        (ViewData::Histogram(ring, head, _), Form::Native) => {
            let head = head.as_ref().map(|(t_ms, state, start_ms)| (*t_ms, state, *start_ms));
            let mut last: Option<(HistogramState, Arc<FloatHistogram>)> = None;
            ring.read(range, Some(ticks), head, |t_ms, state, start_ms| {
                // Between two changes the same histogram is shared by all its samples.
                let histogram = match &last {
                    Some((known, histogram)) if known == state => histogram.clone(),
                    _ if state.stale => stale_histogram(),
                    _ => shared_native(state),
                };
                if last.as_ref().is_none_or(|(known, _)| known != state) {
                    last = Some((state.clone(), histogram.clone()));
                }
                data.histograms.push(HistogramPoint { t_ms, histogram, start_ms });
            });
        }
        (ViewData::Histogram(ring, head, bounds), form) => {
            read_classic((ring, head, bounds), &series.labels, form, matchers, (range, ticks), out);
            return;
        }
        (ViewData::Float(..) | ViewData::Received(..), _) => return,
    }
    if !data.floats.is_empty() || !data.histograms.is_empty() {
        out.push(data);
    }
}

type HistogramParts<'a> = (&'a RingView<HistogramCodec>, &'a Option<(i64, HistogramState, i64)>, &'a Arc<[f64]>);

fn read_classic(
    (ring, head, bounds): HistogramParts<'_>,
    labels: &Labels,
    form: Form,
    matchers: &[&Matcher],
    (range, ticks): ((i64, i64), (&Ticks, &Rings)),
    out: &mut Vec<SeriesData>,
) {
    let suffix = Form::CLASSIC.iter().find(|(known, _)| *known == form).map_or("", |(_, suffix)| suffix);
    let labels = labels.with(METRIC_NAME, &format!("{}{suffix}", labels.metric_name()));
    let mut wanted: Vec<(usize, SeriesData)> = match form {
        Form::Bucket => bounds
            .iter()
            .copied()
            .chain([f64::INFINITY])
            .enumerate()
            .map(|(at, bound)| (at, bound, bound_text(bound)))
            .filter(|(_, bound, text)| bound_passes(matchers, *bound, text))
            .map(|(at, _, text)| (at, SeriesData { labels: labels.with("le", &text), ..SeriesData::default() }))
            .collect(),
        _ => vec![(0, SeriesData { labels, ..SeriesData::default() })],
    };
    let head = head.as_ref().map(|(t_ms, state, start_ms)| (*t_ms, state, *start_ms));
    ring.read(range, Some(ticks), head, |t_ms, state, start_ms| {
        for (bound, data) in &mut wanted {
            let value = match form {
                _ if state.stale => stale_float(),
                Form::Sum => state.sum,
                Form::Count | Form::Native => state.count as f64,
                Form::Bucket => state.cumulative(*bound) as f64,
            };
            data.floats.push(FloatPoint { t_ms, value, start_ms });
        }
    });
    out.extend(wanted.into_iter().map(|(_, data)| data).filter(|data| !data.floats.is_empty()));
}
