//! `otlp:` of a source.

use crate::config::reader::MapReader;
use crate::config::schema::Transport;
use crate::config::yaml::Node;
use crate::config::{Diagnostics, Spanned};

/// `otlp: {}`: requests come to `listen.ingest`.
pub(super) fn read(node: &Node, found: &mut Diagnostics) -> Option<Transport> {
    let map = MapReader::new(node, "source without options", found)?;
    map.finish();
    Some(Transport::Otlp)
}

/// `otlp:` takes no address.
pub(super) fn of_url(url: &Spanned<String>, found: &mut Diagnostics) -> Option<Transport> {
    let rest = url.value.split_once(':').map_or("", |(_, rest)| rest.trim_start_matches('/'));
    if rest.is_empty() {
        return Some(Transport::Otlp);
    }
    found.error_hint(
        &url.span,
        "an otlp source takes no address: exporters send to listen.ingest",
        "write {otlp: {}}, and set OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:9181 in the service",
    );
    None
}
