//! JSON Web Tokens: signing and verifying them, without trust in what their headers state (RFC 8725).

use std::{collections::BTreeMap, fmt, sync::Arc};

use jsonwebtoken::{Header, Validation};
use quick_cache::sync::Cache;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    clock::to_seconds,
    error::refusal::Refusal,
    keys::SigningKeys,
    session::{
        IssuedTokens, SessionId,
        claims::{ClaimsFn, CustomClaims},
    },
    user::UserId,
};

/// Largest size in bytes of a token that is read. Tokens of this service have 400 to 1 100 bytes, and up to 2
/// 731 more for custom claims.
const MAX_TOKEN_BYTES: usize = 4_096;

/// Largest lead of the clock of the signing process over the local clock, in seconds.
const CLOCK_SKEW_SECONDS: i64 = 5;

/// Number of tokens whose verified signature is cached: enough for the tokens in use at any one time. Each
/// entry takes about 300 bytes, and custom claims take two to three times their size as JSON in addition.
const REMEMBERED: usize = 16_384;

/// Purpose of a token. It is part of the token, and a token of one kind is not accepted as the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(clippy::exhaustive_enums, reason = "a session has these two tokens")]
pub enum TokenKind {
    /// Token that a client sends with each request.
    Access,
    /// Token that is exchanged for new tokens.
    Refresh,
}

impl TokenKind {
    /// Returns the header parameter `typ` of tokens of this kind. With explicit types, a token is not
    /// accepted as a token of another kind (RFC 8725, section 3.11). The type of access tokens is from RFC
    /// 9068.
    fn header_type(self) -> &'static str {
        match self {
            Self::Access => "at+jwt",
            Self::Refresh => "rt+jwt",
        }
    }
}

/// Pair of signed tokens. They are secrets: possession of a token is enough to act as the user.
#[derive(Clone)]
pub struct TokenPair {
    /// Access token.
    pub access: String,
    /// Refresh token.
    pub refresh: String,
    /// Time from which the access token is not valid.
    pub access_expires_at: OffsetDateTime,
}

impl std::fmt::Debug for TokenPair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TokenPair(…)")
    }
}

/// Contents of a token that was signed here, names this service and has not expired. Whether its session is
/// active and its user is active must be read from the storage.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct VerifiedToken {
    /// Purpose of the token.
    pub kind: TokenKind,
    /// User of the token.
    pub user: UserId,
    /// Session of the token.
    pub session: SessionId,
    /// Id of the token.
    pub id: Uuid,
    /// Time from which the token is not valid.
    pub expires_at: OffsetDateTime,
    claims: Arc<Claims>,
}

impl VerifiedToken {
    /// Returns the custom claim with this name, if the token has it.
    ///
    /// The function of [`ReferralServiceBuilder::claims`](crate::ReferralServiceBuilder::claims) returned
    /// this value when the token was issued. Values that have changed since are not in the token.
    #[must_use]
    pub fn claim(&self, name: &str) -> Option<&Value> {
        self.claims.custom.get(name)
    }
}

/// Claims, in the order in which they are written, so that equal issued tokens give equal bytes.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Claims<C = Map<String, Value>> {
    iss: String,
    aud: String,
    sub: Uuid,
    sid: Uuid,
    jti: Uuid,
    iat: i64,
    exp: i64,
    token_type: TokenKind,
    /// All other claims.
    #[serde(flatten)]
    custom: C,
}

/// Returns the audience of refresh tokens: the issuer with a suffix, a name that no resource server has. So a
/// verifier that checks only the audience does not accept a refresh token as an access token.
pub(crate) fn refresh_audience(issuer: &str) -> String {
    format!("{issuer}:refresh")
}

