//! Notices: messages without a code, about a change that is already made.

use uuid::Uuid;
use zeroize::Zeroizing;

use super::{SmsText, locale::Locale};
use crate::user::phone::PhoneNumber;

/// Content of a notice.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Notice {
    /// The phone of a user was changed. The notice goes to the phone before the change.
    PhoneChanged {
        /// New phone.
        new: PhoneNumber,
    },
}

impl Notice {
    /// Returns the stable `snake_case` name.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::PhoneChanged { .. } => "phone_changed",
        }
    }
}

/// SMS message about a change that is already made. It has no code.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SmsNotice {
    /// Id of the message. It is the same for every attempt and every gateway.
    pub id: Uuid,
    /// Phone number of the recipient.
    pub phone: PhoneNumber,
    /// Text of the message.
    pub text: SmsText,
    /// Language that the client prefers most, for gateways that have texts of their own.
    pub locale: Option<Locale>,
    /// Content, which a text of a gateway should state.
    pub notice: Notice,
}

impl SmsNotice {
    /// Creates a message.
    #[must_use]
    pub fn new(id: Uuid, phone: PhoneNumber, notice: Notice, text: String, locale: Option<Locale>) -> Self {
        Self { id, phone, text: SmsText(Zeroizing::new(text)), locale, notice }
    }
}
