//! Sources: what brings events in, and how bytes become events.

pub mod decode;
