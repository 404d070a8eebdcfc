//! Web console for staff at `/admin/`: pages that this server renders, and that work without scripts.
//!
//! A visit needs a session of this service whose user is staff. The tokens of the session are in cookies, and
//! each page checks them as the API does. All changes are `POST` requests from forms of the console.

mod actions;
mod assets;
mod audit;
mod codes;
mod csrf;
mod edit;
mod errors;
mod form;
mod layout;
mod overview;
mod plot;
mod session;
mod sign_in;
mod texts;
mod tree;
mod user;
mod users;
mod visit;

use std::sync::Arc;

use poem::{
    Endpoint, Request, Response, Result, Route,
    http::{Method, Uri},
};
use referral_core::{ReferralService, UserId};
use uuid::Uuid;

use self::{actions::Action, assets::Assets, visit::Visit};
use crate::{
    client_ip::client_of,
    error::Problem,
    error_code::ErrorCode,
    host,
    middleware::RequestId,
    mount::{Prefix, Root},
};

/// Path of the start page of the console.
const PATH: &str = "/admin";

/// Headers that a proxy adds to a request.
const PROXY_HEADERS: [&str; 4] = ["forwarded", "x-forwarded-for", "x-real-ip", "via"];

/// Returns `true` if a path belongs to the console.
pub(crate) fn is_at(path: &str) -> bool {
    path.strip_prefix(PATH).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Returns the route of a path of the console, for metrics.
pub(crate) fn route(path: &str) -> &'static str {
    Place::of(path).map_or("none", Place::route)
}

/// Returns the methods of a path of the console.
pub(crate) fn allowed(path: &str) -> &'static str {
    Place::of(path).map_or("GET, HEAD", |place| if place.is_form() { "GET, HEAD, POST" } else { "GET, HEAD" })
}

/// Pages of the console. Clones share all state.
#[derive(Clone)]
pub(crate) struct Console(Arc<Shared>);

struct Shared {
    referral: ReferralService,
    root: Root,
    assets: Assets,
}

/// Page or action of the console.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Overview,
    SignIn,
    SendCode,
    Confirm,
    SignOut,
    Users,
    User(UserId),
    Edit(UserId),
    Act(UserId, Action),
    Unlock,
    Audit,
    Tree,
    Style,
    Script,
}

impl Place {
    fn of(path: &str) -> Option<Self> {
        let path = path.strip_prefix(PATH)?.trim_end_matches('/');
        Some(match path.strip_prefix('/').unwrap_or(path) {
            "" => Self::Overview,
            "sign_in" => Self::SignIn,
            "sign_in/code" => Self::SendCode,
            "sign_in/confirm" => Self::Confirm,
            "sign_out" => Self::SignOut,
            "users" => Self::Users,
            "tree" => Self::Tree,
            "unlock" => Self::Unlock,
            "audit" => Self::Audit,
            "console.css" => Self::Style,
            "console.js" => Self::Script,
            path => Self::of_user(path.strip_prefix("users/")?)?,
        })
    }

    /// Returns the place of a path such as `01a205db-5716-7487-8833-9f4e232f2f0d/block`.
    fn of_user(path: &str) -> Option<Self> {
        let (id, action) = path.split_once('/').unwrap_or((path, ""));
        let id = UserId(Uuid::try_parse(id).ok()?);
        Some(match action {
            "" => Self::User(id),
            "edit" => Self::Edit(id),
            name => Self::Act(id, Action::of_name(name)?),
        })
    }

    fn route(self) -> &'static str {
        match self {
            Self::Overview => "/admin/",
            Self::SignIn => "/admin/sign_in/",
            Self::SendCode => "/admin/sign_in/code/",
            Self::Confirm => "/admin/sign_in/confirm/",
            Self::SignOut => "/admin/sign_out/",
            Self::Users => "/admin/users/",
            Self::User(_) => "/admin/users/{id}/",
            Self::Edit(_) => "/admin/users/{id}/edit/",
            Self::Act(_, action) => action.route(),
            Self::Unlock => "/admin/unlock/",
            Self::Audit => "/admin/audit/",
            Self::Tree => "/admin/tree/",
            Self::Style => "/admin/console.css",
            Self::Script => "/admin/console.js",
        }
    }

    /// Returns `true` if the place accepts a form.
    fn is_form(self) -> bool {
        matches!(
            self,
            Self::SendCode | Self::Confirm | Self::SignOut | Self::Edit(_) | Self::Act(..) | Self::Unlock
        )
    }
}