/// Signer and verifier of the tokens of one issuer for one audience.
pub(crate) struct Tokens {
    pub(crate) keys: SigningKeys,
    pub(crate) issuer: String,
    pub(crate) audience: String,
    /// Claims of tokens whose signature by a public key was verified, by the SHA-256 of the token. Verifying
    /// a signature takes ten times as long as this lookup, and a token is used many times. The claims are
    /// checked on each use. Only the signature and the membership of the key in the ring are not checked
    /// again: the ring never changes while this cache exists, because other keys come with a new `Tokens`.
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

    /// Returns the same issuer and audience with other keys. The cache is not kept, so that no token of a key
    /// that left the ring is accepted.
    pub(crate) fn with_keys(&self, keys: SigningKeys) -> Self {
        Self::new(keys, self.issuer.clone(), self.audience.clone())
    }

    /// Returns `true` if the signing key signs tokens that this service reads, also with the largest custom
    /// claims.
    pub(crate) fn can_sign(&self, claims: Option<&ClaimsFn>, now: OffsetDateTime) -> bool {
        let Ok(claims) = claims.map(ClaimsFn::largest).transpose() else {
            return false;
        };
        let now = to_seconds(now);
        let issued = IssuedTokens {
            key_id: self.keys.current().id().to_owned(),
            access_id: Uuid::nil(),
            refresh_id: Uuid::nil(),
            issued_at: now,
            access_expires_at: now + time::Duration::MINUTE,
            refresh_expires_at: now + time::Duration::MINUTE,
            claims,
        };
        let pair = self.sign(UserId(Uuid::nil()), SessionId(Uuid::nil()), &issued);
        pair.is_ok_and(|pair| self.read(&pair.access, Some(TokenKind::Access), now).is_ok())
    }

    /// Signs the access token and the refresh token.
    pub(crate) fn sign(
        &self,
        user: UserId,
        session: SessionId,
        issued: &IssuedTokens,
    ) -> Result<TokenPair, jsonwebtoken::errors::Error> {
        let sign = |kind: TokenKind, id, expires_at: OffsetDateTime| {
            // A key that left the ring cannot sign again, so the current key replaces it.
            let key = self.keys.find(&issued.key_id).unwrap_or_else(|| self.keys.current());
            let custom = issued.claims.as_ref().filter(|_| kind == TokenKind::Access);
            let claims = Claims {
                iss: self.issuer.clone(),
                aud: self.audience(kind),
                sub: user.0,
                sid: session.0,
                jti: id,
                iat: issued.issued_at.unix_timestamp(),
                exp: expires_at.unix_timestamp(),
                token_type: kind,
                custom: custom.map_or(Ok(BTreeMap::new()), CustomClaims::members)?,
            };
            jsonwebtoken::encode(&typed(&key.header, kind), &claims, &key.encoding)
        };
        Ok(TokenPair {
            access: sign(TokenKind::Access, issued.access_id, issued.access_expires_at)?,
            refresh: sign(TokenKind::Refresh, issued.refresh_id, issued.refresh_expires_at)?,
            access_expires_at: issued.access_expires_at,
        })
    }

    /// Verifies a token of the given kind, or of either kind.
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
            claims,
        })
    }

    /// Returns the user of a refresh token that was signed here, and that may have expired. It proves only that
    /// the client was a client of the user at some time.
    pub(crate) fn former_user(&self, token: &str, now: OffsetDateTime) -> Option<UserId> {
        let claims = self.verified_claims(token)?;
        let is_valid = claims.token_type == TokenKind::Refresh
            && claims.iss == self.issuer
            && claims.aud == self.audience(TokenKind::Refresh)
            && claims.iat <= now.unix_timestamp() + CLOCK_SKEW_SECONDS;
        is_valid.then_some(UserId(claims.sub))
    }

    /// Returns the claims of a token whose signature is valid for one of the keys.
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
        // Only a header that this key writes is accepted: its algorithm, one of two types, no critical
        // extensions, and no embedded or referenced keys.
        let kinds = [TokenKind::Access, TokenKind::Refresh];
        let kind = kinds.into_iter().find(|kind| header == typed(&key.header, *kind))?;
        let mut validation = Validation::new(key.header.alg);
        // These claims are checked by the caller: the library reads the system clock and accepts fractions.
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

