//! The OpenAPI document. `poem-openapi` generates it, and this module corrects and completes it. The same
//! text is served, shown in Swagger UI and ReDoc, and committed as `openapi.json`.

use std::{collections::HashMap, sync::Arc};

use poem::http::StatusCode;
use poem_openapi::{OpenApiService, registry::Registry, types::Type as _};
use referral_core::texts::Detail;
use serde_json::{Map, Value, json};

use crate::{
    api::{Apis, account, admin, auth, examples, phone, sessions, texts, users},
    error::ProblemBody,
    error_code::ErrorCode,
};

/// Path prefix of the API.
pub(crate) const BASE: &str = "/api/v1";

/// Error codes of all operations.
const ANY: &[ErrorCode] = &[
    ErrorCode::BadRequest,
    ErrorCode::UnknownParameter,
    ErrorCode::MisdirectedRequest,
    ErrorCode::InternalError,
    ErrorCode::Unavailable,
];
/// Error codes of operations with a body.
const WITH_BODY: &[ErrorCode] = &[
    ErrorCode::MalformedJson,
    ErrorCode::ValidationFailed,
    ErrorCode::InvalidText,
    ErrorCode::Required,
    ErrorCode::WrongType,
    ErrorCode::UnknownField,
    ErrorCode::RequestTimeout,
    ErrorCode::PayloadTooLarge,
    ErrorCode::UnsupportedMediaType,
];
/// Error codes of operations that require an access token.
const WITH_BEARER: &[ErrorCode] = &[ErrorCode::NotAuthenticated, ErrorCode::TokenNotValid];

/// Names of the tags, in their order in the document.
const TAGS: [&str; 4] = ["auth", "users", "admin", "texts"];

/// Request fields that accept `null`.
const NULLABLE: &[(&str, &[&str])] = &[
    ("SendCodeRequest", &["locale"]),
    ("SendDeletionCodeRequest", &["locale"]),
    ("SendPhoneChangeCodeRequest", &["locale"]),
    ("SignInRequest", &["invited_by_code", "challenge_id", "refresh_token"]),
    ("ProfilePatch", &["first_name", "last_name", "email"]),
    (
        "UserPatch",
        &[
            "phone",
            "first_name",
            "last_name",
            "email",
            "invited_by_code",
            "staff_role",
            "external_id",
            "metadata",
            "deletion_at",
        ],
    ),
];

/// Response schemas in which fields without a value are omitted instead of `null`.
const SPARSE: &[&str] = &["SentCode", "DeletedAccount", "Problem"];

/// The document.
pub(crate) struct Document {
    /// Text of the document. The URL of the server contains [`MARK`](crate::mount::MARK).
    pub(crate) text: String,
    routes: Vec<Route>,
    /// Path of each operation.
    paths: HashMap<String, Arc<str>>,
}

/// Path of the API.
struct Route {
    /// Segments of the path. A parameter is in braces.
    segments: Vec<String>,
    /// Each method with the names of its query parameters.
    methods: Vec<(String, Vec<String>)>,
}

impl Document {
    /// Creates the document of `service`.
    pub(crate) fn of(service: &OpenApiService<Apis, ()>) -> Self {
        let mut document: Value =
            serde_json::from_str(&service.spec()).expect("poem-openapi generates valid JSON");
        keep_problems(&mut document);
        end_paths_with_slash(&mut document);
        order_tags(&mut document);
        use_common_names(&mut document);
        describe_operations(&mut document);
        describe_language(&mut document);
        describe_schemas(&mut document);
        let text = serde_json::to_string_pretty(&document).expect("a JSON value can be serialized");
        Self { text: text + "\n", routes: routes(&document), paths: paths(&document) }
    }

    /// Returns the path of an operation, with the names of its parameters.
    pub(crate) fn path(&self, operation: &str) -> Option<Arc<str>> {
        self.paths.get(operation).cloned()
    }

    /// Returns the methods of `path`, for the header `Allow`.
    pub(crate) fn allowed(&self, path: &str) -> Option<String> {
        let methods = &self.route(path)?.methods;
        Some(methods.iter().map(|(method, _)| method.as_str()).collect::<Vec<_>>().join(", "))
    }

    /// Returns the names of the query parameters of an operation.
    pub(crate) fn query_parameters(&self, path: &str, method: &str) -> Option<&[String]> {
        let mut methods = self.route(path)?.methods.iter();
        methods.find(|(name, _)| name == method).map(|(_, parameters)| &**parameters)
    }

    fn route(&self, path: &str) -> Option<&Route> {
        let path: Vec<_> = path.trim_matches('/').split('/').collect();
        let is_parameter = |segment: &&String| segment.starts_with('{');
        let fits = |route: &&Route| {
            let is_same = |(name, segment): (&String, &&str)| is_parameter(&name) || name == segment;
            route.segments.len() == path.len() && route.segments.iter().zip(&path).all(is_same)
        };
        // `current_user` has precedence over `{id}`, as in the router.
        let fitting = self.routes.iter().filter(fits);
        fitting.min_by_key(|route| route.segments.iter().filter(is_parameter).count())
    }
}

