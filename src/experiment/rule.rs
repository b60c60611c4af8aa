//! Rule: what can be wrong with requests, with its number, what to do about it, and what it rests on.
//!
//! A rule is a variant and a row. Numbers are for ever: new rules get new ones.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

use crate::document::nearest;

/// How much a finding weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Worth knowing.
    Note,
    /// It costs cached tokens, probably.
    Warning,
    /// It costs nearly all of them, or the provider refuses it.
    Error,
}

impl Severity {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// What is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Rule {
    /// No retention is asked for where the default is the shortest.
    ImplicitRetention = 1,
    /// A key of its own for every call.
    KeyPerCall = 2,
    /// More requests a minute under a key than its home takes.
    HotKey = 3,
    /// Text at the head of a prompt that changes from call to call.
    VolatileHead = 4,
    /// The same tools in another order.
    ToolOrder = 5,
    /// The same JSON with its keys in another order.
    JsonKeyOrder = 6,
    /// Too few tokens to be cached.
    BelowMinimum = 7,
    /// Nothing is stored for want of a mark.
    NoMarks = 8,
    /// More marks than are written.
    TooManyMarks = 9,
    /// A mark where none can be, or where nothing is stored.
    UselessMark = 10,
    /// A mark behind text that changes.
    MarkBehindVolatile = 11,
    /// Requests under one key that can share nothing.
    MixedKey = 12,
    /// A compaction that is not used for long enough.
    CostlyCompaction = 13,
    /// Reasoning that is not sent back.
    DroppedReasoning = 14,
    /// A phase that is not sent back.
    DroppedPhase = 15,
    /// Other tools within a session.
    ChangedTools = 16,
    /// Calls of one session under several keys.
    ScatteredSession = 17,
    /// A key that is used more rarely than what it stored lives.
    ColdKey = 18,
    /// A retention that the model does not have.
    UnsupportedRetention = 19,
    /// Traffic that has nothing, or everything, in common.
    NothingShared = 20,
    /// A setting of a scenario that changes nothing.
    NoEffect = 21,
    /// What the numbers of a scenario are not.
    LimitedAnswer = 22,
}

/// What there is to know of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// What it is called.
    pub name: &'static str,
    /// How much it weighs, if nothing more is known.
    pub severity: Severity,
    /// What is wrong.
    pub what: &'static str,
    /// What to do.
    pub fix: &'static str,
    /// What it rests on.
    pub source: &'static str,
}

impl Rule {
    /// All of them, by number.
    pub const ALL: [Self; 22] = [
        Self::ImplicitRetention,
        Self::KeyPerCall,
        Self::HotKey,
        Self::VolatileHead,
        Self::ToolOrder,
        Self::JsonKeyOrder,
        Self::BelowMinimum,
        Self::NoMarks,
        Self::TooManyMarks,
        Self::UselessMark,
        Self::MarkBehindVolatile,
        Self::MixedKey,
        Self::CostlyCompaction,
        Self::DroppedReasoning,
        Self::DroppedPhase,
        Self::ChangedTools,
        Self::ScatteredSession,
        Self::ColdKey,
        Self::UnsupportedRetention,
        Self::NothingShared,
        Self::NoEffect,
        Self::LimitedAnswer,
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        self.row().name
    }

    /// What there is to know of it.
    pub fn row(self) -> Row {
        match self {
            Self::ImplicitRetention
            | Self::UnsupportedRetention
            | Self::BelowMinimum
            | Self::NothingShared
            | Self::NoEffect
            | Self::LimitedAnswer => self.row_of_contract(),
            Self::KeyPerCall | Self::HotKey | Self::MixedKey | Self::ScatteredSession | Self::ColdKey => {
                self.row_of_keys()
            }
            Self::NoMarks | Self::TooManyMarks | Self::UselessMark | Self::MarkBehindVolatile => {
                self.row_of_marks()
            }
            _ => self.row_of_prompts(),
        }
    }

