//! Form to edit a user.
//!
//! The form contains the values that it was opened with. Only fields that differ from them are changed, so an
//! edit does not undo a change that was made in the meantime. Metadata could be too long for a body with two of
//! them, so the form contains their digest.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use maud::{Markup, html};
use poem::{
    Response,
    http::{Method, StatusCode},
};
use referral_core::{
    Email, ExternalId, InvalidInput, InviteCode, Metadata, Name, User, UserChange, UserId,
    audit::{AuditEntryId, AuditQuery, FieldChange},
};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::{
    errors::invalid,
    layout::{Menu, error_note, title_of},
    visit::Visit,
};
use crate::{error::Problem, error_code::ErrorCode};

/// Names of the fields, as in the audit log.
pub(super) const FIELDS: [&str; 6] =
    ["first_name", "last_name", "email", "invited_by_code", "external_id", "metadata"];

/// Values of the fields.
type Values = [String; FIELDS.len()];

/// Returns the form of a value by which a change of it is recognized.
fn compared(field: &str, value: &str) -> String {
    match field {
        "metadata" => BASE64_URL_SAFE_NO_PAD.encode(&Sha256::digest(value)[..12]),
        _ => value.to_owned(),
    }
}

impl Visit {
    /// Shows the form, or changes the user.
    pub(super) async fn edit(&self, id: UserId) -> Result<Response, Problem> {
        let user = self.referral().find_user(id).await?.ok_or_else(|| Problem::new(ErrorCode::NotFound))?;
        if !self.is_admin() {
            return Err(Problem::new(ErrorCode::AdminOnly));
        }
        let current = values_of(&user);
        if self.method != Method::POST {
            let mut values = current.clone();
            for change in self.undone_changes(id).await? {
                if let Some(index) = FIELDS.iter().position(|field| *field == change.field) {
                    values[index] = change.before.unwrap_or_default();
                }
            }
            let opened = std::array::from_fn(|index| compared(FIELDS[index], &current[index]));
            return Ok(self.edit_form(StatusCode::OK, &user, &values, &opened, None));
        }
        match self.perform_edit(id).await {
            Ok(()) => Ok(self.redirect(&format!("users/{id}/?done=edit"))),
            Err(problem) if problem.code().status().is_client_error() => {
                let [values, opened] = [self.typed(""), self.typed("was_")];
                let error = self.describe(&problem);
                Ok(self.edit_form(problem.code().status(), &user, &values, &opened, Some(&error)))
            }
            Err(problem) => Err(problem),
        }
    }

    /// Returns the values of the form whose names start with `prefix`.
    fn typed(&self, prefix: &str) -> Values {
        FIELDS.map(|field| {
            let value = self.form.get(&format!("{prefix}{field}")).unwrap_or_default();
            // Browsers send line breaks as two characters.
            value.replace("\r\n", "\n")
        })
    }

    async fn perform_edit(&self, id: UserId) -> Result<(), Problem> {
        let [values, opened] = [self.typed(""), self.typed("was_")];
        let changed = |index: usize| {
            (compared(FIELDS[index], &values[index]) != opened[index]).then_some(&*values[index])
        };
        let metadata = match changed(5) {
            None => None,
            Some("") => Some(Metadata::default()),
            Some(text) => Some(text.parse::<Metadata>().map_err(invalid)?),
        };
        let change = UserChange {
            first_name: read(changed(0), Name::parse)?,
            last_name: read(changed(1), Name::parse)?,
            email: read(changed(2), Email::parse)?,
            invited_by_code: read(changed(3), InviteCode::parse)?,
            external_id: read(changed(4), ExternalId::parse)?,
            metadata,
            ..UserChange::default()
        };
        self.administration()?.change_user(id, change, self.reason()?).await?;
        Ok(())
    }

    /// Returns the changes of the entry of the audit log that the query names.
    async fn undone_changes(&self, user: UserId) -> Result<Vec<FieldChange>, Problem> {
        let Some(id) = self.query.get("undo").and_then(|id| Uuid::try_parse(id).ok()) else {
            return Ok(Vec::new());
        };
        let next = AuditEntryId(Uuid::from_u128(id.as_u128().saturating_add(1)));
        let query = AuditQuery::new().user(user).older_than(next);
        let page = self.administration()?.audit_log(&query).await?;
        let entry = page.entries.into_iter().find(|entry| entry.id == AuditEntryId(id));
        Ok(entry.map(|entry| entry.changes).unwrap_or_default())
    }

    fn edit_form(
        &self,
        status: StatusCode,
        user: &User,
        values: &Values,
        opened: &Values,
        error: Option<&str>,
    ) -> Response {
        let t = self.language;
        let names =
            [t.first_name(), t.last_name(), t.email(), t.inviters_code(), t.external_id(), t.metadata_json()];
        let is_changed =
            |field: &str, value: &str, opened: &str| error.is_none() && compared(field, value) != opened;
        let mut compared = FIELDS.into_iter().zip(values).zip(opened);
        let is_undo = compared.any(|((field, value), opened)| is_changed(field, value, opened));
        let content = html! {
            section.form {
                h1 { (t.edit()) }
                p { a href=(self.user_path(user)) { bdi { (title_of(user)) } } ", " (user.phone.as_str()) }
                @if is_undo { p.note { (t.undo_text()) } }
                form method="post" action=(format!("{}edit/", self.user_path(user))) {
                    (self.token_field())
                    @for (((field, name), value), opened) in FIELDS.into_iter().zip(names).zip(values).zip(opened) {
                        input type="hidden" name={ "was_" (field) } value=(opened);
                        label for=(field) { (name) }
                        (input(field, value, is_changed(field, value, opened)))
                        @if field == "invited_by_code" { p.hint { (t.inviters_code_hint()) } }
                    }
                    (self.reason_field())
                    (error_note(error))
                    button type="submit" { (t.save()) }
                    " " a.button href=(self.user_path(user)) { (t.cancel()) }
                }
            }
        };
        self.page_with_status(status, Menu::Other, &format!("{}: {}", t.edit(), title_of(user)), &content)
    }
}

fn input(field: &str, value: &str, is_changed: bool) -> Markup {
    let class = is_changed.then_some("changed");
    html! {
        @match field {
            "metadata" => { textarea #(field) name=(field) class=[class] spellcheck="false" { (value) } }
            "email" => { input #(field) type="email" name=(field) value=(value) class=[class] autocomplete="off" maxlength="254"; }
            _ => { input #(field) type="text" name=(field) value=(value) class=[class] autocomplete="off" maxlength="1024"; }
        }
    }
}

/// Parses a changed field. An empty text clears it.
#[expect(clippy::option_option, reason = "it is the type of a field of `UserChange`")]
fn read<T>(
    text: Option<&str>,
    parse: impl FnOnce(&str) -> Result<T, InvalidInput>,
) -> Result<Option<Option<T>>, Problem> {
    match text {
        None => Ok(None),
        Some("") => Ok(Some(None)),
        Some(text) => parse(text).map(|value| Some(Some(value))).map_err(invalid),
    }
}

fn values_of(user: &User) -> Values {
    let text = |value: Option<String>| value.unwrap_or_default();
    [
        text(user.first_name.as_ref().map(|name| name.as_str().to_owned())),
        text(user.last_name.as_ref().map(|name| name.as_str().to_owned())),
        text(user.email.as_ref().map(|email| email.as_str().to_owned())),
        text(user.invited_by.as_ref().map(|by| by.code.to_string())),
        text(user.external_id.as_ref().map(|id| id.as_str().to_owned())),
        user.metadata.to_string(),
    ]
}
