//! Records of requests for one-time codes: their collection, which delays no request, and their lookup.
//!
//! A request adds its record to a queue in memory after its outcome is known. The queue is written in
//! batches, apart from requests. So a process that is killed loses the records of its last moments, and no
//! other data.

use std::{
    collections::{HashMap, VecDeque},
    mem,
    sync::{Mutex, MutexGuard, PoisonError},
};

use time::OffsetDateTime;

use super::{ReferralService, send_code::Dispatch};
use crate::{
    error::{Error, refusal::Refusal},
    otp::{
        code_request::{
            CodeRequest, CodeRequestKind, CodeRequestOutcome, CodeRequestView, PhoneHash, ReachedLimit,
        },
        purpose::CodePurpose,
    },
    policy::Policy,
    storage::StorageError,
    user::phone::PhoneNumber,
};

/// Number of records that are written together. SQLite writes them within a few milliseconds, so that
/// requests do not wait long for its writer.
const BATCH_SIZE: usize = 100;

/// Maximum number of records that wait to be written. Further ones are dropped. A record has about 500 bytes,
/// so these are 2 MB and, with two records for each sign-in, more sign-ins than SQLite commits in a second.
const MAX_WAITING: usize = 4_096;

/// Number of requests without success that a process records in a minute. A client can cause any number of
/// them. A row with its index entries has about 300 bytes, so the rows of such requests take at most 260 MB
/// for each process in the three days for which they are stored. Successful requests are not limited here,
/// because each costs a message or needs the correct code.
const MAX_UNSUCCESSFUL_PER_MINUTE: u32 = 200;

/// Number of requests without success about one phone that a process records in a minute, so that requests
/// about one phone do not use up the number for all. It is more than a person sends.
const MAX_UNSUCCESSFUL_PER_PHONE: u32 = 5;

/// Records that wait to be written.
#[derive(Default)]
pub(super) struct CodeRequests(Mutex<Queue>);

#[derive(Default)]
struct Queue {
    waiting: VecDeque<CodeRequest>,
    /// `true` while a task of the spawner writes records.
    is_flushing: bool,
    /// Current minute since 1970.
    minute: i64,
    /// Number of requests without success that were recorded in the current minute, by phone.
    unsuccessful: HashMap<PhoneHash, u32>,
    /// Sum of `unsuccessful`.
    unsuccessful_total: u32,
    /// Number of requests that were not recorded and are not logged yet.
    unrecorded: u64,
}

impl CodeRequests {
    /// Adds a record, unless there are too many. Returns `true` if a batch is complete that no task writes.
    fn add(&self, request: CodeRequest, now: OffsetDateTime) -> bool {
        let mut queue = self.lock();
        queue.start_minute(now);
        if queue.waiting.len() >= MAX_WAITING || !queue.admits(&request) {
            queue.unrecorded += 1;
            return false;
        }
        queue.waiting.push_back(request);
        queue.waiting.len() >= BATCH_SIZE && !queue.is_flushing
    }

    /// Removes the next batch from the queue.
    fn take(&self, now: OffsetDateTime) -> Vec<CodeRequest> {
        let mut queue = self.lock();
        queue.start_minute(now);
        let number = queue.waiting.len().min(BATCH_SIZE);
        queue.waiting.drain(..number).collect()
    }

    /// Returns records that could not be written to the front of the queue, as far as it has room.
    fn restore(&self, batch: Vec<CodeRequest>) {
        let mut queue = self.lock();
        for request in batch.into_iter().rev() {
            if queue.waiting.len() < MAX_WAITING {
                queue.waiting.push_front(request);
            } else {
                queue.unrecorded += 1;
            }
        }
    }

    /// Removes the records of a phone.
    pub(super) fn forget(&self, phone: &[PhoneHash]) {
        self.lock().waiting.retain(|request| !phone.contains(&request.phone));
    }

