//! Changes by staff, and their entries in the audit log.

use std::{sync::Arc, time::Duration};

use super::harness::{Harness, assert_refused, in_parallel, phone, with_right_code, with_wrong_code};
use crate::{
    ClientAddress,
    audit::{Actor, AuditAction, AuditEntry, AuditQuery, FieldChange, Reason},
    error::{Error, refusal::Refusal},
    rate_limit::client::Client,
    service::{administration::Administration, send_code::SendCode, sign_in::SignedIn, users::ListUsers},
    storage::Storage,
    user::{
        User, UserId,
        change::UserChange,
        email::Email,
        external_id::ExternalId,
        listing::{FilterInput, PageSize},
        name::Name,
        staff_role::StaffRole,
    },
};

fn because(reason: &str) -> Reason {
    Reason::parse(reason).expect("valid")
}

fn block() -> UserChange {
    UserChange { is_active: Some(false), ..UserChange::default() }
}

fn invited_by(inviter: Option<&User>) -> UserChange {
    UserChange {
        invited_by_code: Some(inviter.map(|user| user.invite_code.clone())),
        ..UserChange::default()
    }
}

fn role(role: Option<StaffRole>) -> UserChange {
    UserChange { staff_role: Some(role), ..UserChange::default() }
}

impl Harness {
    /// Returns the operations of a new member of staff, who has signed in.
    pub(super) async fn staff(&self, number: u32, role: StaffRole) -> (SignedIn, Administration) {
        self.referral.make_staff(phone(number), role).await.expect("created");
        let signed_in = self.enter(number).await;
        let current_user = self.current_user(&signed_in).await;
        let administration = self.referral.administration(&current_user).expect("staff");
        (signed_in, administration)
    }

    async fn entries(&self, query: AuditQuery) -> Vec<AuditEntry> {
        let host = self.referral.host_administration();
        host.audit_log(&query.limit(PageSize::MAX)).await.expect("read").entries
    }

    pub(super) async fn entries_about(&self, user: UserId) -> Vec<AuditEntry> {
        self.entries(AuditQuery::new().user(user)).await
    }
}

/// Each change by staff has an entry with its author, its reason and both values.
pub async fn changes_by_staff_are_recorded(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    let (admin, staff) = harness.staff(9, StaffRole::Admin).await;
    let anna = harness.enter(1).await.user;
    let change = UserChange {
        first_name: Some(Name::parse("Anna").ok()),
        email: Some(Email::parse("anna@example.com").ok()),
        ..UserChange::default()
    };
    let changed = staff.change_user(anna.id, change, because("asked by phone")).await.expect("changed");
    assert_eq!(changed, harness.find(anna.id).await);
    assert_eq!(changed.first_name, Name::parse("Anna").ok());

    let entries = harness.entries_about(anna.id).await;
    let [entry] = &entries[..] else { panic!("{entries:?}") };
    assert_eq!((entry.actor, entry.action), (Actor::User(admin.user.id), AuditAction::UserChanged));
    assert_eq!(
        (entry.at, entry.reason.as_ref().map(Reason::as_str)),
        (harness.now(), Some("asked by phone"))
    );
    assert_eq!(entry.changes, FieldChange::between(&anna, &changed));
    assert_eq!(entry.changes[0].after.as_deref(), Some("anna@example.com"));

    // The search keys of the next values are the same.
    let name = |name| Some(Name::parse(name).ok());
    let change = UserChange { first_name: name("ANNA"), ..UserChange::default() };
    let upper = staff.change_user(anna.id, change, because("x")).await.expect("changed");
    assert_eq!(
        (harness.find(anna.id).await, upper.first_name.as_ref()),
        (upper.clone(), Name::parse("ANNA").ok().as_ref())
    );
    let change = UserChange { first_name: Some(None), last_name: name("ANNA"), ..UserChange::default() };
    let moved = staff.change_user(anna.id, change, because("x")).await.expect("changed");
    assert_eq!((harness.find(anna.id).await, moved.first_name.is_none()), (moved, true));
    let change = UserChange { first_name: name("Anna"), last_name: Some(None), ..UserChange::default() };
    staff.change_user(anna.id, change, because("x")).await.expect("changed");

    // The search uses the new values.
    let filter = FilterInput { search: Some("anna@exam"), ..FilterInput::default() };
    let found = staff.find_users(ListUsers { filter, ..ListUsers::default() }).await.expect("page");
    assert_eq!(found.items, [changed]);
}

