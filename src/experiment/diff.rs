//! Diff: where two prompts part, and what is cached of the later one.

use std::collections::BTreeSet;

use crate::input::call::{Body, Call, Role, Settings};
use crate::input::log::{as_sent, marks};
use crate::input::render::Rendered;
use crate::prompt::{Cursor, Mark};
use crate::provider::write::{Semantics, Stored, Write};
use crate::units::Tokens;

/// One of two prompts.
#[derive(Clone, Debug, Default)]
pub struct Side {
    /// As it stands in its file.
    pub call: Call,
    /// Its tokens.
    pub rendered: Rendered,
}

/// How the later prompt goes on from the earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// They are the same.
    Identical,
    /// The earlier one is the beginning of the later one.
    Extension,
    /// The later one is the beginning of the earlier one.
    Truncation,
    /// From some token on they differ.
    Mutation,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 4] = [Self::Identical, Self::Extension, Self::Truncation, Self::Mutation];

    /// Of prompts of these lengths that begin alike for so many tokens.
    pub fn of(earlier: Tokens, later: Tokens, prefix: Tokens) -> Self {
        match (prefix == earlier, prefix == later) {
            (true, true) => Self::Identical,
            (true, false) => Self::Extension,
            (false, true) => Self::Truncation,
            (false, false) => Self::Mutation,
        }
    }

    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Identical => "identical",
            Self::Extension => "extension",
            Self::Truncation => "truncation",
            Self::Mutation => "mutation",
        }
    }
}

/// What two prompts have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Tokens of the earlier and of the later prompt.
    pub tokens: [Tokens; 2],
    /// Tokens that both begin with; none across different settings.
    pub prefix: Tokens,
    /// How the later goes on from the earlier.
    pub kind: Kind,
    /// Settings that are part of the prefix and differ, by the names of their fields.
    pub settings: Vec<&'static str>,
    /// What the first differing token lies in, of each side; none behind its end.
    pub parting: [Option<Place>; 2],
}

/// A value of a request's JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its path.
    pub path: String,
    /// Who speaks there; nobody in a setting.
    pub role: Option<Role>,
    /// The token of this value that the place is at.
    pub token: Tokens,
}

impl Side {
    fn body(&self) -> &Body {
        const NONE: &Body = &Body { parts: Vec::new() };
        self.call.body.as_ref().unwrap_or(NONE)
    }

    /// Where its segments end.
    pub fn marks(&self) -> Vec<Mark> {
        as_sent(&marks(self.body(), &self.rendered), self.call.settings.explicit_only)
    }
}

/// The value of a body that a token lies in; none behind the end.
pub fn place(body: &Body, rendered: &Rendered, token: Tokens) -> Option<Place> {
    let part = rendered.ends.iter().position(|end| token < *end)?;
    let start = part.checked_sub(1).map_or(0, |before| rendered.ends[before]);
    let said = &body.parts[part];
    Some(Place { path: said.path.clone(), role: Some(said.role), token: token - start })
}

impl Difference {
    /// Compares two prompts token by token.
    pub fn between(earlier: &Side, later: &Side) -> Self {
        let sides = [earlier, later];
        let tokens = sides.map(|side| side.rendered.tokens.len() as Tokens);
        let settings = differing(&earlier.call.settings, &later.call.settings);
        if let Some(name) = settings.first() {
            let place = Some(Place { path: (*name).to_string(), role: None, token: 0 });
            let parting = [place.clone(), place];
            return Self { tokens, prefix: 0, kind: Kind::Mutation, settings, parting };
        }
        let [one, other] = sides.map(|side| side.rendered.tokens.iter());
        let prefix = one.zip(other).take_while(|(one, other)| one == other).count() as Tokens;
        let kind = Kind::of(tokens[0], tokens[1], prefix);
        Self {
            tokens,
            prefix,
            kind,
            settings,
            parting: sides.map(|side| place(side.body(), &side.rendered, prefix)),
        }
    }
}

/// The settings that keep two calls from sharing anything.
pub fn differing(one: &Settings, other: &Settings) -> Vec<&'static str> {
    let [one, other] = [&one.prefix, &other.prefix];
    let names: BTreeSet<_> = one.keys().chain(other.keys()).copied().collect();
    names.into_iter().filter(|name| one.get(name) != other.get(name)).collect()
}

