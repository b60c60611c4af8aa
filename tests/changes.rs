//! What changes behind the user's back, worked by hand: the date in a hidden system message, several backends, and
//! another provider from some time on.

use std::path::Path;

use cachecast::experiment::run::replicate;
use cachecast::experiment::scenario::{Change, Loaded};
use cachecast::simulation::outcome::{Cause, Outcome};

/// One conversation of four calls, eight hours apart, of which nothing is ever forgotten: prompts of 1,100, 1,250, 1,400
/// and 1,550 tokens, each of which repeats the one before with its answer.
const CHAT: &str = r#"
duration = "3d"

[client.workload.chat]
arrivals = { process = "fixed", rate = "every 3d" }

[client.workload.chat.chat]
prefix_tokens = 1000
turns = 4
user_tokens = 100
output_tokens = 50
think = "8h"

[provider]
profile = "ideal"
"#;

/// A call an hour of one prefix of 1,000 tokens, each with a tail of 100 tokens of its own.
const CALLS: &str = r#"
duration = "4h"

[client.workload.calls]
arrivals = { process = "fixed", rate = "every 1h" }

[client.workload.calls.shared_prefix]
prefix_tokens = 1000
tail_tokens = 100
output_tokens = 1

[provider]
profile = "ideal"
"#;

/// A scenario of this file with other values at some paths: `path=value`, one a line.
fn load(text: &str, changes: &str) -> cachecast::error::Result<Loaded> {
    let lines = changes.lines().filter(|line| !line.trim().is_empty());
    let changes: Vec<_> = lines.map(|line| Change::parse(line.trim()).unwrap()).collect();
    Loaded::from_text("changes", "changes.toml", text, Path::new(""), &changes)
}

/// Every request; the causes of each add up to what was not cached.
fn play(text: &str, changes: &str) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    let scenario = load(text, changes).unwrap_or_else(|error| panic!("{error}"));
    replicate(&scenario, 0, |outcome| outcomes.push(*outcome)).unwrap();
    for outcome in &outcomes {
        let attribution = outcome.attribution.unwrap();
        assert_eq!(attribution.lost.iter().sum::<u32>(), outcome.prompt - outcome.cached, "{outcome:?}");
        assert!(outcome.cached <= attribution.ceiling_lifetime, "{outcome:?}");
        assert!(attribution.ceiling_lifetime <= attribution.ceiling_infinite, "{outcome:?}");
    }
    outcomes
}

fn cached(outcomes: &[Outcome]) -> Vec<u32> {
    outcomes.iter().map(|outcome| outcome.cached).collect()
}

/// Tokens that every request lost to one cause.
fn lost(outcomes: &[Outcome], cause: Cause) -> Vec<u32> {
    outcomes.iter().map(|outcome| outcome.attribution.unwrap().lost[cause as usize]).collect()
}

/// What an infinite cache would have read.
fn ceilings(outcomes: &[Outcome]) -> Vec<u32> {
    outcomes.iter().map(|outcome| outcome.attribution.unwrap().ceiling_infinite).collect()
}

// A date in the hidden system message.

#[test]
fn at_midnight_a_hidden_date_changes_every_prefix() {
    let dated = play(CHAT, "provider.write.hidden_date=true");
    // At 0, 8, 16 and 24 hours: the last call is the first of a new day, and the 1,400 tokens that it sends again are
    // behind another date.
    assert_eq!(cached(&dated), [0, 1_100, 1_250, 0]);
    assert_eq!(ceilings(&dated), [0, 1_100, 1_250, 0]);
    assert_eq!(lost(&dated, Cause::Changed), [0, 0, 0, 1_400]);
    assert_eq!(lost(&dated, Cause::New), [1_100, 150, 150, 150]);
    assert_eq!(cached(&play(CHAT, "")), [0, 1_100, 1_250, 1_400], "nothing else forgets");
}

#[test]
fn calls_of_other_sessions_are_new_on_a_new_day() {
    let calls = play(
        CALLS,
        "duration=4d\nclient.workload.calls.arrivals.rate=every 9h\nprovider.write.hidden_date=true",
    );
    // Of the calls every 9 hours, those at 0, 27, 54 and 72 hours are the first of their days.
    let first_of_a_day = [0, 3, 6, 8];
    let expected = |call: usize| if first_of_a_day.contains(&call) { 0 } else { 1_000 };
    assert_eq!(cached(&calls), (0..11).map(expected).collect::<Vec<_>>());
    assert_eq!(lost(&calls, Cause::Changed), [0; 11]);
}

