//! `tls:` of a source that connects to a broker.

use crate::config::Spanned;
use crate::tls::{Pem, TlsOptions};
use std::path::Path;

/// `tls: {ca_file, cert_file, key_file, server_name, insecure_skip_verify}`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TlsConfig {
    /// Authorities to trust besides the usual ones.
    pub ca_file: Option<Spanned<String>>,
    /// Our own certificate.
    pub cert_file: Option<Spanned<String>>,
    /// Its key.
    pub key_file: Option<Spanned<String>>,
    /// The name that the broker's certificate must bear; the host otherwise.
    pub server_name: Option<Spanned<String>>,
    /// Trust anybody.
    pub insecure_skip_verify: bool,
}

impl TlsConfig {
    /// What a client is made from; relative paths start at `base_dir`.
    pub fn options(&self, base_dir: &Path) -> TlsOptions {
        let file = |path: &Option<Spanned<String>>| {
            path.as_ref().map(|path| Pem::File(base_dir.join(&path.value).display().to_string()))
        };
        TlsOptions {
            ca: file(&self.ca_file),
            cert: file(&self.cert_file),
            key: file(&self.key_file),
            server_name: self.server_name.as_ref().map(|name| name.value.clone()),
            insecure_skip_verify: self.insecure_skip_verify,
            ..TlsOptions::default()
        }
    }
}
