//! Everything enters through `check`: input and framing in, a line for each event and each refusal out.

mod json;
mod samples;

use super::{DecodeLimits, Decoder, Framing, reason};
use crate::config::schema::FormatConfig;
use crate::config::{Diagnostics, Spanned};
use crate::model::{EventBatch, Field, FieldPath, FieldPlan, FieldPlanBuilder, Timestamp};
use std::fmt::Write as _;
use std::sync::Arc;

pub(super) fn plan(paths: &[&str]) -> Arc<FieldPlan> {
    let mut builder = FieldPlanBuilder::default();
    for path in paths {
        builder.slot(&FieldPath::parse(path).unwrap()).unwrap();
    }
    Arc::new(builder.build(1))
}

pub(super) fn decoder(config: &FormatConfig) -> Decoder {
    let mut found = Diagnostics::new();
    let limits = DecodeLimits { event_bytes: 10_000, depth: 8 };
    let decoder = Decoder::compile(config, limits, &mut found);
    decoder.unwrap_or_else(|| panic!("{found}"))
}

pub(super) fn show_field(batch: &EventBatch, field: Field) -> String {
    match field {
        Field::Missing => "-".into(),
        Field::Null => "null".into(),
        Field::Bool(value) => value.to_string(),
        Field::Number(value, text) => {
            let digits = batch.text(text);
            if digits == value.to_string() { digits.into() } else { format!("{value}({digits})") }
        }
        Field::Text(text) => format!("{:?}", batch.text(text)),
        Field::Json(text) => format!("json {}", batch.text(text)),
        Field::List { start, len } => {
            let elements: Vec<String> = batch.list(start, len).iter().map(|field| show_field(batch, *field)).collect();
            format!("[{}]", elements.join(", "))
        }
    }
}

/// Canonical attributes that say something, then the fields behind a bar; refusals last.
fn show(batch: &EventBatch) -> String {
    let mut out = String::new();
    for (row, event) in batch.events.iter().enumerate() {
        write!(out, "{:?} {}", event.shape, batch.text(event.event_type)).unwrap();
        for (name, text) in [
            ("id", event.id),
            ("source", event.source),
            ("subject", event.subject),
            ("correlation", event.correlation),
            ("causation", event.causation),
            ("trace", event.trace_id),
            ("span", event.span_id),
            ("outcome", event.outcome),
            ("severity", event.severity),
        ] {
            if !text.is_none() {
                write!(out, " {name}={}", batch.text(text)).unwrap();
            }
        }
        if let Some(time) = event.time {
            write!(out, " time={time}").unwrap();
        }
        for (flag, name) in [(event.time_invalid, "time_invalid"), (event.failed, "failed")] {
            if flag {
                write!(out, " {name}").unwrap();
            }
        }
        if !event.duration_seconds.is_nan() {
            write!(out, " duration={}", event.duration_seconds).unwrap();
        }
        for (name, value, usual) in [
            ("attempt", f64::from(event.attempt), 1.0),
            ("priority", f64::from(event.priority), 5.0),
            ("weight", event.weight, 1.0),
        ] {
            if value != usual {
                write!(out, " {name}={value}").unwrap();
            }
        }
        if !batch.plan.is_empty() {
            let fields: Vec<String> = batch.row(row).iter().map(|field| show_field(batch, *field)).collect();
            write!(out, " | {}", fields.join(", ")).unwrap();
        }
        out.push('\n');
    }
    for refusal in &batch.refused {
        assert!(reason::ALL.contains(&refusal.reason), "{refusal:?}");
        writeln!(out, "{}: {}: {}", refusal.item, refusal.reason, refusal.message).unwrap();
    }
    out
}

fn check_with(config: &FormatConfig, framing: Framing, paths: &[&str], input: &[u8], expected: &str) {
    let decoder = decoder(config);
    let first = plan(&["data.never"]);
    let wanted = plan(paths);
    let (source, arrived) = (Arc::from("src"), Timestamp::from_seconds(1_795_165_300.0));
    let batch = decoder.decode(input.to_vec(), framing.clone(), &wanted, &source, arrived);
    assert_eq!(show(&batch), expected);
    // The same, whatever plan it was decoded with first.
    let again = decoder.redecode(decoder.decode(input.to_vec(), framing, &first, &source, arrived), &wanted);
    assert_eq!(show(&again), expected, "decoded again");
}

fn check(paths: &[&str], input: &str, expected: &str) {
    check_with(&FormatConfig::default(), Framing::Auto, paths, input.as_bytes(), expected);
}

