//! What one call says by itself.

use crate::experiment::check::finding::{Finding, Findings};
use crate::experiment::check::seen::Seen;
use crate::experiment::preflight::longer_than_implicit;
use crate::experiment::rule::{Rule, Severity};
use crate::input::call::Role;
use crate::provider::write::Semantics;
use crate::units::Tokens;

/// Looks at a call; what looks volatile lies at `moving`, if anything does.
pub fn look(seen: &Seen<'_>, moving: Option<Tokens>, findings: &mut Findings) {
    below_minimum(seen, findings);
    unsupported_retention(seen, findings);
    phases(seen, findings);
    if seen.has_settings {
        implicit_retention(seen, findings);
        no_reasoning(seen, findings);
        marks(seen, moving, findings);
    }
}

fn below_minimum(seen: &Seen<'_>, findings: &mut Findings) {
    let minimum = seen.provider().write.min_tokens;
    let is_known = !seen.parts.is_empty() || seen.call.usage.prompt_tokens.is_some();
    if !is_known || seen.tokens >= minimum {
        return;
    }
    let mut words = format!("{} tokens, and below {minimum} nothing is cached", seen.tokens);
    if let Some(uses) = padding_pays(seen, minimum) {
        words += &format!(": padding it pays from {uses} uses within the lifetime on");
    }
    findings.add("", Finding::new(Rule::BelowMinimum, seen.place.clone(), words));
}

/// From how many uses on `minimum` tokens, written once and read then, are cheaper than these are.
fn padding_pays(seen: &Seen<'_>, minimum: Tokens) -> Option<u64> {
    let prices = seen.provider().chosen_model().prices();
    let plain = prices.cost(seen.tokens, 0, 0, 0).0;
    let read = prices.cost(minimum, minimum, 0, 0).0;
    let write = prices.cost(minimum, 0, minimum, 0).0;
    // write + (n - 1) read < n plain
    let gained = plain - read;
    (gained > 0).then(|| ((write - read) / gained + 1) as u64)
}

fn implicit_retention(seen: &Seen<'_>, findings: &mut Findings) {
    let provider = seen.provider();
    let chosen = seen.call.settings.retention.is_some();
    let is_short = !seen.parts.is_empty() && seen.tokens < provider.write.min_tokens;
    if chosen || !seen.contract.exact || is_short {
        return;
    }
    let Some((applies, longer)) = longer_than_implicit(provider, false) else { return };
    let words = format!(
        "no retention is asked for: `{applies}` ({}) applies under {}, though {} has {}",
        provider.retention.lifetime[applies],
        provider.profile,
        provider.model,
        longer.join(", ")
    );
    findings.add("", Finding::new(Rule::ImplicitRetention, seen.place.at("prompt_cache_retention"), words));
}

fn unsupported_retention(seen: &Seen<'_>, findings: &mut Findings) {
    let provider = seen.provider();
    let Some(wanted) = seen.call.settings.retention.as_deref() else { return };
    // A breakpoint's time to live is no policy of the request.
    let is_policy = !["5m", "30m", "1h"].contains(&wanted);
    let openai = provider.profile.starts_with("openai") || provider.profile.starts_with("azure");
    if !seen.contract.exact || !is_policy || !openai {
        return;
    }
    if let Err(words) = provider.policy(Some(wanted), false) {
        let place = seen.place.at("prompt_cache_retention");
        findings.add("", Finding::new(Rule::UnsupportedRetention, place, words));
    }
}

/// Some answers of the model with a phase, and some without.
fn phases(seen: &Seen<'_>, findings: &mut Findings) {
    let answers =
        || seen.parts.iter().enumerate().filter(|(_, p)| p.role == Role::Assistant && p.opens_message);
    if !answers().any(|(_, part)| part.phase.is_some()) {
        return;
    }
    let Some((part, first)) = answers().find(|(_, part)| part.phase.is_none()) else { return };
    let words = "an assistant message without a phase, though others have one";
    let finding = Finding::new(Rule::DroppedPhase, seen.place.at(&first.path), words);
    findings.add("mixed", Finding { depth: seen.depth(seen.start(part)), ..finding });
}

