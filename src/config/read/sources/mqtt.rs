//! `mqtt:` of a source.

use super::amqp::seconds;
use super::broker;
use crate::config::reader::{self, MapReader};
use crate::config::schema::{MqttConfig, Scope, TlsConfig, Transport};
use crate::config::yaml::{Kind, Node};
use crate::config::{Diagnostics, Spanned};

const EXAMPLE: &str = "mqtt://user:password@host:1883?topics=sensors/#";
const PORTS: [u16; 2] = [1883, 8883];
/// A session of a sidecar that is gone for longer is given up.
const SESSION_EXPIRY_S: i64 = 86_400;
const RECEIVE_MAXIMUM: u16 = 1_000;
const KEEP_ALIVE_S: u16 = 30;
const GROUP: &str = "sidewatch";
/// MQTT 3.1.1, section 2.2.3: the largest packet there is.
const LARGEST_PACKET: u64 = 268_435_455;
/// MQTT 3.1.1, section 1.5.3.
const TOPIC_BYTES: usize = 65_535;

/// `mqtt: URL` or `mqtt: {...}`.
pub(super) fn read(node: &Node, found: &mut Diagnostics) -> Option<Transport> {
    if matches!(node.kind, Kind::Scalar { .. }) && !node.is_null() {
        let url = reader::string(node, "mqtt", found)?;
        return of_url(&url, found);
    }
    let mut map = MapReader::new(node, "mqtt source", found)?;
    let url = map.required_string("url");
    let config = config(&mut map, url.as_ref());
    map.finish();
    Some(Transport::Mqtt(Box::new(config?)))
}

/// A source that is only an address.
pub(super) fn of_url(url: &Spanned<String>, found: &mut Diagnostics) -> Option<Transport> {
    let nothing = Node { kind: Kind::Map(Vec::new()), span: url.span.clone() };
    let mut map = MapReader::new(&nothing, "mqtt source", found)?;
    Some(Transport::Mqtt(Box::new(config(&mut map, Some(url))?)))
}

