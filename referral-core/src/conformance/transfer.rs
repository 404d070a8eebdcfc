//! Cases about the import and the export of users.

use std::{sync::Arc, time::Duration};

use time::OffsetDateTime;

use super::harness::{Harness, in_parallel, phone};
use crate::{
    error::refusal::Refusal,
    invite::{code::InviteCode, invitation::AcceptedVia},
    service::{host::CreateUser, users::ListUsers},
    storage::{
        ErasedUser, ImportBatch, ImportOutcome, ImportRejection, ImportedInvitation, RecordedInvitation,
        RecordedUser, Storage, UserRecord,
    },
    user::{
        User, UserId, change::UserChange, email::Email, external_id::ExternalId, listing::FilterInput,
        name::Name, staff_role::StaffRole,
    },
};

use ImportOutcome::{Added, Rejected, Stored};
use ImportedInvitation::{Added as Invited, Loop, None as NoInvitation, UnknownInviter};

fn id(number: u32) -> UserId {
    UserId(uuid::Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0000 + u128::from(number)))
}

fn code(number: u32) -> InviteCode {
    InviteCode::parse(&format!("B{number:05}")).expect("valid code")
}

/// Returns a time with microseconds, a different one for each number.
fn time(number: u32) -> OffsetDateTime {
    let start = OffsetDateTime::from_unix_timestamp_nanos(1_500_000_000_654_321_000).expect("valid time");
    start + Duration::from_secs(number.into())
}

/// Returns the record of a numbered user with all data.
fn record(number: u32, inviter: Option<u32>) -> UserRecord {
    let user = User {
        id: id(number),
        phone: phone(number),
        invite_code: code(number),
        invited_by: None,
        invited_count: 0,
        email: Email::parse(&format!("user{number}@example.com")).ok(),
        first_name: Name::parse(&format!("Zoya{number}")).ok(),
        last_name: Name::parse("O'Neil, \"Jr.\" Ж").ok(),
        staff_role: [None, Some(StaffRole::Support), Some(StaffRole::Admin)][number as usize % 3],
        is_active: !number.is_multiple_of(3),
        date_joined: time(number),
        last_login: Some(time(number + 1)),
        last_active: Some(time(number + 2)),
        phone_detached_at: None,
        external_id: ExternalId::parse(&format!("host|{number}")).ok(),
        metadata: r#"{"plan":"gold","text":"\\\"\n"}"#.parse().expect("valid metadata"),
        deletion_at: number.is_multiple_of(4).then(|| time(20_000 + number)),
    };
    UserRecord { user: RecordedUser::Present(Box::new(user)), invitation: invitation(inviter) }
}

fn erased(number: u32, inviter: Option<u32>) -> UserRecord {
    let user = ErasedUser {
        id: id(number),
        invite_code: code(number),
        date_joined: time(number),
        erased_at: time(9_999),
    };
    UserRecord { user: RecordedUser::Erased(user), invitation: invitation(inviter) }
}

fn invitation(inviter: Option<u32>) -> Option<RecordedInvitation> {
    inviter.map(|inviter| RecordedInvitation {
        inviter: Some(id(inviter)),
        code: code(inviter),
        accepted_at: time(1_000 + inviter),
        via: AcceptedVia::Import,
    })
}

fn with(record: &UserRecord, change: impl Fn(&mut User)) -> UserRecord {
    let mut record = record.clone();
    if let RecordedUser::Present(user) = &mut record.user {
        change(user);
    }
    record
}

async fn import(harness: &Harness, records: &[UserRecord]) -> Vec<ImportOutcome> {
    harness.storage.import_users(&ImportBatch::new(records.to_vec())).await.expect("imported")
}

/// Exports all users, in pages of two.
async fn export(harness: &Harness) -> Vec<UserRecord> {
    let mut records: Vec<UserRecord> = Vec::new();
    loop {
        let after = records.last().map(|record| record.user.id());
        let page = harness.storage.export_users(after, 2).await.expect("exported");
        if page.is_empty() {
            return records;
        }
        assert!(page.len() <= 2, "the limit is kept");
        records.extend(page);
    }
}

