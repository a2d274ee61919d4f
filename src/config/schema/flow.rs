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
    /// `rate_limit:`.
    pub rate_limit: Option<RateLimitConfig>,
    /// `http: {ack: checkpoint}`: requests are answered when a checkpoint holds their events.
    pub ack_checkpoint: bool,
}

/// `rate_limit:`, in events.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub struct RateLimitConfig {
    /// `events:` of the whole source.
    pub events: Option<Rate>,
    /// `burst:`: so many at once; what comes in one unit of time when absent.
    pub burst: Option<u64>,
    /// `per_client:`: of each address or user.
    pub per_client: Option<Rate>,
}

/// `1000/s`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    /// So many.
    pub count: f64,
    /// In so many milliseconds.
    pub per_ms: i64,
}

impl Rate {
    /// Reads `1000/s`, `30/m`, `5/h`, or a number for each second.
    pub fn parse(text: &str) -> Option<Self> {
        let (count, unit) = text.split_once('/').unwrap_or((text, "s"));
        let per_ms = match unit.trim() {
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return None,
        };
        let count: f64 = count.trim().parse().ok()?;
        (count > 0.0 && count.is_finite()).then_some(Self { count, per_ms })
    }
}

impl std::fmt::Display for Rate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let unit = match self.per_ms {
            1_000 => "s",
            60_000 => "m",
            _ => "h",
        };
        write!(f, "{}/{unit}", self.count)
    }
}

impl FlowConfig {
    /// What happens when the queue is full.
    pub fn overflow(&self) -> Overflow {
        self.overflow.as_ref().map_or(Overflow::Block, |overflow| overflow.value)
    }
}
