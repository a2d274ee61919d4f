//! One log line per change of state, however often the state is seen.

use std::sync::{Mutex, PoisonError};

/// Remembers the last state it was shown and tells whether a new one differs.
///
/// ```
/// let writable = sidewatch::telemetry::OnChange::new(true);
/// assert!(writable.set(false)); // say it
/// assert!(!writable.set(false)); // it has been said
/// ```
#[derive(Debug)]
pub struct OnChange<T> {
    /// Held for a comparison and a store.
    last: Mutex<T>,
}

impl<T: PartialEq> OnChange<T> {
    /// Begins with a state that needs no saying.
    pub const fn new(quiet: T) -> Self {
        Self { last: Mutex::new(quiet) }
    }

    /// Takes the state now; `true` when it differs from the last one, which is the moment to log it.
    pub fn set(&self, state: T) -> bool {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = *last != state;
        if changed {
            *last = state;
        }
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_said_when_it_changes() {
        let state = OnChange::new(0);
        assert_eq!([0, 1, 1, 2, 1, 1].map(|next| state.set(next)), [false, true, false, true, true, false]);
    }
}
