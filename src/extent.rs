//! How much of the model a run needs.
//!
//! Most runs use little of what there is: no reactions, no failures, no marks. The steps of a request are inlined into one
//! loop, and that loop is compiled twice, once for each extent, from the same source: in a plain run the compiler leaves out
//! what such a run never does, and with it half of the work.

/// How much of the model a run needs. Passed down by value, so that it is a constant wherever it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// Conversations or single calls that only grow, keyed and sent as they come; stores that cover, written always and
    /// without bounds; nothing fails or changes behind the back.
    Plain,
    /// Everything.
    Full,
}

impl Extent {
    /// What plain runs never have.
    #[inline(always)]
    pub fn rare<T>(self, value: Option<T>) -> Option<T> {
        match self {
            Self::Plain => None,
            Self::Full => value,
        }
    }

    /// What is false in plain runs.
    #[inline(always)]
    pub fn if_full(self, is_so: impl FnOnce() -> bool) -> bool {
        self == Self::Full && is_so()
    }
}
