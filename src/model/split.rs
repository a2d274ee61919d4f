//! Taking some events of a batch out into a batch of their own.

use super::{Event, EventBatch, Field, Text};

impl EventBatch {
    /// Takes the events that `wanted` names into a batch of their own, which holds their documents and nothing else of
    /// the buffer. What was refused and the position stay here.
    #[must_use]
    pub fn split_off(&mut self, wanted: impl Fn(&Event) -> bool) -> Self {
        let mut taken = Self::new(self.source.clone(), self.plan.clone(), self.arrived, String::new());
        let width = self.plan.len();
        for (row, event) in self.events.iter().enumerate().filter(|(_, event)| wanted(event)) {
            Mover { from: self, to: &mut taken, moved: None }.event(row, event);
        }
        let mut rows = self.events.iter().flat_map(|event| std::iter::repeat_n(!wanted(event), width));
        self.fields.retain(|_| rows.next().unwrap_or(true));
        self.events.retain(|event| !wanted(event));
        taken
    }
}

/// Moves one event's texts: what stands in its document stays at its place in it, the rest goes to the arena.
struct Mover<'a> {
    from: &'a EventBatch,
    to: &'a mut EventBatch,
    /// The document's old and new place in the buffers.
    moved: Option<(std::ops::Range<usize>, usize)>,
}

impl Mover<'_> {
    fn event(&mut self, row: usize, event: &Event) {
        let mut event = *event;
        if let Some(range) = event.raw.buffer_range() {
            let start = self.to.buffer.len();
            self.to.buffer.push_str(self.from.text(event.raw));
            // One document a line, as the buffers of every transport have them.
            self.to.buffer.push('\n');
            self.moved = Some((range, start));
        }
        for text in [
            &mut event.event_type,
            &mut event.id,
            &mut event.source,
            &mut event.subject,
            &mut event.correlation,
            &mut event.causation,
            &mut event.trace_id,
            &mut event.span_id,
            &mut event.outcome,
            &mut event.severity,
            &mut event.raw,
        ] {
            *text = self.text(*text);
        }
        for field in self.from.row(row) {
            let field = self.field(*field);
            self.to.fields.push(field);
        }
        self.to.events.push(event);
    }

    fn text(&mut self, text: Text) -> Text {
        if text.is_none() {
            return text;
        }
        let inside = |(document, start): &(std::ops::Range<usize>, usize), range: std::ops::Range<usize>| {
            (document.start <= range.start && range.end <= document.end)
                .then(|| Text::in_buffer((start + range.start - document.start) as u32, range.len() as u32))
        };
        let place = text.buffer_range().zip(self.moved.as_ref()).and_then(|(range, moved)| inside(moved, range));
        place.unwrap_or_else(|| self.to.push_text(self.from.text(text)))
    }

    fn field(&mut self, field: Field) -> Field {
        match field {
            Field::Missing | Field::Null | Field::Bool(_) => field,
            Field::Number(value, text) => Field::Number(value, self.text(text)),
            Field::Text(text) => Field::Text(self.text(text)),
            Field::Json(text) => Field::Json(self.text(text)),
            Field::List { start, len } => {
                let elements: Vec<Field> =
                    self.from.list(start, len).iter().map(|element| self.field(*element)).collect();
                let start = self.to.lists.len() as u32;
                self.to.lists.extend(elements);
                Field::List { start, len }
            }
        }
    }
}
