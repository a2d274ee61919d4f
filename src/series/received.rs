//! Native histograms as they are received: written against the sample before, any schema, any counts.

use super::bits::{get_float, get_varint, put_float, put_varint, unzigzag, zigzag};
use super::chunk::Codec;
use super::{FloatHistogram, ResetHint, Span, is_stale};
use std::sync::Arc;

/// Times as their distance; floats as their difference to the one in the same place before.
#[derive(Clone, Debug, Default)]
pub(super) struct ReceivedCodec {
    t_ms: i64,
    value: Arc<FloatHistogram>,
}

const SAME_LAYOUT: u8 = 1;

fn same_layout(a: &FloatHistogram, b: &FloatHistogram) -> bool {
    a.schema == b.schema
        && a.zero_threshold.to_bits() == b.zero_threshold.to_bits()
        && a.positive_spans == b.positive_spans
        && a.negative_spans == b.negative_spans
        && a.positive_buckets.len() == b.positive_buckets.len()
        && a.negative_buckets.len() == b.negative_buckets.len()
        && a.custom_values.len() == b.custom_values.len()
        && a.custom_values.iter().zip(&b.custom_values).all(|(a, b)| a.to_bits() == b.to_bits())
}

fn put_spans(out: &mut Vec<u8>, spans: &[Span]) {
    put_varint(out, spans.len() as u64);
    for span in spans {
        put_varint(out, zigzag(i64::from(span.offset)));
        put_varint(out, u64::from(span.length));
    }
}

fn get_spans(input: &[u8], at: &mut usize) -> Option<Vec<Span>> {
    let count = get_varint(input, at)?;
    let mut spans = Vec::new();
    for _ in 0..count {
        let offset = i32::try_from(unzigzag(get_varint(input, at)?)).ok()?;
        spans.push(Span { offset, length: u32::try_from(get_varint(input, at)?).ok()? });
    }
    Some(spans)
}

fn put_list(out: &mut Vec<u8>, values: &[f64]) {
    put_varint(out, values.len() as u64);
    values.iter().for_each(|value| put_float(out, 0.0, *value));
}

fn get_list(input: &[u8], at: &mut usize) -> Option<Vec<f64>> {
    let count = get_varint(input, at)?;
    let mut values = Vec::new();
    for _ in 0..count {
        values.push(get_float(input, at, 0.0)?);
    }
    Some(values)
}

const HINTS: [ResetHint; 4] = [ResetHint::Unknown, ResetHint::Reset, ResetHint::NotReset, ResetHint::Gauge];

impl ReceivedCodec {
    fn apply(&mut self, input: &[u8], at: &mut usize) -> Option<()> {
        let flags = *input.get(*at)?;
        *at += 1;
        self.t_ms = self.t_ms.wrapping_add(unzigzag(get_varint(input, at)?));
        let before = self.value.clone();
        let mut value = if flags & SAME_LAYOUT != 0 {
            FloatHistogram::clone(&before)
        } else {
            let schema = i32::try_from(unzigzag(get_varint(input, at)?)).ok()?;
            let zero_threshold = get_float(input, at, 0.0)?;
            let (positive_spans, negative_spans) = (get_spans(input, at)?, get_spans(input, at)?);
            let (positive_buckets, negative_buckets) = (get_list(input, at)?, get_list(input, at)?);
            let custom_values = get_list(input, at)?;
            FloatHistogram {
                schema,
                zero_threshold,
                positive_spans,
                negative_spans,
                positive_buckets,
                negative_buckets,
                custom_values,
                ..FloatHistogram::default()
            }
        };
        value.reset_hint = *HINTS.get(usize::from(flags >> 1))?;
        value.zero_count = get_float(input, at, before.zero_count)?;
        value.count = get_float(input, at, before.count)?;
        value.sum = get_float(input, at, before.sum)?;
        if flags & SAME_LAYOUT != 0 {
            for bucket in value.positive_buckets.iter_mut().chain(&mut value.negative_buckets) {
                *bucket = get_float(input, at, *bucket)?;
            }
        }
        self.value = Arc::new(value);
        Some(())
    }
}

