//! One silence: what it matches, when it holds, who made it and why (Alertmanager, silence/silence.go).

use super::matcher::{self, MatchOp, Matcher};
use crate::model::{Labels, Timestamp};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Silences of the API that are kept, expired ones among them; one more is refused.
pub const SILENCES: usize = 10_000;
/// Bytes of one silence's texts; Alertmanager bounds the whole silence likewise (`--silences.max-silence-size-bytes`).
pub const SILENCE_BYTES: usize = 16 << 10;
/// Matchers of one silence.
pub const SILENCE_MATCHERS: usize = 100;
/// Who made the silences that stand in the configuration.
pub const CONFIGURATION: &str = "configuration";

/// Whether a silence holds; in the order in which they are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SilenceState {
    /// It holds.
    Active,
    /// It will hold.
    Pending,
    /// It has ended; kept for 120 h.
    Expired,
}

impl SilenceState {
    /// The word of the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Pending => "pending",
            Self::Expired => "expired",
        }
    }
}

/// A silence: alerts that match it are not notified from [`Silence::starts_at`] to [`Silence::ends_at`].
#[derive(Clone, Debug, PartialEq)]
pub struct Silence {
    /// A UUID.
    pub id: Arc<str>,
    /// All of them must match.
    pub matchers: Vec<Matcher>,
    /// From when on.
    pub starts_at: Timestamp,
    /// Until when, exclusive. For a maintenance window that comes again, the end of the present or the next time.
    pub ends_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
    /// Who made it; [`CONFIGURATION`] for those of the configuration.
    pub created_by: String,
    /// Why.
    pub comment: String,
    /// Stands in the configuration: the API cannot change it.
    pub configured: bool,
}

impl Silence {
    /// Whether it holds at a moment.
    pub fn state(&self, now: Timestamp) -> SilenceState {
        if now < self.starts_at {
            SilenceState::Pending
        } else if now < self.ends_at {
            SilenceState::Active
        } else {
            SilenceState::Expired
        }
    }

    /// Whether it holds for an alert with these labels.
    pub fn silences(&self, labels: &Labels, now: Timestamp) -> bool {
        self.state(now) == SilenceState::Active && matcher::all_match(&self.matchers, labels)
    }
}

/// A silence as somebody asks for it.
#[derive(Clone, Debug, PartialEq)]
pub struct SilenceDraft {
    /// The silence to change; `None` for a new one.
    pub id: Option<String>,
    /// All of them must match.
    pub matchers: Vec<Matcher>,
    /// From when on; a moment in the past means now.
    pub starts_at: Timestamp,
    /// Until when.
    pub ends_at: Timestamp,
    /// Who.
    pub created_by: String,
    /// Why.
    pub comment: String,
}

/// Why a silence cannot be made, changed or expired. The texts are Alertmanager's where it has one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SilenceError {
    /// No silence has this id.
    #[error("silence not found")]
    NotFound,
    /// It does not mean anything.
    #[error("silence invalid: {0}")]
    Invalid(String),
    /// It stands in the configuration.
    #[error(
        "silence {0} stands in the configuration and is not changed here: edit its entry under notify: silences: in the \
         configuration file and reload"
    )]
    Configured(Arc<str>),
    /// There are [`SILENCES`] already.
    #[error("there are {SILENCES} silences already, expired ones among them: expired ones are forgotten after 120 h")]
    Full,
}

impl SilenceDraft {
    /// What Alertmanager's `validateSilence` asks, and the bounds of this build.
    ///
    /// # Errors
    /// [`SilenceError::Invalid`].
    pub(super) fn validate(&self) -> Result<(), SilenceError> {
        let invalid = |reason: String| Err(SilenceError::Invalid(reason));
        check_matchers(&self.matchers).or_else(invalid)?;
        if self.ends_at < self.starts_at {
            return invalid("end time must not be before start time".into());
        }
        let texts = self.matchers.iter().map(|matcher| matcher.name.len() + matcher.value.len());
        let bytes = texts.sum::<usize>() + self.created_by.len() + self.comment.len();
        if bytes > SILENCE_BYTES {
            return invalid(format!("its texts have {bytes} bytes, at most {SILENCE_BYTES} are kept"));
        }
        Ok(())
    }
}

/// There must be a matcher, and one that does not match everything.
///
/// # Errors
/// A sentence that says what is missing.
pub(super) fn check_matchers(matchers: &[Matcher]) -> Result<(), String> {
    if matchers.is_empty() {
        return Err("at least one matcher required".into());
    }
    if matchers.len() > SILENCE_MATCHERS {
        return Err(format!("there are {} matchers, at most {SILENCE_MATCHERS} are taken", matchers.len()));
    }
    if let Some(at) = matchers.iter().position(|matcher| matcher.name.is_empty()) {
        return Err(format!("invalid label matcher {at}: invalid label name \"\""));
    }
    // A negative matcher counts as one that narrows, whatever it says (`matchesEmpty`).
    let empty = Labels::default();
    let takes_all =
        |matcher: &Matcher| matches!(matcher.op, MatchOp::Equal | MatchOp::Matches) && matcher.matches(&empty);
    if matchers.iter().all(takes_all) {
        return Err("at least one matcher must not match the empty string".into());
    }
    Ok(())
}

/// A silence as the checkpoint keeps it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct SavedSilence {
    id: Arc<str>,
    matchers: Vec<(String, u8, String)>,
    starts_at: Timestamp,
    ends_at: Timestamp,
    updated_at: Timestamp,
    created_by: String,
    comment: String,
}

/// The operators by their number in the checkpoint.
const OPS: [MatchOp; 4] = [MatchOp::Equal, MatchOp::NotEqual, MatchOp::Matches, MatchOp::NotMatches];

impl SavedSilence {
    pub(super) fn of(silence: &Silence) -> Self {
        let op = |matcher: &Matcher| OPS.iter().position(|op| *op == matcher.op).unwrap_or_default() as u8;
        Self {
            id: silence.id.clone(),
            matchers: silence.matchers.iter().map(|m| (m.name.clone(), op(m), m.value.clone())).collect(),
            starts_at: silence.starts_at,
            ends_at: silence.ends_at,
            updated_at: silence.updated_at,
            created_by: silence.created_by.clone(),
            comment: silence.comment.clone(),
        }
    }

    pub(super) fn open(self) -> Result<Silence, String> {
        let matcher = |(name, op, value): (String, u8, String)| {
            let op = OPS.get(usize::from(op)).ok_or("a matcher has an unknown operator")?;
            Matcher::new(name, *op, value)
        };
        Ok(Silence {
            id: self.id,
            matchers: self.matchers.into_iter().map(matcher).collect::<Result<_, String>>()?,
            starts_at: self.starts_at,
            ends_at: self.ends_at,
            updated_at: self.updated_at,
            created_by: self.created_by,
            comment: self.comment,
            configured: false,
        })
    }
}
