//! Storage of challenges: codes that are sent, delivered and redeemed.

use async_trait::async_trait;

use super::{
    ChallengeRequest, CodeRequest, CodeRequestView, CounterUpdate, Decided, DeliveryTransition,
    DeliveryUpdate, GrantedChallenge, PhoneHash, Result, SignInOutcome, SignInRequest,
};
use crate::otp::challenge::ChallengeId;

/// Stores challenges, the delivery status of their messages, and records of requests about them.
#[async_trait]
pub trait ChallengeStorage: Send + Sync + 'static {
    /// Decides whether a code may be sent. If so, stores its challenge and counts it.
    ///
    /// Facts: the newest challenge of the phone, the user with the phone, the counters that the request
    /// names, and the global counters. Requests for one phone exclude each other, and so do requests that
    /// share a counter: concurrent requests must not be granted more than sequential ones. The global
    /// counters need not be exact, so requests that add to them do not wait for each other.
    async fn start_challenge(&self, request: &ChallengeRequest) -> Decided<GrantedChallenge>;

    /// Deletes a challenge whose code was certainly not sent, and refunds its counts. Does nothing if the
    /// challenge does not exist.
    async fn cancel_challenge(&self, challenge: ChallengeId, counters: &CounterUpdate) -> Result<()>;

    /// Records an update of a message and returns the resulting change.
    ///
    /// Facts: the stored message, if the update names one; the challenge, if the update names one. Updates of
    /// one message exclude each other, so that of identical concurrent updates only one causes a change.
    async fn record_delivery(&self, update: &DeliveryUpdate) -> Result<DeliveryTransition>;

    /// Redeems a code and signs in. The new user, if there is one, the invitation, the session and the
    /// redeemed challenge are committed together. The counted attempt of a wrong code is committed as well.
    /// If the outcome is [`SignInOutcome::NeedsApproval`], the writes are empty, and the service repeats the
    /// call.
    ///
    /// Facts: the challenge, as [`SignInFacts::challenge`](super::SignInFacts::challenge) describes it; the
    /// user with the phone; the owner of the invite code; the counters that the request names; the global
    /// counters. Attempts at one challenge exclude each other, and so do attempts that share a counter and
    /// sign-ups of one phone. If [`needs_ancestry`](SignInRequest::needs_ancestry) returns `true`, the
    /// ancestry is also a fact. It is read to its end, or until the invitee is found, while no other late
    /// acceptance is in progress in any process. A new user gets the first of
    /// [`NewUser::invite_codes`](super::NewUser::invite_codes) that is free.
    ///
    /// # Errors
    ///
    /// [`StorageError::InviteCodesExhausted`](super::StorageError::InviteCodesExhausted) if none of these
    /// codes is free. [`StorageError::Claims`](super::StorageError::Claims) if the decision fails.
    async fn sign_in(&self, request: &SignInRequest) -> Decided<SignInOutcome>;

    /// Adds records of requests, at most a hundred. A record whose id and phone are stored already is not
    /// changed. Of each phone in the batch, only the newest [`CodeRequest::MAX_PER_PHONE`] records stay, in
    /// the order of their ids.
    async fn record_code_requests(&self, requests: &[CodeRequest]) -> Result<()>;

    /// Returns the records of all of these hashes, in descending order of their ids, at most `limit` of them.
    /// Each has the stored status of the message with its gateway and message id.
    async fn code_requests(&self, phone: &[PhoneHash], limit: u32) -> Result<Vec<CodeRequestView>>;
}
