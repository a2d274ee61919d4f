//! Durations as Prometheus writes them (`1h30m`, `500ms`): model.ParseDuration and Duration.String of prometheus/common.

const UNITS_MS: [(&str, i64); 7] = [
    ("y", 365 * 86_400_000),
    ("w", 7 * 86_400_000),
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// Parses a Prometheus duration: decimal integers with the units y w d h m s ms, largest first, each once; a bare `0` too.
///
/// # Errors
/// A sentence that says what was expected.
pub fn parse_duration_ms(text: &str) -> Result<i64, String> {
    let bad = || format!("not a valid duration: {text:?} (examples: 30s, 5m, 1h30m, 500ms)");
    if text == "0" {
        return Ok(0);
    }
    let (mut rest, mut total, mut next_unit) = (text, 0_i64, 0);
    if rest.is_empty() {
        return Err(bad());
    }
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let letters = rest[digits..].bytes().take_while(u8::is_ascii_alphabetic).count();
        let number: i64 = rest[..digits].parse().map_err(|_| bad())?;
        let unit = &rest[digits..digits + letters];
        let at = UNITS_MS.iter().position(|(name, _)| *name == unit).ok_or_else(bad)?;
        if at < next_unit {
            return Err(bad());
        }
        next_unit = at + 1;
        total = number
            .checked_mul(UNITS_MS[at].1)
            .and_then(|part| total.checked_add(part))
            .filter(|total| *total <= i64::MAX / 1_000_000)
            .ok_or_else(|| format!("duration out of range: {text:?}"))?;
        rest = &rest[digits + letters..];
    }
    Ok(total)
}

/// Prints a duration as Prometheus prints it: y and w only when they divide the whole, `0s` for nothing.
pub fn format_duration_ms(duration_ms: i64) -> String {
    if duration_ms == 0 {
        return "0s".into();
    }
    let mut rest = duration_ms.unsigned_abs();
    let mut out = String::from(if duration_ms < 0 { "-" } else { "" });
    for (unit, size_ms) in UNITS_MS {
        let size_ms = size_ms.unsigned_abs();
        let exact = matches!(unit, "y" | "w");
        if rest < size_ms || (exact && !rest.is_multiple_of(size_ms)) {
            continue;
        }
        out.push_str(&(rest / size_ms).to_string());
        out.push_str(unit);
        rest %= size_ms;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_and_print_as_prometheus_does() {
        for (text, ms) in [("0", 0), ("1h30m", 5_400_000), ("500ms", 500), ("1d", 86_400_000), ("2w", 1_209_600_000)] {
            assert_eq!(parse_duration_ms(text), Ok(ms), "{text}");
        }
        for text in ["", "1", "m", "1m1h", "1s1s", "1.5h", "-1m", "1x", "999999999999999999y"] {
            assert!(parse_duration_ms(text).is_err(), "{text}");
        }
        for (ms, text) in [(0, "0s"), (90_000, "1m30s"), (86_400_000, "1d"), (90_000_000, "1d1h"), (1_500, "1s500ms")] {
            assert_eq!(format_duration_ms(ms), text);
        }
    }
}
