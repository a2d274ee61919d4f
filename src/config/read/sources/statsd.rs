//! `statsd:` of a source.

use super::super::{address, check_address};
use crate::config::reader::{self, MapReader};
use crate::config::schema::{StatsdConfig, TagStyles, Transport};
use crate::config::yaml::{Kind, Node};
use crate::config::{Diagnostics, Spanned};

/// What everybody's client sends to.
pub(crate) const DEFAULT_UDP: &str = "127.0.0.1:8125";
const RECEIVE_BUFFER: usize = 4 << 20;

fn with(udp: Option<Spanned<String>>) -> StatsdConfig {
    StatsdConfig {
        udp,
        unixgram: None,
        tcp: None,
        mapping: None,
        rules: None,
        receive_buffer: RECEIVE_BUFFER,
        service_checks: true,
        tags: TagStyles::default(),
    }
}

/// `statsd: HOST:PORT` (UDP) or `statsd: {...}`.
pub(super) fn read(node: &Node, found: &mut Diagnostics) -> Option<Transport> {
    if matches!(node.kind, Kind::Scalar { .. }) && !node.is_null() {
        let text = reader::string(node, "statsd", found)?;
        if text.value.contains("://") {
            return of_url(&text, found);
        }
        return Some(Transport::Statsd(Box::new(with(Some(address(node, "statsd", found)?)))));
    }
    let mut map = MapReader::new(node, "statsd source", found)?;
    for (key, ours) in [
        ("mapping_config", "mapping"),
        ("listen", "udp, tcp or unixgram"),
        ("unix", "unixgram (a socket of datagrams)"),
        ("read_buffer", "receive_buffer"),
    ] {
        map.refuse(key, &format!("{key} is called {ours} here"));
    }
    let mut valid = true;
    let mut listener = |key: &'static str, map: &mut MapReader<'_, '_>| {
        let node = map.get(key)?;
        let address = address(node, key, map.found());
        valid &= address.is_some();
        address
    };
    let (mut udp, tcp) = (listener("udp", &mut map), listener("tcp", &mut map));
    let unixgram = map.string("unixgram");
    let mapping = map.string("mapping");
    let buffer = map.bytes("receive_buffer");
    if let Some(buffer) = buffer.as_ref().filter(|buffer| !(2_048..=1 << 30).contains(&buffer.value)) {
        map.found().error(&buffer.span, "receive_buffer: from 2KiB to 1GiB");
    }
    let service_checks = map.boolean("service_checks").is_none_or(|wanted| wanted.value);
    let mut tags = TagStyles::default();
    if map.get("tags").is_some() {
        tags = TagStyles { dogstatsd: false, librato: false, influxdb: false, signalfx: false };
        let styles = [("dogstatsd", 0), ("librato", 1), ("influxdb", 2), ("signalfx", 3)];
        for style in map.each_or_one("tags", |node, found| reader::one_of(node, "tags", &styles, found)) {
            let places = [&mut tags.dogstatsd, &mut tags.librato, &mut tags.influxdb, &mut tags.signalfx];
            *places[style.value] = true;
        }
    }
    if udp.is_none() && tcp.is_none() && unixgram.is_none() && valid {
        udp = Some(Spanned::new(DEFAULT_UDP.to_owned(), map.span().clone()));
    }
    map.finish();
    let receive_buffer = buffer.map_or(RECEIVE_BUFFER, |buffer| buffer.value as usize);
    valid.then(|| {
        let config = StatsdConfig { tcp, unixgram, mapping, receive_buffer, service_checks, tags, ..with(udp) };
        Transport::Statsd(Box::new(config))
    })
}

/// `udp://HOST:PORT`, `statsd://HOST:PORT`; `statsd:` alone listens at the usual address.
pub(super) fn of_url(url: &Spanned<String>, found: &mut Diagnostics) -> Option<Transport> {
    let rest = url.value.split_once(':').map_or("", |(_, rest)| rest.trim_start_matches('/'));
    let rest = if rest.is_empty() { DEFAULT_UDP } else { rest };
    let udp = || Spanned::new(rest.to_owned(), url.span.clone());
    check_address(&url.value, rest, &url.span, found).then(|| Transport::Statsd(Box::new(with(Some(udp())))))
}
