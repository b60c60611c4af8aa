//! Sessions: what a call changes of the one before it.

use rustc_hash::FxHashMap;

use crate::experiment::check::finding::{Finding, Findings, Place};
use crate::experiment::check::seen::{Piece, Seen};
use crate::experiment::rule::Rule;
use crate::input::call::Role;
use crate::random::digest;
use crate::units::{SimTime, Span, Tokens};

/// Sessions that are remembered; of more, those that rested longest are forgotten.
const MOST: usize = 4_096;

/// The latest call of each session.
#[derive(Debug, Default)]
pub struct Sessions {
    latest: FxHashMap<u64, Session>,
    calls: u64,
}

/// What is known of a session.
#[derive(Debug)]
struct Session {
    pieces: Vec<Piece>,
    tokens: Tokens,
    toolset: u64,
    key: Option<u64>,
    time: Option<SimTime>,
    place: Place,
    compaction: Option<Compaction>,
    /// The number of its latest call.
    call: u64,
}

/// A compaction, and how it is made up for.
#[derive(Debug)]
struct Compaction {
    finding: Finding,
    before: Tokens,
    after: Tokens,
    /// Calls that it must be followed by, itself among them, to have paid.
    needed: u64,
    calls: u64,
}

impl Sessions {
    /// Looks at a call with a set of tools.
    pub fn look(&mut self, seen: &Seen<'_>, toolset: u64, findings: &mut Findings) {
        let Some(session) = seen.call.session.as_ref().filter(|_| !seen.parts.is_empty()) else { return };
        self.calls += 1;
        let name = digest(session);
        let before = self.latest.remove(&name);
        let compaction = before.and_then(|before| before.compare(seen, toolset, findings));
        let session = Session {
            pieces: seen.pieces.clone(),
            tokens: seen.counted(),
            toolset,
            key: seen.key(),
            time: seen.call.time,
            place: seen.place.clone(),
            compaction,
            call: self.calls,
        };
        self.latest.insert(name, session);
        if self.latest.len() > MOST {
            self.forget(findings);
        }
    }

    /// Forgets the half of the sessions that rested longest.
    fn forget(&mut self, findings: &mut Findings) {
        let mut calls: Vec<_> = self.latest.values().map(|session| session.call).collect();
        calls.sort_unstable();
        let oldest = calls[calls.len() / 2];
        let (gone, kept) = std::mem::take(&mut self.latest).into_iter().partition(|(_, s)| s.call < oldest);
        self.latest = kept;
        settle(gone, findings);
    }

    /// What it comes to.
    pub fn finish(self, findings: &mut Findings) {
        settle(self.latest, findings);
    }
}

/// Judges the compactions of sessions that are over, in the order of their latest calls.
fn settle(sessions: FxHashMap<u64, Session>, findings: &mut Findings) {
    let mut sessions: Vec<_> = sessions.into_values().collect();
    sessions.sort_by_key(|session| session.call);
    sessions.into_iter().filter_map(|session| session.compaction).for_each(|over| over.settle(findings));
}

impl Session {
    /// Compares the next call with this one; a compaction that is still to be made up for.
    fn compare(self, seen: &Seen<'_>, toolset: u64, findings: &mut Findings) -> Option<Compaction> {
        let common = self.pieces.iter().zip(&seen.pieces).take_while(|(a, b)| a.is(b)).count();
        self.key_changed(seen, findings);
        // Another beginning is another conversation, whatever the session is called.
        let starts_alike = common > 0 || self.toolset != toolset;
        if starts_alike {
            self.tools_changed(seen, toolset, findings);
            self.reasoning_dropped(seen, common, findings);
            self.phase_dropped(seen, common, findings);
        }
        let kept = common.checked_sub(1).map_or(0, |last| self.pieces[last].end);
        let (before, time) = (self.tokens, self.time);
        let mut running = self.compaction;
        if let Some(compaction) = &mut running {
            compaction.calls += 1;
            // Who comes back to the long prompt has branched off, not compacted.
            if seen.counted() > compaction.before {
                running = None;
            }
        }
        let Some(next) = Compaction::new(seen, before, kept, time) else { return running };
        if let Some(over) = running {
            over.settle(findings);
        }
        Some(next)
    }

