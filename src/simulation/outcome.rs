//! What happened to one request, and why its uncached tokens were uncached.

use crate::client::key::PromptCacheKey;
use crate::client::request::Occasion;
use crate::provider::machine::Timing;
use crate::provider::routing::{MachineId, RoutingKey};
use crate::units::{SimTime, Span, Tokens};

/// Why a prompt token was not read from the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Cause {
    /// Nobody sent this before.
    New,
    /// The session's own previous prompt reached this far, but with other text: an edit, a changed head, and
    /// what follows it.
    Changed,
    /// It was sent before, but the write semantics stored no boundary there.
    Unwritten,
    /// It was stored in another partition, account or backend.
    OtherAccount,
    /// It was stored under a key that this request may not read.
    OtherKey,
    /// It was stored, but not visible yet.
    NotYetVisible,
    /// It was stored on another machine: overflow, a pool, no affinity.
    OtherMachine,
    /// It was stored here and has expired.
    Expired,
    /// It was stored here and has been replaced, or evicted for want of room.
    Evicted,
    /// Lost to the boundary interval or to the rules of the report.
    Rounding,
}

impl Cause {
    /// Every cause, in the order in which tokens are lost.
    pub const ALL: [Self; 10] = [
        Self::New,
        Self::Changed,
        Self::Unwritten,
        Self::OtherAccount,
        Self::OtherKey,
        Self::NotYetVisible,
        Self::OtherMachine,
        Self::Expired,
        Self::Evicted,
        Self::Rounding,
    ];

    /// The name used in results.
    pub fn name(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Changed => "changed",
            Self::Unwritten => "unwritten",
            Self::OtherAccount => "other_account",
            Self::OtherKey => "other_key",
            Self::NotYetVisible => "not_yet_visible",
            Self::OtherMachine => "other_machine",
            Self::Expired => "expired",
            Self::Evicted => "evicted",
            Self::Rounding => "rounding",
        }
    }
}

/// The uncached tokens of one request by cause, and what better caches would have read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attribution {
    /// Tokens by cause, in the order of [`Cause::ALL`]; they add up to `prompt - cached`.
    pub lost: [Tokens; Cause::ALL.len()],
    /// What one infinite cache would have read.
    pub ceiling_infinite: Tokens,
    /// What one cache with this lifetime, but perfect routing, would have read.
    pub ceiling_lifetime: Tokens,
}

/// One request, from arrival to answer.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    /// Number of the request within the run, from 0.
    pub call: u64,
    /// Line of the trace it was recorded on; 0 for generated traffic.
    pub line: u64,
    /// Number of the workload.
    pub workload: u32,
    /// Number of the session.
    pub session: u64,
    /// Its group in a sample of the traffic; 0 for what is simulated whole.
    pub group: u8,
    /// Call within the session, from 0.
    pub turn: u32,
    /// Why it was sent.
    pub occasion: Occasion,
    /// How often it was tried before.
    pub attempt: u32,
    /// Whether it failed: no answer, no bill.
    pub failed: bool,
    /// Whether it failed and is not tried again: what would have come after it is lost.
    pub given_up: bool,
    /// Whether it continued another conversation's context.
    pub contaminated: bool,
    /// Number of the partition as the scenario names it.
    pub named_partition: u32,
    /// Number of the partition; each account of a gateway and each backend has one of its own.
    pub partition: u32,
    /// The prompt_cache_key.
    pub key: PromptCacheKey,
    /// Which provider served it, where one follows another: each numbers its routing keys anew.
    pub regime: u32,
    /// The routing key.
    pub routing_key: RoutingKey,
    /// When it arrived.
    pub arrival: SimTime,
    /// Where it was served.
    pub machine: MachineId,
    /// Whether a full home machine sent it elsewhere.
    pub overflowed: bool,
    /// Requests in flight on all machines, this one included.
    pub in_flight: u32,
    /// Tokens of the prompt.
    pub prompt: Tokens,
    /// Tokens read from the cache, as reported.
    pub cached: Tokens,
    /// Tokens written: those between what was read and the deepest boundary written.
    pub written: Tokens,
    /// Tokens of the answer.
    pub output: Tokens,
    /// Queue wait, time to first token and total latency.
    pub timing: Timing,
    /// Lifetime drawn for what it writes and renews.
    pub lifetime: Span,
    /// When its write and renewals become visible.
    pub visible_at: SimTime,
    /// Why uncached tokens were uncached; `None` if attribution is off.
    pub attribution: Option<Attribution>,
}
