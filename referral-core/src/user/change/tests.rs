//! Tests of changes by the host or by staff.

use super::*;
use crate::{
    audit::{Actor, AuditEntryId, Reason},
    user::tests::user,
};

fn id(id: &str) -> Option<ExternalId> {
    ExternalId::parse(id).ok()
}

fn anna() -> User {
    let metadata = r#"{"plan":"gold"}"#.parse().expect("valid");
    User {
        first_name: Name::parse("Anna").ok(),
        email: Email::parse("anna@example.com").ok(),
        external_id: id("a1"),
        metadata,
        ..user(1)
    }
}

fn admin() -> User {
    User { staff_role: Some(StaffRole::Admin), ..anna() }
}

fn request(change: UserChange) -> UserChangeRequest {
    let audit = AuditContext {
        id: AuditEntryId(uuid::Uuid::from_u128(7)),
        at: OffsetDateTime::UNIX_EPOCH,
        actor: Actor::User(user(9).id),
        reason: Reason::parse("asked by phone").ok(),
    };
    UserChangeRequest {
        user: user(1).id,
        change,
        now: OffsetDateTime::UNIX_EPOCH,
        policy: Arc::new(Policy::standard()),
        audit: Some(audit),
    }
}

fn facts(user: User) -> UserChangeFacts {
    UserChangeFacts { user: Some(user), ..UserChangeFacts::default() }
}

fn decide(change: UserChange, facts: &UserChangeFacts) -> UserChangeDecision {
    request(change).decide(facts)
}

fn refusal(change: UserChange, facts: &UserChangeFacts) -> Option<Refusal> {
    let Decision { writes, outcome } = decide(change, facts);
    let refusal = outcome.err();
    assert!(refusal.is_none() || writes == UserChangeWrites::default(), "a refusal writes nothing");
    refusal
}

/// Facts of a change to the inviter Boris.
fn invited_by_boris(user: User, ancestry: Ancestry) -> (UserChange, UserChangeFacts) {
    let boris = self::user(2);
    let change =
        UserChange { invited_by_code: Some(Some(boris.invite_code.clone())), ..UserChange::default() };
    let inviter = Some(Inviter { id: boris.id, code: boris.invite_code });
    (change, UserChangeFacts { inviter, ancestry, ..facts(user) })
}

#[test]
fn absent_fields_are_kept() {
    let none = UserChange::default;
    for (change, expected) in [
        (UserChange { first_name: Some(None), ..none() }, User { first_name: None, ..anna() }),
        (UserChange { email: Some(None), ..none() }, User { email: None, ..anna() }),
        (UserChange { is_active: Some(false), ..none() }, User { is_active: false, ..anna() }),
        (
            UserChange { staff_role: Some(Some(StaffRole::Support)), ..none() },
            User { staff_role: Some(StaffRole::Support), ..anna() },
        ),
        (UserChange { external_id: Some(id("a2")), ..none() }, User { external_id: id("a2"), ..anna() }),
        (UserChange { external_id: Some(None), ..none() }, User { external_id: None, ..anna() }),
        (
            UserChange { metadata: Some(Metadata::default()), ..none() },
            User { metadata: Metadata::default(), ..anna() },
        ),
    ] {
        let Decision { writes, outcome } = decide(change, &facts(anna()));
        assert_eq!(outcome.map(|changed| changed.user), Ok(expected.clone()));
        let entry = writes.audit.expect("an entry");
        assert_eq!(entry.changes, FieldChange::between(&anna(), &expected));
        assert_eq!(entry.changes.len(), 1);
        assert_eq!(writes.user, Some(expected));
    }
}

