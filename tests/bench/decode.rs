//! From bytes to metrics, one core: events of 340 bytes, a thousand a batch, beside the bare typed parse of the same bytes.

use divan::{Bencher, counter::ItemsCount};
use serde::Deserialize;
use sidewatch::app::{Parts, build};
use sidewatch::config::{Overrides, load_text};
use sidewatch::engine::{Core, Input};
use sidewatch::model::Timestamp;
use sidewatch::source::decode::{DecodeLimits, Decoder, Framing};
use std::borrow::Cow;
use std::fmt::Write;

pub const EVENTS: usize = 1_000;

/// NDJSON of the router shape: 340 bytes an event, 12 types, 4 sources, 3 regions.
pub fn events() -> String {
    let mut out = String::new();
    for at in 0..EVENTS {
        let (kind, source) = (at % 12, ["gateway", "billing", "checkout", "stock"][at % 4]);
        let region = ["eu", "us", "ap"][at % 3];
        writeln!(
            out,
            r#"{{"id":"a6a3a450-6513-470e-a69e-{at:012}","type":"order.kind{kind}","payload":{{"order_id":{},"amount":{}.07,"duration_ms":{}.908,"status":"ok","region":"{region}"}},"source":"{source}","target":"stock-{}","topic":"order","timestamp":"2026-11-20T09:00:00.{:06}","correlation_id":"corr-{at:06}","priority":{},"ttl":null,"attempts":0,"max_attempts":3,"tags":["eu"]}}"#,
            1_000 + at,
            at % 300,
            1 + at % 90,
            at % 7,
            at * 10,
            at % 10
        )
        .unwrap();
    }
    out
}

/// A counter with two labels, a histogram, a gauge.
pub const METRICS: &str = "\
metrics:
  orders_total: {counter: {match: 'order.*', labels: {status: data.status, region: data.region}}}
  order_duration_seconds: {histogram: {match: 'order.*', value: data.duration_ms, unit: ms, labels: {region: data.region}}}
  last_amount: {gauge: {match: 'order.*', value: data.amount, labels: {item: subject}}}
";

pub fn parts(text: &str) -> Parts {
    let text = format!("bundled_rules: false\n{text}");
    let (config, mut found) = load_text("bench.yaml", &text, &Default::default(), &Overrides::default());
    let parts = config.as_ref().and_then(|config| build(config, &mut found));
    assert!(!found.has_errors(), "{found}");
    parts.unwrap()
}

fn decoder() -> Decoder {
    Decoder::compile(&Default::default(), DecodeLimits::default(), &mut Default::default()).unwrap()
}

#[derive(Deserialize)]
#[expect(dead_code, reason = "the peer parses everything and looks at nothing")]
struct Typed<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    payload: Payload<'a>,
    #[serde(borrow)]
    source: Cow<'a, str>,
    #[serde(borrow)]
    target: Option<Cow<'a, str>>,
    #[serde(borrow)]
    timestamp: Cow<'a, str>,
    #[serde(borrow)]
    correlation_id: Cow<'a, str>,
    priority: u8,
    attempts: u32,
}

#[derive(Deserialize)]
#[expect(dead_code, reason = "the peer parses everything and looks at nothing")]
struct Payload<'a> {
    order_id: u64,
    amount: f64,
    duration_ms: f64,
    #[serde(borrow)]
    status: Cow<'a, str>,
    #[serde(borrow)]
    region: Cow<'a, str>,
}

/// The peer: serde_json into a typed struct that borrows, nothing else.
#[divan::bench(name = "1 peer: bare typed parse (serde_json)")]
fn bare(bencher: Bencher<'_, '_>) {
    let text = events();
    bencher.counter(ItemsCount::new(EVENTS)).bench(|| {
        let parsed = text.lines().map(|line| serde_json::from_str::<Typed<'_>>(divan::black_box(line)).unwrap());
        parsed.map(|event| event.payload.amount).sum::<f64>()
    });
}

#[divan::bench(name = "2 decode alone, no field asked for")]
fn decode_alone(bencher: Bencher<'_, '_>) {
    let (decoder, plan, text) = (decoder(), parts("metrics: {}\n").plan, events().into_bytes());
    bencher.counter(ItemsCount::new(EVENTS)).with_inputs(|| text.clone()).bench_values(|text| {
        decoder.decode(text, Framing::Ndjson, &plan, &"bench".into(), Timestamp::from_millis(1_795_165_201_000))
    });
}

fn through(bencher: Bencher<'_, '_>, metrics: &str) {
    let parts = parts(metrics);
    let (decoder, text) = (decoder(), events().into_bytes());
    let mut core = Core::new(&parts, Timestamp::from_millis(1_795_165_201_000));
    let mut now_ms = 1_795_165_201_000;
    bencher.counter(ItemsCount::new(EVENTS)).with_inputs(|| text.clone()).bench_local_values(|text| {
        now_ms += 1;
        let now = Timestamp::from_millis(now_ms);
        let batch = decoder.decode(text, Framing::Ndjson, &parts.plan, &"bench".into(), now);
        core.engine.observe(now, [Input::Events(batch)]);
        core.engine.tick(now);
    });
}

#[divan::bench(name = "3 decode + automatic metrics + 3 mappings + record")]
fn decode_and_map(bencher: Bencher<'_, '_>) {
    through(bencher, METRICS);
}

#[divan::bench(name = "4 the same with mappings that do not match beside them", args = [10, 1_000])]
fn many_mappings(bencher: Bencher<'_, '_>, count: usize) {
    let mut metrics = METRICS.to_owned();
    for at in 3..count {
        writeln!(metrics, "  other_{at}_total: {{counter: {{match: 'other{at}.*', labels: {{region: data.region}}}}}}")
            .unwrap();
    }
    through(bencher, &metrics);
}

/// What the bare HTTP server does with a line.
pub fn typed_amount(line: &[u8]) -> f64 {
    serde_json::from_slice::<Typed<'_>>(line).unwrap().payload.amount
}
