//! Phones of users who were not active for a long time, which may belong to another person.

use std::{sync::Arc, time::Duration};

use super::harness::{
    Harness, assert_refused, in_parallel, phone, with_right_code, with_wrong_code, without_challenge,
};
use crate::{
    audit::{Actor, AuditAction, AuditEntry, AuditQuery, FieldChange, Reason},
    error::refusal::Refusal,
    otp::sign_in::InvitationOutcome,
    policy::Policy,
    service::{sessions::CurrentUser, sign_in::SignIn, users::ListUsers},
    storage::Storage,
    user::{
        User, UserId,
        change::UserChange,
        email::Email,
        listing::{FilterInput, PageSize},
        name::Name,
        staff_role::StaffRole,
    },
};

const DAY: Duration = Duration::from_hours(24);

/// Silence after which the phone of a user may belong to another person, with these tests.
const SILENCE: Duration = Duration::from_hours(40 * 24);

fn recycling(storage: Arc<dyn Storage>) -> Harness {
    let policy = Policy { phones_recycled_after: Some(SILENCE), ..Policy::development() };
    Harness::with_policy(storage, policy)
}

fn because(reason: &str) -> Reason {
    Reason::parse(reason).expect("valid")
}

fn change_phone(number: Option<u32>) -> UserChange {
    UserChange { phone: Some(number.map(phone)), ..UserChange::default() }
}

impl Harness {
    async fn existing(&self, id: UserId) -> User {
        self.referral.find_user(id).await.expect("read").expect("existing user")
    }

    async fn phone_changes(&self, user: UserId) -> Vec<AuditEntry> {
        let query = AuditQuery::new().user(user).action(AuditAction::PhoneChanged).limit(PageSize::MAX);
        self.referral.host_administration().audit_log(&query).await.expect("read").entries
    }

    /// Returns the ids of the users that a search finds, and the number of them.
    async fn search(&self, current_user: &CurrentUser, search: &str) -> (Vec<UserId>, u64) {
        let filter = FilterInput { search: Some(search), ..FilterInput::default() };
        let list = ListUsers { filter, ..ListUsers::default() };
        let page = self.referral.users(current_user, list).await.expect("page");
        (page.items.iter().map(|user| user.id).collect(), page.count)
    }
}

/// After the silence, a code creates a new user. The old one keeps its data, and no list has it.
pub async fn silent_user_loses_the_phone_to_a_new_user(storage: Arc<dyn Storage>) {
    let harness = recycling(storage);
    let boris = harness.enter(2).await.user;
    let anna = harness.enter_invited(1, &boris).await;
    let change = UserChange {
        first_name: Some(Name::parse("Anna").ok()),
        email: Some(Email::parse("anna@example.com").ok()),
        ..UserChange::default()
    };
    let old = harness.referral.change_user(anna.user.id, change).await.expect("changed");
    let invitee = harness.enter_invited(3, &old).await.user;
    let invited_count = harness.existing(old.id).await.invited_count;
    harness.advance(SILENCE);
    let lost_at = harness.now();
    let new = harness.enter(1).await;
    assert!(new.created && new.user.id != old.id && new.user.invite_code != old.invite_code);
    assert_eq!((&new.user.phone, &new.user.email, new.user.invited_count), (&phone(1), &None, 0));
    assert!(new.user.invited_by.is_none() && new.user.has_phone());

    let stored = harness.existing(old.id).await;
    let expected = User { phone_detached_at: Some(lost_at), invited_count, ..old.clone() };
    assert_eq!(stored, expected);
    let found = harness.referral.find_user_by_phone(&phone(1)).await.expect("read");
    assert_eq!(found, Some(new.user.clone()));
    assert_refused(harness.referral.refresh(&anna.tokens.refresh).await, Refusal::TokenNotValid);

    let current_user = harness.current_user(&new).await;
    let listed: Vec<_> = harness.all_users(&current_user).await.iter().map(|user| user.id).collect();
    assert_eq!(listed, [new.user.id, invitee.id, boris.id]);
    let skipped = ListUsers { offset: Some(1), ..ListUsers::default() };
    let page = harness.referral.users(&current_user, skipped).await.expect("page");
    assert_eq!((page.items.len(), page.count), (2, 3));
    assert_eq!(harness.search(&current_user, "Anna").await, (vec![], 0));
    assert_eq!(harness.search(&current_user, &phone(1).as_str()[1..]).await, (vec![new.user.id], 1));
    for filter in [
        FilterInput { first_name: Some("Anna"), ..FilterInput::default() },
        FilterInput { email: Some("anna@example.com"), ..FilterInput::default() },
        FilterInput { invite_code: Some(old.invite_code.as_str()), ..FilterInput::default() },
        FilterInput { invited_by_code: Some(boris.invite_code.as_str()), ..FilterInput::default() },
    ] {
        let list = ListUsers { filter, ..ListUsers::default() };
        assert_eq!(harness.referral.users(&current_user, list).await.expect("page").items, []);
    }
    assert_refused(harness.referral.user(&current_user, old.id).await, Refusal::UserNotFound);
    let inviter = harness.referral.user(&current_user, boris.id).await.expect("visible");
    assert_eq!((inviter.invited.len(), inviter.invited_count), (0, 1), "the invitation stays");

    let entries = harness.phone_changes(old.id).await;
    let [entry] = &entries[..] else { panic!("{entries:?}") };
    assert_eq!((entry.actor, entry.at), (Actor::Host, lost_at));
    assert_eq!(entry.changes, [FieldChange::new("phone", Some(phone(1).as_str().to_owned()), None)]);
    assert_eq!(harness.phone_changes(new.user.id).await, []);
    assert_eq!(harness.storage.former_users(&phone(1), 10).await.expect("read"), [stored]);
    assert_eq!(harness.storage.former_users(&phone(2), 10).await.expect("read"), []);
}

