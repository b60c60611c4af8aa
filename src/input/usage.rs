//! Usage: what the vendors say was billed -> the same counts.
//!
//! OpenAI counts cached tokens inside the prompt (`prompt_tokens`, `input_tokens`), Anthropic beside it: there the
//! prompt is `input_tokens` + `cache_read_input_tokens` + `cache_creation_input_tokens`. Gateways translate to
//! `prompt_tokens` and may keep Anthropic's names beside it; the whole prompt is then `prompt_tokens`.

use crate::input::call::Usage;
use crate::input::fields::Fields;
use crate::input::text_lines::Parsed;
use crate::input::trace::MOST_TOKENS;
use crate::units::Tokens;

/// Tokens read from the cache, as parts of the prompt.
const CACHED: [&str; 10] = [
    "prompt_tokens_details.cached_tokens",
    "input_tokens_details.cached_tokens",
    "cached_tokens",
    "cached_input_tokens",
    "cached_prompt_tokens",
    "native_tokens_cached",
    "nativeTokensCached",
    "tokens_cached",
    "prompt_cache_hit_tokens",
    "cache_read_tokens",
];
/// Tokens written to the cache, as parts of the prompt.
const WRITTEN: [&str; 8] = [
    "prompt_tokens_details.cache_write_tokens",
    "input_tokens_details.cache_write_tokens",
    "prompt_tokens_details.cache_creation_tokens",
    "cache_write_tokens",
    "cache_write_input_tokens",
    "written_tokens",
    "cache_creation_tokens",
    "native_tokens_cache_write",
];
const OUTPUT: [&str; 6] = [
    "completion_tokens",
    "output_tokens",
    "native_tokens_completion",
    "nativeTokensCompletion",
    "tokens_completion",
    "tokensCompletion",
];
/// The whole prompt, cached tokens included; OpenRouter's own counts come after those of the provider.
const WHOLE: [&str; 5] =
    ["prompt_tokens", "native_tokens_prompt", "nativeTokensPrompt", "tokens_prompt", "tokensPrompt"];
/// Anthropic's names: beside `input_tokens`, but inside `prompt_tokens`.
const READ_BESIDE: &str = "cache_read_input_tokens";
const CREATED_BESIDE: &str = "cache_creation_input_tokens";

/// Every name of a count in a table.
pub(super) const NAMES: [&str; 16] = [
    "prompt_tokens",
    "native_tokens_prompt",
    "native_tokens_cached",
    "native_tokens_completion",
    "tokens_prompt",
    "tokens_completion",
    "input_tokens",
    "cached_tokens",
    "cached_input_tokens",
    "cached_prompt_tokens",
    "cache_read_input_tokens",
    "cache_creation_input_tokens",
    "cache_write_tokens",
    "written_tokens",
    "completion_tokens",
    "output_tokens",
];

/// Whether these names of counts say how long a prompt was, and how much of it was read.
pub(super) fn tells_reading(names: &[&str]) -> bool {
    let any = |wanted: &[&str]| names.iter().any(|name| wanted.contains(name));
    (any(&WHOLE) || any(&["input_tokens"])) && (any(&CACHED) || any(&[READ_BESIDE]))
}

/// The counts of a usage object, or of whatever has fields with its names.
pub(super) fn of_fields(fields: &Fields<'_>) -> Parsed<Usage> {
    usage(|name| fields.count(name))
}

/// The counts that stand under the vendors' names.
pub(super) fn usage(get: impl Fn(&str) -> Parsed<Option<Tokens>>) -> Parsed<Usage> {
    let first = |names: &[&str]| -> Parsed<Option<Tokens>> {
        for name in names {
            if let Some(count) = get(name)? {
                return Ok(Some(count));
            }
        }
        Ok(None)
    };
    let (read, created) = (get(READ_BESIDE)?, get(CREATED_BESIDE)?);
    let (whole, input) = (first(&WHOLE)?, get("input_tokens")?);
    let detailed = first(&CACHED)?;
    let prompt_tokens = match (whole, input) {
        (Some(whole), _) => Some(whole),
        // With OpenAI's details beside it, the input is the whole prompt.
        (None, Some(input)) if detailed.is_some() => Some(input),
        (None, Some(input)) => Some(sum([input, read.unwrap_or(0), created.unwrap_or(0)])?),
        (None, None) => None,
    };
    let usage = Usage {
        prompt_tokens,
        cached_tokens: detailed.max(read),
        written_tokens: first(&WRITTEN)?.or(created),
        output_tokens: first(&OUTPUT)?,
    };
    usage.check()?;
    Ok(usage)
}

