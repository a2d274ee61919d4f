//! `sources:`.

mod amqp;
mod broker;
#[cfg(test)]
mod checked;
mod dedup;
mod docker;
mod flow;
mod hosts;
pub(super) mod kafka;
mod mqtt;
pub(super) mod nats;
mod otlp;
pub(super) mod redis;
mod sse;
mod statsd;
pub(super) mod tls;
mod websocket;

pub(super) use kafka::identify;

use crate::config::reader::{self, MapReader};
use crate::config::schema::{Config, FlowConfig, FormatConfig, Named, SourceConfig, Transport};
use crate::config::yaml::{self as node, Node};
use crate::config::{Diagnostics, Spanned};
use crate::model::Attribute;

const TRANSPORTS: &[&str] = &[
    "http", //
    "stdin", "file", "unix", "tcp", "scrape", "memory", "demo", "none",
];

/// A transport that has a file of its own beside this one: its key, the schemes of its addresses, and its readers.
struct Kind {
    name: &'static str,
    schemes: &'static [&'static str],
    /// What stands under the key: a mapping, or the address alone.
    read: fn(&Node, &mut Diagnostics) -> Option<Transport>,
    /// An address in place of the whole entry.
    of_url: fn(&Spanned<String>, &mut Diagnostics) -> Option<Transport>,
}

const KINDS: &[Kind] = &[
    Kind { name: "otlp", schemes: &["otlp"], read: otlp::read, of_url: otlp::of_url },
    Kind { name: "statsd", schemes: &["statsd", "udp"], read: statsd::read, of_url: statsd::of_url },
    Kind { name: "nats", schemes: &["nats", "tls"], read: nats::read, of_url: nats::of_url },
    Kind { name: "redis", schemes: redis::SCHEMES, read: redis::read, of_url: redis::of_url },
    Kind { name: "kafka", schemes: &["kafka"], read: kafka::read, of_url: kafka::of_url },
    Kind { name: "sse", schemes: &["sse"], read: sse::read, of_url: sse::of_url },
    Kind { name: "websocket", schemes: &["ws", "wss"], read: websocket::read, of_url: websocket::of_url },
    Kind { name: "docker", schemes: &["docker", "podman"], read: docker::read, of_url: docker::of_url },
    Kind { name: "hosts", schemes: &["hosts"], read: hosts::read, of_url: hosts::of_url },
    Kind { name: "amqp", schemes: &["amqp", "amqps"], read: amqp::read, of_url: amqp::of_url },
    Kind { name: "mqtt", schemes: &["mqtt", "mqtts"], read: mqtt::read, of_url: mqtt::of_url },
];

/// The built-in source of sidewatch's own life cycle.
const OWN: &str = "sidewatch";

/// Every key that names a transport.
fn transports() -> Vec<&'static str> {
    TRANSPORTS.iter().copied().chain(KINDS.iter().map(|kind| kind.name)).collect()
}

/// Reads `sources:`; `None` when the key is absent.
pub(super) fn read(map: &mut MapReader<'_, '_>) -> Option<Vec<Named<SourceConfig>>> {
    map.get("sources")?;
    let mut standard_input: Option<String> = None;
    let sources = map.named("sources", |name, node, found| {
        if name.value.trim().is_empty() {
            found.error(&name.span, "a source needs a name; it becomes the label source");
            return None;
        }
        if name.value == OWN {
            found.error(
                &name.span,
                "the source sidewatch is built in: its own starts, reloads and changes; take another name",
            );
            return None;
        }
        let source = source(node, found)?;
        if source.transport == Transport::Stdin {
            if let Some(first) = &standard_input {
                found.error(&name.span, format!("standard input is read by the source {first:?} already"));
                return None;
            }
            standard_input = Some(name.value.clone());
        }
        Some(source)
    });
    Some(sources.into_iter().map(|(name, value)| Named { name, value }).collect())
}

