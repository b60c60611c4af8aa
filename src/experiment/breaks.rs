//! Breaks: where the prefixes of a log's conversations broke, how often, and what that cost.
//!
//! A call is compared with the one before it in its session. Where no session is named, with the latest call that it
//! shares most with: if it parts from that one in what the user says, it is taken for another conversation.

use std::collections::BTreeMap;
use std::path::Path;

use crate::error::Result;
use crate::experiment::contract::{Contract, Contracts};
use crate::experiment::diff::{Eligible, Kind, Place, differing, place};
use crate::experiment::preflight::has_relative_prices;
use crate::input::call::{Role, Settings};
use crate::input::log::{Log, LogFormat, LoggedCall, Shown, as_sent};
use crate::input::token_tree::common_prefix;
use crate::prompt::{Mark, Run};
use crate::units::{Tokens, Usd};

/// What became of a log's prefixes.
pub struct Breaks {
    /// The log.
    pub log: Log,
    /// How many calls were compared with an earlier one, by how they go on from it.
    pub kinds: BTreeMap<Kind, u64>,
    /// Calls that begin a conversation.
    pub first_calls: u64,
    /// The places at which prefixes broke, those that cost most first.
    pub places: Vec<Broken>,
}

/// A place at which prefixes broke.
#[derive(Clone, Debug)]
pub struct Broken {
    /// Path of the value, with `*` for every index; or a setting.
    pub path: String,
    /// Who speaks there; nobody in a setting.
    pub role: Option<Role>,
    /// How often.
    pub count: u64,
    /// Line of the first call.
    pub line: u64,
    /// Sum of the depths at which it broke, in tokens.
    pub depths: u64,
    /// Tokens that would have been read if the earlier prompt had been kept as it was.
    pub lost_tokens: u64,
    /// What these cost; nothing where the provider's prices are not known in USD.
    pub lost_usd: Usd,
    /// The earlier and the later prompt of the first break, and where they part.
    pub first: ([Vec<Run>; 2], Tokens),
}

/// A call that others may go on from.
struct Earlier {
    settings: Settings,
    runs: Vec<Run>,
    tokens: Tokens,
    marks: Vec<Mark>,
}

/// The log while it is read.
#[derive(Default)]
struct Reading {
    kinds: BTreeMap<Kind, u64>,
    first_calls: u64,
    places: BTreeMap<(String, Option<Role>), Broken>,
    calls: Vec<Earlier>,
    last_of_session: BTreeMap<u32, usize>,
}

impl Shown<'_> {
    fn place(&self, token: Tokens) -> Option<Place> {
        place(self.call.body.as_ref()?, self.rendered, token)
    }
}

impl Breaks {
    /// Reads a log, and judges it by these contracts.
    pub fn read(path: &Path, format: &LogFormat, contracts: &mut Contracts) -> Result<Self> {
        let mut reading = Reading::default();
        let mut log = Log::read_shown(path, format, |shown, logged| {
            let contract = contracts.of(shown.call.settings.prefix.get("model").map(String::as_str));
            reading.call(shown, logged, &contract);
        })?;
        if !log.calls.is_sorted_by_key(|call| call.line) {
            log.notes.push(
                "the file is not in the order of time; calls are compared in the order of the file".into(),
            );
        }
        let Reading { kinds, first_calls, places, .. } = reading;
        let mut places: Vec<_> = places.into_values().collect();
        places.sort_by_key(|broken| std::cmp::Reverse((broken.lost_tokens, broken.count)));
        Ok(Self { log, kinds, first_calls, places })
    }
}

impl Reading {
    fn call(&mut self, shown: &Shown<'_>, logged: &LoggedCall, contract: &Contract) {
        if logged.has_body {
            match self.before(shown, logged) {
                Some(before) => self.compare(before, shown, logged, contract),
                None => self.first_calls += 1,
            }
        }
        if let Some(session) = logged.session {
            self.last_of_session.insert(session, self.calls.len());
        }
        self.calls.push(Earlier {
            settings: shown.call.settings.clone(),
            runs: logged.runs.clone(),
            tokens: logged.rendered_tokens,
            marks: as_sent(&logged.marks, logged.explicit_only),
        });
    }

