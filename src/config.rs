//! Configuration: what was read, with positions, and everything that is wrong with it at once.
//!
//! `yaml` alone knows the YAML crate. `reader` turns the tree into the types of `schema` and collects every error.
//! Meaning (does this expression parse, does that receiver exist) is checked by the rooms that give it meaning; they add
//! to the same [`Diagnostics`].

pub mod diagnostic;
mod expand;
mod json_schema;
mod load;
mod locate;
mod read;
pub mod reader;
pub mod schema;
mod show;
mod system;
pub mod yaml;

pub use diagnostic::{Diagnostic, Diagnostics, Level, Span, Spanned};
pub use expand::expand;
pub use json_schema::json_schema;
pub use load::{DEFAULT_FILE, ENVIRONMENT_KEYS, LoadOptions, Overrides, environment_variable, load};
pub use read::{read_alerts, statsd_mapping};
pub use schema::{Config, Named};
pub use show::{show, show_condition, show_slo};
pub use system::{load_from_system, load_text};

#[cfg(test)]
mod tests;
