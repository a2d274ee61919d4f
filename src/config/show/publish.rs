//! `publish:`, and `otlp:` of `export:`, as YAML.

use super::Yaml::{Map, Seq};
use super::scrape::http;
use super::{Fields, Yaml, duration, fields, kafka, nats, pattern, redis, secret, text};
use crate::config::schema::{OtlpConfig, PublishConfig, PublishTo, QueueConfig};

fn queue(queue: QueueConfig) -> Yaml {
    fields([("bytes", Yaml::Raw(queue.bytes.to_string())), ("age", Yaml::Raw(duration(queue.age_ms)))])
}

fn mode(binary: bool) -> &'static str {
    if binary { "binary" } else { "structured" }
}

pub(super) fn publisher(config: &PublishConfig) -> Yaml {
    let mut to = Fields::default();
    let kind = match &config.to {
        PublishTo::Http { url, binary, timeout_ms, http: options } => {
            secret(&mut to, "url", url);
            to.raw("mode", mode(*binary));
            to.raw("timeout", duration(*timeout_ms));
            http(options, &mut to);
            "http"
        }
        PublishTo::Nats(target) => {
            nats::servers(&target.servers, &mut to);
            to.text("subject", Some(&target.subject.value));
            to.raw("jetstream", target.jetstream);
            "nats"
        }
        PublishTo::Redis(target) => {
            redis::access(&target.access, &mut to);
            to.text(if target.stream { "stream" } else { "channel" }, Some(&target.name.value));
            if target.stream {
                to.raw("maxlen", target.maxlen);
            }
            "redis"
        }
        PublishTo::Kafka(target) => {
            kafka::servers(&target.servers, &mut to);
            to.text("topic", Some(&target.topic.value));
            to.raw("mode", mode(target.binary));
            "kafka"
        }
    };
    let mut map = Fields::default();
    map.add(kind, Map(to.0));
    map.add("events", Seq(config.events.iter().map(|kind| text(kind.name())).collect()));
    map.list("match", config.matches.iter().map(pattern).collect());
    map.add("queue", queue(config.queue));
    Map(map.0)
}

pub(super) fn otlp(config: &OtlpConfig) -> Yaml {
    let mut map = Fields::default();
    secret(&mut map, "url", &config.url);
    map.raw("metrics", config.metrics);
    map.raw("traces", config.traces);
    map.raw("sample", config.sample);
    map.raw("interval", duration(config.interval_ms));
    map.raw("timeout", duration(config.timeout_ms));
    map.raw("gzip", config.gzip);
    map.add("queue", queue(config.queue));
    http(&config.http, &mut map);
    Map(map.0)
}
