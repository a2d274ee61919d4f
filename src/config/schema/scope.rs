//! `scope:` of a source that several sidecars can have.

/// Who gets an event where several sidecars listen to the same stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// One of them: each counts its share.
    Shared,
    /// Each of them: all count everything.
    PerInstance,
}

impl Scope {
    /// The words of the configuration.
    pub const ALL: [(&'static str, Self); 2] = [("shared", Self::Shared), ("per_instance", Self::PerInstance)];

    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Shared => "shared",
            Self::PerInstance => "per_instance",
        }
    }
}
