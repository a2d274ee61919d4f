//! How a source stands with its broker: told to the core and said in the log when it changes, and only then.

use super::{SourceContext, SourceState};
use crate::telemetry::self_metrics;
use metrics::Gauge;
use std::time::{Duration, Instant};

/// Fewer messages behind than this is as good as caught up: a broker always holds some on their way.
const NEAR: u64 = 1_000;
/// While catching up, how far is told this often.
const TELL: Duration = Duration::from_secs(1);
/// The first wait after a lost connection; each further one is twice as long.
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// The longest wait.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// A source's own view of its connection.
#[derive(Debug)]
pub(super) struct Standing<'a> {
    context: &'a SourceContext,
    state: SourceState,
    told: Instant,
    behind: Gauge,
    /// Failed attempts since the last connection.
    failures: u32,
}

impl<'a> Standing<'a> {
    pub fn new(context: &'a SourceContext) -> Self {
        self_metrics::source_up(&context.name).set(0.0);
        let behind = self_metrics::source_behind(&context.name);
        Self { context, state: SourceState::Starting, told: crate::telemetry::clock::instant(), behind, failures: 0 }
    }

    /// The connection is gone, or was never there. The same reason again is not told again.
    pub async fn lost(&mut self, reason: impl Into<String>) {
        let reason = reason.into();
        let state = SourceState::Lost { reason };
        if self.state == state {
            return;
        }
        if let SourceState::Lost { reason } = &state {
            tracing::warn!(source = %self.context.name, %reason, "cannot hear the source; trying again");
        }
        self.tell(state).await;
    }

    /// Connected, with so many messages still to come; after an outage, and with a backlog at the start, the source is
    /// catching up until they are few. `0` for transports that keep nothing for us.
    pub async fn connected(&mut self, behind: u64) {
        self.failures = 0;
        self.behind.set(behind as f64);
        let next = if behind >= NEAR { SourceState::CatchingUp { behind } } else { SourceState::Connected };
        match (&self.state, &next) {
            (SourceState::Connected, SourceState::Connected) => return,
            // Live and merely slow: it hears everything in time to tell silence from delay only when it is not far behind.
            (SourceState::CatchingUp { .. }, SourceState::CatchingUp { .. })
                if crate::telemetry::clock::instant().duration_since(self.told) < TELL =>
            {
                return;
            }
            (SourceState::CatchingUp { .. }, SourceState::CatchingUp { .. }) => {}
            (_, SourceState::CatchingUp { behind }) => {
                tracing::info!(source = %self.context.name, behind, "connected; catching up");
            }
            (SourceState::CatchingUp { .. }, _) => tracing::info!(source = %self.context.name, "caught up"),
            _ => tracing::info!(source = %self.context.name, "connected"),
        }
        self.tell(next).await;
    }

    /// Whether the source can hear at present.
    pub fn is_up(&self) -> bool {
        matches!(self.state, SourceState::Connected | SourceState::CatchingUp { .. })
    }

    /// How long to wait before the next attempt: twice as long each time, up to ten seconds, shortened at random by up to a
    /// half so that a fleet does not come back at once.
    pub fn next_wait(&mut self) -> Duration {
        let doubled = FIRST_WAIT.saturating_mul(1 << self.failures.min(10)).min(LONGEST_WAIT);
        self.failures = self.failures.saturating_add(1);
        doubled.mul_f64(0.5 + 0.5 * random_share())
    }

    async fn tell(&mut self, state: SourceState) {
        self.told = crate::telemetry::clock::instant();
        self.state = state.clone();
        self.context.report(state).await;
    }
}

/// From 0 to 1, differently each time. Only waits depend on it.
fn random_share() -> f64 {
    use std::hash::{BuildHasher, Hasher};
    let bits = std::hash::RandomState::new().build_hasher().finish();
    (bits >> 11) as f64 / (1_u64 << 53) as f64
}
