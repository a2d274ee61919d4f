//! `sidewatch notifications test RECEIVER`.

use super::client::block_on;
use super::{Common, Failure};
use crate::notify::{Courier, Terminal, test_message};
use crate::telemetry::clock;
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
        let (config, parts) = super::check::load(common)?;
        let courier = Courier::new(Terminal::new(false, |lines| print!("{lines}")), config.external_url.as_str());
        let results = block_on(async { Ok(test_message(&parts.routing, receiver, &courier, clock::now()).await) })?
            .map_err(Failure::Configuration)?;
        for result in &results {
            let word = if result.delivered { "delivered" } else { "NOT delivered" };
            println!("{} {:?}: {word}: {}", result.integration, result.status, result.text);
        }
        if results.iter().all(|result| result.delivered) {
            Ok(())
        } else {
            Err(Failure::Runtime(anyhow!("the receiver {receiver:?} did not take the message")))
        }
    }
}
