//! Every constant lifetime in one pass: request by request and number by number what separate runs give, wherever
//! that is said to be exact; and a reason wherever it is not.

use cachecast::experiment::lifetimes::{Lifetimes, obstacle, said};
use cachecast::experiment::run::{replicate, replicate_lifetimes};
use cachecast::experiment::scenario::Change;
use cachecast::experiment::sweep::{Finished, Plan};
use cachecast::simulation::outcome::Outcome;
use cachecast::units::Span;
use loading::load;

mod loading;

/// Lifetimes of every order, two of them the same.
const LIFETIMES: [&str; 20] = [
    "1s",
    "5s",
    "20s",
    "1m",
    "90s",
    "2m",
    "5m",
    "300s",
    "6m",
    "8m",
    "10m",
    "15m",
    "30m",
    "45m",
    "1h",
    "2h",
    "6h",
    "24h",
    "48h",
    "unlimited",
];

/// Two products on few machines with short queues: callers of one prefix, and calls of which every one is long.
const CALLS: &str = r#"
duration = "3h"
warmup = "10m"

[client.key]
strategy = "buckets"
buckets = 3
assign = "random"

[client.workload.many]
arrivals = { process = "poisson", rate = "20/min" }

[client.workload.many.shared_prefix]
prefix_tokens = 6600
tail_tokens = "uniform(10..3000)"
output_tokens = "lognormal(300, 0.6)"

[client.workload.few]
arrivals = { process = "poisson", rate = "every 7m" }
partition = "other"

[client.workload.few.shared_prefix]
prefix_tokens = 5000
tail_tokens = 100
output_tokens = 2000

[provider]
profile = "openai-classic"

[provider.write]
visible = "arrival"

[provider.routing]
machines = 6

[provider.latency]
slots = 2

[provider.retention]
default = "constant"
lifetime = { constant = "1h" }

[provider.models."gpt-5.2"]
retention = ["constant"]
"#;

/// The recorded agents.
const TRACE: &str = r#"
attribution = true

[client.key]
strategy = "recorded"

[client.workload.agents.trace.file]
path = "scenarios/traces/agents.jsonl"
block_tokens = 128
time_unit = "ms"

[provider]
profile = "openai-classic"

[provider.write]
visible = "arrival"

[provider.retention]
default = "constant"
lifetime = { constant = "1h" }

[provider.models."gpt-5.2"]
retention = ["constant"]
"#;

/// Conversations with a provider whose answers take as long whatever was cached.
const CHAT: &str = r#"
duration = "3h"

[client.key]
strategy = "per_session"

[client.workload.chat]
arrivals = { process = "poisson", rate = "30/h" }

[client.workload.chat.chat]
prefix_tokens = 3000
turns = 6
user_tokens = "lognormal(80, 0.9)"
output_tokens = "lognormal(300, 0.6)"
think = "exponential(4m)"

[provider]
profile = "openai-classic"

[provider.latency]
slots = 2
per_uncached_token = "2us"
per_cached_token = "2us"

[provider.retention]
default = "constant"
lifetime = { constant = "1h" }

[provider.models."gpt-5.2"]
retention = ["constant"]
"#;

fn lifetimes() -> Vec<Span> {
    LIFETIMES.iter().map(|lifetime| lifetime.parse().unwrap()).collect()
}

/// Plays a scenario under all lifetimes at once and one by one; all outcomes and all rows must agree.
fn agrees(text: &str, changes: &str) {
    let loaded = load(text, changes);
    assert_eq!(obstacle(&loaded, "constant"), None, "{changes}");
    let mut together: Vec<Vec<String>> = vec![Vec::new(); LIFETIMES.len()];
    let show = |outcome: &Outcome| format!("{outcome:?}");
    let observe = |number: usize, outcome: &Outcome| together[number].push(show(outcome));
    let reports = replicate_lifetimes(&loaded, 1, &lifetimes(), observe).unwrap();
    let mut cached = Vec::new();
    for (number, lifetime) in LIFETIMES.iter().enumerate() {
        let with = Change::new("provider.retention.lifetime.constant", *lifetime, "test");
        let mut alone = Vec::new();
        let report =
            replicate(&loaded.with(&[with]).unwrap(), 1, |outcome| alone.push(show(outcome))).unwrap();
        assert!(alone.len() > 100, "{} requests are no test", alone.len());
        for (one, other) in together[number].iter().zip(&alone) {
            assert_eq!(one, other, "{lifetime}: {changes}");
        }
        assert_eq!(together[number].len(), alone.len());
        assert_eq!(reports[number].row, report.row, "{lifetime}: {changes}");
        assert_eq!(reports[number].skipped, report.skipped);
        cached.push(report.row.get("cached_tokens").unwrap());
    }
    cached.dedup();
    assert!(cached.len() > 5, "the lifetime matters: {cached:?}");
}

