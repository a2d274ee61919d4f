use super::*;
use crate::source::wire::Writer;
use proptest::prelude::*;

fn packed(write: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut writer = Writer::default();
    write(&mut writer);
    snap::raw::Encoder::new().compress_vec(&writer.out).unwrap()
}

fn label(writer: &mut Writer, name: &str, value: &str) {
    writer.message(1, |pair| {
        pair.text(1, name);
        pair.text(2, value);
    });
}

fn sample(writer: &mut Writer, value: f64, t_ms: i64) {
    writer.message(2, |sample| {
        sample.double(1, value);
        sample.uint(2, t_ms.cast_unsigned());
    });
}

#[test]
fn the_first_protocol_is_read_whole() {
    let body = packed(|writer| {
        writer.message(1, |series| {
            label(series, "__name__", "up");
            label(series, "job", "a");
            label(series, "empty", "");
            sample(series, 1.5, 1_000);
            sample(series, f64::NAN, -5);
            series.message(3, |exemplar| {
                label(exemplar, "trace_id", "abc");
                exemplar.double(2, 7.0);
                exemplar.uint(3, 900);
            });
        });
        writer.message(1, |series| {
            label(series, "__name__", "h");
            series.message(4, |histogram| {
                histogram.uint(1, 6);
                histogram.double(3, 10.0);
                histogram.sint(4, 1);
                histogram.double(5, 0.001);
                histogram.uint(6, 1);
                histogram.message(11, |span| {
                    span.sint(1, -1);
                    span.uint(2, 2);
                });
                histogram.sint(12, 2);
                histogram.sint(12, 1);
                histogram.uint(15, 2_000);
            });
        });
        writer.message(3, |metadata| {
            metadata.uint(1, 2);
            metadata.text(2, "up");
            metadata.text(4, "Whether it is there.");
        });
    });
    let request = read(&body, Version::V1, 10_000).unwrap();
    assert_eq!((request.invalid, request.series.len()), (0, 2), "{request:?}");
    let up = &request.series[0];
    assert_eq!(up.labels.to_string(), r#"up{job="a"}"#);
    assert_eq!((up.floats[0], up.floats[1].0, up.floats[1].1.is_nan()), ((1_000, 1.5, 0), -5, true));
    assert_eq!((up.exemplars[0].value, up.exemplars[0].t_ms), (7.0, 900));
    let (t_ms, histogram, _) = &request.series[1].histograms[0];
    assert_eq!((*t_ms, histogram.positive.as_slice(), histogram.schema), (2_000, &[2.0, 3.0][..], 1));
    assert_eq!(request.metadata[0].kind, "gauge");
}

#[test]
fn the_second_protocol_names_its_texts_by_number() {
    let symbols = ["", "__name__", "http_seconds_count", "path", "/a", "Requests.", "seconds"];
    let body = packed(|writer| {
        symbols.iter().for_each(|symbol| writer.text(4, symbol));
        writer.message(5, |series| {
            for at in [1, 2, 3, 4] {
                series.uint(1, at);
            }
            series.message(2, |sample| {
                sample.double(1, 3.0);
                sample.uint(2, 5_000);
                sample.uint(3, 4_000);
            });
            series.message(5, |metadata| {
                metadata.uint(1, 3);
                metadata.uint(3, 5);
                metadata.uint(4, 6);
            });
            series.uint(6, 1_000);
        });
        writer.message(5, |series| {
            series.uint(1, 1);
            series.uint(1, 99);
            series.message(2, |sample| sample.double(1, 3.0));
        });
    });
    let request = read(&body, Version::V2, 10_000).unwrap();
    assert_eq!(request.series[0].labels.to_string(), r#"http_seconds_count{path="/a"}"#);
    assert_eq!(request.series[0].floats, [(5_000, 3.0, 4_000)]);
    let family = &request.metadata[0];
    assert_eq!(
        (&*family.name, family.kind, &*family.help, &*family.unit),
        ("http_seconds", "histogram", "Requests.", "seconds")
    );
    assert_eq!((request.invalid, request.series.len()), (1, 1), "the series with an unknown symbol is refused");
    assert_eq!(read(&packed(|writer| writer.text(1, "x")), Version::V2, 100), Err(RequestError::Protobuf));
}

#[test]
fn what_is_wrong_is_refused_alone() {
    let check = |write: &dyn Fn(&mut Writer), expected: &str| {
        let body = packed(|writer| {
            writer.message(1, write);
            writer.message(1, |good| {
                label(good, "__name__", "good");
                sample(good, 1.0, 1);
            });
        });
        let request = read(&body, Version::V1, 100_000).unwrap();
        assert!(request.reasons[0].contains(expected), "{expected}: {:?}", request.reasons);
        assert_eq!(request.series.last().unwrap().labels.metric_name(), "good");
    };
    let histogram = |fill: fn(&mut Writer)| {
        move |series: &mut Writer| {
            label(series, "__name__", "h");
            series.message(4, fill);
        }
    };
    check(
        &|series| {
            label(series, "job", "a");
            sample(series, 1.0, 1)
        },
        "has no name",
    );
    check(
        &|series| {
            label(series, "", "a");
            sample(series, 1.0, 1)
        },
        "a label has no name",
    );
    check(
        &|series| {
            label(series, "a", "1");
            label(series, "a", "2");
            sample(series, 1.0, 1)
        },
        "a stands twice",
    );
    check(&histogram(|h| h.sint(4, 9)), "schema 9");
    check(&histogram(|h| h.uint(1, 3)), "count is 3 and its buckets hold 0");
    check(&histogram(|h| h.message(11, |span| span.uint(2, 5))), "describe 5 buckets, it has 0");
    check(&histogram(|h| h.message(11, |span| span.uint(2, 4_000_000_000))), "at most 10000");
    let long = "x".repeat(200);
    check(
        &move |series| {
            label(series, "__name__", "e");
            series.message(3, |exemplar| label(exemplar, "trace_id", &long));
        },
        "more than 128 characters",
    );
    assert_eq!(read(b"\xff\xff", Version::V1, 100), Err(RequestError::Compression));
    let large = packed(|writer| writer.text(9, &"x".repeat(1_000)));
    assert_eq!(read(&large, Version::V1, 100), Err(RequestError::TooLarge { limit_bytes: 100 }));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]
    #[test]
    fn any_bytes_are_no_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        for version in [Version::V1, Version::V2] {
            let _ = read(&bytes, version, 1_000);
            let _ = read(&snap::raw::Encoder::new().compress_vec(&bytes).unwrap(), version, 1_000);
        }
    }
}
