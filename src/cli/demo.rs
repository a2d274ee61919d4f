//! `sidewatch demo`: the five-minute story.

use super::run::{block, start_logging};
use super::{Common, Failure};
use crate::api::Addresses;
use crate::app::Configured;
use crate::config::load_text;
use crate::source::demo::CONFIG;
use clap::Args;

/// A shop's event stream with faults: alerts fire and resolve within a minute.
#[derive(Debug, Args)]
pub struct Demo {
    /// Print the configuration of the demo, to start one's own from.
    #[arg(long)]
    print_config: bool,
}

impl Demo {
    /// Runs the shop until Ctrl-C.
    pub fn run(&self, common: &Common) -> Result<(), Failure> {
        if self.print_config {
            print!("{CONFIG}");
            return Ok(());
        }
        // What a newcomer should see are the alerts, not the log.
        start_logging(common.log.clone().or_else(|| Some("warn".into())))?;
        let env =
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        let (config, found) = load_text("demo.yaml", CONFIG, &env.collect(), &common.overrides());
        block(Configured::new(config, found, None)?, |started| println!("{}", greeting(&started.addresses)))
    }
}

fn greeting(addresses: &Addresses) -> String {
    let Addresses { observe, ingest } = addresses;
    format!(
        "\
A shop is open: orders, payments, stock, workers. Every 15 s or so something goes wrong and mends itself;
its alerts appear here as they fire and resolve.

  The page:  http://{observe}/
  Health:    curl http://{observe}/health
  Metrics:   curl http://{observe}/metrics

Three things to try next, in another terminal:
  1. Send an event of your own:   curl http://{ingest}/events -d '{{\"type\":\"payment.failed\",\"id\":\"1\",\"payload\":{{\"amount\":99}}}}'
  2. Ask in PromQL:               sidewatch query 'sum by (type) (rate(events_total[1m]))'
  3. Make it yours:               sidewatch demo --print-config > sidewatch.yaml; sidewatch check; sidewatch run

Ctrl-C ends it.
"
    )
}
