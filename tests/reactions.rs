//! What clients do about misses, failures and pauses, worked by hand.

use std::path::Path;

use cachecast::client::request::Occasion;
use cachecast::experiment::run::{Report, replicate};
use cachecast::experiment::scenario::{Change, Loaded};
use cachecast::simulation::outcome::{Cause, Outcome};

/// One turn of an agent with a status block of 600 tokens that is rewritten with every call: 20,000 tokens that all
/// sessions share, 30,000 of its own, a message of 100; every call adds an answer of 50 and a tool's result of 200.
/// Nothing expires or overflows; reports are exact.
const AGENT: &str = r#"
duration = "10h"
client.key.strategy = "per_session"
client.workload.agent.arrivals = { process = "fixed", rate = "every 20h" }
provider.profile = "ideal"
provider.write.visible = "first_token"
provider.write.semantics = "whole_body"

[client.workload.agent.agent]
prefix_tokens = 20_000
start_tokens = 30_000
turns = 1
calls = 12
user_tokens = 100
tool_tokens = 200
output_tokens = 50
pause = "5s"
think = "60s"

[client.workload.agent.volatility]
status_tokens = 600
status_rewritten = "call"
"#;

/// A scenario of this file with other values at some paths: `path=value`, one a line.
fn play(text: &str, changes: &str) -> (Vec<Outcome>, Report) {
    let lines = changes.lines().filter(|line| !line.trim().is_empty());
    let changes: Vec<_> = lines.map(|line| Change::parse(line.trim()).unwrap()).collect();
    let loaded = Loaded::from_text("reactions", "reactions.toml", text, Path::new(""), &changes).unwrap();
    let mut outcomes = Vec::new();
    let report = replicate(&loaded, 0, |outcome| outcomes.push(*outcome)).unwrap();
    (outcomes, report)
}

fn outcomes(text: &str, changes: &str) -> Vec<Outcome> {
    play(text, changes).0
}

fn reads(outcomes: &[Outcome]) -> Vec<(u32, u32)> {
    outcomes.iter().map(|outcome| (outcome.prompt, outcome.cached)).collect()
}

/// A chat of two users at once: their sessions begin 10 s apart and go on every 20 s.
const CHAT: &str = r#"
duration = "20s"
client.key.strategy = "constant"
client.workload.chat.arrivals = { process = "fixed", rate = "every 10s" }
provider.profile = "ideal"
provider.routing.machines = 8

[client.workload.chat.chat]
prefix_tokens = 2_000
turns = 4
user_tokens = 100
output_tokens = 50
think = "3s"
"#;

/// One tree: a root, two children, four grandchildren. A call takes 1 s to its first token and 2 s in all.
const TREE: &str = r#"
duration = "10h"
client.key.strategy = "per_session"
client.workload.tree.arrivals = { process = "fixed", rate = "every 20h" }
provider.profile = "ideal"
provider.write.visible = "first_token"
provider.latency.overhead = "1s"
provider.latency.per_output_token = "20ms"

[client.workload.tree.fork_tree]
prefix_tokens = 2_000
start_tokens = 3_000
branching = [2, 2]
task_tokens = 100
output_tokens = 50
"#;

#[test]
fn a_paused_status_block_lets_whole_bodies_hit_until_it_comes_back() {
    let calls = outcomes(
        AGENT,
        "client.workload.agent.reaction.after_miss=pause_status
        client.workload.agent.reaction.pause_calls=3",
    );
    // The second call misses; the third is the first without the block, and misses what had it; three calls more
    // read the body before them, the last of which ends the pause. After the next miss the block is left out again, and
    // what follows repeats the last body without it.
    let expected = [
        (50_700, 0),
        (50_950, 0),
        (50_600, 0),
        (50_850, 50_600),
        (51_100, 50_850),
        (51_350, 51_100),
        (52_200, 0),
        (51_850, 51_350),
        (52_100, 51_850),
    ];
    assert_eq!(reads(&calls)[..9], expected);
}

#[test]
fn a_paused_turn_is_repeated_by_the_turn_after_it() {
    // A pause that begins in mid-turn: the calls without the block repeat what later turns repeat too.
    let calls = outcomes(
        AGENT,
        "provider.write.semantics=partial_prefix
        client.workload.agent.agent.turns=2
        client.workload.agent.agent.calls=3
        client.workload.agent.reaction.after_miss=pause_status
        client.workload.agent.reaction.pause_calls=20
        client.workload.agent.reaction.miss_below=1.0",
    );
    // The second call reads less than the first one's 50,700 tokens, and so begins the pause.
    let expected = [
        (50_700, 0),
        (50_950, 50_000),
        (50_600, 50_000),
        (50_750, 50_600),
        (51_000, 50_750),
        (51_250, 51_000),
    ];
    assert_eq!(reads(&calls), expected);
}

