//! From the configuration's `metrics:` to compiled mappings.

use super::automatic::{AUTOMATIC, Automatic};
use super::handles::{Handles, Types};
use super::select::{FieldSource, Select};
use super::timer::Timer;
use super::units::{base_unit, default_bounds, names};
use super::{Action, Compiled, Drop, LabelRule, Mapping, Mappings, Number, label_name};
use crate::config::diagnostic::nearest;
use crate::config::schema::{LabelConfig, MetricConfig, MetricKind as Kind, Named, ValueConfig, ValueFrom};
use crate::config::{Diagnostics, Spanned};
use crate::model::{FieldPath, FieldPlanBuilder};
use crate::series::{HistogramOptions, MetricKind};
use regex::Regex;
use std::sync::Arc;

impl Mappings {
    /// Compiles every entry; what is wrong is among the findings, and the rest stands.
    pub fn compile(metrics: &[Named<MetricConfig>], plan: &mut FieldPlanBuilder, found: &mut Diagnostics) -> Self {
        let (mut compiled, mut timers) = (Compiled::default(), Vec::new());
        for Named { name, value: config } in metrics {
            if let Kind::Drop { selector } = &config.kind {
                compiled.drops.extend(Select::compile(selector, plan, found).map(|select| Drop { select }));
                continue;
            }
            if AUTOMATIC.iter().any(|(automatic, ..)| *automatic == name.value) {
                found.error_hint(
                    &name.span,
                    format!("{} is counted automatically", name.value),
                    "give the metric another name",
                );
                continue;
            }
            let mut entry = Entry { name, config, plan, found, timers: &mut timers };
            compiled.mappings.extend(entry.compile());
        }
        Self {
            compiled: Arc::new(compiled),
            ids: Vec::new(),
            types: Types::new(),
            handles: Handles::new(),
            timers,
            automatic: Automatic::default(),
        }
    }
}

struct Entry<'a> {
    name: &'a Spanned<String>,
    config: &'a MetricConfig,
    plan: &'a mut FieldPlanBuilder,
    found: &'a mut Diagnostics,
    timers: &'a mut Vec<Timer>,
}

impl Entry<'_> {
    fn compile(&mut self) -> Option<Mapping> {
        let labels = self.labels();
        let (mut begin, mut by) = (None, None);
        let (selector, action, kind, unit) = match &self.config.kind {
            Kind::Counter { selector, value } => {
                let (number, unit) = match value {
                    Some(value) => self.number(value)?,
                    None => (Number::Constant(1.0), ""),
                };
                if !self.name.value.ends_with("_total") {
                    self.found.warning(&self.name.span, "the name of a counter ends in _total by convention");
                }
                (selector, Action::Add(number), MetricKind::Counter, unit)
            }
            Kind::Gauge { selector, value, add } => {
                let (number, unit) = self.number(value)?;
                (selector, if *add { Action::GaugeAdd(number) } else { Action::Set(number) }, MetricKind::Gauge, unit)
            }
            Kind::Histogram { selector, value, buckets } => {
                let (number, unit) = self.number(value)?;
                let unit = if unit.is_empty() { self.unit_of_name() } else { unit };
                (selector, Action::Observe(number), self.histogram(buckets.as_deref(), unit)?, unit)
            }
            Kind::Timer { from, to, by: key, within_ms, buckets } => {
                begin = Some(Select::compile(from, self.plan, self.found)?);
                by = Some(self.source(key)?);
                self.timers.push(Timer::new(*within_ms));
                let action = Action::Timer(self.timers.len() - 1);
                (to, action, self.histogram(buckets.as_deref(), "seconds")?, "seconds")
            }
            Kind::Drop { .. } => return None,
        };
        if !unit.is_empty() && !self.name.value.trim_end_matches("_total").ends_with(unit) {
            let message = format!("the metric is in {unit}: its name ends in _{unit} by convention");
            self.found.warning(&self.name.span, message);
        }
        Some(Mapping {
            name: self.name.value.as_str().into(),
            help: self.config.help.as_str().into(),
            unit,
            kind,
            action,
            select: Select::compile(selector, self.plan, self.found)?,
            begin,
            by,
            labels: labels?,
            config: self.config.clone(),
        })
    }

    /// The unit that a name without `unit:` says.
    fn unit_of_name(&self) -> &'static str {
        ["seconds", "bytes", "ratio"].into_iter().find(|unit| self.name.value.ends_with(unit)).unwrap_or("")
    }

    fn histogram(&mut self, buckets: Option<&[f64]>, unit: &str) -> Option<MetricKind> {
        let bounds = buckets.map_or_else(|| default_bounds(unit), <[f64]>::to_vec);
        let rising = bounds.windows(2).all(|pair| pair[0] < pair[1]) && bounds.iter().all(|bound| bound.is_finite());
        if !rising {
            let message = "the bounds of buckets must be finite numbers, each larger than the one before";
            self.found.error(&self.config.span, message);
            return None;
        }
        Some(MetricKind::Histogram(HistogramOptions { bounds }))
    }

    fn source(&mut self, path: &Spanned<FieldPath>) -> Option<FieldSource> {
        let source = FieldSource::new(&path.value, self.plan);
        if source.is_none() {
            self.found.error(&path.span, "more than 65535 different fields are asked for");
        }
        source
    }

    fn number(&mut self, value: &ValueConfig) -> Option<(Number, &'static str)> {
        let (unit, factor) = match &value.unit {
            None => ("", 1.0),
            Some(unit) => match base_unit(&unit.value) {
                Some(known) => known,
                None => {
                    let hint = nearest(&unit.value, names()).map_or_else(
                        || "known units: ns us ms s min h d, B KiB MiB GiB kB MB GB, percent".into(),
                        |near| format!("did you mean {near:?}?"),
                    );
                    self.found.error_hint(&unit.span, format!("unknown unit {:?}", unit.value), hint);
                    return None;
                }
            },
        };
        let number = match &value.from {
            ValueFrom::Constant(value) => Number::Constant(*value * factor),
            ValueFrom::Path(path) => Number::Field(self.source(path)?, factor),
        };
        Some((number, unit))
    }

    fn labels(&mut self) -> Option<Vec<LabelRule>> {
        let compiled: Vec<LabelRule> = self.config.labels.iter().filter_map(|label| self.label(label)).collect();
        (compiled.len() == self.config.labels.len()).then_some(compiled)
    }

    fn label(&mut self, config: &LabelConfig) -> Option<LabelRule> {
        let from = match &config.from {
            Some(path) => Some(self.source(path)?),
            None => None,
        };
        let mut replace = Vec::with_capacity(config.replace.len());
        for (regex, with) in &config.replace {
            match Regex::new(&regex.value) {
                Ok(regex) => replace.push((regex, with.as_str().into())),
                Err(error) => {
                    self.found.error(&regex.span, format!("not a regular expression: {error}"));
                    return None;
                }
            }
        }
        Some(LabelRule {
            name: label_name(config).into(),
            from,
            constant: config.constant.as_deref().unwrap_or("").into(),
            replace,
            map: config.map.iter().map(|(from, to)| (from.as_str().into(), to.as_str().into())).collect(),
            default: config.default.as_deref().unwrap_or("").into(),
        })
    }
}
