//! Events that waited for longer than they are worth.

use crate::model::{EventBatch, Refusal, Timestamp};
use crate::source::decode::reason;

/// Takes the events that are expired at `now` out of a batch; each counts as refused.
pub(super) fn drop_expired(batch: &mut EventBatch, now: Timestamp) {
    if batch.events.iter().all(|event| event.expires > now) {
        return;
    }
    let expired = batch.split_off(|event| event.expires <= now);
    let refusal = |item| Refusal { item, reason: reason::EXPIRED, message: String::new() };
    batch.refused.extend((0..expired.events.len() as u32).map(refusal));
}
