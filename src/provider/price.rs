//! Tokens to money.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units::{Tokens, Usd};

/// One model's prices in USD per million tokens, and the retention policies it supports.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// USD per million uncached input tokens.
    pub input: f64,
    /// USD per million cached input tokens.
    pub cached: f64,
    /// USD per million input tokens written to the cache, in place of `input`; absent if writing costs nothing
    /// extra.
    #[serde(default)]
    pub write: Option<f64>,
    /// USD per million output tokens; absent if unknown: costs then count the input side only.
    #[serde(default)]
    pub output: Option<f64>,
    /// Retention policies that this model supports.
    pub retention: Vec<String>,
    /// What long prompts cost; absent if their length changes no price.
    #[serde(default)]
    pub long_prompt: Option<LongPrompt>,
}

/// A surcharge on a whole request by the length of its prompt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LongPrompt {
    /// Prompts of more tokens than this are long.
    pub above: Tokens,
    /// What the prices of input, cached and written tokens are multiplied by.
    pub input_factor: f64,
    /// What the price of output tokens is multiplied by.
    pub output_factor: f64,
}

/// Prices per token as integers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prices {
    normal: Rates,
    /// Those of prompts longer than this.
    long: Option<(Tokens, Rates)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rates {
    input: i128,
    cached: i128,
    write: i128,
    output: i128,
}

/// The most that a long prompt's prices are multiplied by.
const MOST_FACTOR: f64 = 1e3;

impl Model {
    /// Checks what the types cannot say; the error names the field.
    pub fn validate(&self) -> Result<(), (&'static str, String)> {
        let prices = [
            ("input", Some(self.input)),
            ("cached", Some(self.cached)),
            ("write", self.write),
            ("output", self.output),
        ];
        for (field, price) in prices {
            if price.is_some_and(|price| !(0.0..=1e6).contains(&price)) {
                return Err((field, "must be a price from 0 to 1,000,000 USD per million tokens".into()));
            }
        }
        self.long_prompt.as_ref().map_or(Ok(()), LongPrompt::validate)
    }

    /// The prices per token.
    pub fn prices(&self) -> Prices {
        let long = |long: &LongPrompt| (long.above, self.rates(long.input_factor, long.output_factor));
        Prices { normal: self.rates(1.0, 1.0), long: self.long_prompt.as_ref().map(long) }
    }

    fn rates(&self, input_factor: f64, output_factor: f64) -> Rates {
        // A dollar per million tokens is a million pico-dollars a token.
        let per_token = |price: f64, factor: f64| (price * factor * 1e6).round() as i128;
        Rates {
            input: per_token(self.input, input_factor),
            cached: per_token(self.cached, input_factor),
            write: per_token(self.write.unwrap_or(self.input), input_factor),
            output: per_token(self.output.unwrap_or(0.0), output_factor),
        }
    }
}

impl LongPrompt {
    fn validate(&self) -> Result<(), (&'static str, String)> {
        if self.above == 0 {
            return Err(("long_prompt.above", "must be 1 or more".into()));
        }
        let factors = [
            ("long_prompt.input_factor", self.input_factor),
            ("long_prompt.output_factor", self.output_factor),
        ];
        match factors.into_iter().find(|(_, factor)| !(0.0..=MOST_FACTOR).contains(factor)) {
            Some((field, _)) => Err((field, format!("must be from 0 to {MOST_FACTOR}"))),
            None => Ok(()),
        }
    }
}

impl Prices {
    /// What one request costs.
    pub fn cost(&self, prompt: Tokens, cached: Tokens, written: Tokens, output: Tokens) -> Usd {
        let mut billed = Billed::default();
        self.bill(&mut billed, prompt, cached, written, output);
        self.total(&billed)
    }

    /// What all that was billed costs.
    pub fn total(&self, billed: &Billed) -> Usd {
        let long = self.long.as_ref().map_or(&self.normal, |(_, rates)| rates);
        let cost = |tokens: u64, price: i128| i128::from(tokens) * price;
        let of = |tokens: &TokensBilled, rates: &Rates| {
            cost(tokens.plain, rates.input)
                + cost(tokens.cached, rates.cached)
                + cost(tokens.written, rates.write)
                + cost(tokens.output, rates.output)
        };
        Usd(of(&billed.normal, &self.normal) + of(&billed.long, long))
    }

    /// Notes a request in `billed`.
    #[inline(always)]
    pub fn bill(&self, billed: &mut Billed, prompt: Tokens, cached: Tokens, written: Tokens, output: Tokens) {
        let long = self.long.as_ref().is_some_and(|(above, _)| prompt > *above);
        let tokens = if long { &mut billed.long } else { &mut billed.normal };
        let written = written.min(prompt - cached);
        tokens.plain += u64::from(prompt - cached - written);
        tokens.cached += u64::from(cached);
        tokens.written += u64::from(written);
        tokens.output += u64::from(output);
    }
}

/// The tokens of many requests, by the price they have.
#[derive(Clone, Debug, Default)]
pub struct Billed {
    normal: TokensBilled,
    long: TokensBilled,
}

#[derive(Clone, Debug, Default)]
struct TokensBilled {
    plain: u64,
    cached: u64,
    written: u64,
    output: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model() -> Model {
        Model {
            input: 2.0,
            cached: 0.2,
            write: Some(2.5),
            output: None,
            retention: Vec::new(),
            long_prompt: None,
        }
    }

    #[test]
    fn one_write_and_nine_reads_cost_2_15_prompts() {
        let prices = model().prices();
        let prompt = prices.cost(1_000_000, 0, 0, 0);
        let all: i128 =
            prices.cost(1_000_000, 0, 1_000_000, 0).0 + 9 * prices.cost(1_000_000, 1_000_000, 0, 0).0;
        assert_eq!((prompt.dollars(), all * 100 / prompt.0), (2.0, 215));
    }
    #[test]
    fn a_prompt_of_one_token_too_many_costs_more_from_its_first_token_on() {
        let long = LongPrompt { above: 272_000, input_factor: 2.0, output_factor: 1.5 };
        let prices = Model { output: Some(10.0), long_prompt: Some(long), ..model() }.prices();
        // 200,000 cached at 0.2, 70,000 written at 2.5, 2,000 others at 2.0 and 1,000 of output at 10.0.
        let just_short = 200_000 * 200_000 + 70_000 * 2_500_000 + 2_000 * 2_000_000 + 1_000 * 10_000_000;
        assert_eq!(prices.cost(272_000, 200_000, 70_000, 1_000), Usd(just_short));
        // All input twice as dear, 2,001 others, output at 15.0.
        let long = 200_000 * 400_000 + 70_000 * 5_000_000 + 2_001 * 4_000_000 + 1_000 * 15_000_000;
        assert_eq!(prices.cost(272_001, 200_000, 70_000, 1_000), Usd(long));
        assert_eq!(prices.cost(272_001, 0, 0, 0), Usd(272_001 * 4_000_000));
    }
}
