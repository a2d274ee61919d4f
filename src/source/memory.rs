//! The source of programs that embed the library.

use super::decode::{Decoder, Framing};
use super::sink::{Full, Ingest, IngestSink, Offered};
use crate::model::{FieldPlan, Refusal, Timestamp};
use std::sync::Arc;
use tokio::sync::watch;

/// A handle that pushes events into a source; clones share it.
#[derive(Clone, Debug)]
pub struct MemorySource {
    name: Arc<str>,
    decoder: Arc<Decoder>,
    plan: watch::Receiver<Arc<FieldPlan>>,
    sink: IngestSink,
}

/// What became of pushed events.
pub type Pushed = Result<(usize, Vec<Refusal>), Full>;

impl MemorySource {
    /// A handle on the source of that name.
    pub fn new(name: Arc<str>, decoder: Arc<Decoder>, plan: watch::Receiver<Arc<FieldPlan>>, sink: IngestSink) -> Self {
        Self { name, decoder, plan, sink }
    }

    /// The source's name.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Decodes and queues at once, or not at all. Returns how many were accepted, and what was refused with its reason;
    /// what the source's `overflow` drops is neither, and counted.
    ///
    /// # Errors
    /// [`Full`] when there is no room now; nothing was taken then.
    pub fn push(&self, input: Vec<u8>, framing: Framing, now: Timestamp) -> Pushed {
        let plan = self.plan.borrow().clone();
        let batch = self.decoder.decode(input, framing, &plan, &self.name, now);
        let (events, refused) = (batch.events.len(), batch.refused.clone());
        if events == 0 && refused.is_empty() {
            return Ok((0, refused));
        }
        let accepted = match self.sink.offer_by_policy(Ingest::Batch(batch, self.decoder.clone()))? {
            Offered::Taken(_) => events,
            Offered::Partly { dropped, .. } => events - dropped,
            Offered::Dropped => 0,
        };
        Ok((accepted, refused))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::schema::Overflow;
    use crate::source::sink::{QueueLimits, queue};

    #[test]
    fn what_is_dropped_is_not_accepted() {
        let (sink, _queue) = queue(QueueLimits { batches: 1, bytes: 1 << 20 });
        let decoder = Decoder::compile(&Default::default(), Default::default(), &mut Default::default()).unwrap();
        let plan = watch::Sender::default();
        let handle = |sink| MemorySource::new("m".into(), Arc::new(decoder), plan.subscribe(), sink);
        let source = handle(sink.with_overflow(Overflow::DropNewest));
        let push = |text: &str| source.push(text.into(), Framing::Ndjson, Timestamp::EPOCH).map(|taken| taken.0);
        assert_eq!(push("{\"type\":\"a\"}\n{\"type\":\"b\"}"), Ok(2));
        assert_eq!(push("{\"type\":\"c\"}"), Ok(0));
        assert_eq!(push(""), Ok(0));
    }
}
