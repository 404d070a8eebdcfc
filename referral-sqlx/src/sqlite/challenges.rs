//! Challenges: codes that are sent, and canceled if they were not sent.

use referral_core::{
    ChallengeId, Refusal,
    storage::{
        Challenge, ChallengeFacts, ChallengeRequest, CounterUpdate, Decided, Decision, GrantedChallenge,
        Result,
    },
};
use sqlx::sqlite::SqliteRow;

use super::{
    batch::{Batch, no_facts},
    connection::Connection,
    counters::{self, bind_keys, global_counters, seven_counters},
    rows,
    write_queue::Decide,
};
use crate::{
    encoding::{failed_attempts_to_bytes, time_to_micros},
    error::failure,
};

/// Selects the facts for a request for a code: seven counters, the state of the service, the newest challenge
/// of the phone `$9`, and the last login of its user.
pub(super) const CHALLENGE_FACTS: &str = concat!(
    "SELECT ",
    seven_counters!(),
    ", ",
    global_counters!("$8"),
    ", c.sent_at AS last_sent_at, c.redeemed_at IS NOT NULL AS last_is_redeemed, \
       c.code_length AS last_code_length, \
       (SELECT last_login FROM referral_users WHERE phone = $9) AS last_login \
     FROM (SELECT 1) one \
     LEFT JOIN referral_challenges c ON c.id = (SELECT id FROM referral_challenges WHERE phone = $9 ORDER BY id DESC LIMIT 1)"
);

impl Decide for ChallengeRequest {
    type Outcome = std::result::Result<GrantedChallenge, Refusal>;

    fn push_facts(&self, batch: &mut Batch) {
        bind_keys(batch.push(CHALLENGE_FACTS), &self.counters(), 7)
            .bind(self.global_counters().failed_attempts_since.map(time_to_micros))
            .bind(self.phone.as_str());
    }

    async fn decide(
        self,
        facts: Option<SqliteRow>,
        connection: &mut Connection<'_>,
        batch: &mut Batch,
    ) -> Decided<GrantedChallenge> {
        let row = facts.ok_or_else(no_facts)?;
        let facts = ChallengeFacts {
            last_sent_at: rows::optional_time(&row, "last_sent_at")?,
            last_is_redeemed: rows::get(&row, "last_is_redeemed")?,
            last_code_length: rows::optional_number(&row, "last_code_length")?,
            last_login: rows::optional_time(&row, "last_login")?,
            counters: rows::counters(&row, self.counters())?,
            global_counters: counters::global(connection, &row, self.global_counters()).await?,
        };
        let Decision { writes, outcome } = Self::decide(&self, &facts);
        if let Some(challenge) = &writes.challenge {
            push_new(batch, challenge);
        }
        counters::push(batch, &writes.counters);
        if let Some(until) = writes.attack_until {
            counters::push_attack(batch, until);
        }
        Ok(outcome)
    }
}

const ADD_CHALLENGE: &str = "\
    INSERT INTO referral_challenges (id, phone, signs_in, code_length, code_hash, pepper_id, sent_at, \
                            expires_at, redeemed_at, attempts_with_id, attempts_without_id, address, \
                            failed_attempts) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)";

fn push_new(batch: &mut Batch, challenge: &Challenge) {
    batch
        .push(ADD_CHALLENGE)
        .bind(challenge.id.0)
        .bind(challenge.phone.as_str())
        .bind(challenge.signs_in)
        .bind(challenge.code_length)
        .bind(challenge.code_hash.as_slice())
        .bind(&*challenge.pepper_id)
        .bind(time_to_micros(challenge.sent_at))
        .bind(time_to_micros(challenge.expires_at))
        .bind(challenge.redeemed_at.map(time_to_micros))
        .bind(challenge.attempts_with_id)
        .bind(challenge.attempts_without_id)
        .bind(challenge.address.map(|address| address.to_string()))
        .bind(failed_attempts_to_bytes(&challenge.failed_attempts));
}

const DELETE_CHALLENGE: &str = "DELETE FROM referral_challenges WHERE id = $1";

/// Deletes a challenge whose code was not sent, and updates counters if the challenge existed.
pub(super) async fn cancel(
    connection: &mut Connection<'_>,
    id: ChallengeId,
    update: &CounterUpdate,
) -> Result<()> {
    let delete = sqlx::query(DELETE_CHALLENGE).bind(id.0);
    if connection.execute(delete).await.map_err(failure)?.rows_affected() > 0 {
        let mut batch = Batch::new();
        counters::push(&mut batch, update);
        batch.write(connection).await?;
    }
    Ok(())
}
