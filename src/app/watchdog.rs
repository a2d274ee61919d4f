//! The dead man's switch: a ping for as long as the core evaluates rules in time. Whoever waits for the pings learns from
//! their absence that sidewatch is gone or hangs.

use crate::api::{CoreHandle, WatchdogStatus};
use crate::config::schema::WatchdogConfig;
use crate::engine::Core;
use crate::telemetry::{clock, self_metrics};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How the pings go, shared with the API.
#[derive(Clone, Debug, Default)]
pub(super) struct Status {
    // Held for a copy or a store.
    shared: Arc<Mutex<Option<WatchdogStatus>>>,
}

impl Status {
    pub fn get(&self) -> Option<WatchdogStatus> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Option<WatchdogStatus>> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How a round ended.
enum Round {
    Arrived,
    Failed(String),
    Withheld(String),
}

/// Pings until cancelled, as the latest configuration says.
pub(super) async fn run(
    mut config: watch::Receiver<Option<WatchdogConfig>>,
    client: reqwest::Client,
    core: CoreHandle<Core>,
    status: Status,
    cancel: CancellationToken,
) {
    loop {
        let current = config.borrow_and_update().clone();
        let sleep = match &current {
            None => {
                *status.lock() = None;
                None
            }
            Some(dog) => {
                let round = round(dog, &client, &core).await;
                note(&status, dog, round);
                Some(Duration::from_millis(dog.every_ms.unsigned_abs()))
            }
        };
        let sleeping = async {
            match sleep {
                Some(time) => tokio::time::sleep(time).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = sleeping => {}
            changed = config.changed() => if changed.is_err() { return },
            () = cancel.cancelled() => return,
        }
    }
}

async fn round(dog: &WatchdogConfig, client: &reqwest::Client, core: &CoreHandle<Core>) -> Round {
    match core.call(|core, now| core.engine.rules().overdue(now)).await {
        Err(_) => return Round::Withheld("the core does not answer".into()),
        Ok(Some(overdue)) => return Round::Withheld(overdue),
        Ok(None) => {}
    }
    match ping(dog, client).await {
        Ok(()) => Round::Arrived,
        Err(error) => Round::Failed(error),
    }
}

/// The address is a secret: no error repeats it.
async fn ping(dog: &WatchdogConfig, client: &reqwest::Client) -> Result<(), String> {
    let url = dog.url.read().await?.expose().trim().to_owned();
    let request = if dog.post { client.post(url) } else { client.get(url) };
    let answer = request.timeout(TIMEOUT).send().await.map_err(|error| {
        let error = error.without_url();
        let mut cause: &dyn std::error::Error = &error;
        while let Some(deeper) = cause.source() {
            cause = deeper;
        }
        if error.is_timeout() { "no answer within 10s".to_owned() } else { cause.to_string() }
    })?;
    let code = answer.status();
    if code.is_success() { Ok(()) } else { Err(format!("answered {code}")) }
}

/// Counts, and says a loss and a recovery once.
fn note(status: &Status, dog: &WatchdogConfig, round: Round) {
    let mut status = status.lock();
    let status = status.get_or_insert_default();
    status.every_ms = dog.every_ms;
    let before = status.arrives;
    let (arrives, word, error) = match round {
        Round::Arrived => (true, "sent", String::new()),
        Round::Failed(error) => (false, "failed", error),
        Round::Withheld(error) => (false, "withheld", error),
    };
    self_metrics::watchdog_pings(word).increment(1);
    match word {
        "sent" => {
            status.sent += 1;
            status.last_sent = Some(clock::now());
            if before == Some(false) {
                tracing::info!("the watchdog's pings arrive again");
            }
        }
        "failed" => {
            status.failed += 1;
            if before != Some(false) {
                tracing::warn!(
                    error,
                    "the watchdog's ping failed; it goes on every {}",
                    crate::model::format_duration_ms(dog.every_ms)
                );
            }
        }
        _ => {
            status.withheld += 1;
            if before != Some(false) {
                tracing::error!(reason = error, "the watchdog's pings are withheld: rules are not evaluated in time");
            }
        }
    }
    status.arrives = Some(arrives);
    status.last_error = error;
}
