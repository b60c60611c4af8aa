//! Write semantics: at which depths of a prompt a machine may resume it later.
//!
//! What a request stores are *boundaries*; a read takes the deepest live boundary on the prompt's own path, and
//! the report turns it into `cached_tokens`. Everything known about hosted caches is a choice of boundaries.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use smallvec::{SmallVec, smallvec};

use crate::prompt::{Cursor, Mark, MarkKind, PrefixTree, Prompt};
use crate::units::{MOST_TOKENS, SimTime, Span, Tokens};

/// Where one request writes: a few places on its own path.
pub type Places = SmallVec<[Cursor; 2]>;

/// The body a request stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The part that some later prompt may share.
    pub shareable: Cursor,
    /// Tokens after it that no later prompt will contain.
    pub unique_tail: Tokens,
}

impl Stored {
    fn tokens(&self) -> Tokens {
        self.shareable.depth.saturating_add(self.unique_tail)
    }
}

/// The depths of these places.
pub type Depths = SmallVec<[Tokens; 4]>;

/// Which boundaries a request writes, when, and how a read is reported.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Write {
    /// Which depths become boundaries.
    pub semantics: Semantics,
    /// Tokens between boundaries, counted from the start of the hidden system message (partial_prefix,
    /// first_tokens).
    pub interval: Tokens,
    /// Tokens past which nothing is stored (first_tokens).
    pub first_tokens: Tokens,
    /// Whether the end of the latest user or tool message is a breakpoint (breakpoints).
    pub implicit_breakpoint: bool,
    /// Whether the end of the leading developer block is a breakpoint (breakpoints).
    pub developer_breakpoint: bool,
    /// Most boundaries one request writes (breakpoints): the implicit ones, then the latest explicit marks.
    pub max_writes: u32,
    /// What a look-back counts (breakpoints).
    pub look_back_unit: LookBack,
    /// How many of them before its own end a request looks back at (breakpoints).
    pub look_back: u32,
    /// How many of its own explicit marks a request looks at, counted from its first (breakpoints).
    pub first_marks: u32,
    /// How many of its own explicit marks a request looks at, counted from its latest (breakpoints).
    pub latest_marks: u32,
    /// Tokens of the provider's hidden system message before the prompt.
    pub hidden_tokens: Tokens,
    /// Whether that message holds today's date: then nothing written before a midnight of simulated time matches
    /// after it.
    pub hidden_date: bool,
    /// Fewest cached tokens that are reported (or written) at all.
    pub min_tokens: Tokens,
    /// Step to which cached_tokens are rounded down; 1 reports exactly.
    pub report_step: Tokens,
    /// Whether the last token is always computed, so that at most prompt - 1 tokens are cached.
    pub computes_last_token: bool,
    /// How far the stored body reaches: the prompt, its answer too, or reasoning that is never sent back
    /// (partial_prefix, whole_body).
    pub body: Body,
    /// When a request writes.
    pub when: When,
    /// How many bodies a routing key keeps on one machine.
    pub bodies: Bodies,
    /// Most distinct live tokens that one machine's store holds, where a prefix that many prompts share counts once.
    /// Above it the boundaries that were used longest ago are evicted, the deepest first. Unlimited if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity_tokens: Option<u64>,
    /// The moment at which a write becomes visible to other requests.
    pub visible: Visible,
    /// Time added to that moment.
    pub lag: Span,
}

/// Which depths a request writes as boundaries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Semantics {
    /// Every `interval` tokens, up to the end of the prompt: the deepest shared one can be read.
    PartialPrefix,
    /// As partial_prefix, but nothing past the first `first_tokens` of the prompt: a floor that never grows.
    FirstTokens,
    /// One, at the very end of the body: readable only if the whole stored body is a prefix of the new one.
    WholeBody,
    /// At the ends of segments: the latest message, the developer block, explicit marks. Readable exactly there,
    /// and only where the reader looks.
    Breakpoints,
}

/// What a look-back counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LookBack {
    /// Ends of messages: a request finds what earlier requests wrote at the ends of theirs.
    Message,
    /// The request's own breakpoints: a request finds only what it marks itself.
    Breakpoint,
}