/// A phone that is detached or replaced ends the sessions. A user with a new phone is active, so that the next
/// sign-in does not detach it.
#[test]
fn phone_is_detached_replaced_and_linked() {
    let now = OffsetDateTime::UNIX_EPOCH;
    let set = |phone: Option<PhoneNumber>| UserChange { phone: Some(phone), ..UserChange::default() };
    let without = User { phone_detached_at: Some(now - time::Duration::DAY), ..anna() };
    let other = user(2).phone;
    for (before, phone, expected) in [
        (anna(), None, User { phone_detached_at: Some(now), ..anna() }),
        (anna(), Some(other.clone()), User { phone: other.clone(), last_active: Some(now), ..anna() }),
        (without.clone(), Some(anna().phone), User { last_active: Some(now), ..anna() }),
        (without.clone(), Some(other.clone()), User { phone: other, last_active: Some(now), ..anna() }),
    ] {
        let Decision { writes, outcome } = decide(set(phone), &facts(before.clone()));
        assert_eq!(writes.user.as_ref(), Some(&expected));
        assert!(writes.ends_sessions);
        let entry = writes.audit.expect("an entry");
        assert_eq!(entry.changes, FieldChange::between(&before, &expected));
        assert_eq!(outcome.map(|changed| changed.user), Ok(expected));
    }
    let again = decide(set(None), &facts(without));
    assert_eq!(again.writes, UserChangeWrites::default(), "the phone is detached already");
}

#[test]
fn phone_of_another_user_is_refused_and_the_last_admin_keeps_the_phone() {
    let set = |phone: Option<PhoneNumber>| UserChange { phone: Some(phone), ..UserChange::default() };
    let taken = UserChangeFacts { phone_owner: Some(user(2).id), ..facts(anna()) };
    assert_eq!(refusal(set(Some(user(2).phone)), &taken), Some(Refusal::PhoneTaken));
    assert_eq!(refusal(set(None), &facts(admin())), Some(Refusal::LastAdmin));
    let other = UserChangeFacts { has_other_admin: true, ..facts(admin()) };
    assert_eq!(refusal(set(None), &other), None);
    assert_eq!(refusal(set(Some(user(2).phone)), &facts(admin())), None);
}

#[test]
fn change_to_the_same_values_writes_nothing() {
    let same = UserChange {
        first_name: Some(anna().first_name),
        last_name: Some(None),
        email: Some(anna().email),
        invited_by_code: Some(None),
        is_active: Some(true),
        staff_role: Some(None),
        external_id: Some(anna().external_id),
        metadata: Some(anna().metadata),
        phone: Some(Some(anna().phone)),
        cancels_deletion: true,
    };
    let owners = UserChangeFacts {
        email_owner: Some(user(1).id),
        external_id_owner: Some(user(1).id),
        phone_owner: Some(user(1).id),
        ..facts(anna())
    };
    for change in [same, UserChange::default()] {
        let Decision { writes, outcome } = decide(change, &owners);
        assert_eq!(writes, UserChangeWrites::default());
        assert_eq!(outcome.map(|changed| (changed.user, changed.audit)), Ok((anna(), None)));
    }
}

#[test]
fn scheduled_deletion_is_canceled() {
    let scheduled = User { deletion_at: Some(OffsetDateTime::UNIX_EPOCH), ..anna() };
    let cancel = UserChange { cancels_deletion: true, ..UserChange::default() };
    let Decision { writes, outcome } = decide(cancel, &facts(scheduled.clone()));
    let changed = outcome.expect("changed");
    assert_eq!((changed.user, changed.deletion_canceled), (anna(), true));
    let entry = writes.audit.expect("an entry");
    assert_eq!(entry.changes, FieldChange::between(&scheduled, &anna()));
    let rename = UserChange { first_name: Some(None), ..UserChange::default() };
    let changed = decide(rename, &facts(scheduled.clone())).outcome.expect("changed");
    assert_eq!((changed.user.deletion_at, changed.deletion_canceled), (scheduled.deletion_at, false));
}

#[test]
fn values_of_another_user_are_refused_with_the_whole_change() {
    let other = Some(user(2).id);
    let change = UserChange { is_active: Some(false), external_id: Some(id("b1")), ..UserChange::default() };
    let taken = UserChangeFacts { external_id_owner: other, ..facts(anna()) };
    assert_eq!(refusal(change, &taken), Some(Refusal::ExternalIdTaken));
    let email = Some(Email::parse("boris@example.com").ok());
    let change = UserChange { is_active: Some(false), email, ..UserChange::default() };
    let taken = UserChangeFacts { email_owner: other, ..facts(anna()) };
    assert_eq!(refusal(change, &taken), Some(Refusal::EmailTaken));
}

