//! Messages of brokers, gathered into one batch: each is an event (or several) by itself, whatever stands in the next one.

use super::decode::{Framing, Part, PartKind, binary_cloudevent, reason};
use crate::model::Refusal;
use std::ops::Range;
use std::sync::Arc;

/// How a transport writes CloudEvents beside the payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Binding {
    /// `ce-type`, percent-encoded: NATS and HTTP.
    Hyphen,
    /// `ce_type`: Kafka.
    #[cfg_attr(not(feature = "kafka"), allow(dead_code, reason = "a build without Kafka"))]
    Underscore,
    /// `cloudEvents:type` or `cloudEvents_type`: AMQP.
    Long,
    /// The names alone: MQTT 5 user properties.
    Bare,
}

impl Binding {
    fn is_attribute(self, name: &str) -> bool {
        let begins = |prefix: &str| name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
        match self {
            Self::Hyphen => begins("ce-"),
            Self::Underscore => begins("ce_"),
            Self::Long => begins("cloudEvents:") || begins("cloudEvents_"),
            Self::Bare => true,
        }
    }

    /// The value as HTTP would carry it: only there a percent sign or a quote is more than itself.
    fn encoded(self, value: &str) -> String {
        match self {
            Self::Hyphen => value.to_owned(),
            Self::Underscore | Self::Long | Self::Bare => value.replace('%', "%25").replace('"', "%22"),
        }
    }

    /// Whether these are the attributes of an event in binary mode: the one that every event has is there.
    fn is_event(self, headers: &[(&str, &str)]) -> bool {
        headers.iter().any(|(name, _)| {
            let attribute = name.rsplit(['-', '_', ':']).next().unwrap_or(name);
            self.is_attribute(name) && attribute.eq_ignore_ascii_case("specversion")
        })
    }
}

/// Gathers payloads for one batch.
#[derive(Debug)]
pub(super) struct Messages {
    buffer: Vec<u8>,
    parts: Vec<Part>,
    refused: Vec<Refusal>,
    /// Bytes of one event.
    limit_bytes: usize,
    /// How large the last batch was: the next one will be about as large.
    last: Size,
}

/// Bytes and messages of a batch.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Size {
    bytes: usize,
    parts: usize,
}

impl Messages {
    /// `limit_bytes` is the limit of one event; a longer payload is refused without being kept.
    pub fn new(limit_bytes: usize) -> Self {
        Self::like(Size::default(), limit_bytes)
    }

    /// For a batch that will be about as large as another one.
    pub fn like(last: Size, limit_bytes: usize) -> Self {
        Self { buffer: Vec::new(), parts: Vec::new(), refused: Vec::new(), limit_bytes, last }
    }

    /// How large it is.
    pub fn size(&self) -> Size {
        Size { bytes: self.buffer.len(), parts: self.parts.len() }
    }

    /// Messages so far, refused ones included.
    pub fn len(&self) -> usize {
        self.parts.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.buffer.len()
    }

    /// A payload as it came. `topic` (subject, routing key, channel) is the type of an event that names none itself,
    /// unless the configuration gives one.
    pub fn push(&mut self, payload: &[u8], topic: Option<&Arc<str>>) {
        self.part(payload, topic, PartKind::Plain);
    }

    /// A payload with headers beside it: the media type says whether it is a CloudEvent in structured mode, the headers
    /// whether it is one in binary mode; otherwise as [`Messages::push`].
    pub fn push_with_headers(
        &mut self,
        payload: &[u8],
        topic: Option<&Arc<str>>,
        headers: &[(&str, &str)],
        content_type: Option<&str>,
        binding: Binding,
    ) {
        let media = content_type.map(|media| media.split(';').next().unwrap_or(media).trim().to_ascii_lowercase());
        match media.as_deref() {
            // The longer name first: one is the beginning of the other.
            Some(media) if media.starts_with("application/cloudevents-batch") => {
                self.part(payload, topic, PartKind::CloudEventsBatch);
            }
            Some(media) if media.starts_with("application/cloudevents") => {
                self.part(payload, topic, PartKind::CloudEvent);
            }
            _ if binding.is_event(headers) && payload.len() <= self.limit_bytes => {
                let attributes: Vec<(String, String)> = headers
                    .iter()
                    .filter(|(name, _)| binding.is_attribute(name))
                    .map(|(name, value)| ((*name).to_owned(), binding.encoded(value)))
                    .collect();
                match binary_cloudevent(&attributes, content_type, payload) {
                    Ok(event) => self.part(&event, topic, PartKind::CloudEvent),
                    Err(message) => self.refuse(reason::INVALID_JSON, message),
                }
            }
            _ => self.part(payload, topic, PartKind::Plain),
        }
    }

    /// The transport's own id of the message that was pushed last: the event's, when it has none itself.
    pub fn identify(&mut self, id: &str) {
        if let Some(part) = self.parts.last_mut().filter(|_| !id.is_empty()) {
            part.id = Some(id.into());
        }
    }

    /// A message that is no event at all, with the reason to count.
    pub fn refuse(&mut self, reason: &'static str, message: String) {
        let item = self.parts.len() as u32;
        self.refused.push(Refusal { item, reason, message });
        self.parts.push(Part { range: 0..0, kind: PartKind::Refused, topic: None, id: None });
    }

    fn part(&mut self, payload: &[u8], topic: Option<&Arc<str>>, kind: PartKind) {
        if payload.len() > self.limit_bytes {
            let (size, limit) = (payload.len(), self.limit_bytes);
            let message = format!("the message has {size} bytes, the limit is {limit} (limits.event_bytes)");
            return self.refuse(reason::TOO_LARGE, message);
        }
        if self.parts.is_empty() {
            self.buffer.reserve(self.last.bytes);
            self.parts.reserve(self.last.parts);
        }
        let start = self.buffer.len();
        self.buffer.extend_from_slice(payload);
        self.parts.push(Part { range: start..self.buffer.len(), kind, topic: topic.cloned(), id: None });
        // Bytes of two messages must never make one character.
        self.buffer.push(b'\n');
    }

    /// Where the messages stand in the input, in their order.
    pub fn ranges(&self) -> Vec<Range<usize>> {
        self.parts.iter().map(|part| part.range.clone()).collect()
    }

    /// What the decoder takes, and what was refused before it.
    pub fn take(&mut self) -> (Vec<u8>, Framing, Vec<Refusal>) {
        self.last = self.size();
        let framing = Framing::Messages(std::mem::take(&mut self.parts));
        let mut buffer = std::mem::take(&mut self.buffer);
        if buffer.capacity() > 2 * buffer.len() {
            // It waits in the queue, which counts its content only.
            buffer.shrink_to_fit();
        }
        (buffer, framing, std::mem::take(&mut self.refused))
    }
}
