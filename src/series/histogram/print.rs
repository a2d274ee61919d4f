//! How Prometheus prints a histogram: `{count:3, sum:4.5, [-1,1]:1, (1,2]:2}`.

use super::FloatHistogram;
use std::fmt;

/// A float as Go's `%g` and `%v` print it: the shortest digits, with an exponent below 1e-04 and from 1e+06 on.
#[derive(Clone, Copy, Debug)]
pub struct ShortFloat(pub f64);

impl fmt::Display for ShortFloat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.0;
        if value.is_nan() {
            return f.write_str("NaN");
        }
        if value.is_infinite() {
            return f.write_str(if value > 0.0 { "+Inf" } else { "-Inf" });
        }
        let scientific = format!("{value:e}");
        let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
        let exponent: i32 = exponent.parse().unwrap_or(0);
        if value != 0.0 && !(-4..6).contains(&exponent) {
            let sign = if exponent < 0 { '-' } else { '+' };
            return write!(f, "{digits}e{sign}{:02}", exponent.abs());
        }
        write!(f, "{value}")
    }
}

impl fmt::Display for FloatHistogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{count:{}, sum:{}", ShortFloat(self.count), ShortFloat(self.sum))?;
        for bucket in self.all_buckets().iter().filter(|bucket| bucket.count != 0.0) {
            let open = if bucket.lower_inclusive { '[' } else { '(' };
            let close = if bucket.upper_inclusive { ']' } else { ')' };
            write!(
                f,
                ", {open}{},{}{close}:{}",
                ShortFloat(bucket.lower),
                ShortFloat(bucket.upper),
                ShortFloat(bucket.count)
            )?;
        }
        f.write_str("}")
    }
}
