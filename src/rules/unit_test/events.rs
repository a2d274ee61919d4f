//! Events of a test, decoded as a source's input is.

use super::input::InputEvent;
use crate::config::Diagnostics;
use crate::config::schema::FormatConfig;
use crate::model::{EventBatch, FieldPlan, Timestamp};
use crate::source::decode::{DecodeLimits, Decoder, Framing};
use std::sync::Arc;

/// The decoder of test events: every shape that is recognised by its keys.
pub(super) fn decoder() -> Option<Decoder> {
    Decoder::compile(&FormatConfig::default(), DecodeLimits::default(), &mut Diagnostics::new())
}

/// A batch of one event that arrives at a moment.
pub(super) fn batch(decoder: &Decoder, input: &InputEvent, plan: &Arc<FieldPlan>, at: Timestamp) -> EventBatch {
    let source = input.source.clone().unwrap_or_else(|| "test".into());
    decoder.decode(input.event.to_string().into_bytes(), Framing::Auto, plan, &source, at)
}
