//! Change of the phone of the own account.

use super::{ReferralService, send_code::SendCode};
use crate::{
    audit::Actor,
    error::{Error, refusal::Refusal},
    events::{Event, PhoneChanged, SessionEnd, SessionEnded},
    gate::Context,
    otp::{challenge::ChallengeId, code::CodeInput, purpose::CodePurpose},
    rate_limit::client::Client,
    service::{send_code::SentCode, sessions::CurrentUser},
    sms::{locale::Locale, notice::Notice},
    user::{
        phone::PhoneNumber,
        phone_change::{ChangedPhone, PhoneChangeRequest},
        visibility::ProfileView,
    },
};

/// Request for a code that changes the phone of the own account.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SendPhoneChangeCode {
    /// New phone, to which the code is sent.
    pub phone: PhoneNumber,
    /// Languages for the message, in order of preference.
    pub locales: Vec<Locale>,
    /// Client that sends the request.
    pub client: Client,
    /// Context of the request, for the [gate](crate::gate).
    pub context: Context,
}

impl SendPhoneChangeCode {
    /// Creates a request for a code to the new phone, with a message in the default language.
    #[must_use]
    pub fn new(phone: PhoneNumber) -> Self {
        Self { phone, locales: Vec::new(), client: Client::default(), context: Context::default() }
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

/// Request to change the phone of the own account.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ChangePhone {
    /// New phone, to which the code was sent.
    pub phone: PhoneNumber,
    /// Code.
    pub code: CodeInput,
    /// Challenge that was returned when the code was sent.
    pub challenge: ChallengeId,
    /// Client that sends the request.
    pub client: Client,
    /// Languages for the notice to the former phone, in order of preference.
    pub locales: Vec<Locale>,
}

impl ChangePhone {
    /// Creates a request with the code of a challenge, which was sent to the new phone.
    #[must_use]
    pub fn new(phone: PhoneNumber, challenge: ChallengeId, code: CodeInput) -> Self {
        Self { phone, code, challenge, client: Client::default(), locales: Vec::new() }
    }

    /// Sets the client that sends the request.
    #[must_use]
    pub fn client(mut self, client: Client) -> Self {
        self.client = client;
        self
    }

    /// Sets the languages for the notice. The first one for which there is a text is used.
    #[must_use]
    pub fn locales(mut self, locales: impl Into<Vec<Locale>>) -> Self {
        self.locales = locales.into();
        self
    }
}

impl ReferralService {
    /// Sends a code that changes the phone of the current user to the new phone. The code is valid for
    /// [`change_phone`](Self::change_phone) of this user only, and a code to sign in is not valid there. It
    /// counts for the same limits as a code to sign in, and the [gate](crate::gate) is asked about it. The
    /// result does not depend on whether another user has the phone.
    ///
    /// # Errors
    ///
    /// As for [`send_code`](Self::send_code). [`Refusal::OwnPhone`] if the phone does not change;
    /// [`Refusal::TestNumber`] if staff would get a [test number](crate::policy::TestNumber).
    pub async fn send_phone_change_code(
        &self,
        current_user: &CurrentUser,
        request: SendPhoneChangeCode,
    ) -> Result<SentCode, Error> {
        let SendPhoneChangeCode { phone, locales, client, context } = request;
        let user = &current_user.user;
        if user.phone == phone {
            return Err(Refusal::OwnPhone.into());
        }
        if user.is_staff() && self.policy().test_number(&phone, self.now()).is_some() {
            return Err(Refusal::TestNumber.into());
        }
        let purpose = CodePurpose::ChangePhone(user.id);
        let send =
            SendCode { purpose, ..SendCode::new(phone).locales(locales).client(client).context(context) };
        let service = self.clone();
        self.complete(async move { service.perform_send_code(send).await }).await
    }

    /// Changes the phone of the current user with a code of
    /// [`send_phone_change_code`](Self::send_phone_change_code). Returns the user with the new phone.
    ///
    /// All other sessions of the user end. The former phone is free: a sign-in with it creates a new user,
    /// also with a code that was sent before the change. A notice is sent to the former phone, if the sender
    /// [sends notices](crate::sms::SmsSender::sends_notices). If the notice is not sent, the phone is changed
    /// nevertheless.
    ///
    /// # Errors
    ///
    /// [`Refusal::InvalidCode`], [`Refusal::MalformedCode`] and [`Refusal::TooManyRequests`], as for
    /// [`sign_in`](Self::sign_in); [`Refusal::OwnPhone`] if the phone does not change;
    /// [`Refusal::PhoneTaken`], only after a correct code, which is then used up; [`Refusal::TokenNotValid`]
    /// if the account has been deleted, or its phone has been changed, meanwhile.
    pub async fn change_phone(
        &self,
        current_user: &CurrentUser,
        request: ChangePhone,
    ) -> Result<ProfileView, Error> {
        let (service, current_user) = (self.clone(), current_user.clone());
        self.complete(async move { service.perform_phone_change(&current_user, request).await }).await
    }

    async fn perform_phone_change(
        &self,
        current_user: &CurrentUser,
        request: ChangePhone,
    ) -> Result<ProfileView, Error> {
        let ChangePhone { phone, code, challenge, client, locales } = request;
        let (id, old) = (current_user.user.id, current_user.user.phone.clone());
        let redemption =
            self.redemption(phone.clone(), CodePurpose::ChangePhone(id), challenge, code, &client);
        let request = PhoneChangeRequest {
            user: id,
            session: current_user.session,
            now: redemption.now,
            redemption,
            old: old.clone(),
            sends_notice: self.sends_notices_to(&old),
            audit: self.audit_context(Actor::User(id), None),
        };
        let record = self.open_redemption(&request.redemption);
        let changed = self.inner.storage.change_phone(&request).await;
        let changed = changed.map_err(Error::from).and_then(|changed| Ok(changed?));
        record.finish_redeeming(changed.as_ref());
        let ChangedPhone { user, ended_sessions, audit } = match changed {
            Ok(changed) => changed,
            Err(error) => {
                if let Error::Refused(reason) = &error {
                    self.emit_code_refused(id, Some(&request.redemption), reason.clone()).await;
                }
                return Err(error);
            }
        };
        let new = user.phone;
        let changed = PhoneChanged { user: id, old: old.clone(), new: new.clone() };
        self.emit(Event::PhoneChanged(changed)).await;
        for session in ended_sessions {
            let reason = SessionEnd::PhoneChanged;
            self.emit(Event::SessionEnded(SessionEnded { user: id, session, reason })).await;
        }
        self.emit_audited(audit.as_ref()).await;
        if request.sends_notice {
            self.send_notice(id, old, Notice::PhoneChanged { new }, &locales).await;
        }
        self.own_profile(current_user).await
    }
}
