//! The tail-volatility hypothesis: what a request writes decides what the next can read.

use std::path::Path;

use cachecast::experiment::run::replicate;
use cachecast::experiment::scenario::{Change, Loaded};
use cachecast::simulation::outcome::{Cause, Outcome};

/// One session of an agent: 20,000 tokens that all share, 280,000 of its own, 4 turns of 6 calls; every call adds a
/// message of 100 (first of a turn) or a tool's result of 200, and an answer of 50. Nothing expires or overflows.
const AGENT: &str = r#"
duration = "10h"
client.key.strategy = "per_session"
client.workload.agent.arrivals = { process = "fixed", rate = "every 20h" }
provider.profile = "ideal"
provider.write.visible = "first_token"

[client.workload.agent.agent]
prefix_tokens = 20_000
start_tokens = 280_000
turns = 4
calls = 6
user_tokens = 100
tool_tokens = 200
output_tokens = 50
pause = "5s"
think = "60s"
"#;

/// Every call of the session.
fn calls(settings: &[(&str, toml::Value)]) -> Vec<Outcome> {
    let changes: Vec<_> =
        settings.iter().map(|(path, value)| Change::new(path, value.clone(), "test")).collect();
    let loaded = Loaded::from_text("agent", "agent.toml", AGENT, Path::new(""), &changes).unwrap();
    let mut calls = Vec::new();
    replicate(&loaded, 0, |outcome| calls.push(*outcome)).unwrap();
    calls
}

const STATUS: &str = "client.workload.agent.volatility.status_tokens";
const REWRITTEN: &str = "client.workload.agent.volatility.status_rewritten";
const SEMANTICS: &str = "provider.write.semantics";

/// Token hit ratio after the first call.
fn ratio(calls: &[Outcome]) -> f64 {
    let sum =
        |tokens: fn(&Outcome) -> u32| calls[1..].iter().map(|call| f64::from(tokens(call))).sum::<f64>();
    sum(|call| call.cached) / sum(|call| call.prompt)
}

#[test]
fn a_session_repeats_what_was_said() {
    let calls = calls(&[]);
    // 300,000 and a message; then an answer and a result more each call; then an answer and the next message.
    let prompts: Vec<_> = calls.iter().map(|call| call.prompt).collect();
    assert_eq!(prompts[..8], [300_100, 300_350, 300_600, 300_850, 301_100, 301_350, 301_500, 301_750]);
    assert_eq!(calls.len(), 24);
    // Each call reads the prompt before it whole; the answer in between was never sent before.
    for pair in calls.windows(2) {
        assert_eq!(pair[1].cached, pair[0].prompt);
        assert_eq!(pair[1].attribution.unwrap().lost[Cause::New as usize], pair[1].prompt - pair[0].prompt);
    }
}

#[test]
fn a_status_block_rewritten_each_call_blinds_whole_bodies_and_hardly_touches_partial_prefixes() {
    let with = |semantics: &str, status: i64| {
        calls(&[(SEMANTICS, semantics.into()), (STATUS, status.into()), (REWRITTEN, "call".into())])
    };
    let whole = with("whole_body", 600);
    assert!(whole.iter().all(|call| call.cached == 0), "no body is a prefix of a later one");
    assert!(ratio(&with("partial_prefix", 600)) > 0.95);
    for semantics in ["whole_body", "partial_prefix"] {
        assert!(ratio(&with(semantics, 0)) > 0.95, "{semantics} without a status block");
    }
    // The lost tokens were sent before (the agent's context), but stored only at the end of other bodies.
    let lost = whole[5].attribution.unwrap().lost;
    assert!(lost[Cause::Unwritten as usize] >= 300_000, "{lost:?}");
}

#[test]
fn a_status_block_rewritten_each_turn_costs_whole_bodies_one_call_a_turn() {
    let calls = calls(&[(SEMANTICS, "whole_body".into()), (STATUS, 600.into()), (REWRITTEN, "turn".into())]);
    for (index, call) in calls.iter().enumerate() {
        let first_of_its_turn = index % 6 == 0;
        assert_eq!(call.cached == 0, first_of_its_turn, "call {index}");
    }
}

