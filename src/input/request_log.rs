//! Request log: JSON lines of (time, request, usage).
//!
//! A line may also be a response as the API gave it: usage without a body.
//!
//! * The request stands under `request`, `body`, `request_body`, `params`, `payload` or `req`, there perhaps under
//!   `body` again, as an object or as a text of JSON; or the line itself is the body.
//! * The time: `time`, `timestamp`, `ts`, `created`, `created_at`, `start_time`, `startTime` and the like; lines may
//!   come without one, and in any order.
//! * The usage: `usage`, `response.usage`, `response.body.usage`, or beside the time.
//! * The session: `session`, `session_id`, `conversation`, `conversation_id`, `thread_id`; else a chain of
//!   `previous_response_id` is one.
//! * A call that failed, or of which neither request nor usage is known, is left out and counted.

use rustc_hash::FxHashMap;

use crate::input::body;
use crate::input::call::{Call, Usage};
use crate::input::fields::Fields;
use crate::input::text_lines::Parsed;
use crate::input::usage;
use crate::units::{SimTime, Span};

/// What a line gives.
#[derive(Debug)]
pub(super) enum Step {
    /// A call.
    Call(Box<Call>),
    /// A call that failed, or of which nothing is known.
    WithoutUsage,
    /// Nothing yet.
    Nothing,
}

/// Where a request may stand.
const BODIES: [&str; 6] = ["request", "body", "request_body", "params", "payload", "req"];
/// Where a time may stand.
const TIMES: [&str; 15] = [
    "time",
    "timestamp",
    "ts",
    "time_ms",
    "timestamp_ms",
    "sent_at",
    "start_time",
    "startTime",
    "started_at",
    "request_time",
    "created_at",
    "created",
    "createdAt",
    "datetime",
    "@timestamp",
];
const ENDS: [&str; 5] = ["end_time", "endTime", "ended_at", "completed_at", "finished_at"];
const FIRST_TOKENS: [&str; 3] = ["completionStartTime", "completion_start_time", "first_token_at"];
const TTFT_MS: [&str; 4] = ["ttft_ms", "first_token_latency_ms", "time_to_first_token_ms", "first_token_ms"];
const TOTAL_MS: [&str; 5] = ["total_ms", "total_latency_ms", "latency_ms", "elapsed_ms", "duration_ms"];
const SESSIONS: [&str; 7] = [
    "session",
    "session_id",
    "sessionId",
    "conversation",
    "conversation_id",
    "thread_id",
    "litellm_session_id",
];
/// Where a usage object may stand.
const USAGES: [&[&str]; 7] = [
    &["usage"],
    &["response", "usage"],
    &["response", "body", "usage"],
    &["response_body", "usage"],
    &["response_usage"],
    &["output", "usage"],
    &["metadata", "usage_object"],
];

/// Reads a log; remembers which response belongs to which session.
#[derive(Debug, Default)]
pub(super) struct RequestLog {
    sessions: FxHashMap<String, String>,
}

impl RequestLog {
    /// Reads a line.
    pub fn line(&mut self, line: u64, fields: &Fields<'_>) -> Parsed<Step> {
        let mut call = Call { line, ..Call::default() };
        let found = read_body(fields, &mut call)?;
        self.envelope(fields, &mut call)?;
        call.usage = find_usage(fields)?;
        if !found && call.usage == Usage::default() && !failed(fields) {
            return Err("holds neither a request (`request`, `body`, ...) nor usage (`usage`, ...)".into());
        }
        Ok(step(fields, call))
    }

    /// What stands around the request.
    fn envelope(&mut self, fields: &Fields<'_>, call: &mut Call) -> Parsed<()> {
        envelope(fields, call)?;
        if call.session.is_none() {
            let before = BODIES
                .iter()
                .find_map(|name| fields.within(name, |body| body.text("previous_response_id")).flatten());
            let before = before.or_else(|| fields.text("previous_response_id"));
            call.session = before.map(|before| self.sessions.get(&before).cloned().unwrap_or(before));
        }
        let own = || fields.text("object").filter(|object| object == "response").and(fields.text("id"));
        let inner = || fields.within("response", |response| response.text("id")).flatten();
        let id = fields.text("response_id").or_else(inner).or_else(own);
        if let Some(id) = id {
            // The first response of a chain is what names it.
            let session = call.session.get_or_insert_with(|| id.clone());
            self.sessions.insert(id, session.clone());
        }
        Ok(())
    }
}

