//! `sidewatch test rules|promql FILE...`.

use super::Failure;
use crate::app::test_rules;
use anyhow::anyhow;
use clap::Subcommand;
use std::path::{Path, PathBuf};

/// Run tests of rules or PromQL.
#[derive(Debug, Subcommand)]
pub enum Test {
    /// Unit tests of rules in promtool's format; with `config:` also of mappings, the short form and notifications.
    Rules {
        /// Test files.
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// Scripts in the format of Prometheus's own PromQL tests.
    Promql {
        /// Test scripts.
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
}

impl Test {
    /// Runs the tests; the last line is `N passed, M failed`.
    pub fn run(&self) -> Result<(), Failure> {
        let (passed, failures) = match self {
            Self::Rules { files } => rules(files)?,
            Self::Promql { files } => {
                let (mut passed, mut failures) = (0, Vec::new());
                for file in files {
                    let report = crate::promql::testing::run_file(&file.display().to_string(), &read(file)?);
                    passed += report.passed;
                    failures.extend(report.failures);
                }
                (passed, failures)
            }
        };
        for failure in &failures {
            println!("{failure}");
        }
        println!("{passed} passed, {} failed", failures.len());
        if failures.is_empty() { Ok(()) } else { Err(Failure::Runtime(anyhow!("{} tests failed", failures.len()))) }
    }
}

fn read(file: &Path) -> Result<String, Failure> {
    let cannot = |error| Failure::Configuration(format!("{} cannot be read: {error}", file.display()));
    std::fs::read_to_string(file).map_err(cannot)
}

/// Runs test files; their patterns are relative to them. How many tests passed, and what the others said.
fn rules(files: &[PathBuf]) -> Result<(usize, Vec<String>), Failure> {
    let (mut passed, mut failures) = (0, Vec::new());
    for file in files {
        for test in test_rules(file).map_err(Failure::Configuration)?.tests {
            if test.failures.is_empty() {
                passed += 1;
            } else {
                let said = test.failures.join("\n").replace('\n', "\n    ");
                failures.push(format!("{}: {}: FAILED\n    {said}", test.file, test.name));
            }
        }
    }
    Ok((passed, failures))
}
