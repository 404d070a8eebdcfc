//! Property tests for arbitrary input.

#[path = "common/service.rs"]
mod service;
#[path = "common/sign_in.rs"]
mod sign_in;

use std::sync::{
    Arc, LazyLock,
    atomic::{AtomicUsize, Ordering},
};

use proptest::prelude::*;
use referral_core::{
    CodeInput, EditProfile, Email, Error, InviteCode, Name, PhoneNumber, ProfileChange, ReferralService,
    Refusal, sms::DevelopmentSender, storage::MemoryStorage,
};

use crate::sign_in::enter;

/// Number of times that the interesting branch of a property ran.
struct Count(AtomicUsize);

impl Count {
    const fn new() -> Self {
        Self(AtomicUsize::new(0))
    }

    fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// Asserts that the branch ran at least once. A property that only skips its input would always hold.
    #[track_caller]
    fn assert_not_zero(&self, branch: &str) {
        assert_ne!(self.0.load(Ordering::Relaxed), 0, "no input had {branch}");
    }
}

/// Generates text that is typical for forms, and arbitrary text.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-zA-Z0-9.+_-]{1,8}[@＠][a-zß-üа-яا-ي０-９-]{1,6}[.。](com|рф|xn--p1ai|[a-z0-9]{2})",
        any::<String>(),
        "[-+0-9 ().]{0,34}",
        "\\+79[0-9]{9}",
        "[A-Z2-9]{6}",
        "[a-z]{1,8}@[a-z]{2,8}[.]com",
        "[a-zA-Zа-яА-Я0-9 @._-]{0,40}",
        "\\PC{0,40}"
    ]
}

static PHONES: Count = Count::new();
static INVITE_CODES: Count = Count::new();
static NAMES: Count = Count::new();
static EMAILS: Count = Count::new();

#[test]
fn parsed_values_are_parsed_to_themselves() {
    parse_twice();
    PHONES.assert_not_zero("a valid phone");
    INVITE_CODES.assert_not_zero("a valid invite code");
    NAMES.assert_not_zero("a valid name");
    EMAILS.assert_not_zero("a valid email address");
}

static MODIFIED: Count = Count::new();

#[test]
fn modified_token_is_rejected() {
    modify_token();
    MODIFIED.assert_not_zero("a modified token");
}

proptest! {
    fn parse_twice(input in text()) {
        if let Ok(phone) = PhoneNumber::parse(&input, None) {
            PHONES.add();
            prop_assert_eq!(PhoneNumber::parse(phone.as_str(), None), Ok(phone.clone()));
            prop_assert_eq!(PhoneNumber::from_stored(phone.as_str().to_owned()), Ok(phone.clone()));
            prop_assert!(phone.masked().contains("*****"));
        }
        if let Ok(code) = InviteCode::parse(&input) {
            INVITE_CODES.add();
            prop_assert!((6..=12).contains(&code.as_str().len()));
            prop_assert_eq!(InviteCode::parse(code.as_str()), Ok(code));
        }
        if let Ok(name) = Name::parse(&input) {
            NAMES.add();
            prop_assert!((1..=Name::MAX_BYTES).contains(&name.as_str().len()));
            prop_assert_eq!(Name::from_stored(name.as_str()), Ok(name.clone()));
            prop_assert_eq!(Name::parse(name.as_str()), Ok(name));
        }
        if let Ok(email) = Email::parse(&input) {
            EMAILS.add();
            prop_assert!(email.as_str().len() <= 254 && email.as_str().is_ascii());
            prop_assert_eq!(Email::from_stored(email.as_str()), Ok(email.clone()));
            prop_assert_eq!(Email::parse(&email.to_unicode()), Ok(email.clone()));
            prop_assert_eq!(Email::parse(email.as_str()), Ok(email));
        }
        let _ = CodeInput::parse(&input);
    }

    fn modify_token(place in any::<prop::sample::Index>(), other in "[A-Za-z0-9_.-]") {
        let (referral, token) = &*SIGNED;
        let place = place.index(token.len());
        let changed = format!("{}{other}{}", &token[..place], &token[place + 1..]);
        let verified = referral.verify_without_storage(&changed);
        if changed == *token {
            prop_assert!(verified.is_ok(), "{:?}", verified);
        } else {
            MODIFIED.add();
            prop_assert_eq!(verified.map(drop), Err(Refusal::TokenNotValid));
        }
    }
}

/// Number of users that try to invite each other.
const USERS: usize = 8;

static ACCEPTED: Count = Count::new();
static LOOPS: Count = Count::new();
static FURTHER_INVITERS: Count = Count::new();

#[test]
fn acceptances_in_any_order_close_no_loop_and_change_no_inviter() {
    accept_in_any_order();
    ACCEPTED.assert_not_zero("an accepted invitation");
    LOOPS.assert_not_zero("an invitation that would close a loop");
    FURTHER_INVITERS.assert_not_zero("a second inviter of a user");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    fn accept_in_any_order(pairs in prop::collection::vec((0..USERS, 0..USERS), 0..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("the runtime starts");
        let inviters = runtime.block_on(accept_all(&pairs));
        for user in 0..USERS {
            let mut next = Some(user);
            for _ in 0..USERS {
                next = next.and_then(|user| inviters[user]);
            }
            prop_assert_eq!(next, None, "user {} is among their own inviters", user);
        }
    }
}

/// Lets each invitee of `pairs` accept the inviter sequentially. Returns the final inviter of each user.
async fn accept_all(pairs: &[(usize, usize)]) -> Vec<Option<usize>> {
    let referral = referral();
    let mut current_users = Vec::new();
    for number in (0..).take(USERS) {
        let access = enter(&referral, number, None).await.tokens.access;
        current_users.push(referral.authenticate(&access).await.expect("valid token"));
    }
    let mut inviters = vec![None; USERS];
    for (invitee, inviter) in pairs {
        let code = current_users[*inviter].user.invite_code.clone();
        let change = ProfileChange { invited_by_code: Some(code), ..ProfileChange::default() };
        match referral.edit_profile(&current_users[*invitee], EditProfile::new(change)).await {
            Ok(_) => {
                ACCEPTED.add();
                let named = inviters[*invitee].replace(*inviter);
                assert!(named.is_none_or(|named| named == *inviter), "an inviter cannot be changed");
            }
            Err(Error::Refused(Refusal::InvitationLoop)) => LOOPS.add(),
            Err(Error::Refused(Refusal::InvitationAlreadyAccepted)) => FURTHER_INVITERS.add(),
            Err(Error::Refused(Refusal::OwnInviteCode)) => assert_eq!(invitee, inviter),
            Err(error) => panic!("{error}"),
        }
    }
    inviters
}

fn referral() -> ReferralService {
    let builder = service::builder(Arc::new(MemoryStorage::new()), DevelopmentSender);
    builder.build().expect("valid policy and keys")
}

/// A service and an access token that it signed.
static SIGNED: LazyLock<(ReferralService, String)> = LazyLock::new(|| {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("the runtime starts");
    let referral = referral();
    let access = runtime.block_on(enter(&referral, 1, None)).tokens.access;
    (referral, access)
});
