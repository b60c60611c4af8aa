//! Published sequences of cached tokens, each worked by hand, against the profile that is meant to give them.

use std::path::Path;

use cachecast::experiment::run::replicate;
use cachecast::experiment::scenario::{Change, Loaded};

/// Calls of one prefix, each with a tail of its own.
const CALLS: &str = r#"
duration = "1h"

[client.workload.calls]
arrivals = { process = "fixed", rate = "every 10s" }

[client.workload.calls.shared_prefix]
prefix_tokens = 6001
tail_tokens = 1536
output_tokens = 20

[provider]
profile = "openai-5.6"
"#;

/// One conversation.
const CHAT: &str = r#"
duration = "12h"

[client.workload.chat]
arrivals = { process = "fixed", rate = "every 12h" }

[client.workload.chat.chat]
prefix_tokens = 2000
turns = 6
user_tokens = 100
output_tokens = 50
think = "30s"

[provider]
profile = "openai-classic"
"#;

/// A scenario of this file with other values at some paths: `path=value`, one a line.
fn load(text: &str, changes: &str) -> cachecast::error::Result<Loaded> {
    let lines = changes.lines().filter(|line| !line.trim().is_empty());
    let changes: Vec<_> = lines.map(|line| Change::parse(line.trim()).unwrap()).collect();
    Loaded::from_text("published", "published.toml", text, Path::new(""), &changes)
}

/// Prompt, cached and written tokens of every request.
fn play(text: &str, changes: &str) -> Vec<[u32; 3]> {
    let mut requests = Vec::new();
    let scenario = load(text, changes).unwrap();
    replicate(&scenario, 0, |outcome| requests.push([outcome.prompt, outcome.cached, outcome.written]))
        .unwrap();
    requests
}

/// Cached tokens of every request.
fn reads(text: &str, changes: &str) -> Vec<u32> {
    play(text, changes).into_iter().map(|[_, cached, _]| cached).collect()
}

/// BerriAI/litellm#37628, unmarked calls of gpt-5.6: a system message of 6,001 tokens and a fresh user message of
/// 1,536. The first call stores the ends of both, 6,001 and 7,537, and is billed for 7,537. The others share the
/// system message only, read 6,001 and write their own user message again: 7,537 - 6,001 = 1,536.
#[test]
fn a_fresh_tail_is_written_again_by_every_call() {
    let calls = play(CALLS, "duration=30s");
    assert_eq!(calls, [[7_537, 0, 7_537], [7_537, 6_001, 1_536], [7_537, 6_001, 1_536]]);
}

/// GPT-5.6 asks for 1,024 visible tokens before a breakpoint. Behind a system message of 1,023 a call stores its
/// whole prompt only, which nobody shares.
#[test]
fn a_breakpoint_needs_1024_tokens_before_it() {
    let after = |prefix: u32, tail: u32, tails: u32| {
        play(
            CALLS,
            &format!(
                "duration=20s
                client.workload.calls.shared_prefix.prefix_tokens={prefix}
                client.workload.calls.shared_prefix.tail_tokens={tail}
                client.workload.calls.shared_prefix.tails={tails}"
            ),
        )
    };
    assert_eq!(after(1_023, 1_000, 0), [[2_023, 0, 2_023], [2_023, 0, 2_023]]);
    assert_eq!(after(1_024, 1_000, 0), [[2_024, 0, 2_024], [2_024, 1_024, 1_000]]);
    // The same whole prompt again: below the minimum nothing is written either.
    assert_eq!(after(1_000, 23, 1), [[1_023, 0, 0], [1_023, 0, 0]]);
    assert_eq!(after(1_000, 24, 1), [[1_024, 0, 1_024], [1_024, 1_024, 0]]);
}

/// A conversation reads exactly up to the end of its previous user message, and writes the answer to that (50
/// tokens) and the new message (100), though no step of 128 ends there.
#[test]
fn a_conversation_reads_up_to_its_previous_message() {
    let turns = play(CHAT, "provider.profile=openai-5.6");
    let grown = [
        [2_100, 0, 2_100],
        [2_250, 2_100, 150],
        [2_400, 2_250, 150],
        [2_550, 2_400, 150],
        [2_700, 2_550, 150],
        [2_850, 2_700, 150],
    ];
    assert_eq!(turns, grown);
}