    /// Sets whether a task writes records. Returns the former value.
    fn set_flushing(&self, is_flushing: bool) -> bool {
        mem::replace(&mut self.lock().is_flushing, is_flushing)
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    fn start_minute(&mut self, now: OffsetDateTime) {
        let minute = now.unix_timestamp().div_euclid(60);
        if self.minute == minute {
            return;
        }
        self.minute = minute;
        self.unsuccessful.clear();
        self.unsuccessful_total = 0;
        let unrecorded = mem::take(&mut self.unrecorded);
        if unrecorded > 0 {
            tracing::warn!(unrecorded, "did not record requests for codes: there were too many in a minute");
        }
    }

    /// Counts a request. Returns `true` if it is to be recorded.
    fn admits(&mut self, request: &CodeRequest) -> bool {
        if request.outcome.is_limited() {
            return true;
        }
        if self.unsuccessful_total >= MAX_UNSUCCESSFUL_PER_MINUTE {
            return false;
        }
        let of_phone = self.unsuccessful.entry(request.phone).or_default();
        if *of_phone >= MAX_UNSUCCESSFUL_PER_PHONE {
            return false;
        }
        *of_phone += 1;
        self.unsuccessful_total += 1;
        true
    }
}

/// Record of a request in progress. If it is dropped before the outcome is known, the request was aborted:
/// its time limit has passed, its client has disconnected, or it panicked.
pub(super) struct OpenCodeRequest {
    service: ReferralService,
    /// `None` after the record was added to the queue.
    request: Option<Box<CodeRequest>>,
}

impl OpenCodeRequest {
    /// Records the outcome of a request to send a code.
    pub(super) fn finish_sending<T>(self, outcome: &Result<(T, Dispatch), Error>) {
        self.finish(|request, policy| match outcome {
            Ok((_, Dispatch::TestNumber)) => request.outcome = CodeRequestOutcome::TestNumber,
            Ok((_, Dispatch::Unknown)) => request.outcome = CodeRequestOutcome::Unknown,
            Ok((_, Dispatch::Accepted(receipt))) => {
                request.outcome = CodeRequestOutcome::Sent;
                if let Some(gateway) = &receipt.gateway {
                    request.set_message(gateway, receipt.message_id.as_deref());
                }
            }
            Err(error) => set_error(request, error, policy),
        });
    }

    /// Records the outcome of a request to redeem a code.
    pub(super) fn finish_redeeming<T>(self, outcome: Result<&T, &Error>) {
        self.finish(|request, policy| match outcome {
            Ok(_) => request.outcome = CodeRequestOutcome::Redeemed,
            Err(error) => set_error(request, error, policy),
        });
    }

    /// Adds no record.
    pub(super) fn discard(mut self) {
        self.request = None;
    }

    fn finish(mut self, set_outcome: impl FnOnce(&mut CodeRequest, &Policy)) {
        if let Some(mut request) = self.request.take() {
            request.reason = None;
            set_outcome(&mut request, self.service.policy());
            self.service.add_code_request(*request);
        }
    }
}

impl Drop for OpenCodeRequest {
    fn drop(&mut self) {
        if let Some(request) = self.request.take() {
            self.service.add_code_request(*request);
        }
    }
}

fn set_error(request: &mut CodeRequest, error: &Error, policy: &Policy) {
    request.reason = Some(error.code().as_str().to_owned());
    request.outcome = match error {
        Error::Refused(Refusal::RejectedByHost(rejection)) => {
            request.reason = Some(rejection.code().to_owned());
            CodeRequestOutcome::RejectedByHost
        }
        Error::Refused(Refusal::TooManyRequests { retry_after, limit }) => {
            request.limit = Some(ReachedLimit::new(*limit, *retry_after, policy, request.at));
            CodeRequestOutcome::Refused
        }
        Error::Refused(_) | Error::ProfileRefused(_) => CodeRequestOutcome::Refused,
        Error::SmsNotSent(_) => CodeRequestOutcome::NotSent,
        Error::GateFailed { .. } => CodeRequestOutcome::GateFailed,
        _ => CodeRequestOutcome::Failed,
    };
}

impl ReferralService {
    /// Largest number of records that [`code_requests`](Self::code_requests) returns.
    pub const CODE_REQUESTS_SHOWN: u32 = 100;

