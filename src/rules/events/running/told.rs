//! The fields of the last event, for messages that no template makes.

use super::{RuleState, event_value};
use crate::model::Labels;
use crate::template::Value;

/// Fields that a message tells.
const FIELDS: usize = 8;
/// The longest text of a field, in characters.
const FIELD_CHARACTERS: usize = 200;

impl RuleState {
    /// Notes with an alert what the event that raised it last said, as far as the rule's texts read its fields.
    pub(super) fn note_event(&mut self, slot: u32, labels: &Labels) {
        let Some(key) = self.keys.get(slot as usize).and_then(Option::as_ref) else { return };
        if key.captured.is_empty() || key.captured.len() != self.rule.captured.len() {
            return;
        }
        let mut fields = Vec::new();
        flatten("", &event_value(&self.rule, &key.captured, &[]), &mut fields);
        if let Some(state) = self.alerts.get_mut(labels)
            && state.context.event != fields
        {
            state.context.event = fields;
            state.published = None;
        }
    }
}

fn flatten(path: &str, value: &Value, out: &mut Vec<(String, String)>) {
    match value {
        Value::Map(map) => {
            for (name, inner) in map.iter() {
                let path = if path.is_empty() { name.to_string() } else { format!("{path}.{name}") };
                flatten(&path, inner, out);
            }
        }
        Value::Nil => {}
        value if out.len() < FIELDS => {
            let text: String = value.to_string().chars().take(FIELD_CHARACTERS).collect();
            if !text.is_empty() {
                out.push((path.to_owned(), text));
            }
        }
        _ => {}
    }
}
