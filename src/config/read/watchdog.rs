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
