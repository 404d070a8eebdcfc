//! Maintenance: readiness, shared settings, deletion of expired rows, and the check for attacks.

use std::sync::{Arc, PoisonError};

use super::ReferralService;
use crate::{
    error::Error,
    otp::code_request::CODE_REQUEST_RETENTION,
    rate_limit::attack::{AttackCheck, GLOBAL_COUNTER_RETENTION},
    readiness::{Check, Readiness},
    shared_settings::{self, SettingDifference, SharedSetting},
    sms::delivery::MESSAGE_RETENTION,
    storage::Retention,
};

/// Number of rows of each kind that one batch of [`ReferralService::run_maintenance`] deletes, so that other
/// requests do not wait long.
const BATCH_SIZE: u32 = 500;

impl ReferralService {
    /// Checks whether requests can be served: the storage, the keys that other processes use, and the clock
    /// as it was [measured](Self::measure_clock) last.
    pub async fn readiness(&self) -> Readiness {
        let storage = self.inner.storage.check_ready().await;
        let keys = match &storage.database {
            Check::Passed => self.check_keys().await.into(),
            Check::Failed(_) | Check::Skipped => Check::Skipped,
        };
        Readiness::new(storage, keys, self.check_clock().into())
    }

    /// Checks whether requests can be served, as [`readiness`](Self::readiness) does.
    ///
    /// # Errors
    ///
    /// The error of the first failed check.
    pub async fn check_ready(&self) -> Result<(), Error> {
        self.readiness().await.into_result()
    }

    /// Compares the issuer, the audience and the policy with those of the process that started last on this
    /// storage, logs a warning for each difference, and records those of this process. Call it when a process
    /// starts. [`run_maintenance`](Self::run_maintenance) repeats the comparison.
    ///
    /// # Errors
    ///
    /// [`Error::Storage`] if the storage fails.
    pub async fn share_settings(&self) -> Result<Vec<SettingDifference>, Error> {
        let differences = self.compare_settings().await?;
        self.inner.storage.record_settings(&self.shared_settings()).await?;
        Ok(differences)
    }

    /// Compares the settings, and logs the differences that did not exist at the last comparison.
    async fn compare_settings(&self) -> Result<Vec<SettingDifference>, Error> {
        let recorded = self.inner.storage.shared_settings().await?;
        let differences = shared_settings::differences(&self.shared_settings(), &recorded);
        let mut known = self.inner.setting_differences.lock().unwrap_or_else(PoisonError::into_inner);
        for difference in differences.iter().filter(|difference| !known.contains(difference)) {
            difference.log();
        }
        known.clone_from(&differences);
        Ok(differences)
    }

    fn shared_settings(&self) -> Vec<SharedSetting> {
        let secrets = self.secrets();
        shared_settings::of(&secrets.tokens.issuer, &secrets.tokens.audience, &self.inner.policy)
    }

    /// Deletes expired rows, and users whose [grace period](crate::policy::Policy::deletion_grace) has ended, checks
    /// whether the service is under attack, [writes the records of requests](Self::flush_code_requests), and
    /// [measures the clock](Self::measure_clock). Call it about every minute in each process. Returns the number of
    /// deleted rows and users.
    ///
    /// # Errors
    ///
    /// [`Error::Storage`] if the storage fails to check for an attack, to delete rows or to find users. A failure
    /// to delete a user, to measure the clock or to compare the settings is logged as a warning.
    pub async fn run_maintenance(&self) -> Result<u64, Error> {
        if let Err(error) = self.measure_clock().await {
            // Some databases do not have the function that returns the time. The other steps are still
            // useful.
            tracing::warn!(%error, "failed to read the clock of the database");
        }
        if let Err(error) = self.compare_settings().await {
            tracing::warn!(%error, "failed to compare the settings with those of other processes");
        }
        self.flush_code_requests().await;
        let now = self.now();
        let check = AttackCheck { now, policy: Arc::clone(&self.inner.policy) };
        self.emit_attack_change(self.inner.storage.check_attack(&check).await?).await;

        // An expired code still counts for the resend interval.
        let ended_before = now - self.inner.policy.resend_interval;
        let (global_counters_before, messages_before) =
            (now - GLOBAL_COUNTER_RETENTION, now - MESSAGE_RETENTION);
        let retention = Retention {
            ended_before,
            global_counters_before,
            messages_before,
            code_requests_before: now - CODE_REQUEST_RETENTION,
            batch_size: BATCH_SIZE,
        };
        let mut deleted = 0;
        loop {
            let batch = self.inner.storage.delete_expired(&retention).await?;
            deleted += batch;
            if batch < u64::from(BATCH_SIZE) {
                break;
            }
        }
        Ok(deleted + self.delete_due_users().await?)
    }

    /// Writes the records of requests that wait in memory, and closes the resources of the storage. Call it
    /// after the last request.
    pub async fn close(&self) {
        self.flush_code_requests().await;
        self.inner.storage.close().await;
    }
}
