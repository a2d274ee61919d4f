//! `sidewatch check [FILE...]`: builds everything, binds nothing.

use super::{Common, Failure};
use crate::app::{self, Parts};
use crate::config::{self, Config};
use clap::Args;
use std::path::PathBuf;

/// Build everything, bind nothing, say everything that is wrong.
#[derive(Debug, Args)]
pub struct Check {
    /// The configuration file (like --config).
    file: Option<PathBuf>,
}

impl Check {
    /// Checks and prints a summary.
    pub fn run(&self, common: &Common) -> Result<(), Failure> {
        let mut common = common.clone();
        common.config = self.file.clone().or(common.config);
        let (config, parts) = build(&common)?;
        println!("{}", parts.summary(&config));
        Ok(())
    }
}

/// Loads the configuration and builds everything that can be built without binding.
///
/// # Errors
/// Every finding as one text, when at least one is an error. Warnings alone are printed.
pub fn build(common: &Common) -> Result<(Config, Parts), Failure> {
    let (config, mut found) = config::load_from_system(common.config.as_deref(), &common.overrides());
    let parts = config.as_ref().and_then(|config| app::build(config, &mut found));
    match (config, parts) {
        (Some(config), Some(parts)) if !found.has_errors() => {
            eprint!("{found}");
            Ok((config, parts))
        }
        _ => {
            let errors = found.iter().filter(|finding| finding.level == config::Level::Error).count();
            let plural = if errors == 1 { "error" } else { "errors" };
            Err(Failure::Configuration(format!("{found}{errors} {plural} in the configuration; nothing was started")))
        }
    }
}
