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
}

/// Prices per token as integers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prices {
    input: i128,
    cached: i128,
    write: i128,
    output: i128,
}

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
        Ok(())
    }

    /// The prices per token.
    pub fn prices(&self) -> Prices {
        // A dollar per million tokens is a million pico-dollars a token.
        let per_token = |price: f64| (price * 1e6).round() as i128;
        Prices {
            input: per_token(self.input),
            cached: per_token(self.cached),
            write: per_token(self.write.unwrap_or(self.input)),
            output: per_token(self.output.unwrap_or(0.0)),
        }
    }
}

impl Prices {
    /// What one request costs.
    pub fn cost(&self, prompt: Tokens, cached: Tokens, written: Tokens, output: Tokens) -> Usd {
        let written = written.min(prompt - cached);
        let plain = prompt - cached - written;
        let cost = |tokens: Tokens, price: i128| i128::from(tokens) * price;
        Usd(cost(plain, self.input)
            + cost(cached, self.cached)
            + cost(written, self.write)
            + cost(output, self.output))
    }

    /// What it would cost without a cache.
    pub fn uncached_cost(&self, prompt: Tokens, output: Tokens) -> Usd {
        self.cost(prompt, 0, 0, output)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_write_and_nine_reads_cost_2_15_prompts() {
        let model = Model { input: 2.0, cached: 0.2, write: Some(2.5), output: None, retention: Vec::new() };
        let prices = model.prices();
        let prompt = prices.uncached_cost(1_000_000, 0);
        let all: i128 =
            prices.cost(1_000_000, 0, 1_000_000, 0).0 + 9 * prices.cost(1_000_000, 1_000_000, 0, 0).0;
        assert_eq!((prompt.dollars(), all * 100 / prompt.0), (2.0, 215));
    }
}