/// Which marks of its prompts a provider cares for: what a client must remember of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MarksWanted {
    /// Ends of the latest messages.
    pub messages: usize,
    /// Explicit marks from the first on.
    pub first: usize,
    /// The latest explicit marks.
    pub latest: usize,
}

impl MarksWanted {
    /// What two providers look at.
    pub fn and(self, other: Self) -> Self {
        Self {
            messages: self.messages.max(other.messages),
            first: self.first.max(other.first),
            latest: self.latest.max(other.latest),
        }
    }
}

/// Where a request looks for boundaries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readable {
    /// At every depth.
    Everywhere,
    /// At these depths only.
    At(SmallVec<[Tokens; 8]>),
}

impl Readable {
    /// Whether it looks at this depth.
    pub fn allows(&self, depth: Tokens) -> bool {
        match self {
            Self::Everywhere => true,
            Self::At(depths) => depths.contains(&depth),
        }
    }
}

/// What a request stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Body {
    /// The prompt.
    Prompt,
    /// The prompt and its answer, as a later prompt may repeat it.
    PromptAndOutput,
    /// The prompt and hidden reasoning that no later prompt contains: nothing single at its end can be read.
    PromptAndReasoning,
}

/// When a request writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum When {
    /// Every request.
    Always,
    /// Only a request that read nothing.
    OnMiss,
    /// Only while no body of this routing key is alive on this machine.
    Once,
}

/// How many bodies a routing key keeps on one machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Bodies {
    /// Any number.
    Unbounded,
    /// One: a write replaces it.
    One,
}

/// The moment at which a write becomes visible.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Visible {
    /// When the request arrives.
    Arrival,
    /// When its first token comes.
    FirstToken,
    /// When its answer is complete.
    Completion,
}

impl Write {
    /// Checks what the types cannot say; the error names the field.
    pub fn validate(&self) -> Result<(), (&'static str, String)> {
        let positive = [
            ("interval", self.interval),
            ("first_tokens", self.first_tokens),
            ("report_step", self.report_step),
            ("max_writes", self.max_writes),
            ("look_back", self.look_back),
        ];
        for (field, value) in positive {
            if value == 0 {
                return Err((field, "must be 1 or more".into()));
            }
        }
        let bounded = [("hidden_tokens", self.hidden_tokens), ("min_tokens", self.min_tokens)];
        for (field, value) in bounded.into_iter().chain(positive) {
            if value > MOST_TOKENS {
                return Err((field, format!("must be {MOST_TOKENS} or less")));
            }
        }
        let least = u64::from(self.min_tokens.max(1));
        if self.capacity_tokens.is_some_and(|capacity| capacity < least) {
            return Err(("capacity_tokens", format!("must be {least} or more, the least that can be read")));
        }
        Ok(())
    }

    /// The date in the hidden system message of a request that arrives now, by number; 0 if it holds none.
    pub fn date(&self, now: SimTime) -> u64 {
        if self.hidden_date { 1 + now.0 / Span::DAY.0 } else { 0 }
    }

    /// Whether a write at one depth also stores the boundaries before it.
    pub fn covers(&self) -> bool {
        match self.semantics {
            Semantics::PartialPrefix | Semantics::FirstTokens => true,
            Semantics::WholeBody | Semantics::Breakpoints => false,
        }
    }

    /// Whether every request writes all of its prompt, or of its beginning, for everybody and without bounds.
    pub fn is_plain(&self) -> bool {
        let always = self.when == When::Always && self.bodies == Bodies::Unbounded;
        let unbounded = self.capacity_tokens.is_none() && !self.hidden_date;
        self.covers() && always && unbounded && self.body == Body::Prompt
    }

    /// Whether what a routing key wrote must be known apart from what other keys wrote.
    pub fn by_owner(&self) -> bool {
        self.when == When::Once || self.bodies == Bodies::One
    }

