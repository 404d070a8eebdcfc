//! Challenges: codes that are sent, delivered and redeemed.

use async_trait::async_trait;
use referral_core::{
    ChallengeId, PhoneNumber, Session, SessionId,
    storage::{
        Ancestry, Challenge, ChallengeFacts, ChallengeRequest, ChallengeStorage, ChallengeWrites,
        CodeRequest, CodeRequestView, CounterUpdate, Decided, Decision, DeliveryFacts, DeliveryTransition,
        DeliveryUpdate, GrantedChallenge, PhoneHash, Result, SignInFacts, SignInOutcome, SignInRequest,
        SignInWrites,
    },
};

use time::OffsetDateTime;

use crate::{
    RedisStorage,
    documents::{Message, list, micros},
    transaction::{ALL, Transaction},
};

#[async_trait]
impl ChallengeStorage for RedisStorage {
    async fn start_challenge(&self, request: &ChallengeRequest) -> Decided<GrantedChallenge> {
        self.transaction(|mut tx| async move {
            let newest = tx.newest_challenge(&request.phone).await?;
            let facts = ChallengeFacts {
                last_sent_at: newest.as_ref().map(|challenge| challenge.sent_at),
                last_is_redeemed: newest.as_ref().is_some_and(|challenge| challenge.redeemed_at.is_some()),
                last_code_length: newest.as_ref().map(|challenge| challenge.code_length),
                last_login: tx.user_with_phone(&request.phone).await?.and_then(|user| user.last_login),
                counters: tx.counters(&request.counters()).await?,
                global_counters: tx.global_counters(request.global_counters()).await?,
            };
            let Decision { writes, outcome } = request.decide(&facts);
            let ChallengeWrites { challenge, counters, attack_until } = writes;
            if let Some(challenge) = &challenge {
                tx.put(challenge)?;
            }
            tx.count(&counters).await?;
            tx.record_attack(attack_until).await?;
            tx.commit(outcome).await
        })
        .await
    }

    async fn cancel_challenge(&self, challenge: ChallengeId, counters: &CounterUpdate) -> Result<()> {
        self.transaction(|mut tx| async move {
            if let Some(challenge) = tx.get::<Challenge>(challenge).await? {
                tx.delete(&challenge);
                tx.count(counters).await?;
            }
            tx.commit(()).await
        })
        .await
    }

    async fn record_delivery(&self, update: &DeliveryUpdate) -> Result<DeliveryTransition> {
        self.transaction(|mut tx| async move {
            let stored = match &update.message {
                Some(key) => tx.get::<Message>(Message::id_of(key)).await?,
                None => None,
            };
            let challenge = match &update.challenge {
                Some((id, _)) => tx.get::<Challenge>(id).await?,
                None => None,
            };
            let facts = DeliveryFacts {
                message: stored.as_ref().map(|stored| stored.state),
                has_open_challenge: challenge
                    .as_ref()
                    .is_some_and(|challenge| challenge.redeemed_at.is_none()),
            };
            let Decision { writes, outcome } = update.decide(facts);
            if let Some((_, gateway)) = writes.gateway
                && let Some(challenge) = challenge
            {
                tx.put(&Challenge { gateway: Some(gateway), ..challenge })?;
            }
            if let Some((key, state)) = update.message.clone().zip(writes.message) {
                let stored_at = stored.map_or(micros(update.now), |stored| stored.stored_at);
                tx.put(&Message { key, state, stored_at })?;
            }
            tx.commit(outcome).await
        })
        .await
    }

    async fn sign_in(&self, request: &SignInRequest) -> Decided<SignInOutcome> {
        self.transaction(|mut tx| async move {
            let mut facts = SignInFacts {
                challenge: match request.challenge {
                    Some(id) => tx.get(id).await?.filter(|found: &Challenge| found.phone == request.phone),
                    None => tx.newest_challenge_to_sign_in(&request.phone).await?,
                },
                user: tx.user_with_phone(&request.phone).await?,
                inviter: tx.owner_of(request.invite_code.as_ref()).await?,
                ancestry: Ancestry::NotWalked,
                counters: tx.counters(&request.counters()).await?,
                global_counters: tx.global_counters(request.global_counters()).await?,
            };
            if request.needs_ancestry(&facts)
                && let (Some(user), Some(inviter)) = (&facts.user, &facts.inviter)
            {
                facts.ancestry = tx.ancestry(inviter.id, user.id).await?;
            }
            let code = match &facts.user {
                Some(user) if !request.detaches_phone(&facts) => user.invite_code.clone(),
                _ => tx.free_code(&request.new_user).await?,
            };
            let Decision { writes, outcome } = request.decide(&facts, &code)?;
            let ended_sessions = tx.write_sign_in(&writes, request.now).await?;
            tx.commit(outcome.map(|outcome| outcome.with_ended_sessions(ended_sessions))).await
        })
        .await
    }

    async fn record_code_requests(&self, requests: &[CodeRequest]) -> Result<()> {
        self.transaction(|mut tx| async move {
            tx.record_code_requests(requests).await?;
            tx.commit(()).await
        })
        .await
    }

    async fn code_requests(&self, phone: &[PhoneHash], limit: u32) -> Result<Vec<CodeRequestView>> {
        self.transaction(|mut tx| async move {
            let requests = tx.code_requests(phone, limit).await?;
            tx.commit(requests).await
        })
        .await
    }
}

impl Transaction {
    async fn newest_challenge(&mut self, phone: &PhoneNumber) -> Result<Option<Challenge>> {
        match &*self.newest(&list::challenges(phone), None, 1).await? {
            [id] => self.get(id).await,
            _ => Ok(None),
        }
    }

    async fn newest_challenge_to_sign_in(&mut self, phone: &PhoneNumber) -> Result<Option<Challenge>> {
        for id in self.newest(&list::challenges(phone), None, ALL).await? {
            let challenge: Option<Challenge> = self.get(id).await?;
            if let Some(challenge) = challenge.filter(|challenge| challenge.signs_in) {
                return Ok(Some(challenge));
            }
        }
        Ok(None)
    }

    /// Stores a decision. Returns the sessions that were active and that it deletes.
    async fn write_sign_in(&mut self, writes: &SignInWrites, now: OffsetDateTime) -> Result<Vec<SessionId>> {
        let mut ended = Vec::new();
        match writes {
            SignInWrites::Attempt { challenge, counters } => {
                if let Some(challenge) = challenge {
                    self.put(challenge)?;
                }
                self.count(counters).await?;
            }
            SignInWrites::SignIn {
                challenge,
                detached,
                user,
                invitation,
                session,
                kept_sessions,
                counters,
                audit,
            } => {
                self.put(challenge)?;
                if let Some(detached) = detached {
                    self.detach_phone(detached).await?;
                }
                self.write_user(user).await?;
                if let Some(invitation) = invitation {
                    self.add_invitation(invitation).await?;
                }
                if let Some(kept) = kept_sessions {
                    let ids = self.newest(&list::sessions(session.user), None, ALL).await?;
                    let mut active = 0;
                    for older in self.get_all::<Session>(&ids).await? {
                        let is_active = older.is_active(now);
                        active += u32::from(is_active);
                        if is_active && active <= *kept {
                            continue;
                        }
                        self.delete(&older);
                        ended.extend(is_active.then_some(older.id));
                    }
                }
                self.put(session)?;
                self.count(counters).await?;
                self.add_entry(audit.as_ref())?;
            }
        }
        Ok(ended)
    }
}
