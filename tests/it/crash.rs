//! kill -9 in the middle of a million-line file: the final counters are exact.

use crate::harness::{Sidewatch, eventually};
use std::fmt::Write;

#[test]
fn a_kill_in_the_middle_of_a_million_lines_loses_and_repeats_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let lines = 1_000_000_u64;
    let mut text = String::with_capacity(110 << 20);
    let mut amount = 0;
    for at in 0..lines {
        let (region, cents) = (["eu", "us", "ap"][(at % 3) as usize], at % 997);
        amount += cents;
        let outcome = if at % 10 == 0 { "failed" } else { "completed" };
        writeln!(
            text,
            r#"{{"id":"{at}","type":"order.{outcome}","payload":{{"amount":{cents},"region":"{region}"}}}}"#
        )
        .unwrap();
    }
    std::fs::write(dir.path().join("events.log"), &text).unwrap();
    std::fs::write(
        dir.path().join("sidewatch.yaml"),
        "sources: {log: {file: {path: events.log}}}\n\
         state: {dir: state}\n\
         metrics:\n  amount_total: {counter: {match: 'order.*', value: data.amount, labels: {region: data.region}}}\n\
         \x20 amounts: {histogram: {match: order.completed, value: data.amount}}\n",
    )
    .unwrap();
    let mut kills = 0;
    loop {
        let sidewatch = Sidewatch::start(dir.path(), "run", &["--config", "sidewatch.yaml"]);
        let seen = sidewatch.value("sum(events_total)").unwrap_or(0.0) as u64;
        if kills >= 5 || seen >= lines {
            eventually("the whole file", 120, || {
                let seen = sidewatch.value("sum(events_total)").unwrap_or(0.0) as u64;
                assert!(seen <= lines, "counted twice: {seen}");
                (seen == lines).then_some(())
            });
            assert_eq!(sidewatch.value("sum(events_failed_total)"), Some((lines / 10) as f64));
            assert_eq!(sidewatch.value("sum(amount_total)"), Some(amount as f64));
            assert_eq!(sidewatch.value("sum(amounts_count)"), Some((lines - lines / 10) as f64));
            break;
        }
        // Let it come some way, then end it without a warning.
        eventually("some progress", 60, || {
            let now = sidewatch.value("sum(events_total)").unwrap_or(0.0) as u64;
            (now >= (seen + lines / 8).min(lines)).then_some(())
        });
        sidewatch.kill();
        kills += 1;
    }
    assert!(kills >= 1, "the file was read before the first kill");
}
