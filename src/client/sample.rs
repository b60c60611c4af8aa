//! A sample of the traffic: some keys, chosen by a hash, each with all its sessions.
//!
//! What the rate limit and the store couple belongs together, so that whole keys are taken or left, never single
//! conversations. A key that is left costs no more than drawing when its sessions start: draws have addresses, and
//! nobody else's are moved. (Spatial sampling as in SHARDS: Waldspurger and others, FAST 2015.)

use std::fmt;
use std::str::FromStr;

use crate::client::key::{Assign, Keying, Strategy};
use crate::client::workload::Workload;
use crate::random::{fold, mix};
use crate::units::text_form;

/// A share of the keys, such as 1/64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    taken: u32,
    of: u32,
}

impl Share {
    /// `taken` of `of` keys: at least one, and no more than all.
    pub fn of(taken: u32, of: u32) -> Self {
        debug_assert!((1..=of).contains(&taken));
        Self { taken, of }
    }

    /// The share as a number.
    pub fn value(self) -> f64 {
        f64::from(self.taken) / f64::from(self.of)
    }

    /// Whether this is all there is.
    pub fn is_all(self) -> bool {
        self.taken == self.of
    }

    /// Whether a key with this hash is in the sample. A larger share takes all that a smaller one takes.
    fn takes(self, hash: u64) -> bool {
        u128::from(hash) * u128::from(self.of) < u128::from(self.taken) << 64
    }
}

impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| text.trim().parse::<u32>().ok();
        let share = text.split_once('/').and_then(|(taken, of)| Some((number(taken)?, number(of)?)));
        match share {
            Some((taken, of)) if (1..=of).contains(&taken) => Ok(Self { taken, of }),
            _ => Err(format!("`{text}` is not a share above 0 and up to 1: write it as \"1/64\"")),
        }
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.taken, self.of)
    }
}

text_form!(Share, "share", "\"1/64\"");

/// Groups into which the keys of a sample fall: the spread between them tells the error of what they say together.
pub const GROUPS: usize = 16;

/// With fewer keys in the sample, the spread between its groups says little.
const FEWEST_KEYS: f64 = 64.0;

/// The group of what is simulated whole; those of a sample follow.
pub const WHOLE: u8 = 0;

/// The group of what is not simulated.
pub const LEFT_OUT: u8 = u8::MAX;

/// Why a workload is simulated whole; `None` if its keys are sampled.
pub fn whole(workload: &Workload, keying: &Keying, share: Share) -> Option<String> {
    if workload.trace.is_some() {
        return Some("a trace is played whole".into());
    }
    let keys = match (keying.strategy, keying.assign) {
        (Strategy::PerSession | Strategy::PerBranch | Strategy::PerNode, _) => return None,
        (Strategy::PerUser, _) => workload.users,
        (Strategy::Buckets, Assign::User) => workload.users.min(keying.buckets),
        (Strategy::Buckets, Assign::Session) => keying.buckets,
        (Strategy::None | Strategy::Constant | Strategy::Label, _) => 1,
        (Strategy::Buckets, Assign::RoundRobin | Assign::Random)
        | (Strategy::PerCall | Strategy::Recorded, _) => {
            return Some("its key is chosen call by call".into());
        }
    };
    let least = (FEWEST_KEYS / share.value()).ceil();
    (f64::from(keys) < least).then(|| match keys {
        1 => "all its requests share one key".into(),
        _ => format!("{share} of its {keys} keys are too few: {least} keys would do"),
    })
}

/// The sample of one run: which keys are in it, and how many sessions that makes.
#[derive(Clone, Debug)]
pub struct Sample {
    share: Share,
    salt: u64,
    /// Sessions of all keys.
    pub sessions: u64,
    /// Sessions of each group of the sample.
    pub taken: [u64; GROUPS],
}

impl Sample {
    /// The sample that `salt` chooses.
    pub fn new(share: Share, salt: u64) -> Self {
        Self { share, salt, sessions: 0, taken: [0; GROUPS] }
    }

    /// Counts a session whose requests go by this key: its group.
    pub fn group(&mut self, key: u64) -> u8 {
        self.sessions += 1;
        let hash = fold(self.salt, key);
        if !self.share.takes(hash) {
            return LEFT_OUT;
        }
        let group = mix(hash) as usize % GROUPS;
        self.taken[group] += 1;
        WHOLE + 1 + group as u8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_read_and_others_refused() {
        for text in ["1/64", "3/4", "1/1", " 2 / 3 "] {
            let share: Share = text.parse().unwrap();
            assert_eq!(share.to_string(), text.replace(' ', ""));
        }
        for text in ["0/64", "3/2", "x", "1", "1/0", "0/0", "-1/2", "1/2/3", "0.5", ""] {
            assert!(text.parse::<Share>().unwrap_err().contains("1/64"), "{text}");
        }
    }

    #[test]
    fn a_sample_takes_its_share_in_even_groups_and_larger_ones_contain_it() {
        let take = |share: &str| {
            let mut sample = Sample::new(share.parse().unwrap(), 7);
            let taken: Vec<bool> = (0..64_000).map(|key| sample.group(key) != LEFT_OUT).collect();
            (taken, sample)
        };
        let ((small, sample), (large, _), (all, _)) = (take("1/8"), take("1/2"), take("5/5"));
        assert!(small.iter().zip(&large).all(|(small, large)| !small || *large));
        assert!(all.iter().all(|taken| *taken));
        // 500 a group with a standard deviation of 22.
        assert!(sample.taken.iter().all(|count| (400..600).contains(count)), "{:?}", sample.taken);
        assert_eq!(sample.sessions, 64_000);
    }
}
