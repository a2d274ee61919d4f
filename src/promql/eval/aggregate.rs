//! Aggregations that take whole series at a time: `sum`, `avg`, `min`, `max`, `count`, `group`, `stddev`, `stdvar`.

use super::over_time::{HistogramMean, Mean, kahan};
use super::{Evaluated, Evaluator, Series};
use crate::model::{Labels, METRIC_NAME};
use crate::promql::ast::{Aggregate, Aggregator, Span};
use crate::promql::notes::{HistogramOperation, Notes};
use crate::promql::plan::Frame;
use crate::series::{FloatHistogram, HistogramPoint};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Series that are aggregated together.
pub(super) struct Groups {
    /// Of each input series: its group.
    pub of_series: Vec<usize>,
    /// Of each group: its labels.
    pub labels: Vec<Labels>,
    /// Of each group: whether some series of it loses its name at the end.
    pub drop_names: Vec<bool>,
}

impl Groups {
    pub fn new(aggregate: &Aggregate, matrix: &[Series]) -> Self {
        let mut known: BTreeMap<Labels, usize> = BTreeMap::new();
        let mut groups =
            Self { of_series: Vec::with_capacity(matrix.len()), labels: Vec::new(), drop_names: Vec::new() };
        for series in matrix {
            let listed = |name: &str| aggregate.grouping.iter().any(|label| label == name);
            let labels = if aggregate.without {
                series.labels.filtered(|name| name != METRIC_NAME && !listed(name))
            } else if aggregate.grouping.is_empty() {
                Labels::default()
            } else {
                series.labels.filtered(listed)
            };
            let group = *known.entry(labels.clone()).or_insert_with(|| {
                groups.labels.push(labels);
                groups.drop_names.push(false);
                groups.labels.len() - 1
            });
            groups.drop_names[group] |= series.drop_name;
            groups.of_series.push(group);
        }
        groups
    }
}

/// What a group has at a step.
#[derive(Clone)]
enum Cell {
    Empty,
    /// A sum, a least or greatest value, or a count.
    Plain {
        value: f64,
        lost: f64,
    },
    Mean(Mean),
    /// Variance by Welford's method.
    Spread {
        count: f64,
        mean: f64,
        sum: f64,
    },
    Histograms(Box<HistogramMean>),
    /// Floats and histograms together are neither.
    Mixed,
}

impl Evaluator<'_> {
    pub(super) fn aggregate(&mut self, frame: Frame, aggregate: &Aggregate) -> Evaluated<Vec<Series>> {
        if aggregate.op.has_parameter() {
            return self.aggregate_with_parameter(frame, aggregate);
        }
        let matrix = self.matrix(frame, &aggregate.expr)?;
        let groups = Groups::new(aggregate, &matrix);
        let steps = frame.steps();
        self.account(groups.labels.len().saturating_mul(steps))?;
        let mut cells: Vec<Vec<Cell>> = vec![vec![Cell::Empty; steps]; groups.labels.len()];
        let span = aggregate.expr.unwrapped().span();
        let step_ms = frame.step_ms.max(1);
        let step_of = |t_ms: i64| usize::try_from(t_ms.saturating_sub(frame.start_ms) / step_ms).unwrap_or(0);
        for (series, group) in matrix.iter().zip(&groups.of_series) {
            let row = &mut cells[*group];
            for point in &series.floats {
                row[step_of(point.t_ms)].add_float(aggregate.op, point.value);
            }
            for point in &series.histograms {
                let cell = &mut row[step_of(point.t_ms)];
                cell.add_histogram(aggregate.op, &point.histogram, &mut self.notes, span);
            }
            self.work(series.floats.len() + series.histograms.len())?;
        }
        let mut out = Vec::with_capacity(cells.len());
        for (group, row) in cells.into_iter().enumerate() {
            let mut series = Series::new(groups.labels[group].clone(), groups.drop_names[group]);
            for (t_ms, cell) in frame.times().zip(row) {
                cell.finish(aggregate.op, t_ms, &mut series, &mut self.notes, span);
            }
            if !series.is_empty() {
                out.push(series);
            }
        }
        Ok(out)
    }
}

impl Cell {
    #[inline]
    fn add_float(&mut self, op: Aggregator, value: f64) {
        match self {
            Self::Empty => *self = Self::first_float(op, value),
            Self::Plain { value: own, lost } => match op {
                Aggregator::Sum => kahan(value, own, lost),
                Aggregator::Max if *own < value || own.is_nan() => *own = value,
                Aggregator::Min if *own > value || own.is_nan() => *own = value,
                Aggregator::Count => *own += 1.0,
                _ => {}
            },
            Self::Mean(mean) => mean.add(value),
            Self::Spread { count, mean, sum } => {
                *count += 1.0;
                let delta = value - *mean;
                *mean += delta / *count;
                *sum += delta * (value - *mean);
            }
            Self::Histograms(_) => *self = Self::Mixed,
            Self::Mixed => {}
        }
    }

    fn first_float(op: Aggregator, value: f64) -> Self {
        match op {
            Aggregator::Avg => Self::Mean(Mean::new(value)),
            Aggregator::Stddev | Aggregator::Stdvar => {
                // The spread of one infinite value is unknown, not zero.
                let sum = if value.is_finite() { 0.0 } else { f64::NAN };
                Self::Spread { count: 1.0, mean: value, sum }
            }
            Aggregator::Count | Aggregator::Group => Self::Plain { value: 1.0, lost: 0.0 },
            _ => Self::Plain { value, lost: 0.0 },
        }
    }

    fn add_histogram(&mut self, op: Aggregator, histogram: &Arc<FloatHistogram>, notes: &mut Notes, span: Span) {
        match op {
            Aggregator::Count | Aggregator::Group => return self.add_float(op, 1.0),
            Aggregator::Sum | Aggregator::Avg => {}
            op => return notes.histogram_ignored_in_aggregation(op.name(), span),
        }
        match self {
            Self::Empty => *self = Self::Histograms(Box::new(HistogramMean::new(histogram))),
            Self::Histograms(total) => {
                if total.add(histogram, op == Aggregator::Avg).is_err() {
                    notes.mixed_exponential_custom("", span);
                    *self = Self::Mixed;
                }
            }
            Self::Mixed => {}
            _ => *self = Self::Mixed,
        }
    }

    fn finish(self, op: Aggregator, t_ms: i64, series: &mut Series, notes: &mut Notes, span: Span) {
        match self {
            Self::Empty => {}
            Self::Plain { value, lost } => {
                series.push_float(t_ms, if value.is_infinite() { value } else { value + lost });
            }
            Self::Mean(mean) => series.push_float(t_ms, mean.result()),
            Self::Spread { count, sum, .. } => {
                let variance = sum / count;
                series.push_float(t_ms, if op == Aggregator::Stddev { variance.sqrt() } else { variance });
            }
            Self::Histograms(total) => {
                if total.reset_seen && total.no_reset_seen {
                    notes.reset_collision(HistogramOperation::Aggregation, span);
                }
                if total.reconciled {
                    notes.bounds_reconciled(HistogramOperation::Aggregation, span);
                }
                let histogram = Arc::new(total.result(op == Aggregator::Avg).compacted());
                series.histograms.push(HistogramPoint { t_ms, histogram, start_ms: 0 });
            }
            Self::Mixed => notes.mixed_floats_histograms_aggregation(span),
        }
    }
}
