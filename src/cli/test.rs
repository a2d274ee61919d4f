//! `sidewatch test rules|promql FILE...`.

use super::Failure;
use crate::app::{files_matching, rule_test};
use crate::config::Diagnostics;
use crate::rules::{RuleFile, unit_test};
use anyhow::anyhow;
use clap::Subcommand;
use std::path::{Path, PathBuf};

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
        let folder = file.parent().unwrap_or(Path::new("")).to_owned();
        let rule_files = |pattern: &str| -> Vec<RuleFile> {
            let paths = files_matching(&folder, pattern).unwrap_or_default();
            let one = |path: PathBuf| {
                let text = std::fs::read_to_string(&path).ok()?;
                Some(RuleFile { name: path.display().to_string().into(), text: text.into() })
            };
            paths.into_iter().filter_map(one).collect()
        };
        let mut found = Diagnostics::new();
        let (name, text) = (file.display().to_string(), read(file)?);
        let test_file = unit_test::read(&name, &text, &mut Diagnostics::new());
        let report = match test_file.filter(|test_file| test_file.config.is_some()) {
            Some(test_file) => {
                // Read again for what is wrong with it: the other way reads for itself.
                unit_test::read(&name, &text, &mut found);
                rule_test::run(&name, &test_file, &folder, &mut found)
            }
            None => unit_test::run(&name, &text, &rule_files, &mut found),
        };
        if found.has_errors() {
            return Err(Failure::Configuration(found.to_string()));
        }
        for test in report.tests {
            if test.failures.is_empty() {
                passed += 1;
            } else {
                failures.push(format!("{}: {}\n    {}", test.file, test.name, test.failures.join("\n    ")));
            }
        }
    }
    Ok((passed, failures))
}
