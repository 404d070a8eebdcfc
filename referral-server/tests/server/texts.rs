//! Tests of the texts of errors in the languages of clients.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use referral_core::{
    policy::Policy,
    texts::{Detail, Language, Text},
};
use referral_server::{AppOptions, app};
use reqwest::{Method, RequestBuilder, header};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::service::{ANNA, BORIS, BrokenSender, Client, DOCUMENT, MINUTE, Response, Service};

const SEND: &str = "/auth/send_code/";
const SIGN_IN: &str = "/auth/jwt/get_by_phone/";
const CURRENT_USER: &str = "/users/current_user/";

/// Sends a request with a header `Accept-Language`.
async fn send_in(client: &Client, languages: &str, request: RequestBuilder) -> Response {
    client.send(request.header(header::ACCEPT_LANGUAGE, languages)).await
}

async fn post_in(client: &Client, languages: &str, path: &str, body: &Value) -> Response {
    send_in(client, languages, client.request(Method::POST, path).json(body)).await
}

/// Asserts that the problem has this text in this language.
#[track_caller]
fn assert_text(response: &Response, language: Language, detail: impl Into<Detail>) {
    assert_eq!(response.header("content-language"), Some(language.tag()), "{}", response.text);
    assert_eq!(response.body["detail"], *detail.into().write(language), "{}", response.text);
}

#[tokio::test]
async fn an_error_is_in_the_first_accepted_language_that_is_available() {
    let service = Service::start().await;
    for (languages, language) in [
        // Chrome, Firefox and Safari in Russian, Kazakh, German and English.
        ("ru-RU,ru;q=0.9,en-US;q=0.8,en;q=0.7", Language::Russian),
        ("ru-RU,ru;q=0.8,en-US;q=0.5,en;q=0.3", Language::Russian),
        ("ru", Language::Russian),
        ("kk-KZ,kk;q=0.9,ru-RU;q=0.8,ru;q=0.7,en-US;q=0.6,en;q=0.5", Language::Kazakh),
        ("kk-Cyrl-KZ", Language::Kazakh),
        ("de-DE,de;q=0.9,en-US;q=0.8,en;q=0.7", Language::English),
        ("en-GB,en-US;q=0.9,en;q=0.8", Language::English),
        ("uk-UA,uk;q=0.9,ru;q=0.8,en;q=0.7", Language::Russian),
        // Other clients.
        ("en;q=0.1, kk;q=0.2", Language::Kazakh),
        ("ru;q=0, kk", Language::Kazakh),
        ("RU_ru", Language::Russian),
        ("*", Language::English),
        ("*, ru;q=0.5", Language::Russian),
        ("", Language::English),
        ("-;;,,q=1,\u{fe}", Language::English),
        ("fr-CH, fr;q=0.9", Language::English),
    ] {
        let request = service.client.request(Method::GET, CURRENT_USER);
        let response = send_in(&service.client, languages, request).await;
        response.assert_problem(401, "not_authenticated");
        assert_text(&response, language, Text::NotAuthenticated);
        assert_eq!(response.header("vary"), Some("accept-language"));
        // The reason phrase of the status is not translated.
        assert_eq!(response.body["title"], "Unauthorized");
    }
    let response = service.client.send(service.client.request(Method::GET, CURRENT_USER)).await;
    assert_text(&response, Language::English, Text::NotAuthenticated);
}

#[tokio::test]
async fn several_header_lines_are_one_list() {
    let service = Service::start().await;
    let request = service.client.request(Method::GET, CURRENT_USER);
    let request = request.header(header::ACCEPT_LANGUAGE, "en;q=0.3");
    let response = send_in(&service.client, "kk", request).await;
    assert_text(&response, Language::Kazakh, Text::NotAuthenticated);
}