/// The same with a key that changes from turn to turn and comes back after `buckets` turns: on GPT-5.6 another key
/// is a miss, so that the turn which comes back finds only what was written `buckets` messages ago. It looks at
/// its own end and at 20 earlier ends of messages: with 20 keys, turn 20 reads the prompt of turn 0, 2,100 tokens,
/// and with 21 keys, turn 21 has just lost sight of it and falls back to the system message, 2,000 tokens.
#[test]
fn a_look_back_ends_after_20_messages() {
    for (buckets, back) in [(1, 2_100), (19, 2_100), (20, 2_100), (21, 2_000), (25, 2_000)] {
        let turns = reads(
            CHAT,
            &format!(
                "provider.profile=openai-5.6
                client.workload.chat.chat.think=10s
                client.workload.chat.chat.turns={}
                client.key.strategy=buckets
                client.key.buckets={buckets}",
                buckets + 1
            ),
        );
        assert_eq!(turns[..buckets], vec![0; buckets], "{buckets} keys");
        assert_eq!(turns[buckets], back, "{buckets} keys");
    }
}

/// OpenAI's own sum: one write and nine reads of a prompt cost 1.25 + 9 x 0.1 = 2.15 times its input price; where
/// a read costs 0.05 of it, 1.25 + 9 x 0.05 = 1.7.
#[test]
fn one_write_and_nine_reads_cost_2_15_prompts() {
    for (model, factor) in [("gpt-5.6-terra", 2.15), ("gpt-6-astra", 2.15), ("gpt-6.1-sol", 1.7)] {
        let scenario = load(
            CALLS,
            &format!(
                "provider.model={model}
                duration=100s
                client.workload.calls.shared_prefix.prefix_tokens=1000000
                client.workload.calls.shared_prefix.tail_tokens=0
                client.workload.calls.arrivals.rate=every 10s
                provider.latency.noise_sigma=0.0
                provider.write.visible=arrival"
            ),
        )
        .unwrap();
        let row = replicate(&scenario, 0, |_| ()).unwrap().row;
        let prompt = row.get("uncached_cost_usd").unwrap() / 10.0;
        assert!((row.get("cost_usd").unwrap() / prompt - factor).abs() < 1e-9, "{model}");
    }
}

/// openai/codex#20301 and #30425: GPT-5.5 sessions stuck at 4,608, 64,000 and 137,728, all 512 mod 2,048. With h
/// hidden tokens, the k-th boundary stands at 2,048 k - h visible ones; for h = 1,472 that is 576 mod 2,048, and
/// rounded down to 128 it is 512: 3 x 2,048 - 1,472 = 4,672 -> 4,608, 32 x 2,048 - 1,472 = 64,064 -> 64,000 and
/// 68 x 2,048 - 1,472 = 137,792 -> 137,728. A shared part of one token less falls back by 2,048.
#[test]
fn a_boundary_every_2048_tokens_reads_512_past_a_multiple() {
    let shared = |tokens: u32| {
        reads(
            CALLS,
            &format!(
                "provider.profile=openai-5.5
                duration=40s
                client.workload.calls.shared_prefix.prefix_tokens={tokens}"
            ),
        )
    };
    for (read, boundary) in [(4_608, 4_672), (64_000, 64_064), (137_728, 137_792)] {
        for tokens in [boundary, boundary + 300, boundary + 2_047] {
            assert_eq!(shared(tokens), [0, read, read, read], "{tokens} shared tokens");
        }
        assert_eq!(shared(boundary - 1)[1], read - 2_048);
        assert_eq!(shared(boundary + 2_048)[1], read + 2_048);
    }
}

/// A conversation that grows climbs by 2,048 at a time: its prompts of 5,000, 5,900, 6,800, 7,700 and 8,600 tokens
/// reach the boundaries 4,672, 4,672, 6,720, 6,720 and 6,720, which the next prompt reads as 4,608 or 6,656.
#[test]
fn a_growing_conversation_climbs_by_2048() {
    let turns = reads(
        CHAT,
        "provider.profile=openai-5.5
        client.workload.chat.chat.prefix_tokens=4500
        client.workload.chat.chat.user_tokens=500
        client.workload.chat.chat.output_tokens=400",
    );
    assert_eq!(turns, [0, 4_608, 4_608, 6_656, 6_656, 6_656]);
}

