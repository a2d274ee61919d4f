//! Selectors and subqueries: samples of the store, brought to the steps of the evaluation.

use super::calls::is_range_call;
use super::extended::{interpolate, interpolate_histograms};
use super::rate::Resets;
use super::{Evaluated, Evaluator, Out, Series, fail};
use crate::model::Labels;
use crate::promql::ast::{At, Expr, Extension, Modifiers, Selector, Span, Subquery};
use crate::promql::plan::{Frame, moved};
use crate::series::{FloatHistogram, FloatPoint, HistogramPoint, ResetHint, SeriesData, data::is_stale};
use std::borrow::Cow;
use std::sync::Arc;

/// What takes the series of an evaluation, one by one.
pub(super) type Sink<'s, 'a> = &'s mut dyn FnMut(&mut Evaluator<'a>, Series) -> Evaluated<()>;

/// The samples that a range function looks at.
pub(super) struct Window<'w> {
    pub labels: &'w Labels,
    pub floats: &'w [FloatPoint],
    pub histograms: &'w [HistogramPoint],
    /// Exclusive, without what an extended range adds.
    pub range_start: i64,
    /// Inclusive, without what an extended range adds.
    pub range_end: i64,
    /// The moment of the evaluation.
    pub now: i64,
    pub extension: Extension,
    /// Of the argument.
    pub span: Span,
    /// Where the floats were reset, if that is known already.
    pub resets: Option<Resets<'w>>,
    /// The same for the histograms.
    pub histogram_resets: Option<Resets<'w>>,
}

impl Window<'_> {
    pub fn metric(&self) -> &str {
        self.labels.metric_name()
    }

    pub fn is_empty(&self) -> bool {
        self.floats.is_empty() && self.histograms.is_empty()
    }

    pub fn range_seconds(&self) -> f64 {
        self.range_end.saturating_sub(self.range_start) as f64 / 1000.0
    }
}

/// Series with a range at every step.
pub(super) struct Ranges<'r> {
    pub series: Cow<'r, [SeriesData]>,
    /// Of each series, when they come out of a subquery.
    pub drop_names: Vec<bool>,
    pub modifiers: &'r Modifiers,
    pub range_ms: i64,
}

/// Where a value of an instant vector came from.
pub(super) struct Found<'s> {
    pub float: Option<&'s FloatPoint>,
    pub histogram: Option<&'s HistogramPoint>,
}

/// Finds the current sample of a series at times that do not go backwards.
pub(super) struct Lookback<'s> {
    series: &'s SeriesData,
    lookback_ms: i64,
    float: usize,
    histogram: usize,
}

impl<'s> Lookback<'s> {
    pub fn new(series: &'s SeriesData, lookback_ms: i64) -> Self {
        Self { series, lookback_ms, float: 0, histogram: 0 }
    }

    /// The newest sample at `at` that is not older than the lookback and not a marker of staleness.
    pub fn find(&mut self, at: i64) -> Option<Found<'s>> {
        let series = self.series;
        while series.floats.get(self.float).is_some_and(|point| point.t_ms <= at) {
            self.float += 1;
        }
        while series.histograms.get(self.histogram).is_some_and(|point| point.t_ms <= at) {
            self.histogram += 1;
        }
        let oldest = at.saturating_sub(self.lookback_ms);
        let float = self.float.checked_sub(1).map(|at| &series.floats[at]).filter(|point| point.t_ms > oldest);
        let histogram =
            self.histogram.checked_sub(1).map(|at| &series.histograms[at]).filter(|point| point.t_ms > oldest);
        match (float, histogram) {
            (Some(float), Some(histogram)) if float.t_ms > histogram.t_ms => Self::fresh(Some(float), None),
            (_, Some(histogram)) => Self::fresh(None, Some(histogram)),
            (Some(float), None) => Self::fresh(Some(float), None),
            (None, None) => None,
        }
    }

    fn fresh(float: Option<&'s FloatPoint>, histogram: Option<&'s HistogramPoint>) -> Option<Found<'s>> {
        let stale = float.is_some_and(|point| is_stale(point.value))
            || histogram.is_some_and(|point| is_stale(point.histogram.sum));
        (!stale).then_some(Found { float, histogram })
    }
}

/// Moves over the samples of a series as the range moves.
pub(super) struct Sliding<'s> {
    floats: &'s [FloatPoint],
    histograms: &'s [HistogramPoint],
    float: (usize, usize),
    histogram: (usize, usize),
}

impl<'s> Sliding<'s> {
    pub fn new(series: &'s SeriesData) -> Self {
        Self { floats: &series.floats, histograms: &series.histograms, float: (0, 0), histogram: (0, 0) }
    }

    /// The places of the range's first float and histogram.
    pub fn first_places(&self) -> (usize, usize) {
        (self.float.0, self.histogram.0)
    }

