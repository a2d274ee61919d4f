//! `publish:`, and `otlp:` of `export:`.

use super::notify::url;
use super::scrape::request;
use crate::config::Diagnostics;
use crate::config::reader::{self, MapReader};
use crate::config::schema::{
    KafkaTarget, Named, NatsTarget, OtlpConfig, PublishConfig, PublishTo, PublishedKind, QueueConfig, RedisTarget,
};
use crate::config::yaml::Node;

const TARGETS: [&str; 4] = ["http", "nats", "redis", "kafka"];
const MODES: [(&str, bool); 2] = [("structured", false), ("binary", true)];

/// What waits of CloudEvents.
const PUBLISH_QUEUE: QueueConfig = QueueConfig { bytes: 16 << 20, age_ms: 86_400_000 };
/// What waits of samples: some hours of some thousand series.
const SAMPLES_QUEUE: QueueConfig = QueueConfig { bytes: 256 << 20, age_ms: 7_200_000 };

/// Reads `publish:`.
pub(super) fn publish(map: &mut MapReader<'_, '_>) -> Vec<Named<PublishConfig>> {
    map.named("publish", |_, node, found| publisher(node, found))
        .into_iter()
        .map(|(name, value)| Named { name, value })
        .collect()
}

fn publisher(node: &Node, found: &mut Diagnostics) -> Option<PublishConfig> {
    let mut map = MapReader::new(node, "publisher", found)?;
    let target = map.exactly_one(&TARGETS);
    let mut events: Vec<PublishedKind> = map
        .each_or_one("events", |node, found| Some(reader::one_of(node, "events", &PublishedKind::ALL, found)?.value));
    if events.is_empty() {
        events = PublishedKind::ALL.map(|(_, kind)| kind).to_vec();
    }
    let matches = map.each_or_one("match", super::events::pattern);
    let queue = queue(&mut map, PUBLISH_QUEUE);
    map.finish();
    let to = match target? {
        ("http", node) => http(node, found),
        ("nats", node) => nats(node, found).map(Box::new).map(PublishTo::Nats),
        ("redis", node) => redis(node, found).map(Box::new).map(PublishTo::Redis),
        (_, node) => kafka(node, found).map(Box::new).map(PublishTo::Kafka),
    }?;
    Some(PublishConfig { to, events, matches, queue, span: node.span.clone() })
}

fn queue(map: &mut MapReader<'_, '_>, default: QueueConfig) -> QueueConfig {
    let Some(node) = map.get("queue") else { return default };
    let Some(mut inner) = MapReader::new(node, "export queue", map.found()) else { return default };
    let bytes = inner.bytes("bytes").map_or(default.bytes, |bytes| bytes.value.max(1));
    let age_ms = inner.duration_ms("age").map_or(default.age_ms, |age| age.value.max(1));
    inner.finish();
    QueueConfig { bytes, age_ms }
}

fn time(map: &mut MapReader<'_, '_>, key: &'static str, default_ms: i64, least_ms: i64) -> i64 {
    let Some(time) = map.duration_ms(key) else { return default_ms };
    if time.value < least_ms {
        map.found().error(&time.span, format!("{key}: it must be at least {least_ms}ms"));
    }
    time.value
}

fn http(node: &Node, found: &mut Diagnostics) -> Option<PublishTo> {
    let mut map = MapReader::new(node, "http publisher", found)?;
    let url = url(&mut map);
    let mode = map.one_of("mode", &MODES);
    let timeout_ms = time(&mut map, "timeout", 10_000, 10);
    let http = request(&mut map);
    map.finish();
    Some(PublishTo::Http { url: url?, binary: mode.is_some_and(|mode| mode.value), timeout_ms, http: Box::new(http) })
}

/// `username:` with `password:`.
fn user(map: &mut MapReader<'_, '_>) -> Option<(String, crate::config::schema::SecretSource)> {
    let username = map.string("username");
    let password = map.secret("password", "password_file");
    match (username, password) {
        (Some(username), Some(password)) => Some((username.value, password)),
        (Some(username), None) => {
            map.found().error(&username.span, "username: password or password_file is missing");
            None
        }
        _ => None,
    }
}

fn nats(node: &Node, found: &mut Diagnostics) -> Option<NatsTarget> {
    let mut map = MapReader::new(node, "nats publisher", found)?;
    let url = map.required_string("url");
    let subject = map.required_string("subject");
    if let Some(subject) = subject.as_ref().filter(|it| it.value.contains(['*', '>', ' '])) {
        let message = format!("subject: {:?} holds a wildcard or a space; one cannot publish to it", subject.value);
        map.found().error_hint(&subject.span, message, "{type} stands for the event's type");
    }
    let jetstream = map.boolean("jetstream").is_some_and(|wanted| wanted.value);
    let user = user(&mut map);
    let token = map.secret("token", "token_file");
    let credentials_file = map.string("credentials_file");
    let tls = super::sources::tls::tls(&mut map);
    map.finish();
    Some(NatsTarget { url: url?, subject: subject?, jetstream, user, token, credentials_file, tls })
}