    /// The deepest boundary at or before `depth`, in visible tokens, of prompts that were written to that depth.
    #[inline(always)]
    pub fn boundary(&self, depth: Tokens) -> Tokens {
        match self.semantics {
            Semantics::PartialPrefix | Semantics::FirstTokens => {
                let from_hidden_start = depth.saturating_add(self.hidden_tokens);
                (from_hidden_start - from_hidden_start % self.interval).saturating_sub(self.hidden_tokens)
            }
            Semantics::WholeBody | Semantics::Breakpoints => depth,
        }
    }

    /// The depths a request writes to. A boundary below the minimum could never be read, and is not written.
    #[inline(always)]
    pub fn depths(&self, body: &Stored, marks: &[Mark]) -> Depths {
        let end = body.tokens();
        let is_stored = |depth: &Tokens| self.boundary(*depth) >= self.min_tokens;
        let one = |depth| if is_stored(&depth) { smallvec![depth] } else { Depths::new() };
        match self.semantics {
            Semantics::PartialPrefix | Semantics::FirstTokens => one(self.covered(body)),
            Semantics::WholeBody => one(end),
            Semantics::Breakpoints => {
                self.own_breakpoints(marks).take(self.max_writes as usize).filter(is_stored).collect()
            }
        }
    }

    /// The depth to which a request covers its prompt.
    #[inline(always)]
    pub fn covered(&self, body: &Stored) -> Tokens {
        match self.semantics {
            Semantics::FirstTokens => body.tokens().min(self.first_tokens),
            _ => body.tokens(),
        }
    }

    /// The body that a prompt stores, with `answered` as the place behind its answer.
    #[inline(always)]
    pub fn stored(&self, prompt: &Prompt, output: Tokens, answered: Option<Cursor>) -> Stored {
        let Prompt { shareable, unique_tail, .. } = *prompt;
        match (self.body, answered) {
            (Body::Prompt, _) => Stored { shareable, unique_tail },
            (Body::PromptAndOutput, Some(shareable)) if unique_tail == 0 => Stored { shareable, unique_tail },
            // An answer that no later prompt repeats, or reasoning of unknown length, is the body's own.
            (Body::PromptAndOutput, _) => {
                Stored { shareable, unique_tail: unique_tail.saturating_add(output) }
            }
            (Body::PromptAndReasoning, _) => Stored { shareable, unique_tail: unique_tail.saturating_add(1) },
        }
    }

    /// A request's own breakpoints in the order in which they are written.
    fn own_breakpoints(&self, marks: &[Mark]) -> impl Iterator<Item = Tokens> {
        let latest = |kind| marks.iter().rev().filter(move |mark| mark.kind == kind).map(|mark| mark.depth);
        // A depth counts once, whatever ends there.
        let implicit = latest(MarkKind::Message).take(usize::from(self.implicit_breakpoint));
        let developer = latest(MarkKind::Developer).take(usize::from(self.developer_breakpoint));
        let mut seen = Depths::new();
        let explicit = latest(MarkKind::Explicit).take(self.latest_marks as usize);
        implicit.chain(developer).chain(explicit).filter(move |depth| {
            let fresh = !seen.contains(depth);
            if fresh {
                seen.push(*depth);
            }
            fresh
        })
    }

    /// Which marks a request looks at.
    pub fn marks_wanted(&self) -> MarksWanted {
        let messages = match (self.semantics, self.look_back_unit) {
            (Semantics::Breakpoints, LookBack::Message) => self.look_back.saturating_add(1),
            (Semantics::Breakpoints, LookBack::Breakpoint) => 1,
            _ => return MarksWanted::default(),
        };
        MarksWanted {
            messages: messages as usize,
            first: self.first_marks as usize,
            latest: self.latest_marks as usize,
        }
    }

