//! `sidewatch test rules|promql FILE...`.

use super::Failure;
use anyhow::{Context, anyhow};
use clap::Subcommand;
use std::path::PathBuf;

/// Run tests of rules or PromQL.
#[derive(Debug, Subcommand)]
pub enum Test {
    /// Unit tests of rules in promtool's format.
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
            Self::Rules { files } => {
                let report = crate::rules::unit_test::run(files);
                (report.passed, report.failures)
            }
            Self::Promql { files } => {
                let (mut passed, mut failures) = (0, Vec::new());
                for file in files {
                    let text = std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
                    let report = crate::promql::testing::run_file(&file.display().to_string(), &text);
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
