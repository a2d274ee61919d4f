//! Numbers as Prometheus's text formats write them: Go's `strconv.FormatFloat(v, 'g', -1, 64)`.

use std::fmt::Write as _;

/// Appends a whole number.
pub(super) fn push_u64(out: &mut String, mut value: u64) {
    let mut digits = [0_u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend(digits[at..].iter().map(|digit| char::from(*digit)));
}

/// Appends a float: shortest digits that read back the same, an exponent below 1e-4 and from 1e+21.
///
/// Whole numbers below 2^53 are written out where Go's text format turns to an exponent at 1e+06; every reader takes both,
/// and people read these.
pub(super) fn push_float(out: &mut String, value: f64) {
    if value.fract() == 0.0 && value.abs() < 9_007_199_254_740_992.0 {
        if value.is_sign_negative() {
            out.push('-');
        }
        push_u64(out, value.abs() as u64);
        return;
    }
    if !value.is_finite() {
        out.push_str(if value.is_nan() {
            "NaN"
        } else if value > 0.0 {
            "+Inf"
        } else {
            "-Inf"
        });
        return;
    }
    let size = value.abs();
    // Writing to a String cannot fail.
    if (1e-4..1e21).contains(&size) {
        let _ = write!(out, "{value}");
        return;
    }
    let start = out.len();
    let _ = write!(out, "{value:e}");
    // Go writes at least two digits of exponent and its sign.
    if let Some(at) = out[start..].find('e').map(|at| start + at) {
        let exponent: i32 = out[at + 1..].parse().unwrap_or(0);
        out.truncate(at);
        let _ = write!(out, "e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs());
    }
}

/// A classic bucket's bound as its `le` label: `0.005`, `1`, `+Inf`.
pub(super) fn bound_text(bound: f64) -> String {
    let mut text = String::new();
    push_float(&mut text, bound);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_as_in_prometheus() {
        for (value, text) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (-3.0, "-3"),
            (1_234_567.0, "1234567"),
            (0.1, "0.1"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (1.5e-300, "1.5e-300"),
            (1e21, "1e+21"),
            (1.25e22, "1.25e+22"),
            (1e20, "100000000000000000000"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
        ] {
            assert_eq!(bound_text(value), text);
        }
    }
}
