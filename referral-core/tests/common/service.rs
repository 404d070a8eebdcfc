//! Service with fixed keys for tests.

use std::sync::Arc;

use referral_core::{
    ReferralService, ReferralServiceBuilder,
    keys::{Peppers, SigningKeys},
    sms::SmsSender,
    storage::Storage,
};

/// Returns a builder with a fixed signing key and a fixed pepper.
pub(crate) fn builder(storage: Arc<dyn Storage>, sender: impl SmsSender) -> ReferralServiceBuilder {
    let keys = SigningKeys::from_secret("k1", &[1; 32]).expect("sufficient length");
    let peppers = Peppers::from_secret("p1", &[2; 32]).expect("sufficient length");
    ReferralService::builder(storage, Arc::new(sender), keys, peppers)
}
