//! Public words: of what stands beside the text of a prompt, what an anonymized log may say aloud.
//!
//! Only the vendors' own words pass. Whatever a user may have named (a deployment, a fine-tuned model, a schema, a tier
//! of a gateway) is no word of theirs.

/// What a setting may be, by its name.
const SETTINGS: [(&str, &[&str]); 6] = [
    ("service_tier", &["auto", "default", "flex", "priority", "scale", "standard", "standard_only", "batch"]),
    ("reasoning.effort", &["none", "minimal", "low", "medium", "high", "xhigh", "max"]),
    ("text.verbosity", &["low", "medium", "high"]),
    ("text.format", &["text", "json_object", "{\"type\":\"text\"}", "{\"type\":\"json_object\"}"]),
    ("parallel_tool_calls", &["true", "false"]),
    ("phase", &["commentary", "final_answer"]),
];
/// Policies of retention that are no lifetimes.
const POLICIES: [&str; 3] = ["in_memory", "in-memory", "ephemeral"];

/// Vendors, their regions, and families of models: a model's name begins with one.
const FAMILIES: &str = "\
    gpt chatgpt codex o1 o3 o4 computer claude gemini gemma deepseek mistral ministral mixtral magistral \
    devstral codestral pixtral grok llama qwen kimi glm groq command nova phi openai azure anthropic \
    google vertex bedrock openrouter xai meta moonshotai us eu apac global any";
/// What may follow in it, beside numbers.
const VARIANTS: &str = "\
    mini nano micro turbo pro preview latest max chat instruct audio realtime search vision oss deep \
    research use opus sonnet haiku instant fable mythos flash lite ultra exp experimental thinking \
    reasoning reasoner non large medium small tiny code coder fast beta plus versatile scout maverick \
    next speciale free sol luna terra astra it";
/// The longest name of a model.
const LONGEST_MODEL: usize = 64;

/// Fields of the three APIs that lead to a part.
const FIELDS: &str = "\
    input instructions messages system tools functions content text name refusal output summary source \
    data thinking encrypted_content reasoning reasoning_content tool_calls function_call prompt file \
    message arguments";

fn is_among(words: &str, word: &str) -> bool {
    words.split(' ').any(|known| known == word)
}

/// Whether a setting's value may be said.
pub(super) fn is_public(setting: &str, value: &str) -> bool {
    match setting {
        "model" => is_model(value),
        "retention" => POLICIES.contains(&value) || is_number(value.trim_end_matches(['s', 'm', 'h', 'd'])),
        _ => SETTINGS.iter().any(|(name, words)| *name == setting && words.contains(&value)),
    }
}

/// Whether each piece of a model's name is a vendor's word or a version, and the first one a family or a vendor.
fn is_model(name: &str) -> bool {
    let lower = name.to_lowercase();
    let mut pieces = lower.split(['-', '/', '.', ':', '@', '_']);
    let known = |piece: &str| is_among(FAMILIES, piece) || is_among(VARIANTS, piece) || is_version(piece);
    name.len() <= LONGEST_MODEL && pieces.next().is_some_and(is_family) && pieces.all(known)
}

/// What a model's name begins with before a word of the user's: by that it is judged. Empty if nothing.
pub(super) fn public_start(name: &str) -> &str {
    let mut ends = name.match_indices('-').map(|(end, _)| &name[..end]);
    ends.rfind(|start| is_model(start)).unwrap_or_default()
}

/// Whether a family or a vendor is named, perhaps with a version, as in `qwen3`.
fn is_family(piece: &str) -> bool {
    let name = piece.trim_end_matches(|c: char| c.is_ascii_digit());
    is_among(FAMILIES, piece) || is_among(FAMILIES, name) && is_number(&piece[name.len()..])
}

