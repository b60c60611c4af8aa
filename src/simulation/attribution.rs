//! Why uncached tokens were uncached, from what actually happened.
//!
//! Nested sets of earlier boundaries, each a subset of the one before; the depth lost at each step goes to one
//! cause, so that the causes add up exactly to `prompt - cached`. Every set is one that never forgets.

use crate::client::request::Request;
use crate::prompt::{Cursor, EdgeId, PrefixTree, Prompt};
use crate::provider::cache::{Access, Effect, Found};
use crate::provider::store::{Answers, Scope, Store};
use crate::provider::write::{Bodies, Readable, Visible, Write};
use crate::simulation::outcome::{Attribution, Cause};
use crate::simulation::reached::{Reached, Set};
use crate::units::{SimTime, Tokens};

/// The sets, and the shadow caches of the two ceilings.
#[derive(Clone, Debug)]
pub struct Ledger {
    rules: Write,
    several_partitions: bool,
    /// S0 to S5.
    reached: Reached,
    /// S6: those unexpired, replaced and evicted ones included; only where there are such.
    unexpired: Option<Store>,
    /// One cache for each partition, visible at once, with the lifetimes of the real one.
    perfectly_routed: Store,
}

/// How deep the sets that never forget reach on one request's path; those that are another set are left out.
#[derive(Clone, Copy, Debug)]
pub struct Reach {
    sent: Tokens,
    written: Tokens,
    in_partition: Option<Tokens>,
    by_key: Tokens,
    visible: Option<Tokens>,
    here: Tokens,
}

/// The scopes of one access, from wide to narrow.
#[derive(Clone, Copy, Debug)]
struct Scopes {
    everyone: Scope,
    partition: Scope,
    key: Scope,
    here: Scope,
}

/// What is lost from each level to the next, from what was written down to what is alive.
const BETWEEN: [Cause; 6] = [
    Cause::OtherAccount,
    Cause::OtherKey,
    Cause::NotYetVisible,
    Cause::OtherMachine,
    Cause::Expired,
    Cause::Evicted,
];

/// Under which scopes something will be visible.
#[derive(Clone, Copy, Debug, Default)]
pub struct Noted {
    key: Scope,
    here: Scope,
}

impl Scopes {
    /// Under another date nothing was sent or stored before.
    #[inline(always)]
    fn everyone(access: &Access) -> Scope {
        Scope(access.date)
    }

    #[inline(always)]
    fn of(access: &Access) -> Self {
        let everyone = Self::everyone(access);
        let Access { partition, scope, here, .. } = *access;
        // Every machine belongs to one partition.
        Self { everyone, partition: everyone.within(partition), key: scope.within(partition), here }
    }
}

impl Ledger {
    /// Empty sets.
    pub fn new(rules: &Write, partitions: u32) -> Self {
        let forgets = rules.bodies == Bodies::One || rules.capacity_tokens.is_some();
        Self {
            rules: rules.clone(),
            several_partitions: partitions > 1,
            reached: Reached::new(rules.covers()),
            unexpired: forgets.then(|| Store::new(rules.covers())),
            perfectly_routed: Store::new(true),
        }
    }

    /// The sets after a change of the provider: of what was sent before, nothing is written under its rules.
    pub fn after_change(self, rules: &Write, partitions: u32) -> Self {
        Self { reached: self.reached.sent_alone(rules.covers()), ..Self::new(rules, partitions) }
    }

    /// Attributes the uncached tokens of one request that arrives now.
    #[inline(always)]
    pub fn attribute(
        &self,
        tree: &PrefixTree,
        request: &Request,
        access: &Access,
        found: &Found,
        now: SimTime,
    ) -> Attribution {
        let (at, everyone) = (access.prompt.shareable, Scopes::everyone(access));
        let sent = self.reached.read(Set::Sent, tree, everyone, at, &found.readable);
        if sent == found.alive {
            return nothing_lost(request, access, found);
        }
        let scopes = Scopes::of(access);
        let read = |set: &Store, scope| set.read(tree, scope, at, &found.readable, now);
        let unexpired = self.unexpired.as_ref().map_or(found.alive, |set| read(set, scopes.here));
        let reach = self.reach_within(tree, access, &found.readable, sent);
        let lost = self.lost(request, access, found, unexpired, &reach);
        let ceiling_lifetime = self.report(read(&self.perfectly_routed, scopes.partition), access);
        Attribution { ceiling_lifetime, ..lost }
    }

