//! A sample of the keys against the full run: what is simulated is the same, and what is estimated lies within its error.

use std::collections::BTreeSet;
use std::path::Path;

use cachecast::experiment::coupling::fleet;
use cachecast::experiment::metrics::{COLUMNS, Row};
use cachecast::experiment::preflight;
use cachecast::experiment::run::{Report, replicate, replicate_lifetimes};
use cachecast::experiment::sample::half_width;
use cachecast::experiment::scenario::{Change, Loaded};
use cachecast::provider::routing::RoutingKey;
use cachecast::simulation::outcome::Outcome;
use cachecast::units::Span;
use rayon::prelude::*;

/// Users who overflow now and then, with a key each that is part of the cache's identity.
const USERS: &str = r#"
duration = "1h"
warmup = "10m"
attribution = false

[client.key]
strategy = "per_user"

[client.workload.chat]
users = 600
arrivals = { process = "poisson", rate = "40/min" }

[client.workload.chat.chat]
prefix_tokens = 2000
turns = "lognormal(4, 0.7)"
user_tokens = "lognormal(80, 0.9)"
output_tokens = "lognormal(250, 0.6)"
think = "lognormal(40s, 1.0)"

[provider]
profile = "openai-classic"

[provider.routing]
key_role = "identity"
limit_rpm = 2

[provider.latency]
slots = 1_000_000
"#;

/// Other traffic in place of the chat.
const OTHERS: [&str; 3] = [
    "[client.workload.calls.shared_prefix]
    prefix_tokens = 2000
    tail_tokens = 'uniform(10..900)'
    tails = 7
    output_tokens = 100",
    "[client.workload.agent.agent]
    prefix_tokens = 1500
    start_tokens = 'uniform(0..6000)'
    turns = 'uniform(1..3)'
    calls = 'uniform(1..4)'
    user_tokens = 'lognormal(100, 1.0)'
    tool_tokens = 'lognormal(400, 1.0)'
    output_tokens = 'lognormal(200, 1.0)'
    pause = 'lognormal(5s, 1.0)'
    think = 'lognormal(60s, 1.0)'",
    "[client.workload.tree.fork_tree]
    prefix_tokens = 1200
    start_tokens = 'uniform(0..5000)'
    branching = ['uniform(1..4)', 2]
    root_call = false
    task_tokens = 'lognormal(200, 1.0)'
    output_tokens = 'lognormal(200, 1.0)'
    stagger = 'uniform(0s..40s)'",
];

/// A scenario with other values at some paths: `path=value`, one a line.
fn load(text: &str, changes: &str) -> Loaded {
    try_load(text, changes).unwrap()
}

fn try_load(text: &str, changes: &str) -> cachecast::error::Result<Loaded> {
    let lines = changes.lines().map(str::trim).filter(|line| !line.is_empty());
    let changes: Vec<_> = lines.map(|line| Change::parse(line).unwrap()).collect();
    Loaded::from_text("users", "users.toml", text, Path::new(""), &changes)
}

fn report(loaded: &Loaded, seed: u32) -> Report {
    replicate(loaded, seed, |_| ()).unwrap()
}

/// A run with its outcomes, each with its session and as it reads without the numbers that all requests share.
fn outcomes(loaded: &Loaded) -> Vec<((u32, u64), String)> {
    let mut outcomes = Vec::new();
    let show = |outcome: &Outcome| {
        let routing_key = RoutingKey(0);
        format!("{:?}", Outcome { call: 0, in_flight: 0, group: 0, routing_key, ..*outcome })
    };
    let observe = |outcome: &Outcome| outcomes.push(((outcome.workload, outcome.session), show(outcome)));
    replicate(loaded, 1, observe).unwrap();
    outcomes
}

/// Asserts that a sample is the full run, restricted to some of its keys.
fn assert_restricts(text: &str, changes: &str) {
    let full = outcomes(&load(text, changes));
    let sample = outcomes(&load(text, &format!("{changes}\nsample=1/4")));
    let sessions: BTreeSet<_> = sample.iter().map(|(session, _)| *session).collect();
    let restricted: Vec<_> = full.iter().filter(|(session, _)| sessions.contains(session)).collect();
    assert!(sample.iter().eq(restricted), "{changes}\n{text}");
    let share = sample.len() as f64 / full.len() as f64;
    assert!((0.15..0.35).contains(&share), "{share}: {changes}\n{text}");
}

