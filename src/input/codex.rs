//! Codex: a rollout, `{"timestamp": ..., "type": ..., "payload": {...}}` a line.
//!
//! * `session_meta` names the session, which Codex also sends as `prompt_cache_key`, and holds the instructions.
//! * `turn_context` names the model and its effort.
//! * `response_item`: what is in the conversation, one item of the Responses API a line, whoever made it.
//! * `compacted`: the conversation becomes `replacement_history`, or a summary.
//! * `event_msg` of `token_count`: a response is complete; `last_token_usage` is its usage. The event is repeated with
//!   equal totals, and counts once.
//!
//! A call's prompt is all that came before the first item that the model made; it was sent when the last of that was
//! noted. The tools are not in a rollout: prompts are longer than what can be read here. A turn that was taken back
//! stays in the conversation here.

use serde_json::Value;

use crate::input::call::{Body, Call, Part, Role, Usage};
use crate::input::fields::Fields;
use crate::input::openai::{item, item_role, parse};
use crate::input::parts::Parts;
use crate::input::request_log::Step;
use crate::input::text_lines::Parsed;
use crate::input::usage;
use crate::units::SimTime;

/// A conversation as far as it was read.
#[derive(Debug, Default)]
pub(super) struct Codex {
    session: Option<String>,
    model: Option<String>,
    effort: Option<String>,
    /// The instructions, which outlive a compaction.
    instructions: Vec<Part>,
    history: Vec<Part>,
    /// Items so far, for their paths.
    items: usize,
    /// When the last of what the model did not make was noted.
    asked: Asked,
    /// The request that is being answered.
    open: Option<Sent>,
    /// The totals of the last response, as they were written.
    totals: Option<String>,
}

/// Where and when something was asked.
#[derive(Clone, Copy, Debug, Default)]
struct Asked {
    line: u64,
    time: Option<SimTime>,
}

/// A request that was sent.
#[derive(Clone, Copy, Debug)]
struct Sent {
    asked: Asked,
    /// Parts of the history in its prompt.
    parts: usize,
}

impl Codex {
    /// Reads a line.
    pub fn line(&mut self, line: u64, fields: &Fields<'_>) -> Parsed<Step> {
        let kind = fields.text("type").ok_or("has no `type`: it is no line of a rollout")?;
        let payload = fields.object("payload").ok_or("has no `payload`: it is no line of a rollout")?;
        let asked = Asked { line, time: fields.time(&["timestamp"])? };
        match kind.as_str() {
            "session_meta" => self.meta(&payload),
            "turn_context" => {
                self.model = payload.text("model").or(self.model.take());
                self.effort = payload.text("effort").or(self.effort.take());
            }
            "compacted" => self.compact(&payload, asked)?,
            "response_item" => {
                let raw = fields.get("payload").ok_or("has no `payload`")?;
                return self.note(&parse(raw, "payload")?, asked);
            }
            "event_msg" if payload.text("type").as_deref() == Some("token_count") => {
                return payload.object("info").map_or(Ok(Step::Nothing), |info| self.answered(&info, asked));
            }
            _ => (),
        }
        Ok(Step::Nothing)
    }

    /// The first one counts: a rollout that was forked repeats that of its origin.
    fn meta(&mut self, payload: &Fields<'_>) {
        if self.session.is_some() {
            return;
        }
        self.session = payload.text("id");
        let text = payload.within("base_instructions", |base| base.text("text")).flatten();
        if let Some(text) = text.or_else(|| payload.text("instructions")) {
            let part = Part::text("instructions", Role::Developer, text);
            self.instructions = vec![Part { opens_message: true, ends_message: true, ..part }];
            self.history.splice(0..0, self.instructions.iter().cloned());
        }
    }

    fn compact(&mut self, payload: &Fields<'_>, asked: Asked) -> Parsed<()> {
        (self.history, self.items, self.open) = (self.instructions.clone(), 0, None);
        self.asked = asked;
        if let Some(items) = payload.list("replacement_history") {
            return items.iter().try_for_each(|raw| self.push(&parse(raw, "payload.replacement_history")?));
        }
        let summary = payload.text("message").unwrap_or_default();
        self.push(&serde_json::json!({ "role": "user", "content": summary }))
    }

    fn push(&mut self, value: &Value) -> Parsed<()> {
        let mut parts = Parts::default();
        item(&mut parts, &format!("input[{}]", self.items), value)?;
        self.items += 1;
        self.history.extend(parts.finish().0);
        Ok(())
    }

    /// Notes an item.
    fn note(&mut self, value: &Value, asked: Asked) -> Parsed<Step> {
        let kind = value.get("type").and_then(Value::as_str).unwrap_or("message");
        if kind == "ghost_snapshot" {
            // A note of the client for itself, which is never sent.
            return Ok(Step::Nothing);
        }
        let mut step = Step::Nothing;
        match item_role(kind, value) {
            Role::Assistant | Role::ToolCall | Role::Reasoning => {
                self.open.get_or_insert(Sent { asked: self.asked, parts: self.history.len() });
            }
            // The results of tools may come while the response that called them is still under way.
            Role::ToolResult => self.asked = asked,
            Role::Tools | Role::Developer | Role::User => {
                if self.open.take().is_some() {
                    // The response before was broken off.
                    step = Step::WithoutUsage;
                }
                self.asked = asked;
            }
        }
        self.push(value).map(|()| step)
    }

    /// Makes a call of a response that is complete.
    fn answered(&mut self, info: &Fields<'_>, now: Asked) -> Parsed<Step> {
        let totals = info.get("total_token_usage").map(|raw| raw.get().to_string());
        if totals.is_some() && totals == self.totals {
            return Ok(Step::Nothing);
        }
        self.totals = totals;
        let usage =
            info.object("last_token_usage").map_or(Ok(Usage::default()), |last| usage::of_fields(&last))?;
        let sent = self.open.take().unwrap_or(Sent { asked: self.asked, parts: self.history.len() });
        if usage.prompt_tokens.is_none_or(|tokens| tokens == 0) {
            return Ok(Step::WithoutUsage);
        }
        let mut call =
            Call { line: sent.asked.line.max(1), time: sent.asked.time.or(now.time), ..Call::default() };
        (call.session, call.key, call.usage) = (self.session.clone(), self.session.clone(), usage);
        call.total = now.time.zip(sent.asked.time).map(|(end, start)| end.since(start));
        call.settings.prefix.extend(self.model.clone().map(|model| ("model", model)));
        call.settings.prefix.extend(self.effort.clone().map(|effort| ("reasoning.effort", effort)));
        call.body = Some(Body { parts: self.history[..sent.parts].to_vec() });
        Ok(Step::Call(Box::new(call)))
    }
}