    /// How deep everything earlier reaches on the path of a request, whatever has expired since.
    #[inline(always)]
    pub fn reach(&self, tree: &PrefixTree, access: &Access, readable: &Readable) -> Reach {
        let (at, everyone) = (access.prompt.shareable, Scopes::everyone(access));
        let sent = self.reached.read(Set::Sent, tree, everyone, at, readable);
        self.reach_within(tree, access, readable, sent)
    }

    /// The same, where it is known how deep the widest set reaches.
    #[inline(always)]
    fn reach_within(&self, tree: &PrefixTree, access: &Access, readable: &Readable, sent: Tokens) -> Reach {
        let (at, scopes) = (access.prompt.shareable, Scopes::of(access));
        let read = |set, scope| self.reached.read(set, tree, scope, at, readable);
        let here = read(Set::Here, scopes.here);
        if sent == here {
            // The narrowest set reaches as deep as the widest, and so does every one between them.
            return Reach { sent, written: here, in_partition: None, by_key: here, visible: None, here };
        }
        Reach {
            here,
            by_key: read(Set::ByKey, scopes.key),
            visible: (!self.is_instant()).then(|| read(Set::Visible, scopes.key)),
            written: read(Set::Written, scopes.everyone),
            in_partition: self.several_partitions.then(|| read(Set::InPartition, scopes.partition)),
            sent,
        }
    }

    /// The attribution of what a request did not find, without the ceiling of its lifetime.
    #[inline(always)]
    pub fn lost(
        &self,
        request: &Request,
        access: &Access,
        found: &Found,
        unexpired: Tokens,
        reach: &Reach,
    ) -> Attribution {
        let Found { alive, cached, .. } = *found;
        // From the narrowest set outwards, each level at least as deep as the one below it.
        let unexpired = unexpired.max(alive);
        let here = reach.here.max(unexpired);
        let by_key = reach.by_key.max(here);
        let visible = reach.visible.map_or(by_key, |visible| visible.max(here));
        let written = reach.written.max(by_key);
        let in_partition = reach.in_partition.map_or(written, |depth| depth.max(by_key));
        let sent = reach.sent.max(written);

        let prompt = access.prompt.tokens();
        let mut lost = [0; Cause::ALL.len()];
        let changed = changed_tokens(request, sent);
        lost[Cause::New as usize] = prompt - sent - changed;
        lost[Cause::Changed as usize] = changed;
        lost[Cause::Unwritten as usize] = sent - written;
        // Most levels are as deep as the one before: a division each is saved.
        let mut last = (written, self.rules.boundary(written));
        let boundaries = [written, in_partition, by_key, visible, here, unexpired, alive].map(|depth| {
            if depth != last.0 {
                last = (depth, self.rules.boundary(depth));
            }
            last.1
        });
        for (cause, pair) in BETWEEN.into_iter().zip(boundaries.windows(2)) {
            lost[cause as usize] = pair[0] - pair[1];
        }
        lost[Cause::Rounding as usize] = written - boundaries[0] + boundaries[6] - cached;
        Attribution { lost, ceiling_infinite: self.report(sent, access), ceiling_lifetime: 0 }
    }

    /// What one cache with perfect routing holds of a request's path at every moment from `first` to `last`.
    pub fn perfectly_routed_between(
        &self,
        tree: &PrefixTree,
        access: &Access,
        first: SimTime,
        last: SimTime,
    ) -> Answers {
        let scope = Scopes::of(access).partition;
        self.perfectly_routed.read_between(tree, scope, access.prompt.shareable, first, last)
    }

    /// What a request would be told that found its path alive down to this depth.
    pub fn report(&self, depth: Tokens, access: &Access) -> Tokens {
        self.rules.report(self.rules.boundary(depth), access.prompt.tokens())
    }

