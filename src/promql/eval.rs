//! Evaluates a prepared expression.

mod aggregate;
mod aggregate_steps;
mod binary;
mod calls;
mod extended;
mod histogram_quantile;
pub(super) mod info;
mod instant_functions;
mod label_functions;
mod matching;
mod over_time;
mod quantiles;
mod range_functions;
mod rate;
mod select;

use super::ast::{Expr, ValueType};
use super::notes::Notes;
use super::plan::{Frame, Plan};
use super::{Evaluation, Options, QueryError, SampleValue, Value, VectorSample};
use crate::model::Labels;
use crate::series::data::is_stale;
use crate::series::{FloatHistogram, FloatPoint, HistogramPoint, ResetHint, SeriesData, Storage};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The labels that describe a metric instead of a series of it.
const METADATA_LABELS: [&str; 3] = ["__name__", "__type__", "__unit__"];

/// Two samples of a vector have the same labels.
const SAME_LABELSET: &str = "vector cannot contain metrics with the same labelset";

type Evaluated<T> = Result<T, QueryError>;

fn fail<T>(message: impl Into<String>) -> Evaluated<T> {
    Err(QueryError::Execution(message.into()))
}

/// A series in the course of an evaluation.
#[derive(Clone, Debug, Default)]
struct Series {
    labels: Labels,
    /// The metric's name is still there but goes at the end.
    drop_name: bool,
    floats: Vec<FloatPoint>,
    histograms: Vec<HistogramPoint>,
}

impl Series {
    fn new(labels: Labels, drop_name: bool) -> Self {
        Self { labels, drop_name, floats: Vec::new(), histograms: Vec::new() }
    }

    fn is_empty(&self) -> bool {
        self.floats.is_empty() && self.histograms.is_empty()
    }

    fn push(&mut self, t_ms: i64, value: SampleValue) {
        match value {
            SampleValue::Float(value) => self.push_float(t_ms, value),
            SampleValue::Histogram(histogram) => {
                self.histograms.push(HistogramPoint { t_ms, histogram, start_ms: 0 });
            }
        }
    }

    fn push_float(&mut self, t_ms: i64, value: f64) {
        self.floats.push(FloatPoint { t_ms, value, start_ms: 0 });
    }

    fn last_time(&self) -> Option<i64> {
        let float = self.floats.last().map(|point| point.t_ms);
        float.max(self.histograms.last().map(|point| point.t_ms))
    }

    fn weight_samples(&self) -> usize {
        self.floats.len() + self.histograms.iter().map(|point| point.histogram.weight_samples()).sum::<usize>()
    }
}

/// A sample of a series, without copying it.
#[derive(Clone, Copy, Debug)]
enum SampleRef<'a> {
    Float(f64),
    Histogram(&'a Arc<FloatHistogram>),
}

impl SampleRef<'_> {
    fn float(self) -> Option<f64> {
        match self {
            Self::Float(value) => Some(value),
            Self::Histogram(_) => None,
        }
    }

    fn owned(self) -> SampleValue {
        match self {
            Self::Float(value) => SampleValue::Float(value),
            Self::Histogram(histogram) => SampleValue::Histogram(Arc::clone(histogram)),
        }
    }
}

/// What a part of an expression evaluates to over all steps.
enum Out {
    /// One value a step.
    Scalar(Vec<f64>),
    Text(String),
    Matrix(Vec<Series>),
}

/// Walks the steps of many series in step.
struct Steps<'a> {
    series: &'a [Series],
    cursors: Vec<(usize, usize)>,
}

impl<'a> Steps<'a> {
    fn new(series: &'a [Series]) -> Self {
        Self { series, cursors: vec![(0, 0); series.len()] }
    }

    /// The sample of a series at a time; times must not go backwards.
    fn sample(&mut self, at: usize, t_ms: i64) -> Option<SampleRef<'a>> {
        let series = &self.series[at];
        let (float, histogram) = &mut self.cursors[at];
        if let Some(point) = series.floats.get(*float)
            && point.t_ms == t_ms
        {
            *float += 1;
            return Some(SampleRef::Float(point.value));
        }
        let point = series.histograms.get(*histogram).filter(|point| point.t_ms == t_ms)?;
        *histogram += 1;
        Some(SampleRef::Histogram(&point.histogram))
    }

    /// All samples at a time, with the places of their series.
    fn vector(&mut self, t_ms: i64) -> Vec<(usize, SampleRef<'a>)> {
        (0..self.series.len()).filter_map(|at| self.sample(at, t_ms).map(|sample| (at, sample))).collect()
    }
}