#[test]
fn the_one_body_of_a_routing_key_makes_room_for_that_of_another_date() {
    let one =
        "provider.write.hidden_date=true\nprovider.write.bodies=one\nprovider.write.semantics=whole_body";
    assert_eq!(cached(&play(CHAT, one)), [0, 1_100, 1_250, 0]);
    let once = "provider.write.hidden_date=true\nprovider.write.when=once";
    // Yesterday's body is alive, though nobody can read it: nothing is written beside it.
    assert_eq!(cached(&play(&CHAT.replace("turns = 4", "turns = 6"), once)), [0, 1_100, 1_100, 0, 0, 0]);
}

// Several backends.

#[test]
fn nothing_is_shared_between_backends() {
    let two = "duration=400h\nprovider.routing.backends=[1, 3]";
    let calls = play(CALLS, two);
    let mut seen = [false; 2];
    for call in &calls {
        let known = std::mem::replace(&mut seen[call.partition as usize], true);
        assert_eq!(call.cached, if known { 1_000 } else { 0 }, "{call:?}");
        assert_eq!(call.machine.0, call.partition, "each has a machine of its own: {call:?}");
    }
    // The second backend's first call finds the prefix stored at the other one.
    let elsewhere: Vec<_> = lost(&calls, Cause::OtherAccount).into_iter().filter(|lost| *lost > 0).collect();
    assert_eq!(elsewhere, [1_000]);
    let at_second = calls.iter().filter(|call| call.partition == 1).count();
    assert!((270..330).contains(&at_second), "three in four of 400: {at_second}");
    let again = play(CALLS, two);
    assert!(calls.iter().zip(&again).all(|(one, other)| one.partition == other.partition));
}

#[test]
fn a_session_stays_at_its_backend_if_backends_are_drawn_by_session() {
    let many = "client.workload.chat.arrivals.rate=every 1h\nprovider.routing.backends=[1, 1, 1]\n";
    let partitions = |by: &str| {
        let mut partitions = std::collections::BTreeMap::<u64, Vec<u32>>::new();
        for call in play(CHAT, &format!("{many}provider.routing.backend_by={by}")) {
            partitions.entry(call.session).or_default().push(call.partition);
        }
        partitions
    };
    let stays = |calls: &Vec<u32>| calls.windows(2).all(|pair| pair[0] == pair[1]);
    let by_session = partitions("session");
    assert!(by_session.values().all(stays), "{by_session:?}");
    let used: std::collections::BTreeSet<_> = by_session.values().flatten().collect();
    assert_eq!(used.len(), 3, "all are used");
    assert!(!partitions("request").values().all(stays));
}

#[test]
fn backends_of_several_partitions_are_numbered_apart() {
    let other = CALLS.replace(
        "[provider]",
        "[client.workload.others]\npartition = 'other'\narrivals = { process = 'fixed', rate = 'every 1h' }\n\
         [client.workload.others.shared_prefix]\nprefix_tokens = 1000\ntail_tokens = 100\noutput_tokens = 1\n\
         [provider]",
    );
    for call in play(&other, "duration=100h\nprovider.routing.backends=[1, 1]\nprovider.routing.machines=5") {
        assert_eq!(call.partition / 2, call.workload, "two backends each: {call:?}");
        assert_eq!(call.machine.0 / 5, call.partition, "five machines each: {call:?}");
    }
}

// Another provider from some time on.

#[test]
fn what_hit_before_a_change_misses_after_it() {
    // Calls at 0, 1, 2 and 3 hours. From 2 hours on only whole bodies are stored: every tail is its own, and none is
    // ever found again. At the very moment of the change it comes first.
    let calls =
        play(&format!("{CALLS}\n[[regime]]\nat = '2h'\nprovider.write.semantics = 'whole_body'\n"), "");
    assert_eq!(cached(&calls), [0, 1_000, 0, 0]);
    // What was sent before is known, but nothing of it is stored under the new rules.
    assert_eq!(lost(&calls, Cause::New), [1_100, 100, 100, 100]);
    assert_eq!(lost(&calls, Cause::Unwritten), [0, 0, 1_000, 1_000]);
    assert_eq!(ceilings(&calls), [0, 1_000, 1_000, 1_000]);
}

