//! Runs test scripts: `load`, `clear` and `eval` with what they expect.

mod check;
mod expectation;
mod rewrite;

use super::series::{SeriesNotation, parse_series};
use super::storage::{TestStorage, custom_bucket_histograms};
use crate::model::parse_duration_ms;
use crate::promql::{Evaluation, Options, Query, QueryError, Value, VectorSample};
use expectation::Expectation;
use std::collections::BTreeSet;

/// What a script's run found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// How many `eval` commands passed.
    pub passed: usize,
    /// How many did not.
    pub failed: usize,
    /// For each that did not: file, line and what was found instead.
    pub failures: Vec<String>,
}

/// Where and over what a query is evaluated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    Instant { at_ms: i64 },
    Range { start_ms: i64, end_ms: i64, step_ms: i64 },
}

/// An `eval` command.
struct Eval {
    line: usize,
    query: String,
    when: When,
    expected: Expectation,
}

/// The options of Prometheus's own test engine.
fn options() -> Options<'static> {
    Options { max_samples: 10_000, ..Options::default() }
}

/// Runs a script. A line that cannot be understood ends the run as a failure.
pub fn run_file(path_name: &str, text: &str) -> Report {
    let mut report = Report::default();
    // A line that begins with # is empty, so a comment ends a block.
    let lines: Vec<&str> =
        text.lines().map(str::trim).map(|line| if line.starts_with('#') { "" } else { line }).collect();
    let mut storage = TestStorage::default();
    let mut at = 0;
    while at < lines.len() {
        let first = at;
        if lines[first].is_empty() {
            at += 1;
            continue;
        }
        at = lines[first..].iter().position(|line| line.is_empty()).map_or(lines.len(), |length| first + length);
        let word = lines[first].split_whitespace().next().unwrap_or("").to_lowercase();
        let outcome = match word.as_str() {
            "clear" => {
                storage.clear();
                at = first + 1;
                Ok(())
            }
            _ if word.starts_with("load") => load(&mut storage, &lines[first..at]),
            _ if word.starts_with("eval") => match read_eval(&lines[first..at], first + 1) {
                Ok(eval) => {
                    match run(&eval, &storage) {
                        Ok(()) => report.passed += 1,
                        Err(message) => {
                            report.failed += 1;
                            report.failures.push(format!("{path_name}:{}: {}: {message}", eval.line, eval.query));
                        }
                    }
                    Ok(())
                }
                Err(message) => {
                    report.failed += 1;
                    report.failures.push(format!("{path_name}:{}: {message}", first + 1));
                    Ok(())
                }
            },
            _ => Err(format!("unknown command {word:?} (there are load, clear and eval)")),
        };
        if let Err(message) = outcome {
            report.failed += 1;
            report.failures.push(format!("{path_name}:{}: {message}", first + 1));
            return report;
        }
    }
    report
}

/// A duration from the epoch, which may be negative.
fn moment(text: &str) -> Result<i64, String> {
    match text.strip_prefix('-') {
        Some(text) => parse_duration_ms(text).map(|ms| -ms),
        None => parse_duration_ms(text),
    }
}

fn load(storage: &mut TestStorage, lines: &[&str]) -> Result<(), String> {
    let mut words = lines[0].split_whitespace();
    let with_nhcb = match words.next() {
        Some("load") => false,
        Some("load_with_nhcb") => true,
        _ => return Err(format!("invalid load command {:?}, expected load or load_with_nhcb", lines[0])),
    };
    let interval_ms = parse_duration_ms(words.next().unwrap_or(""))?;
    let mut loaded: Vec<(SeriesNotation, Vec<Option<i64>>)> = Vec::new();
    let mut starts: Option<SeriesNotation> = None;
    for line in &lines[1..] {
        let series = parse_series(line).map_err(|message| format!("{line}: {message}"))?;
        if series.is_start {
            starts = Some(series);
            continue;
        }
        let offsets = match starts.take() {
            Some(starts) if starts.labels == series.labels => starts.start_offsets,
            Some(_) => return Err(format!("{line}: start timestamps have to stand right before their series")),
            None => Vec::new(),
        };
        // The same series again replaces the first.
        loaded.retain(|(known, _)| known.labels != series.labels);
        loaded.push((series, offsets));
    }
    for (series, offsets) in &loaded {
        storage.add_notation(series, offsets, 0, interval_ms);
    }
    if with_nhcb {
        for (labels, t_ms, value) in custom_bucket_histograms(&loaded, interval_ms) {
            storage.add(&labels, t_ms, &value, 0);
        }
    }
    Ok(())
}

/// Takes the next word; the rest begins with what follows.
fn word<'a>(text: &mut &'a str) -> &'a str {
    let trimmed = text.trim_start();
    let (word, rest) = trimmed.split_at(trimmed.find(char::is_whitespace).unwrap_or(trimmed.len()));
    *text = rest.trim_start();
    word
}

fn keyword(text: &mut &str, wanted: &str) -> Result<(), String> {
    match word(text) {
        found if found == wanted => Ok(()),
        found => Err(format!("invalid eval command: expected {wanted:?}, got {found:?}")),
    }
}