/// A version such as `4o`, `v2`, `70b`, or the day of one.
fn is_version(piece: &str) -> bool {
    let number = piece.strip_prefix(|c: char| c.is_ascii_lowercase()).unwrap_or(piece);
    let number = number.strip_suffix(|c: char| c.is_ascii_lowercase()).unwrap_or(number);
    is_number(number)
        || piece.len() == 8 && piece.starts_with("20") && piece.bytes().all(|c| c.is_ascii_digit())
}

/// A number too short to name anyone.
fn is_number(text: &str) -> bool {
    (1..=4).contains(&text.len()) && text.bytes().all(|digit| digit.is_ascii_digit())
}

/// A path up to the first name in it that is not a field of the APIs.
pub(super) fn public_path(path: &str) -> &str {
    let is_known = |step: &str| {
        let (name, index) = step.split_once('[').unwrap_or((step, ""));
        is_among(FIELDS, name) && index.bytes().all(|c| c.is_ascii_digit() || c == b'[' || c == b']')
    };
    let steps: usize = path.split('.').take_while(|step| is_known(step)).map(|step| step.len() + 1).sum();
    &path[..steps.saturating_sub(1)]
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::provider::profile::{Profile, shipped};

    #[test]
    fn names_of_vendors_pass_and_those_of_users_do_not() {
        for name in [
            "gpt-5",
            "gpt-5.2",
            "gpt-4o-2024-08-06",
            "gpt-4.1-mini",
            "o1",
            "o3-mini",
            "o4-mini-deep-research",
            "gpt-5-codex",
            "claude-3-5-sonnet-20241022",
            "claude-opus-4.8",
            "claude-3-5-sonnet@20240620",
            "us.anthropic.claude-3-5-sonnet-20241022-v2:0",
            "gemini-2.5-pro",
            "openai/gpt-5",
            "openrouter/deepseek/deepseek-r1",
            "Meta-Llama-3.1-70B-Instruct",
            "qwen3-coder",
            "gpt-oss-120b",
        ] {
            assert!(is_public("model", name), "{name}");
        }
        for name in [
            "",
            "acme",
            "gpt-acme",
            "gpt-4o-acme-payroll",
            "ft:gpt-4o:acme:payroll:9xyz",
            "azure/payroll",
            "gpt-5-123456789",
            "gpt123456789",
            "0123-4567-8901",
            "claude-für-ann",
            "payroll-gpt-5",
            "mini",
            "gpt 5",
            "gpt-5-ann",
        ] {
            assert!(!is_public("model", name), "{name}");
        }
    }

    #[test]
    fn settings_pass_by_their_words() {
        for (setting, value) in [
            ("service_tier", "flex"),
            ("retention", "24h"),
            ("retention", "in_memory"),
            ("retention", "5m"),
            ("text.format", "{\"type\":\"text\"}"),
            ("phase", "commentary"),
        ] {
            assert!(is_public(setting, value), "{setting}={value}");
        }
        for (setting, value) in [
            ("service_tier", "acme"),
            ("retention", ""),
            ("retention", "acme24h"),
            ("retention", "1234567890"),
            ("text.format", "{\"type\":\"json_schema\",\"name\":\"acme\"}"),
            ("acme", "auto"),
            ("phase", "acme"),
        ] {
            assert!(!is_public(setting, value), "{setting}={value}");
        }
    }

    #[test]
    fn models_of_shipped_profiles_pass() {
        for name in shipped() {
            let models = Profile::load(name, Path::new("")).unwrap().provider(name).unwrap().models;
            for model in models.keys() {
                assert!(is_public("model", model), "{name}: {model}");
            }
        }
    }

    #[test]
    fn paths_end_before_foreign_names() {
        for (path, public) in [
            ("input[312].content[0].text", "input[312].content[0].text"),
            ("tools[3]", "tools[3]"),
            ("tools[3].acme.text", "tools[3]"),
            ("input[acme].text", ""),
            ("", ""),
        ] {
            assert_eq!(public_path(path), public);
        }
    }
}
