//! What must hold of any input whatever.

use std::sync::{Arc, LazyLock};

use proptest::prelude::*;
use referral_core::{
    CodeInput, Email, InviteCode, Name, Peppers, PhoneNumber, Referral, SendCode, SignIn, SigningKeys,
    sms::DevelopmentSender, storage::MemoryStorage,
};

/// Text with much of what is typed into forms, and some of what is not.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![any::<String>(), "[-+0-9 ().]{0,34}", "[a-zA-Zа-яА-Я0-9 @._-]{0,40}", "\\PC{0,40}"]
}

proptest! {
    #[test]
    fn what_was_read_reads_as_itself(input in text()) {
        if let Ok(phone) = PhoneNumber::parse(&input, None) {
            prop_assert_eq!(PhoneNumber::parse(phone.as_str(), None), Ok(phone.clone()));
            prop_assert_eq!(PhoneNumber::from_stored(phone.as_str().to_owned()), Ok(phone.clone()));
            prop_assert_eq!(phone.masked().len(), phone.as_str().len());
        }
        if let Ok(code) = InviteCode::parse(&input) {
            prop_assert!((6..=12).contains(&code.as_str().len()));
            prop_assert_eq!(InviteCode::parse(code.as_str()), Ok(code));
        }
        if let Ok(name) = Name::parse(&input) {
            prop_assert!((1..=32).contains(&name.as_str().chars().count()));
            prop_assert_eq!(Name::parse(name.as_str()), Ok(name));
        }
        if let Ok(email) = Email::parse(&input) {
            prop_assert!(email.as_str().len() <= 254);
            prop_assert_eq!(Email::parse(email.as_str()), Ok(email));
        }
        let _ = CodeInput::parse(&input);
    }

    #[test]
    fn a_token_that_is_changed_anywhere_is_none(place in any::<prop::sample::Index>(), other in "[A-Za-z0-9_.-]") {
        let (referral, token) = &*SIGNED;
        let place = place.index(token.len());
        let changed = format!("{}{other}{}", &token[..place], &token[place + 1..]);
        prop_assert_eq!(referral.verify_without_storage(&changed).is_ok(), changed == *token);
    }
}

/// A service, and an access token that it signed.
static SIGNED: LazyLock<(Referral, String)> = LazyLock::new(|| {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(async {
        let keys = SigningKeys::from_secret("k1", &[1; 32]).expect("long enough");
        let peppers = Peppers::from_secret("p1", &[2; 32]).expect("long enough");
        let storage = Arc::new(MemoryStorage::new());
        let referral = Referral::builder(storage, Arc::new(DevelopmentSender), keys, peppers);
        let referral = referral.build().expect("a sound policy and a sound key");
        let phone = PhoneNumber::parse("+79608543017", None).expect("a phone");
        let sent = referral.send_code(SendCode::new(phone.clone())).await.expect("sent");
        let code = CodeInput::parse(sent.revealed_code.expect("revealed").reveal()).expect("digits");
        let signed_in = referral.sign_in(SignIn::new(phone, code)).await.expect("signed in");
        (referral, signed_in.tokens.access)
    })
});
