//! sidewatch: an observability sidecar for event-driven services.
pub mod config;
pub mod engine;
pub mod health;
pub mod mapping;
pub mod model;
pub mod notify;
pub mod promql;
pub mod rules;
pub mod secret;
pub mod series;
pub mod source;
pub mod state;
pub mod supervise;
pub mod telemetry;
pub mod template;
