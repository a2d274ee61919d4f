//! `/status` and `/receivers`.

use super::{AmError, ReceiverName, moment};
use crate::api::error::json;
use crate::api::{Shared, VERSION};
use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use serde_json::json as object;

/// The version of Alertmanager whose API this is: clients such as karma choose their requests by it. It is the one that
/// the tests hold the answers against, and Debian's amtool warns of any other.
const ALERTMANAGER_VERSION: &str = "0.25.0";

/// `GET /api/v2/status`. `config.original` holds routes, inhibition and time intervals in Alertmanager's format, however
/// they were configured, and of the receivers the names only.
///
/// # Errors
/// 503 when the core does not answer.
pub async fn get_status(State(backend): State<Shared>) -> Result<Response, AmError> {
    let original = backend.core.call(|core, _| core.notifier.routing().alertmanager_text()).await?;
    Ok(json(
        StatusCode::OK,
        &object!({
            "cluster": {"peers": [], "status": "disabled"},
            "config": {"original": original},
            "uptime": moment(backend.identity.started),
            "versionInfo": {
                "branch": "sidewatch",
                "buildDate": "",
                "buildUser": "sidewatch",
                "goVersion": "",
                "revision": VERSION,
                "version": ALERTMANAGER_VERSION,
            },
        }),
    ))
}

/// `GET /api/v2/receivers`.
///
/// # Errors
/// 503 when the core does not answer.
pub async fn get_receivers(State(backend): State<Shared>) -> Result<Response, AmError> {
    let names = backend.core.call(|core, _| {
        let receivers = core.notifier.routing().receivers().iter();
        receivers.map(|receiver| ReceiverName { name: receiver.name.clone() }).collect::<Vec<_>>()
    });
    Ok(json(StatusCode::OK, &names.await?))
}
