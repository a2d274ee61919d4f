//! `sidewatch check [FILE]`: builds everything, binds nothing.

use super::{Common, Failure};
use crate::app::{Configured, Parts, build, lint, memory};
use crate::config::{Config, Diagnostics, Level, load_from_system};
use crate::source::guarantee;
use clap::Args;
use serde_json::json;
use std::io::Write;
use std::path::PathBuf;

/// Build everything, bind nothing, say everything that is wrong.
#[derive(Debug, Args)]
pub struct Check {
    /// The configuration file (like --config).
    file: Option<PathBuf>,
    /// Print the findings as a JSON array of {level, file, line, column, message, hint}.
    #[arg(long)]
    json: bool,
}

impl Check {
    /// Checks and prints a summary.
    pub fn run(&self, common: &Common) -> Result<(), Failure> {
        let mut common = common.clone();
        common.config = self.file.clone().or(common.config);
        let (config, found) = load_from_system(common.config.as_deref(), &common.overrides());
        if self.json {
            return json_findings(config.as_ref(), found);
        }
        let Configured { config, mut found, parts, .. } = Configured::new(config, found, None)?;
        lint(&config, &parts, &mut found);
        found.sort();
        eprint!("{found}");
        println!("{}", summary(&config, &parts));
        Ok(())
    }
}

/// Prints the findings for programs; errors fail as they do in the text.
fn json_findings(config: Option<&Config>, mut found: Diagnostics) -> Result<(), Failure> {
    let parts = config.and_then(|config| build(config, &mut found));
    if let (Some(config), Some(parts), false) = (config, &parts, found.has_errors()) {
        lint(config, parts, &mut found);
    }
    found.sort();
    let findings: Vec<_> = found
        .iter()
        .map(|finding| {
            json!({
                "level": if finding.level == Level::Error { "error" } else { "warning" },
                "file": &*finding.span.file,
                "line": finding.span.line,
                "column": finding.span.column,
                "message": finding.message,
                "hint": finding.hint,
            })
        })
        .collect();
    writeln!(std::io::stdout(), "{:#}", json!(findings)).map_err(anyhow::Error::from)?;
    match found.has_errors() || parts.is_none() {
        true => Err(Failure::Configuration("the configuration has errors".into())),
        false => Ok(()),
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
    for source in &parts.sources {
        text.push_str(&format!("\n  source {}: {}", source.name, guarantee(&source.config.transport)));
    }
    for line in parts.routing.describe() {
        text.push_str("\n  ");
        text.push_str(&line);
    }
    text.push_str("\nok");
    for line in memory(config, parts) {
        text.push('\n');
        text.push_str(&line);
    }
    text.push_str(&format!(
        "\n{}, {}, {}",
        count(rules, "rule", "rules"),
        count(parts.routing.routes().len(), "route", "routes"),
        count(parts.routing.receivers().len(), "receiver", "receivers"),
    ));
    text
}
