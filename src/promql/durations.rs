//! Duration expressions: `[5m + step()]`, `offset max_of(1m, range() / 2)`.

use super::ast::DurationExpr;
use super::token::Op;

/// What `step()` and `range()` stand for.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Times {
    pub step_ms: i64,
    pub range_ms: i64,
}

/// Milliseconds of a number of seconds, as a range or an offset has them.
///
/// # Errors
/// "duration out of range" beyond 2^63 nanoseconds.
pub(crate) fn seconds_to_ms(seconds: f64) -> Result<i64, String> {
    let nanos = seconds * 1e9;
    // NaN compares false, too.
    if nanos.abs() <= i64::MAX as f64 {
        Ok(nanos.round() as i64 / 1_000_000)
    } else {
        Err("duration out of range".into())
    }
}

/// Evaluates to milliseconds.
///
/// # Errors
/// Division by zero, a duration out of range, or one that is not positive where it must be.
pub(crate) fn evaluate(expr: &DurationExpr, times: Times, may_be_negative: bool) -> Result<i64, String> {
    let seconds = seconds(expr, times)?;
    if seconds <= 0.0 && !may_be_negative {
        return Err("duration must be greater than 0".into());
    }
    seconds_to_ms(seconds)
}

fn seconds(expr: &DurationExpr, times: Times) -> Result<f64, String> {
    Ok(match expr {
        DurationExpr::Seconds(value) => value.0,
        DurationExpr::Literal(ms) => *ms as f64 / 1000.0,
        DurationExpr::Step => times.step_ms as f64 / 1000.0,
        DurationExpr::Range => times.range_ms as f64 / 1000.0,
        DurationExpr::Paren(expr) => seconds(expr, times)?,
        DurationExpr::MinOf(a, b) => seconds(a, times)?.min(seconds(b, times)?),
        DurationExpr::MaxOf(a, b) => seconds(a, times)?.max(seconds(b, times)?),
        DurationExpr::Unary(op, expr) => {
            let value = seconds(expr, times)?;
            if *op == Op::Sub { -value } else { value }
        }
        DurationExpr::Binary(op, left, right) => {
            let (left, right) = (seconds(left, times)?, seconds(right, times)?);
            match op {
                Op::Add => left + right,
                Op::Sub => left - right,
                Op::Mul => left * right,
                Op::Div if right == 0.0 => return Err("division by zero".into()),
                Op::Div => left / right,
                Op::Mod if right == 0.0 => return Err("modulo by zero".into()),
                Op::Mod => left % right,
                _ => left.powf(right),
            }
        }
    })
}
