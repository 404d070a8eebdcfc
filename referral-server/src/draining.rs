//! State of draining. The command `serve` starts it, and stops the listener after the drain delay.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

/// Flag that the server is about to shut down. Clones share it.
///
/// While it is set, `/health/ready` responds with 503, so that load balancers send requests to other
/// instances. All other requests are served as usual.
#[derive(Clone, Debug, Default)]
pub struct Draining(Arc<AtomicBool>);

impl Draining {
    /// Sets the flag.
    pub fn start(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Returns `true` if the flag is set.
    #[must_use]
    pub fn is_started(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
