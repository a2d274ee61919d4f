//! The two usual ways to load: from the system that the program runs on, and from a text.

use super::{Config, Diagnostics, LoadOptions, Overrides, load};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

/// Loads a file (or the defaults) with the environment of this process.
pub fn load_from_system(file: Option<&Path>, overrides: &Overrides) -> (Option<Config>, Diagnostics) {
    let env: BTreeMap<String, String> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    load(&LoadOptions {
        file: file.map(Path::to_owned),
        env: &env,
        overrides: overrides.clone(),
        read_file: &|path| std::fs::read_to_string(path),
    })
}

/// Loads a text as if it stood in a file of that name; every other file is there as it is on disk. `env` is the whole
/// environment that counts.
pub fn load_text(
    name: &str,
    text: &str,
    env: &BTreeMap<String, String>,
    overrides: &Overrides,
) -> (Option<Config>, Diagnostics) {
    let read_file = |path: &Path| -> io::Result<String> {
        if path == Path::new(name) { Ok(text.to_owned()) } else { std::fs::read_to_string(path) }
    };
    load(&LoadOptions { file: Some(PathBuf::from(name)), env, overrides: overrides.clone(), read_file: &read_file })
}
