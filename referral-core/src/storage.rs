//! Storage of users, sessions, codes and messages: the traits that a database backend implements.
//!
//! There is one trait for each aggregate: [`ChallengeStorage`], [`SessionStorage`], [`UserStorage`],
//! [`AuditStorage`] and [`MaintenanceStorage`]. A type that implements all of them is a [`Storage`].
//!
//! Each method is one atomic operation. A method that depends on rules gets a request that contains the rule.
//! The storage loads the facts inside its transaction, calls `decide` of the request, applies the writes of
//! the [`Decision`] and commits. So each rule is implemented once, and transactions stay inside the
//! storage:
//!
//! ```text
//! begin
//!   facts    = load the facts of the request, locked against other writers
//!   decision = request.decide(&facts)
//!   apply decision.writes
//! commit                                  — also if the outcome is a refusal
//! return decision.outcome
//! ```
//!
//! A refusal is a result, not a failure. It is returned as the inner `Err`, after its writes are committed. A
//! [`StorageError`] is returned if the storage fails, or if `decide` does: then nothing is committed.
//!
//! # Guarantees
//!
//! If a method states that writers exclude each other, the facts of a decision must still hold when the
//! decision is committed. The storage either locks the facts or retries if they changed. These invariants
//! hold at all times:
//!
//! - a phone, an invite code, an email address and an external id each belong to at most one user, except the phone
//!   of a user who lost it: see [`User::phone_detached_at`];
//! - a user has at most one inviter, which is never the user, and which only
//!   [`change_user`](UserStorage::change_user) changes;
//! - a user is never among their own inviters, at any depth;
//! - [`User::invited_count`] is the number of users invited;
//! - a challenge is redeemed at most once.
//!
//! A deleted user is *erased*: the storage keeps its id, its invite code, and its invitations with their
//! counts, and nothing else. So invitations are kept, no user gets the invite code again, and the ancestry
//! through an erased user still excludes loops. An erased user is not a [`User`]: no method changes it, and
//! none returns it except [`UserStorage::export_users`].
//!
//! # Times
//!
//! Times are in UTC and have microsecond precision. A storage returns each time exactly as it was stored:
//! conditions compare times for equality, such as the events of a [`Counter`].
//!
//! Ranges of times are half-open: they include their start and exclude their end. So a code is valid while
//! `now < expires_at`, a range `since` includes `since`, and a row is deleted if its time is before the bound
//! of [`Retention`], and not if it is equal.
//!
//! A session *has ended* at a time if it was revoked, or if its refresh token has expired by then:
//! [`Session::has_ended`]. All other sessions are active. [`Session::ends_at`] is the time from which it has
//! ended. [`Session::expires_at`] is only the latest time to which refreshes can continue it.
//!
//! The conformance suite (feature `conformance`) checks these guarantees. An implementation is complete
//! when it passes the suite. `storage/memory.rs`, which keeps all data behind one lock, is the shortest
//! example. The crate `referral-example-redis` in the directory `examples/redis` of the repository is an
//! example of a storage in a database that several processes use, and explains how it is written.
//!
//! # Serialization
//!
//! A storage that keeps documents can use the [`Serialize`](serde::Serialize) and
//! [`Deserialize`](serde::Deserialize) implementations of the stored types: [`User`],
//! [`Invitation`](crate::Invitation), [`Challenge`], [`Session`], [`Counter`], [`StoredMessage`] with its
//! [`MessageKey`], [`CodeRequest`], [`RegisteredKey`], [`SharedSetting`], and the types of their fields. Structs are maps of
//! their fields, times are microseconds since 1970 as integers, and events of counters are the numbers of
//! [`CountedEvent::to_number`]. Deserialization validates phones, codes, names, addresses and keys as
//! `from_stored` does, and metadata as [`Metadata::new`](crate::Metadata::new) does.
//!
//! The serialized form of a version can be read by later minor versions.
//!
//! # Evolution
//!
//! In a minor version, a trait gets a new method only with a default implementation, and a struct of facts or
//! writes gets no new field that a storage could ignore without a compile error. All other changes come with
//! a major version.

mod audit;
mod challenges;
pub(crate) mod error;
mod maintenance;
mod memory;
mod sessions;
mod users;

use time::OffsetDateTime;

