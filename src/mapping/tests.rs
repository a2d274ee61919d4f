//! Mappings through their door: configuration and events in, metrics out.

use super::*;
use crate::config::schema::FormatConfig;
use crate::config::{Config, Diagnostics, Overrides, load_text};
use crate::model::FieldPlanBuilder;
use crate::series::StoreOptions;
use crate::source::decode::{DecodeLimits, Decoder, Framing};

struct World {
    mappings: Mappings,
    store: Store,
    decoder: Decoder,
    plan: Arc<crate::model::FieldPlan>,
    found: String,
}

fn read(yaml: &str) -> (Config, Diagnostics) {
    let (config, found) = load_text("sidewatch.yaml", yaml, &Default::default(), &Overrides::default());
    (config.unwrap_or_else(|| panic!("{found}")), found)
}

fn world(metrics: &str) -> World {
    let (config, mut found) = read(&format!("metrics:\n{metrics}"));
    let mut builder = FieldPlanBuilder::default();
    let mut mappings = Mappings::compile(&config.metrics, &mut builder, &mut found);
    let mut store = Store::new(StoreOptions::default());
    mappings.declare(&mut store, Timestamp::EPOCH);
    let decoder = Decoder::compile(&FormatConfig::default(), DecodeLimits::default(), &mut found).unwrap();
    World { mappings, store, decoder, plan: Arc::new(builder.build(1)), found: found.to_string() }
}

impl World {
    fn feed(&mut self, lines: &str) {
        let now = Timestamp::from_millis(1_000);
        let mut batch = self.decoder.decode(lines.into(), Framing::Ndjson, &self.plan, &"in".into(), now);
        self.mappings.drop_events(&mut batch, &mut self.store, now);
        self.mappings.apply(&batch, &mut self.store, now);
    }

    fn shown(&self, only: &str) -> String {
        let mut text = String::new();
        self.store.write_prometheus(&mut text);
        let lines = text.lines().filter(|line| line.starts_with(only) && !line.starts_with('#'));
        lines.collect::<Vec<_>>().join("\n")
    }
}

fn check(metrics: &str, events: &str, only: &str, expected: &str) {
    let mut world = world(metrics);
    world.feed(events);
    assert_eq!(world.shown(only), expected, "{}", world.found);
}

#[test]
fn counters_count_and_add() {
    check(
        "  x_total: {counter: {match: 'order.*', value: data.n, labels: {region: data.region, tier: {value: gold}}}}\n",
        "{\"type\":\"order.a\",\"payload\":{\"n\":2,\"region\":\"eu\"}}\n{\"type\":\"order.b\",\"payload\":{\"n\":\"3\",\"region\":\"eu\"}}\n{\"type\":\"other\",\"payload\":{\"n\":9}}\n{\"type\":\"order.c\",\"payload\":{\"n\":-1}}\n",
        "x_total",
        "x_total{region=\"eu\",tier=\"gold\"} 5\nx_total{tier=\"gold\"} 0",
    );
}

#[test]
fn where_has_every_operator() {
    for (condition, holds) in [
        ("data.n: {gt: 4}", true),
        ("data.n: {gte: 5}", true),
        ("data.n: {lt: 5}", false),
        ("data.n: {lte: 5}", true),
        ("data.n: 5", true),
        ("data.n: {ne: 5}", false),
        ("data.s: [a, b]", true),
        ("data.s: {in: [c]}", false),
        ("data.z: {exists: false}", true),
        ("data.s: {regex: '[ab]'}", true),
        ("data.s: {regex: 'x'}", false),
        ("any: [{data.n: 1}, {data.s: b}]", true),
        ("all: [{data.n: 5}, {data.s: a}]", false),
        ("not: {data.s: a}", true),
        ("data.n: 5, data.s: a", false),
    ] {
        let metrics = format!("  x_total: {{counter: {{match: t, where: {{{condition}}}}}}}\n");
        let expected = if holds { "x_total 1" } else { "" };
        check(&metrics, "{\"type\":\"t\",\"payload\":{\"n\":5,\"s\":\"b\"}}\n", "x_total", expected);
    }
}

#[test]
fn gauges_histograms_and_units() {
    check(
        "  g: {gauge: {match: t, value: data.q}}\n  h_seconds: {histogram: {match: t, value: data.ms, unit: ms, buckets: [0.01, 0.1]}}\n  in_flight: {gauge: {match: t, op: add, value: 2}}\n",
        "{\"type\":\"t\",\"payload\":{\"q\":7,\"ms\":40}}\n{\"type\":\"t\",\"payload\":{\"q\":3,\"ms\":5}}\n",
        "",
        "events_total{source=\"in\",type=\"t\"} 2\ng 3\nh_seconds_bucket{le=\"0.01\"} 1\nh_seconds_bucket{le=\"0.1\"} 2\nh_seconds_bucket{le=\"+Inf\"} 2\nh_seconds_sum 0.045\nh_seconds_count 2\nin_flight 4",
    );
}

