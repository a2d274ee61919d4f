//! Which part of the input is an event, and how to go on behind one that is broken.

use super::found::Found;
use super::policy::{self, Inspection, Payload};
use super::scan::{Fault, Origin, Scanner, What, Work};
use super::shape::Shapes;
use super::{Decoder, Framing, Part, PartKind, Prepared, Root, reason, trie};
use crate::model::{Attribute, Event, EventBatch, Field, Refusal, Shape, Text};
use base64::Engine as _;
use std::fmt::Write as _;
use std::ops::Range;

/// How many refusals of one batch carry a sentence; the others are only counted, by reason.
const SENTENCES: usize = 1_000;

/// Takes the place of bytes that are not UTF-8: no JSON text may contain it, so the item around it is refused.
const BROKEN: u8 = 0x01;

/// The input as text, and where it was not UTF-8.
pub(super) fn to_text(input: Vec<u8>) -> (String, Vec<Range<usize>>) {
    let (mut bytes, mut broken) = match String::from_utf8(input) {
        Ok(text) => return (text, Vec::new()),
        Err(error) => (error.into_bytes(), Vec::<Range<usize>>::new()),
    };
    let mut at = 0;
    while let Err(error) = std::str::from_utf8(&bytes[at..]) {
        let start = at + error.valid_up_to();
        let end = error.error_len().map_or(bytes.len(), |len| start + len);
        bytes[start..end].fill(BROKEN);
        match broken.last_mut() {
            Some(last) if last.end == start => last.end = end,
            _ => broken.push(start..end),
        }
        at = end;
    }
    (String::from_utf8(bytes).unwrap_or_default(), broken)
}

/// One call of the decoder.
pub(super) struct Job<'a> {
    decoder: &'a Decoder,
    prepared: &'a Prepared,
    text: &'a str,
    broken: &'a [Range<usize>],
    batch: &'a mut EventBatch,
    work: Work,
    item: u32,
    default_type: Text,
    /// The configured source's name in the arena, once a field asks for it.
    source: Text,
    /// Every item must be a CloudEvent.
    cloudevents: bool,
    inspection: Inspection<'a>,
    /// Events were taken before: they are not held against schemas again.
    trusts: bool,
    /// The id of an event that has none, and how many events the message has brought so far.
    message_id: Option<&'a str>,
    in_message: u32,
}

