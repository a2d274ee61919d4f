//! `overflow:` and its like, beside a source's transport.

use crate::config::reader::MapReader;
use crate::config::schema::{FlowConfig, Overflow};

pub(super) fn flow(map: &mut MapReader<'_, '_>) -> FlowConfig {
    FlowConfig { overflow: map.one_of("overflow", &Overflow::ALL) }
}
