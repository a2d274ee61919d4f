//! `/metrics`, read back by our reader, by promtool and by prometheus_client.

use super::*;
use std::io::Write as _;
use std::process::{Command, Stdio};

fn small() -> Store {
    let mut store = store();
    let counter =
        store.declare("orders_total", MetricKind::Counter, "Orders \\ by \"status\"\nand region.", "").unwrap();
    let gauge = store.declare("stock.quantity", MetricKind::Gauge, "Stock.", "").unwrap();
    let kind = MetricKind::Histogram(HistogramOptions { bounds: vec![0.5, 1.0] });
    let histogram = store.declare("took_seconds", kind, "Time.", "seconds").unwrap();
    for (status, value) in [("paid", 2.0), ("failed", 1.5)] {
        let handle = store.resolve(counter, &[("status", status)], at(250)).unwrap();
        store.add(handle, value, at(250));
    }
    let handle = store.resolve(gauge, &[("item name", "a\"b\\c\nd")], at(250)).unwrap();
    store.set(handle, -0.25, at(250));
    store.resolve(gauge, &[("item name", "never set")], at(250)).unwrap();
    let handle = store.resolve(histogram, &[], at(250)).unwrap();
    let exemplar = ExemplarRef { trace_id: "4bf92f", span_id: "00f0", value: 0.75 };
    store.observe(handle, 0.75, 1, at(250), Some(exemplar));
    store.observe(handle, 7.5, 2, at(250), None);
    store.append(&Labels::from_pairs([("__name__", "received")]), START_MS, SampleValue::Float(1.0), 0).unwrap();
    store
}

#[test]
fn the_prometheus_text() {
    let mut out = String::new();
    small().write_prometheus(&mut out);
    assert_eq!(
        out,
        r#"# HELP orders_total Orders \\ by "status"\nand region.
# TYPE orders_total counter
orders_total{status="failed"} 1.5
orders_total{status="paid"} 2
# HELP U__stock_2e_quantity Stock.
# TYPE U__stock_2e_quantity gauge
U__stock_2e_quantity{U__item_20_name="a\"b\\c\nd"} -0.25
# HELP took_seconds Time.
# TYPE took_seconds histogram
took_seconds_bucket{le="0.5"} 0
took_seconds_bucket{le="1"} 1
took_seconds_bucket{le="+Inf"} 3
took_seconds_sum 15.75
took_seconds_count 3
"#
    );
    let mut out = String::new();
    small().write_prometheus_utf8(&mut out);
    assert!(
        out.contains(
            "\n# TYPE \"stock.quantity\" gauge\n{\"stock.quantity\",\"item name\"=\"a\\\"b\\\\c\\nd\"} -0.25\n"
        ),
        "{out}"
    );
    let read = text::parse(&out);
    assert_eq!((read.samples.len(), read.bad.len(), read.metadata.len()), (8, 0, 3));
    assert_eq!(
        read.samples[2].labels,
        Labels::from_pairs([("__name__", "stock.quantity"), ("item name", "a\"b\\c\nd")])
    );
}

#[test]
fn the_openmetrics_text() {
    let mut out = String::new();
    small().write_openmetrics(&mut out);
    assert_eq!(
        out,
        r##"# TYPE orders counter
# HELP orders Orders \\ by \"status\"\nand region.
orders_total{status="failed"} 1.5
orders_created{status="failed"} 1700000000
orders_total{status="paid"} 2
orders_created{status="paid"} 1700000000
# TYPE U__stock_2e_quantity gauge
# HELP U__stock_2e_quantity Stock.
U__stock_2e_quantity{U__item_20_name="a\"b\\c\nd"} -0.25
# TYPE took_seconds histogram
# UNIT took_seconds seconds
# HELP took_seconds Time.
took_seconds_bucket{le="0.5"} 0
took_seconds_bucket{le="1.0"} 1 # {trace_id="4bf92f",span_id="00f0"} 0.75 1700000000.25
took_seconds_bucket{le="+Inf"} 3
took_seconds_count 3
took_seconds_sum 15.75
took_seconds_created 1700000000
# EOF
"##
    );
}

