//! Expositions through one door: what is read, and what is refused with its line.

use super::{ScrapeBatch, Scraper};
use crate::source::wire::Writer;
use proptest::prelude::*;

const TEXT: &str = "text/plain; version=0.0.4";
const OPEN: &str = "application/openmetrics-text; version=1.0.0";
const PROTO: &str = "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited";

/// The samples of a batch as text, without those about the scrape itself.
fn shown(batch: &ScrapeBatch) -> Vec<String> {
    let name = |id: u32| batch.fresh.iter().find(|(known, _)| *known == id).map_or("?".into(), |(_, l)| l.to_string());
    let floats = batch.floats[..batch.floats.len() - 5].iter().map(|(id, value)| format!("{} {value}", name(*id)));
    let timed = batch.timed.iter().map(|(id, t_ms, value)| format!("{} {value} @{t_ms}", name(*id)));
    let histograms = batch.histograms.iter().map(|(id, t_ms, histogram)| {
        let h = histogram;
        format!(
            "{} schema {} count {} sum {} zero {}/{} +{:?}{:?} -{:?}{:?} custom {:?}{} @{t_ms}",
            name(*id),
            h.schema,
            h.count,
            h.sum,
            h.zero_count,
            h.zero_threshold,
            h.positive_spans,
            h.positive,
            h.negative_spans,
            h.negative,
            h.custom_bounds,
            if h.gauge { " gauge" } else { "" }
        )
    });
    floats.chain(timed).chain(histograms).collect()
}

fn check(body: &[u8], content_type: &str, expected: Result<&[&str], &str>) {
    let mut scraper = Scraper::new([]);
    let outcome = scraper.scrape(body, content_type, 1_000);
    let what = String::from_utf8_lossy(body);
    match (&outcome, expected) {
        (Ok(batch), Ok(expected)) => assert_eq!(shown(batch), expected, "{what}"),
        (Err(message), Err(expected)) => assert!(message.starts_with(expected), "{what}: {message}"),
        (outcome, expected) => panic!("{what}: {outcome:?}, expected {expected:?}"),
    }
    if outcome.is_ok() {
        // A second scrape finds every series where it was.
        let again = scraper.scrape(body, content_type, 2_000).unwrap();
        assert!(again.fresh.is_empty() && again.stale.is_empty() && again.metadata.is_empty(), "{what}: {again:?}");
    }
}

