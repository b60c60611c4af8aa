//! What a provider under known settings gives is fitted back: the right rival, and its numbers in their 95 % sets.

use std::fmt::Write;
use std::path::Path;

use cachecast::experiment::desk::Desk;
use cachecast::experiment::fit::{Fit, Question, fit};
use cachecast::experiment::observations::Observations;
use cachecast::experiment::plausibility::{Cloud, is_far_off};
use cachecast::experiment::rivals::{self, EXPLORE};
use cachecast::experiment::scenario::{Change, Loaded};
use cachecast::experiment::stage::Stage;
use cachecast::input::log::LogFormat;
use cachecast::random::{Purpose, SessionKey};
use toml::Value;

const SCENARIO: &str = r#"
duration = "1h"
[client]
retention = "in_memory"
[client.workload.unused]
arrivals = { process = "fixed", rate = "1/min" }
[client.workload.unused.shared_prefix]
prefix_tokens = 3000
tail_tokens = 60
output_tokens = 50
[provider]
profile = "openai-classic"
"#;

/// Keys that are hot, and how often each is asked.
const HOT: u64 = 4;
const HOT_REQUESTS: u64 = 40;

const POOL: &str = "provider.routing.pool";
const LIFETIME: &str = "provider.retention.lifetime.in_memory";

fn loaded() -> Loaded {
    Loaded::from_text("known", "known.toml", SCENARIO, Path::new(""), &[]).unwrap()
}

/// When which key is asked, and at which turn of its conversation.
fn plan(keys: u64) -> Vec<(u64, u64, u32)> {
    let rests = [0, 2, 5, 9, 20, 40, 300 + 40, 700, 1_080, 2_300, 2_310, 4_700, 4_703];
    let mut rows: Vec<(u64, u64, u32)> = Vec::new();
    for key in 0..keys {
        rows.extend(rests.iter().enumerate().map(|(turn, rest)| (key * 7 + rest, key, turn as u32)));
    }
    // Again and again at the length of its sixth turn.
    let hot = (0..HOT).flat_map(|key| (0..HOT_REQUESTS).map(move |n| (41 + n / 2 + 7 * key, key, 5)));
    rows.extend(hot.filter(|(_, key, _)| *key < keys));
    rows.sort();
    rows
}

/// Fresh keys on conversations that grow, asked at once, after seconds, after rests of minutes, and last twice after a
/// rest that outlives every lifetime; the first ones are hot for half a minute, at three times the limit. `readings`
/// fills in what was read.
fn log(keys: u64, readings: Option<&[u32]>) -> Observations {
    let rows = plan(keys);
    let mut text = String::from("time,key,prefix,prefix_tokens,prompt_tokens,cached_tokens\n");
    for (index, (time, key, turn)) in rows.iter().enumerate() {
        let prefix = 3_000 + 400 * turn;
        // Before anything is read, anything will do; it must only vary.
        let cached = readings.map_or(index as u32 % 2, |readings| readings[index]);
        // Every other key sends nothing but its conversation, the others a tail that nobody sends again.
        let prompt = prefix + 60 * (*key as u32 % 2);
        writeln!(text, "{time},k{key},p{key},{prefix},{prompt},{cached}").unwrap();
    }
    let mut observations = Observations::default();
    observations.add("log.csv", &text).unwrap();
    observations
}

/// What a provider with these changes answers.
fn observed(keys: u64, truth: &[Change], seed: u32) -> Observations {
    let unread = log(keys, None);
    // Seeds that no fit uses.
    let loaded = loaded().with(&[Change::new("seed", 1_000_000_000, "test")]).unwrap();
    let stage = Stage::new(&loaded, &unread, 100).unwrap();
    log(keys, Some(&stage.readings(0, truth, seed).unwrap()))
}

