//! Receivers against real servers.
