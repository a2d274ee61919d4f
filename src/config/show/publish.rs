//! `publish:`, and `otlp:` of `export:`, as YAML.

use super::Yaml::{Map, Seq};
use super::scrape::http;
use super::{Fields, Yaml, duration, fields, hidden, pattern, secret, text, texts, tls};
use crate::config::schema::{OtlpConfig, PublishConfig, PublishTo, QueueConfig, SecretSource};

fn queue(queue: QueueConfig) -> Yaml {
    fields([("bytes", Yaml::Raw(queue.bytes.to_string())), ("age", Yaml::Raw(duration(queue.age_ms)))])
}

fn user(map: &mut Fields, user: Option<&(String, SecretSource)>) {
    if let Some((username, password)) = user {
        map.text("username", Some(username));
        secret(map, "password", password);
    }
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
        PublishTo::Nats(nats) => {
            to.add("url", hidden::urls(&nats.url.value));
            to.text("subject", Some(&nats.subject.value));
            to.raw("jetstream", nats.jetstream);
            user(&mut to, nats.user.as_ref());
            if let Some(token) = &nats.token {
                secret(&mut to, "token", token);
            }
            to.text("credentials_file", nats.credentials_file.as_ref().map(|file| &file.value));
            if let Some(config) = &nats.tls {
                to.add("tls", tls::tls(config));
            }
            "nats"
        }
        PublishTo::Redis(redis) => {
            to.add("url", hidden::url(&redis.url.value));
            to.text(if redis.stream { "stream" } else { "channel" }, Some(&redis.name.value));
            to.raw("maxlen", redis.maxlen);
            to.text("username", redis.username.as_ref());
            if let Some(password) = &redis.password {
                secret(&mut to, "password", password);
            }
            "redis"
        }
        PublishTo::Kafka(kafka) => {
            to.add("brokers", texts(&kafka.brokers));
            to.text("topic", Some(&kafka.topic.value));
            to.raw("mode", mode(kafka.binary));
            user(&mut to, kafka.user.as_ref());
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
