//! The same samples in Debian's Prometheus and in sidewatch, by remote write; the same questions to both; the answers
//! compared number by number.
//!
//! Samples stand 1.7 s behind whole steps and everything is evaluated at other fractions of a second, subqueries included,
//! so that it makes no difference that ranges are left-open since 3.0. Every other change since the Prometheus of Debian that a question could meet stands in [`expressions::CHANGED`].

mod expressions;
pub mod write;

use crate::harness::{Sidewatch, encode, eventually, free_port, get, in_ci, request};
use serde_json::Value;
use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};
use write::Series;

/// Milliseconds between samples.
const STEP: i64 = 5_000;
/// Samples of a series: nine minutes, within the tier that keeps each.
const SAMPLES: i64 = 108;

pub struct Prometheus(Child);

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Prometheus {
    pub fn start(dir: &std::path::Path) -> Option<(Self, u16)> {
        Self::start_with(dir, "global: {scrape_interval: 1h}\n", free_port())
    }

    pub fn start_with(dir: &std::path::Path, configuration: &str, port: u16) -> Option<(Self, u16)> {
        std::fs::write(dir.join("prometheus.yml"), configuration).unwrap();
        let child = Command::new("prometheus")
            .current_dir(dir)
            .args(["--config.file=prometheus.yml", "--storage.tsdb.path=data", "--web.enable-remote-write-receiver"])
            .args(["--enable-feature=promql-at-modifier,promql-negative-offset"])
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        match child {
            Ok(child) => {
                let started = Self(child);
                eventually("prometheus is ready", 30, || {
                    std::net::TcpStream::connect(("127.0.0.1", port)).ok()?;
                    (get(port, "/-/ready").0 == 200).then_some(())
                });
                Some((started, port))
            }
            Err(error) => {
                assert!(!in_ci(), "prometheus is missing: {error}");
                eprintln!("prometheus is missing, nothing compared: {error}");
                None
            }
        }
    }
}

/// Counters with resets, gauges with everything a float can be, classic histograms, series that begin late, end early
/// and have holes.
fn data(end_ms: i64) -> Vec<Series> {
    let first = end_ms - SAMPLES * STEP + 1_700;
    let mut random = write::Random(7);
    let mut all = Vec::new();
    for job in ["api", "web"] {
        for instance in ["a:1", "b:2", "c:3"] {
            let labels = |name: &str, more: &[(&str, &str)]| {
                let mut labels = vec![("__name__", name), ("instance", instance), ("job", job)];
                labels.extend_from_slice(more);
                write::labels(&labels)
            };
            for path in ["/", "/buy", "/x.y"] {
                let kind = random.below(5);
                let mut counter = 50_000.0;
                let series = (0..SAMPLES).map(|at| {
                    counter = if random.below(40) == 0 { 5_000.0 } else { counter + random.below(50) as f64 };
                    (first + at * STEP, counter)
                });
                // Some begin late, some end early, some have a hole of a minute.
                let kept = series.filter(|(t, _)| match kind {
                    0 => *t > first + 60 * STEP,
                    1 => *t < first + 50 * STEP,
                    2 => *t < first + 30 * STEP || *t > first + 42 * STEP,
                    _ => true,
                });
                all.push(Series { labels: labels("requests_total", &[("path", path)]), samples: kept.collect() });
            }
            let mut level = 100.0;
            let gauge = (0..SAMPLES).map(|at| {
                level += random.below(2_001) as f64 / 100.0 - 10.0;
                (first + at * STEP, level)
            });
            all.push(Series { labels: labels("level", &[]), samples: gauge.collect() });
            let odd = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.0, -0.0, 1e300, 1e-300, -7.25];
            let strange = (0..SAMPLES).map(|at| (first + at * STEP, odd[random.below(8) as usize]));
            all.push(Series { labels: labels("strange", &[]), samples: strange.collect() });
            let bounds = ["0.1", "0.5", "1", "+Inf"];
            let mut counts = [10_000_u64; 4];
            let mut sums = Vec::new();
            let mut buckets: [Vec<(i64, f64)>; 4] = Default::default();
            for at in 0..SAMPLES {
                for count in &mut counts {
                    *count += random.below(6);
                }
                let mut total = 0;
                for (count, bucket) in counts.iter().zip(&mut buckets) {
                    total += count;
                    bucket.push((first + at * STEP, total as f64));
                }
                sums.push((first + at * STEP, total as f64 * 0.4));
            }
            for (bound, samples) in bounds.iter().zip(buckets.iter()) {
                all.push(Series { labels: labels("latency_bucket", &[("le", bound)]), samples: samples.clone() });
            }
            all.push(Series { labels: labels("latency_count", &[]), samples: buckets[3].clone() });
            all.push(Series { labels: labels("latency_sum", &[]), samples: sums });
            all.push(Series {
                labels: labels("build_info", &[("version", if instance == "a:1" { "2" } else { "1" })]),
                samples: (0..SAMPLES).map(|at| (first + at * STEP, 1.0)).collect(),
            });
        }
    }
    all
}