fn config(map: &mut MapReader<'_, '_>, text: Option<&Spanned<String>>) -> Option<MqttConfig> {
    let url = text.and_then(|text| broker::url(text, ["mqtt", "mqtts"], EXAMPLE, map.found()));
    let span = text.map_or_else(|| map.span().clone(), |text| text.span.clone());
    for (name, _) in url.iter().flat_map(|url| &url.query) {
        if name != "topics" {
            map.found().error_hint(&span, format!("url: unknown parameter {name:?}"), "it takes topics");
        }
    }
    if let Some(url) = url.as_ref().filter(|url| !matches!(url.path.as_str(), "" | "/")) {
        let message = format!("url: MQTT addresses have no path, found {:?}", url.path);
        map.found().error_hint(&span, message, "topics stand under topics");
    }
    let in_url = |name: &str| url.as_ref()?.query.iter().find(|(known, _)| known == name).map(|(_, it)| it.clone());
    let mut topics = map.strings("topics");
    if topics.is_empty()
        && let Some(list) = in_url("topics")
    {
        topics = list.split(',').map(|topic| Spanned::new(topic.to_owned(), span.clone())).collect();
    }
    let v3 = map.one_of("version", &[("5", false), ("3.1.1", true), ("4", true)]).is_some_and(|version| version.value);
    let scope = broker::scope(map);
    let group = map.string("group");
    let shared = scope == Some(Scope::Shared);
    if let Some(group) = group.as_ref().filter(|group| group.value.is_empty() || group.value.contains(['/', '+', '#']))
    {
        map.found().error(&group.span, "group: a name without / + and #");
    } else if let (Some(group), false) = (&group, shared) {
        map.found().error_hint(&group.span, "group: only shared subscriptions have one", "add scope: shared");
    }
    for topic in &topics {
        check_topic(topic, shared, map.found());
    }
    if topics.is_empty() {
        let at = map.span().clone();
        map.found().error_hint(&at, "mqtt source: the topics are missing", "topics: [\"sensors/#\"]");
    }
    let at_least_once = map.one_of("qos", &[("1", true), ("0", false)]).is_none_or(|qos| qos.value);
    let client_id = map.string("client_id");
    let clean = map.boolean("clean_session");
    if let (Some(clean), false) = (clean.as_ref().filter(|clean| !clean.value), at_least_once) {
        map.found().error(&clean.span, "clean_session: with qos 0 the broker keeps nothing; use qos: 1");
    }
    let clean_session = clean.map_or(!at_least_once, |clean| clean.value);
    let expiry = map.duration_ms("session_expiry");
    let receive_maximum = map.integer("receive_maximum", 1..=65_535);
    let max_packet = map.bytes("max_packet_size");
    let five_alone = [
        ("session_expiry", expiry.as_ref().map(|it| &it.span)),
        ("receive_maximum", receive_maximum.as_ref().map(|it| &it.span)),
        ("max_packet_size", max_packet.as_ref().map(|it| &it.span)),
    ];
    for (key, span) in five_alone.into_iter().filter_map(|(key, span)| Some((key, span.filter(|_| v3)?))) {
        map.found().error(span, format!("{key}: MQTT 3.1.1 has no such thing, version 5 has"));
    }
    if let Some(bytes) = max_packet.as_ref().filter(|bytes| bytes.value == 0 || bytes.value > LARGEST_PACKET) {
        map.found().error(&bytes.span, format!("max_packet_size: from 1 to {LARGEST_PACKET} bytes"));
    }
    let retained = map.one_of("retained", &[("count", false), ("ignore", true)]);
    let username = map.string("username").map(|user| user.value).or(url.as_ref().and_then(|url| url.username.clone()));
    let in_url = url.as_ref().and_then(|url| url.password.clone()).map(|secret| Spanned::new(secret, span.clone()));
    let password = broker::password(map, in_url);
    if password.is_some() && username.is_none() {
        map.found().error(&span, "mqtt source: a password without a username");
    }
    let tls = super::tls::tls(map).or(url.as_ref().filter(|url| url.tls).map(|_| TlsConfig::default()));
    let keep_alive_s = seconds(map, "keep_alive", KEEP_ALIVE_S);
    let url = url?;
    if topics.is_empty() {
        return None;
    }
    Some(MqttConfig {
        address: Spanned::new((url.host, url.port.unwrap_or(PORTS[usize::from(tls.is_some())])), span),
        tls,
        topics,
        v3,
        at_least_once,
        client_id: client_id.map(|id| id.value).filter(|id| !id.is_empty()),
        clean_session,
        session_expiry_s: expiry.map_or(SESSION_EXPIRY_S, |it| it.value / 1_000).clamp(0, i64::from(u32::MAX)) as u32,
        receive_maximum: receive_maximum.map_or(RECEIVE_MAXIMUM, |it| it.value as u16),
        max_packet_bytes: max_packet.map(|bytes| bytes.value as u32),
        scope,
        group: group.map_or_else(|| GROUP.to_owned(), |group| group.value),
        ignore_retained: retained.is_some_and(|retained| retained.value),
        username,
        password,
        keep_alive_s,
    })
}

/// A topic filter (MQTT 5, section 4.7): `#` only at the end, `+` only alone between slashes.
fn check_topic(topic: &Spanned<String>, shared: bool, found: &mut Diagnostics) {
    let filter = match topic.value.strip_prefix("$share/") {
        Some(_) if shared => {
            found.error(&topic.span, "topics: scope: shared makes $share/GROUP/ itself; leave it away");
            return;
        }
        Some(rest) => rest.split_once('/').map_or("", |(_, filter)| filter),
        None => &topic.value,
    };
    let levels: Vec<&str> = filter.split('/').collect();
    let wrong = filter.is_empty()
        || filter.len() > TOPIC_BYTES
        || filter.contains('\0')
        || levels.iter().enumerate().any(|(at, level)| {
            (level.contains('#') && (*level != "#" || at + 1 < levels.len())) || (level.contains('+') && *level != "+")
        });
    if wrong {
        let hint =
            "+ stands for one level, # for all that follow and only at the end: sensors/+/temperature, sensors/#";
        found.error_hint(&topic.span, format!("topics: {:?} is no topic filter", topic.value), hint);
    }
}