/// Tests with forged tokens are in `tests/tokens/`.
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

    /// Returns the tokens of keys that are stored and read again.
    fn stored(keys: &SigningKeys) -> Tokens {
        tokens(SigningKeys::from_jwk_set(&keys.to_jwk_set()).expect("usable"))
    }

    fn eddsa() -> Tokens {
        stored(&SigningKeys::generate(&SystemRandom))
    }

    fn es256() -> Tokens {
        stored(&SigningKeys::generate_p256(&SystemRandom))
    }

    fn rs256() -> Tokens {
        stored(&crate::keys::tests::rsa())
    }

    fn issued(tokens: &Tokens) -> IssuedTokens {
        IssuedTokens {
            key_id: tokens.keys.current().id().to_owned(),
            access_id: Uuid::from_u128(1),
            refresh_id: Uuid::from_u128(2),
            issued_at: NOW,
            access_expires_at: NOW + time::Duration::MINUTE,
            refresh_expires_at: NOW + time::Duration::HOUR,
            claims: None,
        }
    }

    fn pair(tokens: &Tokens) -> TokenPair {
        let [user, session] = [Uuid::from_u128(3), Uuid::from_u128(4)];
        tokens.sign(UserId(user), SessionId(session), &issued(tokens)).expect("signed")
    }

    #[test]
    fn signed_tokens_are_valid_and_the_same_grant_gives_the_same_bytes() {
        for tokens in [hs256(), eddsa(), rs256(), es256()] {
            let TokenPair { access, refresh, .. } = pair(&tokens);
            let read = tokens.read(&access, Some(TokenKind::Access), NOW).expect("valid");
            assert_eq!(read.user.0, Uuid::from_u128(3));
            assert_eq!(read.session.0, Uuid::from_u128(4));
            assert_eq!(read.id, Uuid::from_u128(1));
            assert_eq!(tokens.read(&refresh, None, NOW).expect("valid").kind, TokenKind::Refresh);
            let again = pair(&tokens);
            // An ES256 signature contains a random number.
            if tokens.keys.current().header.alg != jsonwebtoken::Algorithm::ES256 {
                assert_eq!((&access, &refresh), (&again.access, &again.refresh));
            }
            assert_eq!(tokens.read(&again.access, None, NOW).expect("valid"), read);
            assert!(tokens.can_sign(None, NOW));
        }
    }

    #[test]
    fn token_with_the_algorithm_of_another_key_is_rejected() {
        let all = [hs256(), eddsa(), rs256(), es256()];
        for (index, signer) in all.iter().enumerate() {
            let TokenPair { access, .. } = pair(signer);
            let accepted = all.iter().map(|verifier| verifier.read(&access, None, NOW).is_ok());
            let expected: Vec<_> = (0..all.len()).map(|place| place == index).collect();
            assert_eq!(accepted.collect::<Vec<_>>(), expected);
        }
    }

    #[test]
    fn claims_of_a_cached_token_are_checked_on_each_use() {
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
        assert!(tokens.read(&forged, None, NOW).is_err(), "the same claims with another signature");
        tokens.audience = "another audience".into();
        assert!(tokens.read(&access, None, NOW).is_err());
    }

    #[test]
    fn token_of_one_kind_is_not_accepted_as_the_other() {
        let tokens = hs256();
        let TokenPair { access, refresh, .. } = pair(&tokens);
        assert!(tokens.read(&access, Some(TokenKind::Refresh), NOW).is_err());
        assert!(tokens.read(&refresh, Some(TokenKind::Access), NOW).is_err());
    }

    #[test]
    fn token_expires_exactly_at_its_expiry_second() {
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
    fn token_of_a_retired_key_is_valid_and_of_a_removed_key_is_not() {
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
