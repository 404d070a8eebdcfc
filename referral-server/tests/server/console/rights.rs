//! Tests of the access to the console: sessions, cookies and connections.

use referral_core::StaffRole;
use reqwest::RequestBuilder;

use super::{
    visitor::{Visitor, development_code, signed_in, start, start_with},
    with_console,
};
use crate::service::{ANNA, BORIS, Service};

const PAGES: [&str; 3] =
    ["/admin/", "/admin/users/", "/admin/tree/?node=01a205db-5716-7487-8833-9f4e232f2f0d"];

#[tokio::test]
async fn the_console_does_not_exist_unless_it_is_enabled() {
    let service = Service::start().await;
    for path in ["/admin/", "/admin/users/", "/admin/console.css"] {
        let response = service.client.send(service.client.http.get(service.client.url(path))).await;
        response.assert_problem(404, "not_found");
    }
}

#[tokio::test]
async fn pages_require_a_session() {
    let service = start().await;
    let mut visitor = Visitor::new(&service.client);
    for path in PAGES {
        visitor.get(path).await.assert_redirects("/admin/sign_in/");
    }
    let anna = service.enter(ANNA, None).await;
    visitor.get(&format!("/admin/users/{}/", anna.id)).await.assert_redirects("/admin/sign_in/");
    let token = visitor.get("/admin/sign_in/").await.field("token");
    visitor.post("/admin/sign_out/", &[("token", &token)]).await.assert_shows(401, "Not signed in");
}

#[tokio::test]
async fn tokens_of_users_who_are_not_staff_open_no_page() {
    let service = start().await;
    for path in PAGES {
        let anna = service.enter(ANNA, None).await;
        let mut visitor = Visitor::new(&service.client);
        for (name, token) in [("access", &anna.access), ("refresh", &anna.refresh)] {
            visitor.cookies.push((format!("referral_console_{name}"), token.clone()));
        }
        let page = visitor.get(path).await;
        page.assert_shows(403, "This account is not staff");
        assert!(!page.text.contains(ANNA), "{}", page.text);
        visitor.get(path).await.assert_redirects("/admin/sign_in/");
    }
}

#[tokio::test]
async fn a_blocked_user_loses_the_console_with_the_next_request() {
    let service = start().await;
    let mut visitor = signed_in(&service).await;
    visitor.get("/admin/").await.assert_shows(200, "Overview");
    let phone = service.referral.parse_phone(ANNA).expect("a phone");
    let anna = service.referral.find_user_by_phone(&phone).await.expect("read").expect("Anna");
    // The last admin cannot be blocked.
    let boris = service.referral.parse_phone(BORIS).expect("a phone");
    service.referral.make_staff(boris, StaffRole::Admin).await.expect("staff");
    service.referral.set_active(anna.id, false).await.expect("blocked");
    visitor.get("/admin/").await.assert_redirects("/admin/sign_in/");
    let form = visitor.request_code(ANNA).await;
    let code = development_code(&form);
    visitor.confirm(&form, &code).await.assert_shows(403, "the account is deactivated");
}

#[tokio::test]
async fn cookies_are_hidden_from_scripts_and_other_sites() {
    let service = start().await;
    let mut visitor = Visitor::new(&service.client);
    let phone = service.referral.parse_phone(ANNA).expect("a phone");
    service.referral.make_staff(phone, StaffRole::Admin).await.expect("staff");
    let page = visitor.sign_in(ANNA).await;
    let cookies: Vec<_> =
        page.headers.get_all("set-cookie").iter().map(|value| value.to_str().expect("ASCII")).collect();
    assert_eq!(cookies.len(), 3, "{cookies:?}");
    for cookie in cookies {
        assert!(cookie.ends_with("; Path=/admin; HttpOnly; SameSite=Strict"), "{cookie}");
    }
}

/// Behind a proxy that terminates TLS, the public URL states that the connection is encrypted.
#[tokio::test]
async fn cookies_of_an_encrypted_console_belong_to_its_host_alone() {
    let mut options = with_console();
    options.public_url = Some("https://example.com/auth".into());
    let service = start_with(options).await;
    let mut visitor = Visitor::new(&service.client);
    let at_proxy = |request: RequestBuilder| request.header("host", "10.0.0.1");
    let page = visitor.send(at_proxy(service.client.http.get(service.client.url("/admin/sign_in/")))).await;
    let cookie = page.header("set-cookie");
    assert!(cookie.starts_with("__Host-referral_console_form="), "{cookie}");
    assert!(cookie.ends_with("; Path=/; HttpOnly; SameSite=Strict; Secure"), "{cookie}");
    page.assert_shows(200, "action=\"/auth/admin/sign_in/code/\"");
    let fields = [("token", &*page.field("token")), ("phone", ANNA)];
    for (origin, status) in
        [("https://example.com", 200), ("http://example.com", 403), ("https://10.0.0.1", 403)]
    {
        let form = at_proxy(visitor.form("/admin/sign_in/code/", &fields)).header("origin", origin);
        assert_eq!(visitor.send(form).await.status, status, "{origin}");
    }
}

#[tokio::test]
async fn a_connection_that_others_can_read_is_rejected() {
    let service = start().await;
    let mut visitor = Visitor::new(&service.client);
    for host in ["example.com", "10.0.0.1:8080"] {
        let request = service.client.http.get(service.client.url("/admin/sign_in/")).header("host", host);
        visitor.send(request).await.assert_shows(421, "needs an encrypted connection");
    }
    // A proxy of this machine may send its own host instead of that of the client.
    for header in ["x-forwarded-for", "x-real-ip", "forwarded", "via"] {
        let request =
            service.client.http.get(service.client.url("/admin/sign_in/")).header(header, "192.0.2.1");
        visitor.send(request).await.assert_shows(421, "needs an encrypted connection");
    }
}

#[tokio::test]
async fn a_link_of_another_site_opens_the_page_again() {
    let service = start().await;
    let mut visitor = Visitor::new(&service.client);
    let link =
        service.client.http.get(service.client.url("/admin/users/")).header("sec-fetch-site", "cross-site");
    let page = visitor.send(link).await;
    page.assert_shows(200, "Continue");
    assert_eq!(page.header("refresh"), "0");
    // The browser has sent no cookies. Those of its other tabs stay valid.
    assert_eq!(visitor.cookies, []);
}

#[tokio::test]
async fn repeated_cookies_are_ignored() {
    let service = start().await;
    let mut visitor = signed_in(&service).await;
    let other = visitor.cookies.clone();
    visitor.cookies.extend(other);
    visitor.get("/admin/").await.assert_redirects("/admin/sign_in/");
}
