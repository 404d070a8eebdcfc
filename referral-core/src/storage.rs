//! Storage of users, sessions, codes and messages: the trait that a database backend implements.
//!
//! Each method is one atomic operation. A method that depends on rules gets a request that contains the rule.
//! The storage loads the facts inside its transaction, calls `decide` of the request, writes the decision and
//! commits. Each rule is thus implemented once, and transactions stay inside the storage:
//!
//! ```text
//! begin
//!   facts    = load the facts of the request, locked against other writers
//!   decision = request.decide(&facts)
//!   write the decision
//! commit                                  — also if the decision is a refusal
//! ```
//!
//! A refusal is a result, not a failure. It is returned as the inner `Err`, after its writes are committed. A
//! [`StorageError`] is returned if the storage fails.
//!
//! The [conformance suite](mod@crate::conformance) checks these guarantees. An implementation is complete
//! when it passes the suite. `memory.rs`, which keeps all data behind one lock, is the shortest example.

mod memory;

use async_trait::async_trait;
use time::OffsetDateTime;
use uuid::Uuid;

pub use crate::{
    invite::invitation::{AcceptedVia, Ancestry, Invitation, Inviter},
    otp::{
        challenge::{
            Challenge, ChallengeDecision, ChallengeFacts, ChallengeRequest, FailedAttempt, GrantedChallenge,
        },
        sign_in::{SignInDecision, SignInFacts, SignInRequest, StoredSignIn},
    },
    rate_limit::{
        attack::{
            AttackCheck, AttackStatus, GlobalCounter, GlobalCounterFacts, GlobalCounterQuery,
            GlobalCounterUpdate,
        },
        counters::{CountedEvent, Counter, CounterKey, CounterUpdate, Counters, EventKind},
    },
    readiness::StorageReadiness,
    session::{
        IssuedTokens, RefreshDecision, RefreshRequest, Session, SessionSelection, SupersededToken,
        key_registry::{Fingerprint, KeyMismatch, KeyPurpose, KeyRegistration, RegisteredKey},
    },
    sms::delivery::{DeliveryDecision, DeliveryTransition, DeliveryUpdate, MessageKey, StoredMessage},
    user::{
        NewUser, UserWithInvited,
        gram::Gram,
        listing::{FoundInvitees, FoundUsers, SearchKeys, SearchTerm, UserFilter, UserQuery},
        profile::{EditedProfile, ProfileDecision, ProfileEdit, ProfileFacts},
    },
};
pub use memory::MemoryStorage;

use crate::{ChallengeId, PageSize, Refusal, SessionId, SharedSetting, User, UserId};

/// Error returned by a storage backend. The transaction was rolled back, unless the failure happened during
/// commit; then the outcome is unknown.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// The database is unreachable or has no capacity for another request. A later attempt may succeed.
    #[error("the storage is unavailable")]
    Unavailable(#[source] BoxError),
    /// All candidate invite codes of a new user are taken.
    #[error("all invite codes generated for a new user are taken")]
    InviteCodesExhausted,
    /// Any other failure, such as a statement that the database rejects or an invalid stored value.
    #[error("the storage operation failed")]
    Failed(#[source] BoxError),
}

/// Error of the database behind the storage.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Result of a storage operation.
pub type Result<T> = std::result::Result<T, StorageError>;

/// Result of a storage operation that applies a rule. The inner `Err` is a refusal.
pub type Decided<T, R = Refusal> = Result<std::result::Result<T, R>>;

/// Session with its user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredSession {
    /// Session.
    pub session: Session,
    /// User of the session.
    pub user: UserWithInvited,
}

/// User who was made staff.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewStaff {
    /// User.
    pub user: User,
    /// Sessions that were ended, newest first.
    pub ended_sessions: Vec<SessionId>,
}