/// Collects samples into series by their labels.
#[derive(Default)]
struct Collector {
    series: Vec<Series>,
    known: BTreeMap<(Labels, bool), usize>,
}

impl Collector {
    /// The place of the series with these labels.
    fn place(&mut self, labels: &Labels, drop_name: bool) -> usize {
        if let Some(place) = self.known.get(&(labels.clone(), drop_name)) {
            return *place;
        }
        let place = self.series.len();
        self.series.push(Series::new(labels.clone(), drop_name));
        self.known.insert((labels.clone(), drop_name), place);
        place
    }

    /// Adds a sample.
    ///
    /// # Errors
    /// When the series has one at that time already.
    fn push(&mut self, place: usize, t_ms: i64, value: SampleValue) -> Evaluated<()> {
        let series = &mut self.series[place];
        if series.last_time() == Some(t_ms) {
            return fail(SAME_LABELSET);
        }
        series.push(t_ms, value);
        Ok(())
    }

    fn finish(self) -> Vec<Series> {
        self.series.into_iter().filter(|series| !series.is_empty()).collect()
    }
}

struct Evaluator<'a> {
    sources: &'a Sources,
    options: &'a Options<'a>,
    notes: Notes,
    /// Samples in memory, by the measure of the limit.
    samples: usize,
    /// Samples since the deadline was last asked.
    unasked: usize,
}

impl<'a> Evaluator<'a> {
    /// Counts samples that are now in memory, and asks now and then whether there is time left.
    fn account(&mut self, samples: usize) -> Evaluated<()> {
        self.samples = self.samples.saturating_add(samples);
        if self.samples > self.options.max_samples {
            return fail("query processing would load too many samples into memory in query execution");
        }
        self.work(samples)
    }

    /// Counts work done, and asks now and then whether there is time left.
    fn work(&mut self, samples: usize) -> Evaluated<()> {
        self.unasked += samples + 1;
        if self.unasked < 4_096 {
            return Ok(());
        }
        self.unasked = 0;
        if self.options.canceled.is_some_and(|canceled| canceled()) {
            return Err(QueryError::Canceled);
        }
        if self.options.deadline.is_some_and(|over| over()) {
            return Err(QueryError::Timeout);
        }
        Ok(())
    }

    fn eval(&mut self, frame: Frame, expr: &Expr) -> Evaluated<Out> {
        let before = self.samples;
        let out = match expr {
            Expr::Number { value, .. } => self.constant(frame, value.0),
            Expr::String(text, _) => Ok(Out::Text(text.value.clone())),
            Expr::Paren(inner, _) => self.eval(frame, inner),
            Expr::Vector(selector) => {
                self.collected(|evaluator, sink| evaluator.vector_selector(frame, selector, sink)).map(Out::Matrix)
            }
            Expr::Matrix { .. } | Expr::Subquery(_) => fail("a range vector is not expected here"),
            Expr::Unary { negative, expr, .. } => self.unary(frame, *negative, expr),
            Expr::Binary(binary) => self.binary(frame, binary),
            Expr::Aggregate(aggregate) => self.aggregate(frame, aggregate).map(Out::Matrix),
            Expr::Call(call) => self.call(frame, call),
            Expr::Invariant(inner) => self.invariant(frame, inner),
        }?;
        let out = match out {
            Out::Matrix(series) if !self.options.delayed_name_removal => Out::Matrix(clean_up(series)?),
            out => out,
        };
        let size = match &out {
            Out::Scalar(values) => values.len(),
            Out::Text(_) => 1,
            Out::Matrix(series) => series.iter().map(Series::weight_samples).sum(),
        };
        self.samples = before;
        self.account(size)?;
        Ok(out)
    }

    fn constant(&mut self, frame: Frame, value: f64) -> Evaluated<Out> {
        self.account(frame.steps())?;
        Ok(Out::Scalar(vec![value; frame.steps()]))
    }

    /// Evaluates an instant vector.
    fn matrix(&mut self, frame: Frame, expr: &Expr) -> Evaluated<Vec<Series>> {
        match self.eval(frame, expr)? {
            Out::Matrix(series) => Ok(series),
            Out::Scalar(_) | Out::Text(_) => fail("an instant vector is expected here"),
        }
    }

