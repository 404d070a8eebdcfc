//! Signatures of delivery reports.

use std::time::Duration;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::Deserialize;
use sha1::Sha1;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use time::OffsetDateTime;

use super::{
    ReportRequest,
    fields::{Body, Fields, only},
};
use crate::{
    sms::http::{ConfigError, template::Template},
    standard_webhooks::Secret,
};

/// Minimum length of a token, in characters: 64 bits if it is random and hexadecimal.
const MIN_TOKEN: usize = 16;

/// Age above which a report is rejected. Vonage repeats a report for 24 hours if it gets no response,
/// possibly with the time of the first attempt. SMS.ru and Mobizon do not document for how long they repeat
/// reports.
const MAX_AGE: Duration = Duration::from_hours(24);

/// Time by which the clock of a gateway may be ahead, as in Standard Webhooks.
const MAX_SKEW: Duration = Duration::from_mins(5);

/// Largest offsets behind and ahead of UTC, for times without a time zone.
const ZONES: [Duration; 2] = [Duration::from_hours(12), Duration::from_hours(14)];

/// Signature method of a gateway, and its secret.
#[derive(Clone, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Signature {
    /// HMAC-SHA1 of the URL and the form, in the header `X-Twilio-Signature`.
    /// <https://www.twilio.com/docs/usage/security#validating-requests>
    Twilio(Template),
    /// HMAC-SHA256 of all fields, in `sig`.
    /// <https://developer.vonage.com/en/getting-started/concepts/signing-messages>
    Vonage(Template),
    /// SHA-256 of the secret and all reports, which are texts, in `hash`.
    Smsru(Template),
    /// SHA-1 of some fields and the secret, with a separator between them. `time` is the name of the field
    /// with the time of the signature.
    Sha1 { of: Vec<String>, separator: String, at: String, time: Option<String>, secret: Template },
    /// <https://www.standardwebhooks.com>
    StandardWebhooks(Template),
    /// No signature: the gateway calls a secret URL with `?token=` and the secret.
    Token(Template),
}

impl Signature {
    pub(super) fn secret(&self) -> &Template {
        match self {
            Self::Twilio(secret)
            | Self::Vonage(secret)
            | Self::Smsru(secret)
            | Self::StandardWebhooks(secret)
            | Self::Token(secret)
            | Self::Sha1 { secret, .. } => secret,
        }
    }

    /// Checks that the secret can be used for this method.
    pub(super) fn check(&self, secret: &str) -> Result<(), ConfigError> {
        match self {
            Self::StandardWebhooks(_) => Ok(Secret::parse(secret).map(|_| ())?),
            Self::Token(_) if secret.chars().count() < MIN_TOKEN => Err(ConfigError::new(format!(
                "the token for reports must have at least {MIN_TOKEN} characters; create one with: openssl rand -hex 16"
            ))),
            Self::Sha1 { separator, .. } if separator.is_empty() => Err(ConfigError::new(
                "`separator` must not be empty, since the ends of the fields would be ambiguous",
            )),
            Self::Sha1 { of, time: Some(time), .. } if !of.contains(time) => {
                Err(ConfigError::new("`time` of the signature must be one of the fields in `of`"))
            }
            _ => Ok(()),
        }
    }

    /// Returns `true` if the request is signed with the secret. `texts` are the reports in it, if reports are
    /// texts.
    pub(super) fn is_right(
        &self,
        secret: &str,
        request: &ReportRequest<'_>,
        fields: &Fields<'_>,
        texts: &[&str],
        now: OffsetDateTime,
    ) -> bool {
        let right = match self {
            Self::Twilio(_) => twilio(secret, request, fields),
            Self::Vonage(_) => vonage(secret, fields, now),
            Self::Smsru(_) => smsru(secret, fields, texts),
            Self::Sha1 { time: Some(time), .. }
                if !fields.get(time).is_some_and(|time| is_recent(&time, now)) =>
            {
                None
            }
            Self::Sha1 { of, separator, at, .. } => sha1(secret, fields, of, separator, at),
            // The report would be in the query, which is not signed.
            Self::StandardWebhooks(_) if request.body.is_empty() => None,
            Self::StandardWebhooks(_) => {
                Secret::parse(secret).ok().map(|key| key.is_signed(request.headers, now, request.body))
            }
            Self::Token(_) => only(&fields.query, "token").map(|token| is_same(token, secret)),
        };
        right.unwrap_or(false)
    }
}

