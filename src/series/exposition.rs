//! `/metrics` in the Prometheus text format 0.0.4.
//!
//! Only self-counted series are exposed: what was received has its own source, and recording rules and ALERTS belong to
//! whoever scrapes. `job` and `instance` are left out, because the scraper adds them. Metrics are in order of their names,
//! series in order of their labels. Histograms appear in their classic form.

use super::catalog::MetricType;
use super::number::{bound_text, push_float, push_u64};
use super::registry::{Metric, MetricKind};
use super::store::{Body, OwnHistogram, Store, flag};
use crate::model::Labels;

/// Whether every reader takes a name without quotes; a metric's may hold colons, a label's may not.
pub(super) fn is_plain(name: &str, colons: bool) -> bool {
    let plain = |byte: u8, first: bool| {
        byte.is_ascii_alphabetic() || byte == b'_' || (!first && byte.is_ascii_digit()) || (colons && byte == b':')
    };
    !name.is_empty() && name.bytes().enumerate().all(|(at, byte)| plain(byte, at == 0))
}

/// A name for readers without UTF-8 names: as it is, or `U__` and each odd character as its code point (the escaping
/// scheme `values` of Prometheus).
pub(super) fn push_escaped_name(out: &mut String, name: &str, colons: bool) {
    if is_plain(name, colons) {
        out.push_str(name);
        return;
    }
    out.push_str("U__");
    for (at, c) in name.char_indices() {
        match c {
            '_' => out.push_str("__"),
            ':' if colons => out.push(':'),
            '0'..='9' if at > 0 => out.push(c),
            'a'..='z' | 'A'..='Z' => out.push(c),
            _ => out.push_str(&format!("_{:x}_", u32::from(c))),
        }
    }
}

/// Text with backslash, newline and (in `quotes`) quotation marks escaped.
pub(super) fn push_escaped(out: &mut String, text: &str, quotes: bool) {
    let mut done = 0;
    for (at, byte) in text.bytes().enumerate() {
        let escape = match byte {
            b'\\' => "\\\\",
            b'\n' => "\\n",
            b'"' if quotes => "\\\"",
            _ => continue,
        };
        out.push_str(&text[done..at]);
        out.push_str(escape);
        done = at + 1;
    }
    out.push_str(&text[done..]);
}

fn push_quoted(out: &mut String, text: &str) {
    out.push('"');
    push_escaped(out, text, true);
    out.push('"');
}

/// How names that need it are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Names {
    /// `U__…`, for every reader.
    Escaped,
    /// `{"a name", "a label"="value"}`, for readers that ask for `escaping=allow-utf-8`.
    Quoted,
}

impl Names {
    /// The start of a series, up to its value: `name_suffix{labels,le="1"} `.
    pub fn push_series(self, out: &mut String, name: &str, suffix: &str, labels: &Labels, le: Option<&str>) {
        let quoted = self == Self::Quoted && !is_plain(name, true);
        if quoted {
            out.push('{');
            push_quoted(out, &format!("{name}{suffix}"));
        } else {
            // Readers find the family by taking the suffix off, so it stays as it is.
            push_escaped_name(out, name, true);
            out.push_str(suffix);
            if !labels.is_empty() || le.is_some() {
                out.push('{');
            }
        }
        let mut first = !quoted;
        let mut comma = |out: &mut String| {
            if !std::mem::take(&mut first) {
                out.push(',');
            }
        };
        for label in labels.iter() {
            comma(out);
            if self == Self::Quoted && !is_plain(&label.name, false) {
                push_quoted(out, &label.name);
            } else {
                push_escaped_name(out, &label.name, false);
            }
            out.push('=');
            push_quoted(out, &label.value);
        }
        if let Some(le) = le {
            comma(out);
            out.push_str("le=");
            push_quoted(out, le);
        }
        if quoted || !labels.is_empty() || le.is_some() {
            out.push('}');
        }
        out.push(' ');
    }

