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
        let mut grouping = Grouping::default();
        let of_series = matrix.iter().map(|series| grouping.group(aggregate, series)).collect();
        Self { of_series, labels: grouping.labels, drop_names: grouping.drop_names }
    }
}

/// Finds the groups of series, one series after the other.
#[derive(Default)]
struct Grouping {
    known: BTreeMap<Labels, usize>,
    labels: Vec<Labels>,
    drop_names: Vec<bool>,
}

impl Grouping {
    fn group(&mut self, aggregate: &Aggregate, series: &Series) -> usize {
        let listed = |name: &str| aggregate.grouping.iter().any(|label| label == name);
        let labels = if aggregate.without {
            series.labels.filtered(|name| name != METRIC_NAME && !listed(name))
        } else if aggregate.grouping.is_empty() {
            Labels::default()
        } else {
            series.labels.filtered(listed)
        };
        let group = match self.known.get(&labels) {
            Some(group) => *group,
            None => {
                self.known.insert(labels.clone(), self.labels.len());
                self.labels.push(labels);
                self.drop_names.push(false);
                self.labels.len() - 1
            }
        };
        self.drop_names[group] |= series.drop_name;
        group
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
    /// [`Mean`], laid out so that a cell stays small.
    Mean {
        value: f64,
        lost: f64,
        count: u32,
        incremental: bool,
    },
    /// Variance by Welford's method.
    Spread {
        mean: f64,
        sum: f64,
        count: u32,
    },
    Histograms(Box<HistogramMean>),
    /// Floats and histograms together are neither.
    Mixed,
}

// There is a cell for each group and step.
const _: () = assert!(size_of::<Cell>() == 24);

impl Evaluator<'_> {
    pub(super) fn aggregate(&mut self, frame: Frame, aggregate: &Aggregate) -> Evaluated<Vec<Series>> {
        if aggregate.op.has_parameter() {
            return self.aggregate_with_parameter(frame, aggregate);
        }
        let steps = frame.steps();
        let mut groups = Grouping::default();
        let mut cells: Vec<Vec<Cell>> = Vec::new();
        let span = aggregate.expr.unwrapped().span();
        let step_ms = frame.step_ms.max(1);
        let step_of = |t_ms: i64| usize::try_from(t_ms.saturating_sub(frame.start_ms) / step_ms).unwrap_or(0);
        // One series at a time is in memory, where the expression allows it.
        self.each_series(frame, &aggregate.expr, &mut |evaluator, series| {
            let group = groups.group(aggregate, &series);
            if group == cells.len() {
                evaluator.account(steps)?;
                cells.push(vec![Cell::Empty; steps]);
            }
            let row = &mut cells[group];
            for point in &series.floats {
                row[step_of(point.t_ms)].add_float(aggregate.op, point.value);
            }
            for point in &series.histograms {
                let cell = &mut row[step_of(point.t_ms)];
                cell.add_histogram(aggregate.op, &point.histogram, &mut evaluator.notes, span);
            }
            evaluator.work(series.floats.len() + series.histograms.len())
        })?;
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
            Self::Mean { value: own, lost, count, incremental } => {
                let mut mean = Mean { value: *own, lost: *lost, count: *count, incremental: *incremental };
                mean.add(value);
                (*own, *lost, *count, *incremental) = (mean.value, mean.lost, mean.count, mean.incremental);
            }
            Self::Spread { count, mean, sum } => {
                *count = count.saturating_add(1);
                let delta = value - *mean;
                *mean += delta / f64::from(*count);
                *sum += delta * (value - *mean);
            }
            Self::Histograms(_) => *self = Self::Mixed,
            Self::Mixed => {}
        }
    }

    fn first_float(op: Aggregator, value: f64) -> Self {
        match op {
            Aggregator::Avg => Self::Mean { value, lost: 0.0, count: 1, incremental: false },
            Aggregator::Stddev | Aggregator::Stdvar => {
                // The spread of one infinite value is unknown, not zero.
                let sum = if value.is_finite() { 0.0 } else { f64::NAN };
                Self::Spread { count: 1, mean: value, sum }
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
            Self::Mean { value, lost, count, incremental } => {
                series.push_float(t_ms, Mean { value, lost, count, incremental }.result());
            }
            Self::Spread { count, sum, .. } => {
                let variance = sum / f64::from(count);
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
