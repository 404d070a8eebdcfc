//! Everything that is stored about a user, for the user and for staff.
//!
//! A user may have a million invitees. So the lists are read page by page, by the methods of the storage for
//! pages, and no connection is held between two pages.

use time::OffsetDateTime;

use super::{ReferralService, administration::Administration, sessions::CurrentUser};
use crate::{
    audit::{AuditAction, AuditEntryId, AuditEntryView, AuditQuery, Reason},
    error::{Error, refusal::Refusal},
    events::Event,
    invite::invitation::Invitation,
    otp::code_request::CodeRequestView,
    session::{Session, SessionId},
    user::{
        User, UserId,
        listing::PageSize,
        staff_role::StaffRole,
        visibility::{InviteeView, Viewer},
    },
};

/// Everything that is stored about a user.
///
/// Lists of any length are read page by page, with [`next_page`](Self::next_page). The pages are read one
/// after the other, so a change that is made meanwhile may be in a later page only.
///
/// The data have no secrets. One-time codes, the counters of limits and ended sessions are not included: they
/// are data for security, and are deleted soon.
#[non_exhaustive]
pub struct PersonalData {
    /// Time of the export.
    pub at: OffsetDateTime,
    /// User.
    pub user: User,
    /// Invitation that the user accepted.
    pub invitation: Option<Invitation>,
    /// Requests to send and to redeem codes of the phone since the user joined, newest first. A storage keeps at most
    /// [`CodeRequest::MAX_PER_PHONE`](crate::CodeRequest::MAX_PER_PHONE) of them for each pepper.
    pub code_requests: Vec<CodeRequestView>,
    service: ReferralService,
    access: Access,
    next: Next,
}

/// Data of others that the reader may see.
struct Access {
    /// Complete phones of invitees.
    phones: bool,
    /// Ids of the authors of audit entries.
    authors: bool,
}

/// Start of the next page.
enum Next {
    Sessions(Option<SessionId>),
    AuditLog(Option<AuditEntryId>),
    Invited(Option<UserId>),
    End,
}

/// Page of a list of [`PersonalData`]. It has at least one item, and at most 100.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a reader must write each list")]
pub enum PersonalDataPage {
    /// Active sessions, newest first.
    Sessions(Vec<Session>),
    /// Entries of the audit log about the user, newest first.
    AuditLog(Vec<AuditEntryView>),
    /// Users that the user invited, newest first. The visibility for the reader applies to their phones.
    Invited(Vec<InviteeView>),
}

impl ReferralService {
    /// Returns everything that is stored about the current user. The authors of audit entries are shown
    /// without the ids of members of staff.
    ///
    /// # Errors
    ///
    /// [`Refusal::UserNotFound`] if the user has been deleted meanwhile.
    pub async fn personal_data(&self, current_user: &CurrentUser) -> Result<PersonalData, Error> {
        let user = self.find_user(current_user.user.id).await?.ok_or(Refusal::UserNotFound)?;
        let phones = Viewer::new(&user, self.policy().visibility).sees_private();
        self.read_personal_data(user, Access { phones, authors: false }).await
    }

    async fn read_personal_data(&self, user: User, access: Access) -> Result<PersonalData, Error> {
        Ok(PersonalData {
            at: self.now(),
            invitation: self.inner.storage.invitation(user.id).await?,
            code_requests: self.own_code_requests(&user).await?,
            user,
            service: self.clone(),
            access,
            next: Next::Sessions(None),
        })
    }

    /// Returns the records of the phone of a user. Records of a detached phone, and those from before the code with
    /// which the user signed up, may be about another person.
    async fn own_code_requests(&self, user: &User) -> Result<Vec<CodeRequestView>, Error> {
        if !user.has_phone() {
            return Ok(Vec::new());
        }
        let mut requests = self.all_code_requests(&user.phone).await?;
        let since = user.date_joined - self.policy().code_lifetime;
        requests.retain(|found| found.request.at >= since);
        Ok(requests)
    }
}

