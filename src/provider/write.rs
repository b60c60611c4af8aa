//! Write semantics: at which depths of a prompt a machine may resume it later.
//!
//! What a request stores are *boundaries*; a read takes the deepest live boundary on the prompt's own path, and
//! the report turns it into `cached_tokens`. Everything known about hosted caches is a choice of boundaries.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use smallvec::SmallVec;

use crate::prompt::{Cursor, PrefixTree, Prompt};
use crate::units::{Span, Tokens};

/// Where one request writes: a few places on its own path.
pub type Places = SmallVec<[Cursor; 1]>;

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
    /// Tokens of the provider's hidden system message before the prompt.
    pub hidden_tokens: Tokens,
    /// Fewest cached tokens that are reported (or written) at all.
    pub min_tokens: Tokens,
    /// Step to which cached_tokens are rounded down; 1 reports exactly.
    pub report_step: Tokens,
    /// Whether the last token is always computed, so that at most prompt - 1 tokens are cached.
    pub computes_last_token: bool,
    /// When a request writes.
    pub when: When,
    /// How many bodies a routing key keeps on one machine.
    pub bodies: Bodies,
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
        ];
        for (field, value) in positive {
            if value == 0 {
                return Err((field, "must be 1 or more".into()));
            }
        }
        Ok(())
    }

    /// Whether a write at one depth also stores the boundaries before it.
    pub fn covers(&self) -> bool {
        match self.semantics {
            Semantics::PartialPrefix | Semantics::FirstTokens => true,
            Semantics::WholeBody => false,
        }
    }

    /// Whether what a routing key wrote must be known apart from what other keys wrote.
    pub fn by_owner(&self) -> bool {
        self.when == When::Once || self.bodies == Bodies::One
    }

    /// The deepest boundary at or before `depth`, in visible tokens, of prompts that were written to that depth.
    pub fn boundary(&self, depth: Tokens) -> Tokens {
        match self.semantics {
            Semantics::PartialPrefix | Semantics::FirstTokens => {
                let from_hidden_start = depth + self.hidden_tokens;
                (from_hidden_start - from_hidden_start % self.interval).saturating_sub(self.hidden_tokens)
            }
            Semantics::WholeBody => depth,
        }
    }

    /// Up to which depth a prompt of this length stores anything.
    fn reach(&self, prompt: Tokens) -> Tokens {
        match self.semantics {
            Semantics::PartialPrefix | Semantics::WholeBody => prompt,
            Semantics::FirstTokens => prompt.min(self.first_tokens),
        }
    }

    /// The deepest boundary that a prompt writes; 0 if it writes none. A boundary below the minimum could never
    /// be read, so a prompt that short writes nothing.
    pub fn deepest_written(&self, prompt: Tokens) -> Tokens {
        let boundary = self.boundary(self.reach(prompt));
        if boundary < self.min_tokens { 0 } else { boundary }
    }

    /// The places whose boundaries a later prompt can read: nobody can reach a single boundary at the end of a
    /// tail that only this prompt has.
    pub fn places(&self, tree: &PrefixTree, prompt: &Prompt) -> Places {
        let Prompt { shareable, unique_tail, .. } = *prompt;
        if !self.covers() && unique_tail > 0 {
            return Places::new();
        }
        let depth = shareable.depth.min(self.reach(prompt.tokens()));
        std::iter::once(tree.ancestor(shareable, depth)).collect()
    }

    /// `cached_tokens` of a prompt whose deepest live boundary is `boundary`: at most prompt - 1, floored to the
    /// report step, nothing below the minimum.
    ///
    /// Boundaries are held in visible tokens here, so that subtracting the hidden ones is already done.
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
            hidden_tokens: 75,
            min_tokens: 1024,
            report_step: 128,
            computes_last_token: true,
            when: When::Always,
            bodies: Bodies::Unbounded,
            visible: Visible::FirstToken,
            lag: Span::ZERO,
        }
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
        assert_eq!((exact.deepest_written(1_023), exact.deepest_written(1_024)), (0, 1_024));
    }
}
