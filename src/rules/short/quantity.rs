//! Thresholds as people write them: `5%`, `500ms`, `10MiB`, `0.05`.

use crate::mapping::units;

/// A number in the base unit: seconds (`s`), bytes (`B`), a ratio (`%`), or none.
#[derive(Clone, Debug, PartialEq)]
pub struct Quantity {
    /// In the base unit; 5% is 0.05.
    pub value: f64,
    /// `s`, `B`, `%` or nothing.
    pub unit: String,
}

/// Multiples of plain numbers.
const MULTIPLES: [(&str, f64); 3] = [("k", 1e3), ("M", 1e6), ("G", 1e9)];

/// The short name of a base unit and the factor to it.
fn unit_of(name: &str) -> Option<(&'static str, f64)> {
    if let Some((_, factor)) = MULTIPLES.iter().find(|(known, _)| *known == name) {
        return Some(("", *factor));
    }
    let (base, factor) = units::base_unit(name)?;
    let short = match base {
        "seconds" => "s",
        "bytes" => "B",
        "ratio" => "%",
        other => other,
    };
    Some((short, factor))
}

/// Parses a number with an optional unit; durations may have several parts (`1h30m`).
///
/// # Errors
/// A sentence that says what was expected.
pub fn parse_quantity(text: &str) -> Result<Quantity, String> {
    let text = text.trim();
    let bad = || format!("not a threshold: {text:?} (examples: 5%, 500ms, 10MiB, 0.05, 100)");
    let digits = text
        .find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '-' | '+' | 'e' | 'E' | '_')))
        .unwrap_or(text.len());
    let number: f64 = text[..digits].trim_end_matches(['e', 'E']).replace('_', "").parse().map_err(|_| bad())?;
    let unit = text[digits..].trim();
    if unit.is_empty() {
        return Ok(Quantity { value: number, unit: String::new() });
    }
    if let Some((base, factor)) = unit_of(unit) {
        // Divided where the factor is a fraction, so that 500ms is 0.5 and 5% is 0.05 exactly.
        let value = if factor < 1.0 { number / (1.0 / factor).round() } else { number * factor };
        return Ok(Quantity { value, unit: base.into() });
    }
    match crate::model::parse_duration_ms(text) {
        Ok(ms) => Ok(Quantity { value: ms as f64 / 1e3, unit: "s".into() }),
        Err(_) => {
            let near = crate::config::diagnostic::nearest(unit, units::names());
            Err(near.map_or_else(bad, |near| format!("unknown unit {unit:?}; did you mean {near:?}?")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_read_in_base_units() {
        for (text, value, unit) in [
            ("5%", 0.05, "%"),
            ("500ms", 0.5, "s"),
            ("0.05", 0.05, ""),
            ("1h30m", 5_400.0, "s"),
            ("10 MiB", 10_485_760.0, "B"),
            ("1e3", 1_000.0, ""),
            ("-2", -2.0, ""),
            ("2k", 2_000.0, ""),
        ] {
            assert_eq!(parse_quantity(text), Ok(Quantity { value, unit: unit.into() }), "{text}");
        }
        for text in ["", "x", "5 apples", "ms", "1.2.3"] {
            assert!(parse_quantity(text).is_err(), "{text}");
        }
    }
}