#[tokio::test]
async fn a_refused_request_names_the_seconds_in_each_language() {
    let service = Service::with_policy(Policy::standard()).await;
    service.client.post(SEND, &json!({ "phone": ANNA })).await.ok();
    service.clock.advance(MINUTE * 18 / 60);
    for (languages, detail) in [
        ("en", "There were too many requests. Try again in 42 seconds."),
        ("ru", "Слишком много запросов. Попробуйте снова через 42 секунды."),
        ("kk", "Сұраныс тым көп. 42 секундтан кейін қайталап көріңіз."),
    ] {
        let response = post_in(&service.client, languages, SEND, &json!({ "phone": ANNA })).await;
        response.assert_problem(429, "too_many_requests");
        assert_eq!(response.body["detail"], detail);
        assert_eq!(response.header("retry-after"), Some("42"));
    }
    service.clock.advance(MINUTE * 21 / 60);
    let response = post_in(&service.client, "ru", SEND, &json!({ "phone": ANNA })).await;
    assert_eq!(response.body["detail"], "Слишком много запросов. Попробуйте снова через 21 секунду.");
}

#[tokio::test]
async fn a_wrong_code_says_to_check_the_code() {
    let service = Service::start().await;
    let sent = service.client.post(SEND, &json!({ "phone": ANNA })).await.ok();
    let wrong = if sent["code"] == "0000" { "1111" } else { "0000" };
    let body = json!({ "phone": ANNA, "code": wrong, "challenge_id": sent["challenge_id"] });
    for (languages, advice) in [("en", "Check the code"), ("ru", "Проверьте код"), ("kk", "кодты тексеріңіз")]
    {
        let response = post_in(&service.client, languages, SIGN_IN, &body).await;
        response.assert_field(403, "invalid_code", "code");
        for detail in [&response.body["detail"], &response.body["errors"]["code"][0]["detail"]] {
            assert!(detail.as_str().expect("a text").contains(advice), "{detail}");
        }
    }
}

/// Requests that are rejected, and their headers.
fn rejected(client: &Client, access: &str) -> Vec<RequestBuilder> {
    let request = |method, path: &str| client.request(method, path);
    let post = |path: &str, body: Value| request(Method::POST, path).json(&body);
    let list = |query: &str| request(Method::GET, &format!("/users/?{query}")).bearer_auth(access);
    let edit = |body: Value| request(Method::PATCH, CURRENT_USER).bearer_auth(access).json(&body);
    let raw = |body: &'static str| {
        request(Method::POST, SEND).header(header::CONTENT_TYPE, "application/json").body(body)
    };
    vec![
        post(SEND, json!({})),
        post(SEND, json!({ "phone": 1 })),
        post(SEND, json!({ "phone": "x" })),
        post(SEND, json!({ "phone": "9608543017" })),
        post(SEND, json!({ "phone": "+70000000000" })),
        post(SEND, json!({ "phone": "+78121234567" })),
        post(SEND, json!({ "phone": "+54 11 6907-1234" })),
        post(SEND, json!({ "phone": BORIS, "context": 1 })),
        post(SEND, json!({ "phone": BORIS, "other": 1 })),
        post(SIGN_IN, json!({ "phone": BORIS, "code": "12x4" })),
        post(SIGN_IN, json!({ "phone": BORIS, "code": [], "invited_by_code": "-" })),
        post(SIGN_IN, json!({ "phone": BORIS, "code": "0000", "challenge_id": "x" })),
        post(SIGN_IN, json!({ "phone": BORIS, "code": "0000" })),
        post("/auth/jwt/verify/", json!({ "token": "x", "token_type": "other" })),
        post("/auth/jwt/verify/", json!({ "token": "x" })),
        post("/auth/jwt/refresh/", json!({ "refresh": "" })),
        post("/auth/jwt/refresh/", json!({ "refresh": "a\u{0}" })),
        raw("{"),
        raw("[]"),
        raw("{\"phone\": 1, \"phone\": 2}"),
        request(Method::POST, SEND).header(header::CONTENT_TYPE, "text/plain").body("x"),
        request(Method::POST, SEND).json(&json!({ "phone": "0".repeat(20_000) })),
        request(Method::GET, "/nothing/"),
        request(Method::GET, "/users/x/").bearer_auth(access),
        request(Method::PUT, SEND),
        request(Method::GET, CURRENT_USER),
        request(Method::GET, CURRENT_USER).bearer_auth("x"),
        request(Method::GET, CURRENT_USER).bearer_auth(format!("Bearer {access}")),
        request(Method::GET, CURRENT_USER).bearer_auth(access).bearer_auth(access),
        request(Method::PATCH, "/admin/users/00000000-0000-0000-0000-000000000000/")
            .bearer_auth(access)
            .json(&json!({})),
        list("limit=0"),
        list("limit=x"),
        list("offset=100001"),
        list("offset=x"),
        list("offset=1&cursor=x"),
        list("cursor=x"),
        list("search=a+b+c+d+e+f"),
        list("search=a+b"),
        list(&format!("search={}", "a".repeat(101))),
        list("first_name=%00"),
        list("serach=a"),
        list("limit=1&limit=2"),
        edit(json!({ "first_name": "\u{200b}" })),
        edit(json!({ "email": "x" })),
        edit(json!({ "email": "boris@example.com" })),
        edit(json!({ "invited_by_code": "ZZZZZZ" })),
        edit(json!({ "email": "boris@example.com", "invited_by_code": "ZZZZZZ" })),
    ]
}

