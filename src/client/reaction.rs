//! What a client does after a miss, between calls and after a failure.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::prompt::Run;
use crate::random::{SessionKey, fold};
use crate::units::{MOST_TOKENS, SimTime, Span, Tokens};

/// A workload's reactions. Each session reacts to what it sees of its own calls.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Reaction {
    /// What is done after misses.
    pub after_miss: AfterMiss,
    /// A call counts as a miss if its cached tokens are below this share of the session's previous prompt (or of
    /// this one, if that is shorter).
    pub miss_below: f64,
    /// How many misses in a row it takes.
    pub misses: u32,
    /// For how many calls the status block is left out (after_miss = pause_status).
    pub pause_calls: u32,
    /// Tokens behind the base above which a session rebases again (after_miss = rebase).
    pub rebase_above: Tokens,
    /// Tokens at the head of every prompt that a rebase changes (after_miss = rebase).
    pub rebase_head_tokens: Tokens,
    /// Clean calls in a row that make a rebase, each behind a new head (after_miss = rebase): 2 is "bust twice".
    pub rebase_calls: u32,
    /// Time since its last call after which a session repeats it to keep it alive; absent (or unlimited) never.
    pub keep_alive: Option<Span>,
    /// Most repetitions between two calls; after the last call of a session all of them are sent, since a client
    /// does not know that its user is gone.
    pub keep_alive_most: u32,
    /// How often a failed call is tried again before its session is given up.
    pub retries: u32,
    /// Wait before the first retry; doubled before each further one.
    pub back_off: Span,
}

impl Default for Reaction {
    fn default() -> Self {
        Self {
            after_miss: AfterMiss::Nothing,
            miss_below: 0.5,
            misses: 1,
            pause_calls: 10,
            rebase_above: 20_000,
            rebase_head_tokens: 16,
            rebase_calls: 1,
            keep_alive: None,
            keep_alive_most: 12,
            retries: 3,
            back_off: Span::from_seconds(2),
        }
    }
}

/// What a session does after misses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AfterMiss {
    /// Nothing.
    Nothing,
    /// Leaves the status block out of the next calls.
    PauseStatus,
    /// Breaks the prefix on purpose with a changed head, writes the conversation clean (without status block), and
    /// lets the tail, status block included, grow behind that base; again when the tail is too long, or missed.
    Rebase,
    /// Salts its key anew.
    RotateKey,
}

/// Most repetitions of one request, to keep alive or after failures.
const MOST_REPETITIONS: u32 = 10_000;

impl Reaction {
    /// Checks what the types cannot say; the error names the field.
    pub fn validate(&self) -> Result<(), (&'static str, String)> {
        if !(0.0..=1.0).contains(&self.miss_below) {
            return Err(("miss_below", "must be from 0 to 1".into()));
        }
        let counts = [
            ("misses", self.misses),
            ("pause_calls", self.pause_calls),
            ("rebase_head_tokens", self.rebase_head_tokens),
            ("rebase_calls", self.rebase_calls),
            ("keep_alive_most", self.keep_alive_most),
        ];
        for (field, count) in counts {
            if count == 0 {
                return Err((field, "must be 1 or more".into()));
            }
        }
        if self.rebase_head_tokens > MOST_TOKENS {
            return Err(("rebase_head_tokens", format!("must be {MOST_TOKENS} or less")));
        }
        for (field, count) in [("keep_alive_most", self.keep_alive_most), ("retries", self.retries)] {
            if count > MOST_REPETITIONS {
                return Err((field, format!("must be {MOST_REPETITIONS} or less")));
            }
        }
        if self.keep_alive.is_some_and(|every| every < Span::from_seconds(1)) {
            return Err(("keep_alive", "must be 1s or more (\"unlimited\" for never)".into()));
        }
        Ok(())
    }

    /// Wait before a retry, counted from 0.
    pub fn wait(&self, retry: u32) -> Span {
        self.back_off.times(1 << retry.min(32))
    }
}

/// What one session has seen of its calls, and what it will do about it.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Misses in a row.
    misses: u32,
    /// Calls that still leave the status block out.
    paused: u32,
    /// Clean calls of a rebase still to be made.
    rebase_calls: u32,
    /// Heads used up by rebases.
    rebased: u32,
    /// Tokens of the base, once there is one.
    base: Option<Tokens>,
    /// How often the key was salted anew.
    pub rotations: u32,
}

/// One call as its client sees it.
#[derive(Clone, Copy, Debug)]
pub struct Seeing {
    /// Tokens of the session's prompt before, 0 if there was none.
    pub previous: Tokens,
    /// Tokens of the prompt.
    pub prompt: Tokens,
    /// Tokens reported as cached.
    pub cached: Tokens,
}

impl Seen {
    /// What stands at the head of the next prompt for the sake of rebases.
    pub fn nonce(seen: Option<&Self>, reaction: &Reaction, session: SessionKey) -> Option<Run> {
        (reaction.after_miss == AfterMiss::Rebase).then(|| {
            // Until its first rebase a session has the head that all others have.
            let rebased = seen.map_or(0, |seen| seen.rebased);
            let content = if rebased == 0 { 0 } else { fold(session.0, u64::from(rebased)) };
            Run::piece(fold(content, 2), reaction.rebase_head_tokens)
        })
    }

    /// Whether the next call leaves the status block out.
    pub fn pauses_status(&self) -> bool {
        self.paused > 0
    }

    /// Whether the next call is a clean one of a rebase; if so, behind a new head.
    pub fn begins_rebase(&mut self) -> bool {
        let rebases = self.rebase_calls > 0;
        self.rebased += u32::from(rebases);
        rebases
    }

    /// Takes in the outcome of a call.
    pub fn call(&mut self, reaction: &Reaction, Seeing { previous, prompt, cached }: Seeing) {
        self.paused = self.paused.saturating_sub(1);
        if self.rebase_calls > 0 {
            // A clean call misses on purpose.
            self.rebase_calls -= 1;
            self.base = Some(prompt);
            self.misses = 0;
            return;
        }
        let expected = f64::from(previous.min(prompt)) * reaction.miss_below;
        let missed = previous > 0 && f64::from(cached) < expected;
        self.misses = if missed { self.misses + 1 } else { 0 };
        let enough = self.misses >= reaction.misses;
        match reaction.after_miss {
            AfterMiss::Nothing => {}
            AfterMiss::PauseStatus if enough => self.paused = reaction.pause_calls,
            AfterMiss::Rebase => {
                let tail = self.base.map_or(0, |base| prompt.saturating_sub(base));
                if enough || tail > reaction.rebase_above {
                    self.rebase_calls = reaction.rebase_calls;
                }
            }
            AfterMiss::RotateKey if enough => {
                self.rotations += 1;
                self.misses = 0;
            }
            AfterMiss::PauseStatus | AfterMiss::RotateKey => {}
        }
    }
}

/// What a session waits for between two calls.
#[derive(Clone, Copy, Debug)]
pub struct KeepAlive {
    /// Its next call, if there is one.
    pub call: Option<SimTime>,
    /// Repetitions already sent since its last call.
    pub sent: u32,
}

impl KeepAlive {
    /// The moment of the next repetition after a request that arrived at `last` and was complete at `complete`, if
    /// it comes before the next call.
    pub fn next(&self, reaction: &Reaction, last: SimTime, complete: SimTime) -> Option<SimTime> {
        let at = (last + reaction.keep_alive?).max(complete);
        (self.sent < reaction.keep_alive_most && self.call.is_none_or(|call| at < call)).then_some(at)
    }
}
