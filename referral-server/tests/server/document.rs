//! Compares the OpenAPI document with the committed one.

use std::sync::Arc;

use referral_core::{policy::Policy, sms::DevelopmentSender, storage::MemoryStorage};
use referral_server::AppOptions;
use serde_json::Value;

use crate::{
    program::{directory, run},
    service::{DOCUMENT, Service},
};

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../openapi.json");

/// `UPDATE_OPENAPI=1 cargo test -p referral-server committed_document` rewrites the committed document.
#[tokio::test]
async fn the_committed_document_is_the_one_that_is_served() {
    let service = Service::start().await;
    let written = referral_server::openapi(&service.referral);
    if std::env::var_os("UPDATE_OPENAPI").is_some() {
        std::fs::write(PATH, &written).expect("the document is written");
    }
    let committed = std::fs::read_to_string(PATH).expect("the document exists");
    assert!(committed == written, "openapi.json is out of date; rewrite it with UPDATE_OPENAPI=1");

    let served = service.client.http.get(service.client.url("/api/v1/schema/"));
    let served = service.client.send(served).await;
    assert_eq!(served.header("content-type"), Some("application/json"));
    assert!(served.text == committed);
}

#[test]
fn the_document_is_printed_without_creating_files() {
    let directory = directory();
    let output = run(directory.path(), &["openapi"]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), include_str!("../../../openapi.json"));
    assert_eq!(std::fs::read_dir(directory.path()).expect("a directory").count(), 0);
}

#[test]
fn every_reference_resolves() {
    fn check(value: &Value) {
        match value {
            Value::Object(map) => {
                if let Some(reference) = map.get("$ref").and_then(Value::as_str) {
                    let path = reference.strip_prefix('#').expect("a reference within the document");
                    assert!(DOCUMENT.pointer(path).is_some(), "{reference}");
                }
                map.values().for_each(check);
            }
            Value::Array(items) => items.iter().for_each(check),
            _ => {}
        }
    }
    check(&DOCUMENT);
}

#[test]
fn the_schemas_have_what_generated_clients_need() {
    let schemas = &DOCUMENT["components"]["schemas"];
    assert_eq!(schemas["SignInRequest"]["properties"]["code"]["type"], "string");
    for (schema, field) in [
        ("SendCodeRequest", "locale"),
        ("SignInRequest", "challenge_id"),
        ("SignInRequest", "invited_by_code"),
    ] {
        assert_eq!(schemas[schema]["properties"][field]["nullable"], true, "{schema}.{field}");
    }
    for schema in ["Problem", "FieldError"] {
        assert_eq!(schemas[schema]["properties"]["code"]["$ref"], "#/components/schemas/ErrorCode");
    }
    let codes: Vec<_> = schemas["ErrorCode"]["enum"].as_array().expect("codes").iter().collect();
    let operations = DOCUMENT["paths"]
        .as_object()
        .expect("paths")
        .values()
        .flat_map(|item| item.as_object().expect("operations").values());
    let mut examples = 0;
    for operation in operations {
        for response in operation["responses"].as_object().expect("responses").values() {
            let named = response["content"]["application/problem+json"]["examples"].as_object();
            for example in named.into_iter().flat_map(|examples| examples.values()) {
                assert!(codes.contains(&&example["value"]["code"]), "{example}");
                examples += 1;
            }
        }
    }
    assert!(examples > 100, "{examples}");
}

#[test]
fn every_public_operation_states_that_it_needs_no_token() {
    for (path, item) in DOCUMENT["paths"].as_object().expect("paths") {
        for operation in item.as_object().expect("operations").values() {
            let is_sign_in = path.starts_with("/auth/") && !path.starts_with("/auth/sessions/");
            let is_public = is_sign_in || path == "/texts/";
            let expected =
                if is_public { serde_json::json!([]) } else { serde_json::json!([{ "bearer": [] }]) };
            assert_eq!(operation["security"], expected, "{path}");
        }
    }
}

#[tokio::test]
async fn the_document_has_the_public_url() {
    let mut options = AppOptions::default();
    options.public_url = Some("https://sign-in.example.com/".into());
    let storage = Arc::new(MemoryStorage::new());
    let service =
        Service::with_storage(storage, Policy::development(), Arc::new(DevelopmentSender), options).await;
    let served = service.client.send(service.client.http.get(service.client.url("/api/v1/schema/"))).await;
    assert_eq!(served.body["servers"][0]["url"], "https://sign-in.example.com/api/v1");
}

#[test]
fn every_operation_is_described_and_has_an_example_of_each_response() {
    let schemas = &DOCUMENT["components"]["schemas"];
    let example_of = |content: &Value| {
        let name =
            content["schema"]["$ref"].as_str().unwrap_or_default().rsplit('/').next().unwrap_or_default();
        schemas[name]["example"].is_object() || content["examples"].is_object()
    };
    let paths = DOCUMENT["paths"].as_object().expect("paths");
    for (path, item) in paths {
        assert!(path.ends_with('/'), "{path}");
        for (method, operation) in item.as_object().expect("operations") {
            for field in ["summary", "description", "operationId"] {
                assert!(
                    operation[field].as_str().is_some_and(|text| !text.is_empty()),
                    "{method} {path}: {field}"
                );
            }
            assert_eq!(operation["tags"].as_array().map(Vec::len), Some(1), "{method} {path}");
            if let Some(request) = operation.get("requestBody") {
                assert!(example_of(&request["content"]["application/json"]), "{method} {path}");
            }
            for (status, response) in operation["responses"].as_object().expect("responses") {
                let kind = if status == "200" { "application/json" } else { "application/problem+json" };
                let has_body = status != "304";
                assert_eq!(example_of(&response["content"][kind]), has_body, "{method} {path}: {status}");
                assert!(response["description"].as_str().is_some_and(|text| !text.is_empty()));
            }
        }
    }
}
