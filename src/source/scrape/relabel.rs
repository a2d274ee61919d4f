//! Relabelling, step by step as Prometheus does it (`model/relabel`), on a label set that is being made.

use super::md5::md5;
use crate::config::schema::{RelabelAction, RelabelConfig};
use crate::model::{Label, Labels};
use regex::Regex;

/// A label set while it is made: in no order, each name once.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct LabelBuilder {
    pub pairs: Vec<(String, String)>,
}

impl LabelBuilder {
    /// The value of a label; empty when absent.
    pub fn get(&self, name: &str) -> &str {
        self.pairs.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }

    /// Whether a label stands here, be it empty.
    pub fn has(&self, name: &str) -> bool {
        self.pairs.iter().any(|(known, _)| known == name)
    }

    /// Sets a label; an empty value removes it.
    pub fn set(&mut self, name: &str, value: &str) {
        match self.pairs.iter().position(|(known, _)| known == name) {
            Some(at) if value.is_empty() => drop(self.pairs.swap_remove(at)),
            Some(at) => value.clone_into(&mut self.pairs[at].1),
            None if value.is_empty() => {}
            None => self.pairs.push((name.to_owned(), value.to_owned())),
        }
    }

    /// The finished set.
    pub fn finish(&self) -> Labels {
        let label =
            |(name, value): &(String, String)| Label { name: name.as_str().into(), value: value.as_str().into() };
        Labels::new(self.pairs.iter().map(label).collect())
    }
}

/// One compiled step.
#[derive(Clone, Debug)]
pub struct Step {
    config: RelabelConfig,
    regex: Regex,
}

/// Compiles checked steps; one whose regex the configuration has refused is left out.
pub(super) fn compile(configs: &[RelabelConfig]) -> Vec<Step> {
    let step = |config: &RelabelConfig| {
        let regex = Regex::new(&format!("^(?s:{})$", config.regex.value)).ok()?;
        Some(Step { config: config.clone(), regex })
    };
    configs.iter().filter_map(step).collect()
}

/// `relabel_configs` of whoever sends label sets on.
#[derive(Clone, Debug)]
pub struct Relabeling(Vec<Step>);

impl Relabeling {
    /// Compiles checked steps.
    pub fn new(configs: &[RelabelConfig]) -> Self {
        Self(compile(configs))
    }

    /// The label set afterwards; `None` when a step drops it.
    pub fn apply(&self, labels: &Labels) -> Option<Labels> {
        if self.0.is_empty() {
            return Some(labels.clone());
        }
        let pairs = labels.iter().map(|label| (label.name.to_string(), label.value.to_string())).collect();
        let mut builder = LabelBuilder { pairs };
        apply(&self.0, &mut builder).then(|| builder.finish())
    }
}

/// Applies all steps; `false` when one of them drops the set.
pub(super) fn apply(steps: &[Step], labels: &mut LabelBuilder) -> bool {
    steps.iter().all(|step| step.apply(labels))
}

