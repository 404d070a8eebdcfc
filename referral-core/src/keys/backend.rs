//! Crypto backend of `jsonwebtoken`.

use std::sync::Once;

#[cfg(feature = "aws-lc-rs")]
use jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER;
#[cfg(all(feature = "rust-crypto", not(feature = "aws-lc-rs")))]
use jsonwebtoken::crypto::rust_crypto::DEFAULT_PROVIDER;

#[cfg(not(any(feature = "aws-lc-rs", feature = "rust-crypto")))]
compile_error!(
    "referral-core needs a crypto backend: enable its feature `aws-lc-rs` (default) or `rust-crypto`"
);

/// Selects the backend, unless the host has selected one before. `jsonwebtoken` selects none itself if several
/// crates of the build enable different backends.
pub(super) fn select() {
    static SELECTED: Once = Once::new();
    SELECTED.call_once(|| {
        #[cfg(any(feature = "aws-lc-rs", feature = "rust-crypto"))]
        let _ = DEFAULT_PROVIDER.install_default();
    });
}
