//! What one fuzz execution does: any bytes as a query, read, printed, evaluated within small limits.

use sidewatch::model::{Labels, Timestamp};
use sidewatch::promql::{Options, Query};
use sidewatch::series::{FloatHistogram, SampleValue, Span, Store, StoreOptions};
use std::sync::Arc;

/// Floats with resets, gaps and every odd value, classic and native histograms: ten minutes of them.
pub fn store() -> Store {
    let mut store = Store::new(StoreOptions::default());
    store.tick(Timestamp::from_millis(600_000));
    let odd = [0.0, 1.0, f64::NAN, f64::INFINITY, -3.5, 1e300, 5e-324, 7.0];
    for at in 0..40_i64 {
        let t_ms = at * 15_000;
        for (name, x) in [("a", "1"), ("a", "2"), ("b_total", "1"), ("c", "")] {
            let labels = Labels::from_pairs([("__name__", name), ("x", x), ("job", "j")]);
            let value = if name == "b_total" { (at % 13) as f64 } else { odd[(at as usize + x.len()) % 8] };
            if at % 7 != 3 {
                let _ = store.append(&labels, t_ms, SampleValue::Float(value), if at > 20 { 100_000 } else { 0 });
            }
        }
        for (le, value) in [("0.1", at), ("1", at * 2), ("+Inf", at * 3)] {
            let labels = Labels::from_pairs([("__name__", "h_bucket"), ("le", le)]);
            let _ = store.append(&labels, t_ms, SampleValue::Float(value as f64), 0);
        }
        let native = FloatHistogram {
            schema: (at % 3) as i32,
            count: (at * 2) as f64,
            sum: at as f64,
            positive_spans: vec![Span { offset: 0, length: 2 }],
            positive_buckets: vec![at as f64, at as f64],
            ..FloatHistogram::default()
        };
        let labels = Labels::from_pairs([("__name__", "n")]);
        let _ = store.append(&labels, t_ms, SampleValue::Histogram(Arc::new(native)), 0);
    }
    store
}

/// One execution: whether there was an answer. A panic is a finding; so is a printed form that is not read again as the
/// same.
pub fn exercise(store: &Store, bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let options = Options { max_samples: 20_000, max_steps: 200, max_query_bytes: 4_096, ..Options::default() };
    let Ok(query) = Query::parse_with(&text, &options) else { return false };
    let printed = query.expr().to_string();
    let again = Query::parse(&printed);
    assert!(
        again.as_ref().is_ok_and(|again| again.expr() == query.expr()),
        "{text:?} prints as {printed:?}, which reads as {again:?}"
    );
    let instant = query.instant(store, 590_001, &options);
    let range = query.range(store, 0, 600_000, 60_000, &options);
    instant.is_ok() || range.is_ok()
}
