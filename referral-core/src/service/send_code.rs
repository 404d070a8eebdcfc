//! Sending of codes.

use std::{sync::Arc, time::Duration};

use super::{Inner, ReferralService, gate::ForGate};
use crate::{
    error::{Error, refusal::Refusal},
    events::{CodeNotSent, CodeSent, Event, TestCodeIssued},
    gate::Context,
    otp::{
        challenge::{Challenge, ChallengeId, ChallengeRequest},
        code::{CODE_LENGTHS, OneTimeCode},
        code_request::CodeRequestKind,
        purpose::CodePurpose,
    },
    rate_limit::client::Client,
    sms::{Receipt, SmsError, SmsMessage, delivery::MessageRoute, locale::Locale},
    user::phone::PhoneNumber,
};

/// Request for a code.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SendCode {
    /// Phone to send the code to.
    pub phone: PhoneNumber,
    /// Languages for the message, in order of preference.
    pub locales: Vec<Locale>,
    /// Client that sends the request.
    pub client: Client,
    /// Context of the request, for the [gate](crate::gate).
    pub context: Context,
    pub(super) purpose: CodePurpose,
}

impl SendCode {
    /// Creates a request for a code to sign in with `phone`, with a message in the default language.
    #[must_use]
    pub fn new(phone: PhoneNumber) -> Self {
        let purpose = CodePurpose::SignIn;
        Self { phone, locales: Vec::new(), client: Client::default(), context: Context::default(), purpose }
    }

    /// Sets the languages for the message. The first one for which there is a text is used.
    #[must_use]
    pub fn locales(mut self, locales: impl Into<Vec<Locale>>) -> Self {
        self.locales = locales.into();
        self
    }

    /// Sets the client that sends the request.
    #[must_use]
    pub fn client(mut self, client: Client) -> Self {
        self.client = client;
        self
    }

    /// Sets the context of the request, such as the token of a captcha. Only the [gate](crate::gate) receives
    /// it.
    #[must_use]
    pub fn context(mut self, context: Context) -> Self {
        self.context = context;
        self
    }
}

/// Result of a sent code.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SentCode {
    /// Phone in canonical form.
    pub phone: PhoneNumber,
    /// Challenge that identifies this code among others sent to the phone.
    pub challenge: ChallengeId,
    /// Number of digits of the code.
    pub code_length: u8,
    /// Time until the code expires.
    pub expires_in: Duration,
    /// Time after which another code can be requested.
    pub resend_in: Duration,
    /// Code, if the sender reveals it: see [`DevelopmentSender`](crate::sms::DevelopmentSender). The code of
    /// a [test number](crate::policy::TestNumber), to which no message is sent, is never revealed.
    pub revealed_code: Option<OneTimeCode>,
}

/// Message of a code whose challenge is stored.
pub(super) enum Dispatch {
    /// The phone is a test number, and there is no message.
    TestNumber,
    /// The sender accepted the message.
    Accepted(Receipt),
    /// It is unknown whether the message was sent.
    Unknown,
}

impl Dispatch {
    fn receipt(&self) -> Option<&Receipt> {
        match self {
            Self::Accepted(receipt) => Some(receipt),
            Self::TestNumber | Self::Unknown => None,
        }
    }

    fn take_revealed_code(&mut self) -> Option<OneTimeCode> {
        match self {
            Self::Accepted(receipt) => receipt.revealed_code.take(),
            Self::TestNumber | Self::Unknown => None,
        }
    }
}

impl ReferralService {
    /// Sends a code to sign in to a phone, with or without an account. A [test
    /// number](crate::policy::TestNumber) gets no message, because its code is known.
    ///
    /// # Errors
    ///
    /// [`Refusal::PhoneNotAllowed`], [`Refusal::MobilePrefixMissing`], [`Refusal::TooManyRequests`];
    /// [`Refusal::RejectedByHost`] and [`Error::GateFailed`] if there is a [gate](crate::gate). If the
    /// message is certainly not sent: [`Refusal::PhoneUnreachable`] if the gateway rejects the phone
    /// permanently, [`Error::SmsNotSent`] otherwise. The code is then invalid and not counted for the phone.
    pub async fn send_code(&self, request: SendCode) -> Result<SentCode, Error> {
        let service = self.clone();
        self.complete(async move { service.perform_send_code(request).await }).await
    }

