//! `sidewatch notifications test RECEIVER`.

use super::client::block_on;
use super::{Common, Failure};
use anyhow::anyhow;
use clap::Subcommand;

/// Try out receivers.
#[derive(Debug, Subcommand)]
pub enum Notifications {
    /// Send a firing and a resolved test alert to a receiver of the configuration, and say what it answered.
    Test {
        /// The receiver's name in `notify:` or in the Alertmanager file.
        receiver: String,
    },
}

impl Notifications {
    /// Sends and reports.
    pub fn run(&self, common: &Common) -> Result<(), Failure> {
        let Self::Test { receiver } = self;
        let (_, parts) = super::check::build(common)?;
        let names = parts.routing.receiver_names();
        if !names.iter().any(|name| name == receiver) {
            let nearest = crate::config::diagnostic::nearest(receiver, names.iter().map(String::as_str));
            let hint = nearest.map_or_else(|| format!("configured: {}", names.join(", ")), |name| format!("did you mean {name:?}?"));
            return Err(Failure::Configuration(format!("no receiver is called {receiver:?}; {hint}")));
        }
        let now = crate::telemetry::clock::now();
        let outcome = block_on(async { Ok(crate::notify::test_message(&parts.routing, receiver, now).await) })?;
        println!("{}", outcome.text);
        if outcome.delivered { Ok(()) } else { Err(Failure::Runtime(anyhow!("the receiver {receiver:?} did not take the message"))) }
    }
}