#[test]
fn what_is_simulated_of_independent_keys_is_what_it_is_in_the_full_run() {
    let changes = [
        "",
        "client.key.strategy=per_session",
        "client.key.strategy=per_node",
        "client.key.strategy=buckets
         client.key.assign=user
         client.key.buckets=400",
        "client.key.strategy=buckets
         client.key.assign=session
         client.key.buckets=400
         provider.routing.rate_count=tumbling",
        "provider.routing.rule=pool
         provider.routing.rate_over=key
         client.gateway.accounts=3",
        "provider.routing.churn=5m
         provider.routing.explore=0.1
         provider.failures.foreground=0.2
         provider.routing.backends=[1.0, 2.0]",
        "provider.write.when=on_miss
         provider.write.visible=completion
         provider.routing.overflow=random",
    ];
    let (head, rest) = USERS.split_once("[client.workload.chat.chat]").unwrap();
    let provider = &rest[rest.find("[provider]").unwrap()..];
    changes.par_iter().for_each(|changes| {
        assert_restricts(USERS, changes);
        for other in OTHERS {
            let name = other.split('.').nth(2).unwrap();
            let head = head.replace("workload.chat", &format!("workload.{name}"));
            assert_restricts(&format!("{head}\n{other}\n{provider}"), changes);
        }
    });
    let reacting = "client.gateway.continuation=implicit
        client.workload.chat.reaction.after_miss=rotate_key
        client.workload.chat.reaction.keep_alive=4m";
    assert_restricts(USERS, reacting);
    let own_text = "client.workload.chat.chat.prefix_tokens=0
        client.workload.chat.chat.user_tokens=2000
        provider.routing.key_role=routing
        attribution=true";
    assert_restricts(USERS, own_text);
    // Sessions are numbered across workloads, in the order in which they start.
    let second = USERS[USERS.find("[client.workload.chat]").unwrap()..USERS.find("[provider]").unwrap()]
        .replace("workload.chat", "workload.other");
    assert_restricts(&format!("{USERS}{second}"), "client.key.strategy=per_session");
}

/// Many sessions with keys of their own, whose common text is found by luck.
const BY_LUCK: &str = "
    client.key.strategy=per_session
    client.workload.chat.arrivals.rate=200/min
    provider.routing.key_role=routing";

/// Calls of one key beside the users.
const BESIDE: &str = "
[client.workload.batch]
key = { strategy = 'label' }
arrivals = { process = 'poisson', rate = '10/min' }

[client.workload.batch.shared_prefix]
prefix_tokens = 6000
tail_tokens = 500
output_tokens = 100
";

/// Asserts, over a hundred seeds, that the full run lies as often within the stated error as a 95 % interval says, and
/// that the estimates are right on average.
fn assert_covers(text: &str, changes: &str, share: &str) {
    const SEEDS: u32 = 100;
    let (full, sample) = (load(text, changes), load(text, &format!("{changes}\nsample={share}")));
    let pairs: Vec<_> =
        (0..SEEDS).into_par_iter().map(|seed| (report(&full, seed), report(&sample, seed))).collect();
    let names = [
        "token_hit_ratio",
        "requests",
        "cached_tokens",
        "cost_usd",
        "overflow_share",
        "keys",
        "ttft_mean_ms",
        "ttft_p95_ms",
        "total_p50_ms",
    ];
    // Quantiles over what is simulated whole and what is sampled are not known.
    let names = names.into_iter().filter(|name| pairs[0].1.row.get(name).is_some());
    for name in names {
        let off = |(full, sample): &(Report, Report)| {
            let half = half_width(&[sample.estimated.as_ref().unwrap()], share.parse().unwrap(), name);
            let off = sample.row.get(name).unwrap() - full.row.get(name).unwrap();
            (off, off.abs() <= half.unwrap())
        };
        let all: Vec<_> = pairs.iter().map(off).collect();
        let covered = all.iter().filter(|(_, covered)| *covered).count();
        let n = all.len() as f64;
        let mean = all.iter().map(|(off, _)| off).sum::<f64>() / n;
        let squares = all.iter().map(|(off, _)| (off - mean) * (off - mean)).sum::<f64>();
        let error = (squares / (n - 1.0) / n).sqrt();
        // Of 100 intervals of 95 %, fewer than 87 cover once in a thousand times.
        assert!(covered >= 87, "{name} of {share}: {covered} of {SEEDS} cover; {changes}");
        assert!(mean.abs() <= 3.3 * error, "{name} of {share}: off by {mean} with error {error}; {changes}");
    }
}

