//! From configuration and rule files to a checked [`RuleSet`].

use super::file;
use super::rule::{Group, RuleSet, Settings};
use super::short;
use crate::config::schema::Config;
use crate::config::{Diagnostics, Span};
use crate::model::{FieldPlanBuilder, Labels};
use crate::series::MetricType;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A rule file that was read.
#[derive(Clone, Debug)]
pub struct RuleFile {
    /// The file as messages name it.
    pub name: Arc<str>,
    /// Its text.
    pub text: Arc<str>,
}

/// What a rule set is made of.
pub struct RuleInput<'a> {
    /// The configuration: `alerts`, `bundled_rules`, `external_labels`, limits.
    pub config: &'a Config,
    /// The files that `rules:` names, in order.
    pub files: &'a [RuleFile],
    /// The type of a metric: from the mappings, the automatic and the self-metrics; `None` when nobody knows it.
    pub metric_type: &'a dyn Fn(&str) -> Option<MetricType>,
}

impl RuleSet {
    /// Compiles everything; what is wrong goes to `found`, and the set holds what is right.
    pub fn compile(input: &RuleInput<'_>, plan: &mut FieldPlanBuilder, found: &mut Diagnostics) -> Self {
        let config = input.config;
        let external = config.external_labels.iter().map(|(name, value)| (name.value.as_str(), value.as_str()));
        let settings = Settings {
            external_labels: Labels::from_pairs(external),
            external_url: config.external_url.clone(),
            alerts_per_rule: config.limits.alerts_per_rule,
            pattern_keys: config.limits.pattern_keys,
            reactive: true,
        };
        let mut set = Self { settings: Arc::new(settings), ..Self::default() };
        let own = config.files.first().map_or_else(|| "sidewatch.yaml".into(), |file| file.display().to_string());
        let mut compiler =
            short::Compiler { plan, metric_type: input.metric_type, interval_ms: config.evaluation_interval_ms };
        compiler.compile(&config.alerts, &own.as_str().into(), &mut set, found);
        for rule_file in input.files {
            let Some(read) = file::read(&rule_file.name, &rule_file.text, found) else { continue };
            set.groups.extend(read.compile(config.evaluation_interval_ms, found).into_iter().map(Arc::new));
            compiler.compile(&read.alerts, &rule_file.name, &mut set, found);
        }
        if config.bundled_rules {
            for (name, text) in super::bundled::PACKS {
                if let Some(read) = file::read(name, text, found) {
                    set.groups.extend(read.compile(config.evaluation_interval_ms, found).into_iter().map(Arc::new));
                }
            }
        }
        check_names(&set, found);
        set
    }
}

/// State is kept by file and group: the same file twice would mix them up.
fn check_names(set: &RuleSet, found: &mut Diagnostics) {
    let mut seen: BTreeMap<(&str, &str), &Group> = BTreeMap::new();
    for group in &set.groups {
        if seen.insert((&group.file, &group.name), group).is_some() {
            let span = Span { file: group.file.clone(), line: 0, column: 0 };
            found.error(
                &span,
                format!(
                    "the group {:?} of this file is loaded twice; is the file named twice in `rules`?",
                    &*group.name
                ),
            );
        }
    }
}

#[cfg(test)]
mod tests;