#[test]
fn machines_are_cold_and_idle_after_a_change_and_what_was_on_its_way_is_lost() {
    let same = |at: &str| format!("{CALLS}\n[[regime]]\nat = '{at}'\n[regime.provider]\n");
    // The same provider again: one call pays for the cold start, the others read.
    let restarted = play(&same("90m"), "");
    assert_eq!(cached(&restarted), [0, 1_000, 0, 1_000]);
    assert_eq!(lost(&restarted, Cause::Unwritten), [0, 0, 1_000, 0]);
    // Answers of two hours on one slot: at 1, 2 and 3 hours a call waits for those before it. What the calls of 0 and 1
    // hours wrote appears with their answers, at 2 and 4 hours: after the change, never.
    let slow =
        "provider.latency.slots=1\nprovider.latency.per_output_token=2h\nprovider.write.visible=completion";
    let waits =
        |calls: &[Outcome]| calls.iter().map(|call| call.timing.wait.seconds() / 3_600.0).collect::<Vec<_>>();
    let undisturbed = play(CALLS, slow);
    assert_eq!(waits(&undisturbed), [0.0, 1.0, 2.0, 3.0]);
    assert_eq!(cached(&undisturbed), [0, 0, 1_000, 1_000]);
    let changed = play(&same("90m"), slow);
    assert_eq!(waits(&changed), [0.0, 1.0, 0.0, 1.0], "the queue is gone");
    assert_eq!(cached(&changed), [0, 0, 0, 0]);
    assert_eq!(lost(&changed, Cause::Unwritten), [0, 0, 1_000, 0]);
    assert_eq!(lost(&changed, Cause::NotYetVisible), [0, 1_000, 0, 1_000]);
}

#[test]
fn a_later_regime_names_a_profile_or_changes_the_first_and_lasts_until_the_next() {
    let text = format!(
        "{CALLS}\n[[regime]]\nat = '1h'\n[regime.provider]\nprofile = 'openai-classic'\n\
         latency.noise_sigma = 0.0\n[[regime]]\nat = '3h'\nprovider.retention.lifetime.ideal = '1m'\n"
    );
    let loaded = load(&text, "duration=6h").unwrap();
    let regimes = &loaded.scenario.regime;
    assert_eq!(
        (regimes[0].provider.profile.as_str(), regimes[0].provider.write.interval),
        ("openai-classic", 128)
    );
    assert_eq!((regimes[1].provider.profile.as_str(), regimes[1].provider.write.interval), ("ideal", 1));
    // 0 h: cold. 1 and 2 h: in_memory lives for ten minutes at most. From 3 h on a minute.
    let calls = play(&text, "duration=6h");
    assert_eq!(cached(&calls), [0; 6]);
    assert_eq!(lost(&calls, Cause::Unwritten), [0, 1_000, 0, 1_000, 0, 0]);
    assert_eq!(lost(&calls, Cause::Expired)[4..], [1_000, 1_000]);
    let first_tokens: Vec<_> = calls.iter().map(|call| call.timing.ttft.millis()).collect();
    // 1.1 s and 1,100 tokens of 20.1 us; nothing takes any time before and after.
    assert_eq!(first_tokens, [0.0, 1_122.11, 1_122.11, 0.0, 0.0, 0.0]);
    // A unit price a token before and after, 1.75 USD a million in between.
    let row = replicate(&load(&text, "duration=6h").unwrap(), 0, |_| ()).unwrap().row;
    let dollars = (4.0 * 1.0 + 2.0 * 1.75) * 1_100.0 / 1e6;
    assert!((row.get("cost_usd").unwrap() - dollars).abs() < 1e-9, "{:?}", row.get("cost_usd"));
}

#[test]
fn a_conversation_meets_breakpoints_after_a_change_with_all_its_earlier_messages() {
    // At 0 and 8 h prefixes are stored. From 12 h on ends of messages: the call at 16 h finds nothing and writes its end,
    // at 1,400; the one at 24 h looks back at it.
    let text = format!("{CHAT}\n[[regime]]\nat = '12h'\nprovider.write.semantics = 'breakpoints'\n");
    let calls = play(&text, "");
    assert_eq!(cached(&calls), [0, 1_100, 0, 1_400]);
    assert_eq!(lost(&calls, Cause::Unwritten), [0, 0, 1_250, 0]);
}