fn sum(counts: [Tokens; 3]) -> Parsed<Tokens> {
    let sum: u64 = counts.into_iter().map(u64::from).sum();
    let sum = Tokens::try_from(sum).ok().filter(|sum| *sum <= MOST_TOKENS);
    sum.ok_or_else(|| {
        format!("`input_tokens` and the tokens read and created make a prompt above {MOST_TOKENS} tokens")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Parsed<Usage> {
        of_fields(&Fields::parse(json).unwrap())
    }

    fn counts(prompt: u32, cached: Option<u32>, written: Option<u32>, output: Option<u32>) -> Usage {
        Usage {
            prompt_tokens: Some(prompt),
            cached_tokens: cached,
            written_tokens: written,
            output_tokens: output,
        }
    }

    #[test]
    fn vendors_say_the_same_in_their_own_words() {
        for json in [
            r#"{"prompt_tokens": 2006, "completion_tokens": 300,
                "prompt_tokens_details": {"cached_tokens": 1920, "cache_write_tokens": 50}}"#,
            r#"{"input_tokens": 2006, "output_tokens": 300, "total_tokens": 2306,
                "input_tokens_details": {"cached_tokens": 1920, "cache_write_tokens": 50}}"#,
            r#"{"input_tokens": 36, "cache_read_input_tokens": 1920, "cache_creation_input_tokens": 50,
                "output_tokens": 300, "cache_creation": {"ephemeral_5m_input_tokens": 50}}"#,
            r#"{"prompt_tokens": 2006, "cache_read_input_tokens": 1920, "cache_creation_input_tokens": 50,
                "completion_tokens": 300}"#,
            r#"{"native_tokens_prompt": 2006, "native_tokens_cached": 1920, "cache_write_tokens": 50,
                "native_tokens_completion": 300}"#,
        ] {
            assert_eq!(read(json), Ok(counts(2006, Some(1920), Some(50), Some(300))), "{json}");
        }
        let codex = r#"{"input_tokens": 9, "cached_input_tokens": 4, "output_tokens": 2, "reasoning_output_tokens": 1}"#;
        assert_eq!(read(codex), Ok(counts(9, Some(4), None, Some(2))));
        assert_eq!(
            read(r#"{"prompt_tokens": 5, "prompt_tokens_details": null}"#),
            Ok(counts(5, None, None, None))
        );
        assert_eq!(read("{}"), Ok(Usage::default()));
    }

    #[test]
    fn contradictions_and_negative_counts_are_refused() {
        for (json, what) in [
            (r#"{"prompt_tokens": -1}"#, "`prompt_tokens` is -1"),
            (r#"{"prompt_tokens": 10, "prompt_tokens_details": {"cached_tokens": 11}}"#, "11 cached tokens"),
            (
                r#"{"prompt_tokens": 10, "cached_tokens": 6, "cache_write_tokens": 5}"#,
                "11 cached and written",
            ),
            (r#"{"input_tokens": 2147483648, "cache_read_input_tokens": 2147483648}"#, "above 2147483648"),
        ] {
            assert!(read(json).unwrap_err().contains(what), "{json}");
        }
    }

    #[test]
    fn usage_in_the_names_of_both_vendors_counts_once() {
        let both = read(
            r#"{"input_tokens": 2006, "input_tokens_details": {"cached_tokens": 1920}, "cache_read_input_tokens": 1920}"#,
        );
        let both = both.unwrap();
        assert_eq!((both.prompt_tokens, both.cached_tokens), (Some(2_006), Some(1_920)));
        let zero = read(
            r#"{"prompt_tokens": 2000, "prompt_tokens_details": {"cached_tokens": 0}, "cache_read_input_tokens": 1500}"#,
        );
        assert_eq!(zero.unwrap().cached_tokens, Some(1_500));
    }
}