    /// The call that this one goes on from.
    fn before(&self, shown: &Shown<'_>, logged: &LoggedCall) -> Option<usize> {
        let before = match logged.session {
            Some(session) => *self.last_of_session.get(&session)?,
            None => {
                let before = shown.beside? as usize;
                let is_whole = self.calls[before].tokens == shown.shared;
                let parts_at = shown.place(shown.shared).and_then(|place| place.role);
                if !is_whole && parts_at == Some(Role::User) {
                    return None;
                }
                before
            }
        };
        Some(before)
    }

    fn compare(&mut self, before: usize, shown: &Shown<'_>, logged: &LoggedCall, contract: &Contract) {
        let earlier = &self.calls[before];
        let settings = differing(&earlier.settings, &shown.call.settings);
        let prefix = if settings.is_empty() { common_prefix(&earlier.runs, &logged.runs) } else { 0 };
        let kind = match settings.is_empty() {
            true => Kind::of(earlier.tokens, logged.rendered_tokens, prefix),
            false => Kind::Mutation,
        };
        *self.kinds.entry(kind).or_default() += 1;
        if kind != Kind::Mutation {
            return;
        }
        let (path, role) = match settings.first() {
            Some(name) => ((*name).to_string(), None),
            None => {
                let place = shown.place(prefix).expect("a mutation lies before the end");
                (without_indices(&place.path), place.role)
            }
        };
        let (lost_tokens, lost_usd) = lost(earlier, logged, prefix, contract);
        let first = ([earlier.runs.clone(), logged.runs.clone()], prefix);
        let broken = self.places.entry((path.clone(), role)).or_insert_with(|| Broken {
            path,
            role,
            count: 0,
            line: logged.line,
            depths: 0,
            lost_tokens: 0,
            lost_usd: Usd::default(),
            first,
        });
        broken.count += 1;
        broken.depths += u64::from(prefix);
        broken.lost_tokens += u64::from(lost_tokens);
        broken.lost_usd = [broken.lost_usd, lost_usd].into_iter().sum();
    }
}

/// What a break cost: against the earlier prompt kept as it was.
fn lost(earlier: &Earlier, later: &LoggedCall, prefix: Tokens, contract: &Contract) -> (Tokens, Usd) {
    let write = &contract.provider.write;
    let tokens = later.rendered_tokens;
    let looked_at = as_sent(&later.marks, later.explicit_only);
    let reads = |prefix| {
        let sides = ((earlier.tokens, earlier.marks.as_slice()), (tokens, looked_at.as_slice()));
        Eligible::of(write, sides.0, sides.1, prefix).expected
    };
    let (kept, read) = (reads(earlier.tokens.min(tokens)), reads(prefix));
    if has_relative_prices(&contract.provider) {
        return (kept.saturating_sub(read), Usd::default());
    }
    let prices = contract.provider.chosen_model().prices();
    let cost = |cached| prices.cost(tokens, cached, 0, 0);
    (kept.saturating_sub(read), cost(read) - cost(kept.max(read)))
}

/// A path with `*` for every index.
fn without_indices(path: &str) -> String {
    let mut pattern = String::new();
    for (at, piece) in path.split('[').enumerate() {
        match piece.split_once(']') {
            Some((index, rest)) if at > 0 && index.bytes().all(|byte| byte.is_ascii_digit()) => {
                pattern += "[*]";
                pattern += rest;
            }
            _ if at > 0 => pattern = format!("{pattern}[{piece}"),
            _ => pattern += piece,
        }
    }
    pattern
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indices_are_left_out_of_paths() {
        for (path, pattern) in [
            ("input[312].content[0].text", "input[*].content[*].text"),
            ("tools[3]", "tools[*]"),
            ("instructions", "instructions"),
            ("a[b][1]", "a[b][*]"),
        ] {
            assert_eq!(without_indices(path), pattern);
        }
    }
}
