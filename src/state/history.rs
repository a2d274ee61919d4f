//! The journal's rows: appending inside somebody's transaction, pruning, finding.

use super::{HistoryEntry, HistoryQuery, Retention};
use crate::model::Timestamp;
use crate::telemetry::self_metrics;
use rusqlite::{Connection, Result, Transaction, params};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashSet};

/// Appends and prunes. Age is counted from the newest line's own time, for this room has no clock.
///
/// A line that stands there already, to the microsecond and the byte, is left out: two writers may both hold a line until
/// one of them has heard that it is stored.
pub(super) fn append(transaction: &Transaction<'_>, entries: &[HistoryEntry], retention: Retention) -> Result<()> {
    let Some(newest) = entries.iter().map(|entry| entry.at.micros()).max() else { return Ok(()) };
    // Asked once for each moment, not for each line: a storm's lines share their moment.
    let mut known: BTreeMap<i64, HashSet<(String, String, String)>> = BTreeMap::new();
    for entry in entries {
        let at_us = entry.at.micros();
        if let Entry::Vacant(place) = known.entry(at_us) {
            let stored = transaction
                .prepare_cached("SELECT kind, key, body FROM history WHERE at_us = ?1")?
                .query_map([at_us], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
                .collect::<Result<_>>()?;
            place.insert(stored);
        }
        let line = (entry.kind.clone(), entry.key.clone(), entry.body.clone());
        if known.get_mut(&at_us).is_some_and(|lines| lines.insert(line)) {
            transaction
                .prepare_cached("INSERT INTO history (at_us, kind, key, body) VALUES (?1, ?2, ?3, ?4)")?
                .execute(params![at_us, entry.kind, entry.key, entry.body])?;
        }
    }
    let oldest = newest.saturating_sub(retention.age_ms.saturating_mul(1_000));
    transaction.prepare_cached("DELETE FROM history WHERE at_us < ?1")?.execute([oldest])?;
    // Numbers only grow, so that the newest so many are those above the highest number less so many.
    let crowded_out = transaction
        .prepare_cached("DELETE FROM history WHERE id <= (SELECT max(id) FROM history) - ?1")?
        .execute([i64::try_from(retention.rows).unwrap_or(i64::MAX)])?;
    if crowded_out > 0 {
        self_metrics::history_lost("crowded_out").increment(crowded_out as u64);
    }
    Ok(())
}

/// The lines of a query, newest first.
pub(super) fn find(connection: &Connection, query: &HistoryQuery) -> Result<Vec<HistoryEntry>> {
    // The text is looked for before the document is taken apart: most lines are about other rules.
    let quoted = query.rule.as_ref().and_then(|rule| serde_json::to_string(rule).ok());
    connection
        .prepare_cached(
            "SELECT at_us, kind, key, body FROM history WHERE at_us BETWEEN ?1 AND ?2 \
             AND (?3 IS NULL OR kind = ?3) AND (?4 IS NULL OR key = ?4) \
             AND (?6 IS NULL OR (kind = 'alert' AND key = ?6) OR (kind = 'notification' AND instr(body, ?7) > 0 \
                  AND EXISTS (SELECT 1 FROM json_each(body, '$.rules') WHERE value = ?6))) \
             ORDER BY at_us DESC, id DESC LIMIT ?5",
        )?
        .query_map(
            params![
                query.from.micros(),
                query.to.micros(),
                query.kind,
                query.key,
                i64::try_from(query.limit).unwrap_or(i64::MAX),
                query.rule,
                quoted,
            ],
            |row| {
                Ok(HistoryEntry {
                    at: Timestamp::from_micros(row.get(0)?),
                    kind: row.get(1)?,
                    key: row.get(2)?,
                    body: row.get(3)?,
                })
            },
        )?
        .collect()
}
