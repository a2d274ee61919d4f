//! The samples of one series in two tiers: recent ones at full resolution, older ones thinned.
//!
//! A series that sidewatch counts itself has one sample at each tick while it lives; the ring holds only those at which
//! the value changed, and reading fills in the ticks between from [`Ticks`]. So a thousand idle series cost nothing a
//! second. Received samples are all held, with their own times.

use super::chunk::{Chunk, Codec, OpenChunk};
use std::collections::VecDeque;
use std::sync::Arc;

/// Samples of a chunk before the next is begun.
pub(super) const CHUNK_SAMPLES: u32 = 120;

/// The two tiers, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rings {
    /// Distance of the samples in the first tier, which is also that of the ticks (1 s).
    pub fine_step_ms: i64,
    /// How far back the first tier reaches (10 min).
    pub fine_span_ms: i64,
    /// Distance of the samples in the second tier (15 s).
    pub coarse_step_ms: i64,
    /// How far back the second tier reaches (1 h).
    pub coarse_span_ms: i64,
}

impl Default for Rings {
    fn default() -> Self {
        Self { fine_step_ms: 1_000, fine_span_ms: 600_000, coarse_step_ms: 15_000, coarse_span_ms: 3_600_000 }
    }
}

/// The moments at which the store has ticked, as runs (first, last) one step apart; a pause of the process is a gap.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Ticks {
    pub runs: VecDeque<(i64, i64)>,
}

impl Ticks {
    pub fn last(&self) -> Option<i64> {
        self.runs.back().map(|(_, last)| *last)
    }

    pub fn push(&mut self, t_ms: i64, rings: &Rings) {
        match self.runs.back_mut() {
            Some((_, last)) if *last + rings.fine_step_ms == t_ms => *last = t_ms,
            _ => self.runs.push_back((t_ms, t_ms)),
        }
        let oldest = t_ms - rings.coarse_span_ms - rings.coarse_step_ms;
        while self.runs.front().is_some_and(|(_, last)| *last < oldest) {
            self.runs.pop_front();
        }
        if let Some(front) = self.runs.front_mut() {
            front.0 = front.0.max(oldest.div_euclid(rings.fine_step_ms) * rings.fine_step_ms);
        }
    }

    /// The ticks from `from` to `to`, both included: each in the first tier, those of the second step before it.
    fn visit(&self, from: i64, to: i64, rings: &Rings, mut each: impl FnMut(i64)) {
        let cutoff = self.last().unwrap_or(0) - rings.fine_span_ms;
        let first_run = self.runs.partition_point(|(_, last)| *last < from);
        for (first, last) in self.runs.range(first_run..) {
            let (mut t_ms, end) = ((*first).max(from), (*last).min(to));
            if *first > to {
                return;
            }
            let step = rings.fine_step_ms;
            t_ms = first + (t_ms - first + step - 1).div_euclid(step) * step;
            while t_ms <= end {
                if t_ms >= cutoff || t_ms.rem_euclid(rings.coarse_step_ms) == 0 {
                    each(t_ms);
                }
                t_ms += step;
            }
        }
    }
}

/// The samples of one series.
#[derive(Clone, Debug)]
pub(super) struct Ring<C> {
    /// The last sample that was given up, as a chunk of one: the value that holds until the first sample that is kept.
    pub base: Option<Arc<Chunk<C>>>,
    pub coarse: Vec<Arc<Chunk<C>>>,
    pub coarse_open: Option<Box<OpenChunk<C>>>,
    pub fine: Vec<Arc<Chunk<C>>>,
    pub open: Option<Box<OpenChunk<C>>>,
    /// Time of the last sample; `i64::MIN` before the first.
    pub last_ms: i64,
    /// Whether the last sample is a staleness marker.
    pub ended: bool,
}

impl<C> Default for Ring<C> {
    fn default() -> Self {
        Self {
            base: None,
            coarse: Vec::new(),
            coarse_open: None,
            fine: Vec::new(),
            open: None,
            last_ms: i64::MIN,
            ended: false,
        }
    }
}

fn push_open<C: Codec>(
    sealed: &mut Vec<Arc<Chunk<C>>>,
    open: &mut Option<Box<OpenChunk<C>>>,
    (t_ms, value, start_ms): (i64, &C::Value, i64),
) {
    match open {
        Some(chunk) if chunk.chunk.count < CHUNK_SAMPLES && chunk.chunk.start_ms == start_ms => chunk.push(t_ms, value),
        _ => {
            if let Some(full) = open.replace(Box::new(OpenChunk::new(t_ms, value, start_ms))) {
                sealed.push(Arc::new(full.seal()));
            }
        }
    }
}

