//! SMS messages, which are codes and notices: the trait for gateways, and the texts of the messages.

pub(crate) mod delivery;
pub(crate) mod locale;
pub(crate) mod notice;

#[cfg(feature = "sms-failover")]
mod failover;
#[cfg(feature = "sms-http")]
pub mod http;
mod segments;
mod templates;

use std::time::Duration;

use async_trait::async_trait;
use uuid::Uuid;
use zeroize::Zeroizing;

#[cfg(feature = "sms-failover")]
pub use self::failover::{
    Attempt, Failover, FailoverBuilder, FailoverError, Observer, OnUnknownOutcome, Outcome,
};
pub use self::{
    delivery::{DeliveryReport, DeliveryStatus, MessageRoute, ReportEvidence},
    locale::Locale,
    notice::{Notice, SmsNotice},
    segments::{Encoding, Segments},
    templates::{MessageTemplates, TemplatePreview},
};
use crate::{
    otp::{code::OneTimeCode, purpose::CodePurpose},
    user::phone::PhoneNumber,
};

/// SMS message that contains a one-time code.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SmsMessage {
    /// Id of the message. It is the same for every attempt and every gateway.
    pub id: Uuid,
    /// Phone number of the recipient.
    pub phone: PhoneNumber,
    /// Text of the message, including the code.
    pub text: SmsText,
    /// The code alone, for gateways that insert it into a text of their own.
    pub code: OneTimeCode,
    /// Language that the client prefers most, for gateways that have texts of their own.
    pub locale: Option<Locale>,
    /// Purpose of the code, which a text of a gateway should name.
    pub purpose: CodePurpose,
}

impl SmsMessage {
    /// Creates a message with a code to sign in.
    #[must_use]
    pub fn new(
        id: Uuid,
        phone: PhoneNumber,
        code: OneTimeCode,
        text: String,
        locale: Option<Locale>,
    ) -> Self {
        Self { id, phone, text: SmsText(Zeroizing::new(text)), code, locale, purpose: CodePurpose::SignIn }
    }

    /// Sets the purpose of the code.
    #[must_use]
    pub fn purpose(mut self, purpose: CodePurpose) -> Self {
        self.purpose = purpose;
        self
    }
}

/// Text of a message. Its `Debug` output is redacted, because the text may contain a code.
#[derive(Clone)]
pub struct SmsText(Zeroizing<String>);

impl SmsText {
    /// Returns the text, to be sent.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for SmsText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SmsText(…)")
    }
}

/// Response of a gateway that accepted a message.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Receipt {
    /// Name of the gateway that accepted the message, at most 64 characters. It labels the metrics of the
    /// gateway.
    pub gateway: Option<String>,
    /// Id that the gateway gave to the message, if any, at most 128 characters.
    /// [`ReferralService::report_delivery`](crate::ReferralService::report_delivery) finds the message by
    /// this id and the name of the gateway.
    pub message_id: Option<String>,
    /// The code, to be returned to the client. For development only: with it, every client can sign in as any
    /// user.
    pub revealed_code: Option<OneTimeCode>,
}

impl Receipt {
    /// Creates a receipt with the id that the gateway gave to the message.
    #[must_use]
    pub fn new(message_id: impl Into<String>) -> Self {
        Self { message_id: Some(message_id.into()), ..Self::default() }
    }

    /// Sets the name of the gateway, which identifies its delivery reports and metrics.
    #[must_use]
    pub fn gateway(mut self, name: impl Into<String>) -> Self {
        self.gateway = Some(name.into());
        self
    }
}

/// Error of a message that was not accepted. The reasons are logged, so they must contain neither the phone
/// number nor the text.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SmsError {
    /// The message was rejected because of the phone number, which is not in use or is blocked. Other
    /// gateways must not be tried.
    #[error("the gateway rejected the message permanently: {0}")]
    Permanent(String),
    /// The message was rejected temporarily: the gateway is unreachable or out of order, or the account has
    /// no money. Another gateway may accept the message.
    #[error("the gateway rejected the message temporarily: {0}")]
    Temporary(String),
    /// The message was rejected temporarily, and the gateway must not be called again for some time.
    #[error("the gateway is busy for {} s: {reason}", retry_after.as_secs())]
    Busy {
        /// Reason that the gateway gave.
        reason: String,
        /// Time during which the gateway must not be called.
        retry_after: Duration,
    },
    /// The sender or gateway sends codes only, and the message is a notice.
    #[error("the gateway sends no notices")]
    NoticesUnsupported,
    /// The gateway received the message but did not respond. It is unknown whether the message was sent.
    #[error("it is unknown whether the gateway sent the message: {0}")]
    Unknown(String),
}

/// Sender of SMS messages.
///
/// ```
/// use async_trait::async_trait;
/// use referral_core::sms::{Receipt, SmsError, SmsMessage, SmsSender};
///
/// /// Prints what a gateway would send.
/// struct Printer;
///
/// #[async_trait]
/// impl SmsSender for Printer {
///     async fn send(&self, message: &SmsMessage) -> Result<Receipt, SmsError> {
///         println!("to {}: {}", message.phone.as_str(), message.text.reveal());
///         Ok(Receipt::default())
///     }
/// }
/// ```
#[async_trait]
pub trait SmsSender: Send + Sync + 'static {
    /// Passes the message to the gateway. The client waits for the result, so this must return within
    /// seconds.
    ///
    /// # Errors
    ///
    /// [`SmsError::Permanent`], [`SmsError::Temporary`] or [`SmsError::Busy`] only if it is certain that no
    /// message will be sent: the code is then invalidated, and the client may request another one
    /// immediately. After [`SmsError::Unknown`] the message is treated as sent.
    async fn send(&self, message: &SmsMessage) -> Result<Receipt, SmsError>;

    /// Returns `true` if [`send_notice`](Self::send_notice) is implemented. The default is `false`: notices
    /// are not sent.
    fn sends_notices(&self) -> bool {
        false
    }

    /// Passes a notice to the gateway: a message without a code, about a change that is already made. The
    /// client waits for the result, so this must return within seconds. An error does not undo the change.
    ///
    /// A sender that overrides this method must also override [`sends_notices`](Self::sends_notices).
    ///
    /// # Errors
    ///
    /// As for [`send`](Self::send). By default [`SmsError::NoticesUnsupported`].
    async fn send_notice(&self, notice: &SmsNotice) -> Result<Receipt, SmsError> {
        let _ = notice;
        Err(SmsError::NoticesUnsupported)
    }

    /// Returns the minimum time that [`send`](Self::send) needs to determine whether the message may have
    /// been sent. This is the time limit for connecting plus a small margin. The default is half a second.
    fn min_timeout(&self) -> Duration {
        Duration::from_millis(500)
    }
}

/// Sender for development. It sends neither codes nor notices, and returns the code to the client, so that
/// the complete sign-in can be tried without a gateway. With it, every client can sign in as any user.
#[derive(Clone, Copy, Debug, Default)]
pub struct DevelopmentSender;

#[async_trait]
impl SmsSender for DevelopmentSender {
    async fn send(&self, message: &SmsMessage) -> Result<Receipt, SmsError> {
        Ok(Receipt { revealed_code: Some(message.code.clone()), ..Receipt::default() })
    }
}
