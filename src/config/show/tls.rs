//! `tls:` of a source.

use super::{Fields, Yaml};
use crate::config::schema::TlsConfig;

/// The mapping under `tls:`.
pub(super) fn tls(config: &TlsConfig) -> Yaml {
    let mut map = Fields::default();
    for (key, text) in [
        ("ca_file", &config.ca_file),
        ("cert_file", &config.cert_file),
        ("key_file", &config.key_file),
        ("server_name", &config.server_name),
    ] {
        map.text(key, text.as_ref().map(|text| &text.value));
    }
    if config.insecure_skip_verify {
        map.raw("insecure_skip_verify", true);
    }
    Yaml::Map(map.0)
}
