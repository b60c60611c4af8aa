//! Every rule where it fires, and nearby where it must not.

use std::io::Write;

use serde_json::{Value, json};

use super::*;
use crate::experiment::rule::{Rule, Severity};
use crate::input::calls::Calls;

/// What is found in a log of these lines, under a profile or by the models named.
fn findings(provider: Option<&str>, lines: &[Value]) -> Vec<Finding> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    for line in lines {
        writeln!(file, "{line}").unwrap();
    }
    let options = Options {
        provider: provider.map(String::from),
        vocabulary: Vocabulary::O200kBase,
        message_overhead: 4,
        show_text: true,
    };
    let mut checker = Checker::new(options).unwrap();
    let mut calls = Calls::open(file.path(), None, false).unwrap();
    let source = Source::new("log.jsonl", calls.kind());
    while let Some(call) = calls.next_call().unwrap() {
        checker.call(&source, &call);
    }
    assert_eq!(checker.calls(), lines.len() as u64);
    checker.finish()
}

/// The findings of one rule.
fn of(rule: Rule, lines: &[Value]) -> Vec<Finding> {
    let mut found = findings(None, lines);
    found.retain(|finding| finding.rule == rule);
    found
}

/// The only finding of a rule.
fn one(rule: Rule, lines: &[Value]) -> Finding {
    let found = of(rule, lines);
    assert_eq!(found.len(), 1, "{found:#?}");
    found.into_iter().next().unwrap()
}

fn silent(rule: Rule, lines: &[Value]) {
    assert_eq!(of(rule, lines), []);
}

/// A text of about so many tokens.
fn text(word: &str, tokens: usize) -> String {
    format!("{word} ").repeat(tokens)
}

/// A line of a log.
fn line(second: u64, body: Value) -> Value {
    json!({"time": 1_763_671_423 + second, "session": "s", "request": body})
}

/// A body with instructions that are long enough.
fn body(instructions: &str) -> Value {
    let input = json!([{"role": "user", "content": "Go on."}]);
    json!({"model": "gpt-5.2", "prompt_cache_retention": "24h", "instructions": instructions, "input": input})
}

fn long() -> Value {
    body(&text("steady", 1_500))
}

/// The same body with another field.
fn with(mut body: Value, field: &str, value: Value) -> Value {
    body[field] = value;
    body
}

#[test]
fn a_sound_log_has_no_findings() {
    let lines: Vec<_> =
        (0..20).map(|n| line(n * 10, with(long(), "prompt_cache_key", json!("chat")))).collect();
    assert_eq!(findings(None, &lines), []);
}

#[test]
fn implicit_retention() {
    let without = |model: &str| {
        let mut body = with(long(), "model", json!(model));
        body.as_object_mut().unwrap().remove("prompt_cache_retention");
        line(0, body)
    };
    let found = one(Rule::ImplicitRetention, &[without("gpt-5.2"), without("gpt-5.2-2026-01-15")]);
    assert_eq!((found.count, found.severity), (2, Severity::Warning));
    assert!(found.message.contains("`in_memory`") && found.message.contains("gpt-5.2 has 24h"), "{found:?}");
    // One policy only, a policy that was chosen, a model that nobody knows, and a prompt that is not cached anyway.
    silent(Rule::ImplicitRetention, &[without("gpt-5-nano"), without("gpt-5.6-terra"), without("other")]);
    silent(Rule::ImplicitRetention, &[line(0, long())]);
    let mut short = body("short");
    short.as_object_mut().unwrap().remove("prompt_cache_retention");
    silent(Rule::ImplicitRetention, &[line(0, short)]);
}

#[test]
fn unsupported_retention() {
    let asks = |model: &str, policy: &str| {
        line(0, with(with(long(), "model", json!(model)), "prompt_cache_retention", json!(policy)))
    };
    assert!(one(Rule::UnsupportedRetention, &[asks("gpt-5-nano", "24h")]).message.contains("in_memory"));
    one(Rule::UnsupportedRetention, &[asks("gpt-5.5", "in_memory")]);
    silent(
        Rule::UnsupportedRetention,
        &[asks("gpt-5.2", "24h"), asks("gpt-5.5", "24h"), asks("other", "24h")],
    );
}