#[test]
fn the_router() {
    check(
        &["data.amount", "payload.amount", "topic", "tags[0]", "headers.traceparent", "data", "priority", "attempt"],
        concat!(
            r#"{"id":"a6a3","type":"order.cancelled","payload":{"amount":24.07,"duration_ms":36.5,"status":"ok"},"#,
            r#""source":"gateway","target":"pay","topic":"order","timestamp":"2026-11-20T09:00:00","#,
            r#""correlation_id":"corr-0","causation_id":"c1","priority":7,"attempts":1,"tags":["eu"],"#,
            r#""headers":{"traceparent":"00-8d116ece1738f7d93d9c172411e20b8f-0f21ddb66cad4a26-01"}}"#
        ),
        concat!(
            "Router order.cancelled id=a6a3 source=gateway subject=pay correlation=corr-0 causation=c1 ",
            "trace=8d116ece1738f7d93d9c172411e20b8f span=0f21ddb66cad4a26 outcome=ok time=2026-11-20T09:00:00Z ",
            "duration=0.0365 attempt=2 priority=7 | 24.07, 24.07, \"order\", \"eu\", ",
            "\"00-8d116ece1738f7d93d9c172411e20b8f-0f21ddb66cad4a26-01\", ",
            "json {\"amount\":24.07,\"duration_ms\":36.5,\"status\":\"ok\"}, 7, 2\n"
        ),
    );
    check(
        &[],
        r#"{"type":"a","payload":{"result":"error"},"target":null,"causation_id":null,"attempts":0,"priority":"low"}"#,
        "Router a outcome=error failed priority=2\n",
    );
}

#[test]
fn the_domain_envelope() {
    check(
        &["data.quantity", "event.data.quantity", "processing.handler", "routing.topic", "source", "duration"],
        concat!(
            r#"{"event":{"event_id":"f7","event_type":"price.changed","aggregate_id":"stock-4","data":{"quantity":19},"#,
            r#""metadata":{"correlation_id":"corr-0"},"occurred_at":"2026-11-20T09:00:00.25Z"},"#,
            r#""routing":{"topic":"price","priority":"high"},"#,
            r#""processing":{"attempt":2,"handler":"H","duration_ms":12.5,"result":"failure","error":null}}"#
        ),
        concat!(
            "DomainEnvelope price.changed id=f7 subject=stock-4 correlation=corr-0 outcome=failure ",
            "time=2026-11-20T09:00:00.25Z failed duration=0.0125 attempt=2 priority=8 | ",
            "19, 19, \"H\", \"price\", \"src\", 0.0125\n"
        ),
    );
}

#[test]
fn typed_events() {
    check(
        &["data.operation", "operation", "data.field_path.segments[1]", "field_path.segments[]", "phase"],
        concat!(
            r#"{"event_id":"db","event_type":"performance.metric.recorded","timestamp":"2026-11-20 09:00:00.250000+00:00","#,
            r#""context_id":"ctx-0","field_path":{"segments":["customer","zip"]},"operation":"transform","#,
            r#""duration_ms":18,"status":"failed"}"#,
            "\n",
            r#"{"event_type":"performance.phase.start","phase":"parse","timestamp":1795165200.0}"#
        ),
        concat!(
            "Typed performance.metric.recorded id=db subject=ctx-0 correlation=ctx-0 outcome=failed ",
            "time=2026-11-20T09:00:00.25Z failed duration=0.018 | \"transform\", \"transform\", \"zip\", ",
            "[\"customer\", \"zip\"], -\n",
            "Typed performance.phase.start time=2026-11-20T09:00:00Z | -, -, -, -, \"parse\"\n"
        ),
    );
}

#[test]
fn coordinator_and_cache() {
    check(
        &["data.labels.\"joyride.host.name\"", "data.severity", "severity"],
        concat!(
            r#"{"event_id":"5f","event_type":"container.started","timestamp":"2026-11-20T09:00:00Z","source":"docker","#,
            r#""data":{"labels":{"joyride.host.name":"web.local"}}}"#,
            "\n",
            r#"{"event_id":"x","event_type":"error.occurred","data":{"severity":"error","duration_us":1500},"correlation_id":"req-1"}"#,
        ),
        concat!(
            "Coordinator container.started id=5f source=docker time=2026-11-20T09:00:00Z | \"web.local\", -, -\n",
            "Coordinator error.occurred id=x correlation=req-1 severity=error failed duration=0.0015 | ",
            "-, \"error\", \"error\"\n"
        ),
    );
}