    /// Returns the newest requests to send and to redeem codes of a phone, newest first, for the host itself.
    /// They are stored for three days. At most [`CodeRequest::MAX_PER_PHONE`] requests are stored for each
    /// pepper that was the first of the ring in this time.
    ///
    /// Requests that other processes have not [written](Self::flush_code_requests) yet are missing, and so
    /// are those of a process that was killed before. After too many requests without success in a minute,
    /// further ones are not recorded: see the warning `did not record requests for codes` in the log.
    /// Requests from before a key rotation are found as long as the former pepper is in the ring.
    ///
    /// # Errors
    ///
    /// [`Error::Storage`].
    pub async fn code_requests(&self, phone: &PhoneNumber) -> Result<Vec<CodeRequestView>, Error> {
        self.flush_code_requests().await;
        let phone = PhoneHash::all(phone, &self.secrets().peppers);
        Ok(self.inner.storage.code_requests(&phone, Self::CODE_REQUESTS_SHOWN).await?)
    }

    /// Returns all stored requests to send and to redeem codes of a phone, newest first.
    pub(super) async fn all_code_requests(&self, phone: &PhoneNumber) -> Result<Vec<CodeRequestView>, Error> {
        self.flush_code_requests().await;
        let phone = PhoneHash::all(phone, &self.secrets().peppers);
        let stored =
            CodeRequest::MAX_PER_PHONE.saturating_mul(u32::try_from(phone.len()).unwrap_or(u32::MAX));
        Ok(self.inner.storage.code_requests(&phone, stored).await?)
    }

    /// Writes the records of requests that wait in memory. Call it about every second in each process, so
    /// that other processes find them. [`run_maintenance`](Self::run_maintenance), [`close`](Self::close) and
    /// [`code_requests`](Self::code_requests) call it as well, and with a [`Spawner`](crate::spawner::Spawner)
    /// a task calls it after each hundred requests.
    ///
    /// If the storage is unavailable, the records stay in memory until the next call. Other failures are
    /// logged as warnings, and their records are lost.
    pub async fn flush_code_requests(&self) {
        let waiting = &self.inner.code_requests;
        loop {
            let batch = waiting.take(self.now());
            if batch.is_empty() {
                return;
            }
            match self.inner.storage.record_code_requests(&batch).await {
                Ok(()) => {}
                Err(failure @ StorageError::Unavailable(_)) => {
                    tracing::debug!(%failure, "failed to record requests for codes; they wait in memory");
                    waiting.restore(batch);
                    return;
                }
                Err(failure) => {
                    let lost = batch.len();
                    tracing::warn!(%failure, lost, "failed to record requests for codes");
                }
            }
        }
    }

    /// Starts the record of a request about a code.
    pub(super) fn open_code_request(
        &self,
        kind: CodeRequestKind,
        phone: &PhoneNumber,
        purpose: CodePurpose,
        request_id: Option<String>,
    ) -> OpenCodeRequest {
        let at = self.now();
        let request = CodeRequest {
            id: self.inner.random.time_ordered_uuid(at),
            at,
            phone: PhoneHash::current(phone, &self.secrets().peppers),
            kind,
            purpose: purpose.as_str().to_owned(),
            outcome: CodeRequestOutcome::Failed,
            reason: Some(CodeRequest::ABORTED.to_owned()),
            limit: None,
            gateway: None,
            message_id: None,
            request_id,
        };
        OpenCodeRequest { service: self.clone(), request: Some(Box::new(request)) }
    }

    fn add_code_request(&self, request: CodeRequest) {
        let is_complete = self.inner.code_requests.add(request, self.now());
        if let Some(spawner) = self.inner.spawner.as_ref().filter(|_| is_complete)
            && !self.inner.code_requests.set_flushing(true)
        {
            let service = self.clone();
            spawner.spawn(Box::pin(async move {
                let _done = FlushingTask(&service.inner.code_requests);
                service.flush_code_requests().await;
            }));
        }
    }
}

/// Task of the spawner that writes records. It may be dropped before its end.
struct FlushingTask<'a>(&'a CodeRequests);

impl Drop for FlushingTask<'_> {
    fn drop(&mut self) {
        self.0.set_flushing(false);
    }
}

#[cfg(test)]
mod tests;
