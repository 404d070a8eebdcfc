//! Actions of staff on a user or a phone. Each has a form that asks for the reason, and a message afterwards.

use std::str::FromStr as _;

use maud::{Markup, html};
use poem::{
    IntoResponse as _, Response,
    http::{Method, StatusCode},
};
use referral_core::{StaffRole, User, UserChange, UserId, audit::Reason, texts::Text};

use super::{
    errors::invalid,
    layout::{Menu, error_note, title_of},
    texts::Language,
    visit::Visit,
};
use crate::{api::personal_data::PersonalDataFile, error::Problem, error_code::ErrorCode};

/// Number of the last digits of the phone that must be typed to delete a user.
const CONFIRMED_DIGITS: usize = 4;

/// Action on a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Block,
    Unblock,
    EndSessions,
    ChangeRole,
    ChangePhone,
    Export,
    CancelDeletion,
    Delete,
}

impl Action {
    pub(super) const ALL: [Self; 8] = [
        Self::Block,
        Self::Unblock,
        Self::EndSessions,
        Self::ChangeRole,
        Self::ChangePhone,
        Self::Export,
        Self::CancelDeletion,
        Self::Delete,
    ];

    /// Returns the name in URLs.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Block => "block",
            Self::Unblock => "unblock",
            Self::EndSessions => "end_sessions",
            Self::ChangeRole => "role",
            Self::ChangePhone => "phone",
            Self::Export => "export",
            Self::CancelDeletion => "cancel_deletion",
            Self::Delete => "delete",
        }
    }

    pub(super) fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.name() == name)
    }

    /// Returns the route for metrics.
    pub(super) fn route(self) -> &'static str {
        match self {
            Self::Block => "/admin/users/{id}/block/",
            Self::Unblock => "/admin/users/{id}/unblock/",
            Self::EndSessions => "/admin/users/{id}/end_sessions/",
            Self::ChangeRole => "/admin/users/{id}/role/",
            Self::ChangePhone => "/admin/users/{id}/phone/",
            Self::Export => "/admin/users/{id}/export/",
            Self::CancelDeletion => "/admin/users/{id}/cancel_deletion/",
            Self::Delete => "/admin/users/{id}/delete/",
        }
    }

    /// Returns `true` if support may perform the action.
    fn is_for_support(self) -> bool {
        self == Self::EndSessions
    }

    /// Returns `true` if the action is possible in the current state of the user.
    fn fits(self, user: &User) -> bool {
        match self {
            Self::Block => user.is_active,
            Self::Unblock => !user.is_active,
            Self::CancelDeletion => user.deletion_at.is_some(),
            Self::EndSessions | Self::ChangeRole | Self::ChangePhone | Self::Export | Self::Delete => true,
        }
    }

    fn title(self, t: Language) -> &'static str {
        match self {
            Self::Block => t.block(),
            Self::Unblock => t.unblock(),
            Self::EndSessions => t.end_sessions(),
            Self::ChangeRole => t.change_role(),
            Self::ChangePhone => t.change_phone(),
            Self::Export => t.export_data(),
            Self::CancelDeletion => t.cancel_deletion(),
            Self::Delete => t.delete(),
        }
    }

    /// Returns the explanation of the consequences.
    fn explanation(self, t: Language) -> &'static str {
        match self {
            Self::Block => t.block_text(),
            Self::Unblock => t.unblock_text(),
            Self::EndSessions => t.end_sessions_text(),
            Self::ChangeRole => t.change_role_text(),
            Self::ChangePhone => t.change_phone_text(),
            Self::Export => t.export_data_text(),
            Self::CancelDeletion => t.cancel_deletion_text(),
            Self::Delete => t.delete_text(),
        }
    }
}

impl Visit {
    /// Shows the links to the actions that the member of staff may perform.
    pub(super) fn action_links(&self, user: &User) -> Markup {
        let t = self.language;
        let is_admin = self.is_admin();
        let actions = Action::ALL
            .into_iter()
            .filter(|action| action.fits(user) && (is_admin || action.is_for_support()));
        let path = |name: &str| format!("{}{name}/", self.user_path(user));
        let unlock = {
            let query = form_urlencoded::Serializer::new(String::new())
                .append_pair("user", &user.id.to_string())
                .finish();
            self.path(&format!("unlock/?{query}"))
        };
        html! {
            nav.pager aria-label=(t.actions()) {
                @if is_admin { a.button href=(path("edit")) { (t.edit()) } }
                a.button href=(unlock) { (t.unlock_phone()) }
                @for action in actions {
                    a class={ "button" @if action == Action::Delete { " danger" } } href=(path(action.name())) { (action.title(t)) }
                }
            }
        }
    }

