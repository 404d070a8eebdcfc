//! JSON Web Tokens: writing them, and reading them without believing anything they say of
//! themselves (RFC 8725).

use std::{fmt, sync::Arc};

use jsonwebtoken::{Header, Validation};
use quick_cache::sync::Cache;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{Refusal, SessionId, UserId, clock::to_seconds, keys::SigningKeys, session::Grant};

/// The most bytes of a token that are looked at; ours have some 500.
const MAX_TOKEN_BYTES: usize = 4_096;

/// How far the clock of the process that signed may be ahead of ours, in seconds.
const CLOCK_SKEW_SECONDS: i64 = 5;

/// Of how many tokens it is remembered that their signature is right: of those who ask at any one
/// time. Each takes some 300 bytes.
const REMEMBERED: usize = 16_384;

/// What a token is for. It is part of the token, and one never passes as the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenKind {
    /// Shown with each request.
    Access,
    /// Exchanged for new tokens.
    Refresh,
}

impl TokenKind {
    /// Returns the header parameter `typ` of tokens of this kind. Explicit types keep a token from being
    /// taken for one of another kind (RFC 8725, section 3.11); that of access tokens is from RFC 9068.
    fn header_type(self) -> &'static str {
        match self {
            Self::Access => "at+jwt",
            Self::Refresh => "rt+jwt",
        }
    }
}

/// A pair of signed tokens. They are secrets: whoever has one is the user.
#[derive(Clone)]
pub struct TokenPair {
    /// The access token.
    pub access: String,
    /// The refresh token.
    pub refresh: String,
    /// From when on the access token is not valid.
    pub access_expires_at: OffsetDateTime,
}

impl std::fmt::Debug for TokenPair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TokenPair(…)")
    }
}

/// What a token says that was signed here, names this service and has not expired. Whether its
/// session still lives and its user is active, only the storage knows.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct VerifiedToken {
    /// What the token is for.
    pub kind: TokenKind,
    /// The user.
    pub user: UserId,
    /// The session.
    pub session: SessionId,
    /// The token's own id.
    pub id: Uuid,
    /// From when on it is not valid.
    pub expires_at: OffsetDateTime,
}

/// The claims, in the order in which they are written: the same grant gives the same bytes.
#[derive(Serialize, Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    sub: Uuid,
    sid: Uuid,
    jti: Uuid,
    iat: i64,
    exp: i64,
    token_type: TokenKind,
}

/// Returns the audience of refresh tokens: the issuer itself, under a name that no resource server has.
/// A verifier that checks the audience only takes no refresh token for an access token.
pub(crate) fn refresh_audience(issuer: &str) -> String {
    format!("{issuer}:refresh")
}

/// Signs and verifies the tokens of one issuer for one audience.
pub(crate) struct Tokens {
    pub(crate) keys: SigningKeys,
    pub(crate) issuer: String,
    pub(crate) audience: String,
    /// The claims of tokens whose signature by a public key was found right, by their SHA-256. To
    /// verify one takes ten times as long as to look it up, and a token comes many times. Who has
    /// the claims checks them each time; only the signature is not checked again, and the ring,
    /// which is fixed for as long as this is remembered: another ring comes with other `Tokens`.
    seen: Cache<[u8; 32], Arc<Claims>>,
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens").field("keys", &self.keys).finish_non_exhaustive()
    }
}

impl Tokens {
    pub(crate) fn new(keys: SigningKeys, issuer: String, audience: String) -> Self {
        Self { keys, issuer, audience, seen: Cache::new(REMEMBERED) }
    }

    fn audience(&self, kind: TokenKind) -> String {
        match kind {
            TokenKind::Access => self.audience.clone(),
            TokenKind::Refresh => refresh_audience(&self.issuer),
        }
    }

    /// The same issuer and audience with other keys. What was seen is not taken along, so that no
    /// token of a key that left the ring is honoured.
    pub(crate) fn with_keys(&self, keys: SigningKeys) -> Self {
        Self::new(keys, self.issuer.clone(), self.audience.clone())
    }

