//! The routing in Alertmanager's format, however it was configured: what `amtool config show` and `amtool config routes`
//! read. Receivers have their names only: what they are made of may hold secrets.

use super::inhibit::InhibitRule;
use super::intervals::TimeInterval;
use super::matcher::{Matcher, go_quote};
use super::routing::{GroupBy, Route, Routing};
use crate::model::format_duration_ms;
use std::fmt::Write;

const WEEKDAYS: [&str; 7] = ["sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"];

impl Routing {
    /// YAML that Alertmanager reads.
    pub fn alertmanager_text(&self) -> String {
        let mut out = format!("global:\n  resolve_timeout: {}\nroute:\n", format_duration_ms(self.resolve_timeout_ms));
        let mut root = String::new();
        self.route_text(&self.routes[self.root], 1, &mut root);
        out += &root;
        if !self.explicit.is_empty() {
            // Routes that single rules name are asked before the tree.
            if self.routes[self.root].children.is_empty() {
                out += "  routes:\n";
                self.children_text(&self.explicit, 1, &mut out);
            } else {
                let mut first = String::new();
                self.children_text(&self.explicit, 1, &mut first);
                out = out.replacen("\n  routes:\n", &format!("\n  routes:\n{first}"), 1);
            }
        }
        if !self.inhibit_rules.is_empty() {
            out += "inhibit_rules:\n";
            self.inhibit_rules.iter().for_each(|rule| inhibit_text(rule, &mut out));
        }
        out += "receivers:\n";
        for receiver in &self.receivers {
            let _ = writeln!(out, "- name: {}", go_quote(&receiver.name));
        }
        let mut intervals = self.intervals.iter().peekable();
        if intervals.peek().is_some() {
            out += "time_intervals:\n";
        }
        for (name, list) in intervals {
            let _ = writeln!(out, "- name: {}\n  time_intervals:", go_quote(name));
            list.iter().for_each(|interval| interval_text(interval, &mut out));
        }
        out + "templates: []\n"
    }

    fn route_text(&self, route: &Route, depth: usize, out: &mut String) {
        let pad = "  ".repeat(depth);
        let mut line = |key: &str, value: String| {
            let _ = writeln!(out, "{pad}{key}: {value}");
        };
        let receiver = self.receivers.get(route.receiver).map_or("", |receiver| &receiver.name);
        line("receiver", go_quote(receiver));
        match &route.group_by {
            GroupBy::All => line("group_by", "['...']".into()),
            GroupBy::Names(names) if names.is_empty() => {}
            GroupBy::Names(names) => line("group_by", list(names)),
        }
        if !route.matchers.is_empty() {
            line("matchers", matchers_text(&route.matchers));
        }
        if route.continues {
            line("continue", "true".into());
        }
        line("group_wait", format_duration_ms(route.timing.group_wait_ms));
        line("group_interval", format_duration_ms(route.timing.group_interval_ms));
        line("repeat_interval", format_duration_ms(route.timing.repeat_interval_ms));
        for (key, names) in [
            ("mute_time_intervals", &route.mute_time_intervals),
            ("active_time_intervals", &route.active_time_intervals),
        ] {
            if !names.is_empty() {
                line(key, list(names));
            }
        }
        if !route.children.is_empty() {
            let _ = writeln!(out, "{pad}routes:");
            self.children_text(&route.children, depth, out);
        }
    }

    fn children_text(&self, children: &[usize], depth: usize, out: &mut String) {
        for child in children {
            let mut text = String::new();
            self.route_text(&self.routes[*child], depth + 1, &mut text);
            let pad = "  ".repeat(depth);
            // The first key stands behind the dash.
            let _ = write!(out, "{pad}- {}", text.trim_start());
        }
    }
}

fn list(names: &[String]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| go_quote(name)).collect();
    format!("[{}]", quoted.join(", "))
}

fn matchers_text(matchers: &[Matcher]) -> String {
    list(&matchers.iter().map(ToString::to_string).collect::<Vec<_>>())
}

fn inhibit_text(rule: &InhibitRule, out: &mut String) {
    let (source, target) = (matchers_text(&rule.source), matchers_text(&rule.target));
    let _ = writeln!(out, "- source_matchers: {source}\n  target_matchers: {target}\n  equal: {}", list(&rule.equal));
}

fn interval_text(interval: &TimeInterval, out: &mut String) {
    let mut parts = Vec::new();
    if !interval.times.is_empty() {
        let clock = |minute: i64| format!("'{:02}:{:02}'", minute / 60, minute % 60);
        let one = |(start, end): &(i64, i64)| format!("{{start_time: {}, end_time: {}}}", clock(*start), clock(*end));
        parts.push(format!("times: [{}]", interval.times.iter().map(one).collect::<Vec<_>>().join(", ")));
    }
    let weekday =
        |day: i64| WEEKDAYS.get(usize::try_from(day).unwrap_or_default()).copied().unwrap_or_default().to_owned();
    let number = |value: i64| value.to_string();
    let mut ranges = |key: &str, ranges: &[(i64, i64)], word: &dyn Fn(i64) -> String| {
        if !ranges.is_empty() {
            let one = |(low, high): &(i64, i64)| format!("'{}:{}'", word(*low), word(*high));
            parts.push(format!("{key}: [{}]", ranges.iter().map(one).collect::<Vec<_>>().join(", ")));
        }
    };
    ranges("weekdays", &interval.weekdays, &weekday);
    ranges("days_of_month", &interval.days_of_month, &number);
    ranges("months", &interval.months, &number);
    ranges("years", &interval.years, &number);
    parts.push(format!("location: {}", interval.location.iana_name().unwrap_or("UTC")));
    let _ = writeln!(out, "  - {{{}}}", parts.join(", "));
}
