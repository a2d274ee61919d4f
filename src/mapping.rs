//! From events to metric updates.