    pub(super) async fn perform_send_code(&self, request: SendCode) -> Result<SentCode, Error> {
        let (phone, address, purpose) = (request.phone.clone(), request.client.address, request.purpose);
        let request_id = request.client.request_id.clone();
        let record = self.open_code_request(CodeRequestKind::Send, &phone, purpose, request_id);
        let sent = Box::pin(self.try_send_code(request)).await;
        record.finish_sending(&sent);
        match &sent {
            Ok((sent, Dispatch::TestNumber)) => {
                self.emit(Event::TestCodeIssued(TestCodeIssued {
                    phone,
                    challenge: sent.challenge,
                    address,
                }))
                .await;
            }
            Ok((sent, dispatch)) => {
                let (challenge, code_length) = (sent.challenge, sent.code_length);
                let receipt = dispatch.receipt();
                let gateway = receipt.and_then(|receipt| receipt.gateway.clone());
                let route = gateway.map(|gateway| MessageRoute::new(gateway, &phone));
                // This event is emitted first, because the gateway charges for the message even if
                // the message cannot be recorded.
                self.emit(Event::CodeSent(CodeSent {
                    phone,
                    purpose,
                    challenge,
                    code_length,
                    address,
                    route: route.clone(),
                }))
                .await;
                if let Some((route, receipt)) = route.zip(receipt) {
                    let reached = self.record_acceptance(&route, receipt, Some(challenge)).await;
                    self.emit_statuses(&route, reached).await;
                }
            }
            Err(Error::Refused(reason)) => {
                self.emit(Event::CodeNotSent(CodeNotSent { phone, reason: Some(reason.clone()), address }))
                    .await;
            }
            Err(Error::SmsNotSent(_)) => {
                self.emit(Event::CodeNotSent(CodeNotSent { phone, reason: None, address })).await;
            }
            Err(_) => {}
        }
        sent.map(|(sent, _)| sent)
    }

    async fn try_send_code(&self, request: SendCode) -> Result<(SentCode, Dispatch), Error> {
        let Inner { policy, random, .. } = &*self.inner;
        let now = self.now();
        let challenge_request = ChallengeRequest {
            id: ChallengeId(random.time_ordered_uuid(now)),
            phone: request.phone,
            now,
            purpose: request.purpose,
            address: request.client.address,
            digits: OneTimeCode::generate(&**random, *CODE_LENGTHS.end()),
            policy: Arc::clone(policy),
            peppers: Arc::clone(&self.secrets().peppers),
        };
        let is_test = challenge_request.test_number().is_some();
        if !is_test && !policy.serves(&challenge_request.phone) {
            let lacks_prefix = challenge_request.phone.lacks_mobile_prefix();
            let refusal = if lacks_prefix { Refusal::MobilePrefixMissing } else { Refusal::PhoneNotAllowed };
            return Err(refusal.into());
        }
        // A code to delete the own account goes to the phone of the current user, and needs no approval.
        if !matches!(challenge_request.purpose, CodePurpose::DeleteUser(_)) {
            self.approve_code(&challenge_request.phone, || ForGate {
                client: request.client,
                locales: request.locales.clone(),
                context: request.context,
            })
            .await?;
        }
        let granted = self.inner.storage.start_challenge(&challenge_request).await??;
        self.emit_attack_change(granted.under_attack).await;

        let challenge = &granted.challenge;
        let mut dispatch = Dispatch::TestNumber;
        if !is_test {
            dispatch = self.send_message(&challenge_request, challenge, request.locales).await?;
        }
        let sent = SentCode {
            challenge: challenge.id,
            code_length: challenge.code_length,
            expires_in: (challenge.expires_at - now).try_into().unwrap_or_default(),
            resend_in: granted.resend_in,
            revealed_code: dispatch.take_revealed_code(),
            phone: challenge_request.phone,
        };
        Ok((sent, dispatch))
    }

    /// Passes the code of a challenge to the sender.
    async fn send_message(
        &self,
        challenge_request: &ChallengeRequest,
        challenge: &Challenge,
        locales: Vec<Locale>,
    ) -> Result<Dispatch, Error> {
        let code = challenge_request.digits.first(challenge.code_length);
        let text = (self.inner.text)(challenge_request.purpose, &code, &locales);
        let locale = locales.into_iter().next();
        let message =
            SmsMessage::new(self.generate_id(), challenge_request.phone.clone(), code, text, locale)
                .purpose(challenge_request.purpose);
        match self.inner.sender.send(&message).await {
            Ok(receipt) => Ok(Dispatch::Accepted(receipt)),
            Err(SmsError::Unknown(reason)) => {
                tracing::warn!(reason, "failed to determine whether the message was sent");
                Ok(Dispatch::Unknown)
            }
            Err(error) => {
                let counters = challenge_request.cancellation(challenge.sent_at);
                if let Err(failure) = self.inner.storage.cancel_challenge(challenge.id, &counters).await {
                    tracing::warn!(challenge = %challenge.id, %failure, "failed to cancel a code that was not sent");
                }
                Err(match error {
                    SmsError::Permanent(reason) => {
                        tracing::debug!(reason, "the gateway reports that the phone is unreachable");
                        Refusal::PhoneUnreachable.into()
                    }
                    error => Error::SmsNotSent(error),
                })
            }
        }
    }
}
