//! Which messages were no events: `poison: reject` gives them back to the broker.

use crate::model::EventBatch;
use crate::source::message::Messages;
use crate::source::{Ingest, SourceContext};
use crate::telemetry::clock;

/// Hands the messages over as [`SourceContext::deliver_messages`] does, and says of each whether nothing of it could be
/// read.
pub(super) async fn deliver(
    context: &SourceContext,
    messages: &mut Messages,
    position: Option<Vec<u8>>,
) -> Option<(u64, Vec<bool>)> {
    let (batch, poison) = judge(context, messages, position);
    let number = context.sink.send(Ingest::Batch(batch, context.decoder.clone())).await.ok()?;
    Some((number, poison))
}

fn judge(context: &SourceContext, messages: &mut Messages, position: Option<Vec<u8>>) -> (EventBatch, Vec<bool>) {
    let ranges = messages.ranges();
    let (buffer, framing, refused) = messages.take();
    let plan = context.plan.borrow().clone();
    let mut batch = context.decoder.decode(buffer, framing, &plan, &context.name, clock::now());
    batch.refused.extend(refused);
    batch.position = position;
    // Events stand in the order of their messages, and each begins within its own.
    let mut starts = batch.events.iter().filter_map(|event| Some(event.raw.buffer_range()?.start)).peekable();
    let poison = ranges
        .iter()
        .map(|range| {
            let mut empty = true;
            while starts.next_if(|start| *start < range.end).is_some() {
                empty = false;
            }
            empty
        })
        .collect();
    drop(starts);
    (batch, poison)
}
