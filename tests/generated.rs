//! Random scenarios of generated traffic: what must hold whatever a client does and a provider stores.
//!
//! (The naive model of the library plays recorded traffic; volatility, reactions, trees and gateways have their laws
//! here, and their numbers, worked by hand, in `reactions.rs` and `volatility.rs`.)

use std::path::Path;

use cachecast::experiment::run::{replicate, simulation};
use cachecast::experiment::scenario::{Change, Loaded};
use cachecast::extent::Extent;
use cachecast::simulation::outcome::Outcome;
use drawn::{dice, draw};

mod drawn;

const TRAFFIC: [&str; 3] = [
    r#"
    [client.workload.w.chat]
    prefix_tokens = 2_000
    turns = "uniform(1..8)"
    user_tokens = "lognormal(200, 1.0)"
    output_tokens = "lognormal(300, 1.0)"
    think = "lognormal(60s, 1.0)"
    "#,
    r#"
    [client.workload.w.agent]
    prefix_tokens = 1_500
    start_tokens = "uniform(0..6000)"
    turns = "uniform(1..5)"
    calls = "uniform(1..6)"
    user_tokens = "lognormal(100, 1.0)"
    tool_tokens = "lognormal(400, 1.0)"
    output_tokens = "lognormal(200, 1.0)"
    pause = "lognormal(5s, 1.0)"
    think = "lognormal(60s, 1.0)"
    "#,
    r#"
    [client.workload.w.fork_tree]
    prefix_tokens = 1_200
    start_tokens = "uniform(0..5000)"
    branching = ["uniform(1..4)", 2]
    task_tokens = "lognormal(200, 1.0)"
    output_tokens = "lognormal(200, 1.0)"
    stagger = "uniform(0s..40s)"
    "#,
];

const HEAD: &str = r#"
duration = "40m"
client.key.strategy = "per_session"
client.workload.w.users = 4
client.workload.w.arrivals = { process = "poisson", rate = "1/min" }
provider.profile = "openai-classic"
provider.routing.machines = 4
provider.routing.pool = 3
provider.latency.noise_sigma = 0.0
"#;

/// Values at some paths; the first of each is drawn most often, and leaves all as it is if it is empty.
const ANY_TRAFFIC: &[(&str, &[&str])] = &[
    ("client.key.strategy", &["per_session", "constant", "per_user", "per_call", "none", "per_node"]),
    ("client.key.fingerprint", &["0.0", "0.3"]),
    ("client.breakpoints", &["[]", "['developer']", "['history']", "['developer', 'history', 'message']"]),
    ("client.gateway.accounts", &["1", "3"]),
    ("client.gateway.stickiness", &["session", "round_robin"]),
    ("client.workload.w.volatility.status_tokens", &["0", "300"]),
    ("client.workload.w.volatility.status_rewritten", &["call", "turn"]),
    ("client.workload.w.volatility.edit_probability", &["0.0", "0.4"]),
    ("client.workload.w.volatility.edit_reverted", &["false", "true"]),
    ("client.workload.w.volatility.head_tokens", &["0", "20"]),
    ("client.workload.w.volatility.head_changes", &["minute", "day", "call"]),
    ("client.workload.w.volatility.reasoning_tokens", &["0", "lognormal(500, 1.0)"]),
    ("client.workload.w.volatility.reasoning", &["kept", "kept_within_turn", "dropped"]),
    ("client.workload.w.volatility.compact_above", &["16000000", "8000"]),
    ("provider.write.semantics", &["partial_prefix", "breakpoints", "whole_body", "first_tokens"]),
    ("provider.write.when", &["always", "on_miss", "once"]),
    ("provider.write.bodies", &["unbounded", "one"]),
    ("provider.write.body", &["prompt", "prompt_and_output", "prompt_and_reasoning"]),
    ("provider.write.visible", &["first_token", "arrival", "completion"]),
    ("provider.write.capacity_tokens", &["", "20000"]),
    ("provider.write.min_tokens", &["1024", "1"]),
    ("provider.routing.rule", &["home", "pool", "random"]),
    ("provider.routing.key_role", &["routing", "identity"]),
    ("provider.routing.backends", &["[1.0]", "[2.0, 1.0]"]),
    ("provider.failures.foreground", &["0.0", "0.2"]),
    ("provider.failures.failed_writes", &["false", "true"]),
];

