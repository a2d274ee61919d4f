//! Alertmanager's format.
