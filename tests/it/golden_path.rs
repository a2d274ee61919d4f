//! What a newcomer does in the first five minutes.

use crate::browser::Browser;
use crate::harness::{Sidewatch, eventually};

/// Start the demo, open the page: an alert appears on it and resolves within a minute.
#[test]
fn the_demo_shows_an_alert_that_appears_and_resolves_on_the_page() {
    let dir = tempfile::tempdir().unwrap();
    let demo = Sidewatch::start(dir.path(), "demo", &[]);
    let mut browser = Browser::open(&format!("http://127.0.0.1:{}/", demo.observe));
    let firing = eventually("a firing alert on the page", 40, || {
        let name = browser.eval("document.querySelector('[data-alert][data-state=firing]')?.dataset.alert ?? ''");
        name.as_str().filter(|name| !name.is_empty()).map(String::from)
    });
    if let Some(folder) = std::env::var_os("SIDEWATCH_SCREENSHOTS") {
        browser.screenshot(&std::path::Path::new(&folder).join("page-firing.png"));
    }
    let said = |word: &str| demo.out().lines().any(|line| line.starts_with(word) && line.contains(&firing));
    eventually("the terminal says so too", 5, || said("FIRING").then_some(()));
    eventually("the same alert resolved on the page", 60, || {
        let script = format!("!!document.querySelector('[data-alert=\"{firing}\"][data-state=resolved]')");
        browser.eval(&script).as_bool().filter(|found| *found)
    });
    eventually("the terminal says that it resolved", 5, || said("RESOLVED").then_some(()));
    let text = browser.text();
    assert!(text.contains("events/s") && text.contains("Latency"), "live rate and latency: {text}");
    assert_eq!(browser.errors, Vec::<String>::new(), "errors of the page");
}
