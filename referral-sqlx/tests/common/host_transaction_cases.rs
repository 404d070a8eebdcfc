//! Cases of operations in a transaction of the host, for each database. The module above has the host, whose
//! table `orders` has no constraint, and whose transaction hook writes to `profiles`.

use std::sync::atomic::Ordering;

use referral_core::{
    CreateUser, ExternalId, FilterInput, ListUsers, Refusal, User, UserChange, conformance::run,
};

use super::{Setup, order};
use crate::sign_in::{enter, phone};

fn id(id: &str) -> Option<ExternalId> {
    ExternalId::parse(id).ok()
}

#[test]
fn user_and_rows_of_the_host_are_committed_together() {
    run(async {
        let Some(setup) = Setup::new().await else { return };
        let mut transaction = setup.begin().await;
        let request = setup.referral.create_user_request(CreateUser::new(phone(1)).external_id(id("a1")));
        let request = request.expect("a mobile phone");
        let added = setup.storage.add_user_in(&mut transaction, &request).await.expect("added").expect("new");
        order(&mut transaction, added.user.id).await;
        let change = UserChange { metadata: r#"{"a":1}"#.parse().ok(), ..UserChange::default() };
        let change = setup.referral.change_user_request(added.user.id, change);
        let changed = setup
            .storage
            .change_user_in(&mut transaction, &change)
            .await
            .expect("changed")
            .expect("known")
            .user;
        assert_eq!(setup.referral.find_user(added.user.id).await.expect("read"), None);
        transaction.commit().await.expect("committed");

        assert_eq!(setup.events.count(), 0);
        let created = setup.referral.emit_user_created(&request, added).await;
        assert!(created.created && setup.events.count() == 1);
        assert_eq!(setup.referral.find_user(created.user.id).await.expect("read"), Some(changed.clone()));
        assert_eq!(changed, User { metadata: changed.metadata.clone(), ..created.user });
        assert_eq!([setup.count("orders").await, setup.count("profiles").await], [1, 1]);
        // The user is complete: in the total, in the search index and for sign-ins.
        for search in [None, Some("608000001")] {
            let filter = FilterInput { search, ..FilterInput::default() };
            let list = ListUsers { filter, ..ListUsers::default() };
            assert_eq!(setup.referral.find_users(list).await.expect("read").count, 1, "{search:?}");
        }
        assert!(!enter(&setup.referral, 1, None).await.created);
    });
}

#[test]
fn rollback_undoes_the_user_and_the_rows_of_the_host() {
    run(async {
        let Some(setup) = Setup::new().await else { return };
        let anna = setup.referral.create_user(CreateUser::new(phone(1))).await.expect("created").user;
        let request = setup.referral.create_user_request(CreateUser::new(phone(2)).external_id(id("a1")));
        let request = request.expect("a mobile phone");
        let change = UserChange { is_active: Some(false), ..UserChange::default() };
        let change = setup.referral.change_user_request(anna.id, change);
        for commits in [false, true] {
            let mut transaction = setup.begin().await;
            let added = setup.storage.add_user_in(&mut transaction, &request).await.expect("added");
            order(&mut transaction, added.expect("new").user.id).await;
            let changed = setup.storage.change_user_in(&mut transaction, &change).await.expect("changed");
            assert!(!changed.expect("known").user.is_active);
            if commits {
                transaction.commit().await.expect("committed");
            } else {
                transaction.rollback().await.expect("rolled back");
                assert_eq!(setup.referral.find_user(anna.id).await.expect("read").as_ref(), Some(&anna));
            }
            let expected = i64::from(commits);
            assert_eq!([setup.users().await, setup.count("orders").await], [1 + expected, expected]);
            assert_eq!(setup.count("profiles").await, 1 + expected);
        }
    });
}

/// A phone or an external id that is taken does not abort the transaction.
#[test]
fn known_user_and_refusal_keep_the_transaction_open() {
    run(async {
        let Some(setup) = Setup::new().await else { return };
        let create = CreateUser::new(phone(1)).external_id(id("a1"));
        let anna = setup.referral.create_user(create).await.expect("created").user;
        let mut transaction = setup.begin().await;
        let known = setup.referral.create_user_request(CreateUser::new(phone(1))).expect("a mobile phone");
        let added = setup.storage.add_user_in(&mut transaction, &known).await.expect("found").expect("known");
        assert_eq!(added.user, anna);
        let taken = CreateUser::new(phone(2)).external_id(id("a1"));
        let taken = setup.referral.create_user_request(taken).expect("a mobile phone");
        let refused = setup.storage.add_user_in(&mut transaction, &taken).await.expect("refused");
        assert_eq!(refused, Err(Refusal::ExternalIdTaken));
        let unknown_user = setup.referral.change_user_request(taken.new_user.id, UserChange::default());
        let refused = setup.storage.change_user_in(&mut transaction, &unknown_user).await.expect("refused");
        assert_eq!(refused, Err(Refusal::UserNotFound));
        // The first candidate for the invite code is taken.
        let mut request = setup.referral.create_user_request(CreateUser::new(phone(3))).expect("mobile");
        request.new_user.invite_codes.insert(0, anna.invite_code.clone());
        let boris = setup.storage.add_user_in(&mut transaction, &request).await.expect("added").expect("new");
        assert_ne!(boris.user.invite_code, anna.invite_code);
        order(&mut transaction, added.user.id).await;
        transaction.commit().await.expect("committed");
        assert_eq!([setup.users().await, setup.count("orders").await], [2, 1]);
        assert!(!setup.referral.emit_user_created(&known, added).await.created);
        assert_eq!(setup.events.count(), 1, "only the event of the service");
    });
}

/// An error of the transaction hook undoes the user, but not the other rows of the transaction.
#[test]
fn failed_hook_undoes_the_user_only() {
    run(async {
        let Some(setup) = Setup::new().await else { return };
        setup.profiles.fails.store(true, Ordering::Relaxed);
        let request = setup.referral.create_user_request(CreateUser::new(phone(1))).expect("mobile");
        let mut transaction = setup.begin().await;
        order(&mut transaction, request.new_user.id).await;
        let failed = setup.storage.add_user_in(&mut transaction, &request).await.expect_err("the hook fails");
        assert!(referral_sqlx::HookError::source_of(&failed).is_some(), "{failed}");
        transaction.commit().await.expect("committed");
        assert_eq!(
            [setup.users().await, setup.count("profiles").await, setup.count("orders").await],
            [0, 0, 1]
        );
    });
}
