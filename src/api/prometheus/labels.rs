//! `series`, `labels`, `label/NAME/values`, `metadata`, `query_exemplars`.

use super::params::{Params, invalid};
use super::{ErrorKind, Notes, PromError, encode, success, success_text, truncate};
use crate::api::Shared;
use crate::model::Labels;
use crate::series::Matcher;
use axum::extract::{Path, State};
use axum::response::Response;
use serde::Serialize;
use std::collections::BTreeMap;

/// Matcher sets and a range of time, as these endpoints read them. Without a range everything that is held.
struct Scope {
    sets: Vec<Vec<Matcher>>,
    range: (i64, i64),
    limit: Option<usize>,
}

impl Scope {
    fn read(params: &Params) -> Result<Self, PromError> {
        let sets = params
            .all("match[]")
            .map(|text| {
                let selector = crate::promql::parse_metric_selector(text)
                    .map_err(|error| invalid("match[]", &error.to_string()))?;
                Ok(selector.matchers)
            })
            .collect::<Result<Vec<_>, PromError>>()?;
        let start_ms = params.time_ms("start")?.unwrap_or(i64::MIN);
        let end_ms = params.time_ms("end")?.unwrap_or(i64::MAX);
        if end_ms < start_ms {
            return Err(invalid("end", "end timestamp must not be before start time"));
        }
        Ok(Self { sets, range: (start_ms, end_ms), limit: params.limit("limit")? })
    }
}

fn names(mut names: Vec<String>, limit: Option<usize>) -> Response {
    let mut notes = Notes::default();
    truncate(&mut names, limit, &mut notes);
    let mut data = String::new();
    encode::strings(&mut data, &names);
    success_text(&data, &notes)
}

/// `/api/v1/labels`.
///
/// # Errors
/// In Prometheus's envelope.
pub async fn labels(State(backend): State<Shared>, params: Params) -> Result<Response, PromError> {
    let Scope { sets, range, limit } = Scope::read(&params)?;
    let found = backend.core.call(move |core, _| core.engine.store().label_names(&sets, range)).await?;
    Ok(names(found, limit))
}

/// `/api/v1/label/NAME/values`. A name that begins `U__` is read as Prometheus escapes UTF-8 names.
///
/// # Errors
/// In Prometheus's envelope.
pub async fn label_values(
    State(backend): State<Shared>,
    Path(name): Path<String>,
    params: Params,
) -> Result<Response, PromError> {
    let name = unescape(&name);
    if name.is_empty() {
        return Err(PromError::new(ErrorKind::BadData, "invalid label name: \"\""));
    }
    let Scope { sets, range, limit } = Scope::read(&params)?;
    let found = backend.core.call(move |core, _| core.engine.store().label_values(&name, &sets, range)).await?;
    Ok(names(found, limit))
}

/// `/api/v1/series`.
///
/// # Errors
/// In Prometheus's envelope.
pub async fn series(State(backend): State<Shared>, params: Params) -> Result<Response, PromError> {
    let Scope { sets, range, limit } = Scope::read(&params)?;
    if sets.is_empty() {
        return Err(PromError::new(ErrorKind::BadData, "no match[] parameter provided"));
    }
    let mut found = backend.core.call(move |core, _| core.engine.store().series(&sets, range)).await?;
    found.dedup();
    let mut notes = Notes::default();
    truncate(&mut found, limit, &mut notes);
    let mut data = String::new();
    encode::list(&mut data, &found, encode::labels);
    Ok(success_text(&data, &notes))
}