const SESSIONS_ONLY: &[(&str, &[&str])] = &[
    ("client.gateway.continuation", &["none", "explicit", "implicit"]),
    ("client.workload.w.reaction.after_miss", &["nothing", "pause_status", "rebase", "rotate_key"]),
    ("client.workload.w.reaction.rebase_above", &["20000", "1000"]),
    ("client.workload.w.reaction.keep_alive", &["unlimited", "3m"]),
];

/// What plain runs send, beside chats and agents: calls that stand alone, and conversations in which little is said.
const PLAIN_TRAFFIC: [&str; 2] = [
    r#"
    [client.workload.w.shared_prefix]
    prefix_tokens = 3_000
    tail_tokens = "uniform(0..2000)"
    tails = 3
    output_tokens = 300
    "#,
    r#"
    [client.workload.w.chat]
    prefix_tokens = 1_100
    turns = "uniform(1..20)"
    user_tokens = "choice(0: 3, 100: 1)"
    output_tokens = "choice(0: 3, 500: 1)"
    think = "lognormal(20s, 1.0)"
    "#,
];

/// What even plain runs have.
const PLAIN: &[(&str, &[&str])] = &[
    ("client.key.strategy", &["per_session", "constant", "per_user", "per_call", "none", "buckets"]),
    ("client.key.assign", &["session", "round_robin", "random", "user"]),
    ("provider.write.semantics", &["partial_prefix", "first_tokens"]),
    ("provider.write.visible", &["first_token", "arrival", "completion"]),
    ("provider.write.lag", &["0s", "20s", "3m"]),
    ("provider.write.min_tokens", &["1024", "1", "0"]),
    ("provider.routing.rule", &["home", "pool", "random", "bounded_load", "round_robin"]),
    ("provider.routing.limit_rpm", &["15", "1", "4"]),
    ("provider.routing.overflow", &["cascade", "random", "none"]),
    ("provider.routing.rate_over", &["prefix_and_key", "key", "machine"]),
    ("provider.routing.rate_count", &["admitted", "arrivals", "tumbling"]),
    ("provider.routing.key_role", &["routing", "identity"]),
    ("provider.routing.hash_tokens", &["256", "3000"]),
    ("provider.latency.slots", &["32", "1"]),
    ("provider.latency.noise_sigma", &["0.0", "0.4"]),
];

const TREES_ONLY: &[(&str, &[&str])] = &[
    ("client.workload.w.fork_tree.order", &["parallel", "one_by_one", "warm_first"]),
    ("client.workload.w.fork_tree.root_call", &["true", "false"]),
    ("client.workload.w.fork_tree.merge", &["true", "false"]),
];

/// A scenario, and what was drawn for it.
fn scenario(seed: u64) -> (Loaded, Vec<String>) {
    let mut below = dice(seed);
    let traffic = below(TRAFFIC.len());
    let own = if traffic == 2 { TREES_ONLY } else { SESSIONS_ONLY };
    let mut drawn = draw(ANY_TRAFFIC.iter().chain(own), &mut below);
    // An upstream session takes a key as it is.
    if drawn.iter().any(|set| set.ends_with("implicit")) {
        drawn.push("client.key.fingerprint=0.0".into());
    }
    let changes: Vec<_> = drawn.iter().map(|set| Change::parse(set).unwrap()).collect();
    let text = format!("{HEAD}{}", TRAFFIC[traffic]);
    (Loaded::from_text("generated", "generated.toml", &text, Path::new(""), &changes).unwrap(), drawn)
}