impl<C: Codec> Ring<C> {
    /// Appends a sample later than all others. A chunk is not continued across more than `fine_span_ms`: ageing may have
    /// sealed it by then or not, and a restored ring must decide as this one does.
    pub fn push(&mut self, t_ms: i64, value: &C::Value, start_ms: i64, rings: &Rings) {
        debug_assert!(t_ms > self.last_ms, "samples are in order");
        if self.open.as_ref().is_some_and(|open| open.chunk.last_ms < t_ms.saturating_sub(rings.fine_span_ms))
            && let Some(open) = self.open.take()
        {
            self.fine.push(Arc::new(open.seal()));
        }
        push_open(&mut self.fine, &mut self.open, (t_ms, value, start_ms));
        self.last_ms = t_ms;
        self.ended = C::is_stale(value);
    }

    /// Moves what has left the first tier into the second, thinned, and gives up what has left the second.
    /// `keep_base`: the last sample given up still holds (series that are filled in).
    pub fn age(&mut self, now_ms: i64, rings: &Rings, keep_base: bool) {
        let fine_from = now_ms - rings.fine_span_ms;
        if self.open.as_ref().is_some_and(|open| open.chunk.last_ms < fine_from)
            && let Some(open) = self.open.take()
        {
            self.fine.push(Arc::new(open.seal()));
        }
        let old = self.fine.iter().take_while(|chunk| chunk.last_ms < fine_from).count();
        for chunk in self.fine.drain(..old) {
            thin(
                &chunk,
                rings.coarse_step_ms,
                self.coarse.is_empty() && self.coarse_open.is_none() && self.base.is_none(),
                |t_ms, value| {
                    push_open(&mut self.coarse, &mut self.coarse_open, (t_ms, value, chunk.start_ms));
                },
            );
        }
        let coarse_from = now_ms - rings.coarse_span_ms;
        if self.coarse_open.as_ref().is_some_and(|open| open.chunk.last_ms < coarse_from)
            && let Some(open) = self.coarse_open.take()
        {
            self.coarse.push(Arc::new(open.seal()));
        }
        let old = self.coarse.iter().take_while(|chunk| chunk.last_ms < coarse_from).count();
        self.give_up(old, 0, keep_base);
    }

    /// Drops sealed chunks that end at or before `until_ms`; returns how many.
    pub fn drop_until(&mut self, until_ms: i64, keep_base: bool) -> usize {
        let coarse = self.coarse.iter().take_while(|chunk| chunk.last_ms <= until_ms).count();
        let coarse_done = coarse == self.coarse.len() && self.coarse_open.is_none();
        let fine = if coarse_done { self.fine.iter().take_while(|chunk| chunk.last_ms <= until_ms).count() } else { 0 };
        self.give_up(coarse, fine, keep_base);
        coarse + fine
    }

    fn give_up(&mut self, coarse: usize, fine: usize, keep_base: bool) {
        let last = self.coarse.drain(..coarse).chain(self.fine.drain(..fine)).last();
        if let Some(chunk) = last
            && keep_base
        {
            self.base = chunk
                .last()
                .filter(|(_, value)| !C::is_stale(value))
                .map(|(t_ms, value)| Arc::new(OpenChunk::<C>::new(t_ms, &value, chunk.start_ms).seal()));
        }
    }

    /// Every sealed chunk as (time of its last sample, bytes).
    pub fn sealed(&self) -> impl Iterator<Item = (i64, usize)> {
        self.coarse.iter().chain(&self.fine).map(|chunk| (chunk.last_ms, chunk.size()))
    }

    /// Whether there is nothing to read.
    pub fn is_empty(&self) -> bool {
        self.coarse.is_empty() && self.fine.is_empty() && self.open.is_none() && self.coarse_open.is_none()
    }

    /// Bytes that it takes in memory.
    pub fn size(&self) -> usize {
        let open = self.open.iter().chain(&self.coarse_open);
        self.sealed().map(|(_, bytes)| bytes).sum::<usize>()
            + open.map(|open| open.chunk.size() + size_of::<C>()).sum::<usize>()
            + self.base.as_ref().map_or(0, |base| base.size())
    }

