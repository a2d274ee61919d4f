//! `watchdog:`, the dead man's switch, and `notify: {flapping: ...}`.

use super::notify::url;
use crate::config::Diagnostics;
use crate::config::reader::{self, MapReader};
use crate::config::schema::{FlappingConfig, WatchdogConfig};
use crate::config::yaml::{Kind, Node};

/// How often it is pinged unless configured, in milliseconds.
const EVERY_MS: i64 = 60_000;

/// Reads `watchdog:`.
pub(super) fn read(map: &mut MapReader<'_, '_>) -> Option<WatchdogConfig> {
    let node = map.get("watchdog")?;
    let mut map = MapReader::new(node, "watchdog", map.found())?;
    let url = url(&mut map);
    let every = map.duration_ms("every");
    if let Some(every) = every.as_ref().filter(|every| every.value < 1_000) {
        map.found().error(&every.span, "every: it must be at least 1s");
    }
    let post = map.one_of("method", &[("GET", false), ("POST", true)]);
    map.finish();
    Some(WatchdogConfig {
        url: url?,
        every_ms: every.map_or(EVERY_MS, |every| every.value),
        post: post.is_some_and(|post| post.value),
    })
}

/// Reads `flapping:` of `notify:`; `None` when the entry is a receiver of that name.
pub(super) fn flapping(node: &Node, found: &mut Diagnostics) -> Option<FlappingConfig> {
    if matches!(node.kind, Kind::Scalar { .. }) {
        // `off` is how people say it; to YAML 1.2 it is a text.
        if matches!(node.as_str(), Some("off" | "no")) {
            return Some(FlappingConfig::Off);
        }
        let wanted = reader::boolean(node, "flapping", found)?;
        return Some(if wanted.value { FlappingConfig::Default } else { FlappingConfig::Off });
    }
    let mut map = MapReader::new(node, "flapping", found)?;
    let changes = map.integer("changes", 2..=1_000);
    let window = map.duration_ms("window");
    let steady = map.duration_ms("steady");
    for time in [&window, &steady].into_iter().flatten().filter(|time| time.value <= 0) {
        map.found().error(&time.span, "it must be longer than nothing, for example 10m");
    }
    map.finish();
    Some(FlappingConfig::On {
        changes: changes.map_or(6, |changes| changes.value as usize),
        window_ms: window.map_or(600_000, |window| window.value),
        steady_ms: steady.map_or(300_000, |steady| steady.value),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::schema::SecretSource;
    use crate::config::{Config, Overrides, load_text, show};

    fn load(text: &str) -> (Option<Config>, String) {
        let (config, found) = load_text("t.yaml", text, &Default::default(), &Overrides::default());
        (config, found.to_string())
    }

    #[test]
    fn the_watchdog_is_read_and_shown_without_its_address() {
        let (config, found) = load("watchdog: {url: 'https://hc.example/ping/token', every: 30s, method: POST}\n");
        assert_eq!(found, "");
        let config = config.unwrap();
        let dog = config.watchdog.clone().unwrap();
        assert_eq!((dog.every_ms, dog.post), (30_000, true));
        let shown = show(&config);
        assert!(shown.contains("watchdog:\n  url: \"<secret>\"\n  every: 30s\n  method: POST\n"), "{shown}");
        assert!(!shown.contains("token"));
        let (config, _) = load("watchdog: {url_file: /run/secrets/dog}\n");
        let dog = config.unwrap().watchdog.unwrap();
        assert!(matches!(&dog.url, SecretSource::File(path) if path.value == "/run/secrets/dog"));
        assert_eq!((dog.every_ms, dog.post), (EVERY_MS, false));
    }

    #[test]
    fn flapping_is_a_mapping_or_a_switch_and_no_receiver() {
        let check = |text: &str, expected: FlappingConfig| {
            let (config, found) = load(&format!("notify: {{screen: terminal, flapping: {text}}}\n"));
            assert_eq!(found, "", "{text}");
            let config = config.unwrap();
            assert_eq!((config.notify.flapping, config.notify.receivers.len()), (expected, 1), "{text}");
            let (again, found) = load(&show(&config));
            assert_eq!((again.unwrap().notify.flapping, found.as_str()), (expected, ""), "{text}");
        };
        let on = |changes, window_ms, steady_ms| FlappingConfig::On { changes, window_ms, steady_ms };
        check("{changes: 4, window: 1m, steady: 30s}", on(4, 60_000, 30_000));
        check("{}", on(6, 600_000, 300_000));
        check("false", FlappingConfig::Off);
        check("off", FlappingConfig::Off);
        check("true", FlappingConfig::Default);
    }

    #[test]
    fn mistakes_are_told_with_their_place() {
        for (text, message) in [
            ("watchdog: {every: 1m}\n", "t.yaml:1:11"),
            ("watchdog: {url: 'ftp://x'}\n", "url: not an address that begins with http:// or https://"),
            ("watchdog: {url: 'http://x', every: 10ms}\n", "every: it must be at least 1s"),
            ("watchdog: {url: 'http://x', evry: 10s}\n", "did you mean \"every\"?"),
            ("watchdog: {url: 'http://x', method: PUT}\n", "t.yaml:1:37"),
            ("notify: {flapping: {changes: 1}}\n", "t.yaml:1:30"),
            ("notify: {flapping: {windw: 1m}}\n", "did you mean \"window\"?"),
        ] {
            let (_, found) = load(text);
            assert!(found.contains("error") && found.contains(message), "{text}: {found}");
        }
    }
}
