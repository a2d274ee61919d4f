//! Binary operators: what they do with two values, and with scalars.

use super::{Evaluated, Evaluator, Out, SampleRef, Series, fail};
use crate::promql::SampleValue;
use crate::promql::ast::{Binary, Op, Span};
use crate::promql::notes::{HistogramOperation, Notes};
use crate::promql::plan::Frame;
use crate::series::{FloatHistogram, ResetHint};
use std::sync::Arc;

/// Arithmetic and comparison of floats; comparisons are 0 or 1.
pub(super) fn float_operation(op: Op, left: f64, right: f64) -> f64 {
    let truth = |truth: bool| if truth { 1.0 } else { 0.0 };
    match op {
        Op::Add => left + right,
        Op::Sub => left - right,
        Op::Mul => left * right,
        Op::Div => left / right,
        Op::Mod => left % right,
        Op::Pow => left.powf(right),
        Op::Atan2 => left.atan2(right),
        Op::Equal => truth(left == right),
        Op::NotEqual => truth(left != right),
        Op::Greater => truth(left > right),
        Op::Less => truth(left < right),
        Op::GreaterOrEqual => truth(left >= right),
        Op::LessOrEqual => truth(left <= right),
        Op::And | Op::Or | Op::Unless | Op::TrimUpper | Op::TrimLower => f64::NAN,
    }
}

/// One of two operands.
#[derive(Clone, Copy)]
pub(super) enum Operand<'o> {
    Float(f64),
    Histogram(&'o Arc<FloatHistogram>),
}

impl<'o> From<SampleRef<'o>> for Operand<'o> {
    fn from(sample: SampleRef<'o>) -> Self {
        match sample {
            SampleRef::Float(value) => Self::Float(value),
            SampleRef::Histogram(histogram) => Self::Histogram(histogram),
        }
    }
}

/// The value of an operation and whether a comparison lets it through; nothing when the operands do not fit.
pub(super) fn element(
    op: Op,
    left: Operand<'_>,
    right: Operand<'_>,
    notes: &mut Notes,
    span: Span,
) -> Option<(SampleValue, bool)> {
    let histogram = |histogram: FloatHistogram| Some((SampleValue::Histogram(Arc::new(histogram)), true));
    let kind = |operand: Operand<'_>| match operand {
        Operand::Float(_) => "float",
        Operand::Histogram(_) => "histogram",
    };
    match (left, right) {
        (Operand::Float(left), Operand::Float(right)) if !op.is_trim() => {
            let value = float_operation(op, left, right);
            // A comparison keeps the left value.
            Some(if op.is_comparison() {
                (SampleValue::Float(left), value == 1.0)
            } else {
                (SampleValue::Float(value), true)
            })
        }
        (Operand::Float(left), Operand::Histogram(right)) if op == Op::Mul => {
            histogram((**right).clone().scaled(left).compacted())
        }
        (Operand::Histogram(left), Operand::Float(right)) if op == Op::Mul => {
            histogram((**left).clone().scaled(right).compacted())
        }
        (Operand::Histogram(left), Operand::Float(right)) if op == Op::Div => {
            histogram((**left).clone().divided(right).compacted())
        }
        (Operand::Histogram(left), Operand::Float(right)) if op == Op::TrimUpper => {
            histogram(left.trimmed_above(right))
        }
        (Operand::Histogram(left), Operand::Float(right)) if op == Op::TrimLower => {
            histogram(left.trimmed_below(right))
        }
        (Operand::Histogram(left), Operand::Histogram(right)) if matches!(op, Op::Add | Op::Sub) => {
            let (operation, result) = if op == Op::Add {
                (HistogramOperation::Addition, left.plus(right))
            } else {
                (HistogramOperation::Subtraction, left.minus(right))
            };
            let Ok((mut result, combined)) = result else {
                notes.incompatible_bucket_layout(op.text(), span);
                return None;
            };
            if op == Op::Sub {
                result.reset_hint = ResetHint::Gauge;
            }
            if combined.reset_collision {
                notes.reset_collision(operation, span);
            }
            if combined.bounds_reconciled {
                notes.bounds_reconciled(operation, span);
            }
            histogram(result.compacted())
        }
        (Operand::Histogram(left), Operand::Histogram(right)) if matches!(op, Op::Equal | Op::NotEqual) => {
            let same = (**left).clone().compacted().equals(&(**right).clone().compacted());
            Some((SampleValue::Histogram(Arc::clone(left)), same == (op == Op::Equal)))
        }
        _ => {
            notes.incompatible_types(kind(left), op.text(), kind(right), span);
            None
        }
    }
}