    /// Where a request looks for boundaries: at its own breakpoints and, by look-back, at the ends of its earlier
    /// messages.
    #[inline(always)]
    pub fn readable(&self, marks: &[Mark]) -> Readable {
        if self.semantics != Semantics::Breakpoints {
            return Readable::Everywhere;
        }
        let own = self.own_breakpoints(marks);
        let looked_back = self.look_back as usize;
        match self.look_back_unit {
            LookBack::Breakpoint => Readable::At(own.take(looked_back).collect()),
            LookBack::Message => {
                let is_message =
                    |mark: &&Mark| matches!(mark.kind, MarkKind::Message | MarkKind::PassedMessage);
                let messages = marks.iter().rev().filter(is_message);
                let messages = messages.take(looked_back + 1).map(|mark| mark.depth);
                let first = marks.iter().filter(|mark| mark.kind == MarkKind::Explicit);
                let first = first.take(self.first_marks as usize).map(|mark| mark.depth);
                // Room at once for every mark, and again for the developer's and the latest message, which are its own.
                let mut depths = SmallVec::with_capacity(marks.len() + 2);
                depths.extend(own);
                depths.extend(messages);
                depths.extend(first);
                Readable::At(depths)
            }
        }
    }

    /// The deepest of these boundaries; 0 if there is none.
    #[inline(always)]
    pub fn deepest(&self, depths: &[Tokens]) -> Tokens {
        depths.iter().map(|depth| self.boundary(*depth)).max().unwrap_or(0)
    }

    /// The places at these depths of a body whose boundaries a later prompt can read: nobody can reach a single
    /// boundary inside a tail that only this body has.
    #[inline(always)]
    pub fn places(&self, tree: &PrefixTree, body: &Stored, depths: &[Tokens]) -> Places {
        let shareable = body.shareable;
        if let [depth] = depths
            && *depth >= shareable.depth
        {
            // The end of a body, most often.
            let reachable = self.covers() || *depth == shareable.depth;
            return if reachable { smallvec![shareable] } else { Places::new() };
        }
        let reachable = |depth: &&Tokens| self.covers() || **depth <= shareable.depth;
        depths.iter().filter(reachable).map(|depth| tree.ancestor(shareable, *depth)).collect()
    }

    /// The boundaries at these depths that lie in the tail that only this body has: nobody can read them, but they
    /// take room. For a write that covers, the deepest one stands for those before it.
    pub fn tail_boundaries(&self, body: &Stored, depths: &[Tokens]) -> Depths {
        let boundaries = depths.iter().map(|depth| self.boundary(*depth));
        boundaries.filter(|boundary| *boundary > body.shareable.depth).collect()
    }

