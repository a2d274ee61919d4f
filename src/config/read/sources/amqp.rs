//! `amqp:` of a source.

use super::broker;
use crate::config::reader::{self, MapReader};
use crate::config::schema::{AmqpBinding, AmqpConfig, AmqpDeclare, AmqpValue, Scope, TlsConfig, Transport};
use crate::config::yaml::{Kind, Node};
use crate::config::{Diagnostics, Span, Spanned};

const EXAMPLE: &str = "amqp://user:password@host:5672/vhost?queue=orders";
const PORTS: [u16; 2] = [5672, 5671];
/// As many as a checkpoint each second acknowledges without slowing anything down; 1,000 small events are a megabyte.
const PREFETCH: u16 = 1_000;
/// Quorum queues of RabbitMQ 4 give up after 20 deliveries themselves.
const MAX_DELIVERIES: u32 = 20;
const HEARTBEAT_S: u16 = 30;
/// AMQP 0.9.1, section 4.2.5.3: a short string has up to 255 bytes.
const NAME_BYTES: usize = 255;
const KINDS: [(&str, &str); 4] =
    [("direct", "direct"), ("fanout", "fanout"), ("topic", "topic"), ("headers", "headers")];

/// `amqp: URL` or `amqp: {...}`.
pub(super) fn read(node: &Node, found: &mut Diagnostics) -> Option<Transport> {
    if matches!(node.kind, Kind::Scalar { .. }) && !node.is_null() {
        let url = reader::string(node, "amqp", found)?;
        return of_url(&url, found);
    }
    let mut map = MapReader::new(node, "amqp source", found)?;
    let url = map.required_string("url");
    let config = config(&mut map, url.as_ref());
    map.finish();
    Some(Transport::Amqp(Box::new(config?)))
}

/// A source that is only an address.
pub(super) fn of_url(url: &Spanned<String>, found: &mut Diagnostics) -> Option<Transport> {
    let nothing = Node { kind: Kind::Map(Vec::new()), span: url.span.clone() };
    let mut map = MapReader::new(&nothing, "amqp source", found)?;
    Some(Transport::Amqp(Box::new(config(&mut map, Some(url))?)))
}

fn config(map: &mut MapReader<'_, '_>, text: Option<&Spanned<String>>) -> Option<AmqpConfig> {
    let url = text.and_then(|text| broker::url(text, ["amqp", "amqps"], EXAMPLE, map.found()));
    let span = text.map_or_else(|| map.span().clone(), |text| text.span.clone());
    let of_url = url.as_ref();
    let query = |name: &str| of_url?.query.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
    for (name, _) in of_url.iter().flat_map(|url| &url.query) {
        if name != "queue" && name != "prefetch" {
            map.found().error_hint(&span, format!("url: unknown parameter {name:?}"), "it takes queue and prefetch");
        }
    }
    let queue = map.string("queue").or_else(|| query("queue").map(|queue| Spanned::new(queue, span.clone())));
    let prefetch = map.integer("prefetch", 1..=65_535).map(|count| count.value as u16);
    let prefetch = prefetch.or_else(|| match query("prefetch")?.parse::<u16>() {
        Ok(count) if count > 0 => Some(count),
        _ => {
            map.found().error(&span, "url: prefetch is a number from 1 to 65535");
            None
        }
    });
    let vhost = match of_url.map(|url| url.path.trim_start_matches('/')) {
        // An address without a path, or with the slash alone as people write it, means the virtual host that every
        // broker has; its name is a slash.
        None | Some("") => Some("/".to_owned()),
        Some(path) => broker::decode(path),
    };
    let vhost = map.string("vhost").map(|vhost| vhost.value).or(vhost).unwrap_or_else(|| "/".into());
    let username = map.string("username").map(|user| user.value).or(of_url.and_then(|url| url.username.clone()));
    let in_url = of_url.and_then(|url| url.password.clone()).map(|password| Spanned::new(password, span.clone()));
    let password = broker::password(map, in_url);
    let tls = super::tls::tls(map).or(of_url.filter(|url| url.tls).map(|_| TlsConfig::default()));
    let declare = declare(map);
    let bind = map.each_or_one("bind", binding);
    let scope = broker::scope(map);
    let poison = map.one_of("poison", &[("ack", false), ("reject", true)]);
    let max_deliveries = map.integer("max_deliveries", 0..=1_000_000).map_or(MAX_DELIVERIES, |it| it.value as u32);
    let heartbeat_s = seconds(map, "heartbeat", HEARTBEAT_S);
    check(map, queue.as_ref(), &declare, &bind, scope);
    let queue = queue?;
    let url = url?;
    Some(AmqpConfig {
        address: Spanned::new((url.host, url.port.unwrap_or(PORTS[usize::from(tls.is_some())])), span),
        vhost,
        username: username.unwrap_or_else(|| "guest".into()),
        password,
        tls,
        queue,
        declare,
        bind,
        prefetch: prefetch.unwrap_or(PREFETCH),
        scope,
        reject_poison: poison.is_some_and(|poison| poison.value),
        max_deliveries: Some(max_deliveries).filter(|count| *count > 0),
        heartbeat_s,
    })
}

