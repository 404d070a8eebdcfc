//! What a gateway answers, and what it means.

use std::{borrow::Cow, time::Duration};

use serde::Deserialize;
use serde_json::Value;

use super::place::{Pattern, Pointer, scalar};
use crate::sms::{Receipt, SmsError};

/// The longest error code that is shown, in bytes.
const MAX_SHOWN: usize = 40;

/// How an answer is read.
#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Answer {
    /// When the message is accepted: always if the status is 2xx and nothing else is said.
    accepted: Condition,
    /// Where the gateway's id of the message stands.
    message_id: Option<Place>,
    /// Where it says why not, in a word or a number; the first of these that is there.
    error_code: Vec<Place>,
    /// When nobody knows whether it was sent. This and what follows is asked in this order, of an
    /// answer that is no acceptance.
    unknown: Vec<Condition>,
    /// When it is refused, and another gateway may take it.
    temporary: Vec<Condition>,
    /// The same, and this one may take it too after a while.
    busy: Vec<Condition>,
    /// When it is refused because of the number: nobody can send there.
    permanent: Vec<Condition>,
}

/// What an answer must be; all of it.
#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Condition {
    /// One of these statuses; without, for an acceptance 2xx, and any for a refusal.
    status: Option<Vec<u16>>,
    /// This place has one of the values of `is`, or is there at all.
    at: Option<Place>,
    is: Option<Vec<String>>,
    /// Nothing is at this place.
    without: Option<Place>,
    /// What stands at that place, or without one the whole body, matches.
    text: Option<Pattern>,
}

#[derive(Clone, Copy)]
enum Meaning {
    Permanent,
    Temporary,
    Busy,
    Unknown,
}

/// An answer as it came.
pub(super) struct Answered<'a> {
    pub(super) status: u16,
    pub(super) body: &'a [u8],
    /// Whether that is all of it.
    pub(super) is_whole: bool,
    pub(super) retry_after: Option<Duration>,
    /// The code that was sent, which must not be shown.
    pub(super) code: &'a str,
}

impl Answer {
    /// What the answer means for the message. Nothing of the body is in an error but a code.
    pub(super) fn read(&self, answered: &Answered<'_>) -> Result<Receipt, SmsError> {
        let text = String::from_utf8_lossy(answered.body);
        let json = serde_json::from_slice(answered.body).ok();
        let seen = Seen { status: answered.status, text: &text, json: json.as_ref() };
        if self.accepted.accepts(&seen) {
            let message_id = self.message_id.as_ref().and_then(|place| place.find(&seen));
            return Ok(Receipt { message_id, ..Receipt::default() });
        }

        let code = self
            .error_code
            .iter()
            .find_map(|place| place.find(&seen))
            .filter(|code| is_error_code(code) && code != answered.code);
        let reason = match code {
            Some(code) => format!("HTTP {}, code {code}", answered.status),
            None => format!("HTTP {}", answered.status),
        };
        let meaning = self.rule_for(&seen).unwrap_or_else(|| self.meaning_of(&seen, answered));
        Err(match (meaning, answered.retry_after) {
            (Meaning::Permanent, _) => SmsError::Permanent(reason),
            (Meaning::Unknown, _) => SmsError::Unknown(reason),
            (Meaning::Busy, Some(retry_after)) => SmsError::Busy { reason, retry_after },
            (Meaning::Busy | Meaning::Temporary, _) => SmsError::Temporary(reason),
        })
    }

    /// What an answer that is no acceptance is said to mean.
    fn rule_for(&self, seen: &Seen<'_>) -> Option<Meaning> {
        let rules = [
            (&self.unknown, Meaning::Unknown),
            (&self.temporary, Meaning::Temporary),
            (&self.busy, Meaning::Busy),
            (&self.permanent, Meaning::Permanent),
        ];
        let fitting = |(conditions, _): &(&Vec<Condition>, _)| conditions.iter().any(|one| one.refuses(seen));
        rules.into_iter().find(fitting).map(|(_, meaning)| meaning)
    }

    /// What an answer means that no rule is for.
    fn meaning_of(&self, seen: &Seen<'_>, answered: &Answered<'_>) -> Meaning {
        match seen.status {
            429 | 503 => Meaning::Busy,
            // It says that it failed, and not at what.
            500.. => Meaning::Unknown,
            // So did whoever did what it was asked, and answers something that is not understood.
            200..300 | 302 | 303 if !answered.is_whole || !self.accepted.is_denied_by(seen) => {
                Meaning::Unknown
            }
            _ => Meaning::Temporary,
        }
    }
}

impl Condition {
    fn accepts(&self, seen: &Seen<'_>) -> bool {
        let status = match &self.status {
            Some(statuses) => statuses.contains(&seen.status),
            None => (200..300).contains(&seen.status),
        };
        status && self.fits(seen)
    }

    fn refuses(&self, seen: &Seen<'_>) -> bool {
        self.status.as_ref().is_none_or(|statuses| statuses.contains(&seen.status)) && self.fits(seen)
    }

    fn fits(&self, seen: &Seen<'_>) -> bool {
        let value = match &self.at {
            Some(place) => place.find(seen).map(Cow::Owned),
            None => Some(Cow::Borrowed(seen.text)),
        };
        let fits = value.is_some_and(|value| {
            self.is.as_ref().is_none_or(|values| values.iter().any(|one| *one == value))
                && self.text.as_ref().is_none_or(|pattern| pattern.0.is_match(&value))
        });
        fits && self.without.as_ref().is_none_or(|place| place.find(seen).is_none())
    }

    /// Whether the answer has what tells an acceptance from a refusal, and so is one.
    fn is_denied_by(&self, seen: &Seen<'_>) -> bool {
        let is_there = |place: &Option<Place>| place.as_ref().is_some_and(|place| place.find(seen).is_some());
        let has_status = self.status.as_ref().is_none_or(|statuses| statuses.contains(&seen.status));
        has_status && (is_there(&self.at) || is_there(&self.without))
    }
}

/// An answer, in the ways it is looked at.
struct Seen<'a> {
    status: u16,
    text: &'a str,
    json: Option<&'a Value>,
}

/// Where a value stands: a JSON pointer (RFC 6901), in which `*` is whatever comes first; or the
/// first group of a pattern.
#[derive(Clone, Deserialize)]
#[serde(untagged, expecting = "a JSON pointer such as \"/id\", or {text = \"a pattern with a (group)\"}")]
enum Place {
    Pointer(Pointer),
    Text { text: Pattern },
}

impl Place {
    /// The value there, if it is a text, a number, true or false.
    fn find(&self, seen: &Seen<'_>) -> Option<String> {
        match self {
            Self::Pointer(pointer) => scalar(pointer.find(seen.json?)?).map(Cow::into_owned),
            Self::Text { text } => Some(text.0.captures(seen.text)?.get(1)?.as_str().to_owned()),
        }
    }
}

/// Whether this is a code of an error, and not a sentence, which might name the phone, nor a number
/// that might be one.
fn is_error_code(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    (1..=MAX_SHOWN).contains(&text.len()) && text.bytes().all(is_plain) && digits < 7
}
