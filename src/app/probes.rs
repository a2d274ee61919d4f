//! HTTP probes of the health checks: one task a check, begun anew at each reload.

use crate::api::CoreHandle;
use crate::engine::{Core, Input};
use crate::health::ProbeSpec;
use crate::supervise::{Stage, Supervisor};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Bytes of an answer's body that are looked at.
const BODY_BYTES: usize = 64 << 10;

/// Starts the probes; they end with the returned token.
pub(super) fn start(
    probes: Vec<ProbeSpec>,
    client: &reqwest::Client,
    core: &CoreHandle<Core>,
    supervisor: &Supervisor,
) -> CancellationToken {
    let generation = CancellationToken::new();
    for probe in probes {
        let (client, core, generation) = (client.clone(), core.clone(), generation.clone());
        supervisor.spawn(Stage::Sources, format!("probe {}", probe.check), |cancel| async move {
            let every = Duration::from_millis(probe.every_ms.max(100).unsigned_abs());
            loop {
                let outcome = ask(&client, &probe).await;
                let check = probe.check.clone();
                // A core that is too busy is told the next time.
                let _ = core.call(move |core, now| core.engine.observe(now, [Input::Probe { check, outcome }])).await;
                tokio::select! {
                    () = tokio::time::sleep(every) => {}
                    () = cancel.cancelled() => return,
                    () = generation.cancelled() => return,
                }
            }
        });
    }
    generation
}

/// Asks once. `Err` is a sentence that says what is wrong.
async fn ask(client: &reqwest::Client, probe: &ProbeSpec) -> Result<(), String> {
    let timeout = Duration::from_millis(probe.timeout_ms.max(1).unsigned_abs());
    let request = client.get(&probe.url).timeout(timeout);
    let mut answer = request.send().await.map_err(|error| match error.is_timeout() {
        true => format!("no answer within {} ms", timeout.as_millis()),
        false => format!("no connection: {}", innermost(&error)),
    })?;
    let status = answer.status();
    let right = probe.status.map_or(status.is_success(), |wanted| status.as_u16() == wanted);
    if !right {
        let wanted = probe.status.map_or_else(|| "2xx".into(), |wanted| wanted.to_string());
        return Err(format!("answered {status}, expected {wanted}"));
    }
    let Some(text) = &probe.body else { return Ok(()) };
    let mut body = Vec::new();
    while let Ok(Some(chunk)) = answer.chunk().await {
        body.extend_from_slice(&chunk);
        if body.len() >= BODY_BYTES {
            break;
        }
    }
    if String::from_utf8_lossy(&body).contains(text.as_str()) {
        Ok(())
    } else {
        Err(format!("the answer does not contain {text:?}"))
    }
}

/// The error at the bottom of the chain: "connection refused" rather than "error sending request".
fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