#[tokio::test]
async fn no_text_of_an_error_is_in_another_language() {
    let service = Service::start().await;
    let (anna, boris) = (service.enter(ANNA, None).await, service.enter(BORIS, None).await);
    service.client.patch(&boris.access, &json!({ "email": "boris@example.com" })).await.ok();
    let kazakh = ['ә', 'і', 'ң', 'ғ', 'ү', 'ұ', 'қ', 'ө', 'һ'];
    for language in Language::ALL {
        let mut codes = BTreeSet::new();
        for request in rejected(&service.client, &anna.access) {
            let response = send_in(&service.client, language.tag(), request).await;
            assert!(response.status >= 400, "{}", response.text);
            assert_eq!(response.header("content-language"), Some(language.tag()), "{}", response.text);
            let fields = response.body["errors"].as_object().into_iter().flat_map(|fields| fields.values());
            let errors = fields.flat_map(|errors| errors.as_array().expect("a list"));
            for error in [&response.body].into_iter().chain(errors) {
                let detail = error["detail"].as_str().expect("a text");
                let (is_cyrillic, is_kazakh) = (
                    detail.contains(|c: char| ('а'..='я').contains(&c)),
                    detail.to_lowercase().contains(kazakh),
                );
                let expected = (*language != Language::English, *language == Language::Kazakh);
                assert_eq!((is_cyrillic, is_kazakh), expected, "{detail}");
                codes.insert(error["code"].as_str().expect("a code").to_owned());
            }
        }
        assert!(codes.len() >= 30, "{codes:?}");
    }
}

#[tokio::test]
async fn a_failure_is_in_the_language_of_the_client() {
    let service =
        Service::with(Policy::development(), std::sync::Arc::new(BrokenSender { knows: true })).await;
    let response = post_in(&service.client, "ru", SEND, &json!({ "phone": ANNA })).await;
    response.assert_problem(503, "sms_not_sent");
    assert_text(&response, Language::Russian, Detail::from(Text::SmsNotSent).with("seconds", 1));
    // A server without capacity.
    let app = app(service.referral.clone(), AppOptions::default());
    let headers = [(header::ACCEPT_LANGUAGE, header::HeaderValue::from_static("kk"))].into_iter().collect();
    let response = app.unavailable(&headers);
    assert_eq!(response.header("content-language"), Some("kk"));
    let body = response.into_body().into_string().await.expect("a text");
    assert!(body.contains("Сервис уақытша қолжетімсіз. 1 секундтан кейін қайталап көріңіз."), "{body}");
}

#[tokio::test]
async fn a_response_to_head_has_the_language_of_the_response_to_get() {
    let service = Service::start().await;
    for path in [CURRENT_USER, "/nothing/", "/texts/"] {
        let mut both = Vec::new();
        for method in [Method::GET, Method::HEAD] {
            let response = send_in(&service.client, "ru", service.client.request(method, path)).await;
            let header = |name| response.header(name).map(str::to_owned);
            both.push((response.status, header("content-language"), header("vary"), header("etag")));
        }
        assert_eq!(both[0], both[1], "{path}");
        assert!(both[0].1.is_some(), "{path}");
    }
}

#[tokio::test]
async fn a_response_without_a_text_has_no_language() {
    let service = Service::start().await;
    let body = json!({ "phone": ANNA });
    let response = post_in(&service.client, "ru", SEND, &body).await;
    assert_eq!(response.status, 200);
    assert_eq!((response.header("content-language"), response.header("vary")), (None, None));
    let page = service.client.send(service.client.http.get(service.client.url("/docs/"))).await;
    assert_eq!(page.header("content-language"), Some("en"));
}

