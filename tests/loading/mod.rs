//! Scenarios of a test, loaded from its text.

use std::path::Path;

use cachecast::experiment::scenario::{Change, Loaded};

/// A scenario with other values at some paths: `path=value`, parted by blanks.
pub fn load(text: &str, changes: &str) -> Loaded {
    let changes: Vec<_> = changes.split_whitespace().map(|change| Change::parse(change).unwrap()).collect();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    Loaded::from_text("test", "test.toml", text, folder, &changes).unwrap_or_else(|error| panic!("{error}"))
}