fn fitted(observations: &Observations, free: &[&str], only: &[&str], replications: u32) -> Fit {
    let question = Question {
        loaded: &loaded(),
        observations,
        free: free.iter().map(|text| rivals::free(text).unwrap()).collect(),
        only: only.iter().map(|name| name.to_string()).collect(),
        replications,
    };
    fit(&question, &Desk::alone(), |_, _| ()).unwrap()
}

fn change(path: &str, value: impl Into<Value>) -> Change {
    Change::new(path, value, "truth")
}

/// Whether the 95 % set of a parameter of a rival holds a value.
fn holds(fit: &Fit, rival: &str, path: &str, value: &Value) -> bool {
    let judged = fit.rivals.iter().find(|judged| judged.rival.name == rival).unwrap();
    let parameter = judged.parameters.iter().find(|parameter| parameter.path.to_string() == path).unwrap();
    parameter.accepted().contains(&value)
}

const FREE: [&str; 5] = [
    "provider.retention.lifetime.in_memory=['5m', '10m', '30m']",
    "provider.routing.explore=[0.0, 0.03]",
    "provider.routing.rate_over=['prefix_and_key']",
    "provider.routing.rate_count=['admitted', 'arrivals']",
    "provider.routing.pool=[2, 3, 5, 8]",
];

#[test]
fn a_pool_and_a_home_are_told_apart_and_their_numbers_come_back() {
    let free = [
        "provider.routing.pool=[2, 4, 6]",
        "provider.retention.lifetime.in_memory=['5m', '30m']",
        "provider.routing.explore=[0.0, 0.015, 0.06]",
        FREE[2],
    ];
    let free = [&free[..], &["provider.routing.rate_count=['admitted']"]].concat();
    let only = ["home", "pool", "random"];
    let (mut held, mut of) = (0, 0);
    for seed in 0..5 {
        let pool = [change("provider.routing.rule", "pool"), change(POOL, 4), change(LIFETIME, "30m")];
        let answer = fitted(&observed(8, &pool, seed), &free, &only, 79);
        assert_eq!(answer.rivals[0].rival.name, "pool");
        assert_eq!(answer.verdict(&answer.rivals[1]), "rejected");
        held += u32::from(holds(&answer, "pool", POOL, &4.into()));
        held += u32::from(holds(&answer, "pool", LIFETIME, &"30m".into()));

        let home = [change(LIFETIME, "5m"), change(EXPLORE, 0.015)];
        let answer = fitted(&observed(8, &home, seed), &free, &only, 79);
        assert_eq!(answer.rivals[0].rival.name, "home");
        assert!(!holds(&answer, "pool", POOL, &4.into()));
        held += u32::from(holds(&answer, "home", LIFETIME, &"5m".into()));
        held += u32::from(holds(&answer, "home", EXPLORE, &0.015.into()));
        of += 4;
    }
    // Nineteen of twenty would be the rule.
    assert!(held >= of - 2, "{held} of {of}");
}

#[test]
fn a_fit_gives_the_same_with_any_number_of_threads() {
    let observations = observed(3, &[change(EXPLORE, 0.06)], 1);
    let with = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| format!("{:?}", fitted(&observations, &FREE, &["home", "whole_body", "restart"], 39)))
    };
    assert_eq!(with(1), with(3));
}

#[test]
fn what_nothing_can_tell_apart_is_said_with_what_would() {
    // Steady traffic of one key below the limit, read every time: all that shares prefixes gives the same.
    let rows: String =
        (0..12).map(|n| format!("{},a,3000,3060,{}\n", 20 * n, if n == 0 { 0 } else { 2_944 })).collect();
    let mut observations = Observations::default();
    observations
        .add("log.csv", &format!("time,key,prefix_tokens,prompt_tokens,cached_tokens\n{rows}"))
        .unwrap();
    let answer = fitted(&observations, &[], &[], 39);
    let words = answer.sentences().join("\n");
    assert_eq!(answer.rivals[0].rival.name, "home");
    assert!(words.contains(
        "These observations cannot tell `home` from `write_once`. This would: a conversation that grows"
    ));
    let weights: f64 = answer.weights().iter().map(|(_, weight)| weight).sum();
    assert!((weights - 1.0).abs() < 1e-9);
    let rejected = |name: &str| {
        let judged = answer.rivals.iter().find(|judged| judged.rival.name == name).unwrap();
        answer.verdict(judged) == "rejected"
    };
    assert!(rejected("random") && rejected("whole_body"));
    let exact = answer.rivals[0].exact.as_ref().unwrap();
    assert_eq!((exact.explained, exact.compared, exact.deterministic), (12, 12, true));
}