    /// Evaluates a scalar at every step.
    fn scalar(&mut self, frame: Frame, expr: &Expr) -> Evaluated<Vec<f64>> {
        match self.eval(frame, expr)? {
            Out::Scalar(values) => Ok(values),
            Out::Matrix(_) | Out::Text(_) => fail("a scalar is expected here"),
        }
    }

    /// What is the same at every step is evaluated at the first and repeated.
    fn invariant(&mut self, frame: Frame, expr: &Expr) -> Evaluated<Out> {
        if frame.steps() <= 1 {
            return self.eval(frame, expr);
        }
        let first = Frame { end_ms: frame.start_ms, ..frame };
        Ok(match self.eval(first, expr)? {
            Out::Scalar(values) => {
                self.account(frame.steps())?;
                Out::Scalar(vec![values.first().copied().unwrap_or(f64::NAN); frame.steps()])
            }
            Out::Text(text) => Out::Text(text),
            Out::Matrix(series) => {
                self.account(series.len().saturating_mul(frame.steps()))?;
                let repeat = |series: Series| {
                    let mut out = Series::new(series.labels, series.drop_name);
                    if let Some(point) = series.floats.first() {
                        out.floats = frame.times().map(|t_ms| FloatPoint { t_ms, ..*point }).collect();
                    }
                    if let Some(point) = series.histograms.first() {
                        out.histograms = frame.times().map(|t_ms| HistogramPoint { t_ms, ..point.clone() }).collect();
                    }
                    out
                };
                Out::Matrix(series.into_iter().map(repeat).collect())
            }
        })
    }

    fn unary(&mut self, frame: Frame, negative: bool, expr: &Expr) -> Evaluated<Out> {
        let mut out = self.eval(frame, expr)?;
        if !negative {
            return Ok(out);
        }
        match &mut out {
            Out::Scalar(values) => values.iter_mut().for_each(|value| *value = -*value),
            Out::Text(_) => {}
            Out::Matrix(series) => {
                for series in series {
                    series.drop_name = true;
                    series.floats.iter_mut().for_each(|point| point.value = -point.value);
                    for point in &mut series.histograms {
                        point.histogram = Arc::new((*point.histogram).clone().scaled(-1.0));
                    }
                }
            }
        }
        Ok(out)
    }
}

/// Removes the names that had to go, and joins series that became the same.
///
/// # Errors
/// When two of them have a sample at the same time.
fn clean_up(matrix: Vec<Series>) -> Evaluated<Vec<Series>> {
    let stripped = matrix
        .into_iter()
        .map(|mut series| {
            if series.drop_name {
                series.labels = without_metadata(&series.labels);
                series.drop_name = false;
            }
            series
        })
        .collect();
    merge_same_labels(stripped)
}

fn without_metadata(labels: &Labels) -> Labels {
    if METADATA_LABELS.iter().all(|name| labels.get(name).is_none()) {
        return labels.clone();
    }
    labels.filtered(|name| !METADATA_LABELS.contains(&name))
}

/// Joins series with the same labels (`mergeSeriesWithSameLabelset`).
///
/// # Errors
/// When two of them have a sample at the same time.
fn merge_same_labels(matrix: Vec<Series>) -> Evaluated<Vec<Series>> {
    let mut known: BTreeMap<Labels, usize> = BTreeMap::new();
    let mut out: Vec<Series> = Vec::with_capacity(matrix.len());
    let mut joined = false;
    for series in matrix {
        match known.get(&series.labels) {
            None => {
                known.insert(series.labels.clone(), out.len());
                out.push(series);
            }
            Some(place) => {
                let into = &mut out[*place];
                into.drop_name |= series.drop_name;
                into.floats.extend(series.floats);
                into.histograms.extend(series.histograms);
                joined = true;
            }
        }
    }
    if joined {
        for series in &mut out {
            series.floats.sort_by_key(|point| point.t_ms);
            series.histograms.sort_by_key(|point| point.t_ms);
            let mut times: Vec<i64> = series.floats.iter().map(|point| point.t_ms).collect();
            times.extend(series.histograms.iter().map(|point| point.t_ms));
            times.sort_unstable();
            if times.windows(2).any(|pair| pair[0] == pair[1]) {
                return fail(SAME_LABELSET);
            }
        }
    }
    Ok(out)
}

/// What the selectors read.
struct Sources {
    data: Vec<Vec<SeriesData>>,
    /// Where a selector begins -> its place in `data`.
    slots: BTreeMap<usize, usize>,
}

