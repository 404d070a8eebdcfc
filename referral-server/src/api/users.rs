//! Endpoints below `/users/` for lists of users, their profiles and their invitees.

use poem::Request;
use poem_openapi::{
    Object, OpenApi,
    param::{Path, Query},
    types::Example,
};
use referral_core::{
    CurrentUser, FilterInput, InviteeView, ListInvitees, ListUsers, ReferralService, UserId, texts::Text,
};
use serde::Serialize;
use uuid::Uuid;

use crate::{
    api::{
        Refusals, Tag,
        bearer::Authorized,
        examples,
        json_response::Json,
        list_input::{check_texts, page_size},
        pagination::Links,
        timestamp::Timestamp,
        user_views::{User, UserWithInvited},
    },
    error::Problem,
    error_code::ErrorCode,
};

/// Error codes of each operation, in addition to those that every operation can return.
pub(crate) const REFUSALS: &[Refusals] = &[
    (
        "listUsers",
        &[
            ErrorCode::ValidationFailed,
            ErrorCode::InvalidLimit,
            ErrorCode::InvalidOffset,
            ErrorCode::InvalidCursor,
            ErrorCode::InvalidText,
            ErrorCode::InvalidSearch,
            ErrorCode::SearchTooBroad,
            ErrorCode::StaffOnly,
        ],
    ),
    ("getUser", &[ErrorCode::NotFound, ErrorCode::StaffOnly]),
    (
        "listInvited",
        &[ErrorCode::InvalidLimit, ErrorCode::InvalidCursor, ErrorCode::NotFound, ErrorCode::StaffOnly],
    ),
];

/// An invited user.
#[derive(Object, Serialize)]
struct Invitee {
    /// The id.
    id: Uuid,
    /// The phone.
    phone: String,
    /// The time at which the invited user joined.
    joined_at: Timestamp,
}

impl From<InviteeView> for Invitee {
    fn from(invitee: InviteeView) -> Self {
        Self {
            id: invitee.id.0,
            phone: invitee.phone.as_str().to_owned(),
            joined_at: invitee.joined_at.into(),
        }
    }
}

/// A page of users.
#[derive(Object, Serialize)]
#[oai(example)]
pub(super) struct UserPage {
    /// The number of users that match. With a filter or a search, at most 1000.
    count: u64,
    /// `true` if exactly `count` users match, `false` if more users match.
    count_exact: bool,
    /// The URL of the page with older users.
    next: Option<String>,
    /// The URL of the page with newer users.
    previous: Option<String>,
    /// The users, newest first.
    results: Vec<User>,
}

impl Example for UserPage {
    fn example() -> Self {
        Self { count: 1, count_exact: true, next: None, previous: None, results: vec![User::example()] }
    }
}

/// A page of invited users.
#[derive(Object, Serialize)]
#[oai(example)]
pub(super) struct InviteePage {
    /// The total number of invited users.
    count: u64,
    /// The URL of the page with older users.
    next: Option<String>,
    /// The invited users, newest first.
    results: Vec<Invitee>,
}

impl Example for InviteePage {
    fn example() -> Self {
        let invitee = Invitee {
            id: examples::FRIENDS_ID,
            phone: examples::FRIENDS_PHONE.into(),
            joined_at: examples::TIME,
        };
        Self { count: 1, next: None, results: vec![invitee] }
    }
}

pub(crate) struct UsersApi {
    pub(crate) referral: ReferralService,
    pub(crate) links: Links,
}

