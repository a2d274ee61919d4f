//! What OTLP requests hold, as far as it is used here (opentelemetry-proto 1.x; the names are its own).

/// A value of an attribute or of a log record's body (AnyValue).
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Any {
    #[default]
    None,
    Text(String),
    Bool(bool),
    Int(i64),
    Double(f64),
    Bytes(Vec<u8>),
    List(Vec<Any>),
    Map(Attributes),
}

/// Keys and values, in order.
pub type Attributes = Vec<(String, Any)>;

/// The text of an attribute, when it is one.
pub fn text<'a>(attributes: &'a Attributes, key: &str) -> Option<&'a str> {
    attributes.iter().find_map(|(name, value)| match value {
        Any::Text(text) if name == key => Some(text.as_str()),
        _ => None,
    })
}

/// What one resource sent.
#[derive(Clone, Debug, PartialEq)]
pub struct Resource<T> {
    /// Of the resource.
    pub attributes: Attributes,
    /// By instrumentation scope.
    pub scopes: Vec<Scope<T>>,
}

impl<T> Default for Resource<T> {
    fn default() -> Self {
        Self { attributes: Attributes::new(), scopes: Vec::new() }
    }
}

/// What one scope sent.
#[derive(Clone, Debug, PartialEq)]
pub struct Scope<T> {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The records, metrics or spans.
    pub items: Vec<T>,
}

impl<T> Default for Scope<T> {
    fn default() -> Self {
        Self { name: String::new(), version: String::new(), items: Vec::new() }
    }
}

/// A log record (logs.v1.LogRecord).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LogRecord {
    pub time_unix_nano: u64,
    pub observed_time_unix_nano: u64,
    pub severity_number: i64,
    pub severity_text: String,
    pub body: Any,
    pub attributes: Attributes,
    pub trace_id: Vec<u8>,
    pub span_id: Vec<u8>,
    pub event_name: String,
}

/// A span (trace.v1.Span).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Span {
    pub trace_id: Vec<u8>,
    pub span_id: Vec<u8>,
    pub parent_span_id: Vec<u8>,
    pub name: String,
    pub kind: i64,
    pub start_time_unix_nano: u64,
    pub end_time_unix_nano: u64,
    pub attributes: Attributes,
    pub events: Vec<SpanEvent>,
    pub status_code: i64,
    pub status_message: String,
}

/// Something that happened within a span (trace.v1.Span.Event).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SpanEvent {
    pub time_unix_nano: u64,
    pub name: String,
    pub attributes: Attributes,
}

/// A metric (metrics.v1.Metric).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metric {
    pub name: String,
    pub description: String,
    pub unit: String,
    pub data: Data,
}

/// Whether points are changes or totals (AggregationTemporality).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Temporality {
    #[default]
    Unspecified,
    Delta,
    Cumulative,
}

impl Temporality {
    /// From the number of the enum.
    pub fn of(number: i64) -> Self {
        match number {
            1 => Self::Delta,
            2 => Self::Cumulative,
            _ => Self::Unspecified,
        }
    }
}

/// The points of a metric (Metric.data).
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Data {
    /// None, or of a kind that is not known here.
    #[default]
    Unknown,
    Gauge(Vec<NumberPoint>),
    Sum(Vec<NumberPoint>, Temporality, bool),
    Histogram(Vec<HistogramPoint>, Temporality),
    Exponential(Vec<ExponentialPoint>, Temporality),
    Summary(Vec<SummaryPoint>),
}

impl Data {
    /// How many points there are.
    pub fn points(&self) -> usize {
        match self {
            Self::Unknown => 0,
            Self::Gauge(points) | Self::Sum(points, ..) => points.len(),
            Self::Histogram(points, _) => points.len(),
            Self::Exponential(points, _) => points.len(),
            Self::Summary(points) => points.len(),
        }
    }
}

/// What every point has (the data points).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Point {
    pub attributes: Attributes,
    pub start_time_unix_nano: u64,
    pub time_unix_nano: u64,
    pub flags: u64,
    pub exemplars: Vec<Exemplar>,
}

/// A trace that shows a value (Exemplar).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Exemplar {
    pub attributes: Attributes,
    pub time_unix_nano: u64,
    pub value: f64,
    pub trace_id: Vec<u8>,
    pub span_id: Vec<u8>,
}

impl Point {
    /// The flag that says that the series has ended: DATA_POINT_FLAGS_NO_RECORDED_VALUE_MASK.
    pub fn is_end(&self) -> bool {
        self.flags & 1 != 0
    }
}

/// Of a gauge or sum (NumberDataPoint).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NumberPoint {
    pub point: Point,
    pub value: f64,
}

/// Of a histogram with explicit bounds (HistogramDataPoint).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HistogramPoint {
    pub point: Point,
    pub count: u64,
    pub sum: Option<f64>,
    pub bucket_counts: Vec<u64>,
    pub explicit_bounds: Vec<f64>,
}

/// One side of an exponential histogram (ExponentialHistogramDataPoint.Buckets).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Buckets {
    pub offset: i32,
    pub bucket_counts: Vec<u64>,
}

/// Of an exponential histogram (ExponentialHistogramDataPoint).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ExponentialPoint {
    pub point: Point,
    pub count: u64,
    pub sum: Option<f64>,
    pub scale: i32,
    pub zero_count: u64,
    pub zero_threshold: f64,
    pub positive: Buckets,
    pub negative: Buckets,
}

/// Of a summary (SummaryDataPoint).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SummaryPoint {
    pub point: Point,
    pub count: u64,
    pub sum: f64,
    /// Quantile (0 to 1) and value.
    pub quantiles: Vec<(f64, f64)>,
}
