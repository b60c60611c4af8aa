//! A session while it lives.

use crate::client::conversation::Conversation;
use crate::client::reaction::{KeepAlive, Reaction, Seeing, Seen};
use crate::client::request::{Place, Request};
use crate::client::sample::{LEFT_OUT, WHOLE};
use crate::client::upstream::Context;
use crate::extent::Extent;
use crate::prompt::{Cursor, EdgeId};
use crate::provider::routing::RoutingKey;
use crate::random::{Draws, SessionKey, fold};
use crate::units::{SimTime, Tokens};

/// One session while it lives, or one node of a fork tree. One cache line: with very many sessions, fetching them is
/// most of the work.
#[derive(Clone, Debug)]
#[repr(align(64))]
pub struct Session {
    /// Number of its workload.
    pub workload: u16,
    /// Its group in a sample.
    pub(super) group: u8,
    /// [`ALONE`] and [`LATE`], if it is so.
    standing: u8,
    pub(super) number: u64,
    pub(super) key: SessionKey,
    /// Turns that have not begun.
    pub(super) turns_left: u32,
    /// Further calls of this turn.
    pub(super) calls_left: u32,
    pub(super) conversation: Conversation,
    pub(super) sent: Sent,
    /// Kept apart, so that the many sessions without any of it are small.
    extra: Option<Box<Extra>>,
}

const _: () = assert!(size_of::<Session>() == 64);

/// What a session has said so far ends in text of its own that nobody else goes on from, behind all that routing looks
/// at: it can then be lengthened without asking the tree.
const ALONE: u8 = 1;

/// What one of its calls wrote became, or becomes, visible after its next call.
const LATE: u8 = 2;

/// The most workloads of a run.
pub const MOST_WORKLOADS: usize = 1 << u16::BITS;

/// What only some sessions have.
#[derive(Clone, Debug, Default)]
struct Extra {
    /// What its next request is, if that is not its next call.
    due: Option<Box<Due>>,
    /// Where its last response came from, if its client goes by that.
    place: Option<Place>,
    /// If its client reacts to what it sees.
    seen: Option<Seen>,
    /// If it belongs to a fork tree.
    node: Option<Node>,
    /// The upstream context that its call under way continues.
    continued: Option<Continued>,
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
    /// One more than the number of the last response's routing key; 0 if there is none.
    routed: u32,
}

impl Sent {
    /// A response came by this routing key.
    #[inline(always)]
    pub fn answered_by(&mut self, RoutingKey(key): RoutingKey) {
        self.routed = key + 1;
    }

    /// The last response came by the same routing key as another session's.
    pub fn answered_like(&mut self, other: Self) {
        self.routed = other.routed;
    }

    /// The routing key of the last response.
    #[inline(always)]
    pub fn routing_key(&self) -> Option<RoutingKey> {
        self.routed.checked_sub(1).map(RoutingKey)
    }
}

/// What a session's next request is, beside its next call.
#[derive(Clone, Debug)]
pub(super) enum Due {
    /// A short call that writes what the calls after it share.
    Warm,
    /// A failed request again, for the so many-th time.
    Retry(Request, u32),
    /// Its last request again, to keep it alive.
    KeepAlive(Request, KeepAlive),
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
    pub fn vacant(workload: u16) -> Self {
        Self {
            workload,
            group: WHOLE,
            standing: 0,
            number: 0,
            key: SessionKey(0),
            turns_left: 0,
            calls_left: 0,
            conversation: Conversation::default(),
            sent: Sent::default(),
            extra: None,
        }
    }

    /// Makes this another session of its workload, at its beginning, `levels` of children below it.
    pub(super) fn begin(&mut self, number: u64, key: SessionKey, levels: u32) {
        (self.number, self.key) = (number, key);
        // The one before it may have been cut off at the end of the traffic, in the middle of a turn.
        self.calls_left = 0;
        self.standing = 0;
        // Sessions of one call most often leave nothing behind.
        if self.extra.is_some() {
            self.extra = None;
        }
        if levels > 0 {
            self.extra().node = Some(Node { root: key, parent: None, branch: 0, levels, results: None });
        }
        if !self.conversation.is_new() {
            self.conversation = Conversation::default();
        }
    }

    fn extra(&mut self) -> &mut Extra {
        self.extra.get_or_insert_default()
    }

    /// What its client has seen, if it reacts to that.
    #[inline(always)]
    pub(super) fn seen(&self, extent: Extent) -> Option<&Seen> {
        extent.rare(self.extra.as_ref())?.seen.as_ref()
    }

    /// The same, to be changed.
    #[inline(always)]
    pub(super) fn seen_mut(&mut self, extent: Extent) -> Option<&mut Seen> {
        extent.rare(self.extra.as_mut())?.seen.as_mut()
    }

    /// Its client reacts to what it sees of a call.
    pub(super) fn sees(&mut self, reaction: &Reaction, seeing: Seeing) {
        self.extra().seen.get_or_insert_default().call(reaction, seeing);
    }

    /// Its place in a fork tree, if it belongs to one.
    #[inline(always)]
    pub(super) fn node(&self, extent: Extent) -> Option<&Node> {
        extent.rare(self.extra.as_ref())?.node.as_ref()
    }

    /// What its next request is, if that is not its next call.
    #[inline(always)]
    pub(super) fn due(&self, extent: Extent) -> Option<&Due> {
        extent.rare(self.extra.as_ref())?.due.as_deref()
    }

    /// Its next request is not its next call.
    pub(super) fn will(&mut self, due: Due) {
        self.extra().due = Some(Box::new(due));
    }

