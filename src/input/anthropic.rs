//! Anthropic's bodies: the Messages API (`system`, `messages`, `cache_control`).

use serde_json::Value;

use crate::input::call::Role;
use crate::input::fields::Fields;
use crate::input::openai::{parse, tools, value};
use crate::input::parts::Parts;
use crate::input::text_lines::Parsed;

/// The parts of a Messages body.
pub(super) fn messages(fields: &Fields<'_>, parts: &mut Parts) -> Parsed<()> {
    tools(fields, parts)?;
    if let Some(system) = value(fields, "system")? {
        parts
            .message("system", Role::Developer, |parts| content(parts, "system", Role::Developer, &system))?;
    }
    let messages = fields.list("messages").ok_or("`messages` is no list")?;
    for (number, raw) in messages.iter().enumerate() {
        let path = format!("messages[{number}]");
        message(parts, &path, &parse(raw, &path)?)?;
    }
    if fields.has("cache_control") {
        // Automatic caching: the API marks the last block itself.
        let ttl = value(fields, "cache_control")?.unwrap_or_default();
        parts.mark(&serde_json::json!({ "cache_control": ttl }));
    }
    Ok(())
}

/// A message.
pub(super) fn message(parts: &mut Parts, path: &str, message: &Value) -> Parsed<()> {
    let role = match message.get("role").and_then(Value::as_str) {
        Some("assistant") => Role::Assistant,
        Some("system" | "developer") => Role::Developer,
        _ => Role::User,
    };
    let value = message.get("content").ok_or_else(|| format!("`{path}` has no `content`"))?;
    parts.message(path, role, |parts| content(parts, &format!("{path}.content"), role, value))
}

/// The content of a message, the calls of tools and their results among it.
fn content(parts: &mut Parts, path: &str, role: Role, value: &Value) -> Parsed<()> {
    parts.content(path, role, value, &special)
}

/// A block that is no text and no picture; false for any other.
fn special(parts: &mut Parts, path: &str, block: &Value) -> Parsed<bool> {
    let kind = block.get("type").and_then(Value::as_str).unwrap_or_default();
    let text = |name: &str| block.get(name).and_then(Value::as_str);
    match kind {
        "thinking" => {
            parts.text(format!("{path}.thinking"), Role::Reasoning, text("thinking").unwrap_or_default())
        }
        "redacted_thinking" => {
            let sealed = serde_json::json!({ "encrypted_content": text("data").unwrap_or_default() });
            parts.reasoning(path, &sealed)?;
        }
        _ if kind.ends_with("tool_use") => parts.json(path, Role::ToolCall, block),
        _ if kind.ends_with("tool_result") => match block.get("content") {
            Some(value) => content(parts, &format!("{path}.content"), Role::ToolResult, value)?,
            None => parts.json(path, Role::ToolResult, block),
        },
        _ => return Ok(false),
    }
    Ok(true)
}
