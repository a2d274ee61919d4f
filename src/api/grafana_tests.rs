//! Holds the Grafana dashboards to the rules of grafana/dashboard-linter and every query to our own parser.

use crate::promql::Query;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("dashboards")
}

fn dashboards() -> Vec<(String, Value)> {
    let mut all: Vec<(String, Value)> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .map(|path| {
            let text = std::fs::read_to_string(&path).unwrap();
            assert!(!text.contains("${DS_"), "{path:?}: file provisioning does not substitute inputs");
            (path.file_name().unwrap().to_str().unwrap().to_owned(), serde_json::from_str(&text).unwrap())
        })
        .collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    assert!(all.len() >= 2);
    all
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or("")
}

fn items<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// What is wrong with a panel.
fn panel_faults(panel: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    for key in ["title", "description"] {
        if text(panel, key).is_empty() {
            faults.push(format!("no {key}"));
        }
    }
    if panel.pointer("/fieldConfig/defaults/unit").and_then(Value::as_str).is_none_or(str::is_empty) {
        faults.push("no unit".into());
    }
    if text(&panel["datasource"], "uid") != "${datasource}" {
        faults.push("its data source is not the variable".into());
    }
    if items(panel, "/targets").is_empty() {
        faults.push("no target".into());
    }
    for target in items(panel, "/targets") {
        faults
            .extend(query_faults(text(target, "expr")).into_iter().map(|fault| format!("{fault}: {}", target["expr"])));
    }
    faults
}

fn query_faults(expr: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let filled = expr
        .replace("$__rate_interval", "1m")
        .replace("$__interval", "15s")
        .replace("$job", ".+")
        .replace("$instance", ".+");
    let query = match Query::parse(&filled) {
        Ok(query) => query,
        Err(error) => return vec![format!("does not parse ({error})")],
    };
    for selector in query.expr().selectors() {
        for label in ["job", "instance"] {
            if !selector.matchers.iter().any(|matcher| matcher.name == label && matcher.value == ".+") {
                faults.push(format!("a selector without the variable {label}"));
            }
        }
    }
    for (at, _) in expr.match_indices('[') {
        if !expr[at..].starts_with("[$__rate_interval]") {
            faults.push("a range that is not $__rate_interval".into());
        }
    }
    // Counters are read through rate or increase, but for their total in a table.
    for (at, _) in expr.match_indices("_total{") {
        let name_start =
            expr[..at].rfind(|c: char| !c.is_ascii_alphanumeric() && c != '_').map_or(0, |start| start + 1);
        let before = &expr[..name_start];
        let is_total =
            expr.starts_with("sum by (type) (events_total{") || expr.starts_with("count(count by (instance)");
        if !before.ends_with("rate(") && !before.ends_with("increase(") && !is_total {
            faults.push("a counter outside of rate or increase".into());
        }
    }
    faults
}

#[test]
fn dashboards_follow_the_rules_of_the_linter() {
    let mut uids = BTreeSet::new();
    for (file, dashboard) in dashboards() {
        assert!(uids.insert(text(&dashboard, "uid").to_owned()) && !text(&dashboard, "uid").is_empty(), "{file}: uid");
        assert_eq!(dashboard["editable"], false, "{file}");
        assert!(dashboard["id"].is_null(), "{file}: an id of one Grafana has no meaning in another");
        assert!(items(&dashboard, "/tags").contains(&"sidewatch".into()), "{file}: tags");
        let variables = items(&dashboard, "/templating/list");
        let sources: Vec<&Value> = variables.iter().filter(|variable| text(variable, "type") == "datasource").collect();
        assert_eq!(
            (sources.len(), text(sources[0], "name"), text(sources[0], "label")),
            (1, "datasource", "Data Source")
        );
        for (name, label) in [("job", "Job"), ("instance", "Instance")] {
            let variable = variables.iter().find(|variable| text(variable, "name") == name).unwrap();
            assert_eq!(
                (text(variable, "label"), text(variable, "allValue"), &variable["multi"]),
                (label, ".+", &true.into())
            );
            // 2 is "on time range change".
            assert_eq!(variable["refresh"], 2, "{file}: {name}");
        }
        let mut ids = BTreeSet::new();
        let required: BTreeSet<&str> = items(&dashboard, "/__requires").iter().map(|one| text(one, "id")).collect();
        let mut faults = Vec::new();
        for panel in items(&dashboard, "/panels") {
            assert!(ids.insert(panel["id"].as_u64().unwrap()), "{file}: two panels with the id {}", panel["id"]);
            if text(panel, "type") == "row" {
                continue;
            }
            assert!(required.contains(text(panel, "type")), "{file}: __requires lacks {}", panel["type"]);
            faults.extend(
                panel_faults(panel).into_iter().map(|fault| format!("{file}: {}: {fault}", text(panel, "title"))),
            );
        }
        assert!(ids.len() > 8 && faults.is_empty(), "{}", faults.join("\n"));
    }
}

#[test]
fn the_check_sees_what_it_must() {
    for (expr, fault) in [
        ("sum(rate(a_total{job=~\"$job\", instance=~\"$instance\"}[$__rate_interval]))", ""),
        ("sum(rate(a_total{job=~\"$job\"}[$__rate_interval]))", "without the variable instance"),
        ("rate(a_total{job=~\"$job\", instance=~\"$instance\"}[5m])", "not $__rate_interval"),
        ("sum(a_total{job=~\"$job\", instance=~\"$instance\"})", "outside of rate"),
        ("sum(", "does not parse"),
    ] {
        let faults = query_faults(expr).join("; ");
        assert!(if fault.is_empty() { faults.is_empty() } else { faults.contains(fault) }, "{expr}: {faults}");
    }
}

#[test]
fn provisioning_names_files_that_exist() {
    let read = |name: &str| std::fs::read_to_string(folder().join("provisioning").join(name)).unwrap();
    let sources: serde_yaml::Value = serde_yaml::from_str(&read("datasources.yaml")).unwrap();
    assert_eq!((&sources["apiVersion"], &sources["datasources"][0]["type"]), (&1.into(), &"prometheus".into()));
    let providers: serde_yaml::Value = serde_yaml::from_str(&read("dashboards.yaml")).unwrap();
    assert_eq!(providers["providers"][0]["type"], serde_yaml::Value::from("file"));
    for (file, _) in dashboards() {
        assert!(read("dashboards.yaml").contains(&file), "dashboards.yaml does not name {file}");
        let compose = std::fs::read_to_string(folder().join("../deploy/compose.yaml")).unwrap();
        assert!(compose.contains(&file), "deploy/compose.yaml does not mount {file}");
    }
}
