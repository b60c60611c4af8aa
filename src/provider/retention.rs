//! For how long a boundary lives: `in_memory`, `24h`, and whatever other policies a provider names.
//!
//! Every request draws its own lifetime L at its arrival, and renews every boundary it writes and every live
//! boundary down to what it read: `expiry = max(old, arrival + L)`. A boundary is alive at age L and dead after.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::random::SpanDistribution;
use crate::units::Span;

/// The retention policies of a provider.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Retention {
    /// The policy in force when a request names none.
    pub default: String,
    /// Idle lifetime under each policy: a time span or a distribution of them.
    pub lifetime: BTreeMap<String, SpanDistribution>,
    /// Policies allowed under zero data retention (client.zero_data_retention), the first supported one being the
    /// default there.
    pub zero_data_retention: Vec<String>,
    /// Where what is stored lies, in one line.
    pub residency: String,
}

/// The longest lifetime that a policy's name promises.
const LONGEST: [(&str, Span); 2] = [("in_memory", Span::from_seconds(3_600)), ("24h", Span::DAY)];

impl Retention {
    /// A policy with its law, for tables.
    pub fn describe(&self, policy: &str) -> String {
        self.lifetime.get(policy).map_or(policy.to_string(), |law| format!("{policy} ({law})"))
    }

    /// Checks that every lifetime keeps what its policy's name promises; the error names the key.
    pub fn validate(&self) -> Result<(), (String, String)> {
        let named = self.zero_data_retention.iter().map(|policy| ("zero_data_retention", policy));
        let unknown = |(_, policy): &(&str, &String)| !self.lifetime.contains_key(*policy);
        if let Some((field, policy)) = std::iter::once(("default", &self.default)).chain(named).find(unknown)
        {
            let known: Vec<_> = self.lifetime.keys().map(String::as_str).collect();
            let message = format!("`{policy}` is not among the policies {}", known.join(", "));
            return Err((field.into(), message));
        }
        for (policy, law) in &self.lifetime {
            let (_, greatest) = law.support();
            if greatest == Some(0) {
                return Err((format!("lifetime.{policy}"), "a lifetime must be above zero".into()));
            }
            let Some((_, longest)) = LONGEST.iter().find(|(name, _)| name == policy) else { continue };
            if greatest.is_none_or(|greatest| greatest > longest.0) {
                return Err((
                    format!("lifetime.{policy}"),
                    format!(
                        "`{law}` can last longer than {longest}, the most that `{policy}` keeps anything"
                    ),
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_memory_ends_within_the_hour_and_24h_within_the_day() {
        let with = |policy: &str, law: &str| {
            let lifetime = BTreeMap::from([(policy.to_string(), law.parse().unwrap())]);
            let zero_data_retention = Vec::new();
            let residency = String::new();
            Retention { default: policy.into(), lifetime, zero_data_retention, residency }.validate()
        };
        for (policy, law) in
            [("in_memory", "uniform(5m..60m)"), ("24h", "24h"), ("ideal", "unlimited"), ("5m", "5m")]
        {
            assert_eq!(with(policy, law), Ok(()));
        }
        for (policy, law) in
            [("in_memory", "61m"), ("in_memory", "exponential(5m)"), ("24h", "2d"), ("5m", "0s")]
        {
            assert!(with(policy, law).is_err());
        }
    }
}
