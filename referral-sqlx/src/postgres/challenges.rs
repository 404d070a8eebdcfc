//! Challenges: codes that are sent, and canceled if they were not sent.

use referral_core::{
    ChallengeId,
    storage::{
        ChallengeFacts, ChallengeRequest, ChallengeWrites, CounterUpdate, Counters, Decided, Decision,
        GrantedChallenge, Result,
    },
};

use super::{
    counters::{self, bind_keys, global_counters, seven_counters},
    lease::Lease,
    rows,
    write::Write,
};
use crate::error::failure;

/// Selects the facts for a request for a code: seven counters, the state of the service, the newest challenge
/// of the phone `$9`, and the last login of its user.
pub(super) const CHALLENGE_FACTS: &str = concat!(
    "SELECT ",
    seven_counters!(),
    ", ",
    global_counters!("$8"),
    ", c.number, c.sent_at AS last_sent_at, c.redeemed_at IS NOT NULL AS last_is_redeemed, \
       c.code_length AS last_code_length, u.last_login \
     FROM (SELECT 1) one \
     LEFT JOIN LATERAL ( \
         SELECT number, sent_at, redeemed_at, code_length FROM referral.challenges \
         WHERE phone = $9 ORDER BY number DESC LIMIT 1 \
     ) c ON TRUE \
     LEFT JOIN referral.users u ON u.phone = $9"
);

/// Decides whether a code may be sent, and stores its challenge.
pub(super) async fn start(lease: &mut Lease, request: &ChallengeRequest) -> Decided<GrantedChallenge> {
    let (query, keys) = (request.global_counters(), request.counters());
    let facts = bind_keys(lease.query(CHALLENGE_FACTS), &keys, 7)
        .bind(query.failed_attempts_since)
        .bind(request.phone.as_str());
    let row = lease.fetch_one(facts).await.map_err(failure)?;
    let newest = rows::get::<Option<i64>>(&row, "number")?.unwrap_or(0);
    let facts = ChallengeFacts {
        last_sent_at: rows::optional_time(&row, "last_sent_at")?,
        last_is_redeemed: rows::get(&row, "last_is_redeemed")?,
        last_code_length: rows::optional_number(&row, "last_code_length")?,
        last_login: rows::optional_time(&row, "last_login")?,
        counters: rows::counters(&row, keys)?,
        global_counters: counters::global(lease, &row, query).await?,
    };
    let Decision { writes, outcome } = request.decide(&facts);
    add(lease, newest, &facts.counters, &writes).await?;
    Ok(outcome)
}

/// Selects the number of the newest challenge of a phone, and locks the challenge, so that it is not deleted
/// and its number is not used again.
pub(super) const KEEP_NEWEST: &str = "\
    SELECT number FROM referral.challenges WHERE phone = $1 AND $after ORDER BY number DESC LIMIT 1 FOR KEY SHARE";

/// Adds a challenge, if the `newest` challenge of its phone has the number before it.
pub(super) const ADD_CHALLENGE: &str = "\
    INSERT INTO referral.challenges (id, phone, number, signs_in, code_length, code_hash, pepper_id, sent_at, \
                                     expires_at, redeemed_at, attempts_with_id, attempts_without_id, address) \
    SELECT $1::uuid, $2, $3::bigint, $4::boolean, $5::bigint, $6::bytea, $7, $8::timestamptz, $9::timestamptz, \
           $10::timestamptz, $11::bigint, $12::bigint, $13 \
    WHERE coalesce((SELECT number FROM newest), 0) + 1 = $3 AND $after \
    ON CONFLICT (phone, number) DO NOTHING RETURNING 1";

pub(super) const EXTEND_ATTACK: &str = "\
    UPDATE referral.attack_state SET attack_until = greatest(attack_until, $1) WHERE only_row AND $after RETURNING 1";

/// Stores a challenge with the number after `newest`, the number of the newest challenge of the phone, and
/// updates counters. `facts` are the counters on which the decision depends.
async fn add(lease: &mut Lease, newest: i64, facts: &Counters, writes: &ChallengeWrites) -> Result<()> {
    let mut write = Write::new();
    if let Some(challenge) = &writes.challenge {
        write.optional_step("newest", KEEP_NEWEST).bind(challenge.phone.as_str());
        write
            .step("added", ADD_CHALLENGE)
            .bind(challenge.id.0)
            .bind(challenge.phone.as_str())
            .bind(newest + 1)
            .bind(challenge.signs_in)
            .bind(i64::from(challenge.code_length))
            .bind(challenge.code_hash.as_slice())
            .bind(&*challenge.pepper_id)
            .bind(challenge.sent_at)
            .bind(challenge.expires_at)
            .bind(challenge.redeemed_at)
            .bind(i64::from(challenge.attempts_with_id))
            .bind(i64::from(challenge.attempts_without_id))
            .bind(challenge.address.map(|address| address.to_string()));
    }
    counters::push(&mut write, facts, &writes.counters);
    if let Some(until) = writes.attack_until {
        write.step("attack", EXTEND_ATTACK).bind(until);
    }
    write.execute(lease).await
}

pub(super) const DELETE_CHALLENGE: &str = "DELETE FROM referral.challenges WHERE id = $1";

/// Deletes a challenge whose code was not sent, and updates counters if the challenge existed.
pub(super) async fn cancel(lease: &mut Lease, id: ChallengeId, update: &CounterUpdate) -> Result<()> {
    let delete = lease.query(DELETE_CHALLENGE).bind(id.0);
    if lease.execute(delete).await.map_err(failure)?.rows_affected() > 0 {
        counters::update(lease, &Counters::default(), update).await?;
    }
    Ok(())
}