    /// Whether the key that signs verifies what it signed.
    pub(crate) fn can_sign(&self, now: OffsetDateTime) -> bool {
        let now = to_seconds(now);
        let grant = Grant {
            key_id: self.keys.current().id().to_owned(),
            access_id: Uuid::nil(),
            refresh_id: Uuid::nil(),
            issued_at: now,
            access_expires_at: now + time::Duration::MINUTE,
            refresh_expires_at: now + time::Duration::MINUTE,
        };
        let pair = self.sign(UserId(Uuid::nil()), SessionId(Uuid::nil()), &grant);
        pair.is_ok_and(|pair| self.read(&pair.access, Some(TokenKind::Access), now).is_ok())
    }

    /// Signs the two tokens of a grant.
    pub(crate) fn sign(
        &self,
        user: UserId,
        session: SessionId,
        grant: &Grant,
    ) -> Result<TokenPair, jsonwebtoken::errors::Error> {
        let sign = |kind: TokenKind, id, expires_at: OffsetDateTime| {
            // A key that left the ring cannot sign again what it once signed.
            let key = self.keys.find(&grant.key_id).unwrap_or_else(|| self.keys.current());
            let claims = Claims {
                iss: self.issuer.clone(),
                aud: self.audience(kind),
                sub: user.0,
                sid: session.0,
                jti: id,
                iat: grant.issued_at.unix_timestamp(),
                exp: expires_at.unix_timestamp(),
                token_type: kind,
            };
            jsonwebtoken::encode(&typed(&key.header, kind), &claims, &key.encoding)
        };
        Ok(TokenPair {
            access: sign(TokenKind::Access, grant.access_id, grant.access_expires_at)?,
            refresh: sign(TokenKind::Refresh, grant.refresh_id, grant.refresh_expires_at)?,
            access_expires_at: grant.access_expires_at,
        })
    }

    /// Reads a token of the given kind, or of either.
    pub(crate) fn read(
        &self,
        token: &str,
        kind: Option<TokenKind>,
        now: OffsetDateTime,
    ) -> Result<VerifiedToken, Refusal> {
        let claims = self.verified_claims(token).ok_or(Refusal::TokenNotValid)?;
        let now = now.unix_timestamp();
        let is_valid = claims.iss == self.issuer
            && claims.aud == self.audience(claims.token_type)
            && kind.is_none_or(|kind| claims.token_type == kind)
            && now < claims.exp
            && claims.iat <= now + CLOCK_SKEW_SECONDS;
        let expires_at = OffsetDateTime::from_unix_timestamp(claims.exp).ok().filter(|_| is_valid);
        Ok(VerifiedToken {
            kind: claims.token_type,
            user: UserId(claims.sub),
            session: SessionId(claims.sid),
            id: claims.jti,
            expires_at: expires_at.ok_or(Refusal::TokenNotValid)?,
        })
    }

    /// The claims of a token with a right signature of one of our keys.
    fn verified_claims(&self, token: &str) -> Option<Arc<Claims>> {
        if token.len() > MAX_TOKEN_BYTES {
            return None;
        }
        if !self.keys.has_public() {
            return self.verify(token).map(Arc::new);
        }
        let hash = Sha256::digest(token).into();
        if let Some(claims) = self.seen.get(&hash) {
            return Some(claims);
        }
        let claims = Arc::new(self.verify(token)?);
        self.seen.insert(hash, Arc::clone(&claims));
        Some(claims)
    }

    fn verify(&self, token: &str) -> Option<Claims> {
        let header = jsonwebtoken::decode_header(token).ok()?;
        let key = self.keys.find(header.kid.as_deref()?)?;
        // Exactly a header that this key writes: its algorithm and one of two types, and nothing critical,
        // embedded or referred to.
        let kinds = [TokenKind::Access, TokenKind::Refresh];
        let kind = kinds.into_iter().find(|kind| header == typed(&key.header, *kind))?;
        let mut validation = Validation::new(key.header.alg);
        // Ours to check: the library asks the system's clock and accepts fractions.
        validation.validate_exp = false;
        validation.validate_aud = false;
        validation.required_spec_claims.clear();
        let claims: Claims = jsonwebtoken::decode(token, &key.decoding, &validation).ok()?.claims;
        (claims.token_type == kind).then_some(claims)
    }
}

/// Returns the header of a key for tokens of a kind.
fn typed(header: &Header, kind: TokenKind) -> Header {
    Header { typ: Some(kind.header_type().to_owned()), ..header.clone() }
}