fn read_eval(lines: &[&str], line: usize) -> Result<Eval, String> {
    let mut rest = lines[0];
    let command = word(&mut rest);
    let mut expected = Expectation::default();
    match command {
        "eval" => {}
        "eval_fail" => expected.fail = true,
        "eval_ordered" => expected.ordered = true,
        "eval_warn" => expected.any_warning = true,
        "eval_info" => expected.any_info = true,
        _ => return Err(format!("unknown command {command:?}")),
    }
    let when = match word(&mut rest) {
        "instant" => {
            keyword(&mut rest, "at")?;
            When::Instant { at_ms: moment(word(&mut rest))? }
        }
        "range" => {
            keyword(&mut rest, "from")?;
            let start_ms = moment(word(&mut rest))?;
            keyword(&mut rest, "to")?;
            let end_ms = moment(word(&mut rest))?;
            keyword(&mut rest, "step")?;
            When::Range { start_ms, end_ms, step_ms: moment(word(&mut rest))? }
        }
        other => return Err(format!("invalid eval command: expected instant or range, got {other:?}")),
    };
    for body in &lines[1..] {
        expected.read_line(body)?;
    }
    Ok(Eval { line, query: rest.to_owned(), when, expected })
}

fn run(eval: &Eval, storage: &TestStorage) -> Result<(), String> {
    // The canonical form has to mean the same, which costs nothing to see here.
    let query = Query::parse(&eval.query).map_err(|error| error.to_string())?;
    let printed = query.expr().to_string();
    match Query::parse(&printed) {
        Ok(again) if again.expr() == query.expr() => {}
        Ok(_) => return Err(format!("printed as {printed} it means something else")),
        Err(error) => return Err(format!("printed as {printed} it cannot be read: {error}")),
    }
    match eval.when {
        When::Range { start_ms, end_ms, step_ms } => {
            let result = query.range(storage, start_ms, end_ms, step_ms, &options());
            if let Some(evaluation) = checked(eval, result)? {
                eval.expected.check_matrix(&evaluation.value, (start_ms, end_ms, step_ms))?;
            }
            Ok(())
        }
        When::Instant { at_ms } => {
            let mut variants = vec![(query, at_ms, String::new())];
            for (text, at_ms) in rewrite::at_modifier_variants(&eval.query, at_ms) {
                let query = Query::parse(&text).map_err(|error| format!("as {text}: {error}"))?;
                variants.push((query, at_ms, format!("as {text} at {at_ms} ms: ")));
            }
            for (query, at_ms, label) in variants {
                run_instant(eval, &query, at_ms, storage).map_err(|message| format!("{label}{message}"))?;
            }
            Ok(())
        }
    }
}

/// Failure and annotations; the evaluation, when there is one to look at.
fn checked(eval: &Eval, result: Result<Evaluation, QueryError>) -> Result<Option<Evaluation>, String> {
    match result {
        Err(error) if eval.expected.fail => eval.expected.check_failure(&error.to_string()).map(|()| None),
        Err(error) => Err(format!("the evaluation failed: {error}")),
        Ok(_) if eval.expected.fail => Err("the evaluation was expected to fail".into()),
        Ok(evaluation) => {
            eval.expected.check_annotations(&evaluation)?;
            Ok(Some(evaluation))
        }
    }
}

fn run_instant(eval: &Eval, query: &Query, at_ms: i64, storage: &TestStorage) -> Result<(), String> {
    let result = query.instant(storage, at_ms, &options());
    let Some(evaluation) = checked(eval, result)? else {
        return Ok(());
    };
    eval.expected.check_instant(&evaluation.value)?;
    if eval.expected.ordered || !eval.expected.may_run_as_range() || uses_query_times(&eval.query) {
        return Ok(());
    }
    const MINUTE_MS: i64 = 60_000;
    let ranged = query
        .range(storage, at_ms.saturating_sub(MINUTE_MS), at_ms.saturating_add(MINUTE_MS), MINUTE_MS, &options())
        .map_err(|error| format!("as a range query: {error}"))?;
    let Value::Matrix(matrix) = &ranged.value else {
        return Err("a range query has to give a matrix".into());
    };
    if !matrix.is_sorted_by(|a, b| a.labels < b.labels) {
        return Err("as a range query: the series are not sorted, or some labels come twice".into());
    }
    let mut vector = Vec::new();
    for series in matrix {
        let value = check::value_at(series, at_ms);
        vector.extend(value.map(|value| VectorSample { labels: series.labels.clone(), t_ms: at_ms, value }));
    }
    let middle = match (&evaluation.value, vector.first().map(|sample| &sample.value)) {
        (Value::Scalar { .. }, Some(crate::promql::SampleValue::Float(value))) => {
            Value::Scalar { t_ms: at_ms, value: *value }
        }
        _ => Value::Vector(vector),
    };
    eval.expected.check_instant(&middle).map_err(|message| format!("in the middle of a range query: {message}"))
}

/// Whether the query depends on its own start, end, range or step.
fn uses_query_times(query: &str) -> bool {
    let words: BTreeSet<&str> = ["start", "end", "range", "step"].into();
    query.match_indices("()").any(|(at, _)| words.iter().any(|word| query[..at].ends_with(word)))
}