/// A change that is refused, or changes nothing, adds no entry.
pub async fn refused_changes_are_not_recorded(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    let (_, staff) = harness.staff(9, StaffRole::Admin).await;
    let [anna, boris] = [harness.enter(1).await.user, harness.enter(2).await.user];
    let email = |email| UserChange { email: Some(Email::parse(email).ok()), ..UserChange::default() };
    staff.change_user(boris.id, email("b@example.com"), because("x")).await.expect("changed");
    let taken = staff.change_user(anna.id, email("b@example.com"), because("x")).await;
    assert_refused(taken, Refusal::EmailTaken);
    let unknown_user = UserId(uuid::Uuid::nil());
    assert_refused(staff.change_user(unknown_user, block(), because("x")).await, Refusal::UserNotFound);
    assert_refused(staff.end_sessions(unknown_user, because("x")).await, Refusal::UserNotFound);
    assert_refused(staff.delete_user(unknown_user, because("x")).await, Refusal::UserNotFound);
    staff.change_user(anna.id, UserChange::default(), because("x")).await.expect("no change");
    assert_eq!(harness.entries_about(anna.id).await, []);
    assert_eq!(harness.find(anna.id).await, anna);
}

/// Support may read, unlock phones and end sessions. Other users have no rights.
pub async fn each_role_has_its_rights(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    let (signed_in, support) = harness.staff(8, StaffRole::Support).await;
    let anna = harness.enter(1).await;
    let id = anna.user.id;
    assert_refused(support.change_user(id, block(), because("x")).await, Refusal::AdminOnly);
    assert_refused(support.delete_user(id, because("x")).await, Refusal::AdminOnly);
    let promotion = support.change_user(signed_in.user.id, role(Some(StaffRole::Admin)), because("x")).await;
    assert_refused(promotion, Refusal::AdminOnly);
    assert_eq!(support.user(id).await.expect("visible").sessions.len(), 1);
    support.unlock_phone(phone(1), because("x")).await.expect("unlocked");
    harness.advance(Duration::from_secs(1));
    assert_eq!(support.end_sessions(id, because("x")).await.expect("ended"), 1);
    let admin = harness.referral.make_staff(phone(7), StaffRole::Admin).await.expect("created");
    assert_refused(support.end_sessions(admin.id, because("x")).await, Refusal::AdminOnly);
    assert_refused(support.unlock_phone(phone(7), because("x")).await, Refusal::AdminOnly);
    let entries = harness.entries(AuditQuery::new().actor(Actor::User(signed_in.user.id))).await;
    let actions: Vec<_> = entries.iter().map(|entry| entry.action).collect();
    assert_eq!(actions, [AuditAction::SessionsEnded, AuditAction::PhoneUnlocked]);

    let boris = harness.current_user(&harness.enter(2).await).await;
    assert_refused(harness.referral.administration(&boris).map(drop), Refusal::StaffOnly);
}

/// A blocked user is signed out at once, and stays signed out after the account is unblocked.
pub async fn blocked_user_is_signed_out(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    let (_, staff) = harness.staff(9, StaffRole::Admin).await;
    let anna = harness.enter(1).await;
    staff.change_user(anna.user.id, block(), because("spam")).await.expect("blocked");
    let access = &anna.tokens.access;
    assert_refused(harness.referral.authenticate(access).await, Refusal::TokenNotValid);
    assert_refused(harness.try_enter(&phone(1), None).await, Refusal::UserInactive);
    let unblock = UserChange { is_active: Some(true), ..UserChange::default() };
    staff.change_user(anna.user.id, unblock, because("mistake")).await.expect("unblocked");
    assert_refused(harness.referral.authenticate(access).await, Refusal::TokenNotValid);
    assert_eq!(staff.user(anna.user.id).await.expect("visible").sessions, []);
}

