//! Tests of forms that no page of the console has sent, and of requests of the wrong kind.

use reqwest::Method;

use super::visitor::{Visitor, signed_in, start};
use crate::service::ANNA;

#[tokio::test]
async fn forms_of_other_origins_or_without_their_token_are_rejected() {
    let service = start().await;
    let mut visitor = signed_in(&service).await;
    let token = visitor.get("/admin/").await.field("token");
    let other = Visitor::new(&service.client).get("/admin/sign_in/").await.field("token");
    let own = [("token", &*token)];
    let origin = format!("http://{}", service.client.address);
    for (fields, headers) in [
        (&own[..], &[][..]),
        (&own, &[("sec-fetch-site", "cross-site")]),
        (&own, &[("sec-fetch-site", "same-site")]),
        (&own, &[("sec-fetch-site", "none")]),
        (&own, &[("origin", "https://evil.example")]),
        (&own, &[("origin", "null")]),
        (&own, &[("origin", &*origin), ("sec-fetch-site", "cross-site")]),
        (&[], &[("sec-fetch-site", "same-origin")]),
        (&[("token", "")], &[("sec-fetch-site", "same-origin")]),
        (&[("token", &*other)], &[("sec-fetch-site", "same-origin")]),
        (&[("token", &*token), ("token", &*token)], &[("sec-fetch-site", "same-origin")]),
    ] {
        let form = visitor.form("/admin/sign_out/", fields);
        let form = headers.iter().fold(form, |form, (name, value)| form.header(*name, *value));
        visitor.send(form).await.assert_shows(403, "The form is not valid any more");
    }
    // Forms before the sign-in are protected too, so that no page signs a browser in as another user.
    let mut fresh = Visitor::new(&service.client);
    for path in ["/admin/sign_in/code/", "/admin/sign_in/confirm/"] {
        let fields = [("phone", ANNA), ("token", &token)];
        fresh.post(path, &fields).await.assert_shows(403, "The form is not valid any more");
    }
    let form = visitor.form("/admin/sign_out/", &own).header("origin", origin);
    visitor.send(form).await.assert_redirects("/admin/sign_in/");
}

#[tokio::test]
async fn requests_of_the_wrong_kind_get_an_error_page() {
    let service = start().await;
    let mut visitor = signed_in(&service).await;
    let url = |path: &str| service.client.url(path);
    let http = &service.client.http;
    for (request, status, allow) in [
        (http.put(url("/admin/users/")), 405, "GET, HEAD"),
        (http.post(url("/admin/users/")), 405, "GET, HEAD"),
        (http.delete(url("/admin/sign_out/")), 405, "GET, HEAD, POST"),
        (
            http.request(Method::OPTIONS, url("/admin/")).header("origin", "https://a.example"),
            405,
            "GET, HEAD",
        ),
        (http.get(url("/admin/nothing/")), 404, ""),
        (http.get(url("/admin/users/1/")), 404, ""),
        (http.get(url("/admin/tree/")), 404, ""),
        (http.get(url("/admin/tree/?node=x")), 404, ""),
        (http.get(url("/admin/users/01a205db-5716-7487-8833-9f4e232f2f0d/")), 404, ""),
        (http.post(url("/admin/sign_out/")).json(&serde_json::json!({ "token": "x" })), 415, ""),
        (http.post(url("/admin/sign_out/")), 415, ""),
        (
            http.post(url("/admin/sign_out/"))
                .header("content-type", "application/x-www-form-urlencoded; charset=utf-16"),
            415,
            "",
        ),
        (
            http.post(url("/admin/sign_out/"))
                .header("content-type", "application/x-www-form-urlencoded")
                .body("x".repeat(17_000)),
            413,
            "",
        ),
        (http.get(url("/admin/users/?cursor=x")), 400, ""),
        (http.get(url("/admin/users/?q=a+b")), 400, ""),
    ] {
        let page = visitor.send(request).await;
        assert_eq!((page.status, page.header("allow")), (status, allow), "{page:?}");
        assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
    }
}
