//! Sending messages: the trait that a gateway plugs into, and what the messages say.

#[cfg(feature = "sms-failover")]
mod failover;
#[cfg(feature = "sms-http")]
pub mod http;
mod segments;
mod text;

use std::time::Duration;

use async_trait::async_trait;
use uuid::Uuid;
use zeroize::Zeroizing;

#[cfg(feature = "sms-failover")]
pub use self::failover::{
    AfterUnknown, Attempt, Failover, FailoverBuilder, FailoverError, Observer, Outcome,
};
pub use self::{
    segments::{Encoding, Segments},
    text::{Preview, Texts},
};
use crate::{Locale, PhoneNumber, SmsCode};

/// A message with a code in it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SmsMessage {
    /// Names the message, and is the same however often and through whichever gateway it is sent.
    pub id: Uuid,
    /// Where to send it.
    pub phone: PhoneNumber,
    /// The text, code included.
    pub text: SmsText,
    /// The code alone, for gateways that put it into a text of their own.
    pub code: SmsCode,
    /// The language that was asked for before all others, for gateways that have texts of their own.
    pub locale: Option<Locale>,
}

impl SmsMessage {
    /// A message, as the handle makes it.
    #[must_use]
    pub fn new(id: Uuid, phone: PhoneNumber, code: SmsCode, text: String, locale: Option<Locale>) -> Self {
        Self { id, phone, text: SmsText(Zeroizing::new(text)), code, locale }
    }
}

/// The text of a message, which nothing shows: there is a code in it.
#[derive(Clone)]
pub struct SmsText(Zeroizing<String>);

impl SmsText {
    /// The text, to be sent.
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

/// What a gateway says of a message that it accepted.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Receipt {
    /// The name of the gateway that accepted the message, 64 characters at most. With it, figures tell
    /// gateways apart.
    pub gateway: Option<String>,
    /// The gateway's id of the message, if it gives one, 128 characters at most. With it and the
    /// gateway's name, [`Referral::report_delivery`](crate::Referral::report_delivery) knows the message.
    pub message_id: Option<String>,
    /// The code, to be handed to whoever asked for it. For development only: with it, anybody
    /// can sign in as anybody.
    pub revealed_code: Option<SmsCode>,
}

impl Receipt {
    /// A receipt with the gateway's id of the message.
    #[must_use]
    pub fn new(message_id: impl Into<String>) -> Self {
        Self { message_id: Some(message_id.into()), ..Self::default() }
    }

    /// Accepted by the gateway of this name, by which its reports and figures go.
    #[must_use]
    pub fn gateway(mut self, name: impl Into<String>) -> Self {
        self.gateway = Some(name.into());
        self
    }
}

/// Why a message was not accepted. The reasons go into the log: they must hold neither the phone
/// nor the text.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SmsError {
    /// The message was refused, and no other gateway should be asked: the number is not in use, or blocked.
    #[error("the gateway refused the message for good: {0}")]
    Permanent(String),
    /// The message was refused for now: the gateway is out of reach, or out of order, or out of
    /// money; another one may take it.
    #[error("the gateway refused the message for now: {0}")]
    Temporary(String),
    /// The message was refused for now, and the gateway wants to be left alone for a while.
    #[error("the gateway is busy for {} s: {reason}", retry_after.as_secs())]
    Busy {
        /// What it said.
        reason: String,
        /// For how long.
        retry_after: Duration,
    },
    /// Nobody knows whether the message was sent: the gateway took it and did not answer.
    #[error("the gateway did not say whether it sent the message: {0}")]
    Unknown(String),
}

/// Sends messages.
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
    /// Hands the message to the gateway. Somebody is waiting: return within seconds.
    ///
    /// # Errors
    ///
    /// [`SmsError::Permanent`], [`SmsError::Temporary`] or [`SmsError::Busy`] only if it is certain
    /// that no message goes out: the code is then void and the phone may ask at once for another. With
    /// [`SmsError::Unknown`] the message is taken for sent.
    async fn send(&self, message: &SmsMessage) -> Result<Receipt, SmsError>;

    /// How long [`send`](Self::send) must be given at least, so that it can tell whether the message may
    /// have gone out: as long as it may take to connect, and a little more. By default half a second.
    fn least_time(&self) -> Duration {
        Duration::from_millis(500)
    }
}

/// Sends nothing and hands the code to whoever asked for it, so that the whole flow can be tried
/// without a gateway. With it anybody can sign in as anybody.
#[derive(Clone, Copy, Debug, Default)]
pub struct DevelopmentSender;

#[async_trait]
impl SmsSender for DevelopmentSender {
    async fn send(&self, message: &SmsMessage) -> Result<Receipt, SmsError> {
        Ok(Receipt { revealed_code: Some(message.code.clone()), ..Receipt::default() })
    }
}
