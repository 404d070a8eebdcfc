//! Deletion of a user whose data a test then searches in the database.

use std::net::{IpAddr, Ipv4Addr};

use referral_core::{
    Client, DeleteAccount, EditProfile, Email, Name, ProfileChange, ReferralService, SendCode,
    SendDeletionCode, SignIn, UserChange, UserId, audit::Reason,
};

use crate::sign_in::{enter, phone, with_right_code, wrong_code};

/// Personal data of the deleted user, except the phone. No other row has it.
pub(crate) const PERSONAL_DATA: [&str; 4] = ["Ludmilla", "Ozerova", "ludmilla@example.com", "Pocket Browser"];

/// Phone of the deleted user. Only counters have it, until their limits no longer need it.
pub(crate) const PHONE: &str = "+79608000002";

/// Signs up a user with an inviter, an invitee, a profile and two sessions, and deletes the account with a
/// code. Unused codes and wrong attempts precede the deletion. Returns the id of the user.
pub(crate) async fn delete_a_user(referral: &ReferralService) -> UserId {
    let client =
        || Client::default().address(IpAddr::V4(Ipv4Addr::LOCALHOST)).user_agent("Pocket Browser".to_owned());
    let anna = enter(referral, 1, None).await.user;
    assert_eq!(phone(2).as_str(), PHONE);
    let sent = referral.send_code(SendCode::new(phone(2)).client(client())).await.expect("sent");
    let wrong = SignIn::new(phone(2), wrong_code(&sent)).challenge(sent.challenge).client(client());
    referral.sign_in(wrong).await.expect_err("wrong");
    let request = with_right_code(&sent).invited_by(Some(anna.invite_code)).client(client());
    let signed_in = referral.sign_in(request).await.expect("signed in");
    enter(referral, 3, Some(&signed_in.user.invite_code)).await;
    enter(referral, 2, None).await;
    let current_user = referral.authenticate(&signed_in.tokens.access).await.expect("a user");
    // The profile changes several times, so that the database has old versions of the row.
    for (first_name, email) in
        [("Ludmilla", "ludmilla@example.com"), ("Anastasia", "a@example.com")].repeat(2)
    {
        let change = ProfileChange {
            first_name: Some(Name::parse(first_name).ok()),
            last_name: Some(Name::parse("Ozerova").ok()),
            email: Some(Email::parse(email).ok()),
            invited_by_code: None,
        };
        referral.edit_profile(&current_user, EditProfile::new(change)).await.expect("edited");
    }
    let change = ProfileChange {
        first_name: Some(Name::parse("Ludmilla").ok()),
        email: Some(Email::parse("ludmilla@example.com").ok()),
        ..ProfileChange::default()
    };
    referral.edit_profile(&current_user, EditProfile::new(change)).await.expect("edited");
    // The audit log has the values of the profile, the phone, and a reason with personal data.
    let (host, user) = (referral.host_administration(), current_user.user.id);
    for last_name in ["Ozerova", "Ivanova", "Ozerova"] {
        let change = UserChange { last_name: Some(Name::parse(last_name).ok()), ..UserChange::default() };
        let reason = Reason::parse("Ludmilla called from +79608000002").expect("valid");
        host.change_user(user, change, reason.clone()).await.expect("changed");
        host.unlock_phone(phone(2), reason).await.expect("unlocked");
    }
    referral.send_code(SendCode::new(phone(2)).client(client())).await.expect("sent");
    let send = SendDeletionCode::new().client(client());
    let sent = referral.send_deletion_code(&current_user, send).await.expect("sent");
    let wrong = DeleteAccount::new(sent.challenge, wrong_code(&sent)).client(client());
    referral.delete_account(&current_user, wrong).await.expect_err("wrong");
    let SignIn { code, .. } = with_right_code(&sent);
    let right = DeleteAccount::new(sent.challenge, code).client(client());
    referral.delete_account(&current_user, right).await.expect("deleted");
    current_user.user.id
}

/// Asserts that no table has personal data, and that only counters have the phone. `tables` are the names of
/// the tables with all their values.
pub(crate) fn assert_erased(tables: &[(String, String)]) {
    assert!(tables.iter().any(|(name, _)| name.ends_with("users")), "{tables:?}");
    for (table, values) in tables {
        let values = values.to_lowercase();
        for data in PERSONAL_DATA {
            let hex = data.bytes().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat();
            assert!(!values.contains(&data.to_lowercase()) && !values.contains(&hex), "{table}: {values}");
        }
        let digits = &PHONE[1..];
        let is_counter = table.ends_with("counters");
        assert!(is_counter || !values.contains(digits), "{table}: {values}");
    }
}
