//! Everything that is stored about a user, as a file that is written page by page.

use std::{fmt::Write as _, io, mem};

use futures_util::stream;
use poem::{Body, IntoResponse, Response, http::header};
use poem_openapi::{
    ApiResponse, Object,
    payload::Payload as _,
    registry::{MetaResponses, Registry},
    types::Example,
};
use referral_core::{Error, PersonalDataPage, UserId, audit::AuditEntryView};
use serde::Serialize;
use uuid::Uuid;

use super::{
    admin::{
        code_requests::CodeRequest,
        views::{AcceptedInvitation, AdminUser, FieldChange, RelatedUser, UserSession},
    },
    examples,
    json_response::Json,
    timestamp::Timestamp,
};
use crate::error_sources::with_sources;

/// Names of the lists that are read page by page, in their order.
const LISTS: [&str; 3] = ["sessions", "audit_log", "invited"];

/// Everything that is stored about a user.
#[derive(Object, Serialize)]
#[oai(example)]
pub(crate) struct PersonalData {
    #[oai(flatten)]
    #[serde(flatten)]
    head: Head,
    /// The sessions that have not ended, newest first.
    sessions: Vec<UserSession>,
    /// The entries of the audit log about the user, newest first.
    audit_log: Vec<PersonalAuditEntry>,
    /// The users that the user invited, newest first.
    invited: Vec<RelatedUser>,
}

/// The part of the data before the lists of any length.
#[derive(Object, Serialize)]
#[oai(rename = "PersonalDataHead")]
struct Head {
    /// The time of the export.
    exported_at: Timestamp,
    /// The user.
    user: AdminUser,
    /// The invitation that the user accepted.
    invitation: Option<AcceptedInvitation>,
    /// The requests to send and to redeem codes of the phone in the last three days, newest first.
    code_requests: Vec<CodeRequest>,
}

impl Example for PersonalData {
    fn example() -> Self {
        Self {
            head: Head {
                exported_at: examples::TIME,
                user: AdminUser::example(),
                invitation: Some(AcceptedInvitation::example()),
                code_requests: vec![CodeRequest::example()],
            },
            sessions: vec![UserSession::example()],
            audit_log: vec![PersonalAuditEntry::example()],
            invited: vec![RelatedUser::example()],
        }
    }
}

/// An entry of the audit log about the user.
#[derive(Object, Serialize)]
struct PersonalAuditEntry {
    /// The id (UUID version 7).
    id: Uuid,
    /// The time of the change.
    at: Timestamp,
    /// The author of the change: `user`, `staff`, or `host` for a command and for the server itself.
    author: String,
    /// The id of the author. `null` for `host`, and in the data that users export themselves.
    author_id: Option<Uuid>,
    /// The kind of change, as in `GET /admin/audit_log/`.
    action: String,
    /// The reason of the change.
    reason: Option<String>,
    /// The changed fields.
    changes: Vec<FieldChange>,
}

impl PersonalAuditEntry {
    fn example() -> Self {
        Self {
            id: examples::AUDIT_ENTRY_ID,
            at: examples::TIME,
            author: "staff".into(),
            author_id: None,
            action: "user_changed".into(),
            reason: Some(examples::REASON.into()),
            changes: vec![FieldChange::example()],
        }
    }
}

impl From<AuditEntryView> for PersonalAuditEntry {
    fn from(entry: AuditEntryView) -> Self {
        Self {
            id: entry.id.0,
            at: entry.at.into(),
            author: entry.author.as_str().to_owned(),
            author_id: entry.author_id.map(|id| id.0),
            action: entry.action.to_string(),
            reason: entry.reason.map(|reason| reason.as_str().to_owned()),
            changes: entry.changes.into_iter().map(FieldChange::from).collect(),
        }
    }
}

/// Text of personal data as JSON, part by part, so that it is never in memory as a whole.
pub struct PersonalDataText {
    data: referral_core::PersonalData,
    /// Index of the current list in [`LISTS`]. `None` before the first part.
    list: Option<usize>,
    /// `true` if no item of the current list has been written.
    is_empty: bool,
}

impl PersonalDataText {
    /// Creates the text.
    #[must_use]
    pub fn new(data: referral_core::PersonalData) -> Self {
        Self { data, list: None, is_empty: true }
    }

    /// Returns the next part, or `None` after the last one.
    ///
    /// # Errors
    ///
    /// As for [`referral_core::PersonalData::next_page`].
    pub async fn next_part(&mut self) -> Result<Option<String>, Error> {
        let Some(list) = self.list else {
            return Ok(Some(self.start()));
        };
        if list == LISTS.len() {
            return Ok(None);
        }
        let (list, items) = match self.data.next_page().await? {
            Some(PersonalDataPage::Sessions(page)) => (0, texts::<_, UserSession>(page)),
            Some(PersonalDataPage::AuditLog(page)) => (1, texts::<_, PersonalAuditEntry>(page)),
            Some(PersonalDataPage::Invited(page)) => (2, texts::<_, RelatedUser>(page)),
            None => (LISTS.len(), Vec::new()),
        };
        let mut text = String::new();
        self.advance(list, &mut text);
        for item in items {
            text.push_str(if mem::take(&mut self.is_empty) { "\n" } else { ",\n" });
            text.push_str(&item);
        }
        Ok(Some(text))
    }

