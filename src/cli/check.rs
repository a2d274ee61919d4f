//! `sidewatch check [FILE]`: builds everything, binds nothing.

use super::{Common, Failure};
use crate::app::{Configured, Parts};
use crate::config::{Config, load_from_system};
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
        let (config, parts) = load(&common)?;
        println!("{}", summary(&config, &parts));
        Ok(())
    }
}

/// Loads the configuration and builds everything that can be built without binding; warnings are printed.
///
/// # Errors
/// Every finding as one text, when at least one is an error.
pub fn load(common: &Common) -> Result<(Config, Parts), Failure> {
    let (config, found) = load_from_system(common.config.as_deref(), &common.overrides());
    let Configured { config, found, parts, .. } = Configured::new(config, found, None)?;
    eprint!("{found}");
    Ok((config, parts))
}

fn summary(config: &Config, parts: &Parts) -> String {
    let count = |number: usize, one: &str, many: &str| format!("{number} {}", if number == 1 { one } else { many });
    let files: Vec<String> = config.files.iter().map(|file| file.display().to_string()).collect();
    let rules: usize = parts.rule_set.groups.iter().map(|group| group.rules.len()).sum();
    let mut text = format!(
        "{}: {}, {}, {}, {}, {}, {}",
        if files.is_empty() { "no configuration file, defaults".into() } else { files.join(", ") },
        count(parts.sources.len(), "source", "sources"),
        count(parts.mappings.metrics().count(), "metric", "metrics"),
        count(config.health.len(), "health check", "health checks"),
        count(rules, "rule", "rules"),
        count(parts.rule_set.events.len(), "event condition", "event conditions"),
        count(parts.routing.receivers().len(), "receiver", "receivers"),
    );
    for line in parts.routing.describe() {
        text.push_str("\n  ");
        text.push_str(&line);
    }
    text.push_str("\nok");
    text
}
