//! Which `prompt_cache_key` a request carries.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::prompt::{Cursor, PrefixTree, Prompt};
use crate::random::{Draws, Purpose, digest, fold, mix};
use crate::units::Tokens;

/// A keying strategy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Keying {
    /// The strategy: none, constant, label, per_user, per_session, per_branch, per_node, buckets, per_call or
    /// recorded.
    pub strategy: Strategy,
    /// Number of buckets (strategy buckets).
    pub buckets: u32,
    /// What assigns a request to its bucket (strategy buckets).
    pub assign: Assign,
    /// Share of the prompt, from its beginning, whose fingerprint is made part of the key; 0 for none. As a prompt
    /// grows, so does that share of it.
    pub fingerprint: f64,
    /// Tokens to whose next lower multiple the fingerprinted part is cut.
    pub fingerprint_step: Tokens,
}

impl Default for Keying {
    fn default() -> Self {
        Self {
            strategy: Strategy::None,
            buckets: 1,
            assign: Assign::RoundRobin,
            fingerprint: 0.0,
            fingerprint_step: 1,
        }
    }
}

/// Where the key comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// No key is sent.
    None,
    /// One key for everything, workloads of a mixture included.
    Constant,
    /// The workload's label: one key for each workload.
    Label,
    /// One key for each user.
    PerUser,
    /// One key for each session; the nodes of a fork tree share their tree's.
    PerSession,
    /// The session's key and the branch of its fork tree: one for everything below a child of the root.
    PerBranch,
    /// One key for each node of a fork tree.
    PerNode,
    /// One of a fixed number of buckets.
    Buckets,
    /// A fresh key for every call: the anti-pattern.
    PerCall,
    /// The key in the trace; none where a line has none.
    Recorded,
}

/// How a request finds its bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Assign {
    /// By a hash of the user.
    User,
    /// By a hash of the session.
    Session,
    /// In turn, request by request.
    RoundRobin,
    /// At random, request by request.
    Random,
}

/// A `prompt_cache_key`, symbolic: equal values are equal keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PromptCacheKey {
    /// No key.
    None,
    /// The constant key.
    Constant,
    /// A workload's label, by the workload's number.
    Label(u32),
    /// A user, by workload and number.
    User(u32, u32),
    /// A session, by workload and number.
    Session(u32, u64),
    /// A branch of a fork tree, by workload, session and number.
    Branch(u32, u64, u32),
    /// A node of a fork tree, by its digest.
    Node(u64),
    /// A bucket.
    Bucket(u32),
    /// A call, by its number.
    Call(u64),
    /// A key of a trace, by its digest.
    Recorded(u64),
    /// A key with something made part of it, by the digest of both.
    Salted(u64),
}

impl PromptCacheKey {
    /// The key after its client has salted it anew so many times.
    #[inline(always)]
    pub fn rotated(self, times: u32) -> Self {
        if times == 0 { self } else { Self::Salted(fold(self.digest(), u64::from(times))) }
    }

    /// What routing sees of the key.
    #[inline(always)]
    pub fn digest(self) -> u64 {
        match self {
            Self::None => 0,
            Self::Constant => mix(1),
            Self::Label(label) => fold(2, u64::from(label)),
            Self::User(workload, user) => fold(3, u64::from(workload) << 32 | u64::from(user)),
            Self::Session(workload, session) => fold(fold(4, u64::from(workload)), session),
            Self::Bucket(bucket) => fold(5, u64::from(bucket)),
            Self::Call(call) => fold(6, call),
            Self::Recorded(text) => fold(7, text),
            Self::Branch(workload, session, branch) => {
                fold(fold(fold(8, u64::from(workload)), session), u64::from(branch))
            }
            Self::Node(node) => fold(9, node),
            Self::Salted(digest) => fold(10, digest),
        }
    }
}

