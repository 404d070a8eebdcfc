//! Conversion of rows to the types of the core.
//!
//! This crate checks values before it writes them. A value that cannot be read was written by another
//! program. All databases have the same columns, so a macro generates the functions for each of them.

use referral_core::{
    Email, ExternalId, InvalidInput, InviteCode, InvitedBy, Metadata, Name, PhoneNumber, User, UserId,
    storage::Result,
};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::error::unreadable;

/// Columns of a user, as [`user_columns`] selects them.
pub(crate) struct UserColumns<'r> {
    pub(crate) id: Uuid,
    pub(crate) phone: String,
    pub(crate) invite_code: &'r str,
    pub(crate) email: Option<&'r str>,
    pub(crate) first_name: Option<&'r str>,
    pub(crate) last_name: Option<&'r str>,
    pub(crate) staff_role: Option<&'r str>,
    pub(crate) is_active: bool,
    pub(crate) date_joined: OffsetDateTime,
    pub(crate) last_login: Option<OffsetDateTime>,
    pub(crate) last_active: Option<OffsetDateTime>,
    pub(crate) phone_detached_at: Option<OffsetDateTime>,
    pub(crate) inviter: Option<Uuid>,
    pub(crate) inviter_code: Option<&'r str>,
    pub(crate) invited_count: u64,
    pub(crate) external_id: Option<&'r str>,
    pub(crate) metadata: &'r str,
    pub(crate) deletion_at: Option<OffsetDateTime>,
}

impl UserColumns<'_> {
    pub(crate) fn parse(self) -> Result<User> {
        let inviter_code = optional(self.inviter_code, InviteCode::from_stored)?;
        let invited_by = self.inviter.zip(inviter_code);
        Ok(User {
            id: UserId(self.id),
            phone: PhoneNumber::from_stored(self.phone).map_err(unreadable)?,
            invite_code: InviteCode::from_stored(self.invite_code).map_err(unreadable)?,
            invited_by: invited_by.map(|(inviter, code)| InvitedBy { inviter: UserId(inviter), code }),
            invited_count: self.invited_count,
            email: optional(self.email, Email::from_stored)?,
            first_name: optional(self.first_name, Name::from_stored)?,
            last_name: optional(self.last_name, Name::from_stored)?,
            staff_role: optional(self.staff_role, str::parse)?,
            is_active: self.is_active,
            date_joined: self.date_joined,
            last_login: self.last_login,
            last_active: self.last_active,
            phone_detached_at: self.phone_detached_at,
            external_id: optional(self.external_id, ExternalId::from_stored)?,
            metadata: Metadata::from_stored(self.metadata).map_err(unreadable)?,
            deletion_at: self.deletion_at,
        })
    }
}

/// Parses a column that may be NULL.
pub(crate) fn optional<T>(
    column: Option<&str>,
    parse: fn(&str) -> std::result::Result<T, InvalidInput>,
) -> Result<Option<T>> {
    column.map(parse).transpose().map_err(unreadable)
}