/// What comes of fitting known providers back, each with settings of its own.
#[derive(Default)]
struct Recovery {
    /// Providers whose rival was ranked first.
    first: u32,
    /// By rival and parameter: how often its set holds the truth, and of how many.
    inside: std::collections::BTreeMap<(&'static str, &'static str), (u32, u32)>,
}

const TRUTHS: [&str; 5] = ["home", "pool", "write_once", "first_tokens", "whole_body"];

const RIVALS: [&str; 9] = [
    "home",
    "pool",
    "bounded_load",
    "random",
    "write_once",
    "first_tokens",
    "whole_body",
    "single_body",
    "breakpoints",
];

impl Recovery {
    fn of(seeds: impl Iterator<Item = u32>, free: &[&str], only: &[&str]) -> Self {
        let mut recovery = Self::default();
        seeds.for_each(|seed| recovery.add(seed, free, only));
        println!("right rival first in {}; inside the 95 % set: {:?}", recovery.first, recovery.inside);
        recovery
    }

    fn add(&mut self, seed: u32, free: &[&str], only: &[&str]) {
        let rival = TRUTHS[seed as usize % 5];
        let (changes, known) = known_provider(rival, seed);
        let answer = fitted(&observed(10, &changes, seed), free, only, 79);
        let best = &answer.rivals[0];
        self.first += u32::from(best.rival.name == rival);
        let same = answer.rivals.iter().find(|judged| judged.rival.name == rival).unwrap();
        if best.rival.name != rival {
            println!(
                "seed {seed}: {rival} {known:?}, but first is {} by {:.1} (p {:.2})",
                best.rival.name,
                best.score - same.score,
                same.p
            );
        }
        for (path, value) in known {
            let (held, of) = self.inside.entry((rival, path)).or_insert((0, 0));
            *held += u32::from(holds(&answer, rival, path, &value));
            *of += 1;
        }
    }
}