    /// Returns `true` if the member of staff is an admin.
    pub(super) fn is_admin(&self) -> bool {
        self.staff.as_ref().is_some_and(|staff| staff.user.staff_role == Some(StaffRole::Admin))
    }

    /// Shows the form of an action, or performs the action.
    pub(super) async fn act(&self, id: UserId, action: Action) -> Result<Response, Problem> {
        let user = self.referral().find_user(id).await?.ok_or_else(|| Problem::new(ErrorCode::NotFound))?;
        if !self.is_admin() && !action.is_for_support() {
            return Err(Problem::new(ErrorCode::AdminOnly));
        }
        if self.method != Method::POST {
            return Ok(self.action_form(StatusCode::OK, &user, action, None));
        }
        match self.perform(&user, action).await {
            Ok(Some(file)) => Ok(file.into_response()),
            Ok(None) if action == Action::Delete => Ok(self.redirect("users/?done=delete")),
            Ok(None) => Ok(self.redirect(&format!("users/{id}/?done={}", action.name()))),
            Err(problem) if problem.code().status().is_client_error() => {
                let error = self.describe(&problem);
                Ok(self.action_form(problem.code().status(), &user, action, Some(&error)))
            }
            Err(problem) => Err(problem),
        }
    }

    /// Performs an action. Returns the file of an export.
    async fn perform(&self, user: &User, action: Action) -> Result<Option<PersonalDataFile>, Problem> {
        let (administration, reason) = (self.administration()?, self.reason()?);
        let change = match action {
            Action::Block => UserChange { is_active: Some(false), ..UserChange::default() },
            Action::Unblock => UserChange { is_active: Some(true), ..UserChange::default() },
            Action::ChangeRole => {
                let role = Some(self.form.get("role").unwrap_or_default()).filter(|role| !role.is_empty());
                let role = role.map(StaffRole::from_str).transpose().map_err(invalid)?;
                UserChange { staff_role: Some(role), ..UserChange::default() }
            }
            Action::ChangePhone => {
                let phone =
                    Some(self.form.get("phone").unwrap_or_default().trim()).filter(|phone| !phone.is_empty());
                let phone =
                    phone.map(|phone| self.referral().parse_phone(phone)).transpose().map_err(invalid)?;
                UserChange { phone: Some(phone), ..UserChange::default() }
            }
            Action::CancelDeletion => UserChange { cancels_deletion: true, ..UserChange::default() },
            Action::EndSessions => {
                administration.end_sessions(user.id, reason).await?;
                return Ok(None);
            }
            Action::Export => {
                return Ok(Some(administration.personal_data(user.id, reason).await?.into()));
            }
            Action::Delete => {
                if self.form.get("digits") != Some(last_digits(user)) {
                    return Err(Problem::with_detail(ErrorCode::BadRequest, Text::PhoneDigits));
                }
                administration.delete_user(user.id, reason).await?;
                return Ok(None);
            }
        };
        administration.change_user(user.id, change, reason).await?;
        Ok(None)
    }