/// Theory: a period of n calls begins with a clean one, which reads nothing and writes its whole prompt B; the others
/// read B, whatever their status blocks do. With d tokens more each call and a block of s tokens, the tail behind B
/// is kd + s at the k-th call after it, and the first that exceeds x ends the period: n - 1 = floor((x - s) / d) + 1.
/// Of all prompts, (n - 1) B of nB + (n - 1) s + d n (n - 1) / 2 tokens are read.
#[test]
fn a_rebase_reads_its_base_in_every_call_but_the_first_of_a_period() {
    const D: u32 = 250;
    const S: u32 = 600;
    for x in [700, 1_400, 3_000] {
        let calls = outcomes(
            AGENT,
            &format!(
                "client.workload.agent.agent.calls=80
                client.workload.agent.reaction.after_miss=rebase
                client.workload.agent.reaction.rebase_above={x}"
            ),
        );
        assert!(calls[..2].iter().all(|call| call.cached == 0), "before the first rebase");
        let reading = (x - S) / D + 1;
        let n = reading as usize + 1;
        let periods: Vec<_> = calls[2..].chunks_exact(n).collect();
        assert!(periods.len() > 5, "{x}");
        for period in periods {
            let base = period[0].prompt;
            assert_eq!(period[0].cached, 0, "a clean call breaks the prefix on purpose");
            assert!(period[1..].iter().all(|call| call.cached == base), "{x}: {:?}", reads(period));
            let sum = |tokens: fn(&Outcome) -> u32| period.iter().map(tokens).sum::<u32>();
            let theory = f64::from(reading * base)
                / f64::from((reading + 1) * base + reading * S + D * (reading + 1) * reading / 2);
            let simulated = f64::from(sum(|call| call.cached)) / f64::from(sum(|call| call.prompt));
            assert!((simulated - theory).abs() < 1e-12, "{x}: {simulated} and {theory}");
        }
    }
}

#[test]
fn a_second_bust_costs_and_gains_nothing() {
    let cached = |calls: u32| {
        let calls = outcomes(
            AGENT,
            &format!(
                "client.workload.agent.agent.calls=40
                client.workload.agent.reaction.after_miss=rebase
                client.workload.agent.reaction.rebase_calls={calls}"
            ),
        );
        calls.iter().map(|call| u64::from(call.cached)).sum::<u64>()
    };
    let (once, twice) = (cached(1), cached(2));
    // The bust is call 2 or calls 2 and 3 of 40; the base is 50,616 tokens or, a call later, 250 more.
    assert_eq!((once, twice), (37 * 50_616, 36 * 50_866));
    assert!(twice < once);
}

#[test]
fn nobody_rebases_who_never_missed() {
    let with = |reaction: &str| {
        outcomes(
            AGENT,
            &format!(
                "provider.write.semantics=partial_prefix
                client.workload.agent.reaction.after_miss={reaction}"
            ),
        )
    };
    for (call, unmoved) in with("rebase").iter().zip(with("nothing")).skip(1) {
        // 16 tokens at the head are reserved for the rebases to come.
        assert_eq!((call.prompt, call.cached), (unmoved.prompt + 16, unmoved.cached + 16));
    }
}

#[test]
fn a_key_is_rotated_after_so_many_misses_in_a_row() {
    let calls = outcomes(
        AGENT,
        "client.workload.agent.reaction.after_miss=rotate_key
        client.workload.agent.reaction.misses=2",
    );
    // The first call is no miss: nothing could be expected of it.
    let mut keys: Vec<_> = calls.iter().map(|call| call.key).collect();
    assert!(keys[..3].iter().all(|key| *key == keys[0]));
    assert!(keys[3..].chunks(2).all(|pair| pair.iter().all(|key| *key == pair[0])));
    keys.dedup();
    assert_eq!(keys.len(), 6, "twelve calls, eleven misses, five rotations");
}