/// What fits together, and what does not.
fn check(
    map: &mut MapReader<'_, '_>,
    queue: Option<&Spanned<String>>,
    declare: &Option<AmqpDeclare>,
    bind: &[AmqpBinding],
    scope: Option<Scope>,
) {
    let span = map.span().clone();
    let Some(queue) = queue else {
        let message = "amqp source: the queue is missing";
        map.found().error_hint(&span, message, format!("queue: NAME, or in the address: {EXAMPLE}"));
        return;
    };
    if queue.value.is_empty() || queue.value.len() > NAME_BYTES {
        map.found().error(&queue.span, format!("queue: a name has from 1 to {NAME_BYTES} bytes"));
    }
    if queue.value.starts_with("amq.") && declare.is_some() {
        let message = "queue: names that begin with amq. belong to the broker";
        map.found().error(&queue.span, message);
    }
    if scope == Some(Scope::PerInstance) && bind.is_empty() {
        let message = "amqp source: a queue of each instance needs bind, or nothing comes into it";
        map.found().error_hint(&queue.span, message, "bind: [{exchange: events, routing_key: \"#\"}]");
    }
}

fn declare(map: &mut MapReader<'_, '_>) -> Option<AmqpDeclare> {
    let node = map.get("declare")?;
    let fresh = AmqpDeclare { durable: true, exclusive: false, auto_delete: false, arguments: Vec::new() };
    match node.as_str() {
        Some("true") => return Some(fresh),
        Some("false") => return None,
        _ => {}
    }
    let mut inner = MapReader::new(node, "amqp declare", map.found())?;
    let mut flag = |key, usual| inner.boolean(key).map_or(usual, |wanted| wanted.value);
    let (durable, exclusive, auto_delete) =
        (flag("durable", true), flag("exclusive", false), flag("auto_delete", false));
    let arguments = arguments(&mut inner, "arguments");
    inner.finish();
    Some(AmqpDeclare { durable, exclusive, auto_delete, arguments })
}

fn binding(node: &Node, found: &mut Diagnostics) -> Option<AmqpBinding> {
    let mut map = MapReader::new(node, "amqp binding", found)?;
    let exchange = map.required_string("exchange");
    let routing_key = map.string("routing_key").map(|key| key.value).unwrap_or_default();
    let kind = map.one_of("type", &KINDS).map(|kind| kind.value.to_owned());
    let durable = map.boolean("durable");
    if let (Some(durable), None) = (&durable, &kind) {
        map.found().error(&durable.span, "durable: only an exchange that is declared here has it; give its type");
    }
    let arguments = arguments(&mut map, "arguments");
    map.finish();
    let durable = durable.is_none_or(|durable| durable.value);
    Some(AmqpBinding { exchange: exchange?, routing_key, kind, durable, arguments })
}

fn arguments(map: &mut MapReader<'_, '_>, key: &'static str) -> Vec<(String, AmqpValue)> {
    map.named(key, |name, node, found| value(&name.span, node, found).map(|value| (name.value.clone(), value)))
        .into_iter()
        .map(|(_, argument)| argument)
        .collect()
}

fn value(span: &Span, node: &Node, found: &mut Diagnostics) -> Option<AmqpValue> {
    let Kind::Scalar { text, plain } = &node.kind else {
        found.error(&node.span, "arguments: a text, a whole number, true or false");
        return None;
    };
    if node.is_null() {
        found.error(span, "arguments: the value is missing");
        return None;
    }
    Some(match text.as_str() {
        "true" if *plain => AmqpValue::Bool(true),
        "false" if *plain => AmqpValue::Bool(false),
        _ if *plain && text.parse::<i64>().is_ok() => AmqpValue::Integer(text.parse().unwrap_or_default()),
        _ => AmqpValue::Text(text.clone()),
    })
}

/// A duration in whole seconds, from one second to the 65,535 that both protocols can say.
pub(super) fn seconds(map: &mut MapReader<'_, '_>, key: &'static str, usual: u16) -> u16 {
    let Some(time) = map.duration_ms(key) else { return usual };
    match u16::try_from(time.value / 1_000) {
        Ok(seconds) if seconds > 0 && time.value % 1_000 == 0 => seconds,
        _ => {
            map.found().error(&time.span, format!("{key}: whole seconds, from 1s to 65535s"));
            usual
        }
    }
}