/// What a provider caches of a prompt that begins like an earlier one, which was written and is still alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Eligible {
    /// By the documented rule alone: the shared tokens down to the step of the report, none below the minimum.
    pub documented: Tokens,
    /// By everything in the profile: hidden tokens before the prompt, the last token always computed.
    pub expected: Tokens,
    /// The next larger `cached_tokens`, and how many more shared tokens it takes; none where only marks count.
    pub next: Option<(Tokens, Tokens)>,
}

impl Eligible {
    /// Of a prompt of `later` tokens that shares `prefix` of an earlier one's `earlier` tokens.
    pub fn of(write: &Write, earlier: (Tokens, &[Mark]), later: (Tokens, &[Mark]), prefix: Tokens) -> Self {
        let plain = Write { hidden_tokens: 0, computes_last_token: false, ..write.clone() };
        let [documented, expected] =
            [&plain, write].map(|rule| rule.report(boundary(rule, earlier, later.1, prefix), later.0));
        Self { documented, expected, next: next_tier(write, prefix, expected) }
    }
}

/// The deepest boundary that an earlier prompt wrote and a later one can read.
fn boundary(
    write: &Write,
    (earlier, written): (Tokens, &[Mark]),
    looked_at: &[Mark],
    prefix: Tokens,
) -> Tokens {
    let body = Stored { shareable: Cursor { depth: earlier, ..Cursor::ROOT }, unique_tail: 0 };
    let depths = write.depths(&body, written);
    if write.covers() {
        return depths.iter().map(|depth| write.boundary((*depth).min(prefix))).max().unwrap_or(0);
    }
    let readable = write.readable(looked_at);
    let reached = depths.iter().filter(|depth| **depth <= prefix && readable.allows(**depth));
    reached.copied().max().unwrap_or(0)
}

fn next_tier(write: &Write, prefix: Tokens, expected: Tokens) -> Option<(Tokens, Tokens)> {
    if !write.covers() {
        return None;
    }
    let deepest = match write.semantics {
        Semantics::FirstTokens => write.first_tokens,
        _ => Tokens::MAX,
    };
    let step = write.interval.max(write.report_step);
    let last = prefix.saturating_add(step.saturating_mul(2)).saturating_add(write.min_tokens).min(deepest);
    (prefix.saturating_add(1)..=last).find_map(|shared| {
        let reported = write.report(write.boundary(shared), Tokens::MAX);
        (reported > expected).then_some((reported, shared - prefix))
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::provider::profile::Profile;

    fn profile(name: &str) -> Write {
        Profile::load(name, Path::new("")).unwrap().provider(name).unwrap().write
    }

    fn documented(prefix: Tokens, later: Tokens) -> Tokens {
        Eligible::of(&profile("openai-classic"), (prefix, &[]), (later, &[]), prefix).documented
    }

    #[test]
    fn tiers_by_the_documented_rule_and_by_the_profile() {
        assert_eq!(
            [47, 1_023, 1_024, 1_151, 1_152, 1_710].map(|prefix| documented(prefix, 2_000)),
            [0, 0, 1_024, 1_024, 1_152, 1_664]
        );
        let classic = profile("openai-classic");
        let of = |prefix| Eligible::of(&classic, (prefix, &[]), (3_000, &[]), prefix);
        // 1,024 shared tokens and 75 hidden ones end before the boundary at 1,152.
        assert_eq!((of(1_024).expected, of(1_024).next), (0, Some((1_024, 53))));
        assert_eq!((of(1_170).expected, of(1_170).next), (1_024, Some((1_152, 35))));
    }

    #[test]
    fn the_next_tier_is_the_next() {
        for name in ["openai-classic", "openai-5.5", "mistral"] {
            let write = profile(name);
            for prefix in (0..6_000).step_by(37) {
                let reads = |shared| write.report(write.boundary(shared), Tokens::MAX);
                let Some((tier, more)) = next_tier(&write, prefix, reads(prefix)) else {
                    panic!("{name}: none behind {prefix}")
                };
                assert_eq!(reads(prefix + more), tier, "{name} {prefix}");
                assert_eq!(reads(prefix + more - 1), reads(prefix), "{name} {prefix}");
            }
        }
    }

    #[test]
    fn a_whole_body_is_read_whole_or_not_at_all() {
        let whole = profile("hypothesis-whole-body");
        let expected =
            |earlier, prefix| Eligible::of(&whole, (earlier, &[]), (9_000, &[]), prefix).documented;
        assert_eq!((expected(4_000, 4_000) > 0, expected(4_000, 3_999)), (true, 0));
    }
}
