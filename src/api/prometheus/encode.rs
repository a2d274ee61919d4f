//! Results as JSON, as `web/api/v1/json_codec.go` and `util/jsonutil` write them.

use crate::model::Labels;
use crate::series::FloatHistogram;
use std::fmt::Write;

/// A JSON string.
pub fn string(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if u32::from(c) < 0x20 => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

/// A JSON array of strings.
pub fn strings<T: AsRef<str>>(out: &mut String, texts: &[T]) {
    list(out, texts, |out, text| string(out, text.as_ref()));
}

/// A JSON array.
pub fn list<T>(out: &mut String, items: impl IntoIterator<Item = T>, mut write: impl FnMut(&mut String, T)) {
    out.push('[');
    for (at, item) in items.into_iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        write(out, item);
    }
    out.push(']');
}

/// Labels as an object.
pub fn labels(out: &mut String, labels: &Labels) {
    out.push('{');
    for (at, label) in labels.iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        string(out, &label.name);
        out.push(':');
        string(out, &label.value);
    }
    out.push('}');
}

/// Milliseconds as seconds: no decimals or three (`jsonutil.MarshalTimestamp`).
pub fn time(out: &mut String, t_ms: i64) {
    let (sign, magnitude) = (if t_ms < 0 { "-" } else { "" }, t_ms.unsigned_abs());
    let _ = match magnitude % 1_000 {
        0 => write!(out, "{sign}{}", magnitude / 1_000),
        rest => write!(out, "{sign}{}.{rest:03}", magnitude / 1_000),
    };
}

/// A number as Prometheus prints a sample: shortest digits, no exponent, `+Inf`, `-Inf`, `NaN`.
pub fn number(out: &mut String, value: f64) {
    let _ = match value {
        f64::INFINITY => out.write_str("+Inf"),
        f64::NEG_INFINITY => out.write_str("-Inf"),
        value => write!(out, "{value}"),
    };
}

/// `[seconds, "value"]`.
pub fn sample(out: &mut String, t_ms: i64, value: f64) {
    out.push('[');
    time(out, t_ms);
    out.push_str(",\"");
    number(out, value);
    out.push_str("\"]");
}

/// `[seconds, {"count", "sum", "buckets"}]`.
pub fn histogram_sample(out: &mut String, t_ms: i64, histogram: &FloatHistogram) {
    out.push('[');
    time(out, t_ms);
    out.push_str(",{\"count\":\"");
    number(out, histogram.count);
    out.push_str("\",\"sum\":\"");
    number(out, histogram.sum);
    out.push('"');
    let buckets = histogram.api_buckets();
    if !buckets.is_empty() {
        out.push_str(",\"buckets\":");
        list(out, buckets, |out, (boundaries, lower, upper, count)| {
            let _ = write!(out, "[{boundaries},\"");
            number(out, lower);
            out.push_str("\",\"");
            number(out, upper);
            out.push_str("\",\"");
            number(out, count);
            out.push_str("\"]");
        });
    }
    out.push_str("}]");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_written_as_prometheus_writes_them() {
        for (t_ms, value, expected) in [
            (4_000, 2.0, "[4,\"2\"]"),
            (1_795_227_815_192, 3.6, "[1795227815.192,\"3.6\"]"),
            (1_005, f64::INFINITY, "[1.005,\"+Inf\"]"),
            (-1_500, f64::NEG_INFINITY, "[-1.500,\"-Inf\"]"),
            (0, f64::NAN, "[0,\"NaN\"]"),
            (0, 1e21, "[0,\"1000000000000000000000\"]"),
            (0, 0.000_001, "[0,\"0.000001\"]"),
            (0, -0.0, "[0,\"-0\"]"),
        ] {
            let mut out = String::new();
            sample(&mut out, t_ms, value);
            assert_eq!(out, expected);
        }
    }

    #[test]
    fn any_text_is_valid_json() {
        for text in ["", "a\"b\\c", "\u{0}\u{1f}\n\t\r", "ünïcode \u{2028} 🙂"] {
            let mut out = String::new();
            string(&mut out, text);
            assert_eq!(serde_json::from_str::<String>(&out).unwrap(), text);
        }
        let mut out = String::new();
        labels(&mut out, &Labels::from_pairs([("b", "2"), ("a", "1")]));
        assert_eq!(out, r#"{"a":"1","b":"2"}"#);
    }
}
