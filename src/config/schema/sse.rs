//! `sse:` of a source.

use super::{SecretSource, TlsConfig};
use crate::config::Spanned;

/// An `sse` source: server-sent events over HTTP.
#[derive(Clone, Debug, PartialEq)]
pub struct SseConfig {
    /// `url:`, `http://` or `https://`.
    pub url: Spanned<String>,
    /// `headers:` of the request.
    pub headers: Vec<(Spanned<String>, Spanned<String>)>,
    /// `token:` or `token_file:`, sent as `Authorization: Bearer`.
    pub token: Option<SecretSource>,
    /// `tls:`.
    pub tls: Option<TlsConfig>,
    /// `idle_timeout:` in milliseconds: without a byte for so long (comments count) the connection is made anew; `None`
    /// waits for ever.
    pub idle_timeout_ms: Option<i64>,
}

impl SseConfig {
    /// The server, for people.
    pub fn host(&self) -> &str {
        let rest = self.url.value.split_once("://").map_or("", |(_, rest)| rest);
        rest.split(['/', '?', '#']).next().unwrap_or(rest)
    }
}
