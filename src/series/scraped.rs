//! Scraped samples: series are named by the numbers that the scraper gives them, so that a steady scrape looks nothing up.

use super::append::SampleValue;
use super::catalog::MetricType;
use super::histogram::{CUSTOM_BUCKETS_SCHEMA, FloatHistogram, ResetHint, Span};
use super::stats::Refusal;
use super::store::Store;
use crate::model::Labels;
use crate::source::scrape::{NativeHistogram, ScrapeBatch};
use std::collections::BTreeSet;
use std::sync::Arc;

/// The series of one target by their numbers.
#[derive(Clone, Debug, Default)]
pub struct ScrapedSeries {
    session: u64,
    rows: Vec<Row>,
}

#[derive(Clone, Debug, Default)]
struct Row {
    slot: u32,
    generation: u32,
    /// Whether `slot` and `generation` were ever found.
    found: bool,
    start_ms: i64,
    labels: Labels,
}

impl Store {
    /// Stores one scrape of a target. Every refused sample is counted by its reason.
    pub fn apply_scrape(&mut self, series: &mut ScrapedSeries, batch: &ScrapeBatch) {
        // The numbers of an earlier session mean nothing any more; what it wrote and this one does not, has ended.
        let before = (series.session != batch.session).then(|| std::mem::take(&mut series.rows));
        series.session = batch.session;
        for told in &batch.metadata {
            let kind = MetricType::parse(told.kind).unwrap_or_default();
            self.describe(&told.name, kind, &told.help, &told.unit);
        }
        for (id, labels) in &batch.fresh {
            let at = *id as usize;
            if series.rows.len() <= at {
                series.rows.resize(at + 1, Row::default());
            }
            series.rows[at] = Row { labels: labels.clone(), ..Row::default() };
        }
        for (id, start_ms) in &batch.starts {
            if let Some(row) = series.rows.get_mut(*id as usize) {
                row.start_ms = *start_ms;
            }
        }
        for (id, value) in &batch.floats {
            self.scraped(series, *id, batch.at_ms, &SampleValue::Float(*value));
        }
        for (id, t_ms, value) in &batch.timed {
            self.scraped(series, *id, *t_ms, &SampleValue::Float(*value));
        }
        for (id, t_ms, histogram) in &batch.histograms {
            self.scraped(series, *id, *t_ms, &SampleValue::Histogram(Arc::new(native(histogram))));
        }
        for id in &batch.stale {
            if let Some(row) = series.rows.get(*id as usize) {
                self.end_scraped(row, batch.at_ms);
            }
        }
        if let Some(before) = before {
            let found = |row: &Row| row.found.then_some((row.slot, row.generation));
            let now: BTreeSet<(u32, u32)> = series.rows.iter().filter_map(found).collect();
            for row in before.iter().filter(|row| found(row).is_some_and(|known| !now.contains(&known))) {
                self.end_scraped(row, batch.at_ms);
            }
        }
    }

    /// Ends all series of a target that is scraped no more.
    pub fn end_scrape(&mut self, series: &ScrapedSeries, now_ms: i64) {
        for row in &series.rows {
            self.end_scraped(row, now_ms);
        }
    }

    fn scraped(&mut self, series: &mut ScrapedSeries, id: u32, t_ms: i64, value: &SampleValue) {
        // A number without labels was never told: only a scraper with a bug sends one, and it is counted as such.
        let Some(row) = series.rows.get_mut(id as usize).filter(|row| !row.labels.is_empty()) else {
            return self.counts.refuse(Refusal::SelfCounted);
        };
        let known = row.found && self.hot.get(row.slot as usize).is_some_and(|hot| hot.generation == row.generation);
        let outcome = if known {
            self.append_slot(row.slot, t_ms, value, row.start_ms)
        } else {
            self.received_slot(&row.labels).and_then(|slot| {
                (row.slot, row.generation, row.found) = (slot, self.hot[slot as usize].generation, true);
                // The store's own copy shares its texts with other series.
                if let Some(entry) = self.entry(slot) {
                    row.labels = entry.labels.clone();
                }
                self.append_slot(slot, t_ms, value, row.start_ms)
            })
        };
        if let Err(refusal) = outcome {
            self.counts.refuse(refusal);
        }
    }

    fn end_scraped(&mut self, row: &Row, t_ms: i64) {
        let known = row.found && self.hot.get(row.slot as usize).is_some_and(|hot| hot.generation == row.generation);
        if known {
            // Refused only when a sample of the same moment stands there, which another name of the same series wrote.
            let _ = self.mark_stale(&row.labels, t_ms);
        }
    }
}

fn spans(spans: &[(i32, u32)]) -> Vec<Span> {
    spans.iter().map(|(offset, length)| Span { offset: *offset, length: *length }).collect()
}

pub(super) fn native(scraped: &NativeHistogram) -> FloatHistogram {
    debug_assert!(scraped.schema == CUSTOM_BUCKETS_SCHEMA || (-4..=8).contains(&scraped.schema), "checked when read");
    FloatHistogram {
        reset_hint: if scraped.gauge { ResetHint::Gauge } else { ResetHint::Unknown },
        schema: scraped.schema,
        zero_threshold: scraped.zero_threshold,
        zero_count: scraped.zero_count,
        count: scraped.count,
        sum: scraped.sum,
        positive_spans: spans(&scraped.positive_spans),
        negative_spans: spans(&scraped.negative_spans),
        positive_buckets: scraped.positive.clone(),
        negative_buckets: scraped.negative.clone(),
        custom_values: scraped.custom_bounds.clone(),
    }
    .compacted()
}
