//! Responds from memory. The server is compared to this response.

use poem::{EndpointExt as _, Route, Server, listener::TcpAcceptor};
use poem_openapi::{Object, OpenApi, OpenApiService, payload::Json};

/// Body of the response, like that of the server.
#[derive(Clone, Object)]
struct User {
    id: String,
    phone: String,
    invite_code: String,
    invited_by_code: Option<String>,
    email: Option<String>,
    first_name: Option<String>,
    last_name: Option<String>,
    is_staff: bool,
    is_active: bool,
    date_joined: String,
    last_login: Option<String>,
    invited: Vec<String>,
    invited_count: u64,
}

struct MemoryRoute;

#[OpenApi]
#[expect(clippy::unused_async, reason = "`OpenApi` takes only asynchronous methods")]
impl MemoryRoute {
    #[oai(path = "/users/current_user/", method = "get")]
    async fn current_user(&self) -> Json<User> {
        Json(User {
            id: "01a205db-5716-7487-8833-9f4e232f2f0d".into(),
            phone: "+79608543017".into(),
            invite_code: "K7M2QX".into(),
            invited_by_code: None,
            email: None,
            first_name: None,
            last_name: None,
            is_staff: false,
            is_active: true,
            date_joined: "2026-11-22T10:15:30.123456Z".into(),
            last_login: Some("2026-11-22T10:15:30.123456Z".into()),
            invited: Vec::new(),
            invited_count: 0,
        })
    }
}

/// Serves [`MemoryRoute`], and prints its address.
pub(crate) async fn serve() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    println!("the route listens on http://{address}");
    let api = OpenApiService::new(MemoryRoute, "Memory", "1");
    let app = Route::new().nest("/api/v1", api).before(|mut request: poem::Request| async move {
        let path = request.uri().path().trim_end_matches('/').to_owned();
        *request.uri_mut() = path.parse().map_err(poem::error::BadRequest)?;
        Ok(request)
    });
    let acceptor = TcpAcceptor::from_tokio(listener).expect("an acceptor");
    Server::new_with_acceptor(acceptor).run(app).await.expect("failed to serve");
}
