//! Functions that take every sample of a vector by itself.

use super::{Evaluated, Evaluator, Series, fail};
use crate::promql::ast::{Call, Expr, ValueType};
use crate::promql::plan::Frame;
use crate::series::FloatHistogram;

/// `math.Max` of Go: NaN wins unless the other is +Inf.
pub(super) fn max(a: f64, b: f64) -> f64 {
    if a == f64::INFINITY || b == f64::INFINITY {
        f64::INFINITY
    } else if a.is_nan() || b.is_nan() {
        f64::NAN
    } else {
        a.max(b)
    }
}

/// `math.Min` of Go: NaN wins unless the other is -Inf.
pub(super) fn min(a: f64, b: f64) -> f64 {
    if a == f64::NEG_INFINITY || b == f64::NEG_INFINITY {
        f64::NEG_INFINITY
    } else if a.is_nan() || b.is_nan() {
        f64::NAN
    } else {
        a.min(b)
    }
}

/// What a function does with a float; `None` for functions that are not of this kind.
fn float_function(name: &str) -> Option<fn(f64) -> f64> {
    Some(match name {
        "abs" => f64::abs,
        "ceil" => f64::ceil,
        "floor" => f64::floor,
        "exp" => f64::exp,
        "sqrt" => f64::sqrt,
        "ln" => f64::ln,
        "log2" => f64::log2,
        "log10" => f64::log10,
        "sin" => f64::sin,
        "cos" => f64::cos,
        "tan" => f64::tan,
        "asin" => f64::asin,
        "acos" => f64::acos,
        "atan" => f64::atan,
        "sinh" => f64::sinh,
        "cosh" => f64::cosh,
        "tanh" => f64::tanh,
        "asinh" => f64::asinh,
        "acosh" => f64::acosh,
        "atanh" => f64::atanh,
        "rad" => |value| value * std::f64::consts::PI / 180.0,
        "deg" => |value| value * 180.0 / std::f64::consts::PI,
        "sgn" => |value| {
            if value < 0.0 {
                -1.0
            } else if value > 0.0 {
                1.0
            } else {
                value
            }
        },
        "minute" => |value| Date::of(value).minute,
        "hour" => |value| Date::of(value).hour,
        "day_of_month" => |value| Date::of(value).day,
        "day_of_week" => |value| Date::of(value).day_of_week,
        "day_of_year" => |value| Date::of(value).day_of_year,
        "days_in_month" => |value| Date::of(value).days_in_month,
        "month" => |value| Date::of(value).month,
        "year" => |value| Date::of(value).year,
        _ => return None,
    })
}

fn histogram_function(name: &str) -> Option<fn(&FloatHistogram) -> f64> {
    Some(match name {
        "histogram_count" => |histogram| histogram.count,
        "histogram_sum" => |histogram| histogram.sum,
        "histogram_avg" => |histogram| histogram.sum / histogram.count,
        "histogram_stddev" => |histogram| super::histogram_quantile::variance(histogram).sqrt(),
        "histogram_stdvar" => super::histogram_quantile::variance,
        _ => return None,
    })
}

