//! The only place where all rooms meet: build, run, reload, drain.
//!
//! Around the core stand tasks: sources push into the bounded queue, the core task drives [`crate::engine::Core`], a worker
//! thread evaluates, one task writes checkpoints, one task a receiver delivers, two listeners serve. Every task has a name
//! and a stage of the shutdown (`supervise`): sources stop first, then the core, then the notifier, the listeners last.

mod build;
mod checkpoints;
mod core_task;
mod evaluate;
mod exports;
mod history;
mod lint;
mod privacy;
mod probes;
mod publishing;
mod reload;
pub mod rule_test;
mod run;
mod sources;
mod upkeep;
mod watch;
mod watchdog;

pub use build::{build, files_matching, rule_files};
pub use lint::{lint, memory};
pub use run::{Configured, ReadAgain, RunError, Started, run};

pub use crate::engine::Parts;