#[test]
fn the_full_run_lies_within_the_stated_error() {
    assert_covers(USERS, "", "1/4");
    assert_covers(USERS, "client.key.strategy=per_session", "1/16");
    assert_covers(USERS, BY_LUCK, "1/16");
    assert_covers(USERS, &format!("{BY_LUCK}\nprovider.latency.slots=32"), "1/8");
    assert_covers(&format!("{USERS}{BESIDE}"), "", "1/4");
}

#[test]
fn a_sample_whose_machines_could_lose_shared_text_is_refused() {
    let sampled = |more: &str| {
        let changes = "client.key.strategy=per_session
            provider.routing.key_role=routing
            sample=1/64
            client.workload.chat.arrivals.rate=1000/min";
        try_load(USERS, &format!("{changes}\n{more}")).map_err(|error| error.to_string())
    };
    sampled("").unwrap();
    let rare = "client.workload.chat.arrivals.rate=10/min";
    let words = sampled(rare).unwrap_err();
    assert!(
        words.contains("keys cannot be sampled by 1/64: only 0.") && words.ends_with("; take 4/64"),
        "{words}"
    );
    // What is said to do does: the fleet is then sampled as the keys are.
    sampled(&format!("{rare}\nsample=4/64")).unwrap();
    for fewer in [
        "client.gateway.accounts=16",
        "provider.routing.backends=[1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]",
        "client.workload.chat.arrivals.process=gamma
         client.workload.chat.arrivals.gap_variation=20",
        "client.workload.chat.arrivals.process=daily
         client.workload.chat.arrivals.daily_swing=0.99",
    ] {
        assert!(sampled(fewer).unwrap_err().contains("keys cannot be sampled"), "{fewer}");
    }
    // Another workload has other text, and fewer sessions that bring it along.
    let second = USERS[USERS.find("[client.workload.chat]").unwrap()..USERS.find("[provider]").unwrap()]
        .replace("workload.chat", "workload.other")
        .replace("40/min", "10/min");
    let both = format!("{USERS}{second}");
    let changes = "client.key.strategy=per_session
        client.workload.chat.arrivals.rate=1000/min
        provider.routing.key_role=routing
        sample=1/64";
    assert!(try_load(&both, changes).is_err());
    assert!(try_load(&both, &format!("{changes}\nclient.workload.other.arrivals.rate=1000/min")).is_ok());
}

#[test]
fn more_replications_make_the_error_smaller_and_all_keys_leave_none() {
    let sample = load(USERS, "sample=1/4");
    let estimated: Vec<_> = (0..16).map(|seed| report(&sample, seed).estimated.unwrap()).collect();
    let half = |some: &[_]| {
        half_width(&some.iter().collect::<Vec<_>>(), "1/4".parse().unwrap(), "token_hit_ratio").unwrap()
    };
    let alone: f64 = estimated.chunks(1).map(half).sum::<f64>() / 16.0;
    let ratio = half(&estimated) / alone;
    assert!((0.15..0.4).contains(&ratio), "a quarter is expected: {ratio}");
    let (all, full) = (report(&load(USERS, "sample=3/3"), 5), report(&load(USERS, ""), 5));
    assert!(all.estimated.is_none());
    assert_eq!(all.row, full.row);
}

#[test]
fn what_has_too_few_keys_is_simulated_whole_and_counts_as_it_is() {
    let text = format!("{USERS}{BESIDE}");
    let of_batch = |loaded: &Loaded| {
        let mut all = Vec::new();
        let observe = |outcome: &Outcome| {
            if outcome.workload == 0 {
                all.push((outcome.session, outcome.machine, outcome.cached));
            }
        };
        replicate(loaded, 0, observe).unwrap();
        all
    };
    let full = of_batch(&load(&text, ""));
    assert!(full.len() > 500);
    let sample = load(&text, "sample=1/8");
    assert!(full == of_batch(&sample), "sessions keep their numbers, and so do the keys made of them");
    let said = preflight::warnings(&sample);
    let words = "sample: workload `batch` is simulated whole: all its requests share one key";
    assert!(said.iter().any(|said| said == words), "{said:?}");
}

#[test]
fn lifetimes_in_one_pass_are_sampled_alike() {
    let (head, rest) = USERS.split_once("[client.workload.chat.chat]").unwrap();
    let calls = OTHERS[0].replace("calls", "chat");
    let text = format!("{head}\n{calls}\n{}", &rest[rest.find("[provider]").unwrap()..]);
    let spans = [5, 20].map(|minutes| Span::MINUTE.times(minutes));
    let loaded = load(&text, "sample=1/4\nprovider.write.visible=arrival\nattribution=true");
    let together = replicate_lifetimes(&loaded, 0, &spans, |_, _| ()).unwrap();
    for (span, together) in spans.iter().zip(together) {
        let change = format!("provider.retention.lifetime.in_memory={span}");
        let alone = report(&loaded.with(&[Change::parse(&change).unwrap()]).unwrap(), 0);
        assert_eq!(together.row, alone.row);
        assert_eq!(together.estimated.unwrap().without, alone.estimated.unwrap().without);
    }
}

