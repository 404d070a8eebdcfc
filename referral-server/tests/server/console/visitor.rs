//! Browser with cookies, and the checks that apply to each page.

use std::sync::Arc;

use referral_core::{StaffRole, policy::Policy, sms::DevelopmentSender, storage::MemoryStorage};
use referral_server::AppOptions;
use reqwest::{Method, RequestBuilder, header::HeaderMap};

use super::with_console;
use crate::service::{ANNA, Client, Service};

pub(super) async fn start() -> Service {
    start_with(with_console()).await
}

pub(super) async fn start_with(options: AppOptions) -> Service {
    let storage = Arc::new(MemoryStorage::new());
    Service::with_storage(storage, Policy::development(), Arc::new(DevelopmentSender), options).await
}

pub(super) async fn start_with_policy(policy: Policy) -> Service {
    let storage = Arc::new(MemoryStorage::new());
    Service::with_storage(storage, policy, Arc::new(DevelopmentSender), with_console()).await
}

/// Response with a page.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) text: String,
}

impl Page {
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// Returns the value of the field of a form.
    pub(super) fn field(&self, name: &str) -> String {
        let start = format!("name=\"{name}\" ");
        let input = self.text.split(&start).nth(1).and_then(|rest| rest.split('>').next());
        let value =
            input.and_then(|input| input.split("value=\"").nth(1)).and_then(|rest| rest.split('"').next());
        value.unwrap_or_else(|| panic!("the page has the field {name}: {}", self.text)).to_owned()
    }

    #[track_caller]
    pub(super) fn assert_shows(&self, status: u16, text: &str) {
        assert_eq!(self.status, status, "{}", self.text);
        assert!(self.text.contains(text), "{text} is not in {}", self.text);
    }

    #[track_caller]
    pub(super) fn assert_redirects(&self, location: &str) {
        assert_eq!((self.status, self.header("location")), (303, location), "{}", self.text);
    }
}

/// Browser with cookies, which sends the headers of a browser.
pub(super) struct Visitor {
    client: Client,
    pub(super) cookies: Vec<(String, String)>,
    pub(super) language: &'static str,
}

impl Visitor {
    pub(super) fn new(client: &Client) -> Self {
        Self { client: client.clone(), cookies: Vec::new(), language: "en" }
    }

    pub(super) async fn get(&mut self, path: &str) -> Page {
        let request = self.client.http.request(Method::GET, self.client.url(path));
        self.send(request).await
    }

    pub(super) async fn post(&mut self, path: &str, fields: &[(&str, &str)]) -> Page {
        let request = self.form(path, fields).header("sec-fetch-site", "same-origin");
        self.send(request).await
    }

    /// Returns a request with a form, without the headers that prove its origin.
    pub(super) fn form(&self, path: &str, fields: &[(&str, &str)]) -> RequestBuilder {
        let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        let request = self.client.http.request(Method::POST, self.client.url(path));
        request.header("content-type", "application/x-www-form-urlencoded").body(body)
    }

    /// Sends a request with the cookies, and stores those of the response.
    pub(super) async fn send(&mut self, request: RequestBuilder) -> Page {
        let cookies: Vec<_> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let request = request.header("cookie", cookies.join("; ")).header("accept-language", self.language);
        let response = request.send().await.expect("a response");
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = response.text().await.expect("a body");
        for cookie in headers.get_all("set-cookie") {
            let cookie = cookie.to_str().expect("ASCII");
            let (name, rest) = cookie.split_once('=').expect("a name");
            let value = rest.split(';').next().expect("a value");
            self.cookies.retain(|(other, _)| other != name);
            if !cookie.contains("Max-Age=0") {
                self.cookies.push((name.to_owned(), value.to_owned()));
            }
        }
        let page = Page { status, headers, text };
        check(&page);
        page
    }

    /// Requests a code for a phone, and returns the page with the form for it.
    pub(super) async fn request_code(&mut self, phone: &str) -> Page {
        let token = self.get("/admin/sign_in/").await.field("token");
        self.post("/admin/sign_in/code/", &[("token", &token), ("phone", phone)]).await
    }

    /// Sends the code of a form.
    pub(super) async fn confirm(&mut self, form: &Page, code: &str) -> Page {
        let [token, phone, challenge] = ["token", "phone", "challenge"].map(|name| form.field(name));
        let fields = [("token", &*token), ("phone", &*phone), ("challenge", &*challenge), ("code", code)];
        self.post("/admin/sign_in/confirm/", &fields).await
    }

    /// Signs in with the code that the page of the development sender shows.
    pub(super) async fn sign_in(&mut self, phone: &str) -> Page {
        let form = self.request_code(phone).await;
        let code = development_code(&form);
        self.confirm(&form, &code).await
    }
}

/// Returns the code that the page shows.
pub(super) fn development_code(page: &Page) -> String {
    let code = page.text.split("id=\"development-code\">").nth(1).and_then(|rest| rest.split('<').next());
    code.unwrap_or_else(|| panic!("the page has a code: {}", page.text)).to_owned()
}

/// Checks what all responses of the console have in common.
#[track_caller]
fn check(page: &Page) {
    for (name, value) in [
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("referrer-policy", "same-origin"),
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
        (
            "content-security-policy",
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src 'self'; form-action \
             'self'; base-uri 'none'; frame-ancestors 'none'",
        ),
    ] {
        assert_eq!(page.header(name), value, "{page:?}");
    }
    assert!(page.headers.get("access-control-allow-origin").is_none());
    if page.header("content-type").starts_with("text/html") || page.status == 303 {
        assert_eq!(page.header("cache-control"), "no-store");
    }
    if page.text.contains("<html") {
        assert!(page.text.starts_with("<!DOCTYPE html><html lang=\""), "{}", page.text);
        for inline in [" style=", "<style", " onclick=", "javascript:", "http://", "https://"] {
            assert!(!page.text.contains(inline), "{inline} in {}", page.text);
        }
        assert_eq!(page.text.matches("<script").count(), 1);
    }
    assert_ne!(page.status, 500, "{}", page.text);
}

/// Makes Anna staff, and returns a browser in which Anna is signed in.
pub(super) async fn signed_in(service: &Service) -> Visitor {
    signed_in_at(service, &service.client).await
}

pub(super) async fn signed_in_at(service: &Service, client: &Client) -> Visitor {
    let phone = service.referral.parse_phone(ANNA).expect("a phone");
    service.referral.make_staff(phone, StaffRole::Admin).await.expect("staff");
    let mut visitor = Visitor::new(client);
    visitor.sign_in(ANNA).await.assert_redirects(&format!("{}/admin/", client.prefix));
    visitor
}