impl Administration {
    /// Returns everything that is stored about a user. The entry in the audit log is committed before, so it
    /// is part of the data.
    ///
    /// # Errors
    ///
    /// [`Refusal::AdminOnly`], [`Refusal::UserNotFound`].
    pub async fn personal_data(&self, id: UserId, reason: Reason) -> Result<PersonalData, Error> {
        self.require(StaffRole::Admin)?;
        let service = self.service();
        let user = service.find_user(id).await?.ok_or(Refusal::UserNotFound)?;
        let audit = service.audit_context(self.actor(), Some(reason));
        let entry = audit.entry(AuditAction::DataExported, Some(id), Vec::new());
        let recording = service.clone();
        let record = async move {
            recording.inner.storage.add_audit_entry(&entry).await?;
            recording.emit(Event::Audited(entry)).await;
            Ok(())
        };
        service.complete(record).await?;
        service.read_personal_data(user, Access { phones: true, authors: true }).await
    }
}

impl PersonalData {
    /// Returns the next page: first the pages of sessions, then those of the audit log, and then those of
    /// invitees. Returns `None` after the last page. After an error, the same page can be read again.
    ///
    /// # Errors
    ///
    /// [`Refusal::UserNotFound`] if the user has been deleted meanwhile: the pages so far are not complete.
    pub async fn next_page(&mut self) -> Result<Option<PersonalDataPage>, Error> {
        loop {
            let page = match self.next {
                Next::Sessions(older_than) => self.sessions(older_than).await?,
                Next::AuditLog(older_than) => self.audit_log(older_than).await?,
                Next::Invited(older_than) => self.invited(older_than).await?,
                Next::End => return Ok(None),
            };
            if page.is_some() {
                return Ok(page);
            }
        }
    }

    async fn sessions(&mut self, older_than: Option<SessionId>) -> Result<Option<PersonalDataPage>, Error> {
        let (storage, limit) = (&self.service.inner.storage, PageSize::MAX.get());
        let sessions = storage.sessions(self.user.id, self.at, older_than, limit).await?;
        let last = sessions.last().filter(|_| sessions.len() as u64 == u64::from(limit));
        self.next = last.map_or(Next::AuditLog(None), |last| Next::Sessions(Some(last.id)));
        Ok(Some(sessions).filter(|sessions| !sessions.is_empty()).map(PersonalDataPage::Sessions))
    }

    async fn audit_log(
        &mut self,
        older_than: Option<AuditEntryId>,
    ) -> Result<Option<PersonalDataPage>, Error> {
        let id = self.user.id;
        let query = AuditQuery::new().user(id).older_than(older_than).limit(PageSize::MAX);
        let page = self.service.inner.storage.audit_log(&query).await?;
        let last = page.entries.last().filter(|_| page.has_more);
        self.next = last.map_or(Next::Invited(None), |last| Next::AuditLog(Some(last.id)));
        let view = |entry| AuditEntryView::new(entry, id, self.access.authors);
        let entries: Vec<_> = page.entries.into_iter().map(view).collect();
        Ok(Some(entries).filter(|entries| !entries.is_empty()).map(PersonalDataPage::AuditLog))
    }

    /// Returns a page of invitees. It is read last and requires that the user exists, so a deletion during the
    /// export is not overlooked.
    async fn invited(&mut self, older_than: Option<UserId>) -> Result<Option<PersonalDataPage>, Error> {
        let storage = &self.service.inner.storage;
        let page = storage.invitees(self.user.id, older_than, PageSize::MAX).await?;
        let page = page.ok_or(Refusal::UserNotFound)?;
        let last = page.items.last().filter(|_| page.has_more);
        self.next = last.map_or(Next::End, |last| Next::Invited(Some(last.id)));
        let view = |invitee| InviteeView::new(invitee, self.access.phones);
        let invited: Vec<_> = page.items.iter().map(view).collect();
        Ok(Some(invited).filter(|invited| !invited.is_empty()).map(PersonalDataPage::Invited))
    }
}