    /// Rules about what a provider offers at all.
    fn row_of_contract(self) -> Row {
        let row = |name, severity, what, fix, source| Row { name, severity, what, fix, source };
        match self {
            Self::ImplicitRetention => row(
                "implicit-retention",
                Severity::Warning,
                "no retention is asked for, and the model's default is its shortest",
                "set prompt_cache_retention (client.retention in a scenario) to the longer policy",
                "OpenAI guide: in_memory 5 to 10 minutes idle, 24h on models that list it; the default depends on model and organization",
            ),
            Self::UnsupportedRetention => row(
                "unsupported-retention",
                Severity::Error,
                "the retention asked for is not one the model has",
                "ask for a retention that the model lists, or for none",
                "OpenAI guide: 24h by model; GPT-5.5 refuses in_memory",
            ),
            Self::BelowMinimum => row(
                "below-minimum",
                Severity::Warning,
                "the prompt, or what calls under one key have in common, is shorter than anything that is cached",
                "put what all calls share first, or lengthen it to the minimum where the count of its uses pays for that",
                "OpenAI guide: 1,024 tokens; other vendors' pages: 64 to 4,096 by model (cachecast list providers)",
            ),
            Self::NothingShared => row(
                "nothing-shared",
                Severity::Warning,
                "prompts have nothing, or everything, in common: the answer is certain",
                "model what calls share (prefix_tokens) and what they do not (tail_tokens, tails)",
                "OpenAI guide: exact prefixes only",
            ),
            Self::NoEffect => row(
                "no-effect",
                Severity::Note,
                "a setting of the scenario has nothing to act on",
                "set what it acts on, or leave it out",
                "the simulation itself: cachecast list axes",
            ),
            _ => row(
                "limited-answer",
                Severity::Note,
                "what the numbers of the scenario are not",
                "read the results with this in mind",
                "the simulation itself: README, What it cannot know",
            ),
        }
    }

    /// Rules about keys.
    fn row_of_keys(self) -> Row {
        let row = |name, severity, what, fix, source| Row { name, severity, what, fix, source };
        match self {
            Self::KeyPerCall => row(
                "key-per-call",
                Severity::Error,
                "prompt_cache_key is another one with nearly every call",
                "make the key from what stays: the prompt's version and the session or user, nothing of the call",
                "OpenAI guide: the key is combined with the prefix to choose a machine; from GPT-5.6 on another key is a miss",
            ),
            Self::HotKey => row(
                "hot-key",
                Severity::Warning,
                "one key and prefix gets more requests a minute than one machine takes",
                "split the key into buckets, by user or session (cachecast recommend says how many)",
                "OpenAI guide: above about 15 requests a minute some go to further machines; cookbook, Prompt Caching 201: each of them is a miss once",
            ),
            Self::MixedKey => row(
                "mixed-key",
                Severity::Warning,
                "requests under one key differ in what caches are never shared across",
                "make model, tier and effort part of the key, and keep them for the length of a session",
                "OpenAI guide, What changes the prefix: model, effort, verbosity, format; its diagnostics page: service tier",
            ),
            Self::ScatteredSession => row(
                "scattered-session",
                Severity::Warning,
                "calls of one session go under several keys, and may miss what the others stored",
                "keep one key for a session: assign buckets by session or user",
                "OpenAI guide: the key is combined with the prefix to choose a machine",
            ),
            _ => row(
                "cold-key",
                Severity::Warning,
                "a key is used more rarely than what it stored lives",
                "use fewer keys, ask for a longer retention, or ping while that is cheaper",
                "OpenAI guide: lifetimes count from the last use; the profile's retention.lifetime",
            ),
        }
    }

    /// Rules about marks.
    fn row_of_marks(self) -> Row {
        let row = |name, severity, what, fix, source| Row { name, severity, what, fix, source };
        match self {
            Self::NoMarks => row(
                "no-marks",
                Severity::Error,
                "only what is marked is stored, and nothing is marked",
                "mark the end of what stays (tools and instructions, the latest message), or let the provider choose",
                "OpenAI guide: explicit mode without a breakpoint is no caching at all; Anthropic's prompt caching page: only what is marked",
            ),
            Self::TooManyMarks => row(
                "too-many-marks",
                Severity::Error,
                "more marks than one request may write",
                "keep the mark behind the instructions and the latest ones",
                "OpenAI guide and Anthropic's prompt caching page: four a request; the implicit one takes a place",
            ),
            Self::UselessMark => row(
                "useless-mark",
                Severity::Warning,
                "a mark where none is read, or before the minimum",
                "move it behind the last part that stays: a developer message in `input`, not `instructions`, and past the minimum",
                "OpenAI guide: `instructions` cannot carry a breakpoint, and nothing below 1,024 visible tokens is stored",
            ),
            _ => row(
                "mark-behind-volatile",
                Severity::Warning,
                "the only marks stand behind text that changes: what they store is not read again",
                "move the mark before what changes, or what changes behind the mark",
                "OpenAI guide: exact matches at breakpoints, no fallback to the longest unmarked prefix",
            ),
        }
    }

