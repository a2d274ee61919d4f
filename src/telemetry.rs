//! What sidewatch says about itself: clocks, logs, its own metrics.
//!
//! [`clock`] is the only place that reads the time. Metrics names begin `sidewatch_` and all stand in [`self_metrics`].

pub mod clock;
pub mod logging;
mod once;
pub mod self_metrics;

pub use once::OnChange;

use std::error::Error;

/// The innermost error: the one that says what really happened.
pub fn root_cause(error: &(dyn Error + 'static)) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}
