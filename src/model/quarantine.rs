//! Input that was refused, kept to be looked at.

use serde::{Deserialize, Serialize};

/// Why one place of a document is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// A JSON pointer (RFC 6901) into what was validated; empty for all of it.
    pub pointer: String,
    /// A sentence without any value of the event.
    pub message: String,
}

/// A refused piece of input, redacted and cut.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Quarantined {
    /// Which item of its batch.
    pub item: u32,
    /// The reason it is counted under.
    pub reason: String,
    /// The event's type; empty when it could not be read.
    pub event_type: String,
    /// The event's id; empty when it has none or it could not be read.
    pub id: String,
    /// The schema that it was held against; empty when it was refused before.
    pub schema: String,
    /// The schema's version.
    pub version: String,
    /// What is wrong.
    pub faults: Vec<Fault>,
    /// What came, redacted, cut at a character boundary.
    pub payload: String,
    /// Bytes that came, before cutting.
    pub size: u64,
}

impl Quarantined {
    /// Bytes that it holds, roughly.
    pub fn bytes(&self) -> usize {
        let faults: usize = self.faults.iter().map(|fault| fault.pointer.len() + fault.message.len() + 48).sum();
        self.payload.len() + self.event_type.len() + self.id.len() + faults + size_of::<Self>()
    }
}

/// How many events of a batch were held against one version of a schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Validated {
    /// The schema's name.
    pub schema: std::sync::Arc<str>,
    /// Its version; empty when it says none.
    pub version: std::sync::Arc<str>,
    /// Events that it describes.
    pub valid: u32,
    /// Events that it does not.
    pub invalid: u32,
}