/// A sign-in and a refresh are activity, to within a day.
pub async fn active_user_keeps_the_phone(storage: Arc<dyn Storage>) {
    let harness = recycling(storage);
    let anna = harness.enter(1).await;
    let signed_in_at = harness.now();
    assert_eq!(anna.user.last_active, Some(signed_in_at));
    harness.advance(Duration::from_secs(24 * 3_600 - 1));
    let refreshed = harness.referral.refresh(&anna.tokens.refresh).await.expect("refreshed");
    assert_eq!(harness.existing(anna.user.id).await.last_active, Some(signed_in_at), "stored once a day");
    harness.advance(Duration::from_secs(1));
    let refreshed = harness.referral.refresh(&refreshed.tokens.refresh).await.expect("refreshed");
    assert_eq!(harness.existing(anna.user.id).await.last_active, Some(signed_in_at + DAY));
    harness.advance(DAY * 29);
    harness.referral.refresh(&refreshed.tokens.refresh).await.expect("refreshed");
    harness.advance(SILENCE.saturating_sub(Duration::from_micros(1)));
    let again = harness.enter(1).await;
    assert_eq!((again.created, again.user.id), (false, anna.user.id));
    assert_eq!(again.user.last_active, Some(harness.now()));
    assert_eq!(harness.existing(anna.user.id).await, again.user);
}

/// An expired refresh token of the user is a second proof. Others are not.
pub async fn refresh_token_of_the_user_keeps_the_phone(storage: Arc<dyn Storage>) {
    let harness = recycling(storage);
    let [anna, boris] = [harness.enter(1).await, harness.enter(2).await];
    harness.advance(SILENCE);
    let sent = harness.sent_code(&phone(1)).await;
    let proven = with_right_code(&sent).refresh_token(anna.tokens.refresh.clone());
    let signed_in = harness.sign_in(proven).await.expect("signed in");
    assert_eq!((signed_in.created, signed_in.user.id), (false, anna.user.id));

    harness.advance(SILENCE);
    for (number, token) in [(1, &boris.tokens.refresh), (2, &boris.tokens.access)] {
        let sent = harness.sent_code(&phone(number)).await;
        let signed_in = harness.sign_in(with_right_code(&sent).refresh_token(token.clone())).await;
        assert!(signed_in.expect("signed in").created, "{number}");
    }
    harness.advance(SILENCE);
    let sent = harness.sent_code(&phone(1)).await;
    let signed_in = harness.sign_in(with_right_code(&sent).refresh_token("x".repeat(9_000))).await;
    assert!(signed_in.expect("signed in").created);
    assert_eq!(harness.storage.former_users(&phone(1), 1).await.expect("read").len(), 1);
    let former = harness.storage.former_users(&phone(1), 10).await.expect("read");
    assert_eq!(former.len(), 2);
    assert!(former[0].id > former[1].id && former[1].id == anna.user.id, "newest first");
}

/// Without the setting, a code opens the account after any time.
pub async fn phones_are_not_recycled_without_the_setting(storage: Arc<dyn Storage>) {
    let harness = Harness::with_policy(storage, Policy::development());
    let anna = harness.enter(1).await.user;
    harness.advance(DAY * 3_000);
    assert_eq!(harness.enter(1).await.user.id, anna.id);
}

