//! `websocket:` of a source.

use super::{SecretSource, TlsConfig};
use crate::config::Spanned;

/// A `websocket` source: the client of a server that sends events.
#[derive(Clone, Debug, PartialEq)]
pub struct WebSocketConfig {
    /// `url:`, ws or wss.
    pub url: Spanned<String>,
    /// `subscribe:` texts that are sent after each connecting, in their order.
    pub subscribe: Vec<String>,
    /// `headers:` of the opening request.
    pub headers: Vec<(Spanned<String>, Spanned<String>)>,
    /// `token:` or `token_file:`, sent as bearer.
    pub token: Option<SecretSource>,
    /// `protocols:` offered (RFC 6455, section 1.9).
    pub protocols: Vec<Spanned<String>>,
    /// `ping:` in milliseconds (20 s); 0 sends none.
    pub ping_ms: i64,
    /// `pong_timeout:` in milliseconds (10 s): a server that is silent for so long after a ping is gone.
    pub pong_timeout_ms: i64,
    /// `ignore:` messages that are no events, such as answers to `subscribe`.
    pub ignore: Vec<IgnoredMessage>,
    /// `tls:` of a wss address.
    pub tls: TlsConfig,
}

/// A message that is passed over: every field has its value.
#[derive(Clone, Debug, PartialEq)]
pub struct IgnoredMessage {
    /// Dotted paths and what stands there.
    pub fields: Vec<(String, serde_json::Value)>,
}
