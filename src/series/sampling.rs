//! What time does to series: samples at the ticks, ageing, expiry, the byte budget.

use super::buckets::HistogramState;
use super::registry::Handle;
use super::ring::Rings;
use super::store::{Body, Entry, Store, flag};
use super::{FloatHistogram, STALE_NAN_BITS};
use crate::model::Timestamp;
use std::sync::Arc;

/// Series that one tick looks through for age and expiry, at least; all are looked through within 15 ticks.
const SWEEP_SERIES: usize = 1_024;

/// Ticks in which every series is swept once.
const SWEEP_TICKS: usize = 15;

pub(super) fn stale_float() -> f64 {
    f64::from_bits(STALE_NAN_BITS)
}

pub(super) fn stale_histogram() -> Arc<FloatHistogram> {
    Arc::new(FloatHistogram { sum: stale_float(), ..FloatHistogram::default() })
}

impl Store {
    /// Records one sample of each changed series at the last full second (the step of the first tier), ends idle series,
    /// thins and gives up old samples. Call it about once a second; more often does nothing more.
    pub fn tick(&mut self, now: Timestamp) {
        let step = self.options.rings.fine_step_ms.max(1);
        let t_ms = now.millis().div_euclid(step) * step;
        if self.ticks.last().is_some_and(|last| t_ms <= last) {
            return;
        }
        let mut later = Vec::new();
        for slot in std::mem::take(&mut self.dirty) {
            if self.hot[slot as usize].flags & flag::TICK == 0 {
                continue;
            }
            if self.record(slot, t_ms) {
                self.hot[slot as usize].flags &= !flag::TICK;
            } else {
                later.push(slot);
            }
        }
        self.dirty = later;
        let rings = self.options.rings;
        self.ticks.push(t_ms, &rings);
        self.sweep(t_ms);
        if self.bytes > self.options.limits.series_bytes {
            self.keep_budget();
        }
    }

    /// Writes the value of a changed series; false when its last sample is not older.
    fn record(&mut self, slot: u32, t_ms: i64) -> bool {
        let (hot, rings) = (self.hot[slot as usize], self.options.rings);
        let Some(entry) = self.entry_mut(slot) else { return true };
        if hot.flags & flag::LIVE == 0 {
            return true;
        }
        if entry.last_ms() >= t_ms {
            return false;
        }
        let start_ms = entry.created_ms;
        match &mut entry.body {
            Body::Float(ring) if hot.flags & flag::VALUED != 0 => ring.push(t_ms, &hot.value, start_ms, &rings),
            Body::Histogram(histogram) => histogram.ring.push(t_ms, &histogram.state, start_ms, &rings),
            Body::Float(_) | Body::Received(_) => return true,
        }
        self.mark_unsaved(slot);
        true
    }

    /// Ends a series now: its last value is recorded, then the marker of staleness; its handles go stale.
    /// False when the handle is stale already.
    pub fn remove(&mut self, handle: Handle, now: Timestamp) -> bool {
        let live = self
            .hot
            .get(handle.slot as usize)
            .is_some_and(|hot| hot.generation == handle.generation && hot.flags & flag::LIVE != 0);
        if live {
            self.end(handle.slot, now.millis());
        }
        live
    }

    fn end(&mut self, slot: u32, now_ms: i64) {
        if self.hot[slot as usize].flags & flag::TICK != 0 {
            let last_ms = self.entry(slot).map_or(i64::MIN, Entry::last_ms);
            self.record(slot, now_ms.max(last_ms.saturating_add(1)));
        }
        self.detach(slot);
        let hot = &mut self.hot[slot as usize];
        hot.flags &= !(flag::LIVE | flag::VALUED);
        hot.generation = hot.generation.wrapping_add(1);
        let rings = self.options.rings;
        let Some(entry) = self.entry_mut(slot) else { return };
        let stale_ms = now_ms.max(entry.last_ms().saturating_add(1));
        let (metric, start_ms) = (entry.metric, entry.created_ms);
        match &mut entry.body {
            // A gauge that was never set has no samples, and needs no end.
            Body::Float(ring) if ring.last_ms == i64::MIN => {}
            Body::Float(ring) => ring.push(stale_ms, &stale_float(), start_ms, &rings),
            Body::Histogram(histogram) => {
                histogram.ring.push(stale_ms, &HistogramState::stale(), start_ms, &rings);
                histogram.window.release(i64::MAX);
            }
            Body::Received(_) => {}
        }
        self.mark_unsaved(slot);
        self.note_changed(metric);
    }

