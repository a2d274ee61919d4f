//! Properties of the language, and scripts of our own beside Prometheus's.

use super::testing::{TestStorage, parse_series, run_file};
use super::*;
use proptest::prelude::*;

fn store() -> TestStorage {
    let mut storage = TestStorage::default();
    for line in [
        r#"a_total{x="1"} 0+1x10 0+2x10"#,
        r#"a_total{x="2"} 5 _ stale 3 NaN Inf -Inf 1e308x3"#,
        r#"b{x="1",le="0.1"} 1+1x20"#,
        r#"b{x="1",le="+Inf"} 2+2x20"#,
        r#"h{x="1"} {{schema:1 count:3 sum:4 buckets:[1 2]}}+{{count:1 sum:1 buckets:[1]}}x10"#,
        r#"h{x="2"} {{schema:-53 count:3 sum:4 custom_values:[1 2] buckets:[1 2]}}x3 1 {{schema:8 count:1 sum:NaN n_buckets:[1]}}"#,
        r#"target_info{instance="i",job="j",data="d"} 1x20"#,
        r#"c{instance="i",job="j"} 1x20"#,
    ] {
        storage.add_notation(&parse_series(line).unwrap(), &[], 0, 60_000);
    }
    storage
}

/// Expressions made of every part of the language, most of them well-typed.
fn expression() -> impl Strategy<Value = String> {
    let number = prop_oneof![
        Just("1"),
        Just("0"),
        Just("NaN"),
        Just("Inf"),
        Just("1e300"),
        Just("0.5"),
        Just("5m"),
        Just("1e18"),
    ]
    .prop_map(str::to_owned);
    let duration = prop_oneof![
        Just("5m"),
        Just("1ms"),
        Just("90s"),
        Just("1e9"),
        Just("100y"),
        Just("step()"),
        Just("range() + 1m"),
        Just("max_of(step(), 1m)"),
        Just("2 * (3 - 1)"),
        Just("-1m + 2m"),
        Just("2 ^ 70"),
        Just("1 / 0"),
        Just("292y"),
    ];
    let offset = prop_oneof![
        Just("5m"),
        Just("-1m"),
        Just("(step() * 2)"),
        Just("-min_of(1m, 2m)"),
        Just("292y"),
        Just("-292y")
    ];
    let at =
        prop_oneof![Just("0"), Just("-5"), Just("600.5"), Just("start()"), Just("end()"), Just("9e15"), Just("-9e15")];
    let name = prop_oneof![
        Just("a_total"),
        Just("b"),
        Just("h"),
        Just("c"),
        Just("nothing"),
        Just("sum"),
        Just("fill"),
        Just("{__name__=~\".+\"}"),
        Just("a_total{x=~\"1|2\",y!=\"\"}"),
        Just("{\"b\",le=\"+Inf\"}"),
    ];
    let modifiers = (prop::option::of(at), prop::option::of(offset)).prop_map(|(at, offset)| {
        let at = at.map(|at| format!(" @ {at}")).unwrap_or_default();
        at + &offset.map(|offset| format!(" offset {offset}")).unwrap_or_default()
    });
    let selector = (name, modifiers.clone(), prop_oneof![Just(""), Just(""), Just(" smoothed")])
        .prop_map(|(name, modifiers, extension)| format!("{name}{extension}{modifiers}"));
    let range = (
        prop_oneof![Just("a_total"), Just("h"), Just("b{x=\"1\"}")],
        duration.clone(),
        modifiers.clone(),
        prop_oneof![Just(""), Just(""), Just(" anchored"), Just(" smoothed")],
    )
        .prop_map(|(name, duration, modifiers, extension)| format!("{name}[{duration}]{extension}{modifiers}"));
    let leaf = prop_oneof![number, selector, range.clone().prop_map(|range| format!("rate({range})"))];
    leaf.prop_recursive(4, 24, 3, move |inner| {
        let op = prop_oneof![
            Just("+"),
            Just("-"),
            Just("*"),
            Just("/"),
            Just("%"),
            Just("^"),
            Just("atan2"),
            Just("=="),
            Just("> bool"),
            Just("<="),
            Just("and"),
            Just("or on (x)"),
            Just("unless ignoring (x)"),
            Just("* on (x) group_left (y)"),
            Just("- ignoring (x) group_right ()"),
            Just("+ fill (0)"),
            Just("/ on (x) fill_left (1) fill_right (2)"),
            Just("</"),
            Just(">/"),
        ];
        let over = prop_oneof![
            Just("rate"),
            Just("increase"),
            Just("delta"),
            Just("irate"),
            Just("idelta"),
            Just("sum_over_time"),
            Just("avg_over_time"),
            Just("max_over_time"),
            Just("ts_of_min_over_time"),
            Just("last_over_time"),
            Just("stddev_over_time"),
            Just("mad_over_time"),
            Just("changes"),
            Just("resets"),
            Just("deriv"),
            Just("absent_over_time"),
            Just("present_over_time"),
        ];
        let simple = prop_oneof![
            Just("abs"),
            Just("-"),
            Just("+"),
            Just("scalar"),
            Just("absent"),
            Just("timestamp"),
            Just("start_timestamp"),
            Just("sort_desc"),
            Just("histogram_sum"),
            Just("histogram_stddev"),
            Just("day_of_year"),
            Just("info"),
            Just("vector"),
            Just("sqrt"),
        ];
        let aggregation = prop_oneof![
            Just("sum"),
            Just("avg by (x)"),
            Just("count without (x)"),
            Just("min"),
            Just("stddev by (le)"),
            Just("group by (__name__)"),
        ];
        let picking = prop_oneof![
            Just("topk by (x)"),
            Just("bottomk"),
            Just("limitk"),
            Just("limit_ratio"),
            Just("quantile by (x)"),
        ];
        prop_oneof![
            (inner.clone(), op, inner.clone()).prop_map(|(left, op, right)| format!("({left}) {op} ({right})")),
            (over, range.clone()).prop_map(|(function, range)| format!("{function}({range})")),
            (inner.clone(), duration.clone(), prop_oneof![Just(""), Just("30s"), Just("step()")], modifiers.clone())
                .prop_map(|(inner, duration, step, modifiers)| format!(
                    "max_over_time(({inner})[{duration}:{step}]{modifiers})"
                )),
            (simple, inner.clone()).prop_map(|(function, inner)| format!("{function}({inner})")),
            (aggregation, inner.clone()).prop_map(|(aggregation, inner)| format!("{aggregation} ({inner})")),
            (picking, inner.clone(), inner.clone())
                .prop_map(|(picking, k, inner)| format!("{picking} (scalar({k}), {inner})")),
            inner.clone().prop_map(|inner| format!("histogram_quantile(0.9, {inner})")),
            inner.clone().prop_map(|inner| format!("histogram_fraction(-Inf, 2, {inner})")),
            inner.clone().prop_map(|inner| format!("count_values(\"v\", {inner})")),
            inner.clone().prop_map(|inner| format!("label_replace({inner}, \"x\", \"$1-$2\", \"x\", \"(.*)\")")),
            inner.prop_map(|inner| format!("clamp({inner}, 0, scalar({inner}))")),
        ]
    })
}