    /// A metric's name in a comment line.
    pub fn push_name(self, out: &mut String, name: &str) {
        if self == Self::Quoted && !is_plain(name, true) {
            push_quoted(out, name);
        } else {
            push_escaped_name(out, name, true);
        }
    }
}

/// The cached start of a counter's or gauge's line.
pub(super) fn series_prefix(name: &str, labels: &Labels) -> String {
    let mut out = String::new();
    Names::Escaped.push_series(&mut out, name, "", labels, None);
    out
}

impl Metric {
    fn has_odd_names(&self, labels: impl Iterator<Item = bool>) -> bool {
        !is_plain(&self.name, true) || labels.into_iter().any(|odd| odd)
    }
}

impl Store {
    /// The declared metrics in order of their names.
    pub(super) fn exposed(&self) -> Vec<&Metric> {
        let valued = |slot: &u32| self.hot[*slot as usize].flags & flag::VALUED != 0;
        let mut metrics: Vec<&Metric> =
            self.metrics.iter().filter(|metric| metric.kind.is_some() && metric.sorted.iter().any(valued)).collect();
        metrics.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        metrics
    }

    /// Appends all self-counted series in the Prometheus text format 0.0.4. Names that it has no letters for are escaped
    /// (`U__…`); the content type is `text/plain; version=0.0.4; charset=utf-8`.
    pub fn write_prometheus(&self, out: &mut String) {
        self.write_text(out, Names::Escaped);
    }

    /// Like [`Self::write_prometheus`] with such names in quotes, for a scraper whose Accept header says
    /// `escaping=allow-utf-8` (content type `text/plain; version=1.0.0; escaping=allow-utf-8`).
    pub fn write_prometheus_utf8(&self, out: &mut String) {
        self.write_text(out, Names::Quoted);
    }

    fn write_text(&self, out: &mut String, names: Names) {
        for metric in self.exposed() {
            let kind = match metric.kind {
                Some(MetricKind::Counter) => MetricType::Counter,
                Some(MetricKind::Histogram(_)) => MetricType::Histogram,
                _ => MetricType::Gauge,
            };
            if !metric.help.is_empty() {
                out.push_str("# HELP ");
                names.push_name(out, &metric.name);
                out.push(' ');
                push_escaped(out, &metric.help, false);
                out.push('\n');
            }
            out.push_str("# TYPE ");
            names.push_name(out, &metric.name);
            out.push(' ');
            out.push_str(kind.as_str());
            out.push('\n');
            let bounds: Vec<String> = metric.bounds.iter().copied().chain([f64::INFINITY]).map(bound_text).collect();
            for slot in &metric.sorted {
                let (Some(entry), hot) = (self.entry(*slot), self.hot[*slot as usize]) else { continue };
                match &entry.body {
                    Body::Histogram(histogram) => write_histogram(out, names, metric, &entry.own, histogram, &bounds),
                    _ if hot.flags & flag::VALUED == 0 => {}
                    _ => {
                        let odd = || metric.has_odd_names(entry.own.iter().map(|label| !is_plain(&label.name, false)));
                        if names == Names::Quoted && odd() {
                            names.push_series(out, &metric.name, "", &entry.own, None);
                        } else {
                            out.push_str(&entry.prefix);
                        }
                        push_float(out, hot.value);
                        out.push('\n');
                    }
                }
            }
        }
    }
}

fn write_histogram(
    out: &mut String,
    names: Names,
    metric: &Metric,
    labels: &Labels,
    histogram: &OwnHistogram,
    bounds: &[String],
) {
    let mut cumulative = 0;
    for (count, bound) in histogram.state.classic.iter().zip(bounds) {
        cumulative += count;
        names.push_series(out, &metric.name, "_bucket", labels, Some(bound));
        push_u64(out, cumulative);
        out.push('\n');
    }
    names.push_series(out, &metric.name, "_sum", labels, None);
    push_float(out, histogram.state.sum);
    out.push('\n');
    names.push_series(out, &metric.name, "_count", labels, None);
    push_u64(out, histogram.state.count);
    out.push('\n');
}
