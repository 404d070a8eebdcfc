//! Keys and peppers of this process, and of the processes that share the storage.

use std::{
    mem,
    sync::{Arc, PoisonError},
};

use super::{ReferralService, Secrets, builder::BuildError};
use crate::{
    error::Error,
    keys::{Peppers, SigningKeys, registry::KeyRegistration},
    policy::Policy,
};

impl ReferralService {
    /// Returns the public keys with which other services verify access tokens, as a JSON Web Key Set.
    #[must_use]
    pub fn public_jwk_set(&self) -> String {
        self.secrets().tokens.keys.public_jwk_set()
    }

    /// Records the keys of this process in the storage, and checks that this process has the keys of the
    /// others. Call it once, before the first request, if several processes share a database. Otherwise a
    /// process may reject the tokens of another.
    ///
    /// # Errors
    ///
    /// [`Error::KeyMismatch`], which names a key that is missing or different.
    pub async fn register_keys(&self) -> Result<(), Error> {
        self.register_secrets(&self.secrets()).await
    }

    /// Replaces the keys and peppers of all clones of this service, without losing a request. A key ring that
    /// starts with a new key and has the others after it ends no session. Tokens and codes of a key that is
    /// no longer in the key ring are rejected from then on.
    ///
    /// The new keys are checked against the storage first, as in [`register_keys`](Self::register_keys). If
    /// several processes share the storage, all processes must have a new key **before** any process has it
    /// first in its key ring.
    ///
    /// # Errors
    ///
    /// [`Error::KeyMismatch`] if a key in use is missing, [`Error::Signing`] if the first key cannot sign.
    /// After an error nothing has changed.
    pub async fn replace_keys(&self, keys: SigningKeys, peppers: Peppers) -> Result<(), Error> {
        let tokens = self.secrets().tokens.with_keys(keys);
        if !tokens.can_sign(self.inner.claims.as_ref(), self.now()) {
            return Err(Error::Signing(BuildError::SigningKey.into()));
        }
        let secrets = Arc::new(Secrets { tokens, peppers: Arc::new(peppers) });
        self.register_secrets(&secrets).await?;
        let mut place = self.inner.secrets.write().unwrap_or_else(PoisonError::into_inner);
        let former = mem::replace(&mut *place, secrets);
        drop(place);
        // The former tokens have a large cache. It is freed after the lock is released, so that no request
        // waits for that.
        drop(former);
        Ok(())
    }

    /// Checks that this process has the keys that other processes on the storage use.
    pub(super) async fn check_keys(&self) -> Result<(), Error> {
        let request = self.key_registration(&self.secrets());
        Ok(request.decide(&self.inner.storage.registered_keys().await?).outcome?)
    }

    async fn register_secrets(&self, secrets: &Secrets) -> Result<(), Error> {
        Ok(self.inner.storage.register_keys(&self.key_registration(secrets)).await??)
    }

    fn key_registration(&self, Secrets { tokens, peppers }: &Secrets) -> KeyRegistration {
        let Policy { refresh_lifetime, code_lifetime, .. } = *self.inner.policy;
        KeyRegistration::new(self.now(), &tokens.keys, refresh_lifetime, peppers, code_lifetime)
    }
}
