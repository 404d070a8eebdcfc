//! Recorder of the events of users that are created.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use async_trait::async_trait;
use referral_core::events::{Event, Hook};

/// Number of users for which the event was emitted.
#[derive(Clone, Default)]
pub(crate) struct CreatedUsers(Arc<AtomicUsize>);

impl CreatedUsers {
    pub(crate) fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

#[async_trait]
impl Hook for CreatedUsers {
    async fn on_event(&self, event: &Event) {
        if matches!(event, Event::UserCreated(_)) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}
