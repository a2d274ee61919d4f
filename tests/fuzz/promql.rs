//! Any bytes as a query, guided by the code that they reach.

#![no_main]

mod exercise;

use libfuzzer_sys::fuzz_target;
use sidewatch::series::Store;
use std::cell::LazyCell;

thread_local! {
    static STORE: LazyCell<Store> = const { LazyCell::new(exercise::store) };
}

fuzz_target!(|bytes: &[u8]| {
    STORE.with(|store| exercise::exercise(store, bytes));
});