fn small() -> Options<'static> {
    Options { max_samples: 20_000, ..Options::default() }
}

/// Evaluates in all ways; there may be an answer or an error.
fn evaluate(query: &Query) {
    let storage = store();
    for at_ms in [0, 600_000, -1, i64::MAX, i64::MIN, 1 << 60] {
        let _ = query.instant(&storage, at_ms, &small());
        let _ = query.selections(at_ms, at_ms, &small());
    }
    for (start_ms, end_ms, step_ms) in
        [(0, 1_200_000, 120_000), (i64::MIN, i64::MAX, i64::MAX), (i64::MAX - 5, i64::MAX, 1)]
    {
        let _ = query.range(&storage, start_ms, end_ms, step_ms, &small());
    }
}

#[test]
fn infinity_is_printed_so_that_it_is_read_again() {
    for (text, printed) in [
        ("Inf", "+Inf"),
        ("a * Inf", "a * +Inf"),
        ("-Inf ^ a", "-Inf ^ a"),
        ("Inf ^ a ^ Inf", "Inf ^ a ^ +Inf"),
        ("- -Inf ^ a", "--Inf ^ a"),
        ("rate(a[Inf - 5m])", "rate(a[Inf - 5m])"),
    ] {
        let read = parse(text).unwrap();
        assert_eq!(read.to_string(), printed);
        assert_eq!(parse(printed).unwrap(), read, "{printed}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_canonical_form_means_the_same_and_nothing_panics(text in expression()) {
        if let Ok(query) = Query::parse(&text) {
            let printed = query.expr().to_string();
            let again = parse(&printed).map_err(|error| TestCaseError::fail(format!("{text} -> {printed}: {error}")))?;
            prop_assert_eq!(&again, query.expr());
            prop_assert_eq!(again.to_string(), printed);
            evaluate(&query);
        }
    }

    #[test]
    fn any_text_gives_an_error_or_an_expression(text in "\\PC{0,40}") {
        let _ = parse(&text);
        let _ = parse_series(&text);
        let _ = parse_metric_selector(&text);
    }

    #[test]
    fn any_tokens_give_an_error_or_an_expression(
        tokens in prop::collection::vec(prop_oneof![
            Just("a"), Just("("), Just(")"), Just("{"), Just("}"), Just("["), Just("]"), Just(","), Just(":"), Just("="), Just("=~"),
            Just("\"x\""), Just("'"), Just("1"), Just("5m"), Just("+"), Just("-"), Just("^"), Just("@"), Just("offset"), Just("by"),
            Just("on"), Just("sum"), Just("rate"), Just("bool"), Just("group_left"), Just("fill"), Just("start"), Just("step"),
            Just("min_of"), Just("smoothed"), Just("\\"), Just("#"), Just("\n"), Just("0x"), Just("1e"), Just("</"), Just("!"), Just("ü"),
        ], 0..25),
    ) {
        let text = tokens.join(" ");
        if let Ok(query) = Query::parse(&text) {
            evaluate(&query);
        }
        let _ = parse(&tokens.concat());
    }

    #[test]
    fn any_script_gives_a_report(lines in prop::collection::vec(prop_oneof![
        Just("load 1m"), Just("  a 1+1x5 _x2 stale"), Just("  a@st -1m"), Just("eval instant at 1m a"), Just("eval range from 0 to 1m step 0s a"),
        Just("  a 2"), Just("  expect fail msg: x"), Just("  {{schema:0 buckets:["), Just("clear"), Just(""), Just("#"), Just("eval instant at"),
        Just("  {{}}x999999999999"), Just("  1x1000001"), Just("eval range from 0 to 1m step 1s a @ -1e30"),
    ], 0..10)) {
        let _ = run_file("any", &lines.join("\n"));
    }
}

#[test]
fn depth_and_length_are_bounded() {
    let nested = |depth: usize| format!("{}1{}", "(".repeat(depth), ")".repeat(depth));
    assert!(parse(&nested(80)).is_ok());
    for text in [
        nested(100_000),
        format!("{}1", "-".repeat(100_000)),
        format!("1{}", " + 1".repeat(100_000)),
        format!("1{}", " ^ 1".repeat(100_000)),
        format!("a[{}1{}]", "(".repeat(100_000), ")".repeat(100_000)),
        format!("a[1{}]", " + 1".repeat(100_000)),
        format!("a{}", "[1m:]".repeat(100_000)),
        "abs(".repeat(100_000) + "a" + &")".repeat(100_000),
    ] {
        let error = parse(&text).unwrap_err();
        assert!(error.message.contains("nested too deeply (the limit is "), "{error}");
    }
    // As deep as it may be, everything still works on a small stack.
    let storage = store();
    for text in
        [format!("a_total{}", " + a_total".repeat(240)), format!("{}a_total{}", "abs(".repeat(95), ")".repeat(95))]
    {
        let query = Query::parse(&text).unwrap();
        assert!(query.instant(&storage, 600_000, &Options::default()).is_ok());
        assert_eq!(parse(&query.expr().to_string()).as_ref(), Ok(query.expr()));
    }
    let options = Options { max_query_bytes: 10, ..Options::default() };
    let error = Query::parse_with("a + b + c + d", &options).unwrap_err();
    assert_eq!(
        (error.error_type(), error.to_string()),
        ("bad_data", "the query has 13 bytes, the limit is 10".to_owned())
    );
}

#[test]
fn errors_have_their_kind_and_place() {
    let storage = store();
    let options = Options::default();
    let query = |text: &str| Query::parse(text).unwrap();
    let error = Query::parse("sum(rate(a_total))\n + ").unwrap_err();
    assert_eq!((error.line, error.column, error.start, error.end), (2, 4, 22, 22));
    assert_eq!(error.to_string(), "2:4: parse error: unexpected end of input");

    let failed = query("a_total * on () a_total").instant(&storage, 600_000, &options).unwrap_err();
    assert_eq!(failed.error_type(), "execution");

    let over = || true;
    let timed = Options { deadline: Some(&over), ..options.clone() };
    assert_eq!(query("a_total").instant(&storage, 0, &timed), Err(QueryError::Timeout));
    let canceled = Options { canceled: Some(&over), ..options.clone() };
    assert_eq!(query("a_total").instant(&storage, 0, &canceled).unwrap_err().error_type(), "canceled");

    let few = Options { max_samples: 5, ..options.clone() };
    let error = query("a_total[1h]").instant(&storage, 600_000, &few).unwrap_err();
    assert_eq!(error.to_string(), "query processing would load too many samples into memory in query execution");
    assert_eq!(query("a_total").range(&storage, 0, 1_000_000_000, 1, &options).unwrap_err().error_type(), "bad_data");
    assert_eq!(query("a_total[5m]").range(&storage, 0, 1, 1, &options).unwrap_err().error_type(), "bad_data");

    let stable = Options { experimental: false, ..options };
    assert!(Query::parse_with("rate(a_total[5m])", &stable).is_ok());
    let error = Query::parse_with("mad_over_time(a[5m + 1m] smoothed)", &stable).unwrap_err();
    assert_eq!(error.to_string(), "duration expressions, mad_over_time, smoothed is experimental and not enabled");
}

/// Answers only what it was told to expect.
struct Strict<'s>(TestStorage, &'s [Selection]);

