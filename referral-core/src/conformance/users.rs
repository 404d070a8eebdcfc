//! Cases about lists of users.

use std::{sync::Arc, time::Duration};

use super::harness::{Harness, assert_refused, phone};
use crate::{
    error::refusal::Refusal,
    service::{
        sessions::CurrentUser,
        users::{EditProfile, ListInvitees, ListUsers, Page, PageLink},
    },
    storage::Storage,
    user::{
        UserId,
        email::Email,
        listing::{FilterInput, PageSize, UserQuery},
        name::Name,
        profile::ProfileChange,
        staff_role::StaffRole,
        visibility::UserView,
    },
};

fn ids(users: &[UserView]) -> Vec<UserId> {
    users.iter().map(|user| user.id).collect()
}

fn limit(limit: u32) -> PageSize {
    PageSize::new(limit).expect("valid page size")
}

fn cursor(link: Option<PageLink>) -> String {
    match link {
        Some(PageLink::Cursor(cursor)) => cursor,
        other => panic!("not a cursor: {other:?}"),
    }
}

async fn page(harness: &Harness, current_user: &CurrentUser, list: ListUsers<'_>) -> Page<UserView> {
    harness.referral.users(current_user, list).await.expect("page of the list")
}

/// Creates users a millisecond apart. Returns them oldest first, and the first one as the current user.
async fn users(harness: &Harness, count: u32) -> (Vec<UserId>, CurrentUser) {
    let first = harness.enter(0).await;
    let mut ids = vec![first.user.id];
    for number in 1..count {
        harness.advance(Duration::from_millis(1));
        ids.push(harness.enter(number).await.user.id);
    }
    (ids, harness.current_user(&first).await)
}

/// Following `next` from the first page and `previous` back lists every user once, newest first.
pub async fn pages_list_every_user_once_in_both_directions(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    let (mut expected, current_user) = users(&harness, 7).await;
    expected.reverse();
    let list = ListUsers { limit: limit(3), ..ListUsers::default() };

    let first = page(&harness, &current_user, list).await;
    assert_eq!((first.count, first.count_exact, &first.previous), (7, true, &None));
    let to_second = cursor(first.next);
    let second = page(&harness, &current_user, ListUsers { cursor: Some(&to_second), ..list }).await;
    let to_third = cursor(second.next.clone());
    let third = page(&harness, &current_user, ListUsers { cursor: Some(&to_third), ..list }).await;
    assert_eq!(third.next, None);
    assert_eq!([ids(&first.items), ids(&second.items), ids(&third.items)].concat(), expected);

    let back = cursor(third.previous);
    let second_again = page(&harness, &current_user, ListUsers { cursor: Some(&back), ..list }).await;
    assert_eq!(ids(&second_again.items), ids(&second.items));
    let back = cursor(second_again.previous);
    let first_again = page(&harness, &current_user, ListUsers { cursor: Some(&back), ..list }).await;
    assert_eq!(ids(&first_again.items), ids(&first.items));
    assert_eq!(first_again.previous, None);
    assert_eq!(cursor(first_again.next), to_second);

    let forged = harness.referral.users(&current_user, ListUsers { cursor: Some("forged"), ..list }).await;
    assert_refused(forged, Refusal::InvalidCursor);
}

/// With an offset the links have offsets too, as long as there are users.
pub async fn offset_skips_the_newest_users(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    let (mut expected, current_user) = users(&harness, 5).await;
    expected.reverse();
    let at = |offset| ListUsers { limit: limit(2), offset: Some(offset), ..ListUsers::default() };

    let middle = page(&harness, &current_user, at(1)).await;
    assert_eq!(ids(&middle.items), expected[1..3]);
    assert_eq!(middle.next, Some(PageLink::Offset(3)));
    assert_eq!(middle.previous, Some(PageLink::Offset(0)));
    for (offset, size) in (0..=5).flat_map(|offset| (1..=6).map(move |size| (offset, size))) {
        let list = ListUsers { limit: limit(size), ..at(offset as u64) };
        let page = page(&harness, &current_user, list).await;
        let end = (offset + size as usize).min(5);
        assert_eq!(ids(&page.items), expected[offset..end], "{offset} {size}");
        assert_eq!(page.next, (end < 5).then_some(PageLink::Offset(end as u64)), "{offset} {size}");
    }
    for beyond in [5, UserQuery::COUNT_LIMIT + 1, ListUsers::MAX_OFFSET] {
        let page = page(&harness, &current_user, at(beyond)).await;
        assert_eq!((page.items.len(), page.count, page.next), (0, 5, None));
    }
    for too_far in [ListUsers::MAX_OFFSET + 1, u64::MAX] {
        assert_refused(harness.referral.users(&current_user, at(too_far)).await, Refusal::InvalidOffset);
    }
}

/// Users who join in the meantime are not listed, and no user is omitted or listed twice.
pub async fn new_users_do_not_shift_a_cursor(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    let (mut expected, current_user) = users(&harness, 4).await;
    expected.reverse();
    let list = ListUsers { limit: limit(2), ..ListUsers::default() };
    let to_second = cursor(page(&harness, &current_user, list).await.next);
    harness.advance(Duration::from_millis(1));
    harness.enter(99).await;
    let second = page(&harness, &current_user, ListUsers { cursor: Some(&to_second), ..list }).await;
    assert_eq!(ids(&second.items), expected[2..]);
    assert_eq!(second.count, 5);
}

