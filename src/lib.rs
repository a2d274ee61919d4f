//! sidewatch: an observability sidecar for event-driven services.
pub mod config;
pub mod mapping;
pub mod model;
pub mod promql;
pub mod rules;
pub mod secret;
pub mod series;
pub mod source;
pub mod template;
