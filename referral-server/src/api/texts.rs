//! Endpoint `/texts/` with the texts of errors.

use std::{collections::BTreeMap, sync::LazyLock};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use bytes::Bytes;
use poem::{
    IntoResponse, Request, Response,
    http::{HeaderMap, StatusCode, header},
};
use poem_openapi::{
    ApiResponse, Object, OpenApi,
    registry::{MetaHeader, MetaMediaType, MetaResponse, MetaResponses, Registry},
    types::{Example, Type},
};
use referral_core::texts::{Language, Text};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::{
    api::{Refusals, Tag},
    error::Problem,
};

/// Error codes of each operation, in addition to those that every operation can return.
pub(crate) const REFUSALS: &[Refusals] = &[("listTexts", &[])];

/// Time for which clients may use the texts without asking again: one hour. The texts change only with the
/// version of the server.
const CACHE_CONTROL: &str = "public, max-age=3600";

/// The texts of all errors in all languages.
#[derive(Object, Serialize)]
#[oai(example)]
pub(super) struct Texts {
    /// The languages as BCP 47 tags. The first one is the default.
    languages: Vec<String>,
    /// Each text by its id and its language. An id is an error code, or an error code, a dot and a more precise
    /// reason. Show the text of the error code if you know no better one. The texts are ICU messages. Fill in
    /// `{seconds}` with `retry_after`.
    texts: BTreeMap<String, BTreeMap<String, String>>,
}

impl Texts {
    fn of(texts: &[Text]) -> Self {
        let in_languages = |text: &Text| {
            let of = |language: &Language| (language.tag().to_owned(), text.template(*language).to_owned());
            (text.id().to_owned(), Language::ALL.iter().map(of).collect())
        };
        Self {
            languages: Language::ALL.iter().map(|language| language.tag().to_owned()).collect(),
            texts: texts.iter().map(in_languages).collect(),
        }
    }
}

impl Example for Texts {
    fn example() -> Self {
        Self::of(&[Text::InvalidCode, Text::TooManyRequests])
    }
}

/// Body of the response, with its entity tag.
static WRITTEN: LazyLock<(Bytes, String)> = LazyLock::new(|| {
    let body = serde_json::to_vec(&Texts::of(Text::ALL)).expect("a response has only text keys");
    let tag = format!("\"{}\"", BASE64_URL_SAFE_NO_PAD.encode(&Sha256::digest(&body)[..12]));
    (body.into(), tag)
});

/// Response with the texts, or without a body if the client has them.
pub(crate) struct CachedTexts {
    is_known: bool,
}

impl IntoResponse for CachedTexts {
    fn into_response(self) -> Response {
        let (body, tag) = &*WRITTEN;
        let languages: Vec<_> = Language::ALL.iter().map(|language| language.tag()).collect();
        let response = Response::builder()
            .header(header::ETAG, tag)
            .header(header::CACHE_CONTROL, CACHE_CONTROL)
            .header(header::CONTENT_LANGUAGE, languages.join(", "));
        if self.is_known {
            return response.status(StatusCode::NOT_MODIFIED).finish();
        }
        response.content_type("application/json; charset=utf-8").body(body.clone())
    }
}

impl ApiResponse for CachedTexts {
    fn meta() -> MetaResponses {
        let header = |name: &str, description: &str| MetaHeader {
            name: name.to_owned(),
            description: Some(description.to_owned()),
            required: true,
            deprecated: false,
            schema: String::schema_ref(),
        };
        let headers = || {
            vec![
                header("ETag", "The entity tag of the texts, for `If-None-Match`."),
                header("Cache-Control", "The time for which the texts can be used without a request."),
            ]
        };
        let response = |status, description, content| MetaResponse {
            description,
            status: Some(status),
            status_range: None,
            content,
            headers: headers(),
        };
        let content =
            MetaMediaType { content_type: "application/json; charset=utf-8", schema: Texts::schema_ref() };
        MetaResponses {
            responses: vec![
                response(200, "", vec![content]),
                response(
                    304,
                    "The texts have not changed since the request that returned the entity tag.",
                    vec![],
                ),
            ],
        }
    }

    fn register(registry: &mut Registry) {
        Texts::register(registry);
    }
}

pub(crate) struct TextsApi;

#[OpenApi(tag = "Tag::Texts")]
impl TextsApi {
    /// Get the texts of errors
    ///
    /// Returns the texts of all errors in all languages, so that an app can show them by `code` in the language
    /// of its user. `detail` in an error is the same text in a language that `Accept-Language` selects. The
    /// response has an `ETag`. A request with the same tag in `If-None-Match` gets the status 304.
    #[oai(path = "/texts", method = "get", operation_id = "listTexts")]
    #[expect(clippy::unused_async, reason = "poem-openapi requires an asynchronous method")]
    async fn list(&self, request: &Request) -> Result<CachedTexts, Problem> {
        Ok(CachedTexts { is_known: has_tag(request.headers(), &WRITTEN.1) })
    }
}

/// Returns `true` if a header `If-None-Match` has the entity tag. The comparison is weak: proxies that compress
/// a response mark its tag as weak (RFC 9110, section 13.1.2).
fn has_tag(headers: &HeaderMap, tag: &str) -> bool {
    let lines = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|line| line.to_str().ok());
    let mut tags = lines.flat_map(|line| line.split(',')).map(str::trim);
    tags.any(|given| given == "*" || given.strip_prefix("W/").unwrap_or(given) == tag)
}
