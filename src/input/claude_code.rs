//! Claude Code: a session, one JSON object a line.
//!
//! * `user` and `assistant` lines hold messages of the Messages API; an answer has a line for each of its blocks, all
//!   with one `message.id` and one usage, and counts once (also where a resumed session repeats it).
//! * `parentUuid` says what a line follows: where the user went back, what came after that is dropped. `compact_boundary`
//!   begins anew. `isSidechain` and `agentId` tell the conversations of agents apart.
//!
//! A call's prompt is all that came before the first line of its answer; it was sent when the last of that was noted.
//! System prompt, tools, and what the client puts in by itself are not in the file: prompts are longer than what can be
//! read here. Marks are not noted either; the client marks the end of every prompt, and so it is here.

use rustc_hash::{FxHashMap, FxHashSet};
use serde_json::Value;

use crate::input::anthropic;
use crate::input::call::{Body, Call, Part};
use crate::input::fields::Fields;
use crate::input::openai::parse;
use crate::input::parts::Parts;
use crate::input::request_log::Step;
use crate::input::text_lines::Parsed;
use crate::input::usage;
use crate::units::SimTime;

/// The model of lines that the client made up, to show a failure.
const SYNTHETIC: &str = "<synthetic>";

/// A session as far as it was read.
#[derive(Debug, Default)]
pub(super) struct ClaudeCode {
    threads: FxHashMap<String, Thread>,
    /// Their names, in the order of the file.
    names: Vec<String>,
    /// Answers that were counted.
    seen: FxHashSet<String>,
}

/// A conversation: the user's, or that of an agent.
#[derive(Debug, Default)]
struct Thread {
    history: Vec<Part>,
    /// Messages so far, for their paths.
    messages: usize,
    /// How many parts there were after each line.
    after: FxHashMap<String, usize>,
    /// When the last of what the model did not make was noted.
    asked: (u64, Option<SimTime>),
    /// The answer that is under way.
    open: Option<Answer>,
}

#[derive(Debug)]
struct Answer {
    id: String,
    /// Whether it was counted before.
    repeated: bool,
    /// How many parts there were after its last line.
    after: usize,
    call: Call,
}

impl ClaudeCode {
    /// Reads a line.
    pub fn line(&mut self, line: u64, fields: &Fields<'_>) -> Parsed<Step> {
        let kind = fields.text("type").ok_or("has no `type`: it is no line of a session")?;
        let name = thread_name(fields);
        if !self.threads.contains_key(&name) {
            self.names.push(name.clone());
        }
        let thread = self.threads.entry(name.clone()).or_default();
        let step = match kind.as_str() {
            "assistant" => thread.answer(line, fields, name, &mut self.seen)?,
            "user" => thread.ask(line, fields)?,
            "system" if fields.text("subtype").as_deref() == Some("compact_boundary") => thread.back_to(0),
            _ => Step::Nothing,
        };
        if let Some(uuid) = fields.text("uuid") {
            thread.after.insert(uuid, thread.history.len());
        }
        Ok(step)
    }

    /// The answers that the end of the file completes, one by one.
    pub fn end(&mut self) -> Option<Step> {
        let threads = &mut self.threads;
        self.names.iter().find_map(|name| {
            let open = threads.get_mut(name)?.close();
            (!matches!(open, Step::Nothing)).then_some(open)
        })
    }
}

/// The session, and the agent if it is one's.
fn thread_name(fields: &Fields<'_>) -> String {
    let session = fields.text("sessionId").unwrap_or_default();
    match fields.text("agentId") {
        Some(agent) => format!("{session}/{agent}"),
        None if fields.is_true("isSidechain") => format!("{session}/agent"),
        None => session,
    }
}

impl Thread {
    /// A line of the user's: words, or results of tools.
    fn ask(&mut self, line: u64, fields: &Fields<'_>) -> Parsed<Step> {
        let message = message(fields)?;
        let mut step = Step::Nothing;
        // Results come while an answer that called several tools is still under way, and follow each its own call.
        if !holds_result(&message) {
            let known = |parent: String| self.after.get(&parent).copied().unwrap_or(self.history.len());
            let parts = fields.text("parentUuid").map_or(0, known);
            step = self.back_to(parts);
        }
        self.push(&message)?;
        self.asked = (line, fields.time(&["timestamp"])?);
        Ok(step)
    }

