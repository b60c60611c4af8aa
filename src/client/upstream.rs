//! Sessions that a gateway holds upstream for its keys, whoever uses them (continuation = implicit).

use crate::client::conversation::Conversation;
use crate::client::request::Place;
use crate::prompt::Cursor;
use crate::units::{SimTime, Tokens};

/// A session that the gateway has opened upstream for one key.
#[derive(Clone, Debug, Default)]
pub struct Upstream {
    /// What its last complete response has left.
    context: Context,
    /// What responses on their way will leave, with the moments of their completion.
    pending: Vec<(SimTime, Context)>,
}

/// A context that a request continues.
#[derive(Clone, Debug, Default)]
pub struct Context {
    /// What was said in it.
    pub conversation: Conversation,
    /// Where its last response came from.
    pub place: Option<Place>,
    speakers: Speakers,
}

/// Whose messages a context holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Speakers {
    #[default]
    Nobody,
    /// One session's, by workload and number.
    One(u32, u64),
    Several,
}

impl Upstream {
    /// The context that a request which arrives now continues: that of the last complete response, or a new one where
    /// that has more tokens than the gateway allows.
    pub fn context(&mut self, now: SimTime, most_tokens: Tokens) -> Context {
        self.pending.sort_by_key(|(complete, _)| *complete);
        let complete = self.pending.partition_point(|(complete, _)| *complete <= now);
        if let Some((_, context)) = self.pending.drain(..complete).next_back() {
            self.context = context;
        }
        if self.context.conversation.tokens() > most_tokens {
            self.context = Context::default();
        }
        self.context.clone()
    }

    /// The places that its contexts may go on from.
    pub fn places(&self) -> impl Iterator<Item = Cursor> {
        let pending = self.pending.iter().map(|(_, context)| context);
        pending.chain([&self.context]).flat_map(|context| context.conversation.places())
    }

    /// Notes what a response that is complete at some moment leaves.
    pub fn will_hold(&mut self, complete: SimTime, context: Context) {
        self.pending.push((complete, context));
    }
}

impl Context {
    /// Notes that a session speaks in it; whether another one has spoken before.
    pub fn speaks(&mut self, workload: u32, session: u64) -> bool {
        let own = Speakers::One(workload, session);
        let contaminated = self.speakers != Speakers::Nobody && self.speakers != own;
        self.speakers = if contaminated { Speakers::Several } else { own };
        contaminated
    }
}
