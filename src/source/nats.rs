//! NATS: subjects of core NATS ([`core`]), or a durable consumer of JetStream that is pulled from ([`jetstream`]).
//!
//! The source has one connection at a time, which ends once; then it makes a new one, and goes on for ever.

mod api;
mod connect;
mod core;
mod inbox;
mod jetstream;
mod pull;
mod recall;
mod rescue;
mod unacked;
mod window;

use super::SourceContext;
use super::standing::Standing;
use crate::config::schema::NatsConfig;
use crate::telemetry::self_metrics;
pub(crate) use connect::Connection;
use jetstream::Consumer;
use tokio_util::sync::CancellationToken;

/// A batch for the core: large enough that its own cost does not matter, small enough to be decoded within a millisecond.
const BATCH_MESSAGES: usize = 1_024;
const BATCH_BYTES: usize = 512 << 10;

/// Why listening ended.
#[derive(Debug)]
enum End {
    /// The source is to stop.
    Cancelled,
    /// The connection is gone.
    Gone,
    /// The server will not have it like this: the reason, and what to do.
    Refused(String),
}

/// Listens until cancelled.
pub(super) async fn run(context: &SourceContext, config: &NatsConfig, cancel: &CancellationToken) {
    let mut standing = Standing::new(context);
    let mut consumer = config.stream.as_ref().map(|stream| Consumer::new(context, config, stream));
    let connected = self_metrics::source_connected(&context.name);
    let mut turn = 0;
    while !cancel.is_cancelled() {
        let opening = Connection::open(&config.servers, &context.base_dir, "sidewatch", turn);
        turn += 1;
        let opened = tokio::select! {
            opened = opening => opened,
            () = cancel.cancelled() => return,
        };
        match opened {
            Err(reason) => standing.lost(reason).await,
            Ok(connection) => {
                connected.increment(1);
                let end = attend(context, config, &mut consumer, &connection, &mut standing, cancel).await;
                match end {
                    End::Cancelled => return,
                    End::Refused(reason) => standing.lost(reason).await,
                    End::Gone => standing.lost(format!("the connection to {} is gone", addresses(config))).await,
                }
            }
        }
        let wait = standing.next_wait();
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = cancel.cancelled() => return,
        }
    }
}

/// Listens on one connection. What the server refuses is tried again on the same one.
async fn attend(
    context: &SourceContext,
    config: &NatsConfig,
    consumer: &mut Option<Consumer<'_>>,
    connection: &Connection,
    standing: &mut Standing<'_>,
    cancel: &CancellationToken,
) -> End {
    loop {
        let end = match consumer {
            Some(consumer) => consumer.listen(connection, standing, cancel).await,
            None => {
                let end = core::listen(context, config, connection, standing, cancel).await;
                if standing.is_up() && !matches!(end, End::Cancelled) {
                    // Whatever comes until the next connection, nobody keeps it for us.
                    self_metrics::source_gaps(&context.name, "disconnected").increment(1);
                }
                end
            }
        };
        let End::Refused(reason) = end else { return end };
        if connection.news.gone.is_cancelled() {
            return End::Refused(reason);
        }
        standing.lost(reason).await;
        let wait = standing.next_wait();
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = connection.news.gone.cancelled() => return End::Gone,
            () = cancel.cancelled() => return End::Cancelled,
        }
    }
}

/// Whether a subject matches a pattern: `*` is one token, `>` the rest.
fn matches(pattern: &str, subject: &str) -> bool {
    let mut tokens = subject.split('.');
    for wanted in pattern.split('.') {
        match (wanted, tokens.next()) {
            (">", Some(_)) => return true,
            ("*", Some(_)) => {}
            (wanted, Some(token)) if wanted == token => {}
            _ => return false,
        }
    }
    tokens.next().is_none()
}

fn addresses(config: &NatsConfig) -> String {
    let all: Vec<String> = config.servers.urls.iter().map(|url| url.address()).collect();
    all.join(", ")
}

/// What is promised, for `sidewatch check`.
pub(super) fn guarantee(config: &NatsConfig) -> &'static str {
    match config.stream {
        Some(_) => {
            "at least once, counted once: acknowledged when a checkpoint holds it, redeliveries known by stream sequence"
        }
        None => {
            "at most once: what is published while nobody hears is gone; each gap and each dropped message is counted"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn subjects_match_by_tokens() {
        let check = |pattern: &str, subject: &str, expected: bool| {
            assert_eq!(matches(pattern, subject), expected, "{pattern} {subject}");
        };
        check("order.>", "order.placed.eu", true);
        check("order.>", "order", false);
        check("order.*", "order.placed", true);
        check("order.*", "order.placed.eu", false);
        check("order.placed", "order.placed", true);
        check("*.placed", "order.failed", false);
        check(">", "a", true);
    }
}