/// A provider that plays by a rival, with numbers by its seed: its changes, and the numbers that are to be found.
fn known_provider(rival: &str, seed: u32) -> (Vec<Change>, Vec<(&'static str, Value)>) {
    let draws = SessionKey(4_711).turn(seed);
    let pick = |n: u32, values: &[Value]| {
        values[draws.below(Purpose::Route, n, values.len() as u64) as usize].clone()
    };
    let lifetime = pick(1, &["5m", "10m", "30m"].map(Value::from));
    let explore = pick(2, &[0.0, 0.03].map(Value::from));
    let mut known = vec![(LIFETIME, lifetime), (EXPLORE, explore)];
    let mut changes = match rival {
        "pool" => {
            known.push((POOL, pick(3, &[2, 3, 5, 8].map(Value::from))));
            vec![change("provider.routing.rule", "pool")]
        }
        "write_once" => vec![change("provider.write.when", "once")],
        "first_tokens" => vec![
            change("provider.write.semantics", "first_tokens"),
            change("provider.write.first_tokens", 3_999),
        ],
        "whole_body" => vec![change("provider.write.semantics", "whole_body")],
        _ => Vec::new(),
    };
    changes.extend(known.iter().map(|(path, value)| change(path, value.clone())));
    (changes, known)
}

#[test]
fn what_is_stored_is_told_apart_over_a_routing_that_is_open_too() {
    let free = [FREE[0], FREE[1], FREE[2], "provider.routing.rate_count=['admitted']"];
    let recovery = Recovery::of([2, 7, 12, 3].into_iter(), &free, &["home", "write_once", "first_tokens"]);
    assert_eq!(recovery.first, 4);
    let (held, of) = recovery.inside.values().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    assert!(held >= of - 2, "{held} of {of}");
}

/// One hundred providers, each with settings of its own. When this was written: the right rival first in 100; inside their
/// 95 % sets 97 of 100 lifetimes, 96 of 100 shares of unexplained misses, 96 of 100 pools (80 of them fitted among pools
/// alone); for every rival at least 18 in 20.
#[test]
#[ignore = "a hundred fits take a quarter of an hour: cargo test --release --test fit -- --ignored --nocapture"]
fn of_a_hundred_known_providers_nearly_all_come_back() {
    let mut recovery = Recovery::of(0..100, &FREE, &RIVALS);
    assert!(recovery.first >= 95, "{}", recovery.first);
    // Every fifth is a pool. For a hundred of them the others need not be asked.
    let more_pools =
        Recovery::of((100..500).filter(|seed| TRUTHS[*seed as usize % 5] == "pool"), &FREE, &["pool"]);
    let (held, of) = more_pools.inside[&("pool", POOL)];
    let pools = recovery.inside.get_mut(&("pool", POOL)).unwrap();
    *pools = (pools.0 + held, pools.1 + of);
    for parameter in [LIFETIME, EXPLORE, POOL] {
        let of = recovery.inside.iter().filter(|((_, path), _)| *path == parameter);
        let (held, of) = of.fold((0, 0), |(held, of), (_, (more, all))| (held + more, of + all));
        assert!(10 * held >= 9 * of, "{parameter}: {held} of {of}");
    }
    for (known, (held, of)) in &recovery.inside {
        assert!(4 * held >= 3 * of, "{known:?}: {held} of {of}");
    }
}

/// How many known providers the first round would drop.
fn dropped(seeds: impl Iterator<Item = u32>) -> usize {
    let drops = |seed: &u32| {
        let (changes, _) = known_provider(TRUTHS[*seed as usize % 5], *seed);
        let stage = Stage::new(&loaded(), &observed(10, &changes, *seed), 39).unwrap();
        let played = stage.play(0, &changes, 39).unwrap();
        let cell = &stage.cells[0];
        let (simulated, observed, resolution) = (&played.vectors, &cell.observed, &cell.resolution);
        is_far_off(&Cloud { simulated, observed, resolution }.distances_to_others())
    };
    seeds.filter(drops).count()
}

#[test]
fn the_first_round_drops_no_known_provider() {
    assert_eq!(dropped(0..25), 0);
}

/// Keys of the plan, and further ones that are asked steadily, so that a change of the provider shows as a date.
const CONVERSATIONS: u64 = 6;
const STEADY: u64 = 8;

/// One request of a log with bodies: its second, its key, its turn, and whether its conversation was edited early.
type Row = (u64, u64, u32, bool);

/// The plan with traffic on which every hypothesis differs from every other.
fn rows_of_log() -> Vec<Row> {
    let mut rows: Vec<Row> =
        plan(CONVERSATIONS).into_iter().map(|(time, key, turn)| (time, key, turn, false)).collect();
    // Two versions of one conversation in turn, under one key.
    let both = |key: u64| (0..6).map(move |n| (1_300 + 7 * key + 10 * n, key, 5, n % 2 == 1));
    rows.extend((0..CONVERSATIONS).step_by(2).flat_map(both));
    let steady = |key: u64| (0..20).map(move |n| (9 * key + 235 * n, CONVERSATIONS + key, 3, false));
    rows.extend((0..STEADY).flat_map(steady));
    rows.sort();
    rows
}

/// So many words, always the same for one name.
fn words(name: &str, count: u64) -> String {
    const WORDS: [&str; 16] = [
        "river", "stone", "garden", "window", "paper", "winter", "copper", "market", "signal", "engine",
        "mirror", "harbor", "ladder", "meadow", "pencil", "thunder",
    ];
    let seed = name.bytes().fold(7u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(byte)));
    let draws = SessionKey(seed).turn(0);
    let word = |n: u64| WORDS[draws.below(Purpose::Route, n as u32, 16) as usize];
    (0..count).map(word).collect::<Vec<_>>().join(" ")
}