    /// The samples after `start` up to `end`; neither may go backwards.
    pub fn slide(&mut self, start: i64, end: i64) -> (&'s [FloatPoint], &'s [HistogramPoint]) {
        fn advance(range: &mut (usize, usize), length: usize, time: impl Fn(usize) -> i64, start: i64, end: i64) {
            while range.1 < length && time(range.1) <= end {
                range.1 += 1;
            }
            while range.0 < range.1 && time(range.0) <= start {
                range.0 += 1;
            }
        }
        let (floats, histograms) = (self.floats, self.histograms);
        advance(&mut self.float, floats.len(), |at| floats[at].t_ms, start, end);
        advance(&mut self.histogram, histograms.len(), |at| histograms[at].t_ms, start, end);
        (&floats[self.float.0..self.float.1], &histograms[self.histogram.0..self.histogram.1])
    }
}

impl<'a> Evaluator<'a> {
    /// The series that a selector (or `info`) reads, by where it begins in the text.
    pub(super) fn selected(&self, place: usize) -> &'a [SeriesData] {
        self.sources.slots.get(&place).and_then(|slot| self.sources.data.get(*slot)).map_or(&[], Vec::as_slice)
    }

    /// The time that a selector looks at, at a step.
    pub(super) fn reference_time(modifiers: &Modifiers, t_ms: i64) -> i64 {
        moved(modifiers, t_ms, t_ms).1
    }

    /// Evaluates an instant vector and hands over its series one by one; those of selectors and of functions over ranges are
    /// not all in memory at once.
    pub(super) fn each_series(&mut self, frame: Frame, expr: &Expr, sink: Sink<'_, 'a>) -> Evaluated<()> {
        let before = self.samples;
        match expr {
            Expr::Paren(inner, _) => self.each_series(frame, inner, sink),
            Expr::Vector(selector) => self.vector_selector(frame, selector, sink),
            Expr::Call(call) if is_range_call(call) && self.options.delayed_name_removal => {
                self.range_call(frame, call, sink)
            }
            _ => {
                let matrix = self.matrix(frame, expr)?;
                for series in matrix {
                    sink(self, series)?;
                }
                self.samples = before;
                Ok(())
            }
        }
    }

    pub(super) fn vector_selector(&mut self, frame: Frame, selector: &Selector, sink: Sink<'_, 'a>) -> Evaluated<()> {
        let modifiers = &selector.modifiers;
        if modifiers.extension == Extension::Anchored {
            return fail("anchored modifier can only be used with range selectors");
        }
        for data in self.selected(selector.span.start) {
            let mut series = Series::new(data.labels.clone(), false);
            if modifiers.extension == Extension::Smoothed {
                self.smoothed_points(frame, selector, data, &mut series);
            } else {
                let mut lookback = Lookback::new(data, self.options.lookback_ms);
                for t_ms in frame.times() {
                    match lookback.find(Self::reference_time(modifiers, t_ms)) {
                        Some(Found { float: Some(point), .. }) => series.push_float(t_ms, point.value),
                        Some(Found { histogram: Some(point), .. }) => {
                            series.histograms.push(HistogramPoint { t_ms, start_ms: 0, ..point.clone() });
                        }
                        _ => {}
                    }
                }
            }
            self.work(frame.steps())?;
            if !series.is_empty() {
                sink(self, series)?;
            }
        }
        Ok(())
    }

    /// Values interpolated between the samples around each step; after the last sample, that one stays.
    fn smoothed_points(&mut self, frame: Frame, selector: &Selector, data: &SeriesData, series: &mut Series) {
        let data = without_stale(data);
        let lookback = self.options.lookback_ms;
        let mut sliding = Sliding::new(&data);
        for t_ms in frame.times() {
            let at = Self::reference_time(&selector.modifiers, t_ms);
            let (floats, histograms) = sliding.slide(at.saturating_sub(lookback), at.saturating_add(lookback));
            if !floats.is_empty() && !histograms.is_empty() {
                self.notes.mixed_floats_histograms(data.labels.metric_name(), selector.span);
                continue;
            }
            let before = floats.partition_point(|point| point.t_ms <= at);
            if let Some(left) = before.checked_sub(1).map(|before| &floats[before]) {
                match floats.get(before) {
                    Some(right) if left.t_ms < at => series.push_float(t_ms, interpolate(left, right, at, false)),
                    _ => series.push_float(t_ms, left.value),
                }
                continue;
            }
            let before = histograms.partition_point(|point| point.t_ms <= at);
            let Some(left) = before.checked_sub(1).map(|before| &histograms[before]) else {
                continue;
            };
            let left_is_counter = left.histogram.reset_hint != ResetHint::Gauge;
            let histogram = match histograms.get(before) {
                Some(right) if left.t_ms < at => {
                    if right.histogram.uses_custom_buckets() != left.histogram.uses_custom_buckets() {
                        self.notes.mixed_exponential_custom(data.labels.metric_name(), selector.span);
                        continue;
                    }
                    match interpolate_histograms(left, right, at, left_is_counter, &mut self.notes, selector.span) {
                        Ok(histogram) => Arc::new(histogram),
                        Err(_) => {
                            self.notes.mixed_exponential_custom(data.labels.metric_name(), selector.span);
                            continue;
                        }
                    }
                }
                _ => Arc::clone(&left.histogram),
            };
            series.histograms.push(HistogramPoint { t_ms, histogram, start_ms: 0 });
        }
    }

    /// What a range function gets: series whose samples are cut into ranges at every step.
    pub(super) fn ranges<'e>(&mut self, frame: Frame, expr: &'e Expr) -> Evaluated<Ranges<'e>>
    where
        'a: 'e,
    {
        match expr.unwrapped() {
            Expr::Matrix { selector, range, .. } => {
                let data = self.selected(selector.span.start);
                let stale = data.iter().any(has_stale);
                let series = if stale {
                    Cow::Owned(data.iter().map(|data| without_stale(data).into_owned()).collect())
                } else {
                    Cow::Borrowed(data)
                };
                let (range_ms, modifiers) = (range.fixed_ms(), &selector.modifiers);
                Ok(Ranges { series, drop_names: Vec::new(), modifiers, range_ms })
            }
            Expr::Subquery(subquery) => self.subquery(frame, subquery),
            _ => fail("a range vector is expected here"),
        }
    }

    fn subquery<'e>(&mut self, frame: Frame, subquery: &'e Subquery) -> Evaluated<Ranges<'e>> {
        let range_ms = subquery.range.fixed_ms();
        let step_ms = match &subquery.step {
            Some(step) => step.fixed_ms().max(1),
            None => self.options.subquery_step_ms.max(1),
        };
        let (first, last) = moved(&subquery.modifiers, frame.start_ms, frame.end_ms);
        // Steps are multiples of the step; the range is open on the left.
        let open = i128::from(first) - i128::from(range_ms);
        let start = (open.div_euclid(i128::from(step_ms)) + 1) * i128::from(step_ms);
        let Ok(start_ms) = i64::try_from(start) else {
            return fail("subquery begins before all time");
        };
        let inner = Frame { start_ms, end_ms: last, step_ms };
        let modifiers = &subquery.modifiers;
        let mut ranges = Ranges { series: Cow::Borrowed(&[]), drop_names: Vec::new(), modifiers, range_ms };
        if start_ms > last {
            return Ok(ranges);
        }
        if inner.steps() > self.options.max_samples {
            return fail("query processing would load too many samples into memory in query execution");
        }
        let mut series = match self.eval(inner, &subquery.expr)? {
            Out::Matrix(series) => series,
            Out::Scalar(_) | Out::Text(_) => return fail("subquery is only allowed on instant vector"),
        };
        // The steps leave samples out or see them twice, so what a sample knows of the one before it is void.
        for point in series.iter_mut().flat_map(|series| &mut series.histograms) {
            if matches!(point.histogram.reset_hint, ResetHint::Reset | ResetHint::NotReset) {
                let unhinted = FloatHistogram { reset_hint: ResetHint::Unknown, ..(*point.histogram).clone() };
                point.histogram = Arc::new(unhinted);
            }
        }
        ranges.drop_names = series.iter().map(|series| series.drop_name).collect();
        ranges.series = Cow::Owned(series.into_iter().map(super::into_data).collect());
        Ok(ranges)
    }

    /// A range vector as the result of an instant query.
    pub(super) fn range_vector(&mut self, frame: Frame, expr: &Expr) -> Evaluated<Vec<Series>> {
        let ranges = self.ranges(frame, expr)?;
        if ranges.modifiers.extension != Extension::None {
            let name = ranges.modifiers.extension.name();
            return fail(format!("{name} modifier is only supported inside of functions"));
        }
        let end = Self::reference_time(ranges.modifiers, frame.start_ms);
        let mut out = Vec::new();
        for (at, data) in ranges.series.iter().enumerate() {
            let (floats, histograms) = Sliding::new(data).slide(end.saturating_sub(ranges.range_ms), end);
            let mut series = Series::new(data.labels.clone(), ranges.drop_names.get(at).copied().unwrap_or(false));
            series.floats = floats.to_vec();
            series.histograms = histograms.to_vec();
            self.account(series.weight_samples())?;
            if !series.is_empty() {
                out.push(series);
            }
        }
        Ok(out)
    }
}

impl Ranges<'_> {
    /// Whether the range is the same at every step.
    pub fn stands_still(&self) -> bool {
        matches!(self.modifiers.at, Some(At::Time(_)))
    }
}

fn has_stale(data: &SeriesData) -> bool {
    data.floats.iter().any(|point| is_stale(point.value))
        || data.histograms.iter().any(|point| is_stale(point.histogram.sum))
}

fn without_stale(data: &SeriesData) -> Cow<'_, SeriesData> {
    if !has_stale(data) {
        return Cow::Borrowed(data);
    }
    Cow::Owned(SeriesData {
        labels: data.labels.clone(),
        floats: data.floats.iter().filter(|point| !is_stale(point.value)).copied().collect(),
        histograms: data.histograms.iter().filter(|point| !is_stale(point.histogram.sum)).cloned().collect(),
    })
}