type Answer = BTreeMap<String, Vec<(String, f64)>>;

/// An answer as series with their points, or the kind of error.
fn ask(port: u16, path: &str) -> Result<(String, Answer), String> {
    let (status, body) = get(port, path);
    let answer: Value = serde_json::from_str(&body).unwrap_or_else(|_| panic!("{status} {body}"));
    if answer["status"] != "success" {
        return Err(answer["errorType"].as_str().unwrap_or_default().to_owned());
    }
    let data = &answer["data"];
    let kind = data["resultType"].as_str().unwrap().to_owned();
    let point = |point: &Value| {
        let text = point[1].as_str().unwrap();
        let value = match text {
            "+Inf" => f64::INFINITY,
            "-Inf" => f64::NEG_INFINITY,
            text => text.parse().unwrap_or(f64::NAN),
        };
        (point[0].to_string(), value)
    };
    let mut series = Answer::new();
    if kind == "scalar" || kind == "string" {
        series.insert(String::new(), vec![point(&data["result"])]);
    } else {
        for one in data["result"].as_array().unwrap() {
            let points = match one.get("values") {
                Some(values) => values.as_array().unwrap().iter().map(point).collect(),
                None => vec![point(&one["value"])],
            };
            let before = series.insert(one["metric"].to_string(), points);
            assert!(before.is_none(), "a series twice in {path}");
        }
    }
    Ok((kind, series))
}

/// Sums are taken in another order and with another compensation since 2.42: the last digits may differ.
fn is_close(a: f64, b: f64) -> bool {
    a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= 1e-9 * a.abs().max(b.abs())
}

fn difference(theirs: &Result<(String, Answer), String>, ours: &Result<(String, Answer), String>) -> Option<String> {
    let (theirs, ours) = match (theirs, ours) {
        (Ok(theirs), Ok(ours)) => (theirs, ours),
        (Err(theirs), Err(ours)) if theirs == ours => return None,
        (theirs, ours) => {
            let short = |it: &Result<(String, Answer), String>| match it {
                Ok((kind, series)) => format!("{kind} of {} series", series.len()),
                Err(kind) => format!("error {kind}"),
            };
            return Some(format!("Prometheus gives {}, sidewatch {}", short(theirs), short(ours)));
        }
    };
    if theirs.0 != ours.0 {
        return Some(format!("Prometheus gives a {}, sidewatch a {}", theirs.0, ours.0));
    }
    for (labels, points) in &theirs.1 {
        let Some(found) = ours.1.get(labels) else { return Some(format!("{labels} is missing")) };
        if points.len() != found.len() {
            return Some(format!("{labels} has {} points, Prometheus has {}", found.len(), points.len()));
        }
        for ((their_time, theirs), (time, ours)) in points.iter().zip(found) {
            if their_time != time || !is_close(*theirs, *ours) {
                return Some(format!("{labels}: {ours} at {time}, Prometheus has {theirs} at {their_time}"));
            }
        }
    }
    ours.1.keys().find(|labels| !theirs.1.contains_key(*labels)).map(|labels| format!("{labels} should not be there"))
}

#[test]
fn the_same_samples_give_the_same_answers() {
    let dir = tempfile::tempdir().unwrap();
    let Some((_prometheus, theirs)) = Prometheus::start(dir.path()) else { return };
    let own = tempfile::tempdir().unwrap();
    std::fs::write(own.path().join("sidewatch.yaml"), "bundled_rules: false\nsources: {none: {none: {}}}\n").unwrap();
    let sidewatch = Sidewatch::start(own.path(), "run", &[]);

    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64;
    let end = now / STEP * STEP;
    let body = write::request(&data(end));
    let headers = [("content-type", "application/x-protobuf"), ("content-encoding", "snappy")];
    for port in [theirs, sidewatch.ingest] {
        let (status, answer) = request(port, "POST", "/api/v1/write", &headers, &body);
        assert!((200..300).contains(&status), "{status} {answer}");
    }

    let all = expressions::all();
    let (mut compared, mut failures) = (0, Vec::new());
    for (at, expression) in all.iter().enumerate() {
        let query = encode(expression);
        // Off the grid, and each at another time.
        let moment = (end - 30_000 - (at as i64 % 40) * 7_000 + 2_345) as f64 / 1e3;
        let (start, step) = (moment - 200.0, [7, 15, 30][at % 3]);
        for path in [
            format!("/api/v1/query?query={query}&time={moment}"),
            format!("/api/v1/query_range?query={query}&start={start}&end={moment}&step={step}"),
        ] {
            compared += 1;
            if let Some(difference) = difference(&ask(theirs, &path), &ask(sidewatch.observe, &path)) {
                failures.push(format!("{expression}\n    {path}\n    {difference}"));
            }
        }
    }
    eprintln!("{} expressions, {compared} answers compared, {} differ", all.len(), failures.len());
    assert!(failures.is_empty(), "{} of {compared} differ:\n{}", failures.len(), failures.join("\n"));
    assert!(all.len() >= 300, "some hundreds, not {}", all.len());
}
