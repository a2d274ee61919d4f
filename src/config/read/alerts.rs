//! `alerts:`, the short form.

use super::{conditions, events, slo};
use crate::config::reader::{self, MapReader};
use crate::config::schema::{AlertConfig, AlertKind, Named, Pattern, ThresholdOp};
use crate::config::yaml::Node;
use crate::config::{Diagnostics, Spanned};

/// Keys that belong to `metric:` alone.
const OF_METRIC: [&str; 9] = ["of", "stat", "over", "by", "where", "above", "below", "at_least", "at_most"];
const THRESHOLDS: [(&str, ThresholdOp); 4] = [
    ("above", ThresholdOp::Above),
    ("below", ThresholdOp::Below),
    ("at_least", ThresholdOp::AtLeast),
    ("at_most", ThresholdOp::AtMost),
];

/// Reads the entries under `alerts:` of sidewatch.yaml or of a rule file, in order.
pub fn read(map: &mut MapReader<'_, '_>) -> Vec<Named<AlertConfig>> {
    map.named("alerts", alert).into_iter().map(|(name, value)| Named { name, value }).collect()
}

fn alert(name: &Spanned<String>, node: &Node, found: &mut Diagnostics) -> Option<AlertConfig> {
    let named = alert_name(name, found);
    let mut map = MapReader::new(node, "alert", found)?;
    let kind = map.exactly_one(&["metric", "event", "expr", "slo"]);
    let kind = match kind {
        Some(("metric", node)) => metric(node, &mut map),
        Some((other, node)) => {
            for key in OF_METRIC {
                map.refuse(key, &format!("{key} goes with metric, not with {other}"));
            }
            match other {
                "event" => conditions::event(node, map.found()).map(AlertKind::Event),
                "slo" => slo::read(node, map.found()).map(AlertKind::Slo),
                _ => reader::string(node, "expr", map.found()).map(AlertKind::Expr),
            }
        }
        None => {
            // Without a kind nothing says which keys belong here; only the missing kind is worth saying.
            map.know(&OF_METRIC);
            None
        }
    };
    let for_ms = map.duration_ms("for").map_or(0, |time| time.value);
    let keep_firing_for_ms = map.duration_ms("keep_firing_for").map_or(0, |time| time.value);
    let severity = map.string("severity");
    let labels = map.string_map("labels");
    let annotations = map.string_map("annotations");
    let runbook = map.string("runbook").map(|text| text.value);
    let notify = map.strings("notify");
    let span = map.span().clone();
    for (label, _) in &labels {
        if events::label_name(label, map.found()) && label.value == "alertname" {
            map.found().error(&label.span, "the label \"alertname\" is the alert's own name");
        }
    }
    for (annotation, _) in &annotations {
        events::label_name(annotation, map.found());
    }
    map.finish();
    if !named {
        return None;
    }
    Some(AlertConfig { kind: kind?, for_ms, keep_firing_for_ms, severity, labels, annotations, runbook, notify, span })
}

/// The name becomes the label `alertname`.
fn alert_name(name: &Spanned<String>, found: &mut Diagnostics) -> bool {
    let valid = !name.value.trim().is_empty() && name.value.len() <= 200 && !name.value.contains(char::is_control);
    if !valid {
        let message = format!("{:?} is not an alert name: visible text of at most 200 bytes", name.value);
        found.error_hint(&name.span, message, "names look like HighErrorRate");
    }
    valid
}

fn metric(node: &Node, map: &mut MapReader<'_, '_>) -> Option<AlertKind> {
    let metric = reader::string(node, "metric", map.found());
    let of = map.string("of");
    let stat = map.string("stat");
    let over_ms = map.duration_ms("over").map(|over| over.value);
    let by = events::paths(map, "by");
    let matchers = map.named("where", |name, node, found| {
        let valid = events::label_name(name, found);
        let pattern = if node.as_map().is_some() {
            events::pattern(node, found)
        } else {
            reader::string_or_empty(node, "where", found).map(Pattern::Glob)
        };
        pattern.filter(|_| valid)
    });
    let (key, threshold) = map.exactly_one(&THRESHOLDS.map(|(key, _)| key))?;
    let threshold = reader::string(threshold, key, map.found())?;
    let (_, op) = THRESHOLDS.into_iter().find(|(known, _)| *known == key)?;
    Some(AlertKind::Metric { metric: metric?, of, stat, over_ms, by, matchers, op, threshold })
}
