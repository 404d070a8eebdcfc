//! Where everything is kept: the trait that a database plugs into.
//!
//! Each method is one fact of the domain and one atomic step. Those that depend on rules get a
//! request that carries its rule along: the storage loads the facts inside its transaction, asks
//! the request to decide, writes what the decision says and commits. So no rule is written
//! twice, and no transaction leaves the storage:
//!
//! ```text
//! begin
//!   facts    = load what the request names, locked against other writers
//!   decision = request.decide(&facts)
//!   write what the decision holds
//! commit                                  — also when the decision is a refusal
//! ```
//!
//! A refusal is an answer, not a failure: it comes back as the inner `Err`, after whatever had
//! to be written with it. With a [`StorageError`] nothing of the request was committed.
//!
//! The [conformance suite](mod@crate::conformance) says whether an implementation keeps all this; one
//! that does not pass it is not done. `memory.rs`, which holds everything in one lock, is the
//! shortest example.

mod memory;

use async_trait::async_trait;
use time::OffsetDateTime;
use uuid::Uuid;

pub use crate::{
    challenge::{
        Challenge, ChallengeDecision, ChallengeFacts, ChallengeRequest, FailedTry, GrantedChallenge,
    },
    counters::{Counted, Counter, CounterKey, Counters, Counting, Stamp},
    delivery::{MessageChange, MessageDecision, MessageKey, MessageNews, StoredMessage},
    gram::Gram,
    invitation::{Invitation, Inviter, Lineage, Via},
    keyring::{Fingerprint, KeyMismatch, KeyPurpose, KeyRequest, KnownKey},
    profile::{EditedProfile, ProfileDecision, ProfileEdit, ProfileFacts},
    readiness::StorageReadiness,
    service::{Alert, ServiceCount, ServiceFacts, ServiceFigure, ServiceQuery, WatchRequest},
    session::{EndedSessions, Grant, RefreshDecision, RefreshRequest, Retired, Session},
    sign_in::{SignInDecision, SignInFacts, SignInRequest, StoredSignIn},
    user::{NewUser, UserWithInvited},
    users::{FoundInvitees, FoundUsers, SearchKeys, SearchTerm, UserFilter, UserQuery},
};
pub use memory::MemoryStorage;

use crate::{ChallengeId, PageSize, Refusal, SessionId, SharedSetting, User, UserId};

/// What a storage failed at. Nothing of the request has been committed, unless it failed in the
/// midst of committing: then nobody knows.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// The database is out of reach or has no room for another request; later it may.
    #[error("the storage is out of reach")]
    Unavailable(#[source] BoxError),
    /// Every invite code that a new user was offered is taken.
    #[error("every invite code that was drawn for a new user is taken")]
    InviteCodesExhausted,
    /// Anything else: a statement that the database does not understand, a value that cannot be.
    #[error("the storage failed")]
    Failed(#[source] BoxError),
}

/// The error of whatever database it is.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What a storage answers.
pub type Result<T> = std::result::Result<T, StorageError>;

/// What a storage answers where a rule has a say: the inner `Err` is a refusal.
pub type Decided<T, R = Refusal> = Result<std::result::Result<T, R>>;

/// A session with its user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredSession {
    /// The session.
    pub session: Session,
    /// Its user.
    pub user: UserWithInvited,
}

/// A user who is staff now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewStaff {
    /// The user.
    pub user: User,
    /// The sessions that were ended, newest first.
    pub ended_sessions: Vec<SessionId>,
}

/// What is to be deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sweep {
    /// Challenges, sessions and counters that ended before this.
    pub ended_before: OffsetDateTime,
    /// Figures of the service from before this.
    pub figures_before: OffsetDateTime,
    /// What is stored of messages first heard of before this.
    pub messages_before: OffsetDateTime,
    /// How many of each kind at most.
    pub batch: u32,
}