#[test]
fn partial_prefixes_read_up_to_the_change() {
    // With a status block the turn's own tokens come behind it and are computed again: the shared part of call n and
    // call n + 1 of a turn is the history before the turn.
    let calls = calls(&[(STATUS, 600.into()), (REWRITTEN, "call".into())]);
    assert!(calls[1..6].iter().all(|call| call.cached == 300_000), "{:?}", calls[1].cached);
    assert_eq!(calls[1].prompt, 300_000 + 600 + 100 + 50 + 200);
    // The next turn's history is that of the first and its 5 x 250 + 100 + 50 tokens, never sent in this place.
    assert_eq!((calls[6].cached, calls[7].cached), (300_000, 301_400));
}

#[test]
fn an_edit_keeps_what_lies_before_it_and_a_new_head_nothing() {
    const EDIT: &str = "client.workload.agent.volatility.edit_probability";
    const DEPTH: &str = "client.workload.agent.volatility.edit_depth";
    for (depth, kept) in [(0.0, 0.0), (0.1, 0.1), (0.5, 0.5), (0.99, 0.99)] {
        let calls = calls(&[(EDIT, 1.0.into()), (DEPTH, depth.into())]);
        // The seventh call begins the second turn: a history of 301,400 tokens, edited.
        let share = f64::from(calls[6].cached) / 301_400.0;
        assert!((share - kept).abs() < 1e-5, "edited at {depth}: {share}");
        let lost = calls[6].attribution.unwrap().lost;
        assert!(lost[Cause::Changed as usize] > 0, "{lost:?}");
    }
    const HEAD: &str = "client.workload.agent.volatility.head_tokens";
    const CHANGES: &str = "client.workload.agent.volatility.head_changes";
    let each_call = calls(&[(HEAD, 20.into()), (CHANGES, "call".into())]);
    assert!(each_call.iter().all(|call| call.cached == 0));
    // By the day nothing changes within these few minutes.
    let each_day = calls(&[(HEAD, 20.into()), (CHANGES, "day".into())]);
    assert!(ratio(&each_day) > 0.95);
    // By the minute the turn loses once, when the minute is another: calls are 5 s apart, turns 60 s.
    let each_minute = calls(&[(HEAD, 20.into()), (CHANGES, "minute".into())]);
    let cold = each_minute.iter().filter(|call| call.cached == 0).count();
    assert!((4..=9).contains(&cold), "{cold} cold calls in about six minutes");
}

#[test]
fn compaction_starts_again_from_the_shared_prefix() {
    const ABOVE: &str = "client.workload.agent.volatility.compact_above";
    const SUMMARY: &str = "client.workload.agent.volatility.summary_tokens";
    let calls = calls(&[(ABOVE, 301_000.into()), (SUMMARY, 5_000.into())]);
    assert_eq!((calls[6].prompt, calls[6].cached), (20_000 + 5_000 + 100, 20_000));
    assert!(calls[7..].iter().all(|call| call.prompt < 40_000));
}

#[test]
fn a_floor_reads_the_same_few_thousand_tokens_for_ever() {
    let calls = calls(&[(SEMANTICS, "first_tokens".into()), (STATUS, 600.into())]);
    assert!(calls[1..].iter().all(|call| call.cached == 4_608));
}

#[test]
fn a_stored_answer_is_read_by_the_next_prompt_and_stored_reasoning_never() {
    const BODY: &str = "provider.write.body";
    for semantics in ["whole_body", "partial_prefix"] {
        let calls = calls(&[(SEMANTICS, semantics.into()), (BODY, "prompt_and_output".into())]);
        for pair in calls.windows(2) {
            assert_eq!(pair[1].cached, pair[0].prompt + pair[0].output, "{semantics}");
        }
    }
    // The body ends in reasoning that the next prompt does not repeat: a whole body is never its prefix.
    let whole = calls(&[(SEMANTICS, "whole_body".into()), (BODY, "prompt_and_reasoning".into())]);
    assert!(whole.iter().all(|call| call.cached == 0));
    let partial = calls(&[(BODY, "prompt_and_reasoning".into())]);
    assert!(partial.windows(2).all(|pair| pair[1].cached == pair[0].prompt));
}
