//! Spawner, with which an operation continues after its caller has dropped it.

use std::pin::Pin;

/// Task that runs to its end. It never panics on purpose and has no result.
pub type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Starts tasks on the async runtime of the host.
///
/// Web frameworks drop the future of a request when its client disconnects. Without a spawner, an operation of
/// [`ReferralService`](crate::ReferralService) then ends at its current await point. What it writes is atomic, so
/// nothing is half written. But it may have written without emitting its [events](crate::events). With a spawner,
/// each operation that writes and emits events is a task, which also runs to its end if the caller is gone: codes,
/// sign-ins, refreshes, edits, new users and ended sessions. A caller that has stopped waiting, for example after
/// a time limit, does not know the outcome then. The endpoint of `referral-server` needs no spawner: it runs
/// each request in a task.
///
/// The end of the process can still lose an event after the commit. What must not be lost belongs in the
/// transaction, such as that of `TransactionHook` in `referral-sqlx`.
///
/// Any suitable function is a spawner:
///
/// ```
/// # fn build(builder: referral_core::ReferralServiceBuilder) -> referral_core::ReferralServiceBuilder {
/// builder.spawner(|task| drop(tokio::spawn(task)))
/// # }
/// ```
pub trait Spawner: Send + Sync {
    /// Starts a task and does not wait for it.
    fn spawn(&self, task: Task);
}

impl<F: Fn(Task) + Send + Sync> Spawner for F {
    fn spawn(&self, task: Task) {
        self(task);
    }
}
