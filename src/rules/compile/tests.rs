//! A whole configuration becomes a rule set.

use super::*;
use crate::config::{LoadOptions, Overrides, load};
use std::path::Path;

fn check(yaml: &str, files: &[(&str, &str)]) -> (RuleSet, String) {
    let text = yaml.to_owned();
    let read_file = |_: &Path| Ok(text.clone());
    let env = BTreeMap::new();
    let options = LoadOptions {
        file: Some("sidewatch.yaml".into()),
        env: &env,
        overrides: Overrides::default(),
        read_file: &read_file,
    };
    let (config, mut found) = load(&options);
    let config = config.unwrap();
    let files: Vec<RuleFile> =
        files.iter().map(|(name, text)| RuleFile { name: (*name).into(), text: (*text).into() }).collect();
    let metric_type = |name: &str| match name {
        "events_total" | "events_failed_total" => Some(MetricType::Counter),
        "order_duration_seconds" => Some(MetricType::Histogram),
        "stock_quantity" => Some(MetricType::Gauge),
        _ => None,
    };
    let input = RuleInput { config: &config, files: &files, metric_type: &metric_type };
    let set = RuleSet::compile(&input, &mut FieldPlanBuilder::default(), &mut found);
    (set, found.to_string())
}

const DESIGN: &str = r#"
external_labels: {dc: eu}
evaluation_interval: 500ms
alerts:
  TooManyFailures: {metric: events_failed_total, of: events_total, over: 5m, above: 5%, for: 1m, notify: oncall}
  SlowCheckout:    {metric: order_duration_seconds, stat: p99, over: 5m, by: region, above: 500ms}
  LowStock:        {metric: stock_quantity, by: item, below: 10, severity: warning}
  PaymentStuck:    {event: {sequence: [order.placed, payment.captured], by: correlation, within: 30s, missing: last}, notify: oncall}
  BurstOfRefusals: {event: {match: payment.failed, where: {data.amount: {gt: 100}}, count: ">= 5", within: 1m, by: data.region}}
  WorkerSilent:    {event: {absent: worker.heartbeat, by: source, within: 45s}}
notify:
  slack:  {slack: {url: "http://127.0.0.1:1/"}}
  oncall: {webhook: {url: "http://127.0.0.1:9000/"}}
"#;

#[test]
fn the_alerts_of_the_design_compile() {
    let (set, found) = check(
        DESIGN,
        &[("team.yaml", "groups: [{name: a, rules: [{record: r, expr: x}]}]\nalerts: {Up: {expr: up == 0}}\n")],
    );
    assert_eq!(found, "");
    let groups: Vec<(&str, &str, usize)> =
        set.groups.iter().map(|group| (&*group.file, &*group.name, group.rules.len())).collect();
    assert_eq!(
        groups,
        [
            ("sidewatch.yaml", "alerts", 3),
            ("team.yaml", "a", 1),
            ("team.yaml", "alerts", 1),
            ("rules/event-stream.yaml", "event-stream", 8),
            ("rules/sidewatch.yaml", "sidewatch", 8),
        ]
    );
    assert_eq!(set.groups[0].interval_ms, 500);
    let events: Vec<&str> = set.events.iter().map(|rule| rule.text.as_str()).collect();
    assert_eq!(
        events,
        [
            "sequence(order.placed -> payment.captured) missing last within 30s by (correlation)",
            "count(payment.failed) >= 5 within 1m by (region)",
            "absent(worker.heartbeat) within 45s by (source)",
        ]
    );
    let routed: Vec<&str> =
        set.routes.iter().filter(|route| !route.receivers.is_empty()).map(|route| route.alertname.as_str()).collect();
    assert_eq!(routed, ["TooManyFailures", "PaymentStuck"]);
    // Every default text is a template that renders.
    let data = super::super::rule::alert_data(
        &set.settings,
        &Labels::from_pairs([("region", "eu")]),
        0.5,
        crate::template::Value::Nil,
    );
    let functions =
        crate::template::Functions::new(crate::template::Dialect::Prometheus, crate::model::Timestamp::EPOCH, "");
    let metric = set
        .groups
        .iter()
        .flat_map(|group| &group.rules)
        .filter_map(|rule| rule.alerting.as_ref())
        .flat_map(|rule| &rule.annotations);
    let texts: Vec<String> = metric
        .chain(set.events.iter().flat_map(|rule| &rule.annotations))
        .map(|(_, text)| text.expand("A", &data, &functions))
        .collect();
    assert!(texts.iter().all(|text| !text.contains("{{") && !text.contains("<error")), "{texts:#?}");
    assert!(texts.contains(&"Up: 500m region=eu".to_owned()), "{texts:#?}");
    assert_eq!(set.settings.external_labels.to_string(), r#"{dc="eu"}"#);
}

#[test]
fn mistakes_of_all_files_come_together() {
    let twice = ("a.yaml", "groups: [{name: a, rules: []}]");
    let (set, found) = check(
        "bundled_rules: false\nalerts:\n  A: {expr: 'up =='}\n  B: {metric: nobody_total, above: 5}\n",
        &[twice, twice, ("b.yaml", "groups: [{name: x, rules: [{alert: A, expr: '1 +'}]}]")],
    );
    assert!(found.contains("sidewatch.yaml:3:") && found.contains("b.yaml:1:"), "{found}");
    assert!(found.contains("loaded twice"), "{found}");
    assert!(found.contains("warning: no mapping or automatic metric is called \"nobody_total\""), "{found}");
    assert!(set.groups.iter().all(|group| !group.file.starts_with("rules/")));
}