async fn find(harness: &Harness, number: u32) -> User {
    harness.referral.find_user(id(number)).await.expect("read").expect("existing user")
}

/// Returns the users that a filter finds, and their number.
async fn found(harness: &Harness, filter: FilterInput<'_>) -> (Vec<UserId>, u64) {
    let page = harness.referral.find_users(ListUsers { filter, ..ListUsers::default() }).await.expect("read");
    (page.items.iter().map(|user| user.id).collect(), page.count)
}

/// An export returns what was imported, also from and to deleted users. A repeated import changes nothing.
pub async fn imported_users_are_exported_unchanged(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    let plain = with(&record(5, None), |user| {
        (user.email, user.first_name, user.last_name) = (None, None, None);
        (user.last_login, user.last_active, user.external_id) = (None, None, None);
        user.metadata = crate::Metadata::default();
    });
    let records = [record(1, None), record(2, Some(1)), erased(3, Some(2)), record(4, Some(3)), plain];
    let outcome = import(&harness, &records).await;
    assert_eq!(
        outcome,
        [Added(NoInvitation), Added(Invited), Added(Invited), Added(Invited), Added(NoInvitation)]
    );
    assert_eq!(export(&harness).await, records);

    let known = ImportedInvitation::Stored;
    let again = import(&harness, &records).await;
    assert_eq!(
        again,
        [Stored(NoInvitation), Stored(known), Stored(known), Stored(known), Stored(NoInvitation)]
    );
    assert_eq!(export(&harness).await, records);
    assert_eq!(found(&harness, FilterInput::default()).await.1, 4, "erased users are not counted");
    assert_eq!(find(&harness, 1).await.invited_count, 1);
    assert_eq!(harness.storage.import_users(&ImportBatch::new(Vec::new())).await.expect("imported"), []);
}

/// An export has the users of the service itself, and those that were deleted.
pub async fn users_of_the_service_are_exported(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    assert_eq!(export(&harness).await, []);
    let anna = harness.enter(1).await.user;
    harness.advance(Duration::from_mins(2));
    let boris = harness.enter_invited(2, &anna).await.user;
    harness.advance(Duration::from_mins(2));
    let vera = harness.enter_invited(3, &boris).await.user;
    harness.advance(Duration::from_micros(1));
    harness.referral.delete_user(boris.id).await.expect("deleted");

    let records = export(&harness).await;
    let [first, second, third] = &records[..] else { panic!("three records: {records:?}") };
    let stored = |user: &User| RecordedUser::Present(Box::new(User { invited_by: None, ..user.clone() }));
    assert_eq!((&first.user, &first.invitation), (&stored(&anna), &None));
    let remainder = ErasedUser {
        id: boris.id,
        invite_code: boris.invite_code.clone(),
        date_joined: boris.date_joined,
        erased_at: harness.now(),
    };
    assert_eq!(second.user, RecordedUser::Erased(remainder));
    let invitation = second.invitation.as_ref().expect("an invitation");
    assert_eq!((invitation.inviter, invitation.via), (Some(anna.id), AcceptedVia::SignUp));
    assert_eq!(invitation.accepted_at, boris.date_joined);
    assert_eq!(third.user, stored(&vera));
    assert_eq!(third.invitation.as_ref().and_then(|invitation| invitation.inviter), Some(boris.id));
    assert!(import(&harness, &records).await.iter().all(|outcome| matches!(outcome, Stored(_))));
}

