//! Seen: what the rules look at of a call. Text stays behind.

use crate::experiment::check::finding::Place;
use crate::experiment::contract::Contract;
use crate::input::call::{Call, Content, Part, Role};
use crate::input::render::Rendered;
use crate::provider::profile::Provider;
use crate::random::{digest, fold};
use crate::units::Tokens;

/// A call, its tokens, and what it is judged by.
#[derive(Debug)]
pub struct Seen<'a> {
    /// The call.
    pub call: &'a Call,
    /// Its parts; none if the log keeps usage only.
    pub parts: &'a [Part],
    /// The parts, by what identifies them.
    pub pieces: Vec<Piece>,
    /// Tokens of the whole prompt, as billed if the log says so.
    pub tokens: Tokens,
    /// Its tokens.
    pub rendered: Rendered,
    /// How many parts at its beginning are tools and instructions.
    pub head_parts: usize,
    /// What it is judged by.
    pub contract: Contract,
    /// Where it stands.
    pub place: Place,
    /// Whether what was not said was not sent.
    pub has_settings: bool,
}

/// What identifies a part of a prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Who speaks.
    pub role: Role,
    /// What is said.
    pub content: u64,
    /// Its phase; 0 for none.
    pub phase: u64,
    /// The token at which it ends.
    pub end: Tokens,
}

impl Piece {
    fn new(part: &Part, end: Tokens) -> Self {
        let content = match &part.content {
            Content::Text(text) => digest(text),
            Content::Sized { tokens, digest } => fold(*digest, u64::from(*tokens)),
            Content::Hashed { digest, .. } => *digest,
        };
        Self {
            role: part.role,
            content,
            phase: part.phase.as_ref().map_or(0, |phase| digest(phase) | 1),
            end,
        }
    }

    /// Whether the same is said by the same, whatever its phase and its place.
    pub fn says(&self, other: &Self) -> bool {
        (self.role, self.content) == (other.role, other.content)
    }

    /// Whether it is the same, wherever it stands.
    pub fn is(&self, other: &Self) -> bool {
        self.says(other) && self.phase == other.phase
    }
}

impl<'a> Seen<'a> {
    /// What there is to see of a call.
    pub fn new(
        call: &'a Call,
        rendered: Rendered,
        contract: Contract,
        place: Place,
        has_settings: bool,
    ) -> Self {
        // The end of a prompt alone says nothing of its beginning.
        let body = call.body.as_ref().filter(|_| !call.continues);
        let parts = body.map_or([].as_slice(), |body| body.parts.as_slice());
        let has_settings = has_settings && call.body.is_some();
        let pieces = parts.iter().zip(&rendered.ends).map(|(part, end)| Piece::new(part, *end)).collect();
        let leads = |part: &&Part| matches!(part.role, Role::Tools | Role::Developer);
        let counted = rendered.tokens.len() as Tokens;
        Self {
            call,
            parts,
            pieces,
            tokens: call.usage.prompt_tokens.unwrap_or(counted),
            head_parts: parts.iter().take_while(leads).count(),
            rendered,
            contract,
            place,
            has_settings,
        }
    }

    /// Who it is judged by.
    pub fn provider(&self) -> &Provider {
        &self.contract.provider
    }

    /// The token at which a part begins.
    pub fn start(&self, part: usize) -> Tokens {
        part.checked_sub(1).map_or(0, |before| self.pieces[before].end)
    }

    /// Tokens that the body has, those that only the bill knows left out.
    pub fn counted(&self) -> Tokens {
        self.rendered.tokens.len() as Tokens
    }

    /// A depth, with how many tokens stand behind it.
    pub fn depth(&self, token: Tokens) -> Option<(Tokens, Tokens)> {
        Some((token, self.counted().saturating_sub(token)))
    }

    /// What stands for the key that was sent.
    pub fn key(&self) -> Option<u64> {
        self.call.key.as_ref().map(digest)
    }

    /// What stands for the beginning that routing looks at; 0 if the body is unknown.
    pub fn head(&self) -> u64 {
        let hashed = self.provider().routing.hash_tokens as usize;
        self.rendered.tokens.iter().take(hashed).fold(0, |sum, token| fold(sum, u64::from(*token)))
    }

    /// The longest that what it uses lives, in nanoseconds; `None` if there is no bound or the policy is unknown.
    pub fn longest_life(&self) -> Option<u64> {
        let provider = self.provider();
        let wanted = self.call.settings.retention.as_deref();
        let policy = wanted.filter(|policy| provider.retention.lifetime.contains_key(*policy));
        let policy = policy.or_else(|| provider.policy(None, false).ok())?;
        provider.retention.lifetime.get(policy)?.support().1
    }
}
