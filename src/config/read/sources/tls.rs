//! `tls:` of a source.

use crate::config::reader::MapReader;
use crate::config::schema::TlsConfig;

/// Reads `tls:`; `None` when the key is absent or wrong. An empty mapping asks for TLS with the usual authorities.
pub(in crate::config::read) fn tls(map: &mut MapReader<'_, '_>) -> Option<TlsConfig> {
    let node = map.get("tls")?;
    let mut inner = MapReader::new(node, "source tls", map.found())?;
    let config = TlsConfig {
        ca_file: inner.string("ca_file"),
        cert_file: inner.string("cert_file"),
        key_file: inner.string("key_file"),
        server_name: inner.string("server_name"),
        insecure_skip_verify: inner.boolean("insecure_skip_verify").is_some_and(|wanted| wanted.value),
    };
    if config.cert_file.is_some() != config.key_file.is_some() {
        let span = inner.span().clone();
        inner.found().error(&span, "tls: cert_file and key_file belong together");
    }
    inner.finish();
    Some(config)
}
