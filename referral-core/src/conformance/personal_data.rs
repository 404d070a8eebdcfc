//! Cases about the export of everything that is stored about a user.

use std::{sync::Arc, time::Duration};

use super::{
    harness::{Harness, assert_refused, phone, with_wrong_code},
    limits::MINUTE,
};
use crate::{
    audit::{
        Actor, AuditAction, AuditAuthor, AuditEntry, AuditEntryId, AuditEntryView, AuditQuery, FieldChange,
        Reason,
    },
    error::refusal::Refusal,
    invite::{code::InviteCode, invitation::AcceptedVia},
    policy::{Limits, Policy, Visibility},
    service::{
        personal_data::{PersonalData, PersonalDataPage},
        sign_in::SignedIn,
    },
    session::Session,
    storage::{ImportBatch, RecordedInvitation, RecordedUser, Storage, UserRecord},
    user::{
        User, UserId, change::UserChange, listing::PageSize, metadata::Metadata, name::Name,
        staff_role::StaffRole, visibility::InviteeView,
    },
};

const SECOND: Duration = Duration::from_secs(1);

fn because(reason: &str) -> Reason {
    Reason::parse(reason).expect("valid")
}

/// All pages of personal data.
#[derive(Debug, Default, PartialEq)]
struct Lists {
    sessions: Vec<Session>,
    audit_log: Vec<AuditEntryView>,
    invited: Vec<InviteeView>,
    /// Number of items of each page.
    pages: Vec<usize>,
}

async fn lists_of(data: &mut PersonalData) -> Lists {
    let mut lists = Lists::default();
    while let Some(page) = data.next_page().await.expect("read") {
        let number = match page {
            PersonalDataPage::Sessions(page) => {
                assert!(lists.audit_log.is_empty() && lists.invited.is_empty(), "one list after the other");
                lists.sessions.extend_from_slice(&page);
                page.len()
            }
            PersonalDataPage::AuditLog(page) => {
                assert!(lists.invited.is_empty(), "one list after the other");
                lists.audit_log.extend_from_slice(&page);
                page.len()
            }
            PersonalDataPage::Invited(page) => {
                lists.invited.extend_from_slice(&page);
                page.len()
            }
        };
        lists.pages.push(number);
    }
    assert_eq!(data.next_page().await.expect("read"), None, "the end stays the end");
    lists
}

impl Harness {
    async fn own_data(&self, signed_in: &SignedIn) -> PersonalData {
        let current_user = self.current_user(signed_in).await;
        self.referral.personal_data(&current_user).await.expect("read")
    }

    /// Imports users that `inviter` invited. Returns their ids, newest first.
    async fn import_invitees(&self, inviter: &User, number: u32) -> Vec<UserId> {
        let record = |number: u32| {
            let joined = self.now() - 3_600 * SECOND + number * SECOND;
            let user = User {
                id: UserId(uuid::Uuid::from_u128(
                    0x0190_0000_0000_7000_8000_0000_0000_0000 + u128::from(number),
                )),
                phone: phone(1_000 + number),
                invite_code: InviteCode::parse(&format!("B{number:05}")).expect("valid code"),
                invited_by: None,
                invited_count: 0,
                email: None,
                first_name: None,
                last_name: None,
                staff_role: None,
                is_active: true,
                date_joined: joined,
                last_login: None,
                last_active: None,
                deletion_at: None,
                phone_detached_at: None,
                external_id: None,
                metadata: Metadata::default(),
            };
            let invitation = RecordedInvitation {
                inviter: Some(inviter.id),
                code: inviter.invite_code.clone(),
                accepted_at: joined,
                via: AcceptedVia::Import,
            };
            UserRecord { user: RecordedUser::Present(Box::new(user)), invitation: Some(invitation) }
        };
        let records: Vec<_> = (0..number).map(record).collect();
        let ids = records.iter().rev().map(|record| record.user.id()).collect();
        self.storage.import_users(&ImportBatch::new(records)).await.expect("imported");
        ids
    }
}