    /// A line of an answer.
    fn answer(
        &mut self,
        line: u64,
        fields: &Fields<'_>,
        session: String,
        seen: &mut FxHashSet<String>,
    ) -> Parsed<Step> {
        let message = message(fields)?;
        let text = |name: &str| message.get(name).and_then(Value::as_str).map(String::from);
        let model = text("model");
        if fields.is_true("isApiErrorMessage") || model.as_deref() == Some(SYNTHETIC) {
            return Ok(Step::Nothing);
        }
        let id = text("id").or(fields.text("requestId")).or(fields.text("uuid")).unwrap_or_default();
        let time = fields.time(&["timestamp"])?;
        let mut step = Step::Nothing;
        let continued = self.open.as_ref().is_some_and(|open| open.id == id);
        if !continued {
            step = self.close();
            let repeated = !seen.insert(id.clone());
            let call = self.sent(line, time, session, model);
            self.open = Some(Answer { id, repeated, after: 0, call });
        }
        if let Some(Answer { call, .. }) = &mut self.open {
            if let Some(object) = fields.object("message").and_then(|message| message.object("usage")) {
                // The last line has the whole answer's tokens.
                call.usage = usage::of_fields(&object)?;
                let hour = object.count("cache_creation.ephemeral_1h_input_tokens")?.unwrap_or(0);
                call.settings.retention = Some(if hour > 0 { "1h" } else { "5m" }.into());
            }
            call.total = time.zip(call.time).map(|(end, start)| end.since(start));
        }
        let before = self.history.len();
        self.push(&message)?;
        let after = self.history.len();
        if let Some(open) = &mut self.open {
            // Blocks that follow each other are of one message.
            if let (true, [.., last, first]) = (open.after == before, &mut self.history[..=before]) {
                (last.ends_message, first.opens_message) = (false, false);
            }
            open.after = after;
        }
        Ok(step)
    }

    /// The request that is answered from here on.
    fn sent(&self, line: u64, time: Option<SimTime>, session: String, model: Option<String>) -> Call {
        let mut parts = self.history.clone();
        if let Some(last) = parts.last_mut() {
            last.marked = true;
        }
        let (asked, sent) = self.asked;
        let mut call =
            Call { line: if asked == 0 { line } else { asked }, time: sent.or(time), ..Call::default() };
        call.session = (!session.is_empty()).then_some(session);
        call.body = Some(Body { parts });
        call.settings.explicit_only = true;
        call.settings.prefix.extend(model.map(|model| ("model", model)));
        call
    }

    /// Ends the answer that is under way.
    fn close(&mut self) -> Step {
        match self.open.take() {
            Some(Answer { repeated: false, call, .. })
                if call.usage.prompt_tokens.is_some_and(|tokens| tokens > 0) =>
            {
                Step::Call(Box::new(call))
            }
            Some(Answer { repeated: false, .. }) => Step::WithoutUsage,
            Some(_) | None => Step::Nothing,
        }
    }

    /// Drops what came after so many parts.
    fn back_to(&mut self, parts: usize) -> Step {
        let step = self.close();
        self.history.truncate(parts);
        if let Some(last) = self.history.last_mut() {
            last.ends_message = true;
        }
        step
    }

    fn push(&mut self, message: &Value) -> Parsed<()> {
        let mut parts = Parts::default();
        anthropic::message(&mut parts, &format!("messages[{}]", self.messages), message)?;
        self.messages += 1;
        let mut parts = parts.finish().0;
        self.history.append(&mut parts);
        Ok(())
    }
}

fn message(fields: &Fields<'_>) -> Parsed<Value> {
    let raw = fields.get("message").ok_or("has no `message`")?;
    parse(raw, "message")
}

fn holds_result(message: &Value) -> bool {
    let blocks = message.get("content").and_then(Value::as_array);
    blocks.is_some_and(|blocks| {
        blocks.iter().any(|block| block.get("type").and_then(Value::as_str) == Some("tool_result"))
    })
}
