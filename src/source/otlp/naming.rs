//! Names of OpenTelemetry as Prometheus names: "Metric metadata transformation" of the OpenTelemetry specification
//! (Prometheus and OpenMetrics Compatibility), as Prometheus's own receiver does it with suffixes.

use std::borrow::Cow;

/// Units that stand for something, by their UCUM code.
const UNITS: [(&str, &str); 32] = [
    ("d", "days"),
    ("h", "hours"),
    ("min", "minutes"),
    ("s", "seconds"),
    ("ms", "milliseconds"),
    ("us", "microseconds"),
    ("ns", "nanoseconds"),
    ("By", "bytes"),
    ("KiBy", "kibibytes"),
    ("MiBy", "mebibytes"),
    ("GiBy", "gibibytes"),
    ("TiBy", "tibibytes"),
    ("KBy", "kilobytes"),
    ("MBy", "megabytes"),
    ("GBy", "gigabytes"),
    ("TBy", "terabytes"),
    ("B", "bytes"),
    ("KB", "kilobytes"),
    ("MB", "megabytes"),
    ("GB", "gigabytes"),
    ("TB", "terabytes"),
    ("m", "meters"),
    ("V", "volts"),
    ("A", "amperes"),
    ("J", "joules"),
    ("W", "watts"),
    ("g", "grams"),
    ("Cel", "celsius"),
    ("Hz", "hertz"),
    ("%", "percent"),
    ("1", ""),
    ("", ""),
];

/// What stands behind a slash.
const PER: [(&str, &str); 7] =
    [("s", "second"), ("m", "minute"), ("h", "hour"), ("d", "day"), ("w", "week"), ("mo", "month"), ("y", "year")];

/// What decides about the suffix of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A gauge.
    Gauge,
    /// A sum that only grows.
    Monotonic,
    /// A sum that may fall, a histogram, a summary.
    Other,
}

/// The metric's name: parts joined by `_`, with the unit, `_total` for what only grows, `_ratio` for gauges of unit 1.
pub fn metric(name: &str, unit: &str, kind: Kind) -> String {
    let mut parts: Vec<Cow<'_, str>> = parts(name).map(Cow::Borrowed).collect();
    let (main, per) = unit.trim().split_once('/').unwrap_or((unit.trim(), ""));
    let (main, per) = (main.trim(), per.trim());
    if !main.is_empty() && !main.contains(['{', '}']) {
        let word = UNITS.iter().find(|(code, _)| *code == main).map_or(main, |(_, word)| *word);
        add(&mut parts, self::parts(word).collect::<Vec<_>>());
    }
    if !per.is_empty() && !per.contains(['{', '}']) {
        let word = PER.iter().find(|(code, _)| *code == per).map_or(per, |(_, word)| *word);
        let mut words = vec!["per"];
        words.extend(self::parts(word));
        if words.len() > 1 {
            add(&mut parts, words);
        }
    }
    let mut last = |word: &'static str| {
        parts.retain(|part| part != word);
        parts.push(word.into());
    };
    match kind {
        Kind::Monotonic => last("total"),
        Kind::Gauge if unit == "1" => last("ratio"),
        Kind::Gauge | Kind::Other => {}
    }
    let name = parts.join("_");
    if name.starts_with(|first: char| first.is_ascii_digit()) { format!("_{name}") } else { name }
}

/// The unit's word, for metadata.
pub fn unit(unit: &str) -> &str {
    UNITS.iter().find(|(code, _)| *code == unit.trim()).map_or("", |(_, word)| *word)
}

fn parts(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != ':').filter(|part| !part.is_empty())
}

/// Adds words that the name does not hold already.
fn add<'a>(parts: &mut Vec<Cow<'a, str>>, words: Vec<&'a str>) {
    if !words.iter().all(|word| parts.iter().any(|part| part == word)) {
        parts.extend(words.into_iter().map(Cow::Borrowed));
    }
}

/// A label's name: every character that Prometheus does not take becomes `_`, a first digit gets `key_` before it, a
/// first `_` gets `key`.
pub fn label(name: &str) -> String {
    let clean: String = name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' }).collect();
    match clean.as_bytes() {
        [first, ..] if first.is_ascii_digit() => format!("key_{clean}"),
        // Names with two of them are reserved: nothing may come from outside.
        [b'_', ..] => format!("key{clean}"),
        _ => clean,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_units_and_suffixes() {
        for (name, unit, kind, expected) in [
            ("http.server.duration", "ms", Kind::Other, "http_server_duration_milliseconds"),
            ("http.server.request.duration", "s", Kind::Other, "http_server_request_duration_seconds"),
            ("system.disk.io", "By", Kind::Monotonic, "system_disk_io_bytes_total"),
            ("requests", "1", Kind::Monotonic, "requests_total"),
            ("requests.total", "{request}", Kind::Monotonic, "requests_total"),
            ("total.things", "", Kind::Monotonic, "things_total"),
            ("memory.utilization", "1", Kind::Gauge, "memory_utilization_ratio"),
            ("duration.seconds", "s", Kind::Gauge, "duration_seconds"),
            ("network.speed", "By/s", Kind::Gauge, "network_speed_bytes_per_second"),
            ("astro.light.speed", "m/s", Kind::Gauge, "astro_light_speed_meters_per_second"),
            ("a", "{x}/s", Kind::Gauge, "a_per_second"),
            ("odd", "foo.bar", Kind::Gauge, "odd_foo_bar"),
            ("3rd__thing-é", "", Kind::Gauge, "_3rd_thing"),
            ("batch:count", "", Kind::Other, "batch:count"),
        ] {
            assert_eq!(metric(name, unit, kind), expected, "{name} {unit}");
        }
    }

    #[test]
    fn labels_are_legal() {
        for (name, expected) in [
            ("http.request.method", "http_request_method"),
            ("k8s.pod-name", "k8s_pod_name"),
            ("0day", "key_0day"),
            ("_x", "key_x"),
            ("__name__", "key__name__"),
            ("é", "_"),
        ] {
            let expected = if expected == "_" { "key_" } else { expected };
            assert_eq!(label(name), expected, "{name}");
        }
    }
}
