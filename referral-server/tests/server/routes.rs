//! Tests of the paths and methods of requests.

use reqwest::Method;
use serde_json::json;

use crate::service::{ANNA, POSTS, Service};

#[tokio::test]
async fn every_path_works_with_and_without_a_trailing_slash() {
    let service = Service::start().await;
    let anna = service.enter(ANNA, None).await;
    for path in [
        "/users",
        "/users/current_user",
        &format!("/users/{}", anna.id),
        &format!("/users/{}/invited", anna.id),
    ] {
        let without = service.client.get(path, &anna.access).await.ok();
        let with = service.client.get(&format!("{path}/"), &anna.access).await.ok();
        assert_eq!(without, with, "{path}");
        let query = service.client.get(&format!("{path}?limit=0"), &anna.access).await;
        assert_eq!(query.status, service.client.get(&format!("{path}/?limit=0"), &anna.access).await.status);
    }
    for path in POSTS {
        let path = path.trim_end_matches('/');
        service.client.post(path, &json!({ "unknown": 1 })).await.assert_problem(400, "validation_failed");
    }
    service.client.patch(&anna.access, &json!({})).await.ok();
    for path in ["", "/", "/nothing", "/users//", "//users/", "/auth", "/auth/jwt", "/auth/send_code//"] {
        service.client.get(path, &anna.access).await.assert_problem(404, "not_found");
    }
}

#[tokio::test]
async fn the_response_to_a_wrong_method_lists_the_allowed_methods() {
    let service = Service::start().await;
    for (path, allow) in [
        ("/auth/send_code/", "POST"),
        ("/auth/jwt/get_by_phone", "POST"),
        ("/users/", "GET, HEAD"),
        ("/users/current_user/", "GET, PATCH, DELETE, HEAD"),
        ("/users/00000000-0000-0000-0000-000000000000/", "GET, HEAD"),
        ("/users/x/invited/", "GET, HEAD"),
        ("/schema/", "GET, HEAD"),
    ] {
        let methods = [Method::PUT, Method::DELETE, Method::OPTIONS, Method::TRACE].into_iter();
        for method in methods.filter(|method| !allow.contains(method.as_str())) {
            let response = service.client.send(service.client.request(method, path)).await;
            response.assert_problem(405, "method_not_allowed");
            assert_eq!(response.header("allow"), Some(allow), "{path}");
        }
    }
}

#[tokio::test]
async fn head_is_supported_wherever_get_is() {
    let service = Service::start().await;
    let anna = service.enter(ANNA, None).await;
    for (path, status) in [
        ("/users/", 200),
        ("/users/current_user", 200),
        ("/users/x/", 404),
        ("/schema/", 200),
        ("/redoc", 200),
    ] {
        let request = service.client.request(Method::HEAD, path).bearer_auth(&anna.access);
        let response = service.client.send(request).await;
        assert_eq!((response.status, &*response.text), (status, ""), "{path}");
    }
}
