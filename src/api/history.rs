//! `GET /api/history`: what changed, who was told and who was not, and how long that took for each rule.

use super::Shared;
use super::error::{ApiError, json};
use super::prometheus::Params;
use crate::model::{Timestamp, parse_duration_ms};
use crate::state::{HistoryEntry, HistoryQuery};
use crate::telemetry::clock;
use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use serde::Serialize;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Lines in an answer that names no limit.
const LIMIT: usize = 100;
/// The most that one answer holds.
const MAX_LIMIT: usize = 10_000;
/// Lines that the figures are made from, the newest first.
const FIGURE_LINES: usize = 20_000;
/// The kinds of lines.
const KINDS: [&str; 3] = ["alert", "notification", "health"];

/// The times of one rule in the lines that were asked for.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
struct RuleFigures {
    rule: String,
    /// How often it began to fire.
    fired: usize,
    /// How often it ended.
    resolved: usize,
    /// From the moment the condition began to hold (of the event) to the firing.
    time_to_detect_seconds: Figures,
    /// From the firing to the delivery.
    time_to_notify_seconds: Figures,
    /// From the firing to the end.
    time_to_resolve_seconds: Figures,
}

/// Quantiles of some times; null where there is none.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
struct Figures {
    count: usize,
    p50: Option<f64>,
    p95: Option<f64>,
    max: Option<f64>,
}

impl Figures {
    fn of(mut seconds: Vec<f64>) -> Self {
        seconds.sort_by(f64::total_cmp);
        // The nearest rank: the smallest value that is not below the share.
        let rank = |share: f64| (share * seconds.len() as f64).ceil().max(1.0) as usize - 1;
        let quantile = |share: f64| seconds.get(rank(share)).copied();
        Self { count: seconds.len(), p50: quantile(0.5), p95: quantile(0.95), max: seconds.last().copied() }
    }
}

#[derive(Serialize)]
struct Answer {
    from: String,
    to: String,
    /// Whether it survives a restart.
    persistent: bool,
    /// There are more lines than the limit.
    more: bool,
    entries: Vec<Value>,
    rules: Vec<RuleFigures>,
}

/// `GET /api/history?rule=&receiver=&since=&until=&kind=&limit=`.
///
/// # Errors
/// 400 for a parameter that cannot be read, 503 when the state does not answer.
pub async fn history(State(backend): State<Shared>, params: Params) -> Result<Response, ApiError> {
    let (query, limit) = read(&params, clock::now())?;
    let state = &backend.surroundings.history;
    let lines = state.history(query.clone()).await.map_err(|error| {
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, format!("the history cannot be read: {error}"), "see the log")
    })?;
    let (persistent, ends) = (state.is_persistent(), [query.from, query.to].map(Timestamp::rfc3339));
    let making = tokio::task::spawn_blocking(move || {
        let parsed: Vec<Value> = lines.iter().map(parse).collect();
        let rules = figures(&parsed, query.rule.as_deref());
        let [from, to] = ends;
        Answer {
            from,
            to,
            persistent,
            more: parsed.len() > limit,
            rules,
            entries: parsed.into_iter().take(limit).collect(),
        }
    });
    let answer = making.await.map_err(|error| {
        let error = format!("reading the history failed: {error}");
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, error, "please report this")
    })?;
    Ok(json(StatusCode::OK, &answer))
}

fn read(params: &Params, now: Timestamp) -> Result<(HistoryQuery, usize), ApiError> {
    let moment = |name: &str| -> Result<Option<Timestamp>, ApiError> {
        let Some(text) = params.get(name) else { return Ok(None) };
        if let Ok(ms) = parse_duration_ms(text) {
            return Ok(Some(now.plus_millis(-ms)));
        }
        let ms = super::prometheus::params::parse_time_ms(text).map_err(|_| {
            let error = format!("{name}: {text:?} is no moment");
            ApiError::bad_request(error, "write a time ago (24h), RFC 3339 or seconds since the epoch")
        })?;
        Ok(Some(Timestamp::from_millis(ms)))
    };
    let (from, to) = (moment("since")?, moment("until")?);
    let kind = params.get("kind").map(str::to_owned);
    if let Some(kind) = kind.as_ref().filter(|kind| !KINDS.contains(&kind.as_str())) {
        let hint = format!("there is {}", KINDS.join(", "));
        return Err(ApiError::bad_request(format!("kind: {kind:?} is no kind of line"), hint));
    }
    let receiver = params.get("receiver").map(str::to_owned);
    let limit = match params.get("limit").map(str::parse::<usize>) {
        None => LIMIT,
        Some(Ok(limit)) if (1..=MAX_LIMIT).contains(&limit) => limit,
        Some(_) => {
            let error = format!("limit is not a number from 1 to {MAX_LIMIT}");
            return Err(ApiError::bad_request(error, "example: ?limit=50"));
        }
    };
    if receiver.is_some() && kind.as_deref().is_some_and(|kind| kind != "notification") {
        return Err(ApiError::bad_request("only notifications have a receiver", "leave kind or receiver away"));
    }
    let query = HistoryQuery {
        from: from.unwrap_or_else(|| now.plus_millis(-7 * 86_400_000)),
        to: to.unwrap_or(now),
        kind: if receiver.is_some() { Some("notification".into()) } else { kind },
        key: receiver,
        rule: params.get("rule").map(str::to_owned),
        limit: FIGURE_LINES.max(limit + 1),
    };
    Ok((query, limit))
}

