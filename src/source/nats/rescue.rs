//! Messages whose headers the client library cannot read: it gives up the connection over each, and the server delivers it
//! again. After a few such ends the source looks for them by JetStream's API and reads them without their headers.

use super::connect::Connection;
use super::jetstream::Consumer;
use super::unacked::Reply;
use super::window::Delivery;
use super::{End, api::Binding};
use crate::telemetry::clock;
use async_nats::{HeaderName, Message};
use std::str::FromStr;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// A connection that ended so soon may have ended over a message.
pub(super) const SOON: Duration = Duration::from_secs(60);
/// After so many of them in a row it is looked for.
pub(super) const ENDS: u32 = 2;
/// How long one search may take.
const SEARCH: Duration = Duration::from_secs(2);
/// How long the acknowledgement of what was found may take.
const SETTLED: Duration = Duration::from_secs(10);

impl Consumer<'_> {
    /// Looks through what was delivered and never arrived. What the client cannot read is counted and acknowledged before
    /// anything else is asked for.
    pub(super) async fn rescue(
        &mut self,
        connection: &Connection,
        binding: &Binding,
        cancel: &CancellationToken,
    ) -> Result<(), End> {
        let searching = clock::instant();
        let mut from = self.window.floor() + 1;
        while clock::instant().duration_since(searching) < SEARCH {
            let Some(at) = self.api.first_heard(connection, from).await else { break };
            // What is not delivered yet cannot be acknowledged yet either.
            if at > binding.bound.delivered.1 {
                break;
            }
            from = at + 1;
            if self.window.contains(at) {
                continue;
            }
            let Some(found) = self.api.message(connection, at).await else { continue };
            if readable(&found.headers) {
                continue;
            }
            tracing::warn!(
                source = %self.context.name, sequence = at,
                "the headers of a message cannot be read; it is taken without them"
            );
            self.window.settle(at, at);
            let consumer = binding.bound.delivered.0;
            let delivery = Delivery { delivered: 2, stream: at, consumer, pending: 0 };
            self.replies.push(Reply::new(self.api.reply(at, consumer).into(), delivery));
            let length = found.payload.len();
            let message = Message {
                subject: found.subject.into(),
                reply: None,
                payload: found.payload.into(),
                headers: None,
                status: None,
                description: None,
                length,
            };
            self.topics.push(&message, &mut self.messages);
        }
        let mut ticks = tokio::time::interval(SEARCH);
        if !self.replies.is_empty() && !self.deliver(connection, binding, &mut ticks, cancel).await {
            return Err(End::Cancelled);
        }
        let settling = async {
            while !self.acks.is_empty() {
                self.acks.changed().await;
                self.acknowledge(connection, binding).await;
            }
            // Behind this the server has the acknowledgements. An error is the end of the connection, which is noticed.
            let _ = connection.client.flush().await;
        };
        tokio::select! {
            _ = tokio::time::timeout(SETTLED, settling) => Ok(()),
            () = connection.news.gone.cancelled() => Err(End::Gone),
            () = cancel.cancelled() => Err(End::Cancelled),
        }
    }
}

/// Whether the client library reads headers such as these (NATS ADR-4, as far as it insists on it).
fn readable(headers: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(headers) else { return false };
    let mut lines = text.lines();
    let version = lines.next().is_none_or(|line| line.starts_with("NATS/1.0"));
    version
        && lines.filter(|line| !line.is_empty()).all(|line| {
            // A line that begins with a space goes on with the value before it.
            line.starts_with(char::is_whitespace)
                || line.split_once(':').is_some_and(|(name, _)| HeaderName::from_str(name).is_ok())
        })
}

#[cfg(test)]
mod tests {
    use super::readable;

    #[test]
    fn headers_are_judged_as_the_client_does() {
        let check = |headers: &[u8], expected: bool| {
            assert_eq!(readable(headers), expected, "{:?}", String::from_utf8_lossy(headers));
        };
        check(b"", true);
        check(b"NATS/1.0\r\nce-type: a\r\nNats-Msg-Id:1\r\n\r\n", true);
        check(b"NATS/1.0\r\na: b\r\n c\r\n\r\n", true);
        check(b"NATS/1.0\r\na: \xff\r\n\r\n", false);
        check(b"NATS/1.0\r\nno colon\r\n\r\n", false);
        check(b"NATS/1.0\r\na b: c\r\n\r\n", false);
        check(b"HTTP/1.1\r\n\r\n", false);
    }
}
