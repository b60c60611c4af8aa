//! Body: a request of any of the three APIs -> its parts and settings.

use serde_json::Value;

use crate::input::anthropic;
use crate::input::call::{Body, Call, Settings};
use crate::input::fields::Fields;
use crate::input::openai::{self, value};
use crate::input::parts::Parts;
use crate::input::text_lines::Parsed;

/// The APIs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Api {
    Responses,
    Chat,
    Messages,
}

/// Where a setting stands, and what it is called in [`Settings`].
const SETTINGS: [(&[&str], &str, &str); 9] = [
    (&[], "model", "model"),
    (&[], "service_tier", "service_tier"),
    (&["reasoning"], "effort", "reasoning.effort"),
    (&[], "reasoning_effort", "reasoning.effort"),
    (&["text"], "verbosity", "text.verbosity"),
    (&[], "verbosity", "text.verbosity"),
    (&["text"], "format", "text.format"),
    (&[], "response_format", "text.format"),
    (&[], "parallel_tool_calls", "parallel_tool_calls"),
];

/// Whether an object is the body of a request.
pub(super) fn is_body(fields: &Fields<'_>) -> bool {
    let sent = |name: &str| fields.get(name).is_some_and(|value| value.get().starts_with(['[', '"']));
    let list = |name: &str| fields.get(name).is_some_and(|value| value.get().starts_with('['));
    // A response repeats the instructions and tools of its request, but not the input.
    list("messages") || sent("input") || sent("instructions") && !fields.has("output")
}

/// Reads a body into a call: its parts, settings and key.
pub(super) fn read(fields: &Fields<'_>, call: &mut Call) -> Parsed<()> {
    let mut parts = Parts::default();
    let api = api(fields);
    match api {
        Api::Responses => openai::responses(fields, &mut parts)?,
        Api::Chat => openai::chat(fields, &mut parts)?,
        Api::Messages => anthropic::messages(fields, &mut parts)?,
    }
    let (parts, ttl) = parts.finish();
    call.body = Some(Body { parts });
    call.key = fields.text("prompt_cache_key");
    call.continues = fields.has("previous_response_id") || fields.has("conversation");
    call.settings = settings(fields, ttl)?;
    // This API caches nothing that is not marked, by the client or, asked at the top, by itself.
    call.settings.explicit_only |= api == Api::Messages && !fields.has("cache_control");
    Ok(())
}

/// Which API a body is for. Where both could be meant, both read the same.
fn api(fields: &Fields<'_>) -> Api {
    if !fields.has("messages") {
        return Api::Responses;
    }
    let within = |name: &str, words: &[&str]| {
        let json = fields.get(name).map_or("", |value| value.get());
        words.iter().any(|word| json.contains(word))
    };
    // Inside a text, these words' quotes would be escaped.
    let blocks = ["\"tool_use\"", "\"tool_result\"", "\"thinking\"", "\"redacted_thinking\""];
    if fields.has("system") || fields.has("anthropic_version") {
        Api::Messages
    } else if within("messages", &["\"system\"", "\"developer\"", "\"tool_calls\"", "\"tool_call_id\""]) {
        Api::Chat
    } else if within("tools", &["\"input_schema\""]) || within("messages", &blocks) {
        Api::Messages
    } else {
        let claude = fields.text("model").is_some_and(|model| model.starts_with("claude"));
        if claude && !fields.has("prompt_cache_key") { Api::Messages } else { Api::Chat }
    }
}