/// The data of a user are complete, and have nothing of other users except what a profile shows.
pub async fn personal_data_are_complete_and_of_one_user(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    let (signed_in, staff) = harness.staff(9, StaffRole::Admin).await;
    let [anna, boris] = [harness.enter(1).await, harness.enter(2).await];
    let first = harness.enter_invited(3, &anna.user).await;
    harness.advance(MINUTE);
    let second = harness.enter_invited(4, &anna.user).await;
    let change = UserChange { first_name: Some(Name::parse("Anna").ok()), ..UserChange::default() };
    staff.change_user(anna.user.id, change, because("asked by phone")).await.expect("changed");
    let change =
        UserChange { invited_by_code: Some(Some(second.user.invite_code.clone())), ..UserChange::default() };
    staff.change_user(boris.user.id, change, because("other request")).await.expect("changed");
    harness.advance(MINUTE);
    let again = harness.enter(1).await;
    let sent = harness.sent_code(&phone(1)).await;
    assert_refused(harness.sign_in(with_wrong_code(&sent)).await, Refusal::InvalidCode);

    let mut data = harness.own_data(&anna).await;
    assert_eq!((data.at, data.user.clone()), (harness.now(), harness.find(anna.user.id).await));
    assert_eq!(data.user.first_name, Name::parse("Anna").ok());
    assert_eq!(data.invitation, None);
    let mut outcomes: Vec<_> = data.code_requests.iter().map(|view| view.request.outcome.as_str()).collect();
    outcomes.sort_unstable();
    assert_eq!(outcomes, ["redeemed", "redeemed", "refused", "sent", "sent", "sent"]);
    assert_eq!(data.code_requests, harness.referral.code_requests(&phone(1)).await.expect("read"));
    let lists = lists_of(&mut data).await;
    let current_user = harness.current_user(&anna).await;
    assert_eq!(lists.sessions, harness.referral.sessions(&current_user).await.expect("read"));
    let sessions: Vec<_> = lists.sessions.iter().map(|session| session.id).collect();
    assert_eq!(sessions, [harness.current_user(&again).await.session, current_user.session]);
    let [entry] = &lists.audit_log[..] else { panic!("{lists:?}") };
    let expected = AuditEntryView {
        author: AuditAuthor::Staff,
        author_id: None,
        action: AuditAction::UserChanged,
        reason: Some(because("asked by phone")),
        changes: vec![FieldChange::new("first_name", None, Some("Anna".into()))],
        ..entry.clone()
    };
    assert_eq!(*entry, expected);
    assert_eq!(lists.invited, harness.profile(&anna).await.invited);
    let invited: Vec<_> = lists.invited.iter().map(|invitee| invitee.id).collect();
    assert_eq!(invited, [second.user.id, first.user.id]);

    let data = staff.personal_data(boris.user.id, because("request 17")).await;
    let mut data = data.expect("read");
    let invitation = harness.storage.invitation(boris.user.id).await.expect("read");
    assert_eq!(data.invitation, invitation);
    assert_eq!(invitation.map(|invitation| invitation.inviter), Some(second.user.id));
    let lists = lists_of(&mut data).await;
    let authors: Vec<_> = lists.audit_log.iter().map(|entry| (entry.action, entry.author_id)).collect();
    let (exported, changed) = (AuditAction::DataExported, AuditAction::UserChanged);
    assert_eq!(authors, [(exported, Some(signed_in.user.id)), (changed, Some(signed_in.user.id))]);
    assert_eq!((lists.sessions.len(), lists.invited.len()), (1, 0));
}

/// The phones of invitees are masked for the user if they are masked in the profile. Staff see them.
pub async fn phones_in_personal_data_depend_on_the_visibility(storage: Arc<dyn Storage>) {
    let standard = Harness::new(storage);
    let anna = standard.enter(1).await;
    standard.enter_invited(2, &anna.user).await;
    for visibility in [Visibility::Full, Visibility::Masked, Visibility::Staff] {
        let policy = Policy { visibility, ..Policy::standard() };
        let harness = standard.with_builder(|builder| builder.policy(policy));
        let own = lists_of(&mut harness.own_data(&anna).await).await.invited;
        assert_eq!(own, harness.profile(&anna).await.invited);
        assert_eq!(own[0].phone.as_str().contains('*'), visibility != Visibility::Full, "{visibility:?}");
        let host = harness.referral.host_administration();
        let mut data = host.personal_data(anna.user.id, because("request 17")).await.expect("read");
        assert_eq!(lists_of(&mut data).await.invited[0].phone.as_str(), phone(2).as_str());
    }
}

