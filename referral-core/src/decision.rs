//! Result of a rule: changes for the storage, and a result for the caller.

/// Decision of a rule about a request. The storage commits the writes and returns the outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision<W, T> {
    /// Changes to store, also if the outcome is a refusal.
    pub writes: W,
    /// Result to return after the changes are committed.
    pub outcome: T,
}

impl<W: Default, T, E> Decision<W, Result<T, E>> {
    /// Refuses the request and stores nothing.
    pub(crate) fn refuse(refusal: E) -> Self {
        Self { writes: W::default(), outcome: Err(refusal) }
    }
}