/// Consumers are called as the instance is, which is known only when everything is read.
pub(super) fn name_consumers(config: &mut Config) {
    for source in config.sources.iter_mut().flatten() {
        if let Transport::Redis(redis) = &mut source.value.transport {
            redis.instance.clone_from(&config.service.instance);
        }
    }
}

fn source(node: &Node, found: &mut Diagnostics) -> Option<SourceConfig> {
    let span = node.span.clone();
    if matches!(node.kind, node::Kind::Scalar { .. }) && !node.is_null() {
        let address = reader::string(node, "source", found)?;
        let transport = transport_of_address(&address, found)?;
        let flow = FlowConfig::default();
        return Some(SourceConfig { transport, format: FormatConfig::default(), flow, dedup: None, span });
    }
    let mut map = MapReader::new(node, "source", found)?;
    let kind = map.exactly_one(&transports());
    let format = format(&mut map);
    let flow = flow::flow(&mut map);
    let dedup = dedup::dedup(&mut map);
    if let Some((kind, _)) = kind {
        for key in ["path", "listen", "start", "url"] {
            map.refuse(key, &format!("{key} stands inside {kind}: {{...}}"));
        }
    }
    map.finish();
    let (kind, node) = kind?;
    let (transport, ack_checkpoint) = match kind {
        "http" => (Transport::Http, flow::http(node, found)?),
        _ => (transport(kind, node, found)?, false),
    };
    Some(SourceConfig { transport, format: format?, flow: FlowConfig { ack_checkpoint, ..flow }, dedup, span })
}

fn transport(kind: &'static str, node: &Node, found: &mut Diagnostics) -> Option<Transport> {
    // `file: PATH`, `tcp: ADDRESS` say the one thing that matters.
    let short = matches!(node.kind, node::Kind::Scalar { .. }) && !node.is_null();
    if let Some(own) = KINDS.iter().find(|own| own.name == kind) {
        return (own.read)(node, found);
    }
    match kind {
        "file" if short => Some(Transport::File { path: reader::string(node, "file", found)?, from_end: false }),
        "unix" if short => Some(Transport::Unix { path: reader::string(node, "unix", found)? }),
        "scrape" => super::scrape::read(node, found),
        "tcp" if short => Some(Transport::Tcp { listen: super::address(node, "tcp", found)? }),
        "file" => {
            let mut map = MapReader::new(node, "file source", found)?;
            let path = map.required_string("path");
            let start = map.one_of("start", &[("first", false), ("last", true)]);
            map.finish();
            Some(Transport::File { path: path?, from_end: start.is_some_and(|start| start.value) })
        }
        "unix" => {
            let mut map = MapReader::new(node, "unix source", found)?;
            let path = map.required_string("path");
            map.finish();
            Some(Transport::Unix { path: path? })
        }
        "tcp" => {
            let mut map = MapReader::new(node, "tcp source", found)?;
            let listen = map.required("listen").and_then(|node| super::address(node, "listen", map.found()));
            map.finish();
            Some(Transport::Tcp { listen: listen? })
        }
        _ => {
            let map = MapReader::new(node, "source without options", found)?;
            map.finish();
            Some(match kind {
                "stdin" => Transport::Stdin,
                "memory" => Transport::Memory,
                "demo" => Transport::Demo,
                _ => Transport::None,
            })
        }
    }
}

