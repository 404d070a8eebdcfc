//! Who is asking: the access token of a request.

use poem::{Request, RequestBody, http::header};
use poem_openapi::{
    ApiExtractor, ApiExtractorType, ExtractParamOptions,
    registry::{MetaSecurityScheme, Registry},
};
use referral_core::{Bearer, Referral};

use crate::{code::Code, problem::Problem};

/// The name of the scheme in the document.
const SCHEME: &str = "bearer";

/// What the access token of a request leads to.
pub(crate) struct Authorized<T>(pub(crate) T);

/// Something that an access token leads to.
pub(crate) trait FromToken: Sized + Send {
    fn from_token(token: &str, referral: &Referral) -> impl Future<Output = Result<Self, Problem>> + Send;
}

/// The token itself, not yet looked at.
pub(crate) struct AccessToken(pub(crate) String);

impl FromToken for AccessToken {
    async fn from_token(token: &str, _: &Referral) -> Result<Self, Problem> {
        Ok(Self(token.to_owned()))
    }
}

/// Whoever it belongs to, if it is valid.
impl FromToken for Bearer {
    async fn from_token(token: &str, referral: &Referral) -> Result<Self, Problem> {
        Ok(referral.authenticate(token).await?)
    }
}

impl<'a, T: FromToken> ApiExtractor<'a> for Authorized<T> {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::SecurityScheme];

    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        let scheme = MetaSecurityScheme {
            ty: "http",
            description: Some("The access token from signing in."),
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
        let referral =
            request.data::<Referral>().ok_or_else(|| Problem::internal("the app has no handle"))?;
        Ok(Self(T::from_token(&token_of(request)?, referral).await?))
    }
}

/// The token in the header `Authorization`, of which there must be one.
fn token_of(request: &Request) -> Result<String, Problem> {
    let mut headers = request.headers().get_all(header::AUTHORIZATION).iter();
    let value = match (headers.next(), headers.next()) {
        (Some(value), None) => String::from_utf8_lossy(value.as_bytes()),
        (Some(_), Some(_)) => {
            return Err(Problem::with_detail(Code::NotAuthenticated, "Send one `Authorization` header."));
        }
        _ => return Err(Problem::new(Code::NotAuthenticated)),
    };
    match value.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => Ok(token.trim().to_owned()),
        _ => Err(Problem::new(Code::NotAuthenticated)),
    }
}