fn twilio(secret: &str, request: &ReportRequest<'_>, fields: &Fields<'_>) -> Option<bool> {
    let given = request.headers.get("x-twilio-signature")?.to_str().ok()?;
    let mut form = match &fields.body {
        Body::Form(form) => form.clone(),
        Body::Empty => Vec::new(),
        // The signed URL contains the hash of the body.
        Body::Json(_) => {
            let hash = only(&fields.query, "bodySHA256")?;
            if !is_same(hash, &hex(&Sha256::digest(request.body))) {
                return None;
            }
            Vec::new()
        }
    };
    form.sort_unstable();
    form.dedup();
    let is_signed = |url: String| {
        let mut mac =
            Hmac::<Sha1>::new_from_slice(secret.as_bytes()).expect("HMAC accepts keys of any length");
        mac.update(url.as_bytes());
        for (name, value) in &form {
            mac.update(name.as_bytes());
            mac.update(value.as_bytes());
        }
        is_same(given, &BASE64_STANDARD.encode(mac.finalize().into_bytes()))
    };
    Some(with_and_without_port(request.url)?.into_iter().any(is_signed))
}

/// Returns the URL without and with its port, since Twilio signs either of them.
fn with_and_without_port(url: &str) -> Option<[String; 2]> {
    let (scheme, rest) = url.split_once("://")?;
    let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => (host, port),
        _ => (authority, if scheme == "https" { "443" } else { "80" }),
    };
    Some([format!("{scheme}://{host}{path}"), format!("{scheme}://{host}:{port}{path}")])
}

fn vonage(secret: &str, fields: &Fields<'_>, now: OffsetDateTime) -> Option<bool> {
    let (given, timestamp) = (fields.get("sig")?, fields.get("timestamp")?);
    let mut all = fields.all()?;
    all.retain(|(name, _)| *name != "sig");
    all.sort_unstable();
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("HMAC accepts keys of any length");
    for (name, value) in all {
        mac.update(format!("&{name}={}", value.replace(['&', '='], "_")).as_bytes());
    }
    Some(
        is_recent(&timestamp, now)
            && is_same(&given.to_ascii_lowercase(), &hex(&mac.finalize().into_bytes())),
    )
}

/// Checks the hash of SMS.ru. A length extension of the hash without the secret would have to contain the
/// padding, which is not valid UTF-8 and is therefore replaced before hashing.
fn smsru(secret: &str, fields: &Fields<'_>, texts: &[&str]) -> Option<bool> {
    let given = fields.get("hash")?;
    let hash = texts.iter().fold(Sha256::new_with_prefix(secret), Sha256::chain_update);
    Some(is_same(&given.to_ascii_lowercase(), &hex(&hash.finalize())))
}

fn sha1(secret: &str, fields: &Fields<'_>, of: &[String], separator: &str, at: &str) -> Option<bool> {
    let mut hash = Sha1::new();
    for name in of {
        let value = fields.get(name).filter(|value| !value.contains(separator))?;
        hash.update(&*value);
        hash.update(separator);
    }
    hash.update(secret);
    Some(is_same(&fields.get(at)?.to_ascii_lowercase(), &hex(&hash.finalize())))
}

/// Returns `true` if the time of a signature is neither too old nor too far in the future. The time is in
/// Unix seconds, or in the form `2026-01-15 11:42:28` in an unknown time zone.
pub(super) fn is_recent(signed_at: &str, now: OffsetDateTime) -> bool {
    let (signed_at, [behind, ahead]) = match signed_at.parse() {
        Ok(seconds) => (seconds, [Duration::ZERO; 2]),
        Err(_) => match unzoned(signed_at) {
            Some(seconds) => (seconds, ZONES),
            None => return false,
        },
    };
    let Some(age) = now.unix_timestamp().checked_sub(signed_at) else { return false };
    match u64::try_from(age) {
        Ok(age) => age <= (MAX_AGE + behind).as_secs(),
        Err(_) => age.unsigned_abs() <= (MAX_SKEW + ahead).as_secs(),
    }
}

/// Parses `2026-01-15 11:42:28` as a time in UTC and returns it in Unix seconds.
fn unzoned(text: &str) -> Option<i64> {
    let (date, time) = text.split_once([' ', 'T'])?;
    let date: Vec<_> = date.split('-').collect();
    let time: Vec<_> = time.split(':').collect();
    let (&[year, month, day], &[hour, minute, second]) = (&*date, &*time) else { return None };
    let month = time::Month::try_from(month.parse::<u8>().ok()?).ok()?;
    let date = time::Date::from_calendar_date(year.parse().ok()?, month, day.parse().ok()?).ok()?;
    let time = time::Time::from_hms(hour.parse().ok()?, minute.parse().ok()?, second.parse().ok()?).ok()?;
    Some(date.with_time(time).assume_utc().unix_timestamp())
}

/// Returns `true` if two texts are equal. The duration depends on their lengths only.
fn is_same(given: &str, right: &str) -> bool {
    given.as_bytes().ct_eq(right.as_bytes()).into()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}
