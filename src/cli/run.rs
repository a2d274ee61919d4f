//! `sidewatch run`.

use super::{Common, Failure};
use crate::api::Addresses;
use crate::app::{self, Configured, Started};
use crate::config::load_from_system;
use crate::telemetry::logging::{LogFormat, LogOptions, init};
use std::io::IsTerminal;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Watches until a signal ends it.
pub fn run(common: &Common) -> Result<(), Failure> {
    start_logging(common.log.clone())?;
    let (file, overrides) = (common.config.clone(), common.overrides());
    let (config, found) = load_from_system(file.as_deref(), &overrides);
    let again = move || load_from_system(file.as_deref(), &overrides);
    let configured = Configured::new(config, found, Some(Box::new(again)))?;
    let without_file = configured.config.files.is_empty();
    block(configured, move |started| {
        if std::io::stdout().is_terminal() {
            println!("{}", greeting(&started.addresses, without_file));
        }
    })
}

/// Sets up the log.
pub(super) fn start_logging(level: Option<String>) -> Result<(), Failure> {
    init(&LogOptions { level, format: LogFormat::Auto }).map_err(|error| Failure::Configuration(error.to_string()))
}

/// Runs on a runtime of its own. What blocks at the end (standard input) is left behind.
pub(super) fn block(configured: Configured, greet: impl FnOnce(Started) + Send) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Failure::Runtime(anyhow::anyhow!(error).context("starting the async runtime")))?;
    let outcome = runtime.block_on(app::run(configured, greet, CancellationToken::new()));
    runtime.shutdown_timeout(Duration::from_millis(100));
    Ok(outcome?)
}

fn greeting(addresses: &Addresses, without_file: bool) -> String {
    let Addresses { observe, ingest } = addresses;
    let mut text = format!("sidewatch is watching. Page: http://{observe}/   events: POST http://{ingest}/events");
    if without_file {
        text.push_str("\nNo configuration file: automatic metrics, bundled rules, alerts on this terminal.");
        text.push_str("\nTry: sidewatch send order.completed amount=12.5 region=eu");
    }
    text
}