/// Everything that escaping can get wrong.
fn torture() -> Store {
    let mut store = store();
    let texts = [
        "", "plain", "\\", "\"", "\n", "\\n", "a\\\"b\n", "é", "日本", "{}", ",=", " ", "#", "\u{7f}", "\r", "\t",
        "tail\\",
    ];
    let counter = store.declare("torture_total", MetricKind::Counter, "Quotes \" and \\ and\nlines.", "").unwrap();
    let odd = store.declare("odd name.with-é_total", MetricKind::Counter, "Odd.", "").unwrap();
    let gauge = store.declare("torture_bytes", MetricKind::Gauge, "Numbers.", "bytes").unwrap();
    let both = store.declare("torture", MetricKind::Gauge, "Shares its family's name with a counter.", "").unwrap();
    let kind = MetricKind::Histogram(HistogramOptions { bounds: vec![1e-9, 0.25, 1.0, 2.5, 1e6, 1.5e7, 1e22] });
    let histogram = store.declare("torture_seconds", kind, "Bounds.", "seconds").unwrap();
    for (number, text) in texts.iter().enumerate() {
        let labels = [("text", *text), ("other", texts[(number + 3) % texts.len()])];
        let handle = store.resolve(counter, &labels, at(0)).unwrap();
        store.add(handle, number as f64 * 1e5, at(0));
        let handle = store.resolve(odd, &[("a.b", text), ("1st", text), ("with:colon", "x")], at(0)).unwrap();
        store.add(handle, 0.1, at(0));
        let handle = store.resolve(histogram, &[("text", text)], at(0)).unwrap();
        let exemplar = ExemplarRef { trace_id: text, span_id: "00f067aa0ba902b7", value: 1e7 };
        store.observe(handle, 1e7, 3, at(0), Some(exemplar));
    }
    for value in [
        0.0,
        -0.0,
        1e6,
        123_456_789.0,
        1e15,
        1e16,
        1e21,
        1.5e-7,
        f64::MAX,
        f64::MIN_POSITIVE,
        f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
    ] {
        let handle = store.resolve(gauge, &[("value", &format!("{value:e}"))], at(0)).unwrap();
        store.set(handle, value, at(0));
    }
    let handle = store.resolve(both, &[], at(0)).unwrap();
    store.set(handle, 1.0, at(0));
    store
}

/// Runs a program on a text; its complaints, if it has any. A missing program fails only in CI, where it must be installed.
fn complaints(program: &str, arguments: &[&str], input: &str) -> Option<String> {
    let spawned = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut child) = spawned else {
        assert!(std::env::var("CI").is_err(), "{program} is missing, CI must have it");
        return None;
    };
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (!output.status.success()).then_some(said)
}

#[test]
fn the_text_comes_back_from_our_reader() {
    let store = torture();
    let mut out = String::new();
    store.write_prometheus_utf8(&mut out);
    let read = text::parse(&out);
    assert_eq!(read.bad_lines, []);
    let mut expected: Vec<Labels> = store
        .select(&Selection { matchers: matchers(&["=~.+"]), from_ms: 0, to_ms: i64::MAX })
        .into_iter()
        .filter(|series| !series.floats.is_empty())
        .map(|series| series.labels.filtered(|name| name != "job" && name != "instance"))
        .collect();
    let mut found: Vec<Labels> = read.samples.into_iter().map(|sample| sample.labels).collect();
    expected.sort();
    found.sort();
    assert_eq!(found, expected);
}

#[test]
fn promtool_finds_nothing_to_complain_about() {
    for store in [small(), torture()] {
        let mut out = String::new();
        store.write_prometheus(&mut out);
        assert_eq!(complaints("promtool", &["check", "metrics"], &out), None, "{out}");
    }
}

#[test]
fn prometheus_client_reads_our_openmetrics() {
    const READ: &str = "
import sys
try:
    from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse
except ImportError:
    sys.exit(0 if not __import__('os').environ.get('CI') else 'prometheus_client is missing, CI must have it')
text = sys.stdin.buffer.read().decode()
samples = sum(len(family.samples) for family in parse(text))
lines = sum(1 for line in text.split('\\n') if line and not line.startswith('#'))
assert samples == lines > 5, (samples, lines)
";
    for store in [small(), torture()] {
        let mut out = String::new();
        store.write_openmetrics(&mut out);
        assert_eq!(complaints("python3", &["-c", READ], &out), None, "{out}");
    }
}
