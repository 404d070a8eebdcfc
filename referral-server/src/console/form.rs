//! Fields of forms and of queries.

use poem::{Request, RequestBody, http::header, web::headers::ContentType};

use crate::{error::Problem, error_code::ErrorCode};

/// Fields, each of which occurs once at most.
#[derive(Debug, Default)]
pub(super) struct Form(Vec<(String, String)>);

impl Form {
    /// Parses fields. Of a repeated field, no value is used.
    pub(super) fn parse(text: &[u8]) -> Self {
        let mut fields: Vec<(String, String)> = form_urlencoded::parse(text).into_owned().collect();
        let names: Vec<_> = fields.iter().map(|(name, _)| name.clone()).collect();
        fields.retain(|(name, _)| names.iter().filter(|other| *other == name).count() == 1);
        Self(fields)
    }

    /// Returns all fields.
    pub(super) fn fields(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Returns the value of a field without white space at its ends.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(field, _)| field == name).map(|(_, value)| value.trim())
    }
}

/// Reads the fields in the body of a request. The middleware limits the size of the body.
pub(super) async fn read(request: &mut Request) -> Result<Form, Problem> {
    let content_type = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let content_type = content_type.and_then(|value| value.parse::<ContentType>().ok()).map(mime::Mime::from);
    let is_form = content_type.is_some_and(|mime| {
        let charset = mime.get_param(mime::CHARSET);
        mime.essence_str() == "application/x-www-form-urlencoded"
            && charset.is_none_or(|charset| charset == mime::UTF_8)
    });
    if !is_form || request.headers().contains_key(header::CONTENT_ENCODING) {
        return Err(Problem::new(ErrorCode::UnsupportedMediaType));
    }
    let mut body = RequestBody::new(request.take_body());
    let body = <Vec<u8> as poem::FromRequest>::from_request(request, &mut body).await?;
    Ok(Form::parse(&body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeated_field_has_no_value() {
        let form = Form::parse(b"a=1&b=+2%20&a=3&c");
        assert_eq!(
            [form.get("a"), form.get("b"), form.get("c"), form.get("d")],
            [None, Some("2"), Some(""), None]
        );
    }
}
