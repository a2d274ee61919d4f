//! Rule evaluation: 200 rules over 10,000 series that change each second, one round of all rules.

use crate::decode::parts;
use divan::{Bencher, counter::ItemsCount};
use sidewatch::engine::{Core, Input, InputSample};
use sidewatch::model::{Labels, Timestamp};
use sidewatch::promql::Options;
use std::fmt::Write;
use std::time::Duration;

const SERIES: i64 = 10_000;
const RULES: usize = 200;
const SECONDS: i64 = 120;

fn core() -> (Core, i64) {
    let mut alerts = String::from("alerts:\n");
    for at in 0..RULES {
        writeln!(alerts, "  A{at}: {{expr: 'sum by (route) (rate(http_requests_total{{route=\"/api/r{at}\"}}[1m])) > 1e9', for: 10s, severity: page}}").unwrap();
    }
    let start_ms = 1_795_165_200_000;
    let mut core = Core::new(&parts(&alerts), Timestamp::from_millis(start_ms));
    let labels: Vec<Labels> = (0..SERIES)
        .map(|at| {
            let (route, pod) = (format!("/api/r{}", at % 250), format!("pod-{}", at / 250));
            Labels::from_pairs([("__name__", "http_requests_total"), ("route", &route), ("pod", &pod)])
        })
        .collect();
    for second in 0..SECONDS {
        let t_ms = start_ms + second * 1_000;
        let samples = labels.iter().enumerate().map(|(at, labels)| InputSample {
            labels: labels.clone(),
            t_ms,
            value: (second * (at as i64 % 7 + 1)) as f64,
        });
        core.engine.observe(Timestamp::from_millis(t_ms), [Input::Samples(samples.collect())]);
    }
    (core, start_ms + SECONDS * 1_000)
}

#[divan::bench(name = "200 rules over 10,000 series, one round", sample_count = 50)]
fn round(bencher: Bencher<'_, '_>) {
    let (mut core, mut now_ms) = core();
    let options = Options::default();
    bencher.counter(ItemsCount::new(RULES)).bench_local(|| {
        now_ms += 1_000;
        let now = Timestamp::from_millis(now_ms);
        let mut evaluated = 0;
        for job in core.engine.due(now) {
            let view = core.engine.view(&job.selections(&options));
            let result = job.run(&view, &options);
            core.engine.apply(now, result, Duration::ZERO);
            evaluated += 1;
        }
        assert!(evaluated > 0, "the rules are due");
    });
}

#[divan::bench(name = "1,000 rules read from YAML and compiled", sample_count = 30)]
fn compile(bencher: Bencher<'_, '_>) {
    let mut alerts = String::from("alerts:\n");
    for at in 0..1_000 {
        writeln!(alerts, "  A{at}: {{expr: 'sum by (route) (rate(http_requests_total{{route=\"/api/r{at}\"}}[1m])) > {at}', for: 10s, severity: page, annotations: {{summary: '{{{{ $labels.route }}}} is at {{{{ $value | humanize }}}}'}}}}").unwrap();
    }
    bencher.counter(ItemsCount::new(1_000_usize)).bench_local(|| parts(&alerts));
}
