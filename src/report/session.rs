//! One session of a run, call by call: what was read, what was written, what was lost and why, and what changed in its prompt.

use rustc_hash::FxHashMap;

use crate::client::volatility::{Rewritten, Volatility};
use crate::experiment::scenario::Loaded;
use crate::report::inside::{key_of, machine_of, seconds};
use crate::simulation::outcome::{Cause, Outcome};
use crate::units::Tokens;

/// Calls of it that are shown.
const CALLS: usize = 40;

/// The session to be looked at is one of the first so many.
const SESSIONS: usize = 500;

/// An edit lies in front of this share of the prompt before it, a rewritten status block behind.
const STATUS_BEHIND: f64 = 0.9;

/// A prompt shorter than this share of the one before it was compacted.
const COMPACTED: f64 = 0.8;

/// The columns.
pub fn header() -> Vec<String> {
    let first = ["cell", "of", "call", "arrival_s", "occasion", "machine", "overflowed", "failed"];
    let tokens = ["prompt_tokens", "cached_tokens", "written_tokens"];
    let lost = Cause::ALL.iter().map(|cause| format!("lost_{}_tokens", cause.name()));
    let last = ["ttft_ms", "total_ms", "change"];
    let first = first.into_iter().chain(tokens).map(String::from);
    first.chain(lost).chain(last.into_iter().map(String::from)).collect()
}

/// A session, a line for each call. Where every session has one call only, it is the calls of the key that is used most.
pub fn one_session(calls: &[Outcome], loaded: &Loaded, session: Option<u64>) -> Vec<Vec<String>> {
    let workloads: Vec<_> = loaded.scenario.client.workload.iter().collect();
    let of_session: Vec<_> = match session {
        Some(session) => calls.iter().filter(|call| call.session == session).take(CALLS).copied().collect(),
        None => Vec::new(),
    };
    let is_session = !of_session.is_empty();
    let (of, chosen) = if is_session {
        let name = workloads.get(of_session[0].workload as usize).map_or("", |(name, _)| name.as_str());
        (format!("session {} of {name}", of_session[0].session), of_session)
    } else {
        busiest_key(calls)
    };
    let mut before: Option<&Outcome> = None;
    let mut lines = Vec::new();
    for (number, call) in chosen.iter().enumerate() {
        let volatility = workloads.get(call.workload as usize).map(|(_, workload)| &workload.volatility);
        let change = before.zip(volatility).filter(|_| is_session);
        let change = change.map_or("", |(before, volatility)| change_between(before, call, volatility));
        lines.push(line(&of, number, call, change));
        before = Some(call);
    }
    lines
}

/// The number of the session with the most calls (up to what is shown), of these the one that lost most; none where no
/// session has more than one. Sessions are the same in all variants of a sweep, so that what one chooses can be compared.
pub fn telling_session(calls: &[Outcome]) -> Option<u64> {
    let mut places: FxHashMap<u64, usize> = FxHashMap::default();
    // Number, calls and lost tokens.
    let mut sessions: Vec<(u64, usize, u64)> = Vec::new();
    for call in calls {
        let place = match places.get(&call.session) {
            Some(place) => *place,
            None if sessions.len() < SESSIONS => {
                places.insert(call.session, sessions.len());
                sessions.push((call.session, 0, 0));
                sessions.len() - 1
            }
            None => continue,
        };
        let (_, count, lost) = &mut sessions[place];
        if *count < CALLS {
            *count += 1;
            *lost += u64::from(call.prompt.saturating_sub(call.cached));
        }
    }
    // The first of equals.
    let longest = sessions.iter().rev().max_by_key(|(_, calls, lost)| (*calls, *lost))?;
    (longest.1 > 1).then_some(longest.0)
}

/// The first calls of the key that is used most, with its name.
fn busiest_key(calls: &[Outcome]) -> (String, Vec<Outcome>) {
    let mut uses: FxHashMap<String, usize> = FxHashMap::default();
    for call in calls {
        *uses.entry(key_of(call)).or_default() += 1;
    }
    let most = uses.values().copied().max().unwrap_or(0);
    let key = calls.iter().map(key_of).find(|key| uses[key] == most).unwrap_or_default();
    let of_key = calls.iter().filter(|call| key_of(call) == key).take(CALLS).copied().collect();
    (format!("key {key}"), of_key)
}

/// What happened to the prompt of a session between two calls, as far as lengths, losses and the scenario say.
fn change_between(before: &Outcome, call: &Outcome, volatility: &Volatility) -> &'static str {
    let changed = call.attribution.map_or(0, |attribution| attribution.lost[Cause::Changed as usize]);
    if f64::from(call.prompt) < COMPACTED * f64::from(before.prompt) && volatility.compact_above.is_some() {
        return "compacted";
    }
    if changed == 0 {
        return "";
    }
    let new = call.attribution.map_or(0, |attribution| attribution.lost[Cause::New as usize]);
    let parted: Tokens = call.prompt.saturating_sub(changed + new);
    let rewrites = volatility.status_tokens > 0 && volatility.status_rewritten != Rewritten::Off;
    let edits = volatility.edit_probability > 0.0;
    if volatility.head_tokens > 0 && parted <= volatility.head_tokens {
        "head changed"
    } else if rewrites && (!edits || f64::from(parted) >= STATUS_BEHIND * f64::from(before.prompt)) {
        "status block rewritten"
    } else if edits {
        "edit"
    } else {
        "changed"
    }
}

fn line(of: &str, number: usize, call: &Outcome, change: &str) -> Vec<String> {
    let flag = |holds: bool| u8::from(holds).to_string();
    let mut line = vec![
        of.to_string(),
        number.to_string(),
        seconds(call.arrival.0),
        call.occasion.name().to_string(),
        machine_of(call),
        flag(call.overflowed),
        flag(call.failed),
        call.prompt.to_string(),
        call.cached.to_string(),
        call.written.to_string(),
    ];
    match &call.attribution {
        Some(attribution) => line.extend(attribution.lost.iter().map(ToString::to_string)),
        None => line.extend(std::iter::repeat_n(String::new(), Cause::ALL.len())),
    }
    line.extend([call.timing.ttft, call.timing.total].map(|span| format!("{:.3}", span.millis())));
    line.push(change.to_string());
    line
}