/// `/api/v1/metadata`.
///
/// # Errors
/// In Prometheus's envelope.
pub async fn metadata(State(backend): State<Shared>, params: Params) -> Result<Response, PromError> {
    #[derive(Serialize)]
    struct Metadata {
        r#type: &'static str,
        help: String,
        unit: String,
    }
    let (limit, only) = (params.limit("limit")?, params.get("metric").map(str::to_owned));
    let mut known = backend.core.call(|core, _| core.engine.store().metadata()).await?;
    known.retain(|metric| only.as_ref().is_none_or(|only| *only == metric.name));
    known.truncate(limit.unwrap_or(usize::MAX));
    let by_name: BTreeMap<String, [Metadata; 1]> = known
        .into_iter()
        .map(|metric| (metric.name, [Metadata { r#type: metric.kind.as_str(), help: metric.help, unit: metric.unit }]))
        .collect();
    success(&by_name)
}

/// `/api/v1/query_exemplars`: exemplars of the series that an expression reads, those of remote write. The ones of
/// sidewatch's own histograms stand on /metrics.
///
/// # Errors
/// `bad_data` when the expression or a time cannot be read.
pub async fn query_exemplars(State(backend): State<Shared>, params: Params) -> Result<Response, PromError> {
    #[derive(Serialize)]
    struct One {
        labels: BTreeMap<String, String>,
        value: String,
        timestamp: f64,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct OfSeries {
        series_labels: BTreeMap<String, String>,
        exemplars: Vec<One>,
    }
    let start_ms = params.time_ms("start")?.unwrap_or(i64::MIN);
    let end_ms = params.time_ms("end")?.unwrap_or(i64::MAX);
    if end_ms < start_ms {
        return Err(invalid("end", "end timestamp must not be before start timestamp"));
    }
    let query = params.get("query").unwrap_or("");
    let expr = crate::promql::parse(query).map_err(|error| invalid("query", &error.to_string()))?;
    let sets: Vec<Vec<Matcher>> = expr.selectors().into_iter().map(|selector| selector.matchers.clone()).collect();
    if sets.is_empty() {
        return success::<[(); 0]>(&[]);
    }
    let found = backend.core.call(move |core, _| core.engine.store().exemplars(&sets, start_ms, end_ms)).await?;
    let pairs =
        |labels: &Labels| labels.iter().map(|label| (label.name.to_string(), label.value.to_string())).collect();
    let list: Vec<OfSeries> = found
        .iter()
        .map(|series| OfSeries {
            series_labels: pairs(&series.labels),
            exemplars: series
                .exemplars
                .iter()
                .map(|one| One {
                    labels: pairs(&one.labels),
                    value: crate::promql::format_value(one.value),
                    timestamp: one.t_ms as f64 / 1e3,
                })
                .collect(),
        })
        .collect();
    success(&list)
}

/// `model.UnescapeName` for values encoding: `U__a_2e_b` is `a.b`, `__` an underscore. What is not well formed stays.
fn unescape(name: &str) -> String {
    let Some(rest) = name.strip_prefix("U__") else { return name.to_owned() };
    let mut out = String::with_capacity(rest.len());
    let mut rest = rest;
    while let Some(at) = rest.find('_') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('_') {
            out.push('_');
            rest = after;
            continue;
        }
        let code = rest.split_once('_').and_then(|(hex, after)| {
            let c = u32::from_str_radix(hex, 16).ok().and_then(char::from_u32)?;
            Some((c, after))
        });
        let Some((c, after)) = code else { return name.to_owned() };
        out.push(c);
        rest = after;
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn utf8_names_are_unescaped() {
        for (escaped, name) in [
            ("job", "job"),
            ("U__service_2e_name", "service.name"),
            ("U__a__b", "a_b"),
            ("U___1f642_", "🙂"),
            ("U__bad_zz_", "U__bad_zz_"),
            ("U__bad_2e", "U__bad_2e"),
        ] {
            assert_eq!(unescape(escaped), name);
        }
    }

    #[test]
    fn scopes_read_matchers_and_ranges() {
        let scope = Scope::read(&Params::parse("match[]=up{job=%22a%22}&match[]=x&start=1&end=2&limit=5")).unwrap();
        assert_eq!((scope.sets.len(), scope.sets[0].len(), scope.range, scope.limit), (2, 2, (1_000, 2_000), Some(5)));
        let wrong = Scope::read(&Params::parse("match[]=up{")).err().unwrap();
        assert!(wrong.message.starts_with("invalid parameter \"match[]\": "), "{}", wrong.message);
        assert!(Scope::read(&Params::parse("start=2&end=1")).is_err());
    }
}
