//! Reader, schema and example know the same keys.

use super::*;
use crate::config::reader::record;
use crate::config::{Overrides, load_text};
use std::collections::BTreeSet;

#[test]
fn schema_and_reader_know_the_same_keys() {
    let silence = "watchdog: {url: 'http://x/'}\nnotify: {flapping: {changes: 4}, silences: [{matchers: a=b, starts: 2026-01-01, ends: 2026-01-02, time_interval: {weekdays: monday, times: [{start_time: '01:00', end_time: '02:00'}]}, comment: c}]}\n";
    let pushed = "sources: {s: {statsd: {udp: '127.0.0.1:8125'}}, o: {otlp: {}}}\n";
    let extra = "notify: {exec_allowed: /bin/true, x: {exec: {command: /bin/true}}, p: {pagerduty: {routing_key: k}}, a: {alertmanager: {url: 'http://am:9093'}}}\nsources: {a: {unix: {path: x}}, b: {stdin: {}}, c: {rate_limit: {events: 5/s}, scrape: {url: 'http://h/m', basic_auth: {username: u, password: p}, tls_config: {}, metric_relabel_configs: [{action: labeldrop, regex: x}]}}, d: {scrape: {targets: h:1, authorization: {credentials: c}}}}\nmetrics: {g: {gauge: {match: {regex: a}, value: 1}}, d: {drop: {where: {data.x: {gt: 1}}}}}\nalerts: {A: {event: {sequence: [{match: a}, b], within: 1s}}, B: {event: {rate_change: a, within: 1m}}, C: {event: {first_seen: data.a}}, D: {event: {gap: data.a}}, E: {slo: {good: {series: a_total}, total: b_total, target: 99%}}}\nschemas: {s: {schema: true}}\nredact: {fields: [{path: data.a, hash: true}], hash_key: '12345678'}\n";
    let export = "export: {a: {remote_write: {url: 'http://h/api/v1/write', queue: {age: 1h}}}, b: {log: {match: a, rotate: {keep: 1}}}, o: {otlp: {url: 'http://h'}}}\n";
    let own = [
        amqp::SAMPLE,
        mqtt::SAMPLE,
        "sources: {e: {websocket: {url: 'wss://h', tls: {}}}, f: {docker: {labels: {a: b}}}, g: {hosts: {}}}\n",
        "sources: {k: {kafka: {brokers: h, topics: t}}, s: {sse: {url: 'https://h/', tls: {}}}}\n",
        "sources: {e: {redis: {sentinel: {master: m, urls: 'redis://h'}, streams: s, tls: {}}}}\n",
        "sources: {n: {nats: {url: h, subjects: a, tls: {}}}}\n",
        "publish: {a: {http: {url: 'http://h'}, queue: {bytes: 1}}, b: {nats: {url: 'nats://h', subject: s, tls: {}}}, c: {redis: {url: 'redis://h', stream: s}}, d: {kafka: {brokers: h, topic: t}}}\n",
    ];
    let texts =
        [include_str!("../../../deploy/sidewatch.yaml"), extra, silence, pushed, export, amqp::SAMPLE, mqtt::SAMPLE];
    for text in texts.into_iter().chain(own) {
        let (config, found) = load_text("t.yaml", text, &Default::default(), &Overrides::default());
        assert!(config.is_some() && !found.has_errors(), "{found}");
    }
    let schema: Value = serde_json::from_str(&json_schema()).unwrap();
    let keys =
        |schema: &Value| -> BTreeSet<String> { schema["properties"].as_object().unwrap().keys().cloned().collect() };
    let mut unseen: BTreeSet<&String> = schema["$defs"].as_object().unwrap().keys().collect();
    for (what, asked) in record::take() {
        let asked: BTreeSet<String> = asked.into_iter().map(str::to_owned).collect();
        let name = what.replace(' ', "_");
        let described = if what == "configuration" { &schema } else { &schema["$defs"][&name] };
        assert!(described.is_object(), "no definition of {what:?}");
        assert_eq!(keys(described), asked, "{what}");
        unseen.retain(|known| **known != name);
    }
    assert!(unseen.is_empty(), "definitions that no reader has: {unseen:?}");
}

#[test]
fn the_example_says_every_key() {
    let example = include_str!("../../../deploy/sidewatch.yaml");
    let (config, found) = load_text("t.yaml", example, &Default::default(), &Overrides::default());
    assert!(config.is_some() && !found.has_errors(), "{found}");
    let given = record::given();
    let comments: BTreeSet<&str> = example
        .lines()
        .filter_map(|line| Some(line.split_once('#')?.1))
        .flat_map(|comment| comment.split(|c: char| !c.is_ascii_alphanumeric() && c != '_'))
        .collect();
    let schema: Value = serde_json::from_str(&json_schema()).unwrap();
    let mappings = schema["$defs"].as_object().unwrap().values().chain([&schema]);
    let mut missing = Vec::new();
    for mapping in mappings {
        let what = mapping["title"].as_str().unwrap();
        for key in mapping["properties"].as_object().unwrap().keys() {
            let stands = given.get(what).is_some_and(|keys| keys.contains(key));
            if !stands && !comments.contains(key.as_str()) {
                missing.push(format!("{what}: {key}"));
            }
        }
    }
    assert!(missing.is_empty(), "neither in the example nor in a comment of it: {missing:#?}");
}

#[test]
fn every_reference_leads_somewhere() {
    let text = json_schema();
    let schema: Value = serde_json::from_str(&text).unwrap();
    for piece in text.split("\"$ref\": \"#/$defs/").skip(1) {
        let name = piece.split('"').next().unwrap();
        assert!(schema["$defs"][name].is_object(), "{name}");
    }
}
