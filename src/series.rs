//! The series store: label sets, registry, rings, index, exposition.
//!
//! [`Store`] is the single writer of everything. Series come from two sides: those that sidewatch counts itself, through
//! handles ([`Store::resolve`], [`Store::add`], [`Store::set`], [`Store::observe`]) and sampled at each [`Store::tick`];
//! and received ones ([`Store::append`]), which keep their own times. Queries read through [`Storage`], from the store
//! itself or from a [`View`] of it that another thread may hold.
//!
//! Nothing here reads a clock, does I/O or hashes with random seeds: the same calls give the same bytes.

mod append;
mod bits;
mod buckets;
mod catalog;
mod checkpoint;
mod chunk;
pub mod data;
mod delta;
mod distinct;
mod exemplars;
mod exposition;
pub mod histogram;
mod index;
mod late;
mod number;
mod openmetrics;
mod protobuf;
mod receive;
mod received;
mod registry;
mod ring;
mod sampling;
mod scraped;
mod stats;
mod store;
pub mod text;
mod update;
mod view;
mod window;

#[cfg(test)]
mod tests;

pub use append::SampleValue;
pub use catalog::{Metadata, MetricType};
pub use checkpoint::RestoreError;
pub use data::{
    FloatPoint, HistogramPoint, MatchOp, Matcher, STALE_NAN_BITS, Selection, SeriesData, Storage, is_stale,
};
pub use distinct::Distinct;
pub use exemplars::{Exemplar, SeriesExemplars};
pub use histogram::{FloatHistogram, ResetHint, Span};
pub use protobuf::write_text_as_protobuf;
pub use receive::Written;
pub use registry::{DeclareError, Dropped, Handle, HistogramOptions, Limit, MetricId, MetricKind};
pub use ring::Rings;
pub use scraped::ScrapedSeries;
pub use stats::{MetricStats, Refusal, StoreStats};
pub use store::{Store, StoreOptions};
pub use update::{ExemplarRef, Observed};
pub use view::View;
pub use window::WindowQuantiles;