/// Imported users are found by each of their values, sign in, and are counted.
pub async fn imported_users_are_ordinary_users(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    let user = |number, inviter| {
        with(&record(number, inviter), |user| (user.is_active, user.staff_role) = (true, None))
    };
    // The inviter of 1 follows in the batch, and the inviter of 2 in the next batch.
    assert_eq!(
        import(&harness, &[user(1, Some(3)), user(2, Some(4)), user(3, None)]).await,
        [Added(Invited), Added(UnknownInviter), Added(NoInvitation)]
    );
    assert_eq!(import(&harness, &[user(4, None)]).await, [Added(NoInvitation)]);
    assert_eq!(import(&harness, &[user(2, Some(4))]).await, [Stored(Invited)]);

    let any = FilterInput::default();
    for filter in [
        FilterInput { phone: Some(phone(2).as_str()), ..any },
        FilterInput { email: Some("user2@example.com"), ..any },
        FilterInput { external_id: Some("host|2"), ..any },
        FilterInput { first_name: Some("Zoya2"), ..any },
        FilterInput { invite_code: Some(code(2).as_str()), ..any },
        FilterInput { invited_by_code: Some(code(4).as_str()), ..any },
        FilterInput { search: Some("zoya2"), ..any },
        FilterInput { search: Some("user2@ex"), ..any },
        FilterInput { search: Some(&phone(2).as_str()[3..]), ..any },
    ] {
        assert_eq!(found(&harness, filter).await, (vec![id(2)], 1));
    }
    // A search finds an inviter by the own code, and the invitee by the code of the inviter.
    for (inviter, invitee) in [(3, 1), (4, 2)] {
        let inviter_code = code(inviter);
        let search = FilterInput { search: Some(inviter_code.as_str()), ..any };
        assert_eq!(found(&harness, search).await, (vec![id(inviter), id(invitee)], 2));
        assert_eq!(find(&harness, inviter).await.invited_count, 1);
        let invited_by = find(&harness, invitee).await.invited_by.expect("an inviter");
        assert_eq!((invited_by.inviter, invited_by.code), (id(inviter), code(inviter)));
    }
    assert_eq!(found(&harness, any).await.1, 4);

    let signed_in = harness.enter(2).await;
    assert!(!signed_in.created && signed_in.user.id == id(2));
    let new = harness.enter_invited(8, &find(&harness, 3).await).await;
    assert!(new.created);
    harness.assert_sound(&harness.current_user(&signed_in).await).await;
    assert_eq!(find(&harness, 3).await.invited_count, 2);
    // An import after the changes does not undo them.
    assert_eq!(import(&harness, &[user(2, Some(4))]).await, [Stored(ImportedInvitation::Stored)]);
    assert_eq!(find(&harness, 2).await.last_login, signed_in.user.last_login);
}

/// Unique values of a stored user, and of an earlier record, are rejected. The rest of the batch is imported.
pub async fn conflicting_records_are_rejected(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    import(&harness, &[record(1, None), erased(2, None)]).await;
    let before = export(&harness).await;
    let changed = with(&record(1, None), |user| user.first_name = None);
    let conflicts = [
        (with(&record(3, None), |user| user.phone = phone(1)), ImportRejection::PhoneTaken(id(1))),
        (with(&record(4, None), |user| user.invite_code = code(1)), ImportRejection::InviteCodeTaken(id(1))),
        (with(&record(5, None), |user| user.invite_code = code(2)), ImportRejection::InviteCodeTaken(id(2))),
        (
            with(&record(6, None), |user| user.email = Email::parse("user1@example.com").ok()),
            ImportRejection::EmailTaken(id(1)),
        ),
        (
            with(&record(7, None), |user| user.external_id = ExternalId::parse("host|1").ok()),
            ImportRejection::ExternalIdTaken(id(1)),
        ),
        (changed, ImportRejection::Differs(vec!["first_name"])),
        (record(2, None), ImportRejection::Deleted),
        (erased(1, None), ImportRejection::NotDeleted),
    ];
    let (mut records, expected): (Vec<_>, Vec<_>) = conflicts.into_iter().unzip();
    let mut expected: Vec<_> = expected.into_iter().map(Rejected).collect();
    records.extend([record(8, None), with(&record(9, None), |user| user.phone = phone(8))]);
    expected.extend([Added(NoInvitation), Rejected(ImportRejection::PhoneTaken(id(8)))]);
    assert_eq!(import(&harness, &records).await, expected);
    assert_eq!(export(&harness).await, [before, vec![record(8, None)]].concat());
}