impl Codec for ReceivedCodec {
    type Value = Arc<FloatHistogram>;

    fn encode(&mut self, out: &mut Vec<u8>, t_ms: i64, value: &Arc<FloatHistogram>) {
        let before = &self.value;
        let same = same_layout(before, value);
        let hint = HINTS.iter().position(|hint| *hint == value.reset_hint).unwrap_or(0) as u8;
        out.push((u8::from(same) * SAME_LAYOUT) | (hint << 1));
        put_varint(out, zigzag(t_ms.wrapping_sub(self.t_ms)));
        if !same {
            put_varint(out, zigzag(i64::from(value.schema)));
            put_float(out, 0.0, value.zero_threshold);
            put_spans(out, &value.positive_spans);
            put_spans(out, &value.negative_spans);
            put_list(out, &value.positive_buckets);
            put_list(out, &value.negative_buckets);
            put_list(out, &value.custom_values);
        }
        put_float(out, before.zero_count, value.zero_count);
        put_float(out, before.count, value.count);
        put_float(out, before.sum, value.sum);
        if same {
            let old = before.positive_buckets.iter().chain(&before.negative_buckets);
            for (old, new) in old.zip(value.positive_buckets.iter().chain(&value.negative_buckets)) {
                put_float(out, *old, *new);
            }
        }
        (self.t_ms, self.value) = (t_ms, value.clone());
    }

    fn decode(input: &[u8], count: u32, visit: &mut dyn FnMut(i64, &Arc<FloatHistogram>)) -> Option<Self> {
        let (mut codec, mut at) = (Self::default(), 0);
        for _ in 0..count {
            codec.apply(input, &mut at)?;
            visit(codec.t_ms, &codec.value);
        }
        Some(codec)
    }

    fn is_stale(value: &Arc<FloatHistogram>) -> bool {
        is_stale(value.sum)
    }
}

#[cfg(test)]
mod tests {
    use super::super::chunk::OpenChunk;
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig { failure_persistence: None, ..Default::default() })]
        #[test]
        fn received_histograms_come_back(samples in prop::collection::vec((1_i64..100_000, -4_i32..9, prop::collection::vec(0.0..1e9_f64, 0..5), 0_usize..4, any::<bool>()), 1..30)) {
            let (mut t_ms, mut all) = (0, Vec::new());
            for (step, schema, buckets, hint, negative) in samples {
                t_ms += step;
                let spans = vec![Span { offset: schema * 3, length: buckets.len() as u32 }];
                let mut histogram = FloatHistogram {
                    schema, count: buckets.iter().sum(), sum: 1.5 * step as f64, reset_hint: HINTS[hint],
                    custom_values: if negative { vec![1.0, 2.5] } else { Vec::new() },
                    ..FloatHistogram::default()
                };
                if negative {
                    (histogram.negative_spans, histogram.negative_buckets) = (spans, buckets);
                } else {
                    (histogram.positive_spans, histogram.positive_buckets) = (spans, buckets);
                }
                all.push((t_ms, Arc::new(histogram)));
            }
            let mut open = OpenChunk::<ReceivedCodec>::new(all[0].0, &all[0].1, 0);
            all[1..].iter().for_each(|(t, histogram)| open.push(*t, histogram));
            let mut read = Vec::new();
            open.seal().visit(|t, histogram| read.push((t, histogram.clone())));
            prop_assert_eq!(read, all);
        }

        #[test]
        fn damage_is_no_panic(bytes in prop::collection::vec(any::<u8>(), 0..64), count in 0_u32..50) {
            let _ = ReceivedCodec::decode(&bytes, count, &mut |_, _| {});
        }
    }
}
