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

/// A text without what a terminal would take for a command, or that turns the direction of reading.
pub fn printable(text: &str) -> String {
    let is_plain =
        |c: char| !c.is_control() && !matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    if text.chars().all(is_plain) {
        return text.to_string();
    }
    let shown = |c: char| if is_plain(c) { c.to_string() } else { c.escape_default().to_string() };
    text.chars().map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_command_a_terminal_is_shown_as_text() {
        assert_eq!(printable("\u{1b}[31mred\n\u{202e}x ü 漢"), "\\u{1b}[31mred\\n\\u{202e}x ü 漢");
    }
}