#[test]
fn generated_calls_are_what_separate_runs_give_under_every_routing_rule() {
    for routing in [
        "provider.routing.rate_count=admitted",
        "provider.routing.rate_count=arrivals provider.routing.overflow=random",
        "provider.routing.rate_count=tumbling provider.routing.rate_over=machine",
        "provider.routing.rate_over=key provider.routing.explore=0.1",
        "provider.routing.rule=pool provider.routing.churn=20m",
        "provider.routing.rule=random",
        "provider.routing.rule=round_robin",
        "provider.routing.key_role=identity provider.routing.backends=[3,1]",
    ] {
        agrees(CALLS, routing);
        agrees(CALLS, &format!("{routing} attribution=false"));
    }
}

#[test]
fn generated_calls_are_what_separate_runs_give_under_every_rule_of_writing() {
    for writing in [
        "provider.write.lag=40s",
        "provider.write.semantics=first_tokens provider.write.first_tokens=7000",
        "provider.write.hidden_date=true duration=60h client.workload.many.arrivals.rate=1/min",
        "provider.write.body=prompt_and_output provider.write.interval=1 provider.write.report_step=1",
        "provider.failures.foreground=0.2 client.workload.many.reaction.retries=0 \
         client.workload.few.reaction.retries=0",
        "provider.failures.foreground=0.2 provider.failures.failed_writes=true \
         client.workload.many.reaction.retries=0 client.workload.few.reaction.retries=0",
        "client.gateway.accounts=3",
    ] {
        agrees(CALLS, writing);
    }
}

#[test]
fn a_recorded_trace_is_what_separate_runs_give() {
    for changes in [
        "",
        "attribution=false",
        "provider.routing.rule=pool provider.write.lag=5s",
        "provider.routing.rate_count=tumbling provider.routing.limit_rpm=2",
        "client.gateway.accounts=2 client.gateway.continuation=explicit",
        "provider.write.semantics=first_tokens provider.write.first_tokens=4000",
    ] {
        agrees(TRACE, changes);
    }
}

#[test]
fn where_answers_take_as_long_whatever_was_cached_closed_loops_are_exact_too() {
    for changes in [
        "",
        "provider.write.visible=completion provider.write.body=prompt_and_output provider.latency.slots=1",
        "client.workload.chat.reaction.keep_alive=3m provider.failures.foreground=0.1",
    ] {
        agrees(CHAT, changes);
    }
}

#[test]
fn a_reason_is_given_where_one_pass_would_not_be_exact() {
    for (text, changes, reason) in [
        (CALLS, "provider.write.visible=first_token", "first_token: answers' times"),
        (CALLS, "provider.write.visible=completion", "completion: answers' times"),
        (CALLS, "provider.write.when=on_miss", "on_miss: what was read"),
        (CALLS, "provider.write.when=once", "once: what is alive"),
        (CALLS, "provider.write.bodies=one", "bodies = one"),
        (CALLS, "provider.write.capacity_tokens=100000", "capacity_tokens"),
        (CALLS, "provider.write.semantics=whole_body", "whole_body, breakpoints"),
        (CALLS, "provider.write.semantics=breakpoints", "whole_body, breakpoints"),
        (CALLS, "provider.routing.rule=pool provider.routing.pick=least_loaded", "least_loaded"),
        (CALLS, "provider.routing.rule=bounded_load", "bounded_load"),
        (CALLS, "provider.failures.foreground=0.1", "workload `few`: retries: answers' times feed arrivals"),
        (
            CHAT,
            "provider.latency.per_cached_token=0s provider.write.visible=arrival",
            "workload `chat`: chat: ",
        ),
        (CHAT, "provider.latency.attention_per_million_pairs=1us", "first_token: answers' times"),
        (CHAT, "client.workload.chat.reaction.after_miss=rotate_key", "workload `chat`: after_miss"),
    ] {
        let said = obstacle(&load(text, changes), "constant").unwrap_or_default();
        assert!(said.contains(reason), "{changes}: {said:?} lacks {reason:?}");
    }
    let other = obstacle(&load(CALLS, ""), "in_memory").unwrap();
    assert_eq!(other, "workload `few`: the policy in force is `constant`");
    let regime = format!("{CALLS}\n[[regime]]\nat = \"1h\"\nprovider = {{ write = {{ lag = \"1s\" }} }}");
    assert!(obstacle(&load(&regime, ""), "constant").unwrap().starts_with("regime: "));
}