/// What is forged is in `tests/tokens.rs`.
#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::SystemRandom;

    const NOW: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;
    const SECRET: [u8; 32] = [7; 32];

    fn tokens(keys: SigningKeys) -> Tokens {
        Tokens::new(keys, "issuer".into(), "audience".into())
    }

    fn hs256() -> Tokens {
        tokens(SigningKeys::from_secret("k1", &SECRET).expect("long enough"))
    }

    fn eddsa() -> Tokens {
        let set = SigningKeys::generate_jwk_set(&SystemRandom);
        tokens(SigningKeys::from_jwk_set(&set).expect("usable"))
    }

    fn grant(tokens: &Tokens) -> Grant {
        Grant {
            key_id: tokens.keys.current().id().to_owned(),
            access_id: Uuid::from_u128(1),
            refresh_id: Uuid::from_u128(2),
            issued_at: NOW,
            access_expires_at: NOW + time::Duration::MINUTE,
            refresh_expires_at: NOW + time::Duration::HOUR,
        }
    }

    fn pair(tokens: &Tokens) -> TokenPair {
        let [user, session] = [Uuid::from_u128(3), Uuid::from_u128(4)];
        tokens.sign(UserId(user), SessionId(session), &grant(tokens)).expect("signed")
    }

    #[test]
    fn tokens_read_back_and_the_same_grant_gives_the_same_bytes() {
        for tokens in [hs256(), eddsa()] {
            let TokenPair { access, refresh, .. } = pair(&tokens);
            let read = tokens.read(&access, Some(TokenKind::Access), NOW).expect("valid");
            assert_eq!(read.user.0, Uuid::from_u128(3));
            assert_eq!(read.session.0, Uuid::from_u128(4));
            assert_eq!(read.id, Uuid::from_u128(1));
            assert_eq!(tokens.read(&refresh, None, NOW).expect("valid").kind, TokenKind::Refresh);
            assert_eq!((access, refresh), (pair(&tokens).access, pair(&tokens).refresh));
        }
    }

    #[test]
    fn a_token_that_was_seen_before_is_checked_all_the_same() {
        let mut tokens = eddsa();
        let TokenPair { access, .. } = pair(&tokens);
        for _ in 0..2 {
            tokens.read(&access, Some(TokenKind::Access), NOW).expect("valid");
        }
        assert!(tokens.read(&access, Some(TokenKind::Refresh), NOW).is_err());
        assert!(tokens.read(&access, None, NOW + time::Duration::MINUTE).is_err());
        let (signed, signature) = access.rsplit_once('.').expect("three parts");
        let other = if signature.starts_with('A') { 'B' } else { 'A' };
        let forged = format!("{signed}.{other}{}", &signature[1..]);
        assert!(tokens.read(&forged, None, NOW).is_err(), "the same claims under another signature");
        tokens.audience = "somebody else".into();
        assert!(tokens.read(&access, None, NOW).is_err());
    }

    #[test]
    fn one_kind_never_passes_as_the_other() {
        let tokens = hs256();
        let TokenPair { access, refresh, .. } = pair(&tokens);
        assert!(tokens.read(&access, Some(TokenKind::Refresh), NOW).is_err());
        assert!(tokens.read(&refresh, Some(TokenKind::Access), NOW).is_err());
    }

    #[test]
    fn a_token_ends_on_the_second() {
        let tokens = hs256();
        let access = pair(&tokens).access;
        let end = NOW + time::Duration::MINUTE;
        assert!(tokens.read(&access, None, end - time::Duration::MICROSECOND).is_ok());
        assert!(tokens.read(&access, None, end).is_err());
        assert!(
            tokens.read(&access, None, NOW - time::Duration::seconds(6)).is_err(),
            "issued in the future"
        );
    }

    #[test]
    fn a_token_of_a_retired_key_is_still_read_and_of_a_removed_key_is_not() {
        let old =
            r#"{"kty":"oct","kid":"old","use":"sig","k":"BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc"}"#;
        let new =
            r#"{"kty":"oct","kid":"new","use":"sig","k":"CAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAg"}"#;
        let ring = |keys: &str| {
            tokens(SigningKeys::from_jwk_set(&format!(r#"{{"keys":[{keys}]}}"#)).expect("usable"))
        };
        let access = pair(&ring(old)).access;
        assert!(ring(&format!("{new},{old}")).read(&access, None, NOW).is_ok());
        assert!(ring(new).read(&access, None, NOW).is_err());
    }
}