/// Returns Anna, who has no inviter, and Boris, whose inviter is Anna, both with names and addresses.
async fn anna_and_boris(harness: &Harness) -> (CurrentUser, CurrentUser) {
    let anna = harness.enter(1).await;
    harness.advance(Duration::from_millis(1));
    let boris = harness.enter_invited(2, &anna.user).await;
    let (anna, boris) = (harness.current_user(&anna).await, harness.current_user(&boris).await);
    for (current_user, first, last, email) in [
        (&anna, "Анна", "Петрова", "anna@example.com"),
        (&boris, "Boris", "100% O_Neil", "boris@example.org"),
    ] {
        let change = ProfileChange {
            first_name: Some(Name::parse(first).ok()),
            last_name: Some(Name::parse(last).ok()),
            email: Some(Email::parse(email).ok()),
            invited_by_code: None,
        };
        harness.referral.edit_profile(current_user, EditProfile::new(change)).await.expect("edited");
    }
    (anna, boris)
}

async fn found(harness: &Harness, current_user: &CurrentUser, filter: FilterInput<'_>) -> Vec<UserId> {
    let list = page(harness, current_user, ListUsers { filter, ..ListUsers::default() }).await;
    assert_eq!(list.count, list.items.len() as u64, "{filter:?}");
    assert!(list.count_exact);
    ids(&list.items)
}

/// Each filter finds the matching users, alone and together with others.
pub async fn filters_match_exactly(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    let (anna, boris) = anna_and_boris(&harness).await;
    let none = FilterInput::default();
    let code = anna.user.invite_code.as_str().to_lowercase();
    let code = code.as_str();
    for (filter, expected) in [
        (none, vec![boris.user.id, anna.user.id]),
        (FilterInput { phone: Some(phone(1).as_str()), ..none }, vec![anna.user.id]),
        (FilterInput { phone: Some("+79608999999"), ..none }, vec![]),
        (FilterInput { phone: Some("nonsense"), ..none }, vec![]),
        (FilterInput { email: Some("BORIS@example.org"), ..none }, vec![boris.user.id]),
        (FilterInput { email: Some("boris@example"), ..none }, vec![]),
        (FilterInput { first_name: Some("Анна"), ..none }, vec![anna.user.id]),
        (FilterInput { first_name: Some("Анн"), ..none }, vec![]),
        (FilterInput { last_name: Some("100% O_Neil"), ..none }, vec![boris.user.id]),
        (FilterInput { last_name: Some("100% O%"), ..none }, vec![]),
        (FilterInput { invite_code: Some(code), ..none }, vec![anna.user.id]),
        (FilterInput { invited_by_code: Some(code), ..none }, vec![boris.user.id]),
        (FilterInput { invited_by_code: Some("ZZZZZZ"), ..none }, vec![]),
        (FilterInput { invited_by_code: Some(code), first_name: Some("Boris"), ..none }, vec![boris.user.id]),
        (FilterInput { invited_by_code: Some(code), first_name: Some("Анна"), ..none }, vec![]),
    ] {
        assert_eq!(found(&harness, &anna, filter).await, expected, "{filter:?}");
    }
}

async fn search(harness: &Harness, current_user: &CurrentUser, search: &str) -> Vec<UserId> {
    found(harness, current_user, FilterInput { search: Some(search), ..FilterInput::default() }).await
}

/// All terms must match: anywhere if they have at least three characters, otherwise at the start of a value.
pub async fn search_finds_users_that_match_all_terms(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    let (anna, boris) = anna_and_boris(&harness).await;
    let [both, only_anna, only_boris] =
        [vec![boris.user.id, anna.user.id], vec![anna.user.id], vec![boris.user.id]];
    let annas_code = anna.user.invite_code.as_str().to_lowercase();
    for (terms, expected) in [
        ("", &both),
        ("example", &both),
        ("EXAMPLE.com", &only_anna),
        ("етров", &only_anna),
        ("АННА петр", &only_anna),
        ("анна boris", &vec![]),
        ("bo", &only_boris),
        ("or", &vec![]),
        ("608000002", &only_boris),
        ("+7", &both),
        ("79", &both),
        (&annas_code, &both),
        (&annas_code[1..5], &both),
    ] {
        assert_eq!(&search(&harness, &anna, terms).await, expected, "{terms}");
    }
}

/// A search with too many terms or only short terms is rejected. A search with repeated terms is accepted.
pub async fn search_with_too_many_or_only_short_terms_is_rejected(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    let (anna, boris) = anna_and_boris(&harness).await;
    let terms = |search| ListUsers {
        filter: FilterInput { search: Some(search), ..FilterInput::default() },
        ..ListUsers::default()
    };
    for search in ["one two three four five six", "7 8", &"x".repeat(101)] {
        assert_refused(harness.referral.users(&anna, terms(search)).await, Refusal::InvalidSearch);
    }
    assert_eq!(search(&harness, &anna, &"bo ".repeat(30)).await, [boris.user.id]);
    assert_eq!(search(&harness, &anna, "bo o_ne 10 100% example").await, [boris.user.id]);
}