#[test]
fn key_per_call() {
    let keyed = |key: String| line(0, with(long(), "prompt_cache_key", json!(key)));
    let uuid = |n: u64| keyed(format!("0190f5fe-7c00-7a00-8000-{n:012x}"));
    let found = one(Rule::KeyPerCall, &(0..10).map(uuid).collect::<Vec<_>>());
    assert_eq!((found.severity, found.count), (Severity::Error, 10));
    assert!(found.message.contains("10 keys for 10 calls") && found.message.contains("10 have a time"));
    let counted = one(Rule::KeyPerCall, &(0..10).map(|n| keyed(format!("call-{n}"))).collect::<Vec<_>>());
    assert!(counted.message.contains("as if counted"), "{counted:?}");
    // A session's own key is as long, and is met again.
    silent(Rule::KeyPerCall, &(0..10).map(|n| uuid(n / 5)).collect::<Vec<_>>());
    silent(Rule::KeyPerCall, &(0..10).map(|n| keyed(format!("bucket-{}", n % 4))).collect::<Vec<_>>());
    // Where calls have nothing in common there is nothing to lose.
    let apart = |n: u64| {
        line(0, with(body(&text(&format!("text{n}"), 1_500)), "prompt_cache_key", json!(format!("k{n}"))))
    };
    assert_eq!(one(Rule::KeyPerCall, &(0..10).map(apart).collect::<Vec<_>>()).severity, Severity::Note);
    // Of a few calls only a key's look tells.
    assert_eq!(one(Rule::KeyPerCall, &[keyed("at-1763671423".into())]).severity, Severity::Warning);
    assert_eq!(one(Rule::KeyPerCall, &[uuid(1)]).severity, Severity::Note);
    silent(Rule::KeyPerCall, &[keyed("support-v3".into())]);
}

#[test]
fn hot_key() {
    let at = |second: u64, key: &str| line(second, with(long(), "prompt_cache_key", json!(key)));
    let hot: Vec<_> = (0..20).map(|n| at(n * 3, "k")).collect();
    let found = one(Rule::HotKey, &hot);
    assert_eq!((found.count, found.place.line), (5, Some(16)));
    assert!(
        found.message.contains("5 of 20 calls") && found.message.contains("up to 20 a minute"),
        "{found:?}"
    );
    let reversed: Vec<_> = hot.iter().rev().cloned().collect();
    assert_eq!(one(Rule::HotKey, &reversed).count, 5, "logs need not be in the order of time");
    silent(Rule::HotKey, &(0..20).map(|n| at(n * 4, "k")).collect::<Vec<_>>());
    silent(Rule::HotKey, &(0..20).map(|n| at(n * 3, ["a", "b"][n as usize % 2])).collect::<Vec<_>>());
}

#[test]
fn volatile_head() {
    let now = |clock: String| line(0, body(&format!("It is {clock}.\n{}", text("steady", 1_500))));
    let alone = one(Rule::VolatileHead, &[now("20:43:43".into())]);
    assert_eq!((alone.severity, alone.text.as_deref()), (Severity::Warning, Some("20:43:43")));
    assert_eq!(alone.place.path, "instructions");
    // Four tokens of the message, and "It is ".
    let (token, behind) = alone.depth.unwrap();
    assert!((6..8).contains(&token) && behind > 1_500, "{alone:?}");
    let changing = |n: u64| now(format!("20:43:{:02}", n + 10));
    let changed = one(Rule::VolatileHead, &(0..5).map(changing).collect::<Vec<_>>());
    assert_eq!((changed.severity, changed.count), (Severity::Error, 5));
    assert!(changed.message.contains("changed in 4 of 4"), "{changed:?}");
    let same = one(Rule::VolatileHead, &[changing(0), changing(0)]);
    assert_eq!(same.severity, Severity::Note, "it looks volatile, and is not");
    // A day does not change every call, and what is said last may change.
    assert_eq!(one(Rule::VolatileHead, &[now("2026-11-20".into())]).severity, Severity::Note);
    let last = with(long(), "input", json!([{"role": "user", "content": "It is 20:43:43. Go on."}]));
    silent(Rule::VolatileHead, &[line(0, last)]);
    let first =
        json!([{"role": "user", "content": "It is 20:43:43."}, {"role": "user", "content": "Go on."}]);
    one(Rule::VolatileHead, &[line(0, with(long(), "input", first))]);
    silent(Rule::VolatileHead, &[line(0, long())]);
}

fn tool(name: &str, text: &str) -> Value {
    json!({"type": "function", "name": name, "description": text, "parameters": {"type": "object", "required": ["a", "b"]}})
}

fn with_tools(tools: Value) -> Value {
    line(0, with(long(), "tools", tools))
}