/// A line as one object: when, what kind, about what, and the rest.
pub(super) fn parse(entry: &HistoryEntry) -> Value {
    let mut line = Map::new();
    line.insert("at".into(), entry.at.rfc3339().into());
    line.insert("kind".into(), entry.kind.as_str().into());
    let name = match entry.kind.as_str() {
        "alert" => "rule",
        "notification" => "receiver",
        _ => "check",
    };
    line.insert(name.into(), entry.key.as_str().into());
    match serde_json::from_str::<Value>(&entry.body) {
        Ok(Value::Object(body)) => line.extend(body),
        _ => {
            line.insert("text".into(), entry.body.as_str().into());
        }
    }
    Value::Object(line)
}

fn figures(lines: &[Value], only: Option<&str>) -> Vec<RuleFigures> {
    #[derive(Default)]
    struct Times {
        fired: usize,
        resolved: usize,
        detect: Vec<f64>,
        notify: Vec<f64>,
        resolve: Vec<f64>,
    }
    let mut by_rule: BTreeMap<String, Times> = BTreeMap::new();
    for line in lines {
        if let (Some(rule), Some("alert")) = (line["rule"].as_str(), line["kind"].as_str()) {
            let times = by_rule.entry(rule.to_owned()).or_default();
            times.fired += usize::from(line["to"] == "firing");
            times.resolved += usize::from(line["to"] == "resolved");
            times.detect.extend(line["detect_seconds"].as_f64());
            times.resolve.extend(line["resolve_seconds"].as_f64());
        }
        for (rule, seconds) in line["notify_seconds"].as_object().into_iter().flatten() {
            by_rule.entry(rule.clone()).or_default().notify.extend(seconds.as_f64());
        }
    }
    let wanted = by_rule.into_iter().filter(|(rule, _)| only.is_none_or(|only| only == rule));
    wanted
        .map(|(rule, times)| RuleFigures {
            rule,
            fired: times.fired,
            resolved: times.resolved,
            time_to_detect_seconds: Figures::of(times.detect),
            time_to_notify_seconds: Figures::of(times.notify),
            time_to_resolve_seconds: Figures::of(times.resolve),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_quantiles_by_rule() {
        let entry = |kind: &str, key: &str, body: &str| {
            let (at, kind, key, body) = (Timestamp::from_millis(1_000), kind.into(), key.into(), body.into());
            parse(&HistoryEntry { at, kind, key, body })
        };
        let mut lines: Vec<Value> = (1..=20)
            .map(|at| entry("alert", "Low", &format!("{{\"to\":\"firing\",\"detect_seconds\":{at}}}")))
            .collect();
        lines.push(entry("alert", "Low", "{\"to\":\"resolved\",\"resolve_seconds\":7.5}"));
        lines.push(entry(
            "notification",
            "hook",
            "{\"outcome\":\"delivered\",\"notify_seconds\":{\"Low\":0.5,\"B\":1}}",
        ));
        assert_eq!(lines[20]["at"], "1970-01-01T00:00:01Z");
        assert_eq!(lines[21]["receiver"], "hook");
        let found = figures(&lines, None);
        assert_eq!(found.iter().map(|one| one.rule.as_str()).collect::<Vec<_>>(), ["B", "Low"]);
        let low = &figures(&lines, Some("Low"))[0];
        assert_eq!((low.fired, low.resolved), (20, 1));
        let detect = Figures { count: 20, p50: Some(10.0), p95: Some(19.0), max: Some(20.0) };
        assert_eq!(low.time_to_detect_seconds, detect);
        assert_eq!(low.time_to_notify_seconds.max, Some(0.5));
        assert_eq!(low.time_to_resolve_seconds.p50, Some(7.5));
        assert_eq!(found[0].time_to_detect_seconds, Figures::default());
    }

    #[test]
    fn parameters_are_read_or_refused_with_an_example() {
        let now = Timestamp::from_millis(1_000_000_000);
        let check = |text: &str| read(&Params::parse(text), now).map_err(|error| error.error);
        let (query, limit) = check("since=24h&rule=Low&receiver=hook&limit=5").unwrap();
        assert_eq!((query.from, query.to, limit), (now.plus_millis(-86_400_000), now, 5));
        assert_eq!((query.kind.as_deref(), query.key.as_deref()), (Some("notification"), Some("hook")));
        assert_eq!(check("since=1970-01-02T00:00:00Z").unwrap().0.from, Timestamp::from_millis(86_400_000));
        for (text, error) in [
            ("since=yesterday", "since: \"yesterday\" is no moment"),
            ("kind=alarm", "kind: \"alarm\" is no kind of line"),
            ("limit=0", "limit is not a number from 1 to 10000"),
            ("kind=alert&receiver=x", "only notifications have a receiver"),
        ] {
            assert_eq!(check(text).unwrap_err(), error);
        }
    }
}