impl Storage for Strict<'_> {
    fn select(&self, selection: &Selection) -> Vec<SeriesData> {
        assert!(self.1.contains(selection), "{selection:?} was not announced");
        self.0.select(selection)
    }
}

#[test]
fn selections_are_known_beforehand_and_asked_once() {
    for (text, ranges) in [
        ("a_total", vec![(300_001, 600_000)]),
        ("rate(a_total[2m] offset 1m)", vec![(420_001, 540_000)]),
        ("a_total + a_total", vec![(300_001, 600_000)]),
        ("max_over_time(rate(a_total[1m])[10m:1m])", vec![(-59_999, 600_000)]),
        ("a_total @ 100 + b @ end()", vec![(-199_999, 100_000), (300_001, 600_000)]),
        ("info(c)", vec![(300_001, 600_000), (300_001, 600_000)]),
        ("increase(a_total[1m] anchored)", vec![(240_001, 600_000)]),
        ("increase(a_total[1m] smoothed)", vec![(240_001, 900_000)]),
    ] {
        let query = Query::parse(text).unwrap();
        let selections = query.selections(600_000, 600_000, &Options::default());
        let found: Vec<(i64, i64)> = selections.iter().map(|selection| (selection.from_ms, selection.to_ms)).collect();
        assert_eq!(found, ranges, "{text}");
        query.instant(&Strict(store(), &selections), 600_000, &Options::default()).unwrap();
    }
    let query =
        Query::parse("sum(rate(a_total{x=\"1\"}[5m])) / on () group_left info({__name__=~\"b|c\"}, {data=~\".+\"})")
            .unwrap();
    let names: Vec<Option<&str>> = query.expr().selectors().iter().map(|selector| selector.metric_name()).collect();
    assert_eq!(names, [Some("a_total"), None]);
}

