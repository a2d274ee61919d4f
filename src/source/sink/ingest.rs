//! What sources hand to the core, and how much room it takes.

use super::room::Need;
use crate::model::{EventBatch, Field};
use crate::source::SourceState;
use crate::source::counts::CountBatch;
use crate::source::decode::Decoder;
use crate::source::received::ReceivedBatch;
use crate::source::scrape::{ScrapeBatch, ScrapeTargets};
use std::sync::Arc;
use tokio::sync::oneshot;

/// What a source hands to the core.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "nearly every input is a batch, and one allocation less for each")]
pub enum Ingest {
    /// Decoded events, and what decoded them: a reload may change the plan, and the source's decoder, while they wait.
    Batch(EventBatch, Arc<Decoder>),
    /// How a source stands.
    State {
        /// The source's name.
        source: Arc<str>,
        /// Its state now.
        state: SourceState,
    },
    /// What one scrape found.
    Scrape(Box<ScrapeBatch>),
    /// Changes of series that the source has counted itself.
    Counts(Box<CountBatch>),
    /// Samples with times of their own.
    Received(Box<ReceivedBatch>),
    /// Which targets a source scrapes from now on; the series of others end.
    ScrapeTargets(ScrapeTargets),
    /// Where a source goes on: told when everything before this is counted.
    Position {
        /// The source's name.
        source: Arc<str>,
        /// Who asks.
        reply: oneshot::Sender<Option<Vec<u8>>>,
    },
}

impl Ingest {
    /// What it takes of the queue's room; bytes roughly.
    pub(super) fn need(&self) -> Need {
        match self {
            Self::Batch(batch, _) => Need {
                bytes: batch.buffer.len()
                    + batch.arena.len()
                    + (batch.fields.len() + batch.lists.len()) * size_of::<Field>(),
                events: batch.events.len(),
            },
            Self::Scrape(batch) => Need { bytes: batch.size(), events: 0 },
            Self::Counts(batch) => Need { bytes: batch.size(), events: 0 },
            Self::Received(batch) => Need { bytes: batch.size(), events: 0 },
            Self::State { .. } | Self::ScrapeTargets(_) | Self::Position { .. } => Need { bytes: 0, events: 0 },
        }
    }

    /// What a rate limit counts: events, lines and data points.
    pub fn events(&self) -> usize {
        match self {
            Self::Batch(batch, _) => batch.events.len(),
            Self::Counts(batch) => batch.lines as usize,
            _ => 0,
        }
    }

    /// The batch, if it may be dropped: a position must never be ahead of what was counted.
    pub(super) fn droppable(&self) -> Option<&EventBatch> {
        match self {
            Self::Batch(batch, _) if batch.position.is_none() => Some(batch),
            _ => None,
        }
    }

    /// Its events, and what of them was refused: all that is lost with it.
    pub(super) fn items(&self) -> usize {
        match self {
            Self::Batch(batch, _) => batch.events.len() + batch.refused.len(),
            _ => 0,
        }
    }
}