/// The outcome under `bool`: 1 or 0 instead of the value, and everything passes.
pub(super) fn with_bool(return_bool: bool, value: SampleValue, keep: bool) -> Option<SampleValue> {
    if return_bool {
        return Some(SampleValue::Float(if keep { 1.0 } else { 0.0 }));
    }
    keep.then_some(value)
}

impl Evaluator<'_> {
    pub(super) fn binary(&mut self, frame: Frame, binary: &Binary) -> Evaluated<Out> {
        let left = self.eval(frame, &binary.left)?;
        let right = self.eval(frame, &binary.right)?;
        match (left, right) {
            (Out::Scalar(left), Out::Scalar(right)) => {
                if binary.op.is_trim() {
                    return fail(format!("operator {:?} not allowed for Scalar operations", binary.op.text()));
                }
                let values = left.into_iter().zip(right);
                Ok(Out::Scalar(values.map(|(left, right)| float_operation(binary.op, left, right)).collect()))
            }
            (Out::Matrix(left), Out::Scalar(right)) => {
                self.vector_and_scalar(frame, binary, left, &right, false).map(Out::Matrix)
            }
            (Out::Scalar(left), Out::Matrix(right)) => {
                self.vector_and_scalar(frame, binary, right, &left, true).map(Out::Matrix)
            }
            (Out::Matrix(left), Out::Matrix(right)) => match binary.op {
                op if op.is_set() => self.set_operation(frame, binary, left, right).map(Out::Matrix),
                _ => self.vectors(frame, binary, &left, &right).map(Out::Matrix),
            },
            _ => fail("a text is no operand"),
        }
    }

    fn vector_and_scalar(
        &mut self,
        frame: Frame,
        binary: &Binary,
        mut matrix: Vec<Series>,
        scalars: &[f64],
        swapped: bool,
    ) -> Evaluated<Vec<Series>> {
        let (op, return_bool) = (binary.op, binary.return_bool);
        let step_ms = frame.step_ms.max(1);
        let scalar_at = |t_ms: i64| {
            let step = usize::try_from(t_ms.saturating_sub(frame.start_ms) / step_ms).unwrap_or(0);
            scalars.get(step).copied().unwrap_or(f64::NAN)
        };
        let drop_name = return_bool || !(op.is_comparison() || op.is_trim());
        for series in &mut matrix {
            series.drop_name |= drop_name;
            if !op.is_trim() {
                series.floats.retain_mut(|point| {
                    let scalar = scalar_at(point.t_ms);
                    let (left, right) = if swapped { (scalar, point.value) } else { (point.value, scalar) };
                    let value = float_operation(op, left, right);
                    if !op.is_comparison() || return_bool {
                        point.value = value;
                        return true;
                    }
                    // A comparison keeps the vector's value, on whichever side it stands.
                    value == 1.0
                });
            } else if !series.floats.is_empty() {
                self.notes.incompatible_types("float", op.text(), "float", binary.span);
                series.floats.clear();
            }
            if series.histograms.is_empty() {
                continue;
            }
            let points = std::mem::take(&mut series.histograms);
            let mut out = Series::new(series.labels.clone(), series.drop_name);
            for point in &points {
                let (scalar, own) = (Operand::Float(scalar_at(point.t_ms)), Operand::Histogram(&point.histogram));
                let (left, right) = if swapped { (scalar, own) } else { (own, scalar) };
                if let Some((value, keep)) = element(op, left, right, &mut self.notes, binary.span)
                    && let Some(value) = with_bool(return_bool, value, keep)
                {
                    out.push(point.t_ms, value);
                }
            }
            series.histograms = out.histograms;
            series.floats.extend(out.floats);
            series.floats.sort_by_key(|point| point.t_ms);
        }
        matrix.retain(|series| !series.is_empty());
        Ok(matrix)
    }
}