    /// Rules about how prompts are put together.
    fn row_of_prompts(self) -> Row {
        let row = |name, severity, what, fix, source| Row { name, severity, what, fix, source };
        match self {
            Self::VolatileHead => row(
                "volatile-head",
                Severity::Warning,
                "times, ids or listings stand early in the prompt: when they change, nothing behind them is read",
                "move it to the end, behind everything that stays, or round it (a date for a time)",
                "OpenAI guide: static content first, variable content last",
            ),
            Self::ToolOrder => row(
                "tool-order",
                Severity::Error,
                "the same tools are sent in another order",
                "sort the tools by name before sending them",
                "OpenAI guide, What changes the prefix: tools, their names, texts and order",
            ),
            Self::JsonKeyOrder => row(
                "json-key-order",
                Severity::Error,
                "the same tool or schema is sent with its keys in another order",
                "serialize with sorted keys, from ordered maps",
                "OpenAI guide, What changes the prefix: tools and text.format, as they are sent",
            ),
            Self::CostlyCompaction => row(
                "costly-compaction",
                Severity::Warning,
                "a compaction was not followed by enough calls to pay for the prefix it rebuilt",
                "compact later, or after a pause longer than the retention, when the prefix is cold anyway",
                "OpenAI guide, What changes the prefix: compaction; the profile's prices",
            ),
            Self::DroppedReasoning => row(
                "dropped-reasoning",
                Severity::Warning,
                "reasoning that an earlier call sent back is left out, and so moves what lies behind it",
                "send reasoning items back as they came, or go on from previous_response_id",
                "cookbook, Prompt Caching 201: reasoning kept through the Responses API uses the cache 40 to 80 % better",
            ),
            Self::DroppedPhase => row(
                "dropped-phase",
                Severity::Warning,
                "an assistant message has lost its `phase`: its header, and so the prefix, changes",
                "send the phase of every assistant message back as it came",
                "OpenAI API reference, assistant messages: preserve and resend phase on all of them; openai/codex#19832",
            ),
            _ => row(
                "changed-tools",
                Severity::Warning,
                "tools come, go or change within a session: nothing behind them is read",
                "send all tools from the start, and allow some of them by tool_choice (allowed_tools)",
                "OpenAI guide, What changes the prefix: tools; not allowed_tools, nor tool_choice",
            ),
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CC{:03}", *self as u8)
    }
}

impl FromStr for Rule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is = |rule: &Self| rule.to_string().eq_ignore_ascii_case(text) || rule.name() == text;
        let names = Self::ALL.into_iter().map(Self::name);
        Self::ALL.into_iter().find(is).ok_or_else(|| {
            let hint = nearest(text, names).map_or(String::new(), |near| format!("; did you mean `{near}`?"));
            format!("is no rule: they are CC001 to CC{:03}, or their names{hint}", Self::ALL.len())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_are_one_to_one_and_every_rule_says_what_it_rests_on() {
        for (index, rule) in Rule::ALL.into_iter().enumerate() {
            let row = rule.row();
            assert_eq!(rule.to_string(), format!("CC{:03}", index + 1));
            assert_eq!(
                [rule.to_string(), row.name.to_string()].map(|text| text.parse::<Rule>()),
                [Ok(rule), Ok(rule)]
            );
            assert!(row.what.len() > 20 && row.fix.len() > 20 && row.source.len() > 20, "{rule}");
        }
        let unknown = "hot-keys".parse::<Rule>().unwrap_err();
        assert!(unknown.contains("CC022") && unknown.ends_with("did you mean `hot-key`?"), "{unknown}");
    }
}
