//! Any bytes as a query: an error or an answer within the limits, never a panic, never a stuck evaluation. The mutations
//! begin at real expressions; `SIDEWATCH_LONG=1` makes ten million executions of it (in release).

#[path = "../fuzz/exercise.rs"]
mod exercise;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const TOKENS: &[&str] = &[
    "(",
    ")",
    "{",
    "}",
    "[",
    "]",
    "[5m]",
    "[5m:1m]",
    "[1m:]",
    ",",
    ":",
    "=",
    "=~",
    "!~",
    "!=",
    "\"x\"",
    "'",
    "`",
    "\\",
    "#",
    "\n",
    "1",
    "0x",
    "1e",
    "1e308",
    "-1",
    "5m",
    "1y",
    "1h30m",
    "NaN",
    "Inf",
    "+",
    "-",
    "*",
    "/",
    "%",
    "^",
    "==",
    "bool",
    "and",
    "or",
    "unless",
    "atan2",
    "@",
    "@ start()",
    "@ end()",
    "offset",
    "offset -5m",
    "by",
    "without",
    "on",
    "ignoring",
    "group_left",
    "group_right",
    "sum",
    "topk",
    "quantile",
    "count_values",
    "limitk",
    "limit_ratio",
    "rate",
    "increase",
    "irate",
    "histogram_quantile",
    "histogram_fraction",
    "label_replace",
    "label_join",
    "absent",
    "scalar",
    "vector",
    "time()",
    "info",
    "sort_by_label",
    "anchored",
    "smoothed",
    "fill",
    "fill_left",
    "step()",
    "range()",
    "min_of",
    "max_of",
    "a",
    "b_total",
    "h_bucket",
    "n",
    "c",
    "ü",
    "\u{0}",
    "{__name__=~\".+\"}",
    "{\"a\"}",
    "{{schema:0}}",
    "_",
    "</",
    ">/",
];

const AROUND: &[(&str, &str)] = &[
    ("sum by (x) (", ")"),
    ("topk(2, ", ")"),
    ("count_values(\"v\", ", ")"),
    ("-", ""),
    ("abs(", ")"),
    ("scalar(", ")"),
    ("vector(", ")"),
    ("absent(", ")"),
    ("rate((", ")[5m:30s])"),
    ("max_over_time((", ")[5m:1m] @ end())"),
    ("quantile_over_time(0.5, (", ")[3m:7s] offset -1m)"),
    ("histogram_quantile(0.9, ", ")"),
    ("label_replace(", ", \"x\", \"$1\", \"job\", \"(.*)\")"),
    ("(", ") @ 300 offset 1m"),
    ("", " offset 1m"),
    ("", "[5m]"),
];
const BETWEEN: &[&str] = &[
    "+",
    "-",
    "*",
    "/",
    "%",
    "^",
    "atan2",
    "==",
    "!= bool",
    ">",
    "<= bool",
    "and",
    "or",
    "unless",
    "+ on ()",
    "* on (x)",
    "and on (job)",
    "/ ignoring (x) group_left",
    "* on (job) group_right (x)",
    "+ fill (0)",
    "- fill_left (1) fill_right (2)",
    "</",
    ">/",
];

struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound.max(1) as u64) as usize
    }
}

/// Expressions of Prometheus's own scripts, and some of ours for where those are not there.
fn seeds() -> Vec<Vec<u8>> {
    let mut seeds: Vec<Vec<u8>> = [
        "sum by (x) (rate(b_total[5m]))",
        "histogram_quantile(0.9, h_bucket)",
        "a offset 1m @ end()",
        "max_over_time(a[5m:30s])",
    ]
    .iter()
    .map(|text| text.as_bytes().to_vec())
    .collect();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/promql-conformance");
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let Ok(text) = std::fs::read_to_string(entry.path()) else { continue };
        for line in text.lines().filter_map(|line| line.strip_prefix("eval ")) {
            let parts = line.splitn(if line.starts_with("range") { 8 } else { 4 }, ' ');
            seeds.extend(parts.last().map(|expression| expression.as_bytes().to_vec()));
        }
    }
    seeds.sort();
    seeds.dedup();
    seeds
}

fn mutate(random: &mut Random, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = seeds[random.below(seeds.len())].clone();
    for _ in 0..random.below(4) {
        let at = random.below(bytes.len() + 1);
        match random.below(12) {
            0 if !bytes.is_empty() => {
                let place = at.min(bytes.len() - 1);
                bytes[place] ^= 1 << random.below(8);
            }
            1 => bytes.insert(at, random.below(256) as u8),
            2 => {
                let end = (at + random.below(12)).min(bytes.len());
                bytes.drain(at..end);
            }
            3 => {
                let end = (at + random.below(30)).min(bytes.len());
                let piece = bytes[at..end].to_vec();
                let to = random.below(bytes.len() + 1);
                bytes.splice(to..to, piece);
            }
            4 | 5 => {
                let token = TOKENS[random.below(TOKENS.len())].as_bytes().to_vec();
                bytes.splice(at..at, [b" ".to_vec(), token, b" ".to_vec()].concat());
            }
            6 => {
                let other = &seeds[random.below(seeds.len())];
                let from = random.below(other.len() + 1);
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
            7 | 8 => {
                let (before, after) = AROUND[random.below(AROUND.len())];
                bytes = [before.as_bytes(), &bytes, after.as_bytes()].concat();
            }
            _ => {
                let other = &seeds[random.below(seeds.len())];
                let between = BETWEEN[random.below(BETWEEN.len())].as_bytes();
                bytes = [b"(", &bytes[..], b") ", between, b" (", other, b")"].concat();
            }
        }
        bytes.truncate(2_000);
    }
    bytes
}

#[test]
fn any_bytes_as_a_query_are_an_error_or_an_answer() {
    let (executions, seed) = match std::env::var_os("SIDEWATCH_LONG") {
        Some(_) => (10_000_000_u64, 0x5eed_0000_0001_u64),
        None => (20_000, 0x5eed_0000_0002),
    };
    let seeds = seeds();
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(8) as u64;
    let (began, answers) = (Instant::now(), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let (seeds, answers) = (&seeds, &answers);
            scope.spawn(move || {
                let store = exercise::store();
                let mut random = Random(seed.wrapping_add(thread.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
                for _ in 0..executions / threads {
                    let bytes = mutate(&mut random, seeds);
                    let began = Instant::now();
                    let outcome = catch_unwind(AssertUnwindSafe(|| exercise::exercise(&store, &bytes)));
                    let took = began.elapsed();
                    let text = String::from_utf8_lossy(&bytes);
                    answers.fetch_add(u64::from(matches!(outcome, Ok(true))), Ordering::Relaxed);
                    assert!(outcome.is_ok(), "a panic (see above) at the query {text:?}");
                    assert!(took < Duration::from_secs(10), "{took:?} for the query {text:?}");
                }
            });
        }
    });
    let answers = answers.into_inner();
    assert!(answers * 10 > executions, "only {answers} of {executions} had an answer: nothing was tried");
    eprintln!("{executions} executions, {answers} with an answer, from {} seeds in {:?}", seeds.len(), began.elapsed());
}
