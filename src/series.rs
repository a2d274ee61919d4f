//! The series store: label sets, registry, rings, index, exposition.

pub mod data;
pub mod histogram;

pub use data::{FloatPoint, HistogramPoint, MatchOp, Matcher, Selection, SeriesData, Storage};
pub use histogram::{FloatHistogram, ResetHint, Span};