#[test]
fn our_own_scripts_pass() {
    let script = r#"
load 1m
  requests_total{code="200",pod="a"} 0+60x10
  requests_total{code="500",pod="a"} 0+6x10
  requests_total{code="200",pod="b"} 0+120x10

eval instant at 10m sum by (code) (rate(requests_total[5m]))
  {code="200"} 3
  {code="500"} 0.1

eval instant at 10m sum(rate(requests_total{code=~"5.."}[5m])) / sum(rate(requests_total[5m])) > 0.01
  {} 0.03225806451612903

eval range from 0 to 2m step 1m requests_total{pod="b"} > 100 and on (pod) requests_total{code="200"}
  requests_total{code="200",pod="b"} _ 120 240

eval instant at 10m absent(requests_total{pod="c",code!="1"})
  {pod="c"} 1

eval instant at 10m rate(requests_total{pod="b"}[5m]) or vector(0)
  expect no_warn
  {code="200",pod="b"} 2
  {} 0

eval instant at 10m rate(requests_total{code="200"}[5m])[3m:1m] * 2
  expect fail
"#;
    // The last one cannot even be read, which a script reports as a failure.
    let report = run_file("own", script);
    assert_eq!((report.passed, report.failed), (5, 1), "{report:?}");
    assert!(report.failures[0].starts_with("own:25: "), "{report:?}");
    assert!(
        report.failures[0].contains("binary expression must contain only scalar and instant vector types"),
        "{report:?}"
    );
    let wrong = "load 1m\n  a 1\n\neval instant at 0 a\n  a 2\n\neval instant at 0 a\n\neval instant at 0 b\n  b 1\n\neval instant at 0 a\n  expect warn\n  a 1\n\neval instant at 0 a\n  expect fail\n";
    let report = run_file("wrong", wrong);
    assert_eq!((report.passed, report.failed), (0, 5), "{report:?}");
}

