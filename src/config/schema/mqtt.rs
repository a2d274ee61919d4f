//! `mqtt:` of a source: MQTT 3.1.1 and 5.

use super::{Scope, SecretSource, TlsConfig};
use crate::config::Spanned;

/// `mqtt: {...}`.
#[derive(Clone, Debug, PartialEq)]
pub struct MqttConfig {
    /// Host and port.
    pub address: Spanned<(String, u16)>,
    /// `mqtts:`, or `tls:` given.
    pub tls: Option<TlsConfig>,
    /// Topic filters.
    pub topics: Vec<Spanned<String>>,
    /// `version: 3.1.1` in place of 5.
    pub v3: bool,
    /// QoS 1: at least once. QoS 0 otherwise.
    pub at_least_once: bool,
    /// `client_id:`; made of instance and source without it.
    pub client_id: Option<String>,
    /// `clean_session:`; nothing is kept for us while we are away. QoS 0 always is so.
    pub clean_session: bool,
    /// How long the broker keeps the session while we are away, in seconds (version 5).
    pub session_expiry_s: u32,
    /// Messages that the broker sends ahead of their acknowledgement (version 5; with 3.1.1 the broker decides).
    pub receive_maximum: u16,
    /// Messages larger than this the broker is to keep (version 5); `None` takes all.
    pub max_packet_bytes: Option<u32>,
    /// `scope:`; `None` when the configuration does not say.
    pub scope: Option<Scope>,
    /// The group of shared subscriptions, for `scope: shared`.
    pub group: String,
    /// `retained: ignore`: what was published before we subscribed does not count.
    pub ignore_retained: bool,
    /// The user.
    pub username: Option<String>,
    /// The password.
    pub password: Option<SecretSource>,
    /// Seconds between signs of life.
    pub keep_alive_s: u16,
}