impl Console {
    pub(crate) fn new(referral: ReferralService, root: Root) -> Self {
        Self(Arc::new(Shared { referral, root, assets: Assets::new() }))
    }

    /// Adds the routes of the console.
    pub(crate) fn add(&self, route: Route) -> Route {
        route.at(PATH, self.clone()).at(format!("{PATH}/*path"), self.clone())
    }

    /// Creates a page for an error that occurred before a page of the console was called.
    pub(crate) fn error_page(&self, visitor: &Visitor, problem: &Problem, request_id: &str) -> Response {
        problem.log();
        let visit = Visit::new(self, visitor.clone(), Method::GET);
        let response = visit.error(problem, request_id);
        visit.finish(response)
    }

    /// Returns `true` if the connection of the client is encrypted, or does not leave this machine. A proxy can
    /// replace the host by that of this machine.
    fn is_confidential(&self, request: &Request) -> bool {
        let is_forwarded = PROXY_HEADERS.iter().any(|name| request.headers().contains_key(*name));
        self.0.root.is_encrypted() || (host::is_for_loopback(request) && !is_forwarded)
    }

    async fn respond(&self, request: &mut Request, visit: &mut Visit) -> Result<Response, Problem> {
        let path = request.uri().path();
        let place = Place::of(path).ok_or_else(|| Problem::new(ErrorCode::NotFound))?;
        if !self.is_confidential(request) {
            return Err(Problem::new(ErrorCode::MisdirectedRequest));
        }
        match *request.method() {
            Method::GET | Method::HEAD => {}
            Method::POST if place.is_form() => {
                visit.is_same_origin = csrf::is_same_origin(request, &self.0.root);
                visit.form = form::read(request).await?;
            }
            _ => {
                let mut problem = Problem::new(ErrorCode::MethodNotAllowed);
                problem.allow = Some(allowed(path).into());
                return Err(problem);
            }
        }
        Box::pin(visit.open(place)).await
    }
}

/// Parts of a request that each page depends on.
#[derive(Clone)]
pub(crate) struct Visitor {
    uri: Uri,
    prefix: Prefix,
    headers: poem::http::HeaderMap,
}

impl Visitor {
    pub(crate) fn of(request: &Request) -> Self {
        Self {
            uri: request.uri().clone(),
            prefix: Prefix::found(request),
            headers: request.headers().clone(),
        }
    }
}

impl Endpoint for Console {
    type Output = Response;

    async fn call(&self, mut request: Request) -> Result<Response> {
        let id = request.data::<RequestId>().map_or_else(String::new, |id| id.0.clone());
        let mut visit = Visit::new(self, Visitor::of(&request), request.method().clone());
        visit.client = client_of(&request);
        // An error is not returned to the middleware, because its page may have to set cookies.
        let response = self.respond(&mut request, &mut visit).await.unwrap_or_else(|problem| {
            problem.log();
            visit.error(&problem, &id)
        });
        Ok(visit.finish(response))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_belong_to_the_console_by_whole_segments() {
        for path in ["/admin", "/admin/", "/admin/users", "/admin/nothing"] {
            assert!(is_at(path), "{path}");
        }
        for path in ["/", "/administrator", "/api/v1/admin/users", "/adm"] {
            assert!(!is_at(path), "{path}");
        }
    }

    #[test]
    fn routes_have_no_ids() {
        let id = "01a205db-5716-7487-8833-9f4e232f2f0d";
        for (path, expected) in [
            ("/admin", "/admin/"),
            ("/admin/users", "/admin/users/"),
            (&*format!("/admin/users/{id}"), "/admin/users/{id}/"),
            (&*format!("/admin/users/{id}/block/"), "/admin/users/{id}/block/"),
            (&*format!("/admin/users/{id}/nothing"), "none"),
            ("/admin/users/1", "none"),
            ("/admin/users/../tree", "none"),
        ] {
            assert_eq!(route(path), expected, "{path}");
        }
        assert_eq!(allowed("/admin/sign_out"), "GET, HEAD, POST");
        assert_eq!(allowed("/admin/users"), "GET, HEAD");
    }
}