impl Evaluator<'_> {
    pub(super) fn instant_call(&mut self, frame: Frame, call: &Call) -> Evaluated<Vec<Series>> {
        let name = call.function.name;
        if let Some(function) = float_function(name) {
            let Some(arg) = call.args.first() else {
                // The date functions look at the clock of the query.
                let mut series = Series::default();
                for t_ms in frame.times() {
                    series.push_float(t_ms, function(t_ms.div_euclid(1000) as f64));
                }
                return Ok(vec![series]);
            };
            return self.map_floats(frame, arg, |_, value| Some(function(value)));
        }
        if let Some(function) = histogram_function(name) {
            return self.map_histograms(frame, Self::argument(call, 0)?, function);
        }
        let arg = Self::argument(call, 0)?;
        let mut scalars = Vec::new();
        for scalar in call.args.iter().skip(1).filter(|arg| arg.value_type() == ValueType::Scalar) {
            scalars.push(self.scalar(frame, scalar)?);
        }
        let scalar = |at: usize, step: usize| scalars[at].get(step).copied().unwrap_or(f64::NAN);
        match (name, scalars.len()) {
            ("clamp", 2) => self.map_floats(frame, arg, |step, value| clamp(value, scalar(0, step), scalar(1, step))),
            ("clamp_min", 1) => self.map_floats(frame, arg, |step, value| clamp(value, scalar(0, step), f64::INFINITY)),
            ("clamp_max", 1) => {
                self.map_floats(frame, arg, |step, value| clamp(value, f64::NEG_INFINITY, scalar(0, step)))
            }
            ("round", _) => self.map_floats(frame, arg, |step, value| {
                let nearest = if scalars.is_empty() { 1.0 } else { scalar(0, step) };
                // The inverse makes fewer rounding errors.
                let inverse = 1.0 / nearest;
                Some((value * inverse + 0.5).floor() / inverse)
            }),
            _ => fail(format!("the function {name} is not known here")),
        }
    }

    /// Maps every float and leaves out histograms; the map gets the step.
    fn map_floats(
        &mut self,
        frame: Frame,
        arg: &Expr,
        map: impl Fn(usize, f64) -> Option<f64>,
    ) -> Evaluated<Vec<Series>> {
        let mut matrix = self.matrix(frame, arg)?;
        for series in &mut matrix {
            series.drop_name = true;
            series.histograms.clear();
            let step_ms = frame.step_ms.max(1);
            series.floats.retain_mut(|point| {
                let step = usize::try_from(point.t_ms.saturating_sub(frame.start_ms) / step_ms).unwrap_or(0);
                match map(step, point.value) {
                    Some(value) => {
                        point.value = value;
                        true
                    }
                    None => false,
                }
            });
        }
        matrix.retain(|series| !series.is_empty());
        Ok(matrix)
    }

    fn map_histograms(&mut self, frame: Frame, arg: &Expr, map: fn(&FloatHistogram) -> f64) -> Evaluated<Vec<Series>> {
        let mut matrix = self.matrix(frame, arg)?;
        for series in &mut matrix {
            series.drop_name = true;
            series.floats.clear();
            for point in std::mem::take(&mut series.histograms) {
                series.push_float(point.t_ms, map(&point.histogram));
            }
        }
        matrix.retain(|series| !series.is_empty());
        Ok(matrix)
    }
}

fn clamp(value: f64, low: f64, high: f64) -> Option<f64> {
    if high < low { None } else { Some(max(low, min(high, value))) }
}

/// A moment in UTC, by the proleptic Gregorian calendar.
struct Date {
    year: f64,
    month: f64,
    day: f64,
    day_of_week: f64,
    day_of_year: f64,
    days_in_month: f64,
    hour: f64,
    minute: f64,
}

impl Date {
    /// Of seconds since the epoch; what is no time at all is the oldest one.
    fn of(seconds: f64) -> Self {
        let seconds = if seconds.is_nan() { i64::MIN } else { seconds as i64 };
        let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
        // Years begin in March, so that the leap day is the last of its year (Howard Hinnant's algorithm).
        let shifted = days.saturating_add(719_468);
        let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
        let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
        let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        let leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
        let lengths = [31, if leap { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
        let index = usize::try_from(month - 1).unwrap_or(0).min(11);
        let before: i64 = lengths[..index].iter().sum();
        Self {
            year: year as f64,
            month: month as f64,
            day: day as f64,
            day_of_week: (days.rem_euclid(7) + 4).rem_euclid(7) as f64,
            day_of_year: (before + day) as f64,
            days_in_month: lengths[index] as f64,
            hour: (second / 3_600) as f64,
            minute: (second % 3_600 / 60) as f64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, (year, month, day, weekday, year_day, length)) in [
            (0.0, (1970.0, 1.0, 1.0, 4.0, 1.0, 31.0)),
            (951_782_400.0, (2000.0, 2.0, 29.0, 2.0, 60.0, 29.0)),
            (-1.0, (1969.0, 12.0, 31.0, 3.0, 365.0, 31.0)),
            (1_735_603_200.0, (2024.0, 12.0, 31.0, 2.0, 366.0, 31.0)),
        ] {
            let date = Date::of(seconds);
            let found = (date.year, date.month, date.day, date.day_of_week, date.day_of_year, date.days_in_month);
            assert_eq!(found, (year, month, day, weekday, year_day, length), "{seconds}");
        }
        let _ = (Date::of(f64::NAN).year, Date::of(f64::INFINITY).year, Date::of(f64::NEG_INFINITY).year);
    }
}
