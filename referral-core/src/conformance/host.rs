//! Cases about users that the host creates and changes.

use std::{sync::Arc, time::Duration};

use super::harness::{Harness, assert_refused, in_parallel, phone};
use crate::{
    error::refusal::Refusal,
    service::{
        host::CreateUser,
        users::{EditProfile, ListUsers},
    },
    storage::Storage,
    user::{
        User, UserId, change::UserChange, external_id::ExternalId, listing::FilterInput, metadata::Metadata,
        name::Name, profile::ProfileChange, staff_role::StaffRole,
    },
};

fn id(id: &str) -> ExternalId {
    ExternalId::parse(id).expect("valid id")
}

fn metadata(json: &str) -> Metadata {
    json.parse().expect("valid metadata")
}

fn with_id(id: &str) -> UserChange {
    UserChange { external_id: Some(ExternalId::parse(id).ok()), ..UserChange::default() }
}

fn with_metadata(json: &str) -> UserChange {
    UserChange { metadata: Some(metadata(json)), ..UserChange::default() }
}

impl Harness {
    /// Creates a user with a numbered phone, which must succeed.
    async fn create(&self, number: u32) -> User {
        self.referral.create_user(CreateUser::new(phone(number))).await.expect("created").user
    }

    async fn change(&self, id: UserId, change: UserChange) -> User {
        self.referral.change_user(id, change).await.expect("changed")
    }

    pub(super) async fn find(&self, id: UserId) -> User {
        self.referral.find_user(id).await.expect("read").expect("existing user")
    }

    async fn owner(&self, external_id: &str) -> Option<UserId> {
        let found = self.referral.find_user_by_external_id(&id(external_id)).await.expect("read");
        found.map(|user| user.id)
    }
}