#[test]
fn tool_order_and_json_key_order() {
    let [a, b, c] = ["a", "b", "c"].map(|name| tool(name, "does it"));
    let sent = with_tools(json!([a, b, c]));
    let found = one(Rule::ToolOrder, &[sent.clone(), with_tools(json!([a, c, b]))]);
    assert_eq!((found.severity, found.place.path.as_str()), (Severity::Error, "tools[1]"));
    assert!(found.message.contains("number 2") && found.depth.unwrap().1 > 1_500, "{found:?}");
    let turned = json!({"name": "b", "type": "function", "parameters": {"required": ["b", "a"], "type": "object"}, "description": "does it"});
    let lines = [sent.clone(), with_tools(json!([a, turned, c]))];
    assert_eq!(one(Rule::JsonKeyOrder, &lines).place.path, "tools[1]");
    silent(Rule::ToolOrder, &lines);
    let others =
        [sent.clone(), sent.clone(), with_tools(json!([a, b])), with_tools(json!([a, b, tool("c", "else")]))];
    silent(Rule::ToolOrder, &others);
    silent(Rule::JsonKeyOrder, &others);
    let format = |json: Value| line(0, with(long(), "text", json!({"format": json})));
    let [one_way, other_way] =
        [json!({"type": "json_schema", "name": "n"}), json!({"name": "n", "type": "json_schema"})];
    let found = one(Rule::JsonKeyOrder, &[format(one_way.clone()), format(other_way)]);
    assert_eq!(found.place.path, "text.format");
    silent(Rule::JsonKeyOrder, &[format(one_way), format(json!({"type": "json_schema", "name": "m"}))]);
}

#[test]
fn changed_tools() {
    let [a, b] = ["a", "b"].map(|name| tool(name, "does it"));
    let lines = [with_tools(json!([a])), with_tools(json!([a, b]))];
    let found = one(Rule::ChangedTools, &lines);
    assert!(found.message.starts_with("2 tools after 1") && found.depth.unwrap().0 > 0, "{found:?}");
    silent(Rule::ChangedTools, &[with_tools(json!([a, b])), with_tools(json!([b, a]))]);
    let elsewhere = json!({"session": "t", "request": lines[1]["request"]});
    silent(Rule::ChangedTools, &[lines[0].clone(), elsewhere]);
}

#[test]
fn below_minimum() {
    let of_tokens = |tokens: usize| line(0, body(&text("steady", tokens)));
    let found = one(Rule::BelowMinimum, &[of_tokens(600), of_tokens(500)]);
    assert_eq!(found.count, 2);
    // At 614 tokens: 1,024 written once (without a price of its own) and read at a tenth.
    assert!(found.message.contains("below 1024") && found.message.contains("from 2 uses"), "{found:?}");
    assert!(!one(Rule::BelowMinimum, &[of_tokens(50)]).message.contains("padding"));
    silent(Rule::BelowMinimum, &[of_tokens(1_100)]);
    let billed = json!({"time": 1, "usage": {"input_tokens": 800, "output_tokens": 3}});
    one(Rule::BelowMinimum, &[billed]);
}

#[test]
fn calls_of_a_key_with_little_in_common() {
    let said = |n: u64, common: usize| {
        let head = format!("{}{}", text("steady", common), text(&format!("own{n}"), 1_200));
        line(0, with(body(&head), "prompt_cache_key", json!("k")))
    };
    let found = one(Rule::BelowMinimum, &[said(1, 500), said(2, 500)]);
    assert!(found.message.contains("fewer than 512 tokens in common"), "{found:?}");
    silent(Rule::BelowMinimum, &[said(1, 1_100), said(2, 1_100)]);
    silent(Rule::BelowMinimum, &[said(1, 500), said(1, 500)]);
}

/// A body for GPT-5.6 with a developer message of so many tokens, marked or not, before the user's.
fn marked(tokens: usize, mark: bool, options: Value) -> Value {
    let mut block = json!({"type": "input_text", "text": text("steady", tokens)});
    if mark {
        block["prompt_cache_breakpoint"] = json!({"mode": "explicit"});
    }
    let input =
        json!([{"role": "developer", "content": [block]}, {"role": "user", "content": text("go", 50)}]);
    line(0, json!({"model": "gpt-5.6-terra", "input": input, "prompt_cache_options": options}))
}