#[test]
fn a_fingerprint_follows_the_part_of_the_prompt_that_it_covers() {
    let keys = |share: f64, step: u32, edit: f64| {
        let calls = outcomes(
            AGENT,
            &format!(
                "provider.write.semantics=partial_prefix
                client.workload.agent.agent.turns=4
                client.workload.agent.agent.calls=2
                client.workload.agent.volatility.status_tokens=0
                client.workload.agent.volatility.edit_probability=1.0
                client.workload.agent.volatility.edit_depth={edit}
                client.key.fingerprint={share}
                client.key.fingerprint_step={step}"
            ),
        );
        let mut keys: Vec<_> = calls.iter().map(|call| call.key).collect();
        keys.dedup();
        keys.len()
    };
    assert_eq!(keys(0.0, 1, 0.9), 1);
    // A growing prompt has a growing beginning: a key for every call, unless its length is rounded.
    assert_eq!(keys(0.5, 1, 0.9), 8);
    assert_eq!(keys(0.5, 10_000, 0.9), 1, "an edit behind the fingerprint");
    assert_eq!(keys(0.5, 10_000, 0.2), 4, "an edit inside it, before every turn but the first");
}

#[test]
fn repetitions_keep_a_session_alive_at_their_own_cost() {
    let played = |alive: &str| {
        play(
            AGENT,
            &format!(
                "provider.retention.lifetime.ideal=5m
                client.workload.agent.volatility.status_tokens=0
                client.workload.agent.agent.calls=3
                client.workload.agent.agent.pause=10m
                client.workload.agent.reaction.keep_alive={alive}
                client.workload.agent.reaction.keep_alive_most=4"
            ),
        )
    };
    let (calls, report) = played("20m");
    assert_eq!(reads(&calls[..3]), [(50_100, 0), (50_350, 0), (50_600, 0)], "five minutes, then nothing");
    // Nothing comes between two calls ten minutes apart; after the last one the client cannot know that it was that.
    assert_eq!(report.row.get("extra_requests"), Some(4.0));
    let (calls, report) = played("4m");
    let arrivals: Vec<_> = calls.iter().map(|call| (call.arrival.seconds() / 60.0, call.occasion)).collect();
    use Occasion::{Call, KeepAlive};
    let expected = [(0.0, Call), (4.0, KeepAlive), (8.0, KeepAlive), (10.0, Call), (14.0, KeepAlive)];
    assert_eq!(arrivals[..5], expected);
    let real: Vec<_> = calls.iter().filter(|call| call.occasion == Call).copied().collect();
    assert_eq!(reads(&real), [(50_100, 0), (50_350, 50_100), (50_600, 50_350)]);
    assert_eq!(report.row.get("requests"), Some(3.0));
    assert_eq!(report.row.get("extra_requests"), Some(8.0));
    assert_eq!(report.row.get("prompt_tokens"), Some(f64::from(50_100 + 50_350 + 50_600)));
}

#[test]
fn a_failed_call_is_tried_again_after_a_doubling_wait() {
    let failing = |changes: &str| {
        play(
            AGENT,
            &format!(
                "client.workload.agent.volatility.status_tokens=0
                client.workload.agent.agent.calls=40
                provider.latency.overhead=1s
                provider.failures.foreground=0.4
                provider.failures.stream=0.0
                client.workload.agent.reaction.retries=30
                {changes}"
            ),
        )
    };
    let (calls, report) = failing("");
    let failed = calls.iter().filter(|call| call.failed).count();
    assert!((15..45).contains(&failed), "two in five of 40 calls and of their retries: {failed}");
    assert_eq!(report.row.get("failed_requests"), Some(failed as f64));
    assert_eq!(report.row.get("requests"), Some(40.0), "every call is answered in the end");
    for pair in calls.windows(2).filter(|pair| pair[0].failed) {
        let [lost, again] = pair else { unreachable!() };
        assert_eq!((again.attempt, again.prompt, again.turn), (lost.attempt + 1, lost.prompt, lost.turn));
        let wait = again.arrival.since(lost.arrival).seconds();
        assert_eq!(
            wait,
            1.0 + 2.0 * f64::from(1 << lost.attempt),
            "one second to the failure, then the wait"
        );
        assert_eq!(again.cached, lost.cached, "a failed call wrote nothing");
    }
    let (calls, _) = failing("provider.failures.failed_writes=true");
    for pair in calls.windows(2).filter(|pair| pair[0].failed) {
        assert_eq!(pair[1].cached, pair[0].prompt, "a failed call wrote its whole prompt");
    }
    let (calls, _) = failing("client.execution=stream");
    assert!(calls.iter().all(|call| !call.failed) && calls.len() == 40);
    let (calls, _) = failing("client.workload.agent.reaction.retries=0");
    assert_eq!(calls.iter().filter(|call| call.failed).count(), 1, "the session is given up");
}