    fn action_form(&self, status: StatusCode, user: &User, action: Action, error: Option<&str>) -> Response {
        let t = self.language;
        let title = action.title(t);
        let role = match self.form.get("role").or_else(|| self.query.get("role")) {
            Some(role) => role,
            None => user.staff_role.map_or("", StaffRole::as_str),
        };
        let phone = match self.form.get("phone").or_else(|| self.query.get("phone")) {
            Some(phone) => phone,
            // A form that is sent unchanged must not link the phone again.
            None if !user.has_phone() => "",
            None => user.phone.as_str(),
        };
        let fields = html! {
            @if action == Action::ChangeRole {
                label for="role" { (t.role()) }
                select #role name="role" {
                    @for (value, text) in [("", t.no_role()), ("support", t.support()), ("admin", t.admin())] {
                        option value=(value) selected[value == role] { (text) }
                    }
                }
            }
            @if action == Action::ChangePhone {
                label for="phone" { (t.phone()) }
                input #phone type="tel" name="phone" value=(phone) maxlength="64" autocomplete="off" aria-describedby="phone-hint";
                p.hint #phone-hint { (t.no_phone_hint()) }
            }
            @if action == Action::Delete {
                label for="digits" { (t.confirm_digits()) }
                input #digits type="text" name="digits" inputmode="numeric" autocomplete="off" required maxlength="4";
            }
        };
        let submit = html! { button.danger[action == Action::Delete] type="submit" { (title) } };
        let content = html! {
            section.narrow {
                h1 { (title) }
                p { a href=(self.user_path(user)) { bdi { (title_of(user)) } } ", " (user.phone.as_str()) }
                p { (action.explanation(t)) }
                form method="post" action=(format!("{}{}/", self.user_path(user), action.name())) {
                    (self.token_field())
                    (fields)
                    (self.reason_field())
                    (error_note(error))
                    (submit)
                    " " a.button href=(self.user_path(user)) { (t.cancel()) }
                }
            }
        };
        self.page_with_status(status, Menu::Other, &format!("{title}: {}", title_of(user)), &content)
    }

    /// Shows the form to unlock a phone, or unlocks it.
    pub(super) async fn unlock(&self) -> Result<Response, Problem> {
        let id = self.query.get("user").and_then(|id| UserId::from_str(id).ok());
        let user = match id {
            Some(id) => self.referral().find_user(id).await?,
            None => None,
        };
        let phone = user.as_ref().map(|user| user.phone.as_str().to_owned());
        let phone = self.form.get("phone").map(str::to_owned).or(phone).unwrap_or_default();
        if self.method != Method::POST {
            return Ok(self.unlock_form(StatusCode::OK, &phone, None));
        }
        match self.perform_unlock(&phone).await {
            Ok(user) => Ok(self.redirect(&match user {
                Some(user) => format!("users/{user}/?done=unlock"),
                None => "users/?done=unlock".to_owned(),
            })),
            Err(problem) if problem.code().status().is_client_error() => {
                let error = self.describe(&problem);
                Ok(self.unlock_form(problem.code().status(), &phone, Some(&error)))
            }
            Err(problem) => Err(problem),
        }
    }

    async fn perform_unlock(&self, phone: &str) -> Result<Option<UserId>, Problem> {
        let phone = self.referral().parse_phone(phone).map_err(invalid)?;
        let entry = self.administration()?.unlock_phone(phone, self.reason()?).await?;
        Ok(entry.user)
    }

    fn unlock_form(&self, status: StatusCode, phone: &str, error: Option<&str>) -> Response {
        let t = self.language;
        let content = html! {
            section.narrow {
                h1 { (t.unlock_phone()) }
                p { (t.unlock_text()) }
                form method="post" action=(self.path("unlock/")) {
                    (self.token_field())
                    label for="phone" { (t.phone()) }
                    input #phone type="tel" name="phone" value=(phone) required maxlength="64";
                    (self.reason_field())
                    (error_note(error))
                    button type="submit" { (t.unlock_phone()) }
                    " " a.button href=(self.path("users/")) { (t.cancel()) }
                }
            }
        };
        self.page_with_status(status, Menu::Other, t.unlock_phone(), &content)
    }

    /// Returns the field for the reason.
    pub(super) fn reason_field(&self) -> Markup {
        let t = self.language;
        html! {
            label for="reason" { (t.reason()) }
            input #reason type="text" name="reason" required maxlength="500" autocomplete="off"
                value=(self.form.get("reason").unwrap_or_default()) aria-describedby="reason-hint";
            p.hint #reason-hint { (t.reason_hint()) }
        }
    }

    /// Parses the reason in the form.
    pub(super) fn reason(&self) -> Result<Reason, Problem> {
        Reason::parse(self.form.get("reason").unwrap_or_default()).map_err(invalid)
    }

    /// Shows the result of the action that led to this page.
    pub(super) fn done_note(&self) -> Markup {
        let t = self.language;
        let text = match self.query.get("done") {
            Some("block") => t.blocked_done(),
            Some("unblock") => t.unblocked_done(),
            Some("end_sessions") => t.sessions_ended_done(),
            Some("role") => t.role_changed_done(),
            Some("phone") => t.phone_changed_done(),
            Some("cancel_deletion") => t.deletion_canceled_done(),
            Some("delete") => t.deleted_done(),
            Some("unlock") => t.unlocked_done(),
            Some("edit") => t.edited_done(),
            _ => return html! {},
        };
        html! { p.note role="status" { (text) } }
    }
}

fn last_digits(user: &User) -> &str {
    let phone = user.phone.as_str();
    &phone[phone.len() - CONFIRMED_DIGITS..]
}
