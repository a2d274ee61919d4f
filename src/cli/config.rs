//! `sidewatch config show|schema`.

use super::{Common, Failure};
use clap::Subcommand;

/// The effective configuration, or the schema of the file.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// The configuration with all layers applied, secrets hidden, and what the short forms become: PromQL and routes.
    Show,
    /// The JSON Schema of sidewatch.yaml, for editors.
    Schema,
}

impl ConfigCommand {
    /// Prints what was asked for.
    pub fn run(&self, common: &Common) -> Result<(), Failure> {
        match self {
            Self::Schema => println!("{}", crate::config::json_schema()),
            Self::Show => {
                let (config, parts) = super::check::build(common)?;
                println!("{}", crate::config::show(&config));
                println!("{}", parts.compiled_forms());
            }
        }
        Ok(())
    }
}