#[test]
fn queries_and_answers_go_to_other_threads() {
    fn check<T: Send + Sync>() {}
    check::<Query>();
    check::<Evaluation>();
    check::<QueryError>();
    check::<Options<'_>>();
}

#[test]
fn names_go_at_once_or_at_the_end() {
    let labels = |text: &str, delayed_name_removal: bool| {
        let options = Options { delayed_name_removal, ..Options::default() };
        match Query::parse(text).unwrap().instant(&store(), 600_000, &options).map(|evaluation| evaluation.value) {
            Ok(Value::Vector(vector)) => {
                vector.iter().map(|sample| sample.labels.to_string()).collect::<Vec<_>>().join(" ")
            }
            other => format!("{other:?}"),
        }
    };
    let replaced = r#"label_replace(rate(c[5m]), "was", "$1", "__name__", "(.+)")"#;
    assert_eq!(labels(replaced, true), r#"{instance="i", job="j", was="c"}"#);
    assert_eq!(labels(replaced, false), r#"{instance="i", job="j"}"#);
    let both = r#"sum by (__name__) (rate({__name__=~"c|target_info"}[5m]))"#;
    assert!(labels(both, true).contains("same labelset"), "{}", labels(both, true));
    assert_eq!(labels(both, false), "{}");
}