/// The host can add users that have not signed in. They are the same users when they sign in.
pub async fn user_can_be_created_without_a_sign_in(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    let referral = &harness.referral;
    let boss = referral.make_staff(phone(1), StaffRole::Admin).await.expect("created");
    harness.advance(Duration::from_millis(1));
    let request = CreateUser::new(phone(2)).external_id(id("a|1")).metadata(metadata(r#"{"plan":"gold"}"#));
    let created = referral.create_user(request.clone()).await.expect("created");
    let anna = created.user;
    assert!(created.created && !anna.is_staff() && anna.is_active && anna.last_login.is_none());
    assert_eq!((&anna.external_id, &anna.metadata), (&request.external_id, &request.metadata));
    for (number, known) in [(1, &boss), (2, &anna)] {
        let again = CreateUser { phone: phone(number), ..request.clone() };
        let again = referral.create_user(again).await.expect("no change");
        assert_eq!((&again.user, again.created), (known, false));
        assert_eq!(referral.find_user(known.id).await.expect("found").as_ref(), Some(known));
        assert_eq!(referral.find_user_by_phone(&phone(number)).await.expect("found").as_ref(), Some(known));
    }
    assert_eq!(referral.find_user_by_phone(&phone(3)).await.expect("read"), None);
    assert_eq!(referral.find_user_by_external_id(&id("a|1")).await.expect("read").as_ref(), Some(&anna));
    let page = referral.find_users(ListUsers::default()).await.expect("read");
    assert_eq!((page.items, page.count), (vec![anna.clone(), boss], 2));

    let signed_in = harness.enter(2).await;
    assert!(!signed_in.created);
    assert_eq!(User { last_login: None, last_active: None, ..signed_in.user }, anna);
}

/// The external id and the metadata are stored unchanged, and all reads return them.
pub async fn external_id_and_metadata_are_stored_unchanged(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    let anna = harness.enter(1).await;
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(31), "]".repeat(31));
    let long = format!("{{\"a\":\"{}\"}}", "x".repeat(4096 - r#"{"a":""}"#.len()));
    for (external_id, json) in [
        ("'; DROP TABLE users; --", r#"{"a":"'; DROP TABLE users; --"}"#),
        ("\\\"%_?*$1:x", r#"{"\\\"%_?*$1:x":"\\\"%_?*$1:x"}"#),
        ("🙂Ж", r#"{"text":"\\u0000 \u0001\n","🙂":"Ж"}"#),
        ("NULL", r#"{"":null,"b":[true,false,{}]}"#),
        ("42", r#"{"int":[0,-1,18446744073709551615,-9223372036854775808]}"#),
        ("4.2", r#"{"real":[0.1,-0.0,1.0,5e-324,122.41629403378658]}"#),
        (&"x".repeat(255), &*deep),
        (&"ж".repeat(127), &*long),
        ("0", "{}"),
    ] {
        let change = UserChange { metadata: Some(metadata(json)), ..with_id(external_id) };
        let changed = harness.change(anna.user.id, change).await;
        assert_eq!(changed.external_id.as_ref().map(ExternalId::as_str), Some(external_id));
        assert_eq!(changed.metadata.to_string(), json);

        let listed = harness.referral.find_users(ListUsers::default()).await.expect("read").items;
        let own = harness.current_user(&anna).await.user;
        let found = harness.referral.find_user_by_external_id(&id(external_id)).await.expect("read");
        for read in [harness.find(anna.user.id).await, own, listed[0].clone(), found.expect("by its id")] {
            assert_eq!(read, changed);
            assert_eq!(read.metadata.to_string(), json);
        }
    }
}

/// Other operations keep the external id and the metadata.
pub async fn external_id_and_metadata_are_kept(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    let [anna, boris] = [harness.enter(1).await, harness.enter(2).await];
    let change = UserChange { metadata: Some(metadata(r#"{"a":1}"#)), ..with_id("a1") };
    let changed = harness.change(anna.user.id, change).await;
    harness.advance(Duration::from_mins(1));
    let current_user = harness.current_user(&anna).await;
    let change = ProfileChange {
        first_name: Some(Name::parse("Anna").ok()),
        invited_by_code: Some(boris.user.invite_code.clone()),
        ..ProfileChange::default()
    };
    harness.referral.edit_profile(&current_user, EditProfile::new(change)).await.expect("edited");
    harness.referral.make_staff(phone(1), StaffRole::Support).await.expect("promoted");
    harness.referral.set_active(anna.user.id, false).await.expect("deactivated");
    harness.referral.set_active(anna.user.id, true).await.expect("activated");
    harness.enter(1).await;
    let kept = harness.find(anna.user.id).await;
    assert!(kept.is_staff() && kept.first_name.is_some() && kept.invited_by.is_some());
    assert_eq!((kept.external_id, kept.metadata), (changed.external_id, changed.metadata));
    assert_eq!(harness.owner("a1").await, Some(anna.user.id));
}

/// An id of one user is rejected for another. After the user has cleared or changed it, it is free.
pub async fn external_id_belongs_to_one_user(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    let [anna, boris] = [harness.create(1).await.id, harness.create(2).await.id];
    let referral = &harness.referral;
    harness.change(anna, with_id("a1")).await;
    harness.change(anna, with_id("a1")).await;
    assert_refused(referral.change_user(boris, with_id("a1")).await, Refusal::ExternalIdTaken);
    let vera = CreateUser::new(phone(3)).external_id(id("a1"));
    assert_refused(referral.create_user(vera.clone()).await, Refusal::ExternalIdTaken);
    assert_eq!(referral.find_user_by_phone(&phone(3)).await.expect("read"), None);

    harness.change(boris, with_id("A1")).await;
    assert_eq!([harness.owner("a1").await, harness.owner("A1").await], [Some(anna), Some(boris)]);
    harness.change(anna, with_id("a2")).await;
    assert_eq!(harness.owner("a1").await, None);
    let vera = referral.create_user(vera).await.expect("free again").user.id;
    let cleared = UserChange { external_id: Some(None), ..UserChange::default() };
    assert_eq!(harness.change(vera, cleared.clone()).await.external_id, None);
    harness.change(boris, cleared).await;
    harness.change(boris, with_id("a1")).await;
    assert_eq!(harness.owner("a1").await, Some(boris));
}

/// A rejected change writes nothing, also of its other fields.
pub async fn change_of_a_user_is_atomic(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    let [anna, boris] = [harness.create(1).await, harness.create(2).await];
    harness.change(anna.id, with_id("a1")).await;
    let change =
        UserChange { is_active: Some(false), metadata: Some(metadata(r#"{"a":1}"#)), ..with_id("a1") };
    let refused = harness.referral.change_user(boris.id, change).await;
    assert_refused(refused, Refusal::ExternalIdTaken);
    assert_eq!(harness.find(boris.id).await, boris);
    let unknown_user = UserId(uuid::Uuid::nil());
    let refused = harness.referral.change_user(unknown_user, with_id("a1")).await;
    assert_refused(refused, Refusal::UserNotFound);
}

/// Exactly one of many concurrent claims of one external id succeeds, by a change or with a new user.
pub async fn parallel_claims_of_an_external_id_succeed_once(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    let mut users = Vec::new();
    for number in 0..10 {
        users.push(harness.create(number).await.id);
    }
    let results = in_parallel(20, |number| {
        let (referral, user) = (harness.referral.clone(), users.get(number as usize).copied());
        async move {
            if let Some(user) = user {
                return referral.change_user(user, with_id("a1")).await;
            }
            let request = CreateUser::new(phone(number)).external_id(id("a1"));
            referral.create_user(request).await.map(|created| created.user)
        }
    });
    let (succeeded, refused): (Vec<_>, Vec<_>) = results.await.into_iter().partition(Result::is_ok);
    let succeeded: Vec<_> = succeeded.into_iter().flatten().map(|user| user.id).collect();
    assert_eq!(succeeded, Vec::from_iter(harness.owner("a1").await));
    for refused in refused {
        assert_refused(refused, Refusal::ExternalIdTaken);
    }
}

/// Many concurrent requests for one phone create one user, whose data is complete.
pub async fn parallel_creations_of_one_phone_create_one_user(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    let results = in_parallel(20, |number| {
        let referral = harness.referral.clone();
        let request = CreateUser::new(phone(1)).external_id(id(&number.to_string()));
        async move { referral.create_user(request).await.expect("created or found") }
    });
    let results = results.await;
    assert_eq!(results.iter().filter(|result| result.created).count(), 1);
    let user = harness.referral.find_user_by_phone(&phone(1)).await.expect("read").expect("created");
    assert!(results.iter().all(|result| result.user == user));
    let page = harness.referral.find_users(ListUsers::default()).await.expect("read");
    assert_eq!((page.items, page.count), (vec![user], 1));
}

/// Concurrent changes of different fields are all kept.
pub async fn parallel_changes_of_different_fields_are_kept(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    let anna = harness.enter(1).await;
    let (user, current_user) = (anna.user.id, harness.current_user(&anna).await);
    let results = in_parallel(4, |number| {
        let (referral, current_user) = (harness.referral.clone(), current_user.clone());
        async move {
            match number {
                0 => referral.change_user(user, with_id("a1")).await.map(drop),
                1 => referral.change_user(user, with_metadata(r#"{"a":1}"#)).await.map(drop),
                2 => referral.set_active(user, false).await.map(drop),
                _ => {
                    let change = ProfileChange {
                        first_name: Some(Name::parse("Anna").ok()),
                        ..ProfileChange::default()
                    };
                    referral.edit_profile(&current_user, EditProfile::new(change)).await.map(drop)
                }
            }
        }
    });
    for result in results.await {
        result.expect("changed");
    }
    let changed = User {
        external_id: Some(id("a1")),
        metadata: metadata(r#"{"a":1}"#),
        is_active: false,
        first_name: Name::parse("Anna").ok(),
        ..anna.user
    };
    assert_eq!(harness.find(user).await, changed);
}

/// Staff find a user by the external id. For other users, the id and the metadata are hidden.
pub async fn staff_find_users_by_their_external_id(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    let anna = harness.create(1).await;
    harness.referral.make_staff(phone(2), StaffRole::Admin).await.expect("created");
    let staff = harness.current_user(&harness.enter(2).await).await;
    let boris = harness.current_user(&harness.enter(3).await).await;
    let referral = &harness.referral;
    let change = UserChange { metadata: Some(metadata(r#"{"a":1}"#)), ..with_id("a1") };
    referral.change_user(anna.id, change).await.expect("changed");

    let by = |external_id| {
        let filter = FilterInput { external_id: Some(external_id), ..FilterInput::default() };
        ListUsers { filter, ..ListUsers::default() }
    };
    for (external_id, expected) in [("a1", vec![anna.id]), ("A1", vec![]), ("", vec![]), ("a%", vec![])] {
        let page = referral.users(&staff, by(external_id)).await.expect("page of the list");
        let found: Vec<_> = page.items.iter().map(|user| user.id).collect();
        assert_eq!((found, page.count), (expected.clone(), expected.len() as u64), "{external_id}");
    }
    assert_refused(referral.users(&boris, by("a1")).await, Refusal::StaffOnly);
    let seen = referral.user(&boris, anna.id).await.expect("visible").user;
    assert_eq!((seen.external_id, seen.metadata), (None, None));
}
