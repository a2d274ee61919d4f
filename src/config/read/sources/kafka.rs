//! `kafka:` of a source.

use super::tls::tls;
use crate::config::reader::{self, MapReader};
use crate::config::schema::{KafkaConfig, KafkaMechanism, KafkaServers, Scope, Service, TlsConfig, Transport};
use crate::config::yaml::{Kind, Node};
use crate::config::{Diagnostics, Spanned};

/// Properties that cannot be passed through, and what stands in their way.
const REFUSED: [(&str, &str); 24] = [
    ("bootstrap.servers", "it is called brokers here"),
    ("metadata.broker.list", "it is called brokers here"),
    ("group.id", "it is called group here"),
    ("group.instance.id", "it is called member here"),
    ("auto.offset.reset", "it is called start here"),
    ("security.protocol", "user and tls decide it"),
    ("sasl.mechanism", "it is called mechanism here"),
    ("sasl.mechanisms", "it is called mechanism here"),
    ("sasl.username", "it is called user here"),
    ("sasl.password", "it is called password here"),
    ("ssl.ca.location", "it is called tls: {ca_file} here"),
    ("ssl.certificate.location", "it is called tls: {cert_file} here"),
    ("ssl.key.location", "it is called tls: {key_file} here"),
    ("enable.ssl.certificate.verification", "it is called tls: {insecure_skip_verify} here"),
    ("enable.auto.commit", "offsets are committed when a checkpoint holds what was counted"),
    ("auto.commit.enable", "offsets are committed when a checkpoint holds what was counted"),
    ("auto.commit.interval.ms", "offsets are committed when a checkpoint holds what was counted"),
    ("enable.auto.offset.store", "offsets are committed when a checkpoint holds what was counted"),
    ("enable.partition.eof", "sidewatch looks at the ends of partitions by itself"),
    ("statistics.interval.ms", "sidewatch looks at the state of the brokers by it"),
    ("group.protocol", "only the classic protocol keeps what a checkpoint promises"),
    ("group.remote.assignor", "only the classic protocol keeps what a checkpoint promises"),
    ("log.queue", "sidewatch logs by itself"),
    ("consume.callback.max.messages", "messages are polled"),
];

const SAMPLE: &str = "write kafka: {brokers: \"kafka:9092\", topics: [orders]}";

/// `kafka: URL` or `kafka: {...}`.
pub(super) fn read(node: &Node, found: &mut Diagnostics) -> Option<Transport> {
    if matches!(node.kind, Kind::Scalar { .. }) && !node.is_null() {
        return of_url(&reader::string(node, "kafka", found)?, found);
    }
    let mut map = MapReader::new(node, "kafka source", found)?;
    let span = map.span().clone();
    let servers = servers(&mut map);
    let topics: Vec<Spanned<String>> = map.strings("topics");
    let group = map.string("group");
    let start = map.one_of("start", &[("first", false), ("last", true)]);
    let scope = map.one_of("scope", &Scope::ALL).map(|scope| scope.value);
    let member = map.string("member");
    let properties = map.string_map("properties");
    let mut valid = true;
    let mut wrong = |span: &crate::config::Span, message: String, hint: &str, found: &mut Diagnostics| {
        valid = false;
        if hint.is_empty() { found.error(span, message) } else { found.error_hint(span, message, hint) }
    };
    if topics.is_empty() {
        wrong(&span, "kafka source: topics is missing".into(), SAMPLE, map.found());
    }
    for topic in &topics {
        if let Some(why) = bad_topic(&topic.value) {
            wrong(&topic.span, format!("topics: {:?} is no name of a topic: {why}", topic.value), "", map.found());
        }
    }
    if let (Some(member), Some(Scope::PerInstance)) = (&member, scope) {
        let message = "member: with scope: per_instance each sidecar is alone in its group".into();
        wrong(&member.span, message, "leave it out", map.found());
    }
    for (name, _) in &properties {
        let refused = REFUSED.iter().find(|(key, _)| *key == name.value);
        if let Some((key, why)) = refused {
            wrong(&name.span, format!("properties: {key} cannot be set: {why}"), "", map.found());
        } else if name.value.starts_with("test.mock.") {
            wrong(&name.span, format!("properties: {} is for tests of librdkafka", name.value), "", map.found());
        } else if name.value.starts_with("plugin.") {
            let message = format!("properties: {} cannot be set: no foreign code is loaded", name.value);
            wrong(&name.span, message, "", map.found());
        }
    }
    map.finish();
    if !built(&span, found) || !valid {
        return None;
    }
    Some(Transport::Kafka(Box::new(KafkaConfig {
        servers: servers?,
        topics,
        group,
        from_end: start.is_some_and(|start| start.value),
        scope,
        member,
        properties,
        identity: Default::default(),
    })))
}