/// Arrival in seconds, prompt and cached tokens of every request of the tree.
fn tree(changes: &str) -> Vec<(f64, u32, u32)> {
    let outcomes = outcomes(TREE, changes);
    outcomes.iter().map(|outcome| (outcome.arrival.seconds(), outcome.prompt, outcome.cached)).collect()
}

#[test]
fn children_in_parallel_share_what_was_written_before_they_were_called() {
    // The root: 2,000 + 3,000 + its task of 100; its answer of 50 was never sent before. A child adds a task of 100,
    // a merge the answers of two children.
    let expected = [
        (0.0, 5_100, 0),
        (2.0, 5_250, 5_100),
        (2.0, 5_250, 5_100),
        (4.0, 5_400, 5_250),
        (4.0, 5_400, 5_250),
        (4.0, 5_400, 5_250),
        (4.0, 5_400, 5_250),
        (6.0, 5_400, 5_300),
        (6.0, 5_400, 5_300),
        (8.0, 5_250, 5_150),
    ];
    // By then a grandchild's prompt has stored the answer before it, 5,300 tokens, and a child's the root's, 5,150.
    assert_eq!(tree(""), expected);
}

#[test]
fn children_one_by_one_read_what_the_one_before_them_wrote() {
    let calls = tree(
        "client.workload.tree.fork_tree.order=one_by_one
        client.workload.tree.fork_tree.branching=[3]",
    );
    let expected =
        [(0.0, 5_100, 0), (2.0, 5_250, 5_100), (4.0, 5_250, 5_150), (6.0, 5_250, 5_150), (8.0, 5_300, 5_150)];
    assert_eq!(calls, expected);
}

#[test]
fn a_warm_call_writes_what_a_cold_fan_out_would_compute_in_every_child() {
    let fan_out = |order: &str| {
        tree(&format!(
            "client.workload.tree.fork_tree.root_call=false
            client.workload.tree.fork_tree.merge=false
            client.workload.tree.fork_tree.branching=[3]
            client.workload.tree.fork_tree.order={order}"
        ))
    };
    assert_eq!(fan_out("parallel"), [(0.0, 5_100, 0); 3]);
    // The warm call has one token of answer, and its children wait for it: 1 s.
    let warm = [(0.0, 5_000, 0), (1.0, 5_100, 5_000), (1.0, 5_100, 5_000), (1.0, 5_100, 5_000)];
    assert_eq!(fan_out("warm_first"), warm);
}

#[test]
fn a_warm_call_writes_where_its_children_look() {
    // Behind the root's answer, and with a status block above the children's tasks: on caches that store at marks.
    let calls = tree(
        "provider.write.semantics=breakpoints
        client.workload.tree.volatility.status_tokens=600
        client.workload.tree.fork_tree.order=warm_first
        client.workload.tree.fork_tree.merge=false
        client.workload.tree.fork_tree.branching=[2]
        client.breakpoints=[\"history\"]",
    );
    let expected = [(0.0, 5_700, 0), (2.0, 5_150, 5_000), (3.0, 5_850, 5_150), (3.0, 5_850, 5_150)];
    assert_eq!(calls, expected);
}

#[test]
fn children_behind_the_same_new_head_share_what_is_said_behind_it() {
    let calls = tree(
        "client.workload.tree.volatility.head_tokens=20
        client.workload.tree.volatility.head_changes=minute
        client.workload.tree.fork_tree.branching=[4]
        client.workload.tree.fork_tree.merge=false
        client.workload.tree.fork_tree.stagger=uniform(60s..100s)",
    );
    // The root and its first child in minute 0, the others, one after another, in minute 1: the first of them finds
    // nothing behind the new head, and the others what it wrote, up to their own tasks.
    let cached: Vec<_> = calls.iter().map(|(_, _, cached)| *cached).collect();
    assert_eq!(cached, [0, 5_120, 0, 5_170, 5_170], "{calls:?}");
}

#[test]
fn the_nodes_of_a_tree_share_a_key_by_session_by_branch_or_not_at_all() {
    for (strategy, keys) in [("constant", 1), ("per_session", 1), ("per_branch", 3), ("per_node", 7)] {
        let mut seen: Vec<_> = outcomes(TREE, &format!("client.key.strategy={strategy}"))
            .iter()
            .map(|outcome| outcome.key)
            .collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), keys, "{strategy}: the root, its two children and their four");
    }
}

