//! What the tests of every source's keys ask: which mistakes are found, and whether what is shown reads back.

use crate::config::schema::Config;
use crate::config::{Overrides, load_text, show};

fn load(name: &str, text: &str) -> (Option<Config>, Vec<String>) {
    let (config, found) = load_text(name, text, &Default::default(), &Overrides::default());
    let said = found.to_string();
    let errors = said.lines().filter_map(|line| line.split_once("error: ").map(|(_, message)| message.to_owned()));
    (config, errors.collect())
}

/// The errors that are found in a source, without the lines that show the place.
#[track_caller]
pub fn check(source: &str, expected: &[&str]) {
    let (_, errors) = load("t.yaml", &format!("sources: {{s: {source}}}"));
    assert_eq!(errors, expected, "{source}");
}

/// As [`check`]; a source without a mistake is also shown and read back. Not for secrets, which are not shown.
#[track_caller]
pub fn check_and_show(source: &str, expected: &[&str]) {
    check(source, expected);
    if expected.is_empty() {
        let (config, _) = load("t.yaml", &format!("sources: {{s: {source}}}"));
        let config = config.unwrap();
        let shown = show(&config);
        let (again, errors) = load("shown.yaml", &shown);
        assert_eq!(errors, [""; 0], "{shown}");
        assert_eq!(config.sources, again.unwrap().sources, "{shown}");
    }
}