/// Generates the functions that read the rows of one database, which stores times as `$stored_time`.
/// `$read_events` reads the events of a counter.
macro_rules! read_rows {
    ($database:ty, $row:ty, $stored_time:ty, $read_time:path, $read_events:path) => {
        use referral_core::{
            AcceptedVia, ChallengeId, ClientAddress, CodeRequest, CodeRequestKind, CodeRequestOutcome,
            CodeRequestView, Invitation, InviteCode, PhoneHash, PhoneNumber, ReachedLimit, Region, Session,
            SessionId, User, UserId,
            audit::{Actor, AuditEntry, AuditEntryId, Reason},
            keys::KeyPurpose,
            sms::DeliveryStatus,
            storage::{
                Challenge, CounterKey, Counters, CustomClaims, DueDeletion, ErasedUser, Invitee,
                IssuedTokens, RegisteredKey, Result, StoredMessage, UserRecord,
            },
        };
        use sqlx::Row as _;
        use time::OffsetDateTime;
        use uuid::Uuid;

        use crate::{
            encoding::{failed_attempts_from_bytes, superseded_from_bytes},
            error::unreadable,
            rows::{UserColumns, optional},
        };

        /// Columns of the counters that are read together with other facts. No request has more than seven. A
        /// request for a code from an IPv6 address has the most: one for the phone, one for the number range,
        /// three for the networks of the address, one for the address with the phone, and one for the address
        /// with the number range.
        pub(super) const COUNTER_COLUMNS: [&str; 7] =
            ["counter_0", "counter_1", "counter_2", "counter_3", "counter_4", "counter_5", "counter_6"];

        pub(super) fn user(row: &$row) -> Result<User> {
            let columns = UserColumns {
                id: get(row, "id")?,
                phone: get(row, "phone")?,
                invite_code: get(row, "invite_code")?,
                email: get(row, "email")?,
                first_name: get(row, "first_name")?,
                last_name: get(row, "last_name")?,
                staff_role: get(row, "staff_role")?,
                is_active: get(row, "is_active")?,
                date_joined: time(row, "date_joined")?,
                last_login: optional_time(row, "last_login")?,
                last_active: optional_time(row, "last_active")?,
                phone_detached_at: optional_time(row, "phone_detached_at")?,
                inviter: get(row, "inviter")?,
                inviter_code: get(row, "inviter_code")?,
                invited_count: number(row, "invited_count")?,
                external_id: get(row, "external_id")?,
                metadata: get(row, "metadata")?,
                deletion_at: optional_time(row, "deletion_at")?,
            };
            columns.parse()
        }

        /// Reads the invitee of a row, if it has one.
        pub(super) fn invitee(row: &$row) -> Result<Option<Invitee>> {
            let Some(id) = get::<Option<Uuid>>(row, "invitee_id")?.map(UserId) else {
                return Ok(None);
            };
            let phone = PhoneNumber::from_stored(get(row, "invitee_phone")?).map_err(unreadable)?;
            Ok(Some(Invitee { id, phone, joined_at: time(row, "invitee_joined")? }))
        }

        /// Reads the challenge of a row that was selected by `phone`.
        pub(super) fn challenge(row: &$row, phone: &PhoneNumber) -> Result<Challenge> {
            Ok(Challenge {
                id: ChallengeId(get(row, "challenge_id")?),
                phone: phone.clone(),
                signs_in: get(row, "signs_in")?,
                code_length: number(row, "code_length")?,
                code_hash: get::<&[u8]>(row, "code_hash")?.try_into().map_err(unreadable)?,
                pepper_id: get(row, "pepper_id")?,
                sent_at: time(row, "sent_at")?,
                expires_at: time(row, "code_expires_at")?,
                redeemed_at: optional_time(row, "redeemed_at")?,
                attempts_with_id: number(row, "attempts_with_id")?,
                attempts_without_id: number(row, "attempts_without_id")?,
                address: address(row, "code_address")?,
                failed_attempts: failed_attempts_from_bytes(get(row, "failed_attempts")?)?,
                gateway: get(row, "gateway")?,
            })
        }

        /// Reads the counters of a row that were selected by `keys`. The column of a counter that is not
        /// stored is NULL.
        pub(super) fn counters(row: &$row, keys: Vec<CounterKey>) -> Result<Counters> {
            let read = |(key, column)| {
                let events = get::<Option<_>>(row, column).transpose()?;
                Some(events.and_then($read_events).map(|events| (key, events)))
            };
            keys.into_iter().zip(COUNTER_COLUMNS).filter_map(read).collect()
        }

        pub(super) fn session(row: &$row) -> Result<Session> {
            Ok(Session {
                id: SessionId(get(row, "session_id")?),
                user: UserId(get(row, "user_id")?),
                created_at: time(row, "created_at")?,
                expires_at: time(row, "expires_at")?,
                revoked_at: optional_time(row, "revoked_at")?,
                issued: IssuedTokens {
                    key_id: get(row, "key_id")?,
                    access_id: get(row, "access_id")?,
                    refresh_id: get(row, "refresh_id")?,
                    issued_at: time(row, "issued_at")?,
                    access_expires_at: time(row, "access_expires_at")?,
                    refresh_expires_at: time(row, "refresh_expires_at")?,
                    claims: optional(get(row, "claims")?, CustomClaims::from_stored)?,
                },
                tokens_used: get(row, "tokens_used")?,
                previous_refresh_id: get(row, "previous_refresh_id")?,
                repeated_late: get(row, "repeated_late")?,
                late_repeats: number(row, "late_repeats")?,
                superseded: superseded_from_bytes(get(row, "superseded")?)?,
                address: address(row, "address")?,
                user_agent: get(row, "user_agent")?,
            })
        }

        /// Reads an entry of the audit log.
        pub(super) fn audit_entry(row: &$row) -> Result<AuditEntry> {
            Ok(AuditEntry {
                id: AuditEntryId(get(row, "id")?),
                at: time(row, "at")?,
                actor: Actor::from_user(get::<Option<Uuid>>(row, "actor")?.map(UserId)),
                action: get::<&str>(row, "action")?.parse().map_err(unreadable)?,
                user: get::<Option<Uuid>>(row, "user_id")?.map(UserId),
                reason: optional(get(row, "reason")?, Reason::from_stored)?,
                changes: serde_json::from_str(get(row, "changes")?).map_err(unreadable)?,
            })
        }

        pub(super) fn invitation(row: &$row) -> Result<Invitation> {
            let via = get::<&str>(row, "via")?;
            let via = AcceptedVia::ALL.into_iter().find(|known| known.as_str() == via);
            Ok(Invitation {
                invitee: UserId(get(row, "invitee")?),
                inviter: UserId(get(row, "inviter")?),
                code: InviteCode::from_stored(get(row, "code")?).map_err(unreadable)?,
                accepted_at: time(row, "accepted_at")?,
                via: via.ok_or_else(|| unreadable("an invitation was accepted by an unknown operation"))?,
            })
        }

        /// Reads a record with the columns of [`record_columns`].
        pub(super) fn record(row: &$row) -> Result<UserRecord> {
            let inviter = get::<Option<Uuid>>(row, "inviter")?;
            let invitation = inviter.map(|_| invitation(row)).transpose()?;
            Ok(match optional_time(row, "erased_at")? {
                None => UserRecord::of(user(row)?, invitation),
                Some(erased_at) => {
                    let erased = ErasedUser {
                        id: UserId(get(row, "id")?),
                        invite_code: InviteCode::from_stored(get(row, "invite_code")?).map_err(unreadable)?,
                        date_joined: time(row, "date_joined")?,
                        erased_at,
                    };
                    UserRecord::of_erased(erased, invitation)
                }
            })
        }

        /// Reads the scheduled deletion of a user.
        pub(super) fn due_deletion(row: &$row) -> Result<DueDeletion> {
            Ok(DueDeletion { deletion_at: time(row, "deletion_at")?, user: UserId(get(row, "id")?) })
        }

        /// Reads an hour and the number of messages that were sent in it.
        pub(super) fn messages(row: &$row) -> Result<(OffsetDateTime, u64)> {
            let count = get::<i64>(row, "count")?;
            Ok((time(row, "period_start")?, u64::try_from(count).unwrap_or_default()))
        }

        pub(super) fn message(row: &$row) -> Result<StoredMessage> {
            let status = get::<&str>(row, "status")?;
            let status = DeliveryStatus::ALL.into_iter().find(|known| known.as_str() == status);
            Ok(StoredMessage {
                is_ours: get(row, "is_ours")?,
                region: optional(get(row, "region")?, Region::parse)?,
                status: status.ok_or_else(|| unreadable("a message has an unknown status"))?,
            })
        }

        /// Reads a record of a request with the status of its message.
        pub(super) fn code_request(row: &$row) -> Result<CodeRequestView> {
            let kind = get::<&str>(row, "kind")?;
            let kind = CodeRequestKind::ALL.iter().find(|known| known.as_str() == kind);
            let outcome = get::<&str>(row, "outcome")?;
            let outcome = CodeRequestOutcome::ALL.iter().find(|known| known.as_str() == outcome);
            let limit = get::<Option<String>>(row, "limit_name")?.zip(optional_time(row, "free_at")?);
            let rule = get(row, "limit_rule")?;
            let status = get::<Option<&str>>(row, "message_status")?.map(|status| {
                let known = DeliveryStatus::ALL.into_iter().find(|known| known.as_str() == status);
                known.ok_or_else(|| unreadable("a message has an unknown status"))
            });
            let request = CodeRequest {
                id: get(row, "id")?,
                at: time(row, "requested_at")?,
                phone: PhoneHash(get::<&[u8]>(row, "phone_hash")?.try_into().map_err(unreadable)?),
                kind: *kind.ok_or_else(|| unreadable("a request for a code has an unknown kind"))?,
                purpose: get(row, "purpose")?,
                outcome: *outcome.ok_or_else(|| unreadable("a request for a code has an unknown outcome"))?,
                reason: get(row, "reason")?,
                limit: limit.map(|(name, free_at)| ReachedLimit { name, rule, free_at }),
                gateway: get(row, "gateway")?,
                message_id: get(row, "message_id")?,
                request_id: get(row, "request_id")?,
            };
            Ok(CodeRequestView { request, message_status: status.transpose()? })
        }

        pub(super) fn registered_key(row: &$row) -> Result<RegisteredKey> {
            let purpose = get::<&str>(row, "purpose")?;
            let purpose = KeyPurpose::ALL.into_iter().find(|known| known.as_str() == purpose);
            Ok(RegisteredKey {
                purpose: purpose.ok_or_else(|| unreadable("a key has an unknown purpose"))?,
                id: get(row, "id")?,
                fingerprint: get::<&[u8]>(row, "fingerprint")?.try_into().map_err(unreadable)?,
                needed_until: optional_time(row, "needed_until")?,
            })
        }

        pub(super) fn get<'r, T>(row: &'r $row, column: &'static str) -> Result<T>
        where
            T: sqlx::Decode<'r, $database> + sqlx::Type<$database>,
        {
            row.try_get(column).map_err(unreadable)
        }

        pub(super) fn optional_time(row: &$row, column: &'static str) -> Result<Option<OffsetDateTime>> {
            get::<Option<$stored_time>>(row, column)?.map($read_time).transpose()
        }

        /// Reads a number. The schema ensures that it is in range.
        pub(super) fn number<T: TryFrom<i64>>(row: &$row, column: &'static str) -> Result<T>
        where
            T::Error: std::error::Error + Send + Sync + 'static,
        {
            T::try_from(get(row, column)?).map_err(unreadable)
        }

        pub(super) fn optional_number<T: TryFrom<i64>>(row: &$row, column: &'static str) -> Result<Option<T>>
        where
            T::Error: std::error::Error + Send + Sync + 'static,
        {
            get::<Option<i64>>(row, column)?.map(|number| T::try_from(number).map_err(unreadable)).transpose()
        }

        fn time(row: &$row, column: &'static str) -> Result<OffsetDateTime> {
            get(row, column).and_then($read_time)
        }

        fn address(row: &$row, column: &'static str) -> Result<Option<ClientAddress>> {
            optional(get(row, column)?, str::parse)
        }
    };
}
pub(crate) use read_rows;

/// Columns of a user `u` with the invitation `i`. The parameter is the number of invitees.
macro_rules! user_columns {
    ($invited_count:expr) => {
        concat!(
            "u.id, coalesce(u.phone, u.former_phone) AS phone, u.invite_code, u.email, u.first_name, u.last_name, \
             u.staff_role, u.is_active, u.date_joined, u.last_login, u.last_active, u.phone_detached_at, u.external_id, \
             u.metadata, u.deletion_at, i.inviter, i.code AS inviter_code, ",
            $invited_count,
            " AS invited_count"
        )
    };
}
pub(crate) use user_columns;

/// Columns of an entry of the audit log.
macro_rules! audit_columns {
    () => {
        "id, at, actor, action, user_id, reason, changes"
    };
}
pub(crate) use audit_columns;

/// Columns of the record of a user `u` with the invitation `i`. The number of invitees is not read.
macro_rules! record_columns {
    () => {
        concat!(
            $crate::rows::user_columns!("CAST(0 AS bigint)"),
            ", u.erased_at, i.invitee, i.code, i.accepted_at, i.via"
        )
    };
}
pub(crate) use record_columns;

/// Columns of an invitee `p`.
macro_rules! invitee_columns {
    () => {
        "p.id AS invitee_id, p.phone AS invitee_phone, p.date_joined AS invitee_joined"
    };
}
pub(crate) use invitee_columns;

/// Condition of a session `s` that is active at the time `$now`, as `Session::is_active` defines it.
macro_rules! is_active_session {
    ($now:literal) => {
        concat!("s.revoked_at IS NULL AND s.ends_at > ", $now)
    };
}
pub(crate) use is_active_session;

/// Columns of a session `s`.
macro_rules! session_columns {
    () => {
        "s.id AS session_id, s.user_id, s.created_at, s.expires_at, s.revoked_at, s.key_id, s.access_id, \
         s.refresh_id, s.issued_at, s.access_expires_at, s.refresh_expires_at, s.tokens_used, s.previous_refresh_id, \
         s.superseded, s.address, s.user_agent, s.repeated_late, s.late_repeats, s.claims"
    };
}
pub(crate) use session_columns;

/// Columns of a challenge `c` except for its phone.
macro_rules! challenge_columns {
    () => {
        "c.id AS challenge_id, c.signs_in, c.code_length, c.code_hash, c.pepper_id, c.sent_at, \
         c.expires_at AS code_expires_at, c.redeemed_at, c.attempts_with_id, c.attempts_without_id, \
         c.address AS code_address, c.failed_attempts, c.gateway"
    };
}
pub(crate) use challenge_columns;

/// Columns of a record of a request `r` with its message `m`.
macro_rules! code_request_columns {
    () => {
        "r.phone_hash, r.id, r.requested_at, r.kind, r.purpose, r.outcome, r.reason, r.limit_name, r.limit_rule, \
         r.free_at, r.gateway, r.message_id, r.request_id, m.status AS message_status"
    };
}
pub(crate) use code_request_columns;
