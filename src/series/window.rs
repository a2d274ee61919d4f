//! HDR histograms of the last minute: quantiles for JSON and the page, merged exactly across series.

use super::SampleValue;
use super::number::bound_text;
use super::registry::{Handle, MetricId};
use super::store::{Body, Store, flag};
use crate::model::{Labels, Timestamp};
use hdrhistogram::Histogram;
use std::collections::BTreeMap;

/// Parts of the window.
const PARTS: usize = 6;

/// Length of one part in milliseconds.
const PART_MS: i64 = 10_000;

/// How a value becomes the whole number that HDR counts: by a fixed range for each unit, at 2 significant digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scale {
    /// Microseconds up to a minute.
    Seconds,
    /// Bytes up to a terabyte.
    Bytes,
    /// Thousandths up to a billion.
    Plain,
}

impl Scale {
    pub fn of_unit(unit: &str) -> Self {
        match unit {
            "seconds" => Self::Seconds,
            "bytes" => Self::Bytes,
            _ => Self::Plain,
        }
    }

    /// (parts of one unit, largest value in parts)
    fn range(self) -> (f64, u64) {
        match self {
            Self::Seconds => (1e6, 60_000_000),
            Self::Bytes => (1.0, 1_000_000_000_000),
            Self::Plain => (1e3, 1_000_000_000_000),
        }
    }

    fn histogram(self) -> Option<Histogram<u32>> {
        Histogram::new_with_bounds(1, self.range().1, 2).ok()
    }
}

/// A rotating window of HDR histograms.
#[derive(Clone, Debug)]
pub(super) struct Window {
    scale: Scale,
    /// The part of now, counted from the epoch.
    current: i64,
    parts: [Option<Box<Histogram<u32>>>; PARTS],
}

impl Window {
    pub fn new(scale: Scale) -> Self {
        Self { scale, current: 0, parts: Default::default() }
    }

    /// Clears the parts that have left the window by `now_ms`.
    pub fn rotate(&mut self, now_ms: i64) {
        let part = now_ms.div_euclid(PART_MS);
        if part <= self.current {
            return;
        }
        let gone = (part - self.current).min(PARTS as i64);
        for old in 0..gone {
            if let Some(histogram) = &mut self.parts[(part - old).rem_euclid(PARTS as i64) as usize] {
                histogram.clear();
            }
        }
        self.current = part;
    }

    /// Gives the memory back when nothing has been counted for the length of the window.
    pub fn release(&mut self, now_ms: i64) {
        if now_ms.div_euclid(PART_MS) - self.current >= PARTS as i64 {
            self.parts = Default::default();
        }
    }

    /// Counts a value that is not negative; beyond the range it counts as the range's end.
    pub fn record(&mut self, value: f64, weight: u64, now_ms: i64) {
        if now_ms.div_euclid(PART_MS) != self.current {
            self.rotate(now_ms);
        }
        let (parts, largest) = self.scale.range();
        let part = &mut self.parts[self.current.rem_euclid(PARTS as i64) as usize];
        if part.is_none() {
            *part = self.scale.histogram().map(Box::new);
        }
        if let Some(histogram) = part {
            let counted = ((value * parts).round() as u64).min(largest);
            histogram.saturating_record_n(counted, u32::try_from(weight).unwrap_or(u32::MAX));
        }
    }

    fn add_to(&self, sum: &mut Histogram<u32>, now_ms: i64) {
        let now = now_ms.div_euclid(PART_MS);
        for back in 0..PARTS as i64 {
            // Parts that time has passed since the last value are still there, but no longer in the window.
            if self.current - back + PARTS as i64 <= now {
                continue;
            }
            if let Some(part) = &self.parts[(self.current - back).rem_euclid(PARTS as i64) as usize] {
                // Both have the range of one unit, so adding cannot fail.
                let _ = sum.add(&**part);
            }
        }
    }

    pub fn size(&self) -> usize {
        self.parts.iter().flatten().map(|part| part.distinct_values() * 4 + 128).sum()
    }
}

/// Quantiles of one group of series over the last minute.
#[derive(Clone, Debug, PartialEq)]
pub struct WindowQuantiles {
    /// The labels grouped by.
    pub labels: Labels,
    /// How many values.
    pub count: u64,
    /// In the order of the quantiles asked for, in the metric's unit.
    pub quantiles: Vec<f64>,
    /// The largest value, within 1 %.
    pub max: f64,
    /// The mean, within 1 %.
    pub mean: f64,
}

impl Store {
    /// Writes quantiles (0 to 1) of one histogram over the last minute as series of the metric's name with the label
    /// `quantile`, as a summary has them; not a number while the minute has no value. False when the handle is stale.
    pub fn record_quantiles(&mut self, handle: Handle, quantiles: &[f64], now: Timestamp) -> bool {
        let Some(hot) = self.hot.get(handle.slot as usize) else { return false };
        if hot.generation != handle.generation || hot.flags & flag::LIVE == 0 {
            return false;
        }
        let Some(entry) = self.entry(handle.slot) else { return false };
        let Body::Histogram(histogram) = &entry.body else { return false };
        let scale = histogram.window.scale;
        let Some(mut sum) = scale.histogram() else { return false };
        histogram.window.add_to(&mut sum, now.millis());
        let labels = entry.labels.clone();
        for quantile in quantiles {
            let value =
                if sum.is_empty() { f64::NAN } else { sum.value_at_quantile(*quantile) as f64 / scale.range().0 };
            let labels = labels.with("quantile", &bound_text(*quantile));
            // A refused sample is counted by the store, by reason.
            let _ = self.append(&labels, now.millis(), SampleValue::Float(value), 0);
        }
        true
    }

    /// Quantiles (0 to 1) of a histogram over the last minute, of the series that carry all labels in `filter`, merged
    /// exactly into one group for each combination of the labels in `by`; groups without values are left out.
    pub fn window_quantiles(
        &self,
        metric: MetricId,
        by: &[&str],
        filter: &[(&str, &str)],
        quantiles: &[f64],
        now: Timestamp,
    ) -> Vec<WindowQuantiles> {
        let Some(held) = self.metrics.get(metric.0 as usize) else { return Vec::new() };
        let scale = Scale::of_unit(&held.unit);
        let mut groups: BTreeMap<Labels, Histogram<u32>> = BTreeMap::new();
        for slot in &held.sorted {
            let Some(entry) = self.entry(*slot).filter(|_| self.hot[*slot as usize].flags & flag::LIVE != 0) else {
                continue;
            };
            let Body::Histogram(histogram) = &entry.body else { continue };
            if histogram.window.scale != scale
                || filter.iter().any(|(name, value)| entry.labels.get(name).unwrap_or("") != *value)
            {
                continue;
            }
            let group = entry.labels.filtered(|name| by.contains(&name));
            if !groups.contains_key(&group) {
                let Some(empty) = scale.histogram() else { continue };
                groups.insert(group.clone(), empty);
            }
            if let Some(sum) = groups.get_mut(&group) {
                histogram.window.add_to(sum, now.millis());
            }
        }
        let unit = scale.range().0;
        groups
            .into_iter()
            .filter(|(_, sum)| !sum.is_empty())
            .map(|(labels, sum)| WindowQuantiles {
                labels,
                count: sum.len(),
                quantiles: quantiles.iter().map(|quantile| sum.value_at_quantile(*quantile) as f64 / unit).collect(),
                max: sum.max() as f64 / unit,
                mean: sum.mean() / unit,
            })
            .collect()
    }
}