/// The keys that say how the brokers are reached; `None` after an error.
pub(in crate::config::read) fn servers(map: &mut MapReader<'_, '_>) -> Option<KafkaServers> {
    let (what, span) = (map.what(), map.span().clone());
    let brokers: Vec<Spanned<String>> = map.strings("brokers").iter().flat_map(by_commas).collect();
    let user = map.string("user");
    let password = map.secret("password", "password_file");
    let mechanism = map.one_of("mechanism", &KafkaMechanism::ALL);
    let tls_key = map.get("tls").map(|node| node.span.clone());
    let tls = tls(map);
    let mut valid = true;
    let mut wrong = |span: &crate::config::Span, message: String, hint: &str, found: &mut Diagnostics| {
        valid = false;
        if hint.is_empty() { found.error(span, message) } else { found.error_hint(span, message, hint) }
    };
    if brokers.is_empty() {
        wrong(&span, format!("{what}: brokers is missing"), SAMPLE, map.found());
    }
    for broker in &brokers {
        if !is_broker(&broker.value) {
            let message = format!("brokers: {:?} is not HOST:PORT", broker.value);
            wrong(&broker.span, message, "several stand in a list, or behind each other with commas", map.found());
        }
    }
    if let (None, Some(span)) = (&user, password.as_ref().map(|password| password.span().clone())) {
        wrong(&span, format!("{what}: a password without user"), "", map.found());
    }
    if let (Some(user), None) = (&user, &password) {
        let message = format!("{what}: user needs password or password_file");
        wrong(&user.span, message, "", map.found());
    }
    if let (Some(mechanism), None) = (&mechanism, &user) {
        wrong(&mechanism.span, format!("{what}: a mechanism without user"), "", map.found());
    }
    let named = "this build of sidewatch speaks Kafka without TLS";
    let build = "build it with: cargo build --release --features kafka-tls";
    if let Some(scram) = mechanism.as_ref().filter(|it| it.value != KafkaMechanism::Plain)
        && !cfg!(feature = "kafka-tls")
    {
        let message = format!("mechanism: {named}, and {} needs its cryptography", scram.value.name());
        wrong(&scram.span, message, build, map.found());
    }
    if let Some(span) = tls_key.filter(|_| !cfg!(feature = "kafka-tls")) {
        wrong(&span, format!("tls: {named}"), build, map.found());
    }
    if let Some(name) = tls.as_ref().and_then(|tls: &TlsConfig| tls.server_name.as_ref()) {
        let message = "server_name: librdkafka takes each broker's own name".into();
        wrong(&name.span, message, "leave it out", map.found());
    }
    let mechanism = mechanism.map(|it| it.value).unwrap_or_default();
    valid.then_some(KafkaServers { brokers, user, password, mechanism, tls })
}