/// What is sent beside the text.
fn settings(fields: &Fields<'_>, ttl: Option<String>) -> Parsed<Settings> {
    let mut settings = Settings::default();
    for (path, field, name) in SETTINGS {
        let value = if path.is_empty() {
            value(fields, field)?
        } else {
            fields.at(path).map_or(Ok(None), |inner| value(&inner, field))?
        };
        if let Some(value) = value {
            let text = value.as_str().map_or_else(|| value.to_string(), String::from);
            settings.prefix.entry(name).or_insert(text);
        }
    }
    let options = value(fields, "prompt_cache_options")?.unwrap_or(Value::Null);
    let option = |name: &str| options.get(name).and_then(Value::as_str);
    settings.explicit_only = option("mode") == Some("explicit");
    // One page of the vendor writes this policy with a hyphen.
    let policy = fields.text("prompt_cache_retention").map(|policy| policy.replace("in-memory", "in_memory"));
    settings.retention = option("ttl").map(String::from).or(policy).or(ttl);
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::call::{Content, Role};

    fn call(json: &str) -> Call {
        let mut call = Call::default();
        let fields = Fields::parse(json).unwrap();
        assert!(is_body(&fields));
        read(&fields, &mut call).unwrap();
        call
    }

    /// Each part in a line: path, role, text; `(` and `)` where messages begin and end, `!` if marked.
    fn lines(call: &Call) -> Vec<String> {
        let part = |part: &crate::input::call::Part| {
            let content = match &part.content {
                Content::Text(text) => text.clone(),
                Content::Sized { tokens, .. } => format!("[{tokens}]"),
                Content::Hashed { .. } => "#".into(),
            };
            let sign = |flag, sign| if flag { sign } else { "" };
            let (opens, ends) = (sign(part.opens_message, "("), sign(part.ends_message, ")"));
            format!("{opens}{} {}: {content}{}{ends}", part.path, part.role.name(), sign(part.marked, "!"))
        };
        call.body.as_ref().unwrap().parts.iter().map(part).collect()
    }

    #[test]
    fn a_responses_body() {
        let call = call(
            r#"{"model": "gpt-5.6", "instructions": "Be brief.", "prompt_cache_key": "k1", "service_tier": "flex",
            "reasoning": {"effort": "high"}, "text": {"verbosity": "low", "format": {"type": "json_object"}},
            "parallel_tool_calls": false, "tool_choice": "auto",
            "prompt_cache_options": {"mode": "explicit", "ttl": "30m"},
            "tools": [{"type": "function", "name": "f", "parameters": {"z": 1, "a": 2}}],
            "input": [
              {"role": "developer", "content": "Rules."},
              {"type": "message", "role": "user", "content": [
                {"type": "input_text", "text": "Look:", "prompt_cache_breakpoint": {"mode": "explicit"}},
                {"type": "input_image", "image_url": "data:abc", "detail": "low"}]},
              {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "Hm."}]},
              {"type": "reasoning", "id": "rs_2", "summary": [], "encrypted_content": "abcdefghijkl"},
              {"type": "function_call", "id": "fc_1", "call_id": "c", "name": "f", "arguments": "{}"},
              {"type": "function_call_output", "call_id": "c", "output": "42"},
              {"type": "web_search_call", "id": "ws", "status": "completed", "action": {"query": "q"}},
              {"type": "something_new", "x": 1.50}]}"#,
        );
        assert_eq!(
            lines(&call),
            [
                r#"tools[0] tools: {"type":"function","name":"f","parameters":{"z":1,"a":2}}"#,
                "(instructions developer: Be brief.)",
                "(input[0].content developer: Rules.)",
                "(input[1].content[0].text user: Look:!",
                "input[1].content[1] user: [85])",
                "(input[2].summary[0].text reasoning: Hm.)",
                "(input[3].encrypted_content reasoning: [2])",
                r#"(input[4] tool_call: {"type":"function_call","call_id":"c","name":"f","arguments":"{}"})"#,
                "(input[5].output tool_result: 42)",
                r#"(input[6] tool_call: {"type":"web_search_call","action":{"query":"q"}})"#,
                r#"(input[7] user: {"type":"something_new","x":1.5})"#,
            ]
        );
        assert_eq!(call.key.as_deref(), Some("k1"));
        let Settings { prefix, retention, explicit_only } = call.settings;
        assert!(explicit_only && retention.as_deref() == Some("30m"));
        let prefix: Vec<String> = prefix.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
        let wanted = [
            "model=gpt-5.6",
            "parallel_tool_calls=false",
            "reasoning.effort=high",
            "service_tier=flex",
            r#"text.format={"type":"json_object"}"#,
            "text.verbosity=low",
        ];
        assert_eq!(prefix, wanted);
    }

    #[test]
    fn a_chat_completions_body() {
        let call = call(
            r#"{"model": "gpt-5", "reasoning_effort": "low", "verbosity": "high", "prompt_cache_retention": "in-memory",
            "response_format": {"type": "text"}, "messages": [
              {"role": "system", "content": "Be kind."},
              {"role": "user", "name": "Ann", "content": [{"type": "text", "text": "Hi"},
                {"type": "image_url", "image_url": {"url": "http://x"}}]},
              {"role": "assistant", "content": null, "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{\"a\": 1}"}}]},
              {"role": "tool", "tool_call_id": "c1", "content": "ok"}, {"role": "user", "content": ""}]}"#,
        );
        assert_eq!(
            lines(&call),
            [
                "(messages[0].content developer: Be kind.)",
                "(messages[1].name user: Ann",
                "messages[1].content[0].text user: Hi",
                "messages[1].content[1] user: [765])",
                r#"(messages[2].tool_calls[0] tool_call: {"type":"function","function":{"name":"f","arguments":"{\"a\": 1}"}})"#,
                "(messages[3].content tool_result: ok)",
                "(messages[4].content user: )",
            ]
        );
        assert_eq!(call.settings.retention.as_deref(), Some("in_memory"));
        let prefix: Vec<_> = call.settings.prefix.into_keys().collect();
        assert_eq!(prefix, ["model", "reasoning.effort", "text.format", "text.verbosity"]);
    }

    #[test]
    fn an_anthropic_body() {
        let call = call(
            r#"{"model": "claude-opus-5", "max_tokens": 9,
            "system": [{"type": "text", "text": "You.", "cache_control": {"type": "ephemeral", "ttl": "1h"}}],
            "tools": [{"name": "f", "input_schema": {}}],
            "messages": [{"role": "user", "content": "Hi"},
              {"role": "assistant", "content": [{"type": "thinking", "thinking": "Hm.", "signature": "s"},
                {"type": "tool_use", "id": "t", "name": "f", "input": {"b": 1}}]},
              {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": "42"}]},
                {"type": "image", "source": {"type": "base64", "data": "QUJD"}},
                {"type": "text", "text": "Go on", "cache_control": {"type": "ephemeral"}}]}]}"#,
        );
        assert_eq!(
            lines(&call),
            [
                r#"tools[0] tools: {"name":"f","input_schema":{}}"#,
                "(system[0].text developer: You.!)",
                "(messages[0].content user: Hi)",
                "(messages[1].content[0].thinking reasoning: Hm.",
                r#"messages[1].content[1] tool_call: {"type":"tool_use","name":"f","input":{"b":1}})"#,
                "(messages[2].content[0].content[0].text tool_result: 42",
                "messages[2].content[1] user: [1600]",
                "messages[2].content[2].text user: Go on!)",
            ]
        );
        assert_eq!((call.settings.retention.as_deref(), call.settings.explicit_only), (Some("1h"), true));
    }

    #[test]
    fn what_both_apis_may_mean_reads_the_same() {
        let messages =
            r#""messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]"#;
        let [one, other] =
            ["claude-opus-5", "gpt-5"].map(|model| call(&format!(r#"{{"model": "{model}", {messages}}}"#)));
        assert_eq!(one.body, other.body);
        let automatic =
            call(&format!(r#"{{"cache_control": {{"type": "ephemeral"}}, "system": "s", {messages}}}"#));
        assert!(automatic.body.unwrap().parts[2].marked && !automatic.settings.explicit_only);
        let phased = call(r#"{"input": [{"role": "assistant", "phase": "commentary", "content": "Hi"}]}"#);
        assert_eq!(phased.body.unwrap().parts[0].phase.as_deref(), Some("commentary"));
        let continued = call(r#"{"input": "Hi", "previous_response_id": "r1"}"#);
        assert!(continued.continues && continued.body.unwrap().parts[0].role == Role::User);
    }

    #[test]
    fn bad_bodies_say_where_without_what() {
        let deep = format!(r#"{{"input": [{{"secret": {}1{}}}]}}"#, "[".repeat(200), "]".repeat(200));
        for (json, message) in [
            (r#"{"messages": [5]}"#, "`messages[0]` is not an object: a message has `role` and `content`"),
            (
                r#"{"messages": [{"role": "user", "content": 5}]}"#,
                "`messages[0].content` is no text and no list",
            ),
            (r#"{"input": "secret", "tools": {"a": 1}}"#, "`tools` is no list"),
            (
                r#"{"input": [{"content": [{"type": "input_text", "text": 1}]}]}"#,
                "`input[0].content[0].text` is no text",
            ),
            (deep.as_str(), "`input[0]` is too deeply nested"),
        ] {
            let error = read(&Fields::parse(json).unwrap(), &mut Call::default()).unwrap_err();
            assert!(error.starts_with(message) && !error.contains("secret"), "{error}");
        }
    }
}