fn check(outcome: &Outcome, stores_the_prompt_only: bool) -> Result<(), &'static str> {
    let attribution = outcome.attribution.unwrap();
    let lost: u32 = attribution.lost.iter().sum();
    let laws = [
        (lost + outcome.cached == outcome.prompt, "every uncached token has one cause"),
        (outcome.cached <= attribution.ceiling_lifetime, "perfect routing reads no less"),
        (attribution.ceiling_lifetime <= attribution.ceiling_infinite, "nor does an infinite cache"),
        (attribution.ceiling_infinite < outcome.prompt, "one token is always computed"),
        (
            !stores_the_prompt_only || outcome.written <= outcome.prompt - outcome.cached,
            "only uncached tokens are written",
        ),
        (!outcome.failed || outcome.output == 0, "a failed call has no answer"),
    ];
    laws.iter().find(|(holds, _)| !holds).map_or(Ok(()), |(_, law)| Err(law))
}

#[test]
fn every_generated_request_keeps_the_laws() {
    let mut requests = 0;
    for seed in 0..400 {
        let (loaded, drawn) = scenario(seed);
        let stores_the_prompt_only = drawn.iter().any(|set| set == "provider.write.body=prompt");
        replicate(&loaded, 0, |outcome| {
            requests += 1;
            if let Err(law) = check(outcome, stores_the_prompt_only) {
                panic!("{law}: {outcome:#?}\nseed {seed}:\n{}", drawn.join("\n"));
            }
        })
        .unwrap();
    }
    assert!(requests > 40_000, "{requests}");
}

/// Without attribution the text of sessions that have ended is forgotten. Nobody may notice.
#[test]
fn what_is_forgotten_changes_nothing() {
    let (mut remembered, mut kept) = (0, 0);
    for seed in 0..100 {
        let (loaded, drawn) = scenario(seed);
        let played = |attribution: bool| {
            let more = Change::new("client.workload.w.arrivals.rate", "4/min", "test");
            let loaded = loaded.with(&[more, Change::new("attribution", attribution, "test")]).unwrap();
            let mut simulation = simulation(&loaded, 0).unwrap();
            let mut outcomes = Vec::new();
            let mut observe = |outcome: &Outcome| {
                outcomes.push(format!("{:?}", Outcome { attribution: None, ..*outcome }));
            };
            simulation.run(&mut observe).unwrap();
            (outcomes, simulation.edges())
        };
        let ((with, all), (without, left)) = (played(true), played(false));
        assert_eq!(with, without, "seed {seed}:\n{}", drawn.join("\n"));
        remembered += all;
        kept += left;
    }
    assert!(4 * kept < 3 * remembered, "{kept} of {remembered} edges were kept");
}

/// A plain run is compiled without what it does not need. With something of it, even if that never does anything, the same
/// run is no plain one.
#[test]
fn plain_runs_give_what_the_full_model_gives() {
    for seed in 0..300 {
        let mut below = dice(seed);
        let mut drawn = draw(PLAIN.iter(), &mut below);
        drawn.push(format!("client.key.buckets={}", 1 + below(4)));
        let changes: Vec<_> = drawn.iter().map(|set| Change::parse(set).unwrap()).collect();
        let traffic = [TRAFFIC[0], TRAFFIC[1], PLAIN_TRAFFIC[0], PLAIN_TRAFFIC[1]][below(4)];
        let text = format!("{HEAD}{traffic}");
        let loaded = Loaded::from_text("plain", "plain.toml", &text, Path::new(""), &changes).unwrap();
        let played = |may_fail: bool, attribution: bool| {
            let mut changes = vec![Change::new("attribution", attribution, "test")];
            if may_fail {
                // No draw is so small.
                changes.push(Change::new("provider.failures.foreground", 1e-300, "test"));
            }
            let mut simulation = simulation(&loaded.with(&changes).unwrap(), 0).unwrap();
            assert_eq!(simulation.extent(), if may_fail { Extent::Full } else { Extent::Plain });
            let mut outcomes = Vec::new();
            let mut observe = |outcome: &Outcome| outcomes.push(format!("{outcome:?}"));
            simulation.run(&mut observe).unwrap();
            outcomes
        };
        for attribution in [false, true] {
            let (plain, full) = (played(false, attribution), played(true, attribution));
            assert!(plain.len() > 20);
            assert_eq!(plain, full, "seed {seed}, attribution {attribution}:\n{}", drawn.join("\n"));
        }
    }
}
