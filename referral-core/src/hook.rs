//! Being told of what happened: the place for bonuses, welcome messages and statistics.

use async_trait::async_trait;

use crate::{Invitation, User};

/// Something that happened and has been committed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A phone became a user.
    UserCreated(User),
    /// Somebody accepted an invitation, which happens once per user, ever.
    InvitationAccepted(Invitation),
}

/// Is told of every [`Event`].
#[async_trait]
pub trait Hook: Send + Sync + 'static {
    /// Called after the commit, in the order of events of one request, and awaited before the
    /// answer is given: hand long work to a task of your own. If the process dies, or the host
    /// drops the request, between the commit and this call, the event is not repeated; the storage
    /// has what happened. So hosts should run requests in tasks of their own.
    async fn on_event(&self, event: &Event);
}

/// Does nothing.
#[async_trait]
impl Hook for () {
    async fn on_event(&self, _event: &Event) {}
}
