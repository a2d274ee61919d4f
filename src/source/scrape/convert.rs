//! Classic histograms of text expositions as native ones with custom bounds (`convert_classic_histograms_to_nhcb`): the
//! series of one histogram are gathered and stored as one.

use super::cache::{Reason, Sampled, SeriesCache};
use super::protobuf::custom;
use super::relabel::LabelBuilder;
use crate::model::METRIC_NAME;
use std::collections::BTreeMap;

/// Labels without `le`, with the histogram's name.
type Identity = Vec<(String, String)>;

#[derive(Default)]
struct Gathered {
    buckets: Vec<(f64, f64)>,
    count: Option<f64>,
    sum: f64,
    t_ms: Option<i64>,
}

/// The histograms of one exposition.
#[derive(Default)]
pub(super) struct Converter {
    histograms: BTreeMap<Identity, Gathered>,
}

impl Converter {
    /// Takes a sample that is part of a histogram; `false` when it is something else.
    pub fn take(
        &mut self,
        mut labels: LabelBuilder,
        value: f64,
        t_ms: Option<i64>,
        known: &SeriesCache,
    ) -> Result<bool, Reason> {
        let name = labels.get(METRIC_NAME).to_owned();
        let part = ["_bucket", "_count", "_sum"].iter().find_map(|suffix| Some((*suffix, name.strip_suffix(suffix)?)));
        let Some((suffix, base)) = part else { return Ok(false) };
        if known.described(base).is_none_or(|family| family.kind != "histogram") {
            return Ok(false);
        }
        let bound = labels.get("le").parse::<f64>();
        labels.pairs.retain(|(name, _)| name != "le");
        labels.set(METRIC_NAME, base);
        labels.pairs.sort();
        let gathered = self.histograms.entry(labels.pairs).or_default();
        gathered.t_ms = t_ms;
        match suffix {
            "_count" => gathered.count = Some(value),
            "_sum" => gathered.sum = value,
            _ => gathered.buckets.push((bound.map_err(|_| "a bucket has no number as le")?, value)),
        }
        Ok(true)
    }

    /// Hands over what was gathered.
    pub fn finish(self, into: &mut SeriesCache) -> Result<(), Reason> {
        for (labels, mut gathered) in self.histograms {
            gathered.buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
            let last = gathered.buckets.last().map(|(_, count)| *count);
            let count = gathered.count.or(last).unwrap_or(0.0);
            let histogram = custom(&gathered.buckets, count, gathered.sum, false)
                .ok_or("the buckets of a histogram do not rise")?;
            // No line of a text begins with this byte.
            let mut key = vec![0xfe];
            for (name, value) in &labels {
                key.extend_from_slice(name.as_bytes());
                key.push(0xff);
                key.extend_from_slice(value.as_bytes());
                key.push(0xff);
            }
            into.sample(&key, Sampled::Histogram(Box::new(histogram)), gathered.t_ms, 0, |builder| {
                builder.pairs = labels;
                Ok(())
            })?;
        }
        Ok(())
    }
}