pub use self::{
    audit::AuditStorage,
    challenges::ChallengeStorage,
    error::{BoxError, Decided, Result, StorageError},
    maintenance::MaintenanceStorage,
    memory::MemoryStorage,
    sessions::SessionStorage,
    users::UserStorage,
};
use crate::{
    audit::AuditEntry,
    session::{Session, SessionId},
    user::User,
};
pub use crate::{
    audit::{AuditPage, AuditQuery},
    decision::Decision,
    gate::approval::GatedChanges,
    invite::invitation::{Ancestry, Inviter},
    keys::{
        fingerprint::Fingerprint,
        jwk::KeyPurpose,
        registry::{KeyRegistration, RegisteredKey},
    },
    otp::{
        attempt::AttemptWrites,
        challenge::{
            Challenge, ChallengeDecision, ChallengeFacts, ChallengeRequest, ChallengeWrites, FailedAttempt,
            GrantedChallenge,
        },
        code_request::{CodeRequest, CodeRequestView, PhoneHash},
        redemption::{Redemption, RedemptionFacts},
        sign_in::{
            DetachedPhone, SignInDecision, SignInFacts, SignInOutcome, SignInRequest, SignInWrites,
            StoredSignIn,
        },
    },
    rate_limit::{
        attack::{AttackCheck, GlobalCounter, GlobalCounterFacts, GlobalCounterQuery, GlobalCounterUpdate},
        counter_update::CounterUpdate,
        counters::{CountedEvent, Counter, CounterKey, Counters, EventKind},
        unlock::UnlockRequest,
    },
    readiness::StorageReadiness,
    session::{
        IssuedTokens, SessionSelection, SupersededToken,
        claims::{ClaimsError, CustomClaims},
        refresh::{RefreshDecision, RefreshFacts, RefreshRequest, RefreshWrites},
    },
    shared_settings::SharedSetting,
    sms::delivery::{
        DeliveryDecision, DeliveryFacts, DeliveryTransition, DeliveryUpdate, DeliveryWrites, MessageKey,
        StoredMessage,
    },
    user::{
        AddUserDecision, AddUserFacts, AddUserRequest, AddUserWrites, Invitee, NewUser, UserWithInvited,
        UserWrite,
        change::{
            ChangedUser, InvitationWrite, UserChangeDecision, UserChangeFacts, UserChangeRequest,
            UserChangeWrites,
        },
        daily_counts::DailyCounts,
        deletion::{
            DeletedUser, DeletionDecision, DeletionFacts, DeletionRequest, DeletionWrites, DueDeletion,
        },
        import::{
            ImportBatch, ImportDecision, ImportFacts, ImportOutcome, ImportRejection, ImportWrites,
            ImportedInvitation,
        },
        listing::{PageStart, UserFilter, UserQuery},
        phone_change::{
            ChangedPhone, PhoneChangeDecision, PhoneChangeFacts, PhoneChangeRequest, PhoneChangeWrites,
        },
        profile::{EditedProfile, ProfileDecision, ProfileEdit, ProfileFacts, ProfileOutcome, ProfileWrites},
        record::{ErasedUser, RecordedInvitation, RecordedUser, UserRecord},
        search::{SearchKeys, SearchTerm},
    },
};

/// Session with its user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredSession {
    /// Session.
    pub session: Session,
    /// User of the session.
    pub user: UserWithInvited,
}

/// User who was added or made staff, or who had the phone before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddedUser {
    /// User.
    pub user: User,
    /// Sessions that were ended, in any order.
    pub ended_sessions: Vec<SessionId>,
    /// Entry that was added to the audit log.
    pub audit: Option<AuditEntry>,
}

/// Page of stored items.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredPage<T> {
    /// Items, newest first.
    pub items: Vec<T>,
    /// `true` if there are more items in the direction of the query.
    pub has_more: bool,
    /// Number of all items, or of the first of them if `count_exact` is `false`.
    pub count: u64,
    /// `true` if `count` is exact.
    pub count_exact: bool,
}

/// Rows to delete because they have no effect any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Time before which [`Challenge::expires_at`], [`Session::ends_at`] and [`Counter::ends_at`] must be for
    /// the row to be deleted.
    pub ended_before: OffsetDateTime,
    /// Time before which [`GlobalCounterUpdate::period_start`] must be for the count to be deleted.
    pub global_counters_before: OffsetDateTime,
    /// Time before which a message must have been stored first to be deleted.
    pub messages_before: OffsetDateTime,
    /// Time before which [`CodeRequest::at`] must be for the record to be deleted.
    pub code_requests_before: OffsetDateTime,
    /// Largest number of rows of each kind to delete.
    pub batch_size: u32,
}

/// Storage of everything. Each type with the traits of all aggregates is a storage.
pub trait Storage:
    ChallengeStorage + SessionStorage + UserStorage + AuditStorage + MaintenanceStorage
{
}

impl<T: ChallengeStorage + SessionStorage + UserStorage + AuditStorage + MaintenanceStorage> Storage for T {}