    /// Time of the first sample that is kept.
    pub fn first_ms(&self) -> Option<i64> {
        let first = |chunks: &[Arc<Chunk<C>>]| chunks.first().map(|chunk| chunk.first_ms);
        let open = |open: &Option<Box<OpenChunk<C>>>| open.as_ref().map(|open| open.chunk.first_ms);
        self.base
            .as_ref()
            .map(|base| base.first_ms)
            .or_else(|| first(&self.coarse))
            .or_else(|| open(&self.coarse_open))
            .or_else(|| first(&self.fine))
            .or_else(|| open(&self.open))
    }

    /// How many chunks.
    pub fn chunks(&self) -> usize {
        self.coarse.len() + self.fine.len() + usize::from(self.open.is_some()) + usize::from(self.coarse_open.is_some())
    }

    /// What reading needs from `from_ms` to `to_ms`: sealed chunks shared, open ones copied. With `filled` the chunk before
    /// the range is taken too, because its last value holds into it.
    pub fn view(&self, from_ms: i64, to_ms: i64, filled: bool) -> RingView<C> {
        let mut view = RingView { base: None, chunks: Vec::new() };
        // From the newest backwards: most reads want the end of a long ring, and a look at a chunk is a cache miss.
        let first_of = |chunks: &[Arc<Chunk<C>>]| {
            chunks.iter().rposition(|chunk| chunk.last_ms < from_ms).map_or(0, |before| before + 1)
        };
        let fits = |chunk: &Chunk<C>| chunk.last_ms >= from_ms && chunk.first_ms <= to_ms;
        let open_if = |open: &Option<Box<OpenChunk<C>>>, wanted: bool| {
            open.as_ref().filter(|open| fits(&open.chunk) == wanted).map(|open| Arc::new(open.chunk.clone()))
        };
        let ended = |open: &Option<Box<OpenChunk<C>>>| {
            let over = open.as_ref().is_some_and(|open| open.chunk.last_ms < from_ms);
            if filled && over { open_if(open, false) } else { None }
        };
        let fine_from = first_of(&self.fine);
        let mut before = ended(&self.open).or_else(|| self.fine.get(fine_from.wrapping_sub(1)).cloned());
        if fine_from == 0 {
            let coarse_from = first_of(&self.coarse);
            view.chunks.extend(self.coarse[coarse_from..].iter().filter(|chunk| fits(chunk)).cloned());
            view.chunks.extend(open_if(&self.coarse_open, true));
            before = before
                .or_else(|| ended(&self.coarse_open))
                .or_else(|| self.coarse.get(coarse_from.wrapping_sub(1)).cloned())
                .or_else(|| self.base.clone());
        }
        view.chunks.extend(self.fine[fine_from..].iter().filter(|chunk| fits(chunk)).cloned());
        view.chunks.extend(open_if(&self.open, true));
        view.base = before.filter(|_| filled);
        view
    }
}

/// Keeps the last sample of each step, and what a thinner series would lie without: the first sample, and both sides of an end.
fn thin<C: Codec>(chunk: &Chunk<C>, step_ms: i64, first_of_series: bool, mut keep: impl FnMut(i64, &C::Value)) {
    let slot = |t_ms: i64| (t_ms - 1).div_euclid(step_ms);
    let mut held: Option<(i64, C::Value)> = None;
    let mut fresh = first_of_series;
    chunk.visit(|t_ms, value| {
        let ends = C::is_stale(value);
        if let Some((held_ms, held_value)) = held.take()
            && (ends || slot(held_ms) != slot(t_ms))
        {
            keep(held_ms, &held_value);
        }
        if ends || fresh {
            keep(t_ms, value);
        } else {
            held = Some((t_ms, value.clone()));
        }
        fresh = ends;
    });
    if let Some((t_ms, value)) = held {
        keep(t_ms, &value);
    }
}

/// The chunks of one series that a query reads; owned, shared between threads.
#[derive(Clone, Debug)]
pub(super) struct RingView<C> {
    pub base: Option<Arc<Chunk<C>>>,
    pub chunks: Vec<Arc<Chunk<C>>>,
}

