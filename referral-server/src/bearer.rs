//! Who is asking: the access token of a request.

use poem::{Request, RequestBody, http::header};
use poem_openapi::{
    ApiExtractor, ApiExtractorType, ExtractParamOptions,
    registry::{MetaSecurityScheme, Registry},
};
use referral_core::{Bearer, Referral};

use crate::problem::{Code, Problem};

/// The name of the scheme in the document.
const SCHEME: &str = "bearer";

/// The access token that came with the request, not yet looked at.
pub(crate) struct AccessToken(pub(crate) String);

/// Whoever sent a valid access token.
pub(crate) struct Authenticated(pub(crate) Bearer);

impl AccessToken {
    fn of(request: &Request) -> Result<Self, Problem> {
        let mut headers = request.headers().get_all(header::AUTHORIZATION).iter();
        let (Some(value), None) = (headers.next(), headers.next()) else {
            return Err(Problem::new(Code::NotAuthenticated));
        };
        let credentials = value.to_str().ok().and_then(|value| value.split_once(' '));
        match credentials {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => {
                Ok(Self(token.trim().to_owned()))
            }
            _ => Err(Problem::new(Code::NotAuthenticated)),
        }
    }
}

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

impl<'a> ApiExtractor<'a> for AccessToken {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::SecurityScheme];

    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        register(registry);
    }

    fn security_schemes() -> Vec<&'static str> {
        vec![SCHEME]
    }

    async fn from_request(
        request: &'a Request,
        _: &mut RequestBody,
        _: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        Ok(Self::of(request)?)
    }
}

impl<'a> ApiExtractor<'a> for Authenticated {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::SecurityScheme];

    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        register(registry);
    }

    fn security_schemes() -> Vec<&'static str> {
        vec![SCHEME]
    }

    async fn from_request(
        request: &'a Request,
        _: &mut RequestBody,
        _: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        let AccessToken(token) = AccessToken::of(request)?;
        let referral =
            request.data::<Referral>().ok_or_else(|| Problem::internal("the app has no handle"))?;
        Ok(Self(referral.authenticate(&token).await.map_err(Problem::from)?))
    }
}