/// Restores the schemas of problems: `poem-openapi` drops schemas that its operations do not refer to.
fn keep_problems(document: &mut Value) {
    let mut registry = Registry::new();
    ProblemBody::register(&mut registry);
    if let Some(schemas) = document["components"]["schemas"].as_object_mut() {
        schemas.extend(registry.schemas.iter().map(|(name, schema)| (name.clone(), json!(schema))));
        schemas.sort_keys();
    }
}

/// Restores the trailing slash of each path, which `poem-openapi` drops.
fn end_paths_with_slash(document: &mut Value) {
    if let Some(paths) = document["paths"].as_object_mut() {
        *paths = std::mem::take(paths).into_iter().map(|(path, item)| (format!("{path}/"), item)).collect();
    }
}

/// Orders the tags as a client needs them. `poem-openapi` orders them by name.
fn order_tags(document: &mut Value) {
    if let Some(tags) = document["tags"].as_array_mut() {
        tags.sort_by_key(|tag| TAGS.iter().position(|name| tag["name"] == **name));
    }
}

/// Replaces unusual names of media types and number formats: JSON has no `charset` parameter (RFC 8259,
/// section 11), and OpenAPI has no unsigned integers.
fn use_common_names(value: &mut Value) {
    match value {
        Value::Object(map) => {
            if let Some(content) = map.shift_remove("application/json; charset=utf-8") {
                map.insert("application/json".into(), content);
            }
            let signed = match map.get("format").and_then(Value::as_str) {
                Some("uint8" | "uint16" | "uint32") => "int32",
                Some("uint64") => "int64",
                _ => "",
            };
            if !signed.is_empty() {
                map.insert("format".into(), json!(signed));
                map.entry("minimum").or_insert(json!(0));
            }
            // A reference cannot have its own description, so poem-openapi wraps it in `allOf`. The
            // description inside `allOf` repeats the one next to it.
            if let Some(Value::Array(all)) = map.get_mut("allOf") {
                all.retain(|schema| schema.get("$ref").is_some() || schema.get("description").is_none());
            }
            map.values_mut().for_each(use_common_names);
        }
        Value::Array(items) => items.iter_mut().for_each(use_common_names),
        _ => {}
    }
}

/// Adds the errors of each operation.
fn describe_operations(document: &mut Value) {
    let operations = document["paths"].as_object_mut().into_iter().flat_map(Map::values_mut);
    for operation in operations.filter_map(Value::as_object_mut).flat_map(Map::values_mut) {
        let id = operation["operationId"].as_str().unwrap_or_default();
        let of_apis = [
            account::REFUSALS,
            admin::REFUSALS,
            admin::audit_log::REFUSALS,
            admin::code_requests::REFUSALS,
            auth::REFUSALS,
            phone::REFUSALS,
            sessions::REFUSALS,
            texts::REFUSALS,
            users::REFUSALS,
        ];
        let own = of_apis.concat().into_iter().find(|(name, _)| *name == id);
        let (_, own) = own.unwrap_or_else(|| panic!("the operation `{id}` has no list of errors"));
        let with_body = if operation["requestBody"].is_null() { &[] } else { WITH_BODY };
        let is_public = operation["security"].is_null();
        let with_bearer = if is_public { &[] } else { WITH_BEARER };
        if is_public {
            // Without this entry, the document would not distinguish a public operation from an omission.
            operation["security"] = json!([]);
        }

        let mut codes: Vec<_> = [with_body, own, with_bearer, ANY].concat();
        codes.sort_by_key(|code| code.status().as_u16());
        let responses = &mut operation["responses"];
        responses["200"]["description"] = json!("Success.");
        for group in codes.chunk_by(|one, other| one.status() == other.status()) {
            let status = group[0].status();
            responses[status.as_str()] = describe_refusals(status, group);
        }
    }
}

/// Creates the response of one status, with an example of each of its error codes.
fn describe_refusals(status: StatusCode, codes: &[ErrorCode]) -> Value {
    let names: Vec<_> = codes.iter().map(|code| format!("`{}`", code.name())).collect();
    let examples: Map<_, _> = codes
        .iter()
        .map(|code| {
            (code.name().to_owned(), json!({ "summary": code.meaning(), "value": example_of(*code) }))
        })
        .collect();
    let content = json!({
        "schema": { "$ref": "#/components/schemas/Problem" },
        "examples": examples,
    });
    let mut response = json!({
        "description": names.join(", "),
        "content": { "application/problem+json": content },
    });
    let header =
        |description: &str, kind: &str| json!({ "description": description, "schema": { "type": kind } });
    response["headers"]["Content-Language"] = json!({ "$ref": "#/components/headers/ContentLanguage" });
    if status == StatusCode::UNAUTHORIZED {
        response["headers"]["WWW-Authenticate"] = header("The authentication scheme.", "string");
    }
    if codes[0].has_retry_after() {
        response["headers"]["Retry-After"] = header("The number of seconds to wait.", "integer");
    }
    response
}