type Wrong = (&'static str, String);

impl<'a> Job<'a> {
    pub fn new(
        decoder: &'a Decoder,
        prepared: &'a Prepared,
        text: &'a str,
        broken: &'a [Range<usize>],
        batch: &'a mut EventBatch,
    ) -> Self {
        let default_type = decoder.default_type.as_ref().map_or(Text::NONE, |name| batch.push_text(name));
        let work = Work::new(&prepared.trie);
        Self {
            decoder,
            prepared,
            text,
            broken,
            batch,
            work,
            item: 0,
            default_type,
            source: Text::NONE,
            cloudevents: false,
            inspection: Inspection::default(),
            trusts: false,
            message_id: None,
            in_message: 0,
        }
    }

    /// For events that were taken before.
    pub fn trusting(self) -> Self {
        Self { trusts: true, ..self }
    }

    pub fn run(&mut self, framing: &'a Framing) {
        // Texts point into the batch with 31 bits, and the arena may grow to the size of the input.
        if self.text.len() >= 1 << 30 {
            return self.refuse(0..0, (reason::TOO_LARGE, "the input is larger than 1 GiB".into()));
        }
        let start = if self.text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
        match framing {
            Framing::Auto => self.values(start),
            Framing::Lines if self.decoder.cutter.is_some() => self.text_lines(start),
            Framing::Lines | Framing::Ndjson => self.json_lines(start),
            Framing::CloudEvents | Framing::CloudEventsBinary { .. } => {
                self.cloudevents = true;
                if !self.text[start..].trim_ascii().is_empty() {
                    self.json_item(start..self.text.len());
                } else {
                    self.refuse(start..start, (reason::INVALID_CLOUDEVENT, "there is no event".into()));
                }
            }
            Framing::CloudEventsBatch => self.cloudevents_batch(start),
            Framing::Messages(parts) => self.messages(parts),
        }
    }

    fn cloudevents_batch(&mut self, start: usize) {
        self.cloudevents = true;
        let begin = self.blanks(start);
        if self.byte(begin) == b'[' {
            let end = self.array(begin);
            if self.blanks(end) < self.text.len() {
                self.refuse(end..self.text.len(), (reason::INVALID_JSON, "something follows the batch".into()));
            }
        } else {
            let message = "a batch of CloudEvents is a JSON array".into();
            self.refuse(begin..self.text.len(), (reason::INVALID_CLOUDEVENT, message));
        }
    }

    /// Each message sees nothing of the text behind it: what is broken in one stays there.
    fn messages(&mut self, parts: &'a [Part]) {
        let whole = self.text;
        let configured_type = self.default_type;
        let mut topic: Option<&str> = None;
        for (item, Part { range, kind, topic: own, id }) in parts.iter().enumerate() {
            self.item = item as u32;
            self.text = whole.get(..range.end).unwrap_or_default();
            self.cloudevents = false;
            (self.message_id, self.in_message) = (id.as_deref(), 0);
            if configured_type.is_none() && own.as_deref() != topic {
                topic = own.as_deref();
                self.default_type = topic.map_or(Text::NONE, |topic| self.batch.push_text(topic));
            }
            let start = match whole.get(range.clone()) {
                Some(text) if text.starts_with('\u{feff}') => range.start + '\u{feff}'.len_utf8(),
                _ => range.start,
            };
            match kind {
                PartKind::Refused => {}
                _ if self.text.get(start..).is_none_or(|text| text.trim_ascii().is_empty()) => {
                    self.refuse(range.clone(), (reason::EMPTY, "the message is empty".into()));
                }
                PartKind::Plain if self.decoder.cutter.is_some() => self.text_lines(start),
                PartKind::Plain => self.values(start),
                PartKind::CloudEvent => {
                    self.cloudevents = true;
                    self.json_item(start..range.end);
                }
                PartKind::CloudEventsBatch => self.cloudevents_batch(start),
            }
        }
        self.text = whole;
        self.message_id = None;
    }

    fn byte(&self, at: usize) -> u8 {
        self.text.as_bytes().get(at).copied().unwrap_or(0)
    }

    fn blanks(&self, mut at: usize) -> usize {
        while matches!(self.byte(at), b' ' | b'\n' | b'\r' | b'\t') {
            at += 1;
        }
        at
    }

    fn line_end(&self, at: usize) -> usize {
        memchr::memchr(b'\n', &self.text.as_bytes()[at..]).map_or(self.text.len(), |len| at + len)
    }

    /// Objects and arrays one after the other.
    fn values(&mut self, start: usize) {
        let mut at = self.blanks(start);
        while at < self.text.len() {
            if self.byte(at) == b'[' {
                at = self.array(at);
            } else {
                at = match self.json_value(at, self.text.len()) {
                    Ok(end) => end,
                    Err(fault) => {
                        let end = self.recover(at, fault.at as usize);
                        self.refuse_fault(at..end, fault);
                        end
                    }
                };
            }
            at = self.blanks(at);
        }
    }

    /// Where to go on behind a broken value. What breaks within its line is a broken line. What breaks later was either
    /// written over several lines, or half a line that ran into the next: the next line that begins with a bracket
    /// decides.
    fn recover(&self, start: usize, fault_at: usize) -> usize {
        let mut end = self.line_end(start);
        if fault_at > end {
            while end < self.text.len() && !matches!(self.byte(end + 1), b'{' | b'[') {
                end = self.line_end(end + 1);
            }
        }
        end
    }

    fn json_lines(&mut self, start: usize) {
        let mut at = start;
        while at < self.text.len() {
            let end = self.line_end(at);
            let first = self.blanks(at);
            if first < end {
                self.json_item(first..end);
            }
            at = end + 1;
        }
    }

    /// One value that takes all of the range.
    fn json_item(&mut self, range: Range<usize>) {
        if range.len() > self.decoder.limits.event_bytes {
            self.refuse_large(range);
        } else if let Err(fault) = self.json_value_alone(range.clone()) {
            self.refuse_fault(range, fault);
        }
    }

    fn json_value_alone(&mut self, range: Range<usize>) -> Result<(), Fault> {
        let (events, arena) = (self.batch.events.len(), self.batch.arena.len());
        let item = self.item;
        let end = self.json_value(range.start, range.end)?;
        let rest = self.blanks(end);
        if rest < range.end {
            // The value was recorded; it counts together with what follows it, as one broken item.
            if self.batch.events.len() > events {
                self.batch.events.truncate(events);
                self.batch.fields.truncate(events * self.prepared.plan.len());
                self.batch.arena.truncate(arena.max(self.source_end()));
            } else if let Some(refused) = self.batch.refused.pop() {
                self.batch.quarantined.pop_if(|kept| kept.item == refused.item);
            }
            self.item = item;
            return Err(Fault { what: What::Trailing, at: rest as u32 });
        }
        Ok(())
    }

    /// How much of the arena is needed by later events.
    fn source_end(&self) -> usize {
        if self.source.is_none() { 0 } else { self.batch.arena.len() }
    }

    /// An array of events from its opening bracket; where it ends.
    fn array(&mut self, start: usize) -> usize {
        let mut at = self.blanks(start + 1);
        if self.byte(at) == b']' {
            return at + 1;
        }
        loop {
            at = match self.json_value(at, self.text.len()) {
                Ok(end) => end,
                Err(fault) => {
                    let end = self.element_end(at);
                    self.refuse_fault(at..end, fault);
                    if fault.what == What::End {
                        return self.text.len();
                    }
                    end
                }
            };
            at = self.blanks(at);
            match self.byte(at) {
                b']' => return at + 1,
                b',' => at = self.blanks(at + 1),
                _ if at >= self.text.len() => {
                    self.refuse(at..at, (reason::TRUNCATED, "the array is not closed".into()));
                    return at;
                }
                _ => {
                    let end = self.element_end(at);
                    let message = "a comma or a closing bracket was expected behind an event".into();
                    self.refuse(at..end, (reason::INVALID_JSON, message));
                    at = end;
                    if self.byte(at) == b',' {
                        at = self.blanks(at + 1);
                    }
                }
            }
        }
    }

    /// The comma or bracket behind a broken element: the first outside of texts that is not inside a bracket opened here.
    fn element_end(&self, start: usize) -> usize {
        let (mut depth, mut in_text, mut at) = (0_u32, false, start);
        let bytes = self.text.as_bytes();
        while at < bytes.len() {
            match bytes[at] {
                b'\\' if in_text => at += 1,
                b'"' => in_text = !in_text,
                _ if in_text => {}
                b'{' | b'[' => depth += 1,
                b',' | b']' if depth == 0 => return at,
                b'}' | b']' => depth = depth.saturating_sub(1),
                _ => {}
            }
            at += 1;
        }
        bytes.len()
    }

    /// Scans the value at `start` and records it as an event or as refused; where it ends. On a fault nothing is recorded.
    fn json_value(&mut self, start: usize, limit: usize) -> Result<usize, Fault> {
        self.work.clear();
        let depth = self.decoder.limits.depth as u32;
        let bytes = &self.text.as_bytes()[..limit];
        let arena_mark = self.batch.arena.len();
        let mut scanner =
            Scanner::new(bytes, &self.prepared.trie, &mut self.work, &mut self.batch.arena, Origin::Buffer, depth);
        scanner.pos = start;
        let read = scanner.document(0);
        let end = scanner.pos;
        if let Err(fault) = read {
            self.batch.arena.truncate(arena_mark);
            return Err(fault);
        }
        if end - start > self.decoder.limits.event_bytes {
            self.refuse_large(start..end);
        } else if bytes[start] != b'{' {
            self.refuse(start..end, (reason::NOT_AN_OBJECT, "an event is a JSON object".into()));
        } else if let Err(wrong) = self.record(start..end) {
            self.batch.arena.truncate(arena_mark);
            self.refuse(start..end, wrong);
        }
        Ok(end)
    }

    /// Makes the scanned document an event with its row of fields.
    fn record(&mut self, range: Range<usize>) -> Result<(), Wrong> {
        let shapes = &self.decoder.shapes;
        let (shape, root) = match shapes.recognise(&self.work.values, !self.default_type.is_none()) {
            _ if self.cloudevents => (Shape::CloudEvents, Root::Data),
            Some(recognised) => recognised,
            None => (Shape::Foreign, Root::Top),
        };
        if shape == Shape::CloudEvents
            && let Some((text, opaque)) = Shapes::base64(&self.work.values, self.text, &self.batch.arena)
        {
            self.base64_data(text, opaque)?;
        }
        let found = Found { values: &self.work.values, buffer: self.text, arena: &self.batch.arena };
        let raw = Text::in_buffer(range.start as u32, range.len() as u32);
        let event = shapes.event(shape, found, self.default_type, raw, self.batch.arrived)?;
        let policy = &self.decoder.policy;
        if policy.validates() && !self.trusts {
            let payload = Payload { raw: &self.text[range], root, given: shapes.given_data(), groups: None };
            self.inspection.check(policy, self.batch, self.text, &event, payload)?;
        }

        let row = self.batch.fields.len();
        self.batch.fields.resize(row + self.prepared.plan.len(), Field::Missing);
        let first_slot = self.prepared.first_slot;
        for slot in &self.work.touched {
            let Some(target) = slot.checked_sub(first_slot).map(|at| self.prepared.targets[at as usize]) else {
                continue;
            };
            if target.roots & root as u8 == 0 {
                continue;
            }
            let list = self.prepared.trie.list_of[*slot as usize];
            let field = if list == trie::NONE {
                self.work.values[*slot as usize]
            } else {
                let elements = &self.work.lists[list as usize];
                let start = self.batch.lists.len() as u32;
                self.batch.lists.extend_from_slice(elements);
                Field::List { start, len: elements.len() as u32 }
            };
            self.batch.fields[row + usize::from(target.plan_slot)] = field;
        }
        self.finish(event, row);
        Ok(())
    }

    /// `data_base64` (CloudEvents JSON event format, section 3.1.1): what it holds is read like `data`.
    fn base64_data(&mut self, text: Text, opaque: bool) -> Result<(), Wrong> {
        let encoded = text.resolve(self.text, &self.batch.arena);
        let Ok(decoded) = base64::engine::general_purpose::STANDARD.decode(encoded) else {
            return Err((reason::INVALID_CLOUDEVENT, "data_base64 is not base64".into()));
        };
        // Bytes that are no text stay as they came, in base64.
        let Ok(decoded) = String::from_utf8(decoded) else { return Ok(()) };
        let node = self.prepared.data_node;
        let base = self.batch.arena.len() as u32;
        self.batch.arena.push_str(&decoded);
        let depth = self.decoder.limits.depth as u32;
        let mut scanner = Scanner::new(
            decoded.as_bytes(),
            &self.prepared.trie,
            &mut self.work,
            &mut self.batch.arena,
            Origin::Arena(base),
            depth,
        );
        scanner.blanks();
        // Whether it is JSON must be known before anything of it is taken.
        let json = !opaque && scanner.skip(0).and_then(|()| scanner.end()).is_ok();
        if json {
            scanner.pos = 0;
            let read = scanner.document(node);
            debug_assert!(read.is_ok());
        } else {
            scanner.put(node, Field::Text(Text::in_arena(base, decoded.len() as u32)));
        }
        Ok(())
    }

    fn text_lines(&mut self, start: usize) {
        let Some(mut places) = self.decoder.cutter.as_ref().map(super::line::Cutter::places) else { return };
        let mut at = start;
        while at < self.text.len() {
            let end = self.line_end(at);
            let range = at..at + self.text[at..end].trim_end_matches('\r').len();
            at = end + 1;
            if self.text[range.clone()].trim_ascii().is_empty() {
                continue;
            }
            if range.len() > self.decoder.limits.event_bytes {
                self.refuse_large(range);
            } else if self.is_broken(&range) {
                self.refuse(range, (reason::INVALID_UTF8, String::new()));
            } else if let Err(wrong) = self.text_line(range.clone(), &mut places) {
                self.refuse(range, wrong);
            }
        }
    }

    fn text_line(&mut self, range: Range<usize>, places: &mut regex::CaptureLocations) -> Result<(), Wrong> {
        let Some(cutter) = &self.decoder.cutter else { return Ok(()) };
        let start = range.start;
        let event = cutter.cut(&self.text[range.clone()], start, self.default_type, &self.batch.arena, places)?;
        let policy = &self.decoder.policy;
        if policy.validates() && !self.trusts {
            let group = |(name, number): &(String, usize)| {
                let (from, to) = places.get(*number)?;
                Some((name.clone(), self.text[start + from..start + to].into()))
            };
            let groups = Some(cutter.groups.iter().filter_map(group).collect());
            let payload = Payload { raw: &self.text[range], root: Root::Top, given: None, groups };
            self.inspection.check(policy, self.batch, self.text, &event, payload)?;
        }
        let row = self.batch.fields.len();
        self.batch.fields.resize(row + self.prepared.plan.len(), Field::Missing);
        for (plan_slot, group) in &self.prepared.groups {
            if let Some((from, to)) = places.get(*group) {
                let text = Text::in_buffer((start + from) as u32, (to - from) as u32);
                self.batch.fields[row + usize::from(*plan_slot)] = Field::Text(text);
            }
        }
        self.finish(event, row);
        Ok(())
    }

    /// An event of an older batch again.
    pub fn again(&mut self, range: Range<usize>, line: bool, topic: Option<&str>, id: Option<&'a str>) {
        (self.message_id, self.in_message) = (id.filter(|id| !id.is_empty()), 0);
        if self.decoder.default_type.is_none()
            && let Some(topic) = topic
        {
            self.default_type = self.batch.push_text(topic);
        }
        if !line {
            return self.json_item(range);
        }
        if let Some(mut places) = self.decoder.cutter.as_ref().map(super::line::Cutter::places)
            && let Err(wrong) = self.text_line(range.clone(), &mut places)
        {
            self.refuse(range, wrong);
        }
    }

    /// Fills the fields that are canonical attributes and takes the event in.
    fn finish(&mut self, mut event: Event, row: usize) {
        if let (Some(id), true) = (self.message_id, event.id.is_none()) {
            // The second event of a message and those behind it must not be taken for the first one again.
            event.id = match self.in_message {
                0 => self.batch.push_text(id),
                place => self.batch.push_text(&format!("{id}/{}", place + 1)),
            };
        }
        self.in_message += 1;
        if self.prepared.is_veiled() {
            policy::hash(&self.decoder.policy, self.prepared, self.batch, self.text, &mut event, row);
        }
        for (plan_slot, attribute) in &self.prepared.attributes {
            let some = |text: Text| if text.is_none() { Field::Missing } else { Field::Text(text) };
            let field = match attribute {
                Attribute::Type => some(event.event_type),
                Attribute::Id => some(event.id),
                Attribute::Source if event.source.is_none() => {
                    if self.source.is_none() {
                        let name = self.batch.source.clone();
                        self.source = self.batch.push_text(&name);
                    }
                    some(self.source)
                }
                Attribute::Source => some(event.source),
                Attribute::Subject => some(event.subject),
                Attribute::Correlation => some(event.correlation),
                Attribute::Causation => some(event.causation),
                Attribute::TraceId => some(event.trace_id),
                Attribute::SpanId => some(event.span_id),
                Attribute::Outcome => some(event.outcome),
                Attribute::Severity => some(event.severity),
                Attribute::Priority => self.number(f64::from(event.priority)),
                Attribute::Attempt => self.number(f64::from(event.attempt)),
                Attribute::DurationSeconds if event.duration_seconds.is_nan() => Field::Missing,
                Attribute::DurationSeconds => self.number(event.duration_seconds),
                Attribute::Time => event.time.map_or(Field::Missing, |time| self.number(time.seconds())),
            };
            self.batch.fields[row + usize::from(*plan_slot)] = field;
        }
        self.batch.events.push(event);
        self.item += 1;
    }

    fn number(&mut self, value: f64) -> Field {
        let start = self.batch.arena.len();
        // Writing to a String cannot fail.
        let _ = write!(self.batch.arena, "{value}");
        Field::Number(value, Text::in_arena(start as u32, (self.batch.arena.len() - start) as u32))
    }

    fn is_broken(&self, range: &Range<usize>) -> bool {
        let next = self.broken.partition_point(|broken| broken.end <= range.start);
        self.broken.get(next).is_some_and(|broken| broken.start < range.end)
    }

    fn refuse_large(&mut self, range: Range<usize>) {
        let (size, limit) = (range.len(), self.decoder.limits.event_bytes);
        let message = format!("the event has {size} bytes, the limit is {limit} (limits.event_bytes)");
        self.refuse(range, (reason::TOO_LARGE, message));
    }

    fn refuse_fault(&mut self, range: Range<usize>, fault: Fault) {
        let kind = match fault.what {
            What::End => reason::TRUNCATED,
            What::Deep => reason::TOO_DEEP,
            _ => reason::INVALID_JSON,
        };
        if self.batch.refused.len() >= SENTENCES {
            return self.refuse(range, (kind, String::new()));
        }
        let byte = (fault.at as usize).saturating_sub(range.start) + 1;
        let message = match fault.what {
            What::Deep => format!("more than {} levels deep (limits.event_depth)", self.decoder.limits.depth),
            _ if self.text[range.start..].starts_with('\u{feff}') => {
                "a byte order mark may stand only at the very beginning of the input".into()
            }
            _ if self.byte(fault.at as usize) == 0 && (fault.at as usize) < self.text.len() => {
                format!("invalid JSON at byte {byte}: a NUL byte")
            }
            what => format!("invalid JSON at byte {byte}: {}", what.sentence()),
        };
        self.refuse(range, (kind, message));
    }

    fn refuse(&mut self, range: Range<usize>, (reason, message): Wrong) {
        let (reason, message) = if self.is_broken(&range) {
            (reason::INVALID_UTF8, "the event is not valid UTF-8".to_owned())
        } else {
            (reason, message)
        };
        let message = if self.batch.refused.len() < SENTENCES { message } else { String::new() };
        let raw = self.text.get(range).unwrap_or_default();
        let is_line = self.decoder.cutter.is_some();
        self.inspection.keep(&self.decoder.policy, self.batch, self.item, (reason, &message), raw, is_line);
        self.batch.refused.push(Refusal { item: self.item, reason, message });
        self.item += 1;
    }
}
