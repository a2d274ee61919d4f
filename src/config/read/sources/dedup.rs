//! `dedup:` beside a source's transport.

use crate::config::reader::MapReader;
use crate::config::schema::DEDUP_WINDOW;

/// Some megabytes of memory each; a window is written into the state folder whole each minute.
const LARGEST_WINDOW: i64 = 10_000_000;

/// `dedup: true`, `false` or `{by: id, window: 100000}`: how many events are remembered, 0 for none; `None` when the key
/// is absent.
pub(super) fn dedup(map: &mut MapReader<'_, '_>) -> Option<usize> {
    let node = map.get("dedup")?;
    match node.as_str() {
        Some("true") => return Some(DEDUP_WINDOW),
        Some("false") => return Some(0),
        _ => {}
    }
    let mut inner = MapReader::new(node, "dedup", map.found())?;
    inner.one_of("by", &[("id", ())]);
    let window = inner.integer("window", 1..=LARGEST_WINDOW);
    inner.finish();
    Some(window.map_or(DEDUP_WINDOW, |window| window.value as usize))
}