#[test]
fn accounts_share_nothing_and_stickiness_keeps_a_session_in_one() {
    let with = |stickiness: &str| {
        outcomes(
            CHAT,
            &format!("client.gateway.accounts=2\nclient.gateway.stickiness={stickiness}\nduration=10s"),
        )
    };
    let sticky = with("session");
    assert!(sticky.iter().all(|call| call.partition == sticky[0].partition));
    assert_eq!(reads(&sticky), [(2_100, 0), (2_250, 2_100), (2_400, 2_250), (2_550, 2_400)]);
    // Two accounts in turn: each turn reads what was sent two turns ago.
    let turns = with("round_robin");
    assert_eq!(reads(&turns), [(2_100, 0), (2_250, 0), (2_400, 2_100), (2_550, 2_250)]);
    let lost = turns[2].attribution.unwrap().lost;
    assert_eq!(lost[Cause::OtherAccount as usize], 2_250 - 2_100);
}

#[test]
fn explicit_continuation_contaminates_nobody_and_implicit_continuation_does() {
    // An answer takes 5 s, so that calls of both sessions are in flight at once.
    let with = |changes: &str| {
        play(
            CHAT,
            &format!(
                "provider.routing.rule=random
                provider.latency.per_output_token=100ms
                duration=60s
                client.workload.chat.arrivals.rate=every 30s
                {changes}"
            ),
        )
    };
    let contaminated = |outcomes: &[Outcome]| outcomes.iter().filter(|call| call.contaminated).count();
    let (alone, _) = with("client.gateway.continuation=none");
    let (explicit, report) = with("client.gateway.continuation=explicit");
    assert_eq!((contaminated(&alone), contaminated(&explicit)), (0, 0));
    assert_eq!(report.row.get("contaminated_requests"), Some(0.0));
    // A response is continued where it was given, so that a fleet without affinity does not matter.
    for call in explicit.iter().filter(|call| call.turn > 0) {
        assert_eq!(call.cached, call.prompt - 150, "{call:?}");
    }
    // Calls at 0, 8, 16 and 24 s, then at 30, 38, 46 and 54 s of the other session, which goes on from the first
    // one's context: every one of its calls is contaminated.
    let (implicit, report) = with("client.gateway.continuation=implicit");
    let seen: Vec<_> = implicit.iter().map(|call| (call.prompt, call.contaminated)).collect();
    let expected = [
        (2_100, false),
        (2_250, false),
        (2_400, false),
        (2_550, false),
        (2_700, true),
        (2_850, true),
        (3_000, true),
        (3_150, true),
    ];
    assert_eq!(seen, expected);
    assert_eq!(report.row.get("contaminated_requests"), Some(4.0));
    let ratio = |calls: &[Outcome]| {
        let sum = |tokens: fn(&Outcome) -> u32| calls.iter().map(|call| f64::from(tokens(call))).sum::<f64>();
        sum(|call| call.cached) / sum(|call| call.prompt)
    };
    assert!(ratio(&implicit) > ratio(&explicit), "the visible ratio looks better for it");
    // A key of its own keeps each session to itself; no key leaves each request alone.
    for strategy in ["per_session", "none"] {
        let (apart, _) =
            with(&format!("client.gateway.continuation=implicit\nclient.key.strategy={strategy}"));
        assert_eq!(contaminated(&apart), 0, "{strategy}");
    }
}

#[test]
fn a_response_that_is_not_complete_is_not_continued() {
    // Four sessions within 4 s: an answer takes 5 s, so that the first calls of all go on from nothing.
    let calls = outcomes(
        CHAT,
        "client.gateway.continuation=implicit
        provider.latency.per_output_token=100ms
        client.workload.chat.arrivals.rate=1/s
        client.workload.chat.chat.turns=1
        duration=4s",
    );
    assert!(calls.iter().all(|call| call.prompt == 2_100 && !call.contaminated), "{:?}", reads(&calls));
    // A call that fails leaves nothing to go on from.
    let calls = outcomes(
        CHAT,
        "client.gateway.continuation=implicit
        provider.failures.foreground=1.0
        client.workload.chat.reaction.retries=0",
    );
    assert!(calls.iter().all(|call| call.prompt == 2_100 && call.given_up), "{:?}", reads(&calls));
}