    fn key_changed(&self, seen: &Seen<'_>, findings: &mut Findings) {
        if let (Some(before), Some(now)) = (self.key, seen.key())
            && before != now
        {
            let words = format!("another key than the session's call before it, {}", self.place.line());
            let place = seen.place.at("prompt_cache_key");
            findings.add("", Finding::new(Rule::ScatteredSession, place, words));
        }
    }

    fn tools_changed(&self, seen: &Seen<'_>, toolset: u64, findings: &mut Findings) {
        if self.toolset == toolset {
            return;
        }
        let is_tool = |piece: &&Piece| piece.role == Role::Tools;
        let pairs = self.pieces.iter().zip(&seen.pieces);
        let same = pairs.take_while(|(a, b)| is_tool(a) && a.is(b)).count();
        let [before, now] = [&self.pieces, &seen.pieces].map(|pieces| pieces.iter().filter(is_tool).count());
        let words = format!("{now} tools after {before}: the same up to token {} only", seen.start(same));
        let path = seen.parts.get(same).map_or("tools", |part| part.path.as_str());
        let finding = Finding::new(Rule::ChangedTools, seen.place.at(path), words);
        findings.add("", Finding { depth: seen.depth(seen.start(same)), ..finding });
    }

    fn reasoning_dropped(&self, seen: &Seen<'_>, common: usize, findings: &mut Findings) {
        let gone = self.pieces[common..].iter().take_while(|piece| piece.role == Role::Reasoning).count();
        let goes_on = |next: &Piece| seen.pieces.get(common).is_some_and(|piece| piece.is(next));
        let dropped = match self.pieces.get(common + gone) {
            Some(next) => goes_on(next),
            // It was the last thing said: anything else in its place has dropped it.
            None => seen.pieces.get(common).is_some_and(|piece| piece.role != Role::Reasoning),
        };
        if gone > 0 && dropped {
            let tokens = self.pieces[common + gone - 1].end - seen.start(common);
            let words = format!("{tokens} tokens of reasoning that {} sent are gone", self.place.line());
            let place = seen.place.at(&seen.parts[common].path);
            let finding = Finding::new(Rule::DroppedReasoning, place, words);
            findings.add("gone", Finding { depth: seen.depth(seen.start(common)), ..finding });
        }
    }

    fn phase_dropped(&self, seen: &Seen<'_>, common: usize, findings: &mut Findings) {
        let (Some(before), Some(now)) = (self.pieces.get(common), seen.pieces.get(common)) else { return };
        if before.says(now) && before.phase != now.phase {
            let how = if now.phase == 0 { "has lost its phase" } else { "has another phase" };
            let words = format!("an assistant message {how} since {}", self.place.line());
            let finding = Finding::new(Rule::DroppedPhase, seen.place.at(&seen.parts[common].path), words);
            findings.add("gone", Finding { depth: seen.depth(seen.start(common)), ..finding });
        }
    }
}

impl Compaction {
    /// What a call has compacted, if it has: of `before` tokens the first `kept` are left, and a quarter is gone.
    fn new(seen: &Seen<'_>, before: Tokens, kept: Tokens, last: Option<SimTime>) -> Option<Self> {
        let after = seen.counted();
        if kept == 0 || kept >= after || u64::from(after) * 4 > u64::from(before) * 3 {
            return None;
        }
        // What had expired costs nothing to rebuild.
        if let (Some(last), Some(now), Some(life)) = (last, seen.call.time, seen.longest_life())
            && last <= now
            && now.since(last) > Span(life)
        {
            return None;
        }
        let prices = seen.provider().chosen_model().prices();
        let read = |tokens| prices.cost(tokens, tokens, 0, 0).0;
        let saved = read(before) - read(after);
        let rebuilt = prices.cost(after, kept, after - kept, 0).0 - read(after);
        let needed =
            if saved > 0 { u64::try_from((rebuilt + saved - 1) / saved).ok()? } else { return None };
        let words = format!("{before} tokens compacted to {after}, of which {} are new", after - kept);
        let finding = Finding::new(Rule::CostlyCompaction, seen.place.clone(), words);
        let finding = Finding { depth: seen.depth(kept), ..finding };
        Some(Self { finding, before, after, needed, calls: 1 })
    }

    /// Judges it at its end.
    fn settle(self, findings: &mut Findings) {
        let Self { mut finding, before, after, needed, calls } = self;
        if calls < needed {
            finding.message += &format!(
                ": at {} tokens less a call it takes {needed} calls to pay for the rebuilt prefix, and {calls} followed",
                before - after
            );
            findings.add("", finding);
        }
    }
}
