//! What a provider under known settings gives is fitted back: the right rival, and its numbers in their 95 % sets.

use std::fmt::Write;
use std::path::Path;

use cachecast::experiment::fit::{Fit, Question, fit};
use cachecast::experiment::observations::Observations;
use cachecast::experiment::rivals::{EXPLORE, Grid};
use cachecast::experiment::scenario::{Change, Loaded};
use cachecast::experiment::stage::Stage;
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

const POOL: &str = "provider.routing.pool";
const LIFETIME: &str = "provider.retention.lifetime.in_memory";

fn loaded() -> Loaded {
    Loaded::from_text("known", "known.toml", SCENARIO, Path::new(""), &[]).unwrap()
}

/// Fresh keys on conversations that grow, asked at once, after seconds, and after rests of minutes; the first three
/// are hot for a minute. `readings` fills in what was read.
fn log(keys: u64, readings: Option<&[u32]>) -> Observations {
    let rests = [0, 2, 5, 9, 20, 40, 300 + 40, 700, 1_080, 2_300, 2_310];
    let mut rows: Vec<(u64, u64, u32)> = Vec::new();
    for key in 0..keys {
        rows.extend(rests.iter().enumerate().map(|(turn, rest)| (key * 7 + rest, key, turn as u32)));
    }
    // Again and again at the length of its sixth turn.
    let hot = (0..3).flat_map(|key| (0..24).map(move |n| (42 + 2 * n + 7 * key, key, 5)));
    rows.extend(hot.filter(|(_, key, _)| *key < keys));
    rows.sort();
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
        free: free.iter().map(|text| Grid::parse(text).unwrap()).collect(),
        only: only.iter().map(|name| name.to_string()).collect(),
        replications,
    };
    fit(&question, |_, _| ()).unwrap()
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

/// One hundred providers, each with settings of its own, fitted back. When this was written: the right rival first in 88,
/// first or as good in 94 (`bounded_load` and `home`, `write_once` and `first_tokens` are close on this traffic); inside
/// their 95 % sets all numbers of 19 or 20 in 20, but for `write_once`: unexplained misses 6 in 20, lifetimes 18, because
/// it is laid over a routing that was judged without it.
#[test]
#[ignore = "a hundred fits take ten minutes: cargo test --release --test fit -- --ignored --nocapture"]
fn of_a_hundred_known_providers_nearly_all_come_back() {
    let truths = ["home", "pool", "write_once", "first_tokens", "whole_body"];
    let rivals = [&truths[..], &["bounded_load", "random", "single_body", "breakpoints"]].concat();
    let (mut first, mut as_good) = (0, 0);
    let mut inside = std::collections::BTreeMap::new();
    for seed in 0..100 {
        let draws = SessionKey(4_711).turn(seed);
        let pick = |n: u32, values: &[Value]| {
            values[draws.below(Purpose::Route, n, values.len() as u64) as usize].clone()
        };
        let words = |words: &[&str]| words.iter().map(|word| Value::from(*word)).collect::<Vec<_>>();
        let rival = truths[seed as usize % 5];
        let lifetime = pick(1, &words(&["5m", "10m", "30m"]));
        let explore = pick(2, &[0.0.into(), 0.03.into()]);
        let mut known = vec![(LIFETIME, lifetime), (EXPLORE, explore)];
        let mut truth: Vec<Change> = match rival {
            "pool" => {
                known.push((POOL, pick(3, &[2.into(), 3.into(), 5.into(), 8.into()])));
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
        truth.extend(known.iter().map(|(path, value)| change(path, value.clone())));
        let answer = fitted(&observed(10, &truth, seed), &FREE, &rivals, 79);
        let best = &answer.rivals[0];
        first += u32::from(best.rival.name == rival);
        let same = answer.rivals.iter().find(|judged| judged.rival.name == rival).unwrap();
        as_good += u32::from(["best", "as good"].contains(&answer.verdict(same)));
        if best.rival.name != rival {
            println!(
                "seed {seed}: {rival} {known:?}, but first is {} by {:.1} (p {:.2})",
                best.rival.name,
                best.score - same.score,
                same.p
            );
        }
        for (path, value) in &known {
            let (held, of) = inside.entry((rival, *path)).or_insert((0, 0));
            *held += u32::from(holds(&answer, rival, path, value));
            *of += 1;
        }
    }
    println!(
        "right rival first in {first} of 100, first or as good in {as_good}; inside the 95 % set: {inside:?}"
    );
    // Where two rivals give nearly the same on this traffic the answer says so, and either may stand first.
    assert!(as_good >= 90, "{as_good}");
    // By construction for the routing. What is stored is judged at one point of the routing below it, and may cover less.
    let routing = |path: &str| {
        let of =
            inside.iter().filter(|((rival, known), _)| ["home", "pool"].contains(rival) && *known == path);
        of.fold((0, 0), |(held, of), (_, (more, all))| (held + more, of + all))
    };
    for (held, of) in [LIFETIME, EXPLORE, POOL].map(routing) {
        assert!(10 * held >= 9 * of, "{held} of {of}: {inside:?}");
    }
}