    fn start(&mut self) -> String {
        let data = &mut self.data;
        let head = Head {
            exported_at: data.at.into(),
            user: data.user.clone().into(),
            invitation: data.invitation.as_ref().map(AcceptedInvitation::from),
            code_requests: mem::take(&mut data.code_requests).into_iter().map(CodeRequest::from).collect(),
        };
        let mut text = text_of(&head);
        // The lists follow in the same object.
        text.truncate(text.len() - 1);
        let _ = write!(text, ",\n\"{}\":[", LISTS[0]);
        self.list = Some(0);
        text
    }

    /// Ends the lists before this one and starts it, or ends the object after the last list.
    fn advance(&mut self, list: usize, text: &mut String) {
        while let Some(ended) = self.list.filter(|current| *current < list) {
            text.push_str(if mem::replace(&mut self.is_empty, true) { "]" } else { "\n]" });
            self.list = Some(ended + 1);
            match LISTS.get(ended + 1) {
                Some(name) => {
                    let _ = write!(text, ",\n\"{name}\":[");
                }
                None => text.push_str("}\n"),
            }
        }
    }
}

fn texts<T, V: From<T> + Serialize>(page: Vec<T>) -> Vec<String> {
    page.into_iter().map(|item| text_of(&V::from(item))).collect()
}

fn text_of(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("personal data have only text keys")
}

/// Response with the personal data of a user as a file to download. If the storage fails, or the user is deleted
/// meanwhile, the connection is closed before the end of the file.
pub(crate) struct PersonalDataFile {
    user: UserId,
    text: PersonalDataText,
}

impl From<referral_core::PersonalData> for PersonalDataFile {
    fn from(data: referral_core::PersonalData) -> Self {
        Self { user: data.user.id, text: PersonalDataText::new(data) }
    }
}

impl IntoResponse for PersonalDataFile {
    fn into_response(self) -> Response {
        let parts = stream::try_unfold(self.text, |mut text| async move {
            let part = text.next_part().await.map_err(|error| {
                tracing::warn!(error = with_sources(&error), "failed to export the data of a user");
                io::Error::other("the export failed")
            })?;
            Ok::<_, io::Error>(part.map(|part| (part, text)))
        });
        Response::builder()
            .header(header::CONTENT_TYPE, Json::<PersonalData>::CONTENT_TYPE)
            .header(
                header::CONTENT_DISPOSITION,
                format!("attachment; filename=\"personal-data-{}.json\"", self.user),
            )
            .body(Body::from_bytes_stream(parts))
    }
}

impl ApiResponse for PersonalDataFile {
    fn meta() -> MetaResponses {
        Json::<PersonalData>::meta()
    }

    fn register(registry: &mut Registry) {
        <Json<PersonalData> as ApiResponse>::register(registry);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures_util::StreamExt as _;
    use referral_core::{
        CreateUser, PhoneNumber, ReferralService,
        audit::Reason,
        keys::{Peppers, SigningKeys},
        random::SystemRandom,
        sms::DevelopmentSender,
        storage::MemoryStorage,
    };

    use super::*;

    #[tokio::test]
    async fn file_of_a_user_that_is_deleted_meanwhile_breaks_off() {
        let (keys, peppers) = (SigningKeys::generate(&SystemRandom), Peppers::generate(&SystemRandom));
        let storage = Arc::new(MemoryStorage::new());
        let builder = ReferralService::builder(storage, Arc::new(DevelopmentSender), keys, peppers);
        let referral = builder.build().expect("valid");
        for is_deleted in [false, true] {
            let phone = PhoneNumber::parse("+79608543017", None).expect("valid");
            let user = referral.create_user(CreateUser::new(phone)).await.expect("created").user.id;
            let reason = Reason::parse("request 17").expect("valid");
            let data = referral.host_administration().personal_data(user, reason).await.expect("read");
            let response = PersonalDataFile::from(data).into_response();
            let mut parts = Box::pin(response.into_body().into_bytes_stream());
            let first = parts.next().await.expect("a part").expect("read");
            assert!(first.starts_with(b"{\"exported_at\":") && first.ends_with(b",\n\"sessions\":["));
            if is_deleted {
                referral.delete_user(user).await.expect("deleted");
            }
            let mut text = first.to_vec();
            let failure = loop {
                match parts.next().await {
                    Some(Ok(part)) => text.extend_from_slice(&part),
                    Some(Err(error)) => break Some(error.to_string()),
                    None => break None,
                }
            };
            assert_eq!(failure.as_deref(), is_deleted.then_some("the export failed"));
            assert_eq!(serde_json::from_slice::<serde_json::Value>(&text).is_err(), is_deleted);
            if !is_deleted {
                referral.delete_user(user).await.expect("deleted");
            }
        }
    }
}
