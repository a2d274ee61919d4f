//! What messages say when no template says otherwise: what, since when, the value then and now, labels.

use super::decision::Reason;
use super::notification::Notification;
use super::webhook::label_line;
use crate::model::{Alert, AlertStatus, Timestamp, format_duration_ms};
use std::collections::BTreeMap;

/// Annotations that name an alert's matter in one line, the first that is there.
const SUMMARIES: [&str; 4] = ["summary", "title", "message", "description"];

/// Annotations that lead to a runbook.
const RUNBOOKS: [&str; 2] = ["runbook_url", "runbook"];
/// Runbooks that a message links to.
const RUNBOOK_LINKS: usize = 3;
/// Alerts that a text spells out.
const LISTED: usize = 100;
/// With fewer alerts than this nothing stands out among them.
const FEWEST_TO_COMPARE: usize = 4;
/// From which share of the alerts on a label's value stands out, in per cent.
const MOST_PERCENT: usize = 60;
/// Label values that are named.
const STANDING_OUT: usize = 2;

/// One line that says what the alert is about.
pub(super) fn summary(alert: &Alert) -> Option<&str> {
    SUMMARIES.iter().find_map(|name| alert.annotations.get(name)).map(str::trim).filter(|text| !text.is_empty())
}

/// `[FIRING:2] Name`, with what the alerts have in common beyond their group.
pub(super) fn subject(notification: &Notification) -> String {
    let mut text = match notification.status {
        _ if notification.reason == Reason::Flapping => "[FLAPPING]".into(),
        AlertStatus::Firing if notification.truncated > 0 => format!("[FIRING:{}+]", notification.firing().count()),
        AlertStatus::Firing => format!("[FIRING:{}]", notification.firing().count()),
        AlertStatus::Resolved => "[RESOLVED]".into(),
    };
    let group = &notification.group_labels;
    match group.get("alertname").or_else(|| notification.common_labels.get("alertname")) {
        Some(name) => text.push_str(&format!(" {name}")),
        None => text.push_str(&format!(" {} alerts", notification.alerts.len())),
    }
    let shown = notification.common_labels.filtered(|name| !matches!(name, "alertname" | "job" | "instance"));
    let values: Vec<&str> = shown.iter().map(|label| &*label.value).collect();
    if !values.is_empty() {
        text.push_str(&format!(" ({})", values.join(" ")));
    }
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// The alert's course in words: `value 0.12 since 10:01:02 UTC`, `after 1m5s, value 0.12 -> 0.01`.
pub(super) fn course(alert: &Alert) -> String {
    match alert.resolved_at {
        // A posted alert has no value.
        None if alert.value_at_firing.is_nan() => format!("since {}", clock(alert.fired_at)),
        None => format!("value {} since {}", number(alert.value), clock(alert.fired_at)),
        Some(end) => {
            let lasted = duration(end.millis_since(alert.fired_at));
            match alert.value_at_resolve {
                Some(value) => {
                    format!("after {lasted}, value {} -> {}", number(alert.value_at_firing), number(value))
                }
                None if alert.value_at_firing.is_nan() => format!("after {lasted}"),
                None => format!("after {lasted}, value was {}", number(alert.value_at_firing)),
            }
        }
    }
}

/// Names and texts of the facts of an alert, for fields and tables.
pub(super) fn facts(alert: &Alert) -> Vec<(&'static str, String)> {
    let mut facts = vec![("Since", moment(alert.fired_at))];
    if !alert.value_at_firing.is_nan() {
        facts.push(("Value when it fired", number(alert.value_at_firing)));
    }
    match alert.resolved_at {
        None => {
            if alert.value != alert.value_at_firing && !alert.value.is_nan() {
                facts.push(("Value now", number(alert.value)));
            }
        }
        Some(end) => {
            facts.push(("Until", format!("{} (after {})", moment(end), duration(end.millis_since(alert.fired_at)))));
            if let Some(value) = alert.value_at_resolve {
                facts.push(("Value when it ended", number(value)));
            }
        }
    }
    if !alert.context.stands_out.is_empty() {
        facts.push(("Stands out", alert.context.stands_out.join(", ")));
    }
    if !alert.context.event.is_empty() {
        let fields: Vec<String> = alert.context.event.iter().map(|(path, value)| format!("{path}={value}")).collect();
        facts.push(("Last event", fields.join(", ")));
    }
    facts
}

/// Alerts that texts list; the others are counted.
const ALERTS_SHOWN: usize = 100;

/// How many alerts the texts leave out: `and 9900 more`.
fn more(notification: &Notification) -> Option<String> {
    let left_out = notification.truncated + notification.alerts.len().saturating_sub(ALERTS_SHOWN);
    (left_out > 0).then(|| format!("and {left_out} more"))
}

/// Alerts in plain words, one after the other: for messages that take a text and no more.
pub(super) fn list(alerts: &[&Alert]) -> String {
    let mut text = String::new();
    for alert in alerts.iter().take(LISTED) {
        text.push_str(&entry(alert));
    }
    if alerts.len() > LISTED {
        text.push_str(&format!("and {} more\n", alerts.len() - LISTED));
    }
    text
}

/// One alert in plain words: name and summary, facts, labels, annotations, links.
fn entry(alert: &Alert) -> String {
    let mut text = alert.name().to_owned();
    if let Some(summary) = summary(alert) {
        text.push_str(&format!(": {summary}"));
    }
    text.push('\n');
    for (name, value) in facts(alert) {
        text.push_str(&format!("  {name}: {value}\n"));
    }
    let labels = label_line(&alert.labels, &["alertname"]);
    if !labels.is_empty() {
        text.push_str(&format!("  Labels: {labels}\n"));
    }
    for annotation in alert.annotations.iter().filter(|a| Some(&*a.value) != summary(alert)) {
        text.push_str(&format!("  {}: {}\n", annotation.name, annotation.value));
    }
    if !alert.generator_url.is_empty() {
        text.push_str(&format!("  {}\n", alert.generator_url));
    }
    text
}

/// What most alerts of a message have in common without all having it: `7 of 9 have region=eu`.
pub(super) fn standing_out(notification: &Notification) -> Vec<String> {
    let total = notification.alerts.len();
    if total < FEWEST_TO_COMPARE {
        return Vec::new();
    }
    let mut counts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for label in notification.alerts.iter().flat_map(|alert| alert.labels.iter()) {
        *counts.entry((&label.name, &label.value)).or_default() += 1;
    }
    let most = |count: usize| count < total && count * 100 >= total * MOST_PERCENT;
    let mut found: Vec<(usize, String)> = counts
        .into_iter()
        .filter(|(_, count)| most(*count))
        .map(|((name, value), count)| (count, format!("{count} of {total} have {name}={value}")))
        .collect();
    found.sort_by_key(|(count, _)| std::cmp::Reverse(*count));
    found.into_iter().take(STANDING_OUT).map(|(_, text)| text).collect()
}

/// The runbooks of a message's alerts, each once.
pub(super) fn runbooks(notification: &Notification) -> impl Iterator<Item = &str> {
    let mut seen: Vec<&str> = Vec::new();
    let links = notification.alerts.iter().flat_map(|alert| RUNBOOKS.map(|name| alert.annotations.get(name)));
    for link in links.flatten().filter(|link| is_link(link)) {
        if !seen.contains(&link) && seen.len() < RUNBOOK_LINKS {
            seen.push(link);
        }
    }
    seen.into_iter()
}

/// A text's beginning, with a mark where it was cut.
pub(super) fn cut(text: String, characters: usize) -> String {
    if text.chars().count() <= characters {
        return text;
    }
    let mut kept: String = text.chars().take(characters.saturating_sub(1)).collect();
    kept.push('…');
    kept
}

/// The message as plain text.
pub(super) fn plain(notification: &Notification, external_url: &str) -> String {
    let mut text = String::new();
    for line in standing_out(notification) {
        text.push_str(&format!("{line}\n"));
    }
    for (title, alerts) in sections(notification) {
        text.push_str(&format!("{title}\n"));
        for alert in alerts {
            text.push_str(&format!("\n{}", entry(alert)));
        }
        text.push('\n');
    }
    if let Some(more) = more(notification) {
        text.push_str(&format!("... {more}\n\n"));
    }
    if !external_url.is_empty() {
        text.push_str(&format!("-- \nsidewatch: {external_url}\n"));
    }
    text
}

/// The message as an HTML page.
pub(super) fn html(notification: &Notification, external_url: &str) -> String {
    let mut body = String::new();
    for line in standing_out(notification) {
        body.push_str(&format!("<p>{}</p>\n", escape_html(&line)));
    }
    for (title, alerts) in sections(notification) {
        let colour = if title.starts_with("Ended") { "#2eb886" } else { "#c9302c" };
        body.push_str(&format!("<h2 style=\"color:{colour};font-size:17px\">{}</h2>\n", escape_html(&title)));
        for alert in alerts {
            body.push_str(&format!(
                "<div style=\"border-left:4px solid {colour};padding:2px 12px;margin:12px 0\"><b>{}</b>",
                escape_html(alert.name())
            ));
            if let Some(summary) = summary(alert) {
                body.push_str(&format!("<br>{}", escape_html(summary)));
            }
            body.push_str("<table style=\"font-size:13px;border-spacing:0 2px\">");
            let mut row = |name: &str, value: &str| {
                body.push_str(&format!(
                    "<tr><td style=\"color:#666;padding-right:12px\">{}</td><td>{}</td></tr>",
                    escape_html(name),
                    escape_html(value)
                ));
            };
            for (name, value) in facts(alert) {
                row(name, &value);
            }
            for label in alert.labels.iter().filter(|label| &*label.name != "alertname") {
                row(&label.name, &label.value);
            }
            for annotation in alert.annotations.iter().filter(|a| Some(&*a.value) != summary(alert)) {
                row(&annotation.name, &annotation.value);
            }
            body.push_str("</table>");
            for link in RUNBOOKS.iter().filter_map(|name| alert.annotations.get(name)).filter(|link| is_link(link)) {
                body.push_str(&format!("<a href=\"{}\">Runbook</a> ", escape_html(link)));
            }
            if is_link(&alert.generator_url) {
                body.push_str(&format!("<a href=\"{}\">Show</a>", escape_html(&alert.generator_url)));
            }
            body.push_str("</div>\n");
        }
    }
    if let Some(more) = more(notification) {
        body.push_str(&format!("<p>… {more}</p>\n"));
    }
    if is_link(external_url) {
        let url = escape_html(external_url);
        body.push_str(&format!("<p style=\"color:#666\">sidewatch: <a href=\"{url}\">{url}</a></p>\n"));
    }
    format!(
        "<!DOCTYPE html>\n<html><head><meta charset=\"utf-8\"></head>\n<body style=\"font-family:sans-serif;color:#222\">\n\
         {body}</body></html>\n"
    )
}

/// Alerts that fire, then those that ended, under their headings.
fn sections(notification: &Notification) -> Vec<(String, Vec<&Alert>)> {
    let firing: Vec<&Alert> = notification.firing().map(AsRef::as_ref).collect();
    let ended: Vec<&Alert> = notification.resolved().map(AsRef::as_ref).collect();
    let (mut sections, mut room) = (Vec::new(), ALERTS_SHOWN);
    for (word, mut alerts) in [("Firing", firing), ("Ended", ended)] {
        if !alerts.is_empty() {
            let title = format!("{word}: {}", alerts.len());
            alerts.truncate(room);
            room -= alerts.len();
            sections.push((title, alerts));
        }
    }
    sections
}

/// Whether a text may stand in a link.
pub(super) fn is_link(text: &str) -> bool {
    text.starts_with("http://") || text.starts_with("https://")
}

/// A number as people write it: up to four significant digits after the point, no exponent where none is needed.
pub(super) fn number(value: f64) -> String {
    let size = value.abs();
    if !value.is_finite() || size >= 1e15 || (size > 0.0 && size < 1e-4) {
        return crate::template::format_float(value, 'g', Some(4));
    }
    let decimals = if size >= 100.0 {
        2
    } else if size >= 1.0 {
        3
    } else {
        5
    };
    let text = format!("{value:.decimals$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    if text == "-0" { "0".into() } else { text.to_owned() }
}

/// How long, in words: below ten seconds with milliseconds, above in whole seconds.
pub(super) fn duration(duration_ms: i64) -> String {
    let duration_ms = duration_ms.max(0);
    format_duration_ms(if duration_ms >= 10_000 { duration_ms / 1_000 * 1_000 } else { duration_ms })
}

/// The time of day in UTC.
fn clock(at: Timestamp) -> String {
    moment(at).get(11..).unwrap_or_default().to_owned()
}

/// Date and time in UTC, to the second.
pub(super) fn moment(at: Timestamp) -> String {
    match jiff::Timestamp::from_microsecond(at.micros()) {
        Ok(moment) => moment.strftime("%Y-%m-%d %H:%M:%S UTC").to_string(),
        Err(_) => at.rfc3339(),
    }
}

/// The five characters of HTML.
pub(super) fn escape_html(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        for (value, text) in [
            (0.0, "0"),
            (-0.0, "0"),
            (0.05, "0.05"),
            (0.1234567, "0.12346"),
            (1.0, "1"),
            (95.8, "95.8"),
            (1234567.891, "1234567.89"),
            (500.0, "500"),
            (1e21, "1e+21"),
            (f64::INFINITY, "+Inf"),
            (f64::NAN, "NaN"),
            (0.00001, "1e-05"),
        ] {
            assert_eq!(number(value), text);
        }
    }
}
