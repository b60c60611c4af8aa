//! A session while it lives.

use crate::client::conversation::Conversation;
use crate::client::reaction::{KeepAlive, Seen};
use crate::client::request::{Place, Request};
use crate::client::upstream::Context;
use crate::random::{Draws, SessionKey, fold};
use crate::units::Tokens;

/// One session while it lives, or one node of a fork tree.
#[derive(Clone, Debug)]
pub struct Session {
    /// Number of its workload.
    pub workload: u32,
    pub(super) number: u64,
    pub(super) key: SessionKey,
    /// Identity of whoever sends it: one for all requests of a recorded session, and for all nodes of a tree.
    pub(super) person: SessionKey,
    pub(super) user: u32,
    /// Turns that have not begun.
    pub(super) turns_left: u32,
    /// Further calls of this turn.
    pub(super) calls_left: u32,
    pub(super) conversation: Conversation,
    pub(super) sent: Sent,
    pub(super) seen: Seen,
    pub(super) node: Node,
    pub(super) due: Due,
    /// The upstream context that its call under way continues.
    pub(super) continued: Option<Box<Continued>>,
}

/// A context that a call continues, as it will be once the call is answered.
#[derive(Clone, Debug)]
pub(super) struct Continued {
    /// Which upstream session it belongs to.
    pub upstream: u64,
    pub context: Context,
}

/// What a session has sent so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Sent {
    /// Calls.
    pub turn: u32,
    /// Tokens of the last prompt.
    pub previous: Tokens,
    /// Where the last response came from.
    pub place: Option<Place>,
    /// Where the messages of the prompts of a trace ended, shallowest first.
    pub message_ends: Vec<Tokens>,
}

impl Sent {
    /// Nothing was sent.
    pub fn forget(&mut self) {
        (self.turn, self.previous, self.place) = (0, 0, None);
        self.message_ends.clear();
    }
}

/// What a session's next request is.
#[derive(Clone, Debug)]
pub(super) enum Due {
    /// Its next call.
    Call,
    /// A short call that writes what the calls after it share.
    Warm,
    /// A failed request again, for the so many-th time.
    Retry(Box<Request>, u32),
    /// Its last request again, to keep it alive.
    KeepAlive(Box<Request>, KeepAlive),
}

/// A session's place in a fork tree; any other session is a root.
#[derive(Clone, Copy, Debug)]
pub(super) struct Node {
    /// The whole tree's key.
    pub root: SessionKey,
    /// The node whose fork this one belongs to.
    pub parent: Option<SessionKey>,
    /// Which of the root's children it descends from, from 1; 0 for the root.
    pub branch: u32,
    /// Levels of children below it.
    pub levels: u32,
    /// Answers of its children, once it has them.
    pub results: Option<Tokens>,
}

impl Node {
    /// The root of a tree, or a session without one.
    fn root(key: SessionKey, levels: u32) -> Self {
        Self { root: key, parent: None, branch: 0, levels, results: None }
    }
}

impl Session {
    /// Room for a session of this workload.
    pub fn vacant(workload: u32) -> Self {
        Self {
            workload,
            number: 0,
            key: SessionKey(0),
            person: SessionKey(0),
            user: 0,
            turns_left: 0,
            calls_left: 0,
            conversation: Conversation::default(),
            sent: Sent::default(),
            seen: Seen::default(),
            node: Node::root(SessionKey(0), 0),
            due: Due::Call,
            continued: None,
        }
    }

    /// Makes this another session of its workload, at its beginning, `levels` of children below it.
    pub(super) fn begin(&mut self, number: u64, key: SessionKey, person: SessionKey, levels: u32) {
        (self.number, self.key, self.person) = (number, key, person);
        self.node = Node::root(key, levels);
        self.seen = Seen::default();
        // Sessions of one call most often leave nothing behind.
        if !self.conversation.is_new() {
            self.conversation = Conversation::default();
        }
        if !matches!(self.due, Due::Call) {
            self.due = Due::Call;
        }
        if self.continued.is_some() {
            self.continued = None;
        }
    }

    /// The draws of its next call.
    pub(super) fn draws(&self) -> Draws {
        self.key.turn(self.sent.turn)
    }

    /// A child of this node, counted from 0: it goes on from what was said so far.
    pub(super) fn child(&self, index: u32) -> Self {
        let Node { root, branch, levels, .. } = self.node;
        let mut child = self.clone();
        child.key = SessionKey(fold(self.key.0, u64::from(index) + 1));
        child.sent.turn = 0;
        child.due = Due::Call;
        child.node = Node {
            root,
            parent: Some(self.key),
            branch: if branch == 0 { index + 1 } else { branch },
            levels: levels - 1,
            results: None,
        };
        child
    }
}