/// `kafka://HOST:PORT,HOST:PORT/TOPIC,TOPIC?group=NAME&start=last`.
pub(super) fn of_url(address: &Spanned<String>, found: &mut Diagnostics) -> Option<Transport> {
    const SHAPE: &str = "write kafka://HOST:PORT/TOPIC, several of each by commas, ?group=NAME&start=last behind it";
    let refuse = |found: &mut Diagnostics, message: String| {
        found.error_hint(&address.span, message, SHAPE);
        None
    };
    let shown = address.value.split_once('@').map_or(address.value.as_str(), |(_, host)| host);
    let rest = address.value.strip_prefix("kafka:").unwrap_or(&address.value);
    let Some(rest) = rest.strip_prefix("//") else {
        return refuse(found, format!("{shown:?} is no address of Kafka"));
    };
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (brokers, topics) = rest.split_once('/').unwrap_or((rest, ""));
    if brokers.contains('@') {
        return refuse(
            found,
            "credentials do not stand in the address: kafka: {user, password_file} takes them".into(),
        );
    }
    let spanned = |text: &str| Spanned::new(text.to_owned(), address.span.clone());
    let (brokers, topics) = (by_commas(&spanned(brokers)), by_commas(&spanned(topics)));
    if brokers.is_empty() || topics.is_empty() || !brokers.iter().all(|broker| is_broker(&broker.value)) {
        return refuse(found, format!("{shown:?} does not name brokers and topics"));
    }
    for topic in &topics {
        if let Some(why) = bad_topic(&topic.value) {
            return refuse(found, format!("{:?} is no name of a topic: {why}", topic.value));
        }
    }
    let (mut group, mut from_end, mut scope) = (None, false, None);
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=').unwrap_or((pair, "")) {
            ("group", name) if !name.is_empty() => group = Some(spanned(name)),
            ("start", "first") => from_end = false,
            ("start", "last") => from_end = true,
            ("scope", "shared") => scope = Some(Scope::Shared),
            ("scope", "per_instance") => scope = Some(Scope::PerInstance),
            _ => return refuse(found, format!("{pair:?} is not understood in an address of Kafka")),
        }
    }
    built(&address.span, found).then(|| {
        Transport::Kafka(Box::new(KafkaConfig {
            servers: KafkaServers { brokers, ..KafkaServers::default() },
            topics,
            group,
            from_end,
            scope,
            member: None,
            properties: Vec::new(),
            identity: Default::default(),
        }))
    })
}

/// Gives a source the names that its group is made from.
pub(in crate::config::read) fn identify(transport: &mut Transport, service: &Service) {
    if let Transport::Kafka(config) = transport {
        config.identity = (service.name.clone(), service.instance.clone());
    }
}

pub(in crate::config::read) fn built(span: &crate::config::Span, found: &mut Diagnostics) -> bool {
    if !cfg!(feature = "kafka") {
        let message = "this build of sidewatch has no Kafka";
        found.error_hint(span, message, "build it with: cargo build --release --features kafka");
    }
    cfg!(feature = "kafka")
}

fn by_commas(text: &Spanned<String>) -> Vec<Spanned<String>> {
    let parts = text.value.split(',').map(str::trim).filter(|part| !part.is_empty());
    parts.map(|part| Spanned::new(part.to_owned(), text.span.clone())).collect()
}

fn is_broker(text: &str) -> bool {
    let text = text.split_once("://").map_or(text, |(_, rest)| rest);
    let (host, port) = match text.rsplit_once(':').filter(|(_, port)| !port.contains(']')) {
        Some((host, port)) => (host, Some(port)),
        None => (text, None),
    };
    let host_is_fine = !host.is_empty() && !host.contains(['/', '@', ' ']);
    host_is_fine && port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0))
}