#[OpenApi(prefix_path = "/users", tag = "Tag::Users")]
impl UsersApi {
    /// List users
    ///
    /// Lists users, newest first. Use the URLs in `next` and `previous` unchanged. They contain a cursor,
    /// which costs the same at any depth and is not shifted by new users. In response to a request with
    /// `offset` they contain an offset, which costs more the larger it is. Beyond 100000 they contain a
    /// cursor again.
    ///
    /// A search finds users that have all search terms in their phone, email address, names, invite code or
    /// inviter's code. Letter case is ignored. A term of one or two characters must be at the beginning.
    /// Filters match exactly.
    ///
    /// Searches, large offsets and combined filters have a time limit. A request that exceeds it is rejected
    /// with `search_too_broad`. Such requests of one caller are processed one at a time, and further
    /// requests wait.
    #[oai(path = "/", method = "get", operation_id = "listUsers")]
    #[expect(clippy::too_many_arguments, reason = "each is a parameter of the query")]
    async fn list(
        &self,
        Authorized(current_user): Authorized<CurrentUser>,
        /// The number of users per page. Default: 10.
        #[oai(validator(minimum(value = "1"), maximum(value = "100")))]
        Query(limit): Query<Option<u32>>,
        /// The number of newest users to skip. To read further, follow the cursor in `next`.
        #[oai(validator(maximum(value = "100000")))]
        Query(offset): Query<Option<u64>>,
        /// The cursor of a page, from a URL in `next` or `previous`.
        Query(cursor): Query<Option<String>>,
        /// The search terms, separated by spaces. At most five different terms. If there are several terms,
        /// at least one of them must have three characters or more.
        Query(search): Query<Option<String>>,
        /// The phone to match, in any form.
        Query(phone): Query<Option<String>>,
        /// The email address to match.
        Query(email): Query<Option<String>>,
        /// The id in the system of the operator to match. Only staff can use it.
        Query(external_id): Query<Option<String>>,
        /// The first name to match.
        Query(first_name): Query<Option<String>>,
        /// The last name to match.
        Query(last_name): Query<Option<String>>,
        /// The invite code to match.
        Query(invite_code): Query<Option<String>>,
        /// The invite code of the inviter to match.
        Query(invited_by_code): Query<Option<String>>,
        request: &Request,
    ) -> Result<Json<UserPage>, Problem> {
        let filter = FilterInput {
            phone: phone.as_deref(),
            email: email.as_deref(),
            external_id: external_id.as_deref(),
            first_name: first_name.as_deref(),
            last_name: last_name.as_deref(),
            invite_code: invite_code.as_deref(),
            invited_by_code: invited_by_code.as_deref(),
            search: search.as_deref(),
        };
        check_texts(&filter)?;
        if offset.is_some() && cursor.is_some() {
            return Err(Problem::with_detail(ErrorCode::InvalidOffset, Text::OffsetWithCursor));
        }
        let list = ListUsers { limit: page_size(limit)?, offset, cursor: cursor.as_deref(), filter };
        let page = self.referral.users(&current_user, list).await?;
        Ok(Json(UserPage {
            count: page.count,
            count_exact: page.count_exact,
            next: page.next.map(|link| self.links.to(request, &link)),
            previous: page.previous.map(|link| self.links.to(request, &link)),
            results: page.items.into_iter().map(User::from).collect(),
        }))
    }

    /// Get a user
    ///
    /// Returns a user with the newest invited users.
    #[oai(path = "/:id", method = "get", operation_id = "getUser")]
    async fn get(
        &self,
        Authorized(current_user): Authorized<CurrentUser>,
        /// The user's id, such as the `user_id` from signing in.
        Path(id): Path<Uuid>,
    ) -> Result<Json<UserWithInvited>, Problem> {
        Ok(Json(self.referral.user(&current_user, UserId(id)).await?.into()))
    }

    /// List invited users
    ///
    /// Lists the users that a user invited, newest first.
    #[oai(path = "/:id/invited", method = "get", operation_id = "listInvited")]
    async fn invited(
        &self,
        Authorized(current_user): Authorized<CurrentUser>,
        /// The inviter's id.
        Path(id): Path<Uuid>,
        /// The number of users per page. Default: 10.
        #[oai(validator(minimum(value = "1"), maximum(value = "100")))]
        Query(limit): Query<Option<u32>>,
        /// The cursor of a page, from a URL in `next` or `previous`.
        Query(cursor): Query<Option<String>>,
        request: &Request,
    ) -> Result<Json<InviteePage>, Problem> {
        let limit = page_size(limit)?;
        let page = self
            .referral
            .invitees(&current_user, ListInvitees::new(UserId(id)).limit(limit).cursor(cursor.as_deref()))
            .await?;
        Ok(Json(InviteePage {
            count: page.count,
            next: page.next.map(|link| self.links.to(request, &link)),
            results: page.items.into_iter().map(Invitee::from).collect(),
        }))
    }
}
