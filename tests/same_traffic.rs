//! The same requests at many sides, in one pass: request by request and number by number what separate runs give; and
//! runs of their own wherever requests are not the same.

use std::collections::BTreeSet;
use std::sync::Mutex;

use cachecast::experiment::run::{replicate, replicate_variants};
use cachecast::experiment::same_traffic::{passes, said, traffic};
use cachecast::experiment::scenario::Loaded;
use cachecast::experiment::sweep::{Finished, Plan};
use cachecast::simulation::outcome::Outcome;
use drawn::{dice, draw};
use loading::load;

mod drawn;
mod loading;

/// A path, and values that it may have.
type Values = (&'static str, &'static [&'static str]);

/// Callers of two prefixes, the second ones with keys of their own.
const CALLS: &str = r#"
duration = "40m"

[client.workload.many]
users = 5
arrivals = { process = "poisson", rate = "15/min" }
shared_prefix = { prefix_tokens = 3000, tail_tokens = "uniform(0..2000)", tails = 7, output_tokens = "lognormal(300, 0.6)" }

[client.workload.few]
arrivals = { process = "poisson", rate = "3/min" }
key = { strategy = "buckets", buckets = 3, assign = "round_robin" }
retention = "24h"
shared_prefix = { prefix_tokens = 2000, tail_tokens = "uniform(10..3000)", output_tokens = 200 }

[provider]
profile = "openai-classic"
routing.machines = 6
"#;

/// The recorded agents.
const TRACE: &str = r#"
[client.workload.agents.trace.file]
path = "scenarios/traces/agents.jsonl"
block_tokens = 128
time_unit = "ms"

[provider]
profile = "openai-classic"
"#;

/// What is sent, and how its variants may be keyed; only a trace has recorded keys.
const CALLS_AND_KEYS: (&str, Values) = (
    CALLS,
    ("client.key.strategy", &["buckets", "per_session", "constant", "per_user", "per_call", "none", "label"]),
);
const TRACE_AND_KEYS: (&str, Values) = (
    TRACE,
    (
        "client.key.strategy",
        &["buckets", "recorded", "per_session", "constant", "per_user", "per_call", "none", "label"],
    ),
);

/// What else the variants of one traffic may differ in.
const VARIED: &[Values] = &[
    ("client.key.buckets", &["1", "2", "3", "8", "100"]),
    ("client.key.assign", &["round_robin", "session", "random", "user"]),
    ("client.retention", &["in_memory", "24h"]),
    ("attribution", &["true", "false"]),
    ("warmup", &["0s", "5m"]),
    ("provider.write.semantics", &["partial_prefix", "first_tokens"]),
    ("provider.write.visible", &["first_token", "arrival", "completion"]),
    ("provider.write.lag", &["0s", "20s", "3m"]),
    ("provider.write.min_tokens", &["1024", "1"]),
    ("provider.routing.machines", &["6", "64"]),
    ("provider.routing.rule", &["home", "pool", "random", "bounded_load", "round_robin"]),
    ("provider.routing.limit_rpm", &["15", "1", "4"]),
    ("provider.routing.overflow", &["cascade", "random", "none"]),
    ("provider.routing.rate_over", &["prefix_and_key", "key", "machine"]),
    ("provider.routing.rate_count", &["admitted", "arrivals", "tumbling"]),
    ("provider.routing.key_role", &["routing", "identity"]),
    ("provider.latency.slots", &["32", "1"]),
    ("provider.latency.noise_sigma", &["0.4", "0.0", "0.2"]),
];

/// Plays variants of one traffic together and alone; all outcomes and all rows must agree.
fn agree(variants: &[(Loaded, Vec<String>)]) {
    let show = |outcome: &Outcome| format!("{outcome:?}");
    let mut together = vec![Vec::new(); variants.len()];
    let loaded: Vec<_> = variants.iter().map(|(loaded, _)| loaded).collect();
    let observe = |number: usize, outcome: &Outcome| together[number].push(show(outcome));
    let reports = replicate_variants(&loaded, 1, observe).unwrap();
    for (((loaded, drawn), together), report) in variants.iter().zip(&together).zip(&reports) {
        let mut alone = Vec::new();
        let own = replicate(loaded, 1, |outcome| alone.push(show(outcome))).unwrap();
        for (one, other) in together.iter().zip(&alone) {
            assert_eq!(one, other, "{drawn:?}");
        }
        assert_eq!(together.len(), alone.len());
        assert!(alone.len() > 100, "{} requests are no test", alone.len());
        assert_eq!((&report.row, &report.skipped), (&own.row, &own.skipped), "{drawn:?}");
    }
}

#[test]
fn variants_of_any_kind_are_what_separate_runs_give() {
    let mut rows = BTreeSet::new();
    for seed in 0..60 {
        let mut below = dice(seed);
        let (text, strategies) = [CALLS_AND_KEYS, TRACE_AND_KEYS][below(3) / 2];
        let mut variant = || {
            let drawn = draw([strategies].iter().chain(VARIED), &mut below);
            (load(text, &drawn.join(" ")), drawn)
        };
        let variants: Vec<_> = (0..4).map(|_| variant()).collect();
        let same: BTreeSet<_> = variants.iter().map(|(loaded, _)| traffic(loaded)).collect();
        assert_eq!(same.len(), 1, "{:?}", variants[0].1);
        assert!(same.first().unwrap().is_some(), "{:?}", variants[0].1);
        agree(&variants);
        rows.extend(variants.iter().map(|(loaded, _)| {
            replicate(loaded, 1, |_| ()).unwrap().row.get("cached_tokens").unwrap() as u64
        }));
    }
    assert!(rows.len() > 100, "variants differ: {} kinds of 240", rows.len());
}

#[test]
fn traffic_is_the_same_only_where_nothing_that_becomes_of_it_decides_what_is_sent() {
    let base = traffic(&load(CALLS, ""));
    assert!(base.is_some());
    for same in
        ["client.key.strategy=constant", "client.workload.few.key.buckets=9", "provider.routing.rule=pool"]
    {
        assert_eq!(traffic(&load(CALLS, same)), base, "{same}");
    }
    for another in [
        "client.workload.few.arrivals.rate=4/min",
        "client.workload.many.users=6",
        "client.workload.few.partition=west",
        "duration=50m",
        "seed=2",
        "provider.routing.hash_tokens=3000",
    ] {
        let other = traffic(&load(CALLS, another));
        assert!(other.is_some() && other != base, "{another}");
    }
    for alone in [
        "sample=1/4 client.key.strategy=per_user client.workload.few.key.strategy=per_session",
        "client.key.fingerprint=0.5",
        "client.gateway.accounts=2",
        "client.workload.many.volatility.head_tokens=20",
        "provider.write.semantics=whole_body",
        "provider.write.when=on_miss",
        "provider.routing.explore=0.1",
        "provider.failures.foreground=0.1",
    ] {
        assert_eq!(traffic(&load(CALLS, alone)), None, "{alone}");
    }
    let regime = format!("{CALLS}\n[[regime]]\nat = \"10m\"\nprovider = {{ write = {{ lag = \"1s\" }} }}");
    assert_eq!(traffic(&load(&regime, "")), None);
    let kind =
        r#"shared_prefix = { prefix_tokens = 2000, tail_tokens = "uniform(10..3000)", output_tokens = 200 }"#;
    let chat = CALLS.replace(
        kind,
        r#"chat = { prefix_tokens = 2000, turns = 3, user_tokens = 90, output_tokens = 200, think = "9s" }"#,
    );
    assert_ne!(chat, CALLS);
    assert_eq!(traffic(&load(&chat, "")), None, "a chat waits for its answers");
}

/// Ten cardinalities under two rates of arrival and three rules of writing, one of which needs runs of its own.
fn swept() -> Plan {
    let axes = r#"
        [[sweep.axis]]
        path = "client.workload.many.arrivals.rate"
        values = ["5/min", "15/min"]

        [[sweep.axis]]
        path = "provider.write.semantics"
        values = ["partial_prefix", "whole_body", "first_tokens"]

        [[sweep.axis]]
        path = "client.key.buckets"
        values = [1, 2, 3, 4, 5, 6, 7, 8, 16, 32]
    "#;
    Plan::new(&load(&format!("{CALLS}\n{axes}"), "client.key.strategy=buckets seeds=2 duration=10m")).unwrap()
}

#[test]
fn a_sweep_plays_cells_of_the_same_traffic_together_and_the_others_one_by_one() {
    let plan = swept();
    let sizes = |passes: &[Vec<usize>]| {
        let mut sizes: Vec<_> = passes.iter().map(Vec::len).collect();
        sizes.sort_unstable();
        sizes.dedup();
        sizes
    };
    for (threads, expected) in [(1, vec![1, 4, 16]), (10, vec![1, 2, 3]), (100, vec![1])] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let passes = pool.install(|| passes(&plan));
        assert_eq!(sizes(&passes), expected, "{threads} threads");
        let mut cells = passes.concat();
        cells.sort_unstable();
        assert_eq!(cells, (0..60).collect::<Vec<_>>(), "every cell is in one pass");
        let semantics = |cell: &usize| plan.outline.position(*cell, 1);
        assert!(passes.iter().all(|pass| pass.len() == 1 || pass.iter().all(|cell| semantics(cell) != 1)));
        let rate = |cell: &usize| plan.outline.position(*cell, 0);
        assert!(passes.iter().all(|pass| pass.iter().all(|cell| rate(cell) == rate(&pass[0]))));
    }
    let alone = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    assert_eq!(
        alone.install(|| said(&plan)).unwrap(),
        "40 of 60 cells: the requests are generated once for up to 16 of them, since no answer decides what is sent"
    );
    let rows = alone.install(|| plan.play(&Finished::default(), |_, _, _| true)).unwrap();
    for (cell, rows) in plan.cells.iter().zip(&rows.0) {
        for (seed, row) in rows.iter().enumerate() {
            assert_eq!(*row, replicate(&cell.loaded, seed as u32, |_| ()).unwrap().row, "{:?}", cell.values);
        }
    }
    // And with whatever rows an interrupted sweep left.
    let left = |(cell, seed): (usize, u32)| ((cell, seed), rows.0[cell][seed as usize].clone());
    let known = Finished([(0, 0), (5, 1), (21, 0), (13, 1)].map(left).into());
    let again = Mutex::new(0);
    let resumed = plan.play(&known, |_, _, _| {
        *again.lock().unwrap() += 1;
        true
    });
    assert_eq!((resumed.unwrap(), *again.lock().unwrap()), (rows.clone(), plan.jobs() - 4));
}
