//! What messages tell of an alert beside its value: which label values carry most of it when it begins to fire, and the
//! value that ended it. Computed at these two transitions only, once an evaluation for all alerts of the rule.

use super::alert_state::{AlertPhase, AlertStates, Transition};
use super::expression::Expression;
use crate::model::Labels;
use crate::promql::Options;
use crate::series::Storage;

/// Alerts of one rule that begin to fire in one evaluation and are looked into; in a storm the others go without.
const LOOKED_INTO: usize = 20;

/// Adds to the alerts what their transitions ask for. `expand` makes an alert's labels from a sample's labels and value.
pub(super) fn add(
    expression: &Expression,
    states: &mut AlertStates,
    transitions: &[Transition],
    at_ms: i64,
    storage: &dyn Storage,
    options: &Options<'_>,
    expand: &dyn Fn(&Labels, f64) -> Labels,
) {
    let begun = transitions.iter().filter(|change| change.to == AlertPhase::Firing).take(LOOKED_INTO);
    let mut begun = begun.peekable();
    if begun.peek().is_some()
        && let Some(parts) = expression.parts(at_ms, storage, options)
    {
        for change in begun {
            if let Some(state) = states.get_mut(&change.labels) {
                state.context.stands_out = parts.standing_out(&change.labels);
                state.published = None;
            }
        }
    }
    let ended = |change: &&Transition| change.from == AlertPhase::Firing && change.to == AlertPhase::Inactive;
    let mut ended = transitions.iter().filter(ended).peekable();
    if ended.peek().is_none() {
        return;
    }
    let Some(measured) = expression.measure(at_ms, storage, options) else { return };
    let measured: std::collections::BTreeMap<Labels, f64> =
        measured.into_iter().map(|(labels, value)| (expand(&labels, value), value)).collect();
    for change in ended {
        if let Some(state) = states.get_mut(&change.labels) {
            state.value_at_resolve = measured.get(&change.labels).copied();
            state.published = None;
        }
    }
}