/// [`CALLS`] with few requests, swept over lifetimes and two ways in which writes become visible.
fn swept() -> Plan {
    let axes = r#"
        [[sweep.axis]]
        path = "provider.retention.lifetime.constant"
        values = ["1m", "5m", "40m", "2h"]

        [[sweep.axis]]
        path = "provider.write.visible"
        values = ["arrival", "first_token"]
    "#;
    Plan::new(&load(&format!("{CALLS}\n{axes}"), "seeds=3 duration=40m")).unwrap()
}

#[test]
fn a_sweep_plays_groups_in_one_pass_and_the_others_one_by_one() {
    let plan = swept();
    let lifetimes = Lifetimes::of(&plan.outline).unwrap();
    assert_eq!(lifetimes.groups().collect::<Vec<_>>(), [[0, 2, 4, 6], [1, 3, 5, 7]]);
    assert_eq!(lifetimes.passes(&plan), [vec![0, 2, 4, 6], vec![1], vec![3], vec![5], vec![7]]);
    assert_eq!(
        said(&plan).unwrap(),
        "provider.retention.lifetime.constant: 4 lifetimes are computed in one pass in 1 of 2 groups of cells, \
         elsewhere one by one; first_token: answers' times decide when writes become visible"
    );
    let rows = plan.play(&Finished::default(), |_, _, _| true).unwrap();
    for (cell, rows) in plan.cells.iter().zip(&rows.0) {
        for (seed, row) in rows.iter().enumerate() {
            assert_eq!(*row, replicate(&cell.loaded, seed as u32, |_| ()).unwrap().row, "{:?}", cell.values);
        }
    }
}

#[test]
fn a_pass_goes_on_from_whatever_rows_an_interrupted_one_left() {
    let plan = swept();
    let all = plan.play(&Finished::default(), |_, _, _| true).unwrap();
    for left in
        [vec![(0, 0)], vec![(0, 0), (2, 0), (4, 0)], vec![(2, 1), (6, 1), (0, 2), (2, 2), (4, 2), (6, 2)]]
    {
        let row = |(cell, seed): &(usize, u32)| ((*cell, *seed), all.0[*cell][*seed as usize].clone());
        let known = Finished(left.iter().map(row).collect());
        let again = std::sync::Mutex::new(Vec::new());
        let rows = plan.play(&known, |cell, seed, _| {
            again.lock().unwrap().push((cell, seed));
            true
        });
        assert_eq!(rows.unwrap(), all);
        let again = again.into_inner().unwrap();
        assert_eq!(again.len(), plan.jobs() - left.len());
        assert!(left.iter().all(|known| !again.contains(known)));
    }
}

#[test]
fn lifetimes_that_are_drawn_are_played_one_by_one() {
    let axis = "[[sweep.axis]]\npath = \"provider.retention.lifetime.constant\"\nvalues = [\"5m\", \"uniform(5m..10m)\"]";
    let plan = Plan::new(&load(&format!("{CALLS}\n{axis}"), "")).unwrap();
    assert!(Lifetimes::of(&plan.outline).is_none());
    assert!(said(&plan).unwrap().contains("one by one; lifetimes that are drawn"));
    assert_eq!(said(&Plan::new(&load(CALLS, "")).unwrap()), None);
}

#[test]
fn a_sweep_says_how_lifetimes_are_computed_and_writes_the_same_on_any_number_of_threads() {
    let folder = tempfile::tempdir().unwrap();
    let sweep = |threads: &str, out: &str, further: &[&str]| {
        let mut command = assert_cmd::Command::cargo_bin("cachecast").unwrap();
        let args = ["sweep", "lifetimes", "--set", "duration=2d", "--seeds", "3", "--out", out];
        command.current_dir(folder.path()).env("RAYON_NUM_THREADS", threads);
        let output = command.args(args).args(further).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let files = ["cells.csv", "summary.csv", "lifetime_unknown.csv"];
        let files = files.map(|file| std::fs::read_to_string(folder.path().join(out).join(file)).unwrap());
        (String::from_utf8(output.stderr).unwrap(), files)
    };
    let (said, files) = sweep("1", "one", &[]);
    let how = "provider.retention.lifetime.constant: 24 lifetimes are computed in one pass\n";
    assert!(said.starts_with(how), "{said}");
    assert!(said.contains("lifetime_unknown.csv: means over a constant lifetime"), "{said}");
    assert_eq!(files[2].lines().count(), 1 + 5);
    let (said, same) = sweep("3", "three", &["--quiet"]);
    assert_eq!((said.as_str(), same), ("", files));
}
