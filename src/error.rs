//! Bad input: one clear message that says where, what, and what would be right.

use std::fmt::Display;
use std::path::Path;

/// Why a call could not be answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A file, a key or an argument is not what it should be.
    #[error("{place}: {message}")]
    Input {
        /// File with line, key path, or flag.
        place: String,
        /// What is wrong and what would be right.
        message: String,
    },
    /// The user stopped the work; what was finished is kept.
    #[error("interrupted: {0}")]
    Interrupted(String),
    /// What is asked rests on what other processes have not done yet.
    #[error("{0}")]
    Waiting(String),
    /// A part could not be written: not the question's fault, and to be tried again.
    #[error("{0}; try again")]
    Unwritten(String),
}

impl Error {
    /// Bad input at a place.
    pub fn input(place: impl Display, message: impl Display) -> Self {
        Self::Input { place: place.to_string(), message: message.to_string() }
    }

    /// A file that cannot be read or written.
    pub fn io(path: &Path, action: &str, error: &std::io::Error) -> Self {
        Self::input(path.display(), format!("cannot {action}: {error}"))
    }
}

/// The result of reading input.
pub type Result<T> = std::result::Result<T, Error>;
