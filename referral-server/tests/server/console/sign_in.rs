//! Tests of the sign-in and the sign-out.

use super::visitor::{Visitor, development_code, signed_in, start};
use crate::service::{ANNA, BORIS, MINUTE, VERA};

#[tokio::test]
async fn staff_sign_in_and_out_with_the_usual_code() {
    let service = start().await;
    let mut visitor = signed_in(&service).await;
    let page = visitor.get("/admin/").await;
    page.assert_shows(200, "<h1>Overview</h1>");
    for name in ["referral_console_access", "referral_console_refresh", "referral_console_form"] {
        assert!(visitor.cookies.iter().any(|(cookie, _)| cookie == name), "{:?}", visitor.cookies);
    }
    let taken = visitor.cookies.clone();
    let token = page.field("token");
    visitor.get("/admin/sign_in/").await.assert_redirects("/admin/");
    visitor.post("/admin/sign_out/", &[("token", &token)]).await.assert_redirects("/admin/sign_in/");
    visitor.get("/admin/").await.assert_redirects("/admin/sign_in/");
    // The session has ended, and not only its cookies.
    visitor.cookies = taken;
    visitor.get("/admin/").await.assert_redirects("/admin/sign_in/");
}

#[tokio::test]
async fn only_staff_sign_in_and_no_user_is_created() {
    let service = start().await;
    service.enter(BORIS, None).await;
    // The responses before a correct code are the same for a user and for an unknown phone.
    let mut pages = Vec::new();
    for phone in [BORIS, VERA] {
        let mut visitor = Visitor::new(&service.client);
        let form = visitor.request_code(phone).await;
        form.assert_shows(200, "The code was sent to");
        let code = development_code(&form);
        let wrong = if code == "0000" { "1111" } else { "0000" };
        let refused = visitor.confirm(&form, wrong).await;
        refused.assert_shows(403, "The code is wrong or no longer valid.");
        pages.push(
            refused
                .text
                .replace(&form.field("challenge"), "…")
                .replace(&form.field("token"), "…")
                .replace(phone, "…"),
        );
        visitor
            .confirm(&form, &code)
            .await
            .assert_shows(403, "The code is correct, but this account is not staff.");
        assert!(!visitor.cookies.iter().any(|(name, _)| name.contains("access") || name.contains("refresh")));
        visitor.get("/admin/").await.assert_redirects("/admin/sign_in/");
    }
    assert_eq!(pages[0], pages[1]);
    let vera = service.referral.parse_phone(VERA).expect("a phone");
    assert_eq!(service.referral.find_user_by_phone(&vera).await.expect("read"), None);
}

#[tokio::test]
async fn errors_of_the_sign_in_are_shown_at_the_form() {
    let service = start().await;
    let mut visitor = Visitor::new(&service.client);
    let refused = visitor.request_code("12").await;
    refused.assert_shows(400, "The phone number has no country code.");
    assert_eq!(refused.field("phone"), "12");
    let form = visitor.request_code(ANNA).await;
    visitor.confirm(&form, "12").await.assert_shows(400, "the wrong number of digits");
    for _ in 0..9 {
        visitor.request_code(ANNA).await;
    }
    let refused = visitor.request_code(ANNA).await;
    refused.assert_shows(429, "There were too many requests. Try again in");
    let seconds: u64 = refused.header("retry-after").parse().expect("seconds");
    assert!((800..=900).contains(&seconds), "{seconds}");
}

#[tokio::test]
async fn an_expired_access_token_is_refreshed_and_the_cookies_are_replaced() {
    let service = start().await;
    let mut visitor = signed_in(&service).await;
    let before = visitor.cookies.clone();
    service.clock.advance(16 * MINUTE);
    visitor.get("/admin/").await.assert_shows(200, "Overview");
    assert_ne!(visitor.cookies, before);
    visitor.get("/admin/").await.assert_shows(200, "Overview");
    // A form of the page from before the refresh is still valid.
    service.clock.advance(16 * MINUTE);
    let token = visitor.get("/admin/users/").await.field("token");
    service.clock.advance(16 * MINUTE);
    visitor.post("/admin/sign_out/", &[("token", &token)]).await.assert_redirects("/admin/sign_in/");
}

#[tokio::test]
async fn a_sign_in_replaces_the_session_and_the_token_of_forms() {
    let service = start().await;
    let mut visitor = signed_in(&service).await;
    let (old, page) = (visitor.cookies.clone(), visitor.get("/admin/").await);
    let token = page.field("token");
    // An attacker who knows the value before the sign-in does not know the one after it.
    visitor.cookies.retain(|(name, _)| name.ends_with("form"));
    visitor.sign_in(ANNA).await.assert_redirects("/admin/");
    for (name, value) in &old {
        assert!(!visitor.cookies.contains(&(name.clone(), value.clone())), "{name}");
    }
    visitor
        .post("/admin/sign_out/", &[("token", &token)])
        .await
        .assert_shows(403, "The form is not valid any more");
    visitor.get("/admin/").await.assert_shows(200, "Overview");
}
