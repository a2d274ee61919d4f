use super::run_file;
use std::path::{Path, PathBuf};

/// Where Prometheus's own scripts are; they are not part of the repository.
fn corpus() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/promql-conformance");
    let found = std::env::var_os("SIDEWATCH_PROMQL_CORPUS").map_or(beside, PathBuf::from);
    if found.is_dir() {
        return Some(found);
    }
    let required = std::env::var("CI").is_ok_and(|value| value == "true");
    assert!(!required, "the corpus of PromQL tests is not at {}", found.display());
    println!("the corpus of PromQL tests is not at {}: only our own scripts run", found.display());
    None
}

#[test]
fn the_corpus_of_prometheus_passes() {
    let Some(folder) = corpus() else {
        return;
    };
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "test"));
    files.sort();
    let (mut passed, mut failures) = (0, Vec::new());
    for path in files {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let report = run_file(&name, &std::fs::read_to_string(&path).unwrap());
        println!("{name}: {} passed, {} failed", report.passed, report.failed);
        passed += report.passed;
        failures.extend(report.failures);
    }
    println!("{passed} passed, {} failed", failures.len());
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(passed > 2_000, "the corpus has 2,214 evaluations, but only {passed} were found");
}
