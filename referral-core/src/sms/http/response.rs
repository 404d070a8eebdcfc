//! Response of a gateway, and its interpretation.

use std::{borrow::Cow, time::Duration};

use serde::Deserialize;
use serde_json::Value;

use super::selector::{Pattern, Pointer, scalar};
use crate::sms::{Receipt, SmsError};

/// Maximum length of an error code that is shown, in bytes.
const MAX_SHOWN: usize = 40;

/// Rules for the interpretation of a response.
#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ResponseRules {
    /// Condition for an accepted message. The default is a status of 2xx.
    accepted: Condition,
    /// Location of the id that the gateway gave to the message.
    message_id: Option<Selector>,
    /// Locations of an error code, which is a word or a number. The first that exists is used.
    error_code: Vec<Selector>,
    /// Conditions for an unknown result. This list and the following ones are checked in this order, if the
    /// message was not accepted.
    unknown: Vec<Condition>,
    /// Conditions for a rejected message that another gateway may accept.
    temporary: Vec<Condition>,
    /// Conditions for a rejected message that another gateway may accept, or this one after some time.
    busy: Vec<Condition>,
    /// Conditions for a phone number that no gateway can send to.
    permanent: Vec<Condition>,
}

/// Condition on a response. All of its parts must be met.
#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Condition {
    /// Allowed statuses. The default is 2xx for an acceptance, and any status for a rejection.
    status: Option<Vec<u16>>,
    /// Location that must have one of the values in `is`, or any value without `is`.
    at: Option<Selector>,
    is: Option<Vec<String>>,
    /// Location that must not exist.
    without: Option<Selector>,
    /// Pattern for the value at the location `at`, or for the whole body if `at` is not set.
    text: Option<Pattern>,
}

/// Kind of a response that is not an acceptance, which determines the [`SmsError`].
#[derive(Clone, Copy)]
enum FailureKind {
    Permanent,
    Temporary,
    Busy,
    Unknown,
}

/// Response of a gateway as it was received.
pub(super) struct RawResponse<'a> {
    pub(super) status: u16,
    pub(super) body: &'a [u8],
    /// `true` if the body was received completely.
    pub(super) is_whole: bool,
    pub(super) retry_after: Option<Duration>,
    /// Code that was sent. It must not be shown in errors.
    pub(super) code: &'a str,
}

impl ResponseRules {
    /// Interprets the response. Errors contain nothing of the body except an error code.
    pub(super) fn read(&self, raw: &RawResponse<'_>) -> Result<Receipt, SmsError> {
        let text = String::from_utf8_lossy(raw.body);
        let json = serde_json::from_slice(raw.body).ok();
        let response = GatewayResponse { status: raw.status, text: &text, json: json.as_ref() };
        if self.accepted.accepts(&response) {
            let message_id = self.message_id.as_ref().and_then(|selector| selector.find(&response));
            return Ok(Receipt { message_id, ..Receipt::default() });
        }

        let code = self
            .error_code
            .iter()
            .find_map(|selector| selector.find(&response))
            .filter(|code| is_error_code(code) && code != raw.code);
        let reason = match code {
            Some(code) => format!("HTTP {}, code {code}", raw.status),
            None => format!("HTTP {}", raw.status),
        };
        let kind = self.kind_by_rules(&response).unwrap_or_else(|| self.default_kind(&response, raw));
        Err(match (kind, raw.retry_after) {
            (FailureKind::Permanent, _) => SmsError::Permanent(reason),
            (FailureKind::Unknown, _) => SmsError::Unknown(reason),
            (FailureKind::Busy, Some(retry_after)) => SmsError::Busy { reason, retry_after },
            (FailureKind::Busy | FailureKind::Temporary, _) => SmsError::Temporary(reason),
        })
    }

    /// Returns the kind of a response that is not an acceptance, by the first matching rule.
    fn kind_by_rules(&self, response: &GatewayResponse<'_>) -> Option<FailureKind> {
        let rules = [
            (&self.unknown, FailureKind::Unknown),
            (&self.temporary, FailureKind::Temporary),
            (&self.busy, FailureKind::Busy),
            (&self.permanent, FailureKind::Permanent),
        ];
        let fitting =
            |(conditions, _): &(&Vec<Condition>, _)| conditions.iter().any(|one| one.refuses(response));
        rules.into_iter().find(fitting).map(|(_, kind)| kind)
    }

    /// Returns the kind of a response that matches no rule.
    fn default_kind(&self, response: &GatewayResponse<'_>, raw: &RawResponse<'_>) -> FailureKind {
        match response.status {
            429 | 503 => FailureKind::Busy,
            // The server reports an error, but not whether the message was sent.
            500.. => FailureKind::Unknown,
            // A success with a response that is not understood.
            200..300 | 302 | 303 if !raw.is_whole || !self.accepted.is_denied_by(response) => {
                FailureKind::Unknown
            }
            _ => FailureKind::Temporary,
        }
    }
}

impl Condition {
    fn accepts(&self, response: &GatewayResponse<'_>) -> bool {
        let status = match &self.status {
            Some(statuses) => statuses.contains(&response.status),
            None => (200..300).contains(&response.status),
        };
        status && self.fits(response)
    }

    fn refuses(&self, response: &GatewayResponse<'_>) -> bool {
        self.status.as_ref().is_none_or(|statuses| statuses.contains(&response.status)) && self.fits(response)
    }

    fn fits(&self, response: &GatewayResponse<'_>) -> bool {
        let value = match &self.at {
            Some(selector) => selector.find(response).map(Cow::Owned),
            None => Some(Cow::Borrowed(response.text)),
        };
        let fits = value.is_some_and(|value| {
            self.is.as_ref().is_none_or(|values| values.iter().any(|one| *one == value))
                && self.text.as_ref().is_none_or(|pattern| pattern.0.is_match(&value))
        });
        fits && self.without.as_ref().is_none_or(|selector| selector.find(response).is_none())
    }

    /// Returns `true` if a location that identifies an acceptance has another value, so that the response is
    /// a rejection.
    fn is_denied_by(&self, response: &GatewayResponse<'_>) -> bool {
        let is_there = |selector: &Option<Selector>| {
            selector.as_ref().is_some_and(|selector| selector.find(response).is_some())
        };
        let has_status = self.status.as_ref().is_none_or(|statuses| statuses.contains(&response.status));
        has_status && (is_there(&self.at) || is_there(&self.without))
    }
}

/// Response in the forms in which conditions use it.
struct GatewayResponse<'a> {
    status: u16,
    text: &'a str,
    json: Option<&'a Value>,
}

/// Location of a value: a JSON pointer (RFC 6901), in which `*` is the first member or element, or the first
/// group of a pattern.
#[derive(Clone, Deserialize)]
#[serde(untagged, expecting = "a JSON pointer such as \"/id\", or {text = \"a pattern with a (group)\"}")]
enum Selector {
    Pointer(Pointer),
    Text { text: Pattern },
}

impl Selector {
    /// Returns the value at the location if it is a string, a number or a boolean.
    fn find(&self, response: &GatewayResponse<'_>) -> Option<String> {
        match self {
            Self::Pointer(pointer) => scalar(pointer.find(response.json?)?).map(Cow::into_owned),
            Self::Text { text } => Some(text.0.captures(response.text)?.get(1)?.as_str().to_owned()),
        }
    }
}

/// Returns `true` if the text is an error code. Sentences are rejected since they may contain the phone
/// number, and long numbers since they may be one.
fn is_error_code(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    (1..=MAX_SHOWN).contains(&text.len()) && text.bytes().all(is_plain) && digits < 7
}