/// A call, unless there was none at the provider.
pub(super) fn step(fields: &Fields<'_>, call: Call) -> Step {
    let billed = call.usage.prompt_tokens.is_some_and(|tokens| tokens > 0);
    if billed || call.body.is_some() && !failed(fields) {
        return Step::Call(Box::new(call));
    }
    Step::WithoutUsage
}

/// Reads the time, the session, the model and the latencies that stand around a request.
pub(super) fn envelope(fields: &Fields<'_>, call: &mut Call) -> Parsed<()> {
    call.time = fields.time(&TIMES)?;
    if call.time.is_none() {
        call.time = fields
            .within("response", |response| response.time(&["created_at", "created"]))
            .transpose()?
            .flatten();
    }
    call.session = fields.first_text(&SESSIONS).or_else(|| {
        let inner = ["conversation", "metadata"].iter();
        inner
            .filter_map(|name| fields.within(name, |inner| inner.first_text(&["session_id", "id"])))
            .find_map(|id| id)
    });
    call.key = call.key.take().or_else(|| fields.text("prompt_cache_key"));
    for name in ["model", "service_tier"] {
        if let Some(text) = fields.text(name) {
            call.settings.prefix.entry(name).or_insert(text);
        }
    }
    let since = |end: SimTime| call.time.filter(|time| *time <= end).map(|time| end.since(time));
    call.total = fields.millis(&TOTAL_MS).or(fields.time(&ENDS)?.and_then(since));
    call.ttft = fields.millis(&TTFT_MS).or(fields.time(&FIRST_TOKENS)?.and_then(since));
    drop_false_ttft(call);
    Ok(())
}

/// A first token that came with the last one was not timed: the answer was not streamed.
pub(super) fn drop_false_ttft(call: &mut Call) {
    let total = call.total.unwrap_or(Span::UNLIMITED);
    call.ttft = call.ttft.filter(|ttft| *ttft < total);
}

/// Reads the body that stands in a line, or that the line is; false if there is none.
fn read_body(fields: &Fields<'_>, call: &mut Call) -> Parsed<bool> {
    if body::is_body(fields) {
        return body::read(fields, call).map(|()| true);
    }
    for name in BODIES {
        let found = fields.within(name, |request| {
            if body::is_body(request) {
                return body::read(request, call).map(|()| true);
            }
            // A log of a proxy keeps the body beside the headers.
            let inner = request.within("body", |inner| {
                let found = body::is_body(inner);
                if found { body::read(inner, call).map(|()| true) } else { Ok(false) }
            });
            inner.unwrap_or(Ok(false))
        });
        match found {
            Some(Ok(false)) => (),
            Some(answer) => return answer.map_err(|message| format!("`{name}`: {message}")),
            None if fields.text(name).is_some_and(|text| text.trim_start().starts_with('{')) => {
                return Err(format!(
                    "`{name}` is a text that begins like a JSON object and is none: it is cut off"
                ));
            }
            None => (),
        }
    }
    Ok(false)
}

/// The usage that stands in a line.
pub(super) fn find_usage(fields: &Fields<'_>) -> Parsed<Usage> {
    for path in USAGES {
        if let Some(usage) = usage_at(fields, path) {
            let usage = usage?;
            if usage.prompt_tokens.is_some() {
                return Ok(usage);
            }
        }
    }
    usage::of_fields(fields)
}

fn usage_at(fields: &Fields<'_>, path: &[&str]) -> Option<Parsed<Usage>> {
    let (first, rest) = path.split_first()?;
    fields.within(first, |inner| {
        if rest.is_empty() { Some(usage::of_fields(inner)) } else { usage_at(inner, rest) }
    })?
}

/// Whether a line says that the call failed.
pub(super) fn failed(fields: &Fields<'_>) -> bool {
    let codes = ["status", "status_code", "http_status", "statusCode"];
    let code = codes.iter().filter_map(|name| fields.text(name)).any(|status| {
        let refused = status.parse().is_ok_and(|code: u16| code >= 400);
        refused || matches!(status.as_str(), "failure" | "failed" | "error")
    });
    let error = fields.get("error").is_some_and(|error| !matches!(error.get(), "\"\"" | "false" | "{}"));
    let not_ok = |name| fields.get(name).is_some_and(|ok| matches!(ok.get(), "0" | "false"));
    let inside = |name| fields.within(name, failed).unwrap_or(false);
    code || error || not_ok("ok") || not_ok("success") || not_ok("http_ok") || inside("response")
}