#[test]
fn unknown_user_is_refused() {
    assert_eq!(refusal(UserChange::default(), &UserChangeFacts::default()), Some(Refusal::UserNotFound));
}

#[test]
fn sessions_end_with_the_activity_and_with_additional_rights() {
    let role = |role| UserChange { staff_role: Some(role), ..UserChange::default() };
    let (support, admin_role) = (Some(StaffRole::Support), Some(StaffRole::Admin));
    let blocked = UserChange { is_active: Some(false), ..UserChange::default() };
    for (before, change, expected) in [
        (anna(), blocked, Some(SessionEnd::Deactivated)),
        (anna(), role(support), Some(SessionEnd::BecameStaff)),
        (User { staff_role: support, ..anna() }, role(admin_role), Some(SessionEnd::BecameStaff)),
        (admin(), role(support), None),
        (admin(), role(None), None),
    ] {
        let facts = UserChangeFacts { has_other_admin: true, ..facts(before) };
        let Decision { writes, outcome } = decide(change, &facts);
        assert_eq!(writes.ends_sessions, expected.is_some());
        assert_eq!(outcome.expect("changed").session_end, expected);
    }
}

#[test]
fn the_last_active_admin_stays() {
    let none = UserChange::default;
    for change in [
        UserChange { is_active: Some(false), ..none() },
        UserChange { staff_role: Some(None), ..none() },
        UserChange { staff_role: Some(Some(StaffRole::Support)), ..none() },
    ] {
        assert!(request(change.clone()).needs_other_admin(&facts(admin())));
        assert_eq!(refusal(change.clone(), &facts(admin())), Some(Refusal::LastAdmin));
        let other = UserChangeFacts { has_other_admin: true, ..facts(admin()) };
        assert_eq!(refusal(change.clone(), &other), None);
        let inactive = User { is_active: false, ..admin() };
        assert_eq!(refusal(change, &facts(inactive)), None);
    }
    let harmless = UserChange { first_name: Some(None), ..none() };
    assert_eq!(refusal(harmless, &facts(admin())), None);
}

#[test]
fn inviter_is_set_replaced_and_removed() {
    let by = |of: &User| Some(InvitedBy { inviter: of.id, code: of.invite_code.clone() });
    let (boris, vera) = (user(2), user(3));
    for before in [anna(), User { invited_by: by(&vera), ..anna() }] {
        let (change, facts) = invited_by_boris(before, Ancestry::WithoutInvitee);
        let Decision { writes, outcome } = decide(change, &facts);
        assert_eq!(outcome.expect("changed").user.invited_by, by(&boris));
        let Some(InvitationWrite::Put(invitation)) = writes.invitation else { panic!("{writes:?}") };
        assert_eq!((invitation.inviter, invitation.via), (boris.id, AcceptedVia::Staff));
    }
    let remove = UserChange { invited_by_code: Some(None), ..UserChange::default() };
    let Decision { writes, outcome } = decide(remove, &facts(User { invited_by: by(&vera), ..anna() }));
    assert_eq!(outcome.expect("changed").user.invited_by, None);
    assert_eq!(writes.invitation, Some(InvitationWrite::Remove));
}

#[test]
fn inviter_that_would_be_wrong_is_refused() {
    let (change, facts) = invited_by_boris(anna(), Ancestry::WithInvitee);
    assert_eq!(refusal(change.clone(), &facts), Some(Refusal::InvitationLoop));
    let unknown = UserChangeFacts { inviter: None, ..facts.clone() };
    assert_eq!(refusal(change.clone(), &unknown), Some(Refusal::UnknownInviteCode));
    let own =
        UserChangeFacts { inviter: Some(Inviter { id: user(1).id, code: user(1).invite_code }), ..facts };
    assert_eq!(refusal(change, &own), Some(Refusal::OwnInviteCode));
}

#[test]
fn the_same_inviter_changes_nothing() {
    let boris = user(2);
    let invited_by = Some(InvitedBy { inviter: boris.id, code: boris.invite_code });
    let before = User { invited_by, ..anna() };
    let (change, facts) = invited_by_boris(before, Ancestry::NotWalked);
    assert!(!request(change.clone()).needs_ancestry(&facts));
    assert_eq!(decide(change, &facts).writes, UserChangeWrites::default());
}