/// Staff set, replace and remove the inviter of a user. The counts and lists of all inviters follow.
pub async fn inviter_is_set_replaced_and_removed(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    let (signed_in, staff) = harness.staff(9, StaffRole::Admin).await;
    let [anna, boris, vera] =
        [harness.enter(1).await.user, harness.enter(2).await.user, harness.enter(3).await.user];
    let current_user = harness.current_user(&signed_in).await;
    for inviter in [Some(&boris), Some(&vera), None, Some(&boris)] {
        let changed = staff.change_user(anna.id, invited_by(inviter), because("x")).await.expect("changed");
        assert_eq!(changed, harness.find(anna.id).await);
        assert_eq!(changed.invited_by.map(|by| by.inviter), inviter.map(|user| user.id));
        let details = staff.user(anna.id).await.expect("visible");
        assert_eq!(details.inviter.map(|user| user.id), inviter.map(|user| user.id));
        assert_eq!(details.invitation.map(|invitation| invitation.invitee), inviter.map(|_| anna.id));
        for user in [&boris, &vera] {
            let is_inviter = inviter.is_some_and(|inviter| inviter.id == user.id);
            let details = staff.user(user.id).await.expect("visible");
            assert_eq!(details.user.invited_count, u64::from(is_inviter));
            assert_eq!(details.invited.len(), usize::from(is_inviter));
            let filter = FilterInput { search: Some(user.invite_code.as_str()), ..FilterInput::default() };
            let found = staff.find_users(ListUsers { filter, ..ListUsers::default() }).await.expect("page");
            assert_eq!(found.items.iter().any(|found| found.id == anna.id), is_inviter, "search keys");
        }
        harness.assert_sound(&current_user).await;
    }
    let own = staff.change_user(boris.id, invited_by(Some(&boris)), because("x")).await;
    assert_refused(own, Refusal::OwnInviteCode);
    let looped = staff.change_user(boris.id, invited_by(Some(&anna)), because("x")).await;
    assert_refused(looped, Refusal::InvitationLoop);
    assert_eq!(harness.find(boris.id).await.invited_by, None);
}

/// Of concurrent changes that would form a loop of inviters, at least one is refused.
pub async fn parallel_inviters_by_staff_leave_no_loop(storage: Arc<dyn Storage>) {
    const USERS: usize = 4;
    let harness = Harness::new(storage);
    let (signed_in, staff) = harness.staff(9, StaffRole::Admin).await;
    let mut users = Vec::new();
    for number in 0..4 {
        users.push(harness.enter(number).await.user);
    }
    let results = in_parallel(4, |number| {
        let (staff, users) = (staff.clone(), users.clone());
        async move {
            let number = number as usize;
            let inviter = invited_by(Some(&users[(number + 1) % USERS]));
            staff.change_user(users[number].id, inviter, because("x")).await
        }
    });
    let refused: Vec<_> = results.await.into_iter().filter(Result::is_err).collect();
    assert_eq!(refused.len(), 1);
    for refused in refused {
        assert_refused(refused, Refusal::InvitationLoop);
    }
    harness.assert_sound(&harness.current_user(&signed_in).await).await;
}

/// Concurrent changes and deletions leave an active admin.
pub async fn parallel_demotions_leave_an_admin(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    let mut admins = Vec::new();
    for number in 0..6 {
        admins.push(harness.referral.make_staff(phone(number), StaffRole::Admin).await.expect("created").id);
    }
    let results = in_parallel(6, |number| {
        let (host, id) = (harness.referral.host_administration(), admins[number as usize]);
        async move {
            match number % 3 {
                0 => host.change_user(id, role(None), because("x")).await,
                1 => host.change_user(id, block(), because("x")).await,
                _ => host.delete_user(id, because("x")).await,
            }
        }
    });
    let refused: Vec<_> = results.await.into_iter().filter(Result::is_err).collect();
    assert_eq!(refused.len(), 1);
    for refused in refused {
        assert_refused(refused, Refusal::LastAdmin);
    }
}

