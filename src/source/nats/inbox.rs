//! Taking what has arrived, and which subject became which type.

use crate::source::message::{Binding, Messages};
use async_nats::{HeaderMap, Message, Subscriber};
use futures_util::Stream;
use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

/// Subjects whose names are kept. More of them (one for each order, say) are not worth keeping.
const SUBJECTS: usize = 1_024;

/// Takes what has arrived by now, at most `limit` messages or about `bytes`; waits for the first one. `false` when nothing
/// more will ever come. Cancelling loses nothing.
pub(super) async fn receive(
    subscriptions: &mut [Subscriber],
    limit: usize,
    bytes: usize,
    mut take: impl FnMut(Message),
) -> bool {
    // One task may take as much as there is: the limits are ours, not those of tokio's fairness.
    tokio::task::unconstrained(std::future::poll_fn(|context| {
        let (mut ended, mut count, mut held) = (false, 0, 0);
        for subscription in &mut *subscriptions {
            while count < limit && held < bytes {
                match Pin::new(&mut *subscription).poll_next(context) {
                    Poll::Ready(Some(message)) => {
                        count += 1;
                        held += message.length;
                        take(message);
                    }
                    Poll::Ready(None) => {
                        ended = true;
                        break;
                    }
                    Poll::Pending => break,
                }
            }
        }
        match () {
            () if count > 0 => Poll::Ready(true),
            () if ended => Poll::Ready(false),
            () => Poll::Pending,
        }
    }))
    .await
}

/// The names of subjects, shared by their events.
#[derive(Debug, Default)]
pub(super) struct Topics {
    known: HashMap<Box<str>, Arc<str>, ahash::RandomState>,
    last: Option<Arc<str>>,
}

impl Topics {
    /// Gathers a message: by its headers when they say that it is a CloudEvent, else as it is.
    pub fn push(&mut self, message: &Message, into: &mut Messages) {
        let topic = self.name(&message.subject);
        match &message.headers {
            Some(headers) if !headers.is_empty() => push_with_headers(message, headers, &topic, into),
            _ => into.push(&message.payload, Some(&topic)),
        }
    }

    fn name(&mut self, subject: &str) -> Arc<str> {
        if let Some(last) = self.last.as_ref().filter(|last| ***last == *subject) {
            return last.clone();
        }
        let name = match self.known.get(subject) {
            Some(name) => name.clone(),
            None => {
                let name: Arc<str> = subject.into();
                if self.known.len() >= SUBJECTS {
                    self.known.clear();
                }
                self.known.insert(subject.into(), name.clone());
                name
            }
        };
        self.last = Some(name.clone());
        name
    }
}

/// CloudEvents' NATS protocol binding 1.0, section 3: `ce-` headers, or the content type of the structured mode.
fn push_with_headers(message: &Message, headers: &HeaderMap, topic: &Arc<str>, into: &mut Messages) {
    let all: Vec<(&str, &str)> = headers
        .iter()
        .filter_map(|(name, values)| values.first().map(|value| (AsRef::<str>::as_ref(name), value.as_str())))
        .collect();
    let content_type = all.iter().find(|(name, _)| name.eq_ignore_ascii_case("content-type")).map(|(_, value)| *value);
    into.push_with_headers(&message.payload, Some(topic), &all, content_type, Binding::Hyphen);
}
