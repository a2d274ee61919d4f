//! Which path is served where: one table, from which both routers and the check of the API description are made.

use super::error::ApiError;
use super::{
    Shared, alertmanager, dashboard, events, history, metrics, notifications, openapi, otlp, page, probes, prometheus,
    push, push_socket, reload, remote_write, status, why,
};
use axum::extract::State;
use axum::http::Uri;
use axum::routing::{MethodRouter, get, post, put};
use axum::{Extension, Router};
use http::{Method, StatusCode};
use tower_http::compression::{CompressionLayer, CompressionLevel};

/// Where a path is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// On both listeners.
    Both,
    /// On the ingest listener only: it changes something.
    Ingest,
}

/// One path.
pub struct Route {
    /// The path, with `{name}` for a parameter.
    pub path: &'static str,
    /// Where it is served.
    pub place: Place,
    /// The methods that it answers; HEAD goes with GET.
    pub methods: &'static [&'static str],
    handler: MethodRouter<Shared>,
}

const GET: &[&str] = &["GET"];
const GET_POST: &[&str] = &["GET", "POST"];

fn read(path: &'static str, methods: &'static [&'static str], handler: MethodRouter<Shared>) -> Route {
    Route { path, place: Place::Both, methods, handler }
}

fn change(path: &'static str, methods: &'static [&'static str], handler: MethodRouter<Shared>) -> Route {
    Route { path, place: Place::Ingest, methods, handler }
}

/// Every path that sidewatch serves.
pub fn table() -> Vec<Route> {
    let mut table = vec![
        change(
            "/events",
            &["GET", "POST", "OPTIONS"],
            get(push_socket::events).post(push::events).options(push::handshake),
        ),
        change(
            "/events/{source}",
            &["GET", "POST", "OPTIONS"],
            get(push_socket::events_of).post(push::events_of).options(push::handshake),
        ),
        change("/v1/logs", &["POST"], post(otlp::logs)),
        change("/v1/metrics", &["POST"], post(otlp::metrics)),
        change("/v1/traces", &["POST"], post(otlp::traces)),
        change("/api/v1/write", &["POST"], post(remote_write::write)),
        change("/-/reload", &["POST", "PUT"], post(reload::reload).merge(put(reload::reload))),
        read("/health", GET, get(probes::health_of_the_service)),
        read("/livez", GET, get(probes::livez)),
        read("/readyz", GET, get(probes::readyz)),
        read("/startupz", GET, get(probes::startupz)),
        read("/-/healthy", GET, get(probes::livez)),
        read("/-/ready", GET, get(probes::readyz)),
        read("/metrics", GET, get(metrics::metrics)),
        read("/api/v1/query", GET_POST, get(prometheus::query).post(prometheus::query)),
        read("/api/v1/query_range", GET_POST, get(prometheus::query_range).post(prometheus::query_range)),
        read("/api/v1/format_query", GET_POST, get(prometheus::format_query).post(prometheus::format_query)),
        read("/api/v1/parse_query", GET_POST, get(prometheus::parse_query).post(prometheus::parse_query)),
        read("/api/v1/series", GET_POST, get(prometheus::series).post(prometheus::series)),
        read("/api/v1/labels", GET_POST, get(prometheus::labels).post(prometheus::labels)),
        read("/api/v1/label/{name}/values", GET, get(prometheus::label_values)),
        read("/api/v1/metadata", GET, get(prometheus::metadata)),
        read("/api/v1/query_exemplars", GET_POST, get(prometheus::query_exemplars).post(prometheus::query_exemplars)),
        read("/api/v1/rules", GET, get(prometheus::rules)),
        read("/api/v1/alerts", GET, get(prometheus::alerts)),
        read("/api/v1/status/buildinfo", GET, get(prometheus::buildinfo)),
        read("/api/v1/status/runtimeinfo", GET, get(prometheus::runtimeinfo)),
        read("/api/v1/status/flags", GET, get(prometheus::flags)),
        read("/api/v1/status/tsdb", GET, get(prometheus::tsdb)),
        read("/api/v2/status", GET, get(alertmanager::get_status)),
        read("/api/v2/receivers", GET, get(alertmanager::get_receivers)),
        read("/api/v2/alerts", GET_POST, get(alertmanager::get_alerts).post(alertmanager::post_alerts)),
        read("/api/v2/alerts/groups", GET, get(alertmanager::get_groups)),
        read("/api/v2/silences", GET_POST, get(alertmanager::get_silences).post(alertmanager::post_silences)),
        read(
            "/api/v2/silence/{silenceID}",
            &["GET", "DELETE"],
            get(alertmanager::get_silence).delete(alertmanager::delete_silence),
        ),
        read("/api/dashboard", GET, get(dashboard::dashboard)),
        read("/api/status", GET, get(status::status)),
        read("/api/events", GET, get(events::events)),
        read("/api/history", GET, get(history::history)),
        read("/api/alerts/why", GET, get(why::why)),
        read("/api/notifications", GET, get(notifications::list)),
        read("/api/notifications/{id}", &["GET", "DELETE"], get(notifications::one).delete(notifications::discard)),
        read("/api/notifications/{id}/retry", &["POST"], post(notifications::retry)),
        read("/openapi.json", GET, get(openapi::document)),
        read("/", GET, get(page::file)),
    ];
    table.extend(page::ASSETS.map(|path| read(path, GET, get(page::file))));
    table
}

/// The routers of the observe and of the ingest listener.
pub fn routers() -> (Router<Shared>, Router<Shared>) {
    let (mut observe, mut reads, mut changes) = (Router::new(), Router::new(), Router::new());
    for route in table() {
        match route.place {
            Place::Both => {
                observe = observe.route(route.path, route.handler.clone());
                reads = reads.route(route.path, route.handler);
            }
            Place::Ingest => {
                observe = observe.route(route.path, axum::routing::any(wrong_listener));
                changes = changes.route(route.path, route.handler);
            }
        }
    }
    // Where a change came in decides who may make it.
    let reads = reads.layer(Extension(alertmanager::OnIngest));
    // Scrapes and pages are repeated: the fastest level. Answers to pushes are short and many, so they go without.
    let compressed = |router: Router<Shared>| router.layer(CompressionLayer::new().quality(CompressionLevel::Fastest));
    let finish = |router: Router<Shared>| router.fallback(unknown_path).method_not_allowed_fallback(wrong_method);
    (finish(compressed(observe)), finish(compressed(reads).merge(changes)))
}

async fn wrong_listener(State(backend): State<Shared>, method: Method, uri: Uri) -> ApiError {
    let (path, ingest) = (uri.path(), backend.addresses.ingest);
    ApiError::new(
        StatusCode::MISDIRECTED_REQUEST,
        format!("{method} {path} is served on the ingest listener, not on this one"),
        format!("send it to http://{ingest}{path} (listen.ingest in sidewatch.yaml)"),
    )
}

async fn unknown_path(uri: Uri) -> ApiError {
    let hint = "GET /openapi.json lists everything that is served";
    ApiError::new(StatusCode::NOT_FOUND, format!("there is nothing at {}", uri.path()), hint)
}

async fn wrong_method(method: Method, uri: Uri) -> ApiError {
    let found = table().into_iter().find(|route| route.path == uri.path());
    let methods = found.map_or("the method that /openapi.json names".into(), |route| route.methods.join(" or "));
    let hint = format!("use {methods}");
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, format!("{} does not answer {method}", uri.path()), hint)
}