/// After a phone is unlocked, none of its earlier codes and wrong codes count. Other counters stay.
pub async fn unlocked_phone_is_not_limited(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    let staff = harness.referral.host_administration();
    let refused = loop {
        match harness.send_code(&phone(1)).await {
            Ok(_) => harness.advance(Duration::from_secs(61)),
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, Error::Refused(Refusal::TooManyRequests { .. })), "{refused:?}");
    let entry = staff.unlock_phone(phone(1), because("asked by phone")).await.expect("unlocked");
    assert_eq!((entry.action, entry.user), (AuditAction::PhoneUnlocked, None), "the phone has no user");
    let shown = entry.changes[0].before.as_deref().expect("a masked phone");
    assert!(shown.contains('*') && shown != phone(1).as_str(), "{shown}");
    let sent = harness.sent_code(&phone(1)).await;
    assert_refused(harness.sign_in(with_wrong_code(&sent)).await, Refusal::InvalidCode);
    let user = harness.sign_in(with_right_code(&sent)).await.expect("signed in").user.id;
    let entry = staff.unlock_phone(phone(1), because("again")).await.expect("unlocked");
    assert_eq!(entry.user, Some(user));
}

/// Unlocking a phone deletes the counter of the phone, and of the phone with each address, and no others.
pub async fn unlocking_deletes_the_counters_of_the_phone(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    let mut rows = Vec::new();
    // The phones are in different number ranges.
    for (number, unlocks) in [(1, false), (5_001, true), (9_001, false)] {
        let address: ClientAddress = "192.0.2.1".parse().expect("valid");
        let client = Client { address: Some(address), ..Client::default() };
        harness.referral.send_code(SendCode::new(phone(number)).client(client)).await.expect("sent");
        if unlocks {
            let reason = because("asked by phone");
            harness
                .referral
                .host_administration()
                .unlock_phone(phone(number), reason)
                .await
                .expect("unlocked");
        }
        rows.push(harness.delete_before(harness.now() + Duration::from_hours(1_000), 1_000).await);
        harness.advance(Duration::from_hours(2));
    }
    assert_eq!(rows, [rows[0], rows[0] - 2, rows[0]]);
}

/// The entries about a deleted user keep no personal data. The deletion itself is recorded.
pub async fn entries_about_a_deleted_user_are_erased(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    let (admin, staff) = harness.staff(9, StaffRole::Admin).await;
    let [anna, boris] = [harness.enter(1).await.user, harness.enter(2).await.user];
    for user in [&anna, &boris] {
        let change = UserChange { first_name: Some(Name::parse("Anna").ok()), ..UserChange::default() };
        staff.change_user(user.id, change, because("call from Anna")).await.expect("changed");
    }
    harness.advance(Duration::from_secs(1));
    staff.delete_user(anna.id, because("request 17")).await.expect("deleted");
    let entries = harness.entries_about(anna.id).await;
    let [deleted, changed] = &entries[..] else { panic!("{entries:?}") };
    assert_eq!((deleted.action, deleted.actor), (AuditAction::UserDeleted, Actor::User(admin.user.id)));
    assert_eq!(deleted.reason.as_ref().map(Reason::as_str), Some("request 17"));
    assert_eq!((&changed.reason, &changed.changes[..]), (&None, &[][..]));
    assert_eq!(changed.action, AuditAction::UserChanged);
    assert_eq!(harness.entries_about(boris.id).await[0].changes.len(), 1, "entries about others are kept");
}

