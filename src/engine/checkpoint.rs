//! The checkpoint's content: one envelope with the state of every part and the transport positions it stands for.

use super::Core;
use crate::model::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The layout: the envelope, and behind it [`Sections`]. A blob of another version is refused, but for the one before.
const VERSION: u8 = 3;
/// Behind the envelope stand the posted alerts alone.
const POSTED_ONLY: u8 = 2;

/// Where the quarantine stands among the positions; no source is named so. Versions that know none leave it alone.
const QUARANTINE: &str = "\0quarantine";

/// Why a checkpoint cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    /// Written by another version.
    #[error(
        "the checkpoint has version {found}, this sidewatch reads version {VERSION}; move the state folder away to start afresh"
    )]
    Version {
        /// The version found.
        found: u8,
    },
    /// Not readable.
    #[error("the checkpoint's {part} cannot be read: {reason}; move the state folder away to start afresh")]
    Content {
        /// Which part.
        part: &'static str,
        /// Why.
        reason: String,
    },
}

/// One checkpoint: series as a delta or whole, everything else whole (it is small).
#[derive(Debug, Serialize, Deserialize)]
struct Envelope {
    at: Timestamp,
    series: Vec<u8>,
    mappings: Vec<u8>,
    checks: Vec<u8>,
    rules: Vec<u8>,
    notifier: Vec<u8>,
    /// The outbox with everything that the notifier has decided: what stands here as told is told, or will be.
    outbox: Vec<u8>,
    positions: BTreeMap<Arc<str>, Vec<u8>>,
}

/// What stands behind the envelope, by name: parts that not every core has. What is empty is left out.
type Sections = BTreeMap<String, Vec<u8>>;
const POSTED: &str = "posted alerts";
const DEDUP: &str = "deduplication window";

/// What a restored core tells its driver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// When the last checkpoint was taken.
    pub at: Timestamp,
    /// The outbox at that time.
    pub outbox: Vec<u8>,
}

impl Core {
    /// What changed since the last snapshot (or everything, when `full`), with the positions it stands for. `outbox` is
    /// the outbox with all messages decided so far: a message goes out only after a checkpoint that holds it, so that
    /// nobody is told of what a restart would have forgotten.
    pub fn snapshot(&mut self, full: bool, outbox: Vec<u8>) -> Vec<u8> {
        let engine = &mut self.engine;
        let mut positions = engine.positions.clone();
        if engine.quarantine.total() > 0 {
            positions.insert(QUARANTINE.into(), engine.quarantine.snapshot(full));
        }
        let envelope = Envelope {
            at: engine.now,
            series: engine.store.delta(full),
            mappings: engine.mappings.snapshot(),
            checks: engine.checks.snapshot(),
            rules: engine.rules.snapshot(engine.now),
            notifier: self.notifier.snapshot(),
            outbox,
            positions,
        };
        let sections = [(POSTED, self.posted.snapshot()), (DEDUP, engine.dedup.snapshot(full))];
        let sections: Sections =
            sections.into_iter().filter(|(_, bytes)| !bytes.is_empty()).map(|(name, it)| (name.into(), it)).collect();
        let blob = postcard::to_extend(&envelope, vec![VERSION]).unwrap_or_default();
        postcard::to_extend(&sections, blob).unwrap_or_default()
    }

    /// Restores a fresh core from checkpoints in their order (one whole, then deltas).
    ///
    /// # Errors
    /// [`RestoreError`]; the core is then not usable.
    pub fn restore(&mut self, blobs: &[Vec<u8>], now: Timestamp) -> Result<Option<Restored>, RestoreError> {
        let content = |part| move |reason: String| RestoreError::Content { part, reason };
        let (mut last, mut posted) = (None, Vec::new());
        for blob in blobs {
            let (version, rest) = match blob.split_first() {
                Some((&version @ (VERSION | POSTED_ONLY), rest)) => (version, rest),
                found => return Err(RestoreError::Version { found: found.map_or(0, |(version, _)| *version) }),
            };
            let (mut envelope, rest): (Envelope, _) =
                postcard::take_from_bytes(rest).map_err(|error| content("envelope")(error.to_string()))?;
            let mut sections = match version {
                POSTED_ONLY => Sections::from([(POSTED.to_owned(), rest.to_vec())]),
                _ => postcard::from_bytes(rest).map_err(|error| content("sections")(error.to_string()))?,
            };
            let mut section = |name| sections.remove(name).unwrap_or_default();
            let (rest, dedup) = (section(POSTED), section(DEDUP));
            if let Some(name) = sections.keys().next() {
                let reason = format!("nothing here is called {name:?}; a later sidewatch wrote it");
                return Err(content("sections")(reason));
            }
            self.engine.dedup.restore(&dedup).map_err(content(DEDUP))?;
            self.engine.store.restore(&envelope.series).map_err(|error| content("series")(error.to_string()))?;
            if let Some(quarantine) = envelope.positions.remove(QUARANTINE) {
                self.engine.quarantine.restore(&quarantine).map_err(content("quarantine"))?;
            }
            (last, posted) = (Some(envelope), rest);
        }
        let Some(envelope) = last else { return Ok(None) };
        let engine = &mut self.engine;
        let now = engine.advance(now.max(envelope.at));
        engine.mappings.declare(&mut engine.store, now);
        engine.mappings.restore(&envelope.mappings).map_err(content("mappings"))?;
        engine.checks.restore(&envelope.checks, now).map_err(content("health checks"))?;
        engine.checks.keep_reported(now, |source| engine.sources.contains_key(source));
        engine.rules.restore(&envelope.rules, now).map_err(|error| content("rules")(error.to_string()))?;
        self.notifier.restore(&envelope.notifier, now).map_err(content("notification log"))?;
        self.posted.restore(&posted, envelope.at, now).map_err(content("posted alerts"))?;
        engine.positions = envelope.positions;
        engine.end_unknown_sources(now);
        Ok(Some(Restored { at: envelope.at, outbox: envelope.outbox }))
    }
}