/// A log of JSON lines: bodies with their text, and what was billed and read, as far as that is known.
fn log_with_bodies(rows: &[Row], billed: Option<(&[u32], &[u32])>) -> String {
    let message = |role: &str, text: String| serde_json::json!({ "role": role, "content": text });
    let mut lines = String::new();
    for (index, (time, key, turn, edited)) in rows.iter().enumerate() {
        let mut input = vec![message("developer", words(&format!("system {key}"), 3_000))];
        for number in 0..*turn {
            let edited = *edited && number >= 1;
            input.push(message("user", words(&format!("turn {key} {number} {edited}"), 400)));
        }
        // Every other key ends with what nobody sends again.
        if key % 2 == 1 {
            input.push(message("user", words(&format!("tail {index}"), 60)));
        }
        let request = serde_json::json!({
            "model": "gpt-5.2", "input": input, "prompt_cache_key": format!("key {key}"),
        });
        let usage = billed.map(|(prompts, readings)| {
            let details = serde_json::json!({ "cached_tokens": readings[index] });
            serde_json::json!({ "input_tokens": prompts[index], "input_tokens_details": details, "output_tokens": 50 })
        });
        let time = 1_760_000_000 + time;
        writeln!(lines, "{}", serde_json::json!({ "time": time, "request": request, "usage": usage }))
            .unwrap();
    }
    lines
}

fn read_log(text: &str) -> Observations {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.jsonl");
    std::fs::write(&path, text).unwrap();
    Observations::from_files(&[&path], &LogFormat::default()).unwrap()
}

/// The log that a provider with these changes leaves behind.
fn logged(truth: &[Change], seed: u32) -> Observations {
    let rows = rows_of_log();
    let bodies = read_log(&log_with_bodies(&rows, None));
    let prompts: Vec<_> = bodies.requests().map(|(_, request)| request.prompt_tokens).collect();
    // A hidden start that is billed.
    let prompts: Vec<_> = prompts.iter().map(|tokens| tokens + 9).collect();
    let unread = read_log(&log_with_bodies(&rows, Some((&prompts, &vec![0; rows.len()]))));
    let loaded = loaded().with(&[Change::new("seed", 1_000_000_000, "test")]).unwrap();
    let stage = Stage::new(&loaded, &unread, 100).unwrap();
    let readings = stage.readings(0, truth, seed).unwrap();
    read_log(&log_with_bodies(&rows, Some((&prompts, &readings))))
}

/// Every hypothesis that is asked about.
const HYPOTHESES: [&str; 11] = [
    "home",
    "pool",
    "bounded_load",
    "random",
    "whole_body",
    "write_once",
    "single_body",
    "breakpoints",
    "first_tokens",
    "restart",
    "change_to_whole_body",
];

const FREE_OF_LOGS: [&str; 5] = [
    "provider.retention.lifetime.in_memory=['5m', '30m']",
    "provider.routing.explore=[0.0, 0.03]",
    "provider.routing.rate_over=['prefix_and_key']",
    "provider.routing.rate_count=['admitted']",
    "provider.routing.pool=[3, 5]",
];

