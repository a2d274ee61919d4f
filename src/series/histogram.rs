//! Native histograms with float counts (`model/histogram.FloatHistogram` of Prometheus).

/// A run of buckets: `offset` from the end of the previous run (for the first, from bucket 0), `length` buckets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "said above")]
pub struct Span {
    pub offset: i32,
    pub length: u32,
}

/// What is known about a counter reset before this sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[expect(missing_docs, reason = "the names of Prometheus")]
pub enum ResetHint {
    #[default]
    Unknown,
    Reset,
    NotReset,
    Gauge,
}

/// A native histogram. Schema -4..=8 is exponential (base 2^(2^-schema)), -53 has custom bounds.
#[derive(Clone, Debug, PartialEq, Default)]
#[expect(missing_docs, reason = "the names of Prometheus")]
pub struct FloatHistogram {
    pub reset_hint: ResetHint,
    pub schema: i32,
    pub zero_threshold: f64,
    pub zero_count: f64,
    pub count: f64,
    pub sum: f64,
    pub positive_spans: Vec<Span>,
    pub negative_spans: Vec<Span>,
    pub positive_buckets: Vec<f64>,
    pub negative_buckets: Vec<f64>,
    pub custom_values: Vec<f64>,
}