/// Kafka's own rule for names: 1 to 249 of letters, digits, dot, underscore and hyphen.
pub(in crate::config::read) fn bad_topic(topic: &str) -> Option<String> {
    if let Some(pattern) = topic.strip_prefix('^') {
        let error = regex::Regex::new(pattern).err()?.to_string();
        // Above its last line it shows the place, which the diagnostic shows as well.
        return error.lines().last().map(|line| line.trim_start_matches("error: ").to_owned());
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if topic.is_empty() || topic.len() > 249 || topic == "." || topic == ".." {
        return Some("it has 1 to 249 characters".into());
    }
    topic.chars().find(|c| !allowed(*c)).map(|c| format!("{c:?} cannot stand in it"))
}

#[cfg(all(test, feature = "kafka"))]
mod tests {
    use crate::config::read::sources::checked::check;
    use crate::config::schema::Transport;
    use crate::config::{Overrides, load_text, show};

    #[test]
    fn mistakes_are_said() {
        check("'kafka://a:9092,b/orders,returns?group=x&start=last&scope=shared'", &[]);
        check("{kafka: 'kafka://a/orders'}", &[]);
        check("{kafka: {brokers: 'a:9092, [::1]:9092', topics: '^order.*', user: u, password: p}}", &[]);
        check("'kafka://a:9092'", &["\"kafka://a:9092\" does not name brokers and topics"]);
        check("'kafka:a/t'", &["\"kafka:a/t\" is no address of Kafka"]);
        check("'kafka://a/t?grup=x'", &["\"grup=x\" is not understood in an address of Kafka"]);
        check(
            "'kafka://u:p@a/t'",
            &["credentials do not stand in the address: kafka: {user, password_file} takes them"],
        );
        check("{kafka: {}}", &["kafka source: brokers is missing", "kafka source: topics is missing"]);
        let kafka =
            |more: &str, expected: &[&str]| check(&format!("{{kafka: {{brokers: a, topics: t, {more}}}}}"), expected);
        kafka(
            "member: m, scope: per_instance",
            &["member: with scope: per_instance each sidecar is alone in its group"],
        );
        kafka("user: u", &["kafka source: user needs password or password_file"]);
        kafka("password: u", &["kafka source: a password without user"]);
        kafka("mechanism: PLAIN", &["kafka source: a mechanism without user"]);
        kafka(
            "properties: {enable.auto.commit: true, group.id: x, test.mock.num.brokers: 1, plugin.x: y}",
            &[
                "properties: enable.auto.commit cannot be set: offsets are committed when a checkpoint holds what was counted",
                "properties: group.id cannot be set: it is called group here",
                "properties: test.mock.num.brokers is for tests of librdkafka",
                "properties: plugin.x cannot be set: no foreign code is loaded",
            ],
        );
        check("{kafka: {brokers: 'a:b', topics: t}}", &["brokers: \"a:b\" is not HOST:PORT"]);
        check(
            "{kafka: {brokers: a, topics: [a b, '^(']}}",
            &[
                "topics: \"a b\" is no name of a topic: ' ' cannot stand in it",
                "topics: \"^(\" is no name of a topic: unclosed group",
            ],
        );
        if !cfg!(feature = "kafka-tls") {
            kafka(
                "user: u, password: p, mechanism: SCRAM-SHA-256",
                &[
                    "mechanism: this build of sidewatch speaks Kafka without TLS, and SCRAM-SHA-256 needs its cryptography",
                ],
            );
            kafka("tls: {}", &["tls: this build of sidewatch speaks Kafka without TLS"]);
        }
    }

    #[test]
    fn groups_are_named_after_the_service_and_what_is_shown_reads_back() {
        let check = |kafka: &str, group: &str, member: Option<&str>| {
            let text = format!(
                "service: {{name: shop, instance: pod-1}}\nsources: {{s: {{kafka: {{brokers: 'a,b', topics: t, {kafka}}}}}}}"
            );
            let (config, found) = load_text("t.yaml", &text, &Default::default(), &Overrides::default());
            assert!(!found.has_errors(), "{found}");
            let config = config.unwrap();
            let Transport::Kafka(kafka) = &config.sources.as_ref().unwrap()[0].value.transport else { panic!() };
            assert_eq!((kafka.group_id().as_str(), kafka.member_id()), (group, member), "{text}");
            let shown = show(&config);
            assert!(!shown.contains("s3cret"), "{shown}");
            let (again, found) = load_text("t.yaml", &shown, &Default::default(), &Overrides::default());
            assert!(!found.has_errors(), "{found}\n{shown}");
            assert_eq!(show(&again.unwrap()), shown);
        };
        check("start: last", "sidewatch-shop", None);
        check("scope: per_instance", "sidewatch-shop-pod-1", Some("pod-1"));
        check("group: g, scope: shared, member: m", "g", Some("m"));
        check("group: g, scope: per_instance, user: u, password: s3cret", "g-pod-1", Some("pod-1"));
        check("properties: {client.rack: eu-1}, password_file: p, user: u", "sidewatch-shop", None);
    }
}