    fn sweep(&mut self, now_ms: i64) {
        let count = self.entries.len();
        let share = count.div_ceil(SWEEP_TICKS).max(SWEEP_SERIES).min(count);
        let mut empty = Vec::new();
        for _ in 0..share {
            self.sweep_at = if self.sweep_at + 1 >= count { 0 } else { self.sweep_at + 1 };
            if self.sweep_one(self.sweep_at as u32, now_ms) {
                empty.push(self.sweep_at as u32);
            }
        }
        empty.sort_unstable();
        self.purge(&empty);
    }

    /// Ages one series; true when nothing of it is left.
    fn sweep_one(&mut self, slot: u32, now_ms: i64) -> bool {
        let hot = self.hot[slot as usize];
        let idle_ms = now_ms - Timestamp::from_micros(hot.updated_us).millis();
        if hot.flags & flag::LIVE != 0 && idle_ms >= self.options.limits.idle_series_ms {
            self.counts.expired += 1;
            self.end(slot, now_ms);
        }
        let live = self.hot[slot as usize].flags & flag::LIVE != 0;
        let rings = self.options.rings;
        let Some(entry) = self.entry_mut(slot) else { return false };
        age(entry, now_ms, &rings);
        let before = entry.bytes;
        entry.bytes = entry.size();
        let (empty, after) = (entry.is_empty(), entry.bytes);
        self.bytes = (self.bytes + after).saturating_sub(before);
        empty && !live
    }

    /// Drops the oldest sealed chunks of all series until nine tenths of the budget are used.
    fn keep_budget(&mut self) {
        let goal = self.options.limits.series_bytes / 10 * 9;
        let mut sealed: Vec<(i64, usize)> = Vec::new();
        for (_, entry) in self.each_entry() {
            match &entry.body {
                Body::Float(ring) => sealed.extend(ring.sealed()),
                Body::Histogram(histogram) => sealed.extend(histogram.ring.sealed()),
                Body::Received(rings) => sealed.extend(rings.floats.sealed().chain(rings.histograms.sealed())),
            }
        }
        sealed.sort_unstable();
        let (mut left, mut until_ms) = (self.bytes, i64::MIN);
        for (last_ms, bytes) in sealed {
            if left <= goal {
                break;
            }
            left = left.saturating_sub(bytes);
            until_ms = last_ms;
        }
        if until_ms == i64::MIN {
            return;
        }
        let mut total = 0;
        for entry in self.entries.iter_mut().flatten() {
            let dropped = match &mut entry.body {
                Body::Float(ring) => ring.drop_until(until_ms, true),
                Body::Histogram(histogram) => histogram.ring.drop_until(until_ms, true),
                Body::Received(rings) => {
                    rings.floats.drop_until(until_ms, false) + rings.histograms.drop_until(until_ms, false)
                }
            };
            self.counts.dropped_chunks += dropped as u64;
            entry.bytes = entry.size();
            total += entry.bytes;
        }
        self.bytes = total;
    }
}

pub(super) fn age(entry: &mut Entry, now_ms: i64, rings: &Rings) {
    match &mut entry.body {
        Body::Float(ring) => ring.age(now_ms, rings, true),
        Body::Histogram(histogram) => {
            histogram.ring.age(now_ms, rings, true);
            histogram.window.release(now_ms);
        }
        Body::Received(received) => {
            received.floats.age(now_ms, rings, false);
            received.histograms.age(now_ms, rings, false);
        }
    }
}
