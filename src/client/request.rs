//! One request, as the provider gets it.

use smallvec::SmallVec;

use crate::client::conversation::SegmentEnds;
use crate::client::key::PromptCacheKey;
use crate::client::workload::Breakpoint;
use crate::prompt::{Cursor, Mark, MarkKind, Marks, Prompt};
use crate::provider::routing::{MachineId, RoutingKey};
use crate::random::Draws;
use crate::units::Tokens;

/// Why a request is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Occasion {
    /// For its answer.
    Call,
    /// To renew what the session's last call left in the cache.
    KeepAlive,
    /// To write what the calls after it share.
    Warm,
}

impl Occasion {
    /// The name used in results.
    pub fn name(self) -> &'static str {
        match self {
            Self::Call => "call",
            Self::KeepAlive => "keep_alive",
            Self::Warm => "warm",
        }
    }
}

/// Where a response came from, and where its continuation must go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The upstream account.
    pub account: u32,
    /// The machine.
    pub machine: MachineId,
    /// Which regime of the provider it belongs to.
    pub regime: u32,
    /// Its routing key.
    pub routing_key: RoutingKey,
}

/// One request, as the provider gets it.
#[derive(Clone, Debug)]
pub struct Request {
    /// Number of the request within the run, from 0.
    pub call: u64,
    /// Line of the trace it was recorded on; 0 for generated traffic.
    pub line: u64,
    /// Number of the workload.
    pub workload: u32,
    /// Number of the session.
    pub session: u64,
    /// Its group in a sample.
    pub group: u8,
    /// Call within the session, from 0.
    pub turn: u32,
    /// Why it is sent.
    pub occasion: Occasion,
    /// How often it was tried before.
    pub attempt: u32,
    /// Whether it is given up if it fails.
    pub last_attempt: bool,
    /// The prompt_cache_key.
    pub key: PromptCacheKey,
    /// The upstream account, from 0.
    pub account: u32,
    /// Where the response came from that it continues, if it does.
    pub continues: Option<Place>,
    /// The routing key of its session's last response: probably its own.
    pub likely: Option<RoutingKey>,
    /// Whether it is so for sure: nothing that a routing key is made of can have changed.
    pub known: bool,
    /// Whether it continues another conversation's context.
    pub contaminated: bool,
    /// The prompt.
    pub prompt: Prompt,
    /// Ends of its segments, where the provider cares for them.
    pub marks: Marks,
    /// Tokens of the session's prompt before this one, 0 if there was none.
    pub previous: Tokens,
    /// Tokens of the answer, its reasoning included.
    pub output_tokens: Tokens,
    /// The place behind the answer, where a later prompt may repeat it.
    pub answered: Option<Cursor>,
    /// This request's draws.
    pub draws: Draws,
}

impl Request {
    /// The places behind which it, or what comes after it, may be stored.
    pub fn places(&self) -> impl Iterator<Item = Cursor> {
        [self.prompt.shareable].into_iter().chain(self.answered)
    }
}

impl SegmentEnds {
    /// Where the segments end that a client marks in this way.
    fn of(&self, breakpoint: Breakpoint) -> impl Iterator<Item = Tokens> {
        let (one, many) = match breakpoint {
            Breakpoint::Developer => (self.developer, None),
            Breakpoint::Context => (self.context, None),
            Breakpoint::History => (None, Some(&self.histories)),
            Breakpoint::Status => (self.status, None),
            Breakpoint::Message => (self.messages.last().copied(), None),
        };
        one.into_iter().chain(many.into_iter().flatten().copied())
    }

    /// The marks of a prompt, shallowest first.
    pub fn marks(&self, marked: &[Breakpoint]) -> Marks {
        let with = |kind| move |depth: Tokens| Mark { depth, kind };
        let is_somewhere = |mark: &Mark| mark.depth > 0;
        let developer = self.developer.map(with(MarkKind::Developer));
        let messages = self.messages.iter().copied().map(with(MarkKind::Message));
        let explicit = marked.iter().flat_map(|at| self.of(*at)).map(with(MarkKind::Explicit));
        let histories = if marked.contains(&Breakpoint::History) { self.histories.len() } else { 0 };
        // Room at once for as many as there can be.
        let mut marks = Marks::with_capacity(1 + self.messages.len() + marked.len() + histories);
        marks.extend(developer.filter(is_somewhere));
        marks.extend(messages.filter(is_somewhere));
        marks.extend(explicit.filter(is_somewhere));
        marks.sort_by_key(|mark| mark.depth);
        if !marked.is_empty() {
            // Two marked segments that end at one place are one mark.
            marks.dedup_by(|mark, before| {
                mark.depth == before.depth && mark.kind == MarkKind::Explicit && before.kind == mark.kind
            });
        }
        marks
    }

    /// Those of a prompt without a conversation: a developer block, and messages.
    pub fn alone(developer: Tokens, messages: SmallVec<[Tokens; 4]>) -> Self {
        Self { developer: (developer > 0).then_some(developer), messages, ..Self::default() }
    }
}