/// Claude's five-minute class: in-session pairs reuse in full below 300 s and hardly ever above 330 s; the hour's
/// class reuses up to an hour and never beyond 3,900 s. The clock starts with each request that writes or reads,
/// so that a session that calls every 299 s goes on and on. The marks stand behind the system message (6,001
/// tokens) and the fresh user message: each call reads the former.
#[test]
fn claude_forgets_after_five_minutes_or_an_hour_without_use() {
    for (profile, gap, lives) in [
        ("anthropic-5m", 30, true),
        ("anthropic-5m", 299, true),
        ("anthropic-5m", 331, false),
        ("anthropic-5m", 600, false),
        ("anthropic-1h", 331, true),
        ("anthropic-1h", 3_599, true),
        ("anthropic-1h", 3_901, false),
    ] {
        let calls = play(
            CALLS,
            &format!(
                "provider.profile={profile}
                client.breakpoints=[\"developer\", \"message\"]
                client.workload.calls.arrivals.rate=every {gap}s
                duration={}s",
                gap * 20
            ),
        );
        let later = if lives { [7_537, 6_001, 1_536] } else { [7_537, 0, 7_537] };
        assert_eq!(calls.len(), 20);
        assert_eq!(calls[0], [7_537, 0, 7_537]);
        assert!(calls[1..].iter().all(|call| *call == later), "{profile}, every {gap} s: {calls:?}");
    }
}

/// Claude stores what is marked and nothing else: unmarked calls neither read nor write, and with the system
/// message alone marked the tail is not written.
#[test]
fn claude_stores_what_is_marked() {
    let marked = |breakpoints: &str| {
        play(CALLS, &format!("provider.profile=anthropic-5m\nduration=20s\nclient.breakpoints={breakpoints}"))
    };
    assert_eq!(marked("[]"), [[7_537, 0, 0], [7_537, 0, 0]]);
    assert_eq!(marked("[\"developer\"]"), [[7_537, 0, 6_001], [7_537, 6_001, 0]]);
    assert_eq!(marked("[\"message\"]"), [[7_537, 0, 7_537], [7_537, 0, 7_537]]);
}

/// Extended retention as it is worded now, typically 30 minutes, and as it was first: up to 24 hours. A prefix of
/// 6,001 tokens is read up to 47 x 128 - 75 = 5,941, rounded down to 46 x 128 = 5,888.
#[test]
fn extended_retention_lasts_30_minutes_now() {
    for (profile, gap, lives) in [
        ("openai-24h-current", 29, true),
        ("openai-24h-current", 31, false),
        ("openai-5.5", 29, true),
        ("openai-5.5", 31, false),
        ("openai-24h", 31, true),
        ("openai-24h", 24 * 60 - 1, true),
        ("openai-24h", 24 * 60 + 1, false),
    ] {
        let calls = reads(
            CALLS,
            &format!(
                "provider.profile={profile}
                client.workload.calls.arrivals.rate=every {gap}m
                duration={}m",
                gap * 10
            ),
        );
        // On GPT-5.5 the boundary before 6,001 is 3 x 2,048 - 1,472 = 4,672.
        let read = if profile == "openai-5.5" { 4_608 } else { 5_888 };
        assert_eq!(calls.len(), 10);
        assert_eq!(calls[0], 0);
        let later = if lives { read } else { 0 };
        assert!(calls[1..].iter().all(|cached| *cached == later), "{profile}, every {gap} min: {calls:?}");
    }
}

/// A policy that a model does not have is an error: GPT-5.5 has no in_memory, GPT-5.6 only its 30 minutes.
#[test]
fn a_policy_that_a_model_lacks_is_refused() {
    for (profile, policy) in
        [("openai-5.5", "in_memory"), ("openai-5.6", "24h"), ("anthropic-5m", "1h"), ("anthropic-1h", "5m")]
    {
        let error = load(CALLS, &format!("provider.profile={profile}\nclient.retention={policy}"));
        let message = error.map(|_| ()).unwrap_err().to_string();
        assert!(message.contains(&format!("does not support retention `{policy}`")), "{message}");
    }
}

/// The rivals of the classic contract on one conversation, prompts of 2,100, 2,250, 2,400, 2,550, 2,700 and 2,850
/// tokens. Each reads from the prompt before it:
///  * classic, the deepest boundary 128 k - 75: 1,973, 2,229, 2,357, 2,485 and 2,613 lie below the first five,
///    reported as 1,920, 2,176, 2,304, 2,432 and 2,560;
///  * whole body, all of it: 2,100 -> 2,048, 2,250 -> 2,176, 2,400 -> 2,304, 2,550 -> 2,432, 2,700 -> 2,688;
///  * one body for each key, which in a single conversation is always the prompt before: as classic;
///  * whole body with hidden reasoning behind it: nothing, as no prompt begins with that;
///  * write once: always the first prompt, for as long as reading keeps it alive.
#[test]
fn hypotheses_differ_on_one_conversation() {
    let chat = |profile: &str| reads(CHAT, &format!("provider.profile={profile}"));
    let classic = [0, 1_920, 2_176, 2_304, 2_432, 2_560];
    assert_eq!(chat("openai-classic"), classic);
    assert_eq!(chat("hypothesis-whole-body"), [0, 2_048, 2_176, 2_304, 2_432, 2_688]);
    assert_eq!(chat("hypothesis-single-body"), classic);
    assert_eq!(chat("hypothesis-hidden-reasoning"), [0; 6]);
    assert_eq!(chat("hypothesis-write-once"), [0, 1_920, 1_920, 1_920, 1_920, 1_920]);
}

/// The same rivals on calls of one prefix of 4,000 tokens with two tails of 2,000 in turn, A B A B A B. Classic
/// shares 31 x 128 - 75 = 3,893 -> 3,840 with the other tail and 47 x 128 - 75 = 5,941 -> 5,888 with its own:
///  * classic: B finds what it shares with A, then each finds its own;
///  * whole body: B does not begin with A, then each finds its own, 6,000 at most 5,999 -> 5,888;
///  * one body: the other tail has just replaced its own, so that only the prefix is left;
///  * write once: A was stored for good, and B finds its start in it.
#[test]
fn hypotheses_differ_on_two_prompts_in_turn() {
    let calls = |profile: &str| {
        reads(
            CALLS,
            &format!(
                "provider.profile={profile}
                duration=60s
                client.workload.calls.shared_prefix.prefix_tokens=4000
                client.workload.calls.shared_prefix.tail_tokens=2000
                client.workload.calls.shared_prefix.tails=2"
            ),
        )
    };
    assert_eq!(calls("openai-classic"), [0, 3_840, 5_888, 5_888, 5_888, 5_888]);
    assert_eq!(calls("hypothesis-whole-body"), [0, 0, 5_888, 5_888, 5_888, 5_888]);
    assert_eq!(calls("hypothesis-single-body"), [0, 3_840, 3_840, 3_840, 3_840, 3_840]);
    assert_eq!(calls("hypothesis-write-once"), [0, 3_840, 5_888, 3_840, 5_888, 3_840]);
}

/// A fresh tail of 1,536 on 6,001 shared tokens, whatever the vendor: blocks of 64 read 93 x 64 = 5,952, blocks of
/// 128 read 46 x 128 = 5,888; Gemini needs 2,048 tokens.
#[test]
fn automatic_caches_read_whole_blocks() {
    for (profile, read) in
        [("deepseek", 5_952), ("mistral", 5_952), ("gemini-implicit", 5_888), ("xai", 5_888), ("groq", 5_888)]
    {
        let calls = |prefix: u32| {
            reads(
                CALLS,
                &format!(
                    "provider.profile={profile}
                    duration=1m
                    client.key.strategy=constant
                    client.workload.calls.shared_prefix.prefix_tokens={prefix}"
                ),
            )
        };
        assert_eq!(calls(6_001), [0, read, read, read, read, read], "{profile}");
        let short = if profile == "gemini-implicit" { 0 } else { 1_920 };
        assert_eq!(calls(1_920)[1], short, "{profile}");
    }
}