/// A deleted user is not imported again, and its unique values are free for others, except the invite code.
pub async fn import_does_not_restore_a_deleted_user(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    import(&harness, &[record(1, None)]).await;
    harness.referral.delete_user(id(1)).await.expect("deleted");
    assert_eq!(import(&harness, &[record(1, None)]).await, [Rejected(ImportRejection::Deleted)]);
    let successor = UserRecord {
        user: RecordedUser::Present(Box::new(User {
            id: id(2),
            invite_code: code(2),
            ..record(1, None).user.present().expect("a user").clone()
        })),
        invitation: invitation(Some(1)),
    };
    assert_eq!(
        import(&harness, &[successor]).await,
        [Added(Invited)],
        "also with the inviter who was deleted"
    );
    assert_eq!(find(&harness, 2).await.invited_by.map(|invited_by| invited_by.inviter), Some(id(1)));
}

/// Invitations of stored users create no loop, through any number of stored users, of whom some are deleted.
pub async fn import_creates_no_loop(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    let mut chain: Vec<_> = (1..30).map(|number| record(number, Some(number + 1))).collect();
    chain[9] = erased(10, Some(11));
    for records in chain.rchunks(7) {
        import(&harness, records).await;
    }
    // All inviters were unknown at the ends of the batches.
    for records in chain.chunks(7) {
        import(&harness, records).await;
    }
    assert_eq!(import(&harness, &[record(30, Some(1))]).await, [Added(Invited)]);
    let left_out =
        import(&harness, &chain).await.into_iter().filter(|outcome| *outcome == Stored(Loop)).count();
    let exported = export(&harness).await;
    let invited = exported.iter().filter(|record| record.invitation.is_some()).count();
    assert_eq!((exported.len(), invited + left_out), (30, 30));
    assert_eq!(left_out, 1, "the circle is open at one place");
}

/// Of an import and concurrent sign-ups with the same phones, only one creates each user, and all are
/// counted.
pub async fn parallel_imports_and_sign_ups_create_each_user_once(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    let boss = harness.enter(0).await;
    let imports = |task: u32| {
        let harness = harness.clone();
        let boss = boss.user.clone();
        async move {
            for number in 1..=6 {
                if task.is_multiple_of(2) {
                    let records: Vec<_> = (1..=6)
                        .map(|number| {
                            with(&record(number, None), |user| user.invite_code = code(100 * task + number))
                        })
                        .map(|record| UserRecord {
                            invitation: Some(RecordedInvitation {
                                inviter: None,
                                code: boss.invite_code.clone(),
                                accepted_at: time(1),
                                via: AcceptedVia::Import,
                            }),
                            ..record
                        })
                        .collect();
                    import(&harness, &records).await;
                } else {
                    let created = harness.referral.create_user(CreateUser::new(phone(number))).await;
                    created.expect("created or found");
                }
            }
        }
    };
    in_parallel(4, imports).await;
    let current_user = harness.current_user(&boss).await;
    harness.assert_sound(&current_user).await;
    assert_eq!(found(&harness, FilterInput::default()).await.1, 7);
}

/// A deletion that runs concurrently with an import is not undone.
pub async fn parallel_import_and_deletion_leave_the_user_deleted(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    import(&harness, &[record(1, None), record(2, None)]).await;
    let tasks = |task: u32| {
        let harness = harness.clone();
        async move {
            if task == 0 {
                harness.referral.delete_user(id(1)).await.expect("deleted");
            } else {
                import(&harness, &[record(1, Some(2)), record(2, None)]).await;
            }
        }
    };
    in_parallel(4, tasks).await;
    let change = UserChange { is_active: Some(true), ..UserChange::default() };
    super::harness::assert_refused(harness.referral.change_user(id(1), change).await, Refusal::UserNotFound);
    assert_eq!(found(&harness, FilterInput::default()).await, (vec![id(2)], 1));
    let search = FilterInput { search: Some("zoya1"), ..FilterInput::default() };
    assert_eq!(found(&harness, search).await, (Vec::new(), 0));
}
