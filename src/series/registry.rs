//! Metrics and their series: declaring, resolving label values to handles, limits and what happens beyond them.

use super::buckets::{ExactSum, HistogramState};
use super::catalog::MetricType;
use super::exposition::series_prefix;
use super::ring::Ring;
use super::store::{Body, Entry, Hot, OwnHistogram, Saved, Store, flag};
use super::window::{Scale, Window};
use crate::model::{Label, Labels, METRIC_NAME, Timestamp};
use std::sync::Arc;

/// The label of the series that takes what limits refuse.
pub(super) const OVERFLOW_LABEL: &str = "sidewatch_overflow";

/// A metric of one store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MetricId(pub(super) u32);

/// What a self-counted metric is.
#[derive(Clone, Debug, PartialEq)]
pub enum MetricKind {
    /// Only grows.
    Counter,
    /// Any value.
    Gauge,
    /// Counts values in buckets.
    Histogram(HistogramOptions),
}

/// How a histogram counts beside its exponential buckets.
#[derive(Clone, Debug, PartialEq)]
pub struct HistogramOptions {
    /// Upper ends of the classic buckets, rising, without +Inf.
    pub bounds: Vec<f64>,
}

impl Default for HistogramOptions {
    /// The default buckets of Prometheus's client libraries, for seconds.
    fn default() -> Self {
        Self { bounds: vec![0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0] }
    }
}

/// Why a metric cannot be declared.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeclareError {
    /// A metric of this name exists and is something else.
    #[error("metric {name} is already a {known}, it cannot also be a {wanted}")]
    KindConflict {
        /// The metric.
        name: String,
        /// What it is.
        known: &'static str,
        /// What was asked for.
        wanted: &'static str,
    },
    /// A histogram of this name exists with other bounds.
    #[error("histogram {0} is already declared with other bounds")]
    BoundsConflict(String),
    /// The bounds of a histogram do not rise or are not finite.
    #[error("the bounds of histogram {0} must be finite numbers, each larger than the one before")]
    BadBounds(String),
    /// A metric needs a name.
    #[error("a metric needs a name")]
    EmptyName,
}

/// Which limit kept a series from being made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "named as in the configuration")]
pub enum Limit {
    Series,
    SeriesPerMetric,
    HistogramSeries,
    LabelsPerSeries,
}

impl Limit {
    pub(super) const COUNT: usize = 4;
    /// Every limit.
    pub const ALL: [Self; Self::COUNT] =
        [Self::Series, Self::SeriesPerMetric, Self::HistogramSeries, Self::LabelsPerSeries];

    /// The key in `limits:`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Series => "series",
            Self::SeriesPerMetric => "series_per_metric",
            Self::HistogramSeries => "histogram_series",
            Self::LabelsPerSeries => "labels_per_series",
        }
    }
}

/// A series was not made, and its update is lost; it has been counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("limits.{} reached", .reason.as_str())]
pub struct Dropped {
    /// The limit.
    pub reason: Limit,
}

/// A resolved series: stays good until the series expires, then every update with it says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handle {
    pub(super) slot: u32,
    pub(super) generation: u32,
    pub(super) overflow: bool,
}

impl Handle {
    /// Whether a limit was hit and this is the overflow series of the metric. Do not keep such a handle for the label
    /// values that led to it: when other series expire, they get a series of their own.
    pub fn is_overflow(self) -> bool {
        self.overflow
    }
}

/// A metric and its series.
#[derive(Debug)]
pub(super) struct Metric {
    pub name: Arc<str>,
    /// `None` when it is only received.
    pub kind: Option<MetricKind>,
    pub described: MetricType,
    pub help: Box<str>,
    pub unit: Box<str>,
    pub bounds: Arc<[f64]>,
    /// Live self-counted series, in the order of the exposition.
    pub sorted: Vec<u32>,
    pub overflow: Option<u32>,
    /// Whether this process declares it; else it comes from a checkpoint or an earlier configuration.
    pub declared: bool,
    pub changed: bool,
    pub hits: [u64; Limit::COUNT],
}

fn kind_name(kind: &MetricKind) -> &'static str {
    match kind {
        MetricKind::Counter => "counter",
        MetricKind::Gauge => "gauge",
        MetricKind::Histogram(_) => "histogram",
    }
}

/// A text cut to at most `limit` bytes, at the end of a character.
fn cut(text: &str, limit: usize) -> &str {
    if text.len() <= limit {
        return text;
    }
    let end = (0..=limit).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    &text[..end]
}