    /// The request under way, if it is not its next call.
    pub(super) fn take_due(&mut self) -> Option<Box<Due>> {
        self.extra.as_mut()?.due.take()
    }

    /// Where its last response came from, if its client goes by that.
    pub(super) fn place(&self) -> Option<Place> {
        self.extra.as_ref()?.place
    }

    /// Its client goes by where its last response came from.
    pub(super) fn came_from(&mut self, place: Option<Place>) {
        if place.is_some() || self.extra.is_some() {
            self.extra().place = place;
        }
    }

    /// Its children have answered with so many tokens.
    pub(super) fn joins(&mut self, results: Tokens) {
        if let Some(node) = self.extra.as_mut().and_then(|extra| extra.node.as_mut()) {
            node.results = Some(results);
        }
    }

    /// Its call continues an upstream context, or none.
    pub(super) fn continues(&mut self, continued: Option<Continued>) {
        if continued.is_some() || self.extra.is_some() {
            self.extra().continued = continued;
        }
    }

    /// The upstream context that its call under way continued.
    pub(super) fn take_continued(&mut self) -> Option<Continued> {
        self.extra.as_mut()?.continued.take()
    }

    fn context(&mut self) -> Option<(&mut Conversation, &mut Context)> {
        let Self { conversation, extra, .. } = self;
        let Continued { context, .. } = extra.as_mut()?.continued.as_mut()?;
        Some((conversation, context))
    }

    /// Whether it starts and does nothing, since its key is not in the sample.
    pub fn is_left_out(&self) -> bool {
        self.group == LEFT_OUT
    }

    /// The routing key of its last response.
    pub fn routing_key(&self) -> Option<RoutingKey> {
        self.sent.routing_key()
    }

    /// The end of what it has said so far.
    pub fn end(&self) -> Cursor {
        self.conversation.end()
    }

    /// Whether it goes on in text of its own, behind all that routing looks at.
    #[inline(always)]
    pub(super) fn goes_alone(&self) -> bool {
        self.standing & ALONE != 0
    }

    /// It goes on in text of its own, behind all that routing looks at.
    pub(super) fn leaves_the_others(&mut self) {
        self.standing |= ALONE;
    }

    /// Notes whether its next call comes before its last one's write becomes visible, and tells whether nobody reads what
    /// that writes on this edge until then: the session alone goes on from there, and none of its calls came too early.
    #[inline(always)]
    pub fn goes_unread(&mut self, edge: EdgeId, next: Option<SimTime>, visible_at: SimTime) -> bool {
        if next.is_some_and(|next| next < visible_at) {
            self.standing |= LATE;
        }
        self.standing == ALONE && self.end().edge == edge
    }

    /// The places it may go on from.
    pub fn places(&self) -> impl Iterator<Item = Cursor> {
        let again = match self.due(Extent::Full) {
            None | Some(Due::Warm) => None,
            Some(Due::Retry(request, _) | Due::KeepAlive(request, _)) => Some(request),
        };
        let continued = self.extra.iter().flat_map(|extra| &extra.continued);
        let upstream = continued.flat_map(|continued| continued.context.conversation.places());
        self.conversation.places().chain(upstream).chain(again.into_iter().flat_map(Request::places))
    }

    /// Goes on in the upstream context that its call continues, if there is one: whether somebody else spoke there.
    pub(super) fn enters_upstream(&mut self) -> bool {
        let (workload, number) = (u32::from(self.workload), self.number);
        let Some((conversation, context)) = self.context() else { return false };
        std::mem::swap(conversation, &mut context.conversation);
        context.speaks(workload, number)
    }

    /// Comes back from it: where its last response came from.
    pub(super) fn leaves_upstream(&mut self) -> Option<Place> {
        let (conversation, context) = self.context()?;
        std::mem::swap(conversation, &mut context.conversation);
        context.place
    }

    /// How often its key was salted anew.
    #[inline(always)]
    pub(super) fn rotations(&self, extent: Extent) -> u32 {
        self.seen(extent).map_or(0, |seen| seen.rotations)
    }

    /// The key of the whole tree that it belongs to; its own, if there is none.
    pub(super) fn root(&self) -> SessionKey {
        self.node(Extent::Full).map_or(self.key, |node| node.root)
    }

    /// Which of the root's children it descends from, from 1; 0 for the root.
    #[inline(always)]
    pub(super) fn branch(&self, extent: Extent) -> u32 {
        self.node(extent).map_or(0, |node| node.branch)
    }

    /// Levels of children below it that are still to be called.
    #[inline(always)]
    pub(super) fn levels(&self, extent: Extent) -> u32 {
        self.node(extent).filter(|node| node.results.is_none()).map_or(0, |node| node.levels)
    }

    /// The draws of its next call.
    #[inline]
    pub(super) fn draws(&self) -> Draws {
        self.key.turn(self.sent.turn)
    }

    /// A child of this node, counted from 0: it goes on from what was said so far.
    pub(super) fn child(&self, index: u32) -> Self {
        let (branch, levels) = (self.branch(Extent::Full), self.levels(Extent::Full));
        let root = self.root();
        let mut child = self.clone();
        child.key = SessionKey(fold(self.key.0, u64::from(index) + 1));
        child.sent.turn = 0;
        child.extra().due = None;
        child.extra().node = Some(Node {
            root,
            parent: Some(self.key),
            branch: if branch == 0 { index + 1 } else { branch },
            levels: levels - 1,
            results: None,
        });
        child
    }
}
