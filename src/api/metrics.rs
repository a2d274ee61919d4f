//! `GET /metrics`: the series that sidewatch counts and its own metrics, as Prometheus text, OpenMetrics or protobuf.

use super::Shared;
use super::error::ApiError;
use super::negotiate::{Offer, best};
use crate::engine::Core;
use crate::series::{text, write_text_as_protobuf};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, header};

const TEXT: Offer = Offer { media_type: "text/plain", parameters: &[("version", "0.0.4")] };
const TEXT_UTF8: Offer = Offer { media_type: "text/plain", parameters: &[("version", "1.0.0")] };
const OPEN_METRICS: Offer = Offer { media_type: "application/openmetrics-text", parameters: &[("version", "1.0.0")] };

const PROTOBUF: Offer = Offer {
    media_type: "application/vnd.google.protobuf",
    parameters: &[("proto", "io.prometheus.client.MetricFamily"), ("encoding", "delimited")],
};

/// What can be had, the preferred first: plain text is what a person with a browser or curl wants to see.
const OFFERS: [Offer; 4] = [TEXT, OPEN_METRICS, TEXT_UTF8, PROTOBUF];
const TYPES: [&str; 4] = [
    "text/plain; version=0.0.4; charset=utf-8",
    "application/openmetrics-text; version=1.0.0; charset=utf-8",
    "text/plain; version=1.0.0; charset=utf-8; escaping=allow-utf-8",
    "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited",
];
/// Which of them is not text.
const AS_PROTOBUF: usize = 3;

/// `GET /metrics`. Like Prometheus's client libraries it answers with text when nothing that was asked for can be had.
///
/// # Errors
/// 503 when the core does not answer.
pub async fn metrics(State(backend): State<Shared>, headers: HeaderMap) -> Result<Response, ApiError> {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    let chosen = best(accept, &OFFERS).unwrap_or(0);
    let own = (backend.surroundings.self_metrics)();
    let capacity = backend.metrics_bytes();
    let head = [(header::CONTENT_TYPE, TYPES[chosen]), (header::CACHE_CONTROL, "no-store")];
    if chosen == AS_PROTOBUF {
        let write = move |core: &mut Core, _| {
            let mut out = Vec::with_capacity(capacity + 4_096);
            core.engine.store().write_protobuf(&mut out);
            out
        };
        let mut out = backend.core.call(write).await?;
        backend.note_metrics_bytes(out.len());
        write_text_as_protobuf(&text::parse(&own), &mut out);
        return Ok((head, out).into_response());
    }
    let mut text = backend
        .core
        .call(move |core, _| {
            // As large as the last one: the text is not copied while it grows.
            let mut text = String::with_capacity(capacity + own.len() + 4_096);
            match chosen {
                1 => core.engine.store().write_openmetrics_families(&mut text),
                2 => core.engine.store().write_prometheus_utf8(&mut text),
                _ => core.engine.store().write_prometheus(&mut text),
            }
            (text, own)
        })
        .await
        .map(|(text, own)| {
            backend.note_metrics_bytes(text.len());
            if chosen == 1 { text + &open_metrics(&own) } else { text + &own }
        })?;
    if chosen == 1 {
        text.push_str("# EOF\n");
    }
    Ok((head, text).into_response())
}

/// The text format 0.0.4 as OpenMetrics 1.0: counters' families are named without `_total` (section 5.1.3 of the
/// specification), empty lines are not allowed, a type `untyped` is `unknown`. Counters without the suffix become unknown.
fn open_metrics(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let is_counter = |name: &str| name.ends_with("_total") && text.contains(&format!("# TYPE {name} counter\n"));
    for line in text.lines().filter(|line| !line.is_empty()) {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some("TYPE"), Some(name), Some("counter")) => match name.strip_suffix("_total") {
                Some(family) => out.push_str(&format!("# TYPE {family} counter")),
                None => out.push_str(&format!("# TYPE {name} unknown")),
            },
            (Some("#"), Some("TYPE"), Some(name), Some("untyped")) => out.push_str(&format!("# TYPE {name} unknown")),
            (Some("#"), Some("HELP"), Some(name), help) if is_counter(name) => {
                let family = name.strip_suffix("_total").unwrap_or(name);
                out.push_str(&format!("# HELP {family} {}", help.unwrap_or("")));
            }
            (Some("#"), Some("HELP" | "TYPE"), ..) => out.push_str(line),
            (Some("#"), ..) => continue,
            _ => out.push_str(line),
        }
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_metrics_become_open_metrics() {
        let text = "# HELP a_total Some a.\n# TYPE a_total counter\na_total{x=\"1\"} 2\n\n# TYPE odd counter\nodd 1\n\n\
                    # HELP g A gauge.\n# TYPE g gauge\ng 1.5\n# a comment\n# TYPE u untyped\nu 3\n";
        let expected = "# HELP a Some a.\n# TYPE a counter\na_total{x=\"1\"} 2\n# TYPE odd unknown\nodd 1\n\
                        # HELP g A gauge.\n# TYPE g gauge\ng 1.5\n# TYPE u unknown\nu 3\n";
        assert_eq!(open_metrics(text), expected);
    }

    #[test]
    fn scrapers_get_what_they_prefer() {
        let prometheus_2 = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
                            text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        let prometheus_3_text =
            "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.6,text/plain;version=0.0.4;q=0.5,*/*;q=0.2";
        let native = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited,\
                      application/openmetrics-text;version=1.0.0;q=0.8,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        for (accept, expected) in
            [("*/*", 0), (native, 3), (prometheus_2, 1), (prometheus_3_text, 2), ("text/html,*/*;q=0.8", 0)]
        {
            assert_eq!(best(Some(accept), &OFFERS), Some(expected), "{accept}");
        }
    }
}
