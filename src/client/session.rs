//! A session while it lives.

use crate::client::conversation::Conversation;
use crate::client::reaction::{KeepAlive, Seen};
use crate::client::request::{Place, Request};
use crate::client::upstream::Context;
use crate::prompt::Cursor;
use crate::provider::routing::RoutingKey;
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
    /// If its client reacts to what it sees.
    pub(super) seen: Option<Box<Seen>>,
    /// If it belongs to a fork tree.
    pub(super) node: Option<Box<Node>>,
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
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sent {
    /// Calls.
    pub turn: u32,
    /// Tokens of the last prompt.
    pub previous: Tokens,
    /// Where the last response came from.
    pub place: Option<Place>,
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
    KeepAlive(Box<(Request, KeepAlive)>),
}

/// A session's place in a fork tree.
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
            seen: None,
            node: None,
            due: Due::Call,
            continued: None,
        }
    }

    /// Makes this another session of its workload, at its beginning, `levels` of children below it.
    pub(super) fn begin(&mut self, number: u64, key: SessionKey, person: SessionKey, levels: u32) {
        (self.number, self.key, self.person) = (number, key, person);
        // Sessions of one call most often leave nothing behind.
        if self.seen.is_some() {
            self.seen = None;
        }
        let root = Node { root: key, parent: None, branch: 0, levels, results: None };
        if levels > 0 || self.node.is_some() {
            self.node = (levels > 0).then(|| Box::new(root));
        }
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

    /// Reads a bit of it here and there, so that it is at hand.
    pub fn touch(&self) -> u64 {
        let Self { number, sent, conversation, .. } = self;
        number ^ u64::from(sent.turn) ^ u64::from(conversation.end().depth)
    }

    /// The routing key of its last response.
    pub fn routing_key(&self) -> Option<RoutingKey> {
        self.sent.place.map(|place| place.routing_key)
    }

    /// The end of what it has said so far.
    pub fn place(&self) -> Cursor {
        self.conversation.end()
    }

    /// The places it may go on from.
    pub fn places(&self) -> impl Iterator<Item = Cursor> {
        let again = match &self.due {
            Due::Call | Due::Warm => None,
            Due::Retry(request, _) => Some(&**request),
            Due::KeepAlive(repeated) => Some(&repeated.0),
        };
        let upstream = self.continued.iter().flat_map(|continued| continued.context.conversation.places());
        self.conversation.places().chain(upstream).chain(again.into_iter().flat_map(Request::places))
    }

    /// Goes on in the upstream context that its call continues, if there is one: whether somebody else spoke there.
    pub(super) fn enters_upstream(&mut self) -> bool {
        let Some(Continued { context, .. }) = self.continued.as_deref_mut() else { return false };
        std::mem::swap(&mut self.conversation, &mut context.conversation);
        context.speaks(self.workload, self.number)
    }

    /// Comes back from it: where its last response came from.
    pub(super) fn leaves_upstream(&mut self) -> Option<Place> {
        let Continued { context, .. } = self.continued.as_deref_mut()?;
        std::mem::swap(&mut self.conversation, &mut context.conversation);
        context.place
    }

    /// How often its key was salted anew.
    pub(super) fn rotations(&self) -> u32 {
        self.seen.as_ref().map_or(0, |seen| seen.rotations)
    }

    /// The key of the whole tree that it belongs to; its own, if there is none.
    pub(super) fn root(&self) -> SessionKey {
        self.node.as_ref().map_or(self.key, |node| node.root)
    }

    /// Which of the root's children it descends from, from 1; 0 for the root.
    pub(super) fn branch(&self) -> u32 {
        self.node.as_ref().map_or(0, |node| node.branch)
    }

    /// Levels of children below it that are still to be called.
    pub(super) fn levels(&self) -> u32 {
        self.node.as_ref().filter(|node| node.results.is_none()).map_or(0, |node| node.levels)
    }

    /// The draws of its next call.
    #[inline]
    pub(super) fn draws(&self) -> Draws {
        self.key.turn(self.sent.turn)
    }

    /// A child of this node, counted from 0: it goes on from what was said so far.
    pub(super) fn child(&self, index: u32) -> Self {
        let (root, branch, levels) = (self.root(), self.branch(), self.levels());
        let mut child = self.clone();
        child.key = SessionKey(fold(self.key.0, u64::from(index) + 1));
        child.sent.turn = 0;
        child.due = Due::Call;
        child.node = Some(Box::new(Node {
            root,
            parent: Some(self.key),
            branch: if branch == 0 { index + 1 } else { branch },
            levels: levels - 1,
            results: None,
        }));
        child
    }
}
