//! Rendering: the parts of a body -> tokens.
//!
//! Providers do not publish how they lay out a request. Stated here: tools, then instructions, then the messages in
//! their order; each part is encoded by itself, so that an edit moves no boundary elsewhere; each message costs some
//! tokens of the provider's own before its content ([`MESSAGE_OVERHEAD`], a guess that fits published counting
//! recipes). Counts are near what is billed, not equal to it: where a log says what was billed, that is compared.

use std::rc::Rc;

use bpe_openai::Tokenizer;
use rustc_hash::FxHashMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::input::call::{Body, Content, Role};
use crate::units::Tokens;

/// Tokens that a message costs beside its content, if nobody says otherwise.
pub const MESSAGE_OVERHEAD: Tokens = 4;

/// Numbers from here on are no tokens of any vocabulary: what a provider adds, and images.
const SPECIAL: u32 = 1 << 31;

/// The encodings that are built in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Vocabulary {
    /// o200k_base: gpt-4o and later.
    #[default]
    O200kBase,
    /// cl100k_base: gpt-4 and gpt-3.5.
    Cl100kBase,
}

impl Vocabulary {
    fn tokenizer(self) -> &'static Tokenizer {
        match self {
            Self::O200kBase => bpe_openai::o200k_base(),
            Self::Cl100kBase => bpe_openai::cl100k_base(),
        }
    }

    /// Tokens as text. What the provider adds stands as `<|message|>`, what is no text as `<|...|>`.
    pub fn decode(self, tokens: &[u32]) -> String {
        let mut bytes = Vec::new();
        // What opens a message, or an image, may be many tokens alike: they are shown once.
        for token in tokens.chunk_by(|one, next| one == next && *one >= SPECIAL).map(|alike| &alike[0]) {
            match token.checked_sub(SPECIAL) {
                Some(special) if special < ROLES => bytes.extend_from_slice(b"<|message|>"),
                Some(_) => bytes.extend_from_slice(b"<|...|>"),
                None => bytes.extend_from_slice(self.tokenizer().bpe.token_bytes(*token)),
            }
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// Special numbers below this open a message of some role.
const ROLES: u32 = 16;

/// What identifies a text: two texts with one digest are one text.
type TextDigest = [u8; 16];

/// Turns bodies to tokens, and remembers what it has encoded: of many bodies that are nearly alike, only what is new
/// costs anything.
pub struct Renderer {
    vocabulary: Vocabulary,
    message_overhead: Tokens,
    known: FxHashMap<TextDigest, Rc<[u32]>>,
    /// Hashes of anonymized text, each by a number of its own: unlike the hashes, numbers never collide.
    hashes: FxHashMap<u64, u32>,
}

/// A body as tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rendered {
    /// The tokens.
    pub tokens: Vec<u32>,
    /// Where each part of the body ends, in tokens.
    pub ends: Vec<Tokens>,
}

impl Renderer {
    /// A renderer that has seen nothing.
    pub fn new(vocabulary: Vocabulary, message_overhead: Tokens) -> Self {
        Self { vocabulary, message_overhead, known: FxHashMap::default(), hashes: FxHashMap::default() }
    }

    /// The tokens of a body.
    pub fn render(&mut self, body: &Body) -> Rendered {
        let mut rendered = Rendered::default();
        for part in &body.parts {
            if part.opens_message {
                let role = SPECIAL + role_number(part.role);
                rendered.tokens.extend(std::iter::repeat_n(role, self.message_overhead as usize));
            }
            match &part.content {
                Content::Text(text) => rendered.tokens.extend_from_slice(&self.encode(text)),
                Content::Sized { tokens, digest } => {
                    let number = SPECIAL | ROLES | *digest as u32;
                    rendered.tokens.extend(std::iter::repeat_n(number, *tokens as usize));
                }
                Content::Hashed { stretches, .. } => {
                    for (hash, tokens) in stretches {
                        // No prompt of the log branches off inside a stretch: one number does for all its tokens.
                        let number = self.number(*hash);
                        rendered.tokens.extend(std::iter::repeat_n(number, *tokens as usize));
                    }
                }
            }
            rendered.ends.push(rendered.tokens.len() as Tokens);
        }
        rendered
    }

    /// Tokens as text.
    pub fn decode(&self, tokens: &[u32]) -> String {
        self.vocabulary.decode(tokens)
    }

    /// The number of a hash, in the order of appearance: two logs that are hashed differently are rendered alike.
    fn number(&mut self, hash: u64) -> u32 {
        let next = SPECIAL | ROLES.saturating_add(self.hashes.len() as u32);
        *self.hashes.entry(hash).or_insert(next)
    }

    fn encode(&mut self, text: &str) -> Rc<[u32]> {
        let digest = Sha256::digest(text.as_bytes());
        let digest: TextDigest = std::array::from_fn(|byte| digest[byte]);
        let vocabulary = self.vocabulary;
        self.known.entry(digest).or_insert_with(|| vocabulary.tokenizer().encode(text).into()).clone()
    }
}

fn role_number(role: Role) -> u32 {
    role as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::call::Part;

    fn words(text: &str) -> Body {
        Body { parts: vec![Part { opens_message: true, ..Part::text("input", Role::User, text) }] }
    }

    #[test]
    fn encodings_agree_with_published_counts() {
        // From the cookbook on counting tokens: its examples of tiktoken.
        let count = |vocabulary, text: &str| Renderer::new(vocabulary, 0).render(&words(text)).tokens.len();
        for vocabulary in [Vocabulary::O200kBase, Vocabulary::Cl100kBase] {
            assert_eq!(count(vocabulary, "tiktoken is great!"), 6);
            assert_eq!(count(vocabulary, "2 + 2 = 4"), 7);
        }
        assert_eq!(count(Vocabulary::Cl100kBase, "antidisestablishmentarianism"), 6);
        assert_eq!(count(Vocabulary::Cl100kBase, "お誕生日おめでとう"), 9);
        assert_eq!(count(Vocabulary::O200kBase, "お誕生日おめでとう"), 8);
    }

    #[test]
    fn a_text_is_encoded_once_and_comes_back() {
        let mut renderer = Renderer::new(Vocabulary::O200kBase, 4);
        let text = "naïve 🎉 text\u{0}\r\n";
        let first = renderer.render(&words(text));
        assert_eq!(first, renderer.render(&words(text)));
        assert_eq!(renderer.known.len(), 1);
        assert_eq!(renderer.decode(&first.tokens[4..]), text);
        assert_eq!(renderer.decode(&first.tokens[..1]), "<|message|>");
        assert_eq!(first.ends, [first.tokens.len() as Tokens]);
    }

    #[test]
    fn what_is_no_text_counts_as_declared_and_is_told_apart() {
        let sized = |digest| Body {
            parts: vec![Part {
                content: Content::Sized { tokens: 3, digest },
                ..Part::text("input[0].content[0]", Role::User, "")
            }],
        };
        let mut renderer = Renderer::new(Vocabulary::O200kBase, 4);
        let [one, other] = [100, 200].map(|digest| renderer.render(&sized(digest)).tokens);
        assert_eq!((one.len(), other.len()), (3, 3));
        assert_ne!(one, other);
        assert_eq!(renderer.decode(&one), "<|...|>");
    }
}
