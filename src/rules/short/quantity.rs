//! Thresholds as people write them: `5%`, `500ms`, `10MiB`, `0.05`.

/// A number in the base unit: seconds (`s`), bytes (`B`), a ratio (`%`), or none.
#[derive(Clone, Debug, PartialEq)]
pub struct Quantity {
    /// In the base unit; 5% is 0.05.
    pub value: f64,
    /// `s`, `B`, `%` or nothing.
    pub unit: String,
}

const UNITS: [(&str, &str, f64); 24] = [
    ("%", "%", 0.01),
    ("percent", "%", 0.01),
    ("ns", "s", 1e-9),
    ("us", "s", 1e-6),
    ("µs", "s", 1e-6),
    ("ms", "s", 1e-3),
    ("s", "s", 1.0),
    ("m", "s", 60.0),
    ("min", "s", 60.0),
    ("h", "s", 3_600.0),
    ("d", "s", 86_400.0),
    ("B", "B", 1.0),
    ("kB", "B", 1e3),
    ("KB", "B", 1e3),
    ("MB", "B", 1e6),
    ("GB", "B", 1e9),
    ("TB", "B", 1e12),
    ("KiB", "B", 1_024.0),
    ("MiB", "B", 1_048_576.0),
    ("GiB", "B", 1_073_741_824.0),
    ("TiB", "B", 1_099_511_627_776.0),
    ("k", "", 1e3),
    ("M", "", 1e6),
    ("G", "", 1e9),
];

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
    if let Some((_, base, factor)) = UNITS.iter().find(|(name, ..)| *name == unit) {
        // Divided where the factor is a fraction, so that 500ms is 0.5 and 5% is 0.05 exactly.
        let value = if *factor < 1.0 { number / (1.0 / factor).round() } else { number * factor };
        return Ok(Quantity { value, unit: (*base).into() });
    }
    match crate::model::parse_duration_ms(text) {
        Ok(ms) => Ok(Quantity { value: ms as f64 / 1e3, unit: "s".into() }),
        Err(_) => {
            let near = crate::config::diagnostic::nearest(unit, UNITS.iter().map(|(name, ..)| *name));
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