impl Step {
    fn apply(&self, labels: &mut LabelBuilder) -> bool {
        let config = &self.config;
        let value = || {
            let values: Vec<&str> = config.source_labels.iter().map(|name| labels.get(&name.value)).collect();
            values.join(&config.separator)
        };
        match config.action {
            RelabelAction::Keep => return self.regex.is_match(&value()),
            RelabelAction::Drop => return !self.regex.is_match(&value()),
            RelabelAction::KeepEqual => return labels.get(&config.target_label) == value(),
            RelabelAction::DropEqual => return labels.get(&config.target_label) != value(),
            RelabelAction::Replace => {
                let value = value();
                if let Some(found) = self.regex.captures(&value) {
                    let (mut target, mut replacement) = (String::new(), String::new());
                    found.expand(&config.target_label, &mut target);
                    found.expand(&config.replacement, &mut replacement);
                    if !target.is_empty() {
                        labels.set(&target, &replacement);
                    }
                }
            }
            RelabelAction::Lowercase => {
                let lower = value().to_lowercase();
                labels.set(&config.target_label, &lower);
            }
            RelabelAction::Uppercase => {
                let upper = value().to_uppercase();
                labels.set(&config.target_label, &upper);
            }
            RelabelAction::HashMod => {
                let digest = md5(value().as_bytes());
                let mut word = [0; 8];
                word.copy_from_slice(&digest[8..]);
                let rest = u64::from_be_bytes(word) % config.modulus.max(1);
                labels.set(&config.target_label, &rest.to_string());
            }
            RelabelAction::LabelMap => {
                for (name, value) in labels.pairs.clone() {
                    if self.regex.is_match(&name) {
                        let target = self.regex.replace_all(&name, config.replacement.as_str()).into_owned();
                        labels.set(&target, &value);
                    }
                }
            }
            RelabelAction::LabelDrop => labels.pairs.retain(|(name, _)| !self.regex.is_match(name)),
            RelabelAction::LabelKeep => labels.pairs.retain(|(name, _)| self.regex.is_match(name)),
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::schema::Transport;
    use crate::config::{Overrides, load_text};

    /// Steps as YAML on `{a="foo", b="bar", c="baz"}` (the labels of Prometheus's own tests); `None` when dropped.
    fn check(steps: &str, expected: Option<&str>) {
        let text = format!("sources: {{s: {{scrape: {{url: 'http://h/', metric_relabel_configs: [{steps}]}}}}}}");
        let (config, found) = load_text("t.yaml", &text, &Default::default(), &Overrides::default());
        let config = config.unwrap_or_else(|| panic!("{found}"));
        let Transport::Scrape(scrape) = &config.sources.unwrap()[0].value.transport else { panic!() };
        let mut labels = LabelBuilder::default();
        [("a", "foo"), ("b", "bar"), ("c", "baz")].iter().for_each(|(name, value)| labels.set(name, value));
        let kept = apply(&compile(&scrape.metric_relabel), &mut labels);
        assert_eq!(kept.then(|| labels.finish().to_string()).as_deref(), expected, "{steps}");
    }

    #[test]
    fn every_action_does_what_prometheus_does() {
        let same = r#"{a="foo", b="bar", c="baz"}"#;
        check(
            "{source_labels: [a], regex: 'f(.*)', target_label: d, replacement: 'ch${1}-ch${1}', separator: ;}",
            Some(r#"{a="foo", b="bar", c="baz", d="choo-choo"}"#),
        );
        check(
            "{source_labels: [a, b], regex: 'f(.*);(.*)r', target_label: a, replacement: 'b${1}${2}m'}",
            Some(r#"{a="boobam", b="bar", c="baz"}"#),
        );
        check("{source_labels: [a], regex: '.*o.*', action: drop}", None);
        check("{source_labels: [a], regex: 'o', action: drop}", Some(same));
        check("{source_labels: [a], regex: 'no-match', action: keep}", None);
        check("{source_labels: [a], regex: 'f|fo.*', action: keep}", Some(same));
        check("{source_labels: [a], target_label: a, regex: 'f.*', replacement: ''}", Some(r#"{b="bar", c="baz"}"#));
        check(
            "{source_labels: [a], target_label: '${1}', regex: '(.).*', replacement: x}",
            Some(r#"{a="foo", b="bar", c="baz", f="x"}"#),
        );
        check(
            "{action: labelmap, regex: '(b.*)', replacement: 'bar_${1}'}",
            Some(r#"{a="foo", b="bar", bar_b="bar", c="baz"}"#),
        );
        check("{action: labeldrop, regex: '(b|c)'}", Some(r#"{a="foo"}"#));
        check("{action: labelkeep, regex: '(b|c)'}", Some(r#"{b="bar", c="baz"}"#));
        check(
            "{source_labels: [a], target_label: u, action: uppercase}",
            Some(r#"{a="foo", b="bar", c="baz", u="FOO"}"#),
        );
        check("{source_labels: [a], target_label: a, action: keepequal}", Some(same));
        check("{source_labels: [a], target_label: b, action: keepequal}", None);
        check("{source_labels: [a], target_label: a, action: dropequal}", None);
        // The value that Prometheus's own test expects of md5.
        check(
            "{source_labels: [c], target_label: d, separator: ;, action: hashmod, modulus: 1000}",
            Some(r#"{a="foo", b="bar", c="baz", d="976"}"#),
        );
    }

    #[test]
    fn steps_that_cannot_work_are_errors_with_their_place() {
        for (steps, expected) in [
            ("{action: hashmod, source_labels: [a], target_label: x}", "hashmod needs modulus"),
            ("{source_labels: [a]}", "replace needs target_label"),
            ("{action: labeldrop, regex: a, target_label: x}", "labeldrop takes only regex"),
            ("{action: repl, target_label: x}", "is not one of replace"),
            ("{regex: '(', target_label: x}", "regex"),
        ] {
            let text = format!("sources: {{s: {{scrape: {{url: 'http://h/', metric_relabel_configs: [{steps}]}}}}}}");
            let (_, found) = load_text("t.yaml", &text, &Default::default(), &Overrides::default());
            assert!(found.has_errors() && found.to_string().contains(expected), "{steps}: {found}");
        }
    }
}