impl Store {
    /// The identity of a metric's name, known or not yet: rules ask for their inputs before the first sample.
    pub fn metric_id(&mut self, name: &str) -> MetricId {
        if let Some(id) = self.metric_names.get(name) {
            return *id;
        }
        let id = MetricId(self.metrics.len() as u32);
        let name = self.intern(name);
        self.metric_names.insert(name.clone(), id);
        self.metrics.push(Metric {
            name,
            kind: None,
            described: MetricType::Unknown,
            help: "".into(),
            unit: "".into(),
            bounds: Arc::from([]),
            sorted: Vec::new(),
            overflow: None,
            declared: false,
            changed: false,
            hits: [0; Limit::COUNT],
        });
        id
    }

    /// The name of a metric.
    pub fn metric_name(&self, metric: MetricId) -> &str {
        self.metrics.get(metric.0 as usize).map_or("", |metric| &metric.name)
    }

    /// The metric that a selector's name reads: itself, or the histogram behind `x_bucket`, `x_sum`, `x_count`.
    pub fn lookup_metric(&self, name: &str) -> Option<MetricId> {
        let histogram = || {
            let base = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix))?;
            let id = self.metric_names.get(base)?;
            matches!(self.metrics[id.0 as usize].kind, Some(MetricKind::Histogram(_))).then_some(*id)
        };
        histogram().or_else(|| self.metric_names.get(name).copied())
    }

    /// Declares a self-counted metric. `unit` is the base unit (`seconds`, `bytes`), or empty. The same again is fine; help
    /// and unit of the later declaration hold.
    ///
    /// # Errors
    /// [`DeclareError`] when the name is taken by another kind, or the bounds are not usable.
    pub fn declare(&mut self, name: &str, kind: MetricKind, help: &str, unit: &str) -> Result<MetricId, DeclareError> {
        if name.is_empty() {
            return Err(DeclareError::EmptyName);
        }
        let mut bounds: Arc<[f64]> = Arc::from([]);
        if let MetricKind::Histogram(options) = &kind {
            let rising = options.bounds.windows(2).all(|pair| pair[0] < pair[1]);
            if !rising || options.bounds.iter().any(|bound| !bound.is_finite()) {
                return Err(DeclareError::BadBounds(name.into()));
            }
            bounds = options.bounds.as_slice().into();
        }
        let id = self.metric_id(name);
        let metric = &self.metrics[id.0 as usize];
        if !metric.declared && metric.kind.as_ref().is_some_and(|known| *known != kind) {
            self.forget(id);
        }
        let metric = &mut self.metrics[id.0 as usize];
        match &metric.kind {
            Some(known) if kind_name(known) != kind_name(&kind) => {
                return Err(DeclareError::KindConflict {
                    name: name.into(),
                    known: kind_name(known),
                    wanted: kind_name(&kind),
                });
            }
            Some(known) if *known != kind => return Err(DeclareError::BoundsConflict(name.into())),
            _ => {}
        }
        metric.described = match kind {
            MetricKind::Counter => MetricType::Counter,
            MetricKind::Gauge => MetricType::Gauge,
            MetricKind::Histogram(_) => MetricType::Histogram,
        };
        (metric.kind, metric.bounds, metric.declared) = (Some(kind), bounds, true);
        (metric.help, metric.unit) = (help.into(), unit.into());
        Ok(id)
    }

    /// Ends all series of a metric that the configuration no longer has, with markers of staleness; it may be declared as
    /// something else then.
    pub fn retire(&mut self, metric: MetricId, now: Timestamp) {
        let Some(held) = self.metrics.get_mut(metric.0 as usize) else { return };
        held.declared = false;
        for slot in held.sorted.clone() {
            let handle = self.handle(slot, false);
            self.remove(handle, now);
        }
    }

    /// Drops all self-counted series of a metric, samples and all, because it becomes something else.
    fn forget(&mut self, metric: MetricId) {
        let slots: Vec<u32> = self
            .each_entry()
            .filter(|(_, entry)| entry.counted && entry.metric == metric)
            .map(|(slot, _)| slot)
            .collect();
        slots.iter().for_each(|slot| self.detach(*slot));
        self.purge(&slots);
        self.metrics[metric.0 as usize].kind = None;
    }

    pub(super) fn hash_own<'a>(&self, metric: MetricId, pairs: impl Iterator<Item = (&'a str, &'a str)>) -> u64 {
        self.hash_pairs(u64::from(metric.0), pairs.filter(|(_, value)| !value.is_empty()))
    }

    fn find_own(&self, metric: MetricId, labels: &[(&str, &str)]) -> Option<u32> {
        let hash = self.hash_own(metric, labels.iter().copied());
        let count = labels.iter().filter(|(_, value)| !value.is_empty()).count();
        let same = |slot: &u32| {
            self.entry(*slot).is_some_and(|entry| {
                entry.metric == metric
                    && entry.own.len() == count
                    && labels.iter().all(|(name, value)| value.is_empty() || entry.own.get(name) == Some(*value))
            })
        };
        self.own.find(hash, same).copied()
    }

    /// The series of a declared metric with these labels (in any order; an empty value is no label), made when it is new.
    /// Past a limit a counter gets its overflow series, see [`Handle::is_overflow`].
    ///
    /// # Errors
    /// [`Dropped`] when a limit keeps a gauge or histogram from being made; it has been counted.
    pub fn resolve(&mut self, metric: MetricId, labels: &[(&str, &str)], now: Timestamp) -> Result<Handle, Dropped> {
        if let Some(slot) = self.find_own(metric, labels)
            && self.hot[slot as usize].flags & flag::LIVE != 0
        {
            return Ok(self.handle(slot, self.metrics[metric.0 as usize].overflow == Some(slot)));
        }
        let limit = self.options.limits.label_value_bytes;
        let mut own = Vec::with_capacity(labels.len());
        for (name, value) in labels {
            let short = cut(value, limit);
            self.counts.truncated_values += u64::from(short.len() < value.len());
            own.push(Label { name: self.intern(name), value: self.intern(short) });
        }
        let own = Labels::new(own);
        let pairs: Vec<(&str, &str)> = own.iter().map(|label| (&*label.name, &*label.value)).collect();
        let known = self.find_own(metric, &pairs);
        if let Some(slot) = known
            && self.hot[slot as usize].flags & flag::LIVE != 0
        {
            return Ok(self.handle(slot, false));
        }
        let Some(reason) = self.limit_hit(metric, own.len()) else {
            return Ok(self.begin(metric, own, known, now));
        };
        let held = &mut self.metrics[metric.0 as usize];
        held.hits[reason as usize] += 1;
        if !matches!(held.kind, Some(MetricKind::Counter)) {
            return Err(Dropped { reason });
        }
        if let Some(slot) = held.overflow {
            return Ok(self.handle(slot, true));
        }
        let own = Labels::new(vec![Label { name: self.intern(OVERFLOW_LABEL), value: self.intern("true") }]);
        let known = self.find_own(metric, &[(OVERFLOW_LABEL, "true")]);
        let handle = self.begin(metric, own, known, now);
        Ok(Handle { overflow: true, ..handle })
    }

    fn limit_hit(&self, metric: MetricId, labels: usize) -> Option<Limit> {
        let (limits, metric) = (&self.options.limits, &self.metrics[metric.0 as usize]);
        let histogram = matches!(metric.kind, Some(MetricKind::Histogram(_)));
        if labels > limits.labels_per_series {
            Some(Limit::LabelsPerSeries)
        } else if self.live >= limits.series {
            Some(Limit::Series)
        } else if metric.sorted.len() >= limits.series_per_metric {
            Some(Limit::SeriesPerMetric)
        } else if histogram && self.live_histograms >= limits.histogram_series {
            Some(Limit::HistogramSeries)
        } else {
            None
        }
    }

    /// Begins a series, or begins an ended one again, with its known zero.
    fn begin(&mut self, metric: MetricId, own: Labels, known: Option<u32>, now: Timestamp) -> Handle {
        let slot = match known {
            Some(slot) => slot,
            None => {
                let entry = self.new_own_entry(metric, own);
                // A received series of the very same labels gives way: two series may not look alike.
                if let Some(other) = self.find_labels(entry.labels_hash, &entry.labels) {
                    self.purge(&[other]);
                }
                self.insert_entry(entry, Hot::default())
            }
        };
        let kind = match self.metrics[metric.0 as usize].kind {
            Some(MetricKind::Counter) => flag::COUNTER | flag::VALUED,
            Some(MetricKind::Histogram(_)) => flag::HISTOGRAM | flag::VALUED,
            _ => flag::GAUGE,
        };
        let rings = self.options.rings;
        let step = rings.fine_step_ms;
        // The known zero stands on the grid, before anything that can be counted now, and after whatever ended here before.
        let zero_ms = (now.millis() - 1).div_euclid(step) * step;
        if let Some(entry) = self.entry_mut(slot) {
            let zero_ms = zero_ms.max(entry.last_ms().saturating_add(1));
            entry.created_ms = zero_ms;
            match &mut entry.body {
                Body::Float(ring) if kind & flag::COUNTER != 0 => ring.push(zero_ms, &0.0, zero_ms, &rings),
                Body::Histogram(histogram) => {
                    histogram.state = HistogramState::empty(histogram.bounds.len());
                    histogram.sum = ExactSum::default();
                    histogram.exemplars.clear();
                    histogram.ring.push(zero_ms, &histogram.state, zero_ms, &rings);
                }
                Body::Float(_) | Body::Received(_) => entry.created_ms = 0,
            }
        }
        let hot = &mut self.hot[slot as usize];
        (hot.value, hot.updated_us) = (0.0, now.micros());
        hot.flags = kind | flag::LIVE | hot.flags & (flag::SAVE | flag::TICK);
        self.attach(slot, metric);
        self.mark_unsaved(slot);
        self.note_changed(metric);
        self.handle(slot, false)
    }

    /// Counts a series as live and gives it its place in the exposition.
    pub(super) fn attach(&mut self, slot: u32, metric: MetricId) {
        let Some(entry) = self.entry(slot) else { return };
        let own = &entry.own;
        let sorted = &self.metrics[metric.0 as usize].sorted;
        let at = sorted.partition_point(|other| self.entry(*other).is_some_and(|other| other.own < *own));
        let histogram = matches!(entry.body, Body::Histogram(_));
        let overflow = own.len() == 1 && own.get(OVERFLOW_LABEL) == Some("true");
        let held = &mut self.metrics[metric.0 as usize];
        held.sorted.insert(at, slot);
        if overflow {
            held.overflow = Some(slot);
        }
        self.live += 1;
        self.live_histograms += usize::from(histogram);
    }

    /// Undoes [`Self::attach`].
    pub(super) fn detach(&mut self, slot: u32) {
        let Some(entry) = self.entry(slot) else { return };
        let (metric, histogram) = (entry.metric, matches!(entry.body, Body::Histogram(_)));
        let own = &entry.own;
        let sorted = &self.metrics[metric.0 as usize].sorted;
        let at = sorted.partition_point(|other| self.entry(*other).is_some_and(|other| other.own < *own));
        let held = &mut self.metrics[metric.0 as usize];
        if held.sorted.get(at) == Some(&slot) {
            held.sorted.remove(at);
            self.live -= 1;
            self.live_histograms -= usize::from(histogram);
        }
        if held.overflow == Some(slot) {
            held.overflow = None;
        }
    }

    /// A self-counted series without samples.
    pub(super) fn new_own_entry(&mut self, metric: MetricId, own: Labels) -> Entry {
        let name = Label { name: self.intern(METRIC_NAME), value: self.metrics[metric.0 as usize].name.clone() };
        let base = self.options.base_labels.iter().cloned();
        let labels = Labels::new(base.chain(own.iter().cloned()).chain([name]).collect());
        let held = &self.metrics[metric.0 as usize];
        let (body, prefix) = match &held.kind {
            Some(MetricKind::Histogram(_)) => {
                let histogram = OwnHistogram {
                    state: HistogramState::empty(held.bounds.len()),
                    sum: ExactSum::default(),
                    bounds: held.bounds.clone(),
                    window: Window::new(Scale::of_unit(&held.unit)),
                    exemplars: Vec::new(),
                    ring: Ring::default(),
                };
                (Body::Histogram(Box::new(histogram)), String::new())
            }
            _ => (Body::Float(Ring::default()), series_prefix(&held.name, &own)),
        };
        let mut entry = Entry {
            metric,
            own_hash: self.hash_own(metric, own.iter().map(|label| (&*label.name, &*label.value))),
            labels_hash: self.hash_labels(&labels),
            labels,
            own,
            prefix: prefix.into(),
            created_ms: 0,
            counted: true,
            body,
            bytes: 0,
            saved: [Saved::default(); 2],
            identity_saved: false,
        };
        entry.bytes = entry.size();
        entry
    }
}
