//! Checks that somebody outside makes and reports (DogStatsD service checks): no entry declares them, the first report
//! does. The last report of a name holds until the next one. A check that the configuration declares is never overruled.

use super::{CheckReport, Checks, Status, Transition};
use crate::model::Timestamp;
use crate::source::counts::ReportedCheck;

/// Names that are remembered; reports of further ones are events only.
const REPORTED_CHECKS: usize = 100;
/// In a checkpoint they stand among the others, under names that no entry can have.
const MARK: &str = "\0reported\0";

/// One of them.
#[derive(Clone, Debug)]
pub(super) struct Reported {
    name: String,
    status: Status,
    reason: String,
    since: Timestamp,
}

impl Reported {
    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn report(&self) -> CheckReport {
        CheckReport {
            name: self.name.clone(),
            kind: "reported",
            status: self.status,
            reason: self.reason.clone(),
            since: Some(self.since),
        }
    }

    /// Under its marked name: status, reason, since when.
    pub fn saved(&self) -> (String, Status, String, Timestamp) {
        (format!("{MARK}{}", self.name), self.status, self.reason.clone(), self.since)
    }

    /// From what [`Self::saved`] gave; `None` for the name of another check.
    pub fn restored(name: &str, status: Status, reason: &str, since: Option<Timestamp>) -> Option<Self> {
        let name = name.strip_prefix(MARK)?.to_owned();
        Some(Self { name, status, reason: reason.to_owned(), since: since? })
    }
}

impl Checks {
    /// Takes a report from outside.
    pub fn reported(&mut self, now: Timestamp, told: &ReportedCheck) {
        self.now = now;
        if self.checks.iter().any(|check| check.name == told.name) {
            return;
        }
        let status = match told.status {
            0 => Status::Healthy,
            1 => Status::Degraded,
            2 => Status::Unhealthy,
            _ => Status::Unknown,
        };
        let reason = match (status, told.message.as_str()) {
            (Status::Healthy, _) => String::new(),
            (_, "") => "reported so, without a message".to_owned(),
            (_, message) => message.to_owned(),
        };
        let known = self.reported.iter().position(|known| known.name == told.name);
        let from = known.map_or(Status::Unknown, |at| self.reported[at].status);
        match known {
            Some(at) => {
                let known = &mut self.reported[at];
                if known.status != status {
                    known.since = now;
                }
                (known.status, known.reason) = (status, reason.clone());
            }
            None if self.reported.len() < REPORTED_CHECKS => {
                let known = Reported { name: told.name.clone(), status, reason: reason.clone(), since: now };
                self.reported.push(known);
            }
            None => return,
        }
        if from != status {
            self.transitions.push(Transition { check: told.name.clone(), at: now, from, to: status, reason });
        }
    }
}