/// A request that does not sign in leaves the phone with the silent user.
pub async fn refused_sign_in_leaves_the_phone(storage: Arc<dyn Storage>) {
    let harness = recycling(storage);
    harness.referral.make_staff(phone(1), StaffRole::Admin).await.expect("created");
    let anna = harness.enter(1).await.user;
    harness.advance(SILENCE);
    let sent = harness.sent_code(&phone(1)).await;
    assert_refused(harness.sign_in(with_wrong_code(&sent)).await, Refusal::InvalidCode);
    let refused = harness.sign_in(with_right_code(&sent).staff_only()).await;
    assert_refused(refused, Refusal::StaffOnly);
    let unknown = crate::InviteCode::parse("ZZZ999").ok();
    let refused = harness.sign_in(with_right_code(&sent).invited_by(unknown)).await;
    assert_refused(refused, Refusal::UnknownInviteCode);
    assert!(harness.existing(anna.id).await.has_phone());
    assert_eq!(harness.phone_changes(anna.id).await, []);

    let new = harness.sign_in(without_challenge(with_right_code(&sent))).await.expect("signed in");
    assert!(new.created && !new.user.is_staff(), "the new user has no rights");
    let admin = harness.existing(anna.id).await;
    assert!(!admin.has_phone() && !admin.is_active_admin());
}

/// A blocked user does not show that the phone had a user. A test number belongs to no person.
pub async fn blocked_users_lose_the_phone_and_test_numbers_do_not(storage: Arc<dyn Storage>) {
    let harness = recycling(storage);
    let anna = harness.enter(1).await.user;
    let block = UserChange { is_active: Some(false), ..UserChange::default() };
    harness.referral.change_user(anna.id, block).await.expect("blocked");
    assert_refused(harness.try_enter(&phone(1), None).await, Refusal::UserInactive);
    harness.advance(SILENCE);
    assert!(harness.enter(1).await.created);

    let expires_at = harness.now() + SILENCE * 3;
    let number = crate::policy::TestNumber::new(phone(2), "47110815", expires_at).expect("valid");
    let policy = Policy { test_numbers: vec![number], ..harness.referral.policy().clone() };
    let harness = harness.with_builder(|builder| builder.policy(policy));
    let sign_in = async || {
        let sent = harness.sent_code(&phone(2)).await;
        let code = crate::CodeInput::parse("47110815").expect("digits");
        harness.sign_in(SignIn::new(phone(2), code).challenge(sent.challenge)).await.expect("signed in")
    };
    let first = sign_in().await;
    harness.advance(SILENCE);
    assert_eq!(sign_in().await.user.id, first.user.id);
}

/// Concurrent sign-ins create one user, and detach the phone once.
pub async fn parallel_sign_ins_detach_a_phone_once(storage: Arc<dyn Storage>) {
    let harness = recycling(storage);
    let anna = harness.enter(1).await.user;
    harness.advance(SILENCE);
    let mut codes = Vec::new();
    for _ in 0..6 {
        codes.push(harness.sent_code(&phone(1)).await);
    }
    let signed_in = in_parallel(6, |number| {
        let (harness, sent) = (harness.clone(), codes[number as usize].clone());
        async move { harness.sign_in(with_right_code(&sent)).await.expect("signed in") }
    });
    let signed_in = signed_in.await;
    assert_eq!(signed_in.iter().filter(|signed_in| signed_in.created).count(), 1);
    assert!(signed_in.iter().all(|other| other.user.id == signed_in[0].user.id && other.user.id != anna.id));
    assert_eq!(harness.phone_changes(anna.id).await.len(), 1);
}

/// The invite code of a user without a phone is accepted, also from the new user of the phone.
pub async fn invite_code_of_a_user_without_a_phone_is_accepted(storage: Arc<dyn Storage>) {
    let harness = recycling(storage);
    let anna = harness.enter(1).await.user;
    harness.advance(SILENCE);
    let new = harness.enter_invited(1, &anna).await;
    assert_eq!((new.created, new.invitation), (true, InvitationOutcome::Accepted));
    harness.enter_invited(2, &anna).await;
    assert_eq!(harness.existing(anna.id).await.invited_count, 2);
}

