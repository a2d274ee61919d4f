//! `sidewatch config show|schema`.

use super::{Common, Failure};
use crate::app::Parts;
use crate::rules::slo;
use clap::Subcommand;
use std::fmt::Write;

/// The effective configuration, or the schema of the file.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// The configuration with all layers applied, secrets hidden, and what the short forms become: PromQL and routes.
    Show {
        /// Instead: the objectives (`slo:`) as a Prometheus rule file.
        #[arg(long)]
        slo_rules: bool,
        /// Instead: tests of that file, for `sidewatch test rules` and promtool.
        #[arg(long, conflicts_with = "slo_rules")]
        slo_tests: bool,
    },
    /// The JSON Schema of sidewatch.yaml, for editors.
    Schema,
}

impl ConfigCommand {
    /// Prints what was asked for.
    pub fn run(&self, common: &Common) -> Result<(), Failure> {
        match self {
            Self::Schema => println!("{}", crate::config::json_schema()),
            Self::Show { slo_rules: true, .. } => {
                print!("{}", slo::rules_yaml(&super::check::load(common)?.1.rule_set))
            }
            Self::Show { slo_tests: true, .. } => {
                print!("{}", slo::tests_yaml(&super::check::load(common)?.1.rule_set))
            }
            Self::Show { .. } => {
                let (config, parts) = super::check::load(common)?;
                print!("{}{}", crate::config::show(&config), compiled(&parts));
            }
        }
        Ok(())
    }
}

/// What the short forms become, as comments of the YAML before it.
fn compiled(parts: &Parts) -> String {
    let mut text = String::from("\n# Rules as they are evaluated:\n");
    for group in &parts.rule_set.groups {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "#   group {} of {}, every {} ms", group.name, group.file, group.interval_ms);
        for rule in &group.rules {
            let _ = writeln!(text, "#     {}: {}", rule.name, rule.expression.text());
        }
    }
    for rule in &parts.rule_set.events {
        let _ = writeln!(text, "#   on events: {}: {}", rule.name, rule.text);
    }
    for slo in &parts.rule_set.slos {
        let _ = writeln!(text, "#   objective: {}: {}", slo.name, slo.text);
    }
    text.push_str("# Routes:\n");
    for line in parts.routing.describe() {
        let _ = writeln!(text, "#   {line}");
    }
    text
}