    /// `cached_tokens` of a prompt whose deepest live boundary is `boundary`: at most prompt - 1, floored to the
    /// report step, nothing below the minimum.
    ///
    /// Boundaries are held in visible tokens here, so that subtracting the hidden ones is already done.
    #[inline(always)]
    pub fn report(&self, boundary: Tokens, prompt: Tokens) -> Tokens {
        let resumable = boundary.min(prompt.saturating_sub(u32::from(self.computes_last_token)));
        let reported = resumable - resumable % self.report_step;
        if reported < self.min_tokens { 0 } else { reported }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classic() -> Write {
        Write {
            semantics: Semantics::PartialPrefix,
            interval: 128,
            first_tokens: 4_608,
            implicit_breakpoint: true,
            developer_breakpoint: true,
            max_writes: 4,
            look_back_unit: LookBack::Message,
            look_back: 20,
            first_marks: 2,
            latest_marks: 50,
            hidden_tokens: 75,
            hidden_date: false,
            min_tokens: 1024,
            report_step: 128,
            computes_last_token: true,
            body: Body::Prompt,
            when: When::Always,
            bodies: Bodies::Unbounded,
            capacity_tokens: None,
            visible: Visible::FirstToken,
            lag: Span::ZERO,
        }
    }

    fn body(tokens: Tokens) -> Stored {
        Stored { shareable: Cursor { depth: tokens, ..Cursor::ROOT }, unique_tail: 0 }
    }

    #[test]
    fn every_public_reading_is_reproduced() {
        let readings =
            [(1_170, 1_024), (1_225, 1_152), (1_440, 1_280), (1_563, 1_408), (1_578, 1_408), (2_235, 2_176)];
        for hidden_tokens in 69..=85 {
            let rule = Write { hidden_tokens, ..classic() };
            for (prompt, cached) in readings {
                assert_eq!(rule.report(rule.boundary(prompt), prompt), cached);
            }
        }
        let study = classic();
        for shared in 6_581..6_687 {
            assert_eq!(study.report(study.boundary(shared), 6_687), 6_528);
        }
    }

    #[test]
    fn the_boundary_at_every_2048_tokens_reads_512_past_a_multiple() {
        // The readings of long sessions: 4,608, 64,000 and 137,728 are all 512 mod 2,048.
        let rule = Write { interval: 2_048, hidden_tokens: 1_536, ..classic() };
        for (prompt, cached) in [(4_700, 4_608), (65_000, 64_000), (139_000, 137_728)] {
            assert_eq!(rule.report(rule.boundary(prompt), prompt), cached);
        }
    }

    #[test]
    fn one_token_is_always_computed_and_little_is_not_reported() {
        let exact = Write { interval: 1, hidden_tokens: 0, report_step: 1, ..classic() };
        assert_eq!(exact.report(exact.boundary(2_000), 2_000), 1_999);
        assert_eq!(exact.report(1_024, 1_024), 0, "1,023 is below the minimum");
        assert_eq!(exact.report(1_024, 1_025), 1_024);
        assert_eq!(exact.report(0, 0), 0);
        assert_eq!((exact.depths(&body(1_023), &[]).len(), exact.depths(&body(1_024), &[]).len()), (0, 1));
    }

    #[test]
    fn a_capacity_holds_at_least_what_can_be_read() {
        let with =
            |capacity_tokens, min_tokens| Write { capacity_tokens, min_tokens, ..classic() }.validate();
        for (capacity, min_tokens) in [(None, 1_024), (Some(1_024), 1_024), (Some(1), 0)] {
            assert_eq!(with(capacity, min_tokens), Ok(()));
        }
        for (capacity, min_tokens) in [(1_023, 1_024), (0, 0)] {
            assert_eq!(with(Some(capacity), min_tokens).unwrap_err().0, "capacity_tokens");
        }
    }

    #[test]
    fn breakpoints_are_written_latest_first_and_looked_for_where_the_era_says() {
        let mark = |depth, kind| Mark { depth, kind };
        let message = |depth| mark(depth, MarkKind::Message);
        let explicit = |depth| mark(depth, MarkKind::Explicit);
        let marks = [
            mark(2_000, MarkKind::Developer),
            explicit(2_500),
            message(3_000),
            explicit(3_500),
            explicit(4_000),
            message(5_000),
        ];
        let rule = Write { semantics: Semantics::Breakpoints, report_step: 1, hidden_tokens: 0, ..classic() };
        assert_eq!(
            rule.depths(&body(6_000), &marks).as_slice(),
            [5_000, 2_000, 4_000, 3_500],
            "at most four, one implicit"
        );
        let allowed = |rule: &Write| -> Vec<_> {
            let readable = rule.readable(&marks);
            (0..=6_000).filter(|depth| readable.allows(*depth)).collect()
        };
        assert_eq!(allowed(&rule), [2_000, 2_500, 3_000, 3_500, 4_000, 5_000]);
        let explicit_only = Write { implicit_breakpoint: false, developer_breakpoint: false, ..rule.clone() };
        assert_eq!(explicit_only.depths(&body(6_000), &marks).as_slice(), [4_000, 3_500, 2_500]);
        let own = Write { look_back_unit: LookBack::Breakpoint, look_back: 2, ..explicit_only };
        assert_eq!(allowed(&own), [3_500, 4_000]);
        let explicit_ends = Write { first_marks: 1, latest_marks: 1, look_back: 1, ..rule.clone() };
        assert_eq!(
            allowed(&explicit_ends),
            [2_000, 2_500, 3_000, 4_000, 5_000],
            "not the mark in the middle"
        );
        let strict = Write { min_tokens: 3_000, ..rule };
        assert_eq!(strict.depths(&body(6_000), &marks).as_slice(), [5_000, 4_000, 3_500]);
    }
}