#[test]
fn hand_written_events() {
    check(
        &["data.amount"],
        r#"{"type":"order.placed","data":{"amount":1},"time":1795165200250}{"type":"a.timeout","amount":2}"#,
        "Foreign order.placed time=2026-11-20T09:00:00.25Z | 1\nForeign a.timeout failed | 2\n",
    );
}

#[test]
fn cloudevents_structured_and_batch() {
    let event = concat!(
        r#"{"specversion":"1.0","id":"fa","source":"/shop","type":"com.shop.order.failed","subject":"order/1","#,
        r#""time":"2026-11-20T09:00:00Z","traceparent":"00-87961afb85f873ba5c81c108473c3adc-46202aedf0e171f2-01","#,
        r#""sampledrate":10,"data":{"total":119.55,"duration_ms":7}}"#
    );
    let shown = concat!(
        "CloudEvents com.shop.order.failed id=fa source=/shop subject=order/1 ",
        "correlation=87961afb85f873ba5c81c108473c3adc trace=87961afb85f873ba5c81c108473c3adc span=46202aedf0e171f2 ",
        "time=2026-11-20T09:00:00Z failed duration=0.007 weight=10 | 119.55\n"
    );
    let config = FormatConfig::default();
    check_with(&config, Framing::Auto, &["data.total"], event.as_bytes(), shown);
    check_with(&config, Framing::CloudEvents, &["data.total"], event.as_bytes(), shown);
    check_with(
        &config,
        Framing::CloudEventsBatch,
        &["data.total"],
        format!(r#"[{event},{{"specversion":"1.0","id":"x","type":"t"}},{{"type":"a"}},{event}]"#).as_bytes(),
        &format!(
            "{shown}{shown}{}{}",
            "1: invalid_cloudevent: a CloudEvent needs the attribute \"source\", a text that is not empty\n",
            "2: invalid_cloudevent: a CloudEvent needs the attribute \"id\", a text that is not empty\n"
        ),
    );
    check_with(
        &config,
        Framing::CloudEventsBatch,
        &[],
        b"{}",
        "0: invalid_cloudevent: a batch of CloudEvents is a JSON array\n",
    );
    check(
        &[],
        r#"{"specversion":"0.3","id":"x","source":"s","type":"t"}"#,
        "0: invalid_cloudevent: CloudEvents \"0.3\" is not supported: specversion must be \"1.0\"\n",
    );
}

#[test]
fn cloudevents_with_base64_data() {
    let event = |kind: &str, data: &str| {
        format!(r#"{{"specversion":"1.0","id":"1","source":"s","type":"t",{kind}"data_base64":"{data}"}}"#)
    };
    // {"a":{"b":"x\ty"},"duration_s":2}
    let json = "eyJhIjp7ImIiOiJ4XHR5In0sImR1cmF0aW9uX3MiOjJ9";
    let head = "CloudEvents t id=1 source=s";
    check(
        &["data.a.b", "data"],
        &event("", json),
        &format!("{head} duration=2 | \"x\\ty\", json {{\"a\":{{\"b\":\"x\\ty\"}},\"duration_s\":2}}\n"),
    );
    check(&["data"], &event(r#""datacontenttype":"text/plain","#, "aGk="), &format!("{head} | \"hi\"\n"));
    check(&["data"], &event("", "/w=="), &format!("{head} | -\n"));
    check(&["data"], &event("", "!"), "0: invalid_cloudevent: data_base64 is not base64\n");
}

#[test]
fn cloudevents_binary() {
    let binary = |content_type: Option<&str>| Framing::CloudEventsBinary {
        attributes: [("ce-specversion", "1.0"), ("ce-id", "1"), ("Ce-Source", "/a%20b"), ("ce-type", "t\"x")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
        content_type: content_type.map(str::to_owned),
    };
    let config = FormatConfig::default();
    let head = "CloudEvents t\"x id=1 source=/a b";
    check_with(
        &config,
        binary(Some("application/json; charset=utf-8")),
        &["data.n"],
        br#"{"n":1}"#,
        &format!("{head} | 1\n"),
    );
    check_with(&config, binary(None), &["data.n"], br#" {"n":1} "#, &format!("{head} | 1\n"));
    check_with(&config, binary(Some("text/plain")), &["data"], b"a\nb", &format!("{head} | \"a\\nb\"\n"));
    check_with(&config, binary(Some("image/png")), &["data"], b"\xff", &format!("{head} | -\n"));
    check_with(&config, binary(None), &["data"], b"", &format!("{head} | -\n"));
    // A body must not add attributes.
    let decoder = decoder(&config);
    let body = br#"1,"id":"other""#.to_vec();
    let batch = decoder.decode(body, binary(Some("application/json")), &plan(&[]), &Arc::from("s"), Timestamp::EPOCH);
    assert_eq!(show(&batch), "0: invalid_json: the data is not JSON: at byte 1, something follows the value\n");
}

#[test]
fn a_foreign_shape() {
    let path = |text: &str| Spanned::bare(FieldPath::parse(text).unwrap());
    let config = FormatConfig {
        shape: [
            ("type", "meta.kind"),
            ("time", "meta.at"),
            ("data", "body"),
            ("subject", "meta.who[0]"),
            ("duration_us", "took"),
            ("outcome", "meta.end"),
            ("attempt", "try"),
        ]
        .map(|(name, text)| (Spanned::bare(name.to_owned()), path(text)))
        .into(),
        ..FormatConfig::default()
    };
    check_with(
        &config,
        Framing::Ndjson,
        &["data.n", "meta.kind"],
        br#"{"meta":{"kind":"k","at":"1795165200","who":["w"],"end":"FAILED"},"body":{"n":1},"took":1500,"try":3,"id":7}
            {"meta":{}}"#,
        concat!(
            "Foreign k id=7 subject=w outcome=FAILED time=2026-11-20T09:00:00Z failed duration=0.0015 attempt=3 | 1, \"k\"\n",
            "1: no_type: no type: an event needs `type`, `event_type` or `event.event_type` ",
            "(or name the path in the source's `shape:`)\n"
        ),
    );
    let mut found = Diagnostics::new();
    let config = FormatConfig { shape: vec![(Spanned::bare("subjct".into()), path("a"))], ..config };
    assert!(Decoder::compile(&config, DecodeLimits::default(), &mut found).is_none());
    assert!(found.to_string().contains("did you mean \"subject\"?"), "{found}");
}

#[test]
fn text_lines() {
    let config = FormatConfig {
        lines: Some(Spanned::bare(
            r"^(?P<time>\S+) (?P<severity>[A-Z]+) (?:(?P<type>[a-z.]+) )?took (?P<duration_ms>\d+)ms (?P<status>\w+)"
                .into(),
        )),
        event_type: Some(Spanned::bare("log.line".into())),
        ..FormatConfig::default()
    };
    check_with(
        &config,
        Framing::Lines,
        &["data.status", "status", "severity", "type", "data.nope"],
        b"2026-11-20T09:00:00Z WARN db.query took 15ms error\r\n\n  \nnonsense\nlater INFO took 2ms ok\nx\xffy\n",
        concat!(
            "Line db.query outcome=error severity=WARN time=2026-11-20T09:00:00Z failed duration=0.015 | ",
            "\"error\", \"error\", \"WARN\", \"db.query\", -\n",
            "Line log.line outcome=ok severity=INFO time_invalid duration=0.002 | \"ok\", \"ok\", \"INFO\", \"log.line\", -\n",
            "1: no_match: the line does not match the regex of `lines`\n",
            "3: invalid_utf8: the event is not valid UTF-8\n",
        ),
    );
    for (lines, event_type, expected) in
        [("(", None, "does not compile"), ("a(b)", None, "no named group"), ("(?P<a>b)", None, "no group named `type`")]
    {
        let mut found = Diagnostics::new();
        let config = FormatConfig { lines: Some(Spanned::bare(lines.into())), event_type, ..FormatConfig::default() };
        assert!(Decoder::compile(&config, DecodeLimits::default(), &mut found).is_none());
        assert!(found.to_string().contains(expected), "{found}");
    }
}

#[test]
fn escapes_unicode_big_numbers_nulls_and_duplicates() {
    check(
        &["data.t", "data.n", "data.b", "data.z", "data.o", "data.\"k\u{e9}y\""],
        r#"{"type":"\u0061.b","data":{"t":"\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00\ud83d x","n":12345678901234567890,"b":true,"z":null,"o":{"x":[1]},"k\u00e9y":1e400}}"#,
        "Foreign a.b | \"\\\"\\\\/\\u{8}\\u{c}\\n\\r\\té😀\u{fffd} x\", 12345678901234567000(12345678901234567890), true, null, json {\"x\":[1]}, inf(1e400)\n",
    );
    check(
        &["data.a", "data.b", "data.l[]", "data.l[0]"],
        r#"{"data":{"a":1,"l":[1,2]},"type":"x","type":"y","data":{"b":1,"b":2,"l":[3]}}"#,
        "Foreign y | -, 2, [3], 3\n",
    );
}

#[test]
fn arrays() {
    check(
        &[
            "data.items[0].sku",
            "data.items[].price",
            "data.items[].sku",
            "data.m[][]",
            "data.m[1][0]",
            "data.none[]",
            "data.e[]",
        ],
        r#"{"type":"t","data":{"items":[{"sku":"a","price":1},{"sku":"b"},3,{"price":null}],"m":[[1,2],[],[3]],"e":[]}}"#,
        "Foreign t | \"a\", [1, -, -, null], [\"a\", \"b\", -, -], [1, 2, 3], -, -, []\n",
    );
}

#[test]
fn broken_input_keeps_the_rest() {
    let good = "Foreign a\n";
    let case = |input: &[u8], framing: Framing, expected: &str| {
        check_with(&FormatConfig::default(), framing, &[], input, expected);
    };
    case(b"\xef\xbb\xbf{\"type\":\"a\"}\n\n", Framing::Auto, good);
    for (framing, half, run_on) in [
        // By looking, a value may go on in the next line; where lines are events, it ends with its line.
        (
            Framing::Auto,
            "1: invalid_json: invalid JSON at byte 11: a control character in a text must be escaped\n",
            "2: invalid_json: invalid JSON at byte 23: a comma or a closing brace was expected\n",
        ),
        (
            Framing::Ndjson,
            "1: truncated: invalid JSON at byte 11: the text ends inside a value\n",
            "2: truncated: invalid JSON at byte 9: the text ends inside a value\n",
        ),
    ] {
        case(
            b"{\"type\":\"a\"}\n{\"type\":\"b\n{\"type\":\n{\"type\":\"a\"}\n{\"x\":1}\n{\"type\":7}\n{\"type\":\"\xff\"}\n{\"type\":\"\0\"}\n{\"type\":\"a\"}",
            framing,
            &format!(
                "{good}{good}{good}{}{}{}{}{}{}",
                half,
                run_on,
                "4: no_type: no type: an event needs `type`, `event_type` or `event.event_type` (or name the path in the source's `shape:`)\n",
                "5: no_type: the event's type must be a text that is not empty\n",
                "6: invalid_utf8: the event is not valid UTF-8\n",
                "7: invalid_json: invalid JSON at byte 10: a NUL byte\n",
            ),
        );
    }
    case(
        b"[{\"type\":\"a\"},{\"type\":},{\"type\":\"a\"},3,{\"type\":\"a\"}",
        Framing::Auto,
        &format!(
            "{good}{good}{good}{}{}{}",
            "1: invalid_json: invalid JSON at byte 9: a value was expected\n",
            "3: not_an_object: an event is a JSON object\n",
            "5: truncated: the array is not closed\n",
        ),
    );
    case(
        b"[{\"type\":\"a\"},{\"type\":\"b",
        Framing::Auto,
        &format!("{good}1: truncated: invalid JSON at byte 11: the text ends inside a value\n"),
    );
    case(b"[]", Framing::Auto, "");
    case(b" \n\r\n ", Framing::Auto, "");
    case(b"", Framing::Ndjson, "");
    case(
        b"nonsense\n{\"type\":\"a\"}",
        Framing::Auto,
        &format!("{good}0: invalid_json: invalid JSON at byte 1: only true, false and null may stand without quotes\n"),
    );
    case(
        b"{\"type\":\"a\",\"d\":[[[[[[[[1]]]]]]]]}\n{\"type\":\"a\"}",
        Framing::Auto,
        &format!("{good}0: too_deep: more than 8 levels deep (limits.event_depth)\n"),
    );
    let large = format!("{{\"type\":\"{}\"}}\n{{\"type\":\"a\"}}", "x".repeat(10_000));
    case(
        large.as_bytes(),
        Framing::Auto,
        &format!("{good}0: too_large: the event has 10011 bytes, the limit is 10000 (limits.event_bytes)\n"),
    );
    case(
        b"{\"type\":\"a\"} x\n{\"type\":\"a\"}",
        Framing::Ndjson,
        &format!("{good}0: invalid_json: invalid JSON at byte 14: something follows the value\n"),
    );
    case(b"{\n \"type\": \"a\"\n}\n", Framing::Auto, good);
    case(
        b"{\n \"type\": oops\n}\n{\"type\":\"a\"}",
        Framing::Auto,
        &format!("{good}0: invalid_json: invalid JSON at byte 12: a value was expected\n"),
    );
    case(
        b"{\"type\":\"a\"}\n\xef\xbb\xbf{\"type\":\"a\"}",
        Framing::Ndjson,
        &format!("{good}1: invalid_json: a byte order mark may stand only at the very beginning of the input\n"),
    );
}