    /// Reads a bit of what all sets hold on an edge, so that it is at hand.
    pub fn touch(&self, edge: EdgeId) -> u64 {
        self.reached.touch(edge) ^ self.perfectly_routed.touch(edge)
    }

    /// Notes what a request that leaves something sends and will store at `places`, at its arrival.
    #[inline(always)]
    pub fn arrive(
        &mut self,
        tree: &PrefixTree,
        access: &Access,
        places: &[Cursor],
        expiry: SimTime,
        now: SimTime,
    ) -> Noted {
        let scopes = Scopes::of(access);
        let Prompt { shareable, .. } = access.prompt;
        self.reached.write(Set::Sent, tree, scopes.everyone, shareable);
        self.perfectly_routed.cover(tree, scopes.partition, shareable, now, expiry);
        for place in places {
            if place.depth > shareable.depth {
                // A stored answer lies beyond what was sent, and is known all the same.
                self.reached.write(Set::Sent, tree, scopes.everyone, *place);
                self.perfectly_routed.cover(tree, scopes.partition, *place, now, expiry);
            }
            self.reached.write(Set::Written, tree, scopes.everyone, *place);
            if self.several_partitions {
                self.reached.write(Set::InPartition, tree, scopes.partition, *place);
            }
            self.reached.write(Set::ByKey, tree, scopes.key, *place);
        }
        Noted { key: scopes.key, here: scopes.here }
    }

    /// Notes what becomes visible now at `places`.
    #[inline(always)]
    pub fn appear(&mut self, tree: &PrefixTree, noted: Noted, places: &[Cursor]) {
        for place in places {
            if !self.is_instant() {
                self.reached.write(Set::Visible, tree, noted.key, *place);
            }
            self.reached.write(Set::Here, tree, noted.here, *place);
        }
    }

    /// Whether all that becomes visible at a place is noted already, where writes cover.
    #[inline(always)]
    pub fn is_noted(&self, noted: Noted, at: Cursor) -> bool {
        let holds = |set, scope| self.reached.holds(set, scope, at);
        (self.is_instant() || holds(Set::Visible, noted.key)) && holds(Set::Here, noted.here)
    }

    /// Notes the same of the last edge of the path alone, where writes cover: whether all before it is noted too.
    #[inline(always)]
    pub fn appear_end(&mut self, tree: &PrefixTree, noted: Noted, at: Cursor) -> bool {
        let visible = self.is_instant() || self.reached.write_end(Set::Visible, tree, noted.key, at);
        let here = self.reached.write_end(Set::Here, tree, noted.here, at);
        visible && here
    }

    /// Notes what an effect that becomes visible now does, whatever it is.
    pub fn appear_whole(&mut self, tree: &PrefixTree, effect: &Effect, now: SimTime) {
        let Scopes { key, here, .. } = Scopes::of(&effect.access);
        self.appear(tree, Noted { key, here }, &effect.places);
        if let Some(unexpired) = &mut self.unexpired {
            effect.touch(unexpired, tree, here, now);
        }
    }

    /// Whether what is written is visible at once, so that S4 is S3.
    fn is_instant(&self) -> bool {
        self.rules.visible == Visible::Arrival && self.rules.lag.0 == 0
    }
}

/// The attribution where everything sent before on the path of a request is alive for it. Every other set holds no less
/// than what is alive and no more than what was sent, the shadow cache too: all reach as deep.
#[inline(always)]
fn nothing_lost(request: &Request, access: &Access, found: &Found) -> Attribution {
    let Found { alive, cached, .. } = *found;
    let changed = changed_tokens(request, alive);
    let mut lost = [0; Cause::ALL.len()];
    lost[Cause::New as usize] = access.prompt.tokens() - alive - changed;
    lost[Cause::Changed as usize] = changed;
    lost[Cause::Rounding as usize] = alive - cached;
    Attribution { lost, ceiling_infinite: cached, ceiling_lifetime: cached }
}

/// Of the tokens beyond everything sent before, those up to the length of the session's own previous prompt. (If that
/// prompt is a prefix of this one, under the same date, all of it was sent before.)
fn changed_tokens(request: &Request, sent: Tokens) -> Tokens {
    request.previous.min(request.prompt.tokens()).saturating_sub(sent)
}