/// The audit log is read in pages, with each filter.
pub async fn audit_log_is_filtered_and_paged(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    let (admin, staff) = harness.staff(9, StaffRole::Admin).await;
    let anna = harness.enter(1).await.user;
    for number in 0..7 {
        let id = ExternalId::parse(&number.to_string()).ok();
        let change = UserChange { external_id: Some(id), ..UserChange::default() };
        staff.change_user(anna.id, change, because("x")).await.expect("changed");
        harness.advance(Duration::from_secs(1));
    }
    staff.end_sessions(anna.id, because("x")).await.expect("ended");
    let all = harness.entries(AuditQuery::new()).await;
    assert_eq!(all.len(), 9, "with the entry about the admin");
    assert!(all.windows(2).all(|pair| pair[0].id > pair[1].id));
    for (query, expected) in [
        (AuditQuery::new().user(anna.id), 8),
        (AuditQuery::new().action(AuditAction::SessionsEnded), 1),
        (AuditQuery::new().action(AuditAction::UserChanged).user(anna.id), 7),
        (AuditQuery::new().actor(Actor::User(admin.user.id)), 8),
        (AuditQuery::new().actor(Actor::Host), 1),
        (AuditQuery::new().actor(Actor::Host).user(anna.id), 0),
        (AuditQuery::new().actor(Actor::User(admin.user.id)).action(AuditAction::SessionsEnded), 1),
    ] {
        let filtered: Vec<_> = all.iter().filter(|entry| query.matches(entry)).cloned().collect();
        assert_eq!(filtered.len(), expected, "{query:?}");
        let limit = PageSize::new(3).expect("in range");
        let (mut paged, mut last) = (Vec::new(), None);
        loop {
            let page = staff.audit_log(&query.limit(limit).older_than(last)).await.expect("read");
            assert!(page.entries.len() <= 3 && (page.entries.len() == 3 || !page.has_more));
            last = page.entries.last().map(|entry| entry.id);
            paged.extend(page.entries);
            if !page.has_more {
                break;
            }
        }
        assert_eq!(paged, filtered, "{query:?}");
    }
}

/// Staff find a user by the id, the external id, and the phone in any form.
pub async fn staff_find_users_by_anything(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    let (_, staff) = harness.staff(9, StaffRole::Support).await;
    let anna = harness.enter(1).await.user;
    let change = UserChange { external_id: Some(ExternalId::parse("crm|17").ok()), ..UserChange::default() };
    harness.referral.change_user(anna.id, change).await.expect("changed");
    let id = anna.id.to_string();
    for search in
        [&id, " crm|17 ", "+7 (960) 800-00-01", "8 960 800-00-01", "608-000-001", &id.to_uppercase()]
    {
        let filter = FilterInput { search: Some(search), ..FilterInput::default() };
        let page = staff.find_users(ListUsers { filter, ..ListUsers::default() }).await.expect("page");
        let found: Vec<_> = page.items.iter().map(|user| user.id).collect();
        assert_eq!((found, page.count), (vec![anna.id], 1), "{search}");
    }
    let filter = FilterInput { search: Some("crm|18"), ..FilterInput::default() };
    let page = staff.find_users(ListUsers { filter, ..ListUsers::default() }).await.expect("page");
    assert_eq!((page.items, page.count), (vec![], 0));
}

/// Added and promoted staff are recorded, also those of the host.
pub async fn new_staff_are_recorded(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    let anna = harness.enter(1).await.user;
    let support = Some("support".to_owned());
    harness.referral.make_staff(phone(1), StaffRole::Support).await.expect("promoted");
    harness.referral.make_staff(phone(1), StaffRole::Support).await.expect("no change");
    harness.advance(Duration::from_secs(1));
    harness.referral.make_staff(phone(1), StaffRole::Admin).await.expect("promoted");
    let kept = harness.referral.make_staff(phone(1), StaffRole::Support).await.expect("no change");
    assert_eq!(kept.staff_role, Some(StaffRole::Admin));
    harness.advance(Duration::from_secs(1));
    let boris = harness.referral.make_staff(phone(2), StaffRole::Admin).await.expect("created");
    let changes = |before, after| vec![FieldChange::new("staff_role", before, after)];
    let entries = harness.entries(AuditQuery::new().actor(Actor::Host)).await;
    let entries: Vec<_> =
        entries.into_iter().rev().map(|entry| (entry.action, entry.user, entry.changes)).collect();
    let admin = Some("admin".to_owned());
    assert_eq!(
        entries,
        [
            (AuditAction::UserChanged, Some(anna.id), changes(None, support.clone())),
            (AuditAction::UserChanged, Some(anna.id), changes(support, admin.clone())),
            (AuditAction::UserAdded, Some(boris.id), changes(None, admin)),
        ]
    );
}
