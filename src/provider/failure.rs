//! Calls that fail: how often, by the way in which they are made, and what they leave behind.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How a client makes its calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Execution {
    /// One request, one answer, over a connection that must hold for all of it.
    #[default]
    Foreground,
    /// The answer comes token by token.
    Stream,
    /// The provider works in the background and the client polls.
    Background,
}

/// How often calls fail. No vendor documents a number: the defaults are that none does.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Failures {
    /// Probability that a foreground call fails.
    pub foreground: f64,
    /// Probability that a streamed call fails.
    pub stream: f64,
    /// Probability that a background call fails.
    pub background: f64,
    /// Whether a failed call has written to the cache (and renewed what it read) all the same.
    pub failed_writes: bool,
}

impl Failures {
    /// Checks what the types cannot say; the error names the field.
    pub fn validate(&self) -> Result<(), (&'static str, String)> {
        for (field, probability) in
            [("foreground", self.foreground), ("stream", self.stream), ("background", self.background)]
        {
            if !(0.0..=1.0).contains(&probability) {
                return Err((field, "must be from 0 to 1".into()));
            }
        }
        Ok(())
    }

    /// Probability that a call made in this way fails. It fails when its first token would come, and is not billed.
    pub fn probability(&self, execution: Execution) -> f64 {
        match execution {
            Execution::Foreground => self.foreground,
            Execution::Stream => self.stream,
            Execution::Background => self.background,
        }
    }
}