#[test]
fn what_a_sample_cannot_tell_is_missing() {
    let row = |changes: &str| report(&load(USERS, &format!("sample=1/4\n{changes}")), 0).row;
    let missing = |row: &Row| -> BTreeSet<&str> {
        COLUMNS.iter().map(|column| column.name).filter(|name| row.get(name).is_none()).collect()
    };
    let known = missing(&row("attribution=true"));
    assert!(
        ["wait_mean_ms", "max_in_flight", "key_rpm_peak", "ttft_max_ms"].iter().all(|n| known.contains(n))
    );
    assert!(!known.contains("ttft_p95_ms") && !known.contains("lost_expired_tokens"), "{known:?}");
    assert_eq!(missing(&row("attribution=true\nprovider.latency.slots=32")), known, "hardly anybody waits");
    let times = COLUMNS.iter().map(|column| column.name).filter(|name| name.ends_with("_ms"));
    let with_times: BTreeSet<_> = known.into_iter().chain(times).collect();
    assert_eq!(missing(&row("attribution=true\nprovider.latency.slots=1")), with_times, "many wait");
    let wandering = "attribution=true\nprovider.latency.slots=32\nprovider.routing.explore=0.1";
    assert_eq!(missing(&row(wandering)), with_times, "all machines serve a share of the keys");
}

#[test]
fn the_fleet_is_sampled_along_where_keys_meet_by_luck() {
    let machines = |changes: &str, share: &str| {
        let Loaded { scenario, .. } = load(USERS, &format!("{BY_LUCK}\n{changes}"));
        fleet(&scenario.client, &scenario.provider, share.parse().unwrap())
    };
    assert_eq!(machines("", "1/2"), 32);
    assert_eq!(machines("", "1/8"), 8);
    assert_eq!(machines("", "1/64"), 4, "an overflowing key needs machines to go to");
    assert_eq!(machines("provider.routing.rule=pool", "1/64"), 5);
    assert_eq!(machines("provider.routing.overflow=none", "1/64"), 1);
    let finite = "provider.routing.key_role=identity\nprovider.latency.slots=32";
    assert_eq!(machines(finite, "1/8"), 8, "keys wait for each other");
    assert_eq!(machines(finite, "1/64"), 64, "too few would remain");
    for changes in [
        "provider.routing.key_role=identity",
        "provider.routing.rule=random",
        "provider.routing.churn=5m",
        "provider.routing.explore=0.1",
        "client.workload.chat.chat.prefix_tokens=0\nclient.workload.chat.chat.user_tokens=2000",
    ] {
        assert_eq!(machines(changes, "1/8"), 64, "{changes}");
    }
}

#[test]
fn what_couples_keys_or_leaves_nothing_to_sample_is_refused() {
    let refused = [
        ("provider.routing.rate_over=machine", "provider.routing.rate_over = machine counts"),
        ("provider.routing.rule=bounded_load", "provider.routing.rule = bounded_load looks"),
        ("provider.routing.rule=round_robin", "provider.routing.rule = round_robin deals"),
        (
            "provider.routing.rule=pool\nprovider.routing.pick=least_loaded",
            "provider.routing.pick = least_loaded looks",
        ),
        ("provider.write.capacity_tokens=1000000", "provider.write.capacity_tokens is room"),
        (
            "client.gateway.accounts=2\nclient.gateway.stickiness=round_robin",
            "client.gateway.stickiness = round_robin deals",
        ),
        ("client.key.strategy=constant", "workload `chat`: all its requests share one key"),
        ("client.key.strategy=per_call", "workload `chat`: its key is chosen call by call"),
        ("client.key.strategy=buckets", "workload `chat`: its key is chosen call by call"),
        ("client.workload.chat.users=255", "1/4 of its 255 keys are too few: 256 keys would do"),
    ];
    for (changes, words) in refused {
        let error = try_load(USERS, &format!("{changes}\nsample=1/4")).unwrap_err().to_string();
        assert!(error.contains("sample: ") && error.contains(words), "{error}");
        assert!(try_load(USERS, &format!("{changes}\nsample=1/1")).is_ok(), "all is no sample: {changes}");
    }
}