/// Rows to delete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Time before which challenges, sessions and counters must have ended to be deleted.
    pub ended_before: OffsetDateTime,
    /// Time before which service counts are deleted.
    pub global_counters_before: OffsetDateTime,
    /// Time before which a message must have been stored first to be deleted.
    pub messages_before: OffsetDateTime,
    /// Largest number of rows of each kind to delete.
    pub batch: u32,
}

/// Stores users, invitations, challenges, sessions and the status of messages.
///
/// If a method says that writers exclude one another, the facts of a decision must still hold when the
/// decision is committed. The storage either locks the facts or retries if they changed. These invariants
/// hold at all times:
///
/// - a phone, an invite code and an email address each belong to at most one user;
/// - a user has at most one inviter, which never changes and is never the user;
/// - a user is never among their own inviters, at any depth;
/// - [`User::invited_count`] is the number of users invited;
/// - a challenge is redeemed at most once.
///
/// Users are never deleted, only deactivated, so that invitations are kept.
#[async_trait]
pub trait Storage: Send + Sync + 'static {
    /// Decides whether a code may be sent. If so, stores its challenge and counts it.
    ///
    /// Facts: the newest challenge of the phone, the user with the phone, the counters that the request
    /// names, and the service counts. Requests for one phone exclude one another, and so do requests that
    /// share a counter: concurrent requests must not be granted more than sequential ones. The service counts
    /// need not be exact, so requests that add to them do not wait for one another.
    async fn start_challenge(&self, request: &ChallengeRequest) -> Decided<GrantedChallenge>;

    /// Deletes a challenge whose code was certainly not sent, and refunds its counts. Does nothing if the
    /// challenge does not exist.
    async fn cancel_challenge(&self, challenge: ChallengeId, counter_update: &CounterUpdate) -> Result<()>;

    /// Records news about a message and returns the resulting change. If the news names a challenge that
    /// exists and is not redeemed, sets its [`Challenge::gateway`].
    ///
    /// Facts: the stored message, if the news names one. News about one message exclude one another, so that
    /// of identical concurrent news only one causes a change.
    async fn record_delivery(&self, news: &DeliveryUpdate) -> Result<DeliveryTransition>;

    /// Redeems a code and signs in. The new user, if there is one, the invitation, the session and the
    /// redeemed challenge are committed together. The counted attempt of a wrong code is committed as well.
    ///
    /// Facts: the challenge that the request names, if it belongs to the phone, or else the newest challenge
    /// of the phone; the user with the phone; the owner of the invite code; the counters that the request
    /// names; the service counts. Attempts at one challenge exclude one another, and so do attempts that
    /// share a counter and sign-ups of one phone. If [`needs_ancestry`](SignInRequest::needs_ancestry) returns
    /// `true`, the chain of inviters is read up to the first one while no other late acceptance is in
    /// progress in any process. A new user gets the first of [`NewUser::invite_codes`] that is free.
    ///
    /// # Errors
    ///
    /// [`StorageError::InviteCodesExhausted`] if none of these codes is free.
    async fn sign_in(&self, request: &SignInRequest) -> Decided<StoredSignIn>;

    /// Returns a session with its user and the newest invitees of the user, at most `invited` of them.
    /// Returns `None` if the session does not exist. A session that has ended may be returned or not.
    async fn session(&self, id: SessionId, invited: u32) -> Result<Option<StoredSession>>;

    /// Records that the issued tokens of the session are in use, if its access token still has this ID.
    async fn mark_tokens_used(&self, session: SessionId, access_id: Uuid) -> Result<()>;

    /// Exchanges a refresh token and returns the session whose issued tokens are to be signed.
    ///
    /// Facts: the session, and whether its user is active. If the session does not exist, the result is
    /// [`Refusal::TokenNotValid`]. Exchanges in one session exclude one another.
    async fn refresh(&self, request: &RefreshRequest) -> Decided<Session>;

    /// Returns the sessions of a user that have not ended by `now`, newest first, at most `limit` of them.
    async fn sessions(&self, user: UserId, now: OffsetDateTime, limit: u32) -> Result<Vec<Session>>;

    /// Ends sessions of a user by setting [`Session::revoked_at`]. Returns the sessions that were ended,
    /// newest first. Sessions that had ended by `now` are not among them.
    async fn end_sessions(
        &self,
        user: UserId,
        sessions: SessionSelection,
        now: OffsetDateTime,
    ) -> Result<Vec<SessionId>>;

    /// Returns a user with their newest invitees, at most `invited` of them.
    async fn user(&self, id: UserId, invited: u32) -> Result<Option<UserWithInvited>>;

    /// Returns a page of users, newest first, which is in descending order of their IDs.
    ///
    /// A list that [is expensive](UserQuery::is_expensive) must not delay other requests. It waits for one of
    /// a few slots, and a caller has at most one slot at a time. If the list takes too long, the result is
    /// [`Refusal::SearchTooBroad`]. A storage that reads from memory may omit both.
    async fn users(&self, query: &UserQuery) -> Decided<FoundUsers>;

    /// Returns a page of the users that `inviter` invited, newest first, starting with the first user older
    /// than `older_than`. Returns `None` if the inviter does not exist.
    async fn invitees(
        &self,
        inviter: UserId,
        older_than: Option<UserId>,
        limit: PageSize,
    ) -> Result<Option<FoundInvitees>>;

    /// Applies all changes of a profile, or none.
    ///
    /// Facts: the user, the owner of the requested email address, the owner of the invite code, the counters
    /// that the request names, and the ancestry as for [`sign_in`](Self::sign_in). If the user does not exist,
    /// the result is [`Refusal::UserNotFound`]. Of concurrent requests for one address, only one gets it.
    async fn edit_profile(&self, edit: &ProfileEdit) -> Decided<EditedProfile, Vec<Refusal>>;

    /// Makes the user with this phone staff, and creates the user first if there is none. Ends the sessions
    /// of a user who was not staff before: they were started with fewer rights, perhaps on a shared device.
    async fn make_staff(&self, user: &NewUser, now: OffsetDateTime) -> Result<NewStaff>;

    /// Activates or deactivates a user. Returns `None` if the user does not exist.
    async fn set_active(&self, id: UserId, is_active: bool) -> Result<Option<User>>;

    /// Reads the service counts, records an attack if there is one, and returns the state of the alarm.
    async fn check_attack(&self, request: &AttackCheck) -> Result<AttackStatus>;

    /// Deletes rows that are no longer needed, at most [`Retention::batch`] of each kind. Returns the total
    /// number of deleted rows.
    async fn delete_expired(&self, delete_expired: &Retention) -> Result<u64>;

    /// Returns the keys that are, or were, the first of the ring of a process on this storage.
    async fn registered_keys(&self) -> Result<Vec<RegisteredKey>>;

    /// Records the keys of a process that starts, or returns the reason why the process must not start.
    ///
    /// Facts: the known keys. Of two processes that start concurrently, the second sees the keys of the
    /// first.
    async fn register_keys(&self, request: &KeyRegistration) -> Decided<(), KeyMismatch>;

    /// Returns the settings that [`record_settings`](Self::record_settings) recorded last, in any order.
    async fn shared_settings(&self) -> Result<Vec<SharedSetting>>;

    /// Records settings of a process that starts. They replace the settings recorded under the same names.
    async fn record_settings(&self, settings: &[SharedSetting]) -> Result<()>;

    /// Checks whether requests can be served: the database accepts writes, its schema works with this version
    /// of the storage, and the database has room for more data.
    async fn check_ready(&self) -> StorageReadiness;

    /// Returns the current time of the storage clock in microseconds, or `None` if the storage has no clock
    /// other than that of this host. The time must not be the start time of a transaction.
    async fn current_time(&self) -> Result<Option<OffsetDateTime>> {
        Ok(None)
    }

    /// Closes open resources after the last request. Does nothing by default.
    async fn close(&self) {}
}