/// An export by an admin has an entry in the audit log. Others export nothing, and add no entry.
pub async fn exports_by_staff_are_recorded(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    let (signed_in, admin) = harness.staff(9, StaffRole::Admin).await;
    let (_, support) = harness.staff(8, StaffRole::Support).await;
    let anna = harness.enter(1).await.user;
    let refused = support.personal_data(anna.id, because("x")).await.map(|data| data.user);
    assert_refused(refused, Refusal::AdminOnly);
    let unknown = UserId(uuid::Uuid::nil());
    let refused = admin.personal_data(unknown, because("x")).await.map(|data| data.user);
    assert_refused(refused, Refusal::UserNotFound);
    let query = AuditQuery::new().action(AuditAction::DataExported);
    assert_eq!(admin.audit_log(&query).await.expect("read").entries, []);

    // The entry is committed before the first page is read.
    drop(admin.personal_data(anna.id, because("request 17")).await.expect("read"));
    let entries = admin.audit_log(&query).await.expect("read").entries;
    let [entry] = &entries[..] else { panic!("{entries:?}") };
    let expected = AuditEntry {
        id: entry.id,
        at: harness.now(),
        actor: Actor::User(signed_in.user.id),
        action: AuditAction::DataExported,
        user: Some(anna.id),
        reason: Some(because("request 17")),
        changes: Vec::new(),
    };
    assert_eq!(*entry, expected);
}

/// Each page follows the previous one, without gaps and duplicates, also if the item at its end is deleted.
pub async fn personal_data_are_read_in_pages(storage: Arc<dyn Storage>) {
    let policy = Policy { codes_per_phone: Limits::off(), ..Policy::development() };
    let harness = Harness::with_policy(storage, policy);
    let anna = harness.enter(1).await;
    let mut invitees = harness.import_invitees(&anna.user, 230).await;
    let host = harness.referral.host_administration();
    for _ in 0..101 {
        harness.enter(1).await;
        host.personal_data(anna.user.id, because("x")).await.expect("read");
        harness.advance(SECOND);
    }
    let mut data = harness.own_data(&anna).await;
    let lists = lists_of(&mut data).await;
    assert_eq!(lists.pages, [100, 2, 100, 1, 100, 100, 30]);
    assert!(lists.sessions.windows(2).all(|pair| pair[0].id > pair[1].id));
    assert!(lists.audit_log.windows(2).all(|pair| pair[0].id > pair[1].id));
    assert_eq!(lists.invited.iter().map(|invitee| invitee.id).collect::<Vec<_>>(), invitees);

    // Users are deleted before the export, at the end of a page during it, and just after that.
    harness.referral.delete_user(invitees[3]).await.expect("deleted");
    invitees.remove(3);
    let mut data = harness.own_data(&anna).await;
    let mut listed: Vec<UserId> = Vec::new();
    while let Some(page) = data.next_page().await.expect("read") {
        let PersonalDataPage::Invited(page) = page else { continue };
        if listed.is_empty() {
            assert_eq!(page.last().map(|invitee| invitee.id), Some(invitees[99]));
            for index in [99, 100] {
                harness.referral.delete_user(invitees[index]).await.expect("deleted");
            }
            invitees.remove(100);
        }
        listed.extend(page.iter().map(|invitee| invitee.id));
    }
    assert_eq!(listed, invitees);
}

/// An export of a user that is deleted meanwhile fails, and an entry about it has no reason.
pub async fn export_of_a_deleted_user_fails(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    let [anna, boris] = [harness.enter(1).await, harness.enter(2).await];
    let current_user = harness.current_user(&anna).await;
    let mut data = harness.own_data(&anna).await;
    assert!(matches!(data.next_page().await, Ok(Some(PersonalDataPage::Sessions(_)))));
    harness.referral.delete_user(anna.user.id).await.expect("deleted");
    for _ in 0..2 {
        assert_refused(data.next_page().await, Refusal::UserNotFound);
    }
    let refused = harness.referral.personal_data(&current_user).await.map(|data| data.user);
    assert_refused(refused, Refusal::UserNotFound);

    let host = harness.referral.host_administration();
    for user in [anna.user.id, boris.user.id] {
        let entry = AuditEntry {
            id: AuditEntryId(harness.referral.generate_id()),
            at: harness.now(),
            actor: Actor::Host,
            action: AuditAction::DataExported,
            user: Some(user),
            reason: Some(because("call from Anna")),
            changes: vec![FieldChange::new("email", None, Some("anna@example.com".into()))],
        };
        harness.storage.add_audit_entry(&entry).await.expect("added");
        let query = AuditQuery::new().user(user).limit(PageSize::MAX);
        let expected = if user == anna.user.id { entry.erased() } else { entry };
        assert_eq!(host.audit_log(&query).await.expect("read").entries, [expected]);
    }
}
