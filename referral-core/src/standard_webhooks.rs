//! Signatures according to Standard Webhooks (version 1.0.0).

use base64::{Engine as _, prelude::BASE64_STANDARD};
use hmac::{Hmac, KeyInit as _, Mac as _};
#[cfg(feature = "sms-http")]
use reqwest::header::HeaderMap;
use reqwest::header::HeaderName;
use sha2::Sha256;
use time::OffsetDateTime;
use zeroize::Zeroizing;

const ID: HeaderName = HeaderName::from_static("webhook-id");
const TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");

/// Maximum difference between the clocks of both sides. All libraries of Standard Webhooks use this value.
#[cfg(feature = "sms-http")]
const TOLERANCE: std::time::Duration = std::time::Duration::from_mins(5);

/// Error of an invalid secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the secret for Standard Webhooks must be `whsec_` and 24 to 64 random bytes in Base64; create one with: \
     echo whsec_$(head -c 32 /dev/urandom | base64)"
)]
pub(crate) struct InvalidSecret;

/// Secret that both sides share.
pub(crate) struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// Parses `whsec_` followed by 24 to 64 bytes in Base64.
    pub(crate) fn parse(text: &str) -> Result<Self, InvalidSecret> {
        let bytes = text.strip_prefix("whsec_").and_then(|text| BASE64_STANDARD.decode(text).ok());
        let bytes = bytes.map(Zeroizing::new).filter(|bytes| (24..=64).contains(&bytes.len()));
        bytes.map(Self).ok_or(InvalidSecret)
    }

    /// Returns the headers with the signature of a body.
    pub(crate) fn sign(&self, id: &str, now: OffsetDateTime, body: &[u8]) -> [(HeaderName, String); 3] {
        let timestamp = now.unix_timestamp().to_string();
        let signature =
            format!("v1,{}", BASE64_STANDARD.encode(self.mac(id, &timestamp, body).finalize().into_bytes()));
        [(ID, id.to_owned()), (TIMESTAMP, timestamp), (SIGNATURE, signature)]
    }

    /// Returns `true` if the headers contain a valid and recent signature of the body.
    #[cfg(feature = "sms-http")]
    pub(crate) fn is_signed(&self, headers: &HeaderMap, now: OffsetDateTime, body: &[u8]) -> bool {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let (Some(id), Some(timestamp), Some(signatures)) = (text(ID), text(TIMESTAMP), text(SIGNATURE))
        else {
            return false;
        };
        let age = timestamp.parse().map(|signed: i64| signed.abs_diff(now.unix_timestamp()));
        let mac = self.mac(id, timestamp, body);
        // While a secret is being changed, there are two signatures.
        let is_ours = |signature: &str| {
            let signature = signature.strip_prefix("v1,").and_then(|text| BASE64_STANDARD.decode(text).ok());
            signature.is_some_and(|signature| mac.clone().verify_slice(&signature).is_ok())
        };
        age.is_ok_and(|age| age <= TOLERANCE.as_secs()) && signatures.split(' ').any(is_ours)
    }

    fn mac(&self, id: &str, timestamp: &str, body: &[u8]) -> Hmac<Sha256> {
        let mut mac = Hmac::new_from_slice(&self.0).expect("HMAC accepts keys of any length");
        for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", body] {
            mac.update(part);
        }
        mac
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signature_matches_the_example_of_the_standard() {
        let secret = Secret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").expect("valid secret");
        let now = OffsetDateTime::from_unix_timestamp(1_614_265_330).expect("valid time");
        let signed = secret.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", now, br#"{"test": 2432232314}"#);
        let [id, timestamp, signature] = signed.map(|(_, value)| value);
        assert_eq!(id, "msg_p5jXN8AQM9LWM0D4loKWxJek");
        assert_eq!(timestamp, "1614265330");
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }
}
