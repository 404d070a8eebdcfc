//! Change of the phone of a user.

use referral_core::{
    Refusal, UserId,
    storage::{
        AttemptWrites, ChangedPhone, Decided, Decision, PhoneChangeFacts, PhoneChangeRequest,
        PhoneChangeWrites, SessionSelection,
    },
};
use sqlx::sqlite::SqliteRow;
use uuid::Uuid;

use super::{
    Hook, audit,
    batch::{Batch, no_facts},
    connection::Connection,
    counters::{self, bind_keys, four_counters, global_counters},
    deletion, rows, sessions,
    sign_in::push_challenge,
    users::{self, user_columns},
    write_queue::Decide,
};
use crate::{encoding::time_to_micros, hook::Changes, rows::challenge_columns};

/// Selects the facts for a change of a phone: four counters, the state of the service, the challenge `$7` if
/// it belongs to the new phone `$6`, the user with the new phone, and the user `$8`.
pub(super) const PHONE_CHANGE_FACTS: &str = concat!(
    "SELECT ",
    four_counters!(),
    ", ",
    global_counters!("$5"),
    ", ",
    challenge_columns!(),
    ", ",
    user_columns!(),
    ", (SELECT id FROM referral_users WHERE phone = $6) AS phone_owner \
     FROM (SELECT 1) one LEFT JOIN referral_challenges c ON c.id = $7 AND c.phone = $6 \
     LEFT JOIN referral_users u ON u.id = $8 AND u.erased_at IS NULL \
     LEFT JOIN referral_invitations i ON i.invitee = u.id"
);

/// Change of the phone of a user.
pub(super) struct PhoneChange {
    pub(super) request: PhoneChangeRequest,
    pub(super) hook: Option<Hook>,
}

impl Decide for PhoneChange {
    type Outcome = std::result::Result<ChangedPhone, Refusal>;

    fn push_facts(&self, batch: &mut Batch) {
        let redemption = &self.request.redemption;
        bind_keys(batch.push(PHONE_CHANGE_FACTS), &redemption.counters(), 4)
            .bind(redemption.global_counters().failed_attempts_since.map(time_to_micros))
            .bind(redemption.phone.as_str())
            .bind(redemption.challenge.0)
            .bind(self.request.user.0);
    }

    async fn decide(
        self,
        facts: Option<SqliteRow>,
        connection: &mut Connection<'_>,
        batch: &mut Batch,
    ) -> Decided<ChangedPhone> {
        let Self { request, hook } = self;
        let row = facts.ok_or_else(no_facts)?;
        let user = rows::get::<Option<Uuid>>(&row, "id")?;
        let facts = PhoneChangeFacts {
            user: user.map(|_| rows::user(&row)).transpose()?,
            owner: rows::get::<Option<Uuid>>(&row, "phone_owner")?.map(UserId),
            redemption: deletion::read(connection, &row, &request.redemption).await?,
        };
        let Decision { writes, outcome } = request.decide(&facts);
        let (mut ended_sessions, mut entry) = (Vec::new(), None);
        match &writes {
            PhoneChangeWrites::Attempt(AttemptWrites { challenge, counters }) => {
                if let Some(challenge) = challenge {
                    push_challenge(batch, challenge);
                }
                counters::push(batch, counters);
            }
            PhoneChangeWrites::Change { challenge, user, counters, audit } => {
                let others = SessionSelection::AllExcept(request.session);
                ended_sessions = sessions::end(connection, user.id, others, request.now).await?;
                push_challenge(batch, challenge);
                users::push_phone(batch, user);
                counters::push(batch, counters);
                audit::push(batch, audit)?;
                entry = Some(audit.clone());
                if let Some(hook) = hook {
                    let phone_changed = Some((user, request.old_phone()));
                    let changes = Changes { phone_changed, ..Changes::default() };
                    batch.write_changes_with_hook(connection, &hook, changes).await?;
                }
            }
        }
        Ok(outcome.map(|user| ChangedPhone { user, ended_sessions, audit: entry }))
    }
}