/// Staff detach the phone from the new user and link it to the old one.
pub async fn staff_link_a_phone_to_its_old_user(storage: Arc<dyn Storage>) {
    let harness = recycling(storage);
    let change = UserChange { first_name: Some(Name::parse("Anna").ok()), ..UserChange::default() };
    let anna = harness.enter(1).await.user;
    let anna = harness.referral.change_user(anna.id, change).await.expect("changed");
    harness.advance(SILENCE);
    let new = harness.enter(1).await;
    let staff = harness.referral.host_administration();
    let details = staff.user(new.user.id).await.expect("visible");
    let former: Vec<_> = details.former_users.iter().map(|user| user.id).collect();
    assert_eq!(former, [anna.id]);
    let change = |id, number| staff.change_user(id, change_phone(number), because("showed a document"));

    assert_refused(change(anna.id, Some(1)).await, Refusal::PhoneTaken);
    let detached = change(new.user.id, None).await.expect("detached");
    assert_eq!((&detached.phone, detached.phone_detached_at), (&phone(1), Some(harness.now())));
    assert_eq!(harness.existing(new.user.id).await, detached);
    assert_refused(harness.referral.authenticate(&new.tokens.access).await, Refusal::TokenNotValid);
    let filter = FilterInput { search: Some("+7 960 800 00 01"), ..FilterInput::default() };
    let found = staff.find_users(ListUsers { filter, ..ListUsers::default() }).await.expect("page");
    let found: Vec<_> = found.items.iter().map(|user| user.id).collect();
    assert_eq!(found, [new.user.id, anna.id], "staff find users by the phone that they had");

    let linked = change(anna.id, Some(1)).await.expect("linked");
    assert_eq!((linked.has_phone(), linked.last_active), (true, Some(harness.now())));
    assert_eq!(harness.existing(anna.id).await, linked);
    let signed_in = harness.enter(1).await;
    assert_eq!((signed_in.created, signed_in.user.id), (false, anna.id));
    let current_user = harness.current_user(&signed_in).await;
    let listed: Vec<_> = harness.all_users(&current_user).await.iter().map(|user| user.id).collect();
    assert_eq!(listed, [anna.id]);
    assert_eq!(harness.search(&current_user, "Anna").await, (vec![anna.id], 1));
    assert_refused(change(new.user.id, Some(1)).await, Refusal::PhoneTaken);

    // A phone of a user can be replaced without a code of the new phone.
    let moved = change(anna.id, Some(3)).await.expect("changed");
    assert_eq!((&moved.phone, harness.existing(anna.id).await), (&phone(3), moved.clone()));
    assert_refused(harness.referral.authenticate(&signed_in.tokens.access).await, Refusal::TokenNotValid);
    let signed_in = harness.enter(3).await;
    let current_user = harness.current_user(&signed_in).await;
    assert_eq!(harness.search(&current_user, &phone(3).as_str()[1..]).await, (vec![anna.id], 1));
    assert_eq!(harness.search(&current_user, &phone(1).as_str()[1..]).await, (vec![], 0));
    assert!(harness.enter(1).await.created, "the phone before is free");
}

/// The last admin keeps the phone, and a user with a test number does not become an admin by it.
pub async fn staff_do_not_lose_their_last_admin_by_a_phone(storage: Arc<dyn Storage>) {
    let harness = recycling(storage);
    let admin = harness.referral.make_staff(phone(1), StaffRole::Admin).await.expect("created");
    let staff = harness.referral.host_administration();
    let detached = staff.change_user(admin.id, change_phone(None), because("x")).await;
    assert_refused(detached, Refusal::LastAdmin);
    let other = harness.referral.make_staff(phone(2), StaffRole::Admin).await.expect("created");
    staff.change_user(admin.id, change_phone(None), because("x")).await.expect("detached");
    // An admin without a phone cannot sign in.
    assert_refused(staff.delete_user(other.id, because("x")).await, Refusal::LastAdmin);
}

/// The data of a user without a phone are deleted, and those of the new user of the phone stay.
pub async fn user_without_a_phone_is_deleted(storage: Arc<dyn Storage>) {
    let harness = recycling(storage);
    let anna = harness.enter(1).await.user;
    harness.advance(SILENCE);
    let new = harness.enter(1).await;
    let sent = harness.sent_code(&phone(1)).await;
    let deleted = harness.referral.delete_user(anna.id).await.expect("deleted");
    assert_eq!(deleted.id, anna.id);
    assert_eq!(harness.referral.find_user(anna.id).await.expect("read"), None);
    assert_eq!(harness.storage.former_users(&phone(1), 10).await.expect("read"), []);
    let signed_in = harness.sign_in(with_right_code(&sent)).await.expect("the code stays valid");
    assert_eq!(signed_in.user.id, new.user.id);
    let current_user = harness.current_user(&signed_in).await;
    harness.assert_sound(&current_user).await;
}
