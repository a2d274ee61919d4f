//! `hosts:` of a source.

use crate::config::Spanned;

/// A `hosts` source: files in the form of hosts(5), and folders of them.
#[derive(Clone, Debug, PartialEq)]
pub struct HostsConfig {
    /// `paths:` files and folders (/etc/hosts).
    pub paths: Vec<Spanned<String>>,
    /// `poll:` in milliseconds (5 s): they are looked at so often even when the system announces no change.
    pub poll_ms: i64,
}