#[test]
fn no_marks() {
    let explicit = json!({"mode": "explicit"});
    let found = one(Rule::NoMarks, &[marked(1_500, false, explicit.clone())]);
    assert_eq!(found.severity, Severity::Error);
    assert!(found.message.contains("explicit mode"));
    silent(Rule::NoMarks, &[marked(1_500, true, explicit.clone()), marked(1_500, false, json!({}))]);
    silent(Rule::NoMarks, &[marked(100, false, explicit)]);
    let claude = |mark: Value| {
        let system = json!([{"type": "text", "text": text("steady", 1_500), "cache_control": mark}]);
        line(
            0,
            json!({"model": "claude-sonnet-5", "system": system, "messages": [{"role": "user", "content": "Go"}]}),
        )
    };
    assert!(one(Rule::NoMarks, &[claude(Value::Null)]).message.contains("at marks only"));
    silent(Rule::NoMarks, &[claude(json!({"type": "ephemeral"}))]);
    // Others need none.
    silent(Rule::NoMarks, &[line(0, long())]);
}

#[test]
fn too_many_marks() {
    let marks = |count: usize, mode: &str| {
        let block = json!({"type": "input_text", "text": text("steady", 1_100), "prompt_cache_breakpoint": {"mode": "explicit"}});
        let input = json!([{"role": "user", "content": vec![block; count]}]);
        line(0, json!({"model": "gpt-5.6-terra", "input": input, "prompt_cache_options": {"mode": mode}}))
    };
    let found = one(Rule::TooManyMarks, &[marks(5, "explicit")]);
    assert_eq!((found.severity, found.place.path.as_str()), (Severity::Error, "input[0].content[4].text"));
    silent(Rule::TooManyMarks, &[marks(4, "explicit"), marks(3, "implicit")]);
    assert_eq!(one(Rule::TooManyMarks, &[marks(4, "implicit")]).severity, Severity::Warning);
}

#[test]
fn useless_mark() {
    let found = one(Rule::UselessMark, &[marked(300, true, json!({}))]);
    assert_eq!(found.place.path, "input[0].content[0].text");
    assert!(found.message.contains("below 1024 nothing is stored"), "{found:?}");
    silent(Rule::UselessMark, &[marked(1_500, true, json!({}))]);
    let block = json!([{"role": "developer", "content": [{"type": "input_text", "text": text("steady", 1_500),
        "prompt_cache_breakpoint": {"mode": "explicit"}}]}]);
    let instructions = json!({"model": "gpt-5.6-terra", "instructions": block, "input": "Go"});
    assert!(
        one(Rule::UselessMark, &[line(0, instructions)]).message.contains("`instructions` carry no mark")
    );
}

#[test]
fn mark_behind_volatile() {
    let mark = json!({"mode": "explicit"});
    let blocks = |early: bool| {
        let mut first = json!({"type": "input_text", "text": text("steady", 1_500)});
        if early {
            first["prompt_cache_breakpoint"] = mark.clone();
        }
        let second =
            json!({"type": "input_text", "text": "It is 20:43:43.", "prompt_cache_breakpoint": mark});
        let input =
            json!([{"role": "developer", "content": [first, second]}, {"role": "user", "content": "Go"}]);
        line(0, json!({"model": "gpt-5.6-terra", "input": input, "prompt_cache_options": mark}))
    };
    let found = one(Rule::MarkBehindVolatile, &[blocks(false)]);
    assert_eq!(found.place.path, "input[0].content[1].text");
    silent(Rule::MarkBehindVolatile, &[blocks(true)]);
}

#[test]
fn mixed_key() {
    let keyed =
        |field: &str, value: Value| line(0, with(with(long(), "prompt_cache_key", json!("k")), field, value));
    let plain = keyed("model", json!("gpt-5.2"));
    let found = one(Rule::MixedKey, &[plain.clone(), keyed("model", json!("gpt-5.4"))]);
    assert_eq!((found.place.path.as_str(), found.place.line), ("model", Some(2)));
    let effort = |effort: &str| keyed("reasoning", json!({"effort": effort}));
    one(Rule::MixedKey, &[effort("low"), effort("high")]);
    one(Rule::MixedKey, &[keyed("service_tier", json!("flex")), keyed("service_tier", json!("default"))]);
    silent(Rule::MixedKey, &[plain.clone(), effort("low"), effort("low")]);
    let other = line(0, with(with(long(), "prompt_cache_key", json!("other")), "model", json!("gpt-5.4")));
    silent(Rule::MixedKey, &[plain, other]);
}

/// A chat with a first message of so many tokens.
fn chat(second: u64, tokens: usize) -> Value {
    let input = json!([
        {"role": "user", "content": text(&format!("t{tokens}"), tokens)},
        {"role": "user", "content": "Go on."}
    ]);
    line(second, with(long(), "input", input))
}