/// A provider that plays by a hypothesis, with numbers by its seed.
fn hypothesis(rival: &str, seed: u32) -> Vec<Change> {
    let draws = SessionKey(815).turn(seed);
    let pick = |n: u32, of: u64| draws.below(Purpose::Route, n, of);
    let mut changes = match rival {
        "bounded_load" | "random" => vec![change("provider.routing.rule", rival)],
        "single_body" => vec![change("provider.write.bodies", "one")],
        "breakpoints" => vec![change("provider.write.semantics", "breakpoints")],
        "restart" | "change_to_whole_body" => {
            let write = if rival == "restart" { "" } else { "semantics = 'whole_body'" };
            let at = 1_000 + 500 * pick(5, 5);
            let regime = format!("regime = [{{ at = '{at}s', provider = {{ write = {{ {write} }} }} }}]");
            vec![change("regime", regime.parse::<toml::Table>().unwrap()["regime"].clone())]
        }
        _ => known_provider(rival, seed)
            .0
            .into_iter()
            .filter(|one| !one.path.to_string().contains("explore"))
            .collect(),
    };
    changes.retain(|one| ![LIFETIME, POOL].contains(&one.path.to_string().as_str()));
    changes.push(change(LIFETIME, ["5m", "30m"][pick(1, 2) as usize]));
    changes.push(change(EXPLORE, [0.0, 0.03][pick(2, 2) as usize]));
    if rival == "pool" {
        changes.push(change(POOL, [3, 5][pick(3, 2) as usize]));
    }
    changes
}

/// How often a log is recognised as what made it.
fn recognised(rival: &str, seeds: impl Iterator<Item = u32>, only: &[&str]) -> usize {
    let is_recognised = |seed: &u32| {
        let answer = fitted(&logged(&hypothesis(rival, *seed), *seed), &FREE_OF_LOGS, only, 39);
        let first = answer.rivals[0].rival.name;
        if first != rival {
            println!("seed {seed}: {rival}, but first is {first}");
        }
        first == rival
    };
    seeds.filter(is_recognised).count()
}

#[test]
fn a_log_with_bodies_is_recognised_as_what_made_it() {
    let only = ["home", "pool", "whole_body", "breakpoints", "single_body"];
    for rival in ["pool", "breakpoints", "single_body"] {
        assert_eq!(recognised(rival, 0..1, &only), 1, "{rival}");
    }
}

#[test]
fn a_log_says_who_is_contradicted_where_and_what_would_tell_the_best_two_apart() {
    let observations = logged(&hypothesis("whole_body", 3), 3);
    let answer = fitted(&observations, &FREE_OF_LOGS, &["home", "whole_body"], 39);
    assert_eq!(answer.rivals[0].rival.name, "whole_body");
    let contradicted = answer.rivals[1].exact.as_ref().unwrap().contradicted_at.as_ref().unwrap();
    assert!(contradicted.contains("log.jsonl:"), "{contradicted}");
    let words = answer.sentences().join("\n");
    assert!(words.contains("read as a log of requests with "), "{words}");
    assert!(words.contains("To make sure that it is `whole_body` and not `home`"), "{words}");
    // Nothing of what was said, nor any name.
    assert!(!words.contains("river") && !words.contains("key 1"), "{words}");
}

/// Every hypothesis against all others, a hundred logs each or as many as `CACHECAST_SEEDS` says.
/// A hundred each were not run when this was written, only fewer: four each with half as many steady keys (43 of 44; one
/// `restart` was taken for `home`, which is why there are more now), then eight each of `home`, `single_body` and
/// `restart` (24 of 24).
#[test]
#[ignore = "a thousand fits take an hour: cargo test --release --test fit recognised -- --ignored --nocapture"]
fn every_hypothesis_is_recognised_in_95_of_100_logs() {
    let seeds: u32 = std::env::var("CACHECAST_SEEDS").map_or(100, |seeds| seeds.parse().unwrap());
    let mut missed = Vec::new();
    for rival in HYPOTHESES {
        let recognised = recognised(rival, 0..seeds, &HYPOTHESES);
        println!("{rival}: {recognised} of {seeds}");
        if 100 * recognised < 95 * seeds as usize {
            missed.push(rival);
        }
    }
    assert!(missed.is_empty(), "{missed:?}");
}
