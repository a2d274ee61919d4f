//! The one integration binary: end-to-end tests drive the real executable; structure and simulation tests use the library.

mod browser;
mod crash;
mod events;
mod golden_path;
mod harness;
mod http;
mod ranks;
mod reload;
mod simulation;
mod sources;