impl fmt::Display for PromptCacheKey {
    /// A name for tables; a recorded key is shown by its digest, never by its text.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => Ok(()),
            Self::Constant => f.write_str("constant"),
            Self::Label(label) => write!(f, "label-{label}"),
            Self::User(workload, user) => write!(f, "user-{workload}-{user}"),
            Self::Session(workload, session) => write!(f, "session-{workload}-{session}"),
            Self::Bucket(bucket) => write!(f, "bucket-{bucket}"),
            Self::Call(call) => write!(f, "call-{call}"),
            Self::Recorded(text) => write!(f, "key-{text:016x}"),
            Self::Branch(workload, session, branch) => write!(f, "branch-{workload}-{session}-{branch}"),
            Self::Node(node) => write!(f, "node-{node:016x}"),
            Self::Salted(digest) => write!(f, "salted-{digest:016x}"),
        }
    }
}

/// What a strategy may look at.
#[derive(Clone, Copy, Debug)]
pub struct Caller<'a> {
    /// Number of the workload.
    pub workload: u32,
    /// Number of the user within the workload.
    pub user: u32,
    /// Number of the session within the workload.
    pub session: u64,
    /// Which branch of its fork tree it belongs to; 0 for the root.
    pub branch: u32,
    /// Digest that its node of a fork tree has alone.
    pub node: u64,
    /// Number of the request within the run.
    pub call: u64,
    /// The key in the trace, if there is one.
    pub recorded: Option<&'a str>,
    /// This request's draws.
    pub draws: Draws,
}

impl Keying {
    /// Checks what the types cannot say; the error names the field.
    pub fn validate(&self) -> Result<(), (&'static str, String)> {
        if self.buckets == 0 {
            return Err(("buckets", "must be 1 or more".into()));
        }
        if !(0.0..=1.0).contains(&self.fingerprint) {
            return Err(("fingerprint", "must be from 0 to 1".into()));
        }
        if self.fingerprint_step == 0 {
            return Err(("fingerprint_step", "must be 1 or more".into()));
        }
        Ok(())
    }

    /// Whether the key of a request depends on its user.
    #[inline(always)]
    pub fn goes_by_user(&self) -> bool {
        match self.strategy {
            Strategy::PerUser => true,
            Strategy::Buckets => self.assign == Assign::User,
            Strategy::None
            | Strategy::Constant
            | Strategy::Label
            | Strategy::PerSession
            | Strategy::PerBranch
            | Strategy::PerNode
            | Strategy::PerCall
            | Strategy::Recorded => false,
        }
    }

    /// Whether the key of a request follows from its session.
    pub fn goes_by_session(&self) -> bool {
        match self.strategy {
            Strategy::PerSession | Strategy::PerBranch | Strategy::PerNode => true,
            Strategy::Buckets => self.assign == Assign::Session,
            Strategy::None
            | Strategy::Constant
            | Strategy::Label
            | Strategy::PerUser
            | Strategy::PerCall
            | Strategy::Recorded => false,
        }
    }

    /// The key of one request; `turn` counts the requests that were assigned in turn.
    #[inline(always)]
    pub fn key(&self, caller: &Caller<'_>, turn: &mut u64) -> PromptCacheKey {
        match self.strategy {
            Strategy::None => PromptCacheKey::None,
            Strategy::Constant => PromptCacheKey::Constant,
            Strategy::Label => PromptCacheKey::Label(caller.workload),
            Strategy::PerUser => PromptCacheKey::User(caller.workload, caller.user),
            Strategy::PerSession => PromptCacheKey::Session(caller.workload, caller.session),
            Strategy::PerBranch => PromptCacheKey::Branch(caller.workload, caller.session, caller.branch),
            Strategy::PerNode => PromptCacheKey::Node(caller.node),
            Strategy::Buckets => PromptCacheKey::Bucket(self.bucket(caller, turn)),
            Strategy::PerCall => PromptCacheKey::Call(caller.call),
            Strategy::Recorded => {
                caller.recorded.map_or(PromptCacheKey::None, |text| PromptCacheKey::Recorded(digest(text)))
            }
        }
    }

    /// The key that all requests of a session go by, where it is settled when the session starts: what is then made
    /// part of a key (a branch, a fingerprint, a rotation) tells only requests of this key apart.
    pub fn settled(&self, workload: u32, user: u32, session: u64) -> Option<PromptCacheKey> {
        match self.strategy {
            Strategy::None => Some(PromptCacheKey::None),
            Strategy::Constant => Some(PromptCacheKey::Constant),
            Strategy::Label => Some(PromptCacheKey::Label(workload)),
            Strategy::PerUser => Some(PromptCacheKey::User(workload, user)),
            Strategy::PerSession | Strategy::PerBranch | Strategy::PerNode => {
                Some(PromptCacheKey::Session(workload, session))
            }
            Strategy::Buckets => self.settled_bucket(workload, user, session).map(PromptCacheKey::Bucket),
            Strategy::PerCall | Strategy::Recorded => None,
        }
    }