/// `tcp://HOST:PORT`, `unix:///PATH`, `file:///PATH`, `stdin:`, `http:`; the words alone where nothing follows.
fn transport_of_address(address: &Spanned<String>, found: &mut Diagnostics) -> Option<Transport> {
    let (scheme, rest) = address.value.split_once(':').unwrap_or((&address.value, ""));
    let slashed = rest.strip_prefix("//");
    let rest = slashed.unwrap_or(rest);
    let part = || Spanned::new(rest.to_owned(), address.span.clone());
    if let Some(own) = KINDS.iter().find(|own| own.schemes.contains(&scheme)) {
        return (own.of_url)(address, found);
    }
    match scheme {
        "http" if rest.is_empty() => Some(Transport::Http),
        "http" => {
            let message = "an http source takes no address: events are pushed to listen.ingest";
            found.error_hint(
                &address.span,
                message,
                format!("write {{http: {{}}}}, or {{scrape: {:?}}} to fetch metrics from there", address.value),
            );
            None
        }
        "stdin" | "memory" | "demo" | "none" if !rest.is_empty() => {
            found.error(&address.span, format!("{scheme}: nothing may follow, found {rest:?}"));
            None
        }
        "scrape" | "https" if !rest.is_empty() => {
            let url = address.value.strip_prefix("scrape:").unwrap_or(&address.value).to_owned();
            super::scrape::of_url(&Spanned::new(url, address.span.clone()), found)
        }
        "stdin" => Some(Transport::Stdin),
        "memory" => Some(Transport::Memory),
        "demo" => Some(Transport::Demo),
        "none" => Some(Transport::None),
        "tcp" => {
            super::check_address(&address.value, rest, &address.span, found).then(|| Transport::Tcp { listen: part() })
        }
        "file" | "unix" if rest.is_empty() => {
            found.error_hint(&address.span, format!("{scheme}: a path is missing"), format!("write {scheme}:///path"));
            None
        }
        // In file://name/path the name is a host; only the empty one makes sense here.
        "file" | "unix" if slashed.is_some() && !rest.starts_with('/') => {
            found.error_hint(
                &address.span,
                format!("{:?} names a host, not a path", address.value),
                format!("write {scheme}:///{rest}, or {scheme}:{rest} for a path from the configuration's folder"),
            );
            None
        }
        "file" => Some(Transport::File { path: part(), from_end: false }),
        "unix" => Some(Transport::Unix { path: part() }),
        _ => {
            let message = format!("{:?} is not a source", address.value);
            let known = reader::list(&transports(), "or");
            match crate::config::diagnostic::nearest(scheme, transports()) {
                Some(near) => found.error_hint(&address.span, message, format!("did you mean {near:?}?")),
                None => found.error_hint(&address.span, message, format!("an address begins with {known}")),
            }
            None
        }
    }
}

/// `lines:`, `type:`, `shape:`.
fn format(map: &mut MapReader<'_, '_>) -> Option<FormatConfig> {
    let mut valid = true;
    let mut lines = None;
    if let Some(node) = map.get("lines") {
        // `lines: REGEX` for `lines: {regex: REGEX}`.
        lines = if node.as_map().is_some() {
            MapReader::new(node, "lines", map.found()).and_then(|mut inner| {
                let regex = inner.required_string("regex");
                inner.finish();
                regex
            })
        } else {
            reader::string(node, "lines", map.found())
        };
        valid = lines.is_some();
    }
    let event_type = map.string("type");
    let shape = map.named("shape", |name, node, found| {
        let known: Vec<&str> = Attribute::ALL
            .iter()
            .map(|(name, _)| *name)
            .chain(["data", "tags", "headers", "expires_at", "ttl"])
            .collect();
        if !known.contains(&name.value.as_str()) {
            let message = format!("shape: an event has no attribute {:?}", name.value);
            match crate::config::diagnostic::nearest(&name.value, known.iter().copied()) {
                Some(near) => found.error_hint(&name.span, message, format!("did you mean {near:?}?")),
                None => found.error_hint(&name.span, message, format!("it has {}", reader::list(&known, "and"))),
            }
            return None;
        }
        reader::path(node, "shape", found)
    });
    if lines.is_some()
        && let Some((first, _)) = shape.first()
    {
        map.found().error(&first.span, "shape: text lines get their attributes from the groups of the regex");
        valid = false;
    }
    valid.then_some(FormatConfig { lines, event_type, shape })
}