impl<C: Codec> RingView<C> {
    /// Visits the samples from `from_ms` to `to_ms` in order: (time, value, start timestamp).
    /// With `ticks` the last value is repeated at each tick until the next sample or the last tick.
    pub fn read(
        &self,
        (from_ms, to_ms): (i64, i64),
        ticks: Option<(&Ticks, &Rings)>,
        head: Option<(i64, &C::Value, i64)>,
        mut each: impl FnMut(i64, &C::Value, i64),
    ) {
        let mut before: Option<(i64, C::Value, i64)> = None;
        let fill = |before: &Option<(i64, C::Value, i64)>, until: i64, each: &mut dyn FnMut(i64, &C::Value, i64)| {
            if let (Some((t_ms, value, start_ms)), Some((ticks, rings))) = (before, ticks)
                && !C::is_stale(value)
            {
                let from = from_ms.max(t_ms.saturating_add(1));
                ticks.visit(from, to_ms.min(until), rings, |t_ms| each(t_ms, value, *start_ms));
            }
        };
        if let Some(base) = &self.base {
            before = base.last().map(|(t_ms, value)| (t_ms, value, base.start_ms));
        }
        let mut sample = |t_ms: i64, value: &C::Value, start_ms: i64, each: &mut dyn FnMut(i64, &C::Value, i64)| {
            if t_ms > to_ms && before.as_ref().is_some_and(|(before, ..)| *before > to_ms) {
                return;
            }
            fill(&before, t_ms.saturating_sub(1), each);
            if (from_ms..=to_ms).contains(&t_ms) {
                each(t_ms, value, start_ms);
            }
            if ticks.is_some() {
                before = Some((t_ms, value.clone(), start_ms));
            }
        };
        for chunk in &self.chunks {
            chunk.visit(|t_ms, value| sample(t_ms, value, chunk.start_ms, &mut each));
        }
        if let Some((t_ms, value, start_ms)) = head {
            sample(t_ms, value, start_ms, &mut each);
        }
        fill(&before, i64::MAX, &mut each);
    }
}

#[cfg(test)]
mod tests {
    use super::super::STALE_NAN_BITS;
    use super::super::chunk::FloatCodec;
    use super::*;

    fn read(ring: &Ring<FloatCodec>, ticks: &Ticks, from: i64, to: i64) -> Vec<(i64, f64)> {
        let mut out = Vec::new();
        ring.view(from, to, true).read((from, to), Some((ticks, &Rings::default())), None, |t, v, _| out.push((t, *v)));
        out
    }

    #[test]
    fn unchanged_values_are_filled_in_at_the_ticks() {
        let (mut ring, mut ticks, rings) = (Ring::<FloatCodec>::default(), Ticks::default(), Rings::default());
        for second in 1..=20 {
            ticks.push(second * 1_000, &rings);
        }
        ring.push(1_000, &0.0, 1_000, &rings);
        ring.push(3_000, &2.0, 1_000, &rings);
        assert_eq!(
            read(&ring, &ticks, 0, 5_000),
            [(1_000, 0.0), (2_000, 0.0), (3_000, 2.0), (4_000, 2.0), (5_000, 2.0)]
        );
        assert_eq!(read(&ring, &ticks, 4_500, 6_000), [(5_000, 2.0), (6_000, 2.0)]);
        ring.push(7_000, &f64::from_bits(STALE_NAN_BITS), 1_000, &rings);
        assert_eq!(read(&ring, &ticks, 6_000, 20_000).len(), 2);
        assert_eq!(read(&ring, &ticks, 8_000, 20_000).len(), 0);
    }

    #[test]
    fn old_samples_are_thinned_and_then_given_up() {
        let (mut ring, mut ticks, rings) = (Ring::<FloatCodec>::default(), Ticks::default(), Rings::default());
        for second in 1..=6_000 {
            ticks.push(second * 1_000, &rings);
            ring.push(second * 1_000, &(second as f64), 0, &rings);
            ring.age(second * 1_000, &rings, true);
        }
        let fine = read(&ring, &ticks, 5_400_000, 6_000_000);
        assert_eq!(fine.len(), 601);
        let coarse = read(&ring, &ticks, 3_000_000, 5_000_000);
        assert!((130..160).contains(&coarse.len()), "{}", coarse.len());
        assert!(coarse.iter().all(|(t, v)| *t == (*v as i64) * 1_000));
        assert_eq!(coarse.iter().filter(|(t, _)| t % 15_000 == 0).count(), 134);
        assert!(read(&ring, &ticks, 0, 1_000_000).is_empty());
        assert!(ring.size() < 40_000, "{}", ring.size());
    }
}
