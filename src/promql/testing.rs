//! The language of Prometheus's PromQL tests: its scripts, its series notation, and a store for them in memory.

mod compare;
mod script;
mod series;
mod storage;

pub use compare::same_histogram;
pub use script::{Report, run_file};
pub use series::{Point, PointValue, SeriesNotation, parse_series, parse_values};
pub use storage::TestStorage;

#[cfg(test)]
mod tests;
