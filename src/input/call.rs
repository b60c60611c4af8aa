//! Call: one request of a user's log, whichever form the log has.
//!
//! Every reader of logs and bodies gives these. Text is in them until it is [rendered](crate::input::render) to tokens,
//! and nowhere else; `Debug` shows its length only.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::units::{SimTime, Span, Tokens};

/// One request of a log.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Call {
    /// Line it stands on, from 1; of a transcript, the line of what was answered.
    pub line: u64,
    /// When it was sent, since 1970; `None` if the log does not say.
    pub time: Option<SimTime>,
    /// The conversation it belongs to.
    pub session: Option<String>,
    /// The `prompt_cache_key` that was sent.
    pub key: Option<String>,
    /// What identifies the whole prompt, where the log has that in place of a body: equal names, equal prompts.
    pub prompt: Option<String>,
    /// What stands for the first tokens, which routing looks at, where a trace has that in place of a body.
    pub head: Option<u64>,
    /// What was sent beside the text.
    pub settings: Settings,
    /// What was sent; `None` if the log keeps usage only.
    pub body: Option<Body>,
    /// Whether the provider puts what it stored of earlier responses before the body (`previous_response_id`,
    /// `conversation`): the body is then the end of the prompt only.
    pub continues: bool,
    /// What was billed.
    pub usage: Usage,
    /// Time to first token.
    pub ttft: Option<Span>,
    /// Time until the answer was complete.
    pub total: Option<Span>,
}

/// What is sent beside the text of a prompt.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Settings {
    /// What two requests must have in common to share anything: `model`, `service_tier`, `reasoning.effort`,
    /// `text.verbosity`, `text.format`, `parallel_tool_calls`, by the name of the field.
    pub prefix: BTreeMap<&'static str, String>,
    /// The retention policy asked for: `in_memory`, `24h`, or a lifetime such as `5m`, `1h`, `30m`.
    pub retention: Option<String>,
    /// Whether the client opted out of implicit breakpoints (`prompt_cache_options.mode = "explicit"`).
    pub explicit_only: bool,
}

/// The text of a prompt, part by part, in the order in which it is rendered: tools, instructions, input.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Body {
    /// The parts.
    pub parts: Vec<Part>,
}

/// A stretch of a prompt: one value of the request's JSON.
#[derive(Clone, PartialEq, Eq)]
pub struct Part {
    /// Path of the value: `input[312].content[0].text`. Names of a user's own (inside a schema or a tool's arguments) are
    /// never in it: it ends before them.
    pub path: String,
    /// Who speaks.
    pub role: Role,
    /// What is said.
    pub content: Content,
    /// Whether a message begins with it: the provider then adds tokens of its own.
    pub opens_message: bool,
    /// Whether a message ends with it.
    pub ends_message: bool,
    /// Whether the client marked its end (`prompt_cache_breakpoint`, `cache_control`).
    pub marked: bool,
    /// The `phase` of the assistant's message that begins with it, a word of the API's (`commentary`, `final_answer`).
    pub phase: Option<String>,
}

/// What a part says.
#[derive(Clone, PartialEq, Eq)]
pub enum Content {
    /// Text: words, or the compact JSON of a tool or a call, with its keys in the order sent.
    Text(String),
    /// Something of declared size: an image, a file.
    Sized {
        /// How many tokens it counts for.
        tokens: Tokens,
        /// What tells it apart from others.
        digest: u64,
    },
    /// What stands for a text in an anonymized log.
    Hashed {
        /// What tells the whole part apart from others.
        digest: u64,
        /// Its stretches, each by its hash and with its tokens: within one log, prompts that begin alike begin with the
        /// same ones.
        stretches: Vec<(u64, Tokens)>,
    },
}

/// Who speaks in a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The list of tools.
    Tools,
    /// Instructions: a system or developer message.
    Developer,
    /// The user.
    User,
    /// The model.
    Assistant,
    /// The model calls a tool.
    ToolCall,
    /// A tool answers.
    ToolResult,
    /// The model's reasoning, as far as it is sent back.
    Reasoning,
}

/// What was billed for a call; `None` where the log does not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// The whole prompt, cached tokens included, whichever way the vendor counts.
    pub prompt_tokens: Option<Tokens>,
    /// Of them, read from the cache.
    pub cached_tokens: Option<Tokens>,
    /// Of them, written to the cache.
    pub written_tokens: Option<Tokens>,
    /// The answer, its reasoning included.
    pub output_tokens: Option<Tokens>,
}

impl Part {
    /// A part with words, in the middle of nothing.
    pub fn text(path: impl Into<String>, role: Role, text: impl Into<String>) -> Self {
        let content = Content::Text(text.into());
        Self {
            path: path.into(),
            role,
            content,
            opens_message: false,
            ends_message: false,
            marked: false,
            phase: None,
        }
    }
}

impl fmt::Debug for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, role, content, .. } = self;
        write!(f, "{path} ({role:?}): {content:?}")
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => write!(f, "{} bytes of text", text.len()),
            Self::Sized { tokens, .. } => write!(f, "{tokens} tokens"),
            Self::Hashed { stretches, .. } => write!(f, "{} stretches of hashed text", stretches.len()),
        }
    }
}

impl Settings {
    /// Every name that [`prefix`](Self::prefix) may have.
    pub const NAMES: [&str; 6] =
        ["model", "service_tier", "reasoning.effort", "text.verbosity", "text.format", "parallel_tool_calls"];
}

impl Role {
    /// The word for it in output and in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tools => "tools",
            Self::Developer => "developer",
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::ToolCall => "tool_call",
            Self::ToolResult => "tool_result",
            Self::Reasoning => "reasoning",
        }
    }
}

impl Usage {
    /// Checks that the counts do not contradict each other.
    pub fn check(&self) -> Result<(), String> {
        let Self { prompt_tokens, cached_tokens, written_tokens, .. } = *self;
        let Some(prompt) = prompt_tokens else { return Ok(()) };
        let parts = [("cached", cached_tokens), ("written", written_tokens)];
        for (name, part) in parts {
            if part.is_some_and(|part| part > prompt) {
                let part = part.unwrap_or(0);
                return Err(format!("{part} {name} tokens of a prompt of {prompt} tokens cannot be"));
            }
        }
        let both = u64::from(cached_tokens.unwrap_or(0)) + u64::from(written_tokens.unwrap_or(0));
        if both > u64::from(prompt) {
            return Err(format!("{both} cached and written tokens of a prompt of {prompt} tokens cannot be"));
        }
        Ok(())
    }
}