#[test]
fn prometheus_text_is_read() {
    let text = "# HELP http_requests_total The \\\\ total\\nof requests.\n# TYPE http_requests_total counter\n\
        http_requests_total{method=\"post\",code=\"200\"} 1027 1395066363000\n\
        http_requests_total{method=\"post\",code=\"400\",}    3 1395066363000\n\n\
        # a comment\n#\n\
        msdos_file_access_time_seconds{path=\"C:\\\\DIR\\\\FILE.TXT\",error=\"Cannot find file:\\n\\\"FILE.TXT\\\"\"} 1.458255915e9\n\
        metric_without_timestamp_and_labels 12.47\r\n\
        something_weird { problem = \"division by zero\" } +Inf -3982045\n\
        \t a{b=\"}\"}\t-Inf\nnan NaN\nnan{x=\"\"} 0x\n";
    let mut scraper = Scraper::new([]);
    let message = scraper.scrape(text.as_bytes(), TEXT, 1).unwrap_err();
    assert_eq!(message, "line 13: a value is not a number: nan{x=\"\"} 0x");
    let text = text.replace("nan{x=\"\"} 0x\n", "");
    check(
        text.as_bytes(),
        TEXT,
        Ok(&[
            r#"msdos_file_access_time_seconds{error="Cannot find file:\n\"FILE.TXT\"", path="C:\\DIR\\FILE.TXT"} 1458255915"#,
            "metric_without_timestamp_and_labels 12.47",
            r#"a{b="}"} -inf"#,
            "nan NaN",
            r#"http_requests_total{code="200", method="post"} 1027 @1395066363000"#,
            r#"http_requests_total{code="400", method="post"} 3 @1395066363000"#,
            r#"something_weird{problem="division by zero"} inf @-3982045"#,
        ]),
    );
    let batch = Scraper::new([]).scrape(text.as_bytes(), TEXT, 1).unwrap();
    assert_eq!((batch.metadata.len(), batch.metadata[0].kind), (1, "counter"));
    assert_eq!(batch.metadata[0].help, "The \\ total\nof requests.");
    let utf8 = "# TYPE \"http.status:sum\" counter\n{\"http.status:sum\",\"my.dot\"=\"é\"} 1\n{\"go.gc\"} 2\na{\"b\\\"c\"=\"x\"} 3";
    check(
        utf8.as_bytes(),
        TEXT,
        Ok(&[r#"http.status:sum{my.dot="é"} 1"#, r#"go.gc{} 2"#.replace("{}", "").as_str(), r#"a{b"c="x"} 3"#]),
    );
    check(b"", TEXT, Ok(&[]));
}

#[test]
fn bad_text_names_its_line() {
    for (text, expected) in [
        ("a 1\nb\n", "line 2: a value is missing"),
        ("a 1\n\n{} 1", "line 3: a series has no name"),
        ("a{b=\"c} 1", "line 1: a quote is not closed"),
        ("a{b=\"c\" 1", "line 1: a brace is not closed"),
        ("a{b=c} 1", "line 1: a label's value must be in quotes"),
        ("a{b} 1", "line 1: a label has no value"),
        ("a{\"b\"} 1", "line 1: a label has no value"),
        ("a{b=\"1\",b=\"2\"} 1", "line 1: a label is given twice"),
        ("a{b=\"1\" c=\"2\"} 1", "line 1: a comma or a brace is missing"),
        ("a{,} 1", "line 1: a name is missing"),
        ("9a 1", "line 1: a name is missing"),
        ("a-b 1", "line 1: a name holds a character that it cannot"),
        ("a 1_000", "line 1: a value is not a number"),
        ("a 1 1.5", "line 1: a timestamp is not a whole number"),
        ("a 1 1 1", "line 1: something stands after the timestamp"),
        ("# TYPE a countre\n", "line 1: an unknown type"),
        ("<html>\n", "line 1: a name is missing"),
    ] {
        check(text.as_bytes(), TEXT, Err(expected));
    }
    check(b"a 1\nb{c=\"\xff\"} 2\n", TEXT, Err("line 2: not UTF-8"));
}

#[test]
fn open_metrics_is_read_and_strict() {
    let text = "# TYPE acme_http_router_request_seconds summary\n# UNIT acme_http_router_request_seconds seconds\n\
        # HELP acme_http_router_request_seconds Latency \\\"though\\\" all.\n\
        acme_http_router_request_seconds_sum{path=\"/api/v1\",method=\"GET\"} 9036.32\n\
        acme_http_router_request_seconds_created{path=\"/api/v1\",method=\"GET\"} 1605281325.0\n\
        # TYPE go_goroutines gauge\ngo_goroutines 69 1605301325.5\n\
        # TYPE foo histogram\nfoo_bucket{le=\"0.1\"} 8 # {trace_id=\"oHg5SJYRHA0\"} 9.8 1520879607.789\n\
        foo_bucket{le=\"+Inf\"} 17 1520879607 # {} 0.67\n# TYPE i info\ni_info{} 1\n# EOF\n";
    check(
        text.as_bytes(),
        OPEN,
        Ok(&[
            r#"acme_http_router_request_seconds_sum{method="GET", path="/api/v1"} 9036.32"#,
            r#"acme_http_router_request_seconds_created{method="GET", path="/api/v1"} 1605281325"#,
            r#"foo_bucket{le="0.1"} 8"#,
            "i_info 1",
            "go_goroutines 69 @1605301325500",
            r#"foo_bucket{le="+Inf"} 17 @1520879607000"#,
        ]),
    );
    let batch = Scraper::new([]).scrape(text.as_bytes(), OPEN, 1).unwrap();
    let first = &batch.metadata[0];
    assert_eq!(
        (first.kind, first.unit.as_str(), first.help.as_str()),
        ("summary", "seconds", "Latency \"though\" all.")
    );
    let long = format!("a_total 1 # {{x=\"{}\"}} 1\n# EOF", "y".repeat(128));
    for (text, expected) in [
        ("a 1\n", "line 2: # EOF is missing"),
        ("", "line 1: # EOF is missing"),
        ("# EOF\na 1\n", "line 2: something stands after # EOF"),
        ("\n# EOF\n", "line 1: an empty line"),
        ("a  1\n# EOF\n", "line 1: exactly one space"),
        (" a 1\n# EOF\n", "line 1: a name is missing"),
        ("a{ b=\"c\"} 1\n# EOF\n", "line 1: a name is missing"),
        ("a{b=\"c\",} 1\n# EOF\n", "line 1: a name is missing"),
        ("a {b=\"c\"} 1\n# EOF\n", "line 1: a name holds a character"),
        ("# hello\n# EOF\n", "line 1: a comment that is none of"),
        ("# TYPE a untyped\n# EOF\n", "line 1: an unknown type"),
        ("# UNIT a_b seconds\n# EOF\n", "line 1: a unit is not the end"),
        ("a 1 x\n# EOF\n", "line 1: a timestamp is not a number"),
        ("a 1 NaN\n# EOF\n", "line 1: a timestamp is not a moment"),
        ("a 1 # {b=\"c\"}\n# EOF\n", "line 1: an exemplar's value"),
        ("a 1 # b 1\n# EOF\n", "line 1: an exemplar begins with a brace"),
        (&long, "line 1: an exemplar's labels are longer"),
        ("a{b=\"\\q\"} 1\n# EOF\n", "line 1: an unknown escape"),
    ] {
        check(text.as_bytes(), OPEN, Err(expected));
    }
}

#[test]
fn classic_histograms_become_native_ones_with_custom_bounds() {
    let text = "# TYPE h histogram\nh_bucket{a=\"b\",le=\"0.5\"} 1\nh_bucket{a=\"b\",le=\"1\"} 3\nh_bucket{a=\"b\",le=\"+Inf\"} 4\n\
        h_sum{a=\"b\"} 5.5\nh_count{a=\"b\"} 4\n# TYPE x counter\nx_count 1\n";
    let mut scraper = Scraper::new([]);
    scraper.reading.convert = true;
    let batch = scraper.scrape(text.as_bytes(), TEXT, 7).unwrap();
    let expected = "h{a=\"b\"} schema -53 count 4 sum 5.5 zero 0/0 +[(0, 3)][1.0, 2.0, 1.0] -[][] custom [0.5, 1.0] @7";
    assert_eq!(shown(&batch), ["x_count 1", expected]);
    let falls = text.replace("} 3", "} 0");
    assert_eq!(
        scraper.scrape(falls.as_bytes(), TEXT, 8).unwrap_err(),
        "line 8: the buckets of a histogram do not rise"
    );
    let proto = family("h", 4, |metric| {
        metric.message(7, |histogram| {
            histogram.uint(1, 4);
            histogram.double(2, 5.5);
            histogram.message(3, |bucket| {
                bucket.uint(1, 1);
                bucket.double(2, 0.5);
            });
        });
    });
    let batch = scraper.scrape(&proto, PROTO, 9).unwrap();
    assert_eq!(shown(&batch), ["h schema -53 count 4 sum 5.5 zero 0/0 +[(0, 2)][1.0, 3.0] -[][] custom [0.5] @9"]);
}

fn label(writer: &mut Writer, name: &str, value: &str) {
    writer.message(1, |pair| {
        pair.text(1, name);
        pair.text(2, value);
    });
}

fn family(name: &str, kind: u64, metrics: impl Fn(&mut Writer)) -> Vec<u8> {
    let mut writer = Writer::default();
    writer.delimited(|family| {
        family.text(1, name);
        family.text(2, "Help.");
        family.uint(3, kind);
        family.message(4, &metrics);
    });
    writer.out
}

fn span(offset: i64, length: u64) -> impl FnOnce(&mut Writer) {
    move |span| {
        span.sint(1, offset);
        span.uint(2, length);
    }
}

#[test]
fn protobuf_is_read() {
    let counter = family("c_total", 0, |metric| {
        label(metric, "a", "b");
        metric.message(3, |counter| {
            counter.double(1, 7.5);
            counter.message(2, |exemplar| exemplar.double(2, 1.0));
            counter.message(3, |created| created.uint(1, 12));
        });
    });
    check(&counter, PROTO, Ok(&[r#"c_total{a="b"} 7.5"#]));
    let batch = Scraper::new([]).scrape(&counter, PROTO, 1).unwrap();
    assert_eq!((batch.starts.as_slice(), batch.metadata[0].help.as_str()), ([(0, 12_000)].as_slice(), "Help."));
    let timed = family("g", 1, |metric| {
        metric.message(2, |gauge| gauge.double(1, -1.0));
        metric.uint(6, 77);
    });
    check(&timed, PROTO, Ok(&["g -1 @77"]));
    let summary = family("s", 2, |metric| {
        metric.message(4, |summary| {
            summary.uint(1, 10);
            summary.double(2, 2.5);
            summary.message(3, |quantile| {
                quantile.double(1, 0.5);
                quantile.double(2, 0.25);
            });
        });
    });
    check(&summary, PROTO, Ok(&["s_count 10", "s_sum 2.5", r#"s{quantile="0.5"} 0.25"#]));
    // Native and classic: both are stored. Spans 0:2 and 1:1 with deltas 1, 1, -1 are the counts 1, 2, 1.
    let histogram = family("h", 4, |metric| {
        metric.message(7, |histogram| {
            histogram.uint(1, 6);
            histogram.double(2, 18.5);
            for (bound, count) in [(1.0, 3), (2.5, 5)] {
                histogram.message(3, |bucket| {
                    bucket.uint(1, count);
                    bucket.double(2, bound);
                });
            }
            histogram.sint(5, 3);
            histogram.double(6, 0.001);
            histogram.uint(7, 2);
            histogram.message(12, span(0, 2));
            histogram.message(12, span(1, 1));
            [1, 1, -1].iter().for_each(|delta| histogram.sint(13, *delta));
        });
    });
    check(
        &histogram,
        PROTO,
        Ok(&[
            "h_count 6",
            "h_sum 18.5",
            r#"h_bucket{le="1.0"} 3"#,
            r#"h_bucket{le="2.5"} 5"#,
            r#"h_bucket{le="+Inf"} 6"#,
            "h schema 3 count 6 sum 18.5 zero 2/0.001 +[(0, 2), (1, 1)][1.0, 2.0, 1.0] -[][] custom [] @1000",
        ]),
    );
    // Float counts, packed, of a gauge histogram, and the two families behind each other.
    let floats = family("f", 5, |metric| {
        metric.message(7, |histogram| {
            histogram.double(4, 4.5);
            histogram.double(2, 1.0);
            histogram.message(9, span(-1, 2));
            histogram.message(11, |packed| {
                packed.out.extend(1.5_f64.to_le_bytes());
                packed.out.extend(3.0_f64.to_le_bytes());
            });
        });
    });
    let both = [counter, floats].concat();
    check(
        &both,
        PROTO,
        Ok(&[
            r#"c_total{a="b"} 7.5"#,
            "f schema 0 count 4.5 sum 1 zero 0/0 +[][] -[(-1, 2)][1.5, 3.0] custom [] gauge @1000",
        ]),
    );
}

#[test]
fn bad_protobuf_names_its_family() {
    let broken = |write: fn(&mut Writer)| family("h", 4, move |metric| metric.message(7, write));
    let promised = broken(|histogram| {
        histogram.uint(1, 1);
        histogram.message(12, span(0, 2));
        histogram.sint(13, 1);
    });
    check(&promised, PROTO, Err("family 1 h: a native histogram contradicts itself"));
    let negative = broken(|histogram| {
        histogram.uint(1, 1);
        histogram.message(12, span(0, 1));
        histogram.sint(13, -1);
    });
    check(&negative, PROTO, Err("family 1 h: a native histogram contradicts itself"));
    let schema = broken(|histogram| {
        histogram.sint(5, 9);
        histogram.double(6, 1.0);
    });
    check(&schema, PROTO, Err("family 1 h: a native histogram has a schema"));
    let short = broken(|histogram| histogram.uint(1, 1));
    check(&short[..short.len() - 1], PROTO, Err("family 1 : a message is damaged"));
    check(&family("", 0, |metric| metric.message(3, |_| {})), PROTO, Err("family 1 : a family has no name"));
    check(&family("x", 9, |_| {}), PROTO, Err("family 1 x: an unknown type"));
    check(&family("x", 0, |_| {}), PROTO, Err("family 1 x: a metric has no value"));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]
    #[test]
    fn any_bytes_are_no_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), text in "[a-z{}=\"\\\\,# \n0-9é.:eEOFTYPHLUNIx]{0,120}") {
        for content_type in [TEXT, OPEN, PROTO] {
            for body in [bytes.as_slice(), text.as_bytes()] {
                let mut scraper = Scraper::new([("job", "j")]);
                let _ = scraper.scrape(body, content_type, 1);
                let _ = scraper.scrape(body, content_type, 2);
            }
        }
    }

    #[test]
    fn damaged_protobuf_is_no_panic(at in any::<prop::sample::Index>(), byte: u8, cut in any::<prop::sample::Index>()) {
        let mut body = family("h", 4, |metric| {
            label(metric, "a", "b");
            metric.message(7, |histogram| {
                histogram.uint(1, 6);
                histogram.sint(5, 3);
                histogram.double(6, 0.001);
                histogram.message(12, span(0, 2));
                [1, 1].iter().for_each(|delta| histogram.sint(13, *delta));
            });
        });
        let place = at.index(body.len());
        body[place] = byte;
        body.truncate(cut.index(body.len()) + 1);
        let _ = Scraper::new([]).scrape(&body, PROTO, 1);
    }

    #[test]
    fn what_is_written_is_read(series in prop::collection::vec((prop::collection::btree_map("[a-z_]{1,6}", "\\PC{0,12}", 0..4), -1e12_f64..1e12), 1..20)) {
        let mut text = String::new();
        let mut expected = Vec::new();
        for (at, (labels, value)) in series.iter().enumerate() {
            let quote = |value: &str| value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let pairs: Vec<String> = labels.iter().map(|(name, value)| format!("{name}=\"{}\"", quote(value))).collect();
            text += &format!("m{at}{{{}}} {value}\n", pairs.join(","));
            let name = [("__name__".to_owned(), format!("m{at}"))];
            let set = crate::model::Labels::from_pairs(labels.clone().into_iter().chain(name));
            expected.push(format!("{set} {value}"));
        }
        let mut scraper = Scraper::new([]);
        prop_assert_eq!(shown(&scraper.scrape(text.as_bytes(), TEXT, 1).unwrap()), expected.clone());
        let open = text + "# EOF";
        prop_assert_eq!(shown(&Scraper::new([]).scrape(open.as_bytes(), OPEN, 1).unwrap()), expected);
    }
}
