//! Cases about lists from which users are deleted.

use std::{sync::Arc, time::Duration};

use super::harness::{Harness, assert_refused};
use crate::{
    error::refusal::Refusal,
    service::users::{ListInvitees, ListUsers, Page, PageLink},
    storage::Storage,
    user::{
        User,
        listing::{FilterInput, PageSize},
    },
};

/// A page of invitees has no deleted users, and their number includes them.
pub async fn deleted_invitees_are_counted_and_not_listed(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    let anna = harness.enter(0).await;
    let mut invitees = Vec::new();
    for number in 1..=8 {
        harness.advance(Duration::from_millis(1));
        invitees.push(harness.enter_invited(number, &anna.user).await.user.id);
    }
    // The newest, two adjacent ones, and the oldest.
    for deleted in [0, 3, 4, 7] {
        harness.referral.delete_user(invitees[deleted]).await.expect("deleted");
    }
    let expected: Vec<_> = [6, 5, 2, 1].map(|kept| invitees[kept]).into();

    let profile = harness.profile(&anna).await;
    let shown: Vec<_> = profile.invited.iter().map(|invitee| invitee.id).collect();
    assert_eq!((shown, profile.invited_count), (expected.clone(), 8));
    let current_user = harness.current_user(&anna).await;
    for limit in [1, 2, 3, 4, 100] {
        let (mut listed, mut cursor) = (Vec::new(), None);
        loop {
            let limit = PageSize::new(limit).expect("valid page size");
            let list = ListInvitees::new(anna.user.id).limit(limit).cursor(cursor.as_deref());
            let page = harness.referral.invitees(&current_user, list).await.expect("page of invitees");
            assert_eq!(page.count, 8);
            listed.extend(page.items.iter().map(|invitee| invitee.id));
            match page.next {
                Some(PageLink::Cursor(next)) => cursor = Some(next),
                _ => break,
            }
        }
        assert_eq!(listed, expected, "pages of {limit}");
    }
    let list = ListInvitees::new(invitees[0]);
    assert_refused(harness.referral.invitees(&current_user, list).await, Refusal::UserNotFound);
}

/// Offsets and numbers of a list do not count deleted users.
pub async fn deleted_users_shift_no_offset(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    let first = harness.enter(0).await;
    let mut ids = vec![first.user.id];
    for number in 1..10 {
        harness.advance(Duration::from_millis(1));
        ids.push(harness.enter(number).await.user.id);
    }
    let mut kept = Vec::new();
    for (index, id) in ids.into_iter().enumerate() {
        if [1, 4, 5, 9].contains(&index) {
            harness.referral.delete_user(id).await.expect("deleted");
        } else {
            kept.insert(0, id);
        }
    }
    let current_user = harness.current_user(&first).await;
    let limit = PageSize::new(2).expect("valid page size");
    for offset in 0..8 {
        let list = ListUsers { limit, offset: Some(offset), ..ListUsers::default() };
        let page = harness.referral.users(&current_user, list).await.expect("page of the list");
        let ids: Vec<_> = page.items.iter().map(|user| user.id).collect();
        let skipped = usize::try_from(offset).expect("small");
        assert_eq!(ids, kept.iter().skip(skipped).take(2).copied().collect::<Vec<_>>(), "{offset}");
        assert_eq!((page.count, page.next.is_some()), (6, skipped + 2 < 6), "{offset}");
    }
    let all: Vec<_> = harness.all_users(&current_user).await.iter().map(|user| user.id).collect();
    assert_eq!(all, kept);
}

/// Returns a page of two users.
async fn page(harness: &Harness, search: Option<&str>, cursor: Option<&str>) -> Page<User> {
    let filter = FilterInput { search, ..FilterInput::default() };
    let limit = PageSize::new(2).expect("valid");
    let list = ListUsers { limit, cursor, filter, ..ListUsers::default() };
    harness.referral.find_users(list).await.expect("page of the list")
}

/// The user at the end of a page is deleted before the next page is requested. No other user is skipped.
pub async fn page_continues_after_a_deleted_user(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    let mut users = Vec::new();
    for number in 1..=6 {
        users.push(harness.enter(number).await.user.id);
        harness.advance(Duration::from_secs(1));
    }
    let ids = |page: &[User]| page.iter().map(|user| user.id).collect::<Vec<_>>();
    let Some(PageLink::Cursor(next)) = page(&harness, Some("+7960"), None).await.next else {
        panic!("a next page")
    };
    harness.referral.delete_user(users[4]).await.expect("deleted");
    for search in [Some("+7960"), None] {
        let continued = page(&harness, search, Some(&next)).await;
        assert_eq!(ids(&continued.items), [users[3], users[2]], "{search:?}");
        let Some(PageLink::Cursor(previous)) = continued.previous else { panic!("a previous page") };
        assert_eq!(ids(&page(&harness, search, Some(&previous)).await.items), [users[5]], "{search:?}");
    }
    let Some(PageLink::Cursor(previous)) = page(&harness, Some("+7960"), Some(&next)).await.previous else {
        panic!("a previous page")
    };
    harness.referral.delete_user(users[3]).await.expect("deleted");
    for search in [Some("+7960"), None] {
        assert_eq!(ids(&page(&harness, search, Some(&previous)).await.items), [users[5]], "{search:?}");
    }
}