/// A search uses the current names.
pub async fn search_uses_the_current_values(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    let (anna, boris) = anna_and_boris(&harness).await;
    let change = ProfileChange {
        first_name: Some(Name::parse("Bohdan").ok()),
        email: Some(None),
        ..ProfileChange::default()
    };
    harness.referral.edit_profile(&boris, EditProfile::new(change)).await.expect("edited");
    assert_eq!(search(&harness, &anna, "bohdan").await, [boris.user.id]);
    assert_eq!(search(&harness, &anna, "boris").await, []);

    harness.advance(Duration::from_millis(1));
    let vera = harness.enter(3).await;
    let vera = harness.current_user(&vera).await;
    let change =
        ProfileChange { invited_by_code: Some(boris.user.invite_code.clone()), ..ProfileChange::default() };
    harness.referral.edit_profile(&vera, EditProfile::new(change)).await.expect("accepted");
    let by_code = search(&harness, &anna, boris.user.invite_code.as_str()).await;
    assert_eq!(by_code, [vera.user.id, boris.user.id]);
}

/// Wildcards of some databases match only themselves.
pub async fn wildcards_are_ordinary_characters(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    let (anna, boris) = anna_and_boris(&harness).await;
    assert_eq!(search(&harness, &anna, "100% o_n").await, [boris.user.id]);
    for terms in [
        "%%%", "___", "b%s", "bor_s", "***", "???", "[a-z]", "'''", "\\\\\\", "\"\"\"", "OR 1=1", "%", "_",
        "*",
    ] {
        assert_eq!(search(&harness, &anna, terms).await, [], "{terms}");
    }
}

/// Above a thousand matches the count is not exact and is marked so. Without a filter it is exact.
pub async fn filtered_list_is_counted_up_to_a_thousand(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    let current_user = harness.current_user(&harness.enter(0).await).await;
    let thousand = u32::try_from(UserQuery::COUNT_LIMIT).expect("fits into `u32`");
    let count = async |search| {
        let filter = FilterInput { search, ..FilterInput::default() };
        let page = page(&harness, &current_user, ListUsers { filter, ..ListUsers::default() }).await;
        (page.count, page.count_exact)
    };
    for number in 1..thousand {
        harness.referral.make_staff(phone(number), StaffRole::Admin).await.expect("created");
    }
    assert_eq!(count(Some("+79608")).await, (UserQuery::COUNT_LIMIT, true));
    harness.referral.make_staff(phone(thousand), StaffRole::Admin).await.expect("created");
    assert_eq!(count(Some("+79608")).await, (UserQuery::COUNT_LIMIT, false));
    assert_eq!(count(None).await, (UserQuery::COUNT_LIMIT + 1, true));
}

/// Invitees are listed newest first, in pages. An unknown user is an error.
pub async fn invitees_are_paged(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    let anna = harness.enter(0).await;
    let mut expected = Vec::new();
    for number in 1..6 {
        harness.advance(Duration::from_millis(1));
        expected.push(harness.enter_invited(number, &anna.user).await.user.id);
    }
    expected.reverse();
    let current_user = harness.current_user(&anna).await;

    let mut seen = Vec::new();
    let mut next = None;
    loop {
        let page = harness
            .referral
            .invitees(&current_user, ListInvitees::new(anna.user.id).limit(limit(2)).cursor(next.as_deref()))
            .await
            .expect("page of the list");
        assert_eq!(page.count, 5);
        assert!(page.items.len() <= 2);
        seen.extend(page.items.into_iter().map(|invitee| invitee.id));
        next = page.next.map(|link| cursor(Some(link)));
        if next.is_none() {
            break;
        }
    }
    assert_eq!(seen, expected);

    let unknown_user = UserId(uuid::Uuid::nil());
    assert_refused(
        harness.referral.invitees(&current_user, ListInvitees::new(unknown_user).limit(limit(2))).await,
        Refusal::UserNotFound,
    );
    let newest = expected[0];
    let none = harness
        .referral
        .invitees(&current_user, ListInvitees::new(newest).limit(limit(2)))
        .await
        .expect("page of the list");
    assert_eq!((none.items.len(), none.count, none.next), (0, 0, None));
}

/// The requested number of newest invitees, and the total count.
pub async fn profile_shows_the_newest_invitees(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    let anna = harness.enter(0).await;
    let mut expected = Vec::new();
    for number in 1..5 {
        harness.advance(Duration::from_millis(1));
        expected.insert(0, harness.enter_invited(number, &anna.user).await.user.id);
    }
    let found =
        harness.storage.user(anna.user.id, 3).await.expect("the storage responds").expect("existing user");
    let shown: Vec<_> = found.invited.iter().map(|invitee| invitee.id).collect();
    assert_eq!(shown, expected[..3]);
    assert_eq!(found.user.invited_count, 4);
}
