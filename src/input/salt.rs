//! Salt: what makes the hashes of an anonymized log say nothing to those who can guess what was hashed.

use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

/// A secret that every hash begins with. It is never written, and not shown by `Debug`.
pub struct Salt([u8; 32]);

impl Salt {
    /// A salt that nobody knows, from the operating system.
    pub fn random() -> Result<Self> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes)
            .map_err(|error| Error::input("--salt", format!("is needed: this system has none ({error})")))?;
        Ok(Self(bytes))
    }

    /// The salt that these words give, always.
    pub fn of_words(words: &str) -> Self {
        Self(Sha256::digest(words.as_bytes()).into())
    }

    /// What stands for a value; equal values of different subjects have different hashes.
    pub fn hash(&self, subject: &str, value: &[u8]) -> u64 {
        let digest = Sha256::new()
            .chain_update(self.0)
            .chain_update(subject.as_bytes())
            .chain_update([0])
            .chain_update(value)
            .finalize();
        u64::from_be_bytes(std::array::from_fn(|byte| digest[byte]))
    }

    /// What stands for some tokens.
    pub fn hash_tokens(&self, subject: &str, tokens: impl Iterator<Item = u32>) -> u64 {
        let bytes: Vec<u8> = tokens.flat_map(u32::to_le_bytes).collect();
        self.hash(subject, &bytes)
    }

    /// A name that stands for another: `session-0123456789abcdef`.
    pub fn name(&self, subject: &str, name: &str) -> String {
        format!("{subject}-{:016x}", self.hash(subject, name.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_from_salt_subject_and_name() {
        let [one, other] = ["one", "other"].map(Salt::of_words);
        let name = one.name("key", "Ann");
        assert_eq!(name, Salt::of_words("one").name("key", "Ann"));
        assert!(name.starts_with("key-") && name.len() == 20);
        assert_ne!(name, other.name("key", "Ann"));
        assert_ne!(one.hash("key", b"Ann"), one.hash("session", b"Ann"));
        assert_ne!(Salt::random().unwrap().hash("key", b""), Salt::random().unwrap().hash("key", b""));
    }
}
