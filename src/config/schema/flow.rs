//! How much of a source's input is taken, and what happens when there is no room: keys beside the transport.

/// `overflow:`; what happens to events of this source when the queue to the core is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Overflow {
    /// The source waits (or its sender is told to send again).
    #[default]
    Block,
    /// What waits longest of this source is dropped.
    DropOldest,
    /// What just came is dropped.
    DropNewest,
}

impl Overflow {
    /// The words of the configuration.
    pub const ALL: [(&'static str, Self); 3] =
        [("block", Self::Block), ("drop_oldest", Self::DropOldest), ("drop_newest", Self::DropNewest)];

    /// Its word.
    pub fn word(self) -> &'static str {
        Self::ALL.iter().find(|(_, known)| *known == self).map_or("block", |(word, _)| word)
    }
}

/// The keys beside a source's transport that are about the flow of its events.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct FlowConfig {
    /// `overflow:`; `None` when the key is absent.
    pub overflow: Option<super::Spanned<Overflow>>,
}

impl FlowConfig {
    /// What happens when the queue is full.
    pub fn overflow(&self) -> Overflow {
        self.overflow.as_ref().map_or(Overflow::Block, |overflow| overflow.value)
    }
}
