//! Units of fields, and the base units that metrics have (Prometheus, "Metric and label naming", base units).

/// Name, base unit, factor to it.
const UNITS: [(&str, &str, f64); 34] = [
    ("ns", "seconds", 1e-9),
    ("us", "seconds", 1e-6),
    ("µs", "seconds", 1e-6),
    ("ms", "seconds", 1e-3),
    ("s", "seconds", 1.0),
    ("min", "seconds", 60.0),
    ("m", "seconds", 60.0),
    ("h", "seconds", 3_600.0),
    ("d", "seconds", 86_400.0),
    ("nanoseconds", "seconds", 1e-9),
    ("microseconds", "seconds", 1e-6),
    ("milliseconds", "seconds", 1e-3),
    ("seconds", "seconds", 1.0),
    ("minutes", "seconds", 60.0),
    ("hours", "seconds", 3_600.0),
    ("days", "seconds", 86_400.0),
    ("B", "bytes", 1.0),
    ("bytes", "bytes", 1.0),
    ("bit", "bytes", 0.125),
    ("kB", "bytes", 1e3),
    ("KB", "bytes", 1e3),
    ("MB", "bytes", 1e6),
    ("GB", "bytes", 1e9),
    ("TB", "bytes", 1e12),
    ("KiB", "bytes", 1_024.0),
    ("MiB", "bytes", 1_048_576.0),
    ("GiB", "bytes", 1_073_741_824.0),
    ("TiB", "bytes", 1_099_511_627_776.0),
    ("percent", "ratio", 1e-2),
    ("%", "ratio", 1e-2),
    ("ratio", "ratio", 1.0),
    ("celsius", "celsius", 1.0),
    ("mV", "volts", 1e-3),
    ("volts", "volts", 1.0),
];

/// A unit's base unit and the factor to it.
pub fn base_unit(name: &str) -> Option<(&'static str, f64)> {
    UNITS.iter().find(|(known, ..)| *known == name).map(|(_, base, factor)| (*base, *factor))
}

/// Every unit's name, for hints.
pub fn names() -> impl Iterator<Item = &'static str> {
    UNITS.iter().map(|(name, ..)| *name)
}

/// Classic bucket bounds for a base unit.
pub fn default_bounds(base: &str) -> Vec<f64> {
    match base {
        "seconds" => crate::series::HistogramOptions::default().bounds,
        "bytes" => (0..10).map(|power| 256.0 * 4_f64.powi(power)).collect(),
        "ratio" => (1..=20).map(|part| f64::from(part) / 20.0).collect(),
        _ => (0..6).flat_map(|power| [1.0, 2.0, 5.0].map(|step| step * 10_f64.powi(power))).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_rises_and_every_unit_is_known_by_its_base() {
        for (name, base, factor) in UNITS {
            assert_eq!(base_unit(name), Some((base, factor)));
            assert!(default_bounds(base).windows(2).all(|pair| pair[0] < pair[1]), "{base}");
        }
        assert_eq!(base_unit("parsec"), None);
    }
}
