//! Every query of every dashboard returns data under the demo: from sidewatch itself, and from one's own Prometheus that
//! scrapes it.

use crate::harness::{Sidewatch, encode, eventually, free_port, get, in_ci};
use serde_json::Value;
use std::path::Path;
use std::process::{Child, Command, Stdio};

fn collect(panels: &Value, into: &mut Vec<String>) {
    for panel in panels.as_array().into_iter().flatten() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            into.push(target["expr"].as_str().unwrap().to_owned());
        }
        collect(&panel["panels"], into);
    }
}

/// The queries as Grafana sends them, with every variable on "All".
fn queries() -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("dashboards");
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "json") {
            let dashboard: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
            collect(&dashboard["panels"], &mut all);
        }
    }
    assert!(all.len() >= 25, "{} queries", all.len());
    let fill =
        |query: &String| query.replace("$__rate_interval", "20s").replace("$job", ".+").replace("$instance", ".+");
    all.iter().map(fill).collect()
}

/// Waits until each query gives at least one number.
fn check(who: &str, port: u16) {
    for query in queries() {
        eventually(&format!("{who} answers {query}"), 60, || {
            let (status, body) = get(port, &format!("/api/v1/query?query={}", encode(&query)));
            let answer: Value = serde_json::from_str(&body).ok()?;
            assert!(status == 200 || status == 503, "{who}: {query}: {status} {answer}");
            let samples = answer["data"]["result"].as_array()?;
            samples.iter().any(|one| one["value"][1].as_str().is_some_and(|value| value != "NaN")).then_some(())
        });
    }
}

struct Prometheus(Child);

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn every_query_of_the_dashboards_returns_data_from_sidewatch_and_from_ones_own_prometheus() {
    let dir = tempfile::tempdir().unwrap();
    let demo = Sidewatch::start(dir.path(), "demo", &[]);
    let port = free_port();
    let config = format!(
        "global: {{scrape_interval: 1s}}\nscrape_configs:\n  - job_name: shop\n    static_configs: [{{targets: ['127.0.0.1:{}']}}]\n",
        demo.observe
    );
    std::fs::write(dir.path().join("prometheus.yml"), config).unwrap();
    let prometheus = Command::new("prometheus")
        .args(["--config.file=prometheus.yml", "--storage.tsdb.path=data"])
        .arg(format!("--web.listen-address=127.0.0.1:{port}"))
        .current_dir(dir.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let prometheus = match prometheus {
        Ok(child) => Some(Prometheus(child)),
        Err(error) => {
            assert!(!in_ci(), "prometheus cannot be started: {error}");
            None
        }
    };
    check("sidewatch", demo.observe);
    if prometheus.is_some() {
        check("prometheus", port);
    }
}