/// Keeps users, invitations, challenges, sessions, and what became of messages.
///
/// Where a method says that writers exclude one another, it is enough that the facts a decision
/// was made on still hold when it is committed: by locking them, or by starting over if not.
/// These hold at any time, whoever writes:
///
/// - a phone, an invite code and an e-mail address each belong to one user at most;
/// - a user has one inviter at most, never changes that, and is not their own;
/// - nobody is among their own inviters, however far up;
/// - [`User::invited_count`] is the number of those invited;
/// - a challenge is redeemed once at most.
///
/// Users are never deleted, but deactivated: invitations outlive whatever happens to an account.
#[async_trait]
pub trait Storage: Send + Sync + 'static {
    /// Decides whether a code may be sent, and if so, stores its challenge and counts it.
    ///
    /// Facts: the newest challenge of the phone, and its user; the counters named; the figures of
    /// the service. Requests for one phone exclude one another, and so do all that have a counter in
    /// common, so that of many at once only as many are granted as in turn. The figures need not be
    /// exact: whoever adds to them waits for nobody.
    async fn start_challenge(&self, request: &ChallengeRequest) -> Decided<GrantedChallenge>;

    /// Forgets a challenge whose code was certainly not sent, and takes back what was counted for
    /// it. Does nothing if there is none.
    async fn void_challenge(&self, challenge: ChallengeId, counting: &Counting) -> Result<()>;

    /// Notes something new about a message, and says what it has come to. Where the news names a
    /// challenge that is there and not redeemed, sets its [`Challenge::gateway`].
    ///
    /// Facts: what is stored of the message, if the news names one. News of one message exclude one
    /// another, so that of the same told many times at once one reaches something.
    async fn note_message(&self, news: &MessageNews) -> Result<MessageChange>;

    /// Redeems a code and signs in: the user, if new, the invitation, the session and the used-up
    /// challenge are committed together; and so is the counted try of a wrong code.
    ///
    /// Facts: the challenge named, if it is for this phone, else the phone's newest; the user with
    /// the phone; the owner of the invite code; the counters named; the figures of the service. Attempts at one challenge exclude
    /// one another, as do those with a counter in common, and sign-ups of one phone. If [`needs_lineage`](SignInRequest::needs_lineage), the
    /// inviter's inviters are walked up to the first while no other late acceptance is under
    /// way anywhere. A new user gets the first of [`NewUser::invite_codes`] that is free.
    ///
    /// # Errors
    ///
    /// [`StorageError::InviteCodesExhausted`] if none of them is.
    async fn sign_in(&self, request: &SignInRequest) -> Decided<StoredSignIn>;

    /// The session with its user and the user's newest invitees, `invited` of them at most.
    /// `None` if there is no such session; one that has ended may be there or not.
    async fn session(&self, id: SessionId, invited: u32) -> Result<Option<StoredSession>>;

    /// Notes that the session's grant is in use, if its access token still has this id.
    async fn note_grant_used(&self, session: SessionId, access_id: Uuid) -> Result<()>;

    /// Exchanges a refresh token and answers with the session whose grant is to be signed.
    ///
    /// Facts: the session, and whether its user is active; without a session the answer is
    /// [`Refusal::TokenNotValid`]. Exchanges in one session exclude one another.
    async fn refresh(&self, request: &RefreshRequest) -> Decided<Session>;

    /// The sessions of a user that have not ended by `now`, newest first, `limit` of them at most.
    async fn sessions(&self, user: UserId, now: OffsetDateTime, limit: u32) -> Result<Vec<Session>>;

    /// Ends sessions of a user, by setting [`Session::revoked_at`], and says which: those that had
    /// not ended by `now`, newest first.
    async fn end_sessions(
        &self,
        user: UserId,
        sessions: EndedSessions,
        now: OffsetDateTime,
    ) -> Result<Vec<SessionId>>;

    /// The user with their newest invitees, `invited` of them at most.
    async fn user(&self, id: UserId, invited: u32) -> Result<Option<UserWithInvited>>;

    /// Returns a page of users, newest (that is, of the highest id) first.
    ///
    /// A list that [is expensive](UserQuery::is_expensive) must not keep other requests from being
    /// answered: it waits for a place among few, of which a caller has one at a time. If it takes too
    /// long, the answer is [`Refusal::SearchTooBroad`]. A storage that answers from memory may do
    /// without both.
    async fn users(&self, query: &UserQuery) -> Decided<FoundUsers>;

    /// A page of those who were invited by `inviter`, newest user first, beginning with the
    /// first that is older than `older_than`. `None` if there is no such inviter.
    async fn invitees(
        &self,
        inviter: UserId,
        older_than: Option<UserId>,
        limit: PageSize,
    ) -> Result<Option<FoundInvitees>>;

    /// Changes a profile: all of it, or nothing.
    ///
    /// Facts: the user, the owner of the e-mail address asked for, the owner of the invite code, the
    /// counters named, and the lineage as for [`sign_in`](Self::sign_in). Without the user the answer is
    /// [`Refusal::UserNotFound`]. Of many who ask for one address at once, one gets it.
    async fn edit_profile(&self, edit: &ProfileEdit) -> Decided<EditedProfile, Vec<Refusal>>;

    /// Makes the user with this phone staff; makes the user first, if there is none. Ends the sessions of
    /// a user who was not staff before: they began with fewer rights, perhaps at a shared device.
    async fn make_staff(&self, user: &NewUser, now: OffsetDateTime) -> Result<NewStaff>;

    /// Lets the user sign in, or not, from now on. `None` if there is no such user.
    async fn set_active(&self, id: UserId, is_active: bool) -> Result<Option<User>>;

    /// Looks at the figures of the service, notes an attack if there is one, and says how it is.
    async fn watch(&self, request: &WatchRequest) -> Result<Alert>;

    /// Deletes what is over, at most [`Sweep::batch`] of each kind, and says how many in all.
    async fn sweep(&self, sweep: &Sweep) -> Result<u64>;

    /// The keys that are, or were, the first of the ring of somebody who shares this storage.
    async fn known_keys(&self) -> Result<Vec<KnownKey>>;

    /// Takes note of the keys of a process that is about to begin, or says why it must not.
    ///
    /// Facts: the known keys. Of two processes that begin at once, the second sees the keys of
    /// the first.
    async fn agree_on_keys(&self, request: &KeyRequest) -> Decided<(), KeyMismatch>;

    /// Returns the settings that [`record_settings`](Self::record_settings) recorded last, in any order.
    async fn shared_settings(&self) -> Result<Vec<SharedSetting>>;

    /// Records settings of a process that starts, in place of those recorded under the same names.
    async fn record_settings(&self, settings: &[SharedSetting]) -> Result<()>;

    /// Checks whether requests can be served: the database accepts writes, its schema works with this version
    /// of the storage, and it has room for more.
    async fn check_ready(&self) -> StorageReadiness;

    /// Returns the current time by the clock of the storage, with microseconds, or `None` if the storage has
    /// no clock but the one of this host. The time must not be that at which a transaction began.
    async fn current_time(&self) -> Result<Option<OffsetDateTime>> {
        Ok(None)
    }

    /// Ends what is open, after the last request. Does nothing unless there is something to end.
    async fn close(&self) {}
}