#[test]
fn a_trace_counts_the_time_of_a_change_from_its_first_request() {
    let folder = tempfile::tempdir().unwrap();
    let line = |seconds: u64| {
        format!("{{\"timestamp\": {seconds}, \"input_length\": 1024, \"hash_ids\": [1, 2]}}\n")
    };
    // The first request at 10:00: the change comes at 10:30, between the second and the third.
    let trace: String = [36_000, 37_000, 38_000, 39_000].map(line).concat();
    std::fs::write(folder.path().join("t.jsonl"), trace).unwrap();
    let text = "client.workload.log.trace.file = { path = 't.jsonl', block_tokens = 512, time_unit = 's' }\n\
                provider.profile = 'ideal'\n[[regime]]\nat = '30m'\n[regime.provider]\n";
    let loaded = Loaded::from_text("log", "log.toml", text, folder.path(), &[]).unwrap();
    let mut cached = Vec::new();
    replicate(&loaded, 0, |outcome| cached.push(outcome.cached)).unwrap();
    assert_eq!(cached, [0, 1_024, 0, 1_024]);
    assert!(loaded.is_deterministic());
    let drawn = loaded.with(&[Change::parse("regime.0.provider.routing.backends=[1, 1]").unwrap()]).unwrap();
    assert!(!drawn.is_deterministic());
}

#[test]
fn a_wrong_regime_is_named_with_what_would_be_right() {
    let two = "[[regime]]\nat = '1h'\n[regime.provider]\nprofile = 'openai-5.5'\n\
               [[regime]]\nat = '2h'\nprovider.write.when = 'once'\n";
    let error = |text: &str, changes: &str| load(&format!("{CALLS}{text}"), changes).unwrap_err().to_string();
    let lines = CALLS.lines().count();
    let cases = [
        ("regime.1.at=30m", "regime.1.at=30m: regime.1.at: must be later than regime.0.at, which is 1h"),
        ("regime.1.at=1h", "regime.1.at: must be later than regime.0.at"),
        ("regime.0.at=0s", "regime.0.at: must be above zero: from the start on it is `provider`"),
        ("regime.1.at=4h", "regime.1.at: must be before the end of the duration of 4h"),
        ("regime.0.at=soon", "regime.0.at: `soon` is not a length of time"),
        ("regime.0.when=1h", "regime.0.when: unknown field `when`"),
        ("regime.0.provider.profile=openai-5.7", "regime.0.provider.profile: `openai-5.7` is neither"),
        ("regime.0.provider.model=gpt-5.2", "regime.0.provider.model: `gpt-5.2` is not a model"),
        ("regime.0.provider.routing.machines=0", "regime.0.provider.routing.machines: must be 1 or more"),
        ("regime.1.provider.routing.hash_tokens=99", "regime.1.provider.routing.hash_tokens: cannot change"),
        ("regime.1.provider.write.wen=once", "regime.1.provider.write.wen: unknown field `wen`"),
        ("regime.2.at=3h", "`regime.2.at` names no path: `regime` is a list of 2, numbered from 0"),
        (
            "client.retention=ideal",
            "`gpt-5.5` does not support retention `ideal`; it supports 24h (regime.0.provider)",
        ),
        ("regime=3", "regime: invalid type: integer `3`, expected a list"),
        ("regime.1.provider=3", "regime.1.provider: is missing: say what changes in a table"),
    ];
    for (set, words) in cases {
        let error = error(two, set);
        assert!(error.contains(words), "{set}: {error}");
    }
    // With the line it stands on.
    let early = two.replace("'2h'", "'1h'");
    let place = format!("changes.toml:{}: regime.1.at: must be later", lines + 6);
    assert!(error(&early, "").starts_with(&place), "{}", error(&early, ""));
    let once = two.replace("when = 'once'", "whn = 'once'");
    let place = format!("changes.toml:{}: regime.1.provider.write.whn: ", lines + 7);
    assert!(error(&once, "").starts_with(&place), "{}", error(&once, ""));
    // What a regime takes over from the scenario's provider is named where it stands there.
    let taken = format!("routing.pool = 9\nrouting.machines = 9\nrouting.rule = 'pool'\n{two}");
    let taken = error(&taken, "regime.1.provider.routing.machines=3");
    let place = format!("changes.toml:{}: regime.1.provider.routing.pool: a pool of 9", lines + 1);
    assert!(taken.starts_with(&place), "{taken}");
}
