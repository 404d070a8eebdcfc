//! Notices: messages about changes that are already made.

use super::ReferralService;
use crate::{
    events::{Event, NoticeNotSent, NoticeSent},
    sms::{
        Receipt, SmsError,
        delivery::MessageRoute,
        locale::Locale,
        notice::{Notice, SmsNotice},
    },
    user::{UserId, phone::PhoneNumber},
};

impl ReferralService {
    /// Returns `true` if notices can be sent to a phone. A test number gets no messages.
    pub(super) fn sends_notices_to(&self, phone: &PhoneNumber) -> bool {
        self.inner.sender.sends_notices() && self.policy().test_number(phone, self.now()).is_none()
    }

    /// Sends a notice about a change that is committed. A failure does not fail the request.
    pub(super) async fn send_notice(
        &self,
        user: UserId,
        phone: PhoneNumber,
        notice: Notice,
        locales: &[Locale],
    ) {
        let text = (self.inner.notice_text)(&notice, locales);
        let message = SmsNotice::new(self.generate_id(), phone, notice, text, locales.first().cloned());
        let receipt = match self.inner.sender.send_notice(&message).await {
            Ok(receipt) => receipt,
            Err(SmsError::Unknown(reason)) => {
                tracing::warn!(reason, "failed to determine whether the notice was sent");
                Receipt::default()
            }
            Err(error) => {
                tracing::warn!(%error, "failed to send a notice");
                let SmsNotice { phone, notice, .. } = message;
                self.emit(Event::NoticeNotSent(NoticeNotSent { user, phone, notice })).await;
                return;
            }
        };
        let SmsNotice { phone, notice, .. } = message;
        let route = receipt.gateway.clone().map(|gateway| MessageRoute::new(gateway, &phone));
        self.emit(Event::NoticeSent(NoticeSent { user, phone, notice, route: route.clone() })).await;
        if let Some(route) = route {
            let reached = self.record_acceptance(&route, &receipt, None).await;
            self.emit_statuses(&route, reached).await;
        }
    }
}
