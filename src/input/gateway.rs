//! Gateway: JSON lines of usage as LiteLLM and OpenRouter write it.
//!
//! * LiteLLM: a row of its spend logs, or a standard logging payload (perhaps under `standard_logging_object`):
//!   `startTime`, `completionStartTime`, `endTime`, `model`, `prompt_tokens`, details in `metadata.usage_object` or
//!   `response.usage`. Bodies only where it was told to keep them: `proxy_server_request`, or `messages` with
//!   `model_parameters` (`optional_params`). What its own cache answered never reached a provider, and is left out.
//! * OpenRouter: the record of a generation (perhaps under `data`): `created_at`, `native_tokens_prompt` and
//!   `native_tokens_cached` (the provider's own counts), in either spelling of names.

use crate::input::body;
use crate::input::call::Call;
use crate::input::fields::Fields;
use crate::input::request_log::{Step, drop_false_ttft, envelope, find_usage, step};
use crate::input::text_lines::Parsed;
use crate::units::Span;

/// Where a payload may stand.
const PAYLOADS: [&str; 2] = ["standard_logging_object", "data"];
/// What names a conversation, beside a session.
const TRACES: [&str; 2] = ["trace_id", "litellm_trace_id"];

/// Reads a line.
pub(super) fn line(number: u64, fields: &Fields<'_>) -> Parsed<Step> {
    match PAYLOADS.iter().find_map(|name| fields.object(name)) {
        Some(payload) => record(number, &payload),
        None => record(number, fields),
    }
}

fn record(number: u64, fields: &Fields<'_>) -> Parsed<Step> {
    if fields.is_true("cache_hit") {
        return Ok(Step::WithoutUsage);
    }
    let mut call = Call { line: number, ..Call::default() };
    read_body(fields, &mut call)?;
    envelope(fields, &mut call)?;
    call.session = call.session.take().or_else(|| fields.first_text(&TRACES));
    latencies(fields, &mut call);
    call.usage = find_usage(fields)?;
    Ok(step(fields, call))
}

fn read_body(fields: &Fields<'_>, call: &mut Call) -> Parsed<()> {
    let whole = fields.within("proxy_server_request", |request| {
        if body::is_body(request) {
            return Some(body::read(request, call));
        }
        request.within("body", |inner| body::is_body(inner).then(|| body::read(inner, call)))?
    });
    if let Some(read) = whole.flatten() {
        return read;
    }
    let parameters = ["model_parameters", "optional_params"].iter().find_map(|name| fields.object(name));
    let merged = parameters.map(|parameters| fields.beside(&parameters));
    let fields = merged.as_ref().unwrap_or(fields);
    if body::is_body(fields) { body::read(fields, call) } else { Ok(()) }
}

/// OpenRouter's times, in milliseconds. Its pages call `latency` the whole, but records hold smaller ones than the time
/// of generating alone: such a one is the time to the first token.
fn latencies(fields: &Fields<'_>, call: &mut Call) {
    let latency = fields.millis(&["latency"]);
    let generating = fields.millis(&["generation_time", "generationTime"]);
    if let (Some(latency), Some(generating), None) = (latency, generating, call.total) {
        let first = latency < generating;
        call.ttft = first.then_some(latency);
        call.total = Some(if first { Span(latency.0.saturating_add(generating.0)) } else { latency });
        drop_false_ttft(call);
    }
}