fn example_of(code: ErrorCode) -> Value {
    let status = code.status();
    let detail = Detail::from(code.text()).with("seconds", 1).to_string();
    let mut example = json!({
        "type": format!("urn:referral:problem:{}", code.name()),
        "title": status.canonical_reason(),
        "status": status.as_u16(),
        "detail": detail,
        "code": code.name(),
        "request_id": examples::SESSION_ID,
    });
    if let Some(field) = code.field() {
        example["errors"][field] = json!([{ "code": code.name(), "detail": detail }]);
    }
    if code.has_retry_after() {
        example["retry_after"] = json!(1);
    }
    example
}

/// Adds the header that all errors have.
fn describe_language(document: &mut Value) {
    let description = "The language of the texts: the first one in `Accept-Language` that is available, or English. \
                       Absent if `detail` is a text of the operator.";
    document["components"]["headers"]["ContentLanguage"] =
        json!({ "description": description, "schema": { "type": "string" } });
}

/// Marks nullable fields: in responses each field without a value is `null`.
fn describe_schemas(document: &mut Value) {
    let Some(schemas) = document["components"]["schemas"].as_object_mut() else {
        return;
    };
    let is_request = |name: &str| name.ends_with("Request") || name.ends_with("Patch");
    for (name, schema) in schemas.iter_mut() {
        if is_request(name) {
            let nullable = NULLABLE.iter().find(|(schema, _)| schema == name);
            for field in nullable.into_iter().flat_map(|(_, fields)| *fields) {
                schema["properties"][field]["nullable"] = json!(true);
            }
            schema["additionalProperties"] = json!(false);
        } else if !SPARSE.contains(&name.as_str()) {
            let required: Vec<_> = schema["required"].as_array().cloned().unwrap_or_default();
            let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) else {
                continue;
            };
            for (field, property) in properties.iter_mut() {
                if !required.contains(&json!(field)) {
                    property["nullable"] = json!(true);
                    // `nullable` needs a type. Only objects are references.
                    if property.get("allOf").is_some() {
                        property["type"] = json!("object");
                    }
                }
            }
            let all: Vec<_> = properties.keys().cloned().collect();
            schema["required"] = json!(all);
        }
    }
    for name in ["Problem", "FieldError"] {
        if let Some(schema) = schemas.get_mut(name) {
            schema["properties"]["code"] = json!({ "$ref": "#/components/schemas/ErrorCode" });
        }
    }
    let codes: Vec<_> = ErrorCode::ALL.iter().map(|code| code.name()).collect();
    schemas.insert(
        "ErrorCode".into(),
        json!({
            "type": "string",
            "title": "ErrorCode",
            "description": "The stable error code. Programs should branch on it. Later versions may have more codes.",
            "enum": codes,
        }),
    );
    schemas.sort_keys();
}

fn routes(document: &Value) -> Vec<Route> {
    let paths = document["paths"].as_object().into_iter().flatten();
    let route = |(path, item): (&String, &Value)| {
        let path = format!("{BASE}{path}");
        let segments = path.trim_matches('/').split('/').map(str::to_owned).collect();
        let operations = item.as_object().into_iter().flatten();
        let operations = operations.map(|(method, operation)| {
            let parameters = operation["parameters"].as_array().into_iter().flatten();
            let of_query = parameters.filter(|parameter| parameter["in"] == "query");
            let names = of_query.filter_map(|parameter| parameter["name"].as_str().map(str::to_owned));
            (method.to_uppercase(), names.collect::<Vec<_>>())
        });
        let mut methods: Vec<_> = operations.collect();
        let head = methods.iter().find(|(method, _)| method == "GET").cloned();
        methods.extend(head.map(|(_, parameters)| ("HEAD".to_owned(), parameters)));
        Route { segments, methods }
    };
    paths.map(route).collect()
}

fn paths(document: &Value) -> HashMap<String, Arc<str>> {
    let paths = document["paths"].as_object().into_iter().flatten();
    let operations = |(path, item): (&String, &Value)| {
        let path: Arc<str> = format!("{BASE}{path}").into();
        let operations: Vec<_> = item.as_object().into_iter().flat_map(Map::values).cloned().collect();
        operations.into_iter().filter_map(move |operation| {
            Some((operation["operationId"].as_str()?.to_owned(), Arc::clone(&path)))
        })
    };
    paths.flat_map(operations).collect()
}
