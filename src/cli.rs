//! The command line: one file a command.
//!
//! A command returns [`Failure`] when it fails; `main` maps it to the exit code and nothing else does.

mod alerts;
mod check;
mod client;
mod config;

mod demo;
mod events;
mod notifications;
mod query;
mod run;
mod send;
mod silence;
mod test;

use crate::config::Overrides;
use clap::{Parser, Subcommand};
use std::fmt;
use std::path::PathBuf;
use std::process::ExitCode;

/// Watches a service's event stream: metrics, health, alerts.
#[derive(Debug, Parser)]
#[command(
    name = "sidewatch",
    version,
    about,
    propagate_version = true,
    subcommand_required = true,
    arg_required_else_help = true
)]
struct Arguments {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

/// Flags that every command takes.
#[derive(Clone, Debug, clap::Args)]
pub struct Common {
    /// The configuration file; without it ./sidewatch.yaml, without that the defaults.
    #[arg(long, short, global = true, value_name = "FILE", env = "SIDEWATCH_CONFIG")]
    pub config: Option<PathBuf>,
    /// What to log: error, warn, info, debug, trace, or a filter such as `info,sidewatch::source=debug`.
    #[arg(long, global = true, value_name = "LEVEL")]
    pub log: Option<String>,
    /// Where /health, /metrics, the API and the page are served (default 127.0.0.1:9180).
    #[arg(long, global = true, value_name = "ADDRESS")]
    pub listen_observe: Option<String>,
    /// Where events are pushed (default 127.0.0.1:9181).
    #[arg(long, global = true, value_name = "ADDRESS")]
    pub listen_ingest: Option<String>,
    /// The folder for state that survives a restart; without it everything is in memory.
    #[arg(long, global = true, value_name = "FOLDER")]
    pub state_dir: Option<String>,
    /// development, production (the default) or testing.
    #[arg(long, global = true, value_name = "PROFILE")]
    pub profile: Option<String>,
}

impl Common {
    fn overrides(&self) -> Overrides {
        Overrides {
            profile: self.profile.clone(),
            listen_observe: self.listen_observe.clone(),
            listen_ingest: self.listen_ingest.clone(),
            state_dir: self.state_dir.clone(),
            ..Overrides::default()
        }
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Watch: take events, serve metrics, health and the page, send notifications.
    Run,
    /// A shop's event stream with faults: alerts fire and resolve within a minute.
    Demo(demo::Demo),
    /// Build everything, bind nothing, say everything that is wrong.
    Check(check::Check),
    /// Ask a running sidewatch in PromQL.
    Query(query::Query),
    /// What alerts there are, why, and what happened to them.
    Alerts(alerts::Alerts),
    /// Send events to a running sidewatch.
    Send(send::Send),
    /// Silence alerts of a running sidewatch: add, list, expire, show.
    #[command(subcommand)]
    Silence(silence::Silence),
    /// Messages on their way, dead letters; try out receivers.
    #[command(subcommand)]
    Notifications(notifications::Notifications),
    /// What came in, and what was refused and why.
    #[command(subcommand)]
    Events(events::Events),
    /// The effective configuration, or the schema of the file.
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Run tests of rules (promtool's format) or PromQL scripts (Prometheus's format).
    #[command(subcommand)]
    Test(test::Test),
}

/// Why a command failed.
#[derive(Debug)]
pub enum Failure {
    /// The configuration or the arguments are wrong: exit code 2. The text is complete.
    Configuration(String),
    /// Something failed while running: exit code 1.
    Runtime(anyhow::Error),
}

impl From<crate::app::RunError> for Failure {
    fn from(error: crate::app::RunError) -> Self {
        match error {
            crate::app::RunError::Configuration(text) => Self::Configuration(text + "; nothing was started"),
            crate::app::RunError::Runtime(error) => Self::Runtime(error),
        }
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Runtime(error)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Configuration(text) => f.write_str(text.trim_end()),
            Self::Runtime(error) => write!(f, "sidewatch: {error:#}"),
        }
    }
}

/// Parses the arguments, runs the command, gives the exit code.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let common = arguments.common;
    let outcome = match arguments.command {
        Command::Run => run::run(&common),
        Command::Demo(command) => command.run(&common),
        Command::Check(command) => command.run(&common),
        Command::Query(command) => command.run(&common),
        Command::Alerts(command) => command.run(&common),
        Command::Send(command) => command.run(&common),
        Command::Silence(command) => command.run(&common),
        Command::Notifications(command) => command.run(&common),
        Command::Events(command) => command.run(&common),
        Command::Config(command) => command.run(&common),
        Command::Test(command) => command.run(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::from(if matches!(failure, Failure::Configuration(_)) { 2 } else { 1 })
        }
    }
}