    /// A key with the fingerprint of the beginning of request number `call`'s prompt made part of it.
    #[inline(always)]
    pub fn fingerprinted(
        &self,
        key: PromptCacheKey,
        prompt: &Prompt,
        call: u64,
        tree: &PrefixTree,
    ) -> PromptCacheKey {
        if self.fingerprint == 0.0 {
            return key;
        }
        let depth = (f64::from(prompt.tokens()) * self.fingerprint) as Tokens;
        let depth = depth - depth % self.fingerprint_step;
        let Cursor { edge, .. } = tree.ancestor(prompt.shareable, depth);
        let beginning = fold(u64::from(tree.serial(edge)), u64::from(depth));
        // Nobody else sends what lies in a tail of its own.
        let own = if depth > prompt.shareable.depth { call + 1 } else { 0 };
        PromptCacheKey::Salted(fold(key.digest(), fold(beginning, own)))
    }

    #[inline(always)]
    fn bucket(&self, caller: &Caller<'_>, turn: &mut u64) -> u32 {
        let buckets = u64::from(self.buckets);
        let Caller { workload, user, session, draws, .. } = *caller;
        self.settled_bucket(workload, user, session).unwrap_or_else(|| {
            if self.assign == Assign::Random {
                return draws.below(Purpose::Bucket, 0, buckets) as u32;
            }
            *turn += 1;
            ((*turn - 1) % buckets) as u32
        })
    }

    /// The bucket of a session that keeps to one.
    #[inline(always)]
    fn settled_bucket(&self, workload: u32, user: u32, session: u64) -> Option<u32> {
        let hashed = |value: u64| (mix(value) % u64::from(self.buckets)) as u32;
        match self.assign {
            Assign::User => Some(hashed(u64::from(workload) << 32 | u64::from(user))),
            Assign::Session => Some(hashed(fold(u64::from(workload), session))),
            Assign::RoundRobin | Assign::Random => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::SessionKey;

    fn keys(keying: &Keying) -> Vec<PromptCacheKey> {
        let mut turn = 0;
        let call = |call: u64| {
            let caller = Caller {
                workload: 0,
                user: (call % 6) as u32,
                session: call / 2,
                branch: (call % 4) as u32,
                node: call / 3,
                call,
                recorded: None,
                draws: SessionKey(call).turn(0),
            };
            keying.key(&caller, &mut turn)
        };
        (0..600).map(call).collect()
    }

    fn distinct(keying: &Keying) -> usize {
        let mut keys = keys(keying);
        keys.sort_unstable();
        keys.dedup();
        keys.len()
    }

    #[test]
    fn strategies_make_as_many_keys_as_they_say() {
        let expected = [
            (Strategy::None, 1),
            (Strategy::Constant, 1),
            (Strategy::Label, 1),
            (Strategy::PerUser, 6),
            (Strategy::PerSession, 300),
            (Strategy::PerBranch, 600),
            (Strategy::PerNode, 200),
            (Strategy::PerCall, 600),
        ];
        for (strategy, count) in expected {
            assert_eq!(distinct(&Keying { strategy, ..Keying::default() }), count, "{strategy:?}");
        }
    }

    #[test]
    fn all_ways_of_assigning_use_every_bucket() {
        for assign in [Assign::User, Assign::Session, Assign::RoundRobin, Assign::Random] {
            let keying = Keying { strategy: Strategy::Buckets, buckets: 3, assign, ..Keying::default() };
            let keys = keys(&keying);
            assert_eq!(distinct(&keying), 3, "{assign:?}");
            if assign == Assign::RoundRobin {
                assert!((0..600).all(|i| keys[i] == PromptCacheKey::Bucket(i as u32 % 3)));
            }
            if assign == Assign::User {
                assert!((6..600).all(|i| keys[i] == keys[i - 6]));
            }
        }
    }
}
