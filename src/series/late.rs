//! Samples that come later than others of their series: put between those that are there.

use super::chunk::{Chunk, Codec, OpenChunk};
use super::ring::{CHUNK_SAMPLES, Ring};
use std::sync::Arc;

impl<C: Codec> Ring<C> {
    /// The sample at exactly this time.
    pub fn at(&self, t_ms: i64) -> Option<C::Value> {
        let mut found = None;
        self.view(t_ms, t_ms, false).read((t_ms, t_ms), None, None, |_, value, _| found = Some(value.clone()));
        found
    }

    /// Puts a sample before the last one. None may stand at its time. Only the chunk around it is written anew.
    pub fn insert(&mut self, t_ms: i64, value: &C::Value, start_ms: i64) {
        debug_assert!(t_ms < self.last_ms, "what is newer is pushed");
        let first_fine = self.fine.first().map(|chunk| chunk.first_ms);
        let first_fine = first_fine.or_else(|| self.open.as_ref().map(|open| open.chunk.first_ms));
        let has_coarse = !self.coarse.is_empty() || self.coarse_open.is_some();
        let sample = (t_ms, value, start_ms);
        if has_coarse && first_fine.is_none_or(|first| t_ms < first) {
            insert(&mut self.coarse, &mut self.coarse_open, sample);
        } else {
            insert(&mut self.fine, &mut self.open, sample);
        }
    }
}

fn insert<C: Codec>(
    sealed: &mut Vec<Arc<Chunk<C>>>,
    open: &mut Option<Box<OpenChunk<C>>>,
    (t_ms, value, start_ms): (i64, &C::Value, i64),
) {
    let place = sealed.partition_point(|chunk| chunk.last_ms < t_ms);
    let (chunk, is_open) = match (sealed.get(place), open.take()) {
        (Some(chunk), kept) => {
            *open = kept;
            (Chunk::clone(chunk), false)
        }
        (None, Some(open)) => (open.chunk, true),
        // Behind every sealed chunk of the second tier and before the first: a chunk of its own.
        (None, None) => {
            sealed.push(Arc::new(OpenChunk::<C>::new(t_ms, value, start_ms).seal()));
            return;
        }
    };
    let mut samples = Vec::with_capacity(chunk.count as usize + 1);
    chunk.visit(|t_ms, value| samples.push((t_ms, value.clone(), chunk.start_ms)));
    let at = samples.partition_point(|(known, ..)| *known < t_ms);
    samples.insert(at, (t_ms, value.clone(), start_ms));
    let mut pieces: Vec<OpenChunk<C>> = Vec::new();
    for (t_ms, value, start_ms) in &samples {
        match pieces.last_mut() {
            Some(piece) if piece.chunk.start_ms == *start_ms && piece.chunk.count < CHUNK_SAMPLES => {
                piece.push(*t_ms, value);
            }
            _ => pieces.push(OpenChunk::new(*t_ms, value, *start_ms)),
        }
    }
    if is_open {
        *open = pieces.pop().map(Box::new);
        sealed.extend(pieces.into_iter().map(|piece| Arc::new(piece.seal())));
    } else {
        sealed.splice(place..=place, pieces.into_iter().map(|piece| Arc::new(piece.seal())));
    }
}

#[cfg(test)]
mod tests {
    use super::super::chunk::FloatCodec;
    use super::super::ring::Rings;
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, cases: 200, ..Default::default() })]
        /// In whatever order samples come, and with ageing in between, what is read is what came, in order of time.
        #[test]
        fn the_order_of_arrival_does_not_matter(times in prop::collection::btree_set(1_i64..2_000, 1..400), seed: u64) {
            let mut order: Vec<i64> = times.iter().copied().collect();
            let mut state = seed | 1;
            for at in (1..order.len()).rev() {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                // Mostly in order, as senders are.
                let back = (state >> 33) as usize % 12;
                order.swap(at, at.saturating_sub(back));
            }
            let start = |t: i64| if t % 7 == 0 { 5 } else { 0 };
            let rings = Rings { fine_span_ms: 1_000_000, ..Rings::default() };
            let mut ring = Ring::<FloatCodec>::default();
            for t in &order {
                if *t > ring.last_ms {
                    ring.push(*t, &(*t as f64), start(*t), &rings);
                } else {
                    prop_assert_eq!(ring.at(*t), None);
                    ring.insert(*t, &(*t as f64), start(*t));
                }
                prop_assert_eq!(ring.at(*t), Some(*t as f64));
            }
            let mut read = Vec::new();
            ring.view(0, 10_000, false).read((0, 10_000), None, None, |t, value, start_ms| read.push((t, *value, start_ms)));
            let expected: Vec<_> = times.iter().map(|t| (*t, *t as f64, start(*t))).collect();
            prop_assert_eq!(read, expected);
        }
    }
}
