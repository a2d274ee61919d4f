//! `publish:`, and `otlp:` of `export:`.

use super::export::share;
use super::notify::url;
use super::scrape::request;
use super::sources;
use crate::config::Diagnostics;
use crate::config::reader::{self, MapReader};
use crate::config::schema::{
    KafkaTarget, Named, NatsTarget, OtlpConfig, PublishConfig, PublishTo, PublishedKind, QueueConfig, RedisTarget,
};
use crate::config::yaml::Node;
use crate::model::format_duration_ms;

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

/// `queue: {bytes, age}`.
pub(super) fn queue(map: &mut MapReader<'_, '_>, default: QueueConfig) -> QueueConfig {
    let Some(node) = map.get("queue") else { return default };
    let Some(mut inner) = MapReader::new(node, "export queue", map.found()) else { return default };
    let bytes = inner.bytes("bytes");
    if let Some(none) = bytes.as_ref().filter(|bytes| bytes.value == 0) {
        inner.found().error(&none.span, "bytes: without room nothing could wait");
    }
    let age_ms = time(&mut inner, "age", default.age_ms, 1_000);
    inner.finish();
    QueueConfig { bytes: bytes.map_or(default.bytes, |bytes| bytes.value), age_ms }
}

fn time(map: &mut MapReader<'_, '_>, key: &'static str, default_ms: i64, least_ms: i64) -> i64 {
    let Some(time) = map.duration_ms(key) else { return default_ms };
    if time.value < least_ms {
        map.found().error(&time.span, format!("{key}: it must be at least {}", format_duration_ms(least_ms)));
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

fn nats(node: &Node, found: &mut Diagnostics) -> Option<NatsTarget> {
    let mut map = MapReader::new(node, "nats publisher", found)?;
    let (servers, named) = sources::nats::servers(&mut map);
    if let Some(named) = named.first() {
        map.found().error_hint(
            &named.span,
            "url: the subject is a key of its own",
            format!("write subject: {}", named.value),
        );
    }
    let subject = map.required_string("subject");
    // A type has no part that would make a subject of another shape.
    let fits =
        |text: &str| sources::nats::is_subject(&text.replace("{type}", "t"), false) && !text.contains(['*', '>']);
    if let Some(subject) = subject.as_ref().filter(|it| !fits(&it.value)) {
        let message = format!("subject: {:?} is no subject that one can publish to", subject.value);
        map.found().error_hint(&subject.span, message, "write ops.{type}: {type} stands for the event's type");
    }
    let jetstream = map.boolean("jetstream").is_some_and(|wanted| wanted.value);
    map.finish();
    Some(NatsTarget { servers: servers?, subject: subject?, jetstream })
}

fn redis(node: &Node, found: &mut Diagnostics) -> Option<RedisTarget> {
    let mut map = MapReader::new(node, "redis publisher", found)?;
    let access = sources::redis::access(&mut map);
    let name = map.exactly_one(&["stream", "channel"]);
    let named = name.and_then(|(key, node)| Some((key == "stream", reader::string(node, key, map.found())?)));
    if let Some((_, name)) = named.as_ref().filter(|(_, name)| name.value.is_empty()) {
        map.found().error(&name.span, "a name is missing");
    }
    let maxlen = map.integer("maxlen", 1..=1_000_000_000);
    if let (Some(maxlen), Some((false, _))) = (&maxlen, &named) {
        map.found().error(&maxlen.span, "maxlen belongs to a stream; a channel keeps nothing");
    }
    map.finish();
    let (stream, name) = named?;
    Some(RedisTarget { access: access?, stream, name, maxlen: maxlen.map_or(10_000, |it| it.value as usize) })
}

fn kafka(node: &Node, found: &mut Diagnostics) -> Option<KafkaTarget> {
    let mut map = MapReader::new(node, "kafka publisher", found)?;
    let servers = sources::kafka::servers(&mut map);
    let topic = map.required_string("topic");
    if let Some(topic) = &topic
        && let Some(why) = match topic.value.starts_with('^') {
            true => Some("one cannot publish to a regular expression".into()),
            false => sources::kafka::bad_topic(&topic.value),
        }
    {
        map.found().error(&topic.span, format!("topic: {:?} is no name of a topic: {why}", topic.value));
    }
    let mode = map.one_of("mode", &MODES);
    map.finish();
    if !sources::kafka::built(&node.span, found) {
        return None;
    }
    Some(KafkaTarget { servers: servers?, topic: topic?, binary: mode.is_some_and(|mode| mode.value) })
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
    let sample = map.get("sample").and_then(|node| share(node, map.found())).unwrap_or(1.0);
    let interval_ms = time(&mut map, "interval", 15_000, 100);
    let timeout_ms = time(&mut map, "timeout", 10_000, 10);
    let gzip = map.boolean("gzip").is_none_or(|it| it.value);
    let queue = queue(&mut map, SAMPLES_QUEUE);
    let http = request(&mut map);
    map.finish();
    Some(OtlpConfig { url: url?, metrics, traces, sample, interval_ms, timeout_ms, gzip, queue, http })
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
            b: {nats: {url: 'nats://h', subject: 'ops.{type}', jetstream: true, user: u, password_file: p, tls: {}}, queue: {bytes: 1MiB, age: 1h}}\n  \
            c: {redis: {url: 'redis://h', stream: s, maxlen: 5, username: u, password_file: p, tls: {ca_file: ca.pem}}}\n  d: {redis: {url: 'redis://h', channel: s}, events: [health, lifecycle]}\n  \
            e: {kafka: {brokers: 'h:1,i:2', topic: t, user: u, password_file: p}}\n  \
            f: {nats: {urls: ['tls://a', 'nats://b:5'], subject: s, creds_file: c, inbox_prefix: _IN}}\n\
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
            (
                "publish: {a: {nats: {url: 'nats://h', subject: 'x.>'}}}",
                "\"x.>\" is no subject that one can publish to",
            ),
            (
                "publish: {a: {nats: {url: 'nats://h', subject: 'a b'}}}",
                "\"a b\" is no subject that one can publish to",
            ),
            ("publish: {a: {nats: {url: 'nats://h/x', subject: y}}}", "url: the subject is a key of its own"),
            ("publish: {a: {nats: {url: 'http://h', subject: y}}}", "\"http\" is no scheme of a NATS server"),
            ("publish: {a: {nats: {subject: y}}}", "nats publisher: one of \"url\" and \"urls\" is needed"),
            ("publish: {a: {nats: {url: h, subject: y, password: p}}}", "password: user is missing"),
            ("publish: {a: {nats: {url: h, subject: y, user: u}}}", "user: password or password_file is missing"),
            (
                "publish: {a: {nats: {url: h, subject: y, token: t, creds_file: c}}}",
                "at most one of user, token, nkey_file and creds_file",
            ),
            ("publish: {a: {nats: {url: h, subject: y, username: u}}}", "nats publisher: unknown key \"username\""),
            ("publish: {a: {redis: {url: 'h:1', stream: s}}}", "not the address of a Redis server"),
            (
                "publish: {a: {redis: {url: 'redis://h', stream: s, username: u}}}",
                "username: password or password_file is missing",
            ),
            (
                "publish: {a: {redis: {url: 'redis://u:p@h', stream: s, password: p}}}",
                "one stands in the address already",
            ),
            ("publish: {a: {redis: {url: 'redis://h', channel: s, maxlen: 5}}}", "maxlen belongs to a stream"),
            (
                "publish: {a: {redis: {url: 'redis://h', stream: s, tls: {cert_file: c}}}}",
                "cert_file and key_file belong together",
            ),
            ("publish: {a: {http: {url: 'http://h'}, queue: {age: 10ms}}}", "age: it must be at least 1s"),
            ("publish: {a: {http: {url: 'http://h'}, queue: {bytes: 0}}}", "bytes: without room nothing could wait"),
            ("export: {a: {remote_write: {url: 'http://h', queue: {age: 10ms}}}}", "age: it must be at least 1s"),
            ("publish: {a: {redis: {url: 'redis://h'}}}", "exactly one of stream or channel is needed"),
            ("export: {a: {otlp: {url: 'http://h', metrics: false}}}", "metrics or traces must be true"),
            ("export: {a: {otlp: {url: 'http://h', sample: 200%}}}", "expected a share from 0% to 100%"),
        ] {
            let (_, found) = load(text);
            assert!(found.contains("error") && found.contains(message), "{text}: {found}");
        }
    }

    #[cfg(feature = "kafka")]
    #[test]
    fn mistakes_of_kafka_are_told_as_for_its_source() {
        for (more, message) in [
            ("brokers: 'a:b'", "brokers: \"a:b\" is not HOST:PORT"),
            ("brokers: []", "kafka publisher: brokers is missing"),
            ("brokers: a, password: p", "kafka publisher: a password without user"),
            ("brokers: a, user: u", "kafka publisher: user needs password or password_file"),
            ("brokers: a, username: u", "kafka publisher: unknown key \"username\""),
        ] {
            let (_, found) = load(&format!("publish: {{a: {{kafka: {{topic: t, {more}}}}}}}"));
            assert!(found.contains(message), "{more}: {found}");
        }
        let (_, found) =
            load("publish: {a: {kafka: {topic: 'a b', brokers: h}}, b: {kafka: {topic: '^a', brokers: h}}}");
        assert!(
            found.contains("' ' cannot stand in it") && found.contains("publish to a regular expression"),
            "{found}"
        );
    }
}