#[test]
fn each_element_of_a_list_counts_with_its_own_labels() {
    check(
        "  sold_total: {counter: {match: t, value: 'data.items[].n', labels: {sku: 'data.items[].sku', shop: data.shop}}}\n",
        "{\"type\":\"t\",\"payload\":{\"shop\":\"s\",\"items\":[{\"sku\":\"a\",\"n\":1},{\"sku\":\"b\",\"n\":2},{\"sku\":\"a\",\"n\":3}]}}\n",
        "sold_total",
        "sold_total{shop=\"s\",sku=\"a\"} 4\nsold_total{shop=\"s\",sku=\"b\"} 2",
    );
}

#[test]
fn labels_are_replaced_mapped_and_defaulted() {
    check(
        "  x_total: {counter: {match: t, labels: {path: {from: data.path, replace: [{regex: '/\\d+', with: '/:id'}], map: {'/a/:id': article}, default: none}}}}\n",
        "{\"type\":\"t\",\"payload\":{\"path\":\"/a/12\"}}\n{\"type\":\"t\",\"payload\":{\"path\":\"/b/3\"}}\n{\"type\":\"t\",\"payload\":{}}\n",
        "x_total",
        "x_total{path=\"/b/:id\"} 1\nx_total{path=\"article\"} 1\nx_total{path=\"none\"} 1",
    );
}

#[test]
fn timers_measure_from_one_event_to_another_and_survive_a_restart() {
    let metrics = "  t_seconds: {timer: {from: a, to: b, by: correlation, buckets: [1]}}\n";
    let event = |name: &str, second: u32| {
        format!(
            "{{\"type\":\"{name}\",\"correlation_id\":\"k\",\"timestamp\":\"2026-01-01T00:00:0{second}Z\",\"payload\":{{}}}}\n"
        )
    };
    let mut before = world(metrics);
    before.feed(&event("a", 1));
    let mut after = world(metrics);
    after.mappings.restore(&before.mappings.snapshot()).unwrap();
    after.feed(&(event("b", 3) + &event("b", 4)));
    assert_eq!(
        after.shown("t_seconds_"),
        "t_seconds_bucket{le=\"1\"} 0\nt_seconds_bucket{le=\"+Inf\"} 1\nt_seconds_sum 2\nt_seconds_count 1"
    );
    assert!(after.shown("sidewatch_mapping").contains("reason=\"no_beginning\"} 1"));
}

#[test]
fn dropped_events_are_seen_by_nobody_and_counted() {
    let mut world = world(
        "  noise: {drop: {match: 'debug.*', where: {data.keep: {exists: false}}}}\n  n_total: {counter: {match: '*', value: data.n}}\n",
    );
    world.feed("{\"type\":\"debug.a\",\"payload\":{\"n\":1}}\n{\"type\":\"debug.b\",\"payload\":{\"n\":2,\"keep\":1}}\n{\"type\":\"c\",\"payload\":{\"n\":4}}\n");
    assert_eq!(world.shown("n_total"), "n_total 6");
    assert_eq!(
        world.shown("events_total"),
        "events_total{source=\"in\",type=\"c\"} 1\nevents_total{source=\"in\",type=\"debug.b\"} 1"
    );
    assert_eq!(world.shown("sidewatch_events_dropped_total"), "sidewatch_events_dropped_total{source=\"in\"} 1");
}

#[test]
fn what_every_event_counts() {
    let mut world = world("  {}\n");
    world.feed("{\"type\":\"a.failed\",\"attempts\":1,\"payload\":{\"duration_ms\":20}}\n{\"type\":\"a\",\"timestamp\":\"never\",\"payload\":{}}\nnonsense\n");
    assert_eq!(world.shown("events_failed_total"), "events_failed_total{source=\"in\",type=\"a.failed\"} 1");
    assert_eq!(world.shown("events_retried_total"), "events_retried_total{source=\"in\",type=\"a.failed\"} 1");
    assert_eq!(
        world.shown("event_duration_seconds_sum"),
        "event_duration_seconds_sum{source=\"in\",type=\"a.failed\"} 0.02"
    );
    assert!(
        world.shown("sidewatch_events_refused_total").contains("reason=\"time_invalid\",source=\"in\"} 1"),
        "{}",
        world.shown("sidewatch")
    );
    assert!(
        world.shown("sidewatch_events_refused_total").contains("reason=\"invalid_json\""),
        "{}",
        world.shown("sidewatch")
    );
}

#[test]
fn an_unknown_unit_names_the_nearest() {
    let found = world("  x_seconds: {histogram: {match: t, value: data.a, unit: mss}}\n").found;
    assert!(found.contains("unknown unit \"mss\"") && found.contains("\"ms\""), "{found}");
}