#[test]
fn costly_compaction() {
    // From some 41,500 tokens to 11,500, of which 10,000 are new: 9,000 at full price for 3,000 saved a call (at a tenth).
    let mut lines = vec![chat(0, 20_000), chat(60, 5_000)];
    let found = one(Rule::CostlyCompaction, &lines);
    assert!(found.message.contains("takes 3 calls") || found.message.contains("takes 4 calls"), "{found:?}");
    let (_, behind) = found.depth.unwrap();
    assert!(behind > 5_000);
    lines.extend([chat(120, 5_000), chat(180, 5_000), chat(240, 5_000)]);
    silent(Rule::CostlyCompaction, &lines);
    // A little less is no compaction; back to the long prompt is a branch; and a cold prefix costs nothing to rebuild.
    silent(Rule::CostlyCompaction, &[chat(0, 20_000), chat(60, 18_000)]);
    silent(Rule::CostlyCompaction, &[chat(0, 20_000), chat(60, 5_000), chat(120, 20_001)]);
    silent(Rule::CostlyCompaction, &[chat(0, 20_000), chat(90_000, 5_000)]);
}

fn items(items: &[Value]) -> Value {
    line(0, with(long(), "input", json!(items)))
}

#[test]
fn dropped_reasoning() {
    let user = json!({"role": "user", "content": "Why?"});
    let reasoning = json!({"type": "reasoning", "encrypted_content": "x".repeat(600)});
    let answer = json!({"role": "assistant", "content": "Because."});
    let kept = items(&[user.clone(), reasoning.clone(), answer.clone(), user.clone()]);
    let dropped = items(&[user.clone(), answer.clone(), user.clone(), answer.clone(), user.clone()]);
    let found = one(Rule::DroppedReasoning, &[kept.clone(), dropped]);
    assert_eq!((found.severity, found.place.path.as_str()), (Severity::Warning, "input[1].content"));
    assert!(found.message.contains("tokens of reasoning that log.jsonl:1 sent are gone"), "{found:?}");
    let more = items(&[user.clone(), reasoning, answer.clone(), user.clone(), answer.clone(), user.clone()]);
    silent(Rule::DroppedReasoning, &[kept, more]);
    let effort = |effort: &str| {
        let line = items(&[user.clone(), answer.clone(), user.clone()]);
        let body = with(line["request"].clone(), "reasoning", json!({"effort": effort}));
        json!({"request": body})
    };
    assert_eq!(one(Rule::DroppedReasoning, &[effort("high")]).severity, Severity::Note);
    silent(Rule::DroppedReasoning, &[effort("none")]);
}

#[test]
fn dropped_phase() {
    let user = json!({"role": "user", "content": "Why?"});
    let answer = |phase: Value| json!({"role": "assistant", "content": "Because.", "phase": phase});
    let full = items(&[user.clone(), answer(json!("commentary")), user.clone()]);
    let lost = items(&[user.clone(), answer(Value::Null), user.clone(), user.clone()]);
    let found = one(Rule::DroppedPhase, &[full.clone(), lost.clone()]);
    assert!(found.message.contains("has lost its phase since log.jsonl:1"), "{found:?}");
    silent(Rule::DroppedPhase, &[full.clone(), full]);
    silent(Rule::DroppedPhase, &[lost]);
    let mixed =
        items(&[user.clone(), answer(json!("final_answer")), user.clone(), answer(Value::Null), user]);
    assert_eq!(one(Rule::DroppedPhase, &[mixed]).place.path, "input[3].content");
}

#[test]
fn scattered_session_and_cold_key() {
    let at = |minutes: u64, key: &str| line(minutes * 60, with(long(), "prompt_cache_key", json!(key)));
    let found = one(Rule::ScatteredSession, &[at(0, "a"), at(1, "b"), at(2, "a")]);
    assert_eq!(found.count, 2);
    silent(Rule::ScatteredSession, &[at(0, "a"), at(1, "a")]);
    let every = |minutes: u64| (0..6).map(|n| at(n * minutes, "a")).collect::<Vec<_>>();
    let cold = one(Rule::ColdKey, &every(25 * 60));
    assert_eq!((cold.count, cold.place.path.as_str()), (5, "prompt_cache_key"));
    silent(Rule::ColdKey, &every(23 * 60));
}

#[test]
fn what_is_not_known_is_not_judged() {
    let continued = json!({"model": "gpt-5.2", "previous_response_id": "r", "input": "Go on.", "prompt_cache_retention": "24h"});
    let usage = json!({"time": 1_763_671_423, "model": "gpt-5.2", "usage": {"input_tokens": 5_000, "output_tokens": 3}});
    assert_eq!(findings(None, &[line(0, continued), usage]), []);
}