#[test]
fn dropped_reasoning_costs_what_stood_behind_it() {
    let with = |rule: &str| {
        outcomes(
            AGENT,
            &format!(
                "provider.write.semantics=partial_prefix
                client.workload.agent.volatility.status_tokens=0
                client.workload.agent.volatility.reasoning_tokens=1000
                client.workload.agent.volatility.reasoning={rule}
                client.workload.agent.agent.turns=2
                client.workload.agent.agent.calls=3"
            ),
        )
    };
    // Kept: every prompt reads the one before it, and has 1,050 tokens of answer and 200 or 100 of input more.
    let kept = [
        (50_100, 0),
        (51_350, 50_100),
        (52_600, 51_350),
        (53_750, 52_600),
        (55_000, 53_750),
        (56_250, 55_000),
    ];
    assert_eq!(reads(&with("kept")), kept);
    // Left out by the next turn: that one repeats the first answer without its reasoning, and so reads the first
    // prompt and no more.
    let within = [
        (50_100, 0),
        (51_350, 50_100),
        (52_600, 51_350),
        (50_750, 50_100),
        (52_000, 50_750),
        (53_250, 52_000),
    ];
    assert_eq!(reads(&with("kept_within_turn")), within);
    // Never repeated: what follows a prompt is the answer alone.
    let dropped = [
        (50_100, 0),
        (50_350, 50_100),
        (50_600, 50_350),
        (50_750, 50_600),
        (51_000, 50_750),
        (51_250, 51_000),
    ];
    assert_eq!(reads(&with("dropped")), dropped);
    assert!(with("dropped").iter().all(|call| call.output == 1_050), "it is billed all the same");
}

#[test]
fn a_mark_above_the_status_block_saves_what_a_mark_below_it_loses() {
    let marked = |marks: &str| {
        outcomes(
            AGENT,
            &format!(
                "provider.write.semantics=breakpoints
                provider.write.implicit_breakpoint=false
                provider.write.developer_breakpoint=false
                client.workload.agent.agent.turns=3
                client.workload.agent.agent.calls=2
                client.breakpoints={marks}"
            ),
        )
    };
    assert!(marked("[\"message\"]").iter().all(|call| call.cached == 0), "its end is never the same twice");
    let reads_of = |marks: &str| marked(marks).iter().map(|call| call.cached).collect::<Vec<_>>();
    assert_eq!(reads_of("[\"developer\"]"), [0, 20_000, 20_000, 20_000, 20_000, 20_000]);
    assert_eq!(reads_of("[\"context\"]"), [0, 50_000, 50_000, 50_000, 50_000, 50_000]);
    // The history of a turn is written by its first call and read by its second; the next turn's first call finds it
    // as well, since the mark stays where it was.
    assert_eq!(reads_of("[\"history\"]"), [0, 50_000, 50_000, 50_400, 50_400, 50_800]);
}

#[test]
fn a_reverted_edit_finds_again_what_was_written_before_it() {
    // About every second turn begins with an edit at a fifth of the conversation, which the turn after it takes back.
    let with = |reverted: bool| {
        outcomes(
            AGENT,
            &format!(
                "provider.write.semantics=partial_prefix
                client.workload.agent.volatility.status_rewritten=off
                client.workload.agent.volatility.edit_probability=0.5
                client.workload.agent.volatility.edit_depth=0.2
                client.workload.agent.volatility.edit_reverted={reverted}
                client.workload.agent.agent.turns=12
                client.workload.agent.agent.calls=1"
            ),
        )
    };
    let deepest = |outcomes: &[Outcome], turn: usize| {
        let lost = outcomes[turn].attribution.unwrap().lost;
        lost[Cause::Changed as usize] > 0
    };
    let (kept, reverted) = (with(false), with(true));
    // An edit shows as a turn that reads about a fifth. Kept, the next turn reads the edited text whole; reverted,
    // the next unedited turn reads what was there before the edit.
    let edits: Vec<_> = (1..12).filter(|turn| kept[*turn].cached < 20_000).collect();
    assert!(edits.len() > 2 && edits.len() < 11, "{edits:?}");
    for turn in 1..12 {
        assert_eq!(reverted[turn].prompt, kept[turn].prompt);
        let edited = edits.contains(&turn);
        let after_edit = edits.contains(&(turn - 1));
        assert_eq!(reverted[turn].cached < 20_000, edited, "turn {turn}");
        if !edited && after_edit {
            assert_eq!(kept[turn].cached, kept[turn - 1].prompt);
            assert!(reverted[turn].cached >= 50_100 && reverted[turn].cached < kept[turn].cached);
            assert!(deepest(&reverted, turn) && !deepest(&kept, turn), "turn {turn}");
        }
    }
}
