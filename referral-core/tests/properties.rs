//! What must hold of any input whatever.

use proptest::prelude::*;
use referral_core::{CodeInput, Email, InviteCode, Name, Peppers, PhoneNumber, Referral, SigningKeys};
use referral_core::{sms::DevelopmentSender, storage::MemoryStorage};

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
    fn no_text_passes_for_a_token(input in "\\PC{0,60}|[A-Za-z0-9_=-]{0,60}(\\.[A-Za-z0-9_=-]{0,60}){0,4}") {
        let keys = SigningKeys::from_secret("k1", &[1; 32]).expect("long enough");
        let peppers = Peppers::from_secret("p1", &[2; 32]).expect("long enough");
        let storage = std::sync::Arc::new(MemoryStorage::new());
        let referral = Referral::builder(storage, std::sync::Arc::new(DevelopmentSender), keys, peppers);
        let referral = referral.build().expect("a sound policy and a sound key");
        prop_assert!(referral.verify_without_storage(&input).is_err());
    }
}
