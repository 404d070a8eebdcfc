//! Authentication of requests by access token.

use poem::{Request, RequestBody, http::header};
use poem_openapi::{
    ApiExtractor, ApiExtractorType, ExtractParamOptions,
    registry::{MetaSecurityScheme, Registry},
};
use referral_core::{Administration, CurrentUser, ReferralService, texts::Text};

use crate::{error::Problem, error_code::ErrorCode};

/// Name of the security scheme in the OpenAPI document.
const SCHEME: &str = "bearer";

/// Extractor of a value that is derived from the access token of a request.
pub(crate) struct Authorized<T>(pub(crate) T);

/// Value that can be derived from an access token.
pub(crate) trait FromToken: Sized + Send {
    fn from_token(
        token: &str,
        referral: &ReferralService,
    ) -> impl Future<Output = Result<Self, Problem>> + Send;
}

/// Access token that has not been verified.
pub(crate) struct AccessToken(pub(crate) String);

impl FromToken for AccessToken {
    async fn from_token(token: &str, _: &ReferralService) -> Result<Self, Problem> {
        Ok(Self(token.to_owned()))
    }
}

/// Verifies the token.
impl FromToken for CurrentUser {
    async fn from_token(token: &str, referral: &ReferralService) -> Result<Self, Problem> {
        Ok(referral.authenticate(token).await?)
    }
}

/// Verifies the token, and that its user is staff.
impl FromToken for Administration {
    async fn from_token(token: &str, referral: &ReferralService) -> Result<Self, Problem> {
        let current_user = CurrentUser::from_token(token, referral).await?;
        Ok(referral.administration(&current_user)?)
    }
}

impl<'a, T: FromToken> ApiExtractor<'a> for Authorized<T> {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::SecurityScheme];

    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        let scheme = MetaSecurityScheme {
            ty: "http",
            description: Some(
                "The access token from `POST /auth/jwt/get_by_phone/` or `POST /auth/jwt/refresh/`.",
            ),
            name: None,
            key_in: None,
            scheme: Some("bearer"),
            bearer_format: Some("JWT"),
            flows: None,
            openid_connect_url: None,
        };
        registry.create_security_scheme(SCHEME, scheme);
    }

    fn security_schemes() -> Vec<&'static str> {
        vec![SCHEME]
    }

    async fn from_request(
        request: &'a Request,
        _: &mut RequestBody,
        _: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        let referral = request
            .data::<ReferralService>()
            .ok_or_else(|| Problem::internal("the request has no `ReferralService`"))?;
        Ok(Self(T::from_token(&token_of(request)?, referral).await?))
    }
}

/// Returns the token in the header `Authorization`, which must be present exactly once.
fn token_of(request: &Request) -> Result<String, Problem> {
    let mut headers = request.headers().get_all(header::AUTHORIZATION).iter();
    let value = match (headers.next(), headers.next()) {
        (Some(value), None) => String::from_utf8_lossy(value.as_bytes()),
        (Some(_), Some(_)) => {
            return Err(Problem::with_detail(ErrorCode::NotAuthenticated, Text::SeveralAuthorizations));
        }
        _ => return Err(Problem::new(ErrorCode::NotAuthenticated)),
    };
    let without_scheme = |value: &str| {
        let (scheme, token) = value.trim().split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().to_owned())
    };
    let token = without_scheme(&value).ok_or_else(|| Problem::new(ErrorCode::NotAuthenticated))?;
    if without_scheme(&token).is_some() {
        return Err(Problem::with_detail(ErrorCode::TokenNotValid, Text::BearerTwice));
    }
    Ok(token)
}
