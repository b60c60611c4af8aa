//! OpenAI's bodies: the Responses API (`instructions`, `input`) and Chat Completions (`messages`).
//!
//! Every item of `input` and every entry of `messages` counts as a message. Tools come first, then `instructions`, then
//! the rest in its order. A conversation that the provider stores (`previous_response_id`, `conversation`) is not in a
//! body: only what was sent is.

use serde_json::Value;
use serde_json::value::RawValue;

use crate::input::call::Role;
use crate::input::fields::Fields;
use crate::input::parts::Parts;
use crate::input::text_lines::Parsed;

/// The parts of a Responses body.
pub(super) fn responses(fields: &Fields<'_>, parts: &mut Parts) -> Parsed<()> {
    tools(fields, parts)?;
    if let Some(instructions) = value(fields, "instructions")? {
        input(&instructions, "instructions", Role::Developer, parts)?;
    }
    if let Some(items) = fields.list("input") {
        // One item at a time: the values of a long input are never all in memory.
        return items.iter().enumerate().try_for_each(|(number, raw)| {
            let path = format!("input[{number}]");
            item(parts, &path, &parse(raw, &path)?)
        });
    }
    value(fields, "input")?.map_or(Ok(()), |text| input(&text, "input", Role::User, parts))
}

/// The parts of a Chat Completions body.
pub(super) fn chat(fields: &Fields<'_>, parts: &mut Parts) -> Parsed<()> {
    tools(fields, parts)?;
    let messages = fields.list("messages").ok_or("`messages` is no list")?;
    messages.iter().enumerate().try_for_each(|(number, raw)| {
        let path = format!("messages[{number}]");
        message(parts, &path, &parse(raw, &path)?)
    })
}

/// A text, or items, with which a Responses body may begin.
fn input(value: &Value, path: &str, role: Role, parts: &mut Parts) -> Parsed<()> {
    match value {
        Value::String(text) => parts.message(path, role, |parts| {
            parts.text(path, role, text);
            Ok(())
        }),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .try_for_each(|(number, value)| item(parts, &format!("{path}[{number}]"), value)),
        _ => Err(format!("`{path}` is no text and no list: it must be one of them")),
    }
}

/// An item of the Responses API.
pub(super) fn item(parts: &mut Parts, path: &str, item: &Value) -> Parsed<()> {
    if !item.is_object() {
        return Err(format!("`{path}` is not an object: an item has `type`, or `role` and `content`"));
    }
    let kind = item.get("type").and_then(Value::as_str).unwrap_or("message");
    let role = item_role(kind, item);
    let first = parts.len();
    parts.message(path, role, |parts| {
        match kind {
            "message" => content(parts, &format!("{path}.content"), role, item.get("content"))?,
            "reasoning" | "compaction" => parts.reasoning(path, item)?,
            _ if role == Role::ToolResult => match item.get("output") {
                Some(output) => content(parts, &format!("{path}.output"), role, Some(output))?,
                None => parts.json(path, role, item),
            },
            _ => parts.json(path, role, item),
        }
        parts.mark(item);
        Ok(())
    })?;
    parts.phase(first, item);
    Ok(())
}

/// Who speaks in an item.
pub(super) fn item_role(kind: &str, item: &Value) -> Role {
    match kind {
        "reasoning" | "compaction" => Role::Reasoning,
        _ if kind.ends_with("_output") => Role::ToolResult,
        _ if kind.ends_with("_call") => Role::ToolCall,
        _ => role(item),
    }
}

/// A message of Chat Completions.
fn message(parts: &mut Parts, path: &str, message: &Value) -> Parsed<()> {
    if !message.is_object() {
        return Err(format!("`{path}` is not an object: a message has `role` and `content`"));
    }
    let role = role(message);
    let first = parts.len();
    parts.message(path, role, |parts| {
        for name in ["reasoning_content", "reasoning"] {
            if let Some(Value::String(text)) = message.get(name) {
                parts.text(format!("{path}.{name}"), Role::Reasoning, text);
            }
        }
        for name in ["name", "refusal"] {
            if let Some(Value::String(text)) = message.get(name) {
                parts.text(format!("{path}.{name}"), role, text);
            }
        }
        content(parts, &format!("{path}.content"), role, message.get("content"))?;
        for (number, call) in
            message.get("tool_calls").and_then(Value::as_array).into_iter().flatten().enumerate()
        {
            parts.json(format!("{path}.tool_calls[{number}]"), Role::ToolCall, call);
        }
        if let Some(call) = message.get("function_call").filter(|call| call.is_object()) {
            parts.json(format!("{path}.function_call"), Role::ToolCall, call);
        }
        parts.mark(message);
        Ok(())
    })?;
    parts.phase(first, message);
    Ok(())
}

fn content(parts: &mut Parts, path: &str, role: Role, content: Option<&Value>) -> Parsed<()> {
    content.map_or(Ok(()), |content| parts.content(path, role, content, &|_, _, _| Ok(false)))
}

/// Who speaks, by the field `role`.
fn role(message: &Value) -> Role {
    match message.get("role").and_then(Value::as_str) {
        Some("system" | "developer") => Role::Developer,
        Some("assistant") => Role::Assistant,
        Some("tool" | "function") => Role::ToolResult,
        _ => Role::User,
    }
}

/// The tools, and the functions that came before them.
pub(super) fn tools(fields: &Fields<'_>, parts: &mut Parts) -> Parsed<()> {
    for name in ["tools", "functions"] {
        match value(fields, name)? {
            None => (),
            Some(Value::Array(tools)) => parts.tools(name, &tools),
            Some(_) => return Err(format!("`{name}` is no list")),
        }
    }
    Ok(())
}

/// A field's value.
pub(super) fn value(fields: &Fields<'_>, name: &str) -> Parsed<Option<Value>> {
    fields.get(name).map(|raw| parse(raw, name)).transpose()
}

/// A value at a path.
pub(super) fn parse(raw: &RawValue, path: &str) -> Parsed<Value> {
    serde_json::from_str(raw.get())
        .map_err(|_| format!("`{path}` is too deeply nested, or holds a broken text or number"))
}