/// A model that reasons, and none of it is sent back.
fn no_reasoning(seen: &Seen<'_>, findings: &mut Findings) {
    let effort = seen.call.settings.prefix.get("reasoning.effort").map(String::as_str);
    if effort.is_none_or(|effort| effort == "none") {
        return;
    }
    let has = |roles: &[Role]| seen.parts.iter().position(|part| roles.contains(&part.role));
    let (Some(part), None) = (has(&[Role::Assistant, Role::ToolCall]), has(&[Role::Reasoning])) else {
        return;
    };
    let words = "the model reasons, and none of its earlier reasoning is sent back";
    let finding = Finding::new(Rule::DroppedReasoning, seen.place.at(&seen.parts[part].path), words);
    let depth = seen.depth(seen.start(part));
    findings.add("never", Finding { severity: Severity::Note, depth, ..finding });
}

fn marks(seen: &Seen<'_>, moving: Option<Tokens>, findings: &mut Findings) {
    let write = &seen.provider().write;
    if write.semantics != Semantics::Breakpoints || seen.parts.is_empty() {
        return;
    }
    let explicit_only = seen.call.settings.explicit_only;
    let implicit = write.implicit_breakpoint && !explicit_only;
    let marks: Vec<usize> = (0..seen.parts.len()).filter(|part| seen.parts[*part].marked).collect();
    let chosen = implicit || write.developer_breakpoint && !explicit_only;
    if marks.is_empty() {
        if !chosen && seen.tokens >= write.min_tokens {
            let words = match write.implicit_breakpoint {
                true => "the explicit mode is asked for, and nothing is marked: nothing is cached",
                false => "this provider stores at marks only, and there are none: nothing is cached",
            };
            findings.add("", Finding::new(Rule::NoMarks, seen.place.clone(), words));
        }
        return;
    }
    let room = write.max_writes as usize - usize::from(implicit);
    if marks.len() > room {
        let words = format!(
            "{} marks{}, and one request writes {} boundaries at most",
            marks.len(),
            if implicit { " and the implicit one" } else { "" },
            write.max_writes
        );
        // Where there is an implicit one, the first marks are read though not written: a start that stays may be meant.
        let severity = if implicit { Severity::Warning } else { Severity::Error };
        let finding = Finding::new(Rule::TooManyMarks, seen.place.at(&seen.parts[marks[room]].path), words);
        findings.add("", Finding { severity, ..finding });
    }
    useless_marks(seen, &marks, findings);
    // A mark at the end of the latest message stands behind everything: others count.
    let first = marks.iter().map(|part| seen.pieces[*part].end).min();
    let (Some(moving), Some(first)) = (moving, first) else { return };
    if first > moving && moving >= write.min_tokens {
        behind_volatile(seen, marks[0], moving, findings);
    }
}

fn useless_marks(seen: &Seen<'_>, marks: &[usize], findings: &mut Findings) {
    let minimum = seen.provider().write.min_tokens;
    for part in marks {
        let (path, end) = (&seen.parts[*part].path, seen.pieces[*part].end);
        let words = match () {
            () if path.starts_with("instructions") => "top-level `instructions` carry no mark".to_string(),
            () if end < minimum => format!("a mark at token {end}, and below {minimum} nothing is stored"),
            () => continue,
        };
        let finding = Finding::new(Rule::UselessMark, seen.place.at(path), words);
        findings.add("", Finding { depth: seen.depth(end), ..finding });
    }
}

fn behind_volatile(seen: &Seen<'_>, part: usize, moving: Tokens, findings: &mut Findings) {
    let end = seen.pieces[part].end;
    let words = format!(
        "the first mark stands at token {end}, and what looks volatile at token {moving}: up to there nothing is marked"
    );
    let finding = Finding::new(Rule::MarkBehindVolatile, seen.place.at(&seen.parts[part].path), words);
    findings.add("", Finding { depth: seen.depth(end), ..finding });
}