#[tokio::test]
async fn any_header_value_gets_a_response() {
    let service = Service::start().await;
    let pieces =
        ["ru", "kk", "en", "-", "_", ";", "q", "=", "0", ".", "1", ",", " ", "*", "\t", "\"", "\u{e9}", "жa"];
    let mut values: Vec<String> = vec!["ru,".repeat(1_000), "a".repeat(4_000), ";q=".repeat(500)];
    for number in 0_u32..300 {
        let bytes = Sha256::digest(number.to_be_bytes());
        values.push(bytes.iter().map(|byte| pieces[usize::from(*byte) % pieces.len()]).collect());
    }
    let mut languages = BTreeSet::new();
    for value in values {
        let value = header::HeaderValue::from_bytes(value.trim().as_bytes()).expect("a header");
        let request = service.client.request(Method::GET, CURRENT_USER);
        let response = service.client.send(request.header(header::ACCEPT_LANGUAGE, &value)).await;
        response.assert_problem(401, "not_authenticated");
        languages.insert(response.header("content-language").map(str::to_owned));
    }
    assert!(languages.len() > 1, "{languages:?}");
}

#[tokio::test]
async fn all_texts_are_served_and_can_be_cached() {
    let service = Service::start().await;
    let get = || service.client.request(Method::GET, "/texts/");
    let response = service.client.send(get()).await;
    assert_eq!(response.status, 200);
    assert_eq!(response.header("content-type"), Some("application/json; charset=utf-8"));
    assert_eq!(response.header("cache-control"), Some("public, max-age=3600"));
    assert_eq!(response.header("content-language"), Some("en, ru, kk"));
    assert_eq!(response.body["languages"], json!(["en", "ru", "kk"]));
    let texts = response.body["texts"].as_object().expect("an object");
    assert_eq!(texts.len(), Text::ALL.len());
    for text in Text::ALL {
        for language in Language::ALL {
            assert_eq!(texts[text.id()][language.tag()], text.template(*language));
        }
    }
    // A client finds the text of each error by its code.
    let codes = DOCUMENT["components"]["schemas"]["ErrorCode"]["enum"].as_array().expect("codes");
    for code in codes {
        assert!(texts.contains_key(code.as_str().expect("a code")), "{code}");
    }

    let tag = response.header("etag").expect("a tag").to_owned();
    for (given, status) in [
        (tag.clone(), 304),
        (format!("W/{tag}"), 304),
        (format!("\"x\", {tag}"), 304),
        ("*".to_owned(), 304),
        ("\"x\"".to_owned(), 200),
        (tag.trim_matches('"').to_owned(), 200),
        (String::new(), 200),
    ] {
        let response = service.client.send(get().header(header::IF_NONE_MATCH, &given)).await;
        assert_eq!((response.status, response.text.is_empty()), (status, status == 304), "{given}");
        assert_eq!(response.header("etag"), Some(&*tag));
    }
}

/// Adds the content of all Rust files below a directory.
fn read_sources(directory: &Path, sources: &mut String) {
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            read_sources(&path, sources);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            sources.push_str(&fs::read_to_string(path).expect("a text"));
        }
    }
}

#[test]
fn each_text_is_used() {
    let workspace: PathBuf = [env!("CARGO_MANIFEST_DIR"), ".."].iter().collect();
    let mut sources = String::new();
    for directory in ["referral-core/src", "referral-server/src"] {
        read_sources(&workspace.join(directory), &mut sources);
    }
    // The text of an error code belongs to its variant. More precise texts are named where they are used.
    let more_precise = Text::ALL.iter().filter(|text| text.id().contains('.'));
    let unused: Vec<_> = more_precise.filter(|text| !sources.contains(&format!("Text::{text:?}"))).collect();
    assert!(unused.is_empty(), "{unused:?}");
    let codes = DOCUMENT["components"]["schemas"]["ErrorCode"]["enum"].as_array().expect("codes");
    let is_code = |id: &str| {
        codes.iter().any(|code| code == id)
            || referral_core::ErrorCode::ALL.iter().any(|code| code.as_str() == id)
    };
    let without_code: Vec<_> =
        Text::ALL.iter().map(|text| text.id()).filter(|id| !id.contains('.') && !is_code(id)).collect();
    assert!(without_code.is_empty(), "{without_code:?}");
}