fn redis(node: &Node, found: &mut Diagnostics) -> Option<RedisTarget> {
    let mut map = MapReader::new(node, "redis publisher", found)?;
    let url = map.required_string("url");
    if let Some(url) =
        url.as_ref().filter(|url| !url.value.starts_with("redis://") && !url.value.starts_with("rediss://"))
    {
        map.found().error(&url.span, "url: it begins with redis:// or rediss://");
    }
    let name = map.exactly_one(&["stream", "channel"]);
    let named = name.and_then(|(key, node)| Some((key == "stream", reader::string(node, key, map.found())?)));
    let maxlen = map.integer("maxlen", 1..=1_000_000_000).map_or(10_000, |it| it.value as usize);
    let username = map.string("username").map(|name| name.value);
    let password = map.secret("password", "password_file");
    map.finish();
    let (stream, name) = named?;
    Some(RedisTarget { url: url?, stream, name, maxlen, username, password })
}

fn kafka(node: &Node, found: &mut Diagnostics) -> Option<KafkaTarget> {
    if cfg!(not(feature = "kafka")) {
        found.error(&node.span, "kafka is not in this build: it was built without the feature kafka");
        return None;
    }
    let mut map = MapReader::new(node, "kafka publisher", found)?;
    map.required("brokers");
    let brokers = map.strings("brokers");
    let topic = map.required_string("topic");
    let mode = map.one_of("mode", &MODES);
    let user = user(&mut map);
    map.finish();
    Some(KafkaTarget { brokers, topic: topic?, binary: mode.is_some_and(|mode| mode.value), user })
}

pub(super) fn otlp(node: &Node, found: &mut Diagnostics) -> Option<OtlpConfig> {
    let mut map = MapReader::new(node, "otlp export", found)?;
    let url = url(&mut map);
    let metrics = map.boolean("metrics").is_none_or(|it| it.value);
    let traces = map.boolean("traces").is_some_and(|it| it.value);
    if !metrics && !traces {
        let span = map.span().clone();
        map.found().error(&span, "otlp export: metrics or traces must be true");
    }
    let sample = share(&mut map);
    let interval_ms = time(&mut map, "interval", 15_000, 100);
    let timeout_ms = time(&mut map, "timeout", 10_000, 10);
    let gzip = map.boolean("gzip").is_none_or(|it| it.value);
    let queue = queue(&mut map, SAMPLES_QUEUE);
    let http = request(&mut map);
    map.finish();
    Some(OtlpConfig { url: url?, metrics, traces, sample, interval_ms, timeout_ms, gzip, queue, http })
}

/// `sample:`, `1%` or `0.01`.
fn share(map: &mut MapReader<'_, '_>) -> f64 {
    let Some(text) = map.string("sample") else { return 1.0 };
    let parsed = match text.value.strip_suffix('%') {
        Some(percent) => percent.trim().parse::<f64>().map(|value| value / 100.0),
        None => text.value.parse(),
    };
    match parsed {
        Ok(share) if (0.0..=1.0).contains(&share) => share,
        _ => {
            map.found().error(&text.span, format!("sample: {:?} is no share such as 1% or 0.01", text.value));
            1.0
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{Overrides, load_text, show};

    fn load(text: &str) -> (Option<crate::config::Config>, String) {
        let (config, found) = load_text("t.yaml", text, &Default::default(), &Overrides::default());
        (config, found.to_string())
    }

    #[test]
    fn what_is_shown_reads_back() {
        let text = "publish:\n  a: {http: {url: 'http://h/x', mode: binary, headers: {x-a: b}}, events: alerts, match: 'sidewatch.alert.*'}\n  \
            b: {nats: {url: 'nats://h', subject: 'ops.{type}', jetstream: true, username: u, password_file: p, tls: {}}, queue: {bytes: 1MiB, age: 1h}}\n  \
            c: {redis: {url: 'redis://h', stream: s, maxlen: 5, password_file: p}}\n  d: {redis: {url: 'redis://h', channel: s}, events: [health, lifecycle]}\n  \
            e: {kafka: {brokers: 'h:1', topic: t}}\n\
            export:\n  o: {otlp: {url_file: u, traces: true, sample: 10%, gzip: false}}\n";
        let (config, found) = load(text);
        assert_eq!(found, "");
        let shown = show(&config.unwrap());
        let (again, found) = load(&shown.replace("\"<secret>\"", "http://h/x"));
        assert_eq!(found, "", "{shown}");
        assert_eq!(show(&again.unwrap()), shown);
        for part in ["mode: binary", "stream: s", "channel: s", "age: 1h", "sample: 0.1"] {
            assert!(shown.contains(part), "{part} is missing in {shown}");
        }
    }

    #[test]
    fn mistakes_are_told_with_their_place() {
        for (text, message) in [
            ("publish: {a: {htp: {}}}", "exactly one of http, nats, redis or kafka is needed"),
            ("publish: {a: {http: {url: 'http://h'}, events: [alarms]}}", "did you mean \"alerts\"?"),
            ("publish: {a: {nats: {url: 'nats://h', subject: 'x.>'}}}", "one cannot publish to it"),
            ("publish: {a: {redis: {url: 'redis://h'}}}", "exactly one of stream or channel is needed"),
            ("export: {a: {otlp: {url: 'http://h', metrics: false}}}", "metrics or traces must be true"),
            ("export: {a: {otlp: {url: 'http://h', sample: 200%}}}", "is no share such as 1% or 0.01"),
        ] {
            let (_, found) = load(text);
            assert!(found.contains("error") && found.contains(message), "{text}: {found}");
        }
    }
}
