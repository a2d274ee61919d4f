//! What goes out besides notifications: events of the life cycle to brokers and HTTP ([`Publishers`]), samples to
//! receivers of remote write and OTLP, spans to OTLP, events as lines of a log. One file a sink.
//!
//! Nothing here holds the core up: what it tells is put into bounded queues ([`queue`]), on disk where there is a state
//! folder, and each sink has a task of its own. A receiver that is away delays only itself; what does not fit any more is
//! dropped, the oldest first, and counted by reason.
//!
//! The room stands above the engine, whose events and series it takes, and below the API, which shows how it goes.

mod collect;
mod http;
#[cfg(feature = "kafka")]
mod kafka;
mod lane;
mod log;
mod nats;
mod otlp;
mod publish;
mod queue;
mod redis;
mod remote_write;
mod start;

pub use collect::{Collect, Collected};
pub use start::{Exports, Ground};

/// What became of an attempt to send.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Outcome {
    /// Taken.
    Taken,
    /// Worth another try, not before so many milliseconds when the receiver says so.
    Retry { error: String, after_ms: Option<i64> },
    /// Refused for what it is: trying again does not help.
    Refused { error: String },
}

impl Outcome {
    fn retry(error: impl Into<String>) -> Self {
        Self::Retry { error: error.into(), after_ms: None }
    }
}

/// A secret of the configuration, read at each use.
async fn read_secret(
    source: &crate::config::schema::SecretSource,
    base_dir: &std::path::Path,
) -> Result<crate::secret::Secret, String> {
    use crate::config::schema::SecretSource;
    match source {
        SecretSource::Inline(text) => Ok(text.value.clone()),
        SecretSource::File(path) => match tokio::fs::read_to_string(base_dir.join(&path.value)).await {
            Ok(text) => Ok(crate::secret::Secret::new(text.trim())),
            Err(error) => Err(format!("cannot read {}: {error}", path.value)),
        },
    }
}