impl Sources {
    /// Asks the store once for each selection.
    fn read(plan: &Plan, storage: &dyn Storage) -> Self {
        let mut data: Vec<Vec<SeriesData>> =
            plan.selections.iter().map(|selection| storage.select(selection)).collect();
        let mut slots = plan.slots.clone();
        for place in &plan.stats_only {
            let Some(slot) = slots.get_mut(place) else {
                continue;
            };
            if data[*slot].iter().any(|series| !series.histograms.is_empty()) {
                let hinted = data[*slot].iter().map(with_reset_hints).collect();
                *slot = data.len();
                data.push(hinted);
            }
        }
        Self { data, slots }
    }
}

/// Where only counts and sums of histograms are used, Prometheus reads them with an iterator that finds resets on its way
/// (`HistogramStatsIterator`), so that the hints say more than those of the store; warnings depend on them.
fn with_reset_hints(series: &SeriesData) -> SeriesData {
    let mut out = series.clone();
    let mut before: Option<Arc<FloatHistogram>> = None;
    for point in &mut out.histograms {
        if is_stale(point.histogram.sum) {
            continue;
        }
        let own = Arc::clone(&point.histogram);
        if own.reset_hint == ResetHint::Unknown
            && let Some(before) = &before
        {
            let reset_hint = if own.is_reset_after(before) { ResetHint::Reset } else { ResetHint::NotReset };
            point.histogram = Arc::new(FloatHistogram { reset_hint, ..(*own).clone() });
        }
        before = Some(own);
    }
    out
}

fn evaluator<'a>(sources: &'a Sources, options: &'a Options<'a>) -> Evaluator<'a> {
    Evaluator { sources, options, notes: Notes::default(), samples: 0, unasked: 0 }
}

fn into_data(series: Series) -> SeriesData {
    SeriesData { labels: series.labels, floats: series.floats, histograms: series.histograms }
}

/// Evaluates at the one moment of the plan.
pub(super) fn instant(plan: &Plan, text: &str, storage: &dyn Storage, options: &Options<'_>) -> Evaluated<Evaluation> {
    let sources = Sources::read(plan, storage);
    let mut evaluator = evaluator(&sources, options);
    let t_ms = plan.frame.start_ms;
    evaluator.work(4_096)?;
    let value = if plan.expr.value_type() == ValueType::Matrix {
        let mut matrix = clean_up(evaluator.range_vector(plan.frame, &plan.expr)?)?;
        matrix.sort_by(|a, b| a.labels.cmp(&b.labels));
        Value::Matrix(matrix.into_iter().map(into_data).collect())
    } else {
        match evaluator.eval(plan.frame, &plan.expr)? {
            Out::Scalar(values) => Value::Scalar { t_ms, value: values.first().copied().unwrap_or(f64::NAN) },
            Out::Text(value) => Value::String { t_ms, value },
            Out::Matrix(matrix) => {
                let sample = |mut series: Series| {
                    let value = match (series.floats.pop(), series.histograms.pop()) {
                        (Some(point), _) => SampleValue::Float(point.value),
                        (None, Some(point)) => SampleValue::Histogram(point.histogram),
                        (None, None) => return None,
                    };
                    Some(VectorSample { labels: series.labels, t_ms, value })
                };
                Value::Vector(clean_up(matrix)?.into_iter().filter_map(sample).collect())
            }
        }
    };
    let (warnings, infos) = evaluator.notes.texts(text);
    Ok(Evaluation { value, warnings, infos })
}

/// Evaluates at all steps of the plan.
pub(super) fn range(plan: &Plan, text: &str, storage: &dyn Storage, options: &Options<'_>) -> Evaluated<Evaluation> {
    let sources = Sources::read(plan, storage);
    let mut evaluator = evaluator(&sources, options);
    evaluator.work(4_096)?;
    let mut matrix = match evaluator.eval(plan.frame, &plan.expr)? {
        Out::Scalar(values) => {
            let mut series = Series::default();
            for (t_ms, value) in plan.frame.times().zip(values) {
                series.push_float(t_ms, value);
            }
            vec![series]
        }
        Out::Text(_) => return fail("a text is not a result of a range query"),
        Out::Matrix(matrix) => clean_up(matrix)?,
    };
    matrix.retain(|series| !series.is_empty());
    matrix.sort_by(|a, b| a.labels.cmp(&b.labels));
    let value = Value::Matrix(matrix.into_iter().map(into_data).collect());
    let (warnings, infos) = evaluator.notes.texts(text);
    Ok(Evaluation { value, warnings, infos })
}
