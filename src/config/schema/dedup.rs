//! `dedup:` of a source.

use super::{SourceConfig, Transport};

/// Events that a source remembers by their id when `dedup` names no window.
pub const DEDUP_WINDOW: usize = 100_000;

impl SourceConfig {
    /// How many events are remembered by their id; `None` for a source that is not deduplicated by it. Transports that
    /// deliver again without saying at which position are, unless the configuration says no.
    pub fn dedup_window(&self) -> Option<usize> {
        let usual = if matches!(self.transport, Transport::Amqp(_) | Transport::Mqtt(_)) { DEDUP_WINDOW } else { 0 };
        Some(self.dedup.unwrap_or(usual)).filter(|window| *window > 0)
    }
}
