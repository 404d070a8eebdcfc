//! JSON responses.

use poem::{IntoResponse, Response, http::header};
use poem_openapi::{
    ApiResponse,
    payload::Payload,
    registry::{MetaMediaType, MetaResponse, MetaResponses, MetaSchemaRef, Registry},
    types::Type,
};
use serde::Serialize;

/// JSON response, written directly as text. The one of poem-openapi builds a tree of all values first, which
/// is slow for lists.
pub(crate) struct Json<T>(pub(crate) T);

impl<T: Type> Payload for Json<T> {
    const CONTENT_TYPE: &'static str = "application/json; charset=utf-8";

    fn schema_ref() -> MetaSchemaRef {
        T::schema_ref()
    }

    fn register(registry: &mut Registry) {
        T::register(registry);
    }
}

impl<T: Type + Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        let text = serde_json::to_vec(&self.0).expect("a response has only text keys");
        Response::builder().header(header::CONTENT_TYPE, Self::CONTENT_TYPE).body(text)
    }
}

impl<T: Type + Serialize> ApiResponse for Json<T> {
    fn meta() -> MetaResponses {
        let media_type = MetaMediaType { content_type: Self::CONTENT_TYPE, schema: Self::schema_ref() };
        let response = MetaResponse {
            description: "",
            status: Some(200),
            status_range: None,
            content: vec![media_type],
            headers: Vec::new(),
        };
        MetaResponses { responses: vec![response] }
    }

    fn register(registry: &mut Registry) {
        T::register(registry);
    }
}

#[cfg(test)]
mod tests {
    use poem_openapi::types::{Example, ToJSON};

    use super::*;
    use crate::api::{
        admin::code_requests::CodeRequests,
        auth::{Refreshed, SentCode, SignedIn},
        personal_data::PersonalData,
        sessions::{Ended, Session, Sessions},
        texts::Texts,
        user_views::{User, UserWithInvited},
        users::{InviteePage, UserPage},
        verified_token::VerifiedToken,
    };

    fn assert_like_document<T: Example + Serialize + ToJSON>() {
        let written = serde_json::to_value(T::example()).expect("only text keys");
        assert_eq!(Some(written), T::example().to_json(), "{}", T::name());
    }

    #[test]
    fn responses_are_written_as_the_document_shows_them() {
        assert_like_document::<SentCode>();
        assert_like_document::<SignedIn>();
        assert_like_document::<VerifiedToken>();
        assert_like_document::<Refreshed>();
        assert_like_document::<Ended>();
        assert_like_document::<Session>();
        assert_like_document::<Sessions>();
        assert_like_document::<User>();
        assert_like_document::<UserWithInvited>();
        assert_like_document::<UserPage>();
        assert_like_document::<InviteePage>();
        assert_like_document::<CodeRequests>();
        assert_like_document::<PersonalData>();
        assert_like_document::<Texts>();
    }
}
