//! `/metrics` in the OpenMetrics text format 1.0.0: `_total`, `_created`, units, exemplars, `# EOF`.

use super::catalog::MetricType;
use super::exposition::{Names, push_escaped};
use super::number::{bound_text, push_float, push_u64};
use super::registry::{Metric, MetricKind};
use super::store::{Body, Entry, OwnHistogram, Store, flag};
use super::update::Exemplar;
use std::collections::BTreeSet;
use std::fmt::Write as _;

/// A bound as OpenMetrics wants it ("Considerations: Canonical Numbers"): `1.0`, `0.5`, `1e+06`, `+Inf`.
fn canonical_bound(bound: f64) -> String {
    if bound.fract() != 0.0 || !bound.is_finite() {
        return bound_text(bound);
    }
    if bound.abs() < 1e6 {
        return format!("{bound:.1}");
    }
    let text = format!("{bound:e}");
    match text.split_once('e') {
        Some((digits, exponent)) => format!("{digits}e+{exponent:0>2}"),
        None => text,
    }
}

/// Milliseconds as seconds with all their digits.
fn push_seconds(out: &mut String, t_ms: i64) {
    push_float(out, t_ms as f64 / 1e3);
}

/// What the families of one exposition are called, each once.
struct Family {
    name: String,
    kind: MetricType,
    /// What the value of a counter or gauge adds to the family's name.
    suffix: &'static str,
}

impl Family {
    fn of(metric: &Metric, taken: &mut BTreeSet<String>) -> Self {
        let name = metric.name.to_string();
        let family = match metric.kind {
            Some(MetricKind::Counter) => {
                let name = name.strip_suffix("_total").unwrap_or(&name).to_owned();
                Self { name, kind: MetricType::Counter, suffix: "_total" }
            }
            Some(MetricKind::Histogram(_)) => Self { name, kind: MetricType::Histogram, suffix: "" },
            _ => Self { name, kind: MetricType::Gauge, suffix: "" },
        };
        if taken.insert(family.name.clone()) {
            return family;
        }
        // A gauge `x` beside a counter `x_total` would be one family of two types; the second goes without a type.
        let family = Self { name: metric.name.to_string(), kind: MetricType::Unknown, suffix: "" };
        taken.insert(family.name.clone());
        family
    }

    fn write_head(&self, out: &mut String, metric: &Metric) {
        let names = Names::Escaped;
        let mut line = |word: &str, text: &dyn Fn(&mut String)| {
            out.push_str(word);
            names.push_name(out, &self.name);
            out.push(' ');
            text(out);
            out.push('\n');
        };
        line("# TYPE ", &|out| out.push_str(self.kind.as_str()));
        // A unit may be told only of a family whose name ends with it.
        if !metric.unit.is_empty() && self.name.strip_suffix(&*metric.unit).is_some_and(|rest| rest.ends_with('_')) {
            line("# UNIT ", &|out| out.push_str(&metric.unit));
        }
        if !metric.help.is_empty() {
            line("# HELP ", &|out| push_escaped(out, &metric.help, true));
        }
    }
}

impl Store {
    /// Appends all self-counted series in the OpenMetrics text format 1.0.0, `# EOF` included; the content type is
    /// `application/openmetrics-text; version=1.0.0; charset=utf-8`.
    pub fn write_openmetrics(&self, out: &mut String) {
        self.write_openmetrics_families(out);
        out.push_str("# EOF\n");
    }

    /// Like [`Self::write_openmetrics`] without `# EOF`, so that more families can follow.
    pub fn write_openmetrics_families(&self, out: &mut String) {
        let mut taken = BTreeSet::new();
        for metric in self.exposed() {
            let family = Family::of(metric, &mut taken);
            family.write_head(out, metric);
            let bounds: Vec<String> =
                metric.bounds.iter().copied().chain([f64::INFINITY]).map(canonical_bound).collect();
            for slot in &metric.sorted {
                let (Some(entry), hot) = (self.entry(*slot), self.hot[*slot as usize]) else { continue };
                match &entry.body {
                    Body::Histogram(histogram) => write_histogram(out, &family, entry, histogram, &bounds),
                    _ if hot.flags & flag::VALUED == 0 => {}
                    _ => {
                        Names::Escaped.push_series(out, &family.name, family.suffix, &entry.own, None);
                        push_float(out, hot.value);
                        out.push('\n');
                        if family.kind == MetricType::Counter {
                            write_created(out, &family, entry);
                        }
                    }
                }
            }
        }
    }
}

fn write_created(out: &mut String, family: &Family, entry: &Entry) {
    Names::Escaped.push_series(out, &family.name, "_created", &entry.own, None);
    push_seconds(out, entry.created_ms);
    out.push('\n');
}

fn write_exemplar(out: &mut String, exemplar: &Exemplar) {
    let mut comma = "";
    out.push_str(" # {");
    for (name, value) in [("trace_id", &exemplar.trace_id), ("span_id", &exemplar.span_id)] {
        if !value.is_empty() {
            let _ = write!(out, "{comma}{name}=\"");
            push_escaped(out, value, true);
            out.push('"');
            comma = ",";
        }
    }
    out.push_str("} ");
    push_float(out, exemplar.value);
    out.push(' ');
    push_seconds(out, exemplar.at.millis());
}

fn write_histogram(out: &mut String, family: &Family, entry: &Entry, histogram: &OwnHistogram, bounds: &[String]) {
    let names = Names::Escaped;
    let mut cumulative = 0;
    for (at, (count, bound)) in histogram.state.classic.iter().zip(bounds).enumerate() {
        cumulative += count;
        names.push_series(out, &family.name, "_bucket", &entry.own, Some(bound));
        push_u64(out, cumulative);
        if let Some(Some(exemplar)) = histogram.exemplars.get(at) {
            write_exemplar(out, exemplar);
        }
        out.push('\n');
    }
    names.push_series(out, &family.name, "_count", &entry.own, None);
    push_u64(out, histogram.state.count);
    out.push('\n');
    names.push_series(out, &family.name, "_sum", &entry.own, None);
    push_float(out, histogram.state.sum);
    out.push('\n');
    write_created(out, family, entry);
}
